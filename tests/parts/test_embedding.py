"""IPv4 addresses in IPv6 addresses: RFC 6052's own table, and back."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import ConfigError, Prefix, ipv4_address, ipv6_address, prefix
from iovisor.parts.embedding import LENGTHS, embed, embedding, extract, is_embedded, is_global

TABLE = {       # section 2.4
    "2001:db8::/32": "2001:db8:c000:221::", "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::", "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33", "64:ff9b::/96": "64:ff9b::192.0.2.33",
}


@pytest.mark.parametrize(("bound", "wanted"), TABLE.items())
def test_the_standards_own_examples(bound: str, wanted: str) -> None:
    form = embedding("prefix", prefix(bound))
    upper, lower = embed(form, ipv4_address("192.0.2.33"))
    assert upper << 64 | lower == ipv6_address(wanted)
    assert is_embedded(form, upper, lower) and extract(form, upper, lower) == ipv4_address("192.0.2.33")


@given(st.sampled_from(LENGTHS), st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 32) - 1),
       st.integers(0, (1 << 24) - 1))
def test_there_and_back(length: int, start: int, address: int, suffix: int) -> None:
    """With any suffix (section 2.2: what is behind the address is ignored)."""
    form = embedding("prefix", Prefix((start & ~(0xff << 56)) >> 128 - length << 128 - length, length, 128))
    upper, lower = embed(form, address)
    if length <= 64:
        lower |= suffix & (1 << 96 - length) - 1 >> 8
    assert is_embedded(form, upper, lower) and extract(form, upper, lower) == address
    assert length == 96 or lower >> 56 == 0
    assert not is_embedded(form, upper ^ 1 << 64 - min(length, 64), lower)


@pytest.mark.parametrize("bound", ["2001:db8::/33", "2001:db8::/128", "10.0.0.0/8", "2001:db8:0:0:ff00::/96"])
def test_other_prefixes_embed_nothing(bound: str) -> None:
    with pytest.raises(ConfigError, match=r"^prefix: .*(32, 40|64 to 71)"):
        embedding("prefix", prefix(bound))


def test_what_is_global() -> None:
    local = ("0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1",
             "172.31.9.9", "192.0.0.8", "192.168.3.4", "198.18.0.1", "198.19.1.1", "224.0.0.1", "255.255.255.255")
    everywhere = ("1.1.1.1", "100.63.1.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.167.1.1",
                  "198.20.0.1", "203.0.113.1", "223.255.255.255", "11.0.0.1", "126.1.1.1", "169.253.0.1")
    assert not any(is_global(ipv4_address(address)) for address in local)
    assert all(is_global(ipv4_address(address)) for address in everywhere)
