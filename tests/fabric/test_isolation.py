"""Two networks alike in everything, names, addresses, MACs, indexes: whatever befalls one, the other does not notice.

Of the other's 1,000 datagrams a second each way none is lost (see `Result.unharmed`), and no frame of the one is seen
at the other's hosts.
"""
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from iovisor.compiler.errors import CompileError
from iovisor.fabric import Network, slowpath
from iovisor.functions.switch import Switch
from iovisor.kernel import Map, Program, ProgramSpec, VerifierRejection
from iovisor.language import Function, Packet, handles
from tests.fabric.flows import Flows
from tests.fabric.functions import First, Learner, PatientLearner
from tests.fabric.hosts import OUTGOING, Host, Place
from tests.fabric.test_slowpath import flows as first_packets
from tests.fabric.test_slowpath import served
from tests.fabric.test_storm import broadcast, mesh, settled

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
PAYLOAD = b"\x88\xb5"                       # the EtherType of every frame a test sends; the other's flows are IPv4


def build(net: Network, at: Place) -> None:
    """h0 - lan - wan - h1"""
    for name in ("lan", "wan"):
        net.add(name, Switch(stations=64))
    net.link("lan:1", "wan:1")
    net.attach("lan:0", at.hosts[0].edge)
    net.attach("wan:0", at.hosts[1].edge)


class Watch:
    """Everything that comes to a host, for as long as a `with`: how many frames of the EtherType of the tests."""

    def __init__(self, host: Host) -> None:
        self.host, self.crossed, self._ended = host, 0, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.host.socket.settimeout(0.05)
        while not self._ended.is_set():
            try:
                data, sender = self.host.socket.recvfrom(1 << 16)
            except TimeoutError:
                continue
            self.crossed += sender[2] != OUTGOING and data[12:14] == PAYLOAD

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def twins(place: Places, hosts: int = 2) -> Iterator[tuple[Place, Network]]:
    """The one, to do something to; the other is checked at the end."""
    here, there = place(hosts), place(2)
    with (Network("twin", namespace=here.switching) as one, Network("twin", namespace=there.switching) as other):
        build(other, there)
        assert there.hosts[0].ping(there.hosts[1], 1)
        traffic = Flows(there.hosts[0], there.hosts[1], 1000, bulk=False)
        with Watch(there.hosts[0]) as left, Watch(there.hosts[1]) as right, traffic:
            yield here, one
        print(traffic.result)
        assert traffic.result.sent > 100 and traffic.result.unharmed
        assert other.drops == {} and (left.crossed, right.crossed) == (0, 0)


def test_a_flood_storm(place: Places) -> None:
    with twins(place, 8) as (at, net):
        mesh(net, 8)
        for i, host in enumerate(at.hosts):
            net.attach(f"h{i}:{i}", host.edge)
        broadcast(at.hosts[0], 500, 1)
        assert settled(net)["fabric"]["STORM"] > 100


def test_full_tables_and_unknown_stations(place: Places) -> None:
    with twins(place) as (at, net):
        build(net, at)
        for begin in range(0, 3_000, 100):              # no more at once than a device's queue holds
            for number in (i.to_bytes(4, "big") for i in range(begin, begin + 100)):
                at.hosts[0].socket.send((b"\2\7" + number + b"\2\6" + number + PAYLOAD).ljust(60, b"\0"))
            assert len(at.hosts[1].captured(100)) == 100
        lan = net.instances["lan"].function
        assert isinstance(lan, Switch) and len(lan.stations) == 64


class Broken(Learner):
    """What the verifier does not take: see `test_an_upgrade_that_is_refused`."""


