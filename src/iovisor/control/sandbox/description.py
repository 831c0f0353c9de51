"""A kind's declarations as data, and specifications made of such data.

`describe` runs inside, where the class is; `Described.read` outside, where every field may have been forged.  What it
lets through is what a `FunctionSpec` of an honest author could hold: so nothing behind it needs to ask again.  Records
are declared anew, by the same code that lays them out for everybody, and only if they come out in the size that was
said.
"""
from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from ...language import DeclarationError, Function, FunctionSpec, Ports, PortSet
from ...language.integers import UInt, uint
from ...language.layout import RESERVED, Header, Layout, Record
from ...language.ports import MOST as PORTS
from ...language.tables import TABLES, Count, TableSpec
from ...language.verdicts import Dropped
from .channel import Message

T = TypeVar("T")
MARK = "number "                # before the name of what a size stands for: no field of ours is called so
TAKEN = frozenset(dir(Function)) | {"config", "tables", "drops", "outbox", "post", "made", "given", "begin", "act",
                                    "attendance", "elsewhere"}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
PATH = re.compile(rf"{NAME.pattern}(\.{NAME.pattern})?")
ENTRIES = ("ingress", "egress")
MOST_ENTRIES = 1 << 24          # of a table
MOST_BYTES = 4096               # of a key or a value
MOST_PARTS = 64                 # tables, events, actions, timers


class Forged(ValueError):
    """This is no description."""


# -- inside ----------------------------------------------------------------------------------------------------------

def describe(kind: type[Function]) -> Message:
    """The declarations of a kind."""
    spec = kind.spec()
    if kind.queues is not Function.queues:
        raise DeclarationError(f"{kind.__name__} asks for queues, which only functions of the catalogue may")
    if spec.servers:
        raise DeclarationError(f"{kind.__name__} serves TCP, which only functions of the catalogue may")
    return {
        "name": kind.__name__, "documentation": inspect.cleandoc(vars(kind).get("__doc__") or ""),
        "ports": {name: port if isinstance(port, int) else [port.first, port.count] for name, port in
                  spec.ports.items()},
        "reasons": {str(number): name for number, name in spec.reasons.items()},
        "tables": [_table(table) for table in spec.tables.values()],
        "events": [_layout(event) for event in spec.events],
        "handlers": [spec.handlers[event] for event in spec.events],
        "timers": spec.timers,
        "actions": [_action(kind, name, text) for name, text in spec.actions.items()],
        "migrations": [{"method": method, "table": table, "other": None if other is None else _table(other),
                        "back": back}
                       for method in dir(kind)
                       for table, other, back in getattr(getattr(kind, method), "__migrates__", ())],
        "schema": spec.config.schema(), "record": spec.config.layout.size,
        "lines": {entry: getattr(kind, entry).__code__.co_firstlineno for entry in ENTRIES if hasattr(kind, entry)},
        "parts": kind.parted is not Function.parted, "restores": kind.restored is not Function.restored,
        "configures": kind.configure is not Function.configure or kind.__init__ is not Function.__init__,
    }


def numbers(kind: type[Function], config: Any) -> dict[str, int]:
    """What sizes and lifetimes of tables stand for in a configuration, by name."""
    specs = [inside for table in kind.spec().tables.values() for inside in (table, table.inner) if inside is not None]
    names = {what for spec in specs for what in (spec.size, spec.ttl) if isinstance(what, str)}
    return {name: int(getattr(config, name)) for name in names}


def _table(spec: TableSpec) -> Message:
    return {"name": spec.name, "kind": spec.kind, "key": _type(spec.key), "value": _type(spec.value),
            "size": spec.size, "ttl": spec.ttl, "per_cpu": spec.per_cpu,
            "inner": None if spec.inner is None else _table(spec.inner), "durable": spec.durable}


def _type(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Layout):
        return _layout(kind)
    number = uint(kind)
    return None if number is None else [number.bits, number.text]


def _layout(kind: type[Layout]) -> Message:
    return {"known": kind is PortSet, "name": kind.__name__, "wire": kind.wire, "size": kind.size,
            "fields": [[field.name, field.bits, field.text] for field in kind.fields.values()]}


def _action(kind: type[Function], name: str, text: str) -> Message:
    from ..actions import typed
    method: Any = kind
    for part in name.split("."):
        method = getattr(method, part)
    parameters = [one for one in inspect.signature(method).parameters.values() if one.name != "self"]
    return {"name": name, "documentation": text, "parameters": [
        {"name": one.name, "required": one.default is inspect.Parameter.empty, "type": typed(one.annotation)}
        for one in parameters]}


# -- outside ---------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Converting:
    """A method that converts the entries of a table, as a migration declares it."""

    method: str
    table: str
    other: TableSpec | None
    back: bool


