"""A fragment of a NAT, for measurements: it translates sources that are in its table, and knows no more.

TCP and UDP over IPv4, whole datagrams.  A real NAT makes its mappings; here whoever measures puts them in, both ways,
so that a packet that is rewritten again and again (BPF_PROG_TEST_RUN does not restore it) is found each time.
"""
from __future__ import annotations

from iovisor.language import (
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    forward,
    ipv4,
    require,
    table,
    u8,
    u16,
)
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_fragment, is_sane, skip_options
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp


class Reason(Reasons):
    NOT_TRANSLATABLE = auto()
    UNKNOWN = auto()


class Source(Record):
    address: ipv4
    port: u16
    protocol: u8


class Mapping(Record):
    address: ipv4
    port: u16


class Nat(Function):
    inside: Port
    outside: Port

    mappings: Hash[Source, Mapping] = table(4096)
    translated: Counter = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        require(pkt.parse(Ethernet).type == EtherType.IPV4, Reason.NOT_TRANSLATABLE)
        ip = pkt.parse(IPv4)
        require(is_sane(ip) and not is_fragment(ip), Reason.NOT_TRANSLATABLE)
        skip_options(pkt, ip)
        require(ip.proto in (IpProtocol.TCP, IpProtocol.UDP), Reason.NOT_TRANSLATABLE)
        ports = pkt.peek(Udp)
        if ports is None:
            return drop(Reason.NOT_TRANSLATABLE)
        mapping = self.mappings.get(Source(address=ip.src, port=ports.src, protocol=ip.proto))
        if mapping is None:
            return drop(Reason.UNKNOWN)
        address, port = mapping.address, mapping.port
        if ip.proto == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            pkt.rewrite(ip, tcp, src=address)
            pkt.rewrite(tcp, src=port)
        else:
            udp = pkt.parse(Udp)
            pkt.rewrite(ip, udp, src=address)
            pkt.rewrite(udp, src=port)
        self.translated.add(0, bytes=len(pkt))
        return forward(self.outside)
