"""Maglev tables: even, weighted, and steady."""
from __future__ import annotations

from collections import Counter

import pytest

from iovisor.parts.maglev import NONE, fill


def names(count: int, weight: int = 1) -> list[tuple[bytes, int]]:
    return [(b"backend %d" % number, weight) for number in range(count)]


@pytest.mark.parametrize("count", [1, 3, 10, 100])
def test_even(count: int) -> None:
    """Within one slot."""
    shares = Counter(fill(names(count), 16_384))
    assert sorted(shares) == list(range(count)) and max(shares.values()) - min(shares.values()) <= 1


def test_weights() -> None:
    """1 to 2 to 3, and a share of a hundredth."""
    shares = Counter(fill([(b"a", 1), (b"b", 2), (b"c", 3)], 16_384))
    assert all(abs(shares[index] - 16_384 * (index + 1) / 6) <= 2 for index in range(3))
    shares = Counter(fill([(b"a", 1), (b"b", 99), (b"c", 0)], 16_384))
    assert abs(shares[0] - 163.84) <= 2 and shares[2] == 0


@pytest.mark.parametrize(("count", "needless"), [(10, 0.015), (100, 0.03)])
def test_who_goes_moves_little_else(count: int, needless: float) -> None:
    """Of the slots of those who stay, so many move at most (65,537 slots: a third of that)."""
    before, after = fill(names(count), 16_384), fill(names(count)[:-1], 16_384)
    moved = sum(was != is_ for was, is_ in zip(before, after, strict=True) if was != count - 1)
    assert moved / 16_384 < needless


def test_who_comes_takes_from_all() -> None:
    before, after = fill(names(9), 16_384), fill(names(10), 16_384)
    moved = sum(was != is_ for was, is_ in zip(before, after, strict=True))
    assert moved / 16_384 < 0.1 + 0.02


def test_order_does_not_matter() -> None:
    one, other = names(7), names(7)[::-1]
    assert [one[index] for index in fill(one, 1024)] == [other[index] for index in fill(other, 1024)]


def test_nobody() -> None:
    assert set(fill([], 256)) == set(fill([(b"a", 0)], 256)) == {NONE}
    with pytest.raises(ValueError, match="power of two"):
        fill(names(2), 1000)
