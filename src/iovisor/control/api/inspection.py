"""What is in a network, and what it does."""
from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from .. import actions, views
from ..actions import plain
from ..problems import Missing, Refused
from ..sandbox.standin import StandIn
from .asking import Asking, Changing, Looking, On
from .bodies import Arguments, Packet

router = APIRouter(prefix="/tenants/{tenant}/networks/{network}", tags=["inspection"])
kinds = APIRouter(tags=["inspection"])


@router.get("/functions")
def functions(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """Every function, with its drops."""
    return views.Look(platform, tenant, network).functions()


@router.get("/functions/{function}")
def function(tenant: str, network: str, function: str, who: Looking, platform: On) -> dict[str, Any]:
    """One function: configuration, tables, drops by reason, actions."""
    return views.Look(platform, tenant, network).function(function)


@router.post("/functions/{function}/actions/{action}")
def act(tenant: str, network: str, function: str, action: str, body: Arguments, who: Changing,
        platform: On) -> dict[str, Any]:
    """Call an action of a function."""
    def call(running: Any) -> Any:
        if function not in running.instances:
            raise Missing(f"{tenant}/{network} has no function {function}")
        found = running.instances[function].function
        return found.act(action, body.arguments) if isinstance(found, StandIn) else \
            actions.act(found, action, body.arguments)
    answer = platform.call(tenant, network, call)
    platform.events.publish("action", tenant, network, function=function, action=action, by=who.name)
    return {"answer": answer}


@router.get("/ports")
def ports(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """Every port that is joined, and its traffic."""
    return views.Look(platform, tenant, network).ports()


@router.get("/endpoints")
def endpoints(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """What each endpoint is attached to, and its state."""
    return views.Look(platform, tenant, network).endpoints()


@router.get("/peers")
def peers(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """Gateways to other networks, `open` or `waiting` for the other side."""
    return views.Look(platform, tenant, network).peers()


@router.get("/links")
def links(tenant: str, network: str, who: Looking, platform: On) -> list[dict[str, Any]]:
    """Every link."""
    return views.Look(platform, tenant, network).links()


@router.get("/counters")
def counters(tenant: str, network: str, who: Looking, platform: On) -> dict[str, Any]:
    """Packets and bytes by port, drops by function and reason."""
    return views.Look(platform, tenant, network).counters()


@router.get("/graph")
def graph(tenant: str, network: str, who: Looking, platform: On) -> dict[str, Any]:
    """Nodes and edges."""
    return views.Look(platform, tenant, network).graph()


@router.post("/trace")
def trace(tenant: str, network: str, body: Packet, who: Looking, platform: On) -> dict[str, Any]:
    """What would become of a packet, hop by hop.  Nothing is sent, and nothing changes."""
    look = views.Look(platform, tenant, network)
    at = look.lowered.places.get(body.at, body.at)
    try:
        frame = bytes.fromhex(body.frame)
        done = look.ask(lambda running: running.trace(frame, at))
    except ValueError as error:
        raise Refused.at(str(error), ("frame",)) from error
    return {"document": plain(done.as_document()), "text": str(done)}


@kinds.get("/kinds")
def known(who: Asking, platform: On) -> list[dict[str, Any]]:
    """The functions there are: ports, configuration, actions."""
    from ..kinds import Kinds
    every = Kinds()
    return [{"kind": name, "ports": {**kind.named, **({"numbered": len(kind.numbered)} if kind.numbered else {})},
             "schema": kind.schema, "documentation": (kind.made.__doc__ or "").strip()}
            for name in every.names() for kind in [every.find(name)]]
