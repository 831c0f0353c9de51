"""Punted packets and the way back: nothing is lost that was not counted."""
from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable

import pytest

from iovisor.fabric import Network, Traffic
from iovisor.functions.switch import Switch
from iovisor.language import Function, Packet, every
from iovisor.targets.bpf_loaded import event_was_cut
from iovisor.wire.offload import finished
from tests.fabric.functions import (
    Beacon,
    First,
    Gossip,
    Learner,
    LoudBeacon,
    Mute,
    PatientGossip,
    PatientLearner,
    Through,
)
from tests.fabric.hosts import Host, Place
from tests.waiting import until, until_true

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


def served(net: Network, act: Callable[[], object]) -> None:
    """Do something while the slow path is served."""
    async def both() -> None:
        serving = asyncio.create_task(net.serve())
        try:
            await asyncio.to_thread(act)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    asyncio.run(both())


def flows(host: Host, to: Host, count: int, first: int = 0) -> list[bytes]:
    """Frames of so many flows, the last four bytes of the source naming the flow."""
    frames = [(to.mac + b"\2\0" + (0x40000000 + first + i).to_bytes(4, "big") + b"\x88\xb5").ljust(60, b"\0")
              for i in range(count)]
    for frame in frames:
        host.socket.send(frame)
    return frames


def learned(at: Place, net: Network, function: Function) -> None:
    net.add("a", Through())
    net.add("learner", function)
    net.link("a:outside", "learner:inside")
    net.attach("a:inside", at.hosts[0].edge)
    net.attach("learner:outside", at.hosts[1].edge)


@pytest.mark.parametrize("kind", [Learner, PatientLearner])
def test_the_first_packet_is_not_lost(place: Places, kind: type[Function]) -> None:
    at = place(2)
    with Network("slow", namespace=at.switching) as net:
        learned(at, net, kind())

        def act() -> None:
            sent = flows(at.hosts[0], at.hosts[1], 100)
            assert sorted(at.hosts[1].captured(100)) == sorted(sent)
            again = flows(at.hosts[0], at.hosts[1], 100)
            assert at.hosts[1].captured(100) == again
        served(net, act)
        assert net.served.events == net.served.returned == 100 and net.served.failed == 0
        assert net.drops == {}
        assert net.traffic("learner:inside") == (Traffic(200, 12000), Traffic(0, 0))
        assert net.traffic("learner:outside")[1] == Traffic(200, 12000)


@pytest.mark.parametrize("kind", [Gossip, PatientGossip])
def test_what_is_told_of_goes_on_once(place: Places, kind: type[Gossip]) -> None:
    """Whether somebody listens or not; what the handler answers goes nowhere."""
    at = place(2)
    with Network("gossip", namespace=at.switching) as net:
        gossip = kind()
        learned(at, net, gossip)
        most = 400                      # more than the ring takes
        sent = flows(at.hosts[0], at.hosts[1], most)
        assert at.hosts[1].captured(most) == sent

        def heard() -> None:
            assert until(lambda: net.served.events + gossip.untold.read(0).packets == most)
            sent = flows(at.hosts[0], at.hosts[1], 10, first=most)
            assert at.hosts[1].captured(10) == sent
            assert until(lambda: {key & 0x3fffffff for key in gossip.known} >= set(range(most, most + 10)))
        served(net, heard)
        assert net.served.events < most and gossip.untold.read(0).packets > 0
        assert net.served.returned == net.served.failed == 0 and net.drops == {}
        assert net.traffic("learner:outside")[1] == Traffic(most + 10, (most + 10) * 60)


