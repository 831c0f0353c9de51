"""One function, every machine, the same answers: what holds the compiler to CPython.

    agree(Switch, traffic(seed=1, count=1000), entries=("ingress", "egress"))

The function is loaded on every target; each packet goes through all of them, the reference first.  After each packet
the verdict, the events, the bytes of every packet that lives on, and its metadata must be equal; after the
sequence, or every so many packets, so must tables, counters and drops by reason.  Nothing needs to be known of the
function.

The first difference is a `Disagreement`, which shows the packet as code, what each target answered, how the tables
differ, and a shortened sequence that still disagrees, ready to be pasted into a test.

What is made equal beforehand: the clock stands, so time and chance are sequences; the thread stays on one CPU, so
per-CPU values are one value.  What cannot be compared, and is left out by whoever uses this:

- *Which entry an LRU evicts.*  The kernel's is approximate, and per CPU: give LRUs several times the room they need.
- *Frames the kernel refuses to try*: below 14 bytes or beyond 3,500, and at TC those that say they are IP and do not
  hold its header.  They go through instances of their own on the targets that take them, so that the state of the
  others stays comparable.  (A tag hides them from the kernel: so TC sees short IP after all.)
- *What a target refuses by design*: at TC, `pop` of a frame beyond 2,048 bytes that is not IP.
- *More than one kind of metadata*: a packet carries one in the kernel.

An `Agreement` is a session: loaded once, it takes any number of sequences, and starts each from the state that `make`
left.  That is what hypothesis needs, and bulk runs.
"""
from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ..language.configuration import Config
from ..language.errors import ConfigError
from ..language.function import Function
from ..language.layout import Metadata, Record
from ..language.machine import MACHINE, Clock
from ..language.packet import Packet
from ..language.tables import ANY, Home, PythonHome, Table, TableSpec, decode
from ..language.verdicts import DROP_KIND, PUNT_KIND, Verdict
from ..targets import TARGETS, Loaded, load
from .packets import Frame, Layer, describe

if TYPE_CHECKING:
    from ..compiler.cache import Cache

SMALLEST, LARGEST = 14, 3_500           # what BPF_PROG_TEST_RUN takes, with room for what a function pushes
LEAST_AT_TC = {b"\x08\x00": 34, b"\x86\xdd": 54}
BEGINNING = 1_000_000_000_000           # nanoseconds at which the clock stands first
SHORTENING = 200                        # sequences tried to find a shorter one that disagrees
SHOWN = 8                               # differing entries of a table that are shown

Make: TypeAlias = Callable[[], Function]
State: TypeAlias = dict[str, dict[bytes, Any]]


@dataclass(frozen=True)
class Arrival:
    """A frame on its way in: through `port`, `after` nanoseconds since the one before."""

    frame: bytes
    port: int = 0
    entry: str = "ingress"
    after: int = 0
    metadata: Metadata | None = None

    def __repr__(self) -> str:
        parts = [f"bytes({describe(self.frame)})"]
        parts += [f"{name}={value!r}" for name, value, usual in (
            ("port", self.port, 0), ("entry", self.entry, "ingress"), ("after", self.after, 0),
            ("metadata", self.metadata, None)) if value != usual]
        return f"Arrival({', '.join(parts)})"


Given: TypeAlias = Arrival | bytes | Frame | Layer | tuple[bytes, int]


class Disagreement(AssertionError):
    """Two targets, two answers.  `arrivals` is the shortest sequence found that shows it."""

    def __init__(self, message: str, arrivals: Sequence[Arrival] = (), index: int = -1) -> None:
        super().__init__(message)
        self.arrivals, self.index = list(arrivals), index


def available() -> tuple[str, ...]:
    """The targets usable here: all of them by root with LLVM, only the reference on a bare machine."""
    if importlib.util.find_spec("llvmlite") is None:
        return ("python",)
    try:
        from ..kernel.capabilities import Capability, missing
        denied = missing((Capability.BPF, Capability.NET_ADMIN))
    except OSError:
        return ("python", "native")
    return ("python", "native") if denied else TARGETS


def agree(make: Make, packets: Iterable[Given], targets: Sequence[str] | None = None,
          entries: Sequence[str] = ("ingress",), *, every: int = 0, metadata: type[Metadata] | None = None,
          cache: Cache | None = None, level: int = 2, cpu: str = "v4") -> int:
    """Run a sequence on every target; answers how many packets.  See `Agreement`."""
    with Agreement(make, targets, entries, every=every, metadata=metadata, cache=cache, level=level, cpu=cpu) as found:
        return found.run(packets)


