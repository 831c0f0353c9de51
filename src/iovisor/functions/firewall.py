"""A stateful firewall between two ports: rules decide on first packets, connections carry the rest, IPv4 and IPv6.

What belongs to a connection that the rules let begin passes both ways, as long as it behaves: TCP is followed through
its states and windows.  Nothing passes before there are rules, and nothing that they do not name.  Frames are not
changed: put it on any link.

## Ports

```text
              ┌──────────┐
   inside   ──┤ firewall ├──   outside
              └──────────┘
      out: inside to outside      in: outside to inside
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rules` | list | | see below |
| `default` | accept, drop | drop | what becomes of first packets that no rule matches |
| `related` | accept, drop | accept | ICMP errors about a living connection, if no rule of state related matches |
| `resolution` | accept, drop | accept | ARP, and neighbor and router discovery (hop limit 255, no fragment) |
| `other` | accept, drop | drop | frames that are neither ARP nor IP |
| `known` | keep, cut | cut | when rules change: connections stay, or must pass the new rules with their next packet |
| `midway` | boolean | false | let a TCP connection begin with any ACK; its windows are then not checked |
| `address_sets`, `port_sets` | mapping | | lists of prefixes, and of ports and ranges, by name |
| `most_rules`, `most_classes` | number | 1024 | room, fixed when the instance is made; 10,240 rules at most |
| `connections` | number | 65536 | room for established connections, fixed as well |
| `transitory`, `trains` | number | 8192, 4096 | the same for half-open ones, and for fragmented packets |
| `per_source` | number | 0 | established connections of one IPv4 address or IPv6 /64, 0 for any number |
| `opening`, `established` | time | 30s, 2h 4m | how long a TCP connection lives in silence: half open, established |
| `closing`, `closed` | time | 4m, 2m | and after one end closed, after both |
| `datagrams`, `queries` | time | 5m, 60s | the same of UDP and what is not TCP, and of ICMP queries |

Each rule has an `action`, accept or drop, and any of these; what it does not say matches everything:

| field | meaning |
|---|---|
| `name` | for people |
| `priority` | lower numbers come first, 0 if left out; rules of one priority as they stand |
| `direction` | out, in or both (default) |
| `state` | new (default): first packets; related: ICMP errors about a connection |
| `source`, `destination` | a prefix, the name of an address set, or a list; `0.0.0.0/0` is all of IPv4 |
| `protocol` | `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `gre` ... or a number |
| `source_ports`, `destination_ports` | `443`, `"1024-65535"`, the name of a port set, or a list; with tcp, udp, sctp |
| `icmp_type`, `icmp_code` | a number; the type also by name, such as `echo` |
| `flags` | flags of TCP set and, with `!`, clear: `"syn !ece"` |

```python
from iovisor.functions.firewall import Firewall

office = Firewall(address_sets={"servers": ["192.0.2.0/24", "2001:db8:1::/64"]}, port_sets={"web": [80, 443]}, rules=[
    {"name": "no mail", "action": "drop", "direction": "out", "protocol": "tcp", "destination_ports": 25},
    {"name": "whatever else", "action": "accept", "direction": "out"},
    {"name": "our web", "action": "accept", "direction": "in", "protocol": "tcp", "destination": "servers",
     "destination_ports": "web"},
    {"name": "ping", "action": "accept", "protocol": "icmp", "icmp_type": "echo"},
])
```

*TCP* (RFC 9293, RFC 5961, RFC 7323).  A connection begins with a SYN alone and a right checksum.  Data must lie in the
window the other end opened, scaled as both agreed; an acknowledgment must be of what was sent.  A reset ends a
connection only if it is exactly what the other end expects; another one in the window passes, and so does a SYN, for
the host to challenge.  After both ends closed, a SYN with a higher number begins anew.

*UDP and other protocols*: the first packet back makes a connection established.  *ICMP*: a reply passes if it answers a
request.  *ICMP errors* pass if they quote what the connection sent of late, and travel to who sent it (RFC 5927).

*Fragments* (RFC 1858, RFC 3128) follow their first one, which must contain the whole transport header.  One that comes
before its first is dropped.

*VLANs*: connections of two VLANs have nothing to do with each other.  A frame with more than two tags is dropped.

## Tables

| table | key | value |
|---|---|---|
| `connections.established` | the two ends, protocol, VLANs | state, windows, deadline, and what let it pass |
| `connections.transitory` | the same | the same, of connections half open or ended; the longest unused gives way |
| `connections.sources` | address | how many established connections it has, if `per_source` is set |
| `connections.fragments` | the two ends, identification | the ports of the first fragment |
| `connections.began` | 0 | scratch |
| `rules.active` | 0 | generation and bank of the rules in use, in one word |
| `rules.sources_0`, `rules.sources_1` | prefix | a row; one table a bank |
| `rules.destinations_0`, `rules.destinations_1` | prefix | a row |
| `rules.firsts`, `rules.seconds` | range of ports, or ICMP type and code | a row |
| `rules.tags`, `rules.flags` | protocol, direction and state; flags of TCP | a row |
| `rules.rows` | row and block | which of 512 rules it satisfies |
| `decisions` | rule | action and counter |
| `asked` | 0 | scratch |

Changed rules are written to the bank that is not in use; then one store switches over.  Every packet meets the old
rules or the new ones, never a mixture.

## Counters

`hits`: packets and bytes by rule, all packets of the connections it let begin among them.  A rule that stays as it is
keeps its count, wherever it moves.  Also counted: default, resolution, other and related.

## Drop reasons

| reason | the packet |
|---|---|
| `RULE` | is a first one, and matched a rule that drops |
| `DEFAULT` | is a first one, and matched no rule |
| `RESOLUTION` | is ARP or discovery, and `resolution` is drop |
| `OTHER` | is neither IP nor ARP, and `other` is drop |
| `REVOKED` | is of a connection that changed rules no longer allow |
| `WRONG_SIDE` | has the addresses of a connection, and comes from the other side |
| `NESTED_TAGS` | has more than two VLAN tags |
| `MALFORMED` | contradicts itself: version, lengths, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `UNKNOWN_FRAGMENT` | is a later fragment whose first was not seen |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |
| `ILLEGAL_FLAGS` | has flags of TCP that no end sends |
| `BAD_CHECKSUM` | opens, resets or ends a TCP connection with a wrong checksum |
| `OUT_OF_STATE` | is a TCP segment that nothing led to |
| `OUT_OF_WINDOW` | is beyond the window, or older than one |
| `UNSENT_ACK` | acknowledges what was not sent |
| `UNASKED` | is an ICMP reply to no request, or from the wrong end |
| `UNRELATED` | is an ICMP error about no connection here |
| `FULL` | would establish a connection more than `connections` |
| `QUOTA` | would establish a connection more than its source may have |

## Actions

`show` lists the rules and what they counted; `reset` sets the counters to zero; `listing` lists the connections;
`flush` forgets those with an end in a prefix, or all.

## Limits

It drops in silence: a rule cannot yet reject with a reset or an ICMP error, nor report to a log.  Checksums are
verified of TCP segments without data that open, reset or end, and of nothing else.  A fragment before its first is
lost.  A deadline is at most a second late.  Dead entries of `connections.established` are removed by the control path,
every ten seconds: without it they count as room taken.  TC only: the program does not fit in the stack XDP gives.
"""
# Why it is written so.
#
# What is known passes on one lookup, and the rules are asked about first packets only: so their number is not a cost of
# traffic.  An entry remembers the generation of the rules that let it in; when they change, its next packet asks again,
# in the words of its first one.  That is one comparison a packet, and no walk over connections from Python, which would
# race with them.
#
# One path for what is new and what is asked again keeps the classifier in the program once.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    Array,
    ConfigError,
    Count,
    Counter,
    Function,
    Packet,
    Port,
    Prefix,
    Reasons,
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
from iovisor.parts.classifier import NONE, Classifier, ClassifierConfig, Match
from iovisor.parts.connections import (
    OPENED,
    REOPENED,
    Connection,
    Connections,
    ConnectionsConfig,
    Flow,
    Mark,
    Selectors,
    State,
    Untracked,
    end_of,
    of_words,
    train_of,
    zone_of,
)
from iovisor.parts.reading import (
    IPv6Halves,
    Unreadable,
    extensions,
    has_ports,
    internet4,
    is_error,
    is_message,
    is_reply,
    is_whole,
    quoted4,
    quoted6,
    request_of,
)
from iovisor.parts.rules import Action, Direction, RuleConfig
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp
from iovisor.wire.icmp6 import is_discovery
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.tcp import Tcp, TcpFlag
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import Vlan

