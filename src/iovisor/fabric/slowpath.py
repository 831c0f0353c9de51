"""The slow path: punted packets to the functions' own Python, and frames back into the network.

Every function that punts has a ring, which the kernel fills and this reads.  The ring *is* the queue: nothing is taken
out of it before its turn, so what is too much is refused by the kernel, and counted there (`PUNT_LOST`) like any other
drop.  Rings take turns, a few records each, so a function that is flooded with punts does not starve its neighbours;
nor does one whose handlers wait: at most `AT_ONCE` of a function wait at a time, and none longer than `PATIENCE`.

`allowance` says how many packets a second may go to Python; several networks may have one together.

Who serves several networks in one event loop shares it fairly among those whose handlers are coroutines and wait:
after `SLICE` of work the loop goes on to others.  A handler that *blocks* holds up its loop, so networks of different
owners are each served in a thread of their own (`control` does so): then it holds up its own network and no other.
One that computes takes the interpreter in turns of 5 ms with the others, which slows them down and does not stop them.
One that never gives the interpreter back, or breaks the process, needs a process of its own: that boundary comes with
sandboxed workers, and until then whose code runs is a matter of trust.

A handler is a method or a coroutine, `(event, packet)`.  If it answers a packet, or several in a list, those go on
from the port it came in through, as if they came again: a handler that has learned what was missing returns the packet
it was given, one that cut it, its pieces.  What a handler raises is logged and counted; its packet is gone.  Of a
packet that a function only told of (`notify`), the handler has a copy: the packet has gone on, and what it answers goes
nowhere.

A frame that comes back has been bytes in between.  Checksums that the kernel leaves to devices ("partial") are finished
on the way, as the device would have done, and an aggregate goes back as the frames it stands for.  A record of the
ring has one of two sizes, for a single frame or for an aggregate of 64 kB, so that the many short ones find room.  Of a
frame that is longer still only the beginning comes; it is enough to learn from, but it cannot go back: one that is
returned ends here, counted as `cut`.

Whoever serves a network also calls what its functions declare with `@every`, and gives those that `@serves` a stack.
"""
from __future__ import annotations

import asyncio
import inspect
import logging
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from ..language.function import Function
from ..language.packet import Packet
from ..targets.bpf_loaded import event_was_cut, event_was_told, parse_event
from .allowance import Allowance
from .instance import Instance
from .stack import Stack

AT_ONCE = 64            # handlers of a function that wait at a time
PATIENCE = 30.0         # seconds one may take
TURN = 32               # records of one ring before the next has its turn
SLICE = 0.005           # seconds of work before the loop does something else

log = logging.getLogger(__name__)


@dataclass
class Served:
    """What the slow path has done so far.  `cut` packets were returned by a handler and could not go on."""

    events: int = 0
    failed: int = 0
    returned: int = 0
    cut: int = 0


