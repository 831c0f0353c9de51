"""`iovisor format FILE...`: documents in their normal form, in which one meaning has one spelling.

Short forms are written out, names are sorted, addresses spelled in one way.  It is printed and not written back: what a
person wrote between the fields, a comment, would be lost.
"""
from __future__ import annotations

import click


@click.command("format", short_help="Print documents in their normal form.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option("--output", "-o", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], output: str) -> None:
    """Print the documents in FILE... in their normal form."""
    from ..model import normal
    from . import documents
    found = documents.sound(ctx, files, documents.offline())
    for number, one in enumerate(found):
        if number and output == "yaml":
            click.echo("---")
        documents.echo(normal(one.content), output)
