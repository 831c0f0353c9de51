"""The balancer's data path, for IPv4 and IPv6 at once.

    frame ── to the balancer's Ethernet address? ── ARP, discovery: answered
          │                                      ├── to a VIP, or back to one ── decided ── changed, out
          │                                      └── echo: answered
          ├── from the backends' side ── an answer of a flow? ── its source becomes the VIP, out
          └── anything else: as it is

*What is decided.*  A flow that was decided lately, on this CPU, is in `recent`: an array read inline, at a tenth of the
price of a lookup.  What is there is good for a second, and until something changes (`versions`); so the entries of the
flow are seen to once a second, and at every SYN, FIN and RST.  `decide` is the long way.

*What is followed.*  A balancer is no firewall: it does not judge windows, for that would be the backends' business
twice.  Flags say what is half open, alive and over, that is how long an entry lives and in which table.  A reset that
was forged does no harm: the next segment revives the flow.
"""
from __future__ import annotations

from iovisor.language import (
    SECOND,
    Array,
    Counter,
    Function,
    Hash,
    Header,
    Lru,
    Packet,
    Port,
    Verdict,
    drop,
    forward,
    inline,
    ipv6,
    now,
    punt,
    require,
    table,
    u16,
    u64,
)
from iovisor.parts.connections import (
    FINS,
    OPENED,
    Connections,
    Flow,
    Mark,
    Selectors,
    State,
    Untracked,
    train_of,
)
from iovisor.parts.reading import MAPPED, IPv6Halves, Unreadable, extensions, is_whole
from iovisor.wire import arp
from iovisor.wire.arp import Arp, ArpOperation
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_sane, payload_length, skip_options
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.neighbor import ON_LINK, NeighborSolicitation
from iovisor.wire.tcp import Tcp, TcpFlag, flags_of
from iovisor.wire.udp import Udp

from .settings import BalancerConfig
from .tables import (
    NOTES,
    Balanced,
    Case,
    Health,
    Heard,
    Member,
    Mode,
    Note,
    Orphans,
    Own,
    Place,
    Reason,
    Recent,
    Session,
    Version,
    Vip,
    What,
)

WORD, MASK64 = 0xffff_ffff, 0xffff_ffff_ffff_ffff
MIX, MIX2 = 0x9e37_79b9_7f4a_7c15, 0xff51_afd7_ed55_8ccd
TRIES = 3                       # of finding a flow to a backend that is not taken
STEP = 7919                     # slots from one try to the next
LONGEST = 256                   # bytes of a discovery message whose checksum is verified; longer ones are not ours


class Target(Header):
    """What follows the first eight bytes of a solicitation or an advertisement (RFC 4861 sections 4.3 and 4.4)."""

    address: ipv6


@inline
def mixed(seed: u64, a_upper: u64, a_lower: u64, b_upper: u64, b_lower: u64, ends: u64) -> int:
    """64 bits of a flow, the same wherever `seed` is, unlike those of `hash`: two balancers choose alike."""
    state = (seed ^ a_upper ^ b_upper * MIX2 & MASK64) * MIX & MASK64
    state = (state ^ state >> 32 ^ a_lower ^ b_lower * MIX2 & MASK64) * MIX & MASK64
    state = (state ^ state >> 32 ^ ends) * MIX & MASK64
    return (state ^ state >> 29) * MIX2 & MASK64


