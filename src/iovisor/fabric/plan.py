"""A network as it shall be: the methods of `Network`, which only note what they are told; see revision.py."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..kernel import Link
from ..language.configuration import Config
from ..language.function import Function
from . import adoption, attachments, shares, upgrade
from .attachments import Attachment, Device, Share, Veth
from .durable import Durable
from .edges import Edge
from .instance import EGRESS, Instance
from .joins import Join, PortRef
from .network import Network
from .removal import Removal


class Planned(Instance):
    """An instance as it shall be; `of` is the one that is there and goes on, if one does."""

    def __init__(self, name: str, function: Function, of: Instance | None = None) -> None:
        self.name, self.function, self.of, self.born = name, function, of, 0
        self.has_egress = hasattr(function, EGRESS)
        self.kind: type[Function] | None = None
        self.config: Config | None = None

    @property
    def changed(self) -> bool:
        return self.of is None or self.kind is not None or self.config is not None


class Plan(Network):
    """What of a network changes, while nothing does.

    A device that is detached is free; who attaches it again, here or at another port, takes it over as it is.  `heirs`
    says, by port, at which port a device is now.
    """

    instances: dict[str, Planned]  # type: ignore[assignment]

    def __init__(self, network: Network) -> None:
        self.name, self.namespace, self._place = network.name, network.namespace, network._place
        self._devices, self._there, self._touched = network._devices, network, set()
        self.instances = {name: Planned(name, instance.function, instance)
                          for name, instance in network.instances.items()}
        self.joins = {at: replace(join, links=list(join.links)) for at, join in network.joins.items()}
        self.heirs = {at: at for at, join in network.joins.items() if join.edge is not None}
        self._free_devices: dict[PortRef, Join] = {}
        self._durable = Durable(None, network._slow.failed)

    # -- what is done otherwise -------------------------------------------------------------------------------------

    def reconfigure(self, name: str, **values: Any) -> None:
        planned = self.instances[self._instance(name).name]
        if planned.of is None:
            planned.function.reconfigure(**values)
        else:
            was = planned.function.config
            former = was if planned.kind is None else upgrade.configured(was, planned.kind).config
            planned.config = (planned.config or former).replaced(**values)

    def upgrade(self, name: str, kind: type[Function] | None = None) -> Function:
        planned = self.instances[self._instance(name).name]
        if planned.of is None:
            raise ValueError(f"{name} is added by this draft: add it as a {getattr(kind, '__name__', kind)}")
        if self._place is not None and kind is not None:
            adoption.named(kind)
        planned.kind = kind or type(planned.function)
        upgrade.check(name, planned.function, planned.kind)
        if planned.config is not None:
            planned.config = upgrade.configured(planned.config, planned.kind).config
        return planned.function

    def attach_all(self, wanted: Mapping[str | PortRef, Attachment]) -> list[Edge]:
        for port, what in wanted.items():
            at = self._free(port)
            former = self._goes_on(at, what)
            if former is None:
                self.joins[at] = self._new(at, what)
                continue
            join = self._free_devices[former]
            fresh = Join(join.edge, attachment=what, ours=join.ours, absence=join.absence)
            if isinstance(what, Edge) and not isinstance(join.attachment, Edge):
                fresh.attachment = join.attachment              # who made it, or changed it, for what
            elif isinstance(what, Edge):
                self._devices.prepare({at: fresh})
            elif isinstance(what, Veth) and isinstance(join.attachment, Veth) and not what.mac:
                fresh.attachment = replace(what, mac=join.attachment.mac)
            del self._free_devices[former]
            self.joins[at], self.heirs[at] = fresh, former
        return []

    def _goes_on(self, at: PortRef, what: Attachment) -> PortRef | None:
        """The port whose device, free by now, is the one that is wanted."""
        like = [former for former, join in self._free_devices.items()
                if join.attachment is not None and attachments.same(join.attachment, what)]
        if like or not isinstance(what, Edge | Device | Share):
            return like[0] if like else None
        index = what.index if isinstance(what, Edge) else self._devices.found(what).index
        here = [former for former, join in self._free_devices.items()
                if join.edge is not None and join.edge.index == index and join.absence is None]
        # Of several shares the one with the most in common, so that no frame is both's for a moment.
        here.sort(key=lambda former: (not _overlap(self._free_devices[former].attachment, what), former != at))
        return here[0] if here else None

    def _new(self, at: PortRef, what: Attachment) -> Join:
        """Of a device that is made, or found, when the draft becomes what is."""
        fresh = Join(attachment=what)
        for other, join in self.joins.items():
            if isinstance(what, Edge) and join.edge is not None and join.edge.index == what.index \
                    and join.missing() is None:
                raise ValueError(f"device {what.index} is attached to {other} already")
            there = join.attachment
            if isinstance(what, Share) and isinstance(there, Share) and what.device == there.device \
                    and (overlap := what.overlap(there)):
                raise ValueError(f"{at}: {overlap} on {what.device} belong to {other}")
        if isinstance(what, Edge):
            shares.check(shares.Claim(self.name, str(at), self._devices.group), what.index, self.namespace)
            self._devices.prepare({at: fresh})
        return fresh

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
            former = self.heirs.pop(at, None)
            if former is not None:
                self._free_devices[former] = self._there.joins[former]

    def _lead(self, at: PortRef, to: PortRef, linked: bool = False) -> None:
        pass

    def _open(self, at: PortRef, hooks: list[tuple[Link, PortRef]] | None = None) -> None:
        pass

    def _parted(self, *ports: PortRef) -> None:
        pass

    def _close(self, instance: Instance) -> None:
        pass

    def _keep(self) -> None:
        pass


def _overlap(one: Attachment | None, other: Attachment) -> str:
    return one.overlap(other) if isinstance(one, Share) and isinstance(other, Share) else ""


__all__ = ["Plan", "Planned"]
