"""The router against the bar: ARP, IPv4, IPv6 and neighbor discovery, case by case, in plain CPython.

`Bench` stands in for the fabric: what a packet is punted for goes to the router's Python, and what that sends counts as
sent.  Frames in, frames out.  `MATERIAL` of the agreement tests is what went in here.
"""
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.router import Router
from iovisor.functions.router.tables import Mark, Near4, Near6, Reason, State
from iovisor.language import SECOND, Clock, ConfigError, Dropped, Packet, Prefix, ipv4_address, ipv6_address, prefix
from iovisor.language.verdicts import FORWARD_KIND, PUNT_KIND
from iovisor.targets import load
from iovisor.testing import Arrival, agree
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
    raw,
    tcp,
    trailer,
    udp,
    vlan,
)
from iovisor.wire import AddressOption, NeighborAdvertisement, NeighborSolicitation
from iovisor.wire.fragmentation import cut
from iovisor.wire.ipv4 import IPv4
from iovisor.wire.ipv6 import IPv6, multicast_mac, solicited_node

R0, R1, R2 = "02:00:00:00:01:00", "02:00:00:00:01:01", "02:00:00:00:01:02"
A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
A4, B4, C4 = "10.0.0.10", "10.0.1.11", "10.0.2.12"
A6, B6, C6 = "2001:db8:0::a", "2001:db8:1::b", "2001:db8:2::c"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
LOCAL0 = ipv6_address("fe80::ff:fe00:100")
INTERFACES: dict[int, dict[str, Any]] = {
    0: {"mac": R0, "addresses": ["10.0.0.1/24", "2001:db8:0::1/64"]},
    1: {"mac": R1, "addresses": ["10.0.1.1/24", "2001:db8:1::1/64"]},
    2: {"mac": R2, "addresses": ["10.0.2.1/24", "2001:db8:2::1/64"], "mtu": 1300}}
FIXED = [{"port": port, "address": address, "mac": mac} for port, addresses, mac in (
    (0, (A4, A6), A), (1, (B4, B6), B), (2, (C4, C6), C)) for address in addresses]
STATIC: list[dict[str, Any]] = [
    {"to": "192.0.2.0/24", "via": [{"gateway": B4}]}, {"to": "192.0.2.128/25", "via": [{"gateway": C4}]},
    {"to": "198.51.100.0/26", "blocked": "blackhole"}, {"to": "198.51.100.64/26", "blocked": "unreachable"},
    {"to": "198.51.100.128/26", "blocked": "prohibit"},
    {"to": "2001:db8:100::/48", "via": [{"gateway": B6}]}, {"to": "2001:db8:100:8000::/49", "via": [{"gateway": C6}]},
    {"to": "2001:db8:200::/64", "blocked": "blackhole"}, {"to": "2001:db8:200:1::/64", "blocked": "unreachable"},
    {"to": "2001:db8:200:2::/64", "blocked": "prohibit"}]
USUAL: dict[str, Any] = {"interfaces": INTERFACES, "routes": 256, "static": STATIC, "fixed": FIXED}
Sent = list[tuple[int, bytes]]


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1000 * SECOND)
    yield
    Clock.run()


