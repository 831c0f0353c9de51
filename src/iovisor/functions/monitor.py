"""Counts what passes between two ports, by flow: records for a collector (IPFIX), top talkers, times of TCP handshakes.

Packets are not touched.  Every packet is in exactly one record, in the number of packets and bytes it has on a wire.

## Ports

```text
              ┌───────────┐
   inside   ──┤  monitor  ├──   outside
              └─────┬─────┘
                 export             records leave here; ARP for `source` is answered
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `flows` | number | 65,536 | flows of one interval there is room for |
| `interval` | time | 60s | after this a flow's numbers are exported, and it begins again |
| `collector` | address | none | who gets the records, IPv4; without one nothing is exported |
| `collector_port` | number | 4739 | its UDP port |
| `source` | address | | ours, IPv4 |
| `mac` | MAC | | ours |
| `gateway` | address | none | the next hop to the collector, if it is not on the network of `export` itself |
| `domain` | number | 1 | the observation domain, which tells a collector its exporters apart |
| `templates` | time | 60s | how often the collector is told what records look like |

```python
from iovisor.functions.monitor import Monitor

watched = Monitor(collector="192.0.2.9", source="192.0.2.1", mac="02:00:00:00:00:0a", interval="30s")
by_hand = Monitor()
```

A *flow* is one direction of a conversation: addresses, protocol, ports (of ICMP type and code), outer VLAN.  Later
fragments have no ports and are a flow of their own.

*Records* (RFC 7011, over UDP) have bytes of IP (headers included, padding not), packets, when the first and the last
came, TCP flags, class of service and direction (0 in, from outside; 1 out).  Of an aggregate (GSO) every segment is
counted, with a header of its own.

*Handshakes.*  From a SYN to the answer is the server's time, from the answer to the acknowledgment the client's, both
seen from here.  They are counted by powers of two of microseconds.

## Tables

| table | key | value |
|---|---|---|
| `records` | `FlowKey` and bank | packets, bytes, times, flags |
| `bank` | 0 | which bank is counted in; the other is being exported |
| `sums` | 0, 1 | packets and bytes: of flows there was no room for, and of what is not IP |

## Counters

`times`: handshakes by what was measured (the server's from 0, the client's from 32) and power of two.  `handshakes`
lists them.  What was missed `show` says.

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_EXPORT` | came in at the export port and is not ARP for us |

## Actions

`show` says what was counted; `top` lists who sent most, by `bytes` or `packets`, in this interval and the last; `flows`
lists the flows of this interval; `handshakes` lists times; `flush` exports at once; `reset` sets the counters to zero.

## Limits

The collector is told over IPv4 and UDP; what is lost there is lost.  When more than `flows` flows meet in an
interval, the rest is counted together.  Flows behind tunnels or more than one VLAN tag among the bytes are not looked
into.  A handshake that crosses the end of an interval is not timed.  A packet of a known flow costs 63 ns over IPv4,
67 ns over IPv6 (TC, less the 36 ns of an empty program).  TCP aggregates are timed and flagged as one.  The fabric's
timers must run (`serve`).
"""
# Why it is written so.
#
# Two banks: Python reads the one in which nobody counts any more, so no packet falls between reading an entry and
# removing it.  An LRU was rejected: what it evicts was counted and is never told.
#
# Handshakes need no table: the record of the client's flow remembers its SYN, and is asked by the answer alone.
from __future__ import annotations

import time as system
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    every,
    forward,
    handles,
    instant,
    ipv4,
    ipv4_text,
    ipv6_text,
    mac,
    now,
    punt,
    require,
    table,
    time,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.parts.asking import arp_request
from iovisor.parts.flow import FlowKey, internet, told
from iovisor.wire import ipfix
from iovisor.wire.arp import Arp, ArpOperation, answer, is_ethernet_ipv4
from iovisor.wire.checksum import finish, finish_udp, of_ipv4, pseudo_ipv4
from iovisor.wire.dscp import dscp_text
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipfix import Element, Template
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.offload import of_data
from iovisor.wire.tcp import Tcp, TcpFlag
from iovisor.wire.udp import Udp

