"""Addresses as people write them, to integers and back.

The data path knows only integers; these functions stand at its border: in constants (`mac_address("02:00:…")` folds
while compiling), in configuration and in what people read.  Parsing is strict: what is not clearly an address is a
`ValueError` that says what was expected.  `ipaddress` does IPv4 and IPv6; it is imported on use, because most
programs never need it and `import iovisor.language` has a budget.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h|d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(?:bit/s|bit|bps)?")
_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def mac_address(text: str) -> int:
    """`"02:00:00:00:00:01"` to 48 bits."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address like 02:00:00:00:00:01")
    return int(re.sub("[:-]", "", text), 16)


def mac_text(value: int) -> str:
    """48 bits to `"02:00:00:00:00:01"`."""
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


def ipv4_address(text: str) -> int:
    """`"10.0.0.1"` to 32 bits."""
    import ipaddress
    return int(ipaddress.IPv4Address(text))


def ipv4_text(value: int) -> str:
    """32 bits to `"10.0.0.1"`."""
    return ".".join(str(byte) for byte in value.to_bytes(4, "big"))


def ipv6_address(text: str) -> int:
    """`"2001:db8::1"` to 128 bits."""
    import ipaddress
    return int(ipaddress.IPv6Address(text))


def ipv6_text(value: int) -> str:
    """128 bits to `"2001:db8::1"`, compressed as in RFC 5952."""
    import ipaddress
    return str(ipaddress.IPv6Address(value))


def duration(text: str) -> int:
    """`"300s"`, `"1.5m"`, `"2h"` to nanoseconds."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a duration like 300s, 5m or 2h")
    return round(float(found[1]) * _UNITS[found[2]])


def duration_text(value: int) -> str:
    """Nanoseconds to the largest unit that divides them: `300000000000` is `"5m"`."""
    unit = next((u for u in ("d", "h", "m", "s", "ms", "us") if value and value % _UNITS[u] == 0), "ns")
    return f"{value // _UNITS[unit]}{unit}"


def data_rate(text: str) -> int:
    """`"50M"`, `"1.5Gbit/s"`, `"64k"` to bits a second."""
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a rate like 64k, 50M or 1.5Gbit/s")
    return round(float(found[1]) * _MULTIPLES[found[2]])


def data_rate_text(value: int) -> str:
    """Bits a second to the largest multiple that divides them: `50000000` is `"50M"`."""
    unit = next((u for u in ("T", "G", "M", "k") if value and value % _MULTIPLES[u] == 0), "")
    return f"{value // _MULTIPLES[unit]}{unit}"


PARSE = {"mac": mac_address, "ipv4": ipv4_address, "ipv6": ipv6_address, "time": duration,
         "period": duration, "rate": data_rate}
TEXT = {"mac": mac_text, "ipv4": ipv4_text, "ipv6": ipv6_text, "time": duration_text, "period": duration_text,
        "rate": data_rate_text}


@dataclass(frozen=True)
class Prefix:
    """The first `length` of `bits` bits of an address; bits beyond the length are zero."""

    address: int
    length: int
    bits: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.length <= self.bits:
            raise ValueError(f"a prefix of {self.bits} bits cannot be /{self.length}")
        if self.address & ((1 << self.bits - self.length) - 1) or self.address >> self.bits:
            raise ValueError(f"{self.address:#x}/{self.length} has bits set beyond its length")

    def __contains__(self, address: int) -> bool:
        return address >> self.bits - self.length == self.address >> self.bits - self.length

    def __str__(self) -> str:
        text = ipv4_text if self.bits == 32 else ipv6_text
        return f"{text(self.address)}/{self.length}" if self.bits in (32, 128) else f"{self.address:#x}/{self.length}"


def prefix(text: str) -> Prefix:
    """`"10.0.0.0/8"` or `"2001:db8::/32"`; a bare address is a host prefix."""
    import ipaddress
    network = ipaddress.ip_network(text)
    return Prefix(int(network.network_address), network.prefixlen, network.max_prefixlen)
