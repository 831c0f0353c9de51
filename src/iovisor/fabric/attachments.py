"""What a port is attached to, as data: the cable of a workload, the TAP of a virtual machine, a device, a share of one.

    net.attach("lan:0", Veth("web", addresses=["10.0.0.1/24"]))         made, and removed at `detach`
    net.attach("lan:1", Tap("vm7"))                                     made, and removed at `detach`
    net.attach("lan:2", Device("eth1"))                                 the host's, all of it; it stays as it was
    net.attach("lan:3", Share("eth0", macs=["02:00:00:00:00:07"]))      the host's, these frames of it
    net.attach("lan:4", Edge(5000))                                    a device whose index somebody knows

An attachment says what shall be, and is what a network keeps of it: from it a device that disappeared is made or found
again.  So what names a thing here is what it is found by: a namespace by name or path, a device by name or MAC.  A
namespace given by descriptor cannot be found by another process.

Rejected: one class with a kind; the five have little in common but that a frame goes through.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from ..kernel import KernelError, NetworkNamespace
from ..language.addresses import mac_address, mac_text
from .edges import Edge
from .hooks import Hook, hook

MOST = 64                       # MACs, and VLANs, of a share
Room = NetworkNamespace | str | int | None


def _mac(text: str) -> str:
    return mac_text(mac_address(text))


def _name(text: str) -> None:
    if not 0 < len(text.encode()) < 16 or "/" in text or text in (".", "..") or any(c.isspace() for c in text):
        raise ValueError(f"{text!r} cannot name a device: 1 to 15 bytes, no blanks, no slash")


def _mtu(mtu: int) -> None:
    if mtu and not 68 <= mtu <= 65535:
        raise ValueError(f"an MTU is 68 to 65535 bytes, or 0 for the network's, not {mtu}")


def _hook(of: Veth | Tap | Device) -> None:
    object.__setattr__(of, "hook", hook(of.hook))


@dataclass(frozen=True)
class Veth:
    """A cable into a network namespace, both ends made by us.

    `namespace`: a name as `ip netns` has it, a path (with a slash), an open one, or a descriptor; None for the
    switching namespace itself, the host's own leg.  With `create` it is made, under its name, and removed in the end.
    `name` and `mac` are those of the device inside, `addresses` have prefix lengths, `routes` lead from destinations to
    gateways ("" for none: on the link), and `gateway` is where all the rest goes.  `mtu` in bytes, 0 for the network's;
    `hook` is where packets are met, see hooks.py.
    """

    namespace: Room = None
    name: str = "eth0"
    mac: str = ""
    addresses: Iterable[str] = ()
    gateway: str = ""
    routes: Mapping[str, str] = field(default_factory=dict)
    mtu: int = 0
    create: bool = False
    hook: str = Hook.TC

    def __post_init__(self) -> None:
        _name(self.name)
        _mtu(self.mtu)
        _hook(self)
        if isinstance(self.addresses, str):
            raise ValueError(f"addresses are a list: [{self.addresses!r}]")
        put = object.__setattr__
        put(self, "addresses", tuple(self.addresses))
        for address in self.addresses:
            if "/" not in address:
                raise ValueError(f"{address!r} lacks its prefix length: write {address}/24, say")
            ip_interface(address)
        if self.mac:
            if mac_address(self.mac) >> 40 & 1:
                raise ValueError(f"{self.mac} is the MAC of a group, not of a device")
            put(self, "mac", _mac(self.mac))
        if isinstance(self.namespace, str) and "/" in self.namespace:
            put(self, "namespace", str(Path(self.namespace).absolute()))
        if isinstance(self.namespace, NetworkNamespace) and self.namespace.name is not None:
            put(self, "namespace", self.namespace.name)
        if self.create and (not isinstance(self.namespace, str) or "/" in self.namespace):
            raise ValueError(f"a namespace is created by name, not as {self.namespace!r}")

    @property
    def place(self) -> str:
        """The namespace in words."""
        if self.namespace is None:
            return "the switching namespace"
        return f"namespace {self.namespace}" if isinstance(self.namespace, str) else "a namespace without a name"

    def room(self) -> NetworkNamespace | None:
        """The namespace, open anew; None for the switching one.  KernelError ENOENT if it is not there."""
        if self.namespace is None:
            return None
        if isinstance(self.namespace, str) and "/" not in self.namespace:
            return NetworkNamespace.open(self.namespace)
        try:
            if isinstance(self.namespace, str):
                return NetworkNamespace(os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC))
            number = self.namespace.fd if isinstance(self.namespace, NetworkNamespace) else self.namespace
            return NetworkNamespace(os.dup(number))
        except OSError as error:
            raise KernelError(error.errno or 0, "namespace open", self.place) from None


@dataclass(frozen=True)
class Tap:
    """The device of a virtual machine, made by us, under this name in the switching namespace.

    `persistent`: the machine opens it by name (QEMU: `-netdev tap,ifname=NAME,script=no,downscript=no`), now and again.
    Else `Network.tap` has the open descriptor to hand out, and the device goes with its last holder.  Frames carry the
    header of virtio, so aggregates and unfinished checksums pass as they are.  `mtu` in bytes, 0 for the network's;
    `hook` is where packets are met, see hooks.py.
    """

    name: str
    mtu: int = 0
    persistent: bool = True
    hook: str = Hook.TC

    def __post_init__(self) -> None:
        _name(self.name)
        _mtu(self.mtu)
        _hook(self)


@dataclass(frozen=True)
class Device:
    """A device that is there, whole: everything it receives goes to the port, nothing to the host.

    Found by `name`, by `mac`, or by both.  It is promiscuous while it is attached; its MTU is its owner's business.
    `hook` is where packets are met, see hooks.py.
    """

    name: str = ""
    mac: str = ""
    hook: str = Hook.TC

    def __post_init__(self) -> None:
        _hook(self)
        if not self.name and not self.mac:
            raise ValueError("a device is found by name or by MAC: give one")
        if self.name:
            _name(self.name)
        if self.mac:
            object.__setattr__(self, "mac", _mac(self.mac))

    def __str__(self) -> str:
        return " with MAC ".join(filter(None, (self.name, self.mac)))


@dataclass(frozen=True)
class Share:
    """Part of a device that is there: the frames to these MACs, of any if there are none, in these VLANs (1 to 4094),
    without a tag if there are none.  All other frames pass to the host untouched.

    Frames to groups are copied: to every share of their VLAN and to the host.  What leaves must come from one of the
    MACs and be in one of the VLANs, or is dropped as FOREIGN.  Frames keep their tags; with `access`, for one VLAN, the
    port sees them without.  Two shares of one device have no frame in common.
    """

    device: str
    macs: Iterable[str] = ()
    vlans: Iterable[int] = ()
    access: bool = False

    def __post_init__(self) -> None:
        _name(self.device)
        if isinstance(self.macs, str):
            raise ValueError(f"macs are a list: [{self.macs!r}]")
        macs, vlans = tuple(sorted({_mac(mac) for mac in self.macs})), tuple(sorted(set(self.vlans)))
        object.__setattr__(self, "macs", macs)
        object.__setattr__(self, "vlans", vlans)
        if not macs and not vlans:
            raise ValueError(f"a share of {self.device} needs MACs or VLANs; for all of it use Device({self.device!r})")
        for mac in macs:
            if mac_address(mac) >> 40 & 1:
                raise ValueError(f"{mac} is the MAC of a group: those go to every share")
        for vlan in vlans:
            if not 1 <= vlan <= 4094:
                raise ValueError(f"a VLAN is 1 to 4094, not {vlan}")
        if max(len(macs), len(vlans)) > MOST:
            raise ValueError(f"a share has at most {MOST} MACs and {MOST} VLANs: attach the whole device to a switch")
        if self.access and len(vlans) != 1:
            raise ValueError(f"access is to one VLAN, not to {len(vlans)}")

    def overlap(self, other: Share) -> str:
        """What both want, in words; empty if no frame is both's."""
        mine, theirs = set(self.vlans) or {0}, set(other.vlans) or {0}
        vlans = mine & theirs
        if not vlans:
            return ""
        macs = set(self.macs) & set(other.macs)
        if self.macs and other.macs and not macs:
            return ""
        named = sorted(macs) or sorted(self.macs) or sorted(other.macs)
        what = f"frames to {', '.join(named)}" if named else "all frames"
        return f"{what} {'without a tag' if vlans == {0} else f'in VLAN {min(vlans)}'}"


