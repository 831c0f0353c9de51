"""A packet filter between two ports: stateless rules in order of priority, for IPv4 and IPv6.

Each packet is compared with the rules from the first to the last; the first that matches decides.  Addresses are not
needed, and frames are not changed: put it on any link.

## Ports

```text
              ┌─────────┐
   inside   ──┤   acl   ├──   outside
              └─────────┘
      out: inside to outside      in: outside to inside
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rules` | list | | at most 64, see below |
| `default` | accept, drop | drop | what happens to IP packets that no rule matches |
| `resolution` | accept, drop | accept | ARP, and neighbor solicitation and advertisement (hop limit 255, no fragment) |
| `other` | accept, drop | drop | frames that are neither ARP nor IP, even if MPLS, PPPoE or LLC hide IP in them |
| `fragments` | follow, drop | follow | IP fragments, see below |

Each rule has an `action`, accept or drop, and any of these; what it does not say matches everything:

| field | meaning |
|---|---|
| `name` | for people |
| `direction` | out, in or both (default) |
| `source`, `destination` | a prefix, `10.0.0.0/8` or `2001:db8::/32`; `0.0.0.0/0` is all of IPv4 |
| `protocol` | `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `gre` ... or a number |
| `source_ports`, `destination_ports` | `443` or `"1024-65535"`; with tcp, udp and sctp |
| `icmp_type`, `icmp_code` | a number; the type also by name, such as `echo` or `too_big`; with icmp and icmp6 |
| `flags` | flags set and, with `!`, clear: `"syn !ack"`; with tcp |

```python
from iovisor.functions.acl import Acl

web = Acl(rules=[
    {"name": "web", "action": "accept", "direction": "in", "destination": "192.0.2.0/24", "protocol": "tcp",
     "destination_ports": 443},
    {"name": "answers", "action": "accept", "direction": "out", "source": "192.0.2.0/24", "protocol": "tcp",
     "source_ports": 443, "flags": "ack"},
    {"name": "ping", "action": "accept", "protocol": "icmp", "icmp_type": "echo"},
])
```

*Fragments* (RFC 1858, RFC 3128).  Only the first has ports.  With `follow`, a later fragment is accepted by a rule that
would accept its datagram whatever the ports, and is passed over by a rule that drops by ports: without its first
fragment it is worth nothing.  For that to be safe, a first fragment must contain the whole transport header, and a
TCP fragment with offset 1, which would overwrite the flags, is dropped.  With `drop`, no fragment passes.

*Options and extension headers.*  IPv4 options are skipped.  IPv6 extension headers, at most 4, are walked; what follows
them is the protocol that rules name.  A routing header of type 0 is dropped (RFC 5095).  The transport header must lie
within the length the IP header gives, so that padding is not taken for ports.

*VLANs.*  Tags do not matter to rules; a frame with more than two is dropped, because it would hide what it carries.

## Tables

| table | key | value |
|---|---|---|
| `rules` | slot | addresses, masks, ranges and action; two banks of 64 slots |
| `active` | 0 | the first slot of the bank in use and the number of its rules, in one word |

A changed list of rules is written to the bank that is not in use, where it differs from what is there; then one store
switches over.  So every packet meets the old list or the new one, never a mixture.

## Counters

`hits`: packets and bytes, by rule.  `show` lists them under the rules' names.  A rule that stays in the list, wherever
it moves, keeps its count.  Also counted: the default, resolution, and other frames.

## Drop reasons

| reason | the packet |
|---|---|
| `RULE` | matched a rule that drops |
| `DEFAULT` | matched no rule |
| `RESOLUTION` | is ARP or neighbor discovery, and `resolution` is drop |
| `OTHER` | is neither IP nor ARP, and `other` is drop |
| `MALFORMED` | contradicts itself: version, header length, total length, transport header |
| `FRAGMENT` | is a fragment, and `fragments` is drop |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |
| `NESTED_TAGS` | has more than two VLAN tags |

## Actions

`show` lists the rules and what they counted; `reset` sets the counters to zero.

## Limits

64 rules, compared one after the other; one range of ports a rule.  No state: answers need rules of their own.  Options
of IPv4, source routes among them, are not looked at.  Fragments of IPv6 whose first header is an extension header are
known by that header, not by their transport.
"""
# Why it is written so.
#
# Addresses are pairs of 64-bit words, of which only the low 32 bits are compared for IPv4, and every condition is a
# mask or a range, so that one short loop serves both families and a rule that does not care costs the same as one that
# does.  A loop over 64 slots was preferred to a generated tree of comparisons: a change of rules is then a few stores
# and no compilation.
# The number of rules is in a table, with the bank, and not in the configuration: the data path must see both change
# at the same moment.  A classifier for thousands of rules is another function.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    Array,
    Config,
    ConfigError,
    Count,
    Counter,
    Function,
    Packet,
    Port,
    Prefix,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    forward,
    require,
    table,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.parts.reading import IPv6Halves, Unreadable, extensions, internet4, is_whole
