"""The marker: which packets get which DSCP, that nothing else of them changes, and that checksums stay right."""
from __future__ import annotations

from typing import Any

import pytest

from iovisor.functions.marker import Marker, Reason
from iovisor.language import ConfigError, Packet, drop, forward
from iovisor.testing import Agreement, Arrival, agree, traffic
from iovisor.testing.packets import Frame, arp, ethernet, fragment, icmp6, ipv4, ipv6, tcp, udp, vlan

INSIDE, OUTSIDE = 0, 1
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
CONFIG: dict[str, Any] = {
    "rules": [
        {"name": "voice", "direction": "out", "protocol": "udp", "destination_ports": "16384-32767", "mark": "ef"},
        {"name": "backup", "source": ["10.0.9.0/24", "2001:db8:9::/48"], "mark": "le"},
        {"name": "was expedited", "dscp": "ef", "mark": 0},
        {"name": "web", "protocol": "tcp", "source_ports": [80, 443], "mark": "af21"},
    ],
    "map": {"cs6": "af11", "7": "cs7"}}


def v4(transport: Any = None, src: str = "10.0.0.1", **fields: Any) -> Frame:
    return LINK / ipv4(src=src, dst="10.0.0.2", **fields) / (transport or udp(src=1, dst=2)) / b"data"


def v6(transport: Any = None, src: str = "2001:db8::1", **fields: Any) -> Frame:
    return LINK / ipv6(src=src, dst="2001:db8::2", **fields) / (transport or udp(src=1, dst=2)) / b"data"


VOICE, WEB = udp(src=5, dst=20_000), tcp(src=443, dst=9, flags=16)
CASES: list[tuple[str, int, Frame, Frame]] = [
    ("a rule", INSIDE, v4(VOICE), v4(VOICE, dscp=46)),
    ("of IPv6", INSIDE, v6(VOICE), v6(VOICE, dscp=46)),
    ("in its direction only", OUTSIDE, v4(VOICE), v4(VOICE)),
    ("by prefix", OUTSIDE, v4(src="10.0.9.7"), v4(src="10.0.9.7", dscp=1)),
    ("by prefix, IPv6", OUTSIDE, v6(src="2001:db8:9::7"), v6(src="2001:db8:9::7", dscp=1)),
    ("the first that matches", INSIDE, v4(VOICE, src="10.0.9.7"), v4(VOICE, src="10.0.9.7", dscp=46)),
    ("by the mark it has", OUTSIDE, v4(dscp=46), v4(dscp=0)),
    ("by port", INSIDE, v4(WEB), v4(WEB, dscp=18)),
    ("by port, IPv6", INSIDE, v6(WEB), v6(WEB, dscp=18)),
    ("mapped", INSIDE, v4(dscp=48), v4(dscp=10)),
    ("mapped by number, IPv6", INSIDE, v6(dscp=7), v6(dscp=56)),
    ("kept", INSIDE, v4(dscp=33), v4(dscp=33)),
    ("congestion stays", INSIDE, v4(VOICE, ecn=3), v4(VOICE, ecn=3, dscp=46)),
    ("congestion and flow label stay", INSIDE, v6(VOICE, ecn=2, flow=0xfffff), v6(VOICE, ecn=2, flow=0xfffff, dscp=46)),
    ("behind options", INSIDE, LINK / ipv4(src="10.0.0.1", dst="10.0.0.2", options=bytes(8)) / VOICE,
     LINK / ipv4(src="10.0.0.1", dst="10.0.0.2", options=bytes(8), dscp=46) / VOICE),
    ("a later fragment has no ports", INSIDE, v4(bytes(8), offset=9, proto=17), v4(bytes(8), offset=9, proto=17)),
    ("a first fragment has", INSIDE, LINK / ipv6(src="2001:db8::1", dst="2001:db8::2") / fragment(more=1) / VOICE,
     LINK / ipv6(src="2001:db8::1", dst="2001:db8::2", dscp=46) / fragment(more=1) / VOICE),
    ("tagged twice", INSIDE, LINK / vlan(vid=4) / vlan(vid=5) / ipv4(src="10.0.9.1", dst="10.0.0.2") / b"x",
     LINK / vlan(vid=4) / vlan(vid=5) / ipv4(src="10.0.9.1", dst="10.0.0.2", dscp=1) / b"x"),
    ("no port to match", INSIDE, v6(icmp6(type=128)), v6(icmp6(type=128))),
    ("what is not IP", INSIDE, LINK / arp(sender_ip="10.0.9.1"), LINK / arp(sender_ip="10.0.9.1")),
]


@pytest.mark.parametrize(("port", "frame", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_becomes_of_it(port: int, frame: Frame, wanted: Frame) -> None:
    packet = Packet(bytes(frame), port)
    assert Marker(**CONFIG).run(packet) == forward(1 - port)
    assert bytes(packet) == bytes(wanted)


def test_what_is_not_what_it_says_is_not_written() -> None:
    for frame in (v4(version=5), v4(ihl=4), v6(version=4)):
        assert Marker(**CONFIG).run(Packet(bytes(frame), INSIDE)) == drop(Reason.MALFORMED)


def test_nobody_is_trusted() -> None:
    packet = Packet(bytes(v4(dscp=46)), INSIDE)
    Marker(otherwise="cs0").run(packet)
    assert bytes(packet) == bytes(v4())


def test_rules_change_and_counters_stay() -> None:
    marker = Marker(**CONFIG)
    marker.run(Packet(bytes(v4(VOICE)), INSIDE))
    marker.reconfigure(rules=[])
    marker.run(Packet(bytes(v4(VOICE)), INSIDE))
    assert [(row["dscp"], row["packets"]) for row in marker.show()] == [("cs0", 1), ("ef", 1)]
    marker.reset()
    assert marker.show() == []


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"map": {"best": "ef"}}, "map.best: 'best' is not a DSCP"),
    ({"map": {"64": "ef"}}, "map.64: '64' is not a DSCP"),
    ({"rules": [{"mark": 99}]}, r"rules\[0\].mark"),
    ({"rules": [{"mark": "ef", "source_ports": 5}]}, r"rules\[0\].source_ports: this needs protocol"),
    ({"rules": [{"mark": 0}] * 9, "most_rules": 8}, "rules: 9 rules; there is room for 8"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Marker(**values)


def test_every_target_agrees() -> None:
    agree(lambda: Marker(**CONFIG), [Arrival(bytes(frame), port) for _, port, frame, _ in CASES])


@pytest.mark.parametrize("seed", range(2))
def test_random_traffic_agrees(seed: int, nightly: bool) -> None:
    with Agreement(lambda: Marker(**CONFIG)) as found:
        found.run(traffic(seed=seed, count=20_000 if nightly else 400))
