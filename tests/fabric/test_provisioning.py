"""What a network costs while it is there, and that nothing of it stays: counts, not times."""
from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from iovisor.fabric import Edge, Network, Veth, close_all
from iovisor.fabric.edges import Door
from iovisor.functions.switch import Switch
from iovisor.kernel import Map, Netlink, interfaces
from iovisor.targets.bpf import FLOOD_SLOT
from tests.fabric.functions import Through, ThroughFlooding
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
DESCRIPTORS = 12                # of a switch, a filter and three devices: five links among them
MEMORY = 1 << 20                # bytes, of the same


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def small(name: str, at: Place) -> Network:
    """A switch, a two-port function on one of its ports, three devices."""
    net = Network(name, namespace=at.switching)
    net.add("lan", Switch())
    net.add("wall", Through())
    net.link("lan:0", "wall:inside")
    for port, host in zip(("wall:outside", "lan:1", "lan:2"), at.hosts, strict=True):
        net.attach(port, host.edge)
    return net


def test_a_network_holds_few_descriptors(place: Places) -> None:
    """Also after it was asked, changed, and its tables were used."""
    at = place(3)
    small("first", at).close()                      # what the first network of a process leaves open
    before = descriptors()
    with small("few", at) as net:
        assert descriptors() - before <= DESCRIPTORS
        exchange(*at.hosts[:2])
        assert len(list(net.instances["lan"].function.stations)) == 2       # type: ignore[attr-defined]
        assert net.drops == {} and net.traffic("lan:1")[0].packets == 5 and net.balance().holds
        net.unlink("lan:0")
        net.link("lan:0", "wall:inside")
        net.reconfigure("lan", ageing=60)
        net.upgrade("wall")
        exchange(*at.hosts[:2])
        assert descriptors() - before <= DESCRIPTORS
    assert descriptors() == before


def test_a_network_that_idles_takes_little_memory(place: Places) -> None:
    """Beside the bar: entries count, and an instance takes its own with it."""
    at = place(3)
    with small("little", at) as net:
        idle = net.memory
        print(f"{idle / 1024:.0f} KiB")
        assert 16 << 10 < idle <= MEMORY
        stations = net.instances["lan"].function.stations                  # type: ignore[attr-defined]
        size, value = stations.spec.key_size, bytes(stations.spec.stored_size)
        stations.home.store({number.to_bytes(size, "little"): value for number in range(1000)})
        full = net.memory
        assert full - idle >= 1000 * (size + len(value))
        net.add("more", Through())
        more = net.memory
        assert more > full
        net.remove("more")
        assert net.memory < more


def test_tables_are_found_again_after_the_descriptors_went(place: Places) -> None:
    """The map is the same one: what programs wrote is there."""
    at = place(3)
    with small("same", at) as net:
        instance = net.instances["wall"]
        numbers = {name: found.id for name, found in instance.loaded.maps.items()}
        for found in (*instance.loaded.maps.values(), instance.members, instance.counters.array):
            if found is not instance.loaded.slots:
                found.rest()
        exchange(*at.hosts[:2])
        assert {name: found.id for name, found in instance.loaded.maps.items()} == numbers
        assert instance.function.seen.read(0).packets == 5                  # type: ignore[attr-defined]


def test_networks_come_and_go_and_leave_nothing(place: Places, nightly: bool) -> None:
    """Objects of the kernel are compared by the fixture that all tests here have."""
    at = place(3)
    small("first", at).close()
    before = descriptors()
    with Netlink(at.switching) as netlink:
        devices = {found.index for found in interfaces.listing(netlink)}
        for number in range(1000 if nightly else 30):
            small(f"n{number}", at).close()
        assert {found.index for found in interfaces.listing(netlink)} == devices
    assert descriptors() == before


def test_who_never_floods_holds_nothing_to_flood_by(place: Places) -> None:
    """Until an image takes over that does, of the same instance or in a revision."""
    at = place(2)
    with Network("still", namespace=at.switching) as net:
        wall = net.add("wall", Through())
        for port, host in zip(("wall:inside", "wall:outside"), at.hosts, strict=True):
            net.attach(port, host.edge)
        flooding = Door(wall.loaded.slots, FLOOD_SLOT)
        assert not wall.floods and not wall.behind(flooding)
        exchange(*at.hosts)
        net.upgrade("wall", ThroughFlooding)
        assert wall.behind(flooding)
        exchange(*at.hosts)
        assert net.balance().holds and net.drops == {}
    with Network("draft", namespace=at.switching) as net:
        wall = net.add("wall", Through())
        for port, host in zip(("wall:inside", "wall:outside"), at.hosts, strict=True):
            net.attach(port, host.edge)
        with net.revision() as draft:
            draft.upgrade("wall", ThroughFlooding)
        assert wall.behind(Door(wall.loaded.slots, FLOOD_SLOT))
        exchange(*at.hosts)
        assert net.balance().holds and net.drops == {}


def test_many_networks_end_together(place: Places) -> None:
    """Their devices go in one request; one that cannot end keeps none of the others."""
    at = place(1)
    before = descriptors()
    with Netlink(at.switching) as netlink:
        devices = {found.index for found in interfaces.listing(netlink)}
        nets = []
        for number in range(3):
            nets.append(Network(f"n{number}", namespace=at.switching))
            nets[-1].add("lan", Switch())
            nets[-1].add("wall", Through())
            nets[-1].link("lan:0", "wall:inside")
            nets[-1].attach("lan:1", Veth(at.hosts[0].namespace, f"n{number}"))
        assert len(interfaces.listing(netlink)) == len(devices) + 3 * 3         # two ends in line, one of a cable
        with pytest.raises(RuntimeError, match="of its own"), ExitStack() as undo:
            undo.callback(close_all, nets)
            nets[1]._undo.callback(_fail)
        assert {found.index for found in interfaces.listing(netlink)} == devices
    assert all(not net.instances and not net.joins for net in nets)
    assert descriptors() == before


def _fail() -> None:
    raise RuntimeError("of its own")


def test_wires_are_added_as_links_are(place: Places) -> None:
    """More links than the array of wires has room for at first; clones find their way in the larger one."""
    at = place(2)
    with Network("wires", namespace=at.switching) as net:
        net.add("hub", Switch())
        net.attach("hub:0", at.hosts[0].edge)
        net.add("far", Switch())
        net.attach("far:0", at.hosts[1].edge)
        net.link("hub:1", "far:1")
        frame = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [frame]
        first: Map = net._around._wires
        net._around._free.clear()                   # as if all were in use
        net.add("more", Switch())
        net.link("hub:2", "more:1")
        assert net._around._wires is not first and net._around._wires.spec.max_entries == 2 * first.spec.max_entries
        frame = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [frame]
        net._around._free += [wire for wire in range(1, 256) if wire not in {j.wire for j in net.joins.values()}]


def test_a_device_that_is_not_there_costs_nothing(place: Places) -> None:
    at = place(2)
    with Network("absent", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        before = descriptors()
        for _ in range(3):
            with pytest.raises((OSError, ValueError)):
                net.attach("f:outside", Edge(4_242))
        assert descriptors() <= before
        net.attach("f:outside", at.hosts[1].edge)
        exchange(*at.hosts)
