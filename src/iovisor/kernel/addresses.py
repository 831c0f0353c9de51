"""IP addresses on interfaces.

An address is given as `ipaddress` knows it, "10.0.0.1/24" or "fd00::1/64". IPv6 addresses are unusable for
about a second while the kernel looks for duplicates; `nodad` (no duplicate address detection) skips that and
is right wherever the addresses are ours to give.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from .netlink import CREATE, EXCLUSIVE, REPLACE, Netlink, Request, attribute, attributes, family_of, number

NEW, DELETE, GET = 20, 21, 22
_MESSAGE = struct.Struct("=BBBBI")
_ADDRESS, _LOCAL, _BROADCAST, _FLAGS = 1, 2, 4, 8
_NODAD, _TENTATIVE, _PERMANENT = 0x02, 0x40, 0x80


@dataclass(frozen=True, slots=True)
class Address:
    """An address on the interface of that index. `tentative`: duplicates are still looked for."""

    interface: int
    address: IPv4Interface | IPv6Interface
    scope: int = 0
    tentative: bool = False
    permanent: bool = True

    @classmethod
    def parse(cls, body: bytes) -> Address:
        """From the body of an RTM_NEWADDR message."""
        _, length, flags, scope, index = _MESSAGE.unpack_from(body)
        found = attributes(body, _MESSAGE.size)
        if _FLAGS in found:
            (flags,) = struct.unpack("=I", found[_FLAGS])
        packed = found.get(_LOCAL) or found[_ADDRESS]
        address = ip_interface((packed, length))
        return cls(index, address, scope, bool(flags & _TENTATIVE), bool(flags & _PERMANENT))


def add(interface: int, address: str, *, nodad: bool = True, replace: bool = False) -> Request:
    """Give an address with its prefix length to an interface. EEXIST if it has it, unless `replace`."""
    flags = CREATE | (REPLACE if replace else EXCLUSIVE)
    return Request(NEW, flags, _body(interface, address, nodad), "address add", address)


def remove(interface: int, address: str) -> Request:
    """Take an address from an interface. EADDRNOTAVAIL if it has none such."""
    return Request(DELETE, 0, _body(interface, address, False), "address remove", address)


def listing(netlink: Netlink, interface: int = 0) -> list[Address]:
    """The addresses of one interface, or of all."""
    request = Request(GET, 0, _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, interface), "address list")
    return [Address.parse(body) for body in netlink.dump(request)]


def _body(interface: int, address: str, nodad: bool) -> bytes:
    parsed = ip_interface(address)
    packed = parsed.ip.packed
    parts = [attribute(_LOCAL, packed), attribute(_ADDRESS, packed)]
    if parsed.version == 4 and parsed.network.prefixlen < 31:
        parts.append(attribute(_BROADCAST, parsed.network.broadcast_address.packed))
    if parsed.version == 6 and nodad:
        parts.append(number(_FLAGS, _NODAD))
    return _MESSAGE.pack(family_of(packed), parsed.network.prefixlen, 0, 0, interface) + b"".join(parts)
