"""The policer: what fits, what does not, and that the rate and the burst are those that were asked for.

Conversations with a standing clock, in CPython and through `agree`; then long random ones on the native target, whose
output is compared with the token bucket's definition: over no window more than rate times its length and a burst.
"""
from __future__ import annotations

import random
from typing import Any

import pytest

from iovisor.functions.policer import Policer, Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, data_rate, drop, forward, now
from iovisor.targets import load
from iovisor.testing import Agreement, Arrival, agree, available, traffic
from iovisor.testing.packets import Frame, ethernet, extension, fragment, icmp, ipv4, ipv6, tcp, udp, vlan

INSIDE, OUTSIDE = 0, 1
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def frame(size: int, six: bool = False, sport: int = 1, source: int = 1, **fields: Any) -> bytes:
    """A UDP frame of so many bytes."""
    ip = ipv6(src=f"2001:db8::{source}", dst="2001:db8::ff", **fields) if six else \
        ipv4(src=f"10.0.0.{source}", dst="10.0.0.255", **fields)
    head = LINK / ip / udp(src=sport, dst=9)
    return bytes(head / bytes(size - len(head)))


def verdicts(policer: Policer, *arrivals: Arrival) -> list[bool]:
    """Whether each was let pass; the clock stands and moves by `after`."""
    Clock.stand(1_000 * SECOND)
    try:
        found: list[bool] = []
        for arrival in arrivals:
            Clock.advance(arrival.after)
            packet = Packet(arrival.frame, arrival.port)
            verdict = policer.run(packet)
            assert verdict in (forward(1 - arrival.port), drop(Reason.RATE))
            found.append(verdict == forward(1 - arrival.port))
        return found
    finally:
        Clock.run()


# 8 Mbit/s: a byte a microsecond.
THOUSAND = frame(1000)
MICROSECONDS = 1_000


def test_a_burst_and_then_the_rate() -> None:
    policer = Policer(rate="8M", burst=3_000)
    assert verdicts(policer, *[Arrival(THOUSAND)] * 5) == [True, True, True, False, False]
    policer = Policer(rate="8M", burst=3_000)
    steady = [Arrival(THOUSAND, after=1_000 * MICROSECONDS)] * 50
    assert verdicts(policer, *[Arrival(THOUSAND)] * 3, *steady) == [True] * 53
    policer = Policer(rate="8M", burst=3_000)
    early = [Arrival(THOUSAND, after=999 * MICROSECONDS)] * 3
    assert verdicts(policer, *[Arrival(THOUSAND)] * 3, *early) == [True] * 3 + [False, True, True]


def test_a_pause_gives_a_burst_and_no_more() -> None:
    policer = Policer(rate="8M", burst=2_000)
    again = [Arrival(THOUSAND, after=3_600 * SECOND), Arrival(THOUSAND), Arrival(THOUSAND)]
    assert verdicts(policer, *[Arrival(THOUSAND)] * 3, *again) == [True, True, False] * 2


def test_what_is_dropped_costs_nothing() -> None:
    policer = Policer(rate="8M", burst=1_000)
    small = frame(500)
    assert verdicts(policer, Arrival(small), *[Arrival(THOUSAND)] * 9, Arrival(small)) == [True, *[False] * 9, True]