Attachment = Veth | Tap | Device | Share | Edge
_KINDS: dict[str, type[Attachment]] = {kind.__name__.lower(): kind for kind in (Veth, Tap, Device, Share, Edge)}


def same(one: Attachment, other: Attachment) -> bool:
    """Whether the device of one can go on as that of the other, with another address, say, or MTU; devices of the host,
    which several may describe, are told by their index instead."""
    match one, other:
        case Veth(), Veth():
            return (one.name, one.create, _identity(one.namespace)) == (other.name, other.create,
                                                                        _identity(other.namespace))
        case Tap(), Tap():
            return (one.name, one.persistent) == (other.name, other.persistent)
    return one == other


def _identity(room: Room) -> object:
    if isinstance(room, int):
        status = os.fstat(room)
        return status.st_dev, status.st_ino
    return room.identity if isinstance(room, NetworkNamespace) else room


def document(attachment: Attachment) -> dict[str, Any]:
    """As JSON has it, what is usual left out; an open namespace without a name becomes `{"open": null}`."""
    found: dict[str, Any] = {"kind": type(attachment).__name__.lower()}
    for name, value in vars(attachment).items():
        if isinstance(value, NetworkNamespace) or (name == "namespace" and isinstance(value, int)):
            found[name] = {"open": None}
        elif value not in ("", (), {}, None) and (name, value) != ("hook", Hook.TC):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def parse(found: Mapping[str, Any]) -> Attachment:
    """The opposite of `document`.  A namespace that had no name is one nobody can open."""
    fields = {name: value for name, value in found.items() if name != "kind"}
    if isinstance(fields.get("namespace"), Mapping):
        fields["namespace"] = -1
    return _KINDS[found["kind"]](**fields)


__all__ = ["Attachment", "Device", "Share", "Tap", "Veth", "document", "parse", "same"]
