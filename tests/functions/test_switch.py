"""The switch against the bar: every L2 and VLAN case that one function alone can show, in plain CPython.

`Bench` stands in for the fabric: it wires some ports, runs `ingress`, makes the copies of a flood, and runs `egress` on
each, so that a case reads as frames in and frames out.  A frame here is what the wire carries.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.compiler.cache import Cache
from iovisor.functions.switch import Reason, Switch
from iovisor.language import FLOOD, SECOND, Clock, ConfigError, Dropped, Packet, Verdict, drop, forward
from iovisor.language.errors import Reject
from iovisor.language.verdicts import FLOOD_KIND, FORWARD_KIND
from iovisor.testing import Arrival, agree

A, B, C = 0x0200_0000_000a, 0x0200_0000_000b, 0x0200_0000_000c
BROADCAST = 0xffff_ffff_ffff
MULTICAST = 0x0100_5e01_0203


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1000 * SECOND)
    yield
    Clock.run()


def frame(dst: int, src: int, *tags: int, type: int = 0x0800, payload: bytes = bytes(46), tpid: int = 0x8100) -> bytes:
    """An Ethernet frame; `tags` are TCIs, the outermost first, `tpid` that of the outermost."""
    kinds = [tpid, 0x8100, 0x8100]
    between = b"".join((kind << 16 | tag).to_bytes(4, "big") for kind, tag in zip(kinds, tags, strict=False))
    return dst.to_bytes(6, "big") + src.to_bytes(6, "big") + between + type.to_bytes(2, "big") + payload


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


class Bench:
    """A switch with some of its ports wired."""

    def __init__(self, wired: int = 4, **config: Any) -> None:
        self.switch = Switch(**config)
        self.wired = range(wired)
        self.kept: dict[int, int] = {}

    def verdict(self, port: int, data: bytes) -> Verdict:
        return self.switch.run(Packet(data, port))

    def send(self, port: int, data: bytes) -> dict[int, bytes]:
        """What leaves, by port."""
        packet = Packet(data, port)
        verdict = self.switch.run(packet)
        if verdict.kind == FORWARD_KIND:
            return self.leave([verdict.argument], packet)
        if verdict.kind != FLOOD_KIND:
            return {}
        chosen = self.switch.sets[verdict.argument].ports() if verdict.argument else set(self.wired)
        return self.leave([p for p in self.wired if p != port and p in chosen], packet)

    def leave(self, outputs: list[int], packet: Packet) -> dict[int, bytes]:
        left: dict[int, bytes] = {}
        for output in outputs:
            copy = Packet(bytes(packet), output)
            try:
                verdict = self.switch.egress(copy)
            except Reject as rejected:
                verdict = drop(rejected.reason)
            if verdict == forward(output):
                left[output] = bytes(copy)
            else:
                self.kept[verdict.argument] = self.kept.get(verdict.argument, 0) + 1
        return left

    def dropped(self, reason: int) -> int:
        return self.switch.drops.get(reason, 0)


# -- L2: the transparent switch ----------------------------------------------------------------------------------------

def test_unknown_unicast_is_flooded_and_never_back() -> None:                                          # L2-01
    sent = frame(B, A)
    assert Bench().send(0, sent) == {1: sent, 2: sent, 3: sent}


def test_a_learned_station_gets_exactly_one_copy() -> None:                                            # L2-02
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    assert bench.send(2, frame(A, B)) == {0: frame(A, B)}
    assert bench.send(0, frame(B, A)) == {2: frame(B, A)}


@pytest.mark.parametrize("group", [BROADCAST, MULTICAST, 0x3333_0000_0001])
def test_groups_are_flooded(group: int) -> None:                                                       # L2-03
    bench = Bench()
    assert bench.send(1, frame(group, A)) == dict.fromkeys((0, 2, 3), frame(group, A))
    assert bench.send(1, frame(group, A)) == dict.fromkeys((0, 2, 3), frame(group, A))


def test_a_move_counts_from_the_first_frame() -> None:                                                 # L2-04
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(BROADCAST, B))
    bench.send(3, frame(B, A))
    assert bench.send(1, frame(A, B)) == {3: frame(A, B)}
    assert len(bench.switch.stations) == 2
    assert [bench.switch.loads[port].learned for port in range(4)] == [0, 1, 0, 1]
    Clock.advance(200 * SECOND)
    bench.send(2, frame(BROADCAST, A))
    Clock.advance(200 * SECOND)
    assert bench.verdict(1, frame(A, B)) == forward(2), "a move is traffic, too"


def test_a_frame_to_its_own_side_is_filtered() -> None:                                                # L2-05
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    assert bench.verdict(0, frame(A, B)) == drop(Reason.SAME_PORT)
    assert bench.send(1, frame(B, C)) == {0: frame(B, C)}, "the filtered frame's source was learned"


@pytest.mark.parametrize("last", range(16))
def test_bridge_addresses_are_not_relayed(last: int) -> None:                                          # L2-06, L2-07
    bench = Bench()
    assert bench.verdict(0, frame(0x0180_c200_0000 | last, A, type=0x0026)) == drop(Reason.RESERVED_ADDRESS)
    assert len(bench.switch.stations) == 0


@pytest.mark.parametrize("near", [0x0180_c200_0010, 0x0180_c200_0021, 0x0180_c1ff_ffff, 0x0080_c200_0000])
def test_only_bridge_addresses_are_not_relayed(near: int) -> None:
    assert Bench().verdict(0, frame(near, A)) == FLOOD


@pytest.mark.parametrize("source", [BROADCAST, MULTICAST])
def test_group_sources_are_forwarded_and_never_learned(source: int) -> None:                           # L2-08
    bench = Bench()
    bench.send(1, frame(BROADCAST, B))
    assert bench.send(0, frame(B, source)) == {1: frame(B, source)}
    assert [key.mac for key in bench.switch.stations] == [B]


@given(st.binary(min_size=46, max_size=1500), st.integers(0, 0xffff))
def test_any_frame_leaves_as_it_came(payload: bytes, type: int) -> None:                               # L2-09, L2-16
    sent = frame(BROADCAST, A, type=type, payload=payload)
    assert Bench().send(0, sent) == dict.fromkeys((1, 2, 3), sent)


def test_stations_age() -> None:                                                                       # L2-10
    bench = Bench(ageing="2s")
    bench.send(0, frame(BROADCAST, A))
    Clock.advance(2 * SECOND)
    assert bench.verdict(1, frame(A, B)) == forward(0)
    Clock.advance(1)
    assert bench.verdict(1, frame(A, B)) == FLOOD


def test_stations_age_after_five_minutes_by_default() -> None:
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    Clock.advance(300 * SECOND)
    assert bench.verdict(1, frame(A, B)) == forward(0)
    Clock.advance(1)
    assert bench.verdict(1, frame(A, B)) == FLOOD


def test_traffic_keeps_a_station_young() -> None:                                                      # L2-11
    bench = Bench(ageing="2s")
    for _ in range(5):
        bench.send(0, frame(B, A))
        Clock.advance(2 * SECOND)
    assert bench.verdict(1, frame(A, B)) == forward(0)


def test_the_sweep_removes_only_the_aged() -> None:
    bench = Bench(ageing="2s")
    bench.send(0, frame(BROADCAST, A))
    Clock.advance(2 * SECOND)
    bench.send(0, frame(BROADCAST, B))
    Clock.advance(1)
    bench.switch.age()
    assert [key.mac for key in bench.switch.stations] == [B]
    assert bench.switch.loads[0].learned == 1


@pytest.mark.parametrize("tpid", [0x8100, 0x88a8])
@pytest.mark.parametrize("tags", [(0x0064,), (0xa00a, 0x2014), (0x0fff,), (0x0000,)])
def test_tags_pass_a_transparent_switch(tags: tuple[int, ...], tpid: int) -> None:                     # L2-12
    bench = Bench()
    sent = frame(BROADCAST, A, *tags, tpid=tpid)
    assert bench.send(0, sent) == dict.fromkeys((1, 2, 3), sent)
    assert bench.send(1, frame(A, B, *tags, tpid=tpid)) == {0: frame(A, B, *tags, tpid=tpid)}
    assert [key.vid for key in bench.switch.stations] == [0, 0]


def test_many_frames_lose_nothing() -> None:                                                           # L2-13
    bench = Bench()
    bench.send(1, frame(BROADCAST, B))
    for number in range(5000):
        sent = frame(B, A, payload=number.to_bytes(46, "big"))
        assert bench.send(0, sent) == {1: sent}
    assert bench.switch.received.read(0).packets == 5000
    assert bench.switch.sent.read(1).packets == 5000
    assert bench.switch.sent.read(1).bytes == 5000 * 60


@pytest.mark.parametrize("config", [{}, {"quota": 100_000}, {"stations": 64, "quota": 100_000}])
def test_a_flood_of_addresses_does_not_leak_a_pair(config: dict[str, Any]) -> None:                    # L2-14
    bench = Bench(**config)
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(BROADCAST, B))
    chance = random.Random(14)
    for _ in range(20_000):
        assert bench.verdict(2, frame(BROADCAST, chance.getrandbits(48) & ~(1 << 40))) == FLOOD
    assert bench.verdict(0, frame(B, A)) == forward(1)
    assert bench.verdict(1, frame(A, B)) == forward(0)
    learned = len(bench.switch.stations) - 2
    assert learned == min(config.get("stations", 4096) - 2, config.get("quota", 1024))
    assert bench.switch.unlearned.read(2).packets == 20_000 - learned


def test_a_stolen_address_comes_back_with_its_owner() -> None:                                         # L2-15
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    bench.send(2, frame(BROADCAST, A))
    bench.send(0, frame(BROADCAST, A))
    assert bench.verdict(1, frame(A, B)) == forward(0)


def test_a_static_address_cannot_be_stolen() -> None:                                                  # L2-15
    bench = Bench(static=[{"mac": "02:00:00:00:00:0a", "port": 0}])
    assert bench.verdict(2, frame(BROADCAST, A)) == drop(Reason.STATION_FIXED)
    assert bench.verdict(0, frame(BROADCAST, A)) == FLOOD
    Clock.advance(1_000_000 * SECOND)
    bench.switch.age()
    assert bench.verdict(1, frame(A, B)) == forward(0)
    assert bench.switch.flush() == 1, "only B was learned"
    assert bench.verdict(1, frame(A, B)) == forward(0)


def test_llc_frames_pass() -> None:                                                                    # L2-16
    bench = Bench()
    sent = frame(B, A, type=0x0026, payload=b"\x42\x42\x03" + bytes(43))
    assert bench.send(0, sent) == dict.fromkeys((1, 2, 3), sent)


def test_a_runt_is_dropped_and_counted() -> None:
    bench = Bench()
    assert bench.verdict(0, bytes(13)) == drop(Dropped.TRUNCATED)
    assert bench.switch.received.read(0).packets == 1


# -- split horizon -----------------------------------------------------------------------------------------------------

OVERLAY: dict[int, dict[str, Any]] = {2: {"overlay": True}, 3: {"overlay": True}}


def test_nothing_goes_from_one_overlay_port_to_another() -> None:
    bench = Bench(5, horizon=True, ports=OVERLAY)
    assert bench.send(0, frame(BROADCAST, A)).keys() == {1, 2, 3, 4}
    assert bench.send(2, frame(BROADCAST, B)).keys() == {0, 1, 4}
    assert bench.send(3, frame(BROADCAST, C)).keys() == {0, 1, 4}
    assert bench.verdict(2, frame(C, B)) == drop(Reason.SPLIT_HORIZON)
    assert bench.verdict(2, frame(A, B)) == forward(0) and bench.verdict(0, frame(B, A)) == forward(2)
    bench.switch.reconfigure(ports={2: {"overlay": True}})
    assert bench.send(2, frame(BROADCAST, B)).keys() == {0, 1, 3, 4}
    assert bench.verdict(2, frame(C, B)) == forward(3)
    bench.switch.reconfigure(horizon=False, ports={})
    assert bench.send(2, frame(MULTICAST, B)).keys() == {0, 1, 3, 4}


def test_an_overlay_port_in_a_vlan() -> None:
    ports = {0: {"access": 10}, 1: {"access": 20}, 2: {"trunk": [10, 20], "overlay": True},
             3: {"trunk": [10, 20], "overlay": True}}
    bench = Bench(4, vlans=True, horizon=True, ports=ports)
    assert bench.send(2, frame(BROADCAST, A, 10)) == {0: frame(BROADCAST, A)}
    assert bench.send(0, frame(BROADCAST, B)).keys() == {2, 3}


# -- quotas, storms ----------------------------------------------------------------------------------------------------

def test_a_full_table_floods_and_keeps_what_it_knows() -> None:
    bench = Bench(stations=1)
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(BROADCAST, B))
    assert bench.verdict(1, frame(A, B)) == forward(0)
    assert bench.verdict(0, frame(B, A)) == FLOOD
    assert bench.switch.unlearned.read(1).packets == 2


def test_a_port_learns_no_more_than_its_quota() -> None:
    bench = Bench(quota=2, ports={1: {"quota": 3}})
    for port in (0, 1):
        for address in range(8):
            bench.send(port, frame(BROADCAST, A + 16 * (8 * port + address + 1)))
    assert [bench.switch.loads[port].learned for port in (0, 1)] == [2, 3]
    assert bench.switch.flush(1) == 3
    assert [bench.switch.loads[port].learned for port in (0, 1)] == [2, 0]


def test_a_move_to_a_full_port_makes_a_station_unknown() -> None:
    bench = Bench(quota=1)
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(BROADCAST, B))
    bench.send(1, frame(BROADCAST, A))
    assert bench.verdict(2, frame(A, C)) == FLOOD, "port 0 would be a black hole"
    assert bench.verdict(2, frame(B, C)) == forward(1)
    assert [bench.switch.loads[port].learned for port in (0, 1, 2)] == [0, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 3)), max_size=60))
def test_loads_are_exact(events: list[tuple[int, int, int]]) -> None:
    Clock.stand(1000 * SECOND)
    bench = Bench(ageing="3s", quota=3, stations=6)
    for port, host, wait in events:
        bench.send(port, frame(BROADCAST, A + 16 * host))
        Clock.advance(wait * SECOND)
        if wait == 3:
            bench.switch.age()
        held = [station.port for _, station in bench.switch.stations.items()]
        assert [bench.switch.loads[p].learned for p in range(4)] == [held.count(p) for p in range(4)]
        assert all(held.count(p) <= 3 for p in range(4))


def test_a_storm_is_cut_to_its_rate() -> None:
    bench = Bench(storm=100)
    bench.send(1, frame(BROADCAST, B))
    verdicts = [bench.verdict(0, frame(BROADCAST, A)) for _ in range(150)]
    assert verdicts == [FLOOD] * 100 + [drop(Reason.STORM)] * 50
    assert bench.verdict(0, frame(B, A)) == forward(1), "known unicast is no storm"
    assert bench.verdict(2, frame(BROADCAST, C)) == FLOOD, "another port has its own allowance"
    Clock.advance(SECOND // 10)
    assert [bench.verdict(0, frame(BROADCAST, A)) for _ in range(11)] == [FLOOD] * 10 + [drop(Reason.STORM)]
    Clock.advance(1000 * SECOND)
    assert bench.verdict(0, frame(BROADCAST, A)) == FLOOD
    Clock.advance(1000 * SECOND)
    assert [bench.verdict(0, frame(BROADCAST, A)) for _ in range(101)] == [FLOOD] * 100 + [drop(Reason.STORM)]


# -- VLANs -------------------------------------------------------------------------------------------------------------

def office() -> Bench:
    """0 and 1 access 10; 2 access 20; 3 trunk 10, 20; 4 trunk 20 native 10; 5 trunk 20 native 30; 6 closed."""
    return Bench(7, vlans=True, ports={0: {"access": 10}, 1: {"access": 10}, 2: {"access": 20}, 3: {"trunk": [10, 20]},
                                       4: {"trunk": [20], "native": 10}, 5: {"trunk": [20], "native": 30}})


T = frame   # for the table below: T(dst, src, tci, ...)
CASES: list[tuple[str, int, bytes, dict[int, bytes] | Reason]] = [
    # description, input port, frame, what leaves by port, or why it is dropped
    ("VL-01 untagged, access 10", 0, T(BROADCAST, A),
     {1: T(BROADCAST, A), 3: T(BROADCAST, A, 10), 4: T(BROADCAST, A)}),
    ("untagged, access 20", 2, T(BROADCAST, A),
     {3: T(BROADCAST, A, 20), 4: T(BROADCAST, A, 20), 5: T(BROADCAST, A, 20)}),
    ("VL-02 another VLAN's tag, access", 0, T(BROADCAST, A, 20), Reason.VLAN_INGRESS_FILTER),
    ("its own VLAN's tag, access", 0, T(BROADCAST, A, 10), Reason.VLAN_INGRESS_FILTER),
    ("VL-03 hop, access", 0, T(BROADCAST, A, 10, 20), Reason.VLAN_INGRESS_FILTER),
    ("VL-03 hop behind a priority tag, access", 0, T(BROADCAST, A, 0, 20), Reason.VLAN_INGRESS_FILTER),
    ("VL-03 hop, native trunk", 4, T(BROADCAST, A, 10, 20), {3: T(BROADCAST, A, 10, 20)}),
    ("VL-03 hop behind a priority tag, native trunk", 4, T(BROADCAST, A, 0, 20), {3: T(BROADCAST, A, 10, 20)}),
    ("VL-03 hop, trunk to native trunk", 3, T(BROADCAST, A, 10, 20), {4: T(BROADCAST, A, 10, 20)}),
    ("VL-04 priority tag, access", 0, T(BROADCAST, A, 0xa000),
     {1: T(BROADCAST, A), 3: T(BROADCAST, A, 0xa00a), 4: T(BROADCAST, A)}),
    ("priority tag and drop eligibility, native trunk", 4, T(BROADCAST, A, 0xb000),
     {0: T(BROADCAST, A), 1: T(BROADCAST, A), 3: T(BROADCAST, A, 0xb00a)}),
    ("VL-04 4095, access", 0, T(BROADCAST, A, 0xafff), Reason.VLAN_INVALID),
    ("4095, trunk", 3, T(BROADCAST, A, 0xfff), Reason.VLAN_INVALID),
    ("tagged 10, trunk", 3, T(BROADCAST, A, 0x600a),
     {0: T(BROADCAST, A), 1: T(BROADCAST, A), 4: T(BROADCAST, A)}),
    ("tagged 20, trunk", 3, T(BROADCAST, A, 0x6014),
     {2: T(BROADCAST, A), 4: T(BROADCAST, A, 0x6014), 5: T(BROADCAST, A, 0x6014)}),
    ("tagged with the native VLAN, trunk", 4, T(BROADCAST, A, 10),
     {0: T(BROADCAST, A), 1: T(BROADCAST, A), 3: T(BROADCAST, A, 10)}),
    ("a VLAN that is not listed, trunk", 3, T(BROADCAST, A, 30), Reason.VLAN_INGRESS_FILTER),
    ("a neighbour in the same word of the bitmap", 3, T(BROADCAST, A, 11), Reason.VLAN_INGRESS_FILTER),
    ("half a word further", 3, T(BROADCAST, A, 42), Reason.VLAN_INGRESS_FILTER),
    ("the same bit of another word", 3, T(BROADCAST, A, 74), Reason.VLAN_INGRESS_FILTER),
    ("untagged, trunk without native", 3, T(BROADCAST, A), Reason.VLAN_UNTAGGED),
    ("priority tag, trunk without native", 3, T(BROADCAST, A, 0xe000), Reason.VLAN_UNTAGGED),
    ("untagged, native trunk", 4, T(BROADCAST, A),
     {0: T(BROADCAST, A), 1: T(BROADCAST, A), 3: T(BROADCAST, A, 10)}),
    ("a VLAN nobody else is in", 5, T(BROADCAST, A), {}),
    ("service tag, access", 0, T(BROADCAST, A, 10, tpid=0x88a8), Reason.VLAN_SERVICE_TAG),
    ("service tag of VID 0, access", 0, T(BROADCAST, A, 0, tpid=0x88a8), Reason.VLAN_SERVICE_TAG),
    ("service tag, trunk", 3, T(BROADCAST, A, 20, tpid=0x88a8), Reason.VLAN_SERVICE_TAG),
    ("service tag, native trunk", 4, T(BROADCAST, A, 20, tpid=0x88a8), Reason.VLAN_SERVICE_TAG),
    ("closed port", 6, T(BROADCAST, A), Reason.PORT_CLOSED),
    ("closed port, tagged", 6, T(BROADCAST, A, 10), Reason.PORT_CLOSED),
    ("bridge address, tagged", 3, T(0x0180_c200_0003, A, 10), Reason.RESERVED_ADDRESS),
]


@pytest.mark.parametrize(("port", "sent", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_vlans(port: int, sent: bytes, expected: dict[int, bytes] | Reason) -> None:
    bench = office()
    left = bench.send(port, sent)
    if isinstance(expected, Reason):
        assert (left, bench.switch.drops) == ({}, {expected: 1})
        assert len(bench.switch.stations) == 0, "what is not accepted is not learned"
    else:
        assert left == expected
        assert len(bench.switch.stations) == 1


def test_a_service_tag_within_is_no_way_out_either() -> None:
    inner = (0x88a8_0014_0800).to_bytes(6, "big") + bytes(46)
    sent = (BROADCAST.to_bytes(6, "big") + A.to_bytes(6, "big")) + (0x8100_000a).to_bytes(4, "big") + inner
    bench = office()
    assert bench.send(3, sent) == {4: sent}
    assert bench.kept == {Reason.VLAN_DOUBLE_TAG: 2, Reason.VLAN_EGRESS_FILTER: 3}


def test_copies_that_stay_have_names() -> None:
    bench = office()
    left = bench.send(0, frame(BROADCAST, A))
    assert len(left) + sum(bench.kept.values()) == 6
    assert bench.kept == {Reason.VLAN_EGRESS_FILTER: 3}
    assert {port: count.packets for port, count in bench.switch.sent.items()} == {1: 1, 3: 1, 4: 1}


def test_each_vlan_learns_for_itself() -> None:                                                        # VL-05
    bench = office()
    bench.send(0, frame(BROADCAST, A))
    bench.send(2, frame(BROADCAST, A))
    assert bench.send(3, frame(A, B, 10)) == {0: frame(A, B)}
    assert bench.send(3, frame(A, B, 20)) == {2: frame(A, B)}
    assert len(bench.switch.stations) == 4


def test_known_unicast_is_tagged_as_its_port_wants() -> None:
    bench = office()
    bench.send(3, frame(BROADCAST, A, 10))
    assert bench.send(0, frame(A, B)) == {3: frame(A, B, 10)}
    assert bench.send(4, frame(B, C)) == {0: frame(B, C)}
    assert bench.send(0, frame(C, B, 0xa000)) == {4: frame(C, B)}


VIDS = st.integers(0, 4095)


@given(st.integers(0, 6), st.lists(VIDS, max_size=3), st.sampled_from([0x8100, 0x88a8]), st.booleans())
def test_nothing_leaves_its_vlan(port: int, tags: list[int], tpid: int, known: bool) -> None:
    """What leaves is of the VLAN the frame was of, by an observer who knows only the ports' rules."""
    access, native = {0: 10, 1: 10, 2: 20}, {4: 10, 5: 30}
    listed = {3: {10, 20}, 4: {20, 10}, 5: {20, 30}}
    bench = office()
    if known:
        for other, vid in ((0, 0), (2, 0), (3, 10), (3, 20), (5, 20), (5, 30)):
            bench.send(other, frame(BROADCAST, B, *([vid] if vid else [])))
    vid = access.get(port) or (tags[0] if tags and tags[0] else native.get(port, 0))
    for output, data in bench.send(port, frame(B if known else BROADCAST, A, *tags, tpid=tpid)).items():
        assert output != port
        seen = int.from_bytes(data[14:16], "big") & 0xfff if data[12:14] in (b"\x81\x00", b"\x88\xa8") else None
        if output in access:
            assert seen is None and access[output] == vid
        else:
            assert (native.get(output) if seen is None else seen) == vid and vid in listed[output]


