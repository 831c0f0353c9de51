"""The stateful firewall, exact packet by exact packet: each case is a conversation and what becomes of every packet.

The numbers are those of the requirements ("Stateful firewall" 01 to 10, CT-01 to 03).  Every conversation is held in
CPython, which must answer as written, and again through `agree`, so that native code and the kernel answer the same and
end with the same tables.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.firewall import Firewall, Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward
from iovisor.parts.connections import State, Untracked
from iovisor.parts.reading import Unreadable
from iovisor.testing import Agreement, Arrival, Frame, available, traffic
from iovisor.testing.packets import Layer, ethernet, fragment, icmp, icmp6, ipv4, ipv6, tcp, udp, vlan

INSIDE, OUTSIDE = 0, 1
S, A, F, R, P = 2, 16, 1, 4, 8
PASS = 0
OUT = [{"action": "accept", "direction": "out"}]
SCALE7, SCALE0, TIMES = bytes([1, 3, 3, 7]), bytes([1, 3, 3, 0]), bytes([1, 1, 8, 10]) + bytes(8)


@dataclass(frozen=True)
class Step:
    """A packet out (of the inside) or in, `after` seconds, and the reason it is dropped for; `PASS` if it passes."""

    frame: bytes
    port: int
    expected: int
    after: int = 0


def link() -> Layer:
    return ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def out(transport: Any, expected: int = PASS, after: int = 0, six: bool = False, **fields: Any) -> Step:
    ip = ipv6(src="2001:db8::1", dst="2001:db8:1::2", **fields) if six else \
        ipv4(src="10.0.0.1", dst="192.0.2.2", **fields)
    return Step(bytes(link() / ip / transport), INSIDE, expected, after)


def into(transport: Any, expected: int = PASS, after: int = 0, six: bool = False, **fields: Any) -> Step:
    ip = ipv6(src="2001:db8:1::2", dst="2001:db8::1", **fields) if six else \
        ipv4(src="192.0.2.2", dst="10.0.0.1", **fields)
    return Step(bytes(link() / ip / transport), OUTSIDE, expected, after)


def client(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, window: int = 1000, options: bytes = b"",
           **fields: int) -> Frame:
    return tcp(src=4000, dst=80, flags=flags, sequence=sequence, acknowledgment=acknowledgment, window=window,
               options=options, **fields) / bytes(data)


def server(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, window: int = 1000, options: bytes = b"",
           **fields: int) -> Frame:
    return tcp(src=80, dst=4000, flags=flags, sequence=sequence, acknowledgment=acknowledgment, window=window,
               options=options, **fields) / bytes(data)


def opened(six: bool = False, options: bytes = b"") -> list[Step]:
    """A handshake: the client's next byte is 101, the server's 501."""
    return [out(client(S, 100, options=options), six=six), into(server(S | A, 500, 101, options=options), six=six),
            out(client(A, 101, 501), six=six)]


def closed() -> list[Step]:
    return [*opened(), out(client(F | A, 101, 501)), into(server(F | A, 501, 102)), out(client(A, 102, 502))]


QUERY = icmp(type=8, rest=7 << 16 | 1) / b"ping"
REPLY = icmp(type=0, rest=7 << 16 | 1) / b"ping"
ASK, ANSWER = udp(src=5000, dst=53) / b"ask", udp(src=53, dst=5000) / b"answer"


def quote(step: Step, length: int = 28) -> bytes:
    return step.frame[14:14 + length]


CASES: dict[str, list[Step]] = {
    "01 an unsolicited SYN": [into(server(S, 1), Reason.DEFAULT)],
    "01 unsolicited UDP": [into(ANSWER, Reason.DEFAULT)],
    "01 an unsolicited echo": [into(QUERY, Reason.DEFAULT)],
    "a handshake, data, v4": [*opened(), out(client(A | P, 101, 501, 10)), into(server(A | P, 501, 111, 900))],
    "a handshake, data, v6": [*opened(True), out(client(A | P, 101, 501, 10), six=True),
                              into(server(A | P, 501, 111, 900), six=True)],
    "02 a blind reset": [*opened(), into(server(R, 90_000), Untracked.OUT_OF_WINDOW),
                         into(server(A, 501, 101, 5))],
    "02 a reset in the window closes if exact": [*opened(), into(server(R, 501)),
                                                 into(server(S, 700), Reason.DEFAULT)],
    "02 another in the window is for the host to challenge": [
        *opened(), into(server(R, 600)), out(client(A, 101, 501)), into(server(A, 501, 101, 5))],
    "02 a reset behind data that was not acknowledged": [
        *opened(), into(server(A | P, 501, 101, 100)), into(server(R, 601)), out(client(S, 5000))],
    "02 refused": [out(client(S, 100)), into(server(R | A, 0, 101)), out(client(S, 300))],
    "02 refused, blind": [out(client(S, 100)), into(server(R | A, 0, 99), Untracked.OUT_OF_STATE),
                          into(server(R, 0), Untracked.OUT_OF_STATE), into(server(S | A, 500, 101))],
    "03 data beyond the window": [*opened(), into(server(A, 501, 101, 1000)),
                                  into(server(A, 1501, 101, 1), Untracked.OUT_OF_WINDOW)],
    "03 data older than a window": [*opened(), into(server(A, 501, 101, 1000)), out(client(A, 101, 1501)),
                                    into(server(A, 501, 101, 1000)),
                                    into(server(A, 0xffff0000, 101, 5), Untracked.OUT_OF_WINDOW)],
    "04 an acknowledgment of unsent data": [*opened(), into(server(A, 501, 102), Untracked.UNSENT_ACK),
                                            out(client(A, 101, 502), Untracked.UNSENT_ACK)],
    "05 stray SYN and ACK": [out(client(S | A, 1, 1), Untracked.OUT_OF_STATE)],
    "05 stray FIN": [out(client(F | A, 1, 1), Untracked.OUT_OF_STATE)],
    "05 stray ACK": [out(client(A, 1, 1), Untracked.OUT_OF_STATE)],
    "05 stray RST": [out(client(R, 1), Untracked.OUT_OF_STATE)],
    "05 xmas": [out(client(F | P | 32, 1), Untracked.ILLEGAL_FLAGS)],
    "05 null": [out(client(0, 1), Untracked.ILLEGAL_FLAGS)],
    "06 SYN and FIN": [out(client(S | F, 1), Untracked.ILLEGAL_FLAGS),
                       into(server(S | A, 1, 2), Untracked.OUT_OF_STATE)],
    "06 SYN and RST": [out(client(S | R, 1), Untracked.ILLEGAL_FLAGS)],
    "06 FIN without ACK": [out(client(F, 1), Untracked.ILLEGAL_FLAGS)],
    "07 a wrong checksum": [out(client(S, 1, checksum=0x1234), Untracked.BAD_CHECKSUM),
                            into(server(S | A, 5, 2), Untracked.OUT_OF_STATE)],
    "07 a wrong checksum, options": [out(client(S, 1, options=SCALE7, checksum=0x1234), Untracked.BAD_CHECKSUM)],
    "07 a wrong checksum closes nothing": [*opened(), into(server(R, 501, checksum=1), Untracked.BAD_CHECKSUM),
                                           into(server(A, 501, 101, 5))],
    "07 options and a right one": [out(client(S, 1, options=TIMES + SCALE7))],
    "08 an orderly close, and open again": [
        *closed(), out(client(S, 9000)), into(server(S | A, 7000, 9001)), out(client(A, 9001, 7001)),
        into(server(A, 7001, 9001, 5))],
    "08 one side may stay open": [
        *opened(), out(client(F | A, 101, 501)), into(server(A, 501, 102, 500)), out(client(A, 102, 1001)),
        into(server(F | A, 1001, 102)), out(client(A, 102, 1002))],
    "09 a tiny fragment": [out(bytes(16), Unreadable.TINY_FRAGMENT, proto=6, mf=1)],
    "09 an overlapping fragment": [out(bytes(40), Unreadable.OVERLAPPING_FRAGMENT, proto=6, offset=1)],
    "10 a stray echo reply": [into(REPLY, Untracked.UNASKED), out(REPLY, Untracked.UNASKED)],
    "CT-01 a scaled window": [
        *opened(options=SCALE7)[:2], out(client(A, 101, 501, window=100)),
        into(server(A, 501 + 12_799, 101, 1)), into(server(A, 501 + 12_800, 101, 1), Untracked.OUT_OF_WINDOW)],
    "CT-01 scaled by one end only": [
        out(client(S, 100, options=SCALE7)), into(server(S | A, 500, 101)), out(client(A, 101, 501, window=100)),
        into(server(A, 501 + 999, 101, 1)), into(server(A, 501 + 1000, 101, 1), Untracked.OUT_OF_WINDOW)],
    "CT-01 a scale of 14 at most": [
        *opened(options=bytes([3, 3, 99, 1]))[:2], out(client(A, 101, 501, window=1)),
        into(server(A, 501 + 16_383, 101, 1)), into(server(A, 501 + 16_384, 101, 1), Untracked.OUT_OF_WINDOW)],
    "a probe of a window that is zero": [
        *opened(), into(server(A, 501, 101, 1000)), out(client(A, 101, 1501, window=0)), into(server(A, 1501, 101, 1)),
        into(server(A, 1501, 101, 2), Untracked.OUT_OF_WINDOW)],
    "CT-02 a SYN after the end, higher": [*closed(), out(client(S, 103)), into(server(S | A, 900, 104))],
    "CT-02 a SYN after the end, lower": [*closed(), out(client(S, 90), Untracked.OUT_OF_WINDOW)],
    "a SYN in a living connection is challenged": [
        *opened(), out(client(S, 90_000)), into(server(A, 501, 101)), out(client(R, 101)),
        out(client(S, 90_000)), into(server(S | A, 1, 90_001))],
    "a SYN in a living connection whose server forgot": [
        *opened(), out(client(S, 90_000)), into(server(S | A, 7, 90_001)), out(client(A, 90_001, 8)),
        into(server(A, 8, 90_001, 10))],
    "an answer to another SYN": [out(client(S, 100)), into(server(S | A, 500, 100), Untracked.UNSENT_ACK),
                                 into(server(S | A, 500, 102), Untracked.UNSENT_ACK)],
    "both open": [out(client(S, 100)), into(server(S, 500)), out(client(S | A, 100, 501)),
                  into(server(S | A, 500, 101)), out(client(A, 101, 501, 3)), into(server(A, 501, 104, 3))],
    "a SYN again, with another number": [out(client(S, 100)), out(client(S, 200)),
                                         into(server(S | A, 500, 101), Untracked.UNSENT_ACK),
                                         into(server(S | A, 500, 201))],
    "half-open for 30 seconds": [out(client(S, 100)), into(server(S | A, 500, 101), Untracked.OUT_OF_STATE, after=32)],
    "established for two hours": [*opened(), into(server(A, 501, 101, 1), after=7_400)],
    "and four minutes": [*opened(), into(server(A, 501, 101, 1), Untracked.OUT_OF_STATE, after=7_442)],
    "UDP and its answer": [out(ASK), into(ANSWER), into(ANSWER, after=299),
                           into(ANSWER, Reason.DEFAULT, after=302)],
    "UDP from another port": [out(ASK), into(udp(src=54, dst=5000) / b"x", Reason.DEFAULT)],
    "ping": [out(QUERY), into(REPLY), into(REPLY, after=59), into(QUERY, Untracked.UNASKED),
             out(REPLY, Untracked.UNASKED), into(REPLY, Untracked.UNASKED, after=62)],
    "ping, v6": [out(icmp6(type=128, rest=7 << 16), six=True), into(icmp6(type=129, rest=7 << 16), six=True),
                 into(icmp6(type=129, rest=8 << 16), Untracked.UNASKED, six=True)],
    "timestamp": [out(icmp(type=13, rest=9) / bytes(12)), into(icmp(type=14, rest=9) / bytes(12)),
                  into(icmp(type=0, rest=9), Untracked.UNASKED)],
    "an error about UDP": [out(ASK), into(icmp(type=3, code=3) / quote(out(ASK)))],
    "an error about nothing": [into(icmp(type=3, code=3) / quote(out(ASK)), Untracked.UNRELATED)],
    "an error for somebody else": [out(ASK), into(icmp(type=3, code=3) / quote(into(ANSWER)), Untracked.UNRELATED)],
    "an error from the wrong side": [out(ASK), out(icmp(type=3, code=3) / quote(into(ANSWER))),
                                     Step(into(icmp(type=3) / quote(out(ASK))).frame, INSIDE, Reason.WRONG_SIDE)],
    "too big, about TCP": [*opened(), out(client(A, 101, 501, 500)),
                           into(icmp(type=3, code=4, rest=1400) / quote(out(client(A, 101, 501, 500))))],
    "too big, forged": [*opened(), into(icmp(type=3, code=4, rest=68) / quote(out(client(A, 90_000, 501))),
                                        Untracked.UNRELATED)],
    "too big, v6": [*opened(True), into(icmp6(type=2, rest=1280) / quote(out(client(A, 101, 501), six=True), 60),
                                        six=True)],
    "an error about a ping": [out(QUERY), into(icmp(type=11) / quote(out(QUERY)))],
    "the sender's address from the other side": [*opened(), Step(out(client(A, 101, 501)).frame, OUTSIDE,
                                                                 Reason.WRONG_SIDE)],
    "fragments follow the first": [
        out(bytes(udp(src=1, dst=2, length=48) / bytes(16)), proto=17, mf=1, id=9),
        out(bytes(24), proto=17, offset=3, id=9), out(bytes(24), Untracked.UNKNOWN_FRAGMENT, proto=17, offset=3, id=8),
        into(bytes(24), Untracked.UNKNOWN_FRAGMENT, proto=17, offset=3, id=9)],
    "fragments follow the first, v6": [
        out(fragment(offset=0, more=1, id=0x12345678, next=17) / bytes(udp(src=1, dst=2, length=48) / bytes(16)),
            six=True),
        out(fragment(offset=3, more=0, id=0x12345678, next=17) / bytes(24), six=True),
        out(fragment(offset=3, more=0, id=0x12345679, next=17) / bytes(24), Untracked.UNKNOWN_FRAGMENT, six=True)],
    "GRE": [out(bytes(8), proto=47), into(bytes(8), proto=47), into(bytes(8), Reason.DEFAULT, proto=50)],
    "an IPv4 address in IPv6": [Step(bytes(link() / ipv6(src="::ffff:10.0.0.1", dst="2001:db8::1") / ASK), INSIDE,
                                     Unreadable.MALFORMED)],
    "VLANs are apart": [
        Step(bytes(ethernet(dst=2, src=1) / vlan(vid=5) / ipv4(src="10.0.0.1", dst="192.0.2.2") / ASK), INSIDE, PASS),
        into(ANSWER, Reason.DEFAULT),
        Step(bytes(ethernet(dst=2, src=1) / vlan(vid=6) / ipv4(src="192.0.2.2", dst="10.0.0.1") / ANSWER), OUTSIDE,
             Reason.DEFAULT),
        Step(bytes(ethernet(dst=2, src=1) / vlan(vid=5) / ipv4(src="192.0.2.2", dst="10.0.0.1") / ANSWER), OUTSIDE,
             PASS)],
    "ARP": [Step(bytes(ethernet(dst=2, src=1, type=0x806) / bytes(28)), OUTSIDE, PASS)],
    "what is neither": [Step(bytes(ethernet(dst=2, src=1, type=0x88b5) / bytes(28)), OUTSIDE, Reason.OTHER)],
}


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    targets = [target for target in available() if target != "xdp"]
    with Agreement(lambda: Firewall(rules=OUT), targets, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


def hold(wall: Firewall, steps: list[Step]) -> None:
    """A conversation in CPython."""
    for number, step in enumerate(steps):
        Clock.advance(step.after * SECOND)
        packet = Packet(step.frame, step.port)
        wanted = forward(1 - step.port) if step.expected == PASS else drop(step.expected)
        verdict = wall.run(packet)
        names = wall.spec().reasons
        assert verdict == wanted, (number, verdict, names.get(verdict.argument), names.get(step.expected))
        assert bytes(packet) == step.frame, "a firewall changes nothing"


@pytest.mark.parametrize("name", CASES)
def test_conversations(name: str, session: Agreement) -> None:
    hold(Firewall(rules=OUT), CASES[name])
    session.run([Arrival(step.frame, step.port, after=step.after * SECOND) for step in CASES[name]])


def test_random_packets(session: Agreement, nightly: bool) -> None:
    for seed in range(20 if nightly else 1):
        session.run(traffic(f"firewall {seed}", 20_000 if nightly else 2_500, ports=2))


# -- rules -------------------------------------------------------------------------------------------------------------

SYN, DNS = out(client(S, 1)), out(ASK)
SIX = out(client(S, 1), six=True)
WEB = {"action": "accept", "protocol": "tcp", "destination_ports": 80}
RULES: list[tuple[str, list[dict[str, Any]], Step, bool]] = [
    ("no rules", [], SYN, False),
    ("a rule that says nothing", [{"action": "accept"}], SYN, True),
    ("the first decides", [{"action": "drop"}, {"action": "accept"}], SYN, False),
    ("priority before place", [{"action": "drop", "priority": 5}, {"action": "accept", "priority": 4}], SYN, True),
    ("direction", [{"action": "accept", "direction": "in"}], SYN, False),
    ("protocol and port", [WEB], SYN, True),
    ("another protocol", [WEB], DNS, False),
    ("another port", [WEB | {"destination_ports": 81}], SYN, False),
    ("a range, first", [WEB | {"destination_ports": "80-90"}], SYN, True),
    ("a range, last", [WEB | {"destination_ports": "70-80"}], SYN, True),
    ("a range, outside", [WEB | {"destination_ports": "81-65535"}], SYN, False),
    ("a list of ranges", [WEB | {"destination_ports": [22, "70-75", "79-80"]}], SYN, True),
    ("the source port", [WEB | {"source_ports": "1024-65535"}], SYN, True),
    ("a set of ports", [WEB | {"destination_ports": "web"}], SYN, True),
    ("a set of addresses", [WEB | {"destination": "servers"}], SYN, True),
    ("a set of addresses, v6", [WEB | {"destination": "servers"}], SIX, True),
    ("a list of prefixes and sets", [WEB | {"source": ["servers", "10.0.0.0/8"]}], SYN, True),
    ("a prefix, outside", [WEB | {"source": "10.0.0.2/31"}], SYN, False),
    ("all of IPv4 is not IPv6", [WEB | {"source": "0.0.0.0/0"}], SIX, False),
    ("all of IPv6 holds no IPv4", [WEB | {"source": "2000::/3"}], SYN, False),
    ("flags", [WEB | {"flags": "syn !ece"}], SYN, True),
    ("flags, other", [WEB | {"flags": "syn ece"}], SYN, False),
    ("flags, then without", [WEB | {"flags": "ece", "action": "drop"}, WEB], SYN, True),
    ("ICMP type", [{"action": "accept", "protocol": "icmp", "icmp_type": "echo"}], out(QUERY), True),
    ("ICMP code", [{"action": "accept", "protocol": "icmp", "icmp_type": 8, "icmp_code": 1}], out(QUERY), False),
    ("many before it", [WEB | {"destination_ports": port} for port in range(1000, 1600)] + [WEB], SYN, True),
]


@pytest.mark.parametrize(("rules", "step", "passes"), [case[1:] for case in RULES], ids=[case[0] for case in RULES])
def test_rules(rules: list[dict[str, Any]], step: Step, passes: bool) -> None:
    sets = {"address_sets": {"servers": ["192.0.2.0/24", "2001:db8:1::/48"]}, "port_sets": {"web": [443, "80-81"]}}
    wall = Firewall(rules=rules, **sets)
    assert (wall.run(Packet(step.frame, step.port)) == forward(1)) == passes


def test_rules_for_errors() -> None:
    related = {"action": "drop", "state": "related", "protocol": "icmp", "icmp_type": "unreachable"}
    wall = Firewall(rules=[related, *OUT])
    hold(wall, [out(ASK), into(icmp(type=3) / quote(out(ASK)), Reason.RULE), into(icmp(type=11) / quote(out(ASK)))])
    hold(Firewall(rules=OUT, related="drop"), [out(ASK), into(icmp(type=3) / quote(out(ASK)), Reason.DEFAULT)])


def test_many_rules_agree_with_a_list(session: Agreement) -> None:
    """Random rules and packets against the plainest reading of them, and on every target."""
    import random
    chance = random.Random(5)

    def some_rule() -> dict[str, Any]:
        rule: dict[str, Any] = {"action": chance.choice(["accept", "drop"])}
        if chance.random() < 0.7:
            length = chance.choice([8, 16, 30, 32])
            rule["source"] = f"10.0.0.{chance.randrange(4)}/32" if length == 32 else f"10.0.0.0/{length}"
        if chance.random() < 0.7:
            rule["destination"] = chance.choice(["192.0.2.0/24", "192.0.2.2", "192.0.2.3", "0.0.0.0/0"])
        if chance.random() < 0.7:
            low = chance.randrange(50)
            rule |= {"protocol": chance.choice(["tcp", "udp"]),
                     "destination_ports": f"{low}-{low + chance.randrange(9)}"}
        return rule

    def wanted(rules: list[dict[str, Any]], source: int, destination: int, protocol: str, port: int) -> bool:
        from ipaddress import ip_address, ip_network
        for rule in rules:
            if ip_address(source) in ip_network(rule.get("source", "0.0.0.0/0")) \
                    and ip_address(destination) in ip_network(rule.get("destination", "0.0.0.0/0")) \
                    and rule.get("protocol", protocol) == protocol:
                low, high = map(int, rule.get("destination_ports", "0-65535").split("-"))
                if low <= port <= high:
                    return bool(rule["action"] == "accept")
        return False

    for count in (1, 40, 700):
        rules = [some_rule() for _ in range(count)]
        packets = [(0x0a000000 + chance.randrange(6), 0xc0000200 + chance.randrange(5), chance.choice(["tcp", "udp"]),
                    chance.randrange(60)) for _ in range(200)]
        arrivals = [Arrival(bytes(link() / ipv4(src=source, dst=destination) / (
            tcp(src=number, dst=port, flags=S) if protocol == "tcp" else udp(src=number, dst=port))))
            for number, (source, destination, protocol, port) in enumerate(packets)]
        wall = Firewall(rules=rules)
        for arrival, packet in zip(arrivals, packets, strict=True):
            assert (wall.run(Packet(arrival.frame)) == forward(OUTSIDE)) == wanted(rules, *packet), packet
        if count == 40:
            with Agreement(lambda rules=rules: Firewall(rules=rules), session.targets) as again:  # type: ignore[misc]
                again.run(arrivals)


# -- change ------------------------------------------------------------------------------------------------------------

SSH = [{"action": "accept", "direction": "out"}]
NO_WEB = [{"action": "drop", "protocol": "tcp", "destination_ports": 80}, *SSH]


@pytest.mark.parametrize("known", ["cut", "keep"])
def test_ct_03_a_rule_while_a_session_runs(known: str) -> None:
    wall = Firewall(rules=SSH, known=known)
    hold(wall, [*opened(), out(ASK)])
    wall.reconfigure(rules=NO_WEB)
    end = Reason.REVOKED if known == "cut" else PASS
    hold(wall, [into(server(A, 501, 101, 5), end), out(client(A, 101, 501), end), into(ANSWER)])
    wall.reconfigure(rules=SSH)
    hold(wall, [into(server(A, 501, 101, 5)), out(client(A, 101, 506))])


def test_a_set_of_rules_is_changed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every single write to a table, each packet meets the old rules or the new ones, never a mixture.

    The old set lets the first half of the probes pass, the new one the second; a mixture would be another half.
    """
    probes = [Step(bytes(link() / ipv4(src="10.0.0.1", dst=0xc0000200 + number) / udp(src=1, dst=2)), INSIDE, PASS)
              for number in range(8)]
    old = [{"action": "accept", "destination": f"192.0.2.{number}"} for number in range(4)]
    new = [{"action": "drop", "destination": "192.0.2.0/30"}, {"action": "accept", "destination": "192.0.2.0/29"}]
    wall, seen = Firewall(rules=old), list[tuple[bool, ...]]()

    def look() -> None:
        found = []
        for probe in probes:
            found.append(wall.run(Packet(probe.frame, INSIDE)).kind != 0)
            for kept in (wall.connections.transitory, wall.connections.established):
                kept.home.entries.clear()  # type: ignore[attr-defined]
        seen.append(tuple(found))

    def spied(original: Any, *given: Any) -> Any:
        done = original(*given)
        look()
        return done

    look()
    for table in wall.tables.values():
        if table.spec.name.partition(".")[0] in ("rules", "decisions"):
            for name in ("update", "delete"):
                monkeypatch.setattr(table.home, name, partial(spied, getattr(table.home, name)))
    wall.reconfigure(rules=new)
    before, after = (True,) * 4 + (False,) * 4, (False,) * 4 + (True,) * 4
    assert set(seen) == {before, after} and len(seen) > 20
    assert seen == sorted(seen, reverse=True), "and it changed once"
    wall.reconfigure(rules=old)
    assert seen[-1] == before


