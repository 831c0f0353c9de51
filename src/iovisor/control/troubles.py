"""What is not as it shall be, network by network, for as long as it is so.

A network that does not do what its document says must not look as if it did.  Whoever finds that out says so here, with
the reason, and says when it is over: both are events, and in between the network is shown as degraded, and why.  What
is said again is one trouble; a new reason is news.
"""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from .events import Events


@dataclass(frozen=True)
class Trouble:
    """`what` is not right, `why`, and since when (seconds since the epoch)."""

    what: str
    why: str
    since: float


class Troubles:
    """Of all networks; from any thread."""

    def __init__(self, events: Events) -> None:
        self._events, self._lock = events, threading.Lock()
        self._known: dict[str, dict[str, Trouble]] = {}

    def begun(self, key: str, what: str, why: str) -> None:
        """Something is wrong with the network `tenant/name`."""
        with self._lock:
            known = self._known.setdefault(key, {})
            former = known.get(what)
            if former is not None and former.why == why:
                return
            known[what] = Trouble(what, why, former.since if former else time.time())
        tenant, _, network = key.partition("/")
        self._events.publish("degraded", tenant, network, trouble=what, why=why)

    def over(self, key: str, what: str) -> None:
        """It is not wrong any more, if it was."""
        with self._lock:
            if self._known.get(key, {}).pop(what, None) is None:
                return
        tenant, _, network = key.partition("/")
        self._events.publish("recovered", tenant, network, trouble=what)

    def anew(self, key: str, why: str) -> None:
        """What stood could not be taken over: the network was made again; what its functions had learned is gone."""
        tenant, _, network = key.partition("/")
        self._events.publish("begun anew", tenant, network, why=why)

    def settle(self, key: str, sort: str, found: dict[str, str]) -> None:
        """Of one sort (`port`) exactly these are wrong now, and why."""
        for name, why in found.items():
            self.begun(key, f"{sort} {name}", why)
        for trouble in self.of(key):
            kind, _, name = trouble.what.partition(" ")
            if kind == sort and name not in found:
                self.over(key, trouble.what)

    def of(self, key: str) -> list[Trouble]:
        """What is wrong with a network, the oldest first."""
        with self._lock:
            return sorted(self._known.get(key, {}).values(), key=lambda trouble: trouble.since)

    def forget(self, key: str) -> None:
        """The network is no more."""
        with self._lock:
            self._known.pop(key, None)


__all__ = ["Trouble", "Troubles"]
