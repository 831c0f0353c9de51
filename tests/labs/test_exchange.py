"""A function that makes IPv4 of IPv6 and IPv6 of IPv4, under real stacks.

With the offloads on, what passes are aggregates of up to 64 kB whose checksums are not finished, of TCP and of UDP:
each must be cut afterwards by the rules of the family it has by then.  With them off, the receiving stack verifies
every packet.
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
from iovisor.language import (
    Array,
    Function,
    Packet,
    Port,
    Verdict,
    drop,
    forward,
    ipv4_address,
    ipv6_address,
    table,
    u32,
)
from iovisor.testing import Host, Lab
from iovisor.wire import checksum
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp
from tests.labs.test_router import errors

pytestmark = [pytest.mark.root, pytest.mark.lab]

SEEN, HOME, PREFIX = ipv4_address("10.0.0.99"), ipv6_address("fd00::1"), ipv6_address("64:ff9b::")
FAR = "64:ff9b::10.0.0.2"
PORT, UDP_SEGMENT = 5000, 103


class Crossing(Function):
    """One host with IPv6, another with IPv4."""

    six: Port
    four: Port
    largest: Array[u32] = table(4)       # bytes of an aggregate and of its segments, by the port it came in

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        place = 0 if pkt.port == self.six else 2
        self.largest[place] = max(self.largest[place] or 0, len(pkt))
        self.largest[place + 1] = max(self.largest[place + 1] or 0, pkt.segment)
        if eth.type == EtherType.IPV6 and pkt.port == self.six:
            ip6 = pkt.parse(IPv6)
            length, protocol, to = ip6.length, ip6.next, ip6.dst & 0xffff_ffff
            gone = 16 * 0xffff_ffff - checksum.of_address6(ip6.src) - checksum.of_address6(ip6.dst)
            ip = pkt.exchange(40, IPv4)
            ip.version, ip.ihl, ip.length, ip.df, ip.ttl, ip.proto = 4, 5, length + 20 & 0xffff, 1, 63, protocol
            ip.src, ip.dst = SEEN, to
            checksum.ipv4_header(ip)
            change = gone + SEEN + to
        elif eth.type == EtherType.IPV4 and pkt.port == self.four:
            old = pkt.parse(IPv4)
            length, protocol, source = old.length, old.proto, PREFIX | old.src
            gone = 2 * 0xffff_ffff - old.src - old.dst
            new = pkt.exchange(20, IPv6)
            new.version, new.length, new.next, new.hops = 6, length - 20 & 0xffff, protocol, 63
            new.src, new.dst = source, HOME
            change = gone + checksum.of_address6(source) + checksum.of_address6(HOME)
        else:
            return drop(99)
        if protocol == IpProtocol.TCP:
            pkt.amend(pkt.parse(Tcp), change & 0xffff_ffff_ffff)
        elif protocol == IpProtocol.UDP:
            pkt.amend(pkt.parse(Udp), change & 0xffff_ffff_ffff)
        else:
            return drop(98)
        return forward(self.four if place == 0 else self.six)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("images"))


@pytest.fixture(params=["offloaded", "finished"])
def hosts(request: pytest.FixtureRequest, images: Cache) -> Iterator[tuple[Host, Host, Function, bool]]:
    with Lab() as lab:
        one, two = lab.hosts("one", "two")
        if request.param == "finished":
            for host in (one, two):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        one.run(["ip", "-6", "neighbour", "add", "fd00::64", "lladdr", "02:00:00:00:00:02", "dev", "eth0"])
        one.run(["ip", "-6", "route", "add", "64:ff9b::/96", "via", "fd00::64", "dev", "eth0"])
        two.run(["ip", "neighbour", "add", "10.0.0.99", "lladdr", "02:00:00:00:00:01", "dev", "eth0"])
        with lab.join(Crossing(), [one, two], cache=images) as running:
            yield one, two, running.function, request.param == "offloaded"


@pytest.mark.parametrize("upwards", [True, False])
def test_tcp(upwards: bool, hosts: tuple[Host, Host, Function, bool]) -> None:
    one, two, function, offloaded = hosts
    data = random.Random(3).randbytes(8 << 20)
    before = errors(one) + errors(two)
    with two.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("10.0.0.2", PORT))
        listener.listen()
        listener.settimeout(20)
        ends: dict[str, socket.socket] = {}

        def connect() -> None:
            ends["one"] = one.socket(socket.AF_INET6, socket.SOCK_STREAM)
            ends["one"].settimeout(20)
            ends["one"].connect((FAR, PORT))

        thread = threading.Thread(target=connect)
        thread.start()
        ends["two"], peer = listener.accept()
        thread.join()
        assert peer[0] == "10.0.0.99"
    source, sink = (ends["one"], ends["two"]) if upwards else (ends["two"], ends["one"])
    with source, sink:
        sink.settimeout(20)

        def send() -> None:
            source.sendall(data)
            source.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        digest = hashlib.sha256()
        while part := sink.recv(1 << 16):
            digest.update(part)
        thread.join()
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert errors(one) + errors(two) == before
    if offloaded:       # or it would have shown nothing
        assert function.tables["largest"][0 if upwards else 2] > 20_000


@pytest.mark.parametrize("segment", [0, 1_000])
def test_udp(segment: int, hosts: tuple[Host, Host, Function, bool]) -> None:
    """Datagrams, alone and as what the sender leaves to its device to cut (USO)."""
    one, two, function, offloaded = hosts
    before = errors(one) + errors(two)
    with two.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, \
            one.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        server.bind(("10.0.0.2", PORT))
        for each in (server, client):
            each.settimeout(20)
            if segment:
                each.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
        for size in (1, 7, 500, 1_400) if not segment else (5_500, 20_000):
            data = random.Random(size).randbytes(size)
            size = segment or size
            client.sendto(data, (FAR, PORT))
            address = ("", 0)
            for place in range(0, len(data), size):
                got, address = server.recvfrom(2_000)
                assert got == data[place:place + size] and address[0] == "10.0.0.99"
            server.sendto(data, address)
            for place in range(0, len(data), size):
                got, address = client.recvfrom(2_000)
                assert got == data[place:place + size] and address[0] == socket.inet_ntop(
                    socket.AF_INET6, socket.inet_pton(socket.AF_INET6, FAR))
    assert errors(one) + errors(two) == before
    if segment and offloaded:
        assert function.tables["largest"][1] == function.tables["largest"][3] == segment
