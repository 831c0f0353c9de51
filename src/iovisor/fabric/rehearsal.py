"""A running function on copies of its state: what it would do with a packet, without doing it.

Two twins of an instance answer.  One is in the kernel: *the same image*, loaded bare against maps that are raw copies
of the living ones, the ages of entries and the values of every CPU included, and run by BPF_PROG_TEST_RUN.  The tag the
kernel gives it, a hash over the instructions, must be that of the program behind the instance's door; this is checked,
not assumed.  The other is the reference in CPython, on the same entries; it explains (see `explanation`).

The kernel's answer is the truth.  Where the reference differs, or tags do, the answer says so (`differences`), and what
it explains is not to be believed.  A function whose Python is in another process has no reference here, and nothing
explains what the kernel did.  After each run the reference's tables get what the kernel wrote, so one difference
does not become many.

Both see one moment: the clock stands at the time of the rehearsal, and chance is a sequence from there.  The thread
stays on one CPU, and the reference has the per-CPU values of that one.

Rejected: copying the live programs' maps by address and running the live program itself, which would write into them.
"""
from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ..kernel import Map, MapFlag, MapKind, MapSpec, Program
from ..language import machine
from ..language.function import Function
from ..language.layout import Record
from ..language.machine import Machine
from ..language.tables import TABLES, Home, TableSpec
from ..language.verdicts import PUNT_KIND, Verdict
from ..targets.bpf_loaded import BpfLoaded, parse_event
from ..targets.homes import KernelHome
from .early import Early
from .explanation import Access, Carrier, Explained, Noted, explain
from .instance import EARLY, INGRESS, Instance

SMALLEST, LARGEST = 14, 3500        # bytes of a frame that BPF_PROG_TEST_RUN takes, with room to grow
LEAST = {b"\x08\x00": 34, b"\x86\xdd": 54}


@dataclass(frozen=True)
class Answer:
    """What a function does with a packet: the frame and its metadata as it leaves, and why."""

    verdict: Verdict
    event: Record | None
    frame: bytes
    words: bytes
    explained: Explained
    differences: tuple[str, ...]
    cautions: tuple[str, ...]


def check(frame: bytes) -> None:
    """ValueError for a frame that the kernel does not try."""
    if not SMALLEST <= len(frame) <= LARGEST:
        raise ValueError(f"a frame of {len(frame)} bytes cannot be traced: the kernel tries {SMALLEST} to {LARGEST}")
    if len(frame) < LEAST.get(frame[12:14], 0):
        raise ValueError(f"a frame of {len(frame)} bytes that says it is IP cannot be traced: its header has "
                         f"{LEAST[frame[12:14]] - 14} bytes at least")


class Moment:
    """A standing clock, for both twins, and a CPU to stay on."""

    def __init__(self) -> None:
        self.machine = Machine(standing=1, offset=machine.now(), seed=machine.MACHINE.seed)
        self.map = Map.create(MapSpec("machine", MapKind.ARRAY, 4, Machine.size, 1, MapFlag.MMAPABLE))
        self._words = self.map.mmap()
        self._allowed = os.sched_getaffinity(0)
        self.processor = min(self._allowed)
        os.sched_setaffinity(0, {self.processor})

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The kernel's twin has this moment; the reference has it meanwhile."""
        self._words[:Machine.size] = bytes(self.machine)
        with machine.instead(self.machine):
            yield

    def close(self) -> None:
        os.sched_setaffinity(0, self._allowed)
        self._words.release()
        self.map.close()


class Twin(BpfLoaded):
    """The kernel's half: the instance's images, bare, on copies of its maps."""

    def __init__(self, instance: Instance, function: Function, moment: Moment) -> None:
        self._live, self._moment = instance.loaded, moment
        super().__init__(function, "tc", tuple(instance.loaded.compiled), cache=instance.cache)

    def _make(self) -> None:
        self.compiled = dict(self._live.compiled)
        super()._make()

    def _machine(self) -> Map:
        return self._moment.map

    def _place(self) -> None:
        for name, home in self._live.homes.items():
            self.homes[name] = KernelHome(home.spec, Map.create(_roomier(home.map.spec, home.spec)))
            _copy(home, self.homes[name])