class SlowPath:
    """Reads the rings of a network's instances; one `serve` at a time."""

    def __init__(self, instances: Callable[[], Iterable[Instance]], inject: Callable[[Packet, Instance], None]) -> None:
        self._instances, self._inject = instances, inject
        self.served, self.allowance = Served(), Allowance()
        self._failures: dict[str, int] = {}
        self._changed: asyncio.Event | None = None
        self._waits = False                             # for its allowance, though a ring has something

    def changed(self) -> None:
        """Instances came or went."""
        if self._changed is not None:
            self._changed.set()

    async def serve(self) -> None:
        """Give events to handlers and call what is due `every` so often, until cancelled."""
        if self._changed is not None:
            raise RuntimeError("the slow path of this network is served already")
        loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        tasks: dict[Instance, set[asyncio.Task[None]]] = {}
        timers: dict[Function, list[asyncio.Task[None]]] = {}
        stacks: dict[Function, Stack] = {}
        try:
            while True:
                self._changed.clear()
                instances = list(self._instances())
                self._wind(timers, instances)
                self._connect(stacks, instances)
                self._waits, busy, begun = False, False, loop.time()
                for instance in instances:
                    waiting = tasks.setdefault(instance, set())
                    for record in self._turn(instance, AT_ONCE - len(waiting)):
                        busy = True
                        self._handle(instance, record, waiting)
                        if loop.time() - begun > SLICE:
                            await asyncio.sleep(0)
                            begun = loop.time()
                if busy:
                    await asyncio.sleep(0)
                elif self._waits:
                    await asyncio.sleep(self.allowance.pause)
                else:
                    await self._readable(loop, [at for at in instances if len(tasks[at]) < AT_ONCE])
                for gone in tasks.keys() - set(self._instances()):
                    for task in tasks.pop(gone):
                        task.cancel()
        finally:
            self._changed = None
            for task in [task for groups in (tasks, timers) for group in groups.values() for task in group]:
                task.cancel()
            await asyncio.gather(*self._connect(stacks, []), return_exceptions=True)
            await asyncio.sleep(0)                              # transports give back their sockets

    def _turn(self, instance: Instance, most: int) -> Iterator[bytes]:
        """What a ring has for one turn."""
        if instance.loaded.ring is not None and instance in self._instances():
            ring = iter(instance.loaded.ring)
            for _ in range(min(TURN, most)):
                if instance.loaded.ring.pending and not self.allowance.take():
                    self._waits = True
                    return
                record = next(ring, None)
                if record is None:
                    return
                yield record
                if instance not in self._instances():
                    return

    def _wind(self, timers: dict[Function, list[asyncio.Task[None]]], instances: list[Instance]) -> None:
        """Start the timers of functions that came, stop those of functions that went."""
        present = {instance.function: instance for instance in instances}
        for gone in timers.keys() - present.keys():
            for task in timers.pop(gone):
                task.cancel()
        for function in present.keys() - timers.keys():
            timers[function] = [asyncio.create_task(self._tick(present[function], name, seconds))
                                for name, seconds in function.spec().timers.items()]

    def _connect(self, stacks: dict[Function, Stack], instances: list[Instance]) -> list[asyncio.Task[None]]:
        """Give stacks to functions that came, take them from functions that went; what ends of these."""
        present = {instance.function: instance for instance in instances if instance.function.spec().servers}
        ending: list[asyncio.Task[None]] = []
        for gone in stacks.keys() - present.keys():
            gone.stack = None
            ending += stacks.pop(gone).close()
        for function in present.keys() - stacks.keys():
            function.stack = stacks[function] = Stack(function, partial(self.failed, present[function]))
        return ending

    async def _readable(self, loop: asyncio.AbstractEventLoop, instances: list[Instance]) -> None:
        """Wait until a ring has something to read, or instances change."""
        assert self._changed is not None
        present = [instance for instance in instances if instance in self._instances()]
        for instance in present:
            instance.rest()
        rings = [instance.loaded.ring for instance in present if instance.loaded.ring is not None]
        numbers = [ring.fileno() for ring in rings]
        for number in numbers:
            loop.add_reader(number, self._changed.set)
        try:
            if not any(ring.pending for ring in rings):
                await self._changed.wait()
        finally:
            for number in numbers:
                loop.remove_reader(number)

    def _handle(self, instance: Instance, record: bytes, waiting: set[asyncio.Task[None]]) -> None:
        self.served.events += 1
        try:
            _, event, packet = parse_event(instance.function, record)
        except (IndexError, ValueError, struct.error):          # of a program that was not compiled here
            self.failed(instance)
            return
        beginning, told = packet if event_was_cut(record) else None, event_was_told(record)
        handler = instance.function.method(instance.function.spec().handlers[type(event)])
        if not inspect.iscoroutinefunction(handler):
            try:
                answer = handler(event, packet)
                self._answer(instance, None if told else answer, beginning)
            except Exception:
                self.failed(instance)
            return

        async def run() -> None:
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await handler(event, packet)
                self._answer(instance, None if told else answer, beginning)
            except Exception:
                self.failed(instance)

        def done(task: asyncio.Task[None]) -> None:
            waiting.discard(task)
            if len(waiting) == AT_ONCE - 1:
                self.changed()                              # there is room again

        task = asyncio.create_task(run())
        waiting.add(task)
        task.add_done_callback(done)

    def _answer(self, instance: Instance, answer: object, beginning: Packet | None) -> None:
        if answer is beginning and answer is not None:
            self.served.cut += 1
        elif isinstance(answer, Packet):
            self._inject(answer, instance)
            self.served.returned += 1
        elif isinstance(answer, list):
            for packet in answer:
                self._answer(instance, packet, beginning)

    def failed(self, instance: Instance) -> None:
        """Count it; log the first, the second, the fourth, the eighth: who fails at every packet fills no log."""
        self.served.failed += 1
        count = self._failures[instance.name] = self._failures.get(instance.name, 0) + 1
        if count & (count - 1) == 0:
            log.exception("a handler of %s failed (%d times)", instance.name, count)

    async def _tick(self, instance: Instance, name: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                done = instance.function.method(name)()
                if inspect.isawaitable(done):
                    await done
            except Exception:
                self.failed(instance)
            if instance in self._instances():
                instance.rest()
