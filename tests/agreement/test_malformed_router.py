"""A million spoiled frames for the router, with --nightly; some thousands else.

The judge knows the configuration and reads frames by slices and numbers.  What leaves is one of two things: the packet
that came, with one hop less, between the stations its longest prefix says, and not a byte else changed; or an answer to
it, from one of the router's addresses to who sent it, whose checksums are right and which nobody may not be sent.
"""
from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.router import Router
from iovisor.language import Function, Verdict
from iovisor.language.verdicts import DROP_KIND, PUNT_KIND
from iovisor.testing import Arrival
from iovisor.testing.packets import arp, ethernet, fragment, hop_by_hop, icmp, icmp6, ipv4, ipv6, tcp, udp
from tests.agreement.malformed import Judge, Subject, examine, read

SOME, MILLION = 4_000, 1_000_000
MACS = {port: f"02:00:00:00:01:{port:02x}" for port in range(2)}
HOSTS = {0: "06:5a:5a:5a:5a:01", 1: "06:a5:a5:a5:a5:02"}
OWN = {0: ("10.1.0.1", "2001:db8::1", "fe80::ff:fe00:100"), 1: ("10.1.1.1", "2001:db8:1::1", "fe80::ff:fe00:101")}
NEAR = {0: ("10.1.0.2", "2001:db8::2"), 1: ("10.1.1.2", "2001:db8:1::2")}
MTU = {0: 1500, 1: 1280}
WAYS = {0: ("10.0.0.0/12", "192.0.2.0/24", "2001:db8::/33", "2001:db8:5::/48"),         # on port 0 by way of NEAR
        1: ("192.0.2.128/25", "198.51.100.0/24", "2001:db8:8000::/33")}
CONFIG: dict[str, Any] = {
    "interfaces": {port: {"mac": MACS[port], "addresses": [f"{OWN[port][0]}/24", f"{OWN[port][1]}/64"],
                          "mtu": MTU[port]} for port in range(2)},
    "routes": 256, "errors": 1 << 23,
    "static": [{"to": to, "via": [{"gateway": NEAR[port][":" in to]}]} for port, ways in WAYS.items() for to in ways],
    "fixed": [{"port": port, "address": address, "mac": HOSTS[port]} for port, near in NEAR.items()
              for address in near]}
ERRORS4, ERRORS6 = (3, 4, 5, 11, 12), (*range(128), 137)


