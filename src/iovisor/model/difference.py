"""What changes between two documents: things by name, fields by path, lists by what is in them.

    changes = difference(old, new)
    assert applied(changes, normal(old)) == normal(new)

A `Change` is about one function, endpoint or link, or the network's own fields; it has the whole of the thing before
and after, for whoever carries it out, and `edits`, for whoever reads it.  The order is one in which changes can be
carried out: what is new comes first, then what is changed, links go before links come, and what is gone goes last.

Rules of a firewall are known by their names, wherever they move.  A list without names is compared by content, as
`diff` compares lines: an item that came in at the top does not make all the others different.  The order of names in a
mapping means nothing.
"""
from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from .document import normal
from .errors import Path
from .references import hops, natural, path_order
from .schema import Network, Tenant

What = Literal["tenant", "network", "function", "endpoint", "link"]
GROUPS: dict[What, str] = {"function": "functions", "endpoint": "endpoints"}


#: Items of an old list times those of the new one: beyond it, a list without names is changed as a whole.
MOST_PAIRS = 4_000_000


class Nothing:
    """Stands for the value of a field that is not there."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING = Nothing()


@dataclass(frozen=True)
class Edit:
    """A field, or an item of a list, that differs.  An item's step in the path is its number in the new list, or in the
    old one if it is gone; `items` are those of a list, in the new order, with those that are gone among them."""

    path: Path
    old: Any = NOTHING
    new: Any = NOTHING
    items: tuple[Item, ...] = ()

    @property
    def sign(self) -> str:
        return "+" if self.old is NOTHING else "-" if self.new is NOTHING else "~"


@dataclass(frozen=True)
class Item:
    """An item of a list: where it was and is (None: nowhere), whether it changed its place among those that stay, and
    what differs in it."""

    name: str
    before: int | None
    after: int | None
    value: Any
    moved: bool = False
    edits: tuple[Edit, ...] = ()

    @property
    def sign(self) -> str:
        if self.before is None:
            return "+"
        return "-" if self.after is None else "~" if self.edits or self.moved else " "


@dataclass(frozen=True)
class Change:
    """One thing that differs; `old` and `new` are its normal form, None where it is not there."""

    what: What
    name: str
    old: Any
    new: Any
    edits: tuple[Edit, ...] = ()

    @property
    def sign(self) -> str:
        return "+" if self.old is None else "-" if self.new is None else "~"

    @property
    def of_kind(self) -> bool:
        """Whether a function becomes one of another kind: its code changes, and its tables may not fit."""
        return self.what == "function" and any(edit.path == ("kind",) for edit in self.edits)


def difference(old: Network | Tenant | None, new: Network | Tenant | None) -> list[Change]:
    """The changes that make `new` of `old`, in an order in which they can be carried out.  None: it is not there."""
    one = new or old
    if one is None:
        return []
    what: What = "network" if isinstance(one, Network) else "tenant"
    before, after = (normal(document) if document is not None else {} for document in (old, new))
    found = {(change.what, change.name): change for change in _named(before, after) + _links(before, after)}
    rest = [{name: value for name, value in side.items() if name not in (*GROUPS.values(), "links")}
            for side in (before, after)]
    own = Change(what, one.key if isinstance(one, Network) else one.tenant, rest[0] or None, rest[1] or None,
                 edits(rest[0], rest[1]) if rest[0] and rest[1] else ())
    return ([] if _same(*rest) else [own]) + sorted(found.values(), key=_turn)


def applied(changes: Sequence[Change], data: dict[str, Any]) -> dict[str, Any]:
    """The normal form that changes make of another, which must be the one they were made from."""
    found: dict[str, Any] = {name: dict(value) if name in GROUPS.values() else value for name, value in data.items()}
    links = {_ends(path): path for path in data.get("links", [])}
    for change in changes:
        if change.what in GROUPS:
            group = found.setdefault(GROUPS[change.what], {})
            group[change.name] = edited(group[change.name], change.edits) if change.sign == "~" else change.new
            if change.new is None:
                del group[change.name]
        elif change.what == "link":
            path = edited(links[change.name], change.edits) if change.sign == "~" else change.new
            links[change.name] = path
            if path is None:
                del links[change.name]
        elif change.sign == "~":
            own = {name: value for name, value in found.items() if name not in (*GROUPS.values(), "links")}
            kept = {name: found[name] for name in found if name not in own}
            found = {**edited(own, change.edits), **kept}
        else:
            found |= change.new or {}
            for name in () if change.new is not None else change.old:
                del found[name]
    found["links"] = sorted(links.values(), key=lambda path: path_order(hops(path), found.get("functions", {})))
    return {name: value for name, value in found.items() if value or name not in (*GROUPS.values(), "links")}


# -- the parts of a document -----------------------------------------------------------------------------------------

def _named(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    found = []
    for what, group in GROUPS.items():
        old, new = before.get(group, {}), after.get(group, {})
        for name in {**old, **new}:
            if not _same(old.get(name), new.get(name)):
                both = name in old and name in new
                found.append(Change(what, name, old.get(name), new.get(name),
                                    edits(old[name], new[name]) if both else ()))
    return found


def _links(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    old, new = ({_ends(path): path for path in side.get("links", [])} for side in (before, after))
    found = []
    for name in {**old, **new}:
        if not _same(old.get(name), new.get(name)):
            both = name in old and name in new
            found.append(Change("link", name, old.get(name), new.get(name),
                                edits(old[name], new[name]) if both else ()))
    return found


def _ends(path: Sequence[str]) -> str:
    """What makes two links the same link: what it joins, whatever is on the way."""
    return f"{path[0]} -- {path[-1]}"


def _turn(change: Change) -> tuple[Any, ...]:
    link = change.what == "link"
    turn = {"+": 5 if link else 1, "~": 4 if link else 2, "-": 3 if link else 6}[change.sign]
    return turn, change.what, natural(change.name)


# -- values ----------------------------------------------------------------------------------------------------------

def edits(old: Any, new: Any, path: Path = ()) -> tuple[Edit, ...]:
    """What differs between two values, as small as it can be told."""
    if _same(old, new):
        return ()
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[Edit] = []
        for name in {**old, **new}:
            before, after = old.get(name, NOTHING), new.get(name, NOTHING)
            both = before is not NOTHING and after is not NOTHING
            found += edits(before, after, (*path, name)) if both else [Edit((*path, name), before, after)]
        return tuple(found)
    if isinstance(old, list) and isinstance(new, list):
        return (Edit(path, old, new, _items(old, new)),)
    return (Edit(path, old, new),)


def edited(value: Any, changes: Sequence[Edit]) -> Any:
    """The value that edits make of another."""
    for change in changes:
        value = _edited(value, change.path, change)
    return value


def _edited(value: Any, path: Path, change: Edit) -> Any:
    if path:
        inner = dict(value)
        if len(path) == 1 and change.new is NOTHING:
            del inner[path[0]]
        else:
            inner[path[0]] = _edited(inner.get(path[0]), path[1:], change)
        return inner
    if change.items:
        return [edited(value[item.before], item.edits) if item.before is not None else item.value
                for item in change.items if item.after is not None]
    return change.new


def _same(old: Any, new: Any) -> bool:
    """Equal, and not merely as `1`, `1.0` and `true` are in Python."""
    return type(old) is type(new) and _text(old) == _text(new)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _items(old: list[Any], new: list[Any]) -> tuple[Item, ...]:
    names = _names(old), _names(new)
    if names[0] is not None and names[1] is not None:
        return _by_name(old, new, names[0], names[1])
    return _by_content(old, new) if len(old) * len(new) <= MOST_PAIRS else ()


def _names(items: list[Any]) -> list[str] | None:
    """The names of the items of a list, if all have one of their own."""
    names = [item.get("name") for item in items if isinstance(item, dict)]
    known = [name for name in names if isinstance(name, str) and name]
    return known if len(set(known)) == len(items) else None


def _by_name(old: list[Any], new: list[Any], before: list[str], after: list[str]) -> tuple[Item, ...]:
    place = {name: index for index, name in enumerate(before)}
    still = _rising([place[name] for name in after if name in place])
    found = []
    for index, name in enumerate(after):
        was = place.pop(name, None)
        if was is None:
            found.append(Item(name, None, index, new[index]))
        else:
            found.append(Item(name, was, index, new[index], was not in still, edits(old[was], new[index])))
    return (*found, *(Item(name, index, None, old[index]) for name, index in place.items()))


def _rising(numbers: list[int]) -> set[int]:
    """A longest subsequence that rises: those that stay in place while the others move."""
    tails: list[int] = []           # the smallest last number of a subsequence of each length
    before: dict[int, int] = {}     # of each number, the one before it there
    for number in numbers:
        at = bisect_left(tails, number)
        if at:
            before[number] = tails[at - 1]
        tails[at:at + 1] = [number]
    found = set(tails[-1:])
    while tails and tails[-1] in before:
        tails[-1] = before[tails[-1]]
        found.add(tails[-1])
    return found


def _by_content(old: list[Any], new: list[Any]) -> tuple[Item, ...]:
    keys = [[_text(item) for item in side] for side in (old, new)]
    found: list[Item] = []
    for tag, i, i_end, j, j_end in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        pairs = min(i_end - i, j_end - j) if tag in ("equal", "replace") else 0
        for n in range(pairs):
            if tag == "equal" or _alike(old[i + n], new[j + n]):
                found.append(Item(str(j + n), i + n, j + n, new[j + n], False, edits(old[i + n], new[j + n])))
            else:
                found.append(Item(str(i + n), i + n, None, old[i + n]))
                found.append(Item(str(j + n), None, j + n, new[j + n]))
        found += [Item(str(n), n, None, old[n]) for n in range(i + pairs, i_end)]
        found += [Item(str(n), None, n, new[n]) for n in range(j + pairs, j_end)]
    return tuple(found)


def _alike(old: Any, new: Any) -> bool:
    """Whether one item is rather a changed form of another than another."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    equal = sum(1 for name in old.keys() & new.keys() if _same(old[name], new[name]))
    return 2 * equal >= max(len(old), len(new))


__all__ = ["NOTHING", "Change", "Edit", "Item", "applied", "difference", "edited", "edits"]
