"""What endpoints take for themselves on their machine: a device in a namespace, a TAP, a device or a share of one.

Two endpoints that take the same are a mistake, in one network and in any two: this is where tenants, who share nothing
else, would meet.  A device that is taken whole has no shares; its shares, by MAC or VLAN, have no frame in common.
"""
from __future__ import annotations

from .schema import Endpoint


class Holders:
    """Who holds what; `who` is whatever a message needs to name him."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], str] = {}

    def take(self, one: Endpoint, who: str) -> str:
        """Note what an endpoint takes; if it is taken, or in part, answers what and by whom, and nothing is noted."""
        what, name = held(one)
        if not what or what == "peer":
            return ""
        whole, part = ("device", one.device or ""), ("a share of", one.device or "")
        for bar in [(what, name), *([whole if name != one.device else part] if one.device else [])]:
            if bar in self._taken:
                return f"{' '.join(bar)} is taken: {self._taken[bar]}"
        self._taken[what, name] = who
        if one.device and name != one.device:
            self._taken.setdefault(part, who)
        return ""


def held(one: Endpoint) -> tuple[str, str]:
    """What an endpoint takes, in words: `netns`, `web1 eth0`; `tap`, `tap-db`; `device`, `eno2 vlan 10`;
    `peer`, `globex/shared/acme`."""
    if one.netns is not None:
        return "netns", f"{one.netns} {one.inside}"
    if one.tap is not None:
        return "tap", one.tap
    if one.peer is not None:
        return "peer", one.peer
    share = {"vlan": f" vlan {one.vlan}", "mac": f" mac {one.mac}"}.get(one.share or "", "")
    return ("device", f"{one.device}{share}") if one.device is not None else ("", "")


__all__ = ["Holders", "held"]
