"""One random program on every machine: the same verdicts, bytes, metadata, tables and drops, or a refusal.

What counts as a failure: any exception that is not a `CompileError` out of the compiler, a program that one target
accepts and another refuses, a rejection by the verifier, anything CPython raises in an accepted program, and of course
a difference.  Every failure is an `AssertionError` that begins with the seed and ends with the program.

    python -m tests.compiler.agreement 0 2000       # a range of seeds, failures as they come
"""
from __future__ import annotations

import importlib.util
import linecache
import os
import sys
import traceback
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from iovisor.compiler import driver, source
from iovisor.compiler.errors import CompileError, VerifierRefused
from iovisor.language import Clock, Packet
from iovisor.language.function import Function
from iovisor.language.tables import Table
from iovisor.language.verdicts import DROP_KIND
from iovisor.targets import load

from .programs import frames, generate

KERNEL = ("native", "tc", "xdp")
TOO_MUCH = "more states than the verifier walks"         # no bug of one line; few programs may be so
START, STEP = 10**15, 10**9


def imported(path: Path) -> ModuleType:
    """A module from a file, under a name of its own; `forget` when done."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    return module


def forget(module: ModuleType) -> None:
    """Let go of everything that remembers a module, or two thousand of them stay."""
    sys.modules.pop(module.__name__, None)
    linecache.cache.pop(str(module.__file__), None)
    Function._specs.pop(module.Program, None)
    for key in [key for key in source._cache if key[0] == module.__file__]:
        del source._cache[key]


def contents(function: Function) -> dict[str, Any]:
    """All tables as plain data."""
    def plain(table: Table[Any, Any]) -> dict[str, Any]:
        return {repr(k): plain(v) if isinstance(v, Table) else repr(v) for k, v in table.items()}
    return {name: plain(table) for name, table in function.tables.items()}


def behaviour(module: ModuleType, target: str, packets: list[tuple[bytes, int]]) -> list[Any]:
    """What a program does with packets on one target, then its drops and tables."""
    seen: list[Any] = []
    Clock.stand(START)
    function = module.Program()
    module.fill(function)
    with load(function, target) as loaded:
        for number, (frame, port) in enumerate(packets):
            Clock.stand(START + number * STEP)
            packet = Packet(frame, port)
            packet.metadata[module.Meta] = module.Meta(m0=number, m1=7, m2=1 << 30)
            verdict = loaded.run(packet)
            if verdict.kind == DROP_KIND:
                seen.append(("drop", verdict.argument))
            else:
                seen.append((repr(verdict), verdict.argument, bytes(packet).hex(), repr(packet.metadata[module.Meta])))
        seen.append(loaded.drops)
        seen.append(contents(function))
    return seen


def run(seed: int, folder: Path, targets: tuple[str, ...] = KERNEL, packets: int = 6) -> str:
    """"" if the program was accepted and agrees everywhere, else why it was refused."""
    text = generate(seed)
    path = folder / f"random_{seed}.py"
    path.write_text(text)
    module = imported(path)
    try:
        return compared(seed, module, targets, frames(seed, packets))
    except CompileError as error:
        raise AssertionError(f"program {seed}: refused on a target only: {error!r}\n{text}") from error
    except AssertionError as error:
        raise AssertionError(f"program {seed}: {error}\n{text}") from None
    except Exception as error:
        raise AssertionError(f"program {seed}: {traceback.format_exc()}\n{text}") from error
    finally:
        forget(module)
        Clock.run()


def compared(seed: int, module: ModuleType, targets: tuple[str, ...], packets: list[tuple[bytes, int]]) -> str:
    try:
        driver.analyse(module.Program)
    except CompileError as error:
        return str(error.msg)
    expected = behaviour(module, "python", packets)
    for target in targets:
        try:
            found = behaviour(module, target, packets)
        except VerifierRefused as refused:
            if "too large" in refused.log or "too complex" in refused.log:
                return TOO_MUCH
            where = f"{target}: line {refused.lineno}: {refused.text}"
            raise AssertionError(f"{where}{refused.msg}\n{refused.log[-1500:]}") from None
        except CompileError as refused:
            if "512 bytes of stack" in str(refused.msg):
                return str(refused.msg)
            raise
        for number, (want, got) in enumerate(zip(expected, found, strict=True)):
            assert got == want, f"{target}: packet {number} {packets[number] if number < len(packets) else ''}\n" \
                f"  want {want}\n  got  {got}"
    return ""


def main(first: int, last: int) -> None:
    """A range of seeds: failures as they come, then how many were accepted and why the others were not."""
    os.sched_setaffinity(0, {first % (os.cpu_count() or 1)})
    reasons: Counter[str] = Counter()
    failures = []
    with TemporaryDirectory() as folder:
        for seed in range(first, last):
            try:
                reasons[run(seed, Path(folder))] += 1
            except AssertionError as error:
                failures.append(seed)
                print(error, flush=True)
    print("failures", failures)
    print(f"accepted {reasons['']} of {last - first}")
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
