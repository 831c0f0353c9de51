"""NAT64, exact packet by exact packet: each case is a conversation, and what each packet becomes on the other side.

What is expected is built anew by `iovisor.testing.packets`, checksums included, which knows nothing of translation.
Every conversation is held in CPython and again through `agree`, so that native code and the kernel do the same.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nat64 import Nat64, Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward
from iovisor.language.verdicts import PUNT_KIND
from iovisor.parts.bindings import Unbound
from iovisor.parts.connections import Untracked
from iovisor.parts.reading import Unreadable
from iovisor.testing import Agreement, Arrival, Frame, available, traffic
from iovisor.testing.packets import (
    Layer,
    arp,
    destination,
    ethernet,
    extension,
    fragment,
    hop_by_hop,
    icmp,
    icmp6,
    ipv4,
    ipv6,
    layer,
    routing,
    tcp,
    udp,
)
from iovisor.wire.checksum import finish, of_ipv4
from iovisor.wire.ipv4 import IPv4
from iovisor.wire.neighbor import AddressOption, NeighborAdvertisement, NeighborSolicitation

Agreed = Callable[[Callable[[], Nat64], "list[Step]"], None]

TARGETS = [target for target in available() if target != "xdp"]
INSIDE, OUTSIDE = 0, 1
S, A, F, R, P = 2, 16, 1, 4, 8
X, Y, OURS, FAR, OTHER = "2001:db8:1::2", "2001:db8:1:2::3", "192.0.2.1", "203.0.113.7", "203.0.113.8"
ROUTER, GATEWAY = "02:00:00:00:00:01", "02:00:00:00:00:02"
OUT, IN = ethernet(dst=GATEWAY, src=ROUTER), ethernet(dst=ROUTER, src=GATEWAY)


@dataclass(frozen=True)
class Step:
    """A packet, where it comes in, what it becomes and where that leaves, or the reason it is dropped for."""

    frame: bytes
    port: int
    becomes: bytes
    leaves: int
    reason: int = 0
    after: int = 0


def six(address: str) -> str:
    return f"64:ff9b::{address}"


def up(transport: Any, seen: Any = None, source: str = X, far: str = FAR, reason: int = 0, after: int = 0,
       ours: str = OURS, four: dict[str, Any] | None = None, **fields: Any) -> Step:
    """From inside to the outside, `seen` as the outside sees it, in a header with these fields."""
    sent = OUT / ipv6(src=source, dst=six(far), **fields) / transport
    hops, traffic = fields.get("hops", 64), {name: fields[name] for name in ("dscp", "ecn") if name in fields}
    got = OUT / ipv4(src=ours, dst=far, ttl=hops - 1, **traffic | (four or {})) / (transport if seen is None else seen)
    return Step(bytes(sent), INSIDE, bytes(got), OUTSIDE, reason, after)


def down(transport: Any, seen: Any = None, home: str = X, far: str = FAR, reason: int = 0, after: int = 0,
         ours: str = OURS, **fields: Any) -> Step:
    """From outside, to `home` in the end."""
    sent = IN / ipv4(src=far, dst=ours, **fields) / transport
    hops, traffic = fields.get("ttl", 64), {name: fields[name] for name in ("dscp", "ecn") if name in fields}
    got = IN / ipv6(src=six(far), dst=home, hops=hops - 1, **traffic) / (transport if seen is None else seen)
    return Step(bytes(sent), OUTSIDE, bytes(got), INSIDE, reason, after)


def turned(transport: Any, seen: Any, shown: str, home: str, source: str = X, reason: int = 0) -> Step:
    """From inside to another inside: a hairpin."""
    sent = OUT / ipv6(src=source, dst=six(OURS)) / transport
    got = IN / ipv6(src=six(shown), dst=home, hops=63) / seen
    return Step(bytes(sent), INSIDE, bytes(got), INSIDE, reason)


def asis(frame: Any, port: int) -> Step:
    return Step(bytes(frame), port, bytes(frame), 1 - port)


def refused(frame: Any, port: int, reason: int) -> Step:
    return Step(bytes(frame), port, b"", 0, reason)


def answered(frame: Any, port: int, error: Any) -> Step:
    return Step(bytes(frame), port, bytes(error), port)


def client(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, src: int = 4000, dst: int = 80) -> Frame:
    return tcp(src=src, dst=dst, flags=flags, sequence=sequence, acknowledgment=acknowledgment, window=1000) \
        / bytes(data)


def server(flags: int, sequence: int, acknowledgment: int = 0, data: int = 0, dst: int = 4000, src: int = 80) -> Frame:
    return client(flags, sequence, acknowledgment, data, src, dst)


def ask(src: int = 5000, dst: int = 53, data: bytes = b"ask", **fields: int) -> Frame:
    return udp(src=src, dst=dst, **fields) / data


def ping4(number: int, type: int = 8) -> Frame:
    return icmp(type=type, rest=number << 16 | 1) / b"payload"


def ping6(number: int, type: int = 128) -> Frame:
    return icmp6(type=type, rest=number << 16 | 1) / b"payload"


def piece(whole: Frame, source: str, destination: str, first: int, last: int) -> bytes:
    """Part of a transport whose checksum is that of the whole, between these addresses."""
    header: Layer = ipv6(src=source, dst=destination) if ":" in source else ipv4(src=source, dst=destination)
    data = bytes(ethernet(dst=1, src=1) / header / whole)
    return data[54 if ":" in source else 34:][first:last]


def opened() -> list[Step]:
    return [up(client(S, 100)), down(server(S | A, 500, 101)), up(client(A, 101, 501))]


ASKED, ANSWERED = up(ask()), down(ask(53, 5000, b"answer"))
LONG, BACK = ask(data=bytes(range(200))), ask(53, 5000, bytes(range(200)))
BIG = {"df": 1, "id": 0}
UDP, TCP = {"proto": 17}, {"proto": 6}

CASES: dict[str, list[Step]] = {
    "UDP and its answer": [ASKED, ANSWERED],
    "TCP": [*opened(), up(client(A | P, 101, 501, 10)), down(server(A | P, 501, 111, 900), df=1),
            up(client(F | A, 111, 1401)), down(server(F | A, 1401, 112)), up(client(A, 112, 1402))],
    "echo": [up(ping6(7), ping4(7)), down(ping4(7, 0), ping6(7, 129)),
             down(ping4(7), ping6(7), reason=Unbound.UNMAPPED),
             up(ping6(8, 129), ping4(8, 0), reason=Untracked.UNASKED)],
    "large enough for DF": [up(ask(data=bytes(1_232))), up(ask(data=bytes(1_233)), four=BIG)],
    "hops and classes": [up(ask(), hops=2, dscp=46, ecn=1), down(ask(53, 5000), ttl=255, dscp=10, ecn=3)],
    "odd payloads, and all zeros": [up(ask(data=b"\xff" * 9)), up(ask(0, 0, b"")), down(ask(53, 5000, b"\1"))],
    "one binding for all strangers": [up(ask()), up(ask(dst=54), far=OTHER), down(ask(54, 5000), far=OTHER)],
    "a stranger": [up(ask()), down(ask(53, 5000), far=OTHER, reason=Unbound.FILTERED)],
    "a known address from another port": [up(ask()), down(ask(99, 5000))],
    "nobody's port": [down(ask(53, 5001), reason=Unbound.UNMAPPED), down(client(S, 1), reason=Unbound.UNMAPPED),
                      *opened(), down(server(A, 1, 1, dst=4001), reason=Unbound.UNMAPPED)],
    "an outside address from outside": [up(ask()), down(ask(53, 5000), far=OURS, reason=Unbound.SPOOFED)],
    "out of state": [up(client(A, 1, 1), reason=Untracked.OUT_OF_STATE),
                     up(client(F | P | 32, 1), reason=Untracked.ILLEGAL_FLAGS)],
    "a wrong checksum opens nothing": [up(tcp(src=4000, dst=80, flags=S, checksum=7), reason=Untracked.BAD_CHECKSUM)],
    "UDP without a checksum": [up(ask()), down(ask(53, 5000, b"odd", checksum=0), ask(53, 5000, b"odd")),
                               down(ask(53, 5000, bytes(1_000), checksum=0), ask(53, 5000, bytes(1_000))),
                               up(ask(checksum=0), reason=Unreadable.MALFORMED)],
    "UDP for two minutes and more": [ASKED, down(ask(53, 5000), after=119), down(ask(53, 5000), after=299),
                                     down(ask(53, 5000), reason=Unbound.UNMAPPED, after=303)],
    "TCP for two hours": [*opened(), down(server(A, 501, 101, 1), after=2 * 3600 + 3 * 60),
                          down(server(A, 502, 101, 1), reason=Unbound.UNMAPPED, after=2 * 3600 + 5 * 60)],
    "a query for a minute": [up(ping6(7), ping4(7)), down(ping4(7, 0), ping6(7, 129), after=59)],
    "what has no ports": [up(bytes(8), next=47, reason=Unbound.NO_PORTS),
                          up(bytes(20), next=132, reason=Unbound.NO_PORTS)],
    "other messages": [
        up(icmp6(type=130) / bytes(20), reason=Reason.NOT_TRANSLATABLE),
        up(icmp6(type=137) / bytes(40), reason=Reason.NOT_TRANSLATABLE), ASKED,
        down(icmp(type=13) / bytes(12), reason=Reason.NOT_TRANSLATABLE),
        down(icmp(type=5) / bytes(28), reason=Reason.NOT_TRANSLATABLE),
        up(icmp() / bytes(4), next=1, reason=Reason.NOT_TRANSLATABLE),
        down(icmp6() / bytes(4), proto=58, reason=Reason.NOT_TRANSLATABLE)],
    "options of IPv4 are left out": [
        up(ask()), down(ask(53, 5000), options=bytes([1, 1, 1, 0])), down(ask(53, 5000), options=bytes([7, 4, 4, 0])),
        down(ask(53, 5000), options=bytes([1] * 40)),
        down(ask(53, 5000), options=bytes([1, 131, 7, 4, 0, 0, 0, 0]), reason=Unreadable.SOURCE_ROUTED)],
    "extension headers are left out": [
        up(hop_by_hop() / ask(), ask()), up(hop_by_hop() / destination(options=bytes(14)) / ask(), ask()),
        up(routing(options=bytes([0, 0]) + bytes(4)) / client(S, 1), client(S, 1)),
        up(routing(options=bytes([4, 1]) + bytes(4)) / ask(), reason=Unreadable.SOURCE_ROUTED),
        up(extension(51) / ask(), reason=Unreadable.TOO_MANY_HEADERS),
        up(hop_by_hop(options=bytes(262)) / ask(), reason=Unreadable.TOO_MANY_HEADERS)],
    "fragments from inside": [
        up(fragment(offset=0, more=1, id=0x12345678, next=17) / piece(LONG, X, six(FAR), 0, 104),
           piece(LONG, OURS, FAR, 0, 104), four=UDP | {"mf": 1, "id": 0x5678}),
        up(fragment(offset=13, more=0, id=0x12345678, next=17) / piece(LONG, X, six(FAR), 104, 300),
           piece(LONG, OURS, FAR, 104, 300), four=UDP | {"offset": 13, "id": 0x5678}),
        up(fragment(offset=13, more=0, id=0x12345679, next=17) / bytes(24), reason=Untracked.UNKNOWN_FRAGMENT),
        up(fragment(offset=0, more=0, id=9, next=17) / piece(ask(), X, six(FAR), 0, 30), piece(ask(), OURS, FAR, 0, 30),
           four=UDP | {"id": 9})],
    "fragments from outside": [
        up(ask()), down(piece(BACK, FAR, OURS, 0, 104), fragment(offset=0, more=1, id=77, next=17)
                        / piece(BACK, six(FAR), X, 0, 104), proto=17, mf=1, id=77),
        down(piece(BACK, FAR, OURS, 104, 300), fragment(offset=13, more=0, id=77, next=17)
             / piece(BACK, six(FAR), X, 104, 300), proto=17, offset=13, id=77),
        down(bytes(24), proto=17, offset=3, id=78, reason=Untracked.UNKNOWN_FRAGMENT),
        down(bytes(ask(53, 5000, bytes(16), length=48, checksum=0)), proto=17, mf=1, id=79, reason=Reason.NO_CHECKSUM)],
    "fragments of messages": [
        up(fragment(offset=0, more=1, id=1, next=58) / bytes(ping6(7)), reason=Reason.NOT_TRANSLATABLE), ASKED,
        down(bytes(ping4(7, 0)), proto=1, mf=1, id=5, reason=Reason.NOT_TRANSLATABLE)],
    "a hairpin": [
        ASKED, turned(ask(6000, 5000), ask(6000, 5000), OURS, X, source=Y),
        turned(ask(5000, 6000, b"back"), ask(5000, 6000, b"back"), OURS, Y),
        turned(client(S, 1, src=7000, dst=4444), client(S, 1), OURS, X, reason=Unbound.UNMAPPED)],
    "TCP round a hairpin": [
        up(client(S, 100)),
        turned(client(S, 7, src=6000, dst=4000), client(S, 7, src=6000, dst=4000), OURS, X, source=Y),
        turned(server(S | A, 9, 8, src=4000, dst=6000), server(S | A, 9, 8, src=4000, dst=6000), OURS, Y)],
    "native IPv6 passes": [
        asis(OUT / ipv6(src=X, dst="2001:db8:f::7") / ask(), INSIDE),
        asis(IN / ipv6(src="2001:db8:f::7", dst=X) / ask(), OUTSIDE),
        asis(OUT / ipv6(src="fe80::1", dst="ff02::1", hops=255) / icmp6(type=134) / bytes(8), INSIDE),
        refused(OUT / ipv6(src=six(FAR), dst="2001:db8:f::7") / ask(), INSIDE, Reason.WRONG_SIDE),
        refused(OUT / ipv6(src=six(FAR), dst=six(OTHER)) / ask(), INSIDE, Reason.WRONG_SIDE),
        refused(IN / ipv6(src="2001:db8:f::7", dst=six(OTHER)) / ask(), OUTSIDE, Reason.WRONG_SIDE),
        refused(IN / ipv6(src=six(FAR), dst=X) / ask(), OUTSIDE, Reason.WRONG_SIDE)],
    "native IPv4 passes": [
        asis(IN / ipv4(src=FAR, dst="192.0.2.99") / ask(), OUTSIDE),
        asis(OUT / ipv4(src="192.0.2.99", dst=FAR) / ask(), INSIDE),
        asis(OUT / ipv4(src="192.0.2.99", dst=OURS) / ask(), INSIDE),
        asis(OUT / arp(sender_mac=1, sender_ip="10.0.0.1", target_ip="10.0.0.2"), INSIDE),
        asis(IN / arp(sender_mac=1, sender_ip="10.0.0.1", target_ip=OURS), OUTSIDE)],
    "nobody's addresses": [
        *(up(ask(), far=far, reason=Reason.UNROUTABLE)
          for far in ("127.0.0.1", "224.0.0.1", "10.0.0.1", "192.168.1.1")),
        *(up(ask(), source=source, reason=Reason.UNROUTABLE)
          for source in ("fe80::1", "ff02::1", "::1", "::ffff:10.0.0.1")),
        down(ask(53, 5000), far="10.0.0.1", reason=Reason.UNROUTABLE),
        down(ask(53, 5000), far="255.255.255.255", reason=Reason.UNROUTABLE)],
    "frames": [refused(ethernet(dst=1, src=2, type=0x88b5) / bytes(46), INSIDE, Reason.NOT_IP),
               refused(ethernet(dst=1, src=2, type=0x8100) / b"\0\1\x86\xdd" / bytes(60), INSIDE, Reason.TAGGED),
               refused(IN / ipv4(src=FAR, dst=OURS, checksum=1) / ask(), OUTSIDE, Unreadable.MALFORMED),
               refused(IN / ipv4(src=FAR, dst=OURS, length=999) / ask(), OUTSIDE, Unreadable.MALFORMED),
               refused(OUT / ipv6(src=X, dst=six(FAR), length=999) / ask(), INSIDE, Unreadable.MALFORMED),
               refused(OUT / ipv6(src=X, dst=six(FAR), next=17) / bytes(7), INSIDE, Unreadable.MALFORMED)],
}

# -- messages about packets --------------------------------------------------------------------------------------------

HOP, NEAR = "203.0.113.254", "2001:db8:1::fe"


def told(step: Step, kind: tuple[int, int, int], wanted: tuple[int, int, int], length: int = 1_000, reason: int = 0,
         quoted: bytes = b"", **fields: Any) -> Step:
    """An error from outside about a packet that went out: it quotes what left, and should quote what came."""
    type, code, rest = kind
    error = icmp(type=type, code=code, rest=rest) / (quoted or step.becomes[14:34 + length])
    sent = bytearray(step.frame[14:54 + length])
    sent[7] = step.becomes[22] if not quoted else quoted[8]
    return down(error, icmp6(type=wanted[0], code=wanted[1], rest=wanted[2]) / bytes(sent), far=HOP, reason=reason,
                **fields)


def said(step: Step, kind: tuple[int, int, int], wanted: tuple[int, int, int], length: int = 1_000, near: str = X,
         reason: int = 0) -> Step:
    """An error from inside about a packet that came in: it quotes what arrived, and should quote what was sent."""
    type, code, rest = kind
    error = icmp6(type=type, code=code, rest=rest) / step.becomes[14:54 + length]
    header = IPv4.decode(step.frame[14:34])
    header.ttl, header.checksum = step.becomes[21], 0
    header.checksum = finish(of_ipv4(header))
    sent = bytes(header) + step.frame[34:34 + length]
    return up(error, icmp(type=wanted[0], code=wanted[1], rest=wanted[2]) / sent, source=near, reason=reason)


SENT = up(client(A, 101, 501, 100))
PINGED, PONGED = up(ping6(7), ping4(7)), down(ping4(7, 0), ping6(7, 129))
CAME = down(server(A, 501, 101, 100))

CASES |= {
    "unreachable": [ASKED, *(told(ASKED, (3, code, 0), (1, other, 0)) for code, other in (
        (0, 0), (1, 0), (3, 4), (5, 0), (9, 1), (10, 1), (13, 1), (15, 1)))],
    "a protocol unreachable": [ASKED, told(ASKED, (3, 2, 0), (4, 1, 6))],
    "time exceeded": [*opened(), SENT, told(SENT, (11, 0, 0), (3, 0, 0)), told(SENT, (11, 1, 0), (3, 1, 0), length=8),
                      PINGED, told(PINGED, (11, 0, 0), (3, 0, 0)), told(PINGED, (11, 0, 0), (3, 0, 0), length=8)],
    "too big, with its MTU": [*opened(), SENT, told(SENT, (3, 4, 1_400), (2, 0, 1_420)),
                              told(SENT, (3, 4, 576), (2, 0, 1_280)), told(SENT, (3, 4, 9_000), (2, 0, 1_500)),
                              told(SENT, (3, 4, 0), (2, 0, 1_280))],
    "a parameter problem": [ASKED, *(told(ASKED, (12, code, at << 24), (4, 0, there)) for code, at, there in (
        (0, 0, 0), (0, 1, 1), (0, 2, 4), (2, 3, 4), (0, 8, 7), (0, 9, 6), (0, 13, 8), (0, 19, 24)))],
    "errors without a meaning": [
        ASKED, *(told(ASKED, kind, (0, 0, 0), reason=Reason.NOT_TRANSLATABLE) for kind in (
            (3, 14, 0), (3, 16, 0), (3, 255, 0), (12, 1, 0), (12, 0, 4 << 24), (12, 0, 20 << 24), (12, 0, 255 << 24)))],
    "an error for nobody": [
        ASKED, told(up(ask(5001)), (3, 3, 0), (1, 4, 0), reason=Unbound.UNMAPPED),
        told(up(ask(), far=OTHER), (3, 3, 0), (1, 4, 0), reason=Untracked.UNRELATED), *opened(),
        told(up(client(A, 90_000, 501)), (3, 3, 0), (1, 4, 0), reason=Untracked.UNRELATED),
        down(icmp(type=3) / ANSWERED.frame[14:], far=HOP, reason=Untracked.UNRELATED),
        down(icmp(type=3) / b"nothing much of a packet", far=HOP, reason=Unreadable.MALFORMED)],
    "an error behind options": [ASKED, told(ASKED, (3, 3, 0), (1, 4, 0), options=bytes([1, 1, 1, 0]))],
    "an error from inside": [
        ASKED, ANSWERED, *(said(ANSWERED, (1, code, 0), (3, other, 0)) for code, other in (
            (0, 1), (1, 10), (2, 1), (3, 1), (4, 3))), said(ANSWERED, (1, 4, 0), (3, 3, 0), length=8),
        said(ANSWERED, (4, 1, 6), (3, 2, 0)), said(ANSWERED, (1, 5, 0), (0, 0, 0), reason=Reason.NOT_TRANSLATABLE)],
    "from a router inside": [ASKED, ANSWERED, said(ANSWERED, (3, 0, 0), (11, 0, 0), near=NEAR)],
    "too big inside": [*opened(), CAME, said(CAME, (2, 0, 1_400), (3, 4, 1_380)),
                       said(CAME, (2, 0, 9_000), (3, 4, 1_480)), said(CAME, (2, 0, 5), (3, 4, 68)),
                       said(CAME, (2, 1, 5), (3, 4, 68), reason=Reason.NOT_TRANSLATABLE)],
    "a pointer from inside": [ASKED, ANSWERED, *(said(ANSWERED, (4, 0, at), (12, 0, there << 24)) for at, there in (
        (0, 0), (1, 1), (4, 2), (6, 9), (7, 8), (8, 12), (39, 16))),
        *(said(ANSWERED, (4, 0, at), (0, 0, 0), reason=Reason.NOT_TRANSLATABLE) for at in (2, 3, 40, 64, 1 << 31)),
        said(ANSWERED, (4, 2, 0), (0, 0, 0), reason=Reason.NOT_TRANSLATABLE)],
    "about a ping, from inside": [PINGED, PONGED, said(PONGED, (1, 4, 0), (3, 3, 0))],
    "about nothing": [ASKED, said(down(ask(53, 5000), far=OTHER), (1, 4, 0), (3, 3, 0), reason=Untracked.UNRELATED)],
    "an error ends nothing": [ASKED, told(ASKED, (3, 3, 0), (1, 4, 0)), ANSWERED, ASKED],
    "an error too long to grow": [
        up(ask(data=bytes(1_200))), told(up(ask(data=bytes(1_200))), (3, 3, 0), (1, 4, 0), length=1_150),
        told(up(ask(data=bytes(1_200))), (3, 3, 0), (1, 4, 0), length=1_190, reason=Reason.NOT_TRANSLATABLE)],
    "about a first fragment": [
        up(fragment(offset=0, more=1, id=0x15678, next=17) / piece(LONG, X, six(FAR), 0, 104),
           piece(LONG, OURS, FAR, 0, 104), four=UDP | {"mf": 1, "id": 0x5678}),
        down(icmp(type=11, code=0) / bytes(ipv4(src=OURS, dst=FAR, proto=17, mf=1, id=0x5678, ttl=1)
                                           / piece(LONG, OURS, FAR, 0, 104)),
             icmp6(type=3, code=0) / bytes(ipv6(src=X, dst=six(FAR), hops=1) / fragment(
                 offset=0, more=1, id=0x5678, next=17) / piece(LONG, X, six(FAR), 0, 104)), far=HOP)],
    "round a hairpin": [
        ASKED, turned(ask(6000, 5000), ask(6000, 5000), OURS, X, source=Y),
        turned(icmp6(type=1, code=4) / bytes(ipv6(src=six(OURS), dst=X, hops=63) / ask(6000, 5000)),
               icmp6(type=1, code=4) / bytes(ipv6(src=Y, dst=six(OURS), hops=63) / ask(6000, 5000)), OURS, Y)],
}

# -- what is answered --------------------------------------------------------------------------------------------------


def expired6(step: Step, type: int = 3, rest: int = 0) -> Step:
    return answered(step.frame, INSIDE, IN / ipv6(src=six(OURS), dst=X) / icmp6(type=type, rest=rest)
                    / step.frame[14:14 + 1_232])


def expired4(step: Step, type: int = 11, code: int = 0, rest: int = 0) -> Step:
    return answered(step.frame, OUTSIDE, OUT / ipv4(src=OURS, dst=FAR, dscp=48) / icmp(type=type, code=code, rest=rest)
                    / step.frame[14:14 + 548])


CASES |= {
    "the last hop": [expired6(up(ask(), hops=1)), expired6(up(ping6(7), hops=1)), ASKED,
                     expired4(down(ask(53, 5000), ttl=1)),
                     refused(up(icmp6(type=1) / ANSWERED.becomes[14:], hops=1).frame, INSIDE, Reason.EXPIRED)],
    "too long for a link": [
        expired6(up(ask(data=bytes(1_473))), 2, 1_520), up(ask(data=bytes(1_472)), four=BIG),
        expired4(down(ask(53, 5000, bytes(1_453)), df=1), 3, 4, 1_480), down(ask(53, 5000, bytes(1_452)), df=1)],
}


def ours(**more: Any) -> Nat64:
    return Nat64(**{"addresses": [OURS], "wait": 0} | more)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def session(images: Cache) -> Iterator[Agreement]:
    with Agreement(ours, TARGETS, cache=images) as made:
        yield made


def identified(wanted: bytes, found: bytes) -> bytes:
    """What is expected with the identification that chance gave."""
    header = IPv4.decode(wanted[14:34].ljust(20, b"\0"))
    if wanted[12:14] != b"\x08\0" or header.id or header.df:
        return wanted
    header.id, header.checksum = int.from_bytes(found[18:20], "big"), 0
    header.checksum = finish(of_ipv4(header))
    return wanted[:14] + bytes(header) + wanted[34:]


def hold(nat: Nat64, steps: list[Step]) -> None:
    """A conversation in CPython."""
    names = nat.spec().reasons
    for number, step in enumerate(steps):
        Clock.advance(step.after * SECOND)
        found = Packet(step.frame, step.port)
        wanted = drop(step.reason) if step.reason else forward(step.leaves)
        verdict = nat.run(found)
        assert verdict == wanted, (number, verdict, names.get(verdict.argument), names.get(step.reason))
        if not step.reason:
            becomes = identified(step.becomes, bytes(found)) if step.leaves != step.port else step.becomes
            assert bytes(found) == becomes, (number, Packet(becomes), found)


@pytest.mark.parametrize("name", CASES)
def test_conversations(name: str, session: Agreement) -> None:
    hold(ours(), CASES[name])
    session.run([Arrival(step.frame, step.port, after=step.after * SECOND) for step in CASES[name]])


def run(nat: Any, frame: Any, port: int) -> tuple[Any, Packet]:
    found = Packet(bytes(frame), port)
    return nat.run(found), found


@pytest.fixture
def agreed(images: Cache) -> Agreed:
    """Holds a conversation with an instance of its own, on every target."""
    def converse(make: Callable[[], Nat64], steps: list[Step]) -> None:
        hold(make(), steps)
        with Agreement(make, TARGETS, cache=images) as session:
            session.run([Arrival(step.frame, step.port, after=step.after * SECOND) for step in steps])
    return converse


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "far"), [
    ("2001:db8::/32", "2001:db8:cb00:7107::"), ("2001:db8:100::/40", "2001:db8:1cb:71:7::"),
    ("2001:db8:122::/48", "2001:db8:122:cb00:71:700::"), ("2001:db8:122:300::/56", "2001:db8:122:3cb:0:7107::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:cb:71:700::"), ("2001:db8:f::/96", "2001:db8:f::203.0.113.7")])
def test_every_length_of_prefix(bound: str, far: str, agreed: Agreed) -> None:
    home = "2001:dead::2"
    asked, answer = client(S, 100), server(S | A, 500, 101)
    up = Step(bytes(OUT / ipv6(src=home, dst=far) / asked), INSIDE,
              bytes(OUT / ipv4(src=OURS, dst=FAR, ttl=63) / asked), OUTSIDE)
    down = Step(bytes(IN / ipv4(src=FAR, dst=OURS) / answer), OUTSIDE,
                bytes(IN / ipv6(src=far, dst=home, hops=63) / answer), INSIDE)
    agreed(lambda: ours(prefix=bound), [up, down])


def test_a_prefix_of_ones_own_stands_for_local_addresses_too() -> None:
    nat = ours(prefix="2001:db8:f::/96")
    assert run(nat, OUT / ipv6(src=X, dst="2001:db8:f::10.0.0.1") / ask(), INSIDE)[0] == forward(OUTSIDE)
    assert run(nat, OUT / ipv6(src=X, dst="2001:db8:f::127.0.0.1") / ask(), INSIDE)[0] == drop(Reason.UNROUTABLE)


STATIC = [{"name": "web", "outside": OURS, "inside": X, "protocol": "tcp", "outside_ports": 8080, "inside_ports": 80},
          {"outside": "192.0.2.128/31", "inside": "2001:db8:9::10/127"}]


def test_static_bindings_and_whole_prefixes(agreed: Agreed) -> None:
    """Which is stateful where RFC 7757 is not, and between the same addresses."""
    a, b = "192.0.2.128", "192.0.2.129"
    agreed(lambda: ours(static=STATIC), [
        down(client(S, 1, dst=8080), client(S, 1, dst=80)),
        up(server(S | A, 7, 2, src=80), server(S | A, 7, 2, src=8080)),
        down(ask(), ours=a, home="2001:db8:9::10"), up(ask(53, 5000), source="2001:db8:9::10", ours=a),
        up(client(S, 5), source="2001:db8:9::11", ours=b), down(ping4(9), ping6(9), ours=b, home="2001:db8:9::11"),
        up(ping6(9, 129), ping4(9, 0), source="2001:db8:9::11", ours=b),
        Step(bytes(IN / ipv4(src=FAR, dst=a, proto=132) / bytes(24)), OUTSIDE,
             bytes(IN / ipv6(src=six(FAR), dst="2001:db8:9::10", hops=63, next=132) / bytes(24)), INSIDE),
        up(bytes(20), source="2001:db8:9::11", ours=b, next=47, four={"proto": 47})])


def sent(nat: Any, source: str, port: int) -> int:
    """The port that a datagram is seen under, or less than nothing: the reason it is dropped for."""
    verdict, found = run(nat, OUT / ipv6(src=source, dst=six(FAR)) / ask(port), INSIDE)
    return int.from_bytes(found.data[34:36], "big") if verdict == forward(OUTSIDE) else -int(verdict.argument)


def test_ports_and_limits(session: Agreement) -> None:
    """No port twice, class and parity kept; so many of one /64; none left."""
    nat = ours(per_subscriber=3)
    ports = [sent(nat, f"2001:db8:{host}::1", 5001) for host in range(1, 20)]
    assert ports[0] == 5001 and len(set(ports)) == len(ports) and {port & 1 for port in ports} == {1}
    assert [sent(nat, "2001:db8:1::2", port) > 0 for port in (1, 2, 3)] == [True, True, False]
    assert sent(nat, "2001:db8:1:0:9::9", 4) == -Unbound.SUBSCRIBER and sent(nat, "2001:db8:1:1::1", 4) > 0
    few = ours(first_port=2048, last_port=2048 + 63)
    found = [sent(few, f"2001:db8::{host:x}", 9000) for host in range(1, 70)]
    assert found[0] == 9000 and found[1:65] and set(found[1:65]) == set(range(2048, 2048 + 64))
    assert set(found[65:]) == {-Unbound.EXHAUSTED}
    assert sent(Nat64(wait=0), X, 1) == -Unbound.NO_ADDRESS
    session.run([Arrival(bytes(OUT / ipv6(src=f"2001:db8:{host}::1", dst=six(FAR)) / ask(5001)))
                 for host in range(1, 20)])


def test_everybody_may_send_if_so_configured(agreed: Agreed) -> None:
    agreed(lambda: ours(filtering="endpoint_independent"), [ASKED, down(ask(99, 5000), far=OTHER)])
    agreed(lambda: ours(filtering="port_dependent"), [ASKED, down(ask(99, 5000), reason=Unbound.FILTERED), ANSWERED])


def test_classes_may_be_left_out() -> None:
    plain = Step(bytes(OUT / ipv6(src=X, dst=six(FAR), dscp=46) / ask()), INSIDE,
                 bytes(OUT / ipv4(src=OURS, dst=FAR, ttl=63) / ask()), OUTSIDE)
    hold(ours(copy_class=False), [plain])


def test_what_it_shows_and_forgets() -> None:
    nat: Any = ours(static=STATIC[:1])
    hold(nat, [ASKED])
    shown = [row for row in nat.show() if not row["static"]]
    assert [(row["protocol"], row["inside"], row["outside"], row["outside_port"]) for row in shown] == [
        ("udp", X, OURS, 5000)]
    assert [(row["from"], row["to"]) for row in nat.listing()] == [(f"{X} 5000", f"{FAR} 53")]
    assert nat.flush("2001:db8:2::/48") == 0 and nat.flush("2001:db8:1::/48") == 1
    hold(nat, [down(ask(53, 5000), reason=Unbound.UNMAPPED)])


def test_addresses_that_go_take_their_connections_along() -> None:
    nat = ours()
    hold(nat, [ASKED, ANSWERED])
    nat.reconfigure(addresses=["192.0.2.9"])
    hold(nat, [asis(ANSWERED.frame, OUTSIDE), up(ask(), ours="192.0.2.9")])
    nat.reconfigure(prefix="2001:db8:f::/96")
    verdict, found = run(nat, OUT / ipv6(src=X, dst="2001:db8:f::203.0.113.7") / ask(), INSIDE)
    assert verdict == forward(OUTSIDE) and found.data[30:34] == bytes([203, 0, 113, 7])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an inside pool": ({"addresses": ["2001:db8::1"]}, r"^addresses\[0\]: .* is not IPv4"),
    "a prefix of 33": ({"prefix": "2001:db8::/33"}, r"^prefix: .* is not an IPv6 prefix of 32, 40"),
    "static of one family": ({"static": [{"outside": "192.0.2.1", "inside": "10.0.0.1"}]}, r"^static\[0\].inside: "),
    "static the wrong way": ({"static": [{"outside": X, "inside": "192.0.2.1"}]}, r"^static\[0\].outside: "),
    "static of two sizes": ({"static": [{"outside": "192.0.2.0/24", "inside": X}]}, r"^static\[0\].inside: "),
    "static in the prefix": ({"static": [{"outside": "192.0.2.1", "inside": six(FAR)}]}, r"^static\[0\].inside: "),
    "a short link inside": ({"inside_mtu": 1_279}, r"^inside_mtu: "),
    "a short link outside": ({"outside_mtu": 1_259}, r"^outside_mtu: "),
    "pieces longer than the link": ({"lowest_mtu": 1_501}, r"^lowest_mtu: "),
    "a gateway nowhere": ({"gateway": "fe80::64"}, r"^gateway_mac: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configurations(name: str) -> None:
    values, says = BROKEN[name]
    with pytest.raises(ConfigError, match=says):
        ours(**values)


# -- long packets, fragments, checksums --------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [None, 0])
def test_what_is_too_long_for_ipv6_is_cut_first(checksum: int | None) -> None:
    """And put together again it is what was sent, under a right checksum, also if it had none."""
    data = bytes(number * 7 & 0xff for number in range(1_400))
    given = {} if checksum is None else {"checksum": 0}
    nat: Any = ours()
    hold(nat, [ASKED])
    frame = bytes(IN / ipv4(src=FAR, dst=OURS, id=0x777) / ask(53, 5000, data, **given))
    verdict, found = run(nat, frame, OUTSIDE)
    assert verdict.kind == PUNT_KIND
    pieces, whole = nat.on_large(verdict.event, found), b""
    for number, each in enumerate(pieces):
        verdict, found = run(nat, bytes(each), each.port)
        assert verdict == forward(INSIDE) and len(found.data) <= 14 + 1_280
        assert found.data[20] == 44 and found.data[54] == 17 and found.data[58:62] == b"\0\0\7\x77"
        word = int.from_bytes(found.data[56:58], "big")
        assert (word >> 3 == len(whole) // 8) and word & 1 == (number + 1 < len(pieces))
        whole += found.data[62:]
    assert len(pieces) == 2 and whole == piece(ask(53, 5000, data), six(FAR), X, 0, 2_000)
    assert run(nat, IN / ipv4(src=FAR, dst=OURS) / ask(53, 5000, data), OUTSIDE)[0].kind == PUNT_KIND
    nat.reconfigure(lowest_mtu=1_500)
    hold(nat, [down(ask(53, 5000, data))])


def test_a_fragment_before_its_first_waits() -> None:
    nat = ours(wait="20s")
    hold(nat, [ASKED])
    first, later = CASES["fragments from outside"][1:3]
    found = Packet(later.frame, OUTSIDE)
    verdict = nat.run(found)
    assert verdict.kind == PUNT_KIND

    async def wait() -> Packet | None:
        task = asyncio.create_task(nat.on_early(verdict.event, found))      # type: ignore[arg-type]
        await asyncio.sleep(0.03)
        hold(nat, [first])
        return await task

    again = asyncio.run(wait())
    assert again is found
    hold(nat, [later])


@pytest.mark.parametrize("transport", [ask(checksum=0x1234), client(A, 101, 501, 9), ping6(7)])
def test_a_wrong_checksum_stays_wrong(transport: Frame) -> None:
    """By as much as before: nothing is made good that was damaged on its way."""
    nat = ours()
    hold(nat, opened())
    right, wrong = (bytearray(bytes(OUT / ipv6(src=X, dst=six(FAR)) / transport)) for _ in range(2))
    wrong[-1] ^= 1
    (_, good), (verdict, bad) = run(nat, right, INSIDE), run(nat, wrong, INSIDE)
    assert verdict == forward(OUTSIDE)
    assert good.data[34:-1] == bad.data[34:-1] and good.data[-1] ^ 1 == bad.data[-1]


# -- neighbours --------------------------------------------------------------------------------------------------------


def test_arp_for_outside_addresses_is_answered(agreed: Agreed) -> None:
    asks = ethernet(dst="ff:ff:ff:ff:ff:ff", src=GATEWAY) / arp(sender_mac=GATEWAY, sender_ip="192.0.2.254",
                                                                target_ip=OURS)
    says = ethernet(dst=GATEWAY, src=ROUTER) / arp(operation=2, sender_mac=ROUTER, sender_ip=OURS, target_mac=GATEWAY,
                                                   target_ip="192.0.2.254")
    agreed(lambda: ours(mac=ROUTER), [answered(asks, OUTSIDE, says), asis(asks, INSIDE)])


def test_solicitations_for_the_gateway_are_answered(agreed: Agreed) -> None:
    def solicits(target: str, to: str = "ff02::1:ff00:64") -> Frame:
        return (ethernet(dst="33:33:ff:00:00:64", src=ROUTER) / ipv6(src="fe80::1", dst=to, hops=255, next=58)
                / layer(NeighborSolicitation, target=target) / layer(AddressOption, type=1, address=ROUTER))

    def right(frame: Frame) -> bytes:
        data = bytearray(bytes(frame))
        data[56:58] = bytes(2)
        words = data[22:54] + (32).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + data[54:]
        data[56:58] = finish(sum(int.from_bytes(words[at:at + 2], "big") for at in range(0, 72, 2))).to_bytes(2, "big")
        return bytes(data)

    says = (ethernet(dst=ROUTER, src=GATEWAY) / ipv6(src="fe80::64", dst="fe80::1", hops=255, next=58)
            / layer(NeighborAdvertisement, solicited=1, override=1, target="fe80::64")
            / layer(AddressOption, type=2, address=GATEWAY))
    agreed(lambda: ours(gateway="fe80::64", gateway_mac=GATEWAY), [
        answered(right(solicits("fe80::64")), INSIDE, right(says)), asis(right(solicits("fe80::65")), INSIDE),
        asis(right(solicits("fe80::64")), OUTSIDE)])


def test_errors_are_limited(session: Agreement) -> None:
    nat = ours(errors=3)
    verdicts = [run(nat, up(ask(), hops=1).frame, INSIDE)[0] for _ in range(5)]
    assert verdicts == [forward(INSIDE)] * 3 + [drop(Reason.ERRORS_LIMITED)] * 2


def test_any_traffic_agrees(session: Agreement) -> None:
    session.run(traffic("nat64", 1_500, ports=2, longest=1_900))
