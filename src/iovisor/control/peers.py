"""Gateways: endpoints of two networks that name each other, and the cable that joins them.

    acme/prod                                       globex/shared
    endpoints: {dns: {peer: globex/shared/acme}}    endpoints: {acme: {peer: acme/prod/dns}}

Consent is what is in the documents.  While both current revisions name each other there is a cable, a veth pair in the
switching namespace with an end at a port of either network; as soon as one does not, there is none.  So either side
opens, sees and revokes it as it changes anything else of its network, and history says who did.  Who names somebody
that does not answer, or is not there, waits: the two look the same.

A cable, and no slot that leads from one program array to the other: each network keeps its own account, revisions,
floods and traces, and neither can reach a table, a wire or a program of the other; what comes out is a frame.  It also
means that hops are not counted from one network to the next: who joins two networks twice and forwards in a circle has
made a circle of two machines.

An end is down until it is attached, so that nothing is ever sent into the machine's own stack.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..fabric import Device
from ..kernel import Netlink, NetworkNamespace, interfaces
from ..model import Network

PREFIX = "gw-"
Contents = Callable[[str, str], Network | None]


@dataclass(frozen=True)
class Cable:
    """Between two endpoints, each `tenant/network/endpoint`, in the order of their names."""

    left: str
    right: str
    mtu: int

    @property
    def ends(self) -> tuple[str, str]:
        """The names of its devices."""
        digest = hashlib.sha256(f"{self.left} {self.right} {self.mtu}".encode()).hexdigest()[:10]
        return f"{PREFIX}{digest}a", f"{PREFIX}{digest}b"

    def end(self, of: str) -> Device:
        """That of one of the two."""
        return Device(self.ends[of != self.left])


class Peers:
    """The gateways of a host's networks; `contents` knows what networks are now, by tenant and name."""

    def __init__(self, namespace: NetworkNamespace | None, contents: Contents) -> None:
        self.namespace, self._contents = namespace, contents

    def cable(self, content: Network, name: str) -> Cable | None:
        """That of an endpoint, if the other side names it; None while it does not."""
        mine, theirs = f"{content.key}/{name}", content.endpoints[name].peer or ""
        tenant, network, endpoint = theirs.split("/")
        other = self._contents(tenant, network)
        answer = other.endpoints.get(endpoint) if other is not None else None
        if other is None or answer is None or answer.peer != mine:
            return None
        left, right = sorted((mine, theirs))
        return Cable(left, right, min(content.mtu, other.mtu))

    def attached(self, content: Network, name: str) -> Device | None:
        """What an endpoint is attached to; None while nobody answers."""
        cable = self.cable(content, name)
        return None if cable is None else cable.end(f"{content.key}/{name}")

    def cables(self, content: Network) -> list[Cable]:
        """All of a network's."""
        return [cable for name, one in content.endpoints.items() if one.peer is not None
                if (cable := self.cable(content, name)) is not None]

    def lay(self, content: Network) -> None:
        """Make the cables of a network that are not there; their ends are down."""
        for cable in self.cables(content):
            with Netlink(self.namespace) as netlink:
                if interfaces.find(netlink, cable.ends[0]) is None:
                    netlink.submit(interfaces.veth(*cable.ends, mtu=cable.mtu),
                                   *(interfaces.change(end, alias=f"iovisor: {cable.left} -- {cable.right}")
                                     for end in cable.ends))
            for end in cable.ends:
                interfaces.silence(end, self.namespace)

    def open(self, content: Network) -> None:
        """Set up a network's ends, now that they are attached; a packet goes through once the others' are up, too."""
        ends = [self.attached(content, name) for name, one in content.endpoints.items() if one.peer is not None]
        if any(ends):
            with Netlink(self.namespace) as netlink:
                netlink.attempt(*(interfaces.change(end.name, up=True) for end in ends if end is not None))

    def sweep(self, contents: Iterable[Network]) -> None:
        """Take away what joins nobody any more."""
        wanted = {end for content in contents for cable in self.cables(content) for end in cable.ends}
        with Netlink(self.namespace) as netlink:
            gone = [one.index for one in interfaces.listing(netlink)
                    if one.name.startswith(PREFIX) and one.name.endswith("a") and one.name not in wanted]
            netlink.attempt(*(interfaces.delete(index) for index in gone))

    @staticmethod
    def named(*contents: Network | None) -> Iterator[tuple[str, str]]:
        """The networks that these name, each once."""
        names = {tuple(one.peer.split("/")[:2]) for content in contents if content is not None
                 for one in content.endpoints.values() if one.peer is not None}
        yield from sorted((tenant, network) for tenant, network in names)


__all__ = ["Cable", "Peers"]
