"""The representation of small programs as text, and that the text is the same every time."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iovisor.compiler.driver import show

from .golden import Case, check, loaded

FILES = sorted((Path(__file__).parent / "ir").glob("*.txt"))


def says(case: Case, folder: Path) -> str:
    """The representation of the last class."""
    module = loaded(case, folder)
    try:
        first = show(module.Case)
        assert show(module.Case) == first, f"{case.name}: the second build differs"
        return first
    finally:
        sys.modules.pop("case", None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_representation(path: Path, tmp_path: Path, update: bool) -> None:
    broken = [f"--- {name}\nexpected\n{want}found\n{got}" for name, want, got
              in check(path, lambda case: says(case, tmp_path), update)]
    assert not broken, "\n".join(broken)
