"""One function, running between devices.

    device ──► entry ──► ingress ──@next[port]──► egress ──@next[port]──► output ──► device
                            │
                            └──@next[FLOOD]──► flood ──► device's egress hook ──► egress ──► device

A function without an egress goes from ingress straight to output.  Everything between two devices is tail calls, and a
join or a part is a slot written in a program array: nothing is compiled or loaded for it but two tiny edge programs.
Events that were punted are read from the ring by `pump`, which calls the function's handlers.

Fail closed: a device's hook is attached last, and while a slot is empty a packet that wants it is dropped and counted.
"""
from __future__ import annotations

import inspect
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ..compiler.cache import Cache
from ..kernel import Direction, Link, Map, MapFlag, MapKind, MapSpec, NetworkNamespace, Program, Update, rcu
from ..language.function import Function
from ..language.packet import Packet
from ..targets.bpf import FLOOD_SLOT
from ..targets.bpf_loaded import BpfLoaded
from . import edges
from .edges import PORTS, Edge

INGRESS, EGRESS, HOOK = "ingress", "egress", "hook"


class Running:
    """A function joined to devices of a namespace; everything is undone by `close`."""

    def __init__(self, function: Function, joined: dict[int, Edge] | None = None, *,
                 namespace: NetworkNamespace | None = None, cache: Cache | None = None) -> None:
        self.function, self.namespace = function, namespace
        self.joined: dict[int, Edge] = {}
        self._links: dict[int, list[Link]] = {}
        with ExitStack() as undo:
            self.has_egress = hasattr(function, EGRESS)
            stages = {INGRESS: INGRESS} | ({EGRESS: EGRESS, HOOK: EGRESS} if self.has_egress else {})
            self.loaded = undo.enter_context(BpfLoaded(function, "tc", stages, cache=cache, bare=False))
            self.roots = {stage: self._root(undo) for stage in stages}
            self._settle()
            spec = MapSpec("members", MapKind.ARRAY, 4, 4 * PORTS, 1, MapFlag.MMAPABLE)
            self._members = undo.enter_context(Map.create(spec))
            self._words = self._members.mmap()
            self._flood: Program | None = None
            self._passed = undo.enter_context(edges.passed())
            for port, edge in (joined or {}).items():
                self.join(port, edge)
            self._undo = undo.pop_all()

    def _root(self, undo: ExitStack) -> Map:
        return undo.enter_context(Map.create(MapSpec("root", MapKind.PROGRAM_ARRAY, 4, 4, 1)))

    def _settle(self) -> None:
        """Point the roots at the programs that stand now."""
        for stage, root in self.roots.items():
            root.store(bytes(4), self.loaded.programs[stage])

    # -- joining ------------------------------------------------------------------------------------------------------

    def join(self, port: int, edge: Edge) -> None:
        """Make `edge` the device of `port`."""
        if not 0 <= port < max(self.function.spec().port_count, 1):
            raise ValueError(f"{self.function.spec().name} has no port {port}: it has {self.function.spec().port_count}")
        if port in self.joined:
            raise ValueError(f"port {port} is joined already")
        slot = port.to_bytes(4, "little")
        with ExitStack() as made, rcu.expedited():
            output = made.enter_context(edges.output(edge))
            entry = made.enter_context(edges.entry(port, self.roots[INGRESS]))
            nexts, programs = self.loaded.nexts, self.loaded.programs
            inline = self.has_egress and edge.peer
            if inline:
                nexts[EGRESS].store(slot, output)
            nexts[INGRESS].store(slot, programs[EGRESS] if inline else output)
            links = []
            if self.has_egress:
                nexts[HOOK].store(slot, self._passed)
                hook = made.enter_context(edges.entry(port, self.roots[HOOK]))
                links.append(Link.tcx(hook, edge.index, Direction.EGRESS, namespace=self.namespace))
            self.joined[port] = edge
            self._tell_flood()
            links.append(Link.tcx(entry, edge.index, Direction.INGRESS, namespace=self.namespace))
            self._links[port] = links

    def part(self, port: int) -> None:
        """Undo `join`: packets for the port are dropped from here on, and none comes in."""
        edge = self.joined.pop(port)
        del edge
        slot = port.to_bytes(4, "little")
        with rcu.expedited():
            for link in self._links.pop(port):
                link.close()
        self._tell_flood()
        for array in self.loaded.nexts.values():
            array.delete(slot)

    def _tell_flood(self) -> None:
        """The flood program walks the ports up to the highest that is joined."""
        count = max(self.joined, default=-1) + 1
        indexes = (self.joined[p].index if p in self.joined else 0 for p in range(PORTS))
        words = b"".join(index.to_bytes(4, "little") for index in indexes)
        self._words[:4 * PORTS] = words
        with edges.flood(self._members, max(count, 1)) as flood:
            self.loaded.nexts[INGRESS].store(FLOOD_SLOT.to_bytes(4, "little"), flood)

    # -- while it runs --------------------------------------------------------------------------------------------------

    def reconfigure(self, **values: object) -> None:
        """Change the configuration: tables by difference, programs swapped under the packets' feet."""
        self.function.reconfigure(**values)
        self.loaded.configured()
        self._settle()
        if self.has_egress:
            for port, edge in self.joined.items():
                if edge.peer:
                    self.loaded.nexts[INGRESS].store(port.to_bytes(4, "little"), self.loaded.programs[EGRESS], Update.ANY)

    def pump(self) -> int:
        """Give punted packets to the function's handlers; answers how many there were."""
        events = self.loaded.events()
        for _, event, packet in events:
            handler = getattr(self.function, self.function.spec().handlers[type(event)])
            if inspect.iscoroutinefunction(handler):
                import asyncio
                asyncio.run(handler(event, packet))
            else:
                handler(event, packet)
        return len(events)

    @property
    def drops(self) -> dict[str, int]:
        """Drops by the name of their reason."""
        names = self.function.spec().reasons
        return {names.get(reason, str(reason)): count for reason, count in self.loaded.drops.items()}

    def close(self) -> None:
        """Detach from every device and give everything back."""
        with rcu.expedited():
            for links in self._links.values():
                for link in links:
                    link.close()
        self._links.clear()
        self._words.release()
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


__all__ = ["Packet", "Running"]
