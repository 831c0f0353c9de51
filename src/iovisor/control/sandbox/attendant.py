"""The slow path of one instance, in a process of its own, and who looks after it.

A `Staff` belongs to the thread of a network and has an `Attendant` for each function of an author's there.  All of it
happens in that thread, in the turns of its loop, so nothing needs a lock.  An attendant starts its worker when there is
something to ask, and not before: a function without Python never has one.

Ways to ask.  `ask` is for events and timers and waits in the loop; the slow path lets so many wait and no more, and
what it does not take stays in the kernel's ring, which counts what it has no room for.  So the channel is bounded by
what bounds everything.  `ask_now` is for a change or an action, in the middle of which nothing else may happen to the
network: it holds up the network's thread, for `NOW` seconds at most, and no other's.

A worker that says nothing for `SILENT` seconds while it is asked, or takes `LONGEST` for one question, says what is no
message, or ends: is ended, and begun again when there is something to ask, after a pause that doubles from
`FIRST_PAUSE`.  What it was asked has failed, and counts so.  It may send `RATE` messages a second; then it is not heard
for a while, and in the end its socket is full, and it waits.
"""
from __future__ import annotations

import asyncio
import logging
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...kernel import KernelError
from ...language import Packet, machine
from ...language.errors import Reject
from ...language.tables import Home, Table, TableSpec
from .channel import Inbox, Malformed, Message, packed
from .confinement import Unconfined, begin
from .rooms import BATCH
from .workshop import end

if TYPE_CHECKING:
    from .standin import StandIn

NOW = 5.0                       # seconds for a change or an action
START = 20.0                    # seconds until a worker is ready
SILENT = 5.0
LONGEST = 40.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0
STEADY = 60.0                   # seconds that a worker lives before its past is forgotten
RATE = 5000.0                   # messages a second, and as many at once
MOST = 1 << 20                  # bytes of one
UNSENT = 16 << 20               # bytes that wait to be sent to it
READINGS = 4                    # of tables, under way at a time
log = logging.getLogger(__name__)
_here = threading.local()


class Unattended(Exception):
    """The function's Python did not answer; the message says why."""


class Complaint(Exception):
    """It answered that it could not; `said` is what it answered."""

    def __init__(self, said: Any) -> None:
        self.said: Message = said if isinstance(said, dict) else {}
        super().__init__(str(self.said.get("text", "it gave no reason"))[:4000])


@dataclass
class Attendance:
    """What people see of a worker."""

    state: str = "not started"
    starts: int = 0
    lost: int = 0
    why: str = ""


