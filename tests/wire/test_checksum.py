"""The checksum library against RFC vectors, Linux's frames, and a computation that shares no code with it."""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iovisor.language import Dropped, Header, Packet, Reject
from iovisor.wire import (
    AddressOption,
    Ethernet,
    Icmp,
    Icmp6,
    IpProtocol,
    IPv4,
    IPv6,
    NeighborAdvertisement,
    Tcp,
    Udp,
    checksum,
    ipv4,
    ipv6,
)
from tests.wire import frames
from tests.wire.frames import A4, A6, B4, B6


def independent(data: bytes) -> int:
    """RFC 1071, carries one at a time; the sum, not its complement."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + bytes(len(data) % 2)):
        total += word
        if total > 0xffff:
            total -= 0xffff
    return total

# -- arithmetic


def test_the_example_of_rfc_1071() -> None:
    """Section 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2, after carries."""
    pkt = Packet(bytes.fromhex("0001f203f4f5f6f7"))
    total = checksum.of_bytes(pkt, 8)
    assert (checksum.fold(total), checksum.finish(total)) == (0xddf2, 0x220d)


def test_the_example_of_rfc_1624() -> None:
    """Section 4: a word of 5555 becomes 3285 under dd2f, and the checksum 0000, not ffff."""
    assert checksum.adjusted(0xdd2f, 0x5555, 0x3285) == 0


@given(st.integers(0, (1 << 64) - 1))
@example((1 << 64) - 1)
@example(0xffff)
@example(0x1_0000_0000)
def test_a_fold_is_the_remainder_but_for_zero(total: int) -> None:
    expected = total % 0xffff or (0xffff if total else 0)
    assert checksum.fold(total) == expected
    assert checksum.finish(total) == 0xffff - expected
    assert checksum.finish_udp(total) == (0xffff - expected or 0xffff)
    assert checksum.is_right(total) == (expected == 0xffff)


@given(st.integers(0, 0xffff), st.integers(0, 0xffff))
@example(0xffff, 0xffff)
@example(0xffff, 1)
def test_addition(left: int, right: int) -> None:
    assert checksum.add(left, right) == checksum.fold(left + right)


@given(st.binary(min_size=8, max_size=40), st.integers(0, 0xffff_ffff), st.integers(0, 1000))
def test_adjusting_is_recomputing(data: bytes, new: int, at: int) -> None:
    data = data[:len(data) & ~3]
    at = at * 4 % len(data)
    changed = data[:at] + new.to_bytes(4, "big") + data[at + 4:]
    if not any(data) or not any(changed):
        return
    before, after = 0xffff - independent(data), 0xffff - independent(changed)
    assert checksum.adjusted32(before, int.from_bytes(data[at:at + 4], "big"), new) == after
    half = data[:at] + new.to_bytes(4, "big")[:2] + data[at + 2:]
    if any(half):
        old = int.from_bytes(data[at:at + 2], "big")
        assert checksum.adjusted(before, old, new >> 16) == 0xffff - independent(half)

# -- sums


@given(st.binary(max_size=150), st.integers(0, 70), st.integers(0, 150))
def test_any_bytes(data: bytes, offset: int, length: int) -> None:
    pkt = Packet(b"\xee\xee" + data)
    pkt.skip(2)
    if offset + length > len(data) and length:
        with pytest.raises(Reject) as caught:
            checksum.of_bytes(pkt, length, offset)
        assert caught.value.reason == Dropped.TRUNCATED
    else:
        assert checksum.fold(checksum.of_bytes(pkt, length, offset)) == independent(data[offset:offset + length])


def test_too_many_bytes_reject() -> None:
    pkt = Packet(b"\xff" * 2049)
    assert checksum.of_bytes(pkt, 2048) == 0xffff
    with pytest.raises(Reject) as caught:
        checksum.of_bytes(pkt, 2049)
    assert caught.value.reason == Dropped.REQUIRED


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1), st.integers(0, 255), st.integers(0, 0xffff))
def test_pseudo_headers(src: int, dst: int, proto: int, length: int) -> None:
    six = src.to_bytes(16, "big") + dst.to_bytes(16, "big") + struct.pack(">II", length, proto)
    assert checksum.fold(checksum.pseudo_ipv6(src, dst, proto, length)) == independent(six)
    four = six[:4] + six[16:20] + struct.pack(">HH", proto, length)
    assert checksum.fold(checksum.pseudo_ipv4(src >> 96, dst >> 96, proto, length)) == independent(four)


SUMS = [(IPv4, checksum.of_ipv4), (Icmp, checksum.of_icmp), (Icmp6, checksum.of_icmp6), (Udp, checksum.of_udp),
        (Tcp, checksum.of_tcp), (NeighborAdvertisement, checksum.of_advertisement),
        (AddressOption, checksum.of_address_option)]


@pytest.mark.parametrize(("kind", "total"), SUMS)
@given(data=st.binary(min_size=24, max_size=24))
def test_the_sum_of_a_header(kind: type[Header], total: Callable[[Any], int], data: bytes) -> None:
    assert checksum.fold(total(kind.decode(data))) == independent(data[:kind.size])

# -- Linux's own


def verify(frame: bytes) -> bool:
    """Whether IP header and transport of a frame are right, by the library alone."""
    pkt = Packet(frame)
    eth = pkt.parse(Ethernet)
    if eth.type == 0x0806:
        return True
    if eth.type == 0x0800:
        ip = pkt.parse(IPv4)
        if not checksum.ipv4_is_right(pkt, ip):
            return False
        ipv4.skip_options(pkt, ip)
        length = ipv4.payload_length(ip)
        pseudo = 0 if ip.proto == IpProtocol.ICMP else checksum.pseudo_ipv4(ip.src, ip.dst, ip.proto, length)
        return checksum.is_right(pseudo + checksum.of_bytes(pkt, length))
    six = pkt.parse(IPv6)
    proto, _, _ = ipv6.skip_extensions(pkt, six)
    length = six.length - (pkt.cursor - 54)
    return checksum.is_right(checksum.pseudo_ipv6(six.src, six.dst, proto, length) + checksum.of_bytes(pkt, length))


@pytest.mark.parametrize("name", frames.WHOLE)
def test_what_linux_sends_is_right(name: str) -> None:
    assert verify(frames.WHOLE[name])


@pytest.mark.parametrize("name", sorted(frames.WHOLE.keys() - {"ARP_REQUEST", "ARP_REPLY"}))
def test_what_was_damaged_is_not(name: str) -> None:
    """Any one bit of the last byte, of an address, or of the transport's first."""
    frame = frames.WHOLE[name]
    for at in (len(frame) - 1, 29, 34 if frame[12] == 8 else 54):
        for bit in range(8):
            # A changed length of extension sends the walk elsewhere, which is another test's business.
            if name in ("EXTENSIONS6", "LISTENER6") and at == 54:
                continue
            damaged = bytearray(frame)
            damaged[at] ^= 1 << bit
            assert not verify(bytes(damaged))


