"""A function in the kernel: its maps, its programs, and a way to run one packet through them.

An instance is made of images and nothing else: maps for its tables, a frozen map with its configuration, programs
loaded against them.  No compilation happens here, so the second instance of a kind costs a millisecond.

*Bare* instances answer the verdict itself, for tests and measurements.  Others are joined to what comes next through
`slots`, one program array, because each array is a descriptor that must stay open:

    first stage: a slot a port, FLOOD_SLOT | second stage: a slot a port | ... | a *door* a stage | one behind it

At XDP the first stage has HOST_SLOT as well.

A stage finds its part by the number in its configuration, which the verifier folds.  Doors are for those who lead
packets here: they hold the stage's own program, so a new one takes over by one slot write.  Who stands in a door to
look at what comes in goes on to the slot behind it.
"""
from __future__ import annotations

import atexit
import linecache
import struct
import threading
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache as once
from types import TracebackType
from typing import Self

from ..compiler.cache import Cache
from ..compiler.driver import Compiled, compile, dump, dumping
from ..compiler.errors import Scope, Span
from ..kernel import (
    AttachType,
    Map,
    MapFlag,
    MapKind,
    MapSpec,
    Program,
    ProgramKind,
    ProgramSpec,
    VerifierRejection,
    possible_cpus,
)
from ..kernel.ring import RingBuffer, ring_spec
from ..language import machine
from ..language.function import Function
from ..language.layout import Record
from ..language.machine import Machine
from ..language.packet import Packet
from ..language.tables import Home, TableSpec
from ..language.verdicts import PUNT_KIND, Verdict
from .bpf import BARE, COPIED, ENDS, EVENT_HEADER, HANDED, PUNTED, TOLD, WATCH, Bpf
from .homes import KernelHome
from .tc import Tc
from .verifier import refused
from .xdp import Xdp

RING = 1 << 18             # bytes of a ring, unless the instance says something else
ZERO = bytes(4)
KINDS: dict[str, tuple[type[Bpf], ProgramKind, int]] = {
    "tc": (Tc, ProgramKind.SCHED_CLS, AttachType.TCX_INGRESS), "xdp": (Xdp, ProgramKind.XDP, AttachType.XDP)}
_HEAD = struct.Struct("<II")


@once
def machine_map() -> Map:
    """The clock, the hash seed and chance of every program this process loads."""
    shared = Map.create(MapSpec("machine", MapKind.ARRAY, 4, Machine.size, 1, MapFlag.MMAPABLE))
    words = shared.mmap()

    def told(now: Machine) -> None:
        words[:Machine.size] = bytes(now)

    machine.observe(told)
    atexit.register(shared.close)
    return shared


@once
def context_map() -> Map:
    """What travels with a packet between XDP programs: port, then 16 bytes of metadata, one set a CPU."""
    shared = Map.create(MapSpec("context", MapKind.PER_CPU_ARRAY, 4, 24, 1))
    atexit.register(shared.close)
    return shared


