"""A network as it shall be: the methods of `Network`, which only note what they are told; see revision.py."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..language.configuration import Config
from ..language.function import Function
from . import adoption, shares, upgrade
from .attachments import Attachment
from .edges import Edge
from .instance import EGRESS, Instance
from .joins import Join, PortRef
from .network import Network
from .removal import Removal


class Planned(Instance):
    """An instance as it shall be; `of` is the one that is there, if one is."""

    def __init__(self, name: str, function: Function, of: Instance | None = None) -> None:
        self.name, self.function, self.of = name, function, of
        self.has_egress = hasattr(function, EGRESS)
        self.kind: type[Function] | None = None
        self.config: Config | None = None

    @property
    def changed(self) -> bool:
        return self.of is None or self.kind is not None or self.config is not None


class Plan(Network):
    """What of a network changes, while nothing does."""

    instances: dict[str, Planned]  # type: ignore[assignment]

    def __init__(self, network: Network) -> None:
        self.name, self.namespace, self._place = network.name, network.namespace, network._place
        self._devices, self._there, self._touched = network._devices, network, set()
        self.instances = {name: Planned(name, instance.function, instance)
                          for name, instance in network.instances.items()}
        self.joins = {at: replace(join, links=list(join.links)) for at, join in network.joins.items()}

    # -- what is done otherwise -------------------------------------------------------------------------------------

    def reconfigure(self, name: str, **values: Any) -> None:
        planned = self.instances[self._instance(name).name]
        if planned.of is None:
            planned.function.reconfigure(**values)
        else:
            planned.config = (planned.config or planned.function.config).replaced(**values)

    def upgrade(self, name: str, kind: type[Function] | None = None) -> Function:
        planned = self.instances[self._instance(name).name]
        if planned.of is None:
            raise ValueError(f"{name} is added by this draft: add it as a {getattr(kind, '__name__', kind)}")
        if self._place is not None and kind is not None:
            adoption.named(kind)
        planned.kind = kind or type(planned.function)
        upgrade.check(name, planned.function, planned.kind)
        return planned.function

    def attach_all(self, wanted: Mapping[str | PortRef, Attachment]) -> list[Edge]:
        ours = {join.edge.index for join in self._there.joins.values() if join.edge is not None}
        found = []
        for port, what in wanted.items():
            at = self._free(port)
            if not isinstance(what, Edge):
                raise ValueError(f"{at}: a draft attaches devices that are there, by their index, and not {what}; "
                                 "attach it in the network, before or after")
            for other, join in self.joins.items():
                if join.edge is not None and join.edge.index == what.index and join.missing() is None:
                    raise ValueError(f"device {what.index} is attached to {other} already")
            if what.index not in ours:
                shares.check(shares.Claim(self.name, str(at), self._devices.group), what.index, self.namespace)
            fresh = Join(attachment=what)
            self._devices.prepare({at: fresh})
            self.joins[at] = fresh
            found += [fresh.edge] if fresh.edge is not None else []
        return found

    # -- what is only noted -----------------------------------------------------------------------------------------

    def _put(self, name: str, function: Function) -> Instance:
        planned = self.instances[name] = Planned(name, function)
        return planned

    @contextmanager
    def _joining(self, at: PortRef, join: Join) -> Iterator[None]:
        self.joins[at] = join
        yield

    def _turn(self, at: PortRef, to: PortRef) -> None:
        self.joins[at].peer = to

    def _part(self, *ports: PortRef, removal: Removal | None = None) -> None:
        for at in ports:
            del self.joins[at]

    def _lead(self, at: PortRef, to: PortRef) -> None:
        pass

    def _open(self, at: PortRef) -> None:
        pass

    def _close(self, instance: Instance) -> None:
        pass

    def _keep(self) -> None:
        pass
