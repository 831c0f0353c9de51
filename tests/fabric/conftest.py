"""Places for the tests of the fabric, and the proof that each test leaves nothing behind (as in tests/kernel)."""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from iovisor.compiler.backend import BACKEND
from iovisor.targets.bpf_loaded import machine_map
from tests.fabric.hosts import Place
from tests.kernel.conftest import held_by_others, objects, open_descriptors, wait_until


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor, or a program, map or link in the kernel."""
    machine_map()                               # these two are made once a process, and stay
    BACKEND.start()
    before, known = open_descriptors(), objects()
    yield
    gc.collect()
    left = [target for number, target in open_descriptors().items()
            if before.get(number) != target and any(kind in target for kind in ("bpf", "net:[", "socket:", "btf"))]
    assert not left, f"descriptors left open: {left}"
    if objects() - known and not wait_until(lambda: not objects() - known, 0.5):
        assert wait_until(lambda: not objects() - known - held_by_others(), 5), "objects left in the kernel"


@pytest.fixture
def place() -> Iterator[Callable[[int], Place]]:
    """Makes places with so many hosts."""
    with ExitStack() as undo:
        yield lambda hosts: undo.enter_context(Place(hosts))
