"""A million spoiled frames for each function that switches or filters, with --nightly; some thousands else.

Each function is asked in a configuration that lets something pass, and judged by what stands here: an observer who
reads frames by itself and knows the configuration, not the code.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.acl import Acl
from iovisor.functions.balancer import Balancer
from iovisor.functions.bridge import Bridge
from iovisor.functions.firewall import Firewall
from iovisor.functions.guard import Guard
from iovisor.functions.snooper import Snooper
from iovisor.functions.switch import Switch
from iovisor.language import Function, Verdict, forward
from iovisor.language.verdicts import FORWARD_KIND, PUNT_KIND
from iovisor.testing import Arrival
from iovisor.testing.bulk import valid
from iovisor.testing.packets import arp, ethernet, fragment, hop_by_hop, icmp, icmp6, ipv4, ipv6, tcp, udp, vlan
from tests.agreement.malformed import Judge, Reading, Subject, examine, read, unaltered

SOME, MILLION = 6_000, 1_000_000
IP = (0x0800, 0x86dd)
ONE, TWO = "06:5a:5a:5a:5a:01", "06:a5:a5:a5:a5:02"            # who talks all the while: far from any other address
OFFICE: dict[int, dict[str, Any]] = {
    0: {"access": 10}, 1: {"access": 20}, 2: {"trunk": [10, 20], "native": 1}, 3: {"trunk": [10]}}


def stock(seed: str, ports: int, entries: tuple[str, ...] = ("ingress",), count: int = 150) -> list[Arrival]:
    """Proper frames of all kinds."""
    random = Random(seed)
    return [Arrival(frame, random.randrange(ports), random.choice(entries))
            for frame in (bytes(valid(random)) for _ in range(count)) if len(frame) <= 1600]


# -- switches ---------------------------------------------------------------------------------------------------------


def talk(first: int, second: int) -> list[Arrival]:
    """Two stations that know each other, and then are known."""
    return [Arrival(bytes(ethernet(dst=TWO, src=ONE) / bytes(46)), first),
            Arrival(bytes(ethernet(dst=ONE, src=TWO) / bytes(46)), second)]


def known(arrival: Arrival, verdict: Verdict) -> str | None:
    """The pair that talks: each is where it is, whatever else came."""
    pair = {bytes(ethernet(dst=TWO, src=ONE))[:12]: 1, bytes(ethernet(dst=ONE, src=TWO))[:12]: 0}
    if arrival.entry == "ingress" and arrival.frame[:12] in pair and verdict.kind != FORWARD_KIND:
        return "who talks is unknown"
    return None


def switching() -> Judge:
    met = [0]

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        met[0] += 1
        if arrival.entry == "ingress" and frame[:5] == b"\x01\x80\xc2\0\0" and frame[5] < 16:
            return "no bridge relays that address"
        if arrival.entry == "ingress" and verdict.kind == FORWARD_KIND and verdict.argument == arrival.port:
            return "it goes back where it came from"
        return unaltered(arrival, verdict, frame) or (known(arrival, verdict) if met[0] > 1 else None)
    return judge


def vlans() -> Judge:
    access, native = {0: 10, 1: 20}, {2: 1}
    listed = {0: {10}, 1: {20}, 2: {1, 10, 20}, 3: {10}}

    def bare(data: bytes) -> bytes:
        return data[:12] + data[16:] if data[12:14] == b"\x81\0" and len(data) >= 18 else data

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if arrival.frame[12:14] == b"\x88\xa8" and len(arrival.frame) >= 18:
            # Nothing that came in is so when it leaves.
            return "a service tag has no business here" if arrival.entry == "ingress" else None
        if bare(frame) != bare(arrival.frame):
            return "more than the outer tag was altered"
        came, left = read(arrival.frame), read(frame)
        vid = came.tags[0] & 0xfff if came.tags and len(arrival.frame) >= 18 else 0
        now = left.tags[0] & 0xfff if left.tags and len(frame) >= 18 else 0
        if arrival.entry == "egress":
            return None if vid in listed[arrival.port] and (now or vid in (access.get(arrival.port),
                                                                           native.get(arrival.port))) else "a stranger"
        if vid == 0:
            vid = access.get(arrival.port) or native.get(arrival.port) or 0
        elif arrival.port in access:
            return "an access port takes no tags"
        return None if vid in listed[arrival.port] and now == vid else f"it was of VLAN {vid}, and is of {now}"
    return judge


def bridging() -> Judge:
    ordinary = switching()

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if verdict.kind == PUNT_KIND:
            return None if frame[:6] == b"\x01\x80\xc2\0\0\0" else "only messages of bridges are for the tree"
        return ordinary(arrival, verdict, frame)
    return judge


ENDPOINTS = [{"mac": "02:00:00:00:00:02", "addresses": ["10.0.0.2", "2001:db8::2"]}]
PROVIDER: dict[int, dict[str, Any]] = {0: {"access": 10}, 1: {"access": 10}, 2: {"trunk": [10, 20]}, 3: {"access": 20}}


def multicast() -> Iterator[Arrival]:
    """Groups, who wants them, and questions for an endpoint."""
    link, link6 = ethernet(dst="01:00:5e:01:02:03", src=ONE), ethernet(dst="33:33:00:00:00:42", src=ONE)
    parts: list[Any] = [
        link / ipv4(src="10.0.0.1", dst="239.1.2.3") / udp(src=1, dst=2) / bytes(20),
        link / ipv4(src="10.0.0.1", dst="224.0.0.22", proto=2, ttl=1) / b"\x22\0\0\0\0\0\0\0",
        link / ipv4(src="10.0.0.1", dst="224.0.0.1", proto=2, ttl=1) / b"\x11\x64\xee\x9b\0\0\0\0",
        link6 / ipv6(src="fe80::1", dst="ff15::42") / udp(src=1, dst=2) / bytes(20),
        link6 / ipv6(src="fe80::1", dst="ff02::16", hops=1) / hop_by_hop(options=b"\5\2\0\0\1\0")
        / icmp6(type=143) / bytes(4),
        ethernet(dst="ff:ff:ff:ff:ff:ff", src=ONE) / arp(sender_mac=ONE, sender_ip="10.0.0.1", target_ip="10.0.0.2"),
        ethernet(dst="33:33:ff:00:00:02", src=ONE) / ipv6(src="2001:db8::1", dst="ff02::1:ff00:2", hops=255)
        / icmp6(type=135) / bytes.fromhex("20010db8" + 23 * "0" + "2" + "0101") / bytes(6)]
    for frame in parts:
        yield from (Arrival(bytes(frame), port) for port in range(4))


def snooping() -> Judge:
    """As a switch; but a question about the endpoint may become the answer, and goes back."""
    ordinary = switching()

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if (arrival.entry == "ingress" and verdict == forward(arrival.port)
                and frame[6:12] == bytes.fromhex("020000000002")):
            asked, told = read(arrival.frame), read(frame)
            at = 14 + 4 * len(told.tags)
            if told.type == 0x0806 and (arrival.frame[at + 6:at + 8], frame[at + 6:at + 8]) == (b"\0\1", b"\0\2"):
                return None if frame[at + 14:at + 18] == b"\x0a\0\0\2" else "it answers for somebody else"
            if told.type == 0x86dd and told.transport[:1] == b"\x88" and asked.transport[:1] == b"\x87":
                right = told.transport[8:24] == asked.transport[8:24] == OWN_6[:-1] + b"\2"
                return None if right else "nobody asked that"
        return ordinary(arrival, verdict, frame)
    return judge


def providing() -> Judge:
    """A customer's frame is within the provider's tag, and comes out as it went in."""
    access, listed = {0: 10, 1: 10, 3: 20}, {0: {10}, 1: {10}, 2: {10, 20}, 3: {20}}

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        data, port = arrival.frame, arrival.port
        service = int.from_bytes(data[14:16], "big") & 0xfff if data[12:14] == b"\x88\xa8" and len(data) >= 18 else 0
        if arrival.entry == "egress":
            if service not in listed[port]:
                # Nothing that came in is so when it leaves.
                return None if service == 0 or data[12:14] != b"\x88\xa8" else "of no VLAN of its port"
            return None if frame == (data[:12] + data[16:] if port in access else data) else "it was altered"
        if port in access:
            if service or (data[12:14] == b"\x88\xa8" and len(data) >= 18):
                return "customers have no service tags"
            inside = frame[:12] + frame[16:]
            return None if (inside, frame[12:14], int.from_bytes(frame[14:16], "big") & 0xfff) == (
                data, b"\x88\xa8", access[port]) else "not what came, within its tag"
        return None if frame == data and service in listed[port] else "of no VLAN of its port"
    return judge


def counted(function: Function, count: int) -> str | None:
    """Every frame is received or sent, or dropped on its way out."""
    received, sent = (sum(found.packets for _, found in getattr(function, name).items()) for name in
                      ("received", "sent"))
    return None if received <= count and sent <= count and received + sent <= count else \
        f"{count} frames came, {received} are counted as received and {sent} as sent"


# -- filters ----------------------------------------------------------------------------------------------------------


def proper(found: Reading) -> str | None:
    """What no filter passes, whatever its rules."""
    if len(found.tags) > 2:
        return "too many tags"
    return found.fault or None


def web() -> Iterator[Arrival]:
    """What the rules of `Acl` below are about."""
    link = ethernet(dst=TWO, src=ONE)
    for port in (0, 1):
        for ip in (ipv4(src="10.0.0.7", dst="192.0.2.1"), ipv4(src="192.0.2.1", dst="10.0.0.7"),
                   ipv6(src="2001:db8::7", dst="2001:db8:1::1"), ipv6(src="2001:db8:1::1", dst="2001:db8::7")):
            for upper in (udp(src=4000, dst=53), udp(src=53, dst=4000), tcp(src=4000, dst=80, flags=2), icmp(),
                          icmp6()):
                yield Arrival(bytes(link / ip / upper / bytes(26)), port)
        ip, ip6 = ipv4(src="10.0.0.7", dst="192.0.2.1"), ipv6(src="2001:db8::7", dst="2001:db8:1::1")
        later: dict[str, Any] = {"src": "10.0.0.7", "dst": "192.0.2.1", "offset": 6, "proto": 17}
        for parts in (link / vlan(vid=7) / ip / udp(dst=53, src=1) / bytes(9),
                      link / arp(sender_ip="10.0.0.7", target_ip="10.0.0.1"),
                      link / ipv6(src="2001:db8::7", dst="2001:db8::1", hops=255) / icmp6(type=135) / bytes(16),
                      link / ipv4(src="10.0.0.7", dst="192.0.2.1", mf=1) / udp(src=9, dst=53) / bytes(40),
                      link / ipv4(**later) / bytes(40),
                      link / ip6 / fragment(more=1, id=9) / udp(src=9, dst=53) / bytes(40)):
            yield Arrival(bytes(parts), port)


ACL: list[dict[str, Any]] = [
    {"action": "accept", "source": "10.0.0.0/24", "protocol": "udp", "destination_ports": 53},
    {"action": "accept", "source": "2001:db8::/48", "protocol": "udp", "destination_ports": 53}]


def listing() -> Judge:
    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        found = read(frame)
        if wrong := unaltered(arrival, verdict, frame) or proper(found):
            return wrong
        if found.type == 0x0806 or is_discovery(found):
            return None
        if found.type not in IP:
            return "it is neither IP nor ARP"
        source = found.addresses[0]
        if source[:3] != b"\x0a\0\0" and source[:6] != bytes.fromhex("20010db80000"):
            return "no rule allows this source"
        if found.protocol != 17 or (not found.offset and (found.ports[1] != 53 or len(found.transport) < 8)):
            return "no rule allows this"
        return None
    return judge


def is_discovery(found: Reading) -> bool:
    return (found.type, found.protocol, found.offset) == (0x86dd, 58, 0) and \
        133 <= (found.transport or b"\0")[0] <= 137


def conversations() -> Iterator[Arrival]:
    """Some flows, as they went out and came in."""
    link = ethernet(dst=TWO, src=ONE)
    for number, (here, there) in enumerate([
            (ipv4(src="10.0.0.1", dst="192.0.2.2"), ipv4(src="192.0.2.2", dst="10.0.0.1")),
            (ipv6(src="2001:db8::1", dst="2001:db8:1::2"), ipv6(src="2001:db8:1::2", dst="2001:db8::1"))]):
        echo, reply = (icmp(type=8, rest=7 << 16), icmp(type=0, rest=7 << 16)) if number == 0 else \
            (icmp6(type=128, rest=7 << 16), icmp6(type=129, rest=7 << 16))
        yield from (Arrival(bytes(link / ip / upper), port) for port, ip, upper in (
            (0, here, udp(src=5000, dst=53) / b"ask"), (1, there, udp(src=53, dst=5000) / b"answer"),
            (0, here, tcp(src=4000, dst=80, flags=2, sequence=100, window=1000, options=b"\1\3\3\7")),
            (1, there, tcp(src=80, dst=4000, flags=18, sequence=500, acknowledgment=101, window=1000,
                           options=b"\1\3\3\7")),
            (0, here, tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000)),
            (0, here, tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000) / bytes(20)),
            (0, here, echo / bytes(20)), (1, there, reply / bytes(20))))
    ends: dict[str, Any] = {"src": "10.0.0.1", "dst": "192.0.2.2", "id": 5}
    yield Arrival(bytes(link / ipv4(mf=1, **ends) / udp(src=5000, dst=53) / bytes(24)), 0)
    yield Arrival(bytes(link / ipv4(offset=4, proto=17, **ends) / bytes(24)), 0)


def steady() -> list[Arrival]:
    """A connection nobody else has anything to do with."""
    link, here, there = ethernet(dst=TWO, src=ONE), ipv4(src="245.165.90.165", dst="202.53.172.83"), \
        ipv4(src="202.53.172.83", dst="245.165.90.165")
    return [Arrival(bytes(link / here / udp(src=0xa5a5, dst=0x5a5a) / b"still"), 0),
            Arrival(bytes(link / there / udp(src=0x5a5a, dst=0xa5a5) / b"there"), 1)]


def stateful() -> Judge:
    """What comes in has been asked for by what went out, as far as addresses and protocol tell."""
    asked: set[tuple[bytes, bytes]] = set()

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        found = read(frame)
        if wrong := unaltered(arrival, verdict, frame) or proper(found):
            return wrong
        if found.type == 0x0806 or (is_discovery(found) and frame[14 + 4 * len(found.tags) + 7] == 255):
            return None
        if found.type not in IP:
            return "it is neither IP nor ARP"
        if found.protocol == 6 and not found.offset:
            flags = found.transport[13] & 0x3f if len(found.transport) >= 20 else 0
            if len(found.transport) < 20 or flags & 3 == 3 or flags & 6 == 6 or not flags & 0x16:
                return "no end sends such a segment"
        source, target = found.addresses
        if arrival.port == 0:
            asked.add((source, target))
            return None
        error = not found.offset and (found.protocol, found.transport[0]) in (
            {(1, 3), (1, 11), (1, 12)} | {(58, kind) for kind in (1, 2, 3, 4)}) if found.transport else False
        if error:
            quoted = found.transport[8:]
            pair = (quoted[12:16], quoted[16:20]) if found.type == 0x0800 else (quoted[8:24], quoted[24:40])
            return None if pair in asked and pair[0] == target else "an error about nothing that went out"
        return None if (target, source) in asked else "nobody asked for it"
    return judge


REFUSING: list[dict[str, Any]] = [
    {"action": "reject", "protocol": "tcp", "destination_ports": 80, "log": True},
    {"action": "reject", "protocol": "udp", "destination_ports": 53}, {"action": "reject", "protocol": "icmp"},
    {"action": "reject", "protocol": "icmp6"}, {"action": "accept", "direction": "out"}]


def summed(data: bytes) -> int:
    """The ones' complement sum; 0xffff if the checksum within is right."""
    total = sum(int.from_bytes((data + b"\0")[at:at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def refusing() -> Judge:
    """What goes back is an answer to its sender, right in every checksum; the rest is as `stateful` says."""
    ordinary = stateful()

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if verdict != forward(arrival.port):
            return ordinary(arrival, verdict, frame)
        asked, told = read(arrival.frame), read(frame)
        if asked.fault or told.fault or len(asked.tags) > 1 or asked.tags != told.tags:
            return "an answer to, or of, what contradicts itself"
        if (told.destination, told.source, told.addresses) != (asked.source, asked.destination, asked.addresses[::-1]):
            return "an answer to somebody else"
        if asked.destination[0] & 1 or asked.offset:
            return "what is for many, or a later fragment, is not answered"
        at, four = 14 + 4 * len(told.tags), told.type == 0x0800
        if four and summed(frame[at:at + 20]) != 0xffff:
            return "its header's checksum is wrong"
        ends, size = b"".join(told.addresses), len(told.transport).to_bytes(4, "big")
        pseudo = b"" if told.protocol == 1 else ends + size + bytes([0, 0, 0, told.protocol])
        if summed(pseudo + told.transport) != 0xffff:
            return "its checksum is wrong"
        if asked.protocol == 6:
            reset = len(told.transport) == 20 and told.transport[13] & 4 and not asked.transport[13] & 4
            return None if told.protocol == 6 and reset and told.ports == asked.ports[::-1] else "no reset"
        quoted = arrival.frame[14 + 4 * len(asked.tags):]
        if told.transport[:2] != (b"\3\x0d" if four else b"\1\1") or not quoted.startswith(told.transport[8:]):
            return "no error about what came"
        return "an error about an error" if is_error(asked) else None
    return judge


def is_error(found: Reading) -> bool:
    kind = found.transport[0]
    return (found.protocol, kind) in {(1, 3), (1, 4), (1, 5), (1, 11), (1, 12)} or (
        found.type == 0x86dd and found.protocol == 58 and kind < 128)


STATIONS: list[dict[str, Any]] = [
    {"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1", "10.0.1.0/24", "2001:db8::1", "2001:db8:1::/64"]}]
OWN_MAC = bytes.fromhex("020000000001")
OWN_6, OWN_LINK = bytes.fromhex("20010db8" + 22 * "0" + "01"), bytes.fromhex("fe80000000000000000000fffe000001")


def guarded() -> Judge:
    def own(address: bytes) -> bool:
        if len(address) == 4:
            return address == b"\x0a\0\0\x01" or address[:3] == b"\x0a\0\x01"
        return address in (OWN_6, OWN_LINK) or address[:8] == bytes.fromhex("20010db800010000")

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if frame != arrival.frame:
            return "it was altered"
        if arrival.port == 1:
            return None
        found = read(frame)
        if found.source != OWN_MAC or found.tags:
            return "it is not of the station, or tagged"
        if found.type == 0x0806:
            sender = frame[28:32]
            return None if frame[22:28] == OWN_MAC and (own(sender) or not any(sender)) else "ARP for another"
        if found.type not in IP:
            return "it is neither IP nor ARP"
        if found.fault:
            return found.fault
        source, upper = found.addresses[0], found.transport
        nobody = not any(source)
        if not own(source) and not nobody:
            return "another's address"
        if found.offset:
            return None
        if found.protocol == 17 and found.ports[0] in ((67,) if len(source) == 4 else (547,)):
            return "a rogue DHCP server"
        if found.protocol == 58 and len(source) == 16 and upper:
            if upper[0] in (134, 137):
                return "a rogue router"
            if upper[0] == 136 and not own(upper[8:24]):
                return "it tells another's address"
        if nobody and not (found.protocol == 17 and found.ports == (68, 67)) and not (
                found.protocol == 58 and upper and upper[0] in (133, 135, 143)):
            return "nobody may say that"
        return None
    return judge


def endpoint() -> Iterator[Arrival]:
    """What the station behind the guard says, and some things it should not."""
    link = ethernet(dst=TWO, src="02:00:00:00:00:01")
    for ip in (ipv4(src="10.0.0.1", dst="192.0.2.1"), ipv4(src="10.0.1.9", dst="192.0.2.1"),
               ipv4(src=0, dst=0xffffffff)):
        for upper in (udp(src=68, dst=67), udp(src=4000, dst=53), tcp(src=4000, dst=80), icmp()):
            yield Arrival(bytes(link / ip / upper / bytes(30)), 0)
    for ip in (ipv6(src="2001:db8::1", dst="ff02::1", hops=255), ipv6(src=0, dst="ff02::1", hops=255),
               ipv6(src="fe80::ff:fe00:1", dst="ff02::1", hops=255)):
        told = b"\2\1" + OWN_MAC
        for kind, body in ((133, b""), (135, bytes(16)), (136, OWN_6 + told), (143, bytes(4)), (128, bytes(8)),
                           (134, bytes(8))):
            yield Arrival(bytes(link / ip / icmp6(type=kind) / body), 0)
    for operation in (1, 2):
        yield Arrival(bytes(link / arp(operation=operation, sender_mac="02:00:00:00:00:01", sender_ip="10.0.0.1",
                                       target_ip="10.0.0.2")), 0)


# -- the balancer -----------------------------------------------------------------------------------------------------

BALANCER, VIP = "02:00:00:00:0f:01", {4: "198.51.100.1", 6: "2001:db8:f::1"}
BACKEND, BACKEND_AT = {4: "10.0.0.7", 6: "fd00::7"}, "02:00:00:00:00:07"


def balancer() -> Balancer:
    return Balancer(mac=BALANCER, addresses=["10.0.0.250/24", "fd00::fa/64"], slots=256, recent=64, most_vips=8,
                    most_backends=16, sessions=64, vips=[
        {"address": VIP[version], "port": 80, "protocol": protocol,
         "backends": [{"address": BACKEND[version], "port": 8080, "mac": BACKEND_AT}]}
        for version in (4, 6) for protocol in ("tcp", "udp")])


def served(client4: str, client6: str, port: int) -> Iterator[Arrival]:
    """A client's flows by both families, questions and answers."""
    there, back = ethernet(dst=BALANCER, src=ONE), ethernet(dst=ONE, src=BACKEND_AT)
    for version, ip, client in ((4, ipv4, client4), (6, ipv6, client6)):
        to, of = ip(src=client, dst=VIP[version]), ip(src=BACKEND[version], dst=client)
        yield from (Arrival(bytes(link / network / upper), arrives) for arrives, link, network, upper in (
            (0, there, to, udp(src=port, dst=80) / b"ask"), (1, back, of, udp(src=8080, dst=port) / b"answer"),
            (0, there, to, tcp(src=port, dst=80, flags=2, sequence=100, window=1000)),
            (1, back, of, tcp(src=8080, dst=port, flags=18, sequence=500, acknowledgment=101, window=1000)),
            (0, there, to, tcp(src=port, dst=80, sequence=101, acknowledgment=501, window=1000) / bytes(20))))


def balancing() -> Iterator[Arrival]:
    """What concerns the balancer beside: errors, echo, fragments, questions for addresses."""
    yield from served("192.0.2.1", "2001:db8:c::1", 4000)
    there, back = ethernet(dst=BALANCER, src=ONE), ethernet(dst=ONE, src=BACKEND_AT)
    answer4 = bytes(ipv4(src=VIP[4], dst="192.0.2.1") / udp(src=80, dst=4000) / b"answer")
    ask4 = bytes(ipv4(src="192.0.2.1", dst=BACKEND[4]) / tcp(src=4000, dst=8080) / b"ask")
    answer6 = bytes(ipv6(src=VIP[6], dst="2001:db8:c::1") / tcp(src=80, dst=4000) / b"answer")
    ends: dict[str, Any] = {"src": "192.0.2.1", "dst": VIP[4], "id": 5}
    yield from (Arrival(bytes(parts), port) for port, parts in (
        (0, there / ipv4(src="192.0.2.9", dst=VIP[4]) / icmp(type=3, code=4, rest=1300) / answer4),
        (1, back / ipv4(src=BACKEND[4], dst="192.0.2.1") / icmp(type=3, code=3) / ask4),
        (0, there / ipv6(src="2001:db8:c::9", dst=VIP[6]) / icmp6(type=2, rest=1300) / answer6),
        (0, there / ipv4(src="192.0.2.1", dst=VIP[4]) / icmp(type=8, rest=7) / b"ping"),
        (0, there / ipv6(src="2001:db8:c::1", dst=VIP[6]) / icmp6(type=128, rest=7) / b"ping"),
        (0, there / ipv4(mf=1, **ends) / udp(src=4000, dst=80) / bytes(24)),
        (0, there / ipv4(offset=4, proto=17, **ends) / bytes(24)),
        (0, ethernet(dst="ff:ff:ff:ff:ff:ff", src=ONE) / arp(sender_mac=ONE, sender_ip="192.0.2.1", target_ip=VIP[4])),
        (0, ethernet(dst="33:33:ff:00:00:01", src=ONE) / ipv6(src="fe80::1", dst="ff02::1:ff00:1", hops=255)
         / icmp6(type=135) / (bytes.fromhex("20010db8000f") + bytes(9) + b"\1\1\1" + bytes(6)))))


def balanced() -> Judge:
    """What is changed is for a backend, from a VIP, or an answer to who asked; and only as much of it as that takes."""
    own, backend = (bytes.fromhex(text.replace(":", "")) for text in (BALANCER, BACKEND_AT))
    vips = {ipaddress.ip_address(text).packed for text in VIP.values()}
    backends = {ipaddress.ip_address(text).packed for text in BACKEND.values()}

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        given, found = read(arrival.frame), read(frame)
        if verdict.kind != FORWARD_KIND:
            return None if frame == arrival.frame else "it was altered, and handed to Python"
        if frame == arrival.frame:
            return "it is for the balancer" if given.destination == own and given.tags == [] else None
        if given.fault:
            return f"it was altered, and should not have passed: {given.fault}"
        if verdict.argument == arrival.port and arrival.port == 0:
            at = 22 + 4 * len(given.tags)
            asker = arrival.frame[at:at + 6] if given.type == 0x0806 else given.source
            return None if (found.destination, found.source) == (asker, own) else "no answer to who asked"
        if len(frame) != len(arrival.frame):
            return "it is longer or shorter"
        if verdict.argument == 1 and (found.addresses[1] not in backends or found.destination != backend) \
                and not (arrival.port == 1 and found.source == own):
            return "it is for no backend"
        if verdict.argument == 0 and found.addresses[0] not in vips:
            return "it is from no VIP"
        if given.protocol in (6, 17) and not given.offset:
            behind = 20 if given.protocol == 6 else 8
            return None if found.transport[behind:] == given.transport[behind:] else "its data was altered"
        return None
    return judge


BOTH = ("ingress", "egress")
PASSING = [Arrival(bytes(ethernet(dst=TWO, src="02:00:00:00:00:01") / ipv4(src="10.0.0.1", dst="192.0.2.1")
                         / udp(src=4000, dst=53) / b"hello"), 0)]
NAMED = [Arrival(bytes(ethernet(dst=TWO, src=ONE) / ipv4(src="10.0.0.7", dst="192.0.2.1") / udp(src=4000, dst=53)
                       / b"hello"), 0)]
SUBJECTS: dict[str, Subject] = {
    "switch": Subject(lambda: Switch(stations=64, quota=16), stock("switch", 4, BOTH), talk(0, 1), talk(0, 1), BOTH,
                      switching, counted),
    "vlans": Subject(lambda: Switch(vlans=True, ports=OFFICE), stock("vlans", 4, BOTH), talk(0, 2), talk(0, 2), BOTH,
                     vlans, counted),
    "bridge": Subject(lambda: Bridge(address="02:00:00:00:00:fe", tree={3: {"edge": True}}), stock("bridge", 4, BOTH),
                      talk(0, 1), talk(0, 1), BOTH, bridging, counted),
    "snooper": Subject(lambda: Snooper(endpoints=ENDPOINTS, router_ports=[3], unregistered="routers"),
                       [*stock("snooper", 4, BOTH), *multicast()], talk(0, 1), talk(0, 1), BOTH, snooping, counted),
    "provider": Subject(lambda: Switch(vlans=True, service=True, ports=PROVIDER), stock("provider", 4, BOTH),
                        talk(0, 1), talk(0, 1), BOTH, providing, counted),
    "guard": Subject(lambda: Guard(stations=STATIONS), [*endpoint(), *stock("guard", 2)], PASSING, PASSING,
                     judge=guarded),
    "acl": Subject(lambda: Acl(rules=ACL), [*web(), *stock("acl", 2, count=20)], NAMED, NAMED, judge=listing),
    "firewall": Subject(lambda: Firewall(rules=[{"action": "accept", "direction": "out"}]),
                        [*conversations(), *stock("firewall", 2, count=20)], [*steady(), *conversations()], steady(),
                        judge=stateful, targets=("tc", "native", "python")),
    "balancer": Subject(balancer, [*balancing(), *stock("balancer", 2, count=20)], [
        *served("245.165.90.165", "f5a5:5a5a::a5a5", 0xa5a5), *balancing()], list(served(
            "245.165.90.165", "f5a5:5a5a::a5a5", 0xa5a5)), judge=balanced),
    "refusing": Subject(lambda: Firewall(rules=REFUSING, rejections=0xffff),
                        [*conversations(), *stock("refusing", 2, count=20)], steady(), steady(), judge=refusing,
                        targets=("tc", "native", "python")),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_comes_of_it(name: str, images: Cache, nightly: bool) -> None:
    tally = examine(SUBJECTS[name], MILLION if nightly else SOME, images)
    assert tally.total() == (MILLION if nightly else SOME)
    passed = sum(count for verdict, count in tally.items() if not verdict.startswith("drop"))
    assert 0 < passed < tally.total(), f"nothing was tried that could go either way: {tally}"
