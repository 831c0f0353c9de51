"""An instance's ingress at XDP: what it drops there is gone before it costs a walk; all else goes on at TC.

    XDP      entry ─► ingress ─┬─ drop, punt             the end
                               └─ forward, flood, host ─► slot: a note in front of the frame, and XDP_PASS
    tcx      a note of ours   ─► the way out of the port, as if ingress had just run here
             none             ─► ingress

Both programs are of one function and share its tables, its drops and its ring, so nobody who looks at an instance need
know where a packet met it.  What they cannot share is a program array: the kernel keeps the kinds apart.

The *note* is the kernel's metadata of a frame (`data_meta`), which the driver carries to tcx ingress:

    u64 secret, u16 token of the wiring, u16 port, u16 kind of verdict, u16 number of a set, 16 bytes of metadata

A note says that a packet has been looked at, so who could forge one could pass unseen.  A driver clears what was there,
but `bpf_redirect_peer` carries metadata across a cable.  So the secret is a random number of the network, known to its
programs alone, and wiped from the packet where it is read: none leaves with it.  A packet without a note, whatever way
it came past XDP, meets the function at TC.

The token tells the wirings of a revision apart: while a device is turned, what met the old function at XDP goes on in
the old wiring.  So tcx is turned first, knowing both, then XDP.  For the same reason XDP is attached last and taken
away first: what it passes always finds who reads notes.

*Received* is what came to tcx or ended before.  Between XDP and tcx the kernel may make one packet of several (GRO), so
what leaves with a note is taken off the port's counter again, and counted by who reads the note.

Rejected: the whole walk at XDP, by redirect (checksums that senders leave to the device are lost on it, see
docs/edges.md); the mark of the packet, which drivers do not carry and others use.
"""
from __future__ import annotations

import errno
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

from ..compiler.cache import Cache
from ..compiler.driver import analyse, compile, sums
from ..compiler.errors import CompileError
from ..kernel import BpfError, Link, Map, MapKind, MapSpec, NetworkNamespace, Program, ProgramKind
from ..kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R6,
    R7,
    R8,
    R9,
    Helper,
    Label,
    Line,
    call,
    compute,
    jump,
    jump_if,
    leave,
    load,
    map_index,
    move,
    store,
    tail_call,
)
from ..kernel.links import XdpMode
from ..language.function import Function
from ..language.verdicts import FLOOD_KIND, FORWARD_KIND, HOST_KIND, Dropped
from ..targets.bpf import FLOOD_SLOT, HANDED, HOST_SLOT
from ..targets.bpf_loaded import BpfLoaded
from ..targets.xdp import Xdp
from . import edges
from .edges import BLANKS, CB, CLASS, DROP, PASS, Count, Door, code
from .hooks import Hook
from .pins import WIRING, Pins, Unpinned, wiring_pin

INGRESS = "ingress"
NOTE = 32                               # bytes in front of the frame
CONTEXT = 32                            # {u16 port, u16 argument, u32 length}, metadata, and where received is counted
_META, _DATA, _END = 8, 0, 4            # of xdp_md
_SKB_META, _SKB_DATA = 140, 76
_DROP, _PASS = 1, 2                     # of XDP
_SECRET, _TOKEN, _FORMER = BLANKS[0] | BLANKS[1] << 32, BLANKS[2], BLANKS[3]
PINS = ("early", "context")
SUMS = "it adjusts checksums that the other end of a cable or TAP leaves to the device, which XDP does not see"


