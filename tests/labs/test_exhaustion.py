"""Floods that would fill tables: who was there goes on, who is new is refused by name, and room comes back by itself.

Real hosts talk through real functions while another sends frames, as fast as it can, that cost a table an entry each.
"""
from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric.running import Running
from iovisor.functions.firewall import Firewall
from iovisor.functions.switch import Switch
from iovisor.language import SECOND, Clock
from iovisor.testing import Host, Lab
from iovisor.testing.packets import ethernet, fragment, ipv4, ipv6, tcp, udp
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
MANY, NIGHTLY = 6_000, 200_000
PORT = 8_000


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    yield
    Clock.run()


@pytest.fixture
def many(nightly: bool) -> int:
    return NIGHTLY if nightly else MANY


class Session:
    """A TCP session that is asked now and then whether it still lives."""

    def __init__(self, client: Host, server: Host) -> None:
        self.listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((server.ipv4, PORT))
        self.listener.listen()
        self.client = client.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.client.settimeout(20)
        self.client.connect((server.ipv4, PORT))
        self.server, _ = self.listener.accept()
        self.server.settimeout(20)

    def lives(self) -> bool:
        """Whether both ends hear each other."""
        for one, other in ((self.client, self.server), (self.server, self.client)):
            one.sendall(b"still there?")
            if other.recv(100) != b"still there?":
                return False
        return True

    def close(self) -> None:
        for end in (self.client, self.server, self.listener):
            end.close()


@pytest.fixture
def session(lab: Lab) -> Iterator[list[Session]]:
    made: list[Session] = []
    yield made
    for one in made:
        one.close()


def test_stations(lab: Lab, images: Cache, session: list[Session], many: int) -> None:
    """Invented addresses never expose a pair that talks, and a newcomer is learned when they have aged."""
    one, two, attacker, late = lab.hosts("one", "two", "attacker", "late")
    with lab.join(Switch(stations=512, quota=400), [one, two, attacker, late], cache=images) as lan:
        session.append(Session(one, two))
        pair = {one.mac.to_bytes(6, "big"), two.mac.to_bytes(6, "big")}
        chance = random.Random(7)
        with attacker.capture() as seen:
            for number in range(many):
                source = chance.getrandbits(48) & ~(1 << 40)
                attacker.send(ethernet(dst="02:00:00:00:00:77", src=source, type=0x88b5) / bytes(46))
                if number % 1_000 == 0:
                    assert session[0].lives()
            assert session[0].lives()
            assert not seen.frames(lambda frame: frame[:6] in pair and frame[6:12] in pair)
        switch = lan.function
        assert isinstance(switch, Switch)
        assert len(switch.stations) <= 402 and switch.unlearned.read(2).packets >= many - 400
        Clock.advance(301 * SECOND)
        switch.age()
        assert late.ping(one, count=1) == 1 and session[0].lives()
        assert {station["port"] for station in switch.show()} == {0, 1, 3}


def walled(lab: Lab, images: Cache, **settings: int) -> tuple[Host, Host, Firewall, Running]:
    """Two hosts, and a firewall between them through which all may begin."""
    inside, outside = lab.hosts("inside", "outside")
    wall = Firewall(rules=[{"action": "accept"}], **settings)
    return inside, outside, wall, lab.join(wall, [inside, outside], cache=images)


def test_half_open_connections(lab: Lab, images: Cache, session: list[Session], many: int) -> None:
    """A flood of SYNs takes the place of other SYNs and nothing else; who is patient still comes in."""
    inside, outside, wall, _ = walled(lab, images, transitory=256)
    session.append(Session(inside, outside))
    for number in range(many):
        source = 0x0b000000 + number
        outside.send(ethernet(dst=inside.mac, src=outside.mac) / ipv4(src=source, dst="10.0.0.77")
                     / tcp(src=number & 0xffff, dst=80, flags=2, sequence=number))
        if number % 1_000 == 0:
            assert session[0].lives()
    # The kernel rounds an LRU up, by some entries a CPU.
    assert session[0].lives() and len(wall.connections.transitory) <= 256 + 64
    assert wall.connections.established.spec.size == 65_536 and len(wall.connections.established) == 1
    session.append(Session(outside, inside))
    assert session[1].lives()


def test_established_connections(lab: Lab, images: Cache, session: list[Session], many: int) -> None:
    """Two packets a flow fill the table: then new ones are refused by name, until the others are too old."""
    inside, outside, wall, running = walled(lab, images, connections=512, transitory=4_096)
    session.append(Session(inside, outside))
    for number in range(many // 2):
        there = 0x0b000000 + number
        inside.send(ethernet(dst=outside.mac, src=inside.mac) / ipv4(src="10.0.0.66", dst=there) / udp(src=9, dst=9))
        outside.send(ethernet(dst=inside.mac, src=outside.mac) / ipv4(src=there, dst="10.0.0.66") / udp(src=9, dst=9))
        if number % 500 == 0:
            assert session[0].lives()
    assert len(wall.connections.established) == 512
    counted = running.drops
    assert counted["FULL"] >= many // 2 - 512 - 100, counted
    assert session[0].lives()
    Clock.advance(301 * SECOND)
    wall.connections.sweep()
    assert len(wall.connections.established) == 1, "what was invented is too old, the session is not"
    session.append(Session(outside, inside))
    assert session[0].lives() and session[1].lives()
    assert running.drops["FULL"] == counted["FULL"]


def test_fragments(lab: Lab, images: Cache, session: list[Session], many: int) -> None:
    """First fragments without end: memory stays what it was, and honest fragments find their first."""
    inside, outside, wall, _ = walled(lab, images, trains=512, transitory=4_096)
    session.append(Session(inside, outside))
    stop = threading.Event()

    def flood() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            outside.send(ethernet(dst=inside.mac, src=outside.mac) / ipv4(
                src="10.0.0.77", dst=0x0b000000 + (number & 0xfff), mf=1, id=number & 0xffff)
                / udp(src=number & 0xffff, dst=9) / bytes(8))
            if number % 8 == 0:
                outside.send(ethernet(dst=inside.mac, src=outside.mac) / ipv6(src="fd00::77", dst="fd00::78")
                             / fragment(offset=0, more=1, id=number) / udp(src=9, dst=number & 0xffff) / bytes(8))

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        assert session[0].lives()
        # A train that is pushed out between its first fragment and its second is lost; not all may be.
        assert until(lambda: inside.ping(outside, count=1, size=4_000) == 1)
        assert session[0].lives()
    finally:
        stop.set()
        flooding.join()
    assert sum(1 for _ in wall.connections.fragments.home.items()) <= 512 + 64
    assert inside.ping(outside, count=3, size=4_000) == 3 and inside.ping(outside, count=3, size=4_000, six=True) == 3

