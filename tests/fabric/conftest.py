"""Places for the tests of the fabric, and the proof that each test leaves nothing behind (as in tests/kernel)."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from iovisor.compiler.backend import BACKEND
from iovisor.targets.bpf_loaded import machine_map
from tests.fabric.hosts import Place
from tests.leaks import nothing_left


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor, or a program, map or link in the kernel."""
    machine_map()                               # these two are made once a process, and stay
    BACKEND.start()
    with nothing_left():
        yield


@pytest.fixture
def place() -> Iterator[Callable[[int], Place]]:
    """Makes places with so many hosts."""
    with ExitStack() as undo:
        yield lambda hosts: undo.enter_context(Place(hosts))
