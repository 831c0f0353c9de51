"""The firewall's data path: a connection if there is one, the rules if it is new or they have changed.

What is known passes on one lookup, and the rules are asked about first packets only: so their number is not a cost of
traffic.  An entry remembers the generation of the rules that let it in; when they change, its next packet asks again,
in the words of its first one.  That is one comparison a packet, and no walk over connections from Python, which would
race with them.

One path for what is new and what is asked again keeps the classifier in the program once.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import (
    Array,
    ConfigError,
    Counter,
    Function,
    Packet,
    Port,
    Prefix,
    Reasons,
    Verdict,
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
    ENDED,
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
from iovisor.parts.rejection import Rejection, RejectionConfig
from iovisor.parts.reports import Reports, ReportsConfig
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
LOGGED = 0x80                                           # of a decision: it is reported
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

class FirewallConfig(ConnectionsConfig, ClassifierConfig, RejectionConfig, ReportsConfig):
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
        for name in ("resolution", "other", "related"):
            if getattr(self, name) == Action.REJECT:
                raise ConfigError(name, "only first packets are answered: accept or drop")
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

class Path(Function):
    """What becomes of a packet."""

    config: FirewallConfig
    inside: Port
    outside: Port

    connections: Connections[Passing] = Connections()
    rules: Classifier = Classifier()
    rejection: Rejection = Rejection()
    reports: Reports = Reports()
    decisions: Array[u32] = table("rule_slots")         # counter << 8 | LOGGED | action
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
                counter, decided, reason = decision >> 8, decision & 0x7f, Reason.RULE
                if decision & LOGGED:
                    self.reports.tell(pkt, counter, decided)
            if known:
                reason = Reason.REVOKED
        self.hits.add(counter, bytes=len(pkt))
        require(decided != Action.DROP, reason)
        if decided == Action.REJECT:
            self.rejection.answer(pkt, reason)
            return forward(pkt.port)

        outcome = OPENED
        if fresh is not None:
            fresh.rule = counter
            outcome = self.connections.open(flow, fresh)
        elif known and entry is not None:
            if ask:
                entry.rule, entry.generation = counter, generation
            outcome = self.connections.settle(flow, entry)
        require(outcome <= ENDED, outcome)
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
