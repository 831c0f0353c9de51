"""The tables of native code: `NativeHome` is a Home whose memory JIT-compiled code reads and writes itself.

A home allocates one block (native_tables_layout.py draws it), writes its header, and from then on does everything
through the same compiled functions as the packet path (native_tables_ir.py): there is one implementation of what a
native table does, and Python is one of its callers.  PythonHome says what that must be.

    block = HEADER | lpm: u32 counts[bits + 1], u32 order[bits + 2] | u32 buckets[…] | entry 0 (sentinel), 1 … capacity
    array = HEADER | value 0 … capacity - 1

Invariants: `address` is good for as long as the home lives, and the pages below it for as long as any view does, even
if the home is gone; a view that `lookup` answers is the entry itself; a nested table's value is the address of its
inner table, whose home this one keeps.

One thread at a time.  Python calls keep the interpreter lock while they run, so that threads of Python exclude one
another; who runs packets without that lock must not touch the table from elsewhere meanwhile.  Inner homes therefore
go as soon as they are deleted or replaced: no packet is half-way through one.  Those that compiled code deletes are
noticed when `create` finds more homes than entries.

Differences from PythonHome, each of something no Table does: keys and values of a wrong size are errors; an array's
`delete` answers False; a prefix longer than its address is refused.

Rejected: a `bytearray` (it cannot wrap memory, and reallocates its own; `lookup` answers a memoryview, which does all
that views do); ctypes arrays as memory (written with zeroes at once, where fresh pages are zero already and cost
nothing until used); one compiled runtime for each table, with its sizes as constants (milliseconds each, on a control
side that need not be fast).
"""
from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from ..language.errors import DeclarationError, Reject
from ..language.tables import ANY, TableSpec
from ..language.verdicts import Dropped
from .native_tables_ir import EXPORTS, RUNTIME_IR
from .native_tables_layout import HEADER, HEADER_SIZE, KEY, KINDS, LONGEST_PREFIX

__all__ = ["NativeHome", "RUNTIME_IR"]

ADDRESS = 8             # bytes of an inner table's address
LARGEST = 1 << 31       # entries: a tag has 31 bits to choose a bucket by


@dataclass(frozen=True)
class Runtime:
    """The compiled functions, and what keeps them in memory."""

    lookup: Callable[[int, bytes], int | None]
    update: Callable[[int, bytes, bytes, int], int]
    delete: Callable[[int, bytes], int]
    next: Callable[[int, Any], int | None]
    engine: Any


