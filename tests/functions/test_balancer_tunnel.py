"""The balancer's mode `tunnel`, exact packet by exact packet, in CPython and through `agree`."""
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.balancer import Balancer
from iovisor.functions.balancer.tables import Note, Reason, Slow, Work
from iovisor.language import SECOND, Clock, ConfigError, Packet, Verdict, drop, forward, punt
from iovisor.parts.connections import Untracked
from iovisor.targets import load
from iovisor.targets.bpf_loaded import BpfLoaded
from iovisor.testing import Agreement, Arrival, available
from iovisor.testing.packets import arp, ethernet, fragment, hop_by_hop, icmp, icmp6, ipv4, ipv6, udp
from tests.functions.test_balancer import (
    CLIENT4,
    CLIENT6,
    INSIDE,
    OUTSIDE,
    OWN,
    ROUTER,
    VIP4,
    VIP6,
    A,
    F,
    S,
    Step,
    backends,
    balancer,
    health,
    held,
    mac,
    quote,
    reply,
    said,
    segment,
    to_vip,
)

PORTS = {(False, False): 80, (True, True): 80, (False, True): 81, (True, False): 81}    # by families: inside, outside


def service(port: int, six: bool, outside: bool, protocol: str = "tcp", **more: Any) -> dict[str, Any]:
    return {"address": VIP6 if six else VIP4, "port": port, "protocol": protocol, "mode": "tunnel",
            "backends": backends(7, six=outside)} | more


def site(**more: Any) -> Balancer:
    """A backend by tunnels of every kind."""
    return balancer(*(service(port, six, outside, protocol) for (six, outside), port in PORTS.items()
                      for protocol in ("tcp", "udp")), **more)


def wrapped(frame: bytes, outside: bool = False, traffic: int = 0, flow: int = 0, source: str = "") -> bytes:
    """What went to a VIP, on its way to backend 7; `flow` is what the balancer made of the flow."""
    six = frame[12:14] == b"\x86\xdd"
    inside = frame[14:]
    number = 41 if six else 4
    length = int.from_bytes(inside[4:6], "big") + 40 if six else int.from_bytes(inside[2:4], "big")
    ip = ipv6(src="fd00::fa", dst="fd00::7", next=number, length=length, dscp=traffic >> 2, ecn=traffic & 3,
              flow=flow) if outside else ipv4(src=source or "10.0.0.250", dst="10.0.0.7", proto=number, df=1,
                                              length=length + 20, dscp=traffic >> 2, ecn=traffic & 3)
    return bytes(ethernet(dst=mac(7), src=OWN, type=0x86dd if outside else 0x0800) / ip / inside)


def went(frame: bytes, made: Balancer | None = None, port: int = OUTSIDE) -> bytes:
    """How a balancer sends a frame on."""
    packet = Packet(frame, port)
    assert (made or site()).run(packet) == forward(INSIDE)
    return bytes(packet)


@pytest.fixture(autouse=True)
def standing() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agreement]:
    with Agreement(site, cache=Cache(tmp_path_factory.mktemp("images"))) as made:
        yield made


def asks(flags: int, six: bool = False, outside: bool = False, data: bytes = b"") -> bytes:
    return to_vip(segment(4000, PORTS[six, outside], flags, data), six)


FAMILIES = pytest.mark.parametrize(("six", "outside"), PORTS)
LONG4, LONG6 = bytes(1500 - 20 - 20 - 20), bytes(1500 - 40 - 40 - 20)       # fit, to the byte


@FAMILIES
def test_every_packet_is_wrapped(six: bool, outside: bool, session: Agreement) -> None:
    """TCP and UDP, each inside of each, whatever the packet says of itself."""
    port = PORTS[six, outside]
    marked: dict[str, Any] = {"dscp": 46, "ecn": 2}
    frames = [*(asks(flags, six, outside) for flags in (S, A)), asks(A, six, outside, b"GET"),
              asks(A | F, six, outside), *[to_vip(udp(src=5000, dst=port) / b"ask", six)] * 2,
              to_vip(segment(4000, port, A), six, **marked)]
    made = site()
    for frame in frames:
        left = went(frame, made)
        flow = int.from_bytes(left[15:18], "big") & 0xf_ffff
        assert left == wrapped(frame, outside, 0xba if frame is frames[-1] else 0, flow)
        if outside:
            assert flow == int.from_bytes(went(frame)[15:18], "big") & 0xf_ffff != 0, "of the flow, not of the packet"
    session.run(Arrival(frame, OUTSIDE) for frame in frames)


