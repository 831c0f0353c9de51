"""Mutants: does the suite notice when the code is wrong?

    .venv/bin/python tests/mutants.py [--count 60] [--seed 1] [--seconds 60] [FILE ...]

Takes our own functions and the compiler's lowerings, changes one thing at a time (a comparison, an operator, a
constant, a dropped statement, a negated test, an operand of an LLVM instruction), and runs the tests that are about
that file in a copy of the tree.  A mutant the tests do not notice *survives*; the bar is 95 % killed.  What cannot
matter (docstrings, messages, annotations) is not mutated.

Sampling is by seed, so that a run can be repeated; `--count 0` takes every mutant there is.  Nothing here is collected
by pytest, and nothing outside the copy is written.
"""
from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ["tests/functions", "tests/agreement/test_functions.py"]
LOWERINGS = ["tests/agreement", "tests/targets"]
TESTS = {
    "src/iovisor/functions/switch.py": FUNCTIONS, "src/iovisor/functions/acl.py": FUNCTIONS,
    "src/iovisor/targets/tc.py": LOWERINGS, "src/iovisor/targets/xdp.py": LOWERINGS,
    "src/iovisor/targets/bpf.py": LOWERINGS, "src/iovisor/targets/native.py": LOWERINGS,
    "src/iovisor/targets/lowering.py": LOWERINGS, "src/iovisor/compiler/llvm.py": [*LOWERINGS, "tests/compiler"],
    "src/iovisor/compiler/check.py": ["tests/compiler", "tests/agreement"],
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In}
TEXT = (("ugt", "uge"), ("ult", "ule"), ("icmp eq", "icmp ne"), ("icmp ne", "icmp eq"), ("add i", "sub i"),
        ("lshr", "shl"), ("xor i1", "and i1"), ("true", "false"), ("65535", "255"))


@dataclass(frozen=True)
class Mutant:
    """One change: where, and the whole file with it."""

    path: str
    line: int
    what: str
    text: str


def mutants(path: str) -> Iterator[Mutant]:
    """Every mutant of a file."""
    text = (ROOT / path).read_text()
    tree = ast.parse(text)
    for node in _interesting(tree):
        yield from _changed(path, text, node)


def _interesting(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes inside functions, without what cannot matter."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name in ("__repr__", "__str__"):
            continue
        ignored = {id(n) for a in (*function.args.args, *function.args.kwonlyargs) if a.annotation
                   for n in ast.walk(a.annotation)}
        for node in ast.walk(function):
            if isinstance(node, (ast.Raise, ast.Assert)):
                ignored |= {id(n) for n in ast.walk(node)}
            if isinstance(node, ast.AnnAssign):
                ignored |= {id(n) for n in ast.walk(node.annotation)}
        yield from (n for s in function.body for n in ast.walk(s) if id(n) not in ignored)


def _changed(path: str, text: str, node: ast.AST) -> Iterator[Mutant]:
    """The mutants of one node, all within one line."""
    lines = text.splitlines(keepends=True)
    line, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", -1)
    if line != end and not isinstance(node, ast.If):
        return
    row = lines[line - 1] if line else ""
    start, stop = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)

    def mutant(new: str, what: str, first: int = start, last: int = stop) -> Mutant:
        changed = "".join([*lines[:line - 1], row[:first] + new + row[last:], *lines[line:]])
        return Mutant(path, line, f"{what}: {row.strip()[:90]}", changed)

    match node:
        case ast.Compare(ops=[old, *_]) | ast.BinOp(op=old) | ast.BoolOp(op=old):
            if type(old) in SWAPS:
                symbol, other = _symbol(type(old)), _symbol(SWAPS[type(old)])
                at = row.find(f" {symbol} ", start, stop)
                if at >= 0:
                    yield mutant(f" {other} ", f"{symbol} becomes {other}", at, at + len(symbol) + 2)
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            yield mutant(str(value + 1), f"{value} becomes {value + 1}")
        case ast.Expr(value=ast.Call()):
            yield mutant("pass", "dropped")
        case ast.If(test=test) if test.lineno == test.end_lineno == line:
            inner = row[test.col_offset:test.end_col_offset]
            yield mutant(f"not ({inner})", "negated", test.col_offset, test.end_col_offset or 0)
        case ast.JoinedStr():
            segment = row[start:stop]
            for before, after in TEXT:
                if re.search(rf"\b{before}\b", segment) and "{" + before not in segment:
                    yield mutant(re.sub(rf"\b{before}\b", after, segment, count=1), f"{before} becomes {after}")
                    break


def _symbol(operator: type[ast.AST]) -> str:
    return {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Add: "+",
            ast.Sub: "-", ast.BitAnd: "&", ast.BitOr: "|", ast.LShift: "<<", ast.RShift: ">>", ast.And: "and",
            ast.Or: "or", ast.In: "in", ast.NotIn: "not in"}[operator]


def survives(mutant: Mutant, copy: Path, seconds: float) -> bool:
    """Whether the tests about the file pass with the mutant in place."""
    target = copy / mutant.path
    original = target.read_text()
    target.write_text(mutant.text)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
               *(t for t in TESTS[mutant.path] if (copy / t).exists())]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "IOVISOR_CACHE": str(copy / ".cache")}
    try:
        ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=seconds)
        return ran.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_text(original)


def main() -> int:
    """Run the sample and report it."""
    parser = argparse.ArgumentParser(description="mutants of functions and lowerings")
    parser.add_argument("files", nargs="*", default=list(TESTS))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180)
    asked = parser.parse_args()
    everything = [m for path in asked.files if (ROOT / path).exists() for m in mutants(path)]
    chosen = random.Random(asked.seed).sample(everything, min(asked.count or len(everything), len(everything)))
    begun, survivors = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="iovisor-mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", ".*_cache", "__pycache__"))
        for number, mutant in enumerate(chosen, 1):
            lives = survives(mutant, copy, asked.seconds)
            survivors += [mutant] if lives else []
            state = "SURVIVES" if lives else "killed"
            print(f"{number:4} {state:8} {mutant.path}:{mutant.line} {mutant.what}", flush=True)
    killed = len(chosen) - len(survivors)
    print(f"{killed} of {len(chosen)} killed ({100 * killed / max(len(chosen), 1):.1f} %), of {len(everything)} that "
          f"there are, seed {asked.seed}, {time.monotonic() - begun:.0f} s")
    return 0 if killed >= 0.95 * len(chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
