"""Two versions of a function, whose tables are laid out differently."""
from __future__ import annotations

from iovisor.language import (
    Array,
    Function,
    Hash,
    Lru,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    forward,
    mac,
    migrates,
    reverts,
    table,
    u16,
    u32,
    u64,
)
from iovisor.wire.ethernet import Ethernet


class Reason(Reasons):
    STRANGER = auto()


class Flow(Record):
    """What version 1 keeps of who has spoken from inside."""

    packets: u32 = 0


class Keeper(Function):
    """Lets out everything, and in what is to somebody who has spoken: an entry that is lost is a connection cut."""

    inside: Port
    outside: Port
    flows: Hash[mac, Flow] = table(20_000)
    last: Array[u32] = table(4)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if pkt.port == self.inside:
            self.last[0] = self.last[0] + 1
            flow = self.flows.get(eth.src)
            if flow is None:
                self.flows[eth.src] = Flow(packets=1)
            else:
                flow.packets += 1
            return forward(self.outside)
        if eth.dst in self.flows or eth.dst == 0xffffffffffff:
            return forward(self.inside)
        return drop(Reason.STRANGER)


class Flow2(Record):
    """Version 2 counts further, and notes the EtherType."""

    kind: u16 = 0
    packets: u64 = 0


class Keeper2(Function):
    """The same with more to keep."""

    inside: Port
    outside: Port
    flows: Hash[mac, Flow2] = table(20_000)
    last: Array[u64] = table(4)
    extra: Lru[u32, u32] = table(16)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if pkt.port == self.inside:
            self.last[0] = self.last[0] + 1
            self.extra[1] = 1
            flow = self.flows.get(eth.src)
            if flow is None:
                self.flows[eth.src] = Flow2(kind=eth.type, packets=1)
            else:
                flow.packets += 1
            return forward(self.outside)
        if eth.dst in self.flows or eth.dst == 0xffffffffffff:
            return forward(self.inside)
        return drop(Reason.STRANGER)

    @migrates("flows", since=Hash[mac, Flow])
    def grown(self, key: mac, old: Flow) -> Flow2:
        return Flow2(packets=old.packets)

    @reverts("flows", to=Hash[mac, Flow])
    def shrunk(self, key: mac, new: Flow2) -> Flow:
        return Flow(packets=new.packets)

    @migrates("last", since=Array[u32])
    @reverts("last", to=Array[u32])
    def same(self, key: int, value: int) -> int:
        return value

    @reverts("extra", to=None)
    def nothing(self, key: int, value: int) -> None:
        pass


class Refuses(Keeper2):
    """A conversion that does not take everything."""

    @migrates("flows", since=Hash[mac, Flow])
    def grown(self, key: mac, old: Flow) -> Flow2:
        raise LookupError("on purpose")
