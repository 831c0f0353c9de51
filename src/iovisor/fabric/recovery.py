"""What was kept of a function's durable tables, read back after the machine was started anew.

A network that cannot be adopted begins empty; before anything leads to a function of it, its tables are filled with
what the shelf has for an instance of its name (so the first packet meets them, and what cannot be read keeps it from
standing: it fails closed).  Three things may have changed since:

 -  *The clock.*  Times of tables count from the start of the machine.  Each place on the shelf says which boot it was
    written in, and when, by that clock and by the world's; so its moments are moved to this boot's clock
    (language/moments.py).  If the world's clock stands before that, no time is believed to have passed.
 -  *The layout.*  The function may be a newer version; then its own `@migrates` converts, as for an upgrade.
 -  *The data path* had gone on changing entries after the last save.  What that can have been, only the function knows:
    it is told the moment of the save (`restored`), and makes of its entries what is safe.

The invariant that this has to give is the function's, not ours; dhcp's is that no address is promised to two.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..language import moments
from ..language.function import Function
from ..language.migration import layout, since_layout
from ..language.tables import TableSpec
from .shelf import Era, Shelf, alike

Read = Callable[[bytes, bytes], tuple[bytes, bytes] | None]


@dataclass
class Former:
    """Entries by table, by the clock of this boot, and until when the data path's changes are among them; and the
    places where they were, which are no more when they are kept anew."""

    entries: dict[str, dict[bytes, bytes]]
    since: int
    places: list[str]


def former(shelf: Shelf, era: Era, name: str, function: Function) -> Former | None:
    """What was kept of an instance of this name, for this function; None if nothing was.

    The function's tables are as large as what was kept demands: a size that was made smaller since does not lose
    entries.  ValueError: it cannot be read.
    """
    instances: dict[str, dict[str, Any]] = {}
    for place, label in shelf.places().items():
        at, _, table = place.partition("/")
        if at.rpartition(":")[0] == name:
            instances.setdefault(at, {})[table] = json.loads(label)
    durable = {table: found.spec for table, found in function.tables.items() if found.spec.durable}
    if not instances:
        return None
    # Two only if the process died while one took the other's place: the later one, if it is of this kind.
    readings, refusals = [], []
    for at, labels in sorted(instances.items(), key=lambda pair: int(pair[0].rpartition(":")[2]), reverse=True):
        try:
            readings.append((at, labels, _readers(name, function, durable, labels)))
        except ValueError as error:
            refusals.append(error)
    if not readings:
        raise refusals[0]
    at, labels, readers = readings[0]
    found = Former({}, 0, [f"{at}/{table}" for at, tables in instances.items() for table in tables])
    sinces = []
    for table, (read, spec) in readers.items():
        label = labels[table]
        by = _ahead(era, label)
        entries = found.entries[table] = {}
        for key, value in shelf.entries(f"{at}/{table}").items():
            entry = read(key, moments.moved(spec, value, by, label["saved"]))
            if entry is not None:
                entries[entry[0]] = entry[1]
        sinces.append(max(label["saved"] + by, 1))
        here = function.tables[table]
        if len(entries) > int(here.spec.size):
            here.spec = replace(here.spec, size=len(entries))
    found.since = min(sinces, default=0)
    return found


def _ahead(era: Era, label: Mapping[str, Any]) -> int:
    """By how much this boot's clock is ahead of the one an entry was written by."""
    if label["boot"] == era.boot:
        return 0
    passed = max(era.world() - label["world"], 0)
    return int(era.now() - label["now"] - passed)


def _readers(name: str, function: Function, durable: Mapping[str, TableSpec],
             labels: Mapping[str, Any]) -> dict[str, tuple[Read, TableSpec]]:
    """How the entries of each table are read: a conversion, and the specification they were written by."""
    found: dict[str, tuple[Read, TableSpec]] = {}
    for table, spec in durable.items():
        label = labels.get(table)
        if label is None:
            continue
        if alike(label, spec):
            found[table] = lambda key, value: (key, value), spec
            continue
        migration = since_layout(label["layout"], label["aged"], function, table)
        if migration is None:
            raise ValueError(
                f"what was kept of {name}.{table} cannot be read: nothing says how entries are converted (@migrates)\n"
                f"        is        {label['layout']}\n        would be  {layout(spec, False)}\n"
                f"    bring back the version that wrote it, or give the function another name: it then begins empty")
        found[table] = migration.converted, migration.since.spec
    return found


__all__ = ["Former", "former"]
