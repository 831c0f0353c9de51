"""Devices that disappear, and come back.

The other end of a cable dies with its namespace; somebody deletes a device, renames it, moves it away.  Then its port
is *absent*: its slot is emptied, so that what wants out is a counted drop instead of a silent one, and nobody floods to
it.  Everything else goes on untouched.  When the thing is there again the port is led anew, as at first:

    Veth, Tap       made again, as soon as their namespace is there
    Device, Share   found again by the name or MAC they were described with
    Edge            never: an index alone names nobody for long

A device that is renamed stays attached, because it is the same device.  One whose MTU changes, or that gets a queueing
discipline, is sent to accordingly.

The kernel tells of devices that go; nobody tells of namespaces that come, so for them the absent ask twice a second.

`look` compares everything with what is there, whatever was heard, so news that was lost (ENOBUFS) or came while nobody
listened is made up for by it.
"""
from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..kernel import KernelError, Link, Monitor, NetlinkError, Topic, interfaces, rcu
from ..kernel.interfaces import Interface
from .attachments import Device, Share, Tap, Veth
from .edges import Edge
from .joins import Absence, Join, PortRef

if TYPE_CHECKING:
    from .network import Network

AGAIN = 0.5                     # seconds between attempts to bring back what is absent


@dataclass(frozen=True)
class EdgeChange:
    """What happened to the edge of a port, and when, in seconds since the epoch: it is `gone`, `back`, or `changed`.

    `reason` says why, or what changed; of what is back, why it had gone.
    """

    port: PortRef
    what: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{self.port} {self.what}: {self.reason}"


