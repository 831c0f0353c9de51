"""A stream of small packets made in the kernel, and the CPU time each costs until it is dropped at the far end.

A program makes the packets (XDP live frames), writes their headers anew, because pages come back with what the path
wrote into them, and sends them out of a workload's device; one at the other's drops and counts them.  What a packet
costs is the time of the thread that makes them, which carries most of the way in its own soft interrupts, and of the
CPU's ksoftirqd, by packets that arrived.  Nothing else is in it: no socket, no system call a packet.

`stage` is where such a stream runs when it needs no hosts: two workloads and a place between them, where nobody speaks
unasked.
"""
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    offloads,
    xdp_context,
)
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R10,
    Helper,
    Label,
    Line,
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

PACKETS, BATCH, HEAD = 100_000, 64, 64
DROP, XDP_ABORTED = 2, 0
DATA, DATA_END = 0, 4


def ksoftirqd(cpu: int) -> Path:
    """Where the kernel says how long a CPU's soft interrupts ran in their own thread."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "comm").read_text().strip() == f"ksoftirqd/{cpu}":
            return entry / "schedstat"
    raise FileNotFoundError(f"ksoftirqd/{cpu}")


@dataclass
class Generator:
    """Frames out of a workload's device, as many as one likes."""

    sender: NetworkNamespace
    generator: Program
    index: int
    steps: Map
    frame: bytes

    def vary(self, mask: int) -> None:
        """Of how many flows frames are, 2, 4, 8 ... less one: two bytes of them count up."""
        self.steps.update(bytes(4), bytes(8) + mask.to_bytes(8, "little"))

    def send(self, packets: int = 1) -> None:
        with self.sender.entered():
            self.generator.send_live(self.frame, xdp_context(len(self.frame), self.index), packets,
                                     BATCH if packets > 1 else 0)


@dataclass
class Stream(Generator):
    """From one workload to another, whose device counts and drops."""

    counts: Map

    def arrived(self) -> int:
        return sum(int.from_bytes(value, "little") for value in self.counts.lookup_per_cpu(bytes(4)) or [])

    def ready(self, what: str) -> None:
        """Return once packets arrive: the kernel notices carriers, and a bridge its ports, in its own time."""
        deadline = time.monotonic() + 10
        while not self.arrived():
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing arrives by {what}")
            self.send()
            time.sleep(0.05)

    def nanoseconds(self, packets: int = PACKETS) -> float:
        """CPU time of a packet that arrives; this thread stays on its CPU."""
        with one_cpu():
            (cpu,) = os.sched_getaffinity(0)
            kernel = ksoftirqd(cpu)

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


def lines(frame: bytes, out: int, varies: int) -> list[Line]:
    """The program that makes a frame: its headers are written anew each time, and of `varies` what the steps say."""
    head = frame[:HEAD]
    writes = [line for place in range(0, len(head), 4) for line in (
        move(R3, int.from_bytes(head[place:place + 4], "little", signed=True), 32),
        store(R6, place, R3, len(head[place:place + 4])))]
    steps = [] if not varies else [
        store(R10, -8, 0), map_index(R1, 0), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
        jump_if(R0, "==", 0, "short"), load(R3, R0), move(R4, R3), compute(R4, "+", 1), store(R0, 0, R4),
        load(R5, R0, 8), compute(R3, "&", R5),
        compute(R3, "+", int.from_bytes(frame[varies:varies + 2], "little")), store(R6, varies, R3, 2)]
    return [load(R6, R1, DATA, 4), load(R3, R1, DATA_END, 4), move(R0, R6), compute(R0, "+", len(head)),
            jump_if(R0, ">", R3, "short"), *writes, *steps, move(R1, out), move(R2, 0), call(Helper.REDIRECT), leave(),
            Label("short"), leave(XDP_ABORTED)]


@contextmanager
def generator(frame: bytes, sender: NetworkNamespace, out: int, varies: int = 0) -> Iterator[Generator]:
    """Out of device `out`; the two bytes at `varies`, if any, may be different in each frame (`vary`)."""
    with Map.create(MapSpec("steps", MapKind.ARRAY, 4, 16, 1)) as steps, Program.load(ProgramSpec(
            "generator", ProgramKind.XDP, assemble(*lines(frame, out, varies)), "GPL"), [steps]) as program:
        yield Generator(sender, program, out, steps, frame)


@contextmanager
def stream(frame: bytes, sender: NetworkNamespace, out: int, receiver: NetworkNamespace, at: int,
           varies: int = 0) -> Iterator[Stream]:
    """From device `out` of one workload to device `at` of another, which takes in nothing else meanwhile."""
    with ExitStack() as undo:
        counts = undo.enter_context(Map.create(MapSpec("arrived", MapKind.PER_CPU_ARRAY, 4, 8, 1)))
        sink = undo.enter_context(Program.load(ProgramSpec("sink", ProgramKind.SCHED_CLS, assemble(
            store(R10, -8, 0), map_index(R1, 0), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
            jump_if(R0, "==", 0, "end"), load(R3, R0), compute(R3, "+", 1), store(R0, 0, R3), Label("end"),
            leave(DROP)), "GPL", expected_attach_type=AttachType.TCX_INGRESS), [counts]))
        undo.enter_context(Link.tcx(sink, at, Direction.INGRESS, namespace=receiver))
        made = undo.enter_context(generator(frame, sender, out, varies))
        yield Stream(sender, made.generator, out, made.steps, frame, counts)


# -- where ------------------------------------------------------------------------------------------------------------


@contextmanager
def stage() -> Iterator[tuple[NetworkNamespace, NetworkNamespace, NetworkNamespace]]:
    """The place between, and two workloads: namespaces without IPv6, in which the kernel says nothing by itself."""
    with ExitStack() as undo:
        switching, sender, receiver = (undo.enter_context(NetworkNamespace.create()) for _ in range(3))
        for namespace in (switching, sender, receiver):
            with namespace.entered():
                for which in ("all", "default"):
                    Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")
        yield switching, sender, receiver


def index_of(workload: NetworkNamespace) -> int:
    """The device of a workload, brought up."""
    with Netlink(workload) as inside:
        inside.submit(interfaces.change("eth0", up=True))
        return interfaces.index_of(inside, "eth0")


def polling(device: str, namespace: NetworkNamespace, on: bool = True) -> None:
    """Frames without a socket buffer are taken by devices that poll, which they do for this offload."""
    offloads.change(device, {Offload.GENERIC_RECEIVE: on}, namespace)


@contextmanager
def one_cpu() -> Iterator[None]:
    """This thread stays on the last of its CPUs."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(former)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)
