"""TC: eBPF on socket buffers, at tcx hooks.

Offloads stay on here, so three things differ from bytes on a wire, and this file hides all three.  Most packets carry
partial checksums: `rewrite` goes through `bpf_l4_csum_replace`, which knows.  Packets may be 64 kB aggregates whose
tail lies in fragments: headers are pulled into the linear part once, at the beginning, as far as the program
statically reads; what lies farther is pulled when it is reached.  And the outer VLAN tag is metadata of the buffer,
which is exactly the language's own view of it.

`cb[0]` holds the port in its low half, `cb[1..4]` the packet's metadata.  In bare programs (tests) a tag that lies in
the bytes, as BPF_PROG_TEST_RUN delivers it, is first moved to where real packets have it, and `mark` reports it at
the end.
"""
from __future__ import annotations

from ..compiler import ir
from ..compiler.llvm import Emitter, Pointer
from ..compiler.target import lowers
from ..language.layout import Header
from ..language.packet import INTERNET, TPIDS
from ..language.verdicts import Dropped
from . import lowering
from .bpf import AGGREGATE, BARE, COPIED, MAP_BY_INDEX, SINGLE, TAIL_CALL, VALUE_BY_INDEX, Bpf

NEAR = 256      # headers that end before this byte are pulled at the beginning

LEN, MARK, PROTOCOL, VLAN_PRESENT, VLAN_TCI, VLAN_PROTO, PRIORITY, INDEX, CB, CLASS = \
    0, 8, 16, 20, 24, 28, 32, 44, 48, 72
DATA, DATA_END, GSO_SIZE = 76, 80, 176
STORE_BYTES, L4_CSUM, CLONE_REDIRECT, VLAN_PUSH, VLAN_POP, LOAD_BYTES, CHANGE_PROTO, CHANGE_TAIL, PULL, CHANGE_HEAD, \
    ADJUST_ROOM = 9, 11, 13, 18, 19, 26, 31, 38, 39, 43, 50
PSEUDO_HEADER, MANGLED_ZERO = 0x10, 0x20
MAC_LEVEL = 1   # BPF_ADJ_ROOM_MAC
FIXED_SEGMENT, INSIDE_IPV4, INSIDE_IPV6 = 1, 0x80, 0x100        # BPF_F_ADJ_ROOM_FIXED_GSO, _DECAP_L3_…
OUTSIDE = {"ipv4": 2, "ipv6": 4}                                # BPF_F_ADJ_ROOM_ENCAP_L3_…
BETWEEN = {"gre": 8, "udp": 0x10}                               # _ENCAP_L4_…
FRAME_INSIDE, LENGTH_SHIFT = 0x40, 56                           # _ENCAP_L2_ETH, BPF_ADJ_ROOM_ENCAP_L2_SHIFT
QUEUES = 1 << 16        # the handle of a device's queues, 1:


