"""Networks that share a device with each other and with the host: who gets which frame, exactly."""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iovisor.fabric import Device, Edge, Network, Share
from iovisor.kernel import Netlink, NetworkNamespace, interfaces, neighbours
from iovisor.testing.capture import Capture
from tests.fabric.functions import Gate, Hub
from tests.fabric.hosts import BROADCAST, Host, Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ONE, TWO, THREE = "02:00:00:00:01:01", "02:00:00:00:01:02", "02:00:00:00:01:03"
ROOT = Path(__file__).parents[2]


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(to: str | bytes, source: str | bytes, vlan: int = 0, payload: bytes = b"") -> bytes:
    to, source = (mac if isinstance(mac, bytes) else packed(mac) for mac in (to, source))
    tag = b"\x81\0" + vlan.to_bytes(2, "big") if vlan else b""
    return (to + source + tag + b"\x88\xb5" + payload).ljust(60, b"\0")


class Shared:
    """Host 0 is the wire; its other end, p0, is the device that is shared.  The hosts behind it are the networks'."""

    def __init__(self, at: Place) -> None:
        self.at, self.wire, self.inside = at, at.hosts[0], at.hosts[1:]
        self.captures = [Capture(host.namespace, "eth0") for host in at.hosts]

    def took(self, host: Host, count: int = 0) -> list[bytes]:
        """What a host received since it was last asked, tags included."""
        capture = self.captures[host.number]
        found = capture.wait(count, settle=0.05 if count else 0.15)
        capture.clear()
        return found

    def network(self, name: str, share: Share, number: int, function: type[Hub] | type[Gate] = Hub) -> Network:
        net = Network(name, namespace=self.at.switching)
        try:
            net.add("lan", function())
            near, far = ("lan:0", "lan:1") if function is Hub else ("lan:inside", "lan:outside")
            net.attach(near, self.inside[number].edge)
            net.attach(far, share)
        except BaseException:
            net.close()
            raise
        return net


@pytest.fixture
def shared(place: Places) -> Iterator[Shared]:
    found = Shared(place(4))
    yield found
    for capture in found.captures:
        capture.close()


def host_gets(at: Place, wire: Host, sent: bytes) -> int:
    """How many of it the host's stack receives: its device counts what no program took."""
    import socket
    with at.switching.entered():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
    with opened:
        opened.bind(("p0", 0x88b5))
        opened.settimeout(0.3)
        wire.socket.send(sent)
        count = 0
        try:
            while True:
                if opened.recv(2000) == sent:
                    count += 1
        except TimeoutError:
            return count


@pytest.mark.parametrize("function", [Hub, Gate])
def test_each_gets_its_own_and_the_host_the_rest(shared: Shared, function: type[Hub] | type[Gate]) -> None:
    wire, (a, b, c) = shared.wire, shared.inside
    with (shared.network("red", Share("p0", macs=[ONE, TWO]), 0, function) as red,
          shared.network("blue", Share("p0", macs=[THREE]), 1, function),
          shared.network("tagged", Share("p0", vlans=[7, 8]), 2, function) as tagged):
        everybody = [a, b, c]

        def get(sent: bytes, *expected: Host) -> None:
            wire.socket.send(sent)
            assert {h.number: shared.took(h, 1) for h in expected} == {h.number: [sent] for h in expected}
            assert [shared.took(host) for host in everybody if host not in expected] == [[]] * (3 - len(expected))

        get(frame(ONE, wire.mac), a)
        get(frame(TWO, wire.mac), a)
        get(frame(THREE, wire.mac), b)
        get(frame("02:00:00:00:09:09", wire.mac))
        get(frame(ONE, wire.mac, 7), c)
        get(frame("02:00:00:00:09:09", wire.mac, 8), c)
        get(frame(ONE, wire.mac, 9))
        get(frame(BROADCAST, wire.mac), a, b)
        get(frame(BROADCAST, wire.mac, 7), c)
        get(frame(bytes.fromhex("01005e000001"), wire.mac), a, b)
        assert host_gets(shared.at, wire, frame("02:00:00:00:09:09", wire.mac, 0, b"host")) == 1
        assert host_gets(shared.at, wire, frame(BROADCAST, wire.mac, 0, b"all")) == 1
        for host in everybody:
            shared.took(host)
        # And out: each from what is its own, and never to a neighbour on the device.
        for host, sent in ((a, frame(THREE, ONE)), (a, frame(BROADCAST, TWO)), (b, frame(ONE, THREE)),
                           (c, frame(ONE, "02:00:00:00:0c:0c", 7))):
            host.socket.send(sent)
            assert shared.took(wire, 1) == [sent]
        assert [shared.took(host) for host in everybody] == [[], [], []]
        for host, sent in ((a, frame(BROADCAST, THREE)), (a, frame(BROADCAST, ONE, 7)), (c, frame(BROADCAST, ONE)),
                           (c, frame(BROADCAST, ONE, 9))):
            host.socket.send(sent)
            assert shared.took(wire) == []
        assert until(lambda: red.drops == {"fabric": {"FOREIGN": 2}} == tagged.drops)
        assert until(lambda: red.balance().exact)
        received, left = red.traffic("lan:1" if function is Hub else "lan:outside")
        assert (received.packets, left.packets) == (5, 2)