class Early(BpfLoaded):
    """Made by an instance when the first of its devices is to be met at XDP; see `Instance.rise`.

    CompileError if the function does something that XDP has not, at the line.  `soft` is whether the other end of a
    device may leave checksums unfinished (see hooks.py): ValueError if the function adjusts them, which it then cannot.
    """

    def __init__(self, of: BpfLoaded, pins: Pins, cache: Cache | None, versions: dict[str, int], counters: Map,
                 account: Map, secret: int, soft: bool) -> None:
        self._of, self._pins, self._cache, self._versions = of, pins, cache, versions
        self._counters, self._account, self.secret, self.soft = counters, account, secret, soft
        self.taps: dict[str, Program] = {}                  # what stands in the door for watchers
        super().__init__(of.function, "xdp", (INGRESS,), cache=cache, bare=False)

    def _make(self) -> None:
        self._own()
        self.configured()
        self.settle()

    def _own(self) -> None:
        """Maps that no other wiring has."""
        for name, pin, spec in (("@next", "early", MapSpec("early", MapKind.PROGRAM_ARRAY, 4, 4, self.size)),
                                ("@context", "context", MapSpec("context", MapKind.PER_CPU_ARRAY, 4, CONTEXT, 1))):
            self.maps[name] = self._pins.map(wiring_pin(pin, self._versions), spec)

    def renewed(self) -> dict[str, Program]:
        former = self.function, self.compiled, self.maps
        own = {name: self.maps[name] for name in ("@next", "@context")}
        try:
            self.function = self._of.function
            self.compiled = {INGRESS: compile(type(self.function), Xdp(), INGRESS, self._cache)}
            self.bear(self.soft)
            self.maps = {**self._of.maps, **own}
            return super().renewed()
        except BaseException:
            self.function, self.compiled, self.maps = former
            raise

    def bear(self, soft: bool) -> None:
        """Meet packets of a soft device, too, if it is one; ValueError if that cannot be."""
        if soft and self.compiled[INGRESS].image.sums:
            raise ValueError(f"{type(self.function).__name__} cannot meet packets at XDP: {SUMS}")
        self.soft |= soft

    def settle(self) -> None:
        """Put the program that stands now behind the door."""
        program = self.programs[INGRESS]
        if INGRESS in self.taps:
            self.slots.store(self.behind(INGRESS).to_bytes(4, "little"), program)
            program = self.taps[INGRESS]
        self.slots.store(self.doors[INGRESS].to_bytes(4, "little"), program)
        for slot, kind in ((FLOOD_SLOT, FLOOD_KIND), (HOST_SLOT, HOST_KIND)):
            self._lead(slot, kind)

    def lead(self, port: int, joined: bool) -> None:
        """Let what is forwarded to a port go on at TC, or drop it here."""
        if joined:
            self._lead(port, FORWARD_KIND)
        else:
            self.slots.delete(port.to_bytes(4, "little"))

    def lead_only(self, joined: Sequence[int]) -> None:
        """The same for all ports: these are joined."""
        for port in range(self.function.spec().port_count):
            self.lead(port, port in joined)

    def _lead(self, slot: int, kind: int) -> None:
        spec = self._counters.spec
        program = edges.loaded(f"note{slot}", _note(kind, slot, spec.value_size),
                               [self._counters, self._account, self.maps["@context"]],
                               blanks=(*_halves(self.secret), self.token), kind=ProgramKind.XDP)
        with program:
            self.slots.store(slot.to_bytes(4, "little"), program)

    @property
    def token(self) -> int:
        """That of the wiring."""
        return token_of(self._versions)

    def entry(self, port: int, number: int) -> Program:
        """A frame comes out of a device, at XDP; `number` is that of what the port received."""
        return edges.loaded(f"early{port}", _entry(port, self.doors[INGRESS], number),
                            [self._counters, self._account, self.maps["@context"], self.slots], kind=ProgramKind.XDP)

    # -- revisions and ends ------------------------------------------------------------------------------------------

    def beside(self, of: BpfLoaded, versions: dict[str, int]) -> Self:  # type: ignore[override]
        """The same for the wiring beside: maps of its own and, until `configured`, no programs."""
        fresh = copy(self)
        fresh._of, fresh._versions, fresh.maps, fresh.programs = of, versions, dict(of.maps), {}
        fresh.watches, fresh.taps = {}, {}
        fresh.forget()
        fresh._own()
        return fresh

    def forget(self) -> None:
        """Unpin what is its own."""
        for pin in PINS:
            self._pins.unpin(wiring_pin(pin, self._versions))

    def rest(self) -> None:
        for program in self.programs.values():
            program.rest()
        self.maps["@context"].rest()
        if not isinstance(self._pins, Unpinned):
            self.slots.rest()

    def close(self) -> None:
        """Give back what is its own."""
        for found in (*self.programs.values(), *self.watches.values(), *self.taps.values()):
            found.close()
        for name in ("@next", "@context"):
            if name in self.maps:
                self.maps[name].close()
        self.programs = {}

    def end(self) -> None:
        """No device is met here any more."""
        self.close()
        self.forget()


