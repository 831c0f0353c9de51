"""Random programs: functions nobody would write, to find what nobody thought of.

A program is a class in a module of its own, made of a seed: arithmetic on packet fields and loop variables, conditions
of every sort, loops, matches, tables.  What the compiler refuses ("mask it") is left out, statement by statement, by
trying: so what remains is what it claims to understand, and there every target must agree with CPython.
"""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from random import Random

from iovisor.compiler.driver import analyse
from iovisor.compiler.errors import CompileError
from iovisor.language import Function

HEAD = '''from __future__ import annotations

from iovisor.language import *


class Numbers(Header):
    a: u32
    b: u32
    c: u16
    d: u8
    e: u4
    f: u12
    g: u40
    h: u128
    i: u24


class Cell(Record):
    p: u8
    q: u24
    r: u64
    s: u128
    t: u12


class Program(Function):
    out: Array[u64] = table(64)
    wide: Array[u128] = table(16)
    cells: Hash[u8, Cell] = table(300)
    words: Hash[u16, u32] = table(4096)

    def ingress(self, pkt: Packet) -> Verdict:
        n = pkt.parse(Numbers)
        a, b, c, d = n.a, n.b, n.c, n.d
        x, y = 0, 1
'''
TAIL = "        return forward((x ^ y) & 0xffff)\n"
NARROW = ("a", "b", "c", "d", "n.e", "n.f", "n.g", "n.i", "x", "y", "len(pkt)", "pkt.u8(2)", "pkt.u16(5)")
BORDERS = (0, 1, 2, 7, 31, 63, 255, 256, 0xffff, 0x10000, 0x7fffffff, 0xffffffff, 1 << 32, (1 << 63) - 1, 5, 100)


class Writer:
    """Writes statements; every name it uses is one that exists."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def number(self, depth: int = 3) -> str:
        choice, r = self.random.choice, self.random.random()
        if depth == 0 or r < 0.15:
            return choice(NARROW) if self.random.random() < 0.75 else str(choice(BORDERS))
        one = self.number(depth - 1)
        if r < 0.45:
            return f"({one} {choice('+-*&|^&|')} {self.number(depth - 1)})"
        if r < 0.55:
            return f"({one} {choice(('<<', '>>'))} {choice((1, 3, 8, 31, 32, '(d & 7)', '(c & 31)'))})"
        if r < 0.62:
            return f"({one} {choice(('//', '%'))} {choice(('3', '10', '(d | 1)', '256', '(c + 1)'))})"
        if r < 0.68:
            return f"({one} & {choice((0xff, 0xffff, 0xffffffff, 0xffffffffffff))})"
        if r < 0.74:
            return f"{choice(('min', 'max'))}({one}, {self.number(depth - 1)})"
        if r < 0.82:
            return f"({one} if {self.test(depth - 1)} else {self.number(depth - 1)})"
        if r < 0.87:
            return f"({one} {choice(('and', 'or'))} {self.number(depth - 1)})"
        if r < 0.90:
            return f"(self.words.get({one} & 0xfff) or {self.number(depth - 1)})"
        if r < 0.93:
            return f"(hash({one}, {self.number(depth - 1)}) & 0xffff)"
        if r < 0.96:
            return f"(n.h >> {choice((0, 1, 64, 70, 100))} & {choice((0xff, 0xffffffff))})"
        return f"({choice('~-')}{one} & 0xffffffff)"

    def test(self, depth: int = 2) -> str:
        choice, r = self.random.choice, self.random.random()
        if r < 0.6 or depth == 0:
            return f"{self.number(depth)} {choice(('<', '<=', '>', '>=', '==', '!='))} {self.number(depth)}"
        if r < 0.7:
            return f"({self.test(depth - 1)} {choice(('and', 'or'))} {self.test(depth - 1)})"
        if r < 0.78:
            return f"not ({self.test(depth - 1)})"
        if r < 0.86:
            return f"{self.number(depth - 1)} < {self.number(depth - 1)} <= {self.number(depth - 1)}"
        if r < 0.94:
            return f"{self.number(depth - 1)} in ({choice(BORDERS)}, {choice(BORDERS)}, c)"
        return f"n.h {choice(('<', '>', '=='))} {choice(('(n.h ^ 1)', str(1 << 100), 'a'))}"

    def statement(self, depth: int = 2) -> list[str]:
        choice, r = self.random.choice, self.random.random()
        if depth == 0 or r < 0.35:
            return [f"self.out[{self.random.randrange(64)}] = {self.number()}"]
        if r < 0.5:
            return [f"{choice('xy')} = {self.number()} & 0xffffffff"]
        if r < 0.56:
            return [f"x, y = {self.number(2)} & 0xffff, {self.number(2)} & 0xffff"]
        if r < 0.62:
            wide = choice(("n.h", "self.wide[3]", "(n.h >> 5)"))
            return [f"self.wide[{self.random.randrange(16)}] = {wide} {choice('+-&|^')} {self.number(2)}"]
        if r < 0.67:
            return [f"self.words[{self.number(2)} & 0xfff] = {self.number(2)}"]
        if r < 0.75:
            field = choice(("p", "q", "r", "t", "s"))
            made = f"Cell(p={self.number(1)}, q={self.number(1)}, r=a, s=n.h, t=b)"
            return [f"cell = self.cells.get({self.number(1)} & 3)", "if cell is None:",
                    f"    self.cells[{self.number(1)} & 3] = {made}",
                    "else:", f"    cell.{field} = cell.{choice('pqrt')} {choice('+-^')} {self.number(2)}",
                    f"    cell.{choice('pqrt')} += {self.number(1)}"]
        if r < 0.83:
            return [f"if {self.test()}:", *self.block(depth), "else:", *self.block(depth)]
        if r < 0.9:
            return [f"for k in range({choice(('3', 'd & 3', '2, 9, 3', 'x & 7'))}):", "    y = (y + k) & 0xffff",
                    *self.block(depth), f"    if {self.test(1)}:", f"        {choice(('break', 'continue'))}"]
        if r < 0.95:
            arms = [["    " + line for line in self.block(depth)] for _ in range(2)]
            return [f"match {self.number(2)} & 3:", "    case 0:", *arms[0], "    case 1 | 2:", *arms[1],
                    "    case _:", "        x = x ^ 1"]
        return [f"n.{choice('abcdefghi')} = {self.number(2)}", "a, c = n.a, n.c"]

    def block(self, depth: int) -> list[str]:
        return ["    " + line for _ in range(self.random.randrange(1, 3)) for line in self.statement(depth - 1)]


def program(seed: int, folder: Path, statements: int = 12) -> type[Function]:
    """The program of a seed, without the statements the compiler refuses."""
    random = Random(seed)
    writer, body = Writer(random), ""
    kind = _imported(folder, f"program_{seed}", HEAD + TAIL)
    for number in range(statements):
        candidate = body + "".join(f"        {line}\n" for line in writer.statement())
        tried = _imported(folder, f"program_{seed}_{number}", HEAD + candidate + TAIL)
        try:
            analyse(tried)
        except CompileError:
            continue
        kind, body = tried, candidate
    return kind


def _imported(folder: Path, name: str, text: str) -> type[Function]:
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    found: type[Function] = module.Program
    return found
