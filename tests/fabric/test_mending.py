"""Devices that disappear under traffic, and come back; and networks whose process is killed with all kinds of edges."""
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Device, EdgeChange, Network, PortRef, Share, Tap, Veth
from iovisor.functions.switch import Switch
from iovisor.kernel import Netlink, NetworkNamespace, filesystem, interfaces
from iovisor.kernel.namespaces import delete
from tests.fabric.flows import Flows
from tests.fabric.functions import Hub
from tests.fabric.hosts import Place
from tests.fabric.test_attachments import devices, pings
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def named() -> Iterator[Callable[[str], str]]:
    """Names of namespaces that are gone afterwards."""
    with ExitStack() as undo:
        def name(what: str) -> str:
            full = f"mend-{os.getpid()}-{what}"
            undo.callback(delete, full)
            return full
        yield name


class Served:
    """A network that is served, and what its edges went through."""

    def __init__(self, net: Network) -> None:
        self.net, self.changes = net, list[EdgeChange]()

    async def listen(self) -> None:
        async for change in self.net.edges_changed():
            self.changes.append(change)

    async def saw(self, *words: str) -> None:
        """Wait for these to have happened, in this order, and forget them."""
        for _ in range(1000):
            if len(self.changes) >= len(words):
                break
            await asyncio.sleep(0.02)
        assert [str(change) for change in self.changes] == list(words)
        self.changes.clear()

    def run(self, act: Callable[[Served], Awaitable[None]]) -> None:
        async def all_of_it() -> None:
            tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.net.serve())]
            await asyncio.sleep(0.05)
            try:
                await act(self)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.run(all_of_it())


