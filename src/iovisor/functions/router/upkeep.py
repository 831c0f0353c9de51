"""The router's Python: neighbors found, watched and forgotten; options, fragments, advertisements.

A neighbor's life is in its table entry, so that it goes on when this process is another: asked (three requests, a
second apart), dead (asked again once a second while packets want there, forgotten when none did for a minute), known,
and, once `reachable` is over and it was used since, probed by three requests to itself while packets go on.  Only the
packets that wait are here.

What was waiting, what was reassembled and what had options goes through the data path again, in CPython (`again`).
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from iovisor.language import (
    SECOND,
    Packet,
    Verdict,
    drop,
    every,
    handles,
    now,
)
from iovisor.language.errors import Reject
from iovisor.language.verdicts import DROP_KIND, FORWARD_KIND, PUNT_KIND
from iovisor.parts.asking import is_right6
from iovisor.wire.checksum import finish, of_ipv4
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.fragmentation import cut, header
from iovisor.wire.icmp import IcmpType, TimeExceeded, Unreachable
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import ALL_NODES, Fragment, IPv6, is_link_local, multicast_mac
from iovisor.wire.neighbor import OptionType, link_layer_address
from iovisor.wire.offload import of_data, segments

from . import fragments, messages, options
from .family import Family
from .path import Path
from .settings import InterfaceConfig
from .tables import Neighbor, Reason, RouteKind, Slow, State, Unresolved, Work

WAITING = 16                # packets for one neighbor
MOST_WAITING = 1024         # packets for all
MOST_BYTES = 4 << 20        # of them
REDIRECTS = 10              # a second and port
RENEWED = 10 * SECOND       # between two redirects of one host for one destination
TRIES = 3
DEAD_FOR = 60 * SECOND      # without a packet for it
DEFEND = 10 * SECOND        # RFC 5227 section 2.4
ANNOUNCEMENTS = 2           # RFC 5227 section 1.1: ANNOUNCE_NUM
FIRST_ADVERTISEMENTS = 3    # RFC 4861 section 10: MAX_INITIAL_RTR_ADVERTISEMENTS, so far apart:
SOON = 16 * SECOND

log = logging.getLogger(__name__)
Key = tuple[int, int, int]  # version, port, address


class Upkeep(Path):
    def prepare(self) -> None:
        """What `configure` finds when it is called first."""
        self.waiting: dict[Key, deque[Packet]] = {}
        self.assembly = fragments.Assembly()
        self.announcing: dict[int, int] = {}
        self.advertised: dict[int, tuple[int, int]] = {}        # by port: when last, and how often
        self.defended: dict[Key, int] = {}
        self.redirected: dict[tuple[int, int, int], int] = {}   # by port, source and destination: when

    # -- handlers ----------------------------------------------------------------------------------------------------

    @handles(Unresolved)
    def on_unresolved(self, event: Unresolved, packet: Packet) -> None:
        """Keep the packet, and ask for the neighbor if nobody has."""
        key = (event.version, event.port, event.address)
        entry = self.neighbor(key)
        if entry is not None and entry.state >= State.DEAD:
            self.again(packet)              # it was found, or given up, in the meantime
            return
        queue = self.waiting.setdefault(key, deque())
        held = [len(one) for queue in self.waiting.values() for one in queue]
        if len(queue) < WAITING and len(held) < MOST_WAITING and sum(held) + len(packet) <= MOST_BYTES:
            queue.append(packet)
        else:
            self.lose(Reason.QUEUE_FULL)
        if entry is None:
            if not self.remember(key, State.ASKED):
                self.waiting.pop(key, None)
                self.lose(Reason.NEIGHBORS_FULL)
            else:
                self.ask(key)

    @handles(Slow)
    def on_slow(self, event: Slow, packet: Packet) -> None:
        """Do what the data path cannot."""
        key = (event.version, packet.port, event.address)
        match event.what:
            case Work.RESOLVED:
                self.flush(key)
                self.again(packet)
            case Work.OPTIONS:
                self.options4(packet) if event.version == 4 else self.options6(packet)
            case Work.FRAGMENT:
                for frame in segments(bytes(packet.data), packet.segment):
                    for part in cut(frame[14:], event.mtu):
                        self.again(Packet(frame[:14] + part, packet.port))
            case Work.REASSEMBLE:
                self.reassemble4(packet) if event.version == 4 else self.reassemble6(packet)
            case Work.SOLICITED:
                self.solicited(packet)
            case Work.CONFLICT:
                self.defend(key)
            case Work.REDIRECT:
                self.redirect(key, packet)

    def again(self, packet: Packet, done: int = 0) -> None:
        """The data path, here, for a packet that was held back; what leaves it leaves."""
        packet.cursor, frame = 0, bytes(packet.data)
        self.conclude(packet, self.decided(self.receive, packet, done))
        while packet.told:
            event = packet.told.pop(0)
            if isinstance(event, Slow):
                self.on_slow(event, Packet(frame, packet.port))

    @staticmethod
    def decided(part: Callable[..., Verdict], *given: Any) -> Verdict:
        """What a part of the data path makes of a packet here: what it rejects it drops."""
        try:
            return part(*given)
        except Reject as rejected:
            return drop(rejected.reason)

    def conclude(self, packet: Packet, verdict: Verdict) -> None:
        if verdict.kind == FORWARD_KIND:
            mtu = self.links[verdict.argument].mtu
            if len(packet) - 14 > mtu and not packet.segment and packet.data[12:14] == b"\x08\0":
                for part in cut(bytes(packet.data[14:]), mtu):
                    self.send(bytes(packet.data[:14]) + part, verdict.argument)
            else:
                self.send(packet, verdict.argument)
        elif verdict.kind == PUNT_KIND and verdict.event is not None:
            if isinstance(verdict.event, Unresolved):
                self.on_unresolved(verdict.event, packet)
            elif isinstance(verdict.event, Slow):
                self.on_slow(verdict.event, packet)
        elif verdict.kind == DROP_KIND:
            self.lose(verdict.argument)

    def lose(self, reason: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1

    # -- neighbors ---------------------------------------------------------------------------------------------------

    def family(self, version: int) -> Family[Any, Any, Any, Any]:
        return self.v4 if version == 4 else self.v6

    def neighbor(self, key: Key) -> Neighbor | None:
        version, port, address = key
        return self.family(version).neighbor(port, address)

    def remember(self, key: Key, state: State, mac: int = 0, tries: int = 1) -> bool:
        version, port, address = key
        family = self.family(version)
        return family.remember(port, address, state, mac, tries) or (
            self.make_room(version) and family.remember(port, address, state, mac, tries))

    def make_room(self, version: int) -> bool:
        """Forget an eighth of a full table: first who never answered, then who is not used, the longest silent first.

        So a stranger who asks for every address of a network, or says it has them all, pushes out only such.  Who is
        in use, or configured, stays.
        """
        entries = [(k, n) for k, n in self.entries() if k[0] == version and n.state != State.FIXED
                   and (n.state <= State.DEAD or not n.used)]
        entries.sort(key=lambda item: (item[1].state > State.DEAD, item[1].since))
        for key, _ in entries[:max(int(self.config.neighbors) // 8, 1)]:
            for _ in self.waiting.pop(key, ()):
                self.lose(Reason.NEIGHBORS_FULL)
            self.forget(key)
        return bool(entries)

    def entries(self) -> list[tuple[Key, Neighbor]]:
        return [((version, port, address), entry) for version in (4, 6)
                for port, address, entry in self.family(version).known()]

    def forget(self, key: Key) -> None:
        version, port, address = key
        self.family(version).forget(port, address)

    def ask(self, key: Key, known: int = 0) -> None:
        """Send one request; to `known` if that is where the neighbor was."""
        version, port, address = key
        interface = self.config.interfaces.get(port)
        if interface is None:
            return
        if version == 6:
            own = interface.link_local if is_link_local(address) else self.source(interface, 6, address)
            self.send(messages.solicitation(interface.mac, own or interface.link_local, address, known), port)
        else:
            self.send(messages.arp_request(interface.mac, self.source(interface, 4, address), address, known), port)

    @staticmethod
    def source(interface: InterfaceConfig, version: int, address: int) -> int:
        """Our address on the network of another, or our first."""
        own = [n for n in interface.networks() if n.version == version and not (version == 6 and n.ip.is_link_local)]
        near = [n for n in own if int(n.network.network_address) <= address <= int(n.network.broadcast_address)]
        return int((near or own)[0].ip) if own else 0

    def flush(self, key: Key) -> None:
        """Let what waits for a neighbor go on."""
        for packet in self.waiting.pop(key, ()):
            self.again(packet)

    @every(0.5)
    def watch(self) -> None:
        """Ask, probe, give up and forget."""
        moment = now()
        for key, entry in self.entries():
            age = moment - entry.since
            if entry.state == State.FIXED:
                continue
            if entry.state in (State.ASKED, State.PROBED) and age >= SECOND:
                self.ask_again(key, entry)
            elif entry.state == State.DEAD and age >= SECOND:
                if entry.used:
                    self.remember(key, State.DEAD, tries=0)
                    self.ask(key)
                elif age >= DEAD_FOR:
                    self.forget(key)
            elif entry.state == State.KNOWN and age >= self.config.reachable:
                if entry.used:
                    self.remember(key, State.PROBED, entry.mac)
                    self.ask(key, entry.mac)
                elif age >= self.config.forgotten:
                    self.forget(key)
        for key in [k for k in self.waiting if self.settled(k)]:
            self.flush(key)
        self.announce()

    def settled(self, key: Key) -> bool:
        entry = self.neighbor(key)
        return entry is None or entry.state != State.ASKED

    def ask_again(self, key: Key, entry: Neighbor) -> None:
        if entry.tries < TRIES:
            self.remember(key, State(entry.state), entry.mac, entry.tries + 1)
            self.ask(key, entry.mac if entry.state == State.PROBED else 0)
        elif entry.state == State.PROBED:
            self.remember(key, State.ASKED)
            self.ask(key)
        else:
            self.remember(key, State.DEAD, tries=0)
            self.flush(key)

    def announce(self) -> None:
        """Tell neighbors of addresses that are new here."""
        for port, times in list(self.announcing.items()):
            interface = self.config.interfaces.get(port)
            self.announcing[port] = times - 1
            if interface is None or times <= 1:
                del self.announcing[port]
            if interface is None:
                continue
            for network in interface.networks():
                if network.version == 4:
                    self.send(messages.arp_announcement(interface.mac, int(network.ip)), port)
                else:
                    self.send(messages.advertisement(interface.mac, int(network.ip)), port)

    def defend(self, key: Key) -> None:
        """Somebody else says it has our address: say that it is ours, not too often (RFC 5227 section 2.4 c)."""
        version, port, address = key
        if now() - self.defended.get(key, -DEFEND) < DEFEND:
            return
        self.defended[key] = now()
        mac = self.config.interfaces[port].mac
        log.warning("port %d: somebody else has our address %#x", port, address)
        tell = messages.arp_announcement if version == 4 else messages.advertisement
        self.send(tell(mac, address), port)

    # -- redirects ---------------------------------------------------------------------------------------------------

    def redirect(self, key: Key, packet: Packet) -> None:
        """Tell the sender of a better first hop, if it is one that the sender can use (RFC 1812 section 5.2.7.2; RFC
        4861 section 8.2): both on one of our networks there, and in IPv6 a router by its link-local address."""
        version, port, gateway = key
        interface = self.config.interfaces.get(port)
        ip = IPv4.decode(packet.data[14:]) if version == 4 else IPv6.decode(packet.data[14:])
        near = self.neighbor(key)
        told = port, ip.src, ip.dst
        if interface is None or near is None or now() - self.redirected.get(told, -RENEWED) < RENEWED:
            return
        usable = shares(interface, 4, ip.src, gateway) if version == 4 else shares(interface, 6, ip.src) and (
            gateway == ip.dst or is_link_local(gateway))
        if not usable or not self.may_err(port):
            return
        if len(self.redirected) >= MOST_WAITING:
            self.redirected.clear()
        self.redirected[told] = now()
        to = Ethernet.decode(packet.data).src
        datagram = bytes(packet.data[14:])
        self.send(messages.redirect4(interface, to, self.source(interface, 4, ip.src), gateway, datagram)
                  if version == 4 else messages.redirect6(interface, to, gateway, near.mac, datagram), port)

    @every(1)
    def renew_redirects(self) -> None:
        for port, interface in self.config.interfaces.items():
            self.redirects[port] = REDIRECTS if interface.redirects else 0

    # -- options and fragments ---------------------------------------------------------------------------------------

    def options4(self, packet: Packet) -> None:
        data = packet.data
        ip = IPv4.decode(data[14:])
        size = ip.ihl * 4
        route = self.v4.routes.get(ip.dst)
        out = packet.port if route is None or route.kind >= RouteKind.LOCAL else route.port
        address = self.links[out].address4
        found = options.process4(bytes(data[34:14 + size]), address, now() // 1_000_000 % 86_400_000 | 1 << 31)
        if isinstance(found, options.Refusal):
            refusal = IcmpType.UNREACHABLE << 8 | Unreachable.SOURCE_ROUTE_FAILED if found.source_routed \
                else IcmpType.PARAMETER_PROBLEM << 8
            packet.cursor = 0
            eth, header = packet.parse(Ethernet, IPv4)
            self.conclude(packet, self.decided(
                self.refuse4, packet, eth, header, self.links[packet.port], refusal,
                0 if found.source_routed else found.pointer << 24, Reason.OPTIONS))
            return
        ip.checksum = 0
        ip.checksum = finish(of_ipv4(ip) + of_data(found))
        self.again(Packet(bytes(data[:14]) + bytes(ip) + found + bytes(data[14 + size:]), packet.port), 1)

    def options6(self, packet: Packet) -> None:
        """Options of IPv6: those for routers, and in what is for this one all that come before its payload."""
        ip = IPv6.decode(packet.data[14:])
        end = 54 + ip.length if ip.length else len(packet)
        found = options.walk6(bytes(packet.data[14:end]), self.owns6(packet.port, ip.dst))
        if found is None:
            self.lose(Reason.MALFORMED)
        elif isinstance(found, bytes):
            self.again(Packet(bytes(packet.data[:14]) + found, packet.port), 1)
        elif found.silent:
            self.lose(Reason.OPTIONS)
        else:
            packet.cursor = 0
            eth, header = packet.parse(Ethernet, IPv6)
            self.conclude(packet, self.decided(
                self.refuse6, packet, eth, header, self.links[packet.port],
                Icmp6Type.PARAMETER_PROBLEM << 8 | found.code, found.pointer, Reason.OPTIONS))

    def owns6(self, port: int, address: int) -> bool:
        route = self.v6.routes.get(address)
        return address == self.links[port].link_local or (route is not None and route.kind == RouteKind.LOCAL)

    def reassemble4(self, packet: Packet) -> None:
        data = packet.data
        ip = IPv4.decode(data[14:])
        size, key = ip.ihl * 4, (packet.port, ip.src, ip.dst, ip.id, ip.proto)
        whole = self.assembly.add(key, now(), ip.offset * 8, bool(ip.mf), bytes(data[:14 + size]),
                                  bytes(data[14 + size:14 + ip.length]))
        self.lose_parts()
        if whole is None:
            return
        head, body = whole
        first = IPv4.decode(head[14:])
        made = header(first, head[34:], 0, 0, len(body))
        self.again(Packet(head[:14] + made + body, packet.port), 1)

    def reassemble6(self, packet: Packet) -> None:
        data = packet.data
        if len(data) < 62:
            self.lose(Reason.MALFORMED)
            return
        ip, part = IPv6.decode(data[14:]), Fragment.decode(data[54:])
        if part.more and (ip.length - 8) % 8:
            packet.cursor = 0
            eth, header = packet.parse(Ethernet, IPv6)
            self.conclude(packet, self.decided(
                self.refuse6, packet, eth, header, self.links[packet.port], Icmp6Type.PARAMETER_PROBLEM << 8, 4,
                Reason.FRAGMENTS))
            return
        whole = self.assembly.add((packet.port, ip.src, ip.dst, part.id), now(), part.offset * 8, bool(part.more),
                                  bytes(data[:62]), bytes(data[62:54 + ip.length]))
        self.lose_parts()
        if whole is None:
            return
        head, body = whole
        made = IPv6.decode(head[14:])
        made.next, made.length = head[54], len(body)
        answer = Packet(head[:14] + bytes(made) + body, packet.port)
        if len(answer) - 14 <= self.links[packet.port].mtu:
            self.again(answer, 1)
            return
        answer.cursor = 0                   # the reply needs to be cut as well, and in IPv6 only its source may
        verdict = self.decided(self.receive, answer, 1)
        if verdict.kind != FORWARD_KIND:
            self.conclude(answer, verdict)
            return
        for frame in cut6(bytes(answer.data), self.links[packet.port].mtu, part.id):
            self.send(frame, verdict.argument)

    def lose_parts(self) -> None:
        for _ in range(self.assembly.gone):
            self.lose(Reason.FRAGMENTS)
        self.assembly.gone = 0

    @every(1)
    def give_up_parts(self) -> None:
        """Tell who sent the first part of what does not become whole (RFC 1122 section 3.3.2, RFC 8200 section 4.5)."""
        for (port, *_), frame in self.assembly.expired(now()):
            packet = Packet(frame, port)
            if frame[12:14] == b"\x08\0":
                eth, ip = packet.parse(Ethernet, IPv4)
                verdict = self.decided(self.refuse4, packet, eth, ip, self.links[port],
                                       IcmpType.TIME_EXCEEDED << 8 | TimeExceeded.REASSEMBLY, 0, Reason.FRAGMENTS)
            else:
                eth, six = packet.parse(Ethernet, IPv6)
                verdict = self.decided(self.refuse6, packet, eth, six, self.links[port],
                                       Icmp6Type.TIME_EXCEEDED << 8 | TimeExceeded.REASSEMBLY, 0, Reason.FRAGMENTS)
            if verdict.kind == FORWARD_KIND:
                self.send(packet, verdict.argument)
        self.lose_parts()

    # -- router advertisements -----------------------------------------------------------------------------------------

    def solicited(self, packet: Packet) -> None:
        """A host looks for routers (RFC 4861 section 6.2.6): it, if it has an address, or all are told at once."""
        interface = self.config.interfaces.get(packet.port)
        ip = IPv6.decode(packet.data[14:])
        body = bytes(packet.data[54:54 + ip.length])
        if interface is None or interface.advertise is None or len(body) < 8 or not is_right6(ip.src, ip.dst, body):
            self.lose(Reason.HEARD)
            return
        packet.cursor = 62
        try:
            told = link_layer_address(packet, OptionType.SOURCE_ADDRESS)
        except Reject:
            told = -1
        if told < 0 or (ip.src == 0 and told):
            self.lose(Reason.BAD_RESOLUTION)
            return
        if ip.src == 0:
            self.advertise_all(packet.port, interface)
        else:
            self.send(messages.router_advertisement(interface, told or Ethernet.decode(packet.data).src, ip.src),
                      packet.port)

    def advertise_all(self, port: int, interface: InterfaceConfig) -> None:
        self.send(messages.router_advertisement(interface, multicast_mac(ALL_NODES), ALL_NODES), port)
        self.advertised[port] = now(), self.advertised.get(port, (0, 0))[1] + 1

    @every(1)
    def advertise_routers(self) -> None:
        """Unsolicited advertisements: three soon, then every `interval`."""
        for port, interface in self.config.interfaces.items():
            if interface.advertise is not None:
                last, times = self.advertised.get(port, (0, 0))
                wait = min(interface.advertise.interval, SOON if times < FIRST_ADVERTISEMENTS else 1 << 62)
                if times == 0 or now() - last >= wait:
                    self.advertise_all(port, interface)


def shares(interface: InterfaceConfig, version: int, *addresses: int) -> bool:
    """Whether all these addresses are on one network of an interface."""
    return any(int(n.network.network_address) <= min(addresses) and max(addresses) <= int(n.network.broadcast_address)
               for n in interface.networks() if n.version == version)


def cut6(frame: bytes, mtu: int, identity: int) -> list[bytes]:
    """A frame of an IPv6 packet of ours as fragments (RFC 8200 section 4.5)."""
    ip, body, parts = IPv6.decode(frame[14:]), frame[54:], []
    room = (mtu - 48) & ~7
    for at in range(0, len(body), room):
        piece = body[at:at + room]
        part = IPv6.decode(bytes(ip))
        part.length, part.next = 8 + len(piece), IpProtocol.FRAGMENT
        parts.append(frame[:14] + bytes(part) + bytes(Fragment(
            next=ip.next, offset=at // 8, more=int(at + room < len(body)), id=identity)) + piece)
    return parts
