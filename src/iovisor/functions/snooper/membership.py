"""Who wants which group, and where the routers are: what a switch hears by listening in (RFC 4541).

`read` makes of a frame what it says, or nothing: a message whose checksum is wrong, or whose lengths lie, says nothing.
`Membership` remembers it until it is too old; it knows time only as it is told.  Sources are not looked at: a host that
wants one source of a group gets the group (RFC 4541 section 2.1.2 asks no more).

Addresses are numbers of 128 bits, those of IPv4 within ::ffff:0:0/96; a VLAN and a group together are a `Key`.  Group 0
stands for the routers of the VLAN, which get every group.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from iovisor.language.layout import Header
from iovisor.parts.reading import MAPPED
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.igmp import Change, GroupRecord, Igmp, IgmpType, Report3
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import Extension, IPv6
from iovisor.wire.mld import Listener, ListenerRecord, ListenerReport2
from iovisor.wire.offload import of_data

Key = tuple[int, int]           # VLAN and group
ROUTERS = 0
LOCAL4, LOCAL6 = 24, 2          # what is not for snooping: 224.0.0.0/24, and scopes up to link-local
PIM_HELLO = 0x20                # version 2, type 0 (RFC 7761 section 4.9.2)
LINK_LOCAL = 0xfe80 >> 6


@dataclass(frozen=True)
class Message:
    """What a frame says: that a router is there, and which groups its sender wants (or no longer)."""

    router: bool = False
    changes: tuple[tuple[int, bool], ...] = ()


def read(frame: bytes) -> Message | None:
    """The message of a frame, without its outer tag; None for what says nothing that could be believed."""
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\0" and len(packet) >= IPv4.size:
        return _read4(packet)
    if kind == b"\x86\xdd" and len(packet) >= IPv6.size:
        return _read6(packet)
    return None


def _read4(packet: bytes) -> Message | None:
    ip = IPv4.decode(packet)
    start, end = ip.ihl * 4, ip.length
    if ip.version != 4 or start < 20 or not start <= end <= len(packet) or ip.offset or ip.mf:
        return None
    body = packet[start:end]
    if ip.proto == IpProtocol.PIM:
        return Message(router=True) if body[:1] == bytes([PIM_HELLO]) and ip.src else None
    if ip.proto != IpProtocol.IGMP or len(body) < Igmp.size or of_data(body) != 0xffff:
        return None
    message = Igmp.decode(body)
    match message.type:
        case IgmpType.QUERY:
            return Message(router=ip.src != 0)      # a proxy's query has no source, and is no router's
        case IgmpType.REPORT_1 | IgmpType.REPORT_2:
            return Message(changes=_changes(((message.group, True),)))
        case IgmpType.LEAVE:
            return Message(changes=_changes(((message.group, False),)))
        case IgmpType.REPORT_3:
            return _report(body, Report3.decode(body).count, Report3.size, GroupRecord, 4)
    return None


def _read6(packet: bytes) -> Message | None:
    ip = IPv6.decode(packet)
    end = 40 + ip.length
    if ip.version != 6 or end > len(packet) or ip.hops != 1:
        return None
    at, proto = 40, ip.next
    if proto == IpProtocol.HOP_BY_HOP and at + 8 <= end:
        extension = Extension.decode(packet[at:])
        at, proto = at + extension.length * 8 + 8, extension.next
    body = packet[at:end]
    if proto != IpProtocol.ICMP6 or len(body) < ListenerReport2.size:
        return None
    pseudo = packet[8:40] + len(body).to_bytes(4, "big") + bytes([0, 0, 0, IpProtocol.ICMP6])
    if of_data(pseudo + body) != 0xffff:
        return None
    if body[0] == Icmp6Type.LISTENER_REPORT_2:
        return _report(body, ListenerReport2.decode(body).count, ListenerReport2.size, ListenerRecord, 16)
    if len(body) < Listener.size:
        return None
    group = Listener.decode(body).group
    match body[0]:
        case Icmp6Type.LISTENER_QUERY:
            return Message(router=ip.src >> 118 == LINK_LOCAL)
        case Icmp6Type.LISTENER_REPORT:
            return Message(changes=_changes(((group, True),)))
        case Icmp6Type.LISTENER_DONE:
            return Message(changes=_changes(((group, False),)))
    return None


def _report(body: bytes, count: int, at: int, kind: type[Header], size: int) -> Message | None:
    """A report of many records, each followed by so many addresses of `size` bytes."""
    found = []
    for _ in range(count):
        if at + kind.size > len(body):
            return None
        record = kind.decode(body[at:at + kind.size])
        assert isinstance(record, GroupRecord | ListenerRecord)
        at += kind.size + record.sources * size + record.auxiliary * 4
        if at > len(body):
            return None
        if record.type in (Change.IS_INCLUDE, Change.TO_INCLUDE):
            found.append((record.group, record.sources > 0))
        elif record.type != Change.BLOCK:
            found.append((record.group, True))
    return Message(changes=_changes(found))


def _changes(found: Iterable[tuple[int, bool]]) -> tuple[tuple[int, bool], ...]:
    """Those about groups that a switch may keep from somebody, as numbers of 128 bits."""
    return tuple(_wide(found))


def _wide(found: Iterable[tuple[int, bool]]) -> Iterator[tuple[int, bool]]:
    for group, wanted in found:
        if group >> 120 == 0xff:
            if group >> 112 & 0xf > LOCAL6:
                yield group, wanted
        elif group >> 28 == 0xe and group >> 8 != 0xe00000:
            yield MAPPED | group, wanted


@dataclass
class Membership:
    """Ports by VLAN and group, each until a time; `fixed` are ports that always lead to a router; who
    `learns` finds others."""

    most: int
    per_port: int
    lifetime: int
    leaving: int
    router_lifetime: int
    fixed: frozenset[int] = frozenset()
    learns: bool = True
    ports: dict[Key, dict[int, int]] = field(default_factory=dict)
    refused: int = 0

    def believe(self, standing: dict[Key, set[int]], moment: int) -> None:
        """Take what another process left in its tables as if it had just been heard."""
        for key, ports in standing.items():
            routers = standing.get((key[0], ROUTERS), set())
            left = ports - (self.fixed if key[1] == ROUTERS else routers)
            if left:
                life = self.router_lifetime if key[1] == ROUTERS else self.lifetime
                self.ports[key] = dict.fromkeys(left, moment + life)

    def hear(self, vid: int, port: int, message: Message, moment: int) -> None:
        """What came in through a port."""
        if message.router and self.learns:
            self.ports.setdefault((vid, ROUTERS), {})[port] = moment + self.router_lifetime
        for group, wanted in message.changes:
            if wanted:
                self.join(vid, port, group, moment)
            else:
                self.leave(vid, port, group, moment)

    def join(self, vid: int, port: int, group: int, moment: int) -> None:
        """A port wants a group; one that would be too many is refused, and what is there stays."""
        key = vid, group
        here = self.ports.get(key)
        if here is None or port not in here:
            held = sum(port in ports for (_, group), ports in self.ports.items() if group != ROUTERS)
            groups = sum(group != ROUTERS for _, group in self.ports)
            if held >= self.per_port or (here is None and groups >= self.most):
                self.refused += 1
                return
        self.ports.setdefault(key, {})[port] = moment + self.lifetime

    def leave(self, vid: int, port: int, group: int, moment: int) -> None:
        """Some host behind a port no longer wants a group; another may, and is given the time to say so."""
        here = self.ports.get((vid, group), {})
        if port in here:
            here[port] = min(here[port], moment + self.leaving)
            if self.leaving == 0:
                self.age(moment)

    def age(self, moment: int) -> None:
        """Forget what is too old."""
        for key, ports in list(self.ports.items()):
            for port in [port for port, until in ports.items() if until <= moment]:
                del ports[port]
            if not ports:
                del self.ports[key]

    def forget_routers(self) -> None:
        """Only the fixed ones are left."""
        self.ports = {key: ports for key, ports in self.ports.items() if key[1] != ROUTERS}

    def routers(self, vid: int) -> set[int]:
        """The ports that lead to routers of a VLAN."""
        return {*self.fixed, *self.ports.get((vid, ROUTERS), ())}

    def sets(self, vids: Iterable[int]) -> dict[Key, set[int]]:
        """Where groups go: to who wants them, and to routers.  `vids` are VLANs that have routers in any case."""
        found = {(vid, ROUTERS): self.routers(vid) for vid in {*vids, *(vid for vid, _ in self.ports)}}
        found |= {key: {*ports, *self.routers(key[0])} for key, ports in self.ports.items() if key[1] != ROUTERS}
        return {key: ports for key, ports in found.items() if ports}
