"""The mirror in the kernel: copies counted and compared byte for byte, beside traffic that does not notice."""
from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.fabric import Edge, Network
from iovisor.functions.mirror import Mirror
from iovisor.functions.switch import Switch
from iovisor.kernel import Direction, attached
from iovisor.testing import Host, Lab
from iovisor.testing.packets import Frame, ethernet, ipv4, ipv6, udp
from iovisor.wire.gre import Erspan, Gre, GreWord

pytestmark = [pytest.mark.root, pytest.mark.lab]

INSIDE, OUTSIDE, MONITOR = 0, 1, 2
COUNT = 2_000
TUNNEL: dict[str, Any] = {"sender": "02:00:00:00:00:0a", "gateway": "02:00:00:00:00:0b", "session": 9}


class Site:
    """Hosts a and b, a mirror between them, and who watches."""

    def __init__(self, lab: Lab, **config: Any) -> None:
        self.a, self.b, self.c = lab.hosts("a", "b", "c")
        self.running = lab.join(Mirror(**config), [self.a, self.b, self.c])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as found:
        yield found


def numbered(host: Host, number: int, six: bool = False, size: int = 20) -> Frame:
    link = ethernet(dst=f"02:00:00:00:00:0{3 - host.number}", src=f"02:00:00:00:00:0{host.number}")
    ip = ipv6(src="fd00::1", dst="fd00::2") if six else ipv4(src="10.0.0.1", dst="10.0.0.2")
    return link / ip / udp(src=5, dst=9) / (struct.pack("!I", number) + bytes(size))


def ours(frame: bytes) -> bool:
    """Not what the hosts' own stacks say to it."""
    return frame[34:38] == b"\0\5\0\t" or (frame[54:58] == b"\0\5\0\t" and frame[12:14] == b"\x86\xdd")


def test_every_packet_once_and_in_order(lab: Lab) -> None:
    """Both families, out: N packets, N copies, in order, and N packets at the other end."""
    site = Site(lab)
    frames = [bytes(numbered(site.a, number, six=number % 2 == 1)) for number in range(COUNT)]
    with site.c.capture() as copies, site.b.capture() as passed:
        for start in range(0, COUNT, 100):
            site.a.send(*frames[start:start + 100])
        assert passed.wait(COUNT, ours) == frames
        assert copies.wait(COUNT, ours) == frames
    assert site.running.function.method("show")()[0]["lost"] == 0


def test_the_filter_and_the_cut(lab: Lab) -> None:
    site = Site(lab, filter=[{"source": "fd00::/64", "protocol": "udp"}], truncate=128)
    frames = [bytes(numbered(site.a, number, six=number % 2 == 1, size=500)) for number in range(200)]
    with site.c.capture() as copies, site.b.capture() as passed:
        site.a.send(*frames)
        assert passed.wait(200, ours) == frames, "whole, whatever becomes of their copies"
        assert copies.wait(100, ours) == [frame[:128] for frame in frames[1::2]]


def test_tcp_does_not_notice(lab: Lab) -> None:
    """Bulk TCP with its aggregates: all of it arrives, and all of it at the monitor, as often as it was sent."""
    site, size = Site(lab, direction="out", encapsulation="erspan", source="192.0.2.1", destination="192.0.2.9",
                      truncate=128, **TUNNEL), 4 << 20
    with site.c.capture() as copies, site.b.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("10.0.0.2", 8_000))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with site.a.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
                sender.connect(("10.0.0.2", 8_000))
                sender.sendall(bytes(size))

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        received = 0
        with connection:
            connection.settimeout(20)
            while part := connection.recv(1 << 20):
                received += len(part)
        thread.join()
        row = site.running.function.method("show")()[0]
        found = copies.wait(row["packets"], lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 47)
    assert received == size and row["lost"] == 0
    assert len(found) == row["packets"] > 50
    head = Gre.decode(found[0][34:38])
    assert (head.sequenced, head.type) == (1, 0x88be)
    assert [GreWord.decode(frame[38:42]).value for frame in found] == list(range(len(found)))
    for frame in found:
        erspan = Erspan.decode(frame[42:50])
        assert (erspan.version, erspan.session) == (1, 9)
        assert frame[56:62] == bytes.fromhex("020000000001") and len(frame) <= 50 + 128
        assert len(frame) == struct.unpack("!H", frame[16:18])[0] + 14


