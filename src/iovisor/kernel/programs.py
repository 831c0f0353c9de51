"""Programs: bytecode that passed the verifier.

`ProgramSpec` describes (instructions, licence, type information) and is deterministic; `Program` owns the
descriptor. A spec refers to its maps by *index*: the instructions use BPF_PSEUDO_MAP_IDX (source register 5,
or 6 for a value), and `Program.load` passes the descriptors beside them. So the same bytes can be cached,
hashed and loaded again with other maps; rejected was patching descriptors into the instructions, which made
every load unique.

Loading is done quietly first and, if the verifier refuses, again with its log, because the log makes a load
some ten times slower. The log buffer grows until the whole text fits.

`test_run` executes the program in the kernel on a packet of the caller's. It is made to be called a million
times: the argument structure and the output buffers live as long as the program, input is passed by
pointer. Kernel: 5.14 for `fd_array`, 5.2 for contexts in test runs, 5.18 for live frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, Self

from . import descriptor, syscall
from .btf import Btf
from .descriptor import Descriptor
from .errors import BpfError, VerifierRejection
from .maps import Map
from .syscall import NUMBER, Command, ProgramBindMap, ProgramLoad, Single, attempt, buffer, call, describe, text
from .syscall import syscall as trap

_LOG_FIRST, _LOG_LAST = 1 << 18, 1 << 28
_DATA_ROOM, _CONTEXT_ROOM = 1 << 17, 256
_LIVE_FRAMES = 2
_RUN = int(Command.PROG_TEST_RUN)
_RUN_SIZE = ctypes.sizeof(syscall.TestRun)


class ProgramKind(IntEnum):
    """enum bpf_prog_type, those a network function can want."""

    SOCKET_FILTER = 1
    KPROBE = 2
    SCHED_CLS = 3
    SCHED_ACT = 4
    TRACEPOINT = 5
    XDP = 6
    PERF_EVENT = 7
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    LWT_IN = 10
    LWT_OUT = 11
    LWT_XMIT = 12
    SOCK_OPS = 13
    SK_SKB = 14
    SK_MSG = 16
    RAW_TRACEPOINT = 17
    CGROUP_SOCK_ADDR = 18
    FLOW_DISSECTOR = 22
    TRACING = 26
    SK_LOOKUP = 30
    SYSCALL = 31
    NETFILTER = 32


class AttachType(IntEnum):
    """enum bpf_attach_type, those used here. A program put into a program array must be loaded with it."""

    NONE = 0
    XDP_DEVMAP = 33
    XDP_CPUMAP = 35
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class ProgramFlag(IntFlag):
    """Flags of program loading."""

    STRICT_ALIGNMENT = 1 << 0
    SLEEPABLE = 1 << 4
    XDP_FRAGMENTS = 1 << 5
    XDP_DEVICE_BOUND = 1 << 6


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What a program is.

    `instructions` are 8 bytes each, maps referred to by index. `func_info` (8 bytes a record) and
    `line_info` (16) are the kernel's arrays and need `btf`.
    """

    name: str
    kind: ProgramKind
    instructions: bytes
    licence: str = "GPL"
    btf: bytes = b""
    func_info: bytes = b""
    line_info: bytes = b""
    expected_attach_type: int = 0
    flags: int = 0

    def __post_init__(self) -> None:
        if not self.instructions or len(self.instructions) % 8:
            raise ValueError(f"program {self.name!r}: instructions come in 8 bytes, at least one")
        if (self.func_info or self.line_info) and not self.btf:
            raise ValueError(f"program {self.name!r}: func_info and line_info need btf")
        if len(self.func_info) % 8 or len(self.line_info) % 16:
            raise ValueError(f"program {self.name!r}: func_info has 8, line_info 16 bytes a record")


class TestRun(NamedTuple):
    """What a test run left. `return_value` is signed; `data` and `context` as the program left them.

    `duration_ns` is the mean time of one run, meaningful with a large `repeat`.
    """

    return_value: int
    data: bytes
    context: bytes
    duration_ns: int


# The name begins like a test: pytest must not collect it where it is imported.
TestRun.__test__ = False  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel knows of a program. Lengths in bytes; `verified` counts instructions the verifier
    walked.

    `run_count` and `run_time_ns` grow only while statistics are enabled, see `statistics_enabled`.
    """

    id: int
    kind: int
    name: str
    tag: str
    translated_length: int
    compiled_length: int
    verified: int
    run_count: int
    run_time_ns: int
    recursion_misses: int
    map_count: int
    btf_id: int
    load_time_ns: int

    @property
    def instructions(self) -> int:
        """Instructions after the verifier's rewriting."""
        return self.translated_length // 8


