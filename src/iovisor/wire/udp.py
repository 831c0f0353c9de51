"""The User Datagram Protocol (RFC 768).

The checksum covers the pseudo-header and the datagram to its end.  Zero means that none was computed: allowed over
IPv4, and over IPv6 only for tunnels (RFC 6935 section 5).  A computed sum of zero is therefore sent as 0xffff, and
`pkt.rewrite` keeps to both rules.

`length` counts twice, in the header and in the pseudo-header, so a datagram that changes its length needs a new
checksum (`checksum.udp_ipv4`, `checksum.udp_ipv6`), not a rewritten one.
"""
from __future__ import annotations

from iovisor.language import Checksum, Header, inline, u16


class Udp(Header, checksum=Checksum("checksum", "transport", pseudo=True, optional=True), shaping=("length",),
          offload="udp"):
    """RFC 768, "Format"."""

    src: u16
    dst: u16
    length: u16
    checksum: u16 = 0


@inline
def payload_length(udp: Udp) -> int:
    """The bytes behind the header, as it says; negative if it contradicts itself."""
    return udp.length - 8


@inline
def fill(udp: Udp, src: u16, dst: u16, payload: u16) -> None:
    """Give a pushed header its fields, for `payload` bytes behind it, and no checksum."""
    udp.src = src
    udp.dst = dst
    udp.length = payload + 8
    udp.checksum = 0
