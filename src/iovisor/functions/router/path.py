"""The router's data path, for IPv4 and IPv6 in the same order.

    frame ── to us? ── ARP, discovery: answered, noted
                   └── header right? ── route ── local: echo, errors, resets
                                           ├── not to be forwarded: refused, by an ICMP error where one is due
                                           ├── neighbor unknown, options, too long: Python
                                           └── hop limit less by one, addresses of the next link, out

Every refusal of a family leaves through one place, so that the code that builds an error is there once.  What needs
Python comes back through `again`, the same path in CPython with `done` set, and so means the same there: tables are
shared, and methods of a function are ordinary Python.

Nothing is written before the decision stands, and a packet that is punted is punted as it came.
"""
from __future__ import annotations

from typing import Any

from iovisor.language import (
    Array,
    Counter,
    Function,
    Header,
    Packet,
    Ports,
    Verdict,
    drop,
    forward,
    hash,
    inline,
    ipv4,
    ipv6,
    now,
    ports,
    punt,
    require,
    table,
    u8,
    u16,
)
from iovisor.parts.allowance import Allowance, take
from iovisor.wire import answer, arp, checksum, neighbor
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.ethernet import BROADCAST, Ethernet, EtherType, is_group
from iovisor.wire.icmp import Icmp, IcmpType, TimeExceeded, Unreachable
from iovisor.wire.icmp6 import Icmp6, Icmp6Type, Unreachable6
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_fragment, is_sane
from iovisor.wire.ipv4 import is_martian_source as is_martian_source4
from iovisor.wire.ipv6 import SOLICITED_NODE, IPv6, is_link_local, is_multicast, skip_extensions
from iovisor.wire.neighbor import OptionType
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import PRIORITY_ONLY, vid_of

from .family import Family
from .settings import RouterConfig
from .tables import (
    GROUPS,
    PORTS,
    RULES,
    SLOTS,
    Hop,
    Link,
    Mark,
    Near4,
    Near6,
    Neighbor,
    Policy,
    Reason,
    Recent4,
    Recent6,
    Route4,
    Route6,
    RouteKind,
    Slow,
    State,
    Unresolved,
    Work,
)

UNREACHABLE = IcmpType.UNREACHABLE << 8
UNREACHABLE6 = Icmp6Type.UNREACHABLE << 8
UNKNOWN_HEADER = 1          # the code of a parameter problem with a next header (RFC 4443 section 3.4)
ICMP_LENGTH, TCP_LENGTH = 8, 20
LINK_LOCAL4 = 0xa9fe        # the upper half of addresses that no router forwards, from or to (RFC 3927 section 7)
LONGEST_MESSAGE = 256       # bytes of a discovery message whose checksum is verified; longer ones are not ours


class Target(Header):
    """What follows the first eight bytes of a solicitation or an advertisement (RFC 4861 sections 4.3 and 4.4)."""

    address: ipv6


@inline
def is_martian_destination4(address: ipv4) -> bool:
    """Where nothing can be sent: this network, loopback, class E (RFC 1812 section 5.3.7); link-local is no routing."""
    return address >> 24 == 0 or address >> 24 == 127 or address >> 28 == 0xf or address >> 16 == LINK_LOCAL4


@inline
def segment_length(pkt: Packet, proto: u8, offset: u8) -> int:
    """The longest packet an aggregate becomes, from its network header on, which takes `offset` bytes; the cursor is
    behind the fixed network header, and `offset` less that is where the transport header begins."""
    transport = pkt.peek(Tcp, offset)
    if transport is None:
        return 0xffff
    return pkt.segment + (transport.offset * 4 if proto == IpProtocol.TCP else 8)


@inline
def asks4(pkt: Packet, ip: IPv4) -> bool:
    """Whether it is an echo request, or a part of one: those the router answers for itself even where nat has its
    address.  The cursor is behind the fixed header."""
    if ip.proto != IpProtocol.ICMP:
        return False
    message = pkt.peek(Icmp, (ip.ihl * 4 - 20) & 0x3f)
    if message is None or is_fragment(ip):
        return True
    return message.type == IcmpType.ECHO


@inline
def asks6(pkt: Packet, ip: IPv6) -> bool:
    """The same; without extension headers."""
    if ip.next != IpProtocol.ICMP6:
        return False
    message = pkt.peek(Icmp6)
    if message is None:
        return True
    return message.type == Icmp6Type.ECHO


