"""Time, hash and chance: virtual, and the same on every target."""
from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import SECOND, Clock, Record, hash, instant, now, random, u16, u32, u64
from iovisor.language.machine import MACHINE, Machine, boot_seed, forget, observe


class Key(Record):
    address: u32
    port: u16


class Wide(Record):
    a: u64
    b: u64


@pytest.fixture
def seed() -> Iterator[int]:
    before = MACHINE.seed
    MACHINE.seed = 0x0123456789abcdef
    yield MACHINE.seed
    MACHINE.seed = before


@pytest.fixture(autouse=True)
def _clock_runs_again() -> Iterator[None]:
    yield
    Clock.run()


def test_a_standing_clock_moves_only_when_told() -> None:
    Clock.stand(5 * SECOND)
    assert now() == now() == 5 * SECOND
    Clock.advance(3)
    assert now() == 5 * SECOND + 3
    Clock.stand((1 << 63) - 1)
    Clock.advance(1)
    assert now() == 0, "time has 63 bits"


def test_a_running_clock_jumps_and_goes_on() -> None:
    before = now()
    Clock.advance(7200 * SECOND)
    assert 7200 * SECOND <= now() - before < 7260 * SECOND
    Clock.advance(-7200 * SECOND)
    assert 0 <= now() - before < 60 * SECOND


def test_the_fine_clock_is_the_same_but_finer() -> None:
    Clock.stand(5 * SECOND)
    assert instant() == now()
    Clock.run()
    Clock.advance(7200 * SECOND)
    coarse, fine = now(), instant()
    assert coarse <= fine < coarse + 60 * SECOND
    assert len({instant() for _ in range(100)}) > 10, "it moves within a step of the coarse one"


def test_targets_are_told() -> None:
    told: list[tuple[int, int]] = []

    def listen(machine: Machine) -> None:
        told.append((machine.standing, machine.offset))

    observe(listen)
    Clock.stand(9)
    Clock.advance(1)
    Clock.run()
    forget(listen)
    Clock.stand(1)
    assert told == [(0, 0), (1, 9), (1, 10), (0, 0)]


def test_the_words_of_the_machine_stand_in_this_order() -> None:
    assert [(name, field.offset) for name, field in Machine.fields.items()] == [
        ("standing", 0), ("offset", 64), ("seed", 128), ("chance", 192)]


def test_the_hash_is_what_it_was(seed: int) -> None:
    """Vectors every target must give; a change of them is a change of the language."""
    assert [hash(), hash(0), hash(1), hash(-1), hash((1 << 64) - 1)] == VECTORS[:5]
    assert [hash(1, 2), hash(2, 1), hash(1 << 64 | 1), hash(Key(address=1, port=2)), hash(Wide(a=1, b=2), 3)] \
        == VECTORS[5:]


VECTORS = [
    0x87cbfbfe, 0x1c977b58, 0x781c1032, 0x73f5b44e, 0x73f5b44e,
    0x5e47e99a, 0xe554895c, 0x31d5ce46, 0x30f72b34, 0xa52e7c26,
]


def test_a_record_hashes_as_its_words(seed: int) -> None:
    assert hash(Wide(a=1, b=2)) == hash(1, 2)
    assert hash(Key(address=0x01020304, port=5)) == hash(5 << 32 | 0x01020304)


def test_the_hash_depends_on_the_seed(seed: int) -> None:
    here = hash(1)
    MACHINE.seed = 1
    assert hash(1) != here


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 63))
def test_every_bit_of_a_word_turns_many_of_the_hash(value: int, bit: int) -> None:
    assert (hash(value) ^ hash(value ^ 1 << bit)).bit_count() >= 3


@pytest.mark.parametrize("buckets", [16, 61, 256])
def test_the_hash_spreads(seed: int, buckets: int) -> None:
    """Addresses in a row, as hosts have them, by the top and by the bottom of the hash."""
    count = 200 * buckets
    hashes = [hash(Key(address=0x0a000000 + i, port=80)) for i in range(count)]
    for found in (Counter(h % buckets for h in hashes), Counter(h * buckets >> 32 for h in hashes)):
        excess = sum((found[b] - 200) ** 2 for b in range(buckets)) / 200
        assert excess < buckets + 5 * (2 * buckets) ** 0.5, "chi-squared, five sigma"


def test_the_seed_is_that_of_the_boot() -> None:
    program = "from iovisor.language.machine import boot_seed; print(boot_seed())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(other.stdout) == boot_seed() != 0


def test_chance_is_a_sequence_while_the_clock_stands() -> None:
    Clock.stand(0)
    first = [random() for _ in range(4)]
    Clock.stand(77)
    assert [random() for _ in range(4)] == first == SEQUENCE
    Clock.advance(1)
    assert random() not in first, "advancing does not start it again"


SEQUENCE = [0x9ca066f1, 0xd30b0542, 0xd7f15155, 0x6ae4c482]


def test_chance_is_chance_while_the_clock_runs() -> None:
    drawn = {random() for _ in range(64)}
    assert len(drawn) > 60 and all(0 <= value < 1 << 32 for value in drawn)
