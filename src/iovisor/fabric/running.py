"""One function between devices: the smallest network, for labs, demos and tests.

    with Running(Switch(), {0: Edge(5000), 1: Edge(5001)}, namespace=namespace) as running:
        ...

Punted packets are read from the ring by `pump`, which calls the function's handlers; `network.serve` does so by itself.
"""
from __future__ import annotations

import asyncio
import inspect
from types import TracebackType
from typing import Any, Self

from ..compiler.cache import Cache
from ..kernel import NetworkNamespace
from ..language.function import Function
from ..language.packet import Packet
from ..targets.bpf_loaded import event_was_told, parse_event
from .counters import Traffic
from .edges import Edge
from .joins import PortRef
from .network import Network


class Running:
    """A function joined to devices of a namespace; everything is undone by `close`."""

    def __init__(self, function: Function, joined: dict[int, Edge] | None = None, *,
                 namespace: NetworkNamespace | None = None, cache: Cache | None = None) -> None:
        self.function, self.name = function, function.spec().name.lower()
        self.network = Network("fabric", namespace=namespace, cache=cache)
        try:
            self.instance = self.network.add(self.name, function)
            self.loaded = self.instance.loaded
            for port, edge in (joined or {}).items():
                self.join(port, edge)
        except BaseException:
            self.network.close()
            raise

    def join(self, port: int, edge: Edge) -> None:
        """Make `edge` the device of `port`."""
        self.network.attach(PortRef(self.name, self.instance.port(port)), edge)

    def part(self, port: int) -> None:
        """Undo `join`: packets for the port are dropped from here on, and none comes in."""
        self.network.detach(PortRef(self.name, port))

    def reconfigure(self, **values: Any) -> None:
        """Change the configuration under the packets' feet."""
        self.network.reconfigure(self.name, **values)

    def traffic(self, port: int) -> tuple[Traffic, Traffic]:
        """What came in through a port, and what went out of it."""
        return self.network.traffic(PortRef(self.name, port))

    def pump(self) -> int:
        """Give punted packets to the function's handlers; answers how many there were."""
        records = [] if self.loaded.ring is None else list(self.loaded.ring)
        for record in records:
            _, event, packet = parse_event(self.function, record)
            handler = self.function.method(self.function.spec().handlers[type(event)])
            answer = handler(event, packet)
            if inspect.iscoroutine(answer):
                answer = asyncio.run(answer)
            if isinstance(answer, Packet) and not event_was_told(record):
                self.network.inject(answer, PortRef(self.name, answer.port))
        return len(records)

    @property
    def drops(self) -> dict[str, int]:
        """Drops by the name of their reason, the function's and the fabric's."""
        return {reason: count for found in self.network.drops.values() for reason, count in found.items()}

    def close(self) -> None:
        """Detach from every device and give everything back."""
        self.network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
