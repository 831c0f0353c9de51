"""Packets are met at XDP, and go on at TC as if nothing had been: the same bytes, counters, drops and metadata.

What reaches tcx is counted by a program in front of ours there, so that it is seen where a packet ended.
"""
from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from iovisor.compiler.errors import CompileError
from iovisor.fabric import Device, Edge, Network, Tap, Veth
from iovisor.functions.ddos import Ddos
from iovisor.functions.mirror import Mirror
from iovisor.functions.nat import Nat
from iovisor.kernel import (
    AttachType,
    Direction,
    Link,
    Map,
    MapFlag,
    MapKind,
    MapSpec,
    Netlink,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
    interfaces,
)
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    Helper,
    Label,
    Line,
    add_atomically,
    assemble,
    call,
    compute,
    jump,
    jump_if,
    leave,
    load,
    map_value,
    move,
    store,
)
from iovisor.kernel.contexts import xdp_context
from iovisor.kernel.links import XdpMode
from iovisor.language import PortSet
from tests.fabric.functions import Gate, Hub, Learner, Marker, Older, SomeGatedHub, SomeHub, Tagger, Through
from tests.fabric.hosts import FAR, Host, Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
HOOKS = pytest.mark.parametrize("hook", ["xdp-native", "xdp-generic"])
NOTE = 32


@contextmanager
def counting(lines: list[Line], index: int, namespace: NetworkNamespace, direction: Direction = Direction.INGRESS,
             end: list[Line] | None = None) -> Iterator[Callable[[], tuple[int, int]]]:
    """A program in front of all others at a device: what `lines` send to `hit` is counted beside all packets."""
    code = assemble(move(R6, R1), map_value(R1, 0), move(R2, 1), add_atomically(R1, 0, R2), *lines, jump("on"),
                    Label("hit"), map_value(R1, 0), move(R2, 1), add_atomically(R1, 8, R2), Label("on"),
                    *(end or [leave(-1)]))
    spec = ProgramSpec("counting", ProgramKind.SCHED_CLS, code, "GPL", expected_attach_type=AttachType.TCX_INGRESS)
    with Map.create(MapSpec("counted", MapKind.ARRAY, 4, 16, 1, MapFlag.MMAPABLE)) as found, \
            Program.load(spec, [found]) as program, \
            Link.tcx(program, index, direction, first=True, namespace=namespace):
        def counts() -> tuple[int, int]:
            every, hit = struct.unpack("<QQ", found.lookup(bytes(4)) or b"")
            return every, hit
        yield counts


def experimental() -> list[Line]:
    """Frames of the tests' EtherType hit."""
    return [load(R2, R6, 16, 4), jump_if(R2, "==", 0xb588, "hit")]


def noted(secret: int | None) -> list[Line]:
    """Packets with metadata that begins with a number, or with any but zero, hit."""
    return [load(R2, R6, 140, 4), load(R3, R6, 76, 4), move(R4, R2), compute(R4, "+", 8), jump_if(R4, ">", R3, "on"),
            load(R5, R2, 0), *([move(R3, secret), jump_if(R5, "==", R3, "hit")] if secret is not None else
                               [jump_if(R5, "!=", 0, "hit")])]


def met(net: Network, port: str, host: Host, hook: str) -> Edge:
    return net.attach(port, Edge(host.device, hook=hook))


def risen(net: Network, name: str) -> bool:
    """Whether a function meets any device at XDP."""
    return net.instances[name].early is not None


