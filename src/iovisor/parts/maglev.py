"""Who gets which flows: a Maglev table (Eisenbud et al., NSDI 2016, section 3.4), with weights.

Every member has an order of its own over the slots, which follows from its name alone, and members take slots in turn:
so they share within one slot, and when one goes the others keep nearly all of theirs.  A member with half the weight of
the heaviest takes a slot every other turn.  Members are asked in the order of their hashes: whoever fills a table from
the same names and weights, anywhere, fills it alike.

The number of slots is a power of two, where any odd step visits them all, and a mask does for a modulus.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence

NONE = -1


def fill(members: Sequence[tuple[bytes, int]], slots: int) -> list[int]:
    """By slot, the index of a member; members are (name, weight).  `NONE` everywhere if none has a weight."""
    if slots & slots - 1:
        raise ValueError(f"the slots of a table are a power of two, not {slots}")
    chosen = [NONE] * slots
    digests = [hashlib.sha256(name).digest() for name, _ in members]
    turns = sorted((index for index, (_, weight) in enumerate(members) if weight), key=lambda index: digests[index])
    if not turns:
        return chosen
    heaviest = max(members[index][1] for index in turns)
    places = [int.from_bytes(digest[:4], "big") % slots for digest in digests]
    steps = [int.from_bytes(digest[4:8], "big") % slots | 1 for digest in digests]
    credits, left, mask = [0] * len(members), slots, slots - 1
    while True:
        for index in turns:
            credits[index] += members[index][1]
            if credits[index] < heaviest:
                continue
            credits[index] -= heaviest
            place, step = places[index], steps[index]
            while chosen[place] >= 0:
                place = place + step & mask
            chosen[place] = index
            places[index] = place + step & mask
            left -= 1
            if left == 0:
                return chosen
