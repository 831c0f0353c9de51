"""A network on one host: functions, links between their ports, devices at the edges.

    with Network("shop", namespace=namespace) as net:
        net.add("lan", Switch())
        net.add("wall", Acl(default="accept"))
        net.link("lan:0", "wall:inside")
        net.attach("lan:1", Veth("web", addresses=["10.0.0.1/24"]))
        net.attach("wall:outside", Device("eth1"))

Nothing here compiles after the first function of a kind, and nothing that runs is touched by what is added.  A join is
complete, behind the packets' backs, before the slot that leads to it is written; the hook of a device is attached last.
So a packet finds all of a join or nothing, and nothing means a counted drop.

`insert` puts a two-port function on a link that carries traffic: its own two ways out stand before the link's two
ends are turned to it, one slot write each; a packet that has passed an end goes the way it was sent.

Clones for a neighbouring *function* cannot be made in the middle of a walk: they go once around a device of the network
(its recirculation device) and begin a walk of their own, their hops counted on.
"""
from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from ..compiler.cache import Cache
from ..kernel import AttachType, NetworkNamespace, Tap, rcu
from ..language.function import Function
from ..language.packet import Packet
from ..targets.bpf_loaded import RING
from ..wire.offload import finished, segments
from . import adoption, edges, grace, revision, shares, upgrade
from .allowance import Allowance
from .attachments import Attachment
from .balance import retire
from .durable import Durable
from .edges import Edge
from .images import Images
from .instance import INGRESS, Instance
from .joins import HOOKS, Join, PortRef
from .mending import EdgeChange, Mending
from .observed import FABRIC, Observed
from .pins import WIRING, Place, Unpinned, folder_of
from .recirculation import start_of
from .removal import Removal, close_all
from .revision import Draft
from .shelf import Shelf
from .slowpath import Served, SlowPath
from .storm import Storm


