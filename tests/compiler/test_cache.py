"""Images kept by content: what finds them again, and everything that must not."""
from __future__ import annotations

import builtins
import importlib.util
import linecache
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from iovisor.compiler.cache import Cache
from iovisor.compiler.driver import compile
from iovisor.language import Function
from iovisor.targets.native import Native

KIND = """
    from iovisor.language import *
    import cached_helper
    from cached_helper import scaled

    OFFSET = 7

    class Entry(Record):
        port: u16

    class Kept(Function):
        entries: Hash[u32, Entry] = table(16)

        def ingress(self, pkt: Packet) -> Verdict:
            entry = self.entries.get(1)
            if entry is not None:
                return forward(entry.port)
            return forward(scaled(pkt.port) + OFFSET)
"""
HELPER = """
    from iovisor.language import *

    @inline
    def scaled(value: u16) -> int:
        return value * 3
"""


def write(folder: Path, name: str, text: str) -> None:
    """A new version of a module's file; its time moves, as an editor's save would."""
    path = folder / f"{name}.py"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(textwrap.dedent(text))
    if before:
        os.utime(path, ns=(before + 10**9, before + 10**9))


def fresh(folder: Path, name: str) -> ModuleType:
    """The module as a new process would see it."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(builtins.compile((folder / f"{name}.py").read_text(), str(folder / f"{name}.py"), "exec"), vars(module))
    linecache.checkcache(str(folder / f"{name}.py"))
    return module


def kind(folder: Path) -> type[Function]:
    fresh(folder, "cached_helper")
    found: type[Function] = fresh(folder, "cached_kind").Kept
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write(tmp_path, "cached_helper", HELPER)
    write(tmp_path, "cached_kind", KIND)
    yield tmp_path
    for name in ("cached_helper", "cached_kind"):
        sys.modules.pop(name, None)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "images")


def test_the_second_time_nothing_is_compiled(folder: Path, cache: Cache) -> None:
    first = compile(kind(folder), Native(), cache=cache)
    second = compile(kind(folder), Native(), cache=cache)
    assert not first.cached and second.cached
    assert second.image == first.image
    assert second.timing.llvm == second.timing.frontend == 0 < second.timing.cache


@pytest.mark.parametrize(("module", "old", "new"), [
    ("cached_helper", "value * 3", "value * 5"),
    ("cached_kind", "pkt.port)", "pkt.port & 3)"),
    ("cached_kind", "OFFSET = 7", "OFFSET = 9"),
    ("cached_kind", "port: u16", "port: u32"),
    ("cached_kind", "table(16)", "table(32)"),
], ids=["reached helper", "own text", "constant", "layout", "declaration"])
def test_a_change_is_noticed(folder: Path, cache: Cache, module: str, old: str, new: str) -> None:
    before = compile(kind(folder), Native(), cache=cache)
    write(folder, module, (HELPER if module == "cached_helper" else KIND).replace(old, new))
    after = compile(kind(folder), Native(), cache=cache)
    assert not before.cached and not after.cached
    assert compile(kind(folder), Native(), cache=cache).cached


def test_a_constant_changed_from_outside_is_noticed(folder: Path, cache: Cache) -> None:
    """The file is the same; the module's value is not."""
    compile(kind(folder), Native(), cache=cache)
    again = kind(folder)
    sys.modules["cached_kind"].OFFSET = 11          # type: ignore[attr-defined]
    assert not compile(again, Native(), cache=cache).cached


def test_targets_and_levels_are_apart(folder: Path, cache: Cache) -> None:
    class Other(Native):
        name = "other"

    assert not compile(kind(folder), Native(level=2), cache=cache).cached
    assert not compile(kind(folder), Native(level=1), cache=cache).cached
    assert not compile(kind(folder), Other(level=2), cache=cache).cached
    assert compile(kind(folder), Native(level=1), cache=cache).cached


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {}, "constants": {}, "image": {"code": "#"}}'])
def test_a_broken_entry_counts_as_absent(folder: Path, cache: Cache, text: str) -> None:
    compile(kind(folder), Native(), cache=cache)
    [path] = entries(cache)
    path.write_text(text)
    assert cache.find(kind(folder), "ingress", Native()) is None
    assert not path.exists()
    assert not compile(kind(folder), Native(), cache=cache).cached


def test_closures_are_not_kept(cache: Cache) -> None:
    from iovisor.language import Packet, Verdict, forward

    def made(number: int) -> type[Function]:
        class Closed(Function):
            def ingress(self, pkt: Packet) -> Verdict:
                return forward(number)
        return Closed

    one, two = (compile(made(n), Native(), cache=cache) for n in (1, 2))
    assert not one.cached and not two.cached and one.image.code != two.image.code
    assert entries(cache) == []


def test_writers_do_not_disturb_each_other(folder: Path, cache: Cache) -> None:
    """Many store and look at once: everybody finds a whole image, and nothing but whole entries is left."""
    image = compile(kind(folder), Native(), cache=cache).image
    from iovisor.compiler.cache import Dependencies
    from iovisor.compiler.driver import analyse
    again = kind(folder)
    made_of = Dependencies.of(analyse(again)[1])

    def work(_: int) -> bool:
        cache.keep(again, "ingress", Native(), image, made_of)
        return cache.find(again, "ingress", Native()) == image

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert len(entries(cache)) == 1


def test_another_process_finds_it(folder: Path, cache: Cache) -> None:
    program = ("import sys; sys.path.insert(0, sys.argv[1]); from cached_kind import Kept; "
               "from iovisor.compiler.cache import Cache; from iovisor.compiler.driver import compile; "
               "from iovisor.targets.native import Native; "
               "print(compile(Kept, Native(), cache=Cache(sys.argv[2])).cached)")
    command = [sys.executable, "-c", program, str(folder), str(cache.root)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert said == ["False", "True"]
