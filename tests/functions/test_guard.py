"""The guard, in plain CPython: what an endpoint may say, and what it may not."""
from __future__ import annotations

from typing import Any

import pytest

from iovisor.functions.guard import Guard, Reason
from iovisor.language import (
    ConfigError,
    Dropped,
    Packet,
    Verdict,
    drop,
    forward,
    ipv4_address,
    ipv6_address,
    mac_address,
)
from iovisor.parts.reading import Unreadable
from iovisor.wire.arp import Arp
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.igmp import Igmp, IgmpType
from iovisor.wire.ipv4 import IPv4
from iovisor.wire.ipv6 import Fragment, IPv6, link_local
from iovisor.wire.neighbor import (
    AddressOption,
    NeighborAdvertisement,
    NeighborSolicitation,
    OptionType,
    RouterAdvertisement,
    RouterSolicitation,
)
from iovisor.wire.udp import Udp

INSIDE, OUTSIDE = 0, 1
PASS = forward(OUTSIDE)
OWN, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
GLOBAL = "2001:db8::5"
LINK = link_local(mac_address(OWN))
STATION = {"mac": OWN, "addresses": ["10.0.0.5", "10.1.0.0/16", GLOBAL, "2001:db8:1::/64"]}


def ethernet(type: int, payload: bytes, src: str = OWN, dst: str = OTHER) -> bytes:
    return bytes(Ethernet(dst=mac_address(dst), src=mac_address(src), type=type)) + payload


def arp(sender: str, mac: str = OWN, **fields: int) -> bytes:
    values = {"operation": 1, "target_ip": 7} | fields
    return ethernet(0x0806, bytes(Arp(sender_mac=mac_address(mac), sender_ip=ipv4_address(sender), **values)))


def v4(src: str, proto: int = 6, payload: bytes = bytes(20), **fields: int) -> bytes:
    ip = IPv4(length=20 + len(payload), proto=proto, src=ipv4_address(src), dst=7, **fields)
    return ethernet(0x0800, bytes(ip) + payload)


def udp(src: int, dst: int) -> bytes:
    return bytes(Udp(src=src, dst=dst, length=8))


def v6(src: int | str, next: int = 6, payload: bytes = bytes(20)) -> bytes:
    source = ipv6_address(src) if isinstance(src, str) else src
    return ethernet(0x86dd, bytes(IPv6(length=len(payload), next=next, hops=255, src=source, dst=7)) + payload)


def told(kind: int, address: str) -> bytes:
    return bytes(AddressOption(type=kind, address=mac_address(address)))


def ask(*options: bytes) -> bytes:
    return bytes(NeighborSolicitation(target=7)) + b"".join(options)


def tell(target: int | str, *options: bytes) -> bytes:
    wanted = ipv6_address(target) if isinstance(target, str) else target
    return bytes(NeighborAdvertisement(target=wanted)) + b"".join(options)


def behind(frame_next: int, payload: bytes, count: int = 1) -> tuple[int, bytes]:
    """The payload behind `count` headers of destination options."""
    for _ in range(count):
        frame_next, payload = 60, bytes([frame_next, 0]) + bytes(6) + payload
    return frame_next, payload


def verdict(frame: bytes, port: int = INSIDE, **config: Any) -> Verdict:
    guard = Guard(**{"stations": [STATION], **config})
    packet = Packet(frame, port)
    found = guard.run(packet)
    assert bytes(packet) == frame, "a guard changes nothing"
    return found


