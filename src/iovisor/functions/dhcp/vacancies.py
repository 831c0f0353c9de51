"""Which address of a pool a new client gets: one nobody had, and when there is none any more, the one longest free.

Both answers take a lookup or two however large the pool is: a walk that never goes back finds the first, a heap of the
ends of leases the second.  Entries of the heap are checked when they come to its top, because the data path makes
leases longer without telling; what it never does is make one shorter.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush


class Vacancies:
    """Of one pool.  `expiry` tells when a lease of an address ends or ended, 0 if nobody ever had it."""

    def __init__(self, pool: Iterable[int], expiry: Callable[[int], int]) -> None:
        self._pool, self._expiry = pool, expiry
        self._walk = iter(pool)
        self._here = next(self._walk, 0)
        self._ends: list[tuple[int, int]] = []
        self._newest: dict[int, int] = {}

    def next(self, moment: int) -> int:
        """The address for a new client; 0 if every one is taken."""
        while self._here and self._expiry(self._here):
            self._here = next(self._walk, 0)
        if self._here:
            return self._here
        if not self._newest or len(self._ends) > 4 * len(self._newest):
            self._newest = {address: self._expiry(address) for address in self._pool}
            self._ends = [(end, address) for address, end in self._newest.items()]
            heapify(self._ends)
        while self._ends and self._ends[0][0] <= moment:
            end, address = self._ends[0]
            if self._newest[address] != end:
                heappop(self._ends)
                continue
            actual = self._expiry(address)
            if actual == end:
                return address
            self.changed(address, actual)
        return 0

    def changed(self, address: int, end: int) -> None:
        """A lease of an address ends at another time."""
        if address in self._newest:
            self._newest[address] = end
            heappush(self._ends, (end, address))


__all__ = ["Vacancies"]
