"""Counters of a network: packets and bytes, per CPU, an index for each direction of each port; and the fabric's drops.

Programs find their counter by a number built into them, so counting is one inlined lookup and two additions.  Numbers
are used again once their port is free.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..kernel import MapKind, MapSpec, possible_cpus
from ..language.verdicts import Dropped
from .edges import OWN, Count
from .pins import Pins

MOST = 4096


@dataclass(frozen=True)
class Traffic:
    """Packets and bytes."""

    packets: int
    bytes: int


class Counters:
    """Made and closed by a network.  The numbers below `OWN` are the network's: see edges.py."""

    def __init__(self, pins: Pins) -> None:
        self._counts = pins.map("counts", MapSpec("counts", MapKind.PER_CPU_ARRAY, 4, 16, MOST))
        try:
            self._drops = pins.map("lost", MapSpec("lost", MapKind.PER_CPU_ARRAY, 4, 8, 256))
        except BaseException:
            self._counts.close()
            raise
        self._free = list(range(MOST - 1, OWN - 1, -1))
        self._cpus = possible_cpus()

    def take(self) -> int:
        """A number nobody uses, at zero."""
        if not self._free:
            raise ValueError(f"no counter is left: the ports of a network have {MOST - OWN} together")
        index = self._free.pop()
        self._counts.update_per_cpu(index.to_bytes(4, "little"), [bytes(16)] * self._cpus)
        return index

    def taken(self, indexes: set[int]) -> None:
        """These are in use, and no others."""
        self._free = [index for index in range(MOST - 1, OWN - 1, -1) if index not in indexes]

    def give(self, *indexes: int) -> None:
        """The opposite of `take`."""
        self._free += [index for index in indexes if index >= OWN]

    def add(self, index: int, packets: int, size: int = 0) -> None:
        """Add to one of the network's numbers that no program counts at."""
        key = index.to_bytes(4, "little")
        first, *others = self._counts.lookup_per_cpu(key) or []
        packets, size = packets + int.from_bytes(first[:8], "little"), size + int.from_bytes(first[8:], "little")
        self._counts.update_per_cpu(key, [packets.to_bytes(8, "little") + size.to_bytes(8, "little"), *others])

    def count(self, index: int = 0) -> Count:
        """What a program is given to count by."""
        return Count(self._counts, index, self._drops)

    def read(self, index: int) -> Traffic:
        """What was counted, over all CPUs."""
        values = self._counts.lookup_per_cpu(index.to_bytes(4, "little")) or []
        return Traffic(sum(int.from_bytes(v[:8], "little") for v in values),
                       sum(int.from_bytes(v[8:], "little") for v in values))

    @property
    def drops(self) -> dict[str, int]:
        """Drops of the fabric itself, by the name of their reason."""
        found = {}
        for reason in Dropped:
            values = self._drops.lookup_per_cpu(int(reason).to_bytes(4, "little")) or []
            if count := sum(int.from_bytes(v, "little") for v in values):
                found[reason.name] = count
        return found

    def close(self) -> None:
        self._counts.close()
        self._drops.close()
