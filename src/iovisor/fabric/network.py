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

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ..compiler.cache import Cache
from ..kernel import Direction, Link, NetworkNamespace, Program, rcu
from ..language.function import Function
from ..language.packet import Packet
from . import edges, grace, recirculation, upgrade
from .counters import Counters, Traffic
from .edges import Crossing, Edge
from .images import Images
from .instance import EGRESS, HOOK, INGRESS, Instance
from .pins import Place, Unpinned, found, named, plain, unplain
from .recirculation import Recirculation
from .slowpath import Served, SlowPath, finished

FABRIC = "fabric"


@dataclass(frozen=True)
class PortRef:
    """A port of an instance: `lan:0`, `wall:inside`."""

    instance: str
    port: int

    def __str__(self) -> str:
        return f"{self.instance}:{self.port}"


@dataclass
class _Join:
    """What a port is joined to, and everything that was made for it."""

    edge: Edge | None = None
    peer: PortRef | None = None
    wire: int = 0
    received: int = -1                                      # numbers of counters
    sent: int = -1
    links: list[Link] = field(default_factory=list)


class Network:
    """Functions joined port to port; `close` undoes everything.

    With `pins`, a directory, it outlives its process: `leave` lets go of it, and so does dying; `adopt` takes it over.
    """

    def __init__(self, name: str, *, namespace: NetworkNamespace | None = None, cache: Cache | None = None,
                 pins: str | os.PathLike[str] | Place | None = None) -> None:
        self.name, self.namespace, self.cache = name, namespace, Images(cache)
        self._place = pins if isinstance(pins, Place) or pins is None else Place.make(pins)
        self._pins = self._place or Unpinned()
        self.instances: dict[str, Instance] = {}
        self.joins: dict[PortRef, _Join] = {}
        with ExitStack() as undo:
            self._counters = Counters(self._pins)
            undo.callback(self._counters.close)
            self._around = Recirculation(namespace, self._counters.count(), self._pins)
            undo.callback(self._around.close)
            self._undo = undo.pop_all()
        self._slow = SlowPath(lambda: self.instances.values(), self._again)
        if pins is not self._place:
            self._keep()

    @classmethod
    def adopt(cls, directory: str | os.PathLike[str], *, namespace: NetworkNamespace | None = None,
              cache: Cache | None = None) -> Self:
        """Take over the network whose process is gone, in the same network namespace; its traffic does not notice."""
        place = Place.open(directory)
        document = place.read()
        try:
            network = cls(document["network"], namespace=namespace, cache=cache, pins=place)
        except BaseException:
            place.release()
            raise
        try:
            network._restore(document)
        except BaseException:
            network.leave()
            raise
        return network

    # -- building ---------------------------------------------------------------------------------------------------

    def add(self, name: str, function: Function) -> Instance:
        """Put a function into the network; nothing reaches it before it is linked."""
        if name in self.instances:
            raise ValueError(f"{self.name} has an instance {name!r} already")
        if not name or ":" in name:
            raise ValueError(f"{name!r} cannot name an instance: it is empty or contains a colon")
        if name == FABRIC:
            raise ValueError(f"{name!r} is what stands between instances, and cannot name one")
        if self._place is not None:
            named(type(function))
        instance = self._put(name, function)
        self._keep()
        return instance

    def _put(self, name: str, function: Function) -> Instance:
        instance = None
        try:
            instance = Instance(name, function, self.cache, self._pins.within(name))
            self._tell_flood(instance)
        except BaseException:
            if instance is not None:
                instance.close()
            self._pins.forget(name)
            raise
        self.instances[name] = instance
        self._slow.changed()
        return instance

    def remove(self, name: str) -> None:
        """Take a function out; its ports must be free."""
        self._instance(name)
        joined = [str(p) for p in self.joins if p.instance == name]
        if joined:
            raise ValueError(f"{name} is still joined at {', '.join(joined)}")
        instance = self.instances.pop(name)
        self._keep()
        self._close(instance)

    def attach(self, port: str | PortRef, edge: Edge) -> None:
        """Join a port to a device.  KernelError ENODEV if there is none of that index."""
        at = self._free(port)
        for other, join in self.joins.items():
            if join.edge is not None and join.edge.index == edge.index and other not in self.absent:
                raise ValueError(f"device {edge.index} is attached to {other} already")
        with self._joining(at, _Join(edge)):
            self._open(at, edge)
        self._keep()

    def _open(self, at: PortRef, edge: Edge) -> None:
        """Lead packets from a device to a port and back."""
        instance, join = self.instances[at.instance], self.joins[at]
        with rcu.expedited():
            # Packets that pass the device's hook are counted there, and those in line by the program that sends them.
            inline = edge.peer or not instance.has_egress
            with (edges.output(edge, self._counters.count(join.sent if inline else 0)) as output,
                  edges.passed(self._counters.count(join.sent)) as passed):
                instance.lead(at.port, output, passed, inline)
            if instance.has_egress:
                with edges.leaving(at.port, instance.roots[HOOK]) as leaving:
                    join.links.append(self._tcx(at, leaving, edge.index, Direction.EGRESS))
            instance.member(at.port, edge.index, 0, 0 if instance.has_egress else join.sent)
            self._tell_flood(instance, at.port)
            with edges.entry(at.port, instance.roots[INGRESS], self._counters.count(join.received)) as entry:
                join.links.append(self._tcx(at, entry, edge.index, Direction.INGRESS))

    def detach(self, port: str | PortRef) -> None:
        """The opposite of `attach`: nothing comes in from here on, what wants out is dropped."""
        at, join = self._joined(port)
        if join.edge is None:
            raise ValueError(f"{at} is linked to {join.peer}, not attached to a device: use unlink")
        self._part(at)
        self._keep()

    def link(self, a: str | PortRef, b: str | PortRef) -> None:
        """Join two ports, of one function or of two."""
        left, right = self._free(a), self._free(b)
        if left == right:
            raise ValueError(f"{left} cannot be linked to itself")
        with self._joining(left, _Join(None, right)), self._joining(right, _Join(None, left)):
            self._lead(left, right)
            self._lead(right, left)
        self._keep()

    def unlink(self, port: str | PortRef) -> None:
        """Part a link, given either of its ends."""
        at, join = self._joined(port)
        if join.peer is None:
            raise ValueError(f"{at} is attached to a device, not linked: use detach")
        self._part(at, join.peer)
        self._keep()

    def insert(self, link: str | PortRef, towards: str, away: str) -> None:
        """Put a two-port function on a link: `towards` is its port that faces the given end."""
        near, join = self._joined(link)
        far = join.peer
        if far is None:
            raise ValueError(f"{near} is attached to a device, not linked")
        inner, outer = self._between(self._free(towards), self._free(away))
        with self._joining(inner, _Join(None, near)), self._joining(outer, _Join(None, far)):
            self._lead(inner, near)
            self._lead(outer, far)
            self._turn(near, inner)
            self._turn(far, outer)
        self._keep()

    def take_out(self, towards: str, away: str) -> None:
        """The opposite of `insert`: the two neighbours are linked to each other again.

        What is in the function at that moment still goes the way it was sent.
        """
        (inner, before), (outer, behind) = self._joined(towards), self._joined(away)
        self._between(inner, outer)
        near, far = before.peer, behind.peer
        if near is None or far is None:
            raise ValueError(f"{inner if near is None else outer} is attached to a device, not linked")
        if near == outer:
            raise ValueError(f"{inner} and {outer} are linked to each other")
        self._turn(near, far)
        self._turn(far, near)
        grace.wait()
        self._part(inner, outer)
        self._keep()

    def reconfigure(self, name: str, **values: Any) -> None:
        """Change a function's configuration: tables by difference, programs swapped by one slot write each.

        If the programs cannot be loaded, the former configuration stands.
        """
        instance = self._instance(name)
        former = instance.function.config
        instance.function.reconfigure(**values)
        try:
            instance.loaded.configured()
        except BaseException:
            instance.function.reconfigure(former)
            raise
        instance.settle(self._inline(instance))
        self._keep()

    def upgrade(self, name: str, kind: type[Function] | None = None) -> Function:
        """Let a new image take over: fresh programs against the same tables, swapped by one slot write each.

        With a new `kind` of function, its tables must be laid out as those that are there; ValueError shows both if
        not.  Answers the function that stands now.
        """
        instance = self._instance(name)
        if kind is not None and self._place is not None:
            named(kind)
        if kind is None:
            instance.loaded.configured()
        else:
            upgrade.take_over(instance, kind)
            self._slow.changed()
        instance.settle(self._inline(instance))
        self._keep()
        return instance.function

    # -- the slow path ----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Read punted packets and give them to the functions' handlers, until cancelled."""
        await self._slow.serve()

    def inject(self, packet: Packet | bytes, at: str | PortRef) -> None:
        """Let a packet go into a port as if it came in there; its walk is that of any other.

        It is not counted as received by the port, and a port that is joined to nothing takes it as well.
        """
        self._inject(packet, self._ref(at))

    @property
    def served(self) -> Served:
        """What the slow path has done."""
        return self._slow.served

    # -- looking ----------------------------------------------------------------------------------------------------

    def traffic(self, port: str | PortRef) -> tuple[Traffic, Traffic]:
        """What came into a port, from its device or its peer, and what went out of it, clones included."""
        _, join = self._joined(port)
        return self._counters.read(join.received), self._counters.read(join.sent)

    @property
    def drops(self) -> dict[str, dict[str, int]]:
        """Drops by instance and reason; those between functions under "fabric"."""
        found = {name: instance.drops for name, instance in self.instances.items()}
        return {name: drops for name, drops in {**found, FABRIC: self._counters.drops}.items() if drops}

    @property
    def absent(self) -> list[PortRef]:
        """Ports whose device is gone: detach them, or attach what came in its place."""
        return [at for at, join in self.joins.items() if any(link.info().interface == 0 for link in join.links)]

    # -- parts ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _joining(self, at: PortRef, join: _Join) -> Iterator[None]:
        """Note a new join, its counters and its wire; if what is done meanwhile fails, nothing of it is left."""
        self.joins[at] = join
        try:
            join.received, join.sent = self._counters.take(), self._counters.take()
            if join.peer is not None:
                join.wire = self._around.take()
            yield
        except BaseException:
            self._part(at)
            raise

    def _turn(self, at: PortRef, to: PortRef) -> None:
        """Make what leaves `at`, which is linked, enter `to`: one slot write."""
        self._lead(at, to)
        self.joins[at].peer = to

    def _lead(self, at: PortRef, to: PortRef) -> None:
        """Make what leaves `at` enter `to`; both are joined."""
        join = self.joins[at]
        instance, target, around = self.instances[at.instance], self.instances[to.instance], self._around
        crossing = Crossing(self.joins[to].received, instance.tail_calls, target.tail_calls, around.device,
                            join.wire + recirculation.MOST)
        with edges.hop(to.port, target.roots[INGRESS], self._counters.count(join.sent), crossing) as hop:
            # A clone has the egress of the function it comes from still before it.
            if instance.has_egress:
                with edges.enter(at.port, instance.roots[EGRESS], self._counters.count()) as start:
                    around.lead(join.wire, start, hop)
            else:
                around.lead(join.wire, hop, hop)
            instance.lead(at.port, hop)
        instance.member(at.port, around.device, join.wire)
        self._tell_flood(instance, at.port)

    def _part(self, *ports: PortRef) -> None:
        """Undo joins: what wants out there is dropped from here on, and counted."""
        with rcu.expedited():
            for at in ports:
                join, instance = self.joins.pop(at), self.instances[at.instance]
                for link in join.links:
                    link.close()
                if join.edge is not None:
                    for direction in Direction:
                        self._pins.unpin(f"{at} {direction.name}")
                instance.member(at.port, 0)
                instance.lead(at.port, None)
                if join.wire:
                    self._around.give(join.wire)
                self._counters.give(join.received, join.sent)

    def _again(self, packet: Packet, instance: Instance) -> None:
        """What a handler answered goes on."""
        if self.instances.get(instance.name) is instance:
            self._inject(packet, PortRef(instance.name, packet.port))

    def _inject(self, packet: Packet | bytes, at: PortRef) -> None:
        frame = bytes(packet)
        if len(frame) < 14:
            raise ValueError(f"a frame has 14 bytes or more, not {len(frame)}")
        instance = self.instances[at.instance]
        if at.port not in instance.entrances:
            wire = self._around.take()
            with edges.enter(at.port, instance.roots[INGRESS], self._counters.count()) as start:
                self._around.lead(wire, start)
            instance.entrances[at.port] = wire
        self._around.send(finished(frame), instance.entrances[at.port])

    def _close(self, instance: Instance) -> None:
        for wire in instance.entrances.values():
            self._around.give(wire)
        self._slow.changed()
        instance.close()
        self._pins.forget(instance.name)

    def _inline(self, instance: Instance) -> list[int]:
        """The ports whose packets go through the egress in line."""
        if not instance.has_egress:
            return []
        return [at.port for at, join in self.joins.items()
                if at.instance == instance.name and (join.edge is None or join.edge.peer)]

    def _tell_flood(self, instance: Instance, port: int = 0) -> None:
        """The flood program walks the ports up to the highest that was ever joined."""
        if port >= instance.flooded:
            with edges.flood(instance.members, port + 1, self._counters.count()) as flood:
                instance.flood_by(flood)
            instance.flooded = port + 1

    def _tcx(self, at: PortRef, program: Program, index: int, direction: Direction) -> Link:
        return self._pins.link(f"{at} {direction.name}", program, index, direction, self.namespace)

    def _instance(self, name: str) -> Instance:
        if name not in self.instances:
            known = ", ".join(self.instances) or "none"
            raise ValueError(f"{self.name} has no instance {name!r}; instances are {known}")
        return self.instances[name]

    def _ref(self, port: str | PortRef) -> PortRef:
        if isinstance(port, PortRef):
            name, number = port.instance, port.port
            return PortRef(name, self._instance(name).port(number))
        name, _, text = port.partition(":")
        if not text:
            raise ValueError(f"{port!r} names no port: write instance:port")
        return PortRef(name, self._instance(name).port(text))

    def _joined(self, port: str | PortRef) -> tuple[PortRef, _Join]:
        at = self._ref(port)
        if at not in self.joins:
            raise ValueError(f"{at} is joined to nothing")
        return at, self.joins[at]

    @staticmethod
    def _between(inner: PortRef, outer: PortRef) -> tuple[PortRef, PortRef]:
        if inner.instance != outer.instance or inner == outer:
            raise ValueError(f"{inner} and {outer} are not two ports of one function")
        return inner, outer

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
            self._part(*sorted(self.joins, key=lambda at: self.joins[at].edge is None))
            while self.instances:
                self._close(self.instances.popitem()[1])
            self._undo.close()
        if self._place is not None:
            self._place.remove()

    def leave(self) -> None:
        """Let go of a pinned network, which runs on and can be adopted."""
        if self._place is None:
            raise ValueError(f"{self.name} is not pinned: it ends with its process")
        for join in self.joins.values():
            for link in join.links:
                link.close()
        for instance in self.instances.values():
            instance.close()
        self._slow.changed()
        self._around.leave()
        self._counters.close()
        self._place.release()
        self.instances.clear()
        self.joins.clear()
        self._undo.pop_all()                    # nothing is left for `close`
        self._place = None

    # -- the document ------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Write down what is, once a change is complete."""
        if self._place is None:
            return
        joins = [{"at": [at.instance, at.port], "edge": join.edge and [join.edge.index, join.edge.peer],
                  "peer": join.peer and [join.peer.instance, join.peer.port],
                  "wire": join.wire, "received": join.received, "sent": join.sent} for at, join in self.joins.items()]
        functions = {name: {"kind": named(type(instance.function)), "configuration": plain(instance.function.config)}
                     for name, instance in self.instances.items()}
        self._place.write({"network": self.name, "device": self._around.index, "instances": functions, "joins": joins})

    def _restore(self, document: Any) -> None:
        """Make the network what the document says: every slot is written anew, under the packets' feet."""
        assert self._place is not None
        for entry in document["joins"]:
            edge, peer = entry["edge"], entry["peer"]
            self.joins[PortRef(*entry["at"])] = _Join(edge and Edge(*edge), peer and PortRef(*peer), entry["wire"],
                                                      entry["received"], entry["sent"])
        joins = self.joins.values()
        self._counters.taken({index for join in joins for index in (join.received, join.sent)})
        self._around.adopt(document["device"], {join.wire for join in joins})
        for name, entry in document["instances"].items():
            instance = Instance(name, found(entry["kind"])(**unplain(entry["configuration"])), self.cache,
                                self._pins.within(name))
            self.instances[name] = instance
            self._tell_flood(instance, max([0, *(at.port for at in self.joins if at.instance == name)]))
        for at, join in self.joins.items():
            if join.edge is None:
                assert join.peer is not None
                self._lead(at, join.peer)
            else:
                self._open(at, join.edge)
        names = {f"{at} {d.name}" for at, join in self.joins.items() if join.edge for d in Direction}
        self._place.prune({"counts", "lost", "wires", "again", *names}, set(self.instances))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
