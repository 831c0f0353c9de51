"""A process is killed; its network runs on, and another takes it over.  Nothing is lost, and nothing is left behind."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.fabric import Network
from iovisor.functions.switch import Switch
from iovisor.kernel import filesystem
from iovisor.language import Function, Packet, Port, Verdict, forward
from tests.fabric.flows import Flows
from tests.fabric.functions import Learner, Through
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory whose pins go, whatever happens."""
    yield tmp_path
    filesystem.unmount(tmp_path / "net/bpf")


@contextmanager
def keeper(what: str, at: Place, folder: Path) -> Iterator[float]:
    """A process that has the network; it is killed at the end.  Yields the milliseconds it took."""
    arguments = [what, str(folder / "net"), str(at.switching.fd), str(folder / "images")]
    with subprocess.Popen([sys.executable, "-m", "tests.fabric.keeper", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True, pass_fds=[at.switching.fd]) as process:
        try:
            assert process.stdout is not None
            word, _, took = process.stdout.readline().partition(" ")
            assert word == "ready"
            yield float(took)
        finally:
            process.kill()


def test_killed_and_adopted_under_traffic(place: Places, folder: Path, nightly: bool) -> None:
    at = place(2)
    with keeper("create", at, folder):
        assert at.hosts[0].ping(at.hosts[1], 1)
    for host in at.hosts:
        host.socket.close()
    took = []
    flows = Flows(at.hosts[0], at.hosts[1])
    with flows:
        for _ in range(100 if nightly else 25):
            with keeper("adopt", at, folder) as milliseconds:
                took.append(milliseconds)
    print(f"adopted in {took} ms; {flows.result}")
    assert sorted(took)[len(took) // 2] < 1000                  # so many of them fall upon a machine that is busy
    assert flows.result.sent > 2 * 1000 * flows.result.seconds
    assert (flows.result.lost, flows.result.doubled) == (0, 0)
    assert flows.result.pushed == flows.result.drained > 1 << 20
    with Network.adopt(folder / "net", namespace=at.switching, cache=Cache(folder / "images")) as net:
        assert net.drops == {}


def test_only_one_process_keeps_a_network(place: Places, folder: Path) -> None:
    at = place(2)
    with keeper("create", at, folder), pytest.raises(ValueError, match="another process keeps this network"):
        Network.adopt(folder / "net", namespace=at.switching)
    Network.adopt(folder / "net", namespace=at.switching).close()
    assert os.listdir(folder / "net") == []


def test_what_is_adopted_is_what_was(place: Places, folder: Path) -> None:
    at = place(2)
    with keeper("create", at, folder):
        exchange(*at.hosts)
    exchange(*at.hosts)                                         # nobody is there
    with Network.adopt(folder / "net", namespace=at.switching, cache=Cache(folder / "images")) as net:
        switch, counted = net.instances["s0"].function, net.instances["counted"].function
        assert isinstance(switch, Switch) and isinstance(counted, Through)
        assert {(key.mac, station.port) for key, station in switch.stations.items()} == {
            (0x020000000001, 0), (0x020000000002, 1), (0x020000000077, 5)}
        assert [sum(c.packets for c in counted.seen.every(port)) for port in (0, 1)] == [10, 10]
        assert net.traffic("s1:0")[0].packets == 10
        exchange(*at.hosts)
        assert net.traffic("s1:0")[0].packets == 15
        with pytest.raises(ValueError, match="s0:0 is joined to device 5000 already"):
            net.link("s0:0", "s1:3")
        net.add("middle", Through())
        net.insert("s0:1", "middle:inside", "middle:outside")
        exchange(*at.hosts)
        net.take_out("gate:inside", "gate:outside")
        net.remove("gate")
        exchange(*at.hosts)
        net.leave()
        exchange(*at.hosts)
        again = Network.adopt(folder / "net", namespace=at.switching)
        assert list(again.instances) == ["s0", "s1", "counted", "aside.1", "middle"]
        assert isinstance(again.instances["aside.1"].function, Learner)
        exchange(*at.hosts)
        assert again.drops == {}
        again.close()
    assert os.listdir(folder / "net") == []


def test_what_was_half_done_is_forgotten(place: Places, folder: Path) -> None:
    """A process that dies in the middle of a change leaves the network as it was before."""
    at = place(2)
    with keeper("create", at, folder):
        pass
    first = Network.adopt(folder / "net", namespace=at.switching)
    before = (folder / "net/topology.json").read_text()
    first.add("more", Through())
    first.unlink("s0:1")
    first.link("s0:1", "more:inside")
    first.detach("s1:0")
    first.leave()
    first.close()                                               # nothing is left to close
    (folder / "net/topology.json").write_text(before)
    with Network.adopt(folder / "net", namespace=at.switching) as net:
        exchange(*at.hosts)
        assert "more" not in net.instances and not (folder / "net/bpf/at-more").exists()
        net.add("more", Through())
        net.insert("s0:1", "more:inside", "more:outside")
        exchange(*at.hosts)


class Nowhere:
    """Holds a function that another process can find under its qualified name."""

    class Found(Function):
        inside: Port
        outside: Port

        def ingress(self, pkt: Packet) -> Verdict:
            return forward(self.outside if pkt.port == self.inside else self.inside)


def test_refusals(place: Places, folder: Path) -> None:
    at = place(2)

    class Local(Nowhere.Found):
        pass

    with pytest.raises(ValueError, match="holds no network"):
        Network.adopt(folder, namespace=at.switching)
    with Network("once", namespace=at.switching, pins=folder / "net") as net:
        with pytest.raises(ValueError, match="holds a network already: adopt it, or take it down"):
            Network("twice", namespace=at.switching, pins=folder / "net")
        with pytest.raises(ValueError, match=r"Local cannot be adopted"):
            net.add("local", Local())
        net.add("found", Nowhere.Found())
        assert json.loads((folder / "net/topology.json").read_text())["instances"] == {
            "found": {"kind": f"{__name__}:Nowhere.Found", "configuration": {}, "versions": {}, "born": 0}}
    assert not filesystem.is_mounted(folder / "net")
    assert os.listdir(folder / "net") == []
    with Network("unpinned", namespace=at.switching) as net, pytest.raises(ValueError, match="is not pinned"):
        net.leave()
