"""The decapsulator, exact packet by exact packet, in CPython and through `agree`."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.decapsulator import Decapsulator, Reason
from iovisor.language import ConfigError, Packet, Verdict, drop, forward
from iovisor.testing import Agreement, Arrival, traffic
from iovisor.testing.packets import Frame, Layer, arp, destination, ethernet, fragment, ipv4, ipv6, udp

OUTSIDE, INSIDE = 0, 1
WORKLOAD, ROUTER = "02:00:00:00:00:07", "02:00:00:00:0f:02"
SENT4: dict[str, Any] = {"src": "10.0.0.250", "dst": "10.0.0.7"}
SENT6: dict[str, Any] = {"src": "fd00::fa", "dst": "fd00::7"}
VIP4, VIP6 = "198.51.100.1", "2001:db8:f::1"
NUMBER = {4: 4, 6: 41}


def end(**more: Any) -> Decapsulator:
    return Decapsulator(**{"addresses": ["10.0.0.7", "fd00::7"], "senders": ["10.0.0.248/29", "fd00::fa/128"],
                           "destinations": ["198.51.100.0/28", "2001:db8:f::/64"]} | more)


def inside(version: int, **fields: Any) -> Frame:
    """What a client sent to a VIP."""
    ip = ipv6(**{"src": "2001:db8:c::1", "dst": VIP6} | fields) if version == 6 else \
        ipv4(**{"src": "192.0.2.1", "dst": VIP4} | fields)
    return ip / udp(src=4000, dst=80) / b"hello"


def frame(*layers: Any) -> bytes:
    whole = ethernet(dst=WORKLOAD, src=ROUTER)
    for layer in layers:
        whole = whole / layer
    return bytes(whole)


def outer(version: int, of: int, **fields: Any) -> Layer:
    """The header of a tunnel, and what it says is inside."""
    if version == 6:
        return ipv6(**SENT6 | {"next": NUMBER[of]} | fields)
    return ipv4(**SENT4 | {"proto": NUMBER[of]} | fields)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    with Agreement(end, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


def becomes(given: bytes, left: bytes | Verdict, made: Decapsulator | None = None) -> None:
    packet = Packet(given, OUTSIDE)
    verdict = (made or end()).run(packet)
    if isinstance(left, Verdict):
        assert verdict == left
    else:
        assert verdict == forward(INSIDE) and bytes(packet) == left


@pytest.mark.parametrize(("out", "of"), list(product((4, 6), repeat=2)))
def test_unwrapped(out: int, of: int, session: Agreement) -> None:
    """Each version in each, padding behind, and behind the options that Linux writes; tags stay."""
    made, left = end(), frame(inside(of))
    given = [frame(outer(out, of), inside(of)), frame(outer(out, of), inside(of)) + bytes(4)]
    becomes(given[0], left, made)
    becomes(given[1], left + bytes(4), made)
    if out == 6:
        given.append(frame(outer(6, of, next=60), destination(next=NUMBER[of], options=b"\4\1\4\1\1\0"), inside(of)))
        becomes(given[2], left, made)
    given.append(given[0][:12] + b"\x81\0\0\5" + given[0][12:])
    becomes(given[-1], left[:12] + b"\x81\0\0\5" + left[12:], made)
    assert [made.unwrapped.read(number).packets for number in (0, 1)] == ([0, 4] if out == 6 else [3, 0])
    session.run(Arrival(one, OUTSIDE) for one in given)


def test_all_else_passes(session: Agreement) -> None:
    """What is in no tunnel, or in one to another; and whatever the workload sends."""
    given = [frame(inside(4, dst="10.0.0.7")), frame(inside(6, dst="fd00::7")),
             frame(outer(4, 4, dst="10.0.0.8"), inside(4)), frame(outer(6, 4, dst="fd00::8"), inside(4)),
             frame(arp(sender_ip="10.0.0.1", target_ip="10.0.0.7")),
             frame(ipv6(**SENT6), destination(next=17, options=b"\1\4\0\0\0\0"), udp(src=1, dst=2)),
             frame(ipv6(**SENT6), fragment(next=17, more=1, id=9), udp(src=1, dst=2))]
    for one in given:
        becomes(one, one)
    answer = frame(outer(4, 4, src="10.0.0.7", dst="10.0.0.250"), inside(4))
    packet = Packet(answer, INSIDE)
    assert end().run(packet) == forward(OUTSIDE) and bytes(packet) == answer
    session.run([*(Arrival(one, OUTSIDE) for one in given), Arrival(answer, INSIDE)])


DROPPED: dict[str, tuple[bytes, Reason]] = {
    "a stranger": (frame(outer(4, 4, src="10.0.0.9"), inside(4)), Reason.UNTRUSTED),
    "a stranger, v6": (frame(outer(6, 6, src="fd00::fb"), inside(6)), Reason.UNTRUSTED),
    "to a stranger": (frame(outer(4, 4), inside(4, dst="198.51.100.16")), Reason.STRANGER),
    "to a stranger, v6": (frame(outer(4, 6), inside(6, dst="fd00::7")), Reason.STRANGER),
    "a fragment": (frame(outer(4, 4, mf=1), inside(4)), Reason.FRAGMENT),
    "a later fragment": (frame(outer(4, 4, offset=9), inside(4)), Reason.FRAGMENT),
    "a fragment, v6": (frame(ipv6(**SENT6), fragment(next=41, more=1, id=9), inside(6)), Reason.FRAGMENT),
    "options": (frame(outer(4, 4, options=bytes(4)), inside(4)), Reason.OPTIONS),
    "options, v6": (frame(outer(6, 6, next=60), destination(next=41, options=bytes(14)), inside(6)), Reason.OPTIONS),
    "a wrong checksum": (frame(outer(4, 4, checksum=1), inside(4)), Reason.MALFORMED),
    "the other version": (frame(outer(4, 6), inside(4)), Reason.MALFORMED),
    "too little": (frame(outer(4, 4), inside(4))[:14 + 30], Reason.MALFORMED),
    "too little, v6": (frame(outer(6, 6), inside(6))[:14 + 60], Reason.MALFORMED),
    "nothing inside": (frame(outer(4, 4), bytes(12)), Reason.MALFORMED),
    "more inside than there is": (frame(outer(4, 4), inside(4, length=200)), Reason.MALFORMED),
    "congested": (frame(outer(4, 4, ecn=3), inside(4)), Reason.CONGESTED),
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropped(name: str, session: Agreement) -> None:
    given, reason = DROPPED[name]
    becomes(given, drop(reason))
    session.run([Arrival(given, OUTSIDE)])


def test_congestion(session: Agreement) -> None:
    """RFC 6040, figure 4: by row what is inside, by column the tunnel."""
    figure = {0: (0, 0, 0, None), 2: (2, 1, 2, 3), 1: (1, 1, 1, 3), 3: (3, 3, 3, 3)}
    for out, of in product((4, 6), repeat=2):
        for was, row in figure.items():
            for met, becoming in enumerate(row):
                given = frame(outer(out, of, ecn=met, dscp=46), inside(of, ecn=was, dscp=10))
                becomes(given, drop(Reason.CONGESTED) if becoming is None else frame(inside(of, ecn=becoming, dscp=10)))
                session.run([Arrival(given, OUTSIDE)])


def test_reconfigured() -> None:
    made = end()
    made.reconfigure(addresses=["10.0.0.8"], senders=["10.0.0.9/32"], destinations=[])
    moved = frame(outer(4, 4, src="10.0.0.9", dst="10.0.0.8"), inside(4, dst="203.0.113.1"))
    becomes(moved, frame(inside(4, dst="203.0.113.1")), made)
    becomes(frame(outer(4, 4, dst="10.0.0.8"), inside(4)), drop(Reason.UNTRUSTED), made)
    becomes(frame(outer(4, 4), inside(4)), frame(outer(4, 4), inside(4)), made)


@pytest.mark.parametrize(("wrong", "path"), [
    ({"addresses": []}, "addresses"), ({"addresses": ["nowhere"]}, "addresses[0]"), ({"senders": []}, "senders"),
    ({"addresses": [f"10.0.0.{n}" for n in range(65)]}, "addresses"), ({"most_prefixes": 1}, "senders"),
])
def test_what_cannot_be(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as found:
        end(**wrong)
    assert found.value.path == path


def test_random_packets(session: Agreement, nightly: bool) -> None:
    """Any packets, and any of them within tunnels."""
    for seed in range(10 if nightly else 1):
        given = list(traffic(f"decapsulator {seed}", 10_000 if nightly else 1_000, ports=2))
        session.run(given)
        session.run(Arrival(frame(outer(4 + one.port * 2, 6 if one.frame[12:14] == b"\x86\xdd" else 4), one.frame[14:]),
                            OUTSIDE) for one in given if 14 < len(one.frame) < 1400)
