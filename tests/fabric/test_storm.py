"""Loops: what they cost ends in counted drops, and their neighbours do not notice; honest floods are left alone."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from iovisor.fabric import Edge, Network, Storm
from iovisor.functions.switch import Switch
from iovisor.kernel import Netlink, interfaces
from iovisor.language import FLOOD, Function, Packet, Ports, Verdict, ports
from tests.fabric.flows import Flows
from tests.fabric.hosts import Host, Place
from tests.fabric.test_network import line

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


class Hub(Function):
    ports: Ports = ports(64)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


def mesh(net: Network, hubs: int) -> None:
    """Each hub with each: port n of a hub leads to hub n, and its own number is free for a host."""
    for i in range(hubs):
        net.add(f"h{i}", Hub())
    for i in range(hubs):
        for j in range(i + 1, hubs):
            net.link(f"h{i}:{j}", f"h{j}:{i}")


@contextmanager
def beside(place: Places) -> Iterator[None]:
    """A network beside: 1,000 datagrams a second each way, which come to no harm."""
    at = place(2)
    with Network("beside", namespace=at.switching) as net:
        line(net, 2)
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s1:0", at.hosts[1].edge)
        assert at.hosts[0].ping(at.hosts[1], 1)
        for host in at.hosts:
            host.socket.close()
        flows = Flows(at.hosts[0], at.hosts[1], 1000, bulk=False)
        with flows:
            yield
        print(flows.result)
        assert flows.result.sent > 100 and flows.result.unharmed
        assert net.drops == {}


def broadcast(host: Host, rate: int, seconds: float) -> int:
    """Frames to all, so many a second; how many."""
    frame, begun, sent = host.frame(None), time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        while sent < (time.monotonic() - begun) * rate:
            with contextlib.suppress(OSError):                      # the CPU's queue is full
                host.socket.send(frame)
            sent += 1
        time.sleep(0.001)
    return sent


def settled(net: Network) -> dict[str, dict[str, int]]:
    """The drops once they stay as they are."""
    deadline, drops = time.monotonic() + 20, net.drops
    while time.monotonic() < deadline:
        time.sleep(0.2)
        drops, before = net.drops, drops
        if drops == before:
            return drops
    raise AssertionError(f"the storm does not end: {drops}")


def test_a_full_mesh_ends_in_counted_drops(place: Places) -> None:
    at = place(8)
    with beside(place), Network("mesh", namespace=at.switching) as net:
        mesh(net, 8)
        for i, host in enumerate(at.hosts):
            net.attach(f"h{i}:{i}", host.edge)
        at.hosts[0].send(None)
        once = settled(net)
        assert list(once) == ["fabric"] and once["fabric"]["STORM"] > 100
        assert broadcast(at.hosts[0], 500, 1) > 100
        assert settled(net)["fabric"]["STORM"] > 10 * once["fabric"]["STORM"]
        for host in at.hosts[1:]:
            assert len(host.captured()) > 1


def test_a_ring_in_which_a_storm_goes_round(place: Places) -> None:
    at = place(4)
    with beside(place), Network("ring", namespace=at.switching) as net:
        line(net, 4)
        for i, host in enumerate(at.hosts):
            net.attach(f"s{i}:0", host.edge)
        net.link("s3:1", "s0:2")
        broadcast(at.hosts[0], 20_000, 1)
        drops = settled(net)["fabric"]
        assert drops["HOPS"] + drops.get("STORM", 0) > 100
        net.unlink("s0:2")
        for instance in net.instances.values():
            getattr(instance.function, "flush")()                   # noqa: B009  an action
        for host in at.hosts:
            host.captured()
        assert at.hosts[0].ping(at.hosts[3]) and at.hosts[2].ping(at.hosts[1])
        assert settled(net)["fabric"] == drops


def test_every_copy_is_delivered_or_counted(place: Places) -> None:
    """With almost no budget the second copy for a function is refused."""
    at = place(4)
    with Network("poor", namespace=at.switching) as net:
        for i in range(4):
            net.add(f"s{i}", Switch())
            net.attach(f"s{i}:0", at.hosts[i].edge)
        for i in range(3):
            net.link(f"s{i}:1", f"s{i + 1}:2")
        assert net.storm == Storm()
        net.limit_flooding(Storm(rate=1, burst=1))
        assert net.storm == Storm(1, 1)
        sent = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [sent]
        drops = settled(net)
        assert drops == {"fabric": {"STORM": 1}} and at.hosts[3].captured() == []
        at.hosts[2].captured()                                      # a CPU that was held up may have come so far
        net.limit_flooding(Storm(rate=0))
        assert net.storm.rate == 0
        at.hosts[0].send(None, times=200)
        assert [len(host.captured(200)) for host in at.hosts[1:]] == [200] * 3
        assert settled(net) == drops
        for wrong in ({"rate": -1}, {"burst": 0}):
            with pytest.raises(ValueError, match="copies"):
                Storm(**wrong)


def test_honest_floods_are_left_alone(place: Places) -> None:
    """A line of 16 switches with 48 devices each: what is sent to all comes to all."""
    at, each = place(2), 48
    with Network("honest", namespace=at.switching) as net, Netlink(at.switching) as netlink:
        line(net, 16)
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s15:0", at.hosts[1].edge)
        numbers = [20_000 + i for i in range(16 * each)]
        for number in numbers:
            netlink.submit(interfaces.veth(f"d{number}", f"e{number}", index=number, up=True),
                           interfaces.change(f"e{number}", up=True))
            net.attach(f"s{(number - 20_000) // each}:{10 + (number - 20_000) % each}", Edge(number))
        for _ in range(20):
            frames = [at.hosts[0].send(None, bytes([i])) for i in range(5)]
            # Copies wait at devices, each CPU for itself: a sender that is moved to another may overtake itself.
            assert sorted(at.hosts[1].captured(5)) == frames
        assert net.drops == {}
        assert {net.traffic(f"s{i}:{10 + j}")[1].packets for i in range(16) for j in range(each)} == {100}
