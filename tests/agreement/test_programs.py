"""Random programs (programs.py) on every target that is usable here: what compiles must mean what CPython means."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from iovisor.compiler.errors import CompileError
from iovisor.testing import Arrival, Disagreement, agree
from tests.agreement.programs import program

SOME, MANY = 6, 300
BYTES = (0, 1, 0x7f, 0x80, 0xff)


def numbers(seed: int, count: int) -> Iterator[Arrival]:
    random = Random(seed)
    for _ in range(count):
        borders = random.random() < 0.5
        yield Arrival(bytes(random.choice(BYTES) if borders else random.randrange(256) for _ in range(48)))


def test_random_programs(tmp_path: Path, nightly: bool) -> None:
    for seed in range(MANY if nightly else SOME):
        kind = program(seed, tmp_path)
        try:
            agree(kind, numbers(seed, 120), every=10)
        except Disagreement as found:
            pytest.fail(f"program {seed}:\n{inspect.getsource(kind)}\n{found}")
        except CompileError as refused:         # a limit of eBPF's that only shows at the end
            assert "512 bytes of stack" in str(refused), inspect.getsource(kind)
            agree(kind, numbers(seed, 120), targets=("python", "native"), every=10)
