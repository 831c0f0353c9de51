"""Short grace periods: the difference between 10 ms and 20 µs for every attachment.

Attaching a program, deleting an interface and changing a map of maps wait until every CPU has let go of the
old state. By default the kernel is in no hurry; /sys/kernel/rcu_expedited makes it interrupt the CPUs
instead. That is a setting of the whole machine, good for a burst of configuration and impolite for ever, so
it is a context manager.

It nests: within a process by counting, and between processes by a lock file, of which everybody inside holds
a shared lock. The first one in switches the setting on and notes that in the file; the last one out, who
gets the lock for itself, switches it off if the note is there. An administrator's own setting is left alone.
If a process dies inside, the kernel drops its lock and the next one out restores; at worst the setting stays
on until somebody comes by, which is harmless.

Rejected: leaving it on (RCU callbacks then cost interrupts for everybody).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

SETTING = Path("/sys/kernel/rcu_expedited")
LOCK = Path("/run/iovisor-rcu-expedited.lock")

_lock = threading.Lock()
_depth = 0
_file = -1
_short = False                  # whether the setting was on when the first came in


def is_expedited() -> bool:
    """Is the setting on?"""
    with contextlib.suppress(OSError):
        return SETTING.read_text(encoding="ascii").strip() not in ("", "0")
    return False


@contextlib.contextmanager
def expedited() -> Iterator[bool]:
    """Short grace periods meanwhile, in the whole machine; whether the setting could be made.

    Not being allowed to is no error: everything works, a thousand times slower.
    """
    global _depth, _file, _short
    with _lock:
        if _depth == 0:
            _file = _begin()
            _short = is_expedited()
        _depth += 1
    try:
        yield _short
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _end(_file)
                _file = -1


def _begin() -> int:
    """Join those who want it on; the lock file's content says whether one of us switched it on."""
    try:
        file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
    fcntl.flock(file, fcntl.LOCK_SH)
    if not is_expedited():
        with contextlib.suppress(OSError):
            SETTING.write_text("1", encoding="ascii")
            os.pwrite(file, b"1", 0)
    return file


def _end(file: int) -> None:
    """Leave; if we were the last and one of us switched it on, switch it off."""
    if file < 0:
        return
    try:
        # Not atomic, but an upgrade that fails means that somebody else is inside and will do it.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.pread(file, 1, 0) == b"1":
            os.ftruncate(file, 0)
            SETTING.write_text("0", encoding="ascii")
    except OSError:
        pass
    finally:
        os.close(file)
