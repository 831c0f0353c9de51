"""Rewriting under checksums, against a full recomputation that shares no code with it.

The one subtlety is the two zeros of ones' complement: what `rewrite` leaves must be the very value that a sender who
computes from scratch would put, not merely one that verifies.  The corners are driven on purpose.
"""
from __future__ import annotations

import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from iovisor.language import GuardedField, Header, Packet, StaleView, u8, u16, u32
from iovisor.wire import Icmp6Echo, IcmpEcho, IPv4, IPv6, Tcp, Udp


def checksum(data: bytes) -> int:
    """RFC 1071, as a sender computes it: 16 bits, carries one at a time."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + bytes(len(data) % 2)):
        total += word
        if total > 0xffff:
            total -= 0xffff
    return 0xffff - total


def addresses(ip: bytes) -> tuple[bytes, int]:
    """The pseudo-header's addresses, and where the transport begins."""
    return (ip[12:20], 20) if ip[0] >> 4 == 4 else (ip[8:40], 40)


def finished(ip: bytes, transport: bytes, proto: int, at: int, pseudo: bool, optional: bool) -> bytes:
    """An IP packet with every checksum computed from scratch."""
    if ip[0] >> 4 == 4:
        ip = ip[:10] + bytes(2) + ip[12:]
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    transport = transport[:at] + bytes(2) + transport[at + 2:]
    words = addresses(ip)[0] + struct.pack(">HH", proto, len(transport)) if pseudo else b""
    value = checksum(words + transport)
    if optional and value == 0:
        value = 0xffff
    return ip + transport[:at] + value.to_bytes(2, "big") + transport[at + 2:]


WORD16 = st.one_of(st.integers(0, 0xffff), st.sampled_from([0, 1, 0xfffe, 0xffff]))
WORD32 = st.one_of(st.integers(0, 0xffff_ffff), st.sampled_from([0, 1, 0xffff, 0xffff_0000, 0xffff_fffe, 0xffff_ffff]))
PAYLOAD = st.binary(max_size=9)

TRANSPORTS = [(Udp, 17, 6, True, True), (Tcp, 6, 16, True, False), (IcmpEcho, 1, 2, False, False)]


@given(st.sampled_from(TRANSPORTS), WORD32, WORD32, WORD32, WORD32, WORD16, WORD16, PAYLOAD, st.integers(1, 255))
def test_a_nat_over_ipv4(kind: tuple[type[Header], int, int, bool, bool], src: int, dst: int, new_src: int,
                         new_dst: int, port: int, new_port: int, payload: bytes, ttl: int) -> None:
    header, proto, at, pseudo, optional = kind
    ip = IPv4(length=20 + header.size + len(payload), proto=proto, src=src, dst=dst, ttl=ttl)
    transport = bytes(_transport(header, port)) + payload
    pkt = Packet(finished(bytes(ip), transport, proto, at, pseudo, optional))
    seen, under = pkt.parse(IPv4, header)
    pkt.rewrite(seen, under, src=new_src, dst=new_dst)
    pkt.rewrite(seen, ttl=ttl - 1)
    if header is IcmpEcho:
        pkt.rewrite(under, id=new_port)
    else:
        pkt.rewrite(under, src=new_port)
    ip = IPv4(length=ip.length, proto=proto, src=new_src, dst=new_dst, ttl=ttl - 1)
    transport = bytes(_transport(header, new_port)) + payload
    assert bytes(pkt) == finished(bytes(ip), transport, proto, at, pseudo, optional)


def _transport(kind: type[Header], port: int) -> Header:
    if kind is Udp:
        return Udp(src=port, dst=53, length=8)
    return Tcp(src=port, dst=80, flags=2) if kind is Tcp else IcmpEcho(type=8, id=port, sequence=1)


WORD128 = st.integers(0, (1 << 128) - 1)


@given(st.sampled_from([(Udp, 17, 6, True), (Tcp, 6, 16, False), (Icmp6Echo, 58, 2, False)]), WORD128, WORD128, WORD128,
       PAYLOAD)
def test_an_address_over_ipv6(kind: tuple[type[Header], int, int, bool], src: int, dst: int, new: int,
                              payload: bytes) -> None:
    header, proto, at, optional = kind
    transport = bytes(Icmp6Echo(type=128, id=7, sequence=1) if header is Icmp6Echo else _transport(header, 9)) + payload
    ip = IPv6(length=len(transport), next=proto, src=src, dst=dst)
    pkt = Packet(finished(bytes(ip), transport, proto, at, True, optional))
    seen, under = pkt.parse(IPv6, header)
    pkt.rewrite(seen, under, dst=new)
    expected = IPv6(length=len(transport), next=proto, src=src, dst=new)
    assert bytes(pkt) == finished(bytes(expected), transport, proto, at, True, optional)


