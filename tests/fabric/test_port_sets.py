"""Floods to a set of ports: to each of the set once, and to nobody else; devices, functions, and what watches."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iovisor.fabric import Network
from iovisor.language import PortSet
from tests.fabric.functions import SomeGatedHub, SomeHub, Through, WideHub
from tests.fabric.hosts import Host, Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
FAR = 199               # a port in the last word of a set, joined to a function


def to(host: Host, number: int) -> bytes:
    """A frame for the set of a number."""
    frame = (b"\2\0\0\0\0" + bytes([number]) + host.mac + b"\x88\xb5").ljust(60, b"\0")
    host.socket.send(frame)
    return frame


def joined(net: Network, at: Place, kind: type[SomeHub]) -> SomeHub:
    """Three hosts at the hub, and the fourth behind a function at its far port."""
    hub = kind()
    net.add("hub", hub)
    net.add("behind", Through())
    for port, host in enumerate(at.hosts[:3]):
        net.attach(f"hub:{port}", host.edge)
    net.link(f"hub:{FAR}", "behind:inside")
    net.attach("behind:outside", at.hosts[3].edge)
    for number, ports in ((1, {0, 1, 2, FAR}), (2, {2}), (3, {0, FAR}), (4, set[int]())):
        hub.sets[number] = PortSet.of(ports)
    return hub


@pytest.mark.parametrize("kind", [SomeHub, SomeGatedHub])
def test_who_is_in_the_set(place: Places, kind: type[SomeHub]) -> None:
    at = place(4)
    with Network("sets", namespace=at.switching) as net:
        hub = joined(net, at, kind)
        for number, receivers in ((0, {1, 2, 3}), (1, {1, 2, 3}), (2, {2}), (3, {3}), (4, set()), (200, set())):
            frame = to(at.hosts[0], number)
            for place_of, host in enumerate(at.hosts[1:], 1):
                wanted = [frame] if place_of in receivers else []
                assert host.captured(len(wanted)) == wanted, (number, place_of)
            assert at.hosts[0].captured() == []
        hub.sets[2] = PortSet.of({0, 1})
        frame = to(at.hosts[1], 2)
        assert at.hosts[0].captured(1) == [frame] and at.hosts[2].captured() == []
        assert net.drops == {}
        assert until(lambda: net.balance().exact) and net.balance().copies == 3 + 3 + 1 + 1 + 1


@pytest.mark.parametrize("kind", [SomeHub, SomeGatedHub])
def test_a_trace_and_a_capture_know_the_set(place: Places, kind: type[SomeHub], tmp_path: Path) -> None:
    at = place(4)
    with Network("seen", namespace=at.switching) as net:
        joined(net, at, kind)
        for number, devices in ((0, {1, 2, 3}), (1, {1, 2, 3}), (2, {2}), (3, {3}), (4, set()), (200, set())):
            frame = (b"\2\0\0\0\0" + bytes([number]) + at.hosts[0].mac + b"\x88\xb5").ljust(60, b"\0")
            trace = net.trace(frame, "hub:0")
            assert not trace.disagreements, trace
            assert {end.device for end in trace.ends if end.what == "out"} == {
                at.hosts[device].device for device in devices}
        with net.capture("hub:2", tmp_path / "sets.pcapng") as capture:
            sent = [to(at.hosts[0], number) for number in (3, 2, 4, 0)]
            assert at.hosts[2].captured(2) == [sent[1], sent[3]]
            assert until(lambda: capture.written == 2)


def test_an_upgrade_brings_sets(place: Places) -> None:
    at = place(2)
    with Network("upgraded", namespace=at.switching) as net:
        net.add("hub", WideHub())
        for port, host in enumerate(at.hosts):
            net.attach(f"hub:{port}", host.edge)
        frame = to(at.hosts[0], 2)
        assert at.hosts[1].captured(1) == [frame]
        hub = net.upgrade("hub", SomeHub)
        to(at.hosts[0], 2)
        assert at.hosts[1].captured() == []
        assert isinstance(hub, SomeHub)
        hub.sets[2] = PortSet.of({1})
        frame = to(at.hosts[0], 2)
        assert at.hosts[1].captured(1) == [frame]
