"""TAP devices and offloads."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

from iovisor.kernel import KernelError, Netlink, NetworkNamespace, Tap, interfaces, offloads
from iovisor.kernel.offloads import Offload

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs /dev/net/tun"),
]

FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x09" + b"\x88\xb5" + b"hello" * 10


def test_frames_go_both_ways(namespace: NetworkNamespace, netlink: Netlink) -> None:
    with Tap.create("punt", namespace, index=700) as tap:
        assert tap.name == "punt"
        found = interfaces.find(netlink, 700)
        assert found is not None
        assert (found.name, found.kind) == ("punt", "tun")
        with pytest.raises(KernelError, match="is the device up"):
            tap.write(FRAME)
        netlink.submit(interfaces.change(700, up=True))
        with namespace.entered():
            stack = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        with stack:
            stack.bind(("punt", 0x88B5))
            stack.settimeout(1)
            tap.write(FRAME)
            assert stack.recv(2000) == FRAME
            while tap.read() is not None:
                pass
            stack.send(FRAME[::-1])
            assert select.select([tap], [], [], 1)[0]
            assert tap.read() == FRAME[::-1]
            assert tap.read() is None
    assert interfaces.find(netlink, "punt") is None


def test_a_persistent_device_waits_for_its_next_owner(namespace: NetworkNamespace, netlink: Netlink) -> None:
    Tap.create("stays", namespace, persistent=True).close()
    assert interfaces.find(netlink, "stays") is not None
    with Tap.create("stays", namespace):
        with pytest.raises(KernelError) as busy:
            Tap.create("stays", namespace)
        assert busy.value.errno == errno.EBUSY
    assert interfaces.find(netlink, "stays") is None


def test_frames_with_headers_may_be_unfinished(namespace: NetworkNamespace, netlink: Netlink) -> None:
    with Tap.create("plain", namespace), Tap.create("machine", namespace, headers=True) as tap:
        assert not offloads.read("plain", namespace)[Offload.TX_CHECKSUM]
        assert offloads.read("machine", namespace)[Offload.SEGMENTATION]
        netlink.submit(interfaces.change("machine", up=True))
        with namespace.entered():
            stack = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        with stack:
            stack.bind(("machine", 0x88B5))
            stack.settimeout(10)
            tap.write(bytes(10) + FRAME)
            assert stack.recv(2000) == FRAME


def test_offloads_can_be_switched(namespace: NetworkNamespace, netlink: Netlink) -> None:
    netlink.submit(interfaces.veth("a", "b"))
    assert offloads.read("a", namespace)[Offload.TX_CHECKSUM]
    offloads.change("a", {Offload.TX_CHECKSUM: False, Offload.GENERIC_RECEIVE: True}, namespace)
    after = offloads.read("a", namespace)
    assert not after[Offload.TX_CHECKSUM]
    assert not after[Offload.SEGMENTATION]
    assert after[Offload.GENERIC_RECEIVE]
    offloads.change("a", {Offload.TX_CHECKSUM: True}, namespace)
    assert offloads.read("a", namespace)[Offload.SEGMENTATION]
    assert offloads.read("b", namespace)[Offload.TX_CHECKSUM]


def test_offloads_of_nothing(namespace: NetworkNamespace) -> None:
    with pytest.raises(KernelError) as absent:
        offloads.read("nothing", namespace)
    assert absent.value.errno == errno.ENODEV