@pytest.mark.parametrize("six", [False, True])
def test_directions_classes_sources_and_flows_have_their_own(six: bool) -> None:
    def pair(first: Arrival, second: Arrival, **config: Any) -> list[bool]:
        return verdicts(Policer(rate="8M", burst=1_000, **config), first, second)

    one, other = frame(900, six), frame(900, six, sport=2)
    assert pair(Arrival(one), Arrival(one)) == [True, False]
    assert pair(Arrival(one), Arrival(one, port=1)) == [True, True]
    assert pair(Arrival(one, port=1), Arrival(one, port=1), direction="out") == [True, True]
    assert pair(Arrival(one), Arrival(one), direction="in") == [True, True]
    assert pair(Arrival(one), Arrival(other), by="flow") == [True, True]
    assert pair(Arrival(one), Arrival(one), by="flow") == [True, False]
    assert pair(Arrival(one), Arrival(other), by="source") == [True, False]
    assert pair(Arrival(one), Arrival(frame(900, six, source=2)), by="source") == [True, True]
    assert pair(Arrival(one), Arrival(frame(900, six, source=2)), by="destination") == [True, False]
    assert pair(Arrival(one), Arrival(frame(900, six, dscp=46)), by="class") == [True, True]
    assert pair(Arrival(frame(900, six, dscp=46)), Arrival(frame(900, six, dscp=46)), by="class") == [True, False]
    assert pair(Arrival(frame(900, six, dscp=46)), Arrival(frame(900, six, dscp=46)), by="class",
                classes=[{"dscp": "ef", "rate": "16M", "burst": 2_000}]) == [True, True]


def test_no_rate_is_no_limit() -> None:
    assert all(verdicts(Policer(by="class", classes=[{"dscp": "ef", "rate": "8M", "burst": 10}]),
                        *[Arrival(THOUSAND)] * 100))


@pytest.mark.parametrize("six", [False, True])
def test_between_two_rates_it_marks(six: bool) -> None:
    """RFC 2698: green, yellow, red; the checksum and the ECN bits stay right."""
    policer = Policer(rate="8M", burst=1_000, peak="16M", peak_burst=2_000, excess="af12")
    Clock.stand(1_000 * SECOND)
    try:
        seen = []
        for _ in range(3):
            packet = Packet(frame(900, six, dscp=10, ecn=1), INSIDE)
            verdict = policer.run(packet)
            seen.append((verdict, bytes(packet)))
        green, yellow = frame(900, six, dscp=10, ecn=1), frame(900, six, dscp=12, ecn=1)
        assert seen == [(forward(1), green), (forward(1), yellow), (drop(Reason.RATE), green)]
        (row,) = policer.show()
        assert (row["class"], row["packets"], row["marked"], row["dropped"]) == ("af11", 1, 1, 1)
    finally:
        Clock.run()


@pytest.mark.parametrize(("six", "headers"), [(False, 14 + 20 + 20), (True, 14 + 40 + 20)])
def test_an_aggregate_is_charged_as_its_segments(six: bool, headers: int) -> None:
    """Ten segments of 1000 bytes: ten headers."""
    ip = ipv6(src="2001:db8::1", dst="2001:db8::2") if six else ipv4(src="10.0.0.1", dst="10.0.0.2")
    policer = Policer(rate="8M", burst=100_000)
    packet = Packet(bytes(LINK / ip / tcp(src=1, dst=2) / bytes(9_500)), INSIDE)
    packet.segment = 1_000
    assert policer.run(packet) == forward(1)
    assert policer.show()[0]["bytes"] == 9_500 + 10 * headers


