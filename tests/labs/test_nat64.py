"""nat64 in TC between a host that has IPv6 alone and one that has IPv4 alone: their own stacks, offloads on and off.

Each test fails without nat64: the two have no protocol in common.
"""
from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric.running import Running
from iovisor.functions.nat64 import Nat64
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab
from tests.fabric.serving import served
from tests.labs.test_router import errors
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT, UDP_SEGMENT = 8_000, 103
HOME, OURS, FAR, GATEWAY = "2001:db8:1::2", "203.0.113.1", "203.0.113.7", "fe80::64"
FAR6 = "64:ff9b::203.0.113.7"
STATIC = [{"outside": OURS, "inside": HOME, "protocol": "tcp", "outside_ports": 8080, "inside_ports": PORT}]


@dataclass
class Site:
    """`six` and `four`, and nat64 between them."""

    six: Host
    four: Host
    nat: Running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


def joined(images: Cache, finished: bool = False) -> Iterator[Site]:
    """Who answers for the gateway, and for the outside address, is nat64; the hosts are told nothing of each other."""
    with Lab() as lab:
        six, four = lab.hosts("six", "four")
        for host, address in ((six, [HOME + "/64", "nodad"]), (four, [FAR + "/24"])):
            host.run(["ip", "addr", "flush", "dev", "eth0"])
            host.run(["ip", "addr", "add", *address, "dev", "eth0"])
            if finished:
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        six.run(["ip", "-6", "addr", "add", "fe80::2/64", "dev", "eth0", "nodad"])
        six.run(["ip", "-6", "route", "add", "64:ff9b::/96", "via", GATEWAY, "dev", "eth0"])
        nat = Nat64(addresses=[OURS], static=STATIC, mac=six.mac, gateway=GATEWAY, gateway_mac=four.mac)
        with lab.join(nat, [six, four], cache=images) as running, served(running.network):
            yield Site(six, four, running)


@pytest.fixture
def site(images: Cache) -> Iterator[Site]:
    yield from joined(images)


@pytest.fixture(params=["offloaded", "finished"])
def either(request: pytest.FixtureRequest, images: Cache) -> Iterator[Site]:
    yield from joined(images, request.param == "finished")


def carry(site: Site, upwards: bool, called: bool, megabytes: int) -> str:
    """Send so much over TCP, from six to four or back; `called` says that four calls.  Answers whom it saw."""
    block = random.Random(3).randbytes(1 << 20)
    listens, calls = (site.six, site.four) if called else (site.four, site.six)
    families = (socket.AF_INET6, socket.AF_INET) if called else (socket.AF_INET, socket.AF_INET6)
    with listens.socket(families[0], socket.SOCK_STREAM) as listener, \
            calls.socket(families[1], socket.SOCK_STREAM) as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOME if called else FAR, PORT))
        listener.listen()
        listener.settimeout(20)
        caller.settimeout(60)
        caller.connect((OURS, 8080) if called else (FAR6, PORT))
        accepted, peer = listener.accept()
        accepted.settimeout(60)
        source, sink = (caller, accepted) if upwards != called else (accepted, caller)

        def send() -> None:
            for _ in range(megabytes):
                source.sendall(block)
            source.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        with accepted:
            while part := sink.recv(1 << 16):
                digest.update(part)
        thread.join()
    for _ in range(megabytes):
        wanted.update(block)
    assert digest.hexdigest() == wanted.hexdigest()
    return str(peer[0])


def complaints(site: Site) -> set[str]:
    return {name for name in site.nat.drops if name.startswith(("OUT_OF_S", "BAD", "MALFORMED", "CLASH", "TOO_BIG"))}


@pytest.mark.parametrize("upwards", [True, False])
def test_bulk_tcp(upwards: bool, either: Site, nightly: bool) -> None:
    """Every byte arrives, whoever calls, whichever way it goes; nobody sees a wrong checksum."""
    megabytes = 1_024 if nightly else 8
    before = errors(either.six) + errors(either.four)
    assert carry(either, upwards, False, megabytes) == OURS
    assert carry(either, upwards, True, megabytes) == socket.inet_ntop(socket.AF_INET6, socket.inet_pton(
        socket.AF_INET6, FAR6))
    assert errors(either.six) + errors(either.four) == before
    assert not complaints(either)


