"""What an endpoint of a document is attached to on this host.

    netns     a cable into a namespace, its end there with MAC, addresses and routes
    tap       a TAP device for a virtual machine
    device    a device of the machine: whole, or the frames of a MAC, or those of a VLAN, without their tag

The fabric makes, finds, mends and removes them; here is only what the words of a document mean.
"""
from __future__ import annotations

import hashlib

from ..fabric import Attachment, Device, Edge, Share, Tap, Veth
from ..model import Endpoint, Network


def attachment(network: Network, name: str, one: Endpoint, seed: str) -> Attachment | None:
    """What the fabric attaches; None if the endpoint is open."""
    mtu, hook = one.mtu or network.mtu, one.hook or "tc"
    if one.netns is not None:
        first, *rest = [*one.gateways, ""]
        routes = {"::/0" if ":" in other else "0.0.0.0/0": other for other in rest if other}
        return Veth(one.netns, one.inside, one.mac or mac_of(seed, name), one.addresses, first, routes, mtu,
                    hook=hook)
    if one.tap is not None:
        return Tap(one.tap, mtu, hook=hook)
    if one.device is None:
        return None
    if one.share == "mac":
        return Share(one.device, macs=[one.mac or mac_of(seed, name)])
    if one.share == "vlan":
        return Share(one.device, vlans=[one.vlan or 0], access=True)
    return Device(one.device, hook=hook)


def mac_of(seed: str, endpoint: str) -> str:
    """The MAC address of an endpoint that has none of its own: locally administered."""
    digest = hashlib.sha256(f"{seed}/{endpoint}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (2, *digest[:5]))


def told(attached: Attachment) -> str:
    """In words: `netns web1 eth0`, `device eno2 at xdp`."""
    hook = getattr(attached, "hook", "tc")
    return _told(attached) + (f" at {hook}" if hook != "tc" else "")


def _told(attached: Attachment) -> str:
    match attached:
        case Veth():
            return f"{attached.place} {attached.name}"
        case Tap():
            return f"tap {attached.name}"
        case Share():
            return " ".join(["device", attached.device, *attached.macs, *(f"vlan {vlan}" for vlan in attached.vlans)])
        case Edge():
            return f"device {attached.index}"
        case _:
            return f"device {attached}"


__all__ = ["attachment", "mac_of", "told"]
