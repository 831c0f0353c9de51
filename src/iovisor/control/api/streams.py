"""Events, and counters as they change, for as long as one listens: server-sent events.

    id: 17
    event: applied
    data: {"at": ..., "tenant": "acme", "network": "prod", "details": {...}}

Whoever comes back with `Last-Event-ID` gets what was missed, as far as it is remembered.
"""
from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from .. import views, watching
from ..access import Principal
from ..events import Events
from ..problems import Wrong
from .asking import Asking, Looking, On, Wanted

router = APIRouter(tags=["streams"])
ALIVE = 15.0                    # seconds after which a silent stream says that it is there
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
Last = Annotated[int | None, Header(alias="last-event-id", ge=0)]


@router.get("/events", response_class=StreamingResponse)
async def events(who: Asking, platform: On, last: Last = None) -> StreamingResponse:
    """What happens, as it happens."""
    return _stream(_events(platform.events, who, last))


@router.get("/tenants/{tenant}/networks/{network}/counters/stream", response_class=StreamingResponse)
async def counters(tenant: str, network: str, who: Looking, platform: On,
                   interval: Annotated[float, Query(ge=0.1, le=3600)] = 1.0) -> StreamingResponse:
    """Counters, every so many seconds."""
    look = await run_in_threadpool(views.Look, platform, tenant, network)

    async def read() -> AsyncIterator[str]:
        while True:
            try:
                yield _message("counters", await run_in_threadpool(look.counters))
            except (Wrong, RuntimeError) as error:          # it was destroyed, or the daemon ends
                yield _message("end", {"detail": str(error)})
                return
            await asyncio.sleep(interval)
    return _stream(read())


@router.get("/tenants/{tenant}/networks/{network}/watch", response_class=StreamingResponse)
async def watch(tenant: str, network: str, who: Looking, platform: On, wanted: Wanted) -> StreamingResponse:
    """Packets that match, as functions deal with them."""
    look = await run_in_threadpool(views.Look, platform, tenant, network)
    opened = watching.watch(look, wanted)
    read = await run_in_threadpool(opened.__enter__)

    async def packets() -> AsyncIterator[str]:
        try:
            yield ": watching\n\n"
            silent = 0.0
            while True:
                found = await run_in_threadpool(read)
                for seen in found:
                    yield _message("packet", watching.told(seen))
                silent = 0.0 if found else silent + watching.EVERY
                if silent >= ALIVE:                         # also finds out that nobody listens any more
                    yield ": alive\n\n"
                    silent = 0.0
                if len(found) < watching.AT_ONCE:
                    await asyncio.sleep(watching.EVERY)
        except (Wrong, RuntimeError) as error:
            yield _message("end", {"detail": str(error)})
        finally:
            # Nothing can be waited for by who is cancelled, and the network may be busy.
            threading.Thread(target=opened.__exit__, args=(None, None, None)).start()
    return _stream(packets())


async def _events(events: Events, who: Principal, last: int | None) -> AsyncIterator[str]:
    listener = events.listen(last)
    waiting = asyncio.ensure_future(anext(listener))
    try:
        yield ": listening\n\n"
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=ALIVE)
            if not done:
                yield ": alive\n\n"
                continue
            event = waiting.result()
            waiting = asyncio.ensure_future(anext(listener))
            if who.sees(event.tenant):
                yield _message(event.what, asdict(event), event.number)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await listener.aclose()                                                         # type: ignore[attr-defined]


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(lines, media_type="text/event-stream", headers=HEADERS)


def _message(event: str, data: Any, number: int | None = None) -> str:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
