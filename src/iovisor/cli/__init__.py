"""The command line: `iovisor`.

    new        a function and its test, to begin with
    check      compile for every target, load, measure
    run        hosts around a function, with real packets between them
    bench      nanoseconds a packet, beside the empty program and beside C
    demo       the main job, on real traffic, in a minute
    completion, version

One command is one file of this folder, and is imported when it is asked for.  At import time these files know only
click and the standard library; whatever else they need they import inside the function that needs it: `iovisor --help`
starts in the time Python takes, and typing a command wrong costs nothing.

What goes wrong is said in the form the error has anyway (errors.py), and the exit code is 1: a `CompileError` looks as
CPython would print it.  A traceback is for whoever asks for one, with `--traceback`.
"""
from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

#: In the order of a first hour with the tool.
COMMANDS = ("new", "check", "run", "bench", "demo", "completion", "version")
DETAILS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(click.Group):
    """A group whose commands are modules; an unambiguous beginning of a name is the name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        matching = [name for name in COMMANDS if name == cmd_name] or [n for n in COMMANDS if n.startswith(cmd_name)]
        if len(matching) > 1:
            ctx.fail(f"{cmd_name!r} may be {' or '.join(matching)}")
        if not matching:
            return None
        found: click.Command = import_module(f"iovisor.cli.{matching[0]}").command
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("traceback"):
                raise
            from .errors import said
            click.echo(said(error), err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings=DETAILS)
@click.option("--traceback", is_flag=True, help="Show where an error comes from inside iovisor, for its developers.")
@click.pass_context
def commands(ctx: click.Context, traceback: bool) -> None:
    """Network functions written in Python, run in the Linux kernel.

    A function is a Python class that says what becomes of a packet. CPython running it is what it means; the same
    source is compiled to native code and to eBPF for TC and XDP.

    To begin: `iovisor demo` (as root), or `iovisor new hub`.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main() -> None:
    """The command `iovisor`."""
    commands(prog_name="iovisor")


__all__ = ["commands", "main"]
