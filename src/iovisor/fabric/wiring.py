"""What `Network` does underneath: ports to slots, and the order in which slots are written.

A join is complete, behind the packets' backs, before the slot that leads to it is written; the hook of a device is
attached last.  Every step says what shall be, whatever was before, so the same steps make a network, change it, and
mend it after a crash.
"""
from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

from ..kernel import AttachType, BpfError, Direction, Link, NetworkNamespace, Program, interfaces, rcu
from . import early, edges, grace, shares
from .attachments import Device, Share
from .counters import Account, Traffic, number
from .devices import Devices
from .edges import Count, Crossing
from .hooks import SOFT, Hook
from .instance import EGRESS, INGRESS, Instance
from .joins import HOOKS, Join, PortRef
from .pins import Pins, Unpinned
from .recirculation import Recirculation, onward_of, start_of
from .removal import Removal
from .shares import Claim
from .storm import Budget


class Wiring:
    """The instances of a network and what their ports are joined to."""

    def __init__(self, name: str, namespace: NetworkNamespace | None, pins: Pins, mtu: int) -> None:
        self.name, self.namespace, self._pins = name, namespace, pins
        self.instances: dict[str, Instance] = {}
        self.joins: dict[PortRef, Join] = {}
        self.generation = 0                                 # how many revisions there have been
        self.secret = secrets.randbits(64) | 1              # see early.py
        self._leaving_ports: set[str] | None = set()               # whose devices are about to be others'
        self._touched: set[Instance] = set()                # what may have descriptors to give back
        with ExitStack() as undo:
            self._account = Account(pins)
            undo.callback(self._account.array.close)
            self._budget = Budget(pins)
            undo.callback(self._budget.close)
            self._devices = Devices(namespace, name, mtu)
            undo.callback(self._devices.leave)
            self._around = Recirculation(namespace, self._account.array, pins, self._devices.group)
            undo.callback(self._around.close)
            self._undo = undo.pop_all()

    # -- joining ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _joining(self, at: PortRef, join: Join) -> Iterator[None]:
        """Note a new join, its counters and its wire; if what is done meanwhile fails, nothing of it is left."""
        join.before = self.instances[at.instance].counters.read(at.port, join.bank)
        self.joins[at] = join
        try:
            if join.peer is not None or join.shared:
                join.wire = self._around.take()
            yield
        except BaseException:
            self._part(at)
            self._rest()
            raise

    def _turn(self, at: PortRef, to: PortRef) -> None:
        """Make what leaves `at`, which is linked, enter `to`: one slot write."""
        self._lead(at, to, True)
        self.joins[at].peer = to

    def _lead(self, at: PortRef, to: PortRef, linked: bool = False) -> None:
        """Make what leaves `at` enter `to`; both are joined.  `linked`: it enters something now."""
        join = self.joins[at]
        instance, target, around = self._instance(at.instance), self._instance(to.instance), self._around
        crossing = Crossing(self._received(to), instance.tail_calls, target.needed, around.device,
                            onward_of(join.wire))
        with edges.hop(to.port, target.door(INGRESS), self._sent(at), crossing) as hop:
            # A clone has the egress of the function it comes from still before it.
            if not instance.has_egress:
                around.lead(join.wire, hop, hop)
            elif linked:
                around.lead(join.wire, None, hop)
            else:
                with edges.enter(at.port, instance.door(EGRESS), self._nobody(instance)) as start:
                    around.lead(join.wire, start, hop)
            instance.lead(at.port, hop)
        if not linked:
            instance.member(at.port, around.device, start_of(join.wire))
            self._tell_flood(instance, at.port)

    def _part(self, *ports: PortRef, removal: Removal | None = None) -> None:
        """Undo joins: what wants out there is dropped from here on, and counted; our devices go with the `removal`."""
        gone: dict[PortRef, Join] = {}
        with rcu.expedited():
            for at in ports:
                self._shut(at)
                join = gone[at] = self.joins[at]
                if join.wire:
                    self._around.give(join.wire)
            if any(join.edge is not None for join in gone.values()):
                grace.wait()                    # until then packets are still counted, and copies come to the hooks
            for at, join in gone.items():
                self._unhook(at)
                del self.joins[at]
                if join.edge is not None:
                    received, sent = self._passed(at, join)
                    self._account.kept["received"] += received.packets
                    self._account.kept["sent"] += sent.packets
            self._sink()
            self._devices.remove(gone.values(), self.joins.values(), removal)

    def _shut(self, at: PortRef) -> None:
        """Let nothing in or out at a port, which stays joined."""
        join, instance = self.joins[at], self._instance(at.instance)
        # First of all nothing is led to the device: without its hook a copy would leave past the function's egress.
        instance.member(at.port, 0)
        instance.lead(at.port, None)
        hooks = [link for link in join.links
                 if instance.has_egress and link.info().attach_type == Direction.EGRESS]
        gone = [(link.info().attach_type, link) for link in join.links if link not in hooks]
        for direction in HOOKS[:2]:             # at XDP first: what is passed there is for who stands at tcx
            for sort, link in gone:
                if sort == direction:
                    link.close()
            if join.edge is not None:
                self._pins.unpin(join.pin(at, direction))
        for _, link in gone:
            link.close()
        join.links[:] = hooks

    def _unhook(self, at: PortRef) -> None:
        """Take away what stands at the egress hook of a port that is shut, once no copy is on its way there."""
        join = self.joins[at]
        for link in join.links:
            link.close()
        join.links.clear()
        if join.edge is not None:
            self._pins.unpin(join.pin(at, Direction.EGRESS))

    def _passed(self, at: PortRef, join: Join) -> tuple[Traffic, Traffic]:
        """What a port received and sent since it was joined."""
        received, sent = self._instance(at.instance).counters.read(at.port, join.bank)
        return received - join.before[0], sent - join.before[1]

    def _open(self, at: PortRef, hooks: list[tuple[Link, PortRef]] | None = None) -> None:
        """Lead packets from a device to a port and back.  With `hooks`, an egress hook that is there is only noted."""
        instance, join = self._instance(at.instance), self.joins[at]
        self._queue(at)
        with rcu.expedited():
            self._lead_out(at)
            if join.shared:
                self._open_share(at)
                return
            assert join.edge is not None
            if instance.has_egress:
                there = None if hooks is None else self._pins.found(join.pin(at, Direction.EGRESS), join.edge.index)
                if there is not None and hooks is not None:
                    hooks.append((there, at))
                    join.links.append(there)
                else:
                    with self._leaving(at) as leaving:
                        join.links.append(self._tcx(at, leaving, join.edge.index, Direction.EGRESS))
                self._copy_to(at)
            if join.early:
                self._rise(instance, join.edge.index)
            with self._entry(at) as entry:
                if isinstance(join.attachment, Device):
                    claim = Claim(self.name, str(at), self._devices.group)
                    join.links.append(self._claim(at, claim, entry, join.edge.index))
                else:
                    join.links.append(self._tcx(at, entry, join.edge.index, Direction.INGRESS))
            if join.early and instance.early is not None:
                with instance.early.entry(at.port, number(at.port, join.bank)) as entry:
                    self._meet(at, entry)

    def _rise(self, instance: Instance, index: int) -> None:
        """Let an instance meet packets of a device at XDP."""
        there, first = interfaces.find(self._devices.netlink, index), instance.early is None
        risen = instance.rise(self._account.array, self.secret, there is not None and there.kind in SOFT)
        if first:
            risen.lead_only([at.port for at, join in self.joins.items()
                             if at.instance == instance.name and join.absence is None])

    def _sink(self) -> None:
        """Instances of which no device is met at XDP need not be there."""
        needed = {at.instance for at, join in self.joins.items() if join.early}
        for name, instance in self.instances.items():
            if name not in needed:
                instance.sink()

    @contextmanager
    def _entry(self, at: PortRef, former: early.Reader | None = None) -> Iterator[Program]:
        """What stands at tcx ingress of a port's device; `former` reads notes of the wiring before."""
        instance, join = self.instances[at.instance], self.joins[at]
        readers = [reader for reader in (instance.reader if join.early else None, former) if reader is not None]
        door, count, claim = instance.door(INGRESS), self._received(at), Claim(self.name, str(at), self._devices.group)
        with claim.map() if isinstance(join.attachment, Device) else nullcontext() as said:
            with early.entry(at.port, door, count, readers, said) if readers else \
                    edges.entry(at.port, door, count, said) as entry:
                yield entry

    def _meet(self, at: PortRef, program: Program) -> None:
        """Attach at XDP."""
        join = self.joins[at]
        assert join.edge is not None
        pin = join.pin(at, AttachType.XDP)
        found = self._pins.found(pin, join.edge.index)
        if found is None:
            self._pins.unpin(pin)
            found, mode = early.attach(program, join.edge.index, Hook(join.edge.hook), self.namespace)
            self._pins.keep_link(pin, found)
            join.edge = replace(join.edge, hook=mode)
        else:
            found.update(program)
        join.links.append(found)

    def _queue_again(self, name: str) -> None:
        """Give the devices of an instance the queues that it wants now, and lead packets into them."""
        for at, join in self.joins.items():
            if at.instance == name and join.edge is not None and join.absence is None:
                before = join.edge
                self._queue(at)
                if join.edge != before:
                    self._lead_out(at)

    def _queue(self, at: PortRef) -> None:
        """Give the device of a port the queues that the function wants there."""
        join, wanted = self.joins[at], self.instances[at.instance].function.queues(at.port)
        if wanted is not None and join.shared:
            raise ValueError(f"{at}: a share of a device has no queues of its own: attach all of it")
        if wanted is not None or join.ours.queued:
            self._devices.queue(join, wanted)

    def _leaving(self, at: PortRef) -> Program:
        """What stands at the egress hook of a port's device."""
        instance = self.instances[at.instance]
        return edges.leaving(instance.way(at.port), self._nobody(instance))

    def _open_share(self, at: PortRef) -> None:
        instance, join = self.instances[at.instance], self.joins[at]
        share, door, count = join.attachment, instance.door(INGRESS), self._received(at)
        assert isinstance(share, Share) and join.edge is not None
        claim, around = Claim(self.name, str(at), self._devices.group, share), onward_of(join.wire)
        with claim.map() as said, shares.entry(at.port, door, count, share, said, self._around.device, around) as entry:
            join.links.append(self._claim(at, claim, entry, join.edge.index))

    def _claim(self, at: PortRef, claim: Claim, program: Program, index: int) -> Link:
        """Attach at a moment when nobody has what is claimed."""
        while True:
            revision = shares.check(claim, index, self.namespace, self._leaving_ports)
            try:
                return self._tcx(at, program, index, Direction.INGRESS, revision)
            except BpfError as error:
                if error.errno != errno.ESTALE:
                    raise

    def _lead_out(self, at: PortRef, copies: bool = True) -> None:
        """Lead packets from a port to its device; without `copies`, only those that are for this port alone."""
        instance, join = self.instances[at.instance], self.joins[at]
        edge = join.edge
        assert edge is not None
        if isinstance(join.attachment, Share):
            count = self._nobody(instance)
            with (shares.output(edge, self._sent(at), join.attachment) as output,
                  shares.arrive(at.port, instance.door(INGRESS), count, join.attachment) as arrive):
                # Clones are checked like all that leaves: they go around, to where packets in line come out.
                if instance.has_egress:
                    with edges.enter(at.port, instance.door(EGRESS), count) as start:
                        self._around.lead(join.wire, start, arrive)
                else:
                    self._around.lead(join.wire, output, arrive)
                instance.lead(at.port, output)
            instance.member(at.port, self._around.device, start_of(join.wire))
        else:
            # Packets that pass the device's hook are counted there, and those in line by the program that sends them.
            inline = join.inline or not instance.has_egress
            count = self._sent(at) if inline else self._nobody(instance)
            with edges.output(edge, count, instance.token) as output:
                if instance.has_egress:
                    with edges.passed(self._sent(at)) as passed:
                        instance.lead(at.port, output, passed, inline)
                else:
                    instance.lead(at.port, output)
            if copies and (join.links or not instance.has_egress):  # or they wait for the device's hook: see `_open`
                self._copy_to(at)
        if copies:
            self._tell_flood(instance, at.port)

    def _copy_to(self, at: PortRef) -> None:
        """Let floods reach a port's device."""
        instance, join = self.instances[at.instance], self.joins[at]
        edge = join.edge
        assert edge is not None
        instance.member(at.port, edge.index, 0, 0 if instance.has_egress else join.bank + 1,
                        edge.mtu + edges.ETHERNET if edge.mtu else 0xffffffff)

    def _inline(self, instance: Instance) -> list[int]:
        """The ports whose packets go through the egress in line."""
        if not instance.has_egress:
            return []
        return [at.port for at, join in self.joins.items()
                if at.instance == instance.name and join.inline and join.absence is None]

    def _tell_flood(self, instance: Instance, port: int = 0) -> None:
        """The flood program walks the ports up to the highest ever joined, and some: few joins need a new one.

        Who never floods has none.
        """
        if port >= instance.flooded and instance.floods:
            ports = min(max(1 << port.bit_length(), 4), instance.ports)
            name = instance.loaded.function.spec().port_sets
            sets = None if name is None else instance.loaded.maps[name]
            with edges.flood(instance.members, ports, self._nobody(instance), self._budget.map, instance.token,
                             sets) as flood:
                instance.flood_by(flood)
            instance.flooded = ports

    def _tcx(self, at: PortRef, program: Program, index: int, direction: Direction, revision: int = 0) -> Link:
        return self._pins.link(self.joins[at].pin(at, direction), program, index, direction, self.namespace, revision)

    # -- counting and descriptors -----------------------------------------------------------------------------------

    def _received(self, at: PortRef) -> Count:
        return Count(self.instances[at.instance].counters.array, number(at.port, self.joins[at].bank),
                     self._account.array)

    def _sent(self, at: PortRef) -> Count:
        return Count(self.instances[at.instance].counters.array, number(at.port, self.joins[at].bank) + 1,
                     self._account.array)

    def _nobody(self, instance: Instance) -> Count:
        """For programs that count nothing but drops."""
        return Count(instance.counters.array, -1, self._account.array)

    def _rest(self) -> None:
        """Give back what an operation opened.  The fabric's own maps are kept alive by what any instance floods by."""
        for instance in self._touched:
            instance.rest()
        self._touched.clear()
        if any(instance.flooded for instance in self.instances.values()):
            self._account.array.rest()
            self._budget.map.rest()
        if not isinstance(self._pins, Unpinned):
            self._around.rest()
            for join in self.joins.values():
                for link in join.links:
                    link.rest()

    def _wake(self) -> None:
        """Hold the fabric's own maps: the instance that keeps them alive may go."""
        _ = self._account.array.fd, self._budget.map.fd

    # -- naming -----------------------------------------------------------------------------------------------------

    def _instance(self, name: str) -> Instance:
        if name not in self.instances:
            known = ", ".join(self.instances) or "none"
            raise ValueError(f"there is no instance {name!r}; instances are {known}")
        self._touched.add(self.instances[name])
        return self.instances[name]

    def _ref(self, port: str | PortRef) -> PortRef:
        if isinstance(port, PortRef):
            name, number = port.instance, port.port
            return PortRef(name, self._instance(name).port(number))
        name, _, text = port.partition(":")
        if not text:
            raise ValueError(f"{port!r} names no port: write instance:port")
        return PortRef(name, self._instance(name).port(text))

    def _joined(self, port: str | PortRef) -> tuple[PortRef, Join]:
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
