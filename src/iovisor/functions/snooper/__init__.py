"""A switch that listens in on multicast, and answers address resolution for endpoints it was told of (RFC 4541).

Everything `bridge` does, this does.  Besides, it hears which ports want which groups (IGMP for IPv4, MLD for IPv6) and
sends a group's packets there and to routers, not everywhere; and who asks for the address of a known endpoint is
answered here, so that the question wakes nobody.

## Ports

```text
              ┌───────────┐
   ports[0] ──┤           ├── ports[2]
              │  snooper  │
   ports[1] ──┤           ├── ports[3] ... ports[255]
              └───────────┘
```

## Configuration

That of `bridge` (`address`, `tree`, `priority`, `hello`, `max_age`, `delay`) and of `switch` (`ageing`, `stations`,
`quota`, `storm`, `vlans`, `service`, `horizon`, `ports`, `static`), and:

| field | type | default | meaning |
|---|---|---|---|
| `snooping` | bool | true | whether groups go only where they are wanted |
| `unregistered` | flood, routers | flood | where groups go that nobody reported |
| `router_ports` | list | | ports that lead to multicast routers, whatever is heard |
| `learn_routers` | bool | true | whether who queries, or speaks PIM, is a router; if not, others may not query |
| `membership` | time | 260s | how long a report counts (RFC 3376 section 8.4) |
| `querier_timeout` | time | 255s | how long a router is one after its last query (section 8.5) |
| `last_member` | time | 2s | how long a port keeps a group that a host behind it left; 0: not at all (fast leave) |
| `groups` | u16 | 512 | room for groups, fixed when the instance is made |
| `groups_per_port` | u16 | 64 | groups one port may want |
| `messages` | u16 | 50 | messages about groups a second and port |
| `endpoints` | list | | who is answered for: `{mac: 02:00:00:00:00:05, addresses: [10.0.0.5], vlan: 0}` |

```python
from iovisor.functions.snooper import Snooper

lan = Snooper(router_ports=[3], unregistered="routers",
              endpoints=[{"mac": "02:00:00:00:00:05", "addresses": ["10.0.0.5", "2001:db8::5"]}])
```

*Groups.*  Reports go to routers only, queries everywhere.  224.0.0.0/24 and groups of IPv6 up to link-local scope go
everywhere, always (RFC 4541 sections 2.1.2 and 3).  Other groups go to the ports that reported them and to routers; if
nobody did, where `unregistered` says.  Who queries from 0.0.0.0 is no router.  Sources are not told apart.

*Address resolution.*  A broadcast ARP request, or a solicitation to the solicited-node group, for an address of
`endpoints` is answered as that endpoint would, byte for byte; its own probes and announcements are not.

## Tables

Those of `bridge` and `switch` (`states`, `stations`, `loads`, `lines`, `members`, `storms`), and:

| table | key | value |
|---|---|---|
| `forwarding` | VLAN and group; group 0: routers | place in `sets` |
| `sets` | place | ports; in the next place those that are no overlay ports |
| `known` | VLAN and address | MAC |
| `trusted` | port | 1 for one of `router_ports` |
| `talk` | port | what is left of its allowance for messages |

They outlive the process that listens; the next one believes them for `membership`.

## Counters

`received`, `sent` and `unlearned`, by port, as in `switch`.  `answered`, by port: questions answered here.  `unheard`,
by port: messages about groups that went on, and that this process did not hear because it did not keep up.

## Drop reasons

Those of `bridge` and `switch`: `BLOCKED`, `BLOCKED_COPY`, `RESERVED_ADDRESS`, `SAME_PORT`, `STATION_FIXED`, `STORM`,
`SPLIT_HORIZON`, `PORT_CLOSED`, `VLAN_INGRESS_FILTER`, `VLAN_UNTAGGED`, `VLAN_INVALID`, `VLAN_SERVICE_TAG`,
`VLAN_EGRESS_FILTER`, `VLAN_DOUBLE_TAG`; and

| reason | the frame |
|---|---|
| `UNWANTED` | is for a group nobody wants, or a report, and there is no router |
| `ROGUE_QUERIER` | is a query through a port that leads to no router, and routers are not learned |
| `GROUP_STORM` | is a message about groups, beyond the port's allowance |

## Actions

`flush` and `show` of `switch`, `topology` of `bridge`; `listeners` lists groups, the ports that want them, and routers.

## Limits

Groups are told apart where they are right behind the Ethernet header or one tag of IP: deeper ones go everywhere.  It
does not query by itself: without a router that does, what was reported is forgotten and groups go where `unregistered`
says.  A report beyond `groups` or `groups_per_port` is ignored, so that group is as if nobody had reported it there.
Routers of 64 VLANs are known, 4,096 addresses of endpoints.
"""
# Why it is written so.
#
# The kernel forwards; who wants what is Python (`membership`), which hears of every message by `notify` and so holds up
# none.  A flood to a set of ports makes no copy that would be dropped at egress.
#
# A kind of its own, because a function that is told of events costs a ring.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Hash,
    Packet,
    PortSet,
    Prefix,
    Reasons,
    Record,
    Verdict,
    action,
    drop,
    every,
    flood,
    forward,
    handles,
    ipv4_text,
    ipv6,
    ipv6_text,
    mac,
    mac_text,
    now,
    require,
    table,
    time,
    u8,
    u12,
    u16,
)
from iovisor.parts.allowance import Allowance, take
from iovisor.parts.reading import MAPPED
from iovisor.wire import answer
from iovisor.wire.arp import Arp, ArpOperation, is_ethernet_ipv4
from iovisor.wire.arp import answer as answer_arp
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.igmp import Igmp, IgmpType
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_local_multicast, is_multicast, is_sane
from iovisor.wire.ipv6 import Extension, IPv6
from iovisor.wire.neighbor import ON_LINK, NeighborSolicitation

