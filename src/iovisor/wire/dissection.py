"""The headers of a frame, from the first to the last: what people want to see of it, and what changed between two.

Only the protocols of this package are known; what follows them is payload.  Nothing here is part of a data path.

Lengths are believed as far as the bytes go: an IP length shorter than the frame makes the rest a trailer, a longer one
ends with the frame.  A later fragment has no transport header.  A header that is cut is payload.

`changes` pairs the headers of two frames from the back, because what a function adds or removes stands in front: a
tunnel is pushed before a packet, and what lies in it is the packet that came in.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..language.layout import Header, show
from .arp import Arp
from .ethernet import Ethernet, EtherType
from .icmp import Icmp
from .icmp6 import Icmp6
from .ipv4 import IpProtocol, IPv4
from .ipv6 import Extension, Fragment, IPv6
from .tcp import Tcp
from .udp import Udp
from .vlan import Vlan

MOST = 24                                   # layers that are looked through
TYPES: dict[type[Header], int] = {IPv4: EtherType.IPV4, IPv6: EtherType.IPV6, Arp: EtherType.ARP, Vlan: EtherType.VLAN}
PROTOCOLS: dict[type[Header], int] = {
    Icmp: IpProtocol.ICMP, IPv4: IpProtocol.IPV4, Tcp: IpProtocol.TCP, Udp: IpProtocol.UDP, IPv6: IpProtocol.IPV6,
    Fragment: IpProtocol.FRAGMENT, Icmp6: IpProtocol.ICMP6, Extension: IpProtocol.DESTINATION}
#: The field by which a header says what follows.
NUMBER = {Ethernet: "type", Vlan: "type", IPv4: "proto", IPv6: "next", Extension: "next", Fragment: "next"}
_NAMES: dict[type[Header], str] = {Ethernet: "eth", Vlan: "vlan", Arp: "arp", IPv4: "ip", IPv6: "ip6", Icmp: "icmp",
                                   Icmp6: "icmp6", Udp: "udp", Tcp: "tcp", Extension: "option", Fragment: "fragment"}
_BY_TYPE = {int(number): kind for kind, number in TYPES.items()} | {int(EtherType.SERVICE_VLAN): Vlan}
_BY_PROTOCOL = {int(number): kind for kind, number in PROTOCOLS.items() if kind is not Extension}
_OPTIONS = (IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.DESTINATION)


@dataclass(frozen=True)
class Part:
    """A header, the options behind its fixed part, and the protocol number an extension header was announced by."""

    header: Header
    options: bytes = b""
    number: int | None = None

    @property
    def kind(self) -> type[Header]:
        return type(self.header)

    @property
    def name(self) -> str:
        return _NAMES[self.kind]

    def __str__(self) -> str:
        """The header as an operator wants it: addresses and what carries meaning, without lengths and checksums."""
        shown = [f"{field}={text(self.header, field)}" for field in _SHOWN[self.kind] if getattr(self.header, field)]
        return f"{self.name}({', '.join(shown)})"


@dataclass(frozen=True)
class Dissection:
    """The headers of a frame, what they carry, and what no length counts."""

    parts: tuple[Part, ...]
    payload: bytes
    trailer: bytes

    def __str__(self) -> str:
        last = self.parts[-1] if self.parts else None
        words = [str(part) for part in self.parts]
        if last is not None and last.kind in (Ethernet, Vlan):
            words[-1] = words[-1][:-1] + f", type={getattr(last.header, NUMBER[last.kind]):#06x})"
        words += [f"{len(self.payload)} bytes"] * bool(self.payload)
        return " / ".join(words)


_SHOWN: dict[type[Header], tuple[str, ...]] = {
    Ethernet: ("src", "dst"), Vlan: ("vid", "pcp"), Arp: ("operation", "sender_ip", "target_ip"),
    IPv4: ("src", "dst", "ttl"), IPv6: ("src", "dst", "hops"), Icmp: ("type", "code"), Icmp6: ("type", "code"),
    Udp: ("src", "dst"), Tcp: ("src", "dst", "flags"), Extension: ("next",), Fragment: ("offset", "id")}


def text(header: Header, field: str) -> str:
    """A field as people read it; port numbers and the like in decimal."""
    described = header.fields[field]
    value: int = getattr(header, field)
    return show(described, value) if described.text else str(value)


def dissect(frame: bytes) -> Dissection:
    """What a frame is made of."""
    parts, at, end = [], 0, len(frame)
    kind: type[Header] | None = Ethernet
    number: int | None = None
    for _ in range(MOST):
        if kind is None or at + kind.size > end:
            break
        header = kind.decode(frame[at:at + kind.size])
        size, last = kind.size, end
        if isinstance(header, IPv4):
            size, last = max(header.ihl * 4, 20), at + header.length
        elif isinstance(header, Tcp):
            size = max(header.offset * 4, 20)
        elif isinstance(header, Extension):
            size = header.length * 8 + 8
        elif isinstance(header, IPv6):
            last = at + size + header.length
        if at + size > end:
            break
        end = min(end, max(last, at + size))
        parts.append(Part(header, frame[at + kind.size:at + size], number))
        at += size
        kind, number = _next(header)
    return Dissection(tuple(parts), frame[at:end], frame[end:])


def _next(header: Header) -> tuple[type[Header] | None, int | None]:
    """What follows a header, and the protocol number of what is an extension."""
    kind = type(header)
    if kind not in NUMBER:
        return None, None
    number: int = getattr(header, NUMBER[kind])
    if kind in (Ethernet, Vlan):
        return _BY_TYPE.get(number), None
    if isinstance(header, IPv4 | Fragment) and header.offset:
        return None, None
    if number in _OPTIONS:
        return (Extension, number) if kind is not IPv4 else (None, None)
    found = _BY_PROTOCOL.get(number)
    return (None if found is Fragment and kind is IPv4 else found), None


def changes(before: bytes, after: bytes) -> Iterator[str]:
    """What was done to a frame, a line each: `ip.ttl 64 -> 63`, `push vlan(vid=7)`, `payload 3 bytes from 10 on`."""
    if before == after:
        return
    old, new = dissect(before), dissect(after)
    left, right = list(old.parts), list(new.parts)
    behind = 0
    while behind < min(len(left), len(right)) and left[-1 - behind].kind is right[-1 - behind].kind:
        behind += 1
    front = 0
    while front < min(len(left), len(right)) - behind and left[front].kind is right[front].kind:
        front += 1
    for part in left[front:len(left) - behind]:
        yield f"pop {part}"
    for part in right[front:len(right) - behind]:
        yield f"push {part}"
    pairs = [*zip(left[:front], right[:front], strict=True),
             *zip(left[len(left) - behind:], right[len(right) - behind:], strict=True)]
    for was, now in pairs:
        for field in was.header.fields:
            if getattr(was.header, field) != getattr(now.header, field):
                yield f"{was.name}.{field} {text(was.header, field)} -> {text(now.header, field)}"
        if was.options != now.options:
            yield f"{was.name} options {was.options.hex() or 'none'} -> {now.options.hex() or 'none'}"
    for name, one, other in (("payload", old.payload, new.payload), ("trailer", old.trailer, new.trailer)):
        if one != other:
            yield _bytes(name, one, other)


def _bytes(name: str, before: bytes, after: bytes) -> str:
    if len(before) != len(after):
        return f"{name} {len(before)} -> {len(after)} bytes"
    differing = [i for i in range(len(before)) if before[i] != after[i]]
    first, last = differing[0], differing[-1] + 1
    if last - first > 16:
        return f"{name}[{first}:{last}] {len(differing)} bytes differ"
    return f"{name}[{first}:{last}] {before[first:last].hex()} -> {after[first:last].hex()}"


__all__ = ["NUMBER", "PROTOCOLS", "TYPES", "Dissection", "Part", "changes", "dissect"]
