"""Makes every network what its current revision says: at start, and ever after.

Looks every second for what was to be confirmed and was not, and every five for drift.  What cannot be made so is a
trouble of its network (troubles.py), is tried again, and holds up no other network.
"""
from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ..fabric import Network as Fabric
from . import commit
from .access import Principal
from .records import Head
from .shape import Shape, Step

if TYPE_CHECKING:
    from .platform import Platform

LOOK = 1.0                      # seconds between two looks for what is overdue
MEND = 5.0                      # seconds between two looks for drift
DAEMON = Principal("the daemon", "admin")
log = logging.getLogger(__name__)


class Mender:
    """One a platform, in a thread of its own."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._failed: dict[str, int] = {}                       # handlers of a network that had failed
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._for_ever, name="mend", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def attempt(self, head: Head) -> None:
        """Make a network what its current revision says; what goes wrong is a trouble of the network."""
        try:
            self.mend(head)
        except Exception as error:                              # of any author's function, too: others go on
            self._wrong(head.key, error)
        else:
            self._platform.troubles.over(head.key, "mending")

    def mend(self, head: Head) -> None:
        """The same, and an error is the caller's."""
        platform = self._platform
        known = head.key in platform.hosted
        hosted, shape, content = platform.host(head.key), platform.shape(head), platform.document(head)
        platform.peers.lay(content)
        steps, detached, failed, unkept = hosted.call(lambda network: _mended(network, shape))
        platform.troubles.settle(head.key, "port", detached)
        platform.troubles.settle(head.key, "durable", {
            "tables": f"what is written to them cannot be kept, and nothing is answered: {unkept}"} if unkept else {})
        more = failed - self._failed.get(head.key, 0) if known else 0
        self._failed[head.key] = failed
        platform.troubles.settle(head.key, "handlers", {
            "of functions": f"{more} calls of functions' Python failed lately; the daemon's log says which"
        } if more > 0 else {})
        platform.peers.open(content)
        if steps and known:
            log.warning("%s had drifted, and is mended: %s", head.key, "; ".join(map(str, steps)))
            platform.events.publish("mended", head.tenant, head.network, steps=[str(step) for step in steps])

    # -- parts -------------------------------------------------------------------------------------------------------

    def _for_ever(self) -> None:
        platform, due = self._platform, 0.0
        while not self._ending.wait(LOOK):
            drift = time.monotonic() >= due
            if drift:
                due = time.monotonic() + MEND
            for known in platform.records.heads():
                with platform.changing:
                    # Read anew: what was current before somebody's apply is not what shall be.
                    head = platform.records.head(known.tenant, known.network)
                    if head is not None and platform.records.overdue(head):
                        self._undo(head)
                    elif head is not None and drift:
                        self.attempt(head)

    def _undo(self, head: Head) -> None:
        """Nobody confirmed."""
        platform, why = self._platform, f"revision {head.current} was not confirmed in time"
        log.warning("%s: %s", head.key, why)
        try:
            platform.rollback(DAEMON, head.tenant, head.network, None, why)
        except Exception as error:                              # tried again at the next look
            self._wrong(head.key, error)
            return
        platform.events.publish("not confirmed", head.tenant, head.network, revision=head.current)

    def _wrong(self, key: str, error: Exception) -> None:
        if all((trouble.what, trouble.why) != ("mending", str(error)) for trouble in self._platform.troubles.of(key)):
            log.error("%s cannot be made what it shall be", key, exc_info=error)
        self._platform.troubles.begun(key, "mending", str(error) or type(error).__name__)


def _mended(network: Fabric, shape: Shape) -> tuple[list[Step], dict[str, str], int, str]:
    """What was done, which ports are attached to nothing and why, how many handlers have failed, and why what they
    wrote cannot be kept."""
    steps, missing = commit.mend(network, shape)
    gone = {str(at): absence.reason for at, absence in network.absent.items()}
    return steps, missing | gone, network.served.failed, network.unkept


__all__ = ["Mender"]
