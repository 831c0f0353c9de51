"""The examples do what their first lines say, on every target this machine has."""

import sys
from pathlib import Path

import pytest

from iovisor.language import FLOOD, Dropped, Packet, drop, forward
from iovisor.testing import agree
from iovisor.testing.packets import arp, ethernet, ipv4, udp

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import hub  # type: ignore[import-not-found]  # noqa: E402
import own_protocol  # type: ignore[import-not-found]  # noqa: E402
import talkers  # type: ignore[import-not-found]  # noqa: E402

ARP = bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01")
            / arp(sender_ip="10.0.0.1", target_ip="10.0.0.2"))


def datagram(source: str, size: int = 40) -> bytes:
    return bytes(ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ipv4(src=source, dst="10.0.0.9")
                 / udp(src=1000, dst=53) / bytes(size))


def labelled(circuit: int, hops: int, version: int = 1, urgent: int = 0) -> bytes:
    label = version << 20 | urgent << 19 | hops << 13 | circuit << 2
    return bytes.fromhex("020000000002" "020000000001" "88b5") + label.to_bytes(3, "big") + bytes(43)


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"hub", "own_protocol", "talkers"}


def test_a_hub_floods() -> None:
    assert hub.Hub().run(Packet(ARP, port=3)) == FLOOD
    assert agree(hub.Hub, [(ARP, 3), (datagram("10.0.0.1"), 0)]) == 2


def test_talkers_are_counted_by_their_bytes() -> None:
    function = talkers.Talkers()
    for frame in (ARP, datagram("10.0.0.1"), datagram("10.0.0.2", 100), datagram("10.0.0.1")):
        assert function.run(Packet(frame, port=function.left)) == forward(function.right)
    assert function.most() == [{"address": "10.0.0.1", "packets": 2, "bytes": 164},
                               {"address": "10.0.0.2", "packets": 1, "bytes": 142}]
    assert [talk["address"] for talk in function.most(count=1)] == ["10.0.0.1"]


def test_talkers_on_every_target() -> None:
    frames = [(datagram(f"10.0.0.{n % 5}", n), n % 2) for n in range(20)]
    assert agree(talkers.Talkers, [*frames, (ARP, 1), (datagram("10.0.0.1")[:20], 0)]) == 22


def test_a_circuit_is_switched_and_loses_a_hop() -> None:
    packet = Packet(labelled(circuit=1027, hops=33, urgent=1))
    assert own_protocol.Circuits(circuits={1027: 5}).run(packet) == forward(5)
    assert bytes(packet) == labelled(circuit=1027, hops=32, urgent=1)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (ARP, "NOT_OURS"),
        (labelled(7, hops=2, version=2), "VERSION"),
        (labelled(7, hops=0), "NO_HOPS_LEFT"),
        (labelled(8, hops=2), "UNKNOWN_CIRCUIT"),
    ],
)
def test_a_circuit_that_is_dropped(frame: bytes, reason: str) -> None:
    assert own_protocol.Circuits(circuits={7: 1}).run(Packet(frame)) == drop(own_protocol.Reason[reason])


def test_a_circuit_can_be_closed() -> None:
    function = own_protocol.Circuits(circuits={7: 1, 8: 2})
    function.reconfigure(circuits={8: 3})
    assert function.run(Packet(labelled(7, hops=2))) == drop(own_protocol.Reason.UNKNOWN_CIRCUIT)
    assert function.run(Packet(labelled(8, hops=2))) == forward(3)


def test_circuits_on_every_target() -> None:
    frames = [labelled(c, h, v) for c in (0, 7, 2047) for h in (0, 1, 63) for v in (0, 1, 15)]
    short = labelled(7, 2)[:16]
    assert own_protocol.Circuits().run(Packet(short)) == drop(Dropped.TRUNCATED)
    assert agree(lambda: own_protocol.Circuits(circuits={7: 1, 2047: 7}), [*frames, short, ARP]) == 29
