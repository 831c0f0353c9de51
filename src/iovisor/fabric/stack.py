"""The TCP of a function that serves: Linux's own, in a room with one device that leads to the function.

    peers ── the network ── function ──punt──► Stack ──► tun ─┐ a network namespace of the function's own:
                               ▲                              │ its addresses, one route, its listening sockets
                               └────────────send──────────────┘

A TCP of our own was the alternative, a few hundred lines for a server of short conversations.  It was rejected: what
those lines would leave out (congestion control, probes of closed windows, blind resets, floods of SYNs) is what
strangers try, and Linux has it.  A TUN rather than a TAP, so that the room has no neighbors to find: a peer is answered
by the way its last segment came, over the same router, as a datagram would be.

The room is made when the first segment comes and goes when nobody was heard for a while: networks by the hundred have a
server that nobody ever connects to.  Nothing else is in it, and nothing leads out of it but to the function.  Packets
are 1,280 bytes at most, which every path carries, because no error of a router on the way would find the way here.

Who takes connections is bounded: so many of one peer, so many of all.  Beyond that one is reset at once.
"""
from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ..kernel import Netlink, NetworkNamespace, Tun, addresses, interfaces, routes
from ..language import Function, Packet
from ..wire.ethernet import Ethernet, EtherType
from ..wire.offload import finished, segments

MOST, MOST_OF_ONE = 128, 16         # connections that are served at a time, and those of one peer
PEERS = 4_096                       # of whom the way is remembered
IDLE = 60.0                         # seconds without a segment after which the room is given back
LAST_WORDS = 10.0                   # seconds in which what was said last must have been taken
MTU = 1_280
DEVICE = "function"
TURN = 64                           # packets that leave before others have their turn
RESET = struct.pack("=ii", 1, 0)    # SO_LINGER: nothing lingers, the peer is reset
Address = IPv4Address | IPv6Address
Way = tuple[int, int, int]          # Ethernet addresses, theirs and ours, and a port of the function
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stack:
    """The TCP of one function; belongs to the event loop it is used in.  `failed` is told when a method raises what it
    should not."""

    def __init__(self, function: Function, failed: Callable[[], None]) -> None:
        self.function, self._failed = function, failed
        self._room: Room | None = None
        self._talks: dict[asyncio.Task[None], Address] = {}
        self._heard = 0.0

    def receive(self, packet: Packet) -> None:
        room = self._present()
        for frame in segments(bytes(packet), packet.segment):
            room.take(finished(frame), packet.port)

    async def connect(self, source: str, to: str, port: int, way: Way) -> Streams:
        room = self._present()
        room.own(ip_address(source))
        room.lead(ip_address(to), way)
        made = room.opened(socket.AF_INET6 if ":" in to else socket.AF_INET)
        try:
            made.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(made, (to, port))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)

    def close(self) -> list[asyncio.Task[None]]:
        """End every conversation, and give the room back; the next segment makes another.  What is still to be waited
        for, by who closes the loop."""
        for task in self._talks:
            task.cancel()
        if self._room is not None:
            self._room.close()
            self._room = None
        return list(self._talks)

    def _present(self) -> Room:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        if self._room is None:
            self._room = Room(self.function, self._met)
            loop.call_later(IDLE, self._look, self._room)
        return self._room

    def _look(self, room: Room) -> None:
        if room is self._room:
            loop = asyncio.get_running_loop()
            if self._talks or loop.time() - self._heard < IDLE:
                loop.call_later(IDLE, self._look, room)
            else:
                self.close()

    # -- who connects ------------------------------------------------------------------------------------------------

    def _met(self, connection: socket.socket, peer: Address, method: str) -> None:
        if len(self._talks) >= MOST or Counter(self._talks.values())[peer] >= MOST_OF_ONE:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            return
        task = asyncio.ensure_future(self._talk(connection, self.function.method(method)))
        self._talks[task] = peer
        task.add_done_callback(lambda _: self._talks.pop(task))

    async def _talk(self, connection: socket.socket, method: Callable[..., Awaitable[None]]) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await method(reader, writer)
            writer.close()
            async with asyncio.timeout(LAST_WORDS):
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):               # the peer has gone, or is as good as gone
            pass
        except Exception:
            self._failed()
        finally:
            writer.transport.abort()


