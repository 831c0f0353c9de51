"""How many 4-way exchanges (discover, offer, request, acknowledgement, or what they are in IPv6) a DHCP server takes a
second.

    python -m benchmarks.dhcp [clients] [seconds] [version]

perfdhcp (Debian's kea-admin) asks, through one edge.  First every client is new, and Python answers; then the same
clients come again, and the kernel does.  What is reported is what was asked and completed, and what went unanswered.
Both as a daemon does it, every lease on disk before its client is told ("kept"), and without a shelf.
"""
from __future__ import annotations

import asyncio
import re
import shutil
import sys
import threading
from contextlib import ExitStack, suppress
from tempfile import TemporaryDirectory

from iovisor.fabric import Edge, Network
from iovisor.functions.dhcp import Dhcp
from iovisor.functions.dhcp6 import Dhcp6
from iovisor.store import Shelf
from iovisor.testing.lab import Host, Lab

NEW = (300, 600, 900, 1_200)             # exchanges asked for a second, of clients nobody knows
KNOWN = (2_000, 5_000, 10_000, 15_000, 20_000)


BASE = ["-b", "duid=00030001020300000000"]      # whose last bytes it counts, or they would be others each time
EXCHANGES = {4: (("offer", "DISCOVER-OFFER"), ("ack", "REQUEST-ACK")),
             6: (("offer", "SOLICIT-ADVERTISE"), ("ack", "REQUEST-REPLY"))}


def ask(host: Host, rate: int, clients: int, seconds: int, version: int) -> dict[str, float]:
    """Let perfdhcp ask; per second: exchanges begun and completed; of a hundred: what was not answered."""
    program = shutil.which("perfdhcp", path="/usr/sbin:/usr/bin")
    assert program is not None, "perfdhcp is missing: apt-get install kea-admin"
    done = host.run([program, f"-{version}", "-l", "eth0", "-r", str(rate), "-R", str(clients), "-p", str(seconds),
                     *(BASE if version == 6 else ())],
                    check=False, timeout=seconds + 30).stdout
    found: dict[str, float] = {}
    for name, part in EXCHANGES[version]:
        text = done.partition(f"Statistics for: {part}")[2]
        numbers = {key: float(re.search(rf"{key}: ([\d.]+)", text)[1])                      # type: ignore[index]
                   for key in ("sent packets", "received packets", "avg delay")}
        sent, told = numbers["sent packets"], numbers["received packets"]
        found |= {f"{name} asked": sent / seconds, f"{name} told": told / seconds,
                  f"{name} lost": 100 * (1 - told / max(sent, 1)),
                  f"{name} ms": numbers["avg delay"]}
    return found


def serve(net: Network, undo: ExitStack) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(net.serve())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
    undo.callback(end)


def measure(clients: int = 5_000, seconds: int = 4, version: int = 4) -> dict[str, list[dict[str, float]]]:
    """By who answers, and whether leases are kept: the figures of each rate."""
    return {who + ", kept" * kept: how(clients, seconds, version, kept)
            for who, how in (("new", new), ("known", known)) for kept in (True, False)}


def new(clients: int, seconds: int, version: int, kept: bool) -> list[dict[str, float]]:
    found = []
    for rate in NEW:
        with ExitStack() as undo:
            host, net = scene(undo, clients, version, kept)
            serve(net, undo)
            found.append({"rate": rate, **ask(host, rate, rate * seconds * 2, seconds, version)})
    return found


def known(clients: int, seconds: int, version: int, kept: bool) -> list[dict[str, float]]:
    with ExitStack() as undo:
        host, net = scene(undo, clients, version, kept)
        serve(net, undo)
        while ask(host, 300, clients, seconds * 5, version)["offer lost"] > 50:
            pass
        return [{"rate": rate, **ask(host, rate, clients, seconds, version)} for rate in KNOWN]


def scene(undo: ExitStack, clients: int, version: int, kept: bool) -> tuple[Host, Network]:
    folder = undo.enter_context(TemporaryDirectory(dir="/var/tmp"))             # on a disk
    lab = undo.enter_context(Lab())
    host = lab.host("asks")             # perfdhcp speaks as a relay, with this host's address in 10.0.0.0/8
    shelf = Shelf(f"{folder}/entries.db") if kept else None
    net = undo.enter_context(Network("dhcp", namespace=lab.namespace, durable=shelf))
    room = {"mac": "02:00:00:00:00:d1", "leases": 2 * clients, "ready": 4 * clients, "quota": 0}
    if version == 4:
        net.add("dhcp", Dhcp(server="10.255.0.1", **room, subnets=[
            {"prefix": "10.0.0.0/8", "pools": ["10.1.1.0-10.1.200.255"], "routers": ["10.255.0.1"],
             "dns": ["10.255.0.53"]}]))
    else:                               # in IPv6 it speaks for all of them from its own address
        host.run(["ip", "address", "add", "fe80::1/64", "dev", "eth0", "nodad"])
        net.add("dhcp", Dhcp6(server="2001:db8:1::1", **room, subnets=[
            {"prefix": "2001:db8:1::/64", "pools": ["2001:db8:1::1:0:0-2001:db8:1::1:ffff:ffff"],
             "dns": ["2001:db8:1::53"], "search": ["acme.test"]}]))
    net.attach("dhcp:lan", Edge(host.index))
    return host, net


if __name__ == "__main__":
    for who, rows in measure(*map(int, sys.argv[1:])).items():
        for row in rows:
            print(who, {name: round(value, 2) for name, value in row.items()}, flush=True)
