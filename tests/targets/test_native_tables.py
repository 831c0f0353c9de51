"""Native tables against PythonHome: the same operations, the same answers, the same victims, the same end.

The comparison is of homes, byte for byte, below what tables encode.  Beside it: the block's own invariants after every
run, what an IR function sees (as the compiler's will), and tables proper on native memory.
"""
from __future__ import annotations

import ctypes
import gc
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import llvmlite.binding as llvm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language.addresses import Prefix
from iovisor.language.errors import DeclarationError, Reject
from iovisor.language.integers import storage, u8, u16, u32, u64, u128
from iovisor.language.layout import Record
from iovisor.language.machine import Clock
from iovisor.language.tables import (
    ANY,
    NEW,
    PRESENT,
    Array,
    Count,
    Counter,
    Hash,
    Lpm,
    Lru,
    PythonHome,
    TableSpec,
)
from iovisor.language.verdicts import Dropped
from iovisor.targets.native_tables import RUNTIME_IR, NativeHome
from iovisor.targets.native_tables_layout import HEADER, KEY, NEWER, OLDER, TAG

Kind = Literal["hash", "lru", "lpm", "array", "counter"]


class Three(Record):
    a: u8
    b: u8
    c: u8


class Five(Record):
    a: u8
    b: u8
    c: u8
    d: u8
    e: u8


class Seven(Record):
    a: u8
    b: u8
    c: u8
    d: u8
    e: u8
    f: u8
    g: u8


class Twelve(Record):
    a: u32
    b: u32
    c: u32


class Flow(Record):
    source: u128
    target: u128
    ports: u32
    protocol: u8


class Nine(Record):
    a: u8
    b: u8
    c: u8
    d: u8
    e: u8
    f: u8
    g: u8
    h: u8
    i: u8


KEYS = [u8, u16, Three, u32, Five, Seven, u64, Nine, Twelve, u128, Flow]
VALUES = [u8, u16, Three, u64, Nine, u128, Count]


def spec_of(kind: Kind, size: int, key: Any = u32, value: Any = u64, **options: Any) -> TableSpec:
    return TableSpec("t", kind, key, value, size, **options)


# -- operations, and the two homes they are done to -------------------------------------------------------------------


@dataclass
class Pair:
    """One table twice.  Every operation compares."""

    spec: TableSpec

    def __post_init__(self) -> None:
        self.python, self.native = PythonHome(self.spec), NativeHome(self.spec)

    def do(self, operation: str, key: bytes, value: bytes, mode: int) -> Any:
        if operation == "update":
            expected: Any = self.python.update(key, value, mode)
            answered: Any = self.native.update(key, value, mode)
        elif operation == "delete" and not self.native.indexed:
            expected, answered = self.python.delete(key), self.native.delete(key)
        elif operation == "write":                                  # through the view that a lookup answers
            old, new = self.python.lookup(key), self.native.lookup(key)
            expected, answered = old is not None, new is not None
            for view in (old, new):
                if view is not None:
                    view[-1:] = value[-1:]
        elif operation == "every":
            expected, answered = self.python.every(key), self.native.every(key)
        else:
            old, new = self.python.lookup(key), self.native.lookup(key)
            expected, answered = old and bytes(old), new and bytes(new)
        assert answered == expected, (operation, key, value, mode)
        return answered

    def same(self) -> None:
        expected, found = list(self.python.items()), list(self.native.items())
        assert len(found) == len(expected) and dict(found) == dict(expected)
        check(self.native)
        if self.spec.kind == "lru":
            assert recency(self.native) == list(self.python.entries)


def word(home: NativeHome, name: str) -> int:
    return int.from_bytes(home.memory[HEADER[name]:HEADER[name] + 8], "little")


def link(home: NativeHome, number: int, offset: int) -> int:
    place = word(home, "entries") + number * word(home, "stride") + offset
    return int.from_bytes(home.memory[place:place + 4], "little")


def key_of(home: NativeHome, number: int) -> bytes:
    place = word(home, "entries") + number * word(home, "stride") + KEY
    return home.memory[place:place + home.key_size]


