"""What is known of variables at one point of a program, and where two paths meet.

A fact is about a variable: the interval of its value, whether it is there, whether the view it holds is good, and where
that view came from.  Facts of two paths are joined to what holds on both.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from . import ir
from .intervals import Interval, union


@dataclass(frozen=True)
class Fact:
    """What is known of one variable here."""

    low: int = 0
    high: int = 0
    present: bool | None = True
    valid: bool = True
    origins: frozenset[str] = frozenset()

    @property
    def interval(self) -> Interval:
        return self.low, self.high


@dataclass
class State:
    """What is known at one point."""

    facts: dict[ir.Var, Fact] = field(default_factory=dict)
    cursor: Interval = (0, 0)
    moved: bool = False         # the frame's front may be another than it came with

    def copy(self) -> State:
        return State(dict(self.facts), self.cursor, self.moved)

    def become(self, other: State) -> None:
        self.facts, self.cursor, self.moved = other.facts, other.cursor, other.moved


def _join_facts(a: Fact, b: Fact) -> Fact:
    if a == b:
        return a
    low, high = (a.low, a.high) if b.present is False else (b.low, b.high) if a.present is False else \
        union(a.interval, b.interval)
    return Fact(low, high, a.present if a.present == b.present else None, a.valid and b.valid, a.origins | b.origins)


def join(a: State | None, b: State | None) -> State | None:
    """What is known where two paths meet."""
    if a is None or b is None:
        return a or b
    facts = {v: _join_facts(f, b.facts[v]) for v, f in a.facts.items() if v in b.facts}
    return State(facts, union(a.cursor, b.cursor), a.moved or b.moved)
