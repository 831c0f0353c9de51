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
                               ┌── spread ── web ── web1 .11, web2 .12    10.1.1.0/24
     customer ── edge ── core ─┤
   198.51.100.10               └── db-wall ── db ── db1 .11               10.1.3.0/24

   acme/shop, and zenith/shop the same: names, addresses and MACs. edge and
   db-wall are firewalls, core a router, spread a balancer for 10.1.1.100,
   web and db switches; each is one file of Python
"""
DOCUMENT = """\
version: 1
tenant: {tenant}
network: shop
functions:
  edge:
    kind: firewall
    rules:
      - {{name: pages, action: accept, direction: in, protocol: tcp, destination: 10.1.1.100, destination_ports: 80}}
      - {{name: ping, action: accept, direction: in, protocol: icmp, icmp_type: echo, destination: 10.1.1.100}}
  core:
    kind: router
    interfaces:
      0: {{mac: 02:00:00:00:0c:00, addresses: [198.51.100.1/24]}}
      1: {{mac: 02:00:00:00:0c:01, addresses: [10.1.1.254/24]}}
      2: {{mac: 02:00:00:00:0c:02, addresses: [10.1.3.254/24]}}
  spread:
    kind: balancer
    mac: 02:00:00:00:0b:01
    addresses: [10.1.1.99/24]
    vips:
      - {{address: 10.1.1.100, port: 80, backends: [{{address: 10.1.1.11}}, {{address: 10.1.1.12}}]}}
  db-wall:
    kind: firewall
    rules:
      - {{name: web asks, action: accept, direction: in, protocol: tcp, source: 10.1.1.0/24, destination_ports: 80}}
  web: switch
  db: switch
endpoints:
  customer:
    {{netns: {prefix}{tenant}_customer, mac: 02:00:00:00:00:01, address: 198.51.100.10/24, gateway: 198.51.100.1}}
  web1: {{netns: {prefix}{tenant}_web1, mac: 02:00:00:00:00:11, address: 10.1.1.11/24, gateway: 10.1.1.254}}
  web2: {{netns: {prefix}{tenant}_web2, mac: 02:00:00:00:00:12, address: 10.1.1.12/24, gateway: 10.1.1.254}}
  db1: {{netns: {prefix}{tenant}_db1, mac: 02:00:00:00:00:21, address: 10.1.3.11/24, gateway: 10.1.3.254}}
links:
  - ["core:0", edge, customer]
  - ["core:1", "spread:outside:inside", web]
  - [db, db-wall, "core:2"]
  - [web, web1]
  - [web, web2]
  - [db, db1]
