"""The assembler against encodings written by hand, and against the kernel."""

from __future__ import annotations

import pytest

from iovisor.kernel import Program, ProgramKind, ProgramSpec
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R6,
    R10,
    Helper,
    Label,
    add_atomically,
    assemble,
    big_endian,
    call,
    call_local,
    compute,
    jump,
    jump_if,
    leave,
    load,
    map_index,
    map_value,
    move,
    negate,
    store,
)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (move(R0, 2), "b700000002000000"),
        (move(R6, R1), "bf16000000000000"),
        (move(R0, R1, bits=32), "bc10000000000000"),
        (move(R1, 0x1122334455667788), "18010000887766550000000044332211"),
        (load(R2, R1, 4, 2), "6912040000000000"),
        (store(R10, -8, R2), "7b2af8ff00000000"),
        (store(R10, -4, 7, 4), "620afcff07000000"),
        (add_atomically(R0, 8, R1), "db10080000000000"),
        (compute(R0, "+", 1), "0700000001000000"),
        (compute(R0, "s>>", R2), "cf20000000000000"),
        (negate(R0), "8700000000000000"),
        (big_endian(R2, 16), "dc02000010000000"),
        (call(Helper.MAP_LOOKUP), "8500000001000000"),
        (map_index(R1, 3), "18510000030000000000000000000000"),
        (map_value(R1, 1, 16), "18610000010000000000000010000000"),
        (compute(R0, "&", 0xFFFF0000), "570000000000ffff"),
    ],
)
def test_an_instruction_is_encoded_as_the_manual_says(line: object, code: str) -> None:
    assert assemble(line).hex() == code  # type: ignore[arg-type]


def test_labels_count_wide_instructions_twice() -> None:
    code = assemble(jump("end"), move(R1, 1 << 40), Label("end"), leave())
    assert code[:8].hex() == "0500020000000000"


def test_backward_jumps_are_negative() -> None:
    code = assemble(Label("again"), compute(R0, "-", 1), jump_if(R0, "!=", 0, "again"), leave())
    assert code[8:16].hex() == "5500feff00000000"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((jump("nowhere"),), "nowhere"),
        ((Label("a"), Label("a")), "twice"),
        ((jump("far"), *[move(R0, 0)] * 40000, Label("far")), "too far"),
    ],
)
def test_a_wrong_label_is_refused(lines: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        assemble(*lines)  # type: ignore[arg-type]


@pytest.mark.root
def test_the_kernel_computes_what_is_written() -> None:
    code = assemble(
        move(R6, R1),
        move(R1, 20),
        call_local("double"),
        move(R3, 0x1234),
        big_endian(R3, 16),
        compute(R0, "+", R3),
        leave(),
        Label("double"),
        move(R0, R1),
        compute(R0, "*", 2),
        leave(),
    )
    with Program.load(ProgramSpec("double", ProgramKind.SCHED_CLS, code)) as program:
        assert program.test_run(bytes(64)).return_value == 40 + 0x3412


@pytest.mark.root
def test_branches_go_where_they_should() -> None:
    length = 0
    code = assemble(
        load(R2, R1, length, 4),
        jump_if(R2, ">", 100, "large"),
        leave(0),
        Label("large"),
        leave(2),
    )
    with Program.load(ProgramSpec("branch", ProgramKind.SCHED_CLS, code)) as program:
        assert program.test_run(bytes(100)).return_value == 0
        assert program.test_run(bytes(101)).return_value == 2