class Staff:
    """Those of one network; made in its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._attendants: dict[StandIn, Attendant] = {}
        _here.staff = self

    @staticmethod
    def here() -> Staff:
        """That of the network whose thread this is."""
        found: Staff | None = getattr(_here, "staff", None)
        if found is None:
            raise Unattended("a function's Python runs only in a network")
        return found

    def of(self, function: StandIn) -> Attendant:
        if function not in self._attendants:
            self._attendants[function] = Attendant(self.loop, function)
        return self._attendants[function]

    def keep(self, functions: Iterable[object]) -> None:
        """Let go of all but those of these functions."""
        for gone in self._attendants.keys() - set(functions):
            self._attendants.pop(gone).stop()

    def close(self) -> None:
        self.keep(())


@dataclass
class Question:
    since: float
    future: asyncio.Future[Any] | None
    answer: list[Any] = field(default_factory=list)


class Attendant:
    """Looks after the worker of one function."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: StandIn) -> None:
        self.loop, self.function, self.attendance = loop, function, Attendance()
        self._worker: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._inbox, self._out = Inbox(MOST), bytearray()
        self._open: dict[int, Question] = {}
        self._numbers = self._pauses = 0
        self._not_before = self._begun = self._readied = self._heard = self._counted = 0.0
        self._tokens = RATE
        self._ready = self._paused = False
        self._readings: dict[int, Iterator[list[str]]] = {}
        self._looking: asyncio.TimerHandle | None = None

    # -- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, do: str, **question: Any) -> Any:
        """The answer, in a turn of the loop.  Unattended, Complaint."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._put(do, question, future)
        return await future

    def tell(self, do: str, **question: Any) -> None:
        """What needs no answer, in the middle of a change that does not depend on it; one that is pausing misses it."""
        with suppress(Unattended):
            self._put(do, question, None)

    def ask_now(self, do: str, **question: Any) -> Any:
        """The answer, and nothing else meanwhile."""
        number = self._put(do, question, None)
        asked = self._open[number]
        try:
            while not asked.answer:
                patience = NOW if self._ready else START
                left = max(asked.since, self._readied if self._ready else self._begun) + patience - time.monotonic()
                if left <= 0:
                    self._lost(f"it did not answer for {patience:g} seconds")
                    break
                assert self._socket is not None
                poll = select.poll()
                poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
                poll.poll(1000 * min(left, 0.25))
                self._flush()
                if self._allowed():
                    self._receive()
                else:
                    time.sleep(0.01)
        finally:
            self._open.pop(number, None)
        answer = asked.answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _put(self, do: str, question: Message, future: asyncio.Future[Any] | None) -> int:
        self._start()
        if len(self._out) > UNSENT:
            raise Unattended("it does not read what it is told")
        self._numbers += 1
        self._open[self._numbers] = Question(time.monotonic(), future)
        self._say({"ask": self._numbers, "do": do, **question})
        if self._looking is None:
            self._looking = self.loop.call_later(1, self._look)
        return self._numbers

    # -- its life ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._worker is not None:
            return
        now = time.monotonic()
        if now < self._not_before:
            raise Unattended(f"it is begun again in {self._not_before - now:.1f} seconds, for {self.attendance.why}")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._worker = begin(theirs)
            except (OSError, Unconfined) as error:
                ours.close()
                raise Unattended(str(error)) from error
        ours.setblocking(False)
        self._socket, self._out = ours, bytearray()
        self._begun = self._heard = now
        self._ready, self._paused, self._tokens, self._counted = False, False, RATE, now
        self.attendance.starts += 1
        self.attendance.state = "starting"
        self.loop.add_reader(ours.fileno(), self._readable)
        bench = self.function.made.bench
        self._say({"purpose": "serving", "module": bench.module, "file": bench.file, "text": bench.text,
                   "machine": bytes(machine.MACHINE).hex(), "name": self.function.made.described.name,
                   "config": self.function.given})

    def stop(self) -> None:
        """End the worker; what it was asked fails."""
        self._end("it was stopped")
        self.attendance.state = "not started"
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _lost(self, why: str) -> None:
        """It is of no use any more."""
        if self._worker is None:
            return
        lived = time.monotonic() - self._begun
        self._pauses = 1 if lived > STEADY else self._pauses + 1
        pause = min(FIRST_PAUSE * 2 ** (self._pauses - 1), LAST_PAUSE)
        self._not_before = time.monotonic() + pause
        self.attendance.lost += 1
        self.attendance.state, self.attendance.why = "pausing", why
        if self.attendance.lost & (self.attendance.lost - 1) == 0:
            log.warning("the Python of %s was ended (%d times): %s", self.function.made.described.name,
                        self.attendance.lost, why)
        self._end(why)

    def _end(self, why: str) -> None:
        if self._worker is None:
            return
        assert self._socket is not None
        self.loop.remove_reader(self._socket.fileno())
        self.loop.remove_writer(self._socket.fileno())
        self._socket.close()
        end(self._worker)
        self._worker = self._socket = None
        self._inbox = Inbox(MOST)
        self._readings.clear()
        asked, self._open = self._open, {}
        for question in asked.values():
            self._answered(question, Unattended(why))

    @staticmethod
    def _answered(question: Question, answer: Any) -> None:
        question.answer.append(answer)
        if question.future is not None and not question.future.done():
            if isinstance(answer, Exception):
                question.future.set_exception(answer)
            else:
                question.future.set_result(answer)

    def _look(self) -> None:
        """Once a second while it is asked: does it still answer?"""
        self._looking = None
        now = time.monotonic()
        if not self._open or self._worker is None:
            return
        if now - self._heard > (SILENT if self._ready else START):
            self._lost(f"it did not answer for {SILENT if self._ready else START:g} seconds")
        elif now - min(one.since for one in self._open.values()) > LONGEST:
            self._lost(f"one question took it more than {LONGEST:g} seconds")
        else:
            self._looking = self.loop.call_later(1, self._look)

    # -- bytes ------------------------------------------------------------------------------------------------------

    def _say(self, message: Message) -> None:
        self._out += packed(message)
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                del self._out[:self._socket.send(self._out)]
        except BlockingIOError:
            self.loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:
            pass                                            # reading says how it ended
        self.loop.remove_writer(self._socket.fileno())

    def _allowed(self) -> bool:
        """Whether it may be heard: not if it has said too much."""
        now = time.monotonic()
        self._tokens = min(RATE, self._tokens + (now - self._counted) * RATE)
        self._counted = now
        return self._tokens >= 1

    def _readable(self) -> None:
        if not self._allowed():
            assert self._socket is not None
            self.loop.remove_reader(self._socket.fileno())
            self._paused = True
            self.loop.call_later(0.05, self._again, self._socket)
            return
        self._receive()

    def _again(self, of: socket.socket) -> None:
        if self._paused and self._socket is of:
            self._paused = False
            self.loop.add_reader(of.fileno(), self._readable)

    def _receive(self) -> None:
        """Take what there is, but little at a time."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(self._last_words())
            return
        self._inbox.feed(data)
        try:
            inbox = self._inbox
            while self._inbox is inbox and (message := inbox.take()) is not None:   # another: it was lost meanwhile
                self._tokens -= 1
                self._take(message)
        except (Malformed, KeyError, TypeError, ValueError, OverflowError) as error:
            self._lost(f"it said what is no message: {str(error)[:200]}")

    def _last_words(self) -> str:
        assert self._worker is not None and self._worker.stderr is not None
        self._worker.kill()
        self._worker.wait()
        said = self._worker.stderr.read(4096).decode(errors="replace").strip() if not self._ready else ""
        return "it ended" + (f" ({said.splitlines()[-1][:200]})" if said else "")

    def _take(self, message: Message) -> None:
        self._heard = time.monotonic()
        if "answer" in message:
            question = self._open.pop(message["answer"], None)
            if question is not None:
                self._answered(question, Complaint(message["error"]) if "error" in message else message["value"])
        elif "call" in message:
            number = message["call"]
            try:
                self._say({"return": number, "value": self._call(message)})
            except (KernelError, Reject, LookupError, TypeError, ValueError) as error:
                self._say({"return": number, "error": f"{type(error).__name__}: {error}"[:1000]})
        elif "send" in message:
            self.function.send(read_packet(message, message["send"]), message["send"])
        elif "ready" in message:
            self._ready, self._readied, self.attendance.state = True, self._heard, "running"
        elif "failed" in message:
            self._lost(str(Complaint(message["failed"])))
        elif "alive" not in message:
            raise Malformed("a message of an unknown sort")

    # -- tables -----------------------------------------------------------------------------------------------------

    def _call(self, message: Message) -> Any:
        """What is asked of a table; the function's own are the only ones there are."""
        if message["do"] == "more":
            return self._piece(message["reading"])
        table = self.function.tables[message["table"]]
        home, spec = table.home, table.spec
        for step in message["way"]:
            inner = home.inner(_exactly(step, spec.key_size)) if spec.inner is not None else None
            if inner is None or spec.inner is None:
                raise LookupError(f"{table.spec.name} has no table there")
            home, spec = inner, spec.inner
        return self._words(message, table, home, spec)

    def _words(self, message: Message, table: Table[Any, Any], home: Home, spec: TableSpec) -> Any:
        do = message["do"]
        if do == "items":
            return self._reading(iter([[key.hex(), bytes(value).hex()] for key, value in home.items()]))
        if do == "store":
            pairs = message["entries"]
            if len(pairs) > BATCH:
                raise ValueError(f"{BATCH} entries at a time")
            found = home.store({_key(key, spec): _exactly(value, spec.stored_size) for key, value in pairs})
            table._wrote()
            return found
        key = _key(message["key"], spec)
        if do in ("update", "delete", "create"):
            table._wrote()
        match do:
            case "lookup":
                found_entry = home.lookup(key)
                return None if found_entry is None else found_entry.hex()
            case "update":
                if spec.inner is not None or message["mode"] not in (0, 1, 2):
                    raise ValueError("this is no update")
                return home.update(key, _exactly(message["value"], spec.stored_size), message["mode"])
            case "delete":
                return spec.kind not in ("array", "counter") and home.delete(key)
            case "every":
                return [bytes(value).hex() for value in home.every(key)]
            case "holds":
                return spec.inner is not None and home.inner(key) is not None
            case "create":
                if spec.inner is None:
                    raise ValueError("this table holds no tables")
                home.create(key, spec.inner)
                return True
        raise ValueError(f"{do!r:.40} is nothing one asks of a table")

    def _reading(self, entries: Iterator[list[str]]) -> Any:
        while len(self._readings) >= READINGS:
            del self._readings[next(iter(self._readings))]
        self._numbers += 1
        self._readings[self._numbers] = entries
        return self._piece(self._numbers)

    def _piece(self, number: int) -> Any:
        entries = self._readings.get(number)
        piece = [] if entries is None else list(islice(entries, BATCH))
        if not piece:
            self._readings.pop(number, None)
        return {"reading": number, "entries": piece}


def read_packet(message: Message, port: Any) -> Packet:
    """A packet that a worker sends or answers.  ValueError: it is none."""
    segment, text = message["segment"], message["frame"]
    if type(port) is not int or type(segment) is not int or not 0 <= segment < 1 << 16 or \
            type(text) is not str or not 28 <= len(text) <= 2 << 16:
        raise ValueError("this is no packet")
    packet = Packet(bytes.fromhex(text), port)
    packet.segment = segment
    return packet


def _exactly(text: Any, size: int) -> bytes:
    if type(text) is not str or len(text) != 2 * size:
        raise ValueError(f"{size} bytes are expected")
    return bytes.fromhex(text)


def _key(text: Any, spec: TableSpec) -> bytes:
    key = _exactly(text, spec.key_size)
    if spec.kind == "lpm" and int.from_bytes(key[:4], "little") > 8 * len(key[4:]):
        raise ValueError("a prefix is not longer than its address")
    return key


__all__ = ["Attendance", "Complaint", "Staff", "Unattended", "read_packet"]
