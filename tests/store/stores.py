"""The implementations that the suite holds to the contract: each opens, and opens again what was there.

A new one needs an entry in STORES, and nothing else.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iovisor.store import Sqlite, Store

#: name -> opens the store in a directory, empty at first; with a clock for leases, or its own
STORES: dict[str, Callable[..., Store]] = {
    "sqlite": lambda folder, *clock: Sqlite(Path(folder) / "store.db", *clock),
}


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
