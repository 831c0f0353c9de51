"""Owning a file descriptor.

Maps, programs, links, namespaces and sockets are all the same to user space: a number that must be closed
exactly once. `Descriptor` is that and nothing more: a context manager with an idempotent `close`, and a
finalizer that closes what was forgotten (with a ResourceWarning, as files and sockets do).

The invariant: the number is valid from construction to `close`, and after `close` reading `fd` raises
ValueError; it never silently names some other file that got the same number later.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import BpfError
from .syscall import Command, Identifier, ObjectPath, call


class Descriptor:
    """An owned file descriptor. Subclasses are thin: they add what the object can do."""

    __slots__ = ("_fd", "__weakref__")

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor's number; ValueError once closed."""
        if self._fd < 0:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._fd

    def fileno(self) -> int:
        return self.fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        """Give the descriptor back. Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

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
