"""A network's document to the shape it has on this host: numbers for ports, devices for endpoints.

What a document leaves open is decided here, once, and then kept: `[web1, lan]` joins web1 to *a* port of lan, and which
one it is must not move because a line was added above.  The choices (`ports`) are part of a revision, and the next one
begins with them.  In the same way an endpoint whose MAC address is not given gets one made of the network's `seed`, so
it is the same after every apply, and in a clone, whose tables may know it.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ..fabric import Attachment, PortRef
from ..model import Endpoint, Hop, Network, hops
from .completion import configurations
from .kinds import Kind, Kinds
from .shape import Link, Part, Shape


@dataclass(frozen=True)
class Lowered:
    """A shape, the choices it took, and what is where: the port of each endpoint."""

    shape: Shape
    ports: dict[str, int]
    places: dict[str, PortRef]
    warnings: tuple[str, ...] = ()


def lower(network: Network, kinds: Kinds, ports: Mapping[str, int],
          attach: Callable[[str, Endpoint], Attachment | None]) -> Lowered:
    """The shape of a document in its normal form.  `attach` gives what an endpoint is attached to; None: it is open."""
    found = {name: kinds.find(one.kind) for name, one in network.functions.items()}
    parts = {name: Part(found[name].made, config) for name, config in configurations(network, kinds).items()}
    paths = [hops(path) for path in network.links]
    chosen = _choose(paths, found, ports)
    links, edges, places = set[Link](), dict[PortRef, Attachment](), dict[str, PortRef]()
    for path in paths:
        for left, right in pairwise(path):
            ends = [_port(left, left.right, f"{right.name}:{right.left}", found, chosen),
                    _port(right, right.left, f"{left.name}:{left.right}", found, chosen)]
            inner = [end for end in ends if end is not None]
            if len(inner) == 2:
                links.add(frozenset(inner))
            elif not inner:
                raise ValueError(f"{left.name} and {right.name} are both endpoints: put a function between them")
            else:
                name = left.name if ends[0] is None else right.name
                places[name] = inner[0]
                attachment = attach(name, network.endpoints[name])
                if attachment is not None:
                    edges[inner[0]] = attachment
    return Lowered(Shape(parts, frozenset(links), edges), chosen, places)


def _choose(paths: list[list[Hop]], kinds: Mapping[str, Kind], former: Mapping[str, int]) -> dict[str, int]:
    """A port for each end that names none, by end and what it faces: those that had one keep it."""
    taken: dict[str, set[int]] = {name: set() for name in kinds}
    open_ends: list[tuple[str, str]] = []
    for path in paths:
        for index, hop in enumerate(path):
            if hop.name not in kinds:
                continue
            for text in (hop.left, hop.right):
                if text:
                    taken[hop.name].add(_number(kinds[hop.name], text))
            if not hop.left and not hop.right:
                facing = path[1] if index == 0 else path[-2]
                side = facing.left if index == 0 else facing.right
                open_ends.append((hop.name, f"{hop.name} {facing.name}:{side}"))
    chosen: dict[str, int] = {}
    for name, key in open_ends:
        if key in former and former[key] in kinds[name].numbered and former[key] not in taken[name]:
            chosen[key] = former[key]
            taken[name].add(former[key])
    for name, key in open_ends:
        if key not in chosen:
            chosen[key] = next(number for number in kinds[name].numbered if number not in taken[name])
            taken[name].add(chosen[key])
    return chosen


def _port(hop: Hop, text: str, facing: str, kinds: Mapping[str, Kind], chosen: Mapping[str, int]) -> PortRef | None:
    """The port of a member of a path; None for an endpoint."""
    if hop.name not in kinds:
        return None
    return PortRef(hop.name, _number(kinds[hop.name], text) if text else chosen[f"{hop.name} {facing}"])


def _number(kind: Kind, text: str) -> int:
    return kind.named[text] if text in kind.named else int(text)


__all__ = ["Lowered", "lower"]
