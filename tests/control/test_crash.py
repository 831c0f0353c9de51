"""A daemon is killed at any moment of an apply: the network is exactly the old revision, or exactly the new one."""
from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.control.shape import Shape
from iovisor.kernel import Netlink, interfaces
from tests.control.conftest import ADMIN, Platforms, apply
from tests.control.test_platform import stations
from tests.control.worker import work
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root

#: Two networks that have little in common but their hosts and one function, whose memory must not be lost.
DOCUMENTS = ("""
version: 1
tenant: acme
network: prod
functions: {lan: {kind: switch}, far: switch}
endpoints: {one: {device: p0}, two: {device: p1}}
links: [[one, lan], [two, far], ["lan:3", "far:9"]]
""", """
version: 1
tenant: acme
network: prod
functions: {lan: {kind: switch, ageing: 1h}, wall: {kind: acl, default: accept, other: accept}, back: switch}
endpoints: {one: {device: p0}, two: {device: p1}}
links: [[one, lan], ["lan:3", wall, "back:7"], ["back:2", two]]
""")


def test_killed_in_the_middle_of_apply(place: Callable[[int], Place], platform: Platforms, images: Cache,
                                       tmp_path: Path, nightly: bool) -> None:
    at, luck, outcomes = place(2), random.Random(7), set()
    here = platform(at)
    for text in (*DOCUMENTS, DOCUMENTS[0]):
        apply(here, text)
    took = None                                                             # what a process needs, from the first
    current = here.head("acme", "prod").current
    exchange(*at.hosts)
    for host in at.hosts:
        assert host.captured() == []
    here.stop()
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload(["tests.control.worker"])
    for attempt in range(200 if nightly else 20):
        ours, theirs = spawn.Pipe()
        text = DOCUMENTS[(current + 1) % 2 == 0]                            # revision 1 is the first
        process = spawn.Process(target=work, args=(
            str(tmp_path / "state"), f"/proc/{os.getpid()}/fd/{at.switching.fd}", str(images.root), text, theirs))
        process.start()
        theirs.close()
        try:
            assert ours.poll(60) and ours.recv() == "begins"
            if took is None:
                begun = time.monotonic()
                assert ours.poll(60)
                took = time.monotonic() - begun
            else:
                time.sleep(luck.uniform(0, took * 1.2))
        finally:
            process.kill()
            process.join()
        try:
            acknowledged = ours.recv()
        except EOFError:
            acknowledged = None
        ours.close()
        again = platform(at)
        found = again.head("acme", "prod").current
        assert found in (current, current + 1) and acknowledged in (None, found), attempt
        shape = again.lowered(again.head("acme", "prod")).shape
        assert again.call("acme", "prod", Shape.of) == shape, attempt
        assert stations(again) >= 1, attempt                                # what lan knows, it still knows
        outcomes.add(found - current)
        current = found
        exchange(*at.hosts)
        again.stop()
    assert outcomes == {0, 1}
    last = platform(at)
    last.destroy(ADMIN, "acme", "prod")
    assert not list((tmp_path / "state/networks").glob("*/*"))
    with Netlink(at.switching) as netlink:
        assert {one.name for one in interfaces.listing(netlink)} == {"lo", "p0", "p1"}
