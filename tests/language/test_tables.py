"""Tables in Python memory: what each kind means, when entries die, and when views go stale."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import (
    SECOND,
    Array,
    Clock,
    Config,
    Count,
    Counter,
    DeclarationError,
    Dropped,
    Function,
    Hash,
    Lpm,
    Lru,
    Packet,
    Prefix,
    Record,
    Reject,
    StaleView,
    Verdict,
    drop,
    ipv4,
    ipv4_address,
    ipv6,
    ipv6_address,
    mac,
    prefix,
    table,
    time,
    u8,
    u16,
    u32,
    u64,
    u128,
)


class Key(Record):
    address: ipv4
    port: u16


class Flow(Record):
    packets: u32 = 0
    seen: time = 0


class Sizes(Config):
    capacity: u32 = 3
    ageing: time = 5 * SECOND
    routes: u32 = 2


class Tables(Function):
    config: Sizes
    exact: Hash[Key, Flow] = table(3)
    scalar: Hash[u16, u16] = table("capacity")
    recent: Lru[u8, u8] = table(3)
    routes: Lpm[ipv4, u16] = table(16)
    routes6: Lpm[ipv6, u16] = table(16)
    slots: Array[Flow] = table(4)
    numbers: Array[u64] = table(4)
    sent: Counter = table(4)
    mortal: Hash[u8, Flow] = table(3, ttl="ageing")
    mortal_recent: Lru[u8, Flow] = table(2, ttl=10 * SECOND)
    nested: Hash[u16, Lpm[ipv4, Flow]] = table(2, inner=table("routes"))
    wide: Hash[u128, u128] = table(8)
    stations: Hash[mac, u16] = table(8, per_cpu=True)

    def ingress(self, pkt: Packet) -> Verdict:
        return drop(1)


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture(autouse=True)
def _standing_clock() -> Iterator[None]:
    Clock.stand(1000 * SECOND)
    yield
    Clock.run()


def rejects(reason: int, call: Any) -> None:
    with pytest.raises(Reject) as caught:
        call()
    assert caught.value.reason == reason


# -- hash


def test_a_hash_finds_by_value_of_the_key(tables: Tables) -> None:
    tables.exact[Key(address=1, port=2)] = Flow(packets=7)
    found = tables.exact.get(Key(address=1, port=2))
    assert found is not None and found.packets == 7
    assert tables.exact.get(Key(address=1, port=3)) is None
    assert Key(address=1, port=2) in tables.exact and Key(address=2, port=2) not in tables.exact
    rejects(Dropped.ABSENT, lambda: tables.exact[Key(address=1, port=3)])
    assert len(tables.exact) == 1


def test_a_view_is_the_entry_and_a_stored_value_a_copy(tables: Tables) -> None:
    key, flow = Key(address=1, port=2), Flow(packets=1)
    tables.exact[key] = flow
    flow.packets = 50
    view = tables.exact[key]
    assert view.packets == 1
    view.packets += 1
    key.port = 9
    assert tables.exact[Key(address=1, port=2)].packets == 2


def test_a_full_hash_refuses(tables: Tables) -> None:
    for key in range(3):
        assert tables.scalar.put(key, key)
    assert not tables.scalar.put(3, 3) and not tables.scalar.insert(3, 3)
    rejects(Dropped.TABLE_FULL, lambda: tables.scalar.__setitem__(3, 3))
    assert tables.scalar.put(2, 20), "an entry that is there is replaced"
    assert dict(tables.scalar.items()) == {0: 0, 1: 1, 2: 20}
    del tables.scalar[0]
    assert tables.scalar.put(3, 3)
    del tables.scalar[77]


def test_insert_does_not_replace(tables: Tables) -> None:
    assert tables.scalar.insert(1, 10) and not tables.scalar.insert(1, 11)
    assert tables.scalar[1] == 10


def test_keys_and_values_are_cut_to_their_width(tables: Tables) -> None:
    tables.scalar[0x1_0005] = 0x2_0007
    assert dict(tables.scalar.items()) == {5: 7}
    tables.wide[(1 << 130) + 3] = (1 << 128) - 1
    assert tables.wide[3] == (1 << 128) - 1
    tables.stations[-1] = 4
    assert list(tables.stations) == [0xffff_ffff_ffff]


def test_a_key_of_the_wrong_kind_is_an_error(tables: Tables) -> None:
    with pytest.raises(TypeError, match="this table takes Key, not Flow"):
        tables.exact.get(Flow())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="this table takes Flow, not Key"):
        tables.exact[Key(address=1, port=1)] = Key(address=1, port=1)  # type: ignore[assignment]


def test_writing_the_table_makes_its_views_stale(tables: Tables) -> None:
    key = Key(address=1, port=2)
    for write in (lambda: tables.exact.put(key, Flow()), lambda: tables.exact.__delitem__(key),
                  lambda: tables.exact.insert(key, Flow()), tables.exact.clear):
        tables.exact[key] = Flow(packets=1)
        view = tables.exact[key]
        write()
        with pytest.raises(StaleView, match="its table was written after it was read"):
            view.packets += 1


def test_writing_another_table_or_a_field_leaves_views_alone(tables: Tables) -> None:
    key = Key(address=1, port=2)
    tables.exact[key] = Flow(packets=1)
    view, same = tables.exact[key], tables.exact[key]
    view.packets = 5
    tables.scalar[1] = 1
    assert same.packets == 5


def test_items_are_copies(tables: Tables) -> None:
    tables.exact[Key(address=1, port=2)] = Flow(packets=1)
    for key, flow in tables.exact.items():
        flow.packets = 99
        assert key == Key(address=1, port=2)
    assert tables.exact[Key(address=1, port=2)].packets == 1
    assert repr(tables.scalar) == "Hash(scalar, {})"


# -- lru


def test_an_lru_evicts_what_was_not_used_for_longest(tables: Tables) -> None:
    for key in (1, 2, 3):
        tables.recent[key] = key
    assert tables.recent.get(1) == 1
    tables.recent[4] = 4
    assert sorted(tables.recent) == [1, 3, 4]


def test_writing_counts_as_use(tables: Tables) -> None:
    for key in (1, 2, 3, 1):
        tables.recent[key] = key
    tables.recent[4] = 4
    assert sorted(tables.recent) == [1, 3, 4]
    assert not tables.recent.insert(1, 9) and tables.recent.insert(5, 5)


def test_looking_from_outside_does_not_count_as_use(tables: Tables) -> None:
    for key in (1, 2, 3):
        tables.recent[key] = key
    list(tables.recent.items())
    tables.recent[4] = 4
    assert sorted(tables.recent) == [2, 3, 4]


# -- longest prefix


def test_the_longest_prefix_wins(tables: Tables) -> None:
    for text, value in (("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.0/16", 3), ("10.1.2.3", 4)):
        tables.routes[prefix(text)] = value
    for text, value in (("192.0.2.1", 1), ("10.2.0.0", 2), ("10.1.2.2", 3), ("10.1.2.3", 4)):
        assert tables.routes.get(ipv4_address(text)) == value
    del tables.routes[prefix("10.1.0.0/16")]
    assert tables.routes[ipv4_address("10.1.2.2")] == 2
    assert dict(tables.routes.items()) == {prefix("0.0.0.0/0"): 1, prefix("10.0.0.0/8"): 2, prefix("10.1.2.3/32"): 4}
    assert prefix("10.0.0.0/8") in list(tables.routes) and not tables.routes.insert(prefix("10.0.0.0/8"), 5)


def test_longest_prefix_of_ipv6(tables: Tables) -> None:
    tables.routes6[prefix("2001:db8::/32")] = 1
    tables.routes6[prefix("2001:db8:1::/48")] = 2
    assert tables.routes6.get(ipv6_address("2001:db8::1")) == 1
    assert tables.routes6.get(ipv6_address("2001:db8:1::1")) == 2
    assert tables.routes6.get(ipv6_address("2001:db9::1")) is None
    with pytest.raises(ValueError, match=r"routes6 holds prefixes of 128 bits, 10\.0\.0\.0/8 has 32"):
        tables.routes6[prefix("10.0.0.0/8")] = 3


PREFIXES = st.tuples(st.integers(0, 0xffff_ffff), st.integers(0, 32)).map(
    lambda drawn: Prefix(drawn[0] >> 32 - drawn[1] << 32 - drawn[1], drawn[1]))


@given(st.dictionaries(PREFIXES, st.integers(0, 0xffff), max_size=16), st.integers(0, 0xffff_ffff))
def test_longest_prefix_against_a_search(entries: dict[Prefix, int], address: int) -> None:
    tables = Tables()
    for key, value in entries.items():
        tables.routes[key] = value
    for wanted in [address, *(key.address for key in entries)]:
        matching = [key for key in entries if wanted in key]
        best = max(matching, key=lambda key: key.length, default=None)
        assert tables.routes.get(wanted) == (None if best is None else entries[best])


# -- arrays and counters


def test_an_array_is_all_there_and_zero(tables: Tables) -> None:
    assert (tables.numbers[3], tables.slots[0].packets, len(tables.numbers)) == (0, 0, 4)
    assert tables.numbers.get(4) is None and tables.slots.get(-1) is None
    rejects(Dropped.ABSENT, lambda: tables.numbers[4])
    rejects(Dropped.TABLE_FULL, lambda: tables.numbers.__setitem__(4, 1))
    assert not tables.numbers.put(4, 1) and not tables.numbers.insert(1, 1)
    with pytest.raises(TypeError, match="an array's entries cannot be deleted"):
        del tables.numbers[0]


def test_an_arrays_views_never_go_stale(tables: Tables) -> None:
    view = tables.slots[1]
    tables.slots[1] = Flow(packets=4)
    assert view.packets == 4
    view.packets = 5
    assert tables.slots[1].packets == 5
    tables.slots.clear()
    assert view.packets == 0


def test_a_counter_counts(tables: Tables) -> None:
    tables.sent.add(2, bytes=100)
    tables.sent.add(2, 50)
    tables.sent.add(1)
    tables.sent.add(4, 1)
    tables.sent.add(-1, 1)
    assert tables.sent.read(2) == Count(packets=2, bytes=150)
    assert tables.sent.read(99) == Count()
    assert dict(tables.sent.items()) == {1: Count(packets=1, bytes=0), 2: Count(packets=2, bytes=150)}


def test_every_cpu_of_python_is_one(tables: Tables) -> None:
    tables.stations[5] = 6
    assert tables.stations.every(5) == [6] and tables.stations.every(6) == []


# -- mortal entries


def test_an_entry_older_than_its_ttl_is_absent(tables: Tables) -> None:
    tables.mortal[1] = Flow(packets=1)
    Clock.advance(5 * SECOND)
    assert 1 in tables.mortal
    Clock.advance(1)
    assert tables.mortal.get(1) is None and list(tables.mortal) == []
    rejects(Dropped.ABSENT, lambda: tables.mortal[1])


def test_touch_and_writing_make_young_and_reading_does_not(tables: Tables) -> None:
    for key in (1, 2, 3):
        tables.mortal[key] = Flow(packets=key)
    Clock.advance(4 * SECOND)
    assert tables.mortal[3].packets == 3
    tables.mortal[2] = Flow(packets=20)
    tables.mortal.touch(tables.mortal[1])
    Clock.advance(4 * SECOND)
    assert {key: flow.packets for key, flow in tables.mortal.items()} == {1: 1, 2: 20}


def test_the_dead_take_room_until_they_are_swept(tables: Tables) -> None:
    for key in (1, 2, 3):
        tables.mortal[key] = Flow()
    Clock.advance(4 * SECOND)
    tables.mortal[2] = Flow()
    Clock.advance(2 * SECOND)
    assert not tables.mortal.put(4, Flow()) and not tables.mortal.insert(1, Flow())
    assert tables.sweep() == 2 and tables.sweep() == 0
    assert tables.mortal.insert(1, Flow()) and sorted(tables.mortal) == [1, 2]


def test_a_sweep_makes_views_stale_only_if_it_removed(tables: Tables) -> None:
    tables.mortal[1] = Flow()
    view = tables.mortal[1]
    tables.sweep()
    assert view.packets == 0
    Clock.advance(6 * SECOND)
    tables.sweep()
    with pytest.raises(StaleView):
        _ = view.packets


def test_touch_is_for_views_of_mortal_tables(tables: Tables) -> None:
    tables.mortal[1] = Flow()
    tables.exact[Key(address=1, port=1)] = Flow()
    with pytest.raises(TypeError, match="touch takes an entry that `get` of this table returned"):
        tables.mortal.touch(Flow())
    with pytest.raises(TypeError, match="exact has no ttl"):
        tables.exact.touch(tables.exact[Key(address=1, port=1)])
    stale = tables.mortal[1]
    tables.mortal[2] = Flow()
    with pytest.raises(StaleView):
        tables.mortal.touch(stale)


def test_the_stamp_is_hidden(tables: Tables) -> None:
    tables.mortal_recent[1] = Flow(packets=1, seen=2)
    assert bytes(tables.mortal_recent[1]) == bytes(Flow(packets=1, seen=2))
    assert (tables.mortal_recent.spec.value_size, tables.mortal_recent.spec.stored_size) == (16, 24)


# -- nested tables


def test_tables_nest(tables: Tables) -> None:
    assert tables.nested.get(7) is None
    inner: Lpm[int, Flow] = tables.nested.create(7)
    inner[prefix("10.0.0.0/8")] = Flow(packets=3)
    found = tables.nested.get(7)
    assert found is not None
    assert found[ipv4_address("10.9.9.9")].packets == 3
    assert [key for key, _ in tables.nested.items()] == [7]
    del tables.nested[7]
    assert tables.nested.get(7) is None


def test_creating_again_empties_and_a_full_outer_table_refuses(tables: Tables) -> None:
    tables.nested.create(1)[prefix("10.0.0.0/8")] = Flow()
    tables.nested.create(1)
    assert len(tables.nested[1]) == 0
    tables.nested.create(2)
    rejects(Dropped.TABLE_FULL, lambda: tables.nested.create(3))
    assert tables.nested.get(3) is None


def test_an_inner_size_may_name_a_configuration_field() -> None:
    inner = Tables(routes=1).nested.create(1)
    inner[prefix("10.0.0.0/8")] = Flow()
    assert not inner.put(prefix("11.0.0.0/8"), Flow())


def test_only_tables_that_hold_tables_create(tables: Tables) -> None:
    with pytest.raises(TypeError, match="scalar holds no tables"):
        tables.scalar.create(1)
    with pytest.raises(TypeError, match=r"nested holds tables: use `create\(key\)`"):
        tables.nested[1] = tables.routes  # type: ignore[assignment]


# -- declarations


def test_sizes_and_lifetimes_come_from_the_configuration() -> None:
    tables = Tables(capacity=1, ageing="1s")
    assert (tables.scalar.spec.size, tables.mortal.spec.ttl) == (1, SECOND)
    assert Tables.spec().tables["scalar"].size == "capacity"


@pytest.mark.parametrize(("hint", "declared", "message"), [
    (int, table(4), r"`table\(…\)` needs a table type"),
    (Hash[u8, str], table(4), "is not an integer type or a Record"),
    (Lpm[u16, u8], table(4), "keyed by 32, 64 or 128 bits"),
    (Lpm[ipv4, u8], table(4, per_cpu=True), "per_cpu goes with Hash, Lru and Array"),
    (Hash[u8, Flow], table(4, per_cpu=True, ttl=1), "per_cpu goes with"),
    (Array[Flow], table(4, ttl=1), "ttl goes with Hash and Lru of records"),
    (Hash[u8, u8], table(4, ttl=1), "ttl goes with Hash and Lru of records"),
    (Hash[u8, Hash[u8, u8]], table(4), r"need `inner=table\(size\)`"),
    (Lru[u8, Hash[u8, u8]], table(4, inner=table(4)), "tables nest in a Hash"),
    (Lru[u8, u8], table(4, durable=True), "durable goes with Hash"),
    (Hash[u8, u8], table(4, durable=True, per_cpu=True), "durable goes with Hash, not per CPU"),
    (Hash[u8, Hash[u8, u8]], table(4, inner=table(4), durable=True), "holding no tables"),
    (Counter, table(4, durable=True), "a Counter begins at zero"),
    (Hash[u8, u8], table("unknown"), "Config has no field 'unknown'"),
    (Hash[u8, Hash[u8, u8]], table(4, inner=table("unknown")), "Config has no field 'unknown'"),
])
def test_refused_declarations(hint: Any, declared: Any, message: str) -> None:
    kind: type[Function] = type("Refused", (Function,), {"__annotations__": {"t": hint}, "t": declared,
                                                         "__module__": __name__})
    with pytest.raises(DeclarationError, match=message):
        kind.spec()


def test_a_counter_takes_no_types() -> None:
    with pytest.raises(DeclarationError, match="a Counter takes no types"):
        Counter[u8]  # type: ignore[misc]
