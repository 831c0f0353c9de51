"""Network address translation, exact packet by exact packet: each case is a conversation, and what each packet becomes.

The numbers are those of the requirements ("NAT44" 01 to 28, NA-30 to NA-33).  Every conversation is held in CPython,
which must answer byte for byte as written, and again through `agree`, so that native code and the kernel do the same.
"""
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from time import time
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nat import Nat, Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward
from iovisor.language.verdicts import PUNT_KIND
from iovisor.parts.bindings import Unbound
from iovisor.parts.connections import Untracked
from iovisor.parts.reading import Unreadable
from iovisor.parts.translation import Early
from iovisor.targets import load
from iovisor.testing import Agreement, Arrival, Frame, available, traffic
from iovisor.testing.packets import Layer, arp, ethernet, fragment, icmp, icmp6, ipv4, ipv6, tcp, udp

INSIDE, OUTSIDE = 0, 1
S, A, F, R, P = 2, 16, 1, 4, 8
X, Y, OURS, FAR, OTHER = "10.0.0.2", "10.0.0.3", "192.0.2.1", "198.51.100.7", "198.51.100.8"
X6, OURS6, FAR6, OTHER6 = "fd00::2", "2001:db8::1", "2001:db8:f::7", "2001:db8:f::8"
ROUTER, GATEWAY = "02:00:00:00:00:01", "02:00:00:00:00:02"


@dataclass(frozen=True)
class Step:
    """A packet, where it comes in, what it becomes and where that leaves, or the reason it is dropped for."""

    frame: bytes
    port: int
    becomes: bytes
    leaves: int
    reason: int = 0
    after: int = 0


def packet(source: str, destination: str, transport: Any, inward: bool, **fields: Any) -> bytes:
    ends = (GATEWAY, ROUTER) if inward else (ROUTER, GATEWAY)
    ip: Layer = ipv6(src=source, dst=destination, **fields) if ":" in source else \
        ipv4(src=source, dst=destination, **fields)
    return bytes(ethernet(dst=ends[1], src=ends[0]) / ip / transport)


def out(source: str, destination: str, transport: Any, seen: Any = None, reason: int = 0, after: int = 0,
        ours: str = "", **fields: Any) -> Step:
    """From inside to the outside, `seen` as the outside sees it; with its own port if that is not said."""
    shown = ours or (OURS6 if ":" in source else OURS)
    frame = packet(source, destination, transport, False, **fields)
    return Step(frame, INSIDE, packet(shown, destination, seen or transport, False, **fields), OUTSIDE, reason, after)


def back(source: str, ours: str, transport: Any, inside: str, seen: Any = None, reason: int = 0, after: int = 0,
         **fields: Any) -> Step:
    """From outside, to `inside` in the end."""
    frame = packet(source, ours, transport, True, **fields)
    return Step(frame, OUTSIDE, packet(source, inside, seen or transport, True, **fields), INSIDE, reason, after)


def turned(source: str, ours: str, transport: Any, shown: str, inside: str, seen: Any, reason: int = 0) -> Step:
    """From inside to another inside: a hairpin."""
    return Step(packet(source, ours, transport, False), INSIDE, packet(shown, inside, seen, True), INSIDE, reason)


def client(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, src: int = 4000, dst: int = 80) -> Frame:
    return tcp(src=src, dst=dst, flags=flags, sequence=sequence, acknowledgment=acknowledgment, window=1000) \
        / bytes(data)


def server(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, dst: int = 4000, src: int = 80) -> Frame:
    return client(flags, sequence, acknowledgment, data, src, dst)


def opened() -> list[Step]:
    return [out(X, FAR, client(S, 100)), back(FAR, OURS, server(S | A, 500, 101), X),
            out(X, FAR, client(A, 101, 501))]


def ask(src: int = 5000, dst: int = 53, data: bytes = b"ask", **fields: int) -> Frame:
    return udp(src=src, dst=dst, **fields) / data


def ping(number: int, type: int = 8) -> Frame:
    return icmp(type=type, rest=number << 16 | 1) / b"payload"


def ping6(number: int, type: int = 128) -> Frame:
    return icmp6(type=type, rest=number << 16 | 1) / b"payload"


ANSWER = ask(53, 5000, b"answer")

