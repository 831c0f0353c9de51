"""The data path of `nat`: packets read, tracked (`parts.translation`) and written again, both families alike.

    packet ── ports, of its own or of its first fragment ── tracked ── source shown, destination real ── out, or back
"""
from __future__ import annotations

from iovisor.language import Packet, Reasons, Verdict, auto, drop, forward, mac, punt, require
from iovisor.parts.bindings import WORD
from iovisor.parts.connections import Untracked, of_words
from iovisor.parts.quotation import Ends, Message, Query, change_ends, change_query
from iovisor.parts.reading import (
    MAPPED,
    IPv6Halves,
    Unreadable,
    extensions,
    internet4,
    is_error,
    is_message,
    is_reply,
    is_request,
    is_whole,
    request_of,
)
from iovisor.parts.translation import Early, Translation, TranslationConfig, Way
from iovisor.wire import arp
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import IcmpEcho
from iovisor.wire.icmp6 import Icmp6Echo, is_discovery
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

ON_LINK = 255
TAGS = (0x8100, 0x88a8)


class Reason(Reasons):
    TAGGED = auto()
    NOT_IP = auto()
    GROUP = auto()
    NOT_TRANSLATABLE = auto()


class NatConfig(TranslationConfig):
    """And what is answered for outside addresses, if not nothing."""

    mac: mac = 0


