"""Waiting until no packet walks by what was wired before.

A slot write is seen at once by packets that come after it; one that is on its way has read the old slot.  Before what
the old slot led to is taken apart, every CPU must have left the programs it was in: an RCU grace period, which user
space gets by membarrier(2).  Some 10 ms, or some 0.05 inside `rcu.expedited()`.
"""
from __future__ import annotations

import ctypes
import os
import time

from ..kernel import rcu

_NUMBER = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
_GLOBAL = 1
_libc = ctypes.CDLL(None, use_errno=True)


def wait() -> None:
    """Return when every packet that was on its way at the call has left the programs it was in."""
    number = _NUMBER.get(os.uname().machine)
    with rcu.expedited():
        if number is None or _libc.syscall(ctypes.c_long(number), _GLOBAL, 0, 0) != 0:
            time.sleep(0.05)