CASES: dict[str, list[Step]] = {
    "01 UDP and its answer": [out(X, FAR, ask()), back(FAR, OURS, ANSWER, X)],
    "01 UDP and its answer, v6": [out(X6, FAR6, ask()), back(FAR6, OURS6, ANSWER, X6)],
    "01 TCP": [*opened(), out(X, FAR, client(A | P, 101, 501, 10)), back(FAR, OURS, server(A | P, 501, 111, 900), X),
               out(X, FAR, client(F | A, 111, 1401)), back(FAR, OURS, server(F | A, 1401, 112), X),
               out(X, FAR, client(A, 112, 1402))],
    "01 TCP, v6": [out(X6, FAR6, client(S, 100)), back(FAR6, OURS6, server(S | A, 500, 101), X6),
                   out(X6, FAR6, client(A, 101, 501)), back(FAR6, OURS6, server(A, 501, 101, 7), X6)],
    "02 one binding for all strangers": [out(X, FAR, ask()), out(X, OTHER, ask(dst=54)),
                                         back(OTHER, OURS, ask(54, 5000), X)],
    "06 a known address from another port": [out(X, FAR, ask()), back(FAR, OURS, ask(99, 5000), X),
                                             out(X, FAR, ask(5000, 99))],
    "07 a stranger": [out(X, FAR, ask()), back(OTHER, OURS, ask(53, 5000), X, reason=Unbound.FILTERED)],
    "07 nobody's port": [out(X, FAR, ask()), back(FAR, OURS, ask(53, 5001), X, reason=Unbound.UNMAPPED)],
    "07 nobody's port, TCP": [*opened(), back(FAR, OURS, server(A, 1, 1, dst=4001), X, reason=Unbound.UNMAPPED)],
    "09 ping": [out(X, FAR, ping(7)), back(FAR, OURS, ping(7, 0), X), back(FAR, OURS, ping(7), X,
                                                                         reason=Unbound.UNMAPPED)],
    "09 ping, v6": [out(X6, FAR6, ping6(7)), back(FAR6, OURS6, ping6(7, 129), X6)],
    "09 a reply to nothing": [back(FAR, OURS, ping(7, 0), X, reason=Unbound.UNMAPPED),
                              out(X, FAR, ping(7, 0), reason=Untracked.UNASKED)],
    "18 UDP without a checksum": [out(X, FAR, ask(checksum=0)), back(FAR, OURS, ask(53, 5000, checksum=0), X)],
    "20 one binding for all strangers, TCP": [
        *opened(), out(X, OTHER, client(S, 700, dst=81)), back(OTHER, OURS, server(S | A, 900, 701, src=81), X),
        out(X, FAR, client(A, 101, 501, 5))],
    "21 both open": [out(X, FAR, client(S, 100)), back(FAR, OURS, server(S, 500), X),
                     out(X, FAR, client(S | A, 100, 501)), back(FAR, OURS, server(S | A, 500, 101), X),
                     out(X, FAR, client(A, 101, 501, 3))],
    "22 an unsolicited SYN": [back(FAR, OURS, client(S, 1), X, reason=Unbound.UNMAPPED)],
    "22 an unsolicited SYN, and then one from inside": [
        back(FAR, OURS, server(S, 500), X, reason=Unbound.UNMAPPED), out(X, FAR, client(S, 100), after=3),
        back(FAR, OURS, server(S, 500), X), out(X, FAR, client(S | A, 100, 501)),
        back(FAR, OURS, server(S | A, 500, 101), X)],
    "24 open again after a reset": [*opened(), back(FAR, OURS, server(R, 501), X), out(X, FAR, client(S, 300)),
                                    back(FAR, OURS, server(S | A, 900, 301), X)],
    "25 refreshed from inside": [out(X, FAR, ask()), out(X, FAR, ask(), after=200),
                                 back(FAR, OURS, ANSWER, X, after=200)],
    "26 and NA-33 UDP for two minutes": [out(X, FAR, ask()), back(FAR, OURS, ANSWER, X, after=119)],
    "NA-33 UDP for five minutes": [out(X, FAR, ask()), back(FAR, OURS, ANSWER, X, after=299)],
    "NA-33 and no longer": [out(X, FAR, ask()), back(FAR, OURS, ANSWER, X, reason=Unbound.UNMAPPED, after=303)],
    "NA-33 TCP for two hours": [*opened(), back(FAR, OURS, server(A, 501, 101, 1), X, after=2 * 3600 + 3 * 60)],
    "NA-33 TCP and no longer": [*opened(), back(FAR, OURS, server(A, 501, 101, 1), X, reason=Unbound.UNMAPPED,
                                                after=2 * 3600 + 5 * 60)],
    "NA-33 a query for a minute": [out(X, FAR, ping(7)), back(FAR, OURS, ping(7, 0), X, after=59)],
    "NA-33 half open for four minutes": [out(X, FAR, client(S, 1)),
                                         back(FAR, OURS, server(S | A, 5, 2), X, after=239)],
    "27 an inside address from outside": [
        back(FAR, X, ask(), X, reason=Unbound.UNMAPPED), back(FAR6, X6, ask(), X6, reason=Unbound.UNMAPPED)],
    "28 what has no ports": [out(X, FAR, bytes(8), reason=Unbound.NO_PORTS, proto=47),
                             out(X, FAR, bytes(20), reason=Unbound.NO_PORTS, proto=132),
                             out(X6, FAR6, bytes(8), reason=Unbound.NO_PORTS, next=47)],
    "28 stray TCP": [out(X, FAR, client(A, 1, 1), reason=Untracked.OUT_OF_STATE),
                     out(X, FAR, client(F | P | 32, 1), reason=Untracked.ILLEGAL_FLAGS),
                     back(FAR, OURS, server(S | A, 1, 2), X, reason=Unbound.UNMAPPED)],
    "28 groups": [out(X, "224.0.0.5", ask(), reason=Reason.GROUP),
                  out(X, "255.255.255.255", ask(), reason=Reason.GROUP),
                  out("fe80::1", FAR6, ask(), reason=Reason.GROUP), out(X6, "ff02::1", ask(), reason=Reason.GROUP)],
    "fragments follow the first": [
        out(X, FAR, bytes(ask(2000, 2, bytes(16), length=48, checksum=0)), proto=17, mf=1, id=9),
        out(X, FAR, bytes(24), proto=17, offset=3, id=9),
        out(X, FAR, bytes(24), reason=Untracked.UNKNOWN_FRAGMENT, proto=17, offset=3, id=8),
        back(FAR, OURS, bytes(24), X, reason=Untracked.UNKNOWN_FRAGMENT, proto=17, offset=3, id=9),
        back(FAR, OURS, bytes(ask(2, 2000, bytes(16), length=48, checksum=0)), X, proto=17, mf=1, id=77),
        back(FAR, OURS, bytes(24), X, proto=17, offset=3, id=77)],
    "fragments follow the first, v6": [
        out(X6, FAR6, fragment(offset=0, more=1, id=0x12345678, next=17) / bytes(ask(2000, 2, bytes(16), length=48,
                                                                                    checksum=0))),
        out(X6, FAR6, fragment(offset=3, more=0, id=0x12345678, next=17) / bytes(24)),
        out(X6, FAR6, fragment(offset=3, more=0, id=0x12345679, next=17) / bytes(24),
            reason=Untracked.UNKNOWN_FRAGMENT)],
    "fragments of a ping": [
        out(X, FAR, bytes(ping(7) / bytes(9)), mf=1, id=5, proto=1), out(X, FAR, bytes(24), proto=1, offset=3, id=5),
        back(FAR, OURS, bytes(ping(7, 0) / bytes(9)), X, mf=1, id=6, proto=1),
        back(FAR, OURS, bytes(24), X, proto=1, offset=3, id=6)],
    "a tiny fragment": [out(X, FAR, bytes(4), reason=Unreadable.TINY_FRAGMENT, proto=17, mf=1)],
    "IPv4 with options": [out(X, FAR, ask(), options=bytes([1, 1, 1, 0]))],
}

