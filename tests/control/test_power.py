"""Power goes: the daemon is killed and all that was in the kernel with it; leases stand all the same."""
from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.control.hosted import clear
from iovisor.kernel import filesystem
from iovisor.store import Shelf, StoreError
from iovisor.wire.dhcp import DhcpOption, DhcpType
from tests.control.conftest import ADMIN, Platforms, apply
from tests.control.test_daemon import Daemon
from tests.fabric.hosts import OUTGOING, Host, Place
from tests.fabric.test_dhcp_clients import program
from tests.fabric.test_durable import ONE, THREE, TWO, Client
from tests.functions.test_dhcp import Reply, asked, ip
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
D, R = DhcpType, DhcpOption

LAN = """
version: 1
tenant: acme
network: {network}
functions:
  lan: switch
  dhcp: {{kind: dhcp, server: 10.0.0.1, mac: 02:00:00:00:00:d1, leases: 256,
         subnets: [{{prefix: 10.0.0.0/24, pools: [10.0.0.100-10.0.0.{last}]}}]}}
endpoints:
  one: {{device: p0}}
links:
  - [one, lan]
  - [dhcp, lan]
"""


def lan(network: str = "prod", last: int = 199) -> str:
    return LAN.format(network=network, last=last)


@pytest.fixture
def daemon(place: Places, tmp_path: Path, images: Cache) -> Iterator[Daemon]:
    made = Daemon(place(1), tmp_path, images)
    yield made
    made.notices.close()
    for folder in (tmp_path / "state/networks").glob("*/*"):
        clear(folder, made.at.switching)


def reboot(daemon: Daemon, process: subprocess.Popen[str]) -> None:
    """Kill it, and take away what no reboot leaves."""
    process.kill()
    process.wait()
    boot(daemon)


def boot(daemon: Daemon) -> None:
    for folder in (daemon.folder / "state/networks").glob("*/*/bpf"):
        filesystem.unmount(folder)
    daemon.at.again()


def shown(daemon: Daemon) -> dict[str, str]:
    return {row["address"]: row["state"] for row in json.loads(
        daemon.ask("function", "run", "prod/dhcp", "show", "-o", "json").output)}


def test_leases_stand_after_a_power_cut(daemon: Daemon, tmp_path: Path) -> None:
    host = daemon.at.hosts[0]
    one, two = Client(host, ONE), Client(host, TWO)
    with daemon.running() as process:
        daemon.ask("apply", "-", text=lan())
        assert (one.leases(), two.leases()) == ("10.0.0.100", "10.0.0.101")
        reboot(daemon, process)
    with daemon.running() as process:
        assert shown(daemon) == {"10.0.0.100": "bound", "10.0.0.101": "bound"}
        assert two.was_here("10.0.0.100") == D.NAK
        assert one.was_here("10.0.0.100") == D.ACK
        assert Client(host, THREE).leases() == "10.0.0.102"
        process.send_signal(signal.SIGTERM)                         # ended well, and rebooted then
        process.wait(60)
        reboot(daemon, process)
    with daemon.running():
        assert len(shown(daemon)) == 3
        assert "true" in daemon.ask("function", "run", "prod/dhcp", "release", "address=10.0.0.102").output.lower()
        assert shown(daemon)["10.0.0.102"] == "free"
        daemon.ask("destroy", "prod", "-y")
        assert not list((tmp_path / "state/durable").glob("*/*"))
        daemon.ask("apply", "-", text=lan())
        assert shown(daemon) == {}


@pytest.mark.lab
def test_a_client_that_nobody_told(daemon: Daemon, tmp_path: Path) -> None:
    """udhcpc renews what it has, as if nothing had been."""
    host, script = daemon.at.hosts[0], tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    command = [program("udhcpc"), "-i", "eth0", "-f", "-n", "-t", "5", "-T", "2", "-s", str(script), "-q"]
    with daemon.running() as process:
        daemon.ask("apply", "-", text=lan())
        first = host.namespace.execute(command, capture_output=True, text=True, check=False, timeout=60)
        assert "lease of 10.0.0.100 obtained" in first.stdout + first.stderr
        reboot(daemon, process)
    with daemon.running():
        assert Client(host, ONE).leases() == "10.0.0.101"           # asks first, and gets another
        again = host.namespace.execute([*command, "-r", "10.0.0.100"], capture_output=True, text=True, check=False,
                                       timeout=60)
        assert "lease of 10.0.0.100 obtained" in again.stdout + again.stderr


def heard(host: Host, told: dict[int, str]) -> None:
    """Take every offer that has come, and note what was acknowledged."""
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, sender = host.socket.recvfrom(1 << 16)
            if sender[2] == OUTGOING or frame[12:14] != b"\x08\0" or frame[34:36] != b"\0\x43":
                continue
            reply = Reply(frame)
            if reply.kind == D.OFFER:
                host.socket.send(asked(D.REQUEST, {R.SERVER: ip("10.0.0.1"), R.REQUESTED: ip(reply.yours)},
                                       chaddr=reply.head.address))
            elif reply.kind == D.ACK:
                told[reply.head.address] = reply.yours


def test_killed_while_leases_are_given(daemon: Daemon, nightly: bool) -> None:
    """At any moment, with the kernel's part or without: who was told an address has it, and nobody else."""
    host, luck, told = daemon.at.hosts[0], random.Random(3), dict[int, str]()
    numbers = itertools.count(0x02_00_00_00_02_00)
    with daemon.running():
        daemon.ask("apply", "-", text=lan())
    for attempt in range(12 if nightly else 3):
        with daemon.running() as process:
            for mac in itertools.islice(numbers, 16):
                host.socket.send(asked(D.DISCOVER, chaddr=mac))
            enough = len(told) + luck.randrange(1, 12)

            def some(enough: int = enough) -> bool:
                heard(host, told)
                return len(told) >= enough
            assert until(some)
            process.kill()
            process.wait()
            heard(host, told)
            if attempt % 2 == 0:
                boot(daemon)
    assert len(told) > 3 and len(set(told.values())) == len(told)
    with daemon.running():
        for mac, address in told.items():
            assert Client(host, mac).was_here(address) == D.ACK


def test_a_disk_that_refuses_is_a_trouble(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place(1)
    here = platform(at)
    apply(here, lan())

    def refuse(*arguments: object) -> None:
        raise StoreError("the disk is full")
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "commit", refuse)
        at.hosts[0].socket.send(asked(D.DISCOVER, chaddr=ONE))
        assert until(lambda: "durable tables" in {one.what for one in here.troubles.of("acme/prod")})
        assert at.hosts[0].captured() == []
    assert until(lambda: "durable tables" not in {one.what for one in here.troubles.of("acme/prod")})
    assert Client(at.hosts[0], ONE).leases() == "10.0.0.100"
    monkeypatch.setattr(Shelf, "commit", refuse)
    at.hosts[0].socket.send(asked(D.DISCOVER, chaddr=TWO))
    assert until(lambda: bool(here.call("acme", "prod", lambda network: network.unkept)))
    here.destroy(ADMIN, "acme", "prod")
    assert not list((here.state / "durable").glob("*/*")) and not list((here.state / "networks").glob("*/*"))
