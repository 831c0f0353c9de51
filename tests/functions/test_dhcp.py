"""The DHCP server, in plain CPython: every message a client can send, as frames, and what comes back."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.functions.dhcp import Dhcp, Reason
from iovisor.language import (
    SECOND,
    Clock,
    ConfigError,
    Packet,
    drop,
    forward,
    ipv4_address,
    ipv4_text,
    mac_address,
)
from iovisor.wire.arp import Arp
from iovisor.wire.dhcp import MAGIC, NAMES, Bootp, DhcpOption, DhcpType, decode, encode
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp import IcmpEcho
from iovisor.wire.ipv4 import IPv4
from iovisor.wire.offload import of_data
from iovisor.wire.udp import Udp


def summed(data: bytes) -> int:
    return of_data(data) ^ 0xffff


SERVER, MAC = "10.0.0.1", "02:00:00:00:00:d1"
CLIENT, OTHER = 0x02_00_00_00_00_01, 0x02_00_00_00_00_02
D, R = DhcpType, DhcpOption
SUBNET: dict[str, Any] = {
    "prefix": "10.0.0.0/24", "pools": ["10.0.0.100-10.0.0.103"], "routers": ["10.0.0.254"],
    "dns": ["10.0.0.53", "9.9.9.9"], "domain": "acme.test", "mtu": 1450, "ntp": ["10.0.0.123"],
    "routes": [{"to": "192.0.2.0/24", "via": "10.0.0.253"}],
    "tftp": "boot.acme.test", "boot": "pxe.0"}
FAR: dict[str, Any] = {"prefix": "10.9.0.0/16", "pools": ["10.9.1.0-10.9.1.255"], "routers": ["10.9.0.1"]}
RESERVED = [{"mac": "02:00:00:00:00:07", "address": "10.0.0.7", "name": "printer"},
            {"client": "ff0102", "address": "10.0.0.101"}]


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


def server(**values: Any) -> Dhcp:
    return Dhcp(**{"server": SERVER, "mac": MAC, "subnets": [SUBNET, FAR], "reservations": RESERVED, **values})


def asked(kind: int, options: dict[int, bytes] | None = None, *, chaddr: int = CLIENT, sender: int | None = None,
          src: str = "0.0.0.0", dst: str = "255.255.255.255", tail: bytes = b"", **fields: int) -> bytes:
    """A client's frame."""
    body = Bootp(**{"operation": 1, "id": 0xabcd1234, "address": chaddr, **fields})
    head: dict[int, bytes] = {} if kind < 0 else {R.TYPE: bytes([kind])}
    message = bytes(body) + bytes(NAMES) + MAGIC.to_bytes(4, "big") + encode({**head, **(options or {})}) + tail
    udp = bytes(Udp(src=68, dst=67, length=8 + len(message)))
    ip = IPv4(length=28 + len(message), proto=17, src=ipv4_address(src), dst=ipv4_address(dst))
    to = 0xffff_ffff_ffff if dst == "255.255.255.255" else mac_address(MAC)
    return bytes(Ethernet(dst=to, src=chaddr if sender is None else sender, type=0x0800)) + bytes(ip) + udp + message


class Reply:
    """A frame of the server, taken apart; its checksums are looked at."""

    def __init__(self, frame: bytes) -> None:
        self.eth, self.ip = Ethernet.decode(frame[:14]), IPv4.decode(frame[14:34])
        self.udp, self.message = Udp.decode(frame[34:42]), frame[42:]
        self.head, self.options = Bootp.decode(self.message[:Bootp.size]), decode(self.message)
        assert summed(frame[14:34]) == 0 and self.udp.length == len(self.message) + 8 == self.ip.length - 20
        pseudo = frame[26:34] + b"\0\x11" + frame[38:40]
        assert summed(pseudo + frame[34:]) == 0
        assert len(self.message) >= 300 and self.head.operation == 2 and self.head.id == 0xabcd1234
        assert self.options[R.SERVER] == ip(SERVER)

    @property
    def kind(self) -> int:
        return self.options[R.TYPE][0]

    @property
    def yours(self) -> str:
        return ipv4_text(self.head.yours)

    def number(self, option: int) -> int:
        return int.from_bytes(self.options[option], "big")


