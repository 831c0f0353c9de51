"""C programs in the place of compiled Python: the same maps, the same control path, other instructions.

`Handwritten` is an instance like any other, made by the code that makes instances, whose programs come from
`benchmarks/c` instead of the compiler.  The C compiler is a current clang (ziglang carries one).  Maps are undefined
symbols in C; here each mention becomes the number of a map, as the loader wants it.
"""
from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from iovisor.kernel import Map, Program, ProgramSpec
from iovisor.targets.bpf_loaded import BpfLoaded

HERE = Path(__file__).parent
PLATFORM = {"config": "@config", "machine": "@machine", "drops": "@drops", "next": "@next", "travelling": "@context"}
IN_PLACE = ("config", "machine")            # read as values, not looked up
BY_INDEX, VALUE_BY_INDEX = 5, 6


@cache
def compiled(name: str, target: str) -> tuple[bytes, tuple[str, ...]]:
    """Instructions of `c/<name>.c` for a hook, and the maps they number."""
    with tempfile.TemporaryDirectory() as folder:
        result = f"{folder}/{name}.o"
        subprocess.run([sys.executable, "-m", "ziglang", "clang", "-target", "bpfel", "-O2", "-mcpu=v4",
                        "-ffreestanding", "-Wall", f"-D{target.upper()}", "-c",
                        str(HERE / "c" / f"{name}.c"), "-o", result], check=True)
        return _numbered(Path(result).read_bytes(), target)


def _numbered(blob: bytes, section: str) -> tuple[bytes, tuple[str, ...]]:
    start, = struct.unpack_from("<Q", blob, 0x28)
    size, count, names = struct.unpack_from("<HHH", blob, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", blob, start + i * size) for i in range(count)]
    bodies = [blob[h[4]:h[4] + h[5]] for h in heads]
    text = {bodies[names][h[0]:bodies[names].index(0, h[0])].decode(): body
            for h, body in zip(heads, bodies, strict=True)}
    code, maps = bytearray(text[section]), list[str]()
    symbols, strings = text[".symtab"], text[".strtab"]
    for place, info, in struct.iter_unpack("<QQ", text.get(f".rel{section}", b"")):
        at, = struct.unpack_from("<I", symbols, (info >> 32) * 24)
        symbol = strings[at:strings.index(0, at)].decode()
        name = PLATFORM.get(symbol, symbol)
        if name not in maps:
            maps.append(name)
        addend, = struct.unpack_from("<i", code, place + 4)
        code[place + 1] = code[place + 1] & 15 | (VALUE_BY_INDEX if symbol in IN_PLACE else BY_INDEX) << 4
        struct.pack_into("<i", code, place + 4, maps.index(name))
        struct.pack_into("<i", code, place + 12, addend)
    return bytes(code), tuple(maps)


class Handwritten(BpfLoaded):
    """An instance whose ingress is C."""

    def _load(self, stage: str, config: Map) -> Program:
        code, names = compiled(type(self.function).__name__.lower(), self.target)
        maps = [{"@config": config, "@next": self.nexts[stage]}.get(name) or self.maps[name] for name in names]
        spec = ProgramSpec("handwritten", self.kind, code, "Dual BSD/GPL", expected_attach_type=self.attach)
        return Program.load(spec, maps)
