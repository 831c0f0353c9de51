"""What a DHCPv6 server answers (RFC 8415 section 18.3), without packets: a question in, a reply or nothing out.

Silence is an answer too: to what names another server, or names this one where it must not (section 16), and to a
client that rebinds what this one knows nothing of, because another may know better.  What cannot be given is said in
the association that asked for it, so that a client that asks for two things and can have one gets it.

The address of a new client is picked by a digest of who asks (RFC 7943, but for the secret): neighbors do not have
neighboring addresses, and a client finds its own again even if this server has forgotten it.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from iovisor.language import SECOND, Reject
from iovisor.wire import dhcp6 as wire
from iovisor.wire.dhcp6 import Association, Dhcp6Option, Dhcp6Type, Lent, Options, Status

from .leases import OFFER_STANDS, Book, Client, Lease6, Pool, State, association_of, named
from .settings import Dhcp6Config, SubnetConfig

TRIES = 3                       # by digest, before an address is looked for in order
NAMES_US = frozenset({Dhcp6Type.REQUEST, Dhcp6Type.RENEW, Dhcp6Type.RELEASE, Dhcp6Type.DECLINE})
NAMES_NOBODY = frozenset({Dhcp6Type.SOLICIT, Dhcp6Type.CONFIRM, Dhcp6Type.REBIND})
NOTHING_LEFT = {Dhcp6Option.IA_NA: Status.NO_ADDRESSES, Dhcp6Option.IA_PD: Status.NO_PREFIX}


@dataclass
class Question:
    """A message of a client.  MalformedMessage if its options are none."""

    kind: Dhcp6Type
    owner: int                              # the Ethernet address it comes from
    options: Options
    link: int = 0                           # an address of the client's link; 0: the server's own
    unicast: bool = False                   # whether it was sent to the server alone
    duid: bytes = field(init=False)
    wishes: list[int] = field(init=False)
    associations: list[Association] = field(init=False)

    def __post_init__(self) -> None:
        self.duid = wire.first(self.options, Dhcp6Option.CLIENT) or b""
        self.wishes, self.associations = wire.wishes(self.options), wire.associations(self.options)

    @property
    def server(self) -> bytes | None:
        return wire.first(self.options, Dhcp6Option.SERVER)

    @property
    def hardware(self) -> frozenset[int]:
        """The Ethernet addresses by which the client is known."""
        return frozenset({self.owner, wire.hardware_of(self.duid)} - {0})

    def client(self, association: Association) -> Client:
        return association_of(self.duid, association.kind, association.id)


@dataclass
class Reply:
    """A message of the server."""

    kind: Dhcp6Type
    options: Options
    lent: list[tuple[Client, int]] = field(default_factory=list)        # what it is about: associations and addresses


class Server:
    """The answers of one configuration, out of one book."""

    def __init__(self, config: Dhcp6Config, book: Book[Lease6]) -> None:
        self.config, self.book = config, book
        self.pools = {subnet.prefix: config.pools(subnet) for subnet in config.subnets}
        self.told = {subnet.prefix: config.told(subnet) for subnet in config.subnets}
        self.identifier = config.identifier
        self.refused = 0                # associations that got nothing

    def answer(self, question: Question, moment: int) -> Reply | None:
        """What to say, if anything; the book is brought up to date."""
        subnet = self.config.subnet_of(question.link or self.config.server)
        if subnet is None or not self._is_meant(question):
            return None
        if question.unicast:
            if question.kind not in NAMES_US:
                return None
            return Reply(Dhcp6Type.REPLY, [*self._ends(question), wire.status(
                Status.USE_MULTICAST, "ask all servers, at ff02::1:2")])
        match question.kind:
            case Dhcp6Type.SOLICIT:
                return self._solicit(question, subnet, moment)
            case Dhcp6Type.REQUEST:
                found = [self._request(question, subnet, asked, moment) for asked in question.associations]
                return self._granting(Dhcp6Type.REPLY, question, subnet, found)
            case Dhcp6Type.CONFIRM:
                return self._confirm(question, subnet)
            case Dhcp6Type.RENEW:
                found = [self._renew(question, subnet, asked, moment) or Association(
                    asked.kind, asked.id, status=wire.status(Status.NO_BINDING, "nothing is known of this"))
                    for asked in question.associations]
                return self._granting(Dhcp6Type.REPLY, question, subnet, found)
            case Dhcp6Type.REBIND:
                known = [one for asked in question.associations
                         if (one := self._renew(question, subnet, asked, moment) or self._elsewhere(subnet, asked))]
                return self._granting(Dhcp6Type.REPLY, question, subnet, known) if known else None
            case Dhcp6Type.RELEASE | Dhcp6Type.DECLINE:
                return self._give_back(question, moment)
        return self._inform(question, subnet)

    def _is_meant(self, question: Question) -> bool:
        """Whether a message is one that this server answers (RFC 8415 section 16)."""
        named = question.server
        if question.kind == Dhcp6Type.INFORMATION_REQUEST:
            return named in (None, self.identifier) and not question.associations
        if not 3 <= len(question.duid) <= wire.LONGEST_DUID:
            return False
        if question.kind in NAMES_NOBODY:
            return named is None
        return question.kind in NAMES_US and named == self.identifier

    # -- giving ------------------------------------------------------------------------------------------------------

    def _solicit(self, question: Question, subnet: SubnetConfig, moment: int) -> Reply:
        if self.config.rapid and wire.first(question.options, Dhcp6Option.RAPID_COMMIT) is not None:
            found = [self._lend(question, subnet, asked, State.BOUND, moment) for asked in question.associations]
            if any(one.lent for one in found):
                reply = self._granting(Dhcp6Type.REPLY, question, subnet, found)
                reply.options.append((Dhcp6Option.RAPID_COMMIT, b""))
                return reply
        found = [self._lend(question, subnet, asked, State.OFFERED, moment) for asked in question.associations]
        return self._granting(Dhcp6Type.ADVERTISE, question, subnet, found)

    def _request(self, question: Question, subnet: SubnetConfig, asked: Association, moment: int) -> Association:
        if asked.kind == Dhcp6Option.IA_NA and any(one.address not in subnet.prefix for one in asked.lent):
            return Association(asked.kind, asked.id, status=wire.status(
                Status.NOT_ON_LINK, f"hosts here have addresses in {subnet.prefix}"))
        return self._lend(question, subnet, asked, State.BOUND, moment)

    def _lend(self, question: Question, subnet: SubnetConfig, asked: Association, state: State,
              moment: int) -> Association:
        """Give an association what it asks for, or say that there is nothing."""
        client = question.client(asked)
        address, length = self._choose(question, subnet, asked, client, moment)
        lease = self.book.of(client)
        if address and state == State.OFFERED:
            stands = (lease is not None and lease.address == address and lease.state == State.BOUND
                      and lease.expires > moment)
            if not stands and not self._write(question, asked, address, length, state, moment + OFFER_STANDS):
                address = 0
        elif address and not self._write(question, asked, address, length, state, moment + self.config.lease):
            address = 0
        if not address:
            self.refused += 1
            return Association(asked.kind, asked.id, status=wire.status(
                NOTHING_LEFT[Dhcp6Option(asked.kind)], "there is nothing left for you"))
        return self._lent(asked, address, length)

    def _write(self, question: Question, asked: Association, address: int, length: int, state: State,
               expires: int) -> bool:
        try:
            self.book.write(question.client(asked), address, question.owner, state, expires,
                            lasts=self.config.lease // SECOND, **named(question.duid, asked.id, length))
        except Reject:                      # the table is full
            return False
        return True

    def _lent(self, asked: Association, address: int, length: int, gone: tuple[Lent, ...] = ()) -> Association:
        preferred = self.config.preferred_seconds
        lent = Lent(address, length, preferred, self.config.lease // SECOND)
        return Association(asked.kind, asked.id, (lent, *gone), preferred // 2, preferred * 4 // 5)

    def _choose(self, question: Question, subnet: SubnetConfig, asked: Association, client: Client,
                moment: int) -> tuple[int, int]:
        """What an association gets, and its length: what is reserved, its own, what it wishes, what nobody had, what is
        longest free.  0 if there is nothing."""
        for address, length in self.config.reserved(question.hardware, question.duid, subnet, asked.kind):
            holder = self.book.holder(address)
            if holder is None or holder == client or self.book.is_free(address, moment):
                return address, length
        pools = self._pools(subnet, asked)
        lease = self.book.of(client)
        if lease is not None and any(lease.address in pool and lease.length == pool.length for pool in pools):
            return lease.address, lease.length
        # A new association takes an address; who has the quota gets none, and the pool is for others.
        if self.config.quota and self.book.held_by(question.owner, moment) >= self.config.quota:
            return 0, 0
        for wish in asked.lent:
            for pool in pools:
                if wish.address in pool and self.book.is_free(wish.address, moment):
                    return wish.address, pool.length
        for pool in pools:
            address = self._by_digest(pool, client) or self.book.choose(pool, moment)
            if address:
                return address, pool.length
        return 0, 0

    def _pools(self, subnet: SubnetConfig, asked: Association) -> list[Pool]:
        """Where to look, those of the length that is wished for first."""
        wished = {one.length for one in asked.lent}
        return sorted(self.pools[subnet.prefix][asked.kind], key=lambda pool: pool.length not in wished)

    def _by_digest(self, pool: Pool, client: Client) -> int:
        """An address that nobody ever had; 0 if it is not found soon."""
        digest = int(client.upper) << 64 | int(client.lower)
        tries = (pool.at(digest >> 32 * number) for number in range(TRIES))
        return next((address for address in tries if address and self.book.holder(address) is None), 0)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def _renew(self, question: Question, subnet: SubnetConfig, asked: Association, moment: int) -> Association | None:
        """An association goes on, with another address if its own is not given any more; None if it is not known."""
        client = question.client(asked)
        lease = self.book.of(client)
        if lease is None or lease.state != State.BOUND:
            return None
        address, length = self._choose(question, subnet, asked, client, moment)
        if address and not self._write(question, asked, address, length, State.BOUND, moment + self.config.lease):
            address = 0
        others = {(one.address, one.length) for one in asked.lent} | {(int(lease.address), int(lease.length))}
        gone = tuple(Lent(*other) for other in sorted(others - {(address, length)}))
        if not address:
            return Association(asked.kind, asked.id, gone)
        return self._lent(asked, address, length, gone)

    @staticmethod
    def _elsewhere(subnet: SubnetConfig, asked: Association) -> Association | None:
        """What to say of an association nobody knows: that its addresses are of another link, if they are."""
        if asked.kind == Dhcp6Option.IA_NA and any(one.address not in subnet.prefix for one in asked.lent):
            return Association(asked.kind, asked.id, tuple(Lent(one.address) for one in asked.lent))
        return None

    def _confirm(self, question: Question, subnet: SubnetConfig) -> Reply | None:
        """Whether a client that moved, or slept, is still on the link of its addresses (section 18.3.3)."""
        addresses = [one.address for asked in question.associations if asked.kind == Dhcp6Option.IA_NA
                     for one in asked.lent]
        if not addresses:
            return None
        here = all(address in subnet.prefix for address in addresses)
        said = wire.status(Status.SUCCESS, "your addresses are of this link") if here else wire.status(
            Status.NOT_ON_LINK, f"hosts here have addresses in {subnet.prefix}")
        return Reply(Dhcp6Type.REPLY, [*self._ends(question), said])

    # -- taking back -------------------------------------------------------------------------------------------------

    def _give_back(self, question: Question, moment: int) -> Reply:
        """Release and decline (sections 18.3.7 and 18.3.8)."""
        unknown: list[Association] = []
        for asked in question.associations:
            client = question.client(asked)
            lease = self.book.of(client)
            if lease is None or lease.state not in (State.OFFERED, State.BOUND):
                unknown.append(Association(asked.kind, asked.id, status=wire.status(
                    Status.NO_BINDING, "nothing is known of this")))
            elif all(one.address != lease.address for one in asked.lent):
                continue
            elif question.kind == Dhcp6Type.RELEASE:
                self.book.end(client, State.FREE, moment)
            elif asked.kind == Dhcp6Option.IA_NA:
                self.book.refuse(lease.address, moment + self.config.decline)
        return Reply(Dhcp6Type.REPLY, [*self._ends(question), wire.status(Status.SUCCESS, "so it is"),
                                       *(one.option() for one in unknown)])

    # -- replies -----------------------------------------------------------------------------------------------------

    def _inform(self, question: Question, subnet: SubnetConfig) -> Reply:
        """Stateless: what there is, and how long that is true (section 18.3.6)."""
        told = list(self._wished(question, subnet))
        if subnet.refresh and Dhcp6Option.REFRESH in question.wishes:
            told.append(wire.number(Dhcp6Option.REFRESH, subnet.refresh // SECOND))
        return Reply(Dhcp6Type.REPLY, [*self._ends(question), *told])

    def _granting(self, kind: Dhcp6Type, question: Question, subnet: SubnetConfig, found: list[Association]) -> Reply:
        options = [*self._ends(question), *(one.option() for one in found)]
        if kind == Dhcp6Type.ADVERTISE and self.config.preference:
            options.append(wire.number(Dhcp6Option.PREFERENCE, self.config.preference, 1))
        return Reply(kind, [*options, *self._wished(question, subnet)],
                     [(question.client(one), lent.address) for one in found for lent in one.lent if lent.valid])

    def _ends(self, question: Question) -> Options:
        """Who speaks to whom."""
        client: Options = [(Dhcp6Option.CLIENT, question.duid)] if question.duid else []
        return [(Dhcp6Option.SERVER, self.identifier), *client]

    def _wished(self, question: Question, subnet: SubnetConfig) -> Iterator[tuple[int, bytes]]:
        """What the client asks for, in the order of its wishes."""
        known = self.told[subnet.prefix]
        return ((code, known[code]) for code in dict.fromkeys(question.wishes) if code in known)
