"""rtnetlink against the kernel: interfaces, addresses, routes, neighbours, batches and refusals."""

from __future__ import annotations

import errno
import ipaddress
import shutil
import struct

import pytest

from iovisor.kernel import (
    Netlink,
    NetlinkError,
    NetworkNamespace,
    addresses,
    interfaces,
    neighbours,
    rcu,
    routes,
)
from iovisor.kernel.interfaces import Interface
from iovisor.kernel.neighbours import NeighbourState
from iovisor.kernel.netlink import attribute, attributes, nested, number
from iovisor.kernel.routes import RouteKind
from tests.waiting import until

from .conftest import LOCAL, REMOTE

pytestmark = pytest.mark.root


def test_attributes_are_padded_and_found_again() -> None:
    body = attribute(1, b"abc") + number(2, 7) + nested(3, attribute(1, b"x"))
    assert len(body) % 4 == 0
    found = attributes(b"head" + body, 4)
    assert (found[1], found[2]) == (b"abc", struct.pack("=I", 7))
    assert attributes(found[3]) == {1: b"x"}
    assert attributes(b"\0\0\0\0rest") == {}


def test_a_pair_is_made_as_described(
    namespace: NetworkNamespace, netlink: Netlink, tenant: NetworkNamespace
) -> None:
    near, far = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b"
    netlink.submit(
        interfaces.veth(
            "p0",
            "eth0",
            index=5000,
            peer_index=5001,
            mac=near,
            peer_mac=far,
            mtu=1400,
            peer_mtu=1300,
            group=9,
            peer_namespace=tenant,
            up=True,
        )
    )
    ours = interfaces.find(netlink, "p0")
    assert ours == interfaces.find(netlink, 5000)
    assert isinstance(ours, Interface)
    assert (ours.index, ours.kind, ours.mac, ours.mtu, ours.group, ours.up) == (
        5000,
        "veth",
        near,
        1400,
        9,
        True,
    )
    assert not ours.running
    assert (ours.apart, ours.queueing, ours.promiscuous) == (True, "noqueue", False)
    with Netlink(tenant) as there:
        theirs = interfaces.find(there, "eth0")
        assert theirs is not None
        assert (theirs.index, theirs.mac, theirs.mtu, theirs.peer, theirs.up) == (
            5001,
            far,
            1300,
            5000,
            False,
        )
        there.submit(interfaces.change(5001, up=True))
    ours = interfaces.find(netlink, 5000)
    assert ours is not None
    assert ours.running


def test_changes(netlink: Netlink, tenant: NetworkNamespace) -> None:
    netlink.submit(
        interfaces.veth("a", "b", index=10, peer_index=11), interfaces.bridge("br", index=12, up=True)
    )
    netlink.submit(
        interfaces.change(
            "a", mtu=1280, mac=b"\x02\0\0\0\0\1", alias="tenant seven", group=4, master=12, up=True
        ),
        interfaces.change(11, name="renamed"),
    )
    a, b = interfaces.find(netlink, 10), interfaces.find(netlink, "renamed")
    assert a is not None
    assert b is not None
    assert (a.mtu, a.mac, a.alias, a.group, a.master, a.up) == (
        1280,
        b"\x02\0\0\0\0\1",
        "tenant seven",
        4,
        12,
        True,
    )
    assert not a.apart
    netlink.submit(interfaces.change(10, promiscuous=True, group=5))
    a = interfaces.find(netlink, 10)
    assert a is not None
    assert (a.up, a.promiscuous) == (True, True)
    netlink.submit(
        interfaces.change(10, up=False, promiscuous=False, master=0), interfaces.change(11, namespace=tenant)
    )
    a = interfaces.find(netlink, 10)
    assert a is not None
    assert (a.up, a.promiscuous, a.master, a.apart) == (False, False, 0, True)
    assert interfaces.find(netlink, 11) is None
    with Netlink(tenant) as there:
        assert interfaces.index_of(there, "renamed") == 11


def test_deleting(netlink: Netlink) -> None:
    netlink.submit(
        *(interfaces.veth(f"p{i}", f"q{i}", index=100 + i, group=7) for i in range(3)),
        interfaces.bridge("keep"),
    )
    with rcu.expedited():
        netlink.submit(interfaces.delete("p0"), interfaces.delete(101))
        assert interfaces.find(netlink, "q0") is None
        netlink.submit(interfaces.delete_group(7))
    assert [found.name for found in interfaces.listing(netlink)] == ["lo", "keep"]
    with pytest.raises(NetlinkError) as none:
        netlink.submit(interfaces.delete_group(7))
    assert none.value.errno == errno.ENODEV
    with pytest.raises(ValueError, match="group 0"):
        interfaces.delete_group(0)


def test_tunnels(netlink: Netlink) -> None:
    netlink.submit(
        interfaces.vxlan("tunnels", external=True, port=4790),
        interfaces.vxlan("seven", 7, local="10.0.0.1", remote="10.0.0.2", learning=False, mtu=1400),
        interfaces.vxlan("six", 8, local="fd00::1", remote="fd00::2"),
        interfaces.ifb("shape"),
    )
    kinds = {found.name: found.kind for found in interfaces.listing(netlink)}
    assert kinds == {"lo": "", "tunnels": "vxlan", "seven": "vxlan", "six": "vxlan", "shape": "ifb"}


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b"])
def test_impossible_names_are_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        interfaces.bridge(name)


