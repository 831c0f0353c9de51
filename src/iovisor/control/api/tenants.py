"""Tenants, and the tokens of those who act for them."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from ...model import Tenant, load_data
from .. import access
from ..kinds import Kinds, explained
from ..problems import Forbidden, Missing, Refused
from .asking import Administrating, Asking, Looking, On
from .bodies import TenantBody, TokenBody

router = APIRouter(tags=["tenants"])


@router.get("/whoami")
def whoami(who: Asking) -> dict[str, Any]:
    """Who you are, as far as the daemon knows."""
    return asdict(who)


@router.get("/tenants")
def tenants(who: Asking, platform: On) -> list[dict[str, Any]]:
    """All tenants you may look at."""
    return [{"tenant": name, "networks": len(platform.records.heads(name)), "quota": found.get("quota", {}),
             "description": found.get("description", "")}
            for name, found in platform.records.tenants().items() if who.sees(name)]


@router.get("/tenants/{tenant}")
def show(tenant: str, who: Looking, platform: On) -> dict[str, Any]:
    """A tenant's document."""
    return platform.tenant(tenant)


@router.put("/tenants/{tenant}")
def put(tenant: str, body: TenantBody, who: Administrating, platform: On) -> dict[str, Any]:
    """Make a tenant, or change its quota."""
    kinds = Kinds()
    with explained(kinds):
        read = load_data({"version": 1, "tenant": tenant, **body.model_dump()}, kinds)
    assert isinstance(read.content, Tenant)
    platform.put_tenant(who, read.content)
    return platform.tenant(tenant)


@router.delete("/tenants/{tenant}")
def delete(tenant: str, who: Administrating, platform: On) -> dict[str, Any]:
    """Forget a tenant that has no networks, and its tokens."""
    platform.drop_tenant(who, tenant)
    return {"removed": tenant}


@router.get("/tokens")
def tokens(who: Asking, platform: On) -> list[dict[str, Any]]:
    """The tokens there are; what they are in clear nobody knows."""
    if not who.writes:
        raise Forbidden("a viewer has no business with tokens")
    return [asdict(token) for token in platform.records.tokens() if who.role == "admin" or token.tenant == who.tenant]


@router.post("/tokens")
def issue(body: TokenBody, who: Asking, platform: On) -> dict[str, Any]:
    """A new token, shown this one time."""
    if body.role == "admin":
        who.demand_admin()
        if body.tenant:
            raise Refused.at("an admin is nobody's", ("tenant",), "leave the tenant out")
    else:
        who.demand(body.tenant, write=True)
        platform.tenant(body.tenant)
    secret, token = access.issue(platform.records, body.name, body.role, body.tenant)
    return {"token": secret, **asdict(token)}


@router.delete("/tokens/{id}")
def withdraw(id: str, who: Asking, platform: On) -> dict[str, Any]:
    """Withdraw a token."""
    if not who.writes:
        raise Forbidden("a viewer has no business with tokens")
    found = [token for token in platform.records.tokens()
             if token.id == id and (who.role == "admin" or token.tenant == who.tenant)]
    if not found:
        raise Missing(f"there is no token {id}")
    platform.records.drop_token(id)
    return {"removed": id}
