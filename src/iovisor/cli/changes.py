"""Documents, and what becomes of them: plan, apply, confirm, rollback, history, diff, destroy.

`plan` ends with 0 if nothing would change, with 2 if something would, and with 1 if the document cannot stand.
"""
from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .client import Client, Live, Refusal, host_option, network_of
from .errors import Unusable
from .output import ago, output_option, show, show_one

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, allow_dash=True))
NETWORK = click.argument("network", type=Live("networks"), metavar="[TENANT/]NETWORK")
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
SIGNS = {"+": "green", "-": "red", "~": "yellow"}


class Duration(click.ParamType[float]):
    """`60s`, `5m`, or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = DURATION.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is not a duration like 60s or 5m", param, ctx)
        return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[found[2] or "s"]


class Revision(click.ParamType[Any]):
    """A revision's number, or a file to compare with."""

    name = "revision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        if text.isdecimal() and int(text) > 0:
            return int(text)
        if text == "-" or Path(text).is_file():
            return text
        self.fail(f"{text!r} is neither a revision nor a document's file", param, ctx)


@click.command("plan", short_help="Say what applying documents would change.")
@FILES
@output_option
@host_option
@click.pass_context
def plan(ctx: click.Context, files: tuple[str, ...], output: str, client: Client) -> None:
    """Say what applying FILES would change, and change nothing.

    Ends with 0 if nothing would change, 2 if something would, 1 if a document cannot stand.
    """
    found = [change for file in files for change in send(client, "plan", file)]
    _tell(output, found, "would be")
    ctx.exit(2 if any(change["changes"] or change["steps"] for change in found) else 0)


@click.command("apply", short_help="Make networks what documents say.")
@FILES
@click.option("--confirm", type=Duration(), default="0", metavar="TIME",
              help="Undo it after so long, as 60s, unless `iovisor confirm` comes before.")
@click.option("--message", "-m", default="", help="Why; kept in the history.")
@output_option
@host_option
def apply(files: tuple[str, ...], confirm: float, message: str, output: str, client: Client) -> None:
    """Make networks what FILES say: each of them all of the new, or all of the old."""
    with _progress("applying"):
        found = [change for file in files
                 for change in send(client, "apply", file, message=message, confirm=confirm)]
    _tell(output, found, "is")
    if confirm and output == "table":
        for change in found:
            if change["changes"]:
                name = f"{change['tenant']}/{change['network']}"
                click.echo(f"{name} goes back in {confirm:.0f} s; to keep it: iovisor confirm {name}")


@click.command("confirm", short_help="Keep what was applied for a time.")
@NETWORK
@host_option
def confirm(network: str, client: Client) -> None:
    """Keep what was applied to NETWORK with --confirm."""
    tenant, name = network_of(client, network)
    done = client.post("tenants", tenant, "networks", name, "confirm")
    click.echo(f"{tenant}/{name}: revision {done['revision']} stays")


@click.command("rollback", short_help="Go back to a former revision.")
@NETWORK
@click.argument("revision", type=click.IntRange(1), required=False)
@click.option("--message", "-m", default="", help="Why; kept in the history.")
@output_option
@host_option
def rollback(network: str, revision: int | None, message: str, output: str, client: Client) -> None:
    """Apply REVISION of NETWORK again; the one before the current, if not said."""
    tenant, name = network_of(client, network)
    with _progress("rolling back"):
        done = client.post("tenants", tenant, "networks", name, "rollback", revision=revision, message=message)
    _tell(output, [done], "is")


