"""A packet turned into the answer to itself: ICMP errors about it, echo replies, TCP resets.

What a router or a firewall says to the sender of a packet that it does not let through is that packet, quoted behind
new headers, or its own headers with the ends exchanged.  So every function here works on the packet in place, and what
it leaves is ready to go back out of the port it came in through.

An error is only made where `may_answer` says so, which keeps the rules that stop two machines from answering each
other for ever (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e): never about an error, a later
fragment, or what went to many; never to what is no single host.  How *often* is the caller's to limit.

Everything here resizes: older views are stale, and what is needed of them is read before.  Errors quote as much as
fits in 576 bytes (RFC 1812 section 4.3.2.3) or 1280 (RFC 4443 section 2.4 c), and nothing behind the datagram's end.

On TC the quoted packet may have a partial checksum, which stays as it is.  Such a packet comes from this machine, the
answer goes back there, and there nobody looks at it again.
"""
from __future__ import annotations

from iovisor.language import Packet, inline, ipv4, ipv6, mac, require, u8, u32

from . import checksum
from .ethernet import Ethernet, is_group
from .icmp import Icmp, IcmpType, is_error
from .icmp6 import Icmp6, Icmp6Type
from .icmp6 import is_error as is_error6
from .ipv4 import BROADCAST, IpProtocol, IPv4
from .ipv4 import fill as fill4
from .ipv4 import is_martian_source as is_martian_source4
from .ipv4 import is_multicast as is_multicast4
from .ipv6 import ALL_NODES, IPv6, is_extension, is_martian_source, is_multicast
from .ipv6 import fill as fill6
from .neighbor import AddressOption, NeighborAdvertisement, OptionType
from .tcp import Tcp, TcpFlag, segment_length

QUOTED = 548            # bytes: what an IPv4 and an ICMP header leave of 576
QUOTED6 = 1232          # bytes: what an IPv6 and an ICMPv6 header leave of 1280
ALL_NODES_MAC = 0x3333_0000_0001
CONTROL = 48            # DSCP CS6, "internetwork control" (RFC 1812 section 4.3.2.5)

# -- whether -------------------------------------------------------------------------------------------------------


@inline
def may_answer(pkt: Packet, eth: Ethernet, ip: IPv4) -> bool:
    """Whether a packet may be answered by an ICMP error or a reset; the cursor stands behind the fixed header."""
    if (is_group(eth.dst) or ip.offset != 0 or is_martian_source4(ip.src) or is_multicast4(ip.dst)
            or ip.dst == BROADCAST):
        return False
    if ip.proto != IpProtocol.ICMP:
        return True
    icmp = pkt.peek(Icmp, (ip.ihl * 4 - 20) & 0x3f)
    if icmp is None:
        return False
    return not is_error(icmp.type)


@inline
def may_answer6(pkt: Packet, eth: Ethernet, ip: IPv6, proto: u8, offset: int, type: u8) -> bool:
    """Whether a packet may be answered by the ICMPv6 error `type`, or by a reset.

    `proto` and `offset` are what `ipv6.skip_extensions` found; the cursor stands where it left it.  "Packet too big"
    and "parameter problem" also answer packets to a group (RFC 4443 section 2.4 e).  Behind more extension headers than
    were looked at there may be an error: it is not answered.
    """
    if is_martian_source(ip.src) or offset != 0 or is_extension(proto):
        return False
    if (is_group(eth.dst) or is_multicast(ip.dst)) and not (
            type == Icmp6Type.TOO_BIG or type == Icmp6Type.PARAMETER_PROBLEM):
        return False
    if proto != IpProtocol.ICMP6:
        return True
    icmp = pkt.peek(Icmp6)
    if icmp is None:
        return False
    return not is_error6(icmp.type) and icmp.type != Icmp6Type.REDIRECT

# -- errors --------------------------------------------------------------------------------------------------------


@inline
def exchange(pkt: Packet) -> None:
    """Parse the Ethernet header and exchange its ends."""
    eth = pkt.parse(Ethernet)
    here = eth.dst
    eth.dst = eth.src
    eth.src = here


@inline
def error(pkt: Packet, ip: IPv4, source: ipv4, type: u8, code: u8, rest: u32 = 0) -> None:
    """The ICMP error about a packet, from `source` to its sender; `rest` is an MTU or a pointer (RFC 792, 1191)."""
    quoted = min(ip.length, QUOTED, max(len(pkt) - 14, 20))
    to = ip.src
    pkt.resize(quoted + 14)
    exchange(pkt)
    outer, icmp = pkt.insert(IPv4, Icmp)
    fill4(outer, source, to, IpProtocol.ICMP, quoted + 8, 64, CONTROL)
    checksum.ipv4_header(outer)
    icmp.type = type
    icmp.code = code
    icmp.rest = rest
    checksum.icmp(pkt, icmp, quoted)


