"""A process dies between making something and writing that down, or between writing and removing: whoever adopts the
network leaves nothing of it behind."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Device, Network, Tap, Veth
from iovisor.fabric import beside as fabric_beside
from iovisor.fabric import devices as fabric_devices
from iovisor.fabric import grace as fabric_grace
from iovisor.fabric import revision as fabric_revision
from iovisor.fabric import wiring as fabric_wiring
from iovisor.functions.switch import Switch
from iovisor.kernel import KernelError, Netlink, filesystem, interfaces
from iovisor.kernel import Tap as KernelTap
from iovisor.kernel.namespaces import delete
from tests.fabric.functions import Gate
from tests.fabric.hosts import Place

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ROOM = f"dying-{os.getpid()}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "net"
    filesystem.unmount(tmp_path / "net/bpf")
    with suppress(KernelError):
        delete(ROOM)


def dies(at: Place, folder: Path, where: object, name: str, change: Callable[[Network], object]) -> None:
    """In a process of its own the network is adopted, and changed until `name` of `where` is called."""
    child = os.fork()
    if not child:
        try:
            network = Network.adopt(folder, namespace=at.switching)

            def die(*arguments: Any, **named: Any) -> None:
                os._exit(7)
            setattr(where, name, die)
            change(network)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def devices(at: Place) -> list[tuple[str, bool]]:
    with Netlink(at.switching) as netlink:
        return sorted((there.name, there.promiscuous) for there in interfaces.listing(netlink))


def attached(net: Network) -> None:
    net.attach_all({"lan:2": Veth(ROOM, create=True), "lan:3": Device("p2")})


def tapped(net: Network) -> None:
    net.attach("lan:2", Tap("dying"))


def drafted(net: Network) -> None:
    with net.revision() as draft:
        draft.attach("lan:2", Veth(ROOM, create=True))
        draft.attach("lan:3", Device("p2"))
        draft.reconfigure("lan", ageing=60)


def undone(net: Network) -> None:
    with net.revision() as draft:
        draft.detach("lan:2")
        draft.detach("lan:3")


def moved(net: Network) -> None:
    with net.revision() as draft:
        draft.detach("lan:3")
        draft.attach("lan:4", Device("p2"))


def parted(net: Network) -> None:
    net.detach("lan:3")
    net.detach("lan:2")


BEFORE: list[tuple[object, str, Callable[[Network], object]]] = [
    (fabric_devices.Devices, "_make_cables", attached),             # the namespace has its name
    (fabric_wiring.Wiring, "_open", attached),                      # devices are made, one is promiscuous
    (fabric_devices.Devices, "start", attached),                    # packets could pass
    (KernelTap, "persist", tapped),
    (fabric_wiring.Wiring, "_open", tapped),                        # it stays without a process
    (fabric_devices.Devices, "_make_cables", drafted),
    (fabric_beside.Beside, "turn", drafted)]


@pytest.mark.parametrize("where, name, change", BEFORE, ids=[f"{c.__name__} {n}" for _, n, c in BEFORE])
def test_before_it_is_written(place: Places, folder: Path, where: object, name: str,
                              change: Callable[[Network], object]) -> None:
    at = place(3)
    net = Network("dying", namespace=at.switching, pins=folder)
    net.add("lan", Switch())
    net.attach("lan:0", at.hosts[0].edge)
    net.attach("lan:1", at.hosts[1].edge)
    net.link("lan:7", "lan:8")
    net.unlink("lan:7")                                             # the device for copies is there
    net.leave()
    before = devices(at)
    dies(at, folder, where, name, change)
    with Network.adopt(folder, namespace=at.switching) as net:
        assert at.hosts[0].ping(at.hosts[1], 1)
        assert devices(at) == before
        assert not Path("/run/netns", ROOM).exists()
        change(net)                                                 # nothing is in the way of the same again
        assert at.hosts[0].ping(at.hosts[1], 1)
    assert not Path("/run/netns", ROOM).exists()
    assert all(not promiscuous for _, promiscuous in devices(at))


@pytest.mark.parametrize("where, name, change", [
    (fabric_revision, "_give_back", undone), (fabric_revision, "_take_down", undone),
    (fabric_devices, "_forget", parted)], ids=["undone before", "undone after", "parted"])
def test_after_it_is_written(place: Places, folder: Path, where: object, name: str,
                             change: Callable[[Network], object]) -> None:
    at = place(3)
    before = devices(at)
    net = Network("dying", namespace=at.switching, pins=folder)
    net.add("lan", Switch())
    net.attach("lan:0", at.hosts[0].edge)
    net.attach("lan:1", at.hosts[1].edge)
    attached(net)
    net.leave()
    dies(at, folder, where, name, change)
    net = Network.adopt(folder, namespace=at.switching)
    assert at.hosts[0].ping(at.hosts[1], 1)
    if change is parted:                                            # not written: the port is attached, and absent
        assert [str(port) for port in net.absent] == ["lan:2"]
        net.detach("lan:2")
    assert not Path("/run/netns", ROOM).exists()
    assert devices(at) == before
    net.close()


def test_a_hook_is_there_as_long_as_copies_come_to_it(place: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a port is detached, what stands at its device's egress goes after a grace period in which nothing is led
    there, so no copy leaves past it."""
    at, order = place(2), list[str]()

    def noted(where: Any, name: str) -> None:
        was = getattr(where, name)

        def call(*arguments: Any) -> None:
            order.append(name)
            was(*arguments)
        monkeypatch.setattr(where, name, call)
    with Network("hooked", namespace=at.switching) as net:
        net.add("gate", Gate())
        for name, host in zip(("inside", "outside"), at.hosts, strict=True):
            net.attach(f"gate:{name}", host.edge)
        noted(fabric_grace, "wait")
        noted(fabric_wiring.Wiring, "_shut")
        noted(fabric_wiring.Wiring, "_unhook")
        net.detach("gate:outside")
        assert order[:3] == ["_shut", "wait", "_unhook"]


def test_a_directory_without_pins_says_what_happened(place: Places, folder: Path) -> None:
    at = place(0)
    net = Network("booted", namespace=at.switching, pins=folder)
    net.add("lan", Switch())
    net.leave()
    filesystem.unmount(folder / "bpf")                              # as a reboot does
    with pytest.raises(ValueError, match="the machine was started anew"):
        Network.adopt(folder, namespace=at.switching)


@pytest.mark.parametrize("where, name", [(fabric_revision, "_become"), (fabric_revision, "_take_down")])
def test_between_turning_and_writing(place: Places, folder: Path, where: object, name: str) -> None:
    """A device that was turned already says that it belongs to another port of the network."""
    at = place(3)
    net = Network("dying", namespace=at.switching, pins=folder)
    net.add("lan", Switch())
    net.attach_all({"lan:0": at.hosts[0].edge, "lan:1": at.hosts[1].edge, "lan:3": Device("p2")})
    assert at.hosts[2].ping(at.hosts[0], 1)
    net.leave()
    dies(at, folder, where, name, moved)
    with Network.adopt(folder, namespace=at.switching) as net:
        stands = "lan:3" if name == "_become" else "lan:4"
        assert [str(port) for port, join in net.joins.items() if isinstance(join.attachment, Device)] == [stands]
        assert at.hosts[2].ping(at.hosts[0], 1) and net.traffic(stands)[0].packets > 0
        if stands == "lan:3":
            moved(net)
        assert at.hosts[2].ping(at.hosts[0], 1)
