"""Maps, of every kind this project uses, on the running kernel."""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable

import pytest

from iovisor.kernel import (
    BpfError,
    Map,
    MapFlag,
    MapKind,
    MapSpec,
    Program,
    ProgramKind,
    ProgramSpec,
    Update,
    possible_cpus,
)
from iovisor.kernel.assembler import assemble, leave
from iovisor.kernel.btf import Types

pytestmark = pytest.mark.root

HASH = MapSpec("stations", MapKind.HASH, 4, 8, 256)
ARRAY = MapSpec("counters", MapKind.ARRAY, 4, 8, 4)


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def value(number: int) -> bytes:
    return struct.pack("=Q", number)


def test_what_is_put_can_be_found_and_removed() -> None:
    with Map.create(HASH) as stations:
        assert stations.lookup(key(1)) is None
        stations.update(key(1), value(10))
        stations.update(key(1), value(11))
        assert stations.lookup(key(1)) == value(11)
        assert len(stations) == 1
        assert stations.delete(key(1))
        assert not stations.delete(key(1))
        assert stations.lookup(key(1)) is None


def test_zero_bytes_are_bytes_like_others() -> None:
    with Map.create(MapSpec("zeros", MapKind.HASH, 8, 8, 8)) as zeros:
        zeros.update(b"\0\0a\0\0\0\0\1", b"\0\0\0\0\0\0\0\2")
        assert zeros.lookup(b"\0\0a\0\0\0\0\1") == b"\0\0\0\0\0\0\0\2"
        assert zeros.lookup(b"\0\0a\0\0\0\0\2") is None


def test_update_flags() -> None:
    with Map.create(HASH) as stations:
        with pytest.raises(BpfError) as absent:
            stations.update(key(1), value(1), Update.EXIST)
        assert absent.value.errno == errno.ENOENT
        stations.update(key(1), value(1), Update.NOEXIST)
        with pytest.raises(BpfError, match=r"map update 'stations'.*EEXIST"):
            stations.update(key(1), value(1), Update.NOEXIST)


def test_a_full_map_says_so() -> None:
    with Map.create(MapSpec("small", MapKind.HASH, 4, 8, 2)) as small:
        small.update(key(1), value(1))
        small.update(key(2), value(2))
        with pytest.raises(BpfError, match="map is full") as full:
            small.update(key(3), value(3))
        assert full.value.errno == errno.E2BIG


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m.lookup(b"abc"),
        lambda m: m.update(b"abcd", b"1234567"),
        lambda m: m.delete(b""),
        lambda m: m.take(b""),
        lambda m: m.push(b"12345678"),
        lambda m: m.update_batch([(b"abcd", b"")]),
        lambda m: m.delete_batch([b"abcde"]),
    ],
)
def test_sizes_are_checked_before_the_kernel_reads_past_them(wrong: Callable[[Map], object]) -> None:
    with Map.create(HASH) as stations, pytest.raises(ValueError, match="stations"):
        wrong(stations)


def test_iteration() -> None:
    with Map.create(HASH) as stations:
        expected = {key(i): value(i * i) for i in range(100)}
        for k, v in expected.items():
            stations.update(k, v)
        assert set(stations.keys()) == expected.keys()
        assert dict(stations.items()) == expected
        for k, _ in stations.items():
            assert stations.delete(k)
        assert list(stations.keys()) == []


@pytest.mark.parametrize("kind", [MapKind.HASH, MapKind.LRU_HASH, MapKind.ARRAY])
@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 10000])
def test_batches(kind: MapKind, count: int) -> None:
    room = max(count, 1) * (2 if kind is MapKind.LRU_HASH else 1)
    with Map.create(MapSpec("batch", kind, 4, 8, room)) as batch:
        expected = {key(i): value(i) for i in range(count)}
        assert batch.update_batch(expected.items()) == count
        found = dict(batch.lookup_batch())
        if kind is MapKind.ARRAY:
            assert len(found) == room
            assert all(found[k] == v for k, v in expected.items())
            return
        assert found == expected
        some = [key(i) for i in range(0, count + 10, 2)]
        assert batch.delete_batch(some) == (count + 1) // 2
        assert len(batch.lookup_batch()) == count // 2
        assert len(batch.take_batch()) == count // 2
        assert batch.lookup_batch() == []


def test_clear() -> None:
    with Map.create(HASH) as stations, Map.create(ARRAY) as counters:
        for i in range(4):
            stations.update(key(i), value(7))
            counters.update(key(i), value(7))
        stations.clear()
        counters.clear()
        assert len(stations) == 0
        assert [v for _, v in counters.items()] == [value(0)] * 4


@pytest.mark.parametrize("kind", [MapKind.PER_CPU_ARRAY, MapKind.PER_CPU_HASH, MapKind.LRU_PER_CPU_HASH])
def test_per_cpu_values(kind: MapKind) -> None:
    with Map.create(MapSpec("percpu", kind, 4, 12, 8)) as counters:
        values = [bytes([cpu + 1]) * 12 for cpu in range(possible_cpus())]
        counters.update_per_cpu(key(3), values)
        assert counters.lookup_per_cpu(key(3)) == values
        joined = dict(counters.lookup_batch())[key(3)]
        assert counters.split(joined) == values
        with pytest.raises(TypeError, match="per CPU"):
            counters.lookup(key(3))
        with pytest.raises(ValueError, match="percpu"):
            counters.update_per_cpu(key(3), [b"short"])


