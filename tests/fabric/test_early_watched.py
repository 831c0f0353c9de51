"""Who looks at a function sees what it does at XDP as what it does at TC: record for record."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Edge, Filter, Network
from iovisor.language import (
    FLOOD,
    HOST,
    Function,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    forward,
    handles,
    punt,
)
from iovisor.testing.packets import ethernet, ipv4, ipv6, tcp, udp, vlan
from tests.fabric.functions import Gate, Marker, Through
from tests.fabric.hosts import Host, Place
from tests.fabric.test_capture import rows
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
HOOKS = pytest.mark.parametrize("hook", ["xdp-native", "xdp-generic"])


class Reason(Reasons):
    SENTENCED = auto()


class Told(Record):
    """Nothing."""


class Judge(Function):
    """The last byte of the destination says what becomes of a frame."""

    inside: Port
    outside: Port

    def ingress(self, pkt: Packet) -> Verdict:
        kind = pkt.u8(5)
        if kind == 1:
            return drop(Reason.SENTENCED)
        if kind == 2:
            return HOST
        if kind == 3:
            return FLOOD
        if kind == 4:
            return punt(Told())
        return forward(self.outside if pkt.port == self.inside else self.inside)

    @handles(Told)
    def told(self, event: Told, packet: Packet) -> None:
        pass


def frames() -> list[bytes]:
    """Of every verdict, with and without tags, of several protocols and lengths."""
    found = []
    for kind in range(6):
        link = ethernet(dst=0x020000000000 | kind, src="02:00:00:00:00:aa")
        found += [bytes(link / ipv4(src="10.0.0.1", dst=f"10.0.1.{kind}") / udp(src=1000 + kind, dst=53)),
                  bytes(link / ipv6(src="fd00::1", dst=f"fd00::{kind}") / tcp(src=1000, dst=80 + kind, flags=2)),
                  bytes(link / vlan(vid=7) / ipv4(src="10.0.0.1", dst="10.0.2.1") / udp(src=7, dst=53)) + bytes(kind),
                  bytes(link / vlan(vid=8) / vlan(vid=9)) + bytes(60 + 100 * kind)]
    return [frame.ljust(60, b"\0") for frame in found]


FILTERS = [Filter(), Filter(verdict="drop"), Filter(reason="SENTENCED"), Filter(verdict="forward", vlan=7),
           Filter(vlan=8), Filter(port="judge:outside"), Filter(destination="10.0.2.0/24"),
           Filter(source="fd00::1", service=83), Filter(mac="02:00:00:00:00:03"), Filter(ethertype=0x8100),
           Filter(protocol="udp", destination_port=53), Filter(verdict="host"), Filter(verdict="punt"),
           Filter(verdict="flood")]


def reported(net: Network, host: Host, wanted: Filter, snap: int) -> list[tuple[Any, ...]]:
    sent = frames()
    with net.watch(wanted, snap=snap) as watch:
        before = net.balance().received
        for frame in sent:
            host.socket.send(frame)
        assert until(lambda: net.balance().received == before + len(sent))
        assert watch.lost == 0
        return [(seen.instance, seen.stage, seen.kind, seen.at, seen.out, seen.reason, seen.length, seen.frame,
                 seen.arrived_by, seen.left_by) for seen in watch]


@HOOKS
def test_the_same_is_seen(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("seen", namespace=at.switching, ring=1 << 20) as net:
        net.add("judge", Judge())
        net.attach("judge:outside", h1.edge)
        net.attach("judge:inside", h0.edge)
        wanted = [reported(net, h0, one, snap) for one in FILTERS for snap in (16, 64, 2048)]
        net.detach("judge:inside")
        net.attach("judge:inside", Edge(h0.device, hook=hook))
        found = [reported(net, h0, one, snap) for one in FILTERS for snap in (16, 64, 2048)]
        assert found == wanted and all(wanted)
        assert len(found[2]) == len(frames()) and net.balance().exact, net.balance()


@HOOKS
def test_a_capture_has_what_came(place: Places, tmp_path: Path, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("seen", namespace=at.switching, ring=1 << 20) as net:
        net.add("judge", Judge())
        net.attach("judge:outside", h1.edge)
        files = []
        for how in ("tc", hook):
            net.attach("judge:inside", Edge(h0.device, hook=how))
            files.append(tmp_path / f"{how}.pcapng")
            before = net.balance().received
            with net.capture("judge:inside", files[-1]):
                for frame in frames():
                    h0.socket.send(frame)
                assert until(lambda: net.balance().received == before + len(frames()))      # noqa: B023
            net.detach("judge:inside")
        tc, xdp = ([(row.frame, row.length, row.comment, row.interface) for row in rows(file)] for file in files)
        assert tc == xdp and len(xdp) == len(frames())


def test_a_watch_goes_through_revisions_and_hooks(place: Places) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("seen", namespace=at.switching, ring=1 << 20) as net:
        net.add("gate", Gate())
        net.attach("gate:inside", h0.edge)
        net.attach("gate:outside", h1.edge)
        with net.watch(Filter(instance="gate", verdict="drop")) as watch:
            for number, hook in enumerate(("xdp-native", "xdp-generic", "tc", "xdp-generic")):
                with net.revision() as draft:
                    draft.detach("gate:inside")
                    draft.attach("gate:inside", Edge(h0.device, hook=hook))
                    draft.reconfigure("gate", open=0, padding=number)
                h0.send(h1, b"seen", times=3)
                assert until(lambda: net.drops == {"gate": {"REQUIRED": 3 * (number + 1)}})     # noqa: B023
                assert len(list(watch)) == 3
            net.detach("gate:inside")
            net.attach("gate:inside", Edge(h0.device, hook="xdp-generic"))
            h0.send(h1, b"seen", times=2)
            assert until(lambda: net.drops == {"gate": {"REQUIRED": 14}}) and len(list(watch)) == 2
            net.reconfigure("gate", open=1)
        h0.send(h1, b"after")
        assert len(h1.captured(1)) == 1 and net.balance().exact


@HOOKS
def test_what_is_told_and_punted_at_xdp_is_heard(place: Places, hook: str) -> None:
    at = place(2)
    h0, h1 = at.hosts
    with Network("seen", namespace=at.switching, ring=1 << 20) as net:
        net.add("judge", Judge())
        net.add("through", Through())
        net.link("judge:outside", "through:inside")
        net.attach("judge:inside", Edge(h0.device, hook=hook))
        net.attach("through:outside", h1.edge)

        async def heard() -> None:
            serving = asyncio.ensure_future(net.serve())
            for frame in frames():
                h0.socket.send(frame)
            while net.served.events < 4:
                await asyncio.sleep(0.01)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        asyncio.run(asyncio.wait_for(heard(), 20))
        assert net.balance().punted == 4 and net.balance().exact


@HOOKS
def test_a_trace_is_what_then_happens(place: Places, hook: str) -> None:
    """Through the image that runs at XDP, with its own tag; the same verdicts, frames and ends as at TC."""
    at = place(2)
    h0, h1 = at.hosts
    with Network("seen", namespace=at.switching, ring=1 << 20) as net:
        net.add("judge", Judge())
        net.add("marker", Marker())
        net.link("judge:outside", "marker:inside")
        net.attach("marker:outside", h1.edge)
        net.attach("judge:inside", h0.edge)
        before = [net.trace(frame, "judge:inside") for frame in frames()]
        net.detach("judge:inside")
        net.attach("judge:inside", Edge(h0.device, hook=hook))
        with net.watch(Filter(instance="judge")):               # what stands in doors for it changes nothing
            after = [net.trace(frame, "judge:inside") for frame in frames()]
        for one, other, frame in zip(before, after, frames(), strict=True):
            assert one.disagreements == other.disagreements == []
            assert [replace(hop, stage="ingress") for hop in other.hops] == one.hops and one.ends == other.ends
            assert other.hops[0].stage == "xdp" and {hop.stage for hop in other.hops[1:]} <= {"ingress"}
            assert "judge:inside  Judge at XDP" in str(other)
            drops, handed, sent = net.drops, net.balance().handed, net.balance().sent
            h0.socket.send(frame)
            ends = [end.what for end in other.ends]
            assert until(lambda: net.balance().sent == sent + ends.count("out"))        # noqa: B023
            assert until(lambda: net.balance().handed == handed + ends.count("host"))   # noqa: B023
            if other.drops:
                assert until(lambda: net.drops != drops)                                # noqa: B023
        assert net.balance().exact and net.memory > 0
