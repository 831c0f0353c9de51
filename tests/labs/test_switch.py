"""The switch in TC between real hosts: their own stacks talk through it, and raw frames are counted byte for byte.

Each test fails without the switch: the hosts are on nothing but its ports.
"""
from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.switch import Switch
from iovisor.language import SECOND, Clock
from iovisor.testing import Frame, Host, Lab
from iovisor.testing.packets import ethernet, ipv4, udp, vlan

pytestmark = [pytest.mark.root, pytest.mark.lab]

TYPE = 0x88b5           # experimental: no host answers it


@pytest.fixture(scope="session")
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


def test(frame: bytes) -> bool:
    """Whether a frame is one of a test's, tagged or not."""
    return TYPE.to_bytes(2, "big") in (frame[12:14], frame[16:18], frame[20:22])


test.__test__ = False  # type: ignore[attr-defined]


def to(target: int, source: int, *tags: int, payload: bytes = b"exact bytes") -> Frame:
    frame: Frame = ethernet(dst=target, src=source) / b""
    if tags:
        frame = ethernet(dst=target, src=source, type=0x8100) / b""
        for tag in tags[:-1]:
            frame = frame / vlan(vid=tag & 0xfff, pcp=tag >> 13, type=0x8100)
        return frame / vlan(vid=tags[-1] & 0xfff, pcp=tags[-1] >> 13, type=TYPE) / payload
    return ethernet(dst=target, src=source, type=TYPE) / payload


def seen(hosts: list[Host], action: Callable[[], None], expected: int) -> list[list[bytes]]:
    """What each host receives of a test's frames because of `action`; waits until there are `expected`, and then for
    one too many."""
    captures = [host.capture() for host in hosts]
    try:
        action()
        deadline = time.monotonic() + 10
        while sum(len(c.frames(test)) for c in captures) < expected and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        found = [capture.frames(test) for capture in captures]
        assert sum(map(len, found)) == expected, found
        return found
    finally:
        for capture in captures:
            capture.close()


def test_hosts_talk_only_through_it(lab: Lab, images: Cache) -> None:
    one, two, three = lab.hosts("one", "two", "three")
    assert one.ping(two, count=1) == 0
    with lab.join(Switch(), [one, two, three], cache=images) as running:
        assert one.ping(two) == 3
        assert two.ping(three, six=True) == 3
        assert one.ping(three, six=True, size=1400) == 3
        stations = {key.mac: station.port for key, station in running.function.tables["stations"].items()}
        assert stations == {one.mac: 0, two.mac: 1, three.mac: 2}
    assert one.ping(two, count=1) == 0


def test_big_datagrams_come_in_pieces(lab: Lab, images: Cache) -> None:
    one, two = lab.hosts("one", "two")
    data = random.Random(1).randbytes(8_000)
    with lab.join(Switch(), [one, two], cache=images), \
            two.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, \
            one.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, two.capture() as capture:
        receiver.bind((two.ipv4, 4000))
        receiver.settimeout(3)
        for _ in range(5):
            sender.sendto(data, (two.ipv4, 4000))
            assert receiver.recv(10_000) == data
        pieces = capture.frames(lambda frame: frame[12:14] == b"\x08\x00")
        assert len(pieces) == 5 * 6 and max(map(len, pieces)) <= 1514


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp_in_bulk(family: int, lab: Lab, images: Cache) -> None:
    """With the offloads on: aggregates of 64 kB with unfinished checksums."""
    one, two = lab.hosts("one", "two")
    data = random.Random(2).randbytes(8 << 20)
    with lab.join(Switch(), [one, two], cache=images), two.socket(family, socket.SOCK_STREAM) as listener:
        address = two.ipv4 if family == socket.AF_INET else two.ipv6
        listener.bind((address, 5000))
        listener.listen()
        listener.settimeout(5)

        def send() -> None:
            with one.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(20)
                sender.connect((address, 5000))
                sender.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        digest, count = hashlib.sha256(), 0
        with connection:
            connection.settimeout(20)
            while part := connection.recv(1 << 16):
                digest.update(part)
                count += len(part)
        thread.join()
    assert (count, digest.hexdigest()) == (len(data), hashlib.sha256(data).hexdigest())


