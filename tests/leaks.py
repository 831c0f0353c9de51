"""The proof that a test leaves nothing in the kernel: what it made is watched from its making.

Every program, map and link that this process creates is noted with its identifier; after the test, each must be gone.
Comparing all that the kernel has before and after was rejected: others make and lose objects at the same time, and to
look whose they are one must open them.  Opening a program array that is just being taken down makes the kernel lose it
for ever (each time its last descriptor is closed it takes a reference for work it may have queued already; seen on
6.18), so the looking itself left something behind.
"""
from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from iovisor.kernel import programs, syscall
from iovisor.kernel.descriptor import identifier_of
from iovisor.kernel.errors import BpfError
from iovisor.kernel.syscall import Command
from tests.waiting import until

MADE = {Command.MAP_CREATE: "map", Command.PROG_LOAD: "program", Command.LINK_CREATE: "link"}
LISTED = {"program": Command.PROG_GET_NEXT_ID, "map": Command.MAP_GET_NEXT_ID, "link": Command.LINK_GET_NEXT_ID}
KINDS = ("bpf", "net:[", "/dev/net/tun", "socket:", "btf")


def objects() -> set[tuple[str, int]]:
    """Every program, map and link in the kernel, as (kind, identifier)."""
    return {(kind, number) for kind, command in LISTED.items() for number in syscall.identifiers(command)}


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if what is done inside leaves a descriptor open, or an object of its own in the kernel."""
    made: set[tuple[str, int]] = set()
    before, attempt = open_descriptors(), syscall.attempt

    def noting(command: Command, attributes: ctypes.Structure) -> int:
        result = attempt(command, attributes)
        if result >= 0 and command in MADE:
            try:
                made.add((MADE[command], identifier_of(result)))
            except BpfError:        # a test that makes calls fail
                pass
        return result
    places = syscall, programs                  # the second has a name of its own for it
    for module in places:
        module.attempt = noting                 # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in places:
            module.attempt = attempt            # type: ignore[attr-defined]
    gc.collect()
    left = [target for number, target in open_descriptors().items()
            if before.get(number) != target and any(kind in target for kind in KINDS)]
    assert not left, f"descriptors left open: {left}"
    assert until(lambda: not made & objects()), f"left in the kernel: {sorted(made & objects())}"
