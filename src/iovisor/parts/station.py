"""What a function with a place of its own in a network says by itself: where its addresses are, and that it is there.

ARP (RFC 826), neighbor discovery (RFC 4861) and echoes, answered in the data path.  Each `is_...` looks whether a
packet asks so; if it does, the packet has become the answer, and goes back where it came from.  What else a function is
asked for at its addresses is its own business.  In an IPv6 network it has two, one for the link and one for the world.
"""
from __future__ import annotations

from iovisor.language import Packet, inline, ipv4, ipv6, mac, require
from iovisor.wire import checksum
from iovisor.wire.answer import advertise, echo, echo6
from iovisor.wire.arp import Arp, ArpOperation, answer, is_ethernet_ipv4
from iovisor.wire.ethernet import BROADCAST, Ethernet, is_group
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_martian_source, is_multicast
from iovisor.wire.ipv6 import IPv6, solicited_node
from iovisor.wire.ipv6 import is_martian_source as is_martian_source6
from iovisor.wire.neighbor import ON_LINK, NeighborSolicitation, OptionType, link_layer_address

SHORTEST, LONGEST = 24, 255             # bytes of a solicitation; with options of 255 bytes it is odd enough to ignore


@inline
def is_resolved(pkt: Packet, eth: Ethernet, address: mac, own: ipv4) -> bool:
    """Whether a packet, its cursor behind the Ethernet header, asks by ARP where our address is."""
    arp = pkt.peek(Arp)
    if arp is None:
        return False
    if (not is_ethernet_ipv4(arp) or arp.operation != ArpOperation.REQUEST or arp.target_ip != own
            or arp.sender_mac == address or is_group(arp.sender_mac)
            or (eth.dst != address and eth.dst != BROADCAST)):
        return False
    answer(eth, arp, address)
    return True


@inline
def is_echoed(pkt: Packet, eth: Ethernet, ip: IPv4, address: mac, own: ipv4) -> bool:
    """Whether an IPv4 packet that is sane and whole, its cursor behind the header, is an echo request to our address
    from a single host (RFC 1122 section 3.2.2.6)."""
    if (ip.proto != IpProtocol.ICMP or ip.dst != own or eth.dst != address or is_martian_source(ip.src)
            or is_multicast(ip.src) or ip.length < ip.ihl * 4 + Icmp.size):
        return False
    icmp = pkt.peek(Icmp)
    if icmp is None or icmp.type != IcmpType.ECHO:
        return False
    echo(pkt, eth, ip, icmp)
    return True


@inline
def is_echoed6(pkt: Packet, eth: Ethernet, ip: IPv6, address: mac, own: ipv6) -> bool:
    """The same over IPv6, the cursor behind the fixed header (RFC 4443 section 4.2)."""
    if (ip.next != IpProtocol.ICMP6 or ip.dst != own or eth.dst != address or is_martian_source6(ip.src)
            or ip.length < Icmp6.size):
        return False
    icmp = pkt.peek(Icmp6)
    if icmp is None or icmp.type != Icmp6Type.ECHO:
        return False
    echo6(pkt, eth, ip, icmp)
    return True


@inline
def is_located(pkt: Packet, eth: Ethernet, ip: IPv6, address: mac, own: ipv6, other: ipv6) -> bool:
    """Whether a packet, its cursor behind the fixed header, rightly asks where one of two addresses is (RFC 4861
    section 7.1.1).  If so it has become the answer.  Rejects one whose options contradict it."""
    message = pkt.peek(NeighborSolicitation)
    if (message is None or message.type != Icmp6Type.NEIGHBOR_SOLICITATION or message.code != 0
            or ip.hops != ON_LINK or ip.length < SHORTEST or ip.length > LONGEST):
        return False
    target, src = message.target, ip.src
    if (target != own and target != other) or (ip.dst != target and ip.dst != solicited_node(target)):
        return False
    length = ip.length & 0xff
    if not checksum.is_right(checksum.pseudo_ipv6(src, ip.dst, IpProtocol.ICMP6, length)
                             + checksum.of_bytes(pkt, length)):
        return False
    to_group = ip.dst != target
    pkt.skip(SHORTEST)
    told = link_layer_address(pkt, OptionType.SOURCE_ADDRESS)
    require(src != 0 or (told == 0 and to_group))
    asker = eth.src
    advertise(pkt, address, told if told != 0 else asker, src, target)
    return True


__all__ = ["is_echoed", "is_echoed6", "is_located", "is_resolved"]