@given(WORD16, WORD16)
@example(0, 0xffff)
@example(0xffff, 0)
def test_a_sum_that_comes_to_zero(first: int, second: int) -> None:
    """Choose the payload so that the new checksum is exactly zero: UDP must say 0xffff, TCP must say 0."""
    assume(first != second)
    for header, proto, at, optional in ((Udp, 17, 6, True), (Tcp, 6, 16, False)):
        ip = IPv4(length=22 + header.size, proto=proto, src=0x0a000001, dst=0x0a000002)
        wanted = bytes(_transport(header, second))
        missing = checksum(addresses(bytes(ip))[0] + struct.pack(">HH", proto, len(wanted) + 2) + wanted)
        pkt = Packet(finished(bytes(ip), bytes(_transport(header, first)) + missing.to_bytes(2, "big"), proto, at,
                              True, optional))
        _, under = pkt.parse(IPv4, header)
        pkt.rewrite(under, src=second)
        assert int.from_bytes(bytes(pkt)[20 + at:22 + at], "big") == (0xffff if optional else 0)


def test_a_udp_checksum_of_zero_stays_zero() -> None:
    ip = IPv4(length=28, proto=17, src=1, dst=2)
    pkt = Packet(bytes(ip) + bytes(Udp(src=1, dst=2, length=8)))
    seen, udp = pkt.parse(IPv4, Udp)
    pkt.rewrite(seen, udp, src=3)
    pkt.rewrite(udp, src=4)
    assert (udp.checksum, udp.src, seen.src) == (0, 4, 3)


def test_assigning_the_value_that_is_there_changes_nothing() -> None:
    datagram = bytes(Udp(src=1, dst=2, length=8))
    frame = finished(bytes(IPv4(length=28, proto=17, src=1, dst=2)), datagram, 17, 6, True, True)
    pkt = Packet(frame)
    ip, udp = pkt.parse(IPv4, Udp)
    pkt.rewrite(ip, udp, src=1, dst=2)
    pkt.rewrite(udp, dst=2)
    assert bytes(pkt) == frame


def test_values_are_cut_to_their_fields() -> None:
    pkt = Packet(finished(bytes(IPv4(length=28, proto=17, src=1, dst=2)), bytes(8), 17, 6, True, True))
    ip = pkt.parse(IPv4)
    pkt.rewrite(ip, ttl=0x1ff, dscp=0x7f)
    assert (ip.ttl, ip.dscp) == (0xff, 0x3f) and checksum(bytes(ip)) == 0


def test_what_a_rewrite_refuses() -> None:
    pkt = Packet(bytes(IPv4(length=20, proto=17, src=1, dst=2)))
    ip = pkt.parse(IPv4)
    before = bytes(pkt)
    with pytest.raises(GuardedField, match=r"IPv4.checksum follows from the other fields"):
        pkt.rewrite(ip, checksum=1)
    with pytest.raises(TypeError, match="IPv4 has no field 'source'"):
        pkt.rewrite(ip, source=1)
    assert bytes(pkt) == before
    with pytest.raises(GuardedField):
        ip.ttl = 1
    pkt.untag()
    with pytest.raises(StaleView):
        pkt.rewrite(ip, ttl=1)


class Plain(Header):
    a: u8
    b: u16
    c: u32


def test_a_header_without_a_checksum_is_only_assigned() -> None:
    pkt = Packet(bytes(7))
    plain = pkt.parse(Plain)
    pkt.rewrite(plain, a=1, c=2)
    assert bytes(pkt) == bytes([1, 0, 0, 0, 0, 0, 2])


@given(st.sampled_from([(Udp, 17, 6, True), (Tcp, 6, 16, False)]), WORD32, WORD32, st.integers(0, (1 << 128) - 1),
       WORD16, PAYLOAD)
def test_an_exchange_and_what_it_amends(kind: tuple[type[Header], int, int, bool], src: int, dst: int, far: int,
                                        port: int, payload: bytes) -> None:
    """From IPv4 to IPv6 with another pseudo-header, against a packet made from scratch."""
    header, proto, at, optional = kind
    length = header.size + len(payload)
    ip = bytes(IPv4(length=20 + length, proto=proto, src=src, dst=dst))
    transport = bytes(_transport(header, port)) + payload
    pkt = Packet(bytes(12) + b"\x08\0" + finished(ip, transport, proto, at, True, optional))
    new = pkt.exchange(20, IPv6)
    new.length, new.next, new.hops, new.src, new.dst = length, proto, 64, far, src
    before, after = ip[12:20], bytes(new)[8:40]
    change = sum(0xffff - word for (word,) in struct.iter_unpack(">H", before))
    change += sum(word for (word,) in struct.iter_unpack(">H", after))
    pkt.amend(pkt.parse(header), change)
    assert bytes(pkt)[14:] == finished(bytes(new), transport, proto, at, True, optional)


def test_what_an_amendment_is_of() -> None:
    pkt = Packet(bytes(60))
    with pytest.raises(TypeError, match="pseudo-header"):
        pkt.amend(pkt.parse(IcmpEcho), 1)
    udp = pkt.parse(Udp)
    with pytest.raises(ValueError, match="48 bits"):
        pkt.amend(udp, -1)
    pkt.amend(udp, 5)
    assert udp.checksum == 0, "UDP without a checksum stays without"
