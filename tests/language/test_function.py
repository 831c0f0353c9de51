"""A function: its declarations as data, its two halves, and moving its tables."""
from __future__ import annotations

from enum import auto
from typing import Any

import pytest

from iovisor.language import (
    FLOOD,
    SECOND,
    Clock,
    Config,
    ConfigError,
    DeclarationError,
    Dropped,
    Function,
    Hash,
    Header,
    Lru,
    Packet,
    Port,
    Ports,
    Reasons,
    Record,
    StaleView,
    Verdict,
    action,
    drop,
    every,
    forward,
    handles,
    inline,
    mac,
    ports,
    punt,
    require,
    table,
    time,
    u8,
    u16,
)
from iovisor.language.tables import PythonHome, TableSpec


class Reason(Reasons):
    BLOCKED = auto()


class Tag(Header):
    kind: u8
    value: u8


class Seen(Record):
    value: u16


class Lost(Record):
    value: u16


class Settings(Config):
    limit: u8 = 10
    ageing: time = 5 * SECOND
    blocked: list[u16] = []


@inline
def doubled(value: u8) -> int:
    return value * 2


class Filter(Function):
    """Drops, floods, punts and forwards by the first byte."""

    config: Settings
    inside: Port
    outside: Port
    others: Ports = ports(4)
    last: Port
    blocked: Hash[u16, u8] = table(8)
    seen: Lru[u16, Seen] = table(8, ttl="ageing")

    def ingress(self, pkt: Packet) -> Verdict:
        tag = pkt.parse(Tag)
        if tag.kind == 0:
            return FLOOD
        if tag.kind == 1:
            return drop(Reason.BLOCKED)
        if tag.kind == 2:
            return punt(Lost(value=tag.value))
        if tag.kind == 3:
            return punt(Seen(value=tag.value))
        require(doubled(tag.value) < self.config.limit)
        require(tag.value not in self.blocked, Reason.BLOCKED)
        return forward(self.others[1] if pkt.port == self.inside else self.last)

    def configure(self, old: Settings | None, new: Settings) -> None:
        before = set(old.blocked) if old is not None else set()
        for value in before - set(new.blocked):
            del self.blocked[value]
        for value in set(new.blocked) - before:
            self.blocked[value] = 1

    @handles(Seen)
    def on_seen(self, event: Seen, pkt: Packet) -> None:
        """Not run by the data path."""

    @handles(Lost)
    async def on_lost(self, event: Lost, pkt: Packet) -> None:
        """Asynchronous handlers are handlers."""

    @every(10)
    def tick(self) -> None:
        """Now and then."""

    @action
    def flush(self, value: u16 = 0) -> int:
        """Forget everything."""
        self.seen.clear()
        return value


def test_the_class_as_data() -> None:
    spec = Filter.spec()
    assert spec is Filter.spec()
    assert (spec.name, spec.config) == ("Filter", Settings)
    assert list(spec.tables) == ["blocked", "seen"] and spec.tables["seen"].ttl == "ageing"
    assert spec.ports == {"inside": 0, "outside": 1, "others": Ports(2, 4), "last": 6}
    assert spec.port_count == 7
    assert (spec.events, spec.handlers) == ((Seen, Lost), {Seen: "on_seen", Lost: "on_lost"})
    assert spec.actions == {"flush": "Forget everything."} and spec.timers == {"tick": 10}
    assert spec.reasons[16] == "BLOCKED" and spec.reasons[Dropped.TRUNCATED] == "TRUNCATED"


def test_a_port_is_its_number() -> None:
    function = Filter()
    assert (function.inside, function.outside, function.last) == (0, 1, 6)
    assert (function.others[0], function.others[3], len(function.others)) == (2, 5, 4)
    assert 5 in function.others and 6 not in function.others
    with pytest.raises(IndexError, match="this family has 4 ports"):
        function.others[4]


@pytest.mark.parametrize(("frame", "port", "verdict"), [
    (b"\0\0", 0, FLOOD),
    (b"\1\0", 0, drop(Reason.BLOCKED)),
    (b"\4\4", 0, forward(3)),
    (b"\4\4", 1, forward(6)),
    (b"\4\5", 0, drop(Dropped.REQUIRED)),
    (b"\4\3", 0, drop(Reason.BLOCKED)),
    (b"\4", 0, drop(Dropped.TRUNCATED)),
])
def test_running(frame: bytes, port: int, verdict: Verdict) -> None:
    assert Filter(blocked=[3]).run(Packet(frame, port)) == verdict


def test_a_punt_carries_its_event_and_the_events_number() -> None:
    seen, lost = Filter().run(Packet(b"\3\7")), Filter().run(Packet(b"\2\7"))
    assert (seen.event, seen.argument) == (Seen(value=7), 0)
    assert (lost.event, lost.argument) == (Lost(value=7), 1)


