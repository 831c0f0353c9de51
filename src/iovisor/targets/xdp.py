"""XDP: eBPF on frames, before the kernel's stack.

Here the outer VLAN tag is bytes, at offset 12, and the language says that it is not.  Programs that only read look
past it: what lies behind the addresses is reached through a second base, `data + shift`, with `shift` 4 on tagged
frames. Programs that resize or retag take the tag out at the beginning, keep it in registers, and put it back before
they leave; only tagged frames pay.

Everything is linear here, and there are no partial checksums a program could know of, so `rewrite` is arithmetic.  XDP
has no room for context between programs: a per-CPU entry (`@context`) carries port and metadata, and the argument of a
verdict to whoever needs it there.
"""
from __future__ import annotations

from collections.abc import Iterator

from ..compiler import ir
from ..compiler.intervals import Interval
from ..compiler.llvm import Emitter, Pointer
from ..compiler.target import lowers
from ..language.packet import TPIDS
from ..language.verdicts import Dropped
from . import lowering
from .bpf import HOST_SLOT, LOOKUP, MAP_BY_INDEX, TAIL_CALL, Bpf

ADJUST_HEAD, ADJUST_TAIL, LOAD_BYTES = 44, 65, 189
TAG_AT = 12             # where the outer tag lies in the bytes
ABORTED, DROPPED, PASSED = 0, 1, 2
_RAW = [int.from_bytes(t.to_bytes(2, "big"), "little") for t in TPIDS]


