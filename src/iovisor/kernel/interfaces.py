"""Interfaces: the devices of a namespace.

The functions named after a kind of device (`veth`, `bridge`, `vxlan`, `ifb`) and the verbs (`change`,
`delete`, `delete_group`) build requests and do nothing else; `listing` and `find` ask, `silence` does. An interface is
named by its index where the kernel wants an index and by either elsewhere.

An index is unique in its namespace only, unless given explicitly at creation, which is possible for both
ends of a veth pair: then maps keyed by index need no translation and a late packet cannot meet a recycled
number.

Deleting one device costs 20 to 30 ms of grace periods; deleting a *group* of a hundred costs the same once.
So give ports that live and die together a group.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from pathlib import Path

from .errors import NetlinkError
from .namespaces import NetworkNamespace
from .netlink import (
    CREATE,
    EXCLUSIVE,
    Netlink,
    Request,
    attribute,
    attributes,
    nested,
    number,
    string,
    terminated,
)

NEW, DELETE, GET = 16, 17, 18
_MESSAGE = struct.Struct("=BxHiII")
_UP, _RUNNING, _PROMISCUOUS = 1 << 0, 1 << 6, 1 << 8
_XDP_PROGRAM = 4
_GET_QUEUEING, _CLASSIFIER = 38, 0xFFFF0000
_QUEUEING = struct.Struct("=BxxxiIII")


class _Attribute(IntEnum):
    ADDRESS = 1
    NAME = 3
    MTU = 4
    LINK = 5
    QUEUEING = 6
    MASTER = 10
    INFO = 18
    ALIAS = 20
    STATISTICS = 23
    GROUP = 27
    NAMESPACE = 28
    TRANSMIT_QUEUES = 31
    RECEIVE_QUEUES = 32
    PEER_NAMESPACE = 37
    XDP = 43
    NEW_NAMESPACE = 45


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters of a device since it exists."""

    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    receive_errors: int
    send_errors: int
    receive_dropped: int
    send_dropped: int


@dataclass(frozen=True, slots=True)
class Interface:
    """A device as the kernel reports it.

    `kind` is "veth", "bridge" ... and empty for hardware and loopback; `mac` 6 bytes, empty for devices
    without; `peer` the index of the other end of a veth, in the *other's* namespace, and `apart` whether that is
    another one; `master` the index of its bridge or 0; `running` is up with a carrier; `queueing` the discipline
    its packets wait in, "noqueue" for none; `xdp_program` is the identifier of its XDP program or 0; `moved`, in
    the news of a monitor, that it went to another namespace.
    """

    index: int
    name: str
    kind: str
    mac: bytes
    mtu: int
    up: bool
    running: bool
    group: int = 0
    master: int = 0
    peer: int = 0
    apart: bool = False
    promiscuous: bool = False
    queueing: str = ""
    moved: bool = False
    alias: str = ""
    xdp_program: int = 0
    statistics: Statistics | None = None

    @classmethod
    def parse(cls, body: bytes) -> Interface:
        """From the body of an RTM_NEWLINK message."""
        _, _, index, flags, _ = _MESSAGE.unpack_from(body)
        found = attributes(body, _MESSAGE.size)
        information = attributes(found.get(_Attribute.INFO, b""))
        counters = found.get(_Attribute.STATISTICS)
        return cls(
            index=index,
            name=terminated(found.get(_Attribute.NAME, b"")),
            kind=terminated(information.get(1, b"")),
            mac=found.get(_Attribute.ADDRESS, b""),
            mtu=_unsigned(found.get(_Attribute.MTU)),
            up=bool(flags & _UP),
            running=bool(flags & _RUNNING),
            group=_unsigned(found.get(_Attribute.GROUP)),
            master=_unsigned(found.get(_Attribute.MASTER)),
            peer=_unsigned(found.get(_Attribute.LINK)),
            apart=_Attribute.PEER_NAMESPACE in found,
            promiscuous=bool(flags & _PROMISCUOUS),
            queueing=terminated(found.get(_Attribute.QUEUEING, b"")),
            moved=_Attribute.NEW_NAMESPACE in found,
            alias=terminated(found.get(_Attribute.ALIAS, b"")),
            xdp_program=_unsigned(attributes(found.get(_Attribute.XDP, b"")).get(_XDP_PROGRAM)),
            statistics=Statistics(*struct.unpack_from("=8Q", counters)) if counters else None,
        )


