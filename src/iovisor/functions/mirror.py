"""Copies what passes between two ports to a third: all of it or what a filter says, whole or cut, bare or in a tunnel.

The packet itself goes on untouched, whatever becomes of the copy.  A copy is never copied again.

## Ports

```text
              ┌──────────┐
   inside   ──┤  mirror  ├──   outside
              └────┬─────┘
                monitor             copies leave here; what comes in here is dropped
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `filter` | list | all | what is copied, see below; without any: everything, IP or not |
| `direction` | out, in, both | both | out: from inside to outside |
| `sample` | number | 1 | one packet in so many, by chance |
| `truncate` | bytes | 0 | how much of a frame is copied, from its Ethernet header on; 128 at least; 0: all |
| `encapsulation` | none, gre, erspan | none | whether copies leave in a tunnel |
| `source`, `destination` | address | | both IPv4 or both IPv6: of the tunnel |
| `sender`, `gateway` | MAC | | of the tunnel's frames: from, and to whom they go next |
| `session` | 0 to 1023 | 0 | ERSPAN's session, GRE's key |
| `dscp` | DSCP | cs0 | of the tunnel's packets |
| `most_rules` | number | 1024 | room for a filter, set when the function is made |
| `most_classes` | number | 1024 | room for prefixes, and for different sets of rules that one satisfies |

Each entry of `filter` may have `name`, `direction`, `source`, `destination`, `protocol`, `source_ports`,
`destination_ports` and `dscp`, as rules of a marker have; what it does not say matches everything.

```python
from iovisor.functions.mirror import Mirror

everything = Mirror()
web = Mirror(filter=[{"protocol": "tcp", "destination_ports": [80, 443]}, {"protocol": "tcp", "source_ports": 443}],
             truncate=128)
far = Mirror(encapsulation="erspan", source="192.0.2.1", destination="192.0.2.9", sender="02:00:00:00:00:01",
             gateway="02:00:00:00:00:fe", session=7)
```

*Tunnels.*  `gre` is a frame in GRE with a key (RFC 2784, RFC 2890), `erspan` is ERSPAN type II: session, sequence
number, the outer VLAN, and whether the frame was cut.  The outer tag itself is not copied.  A copy in a tunnel is at
most `truncate` bytes long, 1,400 unless that says otherwise, so that it fits; an aggregate (GSO) is cut to that and
counts as one packet.  Without a tunnel an aggregate is copied as one, and cut by the device like any other.

*No copy of a copy.*  Wherever a copy comes in this network, a mirror passes it on and copies it not.

## Tables

| table | key | value |
|---|---|---|
| `wanted` | 0 | 1 if there is a filter |
| `tunnels` | 0 | the tunnel |
| `sequence` | 0 | the sequence number of the next copy |
| `asking.sources_0`, `asking.destinations_0`, `asking.firsts`, `asking.seconds` | prefix | a row |
| `asking.sources_1`, `asking.destinations_1` | prefix | those of the other bank |
| `asking.tags`, `asking.flags` | protocol and direction, DSCP | a row |
| `asking.rows` | | bits, one a rule; the first that all six rows have decides |
| `asking.active` | 0 | the bank in use, the length of a row |

## Counters

`counts`: packets and bytes, by direction: copied, and `lost`, whose copy could not be made because the machine's
backlog was full.  `show` lists them.

## Drop reasons

| reason | the packet |
|---|---|
| `FROM_MONITOR` | came in at the monitor port |

## Actions

`show` lists what was counted; `reset` sets the counters to zero.

## Limits

TC only.  Copies are in the order of the packets as long as those come on one CPU.  The tunnel has fixed MACs: put a
router behind the monitor port if they are not known.  Sequence numbers of two CPUs may be the same.  IPv6 outside has
no fragments and no flow label.  A trace does not show copies.
"""
# Why it is written so.
#
# The copy is made by the fabric (`pkt.copy`) and shaped in `egress`, when it is a packet of its own: what is cut and
# put around it touches no byte of the other.  Flooding to two ports was rejected: the packet itself would be a copy, be
# charged to the storm budget and could be overtaken.
from __future__ import annotations

