"""A relay agent between clients and a DHCPv6 server, both in CPython: every message, and what the agent makes of it."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.functions.dhcp6_relay import Dhcp6Relay
from iovisor.language import SECOND, Clock, ConfigError, Packet, ipv6_address, mac_address
from iovisor.parts.asking import advertisement_to
from iovisor.testing import agree
from iovisor.wire import dhcp6 as wire
from iovisor.wire.datagram import datagram6
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv6 import IPv6, link_local
from iovisor.wire.udp import Udp
from tests.functions.dhcp6 import CLIENT, OTHER, SERVER, D, R, Reply, asked, message, na, relayed, server, wish
from tests.functions.dhcp6 import MAC as SERVER_MAC
from tests.functions.test_dhcp6_frames import pings, solicitations

OWN, OWN_MAC, GATEWAY, GATEWAY_MAC = "2001:db8:9::2", "02:00:00:00:09:02", "2001:db8:9::1", "02:00:00:00:09:01"
OWN_LINK = link_local(mac_address(OWN_MAC))


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


def relay(**values: Any) -> Dhcp6Relay:
    return Dhcp6Relay(**{"address": OWN, "mac": OWN_MAC, "servers": [SERVER], "gateway": GATEWAY,
                         "interface": "floor 7", **values})


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


def located(address: str | int = GATEWAY, mac: str = GATEWAY_MAC) -> bytes:
    """Somebody's answer to our question where it is."""
    at = address if isinstance(address, int) else ipv6_address(address)
    return advertisement_to(mac_address(mac), at, ipv6_address(OWN), mac_address(OWN_MAC))


def knowing(**values: Any) -> Dhcp6Relay:
    """An agent that knows where its gateway is."""
    made = relay(**values)
    through(made, asked(D.CONFIRM))
    through(made, located())
    return made


def at(mac: str, frame: bytes, src: str = GATEWAY_MAC) -> bytes:
    """A frame that a router brings to somebody."""
    return mac_address(mac).to_bytes(6, "big") + mac_address(src).to_bytes(6, "big") + frame[12:]


def said_by_server(data: bytes, src: str = SERVER) -> bytes:
    return datagram6((mac_address(GATEWAY_MAC), mac_address(OWN_MAC)), (ipv6_address(src), ipv6_address(OWN)),
                     (547, 547), data)


def reply_for(peer: int, said: bytes) -> bytes:
    head = wire.Dhcp6Relayed(type=D.RELAY_REPLY, link=ipv6_address(OWN), peer=peer)
    return bytes(head) + wire.encode([(R.INTERFACE, b"floor 7"), (R.RELAYED, said)])


class Wrapped:
    """What goes to a server, taken apart."""

    def __init__(self, frame: bytes) -> None:
        self.ip, self.udp = IPv6.decode(frame[14:]), Udp.decode(frame[54:])
        self.head, self.options = wire.Dhcp6Relayed.decode(frame[62:]), wire.decode(frame[96:])


def test_a_client_gets_a_lease_from_a_server_far_away() -> None:
    agent, far = relay(), server()
    question, = through(agent, asked(D.SOLICIT, na(), wish(R.NAME_SERVERS)))
    assert question[:6] == bytes.fromhex("3333ff000001") and question[54] == 135        # where is the gateway?
    to_server, = through(agent, located())
    found = Wrapped(to_server)
    assert (found.ip.src, found.ip.dst, found.udp.src, found.udp.dst) == (
        ipv6_address(OWN), ipv6_address(SERVER), 547, 547)
    assert (found.head.type, found.head.hops, found.head.link, found.head.peer) == (
        D.RELAY_FORWARD, 0, ipv6_address(OWN), link_local(CLIENT))
    assert found.options == [(R.INTERFACE, b"floor 7"), (R.HARDWARE, b"\0\1" + CLIENT.to_bytes(6, "big")),
                             (R.RELAYED, asked(D.SOLICIT, na(), wish(R.NAME_SERVERS))[62:])]
    offer, = through(far, at(SERVER_MAC, to_server))
    to_client, = through(agent, at(OWN_MAC, offer))
    assert Ethernet.decode(to_client).src == mac_address(OWN_MAC)
    ip, udp = IPv6.decode(to_client[14:]), Udp.decode(to_client[54:])
    assert (Ethernet.decode(to_client).dst, ip.src, ip.dst, udp.dst) == (CLIENT, OWN_LINK, link_local(CLIENT), 546)
    assert to_client[62] == D.ADVERTISE
    reply = Reply(at("00:00:00:00:00:00", to_client, SERVER_MAC))
    assert reply.lent[0].startswith("2001:db8:9::") and not reply.wrappings
    assert {index: count.packets for index, count in agent.relayed.items()} == {D.SOLICIT: 1, 16 + D.ADVERTISE: 1}


