"""LLVM, in a process of its own.

LLVM's BPF back end does not raise: on code it cannot select it prints and calls `exit(1)` or `abort`, and takes
Python with it.  So it runs in a forked child that is kept for the next compilation: the child imports llvmlite while
the parent still reads Python, which hides most of that import.  When it dies, what it printed becomes a
`BackendError` and the next compilation forks another.  The parent never imports llvmlite for eBPF.

The child answers requests on a socket pair and ends when the parent's end closes, however the parent died.
"""
from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import tempfile
from dataclasses import dataclass
from typing import Any

from .errors import BackendError


@dataclass(frozen=True)
class Job:
    """What to make of a module's text.  `triple` decides the back end (empty: this machine), `level` is 0 to 3."""

    text: str
    triple: str
    cpu: str
    features: str
    level: int
    assembly: bool = False


@dataclass(frozen=True)
class Product:
    """The object file, and the assembly if it was asked for; `seconds` in LLVM."""

    code: bytes
    assembly: str
    seconds: float


class Backend:
    """The child and the way to it."""

    def __init__(self) -> None:
        self.child = 0
        self.owner = 0
        self.socket: socket.socket | None = None
        self.printed: Any = None

    def start(self) -> None:
        """Fork the child now, so that it is ready when text is."""
        if self.socket is not None:
            if self.owner == os.getpid():
                return
            self._let_go()                  # a fork of the parent: the child is not ours
        ours, theirs = socket.socketpair()
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        child = os.fork()
        if child == 0:
            ours.close()
            _serve(theirs, self.printed.fileno())
        theirs.close()
        self.child, self.owner, self.socket = child, os.getpid(), ours

    def compile(self, job: Job) -> Product:
        """Raises `BackendError` with what LLVM printed."""
        self.start()
        assert self.socket is not None
        self.printed.seek(0)
        self.printed.truncate()
        try:
            _send(self.socket, job)
            answer = _receive(self.socket)
        except (EOFError, OSError):
            answer = None
        if isinstance(answer, Product):
            return answer
        self.printed.seek(0)
        said = answer or self.printed.read().decode(errors="replace").strip() or "LLVM ended without a word"
        if answer is None:
            self.stop()
        raise BackendError(said)

    def stop(self) -> None:
        """End the child."""
        if self.socket is None or self.owner != os.getpid():
            return
        self._let_go()
        try:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def _let_go(self) -> None:
        assert self.socket is not None
        self.socket.close()
        self.printed.close()
        self.socket = None


def _send(channel: socket.socket, value: object) -> None:
    data = pickle.dumps(value)
    channel.sendall(len(data).to_bytes(8, "little") + data)


def _receive(channel: socket.socket) -> Any:
    return pickle.loads(_exactly(channel, int.from_bytes(_exactly(channel, 8), "little")))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = channel.recv(min(count - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _serve(channel: socket.socket, printed: int) -> None:
    """The child's life.  It never returns: nothing of the parent may run in it, no handler, no flush."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        low, high = sorted((channel.fileno(), printed))
        for first, last in ((3, low), (low + 1, high), (high + 1, (1 << 31) - 1)):
            os.closerange(first, last)      # the parent's maps, programs and sockets must not live on in here
        import llvmlite.binding as llvm
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        while True:
            job = _receive(channel)
            try:
                _send(channel, _compile(llvm, job))
            except RuntimeError as error:
                _send(channel, str(error))
    except EOFError:
        code = 0
    finally:
        os._exit(code)


def _compile(llvm: Any, job: Job) -> Product:
    import time
    begun = time.perf_counter()
    module = llvm.parse_assembly(job.text)
    module.verify()
    if job.triple:
        machine = llvm.Target.from_triple(job.triple).create_target_machine(
            cpu=job.cpu, features=job.features, opt=max(job.level, 1), reloc="static")
    else:
        machine = llvm.Target.from_default_triple().create_target_machine(opt=job.level, jit=True)
    if job.level:
        options = llvm.create_pipeline_tuning_options(speed_level=job.level)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    code = machine.emit_object(module)
    assembly = machine.emit_assembly(module) if job.assembly else ""
    return Product(code, assembly, time.perf_counter() - begun)



BACKEND = Backend()
atexit.register(BACKEND.stop)
