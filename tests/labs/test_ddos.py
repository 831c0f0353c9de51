"""A SYN flood of ten times the table against real hosts: who is connected stays so, who comes gets in."""
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from iovisor.functions.ddos import Ddos
from iovisor.testing import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, ipv6, tcp
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT, SOURCES, NEWCOMERS = 8_000, 512, 20
FAMILIES = pytest.mark.parametrize("six", [False, True])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as found:
        yield found


def forged(six: bool, count: int) -> list[bytes]:
    """SYNs of as many sources, none of which is there."""
    link = ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    return [bytes(link / (ipv6(src=f"2001:db8:{n:x}::1", dst="fd00::1") if six else
                          ipv4(src=f"198.18.{n >> 8}.{n & 255}", dst="10.0.0.1"))
                  / tcp(src=1_000 + n % 50_000, dst=PORT, flags=2, sequence=n)) for n in range(count)]


class Server:
    """Accepts and echoes, until it is closed."""

    def __init__(self, host: Host, six: bool) -> None:
        self.listener = host.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((host.ipv6 if six else host.ipv4, PORT))
        self.listener.listen(128)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(connection,)).start()

    @staticmethod
    def echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1_000):
                connection.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def connected(host: Host, address: str, six: bool) -> socket.socket:
    made = host.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(20)
    made.connect((address, PORT))
    return made


def echoes(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    return connection.recv(1_000) == text


@FAMILIES
def test_a_flood_of_syns_harms_nobody(six: bool, lab: Lab) -> None:
    inside, outside = lab.hosts("inside", "outside")
    address = inside.ipv6 if six else inside.ipv4
    with lab.join(Ddos(above=50, sources=SOURCES), [inside, outside]) as door:
        server = Server(inside, six)
        flood, stop, sent = forged(six, 10 * SOURCES), threading.Event(), [0]

        def storm() -> None:
            while not stop.is_set():
                outside.send(*flood[:1_000])
                flood.append(flood.pop(0))
                sent[0] += 1_000

        def rounds() -> None:
            outside.send(*flood)
            sent[0] += len(flood)
            storm()

        def counted(what: str) -> int:
            return int(door.function.method("show")()[what])

        thread = threading.Thread(target=rounds)
        try:
            with connected(outside, address, six) as established:
                assert echoes(established, b"before")
                assert counted("answered") == 0, "no flood, no challenge"
                thread.start()
                assert until(lambda: counted("answered") > 10 * SOURCES)
                for number in range(NEWCOMERS):
                    with connected(outside, address, six) as newcomer:
                        assert echoes(newcomer, str(number).encode())
                    assert echoes(established, b"during")
        finally:
            stop.set()
            thread.join()
            server.close()
        shown = door.function.method("show")()
        assert shown["proved"] >= 1 and shown["passed"] >= NEWCOMERS
        assert shown["trusted"] <= SOURCES, "what was forged is in no table"
        assert shown["passed"] < sent[0] // 4, "and most of it did not get through"
        assert door.drops["PROOF"] == shown["proved"]


def test_who_is_blocked_and_who_is_not(lab: Lab) -> None:
    inside, outside = lab.hosts("inside", "outside")
    with lab.join(Ddos(blocked=["10.0.0.2", "fd00::2"]), [inside, outside]) as door:
        assert outside.ping(inside, count=2) == outside.ping(inside, count=2, six=True) == 0
        assert door.drops["BLOCKED"] >= 3       # two echo requests, and one solicitation at least
        door.function.method("block")("10.0.0.3 fd00::/127")
        assert outside.ping(inside, count=2) == outside.ping(inside, count=2, six=True) == 2
        door.reconfigure(rate=5, burst=2)
        assert outside.ping(inside, count=10) < 10
        assert door.drops["RATE"] >= 1
