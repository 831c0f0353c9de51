"""The spanning tree on real packets: a ring of two of ours and a Linux bridge that speaks the old protocol.

    h0 ── a ─── b ── h1
           \\   /
           linux           10.0.0.9 is its own address
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from iovisor.fabric import Edge, Network
from iovisor.functions.bridge import Bridge
from iovisor.kernel import Netlink, NetworkNamespace, addresses, interfaces
from tests.fabric.hosts import Host, Place, quiet
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]
TIMES = {"hello": 1, "max_age": 6, "delay": 4}


@contextmanager
def linux(switching: NetworkNamespace, priority: int) -> Iterator[NetworkNamespace]:
    """A bridge of the kernel with two ports; their other ends are 5100 and 5101 in `switching`."""
    with NetworkNamespace.create() as namespace:
        quiet(namespace)
        with Netlink(switching) as here, Netlink(namespace) as there:
            there.submit(interfaces.bridge("br", index=50, mac=b"\2\0\0\0\0\x09", up=True),
                         addresses.add(50, "10.0.0.9/24"))
            set_up = f"stp_state 1 priority {priority} forward_delay 400 hello_time 100 max_age 600"
            namespace.execute(["ip", "link", "set", "dev", "br", "type", "bridge", *set_up.split()])
            for number in (0, 1):
                here.submit(interfaces.veth(f"l{number}", f"e{number}", index=5100 + number, peer_index=60 + number,
                                            peer_namespace=namespace, up=True))
                there.submit(interfaces.change(60 + number, up=True, master=50))
        yield namespace


def ring(net: Network, at: Place, priority: int) -> None:
    for number, name in enumerate("ab"):
        net.add(name, Bridge(address=f"02:00:00:00:0b:0{number}", priority=priority, tree={0: {}, 1: {}}, **TIMES))
        net.attach(f"{name}:2", at.hosts[number].edge)
        net.attach(f"{name}:0", Edge(5100 + number, peer=False))
    net.link("a:1", "b:1")


def reach(source: Host, address: str) -> bool:
    done = source.namespace.execute(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize(("ours", "theirs"), [(4096, 32768), (32768, 4096)])
def test_a_ring_with_a_linux_bridge(place: Callable[[int], Place], ours: int, theirs: int,
                                    nightly: bool) -> None:
    if ours > theirs and not nightly:
        pytest.skip("nightly: the other way round")
    at = place(2)
    with linux(at.switching, theirs) as other, Network("ring", namespace=at.switching) as net:
        ring(net, at, ours)
        with served(net):
            h0, h1 = at.hosts
            assert until(lambda: reach(h0, "10.0.0.9") and reach(h1, "10.0.0.9") and reach(h0, h1.address), 60)
            roots = {net.instances[name].function.method("topology")()["root"] for name in "ab"}
            assert roots == ({"1000020000000b00"} if ours < theirs else {"1000020000000009"})
            for host in at.hosts:
                host.captured()
            frame = h0.send(None, b"once")
            assert h1.captured(1) == [frame] and h0.captured() == []
            assert "HOPS" not in net.drops.get("fabric", {})
            net.unlink("a:1")
            assert until(lambda: reach(h0, h1.address), 60)
            frame = h0.send(None, b"twice")
            assert [data for data in h1.captured(1) if data[12:14] == b"\x88\xb5"] == [frame]
        shown = other.execute(["ip", "-d", "link", "show", "dev", "br"], capture_output=True, text=True).stdout
        assert "stp_state 1" in shown
