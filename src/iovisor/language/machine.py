"""The three things a program may ask of the machine it runs on: the time, a hash, and chance.

All three are *virtual*.  The clock is coarse (CLOCK_MONOTONIC_COARSE, some 20 ns to read instead of 38) plus an
offset that tests and labs move, or a standing value: a two-hour timer is tested in a second, on every target.  Who
measures rates or delays asks the fine one, `instant`, which has the same offset and stands when the other stands.  The
hash is seeded per boot and the same everywhere, so that CPython, native code and the kernel choose the same bucket.
Chance is the kernel's generator; while the clock stands still it is a counted sequence, so that targets can agree.

Every target keeps the same four words (`Machine`), in this order, in memory its programs read directly.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .integers import u64
from .layout import Layout, Record

MASK64 = (1 << 64) - 1


class Machine(Record):
    """The words a target's programs read: see the module's essay."""

    standing: u64 = 0       # 1: the clock stands at `offset`
    offset: u64 = 0         # nanoseconds added to the coarse clock, or the time itself
    seed: u64 = 0           # of `hash`
    chance: u64 = 0         # state of `random` while the clock stands


def mix(state: int, word: int) -> int:
    """One step of `hash`, on 64 bits."""
    state = (state ^ word) * 0x9e3779b97f4a7c15 & MASK64
    return state ^ state >> 32


def finish(state: int) -> int:
    """The last step of `hash`: the finaliser of MurmurHash3, 32 of its bits."""
    state = (state ^ state >> 33) * 0xff51afd7ed558ccd & MASK64
    state = (state ^ state >> 33) * 0xc4ceb9fe1a85ec53 & MASK64
    return state >> 32


def boot_seed() -> int:
    """64 bits that change with every boot, and are the same for every process of one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            identity = int(file.read().replace("-", ""), 16)
    except OSError:
        identity = 0
    return mix(mix(0, identity & MASK64), identity >> 64)


MACHINE = Machine(seed=boot_seed())
_listeners: list[Callable[[Machine], None]] = []


def observe(listener: Callable[[Machine], None]) -> None:
    """Call `listener` now and whenever the clock is moved or the seed changes: targets keep their copy so."""
    _listeners.append(listener)
    listener(MACHINE)


def forget(listener: Callable[[Machine], None]) -> None:
    """The opposite of `observe`."""
    _listeners.remove(listener)


def _tell() -> None:
    for listener in _listeners:
        listener(MACHINE)


@contextmanager
def instead(other: Machine) -> Iterator[None]:
    """Let the Python of this process see another machine meanwhile; no target is told."""
    global MACHINE
    usual, MACHINE = MACHINE, other
    try:
        yield
    finally:
        MACHINE = usual


class Clock:
    """Moves the time of every target at once."""

    @staticmethod
    def stand(at: int) -> None:
        """Stop the clock at `at` nanoseconds; `random` becomes a sequence from zero."""
        MACHINE.standing, MACHINE.offset, MACHINE.chance = 1, at, 0
        _tell()

    @staticmethod
    def advance(nanoseconds: int) -> None:
        """Move on: a standing clock steps, a running one jumps."""
        MACHINE.offset = MACHINE.offset + nanoseconds
        _tell()

    @staticmethod
    def run() -> None:
        """Back to the machine's own time."""
        MACHINE.standing, MACHINE.offset = 0, 0
        _tell()


def coarse() -> int:
    """The machine's coarse clock, nanoseconds since boot without suspend."""
    clock = getattr(time, "CLOCK_MONOTONIC_COARSE", 6)
    try:
        return time.clock_gettime_ns(clock)
    except (AttributeError, OSError):
        return time.monotonic_ns()


def now() -> int:
    """Nanoseconds, 63 bits, coarse (4 ms steps on a 250 Hz kernel)."""
    return (MACHINE.offset if MACHINE.standing else coarse() + MACHINE.offset) & (1 << 63) - 1


def instant() -> int:
    """Nanoseconds, 63 bits, as fine as the machine's clock is; up to a step of the coarse one ahead of `now`."""
    return (MACHINE.offset if MACHINE.standing else time.monotonic_ns() + MACHINE.offset) & (1 << 63) - 1


def words(value: int | Layout) -> list[int]:
    """The 64-bit words `hash` mixes: an integer is one (two beyond 64 bits), a record its bytes."""
    if isinstance(value, Layout):
        data = bytes(value)
        return [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8)]
    return [value & MASK64] if -1 << 63 <= value <= MASK64 else [value & MASK64, value >> 64 & MASK64]


def hash(*values: int | Layout) -> int:
    """32 well-mixed bits of integers and records, seeded per boot, the same on every target."""
    state = MACHINE.seed
    for value in values:
        for word in words(value):
            state = mix(state, word)
    return finish(state)


def random() -> int:
    """32 bits of chance.  While the clock stands still: the next of a fixed sequence."""
    if not MACHINE.standing:
        import secrets
        return secrets.randbits(32)
    MACHINE.chance = MACHINE.chance + 0x9e3779b97f4a7c15
    return finish(MACHINE.chance)
