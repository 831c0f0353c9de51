"""Namespaces as hosts around one that switches, silent but for what a test sends: no IPv6, so no chatter.

A host's device is `eth0`; its other end, in the switching namespace, is `host.device`.  Frames are sent and captured
raw, so that a test counts exactly.
"""
from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from iovisor.fabric import Edge
from iovisor.kernel import Netlink, NetworkNamespace, addresses, interfaces

FIRST, FAR = 5000, 6000
EVERYTHING, OUTGOING = 3, 4
BROADCAST = b"\xff" * 6


def quiet(namespace: NetworkNamespace) -> None:
    """No IPv6 in a namespace."""
    with namespace.entered():
        for which in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")


class Host:
    """One host: number n has 10.0.0.n+1 and the MAC 02:00:00:00:00:n+1."""

    def __init__(self, number: int, switching: NetworkNamespace) -> None:
        self.number, self.device, self.address = number, FIRST + number, f"10.0.0.{number + 1}"
        self.mac = b"\2\0\0\0\0" + bytes([number + 1])
        self.namespace = NetworkNamespace.create()
        quiet(self.namespace)
        self.plug(switching)

    def plug(self, switching: NetworkNamespace) -> None:
        """Make its device."""
        far = self.device + FAR - FIRST
        with Netlink(switching) as netlink:
            netlink.submit(interfaces.veth(f"p{self.number}", "eth0", index=self.device, peer_index=far,
                                           peer_mac=self.mac, peer_namespace=self.namespace, up=True))
        with Netlink(self.namespace) as netlink:
            netlink.submit(interfaces.change("eth0", up=True), interfaces.change("lo", up=True),
                           addresses.add(far, f"{self.address}/24"))
        self.socket = self.namespace.run(self._open)

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        opened.bind(("eth0", EVERYTHING))
        opened.setblocking(False)
        return opened

    @property
    def edge(self) -> Edge:
        return Edge(self.device)

    def frame(self, to: Host | None, payload: bytes = b"") -> bytes:
        """A frame of an experimental EtherType, to a host or to all."""
        return ((to.mac if to else BROADCAST) + self.mac + b"\x88\xb5" + payload).ljust(60, b"\0")

    def send(self, to: Host | None, payload: bytes = b"", times: int = 1) -> bytes:
        frame = self.frame(to, payload)
        for _ in range(times):
            self.socket.send(frame)
        return frame

    def captured(self, expected: int = 0, wait: float = 0.15) -> list[bytes]:
        """What came since the last call: as soon as `expected` frames have come, and none for a moment after them."""
        found: list[bytes] = []
        deadline = time.monotonic() + (10.0 if expected else wait)
        while time.monotonic() < deadline:
            try:
                data, sender = self.socket.recvfrom(1 << 16)
            except BlockingIOError:
                if expected and len(found) >= expected:
                    expected, deadline = 0, time.monotonic() + 0.03
                time.sleep(0.002)
                continue
            if sender[2] != OUTGOING:
                found.append(data)
        return found

    def ping(self, other: Host, count: int = 3) -> bool:
        """Whether every echo is answered."""
        done = self.namespace.execute(["ping", "-c", str(count), "-i", "0.02", "-W", "1", other.address],
                                      capture_output=True, text=True, check=False)
        return f" {count} received" in done.stdout

    def close(self) -> None:
        self.socket.close()
        self.namespace.close()


class Place:
    """A switching namespace and hosts on it."""

    def __init__(self, hosts: int) -> None:
        with ExitStack() as undo:
            self.switching = undo.enter_context(NetworkNamespace.create())
            quiet(self.switching)
            self.hosts: list[Host] = []
            for number in range(hosts):
                self.hosts.append(Host(number, self.switching))
                undo.callback(self.hosts[-1].close)
            self._undo = undo.pop_all()
        time.sleep(0.02)

    def again(self) -> None:
        """The same hosts as after a reboot: their devices are made anew, under other indexes."""
        for host in self.hosts:
            with Netlink(self.switching) as netlink:
                netlink.submit(interfaces.delete(host.device))
            host.socket.close()
            host.device += 500
            host.plug(self.switching)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._undo.close()
