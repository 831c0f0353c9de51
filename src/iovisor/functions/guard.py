"""Holds the endpoint behind it to what it is: its MAC addresses, its IP addresses, and no part it was not given.

An endpoint could take its neighbours' traffic by speaking in their name: with their MAC address (the switch moves the
station), in ARP, in neighbor discovery, as DHCP server, as router.  Put a guard on the link of each endpoint you do not
trust, and none of that leaves its port.  What goes to the endpoint is not looked at, unless it is `private`.

## Ports

```text
                ┌─────────┐
   inside    ───┤  guard  ├───   outside
  (endpoint)    └─────────┘     (network)
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `stations` | list | none | who is behind the port; without any, nothing passes: `mac`, and `addresses`, none or some |
| `dhcp` | bool | false | whether it may be a DHCP server or relay (UDP from port 67, and from 547) |
| `router` | bool | false | whether it may advertise itself as router, ask for listeners, and send for other addresses |
| `tagged` | bool | false | whether its frames may carry VLAN tags, one or two |
| `other` | bool | false | whether frames that are neither IP nor ARP may pass |
| `private` | bool | false | whether unicast frames for other stations than these are kept from it |

```python
from iovisor.functions.guard import Guard

web = Guard(stations=[{"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.5", "2001:db8::5"]}])
gateway = Guard(stations=[{"mac": "02:00:00:00:00:02", "addresses": ["10.0.0.0/24"]}], router=True, dhcp=True)
```

An address may be a prefix, for a host with many.  A station without addresses may use any.  What passes from `inside`:

| frame | passes if |
|---|---|
| any | its source is the MAC of a station |
| ARP | its sender is that MAC, and one of its addresses, or 0.0.0.0 (a probe, RFC 5227 section 2.1.1) |
| IPv4 | its source is one of the addresses; or 0.0.0.0, UDP from port 68 to 67: a DHCP client without a lease |
| IPv6 | its source is one of the addresses, or the link-local address that its MAC gives; or unspecified, see below |
| neighbor solicitation | the link-layer address in its first 6 options is that MAC |
| neighbor advertisement | likewise, and the target is an address its station may use as source |

The unspecified source passes for what RFC 4862 and RFC 3810 send from it: solicitations for duplicate detection, router
solicitations, and listener reports.  Nothing that is advertised is believed for the network's sake: the guard drops,
it does not learn.

*Hiding.*  Extension headers are walked, at most 4, so that an advertisement behind them is found (RFC 7113); a first
fragment of ICMPv6 is dropped when it may hide discovery (RFC 6980), and so is IPv6 whose chain of headers is longer.
Nothing is read beyond the length that the IP header gives, and a transport header must lie within.

## Tables

| table | key | value |
|---|---|---|
| `known` | MAC | 1, or 2 for a station that may use any address |
| `own` | MAC and address | 1 |
| `spans` | slot | MAC, prefix and mask, for prefixes that are no single address |
| `count` | 0 | how many slots are used |

## Counters

None but the drops.

## Drop reasons

| reason | the frame |
|---|---|
| `FOREIGN_MAC` | has a source that is no station's |
| `FOREIGN_ADDRESS` | is IP from an address that is not its station's |
| `FOREIGN_ARP` | is ARP in another's name, or not ARP for IPv4 over Ethernet |
| `FOREIGN_NEIGHBOR` | is neighbor discovery in another's name |
| `ROGUE_DHCP` | is what a DHCP server or relay says |
| `ROGUE_ROUTER` | is a router advertisement, a redirect, or a query for multicast listeners (IGMP, MLD) |
| `HIDDEN` | is discovery in fragments |
| `MALFORMED` | contradicts itself: version, lengths, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |
| `TAGGED` | has a VLAN tag, or more than two |
| `OTHER` | is neither IP nor ARP |
| `NOT_FOR_IT` | is a unicast frame for somebody else |

## Actions

`show` lists stations and addresses.

## Limits

64 stations, 256 single addresses, 32 prefixes.  An IPv6 privacy address is a station's only within a prefix of it.
Reverse ARP and ARP over other media are dropped.  Checksums are not looked at: a receiver does.
"""
# Why it is written so.
#
# One function on a link instead of options of the switch: a switch without guards pays nothing, a router's port can
# have one too, and each can be read.  Single addresses are one hash lookup however many there are; only prefixes are
# walked.  IPv4 addresses are kept as the 32 low bits and told from IPv6 by their family.
from __future__ import annotations

from typing import Any

from iovisor.language import (
    Array,
    Config,
    ConfigError,
    Function,
    Hash,
    Packet,
    Port,
    Prefix,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    forward,
    mac,
    mac_text,
    require,
    table,
    u8,
    u32,
    u128,
)
from iovisor.parts.reading import Unreadable, extensions, internet4, is_whole
from iovisor.wire.arp import Arp, is_ethernet_ipv4
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6, Icmp6Type, is_discovery
from iovisor.wire.igmp import Igmp, IgmpType
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import IPv6, link_local
from iovisor.wire.neighbor import NeighborSolicitation, OptionType, link_layer_address
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import Vlan

