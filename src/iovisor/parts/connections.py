"""Connections: what is known of the flows that pass, one entry for both directions, found by one lookup.

A function holds them as `connections: Connections[Own] = Connections()`, where `Own` is a `Connection` with the fields
the function adds (the rule that let it pass, a binding, a backend).  Its configuration is derived from
`ConnectionsConfig`.  The data path asks `find`, tells what came (`segment`, `datagram`), and ends with `settle`; for
what is new it makes an entry and calls `open`.

*Two tables.*  Who has not been answered is cheap to forge, so what is not established lives in a small LRU,
`transitory`: a flood of first packets, of whatever number, pushes out other first packets and nothing else.  What both
ends took part in is promoted to `established`, a hash that refuses when full and never evicts.  Connections that ended
go back to the LRU.  One LRU for all was rejected: two packets a forged flow empty it.

*Windows* (RFC 9293, and van Rooij's "Real stateful TCP packet filtering"): each end has `end`, the highest sequence
it sent; `acked`, the next it expects; `granted`, the farthest it allowed the other to send; `window`, its largest.  All
four are written by segments of that end alone, so CPUs that see the two directions at once do not undo each other.
Data must end within what was granted and begin no older than a window; an acknowledgment must be of what was sent.
A reset closes only if it is exactly what the other end expects (RFC 5961 section 3.2); another in the window passes, to
be challenged.  A SYN in a living connection passes for the same reason (section 4.2), and changes nothing unless the
other end agrees.

*Time* is a deadline in the entry, a second late at most, moved no more than once a second.  A dead entry reads as
absent; the control path sweeps.
"""
from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Generic, TypeVar

from iovisor.language import (
    SECOND,
    Array,
    Component,
    Config,
    Hash,
    Lru,
    Packet,
    Prefix,
    Reasons,
    Record,
    every,
    inline,
    ipv4_text,
    ipv6_text,
    now,
    prefix,
    require,
    table,
    time,
    u1,
    u4,
    u8,
    u12,
    u16,
    u32,
    u64,
)
from iovisor.wire.checksum import fold, is_right, of_tcp
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.tcp import Tcp, TcpFlag, before, flags_of, has_legal_flags, is_opening, segment_length

from .reading import MAPPED, V4, Unreadable

WORD, CIRCLE, MASK48 = 0xffff_ffff, 0xffff_ffff, 0xffff_ffff_ffff
UNSCALED, WIDEST = 15, 14           # no window scale option; the largest scale (RFC 7323 section 2.3)
OPTIONS = 6                         # options of TCP that are looked at
SLACK = 66_000                      # an acknowledgment may be this old however small the window was
LINGER = 10 * SECOND                # of a connection that was reset
FOREVER = 1 << 61                   # nanoseconds; more than any machine runs
OPENED, REOPENED = 0, 1             # what `segment` answers beside reasons
LASTS, ENDED = 2, 3                 # what `settle` does: an entry has become one of `established`, is none any more

MIX, MASK64 = 0x9e37_79b9_7f4a_7c15, (1 << 64) - 1

SYN, ACK, RST, FIN = TcpFlag.SYN, TcpFlag.ACK, TcpFlag.RST, TcpFlag.FIN


class State(IntEnum):
    """Of a connection.  TCP's go by what was seen, not by what either end believes."""

    OPENING = 1         # SYN
    ANSWERED = 2        # SYN and ACK from the other end, or SYNs from both
    ESTABLISHED = 3     # and the acknowledgment of that
    CLOSING = 4         # FIN from one end or both
    CLOSED = 5          # both acknowledged
    RESET = 6
    ASKED = 7           # not TCP: one end sent
    REPLIED = 8         # and the other too
    QUERY = 9           # ICMP: a request, with or without replies


class Mark(IntEnum):
    """Bits of an entry."""

    ORIGIN_B = 1        # end B began
    FIN_A = 2
    FIN_B = 4
    AGAIN = 8           # `again` holds the number of a SYN, or ACK, that did not fit
    LOOSE = 16          # picked up midway: windows are not checked
    LASTING = 32        # the entry is in `established`


FINS = Mark.FIN_A | Mark.FIN_B


