"""The policer in TC between real hosts: what it charges is what is on the wire, and no more than the rate passes."""
from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from iovisor.functions.policer import Policer
from iovisor.kernel import Netlink, interfaces, offloads
from iovisor.kernel.interfaces import Statistics
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT = 8_000
FAMILIES = pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET6, "fd00::2")])


def carried(here: Host, there: Host, family: int, address: str, size: int) -> int:
    """Bytes that arrived of those sent in bulk."""
    received = 0
    with there.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, PORT))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with here.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(60)
                sender.connect((address, PORT))
                sender.sendall(bytes(size))

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            while part := connection.recv(1 << 20):
                received += len(part)
        thread.join()
    return received


def row(policer: Any) -> dict[str, Any]:
    return next((found for found in policer.function.show() if found["class"] == "cs0"), {"bytes": 0, "packets": 0})


def arrived(netlink: Netlink) -> Statistics:
    found = interfaces.find(netlink, "eth0")
    assert found is not None and found.statistics is not None
    return found.statistics


@FAMILIES
def test_it_charges_what_is_on_the_wire(family: int, address: str) -> None:
    """Aggregates come to the policer, and are cut behind it: the device behind it has sent as many bytes as were
    charged, and more frames than came."""
    with Lab() as lab:
        a, b = lab.hosts("a", "b")
        offloads.change("to-b", {Offload.SEGMENTATION: False, Offload.GENERIC_SEGMENTATION: False}, lab.namespace)
        with lab.join(Policer(rate="100G", burst=1 << 30, direction="out"), [a, b], peer=False) as policer, \
                Netlink(b.namespace) as netlink:
            before = arrived(netlink)
            assert carried(a, b, family, address, 8 << 20) == 8 << 20
            assert until(lambda: arrived(netlink).received_bytes - before.received_bytes == row(policer)["bytes"])
            assert arrived(netlink).received_packets - before.received_packets > 2 * row(policer)["packets"]


@FAMILIES
def test_tcp_passes_and_no_more_than_the_rate(family: int, address: str) -> None:
    """3 MB at 20 Mbit/s with a burst of 300 ms: all of it arrives, and not too soon."""
    with Lab() as lab:
        a, b = lab.hosts("a", "b")
        with lab.join(Policer(rate="20M"), [a, b]) as policer:
            begun = time.monotonic()
            assert carried(a, b, family, address, 3 << 20) == 3 << 20
            assert time.monotonic() - begun >= ((3 << 20) - 750_000) * 8 / 20e6
            assert policer.drops["RATE"] >= 1
