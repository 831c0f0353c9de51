"""Every primitive of the language, and every piece of its syntax, on every target that is usable here.

The functions are in functions.py.  Each gets the same broad traffic; what needs particular packets has its own test
below.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings

from iovisor.compiler.cache import Cache
from iovisor.language import Config, Function, Packet, Prefix, Record, forward
from iovisor.targets import TARGETS, load
from iovisor.targets.bpf_loaded import BpfLoaded
from iovisor.testing import Agreement, Arrival, agree, available, traffic
from iovisor.testing.bulk import SECOND
from iovisor.testing.packets import ethernet, ipv4, ipv6, tcp, udp, vlan
from iovisor.testing.strategies import arrivals
from tests.agreement import functions
from tests.agreement.functions import (
    Ages,
    Arithmetic,
    Configured,
    Events,
    Hashes,
    Mark,
    Meets,
    Mode,
    Rewrites,
    Routes,
    Settings,
    Tags,
    Tells,
    Wanders,
)

EACH, NIGHTLY = 1_500, 60_000

KINDS = {name: kind for name, kind in vars(functions).items()
         if isinstance(kind, type) and issubclass(kind, Function) and kind is not Function}


def entries_of(kind: type[Function]) -> tuple[str, ...]:
    return ("ingress", "egress") if hasattr(kind, "egress") else ("ingress",)


@pytest.mark.parametrize("name", KINDS)
def test_every_target_agrees(name: str, images: Cache, nightly: bool) -> None:
    kind = KINDS[name]
    entries, ports = entries_of(kind), kind.spec().port_count
    metadata = Mark if name == "Marks" else None
    # TC pops nothing from longer frames that are not IP.
    longest = 1_900 if name.startswith(("Pushes", "Inserts", "Tunnels")) else 3_000
    with Agreement(kind, entries=entries, metadata=metadata, cache=images) as session:
        session.run(traffic(name, NIGHTLY if nightly else EACH, ports=ports, entries=entries, longest=longest))
        session.run(traffic(name + " again", 300, ports=ports, entries=entries, broken=0.9, longest=longest))


@pytest.mark.parametrize("name", ["Tags", "Pushes", "PushesUnderTags", "Rewrites", "Flow", "Arithmetic"])
@pytest.mark.parametrize("level", [1, 3])
def test_whatever_the_optimiser_did(name: str, level: int, images: Cache) -> None:
    kind = KINDS[name]
    agree(kind, traffic(name, 300, ports=kind.spec().port_count), level=level, cpu="v3", cache=images)


def numbers(seed: int, count: int) -> Iterator[Arrival]:
    """Frames that are nothing but numbers, many of them at the borders of their width."""
    random = Random(seed)
    for _ in range(count):
        words = [random.choice((0, 1, 0xffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff, random.getrandbits(32)))
                 for _ in range(8)]
        yield Arrival(b"".join(word.to_bytes(4, "big") for word in words), random.randrange(4))


def test_numbers_at_their_borders(images: Cache, nightly: bool) -> None:
    agree(Arithmetic, numbers(1, 50_000 if nightly else 2_000), every=1, cache=images)


@pytest.mark.parametrize("target", [target for target in ("tc", "xdp") if target in available()])
def test_ways_that_meet_are_walked_once(target: str, images: Cache) -> None:
    verified = []
    for kind in (Wanders, Meets):
        with load(kind(), target, cache=images) as loaded:
            assert isinstance(loaded, BpfLoaded)
            verified.append(loaded.programs["ingress"].info().verified)
    assert verified[1] * 1.4 < verified[0], verified


def test_udp_without_a_checksum_keeps_none(images: Cache) -> None:
    """And a checksum that becomes zero is sent as 0xffff: every value of the sum is tried."""
    outside = ethernet(dst=1, src=2)
    frames = [outside / ipv4(src="10.0.0.1", dst="10.0.0.2") / udp(src=n, dst=53, checksum=0) / b"x" for n in range(8)]
    sweep = range(0, 0x10000, 0x101)
    frames += [outside / ipv4(src=0x0a000001, dst=2) / udp(src=n, dst=53, checksum=n) / b"xy" for n in sweep]
    frames += [outside / ipv6(src=3, dst=4) / udp(src=n, dst=53) / b"xy" for n in sweep]
    frames += [outside / ipv4(src=0x0a000001, dst=2) / tcp(src=n, dst=53, checksum=n) / b"xy" for n in sweep]
    agree(Rewrites, [bytes(frame) for frame in frames], cache=images)


def test_checksums_stay_right() -> None:
    """The reference itself, against a frame built anew."""
    frame = ethernet(dst=1, src=2) / ipv4(src="10.0.0.1", dst="10.9.0.2") / tcp(src=1, dst=2, sequence=5) / b"odd"
    packet = Packet(bytes(frame))
    Rewrites().run(packet)
    assert bytes(packet) == bytes(
        ethernet(dst="02:aa:bb:cc:dd:ee", src=1) / ipv4(src="10.0.0.1", dst=0, ttl=63)
        / tcp(src=2, dst=2, sequence=4, flags=0x18) / b"odd")


def test_tags_in_short_frames(images: Cache) -> None:
    """Frames of every length around the tags', with every nesting."""
    def frames() -> Iterator[Arrival]:
        nested = ethernet(dst=1, src=2, type=0x88a8) / vlan(vid=5, type=0x8100) / vlan(vid=6, pcp=7, type=0x8100) \
            / vlan(vid=7, type=0x800) / bytes(8)
        single = ethernet(dst=1, src=2) / vlan(vid=5, type=0x88b5) / bytes(12)
        for data in (bytes(nested), bytes(single)):
            for length in range(1, len(data) + 1):
                for port in range(Tags.spec().port_count):
                    yield Arrival(data[:length], port)

    for kind in (Tags, functions.TransparentTags, functions.PushesUnderTags, functions.Pushes):
        agree(kind, frames(), cache=images)