def test_copies_are_counted(lab: Lab, images: Cache) -> None:
    """A frame to a stranger reaches everybody else once; to a station it reaches that one alone; never its sender."""
    hosts = lab.hosts("one", "two", "three", "four")
    one, two, _, _ = hosts
    with lab.join(Switch(), hosts, cache=images) as running:
        frame = bytes(to(0x02_99_00_00_00_01, one.mac))
        assert seen(hosts, lambda: one.send(frame), 3) == [[], [frame], [frame], [frame]]
        answer = bytes(to(one.mac, two.mac))
        assert seen(hosts, lambda: two.send(answer), 1) == [[answer], [], [], []]
        burst = [bytes(to(two.mac, one.mac, payload=bytes([n]) * 60)) for n in range(100)]
        assert seen(hosts, lambda: one.send(*burst), 100) == [[], burst, [], []]
        tagged = bytes(to(0xffff_ffff_ffff, one.mac, 0x2005, 7))     # without `vlans` tags pass untouched
        assert seen(hosts, lambda: one.send(tagged), 3) == [[], [tagged], [tagged], [tagged]]
        group = bytes(to(0x0180_c200_0000, one.mac))
        assert seen(hosts, lambda: one.send(group), 0) == [[], [], [], []]
        assert running.drops == {"RESERVED_ADDRESS": 1}
        received = running.function.tables["received"].read(0)  # type: ignore[attr-defined]
        assert received.packets == 103


def test_frames_of_every_length_arrive_as_they_were(lab: Lab, images: Cache) -> None:              # L2-09, 13, 16
    """Of IP and of LLC, byte for byte, each once and in order; a thousand and a half of each, then five thousand."""
    one, two = lab.hosts("one", "two")
    chance = random.Random(9)
    with lab.join(Switch(), [one, two], cache=images), two.capture() as capture:
        two.send(to(one.mac, two.mac))
        for llc in (False, True):
            frames = []
            for length in range(60, 1515):
                payload = b"\x42\x42\x03" + chance.randbytes(length - 17) if llc else chance.randbytes(length - 14)
                kind = len(payload) if llc else 0x88b5
                frames.append(bytes(ethernet(dst=two.mac, src=one.mac, type=kind) / payload))
            for frame in frames:
                one.send(frame)
            assert capture.wait(len(frames), seconds=20) == frames
            capture.clear()
        many = [bytes(to(two.mac, one.mac, payload=number.to_bytes(46, "big"))) for number in range(5_000)]
        got: list[bytes] = []
        for begin in range(0, len(many), 500):
            one.send(*many[begin:begin + 500])
            got += capture.wait(500, seconds=20)
            capture.clear()
        assert got == many


OFFICE = {0: {"access": 10}, 1: {"access": 10}, 2: {"access": 20}, 3: {"trunk": [10, 20], "native": 1}}


def test_vlans_keep_apart(lab: Lab, images: Cache) -> None:
    hosts = lab.hosts("ten", "also", "twenty", "trunk")
    ten, also, twenty, trunk = hosts
    with lab.join(Switch(vlans=True, ports=OFFICE), hosts, cache=images) as running:
        everybody = 0xffff_ffff_ffff
        # From an access port: bare to its VLAN's access ports, tagged to the trunk.
        frame = bytes(to(everybody, ten.mac))
        assert seen(hosts, lambda: ten.send(frame), 2) == [[], [frame], [], [bytes(to(everybody, ten.mac, 10))]]
        # Priority survives where a tag does.
        first = bytes(to(everybody, ten.mac, 0xa000))
        assert seen(hosts, lambda: ten.send(first), 2) == [[], [frame], [], [bytes(to(everybody, ten.mac, 0xa00a))]]
        # From the trunk: only where the VLAN is.
        for vid, receivers in ((10, [ten, also]), (20, [twenty])):
            tagged = bytes(to(everybody, trunk.mac, vid))
            bare = bytes(to(everybody, trunk.mac))
            expected = [[bare] if host in receivers else [] for host in hosts]
            assert seen(hosts, lambda sent=tagged: trunk.send(sent), len(receivers)) == expected  # type: ignore[misc]
        # The native VLAN is nobody else's; a VLAN that is not listed, or tags on an access port, go nowhere.
        for sender, refused in ((trunk, to(everybody, trunk.mac)), (trunk, to(everybody, trunk.mac, 30)),
                                (ten, to(everybody, ten.mac, 10)), (ten, to(everybody, ten.mac, 20))):
            assert seen(hosts, lambda s=sender, f=refused: s.send(f), 0) == [[], [], [], []]  # type: ignore[misc]
        # Unicast within a VLAN, from access to trunk and back.
        assert seen(hosts, lambda: ten.send(to(trunk.mac, ten.mac)), 1)[3] == [bytes(to(trunk.mac, ten.mac, 10))]
        assert seen(hosts, lambda: trunk.send(to(ten.mac, trunk.mac, 10)), 1)[0] == [bytes(to(ten.mac, trunk.mac))]
        # The same address in another VLAN is another station.
        assert seen(hosts, lambda: twenty.send(to(ten.mac, twenty.mac)), 1)[3] == [bytes(to(ten.mac, twenty.mac, 20))]
        assert ten.ping(also) == 3 and ten.ping(twenty, count=1) == 0
        assert running.drops["VLAN_INGRESS_FILTER"] >= 3


