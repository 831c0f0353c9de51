"""Contexts: what a program is told about a packet besides its bytes, for test runs.

The kernel accepts a context for `Program.test_run` only if every field it would not honour is zero, so the
builders below offer exactly the fields it honours. Both are plain functions from keywords to `bytes`;
`SocketBuffer` reads the result back. Rejected: one class for both kinds, since they have nothing in common
but the purpose.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

SOCKET_BUFFER_SIZE, XDP_SIZE = 192, 24
_XDP = struct.Struct("=6I")


@dataclass(frozen=True, slots=True)
class SocketBuffer:
    """The settable part of `struct __sk_buff`. `bytes(buffer)` is what `test_run` takes (192 bytes)."""

    mark: int = 0
    priority: int = 0
    ingress_interface: int = 0
    interface: int = 0
    control: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    timestamp_ns: int = 0
    wire_length: int = 0
    segments: int = 0
    segment_size: int = 0
    hardware_timestamp_ns: int = 0

    def __bytes__(self) -> bytes:
        raw = bytearray(SOCKET_BUFFER_SIZE)
        struct.pack_into("=I", raw, 8, self.mark)
        struct.pack_into("=3I", raw, 32, self.priority, self.ingress_interface, self.interface)
        struct.pack_into("=5I", raw, 48, *self.control)
        struct.pack_into("=QII", raw, 152, self.timestamp_ns, self.wire_length, self.segments)
        struct.pack_into("=I", raw, 176, self.segment_size)
        struct.pack_into("=Q", raw, 184, self.hardware_timestamp_ns)
        return bytes(raw)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a context a test run returned."""
        if len(raw) < SOCKET_BUFFER_SIZE:
            raise ValueError(f"a __sk_buff has {SOCKET_BUFFER_SIZE} bytes, not {len(raw)}")
        a, b, c, d, e = struct.unpack_from("=5I", raw, 48)
        priority, ingress_interface, interface = struct.unpack_from("=3I", raw, 32)
        timestamp, wire_length, segments = struct.unpack_from("=QII", raw, 152)
        return cls(
            mark=struct.unpack_from("=I", raw, 8)[0],
            priority=priority,
            ingress_interface=ingress_interface,
            interface=interface,
            control=(a, b, c, d, e),
            timestamp_ns=timestamp,
            wire_length=wire_length,
            segments=segments,
            segment_size=struct.unpack_from("=I", raw, 176)[0],
            hardware_timestamp_ns=struct.unpack_from("=Q", raw, 184)[0],
        )


def xdp_context(length: int, interface: int = 0, queue: int = 0, metadata: int = 0) -> bytes:
    """An `xdp_md` for a packet of `length` bytes received by `interface` on `queue`.

    `metadata` bytes at the start of the data (a multiple of 4, at most 252) are metadata before the packet
    proper.
    """
    return _XDP.pack(metadata, length, 0, interface, queue, 0)
