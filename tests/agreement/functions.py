"""Small functions that between them use every primitive and every piece of syntax of the language.

Each is one idea, kept short so that a disagreement points at it.  `FUNCTIONS` says what each needs to be run: the ports
and entries, metadata, and targets it is refused on.
"""
from __future__ import annotations

from enum import IntEnum
from typing import Generic, TypeVar

from iovisor.language import (
    FLOOD,
    HOST,
    SECOND,
    Array,
    Component,
    Config,
    Counter,
    Function,
    Hash,
    Header,
    Lpm,
    Lru,
    Metadata,
    Packet,
    Port,
    Ports,
    PortSet,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    flood,
    forward,
    handles,
    hash,
    inline,
    ipv4,
    ipv6,
    mac,
    now,
    ports,
    punt,
    random,
    require,
    table,
    time,
    u4,
    u8,
    u12,
    u16,
    u24,
    u32,
    u48,
    u64,
    u128,
    walked_once,
)
from iovisor.language import mac_address as address_of
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.gre import Gre
from iovisor.wire.icmp import Icmp, IcmpEcho
from iovisor.wire.icmp6 import Icmp6
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6, skip_extensions
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import Vlan


class Reason(Reasons):
    ODD = auto()
    EVEN = auto()
    NOT_IP = auto()
    FULL = auto()
    OTHER = auto()


class Pair(Record):
    one: u32
    two: u32


class Wide(Record):
    """Every alignment, with holes."""

    a: u8
    b: u16
    c: u4
    d: u32
    e: u24
    f: u48
    g: u8
    h: u128
    i: u12


class Key(Record):
    address: ipv6
    port: u16
    proto: u8


class Mortal(Record):
    count: u32
    kind: u8


# -- tables ----------------------------------------------------------------------------------------------------------

class Hashes(Function):
    """A hash of records: get, store, insert, put, delete, absence, a view written in place, fullness."""

    ports: Ports = ports(4)
    pairs: Hash[mac, Pair] = table(64)
    few: Hash[u16, Pair] = table(3)
    seen: Hash[Key, Wide] = table(256)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        found = self.pairs.get(eth.src)
        if found is None:
            if not self.pairs.insert(eth.src, Pair(one=1, two=eth.type)):
                return drop(Reason.FULL)
        else:
            found.one += 1
            found.two = found.two ^ eth.type << 3
            if found.one % 7 == 0:
                del self.pairs[eth.src]
        if pkt.port == 1 and eth.dst in self.pairs:
            return forward(2)
        if pkt.port == 2:
            self.few[eth.type] = Pair(one=2, two=pkt.port)
        if pkt.port == 3:
            if self.few.put(eth.type & 0xff, Pair(one=3, two=len(pkt))):
                return forward(0)
            if eth.dst & 1:
                del self.few[eth.type & 0xff]
                del self.few[0]
        key = Key(address=eth.dst << 13 ^ eth.src, port=eth.type, proto=pkt.port)
        wide = self.seen.get(key)
        if wide is not None:
            wide.a += 1
            wide.b -= 1
            wide.c = wide.c + 3
            wide.d ^= 0xffff_0000
            wide.e = wide.e * 5
            wide.f = wide.f + wide.e
            wide.h = wide.h << 1 | wide.h >> 127
            wide.i = ~wide.i
            return forward(wide.c & 3)
        self.seen[key] = Wide(a=eth.src, b=eth.src, c=eth.src, d=eth.src, e=eth.src, f=eth.src, g=7,
                              h=eth.src << 13, i=5)
        return forward(self.pairs[eth.dst].one)


