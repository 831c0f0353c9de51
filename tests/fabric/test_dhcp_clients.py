"""Real DHCP clients, unmodified, and the server in a network: udhcpc, dhclient, dhcpcd, dhcping and nmap's scripts.

    clients ── switch ── dhcp
"""
from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Network
from iovisor.functions.dhcp import Dhcp
from iovisor.functions.dhcp_relay import DhcpRelay
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from tests.fabric.hosts import Host, Place
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
SUBNET: dict[str, Any] = {
    "prefix": "10.1.0.0/24", "pools": ["10.1.0.11-10.1.0.50"], "routers": ["10.1.0.1"], "dns": ["10.1.0.53"],
    "domain": "acme.test", "mtu": 1450, "routes": [{"to": "192.0.2.0/24", "via": "10.1.0.254"}]}


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert found is not None, f"{name} is missing: ./bootstrap installs it"
    return found


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What a client calls with its news: it writes them down, and changes nothing."""
    path = tmp_path / "script"
    path.write_text(f'#!/bin/sh\n(echo "event $1 $reason"; env) >> {tmp_path}/told\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@contextmanager
def network(at: Place) -> Iterator[Dhcp]:
    with Network("lan", namespace=at.switching) as net:
        dhcp = Dhcp(server="10.1.0.1", mac="02:00:00:00:00:d1", subnets=[SUBNET],
                    reservations=[{"mac": "02:00:00:00:00:02", "address": "10.1.0.7", "name": "printer"}])
        net.add("lan", Switch())
        net.add("dhcp", dhcp)
        net.link("lan:9", "dhcp:lan")
        for number, host in enumerate(at.hosts):
            net.attach(f"lan:{number}", host.edge)
            host.socket.close()
        with served(net):
            yield dhcp


def run(host: Host, *command: str) -> str:
    done = host.namespace.execute(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    output: str = done.stdout + done.stderr
    return output


def test_udhcpc(place: Callable[[int], Place], script: Path) -> None:
    at = place(2)
    with network(at) as dhcp:
        common = (program("udhcpc"), "-i", "eth0", "-f", "-n", "-t", "5", "-T", "2", "-s", str(script), "-O", "121",
                  "-O", "mtu", "-q")
        for host, address, *more in ((at.hosts[0], "10.1.0.11"), (at.hosts[1], "10.1.0.7", "-B")):
            assert f"lease of {address} obtained" in run(host, *common, *more)
        told = (script.parent / "told").read_text()
        for line in ("ip=10.1.0.11", "subnet=255.255.255.0", "router=10.1.0.1", "dns=10.1.0.53", "domain=acme.test",
                     "mtu=1450", "lease=3600", "serverid=10.1.0.1", "ip=10.1.0.7", "hostname=printer",
                     "staticroutes=192.0.2.0/24 10.1.0.254 0.0.0.0/0 10.1.0.1"):
            assert f"\n{line}\n" in told, told
        assert {row["state"] for row in dhcp.show()} == {"bound"}


def test_dhclient(place: Callable[[int], Place], script: Path) -> None:
    at, folder = place(1), script.parent
    with network(at) as dhcp:
        files = ("-lf", f"{folder}/leases", "-pf", f"{folder}/pid", "-sf", str(script), "-cf", "/dev/null")
        told = run(at.hosts[0], program("dhclient"), "-4", "-1", "-v", *files, "eth0")
        assert "DHCPACK of 10.1.0.11 from 10.1.0.1" in told and "bound to 10.1.0.11 -- renewal in" in told
        assert [row["state"] for row in dhcp.show()] == ["bound"]
        assert "DHCPRELEASE of 10.1.0.11" in run(at.hosts[0], program("dhclient"), "-4", "-r", "-v", *files, "eth0")
        # The release goes to an address that this host, whose script does nothing, has no route to.
        assert "fixed-address 10.1.0.11;" in (folder / "leases").read_text()


def test_dhcpcd(place: Callable[[int], Place], script: Path) -> None:
    """It forks helpers that outlive it and keep its pipes: all of them are in a PID namespace, which ends with it; and
    what it remembers, in file systems of its own."""
    at = place(2)
    apart = (program("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
             'for each in /run /var/lib/dhcpcd; do mount -t tmpfs none $each || exit; done; exec "$@"', "-")
    with network(at) as dhcp, (script.parent / "output").open("w+") as output:
        common: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        client = (*apart, program("dhcpcd"), "-4", "-L", "--noconfigure")
        # Its end is not looked at: 9.4.1 has told all, and crashes then.
        at.hosts[1].namespace.execute([*client, "-T", "eth0"], check=False, timeout=60, **common)
        output.seek(0)
        told = output.read()
        for line in ("ip_address='10.1.0.7'", "subnet_mask='255.255.255.0'", "routers='10.1.0.1'",
                     "host_name='printer'", "domain_name='acme.test'", "domain_name_servers='10.1.0.53'",
                     "dhcp_lease_time='3600'", "dhcp_renewal_time='1800'", "dhcp_rebinding_time='3150'",
                     "interface_mtu='1450'",
                     "broadcast_address='10.1.0.255'", "dhcp_server_identifier='10.1.0.1'",
                     "classless_static_routes='192.0.2.0/24 10.1.0.254 0.0.0.0/0 10.1.0.1'"):
            assert f"\nnew_{line}\n" in told, told
        with at.hosts[0].namespace.popen([*client, "-B", "-c", str(script), "eth0"], **common) as running:
            try:
                assert until(lambda: ("10.1.0.11", "bound") in {(row["address"], row["state"]) for row in dhcp.show()})
            finally:
                running.kill()


def test_nmap(place: Callable[[int], Place]) -> None:
    """Its scripts ask under hardware addresses that nobody has, and by INFORM."""
    at = place(1)
    with network(at) as dhcp:
        for change in (("flush", "dev", "eth0"), ("add", "10.1.0.12/24", "dev", "eth0")):
            run(at.hosts[0], program("ip"), "addr", *change)
        told = run(at.hosts[0], program("nmap"), "-n", "--script", "broadcast-dhcp-discover", "--script-args",
                   "broadcast-dhcp-discover.timeout=2", "-e", "eth0", "-sn", "10.1.0.1")
        common = ["Server Identifier: 10.1.0.1", "Subnet Mask: 255.255.255.0", "Router: 10.1.0.1",
                  "Domain Name Server: 10.1.0.53", "Domain Name: acme.test", "Interface MTU: 1450",
                  "Broadcast Address: 10.1.0.255"]
        for line in ("Response 1 of 1", "IP Offered: 10.1.0.11", "DHCP Message Type: DHCPOFFER",
                     "IP Address Lease Time: 1h00m00s", "Renewal Time Value: 30m00s", "Rebinding Time Value: 52m30s",
                     *common):
            assert line in told, told
        assert [(row["mac"], row["state"]) for row in dhcp.show()] == [("02:00:00:00:00:01", "offered")]
        told = run(at.hosts[0], program("nmap"), "-n", "-sU", "-p67", "--script", "dhcp-discover", "10.1.0.1")
        for line in ("67/udp open", "DHCP Message Type: DHCPACK", *common):
            assert line in told, told
        assert "Lease Time" not in told and len(dhcp.show()) == 1


def test_dhcping(place: Callable[[int], Place]) -> None:
    at = place(1)
    with network(at) as dhcp:
        for change in (("flush", "dev", "eth0"), ("add", "10.1.0.12/24", "dev", "eth0")):
            run(at.hosts[0], program("ip"), "addr", *change)
        dhcping = (program("dhcping"), "-c", "10.1.0.12", "-s", "10.1.0.1", "-t", "20")
        assert run(at.hosts[0], *dhcping, "-i") == "Got answer from: 10.1.0.1\n"
        assert dhcp.show() == []


def test_through_a_relay(place: Callable[[int], Place], script: Path) -> None:
    """clients ── lan ── router ── far ── dhcp, and a relay on lan."""
    at = place(2)
    with Network("lan", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.add("far", Switch())
        net.add("dhcp", Dhcp(server="10.2.0.1", mac="02:00:00:00:00:d1", subnets=[
            SUBNET, {"prefix": "10.2.0.0/24"}]))
        net.add("relay", DhcpRelay(address="10.1.0.2", mac="02:00:00:00:00:d2", servers=["10.2.0.1"],
                                   gateway="10.1.0.1", circuit="lan"))
        net.add("router", Router(interfaces={
            0: {"mac": "02:00:00:00:00:e0", "addresses": ["10.1.0.1/24"]},
            1: {"mac": "02:00:00:00:00:e1", "addresses": ["10.2.0.254/24"]}}))
        net.link("lan:9", "relay:lan")
        net.link("lan:8", "router:0")
        net.link("router:1", "far:8")
        net.link("far:9", "dhcp:lan")
        for number, host in enumerate(at.hosts):
            net.attach(f"lan:{number}", host.edge)
            host.socket.close()
        with served(net):
            for host, address in zip(at.hosts, ("10.1.0.11", "10.1.0.12"), strict=True):
                said = run(host, program("udhcpc"), "-i", "eth0", "-f", "-n", "-t", "10", "-T", "2", "-s", str(script),
                           "-q")
                assert f"lease of {address} obtained from 10.2.0.1" in said
