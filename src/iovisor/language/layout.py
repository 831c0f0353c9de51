"""Headers, records and metadata: one class statement is a constructor, a view over bytes, and a byte layout.

A `Header` is what the wire carries: network order, bit-packed, most significant bit first, as an RFC draws it.  A
`Record` is what a table holds: host order, C alignment, padding always zero.  `Metadata` is a record that travels
with a packet from function to function.

The invariant, smoltcp's in our words: *a view is a position and a proven length*; reading or writing a field never
copies and never fails, until the bytes below it may have moved (the packet was resized, the table was written).
From then on the view is stale and every use of it is an error, here at run time and in the compiler before.
Copying headers into structs was rejected: it costs stack, and p4c shows how it breaks on bit fields.

Fields that lie under a checksum cannot be assigned on a header parsed from a packet (`GuardedField`): on TC most
packets carry partial checksums, and only `Packet.rewrite` is right on every target.  On a header just pushed, or on
one that stands alone, assignment is free: its checksum has not been made yet.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar, dataclass_transform, get_type_hints

from .addresses import TEXT
from .errors import DeclarationError, GuardedField, StaleView
from .integers import storage, uint

L = TypeVar("L", bound="Layout")


@dataclass(frozen=True)
class Field:
    """Where a field lies.  `offset` counts bits from the start of the layout; `bits` is its declared width.

    In a header the field occupies exactly its bits.  In a record it occupies `span` whole bytes, 1, 2, 4, 8 or 16.
    """

    name: str
    bits: int
    offset: int
    wire: bool
    text: str = ""

    @property
    def span(self) -> tuple[int, int]:
        """The bytes [first, last) this field touches."""
        if self.wire:
            return self.offset // 8, -(-(self.offset + self.bits) // 8)
        return self.offset // 8, self.offset // 8 + storage(self.bits)

    @property
    def shift(self) -> int:
        """How far the value lies from the least significant bit of its big-endian span; zero in a record."""
        return self.span[1] * 8 - self.offset - self.bits if self.wire else 0

    @property
    def mask(self) -> int:
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Checksum:
    """What a header's checksum field covers.

    `scope` is "header" (RFC 791) or "transport" (the header and all that follows); `pseudo` says that the addresses
    of the network header count too (RFC 768, 793, 8200); `optional` that zero means "not computed" (UDP over IPv4).
    """

    field: str
    scope: Literal["header", "transport"]
    pseudo: bool = False
    optional: bool = False


class Owner(Protocol):
    """What a view belongs to: a packet, or a table.  When `epoch` moves, older views are stale."""

    epoch: int

    def written(self, view: Layout) -> None:
        """Called after a field of a view was assigned."""


def _reader(field: Field) -> Callable[[Layout], int]:
    (first, last), shift, mask = field.span, field.shift, field.mask
    order: Literal["big", "little"] = "big" if field.wire else "little"

    def read(self: Layout) -> int:
        owner = self._owner
        if owner is not None and owner.epoch != self._epoch:
            raise self._stale()
        base = self._base
        return int.from_bytes(self._buffer[base + first:base + last], order) >> shift & mask
    return read


def _writer(field: Field) -> Callable[[Layout, int], None]:
    name, (first, last), shift, mask = field.name, field.span, field.shift, field.mask
    order: Literal["big", "little"] = "big" if field.wire else "little"

    def write(self: Layout, value: int) -> None:
        owner = self._owner
        if owner is not None:
            if owner.epoch != self._epoch:
                raise self._stale()
            if not self._fresh and name in self.guarded:
                raise GuardedField(f"{type(self).__name__}.{name} lies under a checksum: use "
                                   f"`pkt.rewrite(…, {name}=…)`, which keeps it right on every target")
        self._put(first, last, shift, mask, order, value)
        if owner is not None:
            owner.written(self)
    return write


class Slotted(type):
    """Gives every layout empty slots, so that a misspelt field is an AttributeError and not a new attribute."""

    def __new__(kind, name: str, bases: tuple[type, ...], body: dict[str, Any], **keywords: Any) -> Any:
        body.setdefault("__slots__", ())
        return super().__new__(kind, name, bases, body, **keywords)


@dataclass_transform(kw_only_default=True)
class Layout(metaclass=Slotted):
    """The common part of `Header`, `Record` and `Metadata`."""

    fields: ClassVar[dict[str, Field]] = {}
    size: ClassVar[int] = 0
    wire: ClassVar[bool] = False
    defaults: ClassVar[dict[str, int]] = {}
    guarded: ClassVar[frozenset[str]] = frozenset()

    __slots__ = ("_base", "_buffer", "_epoch", "_fresh", "_key", "_owner")
    _buffer: bytearray
    _base: int
    _owner: Owner | None
    _epoch: int
    _fresh: bool
    _key: bytes             # of the table entry a view shows, where the view must be stored again

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        try:
            hints = get_type_hints(cls, include_extras=True)
        except NameError as missing:
            raise DeclarationError(f"{cls.__name__}: {missing}; fields need types known where the class stands"
                                   ) from None
        cls.fields, cls.defaults, bit, align = {}, dict(cls.defaults), 0, 1
        for name in hints:      # in the order of the class bodies, bases first
            if name.startswith("_") or getattr(hints[name], "__origin__", None) is ClassVar:
                continue
            kind = uint(hints[name])
            if kind is None:
                raise DeclarationError(f"{cls.__name__}.{name}: a field needs an integer type such as u16 or mac")
            if name in RESERVED:
                raise DeclarationError(f"{cls.__name__}.{name}: this name belongs to the layout itself")
            if not cls.wire:
                unit = min(storage(kind.bits), 8)
                align = max(align, unit)
                bit = -(-bit // (unit * 8)) * unit * 8
            field = cls.fields[name] = Field(name, kind.bits, bit, cls.wire, kind.text)
            if isinstance(cls.__dict__.get(name), int):
                cls.defaults[name] = int(cls.__dict__[name])
            setattr(cls, name, property(_reader(field), _writer(field)))
            bit += kind.bits if cls.wire else storage(kind.bits) * 8
        if cls.wire and bit % 8:
            raise DeclarationError(f"{cls.__name__}: {bit} bits is not a whole number of bytes")
        cls.size = -(-bit // 8 // align) * align

    def __init__(self, **values: int) -> None:
        self._buffer, self._base, self._owner, self._epoch, self._fresh = bytearray(self.size), 0, None, 0, True
        for name in self.fields:
            if name in values:
                setattr(self, name, values.pop(name))
            elif name not in self.defaults:
                raise TypeError(f"{type(self).__name__} needs {name!r}")
            elif self.defaults[name]:
                setattr(self, name, self.defaults[name])
        if values:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(values))!r}")

    @classmethod
    def at(cls: type[L], buffer: bytearray, base: int = 0, owner: Owner | None = None, fresh: bool = False) -> L:
        """A view of `buffer` from byte `base`; the caller has proven that `size` bytes are there."""
        self = cls.__new__(cls)
        self._buffer, self._base, self._owner, self._fresh = buffer, base, owner, fresh
        self._epoch = 0 if owner is None else owner.epoch
        return self

    @classmethod
    def decode(cls: type[L], data: bytes | bytearray) -> L:
        """A copy that stands alone."""
        if len(data) < cls.size:
            raise ValueError(f"{cls.__name__} has {cls.size} bytes, these are {len(data)}")
        return cls.at(bytearray(data[:cls.size]))

    def _put(self, first: int, last: int, shift: int, mask: int, order: Literal["big", "little"], value: int) -> None:
        first, last, buffer = first + self._base, last + self._base, self._buffer
        whole = 0 if not self.wire else int.from_bytes(buffer[first:last], order) & ~(mask << shift)
        buffer[first:last] = (whole | (value & mask) << shift).to_bytes(last - first, order)

    def _stale(self) -> StaleView:
        what = "the packet was resized after it was parsed" if self.wire else "its table was written after it was read"
        return StaleView(f"this {type(self).__name__} is stale: {what}")

    def __bytes__(self) -> bytes:
        if self._owner is not None and self._owner.epoch != self._epoch:
            raise self._stale()
        return bytes(self._buffer[self._base:self._base + self.size])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        """Of the bytes as they are now: a copy is a fine key of a dictionary, a view into living memory is not."""
        return hash((type(self), bytes(self)))

    def __repr__(self) -> str:
        shown = (f"{name}={show(field, getattr(self, name))}" for name, field in self.fields.items())
        return f"{type(self).__name__}({', '.join(shown)})"


def show(field: Field, value: int) -> str:
    """A field's value as people read it: addresses as addresses, wide numbers in hexadecimal."""
    if field.text in TEXT:
        return TEXT[field.text](value)
    return f"{value:#x}" if field.bits >= 16 and value > 999 else str(value)


