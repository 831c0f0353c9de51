"""Places for the tests of the fabric, and the proof that each test leaves nothing behind (as in tests/kernel)."""
from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from iovisor.compiler.backend import BACKEND
from iovisor.kernel import KernelError, Map, MapKind, Program
from iovisor.targets.bpf_loaded import machine_map
from tests.fabric.hosts import Place
from tests.kernel.conftest import held_by_others, objects, open_descriptors
from tests.waiting import until


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
    remaining = objects() - known
    if remaining and not until(lambda: not remaining & objects(), 0.5):
        # What others have pinned is held by nobody while they are dead: it goes when their test ends.
        assert until(lambda: not hanging(remaining & objects() - of_others()), 90), "objects left in the kernel"


def hanging(found: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Without empty program arrays.

    The kernel empties one when its last descriptor is closed, later and holding a reference meanwhile; if that happens
    a second time before it has (somebody else looked at every map there is, and closed it), it keeps one for ever.
    That nobody here has one open is checked above.
    """
    rest = set(found)
    for kind, number in found:
        with contextlib.suppress(KernelError):
            if kind == "map":
                with Map.from_id(number) as opened:
                    if opened.spec.kind is MapKind.PROGRAM_ARRAY and not list(opened.items()):
                        rest.discard((kind, number))
    return rest


def of_others() -> set[tuple[str, int]]:
    """What other processes hold: what they have open, the programs in their arrays, and the maps of those."""
    found = held_by_others()
    waiting = list(found)
    while waiting:
        kind, number = waiting.pop()
        more: set[tuple[str, int]] = set()
        with contextlib.suppress(KernelError):
            if kind == "map":
                with Map.from_id(number) as opened:
                    if opened.spec.kind is MapKind.PROGRAM_ARRAY:
                        more = {("prog", int.from_bytes(value, "little")) for _, value in opened.items()}
            elif kind == "prog":
                with Program.from_id(number) as program:
                    more = {("map", used) for used in program.map_ids()}
        waiting += more - found
        found |= more
    return found


@pytest.fixture
def place() -> Iterator[Callable[[int], Place]]:
    """Makes places with so many hosts."""
    with ExitStack() as undo:
        yield lambda hosts: undo.enter_context(Place(hosts))
