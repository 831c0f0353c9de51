"""What is said about flows and addresses: ICMP errors, echo, ARP, neighbor discovery.

An error goes where the packets it is about come from.  It quotes one of them, so the flow it belongs to is the opposite
of what it quotes: that of the answers, or of the questions, just as if it had come from the other end (RFC 5508
section 4).  Without an entry the VIP's table says whose it is.
"""
from __future__ import annotations

from iovisor.language import Packet, Verdict, drop, forward, punt, require
from iovisor.parts.connections import Untracked
from iovisor.parts.quotation import Ends, Message, change_ends, of_halves, requote4
from iovisor.parts.reading import MAPPED, IPv6Halves, Unreadable, is_error
from iovisor.wire import answer, arp
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.ethernet import Ethernet, is_group
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, skip_options
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.neighbor import ON_LINK, NeighborSolicitation

from .flows import MASK64, WORD, mixed
from .tables import Mode, Note, Reason, Slow, What, Work
from .tunnel import Tunnels


class Messages(Tunnels):
    def related(self, ours: int) -> tuple[int, int]:
        """Whom an error is for, by the flow in `keys`: the opposite of what it quotes."""
        flow = self.keys[0]
        entry = self.flows.find(flow)
        if entry is not None:
            require(not entry.own, Untracked.UNRELATED)
            return entry.what, entry.number
        if ours:
            number = self.services.get(self.place_key(flow.b_upper, flow.b_lower, flow.b_port, flow.protocol))
            if number is not None:
                mix = mixed(self.config.seed, flow.a_upper, flow.a_lower, flow.b_upper, flow.b_lower,
                            flow.a_port << 32 | flow.b_port << 16 | flow.protocol)
                chosen = self.choices[number * self.config.slots + (mix >> 16 & self.config.slots - 1)]
                if chosen != 0:
                    return What.FORWARD, chosen - 1
            return What.REFUSE, 0
        return What.PASS, 0

    def message4(self, pkt: Packet, eth: Ethernet, ip: IPv4, length: int, ours: int, onward: int) -> Verdict:
        """A message of so many bytes; the cursor is before it."""
        icmp = pkt.peek(Icmp)
        if icmp is None:
            return drop(Unreadable.MALFORMED)
        if not is_error(IpProtocol.ICMP, icmp.type):
            if not ours:
                return forward(onward)
            if self.is_own(0, MAPPED | ip.dst) and icmp.type == IcmpType.ECHO_REPLY and pkt.port == self.inside:
                return punt(Slow(what=Work.ANSWER, reason=Reason.UNSERVED))
            require(icmp.type == IcmpType.ECHO and (self.is_own(0, MAPPED | ip.dst) or self.place_key(
                0, MAPPED | ip.dst, 0, 0) in self.services), Reason.UNSERVED)
            self.noted.add(Note.ECHO, bytes=0)
            answer.echo(pkt, eth, ip, icmp)
            return forward(pkt.port)
        message = pkt.parse(Message)
        inner = pkt.parse(IPv4)
        require(inner.version == 4 and inner.ihl >= 5, Unreadable.MALFORMED)
        skip_options(pkt, inner)
        if ours and inner.proto in (IpProtocol.IPV4, IpProtocol.IPV6) and inner.src == ip.dst and self.is_own(
                0, MAPPED | inner.src):
            return self.tunnel_error()
        if inner.offset != 0 or inner.proto not in (IpProtocol.TCP, IpProtocol.UDP) or inner.src != ip.dst:
            require(not ours, Untracked.UNRELATED)
            return forward(onward)
        ends = pkt.parse(Ends)
        left = length - Message.size - inner.ihl * 4 - Ends.size
        require(left >= 0, Unreadable.MALFORMED)
        self.flow_key(0, MAPPED | inner.dst, 0, MAPPED | inner.src, ends.destination, ends.source, inner.proto)
        what, number = self.related(ours)
        require(what != What.REFUSE, Untracked.UNRELATED)
        if what == What.PASS:
            return forward(onward)
        if what == What.RETURN:
            vip = self.vips[number]
            requote4(pkt, message, inner, ends, inner.src, ends.source, vip.lower & WORD, vip.port, left)
            pkt.rewrite(ip, under=None, src=vip.lower & WORD)
            return forward(self.outside)
        member = self.members[number]
        mode = self.vips[member.vip].mode
        if mode == Mode.TUNNEL:
            return self.tunnel(pkt, eth, number, ip.src, ip.length, ip.length, ip.dscp << 2 | ip.ecn, IpProtocol.IPV4)
        eth.dst = member.mac
        if pkt.port == self.inside:
            eth.src = self.config.mac
        if mode == Mode.NAT:
            requote4(pkt, message, inner, ends, member.lower & WORD, member.port, inner.dst, ends.destination, left)
            pkt.rewrite(ip, under=None, dst=member.lower & WORD)
        return forward(self.inside)

    def message6(self, pkt: Packet, eth: Ethernet, ip: IPv6Halves, length: int, ours: int, onward: int) -> Verdict:
        icmp = pkt.peek(Icmp6)
        if icmp is None:
            return drop(Unreadable.MALFORMED)
        if not is_error(IpProtocol.ICMP6, icmp.type):
            if not ours:
                return forward(onward)
            upper, lower = ip.destination_upper, ip.destination_lower
            if self.is_own(upper, lower) and icmp.type == Icmp6Type.ECHO_REPLY and pkt.port == self.inside:
                return punt(Slow(what=Work.ANSWER, reason=Reason.UNSERVED))
            require(icmp.type == Icmp6Type.ECHO and (self.is_own(upper, lower) or self.place_key(
                upper, lower, 0, 0) in self.services), Reason.UNSERVED)
            self.noted.add(Note.ECHO, bytes=0)
            here = eth.dst
            eth.dst = eth.src
            eth.src = here
            pkt.rewrite(ip, under=icmp, source_upper=upper, source_lower=lower, destination_upper=ip.source_upper,
                        destination_lower=ip.source_lower, hops=64)
            pkt.rewrite(icmp, type=Icmp6Type.ECHO_REPLY)
            return forward(pkt.port)
        message = pkt.parse(Message)
        inner = pkt.parse(IPv6Halves)
        require(inner.version == 6, Unreadable.MALFORMED)
        if ours and inner.next in (IpProtocol.IPV4, IpProtocol.IPV6) and self.is_own(
                ip.destination_upper, ip.destination_lower) and inner.source_upper == ip.destination_upper and \
                inner.source_lower == ip.destination_lower:
            return self.tunnel_error()
        if (inner.next not in (IpProtocol.TCP, IpProtocol.UDP) or inner.source_upper != ip.destination_upper
                or inner.source_lower != ip.destination_lower):
            require(not ours, Untracked.UNRELATED)
            return forward(onward)
        ends = pkt.parse(Ends)
        left = length - Message.size - IPv6Halves.size - Ends.size
        require(left >= 0, Unreadable.MALFORMED)
        self.flow_key(inner.destination_upper, inner.destination_lower, inner.source_upper, inner.source_lower,
                      ends.destination, ends.source, inner.next)
        what, number = self.related(ours)
        require(what != What.REFUSE, Untracked.UNRELATED)
        if what == What.PASS:
            return forward(onward)
        if what == What.RETURN:
            vip = self.vips[number]
            change = 4 * WORD - of_halves(inner.destination_upper, inner.destination_lower) + of_halves(
                vip.upper, vip.lower)
            outer = 4 * WORD - of_halves(ip.source_upper, ip.source_lower) + of_halves(vip.upper, vip.lower)
            change_ends(pkt, message, ends, inner.next, change, ends.source, vip.port, change + outer, left)
            pkt.rewrite(inner, under=None, destination_upper=vip.upper, destination_lower=vip.lower)
            pkt.rewrite(ip, under=None, source_upper=vip.upper, source_lower=vip.lower)
            return forward(self.outside)
        member = self.members[number]
        mode = self.vips[member.vip].mode
        if mode == Mode.TUNNEL:
            return self.tunnel(pkt, eth, number, ip.source_lower, ip.length + 40 & 0xffff, ip.length + 40 & 0xffff,
                               ip.traffic >> 20, IpProtocol.IPV6)
        eth.dst = member.mac
        if pkt.port == self.inside:
            eth.src = self.config.mac
        if mode == Mode.NAT:
            change = 4 * WORD - of_halves(inner.source_upper, inner.source_lower) + of_halves(
                member.upper, member.lower)
            change_ends(pkt, message, ends, inner.next, change, member.port, ends.destination, change + change,
                        left)
            pkt.rewrite(inner, under=None, source_upper=member.upper, source_lower=member.lower)
            pkt.rewrite(ip, under=None, destination_upper=member.upper, destination_lower=member.lower)
        return forward(self.inside)

    # -- who has an address ------------------------------------------------------------------------------------------

    def resolve4(self, pkt: Packet, eth: Ethernet, onward: int) -> Verdict:
        message = pkt.parse(Arp)
        ours = eth.dst == self.config.mac
        if not arp.is_ethernet_ipv4(message):
            require(not ours, Reason.BAD_RESOLUTION)
            return forward(onward)
        target = MAPPED | message.target_ip
        if message.operation == ArpOperation.REQUEST:
            if self.is_own(0, target) or self.place_key(0, target, 0, 0) in self.services:
                require(message.sender_mac != self.config.mac and not is_group(message.sender_mac),
                        Reason.BAD_RESOLUTION)
                arp.answer(eth, message, self.config.mac)
                return forward(pkt.port)
            require(not ours, Reason.HEARD)
            return forward(onward)
        if not ours:
            return forward(onward)
        require(pkt.port == self.inside, Reason.HEARD)
        return punt(Slow(what=Work.RESOLUTION, reason=Reason.HEARD))

    def resolve6(self, pkt: Packet, eth: Ethernet, ip: IPv6, onward: int) -> Verdict:
        """Discovery that goes to a group or to the balancer; the cursor is behind the fixed header."""
        message = pkt.peek(NeighborSolicitation)
        ours = eth.dst == self.config.mac
        if message is None or message.code != 0 or ip.hops != ON_LINK:
            require(not ours, Reason.BAD_RESOLUTION)
            return forward(onward)
        target = message.target
        upper, lower = target >> 64, target & MASK64
        if message.type == Icmp6Type.NEIGHBOR_SOLICITATION:
            if not (self.is_own(upper, lower) or self.place_key(upper, lower, 0, 0) in self.services):
                require(not ours, Reason.HEARD)
                return forward(onward)
        elif not ours:
            return forward(onward)
        else:
            require(pkt.port == self.inside, Reason.HEARD)
        return punt(Slow(what=Work.RESOLUTION, reason=Reason.HEARD))