HOP, HOP6, NEAR, NEAR6 = "203.0.113.1", "2001:db8:a::1", "10.0.0.254", "fd00::fe"


def told(step: Step, kind: int = 3, code: int = 3, length: int = 1000, reason: int = 0, hop: str = HOP,
         rest: int = 0, changed: bytes = b"") -> Step:
    """An error from outside about a packet that went out: it quotes what left, and should quote what came."""
    six = step.frame[12:14] == b"\x86\xdd"
    error = icmp6(type=kind, code=code, rest=rest) if six else icmp(type=kind, code=code, rest=rest)
    seen, sent = ((changed or step.becomes)[14:14 + length], step.frame[14:14 + length])
    if six:
        return back(HOP6, OURS6, error / seen, X6, error / sent, reason)
    return back(hop, OURS, error / seen, X, error / sent, reason)


def said(step: Step, kind: int = 3, code: int = 3, length: int = 1000, near: str = "", reason: int = 0) -> Step:
    """An error from inside about a packet that came in: it quotes what arrived, and should quote what was sent."""
    six = step.frame[12:14] == b"\x86\xdd"
    error = icmp6(type=kind, code=code) if six else icmp(type=kind, code=code)
    return out(near or (X6 if six else X), FAR6 if six else FAR, error / step.becomes[14:14 + length],
               error / step.frame[14:14 + length], reason)


ASKED, ASKED6, PINGED, PINGED6 = out(X, FAR, ask()), out(X6, FAR6, ask()), out(X, FAR, ping(7)), out(X6, FAR6, ping6(7))
ANSWERED, ANSWERED6 = back(FAR, OURS, ANSWER, X), back(FAR6, OURS6, ANSWER, X6)
SENT = out(X, FAR, client(A, 101, 501, 100))
SENT6 = out(X6, FAR6, client(S, 100))

CASES |= {
    "10 port unreachable": [ASKED, told(ASKED)],
    "10 quoting eight bytes": [ASKED, told(ASKED, length=28), *opened(), SENT, told(SENT, 3, 1, 28)],
    "11 too big, with its MTU": [*opened(), SENT, told(SENT, 3, 4, rest=1400), told(SENT, 3, 4, 68, rest=1400)],
    "12 time exceeded": [*opened(), SENT, told(SENT, 11, 0), PINGED, told(PINGED, 11, 0), told(PINGED, 11, 0, 28)],
    "12 v6": [ASKED6, told(ASKED6, 3, 0), PINGED6, told(PINGED6, 3, 0), SENT6, told(SENT6, 2, 0, rest=1280),
              told(SENT6, 1, 4, 48)],
    "10 UDP without a checksum": [out(X, FAR, ask(checksum=0)), told(out(X, FAR, ask(checksum=0)))],
    "13 an error ends nothing": [ASKED, told(ASKED), ANSWERED, ASKED, *opened(), SENT, told(SENT, 3, 1),
                                 back(FAR, OURS, server(A, 501, 201), X)],
    "14 a forged error": [ASKED, told(out(X, FAR, ask(5001)), reason=Unbound.UNMAPPED),
                          told(out(X, OTHER, ask()), reason=Untracked.UNRELATED), *opened(),
                          told(out(X, FAR, client(A, 90_000, 501)), reason=Untracked.UNRELATED),
                          back(HOP, OURS, icmp(type=3) / ANSWERED.frame[14:], X, reason=Untracked.UNRELATED),
                          back(HOP, OURS, icmp(type=3) / b"nothing much of a packet", X, reason=Unreadable.MALFORMED)],
    "14 a redirect": [ASKED, told(ASKED, 5, reason=Reason.NOT_TRANSLATABLE)],
    "15 an error from inside": [ASKED, ANSWERED, said(ANSWERED), said(ANSWERED, length=28)],
    "15 from a router inside": [ASKED, ANSWERED, said(ANSWERED, 11, 0, near=NEAR)],
    "15 v6": [ASKED6, ANSWERED6, said(ANSWERED6, 1, 4), said(ANSWERED6, 3, 0, near=NEAR6)],
    "15 about nothing": [ASKED, said(back(OTHER, OURS, ANSWER, X), reason=Untracked.UNRELATED)],
}