class Mending:
    """Looks after the edges of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._names: dict[PortRef, str] = {}                # of devices, as last seen
        self._listeners: list[asyncio.Queue[EdgeChange]] = []
        self._moved: set[int] = set()

    # -- hearing ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look whenever there is news about our devices, and now and then while some are absent; until cancelled."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        with Monitor(self._network.namespace, Topic.INTERFACES) as monitor:
            loop.add_reader(monitor.fd, news.set)
            try:
                due = True
                while True:
                    if due or self._waiting():
                        self.look()
                    timeout = AGAIN if self._waiting() else None
                    try:
                        await asyncio.wait_for(news.wait(), timeout)
                    except TimeoutError:
                        continue
                    news.clear()
                    due = self._concerned(monitor)
            finally:
                loop.remove_reader(monitor.fd)

    def _waiting(self) -> bool:
        """Whether something may come back."""
        return any(join.absence is not None and not isinstance(join.attachment, Edge)
                   for join in self._network.joins.values())

    def _concerned(self, monitor: Monitor) -> bool:
        """Whether the news is about devices of ours."""
        try:
            events = monitor.read()
        except NetlinkError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return True
        known = {join.edge.index: at for at, join in self._network.joins.items() if join.edge is not None}
        concerned = False
        for event in events:
            if isinstance(event.subject, Interface) and event.subject.index in known:
                concerned = True
                if event.removed and event.subject.moved:
                    self._moved.add(event.subject.index)
        return concerned

    def forget(self, at: PortRef) -> None:
        """The device of a port is another's now."""
        self._names.pop(at, None)

    async def changes(self) -> AsyncIterator[EdgeChange]:
        queue: asyncio.Queue[EdgeChange] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    # -- looking ----------------------------------------------------------------------------------------------------

    def look(self) -> list[EdgeChange]:
        """Compare every edge with what is there, and mend the difference."""
        network, found = self._network, []
        there = {device.index: device for device in interfaces.listing(network._devices.netlink)}
        for at, join in list(network.joins.items()):
            if join.edge is None:
                continue
            device = there.get(join.edge.index)
            if join.absence is None and (device is None or join.missing()):
                reason = self._leave(at, join, device)
                found.append(self._change(at, "gone", reason))
            elif join.absence is None and device is not None:
                found += self._follow(at, join, device)
            if join.absence is not None and self._bring_back(at, join):
                found.append(self._change(at, "back", join.absence.reason))
        self._moved.clear()
        if found:
            network._keep()
            for queue in self._listeners:
                for change in found:
                    queue.put_nowait(change)
        return found

    def adopt(self) -> list[tuple[Link, PortRef]]:
        """Lead the ports of an adopted network: what is there as before, what is not is absent.

        Answers the egress hooks that are there: they know the wiring packets may still walk in, and are led anew when
        the last has left it.
        """
        hooks: list[tuple[Link, PortRef]] = []
        network = self._network
        there = {device.index: device for device in interfaces.listing(network._devices.netlink)}
        for at, join in network.joins.items():
            if join.edge is None or join.absence is not None:
                continue
            device = there.get(join.edge.index)
            if device is None:
                self._leave(at, join, device)
                continue
            join.edge = network._devices.edge(device, join.edge.peer, join.edge.hook) if not join.shared else join.edge
            network._open(at, hooks)
        network._devices.sweep({join.edge.index for join in network.joins.values() if join.edge is not None}
                               | {network._around.index})
        return hooks

    def _change(self, at: PortRef, what: str, reason: str) -> EdgeChange:
        return EdgeChange(at, what, reason, time.time())

    def _follow(self, at: PortRef, join: Join, device: Interface) -> list[EdgeChange]:
        """Send to a device as it is now."""
        network, found = self._network, []
        assert join.edge is not None
        former = self._names.setdefault(at, device.name)
        if former != device.name:
            self._names[at] = device.name
            found.append(self._change(at, "changed", f"{former} is named {device.name} now"))
        # That a device *may* be handed packets at its other end was said when it was attached, and is not known here.
        peer = join.edge.peer and device.apart and device.queueing == "noqueue"
        edge = replace(join.edge, peer=peer, mtu=device.mtu if join.edge.mtu else 0)
        if edge != join.edge:
            said = [f"its MTU is {device.mtu}"] if edge.mtu != join.edge.mtu else []
            said += ["packets go through its queue"] if edge.peer != join.edge.peer else []
            join.edge = edge
            network._lead_out(at)
            found.append(self._change(at, "changed", " and ".join(said)))
        return found

    def _leave(self, at: PortRef, join: Join, device: Interface | None) -> str:
        """Empty the slots of a port whose device is gone; answers why it is."""
        assert join.edge is not None
        reason = "the device was deleted"
        if join.edge.index in self._moved:
            reason = "the device was moved to another namespace"
        elif device is not None and interfaces.find(self._network._devices.netlink, device.index) is not None:
            # It was listed, and its hook is gone; most often that is because it went between the two questions.
            reason = "the device left the namespace for a moment"
        elif isinstance(join.attachment, Veth):
            try:
                if room := join.attachment.room():
                    room.close()
            except KernelError:
                reason = f"{join.attachment.place} is gone"
        with rcu.expedited():
            self._network._shut(at)
            self._network._unhook(at)
        self._network._devices.lost(join)
        join.absence = Absence(reason, time.time())
        join.ours = replace(join.ours, promiscuous=False, macs=(), queued=False)
        self._names.pop(at, None)
        return reason

    def _bring_back(self, at: PortRef, join: Join) -> bool:
        """Make or find the device again; whether it is there."""
        network = self._network
        match join.attachment:
            case None | Edge():
                return False
            case Tap(persistent=False):
                return False                                # whoever had it open has lost it for good
            case Veth() | Tap() | Device() | Share():
                pass
        absence = join.absence
        assert absence is not None
        fresh = network.joins[at] = replace(join, edge=None, links=[])
        try:
            with rcu.expedited():
                network._devices.prepare({at: fresh})
                fresh.absence = None
                network._open(at)
                network._devices.start([fresh])
            return True
        except (KernelError, ValueError) as error:
            with rcu.expedited():
                network._shut(at)
                network._unhook(at)
                fresh.absence, fresh.ours = None, replace(fresh.ours, namespace=None)   # what was made just now goes
                network.joins[at] = join
                network._devices.remove([fresh], network.joins.values())
            join.absence = replace(absence, reason=f"{absence.reason.partition(';')[0]}; {error}")
            return False


__all__ = ["EdgeChange", "Mending"]
