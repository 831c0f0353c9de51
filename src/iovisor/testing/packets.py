"""Frames that read like what is on the wire, and print themselves.

    frame = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ipv4(src="10.0.0.1", dst="10.0.0.2") \\
        / udp(src=1000, dst=53) / b"query"
    bytes(frame)

What follows from the rest, types, protocol numbers, lengths and checksums, is filled in unless it is given: a wrong one
is written by writing it.  A `Layer` is a header class and the fields that were given, so a header of your own needs no
registration: `layer(Mine, id=7)`.

`describe(data)` is the way back: the code that builds these bytes, exactly, with only what is out of the ordinary in
it.  A test that fails prints its packet so, and the next test begins as a paste of it (katran's idea, with Scapy's
slash).  Scapy itself was rejected: its fields are not ours, so it could not say what our layouts mean.

One rule to know: what is not in a header is payload, and lengths count all of it.  `trailer(n)` is the padding that
Ethernet adds, which no length counts.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..language.addresses import PARSE
from ..language.layout import Header, show
from ..wire import (
    Arp,
    ArpOperation,
    Ethernet,
    Extension,
    Fragment,
    Icmp,
    Icmp6,
    IpProtocol,
    IPv4,
    IPv6,
    Tcp,
    Udp,
    Vlan,
)
from ..wire.dissection import NUMBER, PROTOCOLS, TYPES, dissect

EXPERIMENTAL = 0x88b5                       # IEEE 802, for local experiments: the type of a frame with bare payload

#: Fields that follow from the rest of the frame.
AUTOMATIC: dict[type[Header], tuple[str, ...]] = {
    Ethernet: ("type",), Vlan: ("type",), IPv4: ("checksum", "length", "proto", "ihl"), IPv6: ("length", "next"),
    Extension: ("length", "next"), Fragment: ("next",), Udp: ("checksum", "length"), Tcp: ("checksum", "offset"),
    Icmp: ("checksum",), Icmp6: ("checksum",)}
ZERO = {Ethernet: ("dst", "src"), Arp: ("sender_mac", "sender_ip", "target_ip"), Vlan: ("vid",), Icmp: ("type",),
        Icmp6: ("type",), IPv4: ("src", "dst"), IPv6: ("src", "dst"), Udp: ("src", "dst"), Tcp: ("src", "dst", "flags"),
        Fragment: ("offset", "more", "id")}
USUAL: dict[type[Header], dict[str, int]] = {Arp: {"operation": ArpOperation.REQUEST}, Icmp: {"type": 8},
                                             Icmp6: {"type": 128}, Tcp: {"flags": 0x10}}


@dataclass(frozen=True)
class Layer:
    """A header, the fields that were given, and what lies between it and the next: options."""

    kind: type[Header]
    given: dict[str, int]
    options: bytes = b""
    number: int | None = None       # by which an extension header is announced

    def __truediv__(self, other: Part) -> Frame:
        return Frame((self,)) / other

    def __bytes__(self) -> bytes:
        return bytes(Frame((self,)))

    def __repr__(self) -> str:
        if self.number is not None:
            name = _EXTENSION_NAMES.get(self.number, f"extension({self.number}")
            name += "(" if self.number in _EXTENSION_NAMES else ", "
        else:
            name = f"{_NAMES[self.kind]}(" if self.kind in _NAMES else f"layer({self.kind.__name__}, "
        shown = [f"{field}={self._shown(field)}" for field in self.kind.fields if field in self.given]
        if self.options != (bytes(6) if self.number is not None else b""):
            shown.append(f"options={_text(self.options)}")
        return name + ", ".join(shown) + ")" if shown else name.removesuffix(", ") + ")"

    def _shown(self, name: str) -> str:
        field = self.kind.fields[name]
        text = show(field, self.given[name])
        return repr(text) if field.text in PARSE else text


@dataclass(frozen=True)
class Trailer:
    """Bytes behind the packet that no length counts."""

    data: bytes

    def __repr__(self) -> str:
        return f"trailer({len(self.data) if not any(self.data) else _text(self.data)})"


Part: TypeAlias = "Layer | Trailer | Frame | bytes"


class Frame:
    """Layers, then bytes.  Made with `/`; `bytes(frame)` is the wire's form."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Layer | Trailer | bytes]) -> None:
        self.parts = tuple(parts)

    def __truediv__(self, other: Part) -> Frame:
        return Frame((*self.parts, *(other.parts if isinstance(other, Frame) else (other,))))

    def __bytes__(self) -> bytes:
        return build(self.parts)

    def __len__(self) -> int:
        return len(bytes(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame | bytes | bytearray) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        if not any(isinstance(part, Layer) for part in self.parts[:1]):
            return f"raw({_text(bytes(self))})"
        return " / ".join(part.__repr__() if not isinstance(part, bytes) else _text(part) for part in self.parts)

    @classmethod
    def parse(cls, data: bytes) -> Frame:
        """The frame these bytes are, told as briefly as possible; `bytes` of it are the same again."""
        parts = list(_dissect(data))
        if bytes(cls(parts)) != data:
            return raw(data)
        for index, part in enumerate(parts):
            if isinstance(part, Layer):
                parts[index] = _brief(parts, index, part, data)
        return cls(parts)


def describe(data: bytes) -> str:
    """Python that builds these bytes, with the names of this module."""
    return repr(Frame.parse(bytes(data)))


# -- the layers -----------------------------------------------------------------------------------------------------


def layer(kind: type[Header], **fields: int | str) -> Layer:
    """A header of any class.  Addresses may be text; fields without a value or default are zero."""
    return _layer(kind, fields)


def _layer(kind: type[Header], fields: Mapping[str, int | str], options: bytes = b"") -> Layer:
    given: dict[str, int] = {}
    for name, value in fields.items():
        if name not in kind.fields:
            raise TypeError(f"{kind.__name__} has no field {name!r}")
        given[name] = PARSE[kind.fields[name].text](value) if isinstance(value, str) else int(value)
    return Layer(kind, given, options)


def ethernet(**fields: int | str) -> Layer:
    """`dst`, `src`, `type`."""
    return _layer(Ethernet, fields)


def vlan(**fields: int | str) -> Layer:
    """A tag behind the addresses: `vid`, `pcp`, `dei`, `type`.  What came before says 0x8100 unless told otherwise."""
    return _layer(Vlan, fields)


def arp(**fields: int | str) -> Layer:
    """`operation`, `sender_mac`, `sender_ip`, `target_mac`, `target_ip`."""
    return _layer(Arp, fields)


def ipv4(*, options: bytes = b"", **fields: int | str) -> Layer:
    """`src`, `dst`, `ttl` ...; `options` are filled up to four bytes."""
    return _layer(IPv4, fields, options)


def ipv6(**fields: int | str) -> Layer:
    """`src`, `dst`, `hops` ..."""
    return _layer(IPv6, fields)


def extension(number: int, *, options: bytes = bytes(6), **fields: int) -> Layer:
    """An extension header of that protocol number: `options` are what follows its first two bytes."""
    return Layer(Extension, dict(fields), options, number)


def hop_by_hop(*, options: bytes = bytes(6), **fields: int) -> Layer:
    """Hop-by-hop options."""
    return extension(IpProtocol.HOP_BY_HOP, options=options, **fields)


def routing(*, options: bytes = bytes(6), **fields: int) -> Layer:
    """A routing header."""
    return extension(IpProtocol.ROUTING, options=options, **fields)


def destination(*, options: bytes = bytes(6), **fields: int) -> Layer:
    """Destination options."""
    return extension(IpProtocol.DESTINATION, options=options, **fields)


def fragment(**fields: int | str) -> Layer:
    """IPv6's: `offset` in units of 8, `more`, `id`."""
    return _layer(Fragment, fields)


def udp(**fields: int | str) -> Layer:
    """`src`, `dst`."""
    return _layer(Udp, fields)


def tcp(*, options: bytes = b"", **fields: int | str) -> Layer:
    """`src`, `dst`, `flags` (ACK if not given) ...; `options` are filled up to four bytes."""
    return _layer(Tcp, fields, options)


def icmp(**fields: int | str) -> Layer:
    """`type` (an echo request if not given), `code`, `rest`."""
    return _layer(Icmp, fields)


def icmp6(**fields: int | str) -> Layer:
    """`type` (an echo request if not given), `code`, `rest`."""
    return _layer(Icmp6, fields)


def trailer(padding: int | bytes) -> Trailer:
    """Padding: so many zero bytes, or these."""
    return Trailer(bytes(padding))


def raw(data: bytes) -> Frame:
    """Bytes that are no known packet."""
    return Frame((bytes(data),))


_NAMES = {Ethernet: "ethernet", Vlan: "vlan", Arp: "arp", IPv4: "ipv4", IPv6: "ipv6", Fragment: "fragment", Udp: "udp",
          Tcp: "tcp", Icmp: "icmp", Icmp6: "icmp6"}
_EXTENSION_NAMES = {0: "hop_by_hop", 43: "routing", 60: "destination"}


# -- building --------------------------------------------------------------------------------------------------------


def build(parts: tuple[Layer | Trailer | bytes, ...]) -> bytes:
    """From the last layer to the first: each one knows what is behind it."""
    behind, end = b"", b""
    following: Layer | None = None
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if isinstance(part, Trailer):
            end = part.data + end
        elif isinstance(part, bytes):
            behind, following = part + behind, None
        else:
            behind, following = _header(part, following, behind, _network(parts, index)) + behind, part
    return behind + end


def _header(part: Layer, following: Layer | None, behind: bytes, network: Layer | None) -> bytes:
    """A header with its options, filled, for what lies behind."""
    kind, given = part.kind, part.given
    options = part.options + bytes(-len(part.options) % 4) if kind in (IPv4, Tcp) else part.options
    values = dict.fromkeys((name for name in kind.fields if name not in kind.defaults), 0) | USUAL.get(kind, {})
    if kind in NUMBER:
        values[NUMBER[kind]] = _number(kind, following)
    size = kind.size + len(options)
    if kind is IPv4:
        values |= {"ihl": size // 4, "length": size + len(behind)}
    elif kind is Tcp:
        values["offset"] = size // 4
    elif kind is Extension:
        values["length"] = max(size // 8 - 1, 0)
    elif kind in (IPv6, Udp):
        values["length"] = len(behind) + (size if kind is Udp else 0)
    header = kind(**{name: value & kind.fields[name].mask for name, value in (values | given).items()})
    coverage = kind.coverage
    if coverage is not None and coverage.field not in given:
        covered = bytes(header) + options + (behind if coverage.scope == "transport" else b"")
        first = kind.fields[coverage.field].span[0]
        total = _checksum((_pseudo(kind, network, len(covered)) if coverage.pseudo else b"") + covered)
        covered = covered[:first] + ((total or 0xffff) if coverage.optional else total).to_bytes(2, "big") \
            + covered[first + 2:]
        return covered[:size]
    return bytes(header) + options


def _number(kind: type[Header], following: Layer | None) -> int:
    """How a header announces what follows it."""
    if kind in (Ethernet, Vlan):
        return EXPERIMENTAL if following is None else TYPES.get(following.kind, EXPERIMENTAL)
    if following is None:
        return int(IpProtocol.NONE)
    return following.number if following.number is not None else PROTOCOLS.get(following.kind, int(IpProtocol.NONE))


def _network(parts: tuple[Layer | Trailer | bytes, ...], index: int) -> Layer | None:
    """The layer whose addresses the checksum of this one covers."""
    before = [p for p in parts[:index] if isinstance(p, Layer) and p.kind in (IPv4, IPv6)]
    return before[-1] if before else None


def _pseudo(kind: type[Header], network: Layer | None, length: int) -> bytes:
    if network is None:
        return b""
    proto = PROTOCOLS.get(kind, 0)
    size = 4 if network.kind is IPv4 else 16
    addresses = b"".join(network.given.get(name, 0).to_bytes(size, "big") for name in ("src", "dst"))
    return addresses + length.to_bytes(4, "big") + proto.to_bytes(4, "big")


def _checksum(data: bytes) -> int:
    """RFC 1071, in one division: a sum with its carries added back is a remainder modulo 0xffff."""
    total = int.from_bytes(data + bytes(len(data) % 2), "big") if data else 0
    folded = total % 0xffff
    return ~(folded if folded or not total else 0xffff) & 0xffff


# -- reading ---------------------------------------------------------------------------------------------------------


def _dissect(data: bytes) -> Iterator[Layer | Trailer | bytes]:
    """The layers of a frame with every field given; what cannot be read is bytes."""
    found = dissect(data)
    for part in found.parts:
        values = {name: getattr(part.header, name) for name in part.kind.fields}
        yield Layer(part.kind, values, part.options, part.number)
    if found.payload:
        yield found.payload
    if found.trailer:
        yield Trailer(found.trailer)


def _brief(parts: list[Layer | Trailer | bytes], index: int, part: Layer, data: bytes) -> Layer:
    """The layer without what follows anyway."""
    def still(candidate: Layer) -> bool:
        return build((*parts[:index], candidate, *parts[index + 1:])) == data

    best = part
    for name in part.kind.fields:
        shorter = Layer(part.kind, {n: v for n, v in best.given.items() if n != name}, best.options, best.number)
        if name not in ZERO.get(part.kind, ()) and still(shorter):
            best = shorter
    return best


def _text(data: bytes) -> str:
    """Bytes as briefly as Python has them."""
    if len(data) > 8 and not any(data):
        return f"bytes({len(data)})"
    if len(data) > 8 and not all(32 <= byte < 127 for byte in data):
        return f"bytes.fromhex({data.hex()!r})"
    return repr(data)


__all__ = [
    "Frame", "Layer", "Trailer", "arp", "describe", "destination", "ethernet", "extension", "fragment", "hop_by_hop",
    "icmp", "icmp6", "ipv4", "ipv6", "layer", "raw", "routing", "tcp", "trailer", "udp", "vlan",
]
