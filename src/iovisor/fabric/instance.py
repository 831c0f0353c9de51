"""An instance: one function of a network, in the kernel, and the places where it is joined to others.

Its programs are reached through *doors*, slots of their own, never directly: a new program takes over by one slot
write, and every edge and hop that leads here follows.  What leaves is decided by slots too, one a port and stage:
joining is a slot write.  All of them lie in one program array, see bpf_loaded.py.

    door[ingress] ──► ingress ──[port]──► egress ──[port]──► a device, or the next instance
                         └──[FLOOD]──► flood ──► devices, or the next instances by recirculation

A function without an egress goes straight from ingress to what its port is joined to.  `egress` runs twice over: in
line, and (as the stage `hook`) at the egress hook of devices, for clones.

Between operations an instance has one descriptor open, that of the array, and that of its ring if it punts: programs
keep their maps, the array keeps the programs.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from itertools import islice
from typing import Self

from ..compiler.cache import Cache
from ..kernel import Map, MapFlag, MapKind, MapSpec, Program
from ..language.function import Function
from ..language.ports import Ports
from ..language.tables import Home, TableSpec
from ..targets.bpf import FLOOD_SLOT
from ..targets.bpf_loaded import BpfLoaded
from ..targets.homes import KernelHome
from . import recorders
from .counters import Counters
from .early import PINS as EARLY_PINS
from .early import Early, Reader, token_of
from .edges import Door, Way
from .pins import WIRING, PinnedLoaded, Pins, Unpinned, pin_of, wiring_pin
from .recorders import Watcher

INGRESS, EGRESS, HOOK = "ingress", "egress", "hook"
EARLY = "xdp"                   # ingress at XDP: a stage to those who look
MEMBER = 16                     # bytes: see `edges.flood`
_MEMBER = struct.Struct("<III")


class Instance:
    """Made by `Network.add`."""

    def __init__(self, name: str, function: Function, cache: Cache | None, pins: Pins, ring: int,
                 versions: dict[str, int] | None = None, born: int = 0) -> None:
        self.name, self.function, self.cache, self.pins = name, function, cache, pins
        self.born = born                                    # the revision that brought it, 0 for none
        self.versions = dict(versions or {})                # of tables: how often they were replaced by others
        self._retired: list[Home] = []
        self.has_egress = hasattr(function, EGRESS)
        stages = {INGRESS: INGRESS} | ({EGRESS: EGRESS, HOOK: EGRESS} if self.has_egress else {})
        with ExitStack() as undo:
            self.loaded = undo.enter_context(
                BpfLoaded(function, "tc", stages, cache=cache, bare=False, ring=ring) if isinstance(pins, Unpinned)
                else PinnedLoaded(function, stages, pins, cache, ring, self.versions))
            self.ports = max(function.spec().port_count, 1)
            self.counters = Counters(pins, self.ports)
            undo.enter_context(self.counters.array)
            spec = MapSpec("members", MapKind.ARRAY, 4, MEMBER * self.ports, 1, MapFlag.MMAPABLE)
            self.members = undo.enter_context(pins.map(wiring_pin("members", self.versions), spec))
            self.watchers: list[Watcher] = []
            self.taps: dict[str, Program] = {}              # by stage, what stands in its door for them
            self.closed = False
            self.flooded = 0                                # ports the flood program walks
            self.early: Early | None = None                 # what meets packets at XDP, if a device wants that
            self.entrances: dict[int, int] = {}             # by port, the wire that leads to it from Python
            self.exits: dict[int, int] = {}                 # by port, the wire that leads out of it
            self.settle()
            undo.pop_all()

    @property
    def at(self) -> str:
        """Where it is: of two of one name, one of which takes the other's place, each has another."""
        return f"{self.name}:{self.born}"

    def settle(self, inline: Sequence[int] = ()) -> None:
        """Put the programs that stand now behind the doors: packets that come from here on run them.

        `inline` are the ports whose packets go from ingress to egress; the egress stands before what leads to it.
        """
        for port in inline:
            self._store(INGRESS, port, self.loaded.programs[EGRESS])
        for kept in (self.members, self.counters.array):    # whether or not it floods, and before it is joined
            self.loaded.programs[INGRESS].bind(kept)
        for stage, door in self.loaded.doors.items():
            program = self.loaded.programs[stage]
            if stage in self.taps:
                self.loaded.slots.store(self.loaded.behind(stage).to_bytes(4, "little"), program)
                program = self.taps[stage]
            self.loaded.slots.store(door.to_bytes(4, "little"), program)
        if self.early is not None:
            self.early.settle()

    @contextmanager
    def renewing(self, inline: Sequence[int] = ()) -> Iterator[None]:
        """Load programs anew, and put them behind the doors at the end; if anything fails, the former stand there."""
        former: list[tuple[BpfLoaded, dict[str, Program]]] = []
        try:
            for one in self.both:
                for program in one.programs.values():
                    _ = program.fd                          # from now on not only the doors keep it
                former.append((one, one.renewed()))
            yield
            self.settle(inline)
        except BaseException:
            fresh = [program for one, _ in former for program in one.programs.values()]
            for one, programs in former:
                one.programs = programs
            if all(one.programs for one in self.both):
                self.settle(inline)
            for program in fresh:
                program.close()
            raise
        for _, programs in former:
            for program in programs.values():
                program.close()

    @property
    def both(self) -> list[BpfLoaded]:
        """What is loaded, at TC and at XDP."""
        return [self.loaded, *([self.early] if self.early is not None else [])]

    def rise(self, account: Map, secret: int, soft: bool) -> Early:
        """Let devices be met at XDP; who calls this leads its ports (`Early.lead_only`).  Errors as of `Early`."""
        if self.early is None:
            self.early = Early(self.loaded, self.pins, self.cache, self.versions, self.counters.array, account, secret,
                               soft)
            if self.watchers:
                recorders.arm_early(self.early, self.watchers)
                self.early.configured()
                self.early.settle()
        self.early.bear(soft)
        return self.early

    def sink(self) -> None:
        """No device is met at XDP any more."""
        if self.early is not None:
            self.early.end()
            self.early = None

    @property
    def reader(self) -> Reader | None:
        """Of the notes of what was met at XDP."""
        if self.early is None:
            return None
        return Reader(self.loaded.slots, self.loaded.bases[INGRESS], self.loaded.maps["@drops"], self.early.secret,
                      self.token)

    def door(self, stage: str) -> Door:
        """The way in to a stage."""
        return Door(self.loaded.slots, self.loaded.doors[stage])

    def way(self, port: int) -> Way:
        """Out of a port at the hook of its device."""
        return Way(port, self.door(HOOK), self.token)

    @property
    def token(self) -> int:
        """Tells its wiring from the one before: 1 to 0xffff."""
        return token_of(self.versions)

    def exit(self, port: int, stage: str = INGRESS) -> Door:
        """The way of what a stage forwards to a port."""
        return Door(self.loaded.slots, self.loaded.bases[stage] + port)

    def _store(self, stage: str, slot: int, program: Program | None) -> None:
        key = (self.loaded.bases[stage] + slot).to_bytes(4, "little")
        if program is None:
            self.loaded.slots.delete(key)
        else:
            self.loaded.slots.store(key, program)

    def another(self, spec: TableSpec) -> KernelHome:
        """A new table, in the place of one of that name."""
        self.versions[spec.name] = self.versions.get(spec.name, 0) + 1
        pin = pin_of(spec.name, self.versions)
        self.pins.unpin(pin)                                # of a process that did not live to write down that it is so
        home = KernelHome(spec)
        self.pins.keep(pin, home.map)
        return home

    def discard(self, home: KernelHome) -> None:
        """The opposite of `another`."""
        self.pins.unpin(pin_of(home.spec.name, self.versions))
        self.versions[home.spec.name] -= 1
        home.close()

    def retire(self, homes: Iterable[Home]) -> None:
        """Tables that were replaced.  Who began before may still hold them, so they are closed with the next."""
        former, self._retired = self._retired, list(homes)
        for home in former:
            if isinstance(home, KernelHome):
                home.close()

    def port(self, port: int | str) -> int:
        """A port's number, by number or by the name the function gives it."""
        declared = self.function.spec().ports
        if isinstance(port, str) and port.isdigit():
            port = int(port)
        if isinstance(port, str):
            number = declared.get(port)
            if not isinstance(number, int):
                known = ", ".join(f"{n}[0..{p.count - 1}]" if isinstance(p, Ports) else n for n, p in declared.items())
                raise ValueError(f"{self.name} has no port {port!r}; its ports are {known or 'none'}")
            return number
        if not 0 <= port < self.function.spec().port_count:
            raise ValueError(f"{self.name} has no port {port}; it has {self.function.spec().port_count}, from 0")
        return port

    def port_name(self, port: int) -> str:
        """A port's name if the function gives it one of its own, else its number."""
        return next((name for name, number in self.function.spec().ports.items() if number == port), str(port))

    def lead(self, port: int, onward: Program | None, hook: Program | None = None, inline: bool = True) -> None:
        """Join a port: `onward` is where its packets go, `hook` what ends the egress stage at a device.

        The slot written last is the one packets come through, so that none sees half of a join.
        """
        if self.early is not None:
            self.early.lead(port, onward is not None)
        if onward is None:
            for stage in self.loaded.bases:
                self._store(stage, port, None)
            return
        if self.has_egress:
            self._store(EGRESS, port, onward)
            if hook is not None:
                self._store(HOOK, port, hook)
        direct = not self.has_egress or not inline
        self._store(INGRESS, port, onward if direct else self.loaded.programs[EGRESS])

    @property
    def floods(self) -> bool:
        """Whether its image may ask for a flood."""
        return any(compiled.image.floods for compiled in self.loaded.compiled.values())

    def close_but(self, joined: set[int]) -> None:
        """Lead nothing out of any port but these: who died in the middle of a change has led something there."""
        for key, _ in list(self.loaded.slots.items()):
            slot = int.from_bytes(key, "little")
            for base in self.loaded.bases.values():
                if base <= slot < base + self.function.spec().port_count and slot - base not in joined:
                    self.loaded.slots.delete(key)
        for port, (device, _) in enumerate(self.members_of(self.ports)):
            if device and port not in joined:
                self.member(port, 0)

    def flood_by(self, program: Program) -> None:
        """What happens to a packet that is flooded."""
        self._store(INGRESS, FLOOD_SLOT, program)

    def member(self, port: int, device: int, wire: int = 0, counted: int = 0, length: int = 0xffffffff) -> None:
        """Where the clone for a port goes, whether the flood counts it (0, or the bank and one more), and how long it
        may be; device 0: nowhere."""
        at = MEMBER * port
        with self.members.mmap() as words:
            if device:
                words[at + 4:at + 16] = _MEMBER.pack(wire, counted, length)
            words[at:at + 4] = device.to_bytes(4, "little")

    def members_of(self, ports: int) -> list[tuple[int, int]]:
        """Where the clones for the first ports go: device, wire."""
        value = self.members.lookup(bytes(4)) or b""
        return [(device, wire) for device, wire, _, _ in islice(struct.iter_unpack("<IIII", value), ports)]

    def flooded_to(self, number: int) -> set[int]:
        """The ports of a set that the function floods, 0 for all there are."""
        name = self.function.spec().port_sets
        if number == 0 or name is None:
            return set(range(self.ports))
        found = self.function.tables[name].get(number)
        return set() if found is None else found.ports()

    def behind(self, door: Door) -> int:
        """The identifier of the program in a slot, 0 if it is empty."""
        return int.from_bytes(door.array.lookup(door.slot.to_bytes(4, "little")) or b"", "little")

    def runs(self, stage: str) -> int:
        """The identifier of a stage's program, whoever stands in its door."""
        if stage == EARLY and self.early is not None:
            slot = self.early.behind(INGRESS) if self.early.taps else self.early.doors[INGRESS]
            return self.behind(Door(self.early.slots, slot))
        tapped = stage in self.taps
        return self.behind(Door(self.loaded.slots, self.loaded.behind(stage)) if tapped else self.door(stage))

    @property
    def tail_calls(self) -> int:
        """How many a packet takes from one hop, through this function, to the next."""
        return 3 if self.has_egress else 2

    @property
    def needed(self) -> int:
        """How many must be left before it: a watch takes up to three more, and the kernel allows one to spare."""
        return self.tail_calls + 2

    @property
    def drops(self) -> dict[str, int]:
        """Drops by the name of their reason."""
        names = self.function.spec().reasons
        return {names.get(reason, str(reason)): count for reason, count in self.loaded.drops.items()}

    def rest(self) -> None:
        """Give back the descriptors of what stays without them."""
        for one in self.both:
            one.rest()
        self.members.rest()
        self.counters.array.rest()

    # -- revisions --------------------------------------------------------------------------------------------------

    def beside(self, generation: int) -> Self:
        """The same function with slots and members of its own, as yet empty; see revision.py."""
        fresh = copy(self)
        fresh.versions = self.versions | {WIRING: generation}
        with ExitStack() as undo:
            for name in ("next", "members"):
                undo.callback(self.pins.unpin, wiring_pin(name, fresh.versions))
            slots = undo.enter_context(self.pins.map(wiring_pin("next", fresh.versions), self.loaded.slots.spec))
            fresh.loaded = self.loaded.beside(slots)
            fresh.members = undo.enter_context(
                self.pins.map(wiring_pin("members", fresh.versions), self.members.spec))
            fresh.flooded, fresh.taps, fresh.loaded.watches = 0, {}, {}
            if self.early is not None:
                fresh.early = self.early.beside(fresh.loaded, fresh.versions)
                undo.callback(fresh.early.end)
            recorders.arm(fresh)
            undo.pop_all()
        return fresh

    def become(self, other: Instance) -> None:
        """Whoever holds this holds the other from here on."""
        self.__dict__.update(other.__dict__)

    def retreat(self) -> None:
        """Close, of two that are `beside` each other, what is only this one's."""
        for found in (*self.loaded.watches.values(), *self.taps.values()):
            found.close()
        self.loaded.retreat()
        self.sink()
        self.members.close()
        for name in ("next", "members"):
            self.pins.unpin(wiring_pin(name, self.versions))

    def prune(self) -> None:
        """Forget pins of tables and wirings that were replaced, or were to be."""
        wiring = ("next", "members", *(EARLY_PINS if self.early is not None else ()))
        self.pins.prune_former(self.versions, self.function.tables, wiring)

    def hold_counters(self) -> None:
        """Hold what it has counted, whatever happens to the programs."""
        _ = self.counters.array.fd, self.loaded.maps["@drops"].fd

    def wake(self) -> None:
        """Hold the tables, whatever happens to the programs."""
        for home in self.loaded.homes.values():
            _ = home.map.fd

    def close(self) -> None:
        self.closed = True
        self.retire([])
        for found in (*self.loaded.watches.values(), *self.taps.values()):
            found.close()
        if self.early is not None:
            self.early.close()
        self.loaded.close()
        self.counters.array.close()
        self.members.close()
