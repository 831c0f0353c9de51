"""The balancer, exact packet by exact packet.

Every conversation is held in CPython, which must answer as written, and again through `agree`, so that native code and
the kernel, at TC and at XDP, answer the same and end with the same tables.
"""
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.balancer import Balancer
from iovisor.functions.balancer.tables import Note, Reason, Slow, Work
from iovisor.language import SECOND, Clock, ConfigError, Packet, Verdict, drop, forward, punt
from iovisor.parts import asking
from iovisor.parts.connections import Untracked
from iovisor.parts.reading import Unreadable
from iovisor.testing import Agreement, Arrival, traffic
from iovisor.testing.packets import (
    Frame,
    arp,
    destination,
    ethernet,
    fragment,
    hop_by_hop,
    icmp,
    icmp6,
    ipv4,
    ipv6,
    tcp,
    udp,
    vlan,
)
from iovisor.wire.ipv6 import link_local
from iovisor.wire.tcp import Tcp

OUTSIDE, INSIDE = 0, 1
S, A, F, R = 2, 16, 1, 4
OWN, ROUTER = "02:00:00:00:0f:01", "02:00:00:00:0f:02"
VIP4, VIP6 = "198.51.100.1", "2001:db8:f::1"
CLIENT4, CLIENT6 = "192.0.2.1", "2001:db8:c::1"


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def backends(*numbers: int, six: bool = False, port: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Backend n is 10.0.0.n, or fd00::n, at 02:00:00:00:00:0n."""
    return [{"address": f"fd00::{n:x}" if six else f"10.0.0.{n}", "mac": mac(n), "port": port, **more} for n in numbers]


def vip(*numbers: int, six: bool = False, protocol: str = "tcp", backend_port: int = 8080,
        **more: Any) -> dict[str, Any]:
    return {"address": VIP6 if six else VIP4, "port": 80, "protocol": protocol,
            "backends": backends(*numbers, six=six, port=backend_port), **more}


def balancer(*vips: dict[str, Any], **more: Any) -> Balancer:
    small = {"slots": 256, "recent": 64, "most_vips": 8, "most_backends": 16, "sessions": 64, "connections": 256,
             "transitory": 256, "trains": 64}
    return Balancer(mac=OWN, addresses=["10.0.0.250/24", "fd00::fa/64"], vips=list(vips), **small | more)


def to_vip(transport: Any, six: bool = False, client: str = "", **fields: Any) -> bytes:
    """From a client by way of the router."""
    ip = ipv6(src=client or CLIENT6, dst=VIP6, **fields) if six else ipv4(src=client or CLIENT4, dst=VIP4, **fields)
    return bytes(ethernet(dst=OWN, src=ROUTER) / ip / transport)


def to_backend(number: int, transport: Any, six: bool = False, client: str = "", **fields: Any) -> bytes:
    """The same when it has passed."""
    ip = ipv6(src=client or CLIENT6, dst=f"fd00::{number:x}", **fields) if six else \
        ipv4(src=client or CLIENT4, dst=f"10.0.0.{number}", **fields)
    return bytes(ethernet(dst=mac(number), src=ROUTER) / ip / transport)


def answer(number: int, transport: Any, six: bool = False, client: str = "", **fields: Any) -> bytes:
    """From a backend to a client."""
    ip = ipv6(src=f"fd00::{number:x}", dst=client or CLIENT6, **fields) if six else \
        ipv4(src=f"10.0.0.{number}", dst=client or CLIENT4, **fields)
    return bytes(ethernet(dst=ROUTER, src=mac(number)) / ip / transport)


def answered(number: int, transport: Any, six: bool = False, client: str = "", **fields: Any) -> bytes:
    """The same when it has passed."""
    ip = ipv6(src=VIP6, dst=client or CLIENT6, **fields) if six else ipv4(src=VIP4, dst=client or CLIENT4, **fields)
    return bytes(ethernet(dst=ROUTER, src=mac(number)) / ip / transport)


def segment(source: int, destination: int, flags: int, data: bytes = b"") -> Frame:
    return tcp(src=source, dst=destination, flags=flags, sequence=100, acknowledgment=500 if flags & A else 0,
               window=1000) / data


def asks(flags: int, data: bytes = b"", port: int = 4000) -> Frame:
    return segment(port, 80, flags, data)


def asked(flags: int, data: bytes = b"", port: int = 4000) -> Frame:
    return segment(port, 8080, flags, data)


def tells(flags: int, data: bytes = b"", port: int = 4000) -> Frame:
    return segment(8080, port, flags, data)


def told(flags: int, data: bytes = b"", port: int = 4000) -> Frame:
    return segment(80, port, flags, data)


def renamed(frame: bytes, number: int) -> bytes:
    """A frame to another Ethernet address."""
    return bytes.fromhex(mac(number).replace(":", "")) + frame[6:]


def inner(number: int, transport: Any, source: str = "", target: str = OWN) -> bytes:
    """From a backend to the VIP."""
    return bytes(ethernet(dst=target, src=source or mac(number)) / ipv4(src=f"10.0.0.{number}", dst=VIP4) / transport)


def hidden(number: int, transport: Any) -> bytes:
    """From the VIP to a backend."""
    return bytes(ethernet(dst=mac(number), src=OWN) / ipv4(src=VIP4, dst=f"10.0.0.{number}") / transport)


def to_hidden(number: int, transport: Any) -> bytes:
    return inner(number, transport)


def from_hidden(number: int, transport: Any) -> bytes:
    """From the VIP, as whom somebody else answered."""
    return hidden(number, transport)


def part(datagram: Any, six: bool = False) -> bytes:
    """The first 16 bytes of a datagram that goes through the VIP, its checksum that of the whole."""
    if bytes(datagram) == bytes(ASK):
        whole = to_vip(datagram, six)
    elif bytes(datagram) == bytes(ASKED):
        whole = to_backend(7, datagram, six)
    else:
        whole = (answer if bytes(datagram) == bytes(ANSWER) else answered)(7, datagram, six)
    return whole[54 if six else 34:][:16].ljust(16, b"-")


def quote(frame: bytes, length: int = 1000) -> bytes:
    return frame[14:14 + length]


def refused(reason: int) -> Verdict:
    return punt(Slow(what=Work.REFUSAL, reason=reason))


@dataclass(frozen=True)
class Step:
    """A frame, and the frame that leaves by the other port, or as `verdict` says."""

    given: bytes
    port: int
    left: bytes = b""
    verdict: Verdict | None = None
    after: int = 0


def held(made: Balancer, steps: list[Step]) -> None:
    """A conversation in CPython."""
    for number, step in enumerate(steps):
        Clock.advance(step.after * SECOND)
        packet = Packet(step.given, step.port)
        verdict = made.run(packet)
        assert verdict == (step.verdict or forward(1 - step.port)), f"step {number}"
        if step.left:
            assert bytes(packet) == step.left, f"step {number}"


@pytest.fixture(autouse=True)
def standing() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def site(**more: Any) -> Balancer:
    """What most conversations are about."""
    return balancer(vip(7), vip(7, six=True), vip(7, protocol="udp"), vip(7, six=True, protocol="udp"),
                    vip(port=90), vip(7, port=100, mode="direct", backend_port=0),
                    vip(7, six=True, port=100, mode="direct", backend_port=0), **more)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    with Agreement(site, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


def handshake(number: int, six: bool = False) -> list[Step]:
    return [Step(to_vip(asks(S), six), OUTSIDE, to_backend(number, asked(S), six)),
            Step(answer(number, tells(S | A), six), INSIDE, answered(number, told(S | A), six)),
            Step(to_vip(asks(A), six), OUTSIDE, to_backend(number, asked(A), six))]


ASK, ANSWER = udp(src=5000, dst=80) / b"ask", udp(src=8080, dst=5000) / b"answer"
ASKED, ANSWERED = udp(src=5000, dst=8080) / b"ask", udp(src=80, dst=5000) / b"answer"
UNCHECKED, UNCHECKED_BEHIND = udp(src=5000, dst=80, checksum=0) / b"ask", udp(src=5000, dst=8080, checksum=0) / b"ask"

PADDING = b"\x5a" * 12           # as long as what is quoted of TCP when more is

CASES: dict[str, list[Step]] = {
    "tcp, v4": [
        *handshake(7),
        Step(to_vip(asks(A, b"GET")), OUTSIDE, to_backend(7, asked(A, b"GET"))),
        Step(answer(7, tells(A, b"200")), INSIDE, answered(7, told(A, b"200"))),
        Step(answer(7, tells(A | F)), INSIDE, answered(7, told(A | F))),
        Step(to_vip(asks(A | F)), OUTSIDE, to_backend(7, asked(A | F))),
        Step(answer(7, tells(A)), INSIDE, answered(7, told(A)))],
    "tcp, v6": [
        *handshake(7, True),
        Step(to_vip(asks(A, b"GET"), True), OUTSIDE, to_backend(7, asked(A, b"GET"), True)),
        Step(answer(7, tells(A, b"200"), True), INSIDE, answered(7, told(A, b"200"), True))],
    "udp, v4": [
        Step(to_vip(ASK), OUTSIDE, to_backend(7, ASKED)),
        Step(answer(7, ANSWER), INSIDE, answered(7, ANSWERED)),
        Step(to_vip(ASK), OUTSIDE, to_backend(7, ASKED), after=200),
        Step(answer(7, ANSWER), INSIDE, answered(7, ANSWERED), after=200)],
    "udp, v6": [
        Step(to_vip(ASK, True), OUTSIDE, to_backend(7, ASKED, True)),
        Step(answer(7, ANSWER, True), INSIDE, answered(7, ANSWERED, True))],
    "udp without a checksum stays so": [
        Step(to_vip(UNCHECKED), OUTSIDE, to_backend(7, UNCHECKED_BEHIND))],
    "tcp is not udp": [Step(to_vip(udp(src=5000, dst=90) / b"ask"), OUTSIDE, verdict=refused(Reason.UNSERVED))],
    "a port that is not served": [
        Step(to_vip(segment(4000, 81, S)), OUTSIDE, verdict=refused(Reason.UNSERVED))],
    "nobody to serve": [Step(to_vip(segment(4000, 90, S)), OUTSIDE, verdict=refused(Reason.NO_BACKEND))],
    "a stranger's answers pass as they are": [
        Step(answer(7, tells(A, b"200")), INSIDE, answer(7, tells(A, b"200")))],
    "what is for others passes as it is": [
        Step(frame, port, frame) for port, frame in (
            (OUTSIDE, bytes(ethernet(dst=mac(7), src=ROUTER) / ipv4(src=CLIENT4, dst="10.0.0.7") / asks(S))),
            (OUTSIDE, bytes(ethernet(dst=mac(7), src=ROUTER) / ipv4(src=CLIENT4, dst=VIP4) / asks(S))),
            (INSIDE, bytes(ethernet(dst=ROUTER, src=mac(7)) / ipv4(src="10.0.0.7", dst=CLIENT4) / icmp(type=8) / b"x")),
            (INSIDE, bytes(ethernet(dst=ROUTER, src=mac(7)) / bytes(46))))],
    "another VLAN is another network": [
        Step(frame, OUTSIDE, frame) for frame in [bytes(
            ethernet(dst=OWN, src=ROUTER) / vlan(vid=5) / ipv4(src=CLIENT4, dst=VIP4) / asks(S))]],
    "ARP for a VIP and for our own": [
        Step(bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=ROUTER)
                   / arp(sender_mac=ROUTER, sender_ip="198.51.100.9", target_ip=address)), OUTSIDE,
             bytes(ethernet(dst=ROUTER, src=OWN) / arp(operation=2, sender_mac=OWN, sender_ip=address,
                                                       target_mac=ROUTER, target_ip="198.51.100.9")),
             forward(OUTSIDE)) for address in (VIP4, "10.0.0.250")],
    "ARP for others": [
        Step(frame, OUTSIDE, frame) for frame in [bytes(
            ethernet(dst="ff:ff:ff:ff:ff:ff", src=ROUTER)
            / arp(sender_mac=ROUTER, sender_ip="198.51.100.9", target_ip="10.0.0.7"))]],
    "direct": [
        Step(to_vip(segment(4000, 100, flags)), OUTSIDE, renamed(to_vip(segment(4000, 100, flags)), 7))
        for flags in (S, A, A, A | F)],
    "direct, v6": [
        Step(to_vip(segment(4000, 100, flags), True), OUTSIDE, renamed(to_vip(segment(4000, 100, flags), True), 7))
        for flags in (S, A, A, A | F)],
    "direct, from their own side": [
        Step(inner(8, segment(4000, 100, S)), INSIDE, inner(8, segment(4000, 100, S), OWN, mac(7)), forward(INSIDE))],
    "a backend is a client": [
        Step(inner(8, asks(S)), INSIDE, hidden(7, asked(S)), forward(INSIDE)),
        Step(to_hidden(7, tells(S | A)), INSIDE, from_hidden(8, told(S | A)), forward(INSIDE)),
        Step(inner(8, asks(A)), INSIDE, hidden(7, asked(A)), forward(INSIDE)),
        Step(to_hidden(7, tells(A, b"200")), INSIDE, from_hidden(8, told(A, b"200")), forward(INSIDE))],
    "a backend is its own client": [
        Step(inner(7, asks(S)), INSIDE, hidden(7, asked(S)), forward(INSIDE)),
        Step(to_hidden(7, tells(S | A)), INSIDE, from_hidden(7, told(S | A)), forward(INSIDE)),
        Step(inner(7, asks(A)), INSIDE, hidden(7, asked(A)), forward(INSIDE))],
    "a reset that was forged does no harm": [
        *handshake(7), Step(to_vip(asks(R)), OUTSIDE, to_backend(7, asked(R))),
        Step(to_vip(asks(A, b"more")), OUTSIDE, to_backend(7, asked(A, b"more")), after=9),
        Step(to_vip(asks(A, b"more")), OUTSIDE, to_backend(7, asked(A, b"more")), after=600),
        Step(answer(7, tells(A, b"200")), INSIDE, answered(7, told(A, b"200")))],
    "answers come long after": [
        *handshake(7), Step(answer(7, tells(A, b"200")), INSIDE, answered(7, told(A, b"200")), after=7000)],
    "half open, and forgotten": [
        *handshake(7)[:1], Step(answer(7, tells(S | A)), INSIDE, answer(7, tells(S | A)), after=40)],
    "fragments": [
        Step(to_vip(part(ASK), proto=17, id=9, mf=1), OUTSIDE, to_backend(7, part(ASKED), proto=17, id=9, mf=1)),
        Step(to_vip(b"rest", proto=17, id=9, offset=2), OUTSIDE, to_backend(7, b"rest", proto=17, id=9, offset=2)),
        Step(to_vip(b"rest", proto=17, id=8, offset=2), OUTSIDE, verdict=drop(Untracked.UNKNOWN_FRAGMENT)),
        Step(answer(7, part(ANSWER), proto=17, id=3, mf=1), INSIDE, answered(7, part(ANSWERED), proto=17, id=3, mf=1)),
        Step(answer(7, b"rest", proto=17, id=3, offset=2), INSIDE, answered(7, b"rest", proto=17, id=3, offset=2))],
    "fragments, v6": [
        Step(to_vip(fragment(id=9, more=1, next=17) / part(ASK, True), True), OUTSIDE,
             to_backend(7, fragment(id=9, more=1, next=17) / part(ASKED, True), True)),
        Step(to_vip(fragment(id=9, offset=2, next=17) / b"rest", True), OUTSIDE,
             to_backend(7, fragment(id=9, offset=2, next=17) / b"rest", True))],
    "what is for us, and nothing that we have": [
        Step(bytes(ethernet(dst=OWN, src=ROUTER) / ipv4(src=CLIENT4, dst="192.0.2.99") / asks(S)), OUTSIDE,
             verdict=drop(Reason.NOT_OURS)),
        Step(to_vip(b"gre", proto=47), OUTSIDE, verdict=drop(Reason.UNSERVED))],
    "echo": [
        Step(to_vip(icmp(type=8, rest=7) / b"ping", ttl=9), OUTSIDE, bytes(
            ethernet(dst=ROUTER, src=OWN) / ipv4(src=VIP4, dst=CLIENT4) / icmp(type=0, rest=7) / b"ping"),
             forward(OUTSIDE)),
        Step(to_vip(icmp6(type=128, rest=7) / b"ping", True, hops=9), OUTSIDE, bytes(
            ethernet(dst=ROUTER, src=OWN) / ipv6(src=VIP6, dst=CLIENT6) / icmp6(type=129, rest=7) / b"ping"),
             forward(OUTSIDE)),
        Step(bytes(ethernet(dst=OWN, src=ROUTER) / ipv4(src=CLIENT4, dst="192.0.2.99") / icmp(type=8) / b"ping"),
             OUTSIDE, verdict=drop(Reason.UNSERVED)),
        Step(to_vip(icmp(type=13) / bytes(12)), OUTSIDE, verdict=drop(Reason.UNSERVED))],
    "an error about what a backend sent": [
        *handshake(7),
        Step(to_vip(icmp(type=3, code=4, rest=1300) / quote(answered(7, told(A, b"200")), 28)), OUTSIDE,
             to_backend(7, icmp(type=3, code=4, rest=1300) / quote(answer(7, tells(A, b"200")), 28))),
        Step(to_vip(icmp(type=3, code=4, rest=1300) / quote(answered(7, told(A, b"200")))), OUTSIDE,
             to_backend(7, icmp(type=3, code=4, rest=1300) / quote(answer(7, tells(A, b"200")))))],
    "an error about what a backend sent, v6": [
        *handshake(7, True),
        Step(to_vip(icmp6(type=2, rest=1300) / quote(answered(7, told(A, b"200"), True)), True), OUTSIDE,
             to_backend(7, icmp6(type=2, rest=1300) / quote(answer(7, tells(A, b"200"), True)), True))],
    "an error about what a client sent": [
        *handshake(7),
        Step(answer(7, icmp(type=3, code=3) / quote(to_backend(7, asked(A)))), INSIDE,
             answered(7, icmp(type=3, code=3) / quote(to_vip(asks(A)))))],
    "an error about what a client sent, v6": [
        *handshake(7, True),
        Step(answer(7, icmp6(type=1, code=4) / quote(to_backend(7, asked(A), True)), True), INSIDE,
             answered(7, icmp6(type=1, code=4) / quote(to_vip(asks(A), True)), True))],
    "a quoted checksum behind the end is none": [
        *handshake(7),
        *[Step(told_of + PADDING, OUTSIDE, becoming + PADDING) for told_of, becoming in [
            (to_vip(icmp(type=3, code=4, rest=1300) / quote(answered(7, told(A, b"200")), 28)),
             to_backend(7, icmp(type=3, code=4, rest=1300) / quote(answer(7, tells(A, b"200")), 28)))]],
        *handshake(7, True),
        *[Step(told_of + PADDING, OUTSIDE, becoming + PADDING) for told_of, becoming in [
            (to_vip(icmp6(type=2, rest=1300) / quote(answered(7, told(A, b"200"), True), 48), True),
             to_backend(7, icmp6(type=2, rest=1300) / quote(answer(7, tells(A, b"200"), True), 48), True))]]],
    "an error that quotes too little": [
        Step(to_vip(icmp(type=3, code=4) / quote(answered(7, told(A)), 27)) + PADDING, OUTSIDE,
             verdict=drop(Unreadable.MALFORMED)),
        Step(to_vip(icmp6(type=2) / quote(answered(7, told(A), True), 47), True) + PADDING, OUTSIDE,
             verdict=drop(Unreadable.MALFORMED))],
    "errors about datagrams": [
        Step(to_vip(ASK), OUTSIDE), Step(answer(7, ANSWER), INSIDE),
        Step(to_vip(icmp(type=11) / quote(answered(7, ANSWERED))), OUTSIDE,
             to_backend(7, icmp(type=11) / quote(answer(7, ANSWER)))),
        Step(answer(7, icmp(type=3, code=3) / quote(to_backend(7, ASKED))), INSIDE,
             answered(7, icmp(type=3, code=3) / quote(to_vip(ASK)))),
        Step(to_vip(UNCHECKED), OUTSIDE),
        Step(answer(7, icmp(type=3, code=3) / quote(to_backend(7, UNCHECKED_BEHIND))), INSIDE,
             answered(7, icmp(type=3, code=3) / quote(to_vip(UNCHECKED))))],
    "errors about datagrams, v6": [
        Step(to_vip(ASK, True), OUTSIDE), Step(answer(7, ANSWER, True), INSIDE),
        Step(to_vip(icmp6(type=3) / quote(answered(7, ANSWERED, True)), True), OUTSIDE,
             to_backend(7, icmp6(type=3) / quote(answer(7, ANSWER, True)), True)),
        Step(answer(7, icmp6(type=1, code=4) / quote(to_backend(7, ASKED, True)), True), INSIDE,
             answered(7, icmp6(type=1, code=4) / quote(to_vip(ASK, True)), True))],
    "errors that are forged": [
        *handshake(7),
        Step(to_vip(icmp(type=3, code=4) / quote(answered(7, told(A, port=9), client="192.0.2.7"))), OUTSIDE,
             to_backend(7, icmp(type=3, code=4) / quote(answer(7, tells(A, port=9), client="192.0.2.7")))),
        Step(to_vip(icmp(type=3) / quote(answer(7, tells(A)))), OUTSIDE, verdict=drop(Untracked.UNRELATED)),
        Step(to_vip(icmp(type=3) / quote(to_vip(segment(80, 81, A)))), OUTSIDE, verdict=drop(Untracked.UNRELATED))],
    "an error, direct": [
        Step(frame, OUTSIDE, renamed(frame, 7)) for frame in [
            to_vip(icmp(type=3, code=4, rest=1300) / quote(bytes(
                ethernet(dst=1, src=2) / ipv4(src=VIP4, dst=CLIENT4) / segment(100, 4000, A))))]],
    "errors of others pass": [
        Step(frame, INSIDE, frame) for frame in [answer(7, icmp(type=3, code=3) / quote(to_backend(7, asked(A))))]],
    "an error that quotes nothing": [
        Step(answer(7, icmp(type=3, code=3) / bytes(28)), INSIDE, verdict=drop(Unreadable.MALFORMED))],
    "options": [
        Step(to_vip(asks(S), options=bytes([7, 7, 4, 0, 0, 0, 0, 0])), OUTSIDE,
             to_backend(7, asked(S), options=bytes([7, 7, 4, 0, 0, 0, 0, 0])))],
    "extension headers": [
        Step(to_vip(hop_by_hop() / destination() / asks(S), True), OUTSIDE,
             to_backend(7, hop_by_hop() / destination() / asked(S), True))],
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, session: Agreement) -> None:
    held(site(), CASES[name])
    session.run(Arrival(step.given, step.port, after=step.after * SECOND) for step in CASES[name])


def chatter(seed: int, count: int) -> Iterator[Arrival]:
    """Clients and backends that say whatever comes to their minds."""
    chance = random.Random(seed)
    for _ in range(count):
        six, port, flags = chance.random() < 0.4, chance.choice([4000, 4001, 5000]), chance.choice([S, S | A, A, A, A,
                                                                                                    A | F, R, R | A])
        client = chance.choice(["2001:db8:c::1", "2001:db8:c::2"] if six else ["192.0.2.1", "192.0.2.2"])
        served, said = chance.choice([80, 80, 80, 100, 90, 81]), chance.choice(ANYTHING)
        if chance.random() < 0.3:
            out, back = udp(src=port, dst=served) / said, udp(src=8080, dst=port) / said
        else:
            out, back = segment(port, served, flags, said), segment(chance.choice([8080, 8080, 100]), port, flags, said)
        more: dict[str, Any] = {}
        if chance.random() < 0.1 and not six:
            more = {"proto": chance.choice([6, 17]), "id": chance.randrange(3), "mf": chance.randrange(2),
                    "offset": chance.choice([0, 0, 3])}
        after = chance.choice([0, 0, 0, 0, SECOND // 2, 2 * SECOND, 40 * SECOND])
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                frame, arrives = to_vip(out, six, client, **more), OUTSIDE
            case 4 | 5 | 6:
                frame, arrives = answer(7, back, six, client, **more), INSIDE
            case _:
                frame, arrives = inner(chance.choice([7, 8]), chance.choice([out, back])), INSIDE
        if chance.random() < 0.05:
            frame = frame[:-chance.randrange(1, 12)]
        yield Arrival(frame, arrives, after=after)


ANYTHING = [b"", b"said", bytes(200)]


def test_chatter(session: Agreement, nightly: bool) -> None:
    for seed in range(50 if nightly else 2):
        session.run(chatter(seed, 20_000 if nightly else 1_500))


def test_random_packets(session: Agreement, nightly: bool) -> None:
    for seed in range(20 if nightly else 1):
        session.run(traffic(f"balancer {seed}", 20_000 if nightly else 2_000, ports=2))


# -- who gets what -----------------------------------------------------------------------------------------------------

def syn(flow: int, six: bool = False, flags: int = S) -> bytes:
    """The packet of one of many flows, 50 of each client."""
    client = f"2001:db8:c::{flow // 50 + 1:x}" if six else f"192.0.{2 + flow // 5000}.{flow // 50 % 100 + 1}"
    return to_vip(asks(flags, port=1024 + flow % 50), six, client)


def spread(made: Balancer, flows: int, flags: int = S, six: bool = False) -> dict[int, int]:
    """By flow, which backend its packet goes to."""
    found = {}
    for flow in range(flows):
        packet = Packet(syn(flow, six, flags), OUTSIDE)
        assert made.run(packet) == forward(INSIDE)
        found[flow] = packet.data[5]
    return found


ROOM = {"slots": 4096, "connections": 40_000, "transitory": 40_000}


@pytest.mark.parametrize("six", [False, True])
def test_even_and_steady(six: bool) -> None:
    """LB-01: each of ten backends has its tenth, and a flow stays where it is."""
    made = balancer(vip(*range(1, 11), six=six), **ROOM)
    first = spread(made, 3000, six=six)
    assert all(abs(count - 300) < 55 for count in Counter(first.values()).values())
    assert spread(made, 300, A, six) == {flow: first[flow] for flow in range(300)}


def test_a_backend_goes() -> None:
    """LB-02: its flows go elsewhere, no other moves."""
    made = balancer(vip(*range(1, 11)), **ROOM)
    before = spread(made, 1500)
    made.reconfigure(vips=[vip(1, 2, 4, 5, 6, 7, 8, 9, 10)])
    after = spread(made, 1500, A)
    assert [flow for flow in before if before[flow] != 3 and after[flow] != before[flow]] == []
    assert 3 not in after.values()
    assert made.noted.read(Note.MOVED).packets == sum(number == 3 for number in before.values())


def test_a_backend_comes() -> None:
    made = balancer(vip(1, 2, 3), **ROOM)
    before = spread(made, 1000)
    made.reconfigure(vips=[vip(1, 2, 3, 4)])
    assert spread(made, 1000, A) == before
    assert 4 in {packet.data[5] for flow in range(5000, 5060)
                 if made.run(packet := Packet(syn(flow), OUTSIDE)) == forward(INSIDE)}


def test_weights_and_drain() -> None:
    """LB-04: 1 to 2 to 3; who is drained keeps what it has and gets nothing new."""
    weighted = vip() | {"backends": [one | {"weight": weight} for one, weight in zip(
        backends(1, 2, 3, port=8080), (1, 2, 3), strict=True)]}
    made = balancer(weighted, **ROOM)
    before = spread(made, 3000)
    shares = Counter(before.values())
    assert [round(shares[number] / 3000, 1) for number in (1, 2, 3)] == [0.2, 0.3, 0.5]
    drained = weighted | {"backends": [one | {"drain": one["address"] == "10.0.0.3"} for one in weighted["backends"]]}
    made.reconfigure(vips=[drained])
    assert spread(made, 500, A) == {flow: before[flow] for flow in range(500)}
    packets = [Packet(syn(flow), OUTSIDE) for flow in range(6000, 6300)]
    assert {made.run(packet) for packet in packets} == {forward(INSIDE)}
    assert {packet.data[5] for packet in packets} == {1, 2}


def test_drain_by_hand() -> None:
    made = balancer(vip(1, 2), **ROOM)
    before = spread(made, 100)
    assert made.drain("10.0.0.2") == 1
    assert spread(made, 100, A) == before
    assert {row["backend"]: row["health"] for row in made.show()} == {"10.0.0.1": "open", "10.0.0.2": "closed"}
    assert {row["flows"] for row in made.show()} == set(Counter(before.values()).values())
    made.reconfigure(vips=[vip(1, 2, 3)])
    assert made.show()[1]["health"] == "closed"
    made.drain("10.0.0.2", False)
    assert {row["health"] for row in made.show()} == {"open"}


def test_a_new_flow_on_old_ports() -> None:
    """Who was closed is forgotten when it begins again, and may get another backend."""
    made = balancer(vip(1, 2))
    packet = Packet(to_vip(asks(S)), OUTSIDE)
    made.run(packet)
    first, other = packet.data[5], 3 - packet.data[5]
    held(made, [*handshake(first)[1:],
                Step(to_vip(asks(A | F)), OUTSIDE, to_backend(first, asked(A | F))),
                Step(answer(first, tells(A | F)), INSIDE, answered(first, told(A | F)))])
    made.drain(f"10.0.0.{first}")
    held(made, [Step(to_vip(asks(A)), OUTSIDE, to_backend(first, asked(A))), *handshake(other)])


def test_sticky_clients() -> None:
    made = balancer(vip(*range(1, 9), sticky="60s"), **ROOM)

    def ask(port: int) -> int:
        packet = Packet(to_vip(asks(S, port=port)), OUTSIDE)
        made.run(packet)
        return packet.data[5]

    first = ask(4000)
    assert {ask(port) for port in range(4001, 4040)} == {first}
    Clock.advance(59 * SECOND)
    assert ask(4100) == first
    Clock.advance(61 * SECOND)
    assert len({ask(port) for port in range(5000, 5001)} | {first}) >= 1
    made.drain(f"10.0.0.{first}")
    assert first not in {ask(port) for port in range(6000, 6040)}


def test_two_choose_alike() -> None:
    """Whatever the order, and with other numbers for the same VIPs and backends."""
    one = balancer(vip(1, 2, 3, 4), **ROOM)
    other = balancer(vip(9, port=443), vip(4, 3, 1, 2), **ROOM)
    assert spread(one, 500) == spread(other, 500)
    third = balancer(vip(1, 2, 3, 4), seed=1, **ROOM)
    assert spread(third, 500) != spread(one, 500)


def test_collisions() -> None:
    """Two VIPs, one backend: two flows that would look the same to it are kept apart, or refused."""
    made = balancer(vip(7), vip(7, port=81))
    held(made, handshake(7))
    packet = Packet(to_vip(segment(4000, 81, S)), OUTSIDE)
    assert made.run(packet) == drop(Reason.COLLISION)
    both = balancer(vip(7, 8), vip(7, 8, port=81))
    packets = [Packet(to_vip(segment(port, served, S)), OUTSIDE) for port in range(4000, 4100) for served in (80, 81)]
    verdicts = Counter(both.run(packet) for packet in packets)
    assert verdicts[forward(INSIDE)] > 180
    ends = [(packet.data[5], bytes(packet.data[34:36])) for packet in packets if packet.data[5] in (7, 8)]
    assert len(set(ends)) == len(ends)


def test_a_flood_leaves_the_known_alone() -> None:
    """Half-open flows push out half-open ones; when there is no room for more, flows still work, and are counted."""
    made = balancer(vip(1, 2, 3), connections=40, transitory=64)
    before = {}
    for flow in range(20):
        packet = Packet(syn(flow), OUTSIDE)
        made.run(packet)
        before[flow] = number = packet.data[5]
        client, port = f"192.0.2.{flow // 50 + 1}", 1024 + flow % 50
        made.run(Packet(answer(number, tells(S | A, port=port), client=client), INSIDE))
        made.run(Packet(to_vip(asks(A, port=port), client=client), OUTSIDE))
    assert len(made.flows.established) == 40 and made.noted.read(Note.UNPINNED).packets == 0
    for flow in range(1000, 1500):
        assert made.run(Packet(syn(flow), OUTSIDE)) == forward(INSIDE)
    made.reconfigure(vips=[vip(1, 2, 3, 4, 5)])
    assert spread(made, 20, A) == before
    held(made, [Step(to_vip(asks(S, port=9)), OUTSIDE)])
    packet = Packet(to_vip(asks(S, port=10)), OUTSIDE)
    made.run(packet)
    held(made, [Step(answer(packet.data[5], tells(S | A, port=10)), INSIDE),
                Step(to_vip(asks(A, port=10)), OUTSIDE), Step(to_vip(asks(A, port=10)), OUTSIDE)])
    assert made.noted.read(Note.UNPINNED).packets > 0


def test_refusals() -> None:
    """Nobody serves: TCP is reset, all else unreachable, and not too often."""
    made = balancer(vip(), vip(six=True, protocol="udp"), rejections=3)
    packets = [Packet(to_vip(asks(S)), OUTSIDE), Packet(to_vip(ASK, True), OUTSIDE),
               Packet(to_vip(segment(4000, 81, S)), OUTSIDE)]
    for packet in packets:
        verdict = made.run(packet)
        assert isinstance(verdict.event, Slow)
        made.on_slow(verdict.event, packet)
    head = ethernet(dst=ROUTER, src=OWN)
    assert made.outbox == [
        (OUTSIDE, bytes(head / ipv4(src=VIP4, dst=CLIENT4, df=1)
                        / tcp(src=80, dst=4000, flags=R | A, acknowledgment=101))),
        (OUTSIDE, bytes(head / ipv6(src=VIP6, dst=CLIENT6) / icmp6(type=1, code=4) / quote(to_vip(ASK, True)))),
        (OUTSIDE, bytes(head / ipv4(src=VIP4, dst=CLIENT4, df=1)
                        / tcp(src=81, dst=4000, flags=R | A, acknowledgment=101)))]
    assert made.run(Packet(to_vip(asks(S)), OUTSIDE)) == drop(Reason.NO_BACKEND)
    Clock.advance(SECOND)
    assert made.run(Packet(to_vip(asks(S)), OUTSIDE)) == refused(Reason.NO_BACKEND)
    assert made.noted.read(Note.REFUSED).packets == 4


# -- configuration -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("wrong", "path"), [
    ({"mac": "01:00:00:00:00:01"}, "mac"),
    ({"slots": 1000}, "slots"),
    ({"recent": 63}, "recent"),
    ({"vips": [vip(1)] * 2}, "vips[1]"),
    ({"vips": [vip(1) | {"address": "10.0.0.250"}]}, "vips[0].address"),
    ({"vips": [vip(1) | {"address": "nowhere"}]}, "vips[0].address"),
    ({"vips": [vip(1) | {"port": 0}]}, "vips[0].port"),
    ({"vips": [vip(1) | {"backends": backends(1, six=True)}]}, "vips[0].backends[0].address"),
    ({"vips": [vip(1) | {"backends": backends(1, 1)}]}, "vips[0].backends[1]"),
    ({"vips": [vip(1, mode="direct")]}, "vips[0].backends[0].port"),
    ({"vips": [vip(1, port=port) for port in range(1, 20)]}, "vips"),
    ({"gateways": ["10.9.0.1"]}, "gateways"),
])
def test_what_cannot_be(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as found:
        Balancer(**{"mac": OWN, "addresses": ["10.0.0.250/24", "fd00::fa/64"]} | wrong)
    assert found.value.path == path


def test_sizes_are_fixed() -> None:
    made = balancer(vip(1))
    with pytest.raises(ConfigError, match="fixed"):
        made.reconfigure(slots=512)


# -- who has an address ------------------------------------------------------------------------------------------------

def test_backends_are_looked_for() -> None:
    """Nothing goes to a backend before it has said where it is."""
    unknown = [vip(six=six) | {"backends": [{"address": "fd00::7" if six else "10.0.0.7", "port": 8080}]}
               for six in (False, True)]
    made = balancer(*unknown)
    assert made.run(Packet(to_vip(asks(S)), OUTSIDE)) == refused(Reason.NO_BACKEND)
    made.find()
    assert [port for port, _ in made.outbox] == [INSIDE, INSIDE]
    frames = {frame[12:14]: frame for _, frame in made.outbox}
    assert frames[b"\x08\x06"] == bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=OWN) / arp(
        sender_mac=OWN, sender_ip="10.0.0.250", target_ip="10.0.0.7"))
    reply = Packet(bytes(ethernet(dst=OWN, src=mac(7)) / arp(
        operation=2, sender_mac=mac(7), sender_ip="10.0.0.7", target_mac=OWN, target_ip="10.0.0.250")), INSIDE)
    verdict = made.run(reply)
    assert isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, reply)
    held(made, handshake(7))
    made.find()
    assert len(made.outbox) == 2
    Clock.advance(2 * SECOND)
    made.find()
    assert [frame[12:14] for _, frame in made.outbox[2:]] == [b"\x86\xdd"]
    told_by = Packet(asking.advertisement_to(7 | 0x02 << 40, 0xfd00 << 112 | 7, link_local(int(OWN.replace(
        ":", ""), 16)), int(OWN.replace(":", ""), 16)), INSIDE)
    verdict = made.run(told_by)
    assert isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, told_by)
    assert made.run(Packet(to_vip(asks(S), True), OUTSIDE)) == forward(INSIDE)


def test_a_strangers_word_is_nothing() -> None:
    made = balancer(vip() | {"backends": [{"address": "10.0.0.7"}]})
    for port, sender in ((OUTSIDE, "10.0.0.7"), (INSIDE, "10.0.0.8")):
        reply = Packet(bytes(ethernet(dst=OWN, src=mac(9)) / arp(
            operation=2, sender_mac=mac(9), sender_ip=sender, target_mac=OWN, target_ip="10.0.0.250")), port)
        verdict = made.run(reply)
        if isinstance(verdict.event, Slow):
            made.on_slow(verdict.event, reply)
    assert made.show()[0]["health"] == "dead"


def test_neighbors_ask_for_a_vip() -> None:
    made = balancer(vip(7, six=True))
    asker, target = 0xfd00 << 112 | 9, 0x2001_0db8_000f << 80 | 1
    question = Packet(asking.solicitation(0x02_00_00_00_00_09, asker, target), OUTSIDE)
    verdict = made.run(question)
    assert isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, question)
    assert made.outbox == [(OUTSIDE, asking.advertisement_to(int(OWN.replace(":", ""), 16), target, asker,
                                                             0x02_00_00_00_00_09))]
    other = Packet(asking.solicitation(0x02_00_00_00_00_09, asker, target + 1), OUTSIDE)
    assert made.run(other) == forward(INSIDE)


# -- checks ------------------------------------------------------------------------------------------------------------

def checked(six: bool = False, **check: Any) -> Balancer:
    return balancer(vip(7, 8, six=six, check=check))


def health(made: Balancer) -> list[str]:
    return [row["health"] for row in made.show()]


def said(made: Balancer) -> dict[int, Frame]:
    """The frames sent since one asked last, by backend."""
    found = {frame[5]: Frame.parse(frame) for port, frame in made.outbox if port == INSIDE}
    made.outbox.clear()
    return found


def reply(made: Balancer, number: int, transport: Any, six: bool = False) -> None:
    """A backend answers the balancer's own address."""
    ip = ipv6(src=f"fd00::{number:x}", dst="fd00::fa") if six else ipv4(src=f"10.0.0.{number}", dst="10.0.0.250")
    packet = Packet(bytes(ethernet(dst=OWN, src=mac(number)) / ip / transport), INSIDE)
    verdict = made.run(packet)
    assert isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, packet)


