"""A function is replaced by a version whose tables are laid out differently, and by the one before again, live."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Network
from iovisor.fabric import pins as fabric_pins
from iovisor.fabric.conversion import Conversion
from iovisor.kernel import filesystem
from iovisor.language import Function
from iovisor.language.migration import migration
from iovisor.targets.homes import KernelHome
from tests.fabric.flows import Flows
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange
from tests.fabric.versions import Flow, Flow2, Keeper, Keeper2, Refuses

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
MANY = 10_000
FIRST = 0x060000000000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory whose pins go, whatever happens."""
    yield tmp_path
    filesystem.unmount(tmp_path / "net/bpf")


def kept(net: Network, at: Place, function: Function) -> None:
    net.add("keeper", function)
    net.attach("keeper:inside", at.hosts[0].edge)
    net.attach("keeper:outside", at.hosts[1].edge)


def flows_of(net: Network) -> dict[int, Any]:
    return dict(net.instances["keeper"].function.tables["flows"].items())


def test_ten_thousand_entries_there_and_back_under_traffic(place: Places) -> None:
    """UP-01: one field more in the value, 10,000 entries, TCP and datagrams through it; nothing is lost."""
    at = place(2)
    with Network("upgraded", namespace=at.switching) as net:
        keeper = Keeper()
        for number in range(MANY):
            keeper.flows[FIRST + number] = Flow(packets=number)
        kept(net, at, keeper)
        assert at.hosts[0].ping(at.hosts[1], 1)
        at.hosts[1].socket.close()
        born: list[int] = []
        ended = threading.Event()

        def newcomers() -> None:
            """Each speaks once, at any moment of the change."""
            while not ended.wait(0.001) and len(born) < 8_000:
                source = FIRST + MANY + len(born)
                at.hosts[0].socket.send((b"\xff" * 6 + source.to_bytes(6, "big") + b"\x88\xb5").ljust(60, b"\0"))
                born.append(source)

        flows, talking = Flows(at.hosts[0], at.hosts[1], 1000), threading.Thread(target=newcomers)
        with flows:
            talking.start()
            for kind in (Keeper2, Keeper) * 2:
                assert type(net.upgrade("keeper", kind)) is kind
            ended.set()
            talking.join()
        print(flows.result, len(born))
        assert flows.result.sent > 100 and (flows.result.lost, flows.result.doubled) == (0, 0)
        assert flows.result.pushed == flows.result.drained > 0
        assert net.drops == {}
        found = flows_of(net)
        assert [found[FIRST + number] for number in range(MANY)] == [Flow(packets=number) for number in range(MANY)]
        assert len(born) > 10 and all(found[source] == Flow(packets=1) for source in born)
        fresh = net.upgrade("keeper", Keeper2)
        found = flows_of(net)
        assert found[FIRST + 77] == Flow2(packets=77)
        assert fresh.tables["last"][0] > len(born) and len(fresh.tables["extra"]) == 0
        assert net.instances["keeper"].loaded.homes.keys() == {"flows", "last", "extra"}


def test_what_is_not_declared_is_refused_and_what_fails_changes_nothing(place: Places) -> None:
    at = place(2)

    class Forgetful(Keeper):
        """No table of Keeper's but one."""

        last = None  # type: ignore[assignment]

    with Network("refused", namespace=at.switching) as net:
        kept(net, at, Keeper())
        exchange(*at.hosts)
        before = net.instances["keeper"].function
        with pytest.raises(ValueError, match=r"Forgetful cannot take over the tables of keeper: .*\n    last\n"
                                             r"        is        array index -> 32 bits\n        would be  absent"):
            net.upgrade("keeper", Forgetful)
        with pytest.raises(ValueError, match=r"grown cannot convert the entry .*20000: 05000000 of flows") as caught:
            net.upgrade("keeper", Refuses)
        assert "LookupError('on purpose')" in str(caught.value)
        assert net.instances["keeper"].function is before
        exchange(*at.hosts)
        assert flows_of(net)[0x020000000001].packets == 10
        net.upgrade("keeper", Keeper2)
        exchange(*at.hosts)
        assert flows_of(net)[0x020000000001].packets == 15