def ip(text: str) -> bytes:
    return ipv4_address(text).to_bytes(4, "big")


def tell(dhcp: Dhcp, frame: bytes) -> Reply | None:
    """Give a frame to the function as a network would; what comes back."""
    packet = Packet(frame, 0)
    verdict = dhcp.run(packet)
    if verdict == forward(0) and len(packet) > 200:                  # it had the answer ready
        return Reply(bytes(packet))
    if verdict.event is None:
        return None
    dhcp.heard(verdict.event, Packet(frame, 0))      # type: ignore[arg-type]
    assert len(dhcp.outbox) <= 1
    return Reply(dhcp.outbox.pop()[1]) if dhcp.outbox else None


def must(dhcp: Dhcp, frame: bytes) -> Reply:
    found = tell(dhcp, frame)
    assert found is not None
    return found


def lease(dhcp: Dhcp, chaddr: int = CLIENT, **options: bytes) -> str:
    """The whole exchange; the address."""
    offer = must(dhcp, asked(D.DISCOVER, chaddr=chaddr))
    ack = must(dhcp, asked(D.REQUEST, {R.SERVER: ip(SERVER), R.REQUESTED: ip(offer.yours)}, chaddr=chaddr))
    assert (offer.kind, ack.kind, ack.yours) == (D.OFFER, D.ACK, offer.yours)
    return ack.yours


def test_the_four_messages() -> None:
    dhcp = server()
    offer = must(dhcp, asked(D.DISCOVER))
    assert (offer.kind, offer.yours, offer.head.client, offer.head.server) == (D.OFFER, "10.0.0.100", 0, 0)
    assert (offer.eth.dst, offer.eth.src, ipv4_text(offer.ip.dst)) == (CLIENT, mac_address(MAC), "10.0.0.100")
    assert (offer.udp.src, offer.udp.dst, offer.head.address, offer.head.broadcast) == (67, 68, CLIENT, 0)
    assert [offer.number(o) for o in (R.LEASE_TIME, R.RENEWAL, R.REBINDING)] == [3600, 1800, 3150]
    ack = must(dhcp, asked(D.REQUEST, {R.SERVER: ip(SERVER), R.REQUESTED: ip("10.0.0.100")}))
    assert (ack.kind, ack.yours) == (D.ACK, "10.0.0.100")
    assert dhcp.show() == [{"address": "10.0.0.100", "mac": "02:00:00:00:00:01", "state": "bound", "seconds": 3600}]
    assert [dhcp.asked.read(kind).packets for kind in (D.DISCOVER, D.REQUEST)] == [1, 1]
    assert [dhcp.told.read(kind).packets for kind in (D.OFFER, D.ACK)] == [1, 1]


def test_all_options() -> None:
    told = must(server(), asked(D.DISCOVER)).options
    assert told[R.SUBNET_MASK] == ip("255.255.255.0") and told[R.BROADCAST] == ip("10.0.0.255")
    assert told[R.ROUTERS] == ip("10.0.0.254") and told[R.NAME_SERVERS] == ip("10.0.0.53") + ip("9.9.9.9")
    assert told[R.DOMAIN] == b"acme.test" and told[R.MTU] == (1450).to_bytes(2, "big")
    assert told[R.TIME_SERVERS] == ip("10.0.0.123") and told[R.TFTP_SERVER] == b"boot.acme.test"
    assert told[R.BOOT_FILE] == b"pxe.0" and R.HOST_NAME not in told
    assert told[R.ROUTES] == bytes.fromhex("18c00002 0a0000fd 00 0a0000fe")


