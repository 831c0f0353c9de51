"""Messages between the daemon and a worker: four bytes of length, then JSON; bytes in it are hexadecimal text.

JSON because reading it runs nothing: what pickle reads it calls.  A message has a bounded size, which is looked at
before its bytes are waited for.
"""
from __future__ import annotations

import json
import struct
from typing import Any

MOST = 16 << 20                 # bytes of a message
Message = dict[str, Any]
_LENGTH = struct.Struct("<I")


class Malformed(Exception):
    """What came is no message of ours."""


def packed(message: Message) -> bytes:
    """A message as it goes over a socket.  Malformed if it is too large."""
    raw = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(raw) > MOST:
        raise Malformed(f"a message has at most {MOST} bytes, this one {len(raw)}")
    return _LENGTH.pack(len(raw)) + raw


class Inbox:
    """Makes messages of the bytes of a socket, as they come; of at most `most` bytes each."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def take(self) -> Message | None:
        """The next message, if all of it is there.  Malformed: it is none."""
        if len(self._bytes) < _LENGTH.size:
            return None
        length, = _LENGTH.unpack_from(self._bytes)
        if length > self.most:
            raise Malformed(f"a message has at most {self.most} bytes, not {length}")
        if len(self._bytes) < _LENGTH.size + length:
            return None
        raw = bytes(self._bytes[_LENGTH.size:_LENGTH.size + length])
        del self._bytes[:_LENGTH.size + length]
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"this is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise Malformed("a message is an object")
        return found


__all__ = ["MOST", "Inbox", "Malformed", "Message", "packed"]
