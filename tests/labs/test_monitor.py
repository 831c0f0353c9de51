"""The monitor beside a capture of the same packets, read by somebody else's collector: nfcapd, and nfdump."""
from __future__ import annotations

import shutil
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iovisor.functions.monitor import Monitor
from iovisor.kernel import offloads
from iovisor.kernel.offloads import Offload
from iovisor.testing import Lab
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT = 8_000
CONFIG: dict[str, Any] = {"collector": "10.0.0.3", "source": "10.0.0.99", "mac": "02:00:00:00:00:99"}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: ./bootstrap installs it"
    return found


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as found:
        yield found


def flow_of(frame: bytes) -> tuple[str, str, int, int, int, int] | None:
    """Addresses, protocol, ports and bytes of IP, as nfdump has them; by hand, so that nobody agrees with himself."""
    if frame[12:14] == b"\x08\x00":
        source, destination = (socket.inet_ntop(socket.AF_INET, frame[at:at + 4]) for at in (26, 30))
        protocol, size, at = frame[23], struct.unpack_from("!H", frame, 16)[0], 34
    elif frame[12:14] == b"\x86\xdd":
        source, destination = (socket.inet_ntop(socket.AF_INET6, frame[at:at + 16]) for at in (22, 38))
        protocol, size, at = frame[20], struct.unpack_from("!H", frame, 18)[0] + 40, 54
        if protocol == 0:
            return None                             # listener reports, whose headers are not read here
    else:
        return None
    ports = struct.unpack_from("!HH", frame, at) if protocol in (6, 17) else (0, 0)
    return source, destination, protocol, *ports, size


def talk(lab: Lab) -> None:
    """TCP both ways, UDP and pings, over IPv4 and IPv6."""
    a, b = lab.hosts("a", "b")
    for family, address in ((socket.AF_INET, b.ipv4), (socket.AF_INET6, b.ipv6)):
        with b.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((address, PORT))
            listener.listen()
            listener.settimeout(20)

            def send(family: int = family, address: str = address) -> None:
                with a.socket(family, socket.SOCK_STREAM) as sender:
                    sender.connect((address, PORT))
                    sender.sendall(bytes(300_000))
                    sender.shutdown(socket.SHUT_WR)
                    assert sender.recv(10) == b"done"

            thread = threading.Thread(target=send)
            thread.start()
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1 << 16):
                    pass
                connection.sendall(b"done")
            thread.join()
        with a.socket(family, socket.SOCK_DGRAM) as sender:
            for size in range(100):
                sender.sendto(bytes(size), (address, PORT))
    assert a.ping(b) == a.ping(b, six=True) == 3


def test_a_collector_reads_what_a_capture_has_seen(lab: Lab, tmp_path: Path) -> None:
    a, b, c = lab.hosts("a", "b", "c")
    for host in (a, b):                     # frames as on a wire: the capture must not see aggregates
        offloads.change("eth0", {Offload.TX_CHECKSUM: False, Offload.SEGMENTATION: False,
                                 Offload.GENERIC_SEGMENTATION: False}, host.namespace)
    folder = tmp_path / "flows"
    folder.mkdir()
    collector = c.start([program("nfcapd"), "-w", str(folder), "-p", "4739", "-t", "3600", "-b", c.ipv4],
                        stdout=-3, stderr=-3)

    def listening() -> list[str]:
        return [line for line in c.run(["cat", "/proc/net/udp"]).stdout.splitlines() if ":1283 " in line]

    assert until(lambda: bool(listening()))
    running = lab.join(Monitor(**CONFIG), [a, b, c])
    monitor = running.function
    with a.capture(outgoing=True) as capture, served(running.network):
        assert until(lambda: monitor.next_hop != 0)         # type: ignore[attr-defined]
        talk(lab)
        assert until(lambda: sum(row["packets"] for row in monitor.method("flows")()) >= len(
            [frame for frame in capture.frames() if frame[12:14] in (b"\x08\x00", b"\x86\xdd")]))
        flows = monitor.method("flush")()
        seen = [found for frame in capture.frames() if (found := flow_of(frame)) is not None]
        assert flows == monitor.method("show")()["exported"]
        handshakes = monitor.method("handshakes")()
    wanted: dict[Any, list[int]] = {}
    for *flow, size in seen:
        numbers = wanted.setdefault(tuple(flow), [0, 0])
        numbers[0] += 1
        numbers[1] += size
    assert until(lambda: " 00000000:00000000 " in listening()[0]), "all was read"
    collector.send_signal(signal.SIGTERM)
    collector.wait(20)
    shown = "fmt:%sa %da %pr %sp %dp %pkt %byt"
    text = a.run([program("nfdump"), "-R", str(folder), "-q", "-N", "-6", "-o", shown]).stdout
    got: dict[Any, list[int]] = {}
    numbers_of = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMP6": 58}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 7:
            continue
        source, destination, protocol, sport, dport, packets, octets = words
        number = numbers_of.get(protocol) or int(protocol)
        ports = (int(sport), int(dport)) if number in (6, 17) else (0, 0)
        sums = got.setdefault((source, destination, number, *ports), [0, 0])
        sums[0] += int(packets)
        sums[1] += int(octets)
    mine = {flow: numbers for flow, numbers in got.items() if flow in wanted}
    assert mine == wanted
    assert len([flow for flow in wanted if flow[2] == 6]) == 4 and Counter(flow[2] for flow in wanted)[17] >= 2
    assert {row["whose"] for row in handshakes} == {"server", "client"}
    assert sum(row["count"] for row in handshakes) == 4, "two handshakes, both halves"


def test_segments_are_counted_as_the_device_behind_sends_them(lab: Lab) -> None:
    """With offloads: aggregates pass the monitor, and are counted as the frames they become."""
    a, b, _ = lab.hosts("a", "b", "c")
    offloads.change("to-b", {Offload.SEGMENTATION: False, Offload.GENERIC_SEGMENTATION: False}, lab.namespace)
    running = lab.join(Monitor(), {0: a, 1: b}, peer=False)
    with b.capture() as capture:
        talk(lab)

        def rows() -> Counter[Any]:
            return Counter({(row["source"], row["source_port"], row["destination"], row["destination_port"]):
                            row["bytes"] for row in running.function.method("flows")() if row["protocol"] == "tcp"})

        def captured() -> Counter[Any]:
            found: Counter[Any] = Counter()
            for frame in capture.frames():
                flow = flow_of(frame)
                if flow is not None and flow[2] == 6:
                    found[flow[0], flow[3], flow[1], flow[4]] += flow[5]
            return found

        assert until(lambda: all(rows()[flow] == size for flow, size in captured().items()))
        assert len(captured()) == 2
