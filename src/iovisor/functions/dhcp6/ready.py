"""Replies that lie ready, so that the kernel gives them without asking Python: those of `dhcp.ready`, for DHCPv6.

A client that says the same again, byte for byte but for the transaction, is told the same, as long as its lease stands
and the configuration is what it was; nothing of the protocol is decided in the data path.  What is kept is what was
said on the link, to all servers, and is about one lease or none: several would have to stand all at once, and what
relay agents wrap has its transaction anywhere.

A reply has its exact length, because zeros behind the last option would be one.  So the frame is made with all the room
there is, summed, and cut: zeros add nothing to a sum.
"""
from __future__ import annotations

from iovisor.language import Array, Component, Lru, Packet, ipv6, mac, table, u8, u16, u32
from iovisor.wire import checksum
from iovisor.wire.dhcp6 import CLIENT_PORT, SERVER_PORT, SHORTEST, Dhcp6, Dhcp6Type
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import IPv6, fill
from iovisor.wire.udp import Udp
from iovisor.wire.udp import fill as fill_udp

from ..dhcp.ready import LONGEST, MASK64, ROOM, Asking, Ready, RepliesConfig, Words, digest, learn, repeat

HEADERS = 62                # bytes before a message


class Ready6(Ready):
    """A reply, and the lease it is about: address 0 if that is none.  `length` is that of its options."""

    address: ipv6
    length: u16 = 0
    asked: u8 = 0


class Replies6(Component):
    config: RepliesConfig
    ready: Lru[Asking, Ready6] = table("ready")
    generation: Array[u32] = table(1)

    def heard(self, pkt: Packet, sender: mac, length: u16) -> Ready6 | None:
        """The reply to a message of `length` bytes at the cursor, SHORTEST or more; None if none lies ready."""
        head = pkt.peek(Dhcp6)
        if head is None or length > SHORTEST + LONGEST or head.type > Dhcp6Type.INFORMATION_REQUEST:
            return None
        found = self.ready.get(Asking(digest=self.digest(pkt, length), mac=sender))
        if found is None or found.generation != self.generation[0]:
            return None
        return found

    def digest(self, pkt: Packet, length: u16) -> int:
        """Of the kind of a message and its options."""
        head = pkt.peek(Dhcp6)
        begin = MASK64 if head is None else MASK64 ^ head.type
        return digest(pkt, SHORTEST, max(length - SHORTEST, 0), begin)

    def write(self, pkt: Packet, ready: Ready6, own: ipv6, hardware: mac, client: ipv6) -> None:
        """Turn the question into the reply (RFC 8415 section 18.3.10)."""
        pkt.resize(HEADERS + SHORTEST + ROOM)
        eth = pkt.parse(Ethernet)
        eth.dst = eth.src
        eth.src = hardware
        ip, udp = pkt.blank(IPv6, Udp)
        payload = min(ready.length, ROOM) + SHORTEST
        fill(ip, own, client, IpProtocol.UDP, payload + 8)
        fill_udp(udp, SERVER_PORT, CLIENT_PORT, payload)
        head = pkt.peek(Dhcp6)
        options = pkt.peek(Words, SHORTEST)
        if head is None or options is None:
            return
        head.type = ready.kind
        repeat(options, ready)
        udp.checksum = checksum.finish_udp(checksum.pseudo_ipv6(own, client, IpProtocol.UDP, payload + 8)
                                           + checksum.of_udp(udp) + checksum.of_bytes(pkt, SHORTEST + ROOM))
        pkt.resize(HEADERS + payload)

    # -- control path --------------------------------------------------------------------------------------------------

    def keep(self, pkt: Packet, length: int, sender: int, options: bytes, ready: Ready6) -> None:
        """Have a reply ready for who sent this; `options` are those of the reply.  The cursor is as for `heard`."""
        if len(options) > ROOM or length > SHORTEST + LONGEST:
            return
        learn(ready, options)
        ready.length, ready.generation = len(options), self.generation[0]
        self.ready[Asking(digest=self.digest(pkt, length), mac=sender)] = ready

    def forget(self) -> None:
        """None of what lies ready holds any more."""
        self.generation[0] = self.generation[0] + 1 & 0xffff_ffff


__all__ = ["HEADERS", "Ready6", "Replies6"]
