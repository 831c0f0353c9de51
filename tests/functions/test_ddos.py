"""What keeps floods out: who is blocked, limited and challenged, in CPython exactly and on every target alike."""
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.ddos import SLOT, Ddos, Reason, halves_of, parsed
from iovisor.language import SECOND, Clock, ConfigError, Packet, Verdict, drop, forward, ipv4_text, prefix
from iovisor.parts.siphash import siphash
from iovisor.testing import Agreement, Arrival, agree, traffic
from iovisor.testing.packets import Frame, arp, ethernet, ipv4, ipv6, tcp, udp, vlan
from iovisor.wire.tcp import Tcp

INSIDE, OUTSIDE = 0, 1
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
BLOCKED = ["198.51.100.0/24", "203.0.113.7", "203.0.113.128/26", "10.0.0.0/8", "172.16.0.0/20",
           "2001:db8:bad::/48", "2001:db8::bad"]
SYN, ACK, RST = 2, 16, 4


@pytest.fixture(autouse=True)
def _standing() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def v4(src: str, transport: Any = None, **fields: Any) -> Frame:
    return LINK / ipv4(src=src, dst="192.0.2.200", **fields) / (transport or udp(src=1, dst=2))


def v6(src: str, transport: Any = None, **fields: Any) -> Frame:
    return LINK / ipv6(src=src, dst="2001:db8:1::1", **fields) / (transport or udp(src=1, dst=2))


def verdict(door: Ddos, frame: Frame, port: int = OUTSIDE) -> Verdict:
    packet = Packet(bytes(frame), port)
    found = door.run(packet)
    assert bytes(packet) == bytes(frame)
    return found


PASS, OUT = forward(INSIDE), drop(Reason.BLOCKED)
SOURCES: list[tuple[Frame, Verdict]] = [
    (v4("198.51.100.0"), OUT), (v4("198.51.100.255"), OUT), (v4("198.51.101.0"), PASS), (v4("198.51.99.255"), PASS),
    (v4("203.0.113.7"), OUT), (v4("203.0.113.6"), PASS), (v4("203.0.113.8"), PASS), (v4("203.0.113.127"), PASS),
    (v4("203.0.113.128"), OUT), (v4("203.0.113.191"), OUT), (v4("203.0.113.192"), PASS), (v4("10.255.255.255"), OUT),
    (v4("9.255.255.255"), PASS), (v4("11.0.0.0"), PASS), (v4("172.16.15.255"), OUT), (v4("172.16.16.0"), PASS),
    (v6("2001:db8:bad:1::1"), OUT), (v6("2001:db8:bae::1"), PASS), (v6("2001:db8::bad"), OUT),
    (v6("2001:db8::bae"), PASS), (LINK / arp(sender_ip="10.0.0.1"), PASS),
    (LINK / vlan(vid=5) / ipv4(src="10.0.0.1", dst="192.0.2.200"), OUT),
    (LINK / vlan(vid=5) / vlan(vid=6) / ipv4(src="10.0.0.1", dst="192.0.2.200"), OUT),
    (LINK / vlan(vid=5) / vlan(vid=6) / ipv6(src="2001:db8::bad", dst="::1"), OUT),
]


def test_who_is_blocked() -> None:
    door = Ddos(blocked=BLOCKED)
    for frame, wanted in SOURCES:
        assert verdict(door, frame) == wanted, frame
        assert verdict(door, frame, INSIDE) == forward(OUTSIDE)


def test_allowed_before_blocked() -> None:
    door = Ddos(blocked=["10.0.0.0/8"], allowed=["10.1.0.0/16", "2001:db8::/64"], rate=1, burst=1)
    assert [verdict(door, v4("10.1.2.3")) for _ in range(3)] == [PASS] * 3
    assert verdict(door, v4("10.2.2.3")) == OUT
    door.reconfigure(allowed=[])
    assert verdict(door, v4("10.1.2.3")) == OUT


def test_lists_change() -> None:
    door = Ddos(blocked=BLOCKED)
    door.reconfigure(blocked=["192.0.2.1"])
    assert verdict(door, v4("192.0.2.1")) == OUT and verdict(door, v4("10.0.0.1")) == PASS
    assert door.block("203.0.113.0/25, 192.0.2.0/24\n2001:db8::/32") == 3
    assert [verdict(door, frame) for frame in (v4("192.0.2.1"), v4("203.0.113.1"), v4("203.0.113.128"),
                                               v6("2001:db8::bad"))] == [OUT, OUT, PASS, OUT]
    door.block("")
    assert not list(door.blocked6) and not list(door.singles)
    assert all(verdict(door, frame) == PASS for frame, _ in SOURCES)


