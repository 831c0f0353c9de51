"""pcapng, as much of it as it takes to look at frames in Wireshark (draft-ietf-opsawg-pcapng).

A section, one interface block for each name, and enhanced packet blocks with nanoseconds.  Reading was left out: frames
come from captures, and what one wants to keep of them is code (`packets.describe`).
"""
from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

ETHERNET = 1
NANOSECONDS = b"\x09\x00\x01\x00\x09\x00\x00\x00"       # if_tsresol 9, padded
END = bytes(4)


class PcapWriter:
    """Writes frames to a file, by path or already open; a context manager."""

    def __init__(self, file: str | os.PathLike[str] | BinaryIO) -> None:
        self._owned = isinstance(file, str | os.PathLike)
        self._file: BinaryIO = file if not isinstance(file, str | os.PathLike) else \
            Path(file).open("wb")  # noqa: SIM115
        self._interfaces: dict[str, int] = {}
        self._block(0x0a0d0d0a, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1))

    def write(self, frame: bytes, time: int = 0, interface: str = "eth0") -> None:
        """Add a frame that passed `interface` at `time` nanoseconds."""
        if interface not in self._interfaces:
            self._interfaces[interface] = len(self._interfaces)
            name = interface.encode()
            option = struct.pack("<HH", 2, len(name)) + name + bytes(-len(name) % 4)
            self._block(1, struct.pack("<HHI", ETHERNET, 0, 0) + option + NANOSECONDS + END)
        number, size = self._interfaces[interface], len(frame)
        head = struct.pack("<IIIII", number, time >> 32, time & 0xffffffff, size, size)
        self._block(6, head + frame + bytes(-size % 4))

    def _block(self, kind: int, body: bytes) -> None:
        length = struct.pack("<I", len(body) + 12)
        self._file.write(struct.pack("<I", kind) + length + body + length)

    def close(self) -> None:
        self._file.flush()
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


__all__ = ["PcapWriter"]