class Scalars(Function):
    """Tables of integers of every width, and per CPU."""

    ports: Ports = ports(4)
    bytes8: Hash[u8, u8] = table(256)
    words: Hash[u16, u32] = table(256)
    odd: Hash[u24, u12] = table(256)
    longs: Lru[u64, u64] = table(4096)
    wide: Hash[u128, u128] = table(256)
    array: Array[u16] = table(16)
    totals: Array[u64] = table(4, per_cpu=True)
    mine: Hash[u16, u64] = table(64, per_cpu=True)
    big: Array[u128] = table(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        low = eth.src & 0xff
        self.bytes8[low] = (self.bytes8.get(low) or 0) + 77
        words = self.words.get(eth.type)
        self.words[eth.type] = 1 if words is None else words * 3
        odd = self.odd.get(eth.dst)
        self.odd[eth.dst] = odd + 1 if odd is not None else eth.src
        self.longs[eth.src] = eth.dst << 16 | eth.type
        place = self.big[pkt.port] << 60 | eth.src
        wide = self.wide.get(place & 0xff << 70 | eth.dst & 3)
        self.wide[place & 0xff << 70 | eth.dst & 3] = (wide if wide is not None else 1) << 7 ^ eth.type
        count = self.array.get(eth.type & 31)
        if count is None:
            self.array[pkt.port] = eth.type
        else:
            self.array[eth.type & 31] = count + 1
        self.totals[pkt.port] = self.totals[pkt.port] + len(pkt)
        self.mine[eth.type & 15] = (self.mine.get(eth.type & 15) or 0) + 1
        self.big[pkt.port] = self.big[pkt.port] + (1 << 63)
        return forward(self.array[pkt.port] & 3)


class Lives(Config):
    life: time = 20 * SECOND


class Ages(Function):
    """Mortal entries: young, old, touched, written in place; a ttl from the configuration and a constant one."""

    config: Lives
    ports: Ports = ports(4)
    flows: Lru[mac, Mortal] = table(4096, ttl="life")
    holds: Hash[u16, Mortal] = table(64, ttl=3 * SECOND)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        flow = self.flows.get(eth.src)
        if flow is None:
            self.flows[eth.src] = Mortal(count=1, kind=pkt.port)
        else:
            flow.count += 1
            if pkt.port == 1:
                self.flows.touch(flow)
            elif pkt.port == 2:
                del self.flows[eth.src]
        if not self.holds.insert(eth.type & 7, Mortal(count=0, kind=1)):
            held = self.holds.get(eth.type & 7)
            if held is None:
                return drop(Reason.OTHER)
            held.count += 3
            if held.count % 5 == 0:
                self.holds.touch(held)
        return forward(1) if eth.dst in self.flows else FLOOD


class Routes(Function):
    """Longest prefixes of 32, 64 and 128 bits."""

    ports: Ports = ports(4)
    four: Lpm[ipv4, Pair] = table(64)
    six: Lpm[ipv6, u16] = table(64)
    half: Lpm[u64, u8] = table(64)

    def configure(self, old: Config | None, new: Config) -> None:
        from iovisor.language import Prefix
        for text, value in ((0, 0), (8, 10), (24, 11), (31, 12), (32, 13)):
            self.four[Prefix(0x0a000001 >> 32 - text << 32 - text, text)] = Pair(one=value, two=text)
        base = 0x20010db8 << 96 | 1
        for length in (0, 16, 32, 48, 64, 127, 128):
            self.six[Prefix(base >> 128 - length << 128 - length, length, 128)] = length
        for length in (1, 16, 48, 64):
            self.half[Prefix(base >> 64 >> 64 - length << 64 - length, length, 64)] = length

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip = pkt.parse(IPv4)
            route = self.four.get(ip.dst)
            if route is None:
                return drop(Reason.OTHER)
            route.two += 1
            return forward(route.one)
        if eth.type == EtherType.IPV6:
            six = pkt.parse(IPv6)
            half = self.half.get(six.src >> 64)
            return forward(self.six[six.dst] + (300 if half is None else half))
        return drop(Reason.NOT_IP)


class Nested(Function):
    """Tables in a table, which the control side makes."""

    ports: Ports = ports(4)
    tenants: Hash[u16, Hash[mac, Pair]] = table(8, inner=table(64))
    lists: Hash[u16, Array[u32]] = table(8, inner=table(4))

    def configure(self, old: Config | None, new: Config) -> None:
        for port in (0, 1, 3):
            inner = self.tenants.create(port)
            inner[0x02_00_00_00_00_01] = Pair(one=port, two=9)
            self.lists.create(port)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        stations = self.tenants.get(pkt.port)
        if stations is None:
            return drop(Reason.OTHER)
        station = stations.get(eth.src)
        if station is None:
            stations[eth.src] = Pair(one=eth.type, two=1)
        else:
            station.two += 1
        numbers = self.lists.get(pkt.port)
        if numbers is not None:
            number = numbers.get(eth.type & 7)
            if number is not None:
                numbers[eth.type & 7] = number + len(pkt)
        found = stations.get(eth.dst)
        return FLOOD if found is None else forward(found.one)


class Counters(Function):
    """Counters, also beyond their size."""

    ports: Ports = ports(4)
    by_port: Counter = table(4)
    by_type: Counter = table(8)

    def ingress(self, pkt: Packet) -> Verdict:
        self.by_port.add(pkt.port, bytes=len(pkt))
        self.by_type.add(pkt.u16(12) & 15)
        self.by_port.add(pkt.u8(0), len(pkt) * 2)
        return HOST


# -- rewriting and resizing ------------------------------------------------------------------------------------------

class Rewrites(Function):
    """Every header under a checksum, by the fields under each."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        eth.src = eth.dst
        eth.dst = 0x02_aa_bb_cc_dd_ee
        if eth.type == EtherType.IPV4:
            return self.four(pkt)
        require(eth.type == EtherType.IPV6, Reason.NOT_IP)
        return self.six(pkt)

    def four(self, pkt: Packet) -> Verdict:
        ip = pkt.parse(IPv4)
        pkt.rewrite(ip, ttl=ip.ttl - 1, dscp=pkt.port)
        pkt.skip(ip.ihl * 4 - 20)
        if ip.offset != 0:
            pkt.rewrite(ip, None, src=0xc0a8_0101, id=ip.id + 1)
        elif ip.proto == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            pkt.rewrite(ip, udp, src=0x0a63_0001, dst=ip.src ^ 0xff00_00ff)
            pkt.rewrite(udp, dst=udp.src + 1, src=0xffff)
        elif ip.proto == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            pkt.rewrite(tcp, src=tcp.dst, sequence=tcp.sequence - 1, flags=tcp.flags | 8)
            pkt.rewrite(ip, tcp, dst=0)
        elif ip.proto == IpProtocol.ICMP:
            icmp = pkt.parse(Icmp)
            pkt.rewrite(icmp, type=0, rest=icmp.rest + 0x10001)
        return forward(ip.ttl)

    def six(self, pkt: Packet) -> Verdict:
        ip = pkt.parse(IPv6)
        ip.hops = ip.hops - 1
        proto, offset, _ = skip_extensions(pkt, ip)
        require(offset == 0, Reason.EVEN)
        if proto == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            pkt.rewrite(ip, udp, src=ip.dst, dst=ip.src)
            pkt.rewrite(udp, src=53)
        elif proto == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            pkt.rewrite(ip, tcp, dst=0x20010db8 << 96 | pkt.port)
            pkt.rewrite(tcp, window=0)
        elif proto == IpProtocol.ICMP6:
            icmp = pkt.parse(Icmp6)
            pkt.rewrite(ip, icmp, src=ip.src + 1)
            pkt.rewrite(icmp, code=icmp.code ^ 1)
        else:
            pkt.rewrite(ip, None, dst=1)
        return forward(ip.hops)


class Tunnel(Header):
    """A header of our own, with fields that cross bytes."""

    kind: u4
    middle: u12
    wide: u24
    tail: u24
    big: u128


class Pushes(Function):
    """Headers pushed before the frame and taken off again."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        inner = pkt.parse(Ethernet)
        kind, destination, length = inner.type, inner.dst, len(pkt)
        if pkt.port == 0:
            outer = pkt.push(Ethernet)
            outer.dst = destination
            outer.type = kind + 1
            return forward(length)
        if pkt.port == 1:
            eth, ip, udp = pkt.push(Ethernet, IPv4, Udp)
            eth.type = 0x0800
            ip.length = length + 28
            ip.src = 0x0a000001
            ip.checksum = 0xabcd
            udp.dst = 4789
            udp.length = length + 8
            tail = pkt.parse(Ethernet)
            tail.dst = tail.src
            return forward(len(pkt) & 0xffff)
        if pkt.port == 2:
            pkt.pop(Ethernet)
            first = pkt.parse(Ethernet)
            return forward(first.type)
        pkt.pop(Ethernet)
        eth, tunnel = pkt.push(Ethernet, Tunnel)
        eth.type = 0x88b5
        eth.src = 0xffff_ffff_ffff
        tunnel.kind = kind
        tunnel.middle = destination
        tunnel.wide = destination >> 8
        tunnel.tail = kind << 3
        tunnel.big = destination << 13 | kind
        tunnel.big = tunnel.big << 67
        require(tunnel.big >> 80 == destination)
        return forward(tunnel.middle ^ tunnel.tail & 0xfff)


class Inserts(Function):
    """Room behind the Ethernet header, alone, twice, under a tag, and mixed with what is put in front."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt) & 0xffff
        if pkt.port == 1:
            pkt.tag(3)
        elif pkt.port == 2:
            pkt.push(Ethernet).src = 7
        elif pkt.port == 3:
            pkt.insert(Tunnel).kind = 1
        elif pkt.port == 4:
            pkt.pop(Ethernet)
        elif pkt.port == 5:
            pkt.untag()
        ip, icmp = pkt.insert(IPv4, IcmpEcho)
        ip.length = length
        ip.ttl = pkt.u8(0)
        icmp.id = pkt.tci
        if pkt.port == 6:
            pkt.pop(Ethernet)
        return forward(pkt.u16(1) if pkt.port == 7 else length)


class Exchanges(Function):
    """IPv4 made of IPv6 and the reverse: bare headers, and with what stood and shall stand behind them; twice; under a
    tag; and made longer again."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        length = len(pkt) & 0xffff
        if pkt.port == 7:
            pkt.retag(5)
        if pkt.port == 6:
            pkt.exchange(pkt.u8(4), IPv4).src = 1
            return forward(pkt.u16(0))
        if eth.type == 0x0800:
            size = (pkt.u8(0) & 15) * 4
            if pkt.port == 0:
                ip6 = pkt.exchange(20, IPv6)
            elif pkt.port == 1:
                ip6, tunnel = pkt.exchange(size, IPv6, Tunnel)
                tunnel.kind = size
            else:
                ip6 = pkt.exchange(size, IPv6)
            ip6.length = length
            ip6.src = length << 40
            if pkt.port == 3:
                ip4, icmp = pkt.exchange(52, IPv4, IcmpEcho)
                ip4.dst = 6
                icmp.id = length
            elif pkt.port == 4:
                pkt.insert(Tunnel).tail = 3
            return forward(pkt.u16(0))
        extra = pkt.u8(4) & 0x1f
        if pkt.port == 0:
            ip4 = pkt.exchange(40, IPv4)
        elif pkt.port == 1:
            ip4, tunnel = pkt.exchange(40 + extra, IPv4, Tunnel)
            tunnel.big = length << 39
        else:
            ip4 = pkt.exchange(40 + extra, IPv4)
        ip4.ttl, ip4.checksum = extra, length
        if pkt.port == 3:
            pkt.exchange(20, IPv6).hops = 5
        elif pkt.port == 4:
            pkt.resize(max(length - 30, 0))
        return forward(len(pkt) & 0xffff)


class Amends(Function):
    """Checksums of transports whose pseudo-header became another, alone and with rewrites before and behind."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        change = eth.src
        if eth.type == 0x0800:
            ip = pkt.parse(IPv4)
            if ip.proto == 6:
                tcp = pkt.parse(Tcp)
                pkt.amend(tcp, change)
                if pkt.port & 1:
                    pkt.rewrite(tcp, src=tcp.dst, dst=4)
                return forward(tcp.checksum)
            udp = pkt.parse(Udp)
            if pkt.port == 0:
                pkt.amend(udp, change)
            elif pkt.port == 1:
                pkt.rewrite(udp, dst=53)
                pkt.amend(udp, 0xffff)
            elif pkt.port == 2:
                pkt.rewrite(ip, under=udp, src=7)
                pkt.amend(udp, change & 0xffff)
                pkt.amend(udp, change >> 16)
            return forward(udp.checksum)
        pkt.skip(pkt.u8(0) & 0x3f)
        udp = pkt.parse(Udp)
        pkt.amend(udp, change ^ udp.src)
        return forward(udp.checksum)




class Absent(Function):
    """Views that are there on some ways only, asked for after the ways met, alone and with other questions."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        ip4, ip6, udp = None, None, None
        if eth.type == EtherType.IPV4:
            ip4 = pkt.parse(IPv4)
        elif eth.type == EtherType.IPV6:
            ip6 = pkt.parse(IPv6)
        if pkt.port > 2:
            udp = pkt.parse(Udp)
        icmp = pkt.peek(Icmp, pkt.port & 7)
        if ip4 is not None:
            pkt.rewrite(ip4, under=None, ttl=3)
        if ip6 is not None and udp is not None:
            return forward(ip6.hops + udp.length)
        if icmp is not None and icmp.type == 8:
            pkt.rewrite(icmp, code=pkt.port)
        return forward(pkt.port)


class Wanders(Function):
    """Many ways to the same place, which remember what they saw: the verifier follows each to the end."""

    ports: Ports = ports(8)
    seen: Array[u64] = table(16)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        kind, proto, extra = 0, 0, 0
        if eth.type == EtherType.IPV4:
            ip4 = pkt.parse(IPv4)
            proto = ip4.proto
            extra = 1 if ip4.ttl & 1 else 2
            extra = extra * (3 if ip4.ttl & 2 else 5)
            extra = extra * (7 if ip4.ttl & 4 else 11)
            extra = extra + (13 if ip4.ttl & 8 else 17)
        elif eth.type == EtherType.IPV6:
            proto, _, kind = skip_extensions(pkt, pkt.parse(IPv6))
        udp = pkt.peek(Udp)
        found = self.meet(extra, kind)
        if udp is not None and proto == IpProtocol.UDP:
            pkt.rewrite(udp, dst=extra + kind, src=found)
        eth.src = extra << 8 | kind
        return forward(proto ^ pkt.u16(0))

    def meet(self, extra: int, kind: int) -> int:
        return self.decide(extra, kind) ^ self.decide(kind, extra) ^ self.decide(extra + 1, kind + 1)

    def decide(self, extra: int, kind: int) -> int:
        total = 0
        for place in range(3):
            entry = self.seen[place + kind + extra & 15]
            if entry > 100 * place + extra:
                total = total + entry
            elif extra & 1:
                self.seen[place] = entry + extra + 7
            else:
                self.seen[place] = entry + 1
        return total & 0xffff_ffff


class Meets(Wanders):
    """The same ways meet, and what comes behind is walked once."""

    @walked_once
    def meet(self, extra: int, kind: int) -> int:
        return self.decide(extra, kind) ^ self.decide(kind, extra) ^ self.decide(extra + 1, kind + 1)


class Tunnels(Function):
    """The outsides of tunnels put before a packet and taken off again; tunnels in tunnels; and what is no tunnel."""

    ports: Ports = ports(12)

    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt) & 0xffff
        if pkt.port == 0:
            outer = pkt.insert(IPv4)
            outer.length = length
            outer.proto = 4
        elif pkt.port == 1:
            pkt.insert(IPv6).length = length
        elif pkt.port == 2:
            ip, udp, shim = pkt.insert(IPv4, Udp, Tunnel)
            ip.proto = 17
            udp.length = length
            shim.kind = pkt.u8(0)
        elif pkt.port == 3:
            eth = pkt.parse(Ethernet)
            kept = eth.dst
            _, gre, inner = pkt.insert(IPv6, Gre, Ethernet)
            gre.type = length
            inner.dst = kept
        elif pkt.port == 4:
            pkt.insert(IPv4).length = 3
            pkt.insert(IPv6).length = 4
        elif pkt.port == 5:
            if pkt.parse(Ethernet).type in (EtherType.IPV4, EtherType.IPV6):    # TC takes back no others
                pkt.insert(IPv4).length = 3
                pkt.remove(IPv4)
        elif pkt.port == 6:
            pkt.remove(IPv4)
        elif pkt.port == 7:
            pkt.remove(IPv6)
        elif pkt.port == 8:
            pkt.remove(Tunnel)
            pkt.remove(Tunnel)
        elif pkt.port == 9:
            pkt.tag(5)
            pkt.remove(IPv4)
        elif pkt.port == 10:
            if pkt.parse(Ethernet).type in (EtherType.IPV4, EtherType.IPV6):
                pkt.insert(IPv6)
                pkt.pop(Ethernet)
        else:
            pkt.insert(Tunnel, IPv4)
        pkt.parse(Ethernet).src = length
        return forward(len(pkt) & 0xffff)