def test_the_kernel_explains_itself(netlink: Netlink) -> None:
    netlink.submit(interfaces.bridge("br"))
    with pytest.raises(NetlinkError, match=r"interface change 'br'.*mtu less than device minimum") as small:
        netlink.submit(interfaces.change("br", mtu=10))
    assert small.value.errno == errno.EINVAL
    assert small.value.explanation == "mtu less than device minimum"


def test_a_batch_reports_every_failure_and_does_the_rest(netlink: Netlink) -> None:
    with pytest.raises(NetlinkError) as failed:
        netlink.submit(
            interfaces.bridge("one"),
            interfaces.bridge("one"),
            interfaces.bridge("two"),
            interfaces.change("three", up=True),
        )
    assert [error.errno for error in failed.value.failures] == [errno.EEXIST, errno.ENODEV]
    assert [error.subject for error in failed.value.failures] == ["one", "three"]
    assert failed.value.failures[0] is failed.value
    assert interfaces.find(netlink, "two") is not None
    outcome = netlink.attempt(interfaces.delete("two"), interfaces.delete("two"))
    assert outcome[0] is None
    assert outcome[1] is not None


def test_large_batches_and_dumps(netlink: Netlink) -> None:
    netlink.submit(interfaces.bridge("br", index=50, up=True))
    netlink.submit(*(addresses.add(50, f"10.{i >> 8}.{i & 255}.1/24") for i in range(700)))
    assert len(addresses.listing(netlink, 50)) >= 700
    assert {found.address.version for found in addresses.listing(netlink, 50)} <= {4, 6}


def test_many_ports_at_once(netlink: Netlink, tenant: NetworkNamespace) -> None:
    netlink.submit(
        *(interfaces.veth(f"p{i}", f"q{i}", group=3, peer_namespace=tenant, up=True) for i in range(50))
    )
    with rcu.expedited():
        netlink.submit(interfaces.delete_group(3))


def test_addresses(netlink: Netlink) -> None:
    netlink.submit(interfaces.bridge("br", index=50, up=True), interfaces.bridge("other", index=51, up=True))
    netlink.submit(
        addresses.add(50, "10.1.2.3/24"), addresses.add(50, "fd00::3/64"), addresses.add(51, "10.9.9.9/32")
    )
    found = {str(entry.address): entry for entry in addresses.listing(netlink, 50)}
    assert {"10.1.2.3/24", "fd00::3/64"} <= found.keys()
    assert "10.9.9.9/32" not in found
    assert not found["fd00::3/64"].tentative
    with pytest.raises(NetlinkError) as twice:
        netlink.submit(addresses.add(50, "10.1.2.3/24"))
    assert twice.value.errno == errno.EEXIST
    netlink.submit(addresses.add(50, "10.1.2.3/24", replace=True), addresses.remove(50, "fd00::3/64"))
    assert "fd00::3/64" not in {str(entry.address) for entry in addresses.listing(netlink, 50)}
    with pytest.raises(NetlinkError) as absent:
        netlink.submit(addresses.remove(50, "10.7.7.7/24"))
    assert absent.value.errno == errno.EADDRNOTAVAIL


def test_duplicates_are_looked_for_on_request(wire: Netlink) -> None:
    wire.submit(addresses.add(REMOTE, "fd09::77/64", nodad=False))
    found = {str(entry.address): entry for entry in addresses.listing(wire, REMOTE)}
    assert found["fd09::77/64"].tentative


def test_routes(netlink: Netlink) -> None:
    netlink.submit(interfaces.bridge("br", index=50, up=True))
    netlink.submit(addresses.add(50, "10.1.0.1/24"), addresses.add(50, "fd01::1/64"))
    netlink.submit(
        routes.add("default", gateway="10.1.0.254"),
        routes.add("10.5.0.0/16", gateway="10.1.0.2", interface=50, priority=7, source="10.1.0.1"),
        routes.add("10.6.0.0/16", interface=50),
        routes.add("10.7.0.0/16", kind=RouteKind.BLACKHOLE),
        routes.add("10.8.0.0/16", interface=50, table=1000),
        routes.add("default", gateway="fd01::ff"),
        routes.add("fd05::/64", interface=50),
    )
    found = {str(route.destination): route for route in routes.listing(netlink)}
    assert str(found["0.0.0.0/0"].gateway) == "10.1.0.254"
    five = found["10.5.0.0/16"]
    assert (five.interface, five.priority, str(five.gateway), str(five.source)) == (
        50,
        7,
        "10.1.0.2",
        "10.1.0.1",
    )
    assert found["10.6.0.0/16"].gateway is None
    assert found["10.7.0.0/16"].kind == RouteKind.BLACKHOLE
    assert str(found["::/0"].gateway) == "fd01::ff"
    assert found["fd05::/64"].interface == 50
    assert "10.8.0.0/16" not in found
    assert [str(route.destination) for route in routes.listing(netlink, table=1000)] == ["10.8.0.0/16"]
    assert all(route.destination.version == 6 for route in routes.listing(netlink, version=6))

    netlink.submit(
        routes.add("default", gateway="10.1.0.253", replace=True),
        routes.remove("10.6.0.0/16"),
        routes.remove("10.7.0.0/16", kind=RouteKind.BLACKHOLE),
        routes.remove("fd05::/64"),
    )
    found = {str(route.destination): route for route in routes.listing(netlink)}
    assert str(found["0.0.0.0/0"].gateway) == "10.1.0.253"
    assert not {"10.6.0.0/16", "10.7.0.0/16", "fd05::/64"} & found.keys()
    with pytest.raises(NetlinkError) as absent:
        netlink.submit(routes.remove("10.6.0.0/16"))
    assert absent.value.errno == errno.ESRCH
    with pytest.raises(NetlinkError, match=r"Nexthop has invalid gateway|ENETUNREACH"):
        netlink.submit(routes.add("10.9.0.0/16", gateway="192.0.2.1"))


