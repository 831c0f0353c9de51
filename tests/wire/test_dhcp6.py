"""Messages of DHCPv6 against bytes written by hand after RFC 8415's figures, and whatever else may come."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import ipv6_address
from iovisor.wire import dhcp6
from iovisor.wire.dhcp6 import Association, Dhcp6, Dhcp6Option, Dhcp6Relayed, Lent, MalformedMessage

R = Dhcp6Option
ADDRESS = ipv6_address("2001:db8::5")
NA = bytes.fromhex("0003 0028 00000007 0000004b 00000078"
                   "0005 0018 20010db8000000000000000000000005 00000096 000000f0")
PD = bytes.fromhex("0019 0029 00000001 00000000 00000000"
                   "001a 0019 00000000 00000000 38 20010db8010000000000000000000000")
BOTH = [Association(R.IA_NA, 7, (Lent(ADDRESS, 128, 150, 240),), 75, 120),
        Association(R.IA_PD, 1, (Lent(ipv6_address("2001:db8:100::"), 56),))]


def test_heads() -> None:
    assert bytes(Dhcp6(type=1, id=0xabcdef)) == bytes.fromhex("01abcdef")
    head = Dhcp6Relayed.decode(bytes.fromhex("0c02 20010db8000000000000000000000005 fe80000000000000000000fffe000001"))
    assert (head.type, head.hops, head.link, head.peer) == (12, 2, ADDRESS, ipv6_address("fe80::ff:fe00:1"))


def test_associations() -> None:
    assert dhcp6.associations(dhcp6.decode(NA + PD)) == BOTH
    assert dhcp6.encode([one.option() for one in BOTH]) == NA + PD
    none = Association(R.IA_NA, 3, status=dhcp6.status(dhcp6.Status.NO_ADDRESSES, "no"))
    assert dhcp6.encode([none.option()]) == bytes.fromhex("0003 0014 00000003 00000000 00000000 000d 0004 0002 6e6f")
    assert dhcp6.associations([none.option()]) == [none]


def test_lists() -> None:
    assert dhcp6.addresses(R.NAME_SERVERS, [ADDRESS])[1] == ADDRESS.to_bytes(16, "big")
    assert dhcp6.names(R.SEARCH, ["eng.acme.test", "b."])[1] == b"\3eng\4acme\4test\0\1b\0"
    assert dhcp6.time_servers([ADDRESS]) == (56, b"\0\1\0\x10" + ADDRESS.to_bytes(16, "big"))
    assert dhcp6.wishes(dhcp6.decode(bytes.fromhex("0006 0004 0017 0018"))) == [23, 24]
    with pytest.raises(ValueError):
        dhcp6.names(R.SEARCH, ["a..b"])


def test_identifiers() -> None:
    mac = 0x02_00_00_00_00_07
    assert dhcp6.duid_of(mac) == bytes.fromhex("0003 0001 020000000007")
    assert dhcp6.hardware_of(dhcp6.duid_of(mac)) == mac
    assert dhcp6.hardware_of(bytes.fromhex("0001 0001 32a07467 020000000007")) == mac
    for other in ("", "0003", "0003 0006 020000000007", "0003 0001 0200000000", "0004" + "00" * 16,
                  "0002 0000 0009 0cc084d303000912"):
        assert dhcp6.hardware_of(bytes.fromhex(other)) == 0


@pytest.mark.parametrize(("data", "said"), [
    ("0003", "without a length"), ("0003 0001", "does not end"), ("0001 0000 0001 0000", "twice"),
    ("0006 0000 0006 0000", "twice")])
def test_options_that_are_none(data: str, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        dhcp6.decode(bytes.fromhex(data))


@pytest.mark.parametrize(("data", "said"), [
    ("0003 0004 00000001", "cut short"), ("0003 000c" + "00" * 12 + "0003 000c" + "00" * 12, "twice"),
    ("0003 000e" + "00" * 14, "without a length"), ("0003 0010" + "00" * 12 + "0005 0000", "address is cut"),
    ("0019 0029" + "00" * 12 + "001a 0019" + "00" * 8 + "81" + "00" * 16, "longer than an address")])
def test_associations_that_are_none(data: str, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        dhcp6.associations(dhcp6.decode(bytes.fromhex(data)))


def test_options_that_may_repeat() -> None:
    assert dhcp6.decode(NA + PD + NA)[2][0] == R.IA_NA
    assert dhcp6.first(dhcp6.decode(bytes.fromhex("0011 0001 01 0011 0001 02")), 17) == b"\1"


pairs = st.lists(st.tuples(st.integers(0, 0xffff).filter(lambda code: code not in dhcp6.ONCE), st.binary(max_size=40)),
                 max_size=8)


@given(pairs)
def test_what_is_written_is_read(options: list[tuple[int, bytes]]) -> None:
    assert dhcp6.decode(dhcp6.encode(options)) == options


@given(st.binary(max_size=200))
def test_whatever_comes_is_options_or_malformed(data: bytes) -> None:
    """And what is read is all that there was."""
    try:
        found = dhcp6.decode(data)
    except MalformedMessage:
        return
    assert dhcp6.encode(found) == data


@given(st.binary(max_size=120), st.integers(0, 200), st.sampled_from([NA + PD, NA, PD]))
def test_whatever_comes_is_associations_or_malformed(noise: bytes, at: int, whole: bytes) -> None:
    data = whole[:at] + noise + whole[at + len(noise):]
    try:
        found = dhcp6.associations(dhcp6.decode(data))
        dhcp6.wishes(dhcp6.decode(data))
    except MalformedMessage:
        return
    assert all(0 <= one.length <= 128 for association in found for one in association.lent)


@given(st.binary(max_size=120), st.integers(0, 150), st.integers(0, 9))
def test_whatever_comes_is_wrapped_or_malformed(noise: bytes, at: int, depth: int) -> None:
    message = b"\1abc" + NA
    for hops in range(depth):
        head = Dhcp6Relayed(type=12, hops=min(hops, 8), link=0, peer=hops)
        message = bytes(head) + dhcp6.encode([(R.INTERFACE, bytes([hops])), (R.RELAYED, message)])
    found, inner = dhcp6.unwrapped(message)
    assert (len(found), inner) == (depth, b"\1abc" + NA)
    try:
        found, inner = dhcp6.unwrapped(message[:at] + noise + message[at + len(noise):])
    except MalformedMessage:
        return
    assert len(found) <= 9 and inner[:1] != b"\x0c"