@cache
def runtime() -> Runtime:
    """The runtime of this process, compiled when the first table needs it."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    used = ", ".join(f"ptr @{name}" for name in EXPORTS)
    module = llvm.parse_assembly(
        f'@llvm.used = appending global [{len(EXPORTS)} x ptr] [{used}], section "llvm.metadata"\n{RUNTIME_IR}')
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()

    def function(name: str, answer: Any, *arguments: Any) -> Any:
        return ctypes.PYFUNCTYPE(answer, *arguments)(engine.get_function_address(name))

    table, data = ctypes.c_void_p, ctypes.c_char_p
    return Runtime(function("iov_lookup", ctypes.c_void_p, table, data),
                   function("iov_update", ctypes.c_int64, table, data, data, ctypes.c_int64),
                   function("iov_delete", ctypes.c_int64, table, data),
                   function("iov_next", ctypes.c_void_p, table, ctypes.POINTER(ctypes.c_int64)), engine)


class NativeHome:
    """A table in native memory.  `address` is what compiled code calls its `table`."""

    live = True

    def __init__(self, spec: TableSpec) -> None:
        assert isinstance(spec.size, int) and isinstance(spec.ttl, int), "a native table needs a resolved spec"
        self.spec, self.capacity, self.indexed = spec, spec.size, spec.kind in ("array", "counter")
        self.key_size = spec.key_size
        self.value_size = ADDRESS if spec.inner is not None else spec.stored_size
        if not 0 <= self.capacity < LARGEST:
            raise DeclarationError(f"{spec.name}: a native table has less than 2**31 entries, not {self.capacity}")
        if spec.kind == "lpm" and self.key_size > LONGEST_PREFIX:
            raise DeclarationError(f"{spec.name}: a native prefix has at most {LONGEST_PREFIX - 4} bytes")
        header, size = self._arrange()
        self.value_offset = header["value_offset"]
        self.memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.memory)
        for name, word in header.items():
            self.memory[HEADER[name]:HEADER[name] + 8] = word.to_bytes(8, "little")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.runtime = runtime()
        self.nested: dict[int, NativeHome] = {}     # by address

    def _arrange(self) -> tuple[dict[str, int], int]:
        """The header's words that are not zero, and the size of the block."""
        value = _up(self.value_size, 8)
        header = {"kind": KINDS[self.spec.kind], "capacity": self.capacity, "value_size": self.value_size,
                  "key_size": self.key_size, "seed": int.from_bytes(os.urandom(8), "little"), "value_offset": 0}
        if self.indexed:
            return header | {"stride": value, "entries": HEADER_SIZE}, HEADER_SIZE + self.capacity * value
        place = HEADER_SIZE
        if self.spec.kind == "lpm":
            bits = 8 * (self.key_size - 4)
            header["counts"], place = place, place + 4 * (bits + 1)
            header["order"], place = place, place + 4 * (bits + 2)
        buckets = 1 << max(self.capacity - 1, 0).bit_length()
        header["mask"], header["buckets"], place = buckets - 1, place, _up(place + 4 * buckets, 64)
        header["value_offset"] = _up(KEY + self.key_size, 8)
        header["stride"] = header["value_offset"] + value
        header["entries"] = place
        return header, place + (self.capacity + 1) * header["stride"]

    def lookup(self, key: bytes) -> bytearray | None:
        """The entry itself: a memoryview, which does what the views of records do with a bytearray."""
        place = self.runtime.lookup(self.address, self._sized(key, self.key_size, "key"))
        return None if place is None else cast(bytearray, self._at(place, self.value_size))

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        if self.spec.inner is not None:
            raise TypeError(f"{self.spec.name} holds tables: use `create`")
        return self._update(key, value, mode)

    def delete(self, key: bytes) -> bool:
        if self.spec.inner is not None:
            self.nested.pop(self._inner_address(key), None)
        return bool(self.runtime.delete(self.address, self._sized(key, self.key_size, "key")))

    def store(self, entries: dict[bytes, bytes]) -> bool:
        return all(self.update(key, value, ANY) for key, value in entries.items())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry, as copies made at once.  The values of a nested table are addresses."""
        found, cursor, index = [], ctypes.c_int64(0), 0
        while (entry := self.runtime.next(self.address, ctypes.byref(cursor))) is not None:
            key = index.to_bytes(4, "little") if self.indexed else bytes(self._at(entry + KEY, self.key_size))
            found.append((key, bytes(self._at(entry + self.value_offset, self.value_size))))
            index += 1
        yield from found

    def every(self, key: bytes) -> list[bytes]:
        found = self.lookup(key)
        return [] if found is None else [bytes(found)]

    def inner(self, key: bytes) -> NativeHome | None:
        return self.nested.get(self._inner_address(key))

    def create(self, key: bytes, spec: TableSpec) -> NativeHome:
        if self.spec.inner is None:
            raise TypeError(f"{self.spec.name} holds no tables")
        home, replaced = NativeHome(spec), self._inner_address(key)
        if not self._update(key, home.address.to_bytes(ADDRESS, "little"), ANY):
            raise Reject(Dropped.TABLE_FULL)
        self.nested.pop(replaced, None)
        self.nested[home.address] = home
        if len(self.nested) > self.capacity:
            present = {int.from_bytes(value, "little") for _, value in self.items()}
            self.nested = {address: inner for address, inner in self.nested.items() if address in present}
        return home

    def _update(self, key: bytes, value: bytes, mode: int) -> bool:
        key = self._sized(key, self.key_size, "key")
        return not self.runtime.update(self.address, key, self._sized(value, self.value_size, "value"), mode)

    def _inner_address(self, key: bytes) -> int:
        """What a nested table holds under `key`; no table lies at 0."""
        found = self.lookup(key)
        return 0 if found is None else int.from_bytes(found, "little")

    def _at(self, place: int, size: int) -> memoryview:
        start = place - self.address
        return self.view[start:start + size]

    def _sized(self, data: bytes, size: int, what: str) -> bytes:
        if len(data) != size:
            raise ValueError(f"a {what} of {self.spec.name} has {size} bytes, not {len(data)}")
        return bytes(data)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
