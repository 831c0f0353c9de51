"""C programs in the place of compiled Python: the same maps, the same control path, other instructions.

`Handwritten` is an instance like any other, made by the code that makes instances, whose programs come from
`benchmarks/c` instead of the compiler: see `iovisor.cli.yardstick`, which opens them for `iovisor bench --against` too.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path

from iovisor.cli import yardstick
from iovisor.kernel import Map, Program, ProgramSpec
from iovisor.targets.bpf_loaded import BpfLoaded

HERE = Path(__file__).parent


@cache
def compiled(name: str, target: str) -> tuple[bytes, tuple[str, ...]]:
    """Instructions of `c/<name>.c` for a hook, and the maps they number."""
    return yardstick.compiled(HERE / "c" / f"{name}.c", target)


class Handwritten(BpfLoaded):
    """An instance whose ingress is C."""

    def _load(self, stage: str, config: Map) -> Program:
        code, names = compiled(type(self.function).__name__.lower(), self.target)
        maps = [config if name == "@config" else self.maps[name] for name in names]
        spec = ProgramSpec("handwritten", self.kind, code, "Dual BSD/GPL", expected_attach_type=self.attach)
        return Program.load(spec, maps)
