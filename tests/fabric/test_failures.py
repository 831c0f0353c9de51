"""What cannot be made leaves everything as it was: the n-th word with the kernel fails, for every n.

A word is a bpf(2) or a request to rtnetlink.  It is not carried out, the others are.  After the failure no program,
map, link, descriptor, device or pin is there that was not before, packets pass, and the same change succeeds.  What
fails when packets go the new way already (the last copy of a table that was converted, the end of a revision) stands,
whole.  Some failures do no harm: a program is loaded again, a table read another way.
"""
from __future__ import annotations

import ctypes
import errno
import gc
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from iovisor.fabric import Network, Veth
from iovisor.fabric.devices import FIRST_INDEX, INDEXES
from iovisor.functions.switch import Switch
from iovisor.kernel import KernelError, Netlink, btf, filesystem, interfaces, maps, programs, syscall
from iovisor.kernel.descriptor import identifier_of
from iovisor.kernel.errors import NetlinkError
from iovisor.kernel.netlink import Request
from iovisor.kernel.syscall import Command
from tests.fabric.functions import Gate, Learner, Through, ThroughAgain
from tests.fabric.hosts import Host, Place
from tests.fabric.versions import Keeper, Keeper2
from tests.leaks import KINDS, MADE, objects, open_descriptors
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ERRORS = errno.ENOMEM, errno.EMFILE, errno.ENOSPC
ROOM = f"failing-{os.getpid()}"
SAMPLE = 5                      # failures of each change that are tried when time is short
# Only look, or give back: no memory and no descriptor is needed for them.
SAFE = {Command.OBJ_GET_INFO_BY_FD, Command.MAP_LOOKUP_ELEM, Command.MAP_DELETE_ELEM, Command.MAP_GET_NEXT_KEY,
        Command.PROG_QUERY, Command.PROG_GET_NEXT_ID, Command.MAP_GET_NEXT_ID, Command.LINK_GET_NEXT_ID}


class Words:
    """Counts what is said to the kernel, and makes the n-th word fail; notes what is made."""

    def __init__(self) -> None:
        self.made: set[tuple[str, int]] = set()
        self.fail(0)

    def fail(self, number: int, error: int = errno.ENOMEM) -> None:
        """From here on count anew, and let that word fail."""
        self.failing, self.error, self.said, self.failed = number, error, 0, ""

    @property
    def alive(self) -> Counter[str]:
        """How many of those that were made are there, by kind."""
        self.made &= objects()
        return Counter(kind for kind, _ in self.made)

    def settled(self) -> Counter[str]:
        """`alive`, once nothing goes any more."""
        now, before = self.alive, Counter[str]()
        while now != before:
            time.sleep(0.2)
            before, now = now, self.alive
        return now

    def fails(self, what: str) -> bool:
        self.said += 1
        if self.said == self.failing:
            self.failed = f"{what}: {errno.errorcode[self.error]}"
        return self.said == self.failing

    @contextmanager
    def counted(self) -> Iterator[None]:
        attempt, trap, carry, ask = syscall.attempt, syscall.syscall, Netlink.attempt, Netlink.ask

        def attempted(command: Command, attributes: ctypes.Structure) -> int:
            if command not in SAFE and self.fails(Command(command).name):
                return -self.error
            result = attempt(command, attributes)
            if result >= 0 and command in MADE:
                self.made.add((MADE[command], identifier_of(result)))
            return result

        def trapped(number: int, command: int, *rest: int) -> int:
            if command not in SAFE and self.fails(Command(command).name):
                ctypes.set_errno(self.error)
                return -1
            return int(trap(number, command, *rest))

        def carried(netlink: Netlink, *requests: Request) -> list[NetlinkError | None]:
            refused = [self.fails(request.operation) for request in requests]
            outcome = iter(carry(netlink, *(r for r, no in zip(requests, refused, strict=True) if not no)))
            return [NetlinkError(self.error, request.operation, request.subject) if no else next(outcome)
                    for request, no in zip(requests, refused, strict=True)]

        def asked(netlink: Netlink, request: Request) -> bytes:
            if self.fails(request.operation):
                raise NetlinkError(self.error, request.operation, request.subject)
            return ask(netlink, request)
        with pytest.MonkeyPatch.context() as patched:
            for module in (syscall, maps, programs, btf):
                patched.setattr(module, "attempt", attempted)
            patched.setattr(maps, "syscall", trapped)
            patched.setattr(Netlink, "attempt", carried)
            patched.setattr(Netlink, "ask", asked)
            yield