def test_no_copy_of_a_copy(lab: Lab) -> None:
    """The monitor of one mirror is the inside of another: its copies pass, and are not copied again."""
    a, b, c, d = lab.hosts("a", "b", "c", "d")
    with Network("mirrors", namespace=lab.namespace) as net:
        net.add("first", Mirror())
        net.add("second", Mirror())
        net.attach_all({"first:inside": Edge(a.index), "first:outside": Edge(b.index),
                        "second:outside": Edge(c.index), "second:monitor": Edge(d.index)})
        net.link("first:monitor", "second:inside")
        frames = [bytes(numbered(a, number)) for number in range(100)]
        back = [bytes(numbered(b, number)) for number in range(100)]
        with c.capture() as copies, d.capture() as again, b.capture() as passed, a.capture() as returned:
            a.send(*frames)
            b.send(*back)
            assert passed.wait(100, ours) == frames and returned.wait(100, ours) == back
            assert sorted(copies.wait(200, ours)) == sorted(frames + back)
            assert again.frames(ours) == []
        assert net.drops.get("second", {}) == {}


def test_changed_under_traffic_and_taken_out(lab: Lab) -> None:
    """Reconfigured, parted from its monitor: the copies end with a name, and the packets pass."""
    site = Site(lab)
    with site.b.capture() as passed, site.c.capture() as copies:
        site.a.send(*[bytes(numbered(site.a, number)) for number in range(50)])
        assert len(copies.wait(50, ours)) == 50
        site.running.reconfigure(direction="in")
        site.a.send(*[bytes(numbered(site.a, number)) for number in range(50)])
        assert len(passed.wait(100, ours)) == 100 and len(copies.frames(ours)) == 50
        site.running.reconfigure(direction="both")
        site.running.part(MONITOR)
        site.a.send(*[bytes(numbered(site.a, number)) for number in range(50)])
        assert len(passed.wait(150, ours)) == 150 and len(copies.frames(ours)) == 50
    assert site.running.drops["UNWIRED"] == 50


def test_taken_out_it_leaves_nothing(lab: Lab) -> None:
    """Put on a link and taken out again: no packet of either family is missed, and no copy comes later."""
    a, b, c = lab.hosts("a", "b", "c")
    with Network("mirrors", namespace=lab.namespace) as net:
        for name in ("one", "two"):
            net.add(name, Switch(static=[{"mac": host.mac, "port": int(host is (b if name == "one" else a))}
                                         for host in (a, b)]))
        net.attach_all({"one:0": Edge(a.index), "two:0": Edge(b.index)})
        net.link("one:1", "two:1")
        frames = [bytes(numbered(a, number, six=number % 2 == 1)) for number in range(50)]
        with b.capture() as passed, c.capture() as copies:
            a.send(*frames)
            assert passed.wait(50, ours) == frames
            net.add("mirror", Mirror())
            net.attach("mirror:monitor", Edge(c.index))
            net.insert("one:1", "mirror:inside", "mirror:outside")
            a.send(*frames)
            assert passed.wait(100, ours) == frames * 2 and copies.wait(50, ours) == frames
            net.take_out("mirror:inside", "mirror:outside")
            net.detach("mirror:monitor")
            net.remove("mirror")
            a.send(*frames)
            assert passed.wait(150, ours) == frames * 3 and copies.frames(ours) == frames
        assert all(not attached(c.index, way, lab.namespace).program_ids for way in Direction) and not net.drops


def test_adopted_and_revised_it_goes_on_copying(lab: Lab, tmp_path: Any) -> None:
    a, b, c = lab.hosts("a", "b", "c")
    net = Network("mirrors", namespace=lab.namespace, pins=tmp_path / "pins")
    net.add("mirror", Mirror())
    net.attach_all({"mirror:inside": Edge(a.index), "mirror:outside": Edge(b.index), "mirror:monitor": Edge(c.index)})
    frames = [bytes(numbered(a, number)) for number in range(20)]
    with c.capture() as copies:
        a.send(*frames)
        assert copies.wait(20, ours) == frames
        net.leave()
        a.send(*frames)
        assert copies.wait(40, ours) == frames * 2
        net = Network.adopt(tmp_path / "pins", namespace=lab.namespace)
        a.send(*frames)
        assert copies.wait(60, ours) == frames * 3
        with net.revision() as draft:
            draft.reconfigure("mirror", filter=[{"protocol": "udp"}])
        a.send(*frames)
        assert copies.wait(80, ours) == frames * 4
    net.close()