def test_two_agents_in_a_row() -> None:
    first, second, far = relay(servers=["2001:db8:9::77"], gateway="::"), relay(
        address="2001:db8:9::77", mac="02:00:00:00:09:77", interface="roof"), server()
    through(first, asked(D.SOLICIT, na()))
    between, = through(first, located("2001:db8:9::77", "02:00:00:00:09:77"))
    through(second, between)
    found = advertisement_to(mac_address(GATEWAY_MAC), ipv6_address(GATEWAY), ipv6_address("2001:db8:9::77"),
                             mac_address("02:00:00:00:09:77"))
    to_server, = through(second, found)
    head = Wrapped(to_server).head
    assert (head.hops, head.link, head.peer) == (1, 0, ipv6_address(OWN))      # it names its link by itself
    offer, = through(far, at(SERVER_MAC, to_server))
    question, = through(second, at("02:00:00:00:09:77", offer))
    assert question[54] == 135                                                  # where is the first?
    back, = through(second, advertisement_to(mac_address(OWN_MAC), ipv6_address(OWN), ipv6_address("2001:db8:9::77"),
                                             mac_address("02:00:00:00:09:77")))
    assert Udp.decode(back[54:]).dst == 547
    to_client, = through(first, back)
    assert Ethernet.decode(to_client).dst == CLIENT and to_client[62] == D.ADVERTISE


def test_an_agent_without_an_address_has_its_link_named() -> None:
    frame = datagram6((OTHER, 0x3333_0001_0002), (link_local(OTHER), ipv6_address("ff02::1:2")), (547, 547),
                      relayed(message(D.SOLICIT), "::", link_local(CLIENT)))
    found = Wrapped(through(knowing(), frame)[0])
    assert (found.head.hops, found.head.link, found.head.peer) == (1, ipv6_address(OWN), link_local(OTHER))
    assert wire.first(found.options, R.HARDWARE) is None                        # that would be the agent's


def test_every_server_is_asked() -> None:
    agent = knowing(servers=[SERVER, "2001:db8:1::3"], interface="", hardware=False)
    frames = through(agent, asked(D.SOLICIT, na()))
    assert [IPv6.decode(frame[14:]).dst for frame in frames] == [ipv6_address(SERVER), ipv6_address("2001:db8:1::3")]
    assert [code for code, _ in Wrapped(frames[0]).options] == [R.RELAYED]


@pytest.mark.parametrize("said", [
    message(D.ADVERTISE), message(D.REPLY), message(D.RECONFIGURE), message(0), message(77),
    relayed(message(D.SOLICIT), "::", 1, hops=8), relayed(message(D.SOLICIT), "::", 1)[:30],
    reply_for(link_local(CLIENT), message(D.REPLY)), message(D.SOLICIT, (77, bytes(1400)))])
def test_what_is_not_for_servers(said: bytes) -> None:
    frame = datagram6((CLIENT, 0x3333_0001_0002), (link_local(CLIENT), ipv6_address("ff02::1:2")), (546, 547), said)
    assert through(knowing(), frame) == []


def test_fewer_agents_may_be_allowed() -> None:
    agent = knowing(most_hops=1)
    for hops, count in ((0, 1), (1, 0)):
        said = relayed(message(D.SOLICIT), "::", 1, hops=hops)
        frame = datagram6((OTHER, 0x3333_0001_0002), (link_local(OTHER), ipv6_address("ff02::1:2")), (547, 547), said)
        assert len(through(agent, frame)) == count


