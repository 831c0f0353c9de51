"""Every test of the suite runs with every implementation."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iovisor.store import Store
from tests.store.stores import STORES, Clock


@pytest.fixture(params=list(STORES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reopen(kind: str, tmp_path: Path, clock: Clock) -> Callable[[], Store]:
    """Opens the store of this test, again if one likes."""
    return lambda: STORES[kind](tmp_path, clock)


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Iterator[Store]:
    opened = reopen()
    yield opened
    opened.close()
