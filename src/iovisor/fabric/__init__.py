"""A network running on one host: functions joined port to port and to devices, in the kernel, wired by map writes.

`Network` is the whole; `Running` is one function between devices.  docs/roadmap.md says what is still to come here:
pins and adoption, upgrade, trace, capture.
"""
from __future__ import annotations

from .counters import Traffic
from .edges import Edge
from .instance import Instance
from .network import Network, PortRef
from .running import Running

__all__ = ["Edge", "Instance", "Network", "PortRef", "Running", "Traffic"]
