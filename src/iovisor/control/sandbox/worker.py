"""What runs inside: one author's file, for one purpose.

    the daemon says                              and is answered
    {"purpose": "reading", "module", "text",
     "file", "machine"}                          (nothing)
    {"ask": 1, "do": "describe", "name"}         {"answer": 1, "value": {..., "images": {...}}}
    {"ask": 2, "do": "configure", "name",
     "config"}                                   {"answer": 2, "value": {"normal", "faults", "record", "numbers"}}

    {"purpose": "serving", ..., "name", "config"}
    {"ask": 3, "do": "entries"}                  what `configure` has put into the tables of a new instance
    {"ask": 4, "do": "reconfigure", "config"}
    {"ask": 5, "do": "handle", "event", "record", "frame", "port", "segment"}
    {"ask": 6, "do": "tick", "name"}
    {"ask": 6, "do": "part", "port"}             for what is not behind a port any more
    {"ask": 7, "do": "act", "name", "arguments"}
    {"ask": 8, "do": "convert", "method", "key", "value"}

Serving, it asks back: {"call": 1, "do": "lookup", "table", ...} is answered by {"return": 1, "value"}; {"send": port,
"frame", "segment"} by nothing; {"alive": true} says that its loop turns while something takes time,
{"ready": true} that the function is made, {"failed": ...} that it could not be.

Everything before `_load` is ours; from there on the author may do here whatever the walls let him, and so all that
comes out of here is read as if he had said it.
"""
from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import os
import select
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from ...language import Config, Function, Packet, machine
from ...language.machine import Machine
from . import confinement, seccomp
from .channel import MOST, Inbox, Message, packed
from .rooms import Room, converted

HEARTBEAT = 1.0                 # seconds between two signs of life
BACK_END = 3


class Ended(Exception):
    """The daemon has gone."""


class Line:
    """The way to the daemon, and what has come by it and was not looked at yet."""

    def __init__(self, number: int) -> None:
        self.socket = socket.socket(fileno=number)
        self.waiting: deque[Message] = deque()
        self._inbox = Inbox(MOST)
        self._calls = 0

    def say(self, message: Message) -> None:
        self.socket.sendall(packed(message))

    def hear(self) -> Message:
        """The next message."""
        while (found := self._inbox.take()) is None:
            self.fill()
        return found

    def heard(self) -> list[Message]:
        """What has come, without waiting for more than there is."""
        if select.select([self.socket], [], [], 0)[0]:
            self.fill()
        while (found := self._inbox.take()) is not None:
            self.waiting.append(found)
        found_all, self.waiting = list(self.waiting), deque()
        return found_all

    def fill(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise Ended
        self._inbox.feed(data)

    def call(self, **question: Any) -> Any:
        """Ask the daemon, and wait; what else comes meanwhile has to."""
        self._calls += 1
        self.say({"call": self._calls, **question})
        while True:
            found = self.hear()
            if found.get("return") != self._calls:
                self.waiting.append(found)
                continue
            if "error" in found:
                raise RuntimeError(found["error"])
            return found["value"]


def main(number: int) -> None:
    line = Line(number)
    begin = line.hear()
    # Before anything of the author's is here; what is imported later may need more than is allowed then.
    confinement.confine(confinement.READING if begin["purpose"] == "reading" else confinement.SERVING)
    if begin["purpose"] == "reading":
        from ...compiler.backend import BACKEND
        BACKEND.start()
    machine.MACHINE = Machine.decode(bytes.fromhex(begin["machine"]))
    path = f"{confinement.OWN}/{begin['module']}.py"
    with open(path, "w") as file:
        file.write(begin["text"])
    seccomp.install(seccomp.alone())
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 2)
    try:
        if begin["purpose"] == "reading":
            _read(line, begin, path)
        else:
            asyncio.run(Service(line, begin, path).run())
    except Ended:
        pass
    os._exit(0)                                             # nothing of the author's when it ends


def _load(module: str, path: str) -> Any:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None and spec.loader is not None
    found = sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _kinds(module: Any) -> dict[str, type[Function]]:
    from ..declared import declared
    return {kind.__name__: kind for kind in declared(module, module.__name__)}


