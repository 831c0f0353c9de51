"""Every mixture of offloads, through everything that a home has: no stack ever counts a wrong checksum.

    inside ── lan ── router ── wall ── nat ── outside

What comes is then whole or an aggregate of up to 64 kB, with a checksum or without one that is finished, joined by the
receiving device or not, for links of 1,500 and of 9,000 bytes.
"""
from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.firewall import Firewall
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.language import mac_text
from iovisor.testing import Host, Lab
from tests.labs.test_nat import PORT, carry
from tests.labs.test_router import errors

pytestmark = [pytest.mark.root, pytest.mark.lab]
MACS = ["02:00:00:00:01:00", "02:00:00:00:01:01"]
FAMILIES = [(socket.AF_INET, "10.1.0.2", "192.0.2.1", "192.0.2.9"),
            (socket.AF_INET6, "fd01::2", "2001:db8::1", "2001:db8::9")]        # inside, shown, outside
STATIC = [{"outside": shown, "inside": inside, "protocol": "tcp", "outside_ports": 8080, "inside_ports": PORT}
          for _, inside, shown, _ in FAMILIES]
RULES = [{"action": "accept", "direction": "out"},
         {"action": "accept", "direction": "in", "protocol": "tcp", "destination_ports": PORT}]


@dataclass
class Home:
    lab: Lab
    inside: Host
    outside: Host
    network: Network

    def offload(self, wanted: dict[Offload, bool], mtu: int) -> None:
        """For both hosts, and the devices at which the network meets what they send."""
        for host in (self.inside, self.outside):
            host.run(["ip", "link", "set", "eth0", "mtu", str(mtu)])
            for device, where in (("eth0", host.namespace), (f"to-{host.name}", self.lab.namespace)):
                offloads.change(device, wanted, where)
                found = offloads.read(device, where)
                assert all(found[one] == on for one, on in wanted.items())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Lab(mtu=9000) as lab:
        inside, outside = lab.hosts("inside", "outside")
        near = []
        for port, host in enumerate((inside, outside)):
            host.run(["ip", "addr", "flush", "dev", "eth0"])
            for _, home4, shown, far in FAMILIES:
                length = 64 if ":" in far else 24
                host.run(["ip", "addr", "add", f"{far if port else home4}/{length}", "dev", "eth0",
                          *(["nodad"] if length == 64 else [])])
                near.append({"port": port, "address": far if port else home4, "mac": mac_text(host.mac)})
                gateway = shown if port else home4[:-1] + "1"
                host.run(["ip", "neighbour", "add", gateway, "lladdr", MACS[port], "dev", "eth0"])
                host.run(["ip", "route", "add", "default", "via", gateway])
        router = Router(fixed=near, interfaces={
            0: {"mac": MACS[0], "addresses": ["10.1.0.1/24", "fd01::1/64"], "mtu": 9000},
            1: {"mac": MACS[1], "addresses": ["192.0.2.1/24", "2001:db8::1/64"], "mtu": 9000, "translated": True}})
        with Network("home", namespace=lab.namespace, cache=Cache(tmp_path_factory.mktemp("images"))) as network:
            network.add("lan", Switch())
            network.add("router", router)
            network.add("wall", Firewall(rules=RULES))
            network.add("nat", Nat(addresses=[shown for _, _, shown, _ in FAMILIES], static=STATIC))
            for one, other in (("lan:1", "router:0"), ("router:1", "wall:inside"), ("wall:outside", "nat:inside")):
                network.link(one, other)
            network.attach("lan:0", Edge(inside.index))
            network.attach("nat:outside", Edge(outside.index))
            yield Home(lab, inside, outside, network)


@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("joined", [True, False], ids=["gro", "no gro"])
@pytest.mark.parametrize(("unfinished", "long"), [(True, True), (True, False), (False, False)],
                         ids=["checksums and segmentation", "checksums", "neither"])
def test_tcp(unfinished: bool, long: bool, joined: bool, mtu: int, home: Home, nightly: bool) -> None:
    home.offload({Offload.TX_CHECKSUM: unfinished, Offload.SCATTER_GATHER: unfinished, Offload.SEGMENTATION: long,
                  Offload.GENERIC_SEGMENTATION: long, Offload.GENERIC_RECEIVE: joined}, mtu)
    before = errors(home.inside) + errors(home.outside)
    megabytes = 64 if nightly else 2
    for family, inside, shown, far in FAMILIES:
        assert carry(home.inside, home.outside, family, (far, PORT), (far, PORT), megabytes) == shown
        assert carry(home.outside, home.inside, family, (shown, 8080), (inside, PORT), megabytes) == far
    assert errors(home.inside) + errors(home.outside) == before
    assert not {name for instance in home.network.instances.values() for name in instance.drops
                if name.startswith(("OUT_OF", "BAD", "UNSENT", "CHECKSUM", "CLASH", "MALFORMED"))}
