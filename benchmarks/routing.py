"""The router against Linux's routing on the same veths, round by round in turns: bulk TCP, small packets, round trips.

`prefixes` measures what a hot packet costs in the data path alone, with ten routes and with a hundred thousand.
"""
from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from iovisor.functions.router import Router
from iovisor.language import Prefix
from iovisor.targets import load
from iovisor.testing.lab import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, udp

BAR = 1.0
MACS = "02:00:00:00:01:00", "02:00:00:00:01:01"
KINDS = "gigabits", "packets", "trips"


def settle(host: Host, number: int) -> None:
    """Put a host on a network of its own."""
    for words in ("addr flush dev eth0", f"addr add 10.1.{number}.2/24 dev eth0",
                  f"route add default via 10.1.{number}.1"):
        host.run(["ip", *words.split()])


@contextmanager
def linux(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """The kernel's own router."""
    run = lab.namespace.execute
    run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], check=True)
    try:
        for number, host in enumerate(hosts):
            run(["ip", "link", "set", f"to-{host.name}", "address", MACS[number]], check=True)
            run(["ip", "addr", "add", f"10.1.{number}.1/24", "dev", f"to-{host.name}"], check=True)
        yield
    finally:
        for host in hosts:
            run(["ip", "addr", "flush", "dev", f"to-{host.name}"], check=True)


@contextmanager
def ours(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    with lab.join(router(hosts), hosts):
        yield


def router(hosts: list[Host]) -> Router:
    return Router(interfaces={n: {"mac": MACS[n], "addresses": [f"10.1.{n}.1/24"]} for n in range(2)},
                  fixed=[{"port": n, "address": f"10.1.{n}.2", "mac": host.mac} for n, host in enumerate(hosts)])


def measured(kind: str, one: Host, two: Host, seconds: float) -> float:
    for _ in range(50):
        if one.ping("10.1.1.2", count=1):
            break
        time.sleep(0.02)
    if kind == "trips":
        return trips(one, two, seconds)
    more = ["-u", "-b", "0", "-l", "18"] if kind == "packets" else []
    done = one.run(["iperf3", "-c", "10.1.1.2", "-t", str(seconds), "-J", *more], timeout=60)
    end = json.loads(done.stdout)["end"]
    if kind == "gigabits":
        return float(end["sum_received"]["bits_per_second"]) / 1e9
    return float(end["sum"]["packets"] - end["sum"]["lost_packets"]) / float(end["sum"]["seconds"])


def trips(one: Host, two: Host, seconds: float) -> float:
    """Round trips of one byte over TCP, a second."""
    with two.socket(socket.AF_INET, socket.SOCK_STREAM) as listener, \
            one.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("10.1.1.2", 6000))
        listener.listen()

        def echo() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while byte := peer.recv(1):
                    peer.send(byte)

        thread = threading.Thread(target=echo)
        thread.start()
        client.connect(("10.1.1.2", 6000))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            client.send(b"x")
            client.recv(1)
            count += 1
        client.close()
        thread.join()
    return count / seconds


def measure(rounds: int = 5, seconds: int = 2) -> dict[str, tuple[float, float, float]]:
    """By kind: of ours, of Linux's, and the median of the rounds' ratios."""
    found: dict[str, dict[str, list[float]]] = {kind: {"ours": [], "linux": []} for kind in KINDS}
    with Lab() as lab:
        hosts = one, two = lab.hosts("one", "two")
        for number, host in enumerate(hosts):
            settle(host, number)
        two.start(["iperf3", "-s"], stdout=-3, stderr=-3)
        time.sleep(0.5)
        for number in range(rounds):
            for which in random.Random(number).sample(["ours", "linux"], 2):
                with linux(lab, hosts) if which == "linux" else ours(lab, hosts):
                    for kind in KINDS:
                        found[kind][which].append(measured(kind, one, two, seconds))
    return {kind: (median(both["ours"]), median(both["linux"]),
                   median(a / b for a, b in zip(both["ours"], both["linux"], strict=True)))
            for kind, both in found.items()}


def prefixes(count: int) -> float:
    """Nanoseconds of a packet to one hot address through the router in TC, with so many routes.

    The next hop has the router's own Ethernet address, so that the kernel may run the same packet until its hops end.
    """
    chance = random.Random(count)
    function = Router(interfaces={n: {"mac": MACS[n], "addresses": [f"10.1.{n}.1/24"]} for n in range(2)},
                      routes=count + 100, fixed=[{"port": 1, "address": "10.1.1.2", "mac": MACS[0]}])
    known = {Prefix(0xc0000200, 24)}
    while len(known) < count:
        length = chance.choice((16, 20, 22, 23, 24, 24, 24, 24))
        known.add(Prefix(chance.randrange(0x0b000000, 0xdf000000) >> 32 - length << 32 - length, length))
    for prefix in known:
        function.feed(prefix, [(0x0a010102, 1, 1)])
    frame = bytes(ethernet(dst=MACS[0], src=1) / ipv4(src="10.1.0.2", dst="192.0.2.7", ttl=255) / udp(src=1, dst=2)
                  / bytes(18))
    with load(function, "tc") as loaded:
        program = loaded.programs["ingress"]  # type: ignore[union-attr]
        return median(program.test_run(frame, bytes(192), 240).duration_ns for _ in range(400))


if __name__ == "__main__":
    for name, (mine, theirs, ratio) in measure().items():
        print(f"{name}: {mine:,.1f} against {theirs:,.1f}, {ratio:.2f}x")
    few, many = prefixes(10), prefixes(100_000)
    print(f"10 routes {few:.0f} ns, 100,000 routes {many:.0f} ns a packet, {many / few:.2f}x")
