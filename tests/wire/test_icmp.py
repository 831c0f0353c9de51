"""ICMP, ICMPv6 and neighbor discovery: kinds of message, and options found among others."""
from __future__ import annotations

import pytest

from iovisor.language import Dropped, Packet, Reject
from iovisor.wire import (
    AddressOption,
    Ethernet,
    Icmp,
    Icmp6,
    IcmpType,
    IPv6,
    MtuOption,
    NeighborSolicitation,
    Option,
    OptionType,
    RouterSolicitation,
    icmp,
    icmp6,
    neighbor,
)
from tests.wire import frames


def test_errors_and_queries() -> None:
    assert {t for t in range(256) if icmp.is_error(t)} == {3, 4, 5, 11, 12}
    assert {t for t in range(256) if icmp.is_query(t)} == {0, 8, 13, 14}
    assert {t for t in range(256) if icmp6.is_error(t)} == set(range(128))
    assert {t for t in range(256) if icmp6.is_discovery(t)} == {133, 134, 135, 136, 137}


def test_filling_a_pushed_header() -> None:
    pushed = Packet(b"").push(Icmp)
    icmp.fill(pushed, IcmpType.ECHO_REPLY, rest=0x00070001)
    assert bytes(pushed) == bytes(Icmp(type=0, rest=0x00070001))
    six = Packet(b"").push(Icmp6)
    icmp6.fill(six, 2, rest=1280)
    assert bytes(six) == bytes.fromhex("0200 0000 00000500")


def test_the_address_linux_gives() -> None:
    for frame, kind, wanted, found in (
            (frames.SOLICITATION6, NeighborSolicitation, OptionType.SOURCE_ADDRESS, frames.A),
            (frames.ADVERTISEMENT6, NeighborSolicitation, OptionType.TARGET_ADDRESS, frames.B),
            (frames.ROUTERS6, RouterSolicitation, OptionType.SOURCE_ADDRESS, frames.A),
            (frames.DETECTION6, NeighborSolicitation, OptionType.SOURCE_ADDRESS, 0)):
        pkt = Packet(frame)
        pkt.parse(Ethernet, IPv6, kind)
        assert neighbor.link_layer_address(pkt, wanted) == found


WANTED = bytes(AddressOption(type=1, address=frames.A))
OTHER = bytes(MtuOption(mtu=1500))


@pytest.mark.parametrize(("options", "found"), [
    (b"", 0), (WANTED, frames.A), (OTHER, 0), (OTHER + WANTED, frames.A), (OTHER * 5 + WANTED, frames.A),
    (OTHER * 6 + WANTED, 0), (bytes([1, 2]) + bytes(14) + WANTED, frames.A), (bytes([7, 255]) + bytes(6), 0),
    (WANTED[:7], 0),
])
def test_an_option_among_others(options: bytes, found: int) -> None:
    assert neighbor.link_layer_address(Packet(options), OptionType.SOURCE_ADDRESS) == found


def test_an_option_without_length_rejects() -> None:
    with pytest.raises(Reject) as caught:
        neighbor.link_layer_address(Packet(bytes(Option(type=9, length=0)) + bytes(6)), OptionType.SOURCE_ADDRESS)
    assert caught.value.reason == Dropped.REQUIRED


@pytest.mark.parametrize(("hops", "code", "valid"), [(255, 0, True), (254, 0, False), (255, 1, False)])
def test_a_message_that_a_router_passed_is_not_valid(hops: int, code: int, valid: bool) -> None:
    ip = IPv6(length=8, next=58, src=1, dst=2, hops=hops)
    assert neighbor.is_valid(ip, Icmp6(type=133, code=code)) is valid
