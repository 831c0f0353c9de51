"""Ports: where packets enter and leave a function.

A function names its ports (`inside: Port`) or declares a family of them (`ports: Ports = ports(64)`).  A port *is* its
number: named ports count from 0 in the order of the class body, a family takes the numbers after them.  The numbers
are constants of the kind, so `pkt.port == self.inside` folds and `forward(self.outside)` is a direct jump; what a
number is wired to is the fabric's business and never the function's.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias


@dataclass(frozen=True)
class PortMark:
    """The annotation that makes an `int` a port."""


Port: TypeAlias = Annotated[int, PortMark()]

MOST = 256      # ports of one function


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
