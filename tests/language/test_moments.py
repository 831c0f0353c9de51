"""Moments of entries, by another clock."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import Hash, Record, period, table, time, u8
from iovisor.language.moments import moved, places
from iovisor.language.tables import TableSpec, declare

TIMES = st.integers(0, (1 << 62) - 1)


class Entry(Record):
    number: period
    first: time
    small: u8
    last: time


def spec(ttl: int = 0) -> TableSpec:
    return declare("entries", Hash[u8, Entry], table(4, ttl=ttl))


def test_where_they_are() -> None:
    assert places(spec()) == [8, 24]
    assert places(spec(ttl=1)) == [8, 24, 32]
    assert places(declare("numbers", Hash[u8, time], table(4))) == []      # a key or value alone says nothing


@given(TIMES, TIMES, st.integers(-(1 << 62), 1 << 60), TIMES)
def test_moved(first: int, last: int, by: int, since: int) -> None:
    entry = Entry.decode(moved(spec(), bytes(Entry(number=7, first=first, small=3, last=last)), by, since))
    assert (entry.number, entry.small) == (7, 3)
    for before, after in ((first, entry.first), (last, entry.last)):
        if before == 0:
            assert after == 0                                               # none stays none
        elif before + by > 2:
            assert after == before + by
        else:
            assert after in (1, 2)                                          # and what was is not to come
            assert (after == 2) == (before > since or before + by == 2)
