"""Rewriting under real stacks: addresses and ports changed on their way, with and without checksum offload.

With the offloads on, what passes are aggregates of up to 64 kB whose checksums are not finished; with them off, every
packet is verified by the receiving stack.  A rewrite that is wrong for either loses the connection.
"""
from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from iovisor.compiler.cache import Cache
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.language import Function, Packet, Port, Verdict, drop, forward, ipv4_address, ipv6_address
from iovisor.testing import Host, Lab
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

pytestmark = [pytest.mark.root, pytest.mark.lab]

SHOWN4, REAL4 = ipv4_address("10.0.0.99"), ipv4_address("10.0.0.2")
SHOWN6, REAL6 = ipv6_address("fd00::99"), ipv6_address("fd00::2")
SERVICE, BEHIND = 80, 5000


class Disguise(Function):
    """The host behind `real` is seen at `shown` under another address and port."""

    shown: Port
    real: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            return self.four(pkt)
        if eth.type == EtherType.IPV6:
            return self.six(pkt)
        return forward(self.real if pkt.port == self.shown else self.shown)

    def four(self, pkt: Packet) -> Verdict:
        ip = pkt.parse(IPv4)
        if ip.ihl != 5 or ip.offset != 0 or ip.mf != 0:
            return drop(99)
        inward = pkt.port == self.shown
        if ip.proto == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            if inward:
                pkt.rewrite(ip, tcp, dst=REAL4)
                pkt.rewrite(tcp, dst=BEHIND)
            else:
                pkt.rewrite(ip, tcp, src=SHOWN4)
                pkt.rewrite(tcp, src=SERVICE)
        elif ip.proto == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            if inward:
                pkt.rewrite(ip, udp, dst=REAL4, ttl=ip.ttl - 1)
                pkt.rewrite(udp, dst=BEHIND)
            else:
                pkt.rewrite(ip, udp, src=SHOWN4)
                pkt.rewrite(udp, src=SERVICE)
        return forward(self.real if inward else self.shown)

    def six(self, pkt: Packet) -> Verdict:
        ip = pkt.parse(IPv6)
        inward = pkt.port == self.shown
        if ip.next == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            if inward:
                pkt.rewrite(ip, tcp, dst=REAL6)
                pkt.rewrite(tcp, dst=BEHIND)
            else:
                pkt.rewrite(ip, tcp, src=SHOWN6)
                pkt.rewrite(tcp, src=SERVICE)
        elif ip.next == IpProtocol.UDP:
            udp = pkt.parse(Udp)
            if inward:
                pkt.rewrite(ip, udp, dst=REAL6)
                pkt.rewrite(udp, dst=BEHIND)
            else:
                pkt.rewrite(ip, udp, src=SHOWN6)
                pkt.rewrite(udp, src=SERVICE)
        return forward(self.real if inward else self.shown)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture(params=["offloaded", "finished"])
def hosts(request: pytest.FixtureRequest, images: Cache) -> Iterator[tuple[Host, Host]]:
    with Lab() as lab:
        one, two = lab.hosts("one", "two")
        if request.param == "finished":
            for host in (one, two):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        mac = "02:00:00:00:00:02"
        one.run(["ip", "neighbour", "add", "10.0.0.99", "lladdr", mac, "dev", "eth0"])
        one.run(["ip", "-6", "neighbour", "add", "fd00::99", "lladdr", mac, "dev", "eth0"])
        with lab.join(Disguise(), [one, two], cache=images):
            yield one, two


FAMILIES = pytest.mark.parametrize(("family", "shown", "real"), [
    (socket.AF_INET, "10.0.0.99", "10.0.0.2"), (socket.AF_INET6, "fd00::99", "fd00::2")])


@FAMILIES
def test_tcp(family: int, shown: str, real: str, hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    data = random.Random(3).randbytes(4 << 20)
    with two.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((real, BEHIND))
        listener.listen()
        listener.settimeout(5)

        def send() -> None:
            with one.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(20)
                sender.connect((shown, SERVICE))
                assert sender.getpeername()[:2] == (shown, SERVICE)
                sender.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        digest = hashlib.sha256()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            while part := connection.recv(1 << 16):
                digest.update(part)
        thread.join()
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


@FAMILIES
def test_udp(family: int, shown: str, real: str, hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    with two.socket(family, socket.SOCK_DGRAM) as server, one.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((real, BEHIND))
        for each in (server, client):
            each.settimeout(3)
        for size in (0, 1, 7, 500, 1400):
            data = bytes(range(256))[:size] or random.Random(size).randbytes(size)
            client.sendto(data, (shown, SERVICE))
            got, address = server.recvfrom(2_000)
            assert got == data
            server.sendto(data[::-1], address)
            back, source = client.recvfrom(2_000)
            assert back == data[::-1] and source[:2] == (shown, SERVICE)
