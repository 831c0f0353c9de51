"""`iovisor validate FILE...`: is a document in order?  All that is wrong with it, at once, and where.

Nothing is asked of a daemon, so that it can stand in a commit hook.  Exit code 1 if anything is wrong; warnings are
said, and leave it 0.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .documents import output_option

if TYPE_CHECKING:
    from ..model import Document


@click.command("validate", short_help="Check documents of networks and tenants.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@output_option
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], output: str) -> None:
    """Check the documents in FILE..., each by itself and all together: fields, names, ports, addresses, quotas."""
    from . import documents
    found, problems = documents.read(files, documents.offline())
    refused = any(not problem.warning for problem in problems)
    if output == "table":
        documents.say(problems)
        for one in () if refused else found:
            click.echo(f"{one.file}: {summary(one)}")
    else:
        documents.echo({"valid": not refused, "documents": [about(one) for one in found],
                        "problems": [documents.as_data(one) for one in problems]}, output)
    ctx.exit(1 if refused else 0)


def about(document: Document) -> dict[str, Any]:
    """What is in a document, in numbers."""
    from ..model import Network
    content = document.content
    if not isinstance(content, Network):
        return {"file": document.file, "tenant": content.tenant}
    return {"file": document.file, "tenant": content.tenant, "network": content.network,
            **{name: len(getattr(content, name)) for name in ("functions", "endpoints", "links")}}


def summary(document: Document) -> str:
    """The same in words."""
    counts = about(document)
    if "network" not in counts:
        return f"tenant {counts['tenant']}"
    words = (f"{counts[name]} {name if counts[name] != 1 else name.removesuffix('s')}"
             for name in ("functions", "endpoints", "links"))
    return f"network {counts['tenant']}/{counts['network']}: {', '.join(words)}"
