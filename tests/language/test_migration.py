"""Entries of one version of a function as those of another: pure Python."""
from __future__ import annotations

import pytest

from iovisor.language import (
    SECOND,
    Clock,
    DeclarationError,
    Function,
    Hash,
    Lpm,
    Prefix,
    Record,
    ipv4,
    mac,
    migrates,
    prefix,
    reverts,
    table,
    u8,
    u16,
    u32,
)
from iovisor.language.migration import layout, migration


class Old(Record):
    port: u8 = 0


class SameAsOld(Record):
    port: u8 = 0


class New(Record):
    age: u32 = 0
    port: u16 = 0


class First(Function):
    stations: Hash[mac, Old] = table(8, ttl=60 * SECOND)
    routes: Lpm[ipv4, u8] = table(8)
    numbers: Hash[u32, u32] = table(8)


class Second(Function):
    stations: Hash[mac, New] = table(8, ttl=60 * SECOND)
    routes: Lpm[ipv4, u16] = table(8)
    names: Hash[u32, u32] = table(8)

    @migrates("stations", since=Hash[mac, SameAsOld])
    def grown(self, key: int, old: SameAsOld) -> New | None:
        return None if key == 9 else New(port=old.port + 256)

    @reverts("stations", to=Hash[mac, Old])
    def shrunk(self, key: int, new: New) -> tuple[int, Old]:
        return key + 1, Old(port=new.port & 255)

    @migrates("routes", since=Lpm[ipv4, u8])
    def wider(self, key: Prefix, value: int) -> int:
        return value

    @migrates("numbers", since=Hash[u32, u32])
    def gone(self, key: int, value: int) -> None:
        pass

    @reverts("names", to=None)
    def forgotten(self, key: int, value: int) -> None:
        pass


def carried(old: Function, new: Function, name: str) -> None:
    """What the fabric does with packets in between, without them."""
    declared = migration(old, new, name)
    assert declared is not None
    for key, value in old.tables[name].home.items():
        if (entry := declared.converted(key, value)) is not None:
            assert new.tables[name].home.update(*entry, 0)


def test_entries_there_and_back() -> None:
    Clock.stand(100 * SECOND)
    try:
        first, second, third = First(), Second(), First()
        first.stations[5], first.stations[9], first.routes[prefix("10.0.0.0/8")] = Old(port=3), Old(port=4), 1
        Clock.advance(50 * SECOND)
        for name in ("stations", "routes"):
            carried(first, second, name)
        assert dict(second.stations.items()) == {5: New(port=259, age=0)}
        assert dict(second.routes.items()) == {prefix("10.0.0.0/8"): 1} and second.routes[0x0a010203] == 1
        carried(second, third, "stations")
        assert dict(third.stations.items()) == {6: Old(port=3)}
        Clock.advance(11 * SECOND)
        assert len(second.stations) == len(third.stations) == 0         # they have kept their age
    finally:
        Clock.run()


def test_what_is_declared_and_what_is_not() -> None:
    first, second = First(), Second()
    assert migration(second, first, "routes") is None                   # nothing says how to go back
    assert migration(first, second, "names") is None                    # new: it starts empty
    gone = migration(first, second, "numbers")
    assert gone is not None and gone.to is None and gone.converted(bytes(4), bytes(4)) is None
    dropped = migration(second, first, "names")
    assert dropped is not None and dropped.to is None
    with pytest.raises(DeclarationError, match="needs a table type"):
        migrates("stations", since=Old)


def test_layouts_in_words() -> None:
    assert layout(First.spec().tables["stations"]) == "hash 64 bits -> {port: 8 bits at 0} in 1 bytes with age"
    assert layout(First.spec().tables["routes"]) == "lpm 32 bits -> 8 bits"
