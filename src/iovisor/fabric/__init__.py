"""A network running on one host: functions joined port to port and to devices, in the kernel, wired by map writes.

    edges           the programs between functions, a dozen instructions each
    instance        one function in the kernel, and the slots that lead to it and away from it
    wiring          what leads where, and how it is turned
    network         the whole: links, devices, insertion, change under traffic; observed: what it shows
    attachments     what ports are attached to, as data: cables, TAPs, devices, shares of them
    devices         makes and finds them, and gives them back as they were; removal: devices that go together
    shares          several networks and the host on one device
    mending         devices that disappear, and come back
    recirculation   clones, long walks and frames from Python go around a device
    storm           what a network may spend on copies
    slowpath        punted packets to handlers, and back
    upgrade         a new image takes over the tables; conversion: entries that are laid out otherwise
    revision        many changes as one; plan: what shall be; beside: it is built beside what stands
    pins, adoption  a network outlives its process, and another adopts it
    trace           what would become of a packet: rehearsal, explanation, itinerary
    watch           packets as they go by: filters, recorders; and capture, a port as a file
    balance         everything in against everything out, packet for packet
    mirror          a kernel's routes and neighbors, in a router
    running         one function between devices
    memory          what of the kernel's a network takes
    allowance       how many packets a second go to Python
    joins, counters, images, grace

`Network` is what one uses, and docs/fabric.md how.
"""
from __future__ import annotations

from .allowance import Allowance
from .attachments import Attachment, Device, Share, Tap, Veth
from .balance import Balance
from .capture import Capture
from .counters import Traffic
from .edges import Edge
from .filters import Filter
from .instance import Instance
from .joins import Absence, PortRef
from .mending import EdgeChange
from .network import Network
from .queues import Waiting
from .removal import close_all
from .revision import Draft
from .running import Running
from .storm import Storm
from .trace import Disagreement, Trace
from .watch import Seen, Watch

__all__ = [
    "Absence", "Allowance", "Attachment", "Balance", "Capture", "Device", "Disagreement", "Draft", "Edge", "EdgeChange",
    "Filter", "Instance", "Network", "PortRef", "Running", "Seen", "Share", "Storm", "Tap", "Trace", "Traffic", "Veth",
    "Waiting", "Watch", "close_all",
]
