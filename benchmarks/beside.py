"""Routing with translation beside Linux's, on the same veths, round by round in turns.

Ours is the router and nat, theirs is the kernel's routing with nftables' masquerade.

Four questions: bulk TCP, datagrams of 18 bytes (64 on the wire), round trips of a byte, and connections that are made,
asked and ended.  `WAYS` says what stands between the two hosts; another comparison is another pair of ways.
"""
from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from threading import Thread

from iovisor.fabric import Edge, Network
from iovisor.functions.nat import Nat
from iovisor.testing.lab import Host, Lab

from .routing import linux, measured, router, settle

Way = Callable[[Lab, list[Host]], AbstractContextManager[None]]
KINDS = "gigabits", "packets", "trips", "connections"
OURS = "10.1.1.1"               # what the inside is seen as: the router's own address there
MASQUERADE = "table ip t { chain c { type nat hook postrouting priority srcnat; oifname to-two masquerade; }; }"


@contextmanager
def masquerade(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """Linux's routing, and nftables."""
    run = lab.namespace.execute
    with linux(lab, hosts):
        run(["nft", "-f", "-"], input=MASQUERADE, text=True, check=True)
        try:
            yield
        finally:
            run(["nft", "delete", "table", "ip", "t"], check=True)


@contextmanager
def ours(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """The router, and nat behind its second port."""
    with Network("beside", namespace=lab.namespace) as net:
        net.add("router", router(hosts))
        net.add("nat", Nat(addresses=[OURS]))
        net.link("router:1", "nat:inside")
        net.attach("router:0", Edge(hosts[0].index))
        net.attach("nat:outside", Edge(hosts[1].index))
        yield


WAYS: dict[str, Way] = {"ours": ours, "linux": masquerade}


def connections(one: Host, two: Host, seconds: float) -> float:
    """TCP connections a second: opened, one byte each way, closed; one after the other.

    The server closes first, or the client would wait for ports of its own.
    """
    with two.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("10.1.1.2", 6001))
        listener.listen(64)

        def serve() -> None:
            asked = b"x"
            while asked == b"x":
                peer, _ = listener.accept()
                with peer:
                    asked = peer.recv(1)
                    peer.send(b"y")

        thread = Thread(target=serve)
        thread.start()
        count, end = 0, time.monotonic() + seconds
        with one.namespace.entered():
            asks = b"x"
            while asks == b"x":
                asks = b"x" if time.monotonic() < end else b"q"
                with socket.create_connection(("10.1.1.2", 6001), 20) as client:
                    client.send(asks)
                    client.recv(1)
                    client.recv(1)
                count += 1
        thread.join()
    return count / seconds


def measure(rounds: int = 5, seconds: int = 2) -> dict[str, tuple[float, float, float]]:
    """By kind: of ours, of Linux's, and the median of the rounds' ratios."""
    found: dict[str, dict[str, list[float]]] = {kind: {way: [] for way in WAYS} for kind in KINDS}
    with Lab() as lab:
        hosts = one, two = lab.hosts("one", "two")
        for number, host in enumerate(hosts):
            settle(host, number)
        two.start(["iperf3", "-s"], stdout=-3, stderr=-3)
        time.sleep(0.5)
        for number in range(rounds):
            for way in random.Random(number).sample(sorted(WAYS), len(WAYS)):
                with WAYS[way](lab, hosts):
                    for kind in KINDS:
                        ask = connections if kind == "connections" else None
                        found[kind][way].append(ask(one, two, seconds) if ask else measured(kind, one, two, seconds))
    return {kind: (median(both["ours"]), median(both["linux"]),
                   median(a / b for a, b in zip(both["ours"], both["linux"], strict=True)))
            for kind, both in found.items()}


if __name__ == "__main__":
    import sys
    for name, (mine, theirs, ratio) in measure(*map(int, sys.argv[1:])).items():
        print(f"{name}: {mine:,.1f} against {theirs:,.1f}, {ratio:.2f}x")
