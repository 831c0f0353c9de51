"""Translation: whose ends a packet's are, what is known of them, and what they become, whatever the addresses are of.

    who is behind the destination ── connection
                                         known: it says what the source is shown as
                                         new, from inside: a binding is found or made
                                         new, from outside: the filter decides

A function that translates is a `Translation`.  Its `ingress` reads a packet into a `Way`, calls `track`, and writes
what that says into the packet: the source is to be `shown_…` with the port `own_port`, the destination `real_…` with
`real_port`; to the inside if `ours`, else out.  Control path and actions are the same for all, and are here.

A connection is kept under the *real* ends of both sides, so that every direction, hairpins among them, finds the one
entry; and each end has in it what the other sees it as.  So an answer to the outside takes one lookup, and one to the
inside two: who is behind it, and the connection.

What is known of a packet lies in memory (`Way`), not in variables: the stack is small, and the kernel's verifier
follows apart what comes after each constant that it remembers.

A component was tried on paper: it would hold two others, and its holder's ports.  So this is what functions extend.
"""
from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Function,
    Packet,
    Port,
    Record,
    action,
    every,
    handles,
    inline,
    now,
    prefix,
    require,
    table,
    time,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.wire.checksum import finish
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.tcp import Tcp, is_opening

from .bindings import FOREVER, WORD, Bindings, Unbound
from .connections import (
    ENDED,
    LASTS,
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
    train_of,
)
from .ledger import Ledger
from .outside import BindingsConfig
from .quotation import Ends, Message, Query, change_ends, change_query, of_halves
from .reading import IPv6Halves, is_message

LOOK = 0.01             # seconds between two looks for the first fragment


class Translated(Connection):
    """What each end is seen under by the other: the slot of an outside address and a port, zero if as it is."""

    a_slot: u16 = 0
    a_port: u16 = 0
    b_slot: u16 = 0
    b_port: u16 = 0


class Early(Flow):
    """A fragment came before its first, which would be known by this."""


class Way(Record):
    """What is known of the packet on its way: its ends as the wire has them, who really is the destination, what the
    source is shown as."""

    source_upper: u64
    source_lower: u64
    destination_upper: u64
    destination_lower: u64
    real_upper: u64
    real_lower: u64
    shown_upper: u64
    shown_lower: u64
    from_upper: u64
    from_lower: u64
    since: time
    identity: u32
    sequence: u32
    length: u16
    one: u16
    two: u16
    real_port: u16
    own_slot: u16
    own_port: u16
    slot: u16
    protocol: u8
    kind: u8
    reply: u8
    scale: u8
    first: u8
    later: u8
    ours: u8
    about: u8               # of an error: where the quoted transport header lies, from the message on; or zero


class TranslationConfig(ConnectionsConfig, BindingsConfig):
    """As RFC 6146, RFC 4787 and RFC 5382 have it."""

    opening: time = 4 * 60 * SECOND
    closed: time = 4 * 60 * SECOND
    wait: time = SECOND
    log: bool = False


@inline
def first_state(protocol: u8) -> int:
    """Of a connection whose first packet this is."""
    if is_message(protocol):
        return State.QUERY
    return State.OPENING if protocol == IpProtocol.TCP else State.ASKED


