"""A relay between clients and a server, both in CPython: every message, and what the relay makes of it."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.dhcp import Dhcp
from iovisor.functions.dhcp_relay import DhcpRelay, Reason, added, removed
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, ipv4_address, mac_address
from iovisor.testing import agree
from iovisor.testing.packets import arp, ethernet, icmp, ipv4
from iovisor.wire.dhcp import Bootp, DhcpOption, DhcpType, decode
from tests.functions.test_dhcp import CLIENT, FAR, OTHER, SUBNET, Reply, asked, ip

D, R = DhcpType, DhcpOption
OWN, OWN_MAC, GATEWAY, GATEWAY_MAC = "10.9.0.2", "02:00:00:00:09:02", "10.9.0.1", "02:00:00:00:09:01"
SERVER, SERVER_MAC = "10.0.0.1", "02:00:00:00:00:d1"


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


def relay(**values: Any) -> DhcpRelay:
    made = DhcpRelay(**{"address": OWN, "mac": OWN_MAC, "servers": [SERVER], "gateway": GATEWAY, "circuit": "floor 7",
                        **values})
    made.configure(None, made.config)
    return made


def through(function: Any, frame: bytes) -> list[bytes]:
    """What a function sends when it gets a frame."""
    packet = Packet(frame, 0)
    verdict = function.run(packet)
    if verdict.event is not None:
        getattr(function, type(function).spec().handlers[type(verdict.event)])(verdict.event, Packet(frame, 0))
    elif bytes(packet) != frame:
        return [bytes(packet)]
    sent = [frame for _, frame in function.outbox]
    function.outbox.clear()
    return sent


def resolution(address: str = GATEWAY, mac: str = GATEWAY_MAC) -> bytes:
    return bytes(ethernet(dst=OWN_MAC, src=mac)
                 / arp(operation=2, sender_mac=mac, sender_ip=address, target_mac=OWN_MAC, target_ip=OWN))


def knowing(**values: Any) -> DhcpRelay:
    """A relay that knows where its gateway is."""
    made = relay(**values)
    through(made, resolution())
    return made


class Asked:
    """A relayed frame, taken apart."""

    def __init__(self, frame: bytes) -> None:
        self.head, self.options = Bootp.decode(frame[42:42 + Bootp.size]), decode(frame[42:])


def test_a_client_gets_a_lease_from_a_server_far_away() -> None:
    agent, server = relay(), Dhcp(server=SERVER, mac=SERVER_MAC, subnets=[SUBNET, FAR])
    question, = through(agent, asked(D.DISCOVER, {R.WISHES: bytes([1, 3])}))
    assert question[:6] == b"\xff" * 6 and question[12:14] == b"\x08\x06"           # where is the gateway?
    to_server, = through(agent, resolution())
    said = Asked(to_server)
    assert (said.head.relay, said.head.hops, said.head.address) == (ipv4_address(OWN), 1, CLIENT)
    assert said.options[R.RELAY] == b"\1\7floor 7"
    assert to_server[:6] == mac_address(GATEWAY_MAC).to_bytes(6, "big")
    at_server = mac_address(SERVER_MAC).to_bytes(6, "big") + mac_address(GATEWAY_MAC).to_bytes(6, "big")
    offer, = through(server, at_server + to_server[12:])
    assert Asked(offer).options[R.RELAY] == b"\1\7floor 7"
    to_client, = through(agent, mac_address(OWN_MAC).to_bytes(6, "big") + offer[6:])
    reply = Reply(to_client)
    assert reply.kind == D.OFFER and reply.yours.startswith("10.9.1.") and R.RELAY not in reply.options
    assert (reply.eth.dst, reply.udp.dst, reply.ip.src) == (CLIENT, 68, ipv4_address(OWN))
    assert {index: count.packets for index, count in agent.relayed.items()} == {D.DISCOVER: 1, 16 + D.OFFER: 1}


def test_who_asked_for_a_broadcast_gets_one() -> None:
    agent, server = knowing(), Dhcp(server=SERVER, mac=SERVER_MAC, subnets=[SUBNET, FAR])
    to_server, = through(agent, asked(D.DISCOVER, broadcast=1))
    offer, = through(server, mac_address(SERVER_MAC).to_bytes(6, "big") + to_server[6:])
    reply = Reply(through(agent, mac_address(OWN_MAC).to_bytes(6, "big") + offer[6:])[0])
    assert (reply.eth.dst, reply.ip.dst) == (0xffff_ffff_ffff, 0xffff_ffff)


def test_every_server_is_asked() -> None:
    agent = knowing(servers=[SERVER, "10.0.0.2"])
    assert [frame[30:34] for frame in through(agent, asked(D.DISCOVER))] == [ip(SERVER), ip("10.0.0.2")]


def test_a_message_of_another_relay_keeps_its_name() -> None:
    frame, = through(knowing(), asked(D.DISCOVER, {R.RELAY: b"\1\1x"}, relay=ipv4_address("10.8.0.2"), hops=2))
    said = Asked(frame)
    assert (said.head.relay, said.head.hops, said.options[R.RELAY]) == (ipv4_address("10.8.0.2"), 3, b"\1\1x")


@pytest.mark.parametrize(("options", "fields"), [
    ({R.RELAY: b"\1\1x"}, {}), ({}, {"relay": ipv4_address(OWN)}), ({}, {"hops": 4})])
def test_what_is_not_believed(options: dict[int, bytes], fields: dict[str, int]) -> None:
    assert through(knowing(), asked(D.DISCOVER, options, **fields)) == []   # type: ignore[arg-type]


def test_sixteen_messages_wait_for_a_next_hop() -> None:
    agent = relay()
    for number in range(20):
        assert len(through(agent, asked(D.DISCOVER, chaddr=OTHER + number, sender=OTHER + number))) == 1
    assert [Asked(frame).head.address for frame in through(agent, resolution())] == [OTHER + n for n in range(4, 20)]
    assert agent.relayed[0].packets == 4


def test_a_next_hop_that_moves_is_found() -> None:
    agent = knowing()
    Clock.advance(30 * SECOND)
    agent.look()
    (_, probe), = agent.outbox
    assert probe[:6] == mac_address(GATEWAY_MAC).to_bytes(6, "big")
    agent.outbox.clear()
    through(agent, resolution(mac="02:00:00:00:09:77"))
    assert through(agent, asked(D.DISCOVER))[0][:6] == mac_address("02:00:00:00:09:77").to_bytes(6, "big")
    through(agent, resolution(address="10.9.0.66", mac="02:00:00:00:09:66"))
    assert len(dict(agent.hops.items())) == 1


def test_options_stand_as_they_stood() -> None:
    message = asked(D.DISCOVER, {R.WISHES: bytes(range(1, 40)), R.HOST_NAME: b"x" * 30})[42:]
    more = added(message, b"here")
    assert decode(more) == {**decode(message), R.RELAY: b"\1\4here"} and decode(removed(more)) == decode(message)
    assert added(message + bytes(300), b"here") == more and added(message, b"") == message
    long = asked(D.DISCOVER, {R.HOST_NAME: b"x" * 255})[42:]
    assert added(long, b"y" * 100) == long


def test_arp_ping_and_everything_else() -> None:
    agent = relay()
    request = bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=GATEWAY_MAC) / arp(sender_mac=GATEWAY_MAC, sender_ip=GATEWAY,
                                                                           target_ip=OWN))
    assert through(agent, request)[0][28:32] == ip(OWN)
    ping = bytes(ethernet(dst=OWN_MAC, src=GATEWAY_MAC) / ipv4(src=GATEWAY, dst=OWN) / icmp() / b"hello")
    assert through(agent, ping)[0][34] == 0
    for frame in (ping[:6] + ping[6:].replace(b"\x08\x00\x45", b"\x86\xdd\x45", 1),
                  bytes(ethernet(dst=OWN_MAC, src=GATEWAY_MAC) / ipv4(src=GATEWAY, dst="10.9.0.3") / icmp())):
        assert agent.run(Packet(frame, 0)) == drop(Reason.NOT_DHCP)


def test_all_targets_sort_alike() -> None:
    frames = [asked(kind, src=source, dst=to, tail=bytes(tail)) for kind in (D.DISCOVER, D.ACK) for tail in (0, 9)
              for source, to in (("0.0.0.0", "255.255.255.255"), (SERVER, OWN), (SERVER, "10.9.0.3"))]
    ping = bytes(ethernet(dst=OWN_MAC, src=GATEWAY_MAC) / ipv4(src=GATEWAY, dst=OWN) / icmp() / b"hello")
    frames += [resolution(), resolution()[:-1], ping, *(frame[:size] for frame in frames for size in (30, 60, 200))]
    assert agree(relay, [(frame, 0) for frame in frames]) == len(frames)


@pytest.mark.parametrize(("path", "values"), [
    ("servers", {"servers": []}), ("servers[1]", {"servers": [SERVER, SERVER]}), ("servers[0]", {"servers": [OWN]}),
    ("circuit", {"circuit": "x" * 101}), ("most_hops", {"most_hops": 17})])
def test_a_configuration_that_cannot_be(path: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as found:
        relay(**values)
    assert found.value.path == path