def test_what_is_odd_is_wrapped_too(session: Agreement) -> None:
    """Options, extension headers, padding, fragments, and clients behind the backends' port."""
    part = to_vip(udp(src=5000, dst=80) / bytes(16))[34:][:16]
    steps = [
        Step(frame, port, wrapped(frame), forward(INSIDE)) for frame, port in (
            (to_vip(segment(4000, 80, S), options=bytes([7, 7, 4, 0, 0, 0, 0, 0])), OUTSIDE),
            (to_vip(segment(4001, 80, S)) + bytes(6), OUTSIDE),
            (to_vip(part, proto=17, id=9, mf=1), OUTSIDE), (to_vip(bytes(8), proto=17, id=9, offset=2), OUTSIDE),
            (bytes(ethernet(dst=OWN, src=mac(8)) / ipv4(src="10.0.0.8", dst=VIP4) / segment(4000, 80, S)), INSIDE))]
    held(site(), steps)
    arrivals = [Arrival(step.given, step.port) for step in steps]
    for frame in (to_vip(hop_by_hop() / segment(4000, 80, S), True),
                  to_vip(fragment(id=9, more=1, next=17) / part, True),
                  to_vip(fragment(id=9, offset=2, next=17) / bytes(8), True)):
        arrivals.append(Arrival(frame, OUTSIDE))
        made = site()
        made.run(Packet(arrivals[-2].frame, OUTSIDE))
        left = went(frame, made)
        assert left == wrapped(frame, True, 0, int.from_bytes(left[15:18], "big") & 0xf_ffff)
    session.run(arrivals)


def test_errors_for_a_backend_are_wrapped(session: Agreement) -> None:
    """What a router says about an answer goes to who sent it."""
    told4 = to_vip(icmp(type=3, code=4, rest=1300) / quote(bytes(
        ethernet(dst=1, src=2) / ipv4(src=VIP4, dst=CLIENT4) / segment(80, 4000, A))))
    told6 = to_vip(icmp6(type=2, rest=1300) / quote(bytes(
        ethernet(dst=1, src=2) / ipv6(src=VIP6, dst=CLIENT6) / segment(80, 4000, A))), True)
    flow = int.from_bytes(went(told6)[15:18], "big") & 0xf_ffff
    assert went(told4) == wrapped(told4) and went(told6) == wrapped(told6, True, 0, flow)
    session.run([Arrival(told4, OUTSIDE), Arrival(told6, OUTSIDE)])


def test_sources_of_the_flow() -> None:
    """Some bits of the source are the flow's; all these addresses are the balancer's."""
    made = balancer(service(80, False, False), spread=4)
    sources = set()
    for port in range(4000, 4200):
        frame = to_vip(segment(port, 80, S))
        left = went(frame, made)
        assert left == wrapped(frame, source=".".join(map(str, left[26:30])))
        assert left[26:30] == went(frame, made)[26:30]
        sources.add(left[26:30])
    assert sources == {bytes([10, 0, 0, last]) for last in range(240, 256)}
    asked = Packet(bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=mac(7)) / arp(
        sender_mac=mac(7), sender_ip="10.0.0.7", target_ip="10.0.0.241")), INSIDE)
    assert made.run(asked) == forward(INSIDE) and asked.data[28:32] == bytes([10, 0, 0, 241])


# -- what does not fit -------------------------------------------------------------------------------------------------

def big(six: bool, outside: bool, more: int = 0, **fields: Any) -> bytes:
    """A packet that fits to the byte, and `more`."""
    size = 1500 - (40 if outside else 20) - (40 if six else 20) - 20 + more
    return to_vip(segment(4000, PORTS[six, outside], A, bytes(size)), six, **fields)


def refusal(mtu: int) -> Verdict:
    return punt(Slow(what=Work.TOO_BIG, reason=Reason.TOO_BIG, mtu=mtu))


