"""The configuration of a balancer: VIPs, backends, checks."""
from __future__ import annotations

import ipaddress
from enum import IntEnum

from iovisor.language import MILLISECOND, Config, ConfigError, mac, time, u8, u12, u16, u32, u64
from iovisor.parts.connections import ConnectionsConfig
from iovisor.parts.rejection import RejectionConfig
from iovisor.wire.ethernet import is_group
from iovisor.wire.ipv4 import IpProtocol

from .tables import Mode, Orphans

LEAST = 1320                    # bytes of a packet to a backend that must fit: what IPv6 needs, and an outer header
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Protocol(IntEnum):
    TCP = IpProtocol.TCP
    UDP = IpProtocol.UDP


class Way(IntEnum):
    """How a backend is asked whether it is well."""

    NONE = 0
    TCP = 1
    HTTP = 2
    ICMP = 3


def parsed(path: str, text: str) -> Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(path, f"{text!r} is not an address") from None
    if found.is_multicast or found.is_unspecified or found.is_loopback:
        raise ConfigError(path, f"{text} is not the address of one host")
    return found


class BackendConfig(Config):
    """A backend: an address, and a port if it is not the VIP's."""

    address: str
    port: u16 = 0
    weight: u16 = 1
    drain: bool = False
    mac: mac | None = None

    def validate(self) -> None:
        parsed("address", self.address)
        if self.mac is not None and (self.mac == 0 or is_group(self.mac)):
            raise ConfigError("mac", "a backend needs the Ethernet address of one station")

    def parsed(self) -> Address:
        return parsed("address", self.address)


class CheckConfig(Config):
    """How backends are asked, and how many answers in a row open or close one."""

    way: Way = Way.NONE
    port: u16 = 0
    path: str = "/"
    host: str = ""
    expect: list[u16] = [200]
    interval: time = 400 * MILLISECOND
    timeout: time = 400 * MILLISECOND
    rise: u8 = 2
    fall: u8 = 2

    def validate(self) -> None:
        for name in ("interval", "timeout"):
            if getattr(self, name) < 100 * MILLISECOND:
                raise ConfigError(name, "100ms is the least")
        for name in ("rise", "fall"):
            if getattr(self, name) < 1:
                raise ConfigError(name, "one answer is the least")
        if not self.path.startswith("/") or any(c <= " " for c in self.path + self.host):
            raise ConfigError("path", "a path begins with / and, like the host, has no blanks")


class VipConfig(Config):
    """An address, a port and a protocol, and who serves them."""

    name: str = ""
    address: str
    port: u16
    protocol: Protocol = Protocol.TCP
    mode: Mode = Mode.NAT
    sticky: time = 0
    orphans: Orphans = Orphans.MOVE
    backends: list[BackendConfig] = []
    check: CheckConfig = CheckConfig()

    def validate(self) -> None:
        own = self.parsed()
        if self.port == 0:
            raise ConfigError("port", "a VIP needs a port")
        seen = set()
        for index, backend in enumerate(self.backends):
            place = f"backends[{index}]"
            if backend.parsed().version != own.version and self.mode != Mode.TUNNEL:
                raise ConfigError(f"{place}.address", f"{backend.address} is of another family than {self.address}")
            if self.mode != Mode.NAT and backend.port not in (0, self.port):
                raise ConfigError(f"{place}.port", "only mode nat changes ports")
            key = backend.parsed(), backend.port or self.port
            if key in seen:
                raise ConfigError(place, f"{backend.address} is there twice")
            seen.add(key)

    def parsed(self) -> Address:
        return parsed("address", self.address)

    @property
    def label(self) -> str:
        """What people call it."""
        text = f"[{self.address}]" if self.parsed().version == 6 else self.address
        return self.name or f"{text}:{self.port}/{self.protocol.name.lower()}"


class BalancerConfig(ConnectionsConfig, RejectionConfig):
    """A load balancer."""

    mac: mac
    addresses: list[str] = []
    gateways: list[str] = []
    vlan: u12 = 0
    mtu: u16 = 1500
    spread: u8 = 0
    vips: list[VipConfig] = []
    seed: u64 = 0
    slots: u32 = 16_384
    most_vips: u16 = 16
    most_backends: u16 = 1024
    sessions: u32 = 16_384
    recent: u32 = 4096

    @property
    def most_choices(self) -> int:
        return self.slots * self.most_vips

    @property
    def most_services(self) -> int:
        return 2 * self.most_vips + 16

    def validate(self) -> None:
        if self.mac == 0 or is_group(self.mac):
            raise ConfigError("mac", "a balancer needs the Ethernet address of one station")
        if self.slots & self.slots - 1 or not 256 <= self.slots <= 1 << 20:
            raise ConfigError("slots", "a power of two between 256 and 1048576")
        if self.recent & self.recent - 1 or not 64 <= self.recent <= 1 << 20:
            raise ConfigError("recent", "a power of two between 64 and 1048576")
        if self.mtu < LEAST:
            raise ConfigError("mtu", f"{LEAST} is the least")
        if self.spread > 8:
            raise ConfigError("spread", "8 bits are the most")
        if not self.most_vips:
            raise ConfigError("most_vips", "one is the least")
        if not 0 < self.most_backends < 0xffff:
            raise ConfigError("most_backends", "1 to 65534")
        if len(self.vips) > self.most_vips:
            raise ConfigError("vips", f"{len(self.vips)} VIPs; there is room for {self.most_vips} (most_vips)")
        if sum(len(vip.backends) for vip in self.vips) > self.most_backends:
            raise ConfigError("vips", f"more backends than most_backends, {self.most_backends}")
        networks = self.networks()
        for gateway in self.via():
            if not any(gateway in network.network for network in networks):
                raise ConfigError("gateways", f"{gateway} is on no network of the balancer's addresses")
        seen = set()
        for index, vip in enumerate(self.vips):
            place, address = f"vips[{index}]", vip.parsed()
            if (address, vip.port, vip.protocol) in seen:
                raise ConfigError(place, f"{vip.label} is there twice")
            seen.add((address, vip.port, vip.protocol))
            if any(network.ip == address for network in networks):
                raise ConfigError(f"{place}.address", f"{address} is the balancer's own address")
            for version in {backend.parsed().version for backend in vip.backends} - {n.version for n in networks}:
                if vip.check.way != Way.NONE:
                    raise ConfigError(f"{place}.check", "a check comes from an address: give `addresses` one of IPv"
                                                        f"{version}")
                if vip.mode == Mode.TUNNEL:
                    raise ConfigError(f"{place}.mode", "a tunnel begins at an address: give `addresses` one of IPv"
                                                       f"{version}")

    def networks(self) -> list[Interface]:
        """The balancer's own addresses, with their networks."""
        found: list[Interface] = []
        for index, text in enumerate(self.addresses):
            try:
                network = ipaddress.ip_interface(text)
            except ValueError:
                raise ConfigError(f"addresses[{index}]", f"{text!r} is no address like 10.0.0.9/24") from None
            if any(other.version == network.version for other in found):
                raise ConfigError(f"addresses[{index}]", "one address of each family is enough")
            found.append(network)
        return found

    def via(self) -> list[Address]:
        return [parsed(f"gateways[{index}]", text) for index, text in enumerate(self.gateways)]

    def next_hop(self, backend: Address) -> Address:
        """Who takes packets to a backend: itself, or a gateway if it is on no network of ours."""
        own = [network for network in self.networks() if network.version == backend.version]
        if own and not any(backend in network.network for network in own):
            for gateway in self.via():
                if gateway.version == backend.version:
                    return gateway
        return backend