SOURCE, TARGET = OptionType.SOURCE_ADDRESS, OptionType.TARGET_ADDRESS
ADVERTISED = bytes(RouterAdvertisement(lifetime=1800))
CASES: list[tuple[str, dict[str, Any], bytes, Verdict]] = [
    ("its address", {}, v4("10.0.0.5"), PASS),
    ("an address of its prefix", {}, v4("10.1.2.3"), PASS),
    ("beside its prefix", {}, v4("10.2.0.0"), drop(Reason.FOREIGN_ADDRESS)),
    ("another's address", {}, v4("10.0.0.6"), drop(Reason.FOREIGN_ADDRESS)),
    ("a later fragment is looked at too", {}, v4("10.0.0.6", offset=100), drop(Reason.FOREIGN_ADDRESS)),
    ("without addresses, any", {"stations": [{"mac": OWN}]}, v4("10.0.0.6"), PASS),
    ("another's MAC", {}, ethernet(0x0800, v4("10.0.0.5")[14:], src=OTHER), drop(Reason.FOREIGN_MAC)),
    ("nobody is behind it", {"stations": []}, v4("10.0.0.5"), drop(Reason.FOREIGN_MAC)),
    ("a router sends for others", {"router": True}, v4("192.0.2.1"), PASS),
    ("a router has its own MAC", {"router": True}, ethernet(0x0800, v4("192.0.2.1")[14:], src=OTHER),
     drop(Reason.FOREIGN_MAC)),
    ("version 5", {}, v4("10.0.0.5", version=5), drop(Unreadable.MALFORMED)),
    ("cut short", {}, v4("10.0.0.5")[:30], drop(Dropped.TRUNCATED)),

    ("DHCP without a lease", {}, v4("0.0.0.0", 17, udp(68, 67)), PASS),
    ("nothing else from nowhere", {}, v4("0.0.0.0", 17, udp(68, 69)), drop(Reason.FOREIGN_ADDRESS)),
    ("a rogue DHCP server", {}, v4("10.0.0.5", 17, udp(67, 68)), drop(Reason.ROGUE_DHCP)),
    ("a DHCP server", {"dhcp": True}, v4("10.0.0.5", 17, udp(67, 68)), PASS),
    ("a rogue DHCPv6 server", {}, v6(GLOBAL, 17, udp(547, 546)), drop(Reason.ROGUE_DHCP)),
    ("a DHCPv6 client", {}, v6(LINK, 17, udp(546, 547)), PASS),
    ("even if any address is free", {"stations": [{"mac": OWN}]}, v4("10.0.0.5", 17, udp(67, 68)),
     drop(Reason.ROGUE_DHCP)),

    ("ARP for itself", {}, arp("10.0.0.5"), PASS),
    ("an ARP probe", {}, arp("0.0.0.0"), PASS),
    ("ARP for another", {}, arp("10.0.0.1"), drop(Reason.FOREIGN_ARP)),
    ("a reply for another", {}, arp("10.0.0.1", operation=2), drop(Reason.FOREIGN_ARP)),
    ("ARP with another's MAC inside", {}, arp("10.0.0.5", OTHER), drop(Reason.FOREIGN_ARP)),
    ("ARP of another kind", {}, arp("10.0.0.5", hardware=6), drop(Reason.FOREIGN_ARP)),
    ("routers have no more rights in ARP", {"router": True}, arp("10.0.0.1"), drop(Reason.FOREIGN_ARP)),

    ("its IPv6 address", {}, v6(GLOBAL), PASS),
    ("one of its prefix", {}, v6("2001:db8:1::abcd"), PASS),
    ("its link-local address", {}, v6(LINK), PASS),
    ("another's link-local address", {}, v6(link_local(mac_address(OTHER))), drop(Reason.FOREIGN_ADDRESS)),
    ("another's IPv6 address", {}, v6("2001:db8::6"), drop(Reason.FOREIGN_ADDRESS)),
    ("IPv4's bits are no IPv6 address", {}, v6(ipv4_address("10.0.0.5")), drop(Reason.FOREIGN_ADDRESS)),
    ("duplicate detection", {}, v6(0, 58, ask()), PASS),
    ("a router solicitation", {}, v6(0, 58, bytes(RouterSolicitation())), PASS),
    ("a listener report", {}, v6(0, 58, bytes(Icmp6(type=Icmp6Type.LISTENER_REPORT_2))), PASS),
    ("an echo from nowhere", {}, v6(0, 58, bytes(Icmp6(type=Icmp6Type.ECHO))), drop(Reason.FOREIGN_ADDRESS)),
    ("asking", {}, v6(GLOBAL, 58, ask(told(SOURCE, OWN))), PASS),
    ("asking with another's MAC", {}, v6(GLOBAL, 58, ask(told(SOURCE, OTHER))), drop(Reason.FOREIGN_NEIGHBOR)),
    ("behind an option of another kind", {}, v6(GLOBAL, 58, ask(told(14, OWN), told(SOURCE, OTHER))),
     drop(Reason.FOREIGN_NEIGHBOR)),
    ("telling", {}, v6(GLOBAL, 58, tell(GLOBAL, told(TARGET, OWN))), PASS),
    ("telling its link-local address", {}, v6(LINK, 58, tell(LINK)), PASS),
    ("telling another's address", {}, v6(GLOBAL, 58, tell("2001:db8::1", told(TARGET, OWN))),
     drop(Reason.FOREIGN_NEIGHBOR)),
    ("telling another's MAC", {}, v6(GLOBAL, 58, tell(GLOBAL, told(TARGET, OTHER))), drop(Reason.FOREIGN_NEIGHBOR)),
    ("a rogue router", {}, v6(LINK, 58, ADVERTISED), drop(Reason.ROGUE_ROUTER)),
    ("a router", {"router": True}, v6(LINK, 58, ADVERTISED), PASS),
    ("a query for listeners", {}, v4("10.0.0.5", 2, bytes(Igmp(type=IgmpType.QUERY))), drop(Reason.ROGUE_ROUTER)),
    ("a listener's report", {}, v4("10.0.0.5", 2, bytes(Igmp(type=IgmpType.REPORT_2, group=7))), PASS),
    ("a query for listeners, by right", {"router": True}, v4("10.0.0.5", 2, bytes(Igmp(type=IgmpType.QUERY))), PASS),
    ("a query for listeners, v6", {}, v6(LINK, 58, bytes(Icmp6(type=Icmp6Type.LISTENER_QUERY)) + bytes(16)),
     drop(Reason.ROGUE_ROUTER)),
    ("behind an extension header", {}, v6(LINK, *behind(58, ADVERTISED)), drop(Reason.ROGUE_ROUTER)),
    ("behind too many", {}, v6(LINK, *behind(58, ADVERTISED, 5)), drop(Unreadable.TOO_MANY_HEADERS)),
    ("behind as many as there may be", {}, v6(LINK, *behind(58, ADVERTISED, 4)), drop(Reason.ROGUE_ROUTER)),
    ("a target in the padding", {}, v6(GLOBAL, 58, tell("2001:db8::1")[:20]) + bytes(20), drop(Unreadable.MALFORMED)),
    ("ports in the padding", {}, v4("0.0.0.0", 17, b"") + udp(68, 67), drop(Unreadable.MALFORMED)),
    ("in fragments", {}, v6(LINK, 44, bytes(Fragment(next=58, offset=0, more=1, id=1)) + ADVERTISED),
     drop(Reason.HIDDEN)),
    ("in the fragment behind", {},
     v6(LINK, 44, bytes(Fragment(next=60, offset=0, more=1, id=1)) + bytes([58, 0] + [0] * 6)),
     drop(Unreadable.TINY_FRAGMENT)),
    ("an honest fragment", {}, v6(GLOBAL, 44, bytes(Fragment(next=17, offset=9, more=0, id=1)) + bytes(8)), PASS),

    ("tagged", {}, v4("10.0.0.5")[:12] + bytes.fromhex("8100000a") + v4("10.0.0.5")[12:], drop(Reason.TAGGED)),
    ("tagged by right", {"tagged": True},
     v4("10.0.0.6")[:12] + bytes.fromhex("8100000a") + v4("10.0.0.6")[12:], drop(Reason.FOREIGN_ADDRESS)),
    ("two tags by right", {"tagged": True},
     v4("10.0.0.6")[:12] + bytes.fromhex("8100000a8100000b") + v4("10.0.0.6")[12:], drop(Reason.FOREIGN_ADDRESS)),
    ("three tags", {"tagged": True},
     v4("10.0.0.5")[:12] + bytes.fromhex("8100000a8100000b8100000c") + v4("10.0.0.5")[12:], drop(Reason.TAGGED)),
    ("another protocol", {}, ethernet(0x88cc, bytes(46)), drop(Reason.OTHER)),
    ("another protocol by right", {"other": True}, ethernet(0x88cc, bytes(46)), PASS),
]