def asking_with(frame: Frame) -> Tcp:
    return Tcp.decode(bytes(frame)[-20:])


@pytest.mark.parametrize("six", [False, True])
def test_tcp_checks(six: bool) -> None:
    """Closed until the first good answer; `fall` bad ones close, `rise` good ones open again."""
    made = checked(six, way="tcp", fall=2, rise=3)

    def ask(*well: int) -> list[str]:
        Clock.advance(SECOND)
        made.check()
        for number, frame in said(made).items():
            tcp_header = asking_with(frame)
            ip = ipv6(src="fd00::fa", dst=f"fd00::{number:x}") if six else ipv4(
                src="10.0.0.250", dst=f"10.0.0.{number}", df=1)
            assert bytes(frame) == bytes(ethernet(dst=mac(number), src=OWN) / ip / tcp(
                src=tcp_header.src, dst=8080, flags=S, sequence=tcp_header.sequence, window=8192))
            reply(made, number, tcp(src=8080, dst=tcp_header.src, flags=S | A if number in well else R | A,
                                    sequence=900, acknowledgment=tcp_header.sequence + 1 & 0xffff_ffff), six)
            closing = said(made)
            assert bool(closing) == (number in well)
            if closing:
                last = asking_with(closing[number])
                assert (last.flags, last.sequence, last.acknowledgment) == (
                    R | A, tcp_header.sequence + 1 & 0xffff_ffff, 901)
        return health(made)

    assert health(made) == ["dead", "dead"]
    assert ask(7) == ["open", "dead"]
    assert ask(7) == ["open", "dead"]
    assert ask() == ["open", "dead"]
    assert ask(7) == ["open", "dead"]
    assert ask() == ["open", "dead"]
    assert ask() == ["dead", "dead"]
    assert ask(7) == ask(7) == ["dead", "dead"]
    assert ask(7) == ["open", "dead"]
    assert ask(7, 8) == ["open", "dead"]