_refusals: WeakKeyDictionary[type[Function], dict[bool, str]] = WeakKeyDictionary()


def why_not(kind: type[Function], soft: bool) -> str:
    """Why functions of a kind cannot meet packets at XDP, of a soft device if it is one, as far as that is seen without
    compiling or loading; empty if they can."""
    known = _refusals.setdefault(kind, {})
    if soft not in known:
        try:
            checked, _ = analyse(kind, INGRESS)
            Xdp().accepts(checked.program)
            known[soft] = SUMS if soft and sums(checked) else ""
        except CompileError as error:
            known[soft] = str(error)
    return known[soft]


def token_of(versions: dict[str, int]) -> int:
    """Tells a wiring from the one before: 1 to 0xffff."""
    return versions.get(WIRING, 0) % 0xffff + 1


def attach(program: Program, index: int, hook: Hook, namespace: NetworkNamespace | None) -> tuple[Link, Hook]:
    """Attach as the hook says; answers how.  ValueError: the device has such a program, or takes none."""
    modes = {Hook.XDP: (Hook.NATIVE, Hook.GENERIC)}.get(hook, (hook,))
    for mode in modes:
        try:
            asked = XdpMode.NATIVE if mode == Hook.NATIVE else XdpMode.GENERIC
            return Link.xdp(program, index, asked, namespace=namespace), mode
        except BpfError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ERANGE) and mode != modes[-1]:
                continue
            said = {errno.EBUSY: "it has an XDP program already", errno.EEXIST: "it has an XDP program already",
                    errno.EOPNOTSUPP: f"its driver has no XDP: say {Hook.GENERIC}",
                    errno.ERANGE: f"its MTU is too large for XDP in the driver: lower it, or say {Hook.GENERIC}"}
            if error.errno not in said:
                raise
            raise ValueError(f"device {index} cannot be met at {mode}: {said[error.errno]}") from None
    raise AssertionError


# -- programs at XDP --------------------------------------------------------------------------------------------------


@code
def _entry(port: int, slot: int, number: int) -> list[Line]:
    return [move(R6, R1), load(R7, R6, _END, 4), load(R2, R6, _DATA, 4), compute(R7, "-", R2), *_context(),
            store(R0, 0, port, 4), store(R0, 4, R7, 4), store(R0, 8, 0), store(R0, 16, 0), store(R0, 24, 16 * number),
            *edges.counted(number, length=move(R2, R7)), move(R1, R6), *tail_call(3, slot),
            Label("lost"), *edges.lost(Dropped.UNWIRED), leave(_DROP)]


@code
def _note(kind: int, port: int, room: int) -> list[Line]:
    """Write where the packet goes on: out of a port, or as a flood of what came in by the port in the context."""
    forward = kind == FORWARD_KIND
    return [move(R6, R1), *_context(), move(R9, R0), move(R1, R6), move(R2, -NOTE), call(Helper.XDP_ADJUST_META),
            jump_if(R0, "!=", 0, "lost"), load(R7, R6, _META, 4), load(R3, R6, _DATA, 4), move(R2, R7),
            compute(R2, "+", NOTE), jump_if(R2, ">", R3, "lost"), move(R2, _SECRET), store(R7, 0, R2),
            store(R7, 8, _TOKEN, 4), *([move(R2, port)] if forward else [load(R2, R9, 0, 2)]), store(R7, 10, R2, 2),
            store(R7, 12, kind, 4), *([load(R2, R9, 2, 2), store(R7, 14, R2, 2)] if kind == FLOOD_KIND else []),
            load(R2, R9, 8), store(R7, 16, R2), load(R2, R9, 16), store(R7, 24, R2),
            load(R7, R9, 24), load(R8, R9, 4, 4), *edges.value(0), jump_if(R0, "==", 0, "told"),
            jump_if(R7, ">", room - 16, "told"), compute(R0, "+", R7),
            load(R3, R0, 0), compute(R3, "-", 1), store(R0, 0, R3), load(R3, R0, 8), compute(R3, "-", R8),
            store(R0, 8, R3), Label("told"), leave(_PASS),
            Label("lost"), *edges.lost(Dropped.NOTELESS), leave(_DROP)]


