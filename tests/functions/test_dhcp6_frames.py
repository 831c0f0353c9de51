"""What the DHCPv6 server's data path does with frames, the same on every machine."""
from __future__ import annotations

from iovisor.functions.dhcp6 import Dhcp6
from iovisor.language import ipv6_address, mac_address
from iovisor.parts.asking import icmp6, solicitation
from iovisor.testing import agree
from iovisor.testing.packets import arp, ethernet, hop_by_hop, ipv6, udp
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp6 import Icmp6Echo
from iovisor.wire.ipv6 import IPv6, link_local
from tests.functions.dhcp6 import (
    CLIENT,
    MAC,
    SERVER,
    SERVER_LINK,
    D,
    asked,
    framed,
    message,
    na,
    pd,
    relayed,
    server,
    wish,
)


def solicitations(mac: str, *addresses: int) -> list[bytes]:
    """Everybody's ways to ask where an address is, right and wrong."""
    found = []
    for target in addresses:
        for source in (link_local(CLIENT), ipv6_address("2001:db8:1::77")):
            found += [solicitation(CLIENT, source, target), solicitation(CLIENT, source, target, mac_address(mac))]
        whole = found[-2]
        probe = icmp6(Ethernet.decode(whole).dst, CLIENT, 0, IPv6.decode(whole[14:]).dst,
                      whole[54:56] + bytes(2) + whole[58:78])
        told = icmp6(Ethernet.decode(whole).dst, CLIENT, 0, IPv6.decode(whole[14:]).dst,
                     whole[54:56] + bytes(2) + whole[58:])
        empty = icmp6(Ethernet.decode(whole).dst, CLIENT, link_local(CLIENT), IPv6.decode(whole[14:]).dst,
                      whole[54:56] + bytes(2) + whole[58:78] + b"\1\0" + bytes(6))
        found += [probe, told, empty, whole[:21] + b"\x40" + whole[22:], whole[:-1], whole[:70], whole[:60]]
        found += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:] for at in range(len(whole))]
    return found


def pings(mac: str, *addresses: int) -> list[bytes]:
    return [icmp6(mac_address(mac), CLIENT, link_local(CLIENT), target,
                  bytes(Icmp6Echo(type=kind, id=1, sequence=2)) + bytes(size))
            for target in addresses for size in (0, 1, 1400) for kind in (128, 129)]


def test_every_machine_sorts_alike() -> None:
    said = [message(D.SOLICIT, na(), pd(), wish(23, 24)), message(D.RENEW, na(1, "2001:db8:1::100"))]
    said.append(relayed(said[0], "2001:db8:9::1", link_local(CLIENT)))
    frames = [framed(one, dst=to, port=port) for one in said for port in (546, 547)
              for to in ("ff02::1:2", "ff05::1:3", SERVER, "fe80::ff:fe00:d6", "ff02::1", "2001:db8:1::9")]
    frames += [frame[:size] for frame in frames[:2] for size in range(14, len(frames[0]), 3)]
    frames += solicitations(MAC, ipv6_address(SERVER), SERVER_LINK, ipv6_address("2001:db8:1::9"))
    frames += pings(MAC, ipv6_address(SERVER), SERVER_LINK, ipv6_address("ff02::1:2"))
    whole = asked(D.SOLICIT, na())
    frames += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:] for at in range(62)]
    link = ethernet(dst=MAC, src=CLIENT)
    frames += [bytes(link / arp()), bytes(link / ipv6(src="fe80::1", dst=SERVER) / hop_by_hop() / udp(src=546, dst=547)
                                          / said[0])]
    assert agree(server, [(frame, 0) for frame in frames]) == len(frames)


def test_it_can_be_anywhere() -> None:
    """Its addresses are configuration: another server's are not its own."""
    def other() -> Dhcp6:
        return server(server="2001:db8:9::2", mac="02:00:00:00:0a:d6")
    frames = [*solicitations(MAC, ipv6_address(SERVER), SERVER_LINK), *pings(MAC, ipv6_address(SERVER)),
              *solicitations("02:00:00:00:0a:d6", ipv6_address("2001:db8:9::2"))]
    assert agree(other, [(frame, 0) for frame in frames]) == len(frames)