class EarlyTwin(BpfLoaded):
    """The same at XDP, on the maps of the other."""

    def __init__(self, early: Early, twin: Twin) -> None:
        self._live, self._twin = early, twin
        super().__init__(twin.function, "xdp", (INGRESS,))

    def _make(self) -> None:
        self.compiled = dict(self._live.compiled)
        self.maps = dict(self._twin.maps)
        for name in ("@next", "@context"):
            self.maps[name] = Map.create(self._live.maps[name].spec)
        self.configured()

    def try_out(self, frame: bytes, port: int, words: bytes, processor: int) -> tuple[int, bytes, bytes]:
        """Verdict, frame, and metadata."""
        context = self.maps["@context"]
        value = (port.to_bytes(8, "little") + words).ljust(context.spec.value_size, b"\0")
        context.update_per_cpu(bytes(4), [value] * len(context.lookup_per_cpu(bytes(4)) or []))
        ran = self.programs[INGRESS].test_run(frame)
        left = (context.lookup_per_cpu(bytes(4)) or [])[processor][8:24]
        return ran.return_value, ran.data, left

    def close(self) -> None:
        """Give back what is not the other twin's."""
        for program in self.programs.values():
            program.close()
        for name in ("@next", "@context"):
            self.maps[name].close()


class Rehearsal:
    """Both twins of an instance; made at one moment, and changed by every run as the instance would be."""

    def __init__(self, instance: Instance, moment: Moment) -> None:
        self.instance, self.moment = instance, moment
        self._accesses: list[Access] = []
        self._reference = _twin(instance.function)
        with ExitStack() as undo:
            self._kernel = undo.enter_context(Twin(instance, _twin(instance.function), moment))
            self._early = None if instance.early is None else undo.enter_context(
                EarlyTwin(instance.early, self._kernel))
            for name, found in self._reference.tables.items():
                found.home = self._noted(name, found.spec, self._kernel.homes[name])
            self.tags = {stage: self._tags(stage) for stage in instance.loaded.stages}
            if self._early is not None:
                self.tags[EARLY] = self._tags(EARLY)
            self._undo = undo.pop_all()

    def run(self, frame: bytes, port: int, words: bytes, stage: str) -> Answer:
        """What the instance does at `stage` with a packet of this metadata; EARLY is ingress at XDP."""
        entry = self.instance.loaded.stages.get(stage, INGRESS)
        trying = self._run_early if stage == EARLY else self._run
        differences = []
        live, twin = self.tags[stage]
        if live != twin:
            differences.append(f"the program that runs has the tag {live}, the one tried here {twin}")
        packet = Carrier(frame, port, words)
        before = self.moment.machine.chance
        if self._reference.elsewhere:
            explained = Explained(None, None, None, [])
            verdict, event, after, left = trying(frame, port, words, entry)
        else:
            with self.moment.reference():
                explained = explain(self._reference, packet, entry, self._accesses)
            for found in self._reference.tables.values():
                _settle(found.home)
            verdict, event, after, left = trying(frame, port, words, entry)
            differences += _compare(explained, packet, verdict, event, after, left)
            differences += self._tables(explained)
        cautions = ["it asked for chance: a packet that comes may be treated otherwise"]
        return Answer(verdict, event, after, left, explained, tuple(differences),
                      tuple(cautions if self.moment.machine.chance != before else ()))

    def _run(self, frame: bytes, port: int, words: bytes, entry: str) -> tuple[Verdict, Record | None, bytes, bytes]:
        """The kernel's answer."""
        context = bytes(48) + port.to_bytes(4, "little") + words + bytes(192 - 68)
        ran = self._kernel.programs[entry].test_run(frame, context)
        verdict = Verdict(ran.return_value >> 16, ran.return_value & 0xffff)
        mark = int.from_bytes(ran.context[8:12], "little")
        tag = (mark >> 16).to_bytes(2, "big") + (mark & 0xffff).to_bytes(2, "big") if mark >> 16 else b""
        return verdict, self._event(verdict), ran.data[:12] + tag + ran.data[12:], ran.context[52:68]

    def _run_early(self, frame: bytes, port: int, words: bytes,
                   entry: str) -> tuple[Verdict, Record | None, bytes, bytes]:
        """The same at XDP."""
        assert self._early is not None
        code, after, left = self._early.try_out(frame, port, words, self.moment.processor)
        verdict = Verdict(code >> 16, code & 0xffff)
        return verdict, self._event(verdict), after, left

    def _event(self, verdict: Verdict) -> Record | None:
        """What was punted; what was told of goes to nobody."""
        records = [] if self._kernel.ring is None else list(self._kernel.ring)
        return parse_event(self._kernel.function, records[-1])[1] if records and verdict.kind == PUNT_KIND else None

    def _tags(self, stage: str) -> tuple[str, str]:
        """Of the program behind the door, and of the twin's."""
        with Program.from_id(self.instance.runs(stage)) as program:
            live = program.info().tag
        if stage == EARLY and self._early is not None:
            return live, self._early.programs[INGRESS].info().tag
        return live, self._kernel.programs[self.instance.loaded.stages[stage]].info().tag

    def _noted(self, name: str, spec: TableSpec, home: KernelHome) -> Noted:
        """A table of the reference with what the kernel's twin holds."""
        noted = Noted(spec, self._accesses.append, name)
        for key, value in _entries(home, self.moment.processor):
            if spec.inner is None:
                noted.entries[key] = bytearray(value)
                continue
            noted.entries[key] = bytearray(4)
            inner = home.inner(key)
            if inner is not None:
                noted.nested[key] = self._noted(f"{name}[{key.hex()}]", spec.inner, inner)
        return noted

    def _tables(self, explained: Explained) -> list[str]:
        """Compare what both wrote, and give the reference what the kernel wrote."""
        differences = []
        for name, found in self._reference.tables.items():
            noted, home = found.home, self._kernel.homes[name]
            assert isinstance(noted, Noted)
            for access in explained.accesses:
                if access.table != name or access.spec is not found.spec or found.spec.inner is not None:
                    continue
                key = access.matched or access.key
                left = _value(home, key, self.moment.processor)
                if (access.after is not None and left is not None and left != access.after) or \
                        (access.after is None) != (left is None):
                    differences.append(f"{name}[{key.hex()}]: the kernel left {left.hex() if left else 'nothing'}, the "
                                       f"reference {access.after.hex() if access.after else 'nothing'}")
                if left is None:
                    noted.entries.pop(key, None)
                else:
                    noted.entries[key] = bytearray(left)
        return differences

    def close(self) -> None:
        self._undo.close()