class Path(Translation):
    config: NatConfig

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(not pkt.tagged and eth.type not in TAGS, Reason.TAGGED)
        room = len(pkt) - 14
        way = self.ways[0]
        ip4, ip6 = None, None
        match eth.type:
            case EtherType.IPV4:
                ip4 = pkt.peek(IPv4)
                source, destination, protocol, offset, more, identity, payload, hops = internet4(pkt, room)
                require(destination >> 28 & 0xf != 0xe and destination & WORD != WORD, Reason.GROUP)
                way.source_upper, way.source_lower = 0, source
                way.destination_upper, way.destination_lower = 0, destination
            case EtherType.IPV6:
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                way.source_upper, way.source_lower = ip6.source_upper, ip6.source_lower
                way.destination_upper, way.destination_lower = ip6.destination_upper, ip6.destination_lower
                require((way.source_upper != 0 or way.source_lower >> 32 != 0xffff)
                        and (way.destination_upper != 0 or way.destination_lower >> 32 != 0xffff), Unreadable.MALFORMED)
                hops = ip6.hops
                protocol, offset, more, identity, payload = extensions(pkt, ip6.next, ip6.length)
            case EtherType.ARP:
                return self.resolve(pkt, eth)
            case _:
                return drop(Reason.NOT_IP)
        if self.bindings.extent[0].families & (1 if ip6 is None else 2) == 0:
            return self.onward(pkt)
        is_whole(protocol, offset, more, payload)
        way.length, way.protocol, way.identity = payload & 0xffff, protocol, identity
        way.first, way.later = more != 0 and offset == 0, offset != 0

        # Ports as the wire has them.  An identifier of queries is a port of who asks.
        tcp = None
        way.one, way.two, way.kind, way.reply, way.scale, way.about = 0, 0, 0, 0, 0, 0
        flow = self.flows[0]
        flow.protocol = protocol
        if offset != 0:
            self.as_train(flow, way)
            place = self.connections.fragments.get(flow)
            if place is None:
                require(self.config.wait != 0, Untracked.UNKNOWN_FRAGMENT)
                return punt(Early(a_upper=flow.a_upper, a_lower=flow.a_lower, b_upper=flow.b_upper,
                                  b_lower=flow.b_lower, a_port=flow.a_port, b_port=flow.b_port, protocol=flow.protocol))
            way.one, way.two, way.kind, way.reply = place.a_port, place.b_port, place.kind, place.reply
        elif protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            way.one, way.two = tcp.src, tcp.dst
            pseudo = (of_words(way.source_upper, way.source_lower)
                      + of_words(way.destination_upper, way.destination_lower) + IpProtocol.TCP + way.length)
            way.scale = self.connections.read(pkt, tcp, pseudo, way.length)
        elif protocol == IpProtocol.UDP:
            udp = pkt.peek(Udp)
            if udp is None:
                return drop(Unreadable.MALFORMED)
            way.one, way.two = udp.src, udp.dst
        elif is_message(protocol):
            query = pkt.peek(Icmp6Echo)
            if query is None:
                return drop(Unreadable.MALFORMED)
            if protocol == IpProtocol.ICMP6 and is_discovery(query.type) and hops == ON_LINK and more == 0:
                return self.onward(pkt)
            if is_error(protocol, query.type):
                require(more == 0, Reason.NOT_TRANSLATABLE)
                self.read_quotation(pkt, way)
                flow.protocol = way.protocol
            else:
                way.kind = request_of(query.type, protocol)
                require(way.kind != 0, Reason.NOT_TRANSLATABLE)
                way.reply = is_reply(query.type, protocol)
                if way.reply:
                    way.two = query.id
                else:
                    way.one = query.id
        if ip6 is not None:
            require(way.destination_upper >> 56 != 0xff and way.source_upper >> 54 != 0x3fa
                    and way.destination_upper >> 54 != 0x3fa, Reason.GROUP)
        self.track(pkt, way, flow, tcp)

        if way.about != 0:
            if ip4 is not None:
                self.requote4(pkt, ip4, way)
            elif ip6 is not None:
                self.requote6(pkt, ip6, way)
        elif ip4 is not None:
            source, destination = way.shown_lower & WORD, way.real_lower & WORD
            if tcp is not None:
                pkt.rewrite(ip4, under=tcp, src=source, dst=destination)
                pkt.rewrite(tcp, src=way.own_port, dst=way.real_port)
            elif way.later:
                pkt.rewrite(ip4, under=None, src=source, dst=destination)
            elif way.protocol == IpProtocol.UDP:
                datagram = pkt.parse(Udp)
                pkt.rewrite(ip4, under=datagram, src=source, dst=destination)
                pkt.rewrite(datagram, src=way.own_port, dst=way.real_port)
            elif way.protocol == IpProtocol.ICMP:
                echo = pkt.parse(IcmpEcho)
                pkt.rewrite(ip4, under=None, src=source, dst=destination)
                pkt.rewrite(echo, id=way.own_port | way.real_port)
            else:
                pkt.rewrite(ip4, under=None, src=source, dst=destination)
        elif ip6 is not None:
            if tcp is not None:
                pkt.rewrite(ip6, under=tcp, source_upper=way.shown_upper, source_lower=way.shown_lower,
                            destination_upper=way.real_upper, destination_lower=way.real_lower)
                pkt.rewrite(tcp, src=way.own_port, dst=way.real_port)
            elif way.later:
                pkt.rewrite(ip6, under=None, source_upper=way.shown_upper, source_lower=way.shown_lower,
                            destination_upper=way.real_upper, destination_lower=way.real_lower)
            elif way.protocol == IpProtocol.UDP:
                datagram = pkt.parse(Udp)
                pkt.rewrite(ip6, under=datagram, source_upper=way.shown_upper, source_lower=way.shown_lower,
                            destination_upper=way.real_upper, destination_lower=way.real_lower)
                pkt.rewrite(datagram, src=way.own_port, dst=way.real_port)
            elif way.protocol == IpProtocol.ICMP6:
                echo6 = pkt.parse(Icmp6Echo)
                pkt.rewrite(ip6, under=echo6, source_upper=way.shown_upper, source_lower=way.shown_lower,
                            destination_upper=way.real_upper, destination_lower=way.real_lower)
                pkt.rewrite(echo6, id=way.own_port | way.real_port)
            else:
                pkt.rewrite(ip6, under=None, source_upper=way.shown_upper, source_lower=way.shown_lower,
                            destination_upper=way.real_upper, destination_lower=way.real_lower)
        if way.ours == 0:
            return forward(self.outside)
        if pkt.port == self.inside:
            here = eth.dst
            eth.dst = eth.src
            eth.src = here
        return forward(self.inside)

    def resolve(self, pkt: Packet, eth: Ethernet) -> Verdict:
        """ARP passes, but for requests about addresses that nobody else answers for."""
        message = pkt.peek(Arp)
        if message is None or self.config.mac == 0:
            return self.onward(pkt)
        if (arp.is_ethernet_ipv4(message) and message.operation == ArpOperation.REQUEST
                and message.sender_ip != message.target_ip and self.bindings.is_ours(0, MAPPED | message.target_ip)):
            arp.answer(eth, message, self.config.mac)
            return forward(pkt.port)
        return self.onward(pkt)

    # -- ICMP errors -------------------------------------------------------------------------------------------------

    def read_quotation(self, pkt: Packet, way: Way) -> None:
        """Take an error for an answer to the packet it quotes: that one's ends, turned round.  The cursor stands before
        the message and stays."""
        way.about = 28
        if way.protocol == IpProtocol.ICMP:
            ip = pkt.peek(IPv4, 8)
            if ip is None or ip.version != 4 or ip.ihl < 5:
                return self.refuse(Unreadable.MALFORMED)
            require(MAPPED | ip.src == way.destination_lower and ip.offset == 0, Untracked.UNRELATED)
            way.source_upper, way.source_lower, way.protocol = 0, MAPPED | ip.dst, ip.proto
            way.about = 8 + ip.ihl * 4
        else:
            ip6 = pkt.peek(IPv6Halves, 8)
            if ip6 is None or ip6.version != 6:
                return self.refuse(Unreadable.MALFORMED)
            require(ip6.source_upper == way.destination_upper and ip6.source_lower == way.destination_lower,
                    Untracked.UNRELATED)
            way.source_upper, way.source_lower, way.protocol = ip6.destination_upper, ip6.destination_lower, ip6.next
            way.about = 48
        at = way.about & 0x7f
        require(way.length >= at + 8, Unreadable.MALFORMED)
        way.sequence = pkt.u32(at + 4)
        if is_message(way.protocol):
            type, id = pkt.u8(at), pkt.u16(at + 4)
            way.kind = request_of(type, way.protocol)
            require(way.kind != 0, Untracked.UNRELATED)
            way.reply = is_request(type, way.protocol)
            if way.reply:
                way.two = id
            else:
                way.one = id
        elif way.protocol == IpProtocol.TCP or way.protocol == IpProtocol.UDP:
            way.one, way.two = pkt.u16(at + 2), pkt.u16(at)

    def requote4(self, pkt: Packet, ip: IPv4, way: Way) -> None:
        """Translate an error and what it quotes.  The quoted sender is who gets the error."""
        message, inner = pkt.parse(Message, IPv4)
        pkt.skip(max(way.about - 28, 0))
        source, destination = way.real_lower & WORD, way.shown_lower & WORD
        if is_message(way.protocol):
            query = pkt.parse(Query)
            change_query(message, query, 0, way.own_port | way.real_port, 0)
        elif way.protocol == IpProtocol.TCP or way.protocol == IpProtocol.UDP:
            ends = pkt.parse(Ends)
            addresses = 2 * WORD - inner.src - inner.dst + source + destination
            change_ends(pkt, message, ends, way.protocol, addresses, way.real_port, way.own_port, 0,
                        way.length - way.about - Ends.size)
        pkt.rewrite(inner, under=None, src=source, dst=destination)
        pkt.rewrite(ip, under=None, src=destination if way.own_slot != 0 else ip.src, dst=source)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def onward(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)
