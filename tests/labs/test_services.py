"""A home from end to end: programs as people use them, through a router, a firewall and nat in one network.

    one ── 10.1.0.0/24 ──┐
                         router ── wall ── nat ── far, 198.51.100.7
    two ── 10.1.1.0/24 ──┘           192.0.2.1, the router's own address
"""
from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.firewall import Firewall
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.language import mac_text
from iovisor.testing import Host, Lab
from tests.labs.test_nat import PORT, carry
from tests.labs.test_nat_routed import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
OURS, GATEWAY, FAR = "192.0.2.1", "192.0.2.254", "198.51.100.7"
MACS = [f"02:00:00:00:01:{port:02x}" for port in range(3)]
RULES = [{"action": "accept", "direction": "out"},
         {"action": "accept", "direction": "in", "protocol": "tcp", "destination": "10.1.1.2",
          "destination_ports": PORT}]
STATIC = [{"outside": OURS, "inside": "10.1.1.2", "protocol": "tcp", "outside_ports": 8080, "inside_ports": PORT}]


@dataclass
class Home:
    one: Host
    two: Host
    far: Host
    network: Network


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Lab() as lab:
        one, two, far = lab.hosts("one", "two", "far")
        for number, host in enumerate((one, two)):
            for words in ("addr flush dev eth0", f"addr add 10.1.{number}.2/24 dev eth0",
                          f"route add default via 10.1.{number}.1"):
                host.run(["ip", *words.split()])
        for words in ("addr flush dev eth0", f"addr add {GATEWAY}/24 dev eth0", f"addr add {FAR}/32 dev lo"):
            far.run(["ip", *words.split()])
        near = [(0, "10.1.0.2", one), (1, "10.1.1.2", two), (2, GATEWAY, far)]
        addresses = ["10.1.0.1/24", "10.1.1.1/24", f"{OURS}/24"]
        router = Router(
            interfaces={port: {"mac": MACS[port], "addresses": [addresses[port]], "translated": port == 2}
                        for port in range(3)},
            static=[{"to": "0.0.0.0/0", "via": [{"gateway": GATEWAY}]}],
            fixed=[{"port": port, "address": address, "mac": mac_text(host.mac)} for port, address, host in near])
        with Network("home", namespace=lab.namespace, cache=Cache(tmp_path_factory.mktemp("images"))) as network:
            network.add("router", router)
            network.add("wall", Firewall(rules=RULES))
            network.add("nat", Nat(addresses=[OURS], static=STATIC))
            network.link("router:2", "wall:inside")
            network.link("wall:outside", "nat:inside")
            network.attach("router:0", Edge(one.index))
            network.attach("router:1", Edge(two.index))
            network.attach("nat:outside", Edge(far.index))
            with served(network):
                yield Home(one, two, far, network)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that servers which give up being root can read."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


VSFTPD = """
listen=YES
listen_address={far}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_umask=022
secure_chroot_dir={empty}
seccomp_sandbox=NO
"""


def test_ftp(home: Home, place: Path) -> None:
    """Passive, the old command and the new one: the data have connections of their own, which the inside begins."""
    for name in ("root", "root/upload", "empty"):
        (place / name).mkdir()
    (place / "root/upload").chmod(0o777)
    content = bytes(range(256)) * 8_000
    (place / "root/large").write_bytes(content)
    (place / "conf").write_text(VSFTPD.format(far=FAR, root=place / "root", empty=place / "empty"))
    home.far.start(["vsftpd", str(place / "conf")])
    base = ["curl", "-sf", "-m", "20", f"ftp://{FAR}"]
    assert until(lambda: home.one.run([*base[:-1], f"{base[-1]}/"], check=False).returncode == 0)
    for number, (host, how) in enumerate([(home.one, "--ftp-pasv"), (home.one, "--disable-epsv"),
                                          (home.two, "--ftp-pasv")]):
        host.run([*base[:-1], how, f"ftp://{FAR}/large", "-o", str(place / f"got{number}")])
        assert (place / f"got{number}").read_bytes() == content
    home.two.run([*base[:-1], "-T", str(place / "got0"), f"ftp://{FAR}/upload/sent"])
    assert until(lambda: (place / "root/upload/sent").read_bytes() == content)


def test_many_requests(home: Home, place: Path) -> None:
    """nginx and wrk: many connections at once, begun again and again; not one is lost, nor anything else refused."""
    (place / "page").write_bytes(bytes(10_000))
    (place / "conf").write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log {place}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n"
        f"fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n"
        f"server {{ listen {FAR}:80; root {place}; keepalive_requests 20; }} }}\n")
    home.far.start(["nginx", "-c", f"{place}/conf"])
    assert until(lambda: home.one.run(["curl", "-sf", f"http://{FAR}/page"], check=False).returncode == 0)
    before = {name: dict(home.network.instances[name].drops) for name in ("router", "wall", "nat")}
    done = home.one.run(["wrk", "-t1", "-c50", "-d2s", f"http://{FAR}/page"])
    requests = re.search(r"(\d+) requests in", done.stdout)
    assert requests is not None and int(requests[1]) > 100
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
    assert before == {name: dict(home.network.instances[name].drops) for name in before}


def test_a_hairpin_to_the_routers_own_address(home: Home) -> None:
    """From outside, from another inside network, from the same one, and from the server itself."""
    for sender, seen in ((home.far, GATEWAY), (home.one, OURS), (home.two, OURS)):
        assert carry(sender, home.two, socket.AF_INET, (OURS, 8080), ("10.1.1.2", PORT), 2) == seen
    assert home.one.ping(OURS, count=1) == 1, "the router still answers for itself"
