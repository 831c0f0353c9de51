"""`iovisor check FILE`: does it compile, does the kernel take it, and what does it cost?

Every function of the file, every entry, every target.  Nothing is taken from the cache, so that the times are those of
this source; and the kernel loads what was compiled, because only the verifier knows.

A refusal that concerns one target (it has no lowering for a primitive) is information, and the exit code stays 0 as
long as every entry runs somewhere that is not CPython.  An error in the source, or a refusal by the verifier, is 1.
"""
from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .columns import Cell, columns, size
from .measure import Compilation
from .source import config_option, file_argument

if TYPE_CHECKING:
    from ..language import Function

TARGETS = ("native", "tc", "xdp")


@dataclass
class Table:
    """A table and what it takes in the kernel while it holds what the configuration put there."""

    name: str
    kind: str
    key: int
    value: int
    room: int
    memory: int | None = None


@dataclass
class Report:
    """Everything found out about one function."""

    function: str
    file: str
    line: int
    summary: str
    compilations: list[Compilation] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    python: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_loaded: str = ""
    errors: dict[str, list[str]] = field(default_factory=dict)
    failed: bool = False


@click.command("check", short_help="Compile for every target, load, and measure.")
@file_argument
@config_option
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def command(ctx: click.Context, file: str, config: tuple[str, ...], output: str) -> None:
    """Compile every function in FILE for every target, load it into the kernel, and say what it costs."""
    from .privileges import demand_compiler
    from .source import kinds, made
    demand_compiler()
    reports = []
    for kind in kinds(file):
        made(kind, config)
        reports.append(report(kind, config))
        if output == "table":
            click.echo(shown(reports[-1]))
    if output == "json":
        import json
        click.echo(json.dumps([asdict(one) for one in reports], indent=2))
    if any(one.failed for one in reports):
        ctx.exit(1)


def report(kind: type[Function], config: tuple[str, ...]) -> Report:
    """Compile, load and measure one function."""
    import inspect
    import sys

    from .errors import said
    from .measure import python_costs
    from .privileges import denied
    from .source import entries, made
    module = sys.modules[kind.__module__]
    manual = (kind.__doc__ if "__doc__" in vars(kind) and kind.__doc__ else module.__doc__) or ""
    found = Report(kind.__name__, inspect.getsourcefile(kind) or "", inspect.getsourcelines(kind)[1],
                   manual.strip().partition("\n")[0], not_loaded=denied())
    for described in made(kind, config).tables.values():
        spec = described.spec
        assert isinstance(spec.size, int)
        sort = spec.kind + (" per cpu" if spec.per_cpu and spec.kind != "counter" else "")
        found.tables.append(Table(spec.name, sort, spec.key_size, spec.stored_size, spec.size))
    for entry in entries(kind):
        for target in TARGETS:
            found.compilations.append(_compilation(found, kind, config, target, entry))
        if all(one.refused for one in found.compilations if one.entry == entry):
            found.failed = True
            continue
        try:
            python = python_costs(made(kind, config), entry)
        except Exception as error:      # the author's data path, in CPython: whatever it raises
            found.failed = True
            found.errors.setdefault(said(error), []).append(f"CPython {entry}")
            continue
        found.python[entry] = {name: asdict(cost) for name, cost in python.items()}
    return found


def _compilation(found: Report, kind: type[Function], config: tuple[str, ...], target: str, entry: str) -> Compilation:
    from ..compiler.errors import BackendError, CompileError, TargetRefused
    from ..kernel import KernelError
    from .errors import said
    result = Compilation(target, entry)
    try:
        if target == "native" or found.not_loaded:
            _compiled(result, kind, target, entry)
        else:
            _loaded(found, result, kind, config, target, entry)
    except (CompileError, BackendError, KernelError) as error:
        result.refused = str(error.msg if isinstance(error, CompileError) else error)
        found.failed |= not isinstance(error, TargetRefused)
        found.errors.setdefault(said(error), []).append(f"{target} {entry}")
    return result


