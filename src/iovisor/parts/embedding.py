"""IPv4 addresses inside of IPv6 addresses, for those who translate between the two (RFC 6052).

A prefix of 32, 40, 48, 56, 64 or 96 bits, then the 32 bits of the IPv4 address, but for bits 64 to 71, which are zero;
what is behind them means nothing and is written as zero.  The well-known prefix 64:ff9b::/96 may stand for global
addresses only (section 3.1).

Where the 32 bits lie is a mask and two shifts, worked out once, so that the data path has no case for each length.
"""
from __future__ import annotations

from iovisor.language import ConfigError, Prefix, Record, inline, ipv4, prefix, u8, u32, u64

MASK32, MASK64 = 0xffff_ffff, (1 << 64) - 1
LENGTHS = (32, 40, 48, 56, 64, 96)
WELL_KNOWN = prefix("64:ff9b::/96")


class Embedding(Record):
    """A prefix, and where in an address behind it the IPv4 address is: all but its lowest bits, `low`, in the upper
    half, moved down by `up`; those in the lower half, moved up by `down`."""

    upper: u64 = 0
    lower: u64 = 0
    upper_mask: u64 = 0
    lower_mask: u64 = 0
    low: u32 = 0
    up: u8 = 0
    down: u8 = 0
    well_known: u8 = 0


@inline
def is_embedded(form: Embedding, upper: u64, lower: u64) -> bool:
    """Whether an address is of the prefix."""
    return upper & form.upper_mask == form.upper and lower & form.lower_mask == form.lower


@inline
def extract(form: Embedding, upper: u64, lower: u64) -> int:
    """The IPv4 address in an address of the prefix."""
    return (upper & ~form.upper_mask & MASK64) << (form.up & 0x3f) & MASK32 | lower >> (form.down & 0x3f) & form.low


@inline
def embed(form: Embedding, address: ipv4) -> tuple[int, int]:
    """The address that stands for an IPv4 address, as two halves."""
    return form.upper | address >> (form.up & 0x3f), form.lower | (address & form.low) << (form.down & 0x3f) & MASK64


@inline
def is_global(address: ipv4) -> bool:
    """Whether an IPv4 address means the same everywhere (RFC 5735 section 3; but for addresses of documentation, which
    nobody has)."""
    return not (address >> 24 in (0, 10, 127) or address >> 20 == 0xac1 or address >> 16 in (0xc0a8, 0xa9fe)
                or address >> 22 == 0x6440_0000 >> 22 or address >> 8 == 0xc0_0000 or address >> 17 == 0xc612_0000 >> 17
                or address >> 28 >= 0xe)


def embedding(where: str, bound: Prefix) -> Embedding:
    """How a prefix embeds; `where` names the field for who has configured another."""
    if bound.bits != 128 or bound.length not in LENGTHS:
        raise ConfigError(where, f"{bound} is not an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits")
    upper, lower = bound.address >> 64, bound.address & MASK64
    if lower >> 56:
        raise ConfigError(where, f"{bound} has bits 64 to 71 set, which must be zero (RFC 6052 section 2.2)")
    well_known = bound == WELL_KNOWN
    if bound.length == 96:
        return Embedding(upper=upper, lower=lower, upper_mask=MASK64, lower_mask=MASK64 ^ MASK32, low=MASK32, up=32,
                         well_known=well_known)
    below = bound.length - 32           # bits of the address in the lower half
    return Embedding(upper=upper, lower=0, upper_mask=MASK64 >> 64 - bound.length << 64 - bound.length,
                     low=(1 << below) - 1, up=below, down=56 - below)


__all__ = ["LENGTHS", "WELL_KNOWN", "Embedding", "embed", "embedding", "extract", "is_embedded", "is_global"]