from iovisor.parts.rules import MESSAGES, PORTED, flags_and_mask, message
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.neighbor import ON_LINK
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import Vlan

MOST = 64
BY_DEFAULT, BY_RESOLUTION, BY_OTHER = 2 * MOST, 2 * MOST + 1, 2 * MOST + 2       # counters after those of the rules
ANY = 256                           # a protocol no packet has
LOW = (1 << 64) - 1
TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN)
DISCOVERY = (Icmp6Type.NEIGHBOR_SOLICITATION, Icmp6Type.NEIGHBOR_ADVERTISEMENT)


class Reason(Reasons):
    RULE = auto()
    DEFAULT = auto()
    RESOLUTION = auto()
    OTHER = auto()
    FRAGMENT = auto()
    NESTED_TAGS = auto()


class Action(IntEnum):
    DROP = 0
    ACCEPT = 1


class Direction(IntEnum):
    OUT = 1
    IN = 2
    BOTH = 3


class Fragments(IntEnum):
    FOLLOW = 0
    DROP = 1


# -- tables ----------------------------------------------------------------------------------------------------------

class Rule(Record):
    """`first` and `second` are the ports, or the type and code of an ICMP message; `selective` if a rule asks for any
    of them or for flags."""

    source_high: u64 = 0
    source_low: u64 = 0
    source_high_mask: u64 = 0
    source_low_mask: u64 = 0
    destination_high: u64 = 0
    destination_low: u64 = 0
    destination_high_mask: u64 = 0
    destination_low_mask: u64 = 0
    family: u16 = 0
    protocol: u16 = ANY
    first_from: u16 = 0
    first_to: u16 = 0xffff
    second_from: u16 = 0
    second_to: u16 = 0xffff
    flags: u8 = 0
    flags_mask: u8 = 0
    selective: u8 = 0
    directions: u8
    action: u8
    counter: u8 = 0


# -- configuration ---------------------------------------------------------------------------------------------------

class RuleConfig(Config):
    """One rule; what it does not say matches everything."""

    name: str = ""
    action: Action
    direction: Direction = Direction.BOTH
    source: Prefix | None = None
    destination: Prefix | None = None
    protocol: IpProtocol | u8 | None = None
    source_ports: u16 | str | None = None
    destination_ports: u16 | str | None = None
    icmp_type: u8 | str | None = None
    icmp_code: u8 | None = None
    flags: str | None = None

    def validate(self) -> None:
        self.rule()

    def family(self) -> int:
        kinds = {EtherType.IPV4 if p.bits == 32 else EtherType.IPV6 for p in (self.source, self.destination) if p}
        kinds |= {EtherType.IPV4} if self.protocol == IpProtocol.ICMP else set()
        kinds |= {EtherType.IPV6} if self.protocol == IpProtocol.ICMP6 else set()
        if len(kinds) > 1:
            raise ConfigError("destination" if self.destination else "protocol", "this rule mixes IPv4 and IPv6")
        return next(iter(kinds), 0)

    def rule(self) -> Rule:
        """As the data path compares it."""
        rule = Rule(directions=self.direction, action=self.action, family=self.family(),
                    protocol=ANY if self.protocol is None else self.protocol)
        if self.source is not None:
            (rule.source_high, rule.source_low), (rule.source_high_mask, rule.source_low_mask) = halves(self.source)
        if self.destination is not None:
            (rule.destination_high, rule.destination_low), masks = halves(self.destination)
            rule.destination_high_mask, rule.destination_low_mask = masks
        if self.source_ports is not None or self.destination_ports is not None:
            where = "source_ports" if self.source_ports is not None else "destination_ports"
            self.needs(where, self.protocol in PORTED, "protocol tcp, udp or sctp")
            rule.first_from, rule.first_to = span("source_ports", self.source_ports)
            rule.second_from, rule.second_to = span("destination_ports", self.destination_ports)
            rule.selective = 1
        if self.icmp_type is not None:
            self.needs("icmp_type", self.protocol in MESSAGES, "protocol icmp or icmp6")
            rule.first_from = rule.first_to = message(MESSAGES[self.protocol or 0], self.icmp_type)
            rule.selective = 1
        if self.icmp_code is not None:
            self.needs("icmp_code", self.icmp_type is not None, "an icmp_type")
            rule.second_from = rule.second_to = self.icmp_code
        if self.flags is not None:
            self.needs("flags", self.protocol == IpProtocol.TCP, "protocol tcp")
            rule.flags, rule.flags_mask = flags_and_mask(self.flags)
            rule.selective = 1
        return rule

    def needs(self, field: str, there: bool, what: str) -> None:
        if not there:
            raise ConfigError(field, f"this needs {what}")