def test_bits_are_prefixes() -> None:
    """A thousand random prefixes, asked at their edges: the bits say what a list of prefixes says."""
    chance = random.Random(5)
    texts = []
    for _ in range(1_000):
        length = chance.choice([12, 16, 18, 19, 23, 24, 25, 28, 31, 32])
        texts.append(f"{ipv4_text(chance.getrandbits(32) >> 32 - length << 32 - length)}/{length}")
    prefixes = [parsed(text) for text in texts]
    assert prefixes == [prefix(text) for text in texts]
    door = Ddos(most_blocked=2_000)
    door.block(" ".join(texts))
    for found in chance.sample(prefixes, 150):
        last = found.address + (1 << 32 - found.length) - 1
        for address in (found.address, last, found.address - 1 & 0xffffffff, last + 1 & 0xffffffff):
            wanted = OUT if any(address in other for other in prefixes) else PASS
            assert verdict(door, v4(ipv4_text(address))) == wanted
    assert len(halves_of(prefixes)[0]) <= 1 << 18


def test_rates_of_sources() -> None:
    door = Ddos(rate=10, burst=3)
    assert [verdict(door, v4("192.0.2.1")) for _ in range(5)] == [PASS] * 3 + [drop(Reason.RATE)] * 2
    assert verdict(door, v4("192.0.2.2")) == PASS, "another source"
    Clock.advance(SECOND // 10)
    assert [verdict(door, v4("192.0.2.1")) for _ in range(2)] == [PASS, drop(Reason.RATE)]
    assert [verdict(door, v6(f"2001:db8::{n}")) for n in range(1, 5)] == [PASS] * 3 + [drop(Reason.RATE)], "one /64"


def test_openings_of_sources() -> None:
    for challenge in ("never", "above"):
        door = Ddos(openings=1, openings_burst=2, challenge=challenge)
        syn, data = v4("192.0.2.1", tcp(src=1, dst=80, flags=SYN)), v4("192.0.2.1", tcp(src=1, dst=80, flags=ACK))
        assert [verdict(door, syn) for _ in range(3)] == [PASS, PASS, drop(Reason.OPENINGS)]
        assert verdict(door, data) == PASS
        six = v6("2001:db8::1", tcp(src=1, dst=80, flags=SYN))
        assert [verdict(door, six) for _ in range(3)] == [PASS, PASS, drop(Reason.OPENINGS)]


# -- the challenge -----------------------------------------------------------------------------------------------------

def packet_of(six: bool, flags: int, sequence: int, sport: int = 5_000) -> bytes:
    options = b"" if flags & RST else bytes([2, 4, 5, 180])
    segment = tcp(src=sport, dst=80, flags=flags, sequence=sequence, options=options)
    return bytes(v6("2001:db8:9::9", segment) if six else v4("192.0.2.1", segment))


def answered(door: Ddos, six: bool, sequence: int = 77, sport: int = 5_000) -> int:
    """Send a SYN that is answered; the answer is right to the last byte, and its acknowledgment is returned."""
    packet = Packet(packet_of(six, SYN, sequence, sport), OUTSIDE)
    assert door.run(packet) == forward(OUTSIDE)
    data = bytes(packet)
    header = Tcp.decode(data[-20:])
    back = ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    ip = ipv6(src="2001:db8:1::1", dst="2001:db8:9::9") if six else ipv4(src="192.0.2.200", dst="192.0.2.1", df=1)
    assert data == bytes(back / ip / tcp(src=80, dst=sport, flags=SYN | ACK, acknowledgment=header.acknowledgment))
    assert header.acknowledgment != sequence + 1
    return header.acknowledgment


@pytest.mark.parametrize("six", [False, True])
def test_a_source_proves_that_it_is_there(six: bool) -> None:
    door = Ddos(challenge="always", trust="5m")
    cookie = answered(door, six)
    assert len(door.trusted) == 0, "a SYN leaves nothing"
    assert door.run(Packet(packet_of(six, RST, cookie ^ 1), OUTSIDE)) == PASS, "the reset of some connection"
    assert door.run(Packet(packet_of(six, SYN, 77), OUTSIDE)) == forward(OUTSIDE)
    assert door.run(Packet(packet_of(six, RST, cookie), OUTSIDE)) == drop(Reason.PROOF)
    assert door.run(Packet(packet_of(six, SYN, 77), OUTSIDE)) == PASS
    assert door.run(Packet(packet_of(six, SYN, 9, sport=6_000), OUTSIDE)) == PASS, "from any port"
    assert door.show() == {"answered": 2, "proved": 1, "passed": 2, "trusted": 1}
    Clock.advance(301 * SECOND)
    assert door.run(Packet(packet_of(six, SYN, 77), OUTSIDE)) == forward(OUTSIDE), "not for ever"


def test_a_cookie_is_for_one_time_and_one_flow() -> None:
    door = Ddos(challenge="always")
    cookie = answered(door, False)
    assert door.run(Packet(packet_of(False, RST, cookie, sport=5_001), OUTSIDE)) == PASS
    Clock.advance(SLOT)
    assert door.run(Packet(packet_of(False, RST, cookie), OUTSIDE)) == drop(Reason.PROOF)
    door.distrust()
    Clock.advance(SLOT)
    assert door.run(Packet(packet_of(False, RST, cookie), OUTSIDE)) == PASS
    assert answered(door, False) != cookie
    assert answered(Ddos(challenge="always"), False) != answered(door, False), "each has a secret of its own"


def test_only_above_so_many() -> None:
    door = Ddos(above=100)
    found = [door.run(Packet(packet_of(False, SYN, 77), OUTSIDE)) for _ in range(150)]
    assert found == [PASS] * 100 + [forward(OUTSIDE)] * 50
    Clock.advance(SECOND)
    assert door.run(Packet(packet_of(False, SYN, 77), OUTSIDE)) == forward(OUTSIDE), "the second before was a flood"
    Clock.advance(SECOND)
    assert door.run(Packet(packet_of(False, SYN, 77), OUTSIDE)) == PASS


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, 1 | ACK, ACK | 8])
def test_connections_are_not_looked_at(flags: int) -> None:
    door = Ddos(challenge="always")
    assert verdict(door, v4("192.0.2.1", tcp(src=1, dst=80, flags=flags))) == PASS
    assert verdict(door, v6("2001:db8::1", tcp(src=1, dst=80, flags=flags))) == PASS


