"""Documents for the commands that need no daemon: files in, documents or problems out.

Whatever is wrong with any of the files is said before anything is done with one, on standard error, or as JSON where a
program asked for it.  `-` is standard input.

A document's own functions, `file.py:Class`, are imported into this process: it is the author who runs the command, as
with `iovisor check`.  The daemon has other ways.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..model import Document, Kind, Kinds, Problem

C = TypeVar("C", bound=Callable[..., Any])
OUTPUTS = ("table", "json", "yaml")


def output_option(function: C) -> C:
    """The option --output, as `output`."""
    return click.option("--output", "-o", type=click.Choice(OUTPUTS), default=OUTPUTS[0], show_default=True)(function)


def read(files: Sequence[str], kinds: Kinds) -> tuple[list[Document], list[Problem]]:
    """The documents of files, and what is wrong with them, each by itself and all together; warnings are among it."""
    from ..model import Problem, Refused, load, together
    found, problems = list[Any](), list[Problem]()
    for file in files:
        try:
            with click.open_file(file, "rb") as stream:
                text = stream.read()
            found += load(text, file, kinds)
        except Refused as refused:
            problems += refused.problems
        except OSError as error:
            problems.append(Problem(file, 0, 0, (), (error.strerror or str(error)).lower(), "name a document's file"))
    problems += [warning for document in found for warning in document.warnings]
    return found, [*problems, *(() if any(not p.warning for p in problems) else together(found))]


def sound(ctx: click.Context, files: Sequence[str], kinds: Kinds) -> list[Document]:
    """The documents of files; if there is anything wrong with them, it is said and the command ends."""
    found, problems = read(files, kinds)
    say(problems)
    if any(not problem.warning for problem in problems):
        ctx.exit(1)
    return found


def say(problems: Sequence[Problem]) -> None:
    """Problems for people, on standard error."""
    for problem in problems:
        text = str(problem)
        where = f"{problem.file}:{problem.line}:{problem.column}: " if problem.line else f"{problem.file}: "
        what, _, fix = text.removeprefix(where).partition("\n")
        colour = "yellow" if problem.warning else "red"
        click.echo(click.style(where, bold=True) + click.style(what, fg=colour) + (f"\n{fix}" if fix else ""), err=True)


def as_data(problem: Problem) -> dict[str, Any]:
    """A problem for programs."""
    return {"file": problem.file, "line": problem.line, "column": problem.column, "path": problem.pointer,
            "what": problem.what, "fix": problem.fix, "warning": problem.warning}


def echo(data: Any, output: str) -> None:
    """Data as JSON or YAML."""
    if output == "json":
        import json
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        from ..model.writing import written
        click.echo(written(data), nl=False)


def offline() -> Kinds:
    """The catalogue, and authors' files on this machine, beside the documents that name them."""
    from ..control import catalogue
    from ..model import UnknownKind, is_own

    class Offline(catalogue.Catalogue):
        def find(self, kind: str, document: str = "") -> Any:
            return own(kind, document) if is_own(kind) else super().find(kind, document)

    def own(kind: str, document: str) -> Kind:
        from .errors import Unusable
        from .source import kinds
        file, _, name = kind.rpartition(":")
        path = Path(document).parent / file
        if not path.is_file():
            raise UnknownKind(f"there is no file {path}", f"write it: `iovisor new {path.stem}`; "
                                                          "it is looked for beside the document")
        try:
            found = kinds(f"{path}:{name}")[0]
            found.spec()
            return catalogue.Kind(found)
        except Exception as error:      # whatever the author's own file raises
            what = str(error) if isinstance(error, Unusable) else f"{path}: {type(error).__name__}: {error}"
            raise UnknownKind(what, f"`iovisor check {path}` shows where") from error

    return Offline()


__all__ = ["as_data", "echo", "offline", "output_option", "read", "say", "sound"]
