"""Offloads: work the stack leaves to the device.

On virtual devices they decide whether packets are complete: with TX_CHECKSUM on, a veth carries packets
without a checksum, and with SEGMENTATION, packets of 64 kB. tcx keeps both facts with the packet; XDP and
everything that reads raw bytes does not, and there they must be off, in the *sender's* namespace.

By the old ethtool ioctl: six numbers, instead of the generic netlink family with its bit sets.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
from collections.abc import Iterator, Mapping
from enum import Enum

from .errors import KernelError
from .namespaces import NetworkNamespace

_ETHTOOL = 0x8946


class Offload(Enum):
    """An offload; the value is the pair of ethtool commands (get, set)."""

    RX_CHECKSUM = (0x14, 0x15)
    TX_CHECKSUM = (0x16, 0x17)
    SCATTER_GATHER = (0x18, 0x19)
    SEGMENTATION = (0x1E, 0x1F)
    GENERIC_SEGMENTATION = (0x23, 0x24)
    GENERIC_RECEIVE = (0x2B, 0x2C)


class _Value(ctypes.Structure):
    _fields_ = [("command", ctypes.c_uint32), ("data", ctypes.c_uint32)]


class _Request(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 16), ("value", ctypes.c_void_p), ("rest", ctypes.c_uint8 * 16)]


def read(interface: str, namespace: NetworkNamespace | None = None) -> dict[Offload, bool]:
    """Which offloads of an interface are on. KernelError ENODEV if there is no such interface."""
    with _socket(namespace) as control:
        return {offload: bool(_ask(control, interface, offload.value[0], 0)) for offload in Offload}


def change(interface: str, wanted: Mapping[Offload, bool], namespace: NetworkNamespace | None = None) -> None:
    """Switch offloads of an interface. Some imply others: without TX_CHECKSUM there is no SEGMENTATION.

    KernelError: ENODEV no such interface, EOPNOTSUPP the device cannot.
    """
    with _socket(namespace) as control:
        for offload, on in wanted.items():
            _ask(control, interface, offload.value[1], int(on))


def _ask(control: socket.socket, interface: str, command: int, data: int) -> int:
    value = _Value(command, data)
    request = _Request(interface.encode(), ctypes.addressof(value))
    try:
        fcntl.ioctl(control, _ETHTOOL, request)
    except OSError as error:
        raise KernelError(error.errno or 0, "offload", interface) from None
    return int(value.data)


@contextlib.contextmanager
def _socket(namespace: NetworkNamespace | None) -> Iterator[socket.socket]:
    with namespace.entered() if namespace else contextlib.nullcontext():
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with control:
        yield control