def test_silence_is_bad() -> None:
    made = checked(way="tcp", fall=1)
    made.check()
    for number, frame in said(made).items():
        tcp_header = asking_with(frame)
        reply(made, number, tcp(src=8080, dst=tcp_header.src, flags=S | A, sequence=1,
                                acknowledgment=tcp_header.sequence + 1 & 0xffff_ffff))
    assert health(made) == ["open", "open"]
    Clock.advance(SECOND)
    made.check()
    assert len(said(made)) == 2
    Clock.advance(SECOND)
    made.check()
    assert health(made) == ["dead", "dead"]


def test_http_checks() -> None:
    made = checked(way="http", path="/health", host="web", expect=[200, 204], fall=1, rise=1)

    def ask(status: bytes) -> list[str]:
        Clock.advance(SECOND)
        made.check()
        for number, frame in said(made).items():
            tcp_header = asking_with(frame)
            after = tcp_header.sequence + 1 & 0xffff_ffff
            reply(made, number, tcp(src=8080, dst=tcp_header.src, flags=S | A, sequence=900, acknowledgment=after))
            request = said(made)[number]
            body = bytes(request)[14 + 20 + 20:]
            assert body.startswith(b"GET /health HTTP/1.1\r\nHost: web\r\n") and body.endswith(b"\r\n\r\n")
            for place, piece in ((901, status[:10]), (911, status[10:])):
                reply(made, number, tcp(src=8080, dst=tcp_header.src, flags=A, sequence=place,
                                        acknowledgment=after + len(body) & 0xffff_ffff) / piece)
            made.outbox.clear()
        return health(made)

    assert ask(b"HTTP/1.1 200 OK\r\n") == ["open", "open"]
    assert ask(b"HTTP/1.1 503 Busy\r\n") == ["dead", "dead"]
    assert ask(b"HTTP/1.1 204 None\r\n") == ["open", "open"]
    assert ask(b"SSH-2.0-OpenSSH 200 x") == ["dead", "dead"]


