"""Generated code against C: the same function, maps and packets, one after the other in each round.

Time is CPU time of this thread over many repetitions of BPF_PROG_TEST_RUN, less that of a program that does nothing in
the same round; what is given is the median of the rounds' ratios.  Programs are measured as they run in a network
(*linked*: the verdict is a tail call), and compared beforehand as tests run them (*bare*: the verdict is returned).
"""
from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from iovisor.kernel import Program, ProgramSpec
from iovisor.language import Packet
from iovisor.language.machine import Clock
from iovisor.targets import Loaded, load
from iovisor.targets.bpf import FLOOD_SLOT
from iovisor.targets.bpf_loaded import BpfLoaded, context_map

from .cases import CASES, Case
from .handwritten import Handwritten, compiled

HOOKS = ("tc", "xdp")
REPEAT = 4000           # even: the NAT's packet is then as it was
BAR = 1.15


@dataclass(frozen=True)
class Row:
    """One case at one hook; pairs are (ours, C)."""

    case: str
    hook: str
    instructions: tuple[int, int]
    verified: tuple[int, int]
    bytes: tuple[int, int]
    stack: tuple[int, int]
    nanoseconds: tuple[float, float]
    ratio: float


def agree(case: Case, hook: str, seed: int = 1) -> int:
    """Compare Python, compiled Python and C on packets; raises on the first difference, answers how many."""
    Clock.stand(1_000_000_000_000)
    count = 0
    with load(case.make(), "python") as reference, BpfLoaded(case.make(), hook) as ours, \
            Handwritten(case.make(), hook) as theirs:
        machines: list[Loaded] = [reference, ours, theirs]  # type: ignore[list-item]
        for data, port in case.packets(random.Random(seed)):
            packets = [Packet(data, port) for _ in machines]
            verdicts = [m.run(p) for m, p in zip(machines, packets, strict=True)]
            leaves = [bytes(p) if v.kind else b"" for p, v in zip(packets, verdicts, strict=True)]
            if len(set(verdicts)) > 1 or len(set(leaves)) > 1:
                raise AssertionError(f"{case.name} at {hook}: {data.hex()} through {port}: {verdicts}\n"
                                     + "\n".join(leaf.hex() for leaf in leaves))
            Clock.advance(random.Random(count).randrange(10_000_000))
            count += 1
        states = [_state(m) for m in machines]
        if not states[0] == states[1] == states[2]:
            raise AssertionError(f"{case.name} at {hook}: tables or drops differ:\n" + "\n".join(map(str, states)))
    Clock.run()
    return count


def _state(machine: Loaded) -> object:
    function, drops = machine.function, machine.drops
    tables = {name: sorted(str(item) for item in function.tables[name].items()) for name in function.spec().tables}
    return tables, drops


def stack(code: bytes) -> int:
    """Bytes of stack, from the lowest offset of the frame pointer."""
    lowest = 0
    for at in range(0, len(code), 8):
        kind, registers = code[at], code[at + 1]
        offset = int.from_bytes(code[at + 2:at + 4], "little", signed=True)
        value = int.from_bytes(code[at + 4:at + 8], "little", signed=True)
        if (kind & 7 in (2, 3) and registers & 15 == 10) or (kind & 7 == 1 and registers >> 4 == 10):
            lowest = min(lowest, offset)
        if kind == 0x07 and -512 <= value < 0 and code[at - 7] == registers & 15 | 0xa0:
            lowest = min(lowest, value)
    return -lowest


def end(hook: str) -> Program:
    code, names = compiled("end", hook)
    kind = BpfLoaded.__init__.__globals__["KINDS"][hook]
    return Program.load(ProgramSpec("end", kind[1], code, "Dual BSD/GPL", expected_attach_type=kind[2]),
                        [context_map() for _ in names])


@contextmanager
def linked(case: Case, hook: str, family: type[BpfLoaded], last: Program) -> Iterator[BpfLoaded]:
    """An instance whose every port leads to `last`."""
    with family(case.make(), hook, bare=False) as machine:
        for slot in (0, 1, FLOOD_SLOT):
            machine.slots.store(slot.to_bytes(4, "little"), last)
        yield machine


def measure(rounds: int = 41) -> list[Row]:
    """Every case at every hook."""
    rows = []
    for hook in HOOKS:
        with ExitStack() as stack_of, end(hook) as last:
            pairs = [(case, stack_of.enter_context(linked(case, hook, BpfLoaded, last)),
                      stack_of.enter_context(linked(case, hook, Handwritten, last))) for case in CASES]
            times: dict[tuple[int, int], list[float]] = {}
            chance = random.Random(0)
            for _ in range(rounds):
                for number in chance.sample(range(len(pairs)), len(pairs)):
                    case, ours, theirs = pairs[number]
                    programs = [last, ours.programs["ingress"], theirs.programs["ingress"]]
                    for which in chance.sample(range(3), 3):
                        times.setdefault((number, which), []).append(_nanoseconds(programs[which], case.frame, hook))
            for number, (case, ours, theirs) in enumerate(pairs):
                net = [[t - base for t, base in zip(times[number, w], times[number, 0], strict=True)] for w in (1, 2)]
                ratio = median(a / b for a, b in zip(*net, strict=True))
                infos = [m.programs["ingress"].info() for m in (ours, theirs)]
                codes = [ours.compiled["ingress"].image.code, compiled(re.split(r"\W", case.name)[0], hook)[0]]
                rows.append(Row(case.name, hook, (len(codes[0]) // 8, len(codes[1]) // 8),
                                (infos[0].instructions, infos[1].instructions),
                                (infos[0].compiled_length, infos[1].compiled_length),
                                (stack(codes[0]), stack(codes[1])), (median(net[0]), median(net[1])), ratio))
    return rows


def _nanoseconds(program: Program, frame: bytes, hook: str) -> float:
    context = bytes(192) if hook == "tc" else b""
    begun = time.thread_time_ns()
    program.test_run(frame, context, REPEAT)
    return (time.thread_time_ns() - begun) / REPEAT
