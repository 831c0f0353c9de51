"""The names of a network: what there is to be said about them (RFC 1034 section 4.3.2), without packets.

A zone is a domain and the names in it with their addresses; the reverse names follow.  Names that only lie above others
exist, and have nothing (RFC 8020).  What does not exist is said so with the zone's SOA, so that it is remembered no
longer than `negative` (RFC 2308).
"""
from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from iovisor.wire.dns import Answer, Code, Name, Query, Record, Type, name_bytes, parse_name

Address = IPv4Address | IPv6Address


class Zone:
    """`names` by what stands before the domain; "@" is the domain itself."""

    def __init__(self, domain: str, names: Mapping[str, Sequence[Address]], ttl: int, negative: int) -> None:
        self.domain, self.ttl, self.negative = parse_name(domain), ttl, negative
        self.addresses: dict[Name, list[Address]] = {self.domain: []}
        self.pointers: dict[Name, list[Name]] = {}
        for text, addresses in names.items():
            name = self.domain if text == "@" else parse_name(text) + self.domain
            self.addresses.setdefault(name, []).extend(addresses)
            for address in addresses:
                self.pointers.setdefault(parse_name(address.reverse_pointer), []).append(name)
        self.above = {name[skip:] for name in self.addresses for skip in range(len(name) - len(self.domain) + 1)}

    def answer(self, query: Query) -> Answer | None:
        """What this zone says; None if the name is not its business."""
        if query.name in self.pointers:
            named = [Record(Type.PTR, self.ttl, name_bytes(name)) for name in self.pointers[query.name]]
            if query.type == Type.PTR:
                return Answer(authoritative=True, records=named)
            return Answer(authoritative=True, authority=[self._soa()])
        if query.name[len(query.name) - len(self.domain):] != self.domain or len(query.name) < len(self.domain):
            return None
        if query.name not in self.above:
            return Answer(Code.NXDOMAIN, True, authority=[self._soa()])
        records = self._records(query)
        return Answer(authoritative=True, records=records, authority=[] if records else [self._soa()])

    def _records(self, query: Query) -> list[Record]:
        found = self.addresses.get(query.name, [])
        if query.type == Type.A:
            return [Record(Type.A, self.ttl, address.packed) for address in found if address.version == 4]
        if query.type == Type.AAAA:
            return [Record(Type.AAAA, self.ttl, address.packed) for address in found if address.version == 6]
        if query.name == self.domain and query.type == Type.NS:
            return [Record(Type.NS, self.ttl, name_bytes(self._server()))]
        if query.name == self.domain and query.type == Type.SOA:
            return [self._soa()]
        return []

    def _server(self) -> Name:
        return (b"ns", *self.domain)

    def _soa(self) -> Record:
        data = name_bytes(self._server()) + name_bytes((b"hostmaster", *self.domain))
        return Record(Type.SOA, self.negative, data + struct.pack("!IIIII", 1, 3_600, 600, 86_400, self.negative),
                      name_bytes(self.domain))


__all__ = ["Address", "Zone"]
