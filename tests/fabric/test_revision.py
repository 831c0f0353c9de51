"""Revisions: many changes as one; no packet meets some of them and not the others.

Two functions in a row write their marks into each frame, and frames are numbered: mixed marks, a number missing or one
twice would be seen.
"""
from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iovisor.fabric import Edge, Network, Storm
from iovisor.fabric.revision import Draft
from iovisor.kernel import KernelError, filesystem
from tests.fabric import flipper
from tests.fabric.functions import Gate, PatientLearner, Through
from tests.fabric.hosts import OUTGOING, Host, Place
from tests.fabric.marking import First, FirstAgain, Second, Spread
from tests.fabric.test_network import exchange
from tests.fabric.test_slowpath import flows as first_packets
from tests.fabric.test_watch import seen as reported
from tests.fabric.versions import Keeper, Keeper2, Refuses

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ROOT = Path(__file__).parents[2]


class Numbered:
    """Frames with numbers and room for marks, from one host to others, for as long as a `with`."""

    def __init__(self, sender: Host, receivers: list[Host], rate: int = 2_000) -> None:
        self.sender, self.receivers, self.rate, self.sent = sender, receivers, rate, 0
        self.seen: list[Counter[tuple[int, int, int]]] = [Counter() for _ in receivers]
        self._ended, self._quiet = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._send), *(
            threading.Thread(target=self._receive, args=pair) for pair in zip(receivers, self.seen, strict=True))]

    def _send(self) -> None:
        begun = time.monotonic()
        while not self._ended.is_set():
            while self.sent < (time.monotonic() - begun) * self.rate and not self._ended.is_set():
                number = self.sent.to_bytes(8, "big")
                self.sender.socket.send((b"\xff" * 6 + self.sender.mac + b"\x88\xb5\0\0" + number).ljust(60, b"\0"))
                self.sent += 1
            time.sleep(0.0005)

    def _receive(self, host: Host, seen: Counter[tuple[int, int, int]]) -> None:
        host.socket.settimeout(0.1)
        quiet = 0
        while not self._quiet.is_set() or quiet < 5:
            try:
                data, sender = host.socket.recvfrom(1 << 16)
            except TimeoutError:
                quiet += 1
                continue
            quiet = 0
            if sender[2] != OUTGOING and data[12:14] == b"\x88\xb5":
                seen[int.from_bytes(data[16:24], "big"), data[14], data[15]] += 1

    def __enter__(self) -> Numbered:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._threads[0].join()
        self._quiet.set()
        for thread in self._threads[1:]:
            thread.join()

    def check(self, marks: set[tuple[int, int]]) -> None:
        """Every number came once to each receiver, with marks that belong together."""
        for host, seen in zip(self.receivers, self.seen, strict=True):
            mixed = [key for key in seen if key[1:] not in marks]
            assert not mixed, f"{len(mixed)} of {self.sent} met two revisions: {mixed[:5]}"
            numbers = Counter[int]()
            for (number, *_), count in seen.items():
                numbers[number] += count
            assert len(numbers) == self.sent, f"{self.sent - len(numbers)} of {self.sent} lost at {host.address}"
            assert max(numbers.values()) == 1
            host.socket.setblocking(False)


def test_two_wirings_two_hundred_times(place: Places) -> None:
    """x - f1 - f2 - y, marks 1 and 1; and x - g1 - g2 - y, marks 2 and 2."""
    at = place(2)
    with Network("flipped", namespace=at.switching) as net:
        flipper.build(net)
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            begun = time.perf_counter()
            for _ in range(200):
                flipper.flip(net)
            took = time.perf_counter() - begun
        print(f"{1e3 * took / 200:.1f} ms each, {traffic.sent} frames")
        traffic.check({(1, 1), (2, 2)})
        assert {key[1:] for key in traffic.seen[0]} == {(1, 1), (2, 2)}
        assert net.generation == 200 and net.drops == {}


def test_copies_that_go_around_stay_in_their_revision(place: Places) -> None:
    """x - hub - f1 - hub - f2 - hub - y and z: each hub sends copies around; both marks change, together."""
    at = place(3)
    with Network("copied", namespace=at.switching) as net:
        net.limit_flooding(Storm(rate=0))
        for name in ("left", "middle", "right"):
            net.add(name, Spread())
        net.add("f1", First())
        net.add("f2", Second())
        for one, other in (("left:1", "f1:inside"), ("f1:outside", "middle:0"), ("middle:1", "f2:inside"),
                           ("f2:outside", "right:0")):
            net.link(one, other)
        for port, host in zip(("left:0", "right:1", "right:2"), at.hosts, strict=True):
            net.attach(port, host.edge)
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for i in range(50):
                with net.revision() as draft:
                    draft.reconfigure("f1", mark=2 + i)
                    draft.reconfigure("f2", mark=2 + i)
        traffic.check({(mark, mark) for mark in range(1, 52)})
        assert len({key[1] for key in traffic.seen[0]}) > 10
        assert net.drops == {}


