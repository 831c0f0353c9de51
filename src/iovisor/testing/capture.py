"""Every frame that passes a device, byte for byte.

A packet socket, without libpcap.  The kernel hands frames over with the outer VLAN tag beside them (auxiliary data); it
is put back where the wire has it, or a capture could not tell a tagged frame from a bare one.  There is no thread: the
socket's buffer holds what came, and it is read when somebody asks.  A buffer that overflowed is an error, never a
shorter list.

By default only frames that come *in* are taken: at a host that is what the other side made of them.
"""
from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ..kernel import NetworkNamespace
from ..wire.pcapng import PcapWriter
from .packets import describe

ETH_P_ALL = 0x0003
SOL_PACKET, AUXDATA, STATISTICS, IGNORE_OUTGOING = 263, 8, 6, 23
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6
OUTGOING = 4
BUFFER = 16 << 20
_AUXILIARY = struct.Struct("=IIIHHHH")


@dataclass(frozen=True)
class Captured:
    """A frame, as the wire has it; `time` in nanoseconds since the epoch when it was read."""

    frame: bytes
    outgoing: bool
    time: int

    def __repr__(self) -> str:
        return f"{'→' if self.outgoing else '←'} {describe(self.frame)}"


class Capture:
    """Open on the device `interface` of a namespace; a context manager."""

    def __init__(self, namespace: NetworkNamespace, interface: str, *, outgoing: bool = False) -> None:
        self.interface, self.taken = interface, list[Captured]()
        with namespace.entered():
            # Protocol 0 takes nothing until it is bound: else frames of other devices come first.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            try:
                self._socket.setsockopt(SOL_PACKET, AUXDATA, 1)
                if not outgoing:
                    self._socket.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, 33, BUFFER)      # SO_RCVBUFFORCE
                self._socket.bind((interface, ETH_P_ALL))
            except BaseException:
                self._socket.close()
                raise
        self._socket.setblocking(False)

    def frames(self, wanted: Callable[[bytes], bool] | None = None) -> list[bytes]:
        """What was captured so far, or those of them that are `wanted`."""
        self._read()
        return [c.frame for c in self.taken if wanted is None or wanted(c.frame)]

    def wait(self, count: int, wanted: Callable[[bytes], bool] | None = None, *, seconds: float = 10.0,
             settle: float = 0.05) -> list[bytes]:
        """Wait for `count` wanted frames, then a moment longer for one too many; all that are wanted by then."""
        deadline = time.monotonic() + seconds
        while len(self.frames(wanted)) < count and (left := deadline - time.monotonic()) > 0:
            select.select([self._socket], [], [], left)
        time.sleep(settle)
        return self.frames(wanted)

    def clear(self) -> None:
        """Forget what was captured."""
        self._read()
        self.taken.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was captured as pcapng."""
        self._read()
        with PcapWriter(path) as writer:
            for captured in self.taken:
                writer.write(captured.frame, captured.time, self.interface)

    def _read(self) -> None:
        while True:
            try:
                data, auxiliary, _, address = self._socket.recvmsg(1 << 17, 128)
            except BlockingIOError:
                break
            for level, kind, content in auxiliary:
                if (level, kind) == (SOL_PACKET, AUXDATA):
                    status, _, _, _, _, tci, tpid = _AUXILIARY.unpack(content[:_AUXILIARY.size])
                    if status & VLAN_VALID:
                        outer = tpid if status & TPID_VALID else 0x8100
                        data = data[:12] + struct.pack("!HH", outer, tci) + data[12:]
            self.taken.append(Captured(data, address[2] == OUTGOING, time.time_ns()))
        lost = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, STATISTICS, 8))[1]
        if lost:
            raise OSError(f"the capture on {self.interface} lost {lost} frames: read it more often")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


__all__ = ["Capture", "Captured", "PcapWriter"]
