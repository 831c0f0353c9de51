"""Bindings: under which outside address and port an inside endpoint is seen, and who is behind an outside one.

A function that translates holds them as `bindings: Bindings = Bindings()`; its configuration is derived from
`BindingsConfig`.  `claim` gives an inside endpoint its binding, or finds the one it has; `behind` answers who is to get
what came for an outside endpoint; `renew` keeps a binding alive while connections use it.

*One binding an inside endpoint*, whoever it talks to (endpoint-independent mapping, RFC 4787 REQ-1, RFC 5382 REQ-1),
and one inside endpoint a binding: no port is ever given twice (REQ-3).  The table `outside` is the truth: who inserts
into it has the port, and the kernel lets one of many insert.  `used` is a bit a port, only to find a free one without
trying all; what it says wrongly costs a try, and is set right by the sweep.

*Which port*: the endpoint's own if it is free; else another of its class (below 1024, or not), if possible of the same
parity (REQ-3, REQ-4), in a word of `used` that chance picks.  *Which address*: always the same of the pool for one
inside address (REQ-2), by its hash.

*Time*: a binding is alive until its deadline, which moves with the connections that use it.  For `hold` more nobody
else gets its port (RFC 6888 REQ-8); its own endpoint may have it again, up to `MARGIN` before the end.  The control
path removes it only then: so neither takes what the other is about to use, and nobody needs a lock.

*Static bindings* are never dead.  One with port and protocol zero stands for a whole address.
"""
from __future__ import annotations

from struct import Struct
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Component,
    Hash,
    Lru,
    Prefix,
    Reasons,
    Record,
    every,
    hash,
    now,
    random,
    table,
    time,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.wire.ipv4 import IpProtocol

from .connections import text
from .outside import (
    CLASS,
    MASK64,
    POOLS,
    WORDS,
    Address,
    BindingsConfig,
    Endpoint,
    Filtering,
    Fixed,
    is_six,
)
from .reading import MAPPED, V4, is_message

WORD = 0xffff_ffff
FOREVER = 1 << 61               # the deadline of a static binding
MARGIN = 15 * SECOND            # more than a sweep takes
POOL = {int(IpProtocol.TCP): 1, int(IpProtocol.UDP): 2}
TRIES = 16
KEY = Struct("<HB")             # of an `Endpoint`, behind its address
STORED = Struct("<QQQQIHH")     # a `Binding`


class Unbound(Reasons):
    """Why there is no binding."""

    EXHAUSTED = 160             # no port of its outside address is free
    SUBSCRIBER = 161            # its inside address has as many bindings as it may
    NO_ADDRESS = 162            # there is no outside address of its family
    UNMAPPED = 163              # nobody is behind this outside endpoint
    FILTERED = 164              # who is behind it has not sent to this stranger
    NO_PORTS = 165              # its protocol has no ports, and its address no static binding
    SPOOFED = 167               # it comes from outside, and says that it is from an outside address
    CLASH = 166                 # its connection is known under another outside endpoint


class Binding(Record):
    """Who is behind an outside endpoint.  `slot` is that of its address, `lasting` counts established connections."""

    deadline: time
    since: time = 0
    upper: u64
    lower: u64
    lasting: u32 = 0
    port: u16 = 0
    slot: u16 = 0


class Shown(Record):
    """What an inside endpoint is seen as: the slot of an address, and a port."""

    slot: u16
    port: u16 = 0


class Stranger(Record):
    """An outside endpoint of ours, and an address that may send to it."""

    upper: u64
    lower: u64
    far_upper: u64
    far_lower: u64
    port: u16
    protocol: u8


class Welcome(Record):
    """Since when; older than the binding counts for nothing."""

    since: time


class Held(Record):
    count: u32


class Search(Record):
    """Where to look for a free port: words of `used`."""

    base: u32
    first: u16
    last: u16


class Extent(Record):
    """What the data path asks of the pool: the lowest and highest outside address, whether there are whole addresses,
    how many serve for dynamic bindings."""

    low4: u32 = 0
    high4: u32 = 0
    low6: u64 = 0
    high6: u64 = 0
    count4: u16 = 0
    count6: u16 = 0
    whole: u8 = 0
    families: u8 = 0            # 1 if there are IPv4 addresses, 2 if there are IPv6 ones, 3 for both