def recency(home: NativeHome) -> list[bytes]:
    """The keys of an lru from the oldest, read forwards; read backwards they must be the same."""
    forwards, backwards = [], []
    number = link(home, 0, NEWER)
    while number:
        forwards.append(number)
        number = link(home, number, NEWER)
    number = link(home, 0, OLDER)
    while number:
        backwards.append(number)
        number = link(home, number, OLDER)
    assert forwards == backwards[::-1]
    return [key_of(home, number) for number in forwards]


def check(home: NativeHome) -> None:
    """The invariants of the layout's essay."""
    if home.indexed:
        return
    chained: list[int] = []
    for bucket in range(word(home, "mask") + 1):
        place = word(home, "buckets") + 4 * bucket
        number = int.from_bytes(home.memory[place:place + 4], "little")
        while number:
            assert link(home, number, TAG) & 1 and link(home, number, TAG) >> 1 & word(home, "mask") == bucket
            chained.append(number)
            number = link(home, number, 0)
    free, number = [], link(home, 0, 0)
    while number:
        assert link(home, number, TAG) == 0
        free.append(number)
        number = link(home, number, 0)
    assert len(chained) == word(home, "count") <= home.capacity
    assert sorted(chained + free) == list(range(1, word(home, "used") + 1))
    if home.spec.kind == "lpm":
        lengths = [int.from_bytes(key_of(home, number)[:4], "little") for number in chained]
        place, counts = word(home, "order"), word(home, "counts")
        order = [int.from_bytes(home.memory[place + 4 * n:place + 4 * n + 4], "little")
                 for n in range(word(home, "lengths"))]
        assert order == sorted(set(lengths), reverse=True)
        for length in range(8 * home.key_size - 31):
            assert int.from_bytes(home.memory[counts + 4 * length:][:4], "little") == lengths.count(length)


