"""Rooms for the tests of the kernel layer, and the proof that each test leaves nothing behind.

Every test here gets its namespaces from a fixture, with names nobody else has, and the `leaks` fixture,
which runs around all of them, compares what exists before and after: descriptors of this process, programs,
maps and links in the kernel, and names under /run/netns. Others use the machine at the same time: a new
object counts as left behind only if it stays, and no other process holds it.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from iovisor.kernel import KernelError, Map, MapKind, Netlink, NetworkNamespace, Program, addresses, interfaces
from iovisor.kernel.descriptor import open_pinned
from iovisor.kernel.syscall import Command, identifiers
from tests.waiting import until

PREFIX = f"kt{os.getpid()}-"
_numbers = itertools.count()


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue
    return found


def own_names() -> list[str]:
    """Our named namespaces."""
    return [name for name in NetworkNamespace.names() if name.startswith(PREFIX)]


def objects() -> set[tuple[str, int]]:
    """Every program, map and link in the kernel, as (kind, identifier)."""
    kinds = {
        "prog": Command.PROG_GET_NEXT_ID,
        "map": Command.MAP_GET_NEXT_ID,
        "link": Command.LINK_GET_NEXT_ID,
    }
    return {(kind, number) for kind, command in kinds.items() for number in identifiers(command)}


def held_by_others() -> set[tuple[str, int]]:
    """The programs, maps and links some other process has open or keeps alive by what it has open, and all pins."""
    held = pinned()
    for description in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with contextlib.suppress(OSError):
            if description.parts[2] != str(os.getpid()):
                held |= {(k, int(i)) for k, i in _OBJECT.findall(description.read_text(errors="replace"))}
    return reached_from(held)


def pinned() -> set[tuple[str, int]]:
    """What has a name in a bpf file system: a process need not have open what it pinned."""
    found = set()
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if " bpf " in line]
    for path in (path for mount in mounts for path in Path(mount).rglob("*")):
        with contextlib.suppress(KernelError, OSError):
            if path.is_file() and not path.name.endswith(".debug"):
                fd = open_pinned(path, "look")
                try:
                    description = Path(f"/proc/self/fdinfo/{fd}").read_text()
                finally:
                    os.close(fd)
                found |= {(kind, int(number)) for kind, number in _OBJECT.findall(description)}
    return found


def reached_from(held: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """What these keep alive without a descriptor: maps of programs, programs and maps in maps."""
    found, rest = set(held), list(held)
    while rest:
        kind, number = rest.pop()
        below: set[tuple[str, int]] = set()
        with contextlib.suppress(KernelError, OSError):
            if kind == "prog":
                with Program.from_id(number) as program:
                    below = {("map", i) for i in program.map_ids()}
            elif kind == "map":
                with Map.from_id(number) as table:
                    holds = HOLDS.get(table.spec.kind)
                    if holds is not None:
                        below = {(holds, int.from_bytes(value, "little")) for _, value in table.items()}
        rest += below - found
        found |= below
    return found


HOLDS = {MapKind.PROGRAM_ARRAY: "prog", MapKind.HASH_OF_MAPS: "map", MapKind.ARRAY_OF_MAPS: "map"}


_OBJECT = re.compile(r"^(prog|map|link)_id:\s+(\d+)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a program, map or link, or a namespace."""
    before, known = open_descriptors(), objects()
    yield
    gc.collect()
    kinds = ("bpf", "net:[", "/dev/net/tun", "socket:", "btf")
    left = [
        target
        for number, target in open_descriptors().items()
        if before.get(number) != target and any(kind in target for kind in kinds)
    ]
    assert not left, f"descriptors left open: {left}"
    assert not own_names(), "namespaces left"
    suspects = objects() - known

    def cleared() -> bool:      # only what is there every time is left: others come and go meanwhile
        suspects.intersection_update(objects())
        suspects.difference_update(held_by_others() if suspects else ())
        return not suspects
    assert until(cleared), f"left in the kernel: {sorted(suspects)}"


@pytest.fixture
def unique() -> str:
    """A name for a namespace that nobody else has."""
    return f"{PREFIX}{next(_numbers)}"


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    """An empty anonymous namespace."""
    with NetworkNamespace.create() as created:
        yield created


@pytest.fixture
def netlink(namespace: NetworkNamespace) -> Iterator[Netlink]:
    """A socket in `namespace`."""
    with Netlink(namespace) as opened:
        yield opened


@pytest.fixture
def tenant() -> Iterator[NetworkNamespace]:
    """Another empty namespace, for the far end of a wire."""
    with NetworkNamespace.create() as created:
        yield created


LOCAL, REMOTE = 1000, 1001


@pytest.fixture
def wire(namespace: NetworkNamespace, netlink: Netlink, tenant: NetworkNamespace) -> Iterator[Netlink]:
    """A veth pair p0 (index 1000, 10.9.0.1) in `namespace` to eth0 (1001, 10.9.0.2) in `tenant`, up. Yields
    the tenant's socket."""
    netlink.submit(
        interfaces.veth("p0", "eth0", index=LOCAL, peer_index=REMOTE, peer_namespace=tenant, up=True),
        addresses.add(LOCAL, "10.9.0.1/24"),
        addresses.add(LOCAL, "fd09::1/64"),
    )
    with Netlink(tenant) as far:
        far.submit(
            interfaces.change(REMOTE, up=True),
            interfaces.change("lo", up=True),
            addresses.add(REMOTE, "10.9.0.2/24"),
            addresses.add(REMOTE, "fd09::2/64"),
        )
        yield far
