"""A million spoiled frames for nat, with --nightly; some thousands else.

The judge knows the configuration and reads frames by slices and numbers.  What leaves is the packet that came, other
addresses, ports and checksums aside; whether those are right is asked of sums: a change of addresses that mends its
checksums leaves every sum as it was, right or wrong.  Nothing leaves under an inside address, and what comes in was
asked for.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nat import Nat
from iovisor.language import Verdict
from iovisor.language.verdicts import FORWARD_KIND, PUNT_KIND
from iovisor.testing import Arrival
from iovisor.testing.bulk import valid
from iovisor.testing.packets import ethernet, fragment, icmp, icmp6, ipv4, ipv6, tcp, udp
from tests.agreement.malformed import Judge, Reading, Subject, examine, read

SOME, MILLION = 6_000, 1_000_000
ONE, TWO = "06:5a:5a:5a:5a:01", "06:a5:a5:a5:a5:02"
OURS, OURS6 = "203.0.113.1", "2001:db8:2::1"
SHOWN = {ip_address(OURS).packed, ip_address(OURS6).packed}
SERVER = ip_address("10.0.0.80").packed
STATIC = [{"outside": OURS, "inside": "10.0.0.80", "protocol": "tcp", "outside_ports": 8080, "inside_ports": 80}]


def conversations() -> Iterator[Arrival]:
    """Some flows, as they go out and come in, errors about them among them."""
    link = ethernet(dst=TWO, src=ONE)
    for six in (False, True):
        here, seen = (ipv6(src="fd00::1", dst="2001:db8:1::2"), ipv6(src=OURS6, dst="2001:db8:1::2")) if six else \
            (ipv4(src="10.0.0.1", dst="192.0.2.2"), ipv4(src=OURS, dst="192.0.2.2"))
        there = ipv6(src="2001:db8:1::2", dst=OURS6) if six else ipv4(src="192.0.2.2", dst=OURS)
        inner = ipv6(src="2001:db8:1::2", dst="fd00::1") if six else ipv4(src="192.0.2.2", dst="10.0.0.1")
        echo, reply = (icmp6(type=128, rest=7 << 16), icmp6(type=129, rest=7 << 16)) if six else \
            (icmp(type=8, rest=7 << 16), icmp(type=0, rest=7 << 16))
        error = icmp6(type=1, code=4) if six else icmp(type=3, code=3)
        ask, answer = udp(src=5000, dst=53) / b"ask", udp(src=53, dst=5000) / b"answer"
        segment = tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000) / bytes(20)
        yield from (Arrival(bytes(link / ip / upper), port) for port, ip, upper in (
            (0, here, ask), (1, there, answer),
            (0, here, tcp(src=4000, dst=80, flags=2, sequence=100, window=1000, options=b"\1\3\3\7")),
            (1, there, tcp(src=80, dst=4000, flags=18, sequence=500, acknowledgment=101, window=1000,
                           options=b"\1\3\3\7")),
            (0, here, tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000)), (0, here, segment),
            (0, here, echo / bytes(20)), (1, there, reply / bytes(20)),
            (1, there, error / bytes(seen / ask)), (1, there, error / bytes(seen / segment)),
            (1, there, error / bytes(seen / echo / bytes(20))), (0, here, error / bytes(inner / answer))))
    yield Arrival(bytes(link / ipv4(src="192.0.2.9", dst=OURS) / tcp(src=9, dst=8080, flags=2)), 1)
    yield Arrival(bytes(link / ipv4(src="10.0.0.1", dst=OURS) / tcp(src=9, dst=8080, flags=2)), 0)
    ends: dict[str, Any] = {"src": "10.0.0.1", "dst": "192.0.2.2"}
    yield Arrival(bytes(link / ipv4(mf=1, id=5, **ends) / udp(src=5000, dst=53) / bytes(24)), 0)
    yield Arrival(bytes(link / ipv4(offset=4, id=5, proto=17, **ends) / bytes(24)), 0)
    yield Arrival(bytes(link / ipv6(src="fd00::1", dst="2001:db8:1::2") / fragment(more=1, id=9)
                        / udp(src=9, dst=53) / bytes(40)), 0)


def stock() -> list[Arrival]:
    random = Random("nat")
    frames = [bytes(valid(random)) for _ in range(40)]
    return [Arrival(frame, port) for frame in frames for port in (0, 1) if len(frame) < 3_000]


def steady() -> list[Arrival]:
    """A connection nobody else has anything to do with."""
    link = ethernet(dst=TWO, src=ONE)
    return [Arrival(bytes(link / ipv4(src="10.165.90.165", dst="202.53.172.83") / udp(src=0xa5a5, dst=0x5a5a)
                          / b"still"), 0),
            Arrival(bytes(link / ipv4(src="202.53.172.83", dst=OURS) / udp(src=0x5a5a, dst=0xa5a5) / b"there"), 1)]


def total(data: bytes) -> int:
    """A sum of words, as far as checksums tell sums apart."""
    return int.from_bytes(data + bytes(len(data) & 1), "big") % 0xffff


def sums(found: Reading, frame: bytes, came: Reading) -> list[int]:
    """Every sum that translation leaves alone."""
    result = []
    if found.type == 0x0800:
        result.append(total(frame[14:14 + 4 * (frame[14] & 15)]))
    if came.offset:
        return result
    if found.protocol == 1:
        result.append(total(found.transport))
    elif found.protocol in (6, 58) or (found.protocol == 17 and came.transport[6:8] != b"\0\0"):
        result.append(total(b"".join(found.addresses) + found.transport))
    return result


def is_error(found: Reading) -> bool:
    return not found.offset and bool(found.transport) and (found.protocol, found.transport[0]) in (
        {(1, 3), (1, 11), (1, 12)} | {(58, kind) for kind in (1, 2, 3, 4)})


def quoted(found: Reading) -> tuple[bytes, bytes]:
    inner = found.transport[8:]
    return (inner[12:16], inner[16:20]) if found.type == 0x0800 else (inner[8:24], inner[24:40])


def blanked(frame: bytes, found: Reading) -> bytes:
    """The frame without what translation may change: addresses, header checksum, ports, transport checksum."""
    data = bytearray(frame)
    four = found.type == 0x0800
    data[(24 if four else 22):(34 if four else 54)] = bytes(10 if four else 32)
    if found.offset:
        return bytes(data)
    at = len(frame) - len(found.transport) - (len(frame) - found_end(frame, found))
    spans = {6: ((0, 4), (16, 18)), 17: ((0, 4), (6, 8)), 1: ((2, 6),), 58: ((2, 6),)}.get(found.protocol, ())
    if is_error(found):
        inner = 8 + (20 if four else 40)
        spans = ((2, 4), (18, 28) if four else (16, 48), (inner, min(inner + 68, len(found.transport))))
    for first, last in spans:
        data[at + first:at + last] = bytes(len(data[at + first:at + last]))
    return bytes(data)


def found_end(frame: bytes, found: Reading) -> int:
    """Where the packet ends, and padding begins."""
    return 14 + int.from_bytes(frame[16:18], "big") if found.type == 0x0800 else \
        54 + int.from_bytes(frame[18:20], "big")


def translating() -> Judge:
    asked: set[tuple[bytes, bytes]] = set()         # of the inside, and whom it sent to

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if verdict.kind == PUNT_KIND:
            found = read(arrival.frame)
            return None if found.offset and frame == arrival.frame else "only later fragments wait"
        assert verdict.kind == FORWARD_KIND
        came, left = read(arrival.frame), read(frame)
        if came.tags:
            return "it has a tag"
        if came.type == 0x0806 or (came.type == 0x86dd and came.protocol == 58 and not came.offset
                                   and came.transport and 133 <= came.transport[0] <= 137):
            return None if frame == arrival.frame and verdict.argument != arrival.port else "it was altered"
        if came.type not in (0x0800, 0x86dd) or came.fault:
            return came.fault or "it is neither IP nor ARP"
        if len(frame) != len(arrival.frame) or blanked(frame, left) != blanked(
                turned(arrival.frame) if arrival.port == verdict.argument else arrival.frame, came):
            return "more was altered than ends and checksums"
        if sums(left, frame, came) != sums(came, arrival.frame, came):
            return "a checksum was not kept"
        source, target = came.addresses
        inward = verdict.argument == 0
        if arrival.port == 1 and not inward:
            return "it goes back to the outside"
        if arrival.port == 0:
            if left.addresses[0] not in SHOWN:
                return "an inside address leaves"
            if not is_error(came):
                asked.add((source, target))
        elif left.addresses[0] != source:
            return "the stranger is no longer who it was"
        if not inward:
            return None if left.addresses[1] == target else "it goes to another"
        if target not in SHOWN:
            return "nobody inside is seen so"
        if is_error(came):
            behind, far = left.addresses[1], quoted(came)[1]
            return None if (behind, far) in asked or behind == SERVER else "an error about nothing that was sent"
        return None if left.addresses[1] == SERVER or any(inside == left.addresses[1] and (
            far == source or arrival.port == 0) for inside, far in asked) else "nobody asked for it"
    return judge


def turned(frame: bytes) -> bytes:
    """To the station it came from."""
    return frame[6:12] + frame[:6] + frame[12:]


def test_nothing_comes_of_it(tmp_path_factory: pytest.TempPathFactory, nightly: bool) -> None:
    subject = Subject(lambda: Nat(addresses=[OURS, OURS6], static=STATIC), [*conversations(), *stock()],
                      [*steady(), *conversations()], steady(), judge=translating, targets=("tc", "native", "python"))
    tally = examine(subject, MILLION if nightly else SOME, Cache(tmp_path_factory.mktemp("images")))
    assert tally.total() == (MILLION if nightly else SOME)
    passed = sum(count for verdict, count in tally.items() if not verdict.startswith("drop"))
    assert passed > tally.total() // 20, f"too little was tried that could go either way: {tally}"
