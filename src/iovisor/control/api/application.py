"""The application: routes, errors, limits.

What goes wrong is always problem+json, whoever noticed it: a route, the body's schema, the router, or nobody, in which
case it is our mistake, logged, and says nothing of what is inside.
"""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ...model import Problem as Mistake
from ..platform import Platform
from ..problems import Refused, Wrong
from . import documents, inspection, networks, streams, tenants
from .bodies import Problem

MOST = 8 << 20                  # bytes of a body
PAGE = Path(__file__).with_name("page.html")
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": Problem, "description": "What went wrong", "content": {"application/problem+json": {}}}}
log = logging.getLogger(__name__)


def application(platform: Platform) -> FastAPI:
    """The API of a platform."""
    app = FastAPI(title="iovisor", version=__version__, docs_url=None, redoc_url=None, responses=RESPONSES,
                  description="Networks as documents: plan, apply, see, copy, undo.",
                  generate_unique_id_function=_identifier)
    app.state.platform = platform
    for router in (documents.router, networks.router, inspection.router, inspection.kinds, tenants.router,
                   streams.router):
        app.include_router(router, prefix="/v1")
    app.add_exception_handler(Wrong, _wrong)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(Exception, _mistake)
    app.add_middleware(Limit)

    @app.get("/health", tags=["health"])
    async def health() -> dict[str, str]:
        """Whether the daemon answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"),
                            headers={"content-security-policy": "default-src 'self'; script-src 'unsafe-inline'; "
                                                                "style-src 'unsafe-inline'"})
    return app


def _identifier(route: APIRoute) -> str:
    """The name of an operation in the description: `networks_rollback`."""
    return "_".join([*map(str, route.tags[:1]), route.name.strip("_")])


class Limit:
    """Refuses a body that is too large before it is read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST:
            await _problem(413, "too-large", "This is too much", f"a body has at most {MOST} bytes")(
                scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST:
                raise HTTPException(413, f"a body has at most {MOST} bytes")
            return message
        await self.app(scope, counted, send)


async def _wrong(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Wrong)
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse(error.document(), error.status, headers, "application/problem+json")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [Mistake("request", 0, 0, tuple(one["loc"][1:]) if one["loc"][0] == "body" else tuple(one["loc"]),
                     one["msg"][:1].lower() + one["msg"][1:]) for one in error.errors()]
    return await _wrong(request, Refused(found))


async def _other(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = _problem(error.status_code, "http", str(error.detail), str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _mistake(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(500, "internal", "This is a mistake in iovisor", "the daemon's log has more")


def _problem(status: int, kind: str, title: str, detail: str) -> JSONResponse:
    return JSONResponse({"type": f"urn:iovisor:{kind}", "title": title, "status": status, "detail": detail}, status,
                        None, "application/problem+json")