def test_an_upgrade_that_is_refused(place: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with twins(place) as (at, net):
        net.add("learner", Learner())
        net.attach("learner:inside", at.hosts[0].edge)
        net.attach("learner:outside", at.hosts[1].edge)
        first_packets(at.hosts[0], at.hosts[1], 10)
        served(net, lambda: at.hosts[1].captured(10))
        load = Program.load

        def refusing(spec: ProgramSpec, maps: Sequence[Map], level: int) -> Program:
            """The real verifier, asked about a program that begins with r0 = r7, which nobody wrote."""
            broken = bytes.fromhex("bf70000000000000") + spec.instructions
            return load(replace(spec, instructions=broken, btf=b"", func_info=b"", line_info=b""), maps, level)

        with monkeypatch.context() as patched:
            patched.setattr(Program, "load", refusing)
            with pytest.raises((VerifierRejection, CompileError)):
                net.upgrade("learner", Broken)
        first_packets(at.hosts[0], at.hosts[1], 10)
        assert len(at.hosts[1].captured(10)) == 10
        assert type(net.instances["learner"].function) is Learner


class Raises(Learner):
    @handles(First)
    def first(self, event: First, packet: Packet) -> Packet:
        raise RuntimeError("on purpose")


class Never(Learner):
    """Handlers that wait for ever."""

    @handles(First)
    async def first(self, event: First, packet: Packet) -> Packet:  # type: ignore[override]
        await asyncio.Event().wait()
        return packet


class Blocks(Learner):
    """Handlers that hold up their thread."""

    @handles(First)
    def first(self, event: First, packet: Packet) -> Packet:
        time.sleep(0.5)
        return packet


class Computes(Learner):
    """Handlers that take what they get of the interpreter."""

    @handles(First)
    def first(self, event: First, packet: Packet) -> Packet:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        return packet


def punting(net: Network, at: Place, kind: type[Function]) -> None:
    net.add("learner", kind())
    net.attach("learner:inside", at.hosts[0].edge)
    net.attach("learner:outside", at.hosts[1].edge)


def test_a_storm_of_punts_whose_handlers_fail(place: Places) -> None:
    with twins(place) as (at, net):
        punting(net, at, Raises)
        served(net, lambda: first_packets(at.hosts[0], at.hosts[1], 5_000))
        assert net.served.failed == net.served.events > 0
        assert net.served.events + net.drops.get("learner", {}).get("PUNT_LOST", 0) <= 5_000


class Served:
    """A network's slow path in a thread of its own, as those of different owners are."""

    def __init__(self, net: Network) -> None:
        self._net, self._loop, self._ready = net, asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._task = asyncio.create_task(self._net.serve())
        self._ready.set()
        await asyncio.gather(self._task, return_exceptions=True)

    def __enter__(self) -> Served:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


@pytest.mark.parametrize("kind", [Never, Blocks, Computes])
def test_handlers_of_one_owner_hold_up_no_others(place: Places, kind: type[Function]) -> None:
    """They do nothing but wait, or hold up their thread, or compute; the other's first packets are all answered."""
    here, there = place(2), place(2)
    with Network("twin", namespace=here.switching) as one, Network("twin", namespace=there.switching) as other:
        punting(one, here, kind)
        punting(other, there, PatientLearner)
        with Served(one), Served(other):
            first_packets(here.hosts[0], here.hosts[1], 20 if kind is not Never else 200)
            sent = first_packets(there.hosts[0], there.hosts[1], 100)
            assert sorted(there.hosts[1].captured(100)) == sorted(sent)
            assert other.served.returned == 100 and one.served.returned < 20
        assert other.drops == {}


def test_waiting_handlers_share_a_loop(place: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coroutines that never end: neither a network in the same loop nor another function of theirs waits for them."""
    monkeypatch.setattr(slowpath, "PATIENCE", 1.0)
    here, there = place(4), place(2)
    with (Network("twin", namespace=here.switching, ring=1 << 20) as one,
          Network("twin", namespace=there.switching) as other):
        punting(one, here, Never)
        one.add("beside", PatientLearner())
        one.attach("beside:inside", here.hosts[2].edge)
        one.attach("beside:outside", here.hosts[3].edge)
        punting(other, there, PatientLearner)

        async def both() -> None:
            serving = [asyncio.create_task(net.serve()) for net in (one, other)]
            first_packets(here.hosts[0], here.hosts[1], 200)
            await asyncio.sleep(0.2)
            for at, a, b in ((here, 2, 3), (there, 0, 1)):
                sent = first_packets(at.hosts[a], at.hosts[b], 100)
                assert sorted(await asyncio.to_thread(at.hosts[b].captured, 100)) == sorted(sent)
            assert one.served.events - 100 <= 2 * slowpath.AT_ONCE
            deadline = time.monotonic() + 30
            while one.served.failed < 200 and time.monotonic() < deadline:      # each has had its second
                await asyncio.sleep(0.05)
            assert one.served.failed == 200
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
        asyncio.run(both())
        assert other.drops == {}
