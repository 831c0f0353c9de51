"""IPv4 datagrams cut to parts that a link carries, as bytes, for the control path (RFC 791 section 3.2).

Every part but the last is a multiple of eight bytes, and options are in later parts only where they are to be copied.
A part may be cut again.
"""
from __future__ import annotations

from .checksum import finish, of_ipv4
from .ipv4 import IPv4
from .offload import of_data

COPIED = 0x80                   # section 3.1: this option goes into every part


def cut(datagram: bytes, mtu: int) -> list[bytes]:
    """An IPv4 datagram as parts of at most `mtu` bytes."""
    ip = IPv4.decode(datagram)
    size, at, parts = ip.ihl * 4, 0, []
    body, options = datagram[size:ip.length], datagram[20:size]
    while at < len(body):
        room = (mtu - 20 - len(options)) & ~7
        piece = body[at:at + room] if at + mtu - 20 - len(options) < len(body) else body[at:]
        more = ip.mf if at + len(piece) == len(body) else 1
        parts.append(header(ip, options, at // 8 + ip.offset, more, len(piece)) + piece)
        at += len(piece)
        options = copied(options)
    return parts


def header(ip: IPv4, options: bytes, offset: int, more: int, payload: int) -> bytes:
    """The header of a part, with its checksum."""
    made = IPv4.decode(bytes(ip))
    made.ihl, made.length = 5 + len(options) // 4, 20 + len(options) + payload
    made.offset, made.mf, made.checksum = offset, more, 0
    made.checksum = finish(of_ipv4(made) + of_data(options))
    return bytes(made) + options


def copied(options: bytes) -> bytes:
    """What of the options goes into later parts, padded to whole words."""
    kept, at = b"", 0
    while at < len(options) and options[at] != 0:
        length = 1 if options[at] == 1 else max(options[at + 1], 2) if at + 1 < len(options) else 1
        if options[at] & COPIED:
            kept += options[at:at + length]
        at += length
    return kept.ljust(-(-len(kept) // 4) * 4, b"\0")


__all__ = ["cut", "header"]