@dataclass(frozen=True)
class Described:
    """What a worker says of a kind; `spec` lacks the configuration, which is opaque here."""

    name: str
    documentation: str
    ports: dict[str, int | Ports]
    reasons: dict[int, str]
    tables: dict[str, TableSpec]
    events: tuple[type[Record], ...]
    handlers: tuple[str, ...]
    timers: dict[str, float]
    actions: tuple[Message, ...]
    migrations: tuple[Converting, ...]
    schema: Mapping[str, Any]
    record: int
    lines: dict[str, int]
    configures: bool
    parts: bool
    restores: bool

    @classmethod
    def read(cls, data: Any) -> Described:
        """Forged: it is no description."""
        data = _is(data, dict)
        tables = [_read_table(one) for one in _list(data.get("tables"))]
        events = tuple(_read_layout(one, Record) for one in _list(data.get("events")))
        handlers = tuple(_text(one, PATH) for one in _list(data.get("handlers")))
        lines = {entry: _number(line, 1, 1 << 20) for entry, line in _map(data.get("lines")).items()}
        _require(len(handlers) == len(events), "handlers are not as many as events")
        _require("ingress" in lines and lines.keys() <= set(ENTRIES), "there is no ingress")
        _require(len({one.name for one in tables}) == len(tables), "two tables have one name")
        for one in tables:
            _own(one.name)
        sets = [one for one in tables if one.value is PortSet]
        _require(len(sets) < 2 and all(one.kind == "array" and not one.per_cpu for one in sets), "strange port sets")
        return cls(
            _text(data.get("name"), NAME), _free(data.get("documentation"), 1 << 16), _read_ports(data.get("ports")),
            _read_reasons(data.get("reasons")), {one.name: one for one in tables}, events, handlers,
            {_text(name, PATH): _period(seconds) for name, seconds in _map(data.get("timers")).items()},
            tuple(_read_action(one) for one in _list(data.get("actions"))),
            tuple(_read_migration(one) for one in _list(data.get("migrations"))),
            _is(data.get("schema"), dict), _number(data.get("record"), 0, MOST_BYTES), lines,
            _is(data.get("configures"), bool), _is(data.get("parts"), bool),
            _is(data.get("restores"), bool))

    def spec(self, config: Any) -> FunctionSpec:
        return FunctionSpec(self.name, config, self.tables, self.ports, self.reasons, self.events,
                            dict(zip(self.events, self.handlers, strict=True)),
                            {one["name"]: one["documentation"] for one in self.actions}, self.timers)


def read_numbers(described: Described, data: Any) -> dict[str, int]:
    """What the sizes and lifetimes of tables stand for; each is there, and none is absurd."""
    found = {}
    for name, value in _map(data).items():
        found[MARK + _text(name, NAME)] = _number(value, 0, (1 << 63) - 1)
    for table in described.tables.values():
        for spec in (table, table.inner) if table.inner is not None else (table,):
            for what, most in ((spec.size, MOST_ENTRIES), (spec.ttl, (1 << 63) - 1)):
                if isinstance(what, str):
                    _require(what in found, f"nothing says how much {what.removeprefix(MARK)} is")
                    _number(found[what], 0 if most > MOST_ENTRIES else 1, most)
    return found


def _read_ports(data: Any) -> dict[str, int | Ports]:
    found: dict[str, int | Ports] = {}
    count = 0
    for name, port in _map(data, PORTS).items():
        if isinstance(port, list):
            _require(len(port) == 2, "a family has a first port and a count")
            found[_own(name)] = Ports(_number(port[0], count, count), _number(port[1], 1, PORTS))
            count += port[1]
        else:
            found[_own(name)] = _number(port, count, count)
            count += 1
    _require(count <= PORTS, f"{count} ports are too many")
    return found


def _read_reasons(data: Any) -> dict[int, str]:
    found = {int(reason): reason.name for reason in Dropped}
    for number, name in _map(data, 256).items():
        _require(isinstance(number, str) and number.isdecimal() and int(number) < 256, f"{number} is no reason")
        if int(number) >= 16:
            found[int(number)] = _text(name, NAME)
    return found


