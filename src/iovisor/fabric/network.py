"""A network on one host: functions, links between their ports, devices at the edges.

    with Network("shop", namespace=namespace) as net:
        net.add("lan", Switch())
        net.add("wall", Acl(default="accept"))
        net.link("lan:0", "wall:inside")
        net.attach("lan:1", Edge(5001))
        net.attach("wall:outside", Edge(5002))

Nothing here compiles after the first function of a kind, and nothing that runs is touched by what is added.  A join is
complete, behind the packets' backs, before the slot that leads to it is written; the hook of a device is attached last.
So a packet finds all of a join or nothing, and nothing means a counted drop.

`insert` puts a two-port function on a link that carries traffic: its own two ways out stand before the link's two
ends are turned to it, one slot write each; a packet that has passed an end goes the way it was sent.

Clones for a neighbouring *function* cannot be made in the middle of a walk: they go once around a device of the network
(its recirculation device) and begin a walk of their own, their hops counted on.
"""
from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ..compiler.cache import Cache
from ..kernel import (
    Direction,
    Link,
    Map,
    MapKind,
    MapSpec,
    Netlink,
    NetworkNamespace,
    Program,
    interfaces,
    possible_cpus,
    rcu,
)
from ..language.function import Function
from ..language.verdicts import Dropped
from . import edges
from .edges import Count, Edge
from .instance import HOOK, INGRESS, Instance

COUNTERS = 4096
WIRES = 4096
AGAIN = "again0"


@dataclass(frozen=True)
class PortRef:
    """A port of an instance: `lan:0`, `wall:inside`."""

    instance: str
    port: int

    def __str__(self) -> str:
        return f"{self.instance}:{self.port}"


@dataclass(frozen=True)
class Traffic:
    """Packets and bytes."""

    packets: int
    bytes: int


@dataclass
class _Join:
    """What a port is joined to, and everything that was made for it."""

    edge: Edge | None = None
    peer: PortRef | None = None
    wire: int = 0
    received: int = -1                                      # indexes of counters
    sent: int = -1
    programs: list[Program] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


