"""Ten thousand flows through the balancer, as native code: shares, and who moves.

Backends are chosen by hashing, so that balancers agree with each other; ten thousand flows of a tenth each then differ
from a thousand by chance alone, thirty flows being its standard deviation.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from iovisor.functions.balancer import Balancer
from iovisor.language import SECOND, Clock, Packet, forward
from iovisor.targets import load
from tests.functions.test_balancer import INSIDE, OUTSIDE, A, S, backends, balancer, segment, to_vip, vip

MANY, DEVIATION = 10_000, 30
ROOM: dict[str, Any] = {"slots": 4096, "connections": 40_000, "transitory": 40_000}


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(1_000 * SECOND)
    yield
    Clock.run()


def flows(loaded: Any, numbers: range, flags: int = S) -> dict[int, int]:
    """By flow, which backend it goes to."""
    frame, found = bytearray(to_vip(segment(4000, 80, flags))), {}
    for number in numbers:
        frame[24:26], frame[26:30] = bytes(2), (0x0a000000 + number).to_bytes(4, "big")
        frame[34:36] = (1024 + number % 60_000).to_bytes(2, "big")
        packet = Packet(bytes(frame), OUTSIDE)
        assert loaded.run(packet) == forward(INSIDE)
        found[number] = packet.data[5]
    return found


def test_lb_01_and_02() -> None:
    made: Balancer = balancer(vip(*range(1, 11)), **ROOM)
    with load(made, "native") as loaded:
        before = flows(loaded, range(MANY))
        shares = Counter(before.values())
        assert len(shares) == 10 and all(abs(count - MANY // 10) < 3 * DEVIATION for count in shares.values()), shares
        made.reconfigure(vips=[vip(1, 2, 4, 5, 6, 7, 8, 9, 10)])
        after = flows(loaded, range(MANY), A)
        assert [flow for flow, number in before.items() if number != 3 and after[flow] != number] == []
        assert 3 not in {*after.values(), *flows(loaded, range(MANY, MANY + 2_000)).values()}


def test_lb_04() -> None:
    weighted = vip() | {"backends": [one | {"weight": weight} for one, weight in zip(
        backends(1, 2, 3, port=8080), (1, 2, 3), strict=True)]}
    made: Balancer = balancer(weighted, **ROOM)
    with load(made, "native") as loaded:
        before = flows(loaded, range(MANY))
        shares = Counter(before.values())
        assert all(abs(shares[number] - MANY * number / 6) <= MANY / 100 for number in (1, 2, 3)), shares
        drained = [one | {"drain": one["address"] == "10.0.0.3"} for one in weighted["backends"]]
        made.reconfigure(vips=[weighted | {"backends": drained}])
        assert flows(loaded, range(MANY), A) == before
        assert set(flows(loaded, range(MANY, MANY + 2_000)).values()) == {1, 2}
