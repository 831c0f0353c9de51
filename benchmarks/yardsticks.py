"""Ours beside the kernel's own, on the same veths in the same run, round by round in turns.

    TCP             iperf3, one stream, offloads on; Gbit/s
    64-byte UDP     a packet of a flow that is known, `stream`; packets a second that one CPU carries
    round trips     a byte and its answer over TCP; a second
    connections     opened, a byte and its answer, and closed; a second

The other end of the last two is a process of its own.
"""
from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from iovisor.kernel import Netlink, interfaces
from iovisor.testing.lab import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, udp

from .rivals import MACS, RIVALS, Rivals, settle
from .stream import polling, stream

METRICS = ("gigabits", "packets", "trips", "connections")
BAR = 1.0
ECHO = """
import socket, sys
listener = socket.create_server((sys.argv[1], 6000), backlog=1024)
print(flush=True)
while True:
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while byte := peer.recv(1):
            peer.send(byte)
    except ConnectionError:
        pass
    peer.close()
"""
RESET = struct.pack("ii", 1, 0)         # linger for no time: thousands of connections leave no ports behind


class Course:
    """Two hosts, who serve what is measured."""

    def __init__(self, lab: Lab, routed: bool) -> None:
        self.lab, self.routed = lab, routed
        self.hosts = self.one, self.two = lab.hosts("one", "two")
        if routed:
            for number, host in enumerate(self.hosts):
                settle(host, number)
        self.target = "10.1.1.2" if routed else self.two.ipv4
        self.source = "10.1.0.2" if routed else self.one.ipv4
        self.two.start(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        echo = self.two.start([sys.executable, "-c", ECHO, self.target], stdout=subprocess.PIPE)
        assert echo.stdout is not None
        echo.stdout.readline()

    def ready(self) -> None:
        """Return once packets come through."""
        for _ in range(200):
            if self.one.ping(self.target, count=1):
                return
            time.sleep(0.05)
        raise RuntimeError("nothing comes through")

    def gigabits(self, seconds: float) -> float:
        done = self.one.run(["iperf3", "-c", self.target, "-t", str(seconds), "-O", "0.2", "-J"], timeout=60)
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9

    def packets(self, seconds: float) -> float:
        """Of a flow both ends have taken part in."""
        with self.one.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, \
                self.two.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            here.bind((self.source, 9000))
            there.bind((self.target, 9001))
            here.settimeout(5)
            there.settimeout(5)
            for _ in range(2):
                here.sendto(b"x", (self.target, 9001))
                _, seen = there.recvfrom(1)
                there.sendto(b"x", seen)
                here.recv(1)
        to = MACS[0] if self.routed else self.two.mac
        frame = bytes(ethernet(dst=to, src=self.one.mac) / ipv4(src=self.source, dst=self.target)
                      / udp(src=9000, dst=9001) / bytes(18))
        indexes = []
        for host in self.hosts:
            with Netlink(host.namespace) as inside:
                indexes.append(interfaces.index_of(inside, "eth0"))
        with polled(self.lab, self.one), stream(frame, self.one.namespace, indexes[0], self.two.namespace,
                                                indexes[1]) as flow:
            flow.send(1000)
            return 1e9 / median(flow.nanoseconds() for _ in range(max(round(5 * seconds), 1)))

    def trips(self, seconds: float) -> float:
        with self.one.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect((self.target, 6000))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return rate(seconds, lambda: (client.send(b"x"), client.recv(1)))

    def connections(self, seconds: float) -> float:
        def once() -> None:
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.connect((self.target, 6000))
            client.send(b"x")
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        with self.one.namespace.entered():
            return rate(seconds, once)


@contextmanager
def polled(lab: Lab, host: Host) -> Iterator[None]:
    polling(f"to-{host.name}", lab.namespace)
    try:
        yield
    finally:
        polling(f"to-{host.name}", lab.namespace, False)


def rate(seconds: float, act: Callable[[], object]) -> float:
    count, begun = 0, time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        act()
        count += 1
    return count / (now - begun)


def measure(rivals: Rivals, rounds: int = 5, seconds: float = 1) -> dict[str, tuple[float, float, float]]:
    """By metric: of ours, of theirs, and the median of the rounds' ratios."""
    found: dict[str, dict[str, list[float]]] = {kind: {"ours": [], "theirs": []} for kind in METRICS}
    with Lab() as lab:
        course = Course(lab, rivals.routed)
        for number in range(rounds):
            for which in random.Random(number).sample(["ours", "theirs"], 2):
                with (rivals.ours if which == "ours" else rivals.theirs)(lab, list(course.hosts)):
                    course.ready()
                    for kind in METRICS:
                        found[kind][which].append(getattr(course, kind)(seconds))
    return {kind: (median(both["ours"]), median(both["theirs"]),
                   median(a / b for a, b in zip(both["ours"], both["theirs"], strict=True)))
            for kind, both in found.items()}


if __name__ == "__main__":
    for name in sys.argv[1:] or RIVALS:
        for metric, (ours, theirs, ratio) in measure(RIVALS[name], 3).items():
            print(f"{name} {metric}: {ours:,.1f} against {theirs:,.1f}, {ratio:.2f}x", flush=True)
