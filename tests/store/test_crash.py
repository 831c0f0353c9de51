"""A process is killed while it writes: what was acknowledged is there, and nothing is there by half."""
from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.store.stores import STORES

ROOT = Path(__file__).parents[2]


def test_killed_in_the_middle_of_transactions(kind: str, tmp_path: Path, nightly: bool) -> None:
    acknowledged, luck = 0, random.Random(1)
    for _ in range(200 if nightly else 8):
        with subprocess.Popen([sys.executable, "-m", "tests.store.writer", kind, str(tmp_path)], cwd=ROOT,
                              stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(luck.uniform(0, 0.03))
            process.kill()
            lines = [line for line in (said, *process.stdout) if line.endswith("\n")]
        acknowledged = int(lines[-1])
        with contextlib.closing(STORES[kind](tmp_path)) as store:
            assert store.revision in (acknowledged, acknowledged + 1)
            values = {entry.value for entry in store.range("k").entries}
            assert values == {b"%d" % store.revision + bytes(2000)}
            assert len(store.range("k").entries) == 20
    assert acknowledged > 8