class Blanks(Function):
    """Headers made of bytes that were something else."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        old = pkt.peek(IPv4)
        if old is None:
            return drop(Reason.ODD)
        eth.dst = old.dst
        if pkt.port == 0:
            ip, icmp = pkt.blank(IPv4, IcmpEcho)
            icmp.sequence = old.src             # the older view sees what is there now
            ip.src = 5
            ip.checksum = 6
            return forward(old.src)
        pkt.skip(pkt.port & 3)
        tunnel = pkt.blank(Tunnel)
        tunnel.big = eth.dst
        return forward(pkt.u8(0))


class Resizes(Function):
    """Cut and grown, also by nothing; the tail read again."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt) & 0xffff
        if pkt.port == 0:
            pkt.resize(min(length, 40))
        elif pkt.port == 1:
            pkt.resize(length + 5)
            pkt.skip(min(length, 2043))
            require(pkt.u32(0) == 0 and pkt.u8(4) == 0)
        elif pkt.port == 2:
            pkt.resize(max(length - 1, 0))
        elif pkt.port == 3:
            pkt.resize(length)
        elif pkt.port == 4:
            pkt.resize(pkt.u16(14) & 0xfff)
        elif pkt.port == 5:
            pkt.tag(5)
            pkt.resize(2048)
        elif pkt.port == 6:
            pkt.insert(Tunnel).tail = 3
            pkt.resize(min(len(pkt) & 0xffff, 300))
        else:
            pkt.untag()
            pkt.resize(max(length - 20, 0))
        return forward(len(pkt) & 0xffff)