@HOOKS
def test_what_is_dropped_never_reaches_tcx(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net, counting(experimental(), h0.device, at.switching) as came:
        net.add("gate", Gate())
        assert met(net, "gate:inside", h0, hook).hook == hook
        net.attach("gate:outside", h1.edge)
        frame = h0.send(h1, b"passes", times=3)
        assert h1.captured(3) == [frame] * 3 and came() == (3, 3)
        net.reconfigure("gate", open=0)
        h0.send(h1, b"does not", times=20)
        h1.send(h0, b"nor does this, at TC", times=2)
        assert until(lambda: net.drops == {"gate": {"REQUIRED": 22}}) and came() == (3, 3)
        assert net.traffic("gate:inside")[0].packets == 23 and net.traffic("gate:outside")[0].packets == 2
        assert net.balance().exact, net.balance()
        net.reconfigure("gate", open=1)
        assert h0.ping(h1, 2) and h1.ping(h0, 2)
        assert net.balance().exact, net.balance()


@HOOKS
def test_what_passes_is_what_it_was(place: Places, hook: str) -> None:
    """Bytes, tags, metadata and lengths, through three functions of which only the first runs at XDP."""
    at = place(2)
    h0, h1 = at.hosts
    tag: list[Line] = [load(R2, R6, 20, 4), jump_if(R2, "!=", 0, "hit")]
    with Network("early", namespace=at.switching) as net, counting(tag, FAR, h0.namespace) as back, \
            counting(tag, FAR + 1, h1.namespace) as there, counting(tag, h0.device, at.switching) as came:
        for name, kind in (("a", Marker), ("b", Tagger), ("c", Marker)):
            net.add(name, kind())
        net.link("a:outside", "b:outside")
        net.link("b:inside", "c:inside")
        met(net, "a:inside", h0, hook)
        net.attach("c:outside", h1.edge)
        sent = [h0.frame(h1, bytes([n % 251]) * n) for n in (0, 1, 46, 700, 1486)]
        tagged = [frame[:12] + b"\x81\0\0\x05" + frame[12:] for frame in sent]
        for frame in (*sent, *tagged):
            h0.socket.send(frame)
        # Tagger takes the tag away on this way; it marks nothing, and Marker counts to 2.
        assert sorted(h1.captured(10)) == sorted(sent + sent) and came() == (10, 5) and there() == (10, 0)
        got = [h1.frame(h0, bytes([n]) * 50) for n in range(3)]
        for frame in got:
            h1.socket.send(frame)
        assert h0.captured(3) == got and back() == (3, 3)
        assert net.traffic("a:inside")[0].packets == 10 and net.drops == {} and net.balance().exact


@HOOKS
def test_metadata_is_carried(place: Places, hook: str) -> None:
    """Marker drops what four of its kind have met: the first of five meets packets at XDP."""
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net:
        for n in range(5):
            net.add(f"m{n}", Marker())
        for n in range(4):
            net.link(f"m{n}:outside", f"m{n + 1}:inside")
        met(net, "m0:inside", h0, hook)
        net.attach("m4:outside", h1.edge)
        h0.send(h1, times=4)
        assert until(lambda: net.drops == {"m4": {"200": 4}})


@HOOKS
@pytest.mark.parametrize("kind", [Hub, SomeHub, SomeGatedHub])
def test_floods_go_on_as_floods(place: Places, kind: type, hook: str) -> None:
    at = place(4)
    h0, *others = at.hosts
    with Network("early", namespace=at.switching) as net:
        function = kind()
        net.add("hub", function)
        met(net, "hub:0", h0, hook)
        for n, host in enumerate(others, 1):
            net.attach(f"hub:{n}", host.edge)
        if kind is not Hub:
            function.sets[2] = PortSet.of({1, 3})
        frame = h0.send(others[0])                      # its address ends in 2, which names the set
        heard = [[frame]] * 3 if kind is Hub else [[frame], [], [frame]]
        assert [host.captured(len(wanted)) for host, wanted in zip(others, heard, strict=True)] == heard
        assert h0.captured() == [] and net.balance().exact, net.balance()


@HOOKS
def test_the_host_is_handed_what_is_for_it(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net, ExitStack() as undo:
        net.add("older", Older())
        met(net, "older:inside", h0, hook)
        net.attach("older:outside", h1.edge)
        listening = undo.enter_context(at.switching.run(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))))
        listening.setblocking(False)
        ip = bytes.fromhex("4500001c000000000111 0000 0a000001 0a000002".replace(" ", "")) + bytes(8)
        h0.socket.send(h1.mac + h0.mac + b"\x08\0" + ip)
        assert until(lambda: net.balance().handed == 1)
        assert net.balance().exact and net.balance().received == 1
        h0.socket.send(h1.mac + h0.mac + b"\x08\0" + ip[:8] + b"\x02" + ip[9:])
        assert h1.captured(1)[0][22] == 1