def test_no_hopping(lab: Lab, images: Cache) -> None:
    """A tag behind a tag never becomes the outer one at a host that is not in that VLAN."""
    hosts = lab.hosts("ten", "also", "twenty", "trunk")
    _, _, _, trunk = hosts
    with lab.join(Switch(vlans=True, ports=OFFICE), hosts, cache=images):
        nested = to(0xffff_ffff_ffff, trunk.mac, 10, 20)
        assert seen(hosts, lambda: trunk.send(nested), 0) == [[], [], [], []]


def test_a_station_moves(lab: Lab, images: Cache) -> None:
    hosts = lab.hosts("one", "two", "three")
    one, two, three = hosts
    with lab.join(Switch(), hosts, cache=images):
        roamer = 0x02_aa_00_00_00_01
        two.send(to(one.mac, roamer))
        one.send(to(two.mac, one.mac))
        frame = bytes(to(roamer, one.mac))
        assert seen(hosts, lambda: one.send(frame), 1) == [[], [frame], []]
        three.send(to(one.mac, roamer))
        assert seen(hosts, lambda: one.send(frame), 1) == [[], [], [frame]]


def test_the_silent_are_forgotten(lab: Lab, images: Cache) -> None:
    """Five minutes in no time."""
    hosts = lab.hosts("one", "two", "three")
    one, two, _ = hosts
    with lab.join(Switch(ageing="300s"), hosts, cache=images) as running:
        switch = running.function
        assert isinstance(switch, Switch)
        frame = bytes(to(two.mac, one.mac))
        assert one.ping(two, count=1) == 1
        Clock.advance(299 * SECOND)
        assert seen(hosts, lambda: one.send(frame), 1) == [[], [frame], []]
        Clock.advance(2 * SECOND)
        assert seen(hosts, lambda: one.send(frame), 2) == [[], [frame], [frame]]
        switch.age()
        assert {key.mac for key, _ in switch.stations.items()} == {one.mac}


def test_it_can_be_reconfigured_while_it_runs(lab: Lab, images: Cache) -> None:
    hosts = lab.hosts("one", "two", "three")
    one, _, _ = hosts
    with lab.join(Switch(), hosts, cache=images) as running:
        frame = bytes(to(0xffff_ffff_ffff, one.mac))
        assert seen(hosts, lambda: one.send(frame), 2) == [[], [frame], [frame]]
        running.reconfigure(vlans=True, ports={0: {"access": 5}, 1: {"access": 5}, 2: {"access": 6}})
        assert seen(hosts, lambda: one.send(frame), 1) == [[], [frame], []]


def test_a_capture_becomes_a_file(lab: Lab, images: Cache, tmp_path: Path) -> None:
    one, two = lab.hosts("one", "two")
    with lab.join(Switch(), [one, two], cache=images), two.capture() as capture:
        frame = ethernet(dst=two.mac, src=one.mac) / ipv4(src=one.ipv4, dst=two.ipv4) / udp(src=1, dst=9) / b"x"
        one.send(frame)
        assert capture.wait(1, lambda data: data == bytes(frame)) == [bytes(frame)]
        capture.save(tmp_path / "lab.pcapng")
        assert bytes(frame) in (tmp_path / "lab.pcapng").read_bytes()