class AclConfig(Config):
    """A packet filter."""

    rules: list[RuleConfig] = []
    default: Action = Action.DROP
    resolution: Action = Action.ACCEPT
    other: Action = Action.DROP
    fragments: Fragments = Fragments.FOLLOW

    def validate(self) -> None:
        if len(self.rules) > MOST:
            raise ConfigError("rules", f"{len(self.rules)} rules; {MOST} is the most")


def halves(prefix: Prefix) -> tuple[tuple[int, int], tuple[int, int]]:
    """The address and the mask, two words each."""
    mask = (1 << prefix.bits) - (1 << prefix.bits - prefix.length)
    return (prefix.address >> 64, prefix.address & LOW), (mask >> 64, mask & LOW)


def span(path: str, text: int | str | None) -> tuple[int, int]:
    """`443` or `"1024-65535"`; None is every port."""
    if text is None:
        return 0, 0xffff
    first, _, last = str(text).partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise ConfigError(path, f"{text!r} is not a port or a range like 1024-65535") from None
    if not 0 <= low <= high <= 0xffff:
        raise ConfigError(path, f"{text!r} is not a range of ports, which end at 65535")
    return low, high


def uncounted(rule: Rule) -> bytes:
    """What a rule says, whichever counter it has."""
    copy = Rule.decode(bytes(rule))
    copy.counter = 0
    return bytes(copy)


# -- the function ----------------------------------------------------------------------------------------------------

