"""A network as a document, so that another process can make the same of what is pinned.

    {"network": "shop", "generation": 0, "secret": 5577006791947779410, "device": 1073741824,
     "group": 812034, "mtu": 1500, "kept": {"received": 0},
     "instances": {"lan": {"kind": "iovisor.functions.switch:Switch", "configuration": {"ageing": 60000000000},
                           "versions": {}, "born": 0}},
     "joins": [{"at": ["lan", 0], "edge": [5000, true, 1500, "tc"], "peer": null, "wire": 0, "before": [0, 0, 0, 0],
                "attachment": {"kind": "device", "name": "eth1"}, "ours": [null, true, [], false], "absence": null,
                "generation": 0, "bank": 0}],
     "passing": []}

`passing` is what was being made, or removed, when it was written: whoever adopts the network removes what is left of
it.  A kind is found again by importing it, so it stands in a module under its own name.
"""
from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from enum import Enum
from operator import attrgetter
from typing import Any

from ..language.addresses import Prefix
from ..language.configuration import Config
from ..language.function import Function
from . import attachments
from .counters import Traffic
from .devices import Devices
from .edges import Edge
from .instance import Instance
from .joins import Absence, Join, Ours, PortRef


def describe(name: str, generation: int, secret: int, device: int, devices: Devices, kept: dict[str, int],
             joins: dict[PortRef, Join], instances: dict[str, Instance]) -> dict[str, Any]:
    """The document; `device` is the recirculation device's index."""
    return {
        "network": name, "generation": generation, "secret": secret, "device": device, "group": devices.group,
        "mtu": devices.mtu, "kept": kept,
        "instances": {name: {"kind": named(type(instance.function)), "configuration": plain(instance.function.config),
                             "versions": instance.versions, "born": instance.born}
                      for name, instance in instances.items()},
        "joins": [{"at": [at.instance, at.port],
                   "edge": join.edge and astuple(join.edge),
                   "peer": join.peer and [join.peer.instance, join.peer.port],
                   "wire": join.wire, "before": [number for traffic in join.before for number in astuple(traffic)],
                   "attachment": join.attachment and attachments.document(join.attachment),
                   "ours": [join.ours.namespace, join.ours.promiscuous, join.ours.macs, join.ours.queued],
                   "absence": join.absence and [join.absence.reason, join.absence.since],
                   "generation": join.generation, "bank": join.bank}
                  for at, join in joins.items()]}


def joins(document: Any) -> dict[PortRef, Join]:
    """What ports are joined to."""
    return {PortRef(*entry["at"]): Join(
        entry["edge"] and Edge(*entry["edge"]), entry["peer"] and PortRef(*entry["peer"]), entry["wire"],
        (Traffic(*entry["before"][:2]), Traffic(*entry["before"][2:])), [],
        entry["attachment"] and attachments.parse(entry["attachment"]),
        _ours(*entry["ours"]), entry["absence"] and Absence(*entry["absence"]), entry["generation"], entry["bank"])
        for entry in document["joins"]}


def passing(joins: Iterable[Join]) -> list[dict[str, Any]]:
    """What is being made or removed, as far as it could be left behind."""
    return [{"attachment": join.attachment and attachments.document(join.attachment),
             "edge": join.edge and astuple(join.edge),
             "ours": [join.ours.namespace, join.ours.promiscuous, join.ours.macs, join.ours.queued]} for join in joins]


def passed(document: Any, joins: dict[PortRef, Join]) -> list[Join]:
    """The joins that were being made or removed when the process died, and are not among those that stand."""
    standing = {join.ours.namespace for join in joins.values()}
    found = [Join(entry["edge"] and Edge(*entry["edge"]), ours=_ours(*entry["ours"]),
                  attachment=entry["attachment"] and attachments.parse(entry["attachment"]))
             for entry in document.get("passing", [])]
    return [join for join in found if join.ours.namespace is None or join.ours.namespace not in standing]


def _ours(namespace: list[int] | None, promiscuous: bool, macs: list[str], queued: bool = False) -> Ours:
    return Ours((namespace[0], namespace[1]) if namespace else None, promiscuous, tuple(macs), queued)


def functions(document: Any) -> Iterator[tuple[str, Function, dict[str, int], int]]:
    """The functions, new, by the name of their instance, the versions of their tables, and when they were born."""
    for name, entry in document["instances"].items():
        yield name, found(entry["kind"])(**unplain(entry["configuration"])), entry["versions"], entry["born"]


def named(kind: type[Function]) -> str:
    """How another process finds a kind; ValueError if it cannot."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    if "<locals>" in name or kind.__module__ == "__main__":
        raise ValueError(f"{kind.__qualname__} cannot be adopted: another process could not import it from "
                         f"{kind.__module__}")
    return name


def found(name: str) -> type[Function]:
    """The opposite of `named`."""
    module, _, qualified = name.partition(":")
    kind: type[Function] = attrgetter(qualified)(importlib.import_module(module))
    return kind


def plain(value: Any) -> Any:
    """A configuration, or a value of one, as JSON has it."""
    if isinstance(value, Config):
        return {name: plain(getattr(value, name)) for name in value.types}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Prefix):
        return str(value)
    if isinstance(value, dict):
        return {"@pairs": [[plain(k), plain(v)] for k, v in value.items()]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value


def unplain(value: Any) -> Any:
    """What a configuration takes, from `plain`."""
    if isinstance(value, dict):
        if "@pairs" in value:
            return {unplain(k): unplain(v) for k, v in value["@pairs"]}
        return {name: unplain(v) for name, v in value.items()}
    return [unplain(item) for item in value] if isinstance(value, list) else value
