"""Functions that the broken documents name."""

from iovisor.language import FLOOD, Config, Function, Packet, Port, Ports, Verdict, ports, u32


class MeterConfig(Config):
    """A rate."""

    rate: u32


class Flooding(Function):
    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD


class Router(Flooding):
    lan: Port
    up: Port
    dmz: Port


class Meter(Flooding):
    config: MeterConfig
    ports: Ports = ports(2)


class Tiny(Flooding):
    ports: Ports = ports(2)


class End(Flooding):
    only: Port


class NotAFunction:
    pass
