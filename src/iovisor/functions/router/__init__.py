"""Routes IPv4 and IPv6 between networks: neighbors, errors, options and advertisements included.

Each port with an interface is a link of its own.  The data path answers ARP, neighbor discovery, echo and TCP to closed
ports, forwards along the longest prefix, and says why when it does not forward.  Python finds and watches neighbors,
while packets for them wait, and does what is rare: options, fragments, router advertisements.  While it is away,
everything goes on that needs no new neighbor.

## Ports

```
            +---------------------+
 network 0 -| 0                63 |- network 63
 network 1 -| 1      router       |
        ... -|                     |
            +---------------------+
```

64 ports.  One without an interface drops what comes in.

## Configuration

| field | default | |
|---|---|---|
| `interfaces` | none | by port, see below |
| `static` | none | routes: `to`, a prefix, and one of `via`, `port`, `blocked`; `table` (0) |
| `policies` | none | packets that match `port`, `source`, `mark` under `mask` go by another `table`: the first counts |
| `fixed` | none | neighbors that are not asked for: `port`, `address`, `mac` |
| `routes` | 16384 | room for routes, of each family and table |
| `neighbors` | 4096 | room for neighbors, of each family |
| `errors` | 1000 | ICMP errors and resets a second and port, and as many at once |
| `reachable` | 30s | how long a neighbor is believed to be there before it is probed |
| `forgotten` | 5m | how long an unused neighbor is kept |

An interface has a `mac`, `addresses` such as `10.0.0.1/24`, several and of both families, an `mtu` (1500),
`reverse_path` (`off`, `loose` or `strict`), `directed_broadcast` (false), `redirects` (true: hosts that could go
straight to another neighbor are told so), `translated` (false), and `advertise`.

`translated` says that a `nat` behind this port shows the inside under the interface's own addresses.  What comes for
them through other ports then goes out there, for nat to turn it back to whoever is behind the port it names; all but
echo requests, which the router answers.  And what comes from nat may have such an address as its source.

`via` lists next hops: `gateway`, `port` (needed for link-local gateways) and `weight`; up to 16.  Flows are spread by
addresses, protocol and ports; a hop that goes moves few flows but its own.  `blocked` is `blackhole` (silence),
`unreachable` or `prohibit`.  `advertise` makes a port send router advertisements, with every /64 of the interface:

| of `advertise` | default | |
|---|---|---|
| `interval` | 200s | between two advertisements nobody asked for |
| `lifetime`, `preference` | 30m, medium | how long this is a way out, and whether before others (`low`, `high`) |
| `valid`, `preferred` | 1d, 4h | how long addresses out of the prefixes are |
| `autonomous` | true | whether hosts make such addresses by themselves |
| `managed`, `other` | by the document | whether they ask a DHCPv6 server for addresses, and for what else there is |
| `name_servers`, `search` | none | whom they ask for names, and where names are looked for |
| `mtu` | the interface's | |

In a document with a `dhcp6` that serves one of these prefixes, near or behind a relay agent, `managed` and `other`
follow from it: addresses to give make both true, only something to tell makes `other` true.  What is written and says
otherwise is refused.  Write them for a server that is not in the document.

A routing daemon's routes come by `feed`, prefix by prefix; `iovisor.fabric.mirror` feeds those that FRR or BIRD put
into a kernel table.  What is configured goes before what is fed.

## Tables

| table | entries | |
|---|---|---|
| `links` | a port | its addresses, MTU and switches |
| `v4.routes`, `v6.routes` | prefix -> route | the main table, the router's own addresses and networks among them |
| `v4.others`, `v6.others` | table -> prefix -> route | those of policies |
| `v4.recent`, `v6.recent` | destination -> route, on each CPU | what was looked up since the routes changed |
| `v4.versions`, `v6.versions` | 0 -> number | how often the routes changed |
| `choices`, `hops` | 64 groups of 1024 slots; hops | where several next hops share a route |
| `policies` | port, number -> policy | |
| `v4.neighbors`, `v6.neighbors` | address, port -> neighbor | Ethernet address, state, since when |
| `buckets` | a port | errors it may still send |
| `redirects` | a port | redirects it may still send; Python renews them, ten a second |
| `answered` | reason | see below |

## Counters

`answered`, by the number of a drop reason: packets that were refused with an ICMP error rather than dropped in silence.

## Drop reasons

| reason | the packet |
|---|---|
| `NO_INTERFACE` | came through a port without an interface |
| `NOT_OURS` | is for another station |
| `NOT_IP` | is neither IP nor ARP |
| `BROADCAST` | was sent to everybody on a link, or to all of a network that does not allow it |
| `MULTICAST` | is for a group; groups are not routed |
| `MALFORMED` | contradicts itself: version, lengths |
| `CHECKSUM` | has a wrong IPv4 header checksum, or is a discovery message with a wrong one, or UDP for us with none |
| `MARTIAN_SOURCE`, `MARTIAN_DESTINATION` | has an address that cannot be there, or is not to be forwarded |
| `SPOOFED` | came from where its source is not (`reverse_path`) |
| `NO_ROUTE`, `BLACKHOLE`, `PROHIBITED`, `UNREACHABLE` | cannot go on; the last: its neighbor does not answer, too |
| `EXPIRED` | has no hops left |
| `TOO_BIG` | is longer than the link takes, and may not be cut |
| `OPTIONS` | has options that are malformed, unknown and not to be skipped, or a source route |
| `LOCAL` | is for the router itself, which has no use for it |
| `HEARD` | is ARP or discovery, and was taken note of |
| `BAD_RESOLUTION` | is ARP or discovery, and malformed |
| `ERRORS_LIMITED` | would have been answered with an error beyond the allowance |
| `FRAGMENTS` | is a fragment for the router that contradicts others, came among too many, or waited in vain |
| `TAGGED` | belongs to a VLAN; a tag that says a priority alone is taken off |
| `QUEUE_FULL`, `NEIGHBORS_FULL` | waited for a neighbor among too many packets, or found no room for another neighbor |

Those with an ICMP error of their own are dropped in silence only where RFC 1812 or RFC 4443 forbids an error.  Python
counts what it drops in `drops` of the function.

## Actions

`show_routes` and `show_neighbors` list them; `flush_neighbors` forgets all that was learned.

## Limits

64 groups of next hops, 64 tables beside the main one, 32 policies a port.  No multicast routing.  Strict reverse path
takes routes with several hops as loose.  Errors go back through the port the packet came in by.  16 packets wait for
a neighbor, 1024 or 4 MiB for all.  Options and redirects cost a trip through Python, whose answers quote a packet as it
is without the extension headers that came before.
"""
from __future__ import annotations