def test_the_header_in_the_books() -> None:
    ip = IPv4(length=115, df=1, proto=17, src=0xc0a80001, dst=0xc0a800c7)
    checksum.ipv4_header(ip)
    assert ip.checksum == 0xb861

# -- filling what was pushed


@pytest.mark.parametrize(("frame", "kind", "fill"), [
    (frames.UDP4, Udp, checksum.udp_ipv4), (frames.SYN4, Tcp, checksum.tcp_ipv4),
    (frames.RESET4, Tcp, checksum.tcp_ipv4), (frames.UDP6, Udp, checksum.udp_ipv6),
    (frames.ECHO6, Icmp6, checksum.icmp6), (frames.UNREACHABLE6, Icmp6, checksum.icmp6),
])
def test_pushed_headers_get_linuxs_checksum(frame: bytes, kind: type[Any], fill: Callable[..., None]) -> None:
    six = frame[12:14] == b"\x86\xdd"
    network: type[Any] = IPv6 if six else IPv4
    at = 14 + network.size
    payload = frame[at + kind.size:]
    pkt = Packet(payload)
    pushed: tuple[Ethernet, Any, Any] = pkt.push(Ethernet, network, kind)
    _, ip, transport = pushed
    for header, original in ((ip, frame[14:at]), (transport, frame[at:])):
        for name in header.fields:
            setattr(header, name, getattr(type(header).decode(original), name))
    transport.checksum = 0xdead
    fill(pkt, ip, transport, len(payload))
    if not six:
        ip.checksum = 0xdead
        checksum.ipv4_header(ip)
    assert bytes(pkt)[14:] == frame[14:]


@pytest.mark.parametrize("frame", [frames.ECHO4, frames.ECHO_REPLY4, frames.UNREACHABLE4])
def test_pushed_icmp_gets_linuxs_checksum(frame: bytes) -> None:
    pkt = Packet(frame[42:])
    header = pkt.push(Icmp)
    original = Icmp.decode(frame[34:42])
    header.type, header.code, header.rest = original.type, original.code, original.rest
    checksum.icmp(pkt, header, len(frame) - 42)
    assert bytes(pkt) == frame[34:]


def test_a_pushed_advertisement_is_linuxs() -> None:
    pkt = Packet(b"")
    eth, ip, message, option = pkt.push(Ethernet, IPv6, NeighborAdvertisement, AddressOption)
    eth.dst, eth.src, eth.type = frames.A, frames.B, 0x86dd
    ipv6.fill(ip, src=B6, dst=A6, next=IpProtocol.ICMP6, payload=32, hops=255)
    message.type, message.solicited, message.override, message.target = 136, 1, 1, B6
    option.type, option.length, option.address = 2, 1, frames.B
    checksum.advertisement(ip, message, option)
    assert bytes(pkt) == frames.ADVERTISEMENT6


@given(st.binary(max_size=40), st.integers(0, 0xffff))
def test_a_pushed_udp_checksum_is_never_zero(payload: bytes, src: int) -> None:
    """The source port is chosen so that the sum comes to zero, which UDP must send as 0xffff."""
    length = 8 + len(payload)
    known = struct.pack(">IIHHHHH", A4, B4, 17, length, 0, 53, length) + payload
    for port in (src, 0xffff - independent(known)):
        pkt = Packet(payload)
        ip, udp = pkt.push(IPv4, Udp)
        ipv4.fill(ip, A4, B4, 17, length)
        udp.src, udp.dst, udp.length = port, 53, length
        checksum.udp_ipv4(pkt, ip, udp, len(payload))
        expected = 0xffff - independent(known[:12] + struct.pack(">H", port) + known[14:])
        assert udp.checksum == (expected or 0xffff) != 0
