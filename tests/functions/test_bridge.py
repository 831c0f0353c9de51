"""The bridge: trees of many bridges without packets, its frames, and what its data path does with states."""
from __future__ import annotations

import collections
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iovisor.functions.bridge import Bridge, State, Told, TreeReason, frame, read
from iovisor.functions.bridge.rapid import Message, Times, Tree, Vector
from iovisor.functions.switch import Reason
from iovisor.language import FLOOD, ConfigError, Dropped, Packet, drop, forward, punt
from iovisor.wire.bpdu import BpduType, PortRole

QUICK = Times(0, 6, 1, 4)
OURS = "02:00:00:00:00:fe"


class Old:
    """A bridge as in 802.1D-1998 as far as it matters here: it is the root, and says so every second."""

    def __init__(self, bridge: int) -> None:
        self.said = Message(BpduType.CONFIGURATION, Vector(bridge, 0, bridge, 0x8001), QUICK)


class Field:
    """Bridges and links.  What is said arrives in order, after everything said before."""

    def __init__(self, links: list[tuple[int, int]]) -> None:
        self.links = dict(enumerate(links))
        self.lost = False           # a lost root is believed in for a while, and the standard allows loops meanwhile
        self.waiting: collections.deque[tuple[int, int, Message]] = collections.deque()
        self.trees = {bridge: self.tree(bridge) for bridge in sorted({end for link in links for end in link})}
        for number, (a, b) in self.links.items():
            self.trees[a].add(2 * number)
            self.trees[b].add(2 * number + 1)
        self.settle()

    def tree(self, bridge: int) -> Tree:
        return Tree(0x8000 << 48 | bridge + 1, QUICK, lambda port, said: self.waiting.append((bridge, port, said)),
                    lambda port: None)

    def settle(self) -> None:
        for _ in range(20_000):
            if not self.waiting:
                return
            _, port, said = self.waiting.popleft()
            if port // 2 in self.links:
                other = port ^ 1
                if said.times.age < said.times.max_age:
                    assert read(frame(1, said)) == said
                    self.trees[self.links[port // 2][other & 1]].receive(other, said)
                else:
                    assert read(frame(1, said)) is None
            assert self.lost or not self.loops()
        pytest.fail("they never stop talking")

    def second(self, times: int = 1) -> None:
        for _ in range(times):
            for tree in self.trees.values():
                tree.tick()
                assert self.lost or not self.loops()
            self.settle()

    def open(self) -> list[tuple[int, int]]:
        """The links that forward at both ends."""
        return [link for number, link in self.links.items()
                if all(self.trees[link[end]].ports[2 * number + end].forward for end in (0, 1))]

    def parts(self, links: list[tuple[int, int]]) -> dict[int, int]:
        """Each bridge's part of the network, named by one of it."""
        part = {bridge: bridge for bridge in self.trees}
        for a, b in links:
            old, new = part[a], part[b]
            part = {bridge: new if found == old else found for bridge, found in part.items()}
        return part

    def loops(self) -> bool:
        links = self.open()
        return len(set(self.parts(links).values())) != len(self.trees) - len(links)

    def is_whole(self) -> bool:
        """Whether bridges reach each other just if some links would let them."""
        def grouped(links: list[tuple[int, int]]) -> set[frozenset[int]]:
            part = self.parts(links)
            return {frozenset(b for b in part if part[b] == name) for name in part.values()}
        return grouped(self.open()) == grouped(list(self.links.values()))


def links(most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    ends = st.integers(0, most - 1)
    return st.lists(st.tuples(ends, ends).filter(lambda link: link[0] != link[1]), min_size=1, max_size=3 * most)


@given(links(7))
@settings(max_examples=60, deadline=None)
def test_any_network_becomes_a_tree_at_once_and_is_never_a_loop(network: list[tuple[int, int]]) -> None:
    field = Field(network)
    field.second(2)
    assert field.is_whole()
    field.second(30)
    assert field.is_whole()


@given(links(6), st.data())
@settings(max_examples=40, deadline=None)
def test_a_lost_link_is_replaced(network: list[tuple[int, int]], data: st.DataObject) -> None:
    field = Field(network)
    field.second(3)
    gone = data.draw(st.sampled_from(sorted(field.links)))
    silent = data.draw(st.booleans())
    field.lost = True
    a, b = field.links.pop(gone)
    if not silent:
        field.trees[a].remove(2 * gone)
        field.trees[b].remove(2 * gone + 1)
        field.settle()
    field.second(40)
    assert field.is_whole() and not field.loops()


def test_the_smallest_is_the_root_and_the_cheapest_way_stays() -> None:
    field = Field([(0, 1), (1, 2), (2, 0)])
    field.second(2)
    assert {tree.root.root & 0xffff for tree in field.trees.values()} == {1}
    assert sorted(field.open()) == [(0, 1), (2, 0)]


def test_an_old_bridge_is_answered_in_its_own_way_and_pace() -> None:
    sent: list[Message] = []
    tree = Tree(0x8000 << 48 | 9, QUICK, lambda port, said: sent.append(said), lambda port: None)
    tree.add(0)
    tree.add(1)
    forwards = []
    for second in range(20):
        tree.tick()
        if second >= 3:
            tree.receive(0, Old(1).said)
        forwards.append(tree.ports[0].forward)
    assert not tree.ports[0].send_rapid and tree.ports[1].send_rapid
    assert tree.root.root == 1
    # As an edge it forwarded after three seconds; then a bridge was heard, and two delays of four seconds passed.
    assert forwards[10] is False or forwards[2] is True
    assert forwards[-1]
    sent.clear()
    tree.ports[0].change_while = 0
    tree._time_change(tree.ports[0])
    tree.tick()
    assert BpduType.NOTIFICATION in {said.kind for said in sent}


def test_what_only_works_one_way_is_not_used() -> None:
    """A designated port that hears a worse one which learns: its own messages do not arrive there (a dispute)."""
    tree = Tree(0x8000 << 48 | 1, QUICK, lambda port, said: None, lambda port: None)
    tree.add(0)
    for _ in range(12):
        tree.tick()
    assert tree.ports[0].forward
    worse = Vector(0x8000 << 48 | 2, 0, 0x8000 << 48 | 2, 0x8001)
    tree.receive(0, Message(BpduType.RAPID, worse, QUICK, PortRole.DESIGNATED, learning=True, forwarding=True))
    assert not tree.ports[0].forward


def test_frames() -> None:
    vector = Vector(0x1000_0200_0000_0001, 20_000, 0x8000_0200_0000_0002, 0x8003)
    said = Message(BpduType.RAPID, vector, Times(1, 20, 2, 15), PortRole.DESIGNATED, proposal=True, forwarding=True)
    assert frame(0x02_00_00_00_00_02, said).hex(" ", -4) == (
        "0180c200 00000200 00000002 00274242 03000002 022e1000 02000000 00010000 4e208000 02000000 "
        "00028003 01001400 02000f00 00000000 00000000")
    assert read(frame(2, said)) == said
    old = Message(BpduType.CONFIGURATION, vector, Times(1, 20, 2, 15), change=True, acknowledged=True)
    assert frame(2, old)[14:22].hex() == "4242030000000081" and read(frame(2, old)) == old
    assert frame(2, Message(BpduType.NOTIFICATION))[12:21].hex() == "000742420300000080"


@pytest.mark.parametrize("data", [
    b"", bytes(60), frame(2, Message(BpduType.NOTIFICATION))[:20],
    frame(2, Message(BpduType.RAPID, times=QUICK))[:40],
    frame(2, Message(BpduType.RAPID, times=QUICK))[:17] + b"\0\1" + bytes(41),
    frame(2, Message(BpduType.RAPID, times=Times(6, 6, 1, 4))),
    frame(2, Message(BpduType.RAPID, times=QUICK))[:20] + b"\x55" + bytes(39)])
def test_what_is_no_message(data: bytes) -> None:
    assert read(data) is None


def bridge(**values: Any) -> Bridge:
    return Bridge(**{"address": OURS, "tree": {0: {}, 1: {}}, **values})


def between(dst: int, src: int) -> bytes:
    return (dst.to_bytes(6, "big") + src.to_bytes(6, "big") + b"\x88\xb5").ljust(60, b"\0")


def test_states_decide() -> None:
    found = bridge()
    group = frame(2, Message(BpduType.RAPID, times=QUICK))
    assert found.run(Packet(group, 0)) == punt(Told(port=0))
    assert found.run(Packet(group, 2)) == drop(Reason.RESERVED_ADDRESS)
    assert found.run(Packet(between(9, 1), 0)) == drop(TreeReason.BLOCKED)
    assert found.run(Packet(between(9, 1), 2)) == FLOOD
    for port, egress in ((0, drop(TreeReason.BLOCKED_COPY)), (3, forward(3))):
        assert found.run(Packet(between(9, 1), port), "egress") == egress
    assert found.run(Packet(group, 0), "egress") == forward(0)
    line = found.states[0]
    line.state = State.LEARNING
    assert found.run(Packet(between(9, 3), 0)) == drop(Dropped.REQUIRED)
    assert found.run(Packet(between(3, 1), 2)) == forward(0)
    found.states[0].state = State.FORWARDING
    assert found.run(Packet(between(1, 3), 0)) == forward(2)


def test_alone_it_forwards_after_a_while_and_says_so() -> None:
    found = bridge(tree={0: {}, 1: {"edge": True}})
    found.tick()
    assert {port for port, _ in found.outbox} == {0, 1} and found.states[1].state == State.FORWARDING
    for _ in range(6):
        found.tick()
    assert found.states[0].state == State.FORWARDING and found.topology()["ports"][0]["edge"]
    assert found.topology()["root"] == found.topology()["bridge"] == "80000200000000fe"


def test_a_better_bridge_is_followed_and_answered() -> None:
    found = bridge()
    found.tick()
    found.outbox.clear()
    better = Message(BpduType.RAPID, Vector(1, 0, 1, 0x8001), QUICK, PortRole.DESIGNATED, proposal=True)
    found.heard(Told(port=0), Packet(frame(1, better), 0))
    assert found.topology()["ports"][0] == {"role": "root", "state": "forwarding", "rapid": True, "edge": False}
    answers = [message for port, data in found.outbox if port == 0 and (message := read(data)) is not None]
    assert answers[-1].agreement and answers[-1].role is PortRole.ROOT
    found.heard(Told(port=1), Packet(frame(1, better), 1))
    assert found.states[1].state == State.DISCARDING and found.topology()["ports"][1]["role"] == "alternate"


def test_another_process_goes_on_from_the_states() -> None:
    found = bridge()
    for _ in range(8):
        found.tick()
    found._tree = None
    found.tick()
    assert found.states[0].state == State.FORWARDING
    found.reconfigure(tree={1: {}, 2: {}})
    assert (found.states[0].listed, found.states[2].listed, found.states[2].state) == (0, 1, State.DISCARDING)
    assert found.states[1].state == State.FORWARDING


@pytest.mark.parametrize(("values", "where"), [
    ({"address": 0}, "address"), ({"priority": 1}, "priority"), ({"hello": 3}, "hello"), ({"max_age": 41}, "max_age"),
    ({"delay": 3}, "delay"), ({"delay": 10}, "max_age"), ({"tree": {0: {"cost": 0}}}, "cost"),
    ({"tree": {0: {"priority": 1}}}, "priority")])
def test_what_cannot_be_configured(values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as error:
        bridge(**values)
    assert where in str(error.value)
