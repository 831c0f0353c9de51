"""Texts of documents: what is wrong with them, what they would change, and the change.

A text may hold many documents, and all are read and checked before the first is applied.  They are applied one after
the other, tenants first, each atomically; what failed, and what was applied before it, the answer says.
"""
from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ...model import Document, Tenant, listing
from ..access import Principal
from ..kinds import Kinds
from ..platform import Change, Platform
from ..problems import Wrong
from .asking import Asking, On
from .bodies import Applying, Changed, Texts

router = APIRouter(tags=["documents"])


@router.post("/documents/validate")
def validate(body: Texts, who: Asking, platform: On) -> dict[str, Any]:
    """Is anything wrong?  Nothing changes."""
    read = platform.read(who, body.text, body.file, body.sources)
    return {"documents": [document.content.tenant if isinstance(document.content, Tenant) else document.content.key
                          for document, _ in read],
            "warnings": [str(problem) for document, _ in read for problem in document.warnings]}


@router.post("/documents/plan")
def plan(body: Texts, who: Asking, platform: On) -> list[Changed]:
    """What would change?  Nothing changes."""
    return [changed(platform.plan(platform.intent(document, kinds)))
            for document, kinds in networks(platform.read(who, body.text, body.file, body.sources))]


@router.post("/documents/apply")
def apply(body: Applying, who: Asking, platform: On) -> list[Changed]:
    """Make it so."""
    read = platform.read(who, body.text, body.file, body.sources)
    for document, _ in read:
        if isinstance(document.content, Tenant):
            platform.put_tenant(who, document.content)
    done: list[Changed] = []
    for document, kinds in networks(read):
        done.append(one(platform, who, document, kinds, body.message, body.confirm, done))
    return done


def networks(read: list[tuple[Document, Kinds]]) -> list[tuple[Document, Kinds]]:
    return [(document, kinds) for document, kinds in read if not isinstance(document.content, Tenant)]


def one(platform: Platform, who: Principal, document: Document, kinds: Kinds, message: str, confirm: float,
        done: list[Changed] | None = None) -> Changed:
    """Apply one document."""
    try:
        return changed(platform.apply(who, platform.intent(document, kinds), message, confirm))
    except Wrong as wrong:
        if done:
            wrong.more["applied"] = [f"{change.tenant}/{change.network}" for change in done]
        raise


def changed(change: Change) -> Changed:
    return Changed(tenant=change.tenant, network=change.network, before=change.before, after=change.after,
                   changes=change.changes, summary=listing.summary(change.edits), lines=listing.lines(change.edits),
                   edits=listing.data(change.edits), steps=[str(step) for step in change.steps],
                   warnings=list(change.warnings))
