"""The balancer in TC between real hosts: a client, and a farm of nginx servers, each with an address of its own.

Nobody but the balancer has the address of the VIP, so nothing here works without it.
"""
from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Running
from iovisor.functions.balancer import Balancer
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab
from tests.labs.test_router import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

OWN = "02:00:00:00:0f:01"
VIPS = {False: "10.0.0.100", True: "fd00::100"}
SERVERS = (11, 12, 13)

NGINX = """
daemon off; master_process off; pid {place}/pid; error_log /dev/null;
events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {place}; proxy_temp_path {place}; fastcgi_temp_path {place}; uwsgi_temp_path {place};
    scgi_temp_path {place};
    server {{ listen 10.0.0.{number}:8080; listen [fd00::{number:x}]:8080; location / {{ return 200 "{number}\\n"; }} }}
}}
"""


def backends(*numbers: int, six: bool = False, **more: Any) -> list[dict[str, Any]]:
    return [{"address": f"fd00::{n:x}" if six else f"10.0.0.{n}", "port": 8080, **more} for n in numbers]


def vips(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"address": VIPS[six], "port": 80, "backends": backends(*numbers, six=six), **more}
            for six in (False, True)]


@dataclass
class Place:
    client: Host
    farm: Host
    running: Running
    made: Balancer
    tmp: Path
    servers: dict[int, Popen[Any]] = field(default_factory=dict)

    def serve(self, number: int) -> None:
        """Start a server and wait for it."""
        place = self.tmp / str(number)
        place.mkdir(exist_ok=True)
        (place / "conf").write_text(NGINX.format(place=place, number=number))
        self.servers[number] = self.farm.start(["nginx", "-c", str(place / "conf")], stdout=DEVNULL, stderr=DEVNULL)
        assert until(lambda: self.farm.run(["curl", "-s", f"10.0.0.{number}:8080"], check=False).returncode == 0)

    def ask(self, six: bool = False, *more: str) -> str:
        """Who answers, or nothing."""
        address = f"[{VIPS[True]}]" if six else VIPS[False]
        done = self.client.run(["curl", "-s", "-m", "10", *more, f"http://{address}/"], check=False)
        return done.stdout.strip()

    def is_ready(self) -> bool:
        """Whether every backend is open, and every VIP gives somebody its flows."""
        return set(self.states().values()) == {"open"} and all(
            self.made.choices[number * 1024 + 1023] for number in {vip for vip, _, _ in self.made.numbers.values()})

    def gives(self, number: int) -> bool:
        """Whether the first VIP has flows for a backend."""
        return SERVERS.index(number) + 1 in {self.made.choices[slot] for slot in range(1024)}

    def states(self) -> dict[tuple[str, str], str]:
        return {(row["vip"], row["backend"]): row["health"] for row in self.made.show()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@contextmanager
def joined(images: Cache, tmp: Path, finished: bool = False, **more: Any) -> Iterator[Place]:
    with Lab() as lab:
        client, farm = lab.hosts("client", "farm")
        for number in SERVERS:
            farm.run(["ip", "addr", "add", f"10.0.0.{number}/24", "dev", "eth0"])
            farm.run(["ip", "addr", "add", f"fd00::{number:x}/64", "dev", "eth0", "nodad"])
        if finished:
            for host in (client, farm):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        balancer = Balancer(**{"mac": OWN, "addresses": ["10.0.0.250/24", "fd00::fa/64"], "slots": 1024,
                               "vips": vips(*SERVERS)} | more)
        running = lab.join(balancer, [client, farm], cache=images)
        with served(running):
            place = Place(client, farm, running, balancer, tmp)
            assert until(place.is_ready)
            yield place


@pytest.fixture(scope="module")
def place(images: Cache, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with joined(images, tmp_path_factory.mktemp("farm")) as found:
        for number in SERVERS:
            found.serve(number)
        yield found


@pytest.mark.parametrize("six", [False, True])
def test_everybody_serves(place: Place, six: bool) -> None:
    assert set(Counter(place.ask(six) for _ in range(24))) == {"11", "12", "13"}


def test_many_requests(place: Place) -> None:
    """wrk, unmodified: not one is lost, and every backend has its part."""
    before = {row["backend"]: row["opened"] for row in place.made.show()}
    done = place.client.run(["wrk", "-t1", "-c60", "-d2s", f"http://{VIPS[False]}/"])
    requests = re.search(r"(\d+) requests in", done.stdout)
    assert requests is not None and int(requests[1]) > 100
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
    opened = [row["opened"] - before[row["backend"]] for row in place.made.show()
              if row["vip"].startswith(VIPS[False])]
    assert sum(opened) == 61 and min(opened) > 8        # wrk tries one first


def test_backends_change_under_connections(place: Place) -> None:
    """Connections of a backend that is drained go on; new ones go elsewhere.  Nobody else moves."""
    connections = []
    try:
        for _ in range(30):
            connection = place.client.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.settimeout(15)
            connection.connect((VIPS[False], 80))
            connections.append(connection)
        served_by = [again(connection) for connection in connections]
        assert set(served_by) == {"11", "12", "13"}
        place.running.reconfigure(vips=[vip | {"backends": [backend | {"drain": backend["address"].endswith(".12")}
                                                            for backend in vip["backends"]]} for vip in vips(*SERVERS)])
        assert [again(connection) for connection in connections] == served_by
        assert set(Counter(place.ask() for _ in range(24))) == {"11", "13"}
        place.running.reconfigure(vips=vips(11, 13))
        for connection, name in zip(connections, served_by, strict=True):
            if name != "12":
                assert again(connection) == name
    finally:
        place.running.reconfigure(vips=vips(*SERVERS))
        for connection in connections:
            connection.close()
    assert until(place.is_ready)


def again(connection: socket.socket) -> str:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = b""
    while b"\r\n\r\n" not in reply or not reply.endswith(b"\n"):
        part = connection.recv(4096)
        assert part, "closed"
        reply += part
    return reply.decode().split("\r\n\r\n")[1].strip()


@pytest.mark.parametrize("way", ["http", "tcp"])
def test_a_backend_dies_under_load(place: Place, way: str) -> None:
    """LB-05: no request goes to it a second after, and it is back when it is; clients see few errors, then none."""
    check = {"way": way, "interval": "200ms", "timeout": "300ms"}
    place.running.reconfigure(vips=vips(*SERVERS, check=check))
    try:
        assert until(place.is_ready)
        assert until(lambda: all(place.gives(number) for number in SERVERS))
        load = place.client.start(["wrk", "-t1", "-c20", "-d3s", "-H", "Connection: close", f"http://{VIPS[False]}/"],
                                  stdout=PIPE, text=True)
        time.sleep(0.5)                         # wrk tries once before it begins, and would not forgive
        place.servers[12].kill()
        place.servers[12].wait()
        begun = time.monotonic()
        assert until(lambda: not place.gives(12))
        took = time.monotonic() - begun
        assert set(Counter(place.ask() for _ in range(24))) == {"11", "13"}
        output, _ = load.communicate(timeout=30)
        requests = re.search(r"(\d+) requests in", output)
        assert requests is not None and int(requests[1]) > 100, output
        assert took < 15, took
    finally:
        place.serve(12)
    assert until(lambda: place.gives(12))
    assert set(Counter(place.ask() for _ in range(24))) == {"11", "12", "13"}
    place.running.reconfigure(vips=vips(*SERVERS))


def test_icmp_checks(place: Place) -> None:
    place.running.reconfigure(vips=vips(*SERVERS, 14, check={"way": "icmp", "interval": "200ms", "fall": 1}))
    try:
        wanted = {"10.0.0.11": "open", "10.0.0.12": "open", "10.0.0.13": "open", "10.0.0.14": "dead"}
        assert until(lambda: {backend: state for (vip, backend), state in place.states().items()
                              if vip.startswith("10.")} == wanted)
    finally:
        place.running.reconfigure(vips=vips(*SERVERS))


def test_nobody_serves(place: Place) -> None:
    """A client hears it at once, and of a port that is not served, too; the VIP answers a ping."""
    place.running.reconfigure(vips=vips())
    try:
        for address in VIPS[False], f"[{VIPS[True]}]":
            done = place.client.run(["curl", "-s", "-m", "10", f"http://{address}/"], check=False)
            assert done.returncode == 7         # refused, not timed out
            assert place.client.run(["curl", "-s", "-m", "10", f"http://{address}:81/"], check=False).returncode == 7
    finally:
        place.running.reconfigure(vips=vips(*SERVERS))
    assert until(place.is_ready)
    assert place.client.ping(VIPS[False]) == place.client.ping(VIPS[True], six=True) == 3


@pytest.mark.parametrize("finished", [False, True], ids=["offloaded", "finished"])
@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_bulk_tcp(six: bool, finished: bool, images: Cache, tmp_path: Path, nightly: bool) -> None:
    """Every byte arrives, both ways in turn."""
    megabytes = 1_024 if nightly else 8
    block = random.Random(3).randbytes(1 << 20)
    family, address = (socket.AF_INET6, "fd00::b") if six else (socket.AF_INET, "10.0.0.11")
    with joined(images, tmp_path, finished, vips=vips(11)) as place, \
            place.farm.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 8080))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with place.client.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(60)
                sender.connect((VIPS[six], 80))
                for _ in range(megabytes):
                    sender.sendall(block)
                sender.shutdown(socket.SHUT_WR)
                back = hashlib.sha256()
                while part := sender.recv(1 << 16):
                    back.update(part)
                returned.append(back.hexdigest())

        returned: list[str] = []
        thread = threading.Thread(target=send)
        thread.start()
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 16):
                digest.update(part)
            for _ in range(megabytes):
                connection.sendall(block)
        thread.join()
        for _ in range(megabytes):
            wanted.update(block)
        assert digest.hexdigest() == wanted.hexdigest() == returned[0]
        states = [row["state"] for row in place.made.listing() if row["protocol"] == "tcp"]
        assert states == ["closed"]
        assert not place.running.drops
