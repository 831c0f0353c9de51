"""The name server: what is said to which question, what is passed on, and that nothing malformed does harm."""
from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

import pytest

from iovisor.functions.dhcp import Dhcp
from iovisor.functions.dns import PASSED_ON, UNANSWERED, Asked, Asker, Dns, Reason, Resolved
from iovisor.language import (
    SECOND,
    Clock,
    ConfigError,
    Endpoint,
    Packet,
    Segment,
    Surroundings,
    drop,
    forward,
    ipv4_address,
    ipv6_address,
    punt,
)
from iovisor.testing import Agreement, Arrival, agree, traffic
from iovisor.testing.packets import Frame, arp, describe, ethernet, icmp, icmp6, ipv4, ipv6, tcp, udp, vlan
from iovisor.wire import dns as wire
from iovisor.wire.arp import ArpOperation
from iovisor.wire.dns import Code, Malformed, Type

LINK = ethernet(dst="02:00:00:00:00:53", src="02:00:00:00:00:01")
CONFIG: dict[str, Any] = {
    "server": "10.0.0.53", "server6": "2001:db8::53", "mac": "02:00:00:00:00:53", "domain": "shop.internal",
    "names": {"web": ["10.0.0.5", "2001:db8::5"], "db": ["10.0.0.6", "10.0.0.7"], "a.deep": ["10.0.0.8"],
              "@": ["10.0.0.5"]}}
MX = 15                                     # a type that Python is asked for
ASKER = Asker(0x020000000001, ipv4_address("10.0.0.1"), 4_000, False)


def question(name: str, type: int = Type.A, flags: int = 0x0100, edns: bytes = b"", class_: int = 1,
             number: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) if name else b""
    return (struct.pack("!HHHHHH", number, flags, 1, 0, 0, 1 if edns else 0) + labels + b"\0"
            + struct.pack("!HH", type, class_) + edns)


def opt(size: int = 4_096, version: int = 0) -> bytes:
    return b"\0" + struct.pack("!HHBBHH", Type.OPT, size, 0, version, 0, 0)


def said(dns: Dns, message: bytes) -> tuple[int, list[tuple[int, bytes]], int, int]:
    """Code, answers, number of records in authority, and flags; the question comes back as it was asked."""
    reply = dns.answer(message, ASKER)
    number, flags, questions, answers, authority, extra = struct.unpack_from("!HHHHHH", reply)
    at = message.index(b"\0", 12) + 5
    assert (number, questions, flags >> 15) == (7, 1, 1) and reply[12:at] == message[12:at]
    found = []
    for _ in range(answers):
        pointer, kind, class_, _, size = struct.unpack_from("!HHHIH", reply, at)
        assert (pointer, class_) == (0xc00c, 1)
        found.append((kind, reply[at + 12:at + 12 + size]))
        at += 12 + size
    high = reply[-6] if extra else 0
    return high << 4 | flags & 15, found, authority, flags


def v4(text: str) -> tuple[int, bytes]:
    return Type.A, ipv4_address(text).to_bytes(4, "big")


def v6(text: str) -> tuple[int, bytes]:
    return Type.AAAA, ipv6_address(text).to_bytes(16, "big")


