"""Functions that do one thing each, to see what the fabric does around them."""
from __future__ import annotations

from typing import ClassVar

from iovisor.language import (
    FLOOD,
    HOST,
    Array,
    Config,
    Counter,
    Function,
    Hash,
    Metadata,
    Packet,
    Port,
    Ports,
    PortSet,
    Record,
    Verdict,
    drop,
    flood,
    forward,
    handles,
    ports,
    punt,
    require,
    table,
    u8,
    u32,
    u64,
)
from iovisor.wire import Ethernet, IPv4


class Through(Function):
    """Two ports, straight through, counted."""

    inside: Port
    outside: Port
    seen: Counter = table(2)

    def ingress(self, pkt: Packet) -> Verdict:
        self.seen.add(pkt.port, bytes=len(pkt))
        return forward(self.outside if pkt.port == self.inside else self.inside)


class ThroughAgain(Through):
    """The same with the same tables: an upgrade."""

    def ingress(self, pkt: Packet) -> Verdict:
        self.seen.add(pkt.port, bytes=len(pkt))
        if pkt.port == self.inside:
            return forward(self.outside)
        return forward(self.inside)


class ThroughCopied(Through):
    """The same, and a copy of what goes out comes back."""

    def ingress(self, pkt: Packet) -> Verdict:
        self.seen.add(pkt.port, bytes=len(pkt))
        if pkt.port == self.inside:
            pkt.copy(self.inside)
            return forward(self.outside)
        return forward(self.inside)


class ThroughFlooding(Through):
    """The same, but it floods, and so needs what floods."""

    def ingress(self, pkt: Packet) -> Verdict:
        self.seen.add(pkt.port, bytes=len(pkt))
        return FLOOD


class Differs(Function):
    """The ports of `Through` and a table that is laid out differently."""

    inside: Port
    outside: Port
    seen: Hash[u32, u64] = table(64)

    def ingress(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)


class Hub(Function):
    """Everything everywhere."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


class WideHub(Function):
    """Everything everywhere, of as many ports as there may be."""

    ports: Ports = ports(256)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


class SomeHub(Function):
    """To the set of ports that the last byte of the destination names."""

    ports: Ports = ports(256)
    sets: Array[PortSet] = table(8)

    def ingress(self, pkt: Packet) -> Verdict:
        return flood(pkt.u8(5))


class SomeGatedHub(SomeHub):
    """The same with an egress."""

    def egress(self, pkt: Packet) -> Verdict:
        return forward(pkt.port)


class Pairs(Function):
    """Ports 0 and 1 belong together, and 2 and 3."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        return forward(pkt.port ^ 1)


class GateConfig(Config):
    """Whether the gate stands open."""

    open: u8 = 1
    padding: u32 = 0


class Gate(Function):
    """Two ports; passes while its configuration says so, in both directions, at egress."""

    config: GateConfig
    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        if self.config.open == 0:
            return drop(2)
        return forward(self.outside if pkt.port == self.inside else self.inside)

    def egress(self, pkt: Packet) -> Verdict:
        return forward(pkt.port)


class First(Record):
    """The first packet of a flow: its last four bytes of Ethernet source name the flow."""

    flow: u32


class Learner(Function):
    """Punts the first packet of a flow; those its handler has let in pass."""

    inside: Port
    outside: Port
    known: Hash[u32, u32] = table(1024)

    def ingress(self, pkt: Packet) -> Verdict:
        flow = pkt.u32(8)
        if flow in self.known:
            return forward(self.outside if pkt.port == self.inside else self.inside)
        return punt(First(flow=flow))

    @handles(First)
    def first(self, event: First, packet: Packet) -> Packet:
        self.known[event.flow] = 1
        return packet


class PatientLearner(Learner):
    """The same with a handler that waits."""

    @handles(First)
    async def first(self, event: First, packet: Packet) -> Packet:  # type: ignore[override]
        import asyncio
        await asyncio.sleep(0.002)
        self.known[event.flow] = 1
        return packet


class Gossip(Learner):
    """Lets everything through, and tells of first packets; its handler answers what it must not."""

    untold: Counter = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        flow = pkt.u32(8)
        if flow not in self.known and not pkt.notify(First(flow=flow)):
            self.untold.add(0)
        return forward(self.outside if pkt.port == self.inside else self.inside)


class PatientGossip(Gossip):
    """The same with a handler that waits."""

    @handles(First)
    async def first(self, event: First, packet: Packet) -> Packet:  # type: ignore[override]
        import asyncio
        await asyncio.sleep(0.002)
        self.known[event.flow] = 1
        return packet


class Mute(Learner):
    """The same with a handler that answers nothing."""

    @handles(First)
    def first(self, event: First, packet: Packet) -> None:  # type: ignore[override]
        self.known[event.flow] = 1


class Beacon(Function):
    """Sends frames of its own."""

    frame: ClassVar[bytes] = (b"\xff" * 6 + bytes.fromhex("02000000beac 88b5")).ljust(60, b"!")
    ports: Ports = ports(2)

    def ingress(self, pkt: Packet) -> Verdict:
        return drop(2)

    def tell(self, port: int) -> None:
        self.send(self.frame, port)


class LoudBeacon(Beacon):
    """The same, looking at what leaves."""

    left: Array[u32] = table(2)

    def egress(self, pkt: Packet) -> Verdict:
        self.left[pkt.port] = self.left[pkt.port] + 1
        return forward(pkt.port)


class Marks(Metadata):
    """What `Marker` says of a packet."""

    number: u32 = 0


class Marker(Function):
    """Two ports; counts in the packet's metadata how many of its kind the packet has met, and drops the fifth time."""

    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        marks = pkt.meta(Marks)
        if marks.number >= 4:
            return drop(200)
        marks.number = marks.number + 1
        return forward(self.outside if pkt.port == self.inside else self.inside)


class Older(Function):
    """Two ports; takes one from the TTL of IPv4, and hands what has none left to the host."""

    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth, ip = pkt.parse(Ethernet, IPv4)
        require(eth.type == 0x800)
        if ip.ttl <= 1:
            return HOST
        pkt.rewrite(ip, ttl=ip.ttl - 1)
        return forward(self.outside if pkt.port == self.inside else self.inside)


class Tagger(Function):
    """Two ports; tags what goes out and untags what comes in; counts at egress."""

    inside: Port
    outside: Port
    left: Counter = table(2)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.inside:
            pkt.tag(7)
            return forward(self.outside)
        pkt.untag()
        return forward(self.inside)

    def egress(self, pkt: Packet) -> Verdict:
        self.left.add(pkt.port)
        return forward(pkt.port)
