"""Packets in words: the frames are right, judged by the wire package's own sums, and what is wrong is said."""
from __future__ import annotations

import pytest

from iovisor.language import Packet
from iovisor.testing.packets import describe
from iovisor.wire.described import described
from iovisor.wire.dissection import dissect

MACS = 0x020000000001, 0x020000000002


@pytest.mark.parametrize(("text", "code"), [
    ("tcp 10.1.0.11:40000 > 10.2.0.20:80 syn",
     "tcp(src=40000, dst=80, flags=2, seq=1, window=64240)"),
    ("tcp 10.1.0.11:40000 > 10.2.0.20:80 rst ack size 3", "flags=20"),
    ("udp 10.1.0.11:5353 > 10.2.0.20:53 ttl 3 size 101", "udp(src=5353, dst=53) / bytes(101)"),
    ("udp [2001:db8::11]:5353 > [2001:db8:2::20]:53 size 7", "udp(src=5353, dst=53)"),
    ("tcp [2001:db8::11]:1 > [2001:db8:2::20]:2", "tcp("),
    ("icmp 10.1.0.11 > 10.2.0.20 size 56", "icmp("),
    ("icmp6 2001:db8::11 > 2001:db8:2::20", "icmp6("),
    ("arp 10.1.0.11 > 10.1.0.1", "arp("),
    ("udp 10.1.0.11:1 > 10.2.0.20:2 vlan 7", "vlan(vid=7)"),
])
def test_a_frame_is_what_the_words_say(text: str, code: str) -> None:
    frame = described(text).frame(*MACS)
    said = describe(frame)                                  # names what is out of the ordinary, a wrong checksum too
    assert "checksum" not in said and "length" not in said, said
    assert code.split("(")[0] in said and dissect(frame).parts[0].header.src == MACS[0]  # type: ignore[attr-defined]
    assert len(frame) >= 60 and bytes(Packet(frame)) == frame


def test_what_is_said_of_the_frame_counts() -> None:
    frame = described("icmp 10.0.0.1 > 10.0.0.2 mac 02:00:00:00:00:09 > 02:00:00:00:00:0a").frame(*MACS)
    assert frame[:12].hex() == "02000000000a020000000009"
    assert described("udp 10.0.0.1:1 > 10.0.0.2:2").frame()[:6] == b"\xff" * 6


@pytest.mark.parametrize(("text", "why"), [
    ("", "describes no packet"), ("sctp 1.2.3.4 > 1.2.3.5", "describes no packet"),
    ("tcp 10.0.0.1 > 10.0.0.2:80", "names no port"), ("tcp 10.0.0.1:99999 > 10.0.0.2:80", "names no port"),
    ("icmp 10.0.0.300 > 10.0.0.2", "is no address"), ("icmp 10.0.0.1 > 2001:db8::1", "both addresses"),
    ("arp 2001:db8::1 > 2001:db8::2", "both addresses"), ("udp 10.0.0.1:1 > 10.0.0.2:2 syn", "'syn' is not understood"),
    ("udp 10.0.0.1:1 > 10.0.0.2:2 vlan 5000", "from 1 to 4094"), ("icmp 10.0.0.1 > 10.0.0.2 ttl", "'ttl' is not"),
    ("icmp 10.0.0.1 > 10.0.0.2 mac 1 > 2", "MAC|mac"),
])
def test_what_is_not_understood(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        described(text)
