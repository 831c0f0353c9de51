"""Watching packets go by: what a function did with each, and the packet as it left, while the network carries traffic.

    with network.watch(Filter(instance="wall", verdict="drop", destination="10.0.0.0/8")) as watch:
        watch.wait(1.0)
        for seen in watch:
            print(seen)

*Free when off.*  At the end of every program stands one branch that the frozen configuration decides, so the verifier
takes it out.  A watch loads the instance's programs again with the branch and puts them behind its doors, one slot
write each, hitless as any reconfiguration.  The branch is a tail call, by kind of verdict, into programs assembled for
this watch: they look at the filter, write a record into the watch's ring, and end the packet as the function would
have.  A verdict the filter leaves out has an empty slot, and the function goes on as if nobody watched.

The ring is bounded.  What does not fit is not recorded, counted in `lost`, and goes its way: a watch that is not read
costs a network nothing but time.  `close` brings the former programs back; so does the death of the process, for the
kernel empties program arrays nobody holds.

Any number of watches look at an instance at a time; so they do at what a revision puts in its place.  Instances added
later are not watched.  Records of one CPU are in order.
"""
from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ..kernel import Map, MapKind, MapSpec
from ..kernel.ring import RingBuffer, ring_spec
from ..language.verdicts import DROP_KIND, FORWARD_KIND, KINDS
from ..wire.dissection import dissect
from . import grace, recorders
from .filters import Filter
from .instance import INGRESS, Instance
from .joins import PortRef
from .recorders import ARRIVAL, HEAD, Watcher

SNAP = 128                      # bytes of a packet that are recorded
ROOM = 1 << 20                  # bytes of the ring
LARGEST = 1 << 16
_HEAD = struct.Struct("<QIIHHHHHBBI")


