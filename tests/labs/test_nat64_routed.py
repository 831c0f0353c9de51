"""nat64 between two routers, as its manual shows it: the manual's own document, and programs from Debian."""
from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import iovisor.functions.nat64 as manual
from iovisor.compiler.cache import Cache
from iovisor.control.kinds import Kinds
from iovisor.fabric import Edge, Network
from iovisor.model import load
from iovisor.model.schema import Network as Shape
from iovisor.testing import Host, Lab
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

SERVER = "64:ff9b::198.51.100.7"


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host, Network]]:
    """A laptop that configures itself from the router's advertisements, and a server that never heard of IPv6."""
    text = re.search(r"```yaml document\n(.*?)```", manual.__doc__ or "", re.S)
    assert text
    kinds = Kinds()
    document, = load(text[1], "page.yaml", kinds)
    wanted = document.content
    assert isinstance(wanted, Shape)
    with Lab() as lab:
        laptop, server = lab.hosts("laptop", "server")
        for host in (laptop, server):
            host.run(["ip", "addr", "flush", "dev", "eth0"])
        server.run(["ip", "addr", "add", "198.51.100.7/24", "dev", "eth0"])
        server.run(["ip", "route", "add", "default", "via", "198.51.100.254"])
        for name, value in (("accept_ra", 2), ("autoconf", 1), ("disable_ipv6", 1), ("disable_ipv6", 0)):
            laptop.run(["sh", "-c", f"echo {value} > /proc/sys/net/ipv6/conf/eth0/{name}"])
        with Network("campus", namespace=lab.namespace, cache=Cache(tmp_path_factory.mktemp("images"))) as network:
            for name, function in wanted.functions.items():
                kind = kinds.find(function.kind)
                network.add(name, kind.made(config=kind.config(function.config)))
            network.link("edge:1", "across:inside")
            network.link("across:outside", "core:0")
            network.attach("edge:0", Edge(laptop.index))
            network.attach("core:1", Edge(server.index))
            with served(network):
                yield laptop, server, network


def test_a_laptop_finds_a_server(campus: tuple[Host, Host, Network]) -> None:
    laptop, server, _ = campus
    assert until(lambda: laptop.ping(SERVER, count=1, six=True) == 1)
    web = server.start(["python3", "-m", "http.server", "--bind", "198.51.100.7", "80", "--directory", "/etc"])
    try:
        assert until(lambda: "127.0.0.1" in laptop.run(
            ["curl", "-s", "-g", f"http://[{SERVER}]/hosts"], check=False).stdout)
    finally:
        web.terminate()
        web.wait(10)


def test_every_hop_has_a_name(campus: tuple[Host, Host, Network]) -> None:
    laptop, _, _ = campus
    assert until(lambda: laptop.ping(SERVER, count=1, six=True) == 1)
    traced = laptop.run(["traceroute", "-6", "-n", "-q", "1", "-m", "6", SERVER]).stdout.splitlines()
    assert [line.split()[1] for line in traced[1:]] == [
        "2001:db8:1::1", "64:ff9b::cb00:7101", "64:ff9b::cb00:71fe", "64:ff9b::c633:6407"], traced
