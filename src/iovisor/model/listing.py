"""Changes as lines for people, with `+`, `~` and `-` before them, and as JSON data for programs.

    ~ function fw: acl
        ~ default: drop -> accept
        + rules "web": {name: web, action: accept, protocol: tcp}
        ~ rules "ping": source: 10.0.0.0/8 -> 10.1.0.0/16
    + link web1 -- lan

Grouped by what they are about, not by when they are carried out: whoever reads a plan looks for a name.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .difference import NOTHING, Change, Edit, Item
from .errors import Path, spelled
from .references import natural
from .writing import line, written

ORDER = ("tenant", "network", "function", "endpoint", "link")


def lines(changes: Sequence[Change]) -> list[str]:
    """One change after the other; the sign of a line is its first character that is not a space."""
    ordered = sorted(changes, key=lambda change: (ORDER.index(change.what), natural(change.name)))
    return [text for change in ordered for text in _change(change)]


def summary(changes: Sequence[Change]) -> str:
    """`2 to add, 1 to change, 3 to remove`."""
    counts = [sum(1 for change in changes if change.sign == sign) for sign in "+~-"]
    verbs = ("add", "change", "remove")
    return ", ".join(f"{n} to {verb}" for n, verb in zip(counts, verbs, strict=True) if n) or "no changes"


def data(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Changes as JSON data, in the order in which they are carried out."""
    return [{"change": _VERBS[change.sign], "what": change.what, "name": change.name, "old": change.old,
             "new": change.new, "edits": [edit for edit in _data(change.edits, ())]} for change in changes]


_VERBS = {"+": "add", "~": "change", "-": "remove"}


def _change(change: Change) -> Iterator[str]:
    whole = change.new if change.new is not None else change.old
    kind = f": {whole['kind']}" if change.what == "function" else ""
    yield f"{change.sign} {change.what} {change.name}{kind}"
    if change.sign == "+" and isinstance(whole, dict):
        shown = {name: value for name, value in whole.items() if name != "kind"}
        shown = {**shown.pop("config", {}), **shown} if change.what == "function" else shown
        yield from (f"    + {text}" for text in written(shown).splitlines())
    elif change.what == "link" and change.sign != "~":
        yield from (f"    {change.sign} {member}" for member in whole[1:-1])
    for edit in change.edits:
        yield from (f"    {text}" for text in _edit(edit, _hidden(change, edit.path)))


def _hidden(change: Change, path: Path) -> Path:
    """Without `config`, as people write it."""
    return path[1:] if change.what == "function" and len(path) > 1 and path[0] == "config" else path


def _edit(edit: Edit, path: Path, before: str = "") -> Iterator[str]:
    name = before + spelled(path)
    if edit.items:
        yield from (text for item in edit.items if item.sign != " " for text in _item(item, name))
    elif edit.sign == "~":
        yield f"~ {name}: {line(edit.old)} -> {line(edit.new)}"
    else:
        yield f"{edit.sign} {name}: {line(edit.new if edit.old is NOTHING else edit.old)}"


def _item(item: Item, of: str) -> Iterator[str]:
    named = isinstance(item.value, dict) and item.value.get("name") == item.name
    name = f'{of} "{item.name}"' if named else f"{of}[{item.name}]" if isinstance(item.value, dict | list) else of
    if item.sign != "~":
        yield f"{item.sign} {name + ': ' if name else ''}{line(item.value)}"
    if item.moved and item.before is not None and item.after is not None:
        yield f"~ {name}: moved from {item.before + 1} to {item.after + 1}"
    for edit in item.edits:
        yield from _edit(edit, edit.path, f"{name}: " if edit.path else name)


def _data(edits: Sequence[Edit], path: Path) -> Iterator[dict[str, Any]]:
    for edit in edits:
        here = (*path, *edit.path)
        for item in edit.items:
            at = (*here, item.name)
            if item.sign in "+-":
                side = "new" if item.sign == "+" else "old"
                yield {"change": _VERBS[item.sign], "path": list(at), side: item.value}
            if item.moved:
                yield {"change": "move", "path": list(at), "from": item.before, "to": item.after}
            yield from _data(item.edits, at)
        if not edit.items:
            sides = {"old": edit.old, "new": edit.new}
            yield {"change": _VERBS[edit.sign], "path": list(here),
                   **{side: value for side, value in sides.items() if value is not NOTHING}}


__all__ = ["data", "lines", "summary"]
