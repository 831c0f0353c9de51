"""What tests of DHCPv6 say and hear: messages of clients as frames, and replies taken apart."""
from __future__ import annotations

from typing import Any

from iovisor.functions.dhcp6 import Dhcp6
from iovisor.language import Packet, forward, ipv6_address, ipv6_text, mac_address
from iovisor.wire import dhcp6 as wire
from iovisor.wire.datagram import datagram6
from iovisor.wire.dhcp6 import Association, Dhcp6Option, Dhcp6Type, Lent, Options
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv6 import IPv6, link_local, multicast_mac
from iovisor.wire.offload import of_data
from iovisor.wire.udp import Udp

D, R = Dhcp6Type, Dhcp6Option
SERVER, MAC = "2001:db8:1::2", "02:00:00:00:00:d6"
SERVER_LINK, SERVER_DUID = link_local(mac_address(MAC)), wire.duid_of(mac_address(MAC))
CLIENT, OTHER = 0x02_00_00_00_00_01, 0x02_00_00_00_00_02
ID = 0xabcdef
SUBNET: dict[str, Any] = {
    "prefix": "2001:db8:1::/64", "pools": ["2001:db8:1::100-2001:db8:1::103"],
    "dns": ["2001:db8:1::53", "2001:db8::53"], "search": ["acme.test", "example.org"], "ntp": ["2001:db8:1::123"],
    "refresh": "2h"}
FAR: dict[str, Any] = {"prefix": "2001:db8:9::/64", "pools": ["2001:db8:9::1000-2001:db8:9::ffff"],
                       "delegated": [{"prefix": "2001:db8:100::/48", "length": 56}]}
STATELESS: dict[str, Any] = {"prefix": "2001:db8:5::/64", "dns": ["2001:db8::53"], "refresh": "1h"}
RESERVED = [{"mac": "02:00:00:00:00:07", "address": "2001:db8:1::7"},
            {"duid": "0004:0102030405060708090a0b0c0d0e0f10", "address": "2001:db8:1::101"}]


def server(**values: Any) -> Dhcp6:
    return Dhcp6(**{"server": SERVER, "mac": MAC, "subnets": [SUBNET, FAR, STATELESS], "reservations": RESERVED,
                    **values})


def v6(text: str) -> bytes:
    return ipv6_address(text).to_bytes(16, "big")


def na(number: int = 1, *addresses: str) -> tuple[int, bytes]:
    """An association for an address."""
    return Association(R.IA_NA, number, tuple(Lent(ipv6_address(one)) for one in addresses)).option()


def pd(number: int = 1, *prefixes: str) -> tuple[int, bytes]:
    """One for a prefix."""
    found = [one.partition("/") for one in prefixes]
    return Association(R.IA_PD, number, tuple(Lent(ipv6_address(one), int(bits)) for one, _, bits in found)).option()


def wish(*codes: int) -> tuple[int, bytes]:
    return R.WISHES, b"".join(code.to_bytes(2, "big") for code in codes)


def message(kind: int, *options: tuple[int, bytes], mac: int = CLIENT, duid: bytes | None = None,
            to: bytes | None = None) -> bytes:
    """A client's message; `duid` is made of its MAC, `to` is the server's identifier in what must have it."""
    said: Options = []
    name = wire.duid_of(mac) if duid is None else duid
    if name:
        said.append((R.CLIENT, name))
    if to is None and kind in (D.REQUEST, D.RENEW, D.RELEASE, D.DECLINE):
        to = SERVER_DUID
    if to:
        said.append((R.SERVER, to))
    return bytes([kind]) + ID.to_bytes(3, "big") + wire.encode([*said, (R.ELAPSED, bytes(2)), *options])


def framed(data: bytes, *, mac: int = CLIENT, src: int = 0, dst: str = "ff02::1:2", port: int = 546) -> bytes:
    """A message on its way to the server."""
    at = ipv6_address(dst)
    to = multicast_mac(at) if at >> 120 == 0xff else mac_address(MAC)
    return datagram6((mac, to), (src or link_local(mac), at), (port, 547), data)


