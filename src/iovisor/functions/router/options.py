"""Options of IPv4, and of the hop-by-hop header of IPv6: looked at one by one, and changed where a router must.

IPv4 (RFC 1812 section 5.3.13): a router records its address and the time where it is asked to, carries what it does not
know, and refuses source routes (RFC 7126 section 4.3) and what does not fit its own length.  IPv6 (RFC 8200 section
4.2): what is not known says by its first two bits what is to be done.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

END, NOTHING, RECORD_ROUTE, TIMESTAMP, LOOSE_SOURCE, STRICT_SOURCE = 0, 1, 7, 68, 131, 137
PAD1, PADN, ROUTER_ALERT, JUMBO = 0, 1, 5, 0xc2
HOP_BY_HOP, ROUTING, DESTINATION = 0, 43, 60


@dataclass(frozen=True)
class Refusal:
    """What is wrong: `pointer` is the byte, counted from the network header."""

    pointer: int
    code: int = 0
    silent: bool = False
    source_routed: bool = False


def process4(options: bytes, address: int, milliseconds: int) -> bytes | Refusal:
    """The options as they leave a router that has this address on the link they leave through."""
    made, at, met = bytearray(options), 0, set()
    while at < len(made) and made[at] != END:
        kind = made[at]
        if kind == NOTHING:
            at += 1
            continue
        if at + 1 >= len(made):
            return Refusal(20 + at)
        length = made[at + 1]
        if length < 2 or at + length > len(made):
            return Refusal(21 + at)
        if kind in (LOOSE_SOURCE, STRICT_SOURCE):
            return Refusal(20 + at, source_routed=True)
        if kind in (RECORD_ROUTE, TIMESTAMP):
            if kind in met or length < (3 if kind == RECORD_ROUTE else 4):
                return Refusal(20 + at)
            met.add(kind)
            wrong = record(made, at, length, address) if kind == RECORD_ROUTE else stamp(
                made, at, length, address, milliseconds)
            if wrong is not None:
                return wrong
        at += length
    return bytes(made)


def record(made: bytearray, at: int, length: int, address: int) -> Refusal | None:
    """Record Route (RFC 791 section 3.1): the address in the next free slot."""
    pointer = made[at + 2]
    if pointer < 4:
        return Refusal(22 + at)
    if pointer > length:
        return None                     # full
    if pointer + 3 > length:
        return Refusal(22 + at)
    made[at + pointer - 1:at + pointer + 3] = address.to_bytes(4, "big")
    made[at + 2] = pointer + 4
    return None


def stamp(made: bytearray, at: int, length: int, address: int, milliseconds: int) -> Refusal | None:
    """Internet Timestamp (RFC 791 section 3.1), with or without the address; a full one counts."""
    pointer, overflow, flag = made[at + 2], made[at + 3] >> 4, made[at + 3] & 15
    if pointer < 5 or flag not in (0, 1, 3):
        return Refusal(22 + at if pointer < 5 else 23 + at)
    need = 4 if flag == 0 else 8
    if pointer > length:
        if overflow == 15:
            return Refusal(23 + at)
        made[at + 3] = overflow + 1 << 4 | flag
        return None
    if pointer - 1 + need > length:
        return Refusal(22 + at)
    place = at + pointer - 1
    if flag == 3 and made[place:place + 4] != address.to_bytes(4, "big"):
        return None
    if flag != 0:
        made[place:place + 4] = address.to_bytes(4, "big")
        place += 4
    made[place:place + 4] = milliseconds.to_bytes(4, "big")
    made[at + 2] = pointer + need
    return None


def walk6(datagram: bytes, local: bool) -> bytes | Refusal | None:
    """An IPv6 datagram whose options were seen to: as it is, or, if it is `local`, without them; None if malformed.

    A router looks at hop-by-hop options alone.  Where a packet ends, its extension headers are taken off one by one;
    a routing header that leads on is refused (RFC 5095; the same section of RFC 8200 for types nobody knows).  One that
    says no length at all, as a jumbogram does, is either refused or malformed: no frame holds a jumbogram.
    """
    if datagram[4:6] == bytes(2):
        found = options_at(datagram, 40, datagram[24] == 0xff) if datagram[6] == HOP_BY_HOP else None
        return None if found is True else found
    if not local:
        found = options_at(datagram, 40, datagram[24] == 0xff)
        return datagram if found is True else found
    kind, at, field = datagram[6], 40, 6        # of the header that is next, where it is, and where that was said
    while kind in (HOP_BY_HOP, DESTINATION, ROUTING):
        if kind == ROUTING:
            if at + 4 > len(datagram):
                return None
            if datagram[at + 3]:
                return Refusal(at + 2)
        elif kind == HOP_BY_HOP and at != 40:
            return Refusal(field, 1)
        found = options_at(datagram, at, datagram[24] == 0xff) if kind != ROUTING else True
        if found is not True:
            return found
        kind, field, at = datagram[at], at, at + (datagram[at + 1] + 1) * 8
        if at > len(datagram):
            return None
    return datagram[:4] + (len(datagram) - at).to_bytes(2, "big") + bytes([kind]) + datagram[7:40] + datagram[at:]


def options_at(datagram: bytes, at: int, to_group: bool) -> Refusal | Literal[True] | None:
    """Whether a router may go on with the options of a header; None if they are malformed."""
    end = at + (datagram[at + 1] + 1) * 8 if at + 2 <= len(datagram) else 0
    if not at < end <= len(datagram):
        return None
    return process6(datagram[at + 2:end], to_group, at + 2, int.from_bytes(datagram[4:6], "big")) or True


def process6(options: bytes, to_group: bool, begin: int, length: int) -> Refusal | None:
    """The options of a header, which lie `begin` bytes into a datagram of such a `length`: what is not known says what
    is to be done; a jumbogram is longer than that can say (RFC 2675 section 3)."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == PAD1:
            at += 1
            continue
        if at + 1 >= len(options) or at + 2 + options[at + 1] > len(options):
            return Refusal(begin + at)
        if kind == JUMBO and length:
            return Refusal(begin + at)
        if kind == JUMBO and options[at + 1] == 4 and options[at + 2:at + 4] == bytes(2):
            return Refusal(begin + at + 2)
        if kind not in (PADN, ROUTER_ALERT, JUMBO) and kind >> 6:
            return Refusal(begin + at, 2, silent=kind >> 6 == 1 or (kind >> 6 == 3 and to_group))
        at += 2 + options[at + 1]
    return None
