"""The new wiring of a revision, while it is built beside the one that carries the packets.

What goes on in the new wiring has an *heir* there: the port its device is then attached to, the same one or another.
The links of such a device are noted here, and turned at the end, one update each.  So a device that moves, or comes
under another function, has a hook at every moment, and the packet that meets it finds all of one wiring.

At the egress hook a packet has passed functions already, so the hook cannot choose for it.  While devices are turned
their hooks know both wirings, and send each packet through the egress of its own (`edges.turning`); where only one of
the two has an egress, packets of the other pass.  When the last packet has left the old wiring, `settle` makes the
hooks simple again.

*What was learned* of a device that moves is in tables, which both wirings share: a switch of the old wiring may learn
from the new one that a station is behind another port, and the other way round.  So that nothing is lost there either,
(1) what the old wiring sends to the device's new port goes to the device as well; (2) the devices that move are turned
first, so that nothing of theirs is learned any more where they were; (3) their functions forget what was
(`Function.parted`), and flood; (4) all others are turned.  Two that swap their ports are told apart when they send.
The price of (1): what the old wiring floods while that holds may come to the device by both ways, one packet of many
thousands twice.
"""
from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..kernel import AttachType, BpfError, Direction, Link, Program
from . import edges, grace
from .early import Reader
from .edges import Way
from .joins import Join, PortRef
from .wiring import Wiring

if TYPE_CHECKING:
    from .network import Network
    from .plan import Plan