MOST, MACS, OWN = 32, 64, 256
TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN)
LISTED, ANY = 1, 2
DHCP_SERVER, DHCP_CLIENT, DHCP6_SERVER = 67, 68, 547


class Reason(Reasons):
    FOREIGN_MAC = auto()
    FOREIGN_ADDRESS = auto()
    FOREIGN_ARP = auto()
    FOREIGN_NEIGHBOR = auto()
    ROGUE_DHCP = auto()
    ROGUE_ROUTER = auto()
    HIDDEN = auto()
    TAGGED = auto()
    OTHER = auto()
    NOT_FOR_IT = auto()


# -- tables ----------------------------------------------------------------------------------------------------------

class Own(Record):
    """A station and one of its addresses; `family` is an EtherType."""

    address: u128
    mac: mac
    family: u32


class Span(Record):
    address: u128
    mask: u128
    mac: mac
    family: u32


# -- configuration ---------------------------------------------------------------------------------------------------

class StationConfig(Config):
    """Who is behind the port."""

    mac: mac
    addresses: list[Prefix] = []

    def validate(self) -> None:
        if is_group(self.mac):
            raise ConfigError("mac", f"{mac_text(self.mac)} is a group address, no station has it")


class GuardConfig(Config):
    """What an endpoint may say it is."""

    stations: list[StationConfig] = []
    dhcp: bool = False
    router: bool = False
    tagged: bool = False
    other: bool = False
    private: bool = False

    def validate(self) -> None:
        seen = set()
        for index, station in enumerate(self.stations):
            if station.mac in seen:
                raise ConfigError(f"stations[{index}].mac", f"{mac_text(station.mac)} is already there")
            seen.add(station.mac)
        for count, most, what in ((len(self.stations), MACS, "stations"), (len(self.own()), OWN, "single addresses"),
                                  (len(self.spans()), MOST, "prefixes")):
            if count > most:
                raise ConfigError("stations", f"{count} {what}; {most} is the most")

    def known(self) -> dict[int, int]:
        return {station.mac: LISTED if station.addresses else ANY for station in self.stations}

    def own(self) -> set[tuple[int, int, int]]:
        """Every single address, as (MAC, family, address)."""
        return {(station.mac, family_of(prefix), prefix.address) for station in self.stations
                for prefix in station.addresses if prefix.length == prefix.bits}

    def spans(self) -> list[Span]:
        return [Span(address=prefix.address, mask=(1 << prefix.bits) - (1 << prefix.bits - prefix.length),
                     mac=station.mac, family=family_of(prefix))
                for station in self.stations for prefix in station.addresses if prefix.length < prefix.bits]


def family_of(prefix: Prefix) -> int:
    return EtherType.IPV4 if prefix.bits == 32 else EtherType.IPV6


# -- the function ----------------------------------------------------------------------------------------------------