# -- reading ---------------------------------------------------------------------------------------------------------

def _read(line: Line, begin: Message, path: str) -> None:
    while True:
        asked = line.hear()
        try:
            value = _describe(begin, path, asked["name"]) if asked["do"] == "describe" else \
                _configure(begin, path, asked["name"], asked["config"])
            line.say({"answer": asked["ask"], "value": value})
        except Ended:
            raise
        except BaseException as error:
            line.say({"answer": asked["ask"], "error": _said(error, begin, path)})


def _describe(begin: Message, path: str, name: str) -> Message:
    from ...compiler.driver import compile
    from .description import ENTRIES, describe
    kinds = _kinds(_load(begin["module"], path))
    if name not in kinds:
        return {"names": list(kinds)}
    kind = kinds[name]
    found = describe(kind)
    images = {entry: compile(kind, walked(), entry).image for entry in ENTRIES if hasattr(kind, entry)}
    return found | {"images": {entry: {
        "maps": list(image.maps),
        **{part: getattr(image, part).hex() for part in ("code", "btf", "func_info", "line_info")}}
        for entry, image in images.items()}}


def walked() -> Any:
    """The target of programs of others: their loops are walked by the verifier, turn by turn."""
    from ...targets.tc import Tc

    class Walked(Tc):
        def walked_once(self, emit: Any, loop: Any) -> bool:
            return False
    return Walked()


def _configure(begin: Message, path: str, name: str, given: Message) -> Message:
    from ..configured import made, normal
    from .description import numbers
    kind = _kinds(_load(begin["module"], path))[name].spec().config
    written, faults = normal(kind, given)
    if faults:
        return {"normal": written, "faults": [vars(fault) | {"path": list(fault.path)} for fault in faults]}
    config = made(kind, given)
    return {"normal": written, "faults": [], "record": bytes(config.record()).hex(),
            "numbers": numbers(_kinds(sys.modules[begin["module"]])[name], config)}


def _said(error: BaseException, begin: Message, path: str) -> Message:
    """What went wrong, as the author reads it."""
    kind = "syntax" if isinstance(error, SyntaxError) else "language" if type(error).__module__.startswith(
        "iovisor.") else "other"
    text = "".join(traceback.format_exception_only(error)).strip() if kind == "syntax" else \
        str(error) if kind == "language" else f"{type(error).__name__}: {error}"
    return {"kind": kind, "text": text[:20_000].replace(path, begin["file"])}


# -- serving ---------------------------------------------------------------------------------------------------------

