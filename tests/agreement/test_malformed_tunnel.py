"""A million spoiled frames for both ends of a tunnel, with --nightly; some thousands else.

The judge takes frames apart by slices.  What goes into a tunnel is behind its new header as it came, to the last byte;
what comes out of one is what was behind the header, congestion aside, and of nobody but who may send.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.balancer import Balancer
from iovisor.functions.decapsulator import Decapsulator
from iovisor.language import Verdict
from iovisor.language.verdicts import FORWARD_KIND, PUNT_KIND
from iovisor.testing import Arrival
from iovisor.testing.packets import arp, destination, ethernet, fragment, icmp, icmp6, ipv4, ipv6, tcp, udp
from tests.agreement.malformed import Judge, Subject, examine, read
from tests.agreement.test_malformed import stock

SOME, MILLION = 6_000, 1_000_000
OWN, BACKEND, ROUTER = "02:00:00:00:0f:01", "02:00:00:00:00:07", "06:5a:5a:5a:5a:01"
VIP4, VIP6, CLIENT4, CLIENT6 = "198.51.100.1", "2001:db8:f::1", "192.0.2.1", "2001:db8:c::1"
SERVICES = [(VIP4, 80, "10.0.0.7"), (VIP4, 81, "fd00::7"), (VIP6, 80, "fd00::7"), (VIP6, 81, "10.0.0.7")]
HERE = {4: ipaddress.ip_address("10.0.0.250").packed, 6: ipaddress.ip_address("fd00::fa").packed}
THERE = {4: ipaddress.ip_address("10.0.0.7").packed, 6: ipaddress.ip_address("fd00::7").packed}
VIPS = {ipaddress.ip_address(VIP4).packed, ipaddress.ip_address(VIP6).packed}
KINDS = {4: 0x0800, 6: 0x86dd}


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def balancer() -> Balancer:
    return Balancer(mac=OWN, addresses=["10.0.0.250/24", "fd00::fa/64"], slots=256, recent=64, most_vips=8,
                    most_backends=16, sessions=64, vips=[
        {"address": vip, "port": port, "protocol": protocol, "mode": "tunnel",
         "backends": [{"address": backend, "mac": BACKEND}]}
        for vip, port, backend in SERVICES for protocol in ("tcp", "udp")])


def asking(client4: str = CLIENT4, client6: str = CLIENT6, port: int = 4000) -> Iterator[Arrival]:
    """Flows to every service."""
    for vip, served, _ in SERVICES:
        to = ipv4(src=client4, dst=vip) if vip == VIP4 else ipv6(src=client6, dst=vip)
        yield from (Arrival(bytes(ethernet(dst=OWN, src=ROUTER) / to / upper), 0) for upper in (
            udp(src=port, dst=served) / b"ask", tcp(src=port, dst=served, flags=2),
            tcp(src=port, dst=served, flags=16) / bytes(20), tcp(src=port, dst=served, flags=16) / bytes(1400)))


def tunnelling() -> Iterator[Arrival]:
    """And what concerns them: errors for a backend, errors about the tunnel, fragments, too much."""
    yield from asking()
    there = ethernet(dst=OWN, src=ROUTER)
    answer4 = bytes(ipv4(src=VIP4, dst=CLIENT4) / tcp(src=80, dst=4000))
    answer6 = bytes(ipv6(src=VIP6, dst=CLIENT6) / tcp(src=80, dst=4000))
    sent4 = bytes(ipv4(src="10.0.0.250", dst="10.0.0.7", proto=4) / ipv4(src=CLIENT4, dst=VIP4) / udp(dst=80, src=4))
    sent6 = bytes(ipv6(src="fd00::fa", dst="fd00::7", next=41) / ipv6(src=CLIENT6, dst=VIP6) / udp(dst=80, src=4))
    ends: dict[str, Any] = {"src": CLIENT4, "dst": VIP4, "id": 5}
    yield from (Arrival(bytes(there / parts), port) for port, parts in (
        (0, ipv4(src="192.0.2.9", dst=VIP4) / icmp(type=3, code=4, rest=1300) / answer4),
        (0, ipv6(src="2001:db8:c::9", dst=VIP6) / icmp6(type=2, rest=1300) / answer6),
        (1, ipv4(src="10.0.0.1", dst="10.0.0.250") / icmp(type=3, code=4, rest=1400) / sent4),
        (1, ipv6(src="fd00::1", dst="fd00::fa") / icmp6(type=2, rest=1400) / sent6),
        (0, ipv4(mf=1, **ends) / udp(src=4000, dst=80) / bytes(24)), (0, ipv4(offset=4, proto=17, **ends) / bytes(24)),
        (0, ipv4(src=CLIENT4, dst=VIP4) / tcp(src=4000, dst=80, flags=16) / bytes(1460))))


def wrapping() -> Judge:
    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        given = read(arrival.frame)
        if verdict.kind == PUNT_KIND:
            cut = len(frame) == 14 + 1280 + 4 * (len(frame) > 14 and frame[12:14] in (b"\x81\0", b"\x88\xa8"))
            return None if arrival.frame.startswith(frame) and (frame == arrival.frame or cut) else "it was altered"
        assert verdict.kind == FORWARD_KIND
        if frame == arrival.frame:
            return "it is for the balancer" if given.destination == mac(OWN) and given.tags == [] else None
        if given.fault:
            return f"it was altered, and should not have passed: {given.fault}"
        if verdict.argument == arrival.port and frame[:6] == (
                arrival.frame[22 + 4 * len(given.tags):][:6] if given.type == 0x0806 else given.source):
            return None if len(frame) == len(arrival.frame) else "an echo of another size"
        return wrapped(arrival.frame, frame, 14 + 4 * len(given.tags)) if verdict.argument == 1 else "it goes back"
    return judge


def wrapped(came: bytes, left: bytes, at: int) -> str | None:
    """What is wrong with a frame in a tunnel; its IP began at a byte."""
    inside = came[at:]
    four = inside[0] >> 4 == 4
    length = int.from_bytes(inside[2:4], "big") if four else int.from_bytes(inside[4:6], "big") + 40
    traffic = inside[1] if four else int.from_bytes(inside[:2], "big") >> 4 & 0xff
    version = {kind: version for version, kind in KINDS.items()}.get(int.from_bytes(left[at - 2:at], "big"), 0)
    if (left[:6], left[6:12], left[12:at - 2]) != (mac(BACKEND), mac(OWN), came[12:at - 2]):
        return "its frame is wrong"
    size = {4: 20, 6: 40, 0: 0}[version]
    outer = left[at:at + size]
    if left[at + size:] != inside:
        return "what is inside is not what came"
    if length > 1500 - size:
        return "it does not fit"
    if version == 4:
        right = (outer[:2], outer[2:4], outer[6:10], outer[12:16], outer[16:]) == (
            bytes([0x45, traffic]), (length + 20).to_bytes(2, "big"), bytes([0x40, 0, 64, 4 if four else 41]), HERE[4],
            THERE[4]) and int.from_bytes(outer, "big") % 0xffff == 0
        return None if right else "the header outside is wrong"
    right = (int.from_bytes(outer[:2], "big") >> 4, outer[4:8], outer[8:24], outer[24:]) == (
        0x600 | traffic, length.to_bytes(2, "big") + bytes([4 if four else 41, 64]), HERE[6], THERE[6])
    return None if version == 6 and right else "the header outside is wrong"


def decapsulator() -> Decapsulator:
    return Decapsulator(addresses=["10.0.0.7", "fd00::7"], senders=["10.0.0.250/32", "fd00::fa/128"],
                        destinations=[f"{VIP4}/32", f"{VIP6}/128"])


def arriving() -> Iterator[Arrival]:
    """Tunnels of every kind, and what passes beside them."""
    there = ethernet(dst=BACKEND, src=OWN)
    inside = {4: ipv4(src=CLIENT4, dst=VIP4) / udp(src=4, dst=80) / b"ask",
              6: ipv6(src=CLIENT6, dst=VIP6) / tcp(src=4, dst=80) / b"ask"}
    for version, number in ((4, 4), (6, 41)):
        yield Arrival(bytes(there / ipv4(src="10.0.0.250", dst="10.0.0.7", proto=number) / inside[version]), 0)
        outside = ipv6(src="fd00::fa", dst="fd00::7", next=number)
        yield Arrival(bytes(there / outside / inside[version]), 0)
        outside = ipv6(src="fd00::fa", dst="fd00::7", next=60)
        yield Arrival(bytes(there / outside / destination(next=number, options=b"\4\1\4\1\1\0") / inside[version]), 0)
        outside = ipv6(src="fd00::fa", dst="fd00::7")
        yield Arrival(bytes(there / outside / fragment(next=number, more=1) / inside[version]), 0)
        yield Arrival(bytes(there / inside[version]), 0)
    yield Arrival(bytes(there / arp(sender_ip="10.0.0.1", target_ip="10.0.0.7")), 0)


def blank(data: bytes) -> bytes:
    """A packet without its ECN, and the checksum over that."""
    if data[0] >> 4 == 4:
        return data[:1] + bytes([data[1] & 0xfc]) + data[2:10] + data[12:]
    return data[:1] + bytes([data[1] & 0xcf]) + data[2:]


def unwrapping() -> Judge:
    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if verdict.kind != FORWARD_KIND or verdict.argument == arrival.port:
            return "it should go to the other side"
        if arrival.port == 1:
            return None if frame == arrival.frame else "an answer was altered"
        given, at = read(arrival.frame), 14
        if arrival.frame[12:14] in (b"\x81\0", b"\x88\xa8") and len(arrival.frame) >= 18:
            at = 18
        version, ours = arrival.frame[at] >> 4 if len(arrival.frame) > at else 0, set(THERE.values())
        if frame == arrival.frame:
            bare = given.type in KINDS.values() and not given.fault and given.protocol in (4, 41) and at == (
                14 + 4 * len(given.tags)) and given.addresses[1] in ours and not given.offset
            return "it is still wrapped" if bare and (version == 4 or arrival.frame[at + 6] in (4, 41)) else None
        if given.fault:
            return f"it was altered, and should not have passed: {given.fault}"
        if given.addresses != (HERE[version], THERE[version]) or given.protocol not in (4, 41):
            return "nobody may send that"
        inside, left = given.transport, frame[at:]
        if frame[:at - 2] != arrival.frame[:at - 2]:
            return "its frame was altered"
        kind = 4 if given.protocol == 4 else 6
        if int.from_bytes(frame[at - 2:at], "big") != KINDS[kind] or inside[0] >> 4 != kind:
            return "it is not what it says"
        if (left[16:20] if kind == 4 else left[24:40]) not in VIPS:
            return "it is for a stranger"
        return None if blank(left[:len(inside)]) == blank(inside) else "what is inside was altered"
    return judge


SUBJECTS = {
    "tunnels": Subject(balancer, [*tunnelling(), *stock("tunnels", 2, count=20)], [
        *asking("245.165.90.165", "f5a5:5a5a::a5a5", 0xa5a5), *asking()], list(asking(
            "245.165.90.165", "f5a5:5a5a::a5a5", 0xa5a5)), judge=wrapping),
    "decapsulator": Subject(decapsulator, [*arriving(), *stock("decapsulator", 2, count=20)], list(arriving())[:3],
                            list(arriving())[:3], judge=unwrapping),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_comes_of_it(name: str, tmp_path_factory: pytest.TempPathFactory, nightly: bool) -> None:
    tally = examine(SUBJECTS[name], MILLION if nightly else SOME, Cache(tmp_path_factory.mktemp("images")))
    assert tally.total() == (MILLION if nightly else SOME)
    passed = sum(count for verdict, count in tally.items() if not verdict.startswith("drop"))
    assert 0 < passed < tally.total(), f"nothing was tried that could go either way: {tally}"
