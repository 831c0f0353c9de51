"""A protocol of your own, with fields that are not bytes: frames that carry a circuit's number, and are switched by it.

Needs: a header class.  It is written here, beside the function that uses it, and nothing is registered anywhere.

     0       3   4   5            10                             21     23
    ┌─────────┬───┬───────────────┬──────────────────────────────┬───────┐
    │ version │ ! │   hops left   │            circuit           │  ---  │     behind Ethernet, type 0x88b5
    └─────────┴───┴───────────────┴──────────────────────────────┴───────┘

    iovisor check examples/own_protocol.py --config 'circuits={7: 1}'
"""
from __future__ import annotations

from iovisor.language import (
    Array,
    Config,
    Function,
    Header,
    Packet,
    Ports,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    forward,
    ports,
    require,
    table,
    u1,
    u2,
    u4,
    u6,
    u8,
    u11,
)
from iovisor.wire import Ethernet

EXPERIMENTAL = 0x88b5       # the Ethernet type IEEE 802 keeps for experiments
VERSION = 1


class Circuit(Header):
    version: u4
    urgent: u1
    hops: u6
    circuit: u11
    spare: u2


class Reason(Reasons):
    NOT_OURS = auto()
    VERSION = auto()
    NO_HOPS_LEFT = auto()
    UNKNOWN_CIRCUIT = auto()


class Way(Record):
    open: u8
    port: u8


class CircuitsConfig(Config):
    """The port of each circuit."""

    circuits: dict[u11, u8] = {}


class Circuits(Function):
    config: CircuitsConfig
    ports: Ports = ports(8)

    ways: Array[Way] = table(2048)

    def ingress(self, pkt: Packet) -> Verdict:
        require(pkt.parse(Ethernet).type == EXPERIMENTAL, Reason.NOT_OURS)
        label = pkt.parse(Circuit)
        require(label.version == VERSION, Reason.VERSION)
        if label.hops == 0:
            return drop(Reason.NO_HOPS_LEFT)
        way = self.ways[label.circuit]
        require(way.open == 1, Reason.UNKNOWN_CIRCUIT)
        label.hops -= 1
        return forward(way.port)

    def configure(self, old: CircuitsConfig | None, new: CircuitsConfig) -> None:
        before = old.circuits if old else {}
        for circuit in before.keys() - new.circuits.keys():
            self.ways[circuit] = Way(open=0, port=0)
        for circuit, port in new.circuits.items():
            if before.get(circuit) != port:
                self.ways[circuit] = Way(open=1, port=port)
