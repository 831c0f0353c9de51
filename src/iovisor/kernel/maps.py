"""Maps: memory shared between programs and us.

`MapSpec` describes, needs no kernel and is comparable; `Map` owns a descriptor and moves bytes. Keys and
values are `bytes` of exactly the declared size, in the byte order the program uses; what they mean is
somebody else's business.

One map operation from Python costs two or three microseconds, most of it the system call, because nothing is
built per call: the argument structures live as long as the map, keys are passed as pointers into the
caller's `bytes`, and values arrive in one buffer. A lock makes that safe between threads. For thousands of
entries use the batch operations, which are one system call per 4096 entries.

Per-CPU maps have as many values per key as the machine has possible CPUs. They are deliberately not hidden
behind `lookup`: use `lookup_per_cpu`, so that nobody takes one CPU's counter for the total.

Rejected: a dict-like interface (`map[key]`), which hides that `in` followed by `[]` is a race; ctypes
structures as values, which would tie this layer to a type system.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Self

from . import descriptor
from .btf import Btf
from .descriptor import Descriptor
from .errors import BpfError
from .memory import shared
from .syscall import (
    NUMBER,
    Batch,
    Command,
    ElementInput,
    ElementOutput,
    MapCreate,
    Single,
    attempt,
    buffer,
    call,
    describe,
    syscall,
    text,
)


class MapKind(IntEnum):
    """enum bpf_map_type."""

    HASH = 1
    ARRAY = 2
    PROGRAM_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PER_CPU_HASH = 5
    PER_CPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PER_CPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVICE_MAP = 14
    SOCKET_MAP = 15
    CPU_MAP = 16
    XSK_MAP = 17
    SOCKET_HASH = 18
    QUEUE = 22
    STACK = 23
    SOCKET_STORAGE = 24
    DEVICE_HASH = 25
    RING_BUFFER = 27
    BLOOM_FILTER = 30
    USER_RING_BUFFER = 31
    ARENA = 33

    @property
    def per_cpu(self) -> bool:
        """Does each CPU have its own value?"""
        return self in (MapKind.PER_CPU_HASH, MapKind.PER_CPU_ARRAY, MapKind.LRU_PER_CPU_HASH)

    @property
    def indexed(self) -> bool:
        """Are the keys 0 .. max_entries-1, always present and impossible to delete?"""
        return self in (MapKind.ARRAY, MapKind.PER_CPU_ARRAY)


class MapFlag(IntFlag):
    """Flags of map creation."""

    NO_PREALLOC = 1 << 0
    NO_COMMON_LRU = 1 << 1
    NUMA_NODE = 1 << 2
    READ_ONLY = 1 << 3
    WRITE_ONLY = 1 << 4
    READ_ONLY_PROGRAM = 1 << 7
    WRITE_ONLY_PROGRAM = 1 << 8
    MMAPABLE = 1 << 10
    INNER_MAP = 1 << 12


class Update(IntEnum):
    """What an update may do: anything, only create, only replace."""

    ANY = 0
    NOEXIST = 1
    EXIST = 2


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What a map is. Sizes in bytes.

    `btf` with `key_type` and `value_type` (type ids in that blob) is needed for values holding timers, locks
    or kernel pointers, and gives tools the field names otherwise. `inner` is the prototype for maps of
    maps. `numa_node` is used if it is not negative. `extra` is the kind's own parameter (number of hash
    functions of a bloom filter).
    """

    name: str
    kind: MapKind
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    inner: MapSpec | None = None
    btf: bytes = b""
    key_type: int = 0
    value_type: int = 0
    numa_node: int = -1
    extra: int = 0

    def __post_init__(self) -> None:
        if min(self.key_size, self.value_size, self.max_entries) < 0:
            raise ValueError(f"map {self.name!r}: sizes must not be negative")
        if (self.inner is not None) != (self.kind in (MapKind.ARRAY_OF_MAPS, MapKind.HASH_OF_MAPS)):
            raise ValueError(f"map {self.name!r}: a map of maps needs an inner spec, and only a map of maps")


class _Information(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_id", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
    ]


