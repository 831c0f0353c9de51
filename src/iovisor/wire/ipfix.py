"""IPFIX messages (RFC 7011), as an exporter of flow records writes them.  Plain Python.

A `Template` says which information elements (IANA's registry, RFC 7012) a record has, in which order; records go in
sets of one template.  Over UDP templates are sent again and again (section 8.4), since nobody knows what came.  The
sequence number counts data records, not messages.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

PORT = 4_739
VERSION, TEMPLATES, FIRST_TEMPLATE = 10, 2, 256
HEADER, SET = struct.Struct("!HHIII"), struct.Struct("!HH")


class Element(IntEnum):
    """Information elements, by IANA's number."""

    OCTETS = 1                  # octetDeltaCount: IP headers included
    PACKETS = 2                 # packetDeltaCount
    PROTOCOL = 4
    CLASS = 5                   # ipClassOfService
    TCP_FLAGS = 6
    SOURCE_PORT = 7
    SOURCE_IPV4 = 8
    DESTINATION_PORT = 11
    DESTINATION_IPV4 = 12
    SOURCE_IPV6 = 27
    DESTINATION_IPV6 = 28
    ICMP = 32                   # icmpTypeCodeIPv4
    VLAN = 58
    DIRECTION = 61              # 0 ingress, 1 egress
    ICMP6 = 139
    START = 152                 # milliseconds since the epoch
    END = 153


@dataclass(frozen=True)
class Template:
    """`fields` are elements and how many bytes each has."""

    number: int
    fields: tuple[tuple[Element, int], ...]

    @property
    def size(self) -> int:
        return sum(size for _, size in self.fields)

    def __bytes__(self) -> bytes:
        return SET.pack(self.number, len(self.fields)) + b"".join(SET.pack(*field) for field in self.fields)

    def record(self, *values: int) -> bytes:
        """A record, its values in the order of the fields."""
        return b"".join(value.to_bytes(size, "big") for value, (_, size) in zip(values, self.fields, strict=True))


def message(time: int, sequence: int, domain: int, *sets: tuple[int, bytes]) -> bytes:
    """A message of sets, each a number and what is in it; `time` in seconds since the epoch."""
    body = b"".join(SET.pack(number, SET.size + len(content)) + content for number, content in sets)
    return HEADER.pack(VERSION, HEADER.size + len(body), time, sequence & 0xffff_ffff, domain) + body


def messages(records: Sequence[tuple[Template, bytes]], time: int, sequence: int, domain: int,
             most: int) -> Iterator[bytes]:
    """Records in messages of `most` bytes, those of one template together."""
    for template in dict.fromkeys(template for template, _ in records):
        own = [record for found, record in records if found == template]
        room = (most - HEADER.size - SET.size) // template.size
        for start in range(0, len(own), room):
            part = own[start:start + room]
            yield message(time, sequence, domain, (template.number, b"".join(part)))
            sequence += len(part)


__all__ = ["FIRST_TEMPLATE", "PORT", "TEMPLATES", "Element", "Template", "message", "messages"]