def test_what_stays_keeps_its_count_and_its_connections() -> None:
    wall = Firewall(rules=SSH)
    hold(wall, opened())
    wall.reconfigure(rules=[{"action": "drop", "protocol": "udp"}, *SSH])
    hold(wall, [into(server(A, 501, 101, 5)), out(ASK, Reason.RULE)])
    shown = {row["name"]: row["packets"] for row in wall.show()}
    assert shown == {"rule 0": 1, "rule 1": 4, "default": 0, "resolution": 0, "other": 0, "related": 0}
    assert {entry.rule for entry in wall.connections.entries().values()} == {4}
    wall.reset()
    assert not any(row["packets"] for row in wall.show())


def test_closed_until_there_are_rules() -> None:
    hold(Firewall(), [out(client(S, 1), Reason.DEFAULT), into(client(S, 1), Reason.DEFAULT)])


# -- connections -------------------------------------------------------------------------------------------------------

def test_where_connections_live() -> None:
    wall = Firewall(rules=OUT)
    hold(wall, opened()[:2])
    assert (len(wall.connections.transitory), len(wall.connections.established)) == (1, 0)
    hold(wall, opened()[2:])
    assert (len(wall.connections.transitory), len(wall.connections.established)) == (0, 1)
    assert wall.listing() == [{"protocol": "tcp", "from": "10.0.0.1 4000", "to": "192.0.2.2 80", "zone": 0,
                               "state": "established", "seconds": 7_441}]
    hold(wall, closed()[3:])
    assert (len(wall.connections.transitory), len(wall.connections.established)) == (1, 0)
    assert wall.listing()[0]["state"] == "closed"