@dataclass(frozen=True)
class Seen:
    """A packet that a function has dealt with: `frame` is its beginning as it left, the outer tag in its place, of
    `length` bytes in all (without the tag).

    `kind` is drop, host, forward, flood, punt, or "arrival" for one that is about to be dealt with; `reason` of a drop,
    `out` of a forwarded packet.  `time` in nanoseconds since the epoch.
    """

    time: int
    instance: str
    stage: str
    kind: str
    at: str
    out: str
    reason: str
    hops: int
    length: int
    frame: bytes
    processor: int
    arrived_by: int
    left_by: int

    @property
    def verdict(self) -> str:
        """As a trace has it."""
        return {"drop": f"drop({self.reason})", "forward": f"forward({self.out.partition(':')[2]})"}.get(
            self.kind, self.kind)

    def __str__(self) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(self.time // 1_000_000_000))
        stage = "" if self.stage == INGRESS else f" {self.stage}"
        return f"{moment}.{self.time // 1000 % 1_000_000:06} {self.at}{stage} {self.verdict}  {dissect(self.frame)}, " \
               f"{self.length} bytes"


class Watch:
    """Open from its making to `close`; made by `Network.watch`."""

    def __init__(self, instances: Iterable[Instance], inline: Callable[[Instance], list[int]], wanted: Filter,
                 port: int, snap: int, room: int, arrivals: bool = False) -> None:
        if not 16 <= snap <= LARGEST:
            raise ValueError(f"a watch records 16 to {LARGEST} bytes of a packet, not {snap}")
        self.filter, self.snap, self._port, self._inline = wanted, snap, port, inline
        self._arrivals = arrivals
        self._final: int | None = None                      # what was lost, once it is closed
        self._opened: list[tuple[Instance, Watcher]] = []
        self._whose: list[tuple[Instance, str]] = []
        self._epoch = time.time_ns() - time.monotonic_ns()
        with ExitStack() as undo:
            self._ring_map = undo.enter_context(Map.create(ring_spec("seen", room)))
            self._lost = undo.enter_context(Map.create(MapSpec("unseen", MapKind.PER_CPU_ARRAY, 4, 8, 1)))
            self._ring = undo.enter_context(RingBuffer(self._ring_map))
            undo.callback(self._stop)
            for instance in instances:
                self._start(instance)
            self._undo = undo.pop_all()

    # -- the kernel's side ------------------------------------------------------------------------------------------

    def _start(self, instance: Instance) -> None:
        """Let an instance's programs show what they do to this watch, too."""
        kinds, reason = self._kinds(instance)
        if not kinds:
            return
        who = {}
        for stage in instance.loaded.stages:
            who[stage] = len(self._whose)
            self._whose.append((instance, stage))
        watcher = Watcher(self._ring_map, self._lost, who, self.snap, self._port, reason, self.filter, frozenset(kinds),
                          self._arrivals)
        instance.watchers.append(watcher)
        self._opened.append((instance, watcher))
        self._rearm(instance)

    def _rearm(self, instance: Instance) -> None:
        """Let what stands behind the functions, and in their doors, be what the watchers of the instance want."""
        before = bool(instance.loaded.watches)
        gone = recorders.arm(instance)
        instance.wake()
        if bool(instance.loaded.watches) != before:             # with the branch if somebody watches, without it if not
            for one in instance.both:
                one.configured()
        instance.settle(self._inline(instance))
        instance.rest()
        if gone:
            grace.wait()
            for found in gone:
                found.close()

    def _kinds(self, instance: Instance) -> tuple[list[int], int]:
        """The verdicts that are recorded, and the number of the reason that is, or -1."""
        wanted = self.filter.verdict
        if self.filter.reason is None:
            return [KINDS.index(wanted)] if wanted else list(range(len(KINDS))), -1
        numbers = {name: number for number, name in instance.function.spec().reasons.items()}
        return ([DROP_KIND], numbers[self.filter.reason]) if self.filter.reason in numbers else ([], -1)

    def _stop(self) -> None:
        """Let the programs show this watch nothing more."""
        for instance, watcher in self._opened:
            if watcher in instance.watchers:
                instance.watchers.remove(watcher)
                if not instance.closed:
                    self._rearm(instance)
        self._opened.clear()

    # -- reading ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Seen]:
        """What has been recorded since the last look; ends when there is nothing more now."""
        return map(self._seen, self._ring)

    async def __aiter__(self) -> AsyncIterator[Seen]:
        """What is recorded, as it comes, until the watch is closed."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        number = self._ring.fileno()
        loop.add_reader(number, ready.set)
        try:
            while self._opened:
                ready.clear()
                for seen in self:
                    yield seen
                if self._opened and not self._ring.pending:
                    await asyncio.wait_for(ready.wait(), None)
        finally:
            loop.remove_reader(number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until something has been recorded; whether it has.  None waits for ever."""
        return self._ring.pending > 0 or self._ring.wait(seconds)

    @property
    def lost(self) -> int:
        """Packets that matched and found no room in the ring; also when it is closed."""
        if self._final is not None:
            return self._final
        return sum(int.from_bytes(value, "little") for value in self._lost.lookup_per_cpu(bytes(4)) or [])

    def _seen(self, record: bytes) -> Seen:
        moment, length, captured, port, argument, tci, tpid, who, kind, hops, processor = _HEAD.unpack_from(record)
        instance, stage = self._whose[who]
        frame = record[HEAD:HEAD + captured]
        if tpid:
            frame = frame[:12] + tpid.to_bytes(2, "little") + tci.to_bytes(2, "big") + frame[12:]
        name, out, reason = instance.name, "", ""
        if kind == FORWARD_KIND:
            out = f"{name}:{instance.port_name(argument)}"
        elif kind == DROP_KIND:
            reason = instance.function.spec().reasons.get(argument, str(argument))
        return Seen(moment + self._epoch, name, stage, "arrival" if kind == ARRIVAL else KINDS[kind],
                    f"{name}:{instance.port_name(port)}", out, reason, hops, length, frame, processor, port, argument)

    # -- ending -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Watch no more; the former programs run again.  What was recorded can still be read."""
        self._stop()

    def close(self) -> None:
        """Watch no more, and let go of what was recorded."""
        if self._final is None:
            self._stop()
            self._final = self.lost
            self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def instances_of(wanted: Filter, port: PortRef | None, instances: dict[str, Instance]) -> list[Instance]:
    """Those a filter speaks of; ValueError for names that are not there."""
    name = wanted.instance or (port.instance if port is not None else None)
    if name is None:
        return list(instances.values())
    if name not in instances:
        raise ValueError(f"there is no instance {name!r}; instances are {', '.join(instances) or 'none'}")
    if port is not None and port.instance != name:
        raise ValueError(f"the port {port} is none of {name}")
    return [instances[name]]


__all__ = ["ROOM", "SNAP", "Seen", "Watch", "instances_of"]
