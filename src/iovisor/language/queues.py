"""Where packets wait at a device, as data: what a function with `queues` asks of the network.

The data path says in which queue a packet shall wait (`pkt.queue(number)`); waiting itself is the device's.  Queues are
a tree: a guarantee is what one gets in any case, a ceiling what it gets when others leave something over.  Whoever has
the lower `priority` number is served first from what is left over; equals share it.
"""
from __future__ import annotations

from dataclasses import dataclass

MOST_QUEUES = 0xffff


@dataclass(frozen=True)
class Queue:
    """`number` 1 to 65,535, above those of its children; `parent` 0 for the trunk; rates in
    bits a second, `burst` and `room` in bytes.

    A guarantee of 0 is none: such a queue takes turns with its equals at what their parent has.  After a pause `burst`
    may leave at once: of the guarantee, or if there is a `surge`, that much up to the ceiling.  `room`, how much may
    wait, makes it a leaf; packets wait in leaves only.
    """

    number: int
    parent: int
    guarantee: int
    ceiling: int
    burst: int
    priority: int = 0
    room: int = 0
    surge: int = 0


@dataclass(frozen=True)
class Queues:
    """All of a device's, parents before children.  What says nothing waits in queue 1, which is a leaf."""

    every: tuple[Queue, ...]


__all__ = ["MOST_QUEUES", "Queue", "Queues"]
