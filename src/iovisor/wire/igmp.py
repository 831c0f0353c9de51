"""The Internet Group Management Protocol: how hosts tell routers which groups of IPv4 they want (RFC 2236, RFC 3376).

Versions 1 and 2 say one group a message; a report of version 3 says many, each with the sources that are wanted or not.
Over IPv6 it is part of ICMPv6: see `mld`.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, ipv4, u8, u16


class IgmpType(IntEnum):
    """RFC 3376 section 4."""

    QUERY = 0x11
    REPORT_1 = 0x12
    REPORT_2 = 0x16
    LEAVE = 0x17
    REPORT_3 = 0x22


class Change(IntEnum):
    """What a record of a group says (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12)."""

    IS_INCLUDE = 1
    IS_EXCLUDE = 2
    TO_INCLUDE = 3
    TO_EXCLUDE = 4
    ALLOW = 5
    BLOCK = 6


class Igmp(Header, checksum=Checksum("checksum", "transport")):
    """RFC 2236 section 2; the beginning of a query of version 3 too.  `group` is zero in a general query."""

    type: u8
    time: u8 = 0
    checksum: u16 = 0
    group: ipv4 = 0


class Report3(Header, checksum=Checksum("checksum", "transport")):
    """RFC 3376 section 4.2: `count` records follow."""

    type: u8 = IgmpType.REPORT_3
    reserved: u8 = 0
    checksum: u16 = 0
    spare: u16 = 0
    count: u16


class GroupRecord(Header):
    """RFC 3376 section 4.2.4: `sources` addresses follow, then `auxiliary` words of 4 bytes."""

    type: u8
    auxiliary: u8 = 0
    sources: u16 = 0
    group: ipv4
