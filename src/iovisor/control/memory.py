"""What functions have learned, out of their tables and into others'.

A memory is JSON data: of each function, of each table, how its entries are laid out, and the entries as bytes.  It goes
into tables that are laid out alike, and into no others: what does not fit is named, never guessed.

The hidden stamp of a mortal entry is a time since the machine started.  It is kept as an age, and becomes a time again
where it is put in, so an entry lives on for what was left of its life, on this machine or another, after a reboot too.
Times that a function keeps in fields of its own (`time`) are shifted in the same way: language/moments.py knows where.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..fabric import Network
from ..language import Function
from ..language.machine import now
from ..language.migration import layout
from ..language.moments import places
from ..language.tables import Home, TableSpec

ARRAYS = ("array", "counter")


def remembered(network: Network) -> dict[str, Any]:
    """The memory of a network's functions."""
    return {name: of(instance.function) for name, instance in network.instances.items() if instance.function.tables}


def of(function: Function) -> dict[str, Any]:
    """The memory of one function: {table: {"layout": ..., "entries": [[key, value], ...]}}."""
    moment = now()
    return {name: {"layout": layout(table.spec), "entries": list(_entries(table.spec, table.home, moment))}
            for name, table in function.tables.items() if table.spec.kind != "counter"}


def recall(network: Network, memory: dict[str, Any]) -> list[str]:
    """Put a memory into a network's functions; answers what did not fit."""
    missing = []
    for name, tables in memory.items():
        instance = network.instances.get(name)
        if instance is None:
            missing.append(f"{name} is not there any more")
            continue
        missing += [f"{name}.{said}" for said in into(instance.function, tables)]
    return missing


def into(function: Function, tables: dict[str, Any]) -> list[str]:
    """Put a memory into the tables of one function; answers what did not fit."""
    moment, missing = now(), []
    for name, kept in tables.items():
        table = function.tables.get(name)
        if table is None or layout(table.spec) != kept["layout"]:
            missing.append(f"{name} is {'laid out differently now' if table else 'not there any more'}")
            continue
        left_out = _fill(table.spec, table.home, kept["entries"], moment)
        if left_out:
            missing.append(f"{name} is full: {left_out} of {len(kept['entries'])} entries are left out")
        table._wrote()
    return missing


def _entries(spec: TableSpec, home: Home, moment: int) -> Iterator[list[Any]]:
    for key, value in home.items():
        if spec.inner is not None:
            inner = home.inner(key)
            if inner is not None:
                yield [key.hex(), list(_entries(spec.inner, inner, moment))]
        elif spec.kind not in ARRAYS or any(value):
            yield [key.hex(), _aged(spec, bytes(value), moment).hex()]


def _fill(spec: TableSpec, home: Home, entries: list[list[Any]], moment: int) -> int:
    """How many entries found no room."""
    left_out = 0
    for key, value in entries:
        raw = bytes.fromhex(key)
        if spec.inner is not None:
            inner = home.inner(raw) or home.create(raw, spec.inner)
            left_out += _fill(spec.inner, inner, value, moment)
        elif not home.update(raw, _young(spec, bytes.fromhex(value), moment), 0):
            left_out += 1
    return left_out


def _aged(spec: TableSpec, value: bytes, moment: int) -> bytes:
    """A value with its times as 64 signed bits, counted from `moment`; a time of zero means never, and stays."""
    raw = bytearray(value)
    for at in places(spec):
        time = int.from_bytes(raw[at:at + 8], "little")
        if time:
            raw[at:at + 8] = ((time - moment) % (1 << 64) or (1 << 64) - 1).to_bytes(8, "little")
    return bytes(raw)


def _young(spec: TableSpec, value: bytes, moment: int) -> bytes:
    """The opposite of `_aged`, at another moment; what was before the machine was started is as old as that."""
    raw = bytearray(value)
    for at in places(spec):
        age = int.from_bytes(raw[at:at + 8], "little", signed=True)
        if age:
            raw[at:at + 8] = max(age + moment, 1).to_bytes(8, "little")
    return bytes(raw)


__all__ = ["into", "of", "recall", "remembered"]
