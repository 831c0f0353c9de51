"""What a device does to frames before it sends them, for frames that Python sends.

*Aggregates.*  On TC a packet may stand for many (`pkt.segment` says how much payload each has).  The kernel cuts it at
the last moment, for a device that cannot (TSO, USO).  Python, which gets it whole by the slow path, cuts it here: TCP
by sequence numbers, flags where they belong; UDP into datagrams; an identification of its own for each IPv4 packet.
All checksums are made anew: those of an aggregate are never finished.

*Checksums* that the kernel left to a device hold the sum of the pseudo-header; `finished` makes them whole.
"""
from __future__ import annotations

from .checksum import finish, finish_udp, of_ipv4, pseudo_ipv4, pseudo_ipv6
from .ethernet import EtherType
from .ipv4 import IpProtocol, IPv4
from .ipv6 import IPv6
from .tcp import Tcp, TcpFlag
from .udp import Udp
from .vlan import Vlan

ONLY_LAST = TcpFlag.FIN | TcpFlag.PSH


def of_data(data: bytes) -> int:
    """The sum of bytes, folded, for the control path; an odd last byte counts as if zero followed (RFC 1071 section 1).

    A number is what it is modulo 0xffff, but only nothing sums to zero.
    """
    total = int.from_bytes(data + bytes(len(data) & 1), "big") % 0xffff
    return total or (0xffff if any(data) else 0)


def segments(frame: bytes, size: int) -> list[bytes]:
    """The frames of an aggregate with `size` bytes of payload each; the frame alone if it is none (`size` is zero)."""
    if not size:
        return [frame]
    at = 14
    while int.from_bytes(frame[at - 2:at], "big") in (EtherType.VLAN, EtherType.SERVICE_VLAN):
        at += Vlan.size
    six = int.from_bytes(frame[at - 2:at], "big") == EtherType.IPV6
    transport = at + (IPv6.size if six else (frame[at] & 15) * 4)
    tcp = frame[at + 6 if six else at + 9] == IpProtocol.TCP
    start = transport + ((frame[transport + 12] >> 4) * 4 if tcp else Udp.size)
    end = at + (IPv6.size + IPv6.decode(frame[at:]).length if six else IPv4.decode(frame[at:]).length)
    body = frame[start:end]
    found = []
    for number, place in enumerate(range(0, len(body), size)):
        piece = body[place:place + size]
        below = _tcp(frame[transport:start], place, place + size >= len(body)) if tcp else _udp(
            frame[transport:start], len(piece))
        above, pseudo = _six(frame[at:transport], len(below) + len(piece)) if six else _four(
            frame[at:transport], len(below) + len(piece), number)
        field, summed = (16, finish) if tcp else (6, finish_udp)
        checksum = summed(pseudo + of_data(below + piece)).to_bytes(2, "big")
        found.append(frame[:at] + above + below[:field] + checksum + below[field + 2:] + piece)
    return found


def _four(header: bytes, length: int, number: int) -> tuple[bytes, int]:
    ip = IPv4.decode(header)
    ip.length, ip.id, ip.checksum = len(header) + length, ip.id + number, 0
    ip.checksum = finish(of_ipv4(ip) + of_data(header[IPv4.size:]))
    return bytes(ip) + header[IPv4.size:], pseudo_ipv4(ip.src, ip.dst, ip.proto, length)


def _six(header: bytes, length: int) -> tuple[bytes, int]:
    ip = IPv6.decode(header)
    ip.length = length
    return bytes(ip), pseudo_ipv6(ip.src, ip.dst, ip.next, length)


def _tcp(header: bytes, place: int, last: bool) -> bytes:
    tcp = Tcp.decode(header)
    tcp.sequence = tcp.sequence + place
    if not last:
        tcp.flags = tcp.flags & ~ONLY_LAST
    if place:
        tcp.flags = tcp.flags & ~TcpFlag.CWR
    tcp.checksum = 0
    return bytes(tcp) + header[Tcp.size:]


def _udp(header: bytes, length: int) -> bytes:
    udp = Udp.decode(header)
    udp.length, udp.checksum = Udp.size + length, 0
    return bytes(udp)


def finished(frame: bytes) -> bytes:
    """The frame with its transport checksum computed, if the kernel had left it partial.

    Such a checksum field holds the sum of the pseudo-header, not inverted.
    """
    at = 14
    while frame[at - 2:at] in (b"\x81\0", b"\x88\xa8"):
        at += 4
    kind = frame[at - 2:at]
    if kind == b"\x08\0" and len(frame) >= at + 20:
        protocol, start = frame[at + 9], at + (frame[at] & 15) * 4
        end = at + int.from_bytes(frame[at + 2:at + 4], "big")
        addresses = frame[at + 12:at + 20]
        if frame[at + 6:at + 8] not in (b"\0\0", b"\x40\0"):        # a fragment
            return frame
    elif kind == b"\x86\xdd" and len(frame) >= at + 40:
        protocol, start = frame[at + 6], at + 40
        end = start + int.from_bytes(frame[at + 4:at + 6], "big")
        addresses = frame[at + 8:at + 40]
    else:
        return frame
    field = {6: 16, 17: 6}.get(protocol)
    if field is None or end > len(frame) or start + field + 2 > end:
        return frame
    pseudo = of_data(addresses + protocol.to_bytes(2, "big") + (end - start).to_bytes(4, "big"))
    place = start + field
    if int.from_bytes(frame[place:place + 2], "big") != pseudo:
        return frame
    total = 0xffff - of_data(frame[start:end]) or (0xffff if protocol == 17 else 0)
    return frame[:place] + total.to_bytes(2, "big") + frame[place + 2:]


__all__ = ["finished", "of_data", "segments"]
