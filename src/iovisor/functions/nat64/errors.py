"""ICMP errors across: the message of the other family that says the same, about the packet as its sender sent it.

An error is taken for an answer to what it quotes, so it finds the connection, and with it who gets it and which ends
the quoted packet had there (RFC 5508 section 4).  Outer and quoted headers and the message's own give way together, to
those of the other family.  The message's checksum follows: what was under it before is added as its complement, what
is new is added, so what was wrong in the quoted rest stays wrong.
"""
from __future__ import annotations

from iovisor.language import Packet, Verdict, forward, require, u8, u64
from iovisor.parts.bindings import WORD
from iovisor.parts.connections import Untracked
from iovisor.parts.embedding import embed, extract, is_embedded
from iovisor.parts.quotation import Ends, Message, Query, change_ends, change_query, of_halves
from iovisor.parts.reading import MAPPED, IPv6Halves, Unreadable
from iovisor.parts.translation import Way
from iovisor.wire.checksum import finish, ipv4_header
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp import IcmpType
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import Fragment, is_extension

from .crossing import FRAGMENT, Crossing, Crossings, Form, Reason
from .messages import NEXT_HEADER, PLATEAUS, POINTERS, SIX, Rest
from .settings import LEAST, MORE

MOST_GROWN = 40 + 20 + FRAGMENT # bytes that an error of ICMP gains at most


