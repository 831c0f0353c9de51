"""The configuration of a router: interfaces, routes, policies, neighbors, and what it advertises."""
from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import IntEnum

from iovisor.language import SECOND, Config, ConfigError, Prefix, Surroundings, ipv4, ipv6, mac, time, u8, u16, u24, u32
from iovisor.wire import dns
from iovisor.wire.ethernet import is_group
from iovisor.wire.ipv6 import link_local
from iovisor.wire.neighbor import Preference

from .hosts import Given, given
from .tables import PORTS, RULES, ReversePath, RouteKind

Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface
LONGEST_SEARCH = 400        # bytes: an advertisement fits in the smallest packet
KINDS = {"blackhole": RouteKind.BLACKHOLE, "unreachable": RouteKind.UNREACHABLE, "prohibit": RouteKind.PROHIBIT}


class Blocked(IntEnum):
    """A route that leads nowhere, and what is said about it: nothing, unreachable, prohibited."""

    BLACKHOLE = RouteKind.BLACKHOLE
    UNREACHABLE = RouteKind.UNREACHABLE
    PROHIBIT = RouteKind.PROHIBIT


class AdvertiseConfig(Config):
    """Router advertisements on an interface: every prefix of it of 64 bits.  Hosts make addresses in them by themselves
    (`autonomous`), and ask a DHCPv6 server for addresses (`managed`) or for what else there is (`other`): these two
    follow from the document, and are for servers that are not in it."""

    interval: time = 200 * SECOND
    lifetime: time = 1800 * SECOND
    preference: Preference = Preference.MEDIUM
    valid: time = 86400 * SECOND
    preferred: time = 14400 * SECOND
    name_servers: list[ipv6] = []
    search: list[str] = []
    autonomous: bool = True
    managed: bool | None = None
    other: bool | None = None
    mtu: u32 | None = None

    def validate(self) -> None:
        if not 3 * SECOND <= self.interval <= 1800 * SECOND:
            raise ConfigError("interval", "RFC 4861 allows 4 to 1800 seconds")
        if self.preferred > self.valid:
            raise ConfigError("preferred", "a prefix cannot be preferred for longer than it is valid")
        for index, name in enumerate(self.search):
            try:
                dns.parse_name(name)
            except ValueError as error:
                raise ConfigError(f"search[{index}]", str(error)) from None
        if len(self.names()) > LONGEST_SEARCH:
            raise ConfigError("search", f"the names take {len(self.names())} bytes, {LONGEST_SEARCH} are the most")

    def asking(self, path: str, given: Given) -> AdvertiseConfig:
        """The same, with hosts told to ask for what they are `given`."""
        if given.addresses and self.managed is False:
            raise given.contradicts(f"{path}.managed", "hosts would not ask for addresses")
        if not given.addresses and self.managed:
            raise given.contradicts(f"{path}.managed", "hosts would ask for addresses")
        if not given.addresses and self.other is False:
            raise given.contradicts(f"{path}.other", "hosts would not ask for anything")
        if not given.addresses and not self.autonomous:
            raise given.contradicts(f"{path}.autonomous", "hosts would not make addresses by themselves",
                                    "leave it out, or give that subnet `pools`")
        found: AdvertiseConfig = self.replaced(managed=given.addresses, other=True)
        return found

    def names(self) -> bytes:
        """`search` as an option has it, without what fills it up."""
        return b"".join(dns.name_bytes(dns.parse_name(name)) for name in self.search)


class InterfaceConfig(Config):
    """One port: its Ethernet address and its IP addresses, as `10.0.0.1/24` or `2001:db8::1/64`."""

    mac: mac
    addresses: list[str] = []
    mtu: u16 = 1500
    reverse_path: ReversePath = ReversePath.OFF
    directed_broadcast: bool = False
    redirects: bool = True
    translated: bool = False
    advertise: AdvertiseConfig | None = None

    def validate(self) -> None:
        if self.mac == 0 or is_group(self.mac):
            raise ConfigError("mac", "an interface needs the address of one station")
        if self.mtu < 576:
            raise ConfigError("mtu", f"{self.mtu} bytes carry no IPv4 to speak of: 576 is the least, 1280 with IPv6")
        for index, network in enumerate(self.networks()):
            if network.version == 6 and self.mtu < 1280:
                raise ConfigError("mtu", "a link that carries IPv6 takes 1280 bytes or more")
            if network.ip.is_multicast or network.ip.is_unspecified or network.ip.is_loopback:
                raise ConfigError(f"addresses[{index}]", f"{network} is no address of an interface")

    def networks(self) -> list[Network]:
        found = []
        for index, text in enumerate(self.addresses):
            try:
                found.append(ipaddress.ip_interface(text))
            except ValueError:
                raise ConfigError(f"addresses[{index}]", f"{text!r} is no address like 10.0.0.1/24") from None
        return found

    def prefixes(self) -> list[Prefix]:
        """What is advertised."""
        found = {Prefix(int(n.network.network_address), 64, 128) for n in self.networks()
                 if n.version == 6 and n.network.prefixlen == 64 and not n.ip.is_link_local}
        return sorted(found, key=lambda prefix: prefix.address)

    def asking(self, path: str, given: Mapping[Prefix, Given]) -> InterfaceConfig:
        """The same, with hosts told to ask for what they are `given`; ConfigError if they are told not to."""
        known = [given[prefix] for prefix in self.prefixes() if prefix in given]
        if self.advertise is None or not known:
            return self
        best = max(known, key=lambda one: one.addresses)
        found: InterfaceConfig = self.replaced(advertise=self.advertise.asking(f"{path}.advertise", best))
        return found

    @property
    def link_local(self) -> int:
        """The configured one, or what the Ethernet address gives."""
        own = [n for n in self.networks() if n.version == 6 and n.ip.is_link_local]
        return int(own[0].ip) if own else link_local(self.mac)


