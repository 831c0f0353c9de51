"""The packet: what parses, what rejects, what a tag is, and when views go stale."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.language import Dropped, Header, Packet, Reject, StaleView, u8, u16, u32
from iovisor.wire import IPv4, IPv6

ADDRESSES = bytes.fromhex("ffffffffffff 020000000001")


class Pair(Header):
    a: u8
    b: u8


class Word(Header):
    value: u32


def rejects(reason: int, call: Callable[[], object]) -> None:
    with pytest.raises(Reject) as caught:
        call()
    assert caught.value.reason == reason


def test_parse_moves_the_cursor_and_answers_views() -> None:
    pkt = Packet(bytes(range(12)))
    pair = pkt.parse(Pair)
    assert (pair.a, pair.b, pkt.cursor) == (0, 1, 2)
    first, second, third = pkt.parse(Pair, Word, Pair)
    assert (first.a, second.value, third.b, pkt.cursor) == (2, 0x04050607, 9, 10)
    second.value = 0xaabbccdd
    assert bytes(pkt) == bytes([0, 1, 2, 3, 0xaa, 0xbb, 0xcc, 0xdd, 8, 9, 10, 11])
    rejects(Dropped.TRUNCATED, lambda: pkt.parse(Word))
    assert pkt.cursor == 10, "a parse that rejects moves nothing"


def test_peek_leaves_the_cursor_and_answers_none_beyond_the_end() -> None:
    pkt = Packet(bytes(range(6)))
    pkt.skip(2)
    word, behind = pkt.peek(Word), pkt.peek(Pair, 2)
    assert word is not None and behind is not None
    assert (word.value, behind.a, pkt.cursor) == (0x02030405, 4, 2)
    assert pkt.peek(Word, 1) is None and pkt.peek(Pair, -3) is None


def test_moving_past_the_end_is_no_error_but_reading_there_is() -> None:
    pkt = Packet(bytes(4))
    pkt.skip(100)
    assert pkt.peek(Pair) is None
    rejects(Dropped.TRUNCATED, lambda: pkt.parse(Pair))
    rejects(Dropped.TRUNCATED, lambda: pkt.u8(0))
    rejects(Dropped.TRUNCATED, lambda: pkt.skip(-1))
    assert pkt.cursor == 100


def test_loads_are_big_endian_and_relative_to_the_cursor() -> None:
    pkt = Packet(bytes(range(1, 9)))
    pkt.skip(1)
    assert (pkt.u8(0), pkt.u16(1), pkt.u32(3)) == (2, 0x0304, 0x05060708)
    for load in (lambda: pkt.u8(7), lambda: pkt.u16(6), lambda: pkt.u32(4), lambda: pkt.u8(-2)):
        rejects(Dropped.TRUNCATED, load)


def test_no_view_begins_beyond_the_farthest_byte() -> None:
    pkt = Packet(bytes(0x8010))
    pkt.skip(0x7fff)
    assert pkt.u8(0) == 0 and pkt.peek(Word) is not None
    rejects(Dropped.TRUNCATED, lambda: pkt.u8(1))
    assert pkt.parse(Pair).a == 0
    assert pkt.peek(Pair) is None
    rejects(Dropped.TRUNCATED, lambda: pkt.parse(Pair))


def test_push_gives_zero_headers_before_the_frame() -> None:
    pkt = Packet(b"frame")
    word, pair = pkt.push(Word, Pair)
    assert bytes(pkt) == bytes(6) + b"frame" and pkt.cursor == 6
    word.value, pair.b = 0x01020304, 5
    assert bytes(pkt) == bytes([1, 2, 3, 4, 0, 5]) + b"frame"
    assert pkt.u8(0) == ord("f")


def test_pop_removes_from_the_front() -> None:
    pkt = Packet(bytes(range(20)))
    pkt.skip(3)
    pkt.pop(Word, Pair)
    assert bytes(pkt) == bytes(range(6, 20)) and pkt.cursor == 0


def test_pop_leaves_an_ethernet_header_or_rejects() -> None:
    pkt = Packet(bytes(range(15)))
    view = pkt.parse(Pair)
    rejects(Dropped.TRUNCATED, lambda: pkt.pop(Pair))
    assert bytes(pkt) == bytes(range(15)) and view.b == 1, "a pop that rejects changes nothing"


RESIZES: list[Callable[[Packet], object]] = [
    lambda pkt: pkt.push(Pair), lambda pkt: pkt.pop(Pair), lambda pkt: pkt.remove(Pair), lambda pkt: pkt.tag(5),
    lambda pkt: pkt.untag(), lambda pkt: pkt.resize(len(pkt))]


@pytest.mark.parametrize("resize", RESIZES)
def test_resizing_makes_views_stale_and_puts_the_cursor_back(resize: Callable[[Packet], object]) -> None:
    pkt = Packet(bytes(20))
    pair = pkt.parse(Pair)
    pkt.skip(7)
    resize(pkt)
    with pytest.raises(StaleView):
        _ = pair.a
    assert pkt.cursor == (2 if len(pkt) == 22 else 0)
    assert pkt.peek(Pair) is not None


def test_inserting_keeps_the_ethernet_header_in_front() -> None:
    pkt = Packet(bytes(range(20)))
    old = pkt.parse(Pair)
    new = pkt.insert(Pair)
    new.a = 0xff
    with pytest.raises(StaleView):
        _ = old.a
    assert pkt.cursor == 16 and bytes(pkt) == bytes([*range(14), 0xff, 0, *range(14, 20)])
    rejects(Dropped.TRUNCATED, lambda: Packet(bytes(13)).insert(Pair))


def test_an_exchange_makes_one_family_of_the_other() -> None:
    frame = ADDRESSES + b"\x08\0" + bytes(range(1, 31))
    pkt = Packet(frame)
    pkt.segment = 1_400
    old = pkt.parse(Pair)
    new, behind = pkt.exchange(24, IPv6, Word)
    new.hops, behind.value = 7, 8
    with pytest.raises(StaleView):
        _ = old.a
    assert bytes(pkt) == ADDRESSES + b"\x86\xdd" + bytes(7) + b"\7" + bytes(35) + b"\x08" + bytes(range(25, 31))
    assert (pkt.cursor, pkt.segment) == (14 + 44, 1_400)
    pkt.exchange(44, IPv4).ttl = 9
    assert bytes(pkt) == ADDRESSES + b"\x08\0" + bytes(8) + b"\t" + bytes(11) + bytes(range(25, 31))


def test_an_exchange_of_what_is_not_there_rejects() -> None:
    frame = ADDRESSES + b"\x08\0" + bytes(30)
    for reason, length, kind in ((Dropped.TRUNCATED, 31, IPv6), (Dropped.RESIZE, 19, IPv6), (Dropped.RESIZE, 30, IPv4)):
        pkt = Packet(frame)
        rejects(reason, lambda pkt=pkt, length=length, kind=kind: pkt.exchange(length, kind))    # type: ignore[misc]
        assert bytes(pkt) == frame
    rejects(Dropped.TRUNCATED, lambda: Packet(bytes(13)).exchange(0, IPv6))


def test_removing_is_the_opposite_of_inserting() -> None:
    pkt = Packet(bytes(range(20)))
    pkt.segment = 7
    pkt.insert(Pair, Word)
    pkt.remove(Pair, Word)
    assert bytes(pkt) == bytes(range(20)) and (pkt.cursor, pkt.segment) == (0, 7)
    rejects(Dropped.TRUNCATED, lambda: pkt.remove(Word, Word))
    assert bytes(pkt) == bytes(range(20))
    pkt.remove(Word, Pair)
    assert bytes(pkt) == bytes(range(14))


def test_blanking_clears_bytes_and_leaves_views_valid() -> None:
    pkt = Packet(bytes(range(1, 21)))
    old = pkt.peek(Pair)
    new = pkt.blank(Pair)
    assert old is not None and old == new and bytes(pkt) == bytes([0, 0, *range(3, 21)]) and pkt.cursor == 2
    rejects(Dropped.TRUNCATED, lambda: Packet(bytes(1)).blank(Pair))


def test_resizing_cuts_or_adds_zeros_up_to_a_limit() -> None:
    pkt = Packet(bytes(range(20)))
    pkt.resize(15)
    assert bytes(pkt) == bytes(range(15))
    pkt.resize(17)
    assert bytes(pkt) == bytes([*range(15), 0, 0])
    rejects(Dropped.TRUNCATED, lambda: pkt.resize(13))
    rejects(Dropped.RESIZE, lambda: pkt.resize(2049))
    long = Packet(bytes(3000))
    long.resize(2999)
    assert len(long) == 2999 and len(pkt) == 17


def test_retagging_and_metadata_leave_views_valid() -> None:
    pkt = Packet(bytes(20))
    pair = pkt.parse(Pair)
    pkt.retag(7)
    assert pair.a == 0 and pkt.cursor == 2


# -- the outer tag


def test_the_outer_tag_stands_beside_the_bytes() -> None:
    pkt = Packet(ADDRESSES + bytes.fromhex("8100 6005 0800") + b"payload")
    assert (pkt.tagged, pkt.tpid, pkt.tci, len(pkt)) == (True, 0x8100, 0x6005, 21)
    pkt.skip(12)
    assert pkt.u16(0) == 0x0800
    assert bytes(pkt) == ADDRESSES + bytes.fromhex("8100 6005 0800") + b"payload"


def test_only_the_outer_of_two_tags_is_lifted() -> None:
    frame = ADDRESSES + bytes.fromhex("88a8 0064 8100 2005 0800") + b"payload"
    pkt = Packet(frame)
    assert (pkt.tpid, pkt.tci) == (0x88a8, 0x64)
    pkt.skip(12)
    assert (pkt.u16(0), pkt.u16(2), pkt.u16(4)) == (0x8100, 0x2005, 0x0800)
    assert bytes(pkt) == frame
    pkt.untag()
    assert (pkt.tpid, pkt.tci) == (0x8100, 0x2005)
    pkt.untag()
    assert (pkt.tagged, pkt.tci) == (False, 0) and bytes(pkt) == ADDRESSES + b"\x08\0payload"
    pkt.untag()
    assert bytes(pkt) == ADDRESSES + b"\x08\0payload"


@pytest.mark.parametrize("length", range(19))
def test_a_frame_shorter_than_its_tag_has_none(length: int) -> None:
    frame = (ADDRESSES + bytes.fromhex("8100 0005 0800"))[:length]
    pkt = Packet(frame)
    assert pkt.tagged == (length == 18) and len(pkt) == (14 if length == 18 else length)
    assert bytes(pkt) == frame


def test_other_types_are_no_tags() -> None:
    for tpid in ("9100", "88cc", "0800"):
        assert not Packet(ADDRESSES + bytes.fromhex(tpid + "00050800")).tagged


def test_tag_makes_an_outer_tag_and_keeps_the_one_there() -> None:
    pkt = Packet(ADDRESSES + b"\x08\0payload")
    pkt.tag(5)
    assert bytes(pkt) == ADDRESSES + bytes.fromhex("8100 0005 0800") + b"payload"
    pkt.tag(0x1_2064, 0x88a8)
    assert (pkt.tpid, pkt.tci) == (0x88a8, 0x2064)
    assert bytes(pkt) == ADDRESSES + bytes.fromhex("88a8 2064 8100 0005 0800") + b"payload"


def test_retag_replaces_or_makes_a_tag() -> None:
    pkt = Packet(ADDRESSES + bytes.fromhex("88a8 0064 0800"))
    pkt.retag(0x1_0007)
    assert (pkt.tpid, pkt.tci) == (0x88a8, 7)
    bare = Packet(ADDRESSES + b"\x08\0")
    bare.retag(9)
    assert bytes(bare) == ADDRESSES + bytes.fromhex("8100 0009 0800")


@pytest.mark.parametrize("length", [0, 12, 13])
def test_a_runt_cannot_be_tagged(length: int) -> None:
    pkt = Packet(bytes(length))
    rejects(Dropped.TRUNCATED, lambda: pkt.tag(1))
    rejects(Dropped.TRUNCATED, lambda: pkt.retag(1))
    assert not pkt.tagged and bytes(pkt) == bytes(length)


def test_a_tag_stays_outermost_when_headers_are_pushed() -> None:
    pkt = Packet(ADDRESSES + bytes.fromhex("8100 0005 0800"))
    pkt.push(Pair, Word, Word, Word)
    assert bytes(pkt)[12:16] == bytes.fromhex("8100 0005") and len(bytes(pkt)) == 32


TAGS = st.sampled_from([b"", b"\x81\0\0\5", b"\x88\xa8\x20\x64", b"\x88\xa8\0\1\x81\0\0\2", b"\x81\0\0\1\x81\0\0\2"])


@given(st.binary(min_size=12, max_size=12), TAGS, st.binary(max_size=40))
def test_any_frame_survives_as_bytes(addresses: bytes, tags: bytes, rest: bytes) -> None:
    frame = addresses + tags + rest
    assert bytes(Packet(frame)) == frame
    assert bytes(Packet(frame, 3)) == frame and Packet(frame, 3).port == 3


@given(TAGS, st.integers(0, 0xffff))
def test_tag_and_untag_are_opposites(tags: bytes, control: int) -> None:
    frame = ADDRESSES + tags + b"\x08\0payload"
    pkt = Packet(frame)
    pkt.tag(control)
    assert len(bytes(pkt)) == len(frame) + 4
    pkt.untag()
    assert bytes(pkt) == frame


def test_people_can_read_a_packet() -> None:
    assert repr(Packet(b"\1\2", 4)) == "Packet('0102', port=4)"


class Half(Header):
    value: u16


def test_four_headers_at_once() -> None:
    pkt = Packet(bytes(range(10)))
    a, b, c, d = pkt.parse(Half, Pair, Word, Half)
    assert (a.value, b.a, c.value, d.value) == (1, 2, 0x04050607, 0x0809)
