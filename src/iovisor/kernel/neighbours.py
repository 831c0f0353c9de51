"""Neighbours: which link-layer address an IP address has, and where a bridge or tunnel sends a link-layer
address.

The first is the ARP and IPv6 neighbour table (`add`, `remove`, `listing`). The second is the forwarding
table of the kernel's own bridges and VXLAN devices (`forward`, `stop_forwarding`, `forwarding`). The third is
the list of further MACs a device receives for (`accept`, `refuse`). The kernel keeps all behind the same
messages, and so do we.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address

from .netlink import APPEND, CREATE, EXCLUSIVE, REPLACE, Netlink, Request, attribute, attributes, family_of, number

NEW, DELETE, GET = 28, 29, 30
BROADCAST = bytes(6)
_MESSAGE = struct.Struct("=BxxxiHBB")
_DESTINATION, _MAC, _VNI, _INTERFACE = 1, 2, 7, 8
_SELF, _BY_MASTER = 0x02, 0x04


class NeighbourState(IntFlag):
    """What the kernel thinks of an entry."""

    NONE = 0
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the interface of index `interface`.

    `mac` is 6 bytes, empty while unresolved; `address` is None in a bridge's forwarding table, and there the
    remote tunnel end of a VXLAN device.
    """

    interface: int
    address: IPv4Address | IPv6Address | None
    mac: bytes
    state: NeighbourState = NeighbourState.PERMANENT
    forwarding: bool = False

    @classmethod
    def parse(cls, body: bytes) -> Neighbour:
        """From the body of an RTM_NEWNEIGH message."""
        family, index, state, _, _ = _MESSAGE.unpack_from(body)
        found = attributes(body, _MESSAGE.size)
        packed = found.get(_DESTINATION)
        address = ip_address(packed) if packed and len(packed) in (4, 16) else None
        return cls(index, address, found.get(_MAC, b""), NeighbourState(state), family == socket.AF_BRIDGE)


def add(
    interface: int, address: str, mac: bytes, state: NeighbourState = NeighbourState.PERMANENT
) -> Request:
    """Say, or say anew, that `address` is at `mac`."""
    packed = ip_address(address).packed
    body = _MESSAGE.pack(family_of(packed), interface, state, 0, 0)
    body += attribute(_DESTINATION, packed) + attribute(_MAC, mac)
    return Request(NEW, CREATE | REPLACE, body, "neighbour add", address)


def remove(interface: int, address: str) -> Request:
    """Forget where `address` is. ENOENT if it is not known."""
    packed = ip_address(address).packed
    body = _MESSAGE.pack(family_of(packed), interface, 0, 0, 0) + attribute(_DESTINATION, packed)
    return Request(DELETE, 0, body, "neighbour remove", address)


def listing(netlink: Netlink, interface: int = 0) -> list[Neighbour]:
    """The neighbours of one interface, or of all."""
    filtering = number(_INTERFACE, interface) if interface else b""
    request = Request(GET, 0, _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + filtering, "neighbour list")
    return [Neighbour.parse(body) for body in netlink.dump(request)]


def forward(interface: int, mac: bytes, destination: str = "", *, identifier: int = 0) -> Request:
    """Send frames for `mac` out of a bridge's port `interface`, or through a VXLAN device to `destination`.

    `BROADCAST` (six zeros) on a VXLAN device is where everything unknown goes; adding it again adds a copy.
    """
    flags = CREATE | (APPEND if mac == BROADCAST else REPLACE)
    body = _forwarding(interface, mac, destination, identifier)
    return Request(NEW, flags, body, "forwarding add", mac.hex(":"))


def stop_forwarding(interface: int, mac: bytes, destination: str = "", *, identifier: int = 0) -> Request:
    """Undo `forward`. ENOENT if there is no such entry."""
    body = _forwarding(interface, mac, destination, identifier)
    return Request(DELETE, 0, body, "forwarding remove", mac.hex(":"))


def accept(interface: int, mac: bytes) -> Request:
    """Let a device receive frames for one more unicast MAC. EEXIST if it does so already."""
    return Request(NEW, CREATE | EXCLUSIVE, _accepted(interface, mac), "address accept", mac.hex(":"))


def refuse(interface: int, mac: bytes) -> Request:
    """Undo `accept`. ENOENT if the device does not receive for it."""
    return Request(DELETE, 0, _accepted(interface, mac), "address refuse", mac.hex(":"))


def _accepted(interface: int, mac: bytes) -> bytes:
    body = _MESSAGE.pack(socket.AF_BRIDGE, interface, NeighbourState.PERMANENT, _SELF, 0)
    return body + attribute(_MAC, mac)


def forwarding(netlink: Netlink, interface: int = 0) -> list[Neighbour]:
    """The forwarding entries of the devices of a namespace, or of one of them."""
    request = Request(GET, 0, _MESSAGE.pack(socket.AF_BRIDGE, 0, 0, 0, 0), "forwarding list")
    found = [Neighbour.parse(body) for body in netlink.dump(request)]
    return [entry for entry in found if interface in (0, entry.interface)]


def _forwarding(interface: int, mac: bytes, destination: str, identifier: int) -> bytes:
    # To a bridge, permanent would mean that the address is its own: frames for it would go to the host.
    state = NeighbourState.NOARP | (NeighbourState.PERMANENT if destination else NeighbourState.NONE)
    flags = _SELF if destination else _BY_MASTER
    body = _MESSAGE.pack(socket.AF_BRIDGE, interface, state, flags, 0) + attribute(_MAC, mac)
    if destination:
        body += attribute(_DESTINATION, ip_address(destination).packed)
    if identifier:
        body += number(_VNI, identifier)
    return body
