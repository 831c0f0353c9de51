"""Data that remembers where it was written.

A `Node` is a value of a document and its place in the text.  Mappings hold nodes by name, lists hold nodes; so when a
short form becomes a long one, nodes are put into other nodes and every place stays right.  A table of places beside
plain data was rejected: each rearrangement would have to be done twice.

Nodes are never changed once they are made: an alias of YAML is the same node in two places.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import Path, Problem, Refused

Place = tuple[int, int]
MOST = 500


@dataclass(frozen=True)
class Node:
    """A value, and where it begins: line and column from 1, 0 if it was not written but follows from what was."""

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    place: Place = (0, 0)
    #: Where its key stands, of a value in a mapping.
    key: Place | None = None
    #: A scalar as it was written: `010` and `1e3` are numbers, and names in a label.
    text: str = ""
    #: How many nodes there are in it, itself included; what is aliased counts each time.
    size: int = 1

    @property
    def fields(self) -> Mapping[str, Node]:
        """The values of a mapping; none if it is not a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> Sequence[Node]:
        """The items of a list; none if it is not a list."""
        return self.value if isinstance(self.value, list) else ()

    def holding(self, value: dict[str, Node] | list[Node]) -> Node:
        """Another value in the same place."""
        return replace(self, value=value)

    def plain(self) -> Any:
        """The value alone: dictionaries, lists and scalars."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, path: Path) -> Node | None:
        """The node at a path."""
        here: Node | None = self
        for step in path:
            if isinstance(step, int) and here is not None and 0 <= step < len(here.items):
                here = here.items[step]
            else:
                here = here.fields.get(str(step)) if here is not None else None
        return here

    def place_of(self, path: Path, key: bool = False) -> Place:
        """Where to point for a path: at its value, or its key; or at the nearest that was written around it."""
        for length in range(len(path), -1, -1):
            node = self.find(path[:length])
            if node is not None and node.place[0]:
                return node.key if key and node.key and length == len(path) else node.place
        return self.place


class Problems:
    """Collects the problems of one document.  Refused when there are too many: nobody reads on, and finding them would
    keep a daemon busy."""

    def __init__(self, file: str, tree: Node) -> None:
        self.file, self.tree, self.found = file, tree, list[Problem]()

    def add(self, path: Path, what: str, fix: str = "", *, key: bool = False, warning: bool = False) -> None:
        """What is wrong at a path; with `key`, with the name and not the value."""
        if len(self.found) == MOST:
            self.found.append(Problem(self.file, *self.tree.place, (), f"there are more than {MOST} mistakes in it",
                                      "mend these first"))
            raise Refused(problem for problem in self.found if not problem.warning)
        line, column = self.tree.place_of(path, key)
        self.found.append(Problem(self.file, line, column, path, what, fix, warning))

    def line(self, path: Path) -> int:
        """The line of a path, to be named in another's problem."""
        return self.tree.place_of(path, key=True)[0]

    @property
    def fatal(self) -> bool:
        return any(not problem.warning for problem in self.found)


def planted(data: Any) -> Node:
    """Plain data, such as a request's body, as nodes without places."""
    if isinstance(data, Mapping):
        return Node({str(name): planted(value) for name, value in data.items()})
    if isinstance(data, list | tuple):
        return Node([planted(item) for item in data])
    return Node(data, text=str(data).lower() if isinstance(data, bool) else str(data))


__all__ = ["Node", "Place", "Problems", "planted"]
