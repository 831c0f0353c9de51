"""The smallest function: a hub. What comes in through one port leaves through all others.

Needs: nothing but its ports.

    iovisor check examples/hub.py
    iovisor run examples/hub.py --lab 3
"""
from __future__ import annotations

from iovisor.language import FLOOD, Function, Packet, Ports, Verdict, ports


class Hub(Function):
    ports: Ports = ports(64)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD
