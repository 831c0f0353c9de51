"""A network's slow path, served in a thread while a test does what it does."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from iovisor.fabric import Network


@contextmanager
def served(net: Network) -> Iterator[None]:
    """Timers run and punted packets are handled meanwhile."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(net.serve())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
        assert not task.done(), "the slow path has ended by itself"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
