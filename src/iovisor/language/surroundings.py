"""What a function may know of the document it stands in, before it runs.

Some configuration is in the document already, said of somebody else: a name server's names are the endpoints', a
router's advertisements say whether there is a DHCP server.  Written twice, the two would come to differ.  So a kind may
say how its configuration follows from the rest: `Config.completed(surroundings)` answers the configuration that the
instance gets.

What it is given is what people wrote: the configurations of others *before* they are completed.  So nothing depends on
an order, and no circle can arise.  What runs is not here: addresses that were leased, neighbors that were learned.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from .configuration import Config


@dataclass(frozen=True)
class Endpoint:
    """A workload's attachment: its addresses with their prefixes, and its MAC address, 0 if none was written."""

    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mac: int = 0


@dataclass(frozen=True)
class Surroundings:
    """The endpoints of a network, and the other functions' configurations, by name."""

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    functions: Mapping[str, Config] = field(default_factory=dict)


__all__ = ["Endpoint", "Surroundings"]
