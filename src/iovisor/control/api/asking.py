"""Who asks, as the types of routes' parameters.

    Asking            anybody who is known
    Looking           who may look at the tenant in the path
    Changing          who may change it
    Administrating    admins, about the tenant in the path
"""
from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from ..access import Principal, principal
from ..platform import Platform

# For the description only: whether there is a token, and whose, is decided below.
_bearer = HTTPBearer(auto_error=False, description="A token, `iov_...`; over the unix socket root needs none.")


def _platform(request: Request) -> Platform:
    found: Platform = request.app.state.platform
    return found


def _asking(request: Request, _: Annotated[object, Depends(_bearer)]) -> Principal:
    return principal(_platform(request).records, getattr(request.state, "peer", None),
                     request.headers.get("authorization", ""))


On = Annotated[Platform, Depends(_platform)]
Asking = Annotated[Principal, Depends(_asking)]


def _looking(tenant: str, who: Asking) -> Principal:
    who.demand(tenant)
    return who


def _changing(tenant: str, who: Asking) -> Principal:
    who.demand(tenant, write=True)
    return who


def _administrating(tenant: str, who: Asking) -> Principal:
    who.demand(tenant)
    who.demand_admin()
    return who


Looking = Annotated[Principal, Depends(_looking)]
Changing = Annotated[Principal, Depends(_changing)]
Administrating = Annotated[Principal, Depends(_administrating)]

__all__ = ["Administrating", "Asking", "Changing", "Looking", "On"]
