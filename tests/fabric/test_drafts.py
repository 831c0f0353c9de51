"""What a draft may do with devices and names: a function of another kind under the same name, a device at another port
or under another function, cables made and removed, all of it one change that no packet sees half of."""
from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Device, Edge, Network, Share, Tap, Veth
from iovisor.fabric.revision import Draft
from iovisor.functions.switch import Switch
from iovisor.kernel import (
    Direction,
    KernelError,
    Link,
    Netlink,
    NetworkNamespace,
    addresses,
    attached,
    filesystem,
    interfaces,
    routes,
)
from iovisor.kernel.namespaces import delete
from iovisor.language import Function
from tests.fabric.functions import Through
from tests.fabric.hosts import Host, Place
from tests.fabric.marking import Bare, First, Second, Spread, Stamp
from tests.fabric.test_network import exchange
from tests.fabric.test_revision import Numbered
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


def put(draft: Draft, name: str, function: Function, *devices: Edge) -> None:
    """A function of another kind under a name, with the same devices, one a port."""
    for port in range(len(devices)):
        draft.detach(f"{name}:{port}")
    draft.remove(name)
    draft.add(name, function)
    for port, device in enumerate(devices):
        draft.attach(f"{name}:{port}", device)


def test_another_kind_under_the_same_name(place: Places) -> None:
    """x - middle - y, between two functions of other kinds with other tables, one with an egress."""
    at = place(3)
    devices = [host.edge for host in at.hosts]
    with Network("renamed", namespace=at.switching) as net:
        net.add("middle", Stamp(mark=1))
        for port, device in enumerate(devices):
            net.attach(f"middle:{port}", device)
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for number in range(2, 60):
                with net.revision() as draft:
                    put(draft, "middle", (Stamp, Bare)[number % 2](mark=number), *devices)
        traffic.check({(number, number) for number in range(1, 60)})
        assert len({key[1] for key in traffic.seen[0]}) > 30
        assert net.drops == {} and type(net.instances["middle"].function) is Bare


def test_a_device_moves(place: Places) -> None:
    """x - left - right - y: y goes from one function to the other and back, and to other ports, while it is sent to."""
    at, chance = place(2), random.Random(3)
    with Network("moved", namespace=at.switching) as net:
        for name in ("left", "right"):
            net.add(name, Spread())
        net.link("left:0", "right:0")
        net.attach("left:1", at.hosts[0].edge)
        net.attach("right:1", at.hosts[1].edge)
        places, there = ["left:2", "left:3", "right:1", "right:2", "right:3"], "right:1"
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for _ in range(60):
                with net.revision() as draft:
                    draft.detach(there)
                    there = chance.choice(places)
                    draft.attach(there, at.hosts[1].edge)
        traffic.check({(0, 0)})
        assert net.drops == {} and net.traffic(there)[0].packets == 0


@pytest.mark.parametrize("peer", [True, False])
def test_at_each_step_every_packet_meets_one_revision(place: Places, monkeypatch: pytest.MonkeyPatch,
                                                      peer: bool) -> None:
    """After each of the updates a revision is made of, a frame goes each way: flooded and forwarded copies meet the
    egress of the function they have been through, whatever the hook of the device knows by then."""
    at = place(4)
    edges = [Edge(host.device, peer) for host in at.hosts]
    update, steps, kinds = Link.update, [0], set[tuple[int, int]]()

    def probe() -> None:
        steps[0] += 1
        for sender, receivers, to in ((0, (1, 2, 3), None), (3, (0, 1, 2), None), (0, (1,), 1), (1, (0,), 0)):
            at.hosts[sender].send(None if to is None else at.hosts[to], b"\0\0probe")
            for receiver in receivers:
                (frame,) = at.hosts[receiver].captured(1)
                assert frame[14] == frame[15] != 0, f"step {steps[0]}: {frame[14]} met {frame[15]}"
                kinds.add((frame[14], frame[15]))

    def updated(link: Link, *arguments: Any) -> None:
        update(link, *arguments)
        probe()
    with Network("stepwise", namespace=at.switching) as net:
        net.add("hub", Stamp(mark=1))
        for port, edge in enumerate(edges):
            net.attach(f"hub:{port}", edge)
        monkeypatch.setattr(Link, "update", updated)
        for mark, function in enumerate((None, Bare(mark=3), Bare(mark=4), Stamp(mark=5)), 2):
            before = steps[0]
            with net.revision() as draft:
                if function is None:
                    draft.reconfigure("hub", mark=mark)
                else:
                    put(draft, "hub", function, *edges)
            assert steps[0] >= before + 4 and net.drops == {}
        monkeypatch.setattr(Link, "update", update)
        assert {mark for mark, _ in kinds} == {1, 2, 3, 4, 5}
        probe()
        assert [len(attached(edge.index, Direction.EGRESS, at.switching).program_ids) for edge in edges] == [1] * 4


