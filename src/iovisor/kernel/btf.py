"""BTF: the kernel's type information, as an object to load.

The compiler makes the blob (it knows the types); this module hands it to the kernel and owns the
descriptor. What the kernel checks is the well-formedness of the blob, not whether the types are true.

`Types` builds small blobs by hand: enough to describe a function taking a context, or a value holding a
timer. Every method returns the id of the type it adds. It exists for edge programs and tests; reading BTF
is not done here.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Self

from .descriptor import Descriptor
from .errors import BpfError
from .syscall import BtfLoad, Command, attempt, buffer

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_INT, _PTR, _ARRAY, _STRUCT, _FUNC, _FUNC_PROTO = 1, 2, 3, 4, 12, 13


class Btf(Descriptor):
    """Loaded type information. Programs and maps made with it keep it alive; close after use."""

    __slots__ = ()

    @classmethod
    def load(cls, blob: bytes) -> Self:
        """Load a .BTF blob (4.18). BpfError (EINVAL mostly) with the kernel's complaint as advice."""
        attributes = BtfLoad(blob, None, len(blob))
        fd = attempt(Command.BTF_LOAD, attributes)
        if fd < 0:
            log = buffer(1 << 16)
            attributes.btf_log_buf, attributes.btf_log_size = ctypes.addressof(log), len(log)
            attributes.btf_log_level = 1
            fd = attempt(Command.BTF_LOAD, attributes)
            if fd < 0:
                lines = log.value.decode(errors="replace").strip().splitlines()
                raise BpfError(-fd, "btf load", "", lines[-1] if lines else "")
        return cls(fd)


class Types:
    """A BTF blob under construction."""

    def __init__(self) -> None:
        self._types: list[bytes] = []
        self._strings = bytearray(1)
        self._offsets: dict[str, int] = {"": 0}

    def string(self, value: str) -> int:
        """The offset of `value` in the string table, which also holds file names and source lines."""
        if value not in self._offsets:
            self._offsets[value] = len(self._strings)
            self._strings += value.encode() + b"\0"
        return self._offsets[value]

    def _add(self, name: str, kind: int, size: int, length: int, tail: bytes) -> int:
        self._types.append(_TYPE.pack(self.string(name), kind << 24 | length, size) + tail)
        return len(self._types)

    def integer(self, name: str, size: int, signed: bool = False) -> int:
        """An integer of `size` bytes."""
        return self._add(name, _INT, size, 0, struct.pack("=I", int(signed) << 24 | size * 8))

    def pointer(self, target: int) -> int:
        return self._add("", _PTR, target, 0, b"")

    def array(self, element: int, index: int, length: int) -> int:
        return self._add("", _ARRAY, 0, 0, struct.pack("=III", element, index, length))

    def structure(self, name: str, size: int, members: Sequence[tuple[str, int, int]] = ()) -> int:
        """A struct of `size` bytes; members are (name, type, byte offset)."""
        tail = b"".join(struct.pack("=III", self.string(n), kind, at * 8) for n, kind, at in members)
        return self._add(name, _STRUCT, size, len(members), tail)

    def prototype(self, result: int, parameters: Sequence[tuple[str, int]]) -> int:
        tail = b"".join(struct.pack("=II", self.string(name), kind) for name, kind in parameters)
        return self._add("", _FUNC_PROTO, result, len(parameters), tail)

    def function(self, name: str, prototype: int, exported: bool = True) -> int:
        return self._add(name, _FUNC, prototype, int(exported), b"")

    def blob(self) -> bytes:
        """The .BTF section."""
        types = b"".join(self._types)
        header = _HEADER.pack(0xEB9F, 1, 0, _HEADER.size, 0, len(types), len(types), len(self._strings))
        return header + types + bytes(self._strings)