WEB = wire.name_bytes(wire.parse_name("web.shop.internal"))
CASES: list[tuple[str, int, int, list[tuple[int, bytes]], int]] = [
    ("web.shop.internal", Type.A, Code.NOERROR, [v4("10.0.0.5")], 0),
    ("web.shop.internal", Type.AAAA, Code.NOERROR, [v6("2001:db8::5")], 0),
    ("db.shop.internal", Type.A, Code.NOERROR, [v4("10.0.0.6"), v4("10.0.0.7")], 0),
    ("db.shop.internal", Type.AAAA, Code.NOERROR, [], 1),
    ("db.shop.internal", 15, Code.NOERROR, [], 1),
    ("deep.shop.internal", Type.A, Code.NOERROR, [], 1),
    ("a.deep.shop.internal", Type.A, Code.NOERROR, [v4("10.0.0.8")], 0),
    ("nobody.shop.internal", Type.A, Code.NXDOMAIN, [], 1),
    ("b.deep.shop.internal", Type.A, Code.NXDOMAIN, [], 1),
    ("shop.internal", Type.A, Code.NOERROR, [v4("10.0.0.5")], 0),
    ("shop.internal", Type.NS, Code.NOERROR, [(Type.NS, wire.name_bytes(wire.parse_name("ns.shop.internal")))], 0),
    ("xshop.internal", Type.A, Code.REFUSED, [], 0), ("internal", Type.A, Code.REFUSED, [], 0),
    ("example.com", Type.A, Code.REFUSED, [], 0), ("", Type.NS, Code.REFUSED, [], 0),
    ("web.shop.internal", Type.ANY, Code.REFUSED, [], 0), ("shop.internal", Type.AXFR, Code.REFUSED, [], 0),
    ("5.0.0.10.in-addr.arpa", Type.PTR, Code.NOERROR,
     [(Type.PTR, WEB), (Type.PTR, wire.name_bytes(wire.parse_name("shop.internal")))], 0),
    ("5.0.0.10.in-addr.arpa", Type.A, Code.NOERROR, [], 1), ("9.0.0.10.in-addr.arpa", Type.PTR, Code.REFUSED, [], 0),
    ("5." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", Type.PTR, Code.NOERROR, [(Type.PTR, WEB)], 0),
]


@pytest.mark.parametrize(("name", "kind", "code", "records", "authority"), CASES)
def test_what_is_said(name: str, kind: int, code: int, records: list[tuple[int, bytes]], authority: int) -> None:
    dns = Dns(**CONFIG)
    for spelt in (name, name.swapcase()):
        found = said(dns, question(spelt, kind))
        assert found[:3] == (code, records, authority)
        assert bool(found[3] & wire.AUTHORITATIVE) == (code != Code.REFUSED)
        assert not found[3] & wire.RECURSION_AVAILABLE
    assert dns.said.read(code).packets == 2


def test_the_same_name_in_two_networks() -> None:
    one, other = Dns(**CONFIG), Dns(**CONFIG | {"names": {"web": ["192.0.2.9"]}})
    assert said(one, question("web.shop.internal"))[1] == [v4("10.0.0.5")]
    assert said(other, question("web.shop.internal"))[1] == [v4("192.0.2.9")]


def test_names_that_follow_from_a_document() -> None:
    dhcp = Dhcp(server="10.0.0.1", mac="02:00:00:00:00:d1", subnets=[{"prefix": "10.0.0.0/24"}], reservations=[
        {"mac": "02:00:00:00:00:07", "address": "10.0.0.7", "name": "Printer"},
        {"mac": "02:00:00:00:00:08", "address": "10.0.0.8"},
        {"client": "ff0102", "address": "10.0.0.9", "name": "web"}])
    around = Surroundings({
        "api": Endpoint((IPv4Interface("10.0.0.20/24"), IPv6Interface("fd00::20/64"), IPv6Interface("fe80::20/64"))),
        "leased": Endpoint((), 0x020000000008), "nowhere": Endpoint(),
        "DB": Endpoint((IPv4Interface("10.0.0.21/24"),))},
        {"dhcp": dhcp.config, "other": Dns(**CONFIG).config})
    dns = Dns(config=Dns(**CONFIG).config.completed(around))
    for name, addresses in (("api", [v4("10.0.0.20")]), ("leased", [v4("10.0.0.8")]), ("printer", [v4("10.0.0.7")]),
                            ("web", [v4("10.0.0.5")]), ("db", [v4("10.0.0.6"), v4("10.0.0.7")])):
        assert said(dns, question(f"{name}.shop.internal"))[1] == addresses, name
    assert said(dns, question("api.shop.internal", Type.AAAA))[1] == [v6("fd00::20")]
    assert said(dns, question("nowhere.shop.internal"))[0] == Code.NXDOMAIN
    assert Dns(**CONFIG, endpoints=False).config.completed(around) == Dns(**CONFIG, endpoints=False).config


def test_edns() -> None:
    dns = Dns(**CONFIG | {"names": {"many": [f"10.1.0.{n}" for n in range(1, 61)]}})
    assert said(dns, question("many.shop.internal"))[1] == []
    assert said(dns, question("many.shop.internal"))[3] & wire.TRUNCATED, "60 addresses are more than 512 bytes"
    assert len(said(dns, question("many.shop.internal", edns=opt()))[1]) == 60
    assert said(dns, question("many.shop.internal", edns=opt(600)))[3] & wire.TRUNCATED
    assert said(dns, question("many.shop.internal", edns=opt(version=1)))[0] == Code.BADVERS
    assert dns.answer(question("x", edns=opt()), ASKER)[-11:-6] == opt(1_232)[:5]


def test_other_operations_and_classes() -> None:
    dns = Dns(**CONFIG)
    assert said(dns, question("web.shop.internal", flags=0x2000))[0] == Code.NOTIMP
    assert said(dns, question("version.bind", 16, class_=3))[0] == Code.REFUSED


GOOD = question("web.shop.internal")
MALFORMED: dict[str, tuple[bytes, int | None]] = {
    "nothing": (b"", None), "a cut header": (GOOD[:11], None), "a response": (GOOD[:2] + b"\x80" + GOOD[3:], None),
    "no question": (GOOD[:4] + bytes(8), Code.FORMERR), "two": (GOOD[:5] + b"\2" + GOOD[6:], Code.FORMERR),
    "an answer in it": (GOOD[:7] + b"\1" + GOOD[8:], Code.FORMERR), "a cut name": (GOOD[:20], Code.FORMERR),
    "a cut type": (GOOD[:-3], Code.FORMERR), "more": (GOOD + b"\0", Code.FORMERR),
    "a pointer": (GOOD[:12] + b"\xc0\x0c" + GOOD[-4:], Code.FORMERR),
    "an endless name": (GOOD[:12] + b"\1a" * 200 + GOOD[-5:], Code.FORMERR),
    "a long label": (GOOD[:12] + b"\x40" + bytes(64) + GOOD[-5:], Code.FORMERR),
    "two EDNS records": (GOOD[:11] + b"\2" + GOOD[12:] + opt() * 2, Code.FORMERR),
    "EDNS with a name": (GOOD[:11] + b"\1" + GOOD[12:] + b"\1a" + opt(), Code.FORMERR),
    "a cut EDNS": (GOOD[:11] + b"\1" + GOOD[12:] + opt()[:-1], Code.FORMERR),
    "an unknown operation": (GOOD[:2] + b"\x28" + GOOD[3:4] + bytes(8), Code.NOTIMP),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case: str) -> None:
    message, code = MALFORMED[case]
    reply = Dns(**CONFIG).answer(message, ASKER)
    assert reply == (b"" if code is None else message[:2] + bytes([0x80 | message[2] & 0x79, code]) + bytes(8))


def test_a_million_spoiled_questions(nightly: bool) -> None:
    """Each is answered by FORMERR, by something that reads as an answer, or not at all; nothing else happens."""
    dns, chance = Dns(**CONFIG), random.Random(9)
    stock = [question(name, kind, edns=edns) for name, kind, *_ in CASES for edns in (b"", opt())]
    for _ in range(1_000_000 if nightly else 20_000):
        message = bytearray(chance.choice(stock))
        for _ in range(chance.randrange(4)):
            match chance.randrange(3):
                case 0:
                    message[chance.randrange(len(message))] = chance.randrange(256)
                case 1:
                    del message[chance.randrange(len(message)):]
                case _:
                    message[chance.randrange(len(message) + 1):0] = chance.randbytes(chance.randrange(1, 9))
            if not message:
                break
        sent = bytes(message)
        reply = dns.answer(sent, ASKER)
        try:
            query = wire.read_query(sent)
        except Malformed as malformed:
            assert bool(reply) == malformed.answerable
            if reply:
                assert len(reply) == 12 and reply[3] & 15 in (Code.FORMERR, Code.NOTIMP)
        else:
            assert reply[:2] == sent[:2] and reply[12:12 + len(query.question)] == query.question
            assert len(reply) <= query.room and reply[3] & 15 != Code.FORMERR


# -- passing on --------------------------------------------------------------------------------------------------------

@pytest.fixture
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


FORWARDER = {"forwarder": "192.0.2.1", "gateway": "10.0.0.254"}


def outgoing(dns: Dns) -> list[Frame | bytes]:
    found = [frame for _, frame in dns.outbox]
    dns.outbox.clear()
    return list(found)


def test_a_question_is_passed_on_and_its_answer_back(clock: None) -> None:
    dns = Dns(**CONFIG, **FORWARDER)
    asked = question("Example.COM", number=99)
    assert dns.answer(asked, ASKER) == b""
    (request,) = outgoing(dns)
    assert bytes(request)[:42] == bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:53") / arp(
        sender_mac="02:00:00:00:00:53", sender_ip="10.0.0.53", target_ip="10.0.0.254"))
    dns.resolved(Resolved(address=ipv4_address("10.0.0.254"), mac=0x0200000000fe), Packet(bytes(60)))
    (onward,) = outgoing(dns)
    data = bytes(onward)
    port, number = int.from_bytes(data[34:36], "big"), data[42:44]
    assert data[:42] == bytes(ethernet(dst="02:00:00:00:00:fe", src="02:00:00:00:00:53") / ipv4(
        src="10.0.0.53", dst="192.0.2.1", df=1) / udp(src=port, dst=53) / data[42:])[:42]
    assert port >= 32_768 and data[44:] == asked[2:]
    answer = number + b"\x81\x80" + asked[4:6] + b"\0\1\0\0\0\0" + asked[12:] + b"\xc0\x0c" + bytes(10)
    for wrong in (answer[:2] + asked[2:], bytes([number[0] ^ 1, number[1]]) + answer[2:],
                  answer.replace(b"Example", b"example"), answer[:8]):
        dns.came_back(port, wrong)
    dns.came_back(port ^ 1, answer)
    assert outgoing(dns) == []
    dns.came_back(port, answer)
    (back,) = outgoing(dns)
    assert bytes(back) == bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:53") / ipv4(
        src="10.0.0.53", dst="10.0.0.1", df=1) / udp(src=53, dst=4_000) / (b"\0\x63" + answer[2:]))
    dns.came_back(port, answer)
    assert outgoing(dns) == [] and dns.said.read(PASSED_ON).packets == 1


