"""The balancer's tunnels between real hosts: nginx behind decapsulators, and a cable between that carries 1,500 bytes.

Servers have the VIP on their loopback devices, and answer by themselves.  The cable is `whole`, and carries aggregates,
or `cut`: the kernel cuts each, with the outer header before every segment.  Nothing but the balancer leads to the VIP.
"""
from __future__ import annotations

import hashlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.balancer import Balancer
from iovisor.functions.balancer.tables import Note
from iovisor.functions.decapsulator import Decapsulator
from iovisor.functions.switch import Switch
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab
from tests.labs.test_nat_routed import served
from tests.labs.test_tunnel import ONE_DATAGRAM
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

OWN = "02:00:00:00:0f:01"
VIPS = {False: "10.0.0.100", True: "fd00::100"}
SERVERS = (2, 3)
NGINX = """
daemon off; master_process off; pid {place}/pid; error_log /dev/null;
events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {place}; proxy_temp_path {place}; fastcgi_temp_path {place}; uwsgi_temp_path {place};
    scgi_temp_path {place};
    server {{ listen 80; listen [::]:80; location / {{ return 200 "{number}\\n"; }} }}
}}
"""


def vips(*numbers: int, port: int = 80, protocol: str = "tcp", crossed: bool = False,
         **more: Any) -> list[dict[str, Any]]:
    """Of both families; `crossed`: each through tunnels of the other."""
    return [{"address": VIPS[six], "port": port, "protocol": protocol, "mode": "tunnel", "backends": [
        {"address": f"fd00::{n:x}" if six != crossed else f"10.0.0.{n}"} for n in numbers], **more}
        for six in (False, True)]


def answers(host: Host) -> bool:
    return host.run(["curl", "-s", host.ipv4], check=False).returncode == 0


@dataclass
class Farm:
    client: Host
    servers: list[Host]
    network: Network
    made: Balancer

    def is_ready(self) -> bool:
        return all(row["health"] == "open" for row in self.made.show()) and all(
            self.made.choices[number * 1024 + 1023] for number in {vip for vip, _, _ in self.made.numbers.values()})

    def ask(self, six: bool) -> str:
        address = f"[{VIPS[six]}]" if six else VIPS[six]
        return self.client.run(["curl", "-s", "-m", "10", f"http://{address}/"], check=False).stdout.strip()

    def dropped(self) -> dict[str, dict[str, int]]:
        """By function, what was lost; that neighbors ask after each other again and again is nothing."""
        lost = {name: {reason: count for reason, count in drops.items() if reason != "HEARD"}
                for name, drops in self.network.drops.items()}
        return {name: drops for name, drops in lost.items() if drops}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@contextmanager
def farm(images: Cache, wanted: list[dict[str, Any]], cut: bool = False) -> Iterator[Farm]:
    with Lab() as lab:
        client, *servers = lab.hosts("client", "one", "two")
        left, right = lab.cable("left", "right", mtu=1500)
        if cut:
            for name in ("left", "right"):
                offloads.change(name, {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, lab.namespace)
        for host in servers:
            with host.namespace.entered():      # nobody else tells where the VIP is
                Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
                Path("/proc/sys/net/ipv4/conf/all/arp_announce").write_text("2")
            host.run(["ip", "addr", "add", f"{VIPS[False]}/32", "dev", "lo"])
            host.run(["ip", "addr", "add", f"{VIPS[True]}/128", "dev", "lo", "nodad"])
            # Linux asks for neighbors from here, when what waits for the answer is of an address of another device.
            host.run(["ip", "addr", "add", f"fe80::{host.number}/64", "dev", "eth0", "nodad"])
        made = Balancer(mac=OWN, addresses=["10.0.0.250/24", "fd00::fa/64"], slots=1024, vips=wanted)
        with Network("farm", namespace=lab.namespace, cache=images) as network:
            network.add("balancer", made)
            network.add("switch", Switch())
            for host in servers:
                network.add(host.name, Decapsulator(
                    addresses=[host.ipv4, host.ipv6], senders=["10.0.0.250/32", "fd00::fa/128"],
                    destinations=[f"{VIPS[False]}/32", f"{VIPS[True]}/128"]))
                network.link(f"switch:{host.number}", f"{host.name}:outside")
                network.attach(f"{host.name}:inside", Edge(host.index))
            network.attach("balancer:outside", Edge(client.index))
            network.attach("balancer:inside", Edge(left, peer=False))
            network.attach("switch:0", Edge(right, peer=False))
            with served(network):
                found = Farm(client, servers, network, made)
                assert until(found.is_ready)
                yield found


@pytest.mark.parametrize("crossed", [False, True], ids=["same", "crossed"])
def test_everybody_serves(crossed: bool, images: Cache, tmp_path: Path) -> None:
    """nginx and wrk, unmodified, by both families, through tunnels of the same and of the other; checks pass."""
    with farm(images, vips(*SERVERS, crossed=crossed)) as found:
        for host in found.servers:
            place = tmp_path / host.name
            place.mkdir()
            (place / "conf").write_text(NGINX.format(place=place, number=host.number))
            host.start(["nginx", "-c", str(place / "conf")], stdout=DEVNULL, stderr=DEVNULL)
            assert until(partial(answers, host))
        found.network.reconfigure("balancer", vips=vips(*SERVERS, crossed=crossed, check={"way": "tcp"}))
        assert until(found.is_ready)
        for six in (False, True):
            assert set(Counter(found.ask(six) for _ in range(16))) == {"2", "3"}
            address = f"[{VIPS[six]}]" if six else VIPS[six]
            done = found.client.run(["wrk", "-t1", "-c30", "-d1s", f"http://{address}/"])
            requests = re.search(r"(\d+) requests in", done.stdout)
            assert requests is not None and int(requests[1]) > 100
            assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_bulk(six: bool, cut: bool, images: Cache, nightly: bool) -> None:
    """Every byte arrives, and datagrams that left as one; the client, whose device takes 1,500, learns what fits."""
    megabytes, room = 1_024 if nightly else 8, 1460 if six else 1480
    block = random.Random(3).randbytes(1 << 20)
    family, address = (socket.AF_INET6 if six else socket.AF_INET), VIPS[six]
    wanted = [*vips(2, port=5000), *vips(2, port=5000, protocol="udp")]
    with farm(images, wanted, cut) as found, found.servers[0].socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 5000))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with found.client.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(60)
                sender.connect((address, 5000))
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
        digest, whole = hashlib.sha256(), hashlib.sha256()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 16):
                digest.update(part)
            connection.sendall(block)
        thread.join()
        for _ in range(megabytes):
            whole.update(block)
        assert digest.hexdigest() == whole.hexdigest()
        assert returned == [hashlib.sha256(block).hexdigest()]
        learned = found.client.run(["ip", "route", "get", address]).stdout
        assert f"mtu {room}" in learned, learned
        assert found.made.noted.read(Note.TOO_BIG).packets > 0

        with found.servers[0].socket(family, socket.SOCK_DGRAM) as server, \
                found.client.socket(family, socket.SOCK_DGRAM) as sender:
            server.bind((address, 5000))
            server.settimeout(10)
            sender.sendmsg([block[:1200 * 20 + 7]], [(socket.IPPROTO_UDP, ONE_DATAGRAM, struct.pack("H", 1200))], 0,
                           (address, 5000))
            got = [server.recv(2000) for _ in range(21)]
        assert got == [block[place:place + 1200] for place in range(0, 1200 * 20, 1200)] + [block[1200 * 20:][:7]]
        assert not found.dropped(), found.dropped()