class Xdp(Bpf):
    """BPF_PROG_TYPE_XDP, without fragments."""

    name = "xdp"
    section = "xdp"
    context = ("xdp_md", 24 * 8)
    load_bytes = LOAD_BYTES
    ways = HOST_SLOT + 1
    some_word = 12
    data_words = 0, 4

    # -- the two ways to see a tag -----------------------------------------------------------------------------------

    def prologue(self, emit: Emitter) -> None:
        self.put_off: dict[ir.Var, lowering.Change] = {}        # checksums that wait for the next rewrite
        self.lifted = bool(emit.operations & (lowering.RESIZES | {"retag"})) or any(
            _ambiguous(place, size) for place, size in _accesses(emit)) or any(
            isinstance(n, ir.Call) and n.op == "sum" and emit.checked.offsets[id(n)][0] < TAG_AT
            for n in ir.walk(emit.program))
        self.front = any(emit.places[view][0] + first < TAG_AT for view, first in _fields(emit))
        self.seen: str = ""
        self.zero = ""                              # a slot for the key of the context
        if emit.operations & {"port", "meta", "punt", "notify"}:
            self.seen = self._context(emit)
            missing, found = emit.name("missing"), emit.name("found")
            emit.split(emit.value(f"icmp eq ptr {self.seen}, null"), missing, found)
            emit.label(missing)
            emit.emit(f"ret i32 {ABORTED}")
            emit.label(found)
        self.shift, self.tci_slot, self.tpid_slot = emit.slot("i64"), emit.slot("i64"), emit.slot("i64")
        for slot in (self.shift, self.tci_slot, self.tpid_slot):
            emit.emit(f"store i64 0, ptr {slot}")
        if emit.operations & {"parse", "peek", "load", "sum", "length", "tagged", "tci", "tpid", "punt",
                              "notify"} or self.lifted:
            self._lift(emit)

    def _context(self, emit: Emitter) -> str:
        self.zero = self.zero or emit.slot("i32")
        emit.emit(f"store i32 0, ptr {self.zero}")
        return emit.helper(LOOKUP, "ptr", f"ptr {self.pseudo(emit, MAP_BY_INDEX, '@context')}", f"ptr {self.zero}")

    def _lift(self, emit: Emitter) -> None:
        """Find the tag; take it out where the program needs it gone."""
        data, end = self.bounds(emit)
        with emit.when(emit.value(f"icmp ule ptr {emit.offset(data, 18)}, {end}")):
            raw = emit.value(f"load i16, ptr {emit.offset(data, TAG_AT)}, align 1")
            tests = [emit.value(f"icmp eq i16 {raw}, {_signed(n)}") for n in _RAW]
            with emit.when(emit.value(f"or i1 {tests[0]}, {tests[1]}")):
                if not self.lifted:
                    emit.emit(f"store i64 4, ptr {self.shift}")
                else:
                    emit.emit(f"store i64 {_host(emit, raw)}, ptr {self.tpid_slot}")
                    emit.emit(f"store i64 {emit.load_swapped(emit.offset(data, 14), 16)}, ptr {self.tci_slot}")
                    self._close(emit, data)

    def _close(self, emit: Emitter, data: str) -> None:
        """Move the addresses over the tag and let the frame begin there."""
        high = emit.value(f"load i64, ptr {data}, align 1")
        low = emit.value(f"load i32, ptr {emit.offset(data, 8)}, align 1")
        emit.emit(f"store i64 {high}, ptr {emit.offset(data, 4)}, align 1")
        emit.emit(f"store i32 {low}, ptr {emit.offset(data, 12)}, align 1")
        emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", "i32 4")

    def _open(self, emit: Emitter, tpid: str, tci: str) -> None:
        """Make room behind the addresses and write a tag there; rejects where there is none."""
        status = emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", "i32 -4")
        emit.reject(Dropped.RESIZE, _failed(emit, status))
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, 18)}, {end}"))
        self._write_tag(emit, data, tpid, tci)

    def _write_tag(self, emit: Emitter, data: str, tpid: str, tci: str) -> None:
        high = emit.value(f"load i64, ptr {emit.offset(data, 4)}, align 1")
        low = emit.value(f"load i32, ptr {emit.offset(data, 12)}, align 1")
        emit.emit(f"store i64 {high}, ptr {data}, align 1")
        emit.emit(f"store i32 {low}, ptr {emit.offset(data, 8)}, align 1")
        emit.store_swapped(emit.offset(data, 12), tpid, 0, 16)
        emit.store_swapped(emit.offset(data, 14), tci, 0, 16)

    def numbers(self) -> list[tuple[str, str]]:
        """A shift is kept, when it is not known any more, in the range it may have: see `base`."""
        return [(slot, "i64") for slot in (self.shift, self.tci_slot, self.tpid_slot)]

    # -- reaching the packet -----------------------------------------------------------------------------------------

    def base(self, emit: Emitter, data: str) -> str:
        """What lies behind the addresses is counted from here."""
        if self.lifted:
            return data
        shift = emit.value(f"load i64, ptr {self.shift}")
        return emit.offset(data, lowering.bounded(emit, shift, 4) if "forget" in emit.operations else shift)

    def split(self, emit: Emitter, view: ir.Var) -> int | None:
        if self.lifted or view not in emit.places or not isinstance(view.type, ir.View):
            return None
        low, high = emit.places[view]
        return TAG_AT - low if low == high and low < TAG_AT < low + view.type.layout.size else None

    def loses(self, emit: Emitter, call: ir.Call) -> bool:
        return call.op in lowering.RESIZES

    def reach(self, emit: Emitter, view: ir.Var) -> None:
        assert isinstance(view.type, ir.View)
        slots, (low, high) = emit.slots_of(view), emit.places[view]
        offset = str(low) if low == high else lowering.bounded(emit, emit.value(f"load i64, ptr {slots.offset}"), high)
        pointer, beyond = self.find(emit, offset, (low, high), view.type.layout.size)
        emit.reject(Dropped.TRUNCATED, beyond)
        emit.emit(f"store ptr {pointer.address}, ptr {slots.value}")
        if slots.second:
            emit.emit(f"store ptr {pointer.second}, ptr {slots.second}")

    def address(self, emit: Emitter, view: ir.Var, byte: int) -> str:
        slots, split = emit.slots_of(view), self.split(emit, view)
        slot = slots.second if split is not None and byte >= split else slots.value
        return emit.offset(emit.value(f"load ptr, ptr {slot}"), byte)

    def find(self, emit: Emitter, offset: str, place: Interval, size: int) -> tuple[Pointer, str]:
        """Pointers to bytes of the packet, and whether they are beyond its end."""
        data, end = self.bounds(emit)
        low, high = place
        front = emit.offset(data, offset)
        if high + size <= TAG_AT and not self.lifted:
            return Pointer(front, offset), emit.value(f"icmp ugt ptr {emit.offset(front, size)}, {end}")
        back = emit.offset(self.base(emit, data), offset)
        beyond = emit.value(f"icmp ugt ptr {emit.offset(back, size)}, {end}")
        if low < TAG_AT and not self.lifted:
            if not self.front:
                return Pointer(front, offset, None, back), beyond
            short = emit.value(f"icmp ugt ptr {emit.offset(data, 14)}, {end}")
            return Pointer(front, offset, None, back), emit.value(f"or i1 {short}, {beyond}") \
                if low + size < 14 else self._both(emit, short, beyond)
        return Pointer(back, offset), beyond

    def _both(self, emit: Emitter, short: str, beyond: str) -> str:
        """Two checks the verifier sees one after the other; the first rejects by itself."""
        emit.reject(Dropped.TRUNCATED, short)
        return beyond

    @lowers("parse")
    def parse(self, emit: Emitter, call: ir.Call) -> Pointer:
        size = call.statics[0].size
        offset, _ = lowering.offset_of(emit, call)
        pointer, beyond = self.find(emit, offset, emit.checked.offsets[id(call)], size)
        emit.reject(Dropped.TRUNCATED, beyond)
        lowering.move_cursor(emit, call, offset, size)
        return pointer

    @lowers("peek")
    def peek(self, emit: Emitter, call: ir.Call) -> Pointer:
        offset, _ = lowering.offset_of(emit, call, call.args[0])
        place, size = emit.checked.offsets[id(call)], call.statics[0].size
        found, second, present = emit.slot("ptr"), emit.slot("ptr"), emit.slot("i1")
        emit.emit(f"store ptr null, ptr {found}")
        emit.emit(f"store ptr null, ptr {second}")
        emit.emit(f"store i1 {emit.told('false')}, ptr {present}")
        data, end = self.bounds(emit)
        low, high = place
        after = emit.name("peeked")
        split = low < TAG_AT and high + size > TAG_AT and not self.lifted
        tests = [(emit.offset(data, offset), size)] if high + size <= TAG_AT else \
            [(data, 14)] * split + [(emit.offset(self.base(emit, data), offset), size)]
        for start, length in tests:
            there = emit.name("there")
            emit.split(emit.value(f"icmp ugt ptr {emit.offset(start, length)}, {end}"), after, there)
            emit.label(there)
        emit.emit(f"store ptr {emit.offset(data, offset) if split else tests[-1][0]}, ptr {found}")
        emit.emit(f"store ptr {tests[-1][0]}, ptr {second}")
        emit.emit(f"store i1 {emit.told('true')}, ptr {present}")
        emit.label(after)
        return Pointer(emit.value(f"load ptr, ptr {found}"), offset, emit.value(f"load i1, ptr {present}"),
                       emit.value(f"load ptr, ptr {second}"))

    @lowers("load")
    def load(self, emit: Emitter, call: ir.Call) -> str:
        size = call.statics[0]
        offset, _ = lowering.offset_of(emit, call, call.args[0])
        pointer, beyond = self.find(emit, offset, emit.checked.offsets[id(call)], size)
        emit.reject(Dropped.TRUNCATED, beyond)
        return emit.load_swapped(pointer.address, size * 8)

    def origin(self, emit: Emitter) -> str:
        return self.base(emit, self.bounds(emit)[0])

    def frame_length(self, emit: Emitter) -> str:
        data, end = self.bounds(emit)
        numbers = [emit.value(f"ptrtoint ptr {p} to i64") for p in (end, data)]
        length = emit.value(f"sub i64 {numbers[0]}, {numbers[1]}")
        return emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {length})')      # nor may LLVM negate a pointer

    @lowers("length")
    def length(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"sub i64 {self.frame_length(emit)}, {emit.value(f'load i64, ptr {self.shift}')}")

    @lowers("port")
    def port(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"zext i16 {emit.value(f'load i16, ptr {self.seen}, align 4')} to i64")

    @lowers("segment")
    def segment(self, emit: Emitter, call: ir.Call) -> str:
        return "0"

    @lowers("meta")
    def meta(self, emit: Emitter, call: ir.Call) -> Pointer:
        return Pointer(emit.offset(self.seen, 8))

    # -- the tag -----------------------------------------------------------------------------------------------------

    @lowers("tagged")
    def tagged(self, emit: Emitter, call: ir.Call) -> str:
        slot = self.tpid_slot if self.lifted else self.shift
        return emit.value(f"icmp ne i64 {emit.value(f'load i64, ptr {slot}')}, 0")

    @lowers("tci")
    def tci(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"load i64, ptr {self.tci_slot}") if self.lifted else self._in_bytes(emit, 14)

    @lowers("tpid")
    def tpid(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"load i64, ptr {self.tpid_slot}") if self.lifted else self._in_bytes(emit, 12)

    def _in_bytes(self, emit: Emitter, offset: int) -> str:
        """Half of the tag of a program that leaves it where it is; zero if there is none."""
        result = emit.slot("i64")
        emit.emit(f"store i64 0, ptr {result}")
        with emit.when(emit.value(f"icmp ne i64 {emit.value(f'load i64, ptr {self.shift}')}, 0")):
            data, end = self.bounds(emit)
            with emit.when(emit.value(f"icmp ule ptr {emit.offset(data, 18)}, {end}")):
                emit.emit(f"store i64 {emit.load_swapped(emit.offset(data, offset), 16)}, ptr {result}")
        return emit.value(f"load i64, ptr {result}")

    def tag_words(self, emit: Emitter) -> tuple[str, str]:
        return (emit.value(f"load i64, ptr {self.tci_slot}"), emit.value(f"load i64, ptr {self.tpid_slot}"))

    def _room(self, emit: Emitter) -> None:
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, 14)}, {end}"))

    def _set_tag(self, emit: Emitter, tci: str, tpid: str) -> None:
        emit.emit(f"store i64 {emit.value(f'and i64 {tci}, 65535')}, ptr {self.tci_slot}")
        emit.emit(f"store i64 {tpid}, ptr {self.tpid_slot}")

    @lowers("retag")
    def retag(self, emit: Emitter, call: ir.Call) -> None:
        tci = emit.integer(call.args[0], 64)
        self._room(emit)
        old = emit.value(f"load i64, ptr {self.tpid_slot}")
        bare = emit.value(f"icmp eq i64 {old}, 0")
        self._set_tag(emit, tci, emit.value(f"select i1 {bare}, i64 {0x8100}, i64 {old}"))

    @lowers("tag")
    def tag(self, emit: Emitter, call: ir.Call) -> None:
        tci = emit.integer(call.args[0], 64)
        self._room(emit)
        old, was = (emit.value(f"load i64, ptr {s}") for s in (self.tpid_slot, self.tci_slot))
        with emit.when(emit.value(f"icmp ne i64 {old}, 0")):
            self._open(emit, old, was)
        self._set_tag(emit, tci, str(call.statics[0]))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("untag")
    def untag(self, emit: Emitter, call: ir.Call) -> None:
        with emit.when(emit.value(f"icmp ne i64 {emit.value(f'load i64, ptr {self.tpid_slot}')}, 0")):
            self._set_tag(emit, "0", "0")
            self._lift(emit)
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    # -- resizing ----------------------------------------------------------------------------------------------------

    @lowers("push")
    def push(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", f"i32 {-count}")))
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, count)}, {end}"))
        offset = 0
        while offset < count:
            size = next(n for n in (8, 4, 2, 1) if offset + n <= count)
            emit.emit(f"store i{size * 8} 0, ptr {emit.offset(data, offset)}, align 1")
            offset += size
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("insert")
    def insert(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        self._room(emit)
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", f"i32 {-count}")))
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, count + 14)}, {end}"))
        lowering.move_front(emit, data, count)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    @lowers("resize")
    def resize(self, emit: Emitter, call: ir.Call) -> None:
        length = emit.integer(call.args[0], 64)
        before = self.frame_length(emit)
        lowering.resizable(emit, length, before)
        more = emit.value(f"trunc i64 {emit.value(f'sub i64 {length}, {before}')} to i32")
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_TAIL, "i64", "ptr %ctx", f"i32 {more}")))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("pop")
    def pop(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, count + 14)}, {end}"))
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", f"i32 {count}")))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("exchange")
    def exchange(self, emit: Emitter, call: ir.Call) -> None:
        length = lowering.taken(emit, call)
        data, end = self.bounds(emit)
        self._room(emit)
        beyond = emit.offset(emit.offset(data, length), 14)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {beyond}, {end}"))
        lowering.exchangeable(emit, call, length, data)
        saved = lowering.front(emit, data)
        less = emit.value(f"trunc i64 {emit.value(f'sub i64 {length}, {call.statics[1]}')} to i32")
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", f"i32 {less}")))
        data, end = self.bounds(emit)
        behind = emit.offset(data, call.statics[1] + 14)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {behind}, {end}"))
        lowering.put_front(emit, data, saved, call)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    @lowers("remove")
    def remove(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, count + 14)}, {end}"))
        lowering.move_back(emit, data, count)
        emit.reject(Dropped.RESIZE, _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", f"i32 {count}")))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    # -- checksums ---------------------------------------------------------------------------------------------------

    @lowers("rewrite")
    def rewrite(self, emit: Emitter, call: ir.Call) -> None:
        def mend(view: ir.Var, change: lowering.Change) -> None:
            self._mend(emit, view, change)

        lowering.rewrite(emit, call, mend, mend)

    @lowers("amend")
    def amend(self, emit: Emitter, call: ir.Call) -> None:
        self._mend(emit, *lowering.amend(emit, call))

    def _mend(self, emit: Emitter, view: ir.Var, change: lowering.Change) -> None:
        former = self.put_off.get(view)
        if former is not None:
            both = emit.value(f"add i64 {former.sum}, {change.sum}")
            change = lowering.Change(both, former.most + change.most)
        self.put_off[view] = change

    def before(self, emit: Emitter, stmt: ir.Stmt | None) -> None:
        """Rewrites in a row change a checksum once."""
        if self.put_off and not lowering.continues(stmt):
            for view, change in self.put_off.items():
                lowering.adjust(emit, view, change)
            self.put_off.clear()

    # -- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, emit: Emitter) -> None:
        if self.lifted:
            self._put_back(emit)
        self.finish(emit, PASSED, DROPPED)

    def leave_by(self, emit: Emitter, port: str) -> None:
        if self.seen:
            emit.emit(f"store i16 {emit.value(f'trunc i32 {port} to i16')}, ptr {self.seen}, align 4")

    def flood_to(self, emit: Emitter, number: str) -> None:
        found = self._context(emit)
        with emit.when(emit.value(f"icmp ne ptr {found}, null")):
            cut = emit.value(f"trunc i32 {number} to i16")
            emit.emit(f"store volatile i16 {cut}, ptr {emit.offset(found, 2)}, align 2")

    def hand_over(self, emit: Emitter) -> None:
        self.onward(emit, str(HOST_SLOT))

    def watched(self, emit: Emitter, kind: str, argument: str) -> None:
        self.flood_to(emit, argument)
        array = self.pseudo(emit, MAP_BY_INDEX, "@watch")
        emit.emit(f"call i64 inttoptr (i64 {TAIL_CALL} to ptr)(ptr %ctx, ptr {array}, i32 {kind})")

    def _put_back(self, emit: Emitter) -> None:
        """The tag returns to its bytes, in every packet that goes on."""
        kind = emit.value(f"lshr i32 {emit.value(f'load i32, ptr {emit.verdict}')}, 16")
        tpid, tci = (emit.value(f"load i64, ptr {s}") for s in (self.tpid_slot, self.tci_slot))
        goes = emit.value(f"icmp ne i32 {kind}, 0")
        with emit.when(emit.value(f"and i1 {goes}, {emit.value(f'icmp ne i64 {tpid}, 0')}")):
            failed = _failed(emit, emit.helper(ADJUST_HEAD, "i64", "ptr %ctx", "i32 -4"))
            data, end = self.bounds(emit)
            short = emit.value(f"icmp ugt ptr {emit.offset(data, 18)}, {end}")
            bad, good, after = emit.name("lost"), emit.name("room"), emit.name("back")
            emit.split(emit.value(f"or i1 {failed}, {short}"), bad, good)
            emit.label(bad)
            emit.emit(f"store i32 {int(Dropped.RESIZE)}, ptr {emit.verdict}")
            emit.jump(after)
            emit.label(good)
            with emit.when(emit.value(f"icmp ule ptr {emit.offset(data, 18)}, {end}")):
                self._write_tag(emit, data, tpid, tci)
            emit.label(after)


def _accesses(emit: Emitter) -> list[tuple[Interval, int]]:
    """Every place in the packet the program may look at, and how many bytes there."""
    calls = [n for n in ir.walk(emit.program) if isinstance(n, ir.Call) and n.op in ("parse", "peek", "load")]
    found = [(emit.checked.offsets[id(c)], c.statics[0] if c.op == "load" else c.statics[0].size) for c in calls]
    return found + [(place, v.type.layout.size) for v, place in emit.places.items() if isinstance(v.type, ir.View)]


def _fields(emit: Emitter) -> Iterator[tuple[ir.Var, int]]:
    """Fields of packet views the program touches: the view, and the field's first byte in it."""
    for node in ir.walk(emit.program):
        names: tuple[str, ...] | None = None
        if isinstance(node, ir.Field | ir.SetField):
            view, names = node.view, (node.name,)
        elif isinstance(node, ir.Call) and node.op == "rewrite" and isinstance(node.args[0], ir.Read):
            view = node.args[0].var
        else:
            continue
        if view in emit.places and isinstance(view.type, ir.View):
            fields = view.type.layout.fields
            yield from ((view, fields[name].span[0]) for name in names or fields)


def _ambiguous(place: Interval, size: int) -> bool:
    """Whether a view may begin on either side of the tag, or a load lies across it."""
    low, high = place
    if low >= TAG_AT or high + size <= TAG_AT:
        return False
    return low != high or low + size < 14


def _failed(emit: Emitter, status: str) -> str:
    return emit.value(f"icmp ne i64 {emit.value(f'shl i64 {status}, 32')}, 0")


def _signed(number: int) -> int:
    return number - (1 << 16) if number >> 15 else number


def _host(emit: Emitter, raw: str) -> str:
    emit.declare("declare i16 @llvm.bswap.i16(i16)")
    return emit.value(f"zext i16 {emit.value(f'call i16 @llvm.bswap.i16(i16 {raw})')} to i64")
