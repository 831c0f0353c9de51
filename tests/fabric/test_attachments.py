"""Cables, TAPs and devices at the edges: made, found, described, and given back as they were; on real packets."""
from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from iovisor.fabric import Device, Edge, Network, Share, Tap, Veth
from iovisor.fabric.attachments import document, parse
from iovisor.functions.switch import Switch
from iovisor.kernel import (
    AttachType,
    Direction,
    KernelError,
    Link,
    Netlink,
    NetlinkError,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
    interfaces,
    offloads,
)
from iovisor.kernel.assembler import assemble, leave
from iovisor.kernel.interfaces import Interface
from iovisor.kernel.namespaces import delete
from iovisor.kernel.offloads import Offload
from tests.fabric.functions import Gate, Hub
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


@pytest.fixture
def named() -> Iterator[Callable[[str], str]]:
    """Names of namespaces that are gone afterwards, made by the test or by us."""
    with ExitStack() as undo:
        def name(what: str) -> str:
            full = f"edge-{os.getpid()}-{what}"
            undo.callback(delete, full)
            return full
        yield name


def devices(namespace: NetworkNamespace) -> dict[str, Interface]:
    with Netlink(namespace) as netlink:
        return {there.name: there for there in interfaces.listing(netlink) if there.name != "lo"}


def pings(namespace: NetworkNamespace, address: str, count: int = 3, size: int = 56) -> bool:
    done = namespace.execute(["ping", "-n", "-c", str(count), "-i", "0.02", "-W", "2", "-s", str(size), address],
                             capture_output=True, text=True, check=False)
    return f" {count} received" in done.stdout


@contextmanager
def frames(namespace: NetworkNamespace, device: str) -> Iterator[socket.socket]:
    """A socket that sends and receives whole frames."""
    with namespace.entered():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
    with opened:
        opened.bind((device, 0x88b5))
        opened.settimeout(10)
        yield opened


# -- cables -----------------------------------------------------------------------------------------------------------


def test_cables_into_namespaces_by_every_name(place: Places, named: Callable[[str], str]) -> None:
    at, made, there = place(1), named("made"), named("there")
    with NetworkNamespace.create(there) as existing, NetworkNamespace.create() as anonymous:
        with Network("shop", namespace=at.switching, mtu=1400) as net:
            net.add("lan", Switch())
            net.attach("lan:0", at.hosts[0].edge)
            edges = net.attach_all({
                "lan:1": Veth(made, create=True, addresses=["10.0.0.11/24", "fd00::11/64"], gateway="10.0.0.1"),
                "lan:2": Veth(there, name="cable", mac="02:00:00:00:00:12", addresses=["10.0.0.12/24"],
                              routes={"192.0.2.0/24": "10.0.0.1", "198.51.100.0/24": ""}, mtu=1300),
                "lan:3": Veth(f"/proc/self/fd/{anonymous.fd}", addresses=["10.0.0.13/24"]),
                "lan:4": Veth(existing.fd, name="again", addresses=["10.0.0.14/24"])})
            assert all(edge.peer for edge in edges) and [edge.mtu for edge in edges] == [1400, 1300, 1400, 1400]
            assert len({edge.index for edge in edges}) == 4 and all(edge.index >= 1 << 28 for edge in edges)
            for number in range(1, 5):
                assert pings(at.hosts[0].namespace, f"10.0.0.1{number}")
            with NetworkNamespace.open(made) as room:
                assert pings(room, "10.0.0.12") and pings(room, "127.0.0.1", 1)
                eth0 = devices(room)["eth0"]
                assert (eth0.mtu, eth0.index, eth0.peer) == (1400, edges[0].index + 1, edges[0].index)
                assert offloads.read("eth0", room)[Offload.SEGMENTATION]
                routes = room.execute(["ip", "route"], capture_output=True, text=True).stdout
                assert "default via 10.0.0.1 dev eth0" in routes
            routes = existing.execute(["ip", "route"], capture_output=True, text=True).stdout
            assert "192.0.2.0/24 via 10.0.0.1 dev cable" in routes and "198.51.100.0/24 dev cable" in routes
            assert devices(existing)["cable"].mac == b"\2\0\0\0\0\x12"
            ours = devices(at.switching)
            outer = ours[f"e{edges[1].index:x}"]
            assert (outer.alias, outer.mtu, outer.up) == ("iovisor shop lan:2", 1300, True)
            assert {there.group for name, there in ours.items() if name != "p0"} == {outer.group} != {0}
            # What the first says while the others are not yet up is refused by their devices.
            assert set(net.drops) <= {"fabric"} and set(net.drops.get("fabric", {})) <= {"EGRESS"}
            net.detach("lan:1")
            assert made not in NetworkNamespace.names()
            net.detach("lan:2")
            assert there in NetworkNamespace.names() and set(devices(existing)) == {"again"}
            assert pings(at.hosts[0].namespace, "10.0.0.13")
        assert set(devices(at.switching)) == {"p0"} and devices(existing) == {} == devices(anonymous)


