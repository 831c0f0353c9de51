"""Routes of a namespace.

A destination is a network as `ipaddress` knows it, "10.1.0.0/16", or "default". A route leads to a gateway,
an interface, or both; or nowhere on purpose (`RouteKind`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .netlink import CREATE, EXCLUSIVE, REPLACE, Netlink, Request, attribute, attributes, number

NEW, DELETE, GET = 24, 25, 26
MAIN, LOCAL = 254, 255
_MESSAGE = struct.Struct("=BBBBBBBBI")
_DESTINATION, _INTERFACE, _GATEWAY, _PRIORITY, _SOURCE, _MULTIPATH, _TABLE = 1, 4, 5, 6, 7, 9, 15
_HOP = struct.Struct("=HBBi")
_STATIC = 4
_UNIVERSE, _LINK, _HOST, _NOWHERE = 0, 253, 254, 255


class RouteKind(IntEnum):
    """Where a packet goes: on, to us, or nowhere silently, with an ICMP unreachable, or with a prohibited."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


@dataclass(frozen=True, slots=True)
class NextHop:
    """One of several ways a route leads."""

    gateway: IPv4Address | IPv6Address | None
    interface: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `interface` 0 and `gateway` None where there is none; the smallest `priority` wins. `several` are the
    next hops of a route that has more than one."""

    destination: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address | None = None
    interface: int = 0
    priority: int = 0
    source: IPv4Address | IPv6Address | None = None
    table: int = MAIN
    kind: int = RouteKind.UNICAST
    protocol: int = _STATIC
    several: tuple[NextHop, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Route:
        """From the body of an RTM_NEWROUTE message."""
        family, length, _, _, table, protocol, _, kind, _ = _MESSAGE.unpack_from(body)
        found = attributes(body, _MESSAGE.size)
        packed = found.get(_DESTINATION, bytes(4 if family == socket.AF_INET else 16))
        gateway, source = found.get(_GATEWAY), found.get(_SOURCE)
        return cls(
            destination=ip_network((packed, length)),
            gateway=ip_address(gateway) if gateway else None,
            interface=_unsigned(found.get(_INTERFACE)),
            priority=_unsigned(found.get(_PRIORITY)),
            source=ip_address(source) if source else None,
            table=_unsigned(found.get(_TABLE)) or table,
            kind=kind,
            protocol=protocol,
            several=tuple(_hops(found.get(_MULTIPATH, b""))),
        )


def add(
    destination: str,
    *,
    gateway: str = "",
    interface: int = 0,
    priority: int = 0,
    source: str = "",
    table: int = MAIN,
    kind: RouteKind = RouteKind.UNICAST,
    replace: bool = False,
) -> Request:
    """Add a route. EEXIST if there is one of that destination and priority, unless `replace`; ENETUNREACH if
    the gateway is not on a connected network."""
    flags = CREATE | (REPLACE if replace else EXCLUSIVE)
    body = _body(destination, gateway, interface, priority, source, table, kind)
    return Request(NEW, flags, body, "route add", destination)


def remove(
    destination: str,
    *,
    gateway: str = "",
    interface: int = 0,
    priority: int = 0,
    table: int = MAIN,
    kind: RouteKind = RouteKind.UNICAST,
) -> Request:
    """Remove the first route matching what is given. ESRCH if there is none."""
    body = _body(destination, gateway, interface, priority, "", table, kind, removing=True)
    return Request(DELETE, 0, body, "route remove", destination)


def listing(netlink: Netlink, table: int = MAIN, version: int = 0) -> list[Route]:
    """The routes of a table (0 for all), of IP `version` 4, 6, or 0 for both."""
    family = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[version]
    body = _MESSAGE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    found = [Route.parse(body) for body in netlink.dump(Request(GET, 0, body, "route list"))]
    return [route for route in found if table in (0, route.table)]


def _body(
    destination: str,
    gateway: str,
    interface: int,
    priority: int,
    source: str,
    table: int,
    kind: RouteKind,
    removing: bool = False,
) -> bytes:
    hop = ip_address(gateway) if gateway else None
    if destination == "default":
        version = (hop or (ip_address(source) if source else IPv4Address(0))).version
        destination = "0.0.0.0/0" if version == 4 else "::/0"
    network = ip_network(destination)
    parts = []
    if network.prefixlen:
        parts.append(attribute(_DESTINATION, network.network_address.packed))
    if hop is not None:
        parts.append(attribute(_GATEWAY, hop.packed))
    if interface:
        parts.append(number(_INTERFACE, interface))
    if priority:
        parts.append(number(_PRIORITY, priority))
    if source:
        parts.append(attribute(_SOURCE, ip_address(source).packed))
    parts.append(number(_TABLE, table))
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    if removing:
        scope = _NOWHERE
    elif kind is RouteKind.LOCAL:
        scope = _HOST
    else:
        scope = _LINK if kind is RouteKind.UNICAST and hop is None and network.version == 4 else _UNIVERSE
    short_table = table if table < 256 else 0
    protocol = 0 if removing else _STATIC
    head = _MESSAGE.pack(family, network.prefixlen, 0, 0, short_table, protocol, scope, kind, 0)
    return head + b"".join(parts)


def _hops(payload: bytes) -> Iterator[NextHop]:
    while len(payload) >= _HOP.size:
        length, _, more, interface = _HOP.unpack_from(payload)
        gateway = attributes(payload[:length], _HOP.size).get(_GATEWAY)
        yield NextHop(ip_address(gateway) if gateway else None, interface, more + 1)
        payload = payload[max(length + 3 & ~3, _HOP.size):]


def _unsigned(payload: bytes | None) -> int:
    return int(struct.unpack_from("=I", payload)[0]) if payload else 0
