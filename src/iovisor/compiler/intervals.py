"""Intervals of integers: the arithmetic that check.py proves things with, and the code generator chooses by.

An interval is a pair of Python integers, both ends included, so it cannot overflow itself.  The question it is asked in
the end is always the same: do the machine's bits hold this value, and read how?
"""
from __future__ import annotations

Interval = tuple[int, int]

UNKNOWN: Interval = (-(1 << 200), 1 << 200)


def union(a: Interval, b: Interval) -> Interval:
    """The smallest interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def fits(interval: Interval, bits: int) -> bool:
    """Whether the machine's `bits` hold the value, signed or unsigned."""
    return signed(interval, bits) or unsigned(interval, bits)


def signed(interval: Interval, bits: int) -> bool:
    """Whether `bits` hold the value in two's complement."""
    return -(1 << bits - 1) <= interval[0] and interval[1] < 1 << bits - 1


def unsigned(interval: Interval, bits: int) -> bool:
    """Whether `bits` hold the value without a sign."""
    return interval[0] >= 0 and interval[1] < 1 << bits


def symmetric(a: Interval, b: Interval) -> Interval:
    """What bitwise operators may make of two values of which one may be negative."""
    bits = max(abs(n).bit_length() for n in (*a, *b))
    return -(1 << bits), (1 << bits) - 1
