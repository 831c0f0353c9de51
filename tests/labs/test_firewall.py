"""The firewall in TC between real hosts: their own TCP, with all offloads and with none, and what may not pass.

Each test fails without the firewall: the hosts are on nothing but its ports.
"""
from __future__ import annotations

import errno
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric.running import Running
from iovisor.functions.firewall import Firewall
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT = 8_000
OUT = [{"action": "accept", "direction": "out"}]
FAMILIES = pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET6, "fd00::2")])


@dataclass
class Site:
    """`inside` and `outside`, and the firewall between them."""

    inside: Host
    outside: Host
    wall: Running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


def joined(images: Cache, finished: bool = False) -> Iterator[Site]:
    with Lab() as lab:
        inside, outside = lab.hosts("inside", "outside")
        if finished:
            for host in (inside, outside):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        with lab.join(Firewall(rules=OUT), [inside, outside], cache=images) as wall:
            yield Site(inside, outside, wall)


@pytest.fixture
def site(images: Cache) -> Iterator[Site]:
    yield from joined(images)


@pytest.fixture(params=["offloaded", "finished"])
def either(request: pytest.FixtureRequest, images: Cache) -> Iterator[Site]:
    yield from joined(images, request.param == "finished")


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within ten seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@FAMILIES
def test_bulk_tcp(family: int, address: str, either: Site, nightly: bool) -> None:
    """Every byte arrives, both ways in turn, and the firewall saw one connection begin and end."""
    megabytes = 1_024 if nightly else 8
    block = random.Random(3).randbytes(1 << 20)
    with either.outside.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, PORT))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with either.inside.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(60)
                sender.connect((address, PORT))
                for _ in range(megabytes):
                    sender.sendall(block)
                sender.shutdown(socket.SHUT_WR)
                assert sender.recv(100) == b"all of it"

        thread = threading.Thread(target=send)
        thread.start()
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 16):
                digest.update(part)
            connection.sendall(b"all of it")
        thread.join()
        for _ in range(megabytes):
            wanted.update(block)
    assert digest.hexdigest() == wanted.hexdigest()
    states = [row["state"] for row in either.wall.function.method("listing")() if row["protocol"] == "tcp"]
    assert states == ["closed"]
    assert not {name for name in either.wall.drops if name.startswith(("OUT_OF", "BAD", "UNSENT"))}


@FAMILIES
def test_nobody_comes_in(family: int, address: str, site: Site) -> None:
    inside = address.replace("2", "1")
    with site.inside.socket(family, socket.SOCK_STREAM) as listener, \
            site.outside.socket(family, socket.SOCK_STREAM) as stranger:
        listener.bind((inside, PORT))
        listener.listen()
        stranger.settimeout(1.5)
        with pytest.raises(TimeoutError):
            stranger.connect((inside, PORT))
    assert site.wall.drops["DEFAULT"] >= 1


def test_a_closed_port_says_so(site: Site) -> None:
    """The reset of a host passes, and so does the ICMP error about a datagram."""
    with site.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(10)
        with pytest.raises(ConnectionRefusedError):
            one.connect(("10.0.0.2", 9))
    with site.inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        one.connect(("10.0.0.2", 9))
        one.send(b"anybody")
        with pytest.raises(ConnectionRefusedError):
            one.recv(10)


def test_pings_and_fragments(site: Site) -> None:
    for six in (False, True):
        assert site.inside.ping(site.outside, count=2, six=six) == 2
        assert site.inside.ping(site.outside, count=2, size=4_000, six=six) == 2
        assert site.outside.ping(site.inside, count=1, six=six) == 0


def test_ct_03_a_session_is_cut(site: Site) -> None:
    """A rule against it ends a session at once; taken back, the session lives on."""
    with site.outside.socket(socket.AF_INET, socket.SOCK_STREAM) as listener, \
            site.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        listener.bind(("10.0.0.2", 22))
        listener.listen()
        client.settimeout(20)
        client.connect(("10.0.0.2", 22))
        server, _ = listener.accept()
        with server:
            server.settimeout(20)
            client.sendall(b"before")
            assert server.recv(100) == b"before"
            site.wall.reconfigure(rules=[{"action": "drop", "protocol": "tcp", "destination_ports": 22}, *OUT])
            client.sendall(b"after")
            assert eventually(lambda: site.wall.drops.get("REVOKED", 0) >= 1)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(100)
            server.settimeout(20)
            site.wall.reconfigure(rules=OUT)
            assert server.recv(100) == b"after"


def test_iperf(site: Site) -> None:
    """iperf3, unmodified: upload, download, several streams."""
    server = site.outside.start(["iperf3", "-s", "-p", str(PORT)])
    try:
        for options in ([], ["-R"], ["-P", "4"], ["-6"]):
            target = "fd00::2" if "-6" in options else "10.0.0.2"
            flags = [flag for flag in options if flag != "-6"]
            assert eventually(lambda target=target, flags=flags: site.inside.run(  # type: ignore[misc]
                ["iperf3", "-c", target, "-p", str(PORT), "-n", "20M", *flags], check=False).returncode == 0)
    finally:
        server.terminate()
        server.wait(10)
    assert not {name for name in site.wall.drops if name.startswith(("OUT_OF_WINDOW", "BAD", "UNSENT"))}


@FAMILIES
def test_rejected(family: int, address: str, either: Site) -> None:
    """A host hears at once what it may not do, and people hear of it; the reports cost no packet."""
    rules = [{"name": "no mail", "action": "reject", "protocol": "tcp", "destination_ports": 25, "log": True},
             {"name": "no names", "action": "reject", "protocol": "udp", "destination_ports": 53}, *OUT]
    either.wall.reconfigure(rules=rules)
    with either.inside.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(10)
        with pytest.raises(ConnectionRefusedError):
            one.connect((address, 25))
    with either.inside.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        one.connect((address, 53))
        one.send(b"who")
        with pytest.raises((ConnectionRefusedError, PermissionError, OSError)) as refused:
            one.recv(10)
    assert refused.value.errno in (errno.EACCES, errno.EHOSTUNREACH)    # what Linux makes of 1/1 and of 3/13
    assert eventually(lambda: either.wall.pump() > 0)
    (report,) = either.wall.function.method("reported")()
    assert (report["rule"], report["action"], report["direction"]) == ("no mail", "reject", "out")
    assert f"dst={address}" in report["packet"]
    assert not {"RULE", "DEFAULT"} & either.wall.drops.keys()