def test_who_does_not_wish_recursion_is_refused() -> None:
    assert said(Dns(**CONFIG, **FORWARDER), question("example.com", flags=0))[0] == Code.REFUSED
    assert said(Dns(**CONFIG, **FORWARDER), question("web.shop.internal"))[3] & wire.RECURSION_AVAILABLE


def test_no_more_wait_than_may(clock: None) -> None:
    dns = Dns(**CONFIG, **FORWARDER)
    for number in range(512):
        assert dns.answer(question(f"n{number}.example"), ASKER) == b""
    outgoing(dns)
    dns.answer(question("one.more"), ASKER)
    (refused,) = outgoing(dns)
    assert bytes(refused)[45] & 15 == Code.SERVFAIL
    Clock.advance(4 * SECOND)
    assert dns.answer(question("one.more"), ASKER) == b""
    assert dns.said.read(UNANSWERED).packets == 512 and len(dns.waiting) == 1


# -- frames ------------------------------------------------------------------------------------------------------------

def frames() -> list[tuple[Frame, Any]]:
    asked = question("web.shop.internal", MX)
    return [
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=4_000, dst=53) / asked,
         punt(Asked(length=len(asked), start=42, six=0))),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53", options=bytes(4)) / udp(src=4_000, dst=53) / asked,
         punt(Asked(length=len(asked), start=46, six=0))),
        (LINK / ipv6(src="2001:db8::1", dst="2001:db8::53") / udp(src=4_000, dst=53) / asked,
         punt(Asked(length=len(asked), start=62, six=1))),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.54") / udp(src=4_000, dst=53) / asked, drop(Reason.NOT_DNS)),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=4_000, dst=54), drop(Reason.NOT_DNS)),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=53, dst=40_000), drop(Reason.NOT_DNS)),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53", mf=1) / udp(src=4_000, dst=53), drop(Reason.MALFORMED)),
        (LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=4_000, dst=53, length=400) / asked,
         drop(Reason.MALFORMED)),
        (LINK / ipv6(src="2001:db8::1", dst="2001:db8::53") / udp(src=4_000, dst=53, length=7), drop(Reason.MALFORMED)),
        (ethernet(dst="33:33:ff:00:00:53", src="02:00:00:00:00:01") / ipv6(
            src="2001:db8::1", dst="ff02::1:ff00:53", hops=255) / icmp6(type=135)
         / ipv6_address("2001:db8::53").to_bytes(16, "big"), forward(0)),
        (ethernet(dst="33:33:ff:00:00:53", src="02:00:00:00:00:01") / ipv6(
            src="2001:db8::1", dst="ff02::1:ff00:53", hops=255) / icmp6(type=135, checksum=1)
         / ipv6_address("2001:db8::53").to_bytes(16, "big"), drop(Reason.NOT_DNS)),
        (LINK / vlan(vid=7) / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=4_000, dst=53) / asked,
         drop(Reason.NOT_DNS)),
        (LINK / ipv4(src="224.0.0.1", dst="10.0.0.53") / icmp(type=8) / b"ping", drop(Reason.NOT_DNS)),
        (LINK / ipv6(src="::", dst="2001:db8::53") / icmp6(type=128) / b"ping", drop(Reason.NOT_DNS)),
        (LINK / arp(sender_ip="10.0.0.1", target_ip="10.0.0.99"), drop(Reason.NOT_DNS)),
        (LINK / arp(operation=ArpOperation.REPLY, sender_ip="10.0.0.1", target_ip="10.0.0.53"), drop(Reason.NOT_DNS)),
        (LINK / bytes(46), drop(Reason.NOT_DNS)),
    ]


