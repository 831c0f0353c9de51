"""The mirror: what is copied, that packets go on untouched, and what becomes of copies in `egress`."""
from __future__ import annotations

from typing import Any

import pytest

from iovisor.functions.mirror import Mirror, Reason
from iovisor.language import ConfigError, Packet, drop, forward
from iovisor.testing import Agreement, Arrival, available, traffic
from iovisor.testing.packets import Frame, arp, ethernet, ipv4, ipv6, layer, tcp, udp, vlan
from iovisor.wire.gre import Erspan, Gre, GreWord

INSIDE, OUTSIDE, MONITOR = 0, 1, 2
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
TUNNEL: dict[str, Any] = {"source": "192.0.2.1", "destination": "192.0.2.9", "sender": "02:00:00:00:00:0a",
                          "gateway": "02:00:00:00:00:0b", "session": 7, "dscp": "cs1"}
TUNNEL6 = TUNNEL | {"source": "2001:db8::a", "destination": "2001:db8::b"}
WEB = LINK / ipv4(src="10.0.0.1", dst="10.0.0.2") / tcp(src=5, dst=80) / b"get"
WEB6 = LINK / ipv6(src="2001:db8::1", dst="2001:db8::2") / tcp(src=5, dst=80) / b"get"
DNS = LINK / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=5, dst=53) / b"who"
ARP = LINK / arp(sender_ip="10.0.0.1")


def copies(mirror: Mirror, frame: Frame, port: int = INSIDE, copied: bool = False) -> list[tuple[int, bytes]]:
    """What was copied; the packet itself goes on as it was."""
    packet = Packet(bytes(frame), port)
    packet.copied = copied
    assert mirror.run(packet) == forward(1 - port)
    assert bytes(packet) == bytes(frame)
    return packet.copies


@pytest.mark.parametrize("frame", [WEB, WEB6, ARP, LINK / vlan(vid=5) / ipv4(src="10.0.0.1", dst="10.0.0.2")])
@pytest.mark.parametrize("port", [INSIDE, OUTSIDE])
def test_everything(frame: Frame, port: int) -> None:
    mirror = Mirror()
    assert copies(mirror, frame, port) == [(MONITOR, bytes(frame))]
    assert [(row["packets"], row["lost"]) for row in mirror.show()] == ([(1, 0), (0, 0)], [(0, 0), (1, 0)])[port]


def test_no_copy_of_a_copy() -> None:
    assert copies(Mirror(), WEB, copied=True) == []


def test_nothing_comes_in_at_the_monitor() -> None:
    assert Mirror().run(Packet(bytes(WEB), MONITOR)) == drop(Reason.FROM_MONITOR)


@pytest.mark.parametrize(("config", "wanted"), [
    ({"filter": [{"protocol": "tcp", "destination_ports": 80}]}, [WEB, WEB6]),
    ({"filter": [{"source": "10.0.0.0/8"}]}, [WEB, DNS]),
    ({"filter": [{"destination": "2001:db8::/32"}, {"protocol": "udp"}]}, [WEB6, DNS]),
    ({"filter": [{"direction": "in"}]}, []),
    ({"direction": "in"}, []),
    ({"direction": "out"}, [WEB, WEB6, DNS, ARP]),
])
def test_a_filter(config: dict[str, Any], wanted: list[Frame]) -> None:
    mirror = Mirror(**config)
    assert [frame for frame in (WEB, WEB6, DNS, ARP) if copies(mirror, frame)] == wanted


def test_a_sample() -> None:
    mirror = Mirror(sample=10)
    found = sum(len(copies(mirror, WEB)) for _ in range(5_000))
    assert 350 < found < 650


def shaped(frame: Frame | bytes, segment: int = 0, **config: Any) -> bytes:
    """What leaves by the monitor port."""
    packet = Packet(bytes(frame), MONITOR)
    packet.segment = segment
    assert Mirror(**config).run(packet, "egress") == forward(MONITOR)
    return bytes(packet)


def test_cut_short() -> None:
    long = bytes(WEB / bytes(500))
    assert shaped(long, truncate=128) == long[:128]
    assert shaped(WEB, truncate=128) == bytes(WEB)
    assert shaped(long) == long


