"""A function linked into this process: native code and the memory it works on.

MCJIT links the object file an image holds; one call runs one packet.  The packet's bytes are copied into a buffer with
room in front, because the language may push headers, and copied back.
"""
from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from ..compiler.cache import Cache
from ..compiler.driver import compile
from ..language import machine
from ..language.function import Function
from ..language.layout import Record
from ..language.machine import Machine
from ..language.packet import Packet
from ..language.tables import Home, TableSpec
from ..language.verdicts import PUNT_KIND, Verdict
from .native import Native
from .native_tables import NativeHome

HEADROOM, ROOM = 256, 1 << 16


class _Context(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "data", "end", "limit", "port", "tci", "tpid", "machine", "config", "metadata", "drops", "event", "tables",
        "told", "told_end")]


class NativeLoaded:
    """Its tables are moved to native memory; closing gives the code back, the tables stay."""

    target = "native"

    def __init__(self, function: Function, entries: tuple[str, ...] = ("ingress",), cache: Cache | None = None,
                 level: int = 2) -> None:
        self.function = function
        compiled = {entry: compile(type(function), Native(level=level), entry, cache) for entry in entries}
        self.images = {entry: c.image for entry, c in compiled.items()}
        self.homes: dict[str, NativeHome] = {}
        function.place(self._home)
        self.buffer = ctypes.create_string_buffer(HEADROOM + ROOM)
        self.machine, self.config = ctypes.create_string_buffer(32), ctypes.create_string_buffer(4096)
        self.metadata, self.counts = ctypes.create_string_buffer(16), (ctypes.c_uint64 * 256)()
        self.event, self.told = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(1 << 16)
        self.start = ctypes.addressof(self.buffer) + HEADROOM
        self.contexts: dict[str, _Context] = {}
        self.entries: dict[str, tuple[Any, int]] = {}
        self.engines: list[Any] = []
        self.pointers: list[Any] = []
        for entry, image in self.images.items():
            self._link(entry, image.code, image.maps)
        machine.observe(self._told)
        self.configured()

    def _home(self, spec: TableSpec) -> Home:
        home = self.homes[spec.name] = NativeHome(spec)
        return home

    def _link(self, entry: str, code: bytes, maps: tuple[str, ...]) -> None:
        import llvmlite.binding as llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine_ = llvm.Target.from_default_triple().create_target_machine(jit=True)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine_)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        self.engines.append(engine)
        tables = (ctypes.c_uint64 * max(len(maps), 1))(*(self.homes[name].address for name in maps))
        self.pointers.append(tables)
        at = ctypes.addressof
        context = self.contexts[entry] = _Context(
            limit=at(self.buffer), machine=at(self.machine), config=at(self.config), metadata=at(self.metadata),
            drops=at(self.counts), event=at(self.event), tables=at(tables), told_end=at(self.told) + len(self.told))
        function = ctypes.PYFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(engine.get_function_address(entry))
        self.entries[entry] = (function, at(context))

    def _told(self, told: Machine) -> None:
        ctypes.memmove(self.machine, bytes(told), 32)

    def configured(self) -> None:
        """Give the code the function's present configuration."""
        record = bytes(self.function.config.record())
        ctypes.memmove(self.config, record, len(record))

    def run(self, packet: Packet, entry: str = "ingress") -> Verdict:
        """Run one packet, in place."""
        function, address = self.entries[entry]
        context, data = self.contexts[entry], bytes(packet.data)
        ctypes.memmove(self.start, data, len(data))
        context.data, context.end = self.start, self.start + len(data)
        context.port, context.tci, context.tpid = packet.port, packet.tci, packet.tpid
        metadata = next(iter(packet.metadata.values()), None)
        ctypes.memmove(self.metadata, bytes(metadata).ljust(16, b"\0") if metadata is not None else bytes(16), 16)
        context.told = beginning = ctypes.addressof(self.told)
        code = function(address)
        packet.told[:] = self._heard(context.told - beginning)
        packet.data[:] = ctypes.string_at(context.data, context.end - context.data)
        packet.tci, packet.tpid = context.tci, context.tpid
        packet.epoch += 1
        if metadata is not None:
            metadata._buffer[:] = self.metadata.raw[:metadata.size]
        verdict = Verdict(code >> 16, code & 0xffff)
        if verdict.kind == PUNT_KIND:
            verdict.event = self.function.spec().events[verdict.argument].decode(self.event.raw)
        return verdict

    def _heard(self, length: int) -> Iterator[Record]:
        """What was told, in `length` bytes."""
        at, data, events = 0, self.told.raw[:length] if length else b"", self.function.spec().events
        while at < length:
            event = events[int.from_bytes(data[at:at + 8], "little")]
            yield event.decode(data[at + 8:at + 8 + event.size])
            at += 8 + -(-event.size // 8) * 8

    @property
    def drops(self) -> dict[int, int]:
        """Drops by reason."""
        return {reason: count for reason, count in enumerate(self.counts) if count}

    def close(self) -> None:
        if self.engines:
            machine.forget(self._told)
            self.entries.clear()
            self.engines.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
