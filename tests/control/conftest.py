"""A platform in a directory, with namespaces as hosts, and the proof that each test leaves nothing behind."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.control.access import Principal
from iovisor.control.hosted import clear
from iovisor.control.platform import Platform
from iovisor.model import Tenant
from tests.fabric.conftest import leaks, place
from tests.fabric.hosts import Place

__all__ = ["leaks", "place"]
ADMIN = Principal("tester", "admin")
Platforms = Callable[[Place], Platform]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Compiled once for all tests."""
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture
def platform(tmp_path: Path, images: Cache, place: object) -> Iterator[Platforms]:
    """Starts the platform of a place; again, after `stop`, with what it left.  All is cleared away at the end."""
    with ExitStack() as undo:
        def begin(at: Place) -> Platform:
            made = Platform(tmp_path / "state", at.switching, images)
            undo.callback(end, made)
            made.start()
            return made
        yield begin
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("network ", "mend"))]


def end(platform: Platform) -> None:
    platform.stop()
    for folder in (platform.state / "networks").glob("*/*"):
        clear(folder, platform.namespace)


def apply(platform: Platform, text: str, sources: dict[str, str] | None = None, who: Principal = ADMIN,
          confirm: float = 0.0) -> list[int]:
    """Apply a text; answers the revisions of its networks."""
    done = []
    for document, kinds in platform.read(who, text, "test.yaml", sources or {}):
        if isinstance(document.content, Tenant):
            platform.put_tenant(who, document.content)
            continue
        done.append(platform.apply(who, platform.intent(document, kinds), confirm=confirm).after)
    return done
