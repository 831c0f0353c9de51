"""Packets in tunnels to their backends: IP in IP (RFC 2003, RFC 2473), whichever version is inside of which.

*The source outside* is the balancer's own address, so that whoever unwraps can say whom it trusts, and errors about the
tunnel come back here.  Devices spread what they receive over CPUs by addresses, and here only two are left; so the low
bits of an IPv4 source may be the flow's (`spread`), and an IPv6 header has a flow label, of the flow (RFC 6438).
Katran's prefix of made-up sources was rejected: errors about it go to nobody.

*What is outside of what is inside*: DSCP and ECN are copied (RFC 6040 section 4.1), 64 hops are left, whatever the
inside has, which is as it came: a balancer is no hop.  Outer packets may never be fragmented, so that nobody has to put
them together, and need no identification (RFC 6864).

*Too long* is what would not fit with the outer header, an aggregate by its segments.  The sender is told what would
fit, even if its packet might be fragmented: its own next ones then are, before they come here, and with their ports in
the first fragment.  So do Katran and Maglev; cutting here was rejected, because half of each packet would go by Python.

*Errors about the tunnel* from routers on the way say what fits there (RFC 2003 section 5.1).  That is believed, down to
`LEAST`, and forgotten after ten minutes; then the sender's next packet is answered.  The error itself goes no further:
it quotes little of the packet, and where the sender is, is not in it.
"""
from __future__ import annotations

import ipaddress
from typing import NamedTuple

from iovisor.language import Packet, Verdict, forward, now, punt, require, u8, u16, u64, walked_once
from iovisor.parts.allowance import take
from iovisor.parts.asking import is_right6
from iovisor.parts.reading import IPv6Halves, extensions
from iovisor.parts.rejection import QUOTABLE
from iovisor.wire import answer, checksum
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp, IcmpType, Unreachable
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IPv4, skip_options
from iovisor.wire.ipv4 import fill as fill4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.offload import of_data

from .flows import MASK64, MIX, WORD, Flows
from .settings import LEAST, Address
from .tables import Note, Reason, Slow, Work

HOPS = 64


class Tunnels(Flows):
    @walked_once
    def tunnel(self, pkt: Packet, eth: Ethernet, number: u16, mix: u64, length: u16, headers: u16, traffic: u8,
               protocol: u8) -> Verdict:
        """Send a packet of `length` bytes of IP to a member; `headers` bytes of it are in each segment of an aggregate.

        `mix` is the same for all packets of a flow, `traffic` is DSCP and ECN.
        """
        member = self.members[number]
        six = member.upper != 0
        room = max(member.mtu - (40 if six else 20), 0)
        segment = pkt.segment
        if length > room and (segment == 0 or headers + segment > room):
            require(take(self.rejection.allowance[0], self.config.rejections, now()), Reason.TOO_BIG)
            self.noted.add(Note.TOO_BIG, bytes=0)
            pkt.resize(min(len(pkt), QUOTABLE))         # no more is quoted, and a few aggregates would fill the queue
            return punt(Slow(what=Work.TOO_BIG, reason=Reason.TOO_BIG, mtu=room))
        require(length <= 0xffff - 40, Reason.TOO_BIG)
        own = self.own[1 if six else 0]
        self.hits.add(number, bytes=len(pkt))
        eth.dst, eth.src = member.mac, self.config.mac
        flow = (mix * MIX & MASK64) >> 44
        if six:
            eth.type = EtherType.IPV6
            outer6 = pkt.insert(IPv6Halves)
            outer6.version = 6
            outer6.traffic = traffic << 20 | flow
            outer6.length = length
            outer6.next = protocol
            outer6.hops = HOPS
            outer6.source_upper, outer6.source_lower = own.upper, own.lower
            outer6.destination_upper, outer6.destination_lower = member.upper, member.lower
        else:
            eth.type = EtherType.IPV4
            outer = pkt.insert(IPv4)
            source = own.lower & own.kept | flow & ~own.kept & MASK64
            fill4(outer, source & WORD, member.lower & WORD, protocol, length, HOPS, traffic >> 2, traffic & 3, 1)
            checksum.ipv4_header(outer)
        return forward(self.inside)

    def tunnel_error(self) -> Verdict:
        """An error about a packet that was sent by `tunnel`: what is to be learned of it, Python does."""
        self.noted.add(Note.TUNNEL, bytes=0)
        require(take(self.rejection.allowance[0], self.config.rejections, now()), Reason.TUNNEL)
        return punt(Slow(what=Work.NARROW, reason=Reason.TUNNEL))


def too_big(packet: Packet, mtu: int, reason: int) -> None:
    """Turn a packet into the error that says what would fit; rejects what must not be answered."""
    packet.resize(min(len(packet), QUOTABLE))
    eth = packet.parse(Ethernet)
    if eth.type == EtherType.IPV4:
        ip = packet.parse(IPv4)
        require(answer.may_answer(packet, eth, ip), reason)
        answer.error(packet, ip, ip.dst, IcmpType.UNREACHABLE, Unreachable.FRAGMENTATION_NEEDED, mtu)
    else:
        ip6 = packet.parse(IPv6)
        protocol, offset, _, _, _ = extensions(packet, ip6.next, ip6.length)
        require(answer.may_answer6(packet, eth, ip6, protocol, offset, Icmp6Type.TOO_BIG), reason)
        answer.error6(packet, ip6, ip6.dst, Icmp6Type.TOO_BIG, 0, mtu)


class Narrow(NamedTuple):
    """What an error tells: what fits on the way to a backend."""

    backend: Address
    mtu: int


def narrowed(packet: Packet, reason: int) -> Narrow:
    """Read an error about the tunnel; rejects one that tells nothing new, or nothing true."""
    packet.cursor = 0
    eth = packet.parse(Ethernet)
    if eth.type == EtherType.IPV4:
        ip = packet.parse(IPv4)
        skip_options(packet, ip)
        body = bytes(packet.data[packet.cursor:14 + ip.length])
        message, quoted = packet.parse(Icmp, IPv4)
        require(checksum.is_right(of_data(body)) and (message.type, message.code) == (
            IcmpType.UNREACHABLE, Unreachable.FRAGMENTATION_NEEDED), reason)
        found = Narrow(ipaddress.IPv4Address(quoted.dst), message.rest & 0xffff)
    else:
        ip6 = packet.parse(IPv6)
        body = bytes(packet.data[packet.cursor:54 + ip6.length])
        message6, quoted6 = packet.parse(Icmp6, IPv6)
        require(is_right6(ip6.src, ip6.dst, body) and message6.type == Icmp6Type.TOO_BIG, reason)
        found = Narrow(ipaddress.IPv6Address(quoted6.dst), message6.rest)
    return found._replace(mtu=max(found.mtu, LEAST))


__all__ = ["Narrow", "Tunnels", "narrowed", "too_big"]