class BpfLoaded:
    """An instance in the kernel.  Tables of `function` move there, entries included."""

    def __init__(self, function: Function, target: str = "tc",
                 entries: Sequence[str] | Mapping[str, str] = ("ingress",), *, cache: Cache | None = None,
                 bare: bool = True, level: int = 2, cpu: str = "v4", ring: int = RING) -> None:
        """`entries` are the entries to load, or stages by name and the entry each runs: one entry may be loaded twice,
        joined to different things.
        """
        self.function, self.target, self.bare, self.room = function, target, bare, ring
        self.stages = dict(entries) if isinstance(entries, Mapping) else {entry: entry for entry in entries}
        family, self.kind, self.attach = KINDS[target]
        self.compiled: dict[str, Compiled] = {
            entry: compile(type(function), family(cpu, level), entry, cache) for entry in self.stages.values()}
        self.bases, self.doors, self.size = slots(list(self.stages), function.spec().port_count, family.ways)
        self.homes: dict[str, KernelHome] = {}
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self.ring: RingBuffer | None = None
        self.watches: dict[str, Map] = {}       # by stage: what verdicts are shown to from the next `configured` on
        self._lock = threading.Lock()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    # -- making -----------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self.maps["@machine"] = self._machine()
        for name, spec in (("drops", MapSpec("drops", MapKind.PER_CPU_ARRAY, 4, 8 * ENDS, 1)),
                           ("next", MapSpec("next", MapKind.PROGRAM_ARRAY, 4, 4, self.size))):
            self.maps[f"@{name}"] = self._map(name, spec)
        if self.target == "xdp":
            self.maps["@context"] = context_map()
        if self.function.spec().events:
            self.maps["@events"] = self._map("events", ring_spec("events", self.room))
            self.ring = RingBuffer(self.maps["@events"])
        self.equip(self.compiled)
        self._place()
        self.maps |= {name: home.map for name, home in self.homes.items()}
        self.configured()

    def equip(self, compiled: Mapping[str, Compiled]) -> None:
        """Make what these programs need and not all do."""
        if "@copies" not in self.maps and any("@copies" in one.image.maps for one in compiled.values()):
            # {u32 device, u32 wire} a port, of a number of ports that is a power of two
            room = 1 << max(self.function.spec().port_count - 1, 1).bit_length()
            self.maps["@copies"] = self._map("copies", MapSpec("copies", MapKind.ARRAY, 4, 8 * room, 1))

    def _map(self, name: str, spec: MapSpec) -> Map:
        return Map.create(spec)

    def _machine(self) -> Map:
        return machine_map()

    def _place(self) -> None:
        """Move the function's tables into the kernel."""
        self.function.place(self._home)

    def _home(self, spec: TableSpec) -> Home:
        home = self.homes[spec.name] = KernelHome(spec)
        return home

    def configured(self) -> None:
        """Load the programs with the function's present configuration, frozen, and let go of the former."""
        for program in self.renewed().values():
            program.close()

    def renewed(self) -> dict[str, Program]:
        """The same, but answers the former."""
        fresh: dict[str, Program] = {}
        record = bytes(self.function.config.record())
        padded = record.ljust(-(-len(record) // 8) * 8, b"\0")
        flags = (BARE if self.bare else 0) | (WATCH if self.watches else 0)
        try:
            for stage in self.stages:
                value = _HEAD.pack(flags, self.bases[stage]) + padded
                spec = MapSpec("config", MapKind.ARRAY, 4, len(value), 1, MapFlag.READ_ONLY_PROGRAM)
                with Map.create(spec) as config:
                    config.update(ZERO, value)
                    config.freeze()
                    fresh[stage] = self._load(stage, config)
        except BaseException:
            for program in fresh.values():
                program.close()
            raise
        former, self.programs = self.programs, fresh
        return former

    def beside(self, slots: Map) -> Self:
        """The same with a program array of its own and, until `configured`, no programs; all else is shared."""
        fresh = copy(self)
        fresh.maps, fresh.homes, fresh.programs = self.maps | {"@next": slots}, dict(self.homes), {}
        return fresh

    def retreat(self) -> None:
        """Close what `beside` does not share."""
        for program in self.programs.values():
            program.close()
        self.slots.close()

    def behind(self, stage: str) -> int:
        """The slot behind a stage's door."""
        return self.doors[stage] + len(self.stages)

    @property
    def slots(self) -> Map:
        """What the stages go on to, and their doors."""
        return self.maps["@next"]

    def rest(self) -> None:
        """Give back the descriptors of what the programs behind the doors keep alive."""
        for program in self.programs.values():
            program.rest()
        kept = {name for compiled in self.compiled.values() for name in compiled.image.maps}
        for name in kept - {"@machine", "@context", "@config", "@next", "@watch", "@events"}:
            self.maps[name].rest()

    def _load(self, stage: str, config: Map) -> Program:
        entry, kind = self.stages[stage], type(self.function)
        image = self.compiled[entry].image
        spec = ProgramSpec(image.kind[:15], self.kind, image.code, "Dual BSD/GPL", image.btf, image.func_info,
                           image.line_info, self.attach)
        of_stage = {"@config": config, "@watch": self.watches.get(stage, self.slots)}
        maps = [of_stage.get(name) or self.maps[name] for name in image.maps]
        family = KINDS[self.target][0]()
        try:
            program = Program.load(spec, maps, 2 if dumping("verifier") else 0)
        except VerifierRejection as rejection:
            dump("verifier", kind, entry, family, lambda log=rejection.log: log)
            code = getattr(kind, entry).__code__
            line = linecache.getline(code.co_filename, code.co_firstlineno)
            column = len(line) - len(line.lstrip())
            whole = Span(Scope(entry, code.co_filename, code.co_firstlineno), code.co_firstlineno, column,
                         code.co_firstlineno, column + 4)
            raise refused(rejection, {code.co_filename.rsplit("/", 1)[-1]: code.co_filename}, whole) from rejection
        dump("verifier", kind, entry, family, lambda: program.log)
        return program

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, packet: Packet, entry: str = "ingress") -> Verdict:
        """Run one packet through a bare program (BPF_PROG_TEST_RUN), in place.  It has 14 bytes or more."""
        run = self._run_tc if self.target == "tc" else self._run_xdp
        code = run(packet, self.programs[entry])
        packet.epoch += 1
        verdict = Verdict(code >> 16, code & 0xffff)
        events = [event for _, event, _ in self.events()]
        if verdict.kind == PUNT_KIND and events:
            verdict.event = events.pop()
        packet.told[:] = events
        return verdict

    def _run_tc(self, packet: Packet, program: Program) -> int:
        words = bytes(_metadata(packet)).ljust(16, b"\0")
        context = bytes(48) + packet.port.to_bytes(4, "little") + words + bytes(192 - 68)
        ran = program.test_run(bytes(packet), context)
        mark = int.from_bytes(ran.context[8:12], "little")
        packet.data[:] = ran.data
        packet.tpid, packet.tci = mark >> 16, mark & 0xffff
        _take(packet, ran.context[52:68])
        return ran.return_value

    def _run_xdp(self, packet: Packet, program: Program) -> int:
        metadata = bytes(_metadata(packet)).ljust(16, b"\0")
        seen = packet.port.to_bytes(8, "little") + metadata
        shared = self.maps["@context"]
        # Every time: all instances of this process share the map, and programs write metadata into it.
        shared.update_per_cpu(ZERO, [seen] * _processors())
        ran = program.test_run(bytes(packet))
        if packet.metadata:
            values = shared.lookup_per_cpu(ZERO) or []
            _take(packet, next((v[8:24] for v in values if v[8:24] != metadata), metadata))
        again = Packet(ran.data, packet.port)
        packet.data[:], packet.tci, packet.tpid = again.data, again.tci, again.tpid
        return ran.return_value

    def events(self) -> list[tuple[int, Record, Packet]]:
        """What was punted or told since the last call: (event index, event, packet)."""
        if self.ring is None:
            return []
        return [parse_event(self.function, record) for record in self.ring]

    @property
    def ends(self) -> dict[int, int]:
        """Packets that ended here, over all CPUs, by reason; what is none is at HANDED, PUNTED and COPIED."""
        values = self.maps["@drops"].lookup_per_cpu(ZERO) or []
        counts = (sum(found) for found in zip(*(struct.unpack(f"<{ENDS}Q", value) for value in values), strict=True))
        return {reason: count for reason, count in enumerate(counts) if count}

    @property
    def drops(self) -> dict[int, int]:
        """Drops by reason, summed over CPUs."""
        return {reason: count for reason, count in self.ends.items() if reason not in (HANDED, PUNTED, COPIED)}

    def close(self) -> None:
        """Give every descriptor back.  The function's tables are empty Python tables afterwards."""
        if self.ring is not None:
            self.ring.close()
        for program in self.programs.values():
            program.close()
        for name, found in self.maps.items():
            if name not in ("@machine", "@context"):
                found.close()
        for home in self.homes.values():
            home.close()
        self.programs, self.maps, self.homes = {}, {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def slots(stages: Sequence[str], ports: int, first: int) -> tuple[dict[str, int], dict[str, int], int]:
    """Where in the program array the slots of each stage begin, where its door is, and how many slots there are; the
    first stage has so many."""
    bases, end = {}, 0
    for stage in stages:
        bases[stage], end = end, end + (ports if end else first)
    return bases, {stage: end + number for number, stage in enumerate(stages)}, end + 2 * len(stages)


def parse_event(function: Function, record: bytes) -> tuple[int, Record, Packet]:
    """A record of the ring: see `Bpf.event`."""
    number, port, captured, _, tci, tpid, segment = struct.unpack_from("<HHIIHHH", record)
    index = number & ~TOLD
    event = function.spec().events[index]
    room = -(-event.size // 8) * 8
    start = EVENT_HEADER + room
    frame = record[start:start + captured]
    if tpid:        # into the bytes, or an inner tag would be taken for the outer one
        frame = frame[:12] + tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") + frame[12:]
    packet = Packet(frame, port)
    packet.segment = segment
    return index, event.decode(record[EVENT_HEADER:EVENT_HEADER + room]), packet


def event_was_told(record: bytes) -> bool:
    """Whether a record of the ring is of a packet that went on."""
    return bool(int.from_bytes(record[:2], "little") & TOLD)


def event_was_cut(record: bytes) -> bool:
    """Whether a record of the ring holds only the beginning of its frame."""
    captured, length = struct.unpack_from("<II", record, 4)
    return bool(captured < length)


_processors = once(possible_cpus)


def _metadata(packet: Packet) -> bytes:
    found = next(iter(packet.metadata.values()), None)
    return b"" if found is None else bytes(found)


def _take(packet: Packet, words: bytes) -> None:
    found = next(iter(packet.metadata.values()), None)
    if found is not None:
        found._buffer[:] = words[:found.size]
