"""The shaper: which queue packets are told to wait in, and which queues there are; the waiting is tested in the lab."""
from __future__ import annotations

from typing import Any

import pytest

from iovisor.functions.shaper import BRANCH, TRUNK, Reason, Shaper
from iovisor.language import ConfigError, Packet, drop, forward
from iovisor.testing import Agreement, Arrival, agree, available, traffic
from iovisor.testing.packets import Frame, Layer, arp, ethernet, ipv4, ipv6, tcp, udp

INSIDE, OUTSIDE = 0, 1
LINK = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
CONFIG: dict[str, Any] = {
    "rate": "50M", "flows": 8, "usual": "bulk",
    "classes": [{"name": "voice", "guarantee": "2M", "ceiling": "4M", "priority": 0},
                {"name": "bulk", "guarantee": "10M"}, {"name": "web", "guarantee": "20M"}],
    "rules": [{"dscp": "ef", "into": "voice"}, {"protocol": "tcp", "destination_ports": [80, 443], "into": "web"}]}
BULK, VOICE, WEB = 0, 8, 16                 # what is before the first queue of each


def v4(transport: Layer | Frame | bytes, **fields: Any) -> Frame:
    return LINK / ipv4(src="10.0.0.1", dst="10.0.0.2", **fields) / transport


def v6(transport: Layer | Frame | bytes, **fields: Any) -> Frame:
    return LINK / ipv6(src="2001:db8::1", dst="2001:db8::2", **fields) / transport


def queued(shaper: Shaper, frame: Frame, port: int = INSIDE) -> int:
    packet = Packet(bytes(frame), port)
    assert shaper.run(packet) == forward(1 - port)
    assert bytes(packet) == bytes(frame)
    return packet.queued


def test_classes_and_flows_in_turn() -> None:
    shaper = Shaper(**CONFIG)
    flows = [v4(udp(src=n, dst=9)) for n in range(10)]
    assert [queued(shaper, flow) for flow in flows] == [BULK + 1 + n % 8 for n in range(10)]
    assert [queued(shaper, flow) for flow in flows] == [BULK + 1 + n % 8 for n in range(10)], "they keep theirs"
    assert queued(shaper, v6(udp(src=1, dst=9), dscp=46)) == VOICE + 3, "the next turn, in its own class"
    assert queued(shaper, v4(tcp(src=1, dst=443))) == WEB + 4
    assert queued(shaper, LINK / arp(sender_ip="10.0.0.1")) == BULK + 5, "what is not IP is a flow too"
    assert [(row["class"], row["packets"]) for row in shaper.show()] == [("bulk", 21), ("voice", 1), ("web", 1)]


def test_the_other_way_passes() -> None:
    assert queued(Shaper(**CONFIG), v4(udp(src=1, dst=2)), OUTSIDE) == 0
    assert queued(Shaper(**CONFIG | {"direction": "in"}), v4(udp(src=1, dst=2)), OUTSIDE) == BULK + 1


def test_malformed() -> None:
    assert Shaper(**CONFIG).run(Packet(bytes(v4(bytes(8), version=6)), INSIDE)) == drop(Reason.MALFORMED)


def test_the_queues_are_a_tree() -> None:
    shaper = Shaper(**CONFIG)
    assert shaper.queues(INSIDE) is None
    queues = shaper.queues(OUTSIDE)
    assert queues is not None
    found = {queue.number: queue for queue in queues.every}
    assert len(found) == len(queues.every) == 1 + 3 + 3 * 8
    trunk, bulk, voice = found[TRUNK], found[BRANCH], found[BRANCH + 1]
    assert (trunk.parent, trunk.guarantee, trunk.ceiling, trunk.room) == (0, 50_000_000, 50_000_000, 0)
    assert (bulk.parent, bulk.guarantee, bulk.ceiling) == (TRUNK, 15_333_333, 50_000_000)
    assert (voice.guarantee, voice.ceiling, voice.priority) == (4_000_000, 4_000_000, 0)
    assert sum(queue.burst for queue in (bulk, voice, found[BRANCH + 2])) <= trunk.burst
    for number, queue in found.items():
        if number < BRANCH:
            assert queue.parent == BRANCH + (number - 1) // 8 and queue.room >= 128 << 10
            assert queue.guarantee == 0, "or as many flows as there are would have a burst each"


