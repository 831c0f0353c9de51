"""Addresses and durations, from what people write and back."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import (
    SECOND,
    Prefix,
    data_rate,
    data_rate_text,
    duration,
    duration_text,
    ipv4_address,
    ipv4_text,
    ipv6_address,
    ipv6_text,
    mac_address,
    mac_text,
    prefix,
)


def test_known_values() -> None:
    assert mac_address("02:00:00:00:00:01") == mac_address("02-00-00-00-00-01") == 0x020000000001
    assert mac_text(0xAABBCCDDEEFF) == "aa:bb:cc:dd:ee:ff"
    assert (ipv4_address("10.0.0.1"), ipv4_text(0xffffffff)) == (0x0a000001, "255.255.255.255")
    assert (ipv6_address("2001:db8::1"), ipv6_text(0x20010db8 << 96 | 1)) == (0x20010db8 << 96 | 1, "2001:db8::1")
    assert ipv6_text(0x20010db8_00000000_00010000_00000001) == "2001:db8::1:0:0:1", "RFC 5952 section 4.2.3"


@pytest.mark.parametrize(("text", "value", "back"), [
    ("300s", 300 * SECOND, "5m"), ("1.5m", 90 * SECOND, "90s"),
    ("2h", 7200 * SECOND, "2h"), ("1d", 86400 * SECOND, "1d"),
    ("0s", 0, "0ns"), ("250 ms", SECOND // 4, "250ms"), ("7us", 7000, "7us"), ("3ns", 3, "3ns"),
    (" 24h ", 86400 * SECOND, "1d"),
])
def test_durations(text: str, value: int, back: str) -> None:
    assert (duration(text), duration_text(value), duration(back)) == (value, back, value)


@pytest.mark.parametrize(("text", "value", "back"), [
    ("50M", 50_000_000, "50M"), ("1.5Gbit/s", 1_500_000_000, "1500M"), ("64 k", 64_000, "64k"), ("0", 0, "0"),
    ("10Gbps", 10**10, "10G"), ("1500", 1_500, "1500"),
])
def test_rates(text: str, value: int, back: str) -> None:
    assert (data_rate(text), data_rate_text(value), data_rate(back)) == (value, back, value)


@pytest.mark.parametrize(("parse", "text"), [
    (data_rate, ""), (data_rate, "fast"), (data_rate, "-5M"), (data_rate, "5MB"), (data_rate, "5m"),
    (mac_address, ""), (mac_address, "02:00:00:00:00"), (mac_address, "02:00:00:00:00:01:02"),
    (mac_address, "02:00:00:00:00:0g"), (mac_address, "020000000001"), (ipv4_address, "10.0.0"),
    (ipv4_address, "10.0.0.256"), (ipv4_address, "::1"), (ipv6_address, "10.0.0.1"), (ipv6_address, "::1::"),
    (duration, ""), (duration, "5"), (duration, "-5s"), (duration, "5 parsecs"), (prefix, "10.0.0.1/8"),
    (prefix, "10.0.0.0/33"), (prefix, "x"),
])
def test_what_is_not_clearly_one_is_an_error(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 128) - 1),
       st.integers(0, 1 << 50))
def test_there_and_back(hardware: int, four: int, six: int, nanoseconds: int) -> None:
    assert mac_address(mac_text(hardware)) == hardware
    assert ipv4_address(ipv4_text(four)) == four and ipv6_address(ipv6_text(six)) == six
    assert duration(duration_text(nanoseconds)) == nanoseconds


def test_prefixes() -> None:
    ten = prefix("10.0.0.0/8")
    assert ten == Prefix(0x0a000000, 8) and str(ten) == "10.0.0.0/8"
    assert ipv4_address("10.255.0.1") in ten and ipv4_address("11.0.0.0") not in ten
    assert prefix("10.0.0.1") == Prefix(0x0a000001, 32) and prefix("::1").length == 128
    assert 0 in prefix("0.0.0.0/0") and 0xffffffff in prefix("0.0.0.0/0")
    assert str(prefix("2001:db8::/32")) == "2001:db8::/32" and str(Prefix(0x1000, 4, 16)) == "0x1000/4"
    assert len({prefix("10.0.0.0/8"), ten}) == 1


@pytest.mark.parametrize(("address", "length", "bits"), [(0, 33, 32), (0, -1, 32), (1, 8, 32), (1 << 32, 32, 32)])
def test_a_prefix_has_no_bits_beyond_its_length(address: int, length: int, bits: int) -> None:
    with pytest.raises(ValueError):
        Prefix(address, length, bits)
    with pytest.raises(ValueError, match="0x100000000/32 has bits set beyond its length"):
        Prefix(1 << 32, 32)