from typing import Any

from iovisor.language import Prefix, action, ipv4_text, ipv6_text, mac_text, now

from .settings import KINDS, RouterConfig
from .spread import Groups, Hopping
from .tables import PORTS, RULES, Link, Policy, Reason, RouteKind, State
from .upkeep import ANNOUNCEMENTS, Upkeep

Place = tuple[int, Prefix]      # a table and what a route is for


__all__ = ["Reason", "Router"]


class Router(Upkeep):
    def __init__(self, **values: Any) -> None:
        self.prepare()
        self.fed: dict[Place, Hopping] = {}
        self.installed: dict[Place, Hopping] = {}
        self.groups = Groups()
        super().__init__(**values)

    # -- configuration -----------------------------------------------------------------------------------------------

    def configure(self, old: RouterConfig | None, new: RouterConfig) -> None:
        before = old or RouterConfig()
        for port in range(PORTS):
            one, other = before.interfaces.get(port), new.interfaces.get(port)
            lists = [[rule for rule in config.policies if rule.port in (None, port)] for config in (before, new)]
            if one != other or len(lists[0]) != len(lists[1]) or (old is None and other is not None):
                self.links[port] = link_of(new, port, len(lists[1]))
                if other is not None and (one is None or one.addresses != other.addresses or one.mac != other.mac):
                    self.announcing[port] = ANNOUNCEMENTS
            for number, rule in enumerate(lists[1]):
                source = rule.source
                mask = (1 << source.bits) - (1 << source.bits - source.length) if source else 0
                self.policies[port * RULES + number] = Policy(
                    source=source.address if source else 0, source_mask=mask, mark=(rule.mark or 0) & rule.mask,
                    mark_mask=0 if rule.mark is None else rule.mask, table=rule.table,
                    family=0 if source is None else 4 if source.bits == 32 else 6)
        wanted = routes_of(new)
        for table in {table for table, _ in wanted}:
            self.v4.of(table)           # of both families: what a policy sends there is decided there
            self.v6.of(table)
        self.wanted = wanted
        for place in self.installed.keys() | wanted.keys() | self.fed.keys():
            self.settle(place)
        fixed = {(4 if f.parsed().version == 4 else 6, f.port, int(f.parsed())): f.mac for f in new.fixed}
        for gone in {(4 if f.parsed().version == 4 else 6, f.port, int(f.parsed())) for f in before.fixed} - set(fixed):
            self.forget(gone)
        for key, mac in fixed.items():
            self.remember(key, State.FIXED, mac)

    def settle(self, place: Place) -> None:
        """Make the tables say of one prefix what configuration and feed say: the configuration goes first."""
        hopping = self.wanted.get(place) or self.fed.get(place)
        former = self.installed.get(place)
        if hopping == former:
            return
        table, prefix = place
        family = self.family(4 if prefix.bits == 32 else 6)
        if hopping is None:
            family.drop(table, prefix)
            del self.installed[place]
        else:
            group = 0
            if hopping.kind == RouteKind.GROUP:
                group = self.groups.take(hopping, self.choices, self.hops)
            family.settle(table, prefix, hopping.kind, hopping.port, group, hopping.gateway)
            self.installed[place] = hopping
        if former is not None and former.kind == RouteKind.GROUP:
            self.groups.give(former)

    # -- routes from elsewhere ---------------------------------------------------------------------------------------

    def feed(self, prefix: Prefix, way: list[tuple[int, int, int]] | str | None, table: int = 0) -> None:
        """What a routing protocol says: next hops as (gateway, port, weight), `blackhole`, `unreachable` or
        `prohibit`, or None for gone.  A gateway of 0 is a connected network.  What is configured goes first.
        """
        place = (table, prefix)
        if way is None:
            self.fed.pop(place, None)
        elif isinstance(way, str):
            self.fed[place] = Hopping(KINDS[way], 0)
        else:
            self.fed[place] = Hopping.of(way)
        self.settle(place)

    # -- actions -----------------------------------------------------------------------------------------------------

    @action
    def show_routes(self) -> list[dict[str, Any]]:
        """The routes, by table and prefix."""
        def shown(hopping: Hopping, bits: int) -> str:
            text = ipv4_text if bits == 32 else ipv6_text
            if hopping.kind in (RouteKind.VIA, RouteKind.GROUP):
                return ", ".join(f"{text(gateway)} by port {port}" for gateway, port, _ in hopping.hops)
            return RouteKind(hopping.kind).name.lower()
        found = sorted(self.installed.items(), key=lambda item: (item[0][0], item[0][1].bits, item[0][1].address,
                                                                 item[0][1].length))
        return [{"table": table, "to": str(prefix), "by": shown(hopping, prefix.bits), "port": hopping.port}
                for (table, prefix), hopping in found]

    @action
    def show_neighbors(self) -> list[dict[str, Any]]:
        """The neighbors, by port and address."""
        found = [(port, (ipv4_text if version == 4 else ipv6_text)(address), n)
                 for (version, port, address), n in self.entries()]
        return [{"port": port, "address": address, "mac": mac_text(n.mac), "state": State(n.state).name.lower(),
                 "age": now() - n.since} for port, address, n in sorted(found, key=lambda item: item[:2])]

    @action
    def flush_neighbors(self) -> int:
        """Forget every neighbor that was learned; answers how many."""
        keys = [key for key, entry in self.entries() if entry.state != State.FIXED]
        for key in keys:
            self.forget(key)
        return len(keys)


