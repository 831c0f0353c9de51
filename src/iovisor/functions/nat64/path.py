"""The data path of `nat64`: read, tracked, and made a packet of the other family.

    IPv6 from inside ── destination out of the prefix ──┐                  ┌── IPv4, to the outside
                                                        ├── tracked (1) ───┼── IPv6, to the inside
    IPv4 from outside ── destination is ours ───────────┘                  └── IPv6, back inside: a hairpin

(1) `parts.translation`.  What else the headers say, which give way to others, is kept in a `Crossing`.

Checksums are never made anew but where there was none: the difference of the pseudo-headers is added, so that what
was wrong stays wrong.  A header's own checksum is asked for, because the new header gets a right one.
"""
from __future__ import annotations

from iovisor.language import (
    Packet,
    Record,
    Verdict,
    drop,
    forward,
    inline,
    now,
    punt,
    require,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.parts.allowance import take
from iovisor.parts.bindings import WORD
from iovisor.parts.connections import Untracked, of_words
from iovisor.parts.embedding import embed, extract, is_embedded, is_global
from iovisor.parts.quotation import Ends, Query, of_halves
from iovisor.parts.reading import MAPPED, MOST_EXTENSIONS, IPv6Halves, Unreadable, is_error, is_whole
from iovisor.parts.rejection import QUOTABLE
from iovisor.parts.station import is_located
from iovisor.parts.translation import Early, Way
from iovisor.wire import answer, arp
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.checksum import finish, finish_udp, ipv4_is_right
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import IcmpType, Unreachable
from iovisor.wire.icmp6 import Icmp6Echo, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_martian_source, is_sane
from iovisor.wire.ipv6 import Extension, Fragment, IPv6, is_extension
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

from .crossing import FRAGMENT, Crossing, Form, Reason
from .errors import Errors
from .settings import MORE

ON_LINK = 255
TAGS = (0x8100, 0x88a8)
MOST_HEADERS = 256              # bytes of extension headers
SUMMED = 2_048                  # bytes of UDP that get a checksum here
ROUTES = (131, 137)             # options of IPv4: loose and strict source route


class Large(Record):
    """A packet is to be cut before it crosses."""

    most: u16           # bytes of each piece


@inline
def headers6(pkt: Packet, protocol: u8, payload: int) -> tuple[int, int, int, int, int, int]:
    """Protocol, fragment's offset, more and id, whether there is such a header, and what they leave of the payload.

    The cursor goes from behind the fixed header to behind those that a translator leaves out (RFC 7915 section 5.1).
    """
    offset = 0
    more = 0
    identity = 0
    cut = 0
    for _ in range(MOST_EXTENSIONS):
        if protocol == IpProtocol.FRAGMENT:
            fragment = pkt.parse(Fragment)
            protocol = fragment.next
            offset, more, identity, cut = fragment.offset, fragment.more, fragment.id, 1
            payload = payload - FRAGMENT
            if offset != 0:
                break
        elif protocol in (IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.DESTINATION):
            extension = pkt.parse(Extension)
            if protocol == IpProtocol.ROUTING:
                require(pkt.u8(1) == 0, Unreadable.SOURCE_ROUTED)
            protocol = extension.next
            size = extension.length * 8 + 8
            pkt.skip(size - 2)
            payload = payload - size
        else:
            break
    return protocol, offset, more, identity, cut, payload


class Path(Errors):
    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(not pkt.tagged and eth.type not in TAGS, Reason.TAGGED)
        room = len(pkt) - 14
        way, was, form = self.ways[0], self.crossings[0], self.prefixes[0]
        was.answer, was.bare, was.whole, was.speaker = 0, 0, 0, 0
        ip6 = None
        match eth.type:
            case EtherType.IPV6:
                whole = pkt.peek(IPv6)
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                if pkt.port == self.outside or not is_embedded(form, ip6.destination_upper, ip6.destination_lower):
                    return self.native(pkt, eth, whole, ip6)
                require(ip6.source_upper != 0 and ip6.source_upper >> 54 != 0x3fa and ip6.source_upper >> 56 != 0xff,
                        Reason.UNROUTABLE)
                require(not is_embedded(form, ip6.source_upper, ip6.source_lower), Reason.WRONG_SIDE)
                far = extract(form, ip6.destination_upper, ip6.destination_lower)
                way.source_upper, way.source_lower = ip6.source_upper, ip6.source_lower
                way.destination_upper, way.destination_lower = 0, MAPPED | far
                was.gone = (8 * WORD - of_halves(ip6.source_upper, ip6.source_lower)
                            - of_halves(ip6.destination_upper, ip6.destination_lower))
                was.hops, was.traffic = ip6.hops, ip6.traffic >> 20
                protocol, offset, more, identity, cut, payload = headers6(pkt, ip6.next, ip6.length)
                require(offset != 0 or not is_extension(protocol), Unreadable.TOO_MANY_HEADERS)
                require(payload + MOST_HEADERS >= ip6.length, Unreadable.TOO_MANY_HEADERS)
                require(payload <= 0xffff - 20 and protocol != IpProtocol.ICMP, Reason.NOT_TRANSLATABLE)
                was.front, was.cut = ip6.length + 40 - payload & 0xffff, cut
                protocol = IpProtocol.ICMP if protocol == IpProtocol.ICMP6 else protocol
            case EtherType.IPV4:
                ip = pkt.parse(IPv4)
                if pkt.port == self.inside or not self.bindings.is_ours(0, MAPPED | ip.dst):
                    return self.onward(pkt)
                require(is_sane(ip) and ip.length <= room and ipv4_is_right(pkt, ip), Unreadable.MALFORMED)
                if ip.ihl > 5:
                    self.read_options(pkt, ip.ihl * 4 - 20)
                far = ip.src
                way.source_upper, way.source_lower = 0, MAPPED | ip.src
                way.destination_upper, way.destination_lower = 0, MAPPED | ip.dst
                was.gone = 2 * WORD - ip.src - ip.dst
                was.hops, was.traffic, was.speaker = ip.ttl, ip.dscp << 2 | ip.ecn, ip.src
                protocol, offset, more, identity = ip.proto, ip.offset, ip.mf, ip.id
                payload = ip.length - ip.ihl * 4
                require(protocol != IpProtocol.ICMP6, Reason.NOT_TRANSLATABLE)
                was.front, was.cut, was.whole = ip.ihl * 4, more | (offset != 0), 1 - ip.df
                pkt.skip(ip.ihl * 4 - 20)
            case EtherType.ARP:
                return self.resolve(pkt, eth)
            case _:
                return drop(Reason.NOT_IP)
        require(not is_martian_source(far) and (form.well_known == 0 or is_global(far)), Reason.UNROUTABLE)
        if not self.config.copy_class:
            was.traffic = 0
        is_whole(protocol, offset, more, payload)
        way.length, way.protocol, way.identity = payload & 0xffff, protocol, identity
        way.first, way.later = more != 0 and offset == 0, offset != 0
        was.offset, was.more, was.piece = offset, more, payload & 0xffff

        # Ports as the wire has them.  An identifier of queries is a port of who asks.
        tcp = None
        way.one, way.two, way.kind, way.reply, way.scale, way.about = 0, 0, 0, 0, 0, 0
        flow = self.flows[0]
        flow.protocol = protocol
        segment = pkt.segment
        if offset != 0:
            self.as_train(flow, way)
            place = self.connections.fragments.get(flow)
            if place is None:
                require(self.config.wait != 0, Untracked.UNKNOWN_FRAGMENT)
                return punt(Early(a_upper=flow.a_upper, a_lower=flow.a_lower, b_upper=flow.b_upper,
                                  b_lower=flow.b_lower, a_port=flow.a_port, b_port=flow.b_port, protocol=flow.protocol))
            way.one, way.two = place.a_port, place.b_port
        elif protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            way.one, way.two = tcp.src, tcp.dst
            if segment != 0:
                was.piece = segment + tcp.offset * 4 & 0xffff
            pseudo = IpProtocol.TCP + way.length
            if ip6 is not None:
                pseudo = pseudo + of_words(ip6.source_upper, ip6.source_lower) + of_words(
                    ip6.destination_upper, ip6.destination_lower)
            else:
                pseudo = pseudo + (way.source_lower & WORD) + (way.destination_lower & WORD)
            way.scale = self.connections.read(pkt, tcp, pseudo, way.length)
        elif protocol == IpProtocol.UDP:
            udp = pkt.peek(Udp)
            if udp is None:
                return drop(Unreadable.MALFORMED)
            way.one, way.two = udp.src, udp.dst
            if segment != 0:
                was.piece = segment + 8 & 0xffff
            if udp.checksum == 0:
                require(ip6 is None, Unreadable.MALFORMED)      # RFC 8200 section 8.1
                require(more == 0 and segment == 0 and 8 <= udp.length <= min(payload, SUMMED), Reason.NO_CHECKSUM)
                was.bare, was.sum = 1, pkt.sum(min(udp.length, SUMMED)) + udp.length
        elif protocol == IpProtocol.ICMP:
            query = pkt.peek(Query)
            if query is None:
                return drop(Unreadable.MALFORMED)
            require(more == 0, Reason.NOT_TRANSLATABLE)         # RFC 7915 section 1.2
            if is_error(IpProtocol.ICMP6 if ip6 is not None else IpProtocol.ICMP, query.type):
                if ip6 is not None:
                    self.read_quotation6(pkt, form, way, was)
                else:
                    self.read_quotation4(pkt, way, was)
                flow.protocol = way.protocol
            else:
                asked = query.type == (Icmp6Type.ECHO if ip6 is not None else IcmpType.ECHO)
                way.reply = query.type == (Icmp6Type.ECHO_REPLY if ip6 is not None else IcmpType.ECHO_REPLY)
                way.kind = IcmpType.ECHO
                require(asked or way.reply != 0, Reason.NOT_TRANSLATABLE)
                if asked:
                    way.one = query.id
                else:
                    way.two = query.id

        # A router's part: hops, and what the next link carries.
        if was.hops <= 1:
            self.tell(was, ip6 is not None, Icmp6Type.TIME_EXCEEDED, IcmpType.TIME_EXCEEDED, 0, 0, Reason.EXPIRED)
        elif ip6 is not None:
            if was.piece + 20 > self.config.outside_mtu:
                self.tell(was, True, Icmp6Type.TOO_BIG, 0, 0, self.config.outside_mtu + MORE, Reason.TOO_BIG)
        else:
            long = was.piece + 40 + was.cut * FRAGMENT
            if was.whole and segment == 0 and long > self.config.lowest_mtu and protocol != IpProtocol.ICMP:
                return punt(Large(most=self.config.lowest_mtu - MORE - FRAGMENT))
            if long > self.config.inside_mtu:
                self.tell(was, False, 0, IcmpType.UNREACHABLE, Unreachable.FRAGMENTATION_NEEDED,
                          max(self.config.inside_mtu - MORE, 0), Reason.TOO_BIG)
        if was.answer != 0:
            return self.refused(pkt, was, form)
        self.track(pkt, way, flow, tcp)

        if way.about != 0:
            return self.errors(pkt, eth, ip6, form)
        if way.ours == 0:
            source, destination = way.shown_lower & WORD, way.real_lower & WORD
            ip4 = pkt.exchange(min(max(was.front, 40), 512), IPv4)
            self.fill4(ip4, was, source, destination, way.length, way.identity, way.protocol)
            self.below(pkt, was.gone + source + destination, 0, False)
            return forward(self.outside)
        shown_upper, shown_lower = embed(form, way.shown_lower & WORD)
        way.shown_upper, way.shown_lower = shown_upper, shown_lower
        if ip6 is not None:
            return self.turned(pkt, eth, ip6, tcp, way)
        addresses = of_halves(shown_upper, shown_lower) + of_halves(way.real_upper, way.real_lower)
        if was.cut:
            fresh, fragment = pkt.exchange(min(max(was.front, 20), 60), IPv6Halves, Fragment)
            fragment.next = IpProtocol.ICMP6 if way.protocol == IpProtocol.ICMP else way.protocol
            fragment.offset, fragment.more, fragment.id = was.offset, was.more, way.identity
            self.fill6(fresh, was, shown_upper, shown_lower, way.length + FRAGMENT & 0xffff, IpProtocol.FRAGMENT)
        else:
            fresh = pkt.exchange(min(max(was.front, 20), 60), IPv6Halves)
            self.fill6(fresh, was, shown_upper, shown_lower, way.length, way.protocol)
        self.below(pkt, was.gone + addresses, addresses, True)
        return forward(self.inside)

    # -- parts of the way --------------------------------------------------------------------------------------------

    def read_options(self, pkt: Packet, length: int) -> None:
        """Refuse a source route (RFC 7915 section 4.1); the cursor stands before the options, and stays."""
        offset = 0
        for _ in range(40):
            if offset >= length:
                break
            kind = pkt.u8(offset)
            if kind == 0:
                break
            require(kind not in ROUTES, Unreadable.SOURCE_ROUTED)
            offset = offset + (1 if kind == 1 else max(pkt.u8(offset + 1), 2)) & 0x3f

    def tell(self, was: Crossing, six: bool, type6: u8, type4: u8, code: u8, rest: u32, reason: u8) -> None:
        """Have the packet answered by an error."""
        was.type, was.code, was.rest, was.answer = type6 if six else type4, code, rest, reason

    def refused(self, pkt: Packet, was: Crossing, form: Form) -> Verdict:
        """The packet as the error about it, or dropped."""
        require(form.own != 0, was.answer)
        pkt.resize(min(len(pkt), QUOTABLE))
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip4 = pkt.parse(IPv4)
            require(answer.may_answer(pkt, eth, ip4), was.answer)
            require(take(self.allowances[pkt.port], self.config.errors, now()), Reason.ERRORS_LIMITED)
            answer.error(pkt, ip4, form.own, was.type, was.code, was.rest)
        else:
            ip6 = pkt.parse(IPv6)
            protocol, offset, _, _, _, _ = headers6(pkt, ip6.next, ip6.length)
            require(answer.may_answer6(pkt, eth, ip6, protocol, offset, was.type), was.answer)
            require(take(self.allowances[pkt.port], self.config.errors, now()), Reason.ERRORS_LIMITED)
            answer.error6(pkt, ip6, form.own6, was.type, was.code, was.rest)
        return forward(pkt.port)

    def below(self, pkt: Packet, change: u64, addresses: u64, six: bool) -> None:
        """The transport under its new pseudo-header, of these addresses; the cursor stands before it."""
        way, was = self.ways[0], self.crossings[0]
        if way.later:
            return
        if way.protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            pkt.amend(tcp, change & 0xffff_ffff_ffff)
            pkt.rewrite(tcp, src=way.own_port, dst=way.real_port)
        elif way.protocol == IpProtocol.UDP and was.bare:
            ends = pkt.parse(Ends)
            ends.source, ends.destination = way.own_port, way.real_port
            ends.checksum = finish_udp(was.sum + addresses + IpProtocol.UDP + 2 * 0xffff - way.one - way.two
                                       + way.own_port + way.real_port)
        elif way.protocol == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            pkt.amend(udp, change & 0xffff_ffff_ffff)
            pkt.rewrite(udp, src=way.own_port, dst=way.real_port)
        elif way.protocol == IpProtocol.ICMP:
            query, id = pkt.parse(Query), way.own_port | way.real_port
            if six:
                type = int(Icmp6Type.ECHO_REPLY if way.reply else Icmp6Type.ECHO)
                pseudo = addresses + IpProtocol.ICMP6 + way.length
            else:
                type = IcmpType.ECHO_REPLY if way.reply else IcmpType.ECHO
                pseudo = was.gone + 2 * 0xffff - IpProtocol.ICMP6 - way.length
            query.checksum = finish((~query.checksum & 0xffff) + pseudo + (~(query.type << 8) & 0xffff) + (type << 8)
                                    + (~query.id & 0xffff) + id)
            query.type, query.id = type, id

    # -- the rest ----------------------------------------------------------------------------------------------------

    def turned(self, pkt: Packet, eth: Ethernet, ip: IPv6Halves, tcp: Tcp | None, way: Way) -> Verdict:
        """A hairpin: IPv6 stays IPv6, and the frame returns to the station it came from."""
        ip.hops = ip.hops - 1
        if tcp is not None:
            pkt.rewrite(ip, under=tcp, source_upper=way.shown_upper, source_lower=way.shown_lower,
                        destination_upper=way.real_upper, destination_lower=way.real_lower)
            pkt.rewrite(tcp, src=way.own_port, dst=way.real_port)
        elif way.later == 0 and way.protocol == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            pkt.rewrite(ip, under=udp, source_upper=way.shown_upper, source_lower=way.shown_lower,
                        destination_upper=way.real_upper, destination_lower=way.real_lower)
            pkt.rewrite(udp, src=way.own_port, dst=way.real_port)
        elif way.later == 0 and way.protocol == IpProtocol.ICMP:
            echo = pkt.parse(Icmp6Echo)
            pkt.rewrite(ip, under=echo, source_upper=way.shown_upper, source_lower=way.shown_lower,
                        destination_upper=way.real_upper, destination_lower=way.real_lower)
            pkt.rewrite(echo, id=way.own_port | way.real_port)
        else:
            pkt.rewrite(ip, under=None, source_upper=way.shown_upper, source_lower=way.shown_lower,
                        destination_upper=way.real_upper, destination_lower=way.real_lower)
        here = eth.dst
        eth.dst = eth.src
        eth.src = here
        return forward(self.inside)

    def native(self, pkt: Packet, eth: Ethernet, whole: IPv6 | None, ip: IPv6Halves) -> Verdict:
        """IPv6 that is not for the other side passes as it is; solicitations for the gateway are answered."""
        form = self.prefixes[0]
        require(not is_embedded(form, ip.source_upper, ip.source_lower)
                and not is_embedded(form, ip.destination_upper, ip.destination_lower), Reason.WRONG_SIDE)
        if self.config.gateway != 0 and pkt.port == self.inside and ip.next == IpProtocol.ICMP6 and ip.hops == ON_LINK:
            if whole is not None and is_located(pkt, eth, whole, self.config.gateway_mac, self.config.gateway,
                                                self.config.gateway):
                return forward(pkt.port)
        return self.onward(pkt)

    def resolve(self, pkt: Packet, eth: Ethernet) -> Verdict:
        """ARP passes, but for requests about addresses that nobody else answers for."""
        message = pkt.peek(Arp)
        if message is None or self.config.mac == 0 or pkt.port == self.inside:
            return self.onward(pkt)
        if (arp.is_ethernet_ipv4(message) and message.operation == ArpOperation.REQUEST
                and message.sender_ip != message.target_ip and self.bindings.is_ours(0, MAPPED | message.target_ip)):
            arp.answer(eth, message, self.config.mac)
            return forward(pkt.port)
        return self.onward(pkt)

    def onward(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)
