"""Hypothesis strategies derived from the layouts of headers: what a property test of a network function is fed.

    @given(arrivals(ports=4))
    def test_agrees(sequence):
        session.run(sequence)

`header(Kind)` is any value of any layout, yours too.  `frame(Ethernet, IPv4, Tcp)` is a valid stack: what follows from
the rest is right.  `mutated`, `truncated` and `tagged` take a strategy of frames and spoil it.  Numbers prefer borders:
zero, one, the largest, one bit; addresses come from small pools, or tables would never be hit.

Hypothesis is imported when a strategy is made, so that this module can be imported without it.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..language.layout import Field, Header
from ..wire import Arp, Ethernet, Fragment, Icmp, Icmp6, IPv4, IPv6, Tcp, Udp, Vlan
from .agreement import Arrival
from .bulk import GROUPS, HOSTS4, HOSTS6, SERVICES, STATIONS, TAGS
from .packets import AUTOMATIC, Frame, Layer

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

H = TypeVar("H", bound=Header)

POOLS: dict[str, tuple[int, ...]] = {"mac": STATIONS + GROUPS[:2], "ipv4": HOSTS4, "ipv6": HOSTS6}
#: Fields whose value decides what a header is: left alone in a valid frame.
SHAPE: dict[type[Header], tuple[str, ...]] = {IPv4: ("version", "mf", "offset", "reserved"), IPv6: ("version",),
                                              Arp: ("hardware", "protocol", "hardware_length", "protocol_length")}
STACKS: tuple[tuple[type[Header], ...], ...] = (
    (Ethernet,), (Ethernet, Arp), (Ethernet, IPv4, Tcp), (Ethernet, IPv4, Udp), (Ethernet, IPv4, Icmp),
    (Ethernet, IPv6, Tcp), (Ethernet, IPv6, Udp), (Ethernet, IPv6, Icmp6), (Ethernet, IPv6, Fragment, Udp),
    (Ethernet, Vlan, IPv4, Udp), (Ethernet, Vlan, Vlan, IPv6, Tcp))
LONGEST_PAYLOAD = 64


def number(field: Field) -> SearchStrategy[int]:
    """A value of a field: often one at a border, or of a pool."""
    from hypothesis import strategies as st
    pool = POOLS.get(field.text, SERVICES if field.bits == 16 else ())
    borders = {0, 1, field.mask, field.mask >> 1, *pool}
    return st.one_of(st.sampled_from(sorted(borders)), st.integers(0, field.mask))


def header(kind: type[H], **fixed: int) -> SearchStrategy[H]:
    """Any value of a header; `fixed` fields have these values."""
    from hypothesis import strategies as st
    free = {name: number(field) for name, field in kind.fields.items() if name not in fixed}
    return st.builds(lambda **values: kind(**values, **fixed), **free)


def layers(kind: type[Header]) -> SearchStrategy[Layer]:
    """A header within a valid frame: automatic fields are left to it."""
    from hypothesis import strategies as st
    left = {*AUTOMATIC.get(kind, ()), *SHAPE.get(kind, ())}
    if kind is Fragment:
        return st.builds(lambda identity, more: Layer(kind, {"offset": 0, "more": more, "id": identity}),
                         st.integers(0, 0xffffffff), st.integers(0, 1))
    free = {name: number(field) for name, field in kind.fields.items() if name not in left}
    return st.fixed_dictionaries(free).map(lambda given: Layer(kind, given))


def frame(*kinds: type[Header], payload: SearchStrategy[bytes] | None = None) -> SearchStrategy[bytes]:
    """A valid frame of these headers, lengths, numbers and checksums right."""
    from hypothesis import strategies as st
    behind = st.binary(max_size=LONGEST_PAYLOAD) if payload is None else payload
    return st.tuples(*map(layers, kinds), behind).map(lambda parts: bytes(Frame(parts)))


def mutated(frames: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Frames with one to four bytes overwritten."""
    from hypothesis import strategies as st
    places = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)

    def spoil(drawn: tuple[bytes, list[tuple[int, int]]]) -> bytes:
        data = bytearray(drawn[0])
        for place, byte in drawn[1]:
            data[place % len(data)] = byte
        return bytes(data)
    return st.tuples(frames, places).map(spoil)


def truncated(frames: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """The beginnings of frames."""
    from hypothesis import strategies as st
    return st.tuples(frames, st.integers(1, 1 << 16)).map(lambda pair: pair[0][:1 + pair[1] % len(pair[0])])


def tagged(frames: SearchStrategy[bytes], most: int = 2) -> SearchStrategy[bytes]:
    """Frames with one to `most` more tags outside."""
    from hypothesis import strategies as st
    tag = st.tuples(st.sampled_from((0x8100, 0x88a8)), st.one_of(st.sampled_from(TAGS), st.integers(0, 0xffff)))

    def put(drawn: tuple[bytes, list[tuple[int, int]]]) -> bytes:
        data, tags = drawn
        inside = b"".join(tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") for tpid, tci in tags)
        return data[:12] + inside + data[12:]
    return st.tuples(frames, st.lists(tag, min_size=1, max_size=most)).map(put)


def frames() -> SearchStrategy[bytes]:
    """Any frame: valid stacks mostly, tagged, spoiled, cut, and noise."""
    from hypothesis import strategies as st
    valid = st.one_of(*(frame(*stack) for stack in STACKS))
    return st.one_of(valid, tagged(valid), mutated(valid), truncated(valid), mutated(tagged(valid)),
                     st.binary(min_size=1, max_size=100))


def arrivals(ports: int | Sequence[int] = 4, entries: Sequence[str] = ("ingress",), most: int = 20,
             source: SearchStrategy[bytes] | None = None) -> SearchStrategy[list[Arrival]]:
    """A sequence of frames (those of `source`, or any) through these ports, with time between them."""
    from hypothesis import strategies as st
    numbers: Any = range(ports) if isinstance(ports, int) else ports
    after = st.one_of(st.just(0), st.sampled_from((1, 1_000_000, 1_000_000_000, 20_000_000_000)),
                      st.integers(0, 400_000_000_000))
    one = st.builds(Arrival, frames() if source is None else source, st.sampled_from(numbers),
                    st.sampled_from(list(entries)), after)
    return st.lists(one, min_size=1, max_size=most)


__all__ = ["arrivals", "frame", "frames", "header", "layers", "mutated", "number", "tagged", "truncated"]