def _read_table(data: Any, depth: int = 0) -> TableSpec:
    data = _is(data, dict)
    name = _text(data.get("name"), PATH if not depth else re.compile(rf"{PATH.pattern}\.inner"))
    kind = data.get("kind")
    _require(kind in TABLES, f"there is no table of kind {kind!r}")
    size, ttl = (MARK + _text(what, NAME) if isinstance(what, str) else _number(what, least, most)
                 for what, least, most in ((data.get("size"), 1, MOST_ENTRIES), (data.get("ttl"), 0, (1 << 63) - 1)))
    per_cpu = _is(data.get("per_cpu"), bool)
    inner = None if data.get("inner") is None else _read_table(data["inner"], depth + 1)
    if kind == "counter":
        return TableSpec(name, "counter", None, Count, size, 0, True)
    key = None if kind == "array" else _read_type(data.get("key"))
    value: Any = inner if inner is not None else _read_type(data.get("value"))
    if inner is not None:
        _require(depth == 0 and kind == "hash" and not ttl and not per_cpu, "tables nest once, in a hash")
        value = None
    _require(kind != "lpm" or (uint(key) or UInt(0)).bits in (32, 64, 128), "a prefix has 32, 64 or 128 bits")
    _require(not ttl or (kind in ("hash", "lru") and _is_record(value)), "only records of hashes are mortal")
    _require(not per_cpu or (kind != "lpm" and not ttl), "this cannot be per CPU")
    durable = _is(data.get("durable"), bool)
    _require(not durable or (kind == "hash" and not per_cpu and inner is None), "this cannot be durable")
    return TableSpec(name, kind, key, value, size, ttl, per_cpu, inner, durable)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Layout)


def _read_type(data: Any) -> Any:
    if isinstance(data, dict):
        if data.get("known") is True:
            return PortSet
        return _read_layout(data, Header if data.get("wire") else Record)
    _require(isinstance(data, list) and len(data) == 2, f"{data!r:.80} is no type")
    return Annotated[int, UInt(_number(data[0], 1, 128), _free(data[1], 16))]


def _read_layout(data: Any, base: type[T]) -> type[T]:
    data = _is(data, dict)
    fields = {}
    for field in _list(data.get("fields"), 256):
        _require(isinstance(field, list) and len(field) == 3, "a field has a name, bits and a form")
        name = _text(field[0], NAME)
        _require(name not in RESERVED and not name.startswith("_") and name not in fields, f"no field is called {name}")
        fields[name] = Annotated[int, UInt(_number(field[1], 1, 128), _free(field[2], 16))]
    body: dict[str, Any] = {"__annotations__": fields, "__module__": __name__}
    make: Any = type(base)
    try:
        found = make(_text(data.get("name"), NAME), (base,), body)
    except Exception as error:
        raise Forged(f"this is no layout: {error}") from error
    _require(found.size == data.get("size") and found.size <= MOST_BYTES, f"{found.__name__} has another size")
    return found  # type: ignore[no-any-return]


def _read_action(data: Any) -> Message:
    data = _is(data, dict)
    return {"name": _text(data.get("name"), PATH), "documentation": _free(data.get("documentation"), 1 << 12),
            "parameters": [{"name": _text(one.get("name"), NAME), "required": _is(one.get("required"), bool),
                            "type": _free(one.get("type"), 200)}
                           for one in map(_map, _list(data.get("parameters")))]}


def _read_migration(data: Any) -> Converting:
    data = _is(data, dict)
    return Converting(_text(data.get("method"), NAME), _text(data.get("table"), PATH),
                      None if data.get("other") is None else _read_table(data["other"]), _is(data.get("back"), bool))


def _own(name: Any) -> str:
    """The name of a port or a table, which becomes an attribute of the stand-in."""
    found = _text(name, PATH)
    _require(found not in TAKEN and not found.startswith("_"), f"{found} is the name of something else")
    return found


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Forged(what)


def _is(value: Any, kind: type[T]) -> T:
    _require(type(value) is kind, f"expected {kind.__name__}, not {value!r:.80}")
    return value  # type: ignore[no-any-return]


def _list(value: Any, most: int = MOST_PARTS) -> list[Any]:
    found: list[Any] = _is(value, list)
    _require(len(found) <= most, f"{len(found)} of them are too many: {most} is the most")
    return found


def _map(value: Any, most: int = MOST_PARTS) -> dict[Any, Any]:
    found: dict[Any, Any] = _is(value, dict)
    _require(len(found) <= most, f"{len(found)} of them are too many: {most} is the most")
    return found


def _number(value: Any, least: int, most: int) -> int:
    _require(type(value) is int and least <= value <= most, f"{value!r:.80} is not from {least} to {most}")
    return int(value)


def _period(value: Any) -> float:
    _require(type(value) in (int, float) and 0.01 <= value <= 1e9, f"{value!r:.80} is no time between two calls")
    return float(value)


def _text(value: Any, form: re.Pattern[str]) -> str:
    _require(isinstance(value, str) and form.fullmatch(value) is not None, f"{value!r:.80} is no name")
    return str(value)


def _free(value: Any, most: int) -> str:
    _require(isinstance(value, str) and len(value) <= most, f"this is no text of {most} characters: {value!r:.80}")
    return str(value)


__all__ = ["Converting", "Described", "Forged", "describe", "numbers", "read_numbers"]
