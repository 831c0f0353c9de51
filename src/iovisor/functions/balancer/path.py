"""The balancer's data path, for IPv4 and IPv6 at once.

    frame ── to the balancer's Ethernet address? ── ARP, discovery: answered
          │                                      ├── to a VIP, or back to one ── decided ── changed, out
          │                                      └── echo: answered
          ├── from the backends' side ── an answer of a flow? ── its source becomes the VIP, out
          └── anything else: as it is

*What is decided.*  A flow that was decided lately, on this CPU, is in `recent`: an array read inline, at a tenth of the
price of a lookup.  What is there is good for a second, and until something changes (`versions`); so the entries of the
flow are seen to once a second, and at every SYN, FIN and RST.  `decide` is the long way.
"""
from __future__ import annotations

from iovisor.language import SECOND, Packet, Verdict, drop, forward, now, punt, require
from iovisor.parts.allowance import take
from iovisor.parts.connections import Selectors, Untracked, train_of
from iovisor.parts.reading import MAPPED, IPv6Halves, Unreadable, extensions, is_whole
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_sane, payload_length, skip_options
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.tcp import Tcp, TcpFlag, flags_of
from iovisor.wire.udp import Udp

from .flows import WORD, mixed
from .messages import Messages
from .tables import Mode, Note, Reason, Slow, What, Work


