"""SipHash-2-4 (Aumasson and Bernstein, 2012): a word that nobody can guess who lacks the key.

`language.hash` spreads, and that is all it is for: who sees its results can find its seed.  What strangers must not
forge, cookies they are to send back, goes through this.  The key lies in a table, so that it is the same for every
program of a function, outlives them, and is in no image.
"""
from __future__ import annotations

from iovisor.language import inline, u64

MASK64 = (1 << 64) - 1


@inline
def turned(word: u64, count: int) -> int:
    """The word, its bits moved `count` places up and around."""
    return word << count & MASK64 | word >> 64 - count


@inline
def round_of(v0: u64, v1: u64, v2: u64, v3: u64) -> tuple[int, int, int, int]:
    """One SipRound."""
    v0 = v0 + v1 & MASK64
    v1 = turned(v1, 13) ^ v0
    v0 = turned(v0, 32)
    v2 = v2 + v3 & MASK64
    v3 = turned(v3, 16) ^ v2
    v0 = v0 + v3 & MASK64
    v3 = turned(v3, 21) ^ v0
    v2 = v2 + v1 & MASK64
    v1 = turned(v1, 17) ^ v2
    v2 = turned(v2, 32)
    return v0, v1, v2, v3


@inline
def siphash(key0: u64, key1: u64, a: u64, b: u64, c: u64) -> int:
    """64 bits of a message of three words, 24 bytes in host order."""
    v0, v1 = key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d
    v2, v3 = key0 ^ 0x6c7967656e657261, key1 ^ 0x7465646279746573
    for word in (a, b, c, 24 << 56):
        v3 = v3 ^ word
        v0, v1, v2, v3 = round_of(v0, v1, v2, v3)
        v0, v1, v2, v3 = round_of(v0, v1, v2, v3)
        v0 = v0 ^ word
    v2 = v2 ^ 0xff
    for _ in range(4):
        v0, v1, v2, v3 = round_of(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


__all__ = ["siphash"]
