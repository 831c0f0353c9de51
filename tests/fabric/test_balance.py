"""Packet for packet: what comes in leaves or ends with a name, and the counters are what captures count."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from iovisor.fabric import Balance, Network, Traffic
from iovisor.functions.switch import Switch
from iovisor.testing import Capture
from tests.conftest import settled
from tests.fabric.functions import Gate, Hub, Learner, Marker, Marks, Older, Tagger, Through
from tests.fabric.hosts import Place

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
IPV4 = b"\x08\0" + bytes.fromhex("4500002c 0000 0000 01 11 0000 0a000001 0a090909") + bytes(24)


def test_every_end_has_its_number(place: Places) -> None:
    """A hub with something else behind every port; 3 frames from a device, 2 from Python."""
    at = place(2)
    with Network("ends", namespace=at.switching) as net:
        net.add("hub", Hub())
        net.add("wall", Gate(open=0))
        net.add("learner", Learner())
        net.add("older", Older())
        net.attach("hub:0", at.hosts[0].edge)
        for port, name in enumerate(("wall", "learner", "older"), 1):
            net.link(f"hub:{port}", f"{name}:inside")
        frame = b"\xff" * 6 + at.hosts[0].mac + IPV4
        for _ in range(3):
            at.hosts[0].socket.send(frame)
        for _ in range(2):
            net.inject(frame, "hub:1")
        assert settled(net) == Balance(
            received=3, injected=2, copies=3 * 3 + 2 * 3, sent=2, punted=5, handed=5, floods=5, gone=0,
            drops={"wall": {"REQUIRED": 3}}), str(net.balance())
        assert net.balance().alarms == []
        assert str(net.balance()).splitlines() == [
            "in          20  received 3  injected 2  copies 15",
            "out         20  sent 2  dropped 3  punted 5  to the host 5  floods 5", "balanced",
            "  wall        REQUIRED 3"]


def test_ports_and_instances_that_go_stay_in_the_account(place: Places) -> None:
    at = place(2)
    with Network("gone", namespace=at.switching) as net:
        net.add("f", Gate())
        net.attach("f:inside", at.hosts[0].edge)
        at.hosts[0].send(None, times=4)                 # nothing is joined to the other side
        assert settled(net).drops == {"f": {"UNWIRED": 4}}
        assert net.balance().alarms == ["f: 4 packets met an empty slot (UNWIRED): a port is joined to nothing, or a "
                                        "program is missing"]
        net.attach("f:outside", at.hosts[1].edge)
        frame = at.hosts[0].send(None, times=5)
        assert at.hosts[1].captured(5) == [frame] * 5
        net.detach("f:inside")
        net.detach("f:outside")
        net.remove("f")
        assert settled(net) == Balance(9, 0, 0, 5, 0, 0, 0, gone=4)
        net.add("g", Through())
        net.attach("g:inside", at.hosts[0].edge)
        net.attach("g:outside", at.hosts[1].edge)
        at.hosts[1].send(None, times=2)
        at.hosts[0].captured(2)
        assert settled(net) == Balance(11, 0, 0, 7, 0, 0, 0, gone=4)


def test_under_traffic_it_is_bounded_and_at_rest_exact(place: Places) -> None:
    """Floods, recirculation, a function inserted and taken out, while frames come as fast as they can."""
    at = place(3)
    with Network("busy", namespace=at.switching) as net:
        for name in ("a", "b"):
            net.add(name, Switch())
        net.link("a:1", "b:1")
        net.attach("a:0", at.hosts[0].edge)
        net.attach("b:0", at.hosts[1].edge)
        net.attach("b:2", at.hosts[2].edge)
        net.add("tagger", Tagger())

        async def act() -> None:
            def send() -> None:
                for _ in range(40):
                    at.hosts[0].send(None, times=50)
                    at.hosts[1].send(at.hosts[0], times=50)
            sending = asyncio.create_task(asyncio.to_thread(send))
            looks = 0
            while not sending.done():
                balance = net.balance()
                assert balance.holds, str(balance)
                looks += 1
                if looks % 8 == 4:
                    net.insert("a:1", "tagger:inside", "tagger:outside")
                elif looks % 8 == 0:
                    net.take_out("tagger:inside", "tagger:outside")
                await asyncio.sleep(0)
            await sending
            assert looks > 3
        asyncio.run(act())
        balance = settled(net)
        assert balance.exact and balance.received == 4000, str(balance)


def test_counters_are_what_captures_count(place: Places) -> None:
    """Every port's counters against a packet socket on its device's far side, frames and bytes."""
    at = place(4)
    with Network("counted", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.add("hub", Hub())
        net.link("lan:9", "hub:3")
        places = dict(zip(("lan:0", "lan:1", "hub:0", "hub:1"), at.hosts, strict=True))
        for port, host in places.items():
            net.attach(port, host.edge)
        captures = {port: Capture(host.namespace, "eth0", outgoing=True) for port, host in places.items()}
        try:
            for sender in at.hosts:
                for other in (*at.hosts, None):
                    if sender is not other:
                        sender.send(other, bytes(10 * sender.number), times=3)
            settled(net)
            for port, capture in captures.items():
                def counted(port: str = port, capture: Capture = capture) -> bool:
                    capture.frames()
                    sides = [[c.frame for c in capture.taken if c.outgoing is way] for way in (True, False)]
                    return net.traffic(port) == tuple(Traffic(len(s), sum(map(len, s))) for s in sides)
                deadline = time.monotonic() + 10
                while not counted() and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert counted(), port
        finally:
            for capture in captures.values():
                capture.close()


def test_metadata_comes_around(place: Places) -> None:
    """Five markers with hubs between them: only the fifth drops, if every copy has kept what the others wrote."""
    at = place(1)
    with Network("marks", namespace=at.switching) as net:
        for index in range(5):
            net.add(f"m{index}", Marker())
            if index:
                net.add(f"h{index}", Hub())
                net.link(f"m{index - 1}:outside", f"h{index}:0")
                net.link(f"h{index}:1", f"m{index}:inside")
        net.attach("m4:outside", at.hosts[0].edge)
        frame = at.hosts[0].frame(None)
        assert net.trace(frame, "m0:inside").drops == {"m4": {"200": 1}}
        net.inject(frame, "m0:inside")
        assert settled(net).drops == {"m4": {"200": 1}}
        net.inject(frame, "m1:inside")
        assert at.hosts[0].captured(1) == [frame]
        assert Marks.size <= 16 and net.trace(frame, "m1:inside").hops[-1].metadata[0] == 4
