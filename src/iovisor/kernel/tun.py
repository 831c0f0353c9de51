"""TUN devices: as a TAP, but of IP packets without an Ethernet header, so there are no neighbors on it."""

from __future__ import annotations

from .tap import Tap


class Tun(Tap):
    """An open TUN device, down at first."""

    __slots__ = ()
    kind = 0x0001


__all__ = ["Tun"]
