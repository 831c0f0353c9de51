"""The CPU time of a 64-byte packet through one switch between two cables of ours, against the Linux bridge and against
a veth pair with nothing in between; in turns, round by round.

A program in the kernel makes the packets (XDP live frames) and sends them out of the first workload's device; one at
the other's drops and counts them.  What a packet costs is the time of the thread that makes them, which carries most of
the way in its own soft interrupts, and of the CPU's ksoftirqd, by packets that arrived.  Nothing else is in it: no
socket, no system call a packet.
"""
from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from iovisor.fabric import Network, Veth
from iovisor.functions.switch import Switch
from iovisor.kernel import (
    AttachType,
    Direction,
    Link,
    Map,
    MapKind,
    MapSpec,
    Netlink,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
    interfaces,
    neighbours,
    offloads,
    xdp_context,
)
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R10,
    Helper,
    Label,
    assemble,
    call,
    compute,
    jump_if,
    leave,
    load,
    map_index,
    move,
    store,
)
from iovisor.kernel.offloads import Offload

from .cases import UDP, datagram
from .provisioning import Through

WAYS = ("switch", "through", "bridge", "direct")
AGAINST_BRIDGE, AGAINST_DIRECT = 0.65, 1.4
SOURCE, DESTINATION = "02:00:00:00:00:01", "02:00:00:00:00:02"
PACKETS, BATCH = 200_000, 64
_DROP = 2


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _quiet(namespace: NetworkNamespace) -> None:
    with namespace.entered():
        for which in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")


def _ksoftirqd(cpu: int) -> Path:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "comm").read_text().strip() == f"ksoftirqd/{cpu}":
            return entry / "schedstat"
    raise FileNotFoundError(f"ksoftirqd/{cpu}")


@dataclass
class Way:
    """From one workload to another, whose device counts and drops."""

    sender: NetworkNamespace
    generator: Program
    index: int
    counts: Map
    frame: bytes

    def arrived(self) -> int:
        return sum(int.from_bytes(value, "little") for value in self.counts.lookup_per_cpu(bytes(4)) or [])

    def send(self, packets: int = 1) -> None:
        with self.sender.entered():
            self.generator.send_live(self.frame, xdp_context(len(self.frame), self.index), packets,
                                     BATCH if packets > 1 else 0)

    def nanoseconds(self, packets: int = PACKETS) -> float:
        """CPU time of a packet that arrives; this thread stays on its CPU."""
        (cpu,) = os.sched_getaffinity(0)
        kernel = _ksoftirqd(cpu)

        def spent() -> int:
            return time.thread_time_ns() + int(kernel.read_text().split()[0])

        count, before = self.arrived(), spent()
        self.send(packets)
        known, last = -1, self.arrived()
        while known != last:
            known, last = last, (time.sleep(0.005), self.arrived())[1]
        if last - count < packets * 0.99:
            raise RuntimeError(f"of {packets} packets {last - count} arrived")
        return (spent() - before) / (last - count)


@contextmanager
def way(kind: str) -> Iterator[Way]:
    """Two workloads, joined by the switch, the bridge or their cable."""
    with ExitStack() as undo:
        switching, sender, receiver = (undo.enter_context(NetworkNamespace.create()) for _ in range(3))
        for namespace in (switching, sender, receiver):
            _quiet(namespace)
        netlink = undo.enter_context(Netlink(switching))
        ends = ((sender, SOURCE), (receiver, DESTINATION))
        if kind in ("switch", "through"):
            net = undo.enter_context(Network("measured", namespace=switching))
            net.add("lan", Switch(static=[{"mac": DESTINATION, "port": 1}]) if kind == "switch" else Through())
            edges = net.attach_all({f"lan:{port}": Veth(room, mac=mac) for port, (room, mac) in enumerate(ends)})
            assert all(edge.peer for edge in edges)
            receiving = [(switching, f"e{edge.index:x}") for edge in edges]
        elif kind == "bridge":
            with switching.entered(), suppress(FileNotFoundError):      # filters of the host are not part of a switch
                for table in ("ip", "ip6", "arp"):
                    Path(f"/proc/sys/net/bridge/bridge-nf-call-{table}tables").write_text("0")
            netlink.submit(interfaces.bridge("bridge", index=5, up=True), *(
                request for port, (room, mac) in enumerate(ends) for request in (
                    interfaces.veth(f"p{port}", "eth0", index=10 + port, peer_namespace=room, peer_mac=_packed(mac),
                                    up=True),
                    interfaces.change(10 + port, master=5))))
            netlink.submit(neighbours.forward(11, _packed(DESTINATION)))
            receiving = [(switching, "p0"), (switching, "p1")]
        else:
            with Netlink(sender) as inside:
                inside.submit(interfaces.veth("eth0", "eth0", mac=_packed(SOURCE), peer_mac=_packed(DESTINATION),
                                              peer_namespace=receiver, up=True))
            receiving = [(receiver, "eth0")]
        indexes = []
        for room, _ in ends:
            with Netlink(room) as inside:
                inside.submit(interfaces.change("eth0", up=True))
                indexes.append(interfaces.index_of(inside, "eth0"))
        # Frames without a socket buffer are taken by devices that poll, which they do for this offload.
        for room, name in receiving:
            offloads.change(name, {Offload.GENERIC_RECEIVE: True}, room)
        counts = undo.enter_context(Map.create(MapSpec("arrived", MapKind.PER_CPU_ARRAY, 4, 8, 1)))
        sink = undo.enter_context(Program.load(ProgramSpec("sink", ProgramKind.SCHED_CLS, assemble(
            store(R10, -8, 0), map_index(R1, 0), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
            jump_if(R0, "==", 0, "end"), load(R3, R0), compute(R3, "+", 1), store(R0, 0, R3), Label("end"),
            leave(_DROP)), "GPL", expected_attach_type=AttachType.TCX_INGRESS), [counts]))
        undo.enter_context(Link.tcx(sink, indexes[1], Direction.INGRESS, namespace=receiver))
        generator = undo.enter_context(Program.load(ProgramSpec("generator", ProgramKind.XDP, assemble(
            move(R1, indexes[0]), move(R2, 0), call(Helper.REDIRECT), leave()), "GPL")))
        made = Way(sender, generator, indexes[0], counts, datagram(UDP))
        deadline = time.monotonic() + 10
        while not made.arrived():               # the kernel notices carriers, and a bridge its ports, in its own time
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing arrives by the {kind}")
            made.send()
            time.sleep(0.05)
        yield made


def measure(rounds: int = 21) -> dict[str, float]:
    """Nanoseconds a packet by each way, and the medians of the rounds' ratios of the switch to the others."""
    found: dict[str, list[float]] = {kind: [] for kind in WAYS}
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(former)})
    try:
        with ExitStack() as undo:
            ways = {kind: undo.enter_context(way(kind)) for kind in WAYS}
            for number in range(rounds + 1):
                for kind in random.Random(number).sample(WAYS, len(WAYS)):
                    nanoseconds = ways[kind].nanoseconds()
                    if number:                  # the first warms up
                        found[kind].append(nanoseconds)
    finally:
        os.sched_setaffinity(0, former)
    ratios = {f"{kind} to {other}": median(a / b for a, b in zip(found[kind], found[other], strict=True))
              for kind in ("switch", "through") for other in ("bridge", "direct")}
    return {kind: median(values) for kind, values in found.items()} | ratios
