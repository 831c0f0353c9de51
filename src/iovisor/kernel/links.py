"""Links: programs attached to interfaces.

A link is the ownership of one place in one hook. Its program can be replaced without losing a packet
(`update`), and when the last descriptor and pin of the link are gone the program is detached: a crash leaves
nothing behind.

tcx (6.6) is a chain of programs at the ingress or egress of a device, in a defined order. A program
returning -1 passes to the next, anything else ends the chain. XDP (5.9) has one program per device, before
a socket buffer exists.

Interface indexes mean something only inside a namespace, and the kernel takes that of the calling thread.
So every function takes `namespace`; None is where the caller already is.

Attaching waits for an RCU grace period under the lock of all network configuration, 10 to 20 ms;
`rcu.expedited` makes it 20 µs. Updating never waits. Rejected: classic tc filters by netlink (no
ownership, no order, no atomic takeover).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from . import descriptor
from .descriptor import Descriptor
from .namespaces import NetworkNamespace
from .programs import AttachType, Program
from .syscall import Command, LinkCreate, LinkUpdate, Query, Single, call, describe

_REPLACE, _BEFORE, _AFTER, _RELATIVE_LINK = 1 << 2, 1 << 3, 1 << 4, 1 << 13
_XDP_LINK, _TCX_LINK = 6, 11


class Direction(IntEnum):
    """Seen from the stack: ingress is what the device receives."""

    INGRESS = AttachType.TCX_INGRESS
    EGRESS = AttachType.TCX_EGRESS


class XdpMode(IntEnum):
    """Who runs an XDP program: the driver if it can, the stack (any device, slower), the driver or nobody."""

    ANY = 0
    GENERIC = 1 << 1
    NATIVE = 1 << 2


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link as the kernel sees it. `interface` is 0 once the device is gone, `attach_type` -1 if unknown."""

    id: int
    kind: int
    program_id: int
    interface: int
    attach_type: int


@dataclass(frozen=True, slots=True)
class Attachments:
    """The programs at one hook in order of execution. A link id of 0: attached without a link."""

    revision: int
    program_ids: tuple[int, ...]
    link_ids: tuple[int, ...]


class _Information(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 64),
    ]


class Link(Descriptor):
    """An open link."""

    __slots__ = ()
    _opens = Command.LINK_GET_FD_BY_ID

    @classmethod
    def tcx(
        cls,
        program: Program,
        interface: int,
        direction: Direction,
        *,
        before: Link | Program | None = None,
        after: Link | Program | None = None,
        first: bool = False,
        expected_revision: int = 0,
        namespace: NetworkNamespace | None = None,
    ) -> Self:
        """Attach to a tcx chain: at its end, `first`, or next to another link or program.

        BpfError: EEXIST this very program is in the chain already, ESTALE the chain is no more at
        `expected_revision`, ENOENT the neighbour is not in the chain, ENODEV no such interface.
        """
        if sum((before is not None, after is not None, first)) > 1:
            raise ValueError("only one of before, after and first can hold")
        attributes = LinkCreate(program.fd, interface, direction, expected_revision=expected_revision)
        neighbour = before or after
        if neighbour is not None:
            attributes.relative = neighbour.fd
            attributes.flags = _BEFORE if before is not None else _AFTER
            if isinstance(neighbour, Link):
                attributes.flags |= _RELATIVE_LINK
        elif first:
            attributes.flags = _BEFORE
        return cls._create(attributes, program.name, namespace)

    @classmethod
    def xdp(
        cls,
        program: Program,
        interface: int,
        mode: XdpMode = XdpMode.ANY,
        *,
        namespace: NetworkNamespace | None = None,
    ) -> Self:
        """Attach as the XDP program of a device.

        BpfError: EBUSY or EEXIST there is one already, ERANGE the MTU is too large for a program without
        fragments.
        """
        return cls._create(LinkCreate(program.fd, interface, AttachType.XDP, mode), program.name, namespace)

    @classmethod
    def _create(cls, attributes: LinkCreate, name: str, namespace: NetworkNamespace | None) -> Self:
        with namespace.entered() if namespace else contextlib.nullcontext():
            return cls(call(Command.LINK_CREATE, attributes, "link create", name))

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Self:
        """The link pinned at `path`: how a new process takes over from an old one without losing a packet."""
        return cls(descriptor.open_pinned(path, "link open"))

    @classmethod
    def from_id(cls, identifier: int) -> Self:
        """The link of that identifier, anywhere in the system. Needs CAP_SYS_ADMIN."""
        return cls(descriptor.open_identifier(Command.LINK_GET_FD_BY_ID, identifier, "link open"))

    @property
    def id(self) -> int:
        return self.info().id

    def update(self, program: Program, expected: Program | None = None) -> None:
        """Replace the program atomically. EPERM if `expected` is given and is not the present one."""
        attributes = LinkUpdate(self.fd, program.fd)
        if expected is not None:
            attributes.flags, attributes.old_prog_fd = _REPLACE, expected.fd
        call(Command.LINK_UPDATE, attributes, "link update", program.name)

    def detach(self) -> None:
        """Detach the program now, though pins or other descriptors of the link remain (5.9)."""
        call(Command.LINK_DETACH, Single(self.fd), "link detach")

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin at `path` inside a bpf file system: the program stays attached when this process ends."""
        descriptor.pin(self.fd, path, "link pin")

    def info(self) -> LinkInfo:
        """The link as the kernel sees it now."""
        raw = describe(self.fd, _Information(), "link info")
        attach_type = {_TCX_LINK: raw.attach_type, _XDP_LINK: int(AttachType.XDP)}.get(raw.type, -1)
        interface = raw.ifindex if raw.type in (_TCX_LINK, _XDP_LINK) else 0
        return LinkInfo(raw.id, raw.type, raw.prog_id, interface, attach_type)


def attached(interface: int, direction: Direction, namespace: NetworkNamespace | None = None) -> Attachments:
    """The tcx chain of an interface (6.6)."""
    room = 64
    while True:
        programs, links = (ctypes.c_uint32 * room)(), (ctypes.c_uint32 * room)()
        query = Query(interface, direction, count=room)
        query.prog_ids, query.link_ids = ctypes.addressof(programs), ctypes.addressof(links)
        with namespace.entered() if namespace else contextlib.nullcontext():
            call(Command.PROG_QUERY, query, "link query", str(interface))
        if query.count <= room:
            count = query.count
            return Attachments(query.revision, tuple(programs[:count]), tuple(links[:count]))
        room = query.count
