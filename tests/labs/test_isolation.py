"""Two tenants with the same MACs, addresses and configuration: whatever one sends, nothing of it is seen at the other.

    inside ──┐                                          of each, twice:
             lan ── router ── wall ── nat ── outside    one namespace switches for both
    beside ──┘

B talks, then falls silent; A sends a storm of what is proper and what is not, in every VLAN, tunnel and disguise it can
think of.  B's hosts see no frame, the kernel that switches takes nothing for itself, and B's tables stay bit for bit.
"""
from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.firewall import Firewall
from iovisor.functions.guard import Guard
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from iovisor.language import mac_text
from iovisor.testing import Host, Lab
from iovisor.testing.bulk import valid
from iovisor.testing.packets import Frame, arp, ethernet, fragment, icmp, icmp6, ipv4, ipv6, raw, tcp, udp, vlan
from iovisor.wire import AddressOption, NeighborAdvertisement
from iovisor.wire.ipv6 import link_local
from tests.agreement.malformed import spoiled
from tests.labs.test_nat_routed import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
INSIDE, BESIDE, OUTSIDE = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
LAN, WAN, EVERYBODY = "02:00:00:00:01:00", "02:00:00:00:01:01", "ff:ff:ff:ff:ff:ff"
PORT, MANY, MILLION = 8_000, 10_000, 1_000_000


@dataclass
class Tenant:
    hosts: list[Host]
    network: Network
    closing: list[Any] = field(default_factory=list)

    def talk(self) -> None:
        """A TCP connection and a datagram, through everything there is."""
        inside, _, outside = self.hosts
        listener = outside.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("198.51.100.3", PORT))
        listener.listen()
        client = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(20)
        client.bind(("10.0.0.1", PORT))
        client.connect(("198.51.100.3", PORT))
        self.closing += [client, listener.accept()[0], listener]

    def lives(self) -> bool:
        client, server = self.closing[:2]
        client.sendall(b"still there?")
        return bool(server.recv(100) == b"still there?")

    def memory(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """All that its functions know."""
        return {(name, table): sorted((repr(key), repr(value)) for key, value in made.items())
                for name, instance in self.network.instances.items()
                for table, made in instance.function.tables.items() if hasattr(made, "items")}


def tenant(lab: Lab, name: str, images: Cache, undo: ExitStack) -> Tenant:
    hosts = lab.hosts(*(f"{name}{number}" for number in range(3)))
    addresses = ["10.0.0.1/24", "10.0.0.2/24", "198.51.100.3/24"]
    gateways = [("10.0.0.254", LAN), ("10.0.0.254", LAN), ("198.51.100.254", WAN)]
    for host, mac, address, (gateway, station) in zip(hosts, (INSIDE, BESIDE, OUTSIDE), addresses, gateways,
                                                      strict=True):
        for words in ("addr flush dev eth0", f"link set eth0 address {mac}", f"addr add {address} dev eth0",
                      f"route add default via {gateway}", f"neighbour add {gateway} lladdr {station} dev eth0"):
            host.run(["ip", *words.split()])
    router = Router(
        interfaces={0: {"mac": LAN, "addresses": ["10.0.0.254/24", "2001:db8::1/64"]},
                    1: {"mac": WAN, "addresses": ["198.51.100.254/24"], "translated": True}},
        fixed=[{"port": 0, "address": "10.0.0.1", "mac": INSIDE}, {"port": 1, "address": "198.51.100.3",
                                                                  "mac": OUTSIDE}])
    network = undo.enter_context(Network(f"tenant-{name}", namespace=lab.namespace, cache=images))
    network.add("lan", Switch())
    network.add("router", router)
    network.add("wall", Firewall(rules=[{"action": "accept", "direction": "out"}]))
    network.add("nat", Nat(addresses=["198.51.100.254"]))
    for one, other in (("lan:2", "router:0"), ("router:1", "wall:inside"), ("wall:outside", "nat:inside")):
        network.link(one, other)
    for port, host in zip(("lan:0", "lan:1", "nat:outside"), hosts, strict=True):
        network.attach(port, Edge(host.index))
    made = Tenant(hosts, network)
    undo.callback(lambda: [each.close() for each in made.closing])
    return made


def disguises() -> list[bytes]:
    """What a tenant might try: to be another, to be elsewhere, to be somebody's answer."""
    link, up = ethernet(dst=LAN, src=INSIDE), ethernet(dst=EVERYBODY, src=INSIDE)
    flow: dict[str, Any] = {"src": "10.0.0.1", "dst": "198.51.100.3"}
    whole = link / ipv4(**flow) / tcp(src=PORT, dst=PORT, flags=16, sequence=1) / bytes(40)
    inner = bytes(ethernet(dst=BESIDE, src=INSIDE) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2))
    found: list[Frame] = [
        whole, link / ipv4(**flow) / tcp(src=PORT, dst=PORT, flags=4, sequence=1),
        link / ipv4(**flow, options=bytes.fromhex("830704 0a000002 00")) / udp(),
        link / ipv4(**flow, mf=1, id=7) / udp(src=1, dst=2) / bytes(24),
        link / ipv4(**flow, offset=4, id=7, proto=17) / bytes(24),
        link / ipv4(**flow) / icmp(type=3, code=3) / bytes(whole)[14:],
        link / ipv4(src="10.0.0.1", dst="198.51.100.254") / icmp(type=3, code=3) / bytes(whole)[14:],
        link / ipv4(**flow) / udp(src=4789, dst=4789) / bytes.fromhex("0800000000006400") / inner,
        link / ipv4(**flow) / udp(src=9, dst=6081) / bytes.fromhex("0000655800006400") / inner,
        link / ipv4(**flow, proto=47) / bytes.fromhex("2000655800000064") / inner,
        link / ipv4(src="10.0.0.1", dst="127.0.0.1") / udp(src=1, dst=53),
        link / ipv4(src="10.0.0.1", dst="169.254.169.254") / tcp(src=1, dst=80, flags=2),
        up / arp(operation=2, sender_mac=INSIDE, sender_ip="10.0.0.254", target_mac=BESIDE, target_ip="10.0.0.2"),
        up / ipv4(src="0.0.0.0", dst="255.255.255.255") / udp(src=68, dst=67) / bytes(300),
        up / ipv4(src="10.0.0.1", dst="255.255.255.255") / udp(src=67, dst=68) / bytes(300),
        ethernet(dst="33:33:00:00:00:01", src=INSIDE) / ipv6(src="fe80::1", dst="ff02::1", hops=255) / icmp6(type=134)
        / bytes(8),
        ethernet(dst="01:00:5e:00:00:fb", src=INSIDE) / ipv4(src="10.0.0.1", dst="224.0.0.251", ttl=1) / udp(),
        ethernet(dst=LAN, src=INSIDE) / ipv6(src="2001:db8::a", dst="2001:db8::1") / fragment(more=1, id=3) / udp()
        / bytes(40),
        ethernet(dst=BESIDE, src=BESIDE) / ipv4(src="10.0.0.2", dst="10.0.0.1") / udp()]
    return [bytes(frame) for frame in found]


