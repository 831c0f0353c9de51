"""bpf(2), and nothing else.

One system call, some forty commands, each with its own view on `union bpf_attr`. The views are declared
below as ctypes structures, field by field in the order of <linux/bpf.h>, so that what is passed can be
compared with the header by eye. A structure may be longer than an old kernel knows: the kernel accepts that
as long as the unknown tail is zero, which is what a fresh structure is.

Two ways to call. `call` raises `BpfError` and is for everything done once. Hot paths (map lookups, test
runs) keep their structure filled in, change a field, and call `syscall(NUMBER, command, address, size)`
themselves: it returns -1 on failure, with the reason in `ctypes.get_errno()`, and releases the interpreter
lock meanwhile.

Rejected: libbpf through ctypes (a moving ABI for what is a handful of structures), struct.pack with offsets
(fast to write, impossible to review). Kernel: 4.4 for the call; fields name the release that brought them
where it matters.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_char, c_char_p, c_int32, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from typing import Any, TypeVar

from .errors import BpfError, FeatureMissing

NUMBER = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, -1)

_libc = ctypes.CDLL(None, use_errno=True)
syscall: Callable[..., int] = _libc.syscall
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
_libc.syscall.restype = ctypes.c_long

NAME_LENGTH = 15


class Command(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    TASK_FD_QUERY = 20
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_FREEZE = 22
    BTF_GET_NEXT_ID = 23
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    ITER_CREATE = 33
    LINK_DETACH = 34
    PROG_BIND_MAP = 35


class MapCreate(ctypes.Structure):
    _fields_ = [
        ("map_type", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("inner_map_fd", c_uint32),
        ("numa_node", c_uint32),
        ("map_name", c_char * 16),
        ("map_ifindex", c_uint32),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("map_extra", c_uint64),
    ]


class ElementInput(ctypes.Structure):
    """Key and value point into `bytes`: update and delete read them and copy nothing on our side."""

    _fields_ = [("map_fd", c_uint32), ("key", c_char_p), ("value", c_char_p), ("flags", c_uint64)]


class ElementOutput(ctypes.Structure):
    """The value (or next key) points into a buffer of ours: lookup and next-key write there."""

    _fields_ = [("map_fd", c_uint32), ("key", c_char_p), ("value", c_void_p), ("flags", c_uint64)]


class Batch(ctypes.Structure):
    """Linux 5.6."""

    _fields_ = [
        ("in_batch", c_void_p),
        ("out_batch", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("count", c_uint32),
        ("map_fd", c_uint32),
        ("elem_flags", c_uint64),
        ("flags", c_uint64),
    ]


class ProgramLoad(ctypes.Structure):
    _fields_ = [
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_char_p),
        ("license", c_char_p),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_void_p),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_name", c_char * 16),
        ("prog_ifindex", c_uint32),
        ("expected_attach_type", c_uint32),
        ("prog_btf_fd", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_char_p),
        ("func_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("line_info", c_char_p),
        ("line_info_cnt", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("core_relo_cnt", c_uint32),
        ("fd_array", c_void_p),  # 5.14
        ("core_relos", c_void_p),
        ("core_relo_rec_size", c_uint32),
        ("log_true_size", c_uint32),  # 6.4, written by the kernel
    ]


class ProgramBindMap(ctypes.Structure):
    """5.10."""

    _fields_ = [("prog_fd", c_uint32), ("map_fd", c_uint32), ("flags", c_uint32)]


class ObjectPath(ctypes.Structure):
    _fields_ = [("pathname", c_char_p), ("bpf_fd", c_uint32), ("file_flags", c_uint32)]


class TestRun(ctypes.Structure):
    """4.12; contexts since 5.2."""

    _fields_ = [
        ("prog_fd", c_uint32),
        ("retval", c_int32),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("repeat", c_uint32),
        ("duration", c_uint32),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class Identifier(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32)]


class ObjectInfo(ctypes.Structure):
    _fields_ = [("bpf_fd", c_uint32), ("info_len", c_uint32), ("info", c_void_p)]


class Query(ctypes.Structure):
    """The tail from `link_ids` on: 6.6."""

    _fields_ = [
        ("target", c_uint32),
        ("attach_type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_void_p),
        ("count", c_uint32),
        ("prog_attach_flags", c_void_p),
        ("link_ids", c_void_p),
        ("link_attach_flags", c_void_p),
        ("revision", c_uint64),
    ]


class BtfLoad(ctypes.Structure):
    _fields_ = [
        ("btf", c_char_p),
        ("btf_log_buf", c_void_p),
        ("btf_size", c_uint32),
        ("btf_log_size", c_uint32),
        ("btf_log_level", c_uint32),
    ]


class LinkCreate(ctypes.Structure):
    """The part used for tcx (6.6) and XDP (5.9); for XDP everything after `flags` stays zero."""

    _fields_ = [
        ("prog_fd", c_uint32),
        ("target", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("relative", c_uint32),
        ("expected_revision", c_uint64),
    ]


class LinkUpdate(ctypes.Structure):
    _fields_ = [
        ("link_fd", c_uint32),
        ("new_prog_fd", c_uint32),
        ("flags", c_uint32),
        ("old_prog_fd", c_uint32),
    ]


class Single(ctypes.Structure):
    """The commands with one argument: freeze, detach, enable statistics."""

    _fields_ = [("value", c_uint32)]


def attempt(command: Command, attributes: ctypes.Structure) -> int:
    """The result of one bpf(2), or the negative errno."""
    result = syscall(NUMBER, command, ctypes.addressof(attributes), ctypes.sizeof(attributes))
    return result if result >= 0 else -ctypes.get_errno()


def call(command: Command, attributes: ctypes.Structure, operation: str, subject: str = "") -> int:
    """The result of one bpf(2); BpfError if it failed."""
    if NUMBER < 0:
        raise FeatureMissing(f"bpf(2) on {os.uname().machine}", "4.4 on x86_64 or aarch64")
    result = attempt(command, attributes)
    if result < 0:
        raise BpfError(-result, operation, subject)
    return result


Info = TypeVar("Info", bound=ctypes.Structure)


def describe(descriptor: int, info: Info, operation: str) -> Info:
    """Fill `info` with what the kernel knows of the object behind `descriptor` (4.13)."""
    attributes = ObjectInfo(descriptor, ctypes.sizeof(info), ctypes.addressof(info))
    call(Command.OBJ_GET_INFO_BY_FD, attributes, operation)
    return info


def identifiers(command: Command) -> list[int]:
    """Every identifier in the system, for one of the *_GET_NEXT_ID commands. Needs CAP_SYS_ADMIN."""
    found: list[int] = []
    attributes = Identifier()
    while attempt(command, attributes) == 0:
        found.append(attributes.next_id)
        attributes.id = attributes.next_id
    return found


def text(name: str) -> bytes:
    """An object name as the kernel takes it: at most 15 of [A-Za-z0-9_.]; anything else becomes `_`."""
    fitting = (c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name[:NAME_LENGTH])
    return "".join(fitting).encode()


def buffer(size: int) -> Any:
    """A zeroed, writable, fixed block of `size` bytes whose slices are `bytes`."""
    return (c_char * size)()