@dataclass
class Lane:
    """A function on one target, the state it began with, and the drops counted before this sequence."""

    loaded: Loaded
    beginning: State
    drops: dict[int, int]

    @property
    def target(self) -> str:
        return self.loaded.target

    def tables(self) -> State:
        return {name: _entries(t.spec, t.home) for name, t in self.loaded.function.tables.items()}

    def dropped(self) -> dict[int, int]:
        """Drops by reason since the sequence began."""
        now = self.loaded.drops
        return {r: n for r in now if (n := now[r] - self.drops.get(r, 0))}

    def reset(self) -> None:
        for name, found in self.loaded.function.tables.items():
            _restore(found, self.beginning[name])
        self.drops = self.loaded.drops


class Agreement:
    """A function loaded on several targets, and a way to run sequences through all of them.

    `make` answers a fresh instance: a class, or anything callable.  `every` compares tables after that many packets
    too.  `metadata` puts zeroed metadata of that kind on every packet that brings none.
    """

    def __init__(self, make: Make, targets: Sequence[str] | None = None, entries: Sequence[str] = ("ingress",), *,
                 every: int = 0, metadata: type[Metadata] | None = None, cache: Cache | None = None, level: int = 2,
                 cpu: str = "v4") -> None:
        wanted = tuple(available() if targets is None else targets)
        self.make, self.entries, self.every, self.metadata = make, tuple(entries), every, metadata
        self.targets = ("python", *(t for t in wanted if t != "python"))
        self._cache, self._level, self._cpu = cache, level, cpu
        self._processor = sorted(os.sched_getaffinity(0))[os.getpid() % len(os.sched_getaffinity(0))]
        self._lanes: dict[tuple[str, ...], list[Lane]] = {}
        self._undo = contextlib.ExitStack()
        self._dirty = False
        with self._standing():
            self._lanes[self.targets] = self._open(self.targets)

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, packets: Iterable[Given]) -> int:
        """Run a sequence from the beginning; answers how many packets.  Raises `Disagreement`."""
        arrivals: list[Arrival] = []
        try:
            return self._run(packets, arrivals)
        except Disagreement as found:
            raise self._explained(found, arrivals) from None

    def _run(self, packets: Iterable[Given], seen: list[Arrival] | None = None) -> int:
        count = -1
        with self._standing():
            self._reset()
            self._dirty = True
            for count, given in enumerate(packets):
                arrival = self._arrival(given)
                if seen is not None:
                    seen.append(arrival)
                if arrival.after:
                    Clock.advance(arrival.after)
                lanes = self._lanes_for(arrival)
                answers = self._answers(lanes, arrival)
                if any(answer != answers[0] for answer in answers[1:]):
                    raise Disagreement(_told(lanes, answers, arrival, count), index=count)
                if self.every and (count + 1) % self.every == 0:
                    self._compare(count)
            self._compare(count)
        return count + 1

    def _arrival(self, given: Given) -> Arrival:
        arrival = given if isinstance(given, Arrival) else \
            Arrival(*given) if isinstance(given, tuple) else Arrival(bytes(given))
        if self.metadata is not None and arrival.metadata is None:
            arrival = replace(arrival, metadata=self.metadata())
        return arrival

    def _answers(self, lanes: list[Lane], arrival: Arrival) -> list[Answer]:
        """What each target makes of it.  Each begins with the same state of chance."""
        before = MACHINE.chance
        answers = [_answer(lanes[0].loaded, arrival)]
        after = MACHINE.chance
        for lane in lanes[1:]:
            if after != before:
                MACHINE.chance = before
                Clock.advance(0)
            answers.append(_answer(lane.loaded, arrival))
        if after != before:
            MACHINE.chance = after
            Clock.advance(0)
        return answers

    def _compare(self, index: int) -> None:
        """Tables and drops, of all lanes."""
        for lanes in self._lanes.values():
            for what in ("tables", "dropped"):
                reference = getattr(lanes[0], what)()
                for lane in lanes[1:]:
                    found = getattr(lane, what)()
                    if found != reference:
                        shown = _differing(lanes[0], lane, reference, found) if what == "tables" else \
                            [f"  drops: {lanes[0].target} {reference}", f"  drops: {lane.target} {found}"]
                        lines = [f"after packet {index}, {lane.target} is in another state than {lanes[0].target}"]
                        raise Disagreement("\n".join(lines + shown), index=index)

    # -- the lanes ---------------------------------------------------------------------------------------------------

    def _lanes_for(self, arrival: Arrival) -> list[Lane]:
        frame = arrival.frame
        if SMALLEST <= len(frame) <= LARGEST:
            targets = self.targets
            if len(frame) < 54 and len(frame) < LEAST_AT_TC.get(frame[12:14], 0):
                targets = tuple(t for t in targets if t != "tc")
        else:
            targets = tuple(t for t in self.targets if t in ("python", "native"))
        if targets not in self._lanes:
            moment = bytes(MACHINE)
            Clock.stand(BEGINNING)
            self._lanes[targets] = self._open(targets)
            MACHINE._buffer[:] = moment
            Clock.advance(0)
        return self._lanes[targets]

    def _open(self, targets: Sequence[str]) -> list[Lane]:
        lanes = []
        for target in targets:
            loaded = self._undo.enter_context(load(self.make(), target, self.entries, cache=self._cache,
                                                   level=self._level, cpu=self._cpu))
            lanes.append(Lane(loaded, {}, loaded.drops))
            lanes[-1].beginning = lanes[-1].tables()
        return lanes

    def _reset(self) -> None:
        if self._dirty:
            for lanes in self._lanes.values():
                for lane in lanes:
                    lane.reset()

    @contextlib.contextmanager
    def _standing(self) -> Iterator[None]:
        """The clock stands and this thread stays where it is; both are as before afterwards."""
        before = bytes(MACHINE)
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._processor})
        Clock.stand(BEGINNING)
        try:
            yield
        finally:
            MACHINE._buffer[:] = before
            Clock.advance(0)
            os.sched_setaffinity(0, allowed)

    # -- explaining --------------------------------------------------------------------------------------------------

    def _explained(self, found: Disagreement, arrivals: list[Arrival]) -> Disagreement:
        """The same with a short sequence that still shows it."""
        short, last = self._shorten(arrivals, found)
        body = "".join(f"\n        {arrival!r}," for arrival in short)
        entries = "" if self.entries == ("ingress",) else f", entries={self.entries!r}"
        kind = "" if self.metadata is None else f", metadata={self.metadata.__name__}"
        made = _made(self._lanes[self.targets][0].loaded.function)
        again = f"    from iovisor.testing import Arrival, agree\n    from iovisor.testing.packets import *\n\n" \
                f"    agree({made}, [{body}\n    ], targets={self.targets!r}{entries}{kind})"
        return Disagreement(f"{last}\n\nthis sequence shows it:\n\n{again}", short, found.index)

    def _shorten(self, arrivals: list[Arrival], found: Disagreement) -> tuple[list[Arrival], Disagreement]:
        """Leave packets out, in ever smaller pieces, while the rest disagrees."""
        best, last, left = arrivals, found, SHORTENING

        def fails(candidate: list[Arrival]) -> bool:
            nonlocal best, last, left
            left -= 1
            try:
                self._run(candidate)
            except Disagreement as again:
                best, last = candidate[:again.index + 1], again
                return True
            return False

        if len(arrivals) > 1 and not fails(arrivals[-1:]):
            piece = len(best) // 2
            while piece and left > 0:
                start = 0
                while start < len(best) and left > 0:
                    if len(best) <= piece or not fails(best[:start] + best[start + piece:]):
                        start += piece
                piece //= 2
        return best, last

    # -- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take the functions from their machines."""
        self._undo.close()
        self._lanes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _made(function: Function) -> str:
    """Code that makes such an instance."""
    name, values = type(function).__name__, _plain(function.config)
    return f"lambda: {name}({', '.join(f'{key}={value!r}' for key, value in values.items())})" if values else name