# -- QinQ --------------------------------------------------------------------------------------------------------------

def provider() -> Bench:
    """0 and 1 are of a customer, VLAN 100; 2 of another, 200; 3 a trunk of both; 4 of the second; 5 closed."""
    return Bench(6, vlans=True, service=True, ports={
        0: {"access": 100}, 1: {"access": 100}, 2: {"access": 200}, 3: {"trunk": [100, 200]}, 4: {"trunk": [200]}})


def nested(dst: int, src: int, service: int, *tags: int) -> bytes:
    """A frame with a service tag outside."""
    return T(dst, src, service, *tags, tpid=0x88a8)


QINQ: list[tuple[str, int, bytes, dict[int, bytes] | Reason]] = [
    ("untagged, customer", 0, T(BROADCAST, A), {1: T(BROADCAST, A), 3: nested(BROADCAST, A, 100)}),
    ("tagged, customer", 0, T(BROADCAST, A, 0xa007),
     {1: T(BROADCAST, A, 0xa007), 3: nested(BROADCAST, A, 0xa064, 0xa007)}),
    ("tagged twice, customer", 0, T(BROADCAST, A, 7, 8),
     {1: T(BROADCAST, A, 7, 8), 3: nested(BROADCAST, A, 100, 7, 8)}),
    ("any VLAN, customer", 0, T(BROADCAST, A, 4095), {1: T(BROADCAST, A, 4095), 3: nested(BROADCAST, A, 100, 4095)}),
    ("priority, customer", 0, T(BROADCAST, A, 0xe000),
     {1: T(BROADCAST, A, 0xe000), 3: nested(BROADCAST, A, 0xe064, 0xe000)}),
    ("the other customer", 2, T(BROADCAST, A, 7), {3: nested(BROADCAST, A, 200, 7), 4: nested(BROADCAST, A, 200, 7)}),
    ("a service tag from a customer", 0, nested(BROADCAST, A, 200), Reason.VLAN_SERVICE_TAG),
    ("a service tag of no VLAN from a customer", 0, nested(BROADCAST, A, 0), Reason.VLAN_SERVICE_TAG),
    ("from a provider", 3, nested(BROADCAST, A, 100, 7), {0: T(BROADCAST, A, 7), 1: T(BROADCAST, A, 7)}),
    ("untagged within, from a provider", 3, nested(BROADCAST, A, 0xc064), {0: T(BROADCAST, A), 1: T(BROADCAST, A)}),
    ("of both, from a provider", 3, nested(BROADCAST, A, 200, 7),
     {2: T(BROADCAST, A, 7), 4: nested(BROADCAST, A, 200, 7)}),
    ("a VLAN that is not listed", 4, nested(BROADCAST, A, 100, 7), Reason.VLAN_INGRESS_FILTER),
    ("untagged, trunk", 3, T(BROADCAST, A), Reason.VLAN_UNTAGGED),
    ("a customer's tag, trunk", 3, T(BROADCAST, A, 100), Reason.VLAN_UNTAGGED),
    ("no VLAN, trunk", 3, nested(BROADCAST, A, 0), Reason.VLAN_INVALID),
    ("4095, trunk", 3, nested(BROADCAST, A, 4095), Reason.VLAN_INVALID),
    ("closed", 5, T(BROADCAST, A, 7), Reason.PORT_CLOSED),
]


