"""Datagrams put together again, as bytes: what is rare enough to be Python's.

`Assembly` keeps what came of datagrams for the router itself, bounded in number, size and time; parts that overlap end
the datagram (RFC 5722, and RFC 1858 for what it was abused for).
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from iovisor.language import SECOND

PATIENCE = 60 * SECOND          # RFC 1122 section 3.3.2, RFC 8200 section 4.5
MOST = 64                       # datagrams at a time
MOST_PIECES = 128               # of one: 65,535 bytes in parts of 576

Key = tuple[Any, ...]           # port, source, and more


@dataclass
class Whole:
    """What came of a datagram."""

    since: int
    head: bytes = b""               # before the payload, of the first part
    pieces: dict[int, bytes] = field(default_factory=dict)
    total: int | None = None        # bytes of payload, once the last part is here

    def add(self, offset: int, more: bool, piece: bytes) -> bool:
        """Take a part; False if it contradicts the others."""
        end = offset + len(piece)
        if self.pieces.get(offset) == piece:
            return True             # once more the same
        if any(offset < at + len(other) and at < end for at, other in self.pieces.items()):
            return False
        if (more and len(piece) % 8) or end > 0xffff or (self.total is not None and end > self.total):
            return False
        if not more:
            if self.total is not None or any(at + len(other) > end for at, other in self.pieces.items()):
                return False
            self.total = end
        self.pieces[offset] = piece
        return True

    @property
    def complete(self) -> bytes | None:
        if self.total is None or sum(map(len, self.pieces.values())) < self.total:
            return None
        return b"".join(piece for _, piece in sorted(self.pieces.items()))


class Assembly:
    """Datagrams of which parts came, by port, source, and what else tells one from another.

    Where there are too many, the source that has most of them loses its oldest: who sends parts without end pushes
    out itself.  `gone` are those that ended without being whole, to be counted, and told of by `expired`.
    """

    def __init__(self) -> None:
        self.wholes: dict[Key, Whole] = {}
        self.gone = 0                   # parts

    def add(self, key: Key, moment: int, offset: int, more: bool, head: bytes,
            piece: bytes) -> tuple[bytes, bytes] | None:
        """Take a part; answers the head and payload of the datagram if that is whole now."""
        whole = self.wholes.get(key)
        if whole is None:
            if len(self.wholes) >= MOST:
                shares = Counter(key[:2] for key in self.wholes)
                worst = max(shares, key=lambda source: shares[source])
                self.give_up(next(key for key in self.wholes if key[:2] == worst))
            whole = self.wholes[key] = Whole(moment)
        if offset == 0:
            whole.head = head
        if len(whole.pieces) == MOST_PIECES or not whole.add(offset, more, piece):
            self.gone += 1
            self.give_up(key)
            return None
        body = whole.complete
        if body is None:
            return None
        del self.wholes[key]
        return whole.head, body

    def give_up(self, key: Key) -> None:
        self.gone += len(self.wholes.pop(key).pieces)

    def expired(self, moment: int) -> list[tuple[Key, bytes]]:
        """Give up what waited too long; answers the first part of each, where it came, with its head."""
        late = [(key, whole) for key, whole in self.wholes.items() if moment - whole.since > PATIENCE]
        for key, _ in late:
            self.give_up(key)
        return [(key, whole.head + whole.pieces[0]) for key, whole in late if 0 in whole.pieces]