@HOOKS
def test_punts_come_back(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net:
        net.add("learner", Learner())
        met(net, "learner:inside", h0, hook)
        net.attach("learner:outside", h1.edge)
        frame = h0.send(h1, b"first")
        assert until(lambda: net.balance().punted == 1)
        import asyncio

        async def serve() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(net.serve(), 0.5)
        asyncio.run(serve())
        h0.send(h1, b"first")
        assert h1.captured(2) == [frame] * 2
        assert net.balance().exact, net.balance()


def test_who_meets_packets_where(place: Places) -> None:
    """What `xdp` becomes on soft devices; a device that has an XDP program; and everything is given back."""
    at = place(3)
    name = f"early-{id(at)}"
    with Network("early", namespace=at.switching) as net:
        net.add("hub", Hub())
        edges = net.attach_all({"hub:0": Veth(name, create=True, hook="xdp"), "hub:1": Tap("early", hook="xdp"),
                                "hub:2": Device("p0", hook="xdp"), "hub:3": Device("p1")})
        assert [edge.hook for edge in edges] == ["xdp-generic", "xdp-generic", "xdp-generic", "tc"]
        with Netlink(at.switching) as netlink:
            assert {there.name for there in interfaces.listing(netlink) if there.xdp_program} == {
                f"e{edges[0].index:x}", "early", "p0"}
        with Network("other", namespace=at.switching) as other:
            other.add("hub", Hub())
            drop = ProgramSpec("pass", ProgramKind.XDP, assemble(leave(2)), expected_attach_type=AttachType.XDP)
            with Program.load(drop) as program, Link.xdp(program, at.hosts[2].device, XdpMode.NATIVE,
                                                         namespace=at.switching), \
                    pytest.raises(ValueError, match="cannot be met at xdp-generic: it has an XDP program already"):
                other.attach("hub:0", Device("p2", hook="xdp"))
            assert other.joins == {} and not risen(other, "hub")
        net.detach("hub:0")
        net.detach("hub:1")
        assert risen(net, "hub")
        net.detach("hub:2")
        assert not risen(net, "hub")
        with Netlink(at.switching) as netlink:
            assert [there.name for there in interfaces.listing(netlink) if there.xdp_program] == []
    with pytest.raises(ValueError, match="there is no hook 'early': it is one of tc, xdp, xdp-native, xdp-generic"):
        Device("p0", hook="early")


def test_what_a_driver_cannot_the_stack_can(place: Places) -> None:
    """Frames that fill no page; and a device without XDP in its driver, for which `xdp` asks."""
    at = place(2)
    with Netlink(at.hosts[0].namespace) as netlink:
        netlink.submit(interfaces.change("eth0", mtu=9000))
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.change("p0", mtu=9000), interfaces.bridge("br0", index=77, up=True))
    with Network("early", namespace=at.switching) as net:
        net.add("hub", Hub())
        for name, what in (("p0", "5000 cannot be met at xdp-native: its MTU is too large for XDP in the driver: lower "
                                  "it, or say xdp-generic"),
                           ("br0", "77 cannot be met at xdp-native: its driver has no XDP: say xdp-generic")):
            with pytest.raises(ValueError, match=f"device {what}"):
                net.attach("hub:0", Device(name, hook="xdp-native"))
        assert net.joins == {} and not risen(net, "hub")
        assert net.attach("hub:0", Device("p0", hook="xdp")).hook == "xdp-generic"
        assert net.attach("hub:1", Device("br0", hook="xdp")).hook == "xdp-generic"


def test_functions_that_cannot(place: Places) -> None:
    at = place(2)
    with Network("early", namespace=at.switching) as net:
        net.add("mirror", Mirror())
        with pytest.raises(CompileError, match=r"`copied` is not available on the target xdp") as refused:
            net.attach("mirror:inside", Device("p0", hook="xdp"))
        assert "mirror.py, line " in str(refused.value)
        net.add("nat", Nat(addresses=["192.0.2.1"]))
        with pytest.raises(ValueError, match="Nat cannot meet packets at XDP: it adjusts checksums that the other end"):
            net.attach("nat:outside", Device("p0", hook="xdp-native"))
        assert net.joins == {} and all(one.early is None for one in net.instances.values())
        net.attach("nat:outside", Device("p0"))


# -- notes ------------------------------------------------------------------------------------------------------------


