"""Many changes as one: a packet that entered under revision N finishes under N.

    with network.revision() as draft:
        draft.unlink("lan:1")
        draft.add("wall", Acl())
        draft.link("lan:1", "wall:inside")
        draft.link("wall:outside", "router:0")

Nothing happens before the block ends, and an exception leaves everything as it was.  Then the new wiring is built
*beside* the old: every instance that could be met by a packet which meets something changed gets a second program
array, its programs loaded anew against the same tables, with hops of their own to the second arrays of its neighbours,
and wires of their own for what goes around.  No packet sees any of it.  Last, the links of the devices are turned to
it, one update each: a packet on its way goes on in the old wiring, the next begins in the new one, and copies in flight
stay in theirs, because a wire leads into one of the two.  When the last has left the old wiring, it is taken down.

What that does not cover: *tables* are shared, so what `configure` writes into them is seen by packets of both
revisions; and a flooded copy that is just before the egress hook of a device while that is turned meets the new egress.

A change of one slot (`link`, `insert`, `reconfigure`...) does not need this and costs less.

The document is written once the devices are turned.  Who adopts the network after a crash finds it as before, if that
had not been reached: the old arrays are there, and the devices are turned back to them.  Or else as it was to be.
"""
from __future__ import annotations

import os
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..kernel import Direction, KernelError, Link, Program, rcu
from ..language.function import Function
from . import edges, grace, upgrade
from .conversion import Conversion
from .edges import Edge
from .instance import INGRESS, Instance
from .joins import Join, PortRef
from .wiring import Wiring

if TYPE_CHECKING:
    from .network import Network
    from .plan import Plan


