"""What stands, or shall stand, on this host: instances, links, and devices at ports.

Of a running network, `Shape.of` reads it; of a document, `lowering` makes it.  So plan, apply, rollback, the mending of
drift and what happens after a crash are one thing: the difference between two shapes, as steps.

The steps are as many as what differs, whatever the network's size.  Their order keeps packets on a way that is
complete: functions come first and go last; of a function whose kind has changed, the tables stay if the new one can
read them.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..fabric import Attachment, Network, PortRef
from ..language import Config, Function
from .attachments import told

Link = frozenset[PortRef]


@dataclass(frozen=True)
class Part:
    """One function: its kind and its configuration."""

    kind: type[Function]
    config: Config


@dataclass(frozen=True)
class Shape:
    """A network on one host."""

    parts: dict[str, Part] = field(default_factory=dict)
    links: frozenset[Link] = frozenset()
    edges: dict[PortRef, Attachment] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network) -> Shape:
        """That of a running network.  A device that is gone counts as there: the network itself looks after it."""
        return cls({name: Part(type(instance.function), instance.function.config)
                    for name, instance in network.instances.items()},
                   frozenset(frozenset({at, join.peer}) for at, join in network.joins.items() if join.peer is not None),
                   {at: join.attachment for at, join in network.joins.items() if join.attachment is not None})


@dataclass(frozen=True)
class Step:
    """One thing to do; `what` is a method of `Network`, or `replace`."""

    what: str
    name: str = ""
    part: Part | None = None
    ends: tuple[PortRef, ...] = ()
    edge: Attachment | None = None

    def __str__(self) -> str:
        where = " ".join(map(str, self.ends))
        kind = f" {self.part.kind.__name__}" if self.part else ""
        return f"{self.what} {self.name}{kind}{where}" + (f" {told(self.edge)}" if self.edge else "")


def difference(old: Shape, new: Shape, keeps: frozenset[str] = frozenset()) -> Iterator[Step]:
    """The steps from one shape to another.

    `keeps` are the parts of another kind that can take over the tables of what is there; others are replaced, and what
    they were joined to is joined anew.
    """
    both = old.parts.keys() & new.parts.keys()
    replaced = {name for name in both if old.parts[name].kind is not new.parts[name].kind} - keeps
    stays = {link for link in old.links & new.links if not any(end.instance in replaced for end in link)}
    same = {at for at in old.edges.keys() & new.edges.keys()
            if old.edges[at] == new.edges[at] and at.instance not in replaced}
    for name in sorted(new.parts.keys() - old.parts.keys()):
        yield Step("add", name, new.parts[name])
    for name in sorted(both - replaced):
        before, after = old.parts[name], new.parts[name]
        if before.kind is not after.kind:
            yield Step("upgrade", name, after)
        if before.config != after.config:
            yield Step("reconfigure", name, after)
    for at in sorted(old.edges.keys() - same, key=str):
        yield Step("detach", ends=(at,), edge=old.edges[at])
    for ends in sorted(map(_ends, old.links - stays), key=str):
        yield Step("unlink", ends=ends)
    for name in sorted(replaced):
        yield Step("replace", name, new.parts[name])
    for ends in sorted(map(_ends, new.links - stays), key=str):
        yield Step("link", ends=ends)
    for at in sorted(new.edges.keys() - same, key=str):
        yield Step("attach", ends=(at,), edge=new.edges[at])
    for name in sorted(old.parts.keys() - new.parts.keys()):
        yield Step("remove", name, old.parts[name])


def _ends(link: Link) -> tuple[PortRef, ...]:
    return tuple(sorted(link, key=str))


__all__ = ["Link", "Part", "Shape", "Step", "difference"]
