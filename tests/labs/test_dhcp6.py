"""Real DHCPv6 clients, unmodified, and the server in a network: dhclient and dhcpcd.

    clients ── switch ── dhcp6
"""
from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Edge, Network
from iovisor.functions.dhcp6 import Dhcp6
from iovisor.functions.dhcp6_relay import Dhcp6Relay
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from iovisor.testing import Host, Lab
from iovisor.wire.dhcp6 import Dhcp6Type
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
MAC = "02:00:00:00:00:d6"
SUBNET: dict[str, Any] = {
    "prefix": "2001:db8:1::/64", "pools": ["2001:db8:1::1000-2001:db8:1::1fff"], "dns": ["2001:db8:1::53"],
    "search": ["acme.test"], "ntp": ["2001:db8:1::123"], "refresh": "2h",
    "delegated": [{"prefix": "2001:db8:100::/48", "length": 56}]}


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert found is not None, f"{name} is missing: ./bootstrap installs it"
    return found


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as found:
        yield found


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What a client calls with its news: it writes them down, and changes nothing."""
    path = tmp_path / "script"
    path.write_text(f'#!/bin/sh\n(echo "event $reason"; env) >> {tmp_path}/told\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def hosts(lab: Lab, *names: str) -> list[Host]:
    """Hosts with a link-local address, which hosts of a lab lack."""
    found = lab.hosts(*names)
    for host in found:
        host.run(["ip", "address", "add", f"{link(host)}/64", "dev", "eth0", "nodad"])
    return found


def link(host: Host) -> str:
    return f"fe80::ff:fe00:{host.mac & 0xff:x}"


@contextmanager
def network(lab: Lab, *members: Host, **values: Any) -> Iterator[Dhcp6]:
    with Network("lan", namespace=lab.namespace) as net:
        net.add("lan", Switch())
        dhcp = Dhcp6(**{"server": "2001:db8:1::2", "mac": MAC, "subnets": [SUBNET], "reservations": [
            {"mac": "02:00:00:00:00:02", "address": "2001:db8:1::7"}], **values})
        net.add("dhcp", dhcp)
        net.link("lan:9", "dhcp:lan")
        net.attach_all({f"lan:{number}": Edge(host.index) for number, host in enumerate(members)})
        with served(net):
            yield dhcp


class Dhclient:
    """One client's life: what it says and what it is told."""

    def __init__(self, host: Host, script: Path, *kind: str, name: str = "client") -> None:
        folder = script.parent
        self.host, self.kind = host, kind
        self.files = ["-lf", f"{folder}/{name}.leases", "-pf", f"{folder}/{name}.pid", "-sf", str(script), "-cf",
                      "/dev/null"]

    def run(self, *words: str) -> str:
        done = self.host.run([program("dhclient"), "-6", *self.kind, *words, "-v", *self.files, "eth0"], check=False,
                             timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr


def test_dhclient(lab: Lab, script: Path) -> None:
    a, b = hosts(lab, "a", "b")
    with network(lab, a, b) as dhcp:
        clients = [Dhclient(a, script, name="a"), Dhclient(b, script, name="b")]
        said = [client.run("-1") for client in clients]
        addresses = [re.findall(r"IAADDR (\S+)", one)[-1] for one in said]
        assert addresses[0].startswith("2001:db8:1::1") and addresses[1] == "2001:db8:1::7"
        assert all("Bound to lease 00:03:00:01:02:00:00:00:00:d6" in one for one in said)
        assert {row["address"]: row["state"] for row in dhcp.show()} == dict.fromkeys(addresses, "bound")
        told = (script.parent / "told").read_text()
        for line in (f"new_ip6_address={addresses[0]}", "new_dhcp6_name_servers=2001:db8:1::53", "new_max_life=3600",
                     "new_dhcp6_domain_search=acme.test.", "new_preferred_life=2250", "new_renew=1125",
                     "new_rebind=1800", "new_ip6_address=2001:db8:1::7"):
            assert f"\n{line}\n" in told, told
        for client in clients:
            assert "Forming Release" in client.run("-r")
        assert until(lambda: {row["state"] for row in dhcp.show()} == {"free"})        # it does not wait for the reply


def test_dhclient_asks_for_a_prefix_and_for_nothing(lab: Lab, script: Path) -> None:
    (a,) = hosts(lab, "a")
    with network(lab, a) as dhcp:
        client = Dhclient(a, script, "-P")
        said = client.run("-1")
        (lease,) = dhcp.show()
        assert lease["address"].endswith("/56") and f"IAPREFIX {lease['address']}" in said
        client.run("-r")
        assert until(lambda: dhcp.show()[0]["state"] == "free")
        assert "RCV: Reply message" in Dhclient(a, script, "-S", name="stateless").run("-1")
        assert dhcp.told.read(Dhcp6Type.REPLY).packets == 3 and len(dhcp.show()) == 1


def test_it_is_a_station(lab: Lab) -> None:
    (a,) = hosts(lab, "a")
    with network(lab, a):
        a.run(["ip", "address", "add", "2001:db8:1::9/64", "dev", "eth0", "nodad"])
        assert a.ping("2001:db8:1::2", six=True) == a.ping("fe80::ff:fe00:d6%eth0", six=True) == 3
        told = a.run([program("ndisc6"), "-1", "2001:db8:1::2", "eth0"]).stdout
        assert "Target link-layer address: 02:00:00:00:00:D6" in told


def test_through_a_relay_agent(lab: Lab, script: Path) -> None:
    """a ── lan ── router ── far ── dhcp6, and an agent on lan."""
    (a,) = hosts(lab, "a")
    with Network("lan", namespace=lab.namespace) as net:
        dhcp = Dhcp6(server="2001:db8:2::2", mac=MAC, subnets=[SUBNET, {"prefix": "2001:db8:2::/64"}])
        net.add("lan", Switch())
        net.add("far", Switch())
        net.add("dhcp", dhcp)
        net.add("relay", Dhcp6Relay(address="2001:db8:1::3", mac="02:00:00:00:00:d3", servers=["2001:db8:2::2"],
                                    gateway="2001:db8:1::1", interface="lan"))
        net.add("router", Router(interfaces={
            0: {"mac": "02:00:00:00:00:e0", "addresses": ["2001:db8:1::1/64"]},
            1: {"mac": "02:00:00:00:00:e1", "addresses": ["2001:db8:2::1/64"]}}))
        for one, other in (("lan:9", "relay:lan"), ("lan:8", "router:0"), ("router:1", "far:8"), ("far:9", "dhcp:lan")):
            net.link(one, other)
        net.attach_all({"lan:0": Edge(a.index)})
        with served(net):
            client = Dhclient(a, script)
            said = client.run("-1")
            (lease,) = dhcp.show()
            assert f"IAADDR {lease['address']}" in said and lease["address"].startswith("2001:db8:1::1")
            assert (lease["mac"], lease["state"]) == ("02:00:00:00:00:01", "bound")
            client.run("-r")
            assert until(lambda: dhcp.show()[0]["state"] == "free")


@contextmanager
def dhcpcd(host: Host, script: Path, *settings: str) -> Iterator[Callable[[], str]]:
    """The client, in a place of its own for what it remembers and for its helpers, which end with it; what it was told.
    """
    conf, said, told = (script.parent / name for name in ("dhcpcd.conf", "said", "told"))
    always = "ipv6only", "duid ll", "option dhcp6_name_servers, dhcp6_domain_search"
    conf.write_text("\n".join((*always, *settings)) + "\n")
    command = (f"mount -t tmpfs none /var/lib/dhcpcd && mount -t tmpfs none /run && "
               f"exec {program('dhcpcd')} -6 -B -d -f {conf} -c {script} eth0")
    told.touch()
    with said.open("w") as out:         # not a pipe: it leaves helpers behind that would hold that open
        process = host.start(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", command],
                             stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield told.read_text
        finally:
            process.kill()
            process.wait()


def test_dhcpcd(lab: Lab, script: Path) -> None:
    (a,) = hosts(lab, "a")
    with network(lab, a) as dhcp:
        with dhcpcd(a, script, "noipv6rs", "interface eth0", "ia_na 1", "ia_na 2", "ia_pd 3/::/56 -") as told:
            assert until(lambda: "event BOUND6" in told())
            leases = {row["association"]: row["address"] for row in dhcp.show()}
            assert set(leases) == {1, 2, 3} and {row["state"] for row in dhcp.show()} == {"bound"}
            here = a.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout
            assert f" {leases[1]}/128 scope global dynamic" in here and f" {leases[2]}/128 scope global dynamic" in here
            for line in ("new_dhcp6_name_servers=2001:db8:1::53", "new_dhcp6_domain_search=acme.test",
                         f"new_dhcp6_ia_pd1_prefix1={leases[3].partition('/')[0]}",
                         "new_dhcp6_ia_pd1_prefix1_length=56"):
                assert f"\n{line}\n" in told(), told()


# -- what routers say --------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[dict[str, Any], str, str]] = {
    # what the router advertises, and how rdisc6 shows M and O
    "addresses": ({"managed": True, "autonomous": False, "preference": "high", "search": ["acme.test"]}, "Yes", "Yes"),
    "news": ({"other": True, "name_servers": ["2001:db8:1::53"]}, "No", "Yes"), "nothing": ({}, "No", "No")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_does_what_the_router_says(kind: str, lab: Lab, script: Path) -> None:
    advertise, managed, other = KINDS[kind]
    (a,) = hosts(lab, "a")
    with Network("lan", namespace=lab.namespace) as net:
        dhcp = Dhcp6(server="2001:db8:1::2", mac=MAC, subnets=[SUBNET])
        net.add("lan", Switch())
        net.add("dhcp", dhcp)
        net.add("router", Router(interfaces={
            0: {"mac": "02:00:00:00:00:e0", "addresses": ["2001:db8:1::1/64"], "advertise": advertise}}))
        net.link("lan:9", "dhcp:lan")
        net.link("lan:8", "router:0")
        net.attach_all({"lan:0": Edge(a.index)})
        with served(net):
            lines = [line.partition(":") for line in a.run([program("rdisc6"), "-1", "eth0"]).stdout.splitlines()]
            told = {name.strip(): value.strip() for name, _, value in lines}
            assert (told["Stateful address conf."], told["Stateful other conf."]) == (managed, other)
            assert told["Autonomous address conf."] == ("No" if kind == "addresses" else "Yes")
            assert told["Router preference"] == ("high" if kind == "addresses" else "medium")
            assert told.get("DNS search list") == ("acme.test" if kind == "addresses" else None)
            assert told.get("Recursive DNS server") == ("2001:db8:1::53" if kind == "news" else None)
            with dhcpcd(a, script, "ipv6rs", "slaac hwaddr", "interface eth0") as heard:
                assert until(lambda: "event ROUTERADVERT" in heard())
                if kind != "nothing":
                    assert until(lambda: "\nnew_dhcp6_name_servers=2001:db8:1::53\n" in heard())
                here, own = (a.run(["ip", "-6", what, "show", "dev", "eth0"]).stdout for what in ("route", "address"))
            asked = {Dhcp6Type(number) for number, count in dhcp.asked.items() if count.packets}
            assert "default via fe80::ff:fe00:e0" in here
            assert ("inet6 2001:db8:1::ff:fe00:1/64" in own) == (kind != "addresses")
            match kind:
                case "addresses":
                    assert asked >= {Dhcp6Type.SOLICIT, Dhcp6Type.REQUEST}
                    assert f"inet6 {dhcp.show()[0]['address']}/128" in own
                case "news":
                    assert asked == {Dhcp6Type.INFORMATION_REQUEST} and dhcp.show() == []
                case "nothing":
                    assert not asked
