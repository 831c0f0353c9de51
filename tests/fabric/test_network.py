"""Networks of functions on real packets, counted exactly: every frame is sent and captured raw."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from iovisor.fabric import Edge, Network, Traffic
from iovisor.functions.acl import Acl
from iovisor.functions.switch import Switch
from iovisor.kernel import KernelError, Netlink, interfaces
from tests.fabric.functions import Differs, Gate, Hub, Pairs, Through, ThroughAgain, ThroughCopied
from tests.fabric.hosts import Host, Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


def line(net: Network, switches: int) -> None:
    """s0 - s1 - ...: ports 1 and 2 of each are its neighbours'."""
    for i in range(switches):
        net.add(f"s{i}", Switch())
    for i in range(switches - 1):
        net.link(f"s{i}:1", f"s{i + 1}:2")


def exchange(a: Host, b: Host) -> None:
    """Five frames each way arrive, once each, and nothing else."""
    for sender, receiver in ((a, b), (b, a)):
        frame = sender.send(receiver, b"exchange", 5)
        assert receiver.captured(5) == [frame] * 5
    assert a.captured() == []


# -- shapes ---------------------------------------------------------------------------------------------------------


def test_chain_of_sixteen(place: Places) -> None:
    at = place(2)
    with Network("chain", namespace=at.switching) as net:
        for i in range(16):
            net.add(f"f{i}", Through())
        for i in range(15):
            net.link(f"f{i}:outside", f"f{i + 1}:inside")
        net.attach("f0:inside", at.hosts[0].edge)
        net.attach("f15:outside", at.hosts[1].edge)
        exchange(*at.hosts)
        assert net.drops == {}
        assert net.traffic("f7:outside") == (Traffic(5, 300), Traffic(5, 300))
        assert at.hosts[0].ping(at.hosts[1])


def test_line_of_four_switches(place: Places) -> None:
    at = place(4)
    with Network("line", namespace=at.switching) as net:
        line(net, 4)
        for i, host in enumerate(at.hosts):
            net.attach(f"s{i}:0", host.edge)
        assert all(a.ping(b) for a in at.hosts for b in at.hosts if a is not b)
        assert net.drops == {}


def test_more_functions_than_the_kernel_has_tail_calls(place: Places) -> None:
    """16 switches take 48 tail calls in a row; the kernel allows 33."""
    at = place(2)
    with Network("long", namespace=at.switching) as net:
        line(net, 16)
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s15:0", at.hosts[1].edge)
        for host, other in (at.hosts, at.hosts[::-1]):
            frame = host.send(None)
            assert other.captured(1) == [frame]
        exchange(*at.hosts)
        assert net.drops == {}
        assert net.traffic("s12:1")[1].packets == 1 + 5


def test_ring_ends_in_counted_drops(place: Places) -> None:
    """One frame in a ring of hubs walks both ways, sixteen hops each, and meets a host at each."""
    at = place(4)
    with Network("ring", namespace=at.switching) as net:
        for i in range(4):
            net.add(f"s{i}", Hub())
            net.attach(f"s{i}:0", at.hosts[i].edge)
        for i in range(4):
            net.link(f"s{i}:1", f"s{(i + 1) % 4}:2")
        frame = at.hosts[0].send(None)
        found = [host.captured(8) for host in at.hosts]
        assert [len(frames) for frames in found] == [8, 8, 8, 8]
        assert all(got == frame for frames in found for got in frames)
        assert net.drops == {"fabric": {"HOPS": 2}}
        net.unlink("s3:1")
        at.hosts[0].send(None)
        assert [len(host.captured(1 if host.number else 0)) for host in at.hosts] == [0, 1, 1, 1]
        assert net.drops == {"fabric": {"HOPS": 2}}


def test_ring_of_switches_with_the_loop_cut(place: Places) -> None:
    at = place(4)
    with Network("ring", namespace=at.switching) as net:
        line(net, 4)
        for i, host in enumerate(at.hosts):
            net.attach(f"s{i}:0", host.edge)
        net.link("s3:1", "s0:2")
        at.hosts[0].send(None)
        assert until(lambda: net.drops.get("fabric", {}).get("HOPS", 0) > 0)
        net.unlink("s0:2")
        for name in net.instances:
            getattr(net.instances[name].function, "flush")()        # noqa: B009  an action
        for host in at.hosts:
            host.captured()
        assert at.hosts[0].ping(at.hosts[3]) and at.hosts[2].ping(at.hosts[1])


