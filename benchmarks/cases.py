"""What is measured: functions, their configurations, the packet each is timed with, and packets they must agree on."""
from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.language.function import Function

from .functions.nat import Mapping, Nat, Source

HERE, THERE = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
INSIDE, OUTSIDE = 0x0a000005, 0xcb007105        # 10.0.0.5, 203.0.113.5
TCP, UDP = 6, 17
RULES: list[dict[str, Any]] = [
    *({"action": "drop", "protocol": "tcp", "source": f"10.{n}.0.0/16", "destination_ports": 1000 + n}
      for n in range(1, 16)),
    {"action": "accept", "protocol": "tcp", "destination_ports": 443}]
VLANS: dict[str, Any] = {"vlans": True, "ports": {0: {"trunk": [10, 20], "native": 1}, 1: {"trunk": [10]},
                                                  2: {"access": 10}, 3: {"trunk": [20]}}}


def total(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    found: int = sum(struct.unpack(f">{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2)))
    while found >> 16:
        found = (found & 0xffff) + (found >> 16)
    return ~found & 0xffff


def ethernet(kind: int, payload: bytes, tag: bytes = b"", source: bytes = HERE, destination: bytes = THERE) -> bytes:
    return (destination + source + tag + kind.to_bytes(2, "big") + payload).ljust(60, b"\0")


def ipv4(proto: int, payload: bytes, source: int = INSIDE, destination: int = 0xc0000201, options: bytes = b"",
         fragment: int = 0) -> bytes:
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBHII", 0x40 | words, 0, words * 4 + len(payload), 1, fragment, 64, proto, 0, source,
                       destination) + options
    return head[:10] + total(head).to_bytes(2, "big") + head[12:] + payload


def transport(proto: int, source: int, destination: int, sender: int = INSIDE, receiver: int = 0xc0000201) -> bytes:
    if proto == TCP:
        body, place = struct.pack(">HHIIBBHHH", source, destination, 1, 2, 0x50, 0x10, 4096, 0, 0) + b"abcdef", 16
    else:
        body, place = struct.pack(">HHHH", source, destination, 14, 0) + b"abcdef", 6
    pseudo = struct.pack(">IIHH", sender, receiver, proto, len(body))
    return body[:place] + total(pseudo + body).to_bytes(2, "big") + body[place + 2:]


def datagram(proto: int = TCP, source: int = 5000, destination: int = 443, tag: bytes = b"") -> bytes:
    return ethernet(0x0800, ipv4(proto, transport(proto, source, destination)), tag)


@dataclass(frozen=True)
class Case:
    """`make` gives a function in its state; `frame` comes through port 0 and leaves it as it is, or comes back."""

    name: str
    make: Callable[[], Function]
    frame: bytes
    packets: Callable[[random.Random], Iterator[tuple[bytes, int]]]


def switch() -> Switch:
    return Switch(static=[{"mac": "02:00:00:00:00:02", "port": 1}])


def trunk() -> Switch:
    return Switch(**VLANS, static=[{"mac": "02:00:00:00:00:02", "port": 1, "vlan": 10}])


def acl() -> Acl:
    return Acl(rules=RULES)


def nat() -> Nat:
    found = Nat()
    for proto in (TCP, UDP):
        for here, there in (((INSIDE, 5000), (OUTSIDE, 61000)), ((OUTSIDE, 61000), (INSIDE, 5000))):
            key = Source(address=here[0], port=here[1], protocol=proto)
            found.mappings[key] = Mapping(address=there[0], port=there[1])
    return found


def frames(chance: random.Random) -> Iterator[tuple[bytes, int]]:
    """Frames between a few stations, tagged or not."""
    addresses = [bytes([2, 0, 0, 0, 0, n]) for n in range(1, 7)] + [b"\xff" * 6, bytes.fromhex("0180c2000003"),
                                                                   bytes.fromhex("01005e000001")]
    tags = [b"", b"", *(struct.pack(">HH", tpid, tci) for tpid in (0x8100, 0x88a8)
                        for tci in (0, 0x6000, 1, 10, 0x400a, 20, 30, 4095))]
    for _ in range(1500):
        inner = chance.choice([0x0800, 0x0800, 0x86dd, 0x8100, 0x88a8])
        yield (ethernet(inner, bytes(46), chance.choice(tags), chance.choice(addresses), chance.choice(addresses)),
               chance.randrange(5))


def extended(chance: random.Random) -> bytes:
    """An IPv6 packet with extension headers."""
    kinds = [chance.choice([0, 43, 44, 51, 60, 135]) for _ in range(chance.choice([0, 0, 1, 2, 3, 7]))]
    last = chance.choice([6, 17, 58, 59, 132])
    payload = b""
    for kind, following in zip(kinds, [*kinds[1:], last], strict=False):
        if kind == 44:
            payload += struct.pack(">BBHI", following, 0, chance.choice([0, 1, 8, 9]), 7)
        else:
            size = chance.choice([0, 1, 1, 2]) if kind != 51 else chance.choice([0, 2])
            length = size * 4 + 8 if kind == 51 else size * 8 + 8
            payload += bytes([following, size, chance.choice([0, 2]), chance.choice([0, 1])]).ljust(length, b"\0")
    payload += chance.choice([transport(TCP, 1, 443), transport(UDP, 53, 1024), bytes([135]) + bytes(23),
                              bytes(4)])
    length = max(0, len(payload) + chance.choice([0, 0, 0, -3, 9]))
    return struct.pack(">IHBB", chance.choice([6, 6, 6, 4]) << 28, length,
                       kinds[0] if kinds else last, chance.choice([64, 255])) + chance.randbytes(32) + payload


def internet(chance: random.Random) -> Iterator[tuple[bytes, int]]:
    """IP packets, sound and broken."""
    outer, inner, last = b"\x81\x00\x00\x0a", b"\x81\x00\x00\x0b", b"\x81\x00\x00\x01"
    tags = [b"", b"", outer, outer + inner, b"\x88\xa8\x00\x05" + inner + last]
    for _ in range(2500):
        proto = chance.choice([TCP, TCP, UDP, 1, 132, 47])
        if chance.random() < 0.4:
            frame = ethernet(0x86dd, extended(chance), chance.choice(tags))
        elif chance.random() < 0.1:
            frame = ethernet(chance.choice([0x0806, 0x8847, 0x0026]), bytes(46), chance.choice(tags))
        else:
            sender = chance.choice([INSIDE, OUTSIDE, 0x0a030001])
            body = transport(TCP if proto == TCP else UDP, chance.choice([5000, 61000, 1]),
                             chance.choice([443, 1003]), sender)
            if proto == UDP and chance.random() < 0.3:
                body = body[:6] + bytes(2) + body[8:]
            body = body[:chance.choice([99, 99, 99, 12, 7])]
            fragment = chance.choice([0, 0, 0, 0, 0x4000, 0x2000, 1, 0x2001, 40])
            options = bytes(chance.choice([0, 0, 4, 40]))
            frame = ethernet(0x0800, ipv4(proto, body, sender, 0xc0000201, options, fragment), chance.choice(tags))
        if chance.random() < 0.1:
            damaged = bytearray(frame)
            damaged[chance.randrange(14, 40)] = chance.randrange(256)
            frame = bytes(damaged)
        if chance.random() < 0.2:
            frame = frame[:chance.randrange(54, len(frame))]    # shorter: the kernel refuses to run it
        yield frame, chance.randrange(2)


CASES = [
    Case("switch", switch, datagram(), frames),
    Case("switch, trunk", trunk, datagram(tag=b"\x81\x00\x00\x0a"), frames),
    Case("acl, last of 16", acl, datagram(), internet),
    Case("nat, tcp", nat, datagram(), internet),
    Case("nat, udp", nat, datagram(UDP), internet),
]
