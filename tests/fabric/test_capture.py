"""A port as a file: what is in it is what passed the port, as tshark and our own reader see it."""
from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from iovisor.fabric import Network
from iovisor.functions.switch import Switch
from iovisor.testing.packets import ethernet, ipv4, udp
from iovisor.wire.pcapng import COMMENT, INTERFACE, NAME, PACKET, PcapWriter, blocks
from tests.fabric.functions import Gate, Hub, Older, Tagger, Through
from tests.fabric.hosts import Place
from tests.waiting import until

Places = Callable[[int], Place]
root = pytest.mark.root
QUERY = bytes(ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ipv4(src="10.0.0.1", dst="10.9.9.9")
              / udp(src=1000, dst=53) / bytes(40))


class Row(NamedTuple):
    interface: str
    time: int
    length: int
    frame: bytes
    comment: str


def rows(path: Path) -> list[Row]:
    """The packets of a file.  What tshark says of it, where there is one, must be the same."""
    names, found = [], []
    for kind, fixed, options in blocks(path.read_bytes()):
        if kind == INTERFACE:
            names.append(options[NAME].decode())
        elif kind == PACKET:
            number, high, low, kept, length = (int.from_bytes(fixed[i:i + 4], "little") for i in range(0, 20, 4))
            found.append(Row(names[number], high << 32 | low, length, fixed[20:20 + kept],
                             options.get(COMMENT, b"").decode()))
    tool = shutil.which("tshark")
    if tool is not None:
        fields = ("frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment")
        done = subprocess.run([tool, "-r", str(path), "-T", "fields", "-E", "separator=|",
                               *(word for name in fields for word in ("-e", name))],
                              capture_output=True, text=True, timeout=60, check=True)
        told = [line.split("|") for line in done.stdout.splitlines()]
        assert [(a, int(c), int(d), e) for a, _, c, d, e in told] == [
            (row.interface, row.length, len(row.frame), row.comment) for row in found]
        assert all(abs(float(line[1]) * 1e9 - row.time) < 1e3 for line, row in zip(told, found, strict=True))
    return found


@root
def test_both_directions(place: Places, tmp_path: Path) -> None:
    at = place(2)
    path = tmp_path / "f.pcapng"
    with Network("captured", namespace=at.switching) as net:
        net.add("f", Older())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)
        begun = time.time_ns()
        with net.capture("f:inside", path) as capture:
            at.hosts[0].socket.send(QUERY)
            aged = at.hosts[1].captured(1)[0]
            at.hosts[1].socket.send(aged)
            again = at.hosts[0].captured(1)[0]
            at.hosts[0].send(None)
            assert until(lambda: capture.written == 3) and capture.lost == 0
        found = rows(path)
        assert [(row.interface, row.frame, row.comment) for row in found] == [
            ("f:inside in", QUERY, "f Older forward(outside)"), ("f:inside out", again, "f Older forward(inside)"),
            ("f:inside in", at.hosts[0].frame(None), "f Older drop(REQUIRED)")]
        assert begun - 10**9 < found[0].time < found[1].time < found[2].time < time.time_ns() + 10**9
        at.hosts[0].socket.send(QUERY)
        assert at.hosts[1].captured(1) == [aged] and len(rows(path)) == 3


@root
def test_tags_snap_and_floods(place: Places, tmp_path: Path) -> None:
    """The tag of a frame that leaves is in its bytes; copies count once for each port; long frames are cut."""
    at = place(3)
    with Network("captured", namespace=at.switching) as net:
        net.add("tagger", Tagger())
        net.attach("tagger:inside", at.hosts[0].edge)
        net.attach("tagger:outside", at.hosts[1].edge)
        with net.capture("tagger:outside", tmp_path / "t.pcapng", snap=40) as capture:
            net.inject(QUERY, "tagger:inside")
            assert until(lambda: capture.written == 1)
        assert [row[2:] for row in rows(tmp_path / "t.pcapng")] == [
            (len(QUERY) + 4, (QUERY[:12] + b"\x81\0\0\7" + QUERY[12:])[:44], "tagger Tagger forward(outside)")]
    for kind, name in ((Hub, "Hub flood"), (Switch, "Switch forward(1)")):
        path = tmp_path / f"{name}.pcapng"
        with Network("flooded", namespace=at.switching) as net:
            net.add("lan", kind())
            for number, host in enumerate(at.hosts):
                net.attach(f"lan:{number}", host.edge)
            with net.capture("lan:1", path) as capture:
                sent = [host.send(None, bytes([host.number])) for host in at.hosts]
                assert until(lambda c=capture: c.written == 3)      # type: ignore[misc]
            found = sorted(rows(path), key=lambda row: row.frame)
            assert [(row.interface, row.frame) for row in found] == [
                ("lan:1 out", sent[0]), ("lan:1 in", sent[1]), ("lan:1 out", sent[2])]
            assert [row.comment for row in found] == [
                f"lan {name}", f"lan {name.split()[0]} flood", f"lan {name}"]


@root
def test_what_is_lost_is_said(place: Places, tmp_path: Path) -> None:
    """As many as were sent are in the file or counted as missing."""
    at = place(2)
    with Network("lost", namespace=at.switching) as net:
        net.add("f", Through())
        net.attach("f:inside", at.hosts[0].edge)
        net.attach("f:outside", at.hosts[1].edge)
        with net.capture("f:outside", tmp_path / "l.pcapng", room=4096) as capture:
            at.hosts[0].send(at.hosts[1], times=500)
            assert len(at.hosts[1].captured(500)) == 500
        found = rows(tmp_path / "l.pcapng")
        missing = found.pop().comment if capture.lost else ""
        assert len(found) + capture.lost == 500
        assert missing == (f"{capture.lost} packets are missing: there was no room for them" if capture.lost else "")


@root
def test_a_file_that_cannot_be_written(place: Places, tmp_path: Path) -> None:
    at = place(0)
    with Network("refused", namespace=at.switching) as net:
        net.add("f", Gate())
        with pytest.raises(FileNotFoundError):
            net.capture("f:inside", tmp_path / "nowhere" / "f.pcapng")
        net.capture("f:inside", tmp_path / "f.pcapng").close()          # and the watch has ended


def test_the_format(tmp_path: Path) -> None:
    path = tmp_path / "format.pcapng"
    with PcapWriter(path, 20) as writer:
        writer.write(bytes(60), 1_700_000_000_123_456_789, "a", comment="ä comment", outgoing=True)
        writer.write(bytes(15), 1, "b")
        writer.write(bytes(20), 2, "a", length=9000)
    assert rows(path) == [Row("a", 1_700_000_000_123_456_789, 60, bytes(20), "ä comment"),
                          Row("b", 1, 15, bytes(15), ""), Row("a", 2, 9000, bytes(20), "")]
    with pytest.raises(ValueError, match="the block at 0 does not end as it begins"):
        list(blocks(path.read_bytes()[:24] + bytes(8)))