class Bench:
    """A switch and a function in a row between two hosts; a third host's device is free, and so are some ports."""

    def __init__(self, at: Place, pins: Path | None, wall: type[Any] = Through) -> None:
        self.at, self.pins = at, pins
        self.net = Network("failing", namespace=at.switching, pins=pins)
        self.net.add("lan", Switch())
        self.net.add("wall", wall())
        self.net.add("spare", wall())
        self.net.link("lan:0", "wall:inside")
        self.net.attach("wall:outside", at.hosts[0].edge)
        self.net.attach("lan:1", at.hosts[1].edge)

    def state(self) -> dict[str, Any]:
        """What must be the same before and after."""
        gc.collect()
        ours = (target for target in open_descriptors().values() if any(kind in target for kind in KINDS))
        found: dict[str, Any] = {"descriptors": Counter(target.partition(":[")[0] for target in ours)}
        for number, namespace in enumerate((self.at.switching, *(host.namespace for host in self.at.hosts))):
            with Netlink(namespace) as netlink:
                there = interfaces.listing(netlink)
            found[f"devices in {number}"] = Counter("made" if made(device.index) else device.index for device in there)
        found["namespace"] = Path("/run/netns", ROOM).exists()
        found["joins"] = {at: (join.edge and replace(join.edge, index=0 if made(join.edge.index) else join.edge.index),
                               join.peer) for at, join in self.net.joins.items()}
        found["instances"] = {name: type(i.function).__name__ for name, i in self.net.instances.items()}
        found["configuration"] = {name: bytes(i.function.config.record()) for name, i in self.net.instances.items()}
        found["wires"] = len(self.net._around._free)
        if self.pins is not None:
            # A table that was replaced, and what a revision led anew, has a number behind its name.
            names = (re.sub(r"[ -]\d+$", "", unquote(str(path))) for path in self.pins.rglob("*"))
            found["pins"] = Counter(re.sub(r"(at-\w+):\d+", r"\1", name) for name in names)
        return found

    def passes(self) -> bool:
        a, b = self.at.hosts[:2]
        return all(passed(*pair) for pair in ((b, a), (a, b)))


