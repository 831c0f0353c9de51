"""Entries of one version of a function, as entries of another.

A new version takes over the tables of a running one as they are, if they are laid out alike.  Where they are not, it
says how an entry is converted, and, so that one can go back, how it is converted again:

    class Learning(Function):                               # version 2: stations have got a counter
        stations: Hash[mac, Station] = table(4096)

        @migrates("stations", since=Hash[mac, OldStation])
        def with_frames(self, key: mac, old: OldStation) -> Station:
            return Station(port=old.port, frames=0)

        @reverts("stations", to=Hash[mac, OldStation])
        def without_frames(self, key: mac, new: Station) -> OldStation:
            return OldStation(port=new.port)

Both are ordinary Python, and stand in the *newer* class: the older one cannot know what comes after it.  They answer
the value; or `(key, value)`, if keys change too; or None, if the entry is to go.  They are given every entry once, and
again if it is written while the tables are being changed, so they do nothing but convert.

`since` and `to` name the other version's table by its type, and are found by layout: it need not be the same class.  A
table that only the newer version has starts empty.  That its entries may go when one goes back must be said: `@reverts`
with `to=None`.  So must be that those of a table may go which the newer version has no more: a `@migrates` that answers
None.  How long a mortal entry has lived is kept.  Tables per CPU and tables of tables are not converted.

Rejected: converting by the names of fields, silently.  A field that keeps its name and changes its meaning is the
commonest reason to have a new layout.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .layout import Layout
from .machine import now
from .tables import STAMP, TABLES, Declared, Table, TableSpec, declare, encode, size_of

if TYPE_CHECKING:
    from .function import Function

F = TypeVar("F", bound=Callable[..., Any])


def migrates(table: str, *, since: Any) -> Callable[[F], F]:
    """The method that converts an entry of `table`, which was a `since` in the version before: `(self, key, old)`."""
    return _marks(table, since, False)


def reverts(table: str, *, to: Any) -> Callable[[F], F]:
    """The method that converts an entry of `table` to what it was before, a `to`: `(self, key, new)`.

    `to` is None if the version before had no such table.
    """
    return _marks(table, to, True)


def _marks(table: str, other: Any, back: bool) -> Callable[[F], F]:
    described = None if other is None else declare(table, other, Declared(1))

    def mark(method: F) -> F:
        method.__migrates__ = [*getattr(method, "__migrates__", []), (table, described, back)]  # type: ignore[attr-defined]
        return method
    return mark


@dataclass(frozen=True)
class Migration:
    """How the entries of one table become those of another; `to` is None where they go."""

    since: Table[Any, Any]
    to: Table[Any, Any] | None
    convert: Callable[[Any, Any], Any]

    def converted(self, key: bytes, value: bytes) -> tuple[bytes, bytes] | None:
        """The bytes of an entry as the other table's, or None if it goes.  Raises what the author's method raises."""
        since, to = self.since, self.to
        found = since._unkey(key)
        answer = self.convert(found, _decoded(since, value))
        if answer is None or to is None:
            return None
        other, made = answer if isinstance(answer, tuple) else (found, answer)
        kind = to.spec.value
        if isinstance(made, Layout) and not isinstance(made, kind) and _type(type(made)) == _type(kind):
            made = kind.decode(bytes(made))             # the other version's class of the same layout
        raw = encode(kind, made)
        if to.spec.ttl:
            stamp = value[-STAMP:] if since.spec.ttl else now().to_bytes(STAMP, "little")
            raw = raw.ljust(to.spec.stored_size - STAMP, b"\0") + stamp
        return to._key(other), raw


def migration(old: Function, new: Function, name: str) -> Migration | None:
    """What the newer of two functions says of a table that differs; None if it says nothing."""
    was, would = old.tables.get(name), new.tables.get(name)
    if was is None:
        return None
    for kind, function, back, other in ((type(new), new, False, was), (type(old), old, True, would)):
        for method in dir(kind):
            for table, described, reverse in getattr(getattr(kind, method), "__migrates__", ()):
                alike = other is None or (described is not None and layout(described) == layout(other.spec, False))
                if (table, reverse) == (name, back) and alike:
                    return Migration(was, would, getattr(function, method))
    return None


def since_layout(text: str, aged: bool, new: Function, name: str) -> Migration | None:
    """The same, where all that is left of the older version is how a table was laid out (`layout`, without its age)."""
    for method in dir(type(new)):
        for table, described, reverse in getattr(getattr(type(new), method), "__migrates__", ()):
            if (table, reverse) == (name, False) and described is not None and layout(described, False) == text:
                since = TABLES[described.kind](replace(described, ttl=int(aged)))
                return Migration(since, new.tables[name], getattr(new, method))
    return None


def layout(spec: TableSpec, age: bool = True) -> str:
    """A table's meaning in one line: equal for two tables exactly if one can read the other's bytes."""
    value = _type(spec.value) if spec.inner is None else f"({layout(spec.inner)})"
    marks = (" with age" if spec.ttl and age else "") + (" per CPU" if spec.per_cpu else "")
    return f"{spec.kind} {_type(spec.key)} -> {value}{marks}"


def _type(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Layout):
        fields = ", ".join(f"{name}: {field.bits} bits at {field.offset}" for name, field in kind.fields.items())
        return f"{{{fields}}} in {kind.size} bytes"
    return f"{8 * size_of(kind)} bits" if kind is not None else "index"


def _decoded(table: Table[Any, Any], value: bytes) -> Any:
    kind = table.spec.value
    if isinstance(kind, type) and issubclass(kind, Layout):
        return kind.decode(value)
    return int.from_bytes(value[:size_of(kind)], "little")
