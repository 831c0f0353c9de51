"""Networks of namespaces, with real peers: where a function meets Linux.

    with Lab() as lab:
        one, two = lab.hosts("one", "two")
        with lab.join(Switch(), [one, two]):
            assert one.ping(two) == 3

A lab is a switching namespace and hosts around it, each a namespace with one veth, a MAC and addresses that are plain
to see: host n is 02:00:00:00:00:0n, 10.0.0.n and fd00::n.  Needs root.

*Whatever happens, it is gone afterwards*: by the end of the `with`, an exception, Ctrl-C, SIGTERM (which is turned into
an exit while a lab is open) or the end of the interpreter.  After a `kill -9` nothing of ours can run; so the names of
namespaces say who made them, process and start time, and the next lab removes those of the dead, with the processes
left inside.  A lab touches nothing that is not its own: no other namespace, no setting of the machine.

Interfaces have explicit indexes nobody else uses in this process, and one link group, which is deleted at once.  The
switching side neither speaks IPv6 nor has addresses: what is captured was sent by a host or by the function.
"""
from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..kernel import KernelError, Netlink, NetlinkError, NetworkNamespace, addresses, interfaces
from ..kernel.namespaces import delete
from ..language.addresses import mac_text
from ..language.function import Function
from .capture import ETH_P_ALL, Capture
from .packets import Frame, Layer

if TYPE_CHECKING:
    from ..compiler.cache import Cache
    from ..fabric import Running

NAME = re.compile(r"lab-(\d+)-(\d+)-\d+-\w+")
GROUP = 77
FIRST_INDEX = 20_000
QUIET = 0.1                     # seconds after which a new host has told the groups it is in
PATIENCE = 2.0                  # seconds a process gets to end by itself

_numbers = itertools.count()
_indexes = itertools.count(FIRST_INDEX)
_open: weakref.WeakSet[Lab] = weakref.WeakSet()


class Host:
    """A machine: a namespace with one device, `eth0`."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        self.lab, self.name, self.number = lab, name, number
        self.mac = 0x02_00_00_00_00_00 | number
        self.ipv4, self.ipv6 = f"10.0.0.{number}", f"fd00::{number:x}"
        self.index = next(_indexes)             # of the switching side's device
        self.namespace = lab._namespace(name)
        self._processes: list[subprocess.Popen[Any]] = []
        self._sender: socket.socket | None = None
        self._cable()

    def _cable(self) -> None:
        inner = next(_indexes)
        mac = self.mac.to_bytes(6, "big")
        lab = self.lab
        lab.netlink.submit(interfaces.veth(
            f"to-{self.name}"[:15], "eth0", index=self.index, peer_index=inner, mac=b"\xfe" + mac[1:], peer_mac=mac,
            mtu=lab.mtu, peer_namespace=self.namespace, group=GROUP))
        with lab.namespace.entered():
            _setting(f"to-{self.name}"[:15], "disable_ipv6", 1)
        with self.namespace.entered():
            # No link-local address, no solicitations: a host says only what it is told to.
            _setting("eth0", "addr_gen_mode", 1)
            _setting("eth0", "router_solicitations", 0)
            for version in (1, 2):      # what it must say about groups it says at once
                _setting("eth0", f"mldv{version}_unsolicited_report_interval", 1)
        with Netlink(self.namespace) as netlink:
            lab.netlink.submit(interfaces.change(self.index, up=True))
            netlink.submit(interfaces.change("lo", up=True), interfaces.change(inner, up=True),
                           addresses.add(inner, f"{self.ipv4}/24"), addresses.add(inner, f"{self.ipv6}/64"))
            _wait_for_carrier((lab.netlink, self.index), (netlink, inner))

    # -- processes ----------------------------------------------------------------------------------------------------

    def run(self, command: Sequence[str], *, timeout: float = 30, check: bool = True,
            input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output is text."""
        return self.namespace.execute(command, timeout=timeout, check=check, input=input, capture_output=True,
                                      text=True)

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command; it ends with the lab at the latest."""
        process = self.namespace.popen(command, **options)
        self._processes.append(process)
        return process

    def ping(self, other: Host | str, *, count: int = 3, size: int = 56, six: bool = False) -> int:
        """Send echo requests; how many were answered."""
        target = other if isinstance(other, str) else other.ipv6 if six else other.ipv4
        done = self.run(["ping", "-n", "-c", str(count), "-i", "0.02", "-W", "1", "-s", str(size), target], check=False)
        found = re.search(r"(\d+) received", done.stdout)
        duplicates = re.search(r"\+(\d+) duplicates", done.stdout)
        return (int(found[1]) if found else 0) + (int(duplicates[1]) if duplicates else 0)

    # -- sockets and frames -------------------------------------------------------------------------------------------

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this process inside the host; the caller closes it."""
        with self.namespace.entered():
            return socket.socket(family, kind, protocol)

    def send(self, *frames: bytes | Frame | Layer) -> None:
        """Send frames as they are."""
        if self._sender is None:
            with self.namespace.entered():
                self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                self._sender.bind(("eth0", 0))
        for frame in frames:
            self._sender.send(bytes(frame))

    def capture(self, *, outgoing: bool = False) -> Capture:
        """Take every frame that reaches the host; the caller closes it."""
        return Capture(self.namespace, "eth0", outgoing=outgoing)

    # -- ending -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End what was started here, and the host."""
        if self._sender is not None:
            self._sender.close()
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()
        self.namespace.delete()

    def __repr__(self) -> str:
        return f"<Host {self.name} {mac_text(self.mac)} {self.ipv4} {self.ipv6}>"


