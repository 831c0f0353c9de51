"""The Internet Control Message Protocol for IPv6 (RFC 4443).  Neighbor discovery, which it carries, is `neighbor`.

As in `icmp`, several views of the same eight bytes.  Unlike there, the checksum covers the pseudo-header, so a change
of address is a `pkt.rewrite(ip, under=icmp, …)`.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, inline, u8, u16, u32


class Icmp6Type(IntEnum):
    """RFC 4443 section 2.1; RFC 4861 section 4; RFC 2710 and 3810 for listeners.  Below 128: errors."""

    UNREACHABLE = 1
    TOO_BIG = 2
    TIME_EXCEEDED = 3
    PARAMETER_PROBLEM = 4
    ECHO = 128
    ECHO_REPLY = 129
    LISTENER_QUERY = 130
    LISTENER_REPORT = 131
    LISTENER_DONE = 132
    ROUTER_SOLICITATION = 133
    ROUTER_ADVERTISEMENT = 134
    NEIGHBOR_SOLICITATION = 135
    NEIGHBOR_ADVERTISEMENT = 136
    REDIRECT = 137
    LISTENER_REPORT_2 = 143


class Unreachable6(IntEnum):
    """The codes of "destination unreachable" (RFC 4443 section 3.1)."""

    NO_ROUTE = 0
    PROHIBITED = 1
    BEYOND_SCOPE = 2
    ADDRESS = 3
    PORT = 4
    SOURCE_POLICY = 5
    REJECT_ROUTE = 6


class Icmp6(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """What all messages have in common (RFC 4443 section 2.1); `rest` is the MTU of "packet too big" (section 3.2)."""

    type: u8
    code: u8 = 0
    checksum: u16 = 0
    rest: u32 = 0


class Icmp6Echo(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """Echo request and reply (RFC 4443 sections 4.1 and 4.2)."""

    type: u8
    code: u8 = 0
    checksum: u16 = 0
    id: u16
    sequence: u16


@inline
def is_error(type: u8) -> bool:
    """Whether a message is about another packet: never answer it with an error (RFC 4443 section 2.4 e)."""
    return type < 128


@inline
def is_discovery(type: u8) -> bool:
    """Router and neighbor discovery (RFC 4861 section 4): valid only with 255 hops left, so never forwarded."""
    return Icmp6Type.ROUTER_SOLICITATION <= type <= Icmp6Type.REDIRECT


@inline
def fill(icmp: Icmp6, type: u8, code: u8 = 0, rest: u32 = 0) -> None:
    """Give a pushed header its fields; `checksum.icmp6` comes after."""
    icmp.type = type
    icmp.code = code
    icmp.rest = rest