def test_time_at_the_border_of_a_life(images: Cache) -> None:
    """An entry as old as its life lives, one a nanosecond older does not."""
    frame = bytes(ethernet(dst=1, src=1, type=1))
    for port in range(3):
        for life in (20 * SECOND, 3 * SECOND):
            for late in (-1, 0, 1):
                later = [Arrival(frame, port, after=life + late), Arrival(frame, port, after=1)]
                agree(Ages, [Arrival(frame, port), *later], cache=images)


def test_a_full_table(images: Cache) -> None:
    frames = [Arrival(bytes(ethernet(dst=n, src=n, type=n)), port) for port in (2, 3) for n in range(100)]
    agree(Hashes, frames, every=1, cache=images)


def test_prefixes_of_every_length(images: Cache) -> None:
    class Every(Routes):
        def configure(self, old: Config | None, new: Config) -> None:
            from tests.agreement.functions import Pair
            for length in range(33):
                self.four[Prefix(0xc0a80101 >> 32 - length << 32 - length, length)] = Pair(one=length, two=0)
            for length in range(0, 129, 3):
                base = 0x20010db8_0000_0000_ffff << 48 | 0xabcd
                self.six[Prefix(base >> 128 - length << 128 - length, length, 128)] = length

    frames = [ethernet(dst=1, src=2) / ipv4(src=1, dst=0xc0a80101 ^ 1 << bit) for bit in range(32)]
    frames += [ethernet(dst=1, src=2) / ipv6(src=1, dst=(0x20010db8_0000_0000_ffff << 48 | 0xabcd) ^ 1 << bit)
               for bit in range(128)]
    agree(Every, [bytes(frame) for frame in frames], cache=images)


