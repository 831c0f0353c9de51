"""The configuration of a DHCPv6 server: what it gives away on which link, and what it tells."""
from __future__ import annotations

from iovisor.language import (
    SECOND,
    Config,
    ConfigError,
    Prefix,
    ipv6,
    ipv6_address,
    ipv6_text,
    mac,
    time,
    u8,
    u16,
    u32,
)
from iovisor.wire import dhcp6 as wire
from iovisor.wire.dhcp6 import Dhcp6Option, Options

from ..dhcp.ready import RepliesConfig
from .leases import Pool

MOST_OPTIONS = 800          # bytes of what a subnet's hosts are told: with leases for a few it fits in any frame
SHORTEST_REFRESH = 600      # RFC 8415 section 7.6: IRT_MINIMUM
LONGEST_WAIT = range(60, 86401)                 # RFC 8415 sections 21.24 and 21.25
FOREVER = 0xffff_ffff


class DelegatedConfig(Config):
    """A prefix that is cut into smaller ones for routers that ask."""

    prefix: Prefix
    length: u8

    def validate(self) -> None:
        if self.prefix.bits != 128:
            raise ConfigError("prefix", f"{self.prefix} is no IPv6 network")
        if not self.prefix.length <= self.length <= 64:
            raise ConfigError("length", f"prefixes out of {self.prefix} have {self.prefix.length} to 64 bits")

    def span(self) -> range:
        size = 1 << 128 - self.length
        return range(self.prefix.address, self.prefix.address + (1 << 128 - self.prefix.length), size)


class SubnetConfig(Config):
    """A network, what is given away there, and what its hosts are told."""

    prefix: Prefix
    pools: list[str] = []
    delegated: list[DelegatedConfig] = []
    dns: list[ipv6] = []
    search: list[str] = []
    ntp: list[ipv6] = []
    refresh: time = 0

    def validate(self) -> None:
        if self.prefix.bits != 128 or self.prefix.length > 126:
            raise ConfigError("prefix", f"{self.prefix} is no IPv6 network with room for hosts")
        for index, text in enumerate(self.pools):
            self.span(index, text)
        for index, name in enumerate(self.search):
            try:
                wire.names(Dhcp6Option.SEARCH, [name])
            except ValueError as error:
                raise ConfigError(f"search[{index}]", str(error)) from None
        if self.refresh and not SHORTEST_REFRESH * SECOND <= self.refresh < FOREVER * SECOND:
            raise ConfigError("refresh", f"{SHORTEST_REFRESH} seconds or more (RFC 8415 section 7.6)")
        size = len(wire.encode(self.options().items()))
        if size > MOST_OPTIONS:
            raise ConfigError("search", f"hosts would be told {size} bytes, {MOST_OPTIONS} are the most: shorten lists")

    def span(self, index: int, text: str) -> range:
        first, _, last = text.replace(" ", "").partition("-")
        try:
            low, high = ipv6_address(first), ipv6_address(last or first)
        except ValueError:
            raise ConfigError(f"pools[{index}]", f"{text!r} is not a range such as fd00::1000-fd00::1fff") from None
        if low > high:
            raise ConfigError(f"pools[{index}]", f"{text!r} ends before it begins")
        if low not in self.prefix or high not in self.prefix or low == self.prefix.address:
            raise ConfigError(f"pools[{index}]", f"{text!r} has addresses that are no host's in {self.prefix}")
        return range(low, high + 1)

    def options(self) -> dict[int, bytes]:
        """What a host that asks can be told."""
        found = [wire.addresses(Dhcp6Option.NAME_SERVERS, self.dns), wire.names(Dhcp6Option.SEARCH, self.search),
                 wire.addresses(Dhcp6Option.SNTP, self.ntp), wire.time_servers(self.ntp)]
        return {int(code): value for code, value in found if value}


class ReservationConfig(Config):
    """An address or a prefix, or both, that are one client's."""

    mac: mac = 0
    duid: str = ""
    address: ipv6 = 0
    prefix: Prefix | None = None

    def validate(self) -> None:
        if bool(self.mac) == bool(self.duid):
            raise ConfigError("mac", "a reservation is for a `mac`, or for a `duid`")
        if not self.address and self.prefix is None:
            raise ConfigError("address", "a reservation has an `address`, or a `prefix`, or both")
        if self.prefix is not None and (self.prefix.bits != 128 or self.prefix.length > 64):
            raise ConfigError("prefix", f"{self.prefix} is no IPv6 network of 64 bits or fewer")
        duid_bytes("duid", self.duid)

    def is_for(self, hardware: frozenset[int], duid: bytes) -> bool:
        """Whether a client with these Ethernet addresses and this identifier is meant."""
        return self.mac in hardware if self.mac else duid_bytes("duid", self.duid) == duid


def duid_bytes(path: str, text: str) -> bytes:
    """An identifier from hexadecimal, with colons or without."""
    try:
        found = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise ConfigError(path, f"{text!r} is not hexadecimal") from None
    if text and not 3 <= len(found) <= wire.LONGEST_DUID:
        raise ConfigError(path, f"an identifier has 3 to {wire.LONGEST_DUID} bytes, this has {len(found)}")
    return found


