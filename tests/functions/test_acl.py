"""The packet filter, in plain CPython: what rules match, what hides from them, and how they change.

Most tests are tables: a description, the rules, a packet, the verdict.  `oracle` is a second reading of the manual,
written over Python's own `ipaddress`, that hypothesis compares with the filter.
"""
from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.functions.acl import Acl, Reason
from iovisor.language import ConfigError, Dropped, Packet, Verdict, drop, forward, ipv4_address, ipv6_address
from iovisor.parts.reading import Unreadable
from iovisor.wire.arp import Arp
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp import Icmp
from iovisor.wire.ipv4 import IPv4
from iovisor.wire.ipv6 import Fragment, IPv6
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

INSIDE, OUTSIDE = 0, 1
PASS = forward(OUTSIDE)
RULE, DEFAULT = drop(Reason.RULE), drop(Reason.DEFAULT)
SYN, ACK, RST = 2, 16, 4
SIX = {"src": "2001:db8::1", "dst": "2001:db8:1::2"}


def ethernet(type: int, payload: bytes) -> bytes:
    return bytes(Ethernet(dst=2, src=1, type=type)) + payload


def v4(proto: int, payload: bytes, src: str = "10.0.0.1", dst: str = "192.0.2.2", options: bytes = b"",
       trailer: bytes = b"", **fields: int) -> bytes:
    values = {"ihl": 5 + len(options) // 4, "length": 20 + len(options) + len(payload), "proto": proto} | fields
    ip = IPv4(src=ipv4_address(src), dst=ipv4_address(dst), **values)
    return ethernet(0x0800, bytes(ip) + options + payload + trailer)


def v6(next: int, payload: bytes, src: str = SIX["src"], dst: str = SIX["dst"], trailer: bytes = b"",
       **fields: int) -> bytes:
    values = {"length": len(payload), "next": next} | fields
    return ethernet(0x86dd, bytes(IPv6(src=ipv6_address(src), dst=ipv6_address(dst), **values)) + payload + trailer)


def tcp(src: int = 1000, dst: int = 80, flags: int = SYN) -> bytes:
    return bytes(Tcp(src=src, dst=dst, flags=flags))


def udp(src: int = 1000, dst: int = 53) -> bytes:
    return bytes(Udp(src=src, dst=dst, length=8))


def icmp(type: int = 8, code: int = 0) -> bytes:
    return bytes(Icmp(type=type, code=code))


def part(next: int, offset: int, more: int, payload: bytes) -> bytes:
    return bytes(Fragment(next=next, offset=offset, more=more, id=1)) + payload


def header(next: int, size: int = 8, *second: int) -> bytes:
    """An extension header: routing type and segments left in `second`."""
    return bytes([next, size // 8 - 1, *second]).ljust(size, b"\0")


def accept(**fields: Any) -> dict[str, Any]:
    return {"action": "accept"} | fields


def deny(**fields: Any) -> dict[str, Any]:
    return {"action": "drop"} | fields


def tagged(frame: bytes, *tags: int) -> bytes:
    return frame[:12] + b"".join((0x8100 << 16 | tag).to_bytes(4, "big") for tag in tags) + frame[12:]


def verdict(config: dict[str, Any] | list[dict[str, Any]], frame: bytes, port: int = INSIDE) -> Verdict:
    acl = Acl(**(config if isinstance(config, dict) else {"rules": config}))
    packet = Packet(frame, port)
    found = acl.run(packet)
    assert bytes(packet) == frame, "a filter changes nothing"
    return found


WEB = accept(protocol="tcp", destination_ports=80)
MATCHES: list[tuple[str, Any, bytes, Verdict]] = [
    ("no rules", [], v4(6, tcp()), DEFAULT),
    ("a rule that says nothing", [accept()], v4(6, tcp()), PASS),
    ("the same for IPv6", [accept()], v6(6, tcp()), PASS),
    ("default accept", {"default": "accept"}, v4(6, tcp()), PASS),
    ("the first decides, accept", [accept(), deny()], v4(6, tcp()), PASS),
    ("the first decides, drop", [deny(), accept()], v4(6, tcp()), RULE),
    ("the first that matches", [deny(protocol="udp"), accept()], v4(6, tcp()), PASS),
    ("source inside the prefix", [accept(source="10.0.0.0/31")], v4(6, tcp()), PASS),
    ("source outside the prefix", [accept(source="10.0.0.2/31")], v4(6, tcp()), DEFAULT),
    ("source is not destination", [accept(destination="10.0.0.0/31")], v4(6, tcp()), DEFAULT),
    ("destination", [accept(destination="192.0.2.2")], v4(6, tcp()), PASS),
    ("both", [accept(source="10.0.0.1", destination="192.0.2.3")], v4(6, tcp()), DEFAULT),
    ("all of IPv4 is not IPv6", [accept(source="0.0.0.0/0")], v6(6, tcp()), DEFAULT),
    ("all of IPv4", [accept(source="0.0.0.0/0")], v4(6, tcp()), PASS),
    ("all of IPv6 is not IPv4", [accept(source="::/0")], v4(6, tcp()), DEFAULT),
    ("IPv6 /128", [accept(source="2001:db8::1")], v6(6, tcp()), PASS),
    ("IPv6, last bit", [accept(source="2001:db8::")], v6(6, tcp()), DEFAULT),
    ("IPv6 source, high word", [accept(source="2001:db8:8000::/33")], v6(6, tcp()), DEFAULT),
    ("IPv6 /33, high word", [accept(destination="2001:db8:0::/33")], v6(6, tcp()), PASS),
    ("IPv6 /48, high word", [accept(destination="2001:db8:2::/48")], v6(6, tcp()), DEFAULT),
    ("IPv6 /127, low word", [accept(destination="2001:db8:1::2/127")], v6(6, tcp()), PASS),
    ("IPv6 /127, low word, outside", [accept(destination="2001:db8:1::/127")], v6(6, tcp()), DEFAULT),
    ("an IPv4 rule and an address of the same bits", [accept(source="10.0.0.1")], v6(6, tcp(), src="::a00:1"), DEFAULT),
    ("protocol by number", [accept(protocol=47)], v4(47, bytes(8)), PASS),
    ("protocol zero is a protocol", [accept(protocol=0)], v4(6, tcp()), DEFAULT),
    ("port", [WEB], v4(6, tcp()), PASS),
    ("port over IPv6", [WEB], v6(6, tcp()), PASS),
    ("another port", [WEB], v4(6, tcp(dst=81)), DEFAULT),
    ("another protocol", [WEB], v4(17, udp(dst=80)), DEFAULT),
    ("the source port is not the destination's", [WEB], v4(6, tcp(src=80, dst=1)), DEFAULT),
    ("first of a range", [accept(protocol="udp", destination_ports="53-60")], v4(17, udp(dst=53)), PASS),
    ("last of a range", [accept(protocol="udp", destination_ports="53-60")], v4(17, udp(dst=60)), PASS),
    ("below a range", [accept(protocol="udp", destination_ports="53-60")], v4(17, udp(dst=52)), DEFAULT),
    ("above a range", [accept(protocol="udp", destination_ports="53-60")], v4(17, udp(dst=61)), DEFAULT),
    ("no range is every port, 0 too", [accept(protocol="udp", source_ports=7)], v4(17, udp(src=7, dst=0)), PASS),
    ("and the last one", [accept(protocol="udp", source_ports=7)], v4(17, udp(src=7, dst=0xffff)), PASS),
    ("source ports", [accept(protocol="udp", source_ports="1000")], v4(17, udp()), PASS),
    ("source ports, outside", [accept(protocol="udp", source_ports="1001-65535")], v4(17, udp()), DEFAULT),
    ("SCTP ports", [accept(protocol="sctp", destination_ports=53)], v4(132, udp() + bytes(4)), PASS),
    ("echo", [accept(protocol="icmp", icmp_type="echo")], v4(1, icmp()), PASS),
    ("not echo", [accept(protocol="icmp", icmp_type="echo")], v4(1, icmp(0)), DEFAULT),
    ("code", [accept(protocol="icmp", icmp_type=3, icmp_code=4)], v4(1, icmp(3, 4)), PASS),
    ("another code", [accept(protocol="icmp", icmp_type=3, icmp_code=4)], v4(1, icmp(3, 3)), DEFAULT),
    ("echo over IPv6", [accept(protocol="icmp6", icmp_type="echo")], v6(58, icmp(128)), PASS),
    ("ICMP for IPv4 in IPv6", [accept(protocol="icmp")], v6(1, icmp()), DEFAULT),
    ("flag set", [accept(protocol="tcp", flags="ack")], v4(6, tcp(flags=SYN | ACK)), PASS),
    ("flag missing", [accept(protocol="tcp", flags="ack")], v4(6, tcp(flags=SYN)), DEFAULT),
    ("flag clear", [accept(protocol="tcp", flags="syn !ack")], v4(6, tcp(flags=SYN)), PASS),
    ("flag not clear", [accept(protocol="tcp", flags="syn, !ack")], v4(6, tcp(flags=SYN | ACK)), DEFAULT),
]

HIDING: list[tuple[str, Any, bytes, Verdict]] = [
    ("IPv4 options", [WEB], v4(6, tcp(), options=bytes([1] * 40)), PASS),
    ("ports in the options", [WEB], v4(6, tcp(dst=81), options=tcp()), DEFAULT),
    ("header length 4", [accept()], v4(6, tcp(), ihl=4), drop(Unreadable.MALFORMED)),
    ("version 5", [accept()], v4(6, tcp(), version=5), drop(Unreadable.MALFORMED)),
    ("IPv6 of version 4", [accept()], v6(6, tcp(), version=4), drop(Unreadable.MALFORMED)),
    ("longer than the frame", [accept()], v4(6, tcp(), length=41), drop(Unreadable.MALFORMED)),
    ("IPv6 longer than the frame", [accept()], v6(6, tcp(), length=21), drop(Unreadable.MALFORMED)),
    ("ports in the padding", [WEB], v4(6, b"", trailer=tcp()), drop(Unreadable.MALFORMED)),
    ("IPv6, ports in the padding", [WEB], v6(6, b"", trailer=tcp()), drop(Unreadable.MALFORMED)),
    ("IPv6, ports in the padding behind a header", [WEB], v6(60, header(6, 24), trailer=tcp()),
     drop(Unreadable.MALFORMED)),
    ("IPv6, a header in the padding", [accept()], v6(60, header(47, 16)[:8], trailer=bytes(40)),
     drop(Unreadable.MALFORMED)),
    ("padding", [WEB], v4(6, tcp(), trailer=bytes(6)), PASS),
    ("no transport header", [accept(protocol="udp")], v4(17, bytes(7)), drop(Unreadable.MALFORMED)),
    ("cut in the IP header", [accept()], ethernet(0x0800, bytes([0x45]) + bytes(18)), drop(Dropped.TRUNCATED)),
    ("a whole datagram with df", [WEB], v4(6, tcp(), df=1), PASS),
    ("first fragment", [WEB], v4(6, tcp(), mf=1), PASS),
    ("first fragment, wrong port", [WEB], v4(6, tcp(dst=81), mf=1), DEFAULT),
    ("later fragment of what may pass", [WEB], v4(6, bytes(40), offset=185), PASS),
    ("later fragment, address matters", [WEB | {"source": "10.9.0.0/16"}], v4(6, bytes(40), offset=185), DEFAULT),
    ("later fragment, protocol matters", [WEB], v4(17, bytes(40), offset=185), DEFAULT),
    ("later fragment, a drop by port", [deny(protocol="tcp", destination_ports=80), accept()],
     v4(6, tcp(), offset=185), PASS),
    ("later fragment, a drop by protocol", [deny(protocol="tcp"), accept()], v4(6, tcp(), offset=185), RULE),
    ("last fragment of 5 bytes", [WEB], v4(6, bytes(5), offset=3), PASS),
    ("tiny first fragment", [accept()], v4(6, tcp()[:16], mf=1), drop(Unreadable.TINY_FRAGMENT)),
    ("tiny first fragment and padding", [accept()], v4(6, tcp()[:8], mf=1, trailer=tcp()),
     drop(Unreadable.TINY_FRAGMENT)),
    ("overlap", [accept()], v4(6, bytes(40), offset=1), drop(Unreadable.OVERLAPPING_FRAGMENT)),
    ("offset 1 of UDP", [accept()], v4(17, bytes(40), offset=1), PASS),
    ("no fragments, first", {"fragments": "drop", "rules": [accept()]}, v4(6, tcp(), mf=1), drop(Reason.FRAGMENT)),
    ("no fragments, last", {"fragments": "drop", "rules": [accept()]}, v4(6, tcp(), offset=9), drop(Reason.FRAGMENT)),
    ("no fragments, whole", {"fragments": "drop", "rules": [accept()]}, v4(6, tcp(), df=1), PASS),
    ("IPv6 first fragment", [WEB], v6(44, part(6, 0, 1, tcp())), PASS),
    ("IPv6 atomic fragment", [WEB], v6(44, part(6, 0, 0, tcp(dst=81))), DEFAULT),
    ("IPv6 later fragment", [WEB], v6(44, part(6, 100, 0, bytes(4))), PASS),
    ("IPv6 tiny fragment", [accept()], v6(44, part(6, 0, 1, tcp()[:8]), trailer=tcp()), drop(Unreadable.TINY_FRAGMENT)),
    ("IPv6 fragment, the fragment header counts", [accept()], v6(44, part(6, 0, 1, tcp()[:12]), trailer=tcp()[12:]),
     drop(Unreadable.TINY_FRAGMENT)),
    ("IPv6 later fragment, what follows is no header", [accept()], v6(44, part(60, 100, 0, bytes(1))), PASS),
    ("IPv6 later fragment behind the end", [accept()], v6(44, part(17, 2, 0, b"")[:4], trailer=part(17, 2, 0, b"")[4:]),
     drop(Unreadable.MALFORMED)),
    ("IPv6 first fragment ends in an extension", [accept()], v6(44, part(60, 0, 1, header(6)[:4]), trailer=tcp()),
     drop(Unreadable.TINY_FRAGMENT)),
    ("IPv6 overlap", [accept()], v6(44, part(6, 1, 0, bytes(8))), drop(Unreadable.OVERLAPPING_FRAGMENT)),
    ("hop-by-hop, destination, routing", [WEB],
     v6(0, header(60) + header(43, 16) + header(6, 24, 2, 1) + tcp()), PASS),
    ("the port behind the headers decides", [WEB], v6(0, header(60, 24) + header(6, 16) + tcp(dst=81)), DEFAULT),
    ("authentication counts otherwise", [WEB], v6(51, bytes([6, 4]) + bytes(22) + tcp()), PASS),
    ("four headers", [WEB], v6(60, header(60) * 3 + header(6) + tcp()), PASS),
    ("five headers", [accept()], v6(60, header(60) * 4 + header(6) + tcp()), drop(Unreadable.TOO_MANY_HEADERS)),
    ("routing header 0", [accept()], v6(43, header(6, 24, 0, 1) + tcp()), drop(Unreadable.SOURCE_ROUTED)),
    ("routing header 0, arrived", [accept()], v6(43, header(6, 24, 0, 0) + tcp()), PASS),
    ("one tag", [WEB], tagged(v4(6, tcp()), 10), PASS),
    ("two tags", [WEB], tagged(v4(6, tcp()), 10, 20), PASS),
    ("two tags, wrong port", [WEB], tagged(v4(6, tcp(dst=81)), 10, 20), DEFAULT),
    ("two tags, length in the tag", [accept()], tagged(v4(6, tcp(), length=42), 10, 20), drop(Unreadable.MALFORMED)),
    ("three tags", {"other": "accept"}, tagged(v4(6, tcp()), 10, 20, 30), drop(Reason.NESTED_TAGS)),
]

ARP = ethernet(0x0806, bytes(Arp(operation=1, sender_mac=1, sender_ip=1, target_ip=2)))
OTHERS: list[tuple[str, Any, bytes, Verdict]] = [
    ("ARP", [], ARP, PASS),
    ("ARP, tagged", [], tagged(ARP, 5, 6), PASS),
    ("no ARP", {"resolution": "drop", "other": "accept", "default": "accept"}, ARP, drop(Reason.RESOLUTION)),
    ("solicitation", [deny()], v6(58, icmp(135) + bytes(16), hops=255), PASS),
    ("advertisement", [], v6(58, icmp(136) + bytes(16), hops=255), PASS),
    ("no solicitation", {"resolution": "drop", "rules": [accept()]}, v6(58, icmp(135) + bytes(16), hops=255),
     drop(Reason.RESOLUTION)),
    ("a forwarded solicitation", [], v6(58, icmp(135) + bytes(16), hops=254), DEFAULT),
    ("a fragmented solicitation", [], v6(44, part(58, 0, 1, icmp(135) + bytes(16)), hops=255), DEFAULT),
    ("router advertisement", [], v6(58, icmp(134) + bytes(8), hops=255), DEFAULT),
    ("ICMP type 135 of IPv4", [], v4(1, icmp(135), ttl=255), DEFAULT),
    ("LLDP", [accept()], ethernet(0x88cc, bytes(46)), drop(Reason.OTHER)),
    ("LLDP accepted", {"other": "accept"}, ethernet(0x88cc, bytes(46)), PASS),
    ("LLC", [accept()], ethernet(38, bytes(46)), drop(Reason.OTHER)),
    ("a runt", [accept()], bytes(13), drop(Dropped.TRUNCATED)),
]


@pytest.mark.parametrize(("config", "frame", "expected"), [c[1:] for c in MATCHES], ids=[c[0] for c in MATCHES])
def test_what_matches(config: Any, frame: bytes, expected: Verdict) -> None:
    assert verdict(config, frame) == expected


@pytest.mark.parametrize(("config", "frame", "expected"), [c[1:] for c in HIDING], ids=[c[0] for c in HIDING])
def test_nothing_hides(config: Any, frame: bytes, expected: Verdict) -> None:
    assert verdict(config, frame) == expected


@pytest.mark.parametrize(("config", "frame", "expected"), [c[1:] for c in OTHERS], ids=[c[0] for c in OTHERS])
def test_what_is_not_for_rules(config: Any, frame: bytes, expected: Verdict) -> None:
    assert verdict(config, frame) == expected


@pytest.mark.parametrize(("direction", "out", "into"), [
    ("out", PASS, DEFAULT), ("in", DEFAULT, forward(INSIDE)), ("both", PASS, forward(INSIDE))])
def test_directions(direction: str, out: Verdict, into: Verdict) -> None:
    rules = [accept(direction=direction)]
    assert (verdict(rules, v4(6, tcp()), INSIDE), verdict(rules, v4(6, tcp()), OUTSIDE)) == (out, into)


def test_the_last_of_64_rules_counts() -> None:
    rules = [deny(protocol="udp", destination_ports=port) for port in range(63)] + [accept()]
    assert verdict(rules, v4(17, udp(dst=62))) == RULE
    assert verdict(rules, v4(17, udp(dst=63))) == PASS
    with pytest.raises(ConfigError, match="64 is the most"):
        Acl(rules=[*rules, accept()])


ADDRESSES = {4: ["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1"],
             6: ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fd00::1"]}
PREFIXES = ["10.0.0.0/8", "10.0.0.0/30", "10.0.0.1/32", "0.0.0.0/0",
            "2001:db8::/32", "2001:db8::/64", "2001:db8::1/128", "::/0"]
NEAR = st.integers(1, 6)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {"action": draw(st.sampled_from(["accept", "drop"])),
                            "direction": draw(st.sampled_from(["in", "out", "both"]))}
    prefixes = draw(st.sampled_from([PREFIXES[:4], PREFIXES[4:]]))
    for end in ("source", "destination"):
        if draw(st.booleans()):
            rule[end] = draw(st.sampled_from(prefixes))
    if draw(st.booleans()):
        rule["protocol"] = draw(st.sampled_from(["tcp", "udp"]))
        for end in ("source_ports", "destination_ports"):
            if draw(st.booleans()):
                low, high = sorted((draw(NEAR), draw(NEAR)))
                rule[end] = f"{low}-{high}"
    return rule


def oracle(rule: dict[str, Any], outward: bool, src: str, dst: str, protocol: str,
           ports: tuple[int, int] | None) -> bool:
    if rule["direction"] not in ("both", "out" if outward else "in"):
        return False
    for end, address in (("source", src), ("destination", dst)):
        if end in rule and ipaddress.ip_address(address) not in ipaddress.ip_network(rule[end]):
            return False
    if rule.get("protocol", protocol) != protocol:
        return False
    for end, port in zip(("source_ports", "destination_ports"), ports or (None, None), strict=True):
        if end in rule:
            low, high = map(int, rule[end].split("-"))
            if not (rule["action"] == "accept" if port is None else low <= port <= high):
                return False
    return True


@given(st.data(), st.lists(rules(), max_size=8), st.sampled_from([4, 6]), st.booleans(), st.booleans())
def test_the_filter_agrees_with_its_manual(data: st.DataObject, listed: list[dict[str, Any]], family: int,
                                           outward: bool, later: bool) -> None:
    src, dst = (data.draw(st.sampled_from(ADDRESSES[family])) for _ in range(2))
    protocol = data.draw(st.sampled_from(["tcp", "udp"]))
    ports = data.draw(NEAR), data.draw(NEAR)
    number, transport = (6, tcp(*ports)) if protocol == "tcp" else (17, udp(*ports))
    if family == 4:
        frame = v4(number, transport, src, dst, offset=100 * later)
    else:
        frame = v6(44, part(number, 100, 0, transport), src, dst) if later else v6(number, transport, src, dst)
    hit = next((r for r in listed if oracle(r, outward, src, dst, protocol, None if later else ports)), None)
    across = forward(OUTSIDE if outward else INSIDE)
    expected = DEFAULT if hit is None else across if hit["action"] == "accept" else RULE
    assert verdict(listed, frame, INSIDE if outward else OUTSIDE) == expected


@given(st.binary(max_size=120), st.sampled_from([0x0800, 0x86dd, 0x0806, 0x8100]))
def test_noise_never_breaks_it(noise: bytes, kind: int) -> None:
    first = bytes([0x45 if kind == 0x0800 else 0x60])
    dropped = [drop(reason) for reason in (*Reason, *Unreadable, Dropped.TRUNCATED)]
    assert verdict([WEB], ethernet(kind, first + noise)) in (PASS, *dropped)


# -- change ------------------------------------------------------------------------------------------------------------

def counted(acl: Acl) -> dict[str, int]:
    return {row["name"]: row["packets"] for row in acl.show()}


def test_rules_keep_their_counts_when_they_move() -> None:
    one, two, three = (accept(name=name, protocol="udp", destination_ports=port)
                       for name, port in (("one", 1), ("two", 2), ("three", 3)))
    acl = Acl(rules=[one, two])
    for port in (1, 2, 2, 9):
        acl.run(Packet(v4(17, udp(dst=port)), INSIDE))
    assert counted(acl) == {"one": 1, "two": 2, "default": 1, "resolution": 0, "other": 0}
    acl.reconfigure(rules=[three, two, one])
    assert counted(acl) == {"three": 0, "two": 2, "one": 1, "default": 1, "resolution": 0, "other": 0}
    acl.run(Packet(v4(17, udp(dst=3)), INSIDE))
    acl.reconfigure(rules=[two])
    acl.reconfigure(rules=[one, three, two])
    assert counted(acl) == {"one": 0, "three": 0, "two": 2, "default": 1, "resolution": 0, "other": 0}
    acl.reset()
    assert set(counted(acl).values()) == {0}
    assert acl.show()[2]["bytes"] == 0


def test_a_change_writes_the_other_bank_and_then_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    acl = Acl(rules=[accept(protocol="tcp"), accept(protocol="udp")])
    frames = [v4(6, tcp()), v4(17, udp())]
    seen: list[str] = []
    for name, table in acl.tables.items():
        def update(key: bytes, value: bytes, mode: int, name: str = name, original: Any = table.home.update) -> Any:
            if name != "hits":
                assert [acl.ingress(Packet(frame, INSIDE)) for frame in frames] == [PASS] * len(frames), "the old hold"
                seen.append(name)
            return original(key, value, mode)
        monkeypatch.setattr(table.home, "update", update)
    acl.reconfigure(rules=[deny(protocol="tcp"), accept(protocol="udp")])
    assert seen == ["rules", "rules", "active"]
    assert [acl.ingress(Packet(frame, INSIDE)) for frame in frames] == [RULE, PASS]
    seen.clear()
    acl.reconfigure(rules=acl.config.rules)
    assert seen == []
    frames.clear()
    acl.reconfigure(rules=[deny(protocol="sctp"), accept(protocol="udp")])
    assert seen == ["rules", "active"], "the second slot of that bank says this already"
    seen.clear()
    acl.reconfigure(rules=acl.config.rules)
    assert seen == []


@pytest.mark.parametrize(("path", "rule"), [
    ("rules[0].action", {"action": "allow"}),
    ("rules[0].action", {}),
    ("rules[0].source", accept(source="10.0.0.1/8")),
    ("rules[0].destination", accept(source="10.0.0.0/8", destination="2001:db8::/32")),
    ("rules[0].protocol", accept(source="10.0.0.0/8", protocol="icmp6")),
    ("rules[0].destination_ports", accept(destination_ports=80)),
    ("rules[0].source_ports", accept(protocol="icmp", source_ports=80)),
    ("rules[0].destination_ports", accept(protocol="tcp", destination_ports="90-80")),
    ("rules[0].destination_ports", accept(protocol="tcp", destination_ports="http")),
    ("rules[0].destination_ports", accept(protocol="tcp", destination_ports="1-65536")),
    ("rules[0].icmp_type", accept(icmp_type=8)),
    ("rules[0].icmp_type", accept(protocol="icmp", icmp_type="too_big")),
    ("rules[0].icmp_code", accept(protocol="icmp", icmp_code=1)),
    ("rules[0].flags", accept(protocol="udp", flags="syn")),
    ("rules[0].flags", accept(protocol="tcp", flags="sin")),
])
def test_a_wrong_rule_says_where(path: str, rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Acl(rules=[rule])
    assert caught.value.path == path
