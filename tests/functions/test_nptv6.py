"""Prefixes translated without a checksum being touched: exact packets, on every target, TC and XDP among them."""
from __future__ import annotations

from random import Random
from typing import Any

import pytest

from iovisor.functions.nptv6 import Nptv6, Reason
from iovisor.language import ConfigError, Packet, drop, forward
from iovisor.testing import Agreement, Arrival, traffic
from iovisor.testing.packets import arp, ethernet, icmp6, ipv4, ipv6, tcp, udp

INSIDE, OUTSIDE = 0, 1
ONE, TWO = "02:00:00:00:00:01", "02:00:00:00:00:02"
FAR = "2001:db8:f::7"


def site(**more: Any) -> Nptv6:
    return Nptv6(**{"inside": "fd01:203:405::/48", "outside": "2001:db8:1::/48"} | more)


def small() -> Nptv6:
    return site(inside="fd01:203:405:7::/64", outside="2001:db8:1:9::/64")


def frame(source: str, destination: str, transport: Any, turned: bool = False) -> bytes:
    ends = (ONE, TWO) if turned else (TWO, ONE)
    return bytes(ethernet(dst=ends[0], src=ends[1]) / ipv6(src=source, dst=destination) / transport)


def held(nptv6: Nptv6, steps: list[tuple[bytes, int, bytes | int, int]]) -> None:
    """Frames, where they come in, what they become or why they are dropped, and where they leave."""
    for given, port, becomes, leaves in steps:
        packet = Packet(given, port)
        verdict = nptv6.run(packet)
        assert verdict == (forward(leaves) if isinstance(becomes, bytes) else drop(becomes))
        if isinstance(becomes, bytes):
            assert bytes(packet) == becomes


# RFC 6296 appendix B: fd01:203:405:1::1234 is 2001:db8:1:d550::1234.
HERE, SEEN = "fd01:203:405:1::1234", "2001:db8:1:d550::1234"
ASK = udp(src=5000, dst=53) / b"ask"
CASES = [
    (frame(HERE, FAR, ASK), INSIDE, frame(SEEN, FAR, ASK), OUTSIDE),
    (frame(FAR, SEEN, ASK), OUTSIDE, frame(FAR, HERE, ASK), INSIDE),
    (frame(HERE, FAR, tcp(src=1, dst=2, flags=2)), INSIDE, frame(SEEN, FAR, tcp(src=1, dst=2, flags=2)), OUTSIDE),
    (frame(HERE, FAR, icmp6(type=128) / b"ping"), INSIDE, frame(SEEN, FAR, icmp6(type=128) / b"ping"), OUTSIDE),
    (frame(FAR, SEEN, icmp6(type=1) / frame(SEEN, FAR, ASK)[14:]), OUTSIDE,
     frame(FAR, HERE, icmp6(type=1) / frame(HERE, FAR, ASK)[14:]), INSIDE),
    (frame(HERE, FAR, icmp6(type=1) / frame(FAR, HERE, ASK)[14:]), INSIDE,
     frame(SEEN, FAR, icmp6(type=1) / frame(FAR, SEEN, ASK)[14:]), OUTSIDE),
    (frame("fd01:203:405:2::5", SEEN, ASK), INSIDE, frame("2001:db8:1:d551::5", HERE, ASK, True), INSIDE),
    (frame("fd01:203:406::5", FAR, ASK), INSIDE, Reason.NOT_INSIDE, 0),
    (frame(FAR, "2001:db8:2::5", ASK), OUTSIDE, Reason.NOT_OUTSIDE, 0),
    (frame("fd01:203:405:ffff::5", FAR, ASK), INSIDE, Reason.ALL_ONES, 0),
    (frame("fe80::1", FAR, ASK), INSIDE, Reason.LINK_LOCAL, 0),
    (frame(HERE, "ff0e::1", ASK), INSIDE, Reason.LINK_LOCAL, 0),
    (bytes(ethernet(dst=TWO, src=ONE) / ipv4(src="10.0.0.1", dst="192.0.2.1") / ASK), INSIDE,
     bytes(ethernet(dst=TWO, src=ONE) / ipv4(src="10.0.0.1", dst="192.0.2.1") / ASK), OUTSIDE),
    (bytes(ethernet(dst=TWO, src=ONE) / arp(sender_ip="10.0.0.1", target_ip="10.0.0.2")), OUTSIDE,
     bytes(ethernet(dst=TWO, src=ONE) / arp(sender_ip="10.0.0.1", target_ip="10.0.0.2")), INSIDE),
    (bytes(ethernet(dst=TWO, src=ONE, type=0x88b5) / bytes(50)), INSIDE, Reason.NOT_IP, 0),
]


def test_packets() -> None:
    held(site(), CASES)                 # type: ignore[arg-type]
    with Agreement(site) as session:
        session.run([Arrival(given, port) for given, port, _, _ in CASES])
        session.run(traffic("nptv6", 1_500, ports=2))


@pytest.mark.parametrize("make", [site, small])
def test_every_address_comes_back(make: Any) -> None:
    """There and back, with every checksum right: the builder makes them anew."""
    chance, nptv6 = Random(6), make()
    upper, length = nptv6.config.inside.address >> 64, nptv6.config.inside.length
    frames = []
    for _ in range(400):
        subnet = chance.choice((0, 1, 0xfffe, chance.randrange(0xffff))) & (1 << 64 - length) - 1
        identifier = chance.choice((1, 0xffff << 48 | 5, (1 << 64) - 2, chance.getrandbits(64)))
        address = (upper | subnet) << 64 | identifier
        ip = ethernet(dst=TWO, src=ONE) / ipv6(src=address, dst=FAR)
        gone = Packet(bytes(ip / ASK), INSIDE)
        assert nptv6.run(gone) == forward(OUTSIDE)
        seen = int.from_bytes(gone.data[22:38], "big")
        assert bytes(gone) == bytes(ethernet(dst=TWO, src=ONE) / ipv6(src=seen, dst=FAR) / ASK)
        back = Packet(bytes(ethernet(dst=ONE, src=TWO) / ipv6(src=FAR, dst=seen) / ASK), OUTSIDE)
        assert nptv6.run(back) == forward(INSIDE)
        assert bytes(back) == bytes(ethernet(dst=ONE, src=TWO) / ipv6(src=FAR, dst=address) / ASK)
        frames.append(Arrival(bytes(ip / ASK), INSIDE))
    if make is small:
        assert nptv6.run(Packet(bytes(ethernet(dst=TWO, src=ONE) / ipv6(
            src=upper << 64 | (1 << 64) - 1, dst=FAR) / ASK), INSIDE)) == drop(Reason.ALL_ONES)
    with Agreement(make) as session:
        session.run(frames)


@pytest.mark.parametrize(("settings", "message"), [
    ({"inside": "fd01::/65"}, "inside: fd01::/65 is not an IPv6 prefix of 1 to 64 bits"),
    ({"outside": "10.0.0.0/8"}, "outside: 10.0.0.0/8 is not an IPv6 prefix"),
    ({"outside": "2001:db8::/32"}, "outside: 2001:db8::/32 is not as long as fd01:203:405::/48")])
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        site(**settings)
    assert message in str(refused.value)
