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

A device that is detached and attached in one draft goes on, wherever: at another port, under another function, under
a function of another kind that takes the name of one that goes.  What is new is made before anything is turned, and
what goes is removed when nobody meets it any more.

What that does not cover: *tables* are shared, so what `configure` writes into them is seen by packets of both
revisions.  What a function that goes had punted and not dealt with ends with it.

A change of one slot (`link`, `insert`, `reconfigure`...) does not need this and costs less.

The document is written once the devices are turned.  Who adopts the network after a crash finds it as before, if that
had not been reached: the old arrays are there, and the devices are turned back to them.  Or else as it was to be.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..kernel import AttachType, Direction, KernelError, rcu
from ..language.function import Function
from . import edges, grace, upgrade
from .attachments import Attachment, Tap, Veth
from .beside import Beside
from .conversion import Conversion
from .instance import INGRESS, Instance
from .joins import HOOKS, Join, PortRef

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

    def attach(self, port: str | PortRef, what: Attachment) -> None:
        """A device that the draft has detached before goes on as it is, with another address or MTU if that is wanted;
        one of the network may be named by its index as well.  Any other is made, or found, when the draft is done."""
        self._plan.attach_all({port: what})

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
        if was is None or would is None or plan.heirs.get(at, at) != at or \
                (was.edge, was.peer, was.attachment) != (would.edge, would.peer, would.attachment):
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
            beside = Beside(network, plan, generation)
            undo.callback(beside.close)
            undo.callback(beside.requeue)
            conversions = _instances(network, plan, names, beside, undo)
            fresh = _devices(network, plan, undo)
            _joins(network, plan, names, beside, undo)
            network._devices.start(fresh)
            for name in names & network.instances.keys():       # what counted is read in the end, whatever happens
                network._instance(name).hold_counters()
            network._wake()
            beside.turn()
            undo.pop_all()
            beside.close()
        formers, gone = _become(network, plan, names, beside)
        network.generation = generation
        unkept = _kept(network, gone)
        went_on = plan.heirs.values()
        network._write([join for at, join in old_joins.items() if join.edge is not None and at not in went_on])
        _take_down(network, beside, formers, gone, old_joins, conversions)
        if unkept is not None:
            raise unkept


def _instances(network: Network, plan: Plan, names: set[str], beside: Beside,
               undo: ExitStack) -> list[tuple[Instance, Function, list[Conversion]]]:
    """The instances of the new wiring; those that cannot be met by what meets a change stay what they are."""
    converting = []
    for name, wanted in plan.instances.items():
        of = wanted.of
        if of is None:
            instance = network._made(name, wanted.function, beside.generation)
            undo.callback(_forget, network, instance)
        elif name not in names:
            beside.instances[name] = of
            continue
        else:
            network._touched.add(of)
            instance = of.beside(beside.generation)
            undo.callback(instance.retreat)
            if not any(at.instance == name and join.wants_early for at, join in plan.joins.items()):
                instance.sink()
            if wanted.kind is not None:
                conversions = upgrade.take_over(instance, wanted.kind, config=wanted.config)
                undo.callback(_discard, instance, of)
                undo.callback(instance.function.reconfigure, upgrade.configured(of.function.config, wanted.kind).config)
                converting.append((of, of.function, conversions))
            else:
                if wanted.config is not None:
                    undo.callback(of.function.reconfigure, of.function.config)
                    of.function.reconfigure(wanted.config)
                with instance.renewing():
                    pass
        beside.instances[name] = instance
        beside._touched.add(instance)
    return converting


def _kept(network: Network, gone: list[Instance]) -> ValueError | None:
    """What is kept of durable tables follows, before the document is written: if the process dies in between, whoever
    adopts the network finds the tables themselves.  Answers why it could not."""
    try:
        for instance in gone:
            network._durable.drop(instance)
        network._durable.follow(network.instances.values())
    except ValueError as error:
        return error
    return None


def _forget(network: Network, instance: Instance) -> None:
    if instance.name in network.instances:                  # it was to take the place of one that stays
        network._durable.drop(instance)
    network._durable.release(instance)
    instance.close()
    network._pins.forget(instance.name, instance.born)


def _discard(instance: Instance, of: Instance) -> None:
    """Take back the tables that `take_over` has made."""
    for name, home in instance.loaded.homes.items():
        if of.loaded.homes.get(name) is not home:
            instance.discard(home)


def _devices(network: Network, plan: Plan, undo: ExitStack) -> list[Join]:
    """Make or find the devices that are new, and let those that go on be what is wanted; answers the new ones' joins.
    """
    devices, there = network._devices, network.joins.values()
    fresh = {at: join for at, join in plan.joins.items() if join.peer is None and join.edge is None}
    undo.callback(devices.remove, fresh.values(), there)
    devices.prepare(fresh, lambda: network._write(fresh.values()))
    for at, former in plan.heirs.items():
        was, join = network.joins[former], plan.joins[at]
        if was.attachment != join.attachment and join.absence is None:
            back = replace(was)
            undo.callback(devices.change, join, back)
            undo.callback(devices.release, join, was, there)
            devices.change(was, join)
    return list(fresh.values())


