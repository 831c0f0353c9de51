"""What a function says about a packet, and why packets are dropped.

A verdict is one of five: `forward(port)`, `FLOOD` (a copy to every other port, or `flood(number)`, to those of a set),
`drop(reason)`, `punt(event)` (to the function's own Python, with the frame) and `HOST` (to the stack of the machine).
On the machine it is 32 bits, `kind << 16 | argument`, so that a verdict is a register.

*Nothing vanishes unnamed*: every drop has a reason, also the ones an author does not write.  Numbers below 16 belong
to the platform and mean the same in every function; a function declares its own in a subclass of `Reasons`.
"""
from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from .errors import Reject
from .layout import Record

KINDS = ("drop", "host", "forward", "flood", "punt")
DROP_KIND, HOST_KIND, FORWARD_KIND, FLOOD_KIND, PUNT_KIND = range(5)


class Verdict:
    """`kind` is one of `KINDS`; `argument` the reason, the port, the number of a set of ports (0: all), or the index of
    the event's type."""

    __slots__ = ("argument", "event", "kind")

    def __init__(self, kind: int, argument: int = 0, event: Record | None = None) -> None:
        self.kind, self.argument, self.event = kind, argument & 0xffff, event

    @property
    def code(self) -> int:
        """The 32 bits a machine returns."""
        return self.kind << 16 | self.argument

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Verdict) and (self.kind, self.argument) == (other.kind, other.argument)
                and self.event == other.event)

    def __hash__(self) -> int:
        return self.code

    def __repr__(self) -> str:
        if self.kind == PUNT_KIND:
            return f"punt({self.event})"
        if self.kind == DROP_KIND:
            return f"drop({Dropped(self.argument).name if self.argument in _NAMES else self.argument})"
        with_argument = self.kind == FORWARD_KIND or (self.kind == FLOOD_KIND and self.argument)
        return f"{KINDS[self.kind]}({self.argument})" if with_argument else KINDS[self.kind].upper()


class Reasons(IntEnum):
    """Subclass it to name a function's own drop reasons: `class Reason(Reasons): BLOCKED = auto()`."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: Sequence[Any]) -> int:
        return 16 + count


class Dropped(IntEnum):
    """The platform's own reasons, the same in every function."""

    TRUNCATED = 1       # a header, or a payload access, lies beyond the end of the packet
    REQUIRED = 2        # a `require` did not hold
    ABSENT = 3          # `table[key]` found nothing
    TABLE_FULL = 4      # `table[key] = value` found no room
    RESIZE = 5          # the packet could not grow or shrink
    UNWIRED = 6         # the output port leads nowhere
    HOPS = 7            # too many functions in a row: a loop
    PUNT_LOST = 8       # the slow path's queue was full
    EGRESS = 9          # the device would not take the packet
    TOO_LONG = 10       # longer than the device's MTU allows
    FOREIGN = 11        # not from a MAC, or in a VLAN, that the port's share of the device has
    STORM = 12          # the network has flooded too much: a loop
    NOTELESS = 13       # met its function at XDP, and its device has no room for where it goes on


_NAMES = frozenset(Dropped)
FLOOD = Verdict(FLOOD_KIND)
HOST = Verdict(HOST_KIND)


def forward(port: int) -> Verdict:
    """Send the packet out of `port`."""
    return Verdict(FORWARD_KIND, port)


def flood(number: int) -> Verdict:
    """A copy to every port of the set of that number (see `PortSet`; 0: all) but the one the packet came from."""
    return Verdict(FLOOD_KIND, number)


def drop(reason: int) -> Verdict:
    """Drop the packet; `reason` is a member of the function's `Reasons`, and is counted."""
    return Verdict(DROP_KIND, reason)


def punt(event: Record) -> Verdict:
    """Hand `event` and the frame to the function's own `@handles(type(event))` method; the packet ends here."""
    return Verdict(PUNT_KIND, 0, event)


def require(condition: object, reason: int = Dropped.REQUIRED) -> None:
    """Drop the packet for `reason` unless `condition` holds."""
    if not condition:
        raise Reject(reason)
