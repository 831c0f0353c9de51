"""How fast networks come and go: each a switch, a function of two ports on one of its ports, and three cables.

Networks are made in one process until there are as many as asked for, or the time is up; all stay until the last is
made, and are closed together.  So the tenth and the last say whether a network costs more where there are many.  The
cables of each lead into a namespace of its own that is there before (three thousand devices in one cost more and more:
IPv6 keeps a list of them), and images are kept from the first network, which is not counted.

In the last network a second function of the kind is then linked, parted, put on a link and taken out, again and again.
"""
from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median

from iovisor.fabric import Network, Veth, close_all
from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.kernel import NetworkNamespace
from iovisor.language import Function, Packet, Port, Verdict, forward

ENDPOINTS = 3
BARS = {"rate": 200.0, "growth": 1.5, "close": 10.0, "memory": 1024, "link": 1.0, "unlink": 1.0, "insert": 1.0,
        "take_out": 1.0}
AROUND = 5                      # of the tenth and of the last, so many neighbours are looked at


class Through(Function):
    """Two ports, straight through."""

    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)


KINDS: dict[str, type[Function]] = {"through": Through, "acl": Acl}


def small(name: str, kind: type[Function], switching: NetworkNamespace, room: NetworkNamespace) -> Network:
    net = Network(name, namespace=switching)
    try:
        net.add("lan", Switch())
        net.add("wall", kind())
        net.link("lan:0", "wall:inside")
        net.attach_all({port: Veth(room, f"{name}-{i}")
                        for i, port in enumerate(("wall:outside", "lan:1", "lan:2"))})
    except BaseException:
        net.close()
        raise
    return net


def milliseconds(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return 1e3 * (time.perf_counter() - begun)


def rewired(net: Network, kind: type[Function], rounds: int) -> Iterator[tuple[str, float]]:
    net.add("more", kind())
    for _ in range(rounds):
        yield "link", milliseconds(lambda: net.link("lan:3", "more:inside"))
        yield "unlink", milliseconds(lambda: net.unlink("lan:3"))
        yield "insert", milliseconds(lambda: net.insert("lan:0", "more:inside", "more:outside"))
        yield "take_out", milliseconds(lambda: net.take_out("more:inside", "more:outside"))


def of(kind: type[Function], networks: int, seconds: float, rounds: int) -> dict[str, float]:
    with ExitStack() as undo:
        switching, *rooms = (undo.enter_context(NetworkNamespace.create()) for _ in range(1 + networks))
        small("first", kind, switching, rooms[0]).close()
        nets: list[Network] = []
        took: list[float] = []
        closing = 0.0
        try:
            begun = time.perf_counter()
            while len(nets) < networks and time.perf_counter() - begun < seconds:
                before = time.perf_counter()
                nets.append(small(f"n{len(nets)}", kind, switching, rooms[len(nets)]))
                took.append(1e3 * (time.perf_counter() - before))
            whole = time.perf_counter() - begun
            changes: dict[str, list[float]] = {}
            found = {"networks": float(len(nets)), "rate": ENDPOINTS * len(nets) / whole,
                     "tenth": median(took[10 - AROUND:10 + AROUND]), "last": median(took[-2 * AROUND:]),
                     "memory": nets[-1].memory / 1024}
            for name, value in rewired(nets[-1], kind, rounds):
                changes.setdefault(name, []).append(value)
            found |= {name: median(values) for name, values in changes.items()}
        finally:
            closing = milliseconds(lambda: close_all(nets)) / 1000
        return found | {"close": closing}


def measure(networks: int = 1000, seconds: float = 30, rounds: int = 20) -> dict[str, dict[str, float]]:
    """By kind of function: how many `networks` were made, `rate` in endpoints a second, `memory` in KiB a network,
    `close` in seconds for all of them, all else in milliseconds."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return {name: of(kind, networks, seconds, rounds) for name, kind in KINDS.items()}


if __name__ == "__main__":
    for name, figures in measure().items():
        print(name, {what: round(value, 2) for what, value in figures.items()})