def test_a_flood_of_first_packets_harms_nobody() -> None:
    wall = Firewall(rules=[{"action": "accept"}], transitory=16)
    hold(wall, opened())
    for source in range(200):
        flood = bytes(link() / ipv4(src=0x0b000000 + source, dst="10.0.0.1") / tcp(src=1, dst=2, flags=S))
        assert wall.run(Packet(flood, OUTSIDE)) == forward(INSIDE)
    assert len(wall.connections.transitory) <= 16
    hold(wall, [into(server(A, 501, 101, 5)), out(client(A, 101, 506))])


def test_full() -> None:
    wall = Firewall(rules=OUT, connections=1)
    hold(wall, [*opened(), out(ASK), into(ANSWER, Untracked.FULL), into(server(A, 501, 101, 5))])
    Clock.advance(7_500 * SECOND)
    wall.connections.sweep()
    hold(wall, [out(ASK), into(ANSWER), into(ANSWER)])


def test_quota() -> None:
    wall = Firewall(rules=OUT, per_source=1)
    other = Step(bytes(link() / ipv4(src="10.0.0.9", dst="192.0.2.2") / ASK), INSIDE, PASS)
    answer = Step(bytes(link() / ipv4(src="192.0.2.2", dst="10.0.0.9") / ANSWER), OUTSIDE, PASS)
    hold(wall, [*opened(), out(ASK), into(ANSWER, Untracked.QUOTA), other, answer])
    hold(wall, [into(server(R, 501)), into(ANSWER)])


