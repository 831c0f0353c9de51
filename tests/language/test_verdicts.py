"""Verdicts are 32 bits, and every drop has a name."""
from __future__ import annotations

from enum import auto

import pytest

from iovisor.language import (
    FLOOD,
    HOST,
    Dropped,
    Reasons,
    Record,
    Reject,
    Verdict,
    drop,
    forward,
    punt,
    require,
    u8,
)


class Reason(Reasons):
    BLOCKED = auto()
    TOO_FAST = auto()
    FIXED = 40


class Event(Record):
    a: u8 = 0


@pytest.mark.parametrize(("verdict", "code", "text"), [
    (drop(Dropped.TRUNCATED), 0x0_0001, "drop(TRUNCATED)"),
    (drop(Reason.BLOCKED), 0x0_0010, "drop(16)"),
    (HOST, 0x1_0000, "HOST"),
    (forward(7), 0x2_0007, "forward(7)"),
    (FLOOD, 0x3_0000, "FLOOD"),
    (punt(Event(a=1)), 0x4_0000, "punt(Event(a=1))"),
])
def test_code_and_text(verdict: Verdict, code: int, text: str) -> None:
    assert (verdict.code, repr(verdict)) == (code, text)


def test_verdicts_are_equal_by_value() -> None:
    assert forward(1) == forward(1) != forward(2)
    assert drop(1) != forward(1) and HOST != FLOOD
    assert punt(Event(a=1)) == punt(Event(a=1)) != punt(Event(a=2))
    assert len({forward(1), forward(1), drop(1)}) == 2
    assert forward(1) != 0x2_0001


def test_a_functions_reasons_count_from_sixteen() -> None:
    assert (Reason.BLOCKED, Reason.TOO_FAST, Reason.FIXED) == (16, 17, 40)
    assert max(Dropped) < 16


def test_require() -> None:
    require(1)
    require(0 < 1, Reason.BLOCKED)
    for condition in (0, False, None):
        with pytest.raises(Reject) as caught:
            require(condition)
        assert caught.value.reason == Dropped.REQUIRED
    with pytest.raises(Reject) as caught:
        require(False, Reason.TOO_FAST)
    assert caught.value.reason == Reason.TOO_FAST