def _compiled(result: Compilation, kind: type[Function], target: str, entry: str) -> None:
    from ..compiler.driver import compile
    from ..compiler.image import sections
    from ..targets import target_named
    made = compile(kind, target_named(target), entry)
    result.frontend_ms, result.llvm_ms = made.timing.frontend * 1e3, made.timing.llvm * 1e3
    if target == "native":
        result.machine_code = sum(len(text) for name, text in sections(made.image.code).items()
                                  if name.startswith((".text", ".ltext")))
    else:
        _counted(result, made.image.code)


def _counted(result: Compilation, code: bytes) -> None:
    from .measure import stack_of
    result.instructions, result.stack = len(code) // 8, stack_of(code)


def _loaded(found: Report, result: Compilation, kind: type[Function], config: tuple[str, ...], target: str,
            entry: str) -> None:
    from ..kernel.programs import memory_of
    from ..targets.bpf_loaded import BpfLoaded
    from .measure import costs
    from .source import made
    begun = time.perf_counter()
    with BpfLoaded(made(kind, config), target, (entry,)) as loaded:
        whole = (time.perf_counter() - begun) * 1e3
        compiled = loaded.compiled[entry]
        timing, information = compiled.timing, loaded.programs[entry].info()
        result.frontend_ms, result.llvm_ms = timing.frontend * 1e3, timing.llvm * 1e3
        result.load_ms = whole - result.frontend_ms - result.llvm_ms - timing.waiting * 1e3
        _counted(result, compiled.image.code)
        result.in_kernel, result.walked = information.instructions, information.verified
        result.machine_code = information.compiled_length
        for table in found.tables:
            table.memory = memory_of(loaded.homes[table.name].map.fd)
        result.packets = costs(loaded, entry)


# -- for people ------------------------------------------------------------------------------------------------------

def shown(found: Report) -> str:
    """A report as text."""
    import os
    file = os.path.relpath(found.file)
    place = f"{file if not file.startswith('..') else found.file}:{found.line}"
    parts = [f"{click.style(found.function, bold=True)}  {click.style(place, dim=True)}"
             + (f"\n  {found.summary}" if found.summary else "")]
    rows: list[list[Cell]] = []
    for one in found.compilations:
        name = f"{one.target} {one.entry}"
        if one.refused:
            rows.append([name, "refused", None, None, None, None, None, None, None])
            continue
        rows.append([name, "ok" if one.load_ms is not None or one.target == "native" else "compiled", one.instructions,
                     one.in_kernel, one.walked, one.stack, one.machine_code,
                     f"{one.frontend_ms:.0f} + {one.llvm_ms:.0f} ms",
                     f"{one.load_ms:.0f} ms" if one.load_ms is not None else None])
    if any(not one.refused for one in found.compilations):
        parts.append(columns(["program", "", "instructions", "in kernel", "verified", "stack", "machine code B",
                              "front end + LLVM", "load"], rows))
    if found.tables and found.python:
        parts.append(columns(["table", "kind", "room", "key B", "value B", "memory"],
                             [[t.name, t.kind, t.room, t.key, t.value, size(t.memory)] for t in found.tables]))
    parts += [_packets(found, entry) for entry in found.python]
    if found.not_loaded:
        parts.append("  not loaded, so neither verified nor timed: " + found.not_loaded)
    for text, names in found.errors.items():
        parts.append(click.style(f"refused for {', '.join(names)}", fg="red", bold=True) + f"\n{text}")
    return "\n\n".join(parts) + "\n"


def _packets(found: Report, entry: str) -> str:
    """One line a packet: what becomes of it, and nanoseconds on each target."""
    programs = [one for one in found.compilations if one.entry == entry and one.packets]
    rows: list[list[Cell]] = []
    for name, cost in found.python[entry].items():
        row: list[Cell] = [name, cost["verdict"], f"{cost['nanoseconds'] / 1000:.1f} µs"]
        for one in programs:
            row.append(f"{one.packets[name].nanoseconds:.1f} ns" + ("" if one.packets[name].settled else " *"))
        rows.append(row)
    text = columns([f"packet at {entry}", "verdict", "CPython", *(one.target for one in programs)], rows)
    if any(not cost.settled for one in programs for cost in one.packets.values()):
        text += "\n  * the function changes this packet: run once a call, cold"
    return text
