"""Ethernet, VLAN tags and ARP: the functions beside their headers."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import Packet, mac_address
from iovisor.wire import Arp, Ethernet, EtherType, Vlan, arp, ethernet, vlan
from tests.wire.frames import A4, ARP_REPLY, ARP_REQUEST, B


@pytest.mark.parametrize(("text", "group", "local", "bridge"), [
    ("ff:ff:ff:ff:ff:ff", True, True, False), ("01:80:c2:00:00:00", True, False, True),
    ("01:80:c2:00:00:0f", True, False, True), ("01:80:c2:00:00:10", True, False, False),
    ("02:00:00:00:00:01", False, True, False), ("00:00:5e:00:01:01", False, False, False),
    ("33:33:00:00:00:01", True, True, False), ("fe:ff:ff:ff:ff:ff", False, True, False),
])
def test_kinds_of_address(text: str, group: bool, local: bool, bridge: bool) -> None:
    address = mac_address(text)
    assert ethernet.is_group(address) is group
    assert ethernet.is_local(address) is local
    assert ethernet.is_bridge_group(address) is bridge


@pytest.mark.parametrize(("value", "is_type"), [(0x800, True), (0x600, True), (0x5ff, False), (46, False)])
def test_a_type_or_a_length(value: int, is_type: bool) -> None:
    assert ethernet.has_type(Ethernet(dst=0, src=0, type=value)) is is_type


@given(st.integers(0, 0xfff), st.integers(0, 7), st.integers(0, 1))
def test_tag_control_information(vid: int, pcp: int, dei: int) -> None:
    control = vlan.tci(vid, pcp, dei)
    assert control.to_bytes(2, "big") == bytes(Vlan(pcp=pcp, dei=dei, vid=vid, type=0))[:2]
    assert (vlan.vid_of(control), vlan.pcp_of(control), vlan.dei_of(control)) == (vid, pcp, dei)


def test_a_tag_within_a_tag() -> None:
    pkt = Packet(bytes(12) + bytes.fromhex("88a8 0064 8100 6005 0800"))
    eth, inner = pkt.parse(Ethernet, Vlan)
    assert (vlan.vid_of(pkt.tci), eth.type, inner.vid, inner.pcp, inner.type) == (
        100, EtherType.VLAN, 5, 3, EtherType.IPV4)


def test_a_request_becomes_the_reply_linux_sends() -> None:
    pkt = Packet(ARP_REQUEST)
    eth, request = pkt.parse(Ethernet, Arp)
    assert arp.is_ethernet_ipv4(request) and not arp.is_probe(request) and not arp.is_announcement(request)
    arp.answer(eth, request, B)
    assert bytes(pkt) == ARP_REPLY


def test_probes_and_announcements() -> None:
    probe = Arp(operation=1, sender_mac=B, sender_ip=0, target_ip=A4)
    announcement = Arp(operation=1, sender_mac=B, sender_ip=A4, target_ip=A4)
    reply = Arp(operation=2, sender_mac=B, sender_ip=0, target_ip=A4)
    assert [arp.is_probe(p) for p in (probe, announcement, reply)] == [True, False, False]
    assert [arp.is_announcement(p) for p in (probe, announcement, reply)] == [False, True, False]


@pytest.mark.parametrize("field", ["hardware", "protocol", "hardware_length", "protocol_length"])
def test_another_kind_of_arp(field: str) -> None:
    request = Arp.decode(ARP_REQUEST[14:])
    setattr(request, field, 7)
    assert not arp.is_ethernet_ipv4(request)