class Draft:
    """What shall be; each method is that of `Network`, with its errors."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def add(self, name: str, function: Function) -> None:
        self._plan.add(name, function)

    def remove(self, name: str) -> None:
        self._plan.remove(name)

    def attach(self, port: str | PortRef, edge: Edge) -> None:
        """A device that is there, by its index; one that is to be made is attached before, and moved here."""
        self._plan.attach(port, edge)

    def detach(self, port: str | PortRef) -> None:
        self._plan.detach(port)

    def link(self, a: str | PortRef, b: str | PortRef) -> None:
        self._plan.link(a, b)

    def unlink(self, port: str | PortRef) -> None:
        self._plan.unlink(port)

    def insert(self, link: str | PortRef, towards: str, away: str) -> None:
        self._plan.insert(link, towards, away)

    def take_out(self, towards: str, away: str) -> None:
        self._plan.take_out(towards, away)

    def reconfigure(self, name: str, **values: Any) -> None:
        self._plan.reconfigure(name, **values)

    def upgrade(self, name: str, kind: type[Function]) -> None:
        self._plan.upgrade(name, kind)


class Beside(Wiring):
    """The new wiring while it is built: links of devices that are there already are noted, to be turned at the end."""

    def __init__(self, network: Network, generation: int) -> None:
        self.name, self.namespace, self._pins, self._devices = (
            network.name, network.namespace, network._pins, network._devices)
        self._account, self._budget, self._around = network._account, network._budget, network._around
        self._touched, self.generation = set(), generation
        self.instances, self.joins = {}, {}
        self.there: dict[tuple[int, Direction], Link] = {
            (join.edge.index, Direction(link.info().attach_type)): link
            for join in network.joins.values() if join.edge is not None for link in join.links}
        self.turns: list[tuple[Link, Program]] = []
        self.made: list[tuple[PortRef, Direction, Link]] = []

    def _tcx(self, at: PortRef, program: Program, index: int, direction: Direction, revision: int = 0) -> Link:
        found = self.there.get((index, direction))
        if found is None:
            made = super()._tcx(at, program, index, direction, revision)
            self.made.append((at, direction, made))
            return made
        self.turns.append((found, Program(os.dup(program.fd), program.name, program.kind)))
        self._pins.again(self.joins[at].pin(at, direction), found)
        return found

    def turn(self) -> None:
        """Let packets begin in the new wiring: egress hooks first, so that a copy finds one that knows its instance."""
        done: list[tuple[Link, Program]] = []
        try:
            for link, program in self.turns:
                former = Program.from_id(link.info().program_id)
                done.append((link, former))
                link.update(program)
        except BaseException:
            for link, former in reversed(done):
                link.update(former)
            raise
        finally:
            for _, former in done:
                former.close()

    def close(self) -> None:
        for _, program in self.turns:
            program.close()
        self.turns.clear()


def affected(network: Network, plan: Plan) -> set[str]:
    """The instances a packet may meet that also meets something changed, in the old wiring or the new.

    Links lead both ways, so these are whole connected parts.
    """
    ways: dict[str, set[str]] = {}
    touched = {name for name, instance in plan.instances.items() if instance.changed}
    touched |= network.instances.keys() - plan.instances.keys()
    for joins in (network.joins, plan.joins):
        for at, join in joins.items():
            if join.peer is not None:
                ways.setdefault(at.instance, set()).add(join.peer.instance)
    for at in network.joins.keys() | plan.joins.keys():
        was, would = network.joins.get(at), plan.joins.get(at)
        if was is None or would is None or (was.edge, was.peer) != (would.edge, would.peer):
            touched.add(at.instance)
    found, waiting = set(touched), list(touched)
    while waiting:
        near = ways.get(waiting.pop(), set()) - found
        found |= near
        waiting += near
    return found


def commit(network: Network, plan: Plan) -> None:
    """Make what is planned what is; an error leaves everything as it was."""
    names = affected(network, plan)
    if not names:
        return
    generation = network.generation + 1
    old_joins = {at: join for at, join in network.joins.items() if at.instance in names}
    with rcu.expedited():
        with ExitStack() as undo:
            beside = Beside(network, generation)
            undo.callback(beside.close)
            conversions = _instances(network, plan, names, beside, undo)
            _joins(network, plan, names, beside, undo)
            beside.turn()
            undo.pop_all()
            beside.close()
        formers = _become(network, plan, names, beside)
        network.generation = generation
        network._keep()
        _take_down(network, formers, old_joins, conversions)


def _instances(network: Network, plan: Plan, names: set[str], beside: Beside,
               undo: ExitStack) -> list[tuple[Instance, Function, list[Conversion]]]:
    """The instances of the new wiring; those that cannot be met by what meets a change stay what they are."""
    converting = []
    for name, wanted in plan.instances.items():
        of = wanted.of
        if of is None:
            instance = network._made(name, wanted.function)
            undo.callback(_forget, network, instance)
        elif name not in names:
            beside.instances[name] = of
            continue
        else:
            network._touched.add(of)
            instance = of.beside(beside.generation)
            undo.callback(instance.retreat)
            if wanted.config is not None:
                undo.callback(of.function.reconfigure, of.function.config)
                of.function.reconfigure(wanted.config)
            if wanted.kind is not None:
                conversions = upgrade.take_over(instance, wanted.kind)
                undo.callback(_discard, instance, of)
                converting.append((of, of.function, conversions))
            else:
                with instance.renewing():
                    pass
        beside.instances[name] = instance
        beside._touched.add(instance)
    return converting


def _forget(network: Network, instance: Instance) -> None:
    instance.close()
    network._pins.forget(instance.name)


def _discard(instance: Instance, of: Instance) -> None:
    """Take back the tables that `take_over` has made."""
    for name, home in instance.loaded.homes.items():
        if of.loaded.homes.get(name) is not home:
            instance.discard(home)


def _joins(network: Network, plan: Plan, names: set[str], beside: Beside, undo: ExitStack) -> None:
    """Lead every port where it shall lead; devices that nobody has yet come last: their packets begin at once."""
    fresh, owners = [], {join.edge.index: join for join in network.joins.values() if join.edge is not None}
    for at, join in plan.joins.items():
        if at.instance not in names:
            beside.joins[at] = network.joins[at]
            continue
        was = network.joins.get(at)
        kept = was is not None and (was.edge, was.peer) == (join.edge, join.peer)
        before = was.before if was is not None and kept else beside.instances[at.instance].counters.read(at.port)
        owner = owners.get(join.edge.index) if join.edge is not None else None
        if owner is not None:                           # who made it, or changed it, for what
            join.attachment, join.ours = owner.attachment, owner.ours
        made = beside.joins[at] = replace(join, wire=0, links=[], before=before, generation=beside.generation)
        if join.peer is not None or join.shared:
            made.wire = network._around.take()
            undo.callback(network._around.give, made.wire)
        fresh.append(at)
    for name in names & beside.instances.keys():
        beside._tell_flood(beside.instances[name], max([0, *(at.port for at in fresh if at.instance == name)]))
    undo.callback(_unmade, beside)
    known = {index for index, _ in beside.there}
    opening = []
    for at in fresh:
        join = beside.joins[at]
        if join.peer is not None:
            beside._lead(at, join.peer)
        elif join.edge is not None and join.absence is None:
            opening.append((join.edge.index not in known, at))
    for _, at in sorted(opening, key=lambda found: found[0]):
        beside._open(at)


def _unmade(beside: Beside) -> None:
    """Let go of the devices that were opened; of those that are there already, only the second pin goes."""
    for _, _, link in beside.made:
        link.close()
    for at, join in beside.joins.items():
        if join.edge is not None and join.generation == beside.generation:
            for direction in Direction:
                beside._pins.unpin(join.pin(at, direction))


def _become(network: Network, plan: Plan, names: set[str], beside: Beside) -> list[Instance]:
    """The new wiring is the network's; answers the former instances.  Who holds an instance holds the new one."""
    formers = []
    order = {}
    for name, wanted in plan.instances.items():
        instance = beside.instances[name]
        if wanted.of is not None and name in names:
            formers.append(copy(wanted.of))
            wanted.of.become(instance)
            instance = wanted.of
        order[name] = instance
    formers += [instance for name, instance in network.instances.items() if name not in plan.instances]
    network.instances.clear()
    network.instances.update(order)
    network.joins.clear()
    network.joins.update(beside.joins)
    network._touched |= set(order.values())
    for name in names & order.keys():
        instance = order[name]
        network._serve(instance)
        ways = [(port, wire, instance.door(INGRESS)) for port, wire in instance.entrances.items()]
        ways += [(port, wire, instance.exit(port)) for port, wire in instance.exits.items()]
        for port, wire, door in ways:
            with edges.enter(port, door, network._nobody(instance)) as start:
                network._around.lead(wire, start)
    network._slow.changed()
    return formers


