"""The Python of an author's function, in its own process: it does what it would do here, and what it does wrong is
nobody's harm but its own."""
from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from iovisor.control import views
from iovisor.control.access import Principal
from iovisor.control.platform import Platform
from iovisor.control.problems import Conflicting, Missing, Refused
from iovisor.control.sandbox import attendant
from iovisor.control.sandbox.standin import StandIn, Standing
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.hosts import Host, Place
from tests.fabric.test_network import exchange
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
OWNER = Principal("somebody", "owner", "acme")
NETWORK = """
version: 1
tenant: acme
network: prod
functions: {mine: {kind: 'mine.py:Mine'%s}}
endpoints: {one: {device: p0}, two: {device: p1}}
links: [[one, mine], [two, mine]]
"""
#: Frames of the hosts' EtherType go straight on; others are punted, once for each sender.
MINE = """
import asyncio, gc, os, struct, sys, threading
import time as clock
from iovisor.language import *
from iovisor.wire.ethernet import Ethernet

class Met(Record):
    who: mac
    kind: u16

class Memory(Record):
    times: u32
    told: u32 = 0

class MineConfig(Config):
    room: u32 = 64
    greeting: u32 = 0
    friends: list[mac] = []

class Mine(Function):
    config: MineConfig
    met: Hash[mac, Memory] = table(size="room")
    friends: Hash[mac, u8] = table(64)
    names: Lpm[ipv4, u16] = table(16)
    groups: Hash[u16, Hash[u16, u32]] = table(8, inner=table(8))
    ticks: Array[u64] = table(4)
    ports: Ports = ports(4)

    def configure(self, old, new):
        wanted = {friend: 1 for friend in new.friends}
        for gone in set(self.friends) - wanted.keys():
            del self.friends[gone]
        self.friends.update(wanted)
        CONFIGURE

    def ingress(self, pkt: Packet) -> Verdict:
        header = pkt.parse(Ethernet)
        if header.type == 0x88b5 or header.type == 0x0806 or header.type == 0x0800:
            return FLOOD
        if self.met.get(header.src) is not None:
            return FLOOD
        return punt(Met(who=header.src, kind=header.type))

    @handles(Met)
    ASYNC def meet(self, event: Met, packet: Packet) -> Packet | None:
        HANDLER
        self.met[event.who] = Memory(times=1)
        return packet

    @every(0.2)
    def tick(self) -> None:
        self.ticks[0] = (self.ticks.get(0) or 0) + 1

    def parted(self, port: int) -> None:
        self.ticks[1] = port + 100

    @action
    def known(self, most: int = 10) -> list[str]:
        '''Who was met.'''
        ACTION
        return [f"{who:012x}" for who, _ in self.met.items()][:most]

def line():
    return next(one for one in gc.get_objects() if type(one).__name__ == "Line" and hasattr(one, "hear"))
"""


def mine(handler: str = "pass", act: str = "pass", configure: str = "pass", asynchronous: bool = False) -> str:
    return MINE.replace("HANDLER", handler).replace("ACTION", act).replace("CONFIGURE", configure).replace(
        "ASYNC ", "async " if asynchronous else "")


def begun(here: Platform, text: str, config: str = "") -> None:
    assert apply(here, NETWORK % config, {"mine.py": text}, OWNER)


def strange(host: Host, to: Host, number: int = 1) -> bytes:
    """A frame that is punted, from a sender of its own."""
    frame = (to.mac + b"\2\0\0\0\1" + bytes([number]) + b"\x12\x34strange").ljust(60, b"\0")
    host.socket.send(frame)
    return frame


def asked(here: Platform, do: Callable[[Any], Any]) -> Any:
    return here.call("acme", "prod", lambda running: do(running.instances["mine"].function))


def worker(here: Platform) -> dict[str, Any]:
    found: dict[str, Any] = views.Look(here, "acme", "prod").function("mine")["worker"]
    return found


def served(here: Platform) -> Any:
    return here.call("acme", "prod", lambda running: running.served)


