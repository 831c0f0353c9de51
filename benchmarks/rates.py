"""How exactly rates are kept, and what TCP gets of them: the policer and the shaper between two hosts, in TC.

UDP floods it; the receiver's kernel stamps every packet, and from the stamps come the *error* in the long run and,
with pauses in the flood, the *effective burst*, the most by which any window exceeds rate times its length, against
the burst that was configured.  TCP (iperf3) is given as its share of the rate, headers counted; for sixteen flows
Jain's index says how equal they are.
"""
from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from iovisor.functions.policer import Policer
from iovisor.functions.shaper import Shaper
from iovisor.language import data_rate
from iovisor.language.function import Function
from iovisor.testing.lab import Host, Lab

PORT, SEGMENT = 7_779, 103                      # UDP_SEGMENT: one aggregate of many datagrams
STAMPS = 35                                     # SO_TIMESTAMPNS
SECONDS = 1.5
FLOODS = [("1M", 22, 0), ("10M", 22, 0), ("10M", 1_472, 0), ("50M", 1_472, 0), ("200M", 1_472, 0), ("50M", 1_400, 20)]
TCP = [(rate, control) for rate in ("10M", "50M", "200M", "1000M") for control in ("bbr", "cubic")]
HEADERS, FRAME = 1_448, 1_514                   # payload of a full frame, and the frame

Make = Callable[[str, int], Function]


def policer(rate: str, burst: int) -> Function:
    return Policer(rate=rate, burst=burst)


def shaper(rate: str, burst: int) -> Function:
    return Shaper(rate=rate, burst=burst)


def flood(host: Host, address: str, size: int, segments: int, pauses: bool,
          stop: multiprocessing.synchronize.Event) -> None:
    """UDP as fast as it goes; with `pauses`, for a fifth of a second, and then not."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if segments:
            sender.setsockopt(socket.IPPROTO_UDP, SEGMENT, size)
        sender.connect((address, PORT))
        data = bytes(size * max(segments, 1))
        begun = time.monotonic()
        while not stop.is_set():
            if pauses and time.monotonic() - begun > 0.2:
                time.sleep(0.2)
                begun = time.monotonic()
            for _ in range(20):
                with suppress(ConnectionRefusedError, BlockingIOError):
                    sender.send(data)


def stamped(host: Host, seconds: float) -> list[tuple[int, int]]:
    """When frames came, in nanoseconds, and how long each was."""
    with host.namespace.entered():
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    found = []
    with receiver:
        receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
        receiver.setsockopt(socket.SOL_SOCKET, STAMPS, 1)
        receiver.bind(("eth0", 0x0800))
        receiver.settimeout(5)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            data, ancillary, _, address = receiver.recvmsg(1 << 16, 128)
            if address[2] != 4 and data[23] == 17:
                (stamp,) = [content for level, kind, content in ancillary if kind == STAMPS]
                whole, rest = struct.unpack("qq", stamp)
                found.append((whole * 10**9 + rest, len(data)))
    return found


def flooded(make: Make, rate: str, size: int, segments: int) -> dict[str, Any]:
    """The error of the long run, in per cent, and the effective burst against the one configured."""
    bits = data_rate(rate)
    burst = max(bits // 8 // 50, 32 << 10) if not segments else 1 << 20
    found = {}
    with Lab() as lab:
        a, b = lab.hosts("a", "b")
        with lab.join(make(rate, burst), [a, b]):
            for pauses in (False, True):
                stop = multiprocessing.Event()
                sender = multiprocessing.Process(target=flood, args=(a, b.ipv4, size, segments, pauses, stop))
                sender.start()
                time.sleep(0.5)                 # the first burst is over, what follows is the rate
                found[pauses] = stamped(b, SECONDS)
                stop.set()
                sender.join()
    overhead = 0 if not segments else (segments - 1) * 42
    level, worst, last = 0.0, 0.0, found[True][0][0]
    for at, length in found[True]:
        level = max(level - (at - last) * bits / 8e9, 0) + length + overhead
        worst, last = max(worst, level), at
    steady = found[False]
    total = sum(length + overhead for _, length in steady[1:])
    got = total * 8e9 / (steady[-1][0] - steady[0][0])
    return {"rate": rate, "size": size + 42, "segments": segments, "error": 100 * (got / bits - 1),
            "burst": worst / burst}


def carried(make: Make, rate: str, control: str, flows: int = 1, seconds: int = 4) -> tuple[float, float]:
    """TCP's share of a rate, headers counted, and Jain's index of its flows."""
    with Lab() as lab:
        a, b = lab.hosts("a", "b")
        with lab.join(make(rate, 0), [a, b]):
            b.start(["iperf3", "-s", "-1"], stdout=-3, stderr=-3)
            time.sleep(0.3)
            done = a.run(["iperf3", "-c", b.ipv4, "-t", str(seconds), "-O", "1", "-J", "-C", control, "-P", str(flows)],
                         timeout=60, check=False)
    end = json.loads(done.stdout)["end"]
    each = [stream["receiver"]["bytes"] for stream in end["streams"]]
    share = end["sum_received"]["bits_per_second"] / data_rate(rate) * FRAME / HEADERS
    return share, sum(each) ** 2 / len(each) / sum(one * one for one in each)


def measure(make: Make, equal: bool) -> dict[str, Any]:
    """Everything of one of them; with `equal`, how equal sixteen flows are."""
    found: dict[str, Any] = {"floods": [flooded(make, *case) for case in FLOODS],
                             "tcp": [(rate, control, carried(make, rate, control)[0]) for rate, control in TCP]}
    if equal:
        found["equal"] = [(control, *carried(make, "50M", control, 16)) for control in ("bbr", "cubic")]
    return found


__all__ = ["measure", "policer", "shaper"]
