"""The router in TC between real hosts on networks of their own, its Python served beside it."""
from __future__ import annotations

import asyncio
import hashlib
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Running
from iovisor.functions.router import Router
from iovisor.functions.router.settings import RouterConfig
from iovisor.language import ipv4_address, prefix
from iovisor.testing import Host, Lab
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
UDP_SEGMENT = 103               # linux/udp.h
SO_RCVBUFFORCE = 33             # asm-generic/socket.h


@dataclass
class Place:
    """Three hosts, each on a network of its own, the last behind a link of 1300 bytes."""

    lab: Lab
    hosts: list[Host]
    running: Running

    def address(self, number: int, six: bool = False) -> str:
        return f"2001:db8:{number}::2" if six else f"10.1.{number}.2"


def settle(host: Host, number: int, mtu: int) -> None:
    """Give a host its place: addresses, routes, nothing of what the lab gave it, nor of what routers say."""
    with host.namespace.entered():
        Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("0")
    for words in ("addr flush dev eth0", f"link set eth0 mtu {mtu}", f"addr add 10.1.{number}.2/24 dev eth0",
                  f"addr add 2001:db8:{number}::2/64 dev eth0 nodad",
                  f"addr add fe80::{number + 1:x}/64 dev eth0 nodad",
                  f"route add default via 10.1.{number}.1", f"-6 route add default via 2001:db8:{number}::1"):
        host.run(["ip", *words.split()])