def test_frames() -> None:
    for frame, wanted in frames():
        assert repr(Dns(**CONFIG).run(Packet(bytes(frame)))) == repr(wanted), frame


def test_it_is_a_host() -> None:
    dns = Dns(**CONFIG)
    packet = Packet(bytes(LINK / arp(sender_mac="02:00:00:00:00:01", sender_ip="10.0.0.1", target_ip="10.0.0.53")))
    assert dns.run(packet) == forward(0) and "sender_mac='02:00:00:00:00:53'" in describe(bytes(packet))
    ping = Packet(bytes(LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / icmp(type=8) / b"ping"))
    assert dns.run(ping) == forward(0)
    assert bytes(ping) == bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:53") / ipv4(
        src="10.0.0.53", dst="10.0.0.1") / icmp(type=0) / b"ping")
    located = Packet(bytes(frames()[9][0]))
    assert dns.run(located) == forward(0)
    told = bytes(located)
    assert (told[:14], told[54], told[62:78]) == (
        bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:53", type=0x86dd)), 136,
        ipv6_address("2001:db8::53").to_bytes(16, "big"))


@pytest.mark.parametrize("six", [False, True])
def test_a_question_in_a_frame_is_answered_in_one(six: bool) -> None:
    dns, asked = Dns(**CONFIG), question("web.shop.internal", MX)
    ip = ipv6(src="2001:db8::1", dst="2001:db8::53") if six else ipv4(src="10.0.0.1", dst="10.0.0.53")
    packet = Packet(bytes(LINK / ip / udp(src=4_000, dst=53) / asked))
    dns.heard(dns.run(packet).event, packet)                    # type: ignore[arg-type]
    (reply,) = outgoing(dns)
    back = ipv6(src="2001:db8::53", dst="2001:db8::1") if six else ipv4(src="10.0.0.53", dst="10.0.0.1", df=1)
    wanted = dns.answer(asked, ASKER)
    assert bytes(reply) == bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:53") / back
                                 / udp(src=53, dst=4_000) / wanted)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"domain": "a..b"}, "domain: 'a..b' is not a name"), ({"names": {"web": ["here"]}}, "names.web: 'here' does not"),
    ({"names": {"x" * 64: []}}, "names.x+: .* is not a name"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dns(**CONFIG | values)


def test_every_target_agrees(nightly: bool) -> None:
    with Agreement(lambda: Dns(**CONFIG, **FORWARDER)) as found:
        found.run([Arrival(bytes(frame)) for frame, _ in frames()])
        found.run(traffic(seed=3, count=20_000 if nightly else 300, ports=1))


def test_segments_go_to_the_stack() -> None:
    """Those for port 53, and those of the forwarder to a port of ours."""
    passed = Dns(**CONFIG, **FORWARDER)
    to4, to6 = LINK / ipv4(src="10.0.0.1", dst="10.0.0.53"), LINK / ipv6(src="2001:db8::1", dst="2001:db8::53")
    back = LINK / ipv4(src="192.0.2.1", dst="10.0.0.53")
    arrivals = [(to4 / tcp(src=4_000, dst=53, flags=2), True), (to6 / tcp(src=4_000, dst=53, flags=2), True),
                (to4 / tcp(src=4_000, dst=54), False), (to6 / tcp(src=53, dst=40_000), False),
                (to4 / tcp(src=53, dst=40_000), False), (back / tcp(src=53, dst=40_000), True),
                (back / tcp(src=53, dst=1_000), False), (back / tcp(src=54, dst=40_000), False)]
    for frame, wanted in arrivals:
        assert repr(passed.run(Packet(bytes(frame)))) == repr(punt(Segment()) if wanted else drop(Reason.NOT_DNS))
    agree(lambda: Dns(**CONFIG, **FORWARDER), [Arrival(bytes(frame)) for frame, _ in arrivals])


def test_without_ipv6_it_agrees() -> None:
    agree(lambda: Dns(server="10.0.0.53", mac="02:00:00:00:00:53"), [Arrival(bytes(frame)) for frame, _ in frames()])