def test_it_does_what_it_would_do_here(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine(), ", friends: ['02:00:00:00:00:09']")
    assert asked(here, lambda function: isinstance(function, StandIn))
    assert all(isinstance(module, Standing) for name, module in sys.modules.items()
               if re.fullmatch(r"own_[0-9a-f]{24}", name))
    exchange(*at.hosts)
    for number in (1, 2):
        frame = strange(at.hosts[0], at.hosts[1], number)
        assert at.hosts[1].captured(1) == [frame]                       # the first, by Python
    frame = strange(at.hosts[0], at.hosts[1], 1)
    assert at.hosts[1].captured(1) == [frame]                           # from now on, by the kernel
    assert served(here).events == 2 and served(here).failed == 0
    assert asked(here, lambda function: sorted(function.act("known", {"most": "9"}))) == [
        "020000000101", "020000000102"]
    assert until(lambda: asked(here, lambda function: function.ticks.get(0)) > 1)
    assert asked(here, lambda function: list(function.friends)) == [0x020000000009]
    assert worker(here)["state"] == "running" and worker(here)["lost"] == 0
    begun(here, mine(), ", friends: ['02:00:00:00:00:07'], greeting: 5")
    assert asked(here, lambda function: list(function.friends)) == [0x020000000007]
    assert worker(here)["starts"] == 1
    frame = strange(at.hosts[0], at.hosts[1], 1)
    assert at.hosts[1].captured(1) == [frame] and served(here).events == 2
    alone = (NETWORK % "").replace(", two: {device: p1}", "").replace(", [two, mine]", "")
    apply(here, alone, {"mine.py": mine()}, OWNER)
    assert until(lambda: asked(here, lambda function: function.ticks.get(1)) == 101)
    with pytest.raises(Refused, match="known takes no x"):
        asked(here, lambda function: function.act("known", {"x": 1}))
    with pytest.raises(Missing, match="has no action fly"):
        asked(here, lambda function: function.act("fly", {}))
    look = views.Look(here, "acme", "prod").function("mine")
    assert look["tables"]["met"]["entries"] == 2 and look["actions"][0]["documentation"] == "Who was met."


def test_a_daemon_that_begins_anew_asks_nobody(place: Places, platform: Platforms,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine())
    strange(at.hosts[0], at.hosts[1])
    assert len(at.hosts[1].captured(1)) == 1
    here.stop()
    exchange(*at.hosts)
    from iovisor.control.sandbox import workshop
    monkeypatch.setattr(workshop, "begin", None)
    again = platform(at)
    assert again.hosted["acme/prod"].adopted
    assert asked(again, lambda function: len(function.met)) == 1
    strange(at.hosts[0], at.hosts[1], 2)
    assert len(at.hosts[1].captured(1)) == 1
    assert asked(again, lambda function: len(function.act("known", {}))) == 2


def test_who_waits_does_not_hold_up_others(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine("await asyncio.sleep(0.3)", asynchronous=True))
    sent = [strange(at.hosts[0], at.hosts[1], number) for number in range(40)]
    assert sorted(at.hosts[1].captured(40)) == sorted(sent)
    assert served(here).failed == 0 and worker(here)["lost"] == 0