def test_wishes_are_met_in_their_order_and_no_others() -> None:
    told = must(server(), asked(D.DISCOVER, {R.WISHES: bytes([R.DOMAIN, R.ROUTERS, 200, R.DOMAIN])})).options
    assert list(told) == [R.TYPE, R.SERVER, R.LEASE_TIME, R.RENEWAL, R.REBINDING, R.SUBNET_MASK, R.DOMAIN, R.ROUTERS]


def test_broadcast_is_for_those_who_ask() -> None:
    offer = must(server(), asked(D.DISCOVER, broadcast=1))
    assert (offer.eth.dst, ipv4_text(offer.ip.dst), offer.head.broadcast) == (0xffff_ffff_ffff, "255.255.255.255", 1)


def test_a_client_gets_what_it_had() -> None:
    dhcp = server()
    first, second = lease(dhcp), lease(dhcp, OTHER)
    assert (first, second) == ("10.0.0.100", "10.0.0.102")          # .101 is somebody's
    assert lease(dhcp) == first
    here = ipv4_address(first)
    assert tell(dhcp, asked(D.RELEASE, {R.SERVER: ip(SERVER)}, client=here, src=first, dst=SERVER)) is None
    assert lease(dhcp, 3) == "10.0.0.103"                           # what nobody had, before what somebody may want
    assert lease(dhcp) == first
    Clock.advance(3601 * SECOND)
    assert lease(dhcp) == first


def test_an_identifier_is_the_client() -> None:
    dhcp = server()
    names: list[dict[int, bytes]] = [{R.CLIENT: bytes([1]) + n.to_bytes(6, "big")} for n in (1, 2)]
    one, two = (must(dhcp, asked(D.DISCOVER, name)) for name in names)
    assert one.yours != two.yours
    assert one.options[R.CLIENT] == names[0][R.CLIENT]              # RFC 6842
    assert must(dhcp, asked(D.DISCOVER, names[0], chaddr=OTHER)).yours == one.yours


def test_reservations() -> None:
    dhcp = server()
    offer = must(dhcp, asked(D.DISCOVER, chaddr=7))
    assert offer.yours != "10.0.0.7"
    offer = must(dhcp, asked(D.DISCOVER, chaddr=0x02_00_00_00_00_07))
    assert (offer.yours, offer.options[R.HOST_NAME]) == ("10.0.0.7", b"printer")
    assert must(dhcp, asked(D.DISCOVER, {R.CLIENT: bytes.fromhex("ff0102")})).yours == "10.0.0.101"


def test_a_wish_for_an_address() -> None:
    dhcp = server()
    assert must(dhcp, asked(D.DISCOVER, {R.REQUESTED: ip("10.0.0.103")})).yours == "10.0.0.103"
    assert must(dhcp, asked(D.DISCOVER, {R.REQUESTED: ip("10.0.0.103")}, chaddr=OTHER)).yours == "10.0.0.100"
    assert must(dhcp, asked(D.DISCOVER, {R.REQUESTED: ip("10.0.0.200")}, chaddr=3)).yours == "10.0.0.102"


def test_a_wish_for_a_time() -> None:
    dhcp = server(longest="2h")
    for wish, got in ((600, 600), (1, 60), (0xffff_ffff, 7200)):
        offer = must(dhcp, asked(D.DISCOVER, {R.LEASE_TIME: wish.to_bytes(4, "big")}))
        assert offer.number(R.LEASE_TIME) == got and offer.number(R.RENEWAL) == got // 2


REFUSED: list[tuple[str, dict[int, bytes], dict[str, Any]]] = [
    ("not what was offered", {R.SERVER: ip(SERVER), R.REQUESTED: ip("10.0.0.102")}, {}),
    ("of another network", {R.REQUESTED: ip("192.168.1.5")}, {"chaddr": 3}),
    ("another's", {R.REQUESTED: ip("10.0.0.100")}, {"chaddr": 3}),
    ("not its own", {R.REQUESTED: ip("10.0.0.103")}, {}),
    ("the server's", {R.REQUESTED: ip(SERVER)}, {}),
]


