"""A routing daemon beside the router, BIRD or FRR: its routes become the router's, and go when the peer dies.

    daemon ── 10.1.0.0/24 ──┐               BIRD or FRR of the router: peers from here, through the router
    host   ── 10.1.1.0/24 ──┤ router
    peer   ── 10.1.2.0/24 ──┘               BIRD, speaks as 192.0.2.9, has networks of its own behind it

The session is between 10.1.0.2 and 192.0.2.9 and crosses the router.  In the daemon's namespace a device `port2` stands
for port 2: next hops there resolve to it, and the kernel table that comes of it is mirrored.
"""
from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Running
from iovisor.fabric.mirror import Mirror
from iovisor.functions.router import Router
from iovisor.kernel import Netlink, interfaces
from iovisor.testing import Host, Lab
from tests.labs.test_router import settle
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]
COMMON = """
log stderr all;
router id {router};
protocol device {{ scan time 1; }}
"""
DAEMON = COMMON.format(router="10.1.0.2") + """
protocol direct { ipv4; ipv6; interface "port2"; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol bgp peer {
    local 10.1.0.2 as 65001;
    neighbor 192.0.2.9 as 65002;
    multihop 4; hold time 6; keepalive time 2; connect retry time 1; connect delay time 1; error wait time 1, 1;
    ipv4 { import all; export none; };
    ipv6 { import all; export none; };
}
"""
FRR = """
router bgp 65001
 bgp router-id 10.1.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 timers bgp 2 6
 neighbor 192.0.2.9 remote-as 65002
 neighbor 192.0.2.9 ebgp-multihop 4
 neighbor 192.0.2.9 update-source 10.1.0.2
 neighbor 192.0.2.9 timers connect 1
 address-family ipv4 unicast
  neighbor 192.0.2.9 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.9 activate
 exit-address-family
"""
PEER = COMMON.format(router="192.0.2.9") + """
protocol static { ipv4; route 203.0.113.0/24 blackhole; route 198.51.100.0/24 blackhole; }
protocol static { ipv6; route 2001:db8:300::/48 blackhole; }
protocol bgp daemon {
    local 192.0.2.9 as 65002;
    neighbor 10.1.0.2 as 65001;
    multihop 4; hold time 6; keepalive time 2; connect retry time 1; connect delay time 1; error wait time 1, 1;
    ipv4 { import none; export where source = RTS_STATIC; next hop address 10.1.2.2; };
    ipv6 { import none; export where source = RTS_STATIC; next hop address 2001:db8:2::2; };
}
"""


@dataclass
class Place:
    daemon: Host
    host: Host
    peer: Host
    running: Running
    scratch: Path
    theirs: Path

    def bird(self, where: Host, text: str) -> subprocess.Popen[Any]:
        """A BIRD in a host, in the foreground."""
        config = self.scratch / f"{where.name}.conf"
        config.write_text(text)
        control = str(self.scratch / f"{where.name}.ctl")
        with (self.scratch / f"{where.name}.log").open("ab") as log:
            return where.start(["bird", "-f", "-c", str(config), "-s", control], stdout=log, stderr=log)

    def frr(self, where: Host, text: str) -> None:
        """FRR in a host: zebra, which keeps the kernel's table, and bgpd.  They give up being root, so that what they
        write is in a directory of theirs."""
        shutil.chown(self.theirs, "frr", "frr")
        for program, config in (("zebra", ""), ("bgpd", text)):
            (self.theirs / f"{program}.conf").write_text(config)
            options = ["-f", f"{self.theirs}/{program}.conf", "-i", f"{self.theirs}/{program}.pid",
                       "-z", f"{self.theirs}/zserv", "--vty_socket", str(self.theirs), "-P", "0", "--log", "stdout"]
            with (self.scratch / "daemon.log").open("ab") as log:
                where.start([f"/usr/lib/frr/{program}", *options], stdout=log, stderr=log)
            assert until(lambda: (self.theirs / "zserv").exists()), (self.scratch / "daemon.log").read_text()

    def reaches(self, target: str) -> bool:
        return self.host.ping(target, count=1) == 1

    def refused(self) -> bool:
        done = self.host.run(["ping", "-n", "-c", "1", "-W", "1", "203.0.113.1"], check=False)
        return "Destination Net Unreachable" in done.stdout


@contextmanager
def followed(running: Running, mirror: Mirror) -> Iterator[None]:
    """The router's Python and the mirror, in one loop of a thread of their own."""
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(running.network.serve()), loop.create_task(mirror.serve())]

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    def end() -> None:
        for task in tasks:
            task.cancel()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end)
        thread.join()


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    ports: dict[int, Any] = {
        number: {"mac": f"02:00:00:00:01:{number:02x}",
                 "addresses": [f"10.1.{number}.1/24", f"2001:db8:{number}::1/64"]} for number in range(3)}
    router = Router(interfaces=ports, static=[{"to": "192.0.2.9/32", "via": [{"gateway": "10.1.2.2"}]}])
    with Lab() as lab:
        daemon, host, peer = hosts = lab.hosts("daemon", "host", "peer")
        for number, one in enumerate(hosts):
            settle(one, number, 1500)
        for words in ("addr add 192.0.2.9/32 dev lo", "addr add 203.0.113.1/32 dev lo",
                      "addr add 2001:db8:300::1/128 dev lo"):
            peer.run(["ip", *words.split()])
        for words in ("link add port2 type veth peer name port2p", "addr add 10.1.2.250/24 dev port2",
                      "addr add 2001:db8:2::250/64 dev port2 nodad", "link set port2 up", "link set port2p up"):
            daemon.run(["ip", *words.split()])
        with Netlink(daemon.namespace) as inside:
            index = interfaces.index_of(inside, "port2")
        running = lab.join(router, hosts, cache=Cache(tmp_path_factory.getbasetemp() / "router-images"))
        with (Mirror(router, {index: 2}, daemon.namespace) as mirror, followed(running, mirror),
              TemporaryDirectory() as theirs):
            yield Place(daemon, host, peer, running, tmp_path, Path(theirs))


@pytest.mark.parametrize("which", ["bird", "frr"])
def test_what_a_peer_tells_is_routed_until_it_dies(which: str, place: Place) -> None:
    assert until(place.refused), "nobody has told of it yet"
    if which == "bird":
        place.bird(place.daemon, DAEMON)
    else:
        place.frr(place.daemon, FRR)
    telling = place.bird(place.peer, PEER)
    assert until(lambda: place.reaches("203.0.113.1")), (place.scratch / "daemon.log").read_text()
    assert until(lambda: place.reaches("2001:db8:300::1"))
    routes = {route["to"]: route for route in place.running.function.show_routes()}  # type: ignore[attr-defined]
    for prefix, gateway in (("203.0.113.0/24", "10.1.2.2"), ("198.51.100.0/24", "10.1.2.2"),
                            ("2001:db8:300::/48", "2001:db8:2::2")):
        assert routes[prefix]["by"] == f"{gateway} by port 2"
    telling.kill()
    telling.wait()
    assert until(place.refused), "its routes are withdrawn"
    assert not {"203.0.113.0/24", "2001:db8:300::/48"} & {
        route["to"] for route in place.running.function.show_routes()}  # type: ignore[attr-defined]
    place.bird(place.peer, PEER)
    assert until(lambda: place.reaches("203.0.113.1")), "and come back with it"