class Beside(Wiring):
    """Made by a revision; shares with the network all that is not wiring."""

    def __init__(self, network: Network, plan: Plan, generation: int) -> None:
        self.name, self.namespace, self._pins, self._devices, self.secret = (
            network.name, network.namespace, network._pins, network._devices, network.secret)
        self._account, self._budget, self._around = network._account, network._budget, network._around
        self._touched, self.generation = set(), generation
        self.instances, self.joins = {}, {}
        self.heirs, self._network = plan.heirs, network
        self._leaving_ports = {str(at) for at, join in network.joins.items()
                               if plan.heirs.get(at) != at or plan.joins[at].attachment != join.attachment}
        self.turns: list[tuple[Link, Program, bool]] = []   # whether its device moves
        self._plan = plan
        self.hooks: list[tuple[PortRef, Link]] = []         # that know both wirings
        self.later: list[tuple[PortRef, Program]] = []      # devices to be met at XDP once tcx is turned
        self.spare: list[Program] = []                      # what XDP goes back to if nothing comes of it
        self.made: list[Link] = []

    def former(self, at: PortRef) -> tuple[PortRef, Join] | None:
        """Where the device of a port was."""
        former = self.heirs.get(at)
        return None if former is None else (former, self._network.joins[former])

    def _tcx(self, at: PortRef, program: Program, index: int, direction: Direction, revision: int = 0) -> Link:
        former = self.former(at)
        found = None if former is None else former[1].link(direction)
        if found is None:
            made = super()._tcx(at, program, index, direction, revision)
            self.made.append(made)
        else:
            made = found
            self._turning(found, program, former is not None and former[0] != at)
            self._pins.again(self.joins[at].pin(at, direction), found)
        if former is not None and (direction == Direction.EGRESS or former[1].early):
            self.hooks.append((at, made))
        return made

    @contextmanager
    def _entry(self, at: PortRef, former: Reader | None = None) -> Iterator[Program]:
        before = self.former(at)
        if before is not None and before[1].early:
            former = self._network.instances[before[0].instance].reader
        with super()._entry(at, former) as entry:
            yield entry

    def _meet(self, at: PortRef, program: Program) -> None:
        former, join = self.former(at), self.joins[at]
        if former is None:
            super()._meet(at, program)
            self.made.append(join.links[-1])
            return
        found = former[1].link(AttachType.XDP)
        assert join.edge is not None and former[1].edge is not None
        if found is not None and former[1].edge.hook == join.edge.hook:
            self._turning(found, program, former[0] != at)
            self._pins.again(join.pin(at, AttachType.XDP), found)
            join.links.append(found)
        else:
            self.later.append((at, _again(program)))

    def _turning(self, link: Link, program: Program, moves: bool = False) -> None:
        self.turns.append((link, _again(program), moves))

    def _leaving(self, at: PortRef) -> Program:
        if self.former(at) is None:
            return super()._leaving(at)
        instance = self.instances[at.instance]
        return edges.turning(self._way(at), instance.way(at.port), self._nobody(instance))

    def _way(self, at: PortRef) -> Way | None:
        """The egress that what the old wiring sends to the device of a port meets at its hook."""
        former = self.former(at)
        if former is None or former[1].shared or not self._network.instances[former[0].instance].has_egress:
            return None
        return self._network.instances[former[0].instance].way(former[0].port)

    def bare(self, at: PortRef) -> None:
        """The device of a port had an egress at its hook, and has none any more: packets of the new wiring pass it."""
        former, way, instance = self.former(at), self._way(at), self.instances[at.instance]
        link = None if former is None else former[1].link(Direction.EGRESS)
        if link is not None and way is not None and (not instance.has_egress or self.joins[at].shared):
            with edges.turning(way, None, self._nobody(instance)) as turning:
                self._turning(link, turning)

    def requeue(self) -> None:
        """Nothing comes of it: give devices the queues that they had."""
        network = self._network
        for at, former in self.heirs.items():
            join, was = self.joins.get(at), network.joins[former]
            if join is None or join is was or was.absence is not None:
                continue
            if join.ours.queued and not was.ours.queued:
                self._devices.queue(join, None)
            elif was.ours.queued:
                network._queue(former)

    def turn(self) -> None:
        """Let packets begin in the new wiring: hooks first, so that what comes to one is known there."""
        done: list[tuple[Link, Program]] = []
        sorts = {id(one): one[0].info().attach_type for one in self.turns}
        hooks = [one for one in self.turns if sorts[id(one)] == Direction.EGRESS]
        # Who reads notes knows both wirings before notes of the new one are written.
        entries = sorted((one for one in self.turns if one not in hooks),
                         key=lambda one: sorts[id(one)] == AttachType.XDP)
        moved = [at for at, former in self.heirs.items() if at != former and self.joins[at].absence is None]

        def turn(turns: Iterable[tuple[Link, Program, bool]]) -> None:
            for link, program, _ in turns:
                former = Program.from_id(link.info().program_id)
                done.append((link, former))
                _update(link, program)

        def back() -> None:
            for link, former in reversed(done):
                _update(link, former)
                former.close()
        with ExitStack() as undo:
            undo.callback(back)
            for at in moved:
                self._reach(at, undo)
            turn(hooks)
            turn(one for one in entries if one[2])
            if moved:
                grace.wait()
                self.part(self.heirs[at] for at in moved)
            turn(one for one in entries if not one[2])
            for at, program in self.later:
                self._meet_now(at, program, undo)
            undo.pop_all()
        for _, former in done:
            former.close()

    def _meet_now(self, at: PortRef, program: Program, undo: ExitStack) -> None:
        """Meet a device at XDP that was not, or was otherwise; for a moment its packets are met at tcx."""
        former, join = self.former(at), self.joins[at]
        assert former is not None and former[1].edge is not None
        before = former[1].link(AttachType.XDP)
        if before is not None:
            self.spare.append(Program.from_id(before.info().program_id))
            undo.callback(self._network._meet, former[0], self.spare[-1])
            self._pins.unpin(former[1].pin(former[0], AttachType.XDP))
            former[1].links.remove(before)
            before.close()
        super()._meet(at, program)
        undo.callback(self._pins.unpin, join.pin(at, AttachType.XDP))
        undo.callback(join.links[-1].close)

    def _reach(self, at: PortRef, undo: ExitStack) -> None:
        """In the old wiring, too, lead what is sent to the port of a device to come to the device."""
        network, join = self._network, self.joins[at]
        if at in network.joins or join.shared or self._plan.instances[at.instance].of is None:
            return
        network.joins[at] = replace(join, links=[])
        undo.callback(network.instances[at.instance].lead, at.port, None)
        try:
            network._lead_out(at, False)
        finally:
            del network.joins[at]

    def part(self, ports: Iterable[PortRef]) -> None:
        """What was behind these ports is not there any more; functions that go need not know."""
        for at in ports:
            wanted = self._plan.instances.get(at.instance)
            if wanted is not None and wanted.of is not None:
                self.instances[at.instance].function.parted(at.port)

    def parted(self, old_joins: Mapping[PortRef, Join]) -> list[PortRef]:
        """The ports whose device or link has gone, but those whose device has moved: they are parted already."""
        went_on = self.heirs.values()
        return [at for at, join in old_joins.items() if (at not in went_on if join.peer is None else
                                                         at not in self.joins or self.joins[at].peer != join.peer)]

    def settle(self) -> None:
        """Nobody walks in the old wiring any more: let hooks forget it."""
        for at, link in self.hooks:
            egress = link.info().attach_type == Direction.EGRESS
            with super()._leaving(at) if egress else super()._entry(at) as simple:
                _update(link, simple)

    def close(self) -> None:
        for _, program, _ in self.turns:
            program.close()
        for program in (*(program for _, program in self.later), *self.spare):
            program.close()
        for kept in (self.turns, self.later, self.spare):
            kept.clear()


def _again(program: Program) -> Program:
    return Program(os.dup(program.fd), program.name, program.kind)


def _update(link: Link, program: Program) -> None:
    """Of a device that is gone there is nothing to turn; whoever looks next takes leave of it."""
    try:
        link.update(program)
    except BpfError as error:
        if error.errno != errno.ENOLINK:
            raise


__all__ = ["Beside"]