def test_a_leg_in_the_switching_namespace_is_no_peer_elsewhere(place: Places) -> None:
    at = place(1)
    with Network("host", namespace=at.switching) as net:
        net.add("lan", Switch())
        net.attach("lan:0", at.hosts[0].edge)
        assert not net.attach("lan:1", Veth(name="leg", addresses=["10.0.0.50/24"])).peer
        assert pings(at.hosts[0].namespace, "10.0.0.50")
    assert set(devices(at.switching)) == {"p0"}


def test_an_index_that_is_taken_is_chosen_again(place: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    at, numbers = place(1), iter([1, 1, 5, 1, 5, 2, 3, 4])
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.veth("a", "b", index=0x10000002, peer_index=0x10000020))
    with Netlink(at.hosts[0].namespace) as netlink:
        netlink.submit(interfaces.veth("a", "b", index=0x1000000b, peer_index=0x10000020))
    with Network("unlucky", namespace=at.switching) as net:
        monkeypatch.setattr("iovisor.fabric.devices.secrets.randbelow", lambda bound: next(numbers))
        net.add("lan", Switch())
        # Of the two, the first finds 1 taken here, and 5 there; the second 1, then has 5's neighbour.
        edge, = net.attach_all({"lan:0": Veth(at.hosts[0].namespace, name="one")}),
        assert edge[0].index == 0x10000004 or edge[0].index == 0x10000006
        monkeypatch.undo()


def test_what_cannot_be_made_changes_nothing(place: Places, named: Callable[[str], str]) -> None:
    at, made = place(2), named("made")
    host = at.hosts[0].namespace
    with Network("refused", namespace=at.switching) as net:
        net.add("lan", Switch())
        before, inside = set(devices(at.switching)), set(devices(host))
        for what, kind, message in (
                (Veth(host), ValueError, "lan:1: a namespace without a name has a device eth0 already"),
                (Veth("nowhere-at-all"), KernelError, "nowhere-at-all"),
                (Veth("/proc/self/nowhere"), KernelError, "/proc/self/nowhere"),
                (Veth(host, name="x", gateway="203.0.113.1"), NetlinkError, "route add"),
                (Tap("p1"), ValueError, "lan:1: there is a device p1 already; to attach it as it is use Device('p1')"),
                (Device("eth7"), ValueError, "there is no device eth7 in the switching namespace"),
                (Device(mac="02:00:00:00:77:77"), ValueError, "no devices in the switching namespace are "),
                (Edge(77), KernelError, "device 77"),
        ):
            with pytest.raises(kind) as caught:
                net.attach_all({"lan:0": Veth(made, create=True), "lan:1": what, "lan:2": Device("p0")})
            assert message in str(caught.value)
            assert net.joins == {}
            assert set(devices(at.switching)) - before <= {f"a{net._around.index:x}", f"a{net._around.index:x}p"}
            assert set(devices(host)) == inside and made not in NetworkNamespace.names()
            assert not devices(at.switching)["p0"].promiscuous
        with NetworkNamespace.create(made), pytest.raises(ValueError, match=r"there is a namespace .* already: leave"):
            net.attach("lan:0", Veth(made, create=True))
        assert made in NetworkNamespace.names()