class Bench:
    """A router, and what it does with a frame."""

    def __init__(self, **config: Any) -> None:
        self.router = Router(**USUAL | config)
        self.given: list[tuple[int, bytes]] = []

    def send(self, frame: Frame | bytes, port: int = 0) -> Sent:
        """What leaves, by port."""
        self.given.append((port, bytes(frame)))
        packet = Packet(bytes(frame), port)
        verdict = self.router.run(packet)
        self.router.outbox.clear()
        for told in packet.told:
            getattr(self.router, self.router.spec().handlers[type(told)])(told, Packet(bytes(frame), port))
        if verdict.kind == FORWARD_KIND:
            return [*self.router.outbox, (verdict.argument, bytes(packet))]
        if verdict.kind == PUNT_KIND:
            event = verdict.event
            assert event is not None and bytes(packet) == bytes(frame), "what is punted is as it came"
            getattr(self.router, self.router.spec().handlers[type(event)])(event, packet)
        return list(self.router.outbox)

    def one(self, frame: Frame | bytes, port: int = 0) -> tuple[int, bytes]:
        sent = self.send(frame, port)
        assert len(sent) == 1, sent
        return sent[0]

    def dropped(self, frame: Frame | bytes, reason: int, port: int = 0) -> None:
        before = self.router.drops.get(reason, 0)
        assert self.send(frame, port) == []
        assert self.router.drops.get(reason, 0) == before + 1, self.router.drops

    def later(self, seconds: float) -> Sent:
        """Time passes, in steps of the router's own watch."""
        self.router.outbox.clear()
        for _ in range(round(seconds * 2)):
            Clock.advance(SECOND // 2)
            self.router.watch()
        return list(self.router.outbox)


@pytest.fixture
def bench() -> Bench:
    return Bench()


IN = ethernet(dst=R0, src=A)
BACK = ethernet(dst=A, src=R0)


def to(address: str, **fields: Any) -> Frame:
    return IN / ipv4(src=A4, dst=address, **fields)


def to6(address: str, **fields: Any) -> Frame:
    return IN / ipv6(src=A6, dst=address, **fields)


def error4(about: Frame | bytes, type: int, code: int, rest: int = 0) -> bytes:
    """The ICMP error about a frame, from the router to whom it came from."""
    quoted = bytes(about)[14:][:min(int.from_bytes(bytes(about)[16:18], "big"), 548)]
    return bytes(BACK / ipv4(src="10.0.0.1", dst=A4, dscp=48) / icmp(type=type, code=code, rest=rest) / quoted)


def error6(about: Frame | bytes, type: int, code: int, rest: int = 0) -> bytes:
    quoted = bytes(about)[14:][:min(40 + int.from_bytes(bytes(about)[18:20], "big"), 1232)]
    return bytes(BACK / ipv6(src="2001:db8:0::1", dst=A6) / icmp6(type=type, code=code, rest=rest) / quoted)


# -- ARP -------------------------------------------------------------------------------------------------------------

def asks(target: str, source: str = A4, mac: str = A) -> Frame:
    return ethernet(dst=EVERYBODY, src=mac) / arp(operation=1, sender_mac=mac, sender_ip=source, target_ip=target)


def test_a_request_for_our_address_is_answered(bench: Bench) -> None:                                         # ARP-01
    want = ethernet(dst=A, src=R0) / arp(operation=2, sender_mac=R0, sender_ip="10.0.0.1", target_mac=A, target_ip=A4)
    assert bench.one(asks("10.0.0.1")) == (0, bytes(want))


@pytest.mark.parametrize("target", [B4, "10.0.1.1", "10.0.0.77", "192.0.2.1"])
def test_nobody_else_is_answered_for(bench: Bench, target: str) -> None:                                      # ARP-02
    bench.dropped(asks(target), Reason.HEARD)


@pytest.mark.parametrize("fields", [{"hardware": 6}, {"protocol": 0x86dd}, {"hardware_length": 8},
                                    {"protocol_length": 16}, {"operation": 3}], ids=str)
def test_strange_requests_are_ignored(bench: Bench, fields: dict[str, Any]) -> None:                          # ARP-03
    usual: dict[str, Any] = {"operation": 1, "sender_mac": A, "sender_ip": A4, "target_ip": "10.0.0.1"}
    frame = ethernet(dst=EVERYBODY, src=A) / arp(**usual | fields)
    bench.dropped(frame, Reason.BAD_RESOLUTION)
    assert bench.send(bytes(asks("10.0.0.1"))[:41]) == []


def test_a_probe_is_answered(bench: Bench) -> None:                                                           # ARP-04
    want = ethernet(dst=A, src=R0) / arp(operation=2, sender_mac=R0, sender_ip="10.0.0.1", target_mac=A, target_ip=0)
    assert bench.one(asks("10.0.0.1", "0.0.0.0")) == (0, bytes(want))


def reply(port: int, address: str, mac: str) -> Frame:
    ours = INTERFACES[port]
    return ethernet(dst=ours["mac"], src=mac) / arp(
        operation=2, sender_mac=mac, sender_ip=address, target_mac=ours["mac"],
        target_ip=ours["addresses"][0].partition("/")[0])


def test_the_first_packets_wait_and_are_delivered(bench: Bench) -> None:                                      # ARP-05
    frames = [to("10.0.1.99") / udp(src=n, dst=7) / b"first" for n in range(3)]
    request = ethernet(dst=EVERYBODY, src=R1) / arp(
        operation=1, sender_mac=R1, sender_ip="10.0.1.1", target_ip="10.0.1.99")
    assert bench.one(frames[0]) == (1, bytes(request))
    assert bench.send(frames[1]) == bench.send(frames[2]) == []
    want = [(1, bytes(ethernet(dst=C, src=R1) / ipv4(src=A4, dst="10.0.1.99", ttl=63) / udp(src=n, dst=7) / b"first"))
            for n in range(3)]
    assert bench.send(reply(1, "10.0.1.99", C), 1) == want
    assert bench.send(frames[0]) == want[:1], "and from then on straight through"


def test_more_than_some_do_not_wait(bench: Bench) -> None:
    for n in range(20):
        bench.send(to("10.0.1.99") / udp(src=n, dst=7))
    assert bench.router.drops == {Reason.QUEUE_FULL: 4}
    assert len(bench.send(reply(1, "10.0.1.99", C), 1)) == 16


def test_long_packets_wait_as_well(bench: Bench) -> None:
    """Jumbo frames and aggregates; what waits is bounded in bytes."""
    bench.router.reconfigure(interfaces=INTERFACES | {1: INTERFACES[1] | {"mtu": 9000}})
    jumbo = to("10.0.1.99", id=3, df=1) / udp(src=1, dst=7) / bytes(8000)
    bench.send(jumbo)
    want = ethernet(dst=C, src=R1) / ipv4(src=A4, dst="10.0.1.99", ttl=63, id=3, df=1) / udp(src=1, dst=7) / bytes(8000)
    assert bench.send(reply(1, "10.0.1.99", C), 1) == [(1, bytes(want))]
    bench.router.flush_neighbors()
    for n in range(10):
        for last in range(20, 80):
            bench.send(to(f"10.0.1.{last}", df=1) / udp(src=n, dst=7) / bytes(8000))
    assert bench.router.drops[Reason.QUEUE_FULL] == 600 - (4 << 20) // 8042
    assert sum(len(p) for queue in bench.router.waiting.values() for p in queue) <= 4 << 20


def test_a_dead_neighbor_is_asked_once_a_second_and_refused(bench: Bench) -> None:                        # ARP-06, 07
    bench.later(1)
    frame = to("10.0.1.99") / udp(src=1, dst=7)
    asked = len(bench.send(frame))
    sent = bench.later(3)
    requests = [data for port, data in sent if port == 1 and data[12:14] == b"\x08\x06"]
    assert asked == 1 and len(requests) == 2, "three requests in all"
    assert [item for item in sent if item[0] == 0] == [(0, error4(frame, 3, 1))], "what waited is refused"
    total = 0
    for _ in range(20):
        assert bench.one(frame) == (0, error4(frame, 3, 1))
        total += len(bench.later(0.5))
    assert 9 <= total <= 10
    assert bench.send(reply(1, "10.0.1.99", C), 1) == []
    assert bench.one(frame)[0] == 1, "back from the dead"


def test_a_dead_neighbor_nobody_wants_is_forgotten(bench: Bench) -> None:
    bench.send(to("10.0.1.99") / udp(src=1, dst=7))
    bench.later(70)
    assert Near4(address=ipv4_address("10.0.1.99"), port=1) not in bench.router.v4.neighbors


def test_a_gratuitous_announcement_updates(bench: Bench) -> None:                                             # ARP-08
    bench.send(asks("10.0.0.1", "10.0.0.50", B))
    frame = ethernet(dst=R1, src=B) / ipv4(src=B4, dst="10.0.0.50") / udp(src=1, dst=2)
    assert bench.one(frame, 1)[1][:6] == bytes.fromhex(B.replace(":", ""))
    bench.dropped(asks("10.0.0.50", "10.0.0.50", C), Reason.HEARD)
    assert bench.one(frame, 1)[1][:6] == bytes.fromhex(C.replace(":", ""))
    bench.dropped(asks("10.0.0.51", "10.0.0.51", C), Reason.HEARD)
    assert Near4(address=ipv4_address("10.0.0.51"), port=0) not in bench.router.v4.neighbors, "only an update"
    bench.dropped(asks(A4, A4, C), Reason.HEARD)
    frame = ethernet(dst=R1, src=B) / ipv4(src=B4, dst=A4) / udp()
    assert bench.one(frame, 1)[1][:6] == bytes.fromhex(A.replace(":", ""))


def test_who_asks_for_everybody_pushes_out_nobody_in_use() -> None:
    """A scan of a network, and a host that says it has every address: who is talked to stays, and there is room."""
    bench = Bench(neighbors=64, fixed=[])
    bench.send(asks("10.0.0.1"))
    bench.send(asks("10.0.0.1", "10.0.0.66", C))
    back = ethernet(dst=R1, src=B) / ipv4(src=B4, dst=A4) / udp(src=1, dst=2)
    assert bench.one(back, 1)[0] == 0
    for last in range(20, 220):
        bench.send(to(f"10.0.1.{last}") / udp(src=1, dst=2))
        bench.send(asks("10.0.0.1", f"10.0.0.{last}", C))
        Clock.advance(SECOND // 100)
        assert bench.one(back, 1)[0] == 0
    assert len(bench.router.v4.neighbors) <= 64
    bench.send(to("10.0.1.250") / udp(src=1, dst=2))
    assert bench.send(reply(1, "10.0.1.250", B), 1)[0][0] == 1, "a new neighbor finds room"
    assert set(bench.router.drops) <= {Reason.NEIGHBORS_FULL, Reason.HEARD}


def test_who_is_of_another_network_is_not_learned(bench: Bench) -> None:
    bench.one(asks("10.0.0.1", "10.0.1.77", C))
    assert all(n.state == State.FIXED for _, n in bench.router.v4.neighbors.items())


def test_our_address_is_defended_not_too_often(bench: Bench) -> None:                                   # RFC 5227 2.4
    thief = asks("10.0.0.1", "10.0.0.1", C)
    want = ethernet(dst=EVERYBODY, src=R0) / arp(operation=1, sender_mac=R0, sender_ip="10.0.0.1", target_ip="10.0.0.1")
    assert bench.one(thief) == (0, bytes(want))
    assert bench.send(thief) == []
    Clock.advance(11 * SECOND)
    assert bench.one(thief) == (0, bytes(want))


def test_addresses_are_announced(bench: Bench) -> None:
    first, second, third = bench.later(0.5), bench.later(0.5), bench.later(0.5)
    assert first == second and third == [] and len(first) == 6
    assert (0, bytes(ethernet(dst=EVERYBODY, src=R0) / arp(
        operation=1, sender_mac=R0, sender_ip="10.0.0.1", target_ip="10.0.0.1"))) in first


def test_a_used_neighbor_is_probed_and_a_silent_one_asked_for_anew() -> None:                             # 4861 7.3.3
    bench = Bench(fixed=[])
    bench.later(2)
    frame = ethernet(dst=R1, src=B) / ipv4(src=B4, dst=A4) / udp(src=1, dst=2)
    bench.send(asks("10.0.0.1"))
    assert bench.one(frame, 1)[0] == 0
    assert bench.later(29) == []
    probe = (0, bytes(ethernet(dst=A, src=R0) / arp(operation=1, sender_mac=R0, sender_ip="10.0.0.1", target_ip=A4)))
    assert bench.later(1) == [probe]
    assert bench.one(frame, 1)[0] == 0, "it is used meanwhile"
    assert bench.send(reply(0, A4, A)) == []
    assert bench.later(29) == []
    assert bench.later(4)[:3] == [probe, probe, probe], "nobody answers"
    assert bench.send(frame, 1) == [], "so packets wait again"


# -- IPv4 ------------------------------------------------------------------------------------------------------------

def out(dst: str = B, src: str = R1, **fields: Any) -> Frame:
    usual: dict[str, Any] = {"src": A4, "dst": B4, "ttl": 63}
    return ethernet(dst=dst, src=src) / ipv4(**usual | fields)


@pytest.mark.parametrize("fields", [{}, {"dscp": 46, "ecn": 1}, {"id": 0xffff, "df": 1}, {"id": 0}, {"ttl": 2},
                                    {"ttl": 255}, {"mf": 1, "id": 3}], ids=str)
def test_a_packet_is_forwarded_and_nothing_else_changes(bench: Bench, fields: dict[str, Any]) -> None:         # R4-01
    frame = IN / ipv4(src=A4, dst=B4, **fields) / udp(src=7, dst=9) / b"payload"
    want = out(**fields | {"ttl": fields.get("ttl", 64) - 1}) / udp(src=7, dst=9) / b"payload"
    assert bench.one(frame) == (1, bytes(want))


@pytest.mark.parametrize("ttl", [1, 0])
def test_the_last_hop_is_told(bench: Bench, ttl: int) -> None:                                          # R4-02, R4-03
    frame = to(B4, ttl=ttl) / udp(src=7, dst=9) / b"payload"
    assert bench.one(frame) == (0, error4(frame, 11, 0))


@pytest.mark.parametrize("fields", [{"checksum": 1}, {"version": 5}, {"ihl": 4}, {"length": 19}, {"length": 60}],
                         ids=str)
def test_broken_headers_vanish(bench: Bench, fields: dict[str, Any]) -> None:                                  # R4-04
    frame = to(B4, **fields) / udp(src=7, dst=9) / b"payload"
    bench.dropped(frame, Reason.CHECKSUM if "checksum" in fields else Reason.MALFORMED)


def test_padding_is_cut(bench: Bench) -> None:                                                                 # R4-05
    assert bench.one(to(B4) / udp(src=7, dst=9) / trailer(18)) == (1, bytes(out() / udp(src=7, dst=9)))


def test_no_route(bench: Bench) -> None:                                                                       # R4-06
    frame = to("203.0.113.1") / udp(src=7, dst=9)
    assert bench.one(frame) == (0, error4(frame, 3, 0))


def test_too_long_and_not_to_be_cut(bench: Bench) -> None:                                                     # R4-07
    frame = to(C4, df=1) / udp(src=7, dst=9) / bytes(1273)
    assert bench.one(frame) == (0, error4(frame, 3, 4, 1300))
    assert bench.one(to(C4, df=1) / udp(src=7, dst=9) / bytes(1272))[0] == 2


@pytest.mark.parametrize("size", [1273, 1400, 1472])
def test_fragments_are_exact(bench: Bench, size: int) -> None:                                                 # R4-08
    payload = random.Random(1).randbytes(size)
    frame = to(C4, id=77) / udp(src=7, dst=9) / payload
    body = bytes(frame)[34:]
    kept: dict[str, Any] = {"src": A4, "dst": C4, "ttl": 63, "id": 77, "proto": 17}
    want = [bytes(ethernet(dst=C, src=R2) / ipv4(**kept, mf=1) / body[:1280]),
            bytes(ethernet(dst=C, src=R2) / ipv4(**kept, offset=160) / body[1280:])]
    assert bench.send(frame) == [(2, part) for part in want]


def test_a_fragment_is_cut_again(bench: Bench) -> None:
    frame = to(C4, id=77, mf=1, offset=50, proto=17) / (bytes(range(128)) * 11)
    parts = [IPv4.decode(data[14:]) for _, data in bench.send(frame)]
    assert [(p.offset, p.mf, p.length) for p in parts] == [(50, 1, 1300), (210, 1, 148)]


def test_options_that_are_not_to_be_copied_stay_in_the_first() -> None:
    datagram = bytes(ipv4(src=1, dst=2, options=bytes.fromhex("07070400000000 01 88040001")) / udp() / bytes(100))
    first, *rest = [IPv4.decode(part) for part in cut(datagram, 68)]
    assert first.ihl == 8 and {p.ihl for p in rest} == {6}


def test_an_aggregate_is_cut_segment_by_segment(bench: Bench) -> None:
    """Datagrams of 1,400 bytes, in one packet, to where 1,300 fit: each becomes two fragments of its own."""
    payload = random.Random(2).randbytes(2800)
    frame = bytes(to(C4, id=7) / udp(src=7, dst=9) / payload)
    packet = Packet(frame, 0)
    packet.segment = 1400
    verdict = bench.router.run(packet)
    assert verdict.kind == PUNT_KIND and verdict.event is not None
    bench.router.on_slow(verdict.event, packet)  # type: ignore[arg-type]
    want = []
    for n in range(2):
        whole = bytes(ethernet(dst=C, src=R2) / ipv4(src=A4, dst=C4, ttl=63, id=7 + n)
                      / udp(src=7, dst=9) / payload[n * 1400:][:1400])
        want += [(2, whole[:14] + part) for part in cut(whole[14:], 1300)]
    assert bench.router.outbox == want


@pytest.mark.parametrize("target", ["10.0.1.255", "10.0.1.0", "255.255.255.255"])
def test_directed_broadcasts_are_not_forwarded(bench: Bench, target: str) -> None:                             # R4-09
    assert bench.send(to(target) / udp(src=7, dst=9)) == []


def test_directed_broadcasts_are_forwarded_where_allowed() -> None:                                         # RFC 2644
    bench = Bench(interfaces=INTERFACES | {1: INTERFACES[1] | {"directed_broadcast": True}})
    assert bench.one(to("10.0.1.255") / udp(src=7, dst=9)) == (
        1, bytes(ethernet(dst=EVERYBODY, src=R1) / ipv4(src=A4, dst="10.0.1.255", ttl=63) / udp(src=7, dst=9)))


@pytest.mark.parametrize("source", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_martian_sources(bench: Bench, source: str) -> None:                                                   # R4-10
    bench.dropped(IN / ipv4(src=source, dst=B4) / udp(), Reason.MARTIAN_SOURCE)


@pytest.mark.parametrize("target", [B4, "10.0.0.1", "10.0.1.1", "203.0.113.1"])
def test_the_routers_own_addresses_come_from_nobody(bench: Bench, target: str) -> None:                 # 1812 5.3.7
    for source in ("10.0.0.1", "10.0.1.1"):
        bench.dropped(IN / ipv4(src=source, dst=target) / icmp(type=8), Reason.MARTIAN_SOURCE)
    for source in ("2001:db8:0::1", "fe80::ff:fe00:100"):
        bench.dropped(IN / ipv6(src=source, dst=B6) / udp(), Reason.MARTIAN_SOURCE)
        bench.dropped(IN / ipv6(src=source, dst="2001:db8:0::1") / icmp6(type=128), Reason.MARTIAN_SOURCE)


def test_link_local_sources_get_no_farther_than_the_router(bench: Bench) -> None:                          # RFC 3927 7
    bench.dropped(IN / ipv4(src="169.254.7.7", dst=B4) / udp(), Reason.MARTIAN_SOURCE)
    assert bench.one(IN / ipv4(src="169.254.7.7", dst="10.0.0.1") / icmp(type=8))[0] == 0


@pytest.mark.parametrize("target", ["0.0.0.0", "127.0.0.1", "240.0.0.1", "169.254.1.1"])
def test_martian_destinations(bench: Bench, target: str) -> None:                                              # R4-11
    bench.dropped(to(target) / udp(), Reason.MARTIAN_DESTINATION)


def test_what_everybody_gets_is_not_routed(bench: Bench) -> None:                                       # R4-12, R4-13
    packet = ipv4(src=A4, dst=B4) / udp()
    bench.dropped(ethernet(dst=EVERYBODY, src=A) / packet, Reason.BROADCAST)
    bench.dropped(ethernet(dst="01:00:5e:00:00:05", src=A) / packet, Reason.MULTICAST)
    bench.dropped(ethernet(dst=R1, src=A) / packet, Reason.NOT_OURS)
    bench.dropped(ethernet(dst=R0, src=A, type=0x88b5) / bytes(46), Reason.NOT_IP)
    bench.dropped(ethernet(dst=R0, src=A, type=0x26) / bytes.fromhex("424203") / bytes(43), Reason.NOT_IP)
    snap = bytes.fromhex("aaaa03 000000 0800")      # RFC 1042: IPv4 as IEEE 802 networks other than Ethernet have it
    bench.dropped(ethernet(dst=R0, src=A, type=8 + len(bytes(packet))) / snap / bytes(packet), Reason.NOT_IP)
    bench.dropped(IN / packet, Reason.NO_INTERFACE, 9)


def test_no_errors_about_some_packets(bench: Bench) -> None:                                                   # R4-14
    bench.dropped(to("203.0.113.1") / icmp(type=3, code=3) / bytes(28), Reason.NO_ROUTE)
    bench.dropped(to("203.0.113.1", offset=9) / bytes(28), Reason.NO_ROUTE)
    assert bench.one(to("203.0.113.1") / icmp(type=8))[1][34:36] == b"\x03\x00"


@pytest.mark.parametrize("size", [0, 1, 56, 1000, 1472])
def test_echo(bench: Bench, size: int) -> None:                                                                # R4-15
    payload = random.Random(size).randbytes(size)
    want = BACK / ipv4(src="10.0.0.1", dst=A4, id=5) / icmp(type=0, rest=0x10002) / payload
    assert bench.one(to("10.0.0.1", id=5) / icmp(type=8, rest=0x10002) / payload) == (0, bytes(want))
    assert bench.one(to("10.0.1.1", id=5) / icmp(type=8, rest=0x10002) / payload)[1][26:30] == bytes([10, 0, 1, 1])


@pytest.mark.parametrize("size", [1473, 2000, 3000])
def test_echo_of_several_fragments_in_any_order(bench: Bench, size: int) -> None:                       # R4-15, R4-23
    payload = random.Random(size).randbytes(size)
    whole = bytes(ipv4(src=A4, dst="10.0.0.1", id=5) / icmp(type=8, rest=7) / payload)
    parts = cut(whole, 1500)
    want = bytes(ipv4(src="10.0.0.1", dst=A4, id=5) / icmp(type=0, rest=7) / payload)
    for order in (parts, parts[::-1], [*parts, *parts][1:]):
        sent: Sent = []
        for part in order:
            sent += bench.send(bytes(ethernet(dst=R0, src=A, type=0x800))[:14] + part)
        assert sent[:len(parts)] == [(0, bytes(ethernet(dst=A, src=R0, type=0x800))[:14] + part)
                                     for part in cut(want, 1500)]
        Clock.advance(60 * SECOND)


def test_fragments_that_overlap_end_the_datagram(bench: Bench) -> None:
    fields: dict[str, Any] = {"src": A4, "dst": "10.0.0.1", "id": 9, "proto": 1}
    assert bench.send(IN / ipv4(**fields, mf=1) / bytes(64)) == []
    assert bench.send(IN / ipv4(**fields, offset=4, mf=1) / bytes(64)) == []
    assert bench.send(IN / ipv4(**fields, offset=8) / bytes(8)) == [], "the rest of it alone is not whole"


def parts_for_us(bench: Bench, source: str, id: int, count: int = 1) -> list[Frame]:
    return [IN / ipv4(src=source, dst="10.0.0.1", id=id, proto=1, mf=1, offset=n * 8) / bytes(64) for n in range(count)]


def test_refusals_from_python_are_limited_and_may_be_impossible() -> None:
    """Options and fragments are refused within the same allowance, and each packet ends with a name."""
    bench = Bench(errors=2)
    routed = to(B4, options=bytes.fromhex("830704 0a000009 00")) / udp()
    unknown = to6(B6) / hop_by_hop(options=padded(0x9e)) / udp()
    assert [len(bench.send(frame)) for frame in (routed, unknown, routed, unknown)] == [1, 1, 0, 0]
    assert bench.router.drops == {Reason.ERRORS_LIMITED: 2}
    cut_short = to6(B6, length=16) / hop_by_hop(next=60, options=padded(0x9e)) / raw(bytes.fromhex("3c7f 000000000000"))
    bench.dropped(cut_short, Dropped.TRUNCATED)
    for number in range(3):
        assert bench.send(IN / ipv4(src=A4, dst="10.0.0.1", id=number, proto=17, mf=1) / bytes(64)) == []
    Clock.advance(61 * SECOND)
    bench.router.give_up_parts()
    assert len(bench.router.outbox) == 2 and bench.router.drops[Reason.FRAGMENTS] == 3


def test_what_does_not_become_whole_is_told(bench: Bench) -> None:                      # 1122 3.3.2, 8200 4.5
    first = IN / ipv4(src=A4, dst="10.0.0.1", id=9, proto=17, mf=1) / bytes(64)
    first6 = to6("2001:db8:0::1") / fragment(next=17, offset=0, more=1, id=3) / bytes(64)
    later = IN / ipv4(src=A4, dst="10.0.0.1", id=10, proto=17, offset=8) / bytes(64)
    for frame in (first, first6, later):
        assert bench.send(frame) == []
    Clock.advance(60 * SECOND)
    bench.router.give_up_parts()
    assert bench.router.outbox == []
    Clock.advance(SECOND)
    bench.router.give_up_parts()
    assert bench.router.outbox == [(0, error4(first, 11, 1)), (0, error6(first6, 3, 1))]
    assert bench.router.drops == {Reason.FRAGMENTS: 3} and not bench.router.assembly.wholes


def test_who_floods_with_fragments_pushes_out_himself(bench: Bench) -> None:
    """Another host's datagram becomes whole meanwhile; what there is is bounded, and all of it is counted."""
    whole = bytes(ipv4(src=A4, dst="10.0.0.1", id=5) / icmp(type=8, rest=7) / bytes(2000))
    first, second = [bytes(ethernet(dst=R0, src=A, type=0x800))[:14] + part for part in cut(whole, 1500)]
    for n in range(50):
        bench.send(parts_for_us(bench, "10.0.0.66", n)[0])
    assert bench.send(first) == []
    for n in range(1000):
        bench.send(parts_for_us(bench, "10.0.0.66", n)[0])
    assert len(bench.router.assembly.wholes) == 64
    assert len(bench.send(second)) == 2
    for frame in parts_for_us(bench, "10.0.0.67", 1, 200):
        bench.send(frame)
    most = max(len(whole.pieces) for whole in bench.router.assembly.wholes.values())
    assert most <= 128 and len(bench.router.assembly.wholes) <= 64
    Clock.advance(61 * SECOND)
    bench.router.give_up_parts()
    assert bench.router.drops[Reason.FRAGMENTS] == 1000 + 200, "the first fifty came twice, and were the same"


def test_a_vlan_is_not_routed_and_a_priority_is(bench: Bench) -> None:
    packet = ipv4(src=A4, dst=B4) / udp(src=7, dst=9)
    bench.dropped(IN / vlan(vid=5) / packet, Reason.TAGGED)
    tagged = Packet(bytes(IN / vlan(vid=0, pcp=5) / packet), 0)
    assert bench.router.run(tagged).argument == 1 and bytes(tagged) == bytes(out() / udp(src=7, dst=9))


RR = bytes.fromhex("07 0b 04 00000000 00000000 00")


def test_record_route_is_filled_and_unknown_options_carried(bench: Bench) -> None:                             # R4-16
    _, sent = bench.one(to(B4, options=RR) / udp(src=7, dst=9))
    assert sent == bytes(out(options=bytes.fromhex("07 0b 08 0a000101 00000000 00")) / udp(src=7, dst=9))
    unknown = bytes.fromhex("9e 04 0102 00000000")
    carried = bytes(out(options=unknown) / udp(src=7, dst=9))
    assert bench.one(to(B4, options=unknown) / udp(src=7, dst=9)) == (1, carried)


def test_source_routes_are_refused(bench: Bench) -> None:                                                      # R4-16
    for kind in ("83", "89"):
        frame = to(B4, options=bytes.fromhex(kind + "0704 0a000009 00")) / udp(src=7, dst=9)
        assert bench.one(frame) == (0, error4(frame, 3, 5))


@pytest.mark.parametrize(("options", "pointer"), [
    ("07ff0400000000 00", 21), ("0702 0000 0000 0000", 20), ("070b03 00000000 00000000 00", 22), ("4401 0000", 21),
    ("9e", 20)])
def test_malformed_options_are_refused(bench: Bench, options: str, pointer: int) -> None:                      # R4-16
    padded = bytes.fromhex(options)
    if len(padded) % 4:
        padded = bytes([1] * (4 - len(padded) % 4)) + padded
        pointer += 4 - len(bytes.fromhex(options)) % 4
    frame = to(B4, options=padded) / udp(src=7, dst=9)
    assert bench.one(frame) == (0, error4(frame, 12, 0, pointer << 24))


def test_timestamps_are_filled(bench: Bench) -> None:
    _, sent = bench.one(to(B4, options=bytes.fromhex("440c0501 00000000 00000000")) / udp(src=7, dst=9))
    assert sent[34:38] == bytes.fromhex("440c0d01") and sent[38:42] == bytes([10, 0, 1, 1]) and sent[42] >> 7
    _, sent = bench.one(to(B4, options=bytes.fromhex("44080900 00000000")) / udp(src=7, dst=9))
    assert sent[34:38] == bytes.fromhex("44080910"), "full: it counts"


def test_the_longest_prefix_wins(bench: Bench) -> None:                                                        # R4-18
    assert bench.one(to("192.0.2.1") / udp())[0] == 1
    assert bench.one(to("192.0.2.129") / udp())[0] == 2
    bench.router.reconfigure(static=[])
    assert bench.one(to("192.0.2.129") / udp())[1][34:36] == b"\x03\x00"


def test_reverse_path(bench: Bench) -> None:                                                                   # R4-19
    strict = Bench(interfaces=INTERFACES | {0: INTERFACES[0] | {"reverse_path": "strict"}})
    assert strict.one(to(B4) / udp())[0] == 1
    strict.dropped(IN / ipv4(src=C4, dst=B4) / udp(), Reason.SPOOFED)
    loose = Bench(interfaces=INTERFACES | {0: INTERFACES[0] | {"reverse_path": "loose"}})
    assert loose.one(IN / ipv4(src=C4, dst=B4) / udp())[0] == 1
    loose.dropped(IN / ipv4(src="203.0.113.9", dst=B4) / udp(), Reason.SPOOFED)
    loose.dropped(IN / ipv4(src="198.51.100.1", dst=B4) / udp(), Reason.SPOOFED)
    assert bench.one(IN / ipv4(src="203.0.113.9", dst=B4) / udp())[0] == 1


def test_errors_are_limited() -> None:                                                                         # R4-20
    bench = Bench(errors=10)
    frame = to("203.0.113.1") / udp()
    answers = sum(len(bench.send(frame)) for _ in range(50))
    assert answers == 10 and bench.router.drops[Reason.ERRORS_LIMITED] == 40
    Clock.advance(SECOND // 2)
    assert sum(len(bench.send(frame)) for _ in range(50)) == 5
    assert len(bench.send(IN / ipv4(src=A4, dst="10.0.0.1") / icmp(type=8))) == 1, "echo is no error"


def test_a_quote_fills_what_it_may(bench: Bench) -> None:                                                      # R4-21
    assert len(bench.one(to("203.0.113.1") / udp() / bytes(1000))[1]) == 14 + 576


def test_no_checksum_stays_none(bench: Bench) -> None:                                                         # R4-22
    assert bench.one(to(B4) / udp(src=1, dst=2, checksum=0) / b"x")[1][40:42] == b"\0\0"


def test_closed_ports(bench: Bench) -> None:                                                                   # R4-24
    frame = to("10.0.0.1") / udp(src=5, dst=33434) / bytes(12)
    assert bench.one(frame) == (0, error4(frame, 3, 3))
    want = BACK / ipv4(src="10.0.0.1", dst=A4, df=1) / tcp(src=80, dst=5, acknowledgment=2, flags=0x14)
    assert bench.one(to("10.0.0.1") / tcp(src=5, dst=80, sequence=1, flags=2)) == (0, bytes(want))
    frame = to("10.0.0.1", proto=200) / bytes(12)
    assert bench.one(frame) == (0, error4(frame, 3, 2))


@pytest.mark.parametrize("upper", [icmp(type=8), tcp(flags=2)], ids=["echo", "syn"])
def test_what_lies_behind_a_packet_is_no_part_of_it(bench: Bench, upper: Frame) -> None:
    bench.dropped(to("10.0.0.1", length=20) / upper, Reason.MALFORMED)


@pytest.mark.parametrize("upper", [icmp6(type=128), tcp(flags=2)], ids=["echo", "syn"])
def test_what_lies_behind_an_ipv6_packet_is_no_part_of_it(bench: Bench, upper: Frame) -> None:
    bench.dropped(to6("2001:db8:0::1", length=0) / upper, Reason.MALFORMED)


def test_every_length(bench: Bench) -> None:                                                                   # R4-25
    for size in range(1473):
        payload = bytes(size)
        assert bench.one(to(B4, id=size) / udp(src=7, dst=9) / payload) == (
            1, bytes(out(id=size) / udp(src=7, dst=9) / payload))


def test_blocked_routes(bench: Bench) -> None:
    bench.dropped(to("198.51.100.1") / udp(), Reason.BLACKHOLE)
    frame = to("198.51.100.65") / udp(src=1, dst=1)
    assert bench.one(frame) == (0, error4(frame, 3, 1))
    frame = to("198.51.100.129") / udp(src=1, dst=1)
    assert bench.one(frame) == (0, error4(frame, 3, 13))


def test_aggregates_whose_segments_fit_pass(bench: Bench) -> None:
    frame = bytes(to(C4, df=1) / tcp(src=7, dst=9, options=bytes(12)) / bytes(8000))
    for segment, fits in ((1248, True), (1249, False)):
        packet = Packet(frame, 0)
        packet.segment = segment
        verdict = bench.router.run(packet)
        assert (verdict.argument == 2) == fits and verdict.kind == FORWARD_KIND


# -- nat behind a port -----------------------------------------------------------------------------------------------

HOME = INTERFACES | {1: INTERFACES[1] | {"translated": True}}


@pytest.fixture
def home() -> Bench:
    """What has the address of port 1 is nat, behind that port."""
    return Bench(interfaces=HOME)


def test_what_is_for_a_translated_address_goes_to_nat_and_back(home: Bench) -> None:                     # 4787 6
    """nat swaps the Ethernet addresses of what it turns: they are the router's own, both."""
    for upper in (udp(src=7, dst=9) / b"payload", tcp(src=7, dst=80, flags=2), icmp(type=3, code=3) / bytes(28)):
        seen = ethernet(dst=R1, src=R1) / ipv4(src=A4, dst="10.0.1.1", ttl=63, id=5) / upper
        assert home.one(to("10.0.1.1", id=5) / upper) == (1, bytes(seen))
        turned = ethernet(dst=R1, src=R1) / ipv4(src="10.0.1.1", dst=C4, ttl=63, id=5) / upper
        want = ethernet(dst=C, src=R2) / ipv4(src="10.0.1.1", dst=C4, ttl=62, id=5) / upper
        assert home.one(turned, 1) == (2, bytes(want))


def test_what_is_for_a_translated_address_goes_to_nat_and_back_in_ipv6(home: Bench) -> None:
    for upper in (udp(src=7, dst=9) / b"payload", tcp(src=7, dst=80, flags=2), icmp6(type=1, code=4) / bytes(48)):
        seen = ethernet(dst=R1, src=R1) / ipv6(src=A6, dst="2001:db8:1::1", hops=63) / upper
        assert home.one(to6("2001:db8:1::1") / upper) == (1, bytes(seen))
        turned = ethernet(dst=R1, src=R1) / ipv6(src="2001:db8:1::1", dst=C6, hops=63) / upper
        want = ethernet(dst=C, src=R2) / ipv6(src="2001:db8:1::1", dst=C6, hops=62) / upper
        assert home.one(turned, 1) == (2, bytes(want))


def test_the_rest_of_what_is_for_a_translated_address(home: Bench) -> None:
    """Echo is the router's; so is what comes back for it; an address is nat's at its own port alone."""
    echo = BACK / ipv4(src="10.0.1.1", dst=A4) / icmp(type=0, rest=7)
    assert home.one(to("10.0.1.1") / icmp(type=8, rest=7)) == (0, bytes(echo))
    echo6 = BACK / ipv6(src="2001:db8:1::1", dst=A6) / icmp6(type=129, rest=7)
    assert home.one(to6("2001:db8:1::1") / icmp6(type=128, rest=7)) == (0, bytes(echo6))
    whole = bytes(ipv4(src=A4, dst="10.0.1.1", id=5) / icmp(type=8, rest=7) / bytes(2000))
    sent = [home.send(bytes(ethernet(dst=R0, src=A, type=0x800))[:14] + part) for part in cut(whole, 1500)]
    assert [len(frames) for frames in sent] == [0, 2], "an echo in parts is put together here"
    last = to("10.0.1.1", ttl=1) / udp()
    assert home.one(last) == (0, error4(last, 11, 0))
    for target in ("10.0.0.1", "10.0.2.1"):
        frame = to(target) / udp(src=5, dst=9)
        assert home.one(frame) == (0, error4(frame, 3, 3)), "these are not translated"
    frame = ethernet(dst=R1, src=B) / ipv4(src=B4, dst="10.0.1.1") / udp(src=5, dst=9)
    assert home.one(frame, 1)[1][34:36] == b"\x03\x03", "from nat's own side it has nowhere to go"
    home.dropped(IN / ipv4(src="10.0.1.1", dst=C4) / udp(), Reason.MARTIAN_SOURCE)
    home.dropped(ethernet(dst=R1, src=R1) / ipv4(src="10.0.1.1", dst="10.0.0.1") / icmp(type=8),
                 Reason.MARTIAN_SOURCE, 1)
    home.dropped(ethernet(dst=R1, src=R1) / ipv4(src="10.0.0.1", dst=C4) / udp(), Reason.MARTIAN_SOURCE, 1)


# -- redirects -------------------------------------------------------------------------------------------------------

D, D4, D6 = "02:00:00:00:00:0d", "10.0.0.13", "2001:db8::d"
LOCAL_D = "fe80::d"
DETOUR = {"static": [{"to": "203.0.113.0/24", "via": [{"gateway": D4}]},
                     {"to": "2001:db8:300::/48", "via": [{"gateway": LOCAL_D, "port": 0}]},
                     {"to": "2001:db8:400::/48", "via": [{"gateway": D6}]}],
          "fixed": [*FIXED, *({"port": 0, "address": address, "mac": D} for address in (D4, D6, LOCAL_D))]}


@pytest.fixture
def detour() -> Bench:
    """Some routes lead back to the network of A, to D."""
    bench = Bench(**DETOUR)
    bench.router.renew_redirects()
    return bench


def test_who_could_go_straight_is_told(detour: Bench) -> None:                                 # R4-17, 1812 5.2.7.2
    frame = to("203.0.113.1", ttl=9) / udp(src=7, dst=9) / b"payload"
    onward = ethernet(dst=D, src=R0) / ipv4(src=A4, dst="203.0.113.1", ttl=8) / udp(src=7, dst=9) / b"payload"
    told = error4(frame, 5, 1, ipv4_address(D4))
    assert detour.send(frame) == [(0, told), (0, bytes(onward))]
    assert detour.send(frame) == [(0, bytes(onward))], "once, for a while"
    Clock.advance(10 * SECOND)
    assert detour.send(frame) == [(0, told), (0, bytes(onward))]


def test_who_could_go_straight_in_ipv6_is_told(detour: Bench) -> None:                                  # 4861 8.2, 4.5
    neighbor = to6(D6) / udp(src=7, dst=9) / b"12345678"
    behind = to6("2001:db8:300::1") / udp(src=7, dst=9) / b"12345678"
    for frame, target in ((neighbor, D6), (behind, LOCAL_D)):
        about = bytes(frame)[14:]
        there = about[24:40]
        rest = ipv6_address(target).to_bytes(16, "big") + there + bytes(
            AddressOption(type=2, address=int(D.replace(":", ""), 16))) + bytes([4, 8]) + bytes(6) + about
        told = BACK / ipv6(src=LOCAL0, dst=A6, hops=255) / icmp6(type=137) / rest
        onward = ethernet(dst=D, src=R0) / raw(about[:7] + bytes([about[7] - 1]) + about[8:])
        assert detour.send(frame) == [(0, bytes(told)), (0, bytes(onward)[:12] + b"\x86\xdd" + bytes(onward)[14:])]


def test_who_could_not_is_not_told(detour: Bench) -> None:
    strangers: list[Frame] = [
        IN / ipv4(src="198.51.100.9", dst="203.0.113.1") / udp(),           # not of this network
        IN / ipv6(src="2001:db8:9::1", dst=D6) / udp(),
        to6("2001:db8:400::1") / udp()]                                     # a router, not by its link-local address
    for frame in strangers:
        assert [data[:6] for _, data in detour.send(frame)] == [bytes.fromhex(D.replace(":", ""))]
    assert len(detour.send(ethernet(dst=R1, src=B) / ipv4(src=B4, dst="203.0.113.1") / udp(), 1)) == 1, "it goes on"


def test_redirects_are_few_and_need_python(detour: Bench) -> None:
    sent = [detour.send(to("203.0.113.1", id=n) / udp(src=7, dst=9)) for n in range(3)]
    assert [len(frames) for frames in sent] == [2, 1, 1]
    frames = [IN / ipv4(src=f"10.0.0.{100 + n}", dst="203.0.113.1") / udp() for n in range(20)]
    assert sum(len(detour.send(frame)) - 1 for frame in frames) == 10 - 3, "the port's allowance is used up"
    detour.router.reconfigure(interfaces=INTERFACES | {0: INTERFACES[0] | {"redirects": False}})
    detour.router.renew_redirects()
    Clock.advance(60 * SECOND)
    assert len(detour.send(to("203.0.113.1") / udp(src=7, dst=9))) == 1


# -- several ways ----------------------------------------------------------------------------------------------------

def ways(count: int, **more: Any) -> Bench:
    hops = [{"gateway": f"10.0.1.{20 + n}"} | more for n in range(count)]
    fixed = [{"port": 1, "address": f"10.0.1.{20 + n}", "mac": 0x020000001000 + n} for n in range(10)]
    return Bench(static=[{"to": "192.0.2.0/24", "via": hops}], fixed=fixed)


def spread(bench: Bench, flows: int = 10_000) -> dict[int, int]:
    """By flow, the last byte of the next hop's address."""
    found = {}
    base = bytearray(bytes(IN / ipv4(src=A4, dst="192.0.2.1") / udp(src=0, dst=53, checksum=0)))
    for flow in range(flows):
        base[34:36] = flow.to_bytes(2, "big")
        packet = Packet(bytes(base), 0)
        assert bench.router.run(packet).kind == FORWARD_KIND
        found[flow] = packet.data[5]
    return found


def test_flows_spread_evenly_and_stay() -> None:
    bench = ways(4)
    first = spread(bench)
    assert all(abs(count - 2500) <= 125 for count in Counter(first.values()).values()), Counter(first.values())
    assert spread(bench, 1000) == {flow: first[flow] for flow in range(1000)}


def test_a_hop_that_goes_moves_only_its_own_flows() -> None:
    bench = ways(4)
    before = spread(bench, 4000)
    fewer = [{"gateway": f"10.0.1.{20 + n}"} for n in range(3)]
    bench.router.reconfigure(static=[{"to": "192.0.2.0/24", "via": fewer}])
    after = spread(bench, 4000)
    moved = sum(before[flow] != after[flow] for flow in before if before[flow] != 3)
    assert moved < 4000 * 0.1, moved


def test_weights() -> None:
    hops = [{"gateway": "10.0.1.20", "weight": 3}, {"gateway": "10.0.1.21"}]
    bench = ways(2)
    bench.router.reconfigure(static=[{"to": "192.0.2.0/24", "via": hops}])
    assert abs(Counter(spread(bench, 4000).values())[0] - 3000) < 200


def test_fragments_of_a_datagram_go_one_way() -> None:
    bench = ways(4)
    parts = [bench.one(IN / ipv4(src=A4, dst="192.0.2.7", id=3, proto=17, mf=int(n < 2), offset=n * 8) / bytes(64))
             for n in range(3)]
    assert len({data[:6] for _, data in parts}) == 1


def test_policies_by_source_port_and_mark() -> None:
    bench = Bench(static=[*STATIC, {"to": "192.0.2.0/24", "via": [{"gateway": C4}], "table": 7},
                          {"to": "192.0.2.0/24", "blocked": "prohibit", "table": 8}],
                  policies=[{"table": 7, "source": "10.0.0.128/25", "port": 0}, {"table": 8, "mark": 5, "mask": 15},
                            {"table": 7, "port": 2}])

    def from_(source: str, port: int = 0, mark: int = 0) -> int:
        mac = INTERFACES[port]["mac"]
        packet = Packet(bytes(ethernet(dst=mac, src=9) / ipv4(src=source, dst="192.0.2.1") / udp()), port)
        packet.meta(Mark).mark = mark
        verdict = bench.router.run(packet)
        return verdict.argument if packet.data[23] == 17 else -1
    assert from_("10.0.0.10") == 1 and from_("10.0.0.200") == 2
    assert from_("10.0.0.10", mark=0x25) == -1 and from_("10.0.2.9", 2) == 2
    assert bench.one(IN / ipv4(src="10.0.0.200", dst="10.0.0.1") / icmp(type=8))[0] == 0, "our own addresses stay ours"


def test_routes_are_fed_and_configuration_goes_first(bench: Bench) -> None:
    router, gateway = bench.router, ipv4_address(C4)
    router.feed(prefix("203.0.113.0/24"), [(gateway, 2, 1)])
    assert bench.one(to("203.0.113.5") / udp())[0] == 2
    router.feed(prefix("192.0.2.0/24"), [(gateway, 2, 1)])
    assert bench.one(to("192.0.2.5") / udp())[0] == 1
    router.feed(prefix("203.0.113.0/24"), "blackhole")
    bench.dropped(to("203.0.113.5") / udp(), Reason.BLACKHOLE)
    router.feed(prefix("203.0.113.0/24"), None)
    assert bench.one(to("203.0.113.5") / udp())[1][34:36] == b"\x03\x00"
    bench.router.reconfigure(static=[])
    assert bench.one(to("192.0.2.5") / udp())[0] == 2, "fed routes stay when the configuration changes"


# -- IPv6 ------------------------------------------------------------------------------------------------------------

def solicits(target: str, source: str | int = A6, option: bytes | None = None, mac: str = A, **fields: Any) -> Frame:
    group = solicited_node(ipv6_address(target))
    told = bytes(AddressOption(type=1, address=int(mac.replace(":", ""), 16))) if option is None else option
    message = bytes(NeighborSolicitation(target=ipv6_address(target)))[8:] + told
    return ethernet(dst=multicast_mac(group), src=mac) / ipv6(**{"src": source, "dst": group, "hops": 255} | fields) \
        / icmp6(type=135) / message


def advertises(target: str, mac: str = A, solicited: int = 1, override: int = 1, dst: str = "2001:db8:0::1",
               port: int = 0) -> Frame:
    message = bytes(NeighborAdvertisement(target=ipv6_address(target)))[8:] + bytes(
        AddressOption(type=2, address=int(mac.replace(":", ""), 16)))
    return ethernet(dst=INTERFACES[port]["mac"], src=mac) / ipv6(src=target, dst=dst, hops=255) \
        / icmp6(type=136, rest=(solicited << 30 | override << 29)) / message


def advertisement(target: str, dst: str | int, mac: str, flags: int) -> bytes:
    message = bytes(NeighborAdvertisement(target=ipv6_address(target)))[8:] + bytes(
        AddressOption(type=2, address=int(R0.replace(":", ""), 16)))
    return bytes(ethernet(dst=mac, src=R0) / ipv6(src=target, dst=dst, hops=255)
                 / icmp6(type=136, rest=flags << 29) / message)


@pytest.mark.parametrize("target", ["2001:db8:0::1", "fe80::ff:fe00:100"])
def test_a_solicitation_is_answered(bench: Bench, target: str) -> None:                                        # R6-01
    assert bench.one(solicits(target)) == (0, advertisement(target, A6, A, 7))


@pytest.mark.parametrize("frame", [
    solicits("2001:db8:0::1", hops=254), solicits("2001:db8:0::2"), solicits("2001:db8:1::1"),
    solicits("2001:db8:0::1", option=bytes([1, 0]) + bytes(6)), solicits("2001:db8:0::1", "::"),
    raw(bytes(solicits("2001:db8:0::1"))[:-1] + b"\x99"), raw(bytes(solicits("2001:db8:0::1"))[:70])], ids=range(7))
def test_invalid_solicitations_are_not(bench: Bench, frame: Frame) -> None:                                    # R6-02
    assert bench.send(frame) == []


def test_duplicate_detection_is_answered_to_all(bench: Bench) -> None:                                         # R6-03
    assert bench.one(solicits("2001:db8:0::1", "::", b"")) == (
        0, advertisement("2001:db8:0::1", "ff02::1", "33:33:00:00:00:01", 5))


def test_an_ipv6_packet_is_forwarded(bench: Bench) -> None:                                                    # R6-04
    frame = to6(B6, hops=9, flow=0xabcde, dscp=46, ecn=2) / udp(src=1, dst=2) / b"payload"
    want = ethernet(dst=B, src=R1) / ipv6(src=A6, dst=B6, hops=8, flow=0xabcde, dscp=46, ecn=2) \
        / udp(src=1, dst=2) / b"payload"
    assert bench.one(frame) == (1, bytes(want))
    assert bench.one(frame / trailer(7)) == (1, bytes(want))


def test_first_ipv6_packets_wait(bench: Bench) -> None:                                                        # R6-04
    frame = to6("2001:db8:1::99") / udp(src=1, dst=2)
    group = solicited_node(ipv6_address("2001:db8:1::99"))
    message = bytes(NeighborSolicitation(target=ipv6_address("2001:db8:1::99")))[8:] + bytes(
        AddressOption(type=1, address=int(R1.replace(":", ""), 16)))
    want = ethernet(dst=multicast_mac(group), src=R1) / ipv6(src="2001:db8:1::1", dst=group, hops=255) \
        / icmp6(type=135) / message
    assert bench.one(frame) == (1, bytes(want))
    answer = advertises("2001:db8:1::99", C, dst="2001:db8:1::1", port=1)
    assert bench.one(answer, 1) == (1, bytes(ethernet(dst=C, src=R1) / ipv6(src=A6, dst="2001:db8:1::99", hops=63)
                                             / udp(src=1, dst=2)))


def test_the_last_ipv6_hop_is_told(bench: Bench) -> None:                                                      # R6-05
    for hops in (0, 1):
        frame = to6(B6, hops=hops) / udp(src=1, dst=2) / b"payload"
        assert bench.one(frame) == (0, error6(frame, 3, 0))


def test_packet_too_big(bench: Bench) -> None:                                                                 # R6-06
    frame = to6(C6) / udp(src=1, dst=2) / bytes(1253)
    assert bench.one(frame) == (0, error6(frame, 2, 0, 1300))
    assert bench.one(to6(C6) / udp(src=1, dst=2) / bytes(1252))[0] == 2


def test_unreachable_in_ipv6(bench: Bench) -> None:                                                            # R6-07
    frame = to6("2001:db8:ffff::1") / udp(src=1, dst=2)
    assert bench.one(frame) == (0, error6(frame, 1, 0))
    frame = to6("2001:db8:1::99") / udp(src=1, dst=2)
    bench.send(frame)
    assert (0, error6(frame, 1, 3)) in bench.later(4)
    assert bench.one(frame) == (0, error6(frame, 1, 3))
    for target, code in (("2001:db8:200:1::1", 3), ("2001:db8:200:2::1", 1)):
        frame = to6(target) / udp(src=1, dst=2)
        assert bench.one(frame) == (0, error6(frame, 1, code))
    bench.dropped(to6("2001:db8:200::1") / udp(), Reason.BLACKHOLE)


def test_some_ipv6_addresses_are_not_forwarded(bench: Bench) -> None:                                          # R6-08
    for source in ("::", "::1", "ff02::1"):
        bench.dropped(IN / ipv6(src=source, dst=B6) / udp(), Reason.MARTIAN_SOURCE)
    for target in ("::", "::1", "fe80::1", "ff0e::1"):
        bench.dropped(to6(target) / udp(), Reason.MARTIAN_DESTINATION)
    frame = IN / ipv6(src="fe80::a", dst=B6) / udp(src=1, dst=2)
    want = BACK / ipv6(src=LOCAL0, dst="fe80::a") / icmp6(type=1, code=2) / bytes(frame)[14:]
    assert bench.one(frame) == (0, bytes(want))


def test_no_ipv6_errors_about_errors(bench: Bench) -> None:                                                    # R6-09
    bench.dropped(to6("2001:db8:ffff::1") / icmp6(type=1) / bytes(48), Reason.NO_ROUTE)
    bench.dropped(to6("2001:db8:ffff::1") / fragment(offset=4, more=0, id=1) / bytes(48), Reason.NO_ROUTE)


@pytest.mark.parametrize("target", ["2001:db8:0::1", "2001:db8:1::1", "fe80::ff:fe00:100"])
def test_echo6(bench: Bench, target: str) -> None:                                                             # R6-10
    frame = to6(target, flow=5) / icmp6(type=128, rest=7) / b"payload"
    want = BACK / ipv6(src=target, dst=A6, flow=5) / icmp6(type=129, rest=7) / b"payload"
    assert bench.one(frame) == (0, bytes(want))


def test_extension_headers_pass_and_fragments_for_us_are_put_together(bench: Bench) -> None:                   # R6-11
    for middle in (destination(), fragment(offset=0, more=1, id=9), fragment(offset=181, more=0, id=9)):
        frame = to6(B6) / middle / udp(src=1, dst=2) / bytes(40)
        assert bench.one(frame)[1][22:] == bytes(frame)[22:] and bench.one(frame)[0] == 1
    message = bytes(to6("2001:db8:0::1") / icmp6(type=128, rest=7) / bytes(2400))[54:]
    pieces = [(0, message[:1440]), (180, message[1440:])]
    for order in (pieces, pieces[::-1]):
        sent: Sent = []
        for offset, piece in order:
            part = fragment(next=58, offset=offset, more=int(offset == 0), id=3)
            sent += bench.send(to6("2001:db8:0::1") / part / piece)
        assert len(sent) == 2 and b"".join(data[62:] for _, data in sent)[4:] == message[4:]
        assert all(IPv6.decode(data[14:]).next == 44 for _, data in sent)
        Clock.advance(60 * SECOND)


def test_no_checksum_is_no_datagram_for_us_in_ipv6(bench: Bench) -> None:                              # 8200 8.1, 6935
    bench.dropped(to6("2001:db8:0::1") / udp(src=1, dst=2, checksum=0) / bytes(4), Reason.CHECKSUM)
    assert bench.one(to6(B6) / udp(src=1, dst=2, checksum=0))[0] == 1, "on its way it may be of a tunnel"


def test_closed_ports_in_ipv6(bench: Bench) -> None:
    frame = to6("2001:db8:0::1") / udp(src=1, dst=2) / bytes(4)
    assert bench.one(frame) == (0, error6(frame, 1, 4))
    want = BACK / ipv6(src="2001:db8:0::1", dst=A6) / tcp(src=80, dst=5, acknowledgment=2, flags=0x14)
    assert bench.one(to6("2001:db8:0::1") / tcp(src=5, dst=80, sequence=1, flags=2)) == (0, bytes(want))


@pytest.mark.parametrize(("option", "code"), [("1e", None), ("5e", -1), ("9e", 2), ("de", 2)])
def test_unknown_hop_by_hop_options(bench: Bench, option: str, code: int | None) -> None:                   # 8200 4.2
    frame = to6(B6) / hop_by_hop(options=bytes.fromhex(option + "04 00000000")) / udp(src=1, dst=2)
    if code is None:
        assert bench.one(frame)[0] == 1
    elif code < 0:
        bench.dropped(frame, Reason.OPTIONS)
    else:
        assert bench.one(frame) == (0, error6(frame, 4, 2, 42))


@pytest.mark.parametrize("target", [B6, "2001:db8:0::1"])
def test_jumbograms_are_none(bench: Bench, target: str) -> None:                                            # 2675 3
    jumbo = hop_by_hop(options=bytes.fromhex("c204 0000ffff")) / udp(src=1, dst=2) / bytes(40)
    frame = to6(target) / jumbo
    assert bench.one(frame) == (0, error6(frame, 4, 0, 42)), "it has a length already"
    frame = to6(target, length=0) / jumbo
    quote = bytes(frame)[14:]
    want = BACK / ipv6(src="2001:db8:0::1", dst=A6) / icmp6(type=4, rest=44) / quote
    assert bench.one(frame) == (0, bytes(want)), "it is not as long as that"
    bench.dropped(to6(target, length=0) / hop_by_hop(options=bytes.fromhex("c204 00010000")) / bytes(40),
                  Reason.MALFORMED)
    bench.dropped(to6(target, length=0) / hop_by_hop(options=padded(1)) / bytes(40), Reason.MALFORMED)


def padded(kind: int, count: int = 4) -> bytes:
    return bytes([kind, count]) + bytes(count)


def test_what_comes_before_the_payload_is_looked_at_where_it_ends(bench: Bench) -> None:                # 8200 4.1, 4.4
    ours, echo = "2001:db8:0::1", icmp6(type=128, rest=7) / b"payload"
    want = (0, bytes(BACK / ipv6(src=ours, dst=A6) / icmp6(type=129, rest=7) / b"payload"))
    idle = raw(bytes([58, 0, 0, 0, 0, 0, 0, 0]))        # a routing header that leads nowhere any more
    for chain in (to6(ours) / hop_by_hop(options=padded(1)) / echo, to6(ours) / destination(options=padded(1)) / echo,
                  to6(ours) / hop_by_hop(options=padded(0x1e)) / destination(options=padded(1)) / echo,
                  to6(ours, next=43) / idle / echo):
        assert bench.one(chain) == want
    refused = {to6(ours) / destination(options=padded(0x9e)) / echo: (2, 42),
               to6(ours, next=43) / raw(bytes([58, 0, 0, 1, 0, 0, 0, 0])) / echo: (0, 42),
               to6(ours) / destination(options=padded(1)) / hop_by_hop(options=padded(1)) / echo: (1, 40)}
    for frame, (code, pointer) in refused.items():
        assert bench.one(frame) == (0, error6(frame, 4, code, pointer))
    bench.dropped(to6(ours) / destination(options=padded(0x5e)) / echo, Reason.OPTIONS)
    bench.dropped(bytes(to6(ours, length=8) / destination(length=3) / echo)[:62], Reason.MALFORMED)


def test_what_follows_must_be_known(bench: Bench) -> None:                                                  # 4443 3.4
    frame = to6("2001:db8:0::1", next=200) / bytes(12)
    assert bench.one(frame) == (0, error6(frame, 4, 1, 6))


def test_advertisements_update_by_their_flags() -> None:                                                  # 4861 7.2.5
    bench = Bench(fixed=[])
    key = Near6(address=ipv6_address(A6), port=0)
    bench.send(advertises(A6))
    assert key not in bench.router.v6.neighbors, "unasked and unknown: nothing to do"
    bench.one(solicits("2001:db8:0::1"))
    bench.send(advertises(A6, C, override=0))
    entry = bench.router.v6.neighbors[key]
    assert entry.mac == int(A.replace(":", ""), 16) and entry.since == 0, "only doubted"
    bench.send(advertises(A6, C))
    assert bench.router.v6.neighbors[key].mac == int(C.replace(":", ""), 16)


def test_a_used_ipv6_neighbor_is_probed_and_a_silent_one_asked_for_anew() -> None:                       # 4861 7.3.3
    bench = Bench(fixed=[])
    bench.later(2)
    frame = ethernet(dst=R1, src=B) / ipv6(src=B6, dst=A6) / udp(src=1, dst=2)
    bench.send(solicits("2001:db8:0::1"))
    assert bench.one(frame, 1)[0] == 0
    assert bench.later(29) == []
    message = bytes(NeighborSolicitation(target=ipv6_address(A6)))[8:] + bytes(
        AddressOption(type=1, address=int(R0.replace(":", ""), 16)))
    probe = (0, bytes(ethernet(dst=A, src=R0) / ipv6(src="2001:db8:0::1", dst=A6, hops=255) / icmp6(type=135)
                      / message))
    assert bench.later(1) == [probe]
    assert bench.one(frame, 1)[0] == 0, "it is used meanwhile"
    assert bench.send(advertises(A6)) == []
    assert bench.later(29) == []
    assert bench.later(4)[:3] == [probe, probe, probe], "nobody answers"
    assert bench.send(frame, 1) == [], "so packets wait again"


# -- router advertisements -------------------------------------------------------------------------------------------

RADIO = INTERFACES | {0: INTERFACES[0] | {"mtu": 1450, "advertise": {"name_servers": ["2001:db8::53"]}}}


def rs(source: str | int = "fe80::a", option: bytes = bytes(AddressOption(type=1, address=0x02000000000a)),
       **fields: Any) -> Frame:
    return ethernet(dst="33:33:00:00:00:02", src=A) / ipv6(**{"src": source, "dst": "ff02::2", "hops": 255} | fields) \
        / icmp6(type=133) / option


def test_a_host_that_asks_is_told_at_once() -> None:                                                           # RA-01
    port, sent = Bench(interfaces=RADIO).one(rs())
    assert port == 0 and sent[:6] == bytes.fromhex(A.replace(":", ""))
    ip = IPv6.decode(sent[14:])
    assert (ip.hops, ip.src, ip.dst) == (255, LOCAL0, ipv6_address("fe80::a"))
    want = bytes.fromhex("40 00 0708 00000000 00000000" "0101 020000000100" "0501 0000 000005aa"
                         "0304 40 c0 00015180 00003840 00000000 20010db8000000000000000000000000"
                         "1903 0000 00000258 20010db8000000000000000000000053")
    assert sent[54] == 134 and sent[58:] == want
    again = BACK / ipv6(src=LOCAL0, dst="fe80::a", hops=255) / icmp6(type=134, rest=0x40000708) / sent[62:]
    assert bytes(again) == sent


@pytest.mark.parametrize(("said", "flags", "prefix"), [
    ({"managed": True}, 0xc0, 0xc0), ({"other": True}, 0x40, 0xc0), ({"preference": "high"}, 0x08, 0xc0),
    ({"preference": "low"}, 0x18, 0xc0), ({"preference": "low", "lifetime": 0}, 0, 0xc0),
    ({"autonomous": False, "managed": True, "other": False}, 0xc0, 0x80)])
def test_what_hosts_are_told_to_do(said: dict[str, Any], flags: int, prefix: int) -> None:
    """4861 4.2, M and O; 4191 2.2, preference; 4861 4.6.2, L and A."""
    _, sent = Bench(interfaces=RADIO | {0: RADIO[0] | {"advertise": said}}).one(rs())
    assert (sent[59], sent[89]) == (flags, prefix) and sent[86:89] == bytes.fromhex("030440")


def test_where_names_are_looked_for() -> None:                                                              # 8106 5.2
    said = {"search": ["acme.test", "example.org"], "interval": "10s"}
    _, sent = Bench(interfaces=RADIO | {0: RADIO[0] | {"advertise": said}}).one(rs())
    assert sent[118:] == bytes.fromhex("1f04 0000 0000001e") + b"\4acme\4test\0\7example\3org\0"


def test_who_has_no_address_hears_what_all_hear() -> None:
    _, sent = Bench(interfaces=RADIO).one(rs("::", b""))
    assert sent[:6] == bytes.fromhex("333300000001")


def test_solicitations_that_are_none() -> None:
    bench = Bench(interfaces=RADIO)
    for frame in (rs(hops=64), rs("::"), rs(option=bytes([1, 0]) + bytes(6))):
        assert bench.send(frame) == []
    assert Bench().send(rs()) == [], "not where nothing is advertised"


def test_advertisements_go_out_by_themselves() -> None:
    bench = Bench(interfaces=RADIO)
    times = []
    for second in range(300):
        bench.router.outbox.clear()
        bench.router.advertise_routers()
        times += [second] * len(bench.router.outbox)
        Clock.advance(SECOND)
    assert times == [0, 16, 32, 232]


# -- configuration ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("config", "where"), [
    ({"interfaces": {0: {"mac": R0, "addresses": ["10.0.0.1"]}, 1: {"mac": R1, "addresses": ["10.0.0.1/24"]}}},
     "interfaces.1"),
    ({"interfaces": {0: {"mac": "01:00:00:00:00:01"}}}, "mac"),
    ({"interfaces": {0: {"mac": R0, "addresses": ["10.0.0"]}}}, "addresses"),
    ({"interfaces": {70: {"mac": R0}}}, "interfaces.70"),
    ({"static": [{"to": "10.9.0.0/16", "via": [{"gateway": "10.8.0.1"}]}]}, "static[0].via[0]"),
    ({"static": [{"to": "10.9.0.0/16"}]}, "static[0].via"),
    ({"static": [{"to": "10.9.0.0/16", "via": [{"gateway": "2001:db8::1"}]}]}, "static[0].via[0].gateway"),
    ({"interfaces": {0: {"mac": R0, "advertise": {"search": ["a..b"]}}}}, "advertise.search[0]"),
    ({"interfaces": {0: {"mac": R0, "advertise": {"search": ["x" * 60 + ".test"] * 7}}}}, "advertise.search"),
    ({"policies": [{"table": 0}]}, "policies[0].table")])
def test_mistakes_are_named(config: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Router(**config)
    assert where in str(caught.value)


def test_a_change_writes_only_what_differs(bench: Bench) -> None:
    router = bench.router
    before = dict(router.installed)
    router.reconfigure(interfaces=INTERFACES | {3: {"mac": "02:00:00:00:01:03", "addresses": ["10.0.3.1/24"]}})
    assert {str(place[1]) for place in router.installed.keys() - before.keys()} == {
        "10.0.3.0/24", "10.0.3.1/32", "10.0.3.0/32", "10.0.3.255/32"}
    router.reconfigure(interfaces=INTERFACES)
    assert router.installed == before and router.links[3].mac == 0


def test_what_it_shows(bench: Bench) -> None:
    shown = {route["to"]: route["by"] for route in bench.router.show_routes()}
    assert shown["192.0.2.0/24"] == f"{B4} by port 1" and shown["10.0.0.1/32"] == "local"
    assert {"port": 0, "address": A4, "mac": A, "state": "fixed", "age": 0} in bench.router.show_neighbors()
    bench.one(asks("10.0.0.1", "10.0.0.50", C))
    assert bench.router.flush_neighbors() == 1


def test_what_is_remembered_follows_every_change() -> None:
    """Destinations asked for again and again while routes come, change and go: each answer is that of the moment."""
    chance, bench = random.Random(6), Bench(static=[])
    ways = {None: -1, "blackhole": -2, 1: 1, 2: 2}
    hops = {1: [(ipv4_address(B4), 1, 1)], 2: [(ipv4_address(C4), 2, 1)]}
    known: dict[Prefix, Any] = {}
    for _ in range(300):
        place = prefix(chance.choice(("192.0.2.0/24", "192.0.2.0/25", "192.0.2.7/32", "0.0.0.0/0")))
        way = chance.choice((None, "blackhole", 1, 2))
        bench.router.feed(place, hops.get(way, way))  # type: ignore[arg-type]
        known[place] = way
        for last in (7, 8, 200):
            address = ipv4_address(f"192.0.2.{last}")
            there = [p for p, w in known.items() if w is not None and address in p]
            best = max(there, key=lambda p: p.length, default=None)
            want = ways[None if best is None else known[best]]
            sent = bench.send(to(f"192.0.2.{last}") / udp())
            assert (-2 if not sent else -1 if sent[0][0] == 0 else sent[0][0]) == want


def test_prefixes_equal_a_search() -> None:
    chance = random.Random(4)
    router, known = Router(routes=2000), {}
    for number in range(500):
        length = chance.randrange(8, 33)
        place = Prefix(chance.getrandbits(32) >> 32 - length << 32 - length, length)
        router.feed(place, [(number + 1, 0, 1)])
        known[place] = number + 1
    for _ in range(2000):
        near = chance.choice(list(known)) if chance.random() < 0.7 else None
        inside = near is not None and near.length < 32
        address = near.address | chance.getrandbits(32 - near.length) if near and inside else chance.getrandbits(32)
        best = max((p for p in known if address in p), key=lambda p: p.length, default=None)
        found = router.v4.routes.get(address)
        assert (found.gateway if found else None) == (known[best] if best else None)


@pytest.mark.root
def test_a_hundred_thousand_prefixes_equal_a_search(nightly: bool) -> None:
    """The kernel's table, as a loaded router has it, against a search length by length."""
    pytest.importorskip("llvmlite")
    count, asked = (100_000, 1_000_000) if nightly else (1_000, 5_000)
    chance = random.Random(5)
    router, known = Router(routes=count + 16), dict[tuple[int, int], int]()
    with load(router, "tc"):
        while len(known) < count:
            length = chance.choice((8, 12, 16, 19, 20, 22, 23, 24, 24, 24, 28, 32))
            place = Prefix(chance.getrandbits(32) >> 32 - length << 32 - length, length)
            known[length, place.address] = gateway = len(known) + 1
            router.feed(place, [(gateway, 0, 1)])
        lengths, places = sorted({length for length, _ in known}, reverse=True), list(known)
        for _ in range(asked):
            length, near = chance.choice(places)
            address = chance.getrandbits(32) if chance.random() < 0.3 else near | chance.getrandbits(32) >> length
            best = next((found for length in lengths
                         if (found := known.get((length, address >> 32 - length << 32 - length)))), None)
            route = router.v4.routes.get(address)
            assert (route.gateway if route else None) == best


# -- compiled --------------------------------------------------------------------------------------------------------

def material() -> list[tuple[int, bytes]]:
    """Frames of every case above that the data path decides by itself or punts, and wrecks of them."""
    chance = random.Random(7)
    v4 = [B4, C4, "10.0.0.1", "10.0.1.1", "192.0.2.1", "192.0.2.200", "198.51.100.1", "198.51.100.65", "198.51.100.129",
          "203.0.113.1", "10.0.1.99", "10.0.1.255", "127.0.0.1", "224.0.0.5", "255.255.255.255", "169.254.3.4",
          "233.252.0.9"]
    v6 = [B6, C6, "2001:db8:0::1", "2001:db8:1::1", "2001:db8:100::1", "2001:db8:100:8000::1", "2001:db8:200::1",
          "2001:db8:200:1::1", "2001:db8:200:2::1", "2001:db8:ffff::1", "2001:db8:1::99", "ff02::1", "fe80::1", "::1",
          "fe80::ff:fe00:100"]
    inner4: list[Any] = [udp(src=1, dst=2), tcp(src=1, dst=2, flags=2), tcp(flags=4), icmp(type=8), icmp(type=3),
                         udp() / bytes(1300)]
    inner6: list[Any] = [udp(src=1, dst=2), tcp(src=1, dst=2, flags=2), icmp6(type=128), icmp6(type=1),
                         udp() / bytes(1300),
                         destination() / udp(), fragment(offset=0, more=1, id=1) / udp(), hop_by_hop() / udp()]
    found: list[Frame | bytes] = [to(d, **f) / p for d in v4 for p in inner4 for f in (
        {}, {"ttl": 1}, {"df": 1}, {"mf": 1}, {"options": RR})]
    found += [to6(d, **f) / p for d in v6 for p in inner6 for f in ({}, {"hops": 1})]
    found += [IN / ipv4(src=s, dst=B4) / udp() for s in ("0.0.0.0", "10.0.0.200", C4, "224.0.0.1", "198.51.100.1")]
    found += [IN / ipv6(src=s, dst=B6) / udp() for s in ("::", "fe80::a", C6, "ff02::1")]
    back = [ethernet(dst=R1, src=R1) / ip / udp() for ip in (
        ipv4(src="10.0.1.1", dst=A4), ipv4(src="10.0.1.1", dst="10.0.0.1"), ipv4(src="10.0.0.1", dst=A4),
        ipv6(src="2001:db8:1::1", dst=A6), ipv6(src="2001:db8:1::1", dst="2001:db8:0::1"))]
    found += [asks(t, s, m) for t in ("10.0.0.1", B4) for s in (A4, "0.0.0.0", "10.0.0.1", "10.0.0.50")
              for m in (A, R0)]
    found += [solicits("2001:db8:0::1"), solicits("2001:db8:0::1", "::", b""), solicits("2001:db8:0::1", hops=3), rs(),
              advertises(A6), advertises(A6, C, override=0), advertises("2001:db8:0::77", C),
              solicits("2001:db8:0::1", option=bytes([1, 0]) + bytes(6)), solicits("fe80::ff:fe00:100", "fe80::9")]
    frames = [(0, bytes(frame)) for frame in found] + [(1, bytes(frame)) for frame in back]
    for _ in range(len(frames)):
        port, data = chance.choice(frames)
        wreck = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            wreck[chance.randrange(14, len(wreck))] = chance.choice([0, 255, chance.randrange(256)])
        length = max(54, chance.randrange(len(wreck) + 1)) if chance.random() < 0.2 else len(wreck)
        frames.append((port, bytes(wreck[:length])))
    return frames


@pytest.mark.root
@pytest.mark.parametrize("kind", ["plain", "strict"])
def test_every_target_agrees(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("llvmlite")
    cache = Cache(tmp_path_factory.getbasetemp() / "router-images")
    more: dict[str, Any] = {} if kind == "plain" else {
        "interfaces": INTERFACES | {0: INTERFACES[0] | {"reverse_path": "strict"},
                                    1: INTERFACES[1] | {"directed_broadcast": True, "translated": True}},
        "static": [*STATIC, {"to": "203.0.113.0/24", "via": [{"gateway": B4}, {"gateway": C4}]},
                   {"to": "0.0.0.0/0", "via": [{"gateway": C4}], "table": 3},
                   {"to": "::/0", "via": [{"gateway": C6}, {"gateway": B6}], "table": 3}],
        "policies": [{"table": 3, "source": "10.0.0.200"}, {"table": 9, "source": "10.0.0.0/24", "mark": 1},
                     {"table": 3, "source": A6}]}
    agree(lambda: Router(**USUAL | more), [Arrival(data, port) for port, data in material()],
          targets=("python", "native", "tc", "xdp"), cache=cache)