@pytest.mark.parametrize(("port", "sent", "expected"), [case[1:] for case in QINQ], ids=[case[0] for case in QINQ])
def test_provider(port: int, sent: bytes, expected: dict[int, bytes] | Reason) -> None:
    bench = provider()
    left = bench.send(port, sent)
    if isinstance(expected, Reason):
        assert (left, bench.switch.drops) == ({}, {expected: 1})
    else:
        assert left == expected
        assert [key.vid for key in bench.switch.stations] == [200 if port == 2 or sent[14:16] == b"\0\xc8" else 100]


def test_a_service_tag_behind_another_is_no_way_out() -> None:
    """A customer that could send one would be in any VLAN of the next provider."""
    double = BROADCAST.to_bytes(6, "big") + A.to_bytes(6, "big") + bytes.fromhex("88a8006488a800c80800") + bytes(46)
    bench = provider()
    assert bench.send(3, double) == {} and bench.kept[Reason.VLAN_DOUBLE_TAG] == 2


def test_customers_may_have_the_same_everything() -> None:
    bench = provider()
    bench.send(0, T(BROADCAST, A, 7))
    bench.send(2, T(BROADCAST, A, 7))
    assert bench.send(3, nested(A, B, 100, 7)) == {0: T(A, B, 7)}
    assert bench.send(3, nested(A, B, 200, 7)) == {2: T(A, B, 7)}


