"""docs/correctness.md: every case is there, and every test it names exists in a file that its section names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/correctness.md"
SECTIONS = {title: text for title, _, text in
            (part.partition("\n") for part in PAGE.read_text().split("\n## ")[1:])}
CASES = {"L2": range(1, 17), "VL": range(1, 6), "ARP": range(1, 9), "R4": range(1, 26), "R6": range(1, 12),
         "RA": range(1, 2), "NA": (*range(1, 29), *range(30, 34)), "FW": range(1, 11), "CT": range(1, 4),
         "LB": range(1, 6)}


def rows(text: str) -> list[list[str]]:
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()
             if line.startswith("| ")]
    return found[1:]                            # without the head


def test_every_case_has_a_row() -> None:
    found = set()
    for text in SECTIONS.values():
        for case, *_ in rows(text):
            if numbered := re.fullmatch(r"(\w+)-(\d\d(?:, \d\d)*)", case):
                found |= {(numbered[1], int(number)) for number in numbered[2].split(", ")}
    assert not {(name, number) for name, numbers in CASES.items() for number in numbers} - found


@pytest.mark.parametrize("title", SECTIONS)
def test_every_test_that_is_named_is_there(title: str) -> None:
    above, _, _ = SECTIONS[title].partition("\n| ")
    files = re.findall(r"`(tests/[\w/]+\.py)`", above)
    content = {name: (ROOT / name).read_text() for name in files}
    used = set()
    for case, _, cell in rows(SECTIONS[title]):
        names = re.findall(r"`(test_\w+)(?:\[(.*?)\])?`", cell)
        assert names or (case == "missing" and cell.startswith("none: ")), f"{case} names no test"
        for name, which in names:
            holders = [file for file, text in content.items()
                       if re.search(rf"^(?:async )?def {name}\(", text, re.M) and f'"{which}' in text]
            assert holders, f"{case}: no {name}[{which}] in {', '.join(files)}"
            used |= set(holders)
    assert used == set(files), "a file that is named and has none of these tests"
