"""What a 64-byte packet costs that is dropped where it arrives: by `ddos` at XDP in the driver, at XDP in the stack, or
at TC, against a program that does nothing but drop (XDP, in the driver); in turns, round by round.

The source lies in a blocked /24.  The same of 65,536 sources and a list of a million prefixes, half of them /24s and
half single addresses: sources in blocked /24s, or each of them blocked by itself.

And what one costs that is let through, to a workload behind: its ingress at XDP and the note that leads on from there,
against all of it at TC.  `stream` makes the packets, as frames of a driver's.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from iovisor.fabric import Edge, Network, Veth
from iovisor.functions.ddos import Ddos
from iovisor.kernel import (
    AttachType,
    Link,
    Map,
    MapKind,
    MapSpec,
    Netlink,
    Program,
    ProgramKind,
    ProgramSpec,
    interfaces,
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
from iovisor.kernel.links import XdpMode

from .cases import UDP, datagram
from .stream import Stream, generator, index_of, one_cpu, polling, stage, stream

HOOKS = ("xdp-native", "xdp-generic", "tc")
FLOOR = "floor"
MANY = {"many /24": 24, "many /32": 32}
LEAST, MOST = 0.85, 1.1          # of the floor's rate, in the driver; of the cost at TC, for what passes
LEAST_MANY = 0.5                 # of the floor's rate, among a million
MILLION, SOURCES = 1_000_000, 1 << 16
SOURCE, DESTINATION = "02:00:00:00:00:01", "02:00:00:00:00:02"
PACKETS = 200_000
SOURCE_LOW = 28                 # bytes before the lower half of an IPv4 source
XDP_DROP = 1


@dataclass
class Flood(Stream):
    """Packets that arrive are those that are dropped."""

    asked: Callable[[], int]

    def arrived(self) -> int:
        return self.asked()


def listed(length: int) -> str:
    """A million prefixes, among which are the 65,536 addresses of 10.0.0.0/16, one by one or as /24s."""
    chance = random.Random(length)
    sources = [f"10.0.{n >> 8}.{n & 255}" if length == 32 else f"10.0.{n}.0/24"
               for n in range(SOURCES if length == 32 else SOURCES >> 8)]
    high = [chance.randrange(11 << 16, 223 << 16) for _ in range(MILLION - len(sources))]
    return " ".join(sources + [f"{n >> 16}.{n >> 8 & 255}.{n & 255}." + ("0/24" if place & 1 else str(place >> 1 & 255))
                               for place, n in enumerate(high)])


@contextmanager
def dropping(way: str) -> Iterator[Stream]:
    """A device of the host, at whose other end the flood is."""
    frame = datagram(UDP)
    with ExitStack() as undo:
        switching, outside, _ = undo.enter_context(stage())
        with Netlink(switching) as netlink:
            netlink.submit(interfaces.veth("uplink", "eth0", index=10, peer_index=11, peer_namespace=outside, up=True))
        out = index_of(outside)
        counts = undo.enter_context(Map.create(MapSpec("dropped", MapKind.PER_CPU_ARRAY, 4, 8, 1)))
        hook = HOOKS[0] if way in MANY else way
        if way == FLOOR:
            code = assemble(store(R10, -8, 0), map_index(R1, 0), move(R2, R10), compute(R2, "+", -8),
                            call(Helper.MAP_LOOKUP), jump_if(R0, "==", 0, "end"), load(R3, R0), compute(R3, "+", 1),
                            store(R0, 0, R3), Label("end"), leave(XDP_DROP))
            sink = undo.enter_context(Program.load(ProgramSpec(
                "floor", ProgramKind.XDP, code, "GPL", expected_attach_type=AttachType.XDP), [counts]))
            undo.enter_context(Link.xdp(sink, 10, XdpMode.NATIVE, namespace=switching))

            def arrived() -> int:
                return sum(int.from_bytes(value, "little") for value in counts.lookup_per_cpu(bytes(4)) or [])
        else:
            net = undo.enter_context(Network("measured", namespace=switching))
            source = ".".join(str(byte) for byte in frame[26:29])
            scrub = Ddos(blocked=[] if way in MANY else [f"{source}.0/24"], challenge="never", most_blocked=MILLION)
            net.add("scrub", scrub)
            if way in MANY:
                assert scrub.block(listed(MANY[way])) == MILLION
            edge = net.attach("scrub:outside", Edge(10, hook=hook))
            assert edge.hook == hook

            def arrived() -> int:
                return net.drops.get("scrub", {}).get("BLOCKED", 0)
        polling("uplink", switching)
        made = undo.enter_context(generator(frame, outside, out, SOURCE_LOW))
        made.vary(SOURCES - 1 if way in MANY else 0)
        flood = Flood(outside, made.generator, out, made.steps, frame, counts, arrived)
        flood.ready(way)
        yield flood


@contextmanager
def passing(hook: str) -> Iterator[Stream]:
    """From a device of the host through `ddos` to a workload."""
    with ExitStack() as undo:
        switching, outside, inside = undo.enter_context(stage())
        with Netlink(switching) as netlink:
            netlink.submit(interfaces.veth("uplink", "eth0", index=10, peer_index=11, peer_namespace=outside, up=True))
        net = undo.enter_context(Network("measured", namespace=switching))
        net.add("scrub", Ddos(challenge="never"))
        net.attach("scrub:inside", Veth(inside, mac=DESTINATION))
        net.attach("scrub:outside", Edge(10, hook=hook))
        out, at = index_of(outside), index_of(inside)
        polling("uplink", switching)
        made = undo.enter_context(stream(datagram(UDP), outside, out, inside, at))
        made.ready(hook)
        yield made


def measure(rounds: int = 21) -> dict[str, float]:
    """Nanoseconds a packet, and medians of the rounds' ratios: of the floor to what drops, and of TC to what passes."""
    found: dict[str, list[float]] = {}
    with one_cpu(), ExitStack() as undo:
        made: dict[str, Stream] = {way: undo.enter_context(dropping(way)) for way in (FLOOR, *HOOKS, *MANY)}
        made |= {f"passing {hook}": undo.enter_context(passing(hook)) for hook in HOOKS}
        for number in range(rounds + 1):
            for way in random.Random(number).sample(list(made), len(made)):
                nanoseconds = made[way].nanoseconds(PACKETS)
                if number:                      # the first warms up
                    found.setdefault(way, []).append(nanoseconds)

    def ratio(one: str, other: str) -> float:
        return median(a / b for a, b in zip(found[one], found[other], strict=True))
    return {way: median(values) for way, values in found.items()} | {
        **{f"rate of {hook} to {FLOOR}": ratio(FLOOR, hook) for hook in (*HOOKS, *MANY)},
        **{f"rate of {hook} to tc": ratio("tc", hook) for hook in HOOKS[:2]},
        **{f"passing {hook} to tc": ratio(f"passing {hook}", "passing tc") for hook in HOOKS[:2]}}
