"""Kinds of functions for the model's own tests: declared here, so that a message does not change with the catalogue.

    switch     256 ports without names       acl, meter   inside, outside       router   lan, up, dmz
    tiny       2 ports without names         host         one port, `only`      mixed    up, and 1 to 4
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iovisor.model import Fault, Network, UnknownKind, is_own
from iovisor.model.errors import alike


@dataclass(frozen=True)
class Declared:
    """Ports, and the fields of the configuration by their types."""

    named: Mapping[str, int] = field(default_factory=dict)
    numbered: Collection[int] = ()
    fields: Mapping[str, type] = field(default_factory=dict)
    required: Collection[str] = ()

    @property
    def schema(self) -> Mapping[str, Any]:
        types = {int: "integer", str: "string", list: "array", dict: "object", bool: "boolean"}
        return {"type": "object", "properties": {name: {"type": types[one]} for name, one in self.fields.items()},
                "required": list(self.required), "additionalProperties": False}

    def configured(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Fault]]:
        faults = [Fault((name,), "there is no such field", alike(name, self.fields), unknown=True)
                  for name in config if name not in self.fields]
        faults += [Fault((name,), "this is missing", f"add `{name}: ...`", missing=True)
                   for name in self.required if name not in config]
        faults += [Fault((name,), f"expected {one.__name__}, not {config[name]!r}")
                   for name, one in self.fields.items() if name in config and type(config[name]) is not one]
        for number, rule in enumerate(config.get("rules", ()) if isinstance(config.get("rules"), list) else ()):
            if not isinstance(rule, dict) or rule.get("action", "drop") not in ("accept", "drop"):
                faults.append(Fault(("rules", number, "action"), "expected accept or drop"))
        return {name: config[name] for name in self.fields if name in config}, faults

    def early(self, soft: bool) -> str:
        return "it is a host" if self is DECLARED["host"] else "it has checksums" if soft and self.named == PAIR else ""


PAIR = {"inside": 0, "outside": 1}
DECLARED = {
    "switch": Declared({}, range(256), {"ageing": str, "vlans": bool, "ports": dict, "static": list}),
    "acl": Declared(PAIR, (), {"rules": list, "default": str}),
    "meter": Declared(PAIR, (), {"rate": int}, ["rate"]),
    "router": Declared({"lan": 0, "up": 1, "dmz": 2}, (), {"ports": dict, "routes": list}),
    "tiny": Declared({}, range(2)),
    "host": Declared({"only": 0}),
    "mixed": Declared({"up": 0}, range(1, 5)),
}


class Kinds:
    """The table above, and `rtt.py:RttMeter`."""

    def names(self) -> Sequence[str]:
        return list(DECLARED)

    def find(self, kind: str, document: str) -> Declared:
        if kind == "rtt.py:RttMeter":
            return Declared({"left": 0, "right": 1}, (), {"buckets": int})
        if is_own(kind):
            file, _, name = kind.rpartition(":")
            raise UnknownKind(f"there is no file {file}", f"it is looked for beside {document}, and must define {name}")
        if kind not in DECLARED:
            raise UnknownKind(f"there is no kind {kind!r}")
        return DECLARED[kind]

    def faults(self, network: Network) -> Sequence[tuple[str, Fault]]:
        """A router must not be alone with a meter."""
        return [(name, Fault(("rate",), "a meter and a router are too much", "leave one of them out"))
                for name, one in network.functions.items()
                if {other.kind for other in network.functions.values()} == {"router", "meter"} and one.kind == "meter"]


KINDS = Kinds()
