"""`iovisor bench FILE`: nanoseconds a packet, beside the empty program and, if there is one, beside C.

All programs that are compared run in turn within each round, so that a busy machine is busy for all of them; the median
of the rounds is given, and for the comparison with C the median of the rounds' *ratios*.  How the time of one run is
taken is told in measure.py.
"""
from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .columns import Cell, columns
from .source import config_option, file_argument

if TYPE_CHECKING:
    from ..kernel import Program
    from ..language import Function, Packet

REPEAT = 20_000


@click.command("bench", short_help="Measure nanoseconds a packet, also against C.")
@file_argument
@config_option
@click.option("--against", type=click.Path(path_type=Path), metavar="C-FILE",
              help="The same ingress in C, on the same tables (see benchmarks/c).")
@click.option("--target", "-t", type=click.Choice(["tc", "xdp"]), multiple=True, help="Only this target.")
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True)
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(file: str, config: tuple[str, ...], against: Path | None, target: tuple[str, ...], rounds: int,
            output: str) -> None:
    """Measure what a packet costs in the ingress of the function in FILE, in the kernel."""
    from .privileges import demand_compiler, demand_kernel
    from .source import kind
    demand_compiler()
    demand_kernel("bench")
    found = kind(file)
    rows = [row for name in target or ("tc", "xdp") for row in measured(found, config, name, against, rounds)]
    if output == "json":
        import json
        click.echo(json.dumps(rows, indent=2))
        return
    head = ["target", "packet", "verdict", "empty", found.__name__, *(["C", "ratio"] if against else [])]
    lines: list[list[Cell]] = []
    for row in rows:
        lines.append([row["target"], row["packet"], row["verdict"], f"{row['empty']:.1f} ns",
                      f"{row['function']:.1f} ns" + ("" if row["settled"] else " *")])
        if against:
            lines[-1] += [f"{row['c']:.1f} ns", f"{row['ratio']:.2f}"]
    click.echo(columns(head, lines))
    click.echo(f"\n  medians of {rounds} rounds: CPU time of one run, less that of the empty program in its column"
               + ("\n  ratio: ours / C, below 1 is faster than C" if against else ""))
    if any(not row["settled"] for row in rows):
        click.echo("  * the function changes this packet: run once a call, cold")


def measured(kind: type[Function], config: tuple[str, ...], target: str, against: Path | None,
             rounds: int) -> list[dict[str, Any]]:
    """One row a packet."""
    from contextlib import ExitStack

    from ..compiler.cache import Cache
    from ..language import Packet
    from ..targets.bpf_loaded import BpfLoaded
    from .measure import empty, frames, learned, verdict_text
    from .source import made
    from .yardstick import standing_in
    rows = []
    with ExitStack() as undo:
        loaded = undo.enter_context(BpfLoaded(made(kind, config), target, cache=Cache()))
        program, nothing = loaded.programs["ingress"], undo.enter_context(empty(target))
        theirs = undo.enter_context(standing_in(against, loaded)) if against else None
        for name, (frame, answer) in frames().items():
            learned(loaded, answer)
            packet = Packet(frame, 0)
            verdict = loaded.run(packet)
            settled = bytes(packet) == frame
            if theirs is not None:
                other = Packet(frame, 0)
                said = loaded._run_tc(other, theirs) if target == "tc" else loaded._run_xdp(other, theirs)
                if said != verdict.code:
                    click.echo(f"warning: {name}: C answers {said:#x}, {kind.__name__} {verdict.code:#x}", err=True)
            loaded.run(Packet(frame, 0))
            packet = Packet(frame, 0)
            ours, c, floor = [], [], []
            for _ in range(rounds):
                floor.append(_time(nothing, target, packet, settled))
                ours.append(_time(program, target, packet, settled) - floor[-1])
                if theirs is not None:
                    c.append(_time(theirs, target, packet, settled) - floor[-1])
            row = {"target": target, "packet": name, "verdict": verdict_text(loaded.function, verdict),
                   "settled": settled, "empty": statistics.median(floor), "function": statistics.median(ours)}
            if theirs is not None:
                ratios = [a / b for a, b in zip(ours, c, strict=True) if b > 0]
                row |= {"c": statistics.median(c), "ratio": statistics.median(ratios) if ratios else 1.0}
            rows.append(row)
    return rows


def _time(program: Program, target: str, packet: Packet, settled: bool) -> float:
    from .measure import once, single
    return once(program, target, packet, REPEAT) if settled else single(program, target, packet)
