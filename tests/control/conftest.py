"""A platform in a directory, with namespaces as hosts, and the proof that each test leaves nothing behind.

What is asked is what these tests can know: descriptors, threads, mounts.  Whether every object of the kernel goes with
them is asked in tests/fabric, of networks that nothing else runs beside.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iovisor.compiler.backend import BACKEND
from iovisor.compiler.cache import Cache
from iovisor.control.access import Principal
from iovisor.control.hosted import clear
from iovisor.control.platform import Platform
from iovisor.model import Tenant
from iovisor.targets.bpf_loaded import machine_map
from tests.fabric.conftest import place
from tests.fabric.hosts import Place
from tests.leaks import nothing_left

__all__ = ["place"]
ADMIN = Principal("tester", "admin")
Platforms = Callable[[Place], Platform]


@pytest.fixture(autouse=True)
def leaks(tmp_path: Path) -> Iterator[None]:
    """Fail a test that leaves a descriptor, an object of its own in the kernel, or a mount."""
    machine_map()                               # these two are made once a process, and stay
    BACKEND.start()
    with nothing_left():
        yield
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


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
