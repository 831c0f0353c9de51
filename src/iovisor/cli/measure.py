"""What a compiled function costs: instructions, stack, memory, and nanoseconds a packet.

Time is CPU time of this thread over many repetitions of BPF_PROG_TEST_RUN, less that of a program which does nothing,
run in the same round: the machine's moods meet both.  Of the rounds the median is given.  Programs are timed *bare*,
which means that they return their verdict; in a network a tail call takes its place.

A packet that a function changes or resizes would be another packet the second time, so such are run once a call and
many times, and are marked: what is then measured includes cold caches.

The frames are ordinary ones between two stations.  Each is first answered, through port 1, by its receiver, so that a
function that learns has learned.
"""
from __future__ import annotations

import statistics
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..kernel import Program
    from ..language import Function, Packet
    from ..targets.bpf_loaded import BpfLoaded

REPEAT, ROUNDS, SINGLE = 10_000, 9, 300
HERE, THERE = "02:00:00:00:00:01", "02:00:00:00:00:02"


@dataclass(frozen=True)
class Cost:
    """What one packet cost on one program; `settled` is false if every run changes it."""

    verdict: str
    nanoseconds: float
    settled: bool = True


@dataclass
class Compilation:
    """One entry on one target. Counts are instructions; None is what is not known without loading."""

    target: str
    entry: str
    instructions: int | None = None
    in_kernel: int | None = None
    walked: int | None = None
    stack: int | None = None
    machine_code: int | None = None
    frontend_ms: float = 0.0
    llvm_ms: float = 0.0
    load_ms: float | None = None
    refused: str = ""
    packets: dict[str, Cost] = field(default_factory=dict)


def frames() -> dict[str, tuple[bytes, bytes]]:
    """Ordinary frames, by name, each with the answer its receiver would give."""
    from ..testing.packets import arp, ethernet, ipv4, ipv6, tcp, udp

    def tcp4(a: str, b: str, one: str, other: str) -> bytes:
        return bytes(ethernet(dst=b, src=a) / ipv4(src=one, dst=other) / tcp(src=5000, dst=443) / b"hello!")

    def tcp6(a: str, b: str, one: str, other: str) -> bytes:
        return bytes(ethernet(dst=b, src=a) / ipv6(src=one, dst=other) / tcp(src=5000, dst=443) / b"hello!")

    def udp4(a: str, b: str, one: str, other: str) -> bytes:
        return bytes(ethernet(dst=b, src=a) / ipv4(src=one, dst=other) / udp(src=5000, dst=53) / bytes(1472))

    there = (THERE, HERE, "10.0.0.2", "10.0.0.1")
    return {
        "TCP, IPv4, 60 bytes": (tcp4(HERE, THERE, "10.0.0.1", "10.0.0.2"), tcp4(*there)),
        "TCP, IPv6, 80 bytes": (tcp6(HERE, THERE, "fd00::1", "fd00::2"), tcp6(THERE, HERE, "fd00::2", "fd00::1")),
        "UDP, IPv4, 1514 bytes": (udp4(HERE, THERE, "10.0.0.1", "10.0.0.2"), udp4(*there)),
        "ARP request, broadcast": (bytes(ethernet(dst="ff:ff:ff:ff:ff:ff", src=HERE)
                                         / arp(sender_mac=HERE, sender_ip="10.0.0.1", target_ip="10.0.0.2")),
                                   tcp4(*there)),
    }


def stack_of(code: bytes) -> int:
    """Bytes of stack that eBPF code reaches for: the lowest offset from the frame pointer."""
    deepest, copies = 0, set[int]()
    for opcode, registers, offset, immediate in struct.iter_unpack("<BBhi", code):
        kind, target, source = opcode & 7, registers & 15, registers >> 4
        if (kind == 1 and source == 10) or (kind in (2, 3) and target == 10):
            deepest = min(deepest, offset)
        elif opcode == 0xbf and source == 10 and offset == 0:
            copies.add(target)
        elif opcode == 0x07 and target in copies:
            deepest = min(deepest, immediate)
            copies.discard(target)
        elif kind in (4, 7, 0, 1):
            copies.discard(target)
    return -deepest


