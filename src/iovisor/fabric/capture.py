"""A capture at a port: every packet that comes in by it and goes out of it, in a file Wireshark opens.

    with network.capture("lan:0", "lan0.pcapng"):
        ...

Built on `Watch`, so it costs nothing before and after, and what finds no room in the ring is counted (`lost`), also in
the file's last comment.  Packets that come in are taken *before* the function sees them, packets that go out as it
leaves them.  The file has an interface for each direction, `lan:0 in` and `lan:0 out`; the comment of a packet says
what the function did: `lan Switch forward(1)`, `wall Acl drop(DENIED)`.  Of one that came in, that is known when the
function has dealt with it, which the same CPU does before it takes another packet: the next record of that CPU.

A function with an egress decides there: what it floods or forwards is written as the egress leaves it, once for each
copy.  One without is written as it floods.  Frames that Python sends out by themselves pass no function, unless it has
an egress.

A thread of its own reads the ring, so that a capture does not depend on who else is busy.
"""
from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Self

from ..wire.pcapng import PcapWriter
from .instance import INGRESS, Instance
from .joins import PortRef
from .watch import Seen, Watch

SNAP = 2048
TAG = 4


class Capture:
    """Open from its making to `close`; made by `Network.capture`."""

    def __init__(self, watch: Watch, instance: Instance, at: PortRef, path: str | os.PathLike[str]) -> None:
        self._watch, self._instance, self._at = watch, instance, at
        self.written = 0
        self._name = f"{at.instance}:{instance.port_name(at.port)}"
        self._arrived: dict[int, Seen] = {}                 # by CPU: what its function has not dealt with yet
        self._writer = PcapWriter(path, watch.snap + TAG)
        for direction in ("in", "out"):
            self._writer.interface(f"{self._name} {direction}", type(instance.function).__name__)
        self._ending = threading.Event()
        self._failed: OSError | None = None
        self._reader = threading.Thread(target=self._read, name=f"capture {self._name}", daemon=True)
        self._reader.start()

    @property
    def lost(self) -> int:
        """Packets that found no room and are not in the file."""
        return self._watch.lost

    def _read(self) -> None:
        try:
            while not self._ending.is_set():
                if self._watch.wait(0.1):
                    self._drain()
        except OSError as error:                            # the disk is full: told by `close`
            self._failed = error

    def _drain(self) -> None:
        for seen in self._watch:
            self._take(seen)
        self._writer.flush()

    def _take(self, seen: Seen) -> None:
        """Write a packet: one that arrived waits for what becomes of it."""
        arrived = self._arrived.pop(seen.processor, None)
        if arrived is not None:
            dealt = seen.kind != "arrival" and seen.stage == INGRESS and seen.arrived_by == self._at.port
            self._write(arrived, "in", seen.verdict if dealt else "")
        if seen.kind == "arrival":
            self._arrived[seen.processor] = seen
        elif self._leaves(seen):
            self._write(seen, "out", seen.verdict)

    def _leaves(self, seen: Seen) -> bool:
        """Whether a packet goes out of the port."""
        if self._instance.has_egress and seen.stage == INGRESS:
            return False                                    # its egress will say
        if seen.kind == "flood":
            return seen.arrived_by != self._at.port and self._at.port in self._instance.flooded_to(seen.left_by)
        return seen.kind == "forward" and seen.left_by == self._at.port

    def _write(self, seen: Seen, direction: str, verdict: str) -> None:
        comment = f"{seen.instance} {type(self._instance.function).__name__} {verdict}".rstrip()
        tagged = len(seen.frame) - min(seen.length, self._watch.snap)
        self._writer.write(seen.frame, seen.time, f"{self._name} {direction}", length=seen.length + tagged,
                           comment=comment, outgoing=direction == "out")
        self.written += 1

    def close(self) -> None:
        """Take what has come, end the watch, close the file.  OSError if the file could not be written."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._reader.join()
        try:
            self._watch.stop()
            if self._failed is None:
                self._drain()
                for seen in self._arrived.values():
                    self._write(seen, "in", "")
                if self.lost:
                    self._writer.write(b"", time.time_ns(), f"{self._name} in",
                                       comment=f"{self.lost} packets are missing: there was no room for them")
        finally:
            self._writer.close()
            self._watch.close()
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


__all__ = ["SNAP", "Capture"]