def test_everything_a_draft_can(place: Places) -> None:
    at = place(4)
    with Network("drafted", namespace=at.switching) as net:
        net.add("keeper", Keeper())
        net.add("aside", Through())
        net.attach("keeper:inside", at.hosts[0].edge)
        net.attach("keeper:outside", at.hosts[1].edge)
        net.attach("aside:inside", at.hosts[2].edge)
        net.attach("aside:outside", at.hosts[3].edge)
        exchange(*at.hosts[:2])
        keeper, aside = net.instances["keeper"], net.instances["aside"]
        slots = aside.loaded.slots
        with net.revision() as draft:
            draft.add("gate", Gate())
            draft.add("end", Through())
            draft.detach("keeper:outside")
            draft.link("keeper:outside", "end:inside")
            draft.insert("keeper:outside", "gate:inside", "gate:outside")
            draft.attach("end:outside", at.hosts[1].edge)
            draft.upgrade("keeper", Keeper2)
            assert list(net.instances) == ["keeper", "aside"] and type(keeper.function).__name__ == "Keeper"
            exchange(*at.hosts[:2])
        assert list(net.instances) == ["keeper", "aside", "gate", "end"] and net.generation == 1
        assert net.instances["keeper"] is keeper and type(keeper.function) is Keeper2
        assert net.instances["aside"] is aside and aside.loaded.slots is slots          # nothing of it was touched
        assert dict(keeper.function.tables["flows"].items())[0x020000000001].packets == 10
        exchange(*at.hosts[:2])
        exchange(*at.hosts[2:])
        assert net.traffic("gate:inside")[0].packets == 5
        with net.revision() as draft:
            draft.take_out("gate:inside", "gate:outside")
            draft.remove("gate")
            draft.upgrade("keeper", Keeper)
            draft.unlink("keeper:outside")
            draft.detach("end:outside")
            draft.attach("keeper:outside", at.hosts[1].edge)
            draft.remove("end")
        exchange(*at.hosts[:2])
        assert list(net.instances) == ["keeper", "aside"] and net.drops == {}
        assert dict(keeper.function.tables["flows"].items())[0x020000000001].packets == 20
        net.reconfigure("aside")
        net.add("more", Through())
        net.detach("keeper:outside")
        net.link("keeper:outside", "more:inside")
        net.attach("more:outside", at.hosts[1].edge)
        exchange(*at.hosts[:2])
        with net.revision():
            pass
        assert net.generation == 2


def test_a_new_kind_and_its_configuration_are_one_change(place: Places) -> None:
    """The programs are loaded with the configuration, so no packet sees another."""
    at = place(2)
    with Network("configured", namespace=at.switching) as net:
        net.add("first", First(mark=1))
        net.attach("first:inside", at.hosts[0].edge)
        net.attach("first:outside", at.hosts[1].edge)
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for mark in range(2, 30):
                with net.revision() as draft:
                    draft.upgrade("first", (FirstAgain, First)[mark % 2])
                    draft.reconfigure("first", mark=mark)
                with net.revision() as draft:
                    draft.reconfigure("first", mark=100 + mark)
                    draft.upgrade("first", type(net.instances["first"].function))
        traffic.check({(1, 0), *((mark, 0) for mark in range(2, 30)), *((100 + mark, 0) for mark in range(2, 30))})
        with pytest.raises(ValueError, match="on purpose"), net.revision() as draft:
            draft.upgrade("first", FirstAgain)
            draft.reconfigure("first", mark=77)
            raise ValueError("on purpose")
        assert net.instances["first"].function.config.mark == 129           # type: ignore[attr-defined]


