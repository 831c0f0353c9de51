"""The daemon as a process, asked by the command line as people do; with the capabilities of its unit."""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iovisor.cli import commands
from iovisor.compiler.cache import Cache
from iovisor.control.hosted import clear
from iovisor.kernel import Netlink, NetworkNamespace, filesystem, interfaces
from tests.control.test_platform import HUB, ROOMS, THROUGH, forget, pair, pings
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging/systemd/iovisor.service"


class Daemon:
    """One at a time, in a directory."""

    def __init__(self, at: Place, folder: Path, images: Cache) -> None:
        self.at, self.folder, self.images = at, folder, images
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(1)

    @property
    def host(self) -> str:
        return f"unix:{self.folder}/sock"

    @contextlib.contextmanager
    def running(self, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
        """A daemon that is ready; it is killed in the end."""
        namespace = f"/proc/self/fd/{self.at.switching.fd}"
        (self.folder / "state").mkdir(exist_ok=True)
        if not (self.folder / "state/images").exists():
            (self.folder / "state/images").symlink_to(self.images.root)
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "400000"}
        command = [*prefix, sys.executable, "-m", "iovisor", "daemon", "run", "--state", str(self.folder / "state"),
                   "--socket", str(self.folder / "sock"), "--namespace", namespace, *options]
        with (self.folder / "log").open("w") as log, subprocess.Popen(
                command, cwd=ROOT, env=environment, stderr=log, text=True,
                pass_fds=[self.at.switching.fd]) as process:
            try:
                assert self.said(b"READY=1"), (self.folder / "log").read_text()
                yield process
            finally:
                process.kill()

    def said(self, what: bytes) -> bytes:
        """Wait for a notice; empty if it does not come."""
        deadline, said = time.monotonic() + 30, b""
        while what not in said and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                said = self.notices.recv(4096)
        return said if what in said else b""

    def ask(self, *arguments: str, exits: int = 0, text: str = "") -> Result:
        """What a command answers."""
        environment = {"IOVISOR_HOST": self.host}
        found = CliRunner().invoke(commands, [*arguments], input=text, env=environment, prog_name="iovisor")
        assert found.exit_code == exits, found.output
        return found


@pytest.fixture
def daemon(place: Places, tmp_path: Path, images: Cache) -> Iterator[Daemon]:
    made = Daemon(place(2), tmp_path, images)
    yield made
    made.notices.close()
    for folder in (tmp_path / "state/networks").glob("*/*"):
        clear(folder, made.at.switching)


def test_a_day_with_the_command_line(daemon: Daemon) -> None:
    hosts = daemon.at.hosts
    with daemon.running() as process:
        assert oct((daemon.folder / "sock").stat().st_mode & 0o777) == "0o600"
        assert daemon.said(b"WATCHDOG=1")
        assert "role      admin" in daemon.ask("daemon", "status").output
        assert "+ function lan: switch" in daemon.ask("plan", "-", text=pair(), exits=2).output
        assert "acme/prod is at revision 1" in daemon.ask("apply", "-", "-m", "first", text=pair()).output
        assert "no change; revision 1 stands" in daemon.ask("plan", "-", text=pair()).output
        exchange(*hosts)
        assert [one["network"] for one in json.loads(daemon.ask("net", "ls", "-o", "json").output)] == ["prod"]
        assert daemon.ask("network", "ls", "-o", "name").output == "acme/prod\n"
        assert re.search(r"one +up +device p0", daemon.ask("endp", "ls", "prod").output)
        assert re.search(r"lan:0 +one +5 +5", daemon.ask("port", "ls", "acme/prod").output)
        assert daemon.ask("function", "run", "prod/lan", "flush").output == "2\n"
        assert "Switch has no action fly" in daemon.ask("function", "run", "prod/lan", "fly", exits=1).output
        assert "--" in daemon.ask("graph", "prod", "--dot").output
        assert "▶ lan:1" in daemon.ask("trace", "prod", "one", hosts[0].frame(hosts[1]).hex()).output
        assert "goes back in 60 s" in daemon.ask("apply", "-", "--confirm", "60s", text=pair(ageing="1h")).output
        daemon.ask("confirm", "prod")
        assert "~ ageing: 5m -> 1h" in daemon.ask("diff", "prod").output
        daemon.ask("snapshot", "take", "prod", "noon", "--tables")
        daemon.ask("clone", "acme/prod", "acme/staging", "--learned")
        assert daemon.ask("endpoint", "ls", "staging").output.count(" open ") == 2
        exported = daemon.folder / "prod.json"
        daemon.ask("export", "acme/prod", str(exported))
        daemon.ask("destroy", "acme/staging", "-y")
        daemon.ask("rollback", "prod")
        assert len(daemon.ask("history", "prod").output.splitlines()) == 4
        daemon.ask("restore", "prod", "noon")
        process.send_signal(signal.SIGTERM)
        assert daemon.said(b"STOPPING=1")
        assert process.wait(60) == 0
    exchange(*hosts)                                        # nobody is there
    assert "no daemon listens at" in daemon.ask("network", "ls", exits=1).output
    with daemon.running():
        exchange(*hosts)
        assert "7" not in daemon.ask("history", "prod", "-o", "name").output
        daemon.ask("destroy", "prod", "-y")
        daemon.ask("import", str(exported))
        exchange(*hosts)
    exchange(*hosts)                                        # killed
    with daemon.running():
        exchange(*hosts)
        daemon.ask("destroy", "prod", "-y")
    assert not hosts[0].ping(hosts[1], 1)