def asked(kind: int, *options: tuple[int, bytes], mac: int = CLIENT, **more: Any) -> bytes:
    """A client's frame."""
    given = {name: more.pop(name) for name in ("duid", "to") if name in more}
    return framed(message(kind, *options, mac=mac, **given), mac=mac, **more)


def relayed(data: bytes, link: str, peer: int, *options: tuple[int, bytes], hops: int = 0) -> bytes:
    """What a relay agent makes of a message."""
    head = wire.Dhcp6Relayed(type=D.RELAY_FORWARD, hops=hops, link=ipv6_address(link), peer=peer)
    return bytes(head) + wire.encode([*options, (R.RELAYED, data)])


class Reply:
    """A frame of the server, taken apart; its checksum is looked at."""

    def __init__(self, frame: bytes) -> None:
        self.eth, self.ip, self.udp = Ethernet.decode(frame), IPv6.decode(frame[14:]), Udp.decode(frame[54:])
        assert self.eth.src == mac_address(MAC) and self.eth.type == 0x86dd
        assert self.udp.length == self.ip.length == len(frame) - 54 and self.udp.src == 547
        pseudo = frame[22:54] + self.udp.length.to_bytes(4, "big") + b"\0\0\0\x11"
        assert of_data(pseudo + frame[54:]) in (0xffff, 0) and self.udp.checksum
        self.wrappings: list[tuple[wire.Dhcp6Relayed, Options]] = []
        said = frame[62:]
        while said[0] == D.RELAY_REPLY:
            options = wire.decode(said[34:])
            self.wrappings.append((wire.Dhcp6Relayed.decode(said), options))
            inner = wire.first(options, R.RELAYED)
            assert inner is not None
            said = inner
        self.kind, self.id = said[0], int.from_bytes(said[1:4], "big")
        self.options = wire.decode(said[4:])
        self.associations = wire.associations(self.options)
        assert self.id == ID and self.option(R.SERVER) == SERVER_DUID

    def option(self, code: int) -> bytes | None:
        return wire.first(self.options, code)

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.options]

    @property
    def status(self) -> int | None:
        """Of the whole."""
        found = self.option(R.STATUS)
        return None if found is None else int.from_bytes(found[:2], "big")

    @property
    def statuses(self) -> list[int | None]:
        """Of each association."""
        return [None if one.status is None else int.from_bytes(one.status[1][:2], "big") for one in self.associations]

    @property
    def lent(self) -> list[str]:
        """What is given, prefixes with their length."""
        return [ipv6_text(one.address) + ("" if one.length == 128 else f"/{one.length}")
                for association in self.associations for one in association.lent if one.valid]

    @property
    def gone(self) -> list[str]:
        """What is not to be used any more."""
        return [ipv6_text(one.address) for association in self.associations for one in association.lent
                if not one.valid]


def tell(dhcp: Dhcp6, frame: bytes) -> Reply | None:
    """Give a frame to the function as a network would; what comes back."""
    packet = Packet(frame, 0)
    verdict = dhcp.run(packet)
    if verdict == forward(0):                                        # it had the answer ready
        return Reply(bytes(packet))
    if verdict.event is None:
        return None
    dhcp.heard(verdict.event, Packet(frame, 0))      # type: ignore[arg-type]
    assert len(dhcp.outbox) <= 1
    return Reply(dhcp.outbox.pop()[1]) if dhcp.outbox else None


def must(dhcp: Dhcp6, frame: bytes) -> Reply:
    found = tell(dhcp, frame)
    assert found is not None
    return found


def lease(dhcp: Dhcp6, mac: int = CLIENT, *options: tuple[int, bytes], **more: Any) -> list[str]:
    """The whole exchange; what is given."""
    wanted = options or (na(),)
    offer = must(dhcp, asked(D.SOLICIT, *wanted, mac=mac, **more))
    offered = [one.option() for one in offer.associations if one.lent]
    reply = must(dhcp, asked(D.REQUEST, *offered, mac=mac, **more))
    assert (offer.kind, reply.kind, reply.lent) == (D.ADVERTISE, D.REPLY, offer.lent)
    return reply.lent
