"""Multicast Listener Discovery: IGMP's part for IPv6, in messages of ICMPv6 (RFC 2710, RFC 3810).

Messages are sent with hop limit 1 from a link-local address, behind a hop-by-hop header with the router alert.  Their
types are in `icmp6.Icmp6Type`, what a record says in `igmp.Change`.
"""
from __future__ import annotations

from iovisor.language import Checksum, Header, ipv6, u8, u16

from .icmp6 import Icmp6Type


class Listener(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 2710 section 3; the beginning of a query of version 2 too.  `group` is zero in a general query."""

    type: u8
    code: u8 = 0
    checksum: u16 = 0
    delay: u16 = 0
    reserved: u16 = 0
    group: ipv6 = 0


class ListenerReport2(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 3810 section 5.2: `count` records follow."""

    type: u8 = Icmp6Type.LISTENER_REPORT_2
    reserved: u8 = 0
    checksum: u16 = 0
    spare: u16 = 0
    count: u16


class ListenerRecord(Header):
    """RFC 3810 section 5.2.4: `sources` addresses follow, then `auxiliary` words of 4 bytes."""

    type: u8
    auxiliary: u8 = 0
    sources: u16 = 0
    group: ipv6