def test_what_is_typed_wrong_is_said(daemon: Daemon) -> None:
    (daemon.folder / "hub.py").write_text(HUB.format(verdict="FLOOD"))
    document = daemon.folder / "shop.yaml"
    document.write_text(pair().replace("{kind: switch, ageing: 5m}", "{kind: 'hub.py:Hub'}"))
    with daemon.running():
        second = subprocess.run([sys.executable, "-m", "iovisor", "daemon", "run", "--state",
                                 str(daemon.folder / "state"), "--socket", str(daemon.folder / "other")], cwd=ROOT,
                                capture_output=True, text=True, check=False)
        assert second.returncode == 1 and "another daemon has" in second.stderr
        daemon.ask("apply", str(document))                  # the file of its function goes along by itself
        exchange(*daemon.at.hosts)
        said = daemon.ask("why", "prod", "one", "icmp", "10.0.0.1", ">", "10.0.0.2").output
        assert re.fullmatch(r"leaves by lan:\d\n", said), said
        assert "lan:0  Hub" in daemon.ask("trace", "prod", "one", "ff" * 6 + "02" * 6 + "88b5" + "00" * 46).output
        assert "names no port" in daemon.ask("why", "prod", "one", "tcp", "10.0.0.1", ">", "10.0.0.2", exits=1).output
        assert "balanced" in daemon.ask("balance", "prod").output
        assert "FLOW" in daemon.ask("flows", "prod", "--seconds", "0.2").output
        daemon.ask("capture", "prod", "one", "--seconds", "0.2", "-w", str(daemon.folder / "one.pcapng"))
        assert (daemon.folder / "one.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
        assert json.loads(daemon.ask("peer", "ls", "prod", "-o", "json").output) == []
        document.write_text(pair().replace("[two, lan]", "[two, wan]"))
        said = daemon.ask("apply", str(document), exits=1).output
        assert f"{document}:12:" in said and "there is no function and no endpoint 'wan'" in said
        assert "there is no network shop; `iovisor network ls`" in daemon.ask("history", "shop", exits=1).output
        assert "has no revision 9" in daemon.ask("rollback", "prod", "9", exits=1).output
        daemon.ask("destroy", "prod", "-y")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv to take capabilities away with")
def test_the_capabilities_of_the_unit_are_enough(daemon: Daemon) -> None:
    found = re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    names = [name.removeprefix("CAP_").lower() for name in found[1].split()]
    assert "sys_ptrace" not in names and len(names) < 11
    limited = ("setpriv", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in names)]), "--no-new-privs")
    document = daemon.folder / "prod.yaml"
    document.write_text(pair().replace("{kind: switch, ageing: 5m}", "{kind: 'hub.py:Hub'}").replace("lan", "hub"))
    (daemon.folder / "hub.py").write_text(HUB.format(verdict="FLOOD"))
    with daemon.running(prefix=limited):
        daemon.ask("apply", "-", text=pair())
        exchange(*daemon.at.hosts)
        daemon.ask("apply", str(document))
        exchange(*daemon.at.hosts)
    with daemon.running(prefix=limited):
        daemon.ask("destroy", "prod", "-y")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
