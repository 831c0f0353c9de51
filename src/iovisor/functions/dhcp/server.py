"""What a DHCP server answers (RFC 2131 section 4.3), without packets: a question in, a reply or nothing out.

Silence is an answer too.  A server that is not asked keeps it (another server was chosen), and so does one that knows
nothing of a client which says it has an address: somebody else may know better (section 4.3.2).  It speaks up, with a
NAK, when an address is wrong for the network the client is on, or is another's.

A hardware address in a message is a claim, and not every client that makes one has it: tools ask under names of their
own, adapters speak for what is behind them.  So what a client gets is put down to the *station* its frames come from,
which is known, and a station under a borrowed name gets neither what is another station's nor what is reserved.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iovisor.language import SECOND, Reject, ipv4_text
from iovisor.wire.dhcp import DhcpOption, DhcpType

from .leases import OFFER_STANDS, Book, Client, Lease, State, client_of

if TYPE_CHECKING:
    from . import DhcpConfig, SubnetConfig

FOREVER = 0xffff_ffff


@dataclass
class Question:
    """A message of a client."""

    kind: DhcpType
    owner: int                          # hardware address
    options: dict[int, bytes]
    client_address: int = 0
    relay: int = 0
    sender: int = 0                     # who sent the frame: the client, a relay, a router

    @property
    def identifier(self) -> bytes:
        return self.options.get(DhcpOption.CLIENT, b"")

    @property
    def client(self) -> Client:
        return client_of(self.identifier, self.owner)

    def address(self, option: DhcpOption) -> int:
        """An address among the options; 0 if there is none."""
        found = self.options.get(option, b"")
        return int.from_bytes(found, "big") if len(found) == 4 else 0


@dataclass
class Reply:
    """A message of the server."""

    kind: DhcpType
    yours: int = 0
    options: list[tuple[int, bytes]] = field(default_factory=list)


class Server:
    """The answers of one configuration, out of one book."""

    def __init__(self, config: DhcpConfig, book: Book[Lease]) -> None:
        self.config, self.book = config, book
        fixed = config.fixed()
        self.pools = {subnet.prefix: subnet.offered(fixed) for subnet in config.subnets}
        self.refused = 0                # addresses asked for when there was none

    def station(self, question: Question) -> int:
        """The hardware address frames to the client go to, as far as it is known: none is behind a relay or a router,
        where it is what the client says."""
        near = not question.relay and (not question.client_address or self.config.subnet_of(
            question.client_address) == self.config.subnet_of(self.config.server))
        return question.sender if near else question.owner

    def answer(self, question: Question, moment: int) -> Reply | None:
        """What to say, if anything; the book is brought up to date."""
        subnet = self.config.subnet_of(question.relay or question.client_address or self.config.server)
        if subnet is None or self._is_anothers(question, moment):
            return None
        match question.kind:
            case DhcpType.DISCOVER:
                return self._discover(question, subnet, moment)
            case DhcpType.REQUEST:
                return self._request(question, subnet, moment)
            case DhcpType.RELEASE if question.address(DhcpOption.SERVER) == self.config.server:
                lease = self.book.of(question.client)
                if lease is not None and lease.address == question.client_address:
                    self.book.end(question.client, State.FREE, moment)
            case DhcpType.DECLINE if question.address(DhcpOption.SERVER) == self.config.server:
                lease, wanted = self.book.of(question.client), question.address(DhcpOption.REQUESTED)
                if lease is not None and lease.address == wanted:
                    self.book.refuse(wanted, moment + self.config.decline)
            case DhcpType.INFORM if question.client_address:
                return Reply(DhcpType.ACK, 0, self._options(question, subnet, DhcpType.ACK, 0))
        return None

    def _is_anothers(self, question: Question, moment: int) -> bool:
        """Whether somebody borrows the name of a client that another station is."""
        station, lease = self.station(question), self.book.of(question.client)
        return (station != question.owner and lease is not None and lease.mac != station and lease.expires > moment
                and lease.state in (State.OFFERED, State.BOUND))

    def _reserved(self, question: Question, subnet: SubnetConfig) -> int:
        owner = question.owner if self.station(question) == question.owner else 0
        return self.config.reserved(owner, question.identifier, subnet)

    def _discover(self, question: Question, subnet: SubnetConfig, moment: int) -> Reply | None:
        address = self._choose(question, subnet, moment)
        if address == 0:
            self.refused += 1
            return None
        lease = self.book.of(question.client)
        if lease is None or lease.address != address or lease.state != State.BOUND or lease.expires <= moment:
            try:
                self.book.write(question.client, address, self.station(question), State.OFFERED, moment + OFFER_STANDS,
                                lasts=self._seconds(question))
            except Reject:
                self.refused += 1
                return None
        return self._granting(DhcpType.OFFER, question, subnet, address)

    def _choose(self, question: Question, subnet: SubnetConfig, moment: int) -> int:
        """The address for a client: reserved, its own, the one it wishes, one nobody had, the one longest free."""
        reserved = self._reserved(question, subnet)
        if reserved:
            holder = self.book.holder(reserved)
            mine = holder is None or holder == question.client
            return reserved if mine or self.book.is_free(reserved, moment) else 0
        lease = self.book.of(question.client)
        pool = self.pools[subnet.prefix]
        if lease is not None and lease.address in pool:
            return lease.address
        # A new client takes an address; who has its quota gets none, and the pool is for others.
        if self.config.quota and self.book.held_by(self.station(question), moment) >= self.config.quota:
            return 0
        wish = question.address(DhcpOption.REQUESTED)
        if wish in pool and self.book.is_free(wish, moment):
            return wish
        return self.book.choose(pool, moment)

    def _request(self, question: Question, subnet: SubnetConfig, moment: int) -> Reply | None:
        chosen, wanted = question.address(DhcpOption.SERVER), question.address(DhcpOption.REQUESTED)
        lease, client = self.book.of(question.client), question.client
        if DhcpOption.SERVER in question.options:
            if chosen != self.config.server:                            # another server was chosen
                if lease is not None and lease.state == State.OFFERED:
                    self.book.end(client, State.FREE, moment)
                return None
            wanted = wanted or question.client_address
            if lease is None or lease.address != wanted or lease.state == State.FREE:
                return self._refusal(question, f"{ipv4_text(wanted)} was not offered")
        else:                                                           # INIT-REBOOT, RENEWING, REBINDING
            wanted = question.client_address or wanted
            if wanted == 0:
                return None
            if wanted not in subnet.prefix or wanted == self.config.server:
                return self._refusal(question, f"{ipv4_text(wanted)} is of another network")
            if lease is None:
                holder = self.book.holder(wanted)
                if holder is not None and not self.book.is_free(wanted, moment):
                    return self._refusal(question, f"{ipv4_text(wanted)} is another's")
                return None
            if lease.address != wanted:
                return self._refusal(question, f"{ipv4_text(lease.address)} is yours, not {ipv4_text(wanted)}")
        reserved = self._reserved(question, subnet)
        if wanted != reserved and wanted not in self.pools[subnet.prefix]:
            return self._refusal(question, f"{ipv4_text(wanted)} is not given any more")
        seconds = self._seconds(question)
        expires = moment + seconds * SECOND
        self.book.write(client, wanted, self.station(question), State.BOUND, expires, lasts=seconds)
        return self._granting(DhcpType.ACK, question, subnet, wanted)

    # -- replies -----------------------------------------------------------------------------------------------------

    def _granting(self, kind: DhcpType, question: Question, subnet: SubnetConfig, address: int) -> Reply:
        return Reply(kind, address, self._options(question, subnet, kind, self._seconds(question)))

    def _seconds(self, question: Question) -> int:
        """How long the lease is: what the client wishes, within bounds."""
        wish = question.options.get(DhcpOption.LEASE_TIME, b"")
        most, usual = self.config.longest // SECOND, self.config.lease // SECOND
        return min(max(int.from_bytes(wish, "big"), 60), most) if len(wish) == 4 else usual

    def _refusal(self, question: Question, text: str) -> Reply:
        return Reply(DhcpType.NAK, 0, [
            (DhcpOption.TYPE, bytes([DhcpType.NAK])), (DhcpOption.SERVER, self.config.server.to_bytes(4, "big")),
            (DhcpOption.MESSAGE, text.encode()), *self._echoed(question)])

    def _options(self, question: Question, subnet: SubnetConfig, kind: DhcpType,
                 seconds: int) -> list[tuple[int, bytes]]:
        """What the protocol demands, then what the client wishes for, in the order of its wishes (RFC 2132 9.8)."""
        always: list[tuple[int, bytes]] = [(DhcpOption.TYPE, bytes([kind])),
                                           (DhcpOption.SERVER, self.config.server.to_bytes(4, "big"))]
        if seconds:
            for option, value in ((DhcpOption.LEASE_TIME, seconds), (DhcpOption.RENEWAL, seconds // 2),
                                  (DhcpOption.REBINDING, seconds * 7 // 8)):
                always.append((option, value.to_bytes(4, "big")))
        known = self.config.options(subnet, question.owner, question.identifier)
        wishes = question.options.get(DhcpOption.WISHES)
        # RFC 3442: a client that asks for classless routes ignores `routers`, and gets both all the same.
        order = known.keys() if wishes is None else [DhcpOption.SUBNET_MASK, *wishes]
        told = [(code, known[code]) for code in dict.fromkeys(order) if code in known]
        return [*always, *told, *self._echoed(question)]

    @staticmethod
    def _echoed(question: Question) -> list[tuple[int, bytes]]:
        """What goes back as it came: the client's identifier (RFC 6842), and the relay's notes last (RFC 3046 2.2)."""
        return [(code, question.options[code]) for code in (DhcpOption.CLIENT, DhcpOption.RELAY)
                if code in question.options]