def _plain(value: Any) -> Any:
    """A configuration as its author would write it, without what is usual."""
    if isinstance(value, Config):
        try:
            usual = vars(type(value)())
        except ConfigError:
            usual = {}
        return {k: _plain(v) for k, v in vars(value).items() if k not in usual or usual[k] != v}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.name.lower() if isinstance(value, Enum) else value


# -- answers ---------------------------------------------------------------------------------------------------------

#: A verdict's code, the event's bytes, the wire's bytes and the metadata's; None where there is nothing to compare.
#: Then what was told on the way.
Answer: TypeAlias = tuple[int, bytes | None, bytes | None, bytes | None, tuple[Record, ...]]


def _answer(loaded: Loaded, arrival: Arrival) -> Answer:
    packet = Packet(arrival.frame, arrival.port)
    given = arrival.metadata
    if given is not None:
        packet.metadata[type(given)] = type(given).decode(bytes(given))
    verdict = loaded.run(packet, arrival.entry)
    if verdict.kind == DROP_KIND:
        return verdict.code, None, None, None, tuple(packet.told)
    event = bytes(verdict.event) if verdict.kind == PUNT_KIND and verdict.event is not None else None
    metadata = None if given is None else bytes(packet.metadata[type(given)])
    return verdict.code, event, bytes(packet), metadata, tuple(packet.told)