def test_all_that_goes_comes_back_while_others_see_nothing(place: Places, named: Callable[[str], str]) -> None:
    at, there, web = place(5), named("there"), "10.0.0.77"
    one, two, device, *_ = at.hosts
    for host in (one, two):
        host.socket.close()
    NetworkNamespace.create(there).close()
    flows = Flows(one, two)
    with Network("mended", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.attach_all({"lan:0": one.edge, "lan:1": two.edge, "lan:2": Veth(there, addresses=[f"{web}/24"]),
                        "lan:3": Device("p2"), "lan:4": Share("p3", macs=["02:00:00:00:01:01"]), "lan:5": Tap("vm"),
                        "lan:6": at.hosts[4].edge})

        def again(name: str, host: int) -> None:
            with Netlink(at.switching) as netlink:
                netlink.submit(interfaces.veth(name, "eth0", index=7000 + host, up=True,
                                               peer_mac=at.hosts[host].mac,
                                               peer_namespace=at.hosts[host].namespace))
            with Netlink(at.hosts[host].namespace) as netlink:
                netlink.submit(interfaces.change("eth0", up=True))
            at.hosts[host].namespace.execute(["ip", "address", "add", f"{at.hosts[host].address}/24", "dev", "eth0"])

        async def act(served: Served) -> None:
            with flows:
                # A namespace goes, with our cable in it; it is there again, and so is the cable.
                assert pings(two.namespace, web)
                delete(there)
                await served.saw(f"lan:2 gone: namespace {there} is gone")
                (absence,) = net.absent.values()
                assert absence.reason.startswith(f"namespace {there} is gone")
                NetworkNamespace.create(there).close()
                await await_back(served, "lan:2")
                assert until(lambda: pings(two.namespace, web))
                # The tenant deletes its own end.
                with NetworkNamespace.open(there) as room:
                    room.execute(["ip", "link", "delete", "eth0"])
                await served.saw("lan:2 gone: the device was deleted", "lan:2 back: the device was deleted")
                assert until(lambda: pings(two.namespace, web))
                # A device of the host is renamed, moved away, deleted, and made anew with another index.
                at.switching.execute(["ip", "link", "set", "p2", "name", "renamed"])
                await served.saw("lan:3 changed: p2 is named renamed now")
                assert until(lambda: pings(two.namespace, device.address))
                at.switching.execute(["ip", "link", "set", "renamed", "name", "p2"])
                await served.saw("lan:3 changed: renamed is named p2 now")
                with Netlink(at.switching) as netlink:
                    netlink.submit(interfaces.change("p2", namespace=device.namespace))
                await served.saw("lan:3 gone: the device was moved to another namespace")
                assert not pings(two.namespace, device.address, 1)
                device.namespace.execute(["ip", "link", "delete", "eth0"])
                again("p2", 2)
                await await_back(served, "lan:3")
                edge = net.joins[PortRef("lan", 3)].edge
                assert edge is not None and edge.index == 7002
                assert until(lambda: pings(two.namespace, device.address))
                # A shared one is deleted; our TAP is.
                at.switching.execute(["ip", "link", "delete", "p3"])
                await served.saw("lan:4 gone: the device was deleted")
                again("p3", 3)
                await await_back(served, "lan:4")
                at.switching.execute(["ip", "link", "delete", "vm"])
                await served.saw("lan:5 gone: the device was deleted", "lan:5 back: the device was deleted")
                # What was attached by index does not come back.
                at.switching.execute(["ip", "link", "delete", "p4"])
                await served.saw("lan:6 gone: the device was deleted")
                assert [str(port) for port in net.absent] == ["lan:6"]
        Served(net).run(act)
        assert (flows.result.lost, flows.result.doubled) == (0, 0)
        assert flows.result.pushed == flows.result.drained > 1 << 20
    assert set(devices(at.switching)) == {"p0", "p1", "p2", "p3"}
    with NetworkNamespace.open(there) as room:
        assert devices(room) == {}


async def await_back(served: Served, port: str) -> None:
    """What could not be mended at once says what was in the way."""
    for _ in range(1000):
        if served.changes:
            break
        await asyncio.sleep(0.02)
    (change,) = served.changes
    assert (str(change.port), change.what) == (port, "back")
    served.changes.clear()


def test_what_wants_out_at_an_absent_port_is_a_named_drop(place: Places) -> None:
    at = place(2)
    with Network("absent", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.attach("lan:0", at.hosts[0].edge)
        net.attach("lan:1", Device("p1"))
        for a, b in ((1, 0), (0, 1)):
            at.hosts[a].send(at.hosts[b])
        assert len(at.hosts[1].captured(1)) == 1
        at.switching.execute(["ip", "link", "delete", "p1"])
        assert [str(change) for change in net.mend()] == ["lan:1 gone: the device was deleted"]
        assert net.mend() == []
        (absence,) = net.absent.values()
        assert absence.reason == "the device was deleted; there is no device p1 in the switching namespace"
        at.hosts[0].send(at.hosts[1], times=3)
        assert until(lambda: net.drops == {"lan": {"UNWIRED": 3}})
        assert until(lambda: net.balance().exact)
        net.detach("lan:1")
        assert net.absent == {}


def test_a_queue_that_is_put_on_a_device_is_not_passed_by(place: Places) -> None:
    at = place(2)
    with Network("queued", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.attach("lan:0", at.hosts[0].edge)
        assert net.attach("lan:1", Device("p1")).peer
        at.switching.execute(["tc", "qdisc", "add", "dev", "p1", "root", "tbf", "rate", "1gbit", "burst", "64k",
                              "latency", "50ms"])
        assert [str(change) for change in net.mend()] == ["lan:1 changed: packets go through its queue"]
        assert pings(at.hosts[0].namespace, at.hosts[1].address)
        shown = at.switching.execute(["tc", "-s", "qdisc", "show", "dev", "p1"], capture_output=True, text=True).stdout
        assert int(shown.partition("Sent ")[2].split()[2]) >= 3


# -- killed -----------------------------------------------------------------------------------------------------------

KEEPER = """
import sys, time
from iovisor.compiler.cache import Cache
from iovisor.fabric import Device, Network, Share, Tap, Veth
from iovisor.kernel import NetworkNamespace
from tests.fabric.functions import Hub
folder, switching, made, there = sys.argv[1:]
net = Network("kept", namespace=NetworkNamespace(int(switching)), cache=Cache(folder + "/images"), pins=folder + "/net")
net.add("lan", Hub())
net.add("other", Hub())
net.attach_all({"lan:0": Device("p0"), "lan:1": Veth(made, create=True, addresses=["10.0.0.61/24"]),
                "lan:2": Veth(there, addresses=["10.0.0.62/24"], mtu=1300), "lan:3": Tap("vm"),
                "other:0": Share("p1", macs=["02:00:00:00:01:01"]), "other:1": Share("p1", vlans=[9])})
print("ready", flush=True)
time.sleep(1000)
"""


def test_edges_of_a_killed_process_stand_and_go_with_the_network(place: Places, named: Callable[[str], str],
                                                                 tmp_path: Path) -> None:
    at, made, there = place(2), named("made"), named("there")
    before = devices(at.switching)
    with NetworkNamespace.create(there) as existing, ExitStack() as undo:
        undo.callback(filesystem.unmount, tmp_path / "net/bpf")
        with subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), str(at.switching.fd), made, there],
                              cwd=ROOT,
                              stdout=subprocess.PIPE, text=True, pass_fds=[at.switching.fd]) as keeper:
            assert keeper.stdout is not None and keeper.stdout.readline() == "ready\n"
            keeper.send_signal(signal.SIGKILL)
        for address in ("10.0.0.61", "10.0.0.62"):
            assert until(lambda address=address: pings(at.hosts[0].namespace, address))  # type: ignore[misc]
        during = devices(at.switching)
        at.switching.execute(["ip", "link", "delete", "vm"])                    # while nobody looks
        with Network.adopt(tmp_path / "net", namespace=at.switching, cache=Cache(tmp_path / "images")) as net:
            assert {str(port): absence.reason for port, absence in net.absent.items()} == {
                "lan:3": "the device was deleted"}
            assert [str(change) for change in net.mend()] == ["lan:3 back: the device was deleted"]
            for address in ("10.0.0.61", "10.0.0.62"):
                assert pings(at.hosts[0].namespace, address)
            frame = bytes.fromhex("020000000101") + at.hosts[1].mac + b"\x88\xb5" + bytes(46)
            at.hosts[1].socket.send(frame)
            assert until(lambda: net.traffic("other:0")[0].packets == 1)
            assert set(during) == set(devices(at.switching))
            with pytest.raises(ValueError, match=r"in VLAN 9 on p1 belong to network kept at other:1"):
                net.attach("other:2", Share("p1", vlans=[9]))
            # Somebody puts a namespace of his own where ours was: it is not ours to remove.
            delete(made)
            NetworkNamespace.create(made).close()
            assert until(lambda: bool(net.mend()) or bool(net.absent))
            assert until(lambda: not net.mend() and not net.absent)
            assert pings(at.hosts[0].namespace, "10.0.0.61")
        assert made in NetworkNamespace.names() and there in NetworkNamespace.names()
        assert devices(existing) == {}
    assert {n: (d.index, d.promiscuous, d.up) for n, d in before.items()} == {
        n: (d.index, d.promiscuous, d.up) for n, d in devices(at.switching).items()}


def test_what_was_made_and_not_written_down_is_swept(place: Places, tmp_path: Path) -> None:
    at = place(1)
    with ExitStack() as undo:
        undo.callback(filesystem.unmount, tmp_path / "net/bpf")
        first = Network("kept", namespace=at.switching, pins=tmp_path / "net")
        first.add("lan", Hub())
        written = (tmp_path / "net/topology.json").read_text()
        first.attach("lan:0", Veth(at.hosts[0].namespace, name="lost"))
        first.leave()
        (tmp_path / "net/topology.json").write_text(written)
        with Network.adopt(tmp_path / "net", namespace=at.switching) as net:
            assert "lost" not in devices(at.hosts[0].namespace)
            net.attach("lan:0", Veth(at.hosts[0].namespace, name="lost"))
    assert set(devices(at.switching)) == {"p0"}
