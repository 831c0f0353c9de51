"""The snooping switch between real hosts: their own kernels report groups and ask for addresses.

Each test fails without the switch: the hosts are on nothing but its ports.
"""
from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric.running import Running
from iovisor.functions.snooper import Snooper
from iovisor.testing import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, layer
from iovisor.wire.igmp import Igmp, IgmpType
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
PORT = 5_000
GROUPS = pytest.mark.parametrize(("family", "group"), [(socket.AF_INET, "239.1.2.3"), (socket.AF_INET6, "ff15::42")])


@dataclass
class Site:
    """A sender, a host that joins, one that does not, and one that leads to a router."""

    sender: Host
    joiner: Host
    other: Host
    router: Host
    lan: Running

    def listening(self, group: str) -> list[int]:
        """The ports that want a group, after what came was heard."""
        self.lan.pump()
        rows = self.lan.function.method("listeners")()
        return next((row["ports"] for row in rows if row["group"] == group), [])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture
def site(images: Cache) -> Iterator[Site]:
    with Lab() as lab:
        hosts = lab.hosts("sender", "joiner", "other", "router")
        known = [{"mac": host.mac, "addresses": [host.ipv4, host.ipv6]} for host in hosts[2:3]]
        with lab.join(Snooper(endpoints=known, last_member=0), hosts, cache=images) as lan:
            yield Site(hosts[0], hosts[1], hosts[2], hosts[3], lan)


def device(host: Host) -> int:
    with host.namespace.entered():
        return socket.if_nametoindex("eth0")


def join(host: Host, family: int, group: str) -> socket.socket:
    """A socket of a host that wants a group."""
    made = host.socket(family, socket.SOCK_DGRAM)
    made.settimeout(20)
    made.bind((group, PORT))
    if family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack(
            "=4sII", socket.inet_pton(family, group), 0, device(host)))
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack(
            "=16sI", socket.inet_pton(family, group), device(host)))
    return made


def send(host: Host, family: int, group: str, payload: bytes) -> None:
    with host.socket(family, socket.SOCK_DGRAM) as made:
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_pton(family, host.ipv4))
            made.sendto(payload, (group, PORT))
        else:
            made.sendto(payload, (group, PORT, 0, device(host)))


def carrying(payload: bytes) -> Callable[[bytes], bool]:
    return lambda frame: payload in frame


@GROUPS
def test_a_group_reaches_who_joined_and_routers(family: int, group: str, site: Site) -> None:
    with site.other.capture() as other, site.router.capture() as router, join(site.joiner, family, group) as joined:
        assert until(lambda: site.listening(group) == [1])
        send(site.sender, family, group, b"no router yet")
        assert joined.recv(100) == b"no router yet"
        query = layer(Igmp, type=IgmpType.QUERY, time=100, group="239.99.99.99") / b"\2\x7d\0\0"     # of version 3
        if family == socket.AF_INET:
            site.router.send(ethernet(dst="01:00:5e:00:00:01", src=site.router.mac)
                             / ipv4(src=site.router.ipv4, dst="224.0.0.1", proto=2, ttl=1) / query)
            assert until(lambda: site.listening("routers") == [3])
            send(site.sender, family, group, b"and the router")
            assert joined.recv(100) == b"and the router"
            assert len(router.wait(1, carrying(b"and the router"))) == 1
        assert other.frames(carrying(b"router")) == [] and router.frames(carrying(b"no router yet")) == []
    assert until(lambda: site.listening(group) == [])
    with site.other.capture() as other:
        send(site.sender, family, group, b"to everybody")
        assert len(other.wait(1, carrying(b"to everybody"))) == 1, "nobody wants it: it is flooded"
    assert not {"UNWIRED", "GROUP_STORM"} & site.lan.drops.keys()


def test_questions_about_a_known_endpoint_wake_nobody(site: Site) -> None:
    """Who asks has the answer, the endpoint and everybody else never heard the question, and they talk."""
    def questions(frame: bytes) -> bool:
        return (frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1") or (
            frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135)

    with site.joiner.capture() as joiner, site.other.capture() as other:
        # The endpoint asks for the sender, who is not known to the switch: its own questions do go everywhere.
        for six in (False, True):
            assert site.sender.ping(site.other, count=2, six=six) == 2
        asked = [frame for frame in joiner.frames(questions) + other.frames(questions)
                 if frame[6:12] == site.sender.mac.to_bytes(6, "big")]
        assert asked == []
        assert site.lan.function.tables["answered"].read(0).packets == 2  # type: ignore[attr-defined]