class Lab:
    """A switching namespace and the hosts around it; a context manager."""

    def __init__(self, *, mtu: int = 1500) -> None:
        sweep()
        self.mtu, self._number, self._owner = mtu, next(_numbers), os.getpid()
        self._hosts: dict[str, Host] = {}
        self._quiet = 0.0
        self._undo = contextlib.ExitStack()
        self._names: list[str] = []
        try:
            self.namespace = self._namespace("switch")
            self._undo.callback(self.namespace.delete)
            self.netlink = self._undo.enter_context(Netlink(self.namespace))
            self._undo.callback(self._unplug)
        except BaseException:
            self.close()
            raise
        _open.add(self)
        self._undo.enter_context(_ended_by_terminate())

    # -- making -------------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        """The host of that name, made when it is first asked for."""
        if name not in self._hosts:
            if not re.fullmatch(r"\w{1,12}", name) or name == "switch":
                raise ValueError(f"{name!r} cannot name a host: 1 to 12 letters, digits or _, and not switch")
            host = Host.__new__(Host)
            self._undo.callback(_close_made, host)
            host.__init__(self, name, len(self._hosts) + 1)  # type: ignore[misc]
            self._hosts[name] = host
            self._quiet = time.monotonic() + QUIET
        return self._hosts[name]

    def hosts(self, *names: str) -> list[Host]:
        """Several hosts."""
        return [self.host(name) for name in names]

    def place(self, name: str) -> NetworkNamespace:
        """A namespace with nothing in it, for a daemon to attach; it ends with the lab."""
        made = self._namespace(name)
        self._undo.callback(made.delete)
        return made

    def cable(self, one: str, other: str, *, mtu: int = 1600) -> tuple[int, int]:
        """Two devices of the switching namespace, by name, with a cable between; their indexes."""
        first, second = next(_indexes), next(_indexes)
        self.netlink.submit(interfaces.veth(one, other, index=first, peer_index=second, mtu=mtu, group=GROUP))
        with self.namespace.entered():
            for name in (one, other):
                _setting(name, "disable_ipv6", 1)
        self.netlink.submit(interfaces.change(first, up=True), interfaces.change(second, up=True))
        _wait_for_carrier((self.netlink, first), (self.netlink, second))
        return first, second

    def join(self, function: Function, hosts: Sequence[Host] | Mapping[int, Host], *, peer: bool = True,
             cache: Cache | None = None) -> Running:
        """Run a function between hosts: the first at port 0, or at the ports named.  It ends with the lab at the
        latest."""
        from ..fabric import Edge, Running
        time.sleep(max(self._quiet - time.monotonic(), 0))
        places = hosts if isinstance(hosts, Mapping) else dict(enumerate(hosts))
        edges = {port: Edge(host.index, peer=peer) for port, host in places.items()}
        running = Running(function, edges, namespace=self.namespace, cache=cache)
        self._undo.callback(running.close)
        return running

    def _namespace(self, name: str) -> NetworkNamespace:
        pid = os.getpid()
        return NetworkNamespace.create(f"lab-{pid}-{_started(pid)}-{self._number}-{name}")

    # -- ending -------------------------------------------------------------------------------------------------------

    def _unplug(self) -> None:
        with contextlib.suppress(NetlinkError):
            self.netlink.submit(interfaces.delete_group(GROUP))

    def close(self) -> None:
        """Undo everything, the last first; safe to call twice.  A forked child closes nothing of its parent's."""
        if os.getpid() != self._owner:
            return
        _open.discard(self)
        self._undo.close()
        self._hosts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _close_made(host: Host) -> None:
    """Close what there is of a host whose making may have failed."""
    if hasattr(host, "_sender"):
        host.close()
    elif hasattr(host, "namespace"):
        host.namespace.delete()


def _wait_for_carrier(*devices: tuple[Netlink, int]) -> None:
    """The kernel notices a carrier in its own time, up to a second later; until then a device drops what it sends."""
    deadline = time.monotonic() + 5 * PATIENCE
    for netlink, index in devices:
        while (found := interfaces.find(netlink, index)) is None or not found.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"device {index} of the lab has no carrier")
            time.sleep(0.002)


def _setting(device: str, name: str, value: int) -> None:
    """A setting of a device of the namespace this thread is in; where IPv6 is missing there is none."""
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{device}/{name}").write_text(str(value))


# -- the dead ---------------------------------------------------------------------------------------------------------


def sweep() -> list[str]:
    """Remove the namespaces of labs whose process is dead, and the processes inside; answers their names."""
    removed = []
    for name in NetworkNamespace.names():
        found = NAME.fullmatch(name)
        if found is None or _started(int(found[1])) == int(found[2]):
            continue
        with contextlib.suppress(KernelError), NetworkNamespace.open(name) as namespace:
            if namespace.identity != _own():        # a name whose mount is gone opens nothing of ours
                for pid in namespace.pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        delete(name)
        removed.append(name)
    return removed


def _own() -> tuple[int, int]:
    with NetworkNamespace.current() as current:
        return current.identity


def _started(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none.  With the pid it names a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, *fields = text.rpartition(")")[2].split()
    return 0 if state in ("Z", "X") else int(fields[18])


# -- however it ends -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ended_by_terminate() -> Iterator[None]:
    """SIGTERM unwinds instead of killing, where nobody else has a use for it."""
    usual = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    mine = usual and threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        if mine and signal.getsignal(signal.SIGTERM) == _terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@atexit.register
def _close_all() -> None:
    for lab in list(_open):
        with contextlib.suppress(Exception):
            lab.close()


__all__ = ["ETH_P_ALL", "Host", "Lab", "sweep"]