def storm(count: int) -> Iterator[tuple[int, bytes]]:
    """Frames, and which of A's hosts sends them."""
    chance, tried = random.Random("isolation"), disguises()
    usual = [frame for frame in (bytes(valid(chance)) for _ in range(200)) if len(frame) <= 1514]
    for frame in tried:
        yield from ((host, frame) for host in range(3))
    for vid in range(1, 4095):
        yield 0, bytes(ethernet(dst=EVERYBODY, src=INSIDE) / vlan(vid=vid) / raw(tried[0][14:]))
        if vid % 8 == 0:
            yield 0, bytes(ethernet(dst=EVERYBODY, src=INSIDE) / vlan(vid=1) / vlan(vid=vid) / raw(tried[0][14:]))
    for _ in range(count):
        frame = spoiled(chance, chance.choice(tried if chance.random() < 0.5 else usual))[:1514]
        yield chance.randrange(3), frame if len(frame) >= 14 else frame + bytes(14)


def met(lab: Lab) -> list[int]:
    """Packets that the kernel which switches took for itself, of both families."""
    with lab.namespace.entered():
        old, new = (Path(f"/proc/thread-self/net/{name}").read_text() for name in ("snmp", "snmp6"))
    rows = [line.split() for line in old.splitlines() if line.startswith("Ip:")]
    return [int(rows[1][rows[0].index("InReceives")]),
            int(next(line.split()[1] for line in new.splitlines() if line.startswith("Ip6InReceives")))]


