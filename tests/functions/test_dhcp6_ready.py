"""Replies that lie ready: on every machine, the data path says what Python said before, and only while it holds."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.dhcp6 import Asked, Dhcp6
from iovisor.language import SECOND, Clock, Packet, forward, ipv6_address
from iovisor.targets import load
from iovisor.testing import available
from tests.functions.dhcp6 import (
    CLIENT,
    MAC,
    OTHER,
    SERVER,
    SUBNET,
    D,
    R,
    Reply,
    asked,
    framed,
    message,
    na,
    pd,
    relayed,
    server,
    wish,
)

LAN = 0
WISHES = wish(R.NAME_SERVERS, R.SEARCH)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


class Scene:
    """A server on one machine."""

    def __init__(self, function: Dhcp6, machine: Any) -> None:
        self.function, self.machine = function, machine

    def at_once(self, frame: bytes) -> Reply | None:
        """The reply of the data path; None if it left the frame to Python, unchanged."""
        packet = Packet(frame, LAN)
        verdict = self.machine.run(packet)
        if verdict == forward(LAN):
            return Reply(bytes(packet))
        assert (verdict.event, bytes(packet)) == (Asked(length=len(frame) - 62), frame)
        return None

    def python(self, frame: bytes) -> Reply:
        self.function.heard(Asked(length=len(frame) - 62), Packet(frame, LAN))
        (_, reply), = self.function.outbox
        self.function.outbox.clear()
        return Reply(reply)

    def learns(self, frame: bytes) -> Reply:
        """New to the data path, then known to it: both replies are the same."""
        assert self.at_once(frame) is None
        said = self.python(frame)
        again = self.at_once(frame)
        assert again is not None
        assert (again.eth, again.ip, again.udp, again.kind, again.options) == (
            said.eth, said.ip, said.udp, said.kind, said.options)
        return again

    def leaves(self, frame: bytes) -> None:
        """What is Python's each time."""
        for _ in range(2):
            assert self.at_once(frame) is None
            self.python(frame)