MISSED, OTHER = 0, 1                        # in `sums`
BUCKETS = 32                                # powers of two of microseconds
SERVER, CLIENT = 0, BUCKETS                 # in `times`
LONGEST = 1_400                             # bytes of a message
MESSAGES = (IpProtocol.ICMP, IpProtocol.ICMP6)
_COMMON = ((Element.SOURCE_PORT, 2), (Element.DESTINATION_PORT, 2), (Element.PROTOCOL, 1), (Element.CLASS, 1),
           (Element.TCP_FLAGS, 1), (Element.OCTETS, 8), (Element.PACKETS, 8), (Element.START, 8), (Element.END, 8),
           (Element.VLAN, 2), (Element.DIRECTION, 1))
OF_IPV4 = Template(256, ((Element.SOURCE_IPV4, 4), (Element.DESTINATION_IPV4, 4), *_COMMON, (Element.ICMP, 2)))
OF_IPV6 = Template(257, ((Element.SOURCE_IPV6, 16), (Element.DESTINATION_IPV6, 16), *_COMMON, (Element.ICMP6, 2)))


class Reason(Reasons):
    NOT_EXPORT = auto()


# -- tables ----------------------------------------------------------------------------------------------------------

class Seen(Record):
    """A flow in an interval; `asked` and `answered` are times of a handshake, zero when there is none."""

    packets: u64 = 0
    bytes: u64 = 0
    first: time = 0
    last: time = 0
    asked: time = 0
    answered: time = 0
    flags: u8 = 0
    traffic: u8 = 0
    incoming: u8 = 0


class Sum(Record):
    packets: u64 = 0
    bytes: u64 = 0


class Resolved(Record):
    """Who has an address answers."""

    address: u32
    mac: mac


# -- configuration ---------------------------------------------------------------------------------------------------

class MonitorConfig(Config):
    """What is counted, and who is told."""

    flows: u32 = 65_536
    interval: time = 60 * SECOND
    collector: ipv4 = 0
    collector_port: u16 = ipfix.PORT
    source: ipv4 = 0
    mac: mac = 0
    gateway: ipv4 = 0
    domain: u32 = 1
    templates: time = 60 * SECOND

    def validate(self) -> None:
        if not self.flows:
            raise ConfigError("flows", "one is the least")
        if self.interval < 2 * SECOND:
            raise ConfigError("interval", "two seconds are the least")
        for name in ("source", "mac") if self.collector else ():
            if not getattr(self, name):
                raise ConfigError(name, "a collector is told from somewhere: this is needed")

    @property
    def room(self) -> int:
        return 2 * self.flows


# -- the function ----------------------------------------------------------------------------------------------------

