"""Keeps floods from what is inside: blocked prefixes by the million, rates per source, and proof before a handshake.

In this order, what comes from outside is dropped if its source is blocked; passes if it is allowed; is dropped if its
source sends too much; and a SYN must prove that its source is there.  What comes from inside passes.

## Ports

```text
                ┌────────┐
   inside    ───┤  ddos  ├───   outside
  (protected)   └────────┘    (the world)
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `blocked` | list | none | prefixes whose packets are dropped |
| `allowed` | list | none | prefixes that are neither blocked, limited nor challenged; at most 1024 |
| `most_blocked` | number | 65,536 | room for IPv6 prefixes, and for IPv4 /24s with single addresses in them |
| `rate` | number | 0 | packets a second from one source; 0: no limit |
| `burst` | number | 0 | packets it may send at once; 0: a quarter of `rate` |
| `openings`, `openings_burst` | number | 0 | the same for TCP connections it opens |
| `challenge` | never, above, always | above | whether a source must prove itself before it opens a TCP connection |
| `above` | number | 1000 | SYNs a second, of all sources, from which on challenges begin |
| `trust` | time | 10m | how long a proof counts |
| `sources` | number | 65,536 | sources that are remembered, for rates and for proofs |

```python
from iovisor.functions.ddos import Ddos

door = Ddos(blocked=["198.51.100.0/24", "2001:db8:bad::/48"], rate=20_000, openings=50, openings_burst=200)
```

A source is an IPv4 address or an IPv6 /64.

*Challenge.*  A SYN whose source has no proof is answered at once, in its server's name and without a memory of it: by
a SYN and ACK that acknowledges not the SYN but a cookie, SipHash of the addresses, ports and time under a secret.  A
host that is there answers with a reset that carries the cookie (RFC 9293 section 3.10.7.3), which is taken as proof,
and sends its SYN again: Linux within some 10 ms, others after a second.  A source that is forged never sees the
cookie.  So a flood of SYNs leaves nothing in any table, established connections are not looked at, and whoever has
been here is let in at once.  Answers are no longer than the SYN, so nobody is flooded through us any harder than
directly.

## Tables

| table | key | value |
|---|---|---|
| `spans` | /24s by 64 | which are blocked, and which have blocked addresses in them: a bit each |
| `singles` | /24 | which of its addresses are blocked |
| `blocked6`, `allowances` | prefix | 1 |
| `some` | 0, 1, 2 | whether there are blocked IPv6 prefixes, allowed ones, and bits in `spans` |
| `meters` | source | when its two buckets are full again; the least used goes |
| `trusted` | source | 1, for as long as `trust` says; the least used goes |
| `prices` | 0 | what a packet and an opening cost their source |
| `secret` | 0, 1 | the key of the cookies |
| `window` | 0 | SYNs in this second and in the one before |

## Counters

`counts`: SYNs that were answered (0), proofs (1), SYNs that passed (2).  `show` lists them.

## Drop reasons

| reason | the packet |
|---|---|
| `BLOCKED` | is from a blocked prefix |
| `RATE` | is one too many of its source |
| `OPENINGS` | opens one connection too many |
| `PROOF` | is the reset that answers a challenge: it has done its work |

## Actions

`block` replaces the blocked prefixes by those in a text, however many, one a word (a changed `blocked` replaces them
again); `show` says what was counted; `distrust` forgets all proofs; `reset` sets the
counters to zero.

## Limits

A client behind a filter that drops an answer to nothing it sent waits for ever: allow its prefix.  A SYN with a second
VLAN tag is not challenged.  What has an address that can be forged past the challenge (answers, UDP) is limited by rate
alone, and a flood of many sources pushes meters out, which begin full again.  Attached with
`hook: xdp` at the outside, it drops before the kernel makes anything of a packet (see docs/edges.md); an aggregate of
TCP segments counts as one packet there.
"""
# Why it is written so.
#
# A list of a million prefixes is two bits for each /24, 4 MiB whatever is in it: one word of memory says yes, no, or
# perhaps, and only for perhaps is a hash asked.  The kernel's trie has a miss of the cache for each of its levels.
#
# Measured (live frames at XDP, a million prefixes, one source): a /24 is dropped at 0.93 of the rate of a program
# that does nothing else, a single address at 0.61.
#
# SYN cookies as hosts do them would make this function part of every connection for its whole life, because sequence
# numbers must be translated.  A cookie where the acknowledgment belongs costs one answer and one word of memory a
# source.
from __future__ import annotations