def test_siphash_is_siphash() -> None:
    """The vectors of the paper's appendix: key 00 to 0f, message 00, 01, 02 ... of 24 bytes."""
    key = int.from_bytes(bytes(range(8)), "little"), int.from_bytes(bytes(range(8, 16)), "little")
    words = [int.from_bytes(bytes(range(at, at + 8)), "little") for at in (0, 8, 16)]
    assert siphash(*key, *words) == int.from_bytes(bytes.fromhex("94af49f6c650adb8"), "little")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"blocked": ["1.2.3.4", "1.2.4.4"], "most_blocked": 1}, "blocked: 2 /24s with single addresses; there is room"),
    ({"blocked": ["::1", "::2"], "most_blocked": 1}, "blocked: 2 IPv6 prefixes; there is room for 1"),
    ({"sources": 0}, "sources: one is the least"), ({"trust": 0}, "trust: a proof must count"),
    ({"allowed": [f"10.0.{n >> 8}.{n & 255}" for n in range(1_025)]}, "allowed: 1025 prefixes; 1024"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ddos(**values)


# -- every target ------------------------------------------------------------------------------------------------------

def made(**config: Any) -> Ddos:
    door = Ddos(**config)
    door.secret[0], door.secret[1] = 1, 2
    return door


def test_every_target_agrees() -> None:
    reference = made(challenge="always")
    cookies = [answered(reference, six) for six in (False, True)]
    frames = [Arrival(bytes(frame), port) for frame, _ in SOURCES for port in (OUTSIDE, INSIDE)]
    frames += [Arrival(packet_of(six, flags, sequence), OUTSIDE, after=after)
               for six in (False, True) for flags, sequence, after in (
                   (SYN, 77, 0), (RST, 5, 0), (RST, cookies[six], 0), (SYN, 78, 0), (ACK, 79, 10_000_000),
                   (SYN, 80, 700 * SECOND))]
    agree(lambda: made(blocked=BLOCKED, challenge="always", rate=100, burst=8, openings=1, openings_burst=1,
                       allowed=["192.0.2.7"]), [*frames, *frames[:10]])


def test_random_traffic_agrees(nightly: bool) -> None:
    if not nightly:
        pytest.skip("nightly: a quarter of a million words are compared, of every lane")
    with Agreement(lambda: made(blocked=["0.0.0.0/2", "192.0.2.0/25"], above=5, rate=1_000, openings=2)) as found:
        found.run(traffic(seed=7, count=20_000))
