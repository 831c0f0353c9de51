"""An image: one entry of a kind, compiled for one target.  Bytes that need no kernel to exist.

It holds the instructions, what the kernel wants to know of them (BTF, function and line records), the maps they
number and the tables those stand for.  Code mentions maps by number, so an image is position independent and the same
for every instance of its kind.  The ELF object LLVM makes is opened here and forgotten: of its sections four matter.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass, field

from . import may_goto
from .errors import BackendError


@dataclass(frozen=True)
class Image:
    """`maps` names the platform's maps and the function's tables in the order the code numbers them; whether it may ask
    for a flood, `floods` says; whether it adjusts checksums of payloads by what it changes, `sums`.
    """

    kind: str
    entry: str
    target: str
    code: bytes
    maps: tuple[str, ...]
    btf: bytes = b""
    func_info: bytes = b""
    line_info: bytes = b""
    assembly: str = field(default="", repr=False)
    floods: bool = True
    sums: bool = False

    @property
    def instructions(self) -> int:
        """eBPF instructions, a 16-byte load counted twice; for native code, bytes."""
        return len(self.code) // 8


def sections(blob: bytes) -> dict[str, bytes]:
    """An ELF64 object's sections by name."""
    start, = struct.unpack_from("<Q", blob, 0x28)
    size, count, names = struct.unpack_from("<HHH", blob, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", blob, start + i * size) for i in range(count)]
    strings = blob[heads[names][4]:][:heads[names][5]]
    return {strings[h[0]:strings.index(0, h[0])].decode(): blob[h[4]:h[4] + h[5]] for h in heads if h[1] != 8}


def open_object(blob: bytes, section: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Code, BTF, func_info and line_info of one section, as BPF_PROG_LOAD takes them."""
    found = sections(blob)
    if found.get(f".rel{section}"):
        raise BackendError(f"LLVM left relocations in {section!r}: a constant table or an unknown function")
    if ".BTF" not in found:
        return may_goto.patched(found[section], b"")[0], b"", b"", b""
    btf, records = found[".BTF"], found[".BTF.ext"]
    header, strings_at = struct.unpack_from("<I", btf, 4)[0], struct.unpack_from("<I", btf, 16)[0]
    strings = btf[header + strings_at:]
    _, _, _, length, func_at, func_size, line_at, line_size = struct.unpack_from("<HBBIIIII", records)
    code, lines = may_goto.patched(found[section], _records(records, length + line_at, line_size, strings, section))
    return code, btf, _records(records, length + func_at, func_size, strings, section), lines


def _records(blob: bytes, start: int, length: int, strings: bytes, section: str) -> bytes:
    """The records of one section; offsets count instructions for the kernel, bytes in the object."""
    blob = blob[start:start + length]
    if len(blob) < 4:
        return b""
    size, = struct.unpack_from("<I", blob)
    position = 4
    while position < len(blob):
        name, count = struct.unpack_from("<II", blob, position)
        body = blob[position + 8:position + 8 + count * size]
        if strings[name:strings.index(0, name)].decode() == section:
            return b"".join(struct.pack("<I", struct.unpack_from("<I", body, i)[0] // 8) + body[i + 4:i + size]
                            for i in range(0, len(body), size))
        position += 8 + count * size
    return b""
