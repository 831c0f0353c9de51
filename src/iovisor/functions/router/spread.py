"""Flows over several next hops: a Maglev table a group.  A group is found by its hops, so routes that name the same
hops share it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iovisor.language import Array
from iovisor.parts import maglev

from .tables import GROUPS, SLOTS, Hop, RouteKind

MOST_HOPS = 16


@dataclass(frozen=True)
class Hopping:
    """Where a route leads: `hops` are (gateway, port, weight)."""

    kind: RouteKind
    port: int
    gateway: int = 0
    hops: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, hops: Sequence[tuple[int, int, int]]) -> Hopping:
        """To these next hops; a gateway of 0 is a connected network."""
        if len(hops) > MOST_HOPS:
            raise ValueError(f"{len(hops)} next hops; {MOST_HOPS} is the most")
        if len(hops) == 1:
            gateway, port, _ = hops[0]
            return cls(RouteKind.VIA if gateway else RouteKind.CONNECTED, port, gateway, tuple(hops))
        return cls(RouteKind.GROUP, hops[0][1], 0, tuple(sorted(hops)))


class Groups:
    """The groups in use, by their hops."""

    def __init__(self) -> None:
        self.used: dict[tuple[tuple[int, int, int], ...], tuple[int, int]] = {}      # number, users

    def take(self, hopping: Hopping, choices: Array[int], hops: Array[Hop]) -> int:
        """The number of a group, filled before any route names it."""
        if hopping.hops in self.used:
            number, users = self.used[hopping.hops]
            self.used[hopping.hops] = number, users + 1
            return number
        taken = {number for number, _ in self.used.values()}
        number = next((n for n in range(GROUPS) if n not in taken), -1)
        if number < 0:
            raise ValueError(f"{GROUPS} different sets of next hops are the most")
        for index, (gateway, port, _) in enumerate(hopping.hops):
            hops[number * MOST_HOPS + index] = Hop(gateway=gateway, port=port)
        named = [(gateway.to_bytes(16, "big") + port.to_bytes(2, "big"), weight)
                 for gateway, port, weight in hopping.hops]
        for slot, choice in enumerate(maglev.fill(named, SLOTS)):
            choices[number * SLOTS + slot] = number * MOST_HOPS + choice
        self.used[hopping.hops] = number, 1
        return number

    def give(self, hopping: Hopping) -> None:
        number, users = self.used.pop(hopping.hops)
        if users > 1:
            self.used[hopping.hops] = number, users - 1
