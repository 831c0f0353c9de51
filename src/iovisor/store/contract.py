"""What a store promises.

A store maps keys (text) to values (bytes) and has one *revision*, a number that every transaction which changes
something raises by one.  What it promises, and the suite in tests/store demands:

 -  A transaction compares, then writes all or nothing, at one revision.  When `transact` has returned, no crash of the
    process and no power cut loses it; a transaction that was cut off is there as a whole or not at all.
 -  A range shows one revision, now or in the past, never half a transaction.
 -  A watch tells every change from its revision on, in order, none left out and none twice, however long its reader
    was away; a transaction's changes come together.
 -  What is older than a compaction is refused with `Compacted`, never answered wrongly.  One then lists and watches
    from there.
 -  Keys under a lease go, in one transaction, when nobody has kept it alive for its time.

It is etcd's contract, down to its limits (`MOST_OPERATIONS`, `MOST_BYTES`), so that what works on one host works on
many.  Left out: etcd's nested transactions, and reads inside of one; nobody needed them.  Calls block: whoever applies
a network waits for the kernel as well, and does both in a thread.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

MOST_OPERATIONS = 128
MOST_BYTES = 1 << 20


class StoreError(Exception):
    """The store refuses, or cannot be reached; nothing was changed."""


class Compacted(StoreError):
    """What was asked for is older than what is kept; `oldest` is the first revision that can be read."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is compacted; the oldest that is kept is {oldest}: list, then watch")
        self.oldest = oldest


class LeaseNotFound(StoreError):
    """There is no such lease, or it has run out."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease} does not exist, or has run out: grant a new one")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, its value, and where it stands in history.

    `created` and `modified` are revisions, `version` counts the writes since it was created, from 1; `lease` is 0 for
    none.
    """

    key: str
    value: bytes
    created: int
    modified: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the order of their keys, as of `revision`; `more` if the limit left some out."""

    entries: tuple[Entry, ...]
    revision: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a key at a revision: `entry` is None if it was deleted."""

    revision: int
    key: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction.  A key that is absent has created, modified and version 0, and no value."""

    key: str
    what: Literal["created", "modified", "version", "value"]
    value: int | bytes
    is_: Literal["=", "!=", "<", ">"] = "="

    @classmethod
    def absent(cls, key: str) -> Compare:
        return cls(key, "modified", 0)

    @classmethod
    def present(cls, key: str) -> Compare:
        return cls(key, "modified", 0, ">")

    @classmethod
    def unchanged(cls, entry: Entry) -> Compare:
        return cls(entry.key, "modified", entry.modified)

    def holds(self, entry: Entry | None) -> bool:
        """Whether it is so."""
        if self.what == "value":
            if entry is None:
                return False
            return _compared(entry.value, self.is_, self.value)
        return _compared(getattr(entry, self.what) if entry is not None else 0, self.is_, self.value)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; under a lease, or under none."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, or every key that begins like this.  What is absent is no error, and no change."""

    key: str
    prefix: bool = False


Operation = Put | Delete


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the compares held, and the store's revision after the transaction."""

    succeeded: bool
    revision: int


class Watch(Protocol):
    """Changes of the keys that begin alike, from a revision on."""

    def read(self, timeout: float | None = None) -> list[Change]:
        """The next changes, of whole revisions; an empty list after `timeout` seconds (None: wait for ever).

        Compacted if what comes next is not kept any more; StoreError once the watch is closed.
        """

    def close(self) -> None:
        """Make a waiting `read` return."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...


class Store(Protocol):
    """May be used by any number of threads."""

    @property
    def revision(self) -> int:
        """Of the latest transaction that changed something; 0 at first."""

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """One entry, now or at a revision."""

    def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        """The entries whose keys begin so and come after the key `after`, at most `limit` (0: all)."""

    def transact(self, compares: Sequence[Compare], then: Sequence[Operation],
                 otherwise: Sequence[Operation] = ()) -> Outcome:
        """`then` if all compares hold, else `otherwise`.  No key may be written twice; LeaseNotFound for a `Put`'s."""

    def watch(self, prefix: str, revision: int = 0) -> Watch:
        """Changes at `revision` and later; 0 for those after now."""

    def grant(self, seconds: float) -> int:
        """A lease that runs out after so many seconds, unless kept alive."""

    def keep_alive(self, lease: int) -> None:
        """Begin its time anew."""

    def revoke(self, lease: int) -> None:
        """End it, and delete its keys."""

    def compact(self, revision: int) -> None:
        """Forget what no range at `revision` or later shows, and changes up to `revision`."""

    def close(self) -> None: ...


def checked(operations: Sequence[Operation]) -> None:
    """Refuse what some store would refuse; ValueError says why."""
    if len(operations) > MOST_OPERATIONS:
        raise ValueError(f"a transaction has at most {MOST_OPERATIONS} operations, not {len(operations)}")
    size = sum(len(o.key.encode()) + len(o.value) for o in operations if isinstance(o, Put))
    if size > MOST_BYTES:
        raise ValueError(f"a transaction writes at most {MOST_BYTES} bytes, not {size}: keep large things in files")
    written = [o for o in operations if isinstance(o, Put)]
    keys = {o.key for o in written}
    if "" in keys:
        raise ValueError("a key has one character or more")
    if len(keys) < len(written):
        raise ValueError("a transaction writes a key once")
    for o in operations:
        if isinstance(o, Delete) and any(k.startswith(o.key) if o.prefix else k == o.key for k in keys):
            raise ValueError(f"a transaction cannot both write and delete {o.key!r}")


def end_of(prefix: str) -> bytes | None:
    """The first key, as bytes, behind all that begin with `prefix`; None if there is none."""
    raw = bytearray(prefix.encode())
    while raw and raw[-1] == 0xFF:
        raw.pop()
    if not raw:
        return None
    raw[-1] += 1
    return bytes(raw)


def _compared(one: int | bytes, is_: str, other: int | bytes) -> bool:
    if isinstance(one, bytes) is not isinstance(other, bytes):
        raise ValueError("a value is compared with bytes, a revision or version with a number")
    if is_ == "=":
        return one == other
    if is_ == "!=":
        return one != other
    return one < other if is_ == "<" else one > other  # type: ignore[operator]
