"""Loops the verifier walks once: what stands in the code for the marker, and that more turns cost it nothing."""
from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from iovisor.compiler.errors import BackendError
from iovisor.compiler.may_goto import KIND, MARK, NOTHING, patched
from iovisor.targets.bpf_loaded import BpfLoaded
from tests.compiler.golden import Case, loaded

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def word(opcode: int, registers: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, registers, offset, immediate)


MARKER = (word(0x18, KIND << 4 | 3, 0, MARK), word(0))
MOVE, LOAD_64, EXIT = word(0xb7, 1, 0, 5), (word(0x18, 2, 0, 7), word(0, 0, 0, 9)), word(0x95)


def lines(*places: int) -> bytes:
    return b"".join(struct.pack("<IIII", place, 1, 2, 3) for place in places)


def test_a_jump_when_zero_becomes_the_instruction() -> None:
    code, records = patched(b"".join((MOVE, *MARKER, *LOAD_64, MOVE, word(0x15, 3, 9), EXIT)), lines(0, 3, 6))
    assert code == b"".join((MOVE, NOTHING, NOTHING, *LOAD_64, MOVE, word(0xe5, 0, 9), EXIT))
    assert records == lines(0, 3, 6)


def test_a_jump_turned_round_becomes_two_and_lines_move_along() -> None:
    code, records = patched(b"".join((MOVE, *MARKER, *LOAD_64, MOVE, word(0x55, 3, -4), EXIT)), lines(0, 3, 5, 7))
    assert code == b"".join((MOVE, NOTHING, *LOAD_64, MOVE, word(0xe5, 0, 1), word(0x05, 0, -4), EXIT))
    assert records == lines(0, 2, 4, 7)


def test_other_loads_of_16_bytes_stay() -> None:
    whole = b"".join((*LOAD_64, word(0x18, 5 << 4 | 3, 0, MARK), word(0), word(0x15, 3, 9), EXIT))
    assert patched(whole, lines(0, 2)) == (whole, lines(0, 2))


AWAY, BACK, OVER = word(0x7b, 3 << 4 | 10, -32), word(0x79, 10 << 4 | 5, -32), word(0xb4, 3, 0, 7)


def test_a_marker_that_waits_on_the_stack() -> None:
    """Its register means something else meanwhile."""
    code, _ = patched(b"".join((*MARKER, AWAY, OVER, BACK, word(0x15, 5, 9), EXIT)), b"")
    assert code == b"".join((NOTHING, NOTHING, NOTHING, OVER, NOTHING, word(0xe5, 0, 9), EXIT))


@pytest.mark.parametrize("behind", [
    (OVER, word(0x15, 3, 9), EXIT), (word(0x85, 0, 0, 1), word(0x15, 3, 9), EXIT),
    (AWAY, word(0x79, 10 << 4 | 5, -40), OVER, word(0x15, 5, 9), EXIT)])
def test_what_is_not_the_marker_any_more_is_not_taken_for_it(behind: tuple[bytes, ...]) -> None:
    with pytest.raises(BackendError, match="head of a loop"):
        patched(b"".join((*MARKER, *behind)), b"")


@pytest.mark.parametrize("behind", [(MOVE,), (word(0x05, 0, 2), word(0x15, 3, 9)), (EXIT,)])
def test_a_marker_without_its_jump_is_our_mistake(behind: tuple[bytes, ...]) -> None:
    with pytest.raises(BackendError, match="head of a loop"):
        patched(b"".join((*MARKER, *behind)), b"")


def walked(turns: int, target: str, folder: Path) -> int:
    """Instructions the verifier walked for a loop of so many turns."""
    program = f"""kept = 0
for i in range({turns}):
    part = pkt.u8(i & 7)
    if part & 1:
        kept = kept + part
    elif part == 6:
        break
    else:
        kept = kept ^ i
return forward(kept & 1)
"""
    try:
        with BpfLoaded(loaded(Case("", program, ""), folder).Case(), target) as it:
            return it.programs["ingress"].info().verified
    finally:
        sys.modules.pop("case", None)


@ROOT
@pytest.mark.parametrize("target", ["tc", "xdp"])
def test_what_a_loop_costs_to_verify_does_not_grow_with_its_turns(target: str, tmp_path: Path) -> None:
    assert walked(4_000, target, tmp_path) < 1.2 * walked(8, target, tmp_path)