def _told(lanes: list[Lane], answers: list[Answer], arrival: Arrival, index: int) -> str:
    """The packet, and each target's answer."""
    kind = type(lanes[0].loaded.function).__name__
    lines = [f"packet {index} of {kind}.{arrival.entry}, through port {arrival.port}:", f"  {describe(arrival.frame)}",
             f"  {arrival.frame.hex()}", ""]
    reference = answers[0]
    for lane, (code, event, wire, metadata, told) in zip(lanes, answers, strict=True):
        words = [repr(Verdict(code >> 16, code & 0xffff, _event(lane, code, event)))]
        if wire is not None and wire != arrival.frame:
            words.append("as it came in" if wire == arrival.frame else describe(wire))
        if metadata is not None and arrival.metadata is not None:
            words.append(repr(type(arrival.metadata).decode(metadata)))
        words += [f"tells {event!r}" for event in told]
        lines.append(f"  {lane.target:7}" + " → ".join(words))
        if wire is not None and reference[2] is not None and wire != reference[2]:
            at = next((i for i, (a, b) in enumerate(zip(wire, reference[2], strict=False)) if a != b),
                      min(len(wire), len(reference[2])))
            lines.append(f"          differs from byte {at} on: {wire[at:at + 16].hex(' ')} instead of "
                         f"{reference[2][at:at + 16].hex(' ')}; {len(wire)} bytes instead of {len(reference[2])}")
    return "\n".join(lines)


def _event(lane: Lane, code: int, event: bytes | None) -> Record | None:
    events = lane.loaded.function.spec().events
    if event is None or code & 0xffff >= len(events) or len(event) < events[code & 0xffff].size:
        return None
    return events[code & 0xffff].decode(event)


# -- tables ----------------------------------------------------------------------------------------------------------


def _entries(spec: TableSpec, home: Home) -> dict[bytes, Any]:
    """What a table holds, as bytes; of an array what is not zero, of a nested table the tables."""
    if spec.inner is not None:
        found: dict[bytes, Any] = {}
        for key, _ in home.items():
            nested = home.inner(key)
            if nested is not None:
                found[key] = _entries(spec.inner, nested)
                _let_go(nested)
        return found
    if spec.kind in ("array", "counter"):
        if isinstance(home, PythonHome):
            return {key: bytes(value) for key, value in home.entries.items() if any(value)}
        return {bytes(key): bytes(value) for key, value in home.items() if any(value)}
    return {bytes(key): bytes(value) for key, value in home.items()}


def _restore(table: Table[Any, Any], beginning: dict[bytes, Any]) -> None:
    """Put a table back, writing only what differs."""
    spec, home = table.spec, table.home
    present = _entries(spec, home)
    if present == beginning:
        return
    for key in present.keys() - beginning.keys():
        if spec.kind in ("array", "counter"):
            home.update(key, bytes(spec.stored_size), ANY)
        else:
            home.delete(key)
    for key, value in beginning.items():
        if present.get(key) == value:
            continue
        if spec.inner is None:
            home.update(key, value, ANY)
            continue
        nested = home.create(key, spec.inner)
        for inner_key, inner_value in value.items():
            nested.update(inner_key, inner_value, ANY)
        _let_go(nested)
    table._wrote()


def _let_go(home: Home) -> None:
    """A nested table of the kernel is a descriptor."""
    if hasattr(home, "map") and hasattr(home, "close"):
        home.close()


def _differing(one: Lane, other: Lane, left: State, right: State) -> list[str]:
    """The entries that differ, as their types show them."""
    lines = []
    for name, found in one.loaded.function.tables.items():
        differing = [key for key in {**left[name], **right[name]} if left[name].get(key) != right[name].get(key)]
        if differing:
            lines.append(f"  {name}: {len(differing)} entries differ")
        for key in differing[:SHOWN]:
            lines.append(f"    {found._unkey(key)!r}")
            for lane, state in ((one, left), (other, right)):
                lines.append(f"      {lane.target:7}{_value(found.spec, state[name].get(key))}")
    return lines


def _value(spec: TableSpec, value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, dict):
        return repr({key.hex(): inner.hex() for key, inner in value.items()})
    text = repr(decode(spec.value, value))
    if spec.ttl:
        text += f" written at {int.from_bytes(value[-8:], 'little')}"
    return text


__all__ = ["Agreement", "Arrival", "Disagreement", "agree", "available"]
