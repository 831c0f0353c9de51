"""From the kernel's complaint to the author's line; and what can be looked at on the way."""
from __future__ import annotations

import struct
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from iovisor.compiler import ir
from iovisor.compiler.driver import Compiled, compile
from iovisor.compiler.errors import VerifierRefused
from iovisor.compiler.llvm import Emitter, Pointer
from iovisor.compiler.target import lowers
from iovisor.kernel import ProgramKind
from iovisor.targets import bpf_loaded, load, target_named
from iovisor.targets.xdp import Xdp

from . import helpers_elsewhere
from .golden import Case, loaded

PROGRAM = """
head = pkt.parse(Head)
if head.kind == 3:
    return HOST
number = helpers_elsewhere.port_of(pkt)
return forward(number)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    yield loaded(Case("", PROGRAM.strip("\n"), ""), tmp_path)
    sys.modules.pop("case", None)


def lines(compiled: Compiled) -> set[tuple[str, int]]:
    """File and line of every line record of an image."""
    image = compiled.image
    header, strings_at = struct.unpack_from("<I", image.btf, 4)[0], struct.unpack_from("<I", image.btf, 16)[0]
    strings = image.btf[header + strings_at:]

    def text(offset: int) -> str:
        return strings[offset:strings.index(0, offset)].decode()

    found = set()
    for _, file, _, position in struct.iter_unpack("<IIII", image.line_info):
        found.add((Path(text(file)).name, position >> 10))
    return found


@pytest.mark.parametrize("target", ["tc", "xdp"])
def test_line_records_name_python_lines_of_all_files(module: ModuleType, target: str) -> None:
    found = lines(compile(module.Case, target_named(target)))
    assert {("case.py", 4), ("case.py", 5)} <= found
    source = Path(helpers_elsewhere.__file__).read_text().splitlines()
    inlined = source.index("    return pkt.port * FACTOR") + 1
    assert ("helpers_elsewhere.py", inlined) in found


def test_line_records_quote_the_source(module: ModuleType) -> None:
    image = compile(module.Case, target_named("xdp")).image
    assert b"head = pkt.parse(Head)" in image.btf and b"return pkt.port * FACTOR" in image.btf


def test_native_code_needs_no_records(module: ModuleType) -> None:
    image = compile(module.Case, target_named("native")).image
    assert image.btf == image.line_info == b""


class Careless(Xdp):
    """XDP without the bounds check of `parse`."""

    @lowers("parse")
    def parse(self, emit: Emitter, call: ir.Call) -> Pointer:
        data, _ = self.bounds(emit)
        return Pointer(data, "0")


@pytest.mark.root
def test_a_refusal_points_at_the_line(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = bpf_loaded.KINDS | {"xdp": (Careless, ProgramKind.XDP, bpf_loaded.KINDS["xdp"][2])}
    monkeypatch.setattr(bpf_loaded, "KINDS", kinds)
    with pytest.raises(VerifierRefused) as caught:
        load(module.Case(), "xdp")
    error = caught.value
    assert Path(str(error.filename)).name == "case.py" and error.lineno == 5
    assert (error.text or "").strip() == "if head.kind == 3:"
    assert "invalid access to packet" in error.log and "invalid access to packet" in error.reason
    printed = "".join(traceback.format_exception_only(error))
    assert "if head.kind == 3:" in printed and "a packet access is not covered by a bounds check" in printed
    assert "bug of the compiler" in printed and "^" in printed


@pytest.mark.root
@pytest.mark.parametrize("target", ["tc", "xdp"])
def test_every_stage_can_be_written(module: ModuleType, target: str, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    monkeypatch.setenv("IOVISOR_DUMP", "ir,llvm,asm,verifier")
    monkeypatch.setenv("IOVISOR_DUMP_DIR", str(folder))
    with load(module.Case(), target):
        pass
    names = {path.suffix: path for path in folder.iterdir()}
    assert {path.name for path in names.values()} == {f"case.ingress.{target}.{s}" for s in ("ir", "ll", "s", "log")}
    assert names[".ir"].read_text().startswith("program Case.ingress")
    assert "define i32 @ingress(ptr %ctx)" in names[".ll"].read_text()
    assert "exit" in names[".s"].read_text()
    assert "head = pkt.parse(Head)" in names[".log"].read_text()


def test_nothing_is_written_unasked(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IOVISOR_DUMP", raising=False)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    compile(module.Case, target_named("tc"))
    assert set(tmp_path.iterdir()) == before