def test_tags_and_overhead_are_charged() -> None:
    policer = Policer(rate="8M", burst=100_000, overhead=24)
    tagged = bytes(LINK / vlan(vid=5) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2) / bytes(100))
    assert policer.run(Packet(tagged, INSIDE)) == forward(1)
    assert policer.show()[0]["bytes"] == len(tagged) + 24


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"rate": 100}, "rate: 100 bit/s is not between 8k and 200G"),
    ({"rate": "fast"}, "rate: 'fast' is not a rate like 64k, 50M or 1.5Gbit/s"),
    ({"rate": "2M", "peak": "1M"}, "peak: this is less than the rate"),
    ({"peak": "1M"}, "rate: a peak needs a rate below it"),
    ({"classes": [{"dscp": "ef", "rate": "1M"}]}, "classes: this needs by: class"),
    ({"by": "class", "classes": [{"dscp": "ef"}, {"dscp": 46}]}, "classes: two of them have one DSCP"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Policer(**values)


# -- every target ------------------------------------------------------------------------------------------------------

MANY = [Arrival(frame(size, six, sport=sport, source=source, dscp=dscp), port, after=after * MICROSECONDS)
        for size, six, sport, source, dscp, port, after in [
            (random.Random(n).choice((80, 200, 1_000, 1_514)), n % 3 == 0, n % 4, 1 + n % 5, (0, 46, 10)[n % 3], n % 2,
             random.Random(-n).choice((0, 0, 100, 900, 3_000))) for n in range(240)]]
ODD: list[Frame] = [
    LINK / ipv4(src="10.0.0.1", dst="10.0.0.2", options=bytes(8)) / udp(src=1, dst=2),
    LINK / ipv4(src="10.0.0.1", dst="10.0.0.2", offset=5, proto=17) / bytes(40),
    LINK / ipv4(src="10.0.0.1", dst="10.0.0.2") / icmp(type=8) / b"ping",
    LINK / ipv6(src="2001:db8::1", dst="2001:db8::2") / extension(60) / fragment(id=7, more=1) / udp(src=1, dst=2),
    LINK / vlan(vid=7) / vlan(vid=8) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2),
    LINK / bytes(46),
]
KINDS: list[dict[str, Any]] = [
    {"rate": "8M", "burst": 3_000},
    {"rate": "8M", "burst": 2_000, "by": "flow", "peak": "12M", "peak_burst": 3_000, "excess": 7},
    {"rate": "4M", "burst": 2_000, "by": "source", "overhead": 24},
    {"rate": "4M", "burst": 2_000, "by": "class", "direction": "out",
     "classes": [{"dscp": "ef", "rate": "8M", "burst": 9_000}]},
]


@pytest.mark.parametrize("config", KINDS, ids=["port", "flow", "source", "class"])
def test_every_target_agrees(config: dict[str, Any]) -> None:
    agree(lambda: Policer(**config), [*MANY, *ODD, *MANY[:40]])


@pytest.mark.parametrize("seed", range(2))
def test_random_traffic_agrees(seed: int, nightly: bool) -> None:
    with Agreement(lambda: Policer(rate="8M", burst=4_000, by="flow", peak="9M", peak_burst=5_000)) as found:
        found.run(traffic(seed=seed, count=20_000 if nightly else 400))


# -- the numbers -------------------------------------------------------------------------------------------------------

RATES = ["1M", "10M", "50M", "200M", "1000M", "10G"]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("size", [64, 512, 1_514])
def test_rate_and_burst_are_exact(rate: str, size: int) -> None:
    """Overload of twice the rate, in bunches: the long run is within 0.5 %, and no window has more than a burst."""
    bits, burst = data_rate(rate), max(20 * size, data_rate(rate) // 8 // 1_000)
    target = "native" if "native" in available() else "python"
    chance = random.Random(f"{rate}{size}")
    data = frame(max(size, 64))
    with load(Policer(rate=rate, burst=burst), target) as policer:
        Clock.stand(1_000 * SECOND)
        try:
            begun = at = 1_000 * SECOND
            passed, worst, level, last = 0, 0.0, 0.0, begun
            for _ in range(6_000):
                wait = int(chance.expovariate(1) * size * 4 * SECOND / bits)
                if chance.random() < 0.01:
                    wait = 0
                at += wait
                Clock.advance(wait)
                if policer.run(Packet(data)) == forward(1):
                    level = max(level - (at - last) * bits / 8 / SECOND, 0) + len(data)
                    last, worst, passed = at, max(worst, level), passed + len(data)
        finally:
            Clock.run()
    seconds = (at - begun) / SECOND
    assert worst <= burst * 1.001
    assert (passed - burst) * 8 / bits <= seconds * 1.005
    assert passed * 8 / bits >= seconds * 0.995 - size * 8 / bits


def test_it_asks_the_fine_clock() -> None:
    """While the clock runs: the coarse one stands still for 4 ms, in which nothing but the burst would pass."""
    policer = Policer(rate="800M", burst=1_000)
    begun = now()
    found: list[bool] = []
    while now() == begun or len(found) < 10:
        found.append(policer.run(Packet(THOUSAND)) == forward(1))
    assert sum(found) > 2
