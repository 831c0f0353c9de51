"""Power cuts, as a machine that hypothesis drives: no address is ever promised to two clients.

The kernel is the function's data path in CPython, above tables in memory; Python is another object of the function,
whose durable tables lie above those, kept on a real shelf.  Messages, commits, saves, deaths of the process and power
cuts come in any order.  A client believes in its lease from when it asked (RFC 2131 section 4.4.1), for as long as it
was told, whatever became of the server meanwhile.
"""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from iovisor.fabric.durable import Durable
from iovisor.fabric.shelf import Era
from iovisor.functions.dhcp import Dhcp
from iovisor.language import SECOND, Clock, Packet, forward, now
from iovisor.language.tables import PythonHome
from iovisor.store import Shelf
from iovisor.wire.dhcp import DhcpOption, DhcpType
from tests.functions.test_dhcp import MAC, SERVER, Reply, asked, ip

D, R = DhcpType, DhcpOption
CLIENTS = (0x02_00_00_00_00_01, 0x02_00_00_00_00_02, 0x02_00_00_00_00_03)
WISHES = (None, 60, 1200)


@dataclass
class Client:
    """What one believes."""

    address: str = ""
    until: int = 0                      # by the clock on the wall, in nanoseconds
    asked: int = 0
    offered: str = ""
    wish: int | None = None


@dataclass
class Kept:
    function: Dhcp
    at: str = "dhcp:0"


def server() -> Dhcp:
    return Dhcp(server=SERVER, mac=MAC, lease="600s", longest="1200s", quota=0,
                subnets=[{"prefix": "10.0.0.0/24", "pools": ["10.0.0.100-10.0.0.101"]}])


