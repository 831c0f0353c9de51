"""Hosts around a function, for `run` and `demo`: a `testing.Lab` of numbered hosts, and what both commands do with it.

Host n is `hn`, on port n - 1.  The lab ends with its `with`, and ends the processes that were started in it, however
the command ends.
"""
from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..compiler.cache import Cache
    from ..fabric import Edge, Running
    from ..language import Function
    from ..testing import Host

BRIDGE = 19_999         # its interface index: a lab's own begin behind

Answers = dict[tuple[int, int], float | None]


class Hosts:
    """`count` hosts around a switching namespace, until closed."""

    def __init__(self, count: int) -> None:
        from ..testing import Lab
        with ExitStack() as undo:
            self.lab = undo.enter_context(Lab())
            self.hosts: list[Host] = self.lab.hosts(*(f"h{n + 1}" for n in range(count)))
            self._undo = undo.pop_all()

    def join(self, function: Function, cache: Cache | None = None) -> Running:
        """Run a function between them."""
        return self.lab.join(function, self.hosts, cache=cache)

    def edges(self) -> dict[int, Edge]:
        """The hosts' devices as the ports of a function."""
        from ..fabric import Edge
        return {host.number - 1: Edge(host.index) for host in self.hosts}

    def start(self, host: Host, arguments: Sequence[str]) -> subprocess.Popen[Any]:
        """A process inside a host; its output is kept."""
        return host.start(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)

    @contextlib.contextmanager
    def bridged(self) -> Iterator[None]:
        """The same devices joined by a Linux bridge meanwhile."""
        from ..kernel import interfaces
        self.lab.netlink.submit(interfaces.bridge("bridge", index=BRIDGE, up=True),
                                *(interfaces.change(host.index, master=BRIDGE) for host in self.hosts))
        try:
            yield
        finally:
            self.lab.netlink.submit(interfaces.delete(BRIDGE))

    def close(self) -> None:
        """End the lab."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def ping_all(hosts: Hosts, meanwhile: Callable[[], object] = lambda: None, family: int = 4, count: int = 2) -> Answers:
    """Ping from every host to every other, all at once; the best round trip in ms by (from, to), None without answer.

    `meanwhile` is called again and again until all have ended: a function's slow path has to be pumped.
    """
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
        times = [float(text) for text in re.findall(r"time=([\d.]+)", process.communicate()[0])]
        found[pair] = min(times) if times else None
    return found


__all__ = ["Answers", "Hosts", "ping_all"]
