"""What a network may spend on copies, so that a loop costs the machine little and its neighbours nothing.

Flooding multiplies: in a full mesh of eight hubs one frame is some 7 * 6^15 copies before the hop limit ends them.  So
every copy a flood makes is charged to the network, by the CPU it is made on, and copies *for other functions*, the only
ones that can multiply again, are refused once the budget is overdrawn: a counted drop of the fabric, `STORM`.  Copies
for devices are never refused: they are what a flood is for, and they end.  They are charged an eighth, so that a
broadcast to 16 switches of 48 devices each, as often as a CPU can make one, stays within the budget.

The budget is a rate and a burst, per CPU.  The rate bounds the time a storm takes from everybody else: a copy costs
half a microsecond, and as much again where it arrives.  (Of many devices on a loop the hosts' own work is most; lower
the rate there.)  The burst bounds how much of the CPU's input queue (net.core.netdev_max_backlog, 1000 packets, shared
by every network and every veth) one storm fills at a blow: when that is full, what others send is lost.  A neighbour's
answers, 99 of 100, take some 220 us beside a loop in eight hubs instead of 36; with a burst of 200 170, of 50 70, but
50 are not enough for one broadcast along 16 switches of 48 devices, and 200 for one only (medians of five, noisy).

The account is one number a CPU, `due`: the time until which all that was copied is paid for (the generic cell rate
algorithm; ATM Forum TM 4.0).  A copy moves it on by 1/rate; it is overdrawn once it lies more than burst/rate ahead of
the clock.  Rejected: a budget that each packet carries and divides among its copies.  It needs no clock, but halving
starves honest trees that are not balanced, and a thousand frames a second have a thousand budgets.
"""
from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from ..kernel import Map, MapKind, MapSpec, possible_cpus
from .pins import Pins

_ACCOUNT = struct.Struct("<QQQ")            # due, nanoseconds a copy, nanoseconds it may be overdrawn
_ONLY = bytes(4)
CHEAPER = 3                     # a copy for a device is charged an eighth


@dataclass(frozen=True)
class Storm:
    """What a network may flood: copies a second, and at a blow; on each CPU.  A rate of 0 is no limit."""

    rate: int = 200_000
    burst: int = 600

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1_000_000_000:
            raise ValueError(f"copies a second: 0 (no limit) to a thousand million, not {self.rate}")
        if not 1 <= self.burst <= 1_000_000:
            raise ValueError(f"copies at a blow: 1 to a million, not {self.burst}")


class Budget:
    """The accounts of a network, one a CPU, in a map which its flood programs share.

    A network that is adopted goes on with the limit that was pinned.
    """

    def __init__(self, pins: Pins) -> None:
        self._cpus = possible_cpus()
        self.map: Map = pins.map("copies", MapSpec("copies", MapKind.PER_CPU_ARRAY, 4, _ACCOUNT.size, 1))
        if not any(any(value) for value in self.map.lookup_per_cpu(_ONLY) or []):
            self.limit(Storm())

    def limit(self, storm: Storm) -> None:
        """From here on; accounts begin anew."""
        each = 1_000_000_000 // storm.rate if storm.rate else 0
        value = _ACCOUNT.pack(1, each, each * storm.burst)
        self.map.update_per_cpu(_ONLY, [value] * self._cpus)

    @property
    def storm(self) -> Storm:
        """What is in force."""
        _, each, most = _ACCOUNT.unpack((self.map.lookup_per_cpu(_ONLY) or [bytes(_ACCOUNT.size)])[0])
        return Storm(1_000_000_000 // each, most // each) if each else Storm(0, 1)

    def purse(self, processor: int) -> Purse:
        """What a CPU may spend from now on, to be spent in thought."""
        due, each, most = _ACCOUNT.unpack((self.map.lookup_per_cpu(_ONLY) or [bytes(_ACCOUNT.size)])[processor])
        return Purse(max(due - time.monotonic_ns(), 0), each, most)

    def close(self) -> None:
        self.map.close()


@dataclass
class Purse:
    """The account of a CPU at a moment that does not pass: how far ahead of the clock it is, in nanoseconds, what a
    copy costs, and how far ahead it may be."""

    ahead: int
    each: int
    most: int

    def pay(self, whole: bool) -> bool:
        """Charge a copy for a function (`whole`) or for a device; whether the account was overdrawn before."""
        if self.ahead > self.most:
            return True
        self.ahead += self.each if whole else self.each >> CHEAPER
        return False


__all__ = ["CHEAPER", "Budget", "Purse", "Storm"]
