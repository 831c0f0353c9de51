"""What the firewall says about packets: answers to their senders, byte for byte, and reports to people."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.firewall import Firewall, Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward
from iovisor.parts.reports import Report
from iovisor.parts.rules import Action
from iovisor.testing import Agreement, Arrival, Frame, available, describe, traffic
from iovisor.testing.packets import (
    Layer,
    destination,
    ethernet,
    fragment,
    icmp,
    icmp6,
    ipv4,
    ipv6,
    tcp,
    trailer,
    udp,
    vlan,
)

INSIDE, OUTSIDE = 0, 1
S, A, R = 2, 16, 4
RULES: list[dict[str, Any]] = [
    {"name": "no mail", "action": "reject", "protocol": "tcp", "destination_ports": 25, "log": True},
    {"name": "no datagrams", "action": "reject", "protocol": "udp"},
    {"name": "no ping", "action": "reject", "protocol": "icmp"},
    {"name": "no ping 6", "action": "reject", "protocol": "icmp6"},
    {"name": "quiet", "action": "drop", "protocol": 47, "log": True},
    {"name": "out", "action": "accept", "direction": "out"}]


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def there(**fields: Any) -> Layer:
    return ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01", **fields)


def back(**fields: Any) -> Layer:
    return ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", **fields)


ASKING, ASKING6 = ipv4(src="10.0.0.1", dst="192.0.2.2"), ipv6(src="2001:db8::1", dst="2001:db8:1::2")
RESET, TOLD = ipv4(src="192.0.2.2", dst="10.0.0.1", df=1), ipv4(src="192.0.2.2", dst="10.0.0.1", dscp=48)
TOLD6 = ipv6(src="2001:db8:1::2", dst="2001:db8::1")


def syn(flags: int = S, sequence: int = 0xffff_ffff, acknowledgment: int = 0) -> Layer:
    return tcp(src=4000, dst=25, flags=flags, sequence=sequence, acknowledgment=acknowledgment, window=1000)


def reset(flags: int = R | A, sequence: int = 0, acknowledgment: int = 0) -> Layer:
    return tcp(src=25, dst=4000, flags=flags, sequence=sequence, acknowledgment=acknowledgment)


def quoted(frame: Frame, most: int, start: int = 14) -> bytes:
    return bytes(frame)[start:start + most]


QUERY = there() / ASKING / udp(src=5000, dst=53) / bytes(range(40))
LONG = there() / ASKING / udp(src=5000, dst=53) / bytes(1400)
QUERY6 = there() / ASKING6 / udp(src=5000, dst=53) / bytes(range(40))
LONG6 = there() / ASKING6 / udp(src=5000, dst=53) / bytes(1400)
OPTIONS = there() / ipv4(src="10.0.0.1", dst="192.0.2.2", options=bytes([1] * 8)) / udp(src=5000, dst=53) / bytes(9)
BEHIND = there() / ASKING6 / destination(options=bytes(14)) / udp(src=5000, dst=53) / bytes(40)
TAGGED = there() / vlan(vid=7, pcp=5) / ASKING / udp(src=5000, dst=53) / bytes(40)
FIRST = there() / ipv4(src="10.0.0.1", dst="192.0.2.2", mf=1, id=3) / udp(src=5000, dst=53) / bytes(40)
PING, PING6 = there() / ASKING / icmp() / bytes(40), there() / ASKING6 / icmp6() / bytes(40)
PADDED = there() / ASKING / udp(src=5000, dst=53) / b"x" / trailer(17)

ANSWERS: list[tuple[str, Frame, Frame]] = [
    ("a SYN", there() / ASKING / syn(), back() / RESET / reset()),
    ("a SYN with data and options",
     there() / ASKING / tcp(src=4000, dst=25, flags=S, sequence=7, options=bytes([1] * 8)) / bytes(10),
     back() / RESET / reset(acknowledgment=18)),
    ("a SYN over IPv6", there() / ASKING6 / syn(sequence=100), back() / TOLD6 / reset(acknowledgment=101)),
    ("behind IPv4 options", there() / ipv4(src="10.0.0.1", dst="192.0.2.2", options=bytes([1] * 40)) / syn(sequence=1),
     back() / RESET / reset(acknowledgment=2)),
    ("a datagram", QUERY, back() / TOLD / icmp(type=3, code=13) / quoted(QUERY, 548)),
    ("a long datagram", LONG, back() / TOLD / icmp(type=3, code=13) / quoted(LONG, 548)),
    ("a datagram over IPv6", QUERY6, back() / TOLD6 / icmp6(type=1, code=1) / quoted(QUERY6, 1232)),
    ("a long datagram over IPv6", LONG6, back() / TOLD6 / icmp6(type=1, code=1) / quoted(LONG6, 1232)),
    ("a datagram behind options", OPTIONS, back() / TOLD / icmp(type=3, code=13) / quoted(OPTIONS, 548)),
    ("behind an extension header", BEHIND, back() / TOLD6 / icmp6(type=1, code=1) / quoted(BEHIND, 1232)),
    ("a SYN with data behind an extension header", there() / ASKING6 / destination() / syn(sequence=9) / bytes(5),
     back() / TOLD6 / reset(acknowledgment=15)),
    ("in a VLAN", TAGGED, back() / vlan(vid=7, pcp=5) / TOLD / icmp(type=3, code=13) / quoted(TAGGED, 548, 18)),
    ("a first fragment", FIRST, back() / TOLD / icmp(type=3, code=13) / quoted(FIRST, 548)),
    ("a ping", PING, back() / TOLD / icmp(type=3, code=13) / quoted(PING, 548)),
    ("a ping over IPv6", PING6, back() / TOLD6 / icmp6(type=1, code=1) / quoted(PING6, 1232)),
    ("padding is not quoted", PADDED, back() / TOLD / icmp(type=3, code=13) / quoted(PADDED, 29)),
]
SILENCE: list[tuple[str, Frame]] = [
    ("for everybody", ethernet(dst="ff:ff:ff:ff:ff:ff", src=1) / ASKING / udp(src=1, dst=2)),
    ("for a group",
     ethernet(dst="01:00:5e:00:00:01", src=1) / ipv4(src="10.0.0.1", dst="224.0.0.1") / udp(src=1, dst=2)),
    ("for a group, IPv6", there() / ipv6(src="2001:db8::1", dst="ff02::1") / udp(src=1, dst=2)),
    ("for the broadcast address", there() / ipv4(src="10.0.0.1", dst="255.255.255.255") / udp(src=1, dst=2)),
    ("from nobody", there() / ipv4(src=0, dst="192.0.2.2") / udp(src=68, dst=67)),
    ("from nobody, IPv6", there() / ipv6(src=0, dst="2001:db8::1") / udp(src=68, dst=67)),
    ("with a tag within a tag", there() / vlan(vid=7) / vlan(vid=8) / ASKING / udp(src=1, dst=2)),
    ("a redirect", there() / ASKING / icmp(type=5) / bytes(28)),
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    targets = [target for target in available() if target != "xdp"]
    with Agreement(lambda: Firewall(rules=RULES), targets, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


@pytest.mark.parametrize("port", [INSIDE, OUTSIDE])
@pytest.mark.parametrize(("sent", "answer"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
def test_answers(sent: Frame, answer: Frame, port: int) -> None:
    wall = Firewall(rules=RULES)
    packet = Packet(bytes(sent), port)
    assert wall.run(packet) == forward(port)
    assert bytes(packet) == bytes(answer), describe(bytes(packet))
    assert wall.listing() == [] and wall.drops == {}


@pytest.mark.parametrize("sent", [case[1] for case in SILENCE], ids=[case[0] for case in SILENCE])
def test_what_is_not_answered(sent: Frame) -> None:
    assert Firewall(rules=RULES).run(Packet(bytes(sent), INSIDE)) == drop(Reason.RULE)


def test_every_target_answers_the_same(session: Agreement, nightly: bool) -> None:
    frames = [Arrival(bytes(frame), port) for port in (0, 1) for frame in (*(case[1] for case in ANSWERS),
                                                                           *(case[1] for case in SILENCE))]
    session.run(frames)
    session.run([*frames * 8, Arrival(bytes(QUERY), after=SECOND // 100)])          # more than may be answered
    for seed in range(5 if nightly else 1):
        session.run(traffic(f"answers {seed}", 20_000 if nightly else 2_000, ports=2))


def test_a_session_is_reset_when_a_rule_comes() -> None:
    wall = Firewall(rules=RULES[-1:])
    answer = tcp(src=25, dst=4000, flags=S | A, sequence=500, acknowledgment=101, window=1000)
    for frame, port in ((there() / ASKING / syn(sequence=100), 0),
                        (back() / ipv4(src="192.0.2.2", dst="10.0.0.1") / answer, 1),
                        (there() / ASKING / syn(flags=A, sequence=101, acknowledgment=501), 0)):
        assert wall.run(Packet(bytes(frame), port)) == forward(1 - port)
    wall.reconfigure(rules=RULES)
    packet = Packet(bytes(there() / ASKING / syn(flags=A, sequence=101, acknowledgment=501) / b"more"), 0)
    assert wall.run(packet) == forward(INSIDE)
    assert bytes(packet) == bytes(back() / RESET / reset(R, 501))


def test_a_later_fragment_finds_no_first() -> None:
    wall = Firewall(rules=RULES)
    assert wall.run(Packet(bytes(FIRST), INSIDE)) == forward(INSIDE)
    later = there() / ipv4(src="10.0.0.1", dst="192.0.2.2", offset=6, id=3, proto=17) / bytes(40)
    assert wall.run(Packet(bytes(later), INSIDE)).kind == 0
    six = there() / ASKING6 / fragment(offset=6, id=3, next=17) / bytes(40)
    assert wall.run(Packet(bytes(six), INSIDE)).kind == 0


def test_answers_are_limited() -> None:
    wall = Firewall(rules=RULES, rejections=5)
    answered, silent = forward(INSIDE), drop(Reason.RULE)
    assert [wall.run(Packet(bytes(QUERY))) for _ in range(8)] == [answered] * 5 + [silent] * 3
    assert wall.run(Packet(bytes(QUERY), OUTSIDE)) == forward(OUTSIDE), "the other side has its own"
    Clock.advance(SECOND // 5)
    assert [wall.run(Packet(bytes(QUERY))) for _ in range(2)] == [answered, silent]
    assert {row["name"]: row["packets"] for row in wall.show()}["no datagrams"] == 11
    assert Firewall(rules=RULES, rejections=0).run(Packet(bytes(QUERY))) == silent


def test_reject_by_default() -> None:
    wall = Firewall(default="reject")
    packet = Packet(bytes(there() / ASKING / syn()), OUTSIDE)
    assert wall.run(packet) == forward(OUTSIDE) and bytes(packet) == bytes(back() / RESET / reset())
    with pytest.raises(ConfigError, match="only first packets are answered"):
        Firewall(related="reject")


# -- reports -----------------------------------------------------------------------------------------------------------


GRE = there() / ipv4(src="10.0.0.1", dst="192.0.2.2", proto=47) / bytes(20)


def hear(wall: Firewall, frame: Frame, port: int = INSIDE) -> list[Report]:
    """Run a packet and give what it tells to the handlers."""
    packet = Packet(bytes(frame), port)
    copy = Packet(bytes(frame), port)
    wall.run(packet)
    for event in packet.told:
        assert isinstance(event, Report)
        wall.on_report(event, copy)
    return packet.told  # type: ignore[return-value]


def test_a_report_says_what_was_decided() -> None:
    wall = Firewall(rules=RULES)
    assert hear(wall, QUERY) == [], "only rules with `log` are reported"
    (report,) = hear(wall, there() / ASKING / syn(), OUTSIDE)
    assert (report.decision, report.missed) == (Action.REJECT, 0)
    assert len(hear(wall, GRE)) == 1
    first, second = wall.reported()
    assert {key: first[key] for key in ("rule", "action", "direction", "missed")} == {
        "rule": "no mail", "action": "reject", "direction": "in", "missed": 0}
    assert "src=10.0.0.1, dst=192.0.2.2" in first["packet"] and "dst=25" in first["packet"]
    assert (second["rule"], second["action"], second["direction"]) == ("quiet", "drop", "out")


def test_reports_are_limited_rule_by_rule_and_count_what_they_miss() -> None:
    wall = Firewall(rules=RULES, reports=2)
    assert [len(hear(wall, GRE)) for _ in range(5)] == [1, 1, 0, 0, 0]
    assert [report.missed for report in hear(wall, there() / ASKING / syn())] == [0]
    Clock.advance(SECOND // 2)
    assert [report.missed for report in hear(wall, GRE)] == [3]
    assert wall.reported()[-1]["missed"] == 3
    assert [row["packets"] for row in wall.show() if row["name"] == "quiet"] == [6]


def test_one_of_so_many_is_reported() -> None:
    wall = Firewall(rules=RULES, report_every=3, reports=100)
    assert [[report.missed for report in hear(wall, GRE)] for _ in range(7)] == [[], [], [2], [], [], [2], []]
    with pytest.raises(ConfigError, match="report_every"):
        Firewall(report_every=0)


def test_logging_is_turned_on_and_off_without_a_new_set_of_rules() -> None:
    wall = Firewall(rules=RULES)
    active = wall.rules.active[0]
    wall.reconfigure(rules=[{**rule, "log": not rule.get("log")} for rule in RULES])
    assert wall.rules.active[0] == active
    assert hear(wall, GRE) == []
    assert len(hear(wall, QUERY)) == 1
    assert wall.reported()[-1]["rule"] == "no datagrams"


def test_a_report_of_a_rule_that_has_gone_says_nothing() -> None:
    wall = Firewall(rules=RULES)
    packet = Packet(bytes(GRE))
    wall.run(packet)
    wall.reconfigure(rules=[])
    for event in packet.told:
        wall.on_report(event, packet)  # type: ignore[arg-type]
    assert packet.told and wall.reported() == []