@pytest.mark.parametrize(("what", "message"), [
    (lambda: Veth("a", name="a b"), "'a b' cannot name a device"),
    (lambda: Veth("a", mtu=60), "an MTU is 68 to 65535 bytes"),
    (lambda: Veth("a", addresses="10.0.0.1/24"), r"addresses are a list: \['10.0.0.1/24'\]"),
    (lambda: Veth("a", addresses=["10.0.0.1"]), "lacks its prefix length: write 10.0.0.1/24"),
    (lambda: Veth("a", mac="03:00:00:00:00:01"), "is the MAC of a group"),
    (lambda: Veth("/run/netns/a", create=True), "a namespace is created by name"),
    (lambda: Tap("a/b"), "cannot name a device"),
    (lambda: Device(), "a device is found by name or by MAC: give one"),
    (lambda: Share("eth0"), r"needs MACs or VLANs; for all of it use Device\('eth0'\)"),
    (lambda: Share("eth0", macs="02:00:00:00:00:01"), "macs are a list"),
    (lambda: Share("eth0", macs=["33:33:00:00:00:01"]), "those go to every share"),
    (lambda: Share("eth0", vlans=[4095]), "a VLAN is 1 to 4094, not 4095"),
    (lambda: Share("eth0", vlans=[1, 2], access=True), "access is to one VLAN, not to 2"),
    (lambda: Share("eth0", vlans=range(1, 70)), "at most 64"),
])
def test_impossible_attachments(what: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        what()


def test_attachments_are_documents() -> None:
    for attachment in (Veth("a", addresses=["10.0.0.1/24"], routes={"default": "10.0.0.2"}, create=True),
                       Tap("vm", 9000), Device(mac="02-00-00-00-00-0A"), Veth(), Edge(7),
                       Share("eth0", ["02:00:00:00:00:01"], [5], access=True)):
        assert parse(document(attachment)) == attachment
    with NetworkNamespace.current() as here, parse_room(document(Veth(here))) as nothing:
        assert nothing


@contextmanager
def parse_room(found: object) -> Iterator[bool]:
    """A namespace without a name cannot be found again."""
    veth = parse(found)  # type: ignore[arg-type]
    assert isinstance(veth, Veth)
    with pytest.raises(KernelError, match="a namespace without a name"):
        veth.room()
    yield True


# -- the other end at once --------------------------------------------------------------------------------------------


def test_packets_are_handed_over_only_where_nothing_is_left_out(place: Places) -> None:
    at = place(2)
    one, two = at.hosts
    spec = ProgramSpec("policy", ProgramKind.SCHED_CLS, assemble(leave(-1)), "GPL",
                       expected_attach_type=AttachType.TCX_EGRESS)

    def attached(net: Network) -> bool:
        edge = net.attach("lan:1", Device("p1"))
        assert pings(one.namespace, two.address)
        net.detach("lan:1")
        return edge.peer

    with Network("peers", namespace=at.switching) as net:
        net.add("lan", Switch())
        assert net.attach("lan:0", one.edge).peer
        assert attached(net)
        assert not net.attach("lan:1", Edge(two.device, peer=False)).peer       # asked for
        assert pings(one.namespace, two.address)
        net.detach("lan:1")
        at.switching.execute(["tc", "qdisc", "add", "dev", "p1", "root", "tbf", "rate", "1gbit", "burst", "64k",
                              "latency", "50ms"])
        assert not attached(net)
        shown = at.switching.execute(["tc", "-s", "qdisc", "show", "dev", "p1"], capture_output=True, text=True).stdout
        assert int(shown.partition("Sent ")[2].split()[2]) >= 3                 # they waited in it
        at.switching.execute(["tc", "qdisc", "del", "dev", "p1", "root"])
        at.switching.execute(["tc", "qdisc", "add", "dev", "p1", "clsact"])
        assert not attached(net)
        at.switching.execute(["tc", "qdisc", "del", "dev", "p1", "clsact"])
        assert attached(net)
        with Program.load(spec) as policy, Link.tcx(policy, two.device, Direction.EGRESS, namespace=at.switching):
            assert not attached(net)
        assert attached(net)


# -- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("egress", [False, True])
def test_a_frame_too_long_is_a_named_drop(place: Places, named: Callable[[str], str], egress: bool) -> None:
    """To one that was learned, and as a copy to all; TCP is cut to what fits."""
    at, small = place(1), named("small")
    with Network("lengths", namespace=at.switching) as net:
        net.add("lan", Hub() if not egress else Gate())
        ports = ("lan:0", "lan:1") if not egress else ("lan:inside", "lan:outside")
        net.attach(ports[0], at.hosts[0].edge)
        edge = net.attach(ports[1], Veth(small, create=True, addresses=["10.0.0.9/24"], mtu=1000))
        with NetworkNamespace.open(small) as room, frames(room, "eth0") as there:
            fits, long = at.hosts[0].frame(None).ljust(1014, b"f"), at.hosts[0].frame(None).ljust(1015, b"l")
            for frame in (fits, long, fits):
                at.hosts[0].socket.send(frame)
            assert [there.recv(2000), there.recv(2000)] == [fits, fits]
            assert until(lambda: net.drops == {"fabric": {"TOO_LONG": 1}})
            at.switching.execute(["ip", "link", "set", f"e{edge.index:x}", "mtu", "1200"])
            assert [change.reason for change in net.mend()] == ["its MTU is 1200"]
            room.execute(["ip", "link", "set", "eth0", "mtu", "1200"])
            at.hosts[0].socket.send(long)
            assert there.recv(2000) == long
            assert net.drops == {"fabric": {"TOO_LONG": 1}}
            assert until(lambda: net.balance().exact)


def test_aggregates_pass_where_their_segments_fit(place: Places) -> None:
    at = place(2)
    with Network("aggregates", namespace=at.switching) as net:
        net.add("lan", Switch())
        for i, host in enumerate(at.hosts):
            net.attach(f"lan:{i}", host.edge)
        sender, receiver = (host.namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                            for host in at.hosts)
        with sender, receiver:
            receiver.bind((at.hosts[1].address, 7000))
            receiver.listen()
            sender.settimeout(10)
            sender.connect((at.hosts[1].address, 7000))
            accepted = receiver.accept()[0]
            accepted.settimeout(10)
            with accepted:
                sender.sendall(bytes(1 << 18))
                left = 1 << 18
                while left:
                    left -= len(accepted.recv(1 << 18))
        assert net.drops == {}
        traffic = net.traffic("lan:1")[1]
        assert traffic.bytes / traffic.packets > 2000                           # aggregates, not segments


# -- TAPs -------------------------------------------------------------------------------------------------------------


def test_a_machine_with_a_descriptor_and_one_by_name(place: Places) -> None:
    at = place(1)
    with Network("machines", namespace=at.switching) as net:
        net.add("lan", Hub())
        net.attach("lan:0", at.hosts[0].edge)
        first = net.attach("lan:1", Tap("vm1", persistent=False))
        second = net.attach("lan:2", Tap("vm2", mtu=2000))
        assert (first.peer, first.mtu, second.mtu) == (False, 1500, 2000)
        assert devices(at.switching)["vm2"].alias == "iovisor machines lan:2"
        assert offloads.read("vm1", at.switching)[Offload.SEGMENTATION]
        with pytest.raises(ValueError, match="lan:2 has no open TAP"):
            net.tap("lan:2")
        machine = net.tap("lan:1")
        from iovisor.kernel import Tap as Opened
        with Opened.create("vm2", at.switching, persistent=True, headers=True) as other:
            # The kernel notices that somebody has one open in its own time; until then it takes nothing.
            for tap in (machine, other):
                assert until(lambda tap=tap: bytes(10) + at.hosts[0].send(None) == tap.read())  # type: ignore[misc]
            reply = at.hosts[0].mac + b"\2\0\0\0\0\x71" + b"\x88\xb5" + bytes(46)
            machine.write(bytes(10) + reply)
            assert at.hosts[0].captured(1) == [reply]
            assert until(lambda: other.read() == bytes(10) + reply)
        net.detach("lan:1")
        assert "vm1" not in devices(at.switching)
    assert set(devices(at.switching)) == {"p0"}


def test_a_machines_unfinished_datagram_arrives_whole(place: Places) -> None:
    at = place(1)
    host = at.hosts[0]
    with Network("machine", namespace=at.switching) as net:
        net.add("lan", Hub())
        net.attach("lan:0", host.edge)
        net.attach("lan:1", Tap("vm", persistent=False))
        receiver = host.namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with receiver:
            receiver.bind((host.address, 7000))
            receiver.settimeout(10)
            source, destination = bytes([10, 0, 0, 99]), socket.inet_aton(host.address)
            body = struct.pack(">HHHH", 7000, 7000, 8 + 4, 0) + b"data"
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0) + source + destination
            total = sum(struct.unpack(">10H", head))
            total = ~((total & 0xffff) + (total >> 16)) & 0xffff
            head = head[:10] + total.to_bytes(2, "big") + head[12:]
            pseudo = sum(struct.unpack(">4H", source + destination)) + 17 + len(body)
            pseudo = (pseudo & 0xffff) + (pseudo >> 16)
            body = body[:6] + pseudo.to_bytes(2, "big") + body[8:]
            frame = host.mac + b"\2\0\0\0\0\x71" + b"\x08\0" + head + body
            net.tap("lan:1").write(struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 6) + frame)
            assert receiver.recv(100) == b"data"