def ours(**more: Any) -> Nat:
    return Nat(addresses=[OURS, OURS6], **{"wait": 0} | more)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    targets = [target for target in available() if target != "xdp"]
    with Agreement(ours, targets, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


def hold(nat: Nat, steps: list[Step]) -> None:
    """A conversation in CPython."""
    names = nat.spec().reasons
    for number, step in enumerate(steps):
        Clock.advance(step.after * SECOND)
        found = Packet(step.frame, step.port)
        wanted = drop(step.reason) if step.reason else forward(step.leaves)
        verdict = nat.run(found)
        assert verdict == wanted, (number, verdict, names.get(verdict.argument), names.get(step.reason))
        assert bytes(found) == (step.frame if step.reason else step.becomes), (number, Packet(step.becomes), found)


@pytest.mark.parametrize("name", CASES)
def test_conversations(name: str, session: Agreement) -> None:
    hold(ours(), CASES[name])
    session.run([Arrival(step.frame, step.port, after=step.after * SECOND) for step in CASES[name]])


# -- ports -------------------------------------------------------------------------------------------------------------

def sent(nat: Any, source: str, port: int, far: str = FAR, transport: Any = None) -> int:
    """The port that a datagram is seen under, or less than nothing: the reason it is dropped for."""
    found = Packet(packet(source, far, transport or ask(port), False), INSIDE)
    verdict = nat.run(found)
    if verdict != forward(OUTSIDE):
        return -int(verdict.argument)
    return int.from_bytes(found.data[34:36], "big")


def agreed(make: Any, steps: list[tuple[bytes, int]], targets: tuple[str, ...] | list[str]) -> None:
    with Agreement(make, targets) as session:
        session.run([Arrival(frame, port) for frame, port in steps])


def test_03_no_port_is_given_twice_and_05_class_and_parity_stay(session: Agreement) -> None:
    nat, frames = ours(), []
    for number in (5000, 5001, 500, 501):
        ports = [sent(nat, f"10.0.1.{host}", number) for host in range(1, 20)]
        frames += [Arrival(packet(f"10.0.1.{host}", FAR, ask(number), False)) for host in range(1, 20)]
        assert ports[0] == number and len(set(ports)) == len(ports)
        assert {port & 1 for port in ports} == {number & 1}
        assert {port < 1024 for port in ports} == {number < 1024}
    session.run(frames)


def test_04_one_binding_under_contention() -> None:
    nat = ours()
    assert sent(nat, X, 5000) == 5000
    port = sent(nat, Y, 5000)
    assert port != 5000 and {sent(nat, Y, 5000, far) for far in (FAR, OTHER, "203.0.113.9")} == {port}
    hold(nat, [back(OTHER, OURS, ask(53, port), Y, ask(53, 5000))])


def test_09_identifiers_do_not_clash(session: Agreement) -> None:
    nat = ours()
    hold(nat, [out(X, FAR, ping(7))])
    found = Packet(packet(Y, FAR, ping(7), False), INSIDE)
    assert nat.run(found) == forward(OUTSIDE)
    number = int.from_bytes(found.data[38:40], "big")
    assert number != 7
    hold(nat, [back(FAR, OURS, ping(number, 0), Y, ping(7, 0)), back(FAR, OURS, ping(7, 0), X)])
    session.run([Arrival(packet(X, FAR, ping(7), False)), Arrival(packet(Y, FAR, ping(7), False)),
                 Arrival(packet(FAR, OURS, ping(number, 0), True), OUTSIDE)])


def test_protocols_have_ports_of_their_own() -> None:
    nat = ours()
    assert sent(nat, X, 5000) == 5000 and sent(nat, Y, 5000, transport=client(S, 1, src=5000)) == 5000


def test_na_30_every_port_is_usable() -> None:
    """All of 64,512; one more is refused by name; those that are there go on; room again when they are gone."""
    with load(Nat(addresses=[OURS], bindings=70_000, transitory=1_024), "native") as loaded:
        nat: Any = loaded.function
        first = bytearray(packet("10.0.0.2", FAR, ask(2_000, checksum=0), False))
        seen = set()
        for number in range(64_512):
            first[28:30], first[34:36] = (number >> 10).to_bytes(2, "big"), (2_000 + (number & 1023)).to_bytes(2, "big")
            first[24:26] = bytes(2)
            found = Packet(bytes(first), INSIDE)
            assert loaded.run(found) == forward(OUTSIDE)
            seen.add(int.from_bytes(found.data[34:36], "big"))
        assert seen == set(range(1_024, 65_536))
        assert sent(loaded, "10.9.0.1", 2_000) == -Unbound.EXHAUSTED
        assert sent(loaded, "10.0.0.5", 2_001, OTHER) in seen
        assert sent(loaded, "10.9.0.1", 2_000, transport=client(S, 1, src=2_000)) == 2_000
        Clock.advance(302 * SECOND)
        nat.bindings.sweep()
        assert sent(loaded, "10.9.0.1", 2_000) == -Unbound.EXHAUSTED
        Clock.advance(121 * SECOND)
        nat.bindings.sweep()
        assert sent(loaded, "10.9.0.1", 2_000) == 2_000


def test_na_31_a_subscriber_has_so_many() -> None:
    nat = ours(per_subscriber=3)
    assert [sent(nat, X, port) for port in range(4000, 4005)] == [4000, 4001, 4002] + [-Unbound.SUBSCRIBER] * 2
    assert sent(nat, Y, 4000) > 0 and sent(nat, X, 4001, OTHER) == 4001
    Clock.advance(302 * SECOND)
    nat.bindings.sweep()
    assert sent(nat, X, 4004) == 4004


def test_na_32_a_port_is_held_for_its_owner() -> None:
    nat = ours()
    assert sent(nat, X, 5000) == 5000
    Clock.advance(310 * SECOND)
    assert sent(nat, Y, 5000) not in (5000, -Unbound.EXHAUSTED)
    assert sent(nat, X, 5000) == 5000
    Clock.advance(302 * SECOND)
    nat.bindings.sweep()
    assert sent(nat, "10.0.0.9", 5000) != 5000
    Clock.advance(121 * SECOND)
    nat.bindings.sweep()
    assert sent(nat, "10.0.0.10", 5000) == 5000


def test_a_closed_connection_gives_its_port_back() -> None:
    nat = ours()
    hold(nat, CASES["01 TCP"])
    assert nat.show()[0]["seconds"] in range(238, 243)


def test_a_flood_of_first_packets_harms_nobody() -> None:
    """Table after table full: who talks goes on, who is new is refused by name, and let in when there is room again."""
    nat = ours(connections=16, transitory=16, bindings=40, strangers=16)
    hold(nat, [*opened(), out(X, FAR, ask()), back(FAR, OURS, ANSWER, X)])
    refused = [sent(nat, f"10.1.{number >> 8}.{number & 255}", 3_000) for number in range(200)]
    assert refused[-1] == -Unbound.EXHAUSTED and sum(port > 0 for port in refused) == 38
    hold(nat, [out(X, FAR, client(A, 101, 501)), back(FAR, OURS, server(A, 501, 101, 5), X), out(X, FAR, ask()),
               back(FAR, OURS, ANSWER, X), back(FAR, OURS, client(S, 1, dst=99), X, reason=Unbound.UNMAPPED)])
    Clock.advance(430 * SECOND)
    nat.bindings.sweep()
    assert sent(nat, "10.2.0.1", 3_000) > 0
    hold(nat, [back(FAR, OURS, server(A, 501, 101, 5), X)])


def test_a_pool_is_paired() -> None:
    """One inside address is always seen under the same outside one, and all serve."""
    nat = Nat(addresses=["192.0.2.8/30"])
    shown: dict[int, set[bytes]] = {}
    for host in range(1, 60):
        for port in (4000, 4001):
            found = Packet(packet(f"10.0.0.{host}", FAR, ask(port), False), INSIDE)
            assert nat.run(found) == forward(OUTSIDE)
            shown.setdefault(host, set()).add(bytes(found.data[26:30]))
    assert all(len(addresses) == 1 for addresses in shown.values())
    assert len(set.union(*shown.values())) == 4


# -- filtering ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("filtering", "same", "port", "stranger"), [
    ("endpoint_independent", 0, 0, 0), ("address_dependent", 0, 0, Unbound.FILTERED),
    ("port_dependent", 0, Unbound.FILTERED, Unbound.FILTERED)])
