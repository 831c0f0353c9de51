"""Packets of a network as they go by: watched, counted by flow, captured; and whose addresses a described one has.

A watch lives in the network's thread, where it is made, read and closed; whoever listens asks for what has come, a few
times a second.  What it records goes through a ring: what finds no room is counted, and told at the end.  A function is
watched once at a time, so who watches is told apart from who wants to.
"""
from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..fabric import Filter, Seen, Watch
from ..language.addresses import mac_address
from ..wire.described import BROADCAST, described
from ..wire.dissection import dissect, text
from .attachments import mac_of
from .problems import Refused, Wrong
from .views import Look

EVERY = 0.2                     # seconds between two looks
AT_ONCE = 200                   # packets of one look
MOST_FLOWS = 1000
MOST_BYTES = 64 << 20           # of a capture


@contextmanager
def watch(look: Look, wanted: Mapping[str, Any]) -> Iterator[Any]:
    """Inside, something that answers what has come since the last call."""
    try:
        asked = Filter(**wanted)
        opened: Watch = look.ask(lambda running: running.watch(asked))
    except ValueError as error:
        raise Refused.at(str(error), ("filter",)) from error

    def read() -> list[Seen]:
        found: list[Seen] = look.ask(lambda _: [seen for _, seen in zip(range(AT_ONCE), opened, strict=False)])
        return found
    try:
        yield read
    finally:
        _close(look, opened)


def told(seen: Seen) -> dict[str, Any]:
    """A packet, as data."""
    return {"time": seen.time / 1e9, "at": seen.at, "stage": seen.stage, "verdict": seen.verdict, "kind": seen.kind,
            "reason": seen.reason, "out": seen.out, "length": seen.length, "packet": str(dissect(seen.frame))}


def flows(look: Look, wanted: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
    """What goes by in so many seconds, by flow: who with whom, packets, bytes, and what became of them; most first.

    Counted where packets enter the network: a packet is one, however many functions it passes.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    edges = {look.port_name(at) for at in look.lowered.places.values()}
    ending = time.monotonic() + seconds
    with watch(look, wanted) as read:
        while True:
            last = time.monotonic() >= ending
            for seen in read():
                if seen.at not in edges or seen.stage != "ingress":
                    continue
                key = seen.at, flow_of(seen.frame)
                if key not in found and len(found) >= MOST_FLOWS:
                    key = "", "(others)"
                one = found.setdefault(key, {"at": key[0], "flow": key[1], "packets": 0, "bytes": 0, "verdicts": {}})
                one["packets"] += 1
                one["bytes"] += seen.length
                one["verdicts"][seen.verdict] = one["verdicts"].get(seen.verdict, 0) + 1
            if last:
                break
            time.sleep(min(EVERY, max(0.0, ending - time.monotonic())))
    return sorted(found.values(), key=lambda one: -one["bytes"])


def flow_of(frame: bytes) -> str:
    """`tcp 10.0.0.1:1000 > 10.0.0.2:80`; of what is no IP, the type and the stations."""
    parts = {part.name: part.header for part in dissect(frame).parts}
    network = parts.get("ip") or parts.get("ip6")
    if network is None:
        eth = parts.get("eth")
        return "?" if eth is None else f"{'arp' if 'arp' in parts else 'eth'} {text(eth, 'src')} > {text(eth, 'dst')}"
    ends = [text(network, field) for field in ("src", "dst")]
    for name in ("tcp", "udp"):
        if name in parts:
            six = "[{}]:{}" if "ip6" in parts else "{}:{}"
            return f"{name} " + " > ".join(six.format(end, text(parts[name], field))
                                           for end, field in zip(ends, ("src", "dst"), strict=True))
    return f"{'icmp' if {'icmp', 'icmp6'} & parts.keys() else 'ip'} " + " > ".join(ends)


def capture(look: Look, port: str, seconds: float, packets: int) -> Iterator[bytes]:
    """A pcapng file of what goes in and out of a port, piece by piece, for so many seconds or packets."""
    at = look.lowered.places.get(port, port)
    handle, path = tempfile.mkstemp(suffix=".pcapng")
    os.close(handle)
    try:
        opened = look.ask(lambda running: running.capture(at, path))
    except ValueError as error:
        Path(path).unlink()
        raise Refused.at(str(error), ("port",)) from error
    return _captured(look, opened, path, seconds, packets)


def _captured(look: Look, opened: Any, path: str, seconds: float, packets: int) -> Iterator[bytes]:
    ending, given = time.monotonic() + seconds, 0
    try:
        with Path(path).open("rb") as file:
            Path(path).unlink()
            while time.monotonic() < ending and opened.written < packets and given < MOST_BYTES:
                piece = file.read(1 << 16)
                given += len(piece)
                yield piece
                if not piece:
                    time.sleep(EVERY)
            _close(look, opened)
            while piece := file.read(1 << 16):
                yield piece
    finally:
        _close(look, opened)


def _close(look: Look, opened: Any) -> None:
    """In the network's thread; if there is no such network any more, here."""
    try:
        look.ask(lambda _: opened.close())
    except (Wrong, RuntimeError):
        opened.close()


def frame_of(look: Look, at: str, said: str) -> bytes:
    """The frame of a packet in words.  Whose it is, where nothing is said, the document knows: the endpoint's, and to
    the station that has the address, or to everybody.  ValueError."""
    packet = described(said)
    macs = {name: mac_address(one.mac or mac_of(look.head.seed, name)) for name, one in look.content.endpoints.items()}
    to = next((macs[name] for name, one in look.content.endpoints.items()
               if any(address.partition("/")[0] == str(packet.destination) for address in one.addresses)), BROADCAST)
    return packet.frame(macs.get(at, 0), to)


__all__ = ["capture", "flows", "frame_of", "told", "watch"]
