"""Golden cases as text: `[case name]`, a program, `[out]`, what it must say.

A program that begins with `class`, `def` or `@` is the end of a module; any other is the body of `ingress`.  Before it
stands one line, which imports the language and `declarations.py`; so line 1 of a case is line 2 of `case.py`.
Everything that refers to the file says `case.py`, wherever the test put it.

`pytest --update` rewrites what stands under `[out]`.
"""
from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HEAD = ("from iovisor.language import *; from iovisor.wire import *; from tests.compiler.declarations import *; "
        "from tests.compiler import declarations, helpers_elsewhere\n")
WHOLE = re.compile(r"(class (?!Inner)|def (?!inner\(\) -> None:\n    pass)|@|import functools)")


@dataclass
class Case:
    """One program and what is expected of it."""

    name: str
    program: str
    out: str

    @property
    def text(self) -> str:
        """The module."""
        if WHOLE.match(self.program):
            return HEAD + self.program
        body = "".join("        " + line if line.strip() else line for line in self.program.splitlines(True))
        return HEAD + "class Case(Base):\n    def ingress(self, pkt: Packet) -> Verdict:\n" + body


def cases(path: Path) -> list[Case]:
    """The cases of a file."""
    found = []
    for part in re.split(r"^\[case ", path.read_text(), flags=re.M)[1:]:
        name, _, rest = part.partition("]\n")
        program, _, out = rest.partition("[out]\n")
        found.append(Case(name, program.strip("\n") + "\n", out.strip("\n") + "\n"))
    return found


def write(path: Path, all_of: list[Case]) -> None:
    """The file again."""
    head = re.split(r"^\[case ", path.read_text(), maxsplit=1, flags=re.M)[0]
    path.write_text(head + "\n".join(f"[case {c.name}]\n{c.program}[out]\n{c.out}" for c in all_of))


def loaded(case: Case, folder: Path) -> ModuleType:
    """The program as a module in a file, whose last function class is `Case`."""
    path = folder / "case.py"
    path.write_text(case.text)
    linecache.checkcache(str(path))
    module = ModuleType("case")
    module.__file__ = str(path)
    sys.modules["case"] = module
    # Not by the import system: its kept bytecode knows a file by size and second, and cases come faster.
    exec(compile(case.text, str(path), "exec"), vars(module))
    return module


def check(path: Path, says: Callable[[Case], str], update: bool) -> Iterator[tuple[str, str, str]]:
    """Name, expected and found of every case that differs; with `update` they are written instead."""
    everything = cases(path)
    for case in everything:
        found = says(case).strip("\n") + "\n"
        if found != case.out and not update:
            yield case.name, case.out, found
        case.out = found
    if update:
        write(path, everything)
