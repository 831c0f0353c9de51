"""How documents speak of ports: `lan`, `lan:up`, `lan:3`, and in the middle of a path `fw:inside:outside`.

A link is a path.  At its two ends stands an endpoint, or a function with the one port that the path begins at; between
them stand functions with two ports each, the first of which faces the left neighbour.  Written shortly, `fw` in the
middle is a function with two ports, of which the first declared faces left; at an end, `lan` is any free port of a
family.  In the normal form all is written out but the latter: which port it becomes is decided, and remembered, when
the network is applied.  Numbers made up here would change as soon as a line above them goes, and move what runs.

A path means the same in both directions, so the normal form has one: endpoints first, then by name.
"""
from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
_PORT = r"[A-Za-z0-9_]{1,63}"
_REFERENCE = re.compile(rf"({_NAME})(?::({_PORT}))?(?::({_PORT}))?")


@dataclass(frozen=True)
class Hop:
    """One member of a path: `left` is its port that faces the member before it, `right` the one that faces the next.

    Each is a port's name, or its number in text; empty at the path's ends, of an endpoint, and where any port will do.
    """

    name: str
    left: str = ""
    right: str = ""

    @property
    def turned(self) -> Hop:
        return Hop(self.name, self.right, self.left)

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.left, self.right) if part)


def parts(text: str) -> tuple[str, str, str] | None:
    """Name and up to two ports; None if it is no reference."""
    found = _REFERENCE.fullmatch(text)
    return (found[1], found[2] or "", found[3] or "") if found else None


def hops(path: Sequence[str]) -> list[Hop]:
    """The members of a path in its normal form."""
    found = []
    for index, text in enumerate(path):
        name, first, second = parts(text) or (text, "", "")
        found.append(Hop(name, "", first) if index == 0 else Hop(name, first, second))
    return found


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts web2 before web10."""
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part)
                 for part in re.split(r"(\d+)", text) if part)


def end_order(hop: Hop, functions: Container[str]) -> tuple[object, ...]:
    """Which of a path's ends is its left one: endpoints before functions, then by name, then by port."""
    return hop.name in functions, natural(hop.name), natural(hop.left or hop.right)


def path_order(path: Sequence[Hop], functions: Container[str]) -> tuple[object, ...]:
    """The order of links in a document."""
    return end_order(path[0], functions), end_order(path[-1], functions)


__all__ = ["Hop", "end_order", "hops", "natural", "path_order", "parts"]
