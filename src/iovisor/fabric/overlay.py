"""Durable tables as a function's Python has them: what it wrote last, above what the kernel has; see durable.py.

What is written here goes from the kernel at once, and comes to it when it is on disk.  So the kernel never acts on an
entry that Python has changed already, nor on one that a power cut could take back: it finds none, and asks Python.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..language.tables import ANY, NEW, PRESENT, Home, TableSpec
from ..targets.homes import KernelHome
from .instance import Instance
from .shelf import Change

if TYPE_CHECKING:
    from .durable import Durable


class DurableHome(KernelHome):
    """See the module's essay."""

    def __init__(self, place: str, spec: TableSpec, beneath: Home, durable: Durable) -> None:
        self.place, self.spec, self.beneath, self._durable = place, spec, beneath, durable
        if isinstance(beneath, KernelHome):
            self.map = beneath.map
        self.count()

    def count(self) -> None:
        """Learn how many entries there are."""
        self._count = sum(1 for _ in self.items())

    def lookup(self, key: bytes) -> bytearray | None:
        for writes in self._durable.above(self.place):
            if key in writes:
                found = writes[key]
                return None if found is None else bytearray(found)
        kept = self.beneath.lookup(key)
        return None if kept is None else bytearray(kept)

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        with self._durable.lock:
            present = self.lookup(key) is not None
            if mode == (NEW if present else PRESENT):
                return False
            if not present:
                if self._count >= int(self.spec.size):
                    return False
                self._count += 1
            self.beneath.delete(key)
            self._durable.write(self.place, {key: bytes(value)})
            return True

    def delete(self, key: bytes) -> bool:
        with self._durable.lock:
            if self.lookup(key) is None:
                return False
            self._count -= 1
            self.beneath.delete(key)
            self._durable.write(self.place, {key: None})
            return True

    def store(self, entries: dict[bytes, bytes]) -> bool:
        with self._durable.together():
            return all(self.update(key, value, ANY) for key, value in entries.items())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        found: dict[bytes, bytes | None] = dict(self.beneath.items())
        for writes in reversed(self._durable.above(self.place)):
            found |= dict(writes)
        yield from ((key, value) for key, value in found.items() if value is not None)

    def every(self, key: bytes) -> list[bytes]:
        found = self.lookup(key)
        return [] if found is None else [bytes(found)]

    def close(self) -> None:
        if isinstance(self.beneath, KernelHome):
            self.beneath.close()


@dataclass
class Batch:
    """What is committed together, and what leaves after that."""

    writes: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    frames: list[tuple[Instance, Callable[[], None]]] = field(default_factory=list)
    future: Future[None] | None = None
    loop: asyncio.AbstractEventLoop | None = None       # in which somebody waits for it

    def of(self, name: str) -> bool:
        """Whether it has something of an instance."""
        return any(place.startswith(f"{name}:") for place in self.writes)

    def changes(self) -> list[Change]:
        return [(place, key, value) for place, writes in self.writes.items() for key, value in writes.items()]


__all__ = ["Batch", "DurableHome"]