RESERVED = frozenset(Layout.__dict__) | {"coverage", "pseudo", "shaping", "offload"}
OFFLOADS = ("ethernet", "ipv4", "ipv6", "udp", "gre")


class Header(Layout):
    """Bytes on the wire.

    `checksum=` declares what covers it, `pseudo=` which of its fields are in the pseudo-header of what it carries, and
    `shaping=` which fields decide what a transport checksum sums (a protocol, a length): those cannot be rewritten
    under one, because no difference of two values would tell.  `offload=` is what devices know it as when it is the
    outside of a tunnel and an aggregate within has to be cut (one of `OFFLOADS`).
    """

    wire = True
    coverage: ClassVar[Checksum | None] = None
    pseudo: ClassVar[tuple[str, ...]] = ()
    shaping: ClassVar[tuple[str, ...]] = ()
    offload: ClassVar[str] = ""

    def __init_subclass__(cls, checksum: Checksum | None = None, pseudo: tuple[str, ...] = (),
                          shaping: tuple[str, ...] = (), offload: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if offload and offload not in OFFLOADS:
            raise DeclarationError(f"{cls.__name__}: devices know no {offload!r}, only {', '.join(OFFLOADS)}")
        cls.offload = offload or cls.offload
        cls.coverage, cls.pseudo, cls.shaping = checksum or cls.coverage, pseudo or cls.pseudo, shaping or cls.shaping
        for name in (*cls.pseudo, *cls.shaping, *((cls.coverage.field,) if cls.coverage else ())):
            if name not in cls.fields:
                raise DeclarationError(f"{cls.__name__} has no field {name!r}")
        cls.guarded = frozenset(cls.fields) if cls.coverage else frozenset(cls.pseudo)


def shapes(header: type[Header], name: str, under: bool) -> bool:
    """Whether rewriting a field would change what a transport checksum sums: see `Header`."""
    transport = header.coverage is not None and header.coverage.scope == "transport"
    return name in header.shaping and (under or transport)


class Record(Layout):
    """What a table or an event holds: host order, C alignment, zero padding."""

    wire = False


class Metadata(Layout):
    """A record that travels with a packet between the functions of one network; zero when the packet enters."""

    wire = False
    LIMIT: ClassVar[int] = 16

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.size > cls.LIMIT:
            raise DeclarationError(f"{cls.__name__}: metadata has room for {cls.LIMIT} bytes, this takes {cls.size}")
        if any(name not in cls.defaults for name in cls.fields):
            cls.defaults = {name: 0 for name in cls.fields} | cls.defaults