def _take_down(network: Network, formers: list[Instance], old_joins: dict[PortRef, Join],
               conversions: list[tuple[Instance, Function, list[Conversion]]]) -> None:
    """What nobody meets any more goes, once the last packet has left it."""
    kept = {id(link) for join in network.joins.values() for link in join.links}
    gone = {at: join for at, join in old_joins.items()
            if join.edge is not None and (at not in network.joins or network.joins[at].edge != join.edge)}
    for at, join in old_joins.items():
        for direction in Direction if join.edge is not None else ():
            network._pins.unpin(join.pin(at, direction))
        for link in join.links:
            if id(link) not in kept:
                link.close()
    grace.wait()
    failed: Exception | None = None
    try:
        network._around.drain()
    except KernelError as error:                # then what is still on its way around is dropped, and counted
        failed = error
    for join in old_joins.values():
        if join.wire:
            network._around.give(join.wire)
    counters = {former.name: former.counters for former in formers}
    for at, join in gone.items():
        now = counters[at.instance].read(at.port)
        received, sent = now[0] - join.before[0], now[1] - join.before[1]
        network._account.kept["received"] += received.packets
        network._account.kept["sent"] += sent.packets
    there = [join.edge.index for join in network.joins.values() if join.edge is not None]
    network._devices.remove({at: join for at, join in gone.items() if join.edge and join.edge.index not in there},
                            there)
    for instance, old, found in conversions:
        try:
            upgrade.finish(instance, old, found)
        except (ValueError, KernelError) as error:
            failed = failed or error
    for former in formers:
        if former.name in network.instances:
            instance = network.instances[former.name]
            if former.taps:
                instance.taps = former.taps
                instance.settle(network._inline(instance))
            former.retreat()
            instance.prune()
        else:
            network._close(former)
    network._rest()
    if failed is not None:
        raise failed
