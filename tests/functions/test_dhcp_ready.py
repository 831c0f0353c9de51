"""Replies that lie ready: on every machine, the data path says what Python said before, and only while it holds."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.dhcp import Asked, Dhcp
from iovisor.language import SECOND, Clock, Packet, forward
from iovisor.targets import load
from iovisor.testing import available
from iovisor.wire.dhcp import DhcpOption, DhcpType
from tests.functions.test_dhcp import MAC, OTHER, SERVER, SUBNET, Reply, asked, ip

D, R = DhcpType, DhcpOption
LAN = 0
WISHES: dict[int, bytes] = {R.WISHES: bytes([1, 3, 6, 15, 26, 121])}
MINE = "10.0.0.100"
CHOSEN: dict[int, bytes] = {R.SERVER: ip(SERVER), R.REQUESTED: ip(MINE), **WISHES}


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


class Scene:
    """A server on one machine."""

    def __init__(self, function: Dhcp, machine: Any) -> None:
        self.function, self.machine = function, machine

    def at_once(self, frame: bytes) -> Reply | None:
        """The reply of the data path; None if it left the frame to Python, unchanged."""
        packet = Packet(frame, LAN)
        verdict = self.machine.run(packet)
        if verdict == forward(LAN):
            return Reply(bytes(packet))
        assert (verdict.event, bytes(packet)) == (Asked(length=len(frame) - 42), frame)
        return None

    def python(self, frame: bytes) -> Reply:
        self.function.heard(Asked(length=len(frame) - 42), Packet(frame, LAN))
        (_, reply), = self.function.outbox
        self.function.outbox.clear()
        return Reply(reply)

    def learns(self, frame: bytes) -> Reply:
        """New to the data path, then known to it: both replies are the same."""
        assert self.at_once(frame) is None
        said = self.python(frame)
        again = self.at_once(frame)
        assert again is not None
        assert (again.eth, again.head, again.options) == (said.eth, said.head, said.options)
        assert (again.ip.src, again.ip.dst, again.udp.src, again.udp.dst) == (
            said.ip.src, said.ip.dst, said.udp.src, said.udp.dst)
        return again


def reconfigured(function: Dhcp, **values: Any) -> None:
    old = function.config
    function.config = Dhcp(**{"server": SERVER, "mac": MAC, "subnets": [SUBNET], **values}).config
    function.configure(old, function.config)


@pytest.fixture(params=["python", "native", "tc", "xdp"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param not in available():
        pytest.skip(f"{request.param} cannot be used here")
    function = Dhcp(server=SERVER, mac=MAC, subnets=[SUBNET])
    with load(function, request.param) as machine:
        yield Scene(function, machine)


def test_what_python_said_is_said_again(scene: Scene) -> None:
    assert scene.learns(asked(D.DISCOVER, WISHES)).kind == D.OFFER
    assert scene.learns(asked(D.REQUEST, CHOSEN)).kind == D.ACK
    renewal = asked(D.REQUEST, WISHES, src=MINE, dst=SERVER, client=int.from_bytes(ip(MINE), "big"))
    assert scene.learns(renewal).ip.dst == int.from_bytes(ip(MINE), "big")
    assert scene.learns(asked(D.DISCOVER, {**WISHES, R.RELAY: b"\1\3abc"}, relay=0x0a00_00fe, hops=1, sender=OTHER,
                              src="10.0.0.254", dst=SERVER)).udp.dst == 67
    everybody = scene.at_once(asked(D.DISCOVER, WISHES, broadcast=1))
    assert everybody is not None and (everybody.eth.dst, everybody.ip.dst) == (0xffff_ffff_ffff, 0xffff_ffff)


def test_the_transaction_and_the_seconds_are_the_clients(scene: Scene) -> None:
    scene.learns(asked(D.DISCOVER, WISHES))
    again = scene.at_once(asked(D.DISCOVER, WISHES, seconds=9))
    assert again is not None and again.head.seconds == 0


@pytest.mark.parametrize("tail", range(8))
def test_every_byte_of_the_options_counts(scene: Scene, tail: int) -> None:
    whole = asked(D.DISCOVER, WISHES, tail=bytes(range(1, tail + 1)))
    scene.learns(whole)
    for place in range(42 + 240, len(whole)):
        other = bytearray(whole)
        other[place] ^= 0x40
        assert scene.at_once(bytes(other)) is None, place
    assert scene.at_once(asked(D.DISCOVER, WISHES, tail=bytes(range(1, tail + 2)))) is None
    assert scene.at_once(whole) is not None


@pytest.mark.parametrize("other", [
    {"chaddr": OTHER, "sender": OTHER}, {"sender": OTHER}, {"hops": 17}, {"relay": 0x0a00_00fe},
    {"client": 0x0a00_0064}, {"hardware": 6}, {"hardware_length": 5}, {"operation": 2}])
def test_who_asks_and_through_whom_counts(scene: Scene, other: dict[str, Any]) -> None:
    scene.learns(asked(D.DISCOVER, WISHES))
    assert scene.at_once(asked(D.DISCOVER, WISHES, **other)) is None


def test_a_name_in_the_message_is_pythons_to_read(scene: Scene) -> None:
    frame = asked(D.DISCOVER, WISHES)
    scene.learns(frame)
    named = bytearray(frame)
    named[42 + 44] = 1
    assert scene.at_once(bytes(named)) is None


def test_a_lease_that_ended_is_not_confirmed(scene: Scene) -> None:
    scene.learns(asked(D.DISCOVER, WISHES))
    request = asked(D.REQUEST, CHOSEN)
    scene.learns(request)
    scene.function.release(MINE)
    assert scene.at_once(request) is None and scene.at_once(asked(D.DISCOVER, WISHES)) is None


def test_a_lease_begins_anew_and_ends_in_its_time(scene: Scene) -> None:
    scene.learns(asked(D.DISCOVER, WISHES))
    request = asked(D.REQUEST, CHOSEN)
    scene.learns(request)
    for _ in range(3):
        Clock.advance(3599 * SECOND)
        assert scene.at_once(request) is not None
        (lease,) = scene.function.show()
        assert (lease["state"], lease["seconds"]) == ("bound", 3600)
    Clock.advance(3601 * SECOND)
    assert scene.at_once(request) is None


def test_an_offer_stands_a_minute_from_when_it_was_made_last(scene: Scene) -> None:
    discover = asked(D.DISCOVER, WISHES)
    scene.learns(discover)
    Clock.advance(59 * SECOND)
    assert scene.at_once(discover) is not None
    Clock.advance(59 * SECOND)
    assert scene.at_once(discover) is not None
    Clock.advance(61 * SECOND)
    assert scene.at_once(discover) is None


def test_another_configuration_is_another_answer(scene: Scene) -> None:
    discover = asked(D.DISCOVER, WISHES)
    scene.learns(discover)
    reconfigured(scene.function, lease="2h")
    assert scene.at_once(discover) is None


def test_long_replies_stay_pythons(scene: Scene) -> None:
    routes = [{"to": f"10.{n}.0.0/16", "via": "10.0.0.253"} for n in range(40)]
    reconfigured(scene.function, subnets=[{**SUBNET, "routes": routes}])
    discover = asked(D.DISCOVER, WISHES)
    assert len(scene.python(discover).options[R.ROUTES]) > 160
    assert scene.at_once(discover) is None


def test_messages_are_counted(scene: Scene) -> None:
    scene.learns(asked(D.DISCOVER, WISHES))
    scene.learns(asked(D.REQUEST, CHOSEN))
    for counter, first in ((scene.function.asked, D.DISCOVER), (scene.function.told, D.OFFER)):
        counts = {index: count.packets for index, count in counter.items()}
        second = {D.DISCOVER: D.REQUEST, D.OFFER: D.ACK}[first]
        assert counts == {first: 1, second: 1, 16 + first: 1, 16 + second: 1}
