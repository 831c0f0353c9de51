"""What the ports of a network are joined to."""
from __future__ import annotations

from dataclasses import dataclass, field

from ..kernel import Link
from .edges import Edge


@dataclass(frozen=True)
class PortRef:
    """A port of an instance: `lan:0`, `wall:inside`."""

    instance: str
    port: int

    def __str__(self) -> str:
        return f"{self.instance}:{self.port}"


@dataclass
class Join:
    """A port's other side, a device or another port, and what was made for it."""

    edge: Edge | None = None
    peer: PortRef | None = None
    wire: int = 0
    received: int = -1                                      # numbers of counters
    sent: int = -1
    links: list[Link] = field(default_factory=list)
