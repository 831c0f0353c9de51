"""What is met at XDP goes through the same lives as all else: revisions, upgrades, deaths, and nothing is lost or left.

Frames are numbered and two functions in a row mark them, as in test_revision.py; the first of them is at XDP.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.compiler.errors import CompileError
from iovisor.fabric import Device, Edge, Network, Veth
from iovisor.fabric import beside as fabric_beside
from iovisor.fabric import early as fabric_early
from iovisor.fabric import revision as fabric_revision
from iovisor.fabric import wiring as fabric_wiring
from iovisor.fabric.hooks import Hook
from iovisor.functions.ddos import Ddos
from iovisor.kernel import KernelError, Link, Netlink, NetworkNamespace, Program, filesystem, interfaces
from iovisor.kernel.namespaces import delete
from iovisor.language import Function, Packet, Verdict, forward
from iovisor.wire import Ethernet, IPv4, Udp
from tests.fabric.flows import Flows
from tests.fabric.functions import Gate, Hub, Through, ThroughAgain
from tests.fabric.hosts import Host, Place
from tests.fabric.marking import First, FirstAgain, Second
from tests.fabric.test_adoption import keeper
from tests.fabric.test_dying import dies
from tests.fabric.test_revision import Numbered
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
HOOKS = pytest.mark.parametrize("hook", ["xdp-native", "xdp-generic"])
ROOM = f"early-{os.getpid()}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory whose pins go, whatever happens."""
    yield tmp_path / "net"
    filesystem.unmount(tmp_path / "net/bpf")
    with suppress(KernelError):
        delete(ROOM)


def at_xdp(at: Place) -> list[str]:
    """The devices that have an XDP program."""
    with Netlink(at.switching) as netlink:
        return sorted(there.name for there in interfaces.listing(netlink) if there.xdp_program)


def marked(net: Network, at: Place, hook: str) -> None:
    net.add("first", First())
    net.add("second", Second())
    net.link("first:outside", "second:inside")
    net.attach("first:inside", Edge(at.hosts[0].device, hook=hook))
    net.attach("second:outside", at.hosts[1].edge)


def whole(flow: Numbered) -> set[tuple[int, int]]:
    """Every frame came once; the pairs of marks that were seen."""
    seen = flow.seen[0]
    assert {number for number, _, _ in seen} == set(range(flow.sent)), "one is missing"
    assert set(seen.values()) == {1}, "one came twice"
    return {(first, second) for _, first, second in seen}


@HOOKS
def test_revisions_are_met_whole(place: Places, hook: str) -> None:
    """Marks of one revision only, though the first is written at XDP and the second at TC."""
    at = place(2)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, hook)
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            for mark in range(2, 22):
                with net.revision() as draft:
                    draft.reconfigure("first", mark=mark)
                    draft.reconfigure("second", mark=mark)
        assert whole(flow) >= {(1, 1), (21, 21)} and all(first == second for first, second in whole(flow))
        assert net.drops == {} and net.balance().exact
        assert at_xdp(at) == ["p0"] and net.joins[net._ref("first:inside")].edge == Edge(5000, True, 1500, hook)


def test_hooks_change_under_traffic(place: Places) -> None:
    at = place(2)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, "tc")
        hooks = ["xdp-generic", "tc", "xdp", "xdp-generic", "tc"] * 3
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            for mark, hook in enumerate(hooks, 2):
                with net.revision() as draft:
                    draft.detach("first:inside")
                    draft.attach("first:inside", Edge(at.hosts[0].device, hook=hook))
                    draft.reconfigure("first", mark=mark)
                    draft.reconfigure("second", mark=mark)
                assert at_xdp(at) == (["p0"] if hook != "tc" else [])
                assert (net.instances["first"].early is not None) == (hook != "tc")
        assert all(first == second for first, second in whole(flow))
        assert net.drops == {} and net.balance().exact


def test_hooks_of_a_driver_change(place: Places) -> None:
    """A cable drops what is on its way when its driver takes, or gives back, an XDP program; not what comes later."""
    at = place(2)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, "xdp-generic")
        for hook in ("xdp-native", "tc", "xdp-native", "xdp-generic", "xdp-native"):
            with net.revision() as draft:
                draft.detach("first:inside")
                draft.attach("first:inside", Edge(at.hosts[0].device, hook=hook))
            with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
                assert until(lambda: flow.sent > 100)
            assert whole(flow) == {(1, 1)}
            assert at_xdp(at) == (["p0"] if hook != "tc" else [])


def test_a_device_moves_to_another_function(place: Places) -> None:
    at = place(2)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, "xdp-generic")
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            for mark in range(2, 12):
                name, former = (f"first{mark}", f"first{mark - 1}" if mark > 2 else "first")
                with net.revision() as draft:
                    draft.detach(f"{former}:inside")
                    draft.unlink("second:inside")
                    draft.remove(former)
                    draft.add(name, First(mark=mark))
                    draft.link(f"{name}:outside", "second:inside")
                    draft.attach(f"{name}:inside", Edge(at.hosts[0].device, hook="xdp-generic"))
                    draft.reconfigure("second", mark=mark)
        assert all(first == second for first, second in whole(flow))
        assert net.drops == {} and net.balance().exact, net.balance()


