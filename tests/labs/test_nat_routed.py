"""nat behind a router, as people use it: two inside networks, one address for all of them, programs from Debian."""
from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.language import mac_text
from iovisor.testing import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, udp
from tests.labs.test_nat import PORT, carry
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

ROUTER, OURS, SECOND, GATEWAY, FAR = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.254", "198.51.100.7"
MACS = [f"02:00:00:00:01:{port:02x}" for port in range(3)]
STATIC = [{"outside": SECOND, "inside": "10.1.1.2", "protocol": "tcp", "outside_ports": 8080, "inside_ports": PORT}]


@dataclass
class Office:
    """Two hosts inside, each on a network of its own, and one outside."""

    one: Host
    two: Host
    far: Host
    network: Network


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Lab() as lab:
        one, two, far = lab.hosts("one", "two", "far")
        for number, host in enumerate((one, two)):
            for words in ("addr flush dev eth0", f"addr add 10.1.{number}.2/24 dev eth0",
                          f"route add default via 10.1.{number}.1"):
                host.run(["ip", *words.split()])
        for words in ("addr flush dev eth0", f"addr add {GATEWAY}/24 dev eth0", f"addr add {FAR}/32 dev lo",
                      "link set lo up"):
            far.run(["ip", *words.split()])
        near = [(0, "10.1.0.2", one), (1, "10.1.1.2", two), (2, GATEWAY, far)]
        router = Router(
            interfaces={port: {"mac": MACS[port], "addresses": [f"10.1.{port}.1/24" if port < 2 else f"{ROUTER}/24"]}
                        for port in range(3)},
            static=[{"to": "0.0.0.0/0", "via": [{"gateway": GATEWAY}]}],
            fixed=[{"port": port, "address": address, "mac": mac_text(host.mac)} for port, address, host in near])
        with Network("office", namespace=lab.namespace, cache=Cache(tmp_path_factory.mktemp("images"))) as network:
            network.add("router", router)
            network.add("nat", Nat(addresses=[OURS], static=STATIC, mac=MACS[2]))
            network.link("router:2", "nat:inside")
            network.attach("router:0", Edge(one.index))
            network.attach("router:1", Edge(two.index))
            network.attach("nat:outside", Edge(far.index))
            yield Office(one, two, far, network)


@contextmanager
def served(network: Network) -> Iterator[None]:
    """The slow path, in a thread of its own."""
    ends, loop = asyncio.Event(), asyncio.new_event_loop()

    async def work() -> None:
        task = loop.create_task(network.serve())
        await ends.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()


def test_a_web_server_sees_one_client(office: Office, tmp_path: Path) -> None:
    """nginx and curl, from both networks, large and small."""
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/errors;\n"
        f"events {{}}\nhttp {{ access_log {tmp_path}/access; client_body_temp_path {tmp_path}/b;\n"
        f"proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u;\n"
        f"scgi_temp_path {tmp_path}/s; server {{ listen {FAR}:80; root {tmp_path}; }} }}\n")
    tmp_path.chmod(0o755)
    server = office.far.start(["nginx", "-c", f"{tmp_path}/nginx.conf"])
    try:
        for host in (office.one, office.two):
            assert until(lambda host=host: host.run(["curl", "-sf", f"http://{FAR}/large", "-o", "/dev/null"],  # type: ignore[misc]
                                                    check=False).returncode == 0)
            found = host.run(["curl", "-sf", f"http://{FAR}/large", "-o", f"{tmp_path}/got"], check=False)
            assert found.returncode == 0 and (tmp_path / "got").read_bytes() == (tmp_path / "large").read_bytes()
    finally:
        server.terminate()
        server.wait(10)
    clients = {line.split()[0] for line in (tmp_path / "access").read_text().splitlines()}
    assert clients == {OURS}


@pytest.mark.parametrize("how", [[], ["-I"], ["-T", "-p", "9"]], ids=["udp", "icmp", "tcp"])
def test_traceroute(how: list[str], office: Office) -> None:
    """The hops of the way, and the last one's answer, whatever it is."""
    told = office.one.run(["traceroute", "-n", "-q", "1", "-w", "10", "-m", "4", *how, FAR], check=False).stdout
    hops = [line.split()[1] for line in str(told).splitlines()[1:]]
    assert hops == ["10.1.0.1", FAR], told


def test_mtr(office: Office) -> None:
    told = str(office.two.run(["mtr", "-n", "-r", "-c", "2", "-i", "0.2", FAR], check=False).stdout)
    assert "10.1.1.1" in told and FAR in told and "100.0%" not in told


def test_a_forwarded_port_and_a_hairpin(office: Office) -> None:
    """A host is reached from outside and by another inside host, who both find the address by ARP."""
    with served(office.network):
        for sender, seen in ((office.far, GATEWAY), (office.one, OURS)):
            assert carry(sender, office.two, socket.AF_INET, (SECOND, 8080), ("10.1.1.2", PORT), 4) == seen


def test_fragments_in_the_wrong_order(office: Office) -> None:
    """The last comes first, and the datagram becomes whole at the other end."""
    payload = bytes(range(256)) * 6
    whole = bytes(udp(src=5000, dst=PORT, checksum=0) / payload)
    link, ends = ethernet(dst=MACS[0], src=office.one.mac), {"src": "10.1.0.2", "dst": FAR, "id": 77, "proto": 17}
    first = link / ipv4(mf=1, **ends) / whole[:800]  # type: ignore[arg-type]
    later = link / ipv4(offset=100, **ends) / whole[800:]  # type: ignore[arg-type]
    with served(office.network), office.far.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((FAR, PORT))
        server.settimeout(20)
        office.one.send(later)
        until(lambda: office.network.served.events > 0)
        office.one.send(first)
        got, peer = server.recvfrom(5_000)
    assert got == payload and peer == (OURS, 5000)