ON_LINK = 255                                           # hops of discovery that no router has touched (RFC 4861)
TAGS = (0x8100, 0x88a8)
BY_DEFAULT, BY_RESOLUTION, BY_OTHER, BY_RELATED, BY_RULE = 0, 1, 2, 3, 4      # of `hits`


class Reason(Reasons):
    RULE = auto()
    DEFAULT = auto()
    RESOLUTION = auto()
    OTHER = auto()
    REVOKED = auto()
    WRONG_SIDE = auto()
    NESTED_TAGS = auto()


class Known(IntEnum):
    KEEP = 0
    CUT = 1


# -- tables ------------------------------------------------------------------------------------------------------------

class Passing(Connection):
    """`rule` is its counter, `port` where it began."""

    rule: u32 = 0
    generation: u32 = 0
    port: u8 = 0


# -- configuration -----------------------------------------------------------------------------------------------------

class FirewallConfig(ConnectionsConfig, ClassifierConfig):
    """A stateful firewall."""

    rules: list[RuleConfig] = []
    default: Action = Action.DROP
    resolution: Action = Action.ACCEPT
    other: Action = Action.DROP
    related: Action = Action.ACCEPT
    known: Known = Known.CUT
    midway: bool = False
    address_sets: dict[str, list[Prefix]] = {}
    port_sets: dict[str, list[u16 | str]] = {}

    def validate(self) -> None:
        super().validate()
        self.matches()

    def ordered(self) -> list[RuleConfig]:
        """By priority, the lowest first; those of one priority as they stand."""
        return sorted(self.rules, key=lambda rule: rule.priority)

    def matches(self) -> list[Match]:
        found = [rule.match(f"rules[{place}]", self.address_sets, self.port_sets)
                 for place, rule in enumerate(self.rules)]
        return [found[place] for place in sorted(range(len(found)), key=lambda place: self.rules[place].priority)]

    @property
    def counters(self) -> int:
        return self.rule_slots + BY_RULE


