"""The second act of `iovisor demo`: networks of two tenants, by a daemon, with commands as a person types them.

Every command is a process of its own, typed in the demonstration's directory and told where the daemon is by
IOVISOR_HOST; what is shown of it is what it printed.  The daemon has a state directory, a socket and a namespace of its
own, so another daemon of the machine does not notice.

The hosts are namespaces of a lab, which is how they go away with whoever made them, even if that was killed.  Their
names say whose they are, `lab-PID-...-acme_web`; what is shown leaves that out.

However it ends, the daemon is killed, and what it has pinned is cleared away by what it would itself begin with.
"""
from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any, Self

from .errors import Unusable
from .stage import Stage

if TYPE_CHECKING:
    from ..kernel import NetworkNamespace
    from ..testing import Lab

PICTURE = """\
   web .11 ──┐                          web .11 ──┐
             ├── lan ── wall ── db .20            ├── lan ── wall ── db .20
   test .12 ─┘                          test .12 ─┘
                acme/shop                            zenith/shop

   lan is switch.py, wall is acl.py; names, addresses in 10.1.0.0/24 and MACs
   are the same on both sides
"""
DOCUMENT = """\
version: 1
tenant: {tenant}
network: shop
functions:
  lan: switch
  wall:
    kind: acl
    rules:
      - {{name: http, action: accept, direction: out, protocol: tcp, destination_ports: 80}}
      - {{name: answers, action: accept, direction: in, protocol: tcp, source_ports: 80, flags: ack}}
endpoints:
  web: {{netns: {prefix}{tenant}_web, mac: 02:00:00:00:00:01, address: 10.1.0.11/24}}
  test: {{netns: {prefix}{tenant}_test, mac: 02:00:00:00:00:02, address: 10.1.0.12/24}}
  db: {{netns: {prefix}{tenant}_db, mac: 02:00:00:00:00:03, address: 10.1.0.20/24}}
links:
  - [web, lan]
  - [test, lan]
  - [lan, wall, db]
"""
ANSWERS = "protocol: tcp, source_ports: 80, flags: ack}\n"
RULE = "      - {name: ping, action: accept, protocol: icmp}\n"
WEB, TEST, DB = "10.1.0.11", "10.1.0.12", "10.1.0.20"
PATIENCE = 30.0
ECHO = 7


def networks(stage: Stage) -> None:
    """Play it."""
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
        stage.title("Networks of two tenants")
        stage.say("this needs the daemon: pip install 'iovisor[daemon]'")
        return
    from ..testing import Lab
    with Lab() as lab, Networks(stage, lab) as act:
        act.apply()
        act.explain()
        act.change()
        act.clone()
        act.kill()
        act.destroy()