@FAMILIES
def test_too_big(six: bool, outside: bool, session: Agreement) -> None:
    """The client hears what fits, by the VIP, may its packet be fragmented or not; and not too often."""
    room = 1460 if outside else 1480
    frames = [big(six, outside), big(six, outside, 1), big(six, outside, 500, **({} if six else {"df": 1}))]
    made = site(rejections=3)
    assert len(went(frames[0], made)) == 1514
    for frame in frames[1:]:
        packet = Packet(frame, OUTSIDE)
        verdict = made.run(packet)
        assert verdict == refusal(room) and bytes(packet) == frame[:14 + 1280] and isinstance(verdict.event, Slow)
        made.on_slow(verdict.event, packet)
    head = ethernet(dst=ROUTER, src=OWN)
    assert made.outbox == [(OUTSIDE, bytes(
        head / ipv6(src=VIP6, dst=CLIENT6) / icmp6(type=2, rest=room) / quote(frame, 1232) if six else
        head / ipv4(src=VIP4, dst=CLIENT4, dscp=48) / icmp(type=3, code=4, rest=room) / quote(frame, 548)))
        for frame in frames[1:]]
    assert made.run(Packet(frames[1], OUTSIDE)) == refusal(room)
    assert made.run(Packet(frames[1], OUTSIDE)) == drop(Reason.TOO_BIG)
    assert made.noted.read(Note.TOO_BIG).packets == 3
    session.run(Arrival(frame, OUTSIDE) for frame in frames * 2)


def test_an_aggregate_is_judged_by_its_segments() -> None:
    made = site()
    for segment_size, verdict in ((1440, forward(INSIDE)), (1441, refusal(1480))):
        packet = Packet(to_vip(segment(4000, 80, A, bytes(14_400)), df=1), OUTSIDE)
        packet.segment = segment_size
        assert made.run(packet) == verdict
        assert packet.segment == (segment_size if verdict == forward(INSIDE) else 0)
    packet = Packet(to_vip(segment(4000, 80, A, bytes(65_480)), df=1), OUTSIDE)
    packet.segment = 1400
    assert made.run(packet) == drop(Reason.TOO_BIG), "its length could not be told"


def test_nobody_answers_a_later_fragment() -> None:
    made = site()
    for frame in (to_vip(bytes(1480), proto=17, id=9, offset=185), to_vip(udp(src=1, dst=80) / bytes(8))):
        packet = Packet(frame, OUTSIDE)
        made.on_slow(Slow(what=Work.TOO_BIG, reason=Reason.TOO_BIG, mtu=1480), packet)
    assert len(made.outbox) == 1 and made.drops == {Reason.TOO_BIG: 1}


# -- errors about the tunnel -------------------------------------------------------------------------------------------

def complaint(frame: bytes, mtu: int, kind: tuple[int, int] = (3, 4), **fields: Any) -> bytes:
    """What a router on the way to the backend says about a wrapped frame."""
    head = ethernet(dst=OWN, src=ROUTER)
    if frame[12:14] == b"\x86\xdd":
        return bytes(head / ipv6(src="fd00::1", dst="fd00::fa") / icmp6(type=2, rest=mtu, **fields)
                     / quote(frame, 1232))
    return bytes(head / ipv4(src="10.0.0.1", dst="10.0.0.250")
                 / icmp(type=kind[0], code=kind[1], rest=mtu, **fields) / quote(frame, 28))


def hear(made: Balancer, frame: bytes) -> None:
    packet = Packet(frame, INSIDE)
    verdict = made.run(packet)
    assert verdict == punt(Slow(what=Work.NARROW, reason=Reason.TUNNEL)) and isinstance(verdict.event, Slow)
    made.on_slow(verdict.event, packet)


@pytest.mark.parametrize("six", [False, True])
def test_a_narrow_way(six: bool, session: Agreement) -> None:
    """What a router says fits is told to the next who sends more, for ten minutes; and to none through wider ways."""
    made, room = site(), 1360 if six else 1380
    left = went(big(six, six), made)
    told = complaint(left, 1400)
    hear(made, told)
    assert made.run(Packet(big(six, six), OUTSIDE)) == refusal(room)
    assert made.run(Packet(big(six, six, -100), OUTSIDE)) == forward(INSIDE)
    assert made.run(Packet(big(six, not six), OUTSIDE)) == forward(INSIDE)
    made.refresh()
    assert made.run(Packet(big(six, six), OUTSIDE)) == refusal(room)
    Clock.advance(601 * SECOND)
    made.widen()
    assert made.run(Packet(big(six, six), OUTSIDE)) == forward(INSIDE)
    assert not made.drops and made.noted.read(Note.TUNNEL).packets == 1
    session.run([Arrival(told, INSIDE), Arrival(told, OUTSIDE)])