class Sums(Function):
    """Sums of any length, at any place, and again of bytes that were moved."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt) & 0xffff
        if pkt.port == 0:
            return forward(pkt.sum(min(length, 2048)))
        eth = pkt.parse(Ethernet)
        if pkt.port == 1:
            return forward(pkt.sum(min(max(length - 14, 0), 2048)) ^ eth.type)
        if pkt.port == 2:
            near = pkt.sum(pkt.u8(0) & 0x7f, pkt.u8(1) & 0x3f)
            eth.type = near
            pkt.insert(Tunnel).kind = near
            return forward(pkt.sum(min(length, 600)))
        require(pkt.sum(0) == 0)
        return forward(pkt.sum(3, pkt.u16(0) & 0x7ff))


class Tags(Function):
    """The outer tag: read, added, removed, changed; what is inside becomes outside and back."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        before = pkt.tci
        if pkt.port == 0:
            pkt.tag(pkt.tci + 0x2001)
        elif pkt.port == 1:
            pkt.untag()
        elif pkt.port == 2:
            pkt.retag(before ^ 0xf00f)
        elif pkt.port == 3:
            pkt.tag(7, tpid=0x88a8)
            pkt.tag(0xffff)
        elif pkt.port == 4:
            pkt.untag()
            pkt.untag()
        elif pkt.port == 5 and pkt.tagged:
            pkt.untag()
            pkt.tag(before + 1)
            pkt.retag(pkt.tci & 0xe000 | 5)
        eth = pkt.parse(Ethernet)
        if eth.type in (0x8100, 0x88a8):
            inner = pkt.parse(Vlan)
            inner.vid = inner.vid + 1
            return forward(inner.vid)
        if pkt.tpid == 0x88a8:
            return drop(Reason.ODD)
        return forward(pkt.tci if pkt.tagged else eth.type)


