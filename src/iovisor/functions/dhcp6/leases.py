"""Who has which address or prefix: what the book of `dhcp` needs to be that of `dhcp6`.

A client of DHCPv6 asks for several things at once, each under a number of its own (an identity association), and every
one of them is a lease.  So what a `dhcp` client is there, an association is here: its kind, its number and its client's
identifier, in 128 bits.  Prefixes and addresses stand in the same tables; the configuration keeps them apart.

A lease says how its client named itself, so that whoever runs the network sees who has what: 32 bytes of the
identifier, which is all of it for every kind but those that an enterprise makes up.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterator

from iovisor.language import ipv6, u8, u32, u128

from ..dhcp.leases import OFFER_STANDS, Book, Client, Lease, State, is_repeated

SHOWN = 32


class Lease6(Lease):
    address: ipv6
    length: u8 = 128
    duid_length: u8 = 0
    association: u32 = 0
    duid_upper: u128 = 0
    duid_lower: u128 = 0

    def duid(self) -> str:
        """The client's identifier in hexadecimal, as far as it is kept."""
        kept = self.duid_upper.to_bytes(16, "big") + self.duid_lower.to_bytes(16, "big")
        return kept[:self.duid_length].hex() + ("..." if self.duid_length > SHOWN else "")


def association_of(duid: bytes, kind: int, number: int) -> Client:
    """The key of what a client asks for under a number."""
    text = kind.to_bytes(2, "big") + number.to_bytes(4, "big") + duid
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return Client(upper=int.from_bytes(digest[:8], "big"), lower=int.from_bytes(digest[8:], "big"))


def named(duid: bytes, number: int, length: int) -> dict[str, int]:
    """What a lease says besides who has it until when."""
    kept = duid[:SHOWN].ljust(SHOWN, b"\0")
    return {"length": length, "association": number, "duid_length": len(duid),
            "duid_upper": int.from_bytes(kept[:16], "big"), "duid_lower": int.from_bytes(kept[16:], "big")}


class Pool:
    """Addresses, or prefixes of one `length`, that are for anybody, in order; those in `fixed` are somebody's."""

    def __init__(self, spans: list[range], fixed: frozenset[int], length: int = 128) -> None:
        self.spans, self.fixed, self.length = spans, fixed, length
        self.sizes = [(span.stop - span.start + span.step - 1) // span.step for span in spans]

    def __contains__(self, address: int) -> bool:
        return address not in self.fixed and any(address in span for span in self.spans)

    def __iter__(self) -> Iterator[int]:
        return (address for span in self.spans for address in span if address not in self.fixed)

    def at(self, number: int) -> int:
        """The one of a number, which counts round and round; 0 if that is somebody's, or there is none."""
        number %= sum(self.sizes) or 1
        for span, size in zip(self.spans, self.sizes, strict=True):
            if number < size:
                found = span.start + number * span.step
                return 0 if found in self.fixed else found
            number -= size
        return 0


__all__ = ["OFFER_STANDS", "Book", "Client", "Lease6", "Pool", "State", "association_of", "is_repeated", "named"]