@HOOKS
def test_no_note_leaves_the_network(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net, \
            counting(noted(net.secret), h0.device, at.switching) as came, \
            counting(noted(None), FAR + 1, h1.namespace) as left:
        net.add("through", Through())
        met(net, "through:inside", h0, hook)
        net.attach("through:outside", h1.edge)
        h0.send(h1, times=5)
        assert len(h1.captured(5)) == 5
        assert came() == (5, 5), "tcx is told by notes"
        assert left() == (5, 0), "and nobody else"


@pytest.mark.parametrize("right", [False, True])
def test_notes_cannot_be_forged(place: Places, right: bool) -> None:
    """A workload that may load programs carries metadata of its own across its cable, past XDP.  Without the secret it
    meets the function; with it, it would not, which says that the way is open but for the secret."""
    at = place(3)
    h0, h1, tenant = at.hosts
    with Network("early", namespace=at.switching) as net, ExitStack() as undo:
        net.add("gate", Gate(open=0))
        met(net, "gate:inside", h0, "xdp-native")
        net.attach("gate:outside", h1.edge)
        instance = net.instances["gate"]
        secret = net.secret if right else net.secret ^ 1 << 40
        forged = secret.to_bytes(8, "little") + struct.pack("<HHHH", instance.token, 1, 2, 0) + bytes(16)
        # The tenant is h0: what comes to x0, a cable from elsewhere, gets a note and is handed over to us.
        with Netlink(h0.namespace) as netlink:
            netlink.submit(interfaces.veth("x0", "x1", index=9000, peer_index=9001, peer_namespace=tenant.namespace,
                                           up=True))
        with Netlink(tenant.namespace) as netlink:
            netlink.submit(interfaces.change("x1", up=True))
        lines: list[Line] = []
        for place_of in range(0, NOTE, 4):
            lines.append(store(R2, place_of, int.from_bytes(forged[place_of:place_of + 4], "little"), 4))
        noting = assemble(move(R6, R1), move(R2, -NOTE), call(Helper.XDP_ADJUST_META), load(R2, R6, 8, 4),
                          load(R3, R6, 0, 4), move(R4, R2), compute(R4, "+", NOTE), jump_if(R4, ">", R3, "bad"), *lines,
                          move(R0, 2), leave(), Label("bad"), leave(1))
        program = undo.enter_context(Program.load(ProgramSpec(
            "forging", ProgramKind.XDP, noting, expected_attach_type=AttachType.XDP)))
        undo.enter_context(Link.xdp(program, 9000, XdpMode.NATIVE, namespace=h0.namespace))
        over: list[Line] = [move(R1, FAR), move(R2, 0), call(Helper.REDIRECT_PEER), leave()]
        handed = undo.enter_context(counting(experimental(), 9000, h0.namespace, end=over))
        came = undo.enter_context(counting(noted(secret), h0.device, at.switching))
        frame = tenant.frame(h1, b"forged")

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind(("x1", 0))
                for _ in range(4):
                    sender.send(frame)
        tenant.namespace.run(send)
        assert until(lambda: handed() == (4, 4) and came() == (4, 4)), "the note came across"
        if right:
            assert h1.captured(4) == [frame] * 4
        else:
            assert until(lambda: net.drops == {"gate": {"REQUIRED": 4}}) and h1.captured() == []


def test_a_driver_without_room_for_notes_is_named(place: Places) -> None:
    """Metadata of somebody else's takes the room: fail closed, by name."""
    at = place(2)
    h0, h1 = at.hosts
    with Network("early", namespace=at.switching) as net:
        net.add("through", Through())
        met(net, "through:inside", h0, "xdp-native")
        net.attach("through:outside", h1.edge)
        early = net.instances["through"].early
        assert early is not None
        with early.entry(0, 0) as program:
            ran = program.test_run(bytes(216) + h0.frame(h1), xdp_context(216 + 60, metadata=216))
        assert ran.return_value == 1 and net.drops == {"fabric": {"NOTELESS": 1}}
        assert net.balance().exact


def test_a_scrubber_in_front_of_a_chain(place: Places) -> None:
    at = place(3)
    h0, h1, _ = at.hosts
    with Network("early", namespace=at.switching) as net, counting(experimental(), h0.device, at.switching) as came:
        net.add("scrub", Ddos(blocked=[f"{h0.address}/32"], challenge="never"))
        net.add("hub", Hub())
        net.link("scrub:inside", "hub:0")
        met(net, "scrub:outside", h0, "xdp")
        net.attach("hub:1", h1.edge)
        assert not h0.ping(h1, 1)
        assert net.drops["scrub"]["BLOCKED"] >= 1
        before = came()[0]
        assert h1.ping(h0, 1) is False and came()[0] <= before + 2, "only ARP reaches tcx"
        net.instances["scrub"].function.method("block")("192.0.2.0/24")
        assert h0.ping(h1, 2)