# -- configuration -----------------------------------------------------------------------------------------------------

def writes(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tables written from now on, in order."""
    seen: list[str] = []
    for name, table in switch.tables.items():
        def update(key: bytes, value: bytes, mode: int, name: str = name, original: Any = table.home.update) -> Any:
            seen.append(name)
            return original(key, value, mode)
        monkeypatch.setattr(table.home, "update", update)
    return seen


def test_a_change_writes_only_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = office()
    bench.send(0, frame(BROADCAST, A))
    bench.send(2, frame(BROADCAST, B))
    seen = writes(bench.switch, monkeypatch)
    bench.switch.reconfigure(ports=bench.switch.config.ports)
    assert seen == []
    bench.switch.reconfigure(ports=bench.switch.config.ports | {3: {"trunk": [10]}})
    assert seen == ["members"]
    assert bench.send(3, frame(A, C, 10)) == {0: frame(A, C)}
    assert bench.send(3, frame(B, C, 20)) == {}


def test_stations_of_a_vlan_the_port_left_are_forgotten() -> None:
    bench = office()
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(BROADCAST, B))
    bench.switch.reconfigure(ports=bench.switch.config.ports | {0: {"access": 20}})
    assert [key.mac for key in bench.switch.stations] == [B]
    assert bench.send(0, frame(BROADCAST, A)).keys() == {2, 3, 4, 5}
    assert bench.switch.loads[0].learned == 1


def test_static_stations_come_and_go() -> None:
    bench = Bench(stations=2)
    bench.send(0, frame(BROADCAST, A))
    Clock.advance(1)
    bench.send(1, frame(BROADCAST, B))
    bench.switch.reconfigure(static=[{"mac": C, "port": 2}])
    assert sorted(key.mac for key in bench.switch.stations) == [B, C], "the longest silent made room"
    assert bench.verdict(1, frame(C, B)) == forward(2)
    bench.switch.reconfigure(static=[{"mac": B, "port": 3}, {"mac": C, "port": 2}])
    assert bench.verdict(0, frame(B, A)) == forward(3)
    assert bench.switch.loads[1].learned == 0
    bench.switch.reconfigure(static=[])
    assert bench.verdict(0, frame(B, A)) == FLOOD


@pytest.mark.parametrize("ports", [{}, {0: {"access": 10}}])
def test_turning_vlans_on_forgets_what_was_learned_without(ports: dict[int, Any]) -> None:
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    bench.switch.reconfigure(vlans=True, ports=ports)
    assert len(bench.switch.stations) == 0
    bench.send(0, frame(BROADCAST, A))
    bench.switch.reconfigure(vlans=False, ports={})
    assert len(bench.switch.stations) == 0


@pytest.mark.parametrize(("path", "config"), [
    ("ports.1", {"ports": {1: {"access": 10}}}),
    ("ports.1.trunk", {"vlans": True, "ports": {1: {"access": 10, "trunk": [20]}}}),
    ("ports.1.native", {"vlans": True, "ports": {1: {"access": 10, "native": 20}}}),
    ("ports.1.native", {"vlans": True, "service": True, "ports": {1: {"trunk": [10], "native": 20}}}),
    ("service", {"service": True}),
    ("ports.1.overlay", {"ports": {1: {"overlay": True}}}),
    ("ports.1.native", {"vlans": True, "ports": {1: {"trunk": [10], "native": 4095}}}),
    ("ports.1.access", {"vlans": True, "ports": {1: {"access": 0}}}),
    ("ports.1.trunk", {"vlans": True, "ports": {1: {"trunk": [4095]}}}),
    ("ports.256", {"ports": {256: {}}}),
    ("static[0].mac", {"static": [{"mac": BROADCAST, "port": 0}]}),
    ("static[1].mac", {"static": [{"mac": A, "port": 0}, {"mac": A, "port": 1}]}),
    ("static[0].vlan", {"static": [{"mac": A, "port": 0, "vlan": 10}]}),
    ("static[0].vlan", {"vlans": True, "static": [{"mac": A, "port": 0, "vlan": 10}], "ports": {0: {"access": 20}}}),
    ("static", {"stations": 1, "static": [{"mac": A, "port": 0}, {"mac": B, "port": 1}]}),
])
def test_a_wrong_configuration_says_where(path: str, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Switch(**config)
    assert caught.value.path == path


# -- every target ------------------------------------------------------------------------------------------------------

def conversation() -> Iterator[Arrival]:
    """The cases of a switch without VLANs, one after the other, as they come in and as copies go out."""
    groups = (BROADCAST, MULTICAST, 0x3333_0000_0001)
    yield from (Arrival(sent, port) for port, sent in (
        (0, frame(B, A)), (2, frame(A, B)), (0, frame(B, A)), *((1, frame(group, C)) for group in groups),
        (3, frame(B, A)), (2, frame(A, B)), (3, frame(A, B)), (0, frame(B, MULTICAST)), (0, frame(B, BROADCAST)),
        *((0, frame(0x0180_c200_0000 | last, A, type=0x26)) for last in range(16)), (0, frame(0x0180_c200_0010, A)),
        *((port, frame(dst, src, *tags, tpid=tpid)) for tpid in (0x8100, 0x88a8)
          for tags in ((0x64,), (0xa00a, 0x2014), (0xfff,), (0,)) for port, dst, src in ((0, BROADCAST, A), (1, A, B))),
        (0, frame(B, A, type=0x26, payload=b"\x42\x42\x03" + bytes(43))),
        *((0, frame(B, A, payload=bytes(size))) for size in range(46, 1501, 97))))
    for after in (299, 2, 300, 301):
        yield Arrival(frame(A, B), 1, after=after * SECOND)
    yield from (Arrival(frame(B, A), port, "egress") for port in range(4))


def copies(bench: Bench, cases: list[tuple[str, int, bytes, dict[int, bytes] | Reason]]) -> Iterator[Arrival]:
    """What comes in, and every copy that would go out, whether it may or not."""
    for _, port, sent, _ in cases:
        yield Arrival(sent, port)
        packet = Packet(sent, port)
        if bench.switch.run(packet).kind in (FLOOD_KIND, FORWARD_KIND):
            yield from (Arrival(bytes(packet), output, "egress") for output in bench.wired if output != port)


@pytest.mark.parametrize("which", ["plain", "office", "provider"])
def test_every_target_agrees_about_the_cases(which: str, images: Cache) -> None:
    bench = {"plain": Bench, "office": office, "provider": provider}[which]()
    arrivals = list(conversation()) if which == "plain" else list(copies(bench, CASES if which == "office" else QINQ))
    config = bench.switch.config
    agree(lambda: Switch(vlans=config.vlans, service=config.service, ports=config.ports), arrivals,
          entries=("ingress", "egress"), cache=images)


# -- what it costs -----------------------------------------------------------------------------------------------------

def test_the_hot_path_looks_up_twice_and_stores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.send(0, frame(BROADCAST, A))
    bench.send(1, frame(A, B))
    looked: list[str] = []
    for name, table in bench.switch.tables.items():
        def lookup(key: bytes, name: str = name, original: Any = table.home.lookup) -> Any:
            looked.append(name)
            return original(key)
        monkeypatch.setattr(table.home, "lookup", lookup)
    seen = writes(bench.switch, monkeypatch)
    monkeypatch.setattr(bench.switch.stations, "written", lambda view: seen.append("a field"))
    assert bench.verdict(0, frame(B, A)) == forward(1)
    assert (looked, seen) == (["received", "stations", "stations"], [])
    looked.clear()
    assert bench.verdict(0, frame(MULTICAST, A)) == FLOOD
    assert (looked, seen) == (["received", "stations"], [])
    Clock.advance(1)
    assert bench.verdict(0, frame(B, A)) == forward(1)
    assert seen == ["a field"], "a station that talks is refreshed"


def test_show() -> None:
    bench = Bench(static=[{"mac": B, "port": 3}])
    bench.send(0, frame(BROADCAST, A))
    Clock.advance(SECOND)
    assert bench.switch.show() == [
        {"mac": "02:00:00:00:00:0a", "vlan": 0, "port": 0, "static": False, "age": SECOND},
        {"mac": "02:00:00:00:00:0b", "vlan": 0, "port": 3, "static": True, "age": SECOND}]
