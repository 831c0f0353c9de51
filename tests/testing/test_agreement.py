"""Agreement: that it finds what it is there to find.  Each test plants a fault in one target."""
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.compiler.llvm import Emitter
from iovisor.language import (
    FLOOD,
    Array,
    Clock,
    Counter,
    Function,
    Hash,
    Metadata,
    Packet,
    Ports,
    Record,
    Verdict,
    drop,
    forward,
    handles,
    mac,
    now,
    ports,
    punt,
    random,
    table,
    u8,
    u32,
)
from iovisor.language.machine import MACHINE
from iovisor.targets import TARGETS
from iovisor.targets.native import Native
from iovisor.targets.tc import Tc
from iovisor.targets.xdp import Xdp
from iovisor.testing import Agreement, Arrival, Disagreement, agree, available, traffic
from iovisor.testing.packets import Frame, ethernet
from iovisor.wire import Ethernet


class Entry(Record):
    count: u32


class Seen(Record):
    source: mac


class Mark(Metadata):
    zone: u8


class Small(Function):
    """A bit of everything."""

    ports: Ports = ports(4)
    entries: Hash[mac, Entry] = table(64)
    flags: Array[u8] = table(4)
    total: Counter = table(4)

    def ingress(self, pkt: Packet) -> Verdict:
        self.total.add(pkt.port, bytes=len(pkt))
        eth = pkt.parse(Ethernet)
        known = self.entries.get(eth.src)
        count = 1
        if known is None:
            self.entries[eth.src] = Entry(count=1)
        else:
            known.count += 1
            count = known.count
        self.flags[pkt.port] = eth.type
        if eth.dst == 0xbad:
            return drop(77)
        if eth.dst == 0xe7e:
            return punt(Seen(source=eth.src))
        if eth.dst == 0x4a4d:
            return forward(random() & 0xff)
        eth.dst = eth.dst ^ 1
        return FLOOD if count == 1 else forward(count)

    @handles(Seen)
    def seen(self, event: Seen, packet: Packet) -> None:
        """Nothing."""


class Marks(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        mark = pkt.meta(Mark)
        mark.zone += 1
        return forward(0)


class Timed(Function):
    last: Array[u32] = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        self.last[0] = now()
        return forward(0)


COMPILED = [pytest.param("native", Native), pytest.param("tc", Tc, marks=pytest.mark.root),
            pytest.param("xdp", Xdp, marks=pytest.mark.root)]
each = pytest.mark.parametrize(("target", "family"), COMPILED)


def frame(target: int, source: int = 5, kind: int = 0x88b5) -> bytes:
    return bytes(ethernet(dst=target, src=source, type=kind) / bytes(46))


def broken(monkeypatch: pytest.MonkeyPatch, family: type[Any], operation: str, change: str) -> None:
    """Put a fault into a lowering that answers a number."""
    good = family.lowerings[operation]

    def bad(self: Any, emit: Emitter, call: Any) -> str:
        return emit.value(f"{change.format(good(self, emit, call))}")
    monkeypatch.setitem(family.lowerings, operation, bad)


@pytest.fixture(autouse=True)
def nothing_changes() -> Iterator[None]:
    """The clock, chance and the thread's processors are afterwards as before."""
    before, allowed = bytes(MACHINE), os.sched_getaffinity(0)
    yield
    assert (bytes(MACHINE), os.sched_getaffinity(0)) == (before, allowed)


def test_all_agree_on_what_is_right() -> None:
    assert agree(Small, [frame(n % 3 or 0x4a4d, n % 7) for n in range(100)]) == 100
    assert agree(Small, traffic(1, 500)) == 500


@each
def test_a_wrong_counter_is_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, family, "length", "add i64 {}, 1")
    with pytest.raises(Disagreement) as found:
        agree(Small, [frame(n) for n in range(5)], targets=[target])
    text = str(found.value)
    assert "total: 1 entries differ" in text and f"{target} is in another state than python" in text
    assert "Count(packets=1, bytes=60)" in text and "Count(packets=1, bytes=61)" in text
    assert len(found.value.arrivals) == 1


@each
def test_a_wrong_verdict_is_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(family.lowerings, "get", _forgetful)
    with pytest.raises(Disagreement) as found:
        agree(Small, [frame(n, n % 2) for n in range(10)], targets=[target])
    text = str(found.value)
    assert "python forward(2)" in text and f"{target:7}FLOOD" in text
    assert len(found.value.arrivals) == 2       # the second frame of a source is the first that disagrees


def _forgetful(self: Any, emit: Emitter, call: Any) -> Any:
    """A lookup that never finds anything."""
    from iovisor.compiler.llvm import Pointer
    return Pointer("null")