class Path(Function):
    config: RouterConfig
    ports: Ports = ports(PORTS)

    links: Array[Link] = table(PORTS)
    v4: Family[ipv4, Route4, Recent4, Near4] = Family()
    v6: Family[ipv6, Route6, Recent6, Near6] = Family()
    choices: Array[u16] = table(GROUPS * SLOTS)
    hops: Array[Hop] = table(1024)
    policies: Array[Policy] = table(PORTS * RULES)
    buckets: Array[Allowance] = table(PORTS)
    redirects: Array[u8] = table(PORTS)
    answered: Counter = table(256)

    def ingress(self, pkt: Packet) -> Verdict:
        return self.receive(pkt, 0)

    def receive(self, pkt: Packet, done: int) -> Verdict:
        """`done`: Python has seen to options already."""
        link = self.links[pkt.port]
        require(link.mac != 0, Reason.NO_INTERFACE)
        if pkt.tagged:
            require(vid_of(pkt.tci) == PRIORITY_ONLY, Reason.TAGGED)
            pkt.untag()
            require(not pkt.tagged, Reason.TAGGED)
        eth = pkt.parse(Ethernet)
        require(not is_group(eth.src), Reason.MALFORMED)
        if eth.type == EtherType.ARP:
            require(eth.dst == link.mac or eth.dst == BROADCAST, Reason.NOT_OURS)
            return self.resolve4(pkt, eth, link)
        if eth.dst != link.mac:
            if eth.type == EtherType.IPV6 and is_group(eth.dst):
                return self.group6(pkt, eth, link)
            require(is_group(eth.dst), Reason.NOT_OURS)
            return drop(Reason.BROADCAST if eth.dst == BROADCAST else Reason.MULTICAST)
        if eth.type == EtherType.IPV4:
            return self.route4(pkt, eth, link, done)
        require(eth.type == EtherType.IPV6, Reason.NOT_IP)
        return self.route6(pkt, eth, link, done)

    # -- IPv4 --------------------------------------------------------------------------------------------------------

    def route4(self, pkt: Packet, eth: Ethernet, link: Link, done: int) -> Verdict:
        ip = pkt.parse(IPv4)
        require(is_sane(ip) and ip.length + 14 <= len(pkt), Reason.MALFORMED)
        if ip.ihl == 5:
            require(checksum.is_right(checksum.of_ipv4(ip)), Reason.CHECKSUM)
        else:
            require(checksum.ipv4_is_right(pkt, ip), Reason.CHECKSUM)
        require(not is_martian_source4(ip.src), Reason.MARTIAN_SOURCE)
        own = self.v4.expect(pkt.port, link.reverse_path, link.translated, ip.src)
        kind, port, group, gateway = self.v4.find(ip.dst, self.policy(pkt, link, 4, ip.src))
        if kind == RouteKind.LOCAL:
            require(not own, Reason.MARTIAN_SOURCE)
            if port == pkt.port or self.links[port].translated == 0 or asks4(pkt, ip):
                return self.local4(pkt, eth, ip, link, done)
        require(not is_martian_destination4(ip.dst), Reason.MARTIAN_DESTINATION)
        require(ip.src >> 16 != LINK_LOCAL4, Reason.MARTIAN_SOURCE)
        require(kind != RouteKind.BLACKHOLE, Reason.BLACKHOLE)
        if ip.ihl > 5 and done == 0 and kind != RouteKind.NONE:
            return punt(Slow(what=Work.OPTIONS, version=4))
        header = ip.ihl * 4
        if kind != RouteKind.VIA:
            gateway = ip.dst
        if kind == RouteKind.GROUP:
            slot = self.spread(pkt, ip.src, ip.dst, ip.proto, header - 20, is_fragment(ip))
            hop = self.hops[self.choices[group * SLOTS + slot]]
            gateway = hop.gateway & 0xffff_ffff if hop.gateway != 0 else ip.dst
            port = hop.port
        out = self.links[port]
        refusal, rest, reason = 0, 0, 0
        if kind == RouteKind.BROADCAST:
            require(out.directed_broadcast != 0 and port != pkt.port, Reason.BROADCAST)
        elif kind == RouteKind.NONE:
            refusal, reason = UNREACHABLE | Unreachable.NET, Reason.NO_ROUTE
        elif kind == RouteKind.UNREACHABLE:
            refusal, reason = UNREACHABLE | Unreachable.HOST, Reason.UNREACHABLE
        elif kind == RouteKind.PROHIBIT:
            refusal, reason = UNREACHABLE | Unreachable.PROHIBITED, Reason.PROHIBITED
        if refusal == 0 and ip.ttl <= 1:
            refusal, reason = IcmpType.TIME_EXCEEDED << 8 | TimeExceeded.TRANSIT, Reason.EXPIRED
        elif refusal == 0 and ip.length > out.mtu and (
                pkt.segment == 0 or header + segment_length(pkt, ip.proto, (header - 20) & 0x3f) > out.mtu):
            if ip.df == 0:
                return punt(Slow(what=Work.FRAGMENT, version=4, mtu=out.mtu))
            refusal, rest, reason = UNREACHABLE | Unreachable.FRAGMENTATION_NEEDED, out.mtu, Reason.TOO_BIG
        if refusal == 0:
            target = BROADCAST
            if kind == RouteKind.LOCAL:
                target = out.mac            # nat turns it, and it comes back to us
            elif kind != RouteKind.BROADCAST:
                near = self.v4.neighbors.get(Near4(address=gateway, port=port))
                if near is None or near.state == State.ASKED:
                    return punt(Unresolved(port=port, version=4, address=gateway))
                if near.used == 0:
                    near.used = 1
                target = near.mac if near.state != State.DEAD else 0
            if target != 0:
                if port == pkt.port and self.may_redirect(port):
                    pkt.notify(Slow(what=Work.REDIRECT, version=4, address=gateway))
                eth.dst = target
                eth.src = out.mac
                length = ip.length + 14
                pkt.rewrite(ip, ttl=(ip.ttl - 1) & 0xff)
                if len(pkt) > length:
                    pkt.resize(length)
                return forward(port)
            refusal, reason = UNREACHABLE | Unreachable.HOST, Reason.UNREACHABLE
        return self.refuse4(pkt, eth, ip, link, refusal, rest, reason)

    def refuse4(self, pkt: Packet, eth: Ethernet, ip: IPv4, link: Link, refusal: int, rest: int,
                reason: int) -> Verdict:
        if link.address4 == 0 or not answer.may_answer(pkt, eth, ip):
            return drop(reason)
        require(self.may_err(pkt.port), Reason.ERRORS_LIMITED)
        self.answered.add(reason, bytes=len(pkt))
        answer.error(pkt, ip, link.address4, refusal >> 8 & 0xff, refusal & 0xff, rest & 0xffff_ffff)
        return forward(pkt.port)

    def local4(self, pkt: Packet, eth: Ethernet, ip: IPv4, link: Link, done: int) -> Verdict:
        if ip.ihl > 5 and done == 0:
            return punt(Slow(what=Work.OPTIONS, version=4))
        if is_fragment(ip):
            return punt(Slow(what=Work.REASSEMBLE, version=4))
        length, payload = ip.length + 14, ip.length - ip.ihl * 4
        if ip.proto == IpProtocol.ICMP:
            require(payload >= ICMP_LENGTH, Reason.MALFORMED)
            pkt.skip((ip.ihl * 4 - 20) & 0x3f)
            echo = pkt.parse(Icmp)
            require(echo.type == IcmpType.ECHO and echo.code == 0, Reason.LOCAL)
            answer.echo(pkt, eth, ip, echo)
            if len(pkt) > length:
                pkt.resize(length)
            return forward(pkt.port)
        if ip.proto == IpProtocol.TCP:
            require(payload >= TCP_LENGTH, Reason.MALFORMED)
            require(answer.may_answer(pkt, eth, ip), Reason.LOCAL)
            require(self.may_err(pkt.port), Reason.ERRORS_LIMITED)
            pkt.skip((ip.ihl * 4 - 20) & 0x3f)
            answer.reset(pkt, ip, pkt.parse(Tcp))
            return forward(pkt.port)
        code = Unreachable.PORT if ip.proto == IpProtocol.UDP else Unreachable.PROTOCOL
        return self.refuse4(pkt, eth, ip, link, UNREACHABLE | code, 0, Reason.LOCAL)

    def resolve4(self, pkt: Packet, eth: Ethernet, link: Link) -> Verdict:
        """ARP: the packet reception of RFC 826, one port's addresses for itself."""
        message = pkt.parse(Arp)
        require(arp.is_ethernet_ipv4(message) and message.operation in (ArpOperation.REQUEST, ArpOperation.REPLY)
                and not is_group(message.sender_mac) and message.sender_mac != 0, Reason.BAD_RESOLUTION)
        ours = self.v4.is_at(message.target_ip, pkt.port, RouteKind.LOCAL)
        source = self.v4.routes.get(message.sender_ip)
        if source is not None and source.port == pkt.port:
            if source.kind == RouteKind.LOCAL:
                require(message.sender_mac != link.mac, Reason.HEARD)
                return punt(Slow(what=Work.CONFLICT, version=4, address=message.sender_ip))
            if source.kind == RouteKind.CONNECTED:
                key = Near4(address=message.sender_ip, port=pkt.port)
                known = self.v4.neighbors.get(key)
                if known is None:
                    if ours:
                        self.v4.neighbors.insert(key, Neighbor(mac=message.sender_mac, state=State.KNOWN, since=now(),
                                                               used=0, tries=0))
                elif known.state != State.FIXED and self.v4.confirm(known, message.sender_mac):
                    return punt(Slow(what=Work.RESOLVED, version=4, address=message.sender_ip))
        require(ours and message.operation == ArpOperation.REQUEST, Reason.HEARD)
        arp.answer(eth, message, link.mac)
        return forward(pkt.port)

    # -- IPv6 --------------------------------------------------------------------------------------------------------

    def route6(self, pkt: Packet, eth: Ethernet, link: Link, done: int) -> Verdict:
        ip = pkt.parse(IPv6)
        require(ip.version == 6 and ip.length + 54 <= len(pkt), Reason.MALFORMED)
        require(ip.src > 1 and not is_multicast(ip.src), Reason.MARTIAN_SOURCE)
        require(ip.dst > 1 and not is_multicast(ip.dst), Reason.MARTIAN_DESTINATION)
        own = False
        if is_link_local(ip.src):
            require(ip.src != link.link_local, Reason.MARTIAN_SOURCE)
        else:
            own = self.v6.expect(pkt.port, link.reverse_path, link.translated, ip.src)
        if is_link_local(ip.dst):
            require(ip.dst == link.link_local, Reason.MARTIAN_DESTINATION)
            return self.local6(pkt, eth, ip, link, done)
        kind, port, group, gateway = self.v6.find(ip.dst, self.policy(pkt, link, 6, ip.src))
        if kind == RouteKind.LOCAL:
            require(not own, Reason.MARTIAN_SOURCE)
            if port == pkt.port or self.links[port].translated == 0 or asks6(pkt, ip):
                return self.local6(pkt, eth, ip, link, done)
        require(kind != RouteKind.BLACKHOLE, Reason.BLACKHOLE)
        if ip.next == IpProtocol.HOP_BY_HOP and done == 0 and kind != RouteKind.NONE:
            return punt(Slow(what=Work.OPTIONS, version=6))
        if kind != RouteKind.VIA:
            gateway = ip.dst
        if kind == RouteKind.GROUP:
            slot = self.spread(pkt, ip.src, ip.dst, ip.next, 0, False)
            hop = self.hops[self.choices[group * SLOTS + slot]]
            gateway = hop.gateway if hop.gateway != 0 else ip.dst
            port = hop.port
        out = self.links[port]
        refusal, rest, reason = 0, 0, 0
        if kind == RouteKind.NONE:
            refusal, reason = UNREACHABLE6 | Unreachable6.NO_ROUTE, Reason.NO_ROUTE
        elif kind == RouteKind.UNREACHABLE:
            refusal, reason = UNREACHABLE6 | Unreachable6.ADDRESS, Reason.UNREACHABLE
        elif kind == RouteKind.PROHIBIT:
            refusal, reason = UNREACHABLE6 | Unreachable6.PROHIBITED, Reason.PROHIBITED
        elif is_link_local(ip.src):
            refusal, reason = UNREACHABLE6 | Unreachable6.BEYOND_SCOPE, Reason.MARTIAN_SOURCE
        elif ip.hops <= 1:
            refusal, reason = Icmp6Type.TIME_EXCEEDED << 8, Reason.EXPIRED
        elif ip.length + 40 > out.mtu and (pkt.segment == 0 or 40 + segment_length(pkt, ip.next, 0) > out.mtu):
            refusal, rest, reason = Icmp6Type.TOO_BIG << 8, out.mtu, Reason.TOO_BIG
        if refusal == 0:
            target = out.mac                # nat turns it, and it comes back to us
            if kind != RouteKind.LOCAL:
                near = self.v6.neighbors.get(Near6(address=gateway, port=port))
                if near is None or near.state == State.ASKED:
                    return punt(Unresolved(port=port, version=6, address=gateway))
                if near.used == 0:
                    near.used = 1
                target = near.mac if near.state != State.DEAD else 0
            if target != 0:
                if port == pkt.port and self.may_redirect(port):
                    pkt.notify(Slow(what=Work.REDIRECT, version=6, address=gateway))
                eth.dst = target
                eth.src = out.mac
                length = ip.length + 54
                pkt.rewrite(ip, hops=(ip.hops - 1) & 0xff)
                if len(pkt) > length:
                    pkt.resize(length)
                return forward(port)
            refusal, reason = UNREACHABLE6 | Unreachable6.ADDRESS, Reason.UNREACHABLE
        return self.refuse6(pkt, eth, ip, link, refusal, rest, reason)

    def refuse6(self, pkt: Packet, eth: Ethernet, ip: IPv6, link: Link, refusal: int, rest: int,
                reason: int) -> Verdict:
        proto, offset, _ = skip_extensions(pkt, ip)
        source = link.link_local if link.address6 == 0 or is_link_local(ip.src) else link.address6
        if not answer.may_answer6(pkt, eth, ip, proto, offset, refusal >> 8 & 0xff):
            return drop(reason)
        require(self.may_err(pkt.port), Reason.ERRORS_LIMITED)
        self.answered.add(reason, bytes=len(pkt))
        answer.error6(pkt, ip, source, refusal >> 8 & 0xff, refusal & 0xff, rest & 0xffff_ffff)
        return forward(pkt.port)

    def local6(self, pkt: Packet, eth: Ethernet, ip: IPv6, link: Link, done: int) -> Verdict:
        if ip.next in (IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.DESTINATION):
            require(done == 0, Reason.LOCAL)
            return punt(Slow(what=Work.OPTIONS, version=6))
        length = ip.length + 54
        if ip.next == IpProtocol.ICMP6:
            require(ip.length >= ICMP_LENGTH, Reason.MALFORMED)
            echo = pkt.parse(Icmp6)
            if neighbor.is_valid(ip, echo) and echo.type in (Icmp6Type.NEIGHBOR_SOLICITATION,
                                                             Icmp6Type.NEIGHBOR_ADVERTISEMENT):
                return self.resolve6(pkt, eth, ip, link, echo)
            require(echo.type == Icmp6Type.ECHO and echo.code == 0, Reason.LOCAL)
            answer.echo6(pkt, eth, ip, echo)
            if len(pkt) > length:
                pkt.resize(length)
            return forward(pkt.port)
        if ip.next == IpProtocol.FRAGMENT:
            return punt(Slow(what=Work.REASSEMBLE, version=6))
        if ip.next == IpProtocol.TCP:
            require(ip.length >= TCP_LENGTH, Reason.MALFORMED)
            require(self.may_err(pkt.port), Reason.ERRORS_LIMITED)
            answer.reset6(pkt, ip, pkt.parse(Tcp), ip.length)
            return forward(pkt.port)
        if ip.next == IpProtocol.UDP:
            datagram = pkt.peek(Udp)
            require(datagram is None or datagram.checksum != 0, Reason.CHECKSUM)        # RFC 8200 section 8.1
            return self.refuse6(pkt, eth, ip, link, UNREACHABLE6 | Unreachable6.PORT, 0, Reason.LOCAL)
        return self.refuse6(pkt, eth, ip, link, Icmp6Type.PARAMETER_PROBLEM << 8 | UNKNOWN_HEADER, 6, Reason.LOCAL)

    def group6(self, pkt: Packet, eth: Ethernet, link: Link) -> Verdict:
        """Groups are not routed; in those the router is a member of, its neighbors look for it."""
        ip = pkt.parse(IPv6)
        require(ip.version == 6 and ip.length + 54 <= len(pkt), Reason.MALFORMED)
        require(ip.next == IpProtocol.ICMP6 and is_multicast(ip.dst), Reason.MULTICAST)
        message = pkt.parse(Icmp6)
        require(neighbor.is_valid(ip, message), Reason.MULTICAST)
        if message.type == Icmp6Type.ROUTER_SOLICITATION:
            return punt(Slow(what=Work.SOLICITED, version=6))
        require(message.type in (Icmp6Type.NEIGHBOR_SOLICITATION, Icmp6Type.NEIGHBOR_ADVERTISEMENT), Reason.MULTICAST)
        return self.resolve6(pkt, eth, ip, link, message)

    def resolve6(self, pkt: Packet, eth: Ethernet, ip: IPv6, link: Link, message: Icmp6) -> Verdict:
        """Neighbor discovery (RFC 4861 section 7.2); the cursor is behind the first eight bytes of the message."""
        require(24 <= ip.length <= LONGEST_MESSAGE, Reason.BAD_RESOLUTION)
        rest = (ip.length - 8) & 0xff
        require(checksum.is_right(checksum.pseudo_ipv6(ip.src, ip.dst, IpProtocol.ICMP6, ip.length)
                                  + checksum.of_icmp6(message) + checksum.of_bytes(pkt, rest)), Reason.CHECKSUM)
        flags, kind, src = message.rest >> 29, message.type, ip.src
        target = pkt.parse(Target).address
        require(not is_multicast(target), Reason.BAD_RESOLUTION)
        mine = target == link.link_local or self.v6.is_at(target, pkt.port, RouteKind.LOCAL)
        asked = kind == Icmp6Type.NEIGHBOR_SOLICITATION
        told = neighbor.link_layer_address(
            pkt, OptionType.SOURCE_ADDRESS if asked else OptionType.TARGET_ADDRESS)
        if asked:
            require(src != 0 or (ip.dst >> 24 == SOLICITED_NODE >> 24 and told == 0), Reason.BAD_RESOLUTION)
            require(mine, Reason.HEARD)
        else:
            require(flags & 2 == 0 or not is_multicast(ip.dst), Reason.BAD_RESOLUTION)
            if mine:
                return punt(Slow(what=Work.CONFLICT, version=6, address=target))
        if told != 0 and not is_group(told):
            about = src if asked else target
            if self.note6(pkt.port, about, told, asked, flags):
                return punt(Slow(what=Work.RESOLVED, version=6, address=about))
        require(asked, Reason.HEARD)
        answer.advertise(pkt, link.mac, told if told != 0 else eth.src, src, target, router=1)
        return forward(pkt.port)

    def note6(self, port: int, about: int, told: int, asked: bool, flags: int) -> bool:
        """Take note of an address; whether packets wait for it.  `flags` are those of an advertisement: R, S, O."""
        if not is_link_local(about) and not self.v6.is_at(about, port, RouteKind.CONNECTED):
            return False
        key = Near6(address=about, port=port)
        known = self.v6.neighbors.get(key)
        if known is None:
            if asked:
                self.v6.neighbors.insert(key, Neighbor(mac=told, state=State.KNOWN, since=now(), used=0, tries=0))
            return False
        if known.state == State.FIXED:
            return False
        if not asked and known.state > State.DEAD:
            if flags & 1 == 0 and known.mac != told:
                known.since = 0         # RFC 4861 section 7.2.5: no override, so only doubt what is known
                return False
            if flags & 2 == 0 and known.mac == told:
                return False            # unasked, and nothing new: no proof that it hears us
        return self.v6.confirm(known, told)

    # -- both --------------------------------------------------------------------------------------------------------

    def spread(self, pkt: Packet, src: Any, dst: Any, proto: int, offset: int, fragment: bool) -> int:
        """The slot of a packet's flow; its ports are `offset` bytes behind the cursor.  Fragments go by addresses
        alone, so that all of a datagram go together; so does IPv6 whose ports do not follow directly."""
        ends = 0
        if not fragment and proto in (IpProtocol.TCP, IpProtocol.UDP):
            found = pkt.peek(Icmp, offset & 0x3f)
            if found is not None:
                ends = found.type << 24 | found.code << 16 | found.checksum
        return hash(src, dst, proto, ends) & SLOTS - 1

    def policy(self, pkt: Packet, link: Link, family: int, source: int) -> int:
        """The table by which a packet from a port is routed: that of the first policy it matches, else the main one."""
        if link.policies == 0:
            return 0
        mark = pkt.meta(Mark).mark
        for number in range(RULES):
            if number >= link.policies:
                break
            rule = self.policies[pkt.port * RULES + number]
            if rule.family in (0, family) and source & rule.source_mask == rule.source \
                    and mark & rule.mark_mask == rule.mark:
                return rule.table
        return 0

    def may_redirect(self, port: int) -> bool:
        """Take one redirect from the port's allowance, which Python renews: it is Python that sends them."""
        left = self.redirects[port]
        if left == 0:
            return False
        self.redirects[port] = left - 1
        return True

    def may_err(self, port: int) -> bool:
        """Take one error from the port's bucket."""
        return take(self.buckets[port], self.config.errors, now())