def empty(target: str) -> Program:
    """A program of the target's kind that does nothing."""
    from ..kernel import Program, ProgramSpec
    from ..kernel.assembler import assemble, leave
    from ..targets.bpf_loaded import KINDS
    _, kind, attach = KINDS[target]
    return Program.load(ProgramSpec("empty", kind, assemble(leave(0)), "GPL", expected_attach_type=attach), [])


def once(program: Program, target: str, packet: Packet, repeat: int = REPEAT) -> float:
    """Nanoseconds of one run, on average over `repeat`."""
    context = b"" if target == "xdp" else bytes(48) + packet.port.to_bytes(4, "little") + bytes(192 - 52)
    data = bytes(packet)
    begun = time.thread_time_ns()
    program.test_run(data, context, repeat)
    return (time.thread_time_ns() - begun) / repeat


def single(program: Program, target: str, packet: Packet) -> float:
    """The same for packets that cannot be run twice."""
    context = b"" if target == "xdp" else bytes(48) + packet.port.to_bytes(4, "little") + bytes(192 - 52)
    return float(statistics.median(program.test_run(bytes(packet), context).duration_ns for _ in range(SINGLE)))


def learned(loaded: BpfLoaded, answer: bytes) -> None:
    """Let the receiver speak first, through port 1."""
    from ..language import Packet
    if loaded.function.spec().port_count > 1 and "ingress" in loaded.programs:
        loaded.run(Packet(answer, 1))


def costs(loaded: BpfLoaded, entry: str) -> dict[str, Cost]:
    """What the ordinary frames cost a program."""
    from ..language import Packet
    program, target, found = loaded.programs[entry], loaded.target, {}
    with empty(target) as nothing:
        for name, (frame, answer) in frames().items():
            learned(loaded, answer)
            packet = Packet(frame, 0)
            verdict = verdict_text(loaded.function, loaded.run(packet, entry))
            settled = bytes(packet) == frame
            again = Packet(frame, 0)
            loaded.run(Packet(frame, 0), entry)
            if not settled:
                less = single(nothing, target, again)
                found[name] = Cost(verdict, max(single(program, target, again) - less, 0.0), False)
                continue
            rounds = [once(program, target, again) - once(nothing, target, again) for _ in range(ROUNDS)]
            found[name] = Cost(verdict, max(statistics.median(rounds), 0.0))
    return found


def python_costs(function: Function, entry: str) -> dict[str, Cost]:
    """The same in CPython."""
    from ..language import Packet
    found = {}
    for name, (frame, answer) in frames().items():
        if function.spec().port_count > 1:
            function.run(Packet(answer, 1))
        verdict = verdict_text(function, function.run(Packet(frame, 0), entry))
        samples = []
        for _ in range(50):
            packet = Packet(frame, 0)
            begun = time.perf_counter_ns()
            function.run(packet, entry)
            samples.append(time.perf_counter_ns() - begun)
        found[name] = Cost(verdict, float(statistics.median(samples)))
    return found


def verdict_text(function: Function, verdict: object) -> str:
    """A verdict with the function's own names for reasons and events."""
    from ..language.verdicts import DROP_KIND, PUNT_KIND, Verdict
    assert isinstance(verdict, Verdict)
    if verdict.kind == DROP_KIND:
        return f"drop({function.spec().reasons.get(verdict.argument, verdict.argument)})"
    if verdict.kind == PUNT_KIND:
        return f"punt({type(verdict.event).__name__ if verdict.event is not None else verdict.argument})"
    return repr(verdict)


__all__ = ["Compilation", "Cost", "costs", "empty", "frames", "learned", "once", "python_costs", "single", "stack_of",
           "verdict_text"]
