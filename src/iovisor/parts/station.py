"""What a function with a place of its own in an IPv6 network says by itself: where its addresses are (RFC 4861).

It has two, one for the link and one for the world; what a function is asked for at them is its own business.
"""
from __future__ import annotations

from iovisor.language import Packet, inline, ipv6, mac, require
from iovisor.wire import checksum
from iovisor.wire.answer import advertise
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import IPv6, solicited_node
from iovisor.wire.neighbor import ON_LINK, NeighborSolicitation, OptionType, link_layer_address

SHORTEST, LONGEST = 24, 255             # bytes of a solicitation; with options of 255 bytes it is odd enough to ignore


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


__all__ = ["is_located"]
