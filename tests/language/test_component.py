"""Components: what a function gets from one, and how declarations refuse."""
from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import pytest

from iovisor.language import (
    Clock,
    Component,
    Config,
    DeclarationError,
    Function,
    Hash,
    Lru,
    Packet,
    Reasons,
    Record,
    Verdict,
    action,
    drop,
    every,
    forward,
    handles,
    mac,
    punt,
    table,
    time,
    u8,
    u16,
)
from iovisor.wire.ethernet import Ethernet


class Seen(Record):
    count: u16 = 0


class Own(Seen):
    mark: u8 = 0


class New(Record):
    address: mac


class MeterConfig(Config):
    idle: time = 5_000_000_000


R = TypeVar("R", bound=Seen)


class Meter(Component, Generic[R]):
    config: MeterConfig
    most: u16 = 8
    seen: Lru[mac, R] = table("most", ttl="idle")

    def meet(self, address: mac, fresh: R) -> R | None:
        found = self.seen.get(address)
        if found is None:
            self.seen[address] = fresh
            return None
        found.count += 1
        return found

    @handles(New)
    def met(self, event: New, pkt: Packet) -> None:
        self.seen[event.address] = Own(mark=9)      # type: ignore[assignment]

    @action
    def show(self) -> int:
        """How many there are."""
        return len(self.seen)

    @every(30)
    def forget(self) -> None:
        self.seen.sweep()


class Marks(Meter[Own]):
    """The type is given in a class between."""


class GuardConfig(MeterConfig):
    limit: u8 = 2


class Guard(Function):
    config: GuardConfig
    sources: Meter[Own] = Meter(most=4)
    targets: Marks = Marks()

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        found = self.sources.meet(eth.src, Own(mark=3))
        if found is None:
            return punt(New(address=eth.dst))
        return forward(found.mark) if found.count <= self.config.limit else drop(1)


def frame(src: int) -> Packet:
    return Packet(bytes(Ethernet(dst=7, src=src, type=0x88b5)) + bytes(46))


def test_a_part_is_the_functions_own() -> None:
    spec = Guard.spec()
    assert {n: (t.kind, t.value, t.size, t.ttl) for n, t in spec.tables.items()} == {
        "sources.seen": ("lru", Own, 4, "idle"), "targets.seen": ("lru", Own, 8, "idle")}
    assert spec.actions == {"sources.show": "How many there are.", "targets.show": "How many there are."}
    assert spec.timers == {"sources.forget": 30, "targets.forget": 30}
    guard = Guard(idle="2s")
    assert guard.tables["sources.seen"] is guard.sources.seen and guard.sources.seen.spec.ttl == 2 * 10**9
    assert guard.sources.most == 4 and guard.targets.most == 8
    assert Guard().sources is not guard.sources and Guard.sources is not guard.sources


def test_state_is_apart() -> None:
    one, other = Guard(), Guard()
    Clock.stand(10**9)
    try:
        assert one.run(frame(1)) == punt(New(address=7))
        assert one.run(frame(1)) == forward(3) and one.run(frame(1)) == forward(3) and one.run(frame(1)) == drop(1)
        assert other.run(frame(1)).kind == punt(New(address=7)).kind
        one.reconfigure(limit=100, idle="1s")
        assert one.sources.config is one.config and one.run(frame(1)) == forward(3)
        Clock.advance(2 * 10**9)
        assert one.run(frame(1)) == punt(New(address=7)) and len(one.targets.seen) == 0
    finally:
        Clock.run()


def test_methods_by_name() -> None:
    guard = Guard()
    verdict = guard.run(frame(1))
    guard.method(guard.spec().handlers[New])(verdict.event, frame(1))
    assert guard.method("targets.show")() == 1 or guard.method("sources.show")() == 2


def test_records_of_the_holder() -> None:
    guard = Guard()
    guard.run(frame(1))
    assert type(guard.sources.seen[1]) is Own


class Refusing(Reasons):
    ONE = 16


def declared(annotations: dict[str, object], **values: object) -> Callable[[], object]:
    kind: type[Function] = type("Holder", (Function,), {"__annotations__": annotations, **values})
    return kind.spec


class Nested(Component):
    inner: Meter[Own] = Meter()


class Needing(Component):
    least: u8
    seen: Hash[mac, Seen] = table("least")


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Meter(mots=4), "Meter has no constant `mots`; it has most"),
    (lambda: Meter(most=1 << 16), "Meter: most: 65536 does not fit in 16 bits"),
    (lambda: Needing(), "Needing needs `least`"),
    (declared({"part": Meter}, part=Meter()), "Holder.part reads MeterConfig: derive Config from it"),
    (declared({"part": Meter, "config": MeterConfig}, part=Meter()),
     "say what ~R stands for: annotate the part with a record in brackets"),
    (declared({"part": Nested}, part=Nested()), "Nested.inner: components hold no components"),
    (lambda: type("Bad", (Component,), {"__annotations__": {"held": u8}, "held": 1})(),
     "Bad.held: this name belongs to the component itself"),
])
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        call()
    assert str(refused.value) == message