@pytest.mark.parametrize("six", [False, True])
def test_icmp_checks(six: bool) -> None:
    made = checked(six, way="icmp")
    made.check()
    layer = icmp6 if six else icmp
    for number, frame in said(made).items():
        rest = int.from_bytes(bytes(frame)[-12:-8], "big")
        assert bytes(frame)[-16] == (128 if six else 8)
        if number == 7:
            reply(made, number, layer(type=129 if six else 0, rest=rest) / b"balancer", six)
        else:
            reply(made, number, layer(type=129 if six else 0, rest=rest ^ 1) / b"balancer", six)
    assert health(made) == ["open", "dead"]


def test_a_wrong_answer_is_none() -> None:
    """With a wrong checksum, number or port, or from the other side: it decides nothing."""
    made = checked(way="tcp")
    made.check()
    tcp_header = asking_with(said(made)[7])
    right: dict[str, Any] = {"src": 8080, "dst": tcp_header.src, "flags": S | A,
                             "acknowledgment": tcp_header.sequence + 1 & 0xffff_ffff}
    for wrong in ({"checksum": 1}, {"acknowledgment": tcp_header.sequence}, {"src": 8081}, {"flags": A}):
        reply(made, 7, tcp(**right | wrong))
    packet = Packet(bytes(ethernet(dst=OWN, src=ROUTER) / ipv4(src="10.0.0.7", dst="10.0.0.250") / tcp(**right)),
                    OUTSIDE)
    assert made.run(packet) == drop(Reason.UNSERVED)
    assert health(made) == ["dead", "dead"]
    reply(made, 7, tcp(**right))
    assert health(made) == ["open", "dead"]


