"""Frames that nobody should send: what a function makes of a million of them.

    examine(Subject(make=Switch, stock=frames, prelude=talk, canary=talk), 1_000_000, images)

A scene begins with a fresh instance and a `prelude` of proper frames, which make it know something; then come frames
of `stock` that were spoiled in every layer; at its end stands the `canary`, proper frames that must pass as if nothing
had happened.  Every frame goes through all machines that take it, TC and native code always, CPython and XDP in one
scene of `SHARE`; they must answer the same.  Of every answer it is asked:

- Is it a drop for a reason that the function declares, counted once; or does it leave through a port there is?
- Is what leaves what came in, byte for byte?  For a function that changes frames, `judge` says so in its place.
- May it leave at all?  `judge` reads the frame by itself, with `read` of this module or otherwise, never with the
  code it judges, and answers what is wrong.
- Did counters count what happened and nothing else?  Drops are compared exactly, by reason; `account` may say more.

`spoiled` knows cuts at and around the borders of headers, fields at the borders of their range, bytes and bits
anywhere, pieces lost, doubled and swapped, tags, options, chains of extension headers, fragments, and tunnels within
tunnels.  In half of what it made of IPv4 the checksum is mended, or nothing would come past it.

A failure names seed, scene and frame, and shows the frame as code; the same seed shows it again.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random

from iovisor.compiler.cache import Cache
from iovisor.language import Clock, Function, Packet
from iovisor.language.machine import MACHINE
from iovisor.language.verdicts import DROP_KIND, FORWARD_KIND, PUNT_KIND, Verdict
from iovisor.targets import load
from iovisor.testing.agreement import BEGINNING, LARGEST, LEAST_AT_TC, SMALLEST, Arrival, Lane, available
from iovisor.testing.bulk import changed
from iovisor.testing.packets import describe
from iovisor.wire.dissection import dissect

SCENE, SHARE = 4_000, 10
EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)         # IANA's list, without what encrypts
BORDERS = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 20, 21, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x1fff, 0x2000, 0x7fff, 0x8000, 0xffff)

#: What is wrong with an answer, or None: the arrival, the verdict, and the frame as it leaves.
Judge = Callable[[Arrival, Verdict, bytes], str | None]


def unaltered(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
    """For functions that change nothing."""
    return None if frame == arrival.frame else "it was altered"


@dataclass(frozen=True)
class Subject:
    """A function, what is spoiled for it, and what holds of its answers.

    `judge` makes a judge for each scene, because one may remember what it saw; `every` says that it sees drops as well,
    without a frame, because what a function drops may have taught it something.  `account` gets the function after a
    scene and how many frames it was given, and answers what its counters got wrong.
    """

    make: Callable[[], Function]
    stock: Sequence[Arrival]
    prelude: Sequence[Arrival] = ()
    canary: Sequence[Arrival] = ()
    entries: tuple[str, ...] = ("ingress",)
    judge: Callable[[], Judge] = field(default=lambda: unaltered)
    account: Callable[[Function, int], str | None] = field(default=lambda function, count: None)
    targets: tuple[str, ...] = ("tc", "native", "python", "xdp")
    every: bool = False


def examine(subject: Subject, count: int, images: Cache, seed: int = 1) -> Counter[str]:
    """Put `count` spoiled frames to the function; answers how often each verdict was, and raises what is wrong."""
    tally: Counter[str] = Counter()
    processors = os.sched_getaffinity(0)
    before = bytes(MACHINE)
    os.sched_setaffinity(0, {min(processors)})
    Clock.stand(BEGINNING)
    try:
        with ExitStack() as undo:
            stage = Stage(subject, images, undo)
            for scene in range(-(-count // SCENE)):
                stage.play(f"seed {seed}, scene {scene}", Random(f"{seed} {scene}"), min(SCENE, count - scene * SCENE),
                           scene % SHARE == 0, tally)
    finally:
        MACHINE._buffer[:] = before
        Clock.advance(0)
        os.sched_setaffinity(0, processors)
    return tally


class Stage:
    """The machines a subject is loaded on.

    What TC refuses to try goes through instances of its own, so that those which saw the same are compared.
    """

    def __init__(self, subject: Subject, images: Cache, undo: ExitStack) -> None:
        self.subject, self.images, self.undo = subject, images, undo
        self.usable = tuple(target for target in subject.targets if target in available())
        self.lanes: dict[tuple[str, ...], list[Lane]] = {}

    def play(self, name: str, random: Random, count: int, all_machines: bool, tally: Counter[str]) -> None:
        """One scene."""
        targets = tuple(t for t in self.usable if all_machines or t in ("tc", "native") or len(self.usable) == 1)
        kinds = (targets, tuple(t for t in targets if t != "tc"),
                 tuple(t for t in targets if t in ("native", "python")))
        Clock.stand(BEGINNING)
        for kind in dict.fromkeys(filter(None, kinds)):
            self.set(kind)
        subject, answered = self.subject, dict[tuple[str, ...], Counter[int]]()
        judges = {kind: subject.judge() for kind in kinds}

        def put(arrival: Arrival, where: str, proper: bool) -> None:
            for kind in filter(None, dict.fromkeys(kinds) if proper else (kinds[takes(arrival.frame)],)):
                verdict, frame = self.answer(kind, arrival, where)
                wrong = self.wrong(judges[kind], arrival, verdict, frame, proper)
                assert wrong is None, f"{where}: {wrong}\n{told(arrival, verdict, frame)}"
                answered.setdefault(kind, Counter())[verdict.code] += 1
                if not proper:
                    tally[repr(verdict) if verdict.kind != DROP_KIND else
                          "drop " + type(self.lanes[kind][0].loaded.function).spec().reasons[verdict.argument]] += 1

        for number, arrival in enumerate(subject.prelude):
            put(arrival, f"{name}, prelude {number}", True)
        for number in range(count):
            proper = random.choice(subject.stock)
            put(Arrival(spoiled(random, proper.frame), proper.port, proper.entry), f"{name}, frame {number}", False)
        for number, arrival in enumerate(subject.canary):
            put(arrival, f"{name}, canary {number}", True)
        for kind, codes in answered.items():
            self.settle(kind, codes, name)

    def set(self, kind: tuple[str, ...]) -> None:
        """Instances on these machines, as new."""
        if kind in self.lanes:
            for lane in self.lanes[kind]:
                lane.reset()
            return
        self.lanes[kind] = []
        for target in kind:
            loaded = self.undo.enter_context(load(self.subject.make(), target, self.subject.entries, cache=self.images))
            self.lanes[kind].append(Lane(loaded, {}, loaded.drops))
            self.lanes[kind][-1].beginning = self.lanes[kind][-1].tables()

    def answer(self, kind: tuple[str, ...], arrival: Arrival, where: str) -> tuple[Verdict, bytes]:
        """What all these machines say, with the frame as it leaves."""
        first: tuple[Verdict, bytes] | None = None
        chance = MACHINE.chance
        for lane in self.lanes[kind]:
            if MACHINE.chance or chance:            # each machine has a copy, which moves on its own
                MACHINE.chance = chance
                Clock.advance(0)
            packet = Packet(arrival.frame, arrival.port)
            verdict = lane.loaded.run(packet, arrival.entry)
            frame = b"" if verdict.kind == DROP_KIND else bytes(packet)
            if first is None:
                first = verdict, frame
            assert (verdict.code, frame) == (first[0].code, first[1]), \
                f"{where}: {lane.target} says otherwise than {kind[0]}\n{told(arrival, *first)}\n" \
                f"{told(arrival, verdict, frame)}"
        assert first is not None
        return first

    def wrong(self, judge: Judge, arrival: Arrival, verdict: Verdict, frame: bytes, proper: bool) -> str | None:
        described = type(next(iter(self.lanes.values()))[0].loaded.function).spec()
        match verdict.kind:
            case kind if kind == DROP_KIND:
                if verdict.argument not in described.reasons:
                    return f"{verdict.argument} is no reason it declares"
                if proper or not self.subject.every:
                    return "a proper frame was dropped" if proper else None
            case kind if kind == FORWARD_KIND and verdict.argument >= described.port_count:
                return "there is no such port"
            case kind if kind == PUNT_KIND and verdict.argument >= len(described.events):
                return "there is no such event"
        return judge(arrival, verdict, frame)

    def settle(self, kind: tuple[str, ...], codes: Counter[int], name: str) -> None:
        """After a scene: the counters, and that all machines remember the same."""
        wanted = {code & 0xffff: number for code, number in codes.items() if code >> 16 == DROP_KIND}
        lanes = self.lanes[kind]
        for lane in lanes:
            assert lane.dropped() == wanted, f"{name}: {lane.target} counted {lane.dropped()}, dropped were {wanted}"
            wrong = self.subject.account(lane.loaded.function, codes.total())
            assert wrong is None, f"{name}: {lane.target}: {wrong}"
        reference = lanes[0].tables()
        for lane in lanes[1:]:
            found = lane.tables()
            differing = [table for table in reference if found[table] != reference[table]]
            assert not differing, f"{name}: {lane.target} and {kind[0]} remember different {', '.join(differing)}"


def takes(frame: bytes) -> int:
    """Who takes a frame: 0 all machines, 1 all but TC, 2 none of the kernel's."""
    if not SMALLEST <= len(frame) <= LARGEST:
        return 2
    return 1 if len(frame) < 54 and len(frame) < LEAST_AT_TC.get(frame[12:14], 0) else 0


