"""`iovisor schema`: what editors need to complete and check documents while they are written.

With a kind, the configuration of that kind alone, an author's own too: `iovisor schema rtt.py:RttMeter`.
"""
from __future__ import annotations

import click


@click.command("schema", short_help="Print the JSON Schema of documents, for editors.", epilog="\b\n"
               "iovisor schema > iovisor.schema.json, and in the first line of a document:\n"
               "# yaml-language-server: $schema=iovisor.schema.json")
@click.argument("kind", required=False)
@click.option("--output", "-o", type=click.Choice(["json", "yaml"]), default="json", show_default=True)
def command(kind: str | None, output: str) -> None:
    """Print the JSON Schema of documents, or of the configuration of KIND."""
    from ..model import UnknownKind
    from ..model.editors import schema
    from . import documents
    from .errors import Unusable
    kinds = documents.offline()
    try:
        found = schema(kinds) if kind is None else dict(kinds.find(kind, "").schema)
    except UnknownKind as unknown:
        raise Unusable(f"{unknown.what}; {unknown.fix}") from unknown
    documents.echo(found, output)