def test_is_01_nothing_crosses(tmp_path_factory: pytest.TempPathFactory, nightly: bool) -> None:
    images = Cache(tmp_path_factory.mktemp("images"))
    with Lab() as lab, ExitStack() as undo:
        one, other = tenant(lab, "a", images, undo), tenant(lab, "b", images, undo)
        for each in (one, other):
            with served(each.network):
                each.talk()
                assert each.lives()
        before, taken = other.memory(), met(lab)
        assert sum(map(len, before.values())) > 10
        with ExitStack() as watching:
            seen = [watching.enter_context(host.capture()) for host in other.hosts]
            with served(one.network):
                for number, frame in storm(MILLION if nightly else MANY):
                    one.hosts[number].send(frame)
                assert until(lambda: one.network.traffic("lan:0")[0].packets > MANY // 4)
            assert [capture.frames() for capture in seen] == [[], [], []]
        assert other.memory() == before and met(lab) == taken
        with served(other.network):
            assert other.lives()


# -- what an endpoint may not say --------------------------------------------------------------------------------------

def spoofs() -> dict[str, Frame]:
    link, six = ethernet(dst=EVERYBODY, src=INSIDE), int(link_local(int(INSIDE.replace(":", ""), 16)))
    tell = bytes(NeighborAdvertisement(target=int(link_local(2))))[8:] + bytes(
        AddressOption(type=2, address=int(INSIDE.replace(":", ""), 16)))
    return {
        "ARP for another": link / arp(operation=2, sender_mac=INSIDE, sender_ip="10.0.0.2", target_ip="10.0.0.2"),
        "a gratuitous one": link / arp(operation=1, sender_mac=INSIDE, sender_ip="10.0.0.2", target_ip="10.0.0.2"),
        "discovery for another": ethernet(dst="33:33:00:00:00:01", src=INSIDE) / ipv6(
            src=six, dst="ff02::1", hops=255) / icmp6(type=136, rest=1 << 29) / tell,
        "another's MAC": ethernet(dst=EVERYBODY, src=BESIDE) / ipv4(src="10.0.0.1", dst="10.0.0.255") / udp(),
        "another's address": link / ipv4(src="10.0.0.2", dst="10.0.0.255") / udp(),
        "a DHCP server": link / ipv4(src="10.0.0.1", dst="255.255.255.255") / udp(src=67, dst=68) / bytes(300),
        "a router, RA-01": ethernet(dst="33:33:00:00:00:01", src=INSIDE) / ipv6(
            src=six, dst="ff02::1", hops=255) / icmp6(type=134, rest=0x40000708) / bytes(8),
        "a tag": link / vlan(vid=7) / ipv4(src="10.0.0.1", dst="10.0.0.255") / udp()}


def test_what_a_guard_keeps_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    """None of it reaches a neighbour, each is counted by name; the endpoint's own does."""
    with Lab() as lab, Network("guarded", namespace=lab.namespace,
                               cache=Cache(tmp_path_factory.mktemp("images"))) as network:
        inside, beside = lab.hosts("inside", "beside")
        network.add("lan", Switch())
        network.add("guard", Guard(stations=[{"mac": mac_text(inside.mac), "addresses": [inside.ipv4, inside.ipv6]}]))
        network.link("guard:outside", "lan:0")
        network.attach("guard:inside", Edge(inside.index))
        network.attach("lan:1", Edge(beside.index))
        assert inside.ping(beside) == 3 and inside.ping(beside, six=True) == 3
        guard = network.instances["guard"]
        with beside.capture() as seen:
            for number, (name, frame) in enumerate(spoofs().items(), 1):
                inside.send(frame)
                assert until(lambda number=number: sum(guard.drops.values()) == number), name  # type: ignore[misc]
            assert not seen.frames(lambda data: data in {bytes(frame) for frame in spoofs().values()})
        assert set(guard.drops) == {"FOREIGN_ARP", "FOREIGN_NEIGHBOR", "FOREIGN_MAC", "FOREIGN_ADDRESS", "ROGUE_DHCP",
                                    "ROGUE_ROUTER", "TAGGED"}
        assert inside.ping(beside) == 3
