"""The monitor hears what happens in its namespace, and nothing else."""

from __future__ import annotations

import errno
import time

import pytest

from iovisor.kernel import (
    Monitor,
    Netlink,
    NetlinkError,
    NetworkNamespace,
    Topic,
    addresses,
    interfaces,
    neighbours,
    routes,
)
from iovisor.kernel.addresses import Address
from iovisor.kernel.interfaces import Interface
from iovisor.kernel.neighbours import Neighbour
from iovisor.kernel.routes import Route

pytestmark = pytest.mark.root


def test_events(namespace: NetworkNamespace, netlink: Netlink) -> None:
    topics = Topic.INTERFACES | Topic.ADDRESSES | Topic.ROUTES | Topic.NEIGHBOURS
    with Monitor(namespace, topics) as monitor:
        assert monitor.read() == []
        assert not monitor.wait(0)
        netlink.submit(interfaces.bridge("br", index=50, up=True), addresses.add(50, "10.1.0.1/24"))
        netlink.submit(neighbours.add(50, "10.1.0.9", b"\x02\0\0\0\0\1"))
        assert monitor.wait(1)
        events = monitor.read()
        assert any(
            isinstance(e.subject, Interface) and e.subject.name == "br" and not e.removed for e in events
        )
        assert any(isinstance(e.subject, Address) and str(e.subject.address) == "10.1.0.1/24" for e in events)
        assert any(
            isinstance(e.subject, Route) and str(e.subject.destination) == "10.1.0.0/24" for e in events
        )
        assert any(isinstance(e.subject, Neighbour) and str(e.subject.address) == "10.1.0.9" for e in events)
        netlink.submit(routes.add("10.2.0.0/24", interface=50), interfaces.delete(50))
        events = monitor.read()
        gone = [e.subject for e in events if e.removed and isinstance(e.subject, Interface)]
        assert [interface.index for interface in gone] == [50]


def test_only_the_chosen_topics(namespace: NetworkNamespace, netlink: Netlink) -> None:
    with Monitor(namespace, Topic.ADDRESSES) as monitor:
        netlink.submit(interfaces.bridge("br", index=50, up=True), addresses.add(50, "10.1.0.1/24"))
        assert {type(event.subject) for event in monitor.read()} == {Address}


def test_only_the_own_namespace(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    with Monitor(namespace) as monitor, Netlink(tenant) as there:
        there.submit(interfaces.bridge("br"))
        assert monitor.read() == []


def test_a_carrier_is_news(namespace: NetworkNamespace, netlink: Netlink) -> None:
    netlink.submit(interfaces.veth("a", "b", index=10, peer_index=11, up=True))
    with Monitor(namespace, Topic.INTERFACES) as monitor:
        netlink.submit(interfaces.change(11, up=True))
        # The kernel tells of a carrier from a work queue, which may hold the news back for a second.
        running: list[Interface] = []
        deadline = time.monotonic() + 10
        while not running and monitor.wait(deadline - time.monotonic()):
            running = [
                event.subject
                for event in monitor.read()
                if isinstance(event.subject, Interface) and event.subject.index == 10 and event.subject.running
            ]
        assert running


def test_lost_news_is_reported(namespace: NetworkNamespace, netlink: Netlink) -> None:
    netlink.submit(interfaces.bridge("br", index=50, up=True))
    with Monitor(namespace, Topic.ADDRESSES, receive_buffer=2048) as monitor:
        netlink.submit(*(addresses.add(50, f"10.0.{i}.1/24") for i in range(200)))
        with pytest.raises(NetlinkError, match="dump the state again") as lost:
            monitor.read()
        assert lost.value.errno == errno.ENOBUFS
