"""The proofs of check.py one by one: intervals, what tests teach, and loops to their fixed point."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iovisor.compiler import ir
from iovisor.compiler.driver import analyse
from iovisor.compiler.errors import CompileError
from iovisor.compiler.facts import Fact, State, join

from .golden import Case, loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def interval(folder: Path, body: str) -> tuple[int, int]:
    """What is known of the argument of the last `forward` of a program."""
    module = loaded(Case("", body, ""), folder)
    try:
        checked, _ = analyse(module.Case)
    finally:
        sys.modules.pop("case", None)
    verdicts = [n for n in ir.walk(checked.program) if isinstance(n, ir.MakeVerdict) and n.kind == 2]
    return checked.intervals[id(verdicts[-1].argument)]


PORT = 0xffff


@pytest.mark.parametrize(("expression", "low", "high"), [
    ("pkt.port + 3", 3, PORT + 3),
    ("pkt.port - pkt.tci", -PORT, PORT),
    ("-pkt.port", -PORT, 0),
    ("~pkt.port", -PORT - 1, -1),
    ("pkt.port * -2", -2 * PORT, 0),
    ("pkt.port & 7", 0, 7),
    ("(pkt.port - 9) & 7", 0, 7),
    ("pkt.port | 1", 1, PORT),
    ("pkt.port ^ 0x10000", 0, 0x1ffff),
    ("pkt.port << 4", 0, PORT << 4),
    ("(pkt.port - 1) >> 1", -1, 0x7fff),
    ("pkt.port // 3", 0, PORT // 3),
    ("pkt.port // (pkt.tci | 1)", 0, PORT),
    ("pkt.port % 10", 0, 9),
    ("min(pkt.port, 5)", 0, 5),
    ("max(pkt.port, 5)", 5, PORT),
    ("abs(pkt.port - 5)", -5, PORT - 5),
    ("1 if pkt.tagged else 9", 1, 9),
    ("pkt.port or 70000", 1, 70000),
    ("pkt.tagged + 1", 1, 2),
    ("len(pkt)", 0, 0xffffffff),
    ("hash(1)", 0, 0xffffffff),
    ("self.config.limit", 0, 0xffffffff),
    ("pkt.u8(0)", 0, 255),
    ("now() - now()", -(2**63 - 1), 2**63 - 1),
    ("self.numbers.get(1) or 3", 1, 0xffffffff),
    ("pkt.parse(Wide).address >> 64", 0, 2**64 - 1),
    ("pkt.parse(Wide).address & 0xfff", 0, 0xfff),
])
def test_intervals_of_operators(folder: Path, expression: str, low: int, high: int) -> None:
    assert interval(folder, f"return forward({expression})") == (low, high)


@pytest.mark.parametrize(("test", "low", "high"), [
    ("x < 10", 0, 9), ("x <= 10", 0, 10), ("x > 10", 11, PORT), ("x >= 10", 10, PORT), ("x == 10", 10, 10),
    ("10 > x", 0, 9), ("not x >= 10", 0, 9), ("3 < x < 10", 4, 9), ("x > 3 and x < 10", 4, 9),
    ("x != 0", 1, PORT), ("x", 1, PORT), ("not (x < 3 or x > 9)", 3, 9), ("x in range(4, 8)", 4, 7),
    ("x in self.others", 2, 5), ("x < 10 or x == 20", 0, 20), ("(x < 10) if pkt.tagged else (x < 20)", 0, 19),
])
def test_a_test_teaches_what_follows(folder: Path, test: str, low: int, high: int) -> None:
    body = f"x = pkt.port\nif {test}:\n    return forward(x)\nreturn HOST"
    assert interval(folder, body) == (low, high)


@pytest.mark.parametrize(("test", "low", "high"), [
    ("x < 10", 10, PORT), ("x == 0", 1, PORT), ("x > 3 or x == 2", 0, 3), ("x is None", 0, PORT),
])
def test_and_so_does_its_failure(folder: Path, test: str, low: int, high: int) -> None:
    body = f"x = pkt.port\nif {test}:\n    return HOST\nreturn forward(x)"
    assert interval(folder, body) == (low, high)


def test_paths_meet(folder: Path) -> None:
    assert interval(folder, "x = 3\nif pkt.tagged:\n    x = 7\nreturn forward(x)") == (3, 7)


def test_an_absent_side_says_nothing_about_a_number(folder: Path) -> None:
    body = "n = self.numbers.get(1)\nif n is None:\n    n = 7\nreturn forward(n & 0xff)"
    assert interval(folder, body) == (0, 0xff)


@pytest.mark.parametrize(("body", "low", "high"), [
    ("for i in range(4):\n    x += 1", 0, 4),
    ("for i in range(4):\n    x += i", 0, 12),
    ("for i in range(2, 4):\n    x = i", 0, 3),
    ("for i in range(9):\n    x = (x + 3) & 7", 0, 7),
    ("for i in range(0):\n    x = 100", 0, 0),
    ("for i in range(4):\n    x = 5\n    break", 0, 5),
    ("for i in range(4):\n    if i == 2:\n        continue\n    x = 6", 0, 6),
    ("for i in (3, 8):\n    x = max(x, i)", 8, 8),
])
def test_loops_run_to_their_fixed_point(folder: Path, body: str, low: int, high: int) -> None:
    found = interval(folder, f"x = 0\n{body}\nreturn forward(x)")
    assert found[0] <= low and found[1] >= high and found[1] <= 4 * (high + 1)


def test_a_loop_that_grows_without_end_is_given_up(folder: Path) -> None:
    body = "x = 1\nfor i in range(1000):\n    x = x * 3\nif x > 5:\n    return HOST\nreturn FLOOD"
    with pytest.raises(CompileError, match="may be negative and may exceed 64 bits"):
        analyse(loaded(Case("", body, ""), folder).Case)


def test_a_loop_moves_the_cursor(folder: Path) -> None:
    body = "for i in range(3):\n    pkt.parse(Head)\nreturn forward(pkt.u8(0))"
    module = loaded(Case("", body, ""), folder)
    checked, _ = analyse(module.Case)
    load = next(n for n in ir.walk(checked.program) if isinstance(n, ir.Call) and n.op == "load")
    assert checked.offsets[id(load)] == (0, 21)


def test_what_no_path_reaches_is_dropped(folder: Path) -> None:
    body = "for i in range(0):\n    pkt.parse(Head)\nreturn HOST"
    checked, _ = analyse(loaded(Case("", body, ""), folder).Case)
    assert not [n for n in ir.walk(checked.program) if isinstance(n, ir.Call) and n.op == "parse"]


def test_joining() -> None:
    x, y = ir.Var("x", ir.Int()), ir.Var("y", ir.Int())
    a = State({x: Fact(1, 2), y: Fact(0, 0)}, (0, 4))
    b = State({x: Fact(5, 9, None, False, frozenset({"packet"}))}, (2, 8))
    joined = join(a, b)
    assert joined is not None and joined.cursor == (0, 8)
    assert joined.facts == {x: Fact(1, 9, None, False, frozenset({"packet"}))}
    assert join(None, a) is a and join(None, None) is None