@pytest.mark.parametrize(("config", "frame", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_from_inside(config: dict[str, Any], frame: bytes, expected: Verdict) -> None:
    assert verdict(frame, **config) == expected


def test_to_the_endpoint() -> None:
    foreign = ethernet(0x0800, bytes(40), src=OTHER, dst="02:00:00:00:00:09")
    for frame, private, expected in (
            (foreign, False, forward(INSIDE)),
            (foreign, True, drop(Reason.NOT_FOR_IT)),
            (ethernet(0x0800, bytes(40), src=OTHER, dst=OWN), True, forward(INSIDE)),
            (ethernet(0x0800, bytes(40), src=OTHER, dst="ff:ff:ff:ff:ff:ff"), True, forward(INSIDE))):
        assert verdict(frame, OUTSIDE, private=private) == expected


def test_addresses_change_while_it_runs() -> None:
    guard = Guard(stations=[STATION])
    guard.reconfigure(stations=[{"mac": OWN, "addresses": ["10.0.0.6", "10.2.0.0/16"]}])
    found = [guard.run(Packet(v4(address), INSIDE)) == PASS for address in
             ("10.0.0.5", "10.0.0.6", "10.1.0.1", "10.2.0.1")]
    assert found == [False, True, False, True]
    guard.reconfigure(stations=[{"mac": OTHER}])
    assert guard.run(Packet(v4("10.0.0.6"), INSIDE)) == drop(Reason.FOREIGN_MAC)
    assert len(guard.own) == 0 and len(guard.known) == 1
    assert guard.show() == [{"mac": OTHER, "addresses": []}]


@pytest.mark.parametrize(("stations", "said"), [
    ([{"mac": "01:00:00:00:00:01"}], "group address"),
    ([{"mac": OWN}, {"mac": OWN}], "already there"),
    ([{"mac": n} for n in range(0, 130, 2)], "64 is the most"),
    ([{"mac": OWN, "addresses": [f"10.{n}.0.0/16" for n in range(33)]}], "32 is the most"),
    ([{"mac": OWN, "addresses": [f"10.0.{n >> 8}.{n & 255}" for n in range(257)]}], "256 is the most"),
])
def test_what_cannot_be_configured(stations: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Guard(stations=stations)
