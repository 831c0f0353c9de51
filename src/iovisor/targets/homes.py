"""Tables in the kernel: the `Home` a function's tables have once it is loaded.

`self.stations[key] = value` is the same statement in a test, in a slow-path handler and in the data path; here it
becomes bpf(2).  What `lookup` answers is a copy, so `live` is false and a table stores a view again when a field is
assigned: last writer wins, as between two CPUs.  So a function counts at an index of a counter in its data path or in
Python, never in both.

Hashes are not preallocated: a table costs what it holds.  LRUs must be, and evict early when they are full, so they are
made a quarter larger than declared.
"""
from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterator

from ..kernel import BpfError, Map, MapFlag, MapKind, MapSpec
from ..language.errors import Reject
from ..language.tables import ANY, TableSpec
from ..language.verdicts import Dropped

KINDS = {("hash", False): MapKind.HASH, ("hash", True): MapKind.PER_CPU_HASH, ("lru", False): MapKind.LRU_HASH,
         ("lru", True): MapKind.LRU_PER_CPU_HASH, ("array", False): MapKind.ARRAY, ("array", True):
         MapKind.PER_CPU_ARRAY, ("lpm", False): MapKind.LPM_TRIE, ("counter", True): MapKind.PER_CPU_ARRAY}
REFUSED = (errno.E2BIG, errno.EEXIST, errno.ENOENT, errno.ENOSPC)


def map_spec(spec: TableSpec) -> MapSpec:
    """The kernel map a table becomes."""
    assert isinstance(spec.size, int)
    name = re.sub(r"\W", "_", spec.name)[:15]
    if spec.inner is not None:
        return MapSpec(name, MapKind.HASH_OF_MAPS, spec.key_size, 4, spec.size, 0, map_spec(spec.inner))
    flags = MapFlag.NO_PREALLOC if spec.kind in ("hash", "lpm") else 0
    size = spec.size + spec.size // 4 + 8 if spec.kind == "lru" else spec.size
    return MapSpec(name, KINDS[spec.kind, spec.per_cpu], spec.key_size, spec.stored_size, size, flags)


class KernelHome:
    """A table in a kernel map, which it owns."""

    live = False

    def __init__(self, spec: TableSpec, found: Map | None = None) -> None:
        self.spec = spec
        self.map = found or Map.create(map_spec(spec))

    def lookup(self, key: bytes) -> bytearray | None:
        if self.spec.per_cpu:
            values = self.map.lookup_per_cpu(key)
            return None if values is None else bytearray(self._whole(values))
        found = self.map.lookup(key)
        return None if found is None else bytearray(found)

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        try:
            if self.spec.per_cpu:
                values = self.map.lookup_per_cpu(key)
                count = len(values) if values is not None else len(self.map.split(b"")) or 1
                others = bytes(len(value)) if self.spec.kind == "counter" else value
                self.map.update_per_cpu(key, [value] + [others] * (max(count, _cpus()) - 1), mode)
            else:
                self.map.update(key, value, mode)
        except BpfError as error:
            if error.errno in REFUSED:
                return False
            raise
        return True

    def _whole(self, values: list[bytes]) -> bytes:
        """What all CPUs hold as one value: the sum of a counter."""
        if self.spec.kind != "counter":
            return _written(values)[:self.spec.stored_size]
        return b"".join(sum(words).to_bytes(8, "little") for words in zip(
            *(struct.unpack("<QQ", value[:16]) for value in values), strict=True))

    def delete(self, key: bytes) -> bool:
        return self.map.delete(key)

    def store(self, entries: dict[bytes, bytes]) -> bool:
        if self.spec.per_cpu:
            return all(self.update(key, value, ANY) for key, value in entries.items())
        try:
            self.map.update_batch(entries.items())
        except BpfError as error:
            if error.errno in REFUSED:
                return False
            raise
        return True

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        if self.spec.inner is not None:
            yield from ((key, bytes(4)) for key in self.map.keys())  # noqa: SIM118
        elif self.spec.per_cpu:
            for key in self.map.keys():  # noqa: SIM118
                values = self.map.lookup_per_cpu(key)
                if values is not None:
                    yield key, self._whole(values)
        else:
            yield from self.map.lookup_batch()

    def every(self, key: bytes) -> list[bytes]:
        if not self.spec.per_cpu:
            found = self.map.lookup(key)
            return [] if found is None else [found]
        return [v[:self.spec.stored_size] for v in self.map.lookup_per_cpu(key) or []]

    def inner(self, key: bytes) -> NestedHome | None:
        found = self.map.lookup(key)
        if found is None or self.spec.inner is None:
            return None
        return NestedHome(self.spec.inner, Map.from_id(int.from_bytes(found, "little")))

    def create(self, key: bytes, spec: TableSpec) -> NestedHome:
        home = NestedHome(spec)
        try:
            self.map.store(key, home.map)
        except BpfError as error:
            if error.errno in REFUSED:
                raise Reject(Dropped.TABLE_FULL) from None
            raise
        return home

    def close(self) -> None:
        self.map.close()


class NestedHome(KernelHome):
    """A table in a table.  `get` and `create` make one for a moment, so it closes its descriptor with its last use."""

    def __del__(self) -> None:
        if hasattr(self, "map"):
            self.map.close()


def _written(values: list[bytes]) -> bytes:
    """Of the values of all CPUs, the first that is not zero."""
    return next((v for v in values if any(v)), values[0])


def _cpus() -> int:
    from ..kernel import possible_cpus
    return possible_cpus()
