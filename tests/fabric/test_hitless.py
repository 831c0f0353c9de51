"""Nothing is lost, nothing doubled, while a network changes under traffic.

    h0 ── s0 ── gate ── s1 ── h1          x ── y, unrelated

2,500 datagrams a second each way, numbered, and a TCP flow as fast as it goes.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from iovisor.fabric import Network
from iovisor.functions.switch import Switch
from tests.fabric.flows import Flows
from tests.fabric.functions import Gate, Through, ThroughAgain
from tests.fabric.hosts import Place

pytestmark = [pytest.mark.root, pytest.mark.slow]
Places = Callable[[int], Place]
TIMES = 100


@contextmanager
def busy(at: Place) -> Iterator[Network]:
    """The network, under traffic: what happened to it is checked at the end."""
    with ExitStack() as undo:
        net = undo.enter_context(Network("busy", namespace=at.switching))
        for name, kind in (("s0", Switch), ("gate", Gate), ("s1", Switch), ("x", Through), ("y", Through)):
            net.add(name, kind())
        net.link("s0:1", "gate:inside")
        net.link("gate:outside", "s1:1")
        net.link("x:outside", "y:inside")
        net.attach("s0:0", at.hosts[0].edge)
        net.attach("s1:0", at.hosts[1].edge)
        assert at.hosts[0].ping(at.hosts[1], 1)
        for host in at.hosts:
            host.socket.close()                     # it would have to swallow all of it
        flows = Flows(at.hosts[0], at.hosts[1])
        with flows:
            begun = time.perf_counter()
            yield net
            spent = time.perf_counter() - begun
            time.sleep(max(0.0, 0.5 - spent))
        result = flows.result
        print(f"{1e3 * spent / TIMES:.2f} ms each; {result}")
        assert result.sent > 2 * 1000 * result.seconds
        assert (result.lost, result.doubled) == (0, 0), net.drops
        assert result.pushed == result.drained > 1 << 20
        assert net.drops == {}


def test_relinks_of_an_unrelated_link(place: Places) -> None:
    with busy(place(2)) as net:
        for _ in range(TIMES):
            net.unlink("x:outside")
            net.link("x:outside", "y:inside")


def test_reconfigurations_of_the_function_in_the_way(place: Places) -> None:
    with busy(place(2)) as net:
        for i in range(TIMES):
            net.reconfigure("gate", padding=i + 1)


def test_reconfigurations_of_a_switch_in_the_way(place: Places) -> None:
    with busy(place(2)) as net:
        for i in range(TIMES):
            net.reconfigure("s0", ageing=f"{60 + i}s")


def test_upgrades_of_everything_in_the_way(place: Places) -> None:
    with busy(place(2)) as net:
        for i in range(TIMES):
            net.upgrade(("s0", "gate", "s1")[i % 3])


def test_insertions_into_the_link_in_the_way(place: Places) -> None:
    with busy(place(2)) as net:
        net.add("middle", Through())
        for i in range(TIMES):
            net.insert("s0:1", "middle:inside", "middle:outside")
            net.upgrade("middle", (ThroughAgain, Through)[i % 2])
            net.take_out("middle:inside", "middle:outside")