@pytest.mark.usefixtures("wire")
def test_neighbours(netlink: Netlink) -> None:
    mac = b"\x02\0\0\0\0\x77"
    netlink.submit(
        neighbours.add(LOCAL, "10.9.0.7", mac), neighbours.add(LOCAL, "fd09::7", mac, NeighbourState.STALE)
    )
    found = {str(entry.address): entry for entry in neighbours.listing(netlink, LOCAL)}
    assert (found["10.9.0.7"].mac, found["10.9.0.7"].state) == (mac, NeighbourState.PERMANENT)
    assert found["fd09::7"].state == NeighbourState.STALE
    netlink.submit(neighbours.add(LOCAL, "10.9.0.7", mac[::-1].replace(b"\x77", b"\x02")))
    netlink.submit(neighbours.remove(LOCAL, "10.9.0.7"))
    left = {
        entry.address
        for entry in neighbours.listing(netlink, LOCAL)
        if entry.state & NeighbourState.PERMANENT
    }
    assert ipaddress.ip_address("10.9.0.7") not in left


def test_forwarding(netlink: Netlink) -> None:
    mac = b"\x02\0\0\0\0\x77"
    netlink.submit(
        interfaces.vxlan("tunnel", 7, index=60, up=True),
        interfaces.bridge("br", index=61, up=True),
        interfaces.veth("a", "b", index=62, up=True),
        interfaces.change(62, master=61),
    )
    netlink.submit(
        neighbours.forward(60, neighbours.BROADCAST, "192.0.2.1"),
        neighbours.forward(60, neighbours.BROADCAST, "192.0.2.2"),
        neighbours.forward(60, mac, "192.0.2.2"),
        neighbours.forward(62, mac),
    )
    through = {(entry.mac, str(entry.address)) for entry in neighbours.forwarding(netlink, 60)}
    assert through == {(bytes(6), "192.0.2.1"), (bytes(6), "192.0.2.2"), (mac, "192.0.2.2")}
    (static,) = (entry for entry in neighbours.forwarding(netlink, 62) if entry.mac == mac)
    assert static.state == NeighbourState.NOARP                 # permanent would be the bridge's own
    netlink.submit(neighbours.stop_forwarding(60, mac, "192.0.2.2"), neighbours.stop_forwarding(62, mac))
    assert mac not in {entry.mac for entry in neighbours.forwarding(netlink)}


def test_a_device_receives_for_more_than_one_mac(netlink: Netlink) -> None:
    mac = b"\x02\0\0\0\0\x78"
    netlink.submit(interfaces.veth("a", "b", index=62, up=True))
    netlink.submit(neighbours.accept(62, mac))
    assert mac in {entry.mac for entry in neighbours.forwarding(netlink, 62)}
    with pytest.raises(NetlinkError) as twice:
        netlink.submit(neighbours.accept(62, mac))
    assert twice.value.errno == errno.EEXIST
    netlink.submit(neighbours.refuse(62, mac))
    assert mac not in {entry.mac for entry in neighbours.forwarding(netlink, 62)}


@pytest.mark.usefixtures("wire")
@pytest.mark.skipif(not shutil.which("ping"), reason="needs ping")
def test_what_is_configured_works(
    namespace: NetworkNamespace, tenant: NetworkNamespace, netlink: Netlink
) -> None:
    def ping(address: str) -> bool:
        command = ["ping", "-q", "-c", "1", "-W", "1", address]
        return tenant.execute(command, capture_output=True, check=False).returncode == 0

    assert ping("10.9.0.1")
    assert until(lambda: ping("fd09::1"))
    counters = interfaces.find(netlink, LOCAL)
    assert counters is not None
    assert counters.statistics is not None
    assert counters.statistics.received_packets > 0
    assert counters.statistics.received_bytes > 0


def test_a_socket_stays_in_its_namespace(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    with Netlink(namespace) as netlink, tenant.entered():
        netlink.submit(interfaces.bridge("br"))
    with Netlink(tenant) as there:
        assert interfaces.find(there, "br") is None