class Guard(Function):
    config: GuardConfig
    inside: Port
    outside: Port

    known: Hash[mac, u8] = table(MACS)
    own: Hash[Own, u8] = table(OWN)
    spans: Array[Span] = table(MOST)
    count: Array[u32] = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if pkt.port == self.outside:
            if self.config.private:
                require(is_group(eth.dst) or eth.dst in self.known, Reason.NOT_FOR_IT)
            return forward(self.inside)
        station = self.known.get(eth.src)
        if station is None:
            return drop(Reason.FOREIGN_MAC)
        free = station == ANY
        require(self.config.tagged or not pkt.tagged, Reason.TAGGED)
        kind, room = eth.type, len(pkt) - 14
        if kind in TAGS:
            require(self.config.tagged, Reason.TAGGED)
            kind, room = pkt.parse(Vlan).type, room - 4
            require(kind not in TAGS, Reason.TAGGED)
        match kind:
            case EtherType.ARP:
                self.check_arp(pkt, eth.src, free)
            case EtherType.IPV4:
                self.check_ipv4(pkt, eth.src, free, room)
            case EtherType.IPV6:
                self.check_ipv6(pkt, eth.src, free, room)
            case _:
                require(self.config.other, Reason.OTHER)
        return forward(self.outside)

    def may_use(self, source: int, family: int, address: int) -> bool:
        """Whether a station has an address."""
        if Own(address=address, mac=source, family=family) in self.own:
            return True
        for i in range(min(self.count[0], MOST)):
            span = self.spans[i]
            if span.mac == source and span.family == family and (span.address ^ address) & span.mask == 0:
                return True
        return False

    def check_arp(self, pkt: Packet, source: int, free: bool) -> None:
        arp = pkt.parse(Arp)
        require(is_ethernet_ipv4(arp) and arp.sender_mac == source, Reason.FOREIGN_ARP)
        if arp.sender_ip != 0 and not free:
            require(self.may_use(source, EtherType.IPV4, arp.sender_ip), Reason.FOREIGN_ARP)

    def check_ipv4(self, pkt: Packet, source: int, free: bool, room: int) -> None:
        mapped, _, protocol, offset, more, _, payload, _ = internet4(pkt, room)
        is_whole(protocol, offset, more, payload)
        address = mapped & 0xffff_ffff
        asking = False
        if protocol == IpProtocol.UDP and offset == 0:
            udp = pkt.parse(Udp)
            require(self.config.dhcp or udp.src != DHCP_SERVER, Reason.ROGUE_DHCP)
            asking = udp.src == DHCP_CLIENT and udp.dst == DHCP_SERVER
        elif protocol == IpProtocol.IGMP and offset == 0:
            igmp = pkt.parse(Igmp)
            require(self.config.router or igmp.type != IgmpType.QUERY, Reason.ROGUE_ROUTER)
        if self.config.router or free or (address == 0 and asking):
            return
        require(self.may_use(source, EtherType.IPV4, address), Reason.FOREIGN_ADDRESS)

    def check_ipv6(self, pkt: Packet, source: int, free: bool, room: int) -> None:
        ip = pkt.parse(IPv6)
        require(ip.version == 6 and ip.length + 40 <= room, Unreadable.MALFORMED)
        address = ip.src
        protocol, offset, more, _, payload = extensions(pkt, ip.next, ip.length)
        is_whole(protocol, offset, more, payload)
        nameless = False
        if offset == 0:
            if protocol == IpProtocol.UDP:
                port = pkt.parse(Udp).src
                require(self.config.dhcp or port != DHCP6_SERVER, Reason.ROGUE_DHCP)
            elif protocol == IpProtocol.ICMP6:
                icmp = pkt.peek(Icmp6)
                require(icmp is not None, Unreadable.MALFORMED)
                if icmp is not None:
                    require(more == 0 or not is_discovery(icmp.type), Reason.HIDDEN)
                    nameless = self.check_message(pkt, icmp.type, payload, source, free)
        if self.config.router or free or address == link_local(source) or (address == 0 and nameless):
            return
        require(self.may_use(source, EtherType.IPV6, address), Reason.FOREIGN_ADDRESS)

    def check_message(self, pkt: Packet, kind: int, size: int, source: int, free: bool) -> bool:
        """Whether a message of ICMPv6 may come from nowhere."""
        match kind:
            case Icmp6Type.ROUTER_ADVERTISEMENT | Icmp6Type.REDIRECT | Icmp6Type.LISTENER_QUERY:
                require(self.config.router, Reason.ROGUE_ROUTER)
                return False
            case Icmp6Type.NEIGHBOR_SOLICITATION:
                require(size >= 24, Unreadable.MALFORMED)
                pkt.parse(NeighborSolicitation)
                told = link_layer_address(pkt, OptionType.SOURCE_ADDRESS)
                require(told == 0 or told == source, Reason.FOREIGN_NEIGHBOR)
                return True
            case Icmp6Type.NEIGHBOR_ADVERTISEMENT:
                require(size >= 24, Unreadable.MALFORMED)
                target = pkt.parse(NeighborSolicitation).target
                told = link_layer_address(pkt, OptionType.TARGET_ADDRESS)
                require(told == 0 or told == source, Reason.FOREIGN_NEIGHBOR)
                require(free or target == link_local(source) or self.may_use(source, EtherType.IPV6, target),
                        Reason.FOREIGN_NEIGHBOR)
                return False
            case Icmp6Type.ROUTER_SOLICITATION | Icmp6Type.LISTENER_REPORT_2:
                return True
        return False

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: GuardConfig | None, new: GuardConfig) -> None:
        spans = new.spans()
        if old is None or old.spans() != spans:
            self.count[0] = 0                           # what is being written allows nothing meanwhile
            for slot, span in enumerate(spans):
                self.spans[slot] = span
            self.count[0] = len(spans)
        before, after = old.own() if old else set(), new.own()
        for source, family, address in after - before:
            self.own[Own(address=address, mac=source, family=family)] = 1
        for source, kind in new.known().items():
            if self.known.get(source) != kind:
                self.known[source] = kind
        for source in (old.known().keys() if old else set()) - new.known().keys():
            del self.known[source]
        for source, family, address in before - after:
            del self.own[Own(address=address, mac=source, family=family)]

    @action
    def show(self) -> list[dict[str, Any]]:
        """The stations and their addresses."""
        return [{"mac": mac_text(station.mac), "addresses": [str(prefix) for prefix in station.addresses]}
                for station in self.config.stations]