class Untracked(Reasons):
    """Why a packet does not belong to the connection it claims, or cannot begin one."""

    ILLEGAL_FLAGS = 140         # flags of TCP that no end sends
    BAD_CHECKSUM = 141          # TCP's checksum is wrong
    OUT_OF_STATE = 142          # a segment that nothing led to
    OUT_OF_WINDOW = 143         # beyond the window, or older than one
    UNSENT_ACK = 144            # acknowledges what was not sent
    UNASKED = 145               # an ICMP reply to no request, or from the wrong end
    UNRELATED = 146             # an ICMP error about no connection here
    UNKNOWN_FRAGMENT = 147      # a later fragment whose first was not seen
    FULL = 148                  # no room for another established connection
    QUOTA = 149                 # its source has as many as it may


class Flow(Record):
    """The key: the ends are in order, see `end_of`, so that both directions have the same.

    An ICMP query has its identifier for A's port and the type of its request for B's.  `zone` and `inner` are the VLANs
    of one or two tags, see `zone_of`: connections of two VLANs are not the same.
    """

    a_upper: u64
    a_lower: u64
    b_upper: u64
    b_lower: u64
    a_port: u16 = 0
    b_port: u16 = 0
    protocol: u8
    inner: u8 = 0
    zone: u16 = 0


class Connection(Record):
    """The common part of every entry; a holder's fields follow."""

    deadline: time = 0
    a_end: u32 = 0
    a_acked: u32 = 0
    a_granted: u32 = 0
    a_window: u32 = 0
    b_end: u32 = 0
    b_acked: u32 = 0
    b_granted: u32 = 0
    b_window: u32 = 0
    again: u32 = 0
    a_scale: u4 = 0
    b_scale: u4 = 0
    state: u8 = 0
    marks: u8 = 0


class Selectors(Record):
    """What the first fragment of a packet said of its flow.  The others are known by a `Flow` too: see `train_of`."""

    a_port: u16
    b_port: u16
    kind: u8 = 0        # of a query: the type of its request
    reply: u8 = 0       # and whether this is an answer


class Source(Record):
    """Who is held to a quota: an IPv4 address, or an IPv6 /64."""

    upper: u64
    lower: u64


class Usage(Record):
    count: u32


class ConnectionsConfig(Config):
    """How many connections, and how long they live."""

    connections: u32 = 65_536
    transitory: u32 = 8_192
    trains: u32 = 4_096
    per_source: u32 = 0
    opening: time = 30 * SECOND
    established: time = (2 * 60 + 4) * 60 * SECOND      # RFC 5382 REQ-5
    closing: time = 4 * 60 * SECOND
    closed: time = 2 * 60 * SECOND
    datagrams: time = 5 * 60 * SECOND                   # RFC 4787 REQ-5
    queries: time = 60 * SECOND                         # RFC 5508 REQ-1


C = TypeVar("C", bound=Connection)


@inline
def is_past(here: u32, there: int) -> int:
    """1 if `here` comes before `there` on the circle of sequence numbers.  No condition: see `end_of`."""
    return (here - there & CIRCLE) >> 31


@inline
def later(here: u32, there: int) -> int:
    """The one that comes after the other."""
    ahead = there - here & CIRCLE
    return here + (ahead & (ahead >> 31) - 1) & CIRCLE


@inline
def end_of(source_upper: u64, source_lower: u64, destination_upper: u64, destination_lower: u64) -> int:
    """1 if the sender is end B, the one whose address is higher; an IPv6 address counts by a mixture of its words.

    The borrow of a subtraction, not a comparison: the kernel's verifier would follow the two answers of one apart.
    Addresses that mix alike, which only who looks for them finds, make connections of their own each way: no answer
    passes.
    """
    source = source_upper * MIX + source_lower & MASK64
    destination = destination_upper * MIX + destination_lower & MASK64
    return ((~destination & source | (~destination | source) & destination - source) & MASK64) >> 63


@inline
def train_of(identity: u32, b: u1) -> tuple[int, int]:
    """What stands for ports in the `Flow` of a fragment: identification (RFC 791 section 3.2, RFC 8200 section 4.5), a
    bit of it turned if B sent it."""
    return identity >> 16 ^ b << 15, identity & 0xffff


@inline
def zone_of(outer: u12, inner: u12) -> tuple[int, int]:
    """Two VLANs as `zone` and `inner` of a flow."""
    return outer | (inner & 0xf) << 12, inner >> 4


