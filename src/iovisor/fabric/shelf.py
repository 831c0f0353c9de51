"""What a network asks of whoever keeps its durable tables, and how what is kept says what it is.

The fabric knows no store: the daemon hands it a shelf (store/shelf.py), as may anybody who makes a network.  Entries
lie there as the kernel has them, byte for byte, with times by the clock of the boot in which they were written: so what
has changed is found by comparing, and a clock of the world that is set meanwhile disturbs nothing.  The label of a
place says how to read them in another boot.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..language import machine
from ..language.migration import layout
from ..language.tables import TableSpec

Change = tuple[str, bytes, bytes | None]        # a place, a key, its value; None: it is deleted


class Unkept(ValueError):
    """What was written to durable tables is not on disk; the message says why.  It is tried again."""


class Shelf(Protocol):
    """Where entries are kept: see store/shelf.py, which is one."""

    def places(self) -> dict[str, str]: ...
    def entries(self, place: str) -> dict[bytes, bytes]: ...
    def commit(self, changes: Iterable[Change], labels: Mapping[str, str] | None = None,
               emptied: Iterable[str] = ()) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Era:
    """A boot of the machine, and its clocks in nanoseconds: that of tables, and that of the world."""

    boot: str
    now: Callable[[], int] = machine.now
    world: Callable[[], int] = time.time_ns

    @classmethod
    def here(cls) -> Era:
        return cls(Path("/proc/sys/kernel/random/boot_id").read_text().strip())


def label(spec: TableSpec, era: Era, saved: int) -> str:
    """What a place is: how its entries are laid out, by which clock, and up to when the data path's changes are among
    them."""
    return json.dumps({"layout": layout(spec, False), "aged": bool(spec.ttl), "boot": era.boot, "saved": saved,
                       "now": era.now(), "world": era.world()})


def alike(label: Mapping[str, object], spec: TableSpec) -> bool:
    """Whether entries lie there as a table has them."""
    return (label["layout"], label["aged"]) == (layout(spec, False), bool(spec.ttl))


__all__ = ["Change", "Era", "Shelf", "Unkept", "alike", "label"]