def test_broadcast_once_to_everybody(place: Places) -> None:
    at = place(6)
    with Network("three", namespace=at.switching) as net:
        line(net, 3)
        for i, host in enumerate(at.hosts):
            net.attach(f"s{i // 2}:{3 + i % 2}", host.edge)
        for sender in (at.hosts[0], at.hosts[3]):
            frame = sender.send(None, b"to all", 10)
            for host in at.hosts:
                assert host.captured(0 if host is sender else 10) == ([] if host is sender else [frame] * 10)
        assert net.drops == {}
        ten, twenty = Traffic(10, 600), Traffic(20, 1200)
        assert net.traffic("s0:3") == (ten, ten)                    # received from its host, sent to it
        assert net.traffic("s1:4") == (ten, ten)
        assert net.traffic("s2:3") == (Traffic(0, 0), twenty)
        assert net.traffic("s0:1") == (ten, ten)                    # to s1, from s1
        assert net.traffic("s1:1") == (Traffic(0, 0), twenty)
        assert net.traffic("s2:2") == (twenty, Traffic(0, 0))


def test_two_functions_joined_by_two_links(place: Places) -> None:
    at = place(4)
    with Network("pairs", namespace=at.switching) as net:
        a, b = net.add("a", Pairs()), net.add("b", Pairs())
        net.link("a:1", "b:0")
        net.link("a:3", "b:2")
        for port, host in zip(("a:0", "b:1", "a:2", "b:3"), at.hosts, strict=True):
            net.attach(port, host.edge)
        exchange(at.hosts[0], at.hosts[1])
        exchange(at.hosts[3], at.hosts[2])
        assert a.drops == b.drops == {}


def test_networks_with_the_same_addresses(place: Places) -> None:
    """Two places side by side: the same indexes, MACs, addresses, and names."""
    here, there = place(2), place(2)
    with Network("same", namespace=here.switching) as one, Network("same", namespace=there.switching) as two:
        for net, at in ((one, here), (two, there)):
            line(net, 2)
            net.attach("s0:0", at.hosts[0].edge)
            net.attach("s1:0", at.hosts[1].edge)
        frame = here.hosts[0].send(None, b"here", 20)
        assert here.hosts[1].captured(20) == [frame] * 20
        assert there.hosts[0].captured() == there.hosts[1].captured() == []
        assert two.traffic("s0:0") == (Traffic(0, 0), Traffic(0, 0))
        exchange(*there.hosts)
        assert here.hosts[1].captured() == []


def test_two_networks_in_one_namespace(place: Places) -> None:
    at = place(4)
    with Network("one", namespace=at.switching) as one, Network("two", namespace=at.switching) as two:
        for net, hosts in ((one, at.hosts[:2]), (two, at.hosts[2:])):
            line(net, 2)
            net.attach("s0:0", hosts[0].edge)
            net.attach("s1:0", hosts[1].edge)
        frame = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [frame]
        assert at.hosts[2].captured() == at.hosts[3].captured() == []
        exchange(*at.hosts[2:])


# -- changing what runs -----------------------------------------------------------------------------------------------


def test_insert_and_take_out(place: Places) -> None:
    at = place(2)
    with Network("inserted", namespace=at.switching) as net:
        line(net, 2)
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s1:0", at.hosts[1].edge)
        assert at.hosts[0].ping(at.hosts[1])
        middle = Through()
        net.add("middle", middle)
        net.insert("s0:1", "middle:inside", "middle:outside")
        at.hosts[0].captured(), at.hosts[1].captured()
        exchange(*at.hosts)
        assert sum(count.packets for count in middle.seen.every(0)) == 5
        assert net.traffic("middle:inside") == net.traffic("middle:outside") == (Traffic(5, 300), Traffic(5, 300))
        with pytest.raises(ValueError, match=r"middle is still joined at middle:0, middle:1"):
            net.remove("middle")
        net.take_out("middle:inside", "middle:outside")
        exchange(*at.hosts)
        assert sum(c.packets for c in middle.seen.every(0)) == 5
        net.remove("middle")
        exchange(*at.hosts)
        assert net.drops == {}


