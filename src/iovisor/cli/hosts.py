"""Hosts to send real packets with: network namespaces, each joined by a veth pair to a room in the middle.

Nothing has a name, so nothing is left: namespaces, their devices and the programs on these end with this process, also
when it is killed.  Processes started inside are ended by `close`.  Interface indexes are given, not found, because a
number that both ends agree on needs no looking up; addresses follow from the host's number.
"""
from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..fabric import Edge
    from ..kernel import NetworkNamespace

FIRST, FIRST_PEER = 5001, 6001


@dataclass(frozen=True)
class Host:
    """One host; `index` is its device in the room in the middle."""

    name: str
    namespace: NetworkNamespace
    number: int

    @property
    def index(self) -> int:
        return FIRST + self.number

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:{self.number + 1:02x}"

    @property
    def ipv4(self) -> str:
        return f"10.0.0.{self.number + 1}"

    @property
    def ipv6(self) -> str:
        return f"fd00::{self.number + 1:x}"


class Hosts:
    """`count` hosts around a room, until closed."""

    def __init__(self, count: int) -> None:
        from ..kernel import Netlink, addresses, interfaces, temporary
        self.started: list[subprocess.Popen[Any]] = []
        with ExitStack() as undo:
            self.room = undo.enter_context(temporary())
            undo.callback(self._end)
            middle = undo.enter_context(Netlink(self.room))
            self.netlink = middle
            self.hosts = [Host(f"h{n + 1}", undo.enter_context(temporary()), n) for n in range(count)]
            for host in self.hosts:
                peer = FIRST_PEER + host.number
                middle.submit(interfaces.veth(
                    f"p{host.number}", "eth0", index=host.index, peer_index=peer, peer_namespace=host.namespace,
                    peer_mac=bytes.fromhex(host.mac.replace(":", "")), up=True))
                with Netlink(host.namespace) as netlink:
                    netlink.submit(interfaces.change("lo", up=True), interfaces.change(peer, up=True),
                                   addresses.add(peer, f"{host.ipv4}/24"), addresses.add(peer, f"{host.ipv6}/64"))
            self._undo = undo.pop_all()

    def edges(self) -> dict[int, Edge]:
        """The hosts' devices as the ports of a function."""
        from ..fabric import Edge
        return {host.number: Edge(host.index) for host in self.hosts}

    def start(self, host: Host, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """A process inside a host; its output is kept."""
        process: subprocess.Popen[str] = host.namespace.popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        return process

    def output(self, process: subprocess.Popen[str], timeout: float = 30) -> str:
        """What it printed, when it has ended."""
        text, _ = process.communicate(timeout=timeout)
        self.started.remove(process)
        return text

    @contextlib.contextmanager
    def bridged(self) -> Iterator[None]:
        """The same devices joined by a Linux bridge meanwhile."""
        from ..kernel import interfaces
        number = FIRST - 1
        self.netlink.submit(interfaces.bridge("bridge", index=number, up=True),
                            *(interfaces.change(host.index, master=number) for host in self.hosts))
        try:
            yield
        finally:
            self.netlink.submit(interfaces.delete(number))

    def _end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        self.started.clear()

    def close(self) -> None:
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


Answers = dict[tuple[int, int], float | None]


def ping_all(hosts: Hosts, meanwhile: Callable[[], object] = lambda: None, family: int = 4, count: int = 2) -> Answers:
    """Ping from every host to every other, all at once; the best round trip in ms by (from, to), None without answer.

    `meanwhile` is called again and again until all have ended: a function's slow path has to be pumped.
    """
    import re
    import time
    running = {}
    for source in hosts.hosts:
        for target in hosts.hosts:
            if source is not target:
                address = target.ipv4 if family == 4 else target.ipv6
                running[source.number, target.number] = hosts.start(
                    source, ["ping", f"-{family}", "-n", "-c", str(count), "-i", "0.2", "-W", "1", address])
    while any(process.poll() is None for process in running.values()):
        meanwhile()
        time.sleep(0.005)
    found: Answers = {}
    for pair, process in running.items():
        times = [float(text) for text in re.findall(r"time=([\d.]+)", hosts.output(process))]
        found[pair] = min(times) if times else None
    return found


__all__ = ["Answers", "Host", "Hosts", "ping_all"]