class Acl(Function):
    config: AclConfig
    inside: Port
    outside: Port

    rules: Array[Rule] = table(2 * MOST)
    active: Array[u32] = table(1)
    hits: Counter = table(2 * MOST + 3)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        kind = eth.type
        room = len(pkt) - 14
        if kind in TAGS:
            kind = pkt.parse(Vlan).type
            room = room - 4
            require(kind not in TAGS, Reason.NESTED_TAGS)
        match kind:
            case EtherType.IPV4:
                source_low, destination_low, protocol, offset, more, _, payload, hops = internet4(pkt, room)
                source_high, destination_high = 0, 0
            case EtherType.IPV6:
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                hops = ip6.hops
                source_high, source_low = ip6.source_upper, ip6.source_lower
                destination_high, destination_low = ip6.destination_upper, ip6.destination_lower
                protocol, offset, more, _, payload = extensions(pkt, ip6.next, ip6.length)
            case EtherType.ARP:
                return self.decide(pkt, self.config.resolution, BY_RESOLUTION, Reason.RESOLUTION)
            case _:
                return self.decide(pkt, self.config.other, BY_OTHER, Reason.OTHER)

        first, second, flags = 0, 0, 0
        fragment = offset != 0 or more != 0
        if fragment:
            require(self.config.fragments == Fragments.FOLLOW, Reason.FRAGMENT)
        is_whole(protocol, offset, more, payload)
        if offset == 0:
            first, second, flags = self.selectors(pkt, protocol)
            if protocol == IpProtocol.ICMP6 and first in DISCOVERY and hops == ON_LINK and not fragment:
                return self.decide(pkt, self.config.resolution, BY_RESOLUTION, Reason.RESOLUTION)

        direction = Direction.OUT if pkt.port == self.inside else Direction.IN
        active = self.active[0]
        for i in range(min(active & 0xff, MOST)):
            rule = self.rules[(active >> 8) + i]
            if rule.directions & direction == 0 or (rule.family != 0 and rule.family != kind):
                continue
            if rule.protocol != ANY and rule.protocol != protocol:
                continue
            if ((source_high ^ rule.source_high) & rule.source_high_mask
                    | (source_low ^ rule.source_low) & rule.source_low_mask
                    | (destination_high ^ rule.destination_high) & rule.destination_high_mask
                    | (destination_low ^ rule.destination_low) & rule.destination_low_mask) != 0:
                continue
            if rule.selective != 0:
                if offset != 0:
                    if rule.action == Action.DROP:
                        continue
                elif not (rule.first_from <= first <= rule.first_to and rule.second_from <= second <= rule.second_to
                          and (flags ^ rule.flags) & rule.flags_mask == 0):
                    continue
            return self.decide(pkt, rule.action, rule.counter, Reason.RULE)
        return self.decide(pkt, self.config.default, BY_DEFAULT, Reason.DEFAULT)

    def decide(self, pkt: Packet, what: int, counter: int, reason: int) -> Verdict:
        self.hits.add(counter, bytes=len(pkt))
        if what == Action.DROP:
            return drop(reason)
        return forward(self.outside if pkt.port == self.inside else self.inside)

    def selectors(self, pkt: Packet, protocol: int) -> tuple[int, int, int]:
        """The two ports, or the type and code; and the flags of TCP."""
        match protocol:
            case IpProtocol.TCP:
                tcp = pkt.parse(Tcp)
                return tcp.src, tcp.dst, tcp.flags
            case IpProtocol.UDP | IpProtocol.SCTP:      # SCTP begins with the same two ports
                udp = pkt.parse(Udp)
                return udp.src, udp.dst, 0
            case IpProtocol.ICMP | IpProtocol.ICMP6:
                icmp = pkt.parse(Icmp)
                return icmp.type, icmp.code, 0
        return 0, 0, 0

    # -- control path ------------------------------------------------------------------------------------------------

    def standing(self) -> list[Rule]:
        """The rules in use, as copies."""
        here, count = self.active[0] >> 8, self.active[0] & 0xff
        return [Rule.decode(bytes(self.rules[slot])) for slot in range(here, here + count)]

    def configure(self, old: AclConfig | None, new: AclConfig) -> None:
        standing = self.standing()
        counters: dict[bytes, list[int]] = {}
        for rule in standing:
            counters.setdefault(uncounted(rule), []).append(rule.counter)
        free = sorted(set(range(2 * MOST)) - {rule.counter for rule in standing}, reverse=True)
        wanted = []
        for rule in (settings.rule() for settings in new.rules):
            if kept := counters.get(bytes(rule)):
                rule.counter = kept.pop(0)
            else:
                rule.counter = free.pop()
                self.hits[rule.counter] = Count()
            wanted.append(rule)
        if wanted == standing:
            return
        there = MOST - (self.active[0] >> 8)
        for slot, rule in enumerate(wanted, there):
            if self.rules[slot] != rule:
                self.rules[slot] = rule
        self.active[0] = there << 8 | len(wanted)

    @action
    def show(self) -> list[dict[str, Any]]:
        """The rules in order, then the rest, with what they counted."""
        rows = [(settings.name or f"rule {index}", Action(settings.action).name.lower(), rule.counter)
                for index, (settings, rule) in enumerate(zip(self.config.rules, self.standing(), strict=True))]
        rows += [("default", self.config.default.name.lower(), BY_DEFAULT),
                 ("resolution", self.config.resolution.name.lower(), BY_RESOLUTION),
                 ("other", self.config.other.name.lower(), BY_OTHER)]
        return [{"name": name, "action": what, "packets": count.packets, "bytes": count.bytes}
                for name, what, counter in rows for count in [self.hits.read(counter)]]

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.hits.clear()
