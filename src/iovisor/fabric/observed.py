"""What a network shows of itself, while it carries traffic: counters, traces, watches, captures, its balance.

Nothing here changes where a packet goes.
"""
from __future__ import annotations

import os
from functools import partial

from ..kernel import interfaces
from ..language.packet import Packet
from . import capture as capturing
from . import memory
from . import queues as waiting
from . import watch as watching
from .balance import Balance
from .capture import Capture
from .counters import Traffic
from .filters import Filter
from .joins import Absence, PortRef
from .queues import Waiting
from .storm import Storm
from .trace import Trace, Walk
from .watch import Watch
from .wiring import Wiring

FABRIC = "fabric"


class Observed(Wiring):
    """The part of `Network` that looks."""

    def traffic(self, port: str | PortRef) -> tuple[Traffic, Traffic]:
        """What came into a port, from its device or its peer, and what went out of it, clones included."""
        found = self._passed(*self._joined(port))
        self._rest()
        return found

    def queues(self, port: str | PortRef) -> list[Waiting]:
        """The queues of a port's device, if a function gave it some: what they sent, dropped, and hold."""
        _, join = self._joined(port)
        if join.edge is None or not join.ours.queued or join.missing() is not None:
            return []
        return waiting.listing(self._devices.netlink, join.edge.index)

    @property
    def drops(self) -> dict[str, dict[str, int]]:
        """Drops by instance and reason; those between functions under "fabric"."""
        found = {name: self._instance(name).drops for name in self.instances}
        found[FABRIC] = self._account.drops
        self._rest()
        return {name: drops for name, drops in found.items() if drops}

    def trace(self, packet: Packet | bytes, at: str | PortRef) -> Trace:
        """What would become of a packet that came into a port now; nothing is touched.

        ValueError: the kernel cannot try such a frame (fewer than 14 or more than 3500 bytes, cut IP headers).
        """
        start = self._ref(at)
        try:
            return Walk(self.instances, self.joins, packet, start, self._budget,
                        partial(interfaces.find, self._devices.netlink)).follow()
        finally:
            self._touched |= set(self.instances.values())
            self._rest()

    def watch(self, wanted: Filter | None = None, *, snap: int = watching.SNAP, room: int = watching.ROOM) -> Watch:
        """Record what functions do with packets that match, from now until it is closed; hitless.

        `snap` bytes of each, in a ring of `room` bytes (a power of two).  ValueError: names that are not there.
        """
        wanted = wanted or Filter()
        port = self._ref(wanted.port) if wanted.port is not None else None
        return Watch(watching.instances_of(wanted, port, self.instances), self._inline, wanted,
                     -1 if port is None else port.port, snap, room)

    def capture(self, port: str | PortRef, path: str | os.PathLike[str], *, snap: int = capturing.SNAP,
                room: int = 1 << 22) -> Capture:
        """Write every packet that comes in by a port or goes out of it to a pcapng file; hitless."""
        at = self._ref(port)
        instance = self.instances[at.instance]
        watch = Watch([instance], self._inline, Filter(), at.port, snap, room, True)
        try:
            return Capture(watch, instance, at, path)
        except BaseException:
            watch.close()
            raise

    def balance(self) -> Balance:
        """Everything that came in or was made here against everything that left or ended, packet for packet."""
        try:
            return Balance.read(self._account, self.joins, self.instances)
        finally:
            self._touched |= set(self.instances.values())
            self._rest()

    @property
    def memory(self) -> int:
        """Bytes of the kernel's memory that its maps and programs are charged for now; entries of tables count."""
        links = [*self._around.links, *(link for join in self.joins.values() for link in join.links)]
        try:
            return memory.used(self.instances.values(), [self._around.wires], [one.info().program_id for one in links],
                               [self._account.array, self._budget.map])
        finally:
            self._touched |= set(self.instances.values())
            self._rest()

    @property
    def storm(self) -> Storm:
        """What the network may spend on copies."""
        return self._budget.storm

    @property
    def absent(self) -> dict[PortRef, Absence]:
        """Ports whose device is gone, why and since when.

        They are brought back when the device is there again, by `serve` or `mend`; but not those attached by index.
        """
        return {at: absence for at, join in self.joins.items() if (absence := join.missing()) is not None}


__all__ = ["FABRIC", "Observed"]