class Dhcp6Config(RepliesConfig):
    """A DHCPv6 server."""

    server: ipv6
    mac: mac
    duid: str = ""
    subnets: list[SubnetConfig]
    reservations: list[ReservationConfig] = []
    lease: time = 3600 * SECOND
    preferred: time = 0
    rapid: bool = False
    preference: u8 = 0
    quota: u16 = 8
    decline: time = 86400 * SECOND
    sol_max_rt: time = 0
    inf_max_rt: time = 0
    leases: u32 = 1024

    def validate(self) -> None:
        if self.subnet_of(self.server) is None:
            raise ConfigError("subnets", f"none contains the server, {ipv6_text(self.server)}")
        duid_bytes("duid", self.duid)
        self._networks()
        if self.lease < 60 * SECOND or self.lease >= FOREVER * SECOND:
            raise ConfigError("lease", "a lease is a minute or more")
        if self.preferred > self.lease:
            raise ConfigError("preferred", "an address cannot be preferred for longer than it is valid")
        for name in ("sol_max_rt", "inf_max_rt"):
            seconds = getattr(self, name) // SECOND
            if seconds and seconds not in LONGEST_WAIT:
                raise ConfigError(name, f"{LONGEST_WAIT.start} to {LONGEST_WAIT.stop - 1} seconds")
        self._reserved()

    def _networks(self) -> None:
        """Nothing is given away twice."""
        taken: list[Prefix] = []
        for index, subnet in enumerate(self.subnets):
            mine = [("prefix", subnet.prefix), *((f"delegated[{number}].prefix", one.prefix)
                                                 for number, one in enumerate(subnet.delegated))]
            for field, prefix in mine:
                for other in taken:
                    if overlap(prefix, other):
                        raise ConfigError(f"subnets[{index}].{field}", f"{prefix} overlaps with {other}")
                taken.append(prefix)

    def _reserved(self) -> None:
        """What is one client's is nobody else's, and can be given."""
        seen: list[Prefix] = []
        delegated = [one for subnet in self.subnets for one in subnet.delegated]
        for index, one in enumerate(self.reservations):
            path, mine = f"reservations[{index}]", []
            if one.address:
                if self.subnet_of(one.address) is None or one.address == self.server:
                    raise ConfigError(f"{path}.address", f"{ipv6_text(one.address)} cannot be given: no subnet has it, "
                                                         "or the server")
                mine.append(("address", Prefix(one.address, 128, 128)))
            if one.prefix is not None:
                if any(overlap(one.prefix, subnet.prefix) for subnet in self.subnets):
                    raise ConfigError(f"{path}.prefix", f"{one.prefix} overlaps with the network of a subnet")
                if any(overlap(one.prefix, pool.prefix) and one.prefix.length < pool.length for pool in delegated):
                    raise ConfigError(f"{path}.prefix", f"{one.prefix} is more than one prefix of a pool: reserve "
                                                        "several, or one outside of it")
                mine.append(("prefix", one.prefix))
            for field, prefix in mine:
                if any(overlap(prefix, other) for other in seen):
                    raise ConfigError(f"{path}.{field}", f"{prefix} is another's already")
                seen.append(prefix)

    # -- what follows ------------------------------------------------------------------------------------------------

    @property
    def identifier(self) -> bytes:
        """The server's own."""
        return duid_bytes("duid", self.duid) or wire.duid_of(self.mac)

    @property
    def preferred_seconds(self) -> int:
        return (self.preferred or self.lease * 5 // 8) // SECOND

    def subnet_of(self, address: int) -> SubnetConfig | None:
        return next((subnet for subnet in self.subnets if address in subnet.prefix), None)

    def gives(self, subnet: SubnetConfig) -> bool:
        """Whether hosts of a subnet get addresses here, or only hear of what there is (stateless)."""
        return bool(subnet.pools) or any(one.address and one.address in subnet.prefix for one in self.reservations)

    def pools(self, subnet: SubnetConfig) -> dict[int, list[Pool]]:
        """What is for anybody, by the kind of association."""
        fixed = frozenset({self.server, *(one.address for one in self.reservations)})
        addresses = Pool([subnet.span(index, text) for index, text in enumerate(subnet.pools)], fixed)
        delegated = [Pool([one.span()], self._kept(one), one.length) for one in subnet.delegated]
        return {Dhcp6Option.IA_NA: [addresses], Dhcp6Option.IA_PD: delegated}

    def _kept(self, delegated: DelegatedConfig) -> frozenset[int]:
        """The prefixes of a pool in which something is somebody's."""
        size = 1 << 128 - delegated.length
        return frozenset(one.prefix.address // size * size for one in self.reservations
                         if one.prefix is not None and overlap(one.prefix, delegated.prefix))

    def reserved(self, hardware: frozenset[int], duid: bytes, subnet: SubnetConfig, kind: int) -> list[tuple[int, int]]:
        """What is this client's in a subnet: addresses or prefixes, and their lengths."""
        mine = [one for one in self.reservations if one.is_for(hardware, duid)]
        if kind == Dhcp6Option.IA_NA:
            return [(one.address, 128) for one in mine if one.address and one.address in subnet.prefix]
        return [(one.prefix.address, one.prefix.length) for one in mine if one.prefix is not None]

    def told(self, subnet: SubnetConfig) -> dict[int, bytes]:
        """What a host of a subnet is told that asks, but for how long to keep it."""
        waits: Options = [wire.number(code, value // SECOND) for code, value in (
            (Dhcp6Option.SOL_MAX_RT, self.sol_max_rt), (Dhcp6Option.INF_MAX_RT, self.inf_max_rt)) if value]
        return {**subnet.options(), **dict(waits)}


def overlap(one: Prefix, other: Prefix) -> bool:
    return one.address in other or other.address in one


__all__ = ["DelegatedConfig", "Dhcp6Config", "ReservationConfig", "SubnetConfig"]
