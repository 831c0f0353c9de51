"""`iovisor diff OLD NEW`: what changes from one document to another, in what they mean, not in how they are written.

    +  is new        ~  is changed        -  is gone

Documents are compared by the network's name; two files with one document each are compared whatever their names.  With
the name of a network that runs instead, the command compares its revisions (changes.py).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..model import Document, Network, Tenant

    Pair = tuple[Network | Tenant | None, Network | Tenant | None]

COLOURS = {"+": "green", "~": "yellow", "-": "red"}


def between(ctx: click.Context, old: str, new: str, output: str) -> int:
    """Print what changes from the documents in one file to those in another; answers the exit code."""
    from ..model import difference
    from ..model.listing import data, summary
    from . import documents
    kinds = documents.offline()
    before, after = documents.sound(ctx, [old], kinds), documents.sound(ctx, [new], kinds)
    pairs = matched(before, after)
    changes = [change for one, other in pairs for change in difference(one, other)]
    if output in ("json", "yaml"):
        documents.echo({"changes": data(changes)}, output)
    else:
        for text in coloured(pairs):
            click.echo(text)
        click.echo(summary(changes))
    return 2 if changes else 0


def matched(before: list[Document], after: list[Document]) -> list[Pair]:
    """The documents of both sides that belong together."""
    if len(before) == len(after) == 1 and type(before[0].content) is type(after[0].content):
        return [(before[0].content, after[0].content)]
    old, new = ({named(one): one.content for one in side} for side in (before, after))
    return [(old.get(name), new.get(name)) for name in {**old, **new}]


def named(document: Document) -> str:
    """The name under which a document is looked for on the other side."""
    from ..model import Network
    content = document.content
    return content.key if isinstance(content, Network) else content.tenant


def coloured(pairs: list[Pair]) -> list[str]:
    """The lines of all changes."""
    from ..model import difference
    from ..model.listing import lines
    found = []
    for old, new in pairs:
        for text in lines(difference(old, new)):
            sign = text.lstrip()[:1]
            found.append(click.style(text, fg=COLOURS.get(sign), bold=not text.startswith(" ")))
    return found