def keys_of(spec: TableSpec, chance: random.Random, many: int) -> Callable[[], bytes]:
    """A source of keys, few enough to meet again; those of an lpm are mostly prefixes that share their beginnings."""
    if spec.kind in ("array", "counter"):
        return lambda: chance.randrange(int(spec.size) + 3).to_bytes(4, "little")
    size = spec.key_size
    if spec.kind == "lpm":
        bits = 8 * (size - 4)
        stems = [chance.getrandbits(bits) for _ in range(4)]

        def prefix() -> bytes:
            length = chance.choice([bits, bits, 0, 8, bits // 2, bits - 1, chance.randrange(bits + 1)])
            address = chance.choice(stems) ^ chance.getrandbits(bits) >> chance.randrange(bits)
            if chance.random() < 0.9:
                address = address >> bits - length << bits - length
            return length.to_bytes(4, "little") + address.to_bytes(bits // 8, "big")
        pool = [prefix() for _ in range(many)]
    else:
        base = chance.randbytes(size)
        pool = [chance.choice([chance.randbytes(size), base[:-1] + bytes([n % 256]), bytes([n % 256]) + base[1:],
                               n.to_bytes(8, "little")[:size].ljust(size, b"\0")]) for n in range(many)]
    return lambda: chance.choice(pool)


def run(spec: TableSpec, seed: int, operations: int) -> Pair:
    chance, pair = random.Random(seed), Pair(spec)
    key = keys_of(spec, chance, int(spec.size) * 2 + 2)
    for _ in range(operations):
        operation = chance.choice(["update", "update", "update", "lookup", "lookup", "write", "delete", "every"])
        pair.do(operation, key(), chance.randbytes(spec.stored_size), chance.choice([ANY, ANY, NEW, PRESENT]))
    pair.same()
    return pair


SHAPES = [
    *(spec_of(kind, size, key, VALUES[(place + size) % len(VALUES)])
      for kind in cast("tuple[Kind, ...]", ("hash", "lru")) for place, key in enumerate(KEYS) for size in (1, 7, 100)),
    *(spec_of("lpm", size, key, value) for key, value in ((u32, u64), (u64, Three), (u128, Nine))
      for size in (1, 16, 100)),
    *(spec_of(kind, size, None, value) for kind in cast("tuple[Kind, ...]", ("array", "counter"))
      for size, value in ((1, u8), (13, Count), (100, Nine))),
    spec_of("hash", 20, u64, Nine, ttl=5),
    spec_of("lru", 20, Five, Three, ttl=5),
    spec_of("lru", 20, u64, Count, per_cpu=True),
    spec_of("hash", 0),
]


def named(spec: TableSpec) -> str:
    return f"{spec.kind}-{spec.key_size}-{spec.stored_size}-{spec.size}"


@pytest.mark.parametrize("spec", SHAPES, ids=named)
def test_agrees_with_python(spec: TableSpec, nightly: bool) -> None:
    for seed in range(50 if nightly else 3):
        run(spec, seed, 5_000 if nightly else 2_000)


OPERATION = st.tuples(st.sampled_from(["update", "lookup", "delete", "write"]), st.integers(0, 7),
                      st.integers(0, 255), st.sampled_from([ANY, NEW, PRESENT]))


@pytest.mark.parametrize("kind", ["hash", "lru", "array"])
@given(size=st.integers(1, 5), operations=st.lists(OPERATION, max_size=60))
def test_agrees_on_any_sequence(kind: Kind, size: int, operations: list[tuple[str, int, int, int]]) -> None:
    pair = Pair(spec_of(kind, size))
    for operation, key, value, mode in operations:
        pair.do(operation, key.to_bytes(4, "little"), value.to_bytes(8, "little"), mode)
    pair.same()


PREFIXES = st.tuples(st.integers(0, 32), st.sampled_from([0, 0xffffffff, 0x0a000000, 0x0a010203, 0x0a010300]))


@given(size=st.integers(1, 8), operations=st.lists(st.tuples(OPERATION, PREFIXES), max_size=60))
def test_prefixes_agree_on_any_sequence(
        size: int, operations: list[tuple[tuple[str, int, int, int], tuple[int, int]]]) -> None:
    pair = Pair(spec_of("lpm", size))
    for (operation, _, value, mode), (length, address) in operations:
        masked = address >> 32 - length << 32 - length
        pair.do(operation, length.to_bytes(4, "little") + masked.to_bytes(4, "big"), value.to_bytes(8, "little"), mode)
        full = (32).to_bytes(4, "little") + address.to_bytes(4, "big")
        pair.do("lookup", full, b"", ANY)
    pair.same()


# -- exact cases ------------------------------------------------------------------------------------------------------


def n4(number: int) -> bytes:
    return number.to_bytes(4, "little")


def n8(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_a_full_hash_refuses_and_remembers_nothing() -> None:
    home = NativeHome(spec_of("hash", 2))
    assert [home.update(n4(key), n8(key), ANY) for key in (1, 2, 3)] == [True, True, False]
    assert home.update(n4(2), n8(20), ANY) and home.lookup(n4(3)) is None
    assert home.delete(n4(1)) and not home.delete(n4(1))
    assert home.update(n4(3), n8(3), NEW) and dict(home.items()) == {n4(2): n8(20), n4(3): n8(3)}


def test_an_lru_evicts_what_was_not_used_for_longest() -> None:
    home = NativeHome(spec_of("lru", 3))
    for key in (1, 2, 3):
        home.update(n4(key), n8(key), ANY)
    home.lookup(n4(1))
    home.update(n4(2), n8(2), ANY)
    home.update(n4(3), n8(9), NEW)                                  # refused: no use
    assert recency(home) == [n4(3), n4(1), n4(2)]
    home.update(n4(4), n8(4), ANY)
    assert recency(home) == [n4(1), n4(2), n4(4)] and home.lookup(n4(3)) is None


def test_a_value_does_not_move_while_others_come_and_go() -> None:
    home = NativeHome(spec_of("hash", 50))
    home.update(n4(0), n8(7), ANY)
    view = home.lookup(n4(0))
    assert view is not None
    for key in range(1, 500):
        home.update(n4(key), n8(key), ANY)
        home.delete(n4(key - 25 if key > 25 else 0xffff))
    view[:] = n8(8)
    assert bytes(view) == n8(8) and home.every(n4(0)) == [n8(8)]


def test_values_are_aligned_to_eight() -> None:
    for key in KEYS:
        home = NativeHome(spec_of("hash", 9, key, Three))
        for number in range(9):
            home.update(number.to_bytes(1, "little").ljust(home.key_size, b"\0"), b"abc", ANY)
        table, step = ctypes.c_int64(0), home.runtime.next
        while (entry := step(home.address, ctypes.byref(table))) is not None:
            assert (entry + home.value_offset) % 8 == 0


def test_prefixes_from_the_longest_to_the_shortest() -> None:
    home = NativeHome(spec_of("lpm", 9))
    routes = {Prefix(0, 0, 32): 1, Prefix(0x0a000000, 8, 32): 2, Prefix(0x0a010000, 16, 32): 3,
              Prefix(0x0a010280, 25, 32): 4, Prefix(0x0a010281, 32, 32): 5}
    for prefix, value in routes.items():
        home.update(n4(prefix.length) + prefix.address.to_bytes(4, "big"), n8(value), ANY)

    def route(address: int) -> int:
        found = home.lookup(n4(32) + address.to_bytes(4, "big"))
        return 0 if found is None else int.from_bytes(found, "little")
    addresses = (0x0a010281, 0x0a010282, 0x0a010201, 0x0a020000, 0x0b000000)
    assert [route(address) for address in addresses] == [5, 4, 3, 2, 1]
    home.delete(n4(16) + bytes.fromhex("0a010000"))
    home.delete(n4(0) + bytes(4))
    assert [route(address) for address in addresses] == [5, 4, 2, 2, 0]
    assert not home.update(n4(33) + bytes(4), n8(1), ANY)           # would count beyond the lengths


def test_an_array_is_all_there_and_zero() -> None:
    home = NativeHome(spec_of("array", 3, None, Three))
    assert list(home.items()) == [(n4(index), bytes(3)) for index in range(3)]
    assert home.lookup(n4(3)) is None and home.lookup(n4(0xffffffff)) is None
    assert not home.update(n4(3), b"abc", ANY) and not home.update(n4(1), b"abc", NEW)
    assert home.update(n4(1), b"abc", PRESENT) and not home.delete(n4(1))
    assert dict(home.items())[n4(1)] == b"abc"


def test_sizes_are_checked() -> None:
    home = NativeHome(spec_of("hash", 3))
    for misuse in (lambda: home.lookup(b"abc"), lambda: home.delete(b"abcde"), lambda: home.update(b"abc", n8(0), ANY),
                   lambda: home.update(n4(1), b"short", ANY)):
        with pytest.raises(ValueError, match=r"of t has \d bytes, not \d"):
            misuse()
    with pytest.raises(DeclarationError):
        NativeHome(spec_of("hash", 1 << 31))


@pytest.mark.parametrize(("key", "shift"), [(u64, 0), (u64, 40), (u128, 0), (u128, 64), (u128, 108), (Flow, 3),
                                            (Flow, 130), (Flow, 200)])
def test_a_large_table_keeps_every_key_in_short_chains(key: Any, shift: int) -> None:
    """Keys that count, in each of their words: what real ones do, and what bad hashes do not stand."""
    many = 1 << 14
    home = NativeHome(spec_of("hash", many, key, u64))
    keys = [(number << shift).to_bytes(home.key_size, "little") for number in range(many)]
    assert all(home.update(this, n8(number), NEW) for number, this in enumerate(keys))
    assert not home.update(b"\xff" * home.key_size, n8(1), NEW)
    assert all(home.every(this) == [n8(number)] for number, this in enumerate(keys))
    check(home)
    assert max(chain_lengths(home)) <= 12                           # 1 in 10**6 of a random function


def chain_lengths(home: NativeHome) -> Iterator[int]:
    for bucket in range(word(home, "mask") + 1):
        place, length = word(home, "buckets") + 4 * bucket, 0
        number = int.from_bytes(home.memory[place:place + 4], "little")
        while number:
            number, length = link(home, number, 0), length + 1
        yield length


# -- nested -----------------------------------------------------------------------------------------------------------


def nested(size: int) -> tuple[NativeHome, TableSpec]:
    inner = spec_of("hash", 4)
    return NativeHome(spec_of("hash", size, u32, None, inner=inner)), inner


def test_the_value_of_a_nested_table_is_the_address_of_its_inner() -> None:
    outer, spec = nested(3)
    first, second = outer.create(n4(1), spec), outer.create(n4(2), spec)
    assert outer.every(n4(1)) == [n8(first.address)] and outer.every(n4(2)) == [n8(second.address)]
    assert outer.inner(n4(1)) is first and outer.inner(n4(2)) is second and outer.inner(n4(3)) is None
    assert [key for key, _ in outer.items()] == [n4(1), n4(2)]
    with pytest.raises(TypeError):
        outer.update(n4(1), n8(0), ANY)
    with pytest.raises(TypeError):
        first.create(n4(1), spec)


def test_a_full_nested_table_rejects_as_python_does() -> None:
    outer, spec = nested(1)
    outer.create(n4(1), spec)
    python = PythonHome(outer.spec)
    python.create(n4(1), spec)
    for home in (outer, python):
        with pytest.raises(Reject) as rejected:
            home.create(n4(2), spec)
        assert rejected.value.reason == Dropped.TABLE_FULL
        assert home.create(n4(1), spec) is home.inner(n4(1)) and home.inner(n4(2)) is None


def test_inner_tables_go_when_deleted_or_replaced_and_not_before() -> None:
    outer, spec = nested(3)

    def made(key: int) -> weakref.ref[NativeHome]:
        return weakref.ref(outer.create(n4(key), spec))
    first, second = made(1), made(2)
    replaced = made(1)
    gc.collect()
    assert first() is None and second() is not None and replaced() is not None
    assert outer.delete(n4(2)) and outer.inner(n4(2)) is None
    gc.collect()
    assert second() is None
    outer.runtime.delete(outer.address, n4(1))                      # as compiled code does, which tells nobody
    kept = [made(key) for key in (3, 4, 5)]                         # one more home than entries: now it is noticed
    gc.collect()
    assert replaced() is None and all(home() is not None for home in kept) and len(outer.nested) == 3


def test_a_view_outlives_its_home() -> None:
    home = NativeHome(spec_of("array", 4))
    view = home.lookup(n4(2))
    assert view is not None
    del home
    gc.collect()
    view[:] = n8(5)
    assert bytes(view) == n8(5)


# -- tables proper, on native memory ----------------------------------------------------------------------------------


def test_records_are_written_through_their_views() -> None:
    spec = spec_of("hash", 4, u32, Count)
    table: Hash[u32, Count] = Hash(spec, NativeHome(spec))
    table[u32(1)] = Count(packets=1, bytes=60)
    view = table[u32(1)]
    view.packets += 1
    assert dict(table.items()) == {1: Count(packets=2, bytes=60)} and table[u32(1)] == view
    assert table.spec.kind == "hash" and len(table) == 1 and u32(2) not in table
    table.clear()
    assert len(table) == 0


def test_mortal_entries_are_stamped_touched_and_swept() -> None:
    spec = spec_of("lru", 4, u32, Three, ttl=10)
    table: Lru[u32, Three] = Lru(spec, NativeHome(spec))
    Clock.stand(1000)
    try:
        table[u32(1)] = Three(a=1, b=2, c=3)
        table[u32(2)] = Three(a=4, b=5, c=6)
        Clock.advance(8)
        table.touch(table[u32(1)])
        Clock.advance(8)
        assert dict(table.items()) == {1: Three(a=1, b=2, c=3)}
        assert table.get(u32(2)) is None and table.sweep() == 1 and len(list(table.home.items())) == 1
    finally:
        Clock.run()


def test_counters_prefixes_and_arrays() -> None:
    counting = spec_of("counter", 3, None, Count, per_cpu=True)
    sent = Counter(counting, NativeHome(counting))
    sent.add(1, 60)
    sent.add(1, 40)
    sent.add(9, 1)
    assert sent.read(1) == Count(packets=2, bytes=100) and list(sent) == [1]
    routing = spec_of("lpm", 3, u32, u16)
    routes: Lpm[u32, u16] = Lpm(routing, NativeHome(routing))
    routes[Prefix(0x0a000000, 8, 32)] = u16(3)
    assert routes.get(u32(0x0a123456)) == 3 and routes.get(u32(0x0b000000)) is None
    ports = spec_of("array", 3, None, u16)
    array: Array[u16] = Array(ports, NativeHome(ports))
    array[2] = u16(7)
    assert list(array.items()) == [(0, 0), (1, 0), (2, 7)]
    array.clear()
    assert array[2] == 0


# -- as the compiler uses it ------------------------------------------------------------------------------------------

CALLER = """
; counts a key's visits in the table; answers how many there were before, or -1 if the table is full
define i64 @visit(ptr %table, i32 %key) {
  %place = alloca i32, align 4
  %one = alloca i64, align 8
  store i32 %key, ptr %place, align 4
  %found = call ptr @iov_lookup(ptr %table, ptr %place)
  %absent = icmp eq ptr %found, null
  br i1 %absent, label %insert, label %count
count:
  %visits = load i64, ptr %found, align 8
  %more = add i64 %visits, 1
  store i64 %more, ptr %found, align 8
  ret i64 %visits
insert:
  store i64 1, ptr %one, align 8
  %refused = call i64 @iov_update(ptr %table, ptr %place, ptr %one, i64 1)
  %answer = sub i64 0, %refused
  ret i64 %answer
}

; the same value under another key, straight from the table, and the first key deleted if that went well
define i64 @rename(ptr %table, ptr %old, ptr %new) {
  %found = call ptr @iov_lookup_lru(ptr %table, ptr %old)
  %refused = call i64 @iov_update(ptr %table, ptr %new, ptr %found, i64 0)
  %deleted = call i64 @iov_delete(ptr %table, ptr %old)
  ret i64 %deleted
}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


@pytest.fixture(scope="module", params=["as written", "optimised"])
def caller(request: pytest.FixtureRequest) -> Any:
    NativeHome(spec_of("array", 1))                                 # initialises LLVM
    module = llvm.parse_assembly(CALLER + RUNTIME_IR)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    if request.param == "optimised":
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(module, passes)
        assert "@iov_get" not in str(module)                        # nothing of the accessors is left
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def test_compiled_code_and_python_share_a_table(caller: Any) -> None:
    visit = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint32)(caller.get_function_address("visit"))
    home = NativeHome(spec_of("hash", 2))
    assert [visit(home.address, key) for key in (5, 5, 6, 5, 7)] == [0, 1, 0, 2, -1]
    assert dict(home.items()) == {n4(5): n8(3), n4(6): n8(1)}
    view = home.lookup(n4(6))
    assert view is not None
    view[:] = n8(41)
    assert visit(home.address, 6) == 41 and bytes(view) == n8(42)
    array = NativeHome(spec_of("array", 2))
    assert [visit(array.address, key) for key in (1, 1, 2)] == [0, 1, -1]


def test_a_value_may_come_from_the_entry_it_evicts(caller: Any) -> None:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    rename = kind(caller.get_function_address("rename"))
    home = NativeHome(spec_of("lru", 1, u128, Flow))
    old, new, value = bytes(range(16)), bytes(range(16, 32)), bytes(range(100, 100 + Flow.size))
    home.update(old, value, ANY)
    assert rename(home.address, old, new) == 0                      # it was evicted already
    assert list(home.items()) == [(new, value)]
    check(home)


def test_the_shapes_cover_every_way_a_key_is_read() -> None:
    """The sizes this file means to cover: below, at, and above a word, odd and even."""
    sizes = {spec.key_size for spec in SHAPES if spec.kind in ("hash", "lru")}
    assert sizes >= {1, 2, 3, 4, 5, 7, 8, 9, 12, storage(128)} and max(sizes) > 32
