"""How `nat64` is configured: the prefix under which the inside sees IPv4, outside addresses, links."""
from __future__ import annotations

from iovisor.language import ConfigError, Prefix, ipv6, mac, u16
from iovisor.parts.embedding import WELL_KNOWN, embedding
from iovisor.parts.outside import StaticConfig
from iovisor.parts.translation import TranslationConfig

LEAST = 1280                    # bytes that every link carries of IPv6 (RFC 8200 section 5)
MORE = 20                       # by which the fixed header of IPv6 is longer


class MappingConfig(StaticConfig):
    """A static binding between an outside IPv4 address and an inside IPv6 address, or between prefixes."""

    def pair(self) -> None:
        if self.outside.bits != 32:
            raise ConfigError("outside", f"{self.outside} is not IPv4, which is what is outside")
        if self.inside.bits != 128 or 128 - self.inside.length != 32 - self.outside.length:
            raise ConfigError("inside", f"{self.inside} is not IPv6 with as many addresses as {self.outside}")


class Nat64Config(TranslationConfig):
    """The prefix, the bindings, and what is known of the links at both ends."""

    prefix: Prefix = WELL_KNOWN
    static: list[MappingConfig] = []            # type: ignore[assignment]      # a list of something narrower
    copy_class: bool = True
    inside_mtu: u16 = 1_500
    outside_mtu: u16 = 1_500
    lowest_mtu: u16 = LEAST
    errors: u16 = 100
    gateway: ipv6 = 0
    gateway_mac: mac = 0
    mac: mac = 0

    def validate(self) -> None:
        super().validate()
        embedding("prefix", self.prefix)
        for place, pool in enumerate(self.addresses):
            if pool.bits != 32:
                raise ConfigError(f"addresses[{place}]", f"{pool} is not IPv4, which is what is outside")
        for place, static in enumerate(self.static):
            if static.inside.address in self.prefix or (
                    self.prefix.address in static.inside and self.prefix.length > static.inside.length):
                raise ConfigError(f"static[{place}].inside", f"{static.inside} is of the prefix that stands for IPv4")
        if self.inside_mtu < LEAST:
            raise ConfigError("inside_mtu", f"a link of IPv6 carries {LEAST} bytes, this is {self.inside_mtu}")
        if self.outside_mtu < LEAST - MORE:
            raise ConfigError("outside_mtu", f"{LEAST - MORE} is the least that needs no fragments where IPv6 has none")
        if not LEAST <= self.lowest_mtu <= self.inside_mtu:
            raise ConfigError("lowest_mtu", f"{self.lowest_mtu} is not from {LEAST} to inside_mtu, {self.inside_mtu}")
        if (self.gateway == 0) != (self.gateway_mac == 0):
            raise ConfigError("gateway_mac", "a gateway and its Ethernet address go together")


__all__ = ["LEAST", "MORE", "MappingConfig", "Nat64Config"]
