"""A kind and a target in, an image out.

    resolve, build      syntax trees to the typed representation        build.py, expressions.py, primitives.py
    check               intervals, presence, staleness, bounds          check.py
    generate            LLVM text                                        llvm.py with the target's lowerings
    back end            object file, in a child process                  backend.py
    open                code, BTF, line records                          image.py

`IOVISOR_DUMP=ir,llvm,asm` writes each stage to `IOVISOR_DUMP_DIR` (the working directory if unset), named after kind,
entry and target; `verifier` is written by whoever loads.
"""
from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ..language.function import Function
from ..language.layout import Header
from ..language.verdicts import FLOOD_KIND
from . import ir
from .backend import BACKEND, Job
from .build import Builder
from .cache import Cache, Dependencies
from .check import Checked, check
from .errors import BackendError, CompileError
from .image import Image, open_object
from .llvm import Emitter
from .target import Target


@dataclass(frozen=True)
class Timing:
    """Seconds a compilation took, by part; all zero but `cache` when the image was kept."""

    frontend: float = 0.0
    llvm: float = 0.0
    waiting: float = 0.0
    cache: float = 0.0


@dataclass(frozen=True)
class Compiled:
    """An image and how it came to be."""

    image: Image
    timing: Timing
    cached: bool


def analyse(kind: type[Function], entry: str = "ingress") -> tuple[Checked, Builder]:
    """The front end: a checked program, and the builder that knows what it reached."""
    builder = Builder(kind, entry)
    return check(builder.build()), builder


def show(kind: type[Function], entry: str = "ingress") -> str:
    """The representation as text, for people and golden tests."""
    return ir.show(Builder(kind, entry).build())


def generate(checked: Checked, kind: type[Function], target: Target) -> tuple[str, tuple[str, ...]]:
    """LLVM text, and the maps it numbers."""
    target.accepts(checked.program)
    emitter = Emitter(checked, target, kind.spec().config.layout)
    text = emitter.text()
    return text, tuple(emitter.maps)


def compile(kind: type[Function], target: Target, entry: str = "ingress", cache: Cache | None = None) -> Compiled:
    """Compile one entry of a kind.  Raises `CompileError` on the author's line; `BackendError` is our bug."""
    begun = time.perf_counter()
    if cache is not None:
        kept = cache.find(kind, entry, target)
        if kept is not None:
            return Compiled(kept, Timing(cache=time.perf_counter() - begun), True)
    BACKEND.start()
    checked, builder = analyse(kind, entry)
    text, maps = generate(checked, kind, target)
    frontend = time.perf_counter() - begun
    dump("ir", kind, entry, target, lambda: ir.show(checked.program))
    dump("llvm", kind, entry, target, lambda: text)
    features = "+allows-misaligned-mem-access" if target.triple.startswith("bpf") else ""
    asked = time.perf_counter()
    try:
        product = BACKEND.compile(Job(text, target.triple, target.cpu, features, target.level, dumping("asm")))
    except BackendError as error:
        raise explained(error, checked.program) from error
    waiting = time.perf_counter() - asked - product.seconds
    dump("asm", kind, entry, target, lambda: product.assembly)
    whole = product.code, b"", b"", b""
    code, btf, functions, lines = open_object(product.code, target.section) if target.section else whole
    floods = any(isinstance(node, ir.MakeVerdict) and node.kind == FLOOD_KIND for node in ir.walk(checked.program))
    image = Image(kind.__name__, entry, target.identity, code, maps, btf, functions, lines, product.assembly, floods,
                  sums(checked))
    if cache is not None:
        cache.keep(kind, entry, target, image, Dependencies.of(builder))
    return Compiled(image, Timing(frontend, product.seconds, waiting), False)


def sums(checked: Checked) -> bool:
    """Whether the program adjusts checksums that cover more than a header."""
    found = (node for node in ir.walk(checked.program) if isinstance(node, ir.Call) and node.op == "rewrite")
    return any(map(_covers, found))


def _covers(node: ir.Call) -> bool:
    kind = node.args[0].type
    assert isinstance(kind, ir.View) and issubclass(kind.layout, Header)
    covered = kind.layout.coverage is not None and kind.layout.coverage.scope == "transport"
    return covered or node.statics[1] is not None


def explained(error: BackendError, program: ir.Program) -> CompileError | BackendError:
    """What LLVM's back end refuses that an author can do something about."""
    said = str(error)
    if "stack" in said.lower() and ("limit" in said or "exceed" in said):
        return CompileError("this function needs more than the 512 bytes of stack eBPF has: keep fewer records alive "
                            "at once", program.span)
    return error


def dumping(stage: str) -> bool:
    return stage in os.environ.get("IOVISOR_DUMP", "").split(",")


def dump(stage: str, kind: type[Function], entry: str, target: Target, text: object) -> None:
    """Write a stage if `IOVISOR_DUMP` names it."""
    if not dumping(stage):
        return
    assert callable(text)
    suffix = {"ir": "ir", "llvm": "ll", "asm": "s", "verifier": "log"}[stage]
    name = f"{kind.__name__.lower()}.{entry}.{target.name}.{suffix}"
    with open(os.path.join(os.environ.get("IOVISOR_DUMP_DIR", "."), name), "w") as file:
        file.write(text())