def test_what_is_not_believed() -> None:
    """A wrong checksum, too little, another kind of error, about somebody else's packet."""
    made = site()
    left = went(big(False, False), made)
    hear(made, complaint(left, 68))
    assert made.run(Packet(big(False, False), OUTSIDE)) == refusal(1300), "no less than what IPv6 needs"
    made = site()
    hear(made, complaint(left, 1400, checksum=1))
    hear(made, complaint(left, 1400, (11, 0)))
    hear(made, complaint(left[:30] + bytes([10, 0, 0, 9]) + left[34:], 1400))
    assert made.run(Packet(big(False, False), OUTSIDE)) == forward(INSIDE)
    assert made.drops == {Reason.TUNNEL: 2}
    other = complaint(left[:26] + bytes([10, 0, 0, 9]) + left[30:], 1400)
    assert made.run(Packet(other, INSIDE)) == drop(Untracked.UNRELATED)


# -- the control path --------------------------------------------------------------------------------------------------

def test_checks_go_to_the_backend() -> None:
    """Of its family, whatever the VIP's."""
    made = balancer(service(80, False, True, check={"way": "icmp"}))
    made.check()
    frames = said(made)
    rest = int.from_bytes(bytes(frames[7])[-12:-8], "big")
    reply(made, 7, icmp6(type=129, rest=rest) / b"balancer", True)
    assert health(made) == ["open"]


@pytest.mark.parametrize(("wrong", "path"), [
    ({"mtu": 1300}, "mtu"),
    ({"spread": 9}, "spread"),
    ({"vips": [service(80, False, False, backends=backends(1, port=81))]}, "vips[0].backends[0].port"),
    ({"addresses": ["10.0.0.250/24"], "vips": [service(80, False, True)]}, "vips[0].mode"),
    ({"addresses": ["10.0.0.250/24"], "vips": [service(80, False, True, mode="nat")]}, "vips[0].backends[0].address"),
])
def test_what_cannot_be(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as found:
        Balancer(**{"mac": OWN, "addresses": ["10.0.0.250/24", "fd00::fa/64"]} | wrong)
    assert found.value.path == path


def test_chatter(session: Agreement, nightly: bool) -> None:
    """Packets of all kinds and lengths, near what fits."""
    chance = random.Random(5)

    def anything() -> Iterator[Arrival]:
        for _ in range(20_000 if nightly else 1_500):
            six, outside = chance.choice(list(PORTS))
            size = chance.choice([0, 4, 200, 1380, 1400, 1420, 1440, 1441, 1460, 1500])
            port, kept = chance.choice([4000, 4001]), PORTS[six, outside]
            more: dict[str, Any] = {} if six else {"df": chance.randrange(2), "ecn": chance.randrange(4)}
            if chance.random() < 0.2:
                frame = to_vip(udp(src=port, dst=kept) / bytes(size), six, **more)
            else:
                frame = to_vip(segment(port, kept, chance.choice([S, A, A, A | F]), bytes(size)), six, **more)
            if chance.random() < 0.1:
                frame = complaint(wrapped(frame[:14 + 400], outside, 0, 1), chance.choice([0, 68, 1400, 1500]))
            if chance.random() < 0.05:
                frame = frame[:-chance.randrange(1, 60)]
            yield Arrival(frame, chance.choice([OUTSIDE, OUTSIDE, INSIDE]), after=chance.choice([0, 0, SECOND]))

    session.run(anything())


@pytest.mark.parametrize("target", [target for target in ("tc", "xdp") if target in available()])
def test_the_verifier_has_room(target: str) -> None:
    with load(site(), target) as loaded:
        assert isinstance(loaded, BpfLoaded) and loaded.programs["ingress"].info().verified < 200_000