# -- creating ------------------------------------------------------------------------------------------------


def veth(
    name: str,
    peer: str,
    *,
    index: int = 0,
    peer_index: int = 0,
    mac: bytes = b"",
    peer_mac: bytes = b"",
    mtu: int = 0,
    peer_mtu: int = 0,
    peer_namespace: NetworkNamespace | int | None = None,
    group: int = 0,
    queues: int = 1,
    up: bool = False,
) -> Request:
    """A pair of devices: what one sends the other receives.

    The peer is born inside `peer_namespace` (or its descriptor) if given. `peer_mtu` defaults to `mtu`.
    `group` belongs to this end only. `up` concerns this end as well: the kernel cannot create the peer up,
    so set it up after, inside its namespace; until then there is no carrier.
    """
    peer_mtu = peer_mtu or mtu
    other = [_MESSAGE.pack(0, 0, peer_index, 0, 0), *_common(peer, peer_mac, peer_mtu, 0, queues)]
    if peer_namespace is not None:
        other.append(number(_Attribute.NAMESPACE, _descriptor(peer_namespace)))
    data = attribute(1, b"".join(other))
    return _create("veth", name, data, index, up, _common(name, mac, mtu, group, queues))


def bridge(
    name: str, *, index: int = 0, mac: bytes = b"", mtu: int = 0, group: int = 0, up: bool = False
) -> Request:
    """A learning bridge of the kernel's."""
    return _create("bridge", name, b"", index, up, _common(name, mac, mtu, group, 0))


def ifb(name: str, *, index: int = 0, group: int = 0, up: bool = False) -> Request:
    """A device which sends what is redirected to it on to where it came from: for shaping ingress."""
    return _create("ifb", name, b"", index, up, _common(name, b"", 0, group, 0))


def vxlan(
    name: str,
    identifier: int = 0,
    *,
    local: str = "",
    remote: str = "",
    underlay: int = 0,
    port: int = 4789,
    external: bool = False,
    learning: bool = True,
    index: int = 0,
    mac: bytes = b"",
    mtu: int = 0,
    group: int = 0,
    up: bool = False,
) -> Request:
    """A VXLAN tunnel of 24-bit `identifier`, or an `external` one whose tunnel each packet brings along.

    `local` and `remote` are outer addresses (a multicast `remote` is the group), `underlay` the index of the
    outer device, `port` the UDP port.
    """
    parts = [attribute(15, struct.pack("!H", port))]
    if external:
        parts.append(attribute(25, b"\1"))
    else:
        parts.append(number(1, identifier))
    parts.append(attribute(7, bytes([learning and not external])))
    if underlay:
        parts.append(number(3, underlay))
    for value, kinds in ((remote, (2, 16)), (local, (4, 17))):
        if value:
            packed = ip_address(value)
            parts.append(attribute(kinds[packed.version == 6], packed.packed))
    return _create("vxlan", name, b"".join(parts), index, up, _common(name, mac, mtu, group, 0))


def _create(kind: str, name: str, data: bytes, index: int, up: bool, common: list[bytes]) -> Request:
    flags = _UP if up else 0
    information = nested(_Attribute.INFO, string(1, kind), *([nested(2, data)] if data else []))
    body = _MESSAGE.pack(0, 0, index, flags, flags) + b"".join(common) + information
    return Request(NEW, CREATE | EXCLUSIVE, body, f"{kind} create", name)


def _common(name: str, mac: bytes, mtu: int, group: int, queues: int) -> list[bytes]:
    if not name or len(name.encode()) > 15 or "/" in name or any(c.isspace() for c in name):
        raise ValueError(f"{name!r} cannot name an interface: 1 to 15 bytes, no blanks, no slash")
    parts = [string(_Attribute.NAME, name)]
    if mac:
        parts.append(attribute(_Attribute.ADDRESS, mac))
    if mtu:
        parts.append(number(_Attribute.MTU, mtu))
    if group:
        parts.append(number(_Attribute.GROUP, group))
    if queues:
        parts.append(number(_Attribute.TRANSMIT_QUEUES, queues))
        parts.append(number(_Attribute.RECEIVE_QUEUES, queues))
    return parts