class Errors(Crossings):
    def read_quotation6(self, pkt: Packet, form: Form, way: Way, was: Crossing) -> None:
        """Take an error for an answer to the packet it quotes: that one's ends, turned round.  The cursor stands before
        the message and stays."""
        quoted = self.quotations[0]
        message, inner = pkt.peek(Message), pkt.peek(IPv6Halves, 8)
        if message is None or inner is None or inner.version != 6:
            return self.refuse(Unreadable.MALFORMED)
        require(is_embedded(form, inner.source_upper, inner.source_lower)
                and extract(form, inner.source_upper, inner.source_lower) == way.destination_lower & WORD,
                Untracked.UNRELATED)
        way.source_upper, way.source_lower = inner.destination_upper, inner.destination_lower
        quoted.gone = (8 * WORD - of_halves(inner.source_upper, inner.source_lower)
                       - of_halves(inner.destination_upper, inner.destination_lower))
        quoted.traffic, quoted.hops, quoted.length = inner.traffic >> 20 & 0xff, inner.hops, inner.length
        quoted.cut, quoted.more, quoted.identity = 0, 0, 0
        protocol, about = inner.next, 48
        if protocol == IpProtocol.FRAGMENT:
            fragment = pkt.peek(Fragment, 48)
            if fragment is None:
                return self.refuse(Unreadable.MALFORMED)
            require(fragment.offset == 0, Untracked.UNRELATED)
            quoted.cut, quoted.more, quoted.identity = 1, fragment.more, fragment.id
            quoted.length = inner.length - FRAGMENT & 0xffff
            protocol, about = fragment.next, 48 + FRAGMENT
        require(not is_extension(protocol) and protocol != IpProtocol.ICMP, Reason.NOT_TRANSLATABLE)
        way.protocol, way.about = IpProtocol.ICMP if protocol == IpProtocol.ICMP6 else protocol, about
        meaning = self.meanings[SIX + (message.type & 0xf) * 16 + (message.code & 0xf)]
        require(message.type < 16 and message.code < 16 and meaning.rest != 0, Reason.NOT_TRANSLATABLE)
        was.type, was.code, was.rest = meaning.type, meaning.code, 0
        if meaning.rest == Rest.MTU:
            crossed = max(min(message.rest, 0xffff) - MORE - quoted.cut * FRAGMENT, 68)
            was.rest = min(crossed, self.config.outside_mtu, max(self.config.inside_mtu - MORE, 0))
        elif meaning.rest == Rest.POINTER:
            pointer = self.pointers[POINTERS + (message.rest & 0x3f)]
            require(message.rest < POINTERS and pointer != 0, Reason.NOT_TRANSLATABLE)
            was.rest = max(pointer - 1, 0) << 24
        self.read_quoted_ends(pkt, way, was, Icmp6Type.ECHO, Icmp6Type.ECHO_REPLY)

    def read_quotation4(self, pkt: Packet, way: Way, was: Crossing) -> None:
        """The same of IPv4."""
        quoted = self.quotations[0]
        message, inner = pkt.peek(Message), pkt.peek(IPv4, 8)
        if message is None or inner is None or inner.version != 4 or inner.ihl < 5:
            return self.refuse(Unreadable.MALFORMED)
        require(MAPPED | inner.src == way.destination_lower and inner.offset == 0, Untracked.UNRELATED)
        way.source_upper, way.source_lower = 0, MAPPED | inner.dst
        quoted.gone = 2 * WORD - inner.src - inner.dst
        quoted.traffic, quoted.hops = inner.dscp << 2 | inner.ecn, inner.ttl
        quoted.length = max(inner.length - inner.ihl * 4, 0)
        quoted.cut, quoted.more, quoted.identity = inner.mf, inner.mf, inner.id
        require(inner.proto != IpProtocol.ICMP6, Reason.NOT_TRANSLATABLE)
        way.protocol, way.about = inner.proto, 8 + inner.ihl * 4
        require(way.length + MOST_GROWN <= LEAST, Reason.NOT_TRANSLATABLE)
        meaning = self.meanings[(message.type & 0xf) * 16 + (message.code & 0xf)]
        require(message.type < 16 and message.code < 16 and meaning.rest != 0, Reason.NOT_TRANSLATABLE)
        was.type, was.code, was.rest = meaning.type, meaning.code, 0
        if meaning.rest == Rest.MTU:
            was.rest = message.rest & 0xffff
            if was.rest == 0:
                for plateau in PLATEAUS:
                    if plateau < inner.length and was.rest == 0:
                        was.rest = plateau
            was.rest = max(min(was.rest + MORE, self.config.inside_mtu, self.config.outside_mtu + MORE), LEAST)
        elif meaning.rest == Rest.POINTER:
            pointer = self.pointers[message.rest >> 24 & 0x3f]
            require(message.rest >> 24 < POINTERS and pointer != 0, Reason.NOT_TRANSLATABLE)
            was.rest = max(pointer - 1, 0)
        elif meaning.rest == Rest.NEXT:
            was.rest = NEXT_HEADER
        self.read_quoted_ends(pkt, way, was, IcmpType.ECHO, IcmpType.ECHO_REPLY)

    def read_quoted_ends(self, pkt: Packet, way: Way, was: Crossing, asks: u8, answers: u8) -> None:
        at = way.about & 0x7f
        require(way.length >= at + 8, Unreadable.MALFORMED)
        way.sequence = pkt.u32(at + 4)
        if way.protocol == IpProtocol.ICMP:
            type, id = pkt.u8(at), pkt.u16(at + 4)
            require(type in (asks, answers), Untracked.UNRELATED)
            way.kind, way.reply = IcmpType.ECHO, type == asks
            if type == asks:
                way.two = id
            else:
                way.one = id
        elif way.protocol == IpProtocol.TCP or way.protocol == IpProtocol.UDP:
            way.one, way.two = pkt.u16(at + 2), pkt.u16(at)
        was.sum = pkt.sum(at)

    def errors(self, pkt: Packet, eth: Ethernet, ip6: IPv6Halves | None, form: Form) -> Verdict:
        """An error, and what it quotes.  The quoted sender is who gets it."""
        way, was, quoted = self.ways[0], self.crossings[0], self.quotations[0]
        about = way.about & 0x7f
        length = way.length - about & 0xffff
        if way.ours == 0:
            source, destination = way.real_lower & WORD, way.shown_lower & WORD
            outer4, message, inner4 = pkt.exchange(min(max(was.front, 40) + about, 512), IPv4, Message, IPv4)
            inner4.version, inner4.ihl, inner4.dscp, inner4.ecn = 4, 5, quoted.traffic >> 2, quoted.traffic & 3
            inner4.length, inner4.id, inner4.mf = quoted.length + 20, quoted.identity, quoted.more
            inner4.df = 1 if quoted.cut == 0 and quoted.length + 20 > LEAST - MORE else 0
            inner4.ttl, inner4.proto, inner4.src, inner4.dst = quoted.hops, way.protocol, source, destination
            ipv4_header(inner4)
            self.fill4(outer4, was, destination, source, length + 28 & 0xffff, 0, IpProtocol.ICMP)
            change = was.gone + 2 * 0xffff - IpProtocol.ICMP6 - way.length
            self.requote(pkt, message, source + destination, change, False)
            return forward(self.outside)
        way.shown_upper, way.shown_lower = embed(form, way.shown_lower & WORD)
        if ip6 is not None:
            require(about == 48, Reason.NOT_TRANSLATABLE)
            ip6.hops = ip6.hops - 1
            here = eth.dst
            eth.dst = eth.src
            eth.src = here
            self.requote6(pkt, ip6, way)
            return forward(self.inside)
        way.from_upper, way.from_lower = embed(form, was.speaker)
        protocol = IpProtocol.ICMP6 if way.protocol == IpProtocol.ICMP else way.protocol
        change = (of_halves(way.from_upper, way.from_lower) + of_halves(way.real_upper, way.real_lower)
                  + IpProtocol.ICMP6)
        if quoted.cut:
            length = length + 48 + FRAGMENT & 0xffff
            outer, message, inner, fragment = pkt.exchange(min(max(was.front, 20) + about, 512), IPv6Halves, Message,
                                                           IPv6Halves, Fragment)
            fragment.next, fragment.more, fragment.id = protocol, quoted.more, quoted.identity
            inner.length, inner.next = quoted.length + FRAGMENT & 0xffff, IpProtocol.FRAGMENT
            change = change + (protocol << 8) + quoted.more + quoted.identity
        else:
            length = length + 48 & 0xffff
            outer, message, inner = pkt.exchange(min(max(was.front, 20) + about, 512), IPv6Halves, Message, IPv6Halves)
            inner.length, inner.next = quoted.length, protocol
        inner.version, inner.traffic, inner.hops = 6, quoted.traffic << 20, quoted.hops
        inner.source_upper, inner.source_lower = way.real_upper, way.real_lower
        inner.destination_upper, inner.destination_lower = way.shown_upper, way.shown_lower
        self.fill6(outer, was, way.from_upper, way.from_lower, length, IpProtocol.ICMP)
        addresses = of_halves(way.real_upper, way.real_lower) + of_halves(way.shown_upper, way.shown_lower)
        change = (change + length + addresses + (6 << 28 | quoted.traffic << 20) + inner.length
                  + (inner.next << 8 | inner.hops))
        self.requote(pkt, message, addresses, change, True)
        return forward(self.inside)

    def requote(self, pkt: Packet, message: Message, addresses: u64, change: u64, six: bool) -> None:
        """The message and the quoted transport under new headers; `change` is what is new under the message's sum,
        `addresses` of that the quoted ones.  The cursor stands behind the quoted headers."""
        way, was, quoted = self.ways[0], self.crossings[0], self.quotations[0]
        message.type, message.code, message.rest, message.checksum = was.type, was.code, was.rest, 0xffff
        more = (change + (was.type << 8 | was.code) + was.rest + 0xffff - min(was.sum, 0xffff)) & 0xffff_ffff_ffff
        if way.protocol == IpProtocol.ICMP:
            query = pkt.parse(Query)
            if six:
                type = int(Icmp6Type.ECHO if way.reply else Icmp6Type.ECHO_REPLY)
                pseudo = addresses + IpProtocol.ICMP6 + quoted.length
            else:
                type = IcmpType.ECHO if way.reply else IcmpType.ECHO_REPLY
                pseudo = quoted.gone + 2 * 0xffff - IpProtocol.ICMP6 - quoted.length
            turn = (type << 8) + (~(query.type << 8) & 0xffff)
            change_query(message, query, pseudo + turn & 0xffff_ffff_ffff, way.own_port | way.real_port, more + turn)
            query.type = type
        elif way.protocol == IpProtocol.TCP or way.protocol == IpProtocol.UDP:
            change_ends(pkt, message, pkt.parse(Ends), way.protocol, quoted.gone + addresses & 0xffff_ffff_ffff,
                        way.real_port, way.own_port, more, way.length - way.about - Ends.size)
        else:
            message.checksum = finish(more)
