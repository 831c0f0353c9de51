"""What passes the ports of an instance, packets and bytes per CPU; and what a network's fabric does.

All ports of an instance are counted in *one* value: an entry each would cost an allocation each, and a network of a
switch and a filter would take four milliseconds for counters alone.  Programs have the place of theirs built in, so
counting is one inlined lookup and two additions.  Counters are never set back, which nobody can do while packets are
counted: a port that is joined anew notes where they stood.

A port has two *banks*.  When a revision makes a link of what was a device, packets of both wirings pass the port at the
same time, and what came from the device must not be taken for what came from the link: the new join counts in the other
bank.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ..kernel import MapKind, MapSpec
from ..language.verdicts import Dropped
from .pins import Pins

_ONLY = bytes(4)
_NUMBERS = 64
BANKS = 2


@dataclass(frozen=True)
class Traffic:
    """Packets and bytes."""

    packets: int = 0
    bytes: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(self.packets - earlier.packets, self.bytes - earlier.bytes)


class Counters:
    """Two for each port of an instance and bank, what it received and what it sent; made and closed by the instance."""

    def __init__(self, pins: Pins, ports: int) -> None:
        self.array = pins.map("counts", MapSpec("counts", MapKind.PER_CPU_ARRAY, 4, BANKS * 32 * max(ports, 1), 1))

    def read(self, port: int, bank: int) -> tuple[Traffic, Traffic]:
        """What a port received and sent, since the instance exists, over all CPUs."""
        sums = [sum(found) for found in zip(*(struct.unpack_from("<4Q", value, 16 * number(port, bank))
                                              for value in self.array.lookup_per_cpu(_ONLY) or []), strict=True)]
        return Traffic(*sums[:2]), Traffic(*sums[2:])


def number(port: int, bank: int) -> int:
    """The number of what a port received; what it sent has the next."""
    return 2 * (BANKS * port + bank)


class Account:
    """What the fabric does by itself, in packets; made and closed by a network.

    Programs count its drops, by reason, and behind them `Total`s.  `kept` is what ports and instances that are gone had
    counted; it is written down with the network.
    """

    def __init__(self, pins: Pins) -> None:
        self.array = pins.map("account", MapSpec("account", MapKind.PER_CPU_ARRAY, 4, 8 * _NUMBERS, 1))
        self.kept: dict[str, int] = dict.fromkeys(KEPT, 0)

    def read(self) -> list[int]:
        """Every number, over all CPUs."""
        return [sum(found) for found in zip(*(struct.unpack(f"<{_NUMBERS}Q", value)
                                              for value in self.array.lookup_per_cpu(_ONLY) or []), strict=True)]

    @property
    def drops(self) -> dict[str, int]:
        """Drops by the name of their reason."""
        counts = self.read()
        return {reason.name: counts[reason] for reason in Dropped if counts[reason]}


class Total(IntEnum):
    """Numbers of an account that are no drops."""

    FLOODS = 48
    COPIES = 49
    ROUND = 50
    CAME = 51
    INJECTED = 52


KEPT = ("received", "sent", "dropped", "punted", "handed", "copies")

__all__ = ["BANKS", "KEPT", "Account", "Counters", "Total", "Traffic", "number"]
