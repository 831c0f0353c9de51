"""Who asks, as the types of routes' parameters.

    Asking            anybody who is known
    Looking           who may look at the tenant in the path
    Changing          who may change it
    Administrating    admins, about the tenant in the path
    Wanted            which packets, of those that look at some
"""
from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request
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



def _wanted(function: str | None = Query(None, description="Only this function."),
            port: str | None = Query(None, description="Only what comes in by a port or goes out of it: `lan:0`."),
            verdict: str | None = Query(None, description="drop, host, forward, flood, punt."),
            reason: str | None = Query(None, description="Only drops for this reason."),
            mac: str | None = None, vlan: int | None = None, address: str | None = None, source: str | None = None,
            destination: str | None = None, protocol: str | None = None, service: int | None = None,
            ) -> dict[str, Any]:
    given = {"instance": function, "port": port, "verdict": verdict, "reason": reason, "mac": mac, "vlan": vlan,
             "address": address, "source": source, "destination": destination, "service": service,
             "protocol": int(protocol) if protocol and protocol.isdecimal() and len(protocol) < 4 else protocol}
    return {name: value for name, value in given.items() if value is not None}


Wanted = Annotated[dict[str, Any], Depends(_wanted)]
Looking = Annotated[Principal, Depends(_looking)]
Changing = Annotated[Principal, Depends(_changing)]
Administrating = Annotated[Principal, Depends(_administrating)]

__all__ = ["Administrating", "Asking", "Changing", "Looking", "On", "Wanted"]
