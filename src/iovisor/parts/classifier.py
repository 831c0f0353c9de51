"""Which of thousands of rules a packet meets first, in a time that hardly depends on how many there are.

Each dimension of a packet (source, destination, first and second selector, a tag, flags) says which rules it satisfies,
as a row of bits, the first rule the lowest.  The first rule all six have in common is the answer (Lakshman and
Stiliadis, "High-speed policy-based packet forwarding", 1998), and 10,000 rules are 20 blocks to read at most.  Rows
that are equal are kept once: that is why there are few.  Summaries of rows (Baboescu and Varghese, 2001) were tried and
left out: rules that do not care for some dimension fill them.

Hashing by tuples of prefix lengths was rejected: ranges of ports do not fit, and the number of tuples is the operator's
to choose.  Generated code was rejected: rules change without a compiler.

Two banks: rules are written to the one not in use, then one word switches over, and every packet meets the old rules or
the new ones.  The same word carries a generation, by which a holder knows what was decided under which.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from iovisor.language import (
    Array,
    Component,
    Config,
    ConfigError,
    Lpm,
    Prefix,
    Record,
    inline,
    ipv4,
    ipv6,
    table,
    u8,
    u10,
    u16,
    u32,
    u64,
    u128,
)

BLOCK, MOST_BLOCKS = 512, 20        # bits of a `Block`, and blocks of a row: 10,240 rules
NONE = 0xffff_ffff
TAGS = 1024
MASK64 = (1 << 64) - 1
EVERYWHERE = Prefix(0, 0, 128)
Q = TypeVar("Q")


class Block(Record):
    """512 bits of a row: as many rules are compared at a time."""

    w0: u64 = 0
    w1: u64 = 0
    w2: u64 = 0
    w3: u64 = 0
    w4: u64 = 0
    w5: u64 = 0
    w6: u64 = 0
    w7: u64 = 0


class ClassifierConfig(Config):
    """Room for rules, set when the instance is made."""

    most_rules: u32 = 1_024
    most_classes: u32 = 1_024

    def validate(self) -> None:
        super().validate()
        if not 1 <= self.most_rules <= BLOCK * MOST_BLOCKS:
            raise ConfigError("most_rules", f"{self.most_rules} is not between 1 and {BLOCK * MOST_BLOCKS}")
        if not 6 <= self.most_classes <= 1 << 16:
            raise ConfigError("most_classes", f"{self.most_classes} is not between 6 and {1 << 16}")

    @property
    def rule_slots(self) -> int:
        return 2 * BLOCK * -(-self.most_rules // BLOCK)

    @property
    def port_prefixes(self) -> int:
        return 8 * self.rule_slots

    @property
    def rule_blocks(self) -> int:
        return 2 * self.most_classes * -(-self.most_rules // BLOCK)


@dataclass(frozen=True)
class Match:
    """What a rule asks for; an empty tuple is no question.  Prefixes of 128 bits, ranges of 16, tags below `TAGS`."""

    sources: tuple[Prefix, ...] = ()
    destinations: tuple[Prefix, ...] = ()
    firsts: tuple[tuple[int, int], ...] = ()
    seconds: tuple[tuple[int, int], ...] = ()
    tags: frozenset[int] = frozenset()
    flags: int = 0
    flags_mask: int = 0


@inline
def lowest(word: u64) -> int:
    """The place of the lowest bit of a word that has one: the number of bits below it, counted without a branch, which
    the kernel's verifier would follow both ways at every turn.

    A remainder adds the bytes up, because LLVM makes a table in memory of the usual multiplication.
    """
    below = (word & -word) - 1 & MASK64
    pairs = below - (below >> 1 & 0x5555_5555_5555_5555) & MASK64
    fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333) & MASK64
    return (fours + (fours >> 4) & 0x0f0f_0f0f_0f0f_0f0f) % 255


class Classifier(Component):
    config: ClassifierConfig
    active: Array[u64] = table(1)                           # generation << 32 | blocks of a row << 8 | bank
    sources_0: Lpm[ipv6, u32] = table("most_classes")
    sources_1: Lpm[ipv6, u32] = table("most_classes")
    destinations_0: Lpm[ipv6, u32] = table("most_classes")
    destinations_1: Lpm[ipv6, u32] = table("most_classes")
    firsts: Lpm[ipv4, u32] = table("port_prefixes")         # bank << 16 | selector
    seconds: Lpm[ipv4, u32] = table("port_prefixes")
    tags: Array[u32] = table(2 * TAGS)
    flags: Array[u32] = table(2 << 8)
    rows: Array[Block] = table("rule_blocks")                  # of each row its summary, then its words

    def generation(self) -> int:
        return self.active[0] >> 32

    def match(self, source_upper: u64, source_lower: u64, destination_upper: u64, destination_lower: u64,
              first: u16, second: u16, tag: u10, flags: u8) -> int:
        """The slot of the first rule that matches, or `NONE`."""
        active = self.active[0]
        bank = active & 1
        stride = active >> 8 & 0xff
        sender: u128 = source_upper
        sender = sender << 64 | source_lower
        receiver: u128 = destination_upper
        receiver = receiver << 64 | destination_lower
        if bank:
            source, destination = self.sources_1.get(sender), self.destinations_1.get(receiver)
        else:
            source, destination = self.sources_0.get(sender), self.destinations_0.get(receiver)
        one, two = self.firsts.get(bank << 16 | first), self.seconds.get(bank << 16 | second)
        if source is None or destination is None or one is None or two is None:
            return NONE
        three = self.tags[bank << 10 | tag]
        four = self.flags[bank << 8 | flags]
        for place in range(MOST_BLOCKS):
            if place >= stride:
                break
            p, q, r = self.rows[source + place], self.rows[destination + place], self.rows[one + place]
            s, t, u = self.rows[two + place], self.rows[three + place], self.rows[four + place]
            w0 = p.w0 & q.w0 & r.w0 & s.w0 & t.w0 & u.w0
            w1 = p.w1 & q.w1 & r.w1 & s.w1 & t.w1 & u.w1
            w2 = p.w2 & q.w2 & r.w2 & s.w2 & t.w2 & u.w2
            w3 = p.w3 & q.w3 & r.w3 & s.w3 & t.w3 & u.w3
            w4 = p.w4 & q.w4 & r.w4 & s.w4 & t.w4 & u.w4
            w5 = p.w5 & q.w5 & r.w5 & s.w5 & t.w5 & u.w5
            w6 = p.w6 & q.w6 & r.w6 & s.w6 & t.w6 & u.w6
            w7 = p.w7 & q.w7 & r.w7 & s.w7 & t.w7 & u.w7
            if w0 | w1 | w2 | w3 | w4 | w5 | w6 | w7:
                begin = (bank * stride + place) * BLOCK
                low = 0
                if w0 | w1 | w2 | w3 == 0:
                    w0, w1, w2, w3, low = w4, w5, w6, w7, 256
                if w0 | w1 == 0:
                    w0, w1, low = w2, w3, low + 128
                if w0 == 0:
                    w0, low = w1, low + 64
                return begin + low + lowest(w0)
        return NONE

    # -- control path --------------------------------------------------------------------------------------------------

    def capacity(self) -> int:
        """How many rules there is room for, whatever the configuration has become since."""
        return BLOCK * (int(self.rows.spec.size) // (2 * self.classes()))

    def classes(self) -> int:
        return int(self.sources_0.spec.size)

    def begin(self) -> int:
        """The first slot of the bank that is not in use: where `switch` will put rules."""
        return 0 if self.active[0] & 1 else self.capacity()

    def switch(self, path: str, rules: Sequence[Match], renew: bool) -> None:
        """Use these rules from now on, in their order; `renew` begins a generation.

        What does not fit is a ConfigError about `path`, and nothing has changed.
        """
        if len(rules) > self.capacity():
            raise ConfigError(path, f"{len(rules)} rules; there is room for {self.capacity()} (most_rules)")
        bank, stride, most = 1 - (self.active[0] & 1), self.capacity() // BLOCK, self.classes()
        rows: dict[int, int] = {}

        def row(bits: int) -> int:
            if bits not in rows and len(rows) == most:
                raise ConfigError(path, f"these rules fall into more than {most} classes (most_classes)")
            return rows.setdefault(bits, (bank * most + len(rows)) * stride)

        sources, destinations = ({place: row(bits) for place, bits in by_prefix(of).items()} for of in (
            [rule.sources for rule in rules], [rule.destinations for rule in rules]))
        if max(len(sources), len(destinations)) > most:
            raise ConfigError(path, f"these rules name more than {most} prefixes (most_classes)")
        firsts, seconds = ([(low, high, row(bits)) for low, high, bits in by_range(of)] for of in (
            [rule.firsts for rule in rules], [rule.seconds for rule in rules]))
        for ranges in (firsts, seconds):
            if sum(1 for low, high, _ in ranges for _ in covering(low, high)) > int(self.firsts.spec.size) // 2:
                raise ConfigError(path, "these rules name too many ranges of ports (most_rules)")
        tags = [row(bits) for bits in by_tag([rule.tags for rule in rules])]
        flags = [row(bits) for bits in by_flags([(rule.flags, rule.flags_mask) for rule in rules])]

        for kept, wanted in ((self.sources_1 if bank else self.sources_0, sources),
                             (self.destinations_1 if bank else self.destinations_0, destinations)):
            kept.clear()
            kept.update(wanted)
        for selectors, ranges in ((self.firsts, firsts), (self.seconds, seconds)):
            for old in [place for place in selectors if place.address >> 16 == bank]:
                del selectors[old]
            selectors.update({Prefix(bank << 16 | place, 16 + length, 32): number
                              for low, high, number in ranges for place, length in covering(low, high)})
        self.tags.update({bank << 10 | tag: number for tag, number in enumerate(tags)})
        self.flags.update({bank << 8 | value: number for value, number in enumerate(flags)})
        blocks: dict[int, Block] = {}
        for bits, begin in rows.items():
            for place in range(stride):
                block = bits >> BLOCK * place & (1 << BLOCK) - 1
                blocks[begin + place] = Block.decode(block.to_bytes(BLOCK // 8, "little"))
        self.rows.update(blocks)
        self.active[0] = (self.generation() + renew & 0xffff_ffff) << 32 | stride << 8 | bank


def by_prefix(wanted: Sequence[Iterable[Prefix]]) -> dict[Prefix, int]:
    """For every prefix the rules that an address satisfies if this is the longest it lies in."""
    own: dict[tuple[int, int], int] = {(0, 0): 0}
    for number, prefixes in enumerate(wanted):
        for place in tuple(prefixes) or (EVERYWHERE,):
            key = place.length, place.address
            own[key] = own.get(key, 0) | 1 << number
    lengths = sorted({length for length, _ in own})
    found = {}
    for length, address in own:
        bits = 0
        for shorter in lengths:
            if shorter > length:
                break
            bits |= own.get((shorter, address >> 128 - shorter << 128 - shorter), 0)
        found[Prefix(address, length, 128)] = bits
    return found


def by_range(wanted: Sequence[Iterable[tuple[int, int]]]) -> list[tuple[int, int, int]]:
    """Ranges of 16 bits without a gap, each with the rules a number in it satisfies."""
    starting: dict[int, int] = {0: 0}
    ending: dict[int, int] = {}
    for number, ranges in enumerate(wanted):
        for low, high in merged(tuple(ranges) or ((0, 0xffff),)):
            starting[low] = starting.get(low, 0) | 1 << number
            ending[high + 1] = ending.get(high + 1, 0) | 1 << number
    places = sorted({*starting, *ending} - {0x10000})
    found, bits = [], 0
    for place, after in zip(places, [*places[1:], 0x10000], strict=True):
        bits = bits & ~ending.get(place, 0) | starting.get(place, 0)
        found.append((place, after - 1, bits))
    return found


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in ranges that neither meet nor touch."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def covering(low: int, high: int) -> Iterator[tuple[int, int]]:
    """A range of 16 bits as prefixes: address and length."""
    while low <= high:
        size = min(low & -low or 1 << 16, 1 << (high - low + 1).bit_length() - 1)
        yield low, 16 - (size.bit_length() - 1)
        low += size


def by_tag(wanted: Sequence[frozenset[int]]) -> list[int]:
    """For every tag the rules it satisfies."""
    found = [0] * TAGS
    for tags, bits in together(wanted).items():
        for tag in tags or range(TAGS):
            found[tag] |= bits
    return found


def by_flags(wanted: Sequence[tuple[int, int]]) -> list[int]:
    """For every value of the flags the rules it satisfies."""
    found = [0] * 256
    for (flags, mask), bits in together(wanted).items():
        for value in range(256):
            found[value] |= bits if (value ^ flags) & mask == 0 else 0
    return found


def together(wanted: Sequence[Q]) -> dict[Q, int]:
    """The rules that ask for the same."""
    found: dict[Q, int] = {}
    for number, question in enumerate(wanted):
        found[question] = found.get(question, 0) | 1 << number
    return found
