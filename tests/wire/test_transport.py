"""UDP and TCP: lengths, flags, and the circle of sequence numbers."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import Packet, Reject
from iovisor.wire import Ethernet, IPv4, Tcp, TcpFlag, Udp, tcp, udp
from tests.wire import frames


def test_lengths_of_udp() -> None:
    assert udp.payload_length(Udp.decode(frames.UDP4[34:42])) == 5
    assert udp.payload_length(Udp(src=1, dst=2, length=7)) == -1
    pushed = Packet(b"12345").push(Udp)
    udp.fill(pushed, 40000, 53, 5)
    assert bytes(pushed) == bytes.fromhex("9c40 0035 000d 0000")


def test_options_of_tcp_are_skipped() -> None:
    pkt = Packet(frames.SYN4)
    _, ip, segment = pkt.parse(Ethernet, IPv4, Tcp)
    tcp.skip_options(pkt, segment)
    assert pkt.cursor == len(pkt) == 74
    assert tcp.is_opening(segment) and tcp.segment_length(segment, ip.length - 20) == 1
    short = Packet(bytes(Tcp(src=1, dst=2, flags=2, offset=4)))
    with pytest.raises(Reject):
        tcp.skip_options(short, short.parse(Tcp))


@pytest.mark.parametrize(("flags", "opening", "legal"), [
    ("SYN", True, True), ("SYN ECE CWR", True, True), ("SYN ACK", False, True), ("ACK", False, True),
    ("ACK PSH", False, True), ("ACK FIN", False, True), ("RST", False, True), ("RST ACK", False, True),
    ("", False, False), ("FIN", False, False), ("SYN FIN", False, False), ("SYN RST", False, False),
    ("RST FIN ACK", False, False), ("FIN PSH URG", False, False), ("SYN ACK FIN", False, False),
])
def test_flags(flags: str, opening: bool, legal: bool) -> None:
    segment = Tcp(src=1, dst=2, flags=sum(TcpFlag[name] for name in flags.split()))
    assert tcp.is_opening(segment) is opening and tcp.has_legal_flags(segment) is legal


@pytest.mark.parametrize(("flags", "length"), [(0x10, 5), (0x02, 6), (0x11, 6), (0x12, 6), (0x03, 7)])
def test_what_a_segment_takes_of_the_sequence(flags: int, length: int) -> None:
    assert tcp.segment_length(Tcp(src=1, dst=2, flags=flags, offset=8), 37) == length


@given(st.integers(0, 0xffff_ffff), st.integers(0, 0xffff_ffff))
def test_the_circle(here: int, step: int) -> None:
    there = here + step & 0xffff_ffff
    assert tcp.distance(here, there) == step
    assert tcp.before(here, there) == (0 < step < 1 << 31)
    assert not (tcp.before(here, there) and tcp.before(there, here))
