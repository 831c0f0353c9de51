"""Why a function decided as it did: the reference, run once with everything it looks at noted down.

CPython is the specification, so it can be asked what a kernel program cannot tell: which table entries were read, what
was written, and which line of Python returned the verdict.  The line is the innermost statement of the function's own
code (or of what it calls outside the language) that made the verdict: `return drop(Reason.DENIED)` deep in a method
that `ingress` returns the answer of, or the access that rejected the packet.

Traced by `sys.settrace`, for one run of microseconds; a debugger's or a coverage tool's trace is put back afterwards.
"""
from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .. import language
from ..language.errors import Reject
from ..language.function import Function
from ..language.integers import uint
from ..language.layout import Field, Layout, Metadata, show
from ..language.machine import now
from ..language.packet import M, Packet
from ..language.tables import PRESENT, STAMP, PythonHome, TableSpec, decode
from ..language.verdicts import Verdict

FEW = 6
_LANGUAGE = os.path.dirname(language.__file__) + os.sep


@dataclass(frozen=True)
class Line:
    """A line of Python: the file, its number from 1, the text without indentation, and the function it is in."""

    file: str
    number: int
    text: str
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.number}  {self.text}"


@dataclass
class Access:
    """What was done at one key of a table: `before` is None where there was no entry, `after` where there is none now.

    `matched` is the key of the entry that a longest-prefix lookup found.
    """

    table: str
    spec: TableSpec
    key: bytes
    before: bytes | None
    moment: int
    after: bytes | None = None
    matched: bytes | None = None
    wrote: bool = False

    @property
    def expired(self) -> bool:
        """Whether there was an entry that had lived its time: it reads as absent."""
        if not self.spec.ttl or self.before is None:
            return False
        assert isinstance(self.spec.ttl, int)
        return self.moment - int.from_bytes(self.before[-STAMP:], "little") > self.spec.ttl

    def __str__(self) -> str:
        key = f"{self.table}[{_key(self.spec, self.key)}]"
        if self.matched is not None and self.matched != self.key:
            key += f" by {_key(self.spec, self.matched)}"
        if self.before is None or self.expired:
            found = "expired" if self.before is not None else "no entry"
            return f"{key} {found}" if not self.wrote or self.after is None else \
                f"{key} {found} -> {_value(self.spec, self.after)}"
        if self.spec.inner is not None:
            return f"{key} found"
        if self.after is None:
            return f"{key} = {_value(self.spec, self.before)} -> deleted"
        changed = _changed(self.spec, self.before, self.after)
        return f"{key} = {_value(self.spec, self.before)}" + (f" -> {changed}" if changed else "")


@dataclass
class Explained:
    """What the reference made of a packet: `error` is what it raised instead of a verdict."""

    verdict: Verdict | None
    error: str | None
    line: Line | None
    accesses: list[Access]


class Noted(PythonHome):
    """A table in Python memory that notes what is done to it."""

    def __init__(self, spec: TableSpec, note: Callable[[Access], None], name: str) -> None:
        super().__init__(spec)
        self._note, self._name, self.held = note, name, dict[bytes, Access]()

    def lookup(self, key: bytes) -> bytearray | None:
        found = super().lookup(key)
        access = self._access(key, found)
        if found is not None and self.spec.kind == "lpm":
            access.matched = next(k for k, v in self.entries.items() if v is found)
        return found

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        access = self._access(key, self.entries.get(key))
        done = super().update(key, value, mode)
        access.wrote = access.wrote or (done and mode != PRESENT)
        return done

    def delete(self, key: bytes) -> bool:
        self._access(key, self.entries.get(key)).wrote = True
        return super().delete(key)

    def inner(self, key: bytes) -> PythonHome | None:
        found = self.nested.get(key)
        self._access(key, None if found is None else self.entries.get(key))
        return found  # type: ignore[return-value]

    def _access(self, key: bytes, found: bytearray | None) -> Access:
        """The note of a key, made at its first use in a run."""
        if key not in self.held:
            self.held[key] = Access(self._name, self.spec, key, None if found is None else bytes(found), now())
            self._note(self.held[key])
        return self.held[key]

    def settle(self) -> None:
        """The run is over: note what became of every key."""
        for key, access in self.held.items():
            left = self.entries.get(access.matched or key)
            access.after = None if left is None else bytes(left)
        self.held.clear()


