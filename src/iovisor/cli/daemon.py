"""`iovisor daemon`: run it, ask how it is; `iovisor doctor`: can this machine carry networks?"""
from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

import click

from . import Abbreviated
from .client import DEFAULT, Client, host_option
from .errors import Unusable
from .output import output_option, show_one


@click.group("daemon", cls=Abbreviated, short_help="The daemon that keeps networks: run, status.")
def command() -> None:
    """The daemon that makes networks what documents say, and keeps them so."""


@command.command("run")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), default="/var/lib/iovisor",
              show_default=True, help="Its directory: the store, pins, images.")
@click.option("--socket", type=click.Path(path_type=Path), default=DEFAULT.removeprefix("unix:"), show_default=True,
              help="Where it listens.")
@click.option("--group", default="", help="A group that may open the socket; its members need tokens.")
@click.option("--listen", metavar="ADDRESS:PORT", default="", help="Also over TCP; everybody needs a token there.")
@click.option("--certificate", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="For TLS.")
@click.option("--key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Of the certificate.")
@click.option("--namespace", default="",
              help="The network namespace it switches in, by name or path; its own, if not said.")
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def run(state: Path, socket: Path, group: str, listen: str, certificate: Path | None, key: Path | None, namespace: str,
        verbose: bool) -> None:
    """Keep networks, until a signal ends it; they run on without it."""
    from .privileges import demand_compiler, demand_kernel
    demand_compiler()
    demand_kernel("the daemon")
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
        raise Unusable("the daemon needs a web server: pip install 'iovisor[daemon]'")
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(levelname)s %(message)s"
                        if os.environ.get("JOURNAL_STREAM") else "%(asctime)s %(levelname)s %(message)s")
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from ..control import daemon
    try:
        daemon.run(daemon.Options(state, socket, group, listen, certificate, key, namespace))
    except daemon.Unusable as error:
        raise Unusable(str(error)) from None


@command.command("status")
@output_option
@host_option
def status(output: str, client: Client) -> None:
    """Whether the daemon answers, which version it is, and who you are to it."""
    health, who = client.ask("GET", "/health"), client.get("whoami")
    networks = client.get("networks")
    found = {"host": client.host, **health, "you": who["name"], "role": who["role"], "tenant": who["tenant"],
             "networks": len(networks), "running": sum(1 for one in networks if one["runs"])}
    if output == "json":
        show_one(output, found)
    else:
        for name, value in found.items():
            click.echo(f"{name:10}{value}")


@click.command("doctor", short_help="Whether this machine can carry networks.")
@host_option
@click.pass_context
def doctor(ctx: click.Context, client: Client) -> None:
    """Look at what the daemon needs of this machine, and say how to mend what is missing; then it ends with 1."""
    from .privileges import denied
    failed = False

    def tell(holds: bool, what: str, fix: str = "", needed: bool = True) -> None:
        nonlocal failed
        failed = failed or (needed and not holds)
        sign = click.style("ok  ", fg="green") if holds else click.style("no  " if needed else "-   ",
                                                                       fg="red" if needed else "yellow")
        click.echo(sign + what + (f": {fix}" if fix and not holds else ""))
    why = denied()
    tell(not why, "programs can be loaded and namespaces made", why)
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    tell(release >= (6, 9), f"Linux {os.uname().release}", "6.9 is needed, for loops verified once")
    for module, extra in (("llvmlite", "compile"), ("fastapi", "daemon"), ("uvicorn", "daemon")):
        tell(importlib.util.find_spec(module) is not None, module, f"pip install 'iovisor[{extra}]'")
    if not why:
        from ..kernel.features import Feature, available
        for feature in Feature:
            tell(available(feature), feature.label, f"Linux {feature.since} has it", needed=False)
    try:
        health = client.ask("GET", "/health")
        tell(True, f"the daemon answers, version {health['version']}")
    except Unusable as error:
        tell(False, f"the daemon at {client.host}", str(error), needed=False)
    ctx.exit(1 if failed else 0)
