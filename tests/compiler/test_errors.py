"""Every program that must not compile, and exactly what is said about it, as CPython prints it."""
from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

import pytest

from iovisor.compiler.driver import analyse, compile
from iovisor.compiler.errors import CompileError
from iovisor.compiler.target import Target
from iovisor.targets import target_named
from iovisor.targets.native import Native

from .golden import Case, cases, check, loaded

FOLDER = Path(__file__).parent / "errors"
FILES = sorted(FOLDER.glob("*.txt"))


class Poor(Native):
    """A target that can do less."""

    name = "poor"
    lowerings = {name: method for name, method in Native.lowerings.items() if name not in ("meta", "untag")}


def target(case: Case) -> Target | None:
    """The names of cases say which target refuses them; most are refused before there is one."""
    if case.name.startswith("refused by a target"):
        return Poor()
    return target_named("xdp") if case.name.startswith("stack") else None


def says(case: Case, folder: Path) -> str:
    """The message with its place, the file called `case.py`."""
    module = loaded(case, folder)
    try:
        machine = target(case)
        if machine is None:
            analyse(module.Case)
        else:
            compile(module.Case, machine)
    except CompileError as error:
        text = "".join(traceback.format_exception_only(error))
        return re.sub(r"(\"|from )\S*/(?=\w+\.py)", r"\1", text)
    finally:
        sys.modules.pop("case", None)
    return "it compiles\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_messages(path: Path, tmp_path: Path, update: bool) -> None:
    broken = [f"--- {name}\nexpected\n{want}found\n{got}" for name, want, got
              in check(path, lambda case: says(case, tmp_path), update)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_style(path: Path) -> None:
    """Lower case, no final period, on a line of the author's with a caret."""
    broken = []
    for case in cases(path):
        lines = case.out.splitlines()
        message = next((line for line in lines if re.search(r"(Error|InLanguage|Refused): ", line)), "")
        text = message.partition(": ")[2]
        if not text or (text[0].isupper() and not re.match(r"[A-Z]\w* (has|needs|takes)|[A-Z]+\w*Error: ", text)) \
                or text.endswith(".") or not any(set(line.strip()) <= set("^~") and line.strip() for line in lines):
            broken.append(f"{case.name}: {case.out}")
    assert not broken, "\n".join(broken)


def test_there_are_enough_and_names_differ() -> None:
    names = [case.name for path in FILES for case in cases(path)]
    assert len(names) >= 60 and len(set(names)) == len(names)