@contextmanager
def served(running: Running) -> Iterator[None]:
    """The slow path, in a thread of its own."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(running.network.serve())

    def work() -> None:
        with loop_of(loop):
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


@contextmanager
def loop_of(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def place(images: Cache) -> Iterator[Place]:
    interfaces: dict[int, Any] = {
        number: {"mac": f"02:00:00:00:01:{number:02x}", "mtu": (1500, 1500, 1300)[number],
                 "addresses": [f"10.1.{number}.1/24", f"2001:db8:{number}::1/64"]} for number in range(3)}
    interfaces[0]["advertise"] = {"name_servers": ["2001:db8::53"]}
    with Lab() as lab:
        hosts = lab.hosts("a", "b", "c")
        for number, host in enumerate(hosts):
            settle(host, number, 1500 if number < 2 else 1300)
        running = lab.join(Router(interfaces=interfaces, errors=100_000), hosts, cache=images)
        with served(running):
            yield Place(lab, hosts, running)


def pinged(host: Host, target: str, size: int, count: int) -> int:
    """How many of the first `count` echo requests are answered, be it late: more are sent until so many are."""
    done = host.run(["ping", "-n", "-c", str(count), "-i", "0.1", "-w", "15", "-s", str(size), target], check=False)
    return len({int(n) for n in re.findall(r"bytes from .*icmp_seq=(\d+)", done.stdout)} & set(range(1, count + 1)))


@pytest.mark.parametrize("six", [False, True])
def test_the_first_packet_arrives_too(place: Place, six: bool) -> None:
    place.running.function.flush_neighbors()  # type: ignore[attr-defined]
    assert pinged(place.hosts[0], place.address(1, six), 56, 3) == 3
    assert pinged(place.hosts[1], place.address(2, six), 56, 3) == 3


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("size", [0, 56, 1400, 1473, 3000])
def test_the_router_answers(place: Place, six: bool, size: int) -> None:
    router = "2001:db8:0::1" if six else "10.1.0.1"
    assert pinged(place.hosts[0], router, size, 3) == 3


@pytest.mark.parametrize("six", [False, True])
def test_long_datagrams_arrive(place: Place, six: bool) -> None:
    """Cut by their sender, and, to where less fits, by the router as well."""
    assert pinged(place.hosts[0], place.address(1, six), 4000, 3) == 3
    narrow = place.address(2, six)      # an IPv6 source first has to be told how long its fragments may be
    assert until(lambda: place.hosts[0].ping(narrow, six=six, size=1400, count=1) == 1)


@pytest.mark.parametrize("six", [False, True])
def test_traceroute(place: Place, six: bool) -> None:
    found = place.hosts[0].run(["traceroute", "-6" if six else "-4", "-n", "-q", "1", "-w", "2", place.address(1, six)])
    hops = re.findall(r"^ *\d+ +(\S+)", found.stdout, re.M)
    assert hops == ["2001:db8::1" if six else "10.1.0.1", place.address(1, six)], found.stdout


@pytest.mark.parametrize("six", [False, True])
def test_the_mtu_of_a_path_is_found(place: Place, six: bool) -> None:
    found = place.hosts[1].run(["tracepath", "-6" if six else "-4", "-n", place.address(2, six)])
    assert "pmtu 1300" in found.stdout and "reached" in found.stdout, found.stdout


@pytest.mark.parametrize("six", [False, True])
def test_mtr_sees_every_hop_every_time(place: Place, six: bool) -> None:
    """The router answers each of them: none of its errors is held back at this rate."""
    far = place.address(1, six)
    done = place.hosts[0].run(["mtr", "-6" if six else "-4", "-n", "--report", "--csv", "-c", "10", "-i", "0.1",
                               "-G", "1", far])
    rows = [row.split(",") for row in done.stdout.splitlines()[1:]]
    assert [(row[5], row[6]) for row in rows] == [
        ("2001:db8::1" if six else "10.1.0.1", "0.00"), (far, "0.00")], done.stdout


def test_a_router_is_found_by_its_address(place: Place) -> None:                                                # R6-01
    for address in ("2001:db8::1", "fe80::ff:fe00:100"):
        done = place.hosts[0].run(["ndisc6", "-1", "-r", "3", "-w", "3000", address, "eth0"])
        assert "02:00:00:00:01:00" in done.stdout.lower(), done.stdout


@pytest.mark.parametrize("six", [False, True])
def test_an_aggregate_waits_and_arrives_datagram_by_datagram(place: Place, six: bool) -> None:
    """Forty datagrams that the kernel hands over as one packet of 56 kB, for a neighbor nobody knows yet."""
    source, sink = place.hosts[0], place.hosts[1]
    family = socket.AF_INET6 if six else socket.AF_INET
    pieces = [random.Random(n).randbytes(1400) for n in range(40)]
    with sink.socket(family, socket.SOCK_DGRAM) as receiver, source.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind((place.address(1, six), 7000))
        receiver.settimeout(20)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1400)
        before = errors(sink)
        place.running.function.flush_neighbors()  # type: ignore[attr-defined]
        sender.sendto(b"".join(pieces), (place.address(1, six), 7000))
        assert [receiver.recv(9000) for _ in pieces] == pieces and errors(sink) == before


def test_a_host_learns_a_better_way(place: Place) -> None:                                          # R4-17, 4861 8.2
    """Routes that lead back to where packets come from: Linux is told, and goes there by itself."""
    host, config = place.hosts[0], place.running.function.config
    assert isinstance(config, RouterConfig)
    ways = {"10.1.0.99": ("203.0.113.0/24", "203.0.113.7"), "fe80::99": ("2001:db8:300::/48", "2001:db8:300::7")}
    mac = "02:00:00:00:00:99"
    place.running.reconfigure(
        static=[{"to": to, "via": [{"gateway": gateway, "port": 0}]} for gateway, (to, _) in ways.items()],
        fixed=[{"port": 0, "address": gateway, "mac": mac} for gateway in ways])
    # A host knows its router in IPv6 by the link-local address, and takes redirects from nobody else.
    host.run(["ip", "route", "add", "2001:db8:300::/40", "via", "fe80::ff:fe00:100", "dev", "eth0"])
    try:
        for gateway, (_, target) in ways.items():
            host.run(["ip", "neigh", "replace", gateway, "lladdr", mac, "dev", "eth0"])
            assert f"via {gateway}" not in host.run(["ip", "route", "get", target]).stdout

            def taught(gateway: str = gateway, target: str = target) -> bool:
                host.ping(target, count=1)
                return f"via {gateway}" in host.run(["ip", "route", "get", target]).stdout
            assert until(taught)
    finally:
        host.run(["ip", "route", "del", "2001:db8:300::/40"])
        place.running.reconfigure(static=config.static, fixed=config.fixed)


def test_routes_change_and_nothing_is_lost(place: Place) -> None:
    """From one next hop to two and back, all of them the same host, while numbered datagrams go by."""
    router, sink = place.running.function, place.hosts[1]
    assert isinstance(router, Router)
    one, two = ((ipv4_address(f"10.1.1.{last}"), 1, 1) for last in (2, 3))
    there = prefix("203.0.113.0/24")
    for words in ("addr add 203.0.113.1/32 dev lo", "addr add 10.1.1.3/32 dev eth0"):
        sink.run(["ip", *words.split()])
    router.feed(there, [one])
    try:
        with sink.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, \
                place.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            receiver.bind(("203.0.113.1", 7001))
            receiver.settimeout(20)
            for warm in (one, two):
                router.feed(there, [warm])
                sender.sendto(b"warm", ("203.0.113.1", 7001))
                assert receiver.recv(10) == b"warm"
            ended, changes = threading.Event(), 0

            def send() -> None:
                for number in range(5000):
                    sender.sendto(number.to_bytes(4, "big"), ("203.0.113.1", 7001))
                    time.sleep(0.0001)
                ended.set()

            thread = threading.Thread(target=send)
            thread.start()
            while not ended.is_set():
                router.feed(there, ([one], [one, two], [two])[changes % 3])
                changes += 1
            thread.join()
            assert [int.from_bytes(receiver.recv(10), "big") for _ in range(5000)] == list(range(5000))
            assert changes > 20
    finally:
        router.feed(there, None)
        for words in ("addr del 203.0.113.1/32 dev lo", "addr del 10.1.1.3/32 dev eth0"):
            sink.run(["ip", *words.split()])


def test_who_asks_for_everybody_harms_nobody(place: Place) -> None:
    """Thousands of addresses nobody has: hosts that talk go on talking, the table is bounded, and new ones get in."""
    router, attacker = place.running.function, place.hosts[0]
    assert isinstance(router, Router)
    near, far = place.hosts[1], place.address(2, True)
    assert near.ping(far, six=True, count=1) == 1
    talking = near.start(["ping", "-n", "-q", "-i", "0.02", "-c", "100", far], stdout=subprocess.PIPE, text=True)
    with attacker.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        for number in range(6000):
            sender.sendto(b"x", (f"2001:db8:1::{0x1000 + number:x}", 9))
    told, _ = talking.communicate(timeout=30)
    assert "100 received" in told, told
    assert len(router.v6.neighbors) <= router.config.neighbors
    assert set(place.running.drops) <= {"PUNT_LOST", "UNREACHABLE", "LOCAL", "HEARD", "MULTICAST", "ERRORS_LIMITED"}
    router.flush_neighbors()
    assert until(lambda: near.ping(place.address(0, True), six=True, count=1) == 1)


def test_who_is_not_there_is_unreachable(place: Place) -> None:
    done = place.hosts[0].run(["ping", "-n", "-c", "5", "-i", "1", "-W", "1", "10.1.1.77"], check=False)
    assert "From 10.1.0.1" in done.stdout and "Destination Host Unreachable" in done.stdout, done.stdout
    done = place.hosts[0].run(["ping", "-n", "-c", "1", "-W", "2", "203.0.113.9"], check=False)
    assert "Destination Net Unreachable" in done.stdout, done.stdout


def test_a_closed_port_is_refused(place: Place) -> None:
    for family, address in ((socket.AF_INET, "10.1.0.1"), (socket.AF_INET6, "2001:db8:0::1")):
        with place.hosts[0].socket(family, socket.SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
            client.settimeout(10)
            client.connect((address, 80))
        with place.hosts[0].socket(family, socket.SOCK_DGRAM) as client, pytest.raises(ConnectionRefusedError):
            client.settimeout(10)
            client.connect((address, 33434))
            client.send(b"x")
            client.recv(1)


def errors(host: Host) -> int:
    """What a host's TCP and UDP, of both versions, counted as wrong checksums."""
    old = host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()
    total = 0
    for names, values in zip(old[::2], old[1::2], strict=True):
        fields = dict(zip(names.split(), values.split(), strict=True))
        total += int(fields.get("InCsumErrors", 0))
    return total + sum(int(n) for n in re.findall(r"InCsumErrors\s+(\d+)", host.run(["cat", "/proc/net/snmp6"]).stdout))