"""
BOTH, ONE = "{address: 10.1.1.12}", "{address: 10.1.1.12, drain: true}"
PAGES, WEB2, DB = "10.1.1.100", "10.1.1.12", "10.1.3.11"
HOSTS = "customer", "web1", "web2", "db1"
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
                *(f"{tenant}_{host}" for tenant in ("acme", "zenith") for host in HOSTS),
                "staging_customer", "staging_web1")}
            for name in ("acme_web1", "acme_web2", "acme_db1", "zenith_web1", "zenith_web2", "staging_web1"):
                undo.enter_context(serving(self.hosts[name], name.replace("_", "'s ")))
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
        picture.highlight_words(("customer ", "web1 ", "web2 ", "db1 "), "cyan")
        picture.highlight_words((" edge ", " core ", " spread ", " db-wall ", " web ", " db "), "bold green")
        stage.console.print(picture, soft_wrap=True)
        self.write({tenant: DOCUMENT.format(tenant=tenant, prefix=self.prefix) for tenant in ("acme", "zenith")})
        stage.typed("export IOVISOR_HOST=unix:sock")
        self.begin()
        self.type("daemon status")
        begun = time.perf_counter()
        self.type("apply acme.yaml zenith.yaml -o name")
        took = time.perf_counter() - begun
        stage.mark(self.quiet("network", "ls", "-o", "name").split() == ["acme/shop", "zenith/shop"],
                   f"compiled, verified, attached, {took:.1f} s after it was typed")
        self.type("function ls acme/shop")
        for tenant in ("acme", "zenith"):
            pages = self.pages(tenant)
            stage.mark(pages == {f"{tenant}'s web1", f"{tenant}'s web2"},
                       f"HTTP from {tenant}'s customer to {PAGES}, {ASKED} times: by {said(pages)}")
        for tenant in ("acme", "zenith"):
            db, hidden = page(self.hosts[f"{tenant}_web1"], DB), page(self.hosts[f"{tenant}_customer"], DB, 0.3)
            stage.mark((db == "acme's db1" or tenant != "acme") and hidden == "timed out",
                       f"{tenant}'s customer asks db1: {hidden}")
        for tenant, other in (("acme", "zenith"), ("zenith", "acme")):
            inside, across = self.shouted(tenant, other)
            stage.mark(inside == SHOUTS and across == 0, f"{tenant}'s web1 broadcasts: {inside} of {SHOUTS} reach its "
                                                         f"own web2, {across} any host of {other}")

    def explain(self) -> None:
        from ..testing.packets import ethernet, ipv4, tcp
        stage = self.stage
        stage.title("Why does db1 not answer the customer?")
        frame = bytes(ethernet(src="02:00:00:00:00:01", dst="02:00:00:00:0c:00")
                      / ipv4(src="198.51.100.10", dst=DB) / tcp(src=40_000, dst=80, flags=2))
        stage.say("A SYN from customer to db1, by its bytes:")
        told = self.type(f"trace acme/shop customer {frame.hex()}")
        stage.mark("dropped by edge: DEFAULT" in told, "no rule of edge accepts it. Nothing was sent")

    def change(self) -> None:
        stage = self.stage
        stage.title("One server less, for acme alone")
        self.write({"acme": (self.folder / "acme.yaml").read_text().replace(BOTH, ONE)})
        stage.say(f"acme.yaml, backends of spread:  [green]{ONE}[/]")
        self.type("plan acme.yaml zenith.yaml", exits=2)
        before = self.pages("acme")
        stage.mark(len(before) == 2, f"planned is not applied: pages still come from {said(before)}")
        self.type("apply acme.yaml zenith.yaml -m 'web2 rests'")
        ours, theirs = self.pages("acme"), self.pages("zenith")
        stage.mark(ours == {"acme's web1"} and len(theirs) == 2, f"pages of acme come from {said(ours)}, of zenith "
                                                                 f"from {said(theirs)}")

    def clone(self) -> None:
        stage = self.stage
        stage.title("A copy to try things in, and the way back")
        self.type(f"clone acme/shop acme/staging --rebind customer=netns:{self.prefix}staging_customer "
                  f"--rebind web1=netns:{self.prefix}staging_web1 -o name")
        copy, ours = self.pages("staging"), self.pages("acme")
        stage.mark(copy == {"staging's web1"} and ours == {"acme's web1"},
                   f"HTTP to {PAGES}: by {said(copy)} in the copy, by {said(ours)} in the original")
        self.type("rollback acme/shop")
        ours, copy = self.pages("acme"), self.pages("staging")
        stage.mark(len(ours) == 2 and copy == {"staging's web1"}, f"acme/shop is as it was: {said(ours)}; the copy "
                                                                  f"still has {said(copy)}")
        self.type("history acme/shop")

    def kill(self) -> None:
        stage = self.stage
        stage.title("kill -9, under traffic")
        assert self.daemon is not None
        with Questions(self.hosts["acme_web1"], self.hosts["acme_web2"]) as asked:
            self.wait(lambda: asked.answered > 100, "datagrams are answered")
            stage.typed(f"kill -9 {self.daemon.pid}")
            self.daemon.kill()
            self.daemon.wait()
            self.type("network ls", exits=1)
            before = asked.answered
            pages = self.pages("zenith")
            stage.mark(len(pages) == 2, f"nobody is there, and new connections pass zenith's edge, core and spread, "
                                        f"to {said(pages)}")
            self.begin()
            self.type("network ls")
            after = asked.answered
            self.wait(lambda: asked.answered > after + 100, "datagrams are answered")
        stage.mark(asked.answered == asked.sent and asked.answered > before,
                   f"meanwhile web1 asked web2 by UDP, {asked.sent:,} times: {asked.sent - asked.answered} lost")

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

    def pages(self, name: str) -> set[str]:
        """What customer gets to read, of as many requests as meet both servers; those a network needs to find its ways
        do not count."""
        customer = self.hosts[f"{name}_customer"]
        self.wait(lambda: "web" in page(customer, PAGES), "a page comes")
        return {page(customer, PAGES) for _ in range(ASKED)}

    def shouted(self, tenant: str, other: str) -> tuple[int, int]:
        """Broadcast datagrams of a tenant's web: how many its test gets, and how many the other's hosts."""
        from ..testing.capture import Capture
        text = f"{tenant} shouts".encode()
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(Capture(self.hosts[f"{tenant}_web2"], "eth0"))
            others = [stack.enter_context(Capture(self.hosts[f"{other}_{host}"], "eth0"))
                      for host in HOSTS]
            shouting = stack.enter_context(
                self.hosts[f"{tenant}_web1"].run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            shouting.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(SHOUTS):
                shouting.sendto(text, ("10.1.1.255", 9))
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

ASKED, SHOUTS = 24, 20


def said(pages: set[str]) -> str:
    return " and ".join(sorted(pages))


def page(host: NetworkNamespace, address: str, patience: float = 5) -> str:
    """What a web server says; why not, if it does not."""
    def ask() -> str:
        connection = http.client.HTTPConnection(address, timeout=patience)
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
        timeout = 5.0                   # who asks may be stopped half way, and nobody is to wait for the rest

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""
    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with host.run(lambda: Server(("", 80), Page)) as server:
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
        self._asking.connect((WEB2, ECHO))
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
