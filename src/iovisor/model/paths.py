"""Links: each name known, each port there, each used once; and their normal form.

A path is read from left to right and every member judged by its place in it: an end has one neighbour, the middle has
two.  The rules are in references.py.  A member whose function is itself in doubt (its kind is unknown, its entry is
broken) is not judged: its own problem is enough.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .errors import Path, alike
from .kinds import Kind
from .references import Hop, end_order, parts, path_order
from .schema import Network
from .tree import Problems


@dataclass
class Paths:
    """The check of one network's links.  `kinds`: of its functions, None where the kind is not known; `doubtful`: names
    of entries that are broken."""

    network: Network
    problems: Problems
    kinds: Mapping[str, Kind | None]
    doubtful: Collection[str]
    used: dict[tuple[str, str], Path] = field(default_factory=dict)
    any: dict[str, list[Path]] = field(default_factory=dict)
    mentioned: set[str] = field(default_factory=set)

    def normal(self, numbers: Collection[int]) -> list[list[str]]:
        """The links in normal form; `numbers`: which of those in the text they are, of those in the network."""
        found: dict[tuple[str, str], tuple[list[Hop], Path]] = {}
        for number, texts in zip(numbers, self.network.links, strict=True):
            path = ("links", number)
            if len(texts) < 2:
                self.problems.add(path, f"a path of {len(texts)} leads nowhere",
                                  "a link has two ends: [web1, lan], or with functions between, [lan:up, fw, edge:lan]")
                self.mentioned |= {name for text in texts for name, _, _ in [parts(text) or ("", "", "")]}
                continue
            hops = [self._hop(text, (*path, index), index, len(texts)) for index, text in enumerate(texts)]
            members = [hop for hop in hops if hop is not None]
            if len(members) < len(hops):
                continue
            functions = self.network.functions
            if end_order(members[-1], functions) < end_order(members[0], functions):
                members = [hop.turned for hop in reversed(members)]
            ends = str(members[0]), str(members[-1])
            if ends[0] == ends[1]:
                self.problems.add(path, f"{ends[0]} is linked to itself", "a link joins two different ports")
            elif ends in found:
                line = self.problems.line(found[ends][1])
                self.problems.add(path, f"{ends[0]} and {ends[1]} are linked in line {line} already",
                                  "remove one of the two, or say which ports they join")
            found.setdefault(ends, (members, path))
        self._enough()
        ordered = sorted((members for members, _ in found.values()),
                         key=lambda members: path_order(members, self.network.functions))
        return [[str(hop) for hop in members] for members in ordered]

    def _hop(self, text: str, at: Path, index: int, length: int) -> Hop | None:
        """A member in its normal form; None if it is wrong or in doubt."""
        found = parts(text)
        if found is None:
            self.problems.add(at, f"{text!r} is not a member of a path",
                              "write a name, name:port, or in the middle name:left:right")
            return None
        name, first, second = found
        self.mentioned.add(name)
        middle = 0 < index < length - 1
        if name in self.network.endpoints:
            return self._endpoint(name, first, at, middle)
        if name in self.doubtful:
            return None
        if name not in self.network.functions:
            known = [*self.network.functions, *self.network.endpoints, *self.doubtful]
            self.problems.add(at, f"there is no function and no endpoint {name!r}", alike(name, known))
            return None
        kind = self.kinds[name]
        if kind is None:
            return None
        if middle:
            return self._middle(name, first, second, kind, at)
        return self._end(name, first, second, kind, at, index == 0)

    def _endpoint(self, name: str, port: str, at: Path, middle: bool) -> Hop | None:
        if port:
            self.problems.add(at, f"{name} is an endpoint, and has no ports", f"write {name}")
        elif middle:
            self.problems.add(at, f"{name} is an endpoint, and stands in the middle of a path",
                              "put it at an end; functions stand in the middle")
        elif not self._take(name, "", at):
            return None
        else:
            return Hop(name)
        return None

    def _end(self, name: str, first: str, second: str, kind: Kind, at: Path, leftmost: bool) -> Hop | None:
        if second:
            self.problems.add(at, f"{name} has one neighbour here, and two ports", f"write {name}:{first}")
            return None
        ports = [*kind.named, *kind.numbered]
        if first:
            port = self._port(name, first, kind, at)
        elif kind.numbered:
            self.any.setdefault(name, []).append(at)
            return Hop(name)
        elif len(ports) == 1:
            port = next(iter(kind.named))
        else:
            what = f"{name} has {len(ports)} ports" if ports else f"{name} has no ports"
            self.problems.add(at, f"{what}; which one is meant?" if ports else what,
                              " or ".join(f"{name}:{port}" for port in kind.named) and
                              "write " + " or ".join(f"{name}:{port}" for port in kind.named))
            return None
        if port is None or not self._take(name, port, at):
            return None
        return Hop(name, "", port) if leftmost else Hop(name, port)

    def _middle(self, name: str, first: str, second: str, kind: Kind, at: Path) -> Hop | None:
        ports = [*kind.named, *map(str, kind.numbered)]
        if not first:
            if len(ports) != 2:
                counted = f"{len(ports)} ports" if len(ports) != 1 else "one port"
                self.problems.add(at, f"{name} stands in the middle of a path and has {counted}, not two",
                                  f"say which: {name}:left:right; or end the path at {name} and begin another there"
                                  if len(ports) > 2 else f"end the path at {name}")
                return None
            first, second = ports
        elif not second:
            self.problems.add(at, f"{name} stands in the middle of a path, and {first} is one side of it only",
                              f"write both, the left neighbour's first: {name}:{first}:"
                              + next((port for port in ports if port != first), "other"))
            return None
        left, right = self._port(name, first, kind, at), self._port(name, second, kind, at)
        if left is None or right is None:
            return None
        if left == right:
            self.problems.add(at, f"both sides of {name} are its port {left}", "a packet must leave by another port")
            return None
        taken = [self._take(name, left, at), self._take(name, right, at)]
        return Hop(name, left, right) if all(taken) else None

    def _port(self, name: str, text: str, kind: Kind, at: Path) -> str | None:
        """A port's name, or number, as the normal form has it."""
        if text in kind.named:
            return text
        number = int(text) if text.isdecimal() and len(text) < 6 else -1
        if number in kind.numbered:
            return str(number)
        for port, its in kind.named.items():
            if its == number:
                return port
        numbers = sorted(kind.numbered)
        family = f"{numbers[0]} to {numbers[-1]}" if numbers else ""
        if kind.named and not text.isdecimal():
            fix = alike(text, kind.named) + (f"; or a number, {family}" if numbers else "")
        else:
            fix = "there is " + ", ".join([*kind.named, *([f"{family}"] if family else [])])
        self.problems.add(at, f"{name} has no port {text}", fix)
        return None

    def _take(self, name: str, port: str, at: Path) -> bool:
        """Note that a port is joined; a problem if it is already."""
        before = self.used.setdefault((name, port), at)
        if before is at:
            return True
        what = f"port {port} of {name}" if port else f"endpoint {name}"
        self.problems.add(at, f"{what} is linked in line {self.problems.line(before)} already",
                          "a port has one link" if port else "an endpoint has one link; a switch joins more")
        return False

    def _enough(self) -> None:
        """Is there a port for each link that does not say which?"""
        for name, places in self.any.items():
            kind = self.kinds[name]
            assert kind is not None
            free = len(kind.numbered) - sum(1 for at, port in self.used if at == name and port.isdecimal())
            for place in places[max(free, 0):]:
                self.problems.add(place, f"all ports of {name} are taken",
                                  f"{name} has {len(kind.numbered)} of them; add another function of its kind")


__all__ = ["Paths"]
