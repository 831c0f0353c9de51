"""The store of one host: one SQLite file.

Every change stays as a row (key, revision) until a compaction, so the past is a query: of each key, the row with the
greatest revision that is not behind the one asked for.  A deleted key is a row without value.

A transaction is on disk when it has returned: see database.py.  It begins IMMEDIATE, so there is one writer at a time,
in this process or another, and what is compared is still so when it is written.

Watches read rows, not notices, so none can be missed: a condition wakes those of this process at once; SQLite's
data_version, looked at every `LOOK` seconds, tells what other processes wrote.

Leases run by the clock since boot, which no setting of the time moves and all processes share.  After a reboot they
begin anew, as etcd's do after a change of leader.  Expiry is part of the next call or look, whoever's it is.
"""
from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import database
from .contract import (
    Change,
    Compacted,
    Compare,
    Delete,
    Entry,
    LeaseNotFound,
    Operation,
    Outcome,
    Page,
    Put,
    StoreError,
    checked,
    end_of,
)

LOOK = 0.05
FORMAT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL,
                                  compacted INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS change (key BLOB, revision INTEGER, value BLOB, created INTEGER, version INTEGER,
                                   lease INTEGER, PRIMARY KEY (key, revision)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS change_by_revision ON change (revision);
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY AUTOINCREMENT, seconds REAL, deadline REAL, boot TEXT);
"""
COLUMNS = "key, value, created, revision, version, lease"


def since_boot() -> float:
    """Seconds, suspended ones included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sqlite:
    """A `Store` in a file, made if it is not there.  `clock` gives seconds, for leases."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = since_boot) -> None:
        self.path, self._clock = Path(path), clock
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._changed = threading.Condition(threading.RLock())
        self._open = True
        self._db = database.opened(self.path, SCHEMA, FORMAT)
        with self._transaction("IMMEDIATE"):
            self._db.execute("UPDATE lease SET boot = ?, deadline = ? + seconds WHERE boot != ?",
                             (self._boot, self._clock(), self._boot))

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        with self._reading():
            return self._state()[0]

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """One entry, now or at a revision."""
        with self._reading():
            return self._at(key, self._readable(revision))

    def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        """The entries whose keys begin so and come after the key `after`, at most `limit` (0: all)."""
        with self._reading():
            at = self._readable(revision)
            where, values = _begins(prefix)
            rows = self._db.execute(
                f"SELECT {COLUMNS} FROM (SELECT key, value, created, MAX(revision) AS revision, version, lease"
                f" FROM change WHERE {where} AND key > ? AND revision <= ? GROUP BY key)"
                f" WHERE value IS NOT NULL ORDER BY key LIMIT ?",
                (*values, after.encode(), at, limit + 1 if limit else -1)).fetchall()
            more = bool(limit) and len(rows) > limit
            return Page(tuple(map(_entry, rows[:limit] if more else rows)), at, more)

    # -- writing -----------------------------------------------------------------------------------------------------

    def transact(self, compares: Sequence[Compare], then: Sequence[Operation],
                 otherwise: Sequence[Operation] = ()) -> Outcome:
        """`then` if all compares hold, else `otherwise`."""
        checked(then)
        checked(otherwise)
        with self._writing():
            succeeded = all([compare.holds(self._at(compare.key, self._state()[0])) for compare in compares])
            return Outcome(succeeded, self._write(then if succeeded else otherwise))

    def _write(self, operations: Sequence[Operation]) -> int:
        """Carry out operations at the next revision; answers the revision after it."""
        now = self._state()[0]
        revision, written = now + 1, False
        for operation in operations:
            if isinstance(operation, Put):
                if operation.lease and not self._db.execute("SELECT 1 FROM lease WHERE id = ?",
                                                            (operation.lease,)).fetchone():
                    raise LeaseNotFound(operation.lease)
                old = self._at(operation.key, now)
                self._row(operation.key, revision, operation.value, old.created if old else revision,
                          old.version + 1 if old else 1, operation.lease)
                written = True
            else:
                for key in self._meant(operation, now):
                    self._row(key, revision, None, 0, 0, 0)
                    written = True
        if written:
            self._db.execute("UPDATE state SET revision = ?", (revision,))
        return revision if written else now

    def _meant(self, operation: Delete, revision: int) -> list[str]:
        """The keys there are that a deletion deletes."""
        if not operation.prefix:
            return [operation.key] if self._at(operation.key, revision) is not None else []
        where, values = _begins(operation.key)
        rows = self._db.execute(f"SELECT key FROM (SELECT key, value, MAX(revision) FROM change WHERE {where}"
                                " GROUP BY key) WHERE value IS NOT NULL", values).fetchall()
        return [key.decode() for (key,) in rows]

    def _row(self, key: str, revision: int, value: bytes | None, created: int, version: int, lease: int) -> None:
        # Two deletions of one transaction may mean the same key.
        self._db.execute(f"INSERT OR REPLACE INTO change ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
                         (key.encode(), value, created, revision, version, lease))

    def compact(self, revision: int) -> None:
        """Forget what no range at `revision` or later shows, and changes up to `revision`."""
        with self._writing():
            now, compacted = self._state()
            if revision > now:
                raise ValueError(f"revision {revision} is still to come; the store is at {now}")
            if revision <= compacted:
                raise Compacted(revision, compacted)
            self._db.execute(
                "DELETE FROM change WHERE revision <= ?1 AND (value IS NULL OR revision < (SELECT MAX(revision)"
                " FROM change AS later WHERE later.key = change.key AND later.revision <= ?1))", (revision,))
            self._db.execute("UPDATE state SET compacted = ?", (revision,))

    # -- watching ----------------------------------------------------------------------------------------------------

    def watch(self, prefix: str, revision: int = 0) -> SqliteWatch:
        """Changes at `revision` and later; 0 for those after now."""
        with self._reading():
            now, compacted = self._state()
            if 0 < revision <= compacted:
                raise Compacted(revision, compacted)
            return SqliteWatch(self, prefix, revision or now + 1)

    def _since(self, prefix: str, revision: int) -> tuple[list[Change], int]:
        """The changes at `revision` and later, and the revision to ask for next."""
        with self._reading():
            now, compacted = self._state()
            if revision <= compacted:
                raise Compacted(revision, compacted)
            where, values = _begins(prefix)
            rows = self._db.execute(f"SELECT {COLUMNS} FROM change INDEXED BY change_by_revision"
                                    f" WHERE revision >= ? AND {where} ORDER BY revision, key",
                                    (revision, *values)).fetchall()
            return [Change(row[3], row[0].decode(), None if row[1] is None else _entry(row)) for row in rows], \
                max(now + 1, revision)

    # -- leases ------------------------------------------------------------------------------------------------------

    def grant(self, seconds: float) -> int:
        """A lease that runs out after so many seconds, unless kept alive."""
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"a lease lasts for some seconds, not {seconds}")
        with self._writing():
            made = self._db.execute("INSERT INTO lease (seconds, deadline, boot) VALUES (?, ?, ?)",
                                    (seconds, self._clock() + seconds, self._boot)).lastrowid
            assert made is not None
            return made

    def keep_alive(self, lease: int) -> None:
        """Begin its time anew."""
        with self._writing():
            if not self._db.execute("UPDATE lease SET deadline = ? + seconds WHERE id = ?",
                                    (self._clock(), lease)).rowcount:
                raise LeaseNotFound(lease)

    def revoke(self, lease: int) -> None:
        """End it, and delete its keys."""
        with self._writing():
            if not self._db.execute("SELECT 1 FROM lease WHERE id = ?", (lease,)).fetchone():
                raise LeaseNotFound(lease)
            self._end([lease])

    def _end(self, leases: list[int]) -> None:
        """Delete leases and their keys.  A store has few keys under leases, so they are looked for, not indexed."""
        marks = ", ".join("?" * len(leases))
        keys = self._db.execute("SELECT key FROM (SELECT key, value, MAX(revision), lease FROM change GROUP BY key)"
                                f" WHERE value IS NOT NULL AND lease IN ({marks})", leases).fetchall()
        self._write([Delete(key.decode()) for (key,) in keys])
        self._db.execute(f"DELETE FROM lease WHERE id IN ({marks})", leases)

    def _ended(self) -> list[int]:
        return [lease for (lease,) in self._db.execute("SELECT id FROM lease WHERE deadline <= ?", (self._clock(),))]

    # -- parts -------------------------------------------------------------------------------------------------------

    def _state(self) -> tuple[int, int]:
        """The revision, and up to which it is compacted."""
        revision, compacted = self._db.execute("SELECT revision, compacted FROM state").fetchone()
        return revision, compacted

    def _readable(self, revision: int) -> int:
        now, compacted = self._state()
        if revision > now:
            raise ValueError(f"revision {revision} is still to come; the store is at {now}")
        if revision and revision < compacted:
            raise Compacted(revision, compacted)
        return revision or now

    def _at(self, key: str, revision: int) -> Entry | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM change WHERE key = ? AND revision <= ?"
                               " ORDER BY revision DESC LIMIT 1", (key.encode(), revision)).fetchone()
        return None if row is None or row[1] is None else _entry(row)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One revision for everything that is read inside; leases that have run out are gone."""
        with self._changed:
            self._demand_open()
            if self._ended():
                with self._writing():
                    pass
            with self._transaction("DEFERRED"):
                yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """All of it or nothing, with nobody else in between."""
        with self._changed:
            self._demand_open()
            with self._transaction("IMMEDIATE"):
                if ended := self._ended():
                    self._end(ended)
                yield
            self._changed.notify_all()

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with database.transaction(self._db, self.path, kind):
            yield

    def _demand_open(self) -> None:
        if not self._open:
            raise StoreError(f"{self.path} is closed")

    def close(self) -> None:
        """Watches end."""
        with self._changed:
            if self._open:
                self._open = False
                self._db.close()
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class SqliteWatch:
    """Made by `Sqlite.watch`."""

    def __init__(self, store: Sqlite, prefix: str, revision: int) -> None:
        self._store, self._prefix, self._next, self._open = store, prefix, revision, True

    def read(self, timeout: float | None = None) -> list[Change]:
        """The next changes, of whole revisions; an empty list after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        seen = -1
        with self._store._changed:
            while self._open:
                self._store._demand_open()
                (version,) = self._store._db.execute("PRAGMA data_version").fetchone()
                if version != seen or self._store._ended() or self._store.revision >= self._next:
                    seen = version
                    changes, self._next = self._store._since(self._prefix, self._next)
                    if changes:
                        return changes
                left = LOOK if deadline is None else min(LOOK, deadline - time.monotonic())
                if left <= 0:
                    return []
                self._store._changed.wait(left)
        raise StoreError("the watch is closed")

    def close(self) -> None:
        """Make a waiting `read` return."""
        with self._store._changed:
            self._open = False
            self._store._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _begins(prefix: str) -> tuple[str, tuple[bytes, ...]]:
    """As a condition: a key begins with `prefix`."""
    end = end_of(prefix)
    return ("key >= ?", (prefix.encode(),)) if end is None else ("key >= ? AND key < ?", (prefix.encode(), end))


def _entry(row: Any) -> Entry:
    key, value, created, modified, version, lease = row
    return Entry(key.decode(), value, created, modified, version, lease)
