"""Tables, seen from inside: each word goes to the daemon, which has them, and back.

A worker reaches the tables of its own instance and no others: no message could name them.  What `lookup` answers is a
copy, as of any table in the kernel, so a view that was written is stored again.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from ...language.errors import Reject
from ...language.tables import TABLES, Table, TableSpec, decode, encode
from ...language.verdicts import Dropped

BATCH = 256                     # entries of a message


class Line(Protocol):
    """The way to the daemon."""

    def call(self, **question: Any) -> Any:
        """What the daemon answers."""


class Room:
    """The home of one table, or of a nested one, whose keys lead to it."""

    live = False

    def __init__(self, line: Line, spec: TableSpec, name: str, way: tuple[str, ...] = ()) -> None:
        self.spec, self._line, self._name, self._way = spec, line, name, way

    def lookup(self, key: bytes) -> bytearray | None:
        found = self._ask("lookup", key=key.hex())
        return None if found is None else bytearray.fromhex(found)

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        return bool(self._ask("update", key=key.hex(), value=value.hex(), mode=mode))

    def delete(self, key: bytes) -> bool:
        return bool(self._ask("delete", key=key.hex()))

    def store(self, entries: dict[bytes, bytes]) -> bool:
        pairs = [[key.hex(), value.hex()] for key, value in entries.items()]
        return all([self._ask("store", entries=pairs[at:at + BATCH]) for at in range(0, len(pairs), BATCH)])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of one moment: the daemon reads them once, and hands them over in pieces."""
        found = []
        piece = self._ask("items")
        while piece["entries"]:
            found += [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in piece["entries"]]
            piece = self._ask("more", reading=piece["reading"])
        yield from found

    def every(self, key: bytes) -> list[bytes]:
        return [bytes.fromhex(value) for value in self._ask("every", key=key.hex())]

    def inner(self, key: bytes) -> Room | None:
        if self.spec.inner is None or not self._ask("holds", key=key.hex()):
            return None
        return Room(self._line, self.spec.inner, self._name, (*self._way, key.hex()))

    def create(self, key: bytes, spec: TableSpec) -> Room:
        if not self._ask("create", key=key.hex()):
            raise Reject(Dropped.TABLE_FULL)
        return Room(self._line, spec, self._name, (*self._way, key.hex()))

    def _ask(self, do: str, **more: Any) -> Any:
        return self._line.call(do=do, table=self._name, way=list(self._way), **more)


def typed(spec: TableSpec) -> Table[Any, Any]:
    """A table of a kind that holds nothing: it knows how keys are written."""
    return TABLES[spec.kind](replace(spec, size=1, ttl=0))


def converted(since: TableSpec, to: TableSpec | None, key: str, value: str,
              convert: Callable[[Any, Any], Any]) -> list[str] | None:
    """What a migration's method makes of an entry, both as bytes; None if the entry goes."""
    found = typed(since)._unkey(bytes.fromhex(key))
    answer = convert(found, decode(since.value, bytes.fromhex(value)))
    if answer is None or to is None:
        return None
    other, made = answer if isinstance(answer, tuple) else (found, answer)
    return [typed(to)._key(other).hex(), encode(to.value, made).hex()]


__all__ = ["BATCH", "Line", "Room", "converted", "typed"]