class Tc(Bpf):
    """BPF_PROG_TYPE_SCHED_CLS."""

    name = "tc"
    section = "tc"
    context = ("__sk_buff", 192 * 8)
    load_bytes = LOAD_BYTES
    frame_limits = (SINGLE, AGGREGATE)
    some_word = 0
    data_words = DATA, DATA_END

    # -- reaching the packet -----------------------------------------------------------------------------------------

    def word(self, emit: Emitter, offset: int) -> str:
        """A 32-bit word of the context as i64."""
        return emit.value(f"zext i32 {self.context_word(emit, offset)} to i64")

    def prologue(self, emit: Emitter) -> None:
        self.grown = emit.slot("i1") if emit.operations & {"pop", "remove", "insert"} and \
            emit.operations & {"push", "tag", "insert"} else ""
        if self.grown:
            emit.emit(f"store i1 false, ptr {self.grown}")
        self.put_off: list[tuple[str, ...]] = []        # calls that mend checksums
        self.kept: set[ir.Var] = set()                  # what may be used until they are made
        if emit.operations & {"tagged", "tci", "tpid", "retag", "tag", "untag", "parse", "peek", "load", "sum",
                              "length", "push", "insert", "pop", "remove", "resize", "exchange", "punt", "notify"}:
            self._settle_tag(emit)
        near = [high + n.statics[0].size if n.op != "load" else high + n.statics[0]
                for n in ir.walk(emit.program) if isinstance(n, ir.Call) and n.op in ("parse", "peek", "load")
                for _, high in [emit.checked.offsets[id(n)]]]
        near = [end for end in near if end <= NEAR]
        if near:
            self._pull_near(emit, max(near))
        if "meta" in emit.operations:
            self.metadata = emit.slot("[4 x i32]", 8)
            for i in range(4):
                part = self.context_word(emit, CB + 4 + 4 * i, volatile=True)
                emit.emit(f"store i32 {part}, ptr {emit.offset(self.metadata, 4 * i)}, align 4")

    def _pull_near(self, emit: Emitter, near: int) -> None:
        data, end = self.bounds(emit)
        with emit.when(emit.value(f"icmp ugt ptr {emit.offset(data, near)}, {end}")):
            length = self.word(emit, LEN)
            linear = emit.value(f"sub i64 {self.word(emit, DATA_END)}, {self.word(emit, DATA)}")
            with emit.when(emit.value(f"icmp ult i64 {linear}, {length}")):
                less = emit.value(f"icmp ult i64 {length}, {near}")
                wanted = emit.value(f"select i1 {less}, i64 {length}, i64 {near}")
                emit.helper(PULL, "i64", "ptr %ctx", f"i32 {emit.value(f'trunc i64 {wanted} to i32')}")

    def _settle_tag(self, emit: Emitter) -> None:
        """Tests only: what BPF_PROG_TEST_RUN left in the bytes goes where the kernel keeps it."""
        flag = emit.value(f"and i64 {self.flags(emit)}, {BARE}")
        with emit.when(emit.value(f"icmp ne i64 {flag}, 0")):
            protocol = self.word(emit, PROTOCOL)
            raw = [int.from_bytes(t.to_bytes(2, "big"), "little") for t in TPIDS]
            tests = [emit.value(f"icmp eq i64 {protocol}, {n}") for n in raw]
            there = emit.value(f"icmp ne i64 {self.word(emit, VLAN_PRESENT)}, 0")
            long_enough = emit.value(f"icmp uge i64 {self.word(emit, LEN)}, 18")
            either = emit.value(f"and i1 {emit.value(f'or i1 {tests[0]}, {tests[1]}')}, {long_enough}")
            with emit.when(emit.value(f"and i1 {either}, {emit.value(f'xor i1 {there}, true')}")):
                address = emit.slot("i64", 8)
                emit.helper(LOAD_BYTES, "i64", "ptr %ctx", "i32 14", f"ptr {address}", "i32 2")
                tci = emit.load_swapped(address, 16)
                emit.helper(VLAN_POP, "i64", "ptr %ctx")
                self._push_tag(emit, emit.value(f"trunc i64 {protocol} to i16"), tci)

    def _push_tag(self, emit: Emitter, raw_tpid: str, tci: str) -> str:
        cut = emit.value(f"trunc i64 {tci} to i16")
        return emit.helper(VLAN_PUSH, "i64", "ptr %ctx", f"i16 zeroext {raw_tpid}", f"i16 zeroext {cut}")

    def loses(self, emit: Emitter, call: ir.Call) -> bool:
        if call.op in ("parse", "peek"):
            return bool(emit.checked.offsets[id(call)][1] + call.statics[0].size > NEAR)
        if call.op == "rewrite":
            header = call.args[0]
            assert isinstance(header.type, ir.View) and issubclass(header.type.layout, Header)
            coverage = header.type.layout.coverage
            covered: bool = coverage is not None and coverage.scope == "transport"
            return covered or call.statics[1] is not None
        return call.op in lowering.RESIZES or call.op in ("copy", "sum", "amend", "retag")

    def reach(self, emit: Emitter, view: ir.Var) -> None:
        assert isinstance(view.type, ir.View)
        slots = emit.slots_of(view)
        low, high = emit.places[view]
        offset = str(low) if low == high else lowering.bounded(emit, emit.value(f"load i64, ptr {slots.offset}"), high)
        data, end = self.bounds(emit)
        address = emit.offset(data, offset)
        behind = emit.offset(address, view.type.layout.size)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {behind}, {end}"))
        emit.emit(f"store ptr {address}, ptr {slots.value}")

    def address(self, emit: Emitter, view: ir.Var, byte: int) -> str:
        return emit.offset(emit.value(f"load ptr, ptr {emit.slots_of(view).value}"), byte)

    def find(self, emit: Emitter, offset: str, size: int, far: bool) -> tuple[str, str]:
        """A pointer to bytes of the packet, and whether they are beyond its end."""
        data, end = self.bounds(emit)
        if not far:
            address = emit.offset(data, offset)
            return address, emit.value(f"icmp ugt ptr {emit.offset(address, size)}, {end}")
        first = emit.offset(data, offset)
        with emit.when(emit.value(f"icmp ugt ptr {emit.offset(first, size)}, {end}")):
            wanted = emit.value(f"trunc i64 {emit.value(f'add i64 {offset}, {size}')} to i32")
            emit.helper(PULL, "i64", "ptr %ctx", f"i32 {wanted}")
        data, end = self.bounds(emit)
        address = emit.offset(data, offset)
        return address, emit.value(f"icmp ugt ptr {emit.offset(address, size)}, {end}")

    @lowers("parse")
    def parse(self, emit: Emitter, call: ir.Call) -> Pointer:
        size = call.statics[0].size
        offset, _ = lowering.offset_of(emit, call)
        address, beyond = self.find(emit, offset, size, self.loses(emit, call))
        emit.reject(Dropped.TRUNCATED, beyond)
        lowering.move_cursor(emit, call, offset, size)
        return Pointer(address, offset)

    @lowers("peek")
    def peek(self, emit: Emitter, call: ir.Call) -> Pointer:
        size = call.statics[0].size
        offset, _ = lowering.offset_of(emit, call, call.args[0])
        address, beyond = self.find(emit, offset, size, self.loses(emit, call))
        there, absent, after = emit.name("there"), emit.name("absent"), emit.name("peeked")
        found, present = emit.slot("ptr"), emit.slot("i1")
        emit.split(beyond, absent, there)
        emit.label(there)
        emit.emit(f"store ptr {address}, ptr {found}")
        emit.emit(f"store i1 {emit.told('true')}, ptr {present}")
        emit.jump(after)
        emit.label(absent)
        emit.emit(f"store ptr null, ptr {found}")
        emit.emit(f"store i1 {emit.told('false')}, ptr {present}")
        emit.label(after)
        return Pointer(emit.value(f"load ptr, ptr {found}"), offset, emit.value(f"load i1, ptr {present}"))

    @lowers("load")
    def load(self, emit: Emitter, call: ir.Call) -> str:
        size = call.statics[0]
        offset, _ = lowering.offset_of(emit, call, call.args[0])
        if emit.checked.offsets[id(call)][1] + size <= NEAR:
            address, beyond = self.find(emit, offset, size, False)
            emit.reject(Dropped.TRUNCATED, beyond)
            return emit.load_swapped(address, size * 8)
        place = emit.lend("i64", 8)
        cut = emit.value(f"trunc i64 {offset} to i32") if not offset.isdigit() else offset
        status = emit.helper(LOAD_BYTES, "i64", "ptr %ctx", f"i32 {cut}", f"ptr {place}", f"i32 {size}")
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ne i64 {status}, 0"))
        return emit.load_swapped(place, size * 8)

    def linear(self, emit: Emitter, end: str) -> None:
        there = emit.value(f"sub i64 {self.word(emit, DATA_END)}, {self.word(emit, DATA)}")
        with emit.when(emit.value(f"icmp ult i64 {there}, {end}")):
            emit.helper(PULL, "i64", "ptr %ctx", f"i32 {emit.value(f'trunc i64 {end} to i32')}")

    @lowers("length")
    def length(self, emit: Emitter, call: ir.Call) -> str:
        return self.word(emit, LEN)

    def frame_length(self, emit: Emitter) -> str:
        return self.word(emit, LEN)

    @lowers("port")
    def port(self, emit: Emitter, call: ir.Call) -> str:
        """As it was stored by `leave_by`: a wider load would wait until the store has reached the cache."""
        return emit.value(f"zext i16 {self.context_word(emit, CB, bits=16)} to i64")

    @lowers("segment")
    def segment(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"and i64 {self.word(emit, GSO_SIZE)}, 65535")

    @lowers("copy")
    def copy(self, emit: Emitter, call: ir.Call) -> str:
        """A clone goes around (see fabric/recirculation.py), on the wire that leads out of the port: its mark is that
        wire and the hops it has made, and one more; `tc_index` says that it is a copy.  In tests there is no wire."""
        high, done = call.statics[0] - 1, emit.slot("i1")
        port = emit.integer(call.args[0], 64)
        emit.emit(f"store i1 true, ptr {done}")
        with emit.when(emit.value(f"icmp eq i64 {emit.value(f'and i64 {self.flags(emit)}, {BARE}')}, 0")):
            place = emit.value(f"shl i64 {lowering.bounded(emit, port, high)}, 3")
            entry = emit.offset(self.pseudo(emit, VALUE_BY_INDEX, "@copies"), place)
            device = emit.value(f"load i32, ptr {entry}, align 4")
            wire = emit.value(f"load i32, ptr {emit.offset(entry, 4)}, align 4")
            hops = emit.value(f"and i32 {emit.value(f'lshr i32 {self.context_word(emit, CB)}, 16')}, 255")
            above = emit.value(f"shl i32 {emit.value(f'add i32 {hops}, 1')}, 24")
            former = [self.context_word(emit, offset) for offset in (MARK, INDEX)]
            for offset, value in ((MARK, emit.value(f"or i32 {wire}, {above}")), (INDEX, "1")):
                emit.emit(f"store volatile i32 {value}, ptr {emit.offset('%ctx', offset)}, align 4")
            status = emit.helper(CLONE_REDIRECT, "i64", "ptr %ctx", f"i32 {device}", "i64 1")
            for offset, value in zip((MARK, INDEX), former, strict=True):
                emit.emit(f"store volatile i32 {value}, ptr {emit.offset('%ctx', offset)}, align 4")
            good = emit.value(f"icmp eq i64 {status}, 0")
            emit.emit(f"store i1 {good}, ptr {done}")
            with emit.when(good):
                self.count_drop(emit, str(COPIED))
        return emit.value(f"load i1, ptr {done}")

    @lowers("copied")
    def copied(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"icmp ne i64 {self.word(emit, INDEX)}, 0")

    @lowers("queue")
    def queue(self, emit: Emitter, call: ir.Call) -> None:
        """A priority that is the number of a class is what HTB goes by, before any filter."""
        cut = emit.value(f"and i64 {emit.integer(call.args[0], 64)}, 65535")
        wide = emit.value(f"or i64 {cut}, {QUEUES}")
        emit.emit(f"store volatile i32 {emit.value(f'trunc i64 {wide} to i32')}, "
                  f"ptr {emit.offset('%ctx', PRIORITY)}, align 4")

    @lowers("meta")
    def meta(self, emit: Emitter, call: ir.Call) -> Pointer:
        return Pointer(self.metadata)

    # -- the tag -----------------------------------------------------------------------------------------------------

    @lowers("tagged")
    def tagged(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"icmp ne i64 {self.word(emit, VLAN_PRESENT)}, 0")

    @lowers("tci")
    def tci(self, emit: Emitter, call: ir.Call) -> str:
        return self._if_tagged(emit, emit.value(f"and i64 {self.word(emit, VLAN_TCI)}, 65535"))

    @lowers("tpid")
    def tpid(self, emit: Emitter, call: ir.Call) -> str:
        raw = self.context_word(emit, VLAN_PROTO)
        return self._if_tagged(emit, self._swapped(emit, emit.value(f"trunc i32 {raw} to i16")))

    def _swapped(self, emit: Emitter, half: str) -> str:
        emit.declare("declare i16 @llvm.bswap.i16(i16)")
        return emit.value(f"zext i16 {emit.value(f'call i16 @llvm.bswap.i16(i16 {half})')} to i64")

    def _if_tagged(self, emit: Emitter, value: str) -> str:
        there = emit.value(f"icmp ne i64 {self.word(emit, VLAN_PRESENT)}, 0")
        return emit.value(f"select i1 {there}, i64 {value}, i64 0")

    def tag_words(self, emit: Emitter) -> tuple[str, str]:
        call = ir.Call(emit.program.span, ir.Int(), "tci", [])
        return self.tci(emit, call), self.tpid(emit, call)

    @lowers("retag")
    def retag(self, emit: Emitter, call: ir.Call) -> None:
        tci = emit.integer(call.args[0], 64)
        raw = emit.slot("i16")
        emit.emit(f"store i16 {_RAW_8100}, ptr {raw}")
        with emit.when(emit.value(f"icmp ne i64 {self.word(emit, VLAN_PRESENT)}, 0")):
            proto = self.context_word(emit, VLAN_PROTO)
            emit.emit(f"store i16 {emit.value(f'trunc i32 {proto} to i16')}, ptr {raw}")
            self._pop_tag(emit)
        self._checked(emit, self._push_tag(emit, emit.value(f"load i16, ptr {raw}"), tci))

    @lowers("tag")
    def tag(self, emit: Emitter, call: ir.Call) -> None:
        raw = str(int.from_bytes(call.statics[0].to_bytes(2, "big"), "little"))
        tci = emit.integer(call.args[0], 64)
        self._grown(emit)
        self._checked(emit, self._push_tag(emit, raw, tci))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("untag")
    def untag(self, emit: Emitter, call: ir.Call) -> None:
        with emit.when(emit.value(f"icmp ne i64 {self.word(emit, VLAN_PRESENT)}, 0")):
            self._pop_tag(emit)
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    def _pop_tag(self, emit: Emitter) -> None:
        """Remove the outer tag; an inner one comes in its place.

        Whether there is an inner one the kernel takes from `skb->protocol`, which resizing and writing leave as it
        was: a tag put before the bytes and taken away again makes it read them.
        """
        if emit.operations & {"push", "insert", "pop", "remove", "resize", "exchange"} or _writes_type(emit):
            self._push_tag(emit, str(_RAW_8100), "0")
            emit.helper(VLAN_POP, "i64", "ptr %ctx")
        emit.helper(VLAN_POP, "i64", "ptr %ctx")

    def _checked(self, emit: Emitter, status: str) -> None:
        emit.reject(Dropped.RESIZE, emit.value(f"icmp ne i64 {status}, 0"))

    # -- resizing ----------------------------------------------------------------------------------------------------

    def _grown(self, emit: Emitter) -> None:
        """Behind bytes put in front, the kernel no longer knows where the frame's own header ends: `pop` asks."""
        if self.grown:
            emit.emit(f"store i1 true, ptr {self.grown}")

    @lowers("push")
    def push(self, emit: Emitter, call: ir.Call) -> None:
        self._grown(emit)
        self._checked(emit, emit.helper(CHANGE_HEAD, "i64", "ptr %ctx", f"i32 {call.statics[0]}", "i64 0"))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("insert")
    def insert(self, emit: Emitter, call: ir.Call) -> None:
        """The kernel puts bytes behind the MAC header of IP; of anything else, the header is moved by hand.

        Of a tunnel's headers it must hear what they are, or it could not cut an aggregate behind them.  It takes one
        tunnel at a time, and it is no aggregate any more whose header was moved by hand.
        """
        count, *kinds = call.statics
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {self.word(emit, LEN)}, 14"))
        made = emit.slot("i64")
        emit.emit(f"store i64 1, ptr {made}")
        with emit.when(emit.value(f"xor i1 {emit.value(f'load i1, ptr {self.grown}')}, true")):
            status = emit.helper(ADJUST_ROOM, "i64", "ptr %ctx", f"i32 {count}", f"i32 {MAC_LEVEL}",
                                 f"i64 {_outside(kinds)}")
            emit.emit(f"store i64 {status}, ptr {made}")
        with emit.when(emit.value(f"icmp ne i64 {emit.value(f'load i64, ptr {made}')}, 0")):
            self._single(emit)
            self._checked(emit, emit.helper(CHANGE_HEAD, "i64", "ptr %ctx", f"i32 {count}", "i64 0"))
            self._grown(emit)
            data, end = self.bounds(emit)
            emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, count + 14)}, {end}"))
            lowering.move_front(emit, data, count)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    @lowers("resize")
    def resize(self, emit: Emitter, call: ir.Call) -> None:
        length = emit.integer(call.args[0], 64)
        lowering.resizable(emit, length, self.word(emit, LEN))
        cut = emit.value(f"trunc i64 {length} to i32")
        self._checked(emit, emit.helper(CHANGE_TAIL, "i64", "ptr %ctx", f"i32 {cut}", "i64 0"))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("pop")
    def pop(self, emit: Emitter, call: ir.Call) -> None:
        """The kernel removes bytes behind the MAC header: the 14 that shall be in front are saved and put there."""
        count = call.statics[0]
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {self.word(emit, LEN)}, {count + 14}"))
        saved = emit.slot("[2 x i64]", 8)
        self._checked(emit, emit.helper(LOAD_BYTES, "i64", "ptr %ctx", f"i32 {count}", f"ptr {saved}", "i32 14"))
        self._shrink(emit, count, str(FIXED_SEGMENT))
        self._checked(emit, emit.helper(STORE_BYTES, "i64", "ptr %ctx", "i32 0", f"ptr {saved}", "i32 14", "i64 0"))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("remove")
    def remove(self, emit: Emitter, call: ir.Call) -> None:
        """What comes behind may be IP of the other version, and the kernel goes by its own note of which it is."""
        count = call.statics[0]
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {self.word(emit, LEN)}, {count + 14}"))
        place = emit.slot("i64", 8)
        emit.emit(f"store i64 0, ptr {place}")
        emit.helper(LOAD_BYTES, "i64", "ptr %ctx", f"i32 {count + 14}", f"ptr {place}", "i32 1")
        version = emit.value(f"lshr i64 {emit.value(f'load i64, ptr {place}')}, 4")
        flags = str(FIXED_SEGMENT)
        for number, flag in ((4, INSIDE_IPV4), (6, INSIDE_IPV6)):
            chosen = emit.value(f"icmp eq i64 {version}, {number}")
            flags = emit.value(f"select i1 {chosen}, i64 {FIXED_SEGMENT | flag}, i64 {flags}")
        self._shrink(emit, count, flags)
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    def _shrink(self, emit: Emitter, count: int, flags: str) -> None:
        """Take bytes from behind the first 14."""
        shrunk = emit.slot("i64")
        emit.emit(f"store i64 1, ptr {shrunk}")
        bare = emit.value(f"xor i1 {emit.value(f'load i1, ptr {self.grown}')}, true") if self.grown else "true"
        with emit.when(bare):
            status = emit.helper(ADJUST_ROOM, "i64", "ptr %ctx", f"i32 {-count}", f"i32 {MAC_LEVEL}", f"i64 {flags}")
            emit.emit(f"store i64 {status}, ptr {shrunk}")
        with emit.when(emit.value(f"icmp ne i64 {emit.value(f'load i64, ptr {shrunk}')}, 0")):
            self._single(emit)
            self._shift(emit, count)

    def _single(self, emit: Emitter) -> None:
        """Reject an aggregate."""
        emit.reject(Dropped.RESIZE, emit.value(f"icmp ne i64 {self.word(emit, GSO_SIZE)}, 0"))

    @lowers("exchange")
    def exchange(self, emit: Emitter, call: ir.Call) -> None:
        """The kernel exchanges one fixed header for the other, and what kind of segments an aggregate will be cut into;
        what the headers take more or less besides goes in or out behind the MAC header."""
        first, total = call.statics
        length = lowering.taken(emit, call)
        wanted = emit.value(f"add i64 {length}, 14")
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {self.word(emit, LEN)}, {wanted}"))
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, 14)}, {end}"))
        lowering.exchangeable(emit, call, length, data)
        raw = int.from_bytes(INTERNET[first].to_bytes(2, "big"), "little")
        self._checked(emit, emit.helper(CHANGE_PROTO, "i64", "ptr %ctx", f"i16 zeroext {raw}", "i64 0"))
        if length != str(total + 60 - 2 * first):
            more = emit.value(f"sub i64 {total + 60 - 2 * first}, {length}")
            with emit.when(emit.value(f"icmp ne i64 {more}, 0")):
                cut = emit.value(f"trunc i64 {more} to i32")
                self._checked(emit, emit.helper(ADJUST_ROOM, "i64", "ptr %ctx", f"i32 {cut}", f"i32 {MAC_LEVEL}",
                                                f"i64 {FIXED_SEGMENT}"))
        self.linear(emit, str(total + 14))
        data, end = self.bounds(emit)
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {emit.offset(data, total + 14)}, {end}"))
        lowering.put_type(emit, data, call)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    def _shift(self, emit: Emitter, count: int) -> None:
        """`adjust_room` refuses what is not IP: move the bytes one by one and cut the tail (frames to 2 kB)."""
        length = self.word(emit, LEN)
        emit.reject(Dropped.RESIZE, emit.value(f"icmp ugt i64 {length}, 2048"))
        counter, place = emit.slot("i64"), emit.slot("i64", 8)
        emit.emit(f"store i64 14, ptr {counter}")
        head, body, after = emit.name("shift"), emit.name("byte"), emit.name("shifted")
        stop = emit.value(f"sub i64 {length}, {count}")
        emit.label(head)
        index = emit.value(f"load i64, ptr {counter}")
        short = emit.value(f"icmp ult i64 {index}, 2048")
        emit.split(emit.value(f"and i1 {emit.value(f'icmp ult i64 {index}, {stop}')}, {short}"), body, after)
        emit.label(body)
        source = emit.value(f"trunc i64 {emit.value(f'add i64 {index}, {count}')} to i32")
        emit.helper(LOAD_BYTES, "i64", "ptr %ctx", f"i32 {source}", f"ptr {place}", "i32 1")
        target = emit.value(f"trunc i64 {index} to i32")
        emit.helper(STORE_BYTES, "i64", "ptr %ctx", f"i32 {target}", f"ptr {place}", "i32 1", "i64 0")
        emit.emit(f"store i64 {emit.value(f'add i64 {index}, 1')}, ptr {counter}")
        emit.jump(head)
        emit.label(after)
        cut = emit.value(f"trunc i64 {stop} to i32")
        self._checked(emit, emit.helper(CHANGE_TAIL, "i64", "ptr %ctx", f"i32 {cut}", "i64 0"))

    # -- checksums ---------------------------------------------------------------------------------------------------

    @lowers("rewrite")
    def rewrite(self, emit: Emitter, call: ir.Call) -> None:
        def own(view: ir.Var, change: lowering.Change) -> None:
            assert isinstance(view.type, ir.View) and issubclass(view.type.layout, Header)
            coverage = view.type.layout.coverage
            assert coverage is not None
            if coverage.scope == "header":
                lowering.adjust(emit, view, change)
            else:
                self._replace(emit, view, change, 0)

        lowering.rewrite(emit, call, own, lambda view, change: self._replace(emit, view, change, PSEUDO_HEADER))

    @lowers("amend")
    def amend(self, emit: Emitter, call: ir.Call) -> None:
        self._replace(emit, *lowering.amend(emit, call), PSEUDO_HEADER)

    def _replace(self, emit: Emitter, view: ir.Var, change: lowering.Change, flags: int) -> None:
        """The kernel's helper by difference: right for full and for partial checksums."""
        assert isinstance(view.type, ir.View) and issubclass(view.type.layout, Header)
        coverage = view.type.layout.coverage
        assert coverage is not None
        low, high = emit.places[view]
        field = view.type.layout.fields[coverage.field].span[0]
        if low == high:
            if (low + field) % 2:
                lowering.adjust(emit, view, change)         # where the helper does not go, nor any offload
                return
            where = str(low + field)
        else:
            emit.reachable(view)
            if not (_stays_even(emit) and field % 2 == 0):
                odd = emit.value(f"and i64 {emit.value(f'load i64, ptr {emit.slots_of(view).offset}')}, 1")
                with emit.when(emit.value(f"icmp ne i64 {odd}, {field % 2}")):
                    lowering.adjust(emit, view, change)     # and the helper will refuse
            start = emit.value(f"load i64, ptr {emit.slots_of(view).offset}")
            where = emit.value(f"trunc i64 {emit.value(f'add i64 {start}, {field}')} to i32")
        folded, most = change.sum, change.most
        while most >> 32:
            most = (1 << 32) - 1 if most < (1 << 33) - 1 else (1 << 32) + (most >> 32)
            least, rest = emit.value(f"and i64 {folded}, 4294967295"), emit.value(f"lshr i64 {folded}, 32")
            folded = emit.value(f"add i64 {least}, {rest}")
        flags |= MANGLED_ZERO if coverage.optional else 0
        self.put_off.append(("ptr %ctx", f"i32 {where}", "i64 0", f"i64 {folded}", f"i64 {flags}"))
        self.kept = set(emit.usable)

    def before(self, emit: Emitter, stmt: ir.Stmt | None) -> None:
        """The helper loses every pointer, so the fields of rewrites in a row are written before it is called."""
        if not self.put_off:
            return
        if lowering.continues(stmt):
            emit.usable = set(self.kept)
            return
        for arguments in self.put_off:
            emit.helper(L4_CSUM, "i64", *arguments)
        self.put_off.clear()

    # -- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, emit: Emitter) -> None:
        if "meta" in emit.operations:
            for i in range(4):
                part = emit.value(f"load i32, ptr {emit.offset(self.metadata, 4 * i)}, align 4")
                emit.emit(f"store volatile i32 {part}, ptr {emit.offset('%ctx', CB + 4 + 4 * i)}, align 4")
        self.finish(emit, 0, 2)

    def watched(self, emit: Emitter, kind: str, argument: str) -> None:
        """Who watches finds the verdict's argument in `tc_classid`."""
        emit.emit(f"store volatile i32 {argument}, ptr {emit.offset('%ctx', CLASS)}, align 4")
        array = self.pseudo(emit, MAP_BY_INDEX, "@watch")
        emit.emit(f"call i64 inttoptr (i64 {TAIL_CALL} to ptr)(ptr %ctx, ptr {array}, i32 {kind})")

    def leave_by(self, emit: Emitter, port: str) -> None:
        emit.emit(f"store i16 {emit.value(f'trunc i32 {port} to i16')}, ptr {emit.offset('%ctx', CB)}, align 4")

    def flood_to(self, emit: Emitter, number: str) -> None:
        emit.emit(f"store volatile i32 {number}, ptr {emit.offset('%ctx', CLASS)}, align 4")

    def report(self, emit: Emitter) -> None:
        tci, tpid = self.tag_words(emit)
        mark = emit.value(f"or i64 {emit.value(f'shl i64 {tpid}, 16')}, {tci}")
        emit.emit(f"store i32 {emit.value(f'trunc i64 {mark} to i32')}, ptr {emit.offset('%ctx', MARK)}, align 4")


