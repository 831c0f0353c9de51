"""What becomes of ICMP errors on the other side (RFC 7915 sections 4.2 and 5.2), as tables.

The data path looks a message up by its type and code, and a pointer by what it points at, instead of asking one thing
after the other; what is not in a table does not pass.  `Rest` says what the second word of the message is.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Record, u8
from iovisor.wire.icmp import IcmpType, Unreachable
from iovisor.wire.icmp6 import Icmp6Type, Unreachable6

SIX = 256                       # where the messages of IPv6 begin
POINTERS = 64                   # where what points into IPv6 begins
PLATEAUS = (65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68)        # RFC 1191 section 7
BAD_HEADER, UNKNOWN_NEXT, BAD_LENGTH = 0, 1, 2          # codes of parameter problems
NEXT_HEADER = 6                 # where an IPv6 header says what it carries

Meant = dict[tuple[int, int], tuple[int, int, int]]     # type, code: type, code, what the rest becomes


class Rest(IntEnum):
    """What the second word of a message becomes."""

    NOTHING = 1
    MTU = 2
    POINTER = 3
    NEXT = 4                    # it points at what says what the packet carries


class Meaning(Record):
    """A message of the other side; no `rest` if there is none."""

    type: u8 = 0
    code: u8 = 0
    rest: u8 = 0


def of_icmp() -> Meant:
    """Section 4.2."""
    found: Meant = {}
    for code in (0, 1, 5, 6, 7, 8, 11, 12):
        found[IcmpType.UNREACHABLE, code] = Icmp6Type.UNREACHABLE, Unreachable6.NO_ROUTE, Rest.NOTHING
    for code in (Unreachable.NET_PROHIBITED, Unreachable.HOST_PROHIBITED, Unreachable.PROHIBITED, 15):
        found[IcmpType.UNREACHABLE, code] = Icmp6Type.UNREACHABLE, Unreachable6.PROHIBITED, Rest.NOTHING
    found[IcmpType.UNREACHABLE, Unreachable.PROTOCOL] = Icmp6Type.PARAMETER_PROBLEM, UNKNOWN_NEXT, Rest.NEXT
    found[IcmpType.UNREACHABLE, Unreachable.PORT] = Icmp6Type.UNREACHABLE, Unreachable6.PORT, Rest.NOTHING
    found[IcmpType.UNREACHABLE, Unreachable.FRAGMENTATION_NEEDED] = Icmp6Type.TOO_BIG, 0, Rest.MTU
    for code in (0, 1):
        found[IcmpType.TIME_EXCEEDED, code] = Icmp6Type.TIME_EXCEEDED, code, Rest.NOTHING
    for code in (BAD_HEADER, BAD_LENGTH):
        found[IcmpType.PARAMETER_PROBLEM, code] = Icmp6Type.PARAMETER_PROBLEM, BAD_HEADER, Rest.POINTER
    return found


def of_icmp6() -> Meant:
    """Section 5.2."""
    found: Meant = {}
    for kind in (Unreachable6.NO_ROUTE, Unreachable6.BEYOND_SCOPE, Unreachable6.ADDRESS):
        found[Icmp6Type.UNREACHABLE, kind] = IcmpType.UNREACHABLE, Unreachable.HOST, Rest.NOTHING
    found[Icmp6Type.UNREACHABLE, Unreachable6.PROHIBITED] = (
        IcmpType.UNREACHABLE, Unreachable.HOST_PROHIBITED, Rest.NOTHING)
    found[Icmp6Type.UNREACHABLE, Unreachable6.PORT] = IcmpType.UNREACHABLE, Unreachable.PORT, Rest.NOTHING
    found[Icmp6Type.TOO_BIG, 0] = IcmpType.UNREACHABLE, Unreachable.FRAGMENTATION_NEEDED, Rest.MTU
    for code in (0, 1):
        found[Icmp6Type.TIME_EXCEEDED, code] = IcmpType.TIME_EXCEEDED, code, Rest.NOTHING
    found[Icmp6Type.PARAMETER_PROBLEM, BAD_HEADER] = IcmpType.PARAMETER_PROBLEM, BAD_HEADER, Rest.POINTER
    found[Icmp6Type.PARAMETER_PROBLEM, UNKNOWN_NEXT] = IcmpType.UNREACHABLE, Unreachable.PROTOCOL, Rest.NOTHING
    return found


def meanings() -> dict[int, Meaning]:
    """By 16 times the type and the code; those of ICMPv6 begin at `SIX`."""
    return {base + type * 16 + code: Meaning(type=new[0], code=new[1], rest=new[2])
            for base, table in ((0, of_icmp()), (SIX, of_icmp6())) for (type, code), new in table.items()}


def pointers() -> dict[int, int]:
    """By the byte of a fixed header, one more than the byte of the other one that says the same; those into IPv6 begin
    at `POINTERS`."""
    four = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6} | dict.fromkeys(range(12, 16), 8) | dict.fromkeys(range(16, 20), 24)
    six = {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8} | dict.fromkeys(range(8, 24), 12) | dict.fromkeys(range(24, 40), 16)
    return {at: other + 1 for at, other in four.items()} | {POINTERS + at: other + 1 for at, other in six.items()}


__all__ = ["NEXT_HEADER", "PLATEAUS", "POINTERS", "SIX", "Meaning", "Rest", "meanings", "pointers"]
