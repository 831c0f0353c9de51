"""The walls around a worker.

    unshare       a mount namespace of its own, in which what it may read is bound where anybody may go
    setpriv       from here on nobody: no capability, no group, a user without files
    bwrap         user, process, network, IPC, UTS and cgroup namespaces; a file system of what it may read, read-only,
                  and one small place of its own, in memory
    limits        memory, files, descriptors, processor time; the lowest priority           (`confine`, inside)
    seccomp       a list of system calls                                                    (`confine`, inside)

Inside there is Python, iovisor, LLVM, and the file with the author's code: no `/etc`, no device but `/dev/null`, no
process but its own, no network interface, not even one to itself.  The first three run before the first line of ours;
the last two before the first line of the author's.

bwrap is run as nobody rather than as root, so that what is on either side of its user namespace is nobody: a mistake in
one wall leads to a user who may do nothing.
"""
from __future__ import annotations

import importlib.util
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import seccomp

NOBODY = 65534
APP, OWN = "/app", "/own"       # inside: our packages; the author's file
PLACE = 4 << 20                 # bytes of its own place
PACKAGES = ("llvmlite", "pydantic", "pydantic_core", "typing_extensions", "annotated_types", "typing_inspection",
            "yaml")
NEEDED = ("bwrap", "unshare", "setpriv", "mount")


class Unconfined(Exception):
    """This machine cannot hold a worker; the message says what is missing."""


@dataclass(frozen=True)
class Limits:
    """What one process may have: bytes of memory, seconds of processor time (0: as long as it lives), descriptors."""

    memory: int
    processor: int = 0
    descriptors: int = 64


READING = Limits(1 << 30, 30)
SERVING = Limits(256 << 20)


def begin(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start a worker with its end of a socket pair.  Unconfined if that is not possible here.

    It dies with the thread that started it (`--die-with-parent`), so that has to be one that lives as long.
    """
    _possible()
    script = ["set -e", "mount -t tmpfs -o mode=755 none /mnt"]
    binds = []
    for number, (inside, outside) in enumerate(_trees()):
        place = f"/mnt/{number}"
        make = f"mkdir {place}" if Path(outside).is_dir() else f"touch {place}"
        script += [make, f"mount --bind {shlex.quote(outside)} {place}"]
        binds += ["--ro-bind", place, inside]
    walls = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "bwrap",
             "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--proc", "/proc",
             "--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", *_system(), *binds,
             "--size", str(PLACE), "--tmpfs", OWN, "--remount-ro", "/", "--chdir", OWN,
             "--setenv", "PYTHONPATH", APP, "--setenv", "TMPDIR", OWN, "--setenv", "LC_ALL", "C.UTF-8", "--",
             os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-m", "iovisor.control.sandbox.worker",
             str(channel.fileno())]
    script.append(f"exec {shlex.join(walls)}")
    return subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            pass_fds=(channel.fileno(),), cwd="/", close_fds=True)


def confine(limits: Limits) -> None:
    """Inside: no more than this from here on."""
    for what, most in ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_NOFILE, limits.descriptors),
                       (resource.RLIMIT_FSIZE, PLACE), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 64),
                       (resource.RLIMIT_CPU, limits.processor or resource.RLIM_INFINITY)):
        resource.setrlimit(what, (most, most))
    os.nice(19)
    seccomp.install(seccomp.general())


@cache
def _possible() -> None:
    missing = [program for program in NEEDED if not shutil.which(program)]
    if missing:
        raise Unconfined(f"functions of your own run in a sandbox, and {', '.join(missing)} is not there: "
                         "install bubblewrap and util-linux")
    if not seccomp.known():
        raise Unconfined("functions of your own run in a sandbox, whose filter of system calls is written for x86_64")


@cache
def _trees() -> tuple[tuple[str, str], ...]:
    """What is bound: where inside, and from where."""
    found = [(f"{APP}/iovisor", str(Path(__file__).parents[2]))]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        inside = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        found.append((f"{APP}/{inside.name}", str(inside)))
    base = os.path.realpath(sys.base_prefix)
    if not base.startswith("/usr"):
        found.append((base, base))
    return tuple(found)


@cache
def _system() -> tuple[str, ...]:
    """The system's libraries, as they lie here."""
    words = ["--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return tuple(words)


__all__ = ["NOBODY", "OWN", "READING", "SERVING", "Limits", "Unconfined", "begin", "confine"]