def test_access_to_a_vlan(shared: Shared) -> None:
    wire, inside = shared.wire, shared.inside[0]
    with shared.network("access", Share("p0", macs=[ONE], vlans=[7], access=True), 0) as net:
        for to in (packed(ONE), BROADCAST):
            wire.socket.send(frame(to, wire.mac, 7, b"x" * 50))
            assert shared.took(inside, 1) == [frame(to, wire.mac, 0, b"x" * 50)]
            wire.socket.send(frame(to, wire.mac))
            assert shared.took(inside) == []
        inside.socket.send(frame(wire.mac, ONE, 0, b"y" * 50))
        assert shared.took(wire, 1) == [frame(wire.mac, ONE, 7, b"y" * 50)]
        inside.socket.send(frame(wire.mac, ONE, 7))
        inside.socket.send(frame(wire.mac, ONE, 9))
        assert shared.took(wire) == []
        assert until(lambda: net.drops == {"fabric": {"FOREIGN": 2}})


def test_a_frame_too_long_for_a_shared_device(shared: Shared) -> None:
    with shared.network("long", Share("p0", macs=[ONE]), 0) as net, Netlink(shared.at.switching) as netlink:
        netlink.submit(interfaces.change("p0", mtu=1000))
        assert [change.reason for change in net.mend()] == ["its MTU is 1000"]
        for length in (1014, 1015):
            shared.inside[0].socket.send(frame(shared.wire.mac, ONE).ljust(length, b"l"))
        assert [len(found) for found in shared.took(shared.wire, 1)] == [1014]
        assert until(lambda: net.drops == {"fabric": {"TOO_LONG": 1}})


def test_clashes_name_the_holder_and_change_nothing(shared: Shared) -> None:
    at = shared.at
    with shared.network("red", Share("p0", macs=[ONE], vlans=[5]), 0), Network("late", namespace=at.switching) as late:
        late.add("lan", Hub())
        for what, message in (
                (Share("p0", macs=[ONE], vlans=[5, 6]),
                 f"lan:2: frames to {ONE} in VLAN 5 on p0 belong to network red at lan:1"),
                (Share("p0", vlans=[5]), f"lan:2: frames to {ONE} in VLAN 5 on p0 belong to network red at lan:1"),
                (Device("p0"), "lan:2: network red at lan:1 has a share of device 5000: attach a share of it, too"),
                (Edge(5000), "lan:2: network red at lan:1 has a share of device 5000: attach a share of it, too"),
                (Share("p9", vlans=[5]), "there is no device p9 in the switching namespace"),
        ):
            with pytest.raises(ValueError) as caught:
                late.attach("lan:2", what)
            assert str(caught.value) == message
            assert late.joins == {}
        late.attach("lan:2", Share("p0", macs=[ONE]))                   # without a tag
        late.attach("lan:3", Share("p0", macs=[TWO], vlans=[5]))
        with pytest.raises(ValueError, match=r"frames to .* in VLAN 5 on p0 belong to network late at lan:3"):
            late.attach("lan:1", Share("p0", macs=[TWO], vlans=[5]))
        shared.wire.socket.send(frame(ONE, shared.wire.mac, 5))
        assert len(shared.took(shared.inside[0], 1)) == 1


HOLDER = """
import sys, time
from iovisor.fabric import Network, Share
from iovisor.kernel import NetworkNamespace
from tests.fabric.functions import Hub
net = Network("elsewhere", namespace=NetworkNamespace(int(sys.argv[1])))
net.add("lan", Hub())
net.attach("lan:0", Share("p0", vlans=[12]))
print("ready", flush=True)
time.sleep(1000)
"""


def test_the_holder_may_be_another_process_and_its_claim_dies_with_it(shared: Shared) -> None:
    switching = shared.at.switching
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(switching.fd)], stdout=subprocess.PIPE, text=True,
                          pass_fds=[switching.fd], cwd=ROOT) as holder, Network("here", namespace=switching) as net:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
            net.add("lan", Hub())
            with pytest.raises(ValueError, match="all frames in VLAN 12 on p0 belong to network elsewhere at lan:0"):
                net.attach("lan:0", Share("p0", vlans=[12]))
        finally:
            holder.kill()
        holder.wait()

        def attached() -> bool:
            try:
                net.attach("lan:0", Share("p0", vlans=[12]))
            except ValueError:
                return False
            return True
        assert until(attached)
    with Netlink(switching) as netlink:         # what the dead one has left, as a network without pins does
        for there in interfaces.listing(netlink):
            if there.name.startswith("a"):
                netlink.attempt(interfaces.delete(there.index))


def accepted(namespace: NetworkNamespace) -> set[str]:
    with Netlink(namespace) as netlink:
        return {entry.mac.hex(":") for entry in neighbours.forwarding(netlink) if entry.mac.startswith(b"\2\0\0\0\1")}


def promiscuous(namespace: NetworkNamespace) -> bool:
    with Netlink(namespace) as netlink:
        found = interfaces.find(netlink, "p0")
    assert found is not None
    return found.promiscuous


def test_the_device_is_given_back_as_it_was(shared: Shared) -> None:
    switching = shared.at.switching
    with Netlink(switching) as netlink:
        netlink.submit(neighbours.accept(5000, packed(TWO)))            # somebody else's
    with ExitStack() as undo:
        first = undo.enter_context(shared.network("red", Share("p0", macs=[ONE, TWO]), 0))
        assert accepted(switching) == {ONE, TWO} and not promiscuous(switching)
        second = undo.enter_context(shared.network("blue", Share("p0", vlans=[3]), 1))
        assert promiscuous(switching)
        second.detach("lan:1")
        assert not promiscuous(switching)
        first.detach("lan:1")
        assert accepted(switching) == {TWO}
    assert accepted(switching) == {TWO}