class TransparentTags(Function):
    """Tags that are only looked at, and a view that lies across where the tag is on the wire."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        pkt.skip(pkt.port & 7)
        peeked = pkt.peek(Ethernet)
        if peeked is None:
            return drop(Reason.ODD)
        peeked.src = peeked.src + 1
        word = pkt.u32(9)
        return forward(word ^ peeked.type ^ pkt.tci ^ (pkt.tpid if pkt.tagged else 1))


class PushesUnderTags(Function):
    """Tags and resizing together: the tag stays outside."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == 0:
            pkt.push(Ethernet).type = 0x6558
            pkt.tag(10)
        elif pkt.port == 1:
            pkt.untag()
            pkt.pop(Ethernet)
        elif pkt.port == 2:
            pkt.tag(20)
            pkt.push(Ethernet).type = 0x8100
            pkt.untag()
        else:
            pkt.retag(9)
            eth = pkt.push(Ethernet)
            eth.type = pkt.tpid
        return forward(pkt.u16(12))


# -- reading ---------------------------------------------------------------------------------------------------------

class Reads(Function):
    """The cursor: peek, skip by what the packet says, bytes at any distance, the end."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        pkt.skip(12)
        kind = pkt.u16(0)
        if kind == EtherType.IPV4:
            pkt.skip(2)
            ahead = pkt.peek(IPv4)
            if ahead is None:
                return drop(Reason.EVEN)
            pkt.skip((ahead.ihl - 5) * 4)
            ip = pkt.parse(IPv4)
            udp = pkt.peek(Udp, 2)
            total = pkt.u8(ip.ihl) + pkt.u16(pkt.port & 3) + (pkt.u32(ip.ttl) & 0xffff)
            return forward(total + (0 if udp is None else udp.length))
        far = pkt.peek(IcmpEcho, kind & 0x7f)
        return forward(far.id if far is not None else pkt.u8(kind & 63))


# -- arithmetic ------------------------------------------------------------------------------------------------------

class Numbers(Header):
    a: u32
    b: u32
    c: u16
    wide: u128


class Arithmetic(Function):
    """Operators, conversions at stores, comparisons, min and max, 128 bits."""

    ports: Ports = ports(4)
    out: Array[Wide] = table(1)
    longs: Array[u64] = table(24)
    wides: Array[u128] = table(16)

    def ingress(self, pkt: Packet) -> Verdict:
        numbers = pkt.parse(Numbers)
        a, b, c = numbers.a, numbers.b, numbers.c
        long = a << 32 | b
        small = c & 31
        self.longs[0] = a + b * c
        self.longs[1] = a - b
        self.longs[2] = a * b
        self.longs[3] = a // (c + 1)
        self.longs[4] = long // (b | 1)
        self.longs[5] = a % (c | 1)
        self.longs[6] = ~a
        self.longs[7] = -c
        self.longs[8] = a << small
        self.longs[9] = long >> small * 2
        self.longs[10] = (a ^ b) & ~c | small
        self.longs[11] = min(a, b, 1000) + max(c, 17)
        self.longs[12] = 1 if a < b else 2 if a == b else 3
        self.longs[13] = (a > b) + (c >= 100) * 2 + (small != 3) * 4
        self.longs[14] = a or b
        self.longs[15] = c and small
        self.longs[16] = (a and b) or c
        self.longs[17] = max(c - small, small - c) + abs(small - c)
        self.longs[18] = (c - small & 0xffff) // 3
        self.longs[19] = min(small - c, 5)
        self.longs[20] = (small + c) % 7
        self.longs[21] = (small - c) >> 2 & 0xffff
        self.longs[22] = 5 if 10 <= c < 1000 <= a else 6
        self.longs[23] = not a
        wide = numbers.wide
        self.wides[0] = wide
        self.wides[1] = wide + (1 << 100)
        self.wides[2] = wide - (a << 30)
        self.wides[3] = wide >> 70
        self.wides[4] = wide << small
        self.wides[5] = wide & (1 << 120) - 1 ^ c
        self.wides[6] = ~wide
        self.wides[7] = wide >> 64 & 0xffff if wide > 1 << 127 else wide >> 3
        self.wides[8] = wide >> small
        self.wides[9] = 1 if wide == long else 0
        return forward((wide >> 96) ^ a)


class Flow(Function):
    """Control flow: loops, breaks, walrus, tuples, match, chains, early returns, inlined calls."""

    ports: Ports = ports(4)
    longs: Array[u64] = table(8)
    values: Hash[u8, u16] = table(256)

    def ingress(self, pkt: Packet) -> Verdict:
        total = 0
        for index in range(10):
            if index == 3:
                continue
            byte = pkt.u8(index)
            if byte == 0xff:
                break
            total += byte
        low, high = self.bounds(pkt.u8(1), pkt.u8(2))
        low, high = high, low
        self.longs[0] = total
        self.longs[1] = low << 8 | high
        if (value := self.values.get(pkt.u8(3))) is not None and value > 3:
            self.longs[2] = value
        else:
            self.values[pkt.u8(3)] = total
        match pkt.u8(13) & 7:
            case 0:
                verdict = forward(1)
            case 1 | 2:
                verdict = FLOOD
            case 3 if total > 300:
                verdict = drop(Reason.ODD)
            case 4:
                return HOST
            case _:
                verdict = forward(self.nested(pkt, total & 7))
        for kind in (EtherType.IPV4, EtherType.IPV6, 7):
            if pkt.u16(12) == kind:
                self.longs[3] = kind
        for index in range(total & 7):
            self.longs[4] = index
        for index in range(2, 20, 5):
            self.longs[5] = self.longs[5] + index
        return verdict

    def bounds(self, one: int, two: int) -> tuple[int, int]:
        if one < two:
            return one, two
        return two, one

    def nested(self, pkt: Packet, count: int) -> int:
        found = 0
        for outer in range(count):
            for inner in range(3):
                if pkt.u8(outer + inner) & 1:
                    found += outer
                    break
        return found


class Chance(Function):
    """Time, chance and hashes."""

    ports: Ports = ports(4)
    last: Array[time] = table(4)
    buckets: Array[u32] = table(16)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        moment = now()
        gone = moment - self.last[pkt.port]
        self.last[pkt.port] = moment
        key = Key(address=eth.dst << 15 ^ eth.src, port=eth.type, proto=pkt.port)
        bucket = hash(key, eth.type) & 15
        self.buckets[bucket] = self.buckets[bucket] + 1
        if pkt.port == 3:
            return forward(random() & 0xff)
        if random() & 1 and gone < SECOND:
            return drop(Reason.ODD)
        return forward(hash(eth.src << 16 | eth.type, key.address & 0xff_ffff) >> 16 ^ hash(eth.dst)
                       ^ random() & 0xffff)


class Seen(Record):
    source: mac
    kind: u16
    port: u8


class Asked(Record):
    address: ipv6
    moment: time


class Events(Function):
    """Two sorts of events, some of packets that were changed before."""

    ports: Ports = ports(4)
    count: Array[u32] = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV6:
            return punt(Asked(address=pkt.parse(IPv6).dst, moment=now()))
        self.count[0] = self.count[0] + 1
        if pkt.port == 1:
            eth.src = 1
            return punt(Seen(source=eth.dst, kind=eth.type, port=pkt.port))
        if pkt.port == 2:
            pkt.tag(5)
            return punt(Seen(source=0, kind=pkt.tci, port=9))
        return forward(1)

    @handles(Seen)
    def seen(self, event: Seen, packet: Packet) -> None:
        """Nothing."""

    @handles(Asked)
    def asked(self, event: Asked, packet: Packet) -> None:
        """Nothing."""


class Sets(Function):
    """Floods to all, to a set of its own choice, and to one that is not there."""

    ports: Ports = ports(4)
    sets: Array[PortSet] = table(8)

    def configure(self, old: Config | None, new: Config) -> None:
        self.sets[1] = PortSet.of((0, 70, 255))

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if pkt.port == 0:
            return FLOOD
        if pkt.port == 1:
            self.sets[eth.type & 7] = PortSet(p64=eth.dst)
            return flood(9)
        chosen = self.sets[eth.type & 7]
        return flood(1 + (chosen.p64 & 3))


class Tells(Function):
    """Events of packets that go on: none, one, two, one of a changed packet, and one before a punt."""

    ports: Ports = ports(5)
    lost: Counter = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if pkt.port == 0:
            return FLOOD
        if not pkt.notify(Seen(source=eth.src, kind=eth.type, port=pkt.port)):
            self.lost.add(0)
        if eth.type == EtherType.IPV6:
            pkt.notify(Asked(address=pkt.parse(IPv6).dst, moment=now()))
        if pkt.port == 2:
            eth.src = 1
            pkt.tag(5)
            pkt.notify(Seen(source=0, kind=pkt.tci, port=9))
        if pkt.port == 3:
            return punt(Asked(address=7, moment=len(pkt)))
        require(pkt.port != 4, Reason.OTHER)
        return forward(1)

    @handles(Seen)
    def seen(self, event: Seen, packet: Packet) -> None:
        """Nothing."""

    @handles(Asked)
    def asked(self, event: Asked, packet: Packet) -> None:
        """Nothing."""


class Mark(Metadata):
    zone: u16
    hops: u8
    flow: u64


class Marks(Function):
    """Metadata, read and written."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        mark = pkt.meta(Mark)
        mark.hops += 1
        mark.flow = mark.flow << 8 | pkt.u8(0)
        if mark.zone == 0:
            mark.zone = pkt.u16(12)
        return forward(mark.zone ^ mark.flow & 0xffff)


