"""Headers, records and metadata: where bits lie, what defaults do, and which declarations are refused."""
from __future__ import annotations

from types import new_class
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import (
    Checksum,
    DeclarationError,
    GuardedField,
    Header,
    Metadata,
    Packet,
    Record,
    StaleView,
    ipv4,
    ipv6,
    mac,
    time,
    u1,
    u2,
    u3,
    u4,
    u5,
    u6,
    u8,
    u12,
    u16,
    u20,
    u24,
    u32,
    u64,
    u96,
    u128,
)


class Probe(Header):
    version: u4 = 1
    kind: u2
    flags: u6 = 0
    sensor: u20
    sequence: u24
    hops: u4 = 0
    spare: u4 = 0
    value: u64 = 0


class Odd(Header):
    """Fields that begin and end within bytes, the widest of them across seventeen."""

    first: u3 = 0
    wide: u128 = 0
    last: u5 = 0


class Station(Record):
    port: u16
    seen: time
    kind: u8 = 7


class Mixed(Record):
    a: u1 = 0
    b: u16 = 0
    c: u8 = 0
    d: u20 = 0
    e: u8 = 0
    f: mac = 0
    g: u8 = 0
    h: u128 = 0
    i: u96 = 0
    j: u8 = 0


class Covered(Header, checksum=Checksum("sum", "header"), pseudo=("who",)):
    sum: u16 = 0
    who: u32 = 0


def test_a_header_is_packed_most_significant_bit_first() -> None:
    probe = Probe(kind=2, flags=0b000001, sensor=0xabcde, sequence=0x123456, hops=0xf, value=0x0102030405060708)
    #      version 0001, kind 10, flags 000001 | sensor abcde | sequence | hops, spare | value
    assert bytes(probe) == bytes.fromhex("1 8 1 abcde 123456 f0 0102030405060708".replace(" ", ""))
    assert (Probe.size, Probe.fields["sensor"].offset, Probe.fields["sensor"].span) == (16, 12, (1, 4))
    assert Probe.decode(bytes(probe)) == probe
    assert (probe.version, probe.kind, probe.flags, probe.sensor) == (1, 2, 1, 0xabcde)


def test_assignment_touches_no_neighbour_and_cuts_to_the_width() -> None:
    odd = Odd.decode(b"\xff" * 17)
    odd.wide = 0
    assert bytes(odd) == b"\xe0" + bytes(15) + b"\x1f"
    odd.wide = -1
    assert bytes(odd) == b"\xff" * 17
    odd.first = 8 + 5
    assert odd.first == 5 and odd.wide == (1 << 128) - 1