def test_rules_change_no_program(place: Places) -> None:
    at = place(2)
    with Network("rules", namespace=at.switching) as net:
        wall = net.add("wall", Acl(default="accept", other="accept"))
        net.attach("wall:inside", at.hosts[0].edge)
        net.attach("wall:outside", at.hosts[1].edge)
        program = wall.loaded.programs["ingress"].info().id
        assert at.hosts[0].ping(at.hosts[1], 1)
        net.reconfigure("wall", rules=[{"action": "drop", "protocol": "icmp"}])
        assert wall.loaded.programs["ingress"].info().id == program
        assert not at.hosts[0].ping(at.hosts[1], 1) and net.drops["wall"]["RULE"] == 1
        net.reconfigure("wall", rules=[], other="drop")
        assert wall.loaded.programs["ingress"].info().id != program
        assert at.hosts[0].ping(at.hosts[1], 1)


def test_unwired_is_a_counted_drop(place: Places) -> None:
    at = place(2)
    with Network("open", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        at.hosts[0].send(None, times=3)
        assert until(lambda: net.drops == {"f": {"UNWIRED": 3}})
        net.attach("f:outside", at.hosts[1].edge)
        exchange(*at.hosts)
        net.detach("f:outside")
        at.hosts[0].send(None, times=2)
        at.hosts[1].send(None, times=2)
        assert at.hosts[1].captured() == at.hosts[0].captured() == []
        assert net.drops == {"f": {"UNWIRED": 5}}


def test_a_device_that_disappears(place: Places) -> None:
    at = place(3)
    with Network("gone", namespace=at.switching) as net:
        net.add("s", Hub())
        for i, host in enumerate(at.hosts):
            net.attach(f"s:{i}", host.edge)
        assert net.absent == {}
        with Netlink(at.switching) as netlink:
            netlink.submit(interfaces.delete(at.hosts[2].device))
        frame = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [frame]
        assert net.drops == {"fabric": {"EGRESS": 1}}
        (gone,) = net.mend()
        assert str(gone) == "s:2 gone: the device was deleted"
        assert [str(at) for at in net.absent] == ["s:2"]
        frame = at.hosts[0].send(None)
        assert at.hosts[1].captured(1) == [frame]
        assert net.drops == {"fabric": {"EGRESS": 1}}
        net.detach("s:2")
        assert net.absent == {}
        again = Host(2, at.switching)
        try:
            net.attach("s:2", again.edge)
            frame = at.hosts[0].send(None)
            assert again.captured(1) == [frame]
        finally:
            again.close()
        net.detach("s:2")


def test_reconfigured_at_egress(place: Places) -> None:
    """A function with an egress between two others, its configuration changed under the packets' feet."""
    at = place(2)
    with Network("gate", namespace=at.switching) as net:
        for name, function in (("a", Through()), ("gate", Gate()), ("b", Through())):
            net.add(name, function)
        net.link("a:outside", "gate:inside")
        net.link("gate:outside", "b:inside")
        net.attach("a:inside", at.hosts[0].edge)
        net.attach("b:outside", at.hosts[1].edge)
        exchange(*at.hosts)
        net.reconfigure("gate", open=0)
        at.hosts[0].send(at.hosts[1], times=4)
        assert at.hosts[1].captured() == []
        assert net.drops == {"gate": {"REQUIRED": 4}}
        net.reconfigure("gate", open=1)
        exchange(*at.hosts)


@pytest.mark.parametrize("drafted", [False, True])
def test_an_upgrade_brings_copies(place: Places, drafted: bool) -> None:
    """To one that copies, from one that never did."""
    at = place(2)
    with Network("copied", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)
        exchange(*at.hosts)
        if drafted:
            with net.revision() as draft:
                draft.upgrade("f", ThroughCopied)
        else:
            net.upgrade("f", ThroughCopied)
        frame = (b"\2\0\0\0\0\x09" + at.hosts[0].mac + b"\x88\xb5").ljust(60, b"\0")
        at.hosts[0].socket.send(frame)
        assert at.hosts[1].captured(1) == [frame] and at.hosts[0].captured(1) == [frame]
        assert until(lambda: net.balance().exact) and net.balance().copies == 1


def test_upgrade_keeps_the_tables(place: Places) -> None:
    at = place(2)
    with Network("upgraded", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)
        exchange(*at.hosts)
        fresh = net.upgrade("f", ThroughAgain)
        assert isinstance(fresh, ThroughAgain) and net.instances["f"].function is fresh
        exchange(*at.hosts)
        assert sum(count.packets for count in fresh.seen.every(0)) == 10
        with pytest.raises(ValueError, match=r"Differs cannot take over the tables of f: nothing says .*\n"
                                             r"    seen\n        is        counter .* per CPU\n"
                                             r"        would be  hash 32 bits -> 64 bits"):
            net.upgrade("f", Differs)
        exchange(*at.hosts)
        assert net.upgrade("f") is fresh
        exchange(*at.hosts)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_errors_are_clear_and_change_nothing(place: Places) -> None:
    at = place(2)
    with Network("errors", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.add("f", Through())
        net.link("lan:1", "f:inside")
        net.attach("lan:0", at.hosts[0].edge)
        for what, message in (
                (lambda: net.add("lan", Switch()), "errors has an instance 'lan' already"),
                (lambda: net.add("a:b", Switch()), "'a:b' cannot name an instance"),
                (lambda: net.add("fabric", Switch()), "'fabric' is what stands between instances"),
                (lambda: net.link("wan:0", "lan:2"), "there is no instance 'wan'; instances are lan, f"),
                (lambda: net.link("lan", "f:outside"), "'lan' names no port: write instance:port"),
                (lambda: net.link("lan:2", "f:middle"), "f has no port 'middle'; its ports are inside, outside"),
                (lambda: net.link("lan:256", "f:outside"), "lan has no port 256; it has 256, from 0"),
                (lambda: net.link("lan:1", "f:outside"), "lan:1 is joined to f:0 already"),
                (lambda: net.link("lan:0", "f:outside"), "lan:0 is joined to device 5000 already"),
                (lambda: net.link("f:outside", "f:outside"), "f:1 cannot be linked to itself"),
                (lambda: net.unlink("lan:0"), "lan:0 is attached to a device, not linked: use detach"),
                (lambda: net.unlink("lan:7"), "lan:7 is joined to nothing"),
                (lambda: net.detach("lan:1"), "lan:1 is linked to f:0, not attached to a device: use unlink"),
                (lambda: net.detach("f:outside"), "f:1 is joined to nothing"),
                (lambda: net.attach("lan:2", Edge(5000)), "device 5000 is attached to lan:0 already"),
                (lambda: net.remove("lan"), "lan is still joined at lan:1, lan:0"),
                (lambda: net.remove("wan"), "there is no instance 'wan'"),
                (lambda: net.insert("lan:0", "f:inside", "f:outside"), "lan:0 is attached to a device, not linked"),
                (lambda: net.traffic("lan:9"), "lan:9 is joined to nothing"),
                (lambda: net.upgrade("f", Switch), "f has the ports"),
        ):
            with pytest.raises(ValueError) as caught:
                what()
            assert message in str(caught.value)
        for _ in range(3):
            with pytest.raises(KernelError):
                net.attach("f:outside", Edge(4999))
        assert set(map(str, net.joins)) == {"lan:0", "lan:1", "f:0"}
        net.attach("f:outside", at.hosts[1].edge)
        assert at.hosts[0].ping(at.hosts[1])


def test_many_cycles_leave_nothing(place: Places) -> None:
    """The fixture `leaks` counts; here, that descriptors do not pile up meanwhile, and devices go."""
    from tests.leaks import open_descriptors
    at = place(2)
    before = len(open_descriptors())
    for _ in range(20):
        with Network("cycle", namespace=at.switching) as net:
            line(net, 2)
            net.attach("s0:0", at.hosts[0].edge)
            net.attach("s1:0", at.hosts[1].edge)
            net.detach("s0:0")
            net.unlink("s0:1")
    assert len(open_descriptors()) == before
    with Netlink(at.switching) as netlink:
        assert [i.name for i in interfaces.listing(netlink)] == ["lo", "p0", "p1"]
