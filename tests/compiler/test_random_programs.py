"""Random programs mean the same on every machine, or are refused.

A failure prints the seed and the program.  `python -m tests.compiler.agreement 17 18` runs one again.
"""
from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agreement import KERNEL, TOO_MUCH, run
from .programs import generate

CHUNK, CHUNKS, SECONDS = 50, 40, 4.5           # of nightly runs: 2,000 programs; of others: as many as fit


@pytest.fixture(scope="module", autouse=True)
def one_processor() -> Iterator[None]:
    """Per-CPU tables are compared by what one CPU wrote."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def several(seeds: range, folder: Path, targets: tuple[str, ...], seconds: float) -> None:
    """Run programs until the time is over; most must be accepted."""
    reasons: Counter[str] = Counter()
    end = time.monotonic() + seconds
    for seed in seeds:
        reasons[run(seed, folder, targets)] += 1
        if time.monotonic() > end:
            break
    done = sum(reasons.values())
    assert done < 20 or reasons[""] > 0.6 * done, reasons
    assert reasons[TOO_MUCH] <= max(2, done // 20), reasons


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(12))
def test_every_machine_agrees(chunk: int, tmp_path: Path, nightly: bool) -> None:
    if nightly:
        pytest.skip("the nightly run has these and more")
    several(range(chunk * CHUNK, (chunk + 1) * CHUNK), tmp_path, KERNEL, SECONDS)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_two_thousand(chunk: int, tmp_path: Path, nightly: bool) -> None:
    if not nightly:
        pytest.skip("nightly")
    several(range(chunk * CHUNK, (chunk + 1) * CHUNK), tmp_path, KERNEL, 1e9)


def test_native_code_agrees(tmp_path: Path) -> None:
    """The part that needs no root."""
    several(range(10_000, 10_050), tmp_path, ("native",), 5)


def test_a_seed_is_a_program() -> None:
    assert generate(7) == generate(7) != generate(8)
