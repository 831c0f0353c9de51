"""Waiting for what comes in its own time, however slow the machine."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether a condition has come true, by then."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return true or condition()


async def until_true(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """The same, while others run."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    return true or condition()