import secrets
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Lpm,
    Lru,
    Packet,
    Port,
    Prefix,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    forward,
    instant,
    ipv6,
    now,
    period,
    prefix,
    require,
    table,
    time,
    u8,
    u24,
    u32,
    u64,
    u128,
)
from iovisor.parts.flow import behind6, mapped
from iovisor.parts.reading import MAPPED, V4, IPv6Halves
from iovisor.parts.siphash import siphash
from iovisor.wire import checksum
from iovisor.wire.answer import exchange
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv4 import fill as fill4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.ipv6 import fill as fill6
from iovisor.wire.tcp import Tcp, TcpFlag, flags_of
from iovisor.wire.vlan import Vlan

TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN)
WORDS = 1 << 18                             # of 64 /24s
ALLOWANCES = 1_024
SLOT = 32 * SECOND                          # a cookie is good for this long, and as long again
WORD, CIRCLE = 0xffff_ffff, (1 << 62) - 1
ANSWERED, PROVED, PASSED = range(3)         # in `counts`
SIX, ALLOWED, USED = range(3)               # in `some`
FEW = 4_096


class Reason(Reasons):
    BLOCKED = auto()
    RATE = auto()
    OPENINGS = auto()
    PROOF = auto()


class Challenge(IntEnum):
    NEVER = 0
    ABOVE = 1
    ALWAYS = 2


# -- tables ----------------------------------------------------------------------------------------------------------

class Span(Record):
    """64 /24s: those that are blocked, and those that have blocked addresses in them."""

    whole: u64 = 0
    partly: u64 = 0


class Singles(Record):
    """The 256 addresses of a /24."""

    w0: u64 = 0
    w1: u64 = 0
    w2: u64 = 0
    w3: u64 = 0


class Source(Record):
    upper: u64
    lower: u64


class Meter(Record):
    """When the buckets are full again, in nanoseconds."""

    packets: u64 = 0
    openings: u64 = 0


class Price(Record):
    """What one costs its source, and how much it may owe, in nanoseconds."""

    packet: period = 0
    packets: period = 0
    opening: period = 0
    openings: period = 0


class Proof(Record):
    """That a source is there."""

    given: u8 = 1


class Window(Record):
    began: time = 0
    count: u64 = 0
    before: u64 = 0


# -- configuration ---------------------------------------------------------------------------------------------------

