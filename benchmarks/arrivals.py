"""What arrives at a host, as its kernel sees it: bytes, by how much they were ahead of their rate, and how long they
were on their way.

The account is kept where packets arrive, by a function at the host's own device, so that a million a second are no more
trouble than ten, and nothing of the time a process waits for its turn is in it.  It is exact as long as they arrive on
one CPU, which they do if they are sent on one.  (For rates below 200 Mbit/s the stamps of a packet socket say the same,
to a hundredth of a per cent.)
"""
from __future__ import annotations

from dataclasses import dataclass

from iovisor.language import (
    HOST,
    Array,
    Function,
    Header,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    forward,
    instant,
    table,
    u64,
)
from iovisor.parts.flow import internet, told
from iovisor.wire.ipv4 import IpProtocol

RATED, PROMPT = 7_779, 7_780        # UDP ports: of what is charged, and of what is timed
SAMPLES, FLOWS, PARTS = 65_536, 16, 10
CIRCLE = (1 << 62) - 1


class Reason(Reasons):
    ARRIVED = auto()


class Account(Record):
    """`cost` of a byte in parts of a nanosecond; when what came is paid for, and the most that was ever owed."""

    cost: u64 = 0
    full: u64 = 0
    owed: u64 = 0
    packets: u64 = 0
    bytes: u64 = 0
    last: u64 = 0


class Sent(Header):
    """What a timed datagram carries."""

    moment: u64


@dataclass(frozen=True)
class Reading:
    """Since the beginning: packets and bytes, when the last came, and the most bytes that were ever ahead."""

    packets: int
    bytes: int
    last: int
    ahead: float

    def rate_since(self, former: Reading) -> float:
        """Bits a second from the last packet then to the last packet now."""
        return (self.bytes - former.bytes) * 8e9 / (self.last - former.last)


class Stamp(Function):
    """Writes into timed datagrams when they came by."""

    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.outside:
            return forward(self.inside)
        ip4, ip6, _ = internet(pkt)
        _, _, _, _, protocol, _, second, _, _, _ = told(pkt, ip4, ip6)
        if protocol == IpProtocol.UDP and second == PROMPT:
            pkt.skip(8)
            sent = pkt.peek(Sent)
            if sent is not None:
                sent.moment = instant()
        return forward(self.outside)


class Arrivals(Function):
    """Ends what is under measurement; all else goes on to the host."""

    lan: Port

    accounts: Array[Account] = table(2)         # of what is charged, of what is timed
    flows: Array[u64] = table(FLOWS)
    delays: Array[u64] = table(SAMPLES)

    def ingress(self, pkt: Packet) -> Verdict:
        moment = instant()
        ip4, ip6, link = internet(pkt)
        _, _, _, _, protocol, first, second, _, _, headers = told(pkt, ip4, ip6)
        if protocol != IpProtocol.UDP or (second != RATED and second != PROMPT):
            return HOST
        account = self.accounts[0 if second == RATED else 1]
        above, segments, segment = link + headers, 1, pkt.segment
        if segment != 0:
            segments = ((max(len(pkt) - above, 1) + segment - 1) // segment) & 0xffff
        size = (len(pkt) + (segments - 1) * above) & 0xff_ffff
        if second == PROMPT:
            pkt.skip(8)
            self.delays[account.packets & (SAMPLES - 1)] = moment - pkt.parse(Sent).moment
        else:
            clock = moment << PARTS & CIRCLE
            owed = max((account.full & CIRCLE) - clock, 0) + (account.cost & 0xffff_ffff) * size
            account.full = clock + owed
            if owed > account.owed:
                account.owed = owed
            flow = first >> 8 & (FLOWS - 1)
            self.flows[flow] = self.flows[flow] + size
        account.packets += segments
        account.bytes += size
        account.last = moment
        return drop(Reason.ARRIVED)

    # -- control path ------------------------------------------------------------------------------------------------

    def charge(self, bits: int) -> None:
        """Begin anew, at so many bits a second."""
        self.accounts[0] = Account(cost=(8_000_000_000 << PARTS) // bits)
        self.flows.clear()

    def read(self) -> Reading:
        found = self.accounts[0]
        return Reading(found.packets, found.bytes, found.last, found.owed / max(found.cost, 1))

    def by_flow(self) -> list[int]:
        """Bytes of each flow."""
        return [self.flows[flow] for flow in range(FLOWS)]

    def delayed(self, begin: int = 0) -> list[int]:
        """Nanoseconds that each timed datagram took, from the `begin`th on."""
        count = self.accounts[1].packets
        if count > SAMPLES:
            raise RuntimeError(f"{count} datagrams were timed; there is room for {SAMPLES}")
        return [self.delays[number] for number in range(begin, count)]


__all__ = ["FLOWS", "PROMPT", "RATED", "Arrivals", "Reading", "Stamp"]