class Mode(IntEnum):
    OPEN = 0
    SHUT = 3
    ODD = 9


@inline
def picks(kind: int, mode: int) -> bool:
    return kind & 3 == mode or (mode == Mode.ODD and kind & 1 == 1)


class Settings(Config):
    mode: Mode = Mode.SHUT
    limit: u32 = 100
    strict: bool = True
    peer: mac = 0x02_00_00_00_00_02
    prefix: ipv6 = 0x20010db8 << 96


PEER = address_of("02:00:00:00:00:03")


class Configured(Function):
    """Configuration, enums, constants, named ports, reasons, an egress of its own."""

    config: Settings
    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(not self.config.strict or len(pkt) > self.config.limit, Reason.EVEN)
        if eth.dst == self.config.peer or eth.src == PEER:
            return forward(self.outside)
        if picks(eth.type, self.config.mode):
            return drop(Reason.ODD)
        six = pkt.peek(IPv6)
        if six is not None and six.src >> 96 == self.config.prefix >> 96:
            return HOST
        return forward(self.outside if pkt.port == self.inside else self.inside)

    def egress(self, pkt: Packet) -> Verdict:
        if pkt.u8(0) == pkt.port:
            return drop(Reason.OTHER)
        return forward(pkt.port)


class Kept(Record):
    count: u32 = 0


class Marked(Kept):
    mark: u16 = 0
    port: u8 = 0


K = TypeVar("K", bound=Kept)


class Meter(Component, Generic[K]):
    """State, constants, configuration, and a record of whoever holds it."""

    config: Settings
    most: u16 = 16
    kept: Hash[mac, K] = table("most")
    sums: Array[u64] = table(4)

    def meet(self, address: mac, fresh: K) -> K | None:
        found = self.kept.get(address)
        if found is None:
            self.kept[address] = fresh
            return self.kept.get(address)
        found.count += 1
        if self.full(found.count):
            del self.kept[address]
            return None
        return found

    def full(self, count: u32) -> bool:
        return count > self.most or count > self.config.limit


class Parts(Function):
    config: Settings
    inside: Port
    outside: Port
    near: Meter[Marked] = Meter(most=1024)
    far: Meter[Kept] = Meter()

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        here = self.near.meet(eth.src, Marked(mark=eth.type, port=pkt.port))
        there = self.far.meet(eth.dst, Kept())
        if here is None or there is None:
            return FLOOD
        self.far.sums[there.count & 3] = here.mark
        return forward(here.port) if here.mark & 1 else forward(self.outside)
