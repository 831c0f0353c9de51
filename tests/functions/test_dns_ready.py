"""Answers that lie ready: on every machine, the data path says what Python would say, byte for byte, or nothing."""
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.dns import AT_ONCE, Asked, Dns
from iovisor.language import Packet, forward, punt
from iovisor.targets import load
from iovisor.testing import available
from iovisor.testing.packets import Frame, ethernet, ipv4, ipv6, udp
from iovisor.wire.dns import Type
from tests.functions.test_dns import ASKER, CASES, CONFIG, FORWARDER, LINK, MALFORMED, opt, question

COOKIE = bytes.fromhex("000a0008") + bytes(range(8))
LONG, TOO_LONG = ".".join(["y" * 60, "zzz"]), ".".join(["y" * 60, "zzzz"])              # 80 bytes in all, and 81
MANY: dict[str, Any] = CONFIG | {"names": {
    **CONFIG["names"], LONG: ["10.0.0.9"], TOO_LONG: ["10.0.0.9"], "z.z.z.z": ["10.0.0.9"],
    "n8": [f"10.1.0.{n}" for n in range(8)], "n9": [f"10.1.0.{n}" for n in range(9)]}}


class Scene:
    """A name server on one machine."""

    def __init__(self, function: Dns, machine: Any) -> None:
        self.function, self.machine = function, machine

    def at_once(self, message: bytes, six: bool = False) -> bytes | None:
        """The answer of the data path, its frame looked at; None if it left the message to Python, unchanged."""
        asks: Frame = (LINK / ipv6(src="2001:db8::1", dst="2001:db8::53") if six else LINK / ipv4(
            src="10.0.0.1", dst="10.0.0.53")) / udp(src=4_000, dst=53) / message
        packet, start = Packet(bytes(asks), 0), 62 if six else 42
        verdict = self.machine.run(packet)
        if verdict != forward(0):
            assert verdict.event == Asked(length=len(message), start=start, six=six) and bytes(packet) == bytes(asks)
            return None
        reply = bytes(packet)[start:]
        back = ipv6(src="2001:db8::53", dst="2001:db8::1") if six else ipv4(src="10.0.0.53", dst="10.0.0.1", df=1)
        assert bytes(packet) == bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:53") / back
                                      / udp(src=53, dst=4_000) / reply)
        return reply


@pytest.fixture(params=["python", "native", "tc", "xdp"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param not in available():
        pytest.skip(f"{request.param} cannot be used here")
    function = Dns(**MANY)
    with load(function, request.param) as machine:
        yield Scene(function, machine)


@pytest.mark.parametrize("six", [False, True])
def test_what_python_would_say(scene: Scene, six: bool) -> None:
    """Names there are, in any spelling, by A, AAAA and PTR: at once; all else is left to Python."""
    known = 0
    asked = [(name, kind) for name, kind, *_ in CASES] + [
        (f"{name}.shop.internal", kind) for name in (LONG, TOO_LONG, "n8", "n9", "z.z.z.z")
        for kind in (Type.A, Type.AAAA)]
    for name, kind in asked:
        for spelt in (name, name.upper(), name.swapcase()):
            for edns in (b"", opt(), opt(512), opt()[:-2] + len(COOKIE).to_bytes(2, "big") + COOKIE):
                for flags in (0, 0x0100, 0x0130):
                    message = question(spelt, kind, flags, edns, number=0xbeef)
                    reply = scene.at_once(message, six)
                    assert reply is None or reply == scene.function.answer(message, ASKER), (name, kind)
                    known += reply is not None
    names = sum(name.endswith("internal") and not name.startswith("deep") and kind in (Type.A, Type.AAAA) and code == 0
                for name, kind, code, *_ in CASES)
    pointers = sum(kind == Type.PTR and code == 0 for _, kind, code, *_ in CASES)
    assert known == (names + pointers + 7) * 3 * 4 * 3, "two of each name but a longer one and a longer answer"
    assert scene.function.said.read(AT_ONCE).packets == known


def test_what_is_not_plain_is_pythons(scene: Scene) -> None:
    good, short = question("web.shop.internal"), question("web.shop.internal", edns=opt())
    assert scene.at_once(good) is not None and scene.at_once(short) is not None
    for message, _ in MALFORMED.values():
        assert scene.at_once(message) is None
    for message in (question("web.shop.internal", class_=3), question("web.shop.internal", flags=0x2000),
                    question("web.shop.internal", Type.ANY), question("web.shop.internal", edns=opt(version=1)),
                    short[:-1], short + b"\0", good[:-5] + b"\1" + good[-4:], question(""), question("a." * 30 + "b")):
        assert scene.at_once(message) is None


def test_no_spoiled_question_is_answered_otherwise(scene: Scene, nightly: bool) -> None:
    chance = random.Random(4)
    stock = [question(name, kind, edns=edns) for name, kind, *_ in CASES for edns in (b"", opt())]
    for _ in range(50_000 if nightly else 500):
        message = bytearray(chance.choice(stock))
        for _ in range(chance.randrange(3)):
            if message and chance.randrange(3):
                message[chance.randrange(len(message))] = chance.randrange(256)
            else:
                del message[chance.randrange(len(message) + 1):]
        reply = scene.at_once(bytes(message), bool(chance.randrange(2)))
        assert reply is None or reply == scene.function.answer(bytes(message), ASKER)


def test_another_configuration_is_another_answer(scene: Scene) -> None:
    def web() -> bytes | None:
        return scene.at_once(question("web.shop.internal"))
    before = web()
    scene.function.reconfigure(names={"web": ["192.0.2.7"]})
    after = web()
    assert before is not None and after is not None and before != after and after[-4:] == bytes([192, 0, 2, 7])
    assert scene.at_once(question("db.shop.internal")) is None
    scene.function.reconfigure(forwarder=FORWARDER["forwarder"])
    assert web() == scene.function.answer(question("web.shop.internal"), ASKER) != after
    scene.function.reconfigure(ttl="5m")
    assert web() == scene.function.answer(question("web.shop.internal"), ASKER)


def test_more_names_than_room() -> None:
    dns = Dns(**CONFIG | {"names": {f"n{n}": ["10.0.0.1"] for n in range(100)}}, ready=8)
    assert len(dns.answers.ready) == 8
    frame = LINK / ipv4(src="10.0.0.1", dst="10.0.0.53") / udp(src=4_000, dst=53) / question("n99.shop.internal")
    assert dns.run(Packet(bytes(frame))) == punt(Asked(length=len(question("n99.shop.internal")), start=42, six=0))