def test_checks_begin_and_end() -> None:
    """Who serves goes on when checks begin, and whoever was closed by them opens when they end."""
    made = balancer(vip(7))
    made.reconfigure(vips=[vip(7, check={"way": "tcp", "fall": 1})])
    assert health(made) == ["open"]
    made.check()
    Clock.advance(SECOND)
    made.check()
    assert health(made) == ["dead"]
    made.reconfigure(vips=[vip(7)])
    assert health(made) == ["open"]


def test_flows_of_the_dead() -> None:
    """They move, or stay, as the VIP says."""
    for orphans in ("move", "keep"):
        made = balancer(vip(7, 8, orphans=orphans, check={"way": "tcp", "fall": 1}))
        made.well = {0, 1}
        made.refresh()
        before = spread(made, 20)
        made.well = {1}
        made.refresh()
        after = spread(made, 20, A)
        assert set(before.values()) == {7, 8}
        assert after == (before if orphans == "keep" else dict.fromkeys(range(20), 8))


def test_orphans_are_reset() -> None:
    """Who goes on hears of it; who begins anew is served by another."""
    made = balancer(vip(7, orphans="reset"))
    held(made, handshake(7))
    made.reconfigure(vips=[vip(8, orphans="reset")])
    packet = Packet(to_vip(asks(A, b"GET")), OUTSIDE)
    verdict = made.run(packet)
    assert verdict == refused(Reason.NO_BACKEND)
    assert isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, packet)
    assert made.outbox == [(OUTSIDE, bytes(ethernet(dst=ROUTER, src=OWN) / ipv4(src=VIP4, dst=CLIENT4, df=1) / tcp(
        src=80, dst=4000, flags=R, sequence=500)))]
    held(made, handshake(8))