def test_other_ports_see_nothing_of_it() -> None:
    packet = Packet(bytes(WEB / bytes(500)), OUTSIDE)
    assert Mirror(truncate=128, encapsulation="gre", **TUNNEL).run(packet, "egress") == forward(OUTSIDE)
    assert bytes(packet) == bytes(WEB / bytes(500))


def head(six: bool) -> Frame:
    link = ethernet(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a")
    return link / ipv6(src="2001:db8::a", dst="2001:db8::b", next=47, dscp=8) if six else \
        link / ipv4(src="192.0.2.1", dst="192.0.2.9", proto=47, df=1, dscp=8)


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("frame", [WEB, WEB6, ARP])
def test_in_gre(six: bool, frame: Frame) -> None:
    wanted = head(six) / layer(Gre, keyed=1, type=0x6558) / layer(GreWord, value=7) / bytes(frame)
    assert shaped(frame, encapsulation="gre", **(TUNNEL6 if six else TUNNEL)) == bytes(wanted)


@pytest.mark.parametrize("six", [False, True])
def test_in_erspan(six: bool) -> None:
    """The sequence counts, the outer tag is told and not copied, and what is cut is said to be."""
    mirror = Mirror(encapsulation="erspan", **(TUNNEL6 if six else TUNNEL))
    tagged = LINK / vlan(vid=5) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2)
    bare = LINK / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2)
    for number, (frame, inner, fields) in enumerate([
            (WEB, bytes(WEB), {}), (tagged, bytes(bare), {"vlan": 5, "encapsulation": 3}),
            (WEB / bytes(1_500), bytes(WEB / bytes(1_500))[:1_400], {"truncated": 1})]):
        packet = Packet(bytes(frame), MONITOR)
        assert mirror.run(packet, "egress") == forward(MONITOR)
        wanted = head(six) / layer(Gre, sequenced=1, type=0x88be) / layer(GreWord, value=number) \
            / layer(Erspan, session=7, **fields) / inner
        assert bytes(packet) == bytes(wanted)


def test_an_aggregate_becomes_one_frame_in_a_tunnel() -> None:
    found = shaped(WEB / bytes(900), segment=400, encapsulation="gre", **TUNNEL)
    assert found[42:] == bytes(WEB / bytes(900))


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sample": 0}, "sample: one in 0 is none"),
    ({"truncate": 64}, "truncate: 64 bytes are less than 128"),
    ({"encapsulation": "gre"}, "source: a tunnel needs this"),
    ({"encapsulation": "gre", **TUNNEL, "source": "here"}, "source: 'here' does not appear"),
    ({"encapsulation": "gre", **TUNNEL, "source": "::1"}, "destination: a tunnel is over IPv4 or over IPv6"),
    ({"encapsulation": "gre", **TUNNEL, "truncate": 2_000}, "truncate: in a tunnel, 1900"),
    ({"filter": [{"source_ports": 80}]}, r"filter\[0\].source_ports: this needs protocol"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mirror(**values)


TARGETS = [target for target in available() if target != "xdp"]         # where nobody makes copies
KINDS: list[dict[str, Any]] = [
    {"sample": 2}, {"truncate": 128, "filter": [{"protocol": "udp"}, {"source": "2001:db8::/32"}]},
    {"encapsulation": "erspan", **TUNNEL}, {"encapsulation": "gre", **TUNNEL6}]


@pytest.mark.parametrize("config", KINDS, ids=["sample", "filter", "erspan", "gre"])
def test_every_target_agrees(config: dict[str, Any], nightly: bool) -> None:
    with Agreement(lambda: Mirror(**config), TARGETS, ("ingress", "egress")) as found:
        found.run(Arrival(bytes(frame), port, entry) for frame in (WEB, WEB6, DNS, ARP, WEB / bytes(1_400))
                  for port in (INSIDE, OUTSIDE, MONITOR) for entry in ("ingress", "egress"))
        found.run(traffic(seed=4, count=20_000 if nightly else 200, entries=("ingress", "egress")))