class Networks:
    """A daemon, the hosts of three networks, and what is typed."""

    def __init__(self, stage: Stage, lab: Lab) -> None:
        self.stage, self.lab = stage, lab
        self._undo = contextlib.ExitStack()
        self.daemon: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        import tempfile
        with contextlib.ExitStack() as undo:
            self.folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="iovisor-demo-")))
            undo.callback(self._clear)
            self.switching = self.lab.place("switching")
            assert self.switching.name is not None
            self.prefix = self.switching.name.removesuffix("switching")
            self.hosts = {name: self.lab.place(name) for name in (
                *(f"{tenant}_{host}" for tenant in ("acme", "zenith") for host in ("web", "test", "db")),
                "staging_web", "staging_db")}
            for name in ("acme", "zenith", "staging"):
                undo.enter_context(serving(self.hosts[f"{name}_db"], f"the page of {name}"))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # -- the acts ----------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        from rich.text import Text
        stage = self.stage
        stage.title("Two tenants with the same addresses, each with a document")
        picture = Text(PICTURE)
        picture.highlight_words(("web ", "test ", "db "), "cyan")
        picture.highlight_words((" lan ", " wall "), "bold green")
        stage.console.print(picture, soft_wrap=True)
        self.write({tenant: DOCUMENT.format(tenant=tenant, prefix=self.prefix) for tenant in ("acme", "zenith")})
        stage.typed("export IOVISOR_HOST=unix:sock")
        self.begin()
        self.type("daemon status")
        begun = time.perf_counter()
        self.type("apply acme.yaml")
        self.type("apply zenith.yaml -o name")
        took = time.perf_counter() - begun
        stage.mark(self.quiet("network", "ls", "-o", "name").split() == ["acme/shop", "zenith/shop"],
                   f"compiled, verified, attached, {took:.1f} s after they were typed")
        for tenant in ("acme", "zenith"):
            page = self.page(tenant)
            stage.mark(page == f"the page of {tenant}", f"HTTP from {tenant}'s web to {DB}: {page!r}")
        for tenant in ("acme", "zenith"):
            near, far = pings(self.hosts[f"{tenant}_web"], TEST), self.blocked(tenant)
            stage.mark(near == PINGS and far == 0, f"ping from {tenant}'s web: test answers {near} of {PINGS}, "
                                                   f"db behind the wall {far} of {PINGS}")
        for tenant, other in (("acme", "zenith"), ("zenith", "acme")):
            inside, across = self.shouted(tenant, other)
            stage.mark(inside == SHOUTS and across == 0, f"{tenant}'s web broadcasts: {inside} of {SHOUTS} reach its "
                                                         f"own test, {across} any host of {other}")

    def explain(self) -> None:
        from ..testing.packets import ethernet, icmp, ipv4
        stage = self.stage
        stage.title("Why does db not answer a ping?")
        frame = bytes(ethernet(src="02:00:00:00:00:01", dst="02:00:00:00:00:03") / ipv4(src=WEB, dst=DB) / icmp())
        stage.say("An echo request from web to db, by its bytes:")
        said = self.type(f"trace acme/shop web {frame.hex()}")
        line = said.partition("acl.py:")[2].partition(" ")[0]
        stage.mark("dropped by wall: DEFAULT" in said and line.isdecimal(),
                   f"no rule of wall accepts it; line {line} of acl.py drops it. Nothing was sent")

    def change(self) -> None:
        stage = self.stage
        stage.title("One rule more, for acme alone")
        text = (self.folder / "acme.yaml").read_text()
        self.write({"acme": text.replace(ANSWERS, ANSWERS + RULE)})
        stage.say(f"acme.yaml, rules of wall:  [green]+ {RULE.strip()}[/]")
        self.type("plan acme.yaml zenith.yaml", exits=2)
        stage.mark(self.blocked("acme") == 0, "planned is not applied: still no answer")
        self.type("apply acme.yaml zenith.yaml -m 'db may be pinged'")
        ours, theirs = pings(self.hosts["acme_web"], DB), self.blocked("zenith")
        stage.mark(ours == PINGS and theirs == 0, f"acme's db now answers {ours} of {PINGS}; zenith's {theirs}")

    def clone(self) -> None:
        stage = self.stage
        stage.title("A copy to try things in, and the way back")
        self.type(f"clone acme/shop acme/staging --rebind web=netns:{self.prefix}staging_web "
                  f"--rebind db=netns:{self.prefix}staging_db -o name")
        pages = {name: self.page(name) for name in ("staging", "acme")}
        stage.mark(pages == {name: f"the page of {name}" for name in pages},
                   f"HTTP to {DB}: {pages['staging']!r} in the copy, {pages['acme']!r} in the original")
        self.type("rollback acme/shop")
        ours, copy = self.blocked("acme"), pings(self.hosts["staging_web"], DB)
        stage.mark(ours == 0 and copy == PINGS, f"acme/shop is as it was, db answers {ours} of {PINGS} pings; "
                                                f"the copy keeps the rule, {copy} of {PINGS}")
        self.type("history acme/shop")

    def kill(self) -> None:
        stage = self.stage
        stage.title("kill -9, under traffic")
        assert self.daemon is not None
        with Questions(self.hosts["acme_web"], self.hosts["acme_test"]) as asked:
            self.wait(lambda: asked.answered > 100, "datagrams are answered")
            stage.typed(f"kill -9 {self.daemon.pid}")
            self.daemon.kill()
            self.daemon.wait()
            self.type("network ls", exits=1)
            before = asked.answered
            page = self.page("zenith")
            stage.mark(page == "the page of zenith", f"nobody is there, and a new connection passes zenith's wall: "
                                                     f"{page!r}")
            self.begin()
            self.type("network ls")
            after = asked.answered
            self.wait(lambda: asked.answered > after + 100, "datagrams are answered")
        stage.mark(asked.answered == asked.sent and asked.answered > before,
                   f"meanwhile web asked test by UDP, {asked.sent:,} times: {asked.sent - asked.answered} lost")

    def destroy(self) -> None:
        from ..kernel import Netlink, interfaces
        stage = self.stage
        stage.title("And away")
        for name in ("acme/staging", "acme/shop", "zenith/shop"):
            self.type(f"destroy -y {name}")
        with Netlink(self.switching) as netlink:
            left = [one.name for one in interfaces.listing(netlink) if one.name != "lo"]
        left += map(str, (self.folder / "state/networks").glob("*/*"))
        left += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.folder) in line]
        stage.mark(not left, f"left of them, devices, pins and mounts: {', '.join(left) or 'none'}")
        assert self.daemon is not None
        self.daemon.terminate()
        stage.mark(self.daemon.wait(PATIENCE) == 0, "the daemon ends when it is asked to")

    # -- typing ------------------------------------------------------------------------------------------------------

    def type(self, command: str, exits: int = 0) -> str:
        """Show a command and what it prints, and answer that; not to end with `exits` is a mark that fails."""
        self.stage.typed(f"iovisor {command}".replace(self.prefix, ""))
        done = self.run(shlex.split(command), self.stage.console.is_terminal and not os.environ.get("NO_COLOR"))
        self.stage.answered(done.stdout.replace(self.prefix, ""))
        if done.returncode != exits:
            self.stage.mark(False, f"`iovisor {command}` ended with {done.returncode} instead of {exits}")
        return done.stdout

    def quiet(self, *arguments: str) -> str:
        """What a command prints, not shown."""
        return self.run(arguments, False).stdout

    def run(self, arguments: Sequence[str], colour: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "iovisor", *arguments], cwd=self.folder, check=False, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "IOVISOR_HOST": "unix:sock", "FORCE_COLOR": "1" if colour else ""})

    def write(self, documents: dict[str, str]) -> None:
        for name, text in documents.items():
            (self.folder / f"{name}.yaml").write_text(text)

    def begin(self) -> None:
        """Start the daemon, and wait until it listens.  Ctrl-C in a terminal is for us, not for it."""
        self.stage.typed("iovisor daemon run --state state --socket sock --namespace switching &")
        with (self.folder / "log").open("a") as log:
            self.daemon = self.switching.popen(
                [sys.executable, "-m", "iovisor", "daemon", "run", "--state", "state", "--socket", "sock",
                 "--namespace", f"{self.prefix}switching"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, process_group=0)
        self.wait(self.listens, "the daemon listens")

    def listens(self) -> bool:
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise Unusable("the daemon ended: " + (self.folder / "log").read_text().rstrip().rpartition("\n")[2])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            return asking.connect_ex(str(self.folder / "sock")) == 0

    def wait(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise Unusable(f"it took more than {PATIENCE:.0f} s until {what}")
            time.sleep(0.01)

    def page(self, name: str) -> str:
        """What db says over HTTP to web."""
        return page(self.hosts[f"{name}_web"], DB)

    def blocked(self, name: str) -> int:
        """How many pings db answers to web; none are waited for."""
        return pings(self.hosts[f"{name}_web"], DB, "0.3")

    def shouted(self, tenant: str, other: str) -> tuple[int, int]:
        """Broadcast datagrams of a tenant's web: how many its test gets, and how many the other's hosts."""
        from ..testing.capture import Capture
        text = f"{tenant} shouts".encode()
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(Capture(self.hosts[f"{tenant}_test"], "eth0"))
            others = [stack.enter_context(Capture(self.hosts[f"{other}_{host}"], "eth0"))
                      for host in ("web", "test", "db")]
            shouting = stack.enter_context(
                self.hosts[f"{tenant}_web"].run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            shouting.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(SHOUTS):
                shouting.sendto(text, ("10.1.0.255", 9))
            inside = len(own.wait(SHOUTS, lambda frame: text in frame))
            return inside, sum(len(capture.frames(lambda frame: text in frame)) for capture in others)

    def _clear(self) -> None:
        """Whatever is still there: the daemon, its mounts, its devices."""
        from ..control.hosted import clear
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            for folder in (self.folder / "state/networks").glob("*/*"):
                clear(folder, self.switching)


# -- traffic ---------------------------------------------------------------------------------------------------------

PINGS, SHOUTS = 3, 20


def pings(host: NetworkNamespace, address: str, patience: str = "5") -> int:
    """How many of a few echo requests are answered."""
    done = host.execute(["ping", "-n", "-q", "-c", str(PINGS), "-i", "0.05", "-W", patience, address],
                        capture_output=True, text=True, check=False)
    return int(done.stdout.partition(" received")[0].rpartition(" ")[2] or 0)


def page(host: NetworkNamespace, address: str) -> str:
    """What a web server says; why not, if it does not."""
    def ask() -> str:
        connection = http.client.HTTPConnection(address, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/")
                return connection.getresponse().read().decode()
            except OSError as error:
                return str(error)
    return host.run(ask)


@contextlib.contextmanager
def serving(host: NetworkNamespace, text: str) -> Iterator[None]:
    """A web server with one page."""
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""
    with host.run(lambda: ThreadingTCPServer(("", 80), Page)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Questions:
    """Datagrams from one host to another, each sent when the one before is answered: a lost one is noticed."""

    def __init__(self, one: NetworkNamespace, other: NetworkNamespace) -> None:
        self.sent = self.answered = 0
        self._ended = False
        self._asking, self._answering = (host.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                                         for host in (one, other))
        self._answering.bind(("", ECHO))
        self._asking.connect((TEST, ECHO))
        self._asking.settimeout(5)
        self._answering.settimeout(0.2)
        self._asks, self._answers = (threading.Thread(target=work, daemon=True) for work in (self._ask, self._answer))

    def _ask(self) -> None:
        while not self._ended:
            text = self.sent.to_bytes(8, "big")
            self._asking.send(text)
            self.sent += 1
            with contextlib.suppress(OSError):
                self.answered += self._asking.recv(16) == text
            time.sleep(0.001)           # others want the CPUs, too

    def _answer(self) -> None:
        while not self._ended or self._asks.is_alive():         # ended before it, the last question would seem lost
            with contextlib.suppress(TimeoutError):
                text, sender = self._answering.recvfrom(16)
                self._answering.sendto(text, sender)

    def __enter__(self) -> Self:
        self._answers.start()
        self._asks.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._asks.join()
        self._answers.join()
        self._asking.close()
        self._answering.close()


__all__ = ["networks"]
