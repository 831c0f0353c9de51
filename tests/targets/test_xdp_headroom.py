"""XDP has some 200 bytes of room before a frame: what does not fit is dropped by name, never sent without its tag."""
from __future__ import annotations

import pytest

from iovisor.language import Dropped, Function, Header, Packet, Verdict, drop, forward, u16
from iovisor.targets import load

pytestmark = pytest.mark.root
FRAME = bytes.fromhex("020000000002" "020000000001" "88b5") + bytes(50)
TAG = bytes.fromhex("81000005")


def pushing(count: int) -> type[Function]:
    """A function that tags a frame and puts `count` bytes, an even number, before it."""
    fields = {f"word{i}": u16 for i in range(count // 2)}
    front = type("Front", (Header,), {"__annotations__": fields, **dict.fromkeys(fields, 0)})

    class Pushing(Function):
        def ingress(self, pkt: Packet) -> Verdict:
            pkt.retag(5)
            pkt.push(front)
            return forward(1)

    return Pushing


def test_the_tag_goes_back_or_the_packet_is_dropped() -> None:
    pytest.importorskip("llvmlite")
    seen = set()
    for count in range(204, 224, 2):
        with load(pushing(count)(), "xdp") as loaded:
            packet = Packet(FRAME)
            verdict = loaded.run(packet)
        seen.add(repr(verdict))
        if verdict == forward(1):
            assert bytes(packet) == bytes(12) + TAG + bytes(count - 12) + FRAME, count
        else:
            assert verdict == drop(Dropped.RESIZE), count
    assert len(seen) == 2, "the sizes must lie on both sides of the limit"