# -- changing ------------------------------------------------------------------------------------------------


def change(
    interface: int | str,
    *,
    up: bool | None = None,
    promiscuous: bool | None = None,
    mtu: int | None = None,
    mac: bytes | None = None,
    master: int | None = None,
    namespace: NetworkNamespace | int | None = None,
    name: str | None = None,
    alias: str | None = None,
    group: int | None = None,
) -> Request:
    """Change what is given. `promiscuous`: take frames for any MAC; `master` 0 releases; `namespace` moves it away;
    `name` renames."""
    parts = []
    if mtu is not None:
        parts.append(number(_Attribute.MTU, mtu))
    if mac is not None:
        parts.append(attribute(_Attribute.ADDRESS, mac))
    if master is not None:
        parts.append(number(_Attribute.MASTER, master))
    if namespace is not None:
        parts.append(number(_Attribute.NAMESPACE, _descriptor(namespace)))
    if alias is not None:
        parts.append(attribute(_Attribute.ALIAS, alias.encode()))
    if group is not None:
        parts.append(number(_Attribute.GROUP, group))
    if name is not None:
        if isinstance(interface, str):
            raise ValueError("to rename an interface give its index")
        parts.append(string(_Attribute.NAME, name))
    mask = (_UP if up is not None else 0) | (_PROMISCUOUS if promiscuous is not None else 0)
    flags = (_UP if up else 0) | (_PROMISCUOUS if promiscuous else 0)
    body = _named(interface, mask, flags) + b"".join(parts)
    return Request(NEW, 0, body, "interface change", str(interface))


def delete(interface: int | str) -> Request:
    """Delete an interface; of a veth, both ends."""
    return Request(DELETE, 0, _named(interface, 0, 0), "interface delete", str(interface))


def delete_group(group: int) -> Request:
    """Delete every interface of a group, in the time of one. NetlinkError ENODEV if the group is empty."""
    if not group:
        raise ValueError("group 0 is every interface nobody put into a group")
    body = _MESSAGE.pack(0, 0, 0, 0, 0) + number(_Attribute.GROUP, group)
    return Request(DELETE, 0, body, "interface group delete", str(group))


def silence(name: str, namespace: NetworkNamespace | None = None) -> None:
    """No IPv6 of the kernel's own on an interface; where the kernel has none, there is nothing to do."""
    with namespace.entered() if namespace is not None else contextlib.nullcontext(), \
            contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def _named(interface: int | str, mask: int, flags: int) -> bytes:
    if isinstance(interface, int):
        return _MESSAGE.pack(0, 0, interface, flags, mask)
    return _MESSAGE.pack(0, 0, 0, flags, mask) + string(_Attribute.NAME, interface)


def _descriptor(namespace: NetworkNamespace | int) -> int:
    return namespace if isinstance(namespace, int) else namespace.fd


def _unsigned(payload: bytes | None) -> int:
    return int(struct.unpack_from("=I", payload)[0]) if payload else 0


# -- asking --------------------------------------------------------------------------------------------------


def listing(netlink: Netlink) -> list[Interface]:
    """Every interface of the namespace, by index."""
    request = Request(GET, 0, _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0), "interface list")
    return sorted((Interface.parse(body) for body in netlink.dump(request)), key=lambda found: found.index)


def find(netlink: Netlink, interface: int | str) -> Interface | None:
    """The interface of that index or name, None if there is none."""
    request = Request(GET, 0, _named(interface, 0, 0), "interface find", str(interface))
    try:
        return Interface.parse(netlink.ask(request))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


def classified(netlink: Netlink, index: int) -> bool:
    """Whether a `clsact` (or `ingress`) stands on an interface, whose filters may want to see what passes it."""
    request = Request(_GET_QUEUEING, 0, _QUEUEING.pack(0, index, _CLASSIFIER, 0, 0), "queueing find", str(index))
    (failure,) = netlink.attempt(request)               # it is shown to none but who asks for an echo; the answer is 0
    if failure is not None and failure.errno != errno.ENOENT:
        raise failure
    return failure is None


def index_of(netlink: Netlink, name: str) -> int:
    """The index of the interface of that name; NetlinkError ENODEV if there is none."""
    return Interface.parse(netlink.ask(Request(GET, 0, _named(name, 0, 0), "interface find", name))).index


