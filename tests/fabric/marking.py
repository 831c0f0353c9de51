"""Functions that write their number into a packet, at a place of their own: what a packet met can be read from it."""
from __future__ import annotations

from iovisor.language import (
    FLOOD,
    Config,
    Counter,
    Function,
    Header,
    Packet,
    Port,
    Ports,
    Verdict,
    forward,
    ports,
    require,
    table,
    u8,
)
from iovisor.wire.ethernet import Ethernet


class Marks(Header):
    """Behind the Ethernet header: what two functions in a row have written."""

    first: u8
    second: u8


class MarkConfig(Config):
    """What is written."""

    mark: u8 = 1


class First(Function):
    """Two ports, straight through, and the first mark."""

    config: MarkConfig
    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth, marks = pkt.parse(Ethernet, Marks)
        require(eth.type == 0x88b5)
        marks.first = self.config.mark
        return forward(self.outside if pkt.port == self.inside else self.inside)


class FirstConfig(MarkConfig):
    """With more to say."""

    more: u8 = 0


class FirstAgain(First):
    """The same with more to configure."""

    config: FirstConfig


class Second(Function):
    """The same with the second mark."""

    config: MarkConfig
    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth, marks = pkt.parse(Ethernet, Marks)
        require(eth.type == 0x88b5)
        marks.second = self.config.mark
        return forward(self.outside if pkt.port == self.inside else self.inside)


class Spread(Function):
    """Everything everywhere: copies for functions go around."""

    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


class Stamp(Function):
    """Writes the first mark where a frame comes in and the second where it leaves; what is not to a group goes between
    ports 0 and 1."""

    config: MarkConfig
    ports: Ports = ports(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth, marks = pkt.parse(Ethernet, Marks)
        require(eth.type == 0x88b5)
        marks.first = self.config.mark
        if eth.dst >> 40 & 1:
            return FLOOD
        return forward(pkt.port ^ 1)

    def egress(self, pkt: Packet) -> Verdict:
        eth, marks = pkt.parse(Ethernet, Marks)
        require(eth.type == 0x88b5)
        marks.second = self.config.mark
        return forward(pkt.port)


class Bare(Function):
    """The same without an egress: both marks where a frame comes in.  It keeps a table that `Stamp` has not."""

    config: MarkConfig
    ports: Ports = ports(4)
    seen: Counter = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        eth, marks = pkt.parse(Ethernet, Marks)
        require(eth.type == 0x88b5)
        self.seen.add(0)
        marks.first, marks.second = self.config.mark, self.config.mark
        if eth.dst >> 40 & 1:
            return FLOOD
        return forward(pkt.port ^ 1)