def test_tcp_takes_tls_and_a_token(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = daemon.folder / "cert.pem", daemon.folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = subprocess.run([sys.executable, "-m", "iovisor", "daemon", "run", "--state", str(daemon.folder / "state"),
                              "--socket", str(daemon.folder / "sock"), "--listen", f"0.0.0.0:{port}"], cwd=ROOT,
                             capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "give --certificate and --key" in refused.stderr
    with daemon.running("--listen", f"127.0.0.1:{port}", "--certificate", str(certificate), "--key", str(key)):
        daemon.ask("apply", "-", text=pair())
        token = daemon.ask("token", "create", "ci", "--role", "viewer", "--tenant", "acme").output.strip()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        host = ("--host", f"https://localhost:{port}")
        assert "say who you are" in daemon.ask("network", "ls", *host, exits=1).output
        monkeypatch.setenv("IOVISOR_TOKEN", token)
        assert daemon.ask("network", "ls", "-o", "name", *host).output == "acme/prod\n"
        assert "looks, and changes nothing" in daemon.ask("destroy", "acme/prod", "-y", *host, exits=1).output
        monkeypatch.delenv("IOVISOR_TOKEN")
        daemon.ask("destroy", "prod", "-y")


def test_after_a_reboot_everything_is_made_again(daemon: Daemon) -> None:
    """Nothing is pinned, the machine's devices have other indexes, what was made is gone; the state directory is
    there: two networks carry packets again, one with a function of its author, at the ports and MACs they had."""
    at, rooms = daemon.at, [f"booted-{os.getpid()}-{number}" for number in range(2)]
    (daemon.folder / "through.py").write_text(THROUGH)
    second = ROOMS.format(tenant="globex", web=rooms[0], db=rooms[1]).replace(
        "functions: {lan: switch}", "functions: {lan: switch, own: {kind: 'through.py:Through'}}").replace(
        "[db, lan]", "[db, own, lan]")
    (daemon.folder / "second.yaml").write_text(second)

    def macs() -> list[str]:
        found = []
        for name in rooms:
            with NetworkNamespace.open(name) as room, Netlink(room) as netlink:
                found += [one.mac.hex() for one in interfaces.listing(netlink) if one.name == "eth0"]
        return found
    with contextlib.ExitStack() as undo:
        for name in rooms:
            undo.callback(forget, name)
            NetworkNamespace.create(name).close()
        with daemon.running():
            daemon.ask("apply", "-", text=pair())
            daemon.ask("apply", str(daemon.folder / "second.yaml"))
            exchange(*at.hosts)
            with NetworkNamespace.open(rooms[0]) as room:
                assert pings(room, "10.1.0.2")
            before = macs()
        for folder in (daemon.folder / "state/networks").glob("*/*"):
            for path in (folder / "bpf").rglob("*"):
                with contextlib.suppress(OSError):
                    path.unlink()
            filesystem.unmount(folder / "bpf")
        with Netlink(at.switching) as netlink:              # what the daemon had made; and p0 and p1 come again
            for one in interfaces.listing(netlink):
                if one.name.startswith(("e", "a")):
                    netlink.attempt(interfaces.delete(one.index))
        for name in rooms:
            forget(name)
            NetworkNamespace.create(name).close()
        at.again()
        with daemon.running():
            exchange(*at.hosts)
            with NetworkNamespace.open(rooms[0]) as room:
                assert pings(room, "10.1.0.2")
            assert macs() == before
            assert re.search(r"acme/prod +runs", daemon.ask("network", "ls").output)
            daemon.ask("destroy", "acme/prod", "-y")
            daemon.ask("destroy", "globex/prod", "-y")
