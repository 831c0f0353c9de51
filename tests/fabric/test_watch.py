"""Packets as they go by: what is recorded is what happened, nothing else is, and nobody's packet notices."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from iovisor.fabric import Filter, Network, Seen, Watch
from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.language import Function
from iovisor.language.addresses import prefix
from iovisor.testing.packets import Frame, Layer, ethernet, icmp, ipv4, ipv6, tcp, udp, vlan
from tests.fabric.flows import Flows
from tests.fabric.functions import Gate, Hub, Learner, Older, Tagger, Through
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
QUERY = bytes(ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ipv4(src="10.0.0.1", dst="10.9.9.9")
              / udp(src=1000, dst=53) / bytes(40))


def seen(watch: Watch, count: int) -> list[Seen]:
    """So many records, and no more."""
    found: list[Seen] = []

    def enough() -> bool:
        found.extend(watch)
        return len(found) >= count
    assert until(enough)
    assert len(found) == count, found
    return found


def test_every_verdict_is_seen(place: Places) -> None:
    """A hub with another end behind every port."""
    at = place(2)
    with Network("seen", namespace=at.switching) as net:
        for name, function in (("hub", Hub()), ("wall", Gate(open=0)), ("learner", Learner()), ("older", Older())):
            net.add(name, function)
        net.attach("hub:0", at.hosts[0].edge)
        for port, name in enumerate(("wall", "learner", "older"), 1):
            net.link(f"hub:{port}", f"{name}:inside")
        net.attach("older:outside", at.hosts[1].edge)
        with net.watch() as watch:
            net.inject(QUERY, "hub:0")
            found = seen(watch, 4)
            assert [(s.instance, s.verdict, s.hops) for s in found] == [
                ("hub", "flood", 0), ("wall", "drop(REQUIRED)", 1), ("learner", "punt", 1),
                ("older", "forward(outside)", 1)]
            assert [s.at for s in found] == ["hub:0", "wall:inside", "learner:inside", "older:inside"]
            assert found[3].out == "older:outside" and found[1].reason == "REQUIRED"
            assert [s.frame for s in found[:3]] == [QUERY] * 3
            aged = at.hosts[1].captured(1)[0]
            assert found[3].frame == aged != QUERY and {s.length for s in found} == {len(QUERY)}
            assert all(a.time <= b.time for a, b in pairwise(found)) and watch.lost == 0
            last = bytes(ethernet(dst="02:00:00:00:00:02") / ipv4(dst="10.9.9.9", ttl=1) / udp() / bytes(40))
            net.inject(last, "older:inside")
            assert seen(watch, 1)[0].kind == "host"
            assert "older:inside forward" not in str(found[0]) and " hub:0 flood  eth(" in str(found[0])
        assert not net.instances["hub"].loaded.watches
        net.inject(QUERY, "hub:0")
        assert until(lambda: net.balance().injected == 3)


def test_the_tag_and_the_first_bytes(place: Places) -> None:
    at = place(2)
    with Network("tagged", namespace=at.switching) as net:
        net.add("tagger", Tagger())
        net.attach("tagger:inside", at.hosts[0].edge)
        net.attach("tagger:outside", at.hosts[1].edge)
        with net.watch(snap=30) as watch:
            net.inject(QUERY, "tagger:inside")
            found = seen(watch, 2)
            assert [s.stage for s in found] == ["ingress", "egress"]
            assert {s.frame for s in found} == {QUERY[:12] + b"\x81\0\0\7" + QUERY[12:30]}
            assert {s.length for s in found} == {len(QUERY)}


FRAMES: list[Frame] = [
    ethernet(dst=mac, src="02:00:00:00:00:01") / network / transport / bytes(20)
    for mac in ("02:00:00:00:00:02", "02:00:00:00:00:03")
    for network in (ipv4(src="10.1.2.3", dst="10.9.9.9"), ipv4(src="10.9.9.9", dst="10.200.2.3", options=bytes(8)),
                    ipv6(src="fd00::1", dst="fd00:1::2"), ipv4(src="192.168.1.1", dst="10.9.9.9", offset=100))
    for transport in (udp(src=1000, dst=53), tcp(src=53, dst=1000))]
FRAMES += [ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / vlan(vid=7) / ipv4(dst="10.9.9.9") / icmp()
           / bytes(20), ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:03") / bytes(46)]


@pytest.mark.parametrize("wanted", [
    Filter(), Filter(source="10.0.0.0/8"), Filter(destination="10.128.0.0/9"), Filter(address="10.9.9.9"),
    Filter(address="fd00:1::/32"), Filter(source="fd00::1", protocol="tcp"), Filter(protocol="udp"), Filter(service=53),
    Filter(source_port=53), Filter(destination_port=53, protocol="udp"), Filter(protocol=1), Filter(vlan=7),
    Filter(mac="02:00:00:00:00:03"), Filter(ethertype=0x86dd), Filter(address="10.0.0.0/8", service=1000, protocol=6),
    Filter(ethertype=0x88b5, mac="02:00:00:00:00:02"), Filter(source="0.0.0.0/0"), Filter(verdict="drop"),
    Filter(port="f:outside"), Filter(port="f:inside", verdict="forward"), Filter(instance="f", reason="HOPS")], ids=str)
def test_filters(place: Places, wanted: Filter) -> None:
    """What the kernel lets through is what Python says of each frame."""
    at = place(1)
    with Network("filtered", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:outside", at.hosts[0].edge)
        with net.watch(wanted) as watch:
            for frame in FRAMES:
                net.inject(bytes(frame), "f:inside")
            assert until(lambda: net.balance().sent == len(FRAMES))
            found = list(watch)
        assert [s.frame for s in found] == [bytes(frame) for frame in FRAMES if matches(wanted, frame)]


def matches(wanted: Filter, frame: Frame) -> bool:
    """A filter in Python, on layers."""
    if wanted.verdict == "drop" or wanted.reason is not None:
        return False
    layers = {part.kind.__name__: part.given for part in Frame.parse(bytes(frame)).parts if isinstance(part, Layer)}
    eth = dict(layers["Ethernet"])
    ip = layers.get("IPv4", layers.get("IPv6"))
    transport = layers.get("Udp", layers.get("Tcp"))
    name = "Udp" if "Udp" in layers else "Tcp" if "Tcp" in layers else "Icmp" if "Icmp" in layers else ""
    fragment = ip is not None and ip.get("offset", 0)
    protocol = {"Udp": 17, "Tcp": 6, "Icmp": 1}.get(name, ip.get("proto", 0) if ip and fragment else 0)
    if wanted.mac is not None and int(wanted.mac.replace(":", ""), 16) not in (eth["dst"], eth["src"]):
        return False
    kind = 0x86dd if "IPv6" in layers else 0x800 if "IPv4" in layers else 0x88b5
    if wanted.ethertype is not None and wanted.ethertype != kind:
        return False
    if wanted.vlan is not None and ("Vlan" not in layers or layers["Vlan"]["vid"] != wanted.vlan):
        return False
    for text, names in ((wanted.source, ["src"]), (wanted.destination, ["dst"]), (wanted.address, ["src", "dst"])):
        if text is not None:
            found = prefix(text)
            if ip is None or found.bits != (128 if "IPv6" in layers else 32) or not any(
                    ip.get(n, 0) in found for n in names):
                return False
    if wanted.protocol is not None and protocol != {"udp": 17, "tcp": 6}.get(str(wanted.protocol), wanted.protocol):
        return False
    for port, names in ((wanted.source_port, ["src"]), (wanted.destination_port, ["dst"]),
                        (wanted.service, ["src", "dst"])):
        if port is not None and (transport is None or fragment or not any(transport[n] == port for n in names)):
            return False
    return True


def test_filters_that_make_no_sense(place: Places) -> None:
    for values, text in (({"verdict": "lost"}, "there is no verdict 'lost': it is one of drop, host, forward"),
                         ({"verdict": "flood", "reason": "HOPS"}, "a reason belongs to a drop, not to flood"),
                         ({"protocol": "sctp"}, "unknown protocol 'sctp'"), ({"service": 70000}, "at most 65535"),
                         ({"source": "10.0.0.1", "destination": "fd00::1"}, "all IPv4 or all IPv6"),
                         ({"mac": "02"}, "02"), ({"source": "10.0.0"}, "10.0.0")):
        with pytest.raises(ValueError, match=text):
            Filter(**values)
    at = place(0)
    with Network("refused", namespace=at.switching) as net:
        net.add("f", Through())
        with pytest.raises(ValueError, match="there is no instance 'g'; instances are f"):
            net.watch(Filter(instance="g"))
        with pytest.raises(ValueError, match="records 16 to 65536 bytes"):
            net.watch(snap=3)
        net.watch().close()


def test_a_ring_that_nobody_reads(place: Places) -> None:
    """Packets go their way; what found no room is counted."""
    at = place(2)
    with Network("full", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)
        with net.watch(room=4096) as watch:
            frame = at.hosts[0].send(at.hosts[1], times=100)
            assert at.hosts[1].captured(100) == [frame] * 100
            found = list(watch)
            assert 0 < len(found) < 100 and len(found) + watch.lost == 100


def test_as_they_come(place: Places) -> None:
    at = place(2)
    with Network("async", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)

        async def act() -> list[str]:
            found = []
            with net.watch() as watch:
                at.hosts[0].send(at.hosts[1])
                async for one in watch:
                    found.append(one.verdict)
                    if len(found) == 3:
                        break
                    at.hosts[1].send(at.hosts[0])
            return found
        assert asyncio.run(asyncio.wait_for(act(), 20)) == ["forward(outside)", "forward(inside)", "forward(inside)"]


@pytest.mark.parametrize("kind", [Through, Gate, Switch])
def test_watched_chains_do_not_run_out_of_tail_calls(place: Places, kind: type[Function]) -> None:
    """As long as hops allow, with and without an egress in every function, all of it watched."""
    at = place(2)
    with Network("long", namespace=at.switching) as net:
        names = [f"f{i}" for i in range(16)]
        for name in names:
            net.add(name, kind())
        for one, other in pairwise(names):
            net.link(f"{one}:1", f"{other}:0")
        net.attach("f0:0" if kind is not Switch else "f0:2", at.hosts[0].edge)
        net.attach("f15:1", at.hosts[1].edge)
        with net.watch() as watch:
            for sender, receiver in (at.hosts, at.hosts[::-1]):
                frame = sender.send(receiver, times=3)
                assert receiver.captured(3) == [frame] * 3
            assert len(list(watch)) == 16 * 6 * (1 if kind is Through else 2) or kind is Switch
        assert net.drops == {}


def test_reconfigured_and_upgraded_while_watched(place: Places) -> None:
    at = place(2)
    with Network("changed", namespace=at.switching) as net:
        net.add("gate", Gate())
        net.attach("gate:inside", at.hosts[0].edge)
        net.attach("gate:outside", at.hosts[1].edge)
        with net.watch() as watch:
            net.reconfigure("gate", open=0)
            at.hosts[0].send(at.hosts[1])
            assert seen(watch, 1)[0].verdict == "drop(REQUIRED)"
            net.upgrade("gate")
            at.hosts[0].send(at.hosts[1])
            assert seen(watch, 1)[0].verdict == "drop(REQUIRED)"
            trace = net.trace(at.hosts[0].frame(at.hosts[1]), "gate:inside")
            assert trace.disagreements == []
        net.reconfigure("gate", open=1)
        frame = at.hosts[0].send(at.hosts[1])
        assert at.hosts[1].captured(1) == [frame]


def test_a_removed_instance_ends_its_watch(place: Places) -> None:
    at = place(0)
    with Network("removed", namespace=at.switching) as net:
        net.add("f", Through())
        with net.watch():
            net.remove("f")


def test_watching_is_hitless(place: Places) -> None:
    """Datagrams both ways and bulk TCP while watches come and go."""
    at = place(2)
    with Network("hitless", namespace=at.switching) as net:
        net.add("a", Switch())
        net.add("wall", Acl(default="accept"))
        net.link("a:1", "wall:inside")
        net.attach("a:0", at.hosts[0].edge)
        net.attach("wall:outside", at.hosts[1].edge)
        assert at.hosts[0].ping(at.hosts[1])
        with Flows(at.hosts[0], at.hosts[1]) as flows:
            looks = 0
            for _ in range(15):
                with net.watch(Filter(protocol="udp")) as watch:
                    watch.wait(10)
                    looks += len(list(watch))
        assert looks > 0
        assert (flows.result.lost, flows.result.doubled) == (0, 0) and flows.result.pushed == flows.result.drained


def test_several_at_a_time(place: Places, tmp_path: Path) -> None:
    """Each sees what it wants, whoever else looks; the last one that goes takes the branch with it."""
    at = place(2)
    with Network("seen", namespace=at.switching) as net:
        net.add("gate", Gate())
        net.attach("gate:inside", at.hosts[0].edge)
        net.attach("gate:outside", at.hosts[1].edge)
        tags = {stage: net.instances["gate"].runs(stage) for stage in net.instances["gate"].loaded.stages}
        with ExitStack() as undo:
            everything = undo.enter_context(net.watch())
            drops = net.watch(Filter(verdict="drop"))
            mac = undo.enter_context(net.watch(Filter(mac="02:00:00:00:00:02", verdict="forward"), snap=16))
            first = undo.enter_context(net.capture("gate:inside", tmp_path / "first.pcapng"))
            second = net.capture("gate:outside", tmp_path / "second.pcapng")
            frame = at.hosts[0].send(at.hosts[1])
            assert at.hosts[1].captured(1) == [frame]
            assert [found.stage for found in seen(everything, 2)] == ["ingress", "egress"]
            assert [len(found.frame) for found in seen(mac, 2)] == [16, 16] and not list(drops)
            net.reconfigure("gate", open=0)
            at.hosts[0].send(at.hosts[1])
            assert [found.verdict for found in seen(drops, 1)] == ["drop(REQUIRED)"]
            drops.close()
            second.close()
            with net.revision() as draft:
                draft.reconfigure("gate", open=1)
            frame = at.hosts[1].send(at.hosts[0])
            assert at.hosts[0].captured(1) == [frame]
            assert [found.verdict for found in seen(everything, 3)] == [
                "drop(REQUIRED)", "forward(inside)", "forward(inside)"]
            assert net.trace(frame, "gate:outside").disagreements == []
        assert (first.written, second.written) == (3, 1)
        assert not net.instances["gate"].watchers and not net.instances["gate"].taps
        assert net.drops == {"gate": {"REQUIRED": 1}} and tags.keys() == {"ingress", "egress", "hook"}
        exchange(*at.hosts)
