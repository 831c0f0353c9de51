"""Asks the application as a server would, without one: a request in, an answer out; a stream is left after its first
part."""
from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI

ROOT = (1, 0, 0)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def ask(app: FastAPI, method: str, path: str, body: Any = None, token: str = "",
        peer: tuple[int, int, int] | None = None, raw: bytes | None = None) -> Answer:
    """One request, with a token, or from a peer of a unix socket."""
    content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    where, _, query = path.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
             "path": where, "raw_path": quote(where).encode(), "query_string": query.encode(), "root_path": "",
             "headers": headers, "client": ("test", 1), "server": ("test", 1),
             "state": {"peer": peer} if peer else {}}
    found: list[Any] = []

    async def run() -> None:
        begun, enough, sent = asyncio.Event(), asyncio.Event(), False

        async def receive() -> Any:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": content, "more_body": False}
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            found.append(message)
            if message["type"] == "http.response.body" and message.get("more_body"):
                enough.set()
            begun.set()
        await asyncio.wait_for(app(scope, receive, send), 60)
    asyncio.run(run())
    kind = dict(found[0]["headers"]).get(b"content-type", b"").decode()
    return Answer(found[0]["status"], kind, b"".join(message.get("body", b"") for message in found[1:]))
