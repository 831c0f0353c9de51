"""Who has which address: the book of a DHCP server, kept in two tables of its function.

`clients` says what each client has, or had; `holders` names the client of an address.  The two agree after every step,
and an entry goes only when its address is given to somebody else: a client that comes back gets what it had (RFC 2131
section 4.3.1).  An address somebody else was found to use is held by nobody, `REFUSED`, until that has expired.

A client is known by its identifier, or by its hardware address if it tells none (RFC 2131 section 4.2); both become 128
bits, so that a table can have them as a key.

*No address is promised to two*, whatever happens to the machine.  Both tables are durable: what Python writes is on
disk before a client is told.  The kernel makes leases longer by itself, of which a power cut takes what came after the
last save: so a lease that stood at that time may have been given again at any moment until now, for as long as it
`lasts` and no longer, and `recovered` lets it stand for that.  One that did not stand could not be given without
Python.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, Generic, TypeVar

from iovisor.language import SECOND, Hash, Record, inline, ipv4, mac, now, period, time, u8, u32, u64

from .vacancies import Vacancies

MASK64 = (1 << 64) - 1
OFFER_STANDS = 60 * SECOND


class State(IntEnum):
    OFFERED = 1
    BOUND = 2
    FREE = 3            # released or expired, remembered
    REFUSED = 4         # declined: somebody uses it


class Client(Record):
    upper: u64
    lower: u64


class Lease(Record):
    """`lasts` are the seconds that were told last; the kernel gives no more by itself."""

    expires: time
    mac: mac
    address: ipv4
    lasts: u32 = 0
    state: u8


L = TypeVar("L", bound=Lease)


@inline
def is_repeated(lease: Lease, granted: bool, lasts: period) -> bool:
    """Whether a lease may be offered, or `granted` for so long, once more; it then begins anew, as `server` would have
    it."""
    moment = now()
    if lease.expires <= moment or lease.state > State.BOUND:
        return False
    if granted:
        if lasts > lease.lasts * SECOND:
            return False
        lease.expires = moment + lasts
        lease.state = State.BOUND
    elif lease.state == State.OFFERED:
        lease.expires = moment + OFFER_STANDS
    return True


def client_of(identifier: bytes, address: int) -> Client:
    """The key of a client that told this identifier, or none (empty) and has this hardware address."""
    text = b"\1" + identifier if identifier else b"\0" + address.to_bytes(6, "big")
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return Client(upper=int.from_bytes(digest[:8], "big"), lower=int.from_bytes(digest[8:], "big"))


def nobody(address: int) -> Client:
    """The key under which a refused address stands."""
    return Client(upper=address >> 64, lower=address & MASK64)


class Book(Generic[L]):
    """The two tables as one, of leases or of a kind that says more (`dhcp6` has one).

    Beside them it remembers, for as long as the process lives, what would take a walk through all leases to find: whose
    they are, and which addresses are free.
    """

    def __init__(self, clients: Hash[Client, L], holders: Hash[Any, Client]) -> None:
        self.clients, self.holders = clients, holders
        self._lease: type[L] = clients.spec.value
        self._owned: dict[int, set[bytes]] = {}
        self._vacancies: dict[Iterable[int], Vacancies] = {}
        for client, lease in clients.items():
            self._owned.setdefault(lease.mac, set()).add(bytes(client))

    def of(self, client: Client) -> L | None:
        """What a client has or had, as a copy."""
        found = self.clients.get(client)
        return None if found is None else self._lease.decode(bytes(found))

    def holder(self, address: int) -> Client | None:
        found = self.holders.get(address)
        return None if found is None else Client.decode(bytes(found))

    def is_free(self, address: int, moment: int) -> bool:
        """Whether an address can be given to anybody."""
        holder = self.holder(address)
        lease = None if holder is None else self.of(holder)
        return lease is None or lease.state == State.FREE or lease.expires <= moment

    def expiry(self, address: int) -> int:
        """When an address was or will be free; 0 if nobody ever had it."""
        holder = self.holder(address)
        lease = None if holder is None else self.of(holder)
        return 0 if lease is None else lease.expires

    def choose(self, pool: Iterable[int], moment: int) -> int:
        """An address of a pool, always the same object, for a new client; 0 if there is none."""
        if pool not in self._vacancies:
            self._vacancies[pool] = Vacancies(pool, self.expiry)
        return self._vacancies[pool].next(moment)

    def _changed(self, address: int, expires: int) -> None:
        for vacancies in self._vacancies.values():
            vacancies.changed(address, expires)

    def write(self, client: Client, address: int, owner: int, state: State, expires: int, **more: int) -> None:
        """Give an address to a client, whoever had it; what the client had before is forgotten.  `more` is what a
        lease says besides: how long it `lasts`, and what one of another kind knows.

        Rejects when there is no room, with nothing changed.
        """
        lease = self._lease(expires=expires, mac=owner, address=address, state=state, **more)
        former, holder = self.of(client), self.holder(address)
        if holder is not None and holder != client:
            self._remove(holder)
        self.clients[client] = lease
        self._owned.setdefault(owner, set()).add(bytes(client))
        self._changed(address, expires)
        if former is None:
            if holder is None or holder != client:
                self.holders[address] = client
            return
        if former.mac != owner:
            self._owned.get(former.mac, set()).discard(bytes(client))
        if former.address != address:
            del self.holders[former.address]
            self._changed(former.address, 0)
            self.holders[address] = client

    def _remove(self, client: Client) -> None:
        lease = self.of(client)
        del self.clients[client]
        if lease is not None:
            owned = self._owned.get(lease.mac, set())
            owned.discard(bytes(client))
            if not owned:
                self._owned.pop(lease.mac, None)

    def end(self, client: Client, state: State, moment: int) -> None:
        """A lease is no more; who had it is remembered."""
        lease = self.of(client)
        if lease is not None:
            lease.state, lease.expires = state, moment
            self.clients[client] = lease
            self._changed(lease.address, moment)

    def refuse(self, address: int, until: int) -> None:
        """Nobody gets an address for a time."""
        holder = self.holder(address)
        if holder is not None:
            self._remove(holder)
        self.clients[nobody(address)] = self._lease(expires=until, mac=0, address=address, state=State.REFUSED)
        self.holders[address] = nobody(address)
        self._changed(address, until)

    def recovered(self, since: int, moment: int) -> None:
        """The tables were saved at `since`; what the kernel did after that is lost."""
        for client, lease in list(self.clients.items()):
            until = moment + max(lease.lasts * SECOND, OFFER_STANDS)
            if lease.state <= State.BOUND and since < lease.expires < until:
                lease.expires = until
                self.clients[client] = lease

    def held_by(self, owner: int, moment: int) -> int:
        """How many addresses a hardware address has, offers included."""
        leases = (self.of(Client.decode(key)) for key in self._owned.get(owner, ()))
        return sum(lease is not None and lease.state != State.FREE and lease.expires > moment for lease in leases)

    def all(self) -> Iterator[tuple[Client, L]]:
        yield from self.clients.items()
