"""Strategies and bulk traffic: that what they call valid is, and that they reach what they shall reach."""
from __future__ import annotations

import subprocess
import sys
from collections import Counter
from random import Random

from hypothesis import given

from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.language import Packet
from iovisor.testing import Arrival, describe, traffic
from iovisor.testing.bulk import valid
from iovisor.testing.strategies import arrivals, frame, header, mutated, tagged, truncated
from iovisor.wire import Ethernet, IPv4, IPv6, Tcp, Udp, Vlan


@given(header(IPv4, version=4))
def test_a_header_is_any_value_of_its_layout(ip: IPv4) -> None:
    assert ip.version == 4 and IPv4.decode(bytes(ip)) == ip


@given(frame(Ethernet, IPv4, Tcp))
def test_a_valid_stack_is_valid(data: bytes) -> None:
    pkt = Packet(data)
    eth, ip, tcp = pkt.parse(Ethernet, IPv4, Tcp)
    assert (eth.type, ip.version, ip.proto, ip.length, tcp.offset) == (0x800, 4, 6, len(data) - 14, 5)
    assert "checksum" not in describe(data) and "length" not in describe(data)


@given(frame(Ethernet, Vlan, Vlan, IPv6, Udp))
def test_tags_nest(data: bytes) -> None:
    assert data[12:14] == b"\x81\0" and data[16:18] == b"\x81\0" and data[20:22] == b"\x86\xdd"
    assert IPv6.decode(data[22:]).next == 17


@given(tagged(frame(Ethernet, IPv4, Udp)), mutated(frame(Ethernet)), truncated(frame(Ethernet, IPv6, Udp)))
def test_spoiled_frames(with_tag: bytes, with_error: bytes, cut: bytes) -> None:
    assert Packet(with_tag).tagged and len(with_error) >= 14 and cut


@given(arrivals(ports=3, entries=("ingress", "egress"), most=5))
def test_sequences(sequence: list[Arrival]) -> None:
    assert 1 <= len(sequence) <= 5
    assert all(a.port < 3 and a.entry in ("ingress", "egress") and a.frame for a in sequence)


def test_traffic_follows_its_seed() -> None:
    assert list(traffic(7, 200)) == list(traffic(7, 200)) != list(traffic(8, 200))


def test_valid_frames_are_valid() -> None:
    random = Random(3)
    kinds = Counter[str]()
    for _ in range(2_000):
        text = repr(valid(random))
        kinds.update(word.split("(")[0] for word in text.split(" / "))
    wanted = ("arp", "ipv4", "ipv6", "udp", "tcp", "icmp", "icmp6", "vlan", "fragment", "routing")
    assert min(kinds[kind] for kind in wanted) > 20


def test_traffic_reaches_every_verdict() -> None:
    """A generator that only ever floods or drops would prove nothing."""
    ports = {0: {"access": 10}, 1: {"trunk": [10, 20]}, 2: {"trunk": [1], "native": 1}}
    switch = Switch(vlans=True, storm=1000, ports=ports)
    verdicts = Counter(repr(switch.run(Packet(a.frame, a.port), a.entry))
                       for a in traffic(1, 5_000, ports=4, entries=("ingress", "egress")))
    assert sum(n for v, n in verdicts.items() if v.startswith("forward")) > 200 and verdicts["FLOOD"] > 100
    assert len(switch.drops) >= 9
    acl = Acl(rules=[{"action": "accept", "protocol": "tcp"}, {"action": "drop", "protocol": "udp"}])
    for arrival in traffic(2, 5_000, ports=2):
        acl.run(Packet(arrival.frame, arrival.port))
    assert len(acl.drops) >= 8


def test_hypothesis_may_be_missing() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; import iovisor.testing.strategies, iovisor.testing.bulk"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_brings_no_weight() -> None:
    program = "import sys, iovisor.testing.packets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"llvmlite", "hypothesis", "pytest", "ctypes", "iovisor.kernel", "iovisor.compiler"} & set(loaded)
