"""The examples' documents carry the packets that they say they do.

Their endpoints are attached to hosts here by device, whatever they are attached to on their readers' machines.
"""
from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iovisor.kernel import Netlink, NetworkNamespace, Program, addresses, interfaces, routes
from iovisor.kernel.assembler import R1, R2, R3, R4, R6, R10, Helper, Line, call, compute, jump_if, load, move
from iovisor.kernel.programs import statistics_enabled
from iovisor.model.reading import read
from iovisor.testing.packets import ethernet, ipv4, tcp
from tests.control.conftest import Platforms, apply
from tests.fabric.hosts import FAR, Host, Place
from tests.fabric.test_dhcp_clients import program
from tests.fabric.test_early import counting
from tests.waiting import until

pytestmark = pytest.mark.root
EXAMPLES = Path(__file__).parents[2] / "examples"
Places = Callable[[int], Place]


def rebound(text: str, at: Place, **beyond: str) -> tuple[str, dict[str, Host]]:
    """The documents, attached to hosts that have their endpoints' addresses; and the hosts, by what stood there.

    `beyond` has the addresses of hosts that stand behind devices and TAPs.
    """
    hosts: dict[str, Host] = {}
    for document in read(text, "example"):
        data = document.plain()
        for endpoint in data.get("endpoints", {}).values():
            where = next(endpoint[way] for way in ("netns", "device", "tap") if way in endpoint)
            host = hosts[where] = at.hosts[len(hosts)]
            if where in beyond:
                endpoint = {"address": beyond[where]}
            with Netlink(host.namespace) as netlink:
                if "mac" in endpoint:
                    netlink.submit(interfaces.change("eth0", mac=bytes.fromhex(endpoint["mac"].replace(":", ""))))
                if "address" in endpoint:
                    netlink.submit(addresses.add(FAR + host.number, endpoint["address"]))
                if "gateway" in endpoint:
                    netlink.submit(routes.add("0.0.0.0/0", gateway=endpoint["gateway"]))
    return re.sub(r"(netns|device|tap): ([\w-]+)", lambda found: f"device: p{hosts[found[2]].number}", text), hosts


@contextmanager
def saying(what: bytes, host: Host, port: int) -> Iterator[None]:
    """A server that says one thing to whoever connects."""
    def serve() -> socket.socket:
        made = socket.create_server(("", port))
        made.settimeout(20)
        return made
    listening = host.namespace.run(serve)

    def answer() -> None:
        try:
            while True:
                with listening.accept()[0] as connection:
                    connection.sendall(what)
        except OSError:
            return
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def heard(host: Host, address: str, port: int, patience: float = 10.0) -> bytes | None:
    """What a server says; None if none is reached."""
    def ask() -> bytes | None:
        try:
            with socket.create_connection((address, port), timeout=patience) as connection:
                return connection.recv(100)
        except OSError:
            return None
    return host.namespace.run(ask)


def talked(function: Any) -> set[str]:
    return {talk["address"] for talk in function.act("most", {})}


def address_of(name: str, server: str) -> str:
    """What a name server answers to a question for an IPv4 address; empty if that is none."""
    words = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + words + b"\0\0\1\0\1", (server, 53))
        answer = asking.recv(512)
    return socket.inet_ntoa(answer[-4:]) if answer[:2] == b"\x12\x34" and answer[7] else ""


def shown(function: Any) -> Any:
    return function.show()


def said(host: Host, *command: str) -> str:
    done = host.namespace.execute(command, capture_output=True, text=True, check=False, timeout=60)
    output: str = done.stdout + done.stderr
    return output


def pings(host: Host, address: str, patience: int = 10) -> bool:
    done = host.namespace.execute(["ping", "-c", "1", "-W", str(patience), address], capture_output=True, check=False)
    return done.returncode == 0


def test_two_tenants_with_the_same_addresses(place: Places, platform: Platforms) -> None:
    at = place(6)
    text, hosts = rebound((EXAMPLES / "two-tenants.yaml").read_text(), at)
    apply(platform(at), text)
    with saying(b"acme", hosts["acme-db"], 5432), saying(b"zenith", hosts["zenith-db"], 5432), \
            saying(b"hidden", hosts["acme-db"], 22):
        for tenant in ("acme", "zenith"):
            assert heard(hosts[f"{tenant}-web"], "10.1.0.20", 5432) == tenant.encode()
            assert pings(hosts[f"{tenant}-web"], "10.1.0.12") and not pings(hosts[f"{tenant}-web"], "10.1.0.20", 1)
        assert heard(hosts["acme-web"], "10.1.0.20", 22, 1) is None