def link_of(config: RouterConfig, port: int, policies: int) -> Link:
    interface = config.interfaces.get(port)
    if interface is None:
        return Link.decode(bytes(Link.size))
    first = {n.version: int(n.ip) for n in reversed(interface.networks()) if not n.ip.is_link_local or n.version == 4}
    return Link(address6=first.get(6, 0), link_local=interface.link_local, mac=interface.mac,
                address4=first.get(4, 0), mtu=interface.mtu, reverse_path=interface.reverse_path,
                directed_broadcast=interface.directed_broadcast, policies=policies, translated=interface.translated)


def routes_of(config: RouterConfig) -> dict[Place, Hopping]:
    """Every route the configuration makes, its own addresses and networks among them."""
    found: dict[Place, Hopping] = {}
    for route in config.static:
        if route.blocked is not None:
            found[route.table, route.to] = Hopping(RouteKind(route.blocked), 0)
        elif route.port is not None:
            found[route.table, route.to] = Hopping(RouteKind.CONNECTED, route.port)
        else:
            found[route.table, route.to] = Hopping.of(
                [(int(hop.address()), config.port_of(hop) or 0, hop.weight) for hop in route.via])
    for port, interface in config.interfaces.items():
        for network in interface.networks():
            bits, length = network.max_prefixlen, network.network.prefixlen
            if network.version == 6 and network.ip.is_link_local:
                continue
            if length < bits:
                connected = Prefix(int(network.network.network_address), length, bits)
                found[0, connected] = Hopping(RouteKind.CONNECTED, port)
            if network.version == 4 and length < 31:
                for edge in (network.network.network_address, network.network.broadcast_address):
                    found[0, Prefix(int(edge), 32)] = Hopping(RouteKind.BROADCAST, port)
    for port, interface in config.interfaces.items():
        for network in interface.networks():
            if not (network.version == 6 and network.ip.is_link_local):
                found[0, Prefix(int(network.ip), network.max_prefixlen, network.max_prefixlen)] = \
                    Hopping(RouteKind.LOCAL, port)
    return found
