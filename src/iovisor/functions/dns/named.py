"""The names that follow from a document: its endpoints', and those of addresses that a DHCP server of it reserves.

Leases are not among them.  What a client calls itself is its own claim, another could make it too, and it would be in
the tables of another instance; who wants a name that can be relied on reserves it.
"""
from __future__ import annotations

from iovisor.functions.dhcp import DhcpConfig
from iovisor.language import Surroundings, ipv4_text


def named(around: Surroundings) -> dict[str, list[str]]:
    """Addresses by name, in the order of the document."""
    reserved = [one for config in around.functions.values() if isinstance(config, DhcpConfig)
                for one in config.reservations]
    found = {name: [str(address.ip) for address in one.addresses if not address.is_link_local]
             + [ipv4_text(its.address) for its in reserved if its.mac and its.mac == one.mac]
             for name, one in around.endpoints.items()}
    for one in reserved:
        if one.name:
            found.setdefault(one.name, []).append(ipv4_text(one.address))
    return {name: list(dict.fromkeys(addresses)) for name, addresses in found.items() if addresses}


__all__ = ["named"]
