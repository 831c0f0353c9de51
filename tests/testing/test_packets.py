"""Packet builders: what they fill in, and that what they print builds the same bytes again."""
from __future__ import annotations

from random import Random

import pytest
from hypothesis import given

from iovisor.language import Header, Packet, u8, u16
from iovisor.testing import Frame, describe, packets
from iovisor.testing.bulk import changed, tagged, valid
from iovisor.testing.packets import (
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
    raw,
    tcp,
    trailer,
    udp,
    vlan,
)
from iovisor.testing.strategies import frames as any_frames
from iovisor.wire import Ethernet, IPv4, IPv6, Udp
from iovisor.wire import checksum as sums
from tests.wire import frames as linux

LINUX = {name: frame for name, frame in vars(linux).items() if name.isupper() and isinstance(frame, bytes)}
NAMES = {name: getattr(packets, name) for name in packets.__all__}


def rebuilt(text: str) -> bytes:
    return bytes(eval(text, dict(NAMES)))


@pytest.mark.parametrize("name", LINUX)
def test_what_linux_sent_is_built_again(name: str) -> None:
    """And of what Linux filled in itself, checksums above all, nothing needs to be said."""
    text = describe(LINUX[name])
    assert rebuilt(text) == LINUX[name]
    assert text.startswith("ethernet(")
    if name != "FIRST6":        # a datagram's checksum covers more than its first fragment
        assert "checksum" not in text


def test_it_reads_like_the_packet() -> None:
    frame = ethernet(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a") \
        / ipv4(id=0xcbeb, df=1, src="10.0.0.1", dst="10.0.0.2") / udp(src=0x9c40, dst=53) / b"hello"
    assert bytes(frame) == linux.UDP4
    assert repr(frame) == ("ethernet(dst='02:00:00:00:00:0b', src='02:00:00:00:00:0a') / ipv4(id=0xcbeb, df=1, "
                           "src='10.0.0.1', dst='10.0.0.2') / udp(src=0x9c40, dst=53) / b'hello'")
    assert frame == linux.UDP4 and len(frame) == len(linux.UDP4)


def test_what_is_given_stays() -> None:
    wrong = bytes(ethernet() / ipv4(length=7, checksum=0x1234, proto=99) / udp(checksum=0, length=3))
    ip, transport = IPv4.decode(wrong[14:]), Udp.decode(wrong[34:])
    assert (ip.length, ip.checksum, ip.proto, transport.checksum, transport.length) == (7, 0x1234, 99, 0, 3)
    assert rebuilt(describe(wrong)) == wrong


def test_lengths_and_numbers_follow() -> None:
    data = bytes(ethernet() / vlan(vid=5) / ipv6(src=1, dst=2) / hop_by_hop() / destination(options=bytes(14)) / udp()
                 / b"x" / trailer(9))
    ip = IPv6.decode(data[18:])
    assert Ethernet.decode(data).type == 0x8100 and data[16:18] == b"\x86\xdd"
    assert (ip.next, ip.length) == (0, 8 + 16 + 8 + 1)
    assert data[58:60] == b"\x3c\0" and data[66:68] == b"\x11\1"
    assert len(data) == 18 + 40 + 33 + 9


def test_checksums_are_right_by_the_other_implementation() -> None:
    pkt = Packet(bytes(ethernet() / ipv4(src=1, dst=2, options=b"\1\1\1") / udp(src=3, dst=4) / b"odd"))
    pkt.parse(Ethernet)
    ip = pkt.parse(IPv4)
    assert ip.ihl == 6 and sums.ipv4_is_right(pkt, ip)
    pkt.skip(4)
    transport = pkt.parse(Udp)
    total = sums.pseudo_ipv4(ip.src, ip.dst, 17, 11) + sums.of_udp(transport) + sums.of_bytes(pkt, 3)
    assert sums.is_right(total)


def test_a_sum_of_zero_is_sent_as_ones() -> None:
    def checksum(port: int) -> int:
        return Udp.decode(bytes(ipv4() / udp(src=port))[20:]).checksum

    base = checksum(0)
    assert checksum(base) == 0xffff         # the complement's complement: a sum of all ones


class Probe(Header):
    kind: u8
    reply: u8 = 0
    serial: u16


def test_a_header_of_your_own() -> None:
    frame = ethernet(type=0x88b6) / layer(Probe, serial=7)
    assert bytes(frame)[12:] == bytes.fromhex("88b6 00 00 0007")
    assert repr(frame) == "ethernet(type=0x88b6) / layer(Probe, serial=7)"
    with pytest.raises(TypeError, match="no field 'serail'"):
        layer(Probe, serail=7)


@pytest.mark.parametrize("frame", [
    raw(b""), raw(b"short"), ethernet() / b"", ethernet(type=0x8100) / b"x", ipv4() / udp(),
    ethernet() / arp(sender_ip="10.0.0.1") / trailer(18), ethernet() / ipv4(mf=1, offset=3) / b"later part",
    ethernet() / ipv6() / extension(51, options=bytes(10), length=1) / icmp6(type=128) / b"abc",
    ethernet() / ipv6() / fragment(offset=0, more=1) / tcp(flags=2, options=b"\2\4\5\xb4"),
    ethernet() / ipv4() / icmp(),
    ethernet() / ipv4() / ipv6() / ipv4() / tcp()], ids=repr)
def test_odd_frames_come_back(frame: Frame) -> None:
    assert rebuilt(describe(bytes(frame))) == bytes(frame)


@given(any_frames())
def test_any_bytes_come_back(data: bytes) -> None:
    assert rebuilt(describe(data)) == data


def test_a_thousand_broken_frames_come_back() -> None:
    random = Random(1)
    for _ in range(1_000):
        data = changed(random, tagged(random, bytes(valid(random))))
        assert rebuilt(describe(data)) == data
