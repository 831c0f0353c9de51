"""rtnetlink: asking the kernel's network configuration.

Three nouns. A `Request` is a message as pure data: what the sibling modules (`interfaces`, `addresses`,
`routes`, `neighbours`) build, without a kernel. A `Netlink` is a socket, bound for life to the namespace it
was opened in, whose thread may be elsewhere later. A `NetlinkError` is the kernel's answer, with its own
sentence where it gives one.

Requests are sent many at a time and acknowledged one by one, which makes a thousand ports in two seconds
instead of half a minute: `submit(*requests)` sends all of them, waits for all answers, and then raises the
first failure (with all of them in `.failures`); requests after a failed one are carried out nevertheless.

    with Netlink(namespace) as netlink:
        netlink.submit(
            interfaces.veth("p0", "eth0", index=1000, peer_namespace=tenant, up=True),
            addresses.add(1000, "10.0.0.1/24"),
        )

Rejected: pyroute2 (seven times slower per port, untyped attributes), and one Python method per verb on the
socket, which cannot be batched.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .descriptor import Descriptor
from .errors import NetlinkError
from .namespaces import NetworkNamespace

REQUEST, ACKNOWLEDGE = 0x001, 0x004
REPLACE, EXCLUSIVE, CREATE, APPEND, DUMP = 0x100, 0x200, 0x400, 0x800, 0x300

_MULTIPART, _DUMP_INTERRUPTED, _CAPPED, _EXPLAINED = 0x02, 0x10, 0x100, 0x200
_ERROR, _DONE, _OVERRUN = 2, 3, 4
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_NESTED, _KIND_MASK = 0x8000, 0x3FFF
_BATCH_BYTES = 1 << 16
_BATCH_MESSAGES = 64

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel: type, flags besides REQUEST and ACKNOWLEDGE, body.

    `operation` and `subject` only serve the error message.
    """

    kind: int
    flags: int
    body: bytes
    operation: str = "netlink request"
    subject: str = ""


# -- attributes ----------------------------------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    """One type-length-value, padded to 4 bytes."""
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def number(kind: int, value: int) -> bytes:
    """An attribute holding an unsigned 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def string(kind: int, value: str) -> bytes:
    """An attribute holding a terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute holding attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in `body` from `offset` on; of repeated ones the last."""
    found: dict[int, bytes] = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4:
            break
        found[kind & _KIND_MASK] = body[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def terminated(payload: bytes) -> str:
    """The string in an attribute."""
    return payload.rstrip(b"\0").decode(errors="replace")


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in what was received: (type, flags, sequence number, body)."""
    offset = 0
    while offset + 16 <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < 16:
            break
        yield kind, flags, sequence, datagram[offset + 16 : offset + length]
        offset += length + 3 & ~3


# -- socket --------------------------------------------------------------------------------------------------


class Netlink(Descriptor):
    """An rtnetlink socket in `namespace`, or in that of the calling thread; for one thread at a time."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, namespace: NetworkNamespace | None = None, receive_buffer: int = 4 << 20) -> None:
        self._socket = open_socket(namespace, receive_buffer)
        self._sequence = 0
        super().__init__(self._socket.fileno())

    def close(self) -> None:
        self._fd = -1
        self._socket.close()

    def submit(self, *requests: Request) -> None:
        """Carry out every request, in order; NetlinkError (the first, with `failures`) if any failed."""
        failures = [error for error in self.attempt(*requests) if error is not None]
        if failures:
            failures[0].failures = tuple(failures)
            raise failures[0]

    def attempt(self, *requests: Request) -> list[NetlinkError | None]:
        """Carry out every request, in order; for each its failure or None."""
        outcome: list[NetlinkError | None] = []
        position = 0
        while position < len(requests):
            # Limited by number as well: unread answers wait in a buffer of limited size.
            parts: list[bytes] = []
            size = 0
            first = self._sequence + 1
            start = position
            while position < len(requests) and len(parts) < _BATCH_MESSAGES and size < _BATCH_BYTES:
                request = requests[position]
                self._sequence += 1
                parts.append(_message(request, REQUEST | ACKNOWLEDGE | request.flags, self._sequence))
                size += len(parts[-1])
                position += 1
            self._send(b"".join(parts))
            outcome.extend(self._answers(requests[start:position], first))
        return outcome

    def _answers(self, requests: tuple[Request, ...], first: int) -> list[NetlinkError | None]:
        outcome: list[NetlinkError | None] = [None] * len(requests)
        remaining = len(requests)
        while remaining:
            for kind, flags, sequence, body in messages(self._receive()):
                index = sequence - first
                if kind == _ERROR and 0 <= index < len(requests):
                    outcome[index] = _failure(body, flags, requests[index])
                    remaining -= 1
        return outcome

    def ask(self, request: Request) -> bytes:
        """The body of the single answer to a request for one object."""
        self._sequence += 1
        self._send(_message(request, REQUEST | request.flags, self._sequence))
        while True:
            for kind, flags, sequence, body in messages(self._receive()):
                if sequence != self._sequence:
                    continue
                if kind == _ERROR:
                    failure = _failure(body, flags, request)
                    if failure is not None:
                        raise failure
                else:
                    return body

    def dump(self, request: Request) -> list[bytes]:
        """The bodies of all objects a request asks for.

        The list is consistent: if the kernel says that something changed while it was dumping, it is asked
        again.
        """
        for _ in range(16):
            bodies, interrupted = self._dump_once(request)
            if not interrupted:
                return bodies
        explanation = "the state changes too fast to be listed"
        raise NetlinkError(errno.EBUSY, request.operation, request.subject, explanation)

    def _dump_once(self, request: Request) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._send(_message(request, REQUEST | DUMP | request.flags, self._sequence))
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in messages(self._receive()):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind in (_ERROR, _DONE):
                    failure = _failure(body, flags, request) if len(body) >= 4 else None
                    if failure is not None:
                        raise failure
                    return bodies, interrupted
                bodies.append(body)

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "netlink send") from None

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "netlink receive") from None


def open_socket(namespace: NetworkNamespace | None, receive_buffer: int, groups: int = 0) -> socket.socket:
    """A bound rtnetlink socket: the seam between this module and `monitor`."""
    with namespace.entered() if namespace else contextlib.nullcontext():
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        for option, value in ((socket.SO_RCVBUF, receive_buffer), (33, receive_buffer)):
            # 33, SO_RCVBUFFORCE, goes beyond the system's limit and needs CAP_NET_ADMIN.
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, option, value)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            with contextlib.suppress(OSError):
                opened.setsockopt(_SOL_NETLINK, option, 1)
        opened.bind((0, groups))
    except BaseException:
        opened.close()
        raise
    return opened


def _message(request: Request, flags: int, sequence: int) -> bytes:
    body = request.body
    return _HEADER.pack(16 + len(body), request.kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def _failure(body: bytes, flags: int, request: Request) -> NetlinkError | None:
    code = int(struct.unpack_from("=i", body)[0])
    if code >= 0:
        return None
    explanation, offset = "", -1
    if flags & _EXPLAINED:
        # After the error comes the request's header, its body unless capped, then the explanation.
        length = 16 if flags & _CAPPED else struct.unpack_from("=I", body, 4)[0]
        found = attributes(body, 4 + (length + 3 & ~3))
        explanation = terminated(found.get(1, b""))
        if 2 in found:
            offset = struct.unpack("=I", found[2])[0]
    return NetlinkError(-code, request.operation, request.subject, explanation, offset)


def family_of(address: bytes) -> int:
    """AF_INET or AF_INET6, by the length of a packed address."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


