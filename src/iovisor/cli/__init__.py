"""The command line: `iovisor`.

    new        a function and its test, to begin with
    check      compile for every target, load, measure
    run        hosts around a function, with real packets between them
    bench      nanoseconds a packet, beside the empty program and beside C
    demo       the main job, on real traffic, in a minute

    validate, format, schema    documents, without a daemon
    plan, apply ...         documents, and what becomes of them     changes.py
    export, clone ...       copies of networks                      copies.py
    tenant, network ...     what there is, noun by noun             objects.py
    trace, events ...       what happens                            watching.py
    daemon, doctor          the daemon, and this machine            daemon.py

    completion, version

A command is a file of this folder, or a few of a kind are, and is imported when it is asked for.  At import time these
files know only click and the standard library; whatever else they need they import inside the function that needs it:
`iovisor --help` starts in the time Python takes, and typing a command wrong costs nothing.

What goes wrong is said in the form the error has anyway (errors.py), and the exit code is 1: a `CompileError` looks as
CPython would print it.  A traceback is for whoever asks for one, with `--traceback`.
"""
from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

#: In the order of a first hour with the tool; what is not in a module of its own name, with the module's.
COMMANDS = {
    "new": "", "check": "", "run": "", "bench": "", "demo": "",
    "validate": "", "format": "", "schema": "",
    "plan": "changes", "apply": "changes", "confirm": "changes", "rollback": "changes", "history": "changes",
    "diff": "changes", "destroy": "changes",
    "export": "copies", "import": "copies", "clone": "copies", "snapshot": "copies", "restore": "copies",
    "tenant": "objects", "network": "objects", "function": "objects", "port": "objects", "endpoint": "objects",
    "link": "objects", "peer": "objects", "token": "objects",
    "trace": "packets", "why": "packets", "watch": "packets", "flows": "packets", "capture": "packets",
    "top": "watching", "balance": "watching", "counters": "watching", "events": "watching", "graph": "watching",
    "daemon": "", "doctor": "daemon", "completion": "", "version": ""}
DETAILS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Abbreviated(click.Group):
    """A group in which an unambiguous beginning of a name is the name."""

    def named(self, text: str, ctx: click.Context) -> str:
        """The command that is meant; empty if there is none."""
        names = self.list_commands(ctx)
        matching = [name for name in names if name == text] or [name for name in names if name.startswith(text)]
        if len(matching) > 1:
            ctx.fail(f"{text!r} may be {' or '.join(matching)}")
        return matching[0] if matching else ""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.named(cmd_name, ctx))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest


class Commands(Abbreviated):
    """A group whose commands are modules, or in modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.named(cmd_name, ctx)
        if not name:
            return None
        module = import_module(f"iovisor.cli.{COMMANDS[name] or name}")
        attribute = f"{name}_" if name == "import" else name if COMMANDS[name] else "command"
        found: click.Command = getattr(module, attribute)
        return found

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
    elif os.environ.get("FORCE_COLOR"):
        ctx.color = True


def main() -> None:
    """The command `iovisor`."""
    commands(prog_name="iovisor")


__all__ = ["commands", "main"]