class Network(Observed):
    """Functions joined port to port; `close` undoes everything.

    With `pins`, a directory, it outlives its process: `leave` lets go of it, and so does dying; `adopt` takes it over.
    With `durable`, a shelf, its durable tables outlive the machine's power, and `close` too: a network of the same
    functions finds them there.  Without, they are like other tables.
    `mtu` is that of the devices it makes, in bytes; `ring` the room of each function's punts, a power of two: one takes
    2 KiB and some.
    """

    def __init__(self, name: str, *, namespace: NetworkNamespace | None = None, cache: Cache | None = None,
                 pins: str | os.PathLike[str] | Place | None = None, mtu: int = 1500, ring: int = RING,
                 durable: Shelf | None = None) -> None:
        place = pins if isinstance(pins, Place) or pins is None else Place.make(pins)
        super().__init__(name, namespace, place or Unpinned(), mtu)
        self.cache, self._place, self._ring = Images(cache), place, ring
        self._slow = SlowPath(lambda: self.instances.values(), self._again)
        self._mending = Mending(self)
        self._durable = Durable(durable, self._slow.failed)
        if pins is not place:
            self._keep()

    @classmethod
    def adopt(cls, directory: str | os.PathLike[str], *, namespace: NetworkNamespace | None = None,
              cache: Cache | None = None, durable: Shelf | None = None) -> Self:
        """Take over the network whose process is gone, in the same network namespace; its traffic does not notice."""
        place = Place.open(directory)
        document = place.read()
        try:
            network = cls(document["network"], namespace=namespace, cache=cache, pins=place, durable=durable)
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
            adoption.named(type(function))
        with self._changing():
            return self._put(name, function)

    @contextmanager
    def revision(self) -> Iterator[Draft]:
        """Many changes as one: no packet meets some of them and not the others.

        What is done to the draft happens when the block ends; an exception leaves everything as it was.
        """
        from .plan import Plan  # which is a Network itself
        plan = Plan(self)
        yield Draft(plan)
        with self._changing():
            revision.commit(self, plan)

    def _put(self, name: str, function: Function) -> Instance:
        instance = self._made(name, function)
        self.instances[name] = instance
        self._touched.add(instance)
        self._serve(instance)
        self._slow.changed()
        return instance

    def _made(self, name: str, function: Function, born: int = 0) -> Instance:
        instance = None
        former = None if name in self.instances else self._durable.former(name, function)
        try:
            instance = Instance(name, function, self.cache, self._pins.within(name, born), self._ring,
                                {WIRING: born} if born else {}, born)
            self._tell_flood(instance)
            self._durable.begin(instance, former)
        except BaseException:
            if instance is not None:
                instance.close()
            self._pins.forget(name, born)
            raise
        return instance

    def remove(self, name: str) -> None:
        """Take a function out; its ports must be free."""
        self._instance(name)
        joined = [str(p) for p in self.joins if p.instance == name]
        if joined:
            raise ValueError(f"{name} is still joined at {', '.join(joined)}")
        self._durable.drop(self.instances[name])
        instance = self.instances.pop(name)
        self._keep()
        self._close(instance)
        self._keep()                            # what it had counted

    def attach(self, port: str | PortRef, what: Attachment) -> Edge:
        """Join a port to what is attached to it, which is made or found; answers its device.

        `Edge` is a device that is there, by its index.  KernelError ENODEV, ValueError: there is none such, or somebody
        has it, or the namespace is not there, or has such a device.
        """
        (edge,) = self.attach_all({port: what})
        return edge

    def attach_all(self, wanted: Mapping[str | PortRef, Attachment]) -> list[Edge]:
        """Join many ports at once, which takes few words with the kernel; all are joined, or none."""
        joins: dict[PortRef, Join] = {}
        if not wanted:
            return []
        with self._changing(), ExitStack() as undo, rcu.expedited():
            for port, what in wanted.items():
                at, index = self._free(port), what.index if isinstance(what, Edge) else 0
                for other, join in self.joins.items() if index else ():
                    if join.edge is not None and join.edge.index == index and join.missing() is None:
                        raise ValueError(f"device {index} is attached to {other} already")
                joins[at] = Join(attachment=what)
                undo.enter_context(self._joining(at, joins[at]))
            self._devices.prepare(joins, lambda: self._write(joins.values()))
            for at, join in joins.items():
                if isinstance(join.attachment, Edge) and join.edge is not None:
                    shares.check(shares.Claim(self.name, str(at), self._devices.group), join.edge.index, self.namespace)
                self._open(at)
            self._devices.start(joins.values())
        return [join.edge for join in joins.values() if join.edge is not None]

    def tap(self, port: str | PortRef) -> Tap:
        """The open TAP of a port whose `Tap` is not persistent: its descriptor is for the virtual machine."""
        at, join = self._joined(port)
        if join.edge is None or join.edge.index not in self._devices.taps:
            raise ValueError(f"{at} has no open TAP: attach Tap(..., persistent=False), in this process")
        return self._devices.taps[join.edge.index]

    def detach(self, port: str | PortRef) -> None:
        """The opposite of `attach`: nothing comes in from here on, what wants out is dropped."""
        at, join = self._joined(port)
        if join.peer is not None:
            raise ValueError(f"{at} is linked to {join.peer}, not attached to a device: use unlink")
        self._part(at)
        self._keep()
        self._parted(at)

    def link(self, a: str | PortRef, b: str | PortRef) -> None:
        """Join two ports, of one function or of two."""
        left, right = self._free(a), self._free(b)
        if left == right:
            raise ValueError(f"{left} cannot be linked to itself")
        with self._changing(), self._joining(left, Join(None, right)), self._joining(right, Join(None, left)):
            self._lead(left, right)
            self._lead(right, left)

    def unlink(self, port: str | PortRef) -> None:
        """Part a link, given either of its ends."""
        at, join = self._joined(port)
        if join.peer is None:
            raise ValueError(f"{at} is attached to a device, not linked: use detach")
        self._part(at, join.peer)
        self._keep()
        self._parted(at, join.peer)

    def insert(self, link: str | PortRef, towards: str, away: str) -> None:
        """Put a two-port function on a link: `towards` is its port that faces the given end."""
        near, join = self._joined(link)
        far = join.peer
        if far is None:
            raise ValueError(f"{near} is attached to a device, not linked")
        inner, outer = self._between(self._free(towards), self._free(away))
        with (self._changing(), self._joining(inner, Join(None, near)), self._joining(outer, Join(None, far)),
              ExitStack() as undo):
            self._lead(inner, near)
            self._lead(outer, far)
            for end, other, between in ((near, far, inner), (far, near, outer)):
                undo.callback(self._turn, end, other)
                self._turn(end, between)
            undo.pop_all()

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
        with self._changing(), ExitStack() as undo:
            for end, other, between in ((near, far, inner), (far, near, outer)):
                undo.callback(self._turn, end, between)
                self._turn(end, other)
            undo.pop_all()
            grace.wait()
            self._part(inner, outer)

    def reconfigure(self, name: str, **values: Any) -> None:
        """Change a function's configuration: tables by difference, programs swapped by one slot write each.

        What only tables know of (rules, routes, stations) changes no program.  If the programs cannot be loaded, the
        former configuration stands.
        """
        instance = self._instance(name)
        former = instance.function.config
        with self._changing(), ExitStack() as undo:
            undo.callback(self._queue_again, name)
            instance.function.reconfigure(**values)
            undo.callback(instance.function.reconfigure, former)
            if bytes(former.record()) != bytes(instance.function.config.record()):
                with instance.renewing(self._inline(instance)):
                    pass
            self._queue_again(name)
            undo.pop_all()

    def upgrade(self, name: str, kind: type[Function] | None = None) -> Function:
        """Let a new image take over: fresh programs against the same tables, swapped by one slot write each.

        With a new `kind` of function, its tables must be laid out as those that are there, or declare how entries are
        converted; ValueError shows both layouts if not.  Answers the function that stands now.
        """
        instance = self._instance(name)
        if kind is not None and self._place is not None:
            adoption.named(kind)
        old = instance.function
        with self._changing():
            if kind is None:
                with instance.renewing(self._inline(instance)):
                    pass
                return old
            highest = max([0, *(at.port for at in self.joins if at.instance == name)])

            def ready() -> None:
                if old.spec().port_sets != kind.spec().port_sets:
                    instance.flooded = 0                    # the program knows the table of sets
                self._tell_flood(instance, highest)
            conversions = upgrade.take_over(instance, kind, self._inline(instance), ready)
        self._serve(instance)
        self._slow.changed()
        self._queue_again(name)
        try:
            upgrade.finish(instance, old, conversions)
        finally:
            self._rest()
            instance.prune()
        return instance.function

    def limit_flooding(self, storm: Storm) -> None:
        """Change what the network may spend on copies; see storm.py.  A pinned network keeps it."""
        self._budget.limit(storm)

    # -- the slow path ----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Read punted packets and give them to the functions' handlers, mend edges, and save what the data path does to
        durable tables, until cancelled."""
        tasks = [asyncio.ensure_future(run()) for run in (self._slow.serve, self._mending.run, self._durable.run)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is written to durable tables meanwhile is on disk, and in the kernel, at the end; ValueError: it is not.
        """
        with self._durable.kept():
            yield

    @property
    def unkept(self) -> str:
        """Why durable tables cannot be kept at present; empty if they can."""
        return self._durable.trouble

    def mend(self) -> list[EdgeChange]:
        """Compare every edge with what is there: take leave of devices that are gone, bring back those that are there
        again, follow those that changed.  Answers what happened; `serve` does so by itself, as soon as it happens.
        """
        return self._mending.look()

    async def edges_changed(self) -> AsyncIterator[EdgeChange]:
        """What happens to edges from here on, as `serve` or `mend` finds out."""
        async for change in self._mending.changes():
            yield change

    def inject(self, packet: Packet | bytes, at: str | PortRef) -> None:
        """Let a packet go into a port as if it came in there; its walk is that of any other.

        It is not counted as received by the port, and a port that is joined to nothing takes it as well.
        """
        self._inject(packet, self._ref(at))

    def allow(self, allowance: Allowance) -> None:
        """Let as many packets a second go to Python as this says; networks may share one."""
        self._slow.allowance = allowance

    @property
    def served(self) -> Served:
        """What the slow path has done."""
        return self._slow.served

    # -- parts ------------------------------------------------------------------------------------------------------

    def _again(self, packet: Packet, instance: Instance) -> None:
        """What a handler answered goes on."""
        def go_on() -> None:
            if self.instances.get(instance.name) is instance:
                self._inject(packet, PortRef(instance.name, packet.port))
        self._durable.after(instance, go_on)

    def _inject(self, packet: Packet | bytes, at: PortRef) -> None:
        frame = bytes(packet)
        if len(frame) < 14:
            raise ValueError(f"a frame has 14 bytes or more, not {len(frame)}")
        instance = self.instances[at.instance]
        if at.port not in instance.entrances:
            wire = self._around.take()
            with edges.enter(at.port, instance.door(INGRESS), self._nobody(instance)) as start:
                self._around.lead(wire, start)
            instance.entrances[at.port] = wire
            self._rest()
        self._leave(frame, packet.segment if isinstance(packet, Packet) else 0, instance.entrances[at.port])

    def _serve(self, instance: Instance) -> None:
        """Take the frames that a function sends by itself."""
        def post(port: int, frame: bytes, segment: int) -> None:
            def leave() -> None:
                if port not in instance.exits:
                    self._exit(instance, port)
                    self._rest()
                self._leave(frame, segment, instance.exits[port])
            self._durable.after(instance, leave)
        instance.function.post = post
        if (copies := instance.loaded.maps.get("@copies")) is not None:
            value = bytearray(copies.spec.value_size)
            for port in range(instance.ports):
                wire = instance.exits.get(port) or self._exit(instance, port)
                struct.pack_into("<II", value, 8 * port, self._around.device, start_of(wire))
            copies.update(bytes(4), bytes(value))

    def _exit(self, instance: Instance, port: int) -> int:
        """A wire that leads out of a port, as if its function had forwarded there."""
        wire = self._around.take()
        with edges.enter(port, instance.exit(port), self._nobody(instance)) as start:
            self._around.lead(wire, start)
        instance.exits[port] = wire
        return wire

    def _leave(self, frame: bytes, segment: int, wire: int) -> None:
        """Frames that were bytes in between, onto a wire: what devices would have done is done."""
        for part in segments(frame, segment):
            self._around.send(finished(part), wire)

    def _parted(self, *ports: PortRef) -> None:
        """Let functions forget what was behind these ports."""
        for at in ports:
            self._instance(at.instance).function.parted(at.port)
        self._rest()

    def _close(self, instance: Instance) -> None:
        for wire in (*instance.entrances.values(), *instance.exits.values()):
            self._around.give(wire)
        instance.function.post = None
        self._slow.changed()
        try:
            self._wake()
            grace.wait()
            retire(self._account, instance)
        finally:
            self._touched.discard(instance)
            instance.close()
            self._pins.forget(instance.name, instance.born)

    def close(self) -> None:
        """Take everything down: edges first, so that no packet meets half a network."""
        close_all([self])

    def _sever(self, removal: Removal) -> None:
        """Nothing comes in or goes out any more; the devices go with a removal.  What waits for the disk leaves before.
        """
        with suppress(ValueError):
            self._durable.flush()
        self._part(*sorted(self.joins, key=lambda at: self.joins[at].peer is not None), removal=removal)
        if self._around.index:
            self._around.end(removal, self._devices.netlink)

    def _give_back(self) -> None:
        """What was severed ends."""
        try:
            self._durable.save()
        finally:
            while self.instances:
                self._close(self.instances.popitem()[1])
            self._durable.leave()
            self._undo.close()
            if self._place is not None:
                self._place.remove()

    def leave(self) -> None:
        """Let go of a pinned network, which runs on and can be adopted."""
        if self._place is None:
            raise ValueError(f"{self.name} is not pinned: it ends with its process")
        with suppress(ValueError):              # it is in the kernel, and whoever adopts the network saves it
            self._durable.save()
        self._durable.leave()
        for join in self.joins.values():
            for link in join.links:
                link.close()
        for instance in self.instances.values():
            instance.close()
        self._slow.changed()
        self._devices.leave()
        self._around.leave()
        self._account.array.close()
        self._budget.close()
        self._place.release()
        self.instances.clear()
        self.joins.clear()
        self._undo.pop_all()                    # nothing is left for `close`
        self._place = None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A change is written down when it is complete; if it fails, it gives back what it opened."""
        self._durable.flush()
        try:
            with self._durable.together():
                yield
                self._durable.follow(self.instances.values())
        except BaseException:
            self._rest()
            raise
        self._keep()

    def _keep(self) -> None:
        """A change is complete: write down what is, and give back the descriptors that were needed for it."""
        self._rest()
        self._write()

    def _write(self, passing: Iterable[Join] = ()) -> None:
        """Write down what is; `passing` are joins that are not, or not yet, and may have left something."""
        if self._place is not None:
            around, marked = self._around.index, {id(join) for join in passing}
            kept, standing = self._account.kept, {at: join for at, join in self.joins.items() if id(join) not in marked}
            self._place.write({
                **adoption.describe(self.name, self.generation, self.secret, around, self._devices, kept, standing,
                                    self.instances),
                "passing": adoption.passing(passing)})

    def _restore(self, document: Any) -> None:
        """Make the network what the document says: every slot is written anew, under the packets' feet."""
        assert self._place is not None
        self.joins |= adoption.joins(document)
        self.generation, self.secret = document["generation"], document.get("secret", self.secret)
        self._devices.group = self._around.group = document["group"]
        self._devices.mtu = document["mtu"]
        self._account.kept |= document["kept"]
        self._around.adopt(document["device"], {join.wire for join in self.joins.values()})
        for name, function, versions, born in adoption.functions(document):
            self.instances[name] = Instance(name, function, self.cache, self._pins.within(name, born), self._ring,
                                            versions, born)
            self._serve(self.instances[name])
            self._tell_flood(self.instances[name], max([0, *(at.port for at in self.joins if at.instance == name)]))
        self._durable.resume(self.instances.values())
        for at, join in self.joins.items():
            if join.peer is not None:
                self._lead(at, join.peer)
        for name, instance in self.instances.items():
            instance.close_but({at.port for at in self.joins if at.instance == name})
        self._leaving_ports = None              # who died in the middle of a revision may have turned a device
        hooks = self._mending.adopt()
        self._leaving_ports = set()
        # Packets may have been led into what a change that was not completed has left.
        grace.wait()
        self._around.drain()
        for link, at in hooks:
            with self._leaving(at) as leaving:
                link.update(leaving)
        self._devices.remove(adoption.passed(document, self.joins), self.joins.values())
        for instance in self.instances.values():
            instance.prune()
        links = {join.pin(at, direction) for at, join in self.joins.items() if join.edge for direction in HOOKS
                 if join.early or direction != AttachType.XDP}
        folders = {folder_of(name, instance.born) for name, instance in self.instances.items()}
        self._place.prune({"account", "copies", "wires", "again", *links, *folders})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
