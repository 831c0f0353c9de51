"""Aggregates through tunnels that the language makes: wrapped by one function, unwrapped by another, a cable between.

The cable is `whole`, and carries aggregates of 64 kB as they are, or `cut`: it takes neither aggregates nor unfinished
checksums, so the kernel cuts each, with the outer headers before every segment, and finishes the inner checksums.
Either way every byte has to arrive, which it does not if the kernel was told less than it has to know.

One thing Linux cannot do is left out: datagrams that leave as one stay in their UDP tunnel, for its own code, when that
is taken off without having been cut (6.18 has no flag that says so).
"""
from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Running
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.language import Config, Function, Packet, Port, Verdict, forward, require, u8
from iovisor.testing import Host, Lab
from iovisor.wire import checksum
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.gre import Gre
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv4 import fill as fill4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.ipv6 import fill as fill6
from iovisor.wire.udp import Udp

pytestmark = [pytest.mark.root, pytest.mark.lab]

IPV4, IPV6, GRE, UDP = range(4)
HERE, THERE = 0x0a09_0001, 0x0a09_0002
ONE_DATAGRAM = 103              # UDP_SEGMENT, the option that makes many datagrams of one


class WrapConfig(Config):
    way: u8 = IPV4


class Wrap(Function):
    """IP from `near` goes to `far` in a tunnel, and what comes from there is unwrapped."""

    config: WrapConfig
    near: Port
    far: Port

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        kind = eth.type
        if kind not in (EtherType.IPV4, EtherType.IPV6):
            return forward(self.far if pkt.port == self.near else self.near)
        return self.wrap(pkt, eth, kind) if pkt.port == self.near else self.unwrap(pkt, kind)

    def wrap(self, pkt: Packet, eth: Ethernet, kind: int) -> Verdict:
        before = pkt.segment
        eth.type = EtherType.IPV6 if self.config.way == IPV6 else EtherType.IPV4
        six = kind == EtherType.IPV6
        length = len(pkt) - 14
        number = IpProtocol.IPV6 if six else IpProtocol.IPV4
        if self.config.way == IPV4:
            outer = pkt.insert(IPv4)
            fill4(outer, HERE, THERE, number, length & 0xffff)
            checksum.ipv4_header(outer)
        elif self.config.way == IPV6:
            outer6 = pkt.insert(IPv6)
            fill6(outer6, HERE, THERE, number, length & 0xffff)
        elif self.config.way == GRE:
            outer, gre = pkt.insert(IPv4, Gre)
            fill4(outer, HERE, THERE, IpProtocol.GRE, length + 4 & 0xffff)
            checksum.ipv4_header(outer)
            gre.type = kind
        else:
            outer, udp = pkt.insert(IPv4, Udp)
            fill4(outer, HERE, THERE, IpProtocol.UDP, length + 8 & 0xffff)
            checksum.ipv4_header(outer)
            udp.src, udp.dst, udp.length = 6080, 6080, length + 8
        require(pkt.segment == before)
        return forward(self.far)

    def unwrap(self, pkt: Packet, kind: int) -> Verdict:
        before = pkt.segment
        if kind == EtherType.IPV6:
            number = pkt.parse(IPv6).next
        else:
            ip = pkt.parse(IPv4)
            require(ip.length + 14 == len(pkt) and checksum.is_right(checksum.of_ipv4(ip)), 20)
            number = ip.proto
        six = number == IpProtocol.IPV6
        if self.config.way == IPV4:
            pkt.remove(IPv4)
        elif self.config.way == IPV6:
            pkt.remove(IPv6)
        elif self.config.way == GRE:
            six = pkt.parse(Gre).type == EtherType.IPV6
            pkt.remove(IPv4, Gre)
        else:
            pkt.skip(8)
            six = pkt.u8(0) >> 4 == 6
            pkt.remove(IPv4, Udp)
        pkt.parse(Ethernet).type = EtherType.IPV6 if six else EtherType.IPV4
        require(pkt.segment == before, 21)
        return forward(self.near)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@dataclass
class Site:
    one: Host
    two: Host
    wraps: list[Running]
    lossless: bool          # whether Linux can


@pytest.fixture(params=[(way, cut) for way in (IPV4, IPV6, GRE, UDP) for cut in (False, True)],
                ids=lambda chosen: f"{('ipv4', 'ipv6', 'gre', 'udp')[chosen[0]]}-{'cut' if chosen[1] else 'whole'}")
def site(request: pytest.FixtureRequest, images: Cache) -> Iterator[Site]:
    way, cut = request.param
    with Lab() as lab, ExitStack() as running:
        one, two = lab.hosts("one", "two")
        left, right = lab.cable("left", "right")
        if cut:
            for name in ("left", "right"):
                offloads.change(name, {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, lab.namespace)
        for host, other in ((one, two), (two, one)):
            mac = f"02:00:00:00:00:{other.number:02x}"
            host.run(["ip", "neighbour", "add", other.ipv4, "lladdr", mac, "dev", "eth0"])
            host.run(["ip", "-6", "neighbour", "add", other.ipv6, "lladdr", mac, "dev", "eth0"])
        yield Site(one, two, [running.enter_context(Running(
            Wrap(way=way), {0: Edge(host.index), 1: Edge(cable, peer=False)}, namespace=lab.namespace, cache=images))
            for host, cable in ((one, left), (two, right))], cut or way != UDP)


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_every_byte_arrives(site: Site, six: bool, nightly: bool) -> None:
    """A connection, and datagrams that leave as one."""
    family = socket.AF_INET6 if six else socket.AF_INET
    address = site.two.ipv6 if six else site.two.ipv4
    block, count = random.Random(3).randbytes(1 << 20), 256 if nightly else 4
    with site.two.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 5000))
        listener.listen()
        listener.settimeout(20)

        def send() -> None:
            with site.one.socket(family, socket.SOCK_STREAM) as sender:
                sender.settimeout(20)
                sender.connect((address, 5000))
                for _ in range(count):
                    sender.sendall(block)

        thread = threading.Thread(target=send)
        thread.start()
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            while part := connection.recv(1 << 16):
                digest.update(part)
        thread.join()
    for _ in range(count):
        wanted.update(block)
    assert digest.hexdigest() == wanted.hexdigest()
    assert not any(wrap.drops for wrap in site.wraps)
    if not site.lossless:
        return
    with site.two.socket(family, socket.SOCK_DGRAM) as server, site.one.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((address, 5000))
        server.settimeout(10)
        client.sendmsg([block[:1200 * 20 + 7]], [(socket.IPPROTO_UDP, ONE_DATAGRAM, struct.pack("H", 1200))], 0,
                       (address, 5000))
        found = [server.recv(2000) for _ in range(21)]
    assert found == [block[place:place + 1200] for place in range(0, 1200 * 20, 1200)] + [block[1200 * 20:][:7]]
    assert not any(wrap.drops for wrap in site.wraps)
