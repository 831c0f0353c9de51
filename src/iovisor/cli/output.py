"""What commands answer: columns for people, JSON, YAML or bare names for programs.

    table   the columns that matter      wide    all of them
    json    everything there is          yaml    the same, to read
    name    one name a line, for xargs and completion

JSON and YAML are what the daemon answered, unchanged: a script that reads them does not depend on what people see.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from .columns import Cell, columns

C = TypeVar("C", bound=Callable[..., Any])
FORMS = ("table", "wide", "json", "yaml", "name")


def output_option(function: C) -> C:
    """The option -o, as `output`."""
    return click.option("--output", "-o", type=click.Choice(FORMS), default="table", help="How to answer.")(function)


def show(output: str, found: Sequence[dict[str, Any]], shown: Sequence[str], wide: Sequence[str] = (),
         name: Callable[[dict[str, Any]], str] | None = None) -> None:
    """Print a list: `shown` are the columns of a table, `wide` those beside them, `name` what one is called."""
    if output in ("json", "yaml"):
        show_one(output, list(found))
    elif output == "name":
        for one in found:
            click.echo(name(one) if name else one[shown[0]])
    elif found:
        heads = [*shown, *(wide if output == "wide" else ())]
        rows = [[_cell(one.get(head)) for head in heads] for one in found]
        click.echo(columns([head.upper() for head in heads], rows, indent=""))


def show_one(output: str, found: Any) -> None:
    """Print one thing: JSON if asked for, and YAML otherwise."""
    if output == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif output == "name" and isinstance(found, dict):
        click.echo(next(iter(found.values())))
    else:
        import yaml
        click.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=120).rstrip())


def ago(moment: float) -> str:
    """A moment as people say it: `3 min ago`."""
    seconds = max(time.time() - moment, 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _cell(value: Any) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    if value == "":
        return "-"
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


__all__ = ["ago", "output_option", "show", "show_one"]
