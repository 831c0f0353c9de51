"""Unwraps packets that come through tunnels to what is behind it: IP in IP, of either version in either.

Put it before a workload that is the end of tunnels and knows none itself: a backend of a [balancer](balancer.md) in
mode `tunnel`, which holds the VIP on its loopback device.  What was inside goes on to it; its answers, like all that is
in no tunnel, pass as they are.

## Ports

```text
                ┌──────────────┐
   outside   ───┤ decapsulator ├───   inside
   tunnels      └──────────────┘      a workload
```

## Configuration

| field | default | meaning |
|---|---|---|
| `addresses` | | where tunnels end, the workload's own addresses; what is in tunnels to others passes as it is |
| `senders` | | prefixes of those who may send through tunnels, such as a balancer's `addresses`; nobody else may |
| `destinations` | any | prefixes of what may be inside of tunnels, such as VIPs |
| `most_prefixes` | 1024 | room for senders and destinations |

Anybody can write any address into a packet: what is trusted here should be what a network does not let in from outside.

```python
from iovisor.functions.decapsulator import Decapsulator

end = Decapsulator(addresses=["10.0.0.11"], senders=["10.0.0.9/32"], destinations=["198.51.100.1/32"])
```

Tunnels are protocol 4 (RFC 2003) and 41 (RFC 4213) in IPv4, and 4 and 41 in IPv6 (RFC 2473), there behind one
destination options header at most, as Linux writes it.  Only one is taken off.  What is inside keeps its hop limit and
its DSCP; congestion that the tunnel met becomes its own (RFC 6040 section 4.2).

## Tables

| table | key | value |
|---|---|---|
| `ends` | address | where tunnels end |
| `senders`, `destinations` | prefix | who may send, and to whom; IPv4 as ::ffff:a.b.c.d |

## Counters

`unwrapped`: packets and bytes that came through tunnels, with their headers; 0 from IPv4, 1 from IPv6.

## Drop reasons

| reason | the packet, in a tunnel to one of `addresses`, |
|---|---|
| `UNTRUSTED` | is of nobody in `senders` |
| `STRANGER` | has inside what is to nobody in `destinations` |
| `MALFORMED` | contradicts itself, outside or inside |
| `FRAGMENT` | is a fragment: send through tunnels what need not be fragmented |
| `OPTIONS` | has IPv4 options, or more extension headers |
| `CONGESTED` | met congestion, and inside is what cannot be told of it |

## Actions

None.

## Limits

Tunnels that are secured, and GRE, are not unwrapped.  ICMP errors about tunnels pass to the workload.  Datagrams that
leave their sender as one (UDP_SEGMENT) and come so through a tunnel of the same machine stay one.  TC and XDP.
"""
from __future__ import annotations

import ipaddress

from iovisor.language import (
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Header,
    Lpm,
    Packet,
    Port,
    Prefix,
    Reasons,
    Verdict,
    auto,
    forward,
    inline,
    ipv6,
    require,
    table,
    u2,
    u8,
    u16,
    u32,
    u48,
)
from iovisor.parts.reading import MAPPED, V4
from iovisor.wire import checksum
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_fragment, is_sane
from iovisor.wire.ipv6 import Fragment, IPv6

NOT_ECT, ECT1, ECT0, CE = range(4)      # RFC 3168 section 5
ENDS = 64


class Reason(Reasons):
    UNTRUSTED = auto()
    STRANGER = auto()
    MALFORMED = auto()
    FRAGMENT = auto()
    OPTIONS = auto()
    CONGESTED = auto()


class Options(Header):
    """A destination options header of 8 bytes: a limit to tunnels in tunnels (RFC 2473 section 4.1.1), and padding."""

    next: u8
    length: u8
    options: u48


@inline
def is_tunnel(protocol: u8) -> bool:
    """IP in IP."""
    return protocol in (IpProtocol.IPV4, IpProtocol.IPV6)


def mapped(prefix: Prefix) -> Prefix:
    """A prefix of either version among IPv6's."""
    return prefix if prefix.bits == 128 else Prefix(MAPPED | prefix.address, prefix.length + V4, 128)


class DecapsulatorConfig(Config):
    """Where tunnels end, who may send through them, and what."""

    addresses: list[str]
    senders: list[Prefix]
    destinations: list[Prefix] = []
    most_prefixes: u32 = 1024

    def validate(self) -> None:
        if not self.addresses:
            raise ConfigError("addresses", "a tunnel needs an end")
        if len(self.addresses) > ENDS:
            raise ConfigError("addresses", f"{ENDS} are the most")
        if not self.senders:
            raise ConfigError("senders", "somebody has to be trusted, as a prefix such as 10.0.0.9/32")
        for name in ("senders", "destinations"):
            if len(getattr(self, name)) > self.most_prefixes:
                raise ConfigError(name, f"there is room for {self.most_prefixes} (most_prefixes)")
        self.ends()

    def ends(self) -> set[int]:
        """The addresses, as IPv6's."""
        found = set()
        for index, text in enumerate(self.addresses):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise ConfigError(f"addresses[{index}]", f"{text!r} is not an address") from None
            found.add(int(address) if address.version == 6 else MAPPED | int(address))
        return found