def test_devices_swap_and_links_become_devices(place: Places) -> None:
    """What a port counted for a device, it does not count for what comes there next."""
    at = place(3)
    with Network("swapped", namespace=at.switching) as net:
        for name in ("left", "right"):
            net.add(name, Spread())
        net.link("left:0", "right:0")
        net.attach("left:1", at.hosts[0].edge)
        net.attach("right:1", at.hosts[1].edge)
        net.attach("right:2", at.hosts[2].edge)
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for _ in range(20):
                with net.revision() as draft:               # left:0 and right:1 were a link and a device
                    draft.unlink("left:0")
                    draft.detach("right:1")
                    draft.attach("left:0", at.hosts[1].edge)
                    draft.link("left:2", "right:1")
                with net.revision() as draft:
                    draft.detach("left:0")
                    draft.unlink("left:2")
                    draft.link("left:0", "right:0")
                    draft.attach("right:1", at.hosts[1].edge)
        traffic.check({(0, 0)})
        balance = net.balance()
        assert (balance.received, balance.sent) == (traffic.sent, 2 * traffic.sent) and balance.exact


@contextmanager
def room(name: str) -> Iterator[NetworkNamespace]:
    made = NetworkNamespace.create(name)
    try:
        yield made
    finally:
        made.close()
        delete(name)


def pings(room: NetworkNamespace, address: str) -> bool:
    done = room.execute(["ping", "-c", "2", "-i", "0.02", "-W", "2", address], capture_output=True, check=False)
    return done.returncode == 0


def test_cables_come_and_go_in_one_draft(place: Places, tmp_path: Path) -> None:
    at, names = place(0), [f"drafts-{os.getpid()}-{number}" for number in range(4)]
    with ExitStack() as undo:
        rooms = [undo.enter_context(room(name)) for name in names[:3]]
        undo.callback(filesystem.unmount, tmp_path / "net/bpf")
        net = undo.enter_context(Network("cabled", namespace=at.switching, pins=tmp_path / "net"))
        net.add("lan", Switch())
        cables = [Veth(name, addresses=[f"10.0.0.{number + 1}/24"]) for number, name in enumerate(names)]
        net.attach_all({"lan:0": cables[0], "lan:1": cables[1]})
        assert pings(rooms[0], "10.0.0.2")

        def state() -> list[Any]:
            with Netlink(at.switching) as netlink:
                there = {found.index for found in interfaces.listing(netlink)}
            return [(tmp_path / "net/topology.json").read_text(), there, dict(net.joins),
                    sorted(str(path) for path in (tmp_path / "net/bpf").rglob("*"))]
        before = state()
        for wrong, kind, message in ((cables[3], KernelError, names[3]), (Veth(names[0]), ValueError, "eth0 already")):
            with pytest.raises(kind, match=message), net.revision() as draft:
                draft.detach("lan:1")
                draft.add("far", Switch())
                draft.link("lan:1", "far:0")
                draft.attach("far:1", cables[1])
                draft.attach("far:2", cables[2])
                draft.attach("far:3", wrong)
            assert state() == before
            assert pings(rooms[0], "10.0.0.2")
        with net.revision() as draft:                       # one moves, one comes, one is made by name, one goes
            draft.detach("lan:1")
            draft.detach("lan:0")
            draft.add("far", Switch())
            draft.link("lan:1", "far:0")
            draft.attach("far:1", cables[1])
            draft.attach("far:2", cables[2])
            draft.attach("lan:3", Veth(names[3], addresses=["10.0.0.4/24"], create=True))
        assert pings(rooms[2], "10.0.0.2") and not pings(rooms[0], "10.0.0.2")
        made = undo.enter_context(NetworkNamespace.open(names[3]))
        assert pings(made, "10.0.0.3")
        with Netlink(at.switching) as netlink:
            cabled = [found for found in interfaces.listing(netlink) if found.alias]
        assert {found.alias for found in cabled} == {
            "iovisor cabled far:1", "iovisor cabled far:2", "iovisor cabled lan:3"}
        net.leave()
        net = undo.enter_context(Network.adopt(tmp_path / "net", namespace=at.switching))
        assert pings(made, "10.0.0.2")
        with net.revision() as draft:
            draft.detach("lan:3")
            draft.reconfigure("lan", ageing=60)
        assert not Path("/run/netns", names[3]).exists()
        assert pings(rooms[2], "10.0.0.2") and net.drops.keys() <= {"lan", "far"}