def test_who_wins_when_both_are_written() -> None:
    old, fresh = Keeper(), Keeper2()
    for number in range(6):
        old.flows[number] = Flow(packets=number)
    old.last[1] = 5
    old.place(KernelHome)
    fresh.place(KernelHome)
    converting = []
    for name in ("flows", "last"):
        declared, home = migration(old, fresh, name), fresh.tables[name].home
        assert declared is not None and isinstance(home, KernelHome)
        converting.append(Conversion(name, declared, home))
    for conversion in converting:
        conversion.copy()
    assert dict(fresh.flows.items()) == {number: Flow2(packets=number) for number in range(6)}
    old.flows[0] = Flow(packets=100)        # the old programs alone: it is carried over
    del old.flows[1]
    fresh.flows[2] = Flow2(packets=200)     # the new ones alone: it stays
    old.flows[3] = Flow(packets=100)        # both: the new ones wrote later
    fresh.flows[3] = Flow2(packets=200)
    del old.flows[4]
    fresh.flows[4] = Flow2(packets=200)
    old.flows[9] = Flow(packets=100)
    old.flows[10] = Flow(packets=100)
    fresh.flows[10] = Flow2(packets=200)
    old.last[2], fresh.last[3], old.last[3] = 100, 200, 100
    for conversion in converting:
        conversion.copy()
    assert {key: flow.packets for key, flow in fresh.flows.items()} == {
        0: 100, 2: 200, 3: 200, 4: 200, 5: 5, 9: 100, 10: 200}
    assert [fresh.last[index] for index in range(4)] == [0, 5, 100, 200]
    old.flows.home = converting[0].following()          # a handler that holds the old function
    old.flows[20] = Flow(packets=100)
    old.flows[5] = Flow(packets=100)
    del old.flows[9]
    assert {key: flow.packets for key, flow in fresh.flows.items()} == {
        0: 100, 2: 200, 3: 200, 4: 200, 5: 100, 10: 200, 20: 100}
    for function in (old, fresh):
        for table in function.tables.values():
            assert isinstance(table.home, KernelHome)
            table.home.close()


def test_a_full_table_and_one_of_the_size_it_had(place: Places) -> None:
    """The size is the instance's, also if the new class would have a smaller one."""
    at = place(2)
    with Network("full", namespace=at.switching) as net:
        keeper = Keeper()
        for number in range(20_000):
            keeper.flows[FIRST + number] = Flow(packets=1)
        kept(net, at, keeper)
        fresh = net.upgrade("keeper", Keeper2)
        assert len(fresh.tables["flows"]) == 20_000 and fresh.tables["flows"].put(1, Flow2()) is False


def test_an_upgraded_network_is_adopted_and_one_killed_in_between_is_as_before(
        place: Places, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, document = place(2), folder / "net/topology.json"
    net = Network("kept", namespace=at.switching, pins=folder / "net")
    kept(net, at, Keeper())
    exchange(*at.hosts)
    net.upgrade("keeper", Keeper2)
    exchange(*at.hosts)

    def tables() -> set[str]:
        return {path.name for path in (folder / "net/bpf/at-keeper").glob("table-*")}
    assert (pins := tables()) == {"table-flows-1", "table-last-1", "table-extra-1"}
    net.leave()
    with_second = Network.adopt(folder / "net", namespace=at.switching)
    assert isinstance(with_second.instances["keeper"].function, Keeper2)
    assert flows_of(with_second)[0x020000000001].packets == 10
    exchange(*at.hosts)
    before = document.read_text()
    with monkeypatch.context() as killed:                           # just before it would be written down
        killed.setattr(fabric_pins.Place, "write", lambda self, document: None)
        killed.setattr(fabric_pins.Pins, "prune_former", lambda *arguments: None)
        with_second.upgrade("keeper", Keeper)
    exchange(*at.hosts)
    with_second.leave()
    assert document.read_text() == before
    with Network.adopt(folder / "net", namespace=at.switching) as third:
        assert isinstance(third.instances["keeper"].function, Keeper2)
        assert flows_of(third)[0x020000000001].packets >= 15
        exchange(*at.hosts)
        assert tables() == pins
        third.upgrade("keeper", Keeper)
        exchange(*at.hosts)
        assert third.drops == {}