class Bindings(Component):
    config: BindingsConfig
    across: bool = False        # IPv6 endpoints are seen under IPv4 addresses
    outside: Hash[Endpoint, Binding] = table("bindings")
    inside: Hash[Endpoint, Shown] = table("bindings")
    strangers: Lru[Stranger, Welcome] = table("strangers")
    subscribers: Lru[Address, Held] = table("subscribers")
    addresses: Array[Address] = table("slots")
    slots: Hash[Address, u16] = table("slots")
    choices: Array[u16] = table("choices")
    extent: Array[Extent] = table(1)
    used: Array[u64] = table("words")
    searches: Array[Search] = table(1, per_cpu=True)
    ends: Array[Endpoint] = table(2, per_cpu=True)      # to make keys in: the first for the holder

    # -- from outside ------------------------------------------------------------------------------------------------

    def is_near(self, upper: u64, lower: u64) -> bool:
        """Whether an address may be one of ours; cheap, and mostly right."""
        extent = self.extent[0]
        if upper == 0 and lower >> 32 == 0xffff:
            return extent.low4 <= lower & WORD <= extent.high4
        return extent.low6 <= upper <= extent.high6

    def is_ours(self, upper: u64, lower: u64) -> bool:
        """Whether it is."""
        return Address(upper=upper, lower=lower) in self.slots

    def behind(self, outer: Endpoint) -> Binding | None:
        """The living binding of an outside endpoint."""
        found = self.outside.get(outer)
        if found is None and self.extent[0].whole != 0:
            found = self.outside.get(Endpoint(upper=outer.upper, lower=outer.lower))
        if found is None or found.deadline < now():
            return None
        return found

    def admits(self, outer: Endpoint, since: time, far_upper: u64, far_lower: u64) -> bool:
        """Whether a stranger may send to a dynamic binding that began at `since`."""
        if self.config.filtering == Filtering.ENDPOINT_INDEPENDENT:
            return True
        if self.config.filtering == Filtering.PORT_DEPENDENT:
            return False
        found = self.strangers.get(Stranger(upper=outer.upper, lower=outer.lower, port=outer.port,
                                            protocol=outer.protocol, far_upper=far_upper, far_lower=far_lower))
        if found is None:
            return False
        return found.since >= since

    # -- from inside -------------------------------------------------------------------------------------------------

    def claim(self, inner: Endpoint, life: int) -> int:
        """The slot, in the upper half, and the port an inside endpoint is seen under, for `life` at least; below 65536
        a reason why not."""
        moment = now()
        shown = self.inside.get(inner)
        outer = self.ends[1]
        outer.protocol = inner.protocol
        if shown is not None:
            slot, port = shown.slot, shown.port
            address = self.addresses[slot]
            outer.upper, outer.lower, outer.port = address.upper, address.lower, port
            mine = self.outside.get(outer)
            if mine is not None:
                if mine.upper == inner.upper and mine.lower == inner.lower and mine.port == inner.port \
                        and moment <= mine.deadline + max(self.config.hold - MARGIN, 0):
                    if mine.deadline < moment:
                        mine.since = moment
                    if mine.deadline < moment + life:
                        mine.deadline = moment + life
                    return slot << 16 | port
        extent = self.extent[0]
        if extent.whole != 0:
            whole = self.inside.get(Endpoint(upper=inner.upper, lower=inner.lower))
            if whole is not None:
                return whole.slot << 16 | inner.port
        return self.take(inner, outer, moment, life)

    def take(self, inner: Endpoint, outer: Endpoint, moment: int, life: int) -> int:
        """A new binding."""
        extent = self.extent[0]
        six = inner.upper != 0 or inner.lower >> 32 != 0xffff
        second = six and not self.across        # family of addresses
        count = extent.count6 if second else extent.count4
        if count == 0:
            return Unbound.NO_ADDRESS
        if inner.protocol != IpProtocol.TCP and inner.protocol != IpProtocol.UDP and not is_message(inner.protocol):
            return Unbound.NO_PORTS
        own = self.slots.get(Address(upper=inner.upper, lower=inner.lower))
        slot = self.choices[(self.config.most_addresses if second else 0) + hash(inner.upper, inner.lower) % count]
        if own is not None:
            slot = own
        subscriber = Address(upper=inner.upper, lower=0 if six else inner.lower)
        if self.config.per_subscriber != 0:
            held = self.subscribers.get(subscriber)
            if held is None:
                self.subscribers.put(subscriber, Held(count=1))
            elif held.count >= self.config.per_subscriber:
                return Unbound.SUBSCRIBER
            else:
                held.count += 1
        address = self.addresses[slot]
        outer.upper, outer.lower, outer.port = address.upper, address.lower, inner.port
        fresh = Binding(deadline=moment + life, since=moment, upper=inner.upper, lower=inner.lower, port=inner.port,
                        slot=slot)
        # Through memory, where the kernel's verifier forgets which way it came: or it would follow each apart.
        search = self.searches[0]
        search.base, search.first, search.last = slot * POOLS * WORDS, self.config.first_port >> 6, \
            self.config.last_port >> 6
        if inner.protocol == IpProtocol.TCP or inner.protocol == IpProtocol.UDP:
            search.base = (slot * POOLS + (1 if inner.protocol == IpProtocol.TCP else 2)) * WORDS
            if inner.port < CLASS:
                search.first, search.last = 1, 15
        taken = self.outside.insert(outer, fresh)
        search = self.searches[0]
        base, first, last = search.base, search.first, search.last
        for _ in range(TRIES):
            if taken:
                break
            span = max(last - first + 1, 1)
            start = random()
            index, bits = 0, 0
            for turn in range(WORDS):
                if turn >= span:
                    break
                index = first + (start + turn) % span
                free = ~(self.used[base + index] or 0) & MASK64
                if free != 0:
                    bits = free
                    break
            if bits == 0:
                break
            like = bits & 0x5555_5555_5555_5555 << (inner.port & 1)
            bits = like if like != 0 else bits
            place = 0
            for bit in range(64):
                if bits >> bit & 1:
                    place = bit
                    break
            outer.port = index << 6 | place
            taken = self.outside.insert(outer, fresh)
            self.mark(base, outer.port)
        if not taken:
            return Unbound.EXHAUSTED
        self.mark(base, outer.port)
        mine = Shown(slot=slot, port=outer.port)
        if not self.inside.put(inner, mine) if inner in self.inside else not self.inside.insert(inner, mine):
            del self.outside[outer]         # no room; or another CPU was faster, and its packet has the binding
            other = self.inside.get(inner)
            if other is None:
                return Unbound.EXHAUSTED
            return other.slot << 16 | other.port
        return slot << 16 | outer.port

    def mark(self, base: int, port: u16) -> None:
        place = base + (port >> 6)
        self.used[place] = (self.used[place] or 0) | 1 << (port & 63)

    def welcome(self, outer: Endpoint, far_upper: u64, far_lower: u64) -> None:
        """Let an address, which is being sent to, send."""
        if self.config.filtering == Filtering.ADDRESS_DEPENDENT:
            self.strangers.put(Stranger(upper=outer.upper, lower=outer.lower, port=outer.port, protocol=outer.protocol,
                                        far_upper=far_upper, far_lower=far_lower), Welcome(since=now()))

    # -- while it is used --------------------------------------------------------------------------------------------

    def renew(self, slot: u16, port: u16, protocol: u8, until: time, lasting: int, ended: bool, spared: u8) -> None:
        """Keep a binding alive until then; `lasting` is one more or one less established connection.  If a connection
        `ended`, and no more than `spared` are left, it lives until then and no longer."""
        address = self.addresses[slot]
        found = self.outside.get(Endpoint(upper=address.upper, lower=address.lower, port=port, protocol=protocol))
        if found is None:
            return
        if found.deadline == FOREVER:
            return
        if lasting == 1:
            found.lasting += 1
        elif lasting == -1:
            found.lasting += -1
        if found.deadline < until or (ended and found.lasting <= spared):
            found.deadline = until

    # -- control path ------------------------------------------------------------------------------------------------

    def withdraw(self, old: BindingsConfig | None, new: BindingsConfig) -> None:
        """Remove what the new configuration does not have: static bindings, and addresses with all of theirs."""
        if old is None:
            return
        after = new.entries()
        pool = {bytes(address) for address in new.pool()}
        kept = pool | {bytes(entry.outside) for entry in after}
        gone = {slot: address for address, slot in self.slots.items() if bytes(address) not in kept}
        retired = {slot for address, slot in self.slots.items() if bytes(address) not in pool}
        left = [address for address in new.pool() if address in self.slots]
        self.choose(left, [entry for entry in old.entries() if self.slots[entry.outside] not in gone])
        for entry in set(old.entries()) - set(after):
            seen = self.inside.get(entry.inner)
            if seen is not None and (seen.slot, seen.port) == (self.slots[entry.outside], entry.outer.port):
                del self.inside[entry.inner]
            del self.outside[entry.outer]
        for inner, shown in list(self.inside.items()):
            if shown.slot in retired and not self.is_static(inner, shown):
                del self.inside[inner]
        for outer, binding in list(self.outside.items()):
            if binding.slot in gone or (binding.slot in retired and binding.deadline != FOREVER):
                del self.outside[outer]
        for address in gone.values():
            del self.slots[address]

    def assign(self, new: BindingsConfig) -> None:
        """Make what it has."""
        pool, after = new.pool(), new.entries()
        taken = {slot for _, slot in self.slots.items()}
        for address in [*pool, *(entry.outside for entry in after)]:
            if address in self.slots:
                continue
            slot = next(slot for slot in range(1, int(self.addresses.spec.size)) if slot not in taken)
            taken.add(slot)
            self.addresses[slot] = address
            self.slots[address] = slot
        for entry in after:
            slot = self.slots[entry.outside]
            binding = Binding(deadline=FOREVER, upper=entry.inner.upper, lower=entry.inner.lower, port=entry.inner.port,
                              slot=slot)
            if bytes(self.outside.get(entry.outer) or b"") != bytes(binding):
                self.outside[entry.outer] = binding
            shown = self.inside.get(entry.inner)
            if shown is None or not self.is_static(entry.inner, shown):
                self.inside[entry.inner] = Shown(slot=slot, port=entry.outer.port)
        self.choose(pool, after)
        self.recount()

    def is_static(self, inner: Endpoint, shown: Shown) -> bool:
        """Whether an inside endpoint is seen as a static binding says: the first of several, of its own packets."""
        address = self.addresses[shown.slot]
        found = self.outside.get(Endpoint(upper=address.upper, lower=address.lower, port=shown.port,
                                          protocol=inner.protocol))
        return found is not None and found.deadline == FOREVER and found.port == inner.port and (
            found.upper, found.lower) == (inner.upper, inner.lower)

    def choose(self, pool: list[Address], static: list[Fixed]) -> None:
        """Tell the data path which addresses there are."""
        most = self.config.most_addresses
        families = [[a for a in pool if not is_six(a)], [a for a in pool if is_six(a)]]
        for place, family in enumerate(families):
            for number, address in enumerate(family):
                self.choices[place * most + number] = self.slots[address]
        ours = [*pool, *(entry.outside for entry in static)]
        four, six = [a.lower & WORD for a in ours if not is_six(a)], [a.upper for a in ours if is_six(a)]
        self.extent[0] = Extent(
            low4=min(four, default=WORD), high4=max(four, default=0), low6=min(six, default=MASK64),
            high6=max(six, default=0), count4=len(families[0]), count6=len(families[1]),
            whole=any(entry.outer.protocol == 0 for entry in static), families=bool(four) | bool(six) << 1)

    def stands(self, upper: int, lower: int, slot: int, port: int, protocol: int) -> bool:
        """Whether an address, of a connection, is still behind what it is seen as."""
        address = self.addresses[slot]
        for outer in (Endpoint(upper=address.upper, lower=address.lower, port=port, protocol=protocol),
                      Endpoint(upper=address.upper, lower=address.lower)):
            found = self.outside.get(outer)
            if found is not None:
                return (found.upper, found.lower, found.slot) == (upper, lower, slot) and found.deadline >= now()
        return False

    def flush(self, within: Prefix | None) -> int:
        """End dynamic bindings; their ports are held as after any end."""
        count, moment = 0, now()
        for outer, binding in list(self.outside.items()):
            if binding.deadline != FOREVER and binding.deadline >= moment and (
                    within is None or contains(within, binding.upper, binding.lower)):
                del self.inside[Endpoint(upper=binding.upper, lower=binding.lower, port=binding.port,
                                         protocol=outer.protocol)]
                binding.deadline = moment - 1
                self.outside[outer] = binding
                count += 1
        return count

    def settle_counts(self, counts: dict[tuple[int, int, int], int]) -> None:
        """How many established connections there are, by slot, port and protocol."""
        for key, value in list(self.outside.home.items()):
            port, protocol = KEY.unpack_from(key, 16)
            deadline, _, _, _, lasting, _, slot = STORED.unpack_from(value)
            wanted = counts.get((slot, port, protocol), 0)
            if lasting != wanted and deadline != FOREVER:
                binding = Binding.decode(value)
                binding.lasting = wanted
                self.outside[Endpoint.decode(key)] = binding

    @every(10)
    def sweep(self) -> None:
        """Remove what nobody may have again, and count anew."""
        ended = now() - self.config.hold
        for key, value in list(self.outside.home.items()):
            if STORED.unpack_from(value)[0] < ended:
                outer, binding = Endpoint.decode(key), Binding.decode(value)
                inner = Endpoint(upper=binding.upper, lower=binding.lower, port=binding.port, protocol=outer.protocol)
                shown = self.inside.get(inner)
                if shown is not None and (shown.slot, shown.port) == (binding.slot, outer.port):
                    del self.inside[inner]
                del self.outside[outer]
        self.recount()

    def recount(self) -> None:
        """What is taken, and by whom, as the bindings have it.  Of bytes, not of records: there may be many."""
        moment = now()
        taken: dict[int, int] = {}
        counts: dict[bytes, int] = {}
        for key, value in self.outside.home.items():
            port, protocol = KEY.unpack_from(key, 16)
            deadline, _, upper, lower, _, _, slot = STORED.unpack_from(value)
            if protocol:
                place = (slot * POOLS + POOL.get(protocol, 0)) * WORDS + (port >> 6)
                taken[place] = taken.get(place, 0) | 1 << (port & 63)
            if moment <= deadline < FOREVER and self.config.per_subscriber:
                six = upper != 0 or lower >> 32 != 0xffff
                who = bytes(Address(upper=upper, lower=0 if six else lower))
                counts[who] = counts.get(who, 0) + 1
        first, last = self.config.first_port, self.config.last_port
        for _, slot in self.slots.items():
            for pool in range(POOLS):
                base = (slot * POOLS + pool) * WORDS
                below = (1 << (first & 63)) - 1
                above = MASK64 & ~((2 << (last & 63)) - 1)
                for place, bits in ((base + (first >> 6), below), (base + (last >> 6), above)):
                    taken[place] = taken.get(place, 0) | bits
        self.used.update({place: taken.get(place, 0) for place in range(int(self.used.spec.size))})
        for subscriber, held in list(self.subscribers.items()):
            if held.count != counts.get(bytes(subscriber), 0):
                self.subscribers[subscriber] = Held(count=counts.get(bytes(subscriber), 0))

    def show(self) -> list[dict[str, Any]]:
        """The living bindings."""
        moment, rows = now(), []
        for outer, binding in self.outside.items():
            if binding.deadline < moment:
                continue
            name = IpProtocol(outer.protocol).name.lower() if outer.protocol else "all"
            fixed = binding.deadline == FOREVER
            rows.append({"protocol": name, "inside": text(binding.upper, binding.lower), "inside_port": binding.port,
                         "outside": text(outer.upper, outer.lower), "outside_port": outer.port, "static": fixed,
                         "seconds": None if fixed else (binding.deadline - moment) // SECOND})
        return rows


def contains(within: Prefix, upper: int, lower: int) -> bool:
    """Whether an address in words lies in a prefix of either family."""
    bound = within if within.bits == 128 else Prefix(MAPPED | within.address, V4 + within.length, 128)
    return upper << 64 | lower in bound