from ..bridge import Bridge, BridgeConfig
from ..switch import PORTS, changed
from .membership import LOCAL6, ROUTERS, Membership, read

SOLICITED = 0xff02_0000_0000_0000_0000_0001_ff00_0000 >> 24         # ff02::1:ff00:0/104 (RFC 4291 section 2.7.1)


MOST_GROUPS = 16_000    # so that the number of a set has 16 bits
VLANS = 64              # whose routers there is room for, beside `groups`


class Unregistered(IntEnum):
    FLOOD = 0
    ROUTERS = 1


class GroupReason(Reasons):
    UNWANTED = 80
    ROGUE_QUERIER = 81
    GROUP_STORM = 82


# -- configuration ---------------------------------------------------------------------------------------------------

class EndpointConfig(Config):
    """Who is answered for."""

    mac: mac
    addresses: list[Prefix]
    vlan: u12 = 0

    def validate(self) -> None:
        if is_group(self.mac):
            raise ConfigError("mac", f"{mac_text(self.mac)} is a group address, no endpoint has it")
        for place, address in enumerate(self.addresses):
            if address.length != address.bits:
                raise ConfigError(f"addresses[{place}]", f"{address} is not one address")


class SnooperConfig(BridgeConfig):
    """A snooping switch."""

    snooping: bool = True
    unregistered: Unregistered = Unregistered.FLOOD
    router_ports: list[u8] = []
    learn_routers: bool = True
    membership: time = 260 * SECOND
    querier_timeout: time = 255 * SECOND
    last_member: time = 2 * SECOND
    groups: u16 = 512
    groups_per_port: u16 = 64
    messages: u16 = 50
    endpoints: list[EndpointConfig] = []

    def validate(self) -> None:
        super().validate()
        if self.groups > MOST_GROUPS:
            raise ConfigError("groups", f"{self.groups}; {MOST_GROUPS} is the most")
        seen = set()
        for place, endpoint in enumerate(self.endpoints):
            for key in endpoint_keys(endpoint):
                if key in seen:
                    raise ConfigError(f"endpoints[{place}].addresses", "another endpoint has one of these")
                seen.add(key)

    def known(self) -> dict[tuple[int, int], int]:
        return {key: endpoint.mac for endpoint in self.endpoints for key in endpoint_keys(endpoint)}

    @property
    def places(self) -> int:
        """Of sets: two for each entry of `forwarding`, as many that rest, and the two of `switch`."""
        return 2 + 4 * self.group_room

    @property
    def group_room(self) -> int:
        return self.groups + VLANS


def endpoint_keys(endpoint: EndpointConfig) -> list[tuple[int, int]]:
    return [(endpoint.vlan, MAPPED | address.address if address.bits == 32 else address.address)
            for address in endpoint.addresses]


# -- tables ----------------------------------------------------------------------------------------------------------

class Group(Record):
    """A group, or an address, of a VLAN; IPv4 within ::ffff:0:0/96."""

    address: ipv6
    vid: u12


class Heard(Record):
    """A message about groups has come in."""

    port: u8
    vid: u12


# -- the function ----------------------------------------------------------------------------------------------------

