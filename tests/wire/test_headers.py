"""Every header against bytes written by hand or by Linux: what is read, and that writing it gives the same bytes."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor import wire
from iovisor.language import Header, LanguageError, Packet
from iovisor.wire import (
    AddressOption,
    Arp,
    Ethernet,
    Extension,
    Fragment,
    Icmp,
    Icmp6,
    Icmp6Echo,
    IcmpEcho,
    IcmpTooBig,
    IPv4,
    IPv6,
    MtuOption,
    NameServerOption,
    NeighborAdvertisement,
    NeighborSolicitation,
    Option,
    PrefixOption,
    RouterAdvertisement,
    RouterSolicitation,
    Tcp,
    Udp,
    Vlan,
)
from tests.wire.frames import (
    A4,
    A6,
    ADVERTISEMENT6,
    ARP_REPLY,
    B4,
    B6,
    ECHO4,
    ECHO6,
    FIRST6,
    LATER6,
    SYN4,
    UDP4,
    UDP6,
    UNREACHABLE4,
    A,
    B,
)

HEADERS = [value for value in vars(wire).values() if isinstance(value, type) and issubclass(value, Header)]

CASES: list[tuple[type[Header], bytes, dict[str, int]]] = [
    (Ethernet, UDP4[:14], {"dst": B, "src": A, "type": 0x0800}),
    (Vlan, bytes.fromhex("b005 86dd"), {"pcp": 5, "dei": 1, "vid": 5, "type": 0x86dd}),
    (Arp, ARP_REPLY[14:], {"hardware": 1, "protocol": 0x800, "hardware_length": 6, "protocol_length": 4, "operation": 2,
                           "sender_mac": B, "sender_ip": B4, "target_mac": A, "target_ip": A4}),
    (IPv4, UNREACHABLE4[14:34], {"version": 4, "ihl": 5, "dscp": 48, "ecn": 0, "length": 61, "id": 0xe1b5,
                                 "reserved": 0, "df": 0, "mf": 0, "offset": 0, "ttl": 64, "proto": 1,
                                 "checksum": 0x8448, "src": B4, "dst": A4}),
    (IPv4, bytes.fromhex("46 03 0014 0001 afff ff 11 0000 00000000 ffffffff"),
     {"version": 4, "ihl": 6, "dscp": 0, "ecn": 3, "length": 20, "id": 1, "reserved": 1, "df": 0, "mf": 1,
      "offset": 0xfff, "ttl": 255, "proto": 17, "checksum": 0, "src": 0, "dst": 0xffffffff}),
    (IPv6, UDP6[14:54], {"version": 6, "dscp": 0, "ecn": 0, "flow": 0x64f13, "length": 13, "next": 17, "hops": 64,
                         "src": A6, "dst": B6}),
    (IPv6, bytes.fromhex("6b9fffff 0000 3b 00") + bytes(32),
     {"version": 6, "dscp": 0x2e, "ecn": 1, "flow": 0xfffff, "length": 0, "next": 59, "hops": 0, "src": 0, "dst": 0}),
    (Extension, bytes.fromhex("3a02"), {"next": 58, "length": 2}),
    (Fragment, FIRST6[54:62], {"next": 17, "reserved": 0, "offset": 0, "spare": 0, "more": 1, "id": 0x2247d0ee}),
    (Fragment, LATER6[54:62], {"next": 17, "reserved": 0, "offset": 181, "spare": 0, "more": 0, "id": 0x2247d0ee}),
    (Icmp, UNREACHABLE4[34:42], {"type": 3, "code": 3, "checksum": 0x111e, "rest": 0}),
    (IcmpEcho, ECHO4[34:42], {"type": 8, "code": 0, "checksum": 0xc03c, "id": 0x2bb2, "sequence": 1}),
    (IcmpTooBig, bytes.fromhex("03 04 1234 0000 05dc"), {"type": 3, "code": 4, "checksum": 0x1234, "unused": 0,
                                                        "mtu": 1500}),
    (Icmp6, bytes.fromhex("02 00 1234 000005dc"), {"type": 2, "code": 0, "checksum": 0x1234, "rest": 1500}),
    (Icmp6Echo, ECHO6[54:62], {"type": 128, "code": 0, "checksum": 0xec7b, "id": 0x2bb3, "sequence": 1}),
    (RouterSolicitation, bytes.fromhex("85 00 7b1a 00000000"), {"type": 133, "code": 0, "checksum": 0x7b1a,
                                                                "reserved": 0}),
    # managed, home agent, high preference: 1 0 1 01 0 00
    (RouterAdvertisement, bytes.fromhex("86 00 1234 40 a8 0708 00007530 000003e8"),
     {"type": 134, "code": 0, "checksum": 0x1234, "hops": 64, "managed": 1, "other": 0, "home_agent": 1,
      "preference": 1, "proxy": 0, "reserved": 0, "lifetime": 1800, "reachable": 30000, "retransmit": 1000}),
    (NeighborSolicitation, bytes.fromhex("87 00 1c1e 00000000 20010db8000000000000000000000002"),
     {"type": 135, "code": 0, "checksum": 0x1c1e, "reserved": 0, "target": B6}),
    (NeighborAdvertisement, ADVERTISEMENT6[54:78],
     {"type": 136, "code": 0, "checksum": 0x8a68, "router": 0, "solicited": 1, "override": 1, "spare": 0,
      "reserved": 0, "target": B6}),
    (Option, bytes.fromhex("0e01"), {"type": 14, "length": 1}),
    (AddressOption, ADVERTISEMENT6[78:86], {"type": 2, "length": 1, "address": B}),
    (PrefixOption, bytes.fromhex("03 04 40 c0 00278d00 00093a80 00000000 20010db8000000000000000000000000"),
     {"type": 3, "length": 4, "prefix_length": 64, "on_link": 1, "autonomous": 1, "spare": 0, "valid": 2592000,
      "preferred": 604800, "reserved": 0, "prefix": 0x20010db8 << 96}),
    (MtuOption, bytes.fromhex("05 01 0000 000005dc"), {"type": 5, "length": 1, "reserved": 0, "mtu": 1500}),
    (NameServerOption, bytes.fromhex("19 03 0000 00000e10 20010db8000000000000000000000002"),
     {"type": 25, "length": 3, "reserved": 0, "lifetime": 3600, "server": B6}),
    (Udp, UDP4[34:42], {"src": 40000, "dst": 53, "length": 13, "checksum": 0x0b8a}),
    (Tcp, SYN4[34:54], {"src": 40002, "dst": 80, "sequence": 0xcd9a576d, "acknowledgment": 0, "offset": 10,
                        "reserved": 0, "flags": 2, "window": 64240, "checksum": 0xca27, "urgent": 0}),
]


@pytest.mark.parametrize(("kind", "data", "fields"), CASES)
def test_a_header_is_its_bytes(kind: type[Header], data: bytes, fields: dict[str, int]) -> None:
    assert len(data) == kind.size and list(fields) == list(kind.fields)
    header = kind.decode(data)
    assert {name: getattr(header, name) for name in kind.fields} == fields
    assert bytes(kind(**fields)) == data
    parsed = Packet(data).parse(kind)
    assert parsed == header


def test_every_header_has_a_case() -> None:
    assert {kind for kind, _, _ in CASES} == set(HEADERS)


@pytest.mark.parametrize("kind", HEADERS)
@given(data=st.data())
def test_any_bytes_survive(kind: type[Header], data: st.DataObject) -> None:
    drawn = data.draw(st.binary(min_size=kind.size, max_size=kind.size))
    header = kind.decode(drawn)
    assert bytes(kind(**{name: getattr(header, name) for name in kind.fields})) == drawn


def test_usual_values_need_not_be_said() -> None:
    assert bytes(IPv4(length=20, proto=6, src=1, dst=2)) == bytes.fromhex("45000014000000004006000000000001 00000002")
    assert bytes(IPv6(length=0, next=59, src=1, dst=2))[:8] == bytes.fromhex("6000000000003b40")
    assert bytes(Arp(operation=1, sender_mac=A, sender_ip=A4, target_ip=B4))[:8] == bytes.fromhex("0001080006040001")
    assert bytes(Tcp(src=1, dst=2, flags=2))[12:14] == b"\x50\x02"
    assert bytes(Vlan(vid=5, type=0x800)) == bytes.fromhex("00050800")
    for message, number in ((RouterSolicitation(), 133), (RouterAdvertisement(lifetime=0), 134),
                            (NeighborSolicitation(target=1), 135), (NeighborAdvertisement(target=1), 136)):
        assert bytes(message)[:2] == bytes([number, 0])


GUARDED = {IPv4, Icmp, IcmpEcho, IcmpTooBig, Icmp6, Icmp6Echo, RouterSolicitation, RouterAdvertisement,
           NeighborSolicitation, NeighborAdvertisement, Udp, Tcp}


@pytest.mark.parametrize("kind", HEADERS)
def test_what_lies_under_a_checksum_is_not_assigned(kind: type[Header]) -> None:
    assert kind.guarded == (frozenset(kind.fields) if kind in GUARDED else {"src", "dst"} if kind is IPv6 else set())
    for name in kind.fields:
        parsed = Packet(bytes(kind.size)).parse(kind)
        if name in kind.guarded:
            with pytest.raises(LanguageError):
                setattr(parsed, name, 1)
        else:
            setattr(parsed, name, 1)
            assert getattr(parsed, name) == 1


def test_all_is_honest() -> None:
    public = {name for name, value in vars(wire).items() if isinstance(value, type)}
    assert set(wire.__all__) == public
