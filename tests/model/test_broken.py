"""What is said of documents that cannot stand: each file of broken/ has beside it what `iovisor validate` says.

`pytest --update` writes it anew; read the difference before you commit it.
"""

import re
from pathlib import Path

import pytest

from iovisor.cli.documents import offline, read
from iovisor.model.errors import in_order

BROKEN = Path(__file__).parent / "broken"
DOCUMENTS = sorted(BROKEN.glob("*.yaml"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_what_is_said(path: Path, update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    _, problems = read([path.name], offline())
    assert any(not problem.warning for problem in problems)
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    for problem in problems:
        assert problem.what and problem.fix, f"{problem}: and how is it mended?"
        assert 0 < problem.line <= len(lines) and 0 < problem.column <= len(lines[problem.line - 1]) + 1
    found = "".join(f"{problem}\n" for problem in in_order(problems))
    found = re.sub("there is [a-z0-9_, ]+;", "there is ...;", found)      # the catalogue grows
    found = re.sub(r"\.py, line \d+\)", ".py, line ...)", found)           # so do its functions
    expected = path.with_suffix(".txt")
    if update:
        expected.write_text(found)
    assert found == expected.read_text()


def test_there_are_enough_of_them() -> None:
    assert len(DOCUMENTS) >= 150
    assert {path.stem for path in BROKEN.glob("*.txt")} == {path.stem for path in DOCUMENTS}
