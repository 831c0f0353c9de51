"""Ports: where packets enter and leave a function.

A function names its ports (`inside: Port`) or declares a family of them (`ports: Ports = ports(64)`).  A port *is* its
number: named ports count from 0 in the order of the class body, a family takes the numbers after them.  The numbers
are constants of the kind, so `pkt.port == self.inside` folds and `forward(self.outside)` is a direct jump; what a
number is wired to is the fabric's business and never the function's.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from .integers import u64
from .layout import Record


@dataclass(frozen=True)
class PortMark:
    """The annotation that makes an `int` a port."""


Port: TypeAlias = Annotated[int, PortMark()]

MOST = 256      # ports of one function


class PortSet(Record):
    """A set of ports, one bit each.

    A function that declares `sets: Array[PortSet] = table(size)` may return `flood(number)`: a copy to each port of the
    set in that place.  Place 0 is never looked at, for 0 means all ports; an empty set, or a place that is not there,
    nobody.
    """

    p0: u64 = 0
    p64: u64 = 0
    p128: u64 = 0
    p192: u64 = 0

    @classmethod
    def of(cls, ports: Iterable[int]) -> PortSet:
        """These ports."""
        bits = sum(1 << port for port in set(ports))
        return cls.decode(bits.to_bytes(cls.size, "little"))

    def ports(self) -> set[int]:
        """As numbers."""
        bits = int.from_bytes(bytes(self), "little")
        return {port for port in range(MOST) if bits >> port & 1}


@dataclass(frozen=True)
class Ports:
    """A numbered family: `self.ports[2]` is the number of its third port."""

    first: int
    count: int

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"this family has {self.count} ports")
        return self.first + index

    def __len__(self) -> int:
        return self.count

    def __contains__(self, port: int) -> bool:
        return self.first <= port < self.first + self.count


@dataclass(frozen=True)
class Family:
    """What `ports(…)` leaves in a class body."""

    count: int


def ports(count: int, *, init: Literal[False] = False) -> Any:
    """Declare a family of at most `count` ports."""
    return Family(count)


def is_port(hint: Any) -> bool:
    """Whether a resolved annotation is `Port`."""
    return any(isinstance(m, PortMark) for m in getattr(hint, "__metadata__", ()))