def _joins(network: Network, plan: Plan, names: set[str], beside: Beside, undo: ExitStack) -> None:
    """Lead every port where it shall lead; devices that nobody has yet come last: their packets begin at once."""
    fresh = []
    for at, join in plan.joins.items():
        if at.instance not in names:
            beside.joins[at] = network.joins[at]
            continue
        was, instance = network.joins.get(at), beside.instances[at.instance]
        if was is None or plan.instances[at.instance].of is None:
            bank, before = 0, instance.counters.read(at.port, 0)
        elif (was.edge is None) != (join.edge is None):         # the old wiring still counts there as what it was
            bank = 1 - was.bank
            before = instance.counters.read(at.port, bank)
        else:
            same = plan.heirs.get(at) == at if join.peer is None else was.peer == join.peer
            bank, before = was.bank, was.before if same else instance.counters.read(at.port, was.bank)
        made = beside.joins[at] = replace(join, wire=0, links=[], before=before, generation=beside.generation,
                                          bank=bank)
        if join.peer is not None or join.shared:
            made.wire = network._around.take()
            undo.callback(network._around.give, made.wire)
        fresh.append(at)
    for name in names & beside.instances.keys():
        beside._tell_flood(beside.instances[name], max([0, *(at.port for at in fresh if at.instance == name)]))
    undo.callback(_unmade, beside)
    opening = []
    for at in fresh:
        join = beside.joins[at]
        if join.peer is not None:
            beside._lead(at, join.peer)
        elif join.edge is not None and join.absence is None:
            opening.append((at not in plan.heirs, at))
    for _, at in sorted(opening, key=lambda found: found[0]):
        beside._open(at)
        beside.bare(at)


def _unmade(beside: Beside) -> None:
    """Let go of the devices that were opened; of those that are there already, only the second pin goes."""
    for link in beside.made:
        link.close()
    for at, join in beside.joins.items():
        if join.edge is not None and join.generation == beside.generation:
            for direction in HOOKS:
                beside._pins.unpin(join.pin(at, direction))


def _become(network: Network, plan: Plan, names: set[str], beside: Beside) -> tuple[list[Instance], list[Instance]]:
    """The new wiring is the network's; answers the former instances, of those that go on and of those that do not.  Who
    holds an instance that goes on holds the new one."""
    formers, order = [], {}
    gone = [instance for name, instance in network.instances.items()
            if name not in plan.instances or plan.instances[name].of is None]
    for name, wanted in plan.instances.items():
        instance = beside.instances[name]
        if wanted.of is not None and name in names:
            formers.append(copy(wanted.of))
            wanted.of.become(instance)
            instance = wanted.of
        order[name] = instance
    for at, former in plan.heirs.items():
        if at != former:
            network._mending.forget(former)
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
    return formers, gone


def _take_down(network: Network, beside: Beside, formers: list[Instance], gone: list[Instance],
               old_joins: dict[PortRef, Join], conversions: list[tuple[Instance, Function, list[Conversion]]]) -> None:
    """What nobody meets any more goes, once the last packet has left it.  What cannot be done holds up nothing else."""
    failures: list[Exception] = []

    @contextmanager
    def step() -> Iterator[None]:
        try:
            yield
        except (KernelError, ValueError) as error:
            failures.append(error)
    kept = {id(link) for join in network.joins.values() for link in join.links}
    left = {(at, link.info().attach_type): link
            for at, join in old_joins.items() for link in join.links if id(link) not in kept}

    def part(direction: int) -> None:
        for at, join in old_joins.items():
            if join.edge is not None:
                network._pins.unpin(join.pin(at, direction))
            if (at, direction) in left:
                left[at, direction].close()
    part(AttachType.XDP)                        # before who reads its notes
    part(Direction.INGRESS)
    grace.wait()
    with step():                                # if not, what is still on its way around is dropped, and counted
        network._around.drain()
    part(Direction.EGRESS)                      # not before: what is flooded would leave past its egress
    with step():                                # if not: hooks that know both wirings are right as well
        beside.settle()
    beside.part(beside.parted(old_joins))
    for join in old_joins.values():
        if join.wire:
            network._around.give(join.wire)
    with step():
        _count(network, old_joins, formers, gone)
    with step():
        _give_back(network, beside, old_joins)
    for instance, old, found in conversions:
        with step():
            upgrade.finish(instance, old, found)
    for former in formers:
        instance = network.instances[former.name]
        former.retreat()
        instance.prune()
    for instance in gone:
        with step():
            network._close(instance)
    network._sink()
    network._keep()
    if failures:
        raise failures[0]


def _give_back(network: Network, beside: Beside, old_joins: dict[PortRef, Join]) -> None:
    """Remove the devices that were made for ports and are no more wanted, and let those that moved say so."""
    devices, there = network._devices, network.joins.values()
    went_on = {former: at for at, former in beside.heirs.items()}
    devices.remove((join for at, join in old_joins.items() if join.edge is not None and at not in went_on), there)
    for former, at in went_on.items():
        if former in old_joins:
            devices.release(old_joins[former], network.joins[at], there)
            if at != former and isinstance(network.joins[at].attachment, Veth | Tap):
                devices.named(at, network.joins[at])


def _count(network: Network, old_joins: dict[PortRef, Join], formers: list[Instance], gone: list[Instance]) -> None:
    """Keep what ports have counted for devices that they have no more."""
    counters = {former.name: former.counters for former in (*formers, *gone)}
    ended = {instance.name for instance in gone}
    for at, join in old_joins.items():
        now = network.joins.get(at)
        if join.edge is None:
            continue
        if now is not None and now.edge is not None and now.bank == join.bank and at.instance not in ended:
            received, sent = now.before                         # from there on they count for its successor, or itself
        else:
            received, sent = counters[at.instance].read(at.port, join.bank)
        network._account.kept["received"] += (received - join.before[0]).packets
        network._account.kept["sent"] += (sent - join.before[1]).packets


__all__ = ["Draft", "affected", "commit"]
