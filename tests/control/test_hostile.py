"""Files that mean no good: what each tries, and that it comes to nothing.

Each is read as a tenant's would be.  `refused` is what its author is told; where a file succeeds at what it may do
anyway, it says what it found by raising it.
"""
from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iovisor.compiler.driver import compile
from iovisor.compiler.image import Image
from iovisor.control.sandbox import sealing, workshop
from iovisor.control.sandbox.channel import packed
from iovisor.control.sandbox.confinement import begin
from iovisor.control.sandbox.description import describe
from iovisor.control.sandbox.sealing import Unsealed
from iovisor.control.sandbox.worker import walked
from iovisor.control.sandbox.workshop import Bench, Failed, Workshop
from iovisor.functions.switch import Switch
from iovisor.language.machine import MACHINE
from tests.waiting import until

pytestmark = pytest.mark.root
HONEST = """
from iovisor.language import *
class Hub(Function):
    ports: Ports = ports(4)
    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD
"""
SYSCALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(*words):\n" \
          "    done = libc.syscall(*words)\n    raise SystemError(done, os.strerror(ctypes.get_errno()))\n"

#: What is tried, and what its author is told.
FILES: dict[str, tuple[str, str]] = {
    "a fork bomb": ("import os\nwhile True: os.fork()", "PermissionError"),
    "a bomb of threads": ("import threading, time\nwhile True:\n"
                          "    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", "RuntimeError"),
    "a bomb of memory": ("held = []\nwhile True: held.append(bytearray(1 << 24))", "MemoryError"),
    "memory that is nobody's": ("import os\nos.memfd_create('x')", "PermissionError"),
    "memory shared with others": (SYSCALL + "call(29, 0, 1 << 30, 0o1600)", "Operation not permitted"),
    "an import without end": ("while True: pass", "was not read within"),
    "an import that sleeps": ("import time\ntime.sleep(999)", "was not read within"),
    "a number without end": ("number = 9 ** 9 ** 9", "was not read within"),
    "a tree too deep to parse": ("x = " + "-" * 200_000 + "1", "does not stand|cannot be (imported|read)"),
    "an end without an answer": ("import os\nos._exit(0)", "ended before it was done"),
    "a crash": ("import ctypes\nctypes.string_at(8)", "ended before it was done"),
    "the passwords": ("open('/etc/shadow').read()", "FileNotFoundError"),
    "the passwords, by a way around": ("import os\nos.symlink('/etc/shadow', 'mine')", "PermissionError"),
    "the passwords, by a file that is there": ("open('/own/../etc/shadow').read()", "FileNotFoundError"),
    "the passwords, by the first process": ("open('/proc/1/root/etc/shadow').read()",
                                            "(Permission|FileNotFound)Error"),
    "the daemon's state": ("open('{state}/secret').read()", "FileNotFoundError"),
    "another file's place": ("open('/own/own_other.py').read()", "FileNotFoundError"),
    "the program itself": ("open('/app/iovisor/__init__.py', 'a')", "Read-only file system|Permission denied"),
    "a full disk": ("for n in range(99): open(f'x{{n}}', 'wb').write(bytes(1 << 20))", "No space left"),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', {port}))", "PermissionError"),
    "a socket of the machine's": ("import socket\nsocket.socket(socket.AF_UNIX)", "PermissionError"),
    "raw frames": ("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "PermissionError"),
    "the daemon's life": ("import os\nos.kill({daemon}, 9)", "ProcessLookupError"),
    "everybody's life": ("import os\nos.kill(-1, 9)", "ended|ProcessLookupError"),
    "the daemon's memory": (SYSCALL + "call(101, 16, {daemon}, 0, 0)", "Operation not permitted"),
    "another program": ("import os\nos.execv('/bin/sh', ['sh'])", "PermissionError"),
    "a mount": (SYSCALL + "call(165, b'none', b'/own', b'tmpfs', 0, 0)", "Operation not permitted"),
    "a namespace": (SYSCALL + "call(272, 0x10000000)", "Operation not permitted"),
    "programs of the kernel's": (SYSCALL + "call(321, 0, 0, 0)", "Operation not permitted"),
    "keys of the kernel's": (SYSCALL + "call(250, 0, 0, 0)", "Operation not permitted"),
    "another machine's calls": (SYSCALL + "call(0x40000000 + 41, 2, 1, 0)", "Operation not permitted"),
}
SAY = """
import json, os, struct, sys, time
def raw(data):
    view = memoryview(data)
    while view: view = view[os.write(int(sys.argv[1]), view):]
def say(message):
    data = json.dumps(message).encode()
    raw(struct.pack("<I", len(data)) + data)
"""
#: What is said to the daemon, instead of an answer.
WORDS: dict[str, tuple[str, str]] = {
    "a message without end": ("raw(struct.pack('<I', 0xffffffff) + b'x' * 1000)", "a message has at most"),
    "a lot": ("raw(struct.pack('<I', 15 << 20))\nraw(b' ' * (15 << 20))", "this is no JSON"),
    "a pickle": ("raw(struct.pack('<I', 31) + b'cos\\nsystem\\n(S\"touch {state}/x\"\\ntR.')\ntime.sleep(9)",
                 "this is no JSON|was not read"),
    "depth": ("data = b'[' * 900000\nraw(struct.pack('<I', len(data)) + data)", "this is no JSON"),
    "no object": ("raw(struct.pack('<I', 2) + b'[]')", "a message is an object"),
    "half a message": ("raw(b'\\x01')\nos._exit(0)", "ended before it was done"),
    "nothing": ("say({'answer': 1})", "makes no sense"),
    "an answer of another sort": ("say({'answer': 1, 'value': 7})", "makes no sense"),
    "an empty description": ("say({'answer': 1, 'value': {}})", "is not loaded"),
}


def bench(tmp_path: Path, text: str) -> Bench:
    module = f"own_{abs(hash(text)):024x}"
    return Bench(module, "mine.py", text, tmp_path / module)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a file could be after."""
    (tmp_path / "secret").write_text("told nobody")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield {"state": str(tmp_path), "daemon": os.getpid(), "port": listening.getsockname()[1]}
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert (tmp_path / "secret").read_text() == "told nobody" and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_tries(name: str, tmp_path: Path, outside: dict[str, Any]) -> None:
    text, told = FILES[name]
    with pytest.raises(Failed, match=told) as caught:
        Workshop(patience=2 if "was not" in told else 20).describe(
            bench(tmp_path, text.format(**outside) + HONEST), "Hub")
    assert "told nobody" not in str(caught.value)


@pytest.mark.parametrize("name", WORDS)
def test_what_a_file_says(name: str, tmp_path: Path, outside: dict[str, Any]) -> None:
    text, told = WORDS[name]
    with pytest.raises(Failed, match=told):
        Workshop(patience=20).describe(bench(tmp_path, SAY + text.replace("{state}", outside["state"])), "Hub")


def test_what_a_file_sees(tmp_path: Path) -> None:
    """Nothing of the daemon's: no process, no variable, no descriptor, no name."""
    text = """
import os, json
seen = {"processes": sorted(int(n) for n in os.listdir("/proc") if n.isdigit()), "variables": sorted(os.environ),
        "open": sorted({os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd")
                        if os.path.lexists(f"/proc/self/fd/{n}")}),
        "devices": os.listdir("/dev"), "root": sorted(os.listdir("/")), "interfaces": os.listdir("/sys")
        if os.path.exists("/sys") else [], "user": os.getuid(), "own": os.listdir("/own"), "name": os.uname()[1]}
raise KeyError(json.dumps(seen))
"""
    os.environ["SECRET"] = "x"
    try:
        with pytest.raises(Failed) as caught:
            Workshop().describe(bench(tmp_path, text), "Hub")
    finally:
        del os.environ["SECRET"]
    said = str(caught.value)
    seen = json.loads(said[said.index("{"):said.rindex("}") + 1])
    assert len(seen["processes"]) <= 4 and max(seen["processes"]) < 100
    assert set(seen["variables"]) <= {"PYTHONPATH", "TMPDIR", "LC_ALL", "PWD", "LC_CTYPE"}
    assert {"/own", "/dev/null", "socket"} >= {one if one[:4] != "/own" else "/own" for one in seen["open"]} - {
        "/proc/2/fd", "/proc/3/fd", "pipe"}
    assert seen["devices"] == ["null"] and seen["interfaces"] == [] and seen["user"] == 65534
    assert {"etc", "root", "home", "var", "run", "sys"} - set(seen["root"]) >= {"etc", "home", "var", "run", "sys"}
    assert len(seen["own"]) <= 2


def test_an_honest_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = bench(tmp_path, HONEST)
    described, images = Workshop().describe(mine, "Hub")
    assert described.ports["ports"].count == 4 and list(images) == ["ingress"]  # type: ignore[union-attr]
    monkeypatch.setattr(workshop, "begin", None)            # nobody is asked again, nor after a new start
    assert Workshop().describe(mine, "Hub")[1] == images
    with pytest.raises(LookupError, match="Hub"):
        monkeypatch.undo()
        Workshop().describe(mine, "Nub")


# -- programs --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def image() -> Image:
    return compile(Switch, walked(), "ingress").image


def forged(image: Image, *lines: tuple[int, int, int, int, int], maps: tuple[str, ...] | None = None) -> Image:
    """The image, but before its first instruction others: (code, target, source, offset, constant)."""
    code = b"".join(struct.pack("<BBhi", code, source << 4 | target, offset, constant)
                    for code, target, source, offset, constant in lines)
    return replace(image, code=code + image.code, maps=maps or image.maps)


R1, R2, R10 = 1, 2, 10
PROGRAMS: dict[str, tuple[list[tuple[int, int, int, int, int]], str]] = {
    "sends a packet anywhere": ([(0x85, 0, 0, 0, 23)], "calls helper 23"),
    "clones a packet to anywhere": ([(0x85, 0, 0, 0, 13)], "calls helper 13"),
    "reads the kernel": ([(0x85, 0, 0, 0, 113)], "calls helper 113"),
    "prints to the kernel's log": ([(0x85, 0, 0, 0, 6)], "calls helper 6"),
    "calls a function of the kernel's": ([(0x85, 0, 2, 0, 1)], "calls function 1"),
    "calls a piece of its own": ([(0x85, 0, 1, 0, 1)], "calls function 1"),
    "names a map by a descriptor": ([(0x18, R2, 1, 0, 5), (0, 0, 0, 0, 0)], "that is not its own"),
    "names a variable of the kernel's": ([(0x18, R2, 3, 0, 5), (0, 0, 0, 0, 0)], "that is not its own"),
    "names a map that is not there": ([(0x18, R2, 5, 0, 99), (0, 0, 0, 0, 0)], "names map 99"),
    "forgets how often it was sent on": ([(0x62, R1, 0, 48, 0)], "writes what the fabric keeps"),
    "forgets half of it": ([(0x6a, R1, 0, 50, 0)], "writes what the fabric keeps"),
    "forgets it by another register": ([(0xbf, R2, R1, 0, 0), (0x62, R2, 0, 48, 0)], "writes what the fabric keeps"),
    "forgets it from a distance": ([(0xbf, R2, R1, 0, 0), (0x07, R2, 0, 0, 48), (0x62, R2, 0, 0, 0)],
                                   "writes what the fabric keeps"),
    "forgets it later": ([(0x7b, R10, R1, -8, 0), (0x79, R2, R10, -8, 0), (0x62, R2, 0, 48, 0)],
                         "writes what the fabric keeps"),
    "forgets it by way of the stack": (
        [(0x7b, R10, R1, -8, 0), (0xbf, R2, R10, 0, 0), (0x07, R2, 0, 0, -8), (0x79, R2, R2, 0, 0),
         (0x62, R2, 0, 48, 0)], "writes what the fabric keeps"),
    "hides it": ([(0xbf, R2, R10, 0, 0), (0x07, R2, 0, 0, -8), (0x7b, R2, R1, 0, 0)], "cannot be followed"),
    "fetches what was put aside": ([(0xdb, R10, R2, -8, 1)], "is no plain store"),
    "reads as one did long ago": ([(0x20, 0, 0, 0, 0)], "of long ago"),
    "goes around for ever": ([(0xe5, 0, 0, 0, 0), (0x05, 0, 0, -2, 0)], "only the kernel's patience"),
    "jumps out of itself": ([(0x05, 0, 0, -2, 0)], "jumps out of the program"),
    "ends in half an instruction": ([(0x05, 0, 0, 1, 0), (0x18, 0, 0, 0, 0), (0, 0, 0, 0, 0)], "second half"),
    "names a register that is not there": ([(0xbf, 12, R1, 0, 0)], "a register that is not there"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that(name: str, image: Image) -> None:
    tables = frozenset(Switch.spec().tables)
    sealing.check(image, tables)
    lines, told = PROGRAMS[name]
    with pytest.raises(Unsealed, match=told):
        sealing.check(forged(image, *lines), tables)


def test_a_program_that_uses_others_maps_or_does_not_end(image: Image) -> None:
    tables = frozenset(Switch.spec().tables)
    for maps, told in (((*image.maps[:-1], "theirs"), "theirs"), (image.maps[:-1] + image.maps[:1], "one twice")):
        with pytest.raises(Unsealed, match=told):
            sealing.check(replace(image, maps=maps), tables)
    with pytest.raises(Unsealed, match="a program has 1 to"):
        sealing.check(forged(image, *[(0xb7, 0, 0, 0, 0)] * sealing.MOST_INSTRUCTIONS), tables)
    for cut in (image.code[:-3], b""):
        with pytest.raises(Unsealed, match="a program has 1 to"):
            sealing.check(replace(image, code=cut), tables)


FIELDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "too many ports": lambda data: data["ports"].update(ports=[0, 10 ** 9]),
    "ports that overlap": lambda data: data["ports"].update(more=0),
    "a port called like something else": lambda data: data["ports"].update(tables=64),
    "a table called like something else": lambda data: data["tables"][0].update(name="config"),
    "a table that hides": lambda data: data["tables"][0].update(name="__class__"),
    "a table without end": lambda data: data["tables"][0].update(size=1 << 40),
    "a table of a size that is no number": lambda data: data["tables"][0].update(size="__dict__[x]"),
    "a table of another kind": lambda data: data["tables"][0].update(kind="stack"),
    "a key that is very wide": lambda data: data["tables"][0].update(key=[10 ** 9, ""]),
    "a record of another size": lambda data: data["tables"][0]["value"].update(size=8000),
    "a record with a field of ours": lambda data: data["tables"][0]["value"].update(fields=[["_buffer", 8, ""]]),
    "a timer that never rests": lambda data: data["timers"].update(x=0.0),
    "a handler too many": lambda data: data["handlers"].append("x"),
    "a configuration without end": lambda data: data.update(record=1 << 30),
    "no entry": lambda data: data.update(lines={}),
    "a line that is no number": lambda data: data.update(lines={"ingress": True}),
    "a name that is a path": lambda data: data.update(name="../x"),
    "a schema that is none": lambda data: data.update(schema=[]),
    "too many actions": lambda data: data.update(actions=[data["actions"][0]] * 1000),
    "an image too few": lambda data: data["images"].clear(),
    "an image that is no code": lambda data: data["images"]["ingress"].update(code="xyz"),
    "maps that are no names": lambda data: data["images"]["ingress"].update(maps=[1]),
}


@pytest.mark.parametrize("name", ["nothing", *FIELDS])
def test_a_description_with(name: str, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    egress = compile(Switch, walked(), "egress").image
    data = json.loads(json.dumps(describe(Switch) | {"images": {
        one.entry: {"maps": one.maps, **{part: getattr(one, part).hex()
                                         for part in ("code", "btf", "func_info", "line_info")}}
        for one in (image, egress)}}))
    monkeypatch.setattr(workshop, "_ask", lambda *_: data)
    mine = bench(tmp_path, name)
    if name == "nothing":
        described, images = Workshop().describe(mine, "Switch")
        assert described.spec(None).tables.keys() == Switch.spec().tables.keys()
        assert images["ingress"].code.startswith(image.code[:64])
        return
    FIELDS[name](data)
    with pytest.raises(Failed, match="is not loaded"):
        Workshop().describe(mine, "Switch")


def test_whoever_reads_is_ended_with_all_that_it_began() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = begin(theirs)
        ours.sendall(packed({"purpose": "reading", "module": "own_x", "file": "x.py", "text": "while True: pass",
                             "machine": bytes(MACHINE).hex()}))
        ours.sendall(packed({"ask": 1, "do": "describe", "name": "Hub"}))

        def below(process: int) -> set[int]:
            try:
                found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            except OSError:
                return set()
            return {int(one) for one in found}.union(*(below(int(one)) for one in found))
        assert until(lambda: len(below(worker.pid)) >= 3)           # bwrap, the worker, its back end
        every = below(worker.pid)
        workshop.end(worker)
    assert until(lambda: not any(Path(f"/proc/{one}").exists() for one in every))