@inline
def of_words(upper: u64, lower: u64) -> int:
    """The sum of an address, for a pseudo-header; the ffff of ::ffff:0:0/96 counts as nothing."""
    return (upper >> 32) + (upper & WORD) + (lower >> 32) + (lower & WORD)


class Connections(Component, Generic[C]):
    config: ConnectionsConfig
    established: Hash[Flow, C] = table("connections")
    transitory: Lru[Flow, C] = table("transitory")
    sources: Lru[Source, Usage] = table("transitory")
    fragments: Lru[Flow, Selectors] = table("trains", ttl=30 * SECOND)
    began: Array[u64] = table(2, per_cpu=True)

    # -- one lookup ----------------------------------------------------------------------------------------------------

    def find(self, flow: Flow) -> C | None:
        """The living connection.  A dead one in `established` is left to the sweep, or to who takes its place."""
        moment = now()
        found = self.established.get(flow)
        if found is None or found.deadline < moment:
            found = self.transitory.get(flow)
        if found is None or found.deadline < moment:
            return None
        return found

    # -- TCP -----------------------------------------------------------------------------------------------------------

    def read(self, pkt: Packet, tcp: Tcp, pseudo: u64, length: u16) -> int:
        """Refuse a segment that is wrong in itself; answers its window scale.  The cursor stands behind the header,
        `length` counts from it, `pseudo` is the sum of the pseudo-header.

        The checksum is asked for where state depends on it, of segments without data: `Packet.sum` takes more paths
        than the kernel's verifier has patience for here.  An unfinished one (offloads) is the pseudo-header's sum.
        """
        require(tcp.offset >= 5 and tcp.offset * 4 <= length, Unreadable.MALFORMED)
        require(has_legal_flags(tcp), Untracked.ILLEGAL_FLAGS)
        options = tcp.offset * 4 - 20
        scale = UNSCALED
        if tcp.flags & SYN:
            # Through memory, where the kernel's verifier forgets that it is zero: every turn of the loop is then alike.
            self.began[0] = 0
            offset = self.began[0] & 0x3f
            for _ in range(OPTIONS):
                if offset + 2 >= options:
                    break
                word = pkt.u16(offset)
                if word >> 8 == 0:
                    break
                if word == 0x0303:
                    scale = min(pkt.u8(offset + 2), WIDEST)
                    break
                offset = offset + (1 if word >> 8 == 1 else max(word & 0xff, 2)) & 0x3f
        if tcp.flags & (SYN | RST | FIN) and tcp.checksum != fold(pseudo) and length == options + 20:
            total = pseudo + of_tcp(tcp)
            for word in range(10):
                if word * 4 >= options:
                    break
                total = total + pkt.u32(word * 4) & MASK48
            require(is_right(total & MASK48), Untracked.BAD_CHECKSUM)
        return scale

    def segment(self, entry: C, b: u1, tcp: Tcp, length: u16, scale: u8) -> int:
        """A segment from end B, or A: `OPENED`, `REOPENED` if it begins another connection, or why it is refused."""
        steering = flags_of(tcp)
        sequence, acknowledged = tcp.sequence, tcp.acknowledgment
        last = sequence + segment_length(tcp, length) & CIRCLE
        state, marks = entry.state, entry.marks
        if b:
            end, acked, granted, window = entry.b_end, entry.b_acked, entry.b_granted, entry.b_window
            their_end, their_acked, their_granted = entry.a_end, entry.a_acked, entry.a_granted
            their_window, own, their_scale = entry.a_window, entry.b_scale, entry.a_scale
        else:
            end, acked, granted, window = entry.a_end, entry.a_acked, entry.a_granted, entry.a_window
            their_end, their_acked, their_granted = entry.b_end, entry.b_acked, entry.b_granted
            their_window, own, their_scale = entry.b_window, entry.a_scale, entry.b_scale
        origin, follows = b == marks & Mark.ORIGIN_B, False
        offered = max(tcp.window, 1)

        if state >= State.CLOSED and steering == SYN:
            if state == State.RESET or before(end, sequence):
                return REOPENED
            return Untracked.OUT_OF_WINDOW

        if steering == SYN and not (state == State.OPENING and not origin):
            if state == State.OPENING:              # again, perhaps with another number
                end, granted, window, own = last, sequence, offered, scale
                marks = marks & ~Mark.AGAIN & 0xff
            elif state != State.ANSWERED or not origin:
                entry.again = sequence
                marks = marks | Mark.AGAIN
        elif state == State.OPENING and origin:
            # The other end answered with what it remembers of a connection this one forgot (RFC 9293 section 3.5.1).
            if not (steering & RST and marks & Mark.AGAIN and sequence == entry.again):
                return Untracked.OUT_OF_STATE
        elif state == State.OPENING:                # `their_granted` is the initial sequence number so far
            fits = before(their_granted, acknowledged) and not before(their_end, acknowledged)
            if steering & SYN:
                if steering & ACK and not fits:
                    return Untracked.UNSENT_ACK
                acked = acknowledged if steering & ACK else their_granted + 1 & CIRCLE
                end, granted, window = last, acked + offered & CIRCLE, offered
                their_acked = sequence + 1 & CIRCLE
                their_granted = their_acked + their_window & CIRCLE
                scaled = scale != UNSCALED and their_scale != UNSCALED
                own = scale if scaled else 0
                their_scale = their_scale if scaled else 0
                state = State.ANSWERED
            elif steering & RST:
                if not (steering & ACK and fits):
                    return Untracked.OUT_OF_STATE
                state = State.RESET
            else:
                entry.again = acknowledged
                marks = marks | Mark.AGAIN
        elif steering == SYN | ACK and marks & Mark.AGAIN and acknowledged == entry.again + 1 & CIRCLE:
            # Both ends agree on a new connection in place of the one known here.  No window scale was seen of the SYN.
            state = State.ANSWERED
            marks = Mark.LOOSE | marks & Mark.LASTING | (0 if b else Mark.ORIGIN_B)
            end, acked, granted, window = last, acknowledged, acknowledged + offered & CIRCLE, offered
            their_end = acknowledged
            their_acked = sequence + 1 & CIRCLE
        else:
            strict = 1 - (marks >> 4 & 1)                   # not LOOSE
            if strict & (is_past(their_granted, last) | is_past(last, end - their_window)):
                return Untracked.OUT_OF_WINDOW
            if steering & RST:
                if sequence in (their_acked, end):
                    state = State.RESET
            else:                                           # its flags are legal: ACK is one of them
                if strict & is_past(their_end, acknowledged):
                    return Untracked.UNSENT_ACK
                if strict & is_past(acknowledged, their_end - max(window, SLACK)):
                    return Untracked.OUT_OF_WINDOW
                if state == State.ANSWERED and origin and not is_past(acknowledged, acked):
                    state = State.ESTABLISHED
                width = tcp.window if steering & SYN else tcp.window << own
                # What two CPUs find at once counts twice, which the stream catches up with.  Storing what one of them
                # found would take back what the other had, and refuse what is sent next.
                sent = later(end, last) - end & CIRCLE
                heard = later(acked, acknowledged) - acked & CIRCLE
                more = later(granted, acknowledged + max(width, 1)) - granted & CIRCLE
                if b:
                    entry.b_end += sent
                    entry.b_acked += heard
                    entry.b_granted += more
                    entry.b_window = max(window, width)
                else:
                    entry.a_end += sent
                    entry.a_acked += heard
                    entry.a_granted += more
                    entry.a_window = max(window, width)
                end, acked, follows = end + sent & CIRCLE, acked + heard & CIRCLE, True
                marks = marks | (steering & FIN) << 1 + b
                if state >= State.ESTABLISHED and marks & FINS:
                    both = marks & FINS == FINS and acked == their_end and their_acked == end
                    state = State.CLOSED if both or state == State.CLOSED else State.CLOSING

        if not follows:
            if b:
                entry.b_end, entry.b_acked, entry.b_granted, entry.b_window = end, acked, granted, window
            else:
                entry.a_end, entry.a_acked, entry.a_granted, entry.a_window = end, acked, granted, window
        if steering & SYN:
            if b:
                entry.b_scale, entry.a_scale = own, their_scale
                entry.a_end, entry.a_acked, entry.a_granted = their_end, their_acked, their_granted
            else:
                entry.a_scale, entry.b_scale = own, their_scale
                entry.b_end, entry.b_acked, entry.b_granted = their_end, their_acked, their_granted
        entry.state, entry.marks = state, marks
        return OPENED

    def open_segment(self, fresh: C, b: u1, tcp: Tcp, length: u16, scale: u8, midway: bool) -> int:
        """Make an entry of a first segment: a SYN, or any if connections may be picked up `midway`."""
        last = tcp.sequence + segment_length(tcp, length) & CIRCLE
        fresh.marks = Mark.ORIGIN_B if b else 0
        if is_opening(tcp):
            fresh.state = State.OPENING
            offered = max(tcp.window, 1)
            if b:
                fresh.b_end, fresh.b_granted, fresh.b_window, fresh.b_scale = last, tcp.sequence, offered, scale
            else:
                fresh.a_end, fresh.a_granted, fresh.a_window, fresh.a_scale = last, tcp.sequence, offered, scale
            return OPENED
        if not midway or flags_of(tcp) != ACK:
            return Untracked.OUT_OF_STATE
        fresh.state = State.ESTABLISHED
        fresh.marks = (Mark.ORIGIN_B if b else 0) | Mark.LOOSE
        limit = tcp.acknowledgment + tcp.window & CIRCLE
        if b:
            fresh.b_end, fresh.b_acked, fresh.b_granted = last, tcp.acknowledgment, limit
            fresh.a_end, fresh.a_acked = tcp.acknowledgment, last
        else:
            fresh.a_end, fresh.a_acked, fresh.a_granted = last, tcp.acknowledgment, limit
            fresh.b_end, fresh.b_acked = tcp.acknowledgment, last
        return OPENED

    # -- what is not TCP -----------------------------------------------------------------------------------------------

    def datagram(self, entry: C, b: u1) -> None:
        """A packet without a state of its own."""
        if entry.state == State.ASKED and b != entry.marks & Mark.ORIGIN_B:
            entry.state = State.REPLIED

    def quotes(self, entry: C, b: u1, protocol: u8, sequence: u32) -> bool:
        """Whether an ICMP error quotes what end B, or A, sent of late (RFC 5927 section 4.1)."""
        if protocol != IpProtocol.TCP or entry.marks & Mark.LOOSE:
            return True
        end = entry.b_end if b else entry.a_end
        window = entry.a_window if b else entry.b_window
        return not before(end, sequence) and not before(sequence, end - max(window, SLACK) & CIRCLE)

    # -- the life of an entry ------------------------------------------------------------------------------------------

    def blank(self, fresh: C) -> None:
        """Make an entry that is kept for making others as new."""
        fresh.a_end, fresh.a_acked, fresh.a_granted, fresh.a_window, fresh.a_scale = 0, 0, 0, 0, 0
        fresh.b_end, fresh.b_acked, fresh.b_granted, fresh.b_window, fresh.b_scale = 0, 0, 0, 0, 0
        fresh.deadline, fresh.again, fresh.state, fresh.marks = 0, 0, 0, 0

    def open(self, flow: Flow, fresh: C) -> int:
        """Store a new connection, which its maker gave its state and marks; `OPENED`, or why not."""
        fresh.deadline = now() + self.lifetime(fresh.state) + SECOND
        if not self.transitory.put(flow, fresh):
            return Untracked.FULL
        return OPENED

    def is_due(self, entry: C) -> bool:
        """Whether `settle` will move its deadline: once a second at most, and when its state has changed."""
        due = now() + self.lifetime(entry.state)
        return not due <= entry.deadline <= due + SECOND

    def settle(self, flow: Flow, entry: C) -> int:
        """Give an entry its deadline and its place, after all else; `OPENED`, `LASTS` or `ENDED`, or why there is no
        place, which is a reason."""
        state, marks, deadline = entry.state, entry.marks, entry.deadline
        due = now() + self.lifetime(state)
        if not due <= deadline <= due + SECOND:
            entry.deadline = due + SECOND
        lasts = marks & Mark.LASTING != 0
        if lasts == (state not in (State.CLOSED, State.RESET)):
            return OPENED
        if not lasts and state not in (State.ESTABLISHED, State.CLOSING, State.REPLIED):
            return OPENED
        if self.config.per_source != 0:
            key = self.source(flow, marks & Mark.ORIGIN_B)
            usage = self.sources.get(key)
            if usage is None:
                self.sources.put(key, Usage(count=0 if lasts else 1))
            elif lasts:
                usage.count += -1
            elif usage.count >= self.config.per_source:
                return Untracked.QUOTA
            else:
                usage.count += 1
        entry.marks = marks ^ Mark.LASTING
        if lasts:
            self.transitory.put(flow, entry)
            del self.established[flow]
        elif self.established.put(flow, entry):
            del self.transitory[flow]
        else:
            left = self.transitory.get(flow)
            if left is not None:
                left.marks = left.marks & ~Mark.LASTING & 0xff
            return Untracked.FULL
        return ENDED if lasts else LASTS

    def source(self, flow: Flow, b: u8) -> Source:
        upper = flow.b_upper if b else flow.a_upper
        lower = flow.b_lower if b else flow.a_lower
        return Source(upper=upper, lower=lower if upper == 0 else 0)

    def lifetime(self, state: u8) -> int:
        """Nanoseconds after which an entry in this state is dead."""
        match state:
            case State.ESTABLISHED:
                life = self.config.established
            case State.REPLIED | State.ASKED:
                life = self.config.datagrams
            case State.CLOSING:
                life = self.config.closing
            case State.CLOSED:
                life = self.config.closed
            case State.QUERY:
                life = self.config.queries
            case State.RESET:
                life = LINGER
            case _:
                life = self.config.opening
        # Through memory, where the kernel's verifier forgets it: or it would follow what comes for each state apart.
        self.began[1] = min(life, FOREVER)
        return self.began[1] & FOREVER * 2 - 1

    # -- control path --------------------------------------------------------------------------------------------------

    def entries(self) -> dict[Flow, C]:
        """Every living connection, as copies."""
        moment = now()
        return {flow: entry for kept in (self.established, self.transitory) for flow, entry in kept.items()
                if entry.deadline >= moment}

    def show(self, wanted: Callable[[C], bool] = lambda entry: True) -> list[dict[str, Any]]:
        """The living connections, who began first; `wanted` says which."""
        moment, rows = now(), []
        for flow, entry in self.entries().items():
            if not wanted(entry):
                continue
            ends = [f"{text(flow.a_upper, flow.a_lower)} {flow.a_port}",
                    f"{text(flow.b_upper, flow.b_lower)} {flow.b_port}"]
            first, second = reversed(ends) if entry.marks & Mark.ORIGIN_B else ends
            name = IpProtocol(flow.protocol).name.lower() if flow.protocol in set(IpProtocol) else str(flow.protocol)
            rows.append({"protocol": name, "from": first, "to": second, "zone": flow.zone,
                         "state": State(entry.state).name.lower(), "seconds": (entry.deadline - moment) // SECOND})
        return rows

    def flush(self, within: str = "") -> int:
        """Forget the connections with an end in a prefix, or all; answers how many."""
        bound = prefix(within) if within else Prefix(0, 0, 128)
        wanted = Prefix(MAPPED | bound.address, V4 + bound.length, 128) if bound.bits == 32 else bound
        count = 0
        for kept in (self.established, self.transitory):
            for flow, _ in list(kept.items()):
                if flow.a_upper << 64 | flow.a_lower in wanted or flow.b_upper << 64 | flow.b_lower in wanted:
                    del kept[flow]
                    count += 1
        self.recount()
        return count

    @every(10)
    def sweep(self) -> None:
        """Remove the dead, and count again what each source has."""
        moment = now()
        for flow, entry in list(self.established.items()):
            if entry.deadline < moment:
                del self.established[flow]
        self.recount()

    def recount(self) -> None:
        if self.config.per_source == 0:
            return
        counts: dict[Source, int] = {}
        for flow, entry in self.established.items():
            source = self.source(flow, entry.marks & Mark.ORIGIN_B)
            counts[source] = counts.get(source, 0) + 1
        for source, usage in list(self.sources.items()):
            if usage.count != counts.get(source, 0):
                self.sources[source] = Usage(count=counts.get(source, 0))


def text(upper: int, lower: int) -> str:
    """An address as people read it."""
    return ipv4_text(lower & WORD) if upper == 0 and lower >> 32 == 0xffff else ipv6_text(upper << 64 | lower)
