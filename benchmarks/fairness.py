"""What a network notices of its neighbour's troubles: its TCP throughput, and the time of a request and its answer.

Quiet and noisy take turns round by round; ratios are of the two in one round.  The noise:

    loop    a full mesh of eight hubs, which 1,000 frames a second for everybody are sent into
    punts   20,000 frames a second whose function punts each one, and nobody serves
    bulk    a TCP flow as fast as it goes: what an honest neighbour takes, to compare with
"""
from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from statistics import median, quantiles

from iovisor.fabric import Edge, Network
from iovisor.functions.switch import Switch
from iovisor.language import FLOOD, Function, Packet, Port, Ports, Record, Verdict, handles, ports, punt, u32
from iovisor.testing.lab import Host, Lab

PORT = 7_778


def gigabits(one: Host, two: Host, seconds: float) -> float:
    """TCP, iperf3, one stream."""
    for _ in range(50):                         # until the switching side lets something through
        if one.ping(two, count=1):
            break
        time.sleep(0.02)
    done = one.run(["iperf3", "-c", two.ipv4, "-t", str(seconds), "-O", "1", "-J"], timeout=60)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


class Hub(Function):
    """Everything everywhere."""

    ports: Ports = ports(8)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


class Seen(Record):
    """A packet."""

    length: u32 = 0


class Asks(Function):
    """Punts everything."""

    inside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        return punt(Seen(length=len(pkt)))

    @handles(Seen)
    def seen(self, event: Seen, pkt: Packet) -> None:
        pass


def hail(host: Host, rate: int, ended: multiprocessing.synchronize.Event) -> None:
    """Frames for everybody, in a process of their own."""
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        begun, sent = time.monotonic(), 0
        while not ended.is_set():
            while sent < (time.monotonic() - begun) * rate:
                with suppress(OSError):
                    sender.send((b"\xff" * 6 + b"\2\0\0\0\0\1\x88\xb5").ljust(60, b"\0"))
                sent += 1
            time.sleep(0.0005)


@contextmanager
def hailing(host: Host, rate: int) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    ended = context.Event()
    process = context.Process(target=hail, args=(host, rate, ended))
    process.start()
    try:
        yield
    finally:
        ended.set()
        process.join()


@contextmanager
def loop(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    with Network("loop", namespace=lab.namespace) as net:
        for i in range(8):
            net.add(f"h{i}", Hub())
        for i in range(8):
            for j in range(i + 1, 8):
                net.link(f"h{i}:{j}", f"h{j}:{i}")
        for i, host in enumerate(hosts):
            net.attach(f"h{i}:{i}", Edge(host.index))
        with hailing(hosts[0], 1_000):
            yield
        assert net.drops["fabric"]["STORM"] > 0


@contextmanager
def punts(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    with Network("punts", namespace=lab.namespace) as net:
        net.add("asks", Asks())
        net.attach("asks:inside", Edge(hosts[0].index))
        with hailing(hosts[0], 20_000):
            yield


@contextmanager
def bulk(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    one, two = hosts
    with lab.join(Switch(), hosts):
        one.ping(two)
        server = two.start(["iperf3", "-s"], stdout=-3, stderr=-3)
        time.sleep(0.3)
        client = one.start(["iperf3", "-c", two.ipv4, "-t", "60"], stdout=-3, stderr=-3)
        try:
            yield
        finally:
            for process in (client, server):
                process.kill()
                process.wait()


NOISES = {"loop": (loop, 8), "punts": (punts, 1), "bulk": (bulk, 2)}

ANSWER = f"""
import socket
server = socket.create_server(("", {PORT}))
while True:
    connection = server.accept()[0]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(64):
        connection.send(data)
"""
ASK = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], {PORT}))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
until, took = time.perf_counter() + 1, []
while time.perf_counter() < until:
    begun = time.perf_counter()
    connection.send(b"x")
    connection.recv(64)
    took.append(time.perf_counter() - begun)
print(*took)
"""


def answers(one: Host, two: Host) -> tuple[float, float]:
    """Microseconds of a request and its answer in one byte each: the median, and what 99 of 100 take at most."""
    took = [1e6 * float(word) for word in one.run([sys.executable, "-c", ASK, two.ipv4]).stdout.split()]
    return median(took), quantiles(took, n=100)[98]


def measure(rounds: int = 3, seconds: int = 2) -> dict[str, dict[str, float]]:
    """By noise: Gbit/s and microseconds in quiet and under it, and the medians of the rounds' ratios."""
    found: dict[str, list[tuple[float, ...]]] = {}
    with ExitStack() as undo:
        lab = undo.enter_context(Lab())
        hosts = one, two = lab.hosts("one", "two")
        undo.enter_context(lab.join(Switch(), hosts))
        two.start(["iperf3", "-s"], stdout=-3, stderr=-3)
        two.start([sys.executable, "-c", ANSWER])
        time.sleep(0.5)
        for _ in range(rounds):
            for name, (noise, many) in NOISES.items():
                quiet = (gigabits(one, two, seconds), *answers(one, two))
                with Lab() as beside, noise(beside, beside.hosts(*(f"n{i}" for i in range(many)))):
                    loud = (gigabits(one, two, seconds), *answers(one, two))
                found.setdefault(name, []).append((*quiet, *loud, loud[0] / quiet[0], loud[1] / quiet[1]))
    names = ("gigabits", "median", "worst", "gigabits_under", "median_under", "worst_under", "throughput", "latency")
    return {noise: dict(zip(names, map(median, zip(*rows, strict=True)), strict=True)) for noise, rows in found.items()}


if __name__ == "__main__":
    for noise, figures in measure().items():
        print(noise, {name: round(value, 2) for name, value in figures.items()})
