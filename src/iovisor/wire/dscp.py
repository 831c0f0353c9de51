"""Code points of differentiated services (RFC 2474): the six bits by which packets say how they want to be treated.

Names are the registry's: class selectors (RFC 2474), assured forwarding (RFC 2597: class and drop precedence),
expedited forwarding (RFC 3246), voice admit (RFC 5865), lower effort (RFC 8622).  All others are numbers below 64.
"""
from __future__ import annotations

from enum import IntEnum


class Dscp(IntEnum):
    """What the `dscp` of an IPv4 or IPv6 header says."""

    CS0 = 0
    LE = 1
    CS1 = 8
    AF11 = 10
    AF12 = 12
    AF13 = 14
    CS2 = 16
    AF21 = 18
    AF22 = 20
    AF23 = 22
    CS3 = 24
    AF31 = 26
    AF32 = 28
    AF33 = 30
    CS4 = 32
    AF41 = 34
    AF42 = 36
    AF43 = 38
    CS5 = 40
    VA = 44
    EF = 46
    CS6 = 48
    CS7 = 56


def dscp_text(value: int) -> str:
    """`"ef"`, or the number where there is no name."""
    return Dscp(value).name.lower() if value in list(Dscp) else str(value)


__all__ = ["Dscp", "dscp_text"]
