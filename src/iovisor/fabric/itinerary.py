"""A trace as a terminal shows it: a tree that grows only where the packet is copied.

    lan:0 ◀ eth(src=…, dst=…) / ip(src=10.0.0.1, dst=10.0.0.2, ttl=64) / udp(src=1000, dst=53), 47 bytes
    1 lan:0  Switch  flood
    │     switch.py:417  return FLOOD
    │     stations[mac 02:00:00:00:00:02, vid 0] no entry
    ├─ out of lan:1 ▶ device 5001
    └─ flooded out of lan:2
       2 wall:inside  Acl  drop(DENIED)
       ✗ dropped by wall: DENIED
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..wire.dissection import dissect

if TYPE_CHECKING:
    from .trace import End, Hop, Trace


def told(trace: Trace) -> str:
    """The text, without a newline at its end."""
    lines = [f"!! DISAGREEMENT at hop {found.hop + 1}: {found.text}" for found in trace.disagreements]
    if lines:
        lines.append("!! what the reference explains below is not to be believed there; the verdicts are the kernel's")
    lines.append(f"{trace.at} ◀ {dissect(trace.frame)}, {len(trace.frame)} bytes")
    lines += _branch(trace, -1)
    if not trace.complete:
        lines.append(f"… and on: a trace ends after {len(trace.hops)} hops")
    return "\n".join(lines)


def _branch(trace: Trace, cause: int) -> Iterator[str]:
    """What came of a hop: the ends that are its own, and the hops that follow."""
    ends = [end for end in trace.ends if end.hop == cause]
    follow = [hop for hop in trace.hops if hop.cause == cause]
    if len(ends) + len(follow) == 1:
        for end in ends:
            yield _end(end)
        for hop in follow:
            yield from _hop(trace, hop)
        return
    rows = [*([_end(end)] for end in ends),
            *([f"{hop.way}", *(f"   {line}" for line in _hop(trace, hop))] for hop in follow)]
    for place, row in enumerate(rows):
        last = place == len(rows) - 1
        for index, line in enumerate(row):
            lead = ("└─ " if last else "├─ ") if index == 0 else ("" if last else "│")
            yield lead + (line if index == 0 else line[len(lead):])


def _hop(trace: Trace, hop: Hop) -> Iterator[str]:
    stage = {"ingress": "", "xdp": " at XDP", "egress": " egress", "hook": " egress at the device"}[hop.stage]
    yield f"{hop.number + 1} {hop.at}  {hop.kind}{stage}  {hop.verdict}"
    details = [str(hop.line)] if hop.line is not None else []
    details += hop.entries
    details += [f"~ {change}" for change in hop.rewrites]
    details += [f"metadata {hop.metadata.hex(' ', 4)}"] if any(hop.metadata) else []
    details += [f"note: {caution}" for caution in hop.cautions]
    lead = "│     " if sum(end.hop == hop.number for end in trace.ends) + sum(
        other.cause == hop.number for other in trace.hops) > 1 else "      "
    yield from (lead + line for line in details)
    yield from _branch(trace, hop.number)


def _end(end: End) -> str:
    match end.what:
        case "out":
            return f"▶ {end.at}, {end.text}"
        case "dropped":
            return f"✗ dropped by {end.at}: {end.text}"
        case "punted":
            return f"↑ punted by {end.at}: {end.text}"
        case "host":
            return f"⌂ handed to the host by {end.at}"
    return f"✗ {end.what} by {end.at} {end.text}"


__all__ = ["told"]