class Monitor(Function):
    config: MonitorConfig
    inside: Port
    outside: Port
    export: Port

    records: Hash[FlowKey, Seen] = table("room")
    bank: Array[u32] = table(1)
    sums: Array[Sum] = table(2)
    times: Counter = table(2 * BUCKETS)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.export:
            return self.resolve(pkt)
        incoming = 1 if pkt.port == self.outside else 0
        onward = self.inside if incoming else self.outside
        size = len(pkt)
        ip4, ip6, link = internet(pkt)
        octets = 0
        if ip4 is not None:
            octets = ip4.length
        elif ip6 is not None:
            octets = ip6.length + 40
        else:
            self.count_apart(OTHER, 1, size)
            return forward(onward)
        (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, offset, traffic,
         headers) = told(pkt, ip4, ip6)
        packets = 1
        segment = pkt.segment
        if segment != 0:
            packets = (max(size - link - headers, 1) + segment - 1) // segment
            octets = size - link + (packets - 1) * headers
        octets = octets & 0xff_ffff
        packets = packets & 0xffff
        flags, opening, answering = 0, 0, 0
        if protocol == IpProtocol.TCP and offset == 0:
            tcp = pkt.peek(Tcp)
            if tcp is not None:
                flags = tcp.flags
                opening = 1 if flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN else 0
                answering = 1 if flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN | TcpFlag.ACK else 0
        bank = self.bank[0] & 1
        vlan = pkt.tci & 0xfff
        if answering:
            asker = self.records.get(FlowKey(
                source_upper=destination_upper, source_lower=destination_lower, destination_upper=source_upper,
                destination_lower=source_lower, source_port=second, destination_port=first, protocol=protocol,
                spare=bank, vlan=vlan))
            if asker is not None and asker.asked != 0:
                moment = instant()
                self.times.add(SERVER + self.power_of(moment - asker.asked))
                asker.asked = 0
                asker.answered = moment
        key = FlowKey(
            source_upper=source_upper, source_lower=source_lower, destination_upper=destination_upper,
            destination_lower=destination_lower, source_port=first, destination_port=second, protocol=protocol,
            spare=bank, vlan=vlan)
        seen = self.records.get(key)
        moment = now()
        if seen is None:
            self.records.insert(key, Seen(first=moment, last=moment, traffic=traffic, incoming=incoming))
            seen = self.records.get(key)
        if seen is None:
            self.count_apart(MISSED, packets, octets)
            return forward(onward)
        seen.packets += packets
        seen.bytes += octets
        if seen.last != moment:
            seen.last = moment
        if flags | seen.flags != seen.flags:
            seen.flags = flags | seen.flags
        if opening:
            seen.asked = instant()
        elif seen.answered != 0 and flags & TcpFlag.ACK:
            self.times.add(CLIENT + self.power_of(instant() - seen.answered))
            seen.answered = 0
        return forward(onward)

    def count_apart(self, what: u8, packets: u32, size: u32) -> None:
        found = self.sums[what]
        found.packets += packets
        found.bytes += size

    def power_of(self, nanoseconds: int) -> int:
        """How many bits the microseconds have: 0 below one, 1 below two, 2 below four."""
        value = min(max(nanoseconds, 0) // 1_000, 0x7fff_ffff)
        bits = 0
        for step in (16, 8, 4, 2, 1):
            if value >> step != 0:
                value = value >> step
                bits = bits + step
        return bits + (1 if value != 0 else 0)

    def resolve(self, pkt: Packet) -> Verdict:
        """ARP at the export port: what the collector, or the way to it, must know and says."""
        eth = pkt.parse(Ethernet)
        require(eth.type == EtherType.ARP and self.config.source != 0, Reason.NOT_EXPORT)
        arp = pkt.parse(Arp)
        require(is_ethernet_ipv4(arp) and arp.target_ip == self.config.source, Reason.NOT_EXPORT)
        if arp.operation == ArpOperation.REPLY:
            return punt(Resolved(address=arp.sender_ip, mac=arp.sender_mac))
        answer(eth, arp, self.config.mac)
        return forward(self.export)

    # -- control path ------------------------------------------------------------------------------------------------

    turned = 0                                  # when the banks changed, and whether the other one is still to be read
    unread = True
    told = 0                                    # when templates were sent, how many records since ever, and to whom
    sequence = 0
    next_hop = 0
    lately: list[tuple[FlowKey, Seen]]

    def configure(self, old: MonitorConfig | None, new: MonitorConfig) -> None:
        if old is None:
            self.lately, self.turned = [], now()
        elif (old.collector, old.gateway, old.source) != (new.collector, new.gateway, new.source):
            self.next_hop, self.told = 0, 0

    @every(1)
    def tick(self) -> None:
        """Change banks at the end of an interval; a second later, when nobody counts in it any more, read the other."""
        if self.config.collector and not self.next_hop:
            self.send(arp_request(self.config.mac, self.config.source, self.config.gateway or self.config.collector),
                      self.export)
        if self.unread:
            self.read()
        elif now() - self.turned >= self.config.interval:
            self.turn()

    def turn(self) -> None:
        self.bank[0] = 1 - (self.bank[0] & 1)
        self.turned, self.unread = now(), True

    def read(self) -> None:
        """Export the bank that is not counted in, and empty it."""
        if self.config.collector and not self.next_hop:
            return                              # its turn comes when it can be told
        other = 1 - (self.bank[0] & 1)
        self.lately = [(key, seen) for key, seen in self.records.items() if key.spare == other]
        for key, _ in self.lately:
            del self.records[key]
        self.unread = False
        if self.config.collector:
            self.tell(self.lately)

    def tell(self, flows: list[tuple[FlowKey, Seen]]) -> None:
        """Records to the collector, templates first if they are due."""
        moment, zero = now(), system.time_ns() - now()
        if self.told == 0 or moment - self.told >= self.config.templates:
            self.told = moment
            self.message(ipfix.message(system.time_ns() // SECOND, self.sequence, self.config.domain,
                                       (ipfix.TEMPLATES, bytes(OF_IPV4) + bytes(OF_IPV6))))
        records = [described(key, seen, zero) for key, seen in flows]
        for message in ipfix.messages(records, system.time_ns() // SECOND, self.sequence, self.config.domain, LONGEST):
            self.message(message)
        self.sequence += len(records)

    def message(self, data: bytes) -> None:
        """A datagram to the collector."""
        here, there = self.config.source, self.config.collector
        udp = Udp(src=ipfix.PORT, dst=self.config.collector_port, length=len(data) + 8)
        udp.checksum = finish_udp(pseudo_ipv4(here, there, IpProtocol.UDP, udp.length) + of_data(bytes(udp))
                                  + of_data(data))
        ip = IPv4(length=20 + udp.length, proto=IpProtocol.UDP, df=1, src=here, dst=there)
        ip.checksum = finish(of_ipv4(ip))
        link = Ethernet(dst=self.next_hop, src=self.config.mac, type=EtherType.IPV4)
        self.send(bytes(link) + bytes(ip) + bytes(udp) + data, self.export)

    @handles(Resolved)
    def resolved(self, event: Resolved, packet: Packet) -> None:
        """The way to the collector is known."""
        if event.address == (self.config.gateway or self.config.collector):
            self.next_hop = event.mac

    @action
    def flush(self) -> int:
        """Export what was counted, now; answers how many flows there were."""
        if self.unread:
            self.read()
        self.turn()
        self.read()
        return len(self.lately)

    @action
    def top(self, count: int = 10, by: str = "bytes") -> list[dict[str, Any]]:
        """Who sent most, in this interval and the last."""
        sums: dict[str, list[int]] = {}
        for key, seen in [*self.records.items(), *self.lately]:
            found = sums.setdefault(text_of(key.source_upper, key.source_lower), [0, 0])
            found[0] += seen.packets
            found[1] += seen.bytes
        order = sorted(sums, key=lambda source: sums[source][by != "packets"], reverse=True)
        return [{"source": source, "packets": sums[source][0], "bytes": sums[source][1]} for source in order[:count]]

    @action
    def flows(self) -> list[dict[str, Any]]:
        """The flows of this interval."""
        return [{"source": text_of(key.source_upper, key.source_lower), "source_port": key.source_port,
                 "destination": text_of(key.destination_upper, key.destination_lower),
                 "destination_port": key.destination_port, "protocol": protocol_text(key.protocol), "vlan": key.vlan,
                 "dscp": dscp_text(seen.traffic >> 2), "packets": seen.packets, "bytes": seen.bytes}
                for key, seen in self.records.items()]

    @action
    def handshakes(self) -> list[dict[str, Any]]:
        """Whose time, up to how many microseconds, how often."""
        return [{"whose": whose, "below": 1 << power, "count": count}
                for whose, start in (("server", SERVER), ("client", CLIENT)) for power in range(BUCKETS)
                if (count := self.times.read(start + power).packets)]

    @action
    def show(self) -> dict[str, Any]:
        """What was counted."""
        missed, other = self.sums[MISSED], self.sums[OTHER]
        return {"flows": len(self.records), "exported": self.sequence, "missed_packets": missed.packets,
                "missed_bytes": missed.bytes, "other_packets": other.packets, "other_bytes": other.bytes}

    @action
    def reset(self) -> None:
        """Set the counters to zero; flows stay."""
        self.times.clear()
        for place in (MISSED, OTHER):
            self.sums[place] = Sum()


def described(key: FlowKey, seen: Seen, zero: int) -> tuple[Template, bytes]:
    """A flow as a record; `zero` is when our clock began, in nanoseconds since the epoch."""
    message = key.protocol in MESSAGES
    source, destination = (0, 0) if message else (key.source_port, key.destination_port)
    common = (source, destination, key.protocol, seen.traffic, seen.flags, seen.bytes, seen.packets,
              (zero + seen.first) // 1_000_000, (zero + seen.last) // 1_000_000, key.vlan, 1 - seen.incoming,
              key.source_port << 8 | key.destination_port if message else 0)
    if is_ipv4(key.source_upper, key.source_lower):
        return OF_IPV4, OF_IPV4.record(key.source_lower & 0xffff_ffff, key.destination_lower & 0xffff_ffff, *common)
    return OF_IPV6, OF_IPV6.record(key.source_upper << 64 | key.source_lower,
                                   key.destination_upper << 64 | key.destination_lower, *common)


def is_ipv4(upper: int, lower: int) -> bool:
    return upper == 0 and lower >> 32 == 0xffff


def text_of(upper: int, lower: int) -> str:
    return ipv4_text(lower & 0xffff_ffff) if is_ipv4(upper, lower) else ipv6_text(upper << 64 | lower)


def protocol_text(number: int) -> str:
    return IpProtocol(number).name.lower() if number in list(IpProtocol) else str(number)
