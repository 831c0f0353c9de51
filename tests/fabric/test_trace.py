"""A trace says what the packet then does, and touches nothing."""
from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from iovisor.fabric import Network, Trace
from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.kernel import Map, MapKind
from iovisor.language import Function, Packet, Verdict, drop
from iovisor.testing import Capture
from iovisor.testing.packets import ethernet, ipv4, udp, vlan
from tests.fabric.functions import Gate, Hub, Learner, Marker, Older, Pairs, Tagger, Through
from tests.fabric.hosts import Place

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
# To an address nobody has: hosts answer nothing.
QUERY = bytes(ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ipv4(src="10.0.0.1", dst="10.9.9.9")
              / udp(src=1000, dst=53) / b"query, long enough to need no padding")


def waited(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def maps(net: Network) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every map of a network, raw."""
    found: dict[str, Map] = {"account": net._account.array, "wires": net._around._wires}
    for name, instance in net.instances.items():
        found |= {f"{name}.{key}": value for key, value in instance.loaded.maps.items() if key != "@events"}
        found |= {f"{name}.counts": instance.counters.array, f"{name}.members": instance.members}
    return {name: list(value.items()) if value.spec.kind is MapKind.PROGRAM_ARRAY else sorted(value.lookup_batch())
            for name, value in found.items()}


# -- the same as what happens ----------------------------------------------------------------------------------------

KINDS: list[tuple[Callable[[], Function], int]] = [
    (Through, 2), (Gate, 2), (lambda: Gate(open=0), 2), (Marker, 2), (Older, 2), (Tagger, 2), (Learner, 2), (Pairs, 4),
    (Hub, 4), (Switch, 4), (lambda: Acl(default="accept"), 2), (lambda: Acl(default="drop"), 2)]
frames = st.builds(
    lambda dst, src, ttl, payload, tags: bytes(
        (ethernet(dst=dst, src=src) / vlan(vid=tags) if tags else ethernet(dst=dst, src=src))
        / ipv4(src="10.0.0.1", dst="10.9.9.9", ttl=ttl) / udp(src=1000, dst=53) / payload),
    st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff"]),
    st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:03"]), st.integers(1, 3),
    st.binary(min_size=30, max_size=60), st.sampled_from([0, 0, 5]))


@st.composite
def topologies(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int, int, int]], list[tuple[int, int]]]:
    """Kinds; links (instance, port, instance, port), a tree; and free ports for hosts."""
    kinds = draw(st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=7))
    free = [(0, port) for port in range(KINDS[kinds[0]][1])]
    links = []
    for index in range(1, len(kinds)):
        if not free:
            kinds = kinds[:index]
            break
        parent, port = free.pop(draw(st.integers(0, len(free) - 1)))
        own = draw(st.integers(0, KINDS[kinds[index]][1] - 1))
        links.append((parent, port, index, own))
        free += [(index, p) for p in range(KINDS[kinds[index]][1]) if p != own]
    return kinds, links, draw(st.permutations(free))


@pytest.fixture(scope="module")
def four() -> Iterator[tuple[Place, list[Capture]]]:
    """Four hosts and what they receive."""
    with ExitStack() as undo:
        at = undo.enter_context(Place(4))
        yield at, [undo.enter_context(Capture(host.namespace, "eth0")) for host in at.hosts]


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate],
           suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topology=topologies(), sent=st.lists(frames, min_size=1, max_size=4), data=st.data())
def test_a_packet_does_what_the_trace_said(four: tuple[Place, list[Capture]], topology: tuple[
        list[int], list[tuple[int, int, int, int]], list[tuple[int, int]]], sent: list[bytes],
        data: st.DataObject) -> None:
    at, captures = four
    kinds, links, free = topology
    with Network("any", namespace=at.switching) as net:
        for index, kind in enumerate(kinds):
            net.add(f"f{index}", KINDS[kind][0]())
        for a, b, c, d in links:
            net.link(f"f{a}:{b}", f"f{c}:{d}")
        places = dict(zip(free, at.hosts, strict=False))
        for (instance, port), host in places.items():
            net.attach(f"f{instance}:{port}", host.edge)
        for frame in sent:
            instance = data.draw(st.integers(0, len(kinds) - 1))
            where = f"f{instance}:{data.draw(st.integers(0, KINDS[kinds[instance]][1] - 1))}"
            agrees(net, at, captures, frame, where)


def agrees(net: Network, at: Place, captures: list[Capture], frame: bytes, where: str) -> Trace:
    """Trace, let the packet come, and compare."""
    before = maps(net)
    trace = net.trace(frame, where)
    assert maps(net) == before
    assert trace.disagreements == [] and trace.complete, str(trace)
    expected: dict[int, Counter[bytes]] = {host.device: Counter() for host in at.hosts}
    for end in trace.delivered:
        expected[end.device][end.frame] += 1
    for capture in captures:
        capture.clear()
    drops, punted = flat(net.drops), pending(net)
    net.inject(frame, where)

    def arrived() -> bool:
        return all(Counter(c.frames()) == expected[h.device] for c, h in zip(captures, at.hosts, strict=True)) \
            and flat(net.drops) - drops == flat(trace.drops) \
            and pending(net) - punted == sum(end.what == "punted" for end in trace.ends)
    assert waited(arrived), f"{trace}\n{[c.taken for c in captures]}\n{flat(net.drops) - drops}"
    time.sleep(0.01)
    assert arrived()
    return trace


def flat(drops: dict[str, dict[str, int]]) -> Counter[tuple[str, str]]:
    return Counter({(name, reason): count for name, found in drops.items() for reason, count in found.items()})


def pending(net: Network) -> int:
    """Punted packets that wait."""
    rings = [instance.loaded.ring for instance in net.instances.values()]
    return sum(ring.pending // 2080 for ring in rings if ring is not None)


def test_a_long_line_goes_around_and_a_ring_ends(four: tuple[Place, list[Capture]]) -> None:
    """More functions than tail calls, and hubs in a ring: the trace has the order and the end of both."""
    at, captures = four
    with Network("long", namespace=at.switching) as net:
        for index in range(16):
            net.add(f"s{index}", Switch())
        for index in range(15):
            net.link(f"s{index}:1", f"s{index + 1}:2")
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s15:0", at.hosts[1].edge)
        assert len(agrees(net, at, captures, QUERY, "s0:0").delivered) == 1
        back = bytes(ethernet(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / ipv4() / udp() / bytes(40))
        assert len(agrees(net, at, captures, back, "s15:0").delivered) == 1
    with Network("ring", namespace=at.switching) as net:
        for index in range(4):
            net.add(f"h{index}", Hub())
            net.attach(f"h{index}:0", at.hosts[index].edge)
        for index in range(4):
            net.link(f"h{index}:1", f"h{(index + 1) % 4}:2")
        trace = agrees(net, at, captures, QUERY, "h0:0")
        assert len(trace.delivered) == 32 and trace.drops == {"fabric": {"HOPS": 2}}


# -- what it says ----------------------------------------------------------------------------------------------------

def test_what_a_terminal_shows(place: Places) -> None:
    at = place(2)
    with Network("shown", namespace=at.switching) as net:
        net.add("hub", Hub())
        net.add("older", Older())
        net.add("wall", Gate(open=0))
        net.add("tagger", Tagger())
        net.link("hub:1", "older:inside")
        net.link("older:outside", "wall:inside")
        net.link("hub:2", "tagger:inside")
        net.attach("hub:3", at.hosts[0].edge)
        net.attach("tagger:outside", at.hosts[1].edge)
        trace = net.trace(QUERY, "hub:3")
        lines = str(trace).splitlines()
        places = {hop.at: hop.line for hop in trace.hops}
        assert [f"{line}" for line in lines] == [
            "hub:3 ◀ eth(src=02:00:00:00:00:01, dst=02:00:00:00:00:02) / ip(src=10.0.0.1, dst=10.9.9.9, ttl=64) / "
            "udp(src=1000, dst=53) / 37 bytes, 79 bytes",
            "1 hub:3  Hub  flood",
            f"│     {places['hub:3']}",
            "├─ flooded out of hub:1",
            "│  2 older:inside  Older  forward(outside)",
            f"│        {places['older:inside']}",
            "│        ~ ip.ttl 64 -> 63",
            f"│        ~ ip.checksum {trace.hops[1].rewrites[1].removeprefix('ip.checksum ')}",
            "│  3 wall:inside  Gate  drop(REQUIRED)",
            f"│        {places['wall:inside']}",
            "│  ✗ dropped by wall: REQUIRED",
            "└─ flooded out of hub:2",
            "   4 tagger:inside  Tagger  forward(outside)",
            f"         {places['tagger:inside']}",
            "         ~ push vlan(vid=7)",
            "         ~ eth.type 2048 -> 33024",
            "   5 tagger:outside  Tagger egress  forward(outside)",
            f"         {places['tagger:outside']}",
            "         left[1] = packets 0, bytes 0 -> packets 1",
            "   ▶ tagger:outside, device 5001"] or pytest.fail("\n".join(lines))
        line = places["wall:inside"]
        assert line is not None and line.text == "return drop(2)" and line.file.endswith("functions.py")
        document = json.loads(json.dumps(trace.as_document()))
        assert [hop["verdict"] for hop in document["hops"]][:3] == ["flood", "forward(outside)", "drop(REQUIRED)"]
        assert document["ends"][0]["what"] == "dropped" and document["hops"][2]["line"]["text"] == "return drop(2)"


def test_the_entries_that_decided(place: Places) -> None:
    """What is known in the kernel decides; a handler's entry is one."""
    at = place(1)
    with Network("entries", namespace=at.switching) as net:
        learner = Learner()
        net.add("learner", learner)
        net.attach("learner:outside", at.hosts[0].edge)
        flow = int.from_bytes(QUERY[8:12], "big")
        trace = net.trace(QUERY, "learner:inside")
        assert [end.what for end in trace.ends] == ["punted"] and trace.hops[0].entries == (f"known[{flow}] no entry",)
        learner.known[flow] = 9
        trace = net.trace(QUERY, "learner:inside")
        assert trace.hops[0].entries == (f"known[{flow}] = 9",)
        assert [end.device for end in trace.delivered] == [at.hosts[0].device]


def test_frames_that_cannot_be_traced(place: Places) -> None:
    at = place(0)
    with Network("refused", namespace=at.switching) as net:
        net.add("f", Through())
        with pytest.raises(ValueError, match="a frame of 13 bytes cannot be traced: the kernel tries 14 to 3500"):
            net.trace(bytes(13), "f:0")
        with pytest.raises(ValueError, match="its header has 20 bytes at least"):
            net.trace(bytes(12) + b"\x08\0" + bytes(10), "f:0")
        with pytest.raises(ValueError, match="there is no instance 'g'"):
            net.trace(QUERY, "g:0")
        assert net.trace(QUERY, "f:0").drops == {"f": {"UNWIRED": 1}}


# -- it does not lie -------------------------------------------------------------------------------------------------

def test_a_reference_that_differs_is_told(place: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place(1)
    with Network("lies", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:outside", at.hosts[0].edge)

        def lies(self: Through, pkt: Packet) -> Verdict:
            return drop(2)
        monkeypatch.setattr(Through, "ingress", lies)
        trace = net.trace(QUERY, "f:inside")
        assert trace.hops[0].verdict == "forward(outside)" and len(trace.delivered) == 1
        assert "the kernel answers forward(1), the reference drop(REQUIRED)" in trace.disagreements[0].text
        assert str(trace).startswith("!! DISAGREEMENT at hop 1: ")


def test_a_program_that_is_not_the_image_is_told(place: Places) -> None:
    at = place(1)
    with Network("lies", namespace=at.switching) as net:
        one, other = net.add("one", Through()), net.add("other", Pairs())
        net.attach("one:outside", at.hosts[0].edge)
        door, way = one.door("ingress"), one.exit(1)
        # Held, or it would go, and its maps, with its place in the slot.
        with one.loaded.programs["ingress"].held():
            door.array.store(door.slot.to_bytes(4, "little"), other.loaded.programs["ingress"])
            found = net.trace(QUERY, "one:inside").disagreements
            assert "the program that runs has the tag" in found[0].text
            way.array.delete(way.slot.to_bytes(4, "little"))
            trace = net.trace(QUERY, "one:inside")
            one.settle()
        assert trace.drops == {"one": {"UNWIRED": 1}}
        assert "the kernel has no program for one:1, which is joined" in trace.disagreements[1].text
