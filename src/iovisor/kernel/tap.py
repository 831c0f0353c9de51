"""TAP devices: an interface whose other end is this process.

What the stack sends to the device we read, what we write the stack receives: whole frames, one per call. It
is how packets are handed up to a slow path and back, and how a virtual machine is connected. The device
vanishes when the descriptor is closed, unless made persistent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import ClassVar, Self

from .descriptor import Descriptor
from .errors import KernelError
from .namespaces import NetworkNamespace

_SET_INTERFACE, _SET_PERSISTENT, _SET_INDEX = 0x400454CA, 0x400454CB, 0x400454DA
_SET_OFFLOADS = 0x400454D0
_NO_INFORMATION, _HEADERS = 0x1000, 0x4000
_CHECKSUM_AND_SEGMENTATION = 0x01 | 0x02 | 0x04 | 0x08      # of TCP over IPv4 and IPv6, with ECN
_LARGEST = (1 << 16) + 32


class Tap(Descriptor):
    """An open TAP device, down at first. `name` is its interface's."""

    __slots__ = ("name",)
    kind: ClassVar[int] = 0x0002

    def __init__(self, fd: int, name: str) -> None:
        """Take over `fd`, which must be a TAP device."""
        super().__init__(fd)
        self.name = name

    @classmethod
    def create(
        cls,
        name: str,
        namespace: NetworkNamespace | None = None,
        *,
        index: int = 0,
        persistent: bool = False,
        blocking: bool = False,
        headers: bool = False,
    ) -> Self:
        """Make the device, or open a persistent one of that name nobody has open.

        `headers`: every frame begins with the 10 bytes of a `virtio_net_hdr`, and with it the offloads of a virtual
        machine are on: checksums may be left to the reader, and frames be aggregates of 64 kB.

        KernelError: EBUSY it is open elsewhere, or `index` is taken; EPERM no CAP_NET_ADMIN.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if blocking else os.O_NONBLOCK)
        with namespace.entered() if namespace else contextlib.nullcontext():
            try:
                fd = os.open("/dev/net/tun", flags)
            except OSError as error:
                raise KernelError(error.errno or 0, "tap open", name) from None
            try:
                if index:
                    fcntl.ioctl(fd, _SET_INDEX, struct.pack("=I", index))
                flags = cls.kind | _NO_INFORMATION | (_HEADERS if headers else 0)
                request = struct.pack("=16sH22x", name.encode(), flags)
                given = fcntl.ioctl(fd, _SET_INTERFACE, request)
                if headers:
                    fcntl.ioctl(fd, _SET_OFFLOADS, _CHECKSUM_AND_SEGMENTATION)
                fcntl.ioctl(fd, _SET_PERSISTENT, int(persistent))
            except OSError as error:
                os.close(fd)
                raise KernelError(error.errno or 0, "tap create", name) from None
        return cls(fd, given[:16].rstrip(b"\0").decode())

    def persist(self) -> None:
        """Let the device stay when the last descriptor is closed."""
        try:
            fcntl.ioctl(self.fd, _SET_PERSISTENT, 1)
        except OSError as error:
            raise KernelError(error.errno or 0, "tap persist", self.name) from None

    def read(self) -> bytes | None:
        """The next frame the stack sent, None if there is none now."""
        try:
            return os.read(self.fd, _LARGEST)
        except BlockingIOError:
            return None

    def write(self, frame: bytes) -> None:
        """Let the stack receive a frame of 14 bytes or more. KernelError EIO if the device is down."""
        try:
            os.write(self.fd, frame)
        except OSError as error:
            raise KernelError(error.errno or 0, "tap write", self.name, "is the device up?") from None