class _Information(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("gpl_compatible", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("nr_jited_ksyms", ctypes.c_uint32),
        ("nr_jited_func_lens", ctypes.c_uint32),
        ("jited_ksyms", ctypes.c_uint64),
        ("jited_func_lens", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("nr_func_info", ctypes.c_uint32),
        ("nr_line_info", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("jited_line_info", ctypes.c_uint64),
        ("nr_jited_line_info", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("jited_line_info_rec_size", ctypes.c_uint32),
        ("nr_prog_tags", ctypes.c_uint32),
        ("prog_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
        ("verified_insns", ctypes.c_uint32),
        ("attach_btf_obj_id", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
    ]


class Program(Descriptor):
    """A loaded program. `log` is the verifier's text if it was asked for, else empty."""

    __slots__ = (
        "name", "kind", "log", "_lock", "_data", "_context", "_plain", "_full", "_plain_at", "_full_at",
    )
    _opens = Command.PROG_GET_FD_BY_ID

    def __init__(self, fd: int, name: str, kind: int, log: str = "") -> None:
        """Take over `fd`, which must be a program."""
        super().__init__(fd)
        self.name, self.kind, self.log = name, kind, log
        self._lock = threading.Lock()
        self._data: Any = None
        self._context: Any = None
        self._plain: Any = None
        self._full: Any = None
        self._plain_at = self._full_at = 0

    # -- making and finding ----------------------------------------------------------------------------------

    @classmethod
    def load(cls, spec: ProgramSpec, maps: Sequence[Map | int] = (), log_level: int = 0) -> Self:
        """Verify and load.

        `maps` are the maps, or their descriptors, in the order of the indexes in the instructions; the
        program keeps them alive. With `log_level` 1 (or 2, huge; 4, statistics only) the log is kept on
        success as well.

        VerifierRejection if the verifier refuses; BpfError otherwise (EPERM, E2BIG, EINVAL).
        """
        with contextlib.ExitStack() as holding:
            numbers = [item if isinstance(item, int) else holding.enter_context(item.held()) for item in maps]
            return cls._load(spec, numbers, log_level)

    @classmethod
    def _load(cls, spec: ProgramSpec, descriptors: list[int], log_level: int) -> Self:
        array = (ctypes.c_int32 * max(len(descriptors), 1))(*descriptors)
        types = Btf.load(spec.btf) if spec.btf else None
        try:
            attributes = ProgramLoad(
                spec.kind, len(spec.instructions) // 8, spec.instructions, spec.licence.encode(),
                prog_flags=spec.flags, prog_name=text(spec.name),
                expected_attach_type=spec.expected_attach_type,
            )
            if descriptors:
                attributes.fd_array = ctypes.addressof(array)
            if types is not None:
                attributes.prog_btf_fd = types.fd
            if spec.func_info:
                attributes.func_info_rec_size, attributes.func_info = 8, spec.func_info
                attributes.func_info_cnt = len(spec.func_info) // 8
            if spec.line_info:
                attributes.line_info_rec_size, attributes.line_info = 16, spec.line_info
                attributes.line_info_cnt = len(spec.line_info) // 16
            fd, log = _verify(attributes, log_level)
        finally:
            if types is not None:
                types.close()
        if fd < 0:
            if log.strip():
                raise VerifierRejection(-fd, spec.name, log)
            raise BpfError(-fd, "program load", spec.name)
        return cls(fd, spec.name, spec.kind, log)

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Self:
        """The program pinned at `path`."""
        return cls._adopt(descriptor.open_pinned(path, "program open"))

    @classmethod
    def from_id(cls, identifier: int) -> Self:
        """The program of that identifier, anywhere in the system. Needs CAP_SYS_ADMIN."""
        return cls._adopt(descriptor.open_identifier(Command.PROG_GET_FD_BY_ID, identifier, "program open"))

    @classmethod
    def _adopt(cls, fd: int) -> Self:
        try:
            info = describe(fd, _Information(), "program info")
            return cls(fd, info.name.decode(), info.type)
        except BaseException:
            os.close(fd)
            raise

    @property
    def id(self) -> int:
        """The identifier of the program in the system."""
        return int(describe(self.fd, _Information(), "program info").id)

    def _number(self, fd: int) -> None:
        super()._number(fd)
        if self._plain_at:
            self._plain.prog_fd = self._full.prog_fd = fd & 0xFFFFFFFF

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin at `path` inside a bpf file system."""
        descriptor.pin(self.fd, path, "program pin")

    def bind(self, item: Map) -> None:
        """Keep a map alive as long as the program is, as if its code mentioned it (5.10)."""
        with self.held() as program, item.held() as number:
            call(Command.PROG_BIND_MAP, ProgramBindMap(program, number), "program bind map", self.name)

    # -- running ---------------------------------------------------------------------------------------------

    def test_run(self, data: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
        """Run the program in the kernel on the packet `data`.

        For SCHED_CLS: 14 to some 3700 bytes, `context` is a 192-byte `__sk_buff`. For XDP: `context` is a
        24-byte `xdp_md`. See `contexts`. Interface indexes in the context resolve in the network namespace
        of the calling thread. The resulting context is only returned if one was passed. A redirect is
        computed, not performed.

        BpfError: EINVAL the packet or context is not acceptable for the kind.
        """
        if not self._plain_at:
            self._prepare()
        with self._lock:
            if self._identifier and self._fd < 0:
                _ = self.fd
            run = self._full if context else self._plain
            run.data_in = data
            run.data_size_in = len(data)
            run.data_size_out = _DATA_ROOM
            run.repeat = repeat
            if not context:
                if trap(NUMBER, _RUN, self._plain_at, _RUN_SIZE) == 0:
                    return TestRun(run.retval, self._data[: run.data_size_out], b"", run.duration)
            else:
                run.ctx_in = context
                run.ctx_size_in = len(context)
                run.ctx_size_out = _CONTEXT_ROOM
                if trap(NUMBER, _RUN, self._full_at, _RUN_SIZE) == 0:
                    left = self._context[: run.ctx_size_out]
                    return TestRun(run.retval, self._data[: run.data_size_out], left, run.duration)
        raise BpfError(ctypes.get_errno(), "program test run", self.name)

    def _prepare(self) -> None:
        with self._lock:
            if self._plain_at:
                return
            self._data, self._context = buffer(_DATA_ROOM), buffer(_CONTEXT_ROOM)
            # Two structures: the kernel refuses a context of no bytes.
            self._plain, self._full = syscall.TestRun(self.fd), syscall.TestRun(self.fd)
            self._plain.data_out = self._full.data_out = ctypes.addressof(self._data)
            self._full.ctx_out = ctypes.addressof(self._context)
            self._plain_at, self._full_at = ctypes.addressof(self._plain), ctypes.addressof(self._full)

    def send_live(self, data: bytes, context: bytes, repeat: int = 1, batch: int = 0) -> None:
        """Inject `repeat` copies of a frame and carry out the verdict of each: an in-kernel traffic
        generator.

        XDP only (5.18). The context names the ingress interface, in the namespace of the calling thread.
        """
        attributes = syscall.TestRun(
            self.fd, data_size_in=len(data), data_in=data, ctx_size_in=len(context), ctx_in=context,
            repeat=repeat, flags=_LIVE_FRAMES, batch_size=batch,
        )
        call(Command.PROG_TEST_RUN, attributes, "program live run", self.name)

    # -- asking ----------------------------------------------------------------------------------------------

    def info(self) -> ProgramInfo:
        """What the kernel knows of it now."""
        raw = describe(self.fd, _Information(), "program info")
        return ProgramInfo(
            id=raw.id,
            kind=raw.type,
            name=raw.name.decode(),
            tag=bytes(raw.tag).hex(),
            translated_length=raw.xlated_prog_len,
            compiled_length=raw.jited_prog_len,
            verified=raw.verified_insns,
            run_count=raw.run_cnt,
            run_time_ns=raw.run_time_ns,
            recursion_misses=raw.recursion_misses,
            map_count=raw.nr_map_ids,
            btf_id=raw.btf_id,
            load_time_ns=raw.load_time,
        )

    def map_ids(self) -> list[int]:
        """The identifiers of the maps the program uses."""
        count = describe(self.fd, _Information(), "program info").nr_map_ids
        identifiers = (ctypes.c_uint32 * max(count, 1))()
        request = _Information(nr_map_ids=count, map_ids=ctypes.addressof(identifiers))
        describe(self.fd, request, "program info")
        return list(identifiers[:count])

    def memory(self) -> int:
        """Bytes of kernel memory the instructions are charged for."""
        return memory_of(self.fd)

    def __repr__(self) -> str:
        return f"<Program {self.name!r} {'closed' if self.closed else f'fd {self._fd}'}>"


def _verify(attributes: ProgramLoad, log_level: int) -> tuple[int, str]:
    """Load, with the log on demand or after a refusal; (descriptor or negative errno, log)."""
    if not log_level:
        fd = _patiently(attributes)
        if fd >= 0 or fd == -errno.EMFILE:
            return fd, ""
    size = _LOG_FIRST
    while True:
        log = buffer(size)
        attributes.log_level, attributes.log_size = log_level or 1, size
        attributes.log_buf = ctypes.addressof(log)
        attributes.log_true_size = 0
        fd = _patiently(attributes)
        if fd != -errno.ENOSPC or size >= _LOG_LAST:
            return fd, log.value.decode(errors="replace")
        size = min(max(attributes.log_true_size + 1, size * 4), _LOG_LAST)


def _patiently(attributes: ProgramLoad) -> int:
    # EAGAIN: the verifier was interrupted by a signal.
    for _ in range(4):
        fd = attempt(Command.PROG_LOAD, attributes)
        if fd != -errno.EAGAIN:
            return fd
    return attempt(Command.PROG_LOAD, attributes)


def memory_of(fd: int) -> int:
    """Bytes of kernel memory charged for a map or program, by /proc/self/fdinfo."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("memlock:"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def statistics_enabled() -> Iterator[None]:
    """Count runs and run time of all programs meanwhile (5.8). Costs two clock reads per run."""
    fd = call(Command.ENABLE_STATS, Single(0), "program statistics")
    try:
        yield
    finally:
        os.close(fd)
