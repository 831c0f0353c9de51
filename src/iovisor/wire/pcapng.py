"""pcapng, as much of it as it takes to look at frames in Wireshark (draft-ietf-opsawg-pcapng).

A section, an interface block for each name when it is first seen, and enhanced packet blocks with nanoseconds, comments
and directions.  `blocks` reads back what is written here, for tests; it is no reader of other people's files.
"""
from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

SECTION, INTERFACE, PACKET = 0x0a0d0d0a, 1, 6
ETHERNET = 1
END = bytes(4)
COMMENT, NAME, DESCRIPTION, RESOLUTION, FLAGS = 1, 2, 3, 9, 2        # options; flags are those of a packet


class PcapWriter:
    """Writes frames to a file, by path or already open; a context manager.  `snap` is the most bytes of a frame that
    are kept, 0 for no limit.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO, snap: int = 0) -> None:
        self._owned = isinstance(file, str | os.PathLike)
        self._file: BinaryIO = file if not isinstance(file, str | os.PathLike) else \
            Path(file).open("wb")  # noqa: SIM115
        self._snap = snap
        self._interfaces: dict[str, int] = {}
        self._block(SECTION, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1))

    def interface(self, name: str, description: str = "") -> int:
        """The number of an interface, announced when it is new."""
        if name not in self._interfaces:
            self._interfaces[name] = len(self._interfaces)
            self._block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, self._snap) + _text(NAME, name)
                        + (_text(DESCRIPTION, description) if description else b"")
                        + _option(RESOLUTION, b"\x09") + END)
        return self._interfaces[name]

    def write(self, frame: bytes, time: int = 0, interface: str = "eth0", *, length: int = 0, comment: str = "",
              outgoing: bool | None = None) -> None:
        """Add a frame that passed `interface` at `time` nanoseconds since the epoch.  `length` is that of the whole
        frame if these are only its first bytes.
        """
        number = self.interface(interface)
        kept = frame[:self._snap] if self._snap else frame
        head = struct.pack("<IIIII", number, time >> 32, time & 0xffffffff, len(kept), max(length, len(frame)))
        options = _text(COMMENT, comment) if comment else b""
        if outgoing is not None:
            options += _option(FLAGS, struct.pack("<I", 2 if outgoing else 1))
        self._block(PACKET, head + kept + bytes(-len(kept) % 4) + (options + END if options else b""))

    def flush(self) -> None:
        """Let others see what was written."""
        self._file.flush()

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


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode())


def blocks(data: bytes) -> Iterator[tuple[int, bytes, dict[int, bytes]]]:
    """Every block of a file written here: kind, what stands before its options, and its options by code.

    ValueError where the two lengths of a block differ.
    """
    fixed = {SECTION: 16, INTERFACE: 8}
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if struct.unpack_from("<I", data, at + length - 4)[0] != length:
            raise ValueError(f"the block at {at} does not end as it begins")
        body = data[at + 8:at + length - 4]
        size = fixed[kind] if kind in fixed else 20 + -(-struct.unpack_from("<I", body, 12)[0] // 4) * 4
        found: dict[int, bytes] = {}
        place = size
        while place < len(body):
            code, count = struct.unpack_from("<HH", body, place)
            if code:
                found[code] = body[place + 4:place + 4 + count]
            place += 4 + -(-count // 4) * 4
        yield kind, body[:size], found
        at += length


__all__ = ["PcapWriter", "blocks"]
