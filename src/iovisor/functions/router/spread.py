"""Flows over several next hops: a Maglev table a group (Eisenbud et al., NSDI 2016, section 3.4).

Every hop has an order of its own over the slots, from a hash of its name, and hops take slots in turn: they share
within one slot, and when one goes the others keep nearly all of theirs.  A group is found by its hops, so routes that
name the same hops share it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from iovisor.language import Array

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
        for slot, choice in enumerate(maglev(hopping.hops)):
            choices[number * SLOTS + slot] = number * MOST_HOPS + choice
        self.used[hopping.hops] = number, 1
        return number

    def give(self, hopping: Hopping) -> None:
        number, users = self.used.pop(hopping.hops)
        if users > 1:
            self.used[hopping.hops] = number, users - 1


def maglev(hops: Sequence[tuple[int, int, int]]) -> list[int]:
    """By slot, the index of a hop."""
    orders = []
    for gateway, port, _ in hops:
        digest = hashlib.sha256(gateway.to_bytes(16, "big") + port.to_bytes(2, "big")).digest()
        start, step = int.from_bytes(digest[:4], "big") % SLOTS, int.from_bytes(digest[4:8], "big") % SLOTS | 1
        orders.append([(start + step * turn) % SLOTS for turn in range(SLOTS)])
    chosen, nexts, left = [-1] * SLOTS, [0] * len(hops), SLOTS
    while True:
        for index, (_, _, weight) in enumerate(hops):
            for _ in range(weight):
                while chosen[orders[index][nexts[index]]] >= 0:
                    nexts[index] += 1
                chosen[orders[index][nexts[index]]] = index
                left -= 1
                if left == 0:
                    return chosen
