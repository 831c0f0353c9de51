"""Traffic by the million: what a million packets of a nightly run are made of.

Hypothesis finds the small cases and shrinks them; this is for the many.  It is a `random.Random`, so a seed says
everything, and it is fast: a stock of some hundred valid frames is built once, and each packet is one of them, often
changed a little.  Addresses, ports and VLANs come from small pools, so that tables get hits, moves and collisions and
not a million strangers.

The stock holds what a network carries and what breaks parsers: IPv4 with options, fragments first, later and tiny,
IPv6 with extension headers and fragments, TCP, UDP with and without checksum, ICMP errors, ARP, neighbor discovery,
tags and tags in tags, LLDP, jumbo payload, minimal padding.  The changes are bytes overwritten, ends cut off, tails
added and tags put on.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from .agreement import Arrival
from .packets import (
    Frame,
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
    routing,
    tcp,
    trailer,
    udp,
    vlan,
)

STATIONS = (0x02_00_00_00_00_01, 0x02_00_00_00_00_02, 0x02_00_00_00_00_03, 0x02_00_00_00_00_04, 0x00_1b_21_00_00_05,
            0x02_ff_ff_ff_ff_fe)
GROUPS = (0xffff_ffff_ffff, 0x0100_5e00_0001, 0x3333_0000_0001, 0x0180_c200_0000, 0x0180_c200_000e)
HOSTS4 = (0x0a000001, 0x0a000002, 0x0a000103, 0xc0000201, 0xc0a80001, 0x7f000001, 0xe0000001, 0xffffffff, 0)
HOSTS6 = (0x20010db8 << 96 | 1, 0x20010db8 << 96 | 2, 0x20010db8_0001 << 80 | 2, 0xfe80 << 112 | 1, 0xff02 << 112 | 1,
          0, (1 << 128) - 1)
SERVICES = (53, 80, 443, 1000, 1024, 33000, 0, 0xffff)
TAGS = (0, 1, 10, 20, 0xfff, 0x200a, 0xf014)
KINDS = 16
SECOND = 1_000_000_000


def traffic(seed: int | str, count: int, *, ports: int | Sequence[int] = 4, entries: Sequence[str] = ("ingress",),
            stock: int = 400, broken: float = 0.3, tags: Sequence[int] = TAGS,
            longest: int = 3_000) -> Iterator[Arrival]:
    """`count` arrivals, the same for the same seed.

    `broken` is the share of frames that are mutated, cut or lengthened, `stock` the number of frames they are made of,
    `tags` the VLAN tags put on some of them, `longest` what a frame of the stock may have.  The clock moves now and
    then, by microseconds to minutes.
    """
    random = Random(seed)
    numbers = range(ports) if isinstance(ports, int) else ports
    frames = [frame for frame in (bytes(valid(random)) for _ in range(stock)) if len(frame) <= longest]
    chance, choice, below = random.random, random.choice, random.randrange
    for _ in range(count):
        data = choice(frames)
        if chance() < 0.2:
            data = tagged(random, data, tags)
        if chance() < broken:
            data = changed(random, data)
        after = 0 if chance() < 0.7 else choice((1, 1_000, 1_000_000, SECOND, 30 * SECOND)) * below(1, 10)
        yield Arrival(data, choice(numbers), choice(entries), after)


def tagged(random: Random, data: bytes, tags: Sequence[int] = TAGS) -> bytes:
    """The frame with one more tag outside."""
    tpid = b"\x88\xa8" if random.random() < 0.15 else b"\x81\x00"
    return data[:12] + tpid + random.choice(tags).to_bytes(2, "big") + data[12:]


def changed(random: Random, data: bytes) -> bytes:
    """The frame with some bytes overwritten, its end cut off, or something behind it."""
    kind = random.randrange(8)
    if kind < 5:
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 1, 2, 8))):
            # Headers are where changes matter: most of them fall into the first 64 bytes.
            at = random.randrange(min(len(data), 64) if random.random() < 0.8 else len(data))
            flipped = changed[at] ^ 1 << random.randrange(8)
            changed[at] = random.choice((0, 0xff, 1, 0x80, flipped, random.randrange(256)))
        return bytes(changed)
    if kind < 7:
        return data[:random.randrange(1, len(data) + 1)]
    return data + random.randbytes(random.randrange(1, 40))


def valid(random: Random) -> Frame:
    """A frame without a fault."""
    choice = random.choice
    source = choice(STATIONS) if random.random() < 0.97 else choice(GROUPS)
    target = choice(STATIONS) if random.random() < 0.8 else choice(GROUPS)
    outside = ethernet(dst=target, src=source)
    if random.random() < 0.15:
        outside = Layer(outside.kind, outside.given | {"type": choice((0x8100, 0x8100, 0x88a8))})
        outer: Layer | Frame = outside / vlan(vid=choice(TAGS) & 0xfff, pcp=random.randrange(8))
    else:
        outer = outside
    shape = random.randrange(KINDS)
    if shape == 0:
        return outer / arp(operation=choice((1, 2)), sender_mac=source, sender_ip=choice(HOSTS4),
                           target_ip=choice(HOSTS4)) / trailer(choice((0, 18)))
    if shape == 1:
        other = choice((0x88cc, 0x8809, 0x88b5, 0x8847, 46))
        return ethernet(dst=target, src=source, type=other) / random.randbytes(46)
    if shape < 10:
        return outer / _version4(random, shape)
    return outer / _version6(random, shape)


def _version4(random: Random, shape: int) -> Frame:
    choice = random.choice
    fields: dict[str, Any] = {
        "src": choice(HOSTS4), "dst": choice(HOSTS4), "id": random.randrange(1 << 16), "df": random.randrange(2),
        "ttl": choice((0, 1, 2, 64, 255)), "dscp": choice((0, 0, 46)), "ecn": choice((0, 0, 1, 3))}
    options = random.randbytes(choice((4, 8, 40))) if shape == 2 else b""
    if shape == 3:       # a later fragment: no transport header
        return ipv4(proto=choice((6, 17, 1)), offset=choice((1, 2, 185)), mf=random.randrange(2), **fields) \
            / random.randbytes(choice((8, 40, 400)))
    if shape == 4:       # a first fragment, sometimes a tiny one
        return ipv4(mf=1, proto=choice((6, 17)), **fields) / random.randbytes(4) if random.random() < 0.3 else \
            ipv4(mf=1, **fields) / _transport(random, False)
    if shape == 5:
        inner = ipv4(src=fields["dst"], dst=fields["src"]) / udp(src=choice(SERVICES), dst=choice(SERVICES)) / bytes(8)
        return ipv4(**fields) / icmp(type=choice((3, 11)), code=choice((0, 1, 4))) / bytes(inner)
    return ipv4(options=options, **fields) / _transport(random, False)


def _version6(random: Random, shape: int) -> Frame:
    choice = random.choice
    ip = ipv6(src=choice(HOSTS6), dst=choice(HOSTS6), hops=choice((0, 1, 64, 255)), flow=random.randrange(1 << 20),
              dscp=choice((0, 46)))
    if shape == 10:
        frame: Layer | Frame = ip
        for _ in range(random.randrange(1, 9)):
            frame = frame / choice((hop_by_hop(), destination(), destination(options=bytes(14)), routing(),
                                    routing(options=b"\0\1" + bytes(20)), extension(51, options=bytes(10), length=1)))
        return frame / _transport(random, True)
    if shape == 11:
        part = fragment(offset=choice((0, 0, 1, 185)), more=random.randrange(2), id=random.randrange(1 << 32))
        if part.given["offset"]:
            return ip / Layer(part.kind, part.given | {"next": choice((6, 17, 58))}) / random.randbytes(40)
        return ip / part / _transport(random, True)
    if shape == 12:
        return ip / icmp6(type=choice((133, 134, 135, 136))) / choice(HOSTS6).to_bytes(16, "big") \
            / (b"\1\1" + choice(STATIONS).to_bytes(6, "big"))
    return ip / _transport(random, True)


def _transport(random: Random, six: bool) -> Frame:
    choice = random.choice
    payload = random.randbytes(choice((0, 1, 6, 18, 18, 100, 100, 1400, 2000 if random.random() < 0.2 else 64)))
    kind = random.randrange(8)
    if kind < 3:
        checksum = {"checksum": 0} if kind == 0 else {}
        return udp(src=choice(SERVICES), dst=choice(SERVICES), **checksum) / payload
    if kind < 7:
        return tcp(src=choice(SERVICES), dst=choice(SERVICES), flags=choice((2, 18, 16, 24, 17, 4, 0, 63)),
                   sequence=random.randrange(1 << 32), window=random.randrange(1 << 16),
                   options=random.randbytes(choice((0, 0, 4, 20, 40)))) / payload
    return (icmp6(type=choice((128, 129, 1))) if six else icmp(type=choice((8, 0, 3)))) / payload


__all__ = ["changed", "tagged", "traffic", "valid"]