def _twin(function: Function) -> Function:
    """The same function with tables of its own, empty."""
    twin = copy.copy(function)
    twin.tables, twin.drops, twin.outbox, twin.post = {}, {}, [], None
    for name, found in function.tables.items():
        twin.tables[name] = TABLES[found.spec.kind](replace(found.spec))
        if "." not in name:
            setattr(twin, name, twin.tables[name])
    for name, part in twin.spec().parts.items():
        setattr(twin, name, part.held(twin, name))
    return twin


def _roomier(spec: MapSpec, table: TableSpec) -> MapSpec:
    """An LRU evicts before it is full: a copy needs more room to hold the same."""
    spec = replace(spec, btf=b"", key_type=0, value_type=0)
    if table.inner is not None:
        from ..targets.homes import map_spec
        return replace(spec, inner=map_spec(table.inner))
    return replace(spec, max_entries=2 * spec.max_entries + 256) if table.kind == "lru" else spec


def _copy(home: KernelHome, to: KernelHome) -> None:
    """Every entry, as it lies, of all CPUs."""
    spec = home.spec
    if spec.inner is not None:
        for key in list(home.map.keys()):
            nested = home.inner(key)
            if nested is not None:
                _copy(nested, to.create(key, spec.inner))
        return
    pairs = home.map.lookup_batch()
    to.map.update_batch([(key, value) for key, value in pairs if any(value)] if home.map.spec.kind.indexed else pairs)


def _entries(home: KernelHome, processor: int) -> Iterator[tuple[bytes, bytes]]:
    if home.spec.inner is not None:
        yield from ((key, bytes(4)) for key in list(home.map.keys()))
        return
    for key, value in home.map.lookup_batch():
        if home.spec.per_cpu:
            value = home.map.split(value)[processor][:home.spec.stored_size]
        if any(value) or not home.map.spec.kind.indexed:
            yield key, value


def _value(home: KernelHome, key: bytes, processor: int) -> bytes | None:
    """What a key has now; of a longest-prefix table, what it finds."""
    if home.spec.per_cpu:
        values = home.map.lookup_per_cpu(key)
        return None if values is None else values[processor][:home.spec.stored_size]
    return home.map.lookup(key)


def _settle(home: Home) -> None:
    assert isinstance(home, Noted)
    home.settle()
    for nested in home.nested.values():
        _settle(nested)


def _compare(explained: Explained, packet: Carrier, verdict: Verdict, event: Record | None, frame: bytes,
             words: bytes) -> list[str]:
    """How the kernel's answer differs from the reference's, in words."""
    if explained.verdict is None:
        return [f"the kernel answers {verdict!r}, the reference fails: {explained.error}"]
    if verdict.code != explained.verdict.code:
        return [f"the kernel answers {verdict!r}, the reference {explained.verdict!r}"]
    if verdict.kind == 0:
        return []
    differences = []
    if (None if event is None else bytes(event)) != (
            None if explained.verdict.event is None else bytes(explained.verdict.event)):
        differences.append(f"the kernel punts {event!r}, the reference {explained.verdict.event!r}")
    if frame != bytes(packet):
        differences.append(f"the kernel leaves {frame.hex()}, the reference {bytes(packet).hex()}")
    if words != packet.left:
        differences.append(f"the kernel leaves the metadata {words.hex()}, the reference {packet.left.hex()}")
    return differences


__all__ = ["Answer", "Moment", "Rehearsal", "check"]