class Network:
    """Functions joined port to port; `close` undoes everything."""

    def __init__(self, name: str, *, namespace: NetworkNamespace | None = None, cache: Cache | None = None) -> None:
        self.name, self.namespace, self.cache = name, namespace, cache
        self.instances: dict[str, Instance] = {}
        self.joins: dict[PortRef, _Join] = {}
        self._again: int = 0
        self._again_link: Link | None = None
        self._undo = ExitStack()
        create = self._undo.enter_context
        self._counts = create(Map.create(MapSpec("counts", MapKind.PER_CPU_ARRAY, 4, 16, COUNTERS)))
        self._drops = create(Map.create(MapSpec("lost", MapKind.PER_CPU_ARRAY, 4, 8, 256)))
        self._wires = create(Map.create(MapSpec("wires", MapKind.PROGRAM_ARRAY, 4, 4, WIRES)))
        self._passed = create(edges.passed())
        self._free_counters = iter(range(1, COUNTERS))
        self._free_wires = itertools.count(1)
        self._returned: list[int] = []

    # -- building ---------------------------------------------------------------------------------------------------

    def add(self, name: str, function: Function) -> Instance:
        """Put a function into the network; nothing reaches it before it is linked."""
        if name in self.instances:
            raise ValueError(f"{self.name} has an instance {name!r} already")
        instance = self.instances[name] = Instance(name, function, self.cache)
        self._tell_flood(instance)
        return instance

    def remove(self, name: str) -> None:
        """Take a function out; its ports must be free."""
        joined = [str(p) for p in self.joins if p.instance == name]
        if joined:
            raise ValueError(f"{name} is still joined at {', '.join(joined)}")
        self.instances.pop(name).close()

    def attach(self, port: str | PortRef, edge: Edge) -> None:
        """Join a port to a device."""
        at = self._free(port)
        instance, join = self.instances[at.instance], _Join(edge, received=self._counter(), sent=self._counter())
        with ExitStack() as made, rcu.expedited():
            output = made.enter_context(edges.output(edge, self._count(join.sent)))
            inline = edge.peer or not instance.has_egress
            instance.lead(at.port, output, self._passed, inline)
            if instance.has_egress:
                with edges.leaving(at.port, instance.roots[HOOK]) as leaving:
                    join.links.append(self._tcx(leaving, edge.index, Direction.EGRESS))
            instance.member(at.port, edge.index)
            self._tell_flood(instance, at.port)
            with edges.entry(at.port, instance.roots[INGRESS], self._count(join.received)) as entry:
                join.links.append(self._tcx(entry, edge.index, Direction.INGRESS))
        self.joins[at] = join

    def detach(self, port: str | PortRef) -> None:
        """The opposite of `attach`: nothing comes in from here on, what wants out is dropped."""
        at = self._ref(port)
        join = self.joins[at]
        if join.edge is None:
            raise ValueError(f"{at} is linked to {join.peer}, not attached to a device")
        self._part(at)

    def link(self, a: str | PortRef, b: str | PortRef) -> None:
        """Join two ports, of one function or of two."""
        left, right = self._free(a), self._free(b)
        if left == right:
            raise ValueError(f"{left} cannot be linked to itself")
        self._turn(left, right)
        self._turn(right, left)

    def unlink(self, port: str | PortRef) -> None:
        """Part a link, given either of its ends."""
        at = self._ref(port)
        peer = self.joins[at].peer
        if peer is None:
            raise ValueError(f"{at} is attached to a device, not linked")
        self._part(at)
        self._part(peer)

    def insert(self, link: str | PortRef, towards: str, away: str) -> None:
        """Put a two-port function on a link: `towards` is its port that faces the given end."""
        near = self._ref(link)
        far = self.joins[near].peer if near in self.joins else None
        if far is None:
            raise ValueError(f"{near} is not an end of a link")
        inner, outer = self._free(towards), self._free(away)
        self._turn(inner, near)
        self._turn(outer, far)
        self._turn(near, inner)
        self._turn(far, outer)

    def take_out(self, towards: str, away: str) -> None:
        """The opposite of `insert`: the two neighbours are linked to each other again."""
        inner, outer = self._ref(towards), self._ref(away)
        near, far = self.joins[inner].peer, self.joins[outer].peer
        if near is None or far is None:
            raise ValueError(f"{inner} and {outer} are not both linked")
        self._turn(near, far)
        self._turn(far, near)
        self._part(inner)
        self._part(outer)

    def reconfigure(self, name: str, **values: Any) -> None:
        """Change a function's configuration: tables by difference, programs swapped by one slot write each."""
        instance = self.instances[name]
        instance.function.reconfigure(**values)
        instance.loaded.configured()
        for at, join in self.joins.items():
            if at.instance == name and instance.has_egress and (join.edge is None or join.edge.peer):
                slot = at.port.to_bytes(4, "little")
                instance.loaded.nexts[INGRESS].store(slot, instance.loaded.programs["egress"])
        instance.settle()

    # -- looking ----------------------------------------------------------------------------------------------------

    def traffic(self, port: str | PortRef) -> tuple[Traffic, Traffic]:
        """What came into a port, from its device or its peer, and what went out of it."""
        at = self._ref(port)
        join = self.joins[at]
        received = self.joins[join.peer].sent if join.peer is not None else join.received
        return self._read(received), self._read(join.sent)

    @property
    def drops(self) -> dict[str, dict[str, int]]:
        """Drops by instance and reason; those of the fabric itself under the network's name."""
        found = {name: instance.drops for name, instance in self.instances.items()}
        own = {}
        for reason in Dropped:
            values = self._drops.lookup_per_cpu(int(reason).to_bytes(4, "little")) or []
            if count := sum(int.from_bytes(v, "little") for v in values):
                own[reason.name] = count
        return {name: drops for name, drops in {**found, self.name: own}.items() if drops}

    # -- parts ------------------------------------------------------------------------------------------------------

    def _turn(self, at: PortRef, to: PortRef) -> None:
        """Make what leaves `at` enter `to`: one slot write; what was made before for `at` is let go after it."""
        instance, target = self.instances[at.instance], self.instances[to.instance]
        old = self.joins.get(at)
        join = _Join(None, to, old.wire if old else next(self._free_wires), sent=old.sent if old else self._counter())
        with edges.hop(to.port, target.roots[INGRESS], self._count(join.sent)) as hop, rcu.expedited():
            instance.lead(at.port, hop)
            onward = instance.loaded.programs["egress"] if instance.has_egress else None
            self._wire(join.wire, at, hop, onward is not None)
            instance.member(at.port, self._recirculation(), join.wire)
            self._tell_flood(instance, at.port)
        self.joins[at] = join

    def _wire(self, wire: int, at: PortRef, hop: Program, egress: bool) -> None:
        """Where a clone for `at` begins its walk: the function's egress if it has one, else the next function."""
        slot = wire.to_bytes(4, "little")
        if egress:
            root = self.instances[at.instance].roots["egress"]
            with edges.hop(at.port, root, self._count(0)) as through:
                self._wires.store(slot, through)
        else:
            self._wires.store(slot, hop)

    def _part(self, at: PortRef) -> None:
        join, instance = self.joins.pop(at), self.instances[at.instance]
        with rcu.expedited():
            for link in join.links:
                link.close()
            instance.member(at.port, 0)
            instance.lead(at.port, None)
            if join.wire:
                self._wires.delete(join.wire.to_bytes(4, "little"))
        self._returned += [i for i in (join.received, join.sent) if i > 0]

    def _recirculation(self) -> int:
        """The device clones for functions go around; made when the first link is."""
        if not self._again:
            self._again = 0x40000000 + (os.getpid() & 0xffff) * 64 + (id(self) >> 4) % 64
            with Netlink(self.namespace) as netlink:
                netlink.submit(interfaces.veth(AGAIN, AGAIN + "p", index=self._again, up=True))
                netlink.submit(interfaces.change(AGAIN + "p", up=True))
            self._undo.callback(self._forget_recirculation)
            with edges.again(self._wires, self._count(0)) as again, rcu.expedited():
                self._again_link = self._tcx(again, self._again, Direction.INGRESS)
        return self._again

    def _forget_recirculation(self) -> None:
        if self._again_link is not None:
            self._again_link.close()
        with Netlink(self.namespace) as netlink:
            netlink.submit(interfaces.delete(AGAIN))

    def _tell_flood(self, instance: Instance, port: int = 0) -> None:
        """The flood program walks the ports up to the highest that was ever joined."""
        highest = max([port, *(p.port for p in self.joins if p.instance == instance.name)])
        with edges.flood(instance.members, highest + 1, self._count(0)) as flood:
            instance.flood_by(flood)

    def _tcx(self, program: Program, index: int, direction: Direction) -> Link:
        return Link.tcx(program, index, direction, namespace=self.namespace)

    def _counter(self) -> int:
        index = self._returned.pop() if self._returned else next(self._free_counters)
        self._counts.update_per_cpu(index.to_bytes(4, "little"), [bytes(16)] * possible_cpus())
        return index

    def _count(self, index: int) -> Count:
        return Count(self._counts, index, self._drops)

    def _read(self, index: int) -> Traffic:
        values = self._counts.lookup_per_cpu(index.to_bytes(4, "little")) or []
        return Traffic(sum(int.from_bytes(v[:8], "little") for v in values),
                       sum(int.from_bytes(v[8:], "little") for v in values))

    def _ref(self, port: str | PortRef) -> PortRef:
        if isinstance(port, PortRef):
            return port
        name, _, number = port.partition(":")
        if name not in self.instances or not number:
            known = ", ".join(self.instances) or "none"
            raise ValueError(f"{port!r} names no port: write instance:port; instances are {known}")
        return PortRef(name, self.instances[name].port(number))

    def _free(self, port: str | PortRef) -> PortRef:
        at = self._ref(port)
        if at in self.joins:
            join = self.joins[at]
            where = f"device {join.edge.index}" if join.edge is not None else str(join.peer)
            raise ValueError(f"{at} is joined to {where} already")
        return at

    def close(self) -> None:
        """Take everything down: edges first, so that no packet meets half a network."""
        with rcu.expedited():
            for at in sorted(self.joins, key=lambda p: self.joins[p].edge is None):
                if at in self.joins:
                    self._part(at)
            for instance in self.instances.values():
                instance.close()
            self.instances.clear()
            self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
