"""The frames a router sends by itself: questions for neighbors, announcements, advertisements."""
from __future__ import annotations

from iovisor.language import SECOND
from iovisor.parts.asking import advertisement, arp_announcement, arp_request, icmp6, solicitation
from iovisor.wire.answer import CONTROL, QUOTED
from iovisor.wire.checksum import finish, of_ipv4
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.neighbor import (
    AddressOption,
    MtuOption,
    NameServerOption,
    Option,
    OptionType,
    PrefixOption,
    Redirect,
    RouterAdvertisement,
    SearchOption,
)
from iovisor.wire.offload import of_data

from .settings import InterfaceConfig

FOR_HOST = 1                # the code of a redirect for one destination, the only kind to send (RFC 1812 5.2.7.2)


def router_advertisement(interface: InterfaceConfig, dst_mac: int, target: int, last: bool = False) -> bytes:
    """RFC 4861 section 6.2.3; `last` says that this router goes."""
    said = interface.advertise
    assert said is not None
    # Of a router that is none (any more) hosts need no preference, and must not be told one (RFC 4191 section 2.2).
    lifetime = 0 if last else said.lifetime // SECOND
    parts = [bytes(RouterAdvertisement(managed=int(bool(said.managed)), other=int(bool(said.managed or said.other)),
                                       preference=said.preference if lifetime else 0, lifetime=lifetime)),
             bytes(AddressOption(type=OptionType.SOURCE_ADDRESS, address=interface.mac)),
             bytes(MtuOption(mtu=said.mtu or interface.mtu))]
    for prefix in interface.prefixes():
        parts.append(bytes(PrefixOption(prefix_length=64, on_link=1, autonomous=int(said.autonomous),
                                        valid=said.valid // SECOND, preferred=said.preferred // SECOND,
                                        prefix=prefix.address)))
    for server in said.name_servers:
        parts.append(bytes(NameServerOption(lifetime=3 * said.interval // SECOND, server=server)))
    if said.search:
        names = said.names()
        length = -(-len(names) // 8)
        parts.append(bytes(SearchOption(length=1 + length, lifetime=3 * said.interval // SECOND))
                     + names.ljust(8 * length, b"\0"))
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


__all__ = ["advertisement", "arp_announcement", "arp_request", "icmp6", "redirect4", "redirect6",
           "router_advertisement", "solicitation"]
