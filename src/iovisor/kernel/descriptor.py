"""Owning a file descriptor.

Maps, programs, links, namespaces and sockets are all the same to user space: a number that must be closed
exactly once. `Descriptor` is that and nothing more: a context manager with an idempotent `close`, and a
finalizer that closes what was forgotten (with a ResourceWarning, as files and sockets do).

The invariant: the number is valid from construction to `close`, and after `close` reading `fd` raises
ValueError; it never silently names some other file that got the same number later.

A process may have some thousand descriptors, a host many more maps and programs. So what somebody else keeps
alive (programs their maps, program arrays their programs, pins anything) can `rest`: the number is given
back, and the next use opens the object again by its identifier in the system.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from .errors import BpfError
from .syscall import Command, Identifier, ObjectPath, attempt, call, describe

_waking = threading.RLock()


class Descriptor:
    """An owned file descriptor. Subclasses are thin: they add what the object can do."""

    __slots__ = ("_fd", "_held", "_identifier", "__weakref__")

    _opens: ClassVar[Command | None] = None     # what opens an object of this sort by its identifier

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._identifier = 0                    # once it has rested
        self._held = 0

    @property
    def fd(self) -> int:
        """The descriptor's number; ValueError once closed."""
        if self._fd < 0:
            with _waking:
                if self._fd < 0:
                    if not self._identifier or self._opens is None:
                        raise ValueError(f"{type(self).__name__} is closed")
                    self._number(open_identifier(self._opens, self._identifier, "open again"))
        return self._fd

    def held(self) -> Held:
        """The descriptor's number, good until the end: no other thread lets it rest meanwhile."""
        return Held(self)

    def fileno(self) -> int:
        return self.fd

    @property
    def closed(self) -> bool:
        return self._fd < 0 and not self._identifier

    def close(self) -> None:
        """Give the descriptor back. Safe to call twice."""
        self._identifier = 0
        self._let_go()

    def rest(self) -> None:
        """Give the number back until the object is next used. Somebody else must keep it alive meanwhile.

        Where objects cannot be opened by identifier (no CAP_SYS_ADMIN) nothing happens. A program array does
        not survive it unless it is pinned: the kernel empties one that no process has open.
        """
        if self._fd < 0 or self._opens is None or not _opens_again(self._opens):
            return
        with _waking:
            if self._fd >= 0 and not self._held:
                if not self._identifier:
                    self._identifier = identifier_of(self._fd)
                self._let_go()

    def _let_go(self) -> None:
        fd = self._fd
        if fd >= 0:
            self._number(-1)
            os.close(fd)

    def _number(self, fd: int) -> None:
        """Take another number, or none (-1)."""
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.closed else f'fd {self._fd}'}>"


class Held:
    """Inside, a descriptor does not rest.  A class, not a generator: a program is loaded with half a dozen of them."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        with _waking:
            number = self._descriptor.fd
            self._descriptor._held += 1
        return number

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _waking:
            self._descriptor._held -= 1


def pin(fd: int, path: str | os.PathLike[str], operation: str) -> None:
    """Give the object a name in a bpf file system, so that it outlives us (4.4).

    EEXIST if the name is taken, EPERM if `path` is not inside a bpf file system.
    """
    call(Command.OBJ_PIN, ObjectPath(os.fsencode(path), fd), operation, str(path))


def open_pinned(path: str | os.PathLike[str], operation: str) -> int:
    """A new descriptor for the object pinned at `path`."""
    return call(Command.OBJ_GET, ObjectPath(os.fsencode(path)), operation, str(path))


def unpin(path: str | os.PathLike[str]) -> bool:
    """Remove a pin; False if there was none. The object lives on while anyone else holds it."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


def open_identifier(command: Command, identifier: int, operation: str) -> int:
    """A new descriptor for the object of that identifier. Needs CAP_SYS_ADMIN (4.13)."""
    try:
        return call(command, Identifier(identifier), operation, str(identifier))
    except BpfError as error:
        raise BpfError(error.errno or 0, f"identifier of {operation}", str(identifier)) from None


def identifier_of(fd: int) -> int:
    """The identifier of a map or program in the system."""
    return int(describe(fd, _Head(), "object info").id)


class _Head(ctypes.Structure):
    """How what the kernel knows of a map, of a program and of a link begins."""

    _fields_ = [("type", ctypes.c_uint32), ("id", ctypes.c_uint32)]


@functools.cache
def _opens_again(command: Command) -> bool:
    """Whether this process may open objects by identifier."""
    attributes = Identifier(0xFFFFFFFF)
    return attempt(command, attributes) == -errno.ENOENT