def test_a_cable_is_furnished_otherwise(place: Places) -> None:
    """Another address, gateway and MTU: the device stays, and what its host holds open with it."""
    at, name = place(0), f"drafts-{os.getpid()}"
    with ExitStack() as undo:
        rooms = [undo.enter_context(room(f"{name}-{number}")) for number in range(2)]
        net = undo.enter_context(Network("furnished", namespace=at.switching))
        net.add("lan", Switch())
        net.add("aside", Through())
        first = Veth(f"{name}-0", addresses=["10.0.0.1/24", "fd00::1/64"], gateway="10.0.0.9",
                     routes={"10.9.0.0/16": ""})
        net.attach_all({"lan:0": first, "lan:1": Veth(f"{name}-1", addresses=["10.0.0.2/24", "fd00::2/64"])})
        index = net.joins[next(iter(net.joins))].edge.index             # type: ignore[union-attr]

        def inside() -> tuple[set[str], dict[str, str], int]:
            with Netlink(rooms[0]) as netlink:
                found = interfaces.find(netlink, index + 1)
                assert found is not None
                given = {str(one.address) for one in addresses.listing(netlink, index + 1)
                         if not one.address.is_link_local}
                ways = {str(one.destination): str(one.gateway or "") for one in routes.listing(netlink)
                        if one.protocol in (3, 4)}
            return given, ways, found.mtu
        before = inside()
        assert before == ({"10.0.0.1/24", "fd00::1/64"}, {"0.0.0.0/0": "10.0.0.9", "10.9.0.0/16": ""}, 1500)
        with net.revision() as draft:
            draft.detach("lan:0")
            draft.attach("lan:5", Veth(f"{name}-0", addresses=["10.0.0.7/24", "fd00::1/64"], gateway="10.0.0.8",
                                       mtu=1400))
        assert inside() == ({"10.0.0.7/24", "fd00::1/64"}, {"0.0.0.0/0": "10.0.0.8"}, 1400)
        assert pings(rooms[1], "10.0.0.7") and pings(rooms[1], "fd00::1") and not pings(rooms[1], "10.0.0.1")
        with pytest.raises(KernelError), net.revision() as draft:       # nobody is at this gateway, on no network
            draft.detach("lan:5")
            draft.attach("lan:0", Veth(f"{name}-0", addresses=["10.0.0.1/24"], gateway="10.77.0.1", mtu=1300))
        assert inside() == ({"10.0.0.7/24", "fd00::1/64"}, {"0.0.0.0/0": "10.0.0.8"}, 1400)
        assert pings(rooms[1], "10.0.0.7")
        with net.revision() as draft:
            draft.detach("lan:5")
            draft.attach("lan:0", first)
        assert inside() == before and until(lambda: pings(rooms[1], "10.0.0.1"))     # it may be believed unreachable


def frames(host: Host, receivers: list[Host], tagged: dict[int, Host]) -> None:
    """A frame in each VLAN comes to its host, without the tag, and to nobody else."""
    for vlan, receiver in tagged.items():
        payload = vlan.to_bytes(2, "big")
        host.socket.send(b"\xff" * 6 + host.mac + b"\x81\0" + payload + b"\x88\xb5" + b"share".ljust(60, b"\0"))
        assert len(receiver.captured(1)) == 1
        assert not [frame for other in receivers if other is not receiver for frame in other.captured(wait=0.02)]


def test_shares_of_one_device_in_one_network(place: Places) -> None:
    """Two shares of a device move, swap, come and go; the device is given back as it was."""
    at = place(3)
    uplink, one, two = at.hosts
    with Netlink(at.switching) as netlink:
        before = interfaces.find(netlink, uplink.device)
    with Network("shared", namespace=at.switching) as net:
        for name, host in (("left", one), ("right", two)):
            net.add(name, Spread())
            net.attach(f"{name}:0", host.edge)
        fives, sixes = (Share("p0", vlans=[vlan], access=True) for vlan in (5, 6))
        net.attach("left:1", fives)
        net.attach("right:1", sixes)
        frames(uplink, [one, two], {5: one, 6: two})
        with net.revision() as draft:                       # they swap
            draft.detach("left:1")
            draft.detach("right:1")
            draft.attach("left:1", sixes)
            draft.attach("right:1", fives)
        frames(uplink, [one, two], {6: one, 5: two})
        with net.revision() as draft:                       # one goes to another port, one becomes another
            draft.detach("left:1")
            draft.detach("right:1")
            draft.attach("left:2", Share("p0", vlans=[7], access=True))
            draft.attach("right:3", fives)
        frames(uplink, [one, two], {7: one, 5: two})
        with pytest.raises(ValueError, match="all frames in VLAN 5 on p0 belong to"), net.revision() as draft:
            draft.attach("left:3", fives)
        with pytest.raises(ValueError, match="has a share of device 5000"), net.revision() as draft:
            draft.detach("left:2")
            draft.attach("left:2", Device("p0"))
        frames(uplink, [one, two], {7: one, 5: two})
        with net.revision() as draft:                       # the whole device for what were two shares
            draft.detach("left:2")
            draft.detach("right:3")
            draft.attach("left:2", Device("p0"))
        uplink.send(None, b"whole")
        assert len(one.captured(1)) == 1 and two.captured(wait=0.02) == []
        with net.revision() as draft:
            draft.detach("left:2")
            draft.attach("left:2", fives)
            draft.attach("right:3", sixes)
        frames(uplink, [one, two], {5: one, 6: two})
        with net.revision() as draft:
            draft.detach("left:2")
        frames(uplink, [one, two], {6: two})
    with Netlink(at.switching) as netlink:
        after = interfaces.find(netlink, uplink.device)
    assert before and after and replace(before, statistics=None) == replace(after, statistics=None)
    assert attached(uplink.device, Direction.INGRESS, at.switching).program_ids == ()