def test_a_chain_with_a_function_of_ones_own(place: Places, platform: Platforms) -> None:
    at = place(3)
    text, hosts = rebound((EXAMPLES / "service-chain.yaml").read_text(), at)
    here = platform(at)
    apply(here, text, {"talkers.py": (EXAMPLES / "talkers.py").read_text()})
    with saying(b"page", hosts["server"], 80), saying(b"hidden", hosts["server"], 81):
        assert heard(hosts["client"], "10.2.0.20", 80) == b"page"
        assert heard(hosts["client"], "10.2.0.20", 81, 1) is None
    assert pings(hosts["client"], "10.2.0.21")
    most = here.call("acme", "chain", lambda running: talked(running.instances["count"].function))
    assert most == {"10.2.0.10", "10.2.0.20", "10.2.0.21"}


def test_three_tiers(place: Places, platform: Platforms) -> None:
    at = place(6)
    text, hosts = rebound((EXAMPLES / "three-tier.yaml").read_text(), at)
    here = platform(at)
    apply(here, text)
    customer, web1, app1, db1 = (hosts[f"acme-{name}"] for name in ("customer", "web1", "app1", "db1"))
    with saying(b"one", web1, 80), saying(b"two", hosts["acme-web2"], 80), saying(b"app", app1, 8080), \
            saying(b"rows", db1, 5432), saying(b"hidden", web1, 22):
        # Behind each of 40 connections is a server, once the checks, which a busy machine fails, agree that both are.
        assert until(lambda: {heard(customer, "10.1.1.100", 80, 1) for _ in range(40)} == {b"one", b"two"})
        assert pings(customer, "10.1.1.100")
        assert heard(web1, "10.1.2.11", 8080) == b"app" and heard(app1, "10.1.3.11", 5432) == b"rows"
        assert heard(customer, "10.1.1.11", 22, 1) is None and heard(customer, "10.1.2.11", 8080, 1) is None
        assert heard(web1, "10.1.3.11", 5432, 1) is None
        apply(here, text.replace("{address: 10.1.1.12}", "{address: 10.1.1.12, drain: true}"))
        assert {heard(customer, "10.1.1.100", 80) for _ in range(40)} == {b"one"}


def test_a_campus(place: Places, platform: Platforms, tmp_path: Path) -> None:
    at = place(5)
    text, hosts = rebound((EXAMPLES / "campus.yaml").read_text(), at,
                          **{"eno2": "192.0.2.1/30", "tap-camera": "10.30.0.1/24"})
    with Netlink(hosts["eno2"].namespace) as netlink:
        netlink.submit(routes.add("10.10.0.0/24", gateway="192.0.2.2"))
    here = platform(at)
    apply(here, text)
    alice, bob, camera, recorder, world = (hosts[name] for name in ("alice", "bob", "tap-camera", "recorder", "eno2"))
    assert until(lambda: pings(alice, "10.10.0.2", 1), 40) and until(lambda: pings(camera, "10.30.0.2", 1), 40)
    assert until(lambda: pings(alice, "10.10.0.254", 1), 40)
    assert pings(world, "10.10.0.2") and pings(alice, "192.0.2.1")
    with Netlink(camera.namespace) as netlink:
        netlink.submit(addresses.add(FAR + camera.number, "10.10.0.77/24"))
    assert not pings(camera, "10.10.0.2", 1)
    for host in (bob, recorder):
        host.captured()
    shouts = [alice.frame(None, b"shout" + bytes([number])) for number in range(50)]
    for shout in shouts:
        alice.socket.send(shout)
    assert sorted(frame for frame in bob.captured(50) if b"shout" in frame) == shouts      # a ring, and each comes once
    assert not [frame for frame in recorder.captured() if b"shout" in frame]
    with alice.namespace.entered():
        Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("0")
    assert until(lambda: re.search("fe80::.* link *$", said(alice, "ip", "-6", "address"), re.M) is not None)
    told = said(alice, program("rdisc6"), "-1", "eth0")
    assert re.search(r"Stateful address conf. *: *Yes", told) and re.search(r"Autonomous address conf. *: *No", told)
    files = ["-lf", str(tmp_path / "leases"), "-pf", str(tmp_path / "pid"), "-sf", "/bin/true", "-cf", "/dev/null"]
    bound = said(alice, program("dhclient"), "-6", "-v", "-1", *files, "eth0")
    (lease,) = here.call("campus", "buildings", lambda running: shown(running.instances["leases"].function))
    said(alice, program("dhclient"), "-6", "-r", *files, "eth0")
    assert f"IAADDR {lease['address']}" in bound and lease["address"].startswith("2001:db8:10::1:")