def test_drops_are_counted_by_reason() -> None:
    function = Filter()
    for frame in (b"\1\0", b"\1\0", b"", b"\0\0", b"\4\7"):
        function.run(Packet(frame))
    assert function.drops == {Reason.BLOCKED: 2, Dropped.TRUNCATED: 1, Dropped.REQUIRED: 1}


def test_a_run_starts_at_the_front() -> None:
    pkt = Packet(b"\0\0")
    assert Filter().run(pkt) == Filter().run(pkt) == FLOOD


def test_configuration_reaches_the_data_path() -> None:
    function = Filter(limit=20)
    assert function.run(Packet(b"\4\7")) == forward(3)
    function.reconfigure(limit=10)
    assert function.run(Packet(b"\4\7")) == drop(Dropped.REQUIRED)
    assert Filter(config=Settings(limit=20)).config == Settings(limit=20)


def test_reconfiguring_writes_only_what_differs() -> None:
    function = Filter(blocked=[1, 2])
    epoch = function.blocked.epoch
    function.reconfigure(blocked=[2, 3])
    assert sorted(function.blocked) == [2, 3] and function.blocked.epoch == epoch + 2
    function.reconfigure(Settings(blocked=[3]))
    assert sorted(function.blocked) == [3] and function.config.blocked == [3]
    with pytest.raises(ConfigError):
        function.reconfigure(limit=256)
    assert function.config.blocked == [3]


def test_a_configuration_or_its_values_not_both() -> None:
    with pytest.raises(TypeError, match="Filter takes a configuration or its values, not both"):
        Filter(config=Settings(), limit=3)
    with pytest.raises(TypeError, match="reconfigure takes a configuration or values to change, not both"):
        Filter().reconfigure(Settings(), limit=3)
    with pytest.raises(TypeError, match="Filter is configured by Settings, not Config"):
        Filter(config=Config())
    with pytest.raises(ConfigError, match="colour: Settings has no such field"):
        Filter(colour=1)


def test_instances_share_nothing() -> None:
    one, two = Filter(), Filter()
    one.blocked[1] = 1
    one.run(Packet(b""))
    assert len(two.blocked) == 0 and two.drops == {}


def test_tables_move_with_their_entries() -> None:
    made: list[TableSpec] = []

    def make(spec: TableSpec) -> PythonHome:
        made.append(spec)
        return PythonHome(spec)

    Clock.stand(0)
    try:
        function = Filter(blocked=[1, 2])
        function.seen[5] = Seen(value=6)
        view = function.seen[5]
        Clock.advance(3 * SECOND)
        function.place(make)
        with pytest.raises(StaleView):
            _ = view.value
        assert [spec.name for spec in made] == ["blocked", "seen"] and made[1].ttl == 5 * SECOND
        assert sorted(function.blocked) == [1, 2] and function.seen[5].value == 6
        Clock.advance(3 * SECOND)
        assert 5 not in function.seen, "moving does not make young"
        assert function.sweep() == 1
    finally:
        Clock.run()


def test_mistakes_of_an_author() -> None:
    class Empty(Function):
        pass

    class Wrong(Function):
        def ingress(self, pkt: Packet) -> Verdict:
            return 5  # type: ignore[return-value]

    class Deaf(Function):
        def ingress(self, pkt: Packet) -> Verdict:
            return punt(Seen(value=1))

    with pytest.raises(NotImplementedError, match="Empty has no ingress"):
        Empty().run(Packet(b""))
    with pytest.raises(TypeError, match=r"Wrong.ingress returned 5, not a verdict"):
        Wrong().run(Packet(b""))
    with pytest.raises(TypeError, match=r"Deaf tells of Seen and has nothing that `@handles\(Seen\)`"):
        Deaf().run(Packet(b""))


def refused(names: dict[str, Any], **values: Any) -> None:
    type("Refused", (Function,), {"__annotations__": names, "__module__": __name__, **values}).spec()  # type: ignore[attr-defined]


def test_refused_declarations() -> None:
    with pytest.raises(DeclarationError, match="declares 257 ports; 256 is the most"):
        refused({"more": Ports, "one": Port}, more=ports(256))
    with pytest.raises(DeclarationError, match=r"Refused.config must be annotated with a Config class"):
        refused({"config": int})


def test_a_subclass_adds_to_its_base() -> None:
    class Wider(Filter):
        extra: Port
        stations: Hash[mac, u16] = table(4)

        def flush(self, value: u16 = 0) -> int:
            return 1

    assert list(Wider.spec().tables) == ["blocked", "seen", "stations"]
    assert Wider.spec().ports["extra"] == 7 and Wider.spec().handlers == Filter.spec().handlers
    assert Filter.spec().port_count == 7