class DdosConfig(Config):
    """What is kept out."""

    blocked: list[Prefix] = []
    allowed: list[Prefix] = []
    most_blocked: u32 = 65_536
    rate: u32 = 0
    burst: u32 = 0
    openings: u32 = 0
    openings_burst: u32 = 0
    challenge: Challenge = Challenge.ABOVE
    above: u32 = 1_000
    trust: time = 10 * 60 * SECOND
    sources: u32 = 65_536

    def validate(self) -> None:
        if len(self.allowed) > ALLOWANCES:
            raise ConfigError("allowed", f"{len(self.allowed)} prefixes; {ALLOWANCES} is the most")
        for name in ("most_blocked", "sources"):
            if not getattr(self, name):
                raise ConfigError(name, "one is the least")
        if not self.trust:
            raise ConfigError("trust", "a proof must count for some time")

    def price(self) -> Price:
        """As the data path computes with it."""
        found = []
        for rate, burst in ((self.rate, self.burst), (self.openings, self.openings_burst)):
            found += [SECOND // rate, SECOND * (burst or max(rate // 4, 1)) // rate] if rate else [0, 0]
        return Price(packet=found[0], packets=found[1], opening=found[2], openings=found[3])


def halves_of(wanted: Iterable[Prefix]) -> tuple[dict[int, Span], dict[int, Singles], dict[Prefix, int]]:
    """The bits of IPv4 prefixes, and the prefixes of IPv6."""
    whole, partly, singles, six = dict[int, int](), dict[int, int](), dict[int, int](), dict[Prefix, int]()
    for found in wanted:
        if found.bits == 128:
            six[found] = 1
        elif found.length > 24:
            number, low = found.address >> 8, found.address & 0xff
            singles[number] = singles.get(number, 0) | (1 << (1 << 32 - found.length)) - 1 << low
            partly[number >> 6] = partly.get(number >> 6, 0) | 1 << (number & 63)
        elif found.length > 18:
            number = found.address >> 8
            whole[number >> 6] = whole.get(number >> 6, 0) | (1 << (1 << 24 - found.length)) - 1 << (number & 63)
        else:
            for word in range(found.address >> 14, (found.address >> 14) + (1 << 18 - found.length)):
                whole[word] = (1 << 64) - 1
    spans = {word: Span(whole=whole.get(word, 0), partly=partly.get(word, 0)) for word in whole.keys() | partly.keys()}
    return spans, {number: Singles.decode(bits.to_bytes(32, "little")) for number, bits in singles.items()}, six


def parsed(word: str) -> Prefix:
    """A prefix; the common form is read without much ado, because there may be a million."""
    address, _, length = word.partition("/")
    parts = address.split(".")
    if len(parts) == 4 and all(part.isdigit() and len(part) < 4 and int(part) < 256 for part in parts):
        bits = int(length or 32) if not length or length.isdigit() else 99
        value = int(parts[0]) << 24 | int(parts[1]) << 16 | int(parts[2]) << 8 | int(parts[3])
        return Prefix(value, bits)
    return prefix(word)


# -- the function ----------------------------------------------------------------------------------------------------

class Ddos(Function):
    config: DdosConfig
    inside: Port
    outside: Port

    spans: Array[Span] = table(WORDS)
    singles: Hash[u24, Singles] = table("most_blocked")
    blocked6: Lpm[ipv6, u8] = table("most_blocked")
    allowances: Lpm[ipv6, u8] = table(ALLOWANCES)
    some: Array[u32] = table(3)
    meters: Lru[Source, Meter] = table("sources")
    trusted: Lru[Source, Proof] = table("sources", ttl="trust")
    secret: Array[u64] = table(2)
    prices: Array[Price] = table(1)
    window: Array[Window] = table(1)
    counts: Counter = table(3)

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.port == self.inside:
            return forward(self.outside)
        eth = pkt.parse(Ethernet)
        kind = eth.type
        if kind == EtherType.IPV4:
            ip4 = pkt.parse(IPv4)
            if self.some[ALLOWED] and self.is_allowed(0, mapped(ip4.src)):
                return forward(self.inside)
            require(not self.is_blocked(ip4.src), Reason.BLOCKED)
            self.pay_packet(pkt, 0, mapped(ip4.src))
            if ip4.proto == IpProtocol.TCP and ip4.offset == 0 and self.config.challenge != Challenge.NEVER:
                pkt.skip(max(ip4.ihl * 4, 20) - 20)
                tcp = pkt.peek(Tcp)
                if tcp is not None and self.must_answer(pkt, tcp, 0, mapped(ip4.src), 0, mapped(ip4.dst)):
                    return self.answer4(pkt, ip4, tcp)
            elif ip4.proto == IpProtocol.TCP and ip4.offset == 0 and self.config.openings:
                pkt.skip(max(ip4.ihl * 4, 20) - 20)
                tcp = pkt.peek(Tcp)
                if tcp is not None and flags_of(tcp) == TcpFlag.SYN:
                    self.pay_opening(0, mapped(ip4.src))
        elif kind == EtherType.IPV6:
            ip6 = pkt.peek(IPv6Halves)
            if ip6 is not None:
                upper, lower = ip6.source_upper, ip6.source_lower
                if self.some[ALLOWED] and self.is_allowed(upper, lower):
                    return forward(self.inside)
                if self.some[SIX]:
                    require(not self.is_blocked6(upper, lower), Reason.BLOCKED)
                self.pay_packet(pkt, upper, 0)
                protocol, offset, _ = behind6(pkt, ip6)
                if protocol == IpProtocol.TCP and offset == 0:
                    tcp = pkt.peek(Tcp)
                    if tcp is not None:
                        if self.config.challenge != Challenge.NEVER:
                            if self.must_answer(pkt, tcp, upper, 0, ip6.destination_upper, ip6.destination_lower):
                                return self.answer6(pkt, tcp, upper, lower, ip6.destination_upper,
                                                    ip6.destination_lower)
                        elif self.config.openings and flags_of(tcp) == TcpFlag.SYN:
                            self.pay_opening(upper, 0)
        elif kind in TAGS:
            self.check_inner(pkt)
        return forward(self.inside)

    def check_inner(self, pkt: Packet) -> None:
        """A frame with a second tag: blocked and limited like any other."""
        kind = pkt.parse(Vlan).type
        if kind == EtherType.IPV4:
            address = pkt.parse(IPv4).src
            require(not self.is_blocked(address), Reason.BLOCKED)
            self.pay_packet(pkt, 0, mapped(address))
        elif kind == EtherType.IPV6:
            ip6 = pkt.parse(IPv6Halves)
            upper = ip6.source_upper
            require(not self.is_blocked6(upper, ip6.source_lower), Reason.BLOCKED)
            self.pay_packet(pkt, upper, 0)

    def is_blocked(self, address: u32) -> bool:
        number = address >> 8
        span = self.spans[number >> 6]
        if span.whole >> (number & 63) & 1:
            return True
        if span.partly >> (number & 63) & 1:
            singles = self.singles.get(number)
            if singles is not None:
                low = address & 0xff
                word = singles.w0
                if low >= 192:
                    word = singles.w3
                elif low >= 128:
                    word = singles.w2
                elif low >= 64:
                    word = singles.w1
                return word >> (low & 63) & 1 == 1
        return False

    def is_blocked6(self, upper: u64, lower: u64) -> bool:
        address: u128 = upper
        return (address << 64 | lower) in self.blocked6

    def is_allowed(self, upper: u64, lower: u64) -> bool:
        address: u128 = upper
        return (address << 64 | lower) in self.allowances

    def pay_packet(self, pkt: Packet, upper: u64, lower: u64) -> None:
        """Charge a source for a packet, each segment of an aggregate; too many reject."""
        if self.config.rate == 0:
            return
        segment = pkt.segment
        count = 1 if segment == 0 else (len(pkt) + segment - 1) // segment
        source = Source(upper=upper, lower=lower)
        meter = self.meters.get(source)
        moment = instant()
        price = self.prices[0]
        cost = (price.packet & WORD) * (count & 0xffff)
        if meter is None:
            self.meters.put(source, Meter(packets=moment + cost))
            return
        owed = max((meter.packets & CIRCLE) - moment, 0)
        require(owed + cost <= price.packets, Reason.RATE)
        if owed == 0:
            meter.packets = moment + cost
        else:
            meter.packets += cost

    def pay_opening(self, upper: u64, lower: u64) -> None:
        """Charge a source for a connection that it opens."""
        if self.config.openings == 0:
            return
        source = Source(upper=upper, lower=lower)
        meter = self.meters.get(source)
        moment = instant()
        price = self.prices[0]
        if meter is None:
            self.meters.put(source, Meter(openings=moment + price.opening))
            return
        owed = max((meter.openings & CIRCLE) - moment, 0)
        require(owed + price.opening <= price.openings, Reason.OPENINGS)
        if owed == 0:
            meter.openings = moment + price.opening
        else:
            meter.openings += price.opening

    # -- the challenge -----------------------------------------------------------------------------------------------

    def must_answer(self, pkt: Packet, tcp: Tcp, upper: u64, lower: u64, here_upper: u64, here_lower: u64) -> bool:
        """Whether a segment is a SYN that is to be answered; a proof is taken, and rejects."""
        flags = flags_of(tcp)
        if flags == TcpFlag.SYN:
            source = Source(upper=upper, lower=lower)
            if self.is_flooded() and source not in self.trusted:
                self.counts.add(ANSWERED, bytes=len(pkt))
                return True
            self.pay_opening(upper, lower)
            self.counts.add(PASSED, bytes=len(pkt))
        elif flags == TcpFlag.RST:
            slot = now() // SLOT
            for age in range(2):
                if tcp.sequence == self.cookie(upper ^ lower, here_upper ^ here_lower, tcp.src, tcp.dst, slot - age):
                    self.trusted.put(Source(upper=upper, lower=lower), Proof())
                    self.counts.add(PROVED, bytes=len(pkt))
                    require(False, Reason.PROOF)
        return False

    def is_flooded(self) -> bool:
        """Whether there are more SYNs than usual, in this second or in the one before; counts one."""
        if self.config.challenge == Challenge.ALWAYS:
            return True
        window = self.window[0]
        moment = now()
        if moment - window.began >= SECOND:
            window.before = window.count if moment - window.began < 2 * SECOND else 0
            window.began = moment
            window.count = 0
        window.count += 1
        return window.count > self.config.above or window.before > self.config.above

    def cookie(self, there: u64, here: u64, src: int, dst: int, slot: int) -> int:
        """What only those know who were told; of one source, one destination and one time."""
        return siphash(self.secret[0], self.secret[1], there, here,
                       (src & 0xffff) << 48 | (dst & 0xffff) << 32 | slot & WORD) & WORD

    def answer4(self, pkt: Packet, ip: IPv4, tcp: Tcp) -> Verdict:
        src, dst, there, here, sequence = ip.src, ip.dst, tcp.src, tcp.dst, tcp.sequence
        cookie = self.apart(self.cookie(mapped(src), mapped(dst), there, here, now() // SLOT), sequence)
        pkt.resize(54)
        exchange(pkt)
        answer, header = pkt.blank(IPv4, Tcp)
        fill4(answer, dst, src, IpProtocol.TCP, 20, 64, 0, 0, 1)
        checksum.ipv4_header(answer)
        self.fill(header, here, there, cookie)
        header.checksum = checksum.finish(checksum.pseudo_ipv4(dst, src, IpProtocol.TCP, 20) + checksum.of_tcp(header))
        return forward(self.outside)

    def answer6(self, pkt: Packet, tcp: Tcp, upper: u64, lower: u64, here_upper: u64, here_lower: u64) -> Verdict:
        there, here, sequence = tcp.src, tcp.dst, tcp.sequence
        cookie = self.apart(self.cookie(upper, here_upper ^ here_lower, there, here, now() // SLOT), sequence)
        src: u128 = upper
        src = src << 64 | lower
        dst: u128 = here_upper
        dst = dst << 64 | here_lower
        pkt.resize(74)
        exchange(pkt)
        answer, header = pkt.blank(IPv6, Tcp)
        fill6(answer, dst, src, IpProtocol.TCP, 20)
        self.fill(header, here, there, cookie)
        header.checksum = checksum.finish(checksum.pseudo_ipv6(dst, src, IpProtocol.TCP, 20) + checksum.of_tcp(header))
        return forward(self.outside)

    def apart(self, cookie: u32, sequence: u32) -> int:
        """A cookie that happens to acknowledge the SYN would open the connection here."""
        return cookie ^ 0x8000_0000 if cookie == sequence + 1 & WORD else cookie

    def fill(self, header: Tcp, src: int, dst: int, cookie: u32) -> None:
        header.src = src
        header.dst = dst
        header.acknowledgment = cookie
        header.offset = 5
        header.flags = TcpFlag.SYN | TcpFlag.ACK

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: DdosConfig | None, new: DdosConfig) -> None:
        if self.secret[0] == self.secret[1] == 0:
            for place in range(2):
                self.secret[place] = secrets.randbits(64)
        self.prices[0] = new.price()
        if old is None or old.blocked != new.blocked:
            self.block_all("blocked", new.blocked)
        if old is None or old.allowed != new.allowed:
            wanted = {Prefix(MAPPED | found.address, V4 + found.length, 128) if found.bits == 32 else found: 1
                      for found in new.allowed}
            for gone in set(self.allowances) - wanted.keys():
                del self.allowances[gone]
            self.allowances.update(wanted)
            self.some[ALLOWED] = 1 if wanted else 0

    def block_all(self, path: str, wanted: Iterable[Prefix]) -> None:
        """Block these and no others; what is blocked before and after is so all the while."""
        spans, singles, six = halves_of(wanted)
        most = int(self.singles.spec.size)
        for count, what in ((len(singles), "/24s with single addresses"), (len(six), "IPv6 prefixes")):
            if count > most:
                raise ConfigError(path, f"{count} {what}; there is room for {most} (most_blocked)")
        there = {int.from_bytes(key, "little") for key, raw in self.spans.home.items() if any(raw)} \
            if self.some[USED] else set()           # as bytes: there are 262,144
        for gone in [number for number in self.singles if number not in singles]:
            del self.singles[gone]
        self.singles.update(singles)
        if six:
            self.some[SIX] = 1
        for found in [found for found in self.blocked6 if found not in six]:
            del self.blocked6[found]
        self.blocked6.update(six)
        if not six:
            self.some[SIX] = 0
        spans |= {word: Span() for word in there - spans.keys()}
        if len(spans) > FEW:
            self.spans.update(spans)
        else:                                       # without reading all that is there
            for word, span in spans.items():
                self.spans[word] = span
        self.some[USED] = len(spans)

    @action
    def block(self, prefixes: str) -> int:
        """Block the prefixes in a text instead of those that are blocked; answers how many."""
        wanted = [parsed(word) for word in prefixes.replace(",", " ").split()]
        self.block_all("prefixes", wanted)
        return len(wanted)

    @action
    def distrust(self) -> int:
        """Forget all proofs; answers how many."""
        count = len(self.trusted)
        self.trusted.clear()
        return count

    @action
    def show(self) -> dict[str, Any]:
        """What was counted, and what is kept."""
        answered, proved, passed = (self.counts.read(what).packets for what in (ANSWERED, PROVED, PASSED))
        return {"answered": answered, "proved": proved, "passed": passed, "trusted": len(self.trusted)}

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.counts.clear()