def test_filtering(filtering: str, same: int, port: int, stranger: int) -> None:
    steps = [out(X, FAR, ask()), back(FAR, OURS, ANSWER, X, reason=same),
             back(FAR, OURS, ask(99, 5000), X, reason=port), back(OTHER, OURS, ask(53, 5000), X, reason=stranger)]
    hold(ours(filtering=filtering), steps)
    agreed(lambda: ours(filtering=filtering), [(step.frame, step.port) for step in steps],
           [target for target in available() if target != "xdp"])


def test_a_stranger_of_a_former_binding_is_one() -> None:
    nat = ours()
    hold(nat, [out(X, FAR, ask()), out(X, OTHER, ask(), after=310),
               back(FAR, OURS, ANSWER, X, reason=Unbound.FILTERED), back(OTHER, OURS, ANSWER, X)])


# -- static bindings and hairpins --------------------------------------------------------------------------------------

STATIC: list[dict[str, Any]] = [{"outside": OURS, "inside": "10.0.0.80", "protocol": "tcp", "outside_ports": 8080,
                                 "inside_ports": 80},
          {"outside": OURS, "inside": "10.0.0.90", "protocol": "udp", "outside_ports": "6000-6009"},
          {"outside": OURS, "inside": "10.0.0.91", "protocol": "udp", "outside_ports": "7000-7009",
           "inside_ports": "100-109"},
          {"outside": "192.0.2.50", "inside": "10.0.0.50"},
          {"outside": "2001:db8::50", "inside": "fd00::50"},
          {"outside": "2001:db8::60", "inside": "fd00::60", "protocol": "udp", "outside_ports": 7000,
           "inside_ports": 100}]


def fixed() -> Nat:
    return Nat(addresses=[OURS], static=STATIC)