# -- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_is_given_back_as_it_was(place: Places) -> None:
    at = place(3)
    mac = devices(at.switching)["p1"].mac.hex(":")
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.change("p2", promiscuous=True))
    before = devices(at.switching)
    with Network("whole", namespace=at.switching) as net:
        net.add("lan", Switch())
        assert net.attach("lan:0", Device("p0")) == Edge(at.hosts[0].device, True, 1500)
        assert net.attach("lan:1", Device(mac=mac)).index == at.hosts[1].device
        net.attach("lan:2", Device("p2"))
        exchange(*at.hosts[:2])
        assert all(there.promiscuous for name, there in devices(at.switching).items() if name.startswith("p"))
        with Network("other", namespace=at.switching) as other:
            other.add("lan", Switch())
            for what in (Device("p1"), Edge(at.hosts[1].device)):
                with pytest.raises(ValueError, match=f"lan:0: device {at.hosts[1].device} is attached to "
                                                     "network whole at lan:1 already"):
                    other.attach("lan:0", what)
            with pytest.raises(ValueError, match="lan:0: p1 is attached whole to network whole at lan:1"):
                other.attach("lan:0", Share("p1", vlans=[5]))
        exchange(*at.hosts[:2])
    after = devices(at.switching)
    assert {n: (d.promiscuous, d.up, d.mtu, d.alias, d.group) for n, d in before.items()} == {
        n: (d.promiscuous, d.up, d.mtu, d.alias, d.group) for n, d in after.items()}


def test_paths_are_kept_whole() -> None:
    assert Veth("./here").namespace == str(Path("here").absolute())
