"""Plain text in columns, as `ip` and `ls -l` print it: for eyes and for `awk`.

No frames, no colours in the body: rich is for the few places where a person looks at a picture (demo.py).  Numbers are
right-aligned because they are compared; text is left-aligned because it is read.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

import click

Cell = str | int | float | None
FIGURE = re.compile(r"-|no answer|refused|[\d.,]+( \+ [\d.,]+)?( (ns|µs|ms|s|B|kB|MB|GB))?( \*)?")


def columns(head: Sequence[str], rows: Sequence[Sequence[Cell]], indent: str = "  ") -> str:
    """The lines of a table; a column of numbers and absences is aligned right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    numeric = [bool(rows) and all(FIGURE.fullmatch(row[i]) for row in texts) for i in range(len(head))]
    wide = [max(map(len, [title, *(row[i] for row in texts)])) for i, title in enumerate(head)]

    def line(cells: Sequence[str]) -> str:
        parts = [cell.rjust(n) if right else cell.ljust(n) for cell, n, right in zip(cells, wide, numeric, strict=True)]
        return (indent + "  ".join(parts)).rstrip()

    return "\n".join([click.style(line(head), dim=True), *map(line, texts)])


def size(count: int | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return "-"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


__all__ = ["columns", "size"]
