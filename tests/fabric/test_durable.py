"""Durable tables: what Python wrote is on disk before the answer leaves, and there again after a power cut."""
from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Network, durable
from iovisor.functions.dhcp import Dhcp
from iovisor.functions.dhcp.leases import State, client_of
from iovisor.kernel import filesystem
from iovisor.store import Shelf, StoreError
from iovisor.targets.homes import KernelHome
from iovisor.wire.dhcp import DhcpOption, DhcpType
from tests.fabric.hosts import Host, Place
from tests.fabric.serving import served
from tests.functions.test_dhcp import Reply, asked, ip
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
D, R = DhcpType, DhcpOption
SERVER = "10.0.0.1"
SUBNET: dict[str, Any] = {"prefix": "10.0.0.0/24", "pools": ["10.0.0.100-10.0.0.103"]}
ONE, TWO, THREE = 0x02_00_00_00_01_01, 0x02_00_00_00_01_02, 0x02_00_00_00_01_03


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "net"
    filesystem.unmount(tmp_path / "net/bpf")


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with_file = Shelf(tmp_path / "durable/entries.db")
    yield with_file
    with_file.close()


def dhcp(**values: Any) -> Dhcp:
    return Dhcp(**{"server": SERVER, "mac": "02:00:00:00:00:d1", "subnets": [SUBNET], **values})


def built(net: Network, at: Place, **values: Any) -> Dhcp:
    function = dhcp(**values)
    net.add("dhcp", function)
    net.attach("dhcp:lan", at.hosts[0].edge)
    return function


class Client:
    """Says what it says from a host's device, under an address of its own."""

    def __init__(self, host: Host, mac: int) -> None:
        self.host, self.mac = host, mac

    def says(self, kind: DhcpType, options: dict[int, bytes] | None = None, **fields: Any) -> Reply | None:
        """What comes back, waited for if something must."""
        self.host.socket.send(asked(kind, options, chaddr=self.mac, sender=self.mac, **fields))
        found = [frame for frame in self.host.captured(1) if frame[:6] == self.mac.to_bytes(6, "big")
                 or frame[:6] == b"\xff" * 6]
        return Reply(found[0]) if found else None

    def leases(self) -> str:
        """The whole exchange; the address."""
        offer = self.says(D.DISCOVER)
        assert offer is not None and offer.kind == D.OFFER
        ack = self.says(D.REQUEST, {R.SERVER: ip(SERVER), R.REQUESTED: ip(offer.yours)})
        assert ack is not None and ack.kind == D.ACK
        return ack.yours

    def was_here(self, address: str) -> int:
        """INIT-REBOOT: is the address still mine?  The kind of the answer."""
        found = self.says(D.REQUEST, {R.REQUESTED: ip(address)})
        assert found is not None
        return found.kind


def power_cut(folder: Path) -> None:
    """What it takes away beside the process: everything that was in the kernel."""
    filesystem.unmount(folder / "bpf")
    (folder / "topology.json").unlink()


def agrees(function: Dhcp) -> bool:
    """Whether both tables say the same: every client holds its address, and nobody another one."""
    return {(lease.address, bytes(client)) for client, lease in function.clients.items()} == {
        (address, bytes(client)) for address, client in function.holders.items()}


def addresses(function: Dhcp) -> dict[str, str]:
    return {row["address"]: row["state"] for row in function.show()}


def test_after_a_power_cut_leases_stand(place: Places, folder: Path, shelf: Shelf) -> None:
    at = place(1)
    one, two = Client(at.hosts[0], ONE), Client(at.hosts[0], TWO)
    net = Network("lan", namespace=at.switching, pins=folder, durable=shelf)
    built(net, at)
    with served(net):
        assert (one.leases(), two.leases()) == ("10.0.0.100", "10.0.0.101")
    net._durable.save = lambda: None                                # type: ignore[method-assign]
    net.leave()                                                     # as a process that is killed does
    power_cut(folder)
    with Network("lan", namespace=at.switching, pins=folder, durable=shelf) as again:
        function = built(again, at)
        assert addresses(function) == {"10.0.0.100": "bound", "10.0.0.101": "bound"} and agrees(function)
        with served(again):
            assert one.was_here("10.0.0.100") == D.ACK
            assert two.was_here("10.0.0.100") == D.NAK
            assert Client(at.hosts[0], THREE).leases() == "10.0.0.102"