@inline
def error6(pkt: Packet, ip: IPv6, source: ipv6, type: u8, code: u8, rest: u32 = 0) -> None:
    """The ICMPv6 error about a packet, from `source` to its sender; `rest` is an MTU or a pointer (RFC 4443)."""
    said = QUOTED6 if ip.length == 0 and ip.next == IpProtocol.HOP_BY_HOP else ip.length     # RFC 2675 section 3
    quoted = min(said + 40, QUOTED6, max(len(pkt) - 14, 40))
    to = ip.src
    pkt.resize(quoted + 14)
    exchange(pkt)
    outer, icmp = pkt.insert(IPv6, Icmp6)
    fill6(outer, source, to, IpProtocol.ICMP6, quoted + 8)
    icmp.type = type
    icmp.code = code
    icmp.rest = rest
    checksum.icmp6(pkt, outer, icmp, quoted)

# -- resets --------------------------------------------------------------------------------------------------------


@inline
def reset(pkt: Packet, ip: IPv4, tcp: Tcp) -> None:
    """The reset a closed port sends (RFC 9293 section 3.10.7.1); a reset is never answered by one, so it rejects."""
    require(tcp.flags & TcpFlag.RST == 0)
    src, dst = ip.src, ip.dst
    here, there = tcp.dst, tcp.src
    known = tcp.flags & TcpFlag.ACK
    sequence = tcp.acknowledgment if known else 0
    expected = 0 if known else tcp.sequence + segment_length(tcp, (ip.length - ip.ihl * 4) & 0xffff)
    pkt.resize(54)
    exchange(pkt)
    answer, header = pkt.blank(IPv4, Tcp)
    fill4(answer, dst, src, IpProtocol.TCP, 20, 64, 0, 0, 1)
    checksum.ipv4_header(answer)
    reset_header(header, here, there, sequence, expected, known)
    header.checksum = checksum.finish(checksum.pseudo_ipv4(dst, src, IpProtocol.TCP, 20) + checksum.of_tcp(header))


@inline
def reset6(pkt: Packet, ip: IPv6, tcp: Tcp, length: int) -> None:
    """The same over IPv6; `length` is that of the segment, header included, extension headers not."""
    require(tcp.flags & TcpFlag.RST == 0)
    src, dst = ip.src, ip.dst
    here, there = tcp.dst, tcp.src
    known = tcp.flags & TcpFlag.ACK
    sequence = tcp.acknowledgment if known else 0
    expected = 0 if known else tcp.sequence + segment_length(tcp, length & 0xffff)
    pkt.resize(74)
    exchange(pkt)
    answer, header = pkt.blank(IPv6, Tcp)
    fill6(answer, dst, src, IpProtocol.TCP, 20)
    reset_header(header, here, there, sequence, expected, known)
    header.checksum = checksum.finish(checksum.pseudo_ipv6(dst, src, IpProtocol.TCP, 20) + checksum.of_tcp(header))


@inline
def reset_header(header: Tcp, src: int, dst: int, sequence: int, expected: int, known: int) -> None:
    """Fill a blank header; `known` says that the segment answered acknowledged something."""
    header.src = src
    header.dst = dst
    header.sequence = sequence
    header.acknowledgment = expected
    header.offset = 5
    header.flags = TcpFlag.RST if known else TcpFlag.RST | TcpFlag.ACK

# -- address resolution ---------------------------------------------------------------------------------------------


@inline
def advertise(pkt: Packet, address: mac, asker: mac, src: ipv6, target: ipv6, router: u8 = 0) -> None:
    """The advertisement that `target` is at `address`, made of a solicitation from `src` (RFC 4861 section 7.2.4).

    To all nodes if whoever asks has no address yet.
    """
    pkt.resize(86)
    eth = pkt.parse(Ethernet)
    eth.dst = asker if src != 0 else ALL_NODES_MAC
    eth.src = address
    ip, message, option = pkt.blank(IPv6, NeighborAdvertisement, AddressOption)
    fill6(ip, target, src if src != 0 else ALL_NODES, IpProtocol.ICMP6, 32, 255)
    message.type = Icmp6Type.NEIGHBOR_ADVERTISEMENT
    message.router = router
    message.solicited = 1 if src != 0 else 0
    message.override = 1
    message.target = target
    option.type = OptionType.TARGET_ADDRESS
    option.length = 1
    option.address = address
    checksum.advertisement(ip, message, option)

# -- echo ----------------------------------------------------------------------------------------------------------


@inline
def echo(pkt: Packet, eth: Ethernet, ip: IPv4, icmp: Icmp) -> None:
    """Turn an echo request into its reply, options and payload as they are (RFC 1122 section 3.2.2.6)."""
    here = eth.dst
    eth.dst = eth.src
    eth.src = here
    pkt.rewrite(ip, under=None, src=ip.dst, dst=ip.src, ttl=64)
    pkt.rewrite(icmp, type=IcmpType.ECHO_REPLY)


@inline
def echo6(pkt: Packet, eth: Ethernet, ip: IPv6, icmp: Icmp6) -> None:
    """Turn an echo request to one of our own addresses into its reply (RFC 4443 section 4.2)."""
    here = eth.dst
    eth.dst = eth.src
    eth.src = here
    pkt.rewrite(ip, under=icmp, src=ip.dst, dst=ip.src, hops=64)
    pkt.rewrite(icmp, type=Icmp6Type.ECHO_REPLY)


__all__ = ["advertise", "echo", "echo6", "error", "error6", "may_answer", "may_answer6", "reset", "reset6"]
