"""Memory shared with the kernel, without a descriptor of its own.

Python's `mmap` duplicates the descriptor it is given and keeps the copy as long as the mapping lives; a thousand rings
are two thousand descriptors that nobody asked for.  Here the mapping alone remains: it goes with its last view.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


def shared(fd: int, length: int, *, offset: int = 0, writable: bool = True) -> memoryview:
    """`length` bytes of what is behind `fd`, from `offset` on; OSError if it cannot be mapped."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    address = _libc.mmap(None, length, protection, mmap.MAP_SHARED, fd, offset)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    block = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(block, _libc.munmap, address, length).atexit = False
    view = memoryview(block).cast("B")
    return view if writable else view.toreadonly()


__all__ = ["shared"]
