"""What is wrong with a document, and where.

    ModelError
    └── Refused (ValueError)     documents that cannot stand; all that is wrong with them, each a `Problem`

A problem says what, where (file, line, column and path in the document) and how to mend it.  A document is read to its
end before it is refused: whoever wrote it mends all of it at once.  A warning is a problem that refuses nothing.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

COMPARED = 200  # names that one is compared with
SHOWN = 16      # names of what there is, before the rest is only counted
#: The way into a document: names of fields and numbers of items.
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake.  Lines and columns count from 1; they are 0 where there is no text, as in a request's body."""

    file: str
    line: int
    column: int
    path: Path
    what: str
    fix: str = ""
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        at = f"{spelled(self.path)}: " if self.path else ""
        said = f"{where}: {'warning: ' if self.warning else ''}{at}{self.what}"
        return f"{said}\n    {self.fix}" if self.fix else said

    @property
    def pointer(self) -> str:
        """The path as a JSON pointer (RFC 6901)."""
        return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in self.path)


class ModelError(Exception):
    """The root of everything `iovisor.model` raises."""


class Refused(ModelError, ValueError):
    """Documents with mistakes; `problems` has them in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems as they stand in the text, each once."""
    return sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.warning, p.what))


def spelled(path: Path) -> str:
    """`functions.fw.config.rules[2].action`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def alike(name: object, known: Iterable[str]) -> str:
    """Advice for a name that is not known: the one that was meant, or all there are."""
    names = sorted(known)
    meant = near(name, names)
    if meant:
        return f"did you mean {meant}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"there is {', '.join(names[:SHOWN])}{more}" if names else "there is none"


def near(name: object, known: Iterable[str]) -> str:
    """The known name that was meant; empty if none is near."""
    if not isinstance(name, str):
        return ""
    lower = {one.lower(): one for one in known if abs(len(one) - len(name)) < 4}
    if len(lower) > COMPARED:
        lower = {text: one for text, one in lower.items() if text[:2] == name[:2].lower()}
    if len(lower) > COMPARED:
        return ""
    found = get_close_matches(name.lower(), lower, 1, 0.6)
    return lower[found[0]] if found else ""


__all__ = ["ModelError", "Path", "Problem", "Refused", "alike", "in_order", "near", "spelled"]
