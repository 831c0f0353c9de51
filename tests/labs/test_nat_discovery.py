"""What programs that look for it find out about nat: coturn's discovery (RFC 5780) and the older stun (RFC 3489).

    inside ── nat ── outside, where coturn serves STUN under two addresses

They ask from where they are, and nobody tells them that there is a nat.  What is wanted is endpoint-independent mapping
with either of the filters that RFC 4787 recommends, hairpins in any case.
"""
from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nat import Nat
from iovisor.testing import Host, Lab
from tests.labs.test_nat import settle
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
HOME, OURS, ONE, TWO = "10.1.0.2", "192.0.2.1", "198.51.100.10", "198.51.100.12"
REQUEST = bytes.fromhex("0001 0000 2112a442") + bytes(12)       # a binding request (RFC 8489 section 5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@contextmanager
def asked(filtering: str, images: Cache, tmp: Path) -> Iterator[Host]:
    """Whoever is inside, when the server answers."""
    with Lab() as lab:
        inside, outside = lab.hosts("inside", "outside")
        settle(inside, outside, [f"{HOME}/32"], [ONE, TWO, OURS])
        settle(outside, inside, [f"{ONE}/32", f"{TWO}/32"], [OURS])
        with lab.join(Nat(addresses=[OURS], filtering=filtering), [inside, outside], cache=images):
            outside.start(["turnserver", "-n", "--stun-only", "-L", ONE, "-L", TWO, "--no-cli", "--no-tls", "--no-dtls",
                           "--simple-log", "--log-file", "stdout", "--pidfile", str(tmp / "pid"),
                           "--userdb", str(tmp / "users")], stdout=DEVNULL, stderr=DEVNULL, cwd=tmp)
            with inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as early:
                early.settimeout(0.1)

                def is_there() -> bool:
                    early.sendto(REQUEST, (ONE, 3478))
                    try:
                        return early.recv(1000)[:2] == b"\x01\x01"
                    except TimeoutError:
                        return False
                assert until(is_there)
            yield inside


@pytest.mark.parametrize(("filtering", "coturn", "stun"), [
    ("address_dependent", "Address Dependent Filtering", "Address Dependent Filter"),
    ("endpoint_independent", "Endpoint Independent Filtering", "Independent Filter"),
    ("port_dependent", "Address and Port Dependent Filtering", "Port Dependent Filter")])
def test_what_is_found_out(filtering: str, coturn: str, stun: str, images: Cache, tmp_path: Path,
                           nightly: bool) -> None:
    if filtering == "port_dependent" and not nightly:
        pytest.skip("nightly: its silences take time, as those of address_dependent do")
    with asked(filtering, images, tmp_path) as inside:
        found = "".join(inside.run(["turnutils_natdiscovery", way, ONE], check=False).stdout for way in ("-m", "-f"))
        assert "NAT with Endpoint Independent Mapping!" in found, found
        assert f"NAT with {coturn}!" in found, found
        found = inside.run(["turnutils_natdiscovery", "-H", ONE], check=False).stdout
        assert "a successful hairpinning" in found, found
        done = inside.run(["stun", ONE, "-v"], check=False)
        assert f"Independent Mapping, {stun}, preserves ports, will hairpin" in done.stdout, done.stdout + done.stderr