class Room:
    """A network namespace whose one device leads to a function, and the sockets that listen in it."""

    def __init__(self, function: Function, met: Callable[[socket.socket, Address, str], None]) -> None:
        self.function, self._met = function, met
        self._own, self._ways = set[Address](), OrderedDict[Address, Way]()
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            self.namespace = undo.enter_context(NetworkNamespace.create())
            with self.namespace.entered():
                for name in ("all", "default"):
                    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
            self.tun = undo.enter_context(Tun.create(DEVICE, self.namespace))
            self.netlink = undo.enter_context(Netlink(self.namespace))
            self.index = interfaces.index_of(self.netlink, DEVICE)
            self.netlink.submit(interfaces.change(DEVICE, up=True, mtu=MTU),
                                *(routes.add(all, interface=self.index) for all in ("0.0.0.0/0", "::/0")))
            for port, method in function.spec().servers.items():
                for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                    listening = undo.enter_context(self.opened(family))
                    listening.bind((anywhere, port))
                    listening.listen(MOST)
                    self._watch(undo, listening.fileno(), self._accept, listening, method)
            self._watch(undo, self.tun.fd, self._leaving)
            self._undo = undo.pop_all()

    def _watch(self, undo: contextlib.ExitStack, number: int, call: Callable[..., None], *arguments: object) -> None:
        self._loop.add_reader(number, call, *arguments)
        undo.callback(self._loop.remove_reader, number)

    def opened(self, family: socket.AddressFamily) -> socket.socket:
        """A TCP socket in here."""
        made = self.namespace.run(lambda: socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return made

    def own(self, address: Address) -> None:
        """Have an address of the function's."""
        if address not in self._own:
            self.netlink.submit(addresses.add(self.index, f"{address}/{address.max_prefixlen}", replace=True))
            self._own.add(address)

    def lead(self, peer: Address, way: Way) -> None:
        """Remember how a peer is reached."""
        self._ways[peer] = way
        self._ways.move_to_end(peer)
        if len(self._ways) > PEERS:
            self._ways.popitem(last=False)

    def take(self, frame: bytes, port: int) -> None:
        """A segment in a frame, whose checksums are whole."""
        eth, packet = Ethernet.decode(frame[:Ethernet.size]), frame[Ethernet.size:]
        if eth.type in (EtherType.IPV4, EtherType.IPV6):
            six = eth.type == EtherType.IPV6
            source, destination = (packet[8:24], packet[24:40]) if six else (packet[12:16], packet[16:20])
            self.own(ip_address(destination))
            self.lead(ip_address(source), (eth.src, eth.dst, port))
            self.tun.write(packet)

    def _leaving(self) -> None:
        """What is sent in here leaves the function."""
        for _ in range(TURN):
            packet = self.tun.read()
            if packet is None:
                return
            six = packet[0] >> 4 == 6
            way = self._ways.get(ip_address(packet[24:40] if six else packet[16:20]))
            if way is not None:
                theirs, ours, port = way
                eth = Ethernet(dst=theirs, src=ours, type=EtherType.IPV6 if six else EtherType.IPV4)
                self.function.send(bytes(eth) + packet, port)

    def _accept(self, listening: socket.socket, method: str) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):     # who was there a moment ago has gone
            connection, peer = listening.accept()
            connection.setblocking(False)
            self._met(connection, ip_address(peer[0].partition("%")[0]), method)

    def close(self) -> None:
        self._undo.close()


__all__ = ["Stack"]