def test_flush() -> None:
    wall = Firewall(rules=OUT)
    hold(wall, [*opened(), out(ASK), *opened(True)])
    assert wall.flush("2001:db8::/32") == 1 and wall.flush("10.0.0.2/32") == 0 and wall.flush("10.0.0.0/8") == 2
    hold(wall, [into(ANSWER, Reason.DEFAULT)])


def test_midway() -> None:
    hold(Firewall(rules=OUT, midway=True), [out(client(A, 1, 1)), into(server(A, 77_777, 5, 100)), into(server(R, 1))])


def test_states_are_what_they_are_called() -> None:
    wall = Firewall(rules=OUT)
    states = []
    for step in closed():
        hold(wall, [step])
        states.append(State(next(iter(wall.connections.entries().values())).state).name)
    assert states == ["OPENING", "ANSWERED", "ESTABLISHED", "CLOSING", "CLOSING", "CLOSED"]


@pytest.mark.parametrize(("settings", "message"), [
    ({"rules": [{"action": "accept", "destination_ports": 80}]},
     "destination_ports: this needs protocol tcp, udp or sctp"),
    ({"rules": [{"action": "accept", "source": "offices"}]},
     "rules[0].source: 'offices' is neither a prefix nor the name of an address set"),
    ({"rules": [{"action": "accept", "protocol": "tcp", "source_ports": "9-1"}]}, "'9-1' is not a range of ports"),
    ({"rules": [{"action": "accept", "protocol": "tcp", "source_ports": "www"}]}, "'www' is neither a port, a range"),
    ({"rules": [{"action": "accept", "protocol": "tcp", "flags": "sin"}]}, "'sin' is not one of"),
    ({"rules": [{"action": "accept", "icmp_type": 8}]}, "icmp_type: this needs protocol icmp or icmp6"),
    ({"rules": [{"action": "accept", "protocol": "icmp", "icmp_type": "ecko"}]}, "'ecko' is not a message"),
    ({"most_rules": 20_000}, "most_rules: 20000 is not between 1 and 10240"),
    ({"most_rules": 1, "rules": [{"action": "accept"}] * 600}, "600 rules; there is room for 512"),
])
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Firewall(**settings)
    assert message in str(refused.value)
