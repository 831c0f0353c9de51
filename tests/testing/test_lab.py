"""Labs: what they promise to hosts, and that nothing is left of them, however they end."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iovisor.kernel import NetworkNamespace
from iovisor.testing import Lab, PcapWriter
from iovisor.testing.lab import sweep
from iovisor.testing.packets import ethernet, vlan
from tests.waiting import until

pytestmark = pytest.mark.root

#: Opens a lab with a process in a host, says its pid, and waits to be ended.
CHILD = """
import sys, time
from iovisor.testing import Lab
with Lab() as lab:
    host = lab.host("one")
    process = host.start(["sleep", "1000"])
    print(process.pid, flush=True)
    {then}
"""


def names(pid: int) -> list[str]:
    return [name for name in NetworkNamespace.names() if name.startswith(f"lab-{pid}-")]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert not names(os.getpid())
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def child(then: str) -> tuple[subprocess.Popen[str], int]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(["src", *sys.path]))
    process = subprocess.Popen([sys.executable, "-c", CHILD.format(then=then)], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    inside = int(process.stdout.readline())
    process.stdout.close()
    assert len(names(process.pid)) == 2 and alive(inside)
    return process, inside


@pytest.mark.parametrize(("then", "end"), [
    ("time.sleep(1000)", signal.SIGTERM), ("time.sleep(1000)", signal.SIGINT), ("raise ValueError", None),
    ("sys.exit(3)", None), ("lab2 = Lab(); lab2.host('x')", None)])
def test_it_is_gone_however_it_ends(then: str, end: signal.Signals | None) -> None:
    process, inside = child(then if end else f"time.sleep(0.5); {then}")
    if end is not None:
        process.send_signal(end)
    process.wait(10)
    assert not names(process.pid) and until(lambda: not alive(inside))


def test_the_next_one_sweeps_after_a_kill() -> None:
    process, inside = child("time.sleep(1000)")
    other, _ = child("time.sleep(1000)")
    process.kill()
    process.wait()
    assert len(names(process.pid)) == 2 and alive(inside)
    with Lab():
        assert not names(process.pid)
        assert until(lambda: not alive(inside))
        assert len(names(other.pid)) == 2       # the living are left alone
    other.terminate()
    other.wait()


def test_nothing_else_is_swept() -> None:
    name = f"mine-{os.getpid()}"
    with NetworkNamespace.create(name) as namespace:
        try:
            assert name not in sweep() and name in NetworkNamespace.names()
        finally:
            namespace.delete()


def test_hosts_are_what_they_say() -> None:
    with Lab() as lab:
        one, two = lab.hosts("one", "two")
        assert lab.host("one") is one
        assert (one.ipv4, one.ipv6, one.mac) == ("10.0.0.1", "fd00::1", 0x02_00_00_00_00_01)
        assert one.index != two.index
        shown = one.run(["ip", "address", "show", "eth0"]).stdout
        assert "02:00:00:00:00:01" in shown and "10.0.0.1/24" in shown and "fd00::1/64" in shown
        assert "tentative" not in shown
        with pytest.raises(ValueError, match="cannot name a host"):
            lab.host("../x")


def test_captures_have_the_tag_in_its_place() -> None:
    """From the host to the switching side, in both directions of sight."""
    from iovisor.testing import Capture
    with Lab() as lab:
        one = lab.host("one")
        frames = [bytes(ethernet(dst=1, src=one.mac, type=0x88b5) / bytes(46)),
                  bytes(ethernet(dst=1, src=one.mac) / vlan(vid=7, pcp=5, type=0x88b5) / bytes(46)),
                  bytes(ethernet(dst=1, src=one.mac, type=0x88a8) / vlan(vid=1, type=0x8100) / vlan(vid=2, type=0x88b5)
                        / bytes(46))]
        with Capture(lab.namespace, "to-one") as switch, one.capture(outgoing=True) as own, one.capture() as nothing:
            one.send(*frames)
            mine = lambda data: data in frames      # noqa: E731
            assert switch.wait(3, mine) == frames
            assert own.frames(mine) == frames
            assert nothing.frames(mine) == []
            assert {c.outgoing for c in own.taken if c.frame in frames} == {True}
            switch.clear()
            assert switch.frames(mine) == []


def test_pcapng_is_what_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    with PcapWriter(path) as writer:
        writer.write(b"abcde", time=1 << 33 | 5)
        writer.write(b"f" * 60, interface="eth1")
    data, blocks = path.read_bytes(), []
    while data:
        kind, length = (int.from_bytes(data[i:i + 4], "little") for i in (0, 4))
        assert length % 4 == 0 and data[length - 4:length] == data[4:8]
        blocks.append((kind, data[8:length - 4]))
        data = data[length:]
    assert [kind for kind, _ in blocks] == [0x0a0d0d0a, 1, 6, 1, 6]
    assert blocks[2][1][:20] == bytes([0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0])
    assert blocks[2][1][20:] == b"abcde\0\0\0" and b"eth1" in blocks[3][1]