# -- the function ------------------------------------------------------------------------------------------------------

class Firewall(Function):
    config: FirewallConfig
    inside: Port
    outside: Port

    connections: Connections[Passing] = Connections()
    rules: Classifier = Classifier()
    decisions: Array[u32] = table("rule_slots")         # counter << 8 | action
    hits: Counter = table("counters")
    asked: Array[u64] = table(1, per_cpu=True)          # what rules are asked for, on the way to them

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        kind = eth.type
        room = len(pkt) - 14
        vlan = 0
        if kind in TAGS:
            inner_tag = pkt.parse(Vlan)
            kind, vlan = inner_tag.type, inner_tag.vid
            room = room - 4
            require(kind not in TAGS, Reason.NESTED_TAGS)
        zone, inner = zone_of(pkt.tci & 0xfff, vlan)

        source_upper, destination_upper = 0, 0
        match kind:
            case EtherType.IPV4:
                source_lower, destination_lower, protocol, offset, more, identity, payload, hops = internet4(pkt, room)
            case EtherType.IPV6:
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                source_upper, source_lower = ip6.source_upper, ip6.source_lower
                destination_upper, destination_lower = ip6.destination_upper, ip6.destination_lower
                require((source_upper != 0 or source_lower >> 32 != 0xffff)
                        and (destination_upper != 0 or destination_lower >> 32 != 0xffff), Unreadable.MALFORMED)
                hops = ip6.hops
                protocol, offset, more, identity, payload = extensions(pkt, ip6.next, ip6.length)
            case EtherType.ARP:
                return self.untracked(pkt, self.config.resolution, BY_RESOLUTION, Reason.RESOLUTION)
            case _:
                return self.untracked(pkt, self.config.other, BY_OTHER, Reason.OTHER)
        is_whole(protocol, offset, more, payload)
        size = payload & 0xffff

        # The flow is that of the packet, or of the packet an ICMP error quotes.  `first` and `second` are for rules.
        tcp = None
        one, two, first, second, flags, scale = 0, 0, 0, 0, 0, 0
        reply, tracked, related, quoted_sequence = 0, 1, 0, 0
        if offset != 0:
            pass
        elif protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            one, two, flags = tcp.src, tcp.dst, tcp.flags
            first, second = one, two
            pseudo = (of_words(source_upper, source_lower) + of_words(destination_upper, destination_lower)
                      + IpProtocol.TCP + size)
            scale = self.connections.read(pkt, tcp, pseudo, size)
        elif has_ports(protocol):
            udp = pkt.parse(Udp)        # SCTP begins with the same two ports
            one, two = udp.src, udp.dst
            first, second = one, two
        elif is_message(protocol):
            icmp = pkt.parse(Icmp)
            first, second = icmp.type, icmp.code
            if protocol == IpProtocol.ICMP6 and is_discovery(first) and hops == ON_LINK and more == 0:
                return self.untracked(pkt, self.config.resolution, BY_RESOLUTION, Reason.RESOLUTION)
            one, two = icmp.rest >> 16, request_of(first, protocol)
            reply = 1 if is_reply(first, protocol) else 0
            tracked = 1 if two != 0 else 0
            if is_error(protocol, first):
                related, tracked = 1, 1
                quoting_upper, quoting_lower = destination_upper, destination_lower
                if kind == EtherType.IPV4:
                    source_lower, destination_lower, protocol = quoted4(pkt)
                else:
                    source_upper, source_lower, destination_upper, destination_lower, protocol = quoted6(pkt)
                require(source_upper == quoting_upper and source_lower == quoting_lower, Untracked.UNRELATED)
                if is_message(protocol):
                    one, two = pkt.u16(4), request_of(pkt.u8(0), protocol)
                elif has_ports(protocol):
                    one, two = pkt.u16(0), pkt.u16(2)
                else:
                    one, two = 0, 0
                quoted_sequence = pkt.u32(4)

        b = end_of(source_upper, source_lower, destination_upper, destination_lower)
        if offset != 0:
            one, two = train_of(identity, b)
        swapped = b != 0 and offset == 0 and not is_message(protocol)
        flow = Flow(
            a_upper=destination_upper if b else source_upper, a_lower=destination_lower if b else source_lower,
            b_upper=source_upper if b else destination_upper, b_lower=source_lower if b else destination_lower,
            a_port=two if swapped else one, b_port=one if swapped else two,
            protocol=protocol, inner=inner, zone=zone)
        if offset != 0:
            place = self.connections.fragments.get(flow)
            if place is None:
                return drop(Untracked.UNKNOWN_FRAGMENT)
            flow.a_port, flow.b_port = place.a_port, place.b_port

        generation = self.rules.generation()
        entry = self.connections.find(flow) if tracked else None
        fresh = None
        known, ask, counter, sender = 0, 1, int(BY_DEFAULT), b
        if entry is not None:
            origin = entry.marks & Mark.ORIGIN_B
            began = b == origin
            require((entry.port == pkt.port) == (began == (related == 0)), Reason.WRONG_SIDE)
            if related:
                require(self.connections.quotes(entry, b, protocol, quoted_sequence), Untracked.UNRELATED)
            else:
                known = 1
                if tcp is not None:
                    outcome = self.connections.segment(entry, b, tcp, size, scale)
                    require(outcome <= REOPENED, outcome)
                    known = 0 if outcome == REOPENED else 1
                elif entry.state == State.QUERY:
                    require(offset != 0 or began == (reply == 0), Untracked.UNASKED)
                else:
                    self.connections.datagram(entry, b)
            if known:
                counter = entry.rule
                ask = 0 if entry.generation == generation else 1
                if ask:         # the rules have changed: ask as its first packet did
                    sender, flags = origin, TcpFlag.SYN
                    if entry.state == State.QUERY:
                        first, second = flow.b_port, 0
                    elif origin:
                        first, second = flow.b_port, flow.a_port
                    else:
                        first, second = flow.a_port, flow.b_port
        elif related:
            return drop(Untracked.UNRELATED)
        elif offset != 0:
            return drop(Untracked.UNKNOWN_FRAGMENT)

        if known == 0 and tracked and related == 0:
            fresh = Passing(generation=generation, port=pkt.port)
            if tcp is not None:
                opened = self.connections.open_segment(fresh, b, tcp, size, scale, self.config.midway)
                require(opened == OPENED, opened)
            else:
                require(reply == 0, Untracked.UNASKED)
                fresh.marks = b
                fresh.state = State.QUERY if is_message(protocol) else State.ASKED

        decided, reason = int(Action.ACCEPT), Reason.DEFAULT
        part = 1 if more and offset == 0 and tracked else 0
        if ask:
            if related:
                sender = 1 - b
                protocol = IpProtocol.ICMP if kind == EtherType.IPV4 else IpProtocol.ICMP6
            onward = Direction.IN if pkt.port == self.outside else Direction.OUT
            direction = onward if known == 0 or sender == b else 1 - onward
            # Through memory, where the kernel's verifier forgets which way it came: or it would follow the classifier
            # once for every way there is.
            self.asked[0] = (first << 48 | second << 32 | protocol << 24 | flags << 16 | b << 6 | part << 5 | known << 4
                             | related << 3 | sender << 2 | direction << 1)
            asked = self.asked[0]
            b, part, known = asked >> 6 & 1, asked >> 5 & 1, asked >> 4 & 1
            to_b = asked & 4 == 0
            slot = self.rules.match(
                flow.a_upper if to_b else flow.b_upper, flow.a_lower if to_b else flow.b_lower,
                flow.b_upper if to_b else flow.a_upper, flow.b_lower if to_b else flow.a_lower,
                asked >> 48, asked >> 32 & 0xffff,
                asked >> 24 & 0xff | (asked >> 1 & 1) << 8 | (asked >> 3 & 1) << 9, asked >> 16 & 0xff)
            decided = self.config.default
            if asked & 8:
                counter, decided = BY_RELATED, self.config.related
            if slot != NONE:
                decision = self.decisions[slot]
                counter, decided, reason = decision >> 8, decision & 0xff, Reason.RULE
            if known:
                reason = Reason.REVOKED
        self.hits.add(counter, bytes=len(pkt))
        require(decided != Action.DROP, reason)

        outcome = OPENED
        if fresh is not None:
            fresh.rule = counter
            outcome = self.connections.open(flow, fresh)
        elif known and entry is not None:
            if ask:
                entry.rule, entry.generation = counter, generation
            outcome = self.connections.settle(flow, entry)
        require(outcome == OPENED, outcome)
        if part:
            ports = Selectors(a_port=flow.a_port, b_port=flow.b_port)
            flow.a_port, flow.b_port = train_of(identity, b)
            self.connections.fragments.put(flow, ports)
        return forward(self.outside if pkt.port == self.inside else self.inside)

    def untracked(self, pkt: Packet, what: int, counter: int, reason: int) -> Verdict:
        self.hits.add(counter, bytes=len(pkt))
        if what == Action.DROP:
            return drop(reason)
        return forward(self.outside if pkt.port == self.inside else self.inside)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: FirewallConfig | None, new: FirewallConfig) -> None:
        ordered, matches = new.ordered(), new.matches()
        if len(ordered) > self.rules.capacity():
            raise ConfigError("rules", f"{len(ordered)} rules; there is room for {self.rules.capacity()} (most_rules)")
        before: dict[Any, list[int]] = {}
        standing = [] if old is None else [decision >> 8 for decision in self.standing(len(old.rules))]
        if old is not None:
            for rule, match, number in zip(old.ordered(), old.matches(), standing, strict=True):
                before.setdefault((match, rule.action), []).append(number)
        free = sorted(set(range(BY_RULE, int(self.hits.spec.size))) - set(standing), reverse=True)
        numbers = []
        for rule, match in zip(ordered, matches, strict=True):
            if kept := before.get((match, rule.action)):
                numbers.append(kept.pop(0))
            else:
                numbers.append(free.pop())
                self.hits[numbers[-1]] = Count()
        if old is not None and (old.matches(), [r.action for r in old.ordered()], old.default, old.related) == (
                matches, [r.action for r in ordered], new.default, new.related):
            return
        begin = self.rules.begin()
        self.decisions.update({begin + place: number << 8 | rule.action
                               for place, (rule, number) in enumerate(zip(ordered, numbers, strict=True))})
        self.rules.switch("rules", matches, old is not None and new.known == Known.CUT)

    def standing(self, count: int) -> list[int]:
        """The decisions in use."""
        begin = self.rules.capacity() if self.rules.active[0] & 1 else 0
        return [self.decisions[begin + place] for place in range(count)]

    @action
    def show(self) -> list[dict[str, Any]]:
        """The rules in order, then the rest, with what they counted."""
        ordered = self.config.ordered()
        rows = [(rule.name or f"rule {place}", Action(rule.action).name.lower(), decision >> 8)
                for place, (rule, decision) in enumerate(zip(ordered, self.standing(len(ordered)), strict=True))]
        rows += [("default", self.config.default.name.lower(), BY_DEFAULT),
                 ("resolution", self.config.resolution.name.lower(), BY_RESOLUTION),
                 ("other", self.config.other.name.lower(), BY_OTHER),
                 ("related", self.config.related.name.lower(), BY_RELATED)]
        return [{"name": name, "action": what, "packets": count.packets, "bytes": count.bytes}
                for name, what, counter in rows for count in [self.hits.read(counter)]]

    @action
    def listing(self) -> list[dict[str, Any]]:
        """The living connections: protocol, who began and to whom, state, seconds left."""
        return self.connections.show()

    @action
    def flush(self, within: str = "") -> int:
        """Forget the connections with an end in a prefix, or all; answers how many."""
        return self.connections.flush(within)

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        for index, _ in list(self.hits.items()):
            self.hits[index] = Count()
