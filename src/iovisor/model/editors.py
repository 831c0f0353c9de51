"""The JSON Schema that editors complete and check documents with.

    # yaml-language-server: $schema=iovisor.schema.json

The schema of the long form comes from the models; here it is widened by the short forms, and each kind's own
configuration is put where its name is given, so that an editor knows the fields of a switch once `kind: switch` is
written.  It says less than `load`: a schema cannot see two places at once.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kinds import Kinds
from .schema import Network, Tenant
from .shorthand import OF_A_FUNCTION, SINGULAR

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schema(kinds: Kinds) -> Schema:
    """JSON Schema (2020-12) of documents in all their forms, with the configuration of each kind of the catalogue."""
    network, tenant = (_optional(model.model_json_schema()) for model in (Network, Tenant))
    parts: Schema = {**network.pop("$defs"), **tenant.pop("$defs")}
    parts |= {"Network": network, "Tenant": tenant}
    for part in parts.values():
        _widen(part)
    _endpoint(parts["Endpoint"])
    network["properties"]["links"]["items"] |= {"minItems": 2}
    parts |= {f"{name} configuration": dict(kinds.find(name, "").schema) for name in kinds.names()}
    parts["Function"] = _function(parts["Function"], list(kinds.names()), parts)
    return {"$schema": DIALECT, "title": "iovisor: networks and tenants",
            "if": {"required": ["network"]}, "then": {"$ref": "#/$defs/Network"}, "else": {"$ref": "#/$defs/Tenant"},
            "$defs": parts}


def _optional(given: Any) -> Any:
    """`X | None` becomes X: a field that is not wanted is left out, and editors need not offer null."""
    if isinstance(given, list):
        return [_optional(item) for item in given]
    if not isinstance(given, dict):
        return given
    found = {name: _optional(value) for name, value in given.items()
             if not (name == "title" and isinstance(value, str)) and not (name == "default" and value is None)}
    choices = found.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        found = {**rest[0], **{name: value for name, value in found.items() if name != "anyOf"}}
    return found


def _widen(part: Schema) -> None:
    """Mappings and lists may be empty, and labels are text however they are written."""
    for name, field in part["properties"].items():
        if name == "labels":
            field["additionalProperties"] = {"type": ["string", "number", "boolean"]}
            field.pop("patternProperties", None)
        for holder in ("patternProperties",):
            if holder in field:
                field["additionalProperties"] = next(iter(field.pop(holder).values()))
        if field.get("type") in ("object", "array"):
            field["type"] = [field["type"], "null"]
        elif "$ref" in field:
            part["properties"][name] = {"anyOf": [field, {"type": "null"}]}


def _endpoint(part: Schema) -> None:
    for one, several in SINGULAR.items():
        items = part["properties"][several]["items"]
        part["properties"][several]["type"] = ["array", "string", "null"]
        part["properties"][several] |= {name: items[name] for name in ("pattern",)}
        part["properties"][one] = part["properties"][several]
    part["type"] = ["object", "null"]


def _function(part: Schema, names: list[str], parts: Mapping[str, Schema]) -> Schema:
    """A kind's name alone, or a mapping; its configuration beside `kind`, or under `config`."""
    kind = part["properties"]["kind"]
    known = {**kind, "anyOf": [{"enum": names}, {"pattern": r"\.py:[A-Za-z_][A-Za-z0-9_]*$"}]}
    own = {"kind": known, "labels": part["properties"]["labels"]}
    cases = [{"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
              "then": _configured(own, f"{name} configuration", parts)} for name in names]
    return {"description": part["description"], "anyOf": [
        known, {"type": "object", "properties": {"kind": known}, "required": ["kind"], "allOf": cases}]}


def _configured(own: Schema, name: str, parts: Mapping[str, Schema]) -> Schema:
    fields, required = parts[name].get("properties", {}), parts[name].get("required", [])
    beside = {field: {"$ref": f"#/$defs/{name}/properties/{field}"} for field in fields if field not in OF_A_FUNCTION}
    config = {"config": {"$ref": f"#/$defs/{name}"}}
    return {"if": {"required": ["config"]},
            "then": {"properties": {**own, **config}, "additionalProperties": False},
            "else": {"properties": {**own, **beside}, "required": required, "additionalProperties": False}}


__all__ = ["schema"]