def test_only_servers_are_believed() -> None:
    agent = knowing()
    through(agent, asked(D.SOLICIT, na()))
    good = reply_for(link_local(CLIENT), message(D.REPLY))
    assert len(through(agent, said_by_server(good))) == 1
    for frame in (said_by_server(good, "2001:db8:1::66"), said_by_server(good[:33]), said_by_server(good[:-1]),
                  said_by_server(reply_for(link_local(CLIENT), message(D.SOLICIT))),
                  said_by_server(reply_for(link_local(CLIENT), b""))):
        assert through(agent, frame) == []


def test_sixteen_messages_wait_for_a_next_hop() -> None:
    agent = relay()
    for number in range(20):
        assert len(through(agent, asked(D.SOLICIT, mac=OTHER + number))) == 1
    peers = [Wrapped(frame).head.peer for frame in through(agent, located())]
    assert peers == [link_local(OTHER + n) for n in range(4, 20)]
    assert agent.relayed[0].packets == 4


def test_a_next_hop_that_moves_is_found_and_a_client_cannot_be_it() -> None:
    agent = knowing()
    Clock.advance(30 * SECOND)
    agent.look()
    (_, probe), = agent.outbox
    assert probe[:6] == mac_address(GATEWAY_MAC).to_bytes(6, "big")
    agent.outbox.clear()
    through(agent, located(mac="02:00:00:00:09:77"))
    assert through(agent, asked(D.SOLICIT))[0][:6] == mac_address("02:00:00:00:09:77").to_bytes(6, "big")
    through(agent, asked(D.SOLICIT, src=ipv6_address(GATEWAY)))                 # its frame is no answer to a question
    through(agent, located("2001:db8:9::66", "02:00:00:00:09:66"))
    assert dict(agent.hops.items()) == {ipv6_address(GATEWAY): mac_address("02:00:00:00:09:77")}
    link_gateway = relay(gateway=link_local(CLIENT))
    through(link_gateway, asked(D.SOLICIT))
    assert len(dict(link_gateway.hops.items())) == 0


@pytest.mark.parametrize("spoil", [
    lambda frame: frame[:56] + b"\0\0" + frame[58:], lambda frame: frame[:21] + b"\x40" + frame[22:],
    lambda frame: frame[:19] + b"\x10" + frame[20:]])
def test_an_advertisement_that_is_none(spoil: Any) -> None:
    agent = relay()
    through(agent, asked(D.SOLICIT))
    assert through(agent, spoil(located())) == [] and len(dict(agent.hops.items())) == 0


@given(st.binary(max_size=60), st.integers(0, 200))
def test_whatever_comes(noise: bytes, at: int) -> None:
    agent = knowing()
    for frame in (asked(D.SOLICIT, na()), said_by_server(reply_for(link_local(CLIENT), message(D.REPLY))), located()):
        spoiled = frame[:at] + noise + frame[at + len(noise):]
        for made in through(agent, spoiled):
            assert len(made) <= 1514


def test_all_machines_sort_alike() -> None:
    frames = [asked(kind, na(), dst=to) for kind in (D.SOLICIT, D.REPLY)
              for to in ("ff02::1:2", "ff05::1:3", "ff02::1", "2001:db8:9::3")]
    frames += [said_by_server(reply_for(1, message(D.REPLY))), located(), located("2001:db8:9::66"), located()[:-9]]
    frames += [frame[:size] for frame in (frames[0], frames[-2]) for size in range(14, len(frames[0]), 5)]
    frames += solicitations(OWN_MAC, ipv6_address(OWN), OWN_LINK, ipv6_address("2001:db8:9::3"))
    frames += pings(OWN_MAC, ipv6_address(OWN), OWN_LINK)
    whole = located()
    frames += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:] for at in range(len(whole))]
    assert agree(relay, [(frame, 0) for frame in frames]) == len(frames)


@pytest.mark.parametrize(("path", "values"), [
    ("address", {"address": "fe80::1"}), ("servers", {"servers": []}), ("servers[1]", {"servers": [SERVER, SERVER]}),
    ("servers[0]", {"servers": [OWN]}), ("interface", {"interface": "x" * 101}), ("most_hops", {"most_hops": 9})])
def test_a_configuration_that_cannot_be(path: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as found:
        relay(**values)
    assert found.value.path == path