def test_the_answer_leaves_after_the_commit(place: Places, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk, kernel, answer: in this order, for every answer; and what is known to disk and kernel at each moment."""
    at, order = place(1), list[str]()
    commit, leave = Shelf.commit, Network._leave
    with Network("lan", namespace=at.switching, durable=shelf) as net:
        function = built(net, at)
        kernel = net.instances["dhcp"].loaded.homes["holders"]

        def committed(self: Shelf, *arguments: Any) -> None:
            assert len(list(kernel.items())) == len(shelf.entries("dhcp:0/holders"))
            commit(self, *arguments)
            order.append("disk")

        def left(self: Network, *arguments: Any) -> None:
            holders = shelf.entries("dhcp:0/holders")
            assert len(holders) == 1 and dict(kernel.items()) == holders
            order.append("answer")
            leave(self, *arguments)
        monkeypatch.setattr(Shelf, "commit", committed)
        monkeypatch.setattr(Network, "_leave", left)
        with served(net):
            Client(at.hosts[0], ONE).leases()
        assert order == ["disk", "answer"] * 2
        assert agrees(function)
        monkeypatch.undo()


def dies(at: Place, folder: Path, frame: bytes, where: object, name: str, after: bool) -> None:
    """A process adopts the network and serves it until `name` of `where` is called; the client hears nothing."""
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            net = Network.adopt(folder, namespace=at.switching, durable=Shelf(folder.parent / "durable/entries.db"))
            was = getattr(where, name)

            def die(*arguments: Any, **named: Any) -> None:
                if after:
                    was(*arguments, **named)
                os._exit(7)
            setattr(where, name, die)
            os.write(told, b"r")
            asyncio.run(net.serve())
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"r"
    os.close(ready)
    at.hosts[0].socket.send(frame)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert at.hosts[0].captured() == []


#: Where it dies, whether after that is done, and whether the change is on disk by then.
POINTS: dict[str, tuple[object, str, bool, bool]] = {
    "when the kernel has forgotten": (KernelHome, "delete", True, False),
    "before the commit": (Shelf, "commit", False, False),
    "before the kernel knows": (Shelf, "commit", True, True),
    "when it knows one table": (KernelHome, "store", True, True),
    "before the answer": (Network, "_leave", False, True)}


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("point", POINTS)
def test_dying(place: Places, folder: Path, shelf: Shelf, point: str, power: bool) -> None:
    """An address goes from one client to another, which takes three changes in two tables: all are there or none."""
    at, (where, name, after, kept) = place(1), POINTS[point]
    one, two = Client(at.hosts[0], ONE), Client(at.hosts[0], TWO)
    only = {"subnets": [{"prefix": "10.0.0.0/24", "pools": ["10.0.0.100-10.0.0.100"]}]}
    net = Network("lan", namespace=at.switching, pins=folder, durable=shelf)
    function = built(net, at, **only)
    with served(net):
        assert one.leases() == "10.0.0.100"
    function.release("10.0.0.100")
    net.leave()
    dies(at, folder, asked(D.DISCOVER, chaddr=TWO), where, name, after)
    if power:
        power_cut(folder)
        net = Network("lan", namespace=at.switching, pins=folder, durable=shelf)
        function = built(net, at, **only)
    else:
        net = Network.adopt(folder, namespace=at.switching, durable=shelf)
        found = net.instances["dhcp"].function
        assert isinstance(found, Dhcp)
        function = found
    with net:
        assert agrees(function)
        assert addresses(function) == {"10.0.0.100": "offered" if kept else "free"}
        kernel = net.instances["dhcp"].loaded.homes
        assert {name: dict(kernel[name].items()) for name in ("clients", "holders")} == {
            name: shelf.entries(f"dhcp:0/{name}") for name in ("clients", "holders")}
        with served(net):
            assert two.leases() == "10.0.0.100"
            at.hosts[0].socket.send(asked(D.DISCOVER, chaddr=ONE))
            assert at.hosts[0].captured() == []


def test_what_waits_for_the_disk_leaves_before_the_network_ends(place: Places, shelf: Shelf) -> None:
    at = place(1)
    net = Network("lan", namespace=at.switching, durable=shelf)
    function = built(net, at)
    frame = b"\xff" * 6 + b"\2\0\0\0\0\xd1\x88\xb5" + bytes(46)

    async def at_the_end() -> None:
        function.book().write(client_of(b"", ONE), 0x0a000064, ONE, State.BOUND, 1)
        function.send(frame, 0)
        assert shelf.entries("dhcp:0/clients") == {}
        net.close()
    asyncio.run(at_the_end())
    assert at.hosts[0].captured(1) == [frame] and len(shelf.entries("dhcp:0/clients")) == 1
    assert net.served.failed == 0


class Full(Shelf):
    """On a disk that has no room at times."""

    full = False

    def commit(self, *arguments: Any, **named: Any) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().commit(*arguments, **named)


def test_nothing_is_answered_that_cannot_be_kept(place: Places, tmp_path: Path) -> None:
    at, disk = place(1), Full(tmp_path / "entries.db")
    client = Client(at.hosts[0], ONE)
    with Network("lan", namespace=at.switching, durable=disk) as net:
        function = built(net, at)
        kernel = net.instances["dhcp"].loaded.homes["clients"]
        with served(net):
            disk.full = True
            at.hosts[0].socket.send(asked(D.DISCOVER, chaddr=ONE))
            assert until(lambda: bool(net.unkept))
            assert at.hosts[0].captured() == [] and not list(kernel.items())
            assert net.unkept == "the disk is full" and net.served.failed > 0
            disk.full = False
            assert until(lambda: not net.unkept)                    # it is tried again by itself
            assert client.leases() == "10.0.0.100"
        assert agrees(function) and dict(kernel.items()) == disk.entries("dhcp:0/clients")
        disk.full = True
        with pytest.raises(ValueError, match="the disk is full"):
            function.release("10.0.0.100")
        assert net.unkept
        with pytest.raises(ValueError, match="cannot be kept"):
            net.add("other", dhcp())
        disk.full = False
        net.add("another", dhcp())


def test_what_the_kernel_makes_longer_is_saved(place: Places, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place(1)
    client = Client(at.hosts[0], ONE)
    monkeypatch.setattr(durable, "SAVE", 0.05)
    with Network("lan", namespace=at.switching, durable=shelf) as net:
        function = built(net, at)
        with served(net):
            address = client.leases()
            assert client.was_here(address) == D.ACK                # Python's
            [(_, before)] = function.clients.items()
            for _ in range(3):
                assert client.was_here(address) == D.ACK            # the kernel's
            [(_, after)] = function.clients.items()
            assert after.expires > before.expires
            assert until(lambda: shelf.entries("dhcp:0/clients") == {
                bytes(key): bytes(value) for key, value in function.clients.items()})
            assert function.told.read(16 + D.ACK).packets == 3


def test_without_a_shelf_they_are_like_others(place: Places, folder: Path) -> None:
    at = place(1)
    client = Client(at.hosts[0], ONE)
    net = Network("lan", namespace=at.switching, pins=folder)
    built(net, at)
    with served(net):
        client.leases()
    net.leave()
    with Network.adopt(folder, namespace=at.switching) as net:
        function = net.instances["dhcp"].function
        assert isinstance(function, Dhcp) and addresses(function) == {"10.0.0.100": "bound"}


def test_they_go_with_their_instance(place: Places, folder: Path, shelf: Shelf) -> None:
    """Removed, or replaced by another of its name: what is kept goes; ended with its network: it stays."""
    at = place(1)
    client = Client(at.hosts[0], ONE)
    net = Network("lan", namespace=at.switching, pins=folder, durable=shelf)
    built(net, at)
    with served(net):
        client.leases()
    net.close()
    assert len(shelf.entries("dhcp:0/clients")) == 1
    with Network("lan", namespace=at.switching, pins=folder, durable=shelf) as net:
        function = dhcp()
        net.add("dhcp", function)
        assert addresses(function) == {"10.0.0.100": "bound"}
        with net.revision() as draft:
            draft.remove("dhcp")
            draft.add("dhcp", fresh := dhcp())
        assert addresses(fresh) == {} and shelf.places().keys() == {"dhcp:1/clients", "dhcp:1/holders"}
        net.remove("dhcp")
        assert shelf.places() == {}
        with pytest.raises(RuntimeError), net.revision() as draft:
            draft.add("dhcp", dhcp())
            raise RuntimeError
        assert shelf.places() == {}


def test_a_size_made_smaller_loses_nothing(place: Places, shelf: Shelf) -> None:
    at = place(1)
    with Network("lan", namespace=at.switching, durable=shelf) as net:
        built(net, at)
        with served(net):
            for number in range(4):
                Client(at.hosts[0], ONE + number).leases()
    with Network("lan", namespace=at.switching, durable=shelf) as net:
        function = dhcp(leases=2)
        net.add("dhcp", function)
        assert len(addresses(function)) == 4 and function.clients.spec.size == 4
