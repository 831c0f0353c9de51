"""A shelf: what was committed is there, whatever happens to who wrote it."""
from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iovisor.store import Shelf, StoreError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "far/entries.db"


def test_an_empty_one_is_no_file(path: Path) -> None:
    shelf = Shelf(path)
    assert (shelf.places(), shelf.entries("a")) == ({}, {})
    shelf.close()
    assert not path.parent.exists()


def test_the_newest_of_each(path: Path) -> None:
    shelf = Shelf(path)
    shelf.commit([("a", b"1", b"one"), ("a", b"2", b"two"), ("b", b"1", b"other")], {"a": "A", "b": "B"})
    shelf.commit([("a", b"1", b"uno"), ("a", b"2", None), ("a", b"3", None)])
    assert shelf.entries("a") == {b"1": b"uno"} and shelf.entries("b") == {b"1": b"other"}
    shelf.close()
    assert shelf.entries("a") == {b"1": b"uno"} and shelf.places() == {"a": "A", "b": "B"}
    shelf.commit([("b", b"2", b"zwei")], {"b": "C"}, ["a", "b"])
    assert shelf.places() == {"b": "C"} and shelf.entries("a") == {} and shelf.entries("b") == {b"2": b"zwei"}
    shelf.close()


def test_all_or_nothing(path: Path) -> None:
    shelf = Shelf(path)
    shelf.commit([("a", b"1", b"one")], {"a": "A"})
    with pytest.raises(StoreError):
        shelf.commit([("a", b"2", b"two"), ("a", object(), b"")], {}, ["a"])       # type: ignore[list-item]
    assert shelf.entries("a") == {b"1": b"one"} and shelf.places() == {"a": "A"}
    shelf.close()
    path.write_bytes(b"this is no database, and is long enough to be seen as none" * 20)
    with pytest.raises(StoreError, match="cannot be used"):
        shelf.places()


def test_killed_in_the_middle_of_commits(path: Path, nightly: bool) -> None:
    """What was acknowledged is there, and nothing by half: every batch writes twenty entries and their count."""
    code = ("import sys; from iovisor.store import Shelf\nshelf = Shelf(sys.argv[1])\n"
            "while True:\n    number = int(shelf.places().get('a', 0)) + 1\n"
            "    shelf.commit([('a', b'%d' % n, b'%d' % number) for n in range(20)], {'a': str(number)})\n"
            "    print(number, flush=True)")
    acknowledged, luck = 0, random.Random(5)
    for _ in range(100 if nightly else 6):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT / "src", stdout=subprocess.PIPE,
                              text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(luck.uniform(0, 0.03))
            process.kill()
            acknowledged = int([line for line in (said, *process.stdout) if line.endswith("\n")][-1])
        shelf = Shelf(path)
        number = int(shelf.places()["a"])
        assert number in (acknowledged, acknowledged + 1)
        assert set(shelf.entries("a").values()) == {b"%d" % number} and len(shelf.entries("a")) == 20
        shelf.close()
    assert acknowledged >= 6