from enum import IntEnum
from ipaddress import ip_address
from typing import Any

from iovisor.language import (
    Array,
    ConfigError,
    Counter,
    Function,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    forward,
    mac,
    random,
    table,
    u6,
    u8,
    u10,
    u16,
    u32,
    u128,
)
from iovisor.parts.classifier import NONE, Classifier, ClassifierConfig
from iovisor.parts.flow import internet, told
from iovisor.parts.selection import SelectionConfig
from iovisor.wire import checksum, gre, ipv4, ipv6
from iovisor.wire.dscp import Dscp
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.gre import Erspan, Gre, GreWord
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6

COPIED, LOST = 0, 1                         # of each direction, in `counts`
LEAST, FITTING, LONGEST = 128, 1_400, 1_900


class Reason(Reasons):
    FROM_MONITOR = auto()


class Way(IntEnum):
    OUT = 1
    IN = 2
    BOTH = 3


class Encapsulation(IntEnum):
    NONE = 0
    GRE = 1
    ERSPAN = 2


# -- tables ----------------------------------------------------------------------------------------------------------

class Tunnel(Record):
    source: u128 = 0
    destination: u128 = 0
    sender: mac = 0
    gateway: mac = 0
    six: u8 = 0
    dscp: u8 = 0


# -- configuration ---------------------------------------------------------------------------------------------------

class MirrorConfig(ClassifierConfig):
    """What is copied, and how copies travel."""

    filter: list[SelectionConfig] = []
    direction: Way = Way.BOTH
    sample: u32 = 1
    truncate: u16 = 0
    encapsulation: Encapsulation = Encapsulation.NONE
    source: str = ""
    destination: str = ""
    sender: mac = 0
    gateway: mac = 0
    session: u10 = 0
    dscp: Dscp | u6 = Dscp.CS0

    def validate(self) -> None:
        super().validate()
        if self.sample == 0:
            raise ConfigError("sample", "one in 0 is none: 1 is every packet")
        if self.truncate and not LEAST <= self.truncate <= 0xffff:
            raise ConfigError("truncate", f"{self.truncate} bytes are less than {LEAST}")
        if len(self.filter) > self.most_rules:
            raise ConfigError("filter", f"{len(self.filter)} rules; there is room for {self.most_rules} (most_rules)")
        if self.encapsulation != Encapsulation.NONE:
            if self.truncate > LONGEST:
                raise ConfigError("truncate", f"in a tunnel, {LONGEST} bytes are the most")
            for name in ("source", "destination", "sender", "gateway"):
                if not getattr(self, name):
                    raise ConfigError(name, "a tunnel needs this")
            self.tunnel()

    def tunnel(self) -> Tunnel:
        """As the data path writes it."""
        if self.encapsulation == Encapsulation.NONE:
            return Tunnel()
        found = {}
        for name in ("source", "destination"):
            try:
                found[name] = ip_address(getattr(self, name))
            except ValueError as error:
                raise ConfigError(name, str(error)) from None
        if found["source"].version != found["destination"].version:
            raise ConfigError("destination", "a tunnel is over IPv4 or over IPv6")
        return Tunnel(source=int(found["source"]), destination=int(found["destination"]), sender=self.sender,
                      gateway=self.gateway, six=found["source"].version == 6, dscp=int(self.dscp))


# -- the function ----------------------------------------------------------------------------------------------------

