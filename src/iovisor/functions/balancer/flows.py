"""Which flow goes where: what is new is chosen for, what is known is followed.

A balancer is no firewall: it does not judge windows, for that would be the backends' business twice.  Flags say what is
half open, alive and over, that is how long an entry lives and in which table.  A reset that was forged does no harm:
the next segment revives the flow.

What is asked about a packet, and decided, is in `cases`, and the keys of tables are in `keys` and `places`: in memory
of this CPU.  Stack is short, and the kernel's verifier forgets there which way it came.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import (
    Array,
    Counter,
    Function,
    Hash,
    Lru,
    Port,
    inline,
    require,
    table,
    time,
    u8,
    u16,
    u64,
    walked_once,
)
from iovisor.parts.connections import FINS, FOREVER, LINGER, Connections, Flow, Mark, State, Untracked
from iovisor.parts.rejection import Rejection
from iovisor.wire.icmp import Unreachable
from iovisor.wire.icmp6 import Unreachable6
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.tcp import TcpFlag

from .settings import BalancerConfig
from .tables import (
    NOTES,
    Balanced,
    Case,
    Health,
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


@inline
def mixed(seed: u64, a_upper: u64, a_lower: u64, b_upper: u64, b_lower: u64, ends: u64) -> int:
    """64 bits of a flow, the same wherever `seed` is, unlike those of `hash`: two balancers choose alike."""
    state = (seed ^ a_upper ^ b_upper * MIX2 & MASK64) * MIX & MASK64
    state = (state ^ state >> 32 ^ a_lower ^ b_lower * MIX2 & MASK64) * MIX & MASK64
    state = (state ^ state >> 32 ^ ends) * MIX & MASK64
    return (state ^ state >> 29) * MIX2 & MASK64


class Fit(IntEnum):
    """What becomes of a flow whose member is asked for."""

    NO = 0
    YES = 1
    REFUSED = 2


class Kept(Connections[Balanced]):
    """Connections whose lifetimes stand in a table: a choice among nine, after which the kernel's verifier follows nine
    ways, becomes a load."""

    lives: Array[time] = table(16)

    def lifetime(self, state: u8) -> int:
        return self.lives[state & 15] & FOREVER * 2 - 1

    def fill(self, config: BalancerConfig) -> None:
        """For the control path: what `lifetime` answers."""
        spans = {State.ESTABLISHED: config.established, State.REPLIED: config.datagrams, State.ASKED: config.datagrams,
                 State.CLOSING: config.closing, State.CLOSED: config.closed, State.RESET: LINGER}
        for state in State:
            self.lives[state] = min(spans.get(state, config.opening), FOREVER)


class Flows(Function):
    config: BalancerConfig
    outside: Port
    inside: Port

    flows: Kept = Kept()
    rejection: Rejection = Rejection(code=Unreachable.PORT, code6=Unreachable6.PORT)
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

    # -- keys ---------------------------------------------------------------------------------------------------------

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

    def is_own(self, upper: int, lower: int) -> bool:
        own = self.own[1 if upper != 0 else 0]
        return own.upper == upper and (own.lower ^ lower) & own.kept == 0

    # -- the long way ------------------------------------------------------------------------------------------------

    @walked_once
    def decide(self) -> None:
        """Say in the case what is done with a packet of the flow that is in `keys`."""
        flow, case = self.keys[0], self.cases[0]
        entry = self.flows.find(flow)
        if entry is not None:
            case.number, case.what, case.own, case.port = entry.number, entry.what, entry.own, entry.port
            case.upper, case.lower, case.mac = entry.client_upper, entry.client_lower, entry.mac
            fit = self.fits(entry, case.flags) if entry.what == What.FORWARD else Fit.YES
            if fit == Fit.YES:
                self.follow(flow, entry)
                return
            if fit == Fit.REFUSED:
                case.what = What.REFUSE
                return
        if case.ours:
            number = self.services.get(self.place_key(flow.b_upper, flow.b_lower, flow.b_port, flow.protocol))
            if number is not None:
                case.number = number
                self.begin()

    def fits(self, entry: Balanced, flags: int) -> int:
        """Whether the member of a flow is still there for it."""
        member = self.members[entry.number]
        if flags == TcpFlag.SYN and entry.state in (State.CLOSED, State.RESET):
            return Fit.NO
        gone = member.epoch != entry.epoch
        if not gone and member.health != Health.DEAD:
            return Fit.YES
        orphans = self.vips[entry.vip].orphans
        if orphans == Orphans.RESET and flags != TcpFlag.SYN:
            return Fit.REFUSED
        return Fit.YES if orphans == Orphans.KEEP and not gone else Fit.NO

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
        fresh.number, fresh.epoch, fresh.what, fresh.own, fresh.vip = number, 0, What.RETURN, case.own, number
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
            entry.vip = number
            entry.state, entry.marks = case.state, entry.marks & Mark.LASTING
            self.versions[0].changes += 1
        else:
            fresh.number, fresh.epoch, fresh.what, fresh.port = chosen, epoch, What.FORWARD, case.port
            self.flows.open(flow, fresh)

    def follow(self, flow: Flow, entry: Balanced) -> None:
        """Take note of a packet of a known flow, once a second or when something changes."""
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
        if became != state or marks != entry.marks or case.moment + self.flows.lifetime(became) > entry.deadline:
            case.state, case.marks, case.left = became, marks & FINS, paired
            self.settle()

    def settle(self) -> None:
        """Write what became of a flow into its entry, and into that of the other direction."""
        self.enter()
        case = self.cases[0]
        if case.left:
            case.marks = (case.marks & Mark.FIN_A) << 1 | (case.marks & Mark.FIN_B) >> 1
            self.turn_round()
            self.enter()

    def enter(self) -> None:
        """Write what is in the case into the entry whose key is in `keys`."""
        case = self.cases[0]
        entry = self.flows.find(self.keys[0])
        if entry is not None:
            entry.state, entry.marks = case.state, entry.marks & Mark.LASTING | case.marks
            if self.flows.settle(self.keys[0], entry) in (Untracked.FULL, Untracked.QUOTA):
                self.noted.add(Note.UNPINNED, bytes=0)

    def turn_round(self) -> None:
        """Make the key in `keys` that of the other direction."""
        flow, case = self.keys[0], self.cases[0]
        if case.what == What.RETURN:
            vip = self.vips[case.number]
            if case.own:
                flow.a_upper, flow.a_lower, flow.a_port = case.upper, case.lower, case.port
            else:
                flow.a_upper, flow.a_lower, flow.a_port = flow.b_upper, flow.b_lower, flow.b_port
            flow.b_upper, flow.b_lower, flow.b_port = vip.upper, vip.lower, vip.port
        else:
            member = self.members[case.number]
            if not case.own:
                flow.b_upper, flow.b_lower = flow.a_upper, flow.a_lower
            flow.b_port = case.port
            flow.a_upper, flow.a_lower, flow.a_port = member.upper, member.lower, member.port
