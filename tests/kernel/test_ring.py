"""Ring buffers: records in order, discarded ones skipped, the wrap, the waking."""

from __future__ import annotations

import asyncio
import mmap
import struct
from collections.abc import Iterator

import pytest

from iovisor.kernel import (
    Map,
    MapKind,
    MapSpec,
    Program,
    ProgramKind,
    ProgramSpec,
    RingBuffer,
    SocketBuffer,
    ring_spec,
)
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R10,
    Helper,
    Label,
    assemble,
    call,
    compute,
    jump_if,
    leave,
    load,
    map_index,
    move,
    store,
)

pytestmark = pytest.mark.root

Pair = tuple[Program, RingBuffer]

MARK = 8
# Sends the packet's mark in a record of 12 bytes; with an odd mark it first reserves and discards another.
PRODUCER = assemble(
    move(R6, R1),
    load(R7, R6, MARK, 4),
    move(R2, R7),
    compute(R2, "&", 1),
    jump_if(R2, "==", 0, "send"),
    map_index(R1, 0),
    move(R2, 100),
    move(R3, 0),
    call(Helper.RING_RESERVE),
    jump_if(R0, "==", 0, "send"),
    move(R1, R0),
    move(R2, 0),
    call(Helper.RING_DISCARD),
    Label("send"),
    store(R10, -16, R7),
    store(R10, -8, 0),
    map_index(R1, 0),
    move(R2, R10),
    compute(R2, "+", -16),
    move(R3, 12),
    move(R4, 0),
    call(Helper.RING_OUTPUT),
    leave(),
)


def produce(program: Program, number: int) -> int:
    return program.test_run(bytes(64), bytes(SocketBuffer(mark=number))).return_value


@pytest.fixture
def ring() -> Iterator[Pair]:
    with Map.create(ring_spec("events", mmap.PAGESIZE)) as events:
        with Program.load(ProgramSpec("produce", ProgramKind.SCHED_CLS, PRODUCER), [events]) as program:
            with RingBuffer(events) as consumer:
                yield program, consumer


def test_records_come_in_order(ring: Pair) -> None:
    program, consumer = ring
    assert list(consumer) == []
    for number in range(20):
        assert produce(program, number) == 0
    assert consumer.pending > 0
    assert [struct.unpack("=QI", record)[0] for record in consumer] == list(range(20))
    assert consumer.pending == 0


def test_it_wraps_around(ring: Pair) -> None:
    program, consumer = ring
    for round_ in range(100):
        for number in range(10):
            produce(program, round_ * 10 + number)
        assert [struct.unpack("=QI", record)[0] for record in consumer] == [
            round_ * 10 + n for n in range(10)
        ]


def test_a_full_ring_refuses_and_recovers(ring: Pair) -> None:
    program, consumer = ring
    outcomes = [produce(program, 2) for _ in range(400)]
    assert outcomes[-1] == -11
    accepted = outcomes.count(0)
    assert len(list(consumer)) == accepted
    assert produce(program, 2) == 0
    assert len(list(consumer)) == 1


def test_stopping_early_loses_nothing(ring: Pair) -> None:
    program, consumer = ring
    for number in range(6):
        produce(program, number)
    for record in consumer:
        if record[0] == 2:
            break
    assert [record[0] for record in consumer] == [3, 4, 5]


def test_waiting(ring: Pair) -> None:
    program, consumer = ring
    assert not consumer.wait(0)
    produce(program, 4)
    assert consumer.wait(1)
    assert len(list(consumer)) == 1
    assert not consumer.wait(0)


def test_asyncio_is_woken(ring: Pair) -> None:
    program, consumer = ring

    async def listen() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        done = loop.create_future()

        def ready() -> None:
            seen.extend(record[0] for record in consumer)
            if len(seen) == 2:
                done.set_result(None)

        loop.add_reader(consumer.fileno(), ready)
        loop.call_later(0.01, produce, program, 7)
        loop.call_later(0.02, produce, program, 8)
        await asyncio.wait_for(done, 2)
        loop.remove_reader(consumer.fileno())
        return seen

    assert asyncio.run(listen()) == [7, 8]


def test_sizes_are_powers_of_two() -> None:
    for size in (100, mmap.PAGESIZE * 3):
        with pytest.raises(ValueError, match="power of two"):
            ring_spec("odd", size)


def test_only_a_ring_is_a_ring() -> None:
    with (
        Map.create(MapSpec("array", MapKind.ARRAY, 4, 4, 1)) as array,
        pytest.raises(TypeError, match="no ring"),
    ):
        RingBuffer(array)
