"""So many a second, and a second's worth at once: what keeps answers, reports and floods from becoming a flood.

A bucket of credit, counted in billionths of one, so that time times rate needs no division.  It begins full.  Two CPUs
that take at the same moment may both take the last one: a limit that is off by a packet does no harm, and a lock would.
"""
from __future__ import annotations

from iovisor.language import SECOND, Record, inline, time, u24, u56


class Allowance(Record):
    """What is left, and since when."""

    credit: u56 = 0
    since: time = 0


@inline
def take(allowance: Allowance, rate: u24, moment: time) -> bool:
    """Whether one more may be had at `moment`, and take it."""
    earned = min(max(moment - allowance.since, 0), SECOND) * rate
    credit = min(allowance.credit + earned, SECOND * rate)
    allowance.since = moment
    if credit < SECOND:
        allowance.credit = credit
        return False
    allowance.credit = credit - SECOND
    return True