class Path(Messages):
    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        onward = self.inside if pkt.port == self.outside else self.outside
        ours = 1 if eth.dst == self.config.mac else 0
        asked = is_group(eth.dst) and eth.type == EtherType.IPV6
        if pkt.tci & 0xfff != self.config.vlan or (not ours and pkt.port == self.outside
                                                   and eth.type != EtherType.ARP and not asked):
            return forward(onward)
        room = len(pkt) - 14
        ip4, ip6 = None, None
        a_upper, b_upper = 0, 0
        match eth.type:
            case EtherType.IPV4:
                ip4 = pkt.parse(IPv4)
                require(is_sane(ip4) and ip4.length <= room, Unreadable.MALFORMED)
                skip_options(pkt, ip4)
                a_lower, b_lower = MAPPED | ip4.src, MAPPED | ip4.dst
                protocol, offset, more, identity = ip4.proto, ip4.offset, ip4.mf, ip4.id
                payload = payload_length(ip4)
            case EtherType.IPV6:
                whole = pkt.peek(IPv6)
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                if ip6.next == IpProtocol.ICMP6 and whole is not None and (ours or asked):
                    icmp = pkt.peek(Icmp6)
                    if icmp is not None and icmp.type in (Icmp6Type.NEIGHBOR_SOLICITATION,
                                                          Icmp6Type.NEIGHBOR_ADVERTISEMENT):
                        return self.resolve6(pkt, eth, whole, onward)
                a_upper, a_lower = ip6.source_upper, ip6.source_lower
                b_upper, b_lower = ip6.destination_upper, ip6.destination_lower
                require((a_upper != 0 or a_lower >> 32 != 0xffff) and (b_upper != 0 or b_lower >> 32 != 0xffff),
                        Unreadable.MALFORMED)
                protocol, offset, more, identity, payload = extensions(pkt, ip6.next, ip6.length)
            case EtherType.ARP:
                return self.resolve4(pkt, eth, onward)
            case _:
                require(not ours, Reason.NOT_OURS)
                return forward(onward)
        is_whole(protocol, offset, more, payload)

        tcp, udp = None, None
        one, two, flags, plain = 0, 0, 0, 0
        if offset != 0:
            one, two = train_of(identity, 0)
        elif protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            one, two, flags = tcp.src, tcp.dst, flags_of(tcp)
            plain = 1 if flags == TcpFlag.ACK and more == 0 else 0
        elif protocol == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            one, two = udp.src, udp.dst
            plain = 1 - more
        elif protocol == IpProtocol.ICMP and ip4 is not None and more == 0:
            return self.message4(pkt, eth, ip4, payload, ours, onward)
        elif protocol == IpProtocol.ICMP6 and ip6 is not None and more == 0:
            return self.message6(pkt, eth, ip6, payload, ours, onward)
        elif not ours:
            return forward(onward)
        else:
            return drop(Reason.UNSERVED)

        if offset != 0:
            train = self.flows.fragments.get(self.flow_key(a_upper, a_lower, b_upper, b_lower, one, two, protocol))
            if train is None:
                require(not ours, Untracked.UNKNOWN_FRAGMENT)
                return forward(onward)
            one, two = train.a_port, train.b_port

        mix = mixed(self.config.seed, a_upper, a_lower, b_upper, b_lower, one << 32 | two << 16 | protocol)
        moment = now()
        version = self.versions[0].changes
        seen = self.recent[mix & self.config.recent - 1]
        own, port, upper, lower, mac = 0, 0, 0, 0, 0
        header = (tcp.offset * 4 if tcp is not None else 8) - payload
        if (plain and seen.a_lower == a_lower and seen.b_lower == b_lower and seen.a_upper == a_upper
                and seen.b_upper == b_upper and seen.a_port == one and seen.b_port == two
                and seen.protocol == protocol and seen.version == version and seen.until > moment):
            what, number = seen.what, seen.number
        else:
            self.flow_key(a_upper, a_lower, b_upper, b_lower, one, two, protocol)
            case = self.cases[0]
            case.ours, case.inner, case.flags = ours, 1 if pkt.port == self.inside else 0, flags
            case.station, case.what, case.own = eth.src, What.PASS, 0
            case.mix, case.moment = mix, moment
            self.decide()
            done = self.cases[0]
            what, number, own, port = done.what, done.number, done.own, done.port
            upper, lower, mac = done.upper, done.lower, done.mac
            if plain and own == 0 and what in (What.FORWARD, What.RETURN):
                seen.a_upper, seen.a_lower, seen.b_upper, seen.b_lower = a_upper, a_lower, b_upper, b_lower
                seen.a_port, seen.b_port, seen.protocol = one, two, protocol
                seen.what, seen.number, seen.version, seen.until = what, number, version, moment + SECOND
            if more and offset == 0 and what != What.PASS:
                first = Selectors(a_port=one, b_port=two)
                place, rest = train_of(identity, 0)
                self.flows.fragments.put(
                    self.flow_key(a_upper, a_lower, b_upper, b_lower, place, rest, protocol), first)

        if what == What.PASS:
            if not ours:
                return forward(onward)
            if self.is_own(b_upper, b_lower):
                require(pkt.port == self.inside, Reason.UNSERVED)
                return punt(Slow(what=Work.ANSWER, reason=Reason.UNSERVED))
            require(self.place_key(b_upper, b_lower, 0, 0) in self.services, Reason.NOT_OURS)
            return self.refuse(Reason.UNSERVED, moment)
        if what == What.REFUSE:
            return self.refuse(Reason.NO_BACKEND, moment)

        # From here on `a_…` and `b_…` are what source and destination become.
        if what == What.FORWARD:
            member = self.members[number]
            mode = self.vips[member.vip].mode
            if mode == Mode.TUNNEL:
                if ip4 is not None:
                    return self.tunnel(pkt, eth, number, mix, ip4.length, max(ip4.length + header, 0) & 0xffff,
                                       ip4.dscp << 2 | ip4.ecn, IpProtocol.IPV4)
                elif ip6 is not None:
                    return self.tunnel(pkt, eth, number, mix, ip6.length + 40 & 0xffff,
                                       max(ip6.length + 40 + header, 0) & 0xffff, ip6.traffic >> 20, IpProtocol.IPV6)
            self.hits.add(number, bytes=len(pkt))
            eth.dst = member.mac
            if pkt.port == self.inside:
                eth.src = self.config.mac
            if mode != Mode.NAT:
                return forward(self.inside)
            if own:
                a_upper, a_lower, one = b_upper, b_lower, port
            b_upper, b_lower, two = member.upper, member.lower, member.port
        else:
            vip = self.vips[number]
            a_upper, a_lower, one = vip.upper, vip.lower, vip.port
            if own:
                b_upper, b_lower, two = upper, lower, port
                eth.dst, eth.src = mac, self.config.mac
        if ip4 is not None:
            if tcp is not None:
                pkt.rewrite(ip4, under=tcp, src=a_lower & WORD, dst=b_lower & WORD)
                pkt.rewrite(tcp, src=one, dst=two)
            elif udp is not None:
                pkt.rewrite(ip4, under=udp, src=a_lower & WORD, dst=b_lower & WORD)
                pkt.rewrite(udp, src=one, dst=two)
            else:
                pkt.rewrite(ip4, under=None, src=a_lower & WORD, dst=b_lower & WORD)
        elif ip6 is not None:
            if tcp is not None:
                pkt.rewrite(ip6, under=tcp, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
                pkt.rewrite(tcp, src=one, dst=two)
            elif udp is not None:
                pkt.rewrite(ip6, under=udp, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
                pkt.rewrite(udp, src=one, dst=two)
            else:
                pkt.rewrite(ip6, under=None, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
        return forward(self.outside if what == What.RETURN and not own else self.inside)

    def refuse(self, reason: int, moment: int) -> Verdict:
        """Python tells the sender, so often as is allowed."""
        require(take(self.rejection.allowance[0], self.config.rejections, moment), reason)
        self.noted.add(Note.REFUSED, bytes=0)
        return punt(Slow(what=Work.REFUSAL, reason=reason))
