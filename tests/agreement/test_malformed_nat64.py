"""A million spoiled frames for nat64, with --nightly; some thousands else.

The judge reads both frames by slices and numbers.  What crosses has the ends, hops and lengths that it should have, the
payload it came with, and a sum over everything, pseudo-header included, as wrong or right as before.  What does not
cross passes untouched, or is the answer to what came.  Nothing comes in that was not asked for.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from random import Random

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nat64 import Nat64
from iovisor.language import Verdict
from iovisor.language.verdicts import FORWARD_KIND, PUNT_KIND
from iovisor.testing import Arrival
from iovisor.testing.bulk import valid
from iovisor.testing.packets import ethernet, fragment, icmp, icmp6, ipv4, ipv6, tcp, udp
from tests.agreement.malformed import Judge, Reading, Subject, examine, read
from tests.agreement.test_malformed_nat import found_end, is_error, total, turned

SOME, MILLION = 6_000, 1_000_000
ONE, TWO = "06:5a:5a:5a:5a:01", "06:a5:a5:a5:a5:02"
LINK = ethernet(dst=TWO, src=ONE)
OURS, FAR, HOME, WEB = "203.0.113.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:1::80"
PREFIX = ip_address("64:ff9b::").packed[:12]
SHOWN, SERVER = ip_address(OURS).packed, ip_address(WEB).packed
STATIC = [{"outside": OURS, "inside": WEB, "protocol": "tcp", "outside_ports": 8080, "inside_ports": 80}]


def six(address: str) -> str:
    return f"64:ff9b::{address}"


def conversations() -> Iterator[Arrival]:
    """Some flows, as they go out and come in, errors about them and hairpins among them."""
    up, down = LINK / ipv6(src=HOME, dst=six(FAR)), LINK / ipv4(src=FAR, dst=OURS)
    ask, answer = udp(src=5000, dst=53) / b"ask", udp(src=53, dst=5000) / b"answer"
    segment = tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000) / bytes(20)
    seen, came = ipv4(src=OURS, dst=FAR), ipv6(src=six(FAR), dst=HOME)
    yield from (Arrival(bytes(frame), port) for port, frame in (
        (0, up / ask), (1, down / answer), (1, down / udp(src=53, dst=5000, checksum=0) / b"unsummed"),
        (0, up / tcp(src=4000, dst=80, flags=2, sequence=100, window=1000, options=b"\1\3\3\7")),
        (1, down / tcp(src=80, dst=4000, flags=18, sequence=500, acknowledgment=101, window=1000, options=b"\1\3\3\7")),
        (0, up / tcp(src=4000, dst=80, sequence=101, acknowledgment=501, window=1000)), (0, up / segment),
        (0, up / icmp6(type=128, rest=7 << 16) / bytes(20)), (1, down / icmp(type=0, rest=7 << 16) / bytes(20)),
        (1, down / icmp(type=3, code=3) / bytes(seen / ask)), (1, down / icmp(type=11) / bytes(seen / segment)),
        (1, down / icmp(type=3, code=4, rest=1400) / bytes(seen / icmp(rest=7 << 16) / bytes(20))),
        (0, up / icmp6(type=1, code=4) / bytes(came / answer)),
        (0, up / icmp6(type=2, rest=1300) / bytes(came / answer)),
        (0, LINK / ipv6(src=HOME, dst=six(FAR), hops=1) / ask), (1, LINK / ipv4(src=FAR, dst=OURS, ttl=1) / answer),
        (0, LINK / ipv6(src="2001:db8:1::2", dst=six(OURS)) / udp(src=6000, dst=5000) / b"hairpin"),
        (1, LINK / ipv4(src="198.51.100.9", dst=OURS) / tcp(src=9, dst=8080, flags=2)),
        (0, up / fragment(more=1, id=9, next=17) / bytes(udp(src=5000, dst=53, length=80)) / bytes(40)),
        (0, up / fragment(offset=6, id=9, next=17) / bytes(32)),
        (1, LINK / ipv4(src=FAR, dst=OURS, mf=1, id=5) / udp(src=53, dst=5000, length=80) / bytes(40)),
        (1, LINK / ipv4(src=FAR, dst=OURS, offset=6, id=5, proto=17) / bytes(32))))


def stock() -> list[Arrival]:
    random = Random("nat64")
    frames = [bytes(valid(random)) for _ in range(40)]
    return [Arrival(frame, port) for frame in frames for port in (0, 1) if len(frame) < 3_000]


def steady() -> list[Arrival]:
    """A connection nobody else has anything to do with."""
    return [Arrival(bytes(LINK / ipv6(src="2001:db8:a5::a5", dst=six("202.53.172.83")) / udp(src=0xa5a5, dst=0x5a5a)
                          / b"still"), 0),
            Arrival(bytes(LINK / ipv4(src="202.53.172.83", dst=OURS) / udp(src=0x5a5a, dst=0xa5a5) / b"there"), 1)]


def residue(found: Reading) -> int:
    """What a sum over the packet is off by; zero if its checksum is right."""
    if found.type == 0x0800 and found.protocol == 1:
        return total(found.transport)
    return (total(b"".join(found.addresses) + found.transport) + found.protocol + len(found.transport)) % 0xffff


def hops(frame: bytes, found: Reading) -> int:
    return frame[22] if found.type == 0x0800 else frame[21]


def behind(found: Reading) -> bytes:
    """The transport without what translation may change."""
    spans = {6: ((0, 4), (16, 18)), 17: ((0, 4), (6, 8)), 1: ((0, 1), (2, 6)), 58: ((0, 1), (2, 6))}
    data = bytearray(found.transport)
    for first, last in spans.get(found.protocol, ()) if not found.offset else ():
        data[first:last] = bytes(len(data[first:last]))
    return bytes(data)


def crossing() -> Judge:
    asked: set[tuple[bytes, bytes]] = set()         # of the inside, and whom it sent to

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        came = read(arrival.frame)
        if verdict.kind == PUNT_KIND:
            waits = came.offset or (came.type == 0x0800 and len(arrival.frame) > 1_260)
            return None if waits and frame == arrival.frame else "nothing of it waits or is cut"
        assert verdict.kind == FORWARD_KIND
        if came.tags:
            return "it has a tag"
        if frame == arrival.frame and verdict.argument != arrival.port:
            return native(arrival, came)
        if came.type not in (0x0800, 0x86dd) or came.fault:
            return came.fault or "it is neither IP nor ARP"
        left = read(frame)
        if left.fault or total(frame[14:14 + 4 * (frame[14] & 15)] if left.type == 0x0800 else b""):
            return left.fault or "the header's checksum is wrong"
        if arrival.port == verdict.argument and (came.addresses[1] != PREFIX + SHOWN or hops(arrival.frame, came) <= 1):
            return answer(arrival, came, frame, left)
        if hops(frame, left) + 1 != hops(arrival.frame, came):
            return "it made no hop"
        if found_end(frame, left) != len(frame) and left.type != came.type and found_end(
                arrival.frame, came) == len(arrival.frame):
            return "it gained padding"
        source, target = came.addresses
        if arrival.port == 0:
            if target[:12] != PREFIX:
                return "it is not for the prefix"
            if left.type == 0x0800 and left.addresses != (SHOWN, target[12:]):
                return "these are not its ends"
            if left.type == 0x86dd and left.addresses[0] != PREFIX + SHOWN:
                return "its sender is shown as another"
            if not is_error(came):
                asked.add((source, target[12:]))
        elif target != SHOWN or left.addresses[0] != PREFIX + source:
            return "these are not its ends"
        if left.type == 0x86dd and not is_error(came) and left.addresses[1] != SERVER and not any(
                inside == left.addresses[1] and (far == source or arrival.port == 0) for inside, far in asked):
            return "nobody asked for it"
        if frame[:12] != (arrival.frame if arrival.port != verdict.argument else turned(arrival.frame))[:12]:
            return "its stations are others"
        bare = came.protocol == 17 and came.transport[6:8] == b"\0\0" and not came.offset
        if bare:                # what UDP itself says that it has is what it is summed over
            left.transport = left.transport[:int.from_bytes(left.transport[4:6], "big")]
        if not came.offset and not came.more and residue(left) != (0 if bare else residue(came)):
            return "its sum is not what it was"
        if not is_error(came) and (left.offset != came.offset or behind(left) != behind(came)[:len(left.transport)]):
            return "more than ends and checksum is different"
        return None
    return judge


def native(arrival: Arrival, came: Reading) -> str | None:
    if came.type == 0x86dd and any(address[:12] == PREFIX for address in came.addresses):
        return "it has an address of the prefix, and passed"
    if came.type == 0x0800 and arrival.port == 1 and came.addresses[1] == SHOWN:
        return "it was for an outside address, and passed"
    return None if came.type in (0x0800, 0x86dd, 0x0806) else "it is neither IP nor ARP"


def answer(arrival: Arrival, came: Reading, frame: bytes, left: Reading) -> str | None:
    """An error about what came, to who sent it."""
    if left.type != came.type or left.addresses[1] != came.addresses[0]:
        return "it answers somebody else"
    if left.addresses[0] != (SHOWN if left.type == 0x0800 else PREFIX + SHOWN):
        return "somebody else answers"
    if (left.protocol, left.transport[0]) not in ((1, 3), (1, 11), (58, 2), (58, 3)) or residue(left):
        return "it is no good error"
    short = hops(arrival.frame, came) <= 1
    if short != (left.transport[0] in (11, 3) and left.transport[1] == 0 and left.transport[:1] != b"\2"):
        return "it is the wrong error"
    return None if arrival.frame[14:].startswith(left.transport[8:]) else "it quotes another"


def test_nothing_comes_of_it(tmp_path_factory: pytest.TempPathFactory, nightly: bool) -> None:
    subject = Subject(lambda: Nat64(addresses=[OURS], static=STATIC, errors=60_000), [*conversations(), *stock()],
                      [*steady(), *conversations()], steady(), judge=crossing, targets=("tc", "native", "python"))
    tally = examine(subject, MILLION if nightly else SOME, Cache(tmp_path_factory.mktemp("images")))
    assert tally.total() == (MILLION if nightly else SOME)
    passed = sum(count for verdict, count in tally.items() if not verdict.startswith("drop"))
    assert passed > tally.total() // 20, f"too little was tried that could go either way: {tally}"
