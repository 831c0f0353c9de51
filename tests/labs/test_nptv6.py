"""nptv6 in TC between real hosts: bulk TCP both ways, with all offloads and with none, and pings."""
from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.nptv6 import Nptv6
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Host, Lab
from tests.labs.test_nat import FAR6, PORT, carry, settle

pytestmark = [pytest.mark.root, pytest.mark.lab]

HOME, SEEN = "fd01:203:405:1::1234", "2001:db8:1:d550::1234"     # RFC 6296 appendix B


@dataclass
class Site:
    inside: Host
    outside: Host


@pytest.fixture(params=["offloaded", "finished"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Lab() as lab:
        inside, outside = lab.hosts("inside", "outside")
        if request.param == "finished":
            for host in (inside, outside):
                offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False}, host.namespace)
        settle(inside, outside, [f"{HOME}/128"], [FAR6])
        settle(outside, inside, [f"{FAR6}/128"], [SEEN])
        with lab.join(Nptv6(inside="fd01:203:405::/48", outside="2001:db8:1::/48"), [inside, outside],
                      cache=Cache(tmp_path_factory.mktemp("images"))):
            yield Site(inside, outside)


def test_bulk_tcp_and_pings(site: Site, nightly: bool) -> None:
    megabytes = 1_024 if nightly else 8
    assert carry(site.inside, site.outside, socket.AF_INET6, (FAR6, PORT), (FAR6, PORT), megabytes) == SEEN
    assert carry(site.outside, site.inside, socket.AF_INET6, (SEEN, PORT), (HOME, PORT), megabytes) == FAR6
    for host, target in ((site.inside, FAR6), (site.outside, SEEN)):
        assert host.ping(target, count=2) == 2 and host.ping(target, count=2, size=4_000) == 2