class Power(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
        self.wall, self.wrong, self.boots = 10**18, 0, 0
        self.clients = {mac: Client() for mac in CLIENTS}
        self.boot(first=True)

    def teardown(self) -> None:
        self.durable.leave()
        shutil.rmtree(self.folder)
        Clock.run()

    # -- the machine --------------------------------------------------------------------------------------------------

    def boot(self, first: bool = False) -> None:
        """Everything anew, but for the shelf."""
        self.boots += 1
        Clock.stand(10 * SECOND)
        self.kernel = server()
        self.process()
        former = self.durable.former("dhcp", self.python)
        assert (former is None) == first
        self.durable.begin(Kept(self.python), former)
        self.durable._together = 1                                  # commits come when a rule says so

    def process(self) -> None:
        """Python anew, above the kernel's tables."""
        self.python = Dhcp(config=self.kernel.config)
        for name, found in self.kernel.tables.items():
            assert isinstance(found.home, PythonHome)
            self.python.tables[name].home = found.home
        self.durable = Durable(Shelf(f"{self.folder}/entries.db"), self.failed,
                               Era(str(self.boots), now, lambda: self.wall + self.wrong))

        def post(port: int, frame: bytes, segment: int) -> None:
            self.durable.after(Sender(), lambda: self.hear(frame))  # type: ignore[arg-type]
        self.python.post = post

    def failed(self, instance: Any) -> None:
        raise AssertionError("a frame did not leave")

    def say(self, mac: int, kind: DhcpType, options: dict[int, bytes] | None = None, **fields: Any) -> None:
        """A client asks; the kernel answers, or leaves it to Python."""
        client = self.clients[mac]
        client.asked = self.wall
        wish: dict[int, bytes] = {} if client.wish is None else {R.LEASE_TIME: client.wish.to_bytes(4, "big")}
        frame = asked(kind, {**(options or {}), **wish}, chaddr=mac, **fields)
        packet = Packet(frame, 0)
        verdict = self.kernel.run(packet)
        if verdict == forward(0):
            self.hear(bytes(packet))
        elif verdict.event is not None:
            self.python.heard(verdict.event, Packet(frame, 0))      # type: ignore[arg-type]

    def hear(self, frame: bytes) -> None:
        """A client is told."""
        reply = Reply(frame)
        client = self.clients[reply.head.address]
        if reply.kind == D.OFFER:
            client.offered = reply.yours
        elif reply.kind == D.ACK:
            client.address, client.until = reply.yours, client.asked + reply.number(R.LEASE_TIME) * SECOND
        else:
            client.until = 0

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(mac=st.sampled_from(CLIENTS), wish=st.sampled_from(WISHES))
    def leases(self, mac: int, wish: int | None) -> None:
        """The four messages, and everything they wait for."""
        self.clients[mac].wish = wish
        self.discovers(mac)
        self.commits()
        self.requests(mac)
        self.commits()

    @rule(mac=st.sampled_from(CLIENTS))
    def discovers(self, mac: int) -> None:
        self.say(mac, D.DISCOVER)

    @rule(mac=st.sampled_from(CLIENTS))
    def requests(self, mac: int) -> None:
        if self.clients[mac].offered:
            self.say(mac, D.REQUEST, {R.SERVER: ip(SERVER), R.REQUESTED: ip(self.clients[mac].offered)})

    @rule(mac=st.sampled_from(CLIENTS), times=st.integers(1, 2))
    def was_here(self, mac: int, times: int) -> None:
        """INIT-REBOOT; the second time the kernel may know what to say."""
        for _ in range(times if self.clients[mac].address else 0):
            self.say(mac, D.REQUEST, {R.REQUESTED: ip(self.clients[mac].address)})

    @rule(mac=st.sampled_from(CLIENTS))
    def releases(self, mac: int) -> None:
        client = self.clients[mac]
        if client.until > self.wall:
            client.until = 0
            self.say(mac, D.RELEASE, {R.SERVER: ip(SERVER)}, client=int.from_bytes(ip(client.address), "big"),
                     dst=SERVER)

    @rule(seconds=st.sampled_from((1, 20, 59, 61, 590, 610, 1300)))
    def time_passes(self, seconds: int) -> None:
        Clock.advance(seconds * SECOND)
        self.wall += seconds * SECOND

    @rule()
    def commits(self) -> None:
        self.begins_a_commit()
        self.ends_a_commit()
        self.durable.flush()

    @rule()
    def begins_a_commit(self) -> None:
        """It is on disk; nobody knows yet."""
        if self.durable._flying is None and self.durable._pending.writes:
            batch = self.durable._take()
            batch.future = self.durable._commit(batch)
            batch.future.result()

    @rule()
    def ends_a_commit(self) -> None:
        if self.durable._flying is not None:
            self.durable._land(self.durable._flying)

    @rule()
    def saves(self) -> None:
        """What the kernel has changed."""
        self.durable.save()

    @rule()
    def saves_a_part(self) -> None:
        self.durable._saving(self.durable._changed()[:1]).result()

    @rule()
    def dies(self) -> None:
        """The process; the kernel goes on, and another process takes over."""
        self.durable.leave()
        self.process()
        self.durable.resume([Kept(self.python)])
        self.durable._together = 1

    @rule(seconds=st.sampled_from((0, 30, 599, 700)), wrong=st.sampled_from((0, -10**6, 10**6)))
    def power_goes(self, seconds: int, wrong: int) -> None:
        """For a time; the clock on the wall may be read wrongly from then on."""
        self.durable.leave()
        self.wall += seconds * SECOND
        self.wrong = wrong * SECOND
        self.boot()

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def nobody_else_has_it(self) -> None:
        held = [client.address for client in self.clients.values() if client.until > self.wall]
        assert len(set(held)) == len(held), held

    @invariant()
    def who_has_it_is_known(self) -> None:
        """The server stands by what it said, for as long as it was believed."""
        moment = now()
        for client in self.clients.values():
            if client.until > self.wall:
                assert not self.python.book().is_free(int.from_bytes(ip(client.address), "big"), moment)

    @invariant()
    def both_tables_agree(self) -> None:
        assert {(lease.address, bytes(client)) for client, lease in self.python.clients.items()} == {
            (address, bytes(client)) for address, client in self.python.holders.items()}


class Sender:
    name = "dhcp"


TestPower = Power.TestCase
TestPower.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.fixture
def power() -> Iterator[Power]:
    machine = Power()
    yield machine
    machine.teardown()


def everybody_asks(power: Power) -> None:
    """Whoever can be given an address has one, and nobody has one twice."""
    for mac in CLIENTS[1:]:
        power.leases(mac, None)
    power.nobody_else_has_it()
    power.who_has_it_is_known()


def test_what_the_kernel_made_longer_of_what_was_being_written(power: Power) -> None:
    """Python writes of a lease that the kernel had made longer, unsaved, and dies: it is as long as it could be."""
    power.leases(CLIENTS[0], None)
    power.was_here(CLIENTS[0], 1)
    power.commits()
    power.saves()
    power.time_passes(590)
    power.was_here(CLIENTS[0], 1)
    assert not power.durable._pending.writes                        # the kernel's
    power.requests(CLIENTS[0])
    power.say(CLIENTS[0], D.REQUEST, {R.REQUESTED: ip(power.clients[CLIENTS[0]].address), R.WISHES: b"\1"})
    assert power.durable._pending.writes
    power.dies()
    power.time_passes(61)
    assert power.clients[CLIENTS[0]].until > power.wall
    everybody_asks(power)


def test_the_kernel_gives_no_more_than_was_told_last(power: Power) -> None:
    """A reply for 1200 seconds lies ready when the lease is for 60: what is on disk allows for 60."""
    power.leases(CLIENTS[0], 1200)
    power.was_here(CLIENTS[0], 1)
    power.commits()
    power.clients[CLIENTS[0]].wish = 60
    power.was_here(CLIENTS[0], 1)
    power.commits()
    power.saves()
    power.clients[CLIENTS[0]].wish = 1200
    power.was_here(CLIENTS[0], 1)
    power.commits()
    power.power_goes(0, 0)
    power.time_passes(61)
    assert power.clients[CLIENTS[0]].until > power.wall
    everybody_asks(power)