FIXED: dict[str, list[Step]] = {
    "a forwarded port": [
        back(FAR, OURS, client(S, 1, dst=8080), "10.0.0.80", client(S, 1)),
        out("10.0.0.80", FAR, server(S | A, 9, 2), server(S | A, 9, 2, src=8080)),
        back(FAR, OURS, client(A, 2, 10, dst=8080), "10.0.0.80", client(A, 2, 10))],
    "and out under it": [out("10.0.0.80", FAR, client(S, 1, src=80, dst=443), client(S, 1, src=8080, dst=443))],
    "a range": [back(FAR, OURS, ask(1, 6009), "10.0.0.90"), back(FAR, OURS, ask(1, 6010), X, reason=Unbound.UNMAPPED),
                out("10.0.0.90", FAR, ask(6009, 1))],
    "a range, elsewhere": [back(FAR, OURS, ask(1, 7009), "10.0.0.91", ask(1, 109)),
                           out("10.0.0.91", FAR, ask(109, 1), ask(7009, 1))],
    "a whole address": [
        back(FAR, "192.0.2.50", ask(1, 2), "10.0.0.50"), out("10.0.0.50", FAR, ask(2, 1), ours="192.0.2.50"),
        out("10.0.0.50", FAR, client(S, 1), ours="192.0.2.50"),
        back(FAR, "192.0.2.50", server(S | A, 1, 2), "10.0.0.50"),
        back(FAR, "192.0.2.50", ping(9), "10.0.0.50"), out("10.0.0.50", FAR, ping(9, 0), ours="192.0.2.50"),
        out("10.0.0.50", FAR, ping(9), ours="192.0.2.50"),
        out("10.0.0.50", FAR, bytes(8), ours="192.0.2.50", proto=47), back(FAR, "192.0.2.50", bytes(8), "10.0.0.50",
                                                                          proto=47)],
    "a whole address, v6": [
        back(FAR6, "2001:db8::50", ask(1, 2), "fd00::50"), out("fd00::50", FAR6, ask(2, 1), ours="2001:db8::50"),
        out("fd00::51", FAR6, ask(2, 1), reason=Unbound.NO_ADDRESS)],
    "08 a hairpin": [
        out(Y, FAR, ask(7)), out(X, FAR, ask()),
        turned(X, OURS, ask(5000, 7), OURS, Y, ask(5000, 7)),
        turned(Y, OURS, ask(7, 5000), OURS, X, ask(7, 5000)),
        back(OTHER, OURS, ask(1, 7), Y, reason=Unbound.FILTERED)],
    "08 a hairpin of one host": [out(X, FAR, ask()), turned(X, OURS, ask(6500, 5000), OURS, X, ask(6500, 5000)),
                                 turned(X, OURS, ask(5000, 6500), OURS, X, ask(5000, 6500))],
    "an outside address of ours from outside": [
        out(X, FAR, ask()), back(OURS, OURS, ask(53, 5000), X, reason=Unbound.SPOOFED),
        back("192.0.2.50", OURS, ask(1, 6009), X, reason=Unbound.SPOOFED),
        back(OURS, OURS, client(S, 1, dst=8080), X, reason=Unbound.SPOOFED)],
    "23 a hairpin, TCP, to a forwarded port": [
        turned(X, OURS, client(S, 1, dst=8080), OURS, "10.0.0.80", client(S, 1)),
        turned("10.0.0.80", OURS, server(S | A, 9, 2), OURS, X, server(S | A, 9, 2, src=8080)),
        turned(X, OURS, client(A, 2, 10, 5, dst=8080), OURS, "10.0.0.80", client(A, 2, 10, 5))],
    "a hairpin to itself": [turned("10.0.0.90", OURS, ask(6001, 6001), OURS, "10.0.0.90", ask(6001, 6001))],
    "23 a hairpin, TCP, to where another connection goes out from": [
        out(Y, FAR, client(S, 1, src=7000)),
        turned(X, OURS, client(S, 100, dst=7000), OURS, Y, client(S, 100, dst=7000)),
        turned(Y, OURS, server(S | A, 9, 101, src=7000), OURS, X, server(S | A, 9, 101, src=7000)),
        turned(X, OURS, client(A, 101, 10, 5, dst=7000), OURS, Y, client(A, 101, 10, 5, dst=7000))],
    "23 a hairpin to itself, TCP": [
        turned("10.0.0.80", OURS, client(S, 1, dst=8080), OURS, "10.0.0.80", client(S, 1)),
        turned("10.0.0.80", OURS, server(S | A, 9, 2), OURS, "10.0.0.80", server(S | A, 9, 2, src=8080)),
        turned("10.0.0.80", OURS, client(A, 2, 10, 5, dst=8080), OURS, "10.0.0.80", client(A, 2, 10, 5)),
        turned("10.0.0.80", OURS, server(A, 10, 7, 5), OURS, "10.0.0.80", server(A, 10, 7, 5, src=8080))],
    "an error about a forwarded port": [
        back(FAR, OURS, ask(1, 7009), "10.0.0.91", ask(1, 109)),
        out("10.0.0.91", FAR, icmp(type=3, code=3) / packet(FAR, "10.0.0.91", ask(1, 109), True)[14:],
            icmp(type=3, code=3) / packet(FAR, OURS, ask(1, 7009), True)[14:])],
    "an error about a hairpin": [
        turned(X, OURS, ask(5000, 7009), OURS, "10.0.0.91", ask(5000, 109)),
        turned("10.0.0.91", OURS, icmp(type=3, code=3) / packet(OURS, "10.0.0.91", ask(5000, 109), True)[14:], OURS, X,
               icmp(type=3, code=3) / packet(X, OURS, ask(5000, 7009), False)[14:])],
    "an error about a whole address": [
        out("10.0.0.50", FAR, bytes(8), ours="192.0.2.50", proto=47),
        back(HOP, "192.0.2.50", icmp(type=3, code=2) / packet("192.0.2.50", FAR, bytes(8), False, proto=47)[14:],
             "10.0.0.50", icmp(type=3, code=2) / packet("10.0.0.50", FAR, bytes(8), False, proto=47)[14:])],
    "errors about a forwarded port, v6": [
        back(FAR6, "2001:db8::60", ask(1, 7000), "fd00::60", ask(1, 100)),
        out("fd00::60", FAR6, icmp6(type=1, code=4) / packet(FAR6, "fd00::60", ask(1, 100), True)[14:],
            icmp6(type=1, code=4) / packet(FAR6, "2001:db8::60", ask(1, 7000), True)[14:], ours="2001:db8::60"),
        out("fd00::60", FAR6, ask(100, 1), ask(7000, 1), ours="2001:db8::60"),
        back(HOP6, "2001:db8::60", icmp6(type=3) / packet("2001:db8::60", FAR6, ask(7000, 1), False)[14:], "fd00::60",
             icmp6(type=3) / packet("fd00::60", FAR6, ask(100, 1), False)[14:])],
    "a hairpin to nobody": [turned(X, OURS, ask(5000, 99), OURS, Y, ask(), Unbound.UNMAPPED)],
    "a neighbor of ours": [out(X, "192.0.2.20", ask()), back("192.0.2.20", OURS, ANSWER, X)],
}


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    targets = [target for target in available() if target != "xdp"]
    with Agreement(fixed, targets, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


@pytest.mark.parametrize("name", FIXED)
def test_static_bindings(name: str, static: Agreement) -> None:
    hold(fixed(), FIXED[name])
    static.run([Arrival(step.frame, step.port) for step in FIXED[name]])


def test_random_packets(session: Agreement, nightly: bool) -> None:
    for seed in range(20 if nightly else 1):
        session.run(traffic(f"nat {seed}", 20_000 if nightly else 2_500, ports=2))


# -- ARP ---------------------------------------------------------------------------------------------------------------

def test_arp_is_answered_for_what_is_ours() -> None:
    def question(target: str, sender: str = FAR, operation: int = 1) -> bytes:
        return bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=GATEWAY) / arp(
            operation=operation, sender_mac=GATEWAY, sender_ip=sender, target_ip=target))

    mine = bytes(ethernet(dst=GATEWAY, src=ROUTER) / arp(operation=2, sender_mac=ROUTER, sender_ip="192.0.2.50",
                                                        target_mac=GATEWAY, target_ip=FAR))
    passing = [question("192.0.2.51"), question("192.0.2.50", "192.0.2.50"), question("192.0.2.50", operation=2),
               question("10.0.0.50")]
    steps = [Step(question("192.0.2.50"), OUTSIDE, mine, OUTSIDE), Step(question("192.0.2.50"), INSIDE, mine, INSIDE),
             *(Step(frame, OUTSIDE, frame, INSIDE) for frame in passing)]
    hold(Nat(static=STATIC, mac=ROUTER), steps)
    agreed(lambda: Nat(static=STATIC, mac=ROUTER), [(step.frame, step.port) for step in steps],
           [target for target in available() if target != "xdp"])
    hold(fixed(), [Step(steps[0].frame, OUTSIDE, steps[0].frame, INSIDE)])