@HOOKS
def test_upgrades_and_reconfigurations(place: Places, hook: str) -> None:
    at = place(2)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, hook)
        net.add("through", Through())
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            for mark in range(2, 12):
                net.upgrade("first", (FirstAgain, First)[mark % 2])
                net.reconfigure("first", mark=mark)
        assert whole(flow) <= {(mark, 1) for mark in range(1, 12)} and net.drops == {}
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            assert until(lambda: flow.sent > 100)
        assert whole(flow) == {(11, 1)}
        net.unlink("second:inside")
        at.hosts[0].send(at.hosts[1], b"nowhere", times=3)
        assert until(lambda: net.drops == {"first": {"UNWIRED": 3}}) and net.balance().exact


class Queueing(Through):
    """It does what XDP has not."""

    def ingress(self, pkt: Packet) -> Verdict:
        pkt.queue(1)
        return forward(self.outside if pkt.port == self.inside else self.inside)


class Mending(Through):
    """It adjusts what it cannot see on a cable."""

    def ingress(self, pkt: Packet) -> Verdict:
        _, ip, udp = pkt.parse(Ethernet, IPv4, Udp)
        pkt.rewrite(ip, udp, dst=1)
        return forward(self.outside)


@pytest.mark.parametrize("kind, what", [(Queueing, "`queue` is not available"), (Mending, "it adjusts checksums")])
def test_upgrades_to_what_cannot_be_met(place: Places, kind: type[Function], what: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("changing", namespace=at.switching) as net:
        net.add("through", Through())
        net.attach("through:inside", Edge(h0.device, hook="xdp-generic"))
        net.attach("through:outside", h1.edge)
        for _ in range(2):
            with pytest.raises((CompileError, ValueError), match=what):
                net.upgrade("through", kind)
            with pytest.raises((CompileError, ValueError), match=what), net.revision() as draft:
                draft.upgrade("through", kind)
            assert h0.ping(h1, 1) and net.trace(h0.frame(h1), "through:inside").disagreements == []
        with net.revision() as draft:
            draft.detach("through:inside")
            draft.attach("through:inside", h0.edge)
            draft.upgrade("through", kind)
        assert at_xdp(at) == [] and net.balance().exact


@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_a_revision_that_fails_changes_nothing(place: Places, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """The driver refuses, when tcx is turned already and what stood at XDP is gone."""
    at, attach = place(2), fabric_early.attach

    def refuse(program: Program, index: int, wanted: Hook, namespace: NetworkNamespace | None) -> tuple[Link, Hook]:
        if wanted == Hook.NATIVE:
            raise ValueError("the driver refuses")
        return attach(program, index, wanted, namespace)
    with Network("changing", namespace=at.switching) as net:
        marked(net, at, hook)
        monkeypatch.setattr(fabric_early, "attach", refuse)
        with pytest.raises(ValueError, match="the driver refuses"), net.revision() as draft:
            draft.detach("first:inside")
            draft.attach("first:inside", Edge(at.hosts[0].device, hook="xdp-native"))
            draft.reconfigure("first", mark=9)
        assert at_xdp(at) == (["p0"] if hook != "tc" else [])
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            assert until(lambda: flow.sent > 100)
        assert whole(flow) == {(1, 1)} and net.drops == {} and net.balance().exact
        monkeypatch.undo()
        with net.revision() as draft:
            draft.detach("first:inside")
            draft.attach("first:inside", Edge(at.hosts[0].device, hook="xdp-native"))
        with Numbered(at.hosts[0], [at.hosts[1]]) as flow:
            assert until(lambda: flow.sent > 100)
        assert whole(flow) == {(1, 1)} and at_xdp(at) == ["p0"]


# -- lives and deaths -------------------------------------------------------------------------------------------------


def kept(at: Place, folder: Path, hook: str) -> Network:
    net = Network("kept", namespace=at.switching, pins=folder)
    net.add("gate", Gate())
    net.add("through", Through())
    net.link("gate:outside", "through:inside")
    net.attach("gate:inside", Edge(at.hosts[0].device, hook=hook))
    net.attach("through:outside", at.hosts[1].edge)
    return net


@HOOKS
def test_adopted_under_traffic(place: Places, folder: Path, hook: str) -> None:
    at = place(2)
    kept(at, folder, hook).leave()
    assert at.hosts[0].ping(at.hosts[1], 1)
    for host in at.hosts:
        host.socket.close()
    flows = Flows(at.hosts[0], at.hosts[1], bulk=False)
    with flows:
        for _ in range(10):
            Network.adopt(folder, namespace=at.switching).leave()
    assert (flows.result.lost, flows.result.doubled) == (0, 0)
    assert at_xdp(at) == ["p0"]
    net = Network.adopt(folder, namespace=at.switching)
    assert net.drops == {} and net.balance().exact, net.balance()
    net.reconfigure("gate", open=0)
    assert not at.hosts[0].ping(at.hosts[1], 1)
    net.close()
    assert at_xdp(at) == [] and os.listdir(folder) == []


def test_killed_and_adopted_under_traffic(place: Places, tmp_path: Path) -> None:
    """Switches at both ends meet their packets at XDP, and flood, while one keeper after the other is killed."""
    at = place(2)
    try:
        with keeper("early", at, tmp_path):
            assert at.hosts[0].ping(at.hosts[1], 1)
        for host in at.hosts:
            host.socket.close()
        flows = Flows(at.hosts[0], at.hosts[1])
        with flows:
            for _ in range(8):
                with keeper("adopt", at, tmp_path):
                    pass
        assert (flows.result.lost, flows.result.doubled) == (0, 0), flows.result
        assert flows.result.pushed == flows.result.drained > 1 << 20 and at_xdp(at) == ["p0", "p1"]
        with Network.adopt(tmp_path / "net", namespace=at.switching, cache=Cache(tmp_path / "images")) as net:
            assert net.drops == {} and net.balance().exact
        assert at_xdp(at) == [] and os.listdir(tmp_path / "net") == []
    finally:
        filesystem.unmount(tmp_path / "net/bpf")


def raised(net: Network) -> None:
    with net.revision() as draft:
        draft.detach("through:outside")
        draft.attach("through:outside", Edge(5001, hook="xdp-generic"))
        draft.reconfigure("gate", padding=7)


def sunk(net: Network) -> None:
    with net.revision() as draft:
        draft.detach("gate:inside")
        draft.attach("gate:inside", Edge(5000))


def joined(net: Network) -> None:
    net.attach("hub:0", Device("p2", hook="xdp"))


def cabled(net: Network) -> None:
    net.attach("hub:0", Veth(ROOM, create=True, hook="xdp"))


@pytest.mark.parametrize("where, name, change", [
    (fabric_early, "attach", raised), (fabric_beside.Beside, "turn", raised), (fabric_revision, "_become", raised),
    (fabric_revision, "_take_down", raised), (fabric_revision, "_become", sunk), (fabric_revision, "_take_down", sunk),
    (fabric_early, "attach", joined), (Network, "_keep", joined), (fabric_early, "attach", cabled),
    (fabric_wiring.Wiring, "_meet", cabled)], ids=lambda what: getattr(what, "__name__", str(what)))
def test_deaths_leave_nothing(place: Places, folder: Path, where: object, name: str,
                              change: Callable[[Network], object]) -> None:
    at = place(3)
    h0, h1, _ = at.hosts
    net = kept(at, folder, "xdp-native")
    net.add("hub", Hub())
    net.leave()
    dies(at, folder, where, name, change)
    assert h0.ping(h1, 1), "it runs on, whoever died"
    with Network.adopt(folder, namespace=at.switching) as net:
        assert h0.ping(h1, 2) and h1.ping(h0, 2)
        done = where is fabric_revision and name == "_take_down"
        assert at_xdp(at) == (["p0", "p1"] if change is raised else []) if done else ["p0"]
        assert not Path("/run/netns", ROOM).exists()
        if not done:
            change(net)
        assert h0.ping(h1, 1) and net.balance().exact
        net.reconfigure("gate", open=0)
        assert not h0.ping(h1, 1)
    assert at_xdp(at) == [] and os.listdir(folder) == []


def test_a_device_that_goes_and_comes_back(place: Places) -> None:
    at = place(2)
    h0, h1 = at.hosts

    def plug(host: Host) -> None:
        host.socket.close()
        with Netlink(at.switching) as netlink:
            netlink.submit(interfaces.delete(host.device))
        assert [change.what for change in net.mend()] == ["gone"]
        host.plug(at.switching)
        assert [change.what for change in net.mend()] == ["back"]
    with Network("changing", namespace=at.switching) as net:
        net.add("through", Through())
        net.attach("through:inside", Device("p0", hook="xdp-native"))
        net.attach("through:outside", h1.edge)
        assert h0.ping(h1, 1)
        plug(h0)
        assert at_xdp(at) == ["p0"] and h0.ping(h1, 1)
        net.upgrade("through", ThroughAgain)
        assert h0.ping(h1, 1)


def test_many_tables_are_shared(place: Places) -> None:
    """A proof that is taken at XDP is worth something at TC, and the other way round."""
    at = place(2)
    h0, h1 = at.hosts
    with Network("changing", namespace=at.switching) as net:
        door = Ddos(rate=1, burst=3, challenge="never")
        net.add("scrub", door)
        net.attach("scrub:outside", Edge(h0.device, hook="xdp-generic"))
        net.attach("scrub:inside", h1.edge)
        assert h0.ping(h1, 1)
        assert len(door.meters) == 1
        with net.revision() as draft:
            draft.detach("scrub:outside")
            draft.attach("scrub:outside", h0.edge)
        assert len(door.meters) == 1
        assert not h0.ping(h1, 8)
        assert net.drops["scrub"]["RATE"] > 0