def number(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def plain(frame: bytes) -> bytes:
    """Without a tag that says a priority alone."""
    tagged = frame[12:14] in (b"\x81\0", b"\x88\xa8") and len(frame) >= 18
    return frame[:12] + frame[16:] if tagged and not int.from_bytes(frame[14:16], "big") & 0xfff else frame


def total(data: bytes) -> int:
    """The ones' complement sum of 16-bit words, 0xffff where a checksum is right."""
    return int.from_bytes(data + bytes(len(data) & 1), "big") % 0xffff or 0xffff


def towards(address: bytes) -> tuple[int, bytes] | None:
    """The port that the longest prefix leads to, and the next hop."""
    there = ip_address(address)
    found: list[tuple[int, int, bytes]] = []
    for port in range(2):
        for text in (f"{OWN[port][0]}/24", f"{OWN[port][1]}/64"):
            net = ip_network(text, strict=False)
            if there.version == net.version and there in net:
                found.append((net.prefixlen, port, address))
        for text in WAYS[port]:
            net = ip_network(text)
            if there.version == net.version and there in net:
                found.append((net.prefixlen, port, ip_address(NEAR[port][net.version == 6]).packed))
    return max(found, key=lambda item: item[0])[1:] if found else None


def ours(address: bytes) -> bool:
    return any(ip_address(own).packed == address for owns in OWN.values() for own in owns)


def odd4(address: bytes) -> bool:
    """No host's."""
    there = ip_address(address)
    return there.is_multicast or there.is_loopback or address[0] == 0 or address[0] >= 240


def tells(came: bytes) -> bool:
    """Whether it may be of ARP or discovery, from which the router learns who is where."""
    return came[12:14] == b"\x08\x06" or (came[12:14] == b"\x86\xdd" and came[20:21] == b"\x3a")


def onward(came: bytes, port: int, left: bytes, told: Sequence[tuple[int, bytes]]) -> str | None:
    """Whether a packet may go on, and goes on right.  `told`: what said who is where, with its port."""
    four = came[12:14] == b"\x08\0"
    data = came[14:]
    if came[:6] != number(MACS[port]):
        return "it was for another station"
    source, target = (data[12:16], data[16:20]) if four else (data[8:24], data[24:40])
    length = int.from_bytes(data[2:4], "big") if four else 40 + int.from_bytes(data[4:6], "big")
    size = 4 * (data[0] & 15) if four else 40
    if read(came[:12] + came[12:14] + data).fault.startswith("its IP") or data[0] >> 4 != (4 if four else 6):
        return "its header contradicts the frame"
    if four and total(data[:size]) != 0xffff:
        return "its header's checksum is wrong"
    hops, place = (data[8], 8) if four else (data[7], 7)
    if hops <= 1:
        return "it had no hops left"
    if four and size > 20:
        return "options are Python's"
    link_local = source[:2] == b"\xa9\xfe" or target[:2] == b"\xa9\xfe" if four else \
        ip_address(source).is_link_local or ip_address(target).is_link_local
    if link_local or (odd4(source) or odd4(target) if four else any(
            int.from_bytes(a, "big") < 2 or a[0] == 0xff for a in (source, target))):
        return "such addresses are not forwarded"
    way = towards(target)
    if ours(target) or way is None:
        return "there is no such route"
    out, hop = way
    station = number(HOSTS[out])
    if ip_address(hop) not in map(ip_address, NEAR[out]):
        station = left[:6]
        if not any(where == out and hop in frame[14:] and station in frame[14:] for where, frame in told):
            return "nobody knows that neighbor"
    if length > MTU[out]:
        return "it is too long for that link"
    body = bytearray(data[:length])
    body[place] -= 1
    if four:
        body[10:12] = b"\0\0"
        body[10:12] = left[24:26]
        if total(bytes(body[:size])) != 0xffff:
            return "its header's checksum became wrong"
    want = station + number(MACS[out]) + came[12:14] + body
    return None if left == want else f"it should have left as {want.hex()}"


def answers(came: bytes, port: int, left: bytes) -> str | None:
    """Whether a packet may be answered so."""
    if came[6] & 1 and left[:6] == came[6:12]:
        return "a group is no sender"
    if left[6:12] != number(MACS[port]):
        return "it is not from the router"
    match came[12:14], left[12:14]:
        case b"\x08\x06", b"\x08\x06":
            good = came[20:22] == b"\0\1" and left[20:22] == b"\0\2" and left[32:42] == came[22:32] and \
                came[38:42] == ip_address(OWN[port][0]).packed == left[28:32]
            return None if good else "a wrong answer to ARP"
        case b"\x08\0", b"\x08\0":
            return answers4(came[14:], left[14:], came[0] & 1 != 0)
        case b"\x86\xdd", b"\x86\xdd":
            return answers6(came[14:], left[14:], came[0] & 1 != 0)
    return "this is no answer to that"


def answers4(data: bytes, answer: bytes, group: bool) -> str | None:
    if total(answer[:20]) != 0xffff or int.from_bytes(answer[2:4], "big") != len(answer) or answer[0] != 0x45:
        return "its own header is wrong"
    size, length = 4 * (data[0] & 15), int.from_bytes(data[2:4], "big")
    if total(data[:size]) != 0xffff or not ours(answer[12:16]) or answer[16:20] != data[12:16]:
        return "between wrong ends"
    if group or odd4(data[12:16]) or int.from_bytes(data[6:8], "big") & 0x1fff or odd4(data[16:20]):
        return "what came is not to be answered"
    if answer[9] == 6:
        good = data[9] == 6 and not data[size + 13] & 4 and answer[33] & 4 and ours(data[16:20])
        return None if good else "a wrong reset"
    if answer[9] != 1 or total(answer[20:]) != 0xffff:
        # An echo is answered by difference: a wrong sum stays as wrong as it was.
        echo = data[9] == 1 and data[size] == 8 and answer[20] == 0
        if not echo or total(data[size:length]) != total(answer[20:]):
            return "its ICMP is wrong"
    if answer[20] == 0:
        return None if data[9] == 1 and data[size] == 8 and answer[24:] == data[size + 4:length] else "a wrong echo"
    if data[9] == 1 and data[size] in ERRORS4:
        return "an error about an error"
    return None if answer[28:] == data[:len(answer) - 28] and len(answer) <= 576 else "it quotes something else"


def answers6(data: bytes, answer: bytes, group: bool) -> str | None:
    if len(answer) < 48 or int.from_bytes(answer[4:6], "big") + 40 != len(answer) or not ours(answer[8:24]):
        return "its own header is wrong"
    pseudo = answer[8:40] + (len(answer) - 40).to_bytes(4, "big") + bytes([0, 0, 0, answer[6]])
    if answer[6] == 6:
        return None if total(pseudo + answer[40:]) == 0xffff and answer[53] & 4 else "a wrong reset"
    kind = answer[40]
    if kind == 136:
        good = data[6] == 58 and data[40] == 135 and data[7] == answer[7] == 255 and ours(data[48:64]) and \
            data[48:64] == answer[48:64] and total(pseudo + answer[40:]) == 0xffff
        return None if good else "a wrong advertisement"
    if answer[24:40] != data[8:24] or data[8] == 0xff or int.from_bytes(data[8:24], "big") < 2:
        return "between wrong ends"
    if kind == 129:
        good = data[40] == 128 and answer[44:] == data[44:40 + int.from_bytes(data[4:6], "big")]
        return None if good else "a wrong echo"
    found = read(bytes(12) + b"\x86\xdd" + data)
    if kind not in (1, 2, 3, 4) or total(pseudo + answer[40:]) != 0xffff:
        return "its ICMP is wrong"
    if found.offset or (found.protocol == 58 and found.transport[:1] and found.transport[0] in ERRORS6):
        return "an error about what gets none"
    if group and kind not in (2, 4):
        return "what went to many is not to be answered"
    return None if answer[48:] == data[:len(answer) - 48] and len(answer) <= 1280 else "it quotes something else"


def routing() -> Judge:
    told: list[tuple[int, bytes]] = []

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        came = plain(arrival.frame)
        if tells(came):
            told.append((arrival.port, came))
        if verdict.kind == DROP_KIND:
            return None
        if verdict.kind == PUNT_KIND:
            return None if frame == came else "what goes to Python was altered"
        if came[12:14] in (b"\x81\0", b"\x88\xa8") and len(came) >= 18:
            return "it belongs to a VLAN"
        same = slice(26, 34) if frame[12:14] == b"\x08\0" else slice(22, 54)
        if frame[12:14] in (b"\x08\0", b"\x86\xdd") and frame[same] == came[same] and frame[12:14] == came[12:14]:
            return onward(came, arrival.port, frame, told)
        return answers(came, arrival.port, frame) if verdict.argument == arrival.port else "an answer goes elsewhere"
    return judge


def counted(function: Function, count: int) -> str | None:
    assert isinstance(function, Router)
    answered = sum(found.packets for _, found in function.answered.items())
    return None if answered <= count else f"{count} frames came, {answered} were refused with an error"


def stock() -> list[Arrival]:
    """Proper frames: for elsewhere, for the router, about neighbors, in both families."""
    found: list[Arrival] = []
    targets = {4: ["10.1.1.2", "10.1.0.2", "10.1.1.1", "10.1.0.1", "192.0.2.1", "192.0.2.200", "198.51.100.7",
                   "203.0.113.1"],
               6: ["2001:db8:1::2", "2001:db8::2", "2001:db8::1", "fe80::ff:fe00:100", "2001:db8:8000::1",
                   "2001:db9::1"]}
    usual: list[Any] = [udp(src=1, dst=2) / bytes(30), tcp(src=1, dst=2, flags=2),
                        tcp(src=1, dst=2, flags=0x10) / bytes(9), udp(src=1, dst=2) / bytes(1330)]
    inner = {4: [*usual, icmp(type=8) / bytes(20), icmp(type=3) / bytes(40)],
             6: [*usual, icmp6(type=128) / bytes(20), icmp6(type=1) / bytes(48), hop_by_hop() / udp(),
                 fragment(offset=0, more=1, id=1) / udp() / bytes(16)]}
    for port, hops in ((port, hops) for port in range(2) for hops in (1, 64)):
        link = ethernet(dst=MACS[port], src=HOSTS[port])
        found += [Arrival(bytes(link / ipv4(src=NEAR[port][0], dst=to, ttl=hops) / upper), port)
                  for to in targets[4] for upper in inner[4]]
        found += [Arrival(bytes(link / ipv6(src=NEAR[port][1], dst=to, hops=hops) / upper), port)
                  for to in targets[6] for upper in inner[6]]
        found.append(Arrival(bytes(link / arp(operation=1, sender_mac=HOSTS[port], sender_ip=NEAR[port][0],
                                              target_ip=OWN[port][0])), port))
        found.append(Arrival(bytes(link / ipv6(src=NEAR[port][1], dst=OWN[port][1], hops=255) / icmp6(type=135)
                                   / ip_address(OWN[port][1]).packed / bytes([1, 1]) / number(HOSTS[port])), port))
    return Random(1).sample(found, len(found))


def talk() -> list[Arrival]:
    """Two hosts, each on its network, and a question to the router itself."""
    found = []
    for port in range(2):
        link = ethernet(dst=MACS[port], src=HOSTS[port])
        (four, six), (far4, far6) = NEAR[port], NEAR[1 - port]
        found += [Arrival(bytes(link / packet), port) for packet in (
            ipv4(src=four, dst=far4) / udp(src=9, dst=9) / bytes(20), ipv6(src=six, dst=far6) / udp(src=9, dst=9),
            ipv4(src=four, dst=OWN[port][0]) / icmp(type=8))]
    return found


SUBJECT = Subject(make=lambda: Router(**CONFIG), stock=stock(), prelude=talk(), canary=talk(), judge=routing,
                  every=True, account=counted)


@pytest.mark.root
def test_nothing_comes_of_it(images: Cache, nightly: bool) -> None:
    pytest.importorskip("llvmlite")
    count = MILLION if nightly else SOME
    tally = examine(SUBJECT, count, images)
    assert tally.total() == count
    assert min(tally["forward(0)"], tally["forward(1)"]) > count / 100, f"too little was tried that may pass: {tally}"
