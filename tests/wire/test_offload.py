"""Aggregates taken apart: what each frame says, byte for byte.  tests/labs meets aggregates of the kernel's."""
from __future__ import annotations

import random
from typing import Any

import pytest

from iovisor.testing.packets import Frame, ethernet, ipv4, ipv6, tcp, udp, vlan
from iovisor.wire.offload import segments

ETHERNET = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
ENDS4: dict[str, Any] = {"src": "10.0.0.1", "dst": "10.0.0.2"}
ENDS6: dict[str, Any] = {"src": "2001:db8::1", "dst": "2001:db8::2"}
PAYLOAD = random.Random(1).randbytes(4001)


def test_what_is_none_stays() -> None:
    frame = bytes(ETHERNET / ipv4(**ENDS4) / udp(src=1, dst=2) / PAYLOAD)
    assert segments(frame, 0) == [frame]


@pytest.mark.parametrize("size", [1, 1000, 1448, 4000, 4001, 9000])
@pytest.mark.parametrize("tagged", [False, True])
def test_datagrams(tagged: bool, size: int) -> None:
    below = ETHERNET / vlan(vid=7) if tagged else ETHERNET
    payload = PAYLOAD[:40] if size == 1 else PAYLOAD
    pieces = [payload[at:at + size] for at in range(0, len(payload), size)]

    def four(body: bytes, number: int) -> Frame:
        return below / ipv4(**ENDS4, id=65530 + number & 0xffff, df=1, ttl=9) / udp(src=1, dst=2) / body

    def six(body: bytes) -> Frame:
        return below / ipv6(**ENDS6, flow=5, hops=9) / udp(src=1, dst=2) / body

    assert segments(bytes(four(payload, 0)), size) == [bytes(four(piece, n)) for n, piece in enumerate(pieces)]
    assert segments(bytes(six(payload)), size) == [bytes(six(piece)) for piece in pieces]


@pytest.mark.parametrize("six", [False, True])
def test_segments_of_a_connection(six: bool) -> None:
    """Numbers go on, FIN and PSH come last, CWR first (RFC 3168 section 6.1.2); options are in each."""
    options, begin = bytes.fromhex("0101080a 00000001 00000002"), 0xffff_ff00

    def frame(body: bytes, place: int, flags: int, number: int) -> bytes:
        above = ipv6(**ENDS6) if six else ipv4(**ENDS4, id=number)
        return bytes(ETHERNET / above / tcp(src=1, dst=2, sequence=begin + place & 0xffff_ffff, acknowledgment=3,
                                            flags=flags, options=options) / body)

    whole = frame(PAYLOAD, 0, 0x99, 7)
    assert segments(whole, 1448) == [frame(PAYLOAD[:1448], 0, 0x90, 7), frame(PAYLOAD[1448:2896], 1448, 0x10, 8),
                                     frame(PAYLOAD[2896:], 2896, 0x19, 9)]


def test_padding_is_left_behind() -> None:
    frame = bytes(ETHERNET / ipv4(**ENDS4, id=1) / udp(src=1, dst=2) / PAYLOAD[:20])
    assert b"".join(part[42:] for part in segments(frame + bytes(9), 8)) == PAYLOAD[:20]
