"""The frames a router sends by itself: questions for neighbors, announcements, advertisements."""
from __future__ import annotations

from collections.abc import Iterable

from iovisor.language import SECOND, Prefix
from iovisor.wire.answer import CONTROL, QUOTED
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.checksum import finish, of_data, of_ipv4, pseudo_ipv6
from iovisor.wire.ethernet import BROADCAST, Ethernet, EtherType
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import ALL_NODES, IPv6, multicast_mac, solicited_node
from iovisor.wire.neighbor import (
    ON_LINK,
    AddressOption,
    MtuOption,
    NameServerOption,
    NeighborAdvertisement,
    NeighborSolicitation,
    Option,
    OptionType,
    PrefixOption,
    Redirect,
    RouterAdvertisement,
)

from .settings import InterfaceConfig

FOR_HOST = 1                # the code of a redirect for one destination, the only kind to send (RFC 1812 5.2.7.2)


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


def advertisement(mac: int, address: int) -> bytes:
    """Unsolicited, to all nodes (RFC 4861 section 7.2.6)."""
    message = bytes(NeighborAdvertisement(router=1, override=1, target=address)) + bytes(
        AddressOption(type=OptionType.TARGET_ADDRESS, address=mac))
    return icmp6(multicast_mac(ALL_NODES), mac, address, ALL_NODES, message)


def router_advertisement(interface: InterfaceConfig, dst_mac: int, target: int, last: bool = False) -> bytes:
    """RFC 4861 section 6.2.3; `last` says that this router goes."""
    said = interface.advertise
    assert said is not None
    parts = [bytes(RouterAdvertisement(managed=int(said.managed), other=int(said.other),
                                       lifetime=0 if last else said.lifetime // SECOND)),
             bytes(AddressOption(type=OptionType.SOURCE_ADDRESS, address=interface.mac)),
             bytes(MtuOption(mtu=said.mtu or interface.mtu))]
    for prefix in prefixes(interface):
        parts.append(bytes(PrefixOption(prefix_length=64, on_link=1, autonomous=1, valid=said.valid // SECOND,
                                        preferred=said.preferred // SECOND, prefix=prefix.address)))
    for server in said.name_servers:
        parts.append(bytes(NameServerOption(lifetime=3 * said.interval // SECOND, server=server)))
    return icmp6(dst_mac, interface.mac, interface.link_local, target, b"".join(parts))


def redirect4(interface: InterfaceConfig, dst_mac: int, source: int, gateway: int, datagram: bytes) -> bytes:
    """RFC 792: the sender of this datagram does better to send it to `gateway`."""
    ip = IPv4.decode(datagram)
    quoted = datagram[:min(ip.length, QUOTED)]
    message = Icmp(type=IcmpType.REDIRECT, code=FOR_HOST, rest=gateway)
    message.checksum = finish(of_data(bytes(message)) + of_data(quoted))
    outer = IPv4(length=28 + len(quoted), proto=IpProtocol.ICMP, dscp=CONTROL, src=source, dst=ip.src)
    outer.checksum = finish(of_ipv4(outer))
    return bytes(Ethernet(dst=dst_mac, src=interface.mac, type=EtherType.IPV4)) + bytes(outer) + bytes(message) + quoted


def redirect6(interface: InterfaceConfig, dst_mac: int, target: int, target_mac: int, datagram: bytes) -> bytes:
    """RFC 4861 section 4.5, with the target's Ethernet address and as much of the datagram as fits in 1280 bytes."""
    ip = IPv6.decode(datagram)
    quoted = datagram[:min(ip.length + IPv6.size, 1280 - IPv6.size - Redirect.size - AddressOption.size - 8)]
    quoted = quoted[:len(quoted) & ~7]      # whole units of eight bytes; an option has no other length
    message = bytes(Redirect(target=target, destination=ip.dst)) + bytes(
        AddressOption(type=OptionType.TARGET_ADDRESS, address=target_mac)) + bytes(
        Option(type=OptionType.REDIRECTED, length=1 + len(quoted) // 8)) + bytes(6) + quoted
    return icmp6(dst_mac, interface.mac, interface.link_local, ip.src, message)


def prefixes(interface: InterfaceConfig) -> Iterable[Prefix]:
    """What hosts may configure themselves from."""
    found = {Prefix(int(n.network.network_address), 64, 128) for n in interface.networks()
             if n.version == 6 and n.network.prefixlen == 64 and not n.ip.is_link_local}
    return sorted(found, key=lambda prefix: prefix.address)