def _context() -> list[Line]:
    """R0 = this CPU's context; there is one."""
    return [*edges.value(2), jump_if(R0, "==", 0, "lost")]


# -- at tcx -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Where what has a note of this token goes on: an instance's ways out of its ingress, and its drops."""

    slots: Map
    base: int
    drops: Map
    secret: int
    token: int


def entry(port: int, door: Door, count: Count, readers: Sequence[Reader], claim: Map | None = None) -> Program:
    """What `edges.entry` does, where packets may have met the function at XDP; `readers` are of the wiring that stands,
    or of that and the one before."""
    maps = [*count.maps, door.array, *([claim] if claim else [])]
    first = len(maps)
    for reader in readers:
        maps += [reader.slots, reader.drops]
    bases = tuple(reader.base for reader in readers)
    return edges.loaded(f"entry{port}", _read(port, door.slot, count.number, first, bases), maps,
                        blanks=(*_halves(readers[0].secret), *(reader.token for reader in readers)))


@code
def _read(port: int, slot: int, number: int, first: int, bases: tuple[int, ...]) -> list[Line]:
    lines: list[Line] = [
        move(R6, R1), *([map_index(R2, 3)] if first == 4 else []),
        load(R7, R6, _SKB_META, 4), load(R3, R6, _SKB_DATA, 4), move(R2, R7), compute(R2, "+", NOTE),
        jump_if(R2, ">", R3, "plain"), load(R2, R7, 0), move(R3, _SECRET), jump_if(R2, "!=", R3, "plain"),
        load(R8, R7, 8, 4), move(R2, R8), compute(R2, "&", 0xffff)]
    for place in range(len(bases)):
        lines.append(jump_if(R2, "==", (_TOKEN, _FORMER)[place], f"noted{place}"))
    lines.append(jump("plain"))
    for place, base in enumerate(bases):
        lines += [Label(f"noted{place}"), *_on(base, first + 2 * place, number, place)]
    return [*lines, Label("plain"), *edges.begin(port), *edges.counted(number), move(R1, R6), tail_call(2, slot),
            *edges.dropped(Dropped.UNWIRED)]


def _on(base: int, array: int, number: int, place: int) -> list[Line]:
    """Take the note away, and go on as it says.  R7 is where it lies, R8 its token and port."""
    words: list[Line] = []
    for word in range(4):
        words += [load(R2, R7, 16 + 4 * word, 4), store(R6, CB + 4 + 4 * word, R2, 4)]
    return [store(R7, 0, 0), compute(R8, ">>", 16), store(R6, CB, R8, 4), *words, load(R9, R7, 12, 4),
            *edges.counted(number, f"counted{place}"), move(R2, R9), compute(R2, "&", 0xffff), compute(R9, ">>", 16),
            jump_if(R2, "==", FLOOD_KIND, f"flood{place}"), jump_if(R2, "==", HOST_KIND, f"host{place}"),
            compute(R8, "+", base), move(R1, R6), *tail_call(array, R8), jump(f"unwired{place}"),
            Label(f"flood{place}"), store(R6, CLASS, R9, 4), move(R1, R6), *tail_call(array, base + FLOOD_SLOT),
            Label(f"unwired{place}"), *_ended(Dropped.UNWIRED, array + 1, place), leave(DROP),
            Label(f"host{place}"), *_ended(HANDED, array + 1, place), leave(PASS)]


def _ended(number: int, array: int, place: int) -> list[Line]:
    """Count an end in the function's own drops."""
    label = f"ended{number}/{place}"
    return [*edges.value(array), jump_if(R0, "==", 0, label), load(R2, R0, 8 * number), compute(R2, "+", 1),
            store(R0, 8 * number, R2), Label(label)]


def _halves(secret: int) -> tuple[int, int]:
    return secret & 0xffffffff, secret >> 32


__all__ = ["Early", "Reader", "attach", "entry"]