class Snooper(Bridge):
    config: SnooperConfig
    forwarding: Hash[Group, u16] = table("group_room")
    sets: Array[PortSet] = table("places")
    known: Hash[Group, mac] = table(4096)
    trusted: Array[u8] = table(PORTS)
    talk: Array[Allowance] = table(PORTS)
    answered: Counter = table(PORTS)
    unheard: Counter = table(PORTS)

    _membership: Membership | None = None
    _resting: set[int]

    def spread(self, pkt: Packet, eth: Ethernet, vid: int, moment: int) -> Verdict:
        match eth.type:
            case EtherType.ARP:
                return self.resolve4(pkt, eth, vid, moment)
            case EtherType.IPV4:
                if self.config.snooping:
                    return self.deliver4(pkt, vid, moment)
            case EtherType.IPV6:
                return self.deliver6(pkt, eth, vid, moment)
        return self.flood(pkt.port, moment)

    # -- address resolution ------------------------------------------------------------------------------------------

    def resolve4(self, pkt: Packet, eth: Ethernet, vid: int, moment: int) -> Verdict:
        arp = pkt.peek(Arp)
        if arp is not None and arp.operation == ArpOperation.REQUEST and is_ethernet_ipv4(arp):
            address = self.known.get(Group(address=MAPPED | arp.target_ip, vid=vid))
            if address is not None and address != arp.sender_mac and not is_group(arp.sender_mac):
                self.answered.add(pkt.port)
                answer_arp(eth, arp, address)
                return forward(pkt.port)
        return self.flood(pkt.port, moment)

    def resolve6(self, pkt: Packet, eth: Ethernet, ip: IPv6, vid: int, moment: int) -> Verdict:
        """A packet to a solicited-node group."""
        message = pkt.peek(NeighborSolicitation, 40)
        if (message is not None and ip.next == IpProtocol.ICMP6 and message.type == Icmp6Type.NEIGHBOR_SOLICITATION
                and message.code == 0 and ip.hops == ON_LINK and 24 <= ip.length <= len(pkt) - 54):
            address = self.known.get(Group(address=message.target, vid=vid))
            if address is not None and address != eth.src:
                self.answered.add(pkt.port)
                answer.advertise(pkt, address, eth.src, ip.src, message.target)
                return forward(pkt.port)
        return self.flood(pkt.port, moment)

    # -- groups ------------------------------------------------------------------------------------------------------

    def deliver4(self, pkt: Packet, vid: int, moment: int) -> Verdict:
        ip = pkt.peek(IPv4)
        if ip is None or not is_sane(ip) or not is_multicast(ip.dst):
            return self.flood(pkt.port, moment)
        if ip.proto == IpProtocol.IGMP and ip.offset == 0:
            igmp = pkt.peek(Igmp, ip.ihl * 4)
            if igmp is not None:
                query = igmp.type == IgmpType.QUERY
                report = igmp.type in (IgmpType.REPORT_1, IgmpType.REPORT_2, IgmpType.LEAVE, IgmpType.REPORT_3)
                if query or report:
                    return self.listen(pkt, vid, moment, query)
        if is_local_multicast(ip.dst):
            if ip.proto == IpProtocol.PIM and self.config.learn_routers:
                return self.listen(pkt, vid, moment, True)
            return self.flood(pkt.port, moment)
        return self.deliver(pkt.port, MAPPED | ip.dst, vid, moment)

    def deliver6(self, pkt: Packet, eth: Ethernet, vid: int, moment: int) -> Verdict:
        ip = pkt.peek(IPv6)
        if ip is None or ip.version != 6 or ip.dst >> 120 != 0xff:
            return self.flood(pkt.port, moment)
        if ip.dst >> 24 == SOLICITED:
            return self.resolve6(pkt, eth, ip, vid, moment)
        if not self.config.snooping:
            return self.flood(pkt.port, moment)
        proto = ip.next
        behind = 40
        if proto == IpProtocol.HOP_BY_HOP:
            extension = pkt.peek(Extension, 40)
            if extension is not None:
                proto = extension.next
                behind = extension.length * 8 + 48
        if proto == IpProtocol.ICMP6 and ip.hops == 1:
            icmp = pkt.peek(Icmp6, behind)
            if icmp is not None:
                query = icmp.type == Icmp6Type.LISTENER_QUERY
                report = icmp.type in (Icmp6Type.LISTENER_REPORT, Icmp6Type.LISTENER_DONE, Icmp6Type.LISTENER_REPORT_2)
                if query or report:
                    return self.listen(pkt, vid, moment, query)
        if ip.dst >> 112 & 0xf <= LOCAL6:
            return self.flood(pkt.port, moment)
        return self.deliver(pkt.port, ip.dst, vid, moment)

    def listen(self, pkt: Packet, vid: int, moment: int, query: bool) -> Verdict:
        """A message about groups: Python hears it, and it goes on to whom it is for."""
        if query and not self.config.learn_routers:
            require(self.trusted[pkt.port] != 0, GroupReason.ROGUE_QUERIER)
        require(take(self.talk[pkt.port], self.config.messages, moment), GroupReason.GROUP_STORM)
        if not pkt.notify(Heard(port=pkt.port, vid=vid)):
            self.unheard.add(pkt.port)
        return self.flood(pkt.port, moment) if query else self.to_routers(pkt.port, vid)

    def deliver(self, port: int, group: int, vid: int, moment: int) -> Verdict:
        place = self.forwarding.get(Group(address=group, vid=vid))
        if place is not None:
            return self.to_set(port, place)
        if self.config.unregistered == Unregistered.FLOOD:
            return self.flood(port, moment)
        return self.to_routers(port, vid)

    def to_routers(self, port: int, vid: int) -> Verdict:
        place = self.forwarding.get(Group(address=ROUTERS, vid=vid))
        if place is None:
            return drop(GroupReason.UNWANTED)
        return self.to_set(port, place)

    def to_set(self, port: int, place: u16) -> Verdict:
        """To the ports of a set; beside each stands the same without overlay ports."""
        return flood(place | self.lines[port].overlay) if self.config.horizon else flood(place)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: SnooperConfig | None, new: SnooperConfig) -> None:  # type: ignore[override]
        super().configure(old, new)
        for (vid, address), told in changed(old.known() if old else {}, new.known()):
            if told is None:
                del self.known[Group(address=address, vid=vid)]
            else:
                self.known[Group(address=address, vid=vid)] = told
        for port in {*(old.router_ports if old else ()), *new.router_ports}:
            self.trusted[port] = port in new.router_ports
        membership = self.membership(new)
        membership.fixed, membership.leaving = frozenset(new.router_ports), new.last_member
        membership.lifetime, membership.router_lifetime = new.membership, new.querier_timeout
        membership.per_port, membership.learns = new.groups_per_port, new.learn_routers
        if not new.learn_routers:
            membership.forget_routers()
        self.settle_groups(new)
        if old is None:
            self._membership = None     # who adopts tables of another process has them only from here on

    def membership(self, config: SnooperConfig) -> Membership:
        """Who wants what, as this process knows it; at first what the tables say, believed once more."""
        if self._membership is None:
            self._resting = set()
            self._membership = Membership(int(self.forwarding.spec.size) - VLANS, config.groups_per_port,
                                          config.membership, config.last_member, config.querier_timeout,
                                          frozenset(config.router_ports), config.learn_routers)
            self._membership.believe(self.standing(), now())
        return self._membership

    def standing(self) -> dict[tuple[int, int], set[int]]:
        """Where groups go now."""
        return {(key.vid, key.address): self.sets[place].ports() for key, place in self.forwarding.items()}

    def settle_groups(self, config: SnooperConfig) -> None:
        """Make the tables say what is known, writing only what differs; a place rests before it is used again."""
        vids = {vid for settings in config.ports.values() for vid in settings.vids()} if config.vlans else {0}
        wanted = self.membership(config).sets(vids if config.router_ports else ())
        places = {(key.vid, key.address): place for key, place in self.forwarding.items()}
        taken = {*places.values(), *self._resting}
        free = iter([place for place in range(2, int(self.sets.spec.size), 2) if place not in taken])
        gone = places.keys() - wanted.keys()
        for vid, group in gone:
            del self.forwarding[Group(address=group, vid=vid)]
        self._resting = {places[key] for key in gone}
        for key, ports in wanted.items():
            place = places.get(key) or next(free, 0)
            if place == 0:
                continue                # more VLANs than `VLANS`
            for beside, wanted_there in ((place, ports), (place + 1, ports - config.overlays())):
                if self.sets[beside].ports() != wanted_there:
                    self.sets[beside] = PortSet.of(wanted_there)
            if key not in places:
                self.forwarding.put(Group(address=key[1], vid=key[0]), place)

    @handles(Heard)
    def on_heard(self, event: Heard, packet: Packet) -> None:
        """A message about groups."""
        message = read(bytes(packet.data))
        if message is not None:
            self.membership(self.config).hear(event.vid, event.port, message, now())
            self.settle_groups(self.config)

    @every(1)
    def age_groups(self) -> None:
        """Forget what was not said again."""
        self.membership(self.config).age(now())
        self.settle_groups(self.config)

    @action
    def listeners(self) -> list[dict[str, Any]]:
        """The groups that are wanted and by which ports, and under "routers" the ports that lead to one."""
        known = self.membership(self.config)
        rows = {key: ports for key, ports in known.sets(vid for vid, _ in known.ports).items() if key[1] == ROUTERS}
        rows |= {key: set(ports) for key, ports in known.ports.items() if key[1] != ROUTERS}
        return [{"vlan": vid, "group": "routers" if group == ROUTERS else text_of(group), "ports": sorted(ports)}
                for (vid, group), ports in sorted(rows.items())]


def text_of(group: int) -> str:
    return ipv4_text(group & 0xffff_ffff) if group >> 32 == MAPPED >> 32 else ipv6_text(group)