@each
def test_wrong_bytes_are_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    good = Emitter.store_field

    def bad(self: Emitter, view: Any, field: Any, value: str, *rest: Any) -> None:
        if field.name == "dst" and self.target.name == family.name:
            value = self.value(f"xor i64 {value}, 2")
        good(self, view, field, value, *rest)
    monkeypatch.setattr(Emitter, "store_field", bad)
    with pytest.raises(Disagreement, match=r"differs from byte 5 on: 13 .* instead of 11") as found:
        agree(Small, [frame(0x10, 1), frame(1, 2)], targets=[target])
    assert found.value.index == 0 or len(found.value.arrivals) == 1


@each
def test_a_wrong_drop_is_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same verdict, counted under nothing."""
    from iovisor.targets import bpf_loaded, native_loaded
    home = native_loaded.NativeLoaded if target == "native" else bpf_loaded.BpfLoaded
    monkeypatch.setattr(home, "drops", property(lambda self: {}))
    with pytest.raises(Disagreement, match=r"drops: python {77: 1}"):
        agree(Small, [frame(1), frame(0xbad), frame(2)], targets=[target])


@each
def test_a_wrong_event_is_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from iovisor.targets import bpf_loaded, native_loaded
    home = native_loaded.NativeLoaded if target == "native" else bpf_loaded.BpfLoaded
    good = home.run

    def bad(self: Any, packet: Packet, entry: str = "ingress") -> Verdict:
        verdict: Verdict = good(self, packet, entry)
        if isinstance(verdict.event, Seen):
            verdict.event.source = 99
        return verdict
    monkeypatch.setattr(home, "run", bad)
    with pytest.raises(Disagreement, match=r"punt.*02:00:00:00:00:01"):
        agree(Small, [frame(0xe7e, 0x02_00_00_00_00_01)], targets=[target])


@each
def test_wrong_metadata_is_found(target: str, family: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    agree(Marks, [frame(1)], targets=[target], metadata=Mark)
    agree(Marks, [Arrival(frame(1), metadata=Mark(zone=255))], targets=[target])
    from iovisor.targets import bpf_loaded, native_loaded
    home = native_loaded.NativeLoaded if target == "native" else bpf_loaded.BpfLoaded
    good = home.run

    def bad(self: Any, packet: Packet, entry: str = "ingress") -> Verdict:
        verdict: Verdict = good(self, packet, entry)
        packet.meta(Mark).zone = 0
        return verdict
    monkeypatch.setattr(home, "run", bad)
    with pytest.raises(Disagreement, match=r"Mark\(zone=1\)"):
        agree(Marks, [frame(1)], targets=[target], metadata=Mark)


def test_the_snippet_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, Native, "length", "add i64 {}, 1")
    with pytest.raises(Disagreement) as found:
        agree(Small, traffic(3, 40), targets=["native"])
    snippet = str(found.value).split("this sequence shows it:")[1]
    lines = [line[4:] for line in snippet.splitlines()]
    with pytest.raises(Disagreement):
        exec("\n".join(lines), {"Small": Small})


def test_tables_can_be_compared_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, Native, "length", "add i64 {}, 1")
    with Agreement(Small, ["native"], every=4) as session, pytest.raises(Disagreement, match="after packet 0") as found:
        session.run(frame(n) for n in range(100))
    assert found.value.index == 3


def test_a_session_begins_anew() -> None:
    class Prepared(Small):
        def configure(self, old: Any, new: Any) -> None:
            self.entries[7] = Entry(count=100)
            self.flags[1] = 9

    with Agreement(Prepared) as session:
        for _ in range(3):
            session.run([Arrival(frame(3, 7), 1), frame(4, 9), (frame(5, 9), 2), ethernet(dst=1, src=2) / bytes(50)])
            state = session._lanes[session.targets][0].loaded.function.tables
            assert {key: entry.count for key, entry in state["entries"].items()} == {7: 101, 9: 2, 2: 1}
            assert len(state["total"]) == 3


def test_frames_the_kernel_refuses_are_tried_elsewhere() -> None:
    with Agreement(Small) as session:
        short: list[bytes | Frame] = [b"x", bytes(13), bytes(14), frame(1)[:20], Frame((bytes(12), b"\x08\0"))]
        assert session.run((*short, bytes(5_000))) == 6


def test_the_clock_stands_and_moves() -> None:
    with Agreement(Timed) as session:
        session.run([Arrival(frame(1), after=5), Arrival(frame(1), after=7)])
        assert dict(session._lanes[session.targets][0].loaded.function.tables["last"].items())[0] \
            == 1_000_000_000_012 & 0xffffffff


def test_a_running_clock_runs_on() -> None:
    Clock.advance(10)
    try:
        agree(Timed, [frame(1)])
        assert (MACHINE.standing, MACHINE.offset) == (0, 10)
    finally:
        Clock.advance(-10)


def test_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available() in (TARGETS, TARGETS[:2], TARGETS[:1])
    monkeypatch.setattr("iovisor.kernel.capabilities.effective", lambda: frozenset())
    assert available() == ("python", "native")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert available() == ("python",)
