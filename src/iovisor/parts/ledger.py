"""Who was seen as whom, and when: a log of what bindings begin and end (RFC 6888 section 4), without whom they sent to.

It is made by looking at the table now and then, not by an event for each binding: no flood of first packets fills a
queue, and nothing is lost, because a binding stays in its table for `hold` after it ended.  What one owner begins again
within that time is told as a binding of its own.
"""
from __future__ import annotations

import logging
from collections import deque
from time import time
from typing import Any

from iovisor.language import SECOND, now
from iovisor.wire.ipv4 import IpProtocol

from .bindings import FOREVER, Bindings
from .connections import text

KEPT = 10_000           # lines that are remembered here; the log has them all

log = logging.getLogger(__name__)
Place = tuple[int, int, int, int]       # outside address in words, port, protocol
Owner = tuple[int, int, int, int]       # inside address in words, port, since when


class Ledger:
    """What bindings there were at the last look, and what has changed since the first."""

    def __init__(self) -> None:
        self.standing: dict[Place, Owner] = {}
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def look(self, bindings: Bindings) -> None:
        """Write down what began and what ended; static bindings do neither."""
        moment = now()
        found = {(outer.upper, outer.lower, outer.port, outer.protocol):
                 (binding.upper, binding.lower, binding.port, binding.since)
                 for outer, binding in bindings.outside.items() if moment <= binding.deadline < FOREVER}
        for place, owner in self.standing.items():
            if found.get(place) != owner:
                self.write("ended", place, owner, 0)
        for place, owner in found.items():
            if self.standing.get(place) != owner:
                self.write("began", place, owner, moment - owner[3])
        self.standing = found

    def write(self, what: str, place: Place, owner: Owner, ago: int) -> None:
        row = {"at": time() - ago / SECOND, "what": what, "protocol": IpProtocol(place[3]).name.lower(),
               "inside": text(owner[0], owner[1]), "inside_port": owner[2],
               "outside": text(place[0], place[1]), "outside_port": place[2]}
        self.lines.append(row)
        log.info("%(at).3f %(what)s %(protocol)s %(inside)s %(inside_port)d as %(outside)s %(outside_port)d", row)


__all__ = ["Ledger"]