def test_an_exception_leaves_everything_as_it_was(place: Places, tmp_path: Path) -> None:
    at = place(3)
    document, pinned = tmp_path / "net/topology.json", tmp_path / "net/bpf"
    with Network("same", namespace=at.switching, pins=tmp_path / "net") as net:
        net.add("gate", Gate())
        net.add("keeper", Keeper())
        net.link("gate:outside", "keeper:inside")
        net.attach("gate:inside", at.hosts[0].edge)
        net.attach("keeper:outside", at.hosts[1].edge)
        exchange(*at.hosts[:2])

        def state() -> tuple[object, ...]:
            return (document.read_text(), sorted(map(str, pinned.rglob("*"))), list(net.instances), dict(net.joins),
                    bytes(net.instances["gate"].function.config.record()), type(net.instances["keeper"].function))
        before = state()

        def changes(draft: Draft) -> None:
            draft.add("more", Through())
            draft.reconfigure("gate", open=0)
            draft.unlink("gate:outside")
            draft.link("gate:outside", "more:inside")
            draft.link("more:outside", "keeper:inside")

        def raising(draft: Draft) -> None:
            changes(draft)
            raise RuntimeError("on purpose")

        def absent(draft: Draft) -> None:
            changes(draft)
            draft.detach("keeper:outside")
            draft.attach("keeper:outside", Edge(4999))

        def unconverted(draft: Draft) -> None:
            changes(draft)
            draft.upgrade("keeper", Refuses)

        for what, kind, message in (
                (raising, RuntimeError, "on purpose"), (absent, KernelError, "4999|ENODEV"),
                (unconverted, ValueError, "on purpose"),
                (lambda draft: draft.upgrade("gate", Through), ValueError, "only one has an egress"),
                (lambda draft: draft.link("gate:inside", "keeper:inside"), ValueError, "joined to device 5000 already"),
                (lambda draft: draft.add("gate", Gate()), ValueError, "has an instance 'gate' already"),
                (lambda draft: draft.reconfigure("gate", open="x"), ValueError, "open"),
                (lambda draft: draft.remove("gate"), ValueError, "gate is still joined")):
            with pytest.raises(kind, match=message), net.revision() as draft:
                what(draft)
            assert state() == before
            exchange(*at.hosts[:2])
        with net.revision() as draft:
            changes(draft)
            draft.reconfigure("gate", open=1)
        exchange(*at.hosts[:2])
        assert net.drops == {}


def test_a_network_that_is_watched(place: Places) -> None:
    """What watches stands in front of the new wiring, too, and neither leaves anything in the other's way."""
    at = place(2)
    with Network("watched", namespace=at.switching) as net:
        net.add("gate", Gate())
        net.attach("gate:inside", at.hosts[0].edge)
        net.attach("gate:outside", at.hosts[1].edge)
        with net.watch() as watch:
            for open_ in (0, 1, 0):
                with net.revision() as draft:
                    draft.reconfigure("gate", open=open_)
                frame = at.hosts[0].send(at.hosts[1])
                assert reported(watch, 1 + open_)[-1].verdict == ("forward(outside)" if open_ else "drop(REQUIRED)")
                assert at.hosts[1].captured(open_) == [frame] * open_
        with net.revision() as draft:
            draft.reconfigure("gate", open=1)
        at.hosts[1].captured()
        exchange(*at.hosts)


def test_punted_packets_come_back_after_a_revision(place: Places) -> None:
    """A handler that has begun before answers after it."""
    at = place(2)
    with Network("slow", namespace=at.switching) as net:
        net.add("learner", PatientLearner())
        net.attach("learner:inside", at.hosts[0].edge)
        net.attach("learner:outside", at.hosts[1].edge)
        sent = first_packets(at.hosts[0], at.hosts[1], 50)
        answered = []

        async def act() -> None:
            serving = asyncio.create_task(net.serve())
            for _ in range(10):
                await asyncio.sleep(0.002)
                with net.revision() as draft:
                    draft.upgrade("learner", PatientLearner)
            answered.extend(await asyncio.to_thread(at.hosts[1].captured, 50))
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        asyncio.run(act())
        assert sorted(answered) == sorted(sent) and net.drops == {}


@contextmanager
def flipping(what: str, at: Place, folder: Path) -> Iterator[None]:
    """A process that flips the network, killed at the end."""
    arguments = [what, str(folder / "net"), str(at.switching.fd), str(folder / "images")]
    with subprocess.Popen([sys.executable, "-m", "tests.fabric.flipper", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True, pass_fds=[at.switching.fd]) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def test_killed_in_the_middle_it_is_as_before_or_as_it_was_to_be(place: Places, tmp_path: Path, nightly: bool) -> None:
    """The whole time under numbered traffic: what a killed commit has left is no mixture either."""
    at, chance, found, standing = place(2), random.Random(1), Counter[str](), ""
    with flipping("create", at, tmp_path):
        pass
    try:
        with Numbered(at.hosts[0], at.hosts[1:]) as traffic:
            for _ in range(200 if nightly else 25):
                with flipping("adopt", at, tmp_path):
                    time.sleep(chance.random() * 0.05)
                document = json.loads((tmp_path / "net/topology.json").read_text())
                (standing,) = {join["at"][0][0] for join in document["joins"] if join["edge"]}
                found[standing] += 1
        traffic.check({(1, 1), (2, 2)})
        with Network.adopt(tmp_path / "net", namespace=at.switching) as net:
            assert net.drops == {} and len(net.joins) == 6
            pins = [path.name for path in (tmp_path / "net/bpf").rglob("*") if path.is_file()]
            pins = sorted(re.sub(r"(-|%20)\d+$", "", name) for name in pins if "." not in name)     # the kernel's have
            assert pins == sorted([*["next", "members", "drops", "counts"] * 4, "account", "copies", "wires", "again",
                                   *(f"{at}%20INGRESS" for at in (f"{standing}1%3A0", f"{standing}2%3A1"))])
        assert len(found) == 2, found
    finally:
        filesystem.unmount(tmp_path / "net/bpf")
