"""What a router knows of one family of addresses, IPv4 or IPv6: routes, and neighbors.

One component, held twice, generic in its records: `A` is the type of an address, `R` a route, `M` what is remembered of
a destination, `N` the key of a neighbor.  Nothing here looks into a packet, so nothing here knows a header.

A lookup among a hundred thousand prefixes costs more than one among ten, so each CPU remembers the routes of
destinations it met (`recent`), and in which version of the routes.  An edit of a route counts `versions` up, after it
is made; a route is remembered under the version read before it was looked up.  So what is remembered is never older.

A tree of arrays read inline was measured instead of the kernel's trie: strides of four bits, a child and a route in a
slot.  A destination that was never met costs 145 ns among 100,000 routes then, not 450 (benchmarks/prefixes.py); a hot
one costs the same.  It was not taken: a slot that is not used takes memory as well, 15 MiB of it at that size and for
the most routes there may ever be, and whoever adopts the tables must find the tree again in what was left.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from iovisor.language import Array, Component, Hash, Lpm, Prefix, hash, now, require, table, u16, u32

from .settings import RouterConfig
from .tables import TABLES, Neighbor, Reason, RecentRoute, ReversePath, Route, RouteKind, State

RECENT = 4096               # destinations whose route each CPU remembers

A = TypeVar("A", bound=int)
R = TypeVar("R", bound=Route)
M = TypeVar("M", bound=RecentRoute)
N = TypeVar("N")


class Family(Component, Generic[A, R, M, N]):
    config: RouterConfig

    routes: Lpm[A, R] = table("routes")
    others: Hash[u16, Lpm[A, R]] = table(TABLES, inner=table("routes"))
    versions: Array[u32] = table(1)
    recent: Array[M] = table(RECENT, per_cpu=True)
    neighbors: Hash[N, Neighbor] = table("neighbors")

    # -- routes, in the data path ------------------------------------------------------------------------------------

    def find(self, address: Any, number: int) -> tuple[int, int, int, int]:
        """Kind, port, group and gateway of the route to an address by a table; the kind is `NONE` if there is none.

        The router's own addresses stay its own, and a table that does not exist is the main one.
        """
        kind, port, group, gateway = self.find_main(address)
        if number != 0 and kind != RouteKind.LOCAL:
            other = self.others.get(number)
            if other is not None:
                kind = RouteKind.NONE
                found = other.get(address)
                if found is not None:
                    kind, port, group, gateway = found.kind, found.port, found.group, found.gateway
        return kind, port, group, gateway

    def find_main(self, address: Any) -> tuple[int, int, int, int]:
        version = self.versions[0] + 1 & 0xffff_ffff
        recent = self.recent[hash(address) & RECENT - 1]
        if recent.address == address and recent.version == version:
            return recent.kind, recent.port, recent.group, recent.gateway
        route = self.routes.get(address)
        recent.address = address
        recent.version = version
        if route is None:
            recent.kind = RouteKind.NONE
            recent.port = 0
            recent.group = 0
            recent.gateway = 0
            return RouteKind.NONE, 0, 0, 0
        recent.kind = route.kind
        recent.port = route.port
        recent.group = route.group
        recent.gateway = route.gateway
        return route.kind, route.port, route.group, route.gateway

    def is_at(self, address: Any, port: int, kind: RouteKind) -> bool:
        """Whether the longest route to an address is of this kind, on this port."""
        route = self.routes.get(address)
        if route is None:
            return False
        return route.kind == kind and route.port == port

    def expect(self, port: int, check: int, translated: int, source: Any) -> bool:
        """Reject what says that it comes from the router itself, and, if asked to, what cannot have come from where it
        says (RFC 3704 sections 2.2 and 2.4).  Whether it is from a nat that has the port's address, and may."""
        kind, back, _group, _gateway = self.find_main(source)
        if kind == RouteKind.LOCAL:
            require(translated != 0 and back == port, Reason.MARTIAN_SOURCE)
            return True
        if check != ReversePath.OFF:
            require(kind <= RouteKind.GROUP, Reason.SPOOFED)
            if check == ReversePath.STRICT and kind != RouteKind.GROUP:
                require(back == port, Reason.SPOOFED)
        return False

    # -- neighbors, in the data path ---------------------------------------------------------------------------------

    def confirm(self, known: Neighbor, address: int) -> bool:
        """A neighbor said where it is; whether packets wait for that."""
        waited = known.state <= State.DEAD
        known.mac = address
        known.since = now()
        known.tries = 0
        known.state = State.KNOWN
        return waited

    # -- routes, from Python -----------------------------------------------------------------------------------------

    def of(self, number: int) -> Any:
        """The routes of a table; made if it is not there."""
        if number == 0:
            return self.routes
        found = self.others.get(number)
        return self.others.create(number) if found is None else found

    def settle(self, number: int, prefix: Prefix, kind: int, port: int, group: int, gateway: int) -> None:
        """Have a route."""
        self.of(number)[prefix] = self.routes.spec.value(gateway=gateway, group=group, kind=kind, port=port)
        self.edited()

    def drop(self, number: int, prefix: Prefix) -> None:
        """Have none."""
        del self.of(number)[prefix]
        self.edited()

    def edited(self) -> None:
        self.versions[0] = (self.versions.get(0) or 0) + 1

    # -- neighbors, from Python --------------------------------------------------------------------------------------

    def key(self, port: int, address: int) -> Any:
        return self.neighbors.spec.key(address=address, port=port)

    def neighbor(self, port: int, address: int) -> Neighbor | None:
        return self.neighbors.get(self.key(port, address))

    def remember(self, port: int, address: int, state: State, mac: int, tries: int) -> bool:
        """Note a state; False if the table is full."""
        return self.neighbors.put(self.key(port, address), Neighbor(since=now(), mac=mac, state=state, used=0,
                                                                    tries=tries))

    def forget(self, port: int, address: int) -> None:
        del self.neighbors[self.key(port, address)]

    def known(self) -> Iterator[tuple[int, int, Neighbor]]:
        """Port, address and entry of each neighbor."""
        for key, entry in self.neighbors.items():
            yield key.port, key.address, entry          # type: ignore[attr-defined]


__all__ = ["Family"]
