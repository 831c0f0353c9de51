"""What the ports of a network are joined to."""
from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..kernel import AttachType, Direction, Link
from .attachments import Attachment, Share
from .counters import Traffic
from .edges import Edge
from .hooks import Hook

#: In the order in which a port that is shut is taken from its device.
HOOKS: tuple[int, ...] = (AttachType.XDP, Direction.INGRESS, Direction.EGRESS)


@dataclass(frozen=True)
class PortRef:
    """A port of an instance: `lan:0`, `wall:inside`."""

    instance: str
    port: int

    def __str__(self) -> str:
        return f"{self.instance}:{self.port}"


@dataclass(frozen=True)
class Ours:
    """What was made or changed for an edge beside its device, and is undone with it.

    `namespace`: the identity of the one created; `promiscuous`: the device was made so; `macs` it was told to accept;
    `queued`: its queues are ours.
    """

    namespace: tuple[int, int] | None = None
    promiscuous: bool = False
    macs: tuple[str, ...] = ()
    queued: bool = False


@dataclass(frozen=True)
class Absence:
    """Why a port's device is not there, and since when (seconds since the epoch)."""

    reason: str
    since: float


@dataclass
class Join:
    """A port's other side, a device or another port, and what was made for it."""

    edge: Edge | None = None
    peer: PortRef | None = None
    wire: int = 0
    before: tuple[Traffic, Traffic] = (Traffic(), Traffic())    # what the port had received and sent
    links: list[Link] = field(default_factory=list)
    attachment: Attachment | None = None                    # what was asked for; `edge` is what it is
    ours: Ours = Ours()
    absence: Absence | None = None
    generation: int = 0                                     # the revision that led it as it is, 0 for none
    bank: int = 0                                           # of the port's counters

    def pin(self, at: PortRef, direction: int) -> str:
        """The name of the pin of its link at one of `HOOKS`."""
        direction = AttachType(direction) if direction == AttachType.XDP else Direction(direction)
        return f"{at} {direction.name}" + (f" {self.generation}" if self.generation else "")

    def link(self, direction: int) -> Link | None:
        """What is attached at one of `HOOKS`."""
        return next((link for link in self.links if link.info().attach_type == direction), None)

    @property
    def early(self) -> bool:
        """Whether packets are met at XDP."""
        return self.edge is not None and self.edge.hook != Hook.TC

    @property
    def wants_early(self) -> bool:
        """Whether packets shall be met at XDP."""
        return bool(getattr(self.attachment, "hook", Hook.TC) != Hook.TC)

    @property
    def inline(self) -> bool:
        """Whether packets pass the function's egress before they leave, not at the hook of a device."""
        return self.edge is None or self.edge.peer or self.shared

    @property
    def shared(self) -> bool:
        return isinstance(self.attachment, Share)

    def missing(self) -> Absence | None:
        """Whether the device is gone, be it noted or not."""
        if self.absence is None and any(link.info().interface == 0 for link in self.links):
            return Absence("the device is gone; nobody has looked why", time.time())
        return self.absence
