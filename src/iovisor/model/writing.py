"""Data to YAML, as people write it: blocks outside, short flat things in one line, quotes only where they are needed.

PyYAML's emitter was rejected: in one line it quotes every text with a colon, and `[lan:up, fw, edge:lan]` is what these
documents are about.  A text is quoted when YAML 1.2 would read something else, and when YAML 1.1 would, which other
programs still speak: `"on"`, `"010"`, `"22:22"`.
"""
from __future__ import annotations

import json
import re
from typing import Any

WIDTH = 100
#: From this depth on, what is flat and short stands in one line: `labels: {app: web}`.
FLAT_FROM = 3

_PLAIN = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./:+%@ -]*[A-Za-z0-9_./+%@-])?")
_OTHERWISE = re.compile(
    r"[-+.]?[0-9][0-9_]*(\.[0-9_]*)*([eE][-+]?[0-9]+)?|0[box][0-9a-fA-F_]+"
    r"|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*"
    r"|[-+]?\.(inf|nan)|\d{4}-\d\d?-\d\d?.*", re.IGNORECASE)
_WORD = re.compile(r"~|null|true|false|yes|no|on|off|y|n", re.IGNORECASE)
_ADDRESS = re.compile(r"\d+(\.\d+){3}")


def written(data: dict[str, Any]) -> str:
    """A mapping as a YAML document."""
    return "".join(f"{line}\n" for line in _mapping(data, 0))


def line(value: Any) -> str:
    """A value in one line, however long."""
    if isinstance(value, dict) and value:
        return f"{{{', '.join(f'{_key(name)}: {line(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list) and value:
        return f"[{', '.join(map(line, value))}]"
    return {"{}": "{}", "[]": "[]"}.get(repr(value)) or _scalar(value)


def _mapping(data: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for name, value in data.items():
        lines += _after(f"{_key(name)}:", value, depth)
    return lines


def _after(head: str, value: Any, depth: int) -> list[str]:
    """A value behind its key or its dash."""
    flow = _flow(value, depth + 1)
    if flow is not None:
        return [f"{head} {flow}"]
    inner = _mapping(value, depth + 1) if isinstance(value, dict) else _list(value, depth + 1)
    if head == "-":
        return [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
    return [head, *(f"  {line}" for line in inner)]


def _list(data: list[Any], depth: int) -> list[str]:
    return [line for item in data for line in _after("-", item, max(depth, FLAT_FROM))]


def _flow(value: Any, depth: int) -> str | None:
    """A value in one line; None if it wants several."""
    if not value or not isinstance(value, dict | list):
        return line(value)
    if isinstance(value, dict) and (depth < FLAT_FROM or not all(map(_flat, value.values()))):
        return None
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return None
    text = line(value)
    return text if len(text) + 2 * depth <= WIDTH else None


def _flat(value: Any) -> bool:
    """Whether a value may stand in a mapping of one line: a scalar, or a list of them."""
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, dict | list) and item for item in items)


def _key(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and ":" not in name and not _WORD.fullmatch(name)
    return name if plain else _scalar(name)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and ": " not in text:
        if _ADDRESS.fullmatch(text) or not (_OTHERWISE.fullmatch(text) or _WORD.fullmatch(text)):
            return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in quoted)


__all__ = ["line", "written"]