def _outside(kinds: list[str]) -> int:
    """What the kernel must know of headers that are put before a packet: the tunnel they make, if they make one."""
    if kinds[0] not in OUTSIDE or (len(kinds) > 1 and kinds[1] not in BETWEEN):
        return FIXED_SEGMENT
    flags = FIXED_SEGMENT | OUTSIDE[kinds[0]]
    if len(kinds) > 1:
        flags |= BETWEEN[kinds[1]]
    if kinds[-1] == "ethernet":
        flags |= FRAME_INSIDE | 14 << LENGTH_SHIFT
    return flags


def _stays_even(emit: Emitter) -> bool:
    """Whether every header the program reaches begins at an even byte, as far as one sees without looking at values."""
    for node in ir.walk(emit.program):
        if isinstance(node, ir.Call) and node.op in ("parse", "peek") and node.statics[0].size % 2:
            return False
        if isinstance(node, ir.Call) and node.op in ("peek", "skip") and not all(map(_even, node.args)):
            return False
    return True


def _even(expr: ir.Expr) -> bool:
    match expr:
        case ir.Const(value=value):
            return value % 2 == 0
        case ir.Binary(op="*", left=left, right=right):
            return _even(left) or _even(right)
        case ir.Binary(op="+" | "-", left=left, right=right):
            return _even(left) and _even(right)
    return False


def _writes_type(emit: Emitter) -> bool:
    """Whether the program may write the bytes where an inner tag, or the frame's type, lies."""
    written: list[tuple[ir.Var, str]] = []
    for node in ir.walk(emit.program):
        if isinstance(node, ir.SetField):
            written.append((node.view, node.name))
        elif isinstance(node, ir.Call) and node.op == "rewrite" and isinstance(node.args[0], ir.Read):
            written += [(node.args[0].var, name) for name in node.statics[0]]
    for view, name in written:
        if isinstance(view.type, ir.View) and view in emit.places and view.type.space == "packet":
            (low, high), (first, last) = emit.places[view], view.type.layout.fields[name].span
            if low + first < 14 and high + last > 12:
                return True
    return False


_RAW_8100 = int.from_bytes((0x8100).to_bytes(2, "big"), "little")
