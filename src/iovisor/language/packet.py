"""A packet: the bytes of a frame, a cursor that parses them, and what travels beside them.

Every method here is the *reference*: this Python is what the compiled forms must agree with, bit by bit.

Four rules make one meaning possible on four machines:

- **The outer VLAN tag stands beside the bytes** (`tagged`, `tci`, `tpid`), as the kernel keeps it at TC; offsets never
  count it.  So a function that ignores VLANs works on tagged frames as on bare ones, and `bytes(pkt)` is the wire's
  form again.  Inner tags are bytes: parse them with `wire.vlan.Vlan`.  A frame shorter than 18 bytes has no tag.
- **Reading beyond the end rejects** the packet (`Dropped.TRUNCATED`); `peek` answers None instead.  Moving the cursor
  past the end is no error, only reading there is.
- **Resizing makes every older view stale** and puts the cursor back to the front: `push`, `insert`, `pop`, `remove`,
  `resize`, `tag`, `untag`, `exchange`.  An aggregate means what its segments would: what is put before it is put before
  each of them, so `segment` stays, and only `resize` ends it.
- **A field under a checksum is rewritten, not assigned**: `rewrite` adjusts what covers it by RFC 1624.  Recomputing
  was rejected: on TC the checksum of most packets is not finished yet.
"""
from __future__ import annotations

from typing import Any, TypeVar, overload

from .errors import GuardedField, Reject
from .layout import Header, Layout, Metadata, Record, shapes
from .verdicts import Dropped

A = TypeVar("A", bound=Header)
B = TypeVar("B", bound=Header)
C = TypeVar("C", bound=Header)
D = TypeVar("D", bound=Header)
M = TypeVar("M", bound=Metadata)

TPIDS = (0x8100, 0x88a8)        # IEEE 802.1Q: customer and service tags
GROWN = 2048                    # what `resize` makes a frame at most; XDP gives a frame one page, less its ends
SUMMED = 2048                   # bytes that `sum` takes at most
EXCHANGED = 512                 # bytes of headers that `exchange` takes away at most
INTERNET = {20: 0x0800, 40: 0x86dd}     # what a frame says that it carries, by the size of that one's fixed header
FARTHEST = 0x7fff               # no view begins beyond this byte; the kernel's verifier follows no farther


