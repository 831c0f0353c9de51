"""What is in a network, and what it does."""
from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from ...fabric import Trace
from .. import actions, views, watching
from ..actions import plain
from ..problems import Missing, Refused
from ..sandbox.standin import StandIn
from .asking import Asking, Changing, Looking, On, Wanted
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
        frame = watching.frame_of(look, body.at, body.packet) if body.packet else bytes.fromhex(body.frame)
        done = look.ask(lambda running: running.trace(frame, at))
    except ValueError as error:
        raise Refused.at(str(error), ("packet" if body.packet else "frame",)) from error
    return {"document": plain(done.as_document()), "text": str(done), "why": why(done)}


def why(done: Trace) -> list[str]:
    """What became of a packet, a line for each copy of it, with what decided."""
    found = []
    for end in done.ends:
        hop = next((hop for hop in done.hops if hop.number == end.hop), None)
        what = {"out": f"leaves by {end.at}", "dropped": f"dropped by {end.at}: {end.text}"}.get(
            end.what, f"{end.what} at {end.at} {end.text}".rstrip())
        line = f", at {hop.line.file.rpartition('/')[2]}:{hop.line.number} `{hop.line.text.strip()}`" \
            if hop is not None and hop.line is not None and end.what == "dropped" else ""
        seen = f" ({'; '.join(hop.entries)})" if hop is not None and hop.entries and end.what == "dropped" else ""
        found.append(what + line + seen)
    return found


@router.get("/balance")
def balance(tenant: str, network: str, who: Looking, platform: On) -> dict[str, Any]:
    """What came in against what left or ended, packet for packet."""
    return views.Look(platform, tenant, network).balance()


@router.get("/flows")
def flows(tenant: str, network: str, who: Looking, platform: On, wanted: Wanted,
          seconds: Annotated[float, Query(ge=0.1, le=60)] = 2.0) -> list[dict[str, Any]]:
    """Who sends to whom, counted for so many seconds."""
    return watching.flows(views.Look(platform, tenant, network), wanted, seconds)


@router.get("/capture", response_class=StreamingResponse)
def capture(tenant: str, network: str, who: Changing, platform: On, port: Annotated[str, Query(max_length=200)],
            seconds: Annotated[float, Query(gt=0, le=3600)] = 10.0,
            packets: Annotated[int, Query(ge=1, le=1_000_000)] = 100_000) -> StreamingResponse:
    """A pcapng file of what goes in and out of a port, or of an endpoint's, as it goes by."""
    pieces = watching.capture(views.Look(platform, tenant, network), port, seconds, packets)
    return StreamingResponse(pieces, media_type="application/x-pcapng")


@kinds.get("/kinds")
def known(who: Asking, platform: On) -> list[dict[str, Any]]:
    """The functions there are: ports, configuration, actions."""
    from ..kinds import Kinds
    every = Kinds()
    return [{"kind": name, "ports": {**kind.named, **({"numbered": len(kind.numbered)} if kind.numbered else {})},
             "schema": kind.schema, "documentation": (kind.made.__doc__ or "").strip()}
            for name in every.names() for kind in [every.find(name)]]
