"""The functions of `wire` in data paths, compiled: they say what CPython says, on frames of Linux and on wrecks."""
from __future__ import annotations

import random

import pytest

from iovisor.language import Function, Packet, Verdict, forward, require
from iovisor.targets import load
from iovisor.wire import (
    AddressOption,
    Arp,
    Ethernet,
    EtherType,
    Icmp,
    IcmpType,
    IpProtocol,
    IPv4,
    IPv6,
    NeighborAdvertisement,
    NeighborSolicitation,
    OptionType,
    Tcp,
    Udp,
    arp,
    checksum,
    icmp,
    ipv4,
    ipv6,
    neighbor,
    tcp,
    udp,
    vlan,
)
from tests.wire import frames
from tests.wire.frames import A4, A6, B4, B6, B

pytest.importorskip("llvmlite")


class Walk6(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        _, ip = pkt.parse(Ethernet, IPv6)
        proto, offset, more = ipv6.skip_extensions(pkt, ip)
        if offset != 0:
            return forward(200 + more)
        return forward(proto + (more << 8))


class Verify4(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        eth, ip = pkt.parse(Ethernet, IPv4)
        require(eth.type == EtherType.IPV4 and ipv4.is_sane(ip))
        if not checksum.ipv4_is_right(pkt, ip):
            return forward(1)
        ipv4.skip_options(pkt, ip)
        length = ipv4.payload_length(ip)
        require(length >= 8)
        total = 0 if ip.proto == IpProtocol.ICMP else checksum.pseudo_ipv4(ip.src, ip.dst, ip.proto, length)
        return forward(2 if checksum.is_right(total + checksum.of_bytes(pkt, length)) else 3)


class Answer(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        eth, question = pkt.parse(Ethernet, Arp)
        require(arp.is_ethernet_ipv4(question) and not arp.is_probe(question))
        arp.answer(eth, question, B)
        return forward(pkt.port)


class Tunnel(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt)
        require(length <= 1500)
        eth, ip, datagram = pkt.push(Ethernet, IPv4, Udp)
        eth.type = EtherType.IPV4
        ipv4.fill(ip, A4, B4, IpProtocol.UDP, length + 8)
        udp.fill(datagram, 1, 2, length)
        checksum.udp_ipv4(pkt, ip, datagram, length)
        checksum.ipv4_header(ip)
        return forward(1)


class Tunnel6(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt)
        require(length <= 1500)
        eth, ip, datagram = pkt.push(Ethernet, IPv6, Udp)
        eth.type = EtherType.IPV6
        ipv6.fill(ip, A6, B6, IpProtocol.UDP, length + 8)
        udp.fill(datagram, 1, 2, length)
        checksum.udp_ipv6(pkt, ip, datagram, length)
        return forward(1)


class Advertise(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        _, ip, ns = pkt.parse(Ethernet, IPv6, NeighborSolicitation)
        require(ip.next == IpProtocol.ICMP6 and ip.hops == 255 and ns.type == 135)
        address = neighbor.link_layer_address(pkt, OptionType.SOURCE_ADDRESS)
        require(address != 0)
        src, target = ip.src, ns.target
        e, i, na, option = pkt.push(Ethernet, IPv6, NeighborAdvertisement, AddressOption)
        e.dst = address
        e.src = B
        e.type = EtherType.IPV6
        ipv6.fill(i, target, src, IpProtocol.ICMP6, 32, hops=255)
        na.type = 136
        na.solicited = 1
        na.override = 1
        na.target = target
        option.type = 2
        option.length = 1
        option.address = B
        checksum.advertisement(i, na, option)
        return forward(pkt.port)


class Tcps(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        _, ip, segment = pkt.parse(Ethernet, IPv4, Tcp)
        require(ip.proto == 6 and tcp.has_legal_flags(segment))
        tcp.skip_options(pkt, segment)
        if tcp.before(segment.sequence, segment.acknowledgment):
            return forward(1)
        ipv4.decrement_ttl(pkt, ip)
        return forward(2 + (tcp.segment_length(segment, ip.length) & 0xff))


class Addresses(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        eth, ip = pkt.parse(Ethernet, IPv6)
        if ipv6.is_multicast(ip.dst):
            eth.dst = ipv6.multicast_mac(ipv6.solicited_node(ip.dst))
            return forward(ipv6.scope_of(ip.dst))
        if ipv6.is_link_local(ip.src) or ipv6.is_martian_source(ip.src):
            pkt.rewrite(ip, under=None, src=ipv6.link_local(eth.src))
        pkt.retag(vlan.tci(5, 3))
        return forward(vlan.vid_of(pkt.tci) + vlan.pcp_of(pkt.tci))


class Ping(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        length = len(pkt)
        require(length <= 1000)
        _, ip, message = pkt.push(Ethernet, IPv4, Icmp)
        ipv4.fill(ip, 1, 2, 1, length + 8)
        checksum.ipv4_header(ip)
        icmp.fill(message, IcmpType.ECHO_REPLY, rest=7)
        checksum.icmp(pkt, message, length)
        message.checksum = checksum.adjusted32(checksum.adjusted(message.checksum, 0, 5), 7, pkt.u16(0))
        return forward(1)


FUNCTIONS = [Walk6, Verify4, Answer, Tunnel, Tunnel6, Advertise, Tcps, Addresses, Ping]
TARGETS = ["native", pytest.param("xdp", marks=pytest.mark.root), pytest.param("tc", marks=pytest.mark.root)]


def traffic(count: int) -> list[bytes]:
    """Frames of Linux, then the same with bytes changed and ends cut off.  TC runs no frame that is cut within its IP
    header, so none is cut before byte 54."""
    chance = random.Random(1)
    whole = [*frames.WHOLE.values(), frames.FIRST6, frames.LATER6]
    found = list(whole)
    while len(found) < count:
        frame = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(4)):
            frame[chance.randrange(len(frame))] = chance.choice([0, 255, chance.randrange(256)])
        if chance.random() < 0.3:
            frame = frame[:max(54, chance.randrange(len(frame) + 1))]
        found.append(bytes(frame))
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_agreement(kind: type[Function], target: str) -> None:
    reference = kind()
    with load(kind(), target) as loaded:
        for frame in traffic(300):
            expected, found = Packet(frame), Packet(frame)
            verdict = reference.run(expected)
            assert (loaded.run(found), bytes(found)) == (verdict, bytes(expected)), frame.hex()