class Decapsulator(Function):
    config: DecapsulatorConfig
    outside: Port
    inside: Port

    ends: Hash[ipv6, u8] = table(ENDS)
    senders: Lpm[ipv6, u8] = table("most_prefixes")
    destinations: Lpm[ipv6, u8] = table("most_prefixes")
    unwrapped: Counter = table(2)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.inside:
            return forward(self.outside)
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip = pkt.peek(IPv4)
            if ip is not None and is_tunnel(ip.proto) and MAPPED | ip.dst in self.ends:
                return self.from4(pkt, eth, ip)
        elif eth.type == EtherType.IPV6:
            ip6 = pkt.peek(IPv6)
            if ip6 is not None and ip6.dst in self.ends:
                if is_tunnel(ip6.next):
                    return self.from6(pkt, eth, ip6)
                if ip6.next == IpProtocol.FRAGMENT:
                    part = pkt.peek(Fragment, IPv6.size)
                    require(part is None or not is_tunnel(part.next), Reason.FRAGMENT)
                elif ip6.next == IpProtocol.DESTINATION:
                    options = pkt.peek(Options, IPv6.size)
                    if options is not None and is_tunnel(options.next):
                        return self.behind_options(pkt, eth, ip6, options)
        return forward(self.inside)

    def from4(self, pkt: Packet, eth: Ethernet, ip: IPv4) -> Verdict:
        require(is_sane(ip) and ip.length + 14 <= len(pkt), Reason.MALFORMED)
        require(ip.ihl == 5, Reason.OPTIONS)
        require(checksum.is_right(checksum.of_ipv4(ip)), Reason.MALFORMED)
        require(not is_fragment(ip), Reason.FRAGMENT)
        require(self.senders.get(MAPPED | ip.src) is not None, Reason.UNTRUSTED)
        pkt.skip(IPv4.size)
        self.inspect(pkt, eth, ip.proto, (ip.length - IPv4.size) & 0xffff, ip.ecn)
        self.unwrapped.add(0, bytes=len(pkt))
        pkt.remove(IPv4)
        return forward(self.inside)

    def from6(self, pkt: Packet, eth: Ethernet, ip: IPv6) -> Verdict:
        require(ip.version == 6 and ip.length + 54 <= len(pkt), Reason.MALFORMED)
        require(self.senders.get(ip.src) is not None, Reason.UNTRUSTED)
        pkt.skip(IPv6.size)
        self.inspect(pkt, eth, ip.next, ip.length, ip.ecn)
        self.unwrapped.add(1, bytes=len(pkt))
        pkt.remove(IPv6)
        return forward(self.inside)

    def behind_options(self, pkt: Packet, eth: Ethernet, ip: IPv6, options: Options) -> Verdict:
        require(ip.version == 6 and ip.length >= Options.size and ip.length + 54 <= len(pkt), Reason.MALFORMED)
        require(options.length == 0, Reason.OPTIONS)
        require(self.senders.get(ip.src) is not None, Reason.UNTRUSTED)
        pkt.skip(IPv6.size + Options.size)
        self.inspect(pkt, eth, options.next, (ip.length - Options.size) & 0xffff, ip.ecn)
        self.unwrapped.add(1, bytes=len(pkt))
        pkt.remove(IPv6, Options)
        return forward(self.inside)

    def inspect(self, pkt: Packet, eth: Ethernet, protocol: u8, room: u16, ecn: u2) -> None:
        """Judge what is inside, in `room` bytes behind the cursor, and let the frame and it say what they then are."""
        if protocol == IpProtocol.IPV4:
            require(room >= IPv4.size, Reason.MALFORMED)
            ip = pkt.parse(IPv4)
            require(is_sane(ip) and ip.length <= room, Reason.MALFORMED)
            require(self.destinations.get(MAPPED | ip.dst) is not None, Reason.STRANGER)
            met = self.met(ip.ecn, ecn)
            if met != ip.ecn:
                pkt.rewrite(ip, under=None, ecn=met)
            eth.type = EtherType.IPV4
        else:
            require(room >= IPv6.size, Reason.MALFORMED)
            ip6 = pkt.parse(IPv6)
            require(ip6.version == 6 and ip6.length + IPv6.size <= room, Reason.MALFORMED)
            require(self.destinations.get(ip6.dst) is not None, Reason.STRANGER)
            ip6.ecn = self.met(ip6.ecn, ecn)
            eth.type = EtherType.IPV6

    def met(self, inside: u2, outside: u2) -> int:
        """RFC 6040 section 4.2, figure 4."""
        if outside == CE:
            require(inside != NOT_ECT, Reason.CONGESTED)
            return CE
        return ECT1 if inside == ECT0 and outside == ECT1 else inside

    def configure(self, old: DecapsulatorConfig | None, new: DecapsulatorConfig) -> None:
        wanted = new.ends()
        for end in set(self.ends) - wanted:
            del self.ends[end]
        for end in wanted:
            self.ends[end] = 1
        everybody = [Prefix(0, 0, 128)]
        for known, prefixes in ((self.senders, new.senders), (self.destinations, new.destinations or everybody)):
            allowed = {mapped(prefix) for prefix in prefixes}
            for prefix in set(known) - allowed:
                del known[prefix]
            for prefix in allowed:
                known[prefix] = 1
