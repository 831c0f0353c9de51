"""A chain of one to five: switch, firewall, router, nat, balancer.  What a 64-byte datagram costs, of a known flow and
of new ones, in the data path alone and from one workload to another.

The data path alone is the program at the first device's hook, run with all it calls until it would redirect; frame by
frame, for the packet is another at the end, and so with the price of a test run beside, of which an empty program's is
taken off.  From end to end it is as in `edges`: a program makes frames, and the CPU time is divided by those that
arrive.  A flow is known when it has been answered once, by way of all functions.  UDP has no checksum here, so that a
program can give every frame another source port.
"""
from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from iovisor.cli.measure import empty
from iovisor.fabric import Network, Veth
from iovisor.fabric.joins import PortRef
from iovisor.functions.balancer import Balancer
from iovisor.functions.firewall import Firewall
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from iovisor.kernel import AttachType, Program
from iovisor.language import Function
from iovisor.testing.packets import ethernet, ipv4, udp

from .balancer import alone
from .edges import DESTINATION, SOURCE
from .stream import Stream, index_of, one_cpu, polling, stage, stream

LENGTHS = (1, 2, 3, 4, 5)
NAMES = ("switch", "firewall", "router", "nat", "balancer")
NEAR, FAR, OWN = "02:00:00:00:01:00", "02:00:00:00:01:01", "02:00:00:00:0f:01"
CLIENT, SEEN, SERVER, VIP = "10.1.0.2", "192.0.2.1", "10.2.0.2", "198.51.100.1"
FIRST, ROOM = 4000, 262_144
RUNS = 400
SOURCE_PORT = 34                # bytes before it


def functions(length: int) -> dict[str, Function]:
    """The first so many, each ready for the frame below."""
    target = NEAR if length >= 3 else DESTINATION
    behind = OWN if length >= 5 else DESTINATION
    made: dict[str, Function] = {
        "switch": Switch(static=[{"mac": target, "port": 1}, {"mac": SOURCE, "port": 0}]),
        "firewall": Firewall(rules=[{"action": "accept", "direction": "out"}], connections=ROOM, transitory=ROOM),
        "router": Router(interfaces={0: {"mac": NEAR, "addresses": ["10.1.0.1/24"]},
                                     1: {"mac": FAR, "addresses": ["10.2.0.1/24"]}},
                         static=[{"to": f"{VIP}/32", "port": 1}],
                         fixed=[{"port": 0, "address": CLIENT, "mac": SOURCE},
                                {"port": 1, "address": VIP, "mac": behind}]),
        "nat": Nat(addresses=[SEEN], connections=ROOM, transitory=ROOM),
        "balancer": Balancer(mac=OWN, connections=ROOM, transitory=ROOM, vips=[
            {"address": VIP, "port": 80, "protocol": "udp", "backends": [{"address": SERVER, "mac": DESTINATION}]}])}
    return {name: made[name] for name in NAMES[:length]}


def question(length: int, port: int = FIRST) -> bytes:
    return bytes(ethernet(dst=NEAR if length >= 3 else DESTINATION, src=SOURCE) / ipv4(src=CLIENT, dst=VIP)
                 / udp(src=port, dst=80, checksum=0) / bytes(18))


def reply(length: int) -> bytes:
    """What the server says to the first of the flows, as it has seen it."""
    target = FAR if length >= 3 else SOURCE
    return bytes(ethernet(dst=target, src=DESTINATION)
                 / ipv4(src=SERVER if length >= 5 else VIP, dst=SEEN if length >= 4 else CLIENT)
                 / udp(src=80, dst=FIRST, checksum=0) / bytes(18))


@dataclass
class Chain:
    length: int
    flow: Stream
    entry: Program

    def nanoseconds_of(self, known: bool, packets: int) -> float:
        """CPU time of a packet that arrives, each of another flow or all of one."""
        self.flow.vary(0 if known else 0xffff)
        return self.flow.nanoseconds(packets)

    def alone(self, known: bool, nothing: Program) -> float:
        """Nanoseconds in the data path alone."""
        frames = [question(self.length, FIRST if known else 20_000 + number) for number in range(RUNS)]
        with self.flow.sender.entered():
            return alone(self.entry, "tc", frames) - alone(nothing, "tc", frames)


@contextmanager
def chain(length: int) -> Iterator[Chain]:
    with ExitStack() as undo:
        switching, sender, receiver = undo.enter_context(stage())
        net = undo.enter_context(Network("measured", namespace=switching))
        made = functions(length)
        for name, function in made.items():
            net.add(name, function)
        inner = [("switch:0", "switch:1"), ("firewall:inside", "firewall:outside"), ("router:0", "router:1"),
                 ("nat:inside", "nat:outside"), ("balancer:outside", "balancer:inside")][:length]
        for (_, out), (into, _) in pairwise(inner):
            net.link(out, into)
        edges = net.attach_all({inner[0][0]: Veth(sender, mac=SOURCE), inner[-1][1]: Veth(receiver, mac=DESTINATION)})
        out, at = index_of(sender), index_of(receiver)
        for edge in edges:
            polling(f"e{edge.index:x}", switching)
        flow = undo.enter_context(stream(question(length), sender, out, receiver, at, SOURCE_PORT))
        (hooked,) = [said.program_id for link in net.joins[PortRef("switch", 0)].links
                     if (said := link.info()).attach_type == AttachType.TCX_INGRESS]
        entry = undo.enter_context(Program.from_id(hooked))
        flow.ready(f"a chain of {length}")
        with receiver.entered():
            speaker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with speaker:
            speaker.bind(("eth0", 0))
            speaker.send(reply(length))
            time.sleep(0.1)
        yield Chain(length, flow, entry)


def measure(rounds: int = 5, packets: int = 100_000, fresh: int = 12_000) -> list[dict[str, Any]]:
    """By length: nanoseconds alone and from end to end, of known flows and of new ones."""
    rows = []
    with one_cpu(), empty("tc") as nothing:
        for length in LENGTHS:
            with chain(length) as made:
                made.nanoseconds_of(True, packets)
                known = [(made.alone(True, nothing), made.nanoseconds_of(True, packets)) for _ in range(rounds)]
            new = []
            for _ in range(rounds):             # a new network each time, so that there is room for all
                with chain(length) as made:
                    new.append((made.alone(False, nothing), made.nanoseconds_of(False, fresh)))
            rows.append({"length": length, "last": NAMES[length - 1],
                         "known alone": median(alone for alone, _ in known),
                         "known": median(whole for _, whole in known),
                         "new alone": median(alone for alone, _ in new),
                         "new": median(whole for _, whole in new)})
    return rows