@pytest.mark.parametrize(("options", "fields"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals_are_broadcast_and_say_nothing_else(options: dict[int, bytes], fields: dict[str, Any]) -> None:
    dhcp = server()
    lease(dhcp)
    nak = must(dhcp, asked(D.REQUEST, options, **fields))
    assert (nak.kind, nak.yours, nak.head.client) == (D.NAK, "0.0.0.0", 0)
    assert (nak.eth.dst, ipv4_text(nak.ip.dst)) == (0xffff_ffff_ffff, "255.255.255.255")
    assert set(nak.options) == {R.TYPE, R.SERVER, R.MESSAGE}


def test_renewing_and_rebinding() -> None:
    dhcp = server()
    address = lease(dhcp)
    Clock.advance(1800 * SECOND)
    here = {"client": ipv4_address(address), "src": address}
    ack = must(dhcp, asked(D.REQUEST, dst=SERVER, **here))          # type: ignore[arg-type]
    assert (ack.kind, ack.yours, ipv4_text(ack.head.client)) == (D.ACK, address, address)
    assert (ack.eth.dst, ipv4_text(ack.ip.dst)) == (CLIENT, address)
    assert dhcp.show()[0]["seconds"] == 3600
    assert must(dhcp, asked(D.REQUEST, **here)).kind == D.ACK       # type: ignore[arg-type]
    assert must(dhcp, asked(D.REQUEST, {R.REQUESTED: ip(address)})).kind == D.ACK       # after a reboot


def test_silence() -> None:
    dhcp = server()
    assert tell(dhcp, asked(D.REQUEST, {R.REQUESTED: ip("10.0.0.103")})) is None        # nobody we know, and free
    assert tell(dhcp, asked(D.REQUEST)) is None
    must(dhcp, asked(D.DISCOVER))
    assert tell(dhcp, asked(D.REQUEST, {R.SERVER: ip("10.0.0.2"), R.REQUESTED: ip("10.0.0.50")})) is None
    assert dhcp.show()[0]["state"] == "free"                        # and our offer is for others
    for kind in (D.OFFER, D.ACK, D.NAK):
        assert tell(dhcp, asked(kind)) is None
    assert tell(dhcp, asked(D.DISCOVER, relay=ipv4_address("172.16.0.1"))) is None      # of a network we do not know


def test_declined_addresses_are_left_alone() -> None:
    dhcp = server()
    address = lease(dhcp)
    assert tell(dhcp, asked(D.DECLINE, {R.SERVER: ip(SERVER), R.REQUESTED: ip(address)})) is None
    assert must(dhcp, asked(D.DISCOVER)).yours != address
    assert tell(dhcp, asked(D.DECLINE, {R.SERVER: ip(SERVER), R.REQUESTED: ip("10.0.0.103")}, chaddr=OTHER)) is None
    assert must(dhcp, asked(D.DISCOVER, {R.REQUESTED: ip("10.0.0.103")}, chaddr=OTHER)).yours == "10.0.0.103"
    assert dhcp.show()[0] == {"address": address, "mac": "00:00:00:00:00:00", "state": "refused", "seconds": 86400}
    Clock.advance(86401 * SECOND)
    assert must(dhcp, asked(D.DISCOVER, {R.REQUESTED: ip(address)}, chaddr=3)).yours == address


def test_release_is_for_the_holder() -> None:
    dhcp = server()
    address = lease(dhcp)
    here = ipv4_address(address)
    tell(dhcp, asked(D.RELEASE, {R.SERVER: ip(SERVER)}, client=here, chaddr=OTHER, src=address, dst=SERVER))
    assert dhcp.show()[0]["state"] == "bound"
    tell(dhcp, asked(D.RELEASE, {R.SERVER: ip(SERVER)}, client=here, src=address, dst=SERVER))
    assert dhcp.show()[0]["state"] == "free"


def test_inform() -> None:
    ack = must(server(), asked(D.INFORM, client=ipv4_address("10.0.0.20"), src="10.0.0.20"))
    assert (ack.kind, ack.yours, ipv4_text(ack.ip.dst)) == (D.ACK, "0.0.0.0", "10.0.0.20")
    assert not {R.LEASE_TIME, R.RENEWAL, R.REBINDING} & ack.options.keys() and ack.options[R.DOMAIN] == b"acme.test"


def test_through_a_relay() -> None:
    dhcp, note = server(), b"\1\4eth0"
    relayed = {"relay": ipv4_address("10.9.0.1"), "sender": 0x02_00_00_00_00_99, "hops": 1}
    offer = must(dhcp, asked(D.DISCOVER, {R.RELAY: note}, **relayed))                   # type: ignore[arg-type]
    assert (offer.yours, ipv4_text(offer.head.relay)) == ("10.9.1.0", "10.9.0.1")
    assert offer.options[R.ROUTERS] == ip("10.9.0.1")
    assert (offer.eth.dst, ipv4_text(offer.ip.dst), offer.udp.dst) == (0x02_00_00_00_00_99, "10.9.0.1", 67)
    assert offer.options[R.RELAY] == note and list(offer.options)[-1] == R.RELAY
    nak = must(dhcp, asked(D.REQUEST, {R.REQUESTED: ip("10.0.0.100")}, **relayed))      # type: ignore[arg-type]
    assert (nak.kind, nak.head.broadcast, ipv4_text(nak.ip.dst)) == (D.NAK, 1, "10.9.0.1")


def test_a_pool_ends_and_comes_back() -> None:
    dhcp = server()
    given = [lease(dhcp, 100 + n) for n in range(3)]
    assert given == ["10.0.0.100", "10.0.0.102", "10.0.0.103"]
    assert tell(dhcp, asked(D.DISCOVER, chaddr=999)) is None
    Clock.advance(3601 * SECOND)
    assert lease(dhcp, 999) == "10.0.0.100"


def test_a_client_behind_a_router_renews_by_itself() -> None:
    """It had its address through a relay, and now asks without (RFC 2131 section 4.3.6): the frame is the router's."""
    dhcp, router = server(), 0x02_00_00_00_00_99
    relayed = {"relay": ipv4_address("10.9.0.1"), "sender": router, "hops": 1}
    offer = must(dhcp, asked(D.DISCOVER, **relayed))                                    # type: ignore[arg-type]
    chosen: dict[int, bytes] = {R.SERVER: ip(SERVER), R.REQUESTED: ip(offer.yours)}
    must(dhcp, asked(D.REQUEST, chosen, **relayed))                                     # type: ignore[arg-type]
    here = {"client": ipv4_address(offer.yours), "src": offer.yours, "dst": SERVER, "sender": router}
    ack = must(dhcp, asked(D.REQUEST, **here))                                          # type: ignore[arg-type]
    assert (ack.kind, ack.eth.dst, ipv4_text(ack.ip.dst), ack.udp.dst) == (D.ACK, router, offer.yours, 68)
    told = must(dhcp, asked(D.INFORM, **here))                                          # type: ignore[arg-type]
    assert (told.kind, told.eth.dst, told.options[R.ROUTERS]) == (D.ACK, router, ip("10.9.0.1"))
    assert [row["mac"] for row in dhcp.show()] == ["02:00:00:00:00:01"]
    assert tell(dhcp, asked(D.RELEASE, {R.SERVER: ip(SERVER)}, **here)) is None         # type: ignore[arg-type]
    assert [row["state"] for row in dhcp.show()] == ["free"]


def test_a_borrowed_name_gets_nothing_of_another() -> None:
    """A station that says another's hardware address is answered, but can neither have nor end what is another's."""
    dhcp, printer = server(), 0x02_00_00_00_00_07
    assert must(dhcp, asked(D.DISCOVER, chaddr=printer, sender=OTHER)).yours == "10.0.0.100"
    assert must(dhcp, asked(D.DISCOVER, chaddr=printer)).yours == "10.0.0.7"
    address = lease(dhcp)
    spoken: dict[int, bytes] = {R.SERVER: ip(SERVER), R.REQUESTED: ip(address)}
    for kind in (D.DISCOVER, D.REQUEST, D.DECLINE, D.RELEASE, D.INFORM):
        mine = {"client": ipv4_address(address), "src": address} if kind in (D.RELEASE, D.INFORM) else {}
        assert tell(dhcp, asked(kind, spoken, sender=OTHER, **mine)) is None            # type: ignore[arg-type]
    assert [row["state"] for row in dhcp.show() if row["address"] == address] == ["bound"]
    assert must(dhcp, asked(D.DISCOVER, chaddr=0xdeadc0decafe, sender=OTHER)).eth.dst == 0xdeadc0decafe
    there = {"client": ipv4_address("10.0.0.9"), "src": "10.0.0.9", "dst": SERVER}
    ack = must(dhcp, asked(D.INFORM, chaddr=0, sender=OTHER, **there))                  # type: ignore[arg-type]
    assert (ack.kind, ack.eth.dst, ipv4_text(ack.ip.dst)) == (D.ACK, OTHER, "10.0.0.9")
    assert tell(dhcp, asked(D.INFORM, client=0xffff_ffff, chaddr=0, sender=OTHER, dst=SERVER)) is None


def test_no_reply_is_longer_than_its_client_takes() -> None:
    routes = [{"to": f"10.{n}.0.0/16", "via": "10.0.0.253"} for n in range(40)]
    many = server(subnets=[{**SUBNET, "dns": [f"10.0.1.{n}" for n in range(30)], "routes": routes}])
    wishes: dict[int, bytes] = {R.WISHES: bytes([R.NAME_SERVERS, R.ROUTES, R.DOMAIN, R.TFTP_SERVER]), R.RELAY: b"\1\1a"}
    for most in (0, 100, 576, 600, 1400, 0xffff):
        reply = must(many, asked(D.DISCOVER, {**wishes, **({R.MOST: most.to_bytes(2, "big")} if most else {})}))
        assert len(reply.message) + 28 <= min(max(most, 576), 1400)
        assert len(reply.options[R.ROUTES]) == 285 and reply.options[R.ROUTES].endswith(b"\0" + ip("10.0.0.254"))
        assert len(reply.options[R.NAME_SERVERS]) == 120 and reply.options[R.RELAY] == b"\1\1a"
        assert (R.OVERLOAD in reply.options) == (most < 700)
    more = server(subnets=[{**SUBNET, "routes": [{"to": f"10.{n}.0.0/16", "via": "10.0.0.253"} for n in range(80)]}])
    told = must(more, asked(D.DISCOVER, wishes)).options
    assert R.ROUTES not in told and told[R.DOMAIN] == b"acme.test", "what does not fit is left out, and nothing else"


def test_one_client_cannot_have_the_pool() -> None:
    dhcp = server(subnets=[{**SUBNET, "pools": ["10.0.0.100-10.0.0.200"]}], reservations=[])
    got = [tell(dhcp, asked(D.DISCOVER, {R.CLIENT: b"\0" + bytes([n])})) for n in range(50)]
    assert sum(reply is not None for reply in got) == 4
    assert tell(dhcp, asked(D.DISCOVER, chaddr=50, sender=CLIENT)) is None              # nor under borrowed names
    assert must(dhcp, asked(D.DISCOVER, chaddr=OTHER)).kind == D.OFFER


def test_a_full_table_is_no_traceback() -> None:
    dhcp = server(leases=1)
    assert lease(dhcp) == "10.0.0.100"
    assert tell(dhcp, asked(D.DISCOVER, chaddr=OTHER)) is None
    assert len(dhcp.clients) == len(dhcp.holders) == 1


WHOLE = asked(D.DISCOVER)
BROKEN = [
    asked(-1), asked(0), asked(9), asked(D.DISCOVER, operation=2), asked(D.DISCOVER, hardware=6),
    asked(D.DISCOVER, hardware_length=8), asked(D.DISCOVER, hops=17), asked(D.DISCOVER, {R.TYPE: b""}),
    asked(D.DISCOVER, {R.TYPE: b"\1\1"}), WHOLE[:-1], WHOLE[:200], WHOLE[:282] + b"\0" + WHOLE[283:],
    WHOLE[:278] + bytes(4) + WHOLE[282:], WHOLE[:285] + b"\x0c",
    WHOLE[:38] + b"\0\x20" + WHOLE[40:], WHOLE[:38] + b"\4\0" + WHOLE[40:],
]


@pytest.mark.parametrize("frame", BROKEN)
def test_malformed_is_silence(frame: bytes) -> None:
    assert tell(server(), frame) is None


@given(st.binary(max_size=80), st.integers(0, 350))
def test_whatever_comes(noise: bytes, at: int) -> None:
    dhcp = server()
    frame = bytearray(asked(D.REQUEST, {R.REQUESTED: ip("10.0.0.100"), R.CLIENT: b"x"}, tail=bytes(60)))
    frame[at:at + len(noise)] = noise
    tell(dhcp, bytes(frame))
    assert len(dhcp.clients) == len(dhcp.holders)


def test_it_answers_for_itself() -> None:
    dhcp = server()
    request = bytes(Ethernet(dst=0xffff_ffff_ffff, src=CLIENT, type=0x0806)) + bytes(
        Arp(operation=1, sender_mac=CLIENT, sender_ip=ipv4_address("10.0.0.9"), target_ip=ipv4_address(SERVER)))
    packet = Packet(request, 0)
    assert dhcp.run(packet) == forward(0)
    reply = Arp.decode(bytes(packet)[14:42])
    assert (reply.operation, reply.sender_mac, ipv4_text(reply.sender_ip)) == (2, mac_address(MAC), SERVER)
    ping = IcmpEcho(type=8, id=1, sequence=2)
    ping.checksum = summed(bytes(ping))
    head = IPv4(length=28, proto=1, src=ipv4_address("10.0.0.9"), dst=ipv4_address(SERVER))
    head.checksum = summed(bytes(head))
    packet = Packet(bytes(Ethernet(dst=mac_address(MAC), src=CLIENT, type=0x0800)) + bytes(head) + bytes(ping), 0)
    assert dhcp.run(packet) == forward(0)
    assert summed(bytes(packet)[14:34]) == 0 == summed(bytes(packet)[34:]) and bytes(packet)[34] == 0
    assert dhcp.run(Packet(bytes(60), 0)) == drop(Reason.NOT_DHCP)


@pytest.mark.parametrize(("values", "said"), [
    ({"server": "192.0.2.1"}, "none contains the server"),
    ({"subnets": [SUBNET, SUBNET]}, "overlaps"),
    ({"subnets": [{**SUBNET, "pools": ["10.0.0.100-10.0.1.0"]}]}, "no host's"),
    ({"subnets": [{**SUBNET, "pools": ["ten"]}]}, "not a range"),
    ({"subnets": [{**SUBNET, "pools": ["10.0.0.9-10.0.0.3"]}]}, "ends before"),
    ({"subnets": [{**SUBNET, "mtu": 60}]}, "68"),
    ({"subnets": [{"prefix": "2001:db8::/64"}]}, "no IPv4 network"),
    ({"reservations": [{"address": "10.0.0.9"}]}, "for a `mac`"),
    ({"reservations": [{"mac": 1, "address": "192.0.2.1"}]}, "cannot be given"),
    ({"reservations": [{"mac": 1, "address": SERVER}]}, "cannot be given"),
    ({"reservations": [{"mac": n, "address": "10.0.0.9"} for n in (1, 2)]}, "another's"),
    ({"reservations": [{"client": "xyz", "address": "10.0.0.9"}]}, "hexadecimal"),
    ({"lease": "10s"}, "a minute"),
])
def test_what_cannot_be_configured(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        server(**values)