ALLOTTED: list[tuple[str, list[dict[str, Any]], list[int]]] = [
    ("all of it is guaranteed", [{"guarantee": "30M"}, {"guarantee": "20M"}], [30, 20]),
    ("by guarantee", [{"guarantee": "5M"}, {"guarantee": "15M"}, {"guarantee": "5M"}], [10, 30, 10]),
    ("up to the ceiling, and others get more", [{"guarantee": "10M", "ceiling": "12M"}, {"guarantee": "10M"},
                                                {"guarantee": "9M"}], [12, 20, 18]),
    ("by priority first", [{"guarantee": "10M"}, {"guarantee": "10M", "priority": 1}], [10, 40]),
    ("and then the rest", [{"guarantee": "5M"}, {"guarantee": "10M", "priority": 1, "ceiling": "20M"},
                           {"guarantee": "10M"}], [10, 20, 20]),
    ("nobody may have it", [{"guarantee": "5M", "ceiling": "6M"}, {"guarantee": "5M", "ceiling": "5M"}], [6, 5])]


@pytest.mark.parametrize(("classes", "millions"), [case[1:] for case in ALLOTTED], ids=[case[0] for case in ALLOTTED])
def test_what_is_left_is_allotted(classes: list[dict[str, Any]], millions: list[int]) -> None:
    named = [{"name": str(place), **settings} for place, settings in enumerate(classes)]
    found = Shaper(rate="50M", classes=named).config.allotted()
    assert found == pytest.approx([million * 1_000_000 for million in millions], abs=2)


def test_rules_follow_the_classes() -> None:
    """Classes in another order have other numbers, and so have what the rules name."""
    shaper = Shaper(**CONFIG)
    shaper.reconfigure(usual="voice")
    assert queued(shaper, v4(udp(src=1, dst=9))) == 1
    assert queued(shaper, v4(udp(src=1, dst=9), dscp=46)) == 1, "the same flow, of the class that is first now"
    assert queued(shaper, v4(tcp(src=1, dst=80))) // 8 == 2


def test_without_classes_there_is_one() -> None:
    shaper = Shaper(rate="8M", flows=1)
    queues = shaper.queues(OUTSIDE)
    assert queues is not None and [queue.number for queue in queues.every] == [TRUNK, BRANCH, 1]
    assert queued(shaper, v4(udp(src=1, dst=2))) == 1


GOOD = {"name": "a", "guarantee": "1M"}
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "rate: ShaperConfig needs a value"),
    ({"rate": 100}, "rate: 100 bit/s is less than 8k"),
    ({"rate": "8M", "flows": 0}, "flows: 0 is not between 1 and 256"),
    ({"rate": "8M", "classes": [GOOD, GOOD]}, r"classes\[1\].name: there is a class a already"),
    ({"rate": "8M", "classes": [GOOD | {"ceiling": "9M"}]}, r"classes\[0\]: 8k <= guarantee <= ceiling <= rate"),
    ({"rate": "8M", "classes": [GOOD | {"guarantee": "5M"}, {"name": "b", "guarantee": "5M"}]}, "classes: their"),
    ({"rate": "8M", "rules": [{"into": "b"}], "classes": [GOOD]}, r"rules\[0\].into: 'b' is not a class"),
    ({"rate": "8M", "usual": "b", "classes": [GOOD]}, "usual: 'b' is not a class"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shaper(**values)


TARGETS = [target for target in available() if target != "xdp"]         # where nothing waits


def test_every_target_agrees() -> None:
    frames = [Arrival(bytes(frame), port) for n in range(12) for port in (INSIDE, OUTSIDE) for frame in (
        v4(udp(src=n, dst=9)), v6(tcp(src=n, dst=443)), v4(tcp(src=1, dst=80), dscp=46), LINK / arp())]
    agree(lambda: Shaper(**CONFIG), frames, TARGETS)


@pytest.mark.parametrize("seed", range(2))
def test_random_traffic_agrees(seed: int, nightly: bool) -> None:
    with Agreement(lambda: Shaper(**CONFIG | {"direction": "both"}), TARGETS) as found:
        found.run(traffic(seed=seed, count=20_000 if nightly else 400))
