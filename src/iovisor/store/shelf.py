"""Where the entries of durable tables lie: one file a network, the newest of each entry and nothing else.

Not in the store itself, which keeps every change until it is compacted, compares, and has one writer for all networks:
an entry here is a few bytes, is written hundreds of times a second, and nobody asks what it was.  A file of its own
means that no network waits for another's disk, and that what a network knew goes with its file.

A *place* is a table, by whatever name; its *label* is what its keeper says of it.

The file is made by the first commit; a shelf that is empty costs no descriptor.
"""
from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import database

FORMAT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (place TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (place, key)) WITHOUT ROWID;
"""

Change = tuple[str, bytes, bytes | None]        # a place, a key, its value; None: it is deleted


class Shelf:
    """In the file `path`.  May be used by several threads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._one = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def places(self) -> dict[str, str]:
        """The label of every place."""
        with self._one:
            return {} if not self._there() else dict(self._opened().execute("SELECT name, label FROM place"))

    def entries(self, place: str) -> dict[bytes, bytes]:
        """What lies there."""
        with self._one:
            return {} if not self._there() else dict(self._opened().execute(
                "SELECT key, value FROM entry WHERE place = ?", (place,)))

    def commit(self, changes: Iterable[Change], labels: Mapping[str, str] | None = None,
               emptied: Iterable[str] = ()) -> None:
        """On disk when it returns, all of it; StoreError: nothing.  No entry is changed twice.

        `emptied` places are empty before the rest; those that get no label are no more.
        """
        with self._one:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            db = self._opened()
            with database.transaction(db, self.path, "IMMEDIATE"):
                gone = [(place,) for place in emptied]
                db.executemany("DELETE FROM entry WHERE place = ?", gone)
                db.executemany("DELETE FROM place WHERE name = ?", gone)
                db.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", (labels or {}).items())
                changes = list(changes)
                db.executemany("DELETE FROM entry WHERE place = ? AND key = ?",
                               [(place, key) for place, key, value in changes if value is None])
                db.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)",
                               [change for change in changes if change[2] is not None])

    def close(self) -> None:
        with self._one:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _there(self) -> bool:
        return self._db is not None or self.path.exists()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = database.opened(self.path, SCHEMA, FORMAT)
        return self._db


__all__ = ["Change", "Shelf"]