def test_longest_prefix_wins() -> None:
    spec = MapSpec("routes", MapKind.LPM_TRIE, 8, 4, 16, MapFlag.NO_PREALLOC)

    def prefix(length: int, *octets: int) -> bytes:
        return struct.pack("=I", length) + bytes(octets)

    with Map.create(spec) as routes:
        routes.update(prefix(8, 10, 0, 0, 0), key(1))
        routes.update(prefix(24, 10, 1, 2, 0), key(2))
        assert routes.lookup(prefix(32, 10, 1, 2, 3)) == key(2)
        assert routes.lookup(prefix(32, 10, 9, 2, 3)) == key(1)
        assert routes.lookup(prefix(32, 11, 1, 2, 3)) is None


@pytest.mark.parametrize(("kind", "order"), [(MapKind.QUEUE, [1, 2, 3]), (MapKind.STACK, [3, 2, 1])])
def test_queues_and_stacks(kind: MapKind, order: list[int]) -> None:
    with Map.create(MapSpec("line", kind, 0, 8, 3)) as line:
        for number in (1, 2, 3):
            line.push(value(number))
        with pytest.raises(BpfError) as full:
            line.push(value(4))
        assert full.value.errno == errno.E2BIG
        assert [line.take() for _ in order] == [value(number) for number in order]
        assert line.take() is None


def test_take_removes_from_a_hash() -> None:
    with Map.create(HASH) as stations:
        stations.update(key(1), value(5))
        assert stations.take(key(1)) == value(5)
        assert stations.take(key(1)) is None


def test_memory_is_shared_with_lookups() -> None:
    with Map.create(MapSpec("shared", MapKind.ARRAY, 4, 8, 1000, MapFlag.MMAPABLE)) as shared:
        memory = shared.mmap()
        assert len(memory) == 8000
        shared.update(key(999), value(5))
        assert memory[7992:8000] == value(5)
        memory[8:16] = value(6)
        assert shared.lookup(key(1)) == value(6)
    assert memory[8:16] == value(6)
    memory.release()


def test_mmap_needs_its_flag() -> None:
    with Map.create(ARRAY) as counters, pytest.raises(BpfError, match="MMAPABLE"):
        counters.mmap()


def test_a_frozen_map_stays_as_it_is() -> None:
    with Map.create(MapSpec("rodata", MapKind.ARRAY, 4, 8, 1, MapFlag.READ_ONLY_PROGRAM)) as constants:
        constants.update(key(0), value(1))
        constants.freeze()
        with pytest.raises(BpfError) as frozen:
            constants.update(key(0), value(2))
        assert frozen.value.errno == errno.EPERM
        assert constants.lookup(key(0)) == value(1)


def test_maps_in_maps() -> None:
    inner = MapSpec("inner", MapKind.ARRAY, 4, 8, 1)
    spec = MapSpec("outer", MapKind.HASH_OF_MAPS, 4, 4, 8, inner=inner)
    with Map.create(spec) as outer, Map.create(inner) as one:
        outer.store(key(7), one)
        assert outer.lookup(key(7)) == struct.pack("=I", one.id)
        with Map.from_id(one.id) as again:
            again.update(key(0), value(3))
        assert one.lookup(key(0)) == value(3)


def test_a_map_of_maps_needs_a_prototype() -> None:
    with pytest.raises(ValueError, match="outer"):
        MapSpec("outer", MapKind.HASH_OF_MAPS, 4, 4, 8)


def test_program_arrays_take_programs() -> None:
    spec = ProgramSpec("one", ProgramKind.SCHED_CLS, assemble(leave(1)))
    with Map.create(MapSpec("next", MapKind.PROGRAM_ARRAY, 4, 4, 4)) as following, Program.load(spec) as one:
        following.store(key(2), one)
        assert following.lookup(key(2)) == struct.pack("=I", one.id)
        assert following.delete(key(2))


def test_types_come_along() -> None:
    types = Types()
    word = types.integer("u32", 4)
    timer = types.structure("bpf_timer", 16, [("opaque", types.array(types.integer("u64", 8), word, 2), 0)])
    entry = types.structure("entry", 24, [("timer", timer, 0), ("count", word, 16)])
    spec = MapSpec("timers", MapKind.HASH, 4, 24, 4, btf=types.blob(), key_type=word, value_type=entry)
    with Map.create(spec) as timers, Map.from_id(timers.id) as seen:
        assert (seen.spec.key_type, seen.spec.value_type) == (word, entry)


def test_the_kernel_knows_the_spec() -> None:
    with Map.create(HASH) as stations, Map.from_id(stations.id) as same:
        assert same.spec == HASH
        assert same.id == stations.id


def test_a_closed_map_is_closed() -> None:
    stations = Map.create(HASH)
    stations.close()
    stations.close()
    assert stations.closed
    with pytest.raises(ValueError, match="closed"):
        _ = stations.fd
    with pytest.raises(BpfError) as closed:
        stations.lookup(key(1))
    assert closed.value.errno == errno.EBADF


def test_a_forgotten_map_is_complained_about_and_closed() -> None:
    stations = Map.create(HASH)
    with pytest.warns(ResourceWarning, match="never closed"):
        stations.__del__()
    assert stations.closed


def test_threads_do_not_mix_their_values() -> None:
    with Map.create(HASH) as stations:
        for i in range(200):
            stations.update(key(i), value(i))
        wrong: list[int] = []

        def read(start: int) -> None:
            for i in [*range(start, 200), *range(start)] * 20:
                if stations.lookup(key(i)) != value(i):
                    wrong.append(i)

        threads = [threading.Thread(target=read, args=(start,)) for start in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