def test_a_tap_moves_with_its_descriptor(place: Places) -> None:
    at = place(1)
    with Network("tapped", namespace=at.switching) as net:
        net.add("lan", Spread())
        net.attach("lan:0", at.hosts[0].edge)
        net.attach("lan:1", Tap("vm0", persistent=False))
        tap = net.tap("lan:1")
        with net.revision() as draft:
            draft.detach("lan:1")
            draft.attach("lan:2", Tap("vm0", persistent=False, mtu=1400))
            draft.attach("lan:1", Tap("vm1", persistent=False))
        assert net.tap("lan:2") is tap and net.tap("lan:1") is not tap
        tap.write(bytes(10) + at.hosts[0].frame(None)[:6] + b"\2\0\0\0\0\x99" + b"\x88\xb5" + bytes(46))
        assert len(at.hosts[0].captured(1)) == 1
        with Netlink(at.switching) as netlink:
            found = interfaces.find(netlink, "vm0")
        assert found is not None and found.mtu == 1400
        with net.revision() as draft:
            draft.detach("lan:2")
        with Netlink(at.switching) as netlink:
            assert interfaces.find(netlink, "vm0") is None and interfaces.find(netlink, "vm1") is not None


def test_a_device_that_is_gone_meanwhile_moves_too(place: Places) -> None:
    """Nobody has looked yet; it is absent where it is then, and comes back there."""
    at, name = place(1), f"drafts-{os.getpid()}"
    with room(name), Network("gone", namespace=at.switching) as net:
        net.add("lan", Spread())
        net.attach("lan:0", at.hosts[0].edge)
        edge = net.attach("lan:1", Veth(name))
        with Netlink(at.switching) as netlink:
            netlink.submit(interfaces.delete(edge.index))
        with net.revision() as draft:
            draft.detach("lan:1")
            draft.attach("lan:2", Veth(name))
        assert [str(at) for at in net.absent] == ["lan:2"]
        assert [str(change) .partition(":")[0] for change in net.mend()] == ["lan", "lan"]
        assert not net.absent
        assert until(lambda: bool(at.hosts[0].send(None)) and net.traffic("lan:2")[1].packets > 0)  # once it is up


def test_adopted_as_it_was_to_be(place: Places, tmp_path: Path) -> None:
    """A function of another kind under the same name has pins of its own, and the former's are gone."""
    at = place(2)
    devices = [host.edge for host in at.hosts]
    with ExitStack() as undo:
        undo.callback(filesystem.unmount, tmp_path / "net/bpf")
        net = Network("renamed", namespace=at.switching, pins=tmp_path / "net")
        net.add("middle", Through())
        for port, device in enumerate(devices):
            net.attach(f"middle:{port}", device)
        exchange(*at.hosts)
        with net.revision() as draft:
            put(draft, "middle", First(mark=7), *devices)
        net.leave()
        exchange_marked(at.hosts[0], at.hosts[1], 7)
        net = undo.enter_context(Network.adopt(tmp_path / "net", namespace=at.switching))
        exchange_marked(at.hosts[0], at.hosts[1], 7)
        document = json.loads((tmp_path / "net/topology.json").read_text())
        assert document["instances"]["middle"]["born"] == 1
        folders = [path.name for path in (tmp_path / "net/bpf").iterdir() if path.is_dir()]
        assert folders == ["at-middle%3A1"]
        with net.revision() as draft:
            put(draft, "middle", Second(mark=8), *devices)
        assert [path.name for path in (tmp_path / "net/bpf").iterdir() if path.is_dir()] == ["at-middle%3A2"]
        net.add("other", Through())


def exchange_marked(sender: Host, receiver: Host, mark: int) -> None:
    sender.send(receiver, b"\0\0marked")
    (frame,) = receiver.captured(1)
    assert frame[14] == mark