@pytest.mark.parametrize("mode", list(Mode))
def test_configurations_fold(mode: Mode, images: Cache) -> None:
    for values in ({"strict": False}, {"limit": 0}, {"limit": 0xffff_ffff}, {"peer": "ff:ff:ff:ff:ff:ff", "limit": 14}):
        config = Settings(mode=mode, **values)
        agree(partial(Configured, config=config), traffic(int(mode), 200, ports=2), cache=images)


@settings(max_examples=60)
@given(sequence=arrivals(ports=4))
def test_hypothesis_finds_nothing_in_tables(sequence: list[Arrival]) -> None:
    session("Hashes").run(sequence)


@settings(max_examples=60)
@given(sequence=arrivals(ports=8))
def test_hypothesis_finds_nothing_in_tags(sequence: list[Arrival]) -> None:
    session("Tags").run(sequence)


@settings(max_examples=60)
@given(sequence=arrivals(ports=4))
def test_hypothesis_finds_nothing_in_rewrites(sequence: list[Arrival]) -> None:
    session("Rewrites").run(sequence)


SESSIONS: dict[str, Agreement] = {}


def session(name: str) -> Agreement:
    """One a function: what is loaded takes any number of sequences."""
    if name not in SESSIONS:
        SESSIONS[name] = Agreement(KINDS[name])
    return SESSIONS[name]


@pytest.fixture(scope="module", autouse=True)
def close_sessions() -> Iterator[None]:
    yield
    for found in SESSIONS.values():
        found.close()
    SESSIONS.clear()


@pytest.mark.root
@pytest.mark.parametrize("target", ["tc", "xdp"])
def test_an_event_brings_its_frame(target: str, images: Cache) -> None:
    """The frame as it was when the event was made, tag and all."""
    from iovisor.targets.bpf_loaded import BpfLoaded
    tagged = bytes(ethernet(dst=5, src=6) / vlan(vid=9, type=0x88b5) / bytes(range(64)))
    bare = tagged[:12] + tagged[16:]
    taken: list[tuple[int, Record, Packet]] = []

    class Kept(BpfLoaded):
        def events(self) -> list[tuple[int, Record, Packet]]:
            found = super().events()
            taken.extend(found)
            return found

    with Kept(Events(), target, cache=images) as loaded:
        for port, data in ((1, tagged), (2, tagged), (1, bare), (2, bare), (1, tagged[:18])):
            taken.clear()
            loaded.run(Packet(data, port))
            reference = Packet(data, port)
            verdict = Events().run(reference)
            assert len(taken) == 1
            index, event, packet = taken[0]
            assert (index, event, packet.port) == (verdict.argument, verdict.event, port)
            assert bytes(packet) == bytes(reference)


@pytest.mark.root
@pytest.mark.parametrize("target", ["tc", "xdp"])
def test_what_is_told_brings_its_frame_and_may_be_lost(target: str, images: Cache) -> None:
    """A copy of the frame as it was when the event was made; when the ring is full, the packet goes on all the same."""
    from iovisor.targets.bpf_loaded import BpfLoaded, event_was_told, parse_event
    frame = bytes(ethernet(dst=5, src=6) / vlan(vid=9, type=0x88b5) / bytes(range(64)))
    with BpfLoaded(Tells(), target, cache=images, ring=1 << 12) as loaded:
        assert loaded.ring is not None
        ring, loaded.ring = loaded.ring, None
        try:
            assert [loaded.run(Packet(frame, 2)) for _ in range(2)] == [forward(1)] * 2
            records = list(ring)
        finally:
            loaded.ring = ring
        assert [event_was_told(record) for record in records] == [True]      # each takes half of the room
        _, event, packet = parse_event(loaded.function, records[0])
        assert (event, packet.port, bytes(packet)) == (functions.Seen(source=6, kind=0x88b5, port=2), 2, frame)
        assert loaded.function.tables["lost"].every(0)[0].packets + sum(
            count.packets for count in loaded.function.tables["lost"].every(0)[1:]) == 1


def test_every_target_here_was_tried() -> None:
    assert set(available()) <= set(TARGETS) and "python" in available()