@functools.cache
def possible_cpus() -> int:
    """How many CPUs the kernel is prepared for, which is the number of values per key of a per-CPU map."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return max(int(part.rpartition("-")[2]) for part in file.read().strip().split(",")) + 1


_BATCH = 4096
_LOOKUP, _UPDATE, _DELETE, _NEXT = (
    int(Command.MAP_LOOKUP_ELEM),
    int(Command.MAP_UPDATE_ELEM),
    int(Command.MAP_DELETE_ELEM),
    int(Command.MAP_GET_NEXT_KEY),
)
_INPUT_SIZE, _OUTPUT_SIZE = ctypes.sizeof(ElementInput), ctypes.sizeof(ElementOutput)
# A deletion is refused if anything follows the key: show the kernel no more of the structure.
_KEY_ONLY = ElementInput.value.offset


class Map(Descriptor):
    """An open map."""

    __slots__ = (
        "spec", "_name", "_key_size", "_value_size", "_wire_size", "_per_cpu", "_cpus",
        "_lock", "_value", "_key",
        "_input", "_output", "_next", "_input_at", "_output_at", "_next_at",
    )
    _opens = Command.MAP_GET_FD_BY_ID

    def __init__(self, fd: int, spec: MapSpec) -> None:
        """Take over `fd`, which must be a map of that spec."""
        super().__init__(fd)
        self.spec = spec
        self._name = spec.name
        self._key_size, self._value_size = spec.key_size, spec.value_size
        self._per_cpu = spec.kind.per_cpu
        self._cpus = possible_cpus() if self._per_cpu else 1
        # The value as the system call sees it.
        self._wire_size = (spec.value_size + 7 & ~7) * self._cpus if self._per_cpu else spec.value_size
        self._lock = threading.Lock()
        self._value: Any = buffer(max(self._wire_size, 1))
        self._key: Any = buffer(max(self._key_size, 1))
        self._input = ElementInput(fd)
        self._output = ElementOutput(fd, None, ctypes.addressof(self._value))
        self._next = ElementOutput(fd, None, ctypes.addressof(self._key))
        self._input_at = ctypes.addressof(self._input)
        self._output_at = ctypes.addressof(self._output)
        self._next_at = ctypes.addressof(self._next)

    # -- making and finding ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, spec: MapSpec) -> Self:
        """A new, empty map.

        BpfError: EINVAL the sizes or flags do not fit the kind, ENOMEM, EPERM no CAP_BPF.
        """
        inner = Map.create(spec.inner) if spec.inner is not None else None
        types = None
        try:
            types = Btf.load(spec.btf) if spec.btf else None
            attributes = MapCreate(
                spec.kind, spec.key_size, spec.value_size, spec.max_entries, spec.flags,
                map_name=text(spec.name), map_extra=spec.extra,
            )
            if inner is not None:
                attributes.inner_map_fd = inner.fd
            if types is not None and spec.value_type:
                attributes.btf_fd = types.fd
                attributes.btf_key_type_id, attributes.btf_value_type_id = spec.key_type, spec.value_type
            if spec.numa_node >= 0:
                attributes.map_flags |= MapFlag.NUMA_NODE
                attributes.numa_node = spec.numa_node
            return cls(call(Command.MAP_CREATE, attributes, "map create", spec.name), spec)
        finally:
            if inner is not None:
                inner.close()
            if types is not None:
                types.close()

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Self:
        """The map pinned at `path`."""
        return cls._adopt(descriptor.open_pinned(path, "map open"))

    @classmethod
    def from_id(cls, identifier: int) -> Self:
        """The map of that identifier, anywhere in the system. Needs CAP_SYS_ADMIN."""
        return cls._adopt(descriptor.open_identifier(Command.MAP_GET_FD_BY_ID, identifier, "map open"))

    @classmethod
    def _adopt(cls, fd: int) -> Self:
        try:
            return cls(fd, _spec_of(fd))
        except BaseException:
            os.close(fd)
            raise

    @property
    def id(self) -> int:
        """The identifier of the map in the system."""
        return int(describe(self.fd, _Information(), "map info").id)

    def rest(self) -> None:
        with self._lock:
            super().rest()

    def _number(self, fd: int) -> None:
        super()._number(fd)
        self._input.map_fd = self._output.map_fd = self._next.map_fd = fd & 0xFFFFFFFF

    def _awake(self) -> None:
        """Every operation begins so, inside the lock."""
        if self._identifier and self._fd < 0:
            _ = self.fd

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin at `path` inside a bpf file system."""
        descriptor.pin(self.fd, path, "map pin")

    # -- single elements -------------------------------------------------------------------------------------

    def lookup(self, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none. Not for per-CPU maps, see `lookup_per_cpu`."""
        if self._per_cpu:
            raise TypeError(f"map {self._name!r} has a value per CPU: use lookup_per_cpu")
        return self._lookup(key)

    def _lookup(self, key: bytes) -> bytes | None:
        if len(key) != self._key_size:
            raise ValueError(f"map {self._name!r}: a key has {self._key_size} bytes, not {len(key)}")
        with self._lock:
            self._awake()
            self._output.key = key
            if syscall(NUMBER, _LOOKUP, self._output_at, _OUTPUT_SIZE) == 0:
                value: bytes = self._value.raw
                return value
        self._unless_absent("map lookup")
        return None

    def lookup_per_cpu(self, key: bytes) -> list[bytes] | None:
        """The values under `key`, one per possible CPU in order, None if there is no such key."""
        if not self._per_cpu:
            raise TypeError(f"map {self._name!r} has one value for all CPUs: use lookup")
        value = self._lookup(key)
        return None if value is None else self.split(value)

    def split(self, value: bytes) -> list[bytes]:
        """Cut the joined values of a per-CPU map, as the batch operations give them, into one per CPU."""
        stride = self._value_size + 7 & ~7
        return [value[at : at + self._value_size] for at in range(0, stride * self._cpus, stride)]

    def join(self, values: Sequence[bytes]) -> bytes:
        """The opposite of `split`."""
        if len(values) != self._cpus or any(len(value) != self._value_size for value in values):
            raise ValueError(f"map {self._name!r}: needs {self._cpus} values of {self._value_size} bytes")
        return b"".join(value.ljust(self._value_size + 7 & ~7, b"\0") for value in values)

    def update(self, key: bytes, value: bytes, flags: int = Update.ANY) -> None:
        """Put `value` under `key`.

        BpfError: EEXIST with NOEXIST, ENOENT with EXIST, E2BIG the map is full, EPERM the map is frozen.
        """
        if len(key) != self._key_size or len(value) != self._wire_size:
            raise ValueError(
                f"map {self._name!r}: needs a key of {self._key_size} and a value of {self._wire_size} "
                f"bytes, got {len(key)} and {len(value)}"
            )
        attributes = self._input
        with self._lock:
            self._awake()
            attributes.key, attributes.value, attributes.flags = key, value, flags
            if syscall(NUMBER, _UPDATE, self._input_at, _INPUT_SIZE) == 0:
                return
        raise BpfError(ctypes.get_errno(), "map update", self._name)

    def update_per_cpu(self, key: bytes, values: Sequence[bytes], flags: int = Update.ANY) -> None:
        """Put one value per possible CPU under `key`."""
        self.update(key, self.join(values), flags)

    def store(self, key: bytes, item: Descriptor | int, flags: int = Update.ANY) -> None:
        """Put a program, map or socket under `key`, by descriptor: program arrays, maps of maps.

        A program array takes its first program's kind, attach type and fragment support as law: others are
        EINVAL.
        """
        with item.held() if isinstance(item, Descriptor) else contextlib.nullcontext(item) as number:
            self.update(key, struct.pack("=i", number), flags)

    def delete(self, key: bytes) -> bool:
        """Remove `key`; was it there?"""
        if len(key) != self._key_size:
            raise ValueError(f"map {self._name!r}: a key has {self._key_size} bytes, not {len(key)}")
        with self._lock:
            self._awake()
            self._input.key = key
            if syscall(NUMBER, _DELETE, self._input_at, _KEY_ONLY) == 0:
                return True
        self._unless_absent("map delete")
        return False

    def take(self, key: bytes = b"") -> bytes | None:
        """Look up and remove in one step: hashes (5.14), and queues and stacks, which have no key."""
        if len(key) != self._key_size:
            raise ValueError(f"map {self._name!r}: a key has {self._key_size} bytes, not {len(key)}")
        with self._lock:
            self._awake()
            self._output.key = key or None
            if syscall(NUMBER, int(Command.MAP_LOOKUP_AND_DELETE_ELEM), self._output_at, _OUTPUT_SIZE) == 0:
                value: bytes = self._value.raw
                return value
        self._unless_absent("map take")
        return None

    def push(self, value: bytes, flags: int = Update.ANY) -> None:
        """Append to a queue or stack, or add to a bloom filter. E2BIG if full; EXIST drops the oldest."""
        if self._key_size or len(value) != self._value_size:
            raise ValueError(f"map {self._name!r}: push takes a value of {self._value_size} bytes and no key")
        with self._lock:
            self._awake()
            self._input.key, self._input.value, self._input.flags = None, value, flags
            if syscall(NUMBER, _UPDATE, self._input_at, _INPUT_SIZE) == 0:
                return
        raise BpfError(ctypes.get_errno(), "map push", self._name)

    def _unless_absent(self, operation: str) -> None:
        """Raise for the last failure, unless it only was that there is no such key."""
        reason = ctypes.get_errno()
        if reason != errno.ENOENT:
            raise BpfError(reason, operation, self._name)

    # -- iteration -------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[bytes]:
        """Every key. Safe against changes meanwhile, but then a key may be missed or come twice."""
        key: bytes | None = None
        while (key := self._following(key)) is not None:
            yield key

    def _following(self, key: bytes | None) -> bytes | None:
        with self._lock:
            self._awake()
            self._next.key = key
            if syscall(NUMBER, _NEXT, self._next_at, _OUTPUT_SIZE) == 0:
                following: bytes = self._key.raw
                return following
        self._unless_absent("map next key")
        return None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value (joined for per-CPU maps, see `split`), deleted ones left out."""
        # One key ahead: the consumer may delete the key it just got, and the walk would start again.
        key = self._following(None)
        while key is not None:
            following = self._following(key)
            value = self._lookup(key)
            if value is not None:
                yield key, value
            key = following

    def __len__(self) -> int:
        """How many keys there are now, by walking: max_entries for arrays."""
        return self.spec.max_entries if self.spec.kind.indexed else sum(1 for _ in self.keys())

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Remove every key; zero every value of an array."""
        if self.spec.kind.indexed:
            empty = bytes(self._wire_size)
            for key in list(self.keys()):
                self.update(key, empty)
            return
        while keys := list(self.keys()):
            for key in keys:
                self.delete(key)

    # -- batches (Linux 5.6; arrays, hashes and tries, not device maps nor program arrays) -------------------

    def lookup_batch(self) -> list[tuple[bytes, bytes]]:
        """Every key with its value, in few system calls. Values of per-CPU maps are joined, see `split`."""
        with self.held() as number:
            return self._drain(Command.MAP_LOOKUP_BATCH, "map lookup batch", number)

    def take_batch(self) -> list[tuple[bytes, bytes]]:
        """`lookup_batch`, removing what is returned: nothing counted in between is lost. Hashes only."""
        with self.held() as number:
            return self._drain(Command.MAP_LOOKUP_AND_DELETE_BATCH, "map take batch", number)

    def _drain(self, command: Command, operation: str, number: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        count = min(_BATCH, max(self.spec.max_entries, 1))
        key_size, value_size = self._key_size, self._wire_size
        position = buffer(max(key_size, 8))
        batch = Batch(None, ctypes.addressof(position), map_fd=number)
        while True:
            keys, values = buffer(count * key_size), buffer(count * value_size)
            batch.keys, batch.values, batch.count = ctypes.addressof(keys), ctypes.addressof(values), count
            reason = -min(attempt(command, batch), 0)
            if reason == errno.ENOSPC and batch.count == 0:
                # One hash bucket holds more than asked for.
                count *= 2
                continue
            if reason not in (0, errno.ENOENT, errno.ENOSPC):
                raise BpfError(reason, operation, self._name)
            got = batch.count
            found.extend(zip(_cut(keys, got, key_size), _cut(values, got, value_size), strict=True))
            if reason == errno.ENOENT or (got == 0 and reason == 0):
                return found
            batch.in_batch = ctypes.addressof(position)

    def update_batch(self, items: Iterable[tuple[bytes, bytes]], flags: int = Update.ANY) -> int:
        """Put every pair; how many were put. On BpfError an unknown number of leading pairs is already in."""
        pairs = list(items)
        for key, value in pairs:
            if len(key) != self._key_size or len(value) != self._wire_size:
                sizes = f"{self._key_size} and {self._wire_size}"
                raise ValueError(f"map {self._name!r}: needs {sizes} bytes per pair")
        batch = Batch(map_fd=self.fd, elem_flags=flags)
        for start in range(0, len(pairs), _BATCH):
            part = pairs[start : start + _BATCH]
            keys = ctypes.c_char_p(b"".join(key for key, _ in part))
            values = ctypes.c_char_p(b"".join(value for _, value in part))
            batch.keys = ctypes.cast(keys, ctypes.c_void_p)
            batch.values = ctypes.cast(values, ctypes.c_void_p)
            batch.count = len(part)
            call(Command.MAP_UPDATE_BATCH, batch, "map update batch", self._name)
        return len(pairs)

    def delete_batch(self, keys: Iterable[bytes]) -> int:
        """Remove every key; how many were there."""
        wanted = list(keys)
        if any(len(key) != self._key_size for key in wanted):
            raise ValueError(f"map {self._name!r}: a key has {self._key_size} bytes")
        removed = position = 0
        batch = Batch(map_fd=self.fd)
        while position < len(wanted):
            part = wanted[position : position + _BATCH]
            joined = ctypes.c_char_p(b"".join(part))
            batch.keys, batch.count = ctypes.cast(joined, ctypes.c_void_p), len(part)
            reason = -min(attempt(Command.MAP_DELETE_BATCH, batch), 0)
            if reason not in (0, errno.ENOENT):
                raise BpfError(reason, "map delete batch", self._name)
            # The kernel stops at the first absent key.
            removed += batch.count
            position += batch.count + (1 if reason else 0)
        return removed

    # -- whole map -------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Forbid changes from user space (5.2); with READ_ONLY_PROGRAM the verifier reads constants."""
        call(Command.MAP_FREEZE, Single(self.fd), "map freeze", self._name)

    def mmap(self, writable: bool = True) -> memoryview:
        """The values of an array made with MMAPABLE (5.5), as shared memory.

        Value i starts at i * (value_size rounded up to 8). The memory stays until the last view is gone,
        also after `close`; EPERM if it is frozen and `writable`.
        """
        size = (self._value_size + 7 & ~7) * self.spec.max_entries
        page = mmap.PAGESIZE
        try:
            memory = shared(self.fd, size + page - 1 & ~(page - 1), writable=writable)
        except OSError as error:
            advice = "create the map with MapFlag.MMAPABLE"
            raise BpfError(error.errno or 0, "map mmap", self._name, advice) from None
        return memory[:size]

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<Map {self.spec.name!r} {self.spec.kind.name} {state}>"


def _cut(joined: Any, count: int, size: int) -> list[bytes]:
    raw: bytes = joined[: count * size]
    return [raw[at : at + size] for at in range(0, count * size, size)] if size else [b""] * count


def _spec_of(fd: int) -> MapSpec:
    info = describe(fd, _Information(), "map info")
    kind = MapKind(info.type)
    nested = kind in (MapKind.ARRAY_OF_MAPS, MapKind.HASH_OF_MAPS)
    # The kernel does not tell the prototype of a map of maps.
    unknown = MapSpec("", MapKind.ARRAY, 4, 4, 1) if nested else None
    return MapSpec(
        info.name.decode(), kind, info.key_size, info.value_size, info.max_entries, info.map_flags, unknown,
        key_type=info.btf_key_type_id, value_type=info.btf_value_type_id, extra=info.map_extra,
    )