def test_udp(either: Site) -> None:
    """Also what is cut by one and put together by the other; without a checksum; aggregates that are cut late."""
    before = errors(either.six) + errors(either.four)
    with either.four.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, \
            either.six.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        server.bind((FAR, PORT))
        for each in (server, client):
            each.settimeout(20)
        address: tuple[str, int] = ("", 0)
        server.setsockopt(socket.IPPROTO_IP, 10, 0)         # IP_MTU_DISCOVER: no DF
        for size in (0, 1, 7, 500, 1_240, 1_400, 4_000):
            data = random.Random(size).randbytes(size)
            client.sendto(data, (FAR6, PORT))
            got, address = server.recvfrom(5_000)
            assert got == data and address[0] == OURS
            server.sendto(data[::-1], address)
            answer, source = client.recvfrom(5_000)
            assert answer == data[::-1] and source[1] == PORT
        server.setsockopt(socket.SOL_SOCKET, 11, 1)         # SO_NO_CHECK
        server.sendto(b"unsummed", address)
        assert client.recvfrom(100)[0] == b"unsummed"
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1_000)
        client.sendto(bytes(5_500), (FAR6, PORT))
        assert [len(server.recvfrom(5_000)[0]) for _ in range(6)] == [1_000] * 5 + [500]
    assert errors(either.six) + errors(either.four) == before


def test_ping_and_its_path(site: Site) -> None:
    assert site.six.ping(FAR6, count=2, six=True) == 2
    assert site.six.ping(FAR6, count=1, six=True, size=1_400) == 1
    assert site.four.ping(OURS, count=1) == 0 and site.nat.drops["UNMAPPED"] == 1
    for way in (["-U", "-p", "33434"], ["-I"], ["-T", "-p", str(PORT)]):
        traced = site.six.run(["traceroute", "-6", "-n", "-q", "1", "-m", "5", *way, FAR6]).stdout.splitlines()
        hops = [line.split()[1] for line in traced[1:]]
        assert [socket.inet_pton(socket.AF_INET6, hop) for hop in hops] == [
            socket.inet_pton(socket.AF_INET6, each) for each in ("64:ff9b::203.0.113.1", FAR6)], (way, traced)


def test_a_closed_port_is_refused(site: Site) -> None:
    """TCP by a reset, UDP by an error about a packet of the other protocol."""
    with site.six.socket(socket.AF_INET6, socket.SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
        client.settimeout(20)
        client.connect((FAR6, 81))
    with site.six.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client, pytest.raises(ConnectionRefusedError):
        client.settimeout(20)
        client.connect((FAR6, 81))
        client.send(b"x")
        client.recv(1)
    with site.six.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client, \
            site.four.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, pytest.raises(ConnectionRefusedError):
        server.bind((FAR, PORT))
        for each in (server, client):
            each.settimeout(20)
        client.sendto(b"x", (FAR6, PORT))
        _, address = server.recvfrom(10)
        server.connect(address)
        client.close()
        server.send(b"y")
        server.recv(1)


def test_both_ends_learn_how_long_packets_may_be(site: Site) -> None:
    """A narrow link, inside or outside, as nat64 is told: TCP gets through, in pieces that fit."""
    site.nat.reconfigure(inside_mtu=1_400, outside_mtu=1_400)
    assert carry(site, True, False, 2) == OURS
    assert carry(site, False, False, 2) == OURS
    six = site.six.run(["ip", "-6", "route", "get", FAR6]).stdout
    four = site.four.run(["ip", "route", "get", OURS]).stdout
    assert re.search(r"mtu 1420", six) and re.search(r"mtu 1380", four), (six, four)


def test_programs_as_they_are(site: Site) -> None:
    """iperf3 to a server that knows IPv4 alone; curl from a host that knows IPv6 alone."""
    server = site.four.start(["iperf3", "-s", "-B", FAR, "-p", str(PORT)])
    try:
        for options in ([], ["-R"], ["-P", "4"], ["-u", "-b", "100M", "-l", "1200"]):
            until(lambda options=options: site.six.run(                         # type: ignore[misc]
                ["iperf3", "-6", "-c", FAR6, "-p", str(PORT), "-n", "20M", *options], check=False).returncode == 0)
    finally:
        server.terminate()
        server.wait(10)
    web = site.four.start(["python3", "-m", "http.server", "--bind", FAR, str(PORT), "--directory", "/etc"])
    try:
        until(lambda: "127.0.0.1" in site.six.run(
            ["curl", "-s", "-g", f"http://[{FAR6}]:{PORT}/hosts"], check=False).stdout)
    finally:
        web.terminate()
        web.wait(10)


def test_an_error_about_a_packet_that_was_cut_on_its_way(site: Site) -> None:
    """Whoever sends fragments hears of them, too: time is up for a datagram that never became whole."""
    with site.six.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.sendto(bytes(4_000), (FAR6, 9))              # nobody listens: the error quotes a first fragment
        until(lambda: "Icmp6InDestUnreachs" in site.six.run(["cat", "/proc/net/snmp6"]).stdout and int(re.search(
            r"Icmp6InDestUnreachs\s+(\d+)", site.six.run(["cat", "/proc/net/snmp6"]).stdout)[1]) > 0)   # type: ignore[index]


