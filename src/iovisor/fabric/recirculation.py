"""The recirculation device of a network, and the wires that lead from it.

A program cannot make a copy and send it on by tail call: the copy is a packet of its own and needs a walk of its own.
So a clone for a neighbouring function is redirected to the ingress of a device of the network, whose program looks at
the packet's mark: the number of a *wire*, where its walk goes on, and the hops it has made.  Three kinds of packet come
around: clones; walks that have used up the kernel's 33 tail calls; and frames of the slow path, which Python sends into
the far end of the device.

A wire has two slots: `start`, where a clone begins, and `onward`, behind the egress of the function it comes from.
Most networks have few links and a slot costs 8 bytes, so the array of wires begins small.  Only the program at the
device looks into it; a larger one takes its place by an update of the link.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time

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
from . import edges
from .edges import FROM_PYTHON, WIRE_BITS, Count
from .pins import Pins
from .removal import Removal

MOST = 1 << 20
FIRST = 256                     # wires there is room for at first; doubled when they are used up
MTU = 65535                     # a clone longer than the device's would vanish
_SO_MARK = 36
_numbers = itertools.count()


class Recirculation:
    """Made and closed by a network; the device comes with the first link."""

    def __init__(self, namespace: NetworkNamespace | None, account: Map, pins: Pins, group: int) -> None:
        self.namespace, self._pins, self.group = namespace, pins, group
        self._count = Count(account, -1, account)
        self._wires = pins.map("wires", _spec(FIRST))
        self._room = self._wires.spec.max_entries // 2
        self._free = list(range(self._room - 1, 0, -1))
        self.index = 0                                      # of the device, once there is one
        self._link: Link | None = None
        self._socket: socket.socket | None = None

    @property
    def device(self) -> int:
        """The index of the device."""
        if not self.index:
            number = next(_numbers) & 0xffff
            index = 0x40000000 | (os.getpid() & 0x3fff) << 16 | number
            with Netlink(self.namespace) as netlink:
                ends = (f"a{index:x}", f"a{index:x}p")
                netlink.submit(interfaces.veth(*ends, index=index, mtu=MTU, group=self.group))
                self.index = index
                for end in ends:
                    interfaces.silence(end, self.namespace)
                netlink.submit(*(interfaces.change(end, up=True) for end in ends))
            self._attach()
        return self.index

    def _attach(self) -> None:
        with edges.again(self._wires, self._count) as again, rcu.expedited():
            self._link = self._pins.link("again", again, self.index, Direction.INGRESS, self.namespace)

    def adopt(self, index: int, wires: set[int]) -> None:
        """Go on with a device, and with these wires in use."""
        self._free = [wire for wire in range(self._room - 1, 0, -1) if wire not in wires]
        self.index = index
        if index:
            self._attach()

    @property
    def wires(self) -> Map:
        """The array: where packets go on that came around."""
        return self._wires

    @property
    def links(self) -> list[Link]:
        return [] if self._link is None else [self._link]

    def take(self) -> int:
        """The number of a wire nobody uses."""
        if not self._free:
            self._grow()
        return self._free.pop()

    def _grow(self) -> None:
        """Twice as many wires, in an array of their own; packets on their way meet the old one or the new one."""
        if self._room == MOST:
            raise ValueError(f"no wire is left: a network has {MOST - 1}, two for each link")
        former, room = self._wires, self._room
        larger = Map.create(_spec(2 * room))
        try:
            for key, identifier in former.items():
                with Program.from_id(int.from_bytes(identifier, "little")) as program:
                    larger.store(key, program)
            self._pins.keep("wires-larger", larger)
            if self._link is not None:
                with edges.again(larger, self._count) as again:
                    self._link.update(again)
        except BaseException:
            self._pins.unpin("wires-larger")
            larger.close()
            raise
        self._pins.rename("wires-larger", "wires")
        self._wires, self._room = larger, 2 * room
        self._free = list(range(2 * room - 1, room - 1, -1))
        former.close()

    def lead(self, wire: int, start: Program | None, onward: Program | None = None) -> None:
        """Say where the packets of a wire begin and go on; what is not given stays."""
        if onward is not None:
            self._wires.store(onward_of(wire).to_bytes(4, "little"), onward)
        if start is not None:
            self._wires.store(start_of(wire).to_bytes(4, "little"), start)

    def give(self, wire: int) -> None:
        """The opposite of `take`; what is still on its way on this wire is dropped, and counted."""
        self._wires.delete(start_of(wire).to_bytes(4, "little"))
        self._wires.delete(onward_of(wire).to_bytes(4, "little"))
        self._free.append(wire)

    def send(self, frame: bytes, wire: int) -> None:
        """Let a frame of 14 bytes or more begin a walk on a wire."""
        device = self.device
        if self._socket is None:
            def opened() -> socket.socket:
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                made.bind((f"a{device:x}p", 0))
                return made
            self._socket = opened() if self.namespace is None else self.namespace.run(opened)
        mark = 1 << WIRE_BITS | FROM_PYTHON | start_of(wire)
        self._socket.sendmsg([frame], [(socket.SOL_SOCKET, _SO_MARK, mark.to_bytes(4, "little"))])

    def drain(self) -> None:
        """Return when every packet that waits to come around has come, and those that came of them, to the last hop.

        A CPU's queue is first in, first out: a frame sent through it on each CPU comes after what is there.
        """
        if not self.index:
            return
        with (Map.create(MapSpec("arrived", MapKind.ARRAY, 4, 8, 1)) as arrived,
              edges.arrive(arrived, self._count) as arrive):
            wire, cpus, sent = self.take(), os.sched_getaffinity(0), 0
            try:
                self.lead(wire, arrive)
                for _ in range(edges.MOST_HOPS + 1):
                    for cpu in range(possible_cpus()):
                        with contextlib.suppress(OSError):      # not ours to run on: then nothing of ours waits there
                            os.sched_setaffinity(0, {cpu})
                            self.send(bytes(14), wire)
                            sent += 1
                    deadline = time.monotonic() + 1
                    while time.monotonic() < deadline and arrived.lookup(bytes(4)) != sent.to_bytes(8, "little"):
                        time.sleep(0)
            finally:
                os.sched_setaffinity(0, cpus)
                self.give(wire)

    def rest(self) -> None:
        """Give back the descriptors of what is pinned."""
        self._wires.rest()
        if self._link is not None:
            self._link.rest()

    def end(self, removal: Removal, netlink: Netlink) -> None:
        """Nothing comes around any more, and the device, if there is one, goes with a removal."""
        self._pins.unpin("again")
        if self._link is not None:
            self._link.close()
            self._link = None
        removal.doom(self.namespace, netlink, [self.index])
        self.index = 0

    def close(self) -> None:
        if self.index:
            with Netlink(self.namespace) as netlink:
                removal = Removal()
                self.end(removal, netlink)
                removal.carry_out()
        self.leave()

    def leave(self) -> None:
        """Give the descriptors back; what is pinned goes on."""
        if self._socket is not None:
            self._socket.close()
        if self._link is not None:
            self._link.close()
        self._wires.close()
        self.index = 0


def _spec(room: int) -> MapSpec:
    return MapSpec("wires", MapKind.PROGRAM_ARRAY, 4, 4, 2 * room)


def start_of(wire: int) -> int:
    """The slot where a clone on a wire begins."""
    return 2 * wire


def onward_of(wire: int) -> int:
    """The slot where a packet on a wire goes on."""
    return 2 * wire + 1


__all__ = ["Recirculation", "onward_of", "start_of"]
