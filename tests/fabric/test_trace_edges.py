"""What the fabric does at edges is in a trace: each packet is sent, too, and what was said is what happened."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from iovisor.fabric import Edge, Network, Share, Storm, Trace
from iovisor.kernel import Netlink, interfaces
from iovisor.testing.packets import ethernet, vlan
from tests.conftest import settled
from tests.fabric.functions import Gate, Through
from tests.fabric.hosts import Host, Place
from tests.fabric.marking import Spread

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


def frame(host: Host, size: int = 60, tag: int = 0, source: str = "") -> bytes:
    head = ethernet(dst="ff:ff:ff:ff:ff:ff", src=source or f"02:00:00:00:00:{host.number + 1:02x}")
    return bytes((head / vlan(vid=tag) if tag else head) / bytes(size - 14))


@contextmanager
def foretold(net: Network, sender: Host, data: bytes, at: str, receivers: list[Host]) -> Iterator[Trace]:
    """Trace it, send it, and compare every end."""
    trace = net.trace(data, at)
    assert not trace.disagreements and trace.complete
    before = Counter({(name, reason): count for name, drops in net.drops.items() for reason, count in drops.items()})
    for host in receivers:
        host.captured(wait=0.01)
    sender.socket.send(data)
    settled(net)
    after = Counter({(name, reason): count for name, drops in net.drops.items() for reason, count in drops.items()})
    expected = Counter({(name, reason): n for name, drops in trace.drops.items() for reason, n in drops.items()})
    assert after - before == expected, str(trace)
    for host in receivers:
        wanted = [end.frame for end in trace.delivered if end.device == host.device]
        found = host.captured(len(wanted)) if wanted else host.captured(wait=0.03)
        assert len(found) == len(wanted), str(trace)
    yield trace


def resized(at: Place, host: Host, mtu: int) -> None:
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.change(host.device, mtu=mtu))


@pytest.mark.parametrize("peer", [True, False])
@pytest.mark.parametrize("kind", [Through, Gate, Spread])
def test_what_is_too_long(place: Places, kind: type, peer: bool) -> None:
    at = place(3)
    x, y, z = at.hosts
    with Network("long", namespace=at.switching) as net:
        net.add("f", kind())
        resized(at, y, 1000)
        net.attach("f:0", x.edge)
        net.attach("f:1", Edge(y.device, peer))
        if kind is Spread:
            net.attach("f:2", Edge(z.device, peer))
        for size, tag, fits in ((1014, 0, True), (1015, 0, False), (1014, 7, True), (1015, 7, False)):
            with foretold(net, x, frame(x, size, tag), "f:0", [y, z]) as trace:
                assert trace.drops == ({} if fits else {"fabric": {"TOO_LONG": 1}})
                assert len(trace.delivered) == fits + (kind is Spread)
        resized(at, y, 1200)                                # nobody has looked, and the kernel asks the device
        with foretold(net, x, frame(x, 1200), "f:0", [y, z]) as trace:
            assert trace.drops == {}


@pytest.mark.parametrize("kind", [Through, Gate, Spread])
@pytest.mark.parametrize("share, sent", [
    (Share("p1", macs=["02:00:00:00:00:01"]), [(0, "", 1), (0, "02:00:00:00:00:09", 0), (5, "", 0)]),
    (Share("p1", vlans=[5, 6]), [(5, "", 1), (6, "02:00:00:00:00:09", 1), (7, "", 0), (0, "", 0)]),
    (Share("p1", macs=["02:00:00:00:00:01"], vlans=[5]), [(5, "", 1), (5, "02:00:00:00:00:09", 0)]),
    (Share("p1", vlans=[5], access=True), [(0, "", 1), (5, "", 0)])], ids=["macs", "vlans", "both", "access"])
def test_what_a_share_may_not_send(place: Places, kind: type, share: Share, sent: list[tuple[int, str, int]]) -> None:
    at = place(2)
    x, y = at.hosts
    with Network("shared", namespace=at.switching) as net:
        net.add("f", kind())
        net.attach("f:0", x.edge)
        net.attach("f:1", share)
        for tag, source, passes in sent:
            with foretold(net, x, frame(x, 60, tag, source), "f:0", [y]) as trace:
                assert trace.drops == ({} if passes else {"fabric": {"FOREIGN": 1}})
                if passes and share.access:
                    assert trace.delivered[0].frame[12:16] == b"\x81\0\0\x05"


@pytest.mark.parametrize("burst, refused", [(1, 1), (3, 2), (60, 0)])
def test_what_is_over_the_budget(place: Places, burst: int, refused: int) -> None:
    """A hub with a host, and six hubs with nobody: copies for them are charged, and a copy a second is paid."""
    at = place(1)
    with Network("storm", namespace=at.switching) as net:
        names = [f"h{number}" for number in range(6)]
        net.add("hub", Spread())
        net.add("second", Spread())
        for name in names:
            net.add(name, Spread())
        net.attach("hub:0", at.hosts[0].edge)
        for port, name in enumerate(names[:2], 1):
            net.link(f"hub:{port}", f"{name}:0")
        net.link("hub:3", "second:0")
        for port, name in enumerate(names[2:5], 1):
            net.link(f"second:{port}", f"{name}:0")
        net.limit_flooding(Storm(rate=1, burst=burst))
        data = frame(at.hosts[0])
        with foretold(net, at.hosts[0], data, "hub:0", []) as trace:
            assert trace.drops.get("fabric", {}) == ({"STORM": refused} if refused else {})


def test_what_is_absent_or_down(place: Places) -> None:
    at = place(3)
    x, y, z = at.hosts
    with Network("away", namespace=at.switching) as net:
        net.add("f", Spread())
        for port, host in enumerate(at.hosts):
            net.attach(f"f:{port}", host.edge)
        with Netlink(at.switching) as netlink:
            netlink.submit(interfaces.delete(y.device), interfaces.change(z.device, up=False))
        net.mend()
        trace = net.trace(frame(x), "f:0")
        assert not trace.disagreements
        assert [(end.device, end.text) for end in trace.delivered] == [(z.device, f"device {z.device}, which is down")]
