"""Network namespaces: the rooms in which interfaces live.

A `NetworkNamespace` owns a descriptor, and that alone keeps the namespace alive: anonymous ones vanish with
their last user, nothing to clean up. Named ones are additionally mounted at /run/netns/NAME, exactly as `ip
netns` does it, so that the two can be mixed; they live until `delete`.

In Linux the namespace is a property of the *thread*, which gives three rules. New namespaces are made by a
short-lived thread that unshares, so that no other thread ever notices. `entered()` moves the calling thread
and puts it back, also on error; never await inside it, the event loop would run others in the wrong room. A
process is started inside by forking while entered, since a child inherits the room of the thread that made
it: no `preexec_fn`, no nsenter.

What is not changed is the mount namespace: /sys/class/net shows the interfaces of the room in which /sys was
mounted.

Rejected: staying in a namespace through a resident thread per namespace (a thousand ports would be a
thousand threads).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from .descriptor import Descriptor
from .errors import KernelError

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 1 << 12, 1 << 14, 1 << 20, 2
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


class NetworkNamespace(Descriptor):
    """An open network namespace. `name` is None if it is anonymous."""

    __slots__ = ("name",)

    def __init__(self, fd: int, name: str | None = None) -> None:
        """Take over `fd`, which must be a network namespace."""
        super().__init__(fd)
        self.name = name

    # -- making and finding ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None) -> Self:
        """A new namespace, anonymous or named. Its loopback is down.

        KernelError: EEXIST the name is taken, EPERM no CAP_SYS_ADMIN.
        """
        made = cls(_in_thread(_unshare))
        if name is not None:
            try:
                made.give_name(name)
            except BaseException:
                made.close()
                raise
        return made

    def give_name(self, name: str) -> None:
        """Name an anonymous one: from here on it lives until `delete`. KernelError EEXIST: the name is taken."""
        path = _path(name)
        _prepare_directory()
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            raise KernelError(errno.EEXIST, "namespace create", name) from None
        try:
            _mount(f"/proc/self/fd/{self.fd}", str(path), _MS_BIND)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.name = name

    @classmethod
    def open(cls, name: str) -> Self:
        """The namespace of that name. KernelError ENOENT if there is none."""
        return cls(_open(_path(name), name), name)

    @classmethod
    def current(cls) -> Self:
        """The namespace of the calling thread."""
        return cls(_open(_OWN, "current"))

    @classmethod
    def of_process(cls, pid: int) -> Self:
        """The namespace of a process, e.g. a container."""
        return cls(_open(f"/proc/{pid}/ns/net", f"of process {pid}"))

    @staticmethod
    def names() -> list[str]:
        """The named namespaces, sorted."""
        return sorted(entry.name for entry in DIRECTORY.iterdir()) if DIRECTORY.is_dir() else []

    # -- asking ----------------------------------------------------------------------------------------------

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode): equal for two descriptors exactly if they are the same namespace."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def pids(self) -> list[int]:
        """The processes whose main thread is inside, sorted. Looks at every process of the machine."""
        inside = []
        identity = self.identity
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{entry}/ns/net")
                    if (status.st_dev, status.st_ino) == identity:
                        inside.append(int(entry))
        return sorted(inside)

    # -- being inside ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread inside and, whatever happens, back. Nests. Never await inside."""
        home = _open(_OWN, "current")
        try:
            _enter(self.fd, self.name or "anonymous")
            try:
                yield
            finally:
                _enter(home, "the way back")
        finally:
            os.close(home)

    def run(self, function: Callable[[], Result]) -> Result:
        """The result of `function`, called inside on the calling thread."""
        with self.entered():
            return function()

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process inside; options as for subprocess.Popen."""
        with self.entered():
            return subprocess.Popen(arguments, **options)

    def execute(self, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command inside, waiting outside; options as for subprocess.run, but it checks."""
        timeout, check = options.pop("timeout", None), options.pop("check", True)
        text_input = options.pop("input", None)
        if options.pop("capture_output", False):
            options["stdout"] = options["stderr"] = subprocess.PIPE
        if text_input is not None:
            options["stdin"] = subprocess.PIPE
        with self.popen(arguments, **options) as process:
            try:
                output, errors = process.communicate(text_input, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            raise subprocess.CalledProcessError(process.returncode, arguments, output, errors)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    # -- ending ----------------------------------------------------------------------------------------------

    def delete(self) -> None:
        """Remove the name, if any, and close; it ends with its last process or descriptor."""
        if self.name is not None:
            delete(self.name)
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<NetworkNamespace {self.name or 'anonymous'} {state}>"


@contextlib.contextmanager
def temporary(name: str | None = None) -> Iterator[NetworkNamespace]:
    """A new namespace for the duration of a `with`; deleted at its end."""
    namespace = NetworkNamespace.create(name)
    try:
        yield namespace
    finally:
        namespace.delete()


def delete(name: str) -> bool:
    """Remove a named namespace; False if there was none."""
    path = _path(name)
    unmounted = _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0
    if not unmounted and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise KernelError(ctypes.get_errno(), "namespace delete", name)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _path(name: str) -> Path:
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} cannot name a network namespace")
    return DIRECTORY / name


def _open(path: str | Path, name: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "namespace open", name) from None


def _enter(fd: int, name: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise KernelError(ctypes.get_errno(), "namespace enter", name)


def _unshare() -> int:
    """Move the calling thread into a new namespace; a descriptor of it."""
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise KernelError(ctypes.get_errno(), "namespace create")
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None) != 0:
        raise KernelError(ctypes.get_errno(), "namespace mount", target)


def _prepare_directory() -> None:
    """Make /run/netns a shared mount point: names are then seen in every mount namespace."""
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        _mount("", str(DIRECTORY), _MS_SHARED | _MS_REC)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(str(DIRECTORY), str(DIRECTORY), _MS_BIND | _MS_REC)
        _mount("", str(DIRECTORY), _MS_SHARED | _MS_REC)


def _in_thread(build: Callable[[], int]) -> int:
    """Run `build` in a thread that dies after it: whatever it did to its own namespace dies too."""
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(build())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="namespace")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result
