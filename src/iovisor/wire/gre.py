"""Generic routing encapsulation (RFC 2784, RFC 2890), and mirrored frames in it: ERSPAN (draft-foschiano-erspan-03).

`Gre` is the fixed part; key and sequence number follow if their bits are set.  With type `ETHERNET` a whole frame is
inside (RFC 7676 for IPv6 outside); with `ERSPAN` a header of its own comes before it, which says of which session it is
and whether it was cut.  ERSPAN type II always has a sequence number.  There are no checksums here: the packets inside
have their own.
"""
from __future__ import annotations

from iovisor.language import Header, u1, u2, u3, u4, u9, u10, u12, u16, u20, u32

ETHERNET = 0x6558               # RFC 1701: transparent Ethernet bridging
ERSPAN = 0x88be                 # type II


class Gre(Header, offload="gre"):
    """RFC 2784 section 2.1, with the bits of RFC 2890 section 2."""

    checksummed: u1 = 0
    routed: u1 = 0
    keyed: u1 = 0
    sequenced: u1 = 0
    reserved: u9 = 0
    version: u3 = 0
    type: u16


class GreWord(Header):
    """A key, or a sequence number: RFC 2890 sections 2.1 and 2.2."""

    value: u32


class Erspan(Header):
    """Type II, section 4.2; `truncated` if the frame was cut."""

    version: u4 = 1
    vlan: u12 = 0
    class_: u3 = 0
    encapsulation: u2 = 0
    truncated: u1 = 0
    session: u10
    reserved: u12 = 0
    index: u20 = 0


__all__ = ["ERSPAN", "ETHERNET", "Erspan", "Gre", "GreWord"]