def test_a_record_is_laid_out_as_c_does() -> None:
    offsets = {name: field.offset // 8 for name, field in Mixed.fields.items()}
    assert offsets == {"a": 0, "b": 2, "c": 4, "d": 8, "e": 12, "f": 16, "g": 24, "h": 32, "i": 48, "j": 64}
    assert Mixed.size == 72
    assert (Station.fields["seen"].offset // 8, Station.fields["kind"].offset // 8, Station.size) == (8, 16, 24)


def test_padding_is_zero_and_stays_so() -> None:
    station = Station(port=0xffff, seen=(1 << 63) - 1, kind=255)
    assert bytes(station) == b"\xff\xff" + bytes(6) + b"\xff" * 7 + b"\x7f" + b"\xff" + bytes(7)
    station.port = 0x12345
    assert bytes(station)[:8] == b"\x45\x23" + bytes(6)
    station.seen = 1 << 63
    assert station.seen == 0


def test_a_record_field_narrower_than_its_bytes_is_cut() -> None:
    mixed = Mixed(a=3, d=0xfffffff)
    assert (mixed.a, mixed.d) == (1, 0xfffff)
    assert bytes(mixed)[8:12] == b"\xff\xff\x0f\x00"


def test_defaults() -> None:
    probe = Probe(kind=0, sensor=0, sequence=0)
    assert (probe.version, probe.hops) == (1, 0)
    assert Station(port=1, seen=2).kind == 7


@pytest.mark.parametrize(("values", "message"), [
    ({"port": 1}, "Station needs 'seen'"),
    ({"port": 1, "seen": 1, "colour": 2}, "Station has no field 'colour'"),
])
def test_a_constructor_says_what_is_wrong(values: dict[str, int], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Station(**values)


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Station(port=1, seen=2).prot = 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Probe(kind=0, sensor=0, sequence=0).senser = 3  # type: ignore[attr-defined]


def test_inheritance_puts_the_base_first() -> None:
    class Longer(Station):
        extra: u32 = 9
        kind: u8 = 8

    assert list(Longer.fields) == ["port", "seen", "kind", "extra"]
    assert (Longer(port=1, seen=2).kind, Longer(port=1, seen=2).extra) == (8, 9)
    assert Station(port=1, seen=2).kind == 7


def test_a_class_variable_is_no_field() -> None:
    class Tuned(Record):
        LIMIT: ClassVar[int] = 4
        value: u8 = 0

    assert list(Tuned.fields) == ["value"]


def declare(base: type[Any], names: dict[str, Any], **keywords: Any) -> type[Any]:
    body = {"__annotations__": names, "__module__": __name__}
    return new_class("Declared", (base,), keywords, lambda namespace: namespace.update(body))


@pytest.mark.parametrize(("base", "names", "message"), [
    (Header, {"a": u3}, "3 bits is not a whole number of bytes"),
    (Record, {"a": int}, "Declared.a: a field needs an integer type"),
    (Record, {"a": str}, "Declared.a: a field needs an integer type"),
    (Record, {"size": u8}, "Declared.size: this name belongs to the layout itself"),
    (Header, {"pseudo": u8}, "Declared.pseudo: this name belongs to the layout itself"),
    (Header, {"coverage": u8}, "Declared.coverage: this name belongs"),
    (Record, {"a": "u9000"}, "fields need types known where the class stands"),
    (Metadata, {"a": u128, "b": u8}, "metadata has room for 16 bytes, this takes 24"),
])
def test_refused_declarations(base: type[Any], names: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare(base, names)


def test_a_checksum_needs_its_field() -> None:
    with pytest.raises(DeclarationError, match="Declared has no field 'sum'"):
        declare(Header, {"a": u8}, checksum=Checksum("sum", "header"))
    with pytest.raises(DeclarationError, match="Declared has no field 'src'"):
        declare(Header, {"a": u8}, pseudo=("src",))


def test_what_a_checksum_guards() -> None:
    assert Covered.guarded == {"sum", "who"}
    assert declare(Header, {"a": u8, "b": u8}, pseudo=("a",)).guarded == {"a"}
    assert Probe.guarded == frozenset()
    parsed = Packet(bytes(6)).parse(Covered)
    with pytest.raises(GuardedField, match=r"Covered.who lies under a checksum: use `pkt.rewrite\(…, who=…\)`"):
        parsed.who = 1
    alone, pushed = Covered(), Packet(b"").push(Covered)
    alone.who = pushed.who = 1
    assert bytes(alone) == bytes(pushed) == bytes(5) + b"\x01"


def test_equality_is_of_kind_and_bytes() -> None:
    class Twin(Record):
        port: u16
        seen: time
        kind: u8 = 7

    assert Station(port=1, seen=2) == Station(port=1, seen=2)
    assert Station(port=1, seen=2) != Station(port=1, seen=3)
    assert Station(port=1, seen=2) != Twin(port=1, seen=2)
    assert len({Station(port=1, seen=2), Station(port=1, seen=2), Twin(port=1, seen=2)}) == 2


def test_people_can_read_a_layout() -> None:
    class Shown(Record):
        hardware: mac = 0x020000000001
        address: ipv4 = 0x0a000001
        wide: ipv6 = 1 << 127
        age: time = 60_000_000_000
        short: u12 = 1000
        long: u32 = 1000

    assert repr(Shown()) == ("Shown(hardware=02:00:00:00:00:01, address=10.0.0.1, wide=8000::, age=1m, short=1000, "
                             "long=0x3e8)")


def test_decode_is_a_copy_and_at_a_view() -> None:
    data = bytearray(b"\0\1\2\3\0\0\0\5")
    copy, view = Covered.decode(data), Covered.at(data, 2)
    data[2:4] = b"\xaa\xbb"
    assert (copy.who, view.sum) == (0x02030000, 0xaabb)
    with pytest.raises(ValueError, match="Covered has 6 bytes, these are 5"):
        Covered.decode(bytes(5))


def test_every_use_of_a_stale_view_is_an_error() -> None:
    pkt = Packet(bytes(40))
    probe = pkt.parse(Probe)
    pkt.push(Covered)
    with pytest.raises(StaleView, match="this Probe is stale: the packet was resized after it was parsed"):
        _ = probe.kind
    with pytest.raises(StaleView):
        probe.kind = 1
    with pytest.raises(StaleView):
        bytes(probe)


def test_metadata_is_zero_unless_said_otherwise() -> None:
    class Context(Metadata):
        vrf: u16
        mark: u8 = 3

    pkt = Packet(b"")
    assert (pkt.meta(Context).vrf, pkt.meta(Context).mark) == (0, 3)
    pkt.meta(Context).vrf = 5
    assert pkt.meta(Context).vrf == 5


WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128]


@given(st.lists(st.tuples(st.sampled_from(WIDTHS), st.integers(-1 << 130, 1 << 130)), min_size=1, max_size=12))
def test_any_header_is_its_bits_in_a_row(drawn: list[tuple[int, int]]) -> None:
    from iovisor import language

    padding = -sum(bits for bits, _ in drawn) % 8
    drawn = drawn + ([(padding, -1)] if padding else [])
    kind = declare(Header, {f"f{i}": getattr(language, f"u{bits}") for i, (bits, _) in enumerate(drawn)})
    expected = "".join(f"{value & (1 << bits) - 1:0{bits}b}" for bits, value in drawn)
    header = kind(**{f"f{i}": value for i, (_, value) in enumerate(drawn)})
    assert "".join(f"{byte:08b}" for byte in bytes(header)) == expected
    for i, (bits, value) in enumerate(drawn):
        assert getattr(header, f"f{i}") == value & (1 << bits) - 1


@given(st.lists(st.tuples(st.sampled_from(WIDTHS), st.integers(-1 << 130, 1 << 130)), min_size=1, max_size=8))
def test_any_record_is_aligned_and_padded_with_zero(drawn: list[tuple[int, int]]) -> None:
    from iovisor import language

    kind = declare(Record, {f"f{i}": getattr(language, f"u{bits}") for i, (bits, _) in enumerate(drawn)})
    record = kind(**{f"f{i}": value for i, (_, value) in enumerate(drawn)})
    expected = bytearray()
    largest = 1
    for bits, value in drawn:
        size = next(n for n in (1, 2, 4, 8, 16) if bits <= n * 8)
        largest = max(largest, min(size, 8))
        expected += bytes(-len(expected) % min(size, 8))
        expected += (value & (1 << bits) - 1).to_bytes(size, "little")
    expected += bytes(-len(expected) % largest)
    assert bytes(record) == expected