class Translation(Function):
    _ledger: Ledger | None = None

    config: TranslationConfig
    inside: Port
    outside: Port

    connections: Connections[Translated] = Connections()
    bindings: Bindings = Bindings()
    ways: Array[Way] = table(1, per_cpu=True)
    flows: Array[Flow] = table(1, per_cpu=True)
    opened: Array[Translated] = table(1, per_cpu=True)

    def track(self, pkt: Packet, way: Way, flow: Flow, tcp: Tcp | None) -> None:
        """From what was read of a packet to what it becomes; refuses what may not pass.

        `way` has the ends as the other side would write them, protocol, ports (an identifier of queries is a port of
        who asks), and, of an error, those of the packet that would answer what it quotes.
        """
        # Whose ends these are.
        way.real_upper, way.real_lower, way.real_port = way.destination_upper, way.destination_lower, way.two
        inward = pkt.port == self.outside
        ours = inward
        if not inward and self.bindings.is_near(way.destination_upper, way.destination_lower):
            ours = self.bindings.is_ours(way.destination_upper, way.destination_lower)
        way.ours, way.slot, way.since = ours, 0, 0
        end = self.bindings.ends[0]
        end.protocol = way.protocol
        end.upper, end.lower, end.port = way.destination_upper, way.destination_lower, way.two
        if ours:
            binding = self.bindings.behind(end)
            if binding is None:
                return self.refuse(Unbound.UNMAPPED)
            way.real_upper, way.real_lower = binding.upper, binding.lower
            if binding.port != 0 or binding.deadline != FOREVER:
                way.real_port = binding.port
            way.slot, way.since = binding.slot, FOREVER if binding.deadline == FOREVER else binding.since
        b = self.side(way)
        first, second = way.one, way.real_port
        if is_message(way.protocol):
            first, second = way.one | way.real_port, way.kind | (b ^ way.reply) << 8
        if b:
            flow.a_upper, flow.a_lower = way.real_upper, way.real_lower
            flow.b_upper, flow.b_lower = way.source_upper, way.source_lower
        else:
            flow.a_upper, flow.a_lower = way.source_upper, way.source_lower
            flow.b_upper, flow.b_lower = way.real_upper, way.real_lower
        swapped = b != 0 and not is_message(way.protocol)
        flow.a_port, flow.b_port = second if swapped else first, first if swapped else second

        entry = self.connections.find(flow)
        way.own_slot, way.own_port = 0, way.one
        if entry is None and way.about != 0:
            return self.refuse(Untracked.UNRELATED)
        if entry is None and inward and self.bindings.is_near(way.source_upper, way.source_lower):
            require(not self.bindings.is_ours(way.source_upper, way.source_lower), Unbound.SPOOFED)
        if entry is None and pkt.port == self.inside:
            require(way.reply == 0, Untracked.UNASKED)
            if tcp is not None:
                require(is_opening(tcp), Untracked.OUT_OF_STATE)
            end.upper, end.lower, end.port = way.source_upper, way.source_lower, way.one
            life = self.connections.lifetime(first_state(way.protocol)) + SECOND
            claimed = self.bindings.claim(end, life)
            require(claimed >> 16 != 0, claimed)
            way.own_slot, way.own_port = claimed >> 16 & 0xffff, claimed & 0xffff
        b = self.side(way)
        known = 0
        fresh = self.opened[0]
        if entry is not None:
            known = 1
            if way.about != 0:
                require(self.connections.quotes(entry, 1 - b, way.protocol, way.sequence), Untracked.UNRELATED)
            elif tcp is not None:
                outcome = self.connections.segment(entry, b, tcp, way.length, way.scale)
                require(outcome <= REOPENED, outcome)
                known = 0 if outcome == REOPENED else 1
            elif entry.state == State.QUERY:
                began = b == entry.marks & Mark.ORIGIN_B
                require(began == (way.reply == 0), Untracked.UNASKED)
            else:
                self.connections.datagram(entry, b)
            if b:
                own_slot, own_port, its_slot, its_port = entry.b_slot, entry.b_port, entry.a_slot, entry.a_port
            else:
                own_slot, own_port, its_slot, its_port = entry.a_slot, entry.a_port, entry.b_slot, entry.b_port
            require(its_slot == way.slot and (its_slot == 0 or its_port == way.two)
                    and (own_slot != 0) == (pkt.port == self.inside), Unbound.CLASH)
            if own_slot != 0:
                way.own_slot, way.own_port = own_slot, own_port
        if known == 0:
            self.connections.blank(fresh)
            if tcp is not None:
                opened = self.connections.open_segment(fresh, b, tcp, way.length, way.scale, False)
                require(opened == OPENED, opened)
            else:
                require(way.reply == 0, Untracked.UNASKED)
                fresh.marks = b
                fresh.state = first_state(way.protocol)
        way.shown_upper, way.shown_lower = way.source_upper, way.source_lower
        if way.own_slot != 0:
            address = self.bindings.addresses[way.own_slot]
            way.shown_upper, way.shown_lower = address.upper, address.lower
        outcome = OPENED
        if known == 0:
            if way.own_slot != 0:
                end.upper, end.lower, end.port = way.shown_upper, way.shown_lower, way.own_port
                self.bindings.welcome(end, way.destination_upper, way.destination_lower)
            if way.ours:
                end.upper, end.lower, end.port = way.destination_upper, way.destination_lower, way.two
                require(not inward or way.since == FOREVER or self.bindings.admits(
                    end, way.since, way.shown_upper, way.shown_lower), Unbound.FILTERED)
            if b:
                fresh.b_slot, fresh.b_port, fresh.a_slot, fresh.a_port = way.own_slot, way.own_port, way.slot, way.two
            else:
                fresh.a_slot, fresh.a_port, fresh.b_slot, fresh.b_port = way.own_slot, way.own_port, way.slot, way.two
            outcome = self.connections.open(flow, fresh)
        elif entry is not None and way.about == 0:
            due, state = self.connections.is_due(entry), entry.state
            outcome = self.connections.settle(flow, entry)
            if due or outcome in (LASTS, ENDED):
                self.renew(way, state, outcome)
        require(outcome <= ENDED, outcome)
        if way.first:
            self.as_train(flow, way)
            self.connections.fragments.put(flow, Selectors(a_port=way.one, b_port=way.two, kind=way.kind,
                                                           reply=way.reply))

    def side(self, way: Way) -> int:
        """Whether the source is the second end of its connection.  Of a host that talks to itself, ports decide."""
        if way.source_upper == way.real_upper and way.source_lower == way.real_lower:
            return 0 if way.one <= way.real_port or is_message(way.protocol) else 1
        return end_of(way.source_upper, way.source_lower, way.real_upper, way.real_lower)

    def refuse(self, reason: int) -> None:
        """Reject the packet."""
        require(False, reason)

    def requote6(self, pkt: Packet, ip: IPv6Halves, way: Way) -> None:
        """Translate an ICMPv6 error and what it quotes between IPv6 addresses; the cursor stands before the message.

        Sums are kept from falling below zero by multiples of 0xffff, which count as nothing."""
        message, inner = pkt.parse(Message, IPv6Halves)
        if way.own_slot == 0:
            way.from_upper, way.from_lower = ip.source_upper, ip.source_lower
        else:
            way.from_upper, way.from_lower = way.shown_upper, way.shown_lower
        addresses = (12 * WORD - of_halves(inner.source_upper, inner.source_lower)
                     - of_halves(inner.destination_upper, inner.destination_lower)
                     + of_halves(way.real_upper, way.real_lower) + of_halves(way.shown_upper, way.shown_lower))
        more = (12 * WORD - of_halves(ip.source_upper, ip.source_lower)
                - of_halves(ip.destination_upper, ip.destination_lower)
                + of_halves(way.from_upper, way.from_lower) + of_halves(way.real_upper, way.real_lower)) + addresses
        if is_message(way.protocol):
            query = pkt.parse(Query)
            change_query(message, query, addresses, way.own_port | way.real_port, more)
        elif way.protocol == IpProtocol.TCP or way.protocol == IpProtocol.UDP:
            ends = pkt.parse(Ends)
            change_ends(pkt, message, ends, way.protocol, addresses, way.real_port, way.own_port, more,
                        way.length - way.about - Ends.size)
        else:
            message.checksum = finish((~message.checksum & 0xffff) + more)
        pkt.rewrite(inner, under=None, source_upper=way.real_upper, source_lower=way.real_lower,
                    destination_upper=way.shown_upper, destination_lower=way.shown_lower)
        pkt.rewrite(ip, under=None, source_upper=way.from_upper, source_lower=way.from_lower,
                    destination_upper=way.real_upper, destination_lower=way.real_lower)

    def renew(self, way: Way, state: u8, outcome: int) -> None:
        """Let the bindings of a connection live as long as it does; that of one that ended, no longer than that."""
        ended = State.CLOSING <= state <= State.RESET
        life = min(self.config.closed, FOREVER) if ended else self.connections.lifetime(state)
        until = min(now() + life + SECOND, FOREVER - 1)
        lasting = 1 if outcome == LASTS else 0
        if outcome == ENDED:
            lasting = -1
        spared = 1 if state == State.CLOSING else 0
        if way.own_slot != 0:
            self.bindings.renew(way.own_slot, way.own_port, way.protocol, until, lasting, ended, spared)
        if way.slot != 0:
            self.bindings.renew(way.slot, way.two, way.protocol, until, lasting, ended, spared)

    def as_train(self, flow: Flow, way: Way) -> None:
        """What a fragment is known by."""
        flow.a_upper, flow.a_lower = way.source_upper, way.source_lower
        flow.b_upper, flow.b_lower = way.destination_upper, way.destination_lower
        flow.a_port, flow.b_port = train_of(way.identity, 0)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: Any, new: Any) -> None:
        self.bindings.withdraw(old, new)
        self.cut()
        self.bindings.assign(new)
        self.cut()

    def cut(self) -> None:
        """Forget the connections whose bindings are no longer theirs."""
        for kept in (self.connections.established, self.connections.transitory):
            for flow, entry in list(kept.items()):
                ends = ((flow.a_upper, flow.a_lower, flow.a_port, entry.a_slot, entry.a_port),
                        (flow.b_upper, flow.b_lower, flow.b_port, entry.b_slot, entry.b_port))
                if not all(slot == 0 or self.bindings.stands(upper, lower, slot, port, flow.protocol)
                           for upper, lower, _, slot, port in ends):
                    del kept[flow]

    @handles(Early)
    async def on_early(self, event: Early, packet: Packet) -> Packet | None:
        """Keep a fragment until its first has come, for `wait` at most (RFC 4787 REQ-14)."""
        train = Flow(**{name: getattr(event, name) for name in Flow.fields})
        end = monotonic() + self.config.wait / SECOND
        while train not in self.connections.fragments:
            if monotonic() > end:
                self.drops[Untracked.UNKNOWN_FRAGMENT] = self.drops.get(Untracked.UNKNOWN_FRAGMENT, 0) + 1
                return None
            await asyncio.sleep(LOOK)
        return packet

    @every(10)
    def count(self) -> None:
        """How many established connections each binding has: those that died in silence told nobody."""
        counts: dict[tuple[int, int, int], int] = {}
        for flow, entry in self.connections.established.items():
            for slot, port in ((entry.a_slot, entry.a_port), (entry.b_slot, entry.b_port)):
                if slot:
                    place = (slot, port, flow.protocol)
                    counts[place] = counts.get(place, 0) + 1
        self.bindings.settle_counts(counts)

    def ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger()
        return self._ledger

    @every(10)
    def record(self) -> None:
        """Write down which bindings began and ended, if `log` asks for it."""
        if self.config.log:
            self.ledger().look(self.bindings)

    @action
    def recorded(self) -> list[dict[str, Any]]:
        """With `log`, which bindings began and ended, the oldest first: when (seconds since 1970), who as whom."""
        self.record()
        return list(self.ledger().lines)

    @action
    def show(self) -> list[dict[str, Any]]:
        """The living bindings: protocol, inside, outside, seconds left."""
        return self.bindings.show()

    @action
    def listing(self) -> list[dict[str, Any]]:
        """The living connections: protocol, who began and to whom, state, seconds left."""
        return self.connections.show()

    @action
    def flush(self, within: str = "") -> int:
        """End the dynamic bindings of inside addresses in a prefix, or all, and their connections; answers how many."""
        count = self.bindings.flush(prefix(within) if within else None)
        self.cut()
        return count


__all__ = ["Early", "Translated", "Translation", "TranslationConfig", "Way", "first_state"]
