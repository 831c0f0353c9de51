"""A new image takes over the tables of a running instance.

That is safe exactly if both kinds mean the same by the bytes: every table of one has its namesake in the other, of the
same sort, keys and values laid out alike.  Otherwise nothing is touched, and the error shows both layouts.  Size
belongs to the instance, not to the image, so it stays as it is.  A declared `migrate` that converts entries is to come.

The new function is made from the old one's configuration, so a new kind may add fields that have defaults.  Its own
initial tables are thrown away; then `configure(old, new)` runs if the configurations differ.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..compiler.driver import compile
from ..language.errors import ConfigError
from ..language.function import Function
from ..language.layout import Layout
from ..language.tables import TableSpec, size_of
from ..targets.bpf_loaded import KINDS
from .instance import EGRESS, Instance


def take_over(instance: Instance, kind: type[Function]) -> None:
    """Make `kind` the function of `instance` and load its programs; nothing has changed if that fails.

    The caller settles the roots.  ValueError: the new kind does not fit in the old one's place.
    """
    old, loaded = instance.function, instance.loaded
    check(instance.name, old, kind)
    try:
        known = kind.spec().config.types
        fresh = kind(**{name: getattr(old.config, name) for name in old.config.types if name in known})
    except ConfigError as error:
        raise ValueError(f"{instance.name}: {kind.__name__} does not take this configuration: {error}") from error
    family = KINDS[loaded.target][0]()
    compiled = {entry: compile(kind, family, entry, instance.cache) for entry in loaded.stages.values()}
    for name, described in fresh.tables.items():
        described.home, described.spec = old.tables[name].home, replace(described.spec, size=old.tables[name].spec.size)
    former = loaded.compiled
    loaded.function, loaded.compiled = fresh, compiled
    try:
        loaded.configured()
    except BaseException:
        loaded.function, loaded.compiled = old, former
        raise
    instance.function = fresh
    if bytes(old.config.record()) != bytes(fresh.config.record()):
        fresh.configure(old.config, fresh.config)


def check(name: str, old: Function, kind: type[Function]) -> None:
    """Whether `kind` could take over from `old`; ValueError says why not."""
    was, would = old.spec(), kind.spec()
    if was.ports != would.ports:
        raise ValueError(f"{name} has the ports {was.ports}, {would.name} would have {would.ports}")
    if hasattr(old, EGRESS) != hasattr(kind, EGRESS):
        raise ValueError(f"{name}: of {was.name} and {would.name} only one has an egress")
    if [e.__name__ for e in was.events] != [e.__name__ for e in would.events]:
        raise ValueError(f"{name}: {was.name} and {would.name} do not punt the same events")
    before = {n: layout(s) for n, s in was.tables.items()}
    after = {n: layout(s) for n, s in would.tables.items()}
    differing = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    if differing:
        lines = [f"    {table}\n        is        {before.get(table, 'absent')}\n"
                 f"        would be  {after.get(table, 'absent')}" for table in differing]
        raise ValueError("\n".join([f"{would.name} cannot take over the tables of {name}:", *lines]))


def layout(spec: TableSpec) -> str:
    """A table's meaning in one line: equal for two tables exactly if one can read the other's bytes."""
    value = _type(spec.value) if spec.inner is None else f"({layout(spec.inner)})"
    marks = (" with age" if spec.ttl else "") + (" per CPU" if spec.per_cpu else "")
    return f"{spec.kind} {_type(spec.key)} -> {value}{marks}"


def _type(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Layout):
        fields = ", ".join(f"{name}: {field.bits} bits at {field.offset}" for name, field in kind.fields.items())
        return f"{{{fields}}} in {kind.size} bytes"
    return f"{8 * size_of(kind)} bits" if kind is not None else "index"
