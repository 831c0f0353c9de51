"""nat in TC between real hosts: their own TCP, with all offloads and with none, and what they see of each other.

Each test fails without nat: nobody outside has a route to the inside.
"""
from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric.running import Running
from iovisor.functions.nat import Nat
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.language import mac_text
from iovisor.testing import Host, Lab
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT = 8_000
OURS, FAR, HOME = "192.0.2.1", "198.51.100.7", "10.1.0.2"
OURS6, FAR6, HOME6 = "2001:db8::1", "2001:db8:f::7", "fd01::2"
STATIC = [{"outside": outside, "inside": inside, "protocol": "tcp", "outside_ports": 8080, "inside_ports": PORT}
          for outside, inside in ((OURS, HOME), (OURS6, HOME6))]
FAMILIES = pytest.mark.parametrize(("family", "ours", "far", "home"), [
    (socket.AF_INET, OURS, FAR, HOME), (socket.AF_INET6, OURS6, FAR6, HOME6)])


@dataclass
class Site:
    """`inside` and `outside`, and nat between them."""

    inside: Host
    outside: Host
    nat: Running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


def settle(host: Host, other: Host, mine: list[str], theirs: list[str]) -> None:
    """Addresses of its own, and the way to others: there is no router, so each is told who the other is."""
    host.run(["ip", "addr", "flush", "dev", "eth0"])
    for address in mine:
        host.run(["ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else [])])
    for address in theirs:
        host.run(["ip", "route", "add", address, "dev", "eth0"])
        host.run(["ip", "neighbour", "add", address, "lladdr", mac_text(other.mac), "dev", "eth0"])


def joined(images: Cache, finished: bool = False) -> Iterator[Site]:
    with Lab() as lab:
        inside, outside = lab.hosts("inside", "outside")
        if finished:
            for host in (inside, outside):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        settle(inside, outside, [f"{HOME}/32", f"{HOME6}/128"], [FAR, FAR6])
        settle(outside, inside, [f"{FAR}/32", f"{FAR6}/128"], [OURS, OURS6])
        with lab.join(Nat(addresses=[OURS, OURS6], static=STATIC), [inside, outside], cache=images) as nat:
            yield Site(inside, outside, nat)


@pytest.fixture
def site(images: Cache) -> Iterator[Site]:
    yield from joined(images)


@pytest.fixture(params=["offloaded", "finished"])
def either(request: pytest.FixtureRequest, images: Cache) -> Iterator[Site]:
    yield from joined(images, request.param == "finished")


def carry(sender: Host, receiver: Host, family: int, called: tuple[str, int], bound: tuple[str, int],
          megabytes: int) -> str:
    """Send so much over TCP and compare it; answers the address the receiver saw."""
    block = random.Random(3).randbytes(1 << 20)
    with receiver.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(bound)
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with sender.socket(family, socket.SOCK_STREAM) as one:
                one.settimeout(60)
                one.connect(called)
                for _ in range(megabytes):
                    one.sendall(block)
                one.shutdown(socket.SHUT_WR)
                assert one.recv(100) == b"all of it"

        thread = threading.Thread(target=send)
        thread.start()
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        connection, peer = listener.accept()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 16):
                digest.update(part)
            connection.sendall(b"all of it")
        thread.join()
    for _ in range(megabytes):
        wanted.update(block)
    assert digest.hexdigest() == wanted.hexdigest()
    return str(peer[0])


def complaints(site: Site) -> set[str]:
    return {name for name in site.nat.drops if name.startswith(("OUT_OF", "BAD", "UNSENT", "CLASH", "EXHAUSTED"))}


@FAMILIES
def test_bulk_tcp(family: int, ours: str, far: str, home: str, either: Site, nightly: bool) -> None:
    """Every byte arrives, from inside and to a forwarded port, and each end sees what it should."""
    megabytes = 1_024 if nightly else 8
    assert carry(either.inside, either.outside, family, (far, PORT), (far, PORT), megabytes) == ours
    assert carry(either.outside, either.inside, family, (ours, 8080), (home, PORT), megabytes) == far
    states = [row["state"] for row in either.nat.function.method("listing")() if row["protocol"] == "tcp"]
    assert states == ["closed", "closed"]
    assert not complaints(either)


@FAMILIES
def test_udp(family: int, ours: str, far: str, home: str, either: Site) -> None:
    with either.outside.socket(family, socket.SOCK_DGRAM) as server, \
            either.inside.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((far, PORT))
        for each in (server, client):
            each.settimeout(20)
        for size in (0, 1, 7, 500, 1400, 4000):
            data = random.Random(size).randbytes(size)
            client.sendto(data, (far, PORT))
            got, address = server.recvfrom(5_000)
            assert got == data and address[0] == ours
            server.sendto(data[::-1], address)
            answer, source = client.recvfrom(5_000)
            assert answer == data[::-1] and source[:2] == (far, PORT)


def test_pings(site: Site) -> None:
    for far in (FAR, FAR6):
        assert site.inside.ping(far, count=2) == 2
        assert site.inside.ping(far, count=2, size=4_000) == 2
    for ours in (OURS, OURS6):
        assert site.outside.ping(ours, count=1) == 0
    assert site.nat.drops["UNMAPPED"] == 2


def test_iperf(site: Site) -> None:
    """iperf3, unmodified: upload, download, several streams, UDP."""
    server = site.outside.start(["iperf3", "-s", "-p", str(PORT)])
    try:
        for options in ([], ["-R"], ["-P", "4"], ["-6"], ["-u", "-b", "100M"]):
            target = FAR6 if "-6" in options else FAR
            flags = [flag for flag in options if flag != "-6"]
            until(lambda target=target, flags=flags: site.inside.run(  # type: ignore[misc]
                ["iperf3", "-c", target, "-p", str(PORT), "-n", "20M", *flags], check=False).returncode == 0)
    finally:
        server.terminate()
        server.wait(10)
    assert not complaints(site)