def blocked() -> list[Line]:
    """Packets from 198.51.100.0/24 hit."""
    return [move(R1, R6), move(R2, 26), move(R3, R10), compute(R3, "+", -8), move(R4, 4), call(Helper.PACKET_LOAD),
            load(R2, R10, -8, 4), compute(R2, "&", 0xffffff, 32), jump_if(R2, "==", 0x6433c6, "hit")]


@contextmanager
def early(index: int, namespace: NetworkNamespace) -> Iterator[Program]:
    """The XDP program of a device."""
    with Netlink(namespace) as netlink:
        there = interfaces.find(netlink, index)
    assert there is not None and there.xdp_program
    with Program.from_id(there.xdp_program) as program:
        yield program


def test_a_scrubber(place: Places, platform: Platforms) -> None:
    at = place(3)
    text, hosts = rebound((EXAMPLES / "ddos-scrubber.yaml").read_text(), at, eno2="203.0.113.1/24")
    here = platform(at)
    apply(here, text)
    server, probe, world = (hosts[name] for name in ("server", "probe", "eno2"))

    def syn(source: str) -> bytes:
        return bytes(ethernet(dst=int.from_bytes(server.mac), src=int.from_bytes(world.mac))
                     / ipv4(src=source, dst="203.0.113.10") / tcp(src=4000, dst=80, flags=2))
    with saying(b"page", server, 80):
        assert heard(world, "203.0.113.10", 80) == b"page"
        for host in (server, probe):
            host.captured()
        with statistics_enabled(), early(world.device, at.switching) as program, \
                counting(blocked(), world.device, at.switching) as came:
            for number in range(1, 201):
                world.socket.send(syn(f"198.51.100.{number}"))          # blocked
                world.socket.send(syn(f"192.0.2.{number}"))             # forged: nobody there proves anything
            assert heard(world, "203.0.113.10", 80) == b"page"
            every, bad = came()
            assert bad == 0 and every >= 200 and program.info().run_count >= 400 + every - 200, "they ended at XDP"
    drops, counts = here.call("edge", "scrubber", lambda running: (
        running.drops["scrub"], shown(running.instances["scrub"].function)))
    assert drops["BLOCKED"] == 200 and counts["answered"] >= 200
    for host in (server, probe):
        seen = host.captured(1)
        assert seen and not [frame for frame in seen if frame[26:29] in (b"\xc6\x33\x64", b"\xc0\x00\x02")]


LEASED = """#!/bin/sh
[ "$1" = bound ] || exit 0
PATH=$PATH:/sbin:/usr/sbin
ip address flush dev $interface
ip address add $ip/$mask dev $interface
ip route replace default via $router
"""


def test_a_home(place: Places, platform: Platforms, tmp_path: Path) -> None:
    at = place(4)
    text, hosts = rebound((EXAMPLES / "home-router.yaml").read_text(), at, eno2="203.0.113.1/24")
    here = platform(at)
    apply(here, text)
    (script := tmp_path / "leased").write_text(LEASED)
    script.chmod(0o755)
    laptop, phone, nas, world = (hosts[name] for name in ("laptop", "phone", "nas", "eno2"))
    for host in (laptop, phone, nas):
        asked = [program("udhcpc"), "-i", "eth0", "-f", "-n", "-q", "-t", "10", "-T", "2", "-s", str(script)]
        host.namespace.execute(asked, capture_output=True, timeout=60)
    with saying(b"page", world, 80), saying(b"disk", nas, 443), saying(b"hidden", nas, 22):
        assert {heard(host, "203.0.113.1", 80) for host in (laptop, phone, nas)} == {b"page"}
        assert [heard(host, "203.0.113.2", 8443) for host in (world, laptop, nas)] == [b"disk"] * 3
        assert pings(laptop, "203.0.113.2"), "the router's own"
        assert heard(laptop, "192.168.1.10", 22) == b"hidden"
        assert heard(world, "203.0.113.2", 22, 1) is None and not pings(world, "192.168.1.10", 1)
        assert pings(phone, "203.0.113.1")
    assert laptop.namespace.run(lambda: address_of("nas.home.arpa", "192.168.1.3")) == "192.168.1.10"
    leases = here.call("home", "house", lambda running: shown(running.instances["dhcp"].function))
    assert {lease["state"] for lease in leases} == {"bound"} and len(leases) == 3
    assert "192.168.1.10" in {lease["address"] for lease in leases}
