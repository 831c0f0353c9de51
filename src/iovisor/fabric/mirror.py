"""Routes from a routing daemon: a kernel table mirrored into a router.

FRR, BIRD and everything else that routes on Linux can put what it has decided into a kernel routing table.  Here that
table, of a namespace of its own, is read once and then followed by rtnetlink: every route that comes, changes or goes
is one edit of the router's tables.  The daemon peers through devices of that namespace; its interfaces are told by name
of the port they stand for.  Speaking FPM or Zebra's own protocol was rejected: they are of one daemon each.

The listener is opened before the table is listed, so nothing is missed between.  If the kernel's buffer overflows, the
table is listed afresh, and what is no longer there goes.  Of several routes to one prefix the table's first counts;
connected routes are the router's own business.
"""
from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from ..kernel import Netlink, NetlinkError, NetworkNamespace, routes
from ..kernel.monitor import Monitor, Topic
from ..kernel.routes import NextHop, Route
from ..language import Prefix

Way = list[tuple[int, int, int]] | str      # next hops as (gateway, port, weight), or why there is none
BLOCKED = {routes.RouteKind.BLACKHOLE: "blackhole", routes.RouteKind.UNREACHABLE: "unreachable",
           routes.RouteKind.PROHIBIT: "prohibit"}


class Fed(Protocol):
    """What takes routes: `functions.router.Router` does."""

    def feed(self, prefix: Prefix, way: Way | None) -> None: ...


class Mirror:
    """Follows a table of a namespace; `ports` says which port an interface, by index, stands for."""

    def __init__(self, router: Fed, ports: Mapping[int, int], namespace: NetworkNamespace | None = None,
                 table: int = routes.MAIN) -> None:
        self.router, self.ports, self.namespace, self.table = router, ports, namespace, table
        self.known: dict[Prefix, Way] = {}
        self._monitor = Monitor(namespace, Topic.ROUTES)
        self.refresh()

    def refresh(self) -> None:
        """Make the router's fed routes those of the table."""
        with Netlink(self.namespace) as netlink:
            found = {prefix_of(route): way for route in reversed(routes.listing(netlink, self.table))
                     if (way := self.way(route))}
        for gone in self.known.keys() - found.keys():
            self._feed(gone, None)
        for place, way in found.items():
            if self.known.get(place) != way:
                self._feed(place, way)

    def read(self) -> int:
        """Take what is new; answers how many edits that were.  Never waits."""
        try:
            events = self._monitor.read()
        except NetlinkError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.refresh()
            return 1
        edits = 0
        for event in events:
            route = event.subject
            if not isinstance(route, Route) or route.table != self.table:
                continue
            place, way = prefix_of(route), self.way(route)
            if not event.removed and way:
                self._feed(place, way)
                edits += 1
            elif event.removed and self.known.get(place) == way:
                self._feed(place, None)
                edits += 1
        return edits

    async def serve(self) -> None:
        """Follow the table until cancelled."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._monitor.fd, news.set)
        try:
            while True:
                await news.wait()
                news.clear()
                self.read()
        finally:
            loop.remove_reader(self._monitor.fd)

    def way(self, route: Route) -> Way:
        """Where a route leads, as far as its next hops lie behind ports of the router; empty if none does."""
        if route.kind in BLOCKED:
            return BLOCKED[routes.RouteKind(route.kind)]
        if route.kind != routes.RouteKind.UNICAST:
            return []
        hops = route.several or (NextHop(route.gateway, route.interface),)
        return [(int(hop.gateway), self.ports[hop.interface], hop.weight) for hop in hops
                if hop.gateway is not None and hop.interface in self.ports]

    def _feed(self, place: Prefix, way: Way | None) -> None:
        self.router.feed(place, way)
        if way is None:
            self.known.pop(place, None)
        else:
            self.known[place] = way

    def close(self) -> None:
        self._monitor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def prefix_of(route: Route) -> Prefix:
    """What a route is for."""
    network = route.destination
    return Prefix(int(network.network_address), network.prefixlen, network.max_prefixlen)


__all__ = ["Fed", "Mirror"]
