"""A network running on one host: functions joined port to port and to devices, in the kernel, wired by map writes.

    edges           the programs between functions, a dozen instructions each
    instance        one function in the kernel, and the slots that lead to it and away from it
    network         the whole: links, devices, insertion, change under traffic
    recirculation   clones, long walks and frames from Python go around a device
    storm           what a network may spend on copies
    slowpath        punted packets to handlers, and back
    upgrade         a new image takes over the tables
    pins, adoption  a network outlives its process, and another adopts it
    trace           what would become of a packet: rehearsal, explanation, itinerary
    balance         everything in against everything out, packet for packet
    joins, counters, images, grace

`Network` is what one uses; `Running` is one function between devices.  docs/roadmap.md says what is still to come:
trace and capture, shares of a device, `migrate`.
"""
from __future__ import annotations

from .balance import Balance
from .counters import Traffic
from .edges import Edge
from .instance import Instance
from .joins import PortRef
from .network import Network
from .running import Running
from .storm import Storm
from .trace import Disagreement, Trace

__all__ = ["Balance", "Disagreement", "Edge", "Instance", "Network", "PortRef", "Running", "Storm", "Trace", "Traffic"]
