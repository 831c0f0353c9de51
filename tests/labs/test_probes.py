"""The router as programs that probe networks see it: arping, nping, hping3, nmap, traceroute, and THC's IPv6 suite.

    prober ── 10.1.0.0/24, 2001:db8::/64 ── router ── 10.1.1.0/24, 2001:db8:1::/64 ── target
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.router import Router
from iovisor.testing import Host, Lab
from tests.labs.test_router import served, settle
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
OURS, OURS6, TARGET, TARGET6 = "10.1.0.1", "2001:db8::1", "10.1.1.2", "2001:db8:1::2"
FAST, FASTER = ["-c", "3", "--rate", "50"], ["-c", "3", "-i", "u20000", "-I", "eth0"]


@dataclass
class Place:
    prober: Host
    target: Host


@contextmanager
def settled() -> Iterator[tuple[Lab, Place]]:
    with Lab() as lab:
        place = Place(*lab.hosts("prober", "target"))
        for number, host in enumerate((place.prober, place.target)):
            settle(host, number, 1500)
        yield lab, place


@contextmanager
def routed(images: Cache) -> Iterator[Place]:
    """Through our router."""
    router = Router(errors=100_000, interfaces={
        number: {"mac": f"02:00:00:00:01:{number:02x}",
                 "addresses": [f"10.1.{number}.1/24", f"2001:db8:{number}::1/64"]} for number in range(2)})
    with settled() as (lab, place):
        running = lab.join(router, [place.prober, place.target], cache=images)
        with served(running):
            yield place


@contextmanager
def linux() -> Iterator[Place]:
    """Through the kernel's: the lab's own end of each cable is an interface of it."""
    with settled() as (lab, place):
        with lab.namespace.entered():
            for name in ("to-prober", "to-target"):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        for number, name in enumerate(("to-prober", "to-target")):
            lab.namespace.execute(["ip", "addr", "add", f"2001:db8:{number}::1/64", "dev", name, "nodad"], check=True)
        yield place


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def place(images: Cache) -> Iterator[Place]:
    with routed(images) as made:
        assert made.prober.ping(TARGET) and made.prober.ping(TARGET6, six=True)
        yield made


@pytest.mark.parametrize(("command", "seen", "count"), [
    (["arping", "-c", "3", "-W", "0.05", "-i", "eth0", OURS], r"bytes from 02:00:00:00:01:00", 3),
    (["arping", "-c", "2", "-W", "0.05", "-i", "eth0", TARGET], r"Timeout", 2),
    (["nping", "--tcp", "-p", "9", *FAST, OURS], r"RCVD .* TCP 10.1.0.1:9 > \S+ RA ttl=64", 3),
    (["nping", "--tcp", "-p", "9", *FAST, TARGET], r"RCVD .* TCP 10.1.1.2:9 > \S+ RA ttl=63", 3),
    (["nping", "--udp", "-p", "9", *FAST, OURS], r"RCVD .*\[10.1.0.1 > 10.1.0.2 Port unreachable", 3),
    (["nping", "--icmp", "--ttl", "1", *FAST, TARGET], r"RCVD .*\[10.1.0.1 > 10.1.0.2 TTL=0 during transit", 3),
    (["hping3", "-S", "-p", "9", *FASTER, OURS], r"ip=10.1.0.1 ttl=64 DF id=0 sport=9 flags=RA", 3),
    (["hping3", "--udp", "-p", "9", *FASTER, OURS], r"ICMP Port Unreachable from ip=10.1.0.1", 3),
    (["hping3", "-S", "-p", "9", "--ttl", "1", *FASTER, TARGET], r"TTL 0 during transit from ip=10.1.0.1", 3),
    (["hping3", "--icmp", *FASTER, OURS], r"len=28 ip=10.1.0.1 ttl=64 .* icmp_seq", 3),
    (["nmap", "-n", "-Pn", "-sS", "-p", "1-100", OURS], r"100 closed tcp ports \(reset\)", 1),
    (["nmap", "-n", "-Pn", "-sU", "-p", "1-10", OURS], r"/udp +closed", 10),
    (["nmap", "-n", "-Pn", "-sO", "-p", "1,6,17", OURS], r" open ", 3),
    (["nmap", "-n", "-Pn", "-sO", "-p", "47,132", OURS], r" closed ", 2)],
    ids=lambda given: " ".join(given[:1] + given[-1:]) if isinstance(given, list) else "")
def test_a_probe(command: list[str], seen: str, count: int, place: Place) -> None:
    done = place.prober.run(command, check=False)
    assert len(re.findall(seen, done.stdout + done.stderr)) == count, done.stdout + done.stderr


@pytest.mark.parametrize("how", [["-I"], ["-T", "-p", "9"], ["-U", "-p", "9"]], ids=["icmp", "tcp", "udp"])
@pytest.mark.parametrize("six", [False, True])
def test_traceroute(how: list[str], six: bool, place: Place) -> None:
    told = place.prober.run(["traceroute", "-6" if six else "-4", "-n", "-q", "1", "-w", "10", "-m", "4", *how,
                             TARGET6 if six else TARGET]).stdout
    assert [line.split()[1] for line in told.splitlines()[1:]] == ([OURS6, TARGET6] if six else [OURS, TARGET]), told


def test_what_thc_finds_behind_us_is_what_it_finds_behind_linux(images: Cache, nightly: bool) -> None:
    """Fifty-nine questions, most of them improper, to a host behind a router: ours lets through, and refuses in the
    same words, what the kernel's does.  Each side takes two minutes, both at once."""
    if not nightly:
        pytest.skip("nightly: it takes two minutes")

    def answers(place: Place) -> list[str]:
        assert until(lambda: place.prober.ping(TARGET6, six=True, count=1) == 1)
        found = place.prober.run(["atk6-implementation6", "eth0", TARGET6], check=False, timeout=400).stdout
        return [line for line in found.splitlines() if line.startswith("Test")]

    with routed(images) as ours, linux() as theirs, ThreadPoolExecutor(2) as both:
        one, other = both.map(answers, (ours, theirs))
    assert len(one) == 59 and one == other