class Service:
    """One function, whose tables are elsewhere."""

    def __init__(self, line: Line, begin: Message, path: str) -> None:
        self.line, self.begin, self.path = line, begin, path
        self.tasks: set[asyncio.Task[None]] = set()
        self.first: dict[str, list[Any]] = {}

    def begin_with(self) -> None:
        """Make the function, whose tables then are the daemon's."""
        from ..configured import made
        kind = _kinds(_load(self.begin["module"], self.path))[self.begin["name"]]
        self.made: Callable[[Message], Config] = lambda given: made(kind.spec().config, given)
        self.function = kind(config=self.made(self.begin["config"]))
        for name, table in self.function.tables.items():
            self.first[name] = list(_entries(table.spec, table.home))
            table.home = Room(self.line, table.spec, name)
        for port, frame in self.function.outbox:
            self._post(port, frame)
        self.function.post = self._post

    async def run(self) -> None:
        try:
            self.begin_with()
        except Exception as error:
            self.line.say({"failed": self._told(error)})
            return
        self.line.say({"ready": True})
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        came.set()                                          # something may have come with the first message
        loop.add_reader(self.line.socket.fileno(), came.set)
        heart = asyncio.create_task(self._beat())
        try:
            while True:
                await came.wait()
                came.clear()
                for asked in self.line.heard():
                    await self._one(asked)
                if self.line.waiting:                       # what came while a handler asked for a table
                    came.set()
        finally:
            heart.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            if self.tasks:
                self.line.say({"alive": True})

    async def _one(self, asked: Message) -> None:
        try:
            found = getattr(self, f"_do_{asked['do']}")(asked)
        except Exception as error:
            self._failed(asked, error)
            return
        if not inspect.isawaitable(found):
            self.line.say({"answer": asked["ask"], "value": found})
            return

        async def answer() -> None:
            try:
                self.line.say({"answer": asked["ask"], "value": await found})
            except Exception as error:
                self._failed(asked, error)
        task = asyncio.create_task(answer())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _failed(self, asked: Message, error: Exception) -> None:
        from ..problems import Missing, Refused
        if isinstance(error, Refused):
            said: Message = {"kind": "refused", "problems": [
                {"path": list(one.path), "what": one.what, "fix": one.fix} for one in error.problems]}
        elif isinstance(error, Missing):
            said = {"kind": "missing", "text": error.detail}
        else:
            said = self._told(error)
        self.line.say({"answer": asked["ask"], "error": said})

    def _told(self, error: Exception) -> Message:
        """An error, and the author's line it came from."""
        said = _said(error, self.begin, self.path)
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == self.path]
        said["text"] += "".join(f" ({self.begin['file']}:{line})" for line in lines[-1:])
        return said

    # -- what is asked ----------------------------------------------------------------------------------------------

    def _do_entries(self, asked: Message) -> Any:
        found, self.first = self.first, {}
        return found

    def _do_reconfigure(self, asked: Message) -> Any:
        self.function.reconfigure(self.made(asked["config"]))
        return None

    def _do_handle(self, asked: Message) -> Any:
        kind = self.function.spec().events[asked["event"]]
        handler = self.function.method(self.function.spec().handlers[kind])
        packet = Packet(bytes.fromhex(asked["frame"]), asked["port"])
        packet.segment = asked["segment"]
        found = handler(kind.decode(bytes.fromhex(asked["record"])), packet)
        if not inspect.isawaitable(found):
            return self._packet(found, packet)

        async def wait() -> Any:
            return self._packet(await found, packet)
        return wait()

    @staticmethod
    def _packet(answer: Any, given: Packet) -> Any:
        if not isinstance(answer, Packet):
            return None
        return {"frame": bytes(answer).hex(), "port": answer.port, "segment": answer.segment,
                "same": answer is given}

    def _do_part(self, asked: Message) -> Any:
        self.function.parted(asked["port"])
        return None

    def _do_restore(self, asked: Message) -> Any:
        self.function.restored(asked["since"])
        return None

    def _do_tick(self, asked: Message) -> Any:
        found = self.function.method(asked["name"])()
        if not inspect.isawaitable(found):
            return None

        async def wait() -> None:
            await found
        return wait()

    def _do_act(self, asked: Message) -> Any:
        from ..actions import act
        return act(self.function, asked["name"], asked["arguments"])

    def _do_convert(self, asked: Message) -> Any:
        """Of a migration: bytes of an entry to those of another; see `standin`, which decides what is asked."""
        method = getattr(self.function, asked["method"])
        for table, other, back in getattr(method, "__migrates__", ()):
            if (table, back) == (asked["table"], asked["back"]):
                mine = self.function.tables[table].spec if table in self.function.tables else None
                since, to = (mine, other) if back else (other, mine)
                assert since is not None
                return converted(since, to, asked["key"], asked["value"], method)
        raise ValueError(f"{asked['method']} converts no {asked['table']}")

    def _post(self, port: int, frame: bytes, segment: int = 0) -> None:
        self.line.say({"send": port, "frame": frame.hex(), "segment": segment})


def _entries(spec: Any, home: Any) -> Any:
    for key, value in list(home.entries.items()):
        if spec.inner is not None:
            inner = home.inner(key)
            yield [key.hex(), list(_entries(spec.inner, inner)) if inner is not None else []]
        elif spec.kind not in ("array", "counter") or any(value):
            yield [key.hex(), bytes(value).hex()]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        main(int(sys.argv[1]))
