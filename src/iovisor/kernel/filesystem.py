"""The bpf file system: names for objects which should outlive their process.

An object pinned at a path lives until the path is unlinked, though nobody has it open. All pins of one mount
go with the mount. Machines usually have one at /sys/fs/bpf, some have none; a private one costs nothing, is
invisible to others if its directory is, and cannot collide with theirs. So the mount point is always given,
never assumed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from .errors import KernelError

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_NOSUID, _NODEV, _NOEXEC = 1 << 1, 1 << 2, 1 << 3
_MAGIC = 0xCAFE4A11


def is_mounted(directory: str | os.PathLike[str]) -> bool:
    """Is `directory` inside a bpf file system?"""
    # struct statfs begins with the type, a long, and fits into 256 bytes everywhere.
    status = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(directory), status) != 0:
        return False
    return status[0] & 0xFFFFFFFF == _MAGIC


def mount(directory: str | os.PathLike[str], mode: int = 0o700) -> Path:
    """Mount a new bpf file system at `directory`, which is made if necessary; its path.

    Does nothing if there is one. KernelError EPERM without CAP_SYS_ADMIN. Kernel 4.4.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    if is_mounted(path):
        return path
    flags = ctypes.c_ulong(_NOSUID | _NODEV | _NOEXEC)
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", flags, f"mode={mode:o}".encode()) != 0:
        raise KernelError(ctypes.get_errno(), "bpf file system mount", str(path))
    return path


def unmount(directory: str | os.PathLike[str]) -> bool:
    """Unmount; False if nothing was mounted. Every pin in it is gone, and what only it held."""
    if _libc.umount2(os.fsencode(directory), _MNT_DETACH) == 0:
        return True
    reason = ctypes.get_errno()
    if reason in (errno.EINVAL, errno.ENOENT):
        return False
    raise KernelError(reason, "bpf file system unmount", str(directory))