@pytest.mark.parametrize("kind", [Beacon, LoudBeacon])
def test_what_a_function_sends_by_itself(place: Places, kind: type[Beacon]) -> None:
    at = place(2)
    with Network("told", namespace=at.switching) as net:
        beacon = kind()
        net.add("beacon", beacon)
        beacon.tell(0)
        assert until(lambda: net.drops.get("fabric") == {"UNWIRED": 1})
        net.add("a", Through())
        net.link("beacon:1", "a:inside")
        net.attach("beacon:0", at.hosts[0].edge)
        net.attach("a:outside", at.hosts[1].edge)
        for port in (0, 1, 1):
            beacon.tell(port)
        assert at.hosts[0].captured(1) == [beacon.frame]
        assert at.hosts[1].captured(2) == [beacon.frame] * 2
        assert net.traffic("beacon:0")[1] == Traffic(1, 60) and net.traffic("a:inside")[0] == Traffic(2, 120)
        net.detach("beacon:0")
        net.attach("beacon:0", at.hosts[0].edge)
        net.reconfigure("beacon")
        net.upgrade("beacon")
        beacon.tell(0)
        assert at.hosts[0].captured(1) == [beacon.frame]
        if isinstance(beacon, LoudBeacon):
            assert beacon.left[0] == 2 and beacon.left[1] == 2
    assert beacon.outbox == []
    beacon.tell(1)
    assert beacon.outbox == [(1, beacon.frame)]
    with pytest.raises(ValueError, match="has no port 2"):
        beacon.tell(2)


def test_a_datagram_whose_checksum_is_not_finished(place: Places) -> None:
    at = place(2)
    for host, other in (at.hosts, at.hosts[::-1]):
        host.namespace.execute(["ip", "neigh", "add", other.address, "lladdr", other.mac.hex(":"), "dev", "eth0"])
    with Network("slow", namespace=at.switching) as net:
        learned(at, net, PatientLearner())
        receiver = at.hosts[1].namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender = at.hosts[0].namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with receiver, sender:
            receiver.bind(("", 7000))
            receiver.settimeout(2)

            def act() -> None:
                sender.sendto(b"odd", (at.hosts[1].address, 7000))
                assert receiver.recv(100) == b"odd"
                sender.sendto(b"even", (at.hosts[1].address, 7000))
                assert receiver.recv(100) == b"even"
            served(net, act)
        assert net.served.returned == 1


def test_finished_leaves_alone_what_is_finished() -> None:
    """Frames with complete checksums, fragments, other protocols, and frames that are cut."""
    header = bytes.fromhex("450000200000400040110000") + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 12
    datagram = bytes.fromhex("1b581b58000c") + pseudo.to_bytes(2, "big") + b"data"
    frame = bytes(12) + b"\x08\0" + header + datagram
    done = finished(frame)
    total = sum(int.from_bytes(done[i:i + 2], "big") for i in range(34, 46, 2)) + pseudo
    assert done != frame and (total & 0xffff) + (total >> 16) == 0xffff
    assert done[:40] == frame[:40] and done[42:] == frame[42:]
    assert finished(done) == done
    assert finished(frame[:-1]) == frame[:-1]
    assert finished(frame[:20] + b"\x20\0" + frame[22:]) == frame[:20] + b"\x20\0" + frame[22:]
    tagged = frame[:12] + b"\x81\0\0\5" + frame[12:]
    assert finished(tagged) == done[:12] + b"\x81\0\0\5" + done[12:]
    for other in (b"", bytes(14), bytes(60), frame[:12] + b"\x88\xb5" + frame[14:]):
        assert finished(other) == other


def test_what_is_too_much_is_counted(place: Places) -> None:
    """Nobody serves: the ring fills up, and every packet is either in it or a counted drop."""
    at = place(2)
    with Network("slow", namespace=at.switching) as net:
        learned(at, net, Learner())
        sent = flows(at.hosts[0], at.hosts[1], 1200)
        assert at.hosts[1].captured() == []
        lost = net.drops["learner"]["PUNT_LOST"]
        assert 0 < lost < 1200
        served(net, lambda: at.hosts[1].captured(1200 - lost))
        assert net.served.events == 1200 - lost
        assert net.drops == {"learner": {"PUNT_LOST": lost}}
        served(net, lambda: flows(at.hosts[0], at.hosts[1], 10, 1200))
        assert len(sent) == 1200


def test_a_record_says_whether_it_holds_all_of_its_frame() -> None:
    """Longer than an aggregate of 64 kB is none that a device of the fabric gives: a record of one, as it would be."""
    assert event_was_cut(struct.pack("<HHIIHHHHI", 0, 0, 65568, 65569, 0, 0, 0, 0, 0))
    assert not event_was_cut(struct.pack("<HHIIHHHHI", 0, 0, 65568, 65568, 0, 0, 0, 0, 0))