class Path(Function):
    config: BalancerConfig
    outside: Port
    inside: Port

    flows: Connections[Balanced] = Connections()
    services: Hash[Place, u16] = table("most_services")
    vips: Array[Vip] = table("most_vips")
    choices: Array[u16] = table("most_choices")
    members: Array[Member] = table("most_backends")
    own: Array[Own] = table(2)
    sessions: Lru[Place, Session] = table("sessions")
    recent: Array[Recent] = table("recent", per_cpu=True)
    versions: Array[Version] = table(1)
    keys: Array[Flow] = table(2, per_cpu=True)
    places: Array[Place] = table(1, per_cpu=True)
    cases: Array[Case] = table(1, per_cpu=True)
    drafts: Array[Balanced] = table(1, per_cpu=True)
    hits: Counter = table("most_backends")
    opened: Counter = table("most_backends")
    noted: Counter = table(NOTES)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        onward = self.inside if pkt.port == self.outside else self.outside
        ours = 1 if eth.dst == self.config.mac else 0
        asked = is_group(eth.dst) and eth.type == EtherType.IPV6
        if pkt.tci & 0xfff != self.config.vlan or (not ours and pkt.port == self.outside
                                                   and eth.type != EtherType.ARP and not asked):
            return forward(onward)
        room = len(pkt) - 14
        ip4, ip6 = None, None
        a_upper, b_upper = 0, 0
        match eth.type:
            case EtherType.IPV4:
                ip4 = pkt.parse(IPv4)
                require(is_sane(ip4) and ip4.length <= room, Unreadable.MALFORMED)
                skip_options(pkt, ip4)
                a_lower, b_lower = MAPPED | ip4.src, MAPPED | ip4.dst
                protocol, offset, more, identity = ip4.proto, ip4.offset, ip4.mf, ip4.id
                payload = payload_length(ip4)
            case EtherType.IPV6:
                whole = pkt.peek(IPv6)
                ip6 = pkt.parse(IPv6Halves)
                require(ip6.version == 6 and ip6.length + 40 <= room, Unreadable.MALFORMED)
                if ip6.next == IpProtocol.ICMP6 and whole is not None and (ours or asked):
                    return self.resolve6(pkt, eth, whole, onward)
                a_upper, a_lower = ip6.source_upper, ip6.source_lower
                b_upper, b_lower = ip6.destination_upper, ip6.destination_lower
                require((a_upper != 0 or a_lower >> 32 != 0xffff) and (b_upper != 0 or b_lower >> 32 != 0xffff),
                        Unreadable.MALFORMED)
                protocol, offset, more, identity, payload = extensions(pkt, ip6.next, ip6.length)
            case EtherType.ARP:
                return self.resolve4(pkt, eth, onward)
            case _:
                require(not ours, Reason.NOT_OURS)
                return forward(onward)
        is_whole(protocol, offset, more, payload)

        tcp, udp = None, None
        one, two, flags, plain = 0, 0, 0, 0
        if offset != 0:
            one, two = train_of(identity, 0)
        elif protocol == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            one, two, flags = tcp.src, tcp.dst, flags_of(tcp)
            plain = 1 if flags == TcpFlag.ACK and more == 0 else 0
        elif protocol == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            one, two = udp.src, udp.dst
            plain = 1 - more
        elif not ours:
            return forward(onward)
        else:
            return drop(Reason.NOT_OURS)

        if offset != 0:
            train = self.flows.fragments.get(self.flow_key(a_upper, a_lower, b_upper, b_lower, one, two, protocol))
            if train is None:
                require(not ours, Untracked.UNKNOWN_FRAGMENT)
                return forward(onward)
            one, two = train.a_port, train.b_port

        facts = self.cases[0]
        facts.ours, facts.inner, facts.flags = ours, 1 if pkt.port == self.inside else 0, flags
        facts.plain, facts.first = plain, 1 if more and offset == 0 else 0
        facts.station, facts.what, facts.own = eth.src, What.PASS, 0
        case = self.cases[0]
        ours, plain = case.ours, case.plain
        mix = mixed(self.config.seed, a_upper, a_lower, b_upper, b_lower, one << 32 | two << 16 | protocol)
        moment = now()
        version = self.versions[0].changes
        seen = self.recent[mix & self.config.recent - 1]
        own, port, upper, lower, mac = 0, 0, 0, 0, 0
        if (plain and seen.a_lower == a_lower and seen.b_lower == b_lower and seen.a_upper == a_upper
                and seen.b_upper == b_upper and seen.a_port == one and seen.b_port == two
                and seen.protocol == protocol and seen.version == version and seen.until > moment):
            what, number = seen.what, seen.number
            case.what = what
        else:
            self.flow_key(a_upper, a_lower, b_upper, b_lower, one, two, protocol)
            case.mix, case.moment = mix, moment
            self.decide()
            done = self.cases[0]
            what, number, own, port = done.what, done.number, done.own, done.port
            upper, lower, mac = done.upper, done.lower, done.mac
            if plain and own == 0 and what in (What.FORWARD, What.RETURN):
                seen.a_upper, seen.a_lower, seen.b_upper, seen.b_lower = a_upper, a_lower, b_upper, b_lower
                seen.a_port, seen.b_port, seen.protocol = one, two, protocol
                seen.what, seen.number, seen.version, seen.until = what, number, version, moment + SECOND
            if done.first and what != What.PASS:
                first = Selectors(a_port=one, b_port=two)
                place, rest = train_of(identity, 0)
                self.flows.fragments.put(
                    self.flow_key(a_upper, a_lower, b_upper, b_lower, place, rest, protocol), first)

        if what == What.PASS:
            require(not ours, Reason.NOT_OURS)
            return forward(onward)
        require(what != What.REFUSE, Reason.NO_BACKEND)

        # From here on `a_…` and `b_…` are what source and destination become.
        if what == What.FORWARD:
            member = self.members[number]
            self.hits.add(number, bytes=len(pkt))
            eth.dst = member.mac
            if case.inner:
                eth.src = self.config.mac
            if self.vips[member.vip].mode != Mode.NAT:
                return forward(self.inside)
            if own:
                a_upper, a_lower, one = b_upper, b_lower, port
            b_upper, b_lower, two = member.upper, member.lower, member.port
        else:
            vip = self.vips[number]
            a_upper, a_lower, one = vip.upper, vip.lower, vip.port
            if own:
                b_upper, b_lower, two = upper, lower, port
                eth.dst, eth.src = mac, self.config.mac
        if ip4 is not None:
            if tcp is not None:
                pkt.rewrite(ip4, under=tcp, src=a_lower & WORD, dst=b_lower & WORD)
                pkt.rewrite(tcp, src=one, dst=two)
            elif udp is not None:
                pkt.rewrite(ip4, under=udp, src=a_lower & WORD, dst=b_lower & WORD)
                pkt.rewrite(udp, src=one, dst=two)
            else:
                pkt.rewrite(ip4, under=None, src=a_lower & WORD, dst=b_lower & WORD)
        elif ip6 is not None:
            if tcp is not None:
                pkt.rewrite(ip6, under=tcp, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
                pkt.rewrite(tcp, src=one, dst=two)
            elif udp is not None:
                pkt.rewrite(ip6, under=udp, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
                pkt.rewrite(udp, src=one, dst=two)
            else:
                pkt.rewrite(ip6, under=None, source_upper=a_upper, source_lower=a_lower,
                            destination_upper=b_upper, destination_lower=b_lower)
        left = self.cases[0]
        return forward(self.outside if left.what == What.RETURN and not left.own else self.inside)

    def flow_key(self, a_upper: int, a_lower: int, b_upper: int, b_lower: int, one: int, two: int,
                 protocol: int) -> Flow:
        """A key, in this CPU's own memory: stack is short."""
        key = self.keys[0]
        key.a_upper, key.a_lower, key.b_upper, key.b_lower = a_upper, a_lower, b_upper, b_lower
        key.a_port, key.b_port, key.protocol = one, two, protocol
        return key

    def place_key(self, upper: int, lower: int, port: int, of: int) -> Place:
        """The same for the other tables."""
        key = self.places[0]
        key.upper, key.lower, key.port, key.of = upper, lower, port, of
        return key

    # -- the long way ------------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Say in the case what is done with a packet of the flow that is in `keys`."""
        flow, case = self.keys[0], self.cases[0]
        entry = self.flows.find(flow)
        if entry is not None:
            case.number, case.what, case.own, case.port = entry.number, entry.what, entry.own, entry.port
            case.upper, case.lower, case.mac = entry.client_upper, entry.client_lower, entry.mac
            if entry.what != What.FORWARD or self.fits(entry, case.flags):
                self.follow(flow, entry)
                return
        if case.ours:
            number = self.services.get(self.place_key(flow.b_upper, flow.b_lower, flow.b_port, flow.protocol))
            if number is not None:
                case.number = number
                self.begin()

    def fits(self, entry: Balanced, flags: int) -> bool:
        """Whether the member of a flow is still there for it."""
        member = self.members[entry.number]
        if member.epoch != entry.epoch or (flags == TcpFlag.SYN and entry.state in (State.CLOSED, State.RESET)):
            return False
        return member.health != Health.DEAD or self.vips[member.vip].orphans == Orphans.KEEP

    def begin(self) -> None:
        """A flow that is new, or needs another member: choose one, and remember."""
        flow, case = self.keys[0], self.cases[0]
        number = case.number
        vip = self.vips[number]
        nat = vip.mode == Mode.NAT
        case.own = 1 if case.inner and nat else 0
        case.state = State.OPENING if flow.protocol == IpProtocol.TCP else State.ASKED
        case.port = flow.a_port
        chosen, sticks = 0, 0
        if vip.sticky != 0:
            session = self.sessions.get(self.place_key(flow.a_upper, flow.a_lower, 0, number))
            if session is not None and session.until > case.moment:
                member = self.members[session.number]
                if member.epoch == session.epoch and member.health == Health.OPEN:
                    chosen, sticks = session.number + 1, 1
        fresh, back = self.drafts[0], self.keys[1]
        fresh.number, fresh.epoch, fresh.what, fresh.own = number, 0, What.RETURN, case.own
        fresh.state, fresh.marks = case.state, 0
        fresh.client_upper, fresh.client_lower, fresh.port, fresh.mac = 0, 0, 0, 0
        back.b_upper, back.b_lower, back.protocol = flow.a_upper, flow.a_lower, flow.protocol
        if case.own:
            fresh.client_upper, fresh.client_lower, fresh.port = flow.a_upper, flow.a_lower, flow.a_port
            fresh.mac = case.station
            back.b_upper, back.b_lower = flow.b_upper, flow.b_lower
        found = 0
        for turn in range(TRIES):
            if not sticks:
                place = (case.mix >> 16) + turn * STEP & self.config.slots - 1
                chosen = self.choices[number * self.config.slots + place]
            if chosen == 0 or not nat:
                found = 1
                break
            member = self.members[chosen - 1]
            if turn and case.own:
                case.port = case.mix >> 16 * turn & 0x7fff | 0x8000
            back.a_upper, back.a_lower, back.a_port, back.b_port = member.upper, member.lower, member.port, case.port
            other = self.flows.find(back)
            if other is None:
                self.flows.open(back, fresh)
                found = 1
                break
            if (other.what == What.RETURN and other.number == number and other.own == fresh.own
                    and other.client_upper == fresh.client_upper and other.client_lower == fresh.client_lower
                    and other.port == fresh.port):
                other.state, other.marks = fresh.state, other.marks & Mark.LASTING
                found = 1
                break
        require(found, Reason.COLLISION)
        if chosen == 0:
            case.what = What.REFUSE
            return
        case.number = chosen - 1
        self.remember(number)

    def remember(self, number: int) -> None:
        """That a flow to a VIP goes to the member in the case."""
        flow, case, fresh, vip = self.keys[0], self.cases[0], self.drafts[0], self.vips[number]
        chosen = case.number
        epoch = self.members[chosen].epoch
        case.what = What.FORWARD
        self.opened.add(chosen, bytes=0)
        if vip.sticky != 0:
            self.sessions.put(self.place_key(flow.a_upper, flow.a_lower, 0, number),
                              Session(until=case.moment + vip.sticky, number=chosen, epoch=epoch))
        entry = self.flows.find(flow)
        if entry is not None:
            self.noted.add(Note.MOVED, bytes=0)
            entry.number, entry.epoch, entry.own, entry.port = chosen, epoch, case.own, case.port
            entry.state, entry.marks = case.state, entry.marks & Mark.LASTING
            self.versions[0].changes += 1
        else:
            fresh.number, fresh.epoch, fresh.what, fresh.port = chosen, epoch, What.FORWARD, case.port
            self.flows.open(flow, fresh)

    def follow(self, flow: Flow, entry: Balanced) -> None:
        """Take note of a packet of a known flow: in its entry, and in that of the other direction, once a second or
        when something changes."""
        case = self.cases[0]
        state, marks, flags, answer = entry.state, entry.marks, case.flags, case.what == What.RETURN
        paired = 1
        if not answer and self.vips[self.members[case.number].vip].mode != Mode.NAT:
            paired = 0
        became = state
        if flow.protocol != IpProtocol.TCP:
            if answer or not paired:
                became = State.REPLIED
        elif flags & TcpFlag.RST:
            became = State.RESET
        else:
            if state == State.OPENING and answer:
                became = State.ANSWERED
            elif (flags & TcpFlag.SYN == 0 and not answer and (state == State.ANSWERED or (
                    state == State.OPENING and not paired))) or (state == State.RESET and flags == TcpFlag.ACK):
                became = State.ESTABLISHED
            if flags & TcpFlag.FIN:
                marks = marks | Mark.FIN_A
            if marks & FINS and became >= State.ESTABLISHED:
                became = State.CLOSED if marks & FINS == FINS else State.CLOSING
        if became == state and marks == entry.marks and case.moment + self.flows.lifetime(became) <= entry.deadline:
            return
        entry.state, entry.marks = became, marks
        case.state, case.marks, case.turn = became, marks, paired
        if self.flows.settle(flow, entry) != OPENED:
            self.noted.add(Note.UNPINNED, bytes=0)
        self.tell()

    def tell(self) -> None:
        """Let the entry of the other direction know."""
        flow, case = self.keys[0], self.cases[0]
        if not case.turn:
            return
        upper, lower = flow.a_upper, flow.a_lower
        if case.what == What.RETURN:
            vip = self.vips[case.number]
            if case.own:
                flow.a_upper, flow.a_lower, flow.a_port = case.upper, case.lower, case.port
            else:
                flow.a_upper, flow.a_lower, flow.a_port = flow.b_upper, flow.b_lower, flow.b_port
            flow.b_upper, flow.b_lower, flow.b_port = vip.upper, vip.lower, vip.port
        else:
            member = self.members[case.number]
            flow.a_upper, flow.a_lower, flow.a_port = member.upper, member.lower, member.port
            if not case.own:
                flow.b_upper, flow.b_lower = upper, lower
            flow.b_port = case.port
        other = self.flows.find(flow)
        if other is not None:
            marks = case.marks
            other.state = case.state
            other.marks = other.marks & Mark.LASTING | (marks & Mark.FIN_A) << 1 | (marks & Mark.FIN_B) >> 1
            if self.flows.settle(flow, other) != OPENED:
                self.noted.add(Note.UNPINNED, bytes=0)

    # -- who has an address ------------------------------------------------------------------------------------------

    def resolve4(self, pkt: Packet, eth: Ethernet, onward: int) -> Verdict:
        message = pkt.parse(Arp)
        if not arp.is_ethernet_ipv4(message):
            return forward(onward)
        target = MAPPED | message.target_ip
        if message.operation == ArpOperation.REQUEST:
            if self.own[0].lower == target or self.place_key(0, target, 0, 0) in self.services:
                require(message.sender_mac != self.config.mac and not is_group(message.sender_mac),
                        Reason.BAD_RESOLUTION)
                arp.answer(eth, message, self.config.mac)
                return forward(pkt.port)
            return forward(onward)
        if eth.dst != self.config.mac:
            return forward(onward)
        require(pkt.port == self.inside, Reason.HEARD)
        return punt(Heard(upper=0, lower=MAPPED | message.sender_ip))

    def resolve6(self, pkt: Packet, eth: Ethernet, ip: IPv6, onward: int) -> Verdict:
        """The cursor is behind the fixed header of a packet that goes to a group, or to the balancer.  What hosts send
        has one option of eight bytes, and is answered here; anything else is for Python."""
        message = pkt.peek(NeighborSolicitation)
        if message is None or message.code != 0 or ip.hops != ON_LINK:
            return forward(onward)
        target = message.target
        upper, lower = target >> 64, target & MASK64
        if message.type == Icmp6Type.NEIGHBOR_SOLICITATION:
            own = self.own[1]
            if not ((own.upper == upper and own.lower == lower) or self.place_key(upper, lower, 0, 0) in self.services):
                return forward(onward)
            return punt(Heard(upper=upper, lower=lower))
        if message.type != Icmp6Type.NEIGHBOR_ADVERTISEMENT or eth.dst != self.config.mac:
            return forward(onward)
        require(pkt.port == self.inside, Reason.HEARD)
        return punt(Heard(upper=upper, lower=lower))
