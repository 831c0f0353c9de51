"""IPv4 and IPv6: options, fragments, chains of extensions, and kinds of address."""
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import Dropped, Packet, Reject, ipv4_address, ipv6_address, mac_address
from iovisor.wire import Ethernet, IpProtocol, IPv4, IPv6, Udp, ipv4, ipv6
from tests.wire import frames
from tests.wire.frames import A4, A6, B4, B6

# -- IPv4


def test_options_are_skipped() -> None:
    pkt = Packet(frames.OPTIONS4)
    _, ip = pkt.parse(Ethernet, IPv4)
    ipv4.skip_options(pkt, ip)
    udp = pkt.parse(Udp)
    assert (udp.src, udp.dst, udp.length, ipv4.payload_length(ip)) == (40003, 56, 10, 10)


@pytest.mark.parametrize("ihl", range(16))
def test_a_header_cannot_be_shorter_than_itself(ihl: int) -> None:
    pkt = Packet(bytes(IPv4(ihl=ihl, length=60, proto=17, src=1, dst=2)))
    ip = pkt.parse(IPv4)
    if ihl < 5:
        with pytest.raises(Reject) as caught:
            ipv4.skip_options(pkt, ip)
        assert caught.value.reason == Dropped.TRUNCATED
    else:
        ipv4.skip_options(pkt, ip)
        assert pkt.cursor == ihl * 4
    assert ipv4.is_sane(ip) == (ihl >= 5)


@pytest.mark.parametrize(("version", "ihl", "length", "sane"), [
    (4, 5, 20, True), (4, 5, 19, False), (4, 15, 59, False), (4, 15, 60, True), (6, 5, 20, False)])
def test_a_header_that_contradicts_itself(version: int, ihl: int, length: int, sane: bool) -> None:
    ip = IPv4(version=version, ihl=ihl, length=length, proto=1, src=1, dst=2)
    assert ipv4.is_sane(ip) is sane and ipv4.payload_length(ip) == length - 4 * ihl


@pytest.mark.parametrize(("mf", "offset", "fragment", "first", "tiny"), [
    (0, 0, False, True, False), (1, 0, True, True, False), (1, 1, True, False, True), (0, 185, True, False, False)])
def test_fragments(mf: int, offset: int, fragment: bool, first: bool, tiny: bool) -> None:
    ip = IPv4(length=40, proto=6, src=1, dst=2, mf=mf, offset=offset, df=1)
    assert (ipv4.is_fragment(ip), ipv4.is_first(ip), ipv4.is_tiny_fragment(ip)) == (fragment, first, tiny)


def test_one_hop_less_as_linux_does_it() -> None:
    pkt = Packet(frames.UDP4)
    _, ip = pkt.parse(Ethernet, IPv4)
    ipv4.decrement_ttl(pkt, ip)
    assert (ip.ttl, ip.checksum) == (63, 0x5bde)


@pytest.mark.parametrize(("text", "multicast", "local", "martian"), [
    ("224.0.0.1", True, True, True), ("224.0.1.1", True, False, True), ("239.255.255.255", True, False, True),
    ("240.0.0.1", False, False, True), ("255.255.255.255", False, False, True), ("0.0.0.0", False, False, True),
    ("127.0.0.1", False, False, True), ("10.0.0.1", False, False, False), ("223.255.255.255", False, False, False),
    ("169.254.1.1", False, False, False),
])
def test_kinds_of_ipv4_address(text: str, multicast: bool, local: bool, martian: bool) -> None:
    address = ipv4_address(text)
    assert ipv4.is_multicast(address) is multicast and ipv4.is_local_multicast(address) is local
    assert ipv4.is_martian_source(address) is martian


@given(st.integers(0, 0xffff_ffff))
def test_kinds_of_ipv4_address_as_the_standard_library_has_them(address: int) -> None:
    known = ipaddress.IPv4Address(address)
    assert ipv4.is_multicast(address) == known.is_multicast
    assert ipv4.is_loopback(address) == known.is_loopback
    assert ipv4.is_link_local(address) == known.is_link_local


def test_ethernet_addresses_of_ipv4_groups() -> None:
    assert ipv4.multicast_mac(ipv4_address("239.129.2.3")) == mac_address("01:00:5e:01:02:03")
    assert ipv4.multicast_mac(ipv4_address("224.0.0.251")) == mac_address("01:00:5e:00:00:fb")
    assert ipv4.is_multicast_mac(mac_address("01:00:5e:7f:ff:ff"))
    assert not ipv4.is_multicast_mac(mac_address("01:00:5e:80:00:00"))
    assert not ipv4.is_multicast_mac(mac_address("33:33:00:00:00:01"))


def test_filling_a_pushed_header() -> None:
    pkt = Packet(b"payload")
    ip = pkt.push(IPv4)
    ipv4.fill(ip, src=A4, dst=B4, proto=17, payload=7, ttl=9, dscp=10, ecn=1, df=1, id=5)
    assert bytes(ip) == bytes(IPv4(length=27, proto=17, src=A4, dst=B4, ttl=9, dscp=10, ecn=1, df=1, id=5))
    six = Packet(b"payload").push(IPv6)
    ipv6.fill(six, src=A6, dst=B6, next=17, payload=7, flow=5, ecn=2, dscp=46)
    assert bytes(six) == bytes(IPv6(length=7, next=17, src=A6, dst=B6, flow=5, ecn=2, dscp=46))

# -- IPv6


def walk(frame: bytes) -> tuple[tuple[int, int, int], int]:
    pkt = Packet(frame)
    _, ip = pkt.parse(Ethernet, IPv6)
    return ipv6.skip_extensions(pkt, ip), pkt.cursor