class HopConfig(Config):
    """A next hop.  `port` is needed only for link-local gateways; more `weight`, more flows."""

    gateway: ipv4 | str
    port: u8 | None = None
    weight: u8 = 1

    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        try:
            return ipaddress.ip_address(self.gateway)
        except ValueError:
            raise ConfigError("gateway", f"{self.gateway!r} is not an address") from None

    def validate(self) -> None:
        self.address()
        if not self.weight:
            raise ConfigError("weight", "a hop of weight 0 is none")


class RouteConfig(Config):
    """Where packets to a prefix go: to one next hop or several (`via`), out of a port, or nowhere (`blocked`)."""

    to: Prefix
    via: list[HopConfig] = []
    port: u8 | None = None
    blocked: Blocked | None = None
    table: u16 = 0

    def validate(self) -> None:
        if (len(self.via) > 0) + (self.port is not None) + (self.blocked is not None) != 1:
            raise ConfigError("via", "a route has next hops, or a port, or is blocked: one of the three")
        for index, hop in enumerate(self.via):
            if hop.address().max_prefixlen != self.to.bits:
                raise ConfigError(f"via[{index}].gateway", f"{hop.gateway} is of another family than {self.to}")


class PolicyConfig(Config):
    """Packets that come in through `port`, from `source`, with `mark`, are routed by `table`."""

    table: u16
    port: u8 | None = None
    source: Prefix | None = None
    mark: u32 | None = None
    mask: u32 = 0xffff_ffff

    def validate(self) -> None:
        if not self.table:
            raise ConfigError("table", "table 0 is the main one, which what matches no policy goes by anyway")


class NeighborConfig(Config):
    """A neighbor that is not asked for."""

    port: u8
    address: str
    mac: mac

    def parsed(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        try:
            return ipaddress.ip_address(self.address)
        except ValueError:
            raise ConfigError("address", f"{self.address!r} is not an address") from None

    def validate(self) -> None:
        self.parsed()


class RouterConfig(Config):
    """A router."""

    interfaces: dict[u8, InterfaceConfig] = {}
    routes: u32 = 16384
    neighbors: u32 = 4096
    static: list[RouteConfig] = []
    policies: list[PolicyConfig] = []
    fixed: list[NeighborConfig] = []
    errors: u24 = 1000
    reachable: time = 30 * SECOND
    forgotten: time = 300 * SECOND

    def validate(self) -> None:
        seen: dict[ipaddress.IPv4Address | ipaddress.IPv6Address, int] = {}
        for port, interface in self.interfaces.items():
            if port >= PORTS:
                raise ConfigError(f"interfaces.{port}", f"a router has {PORTS} ports, from 0")
            for index, network in enumerate(interface.networks()):
                if network.ip in seen and not network.ip.is_link_local:
                    raise ConfigError(f"interfaces.{port}.addresses[{index}]",
                                      f"{network.ip} is the address of port {seen[network.ip]} already")
                seen[network.ip] = port
        for index, route in enumerate(self.static):
            for number, hop in enumerate(route.via):
                if self.port_of(hop) is None:
                    raise ConfigError(f"static[{index}].via[{number}]",
                                      f"{hop.address()} is on no connected network: say its port")
            if route.port is not None and route.port not in self.interfaces:
                raise ConfigError(f"static[{index}].port", f"port {route.port} has no interface")
        for port in self.interfaces:
            if sum(policy.port in (None, port) for policy in self.policies) > RULES:
                raise ConfigError("policies", f"{RULES} for one port is the most")
        for index, fixed in enumerate(self.fixed):
            if fixed.port not in self.interfaces:
                raise ConfigError(f"fixed[{index}].port", f"port {fixed.port} has no interface")

    def completed(self, around: Surroundings) -> RouterConfig:
        """Hosts are told to ask DHCPv6 servers for what those of the document give."""
        found = {port: one.asking(f"interfaces.{port}", given(around)) for port, one in self.interfaces.items()}
        return self if found == self.interfaces else self.replaced(interfaces=found)

    def port_of(self, hop: HopConfig) -> int | None:
        """The port behind which a gateway is."""
        if hop.port is not None:
            return hop.port if hop.port in self.interfaces else None
        for port, interface in self.interfaces.items():
            for network in interface.networks():
                if hop.address() in network.network and not network.ip.is_link_local:
                    return port
        return None
