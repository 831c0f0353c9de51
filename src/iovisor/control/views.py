"""What stands, as data for people and programs: networks, functions, ports, endpoints, links, counters.

Everything of a running network is read in one question to its thread, so that what stands side by side was so at one
moment.  Names and order of fields are part of the interface: they become columns of the command line.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..fabric import Network as Fabric
from ..fabric import PortRef
from ..model import Network, held
from .actions import actions
from .lowering import Lowered
from .platform import Platform
from .problems import Missing
from .records import Head
from .sandbox.standin import StandIn


def network(platform: Platform, head: Head) -> dict[str, Any]:
    """One network in a line."""
    content = platform.document(head)
    revision = platform.revision(head.tenant, head.network, head.current)
    return {"tenant": head.tenant, "network": head.network, "revision": head.current, "applied": revision.at,
            "by": revision.by, "message": revision.message, "functions": len(content.functions),
            "endpoints": len(content.endpoints), "links": len(content.links), "runs": head.key in platform.hosted,
            "state": _state(platform, head),
            "troubles": [{"what": trouble.what, "why": trouble.why, "since": trouble.since}
                         for trouble in platform.troubles.of(head.key)],
            "unconfirmed": None if head.unconfirmed is None else {"back to": head.unconfirmed, "until": head.until}}


def _state(platform: Platform, head: Head) -> str:
    """`runs`, `degraded` if something of it is not as it shall be, `down`; or `unconfirmed`, if nothing is wrong."""
    if head.key not in platform.hosted:
        return "down"
    if platform.troubles.of(head.key):
        return "degraded"
    return "runs" if head.unconfirmed is None else "unconfirmed"


class Look:
    """One network, looked at once."""

    def __init__(self, platform: Platform, tenant: str, name: str) -> None:
        self.platform, self.head = platform, platform.head(tenant, name)
        self.content: Network = platform.document(self.head)
        self.lowered: Lowered = platform.lowered(self.head)
        self.places = {place: endpoint for endpoint, place in self.lowered.places.items()}

    def ask(self, do: Any) -> Any:
        return self.platform.call(self.head.tenant, self.head.network, do)

    def functions(self) -> list[dict[str, Any]]:
        """Each with its drops."""
        drops: Mapping[str, Mapping[str, int]] = self.ask(lambda running: running.drops)
        return [{"name": name, "kind": one.kind, "ports": sum(1 for at in self._joined() if at.instance == name),
                 "drops": sum(drops.get(name, {}).values()), "labels": one.labels}
                for name, one in self.content.functions.items()]

    def function(self, name: str) -> dict[str, Any]:
        """One, with configuration, tables, drops by reason, and what may be called."""
        one = self.content.functions.get(name)
        if one is None:
            raise Missing(f"{self.head.key} has no function {name}")

        def read(running: Fabric) -> dict[str, Any]:
            function = running.instances[name].function
            tables = {t: {"kind": table.spec.kind, "size": table.spec.size, "entries": sum(1 for _ in table.items())}
                      for t, table in function.tables.items()}
            found = {"tables": tables, "drops": running.drops.get(name, {})}
            if isinstance(function, StandIn):
                return found | {"actions": list(function.made.described.actions), "worker": function.attendance()}
            return found | {"actions": actions(function)}
        return {"name": name, "kind": one.kind, "config": one.config, "labels": one.labels, **self.ask(read)}

    def ports(self) -> list[dict[str, Any]]:
        """Every port that is joined, and what went through it."""
        counted = self.ask(self._counted)
        return [{"port": self.port_name(at), "number": at.port, "joined": self._other(at),
                 **counted.get(at, _nothing())}
                for at in sorted(self._joined(), key=lambda at: (at.instance, at.port))]

    def endpoints(self) -> list[dict[str, Any]]:
        """What each is attached to, and whether it is there."""
        counted, absent, hooks = self.ask(lambda running: (self._counted(running), set(running.absent), {
            at: join.edge.hook for at, join in running.joins.items() if join.early and join.edge is not None}))
        found = []
        for name, one in self.content.endpoints.items():
            at = self.lowered.places.get(name)
            there = at in counted and at not in absent
            state = "unlinked" if at is None else "open" if not one.attachment else "up" if there else \
                "waiting" if one.peer is not None and at not in self.lowered.shape.edges else "absent"
            found.append({"name": name, "port": self.port_name(at) if at else None,
                          "attached": " ".join([*held(one), *(["at", hooks[at]] if at in hooks else [])]).strip(),
                          "state": state,
                          "addresses": list(one.addresses), "labels": one.labels, **(counted.get(at) or _nothing())})
        return found

    def peers(self) -> list[dict[str, Any]]:
        """Each gateway to another network, and whether the other side has it, too."""
        return [{"endpoint": name, "peer": one.peer,
                 "state": "open" if self.lowered.places.get(name) in self.lowered.shape.edges else "waiting"}
                for name, one in self.content.endpoints.items() if one.peer is not None]

    def links(self) -> list[dict[str, Any]]:
        """Each path, as the document has it."""
        return [{"link": f"{path[0]} -- {path[-1]}", "path": list(path)} for path in self.content.links]

    def counters(self) -> dict[str, Any]:
        """Everything that counts: ports by name, drops by function and reason."""
        counted, drops, served = self.ask(lambda running: (self._counted(running), running.drops, running.served))
        return {"ports": {self.port_name(at): count for at, count in counted.items()}, "drops": drops,
                "slow path": {"events": served.events, "failed": served.failed, "returned": served.returned}}

    def balance(self) -> dict[str, Any]:
        """What came in against what left or ended, packet for packet."""
        found = self.ask(lambda running: running.balance())
        return {"exact": found.exact, "holds": found.holds, "in": {"received": found.received,
                "injected": found.injected, "copies": found.copies}, "out": {"sent": found.sent,
                "dropped": found.dropped, "punted": found.punted, "handed": found.handed,
                "floods": found.floods}, "drops": found.drops, "alarms": found.alarms, "text": str(found)}

    def graph(self) -> dict[str, Any]:
        """Nodes, and what joins them."""
        nodes = [{"name": name, "kind": one.kind} for name, one in self.content.functions.items()]
        nodes += [{"name": name, "kind": "endpoint"} for name in self.content.endpoints]
        edges = [{"a": self.port_name(a), "b": self.port_name(b)}
                 for a, b in (sorted(link, key=str) for link in self.lowered.shape.links)]
        edges += [{"a": self.port_name(at), "b": name} for name, at in self.lowered.places.items()]
        return {"nodes": nodes, "edges": edges}

    def _counted(self, running: Fabric) -> dict[PortRef, dict[str, int]]:
        found = {}
        for at in running.joins:
            received, sent = running.traffic(at)
            found[at] = {"received": received.packets, "received bytes": received.bytes,
                         "sent": sent.packets, "sent bytes": sent.bytes}
        return found

    def _joined(self) -> set[PortRef]:
        return {at for link in self.lowered.shape.links for at in link} | set(self.places)

    def _other(self, at: PortRef) -> str:
        if at in self.places:
            return self.places[at]
        return next((self.port_name(other) for link in self.lowered.shape.links if at in link
                     for other in link - {at}), "")

    def port_name(self, at: PortRef) -> str:
        """`fw:inside`, `lan:3`."""
        ports = self.lowered.shape.parts[at.instance].kind.spec().ports
        return f"{at.instance}:{next((name for name, number in ports.items() if number == at.port), at.port)}"


def _nothing() -> dict[str, int]:
    return {"received": 0, "received bytes": 0, "sent": 0, "sent bytes": 0}


__all__ = ["Look", "network"]
