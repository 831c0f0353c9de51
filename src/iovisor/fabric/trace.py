"""A packet's way through a network that runs, before it goes it.

    print(network.trace(frame, "lan:0"))

Hop by hop along what ports are joined to, floods into every member, each function is *rehearsed*: its own image runs on
copies of its state (see `rehearsal`).  Nothing that lives is touched, no counter, no table, no packet in flight; and
what the trace says is what the packet then does, if nothing else changes the tables before it comes.

The kernel decides what is so.  Whether a slot is wired is read from the kernel's program arrays, and flood members from
the memory the flood program reads; where the record of joins or the reference says otherwise, the trace holds a
`Disagreement`, and prints it first.

What the fabric keeps with a packet is kept here: metadata, hops, and the tail calls made, because a walk that nears the
kernel's limit goes around the recirculation device and on behind those that wait there already.  What the fabric does
at the edges is done here: what is longer than a device's MTU is dropped, and so is what a share may not send; copies
are charged to the budget as it stands now, on the CPU of the trace, and refused when it is overdrawn.  What comes to
the device of a share is taken for one of its frames, as its port sees it.

Not shown is what is not the packet's own: a device that goes down, a full backlog, what others spend of the budget
meanwhile, aggregates of 64 kB, and unfinished checksums.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..kernel.interfaces import Interface
from ..language.packet import Packet
from ..language.verdicts import DROP_KIND, FLOOD_KIND, FORWARD_KIND, HOST_KIND, KINDS, PUNT_KIND, Dropped
from ..targets.bpf import FLOOD_SLOT
from ..wire.dissection import changes
from . import edges, itinerary, shares
from .attachments import Share
from .edges import Edge
from .explanation import Line
from .instance import EARLY, EGRESS, HOOK, INGRESS, Instance
from .joins import Join, PortRef
from .rehearsal import Answer, Moment, Rehearsal, check
from .storm import Budget

MOST = 1000                     # hops of a trace
TAGS = (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True)
class Disagreement:
    """Two sources that should say the same do not: a defect in iovisor, never in the packet."""

    hop: int
    text: str


@dataclass(frozen=True)
class Hop:
    """A function that saw the packet.

    `cause` is the hop it came from (-1: it entered here) and `way` how.  `stage` is ingress, xdp (ingress, met there),
    egress, or hook (the egress at a device's hook).  `verdict` is as operators say it: `forward(outside)`, `flood`,
    `drop(DENIED)`.  `rewrites` are changes of the frame, `entries` the table entries that were read or written, each as
    text; `line` is the line of Python that returned the verdict.
    """

    number: int
    cause: int
    way: str
    at: str
    kind: str
    stage: str
    verdict: str
    reason: str
    rewrites: tuple[str, ...]
    entries: tuple[str, ...]
    line: Line | None
    arrived: bytes
    left: bytes
    metadata: bytes
    hops: int
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """Where a copy of the packet ended after a hop: `out` of a device, `dropped`, `punted`, `host`, or `flooded` to
    nobody.  `at` is the port it left by or the instance that ended it ("fabric" between functions); `text` says more.
    """

    hop: int
    what: str
    at: str
    text: str
    frame: bytes
    device: int = 0


@dataclass
class Trace:
    """What would become of a packet."""

    at: str
    frame: bytes
    hops: list[Hop] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    disagreements: list[Disagreement] = field(default_factory=list)
    complete: bool = True

    @property
    def delivered(self) -> list[End]:
        """What leaves the network, by device."""
        return [end for end in self.ends if end.what == "out"]

    @property
    def drops(self) -> dict[str, dict[str, int]]:
        """What would be counted as dropped, as `Network.drops` has it."""
        found: dict[str, dict[str, int]] = {}
        for end in self.ends:
            if end.what == "dropped":
                reasons = found.setdefault(end.at, {})
                reasons[end.text] = reasons.get(end.text, 0) + 1
        return found

    def as_document(self) -> dict[str, Any]:
        """The trace as JSON has it; frames in hexadecimal."""
        return {
            "at": self.at, "frame": self.frame.hex(), "complete": self.complete,
            "disagreements": [{"hop": found.hop, "text": found.text} for found in self.disagreements],
            "hops": [{
                "number": hop.number, "cause": hop.cause, "way": hop.way, "at": hop.at, "kind": hop.kind,
                "stage": hop.stage, "verdict": hop.verdict, "reason": hop.reason, "rewrites": list(hop.rewrites),
                "entries": list(hop.entries), "arrived": hop.arrived.hex(), "left": hop.left.hex(),
                "metadata": hop.metadata.hex(), "hops": hop.hops, "cautions": list(hop.cautions),
                "line": hop.line and {"file": hop.line.file, "number": hop.line.number, "text": hop.line.text,
                                      "function": hop.line.function}} for hop in self.hops],
            "ends": [{"hop": end.hop, "what": end.what, "at": end.at, "text": end.text, "frame": end.frame.hex(),
                      "device": end.device} for end in self.ends]}

    def __str__(self) -> str:
        return itinerary.told(self)


@dataclass(frozen=True)
class Walker:
    """A copy of the packet on its way, and what travels with it."""

    frame: bytes
    words: bytes
    hops: int
    made: int                   # tail calls
    cause: int
    way: str

    def onward(self, answer: Answer, cause: int, way: str) -> Walker:
        return replace(self, frame=answer.frame, words=answer.words, cause=cause, way=way)


class Walk:
    """Follows a packet; its result is `trace`."""

    def __init__(self, instances: Mapping[str, Instance], joins: Mapping[PortRef, Join], packet: Packet | bytes,
                 at: PortRef, budget: Budget, device: Callable[[int], Interface | None]) -> None:
        """`device` finds one as it is now."""
        frame = bytes(packet)
        check(frame)
        self._instances, self._joins, self._budget, self._device = instances, joins, budget, device
        self.trace = Trace(self._name(at), frame)
        self._rehearsals: dict[str, Rehearsal] = {}
        self._waiting: deque[tuple[str, PortRef, Walker]] = deque()
        self._at = at

    def follow(self) -> Trace:
        """The whole way."""
        self._moment = Moment()
        self._purse = self._budget.purse(self._moment.processor)
        try:
            self._enter(self._at, Walker(self.trace.frame, bytes(16), 0, 0, -1, ""))
            while self._waiting:
                stage, at, walker = self._waiting.popleft()
                if stage == EGRESS:
                    self._egress(at, walker)
                else:
                    self._cross(at, walker)
        finally:
            for rehearsal in self._rehearsals.values():
                rehearsal.close()
            self._moment.close()
        return self.trace

    # -- into functions ----------------------------------------------------------------------------------------------

    def _enter(self, at: PortRef, walker: Walker) -> None:
        """Into a function through a port, and on from there as far as tail calls go."""
        join = self._joins.get(at)
        early = walker.cause < 0 and join is not None and join.early and join.absence is None
        found = self._run(at, walker, EARLY if early else INGRESS)
        if found is None:
            return
        number, answer = found
        instance = self._instances[at.instance]
        verdict = answer.verdict
        if verdict.kind == FORWARD_KIND:
            to = PortRef(at.instance, verdict.argument)
            onward = walker.onward(answer, number, f"out of {self._name(to)}")
            join = self._joins.get(to)
            if not self._wired(instance, INGRESS, to, number, onward):
                return
            if instance.has_egress and (join is None or join.inline):
                self._egress(to, onward)
            else:
                self._cross(to, onward)
        elif verdict.kind == FLOOD_KIND:
            self._flood(at, walker.onward(answer, number, ""), number, verdict.argument)

    def _egress(self, to: PortRef, walker: Walker) -> None:
        """Through the function's egress, out of a port."""
        found = self._run(to, walker, EGRESS)
        if found is None:
            return
        number, answer = found
        verdict, instance = answer.verdict, self._instances[to.instance]
        leaving = PortRef(to.instance, verdict.argument if verdict.kind == FORWARD_KIND else FLOOD_SLOT)
        onward = walker.onward(answer, number, f"out of {self._name(leaving)}")
        if verdict.kind in (FORWARD_KIND, FLOOD_KIND) and self._wired(instance, EGRESS, leaving, number, onward):
            self._cross(leaving, onward)

    def _hook(self, to: PortRef, walker: Walker) -> None:
        """A copy, or a packet for a device that is no peer, meets the egress at the device's hook."""
        found = self._run(to, replace(walker, words=bytes(16)), HOOK)
        if found is None:
            return
        number, answer = found
        verdict, instance = answer.verdict, self._instances[to.instance]
        leaving = PortRef(to.instance, verdict.argument if verdict.kind == FORWARD_KIND else FLOOD_SLOT)
        onward = walker.onward(answer, number, f"out of {self._name(leaving)}")
        if verdict.kind in (FORWARD_KIND, FLOOD_KIND) and self._wired(instance, HOOK, leaving, number, onward):
            self._out(to, onward, number)

    def _run(self, at: PortRef, walker: Walker, stage: str) -> tuple[int, Answer] | None:
        """Rehearse a stage; note the hop, and its end if it ends there."""
        trace, number = self.trace, len(self.trace.hops)
        if number >= MOST:
            trace.complete = False
            self._waiting.clear()
            return None
        instance = self._instances[at.instance]
        if at.instance not in self._rehearsals:
            self._rehearsals[at.instance] = Rehearsal(instance, self._moment)
        answer = self._rehearsals[at.instance].run(walker.frame, at.port, walker.words, stage)
        verdict, reason = answer.verdict, ""
        if verdict.kind == DROP_KIND:
            reason = instance.function.spec().reasons.get(verdict.argument, str(verdict.argument))
        told = {DROP_KIND: f"drop({reason})", FORWARD_KIND: f"forward({self._port(at.instance, verdict.argument)})",
                PUNT_KIND: f"punt({answer.event!r})"}.get(verdict.kind, KINDS[verdict.kind])
        rewrites = () if verdict.kind == DROP_KIND else tuple(changes(walker.frame, answer.frame))
        trace.hops.append(Hop(
            number, walker.cause, walker.way, self._name(at), type(instance.function).__name__, stage, told, reason,
            rewrites, tuple(map(str, answer.explained.accesses)), answer.explained.line, walker.frame, answer.frame,
            answer.words, walker.hops, answer.cautions))
        trace.disagreements += [Disagreement(number, text) for text in answer.differences]
        if verdict.kind == DROP_KIND:
            self._end(number, "dropped", at.instance, reason, walker.frame)
        elif verdict.kind == HOST_KIND:
            self._end(number, "host", at.instance, "to the machine's own stack", answer.frame)
        elif verdict.kind == PUNT_KIND:
            self._end(number, "punted", at.instance, repr(answer.event), answer.frame)
        return number, answer

    # -- between functions -------------------------------------------------------------------------------------------

    def _cross(self, at: PortRef, walker: Walker) -> None:
        """Out of a port that is wired: a device, or the next function."""
        join, instance = self._joins[at], self._instances[at.instance]
        if join.edge is not None:
            if isinstance(join.attachment, Share):
                left = shares.leaves(walker.frame, join.attachment)
                if left is None:
                    self._end(walker.cause, "dropped", "fabric", Dropped.FOREIGN.name, walker.frame)
                    return
                walker = replace(walker, frame=left)
            if self._too_long(join.edge, walker, walker.cause):
                return
            if instance.has_egress and not join.inline:
                self._hook(at, walker)
            else:
                self._out(at, walker, walker.cause)
            return
        assert join.peer is not None
        target = self._instances[join.peer.instance]
        hops, made = walker.hops + 1, walker.made + instance.tail_calls
        if hops > edges.MOST_HOPS:
            self._end(walker.cause, "dropped", "fabric", Dropped.HOPS.name, walker.frame)
        elif made >= edges.TAIL_CALLS - target.needed:
            self._waiting.append(("", at, replace(walker, made=0)))
        else:
            self._enter(join.peer, replace(walker, hops=hops, made=made))

    def _flood(self, at: PortRef, walker: Walker, number: int, to_set: int) -> None:
        """A copy to every member, of a set or of all, but the port it came from, in the order of the flood program."""
        instance, copies = self._instances[at.instance], 0
        ports = instance.flooded_to(to_set)
        for port, (device, wire) in enumerate(instance.members_of(instance.flooded)):
            if port == at.port or not device or port not in ports:
                continue
            copies += 1
            to = PortRef(at.instance, port)
            copied = replace(walker, way=f"flooded out of {self._name(to)}", made=0)
            edge, overdrawn = self._joins[to].edge, self._purse.pay(bool(wire))
            if wire and overdrawn:
                self._end(number, "dropped", "fabric", Dropped.STORM.name, walker.frame)
            elif not wire and edge is not None and self._too_long(edge, walker, number):
                continue
            elif wire:
                self._waiting.append((EGRESS if instance.has_egress else "", to, copied))
            elif instance.has_egress:
                self._hook(to, copied)
            else:
                self._out(to, copied, number)
        if not copies:
            self._end(number, "flooded", at.instance, "to nobody: no other port is joined", walker.frame)

    def _out(self, at: PortRef, walker: Walker, number: int) -> None:
        edge = self._joins[at].edge
        index = 0 if edge is None else edge.index
        there = self._device(index)
        down = "" if there is not None and there.up else ", which is down"
        self._end(number, "out", self._name(at), f"device {index}{down}", walker.frame, index)

    def _too_long(self, edge: Edge, walker: Walker, number: int) -> bool:
        """Whether a frame is longer than a device takes, now; the outer tag does not count."""
        length = len(walker.frame) - edges.ETHERNET - (4 if walker.frame[12:14] in TAGS else 0)
        there = self._device(edge.index) if edge.mtu and length > edge.mtu else None
        if there is None or length <= there.mtu:
            return False
        self._end(number, "dropped", "fabric", Dropped.TOO_LONG.name, walker.frame)
        return True

    def _wired(self, instance: Instance, stage: str, to: PortRef, number: int, walker: Walker) -> bool:
        """Whether the kernel's slot for a port holds a program; if not, the packet ends."""
        wired = instance.behind(instance.exit(to.port, stage)) != 0
        joined = to in self._joins and self._joins[to].absence is None
        if wired != joined:
            self.trace.disagreements.append(Disagreement(number, f"the kernel has {'a' if wired else 'no'} program for "
                                                         f"{to}, which is {'not ' if wired else ''}joined"))
        if not (wired and joined):
            self._end(number, "dropped", to.instance, Dropped.UNWIRED.name, walker.frame)
            return False
        return True

    def _end(self, hop: int, what: str, at: str, text: str, frame: bytes, device: int = 0) -> None:
        self.trace.ends.append(End(hop, what, at, text, frame, device))

    def _port(self, instance: str, port: int) -> str:
        """A port as its function names it."""
        return self._instances[instance].port_name(port)

    def _name(self, at: PortRef) -> str:
        return f"{at.instance}:{self._port(at.instance, at.port)}"


__all__ = ["Disagreement", "End", "Hop", "Trace", "Walk"]
