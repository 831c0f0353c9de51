"""What the programs of the golden cases are made of: a few headers, records, tables and functions."""
from __future__ import annotations

from iovisor.language import (
    SECOND,
    Array,
    Component,
    Config,
    Counter,
    Function,
    Hash,
    Header,
    Lpm,
    Lru,
    Metadata,
    Packet,
    Port,
    Ports,
    Record,
    handles,
    inline,
    ipv4,
    ports,
    table,
    time,
    u4,
    u8,
    u12,
    u16,
    u32,
    u64,
    u128,
)


class Head(Header):
    kind: u8
    flags: u4
    length: u12
    value: u32


class Wide(Header):
    address: u128
    serial: u64


class Entry(Record):
    port: u16
    seen: time


class Pair(Record):
    a: u32
    b: u32


class Event(Record):
    number: u32


class Unheard(Record):
    number: u32


class Color(Metadata):
    color: u8


class Settings(Config):
    limit: u32 = 10
    wide: u128 = 0
    enabled: bool = True
    title: str = ""


class Counting(Component):
    most: u8 = 4
    kept: Hash[u32, Entry] = table("most")

    def twice(self, value: u32) -> int:
        return self.twice(value)

    def held_entry(self) -> int:
        entry = self.kept.get(1)
        return entry.port       # type: ignore[union-attr]

    def changed(self) -> None:
        self.most = 5


class Base(Function):
    config: Settings
    inside: Port
    outside: Port
    others: Ports = ports(4)
    entries: Hash[u32, Entry] = table(16)
    numbers: Hash[u32, u32] = table(16)
    keyed: Hash[Pair, u32] = table(16)
    array: Array[Entry] = table(8)
    routes: Lpm[ipv4, Entry] = table(16)
    leases: Hash[u32, Entry] = table(16, durable=True)
    sent: Counter = table(8)
    nested: Hash[u16, Hash[u32, u32]] = table(4, inner=table(16))
    mortal: Lru[u32, Entry] = table(16, ttl=5 * SECOND)
    part: Counting = Counting(most=8)

    @handles(Event)
    def heard(self, event: Event, packet: Packet) -> None:
        pass


@inline
def double(value: u32) -> int:
    return value * 2


@inline
def narrow(value: u8) -> int:
    return value + 1


@inline
def forever(value: u32) -> int:
    return forever(value)


def unmarked(value: int) -> int:
    return value
