"""News, for whoever listens: networks applied, rolled back, mended; and what a listener missed.

Publishing never waits: a listener that does not keep up loses the oldest news it had waiting, and is told so.
"""
from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

KEPT = 1000
WAITING = 1000


@dataclass(frozen=True)
class Event:
    """Something happened to a network, or to a tenant."""

    number: int
    at: float
    what: str
    tenant: str
    network: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Events:
    """Published from any thread, heard in an event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, asyncio.Event, deque[Event]]] = {}

    def publish(self, what: str, tenant: str, network: str = "", **details: Any) -> Event:
        """Tell everybody."""
        with self._lock:
            event = Event(next(self._numbers), time.time(), what, tenant, network, details)
            self._past.append(event)
            for loop, ready, queue in self._listeners.values():
                queue.append(event)
                loop.call_soon_threadsafe(ready.set)
        return event

    def past(self, after: int = 0) -> list[Event]:
        """What is remembered, after the event of a number."""
        with self._lock:
            return [event for event in self._past if event.number > after]

    async def listen(self, after: int | None = None) -> AsyncIterator[Event]:
        """Events from now on, or after the event of a number; ends when its listener does."""
        key, ready, queue = object(), asyncio.Event(), deque[Event](maxlen=WAITING)
        with self._lock:
            if after is not None:
                queue.extend(event for event in self._past if event.number > after)
            self._listeners[key] = asyncio.get_running_loop(), ready, queue
        ready.set()
        try:
            while True:
                await ready.wait()
                ready.clear()
                while queue:
                    yield queue.popleft()
        finally:
            with self._lock:
                del self._listeners[key]


__all__ = ["Event", "Events"]
