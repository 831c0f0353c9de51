"""ICMP errors whose quoted packet is given other addresses, every checksum kept right (RFC 5508 section 4).

Four checksums hang together: the quoted IPv4 header's, the quoted transport's, that of the error, and in ICMPv6 the
pseudo-header's part of it.  A quoted transport checksum is of the whole packet, so it is adjusted, and only if it is
quoted at all: an error may end eight bytes into the transport header (RFC 792).  A changed IPv4 address and the
checksum that makes up for it leave the error's sum as it was; all else is added to it.

`Message` and `Ends` are views of what `Icmp`, `Udp` and `Tcp` show, without a guard: what is quoted here no device will
finish, so plain assignment is right on every target.
"""
from __future__ import annotations

from iovisor.language import Header, Packet, inline, ipv4, u8, u16, u32, u64
from iovisor.wire.checksum import finish, finish_udp
from iovisor.wire.ipv4 import IpProtocol, IPv4

WORD = 0xffff_ffff


class Message(Header):
    """The header of an ICMP or ICMPv6 error."""

    type: u8
    code: u8
    checksum: u16
    rest: u32


class Ends(Header):
    """The eight bytes of a transport header that are always quoted; `checksum` is UDP's."""

    source: u16
    destination: u16
    length: u16
    checksum: u16


class Query(Header):
    """The same of ICMP queries."""

    type: u8
    code: u8
    checksum: u16
    id: u16
    sequence: u16


class TcpRest(Header):
    """What may be quoted behind them of TCP."""

    acknowledgment: u32
    flags: u16
    window: u16
    checksum: u16


@inline
def of_halves(upper: u64, lower: u64) -> int:
    """The sum of an address in two words."""
    return (upper >> 32) + (upper & WORD) + (lower >> 32) + (lower & WORD)


@inline
def change_ends(pkt: Packet, message: Message, ends: Ends, protocol: u8, addresses: u64, source: u16,
                destination: u16, more: u64, left: int) -> None:
    """Give the quoted transport header other ports, and the error its checksum; the cursor is behind `ends`.

    `addresses` is what the quoted addresses' change adds to a sum, `more` what else changed under the error's.  `left`
    bytes of the error are behind `ends`: what comes after them is padding, and no checksum.
    """
    ports = 2 * 0xffff - ends.source - ends.destination + source + destination
    total = (~message.checksum & 0xffff) + ports + more
    if protocol == IpProtocol.UDP:
        if ends.checksum != 0:
            fresh = finish_udp((~ends.checksum & 0xffff) + ports + addresses)
            total = total + (~ends.checksum & 0xffff) + fresh
            ends.checksum = fresh
    elif protocol == IpProtocol.TCP and left >= TcpRest.size:
        rest = pkt.peek(TcpRest)
        if rest is not None:
            fresh = finish((~rest.checksum & 0xffff) + ports + addresses)
            total = total + (~rest.checksum & 0xffff) + fresh
            rest.checksum = fresh
    ends.source, ends.destination = source, destination
    message.checksum = finish(total)


@inline
def change_query(message: Message, query: Query, addresses: u64, id: u16, more: u64) -> None:
    """The same of a quoted query: give it another identifier.  In ICMP its checksum is not of any address."""
    change = 0xffff - query.id + id
    fresh = finish((~query.checksum & 0xffff) + change + addresses)
    message.checksum = finish((~message.checksum & 0xffff) + change + (~query.checksum & 0xffff) + fresh + more)
    query.checksum = fresh
    query.id = id


@inline
def requote4(pkt: Packet, message: Message, inner: IPv4, ends: Ends, source: ipv4, source_port: u16,
             destination: ipv4, destination_port: u16, left: int) -> None:
    """Give the quoted packet these ends; `left` as above."""
    addresses = 2 * WORD - inner.src - inner.dst + source + destination
    change_ends(pkt, message, ends, inner.proto, addresses, source_port, destination_port, 0, left)
    pkt.rewrite(inner, under=None, src=source, dst=destination)


__all__ = ["Ends", "Message", "Query", "change_ends", "change_query", "of_halves", "requote4"]