def told(arrival: Arrival, verdict: Verdict, frame: bytes) -> str:
    lines = [f"  {arrival!r}", f"  {arrival.frame.hex()}", f"  {verdict!r}"]
    return "\n".join(lines + ([f"  as {describe(frame)}"] if frame not in (b"", arrival.frame) else []))


# -- spoiling ---------------------------------------------------------------------------------------------------------


def spoiled(random: Random, frame: bytes) -> bytes:
    """The frame, no longer proper, or only improbable; 1 byte at least."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        frame = random.choice(WAYS)(random, frame)[:LARGEST] or b"\0"
    return mended(frame) if random.random() < 0.5 else frame


def borders(frame: bytes) -> list[int]:
    """Where headers begin and end."""
    found, at = [0], 0
    for part in dissect(frame).parts:
        at += part.kind.size
        found.append(at)
        at += len(part.options)
        found.append(at)
    return found


def cut(random: Random, frame: bytes) -> bytes:
    where = random.choice(borders(frame)) + random.choice((-1, 0, 1)) if random.random() < 0.6 else \
        random.randrange(len(frame) + 1)
    return frame[:max(where, 1)]


def one_field(random: Random, frame: bytes) -> bytes:
    """A field of a header at the border of its range, or beside what it was."""
    data, at = bytearray(frame), 0
    parts = dissect(frame).parts
    if not parts:
        return changed(random, frame)
    chosen = random.randrange(len(parts))
    for part in parts[:chosen]:
        at += part.kind.size + len(part.options)
    kind = parts[chosen].kind
    name = random.choice(list(kind.fields))
    view = kind.at(data, at, None, fresh=True)
    mask, was = kind.fields[name].mask, getattr(view, name)
    width = mask.bit_length()
    value = random.choice((random.choice(BORDERS), mask, mask - 1, mask >> 1, was + 1, was - 1,
                           was ^ 1 << random.randrange(width), random.getrandbits(width)))
    setattr(view, name, value & mask)
    return bytes(data)


def bits(random: Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def pieces(random: Random, frame: bytes) -> bytes:
    """A piece lost, doubled, or two swapped."""
    one, two, three = sorted(random.randrange(len(frame) + 1) for _ in range(3))
    return random.choice((frame[:one] + frame[two:], frame[:two] + frame[one:],
                          frame[:one] + frame[two:three] + frame[one:two] + frame[three:])) or frame


def tags(random: Random, frame: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 2, 3, 7))):
        kind = random.choice((0x8100, 0x8100, 0x88a8, 0x9100))
        tci = random.choice((0, 1, 10, 20, 0xfff, 0xe000, random.getrandbits(16)))
        frame = frame[:12] + kind.to_bytes(2, "big") + tci.to_bytes(2, "big") + frame[12:]
    return frame


def after_tags(frame: bytes) -> int:
    """Where the header of the network begins."""
    at = 14
    while frame[at - 2:at] in (b"\x81\0", b"\x88\xa8") and at + 4 <= len(frame):
        at += 4
    return at


def options(random: Random, frame: bytes) -> bytes:
    """IPv4 options, of lengths that may lie."""
    at = after_tags(frame)
    if frame[at - 2:at] != b"\x08\0" or len(frame) < at + 20:
        return one_field(random, frame)
    kind = random.choice((0, 1, 7, 68, 131, 137, 148, random.randrange(256)))
    size = 4 * random.randrange(1, 11)
    content = (bytes([kind, random.choice((0, 1, 2, 3, 4, size, 0xff)), random.choice((0, 4, 0xff))])
               + random.randbytes(40))[:size]
    data = bytearray(frame[:at + 20] + content + frame[at + 20:])
    data[at] = 0x40 | (5 + size // 4 if random.random() < 0.9 else random.randrange(16))
    length = int.from_bytes(data[at + 2:at + 4], "big") + size
    data[at + 2:at + 4] = (length & 0xffff).to_bytes(2, "big")
    return bytes(data)


def extensions(random: Random, frame: bytes) -> bytes:
    """A chain of IPv6 extension headers, of lengths that may lie."""
    at = after_tags(frame)
    if frame[at - 2:at] != b"\x86\xdd" or len(frame) < at + 40:
        return one_field(random, frame)
    data, chain, following = bytearray(frame), b"", frame[at + 6]
    for _ in range(random.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, 40))):
        number = random.choice((*EXTENSIONS, 60, 50))
        units = random.choice((0, 0, 0, 1, 2))
        said = units if random.random() < 0.9 else random.choice((0xff, 0x7f, 40, units + 1))
        body = random.randbytes(6 + 8 * units)
        if number == 44:
            body, said = bytes([0, random.choice((0, 1, 8, 9)), 0, 0, 0, 7]), 0
        elif number == 51:
            said, body = said * 2 + 0, (body + bytes(8))[:6 + 8 * units]
        chain, following = bytes([following, said & 0xff]) + body + chain, number
    data[at + 6] = following
    length = int.from_bytes(data[at + 4:at + 6], "big") + len(chain)
    data[at + 4:at + 6] = (length & 0xffff).to_bytes(2, "big")
    return bytes(data[:at + 40]) + chain + bytes(data[at + 40:])


def fragments(random: Random, frame: bytes) -> bytes:
    """A fragment of something: first, later, overlapping, or ending beyond 65,535 bytes."""
    at = after_tags(frame)
    if frame[at - 2:at] != b"\x08\0" or len(frame) < at + 20:
        return extensions(random, frame)
    data = bytearray(frame)
    word = random.choice((0, 0x2000, 0x8000, 0x6000)) | random.choice((0, 1, 2, 3, 100, 0x1fff, 0x1ff0))
    data[at + 6:at + 8] = word.to_bytes(2, "big")
    return bytes(data)


def tunnels(random: Random, frame: bytes) -> bytes:
    """The packet, or the frame, within IPv4 or IPv6: in VXLAN, GENEVE, GRE or nothing."""
    at = after_tags(frame)
    if len(frame) < at + 20 or len(frame) > 1000:
        return cut(random, frame)
    inner = frame[at:] if random.random() < 0.5 else frame
    length = (len(inner) + 16).to_bytes(2, "big")
    protocol, head = random.choice((
        (17, b"\x12\xb5\x12\xb5" + length + bytes(2) + b"\x08\0\0\0\0\0\x64\0"),
        (17, b"\x17\xc1\x17\xc1" + length + bytes(2) + b"\0\0\x65\x58\0\0\x64\0"),
        (47, b"\x20\0\x65\x58\0\0\0\x64"), (4, b""), (41, b""), (97, b"")))
    content = head + inner
    if random.random() < 0.5:
        ends = random.choice((b"\x0a\0\0\x01\x0a\0\0\x02", random.randbytes(8)))
        outer = b"\x45\0" + (20 + len(content)).to_bytes(2, "big") + bytes(4) + bytes([64, protocol, 0, 0]) + ends
        return mended(frame[:12] + b"\x08\0" + outer + content)
    outer = b"\x60\0\0\0" + len(content).to_bytes(2, "big") + bytes([protocol, 64]) + random.randbytes(32)
    return frame[:12] + b"\x86\xdd" + outer + content


def longer(random: Random, frame: bytes) -> bytes:
    return frame + random.randbytes(random.choice((1, 2, 46, 400)))


WAYS = (cut, cut, one_field, one_field, one_field, one_field, bits, changed, pieces, tags, options, extensions,
        fragments, tunnels, longer)


def mended(frame: bytes) -> bytes:
    """The frame with the checksum of its IPv4 header made right, if it has one."""
    at = after_tags(frame)
    size = 4 * (frame[at] & 15) if len(frame) > at else 0
    if frame[at - 2:at] != b"\x08\0" or size < 20 or len(frame) < at + size:
        return frame
    head = frame[at:at + 10] + b"\0\0" + frame[at + 12:at + size]
    total = int.from_bytes(head, "big") % 0xffff
    return frame[:at + 10] + (~total & 0xffff).to_bytes(2, "big") + frame[at + 12:]


# -- reading for oneself ----------------------------------------------------------------------------------------------


@dataclass
class Reading:
    """A frame as whoever judges reads it.  `fault` is what contradicts itself; what comes behind it was not read."""

    destination: bytes
    source: bytes
    tags: list[int] = field(default_factory=list)
    type: int = 0
    addresses: tuple[bytes, bytes] = (b"", b"")
    protocol: int = -1
    offset: int = 0
    more: bool = False
    transport: bytes = b""
    fault: str = ""

    @property
    def ports(self) -> tuple[int, int]:
        return int.from_bytes(self.transport[:2], "big"), int.from_bytes(self.transport[2:4], "big")


def read(frame: bytes) -> Reading:
    """Plainly: slices and numbers, and no code that it might have to judge."""
    found = Reading(frame[:6], frame[6:12])
    at = 14
    while frame[at - 2:at] in (b"\x81\0", b"\x88\xa8") and len(frame) >= at + 4:
        found.tags.append(int.from_bytes(frame[at:at + 2], "big"))
        at += 4
    found.type = int.from_bytes(frame[at - 2:at], "big") if len(frame) >= at else -1
    match found.type:
        case -1:
            found.fault = "ends within its header"
        case 0x0800:
            _version4(found, frame[at:])
        case 0x86dd:
            _version6(found, frame[at:])
    return found


def _version4(found: Reading, data: bytes) -> None:
    size = 4 * (data[0] & 15) if data else 0
    length = int.from_bytes(data[2:4], "big")
    if len(data) < 20 or data[0] >> 4 != 4 or size < 20 or not size <= length <= len(data):
        found.fault = "its IPv4 header contradicts the frame"
        return
    found.addresses, found.protocol = (data[12:16], data[16:20]), data[9]
    word = int.from_bytes(data[6:8], "big")
    found.offset, found.more = 8 * (word & 0x1fff), bool(word & 0x2000)
    found.transport = data[size:length]


def _version6(found: Reading, data: bytes) -> None:
    length = int.from_bytes(data[4:6], "big")
    if len(data) < 40 or data[0] >> 4 != 6 or length + 40 > len(data):
        found.fault = "its IPv6 header contradicts the frame"
        return
    found.addresses, number, rest = (data[8:24], data[24:40]), data[6], data[40:40 + length]
    while number in EXTENSIONS:
        size = 8 if number == 44 else 4 * rest[1] + 8 if number == 51 and len(rest) > 1 else \
            8 * rest[1] + 8 if len(rest) > 1 else 8
        if len(rest) < size:
            found.fault = "an extension header goes beyond its end"
            return
        if number == 44:
            word = int.from_bytes(rest[2:4], "big")
            found.offset, found.more = word & ~7, bool(word & 1)
        number, rest = rest[0], rest[size:]
        if found.offset:
            break
    found.protocol, found.transport = number, rest


__all__ = ["Judge", "Reading", "Subject", "examine", "read", "spoiled", "unaltered"]
