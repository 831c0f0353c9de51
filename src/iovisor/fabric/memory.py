"""What a network takes of the kernel's memory: what its maps and programs are charged for.

They are found as a packet finds them: from what stands behind doors, ports, wires and hooks to the maps that these
programs use, so nothing that runs is left out.  What all networks of a process share (the clock, `@machine`) is not
counted; devices, links and the descriptors' own are not either, of which the kernel tells no figure.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from ..kernel import KernelError, Map, MapKind, Program
from ..kernel.programs import memory_of
from ..targets.bpf_loaded import machine_map
from .instance import Instance


def used(instances: Iterable[Instance], arrays: Iterable[Map], behind: Iterable[int], maps: Iterable[Map]) -> int:
    """Bytes; `arrays` hold programs beside those of the instances, `behind` are identifiers of programs at hooks."""
    seen, numbers, found = set(behind), set[int](), 0
    every = [*maps, *arrays]
    for instance in instances:
        every += [instance.members, instance.counters.array]
        every += [one for loaded in instance.both for one in loaded.maps.values()]
    numbers |= {one.id for one in every}
    for one in every:
        if one.spec.kind == MapKind.PROGRAM_ARRAY:
            seen |= set(_identifiers(one))
        elif one.spec.kind == MapKind.HASH_OF_MAPS:
            numbers |= set(_identifiers(one))
    for number in seen:
        with suppress(KernelError), Program.from_id(number) as program:     # one that is on its way out may be gone
            numbers |= set(program.map_ids())
            found += program.memory()
    for number in numbers - {machine_map().id}:
        with suppress(KernelError), Map.from_id(number) as one:
            found += memory_of(one.fd)
    return found


def _identifiers(one: Map) -> Iterator[int]:
    return (int.from_bytes(value, "little") for _, value in one.items())


__all__ = ["used"]
