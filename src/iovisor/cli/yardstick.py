"""A C program in the place of compiled Python: the same maps, the same control path, other instructions.

The C file defines a function in the section `tc`, `xdp` or both (it is compiled once a target, with TC or XDP defined),
which is the function's ingress.  It names the maps of the instance it stands in for as undefined symbols: the tables by
their own names, and the platform's as `config`, `machine`, `drops`, `next` and `travelling`.  benchmarks/c has some.

The C compiler is the clang of the package ziglang: the same LLVM family as ours, no download of a toolchain.
"""
from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Unusable

if TYPE_CHECKING:
    from ..kernel import Map, Program
    from ..targets.bpf_loaded import BpfLoaded

PLATFORM = {"config": "@config", "machine": "@machine", "drops": "@drops", "next": "@next", "travelling": "@context"}
IN_PLACE = ("config", "machine")            # read as values, not looked up
BY_INDEX, VALUE_BY_INDEX = 5, 6


def compiled(file: Path, target: str) -> tuple[bytes, tuple[str, ...]]:
    """Instructions of a C file for a target, and the maps they number."""
    import importlib.util
    if not file.exists():
        raise Unusable(f"there is no file {file}")
    if importlib.util.find_spec("ziglang") is None:
        raise Unusable("comparing with C needs a C compiler: pip install ziglang (90 MB), then again")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "yardstick.o"
        ran = subprocess.run(
            [sys.executable, "-m", "ziglang", "clang", "-target", "bpfel", "-O2", "-mcpu=v4", "-ffreestanding",
             f"-D{target.upper()}", "-c", str(file), "-o", str(result)], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Unusable(f"{file} does not compile:\n{ran.stderr.strip()}")
        return _numbered(result.read_bytes(), target, file)


def _numbered(blob: bytes, section: str, file: Path) -> tuple[bytes, tuple[str, ...]]:
    """Each mention of a map becomes its number, as the loader wants it."""
    from ..compiler.image import sections
    text = sections(blob)
    if section not in text:
        raise Unusable(f'{file} has nothing in section "{section}"')
    code, maps = bytearray(text[section]), list[str]()
    symbols, strings = text[".symtab"], text[".strtab"]
    for place, info in struct.iter_unpack("<QQ", text.get(f".rel{section}", b"")):
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


def standing_in(file: Path, loaded: BpfLoaded) -> Program:
    """The C program, loaded with the maps of `loaded`, whose ingress it stands in for."""
    from ..kernel import Map, MapFlag, MapKind, MapSpec, Program, ProgramSpec
    from ..targets.bpf import BARE
    code, names = compiled(file, loaded.target)
    record = bytes(loaded.function.config.record())
    value = BARE.to_bytes(8, "little") + record.ljust(-(-len(record) // 8) * 8, b"\0")
    with Map.create(MapSpec("config", MapKind.ARRAY, 4, len(value), 1, MapFlag.READ_ONLY_PROGRAM)) as config:
        config.update(bytes(4), value)
        config.freeze()
        given = {**loaded.maps, "@config": config}
        spec = ProgramSpec("yardstick", loaded.kind, code, "Dual BSD/GPL", expected_attach_type=loaded.attach)
        return Program.load(spec, _maps(file, names, given))


def _maps(file: Path, names: Sequence[str], given: Mapping[str, Map]) -> list[Map]:
    unknown = [name for name in names if name not in given]
    if unknown:
        tables = ", ".join(name for name in given if not name.startswith("@"))
        raise Unusable(f"{file} names {', '.join(unknown)}, which is no table of the function: it has {tables}")
    return [given[name] for name in names]


__all__ = ["compiled", "standing_in"]
