"""Saying no: a packet that may not pass becomes the answer to itself, instead of silence.

TCP gets the reset of a closed port (RFC 9293 section 3.10.7.1), everything else "destination unreachable", for the
reason "administratively prohibited" if the holder gives no other (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1), in
the name of the host that was asked: whoever filters may have no address.  `wire.answer` says what must not be answered
at all, and a rate limit how often, port by port: who is noisy on one side costs the other no answer.  What gets none is
dropped, for the reason that the holder gives.

The packet is read again from its front, after it has been cut to what an answer may quote: nothing the holder knows of
it has to be kept on the stack meanwhile.
"""
from __future__ import annotations

from iovisor.language import Array, Component, Config, Packet, now, require, table, u8, u16
from iovisor.language.ports import MOST
from iovisor.wire.answer import error, error6, may_answer, may_answer6, reset, reset6
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import IcmpType, Unreachable
from iovisor.wire.icmp6 import Icmp6Type, Unreachable6
from iovisor.wire.ipv4 import IpProtocol, IPv4, skip_options
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.tcp import Tcp

from .allowance import Allowance, take
from .reading import extensions

QUOTABLE = 14 + 1280            # bytes of a frame: the most an answer quotes (RFC 4443 section 2.4 c)


class RejectionConfig(Config):
    """How many answers a second and port; none if it is 0."""

    rejections: u16 = 100


class Rejection(Component):
    config: RejectionConfig
    code: u8 = Unreachable.PROHIBITED
    code6: u8 = Unreachable6.PROHIBITED
    allowance: Array[Allowance] = table(MOST)

    def answer(self, pkt: Packet, reason: u8) -> None:
        """Turn the packet into the answer to its sender, ready to leave through the port it came in, or drop it."""
        require(take(self.allowance[pkt.port], self.config.rejections, now()), reason)
        self.turn(pkt, reason)

    def turn(self, pkt: Packet, reason: u8) -> None:
        """The same without a limit."""
        pkt.resize(min(len(pkt), QUOTABLE))
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip = pkt.parse(IPv4)
            require(may_answer(pkt, eth, ip), reason)
            if ip.proto == IpProtocol.TCP:
                skip_options(pkt, ip)
                tcp = pkt.parse(Tcp)
                reset(pkt, ip, tcp)
            else:
                error(pkt, ip, ip.dst, IcmpType.UNREACHABLE, self.code)
        else:
            require(eth.type == EtherType.IPV6, reason)         # an inner tag: there is no room to answer behind it
            ip6 = pkt.parse(IPv6)
            protocol, offset, _, _, payload = extensions(pkt, ip6.next, ip6.length)
            require(may_answer6(pkt, eth, ip6, protocol, offset, Icmp6Type.UNREACHABLE), reason)
            if protocol == IpProtocol.TCP:
                tcp6 = pkt.parse(Tcp)
                reset6(pkt, ip6, tcp6, payload)
            else:
                error6(pkt, ip6, ip6.dst, Icmp6Type.UNREACHABLE, self.code6)
