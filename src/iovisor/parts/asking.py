"""The frames by which a function finds who has an address, and tells who has its own: ARP and neighbor discovery."""
from __future__ import annotations

from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.checksum import finish, is_right, pseudo_ipv6
from iovisor.wire.ethernet import BROADCAST, Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import ALL_NODES, IPv6, multicast_mac, solicited_node
from iovisor.wire.neighbor import ON_LINK, AddressOption, NeighborAdvertisement, NeighborSolicitation, OptionType
from iovisor.wire.offload import of_data


def arp_request(mac: int, source: int, target: int, known: int = 0) -> bytes:
    """Who has `target`?  To the neighbor itself if its Ethernet address is `known`."""
    return bytes(Ethernet(dst=known or BROADCAST, src=mac, type=EtherType.ARP)) + bytes(
        Arp(operation=ArpOperation.REQUEST, sender_mac=mac, sender_ip=source, target_ip=target))


def arp_announcement(mac: int, address: int) -> bytes:
    """RFC 5227 section 2.3."""
    return arp_request(mac, address, address)


def icmp6(dst_mac: int, src_mac: int, source: int, target: int, message: bytes) -> bytes:
    """A discovery message of one link; its checksum field, zero, is filled."""
    total = pseudo_ipv6(source, target, IpProtocol.ICMP6, len(message)) + of_data(message)
    filled = message[:2] + finish(total).to_bytes(2, "big") + message[4:]
    return bytes(Ethernet(dst=dst_mac, src=src_mac, type=EtherType.IPV6)) + bytes(
        IPv6(length=len(message), next=IpProtocol.ICMP6, hops=ON_LINK, src=source, dst=target)) + filled


def solicitation(mac: int, source: int, target: int, known: int = 0) -> bytes:
    """RFC 4861 section 7.2.2: to the group of the target, or to the neighbor itself."""
    group = solicited_node(target)
    message = bytes(NeighborSolicitation(target=target)) + bytes(
        AddressOption(type=OptionType.SOURCE_ADDRESS, address=mac))
    return icmp6(known or multicast_mac(group), mac, source, target if known else group, message)


def advertisement_to(mac: int, address: int, source: int, to: int) -> bytes:
    """The answer to `source`, at Ethernet address `to`; zero, who has none yet, is told in the group of all nodes (RFC
    4861 section 7.2.4)."""
    message = bytes(NeighborAdvertisement(solicited=1 if source else 0, override=1, target=address)) + bytes(
        AddressOption(type=OptionType.TARGET_ADDRESS, address=mac))
    return icmp6(to if source else multicast_mac(ALL_NODES), mac, address, source or ALL_NODES, message)


def is_right6(source: int, destination: int, message: bytes) -> bool:
    """Whether the checksum of an ICMPv6 message is right."""
    return is_right(pseudo_ipv6(source, destination, IpProtocol.ICMP6, len(message)) + of_data(message))


def advertisement(mac: int, address: int) -> bytes:
    """Unsolicited, to all nodes (RFC 4861 section 7.2.6)."""
    message = bytes(NeighborAdvertisement(router=1, override=1, target=address)) + bytes(
        AddressOption(type=OptionType.TARGET_ADDRESS, address=mac))
    return icmp6(multicast_mac(ALL_NODES), mac, address, ALL_NODES, message)