@pytest.mark.parametrize("target", [1, 2])
@pytest.mark.parametrize("six", [False, True])
def test_tcp_in_bulk(place: Place, six: bool, target: int) -> None:
    """Offloads on: aggregates of 64 kB, partial checksums, and segments that fit a narrower link or are made to."""
    source, sink = place.hosts[0], place.hosts[target]
    family = socket.AF_INET6 if six else socket.AF_INET
    data = random.Random(3).randbytes(16 << 20)
    before = errors(source) + errors(sink)
    with sink.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((place.address(target, six), 5000))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with source.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(60)
                sender.connect((place.address(target, six), 5000))
                sender.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        digest = hashlib.sha256()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 16):
                digest.update(part)
        thread.join()
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert errors(source) + errors(sink) == before


def test_a_host_finds_its_router(place: Place) -> None:                                                         # RA-01
    done = place.hosts[0].run(["rdisc6", "-1", "-r", "3", "-w", "3000", "eth0"])
    assert "2001:db8::/64" in done.stdout and "Recursive DNS server" in done.stdout, done.stdout
    assert "from fe80::ff:fe00:100" in done.stdout


def test_a_host_configures_itself(place: Place, tmp_path: Path) -> None:
    host = place.lab.host("d")
    with host.namespace.entered():
        for name, value in (("accept_ra", 2), ("autoconf", 1), ("addr_gen_mode", 0), ("router_solicitations", 3)):
            Path(f"/proc/sys/net/ipv6/conf/eth0/{name}").write_text(str(value))
    place.running.reconfigure(interfaces={**place.running.function.config.interfaces, 3: {  # type: ignore[attr-defined]
        "mac": "02:00:00:00:01:03", "addresses": ["2001:db8:3::1/64"], "advertise": {}}})
    place.running.join(3, Edge(host.index))
    host.run(["ip", "link", "set", "eth0", "down"])
    host.run(["ip", "link", "set", "eth0", "up"])
    assert until(lambda: "2001:db8:3:" in host.run(["ip", "-6", "addr", "show", "dev", "eth0"]).stdout)
    assert until(lambda: host.ping(place.address(1, True), six=True, count=1) == 1)