class Carrier(Packet):
    """A packet whose metadata is bytes until somebody asks for it by kind, as in the kernel."""

    __slots__ = ("words",)

    def __init__(self, data: bytes, port: int, words: bytes) -> None:
        super().__init__(data, port)
        self.words = words

    def meta(self, kind: type[M]) -> M:
        """The metadata as this kind."""
        if kind not in self.metadata:
            self.metadata[kind] = kind.decode(self.words)
        return super().meta(kind)

    @property
    def left(self) -> bytes:
        """The metadata's bytes as they are now."""
        found: Metadata | None = next(iter(self.metadata.values()), None)
        return self.words if found is None else bytes(found) + self.words[found.size:]


def explain(function: Function, packet: Packet, entry: str, accesses: list[Access]) -> Explained:
    """Run a packet, in place.  `accesses` is what the function's tables note into."""
    deciding = Deciding()
    usual, verdict, error = sys.gettrace(), None, None
    accesses.clear()
    sys.settrace(deciding)
    try:
        verdict = function.run(packet, entry)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    finally:
        sys.settrace(usual)
    return Explained(verdict, error, deciding.line, list(accesses))


class Deciding:
    """A trace function that finds the line a verdict came from."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self._verdict: Verdict | None = None            # what was returned last, to `_caller`
        self._caller: FrameType | None = None
        self._rejected: BaseException | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return None if frame.f_code.co_filename.startswith(_LANGUAGE) else self._follow

    def _follow(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame is self._caller:
            self._caller = None                         # what was returned is not what this statement returns
        elif event == "return" and isinstance(argument, Verdict):
            if not (frame is self._caller and argument is self._verdict):
                self.line = _line(frame)
            self._verdict, self._caller = argument, frame.f_back
        elif event == "exception" and isinstance(argument[1], Reject) and argument[1] is not self._rejected:
            self._rejected, self.line = argument[1], _line(frame)
        return self._follow


def _line(frame: FrameType) -> Line:
    code = frame.f_code
    return Line(code.co_filename, frame.f_lineno, linecache.getline(code.co_filename, frame.f_lineno).strip(),
                code.co_qualname)


def _key(spec: TableSpec, key: bytes) -> str:
    if spec.kind == "lpm":
        from ..language.addresses import Prefix
        prefix = Prefix(int.from_bytes(key[4:], "big"), int.from_bytes(key[:4], "little"), 8 * len(key[4:]))
        return str(prefix) if prefix.length < prefix.bits else str(prefix).partition("/")[0]
    return _shown(spec.key, key)


def _value(spec: TableSpec, value: bytes) -> str:
    return _shown(spec.value, value)


def _shown(kind: Any, data: bytes) -> str:
    """A key or a value as people read it."""
    if isinstance(kind, type) and issubclass(kind, Layout):
        record = kind.decode(data)
        # Of a long record (a rule) most fields say nothing: what is zero is left out.
        told = [name for name in kind.fields if len(kind.fields) <= FEW or getattr(record, name)]
        return ", ".join(f"{name} {show(kind.fields[name], getattr(record, name))}" for name in told) or "all zero"
    number = int(decode(kind, data)) if kind is not None else int.from_bytes(data, "little")
    integer = uint(kind)
    return str(number) if integer is None or not integer.text else \
        show(Field("", integer.bits, 0, False, integer.text), number)


def _changed(spec: TableSpec, before: bytes, after: bytes) -> str:
    """What a write changed, empty for nothing."""
    if before == after:
        return ""
    kind = spec.value
    if not (isinstance(kind, type) and issubclass(kind, Layout)):
        return _value(spec, after)
    old, new = kind.decode(before), kind.decode(after)
    fields = [f"{name} {show(field, getattr(new, name))}" for name, field in kind.fields.items()
              if getattr(old, name) != getattr(new, name)]
    return ", ".join(fields) or "made young again"


__all__ = ["Access", "Carrier", "Explained", "Line", "Noted", "explain"]