class Packet:
    """A frame that came in through `port`, a number of the function that sees it."""

    __slots__ = ("copied", "copies", "cursor", "data", "epoch", "metadata", "port", "queued", "segment", "tci", "told",
                 "tpid")

    def __init__(self, data: bytes, port: int = 0) -> None:
        self.data, self.port = bytearray(data), port
        self.cursor = self.epoch = 0
        self.tci = self.tpid = 0
        self.segment = 0        # bytes of transport payload in each segment of an aggregate; zero of a single frame
        self.queued = 0         # the queue of its device in which it will wait; zero for the usual one
        self.metadata: dict[type[Metadata], Metadata] = {}
        self.copied = False                 # whether it is what `copy` made
        self.copies: list[tuple[int, bytes]] = []       # what `copy` made of it, by port
        self.told: list[Record] = []        # what `notify` was given, for who runs the packet
        self._lift()

    # -- reading ------------------------------------------------------------------------------------------------

    @overload
    def parse(self, a: type[A], /) -> A: ...
    @overload
    def parse(self, a: type[A], b: type[B], /) -> tuple[A, B]: ...
    @overload
    def parse(self, a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
    @overload
    def parse(self, a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...

    def parse(self, *headers: type[Header]) -> Any:
        """Views of the next headers, the cursor moved behind them; rejects a packet that is too short."""
        views = tuple(map(self._parse, headers))
        return views[0] if len(views) == 1 else views

    def peek(self, header: type[A], offset: int = 0) -> A | None:
        """A view `offset` bytes behind the cursor, which stays; None if the packet ends before."""
        start = self.cursor + offset
        if not 0 <= start <= FARTHEST or start + header.size > len(self.data):
            return None
        return header.at(self.data, start, self)

    def skip(self, count: int) -> None:
        """Move the cursor on by `count` bytes; a negative count rejects."""
        if count < 0:
            raise Reject(Dropped.TRUNCATED)
        self.cursor += count

    def u8(self, offset: int) -> int:
        """The byte `offset` bytes behind the cursor; rejects beyond the end."""
        return self._load(offset, 1)

    def u16(self, offset: int) -> int:
        """The 16 bits in network order `offset` bytes behind the cursor; rejects beyond the end."""
        return self._load(offset, 2)

    def u32(self, offset: int) -> int:
        """The 32 bits in network order `offset` bytes behind the cursor; rejects beyond the end."""
        return self._load(offset, 4)

    def sum(self, length: int, offset: int = 0) -> int:
        """The ones' complement sum, as 16 bits, of `length` bytes, `SUMMED` at most, `offset` behind the cursor.

        An odd last byte counts as if zero followed (RFC 1071 section 1).  Zero only if every byte is.  Rejects if a
        byte lies beyond the end.
        """
        if not 0 <= length <= SUMMED:
            raise ValueError(f"a sum is over 0 to {SUMMED} bytes, not {length}")
        start = self.cursor + offset
        if length and (not 0 <= start <= FARTHEST or start + length > len(self.data)):
            raise Reject(Dropped.TRUNCATED)
        data = bytes(self.data[start:start + length]) + bytes(length & 1)
        total = sum(int.from_bytes(data[at:at + 2], "big") for at in range(0, length, 2))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        return total

    def __len__(self) -> int:
        """Bytes from the Ethernet header to the end, the outer VLAN tag not counted."""
        return len(self.data)

    def meta(self, kind: type[M]) -> M:
        """The packet's metadata of this kind: zero until a function of the network wrote it."""
        return self.metadata.setdefault(kind, kind())  # type: ignore[return-value]

    def notify(self, event: Record) -> bool:
        """Tell the function's own `@handles(type(event))` method of `event`, with a copy of the frame as it is now.

        Nothing is decided: the packet goes on, and what the method answers for it goes nowhere.  False if the slow
        path's queue was full, and nobody will hear of it.
        """
        self.told.append(type(event).decode(bytes(event)))
        return True

    def copy(self, port: int) -> bool:
        """Let a copy, as it is now, leave by `port` as if it were forwarded there; the packet itself goes on.

        The copy is `copied`, wherever it comes in the network, and has the metadata the packet came with.  False if it
        could not be made.
        """
        self.copies.append((port, bytes(self)))
        return True

    def queue(self, number: int) -> None:
        """Let it wait in that queue of the device by which it leaves: one of those in `Function.queues`."""
        self.queued = number & 0xffff

    # -- the outer VLAN tag -------------------------------------------------------------------------------------

    @property
    def tagged(self) -> bool:
        """Whether the frame has an outer VLAN tag."""
        return self.tpid != 0

    def retag(self, tci: int) -> None:
        """Give the outer tag these 16 bits (PCP 3, DEI 1, VID 12); an untagged frame gets an 802.1Q tag.

        Views stay valid.  A frame shorter than an Ethernet header rejects.
        """
        self._room()
        self.tci, self.tpid = tci & 0xffff, self.tpid or 0x8100

    def tag(self, tci: int, tpid: int = 0x8100) -> None:
        """Add an outer tag; one that is there becomes bytes.  Resizes."""
        self._room()
        if self.tpid:
            self.data[12:12] = self.tpid.to_bytes(2, "big") + self.tci.to_bytes(2, "big")
        self.tci, self.tpid = tci & 0xffff, tpid
        self._resized()

    def untag(self) -> None:
        """Remove the outer tag, if there is one; the next inner tag becomes the outer.  Resizes."""
        if self.tpid:
            self.tci = self.tpid = 0
            self._lift()
        self._resized()

    # -- resizing -----------------------------------------------------------------------------------------------

    @overload
    def push(self, a: type[A], /) -> A: ...
    @overload
    def push(self, a: type[A], b: type[B], /) -> tuple[A, B]: ...
    @overload
    def push(self, a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
    @overload
    def push(self, a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...

    def push(self, *headers: type[Header]) -> Any:
        """Put headers before the frame, all zero, free to assign, the cursor behind them.  Resizes."""
        self.data[:0] = bytes(sum(header.size for header in headers))
        self._resized()
        return self._fresh(headers)

    @overload
    def insert(self, a: type[A], /) -> A: ...
    @overload
    def insert(self, a: type[A], b: type[B], /) -> tuple[A, B]: ...
    @overload
    def insert(self, a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
    @overload
    def insert(self, a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...

    def insert(self, *headers: type[Header]) -> Any:
        """Put headers behind the Ethernet header, all zero, free to assign, the cursor behind them.  Resizes.

        A frame without room for an Ethernet header rejects.  IP alone, or IP with UDP or GRE behind it and whatever
        follows, is the outside of a tunnel: an aggregate within is cut later, each segment with these headers and a
        length of its own.  An aggregate that is in a tunnel already rejects (`Dropped.RESIZE`): devices know one.
        """
        self._room()
        self.data[14:14] = bytes(sum(header.size for header in headers))
        self._resized()
        self.cursor = 14
        return self._fresh(headers)

    @overload
    def blank(self, a: type[A], /) -> A: ...
    @overload
    def blank(self, a: type[A], b: type[B], /) -> tuple[A, B]: ...
    @overload
    def blank(self, a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
    @overload
    def blank(self, a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...

    def blank(self, *headers: type[Header]) -> Any:
        """Make the next bytes these headers, all zero, free to assign, and move the cursor behind them.

        As `parse`, it rejects a packet that is too short, header by header.  Older views stay valid, and see zeros.
        """
        views = []
        for header in headers:
            view = self._parse(header)
            self.data[view._base:view._base + header.size] = bytes(header.size)
            view._fresh = True
            views.append(view)
        return views[0] if len(views) == 1 else tuple(views)

    def resize(self, length: int) -> None:
        """Cut the tail, or add zeros, so that the frame has `length` bytes, the outer tag not counted.  Resizes.

        Fewer than 14 bytes (an Ethernet header, as Linux demands) reject as truncated; a frame that would grow beyond
        `GROWN` bytes rejects as well.  An aggregate of several segments becomes one frame.
        """
        if length < 14:
            raise Reject(Dropped.TRUNCATED)
        if length > max(len(self.data), GROWN):
            raise Reject(Dropped.RESIZE)
        self.data[:] = self.data[:length].ljust(length, b"\0")
        self.segment = 0
        self._resized()

    @overload
    def exchange(self, length: int, a: type[A], /) -> A: ...
    @overload
    def exchange(self, length: int, a: type[A], b: type[B], /) -> tuple[A, B]: ...
    @overload
    def exchange(self, length: int, a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
    @overload
    def exchange(self, length: int, a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...

    def exchange(self, length: int, *headers: type[Header]) -> Any:
        """Make an IPv4 packet of an IPv6 packet, or the reverse: put headers in the place of the `length` bytes behind
        the Ethernet header, all zero, free to assign, the cursor behind them.  Resizes.

        The first header is the fixed one of the family that the packet gets, 20 or 40 bytes, and the frame's type says
        so at once.  An aggregate stays one, of segments as large as before.  Nothing is done to the transport's
        checksum: `amend` does.  Rejects a frame that is not of the other family, or not as long, and a `length` below
        the other family's fixed header.  Before it, nothing may be put in front of the frame or taken away.
        """
        size = headers[0].size
        if len(self.data) < 14 + length:
            raise Reject(Dropped.TRUNCATED)
        if length < 60 - size or self.data[12:14] != INTERNET[60 - size].to_bytes(2, "big"):
            raise Reject(Dropped.RESIZE)
        self.data[12:14 + length] = INTERNET[size].to_bytes(2, "big") + bytes(sum(header.size for header in headers))
        self._resized()
        self.cursor = 14
        return self._fresh(headers)

    def pop(self, *headers: type[Header]) -> None:
        """Remove as many bytes from the front as these headers take.  Resizes.

        What remains must hold an Ethernet header (14 bytes, as Linux demands), or the packet is rejected.
        """
        count = sum(header.size for header in headers)
        if count + 14 > len(self.data):
            raise Reject(Dropped.TRUNCATED)
        del self.data[:count]
        self._resized()

    def remove(self, *headers: type[Header]) -> None:
        """Remove as many bytes from behind the Ethernet header as these headers take: what `insert` put.  Resizes.

        A frame that ends before is rejected.
        """
        count = sum(header.size for header in headers)
        if count + 14 > len(self.data):
            raise Reject(Dropped.TRUNCATED)
        del self.data[14:14 + count]
        self._resized()

    # -- rewriting ----------------------------------------------------------------------------------------------

    def rewrite(self, header: Header, under: Header | None = None, **fields: int) -> None:
        """Assign fields and adjust every checksum over them (RFC 1624).

        `under` is the transport header whose checksum covers `header`'s addresses; name it whenever a field of the
        pseudo-header changes and the transport header is there (it is not in later fragments).
        """
        kind = type(header)
        touched = {name for name in fields if name in kind.fields}
        if len(touched) < len(fields):
            raise TypeError(f"{kind.__name__} has no field {next(iter(fields.keys() - touched))!r}")
        if kind.coverage is not None and kind.coverage.field in fields:
            raise GuardedField(f"{kind.__name__}.{kind.coverage.field} follows from the other fields")
        for name in fields:
            if shapes(kind, name, under is not None):
                raise GuardedField(f"{kind.__name__}.{name} decides what the transport checksum sums: make that anew")
        before = bytes(header)
        fresh, header._fresh = header._fresh, True
        for name, value in fields.items():
            setattr(header, name, value)
        header._fresh = fresh
        after = bytes(header)
        if kind.coverage is not None:
            _adjust(header, kind.coverage.field, kind.coverage.optional, _spans(kind, fields), before, after)
        if under is not None and (covering := type(under).coverage) is not None and covering.pseudo:
            pseudo = [name for name in fields if name in kind.pseudo]
            if pseudo:
                _adjust(under, covering.field, covering.optional, _spans(kind, pseudo), before, after)

    def amend(self, header: Header, change: int) -> None:
        """Adjust the checksum of a transport header whose pseudo-header became another: `change` is what that adds to
        the sum, 48 bits at most (RFC 1624; to take away, add the complement).  UDP without a checksum stays without.
        """
        coverage = type(header).coverage
        if coverage is None or not coverage.pseudo:
            raise TypeError(f"no checksum of {type(header).__name__} covers a pseudo-header")
        if not 0 <= change < 1 << 48:
            raise ValueError(f"a change of a sum has 48 bits, this is {change}")
        _settle(header, coverage.field, coverage.optional, change)

    # -- as bytes -----------------------------------------------------------------------------------------------

    def __bytes__(self) -> bytes:
        """The frame as the wire carries it, the outer tag in its place."""
        if not self.tpid:
            return bytes(self.data)
        tag = self.tpid.to_bytes(2, "big") + self.tci.to_bytes(2, "big")
        return bytes(self.data[:12]) + tag + bytes(self.data[12:])

    def __repr__(self) -> str:
        return f"Packet({bytes(self).hex()!r}, port={self.port})"

    # -- what the above shares ----------------------------------------------------------------------------------

    def written(self, view: Layout) -> None:
        """A packet's bytes are shared with its views: nothing to do."""

    def _parse(self, header: type[Header]) -> Header:
        start = self.cursor
        if start > FARTHEST or start + header.size > len(self.data):
            raise Reject(Dropped.TRUNCATED)
        self.cursor = start + header.size
        return header.at(self.data, start, self)

    def _fresh(self, headers: tuple[type[Header], ...]) -> Any:
        views = []
        for header in headers:
            views.append(header.at(self.data, self.cursor, self, fresh=True))
            self.cursor += header.size
        return views[0] if len(views) == 1 else tuple(views)

    def _load(self, offset: int, size: int) -> int:
        start = self.cursor + offset
        if not 0 <= start <= FARTHEST or start + size > len(self.data):
            raise Reject(Dropped.TRUNCATED)
        return int.from_bytes(self.data[start:start + size], "big")

    def _lift(self) -> None:
        if len(self.data) >= 18 and (tpid := int.from_bytes(self.data[12:14], "big")) in TPIDS:
            self.tpid, self.tci = tpid, int.from_bytes(self.data[14:16], "big")
            del self.data[12:16]

    def _room(self) -> None:
        if len(self.data) < 14:
            raise Reject(Dropped.TRUNCATED)

    def _resized(self) -> None:
        self.epoch += 1
        self.cursor = 0


def _spans(kind: type[Header], names: Any) -> list[int]:
    """The even offsets of the 16-bit words these fields touch."""
    spans = [kind.fields[name].span for name in names]
    return sorted({offset for first, last in spans for offset in range(first & ~1, last, 2)})


def _adjust(header: Header, name: str, optional: bool, offsets: list[int], before: bytes, after: bytes) -> None:
    """HC' = ~(~HC + ~m + m'), RFC 1624 equation 3, with the kernel's choice between the two zeros."""
    _settle(header, name, optional, sum(
        (~int.from_bytes(before[offset:offset + 2], "big") & 0xffff) + int.from_bytes(after[offset:offset + 2], "big")
        for offset in offsets))


def _settle(header: Header, name: str, optional: bool, change: int) -> None:
    """Add a change of the sum to what a checksum covers."""
    old = getattr(header, name)
    if optional and old == 0:
        return
    total = (~old & 0xffffffff) + change
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    new = ~total & 0xffff
    first, last = type(header).fields[name].span
    base = header._base
    header._buffer[base + first:base + last] = (0xffff if optional and new == 0 else new).to_bytes(2, "big")
