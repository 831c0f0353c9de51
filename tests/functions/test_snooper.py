"""The snooping switch: who gets which group (RFC 4541), and questions that wake nobody.

`Lan` stands in for the fabric: it runs frames, gives events to the handlers, and says which ports a frame reaches.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.snooper import GroupReason, Heard, Snooper
from iovisor.functions.snooper.membership import Message, read
from iovisor.functions.switch import Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward
from iovisor.language.verdicts import FLOOD_KIND, FORWARD_KIND
from iovisor.parts.reading import MAPPED
from iovisor.testing import Agreement, Arrival, Frame, available, describe, traffic
from iovisor.testing.packets import arp, ethernet, hop_by_hop, icmp6, ipv4, ipv6, layer, udp, vlan
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.igmp import Change, GroupRecord, Igmp, IgmpType, Report3
from iovisor.wire.mld import Listener, ListenerRecord, ListenerReport2
from iovisor.wire.neighbor import AddressOption, NeighborAdvertisement, NeighborSolicitation

ALERT, ALERT6 = bytes([148, 4, 0, 0]), bytes([5, 2, 0, 0, 1, 0])
G, H = "239.1.2.3", "239.9.9.9"
G6, H6 = "ff15::42", "ff0e::9"
PORTS = range(5)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def igmp(kind: int, group: str = "0.0.0.0", src: str = "10.0.0.9", dst: str = "224.0.0.22", **fields: Any) -> Frame:
    return ethernet(dst="01:00:5e:00:00:16", src=src_mac(src)) / ipv4(
        src=src, dst=dst, proto=2, ttl=1, options=ALERT) / layer(Igmp, type=kind, group=group, **fields)


def src_mac(src: str) -> int:
    return 0x0200_0000_0000 | int(src.rpartition(".")[2])


def query(src: str = "10.0.0.254") -> Frame:
    return igmp(IgmpType.QUERY, src=src, dst="224.0.0.1", time=100)


def report(group: str, src: str = "10.0.0.9") -> Frame:
    return igmp(IgmpType.REPORT_2, group, src, dst=group)


def leave(group: str) -> Frame:
    return igmp(IgmpType.LEAVE, group, dst="224.0.0.2")


def report3(*records: tuple[int, str, int]) -> Frame:
    """Of (what it says, group, how many sources)."""
    parts: Any = ethernet(dst="01:00:5e:00:00:16", src=9) / ipv4(src="10.0.0.9", dst="224.0.0.22", proto=2, ttl=1,
                                                                 options=ALERT)
    body = b"".join(bytes(layer(GroupRecord, type=kind, group=group, sources=sources)) + bytes(4 * sources)
                    for kind, group, sources in records)
    made: Frame = parts / layer(Report3, type=0x22, count=len(records)) / body
    return made


def mld(kind: int, group: str = "::", src: str = "fe80::9", hops: int = 1) -> Frame:
    return ethernet(dst="33:33:00:00:00:16", src=9) / ipv6(src=src, dst="ff02::16", hops=hops) / hop_by_hop(
        options=ALERT6, next=58) / in_icmp6(src, "ff02::16", bytes(layer(Listener, type=kind, group=group)))


def mld2(*records: tuple[int, str, int]) -> Frame:
    body = b"".join(bytes(layer(ListenerRecord, type=kind, group=group, sources=sources)) + bytes(16 * sources)
                    for kind, group, sources in records)
    return ethernet(dst="33:33:00:00:00:16", src=9) / ipv6(src="fe80::9", dst="ff02::16", hops=1) / hop_by_hop(
        options=ALERT6, next=58) / in_icmp6("fe80::9", "ff02::16", bytes(
            layer(ListenerReport2, type=143, count=len(records))) + body)


def in_icmp6(src: str, dst: str, body: bytes) -> bytes:
    """A message with its checksum."""
    made = bytes(ethernet(dst=0, src=0) / ipv6(src=src, dst=dst) / icmp6(type=body[0], code=body[1],
                                                                      rest=int.from_bytes(body[4:8], "big")) / body[8:])
    return made[54:]


def data(group: str, src: str = "10.0.0.200") -> Frame:
    if ":" in group:
        return ethernet(dst="33:33:00:00:00:42", src=0x0200_0000_00c8) / ipv6(src="2001:db8::1", dst=group) / udp(
            src=1, dst=5000) / b"data"
    return ethernet(dst="01:00:5e:01:02:03", src=0x0200_0000_00c8) / ipv4(src=src, dst=group) / udp(
        src=1, dst=5000) / b"data"


class Lan:
    def __init__(self, **config: Any) -> None:
        self.switch = Snooper(**config)

    def send(self, port: int, frame: Frame | bytes) -> set[int]:
        """The ports it reaches, after the handlers heard what was told."""
        packet = Packet(bytes(frame), port)
        verdict = self.switch.run(packet)
        copy = bytes(packet)
        for event in packet.told:
            self.switch.on_heard(event, Packet(copy))  # type: ignore[arg-type]
        if verdict.kind == FORWARD_KIND:
            outputs: Iterable[int] = {verdict.argument}
        elif verdict.kind == FLOOD_KIND:
            chosen = self.switch.sets[verdict.argument].ports() if verdict.argument else set(PORTS)
            outputs = (chosen & set(PORTS)) - {port}
        else:
            outputs = ()
        reached = set()
        for output in outputs:
            leaving = Packet(copy, output)
            if self.switch.run(leaving, "egress") == forward(output):
                reached.add(output)
        return reached

    def pass_time(self, seconds: float) -> None:
        Clock.advance(int(seconds * SECOND))
        self.switch.age_groups()


ALL = set(PORTS)


def test_without_reports_groups_go_everywhere() -> None:
    lan = Lan()
    assert lan.send(0, data(G)) == ALL - {0} and lan.send(0, data(G6)) == ALL - {0}


@pytest.mark.parametrize(("joining", "group", "other"), [
    (report(G), G, H), (report3((Change.TO_EXCLUDE, G, 0)), G, H), (report3((Change.IS_EXCLUDE, G, 2)), G, H),
    (report3((Change.ALLOW, H, 1), (Change.IS_INCLUDE, G, 1)), G, "239.3.3.3"),
    (mld(131, G6), G6, H6), (mld2((Change.TO_EXCLUDE, G6, 0)), G6, H6),
    (mld2((Change.TO_INCLUDE, H6, 1), (Change.TO_EXCLUDE, G6, 0)), G6, "ff15::1")])
def test_a_group_goes_to_who_reported_it(joining: Frame, group: str, other: str) -> None:
    lan = Lan()
    assert lan.send(2, joining) == set(), "there is no router to tell"
    assert lan.send(0, data(group)) == {2}
    assert lan.send(2, data(group)) == set(), "never back"
    assert lan.send(0, data(other)) == ALL - {0}, "what nobody reported is flooded"


def test_reports_go_to_routers_and_so_do_groups() -> None:
    lan = Lan()
    assert lan.send(4, query()) == ALL - {4}
    assert lan.send(2, report(G)) == {4}
    assert lan.send(0, data(G)) == {2, 4}
    assert lan.send(3, report(G, src="10.0.0.7")) == {4}
    assert lan.send(0, data(G)) == {2, 3, 4}
    assert lan.send(4, mld(130, src="fe80::1")) == ALL - {4}
    assert lan.send(1, mld(131, G6)) == {4}
    assert lan.send(0, data(G6)) == {1, 4}
    assert lan.switch.listeners() == [
        {"vlan": 0, "group": "routers", "ports": [4]}, {"vlan": 0, "group": G, "ports": [2, 3]},
        {"vlan": 0, "group": G6, "ports": [1]}]


def test_pim_tells_of_a_router() -> None:
    lan = Lan()
    hello = ethernet(dst="01:00:5e:00:00:0d", src=9) / ipv4(src="10.0.0.3", dst="224.0.0.13", proto=103, ttl=1) \
        / bytes.fromhex("2000dfff")
    assert lan.send(3, hello) == ALL - {3}
    assert lan.send(2, report(G)) == {3}


@pytest.mark.parametrize("frame", [query("0.0.0.0"), mld(130, src="2001:db8::1"), mld(130, src="fe80::1", hops=2),
                                   Frame((*query().parts[:-1], b"\x11\x64\xee\x9c\0\0\0\0"))])
def test_who_is_no_router(frame: Frame) -> None:
    """A query without a source is a proxy's (RFC 4541 section 2.1.1); one that is wrong is nobody's."""
    lan = Lan()
    assert lan.send(4, frame) == ALL - {4}
    assert lan.send(2, report(G)) == set()


@pytest.mark.parametrize("unregistered", ["flood", "routers"])
def test_what_nobody_reported(unregistered: str) -> None:
    lan = Lan(unregistered=unregistered)
    assert lan.send(0, data(G)) == (ALL - {0} if unregistered == "flood" else set())
    lan.send(4, query())
    assert lan.send(0, data(G)) == (ALL - {0} if unregistered == "flood" else {4})
    lan = Lan(unregistered="routers")
    assert lan.switch.run(Packet(bytes(data(G)))) == drop(GroupReason.UNWANTED)


@pytest.mark.parametrize("group", ["224.0.0.1", "224.0.0.251", "224.0.0.255", "ff02::1", "ff02::fb", "ff01::1",
                                   "ff02::1:ff00:7", "ff12::9"])
def test_what_is_local_always_goes_everywhere(group: str) -> None:
    lan = Lan(unregistered="routers")
    lan.send(4, query())
    lan.send(2, mld(131, group) if ":" in group else report(group))
    assert lan.send(0, data(group)) == ALL - {0}


def test_what_is_no_multicast_of_ip_goes_everywhere() -> None:
    lan = Lan(unregistered="routers")
    for frame in (ethernet(dst="ff:ff:ff:ff:ff:ff", src=1) / ipv4(src="10.0.0.1", dst="10.0.0.255") / udp(src=1, dst=2),
                  ethernet(dst="01:00:0c:cc:cc:cd", src=1, type=0x88b5) / bytes(46),
                  ethernet(dst="01:00:5e:01:02:03", src=1, type=0x800) / b"\x45\0",
                  ethernet(dst="33:33:00:00:00:42", src=1, type=0x86dd) / b"\x60\0"):
        assert lan.send(0, frame) == ALL - {0}


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_is_not_said_again_is_forgotten() -> None:
    lan = Lan()
    lan.send(4, query())
    lan.send(2, report(G))
    lan.pass_time(254)
    lan.send(3, report(G))
    assert lan.send(0, data(G)) == {2, 3, 4}
    lan.pass_time(1)
    assert lan.send(0, data(G)) == {2, 3}, "the router has been silent for its time"
    lan.pass_time(5)
    assert lan.send(0, data(G)) == {3}
    lan.pass_time(260)
    assert lan.send(0, data(G)) == ALL - {0}
    assert len(lan.switch.forwarding) == 0


@pytest.mark.parametrize(("leaving", "joining", "group"), [
    (leave(G), report(G), G), (report3((Change.TO_INCLUDE, G, 0)), report(G), G),
    (mld(132, G6), mld(131, G6), G6), (mld2((Change.TO_INCLUDE, G6, 0)), mld2((Change.TO_EXCLUDE, G6, 0)), G6)])
def test_leaving(leaving: Frame, joining: Frame, group: str) -> None:
    lan = Lan(unregistered="routers")
    lan.send(4, query())
    lan.send(2, joining)
    assert lan.send(2, leaving) == {4}
    assert lan.send(0, data(group)) == {2, 4}, "another host may be behind the port, and has two seconds to say so"
    lan.pass_time(1.9)
    lan.send(2, joining)
    lan.pass_time(0.2)
    assert lan.send(0, data(group)) == {2, 4}
    lan.send(2, leaving)
    lan.pass_time(2)
    assert lan.send(0, data(group)) == {4}
    fast = Lan(unregistered="routers", last_member=0, router_ports=[4])
    fast.send(2, joining)
    fast.send(2, leaving)
    assert fast.send(0, data(group)) == {4}


def test_a_place_rests_before_another_group_has_it() -> None:
    lan = Lan(last_member=0)
    lan.send(2, report(G))
    place = {key.address: place for key, place in lan.switch.forwarding.items()}[MAPPED | 0xef010203]
    lan.send(2, leave(G))
    lan.send(2, report(H))
    assert [found for _, found in lan.switch.forwarding.items()] != [place]


# -- who may say what --------------------------------------------------------------------------------------------------


def test_routers_are_where_they_are_said_to_be() -> None:
    lan = Lan(router_ports=[4], learn_routers=False, unregistered="routers")
    assert lan.send(2, report(G)) == {4}
    assert lan.send(0, data(H)) == {4}
    assert lan.switch.run(Packet(bytes(query()), 1)) == drop(GroupReason.ROGUE_QUERIER)
    assert lan.send(4, query()) == ALL - {4}
    lan.switch.reconfigure(router_ports=[3])
    assert lan.send(2, report(G)) == {3} and lan.send(0, data(G)) == {2, 3}
    assert lan.switch.run(Packet(bytes(query()), 4)) == drop(GroupReason.ROGUE_QUERIER)


def test_a_port_that_talks_too_much() -> None:
    lan = Lan(messages=3, router_ports=[4])
    assert [lan.send(2, report(G)) for _ in range(5)] == [{4}] * 3 + [set()] * 2
    assert lan.switch.drops == {GroupReason.GROUP_STORM: 2}
    assert lan.send(3, report(G)) == {4}
    Clock.advance(SECOND)
    assert lan.send(2, report(G)) == {4}


def test_a_flood_of_groups_is_bounded_and_harms_nobody() -> None:
    """What does not fit is as if it were not reported; what was there stays."""
    lan = Lan(groups=20, groups_per_port=15, messages=10_000, unregistered="routers", router_ports=[4])
    lan.send(1, report(G))
    for number in range(200):
        lan.send(2, report(f"239.7.{number}.1"))
    assert len(lan.switch.forwarding) == 1 + 15 + 1
    for number in range(200):
        lan.send(3, report(f"239.8.{number}.1"))
    assert len(lan.switch.forwarding) == 1 + 20
    assert lan.send(0, data(G)) == {1, 4} and lan.send(0, data("239.7.14.1")) == {2, 4}
    assert lan.send(0, data("239.7.15.1")) == {4}
    lan.pass_time(261)
    lan.send(3, report("239.8.99.1"))
    assert lan.send(0, data("239.8.99.1")) == {3, 4}, "there is room again"


def test_nothing_is_forgotten_with_the_process() -> None:
    """Who adopts the tables goes on with what they say, until it should have been said again."""
    lan = Lan()
    lan.send(4, query())
    lan.send(2, report(G))
    again = Snooper()
    for name, found in lan.switch.tables.items():
        again.tables[name].home = found.home
    lan.switch = again
    lan.switch.age_groups()
    assert lan.send(0, data(G)) == {2, 4} and lan.send(2, report(H)) == {4}
    lan.pass_time(261)
    assert lan.send(0, data(G)) == ALL - {0}


def test_vlans_are_apart() -> None:
    lan = Lan(vlans=True, ports={0: {"trunk": [10, 20]}, 1: {"access": 10}, 2: {"access": 20}, 3: {"access": 10}})
    lan.send(1, report(G))
    lan.send(2, report(G))
    tagged = [Frame((data(G).parts[0], vlan(vid=vid), *data(G).parts[1:])) for vid in (10, 20)]
    assert lan.send(0, tagged[0]) == {1} and lan.send(0, tagged[1]) == {2}
    assert lan.send(3, data(G)) == {1} and lan.send(3, data(H)) == {0, 1}
    assert [row["vlan"] for row in lan.switch.listeners()] == [10, 20]


def test_overlay_ports_are_apart() -> None:
    """A group goes to members and routers, but not from one overlay port to another."""
    lan = Lan(horizon=True, ports={3: {"overlay": True}, 4: {"overlay": True}}, unregistered="routers")
    lan.send(4, query())
    assert lan.send(3, report(G)) == set() and lan.send(1, report(G)) == {4}
    assert lan.send(0, data(G)) == {1, 3, 4}
    assert lan.send(3, data(G)) == {1} and lan.send(4, data(G)) == {1}
    assert lan.send(3, data(H)) == set() and lan.send(0, data(H)) == {4}
    assert lan.send(3, data("224.0.0.5")) == {0, 1, 2}
    lan.switch.reconfigure(ports={4: {"overlay": True}})
    assert lan.send(3, data(G)) == {1, 4}


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_lies_says_nothing() -> None:
    proper = [bytes(frame) for frame in (report(G), report3((4, G, 0), (4, H, 3)), mld(131, G6), mld2((4, G6, 1)))]
    for frame in proper:
        assert read(frame) not in (None, Message())
        for place in range(14, len(frame)):
            spoiled = frame[:place] + bytes([frame[place] ^ 0x55]) + frame[place + 1:]
            found = read(spoiled)
            assert found is None or place < (38 if frame[12:14] == b"\x08\0" else 62), (place, found)
            read(frame[:place])
    assert read(bytes(report3((4, G, 0)))[:-4]) is None
    assert read(b"") is None and read(bytes(14)) is None
    assert read(bytes(data(G))) is None


# -- address resolution ------------------------------------------------------------------------------------------------

KNOWN = [{"mac": "02:00:00:00:00:05", "addresses": ["10.0.0.5", "2001:db8::5"]}]
ASK = ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:09") / arp(
    sender_mac="02:00:00:00:00:09", sender_ip="10.0.0.9", target_ip="10.0.0.5")


def solicitation(src: str = "fe80::9", target: str = "2001:db8::5", option: bool = True, hops: int = 255,
                 mac: str = "02:00:00:00:00:09") -> Frame:
    body = bytes(layer(NeighborSolicitation, target=target)) + (
        bytes(layer(AddressOption, type=1, length=1, address=mac)) if option else b"")
    return ethernet(dst="33:33:ff:00:00:05", src=mac) / ipv6(src=src, dst="ff02::1:ff00:5", hops=hops, next=58) \
        / in_icmp6(src, "ff02::1:ff00:5", body)


def advertisement(dst: str, mac: str, solicited: int) -> Frame:
    body = bytes(layer(NeighborAdvertisement, type=136, solicited=solicited, override=1, target="2001:db8::5")) \
        + bytes(layer(AddressOption, type=2, length=1, address="02:00:00:00:00:05"))
    return ethernet(dst=mac, src="02:00:00:00:00:05") / ipv6(src="2001:db8::5", dst=dst, hops=255, next=58) \
        / in_icmp6("2001:db8::5", dst, body)


RESOLUTIONS: list[tuple[str, Frame, Frame | None]] = [
    ("a request", ASK, ethernet(dst="02:00:00:00:00:09", src="02:00:00:00:00:05") / arp(
        operation=2, sender_mac="02:00:00:00:00:05", sender_ip="10.0.0.5", target_mac="02:00:00:00:00:09",
        target_ip="10.0.0.9")),
    ("a probe", ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:09") / arp(
        sender_mac="02:00:00:00:00:09", target_ip="10.0.0.5"),
     ethernet(dst="02:00:00:00:00:09", src="02:00:00:00:00:05") / arp(
        operation=2, sender_mac="02:00:00:00:00:05", sender_ip="10.0.0.5", target_mac="02:00:00:00:00:09")),
    ("for somebody unknown",
     ethernet(dst="ff:ff:ff:ff:ff:ff", src=9) / arp(sender_mac=9, sender_ip=9, target_ip=7), None),
    ("its own probe", ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:05") / arp(
        sender_mac="02:00:00:00:00:05", target_ip="10.0.0.5"), None),
    ("a reply to all", ethernet(dst="ff:ff:ff:ff:ff:ff", src=9) / arp(
        operation=2, sender_mac=9, sender_ip="10.0.0.9", target_ip="10.0.0.5"), None),
    ("a solicitation", solicitation(), advertisement("fe80::9", "02:00:00:00:00:09", 1)),
    ("without an option", solicitation(option=False), advertisement("fe80::9", "02:00:00:00:00:09", 1)),
    ("duplicate detection", solicitation("::", option=False), advertisement("ff02::1", "33:33:00:00:00:01", 0)),
    ("its own duplicate detection", solicitation("::", option=False, mac="02:00:00:00:00:05"), None),
    ("from another link", solicitation(hops=254), None),
    ("for somebody unknown, v6", solicitation(target="2001:db8::6"), None),
]


@pytest.mark.parametrize("snooping", [True, False])
@pytest.mark.parametrize(("sent", "answer"), [case[1:] for case in RESOLUTIONS], ids=[c[0] for c in RESOLUTIONS])
def test_questions_are_answered(sent: Frame, answer: Frame | None, snooping: bool) -> None:
    lan = Lan(endpoints=KNOWN, snooping=snooping)
    packet = Packet(bytes(sent), 3)
    verdict = lan.switch.run(packet)
    if answer is None:
        assert verdict.kind == FLOOD_KIND and bytes(packet) == bytes(sent)
    else:
        assert verdict == forward(3)
        assert bytes(packet) == bytes(answer), describe(bytes(packet))
        assert lan.switch.answered.read(3).packets == 1
    assert [station.port for _, station in lan.switch.stations.items()] == [3], "who asks is learned, as always"


def test_endpoints_come_and_go() -> None:
    lan = Lan(endpoints=KNOWN)
    lan.switch.reconfigure(endpoints=[{"mac": "02:00:00:00:00:06", "addresses": ["10.0.0.5"], "vlan": 0}])
    packet = Packet(bytes(ASK), 3)
    assert lan.switch.run(packet) == forward(3) and bytes(packet)[6:12].hex() == "020000000006"
    lan.switch.reconfigure(endpoints=[])
    assert lan.send(3, ASK) == ALL - {3} and len(lan.switch.known) == 0


@pytest.mark.parametrize(("settings", "message"), [
    ({"endpoints": [{"mac": "01:00:00:00:00:01", "addresses": ["10.0.0.1"]}]}, "group address"),
    ({"endpoints": [{"mac": 2, "addresses": ["10.0.0.0/24"]}]}, "is not one address"),
    ({"endpoints": [*KNOWN, {"mac": 2, "addresses": ["10.0.0.5"]}]}, "another endpoint has one of these"),
])
def test_what_cannot_be_configured(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Snooper(**settings)


# -- everywhere --------------------------------------------------------------------------------------------------------


def test_every_target_agrees(tmp_path: Any, nightly: bool) -> None:
    """With groups and routers known beforehand."""
    def made() -> Snooper:
        switch = Snooper(endpoints=KNOWN, router_ports=[1], unregistered="routers", learn_routers=False, messages=3)
        for port, frame in ((2, report(G)), (3, report(G)), (2, mld(131, G6))):
            switch.on_heard(Heard(port=port, vid=0), Packet(bytes(frame)))
        return switch
    groups = [query(), report(G), report3((4, G, 0), (4, H, 3)), leave(G), mld(130), mld(131, G6), mld2((4, G6, 1)),
              *map(data, (G, H, G6, H6, "224.0.0.1", "ff02::1")), *(case[1] for case in RESOLUTIONS)]
    with Agreement(made, available(), ("ingress", "egress"), cache=Cache(tmp_path)) as session:
        session.run([Arrival(bytes(frame), port, after=SECOND // 4) for frame in groups for port in range(4)])
        session.run(traffic("snooper", 60_000 if nightly else 3_000, ports=4, entries=("ingress", "egress")))


def test_a_switch_all_the_same() -> None:
    lan = Lan()
    one = Ethernet(dst=0x0200_0000_0002, src=0x0200_0000_0001, type=0x88b5)
    two = Ethernet(dst=0x0200_0000_0001, src=0x0200_0000_0002, type=0x88b5)
    assert lan.send(0, bytes(one) + bytes(46)) == ALL - {0}
    assert lan.send(3, bytes(two) + bytes(46)) == {0}
    assert lan.switch.run(Packet(bytes(Ethernet(dst=0x0180_c200_0003, src=1, type=7)) + bytes(46))) == drop(
        Reason.RESERVED_ADDRESS)
