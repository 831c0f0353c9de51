"""The Transmission Control Protocol (RFC 9293).

The flags are one field of eight bits, with `TcpFlag` to read it: conditions on TCP nearly always concern several at
once (`flags_of(tcp) == TcpFlag.SYN`), and single-bit fields would make four comparisons of one.
`offset` counts the words of the header, options included.

Sequence numbers live on a circle; `before` and `distance` are their only order (RFC 9293 section 3.4).
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, Packet, inline, u4, u8, u16, u32


class TcpFlag(IntEnum):
    """RFC 9293 section 3.1; the first two of RFC 3168 section 6.1."""

    CWR = 0x80
    ECE = 0x40
    URG = 0x20
    ACK = 0x10
    PSH = 0x08
    RST = 0x04
    SYN = 0x02
    FIN = 0x01


class Tcp(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 9293 section 3.1."""

    src: u16
    dst: u16
    sequence: u32 = 0
    acknowledgment: u32 = 0
    offset: u4 = 5
    reserved: u4 = 0
    flags: u8
    window: u16 = 0
    checksum: u16 = 0
    urgent: u16 = 0


@inline
def skip_options(pkt: Packet, tcp: Tcp) -> None:
    """Move the cursor from behind the fixed header to the payload; a header said to be shorter than that rejects."""
    pkt.skip(tcp.offset * 4 - 20)


@inline
def flags_of(tcp: Tcp) -> int:
    """The flags that steer a connection: SYN, ACK, FIN and RST."""
    return tcp.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.FIN | TcpFlag.RST)


@inline
def is_opening(tcp: Tcp) -> bool:
    """The first segment of a connection: SYN alone (RFC 9293 section 3.5)."""
    return flags_of(tcp) == TcpFlag.SYN


@inline
def has_legal_flags(tcp: Tcp) -> bool:
    """Whether some connection in some state can have sent these flags: not none, nor SYN or RST with another end."""
    steering = flags_of(tcp)
    if steering & TcpFlag.SYN:
        return steering & (TcpFlag.FIN | TcpFlag.RST) == 0
    if steering & TcpFlag.RST:
        return steering & TcpFlag.FIN == 0
    return steering & TcpFlag.ACK != 0


@inline
def segment_length(tcp: Tcp, length: u16) -> int:
    """What a segment of `length` bytes, header included, takes of the sequence: SYN and FIN count (section 3.4)."""
    return length - tcp.offset * 4 + (tcp.flags >> 1 & 1) + (tcp.flags & 1)


@inline
def distance(here: u32, there: u32) -> int:
    """How far `there` lies ahead of `here` on the circle, 0 to 2**32 - 1."""
    return there - here & 0xffff_ffff


@inline
def before(here: u32, there: u32) -> bool:
    """Whether `here` comes before `there`: the shorter way round the circle leads forward."""
    return 0 < there - here & 0xffff_ffff < 0x8000_0000
