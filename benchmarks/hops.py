"""What a hop costs: a walk through a chain of trivial functions of two ports, and through the same by hand in C.

Both do the same at each function: the port, a count of packets and bytes as received and as sent, per CPU, a hop limit,
and a tail call at a constant index; `c/hop.c` is what a C programmer would write for a chain that never changes.  Ours
are functions and the programs between them, made by the fabric, and may be rewired one by one.

Walks are measured by BPF_PROG_TEST_RUN, lengths and kinds in turns; a hop is the slope over the lengths up to eight:
longer walks outgrow what the CPU remembers of jumps.  Fourteen functions are the most that one walk takes; a longer one
goes once around, which a test run does not follow.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from statistics import linear_regression, median

from iovisor.fabric import Network
from iovisor.kernel import (
    AttachType,
    Map,
    MapKind,
    MapSpec,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
)

from .cases import UDP, datagram
from .handwritten import compiled
from .provisioning import Through

BAR = 1.2
LENGTHS = (1, 2, 4, 8, 14)
REPEAT = 50_000
OUT = (1).to_bytes(4, "little")
_CONTEXT = bytes(192)


def _end() -> Program:
    """Where every chain ends: the port is put back, for the next run."""
    code, names = compiled("end", "tc")
    assert not names
    return Program.load(ProgramSpec("end", ProgramKind.SCHED_CLS, code, "Dual BSD/GPL",
                                    expected_attach_type=AttachType.TCX_INGRESS))


@contextmanager
def ours(length: int, end: Program) -> Iterator[Program]:
    """The first of a chain of functions, linked by the fabric."""
    with NetworkNamespace.create() as switching, Network("chain", namespace=switching) as net:
        chain = [net.add(f"f{number}", Through()) for number in range(length)]
        for one, other in pairwise(chain):
            net.link(f"{one.name}:outside", f"{other.name}:inside")
        last = chain[-1].exit(1)
        last.array.store(last.slot.to_bytes(4, "little"), end)
        with Program.from_id(chain[0].behind(chain[0].door("ingress"))) as first:
            yield first


@contextmanager
def handwritten(length: int, end: Program) -> Iterator[Program]:
    """The first of a chain in C."""
    code, names = compiled("hop", "tc")
    with ExitStack() as undo:
        chain = []
        for _ in range(length):
            maps = {"counts": MapSpec("counts", MapKind.PER_CPU_ARRAY, 4, 64, 1),
                    "@drops": MapSpec("drops", MapKind.PER_CPU_ARRAY, 4, 2048, 1),
                    "@next": MapSpec("next", MapKind.PROGRAM_ARRAY, 4, 4, 2)}
            made = {name: undo.enter_context(Map.create(spec)) for name, spec in maps.items()}
            chain.append((undo.enter_context(Program.load(
                ProgramSpec("hop", ProgramKind.SCHED_CLS, code, "Dual BSD/GPL",
                            expected_attach_type=AttachType.TCX_INGRESS), [made[name] for name in names])), made))
        for (_, made), (program, _) in zip(chain, [*chain[1:], (end, {})], strict=True):
            made["@next"].store(OUT, program)
        yield chain[0][0]


def measure(rounds: int = 21) -> dict[str, float]:
    """`ours` and `c`, nanoseconds a hop; `ratio`; and the whole walks, `ours 14`, `c 14`."""
    found: dict[tuple[str, int], list[float]] = {}
    frame = datagram(UDP)
    with ExitStack() as undo:
        end = undo.enter_context(_end())
        ways = {(name, length): undo.enter_context(make(length, end))
                for name, make in (("ours", ours), ("c", handwritten)) for length in LENGTHS}
        for number in range(rounds + 1):
            for way in random.Random(number).sample(list(ways), len(ways)):
                ran = ways[way].test_run(frame, _CONTEXT, REPEAT)
                if ran.return_value != 2:
                    raise RuntimeError(f"a walk of {way} ended with {ran.return_value}")
                if number:                          # the first warms up
                    found.setdefault(way, []).append(ran.duration_ns)
    middle = {way: median(values) for way, values in found.items()}
    short = [length for length in LENGTHS if length <= 8]
    slopes = {name: linear_regression(short, [middle[name, length] for length in short]).slope
              for name in ("ours", "c")}
    whole = {f"{name} {length}": value for (name, length), value in middle.items()}
    return slopes | {"ratio": slopes["ours"] / slopes["c"]} | whole


if __name__ == "__main__":
    print({name: round(value, 2) for name, value in measure().items()})