@pytest.mark.parametrize(("frame", "expected", "cursor"), [
    (frames.UDP6, (IpProtocol.UDP, 0, 0), 54),
    (frames.EXTENSIONS6, (IpProtocol.UDP, 0, 0), 70),
    (frames.FIRST6, (IpProtocol.UDP, 0, 1), 62),
    (frames.LATER6, (IpProtocol.UDP, 181, 0), 62),
    (frames.LISTENER6, (IpProtocol.ICMP6, 0, 0), 62),
])
def test_walking_what_linux_sends(frame: bytes, expected: tuple[int, int, int], cursor: int) -> None:
    assert walk(frame) == (expected, cursor)


def chain(*headers: tuple[int, bytes]) -> bytes:
    """A packet of extensions, each its number and its bytes from the second on; the last number is the transport."""
    numbers = [number for number, _ in headers]
    body = b"".join(bytes([after]) + data for after, (_, data) in zip(numbers[1:], headers, strict=False))
    return bytes(14) + bytes(IPv6(length=len(body), next=numbers[0], src=1, dst=2)) + body


HOP, ROUTING, DESTINATION = (0, bytes([1]) + bytes(14)), (43, bytes([0]) + bytes(6)), (60, bytes([0]) + bytes(6))
AUTHENTICATION = (51, bytes([4]) + bytes(22))       # 24 bytes: four words, and two that do not count
UDP, ESP, NOTHING = (17, b""), (50, b""), (59, b"")


def fragment(offset: int, more: int) -> tuple[int, bytes]:
    return 44, bytes([0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4)


@pytest.mark.parametrize(("frame", "proto", "offset", "more", "length"), [
    (chain(HOP, DESTINATION, ROUTING, UDP), 17, 0, 0, 32),
    (chain(AUTHENTICATION, DESTINATION, UDP), 17, 0, 0, 32),
    (chain(HOP, fragment(0, 1), DESTINATION, UDP), 17, 0, 1, 32),
    (chain(HOP, fragment(0, 0), UDP), 17, 0, 0, 24),          # atomic (RFC 6946)
    (chain(HOP, fragment(7, 1), DESTINATION, UDP), 60, 7, 1, 24),
    (chain(DESTINATION, ESP), 50, 0, 0, 8),
    (chain(NOTHING), 59, 0, 0, 0),
    (chain(*[DESTINATION] * 6, UDP), 17, 0, 0, 48),
    (chain(*[DESTINATION] * 7, UDP), 60, 0, 0, 48),           # one too many
])
def test_chains(frame: bytes, proto: int, offset: int, more: int, length: int) -> None:
    assert walk(frame) == ((proto, offset, more), 54 + length)
    assert ipv6.is_extension(walk(frame)[0][0]) == (proto == 60)


def test_a_chain_that_is_cut_off_rejects() -> None:
    for length in range(54, 62):
        pkt = Packet(chain(HOP, UDP)[:length] if length < 56 else chain(HOP, HOP, UDP)[:length])
        _, ip = pkt.parse(Ethernet, IPv6)
        with pytest.raises(Reject):
            ipv6.skip_extensions(pkt, ip)
            pkt.parse(Udp)


@given(st.lists(st.sampled_from([HOP, ROUTING, DESTINATION, AUTHENTICATION]), max_size=6),
       st.sampled_from([6, 17, 58, 50, 132]))
def test_any_chain_ends_at_its_transport(extensions: list[tuple[int, bytes]], transport: int) -> None:
    length = sum(1 + len(data) for _, data in extensions)
    assert walk(chain(*extensions, (transport, b""))) == ((transport, 0, 0), 54 + length)


@given(st.integers(0, (1 << 128) - 1), st.sampled_from([0, 0xfe80 << 112, 0xff02 << 112, 0xfe81 << 112, 1]))
def test_kinds_of_ipv6_address_as_the_standard_library_has_them(drawn: int, high: int) -> None:
    for address in (drawn, high | drawn & 0xffff, high):
        known = ipaddress.IPv6Address(address)
        assert ipv6.is_multicast(address) == known.is_multicast
        assert ipv6.is_link_local(address) == known.is_link_local
        assert ipv6.is_martian_source(address) == (known.is_multicast or known.is_loopback or known.is_unspecified)


def test_addresses_made_from_addresses() -> None:
    assert ipv6.solicited_node(ipv6_address("2001:db8::4a:2bcd:ef12")) == ipv6_address("ff02::1:ffcd:ef12")
    assert ipv6.multicast_mac(ipv6_address("ff02::1:ffcd:ef12")) == mac_address("33:33:ff:cd:ef:12")
    # RFC 4291 appendix A: 34-56-78-9a-bc-de
    assert ipv6.interface_identifier(mac_address("34:56:78:9a:bc:de")) == 0x3656_78ff_fe9a_bcde
    assert ipv6.link_local(frames.A) == frames.LINK_A
    assert ipv6_address("ff02::1") == ipv6.ALL_NODES and ipv6_address("ff02::2") == ipv6.ALL_ROUTERS
    assert ipv6.scope_of(ipv6.ALL_NODES) == 2 and ipv6.scope_of(ipv6_address("ff0e::1")) == 14


def test_a_sane_ipv6_header() -> None:
    ip = IPv6(length=0, next=59, src=A6, dst=B6)
    assert ipv6.is_sane(ip)
    assert not ipv6.is_sane(IPv6(version=4, length=0, next=59, src=A6, dst=B6))
    assert not ipv6.is_sane(IPv6(length=0, next=59, src=ipv6.ALL_NODES, dst=B6))