@pytest.fixture(params=["python", "native", "tc", "xdp"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param not in available():
        pytest.skip(f"{request.param} cannot be used here")
    function = server(subnets=[SUBNET])
    with load(function, request.param) as machine:
        yield Scene(function, machine)


def test_what_python_said_is_said_again(scene: Scene) -> None:
    offer = scene.learns(asked(D.SOLICIT, na(), WISHES))
    (address,) = offer.lent
    assert offer.kind == D.ADVERTISE
    request = scene.learns(asked(D.REQUEST, offer.associations[0].option(), WISHES))
    assert (request.kind, request.lent) == (D.REPLY, [address])
    for kind in (D.RENEW, D.REBIND):
        assert scene.learns(asked(kind, na(1, address))).lent == [address]
    news = scene.learns(asked(D.INFORMATION_REQUEST, wish(R.NAME_SERVERS, R.REFRESH)))
    assert news.option(R.REFRESH) == (7200).to_bytes(4, "big") and not news.lent


@pytest.mark.parametrize("tail", range(8))
def test_lengths_and_checksums_are_exact(scene: Scene, tail: int) -> None:
    """Replies of every length modulo 8: the identifier comes back; and every byte of a question counts."""
    whole = asked(D.SOLICIT, na(), WISHES, duid=b"\0\4" + bytes(range(1, 12 + tail)))
    scene.learns(whole)
    for place in range(66, len(whole)):
        other = bytearray(whole)
        other[place] ^= 0x40
        packet = Packet(bytes(other), LAN)
        assert scene.machine.run(packet) != forward(LAN), place


def test_the_transaction_is_the_clients(scene: Scene) -> None:
    whole = asked(D.SOLICIT, na())
    scene.learns(whole)
    packet = Packet(whole[:63] + b"\1\2\3" + whole[66:], LAN)
    assert scene.machine.run(packet) == forward(LAN) and bytes(packet)[62:66] == b"\x02\1\2\3"


def test_who_asks_and_where_counts(scene: Scene) -> None:
    whole = asked(D.SOLICIT, na())
    scene.learns(whole)
    for frame in (asked(D.SOLICIT, na(), mac=OTHER, duid=whole[70:80]), asked(D.REBIND, na()),
                  asked(D.SOLICIT, na(), dst="ff05::1:3"), asked(D.SOLICIT, na(), dst=SERVER)):
        packet = Packet(frame, LAN)
        assert scene.machine.run(packet) != forward(LAN)


def test_a_client_may_speak_from_any_address_of_its_own(scene: Scene) -> None:
    scene.learns(asked(D.SOLICIT, na()))
    other = asked(D.SOLICIT, na(), src=0x20010db8 << 96 | 5)
    said = scene.at_once(other)
    assert said is not None and (said.ip, said.options) == (scene.python(other).ip, scene.python(other).options)
    assert (said.ip.src, said.ip.dst) == (ipv6_address(SERVER), 0x20010db8 << 96 | 5)


def test_what_is_pythons_each_time(scene: Scene) -> None:
    scene.leaves(asked(D.SOLICIT, na(1), na(2)))
    scene.leaves(asked(D.SOLICIT, pd()))                                    # there is none: tomorrow there may be
    scene.leaves(asked(D.CONFIRM, na(1, "2001:db8:1::100")))
    scene.leaves(asked(D.SOLICIT, (77, bytes(320)), na(1)))
    scene.leaves(framed(relayed(message(D.SOLICIT, na()), "::", 5), port=547))


def test_a_lease_that_ended_is_not_confirmed(scene: Scene) -> None:
    solicit = asked(D.SOLICIT, na())
    (address,) = scene.learns(solicit).lent
    request = asked(D.REQUEST, na(1, address))
    scene.learns(request)
    scene.python(asked(D.RELEASE, na(1, address)))
    assert scene.at_once(request) is None and scene.at_once(solicit) is None
    scene.python(request)
    assert scene.at_once(request) is not None
    scene.python(asked(D.DECLINE, na(1, address)))
    assert scene.at_once(request) is None


def test_a_lease_begins_anew_and_ends_in_its_time(scene: Scene) -> None:
    (address,) = scene.learns(asked(D.SOLICIT, na())).lent
    renewal = asked(D.REQUEST, na(1, address))
    scene.learns(renewal)
    for _ in range(3):
        Clock.advance(3599 * SECOND)
        assert scene.at_once(renewal) is not None
        (lease,) = scene.function.show()
        assert (lease["state"], lease["seconds"]) == ("bound", 3600)
    Clock.advance(3601 * SECOND)
    assert scene.at_once(renewal) is None


def test_an_offer_stands_a_minute_from_when_it_was_made_last(scene: Scene) -> None:
    solicit = asked(D.SOLICIT, na())
    scene.learns(solicit)
    for _ in range(2):
        Clock.advance(59 * SECOND)
        assert scene.at_once(solicit) is not None
    Clock.advance(61 * SECOND)
    assert scene.at_once(solicit) is None


def test_another_configuration_another_reply(scene: Scene) -> None:
    solicit, news = asked(D.SOLICIT, na()), asked(D.INFORMATION_REQUEST, WISHES)
    scene.learns(solicit)
    scene.learns(news)
    old = scene.function.config
    scene.function.config = server(subnets=[{**SUBNET, "dns": ["2001:db8:1::99"]}]).config
    scene.function.configure(old, scene.function.config)
    assert scene.at_once(solicit) is None and scene.at_once(news) is None
    assert scene.learns(news).option(R.NAME_SERVERS) == bytes.fromhex("20010db8000100000000000000000099")


def test_what_is_counted(scene: Scene) -> None:
    frame = asked(D.SOLICIT, na(), mac=CLIENT)
    scene.learns(frame)
    scene.at_once(frame)
    assert [scene.function.asked.read(16 + kind).packets for kind in (D.SOLICIT, D.REQUEST)] == [2, 0]
    assert [scene.function.told.read(16 + kind).packets for kind in (D.ADVERTISE, D.REPLY)] == [2, 0]
    assert scene.function.config.mac == int(MAC.replace(":", ""), 16)