def made(index: int) -> bool:
    """Whether a device is one the network has made, under an index that is another each time."""
    return FIRST_INDEX <= index < FIRST_INDEX + INDEXES


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not as it was; fewer descriptors may be open."""
    return [f"{key}: {before[key]} became {after[key]}" for key in before if before[key] != after[key]
            and (key != "descriptors" or after[key] - before[key])]


def passed(sender: Host, receiver: Host) -> bool:
    frame = sender.send(receiver, b"still")
    return until(lambda: frame in receiver.captured(wait=0.001))


Change = Callable[[Bench], object]


def revised(bench: Bench) -> None:
    with bench.net.revision() as draft:
        draft.add("gate", Gate())
        draft.insert("lan:0", "gate:inside", "gate:outside")
        draft.reconfigure("lan", ageing=60)
        draft.upgrade("wall", ThroughAgain)
        draft.attach("lan:2", bench.at.hosts[2].edge)


def restored(bench: Bench) -> None:
    with bench.net.revision() as draft:
        draft.detach("lan:2")
        draft.upgrade("wall", Through)
        draft.reconfigure("lan", ageing=300)
        draft.take_out("gate:inside", "gate:outside")
        draft.remove("gate")


def renamed(bench: Bench) -> None:
    """Another kind under the same name, with an egress; a cable in its namespace; a device at another port."""
    with bench.net.revision() as draft:
        draft.unlink("lan:0")
        draft.detach("wall:outside")
        draft.detach("lan:1")
        draft.remove("wall")
        draft.add("wall", Gate())
        draft.link("lan:0", "wall:inside")
        draft.attach("wall:outside", bench.at.hosts[0].edge)
        draft.attach("lan:3", bench.at.hosts[1].edge)
        draft.attach("lan:2", Veth(namespace=ROOM, create=True, addresses=["10.0.0.9/24"]))


def named(bench: Bench) -> None:
    with bench.net.revision() as draft:
        draft.unlink("lan:0")
        draft.detach("wall:outside")
        draft.detach("lan:2")
        draft.detach("lan:3")
        draft.remove("wall")
        draft.add("wall", Through())
        draft.link("lan:0", "wall:inside")
        draft.attach("wall:outside", bench.at.hosts[0].edge)
        draft.attach("lan:1", bench.at.hosts[1].edge)


def cabled(bench: Bench) -> None:
    bench.net.attach("lan:2", Veth(namespace=ROOM, create=True, addresses=["10.0.0.9/24"]))


CHANGES: dict[str, tuple[type[Any], Change, Change]] = {
    "add": (Through, lambda b: b.net.add("new", Learner()), lambda b: b.net.remove("new")),
    "link": (Through, lambda b: b.net.link("lan:3", "spare:inside"), lambda b: b.net.unlink("lan:3")),
    "attach a cable": (Through, cabled, lambda b: b.net.detach("lan:2")),
    "attach a device": (Through, lambda b: b.net.attach("lan:2", b.at.hosts[2].edge), lambda b: b.net.detach("lan:2")),
    "attach behind an egress": (Gate, lambda b: b.net.attach("spare:inside", b.at.hosts[2].edge),
                                lambda b: b.net.detach("spare:inside")),
    "insert": (Through, lambda b: b.net.insert("lan:0", "spare:inside", "spare:outside"),
               lambda b: b.net.take_out("spare:inside", "spare:outside")),
    "reconfigure": (Gate, lambda b: b.net.reconfigure("wall", padding=1),
                    lambda b: b.net.reconfigure("wall", padding=0)),
    "upgrade": (Through, lambda b: b.net.upgrade("wall", ThroughAgain), lambda b: b.net.upgrade("wall", Through)),
    "convert": (Keeper, lambda b: b.net.upgrade("wall", Keeper2), lambda b: b.net.upgrade("wall", Keeper)),
    "revision": (Through, revised, restored),
    "another kind": (Through, renamed, named)}


@pytest.mark.parametrize("pinned", [False, True], ids=["unpinned", "pinned"])
@pytest.mark.parametrize("name", CHANGES)
def test_the_nth_word_fails(place: Places, tmp_path: Path, name: str, pinned: bool, nightly: bool) -> None:
    kind, change, back = CHANGES[name]
    at, pins = place(3), tmp_path / "net" if pinned else None
    with ExitStack() as undo:
        undo.callback(filesystem.unmount, tmp_path / "net/bpf")
        words = Words()
        undo.enter_context(words.counted())
        bench = Bench(at, pins, kind)
        undo.enter_context(bench.net)
        assert bench.passes()
        change(bench)                           # what the first one leaves for the next: images, a socket, a device
        back(bench)
        words.fail(0)
        change(bench)
        said, changed = words.said, bench.state()
        back(bench)
        numbers = list(range(1, said + 1))
        if not nightly and len(numbers) > SAMPLE:
            numbers = sorted(random.Random(name + str(pinned)).sample(numbers, SAMPLE))
        before = bench.state()
        alive = words.settled()
        for number in numbers:
            words.fail(number, ERRORS[number % len(ERRORS)])
            where = f"word {number} of {said}"
            try:
                change(bench)
            except (KernelError, OSError) as error:
                where += f" ({words.failed}, {error!r})"
                after = bench.state()
                if not differences(changed, after):         # it failed once packets went the new way, and that stands
                    assert bench.passes(), f"{where}: no packet passes"
                    back(bench)
                    assert until(lambda: words.alive == alive), f"{where}: {alive} became {words.alive}"
                    continue
                assert differences(before, after) == [], where
                assert until(lambda: words.alive == alive), f"{where}: {alive} became {words.alive}"
                assert bench.passes(), f"{where}: no packet passes"
                change(bench)
            assert bench.passes(), where
            back(bench)
            assert differences(before, bench.state()) == [], where
