"""`iovisor run FILE --lab N`: hosts around a function, at once, with real packets between them.

The hosts are namespaces and the function runs in the kernel between their devices; while the command waits it is also
the function's control path: it hands punted packets to the handlers, and keeps the timers.  Everything ends with it.
"""
from __future__ import annotations

import inspect
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .columns import Cell, columns
from .errors import Unusable
from .source import config_option, file_argument

if TYPE_CHECKING:
    from ..fabric import Running
    from ..language import Function
    from .hosts import Answers, Hosts

SHOWN = 12


@click.command("run", short_help="Put hosts around a function, and ping through it.")
@file_argument
@config_option
@click.option("--lab", type=click.IntRange(1, 16), metavar="N", help="How many hosts (3, or one a port).")
@click.option("--once", is_flag=True, help="End after the first report, also at a terminal.")
@click.option("--seconds", type=click.FloatRange(0), metavar="S", help="End S seconds after the first report.")
def command(file: str, config: tuple[str, ...], lab: int | None, once: bool, seconds: float | None) -> None:
    """Run the function in FILE between N hosts, ping all pairs, and show what it did."""
    from .privileges import demand_compiler, demand_kernel
    from .source import kind, made
    demand_compiler()
    demand_kernel("run")
    found = kind(file)
    ports = max(found.spec().port_count, 1)
    count = lab or min(3, ports)
    if count > ports:
        raise Unusable(f"{found.__name__} has {ports} port{'s' * (ports > 1)}, too few for {count} hosts")
    stay = 0.0 if once else seconds if seconds is not None else None if sys.stdout.isatty() else 0.0
    try:
        _run(made(found, config), count, stay)
    except KeyboardInterrupt:
        click.echo("\nended; nothing is left")


def _run(function: Function, count: int, stay: float | None) -> None:
    from ..compiler.cache import Cache
    from .hosts import Hosts, ping_all
    name = function.spec().name
    with Hosts(count) as hosts, hosts.join(function, Cache()) as running:
        keeper = Keeper(running)
        click.echo(f"{click.style(name, bold=True)} between {count} host{'s' * (count > 1)}: "
                   + ", ".join(f"{h.name} on port {h.number - 1}, {h.ipv4} {h.ipv6}" for h in hosts.hosts[:3])
                   + (" ..." if count > 3 else ""))
        for family in (4, 6) if count > 1 else ():
            click.echo("\n" + matrix(hosts, ping_all(hosts, keeper.tend, family), f"IPv{family}"))
        click.echo("\n" + state(running))
        if stay == 0:
            return
        _hint(hosts, stay)
        end = None if stay is None else time.monotonic() + stay
        try:
            while end is None or time.monotonic() < end:
                keeper.tend()
                time.sleep(0.01)
        finally:
            click.echo("\n" + state(running))


class Keeper:
    """The control path of a running function: events to handlers, and timers when they are due."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.timers = dict(running.function.spec().timers)
        self.due = {name: time.monotonic() + seconds for name, seconds in self.timers.items()}

    def tend(self) -> None:
        """Do what is due now."""
        self.running.pump()
        for name, moment in self.due.items():
            if time.monotonic() >= moment:
                self.due[name] = time.monotonic() + self.timers[name]
                result = self.running.function.method(name)()
                if inspect.iscoroutine(result):
                    import asyncio
                    asyncio.run(result)


def matrix(hosts: Hosts, answers: Answers, title: str) -> str:
    """Who reached whom, and how fast."""
    rows: list[list[Cell]] = []
    for source in hosts.hosts:
        row: list[Cell] = [source.name]
        for target in hosts.hosts:
            best = answers.get((source.number, target.number))
            row.append("-" if source is target else "no answer" if best is None else f"{best:.2f} ms")
        rows.append(row)
    reached = sum(best is not None for best in answers.values())
    text = columns([f"ping {title}", *(host.name for host in hosts.hosts)], rows)
    return f"{text}\n  {reached} of {len(answers)} pairs answered"


def state(running: Running) -> str:
    """Tables, counters and drops."""
    function, parts = running.function, []
    for name, table in function.tables.items():
        entries = [(key, value) for key, value in table.items() if table.spec.kind != "array" or _written(value)]
        if not entries:
            continue
        if table.spec.kind == "counter":
            rows: list[list[Cell]] = [[index, int(count.packets), int(count.bytes)] for index, count in entries]
            parts.append(columns([name, "packets", "bytes"], rows))
        else:
            rows = [[words(key, table.spec.key), words(value, table.spec.value)] for key, value in entries[:SHOWN]]
            more = f"\n  ... and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            parts.append(columns([name, f"{len(entries)} of {table.spec.size}"], rows) + more)
    drops = running.drops
    if drops:
        parts.append(columns(["dropped", "packets"], [[reason, count] for reason, count in drops.items()]))
    else:
        parts.append("  nothing was dropped")
    return "\n\n".join(parts)


def words(value: Any, kind: Any) -> str:
    """A key or a value as people read it."""
    from ..language.integers import uint
    from ..language.layout import Record
    if isinstance(value, Record):
        return repr(value).partition("(")[2].removesuffix(")")
    described = uint(kind)
    if described is not None and described.text and isinstance(value, int):
        from ..language.addresses import TEXT
        return TEXT[described.text](value)
    return str(value)


def _written(value: Any) -> bool:
    try:
        return any(bytes(value)) if not isinstance(value, int) else value != 0
    except TypeError:
        return True


def _hint(hosts: Hosts, stay: float | None) -> None:
    import os
    first = hosts.hosts[0]
    place = f"/proc/{os.getpid()}/fd/{first.namespace.fd}"
    click.echo(f"\nit goes on for {stay:g} s" if stay is not None else "\nit goes on until Ctrl-C")
    click.echo(f"a shell in {first.name}:  nsenter --net={place} bash")