@click.command("history", short_help="The revisions of a network.")
@NETWORK
@output_option
@host_option
def history(network: str, output: str, client: Client) -> None:
    """Every revision of NETWORK, the latest first."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "history")
    if output in ("table", "wide"):
        found = [{**one, "at": ago(one["at"]), "current": "*" if one["current"] else ""} for one in found]
    show(output, found, ("revision", "current", "at", "by", "message"))


@click.command("diff", short_help="What differs between revisions, or between documents.")
@click.argument("network", type=Live("networks"), metavar="[TENANT/]NETWORK|FILE")
@click.argument("before", type=Revision(), required=False)
@click.argument("after", type=click.IntRange(1), required=False)
@output_option
@host_option
@click.pass_context
def diff(ctx: click.Context, network: str, before: int | str | None, after: int | None, output: str,
         client: Client) -> None:
    """What differs between two revisions of NETWORK; the last two, if not said.

    With two files, `iovisor diff OLD NEW`: what changes from the documents of one to those of the other.  No daemon is
    asked then, and it ends as `plan` does: with 0 for no change, 2 for changes, 1 if a document cannot stand.
    """
    if isinstance(before, str):
        from .diff import between
        ctx.exit(between(ctx, network, before, output))
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "diff", before=before, after=after)
    if output in ("json", "yaml"):
        show_one(output, found)
    else:
        _lines(found["lines"])


@click.command("destroy", short_help="Take a network down, and forget it.")
@NETWORK
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@host_option
def destroy(network: str, yes: bool, client: Client) -> None:
    """Take NETWORK down, and forget its revisions and snapshots.  `iovisor export` keeps a copy."""
    tenant, name = network_of(client, network)
    if not yes:
        click.confirm(f"destroy {tenant}/{name}, its history and its snapshots?", abort=True)
    client.ask("DELETE", f"/v1/tenants/{tenant}/networks/{name}")
    click.echo(f"{tenant}/{name} is destroyed")


# -- parts -----------------------------------------------------------------------------------------------------------

def send(client: Client, what: str, file: str, **more: Any) -> list[dict[str, Any]]:
    """Send a document; if it names files of functions, those too."""
    text = _text(file)
    try:
        found: list[dict[str, Any]] = client.post("documents", what, text=text, file=file, **more)
    except Refusal as refusal:
        if not refusal.problem["type"].endswith(":sources-missing"):
            raise
        sources = {name: _source(file, text, name) for name in refusal.problem["files"]}
        found = client.post("documents", what, text=text, file=file, sources=sources, **more)
    return found


def _text(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Unusable(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file} cannot be read: {error}") from None


def _source(file: str, text: str, name: str) -> str:
    """A file that a document names.  The daemon asks for it, and gets nothing that the document does not name."""
    if name not in text or not name.endswith(".py"):
        raise Unusable(f"the daemon asks for {name}, which {file} does not name")
    folder = Path.cwd() if file == "-" else Path(file).parent
    return _text(str(folder / name))


def _tell(output: str, found: list[dict[str, Any]], verb: str) -> None:
    if output in ("json", "yaml"):
        show_one(output, found)
        return
    for change in found:
        name = f"{change['tenant']}/{change['network']}"
        if output == "name":
            click.echo(name)
            continue
        for warning in change["warnings"]:
            click.echo(click.style("warning: ", fg="yellow") + warning, err=True)
        if not change["after"]:
            click.echo(f"{name} is gone, as it was before")
        elif not change["changes"]:
            mended = f", mended: {'; '.join(change['steps'])}" if change["steps"] else ""
            click.echo(f"{name}: no change; revision {change['after']} stands{mended}")
        else:
            _lines(change["lines"])
            if output == "wide":
                for step in change["steps"]:
                    click.echo(f"    {step}")
            click.echo(f"{name} {verb} at revision {change['after']}: {change['summary']}")


def _lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(click.style(line, fg=SIGNS.get(line.lstrip()[:1])))


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say on a terminal that it takes a while, once it does."""
    if not sys.stderr.isatty():
        yield
        return
    done, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(0.2):
            if (seconds := time.monotonic() - begun) > 1:
                click.echo(f"\r{what} ... {seconds:.0f} s", nl=False, err=True)
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if time.monotonic() - begun > 1:
            click.echo("\r" + " " * 40 + "\r", nl=False, err=True)