RAW = "os.write(int(sys.argv[1]), {})"
HANDLERS = {
    "hangs": ("while True: pass", "did not answer for"),
    "sleeps": ("clock.sleep(99)", "did not answer for"),
    "ends": ("os._exit(3)", "it ended"),
    "leaves": ("sys.exit(3)", "it ended"),
    "is killed": ("os.kill(os.getpid(), 9)", "it ended"),
    "kills all it can": ("try: os.kill(-1, 9)\n          except OSError: os._exit(1)", "it ended"),
    "crashes": ("__import__('ctypes').string_at(8)", "it ended"),
    "says a message without end": (RAW.format(r"b'\xff\xff\xff\xff'"), "what is no message"),
    "says what is no message": (RAW.format(r"struct.pack('<I', 2) + b'{]'"), "what is no message"),
    "says a message of no sort": ("line().say({'fly': 1})", "what is no message"),
    "answers what is no number": ("line().say({'answer': []})", "what is no message"),
    "sends to a port that is not there": ("line().say({'send': 99, 'frame': '00' * 60})", "what is no message"),
    "sends what is no frame": ("line().say({'send': 1, 'frame': 'zz'})", "what is no message"),
    "asks without asking": ("line().say({'call': 1})", "it ended"),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that(name: str, place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, which is counted and seen; packets go on; what it had written is there; and it is begun again."""
    monkeypatch.setattr(attendant, "SILENT", 1.5)
    at = place(2)
    here = platform(at)
    handler, why = HANDLERS[name]
    begun(here, mine(f"if event.who & 255 == 66:\n          self.met[1] = Memory(times=2)\n          {handler}\n"
                     "          return None"))
    strange(at.hosts[0], at.hosts[1], 66)
    exchange(*at.hosts)
    assert until(lambda: worker(here)["lost"] >= 1)
    assert why in worker(here)["why"]
    assert asked(here, lambda function: function.met.get(1).times) == 2
    at.hosts[1].captured()

    def met() -> bool:
        strange(at.hosts[0], at.hosts[1], 5)
        return len(at.hosts[1].captured(0, 0.3)) > 0
    assert until(met)
    assert worker(here)["starts"] >= 2
    assert served(here).failed >= (name != "asks without asking")       # which had answered before
    while at.hosts[1].captured(0, 0.5):                                 # what came late
        pass
    exchange(*at.hosts)


FLOODS = {
    "says it lives": "while True: line().say({'alive': True})",
    "asks for a table": "while True: self.met.get(1)",
    "sends": "while True: self.send(bytes(60), 1)",
    "writes": "n = 0\n        while True: n += 1; self.met.put(n, Memory(times=1))",
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_handler_that_floods(name: str, place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other networks, and this one's own packets, go on; it is heard so often and no more, and ended in the end."""
    monkeypatch.setattr(attendant, "LONGEST", 3.0)
    monkeypatch.setattr(attendant, "RATE", 500.0)
    at = place(4)
    here = platform(at)
    begun(here, mine(FLOODS[name]))
    apply(here, "version: 1\ntenant: globex\nnetwork: prod\nfunctions: {lan: switch}\n"
                "endpoints: {one: {device: p2}, two: {device: p3}}\nlinks: [[one, lan], [two, lan]]")
    heard = 0
    take = attendant.Attendant._take

    def counted(self: attendant.Attendant, message: Any) -> None:
        nonlocal heard
        heard += 1
        take(self, message)
    monkeypatch.setattr(attendant.Attendant, "_take", counted)
    strange(at.hosts[0], at.hosts[1])
    exchange(at.hosts[2], at.hosts[3])
    assert len(views.Look(here, "globex", "prod").functions()) == 1
    at.hosts[0].ping(at.hosts[1])
    assert until(lambda: worker(here)["lost"] == 1)
    assert heard < 500 * 5 + 500 + 2000                     # 64 KiB are taken in one piece
    here.destroy(ADMIN, "acme", "prod")
    exchange(at.hosts[2], at.hosts[3])


def test_a_change_that_hangs_is_not_made(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendant, "NOW", 2.0)
    at = place(2)
    here = platform(at)
    text = mine(configure="if new.greeting == 7:\n            while True: pass\n"
                          "        if new.greeting == 8: raise KeyError('eight')",
                act="if most == 7:\n            while True: pass\n        if most == 8: raise KeyError('eight')")
    begun(here, text)
    for greeting, why in ((7, "did not answer for 2 seconds"), (8, "KeyError: 'eight'.*mine.py:")):
        assert re.search(why, refused(here, text, greeting))
        with pytest.raises(Conflicting, match=why):
            until(partial(asked, here, partial(settled, most=greeting)))
    assert here.head("acme", "prod").current == 1
    exchange(*at.hosts)
    strange(at.hosts[0], at.hosts[1])
    assert until(lambda: asked(here, lambda function: "020000000101" in settled(function, 10)))


def refused(here: Platform, text: str, greeting: int) -> str:
    """Why a change is not made, once the pause of a worker is over."""
    said: list[str] = []

    def tried() -> bool:
        with pytest.raises(Refused) as found:
            begun(here, text, f", greeting: {greeting}")
        said.append(str(found.value))
        return "it is begun again in" not in said[-1]
    assert until(tried)
    return said[-1]


def settled(function: Any, most: int) -> Any:
    """An action, once the pause of a worker is over."""
    try:
        return function.act("known", {"most": most})
    except Conflicting as error:
        if "it is begun again in" in str(error):
            return []
        raise


def test_a_new_function_that_hangs_does_not_come(place: Places, platform: Platforms,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendant, "NOW", 2.0)
    monkeypatch.setattr(attendant, "START", 2.0)
    at = place(2)
    here = platform(at)
    with pytest.raises(Refused, match="did not answer"):
        begun(here, mine(configure="while new.greeting == 0: clock.sleep(1)"))
    assert here.records.heads() == [] and here.hosted == {}
    with pytest.raises(Refused, match=r"its tables take 1[0-9]{3} MiB, and may take 64"):
        begun(here, mine(), ", room: 16000000")


TRICKS = {
    "a table of the platform's": "line().call(do='lookup', table='@next', way=[], key='00000000')",
    "a key of another size": "line().call(do='lookup', table='met', way=[], key='00')",
    "a value of another size": "line().call(do='update', table='met', way=[], key='00' * 8, value='00', mode=0)",
    "a mode that is not there": "line().call(do='update', table='met', way=[], key='00' * 8, value='00' * 8, mode=9)",
    "a word that is none": "line().call(do='close', table='met', way=[], key='00' * 8)",
    "a table in a table that holds none": "line().call(do='lookup', table='met', way=['00' * 8], key='00' * 8)",
    "a table in no table": "line().call(do='lookup', table='groups', way=['0000'], key='0000')",
    "a prefix that is too long": "line().call(do='update', table='names', way=[], key='ff00000001020304', "
                                 "value='0000', mode=0)",
    "a number as a key": "line().call(do='lookup', table='met', way=[], key=7)",
    "very many entries": "line().call(do='store', table='met', way=[], entries=[['00' * 8, '00' * 8]] * 1000)",
}


def test_what_it_asks_for_that_is_not_its_own(place: Places, platform: Platforms) -> None:
    """Each is answered by an error, and nothing else happens; what is its own it reaches."""
    at = place(2)
    here = platform(at)
    tricks = "\n        ".join([
        "found = []", *(f"try: found.append(repr({trick}))\n        except RuntimeError as error: found.append('no')"
                        for trick in TRICKS.values()), "if most == 1: return found"])
    own = """
        self.names[prefix("10.0.0.0/8")] = 3
        inner = self.groups.create(5)
        inner[1] = 7
        self.met.update({n: Memory(times=n) for n in range(50)})
        if most == 2: return [self.names.get(0x0a010203), self.groups.get(5).get(1), self.groups.get(6),
                              len(self.met), sorted(n for n, _ in self.met.items()) == list(range(50)),
                              self.met.insert(1, Memory(times=1)), self.ticks.get(99)]"""
    begun(here, mine(act=tricks + own))
    assert asked(here, lambda function: function.act("known", {"most": 1})) == ["no"] * len(TRICKS)
    assert asked(here, lambda function: function.act("known", {"most": 2})) == [3, 7, None, 50, True, False, None]
    assert worker(here)["lost"] == 0


def test_a_worker_that_is_gone_comes_again(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine())
    strange(at.hosts[0], at.hosts[1])
    at.hosts[1].captured(1)

    def kill(function: Any) -> None:
        process = attendant.Staff.here().of(function)._worker
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    asked(here, kill)
    assert until(lambda: worker(here)["lost"] == 1)
    assert until(lambda: worker(here)["state"] == "running")            # the timer begins it again
    strange(at.hosts[0], at.hosts[1], 2)
    assert len(at.hosts[1].captured(1)) == 1
    here.destroy(ADMIN, "acme", "prod")
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    assert not [one for path in children for one in path.read_text().split()
                if b"bwrap" in Path(f"/proc/{one}/cmdline").read_bytes()]


NEWER = {
    "    times: u32\n    told: u32 = 0\n": "    times: u64\n    told: u32 = 0\n",
    "    @every(0.2)": """    @migrates("met", since=Hash[mac, Older])
    def longer(self, key, old):
        return Memory(times=old.times * 1000) if key & 255 != 2 else None

    @reverts("met", to=Hash[mac, Older])
    def shorter(self, key, new):
        return Older(times=new.times // 1000)

    @every(0.2)""",
    "class MineConfig": "class Older(Record):\n    times: u32\n    told: u32 = 0\n\nclass MineConfig"}


def test_a_newer_version_converts_what_the_older_knew(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine())
    for number in (1, 2):
        strange(at.hosts[0], at.hosts[1], number)
        assert len(at.hosts[1].captured(1)) == 1
    text = mine()
    for before, after in NEWER.items():
        assert before in text
        text = text.replace(before, after)
    begun(here, text)
    assert asked(here, lambda function: {key: value.times for key, value in function.met.items()}) == {
        0x020000000101: 1000}
    frame = strange(at.hosts[0], at.hosts[1], 1)
    assert at.hosts[1].captured(1) == [frame] and served(here).events == 2
    here.rollback(ADMIN, "acme", "prod")
    assert asked(here, lambda function: {key: value.times for key, value in function.met.items()}) == {
        0x020000000101: 1}


def test_a_packet_is_traced_without_the_authors_python(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine())
    trace = here.call("acme", "prod", lambda running: running.trace(at.hosts[0].frame(at.hosts[1]), "mine:0"))
    assert re.search(r"flood", str(trace), re.I) and not trace.disagreements