# -- fragments out of order --------------------------------------------------------------------------------------------

def test_17_a_fragment_waits_for_its_first() -> None:
    first, later = CASES["fragments follow the first"][:2]
    agreed(lambda: ours(wait=SECOND), [(later.frame, INSIDE), (first.frame, INSIDE), (later.frame, INSIDE)],
           [target for target in available() if target != "xdp"])
    nat = ours(wait=SECOND)

    async def conversation() -> None:
        verdict = nat.run(early := Packet(later.frame, INSIDE))
        assert verdict.kind == PUNT_KIND and isinstance(verdict.event, Early)
        waiting = asyncio.create_task(nat.on_early(verdict.event, early))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        hold(nat, [first])
        returned = await waiting
        assert returned is early
        hold(nat, [Step(bytes(returned), INSIDE, later.becomes, OUTSIDE)])

    asyncio.run(conversation())


def test_17_and_not_for_ever() -> None:
    nat = ours(wait=SECOND // 100)
    verdict = nat.run(early := Packet(CASES["fragments follow the first"][1].frame, INSIDE))
    assert isinstance(verdict.event, Early)
    assert asyncio.run(nat.on_early(verdict.event, early)) is None
    assert nat.drops[Untracked.UNKNOWN_FRAGMENT] == 1


# -- change ------------------------------------------------------------------------------------------------------------

def test_a_changed_address_cuts_what_used_it_and_nothing_else() -> None:
    nat = Nat(addresses=[OURS, OURS6], static=STATIC[:1])
    hold(nat, [*opened(), out(X6, FAR6, ask()), *FIXED["a forwarded port"]])
    nat.reconfigure(addresses=["192.0.2.2", OURS6], static=STATIC[:1])
    moved = packet("192.0.2.2", FAR, ask(), False)
    hold(nat, [out(X, FAR, client(A, 101, 501), reason=Untracked.OUT_OF_STATE),
               back(FAR, OURS, server(A, 501, 101), X, reason=Unbound.UNMAPPED),
               Step(out(X, FAR, ask()).frame, INSIDE, moved, OUTSIDE), back(FAR6, OURS6, ANSWER, X6),
               back(FAR, OURS, client(A, 2, 10, 3, dst=8080), "10.0.0.80", client(A, 2, 10, 3))])


def test_a_static_binding_that_goes_takes_its_connections_along() -> None:
    nat = Nat(addresses=[OURS], static=STATIC)
    hold(nat, [*FIXED["a forwarded port"], *FIXED["a range"], *opened()])
    nat.reconfigure(static=STATIC[1:])
    hold(nat, [back(FAR, OURS, client(A, 2, 10, dst=8080), X, reason=Unbound.UNMAPPED),
               out("10.0.0.80", FAR, server(A, 10, 2), reason=Untracked.OUT_OF_STATE),
               out("10.0.0.90", FAR, ask(6009, 1)), out(X, FAR, client(A, 101, 501))])
    nat.reconfigure(static=[STATIC[0] | {"inside": "10.0.0.81"}, *STATIC[1:]])
    hold(nat, [back(FAR, OURS, client(S, 1, dst=8080), "10.0.0.81", client(S, 1))])


def test_a_static_binding_takes_its_port_from_whoever_has_it() -> None:
    nat = ours()
    assert sent(nat, X, 6000) == 6000
    nat.reconfigure(static=STATIC)
    assert sent(nat, X, 6000) not in (6000, -Unbound.EXHAUSTED)
    hold(nat, [back(FAR, OURS, ask(1, 6000), "10.0.0.90")])


def test_nothing_passes_before_there_are_addresses_and_families_are_apart() -> None:
    nat = Nat(addresses=[OURS])
    six = packet(X6, FAR6, ask(), False)
    hold(nat, [Step(six, INSIDE, six, OUTSIDE)])
    nat.reconfigure(addresses=[OURS6])
    four = packet(X, FAR, ask(), False)
    hold(nat, [Step(four, INSIDE, four, OUTSIDE), out(X6, FAR6, ask())])


def test_flush() -> None:
    nat = fixed()
    hold(nat, [*opened(), *FIXED["a range"], out(Y, FAR, ask(7))])
    assert nat.flush("10.0.0.3/32") == 1 and nat.flush("10.0.0.0/8") == 1 and nat.flush() == 0
    assert len(nat.listing()) == 1 and len(nat.show()) == len(nat.bindings.outside) - 2
    hold(nat, [back(FAR, OURS, ask(53, 7), Y, reason=Unbound.UNMAPPED),
               out(X, FAR, client(A, 101, 501), reason=Untracked.OUT_OF_STATE),
               back(FAR, OURS, ask(1, 6009), "10.0.0.90")])
    assert sent(nat, "10.0.0.4", 7) != 7


def test_what_began_and_ended_is_recorded(caplog: pytest.LogCaptureFixture) -> None:                       # RFC 6888 4
    caplog.set_level("INFO", "iovisor.parts.ledger")
    nat = Nat(addresses=[OURS], static=STATIC, log=True)
    began = time()
    assert sent(nat, X, 5000) == 5000
    Clock.advance(5 * SECOND)
    nat.record()
    (row,) = nat.recorded()
    assert {key: row[key] for key in row if key != "at"} == {
        "what": "began", "protocol": "udp", "inside": X, "inside_port": 5000, "outside": OURS, "outside_port": 5000}
    assert began - 6 < row["at"] < began - 4
    assert sent(nat, X, 5000, OTHER) == 5000 and len(nat.recorded()) == 1, "whom it sends to is nobody's business"
    Clock.advance(310 * SECOND)
    assert [row["what"] for row in nat.recorded()] == ["began", "ended"]
    assert sent(nat, X, 5000) == 5000 and sent(nat, Y, 5000) > 0
    assert [(row["what"], row["inside"]) for row in nat.recorded()[2:]] == [("began", X), ("began", Y)]
    nat.flush("10.0.0.2/32")
    assert [row["what"] for row in nat.recorded()].count("ended") == 2
    assert [record.args["what"] for record in caplog.records] == [  # type: ignore[index,call-overload]
        row["what"] for row in nat.recorded()]
    quiet = ours()
    assert sent(quiet, X, 5000) == 5000 and quiet.recorded() == []


def test_what_died_in_silence_is_not_counted() -> None:
    nat = ours()
    hold(nat, opened())
    assert [binding.lasting for _, binding in nat.bindings.outside.items()] == [1]
    Clock.advance(7_500 * SECOND)
    nat.connections.sweep()
    nat.count()
    assert [binding.lasting for _, binding in nat.bindings.outside.items()] == [0]


def test_listing() -> None:
    nat = fixed()
    hold(nat, opened())
    row = {"protocol": "tcp", "from": "10.0.0.2 4000", "to": "198.51.100.7 80", "zone": 0, "state": "established",
           "seconds": 7_441}
    assert nat.listing() == [row]
    assert {"protocol": "tcp", "inside": X, "inside_port": 4000, "outside": OURS, "outside_port": 4000,
            "static": False, "seconds": 7_441} in nat.show()
    assert {"protocol": "all", "inside": "10.0.0.50", "inside_port": 0, "outside": "192.0.2.50", "outside_port": 0,
            "static": True, "seconds": None} in nat.show()


@pytest.mark.parametrize(("settings", "message"), [
    ({"addresses": ["192.0.2.0/24"]}, "256 outside addresses; there is room for 16 (most_addresses)"),
    ({"first_port": 80}, "80 to 65535 is no range from 1024 up"),
    ({"static": [{"outside": OURS, "inside": X6}]}, "inside: fd00::2/128 is not of the size and family"),
    ({"static": [{"outside": OURS, "inside": X, "outside_ports": 80}]}, "protocol: ports need a protocol"),
    ({"static": [{"outside": OURS, "inside": X, "protocol": "icmp"}]}, "protocol: icmp has no ports"),
    ({"static": [{"outside": OURS, "inside": X, "protocol": "tcp"}]}, "outside_ports: this needs a port"),
    ({"static": [{"outside": OURS, "inside": X, "protocol": "tcp", "outside_ports": "9-1"}]}, "'9-1' is not a range"),
    ({"static": [{"outside": OURS, "inside": X, "protocol": "tcp", "outside_ports": "www"}]},
     "'www' is neither a port nor a range"),
    ({"static": [{"outside": OURS, "inside": X, "protocol": "tcp", "outside_ports": "1-9", "inside_ports": "1-8"}]},
     "'1-8' has not as many ports as '1-9'"),
    ({"static": [{"outside": "192.0.2.0/24", "inside": "10.0.0.0/24", "protocol": "tcp", "outside_ports": 1}]},
     "is not one address"),
    ({"static": STATIC[:1] * 2}, "with these ports is in static[0] too"),
    ({"static": [{"outside": "192.0.2.0/24", "inside": "10.0.0.0/24"}]}, "256 outside addresses"),
])
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Nat(**settings)
    assert message in str(refused.value)
