"""The monitor: what is counted for which flow, what a collector is told, and when."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.monitor import CLIENT, OF_IPV4, OF_IPV6, SERVER, Monitor, Reason, Resolved
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward, ipv4_address, punt
from iovisor.testing import Agreement, Arrival, agree, traffic
from iovisor.testing.packets import Frame, arp, ethernet, icmp, icmp6, ipv4, ipv6, tcp, trailer, udp, vlan
from iovisor.wire import ipfix
from iovisor.wire.arp import ArpOperation
from iovisor.wire.ipfix import Element

INSIDE, OUTSIDE, EXPORT = 0, 1, 2
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
COLLECTOR: dict[str, Any] = {"collector": "192.0.2.9", "source": "192.0.2.1", "mac": "02:00:00:00:00:0a"}
S, A = 2, 16


@pytest.fixture(autouse=True)
def _standing() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def v4(transport: Any = None, back: bool = False, **fields: Any) -> Frame:
    source, destination = ("10.0.0.2", "10.0.0.1") if back else ("10.0.0.1", "10.0.0.2")
    return LINK / ipv4(src=source, dst=destination, **fields) / (transport or udp(src=1, dst=2)) / bytes(10)


def v6(transport: Any = None, **fields: Any) -> Frame:
    return LINK / ipv6(src="2001:db8::1", dst="2001:db8::2", **fields) / (transport or udp(src=1, dst=2)) / bytes(10)


def watch(monitor: Monitor, *frames: Frame, port: int = INSIDE) -> None:
    for frame in frames:
        packet = Packet(bytes(frame), port)
        assert monitor.run(packet) == forward(1 - port)
        assert bytes(packet) == bytes(frame)


def rows(monitor: Monitor) -> list[tuple[Any, ...]]:
    names = ("source", "source_port", "destination", "destination_port", "protocol", "vlan", "packets", "bytes")
    return [tuple(row[name] for name in names) for row in monitor.flows()]


def test_flows() -> None:
    monitor = Monitor()
    watch(monitor, v4(), v4(), v4(udp(src=1, dst=3)), v6(), v4(icmp(type=8)), v6(icmp6(type=128)), v4() / trailer(8),
          v4(offset=9, proto=17), LINK / vlan(vid=7) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2))
    watch(monitor, v4(udp(src=2, dst=1), back=True), port=OUTSIDE)
    one, other = ("10.0.0.1", "10.0.0.2")
    assert rows(monitor) == [
        (one, 1, other, 2, "udp", 0, 3, 3 * 38), (one, 1, other, 3, "udp", 0, 1, 38),
        ("2001:db8::1", 1, "2001:db8::2", 2, "udp", 0, 1, 58), (one, 8, other, 0, "icmp", 0, 1, 38),
        ("2001:db8::1", 128, "2001:db8::2", 0, "icmp6", 0, 1, 58), (one, 0, other, 0, "udp", 0, 1, 38),
        (one, 1, other, 2, "udp", 7, 1, 28), (other, 2, one, 1, "udp", 0, 1, 38)]
    assert monitor.top(2) == [{"source": one, "packets": 7, "bytes": 6 * 38 + 28},
                              {"source": "2001:db8::1", "packets": 2, "bytes": 116}]
    assert [row["source"] for row in monitor.top(by="packets")] == [one, "2001:db8::1", other]


def test_what_is_no_ip_and_what_has_no_room() -> None:
    monitor = Monitor(flows=1)
    watch(monitor, LINK / arp(), LINK / bytes(46), v4(), v4(udp(src=1, dst=3)), v4(udp(src=1, dst=4)))
    shown = monitor.show()
    assert (shown["flows"], shown["other_packets"], shown["other_bytes"]) == (2, 2, len(LINK / arp()) + 60)
    assert (shown["missed_packets"], shown["missed_bytes"]) == (1, 38)


@pytest.mark.parametrize(("six", "header"), [(False, 40), (True, 60)])
def test_segments_of_an_aggregate(six: bool, header: int) -> None:
    ip = ipv6(src="2001:db8::1", dst="2001:db8::2") if six else ipv4(src="10.0.0.1", dst="10.0.0.2")
    monitor = Monitor()
    packet = Packet(bytes(LINK / ip / tcp(src=1, dst=2) / bytes(9_500)), INSIDE)
    packet.segment = 1_000
    monitor.run(packet)
    (row,) = monitor.flows()
    assert (row["packets"], row["bytes"]) == (10, 9_500 + 10 * header)


def test_handshakes_are_timed() -> None:
    monitor = Monitor()
    for step, (flags, after) in enumerate([(S, 0), (S | A, 100_000), (A, 3_000_000), (A, 50_000_000)]):
        Clock.advance(after)
        back = step == 1
        ports = (80, 5) if back else (5, 80)
        watch(monitor, v4(tcp(src=ports[0], dst=ports[1], flags=flags), back=back), port=OUTSIDE if back else INSIDE)
    assert monitor.handshakes() == [{"whose": "server", "below": 128, "count": 1},
                                    {"whose": "client", "below": 4_096, "count": 1}]
    watch(monitor, v4(tcp(src=80, dst=6, flags=S | A), back=True), port=OUTSIDE)
    watch(monitor, v4(tcp(src=80, dst=5, flags=S | A), back=True), port=OUTSIDE)
    assert sum(monitor.times.read(index).packets for index in range(64)) == 2, "answers to nothing are no times"
    assert (monitor.times.read(SERVER + 7).packets, monitor.times.read(CLIENT + 12).packets) == (1, 1)
    monitor.reset()
    assert monitor.handshakes() == []


@pytest.mark.parametrize(("microseconds", "power"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1_000_000, 20),
                                                     (1 << 40, 31)])
def test_powers(microseconds: int, power: int) -> None:
    assert Monitor().power_of(microseconds * 1_000 + 999) == power


# -- telling -----------------------------------------------------------------------------------------------------------

def told(monitor: Monitor) -> list[bytes]:
    """The messages that were sent; their frames are right."""
    found = []
    for port, frame in monitor.outbox:
        assert port == EXPORT
        if frame[12:14] == b"\x08\x00":
            message = frame[42:]
            assert frame == bytes(ethernet(dst="02:00:00:00:00:09", src="02:00:00:00:00:0a") / ipv4(
                src="192.0.2.1", dst="192.0.2.9", df=1) / udp(src=4_739, dst=4_739) / message)
            assert len(frame) <= 1_500 and int.from_bytes(message[2:4], "big") == len(message)
            found.append(message)
    monitor.outbox.clear()
    return found


def ready(**config: Any) -> Monitor:
    monitor = Monitor(**COLLECTOR, **config)
    monitor.tick()
    assert monitor.outbox[0][1][:42] == bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:0a") / arp(
        sender_mac="02:00:00:00:00:0a", sender_ip="192.0.2.1", target_ip="192.0.2.9"))
    monitor.resolved(Resolved(address=ipv4_address("192.0.2.9"), mac=0x020000000009), Packet(bytes(60)))
    monitor.tick()
    told(monitor)
    return monitor


def test_a_record_says_all_there_is() -> None:
    monitor = ready(interval="10s", domain=5)
    watch(monitor, v4(tcp(src=5, dst=80, flags=S), dscp=46, ecn=1))
    Clock.advance(SECOND)
    watch(monitor, v4(tcp(src=5, dst=80, flags=A)), v6(icmp6(type=128, code=3)))
    Clock.advance(9 * SECOND)
    monitor.tick()
    assert told(monitor) == [], "the banks are changed, and nothing is read yet"
    watch(monitor, v4(tcp(src=5, dst=80, flags=A)))
    monitor.tick()
    four, six = told(monitor)
    version, _, _, sequence, domain, set_, length = struct.unpack_from("!HHIIIHH", four)
    assert (version, sequence, domain, set_, length) == (10, 0, 5, 256, 4 + OF_IPV4.size)
    values, at = {}, 20
    for element, size in OF_IPV4.fields:
        values[element] = int.from_bytes(four[at:at + size], "big")
        at += size
    assert (values[Element.SOURCE_IPV4], values[Element.DESTINATION_PORT], values[Element.PROTOCOL]) == (
        ipv4_address("10.0.0.1"), 80, 6)
    assert (values[Element.PACKETS], values[Element.OCTETS], values[Element.CLASS], values[Element.TCP_FLAGS]) == (
        2, 100, 46 << 2 | 1, S | A)
    assert (values[Element.END] - values[Element.START], values[Element.DIRECTION]) == (1_000, 1)
    assert struct.unpack_from("!IIHH", six, 8) == (1, 5, 257, 4 + OF_IPV6.size)
    assert six[-2:] == b"\x80\x03" and six[52:56] == bytes(4), "ICMP has a type and no ports"
    assert [row["packets"] for row in monitor.flows()] == [1], "what came since is in the next interval"
    assert monitor.flush() == 1 and monitor.flows() == []


def test_templates_come_first_and_again() -> None:
    monitor = Monitor(**COLLECTOR, templates="30s")
    monitor.resolved(Resolved(address=ipv4_address("192.0.2.9"), mac=0x020000000009), Packet(bytes(60)))
    watch(monitor, v4())
    monitor.flush()
    first, _ = told(monitor)
    assert struct.unpack_from("!HH", first, 16) == (ipfix.TEMPLATES, len(first) - 16)
    assert first[20:] == bytes(OF_IPV4) + bytes(OF_IPV6)
    assert monitor.flush() == 0 and told(monitor) == []
    Clock.advance(31 * SECOND)
    monitor.flush()
    assert len(told(monitor)) == 1


def test_many_records_in_messages_that_fit() -> None:
    monitor = ready()
    watch(monitor, *[v4(udp(src=1, dst=n)) for n in range(100)], *[v6(udp(src=1, dst=n)) for n in range(100)])
    assert monitor.flush() == 200
    found = told(monitor)
    assert sum((len(message) - 20) // (52 if message[17] == 0 else 76) for message in found) == 200
    sequence = 0
    for message in found:
        assert int.from_bytes(message[8:12], "big") == sequence
        sequence += (len(message) - 20) // (OF_IPV4.size if message[17] == 0 else OF_IPV6.size)
    assert sequence == 200


def test_nothing_is_lost_while_the_collector_is_not_found() -> None:
    monitor = Monitor(**COLLECTOR, interval="2s")
    watch(monitor, v4())
    for _ in range(10):
        Clock.advance(SECOND)
        monitor.tick()
    assert told(monitor) == [] and rows(monitor)[0][6] == 1
    monitor.resolved(Resolved(address=ipv4_address("192.0.2.9"), mac=0x020000000009), Packet(bytes(60)))
    for _ in range(4):
        Clock.advance(SECOND)
        monitor.tick()
    assert sum(message[17] == 0 and message[16] == 1 for message in told(monitor)) == 1


def test_the_export_port() -> None:
    monitor = Monitor(**COLLECTOR)
    question = LINK / arp(sender_mac="02:00:00:00:00:09", sender_ip="192.0.2.9", target_ip="192.0.2.1")
    asked = Packet(bytes(question), EXPORT)
    assert monitor.run(asked) == forward(EXPORT) and bytes(asked)[22:28] == bytes.fromhex("02000000000a")
    reply = LINK / arp(operation=ArpOperation.REPLY, sender_mac="02:00:00:00:00:09", sender_ip="192.0.2.9",
                       target_ip="192.0.2.1")
    assert repr(monitor.run(Packet(bytes(reply), EXPORT))) == repr(
        punt(Resolved(address=ipv4_address("192.0.2.9"), mac=0x020000000009)))
    for frame in (v4(), LINK / arp(target_ip="192.0.2.7")):
        assert monitor.run(Packet(bytes(frame), EXPORT)) == drop(Reason.NOT_EXPORT)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"flows": 0}, "flows: one is the least"), ({"interval": "1s"}, "interval: two seconds"),
    ({"collector": "192.0.2.9"}, "source: a collector is told from somewhere"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Monitor(**values)


def test_every_target_agrees(nightly: bool) -> None:
    frames = [Arrival(bytes(frame), port, after=700_000) for frame in (
        v4(), v6(), v4(tcp(src=5, dst=80, flags=S)), v4(tcp(src=80, dst=5, flags=S | A), back=True),
        v4(tcp(src=5, dst=80, flags=A)), v4(icmp(type=8)), v4(offset=9, proto=6), LINK / arp(), LINK / bytes(46),
        LINK / vlan(vid=7) / vlan(vid=8) / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=1, dst=2),
        LINK / arp(operation=ArpOperation.REPLY, target_ip="192.0.2.1")) for port in (INSIDE, OUTSIDE, EXPORT)]
    agree(lambda: Monitor(**COLLECTOR, flows=512), [*frames, *frames])
    with Agreement(lambda: Monitor(**COLLECTOR, flows=4_096)) as found:
        found.run(traffic(seed=5, count=20_000 if nightly else 400, ports=3))
