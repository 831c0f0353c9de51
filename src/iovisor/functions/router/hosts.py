"""What hosts of an IPv6 network get from the DHCPv6 servers of their document, so that routers tell them to ask for it.

A router's advertisements say whether to ask a server, and for what (RFC 4861 section 4.2, flags M and O).  If that is
not what the server gives, hosts do not ask for what they could have, or ask for ever what nobody gives.  The server is
right: it has the addresses.  Servers are known by the networks they serve, not by links, because they may be behind
relay agents.
"""
from __future__ import annotations

from dataclasses import dataclass

from iovisor.functions.dhcp6 import Dhcp6Config
from iovisor.language import Contradiction, Prefix, Surroundings


@dataclass(frozen=True)
class Given:
    """Whether hosts are given addresses, or are only told what there is; and by whom: a function, and where it says so.
    """

    prefix: Prefix
    addresses: bool
    name: str
    place: str

    def contradicts(self, path: str, message: str, fix: str = "leave it out, and it follows") -> Contradiction:
        """What is wrong at `path` because of this."""
        what = "gives them some" if self.addresses else "only tells them what there is"
        return Contradiction(path, f"{message}, and {self.name} {what} in {self.prefix}", fix, self.name, self.place)


def given(around: Surroundings) -> dict[Prefix, Given]:
    """By network.  A subnet in which nothing is given or told, which servers and agents may have, is none."""
    found: dict[Prefix, Given] = {}
    for name, config in around.functions.items():
        for index, subnet in enumerate(config.subnets if isinstance(config, Dhcp6Config) else ()):
            addresses = config.gives(subnet)                # type: ignore[attr-defined]
            before = found.get(subnet.prefix)
            if (addresses or subnet.options()) and not (before is not None and before.addresses):
                found[subnet.prefix] = Given(subnet.prefix, addresses, name, f"subnets[{index}]")
    return found


__all__ = ["Given", "given"]
