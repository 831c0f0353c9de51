"""What pydantic found, in our words.

pydantic names a place and a type of error; what is said is decided here, for each type there can be.  A field that is
not known is answered with the field that was meant, a value of a wrong type with an example of a right one.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from .errors import Path, alike
from .schema import Endpoint, Function, Part, Quota
from .tree import Problems

#: An example of each field, for a value of a wrong type.
EXAMPLES = {
    "version": "version: 1", "tenant": "tenant: acme", "network": "network: shop",
    "description": "description: the shop",
    "labels": "labels: {app: web}", "mtu": "mtu: 1500", "functions": "functions: {lan: switch}",
    "endpoints": "endpoints: {web1: {netns: web1}}", "links": "links: [[web1, lan], [lan:up, fw, edge:lan]]",
    "policies": "policies: []", "kind": "kind: switch", "config": "config: {ageing: 60s}", "netns": "netns: web1",
    "interface": "interface: eth0", "tap": "tap: tap-db", "device": "device: eno2", "share": "share: mac",
    "peer": "peer: globex/shared/acme", "vlan": "vlan: 100",
    "mac": "mac: 02:00:00:00:00:01", "addresses": "addresses: [10.1.0.11/24]",
    "gateways": "gateways: [10.1.0.1]", "quota": "quota: {endpoints: 200}", "networks": "networks: 10",
    "tables": "tables: 64MiB", "punts": "punts: 1000",
}
PARTS: dict[str, type[Part]] = {"functions": Function, "endpoints": Endpoint, "quota": Quota}


def tell(error: ValidationError, problems: Problems, model: type[BaseModel]) -> set[Path]:
    """Add what pydantic found to the problems; answers where it was."""
    found = set()
    for one in error.errors(include_url=False):
        path, key = tuple(one["loc"]), False
        if path and path[-1] == "[key]":
            path, key = path[:-1], True
        found.add(path)
        what, fix, key = _said(one, path, model, key)
        problems.add(path, what, fix, key=key)
    return found


def _said(error: Any, path: Path, model: type[BaseModel], key: bool) -> tuple[str, str, bool]:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    example = _example(path)
    match kind:
        case "iovisor":
            return context["what"], context["fix"], key
        case "missing":
            return "this is missing", f"add `{example}`" if example else "", key
        case "extra_forbidden":
            return "there is no such field", alike(path[-1], _known(path, model)), True
        case "literal_error" if path[-1] == "version":
            return f"{_short(value)} is not a version of this format", "write `version: 1`", key
        case "literal_error":
            return f"{_short(value)} is not {context['expected'].replace(chr(39), '')}", "write one of them", key
        case "greater_than_equal" | "less_than_equal":
            least = "at least" if kind == "greater_than_equal" else "at most"
            return f"{_short(value)} is out of range", f"write {least} {context.get('ge', context.get('le'))}", key
        case "string_too_long":
            return f"this text is longer than {context['max_length']} characters", "shorten it", key
    expected = {"string_type": "text", "int_type": "a whole number", "dict_type": "a mapping of names to values",
                "model_type": "a mapping of names to values", "list_type": "a list"}.get(kind)
    if expected is None:
        return str(error["msg"])[:1].lower() + str(error["msg"])[1:], "", key
    if expected == "text" and isinstance(value, bool | int | float):
        name = f"{path[-1]}: " if isinstance(path[-1], str) else ""
        return f"expected text, not {_short(value)}", f'quote it: `{name}"{_short(value)}"`', key
    if expected == "a whole number" and isinstance(value, str) and value.isdecimal():
        return f"expected a number, not the text {value!r}", "leave the quotes away", key
    if value is None:
        return f"expected {expected}, and nothing is there", f"write it like `{example}`" if example else "", key
    return f"expected {expected}, not {_short(value)}", f"write it like `{example}`" if example else "", key


def _known(path: Path, model: type[BaseModel]) -> Iterable[str]:
    part: type[BaseModel] = PARTS.get(str(path[0]), model) if len(path) > 1 else model
    singular = ("address", "gateway") if part is Endpoint else ()
    return [*part.model_fields, *singular]


def _example(path: Path) -> str:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if path and path[0] == "links":
        return ["links: [[web1, lan]]", "[web1, lan]", "web1"][len(path) - 1]
    if len(path) == 2 and path[0] in ("functions", "endpoints"):
        return f"{name}: {{kind: switch}}" if path[0] == "functions" else f"{name}: {{netns: {name}}}"
    if len(path) > 1 and path[-2] == "labels":
        return f"{name}: web"
    if path and path[0] == "quota" and name in ("functions", "endpoints", "links"):
        return f"{name}: 20"
    return EXAMPLES.get(name, "")


def _short(value: Any) -> str:
    """A value, as short as a message can bear."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["tell"]
