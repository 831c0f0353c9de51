"""One network: its document, its history, its copies."""
from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ... import model
from ...model import listing
from .. import views
from ..problems import Refused
from .asking import Asking, Changing, Looking, On
from .bodies import Changed, Clone, Document, Import, Rollback, SnapshotName
from .documents import changed, one

router = APIRouter(tags=["networks"])
Revision = Annotated[int, Query(ge=0)]


@router.get("/networks")
def networks(who: Asking, platform: On) -> list[dict[str, Any]]:
    """All networks you may look at."""
    return [views.network(platform, head) for head in platform.records.heads() if who.sees(head.tenant)]


@router.get("/tenants/{tenant}/networks")
def networks_of(tenant: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """A tenant's networks."""
    platform.tenant(tenant)
    return [views.network(platform, head) for head in platform.records.heads(tenant)]


@router.get("/tenants/{tenant}/networks/{network}")
def show(tenant: str, network: str, who: Looking, platform: On) -> dict[str, Any]:
    """A network: what stands, and its document."""
    head = platform.head(tenant, network)
    return {**views.network(platform, head), "document": model.normal(platform.document(head)),
            "text": model.dump(platform.document(head))}


@router.put("/tenants/{tenant}/networks/{network}")
def put(tenant: str, network: str, body: Document, who: Changing, platform: On) -> Changed:
    """Apply a document."""
    names = {"version": 1, "tenant": tenant, "network": network}
    for name, value in names.items():
        if body.document.get(name, value) != value:
            raise Refused.at(f"the path says {name} {value}, the document {body.document[name]!r}", ("document", name))
    read, kinds = platform.read_data(who, {**names, **body.document}, body.sources)
    return one(platform, who, read, kinds, body.message, body.confirm)


@router.delete("/tenants/{tenant}/networks/{network}")
def destroy(tenant: str, network: str, who: Changing, platform: On) -> dict[str, Any]:
    """The network is no more, nor is its history."""
    platform.destroy(who, tenant, network)
    return {"destroyed": f"{tenant}/{network}"}


@router.post("/tenants/{tenant}/networks/{network}/confirm")
def confirm(tenant: str, network: str, who: Changing, platform: On) -> dict[str, Any]:
    """What was applied for a time stays."""
    return {"revision": platform.confirm(who, tenant, network)}


@router.post("/tenants/{tenant}/networks/{network}/rollback")
def rollback(tenant: str, network: str, body: Rollback, who: Changing, platform: On) -> Changed:
    """Apply a former revision again."""
    return changed(platform.rollback(who, tenant, network, body.revision, body.message))


@router.get("/tenants/{tenant}/networks/{network}/history")
def history(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """Every revision, the latest first."""
    head = platform.head(tenant, network)
    return [{"revision": one.number, "at": one.at, "by": one.by, "message": one.message,
             "current": one.number == head.current} for one in reversed(platform.records.revisions(tenant, network))]


@router.get("/tenants/{tenant}/networks/{network}/history/{number}")
def revision(tenant: str, network: str, number: int, who: Looking, platform: On) -> dict[str, Any]:
    """One revision, with its document."""
    return asdict(platform.revision(tenant, network, number))


@router.get("/tenants/{tenant}/networks/{network}/diff")
def diff(tenant: str, network: str, who: Looking, platform: On, before: Revision = 0,
         after: Revision = 0) -> dict[str, Any]:
    """What differs between two revisions; 0 for the current one, and for the one before it."""
    head = platform.head(tenant, network)
    after = after or head.current
    earlier = [one.number for one in platform.records.revisions(tenant, network) if one.number < after]
    before = before or (earlier[-1] if earlier else 0)
    old = platform.revision(tenant, network, before).document if before else None
    edits = platform.edits(old, platform.revision(tenant, network, after).document)
    return {"before": before, "after": after, "summary": listing.summary(edits), "lines": listing.lines(edits),
            "edits": listing.data(edits)}


@router.post("/tenants/{tenant}/networks/{network}/clone")
def clone(tenant: str, network: str, body: Clone, who: Changing, platform: On) -> Changed:
    """The same network under another name."""
    who.demand(body.tenant, write=True)
    return changed(platform.clone(who, tenant, network, (body.tenant, body.network), body.rebind, body.learned))


@router.delete("/tenants/{tenant}/networks/{network}/peers/{endpoint}")
def revoke(tenant: str, network: str, endpoint: str, who: Changing, platform: On) -> Changed:
    """Close a gateway to another network, as if its `peer` were taken out of the document."""
    return changed(platform.revoke(who, tenant, network, endpoint))


@router.get("/tenants/{tenant}/networks/{network}/export")
def export(tenant: str, network: str, who: Looking, platform: On, tables: bool = False) -> dict[str, Any]:
    """Everything of a network in one piece."""
    return platform.export(tenant, network, tables)


@router.post("/import")
def import_(body: Import, who: Asking, platform: On) -> Changed:
    """The opposite of export."""
    to = None
    if body.tenant or body.network:
        found = body.exported.get("document")
        named = found if isinstance(found, dict) else {}
        to = (body.tenant or str(named.get("tenant")), body.network or str(named.get("network")))
    return changed(platform.import_(who, body.exported, to))


@router.get("/tenants/{tenant}/networks/{network}/snapshots")
def snapshots(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """What was kept."""
    platform.head(tenant, network)
    return [{"name": one.name, "at": one.at, "by": one.by, "revision": one.revision, "tables": one.memory}
            for one in platform.records.snapshots(tenant, network)]


@router.post("/tenants/{tenant}/networks/{network}/snapshots")
def snapshot(tenant: str, network: str, body: SnapshotName, who: Changing, platform: On) -> dict[str, Any]:
    """Keep what stands."""
    done = platform.snapshot(who, tenant, network, body.name, body.tables)
    return {"name": done.name, "revision": done.revision, "tables": done.memory}


@router.delete("/tenants/{tenant}/networks/{network}/snapshots/{name}")
def forget(tenant: str, network: str, name: str, who: Changing, platform: On) -> dict[str, Any]:
    """Remove a snapshot."""
    platform.forget(who, tenant, network, name)
    return {"removed": name}


@router.post("/tenants/{tenant}/networks/{network}/snapshots/{name}/restore")
def restore(tenant: str, network: str, name: str, who: Changing, platform: On) -> Changed:
    """Apply what a snapshot keeps."""
    return changed(platform.restore(who, tenant, network, name))