def test_a_long_frame_goes_to_python_and_back_whole(place: Places) -> None:
    at = place(2)
    for host in at.hosts:
        host.namespace.execute(["ip", "link", "set", "eth0", "mtu", "9000"])
        at.switching.execute(["ip", "link", "set", f"p{host.number}", "mtu", "9000"])
    with Network("slow", namespace=at.switching) as net:
        learned(at, net, Learner())
        frame = at.hosts[0].frame(at.hosts[1], bytes(4000))

        def act() -> None:
            at.hosts[0].socket.send(frame)
            at.hosts[0].socket.send(frame)
            assert at.hosts[1].captured(2) == [frame] * 2
        served(net, act)
        assert net.served.returned == net.served.events == net.balance().punted and net.served.cut == 0


def test_a_handler_that_answers_nothing_and_one_that_fails(place: Places, caplog: pytest.LogCaptureFixture) -> None:
    at = place(2)
    with Network("slow", namespace=at.switching) as net:
        function = Mute()
        learned(at, net, function)
        served(net, lambda: (flows(at.hosts[0], at.hosts[1], 3), at.hosts[1].captured()))
        assert net.served.events == 3 and net.served.returned == 0

        def fail(event: First, packet: Packet) -> None:
            raise RuntimeError("on purpose")
        function.first = fail  # type: ignore[method-assign]
        served(net, lambda: (flows(at.hosts[0], at.hosts[1], 2, 50), at.hosts[1].captured()))
        assert net.served.events == 5 and net.served.failed == 2
        assert "a handler of learner failed" in caplog.text and "on purpose" in caplog.text


def test_inject_at_a_port(place: Places) -> None:
    at = place(3)
    with Network("injected", namespace=at.switching) as net:
        net.add("lan", Switch())
        for i, host in enumerate(at.hosts):
            net.attach(f"lan:{i}", host.edge)
        to_all = at.hosts[0].frame(None)
        net.inject(to_all, at="lan:0")
        assert [host.captured(1) for host in at.hosts[1:]] == [[to_all]] * 2
        assert at.hosts[0].captured() == []
        reply = at.hosts[2].frame(at.hosts[0])
        net.inject(Packet(reply), at="lan:2")
        assert at.hosts[0].captured(1) == [reply]                   # the switch has learned where it is
        assert at.hosts[1].captured() == []
        net.inject(to_all, at="lan:9")                              # a port nobody is at
        assert [host.captured(1) for host in at.hosts] == [[to_all]] * 3
        assert net.traffic("lan:0")[0] == Traffic(0, 0)
        with pytest.raises(ValueError, match="a frame has 14 bytes or more, not 3"):
            net.inject(b"abc", at="lan:0")
        with pytest.raises(ValueError, match="there is no instance 'wan'"):
            net.inject(to_all, at="wan:0")
        assert net.drops == {}


class Clock(Through):
    """Counts what it is called."""

    ticks = 0

    @every(0.02)
    def tick(self) -> None:
        self.ticks += 1


def test_timers_and_instances_that_come_and_go(place: Places) -> None:
    at = place(2)
    with Network("timed", namespace=at.switching) as net:
        clock, late, learner = Clock(), Clock(), Learner()
        net.add("clock", clock)

        async def act() -> None:
            serving = asyncio.create_task(net.serve())
            begun = time.monotonic()
            assert await until_true(lambda: clock.ticks >= 4)
            assert clock.ticks <= (time.monotonic() - begun) / 0.02 + 1
            net.add("late", late)
            learned(at, net, learner)
            sent = flows(at.hosts[0], at.hosts[1], 3)
            assert sorted(await asyncio.to_thread(at.hosts[1].captured, 3)) == sent
            assert await until_true(lambda: late.ticks > 1)
            net.remove("late")
            before = late.ticks
            await asyncio.sleep(0.1)
            assert late.ticks - before <= 1
            net.detach("learner:outside")
            net.unlink("learner:inside")
            net.remove("learner")
            await asyncio.sleep(0.05)
            with pytest.raises(RuntimeError, match="served already"):
                await net.serve()
            assert not serving.done()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        asyncio.run(act())