class Mirror(Function):
    config: MirrorConfig
    inside: Port
    outside: Port
    monitor: Port

    asking: Classifier = Classifier()
    wanted: Array[u8] = table(1)
    tunnels: Array[Tunnel] = table(1)
    sequence: Array[u32] = table(1)
    counts: Counter = table(4)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.monitor:
            return drop(Reason.FROM_MONITOR)
        incoming = 1 if pkt.port == self.outside else 0
        if self.config.direction & (1 << incoming) and not pkt.copied:
            if self.config.sample == 1 or random() % max(self.config.sample, 1) == 0:
                if self.wanted[0] == 0 or self.asks_for(pkt, incoming):
                    made = pkt.copy(self.monitor)
                    self.counts.add(incoming * 2 + (COPIED if made else LOST), bytes=len(pkt))
        return forward(self.inside if incoming else self.outside)

    def asks_for(self, pkt: Packet, incoming: u8) -> bool:
        """Whether the filter means a packet; it means IP only."""
        ip4, ip6, _ = internet(pkt)
        if ip4 is None and ip6 is None:
            return False
        (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, _, traffic,
         _) = told(pkt, ip4, ip6)
        return self.asking.match(source_upper, source_lower, destination_upper, destination_lower, first, second,
                                 protocol | incoming << 8, traffic >> 2) != NONE

    def egress(self, pkt: Packet) -> Verdict:
        """Of a copy what is wanted, and a tunnel around it; all else goes as it is."""
        if pkt.port != self.monitor:
            return forward(pkt.port)
        tunnelled = self.config.encapsulation != Encapsulation.NONE
        most = self.config.truncate
        if tunnelled and most == 0:
            most = FITTING
        cut = 0
        if most != 0 and len(pkt) > most:
            pkt.resize(most)
            cut = 1
        if not tunnelled:
            return forward(pkt.port)
        if pkt.segment != 0:
            pkt.resize(min(len(pkt), LONGEST))
            cut = 1
        vlan = pkt.tci & 0xfff
        pkt.untag()
        pkt.untag()
        size = min(len(pkt), LONGEST)
        if self.config.encapsulation == Encapsulation.ERSPAN:
            number = self.sequence[0]
            self.sequence[0] = number + 1
            head, word, erspan = pkt.push(Gre, GreWord, Erspan)
            head.sequenced = 1
            head.type = gre.ERSPAN
            word.value = number
            erspan.version = 1
            erspan.vlan = vlan
            erspan.encapsulation = 3 if vlan else 0
            erspan.truncated = cut
            erspan.session = self.config.session
            size = size + 16
        else:
            head, word = pkt.push(Gre, GreWord)
            head.keyed = 1
            head.type = gre.ETHERNET
            word.value = self.config.session
            size = size + 8
        tunnel = self.tunnels[0]
        if tunnel.six:
            eth, ip6 = pkt.push(Ethernet, IPv6)
            eth.type = EtherType.IPV6
            ipv6.fill(ip6, tunnel.source, tunnel.destination, IpProtocol.GRE, size, 64, tunnel.dscp & 0x3f)
        else:
            eth, ip4 = pkt.push(Ethernet, IPv4)
            eth.type = EtherType.IPV4
            ipv4.fill(ip4, tunnel.source & 0xffff_ffff, tunnel.destination & 0xffff_ffff, IpProtocol.GRE, size, 64,
                      tunnel.dscp & 0x3f, 0, 1)
            checksum.ipv4_header(ip4)
        eth.dst = tunnel.gateway
        eth.src = tunnel.sender
        return forward(pkt.port)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: MirrorConfig | None, new: MirrorConfig) -> None:
        if old is None or old.tunnel() != new.tunnel():
            self.tunnels[0] = new.tunnel()
        if old is None or old.filter != new.filter:
            self.asking.switch("filter", [rule.match() for rule in new.filter], False)
            self.wanted[0] = 1 if new.filter else 0

    @action
    def show(self) -> list[dict[str, Any]]:
        """What was copied, and whose copy could not be made, by direction."""
        return [{"direction": ("out", "in")[way], "packets": made.packets, "bytes": made.bytes, "lost": lost.packets}
                for way in range(2)
                for made, lost in [(self.counts.read(2 * way + COPIED), self.counts.read(2 * way + LOST))]]

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.counts.clear()
