"""What TC and XDP have in common: eBPF.

A program mentions *map number i* (`llvm.bpf.pseudo`, BPF_PSEUDO_MAP_IDX); the loader passes descriptors beside the
code.  So code is position independent and can be kept as plain bytes.  Besides the function's own tables there are the
platform's maps, named with an `@`:

    @config     4 bytes of flags, 4 for where the stage's slots begin, then the configuration record; frozen, so the
                verifier folds it
    @machine    clock, hash seed, chance: the four words of `language.machine.Machine`
    @drops      per CPU, drops by reason, all in one value: an entry each would cost an allocation each
    @next       program array: a slot per output port, and one for floods; wiring is a slot write.  The stages of an
                instance share it, one behind the other
    @watch      program array: a slot a kind of verdict, for who watches; nothing but a place in the code otherwise
    @events     ring buffer to Python
    @context    XDP only: what travels with a packet, one per CPU: {u16 port, u16 argument, u32}, 16 bytes of metadata

A helper is a call of its number.  Helpers that take a length or an offset get one hidden from LLVM and then masked, so
that the verifier knows the range it needs.
"""
from __future__ import annotations

from typing import ClassVar

from ..compiler import ir, may_goto
from ..compiler.llvm import Emitter, Number, Pointer
from ..compiler.target import Target, lowers
from ..language.integers import width
from ..language.layout import Layout
from ..language.tables import NEW, TableSpec
from ..language.verdicts import Dropped
from . import lowering

MAP_BY_INDEX, VALUE_BY_INDEX = 5, 6         # BPF_PSEUDO_MAP_IDX, BPF_PSEUDO_MAP_IDX_VALUE, Linux 5.14
BARE = 1                                    # flag in @config: return the verdict itself, for tests
WATCH = 2                                   # flag in @config: let @watch see each verdict, and end the packet
FLOOD_SLOT = 256                            # of the slots of a stage, behind the ports
HOST_SLOT = 257                             # XDP: what is for the host leaves by a slot, too
DIRECT = 4                                  # ports whose slots are jumped to directly: see `Bpf.end`
REASONS = 256                               # counted in @drops, 8 bytes each; behind them what is no drop:
HANDED, PUNTED, COPIED, ENDS = 256, 257, 258, 259       # packets for the host, and for Python; copies made
MANY_TURNS = 4                              # of a loop that the verifier should walk once
EVENT_HEADER = 24                           # bytes before an event in the ring: see `record`
TOLD = 0x8000                               # of an event's number: its packet went on
SUMMED = 64                                 # bytes that a helper adds up at once
SINGLE, AGGREGATE = 2048, (1 << 16) + 32    # bytes of a frame that go with an event

LOOKUP, UPDATE, DELETE, PRANDOM, TAIL_CALL, CSUM_DIFF, COARSE, PRECISE, RESERVE, SUBMIT, DISCARD = \
    1, 2, 3, 7, 12, 28, 160, 5, 131, 132, 133


class Bpf(Target):
    """The common half."""

    triple = "bpfel"
    layout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
    attributes = 'nounwind "no-builtins" "no-jump-tables"="true"'
    load_bytes: ClassVar[int]
    frame_limits: ClassVar[tuple[int, ...]] = (SINGLE,)
    ways: ClassVar[int] = FLOOD_SLOT + 1        # slots of the first stage
    some_word: ClassVar[int]                    # of the context, a number of any value
    data_words: ClassVar[tuple[int, int]]       # where the context holds the packet's two ends

    def __init__(self, cpu: str = "v4", level: int = 2) -> None:
        super().__init__(cpu, level)

    # -- maps --------------------------------------------------------------------------------------------------------

    def pseudo(self, emit: Emitter, kind: int, name: str) -> str:
        emit.declare("declare i64 @llvm.bpf.pseudo(i64, i64)")
        number = emit.value(f"call i64 @llvm.bpf.pseudo(i64 {kind}, i64 {emit.map(name)})")
        return emit.value(f"inttoptr i64 {number} to ptr")

    def bounded(self, emit: Emitter, value: str, interval: tuple[int, int]) -> str:
        """The verifier walks a loop turn by turn and must see where it ends, whatever LLVM made of the bound."""
        low, high = interval
        if low == high or high < 0:
            return value
        if low < 0:
            emit.declare("declare i64 @llvm.smax.i64(i64, i64)")
            value = emit.value(f"call i64 @llvm.smax.i64(i64 {value}, i64 0)")
        return lowering.bounded(emit, value, high)

    def walked_once(self, emit: Emitter, loop: ir.Loop) -> bool:
        """Few turns are walked quicker one by one, their numbers known."""
        start, stop = emit.interval(loop.start), emit.interval(loop.stop)
        return start[0] >= 0 and (stop[1] - start[0]) // loop.step >= MANY_TURNS

    def forget(self, emit: Emitter, slots: list[tuple[str, str]]) -> None:
        """By adding zero of which the verifier does not know that it is: a word of the context less itself."""
        word = emit.value(f"zext i32 {self.context_word(emit, self.some_word)} to i64")
        same = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {word})')
        zero = emit.value(f"sub i64 {word}, {same}")
        for slot, kind in slots:
            of = zero if kind == "i64" else emit.value(f"{'sext' if kind == 'i128' else 'trunc'} i64 {zero} to {kind}")
            before = emit.value(f"load {kind}, ptr {slot}")
            emit.emit(f"store {kind} {emit.value(f'xor {kind} {before}, {of}')}, ptr {slot}")

    def forget_all(self, emit: Emitter, call: ir.Call) -> None:
        """Pointers into tables stay: there is one of each, whichever way it came.  What is needed later is pinned where
        it is, or LLVM would put off forgetting it."""
        numbers = [(emit.cursor, "i64"), *self.numbers()]
        for var, slots in emit.slots.items():
            if var not in emit.later[id(call)]:
                continue
            if isinstance(var.type, ir.Int):
                numbers.append((slots.value, f"i{var.type.bits}"))
            elif isinstance(var.type, ir.Bool):
                numbers.append((slots.value, "i1"))
            if slots.offset:
                numbers.append((slots.offset, "i64"))
            if slots.present:
                numbers.append((slots.present, "i1"))
        self.forget(emit, numbers)
        for slot, kind in numbers:
            if kind == "i128":
                continue
            kept = emit.value(f"load {kind}, ptr {slot}")
            wide = kept if kind == "i64" else emit.value(f"zext {kind} {kept} to i64")
            wide = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {wide})')
            cut = wide if kind == "i64" else emit.value(f"trunc i64 {wide} to {kind}")
            emit.emit(f"store {kind} {cut}, ptr {slot}")
        emit.usable = set()
        emit.bounds = None

    def numbers(self) -> list[tuple[str, str]]:
        """Slots, with their types, that the target has for itself."""
        return []

    def turn(self, emit: Emitter) -> None:
        """The kernel's limit is millions of turns, the language's thousands: the drop stands there for the verifier."""
        emit.declare("declare i64 @llvm.bpf.pseudo(i64, i64)")
        over = emit.value(f"call i64 @llvm.bpf.pseudo(i64 {may_goto.KIND}, i64 {may_goto.MARK})")
        emit.reject(Dropped.HOPS, emit.value(f"icmp eq i64 {over}, 0"))

    def context_word(self, emit: Emitter, offset: int, volatile: bool = False, bits: int = 32) -> str:
        """32 bits of the context, i32, or 16.  `volatile`: words beside each other are not to become one of 64 bits.

        Through the intrinsic that fixes base and offset: the verifier wants every load of the context at a constant
        offset and for itself, and LLVM would merge it with others.
        """
        name = f"@llvm.bpf.getelementptr.and.load.i{bits}"
        emit.declare(f"declare i{bits} {name}(ptr, i1, i8, i8, i8, i1, ...)")
        return emit.value(f"call i{bits} (ptr, i1, i8, i8, i8, i1, ...) {name}(ptr elementtype(i8) %ctx, "
                          f"i1 {str(volatile).lower()}, i8 0, i8 1, i8 {bits // 16}, i1 true, i32 {offset})")

    def bounds(self, emit: Emitter) -> tuple[str, str]:
        """Pointers to the packet's first byte and behind its last.

        Hidden, because a pointer that passed through 32 bits, as LLVM may merge two of them, is none to the verifier.
        """
        if emit.bounds is None:
            wide = [emit.value(f"zext i32 {self.context_word(emit, offset)} to i64") for offset in self.data_words]
            emit.bounds = emit.value(f'call ptr asm "", "=r,0"(i64 {wide[0]})'), \
                emit.value(f'call ptr asm "", "=r,0"(i64 {wide[1]})')
        return emit.bounds

    def flags(self, emit: Emitter) -> str:
        there = emit.value(f"load i32, ptr {self.pseudo(emit, VALUE_BY_INDEX, '@config')}")
        return emit.value(f"zext i32 {there} to i64")

    def config(self, emit: Emitter) -> str:
        return emit.offset(self.pseudo(emit, VALUE_BY_INDEX, "@config"), 8)

    def machine(self, emit: Emitter) -> str:
        return self.pseudo(emit, VALUE_BY_INDEX, "@machine")

    def coarse(self, emit: Emitter) -> str:
        return emit.helper(COARSE, "i64")

    def precise(self, emit: Emitter) -> str:
        return emit.helper(PRECISE, "i64")

    def chance(self, emit: Emitter) -> str:
        return emit.value(f"and i64 {emit.helper(PRANDOM, 'i64')}, 4294967295")

    def count_drop(self, emit: Emitter, reason: str) -> None:
        """Count a drop by its reason, an i32 below 256."""
        index = emit.slot("i32")
        emit.emit(f"store i32 0, ptr {index}")
        first = emit.helper(LOOKUP, "ptr", f"ptr {self.pseudo(emit, MAP_BY_INDEX, '@drops')}", f"ptr {index}")
        with emit.when(emit.value(f"icmp ne ptr {first}, null")):
            number = reason
            if not reason.isdigit():
                number = lowering.bounded(emit, emit.value(f"zext i32 {reason} to i64"), REASONS - 1)
            place = emit.value(f"getelementptr i64, ptr {first}, i64 {number}")
            more = emit.value(f"add i64 {emit.value(f'load i64, ptr {place}')}, 1")
            emit.emit(f"store i64 {more}, ptr {place}")

    # -- sums --------------------------------------------------------------------------------------------------------

    @lowers("sum")
    def sum(self, emit: Emitter, call: ir.Call) -> str:
        """Blocks by `bpf_csum_diff`, which wants a constant size, then words, each in a loop that the verifier walks
        once: every piece that may or may not be there, one by one, was two ways for it each time.
        """
        high = emit.checked.offsets[id(call)][1]
        most = emit.interval(call.args[1])[1]
        length = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {emit.integer(call.args[1], 64)})')
        cursor = emit.value(f"load i64, ptr {emit.cursor}")
        start = emit.value(f"add i64 {cursor}, {emit.integer(call.args[0], 64)}")
        end = emit.value(f"add i64 {start}, {length}")
        far = emit.value(f"icmp ugt i64 {end}, {self.length(emit, call)}")
        some = emit.value(f"icmp ne i64 {length}, 0")
        emit.reject(Dropped.TRUNCATED, emit.value(f"and i1 {far}, {some}"))
        self.linear(emit, end)
        total, place, left = (emit.slot("i64") for _ in range(3))
        masks = {total: (1 << 48) - 1, place: (1 << (high + most).bit_length()) - 1, left: (1 << most.bit_length()) - 1}

        def keep(slot: str, value: str) -> None:
            """Store a number in the range it always has, or the verifier would find another one in each turn."""
            emit.emit(f"store i64 {emit.value(f'and i64 {value}, {masks[slot]}')}, ptr {slot}")

        for slot, value in ((total, "0"), (place, start), (left, length)):
            keep(slot, value)

        def piece(size: int) -> None:
            where = emit.value(f"load i64, ptr {place}")
            address = emit.offset(self.origin(emit), lowering.bounded(emit, where, high + most))
            behind = emit.offset(address, size)
            emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ugt ptr {behind}, {self.bounds(emit)[1]}"))
            if size == SUMMED:
                part = emit.helper(CSUM_DIFF, "i64", "ptr null", "i32 0", f"ptr {address}", f"i32 {size}", "i32 0")
                part = emit.value(f"and i64 {part}, 4294967295")
            else:
                part = emit.value(f"load i{8 * size}, ptr {address}, align 1")
                part = emit.value(f"zext i{8 * size} {part} to i64")
            before = emit.value(f"load i64, ptr {total}")
            keep(total, emit.value(f"add i64 {before}, {part}"))
            keep(place, emit.value(f"add i64 {where}, {size}"))

        for size in (SUMMED, 4):
            if most < size:
                continue
            self.forget(emit, [(slot, "i64") for slot in masks])
            for slot in masks:
                keep(slot, emit.value(f"load i64, ptr {slot}"))
            head, body, after = emit.name("sum"), emit.name("piece"), emit.name("summed")
            emit.label(head)
            self.turn(emit)
            rest = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {emit.value(f"load i64, ptr {left}")})')
            emit.emit(f"store i64 {rest}, ptr {left}")
            emit.split(emit.value(f"icmp uge i64 {rest}, {size}"), body, after)
            emit.label(body)
            piece(size)
            emit.emit(f"store i64 {emit.value(f'sub i64 {rest}, {size}')}, ptr {left}")
            emit.jump(head)
            emit.label(after)
        for size in (2, 1):
            rest = emit.value(f"load i64, ptr {left}")
            with emit.when(emit.value(f"icmp ne i64 {emit.value(f'and i64 {rest}, {size}')}, 0")):
                piece(size)
        return lowering.folded(emit, emit.value(f"load i64, ptr {total}"))

    def linear(self, emit: Emitter, end: str) -> None:
        """Make the bytes before `end`, an i64, reachable."""

    def origin(self, emit: Emitter) -> str:
        """The pointer from which offsets behind the Ethernet addresses count."""
        return self.bounds(emit)[0]

    def length(self, emit: Emitter, call: ir.Call) -> str:
        raise NotImplementedError

    # -- tables ------------------------------------------------------------------------------------------------------

    def table(self, emit: Emitter, call: ir.Call) -> tuple[str, ir.Expr, TableSpec]:
        """The map operand, the key, and the spec of the table a call names."""
        spec: TableSpec = call.statics[0]
        args = list(call.args)
        if isinstance(args[0].type, ir.TableHandle):
            return emit.pointer(args.pop(0)).address, args[0], spec
        return self.pseudo(emit, MAP_BY_INDEX, spec.name), args[0], spec

    @lowers("get")
    def get(self, emit: Emitter, call: ir.Call) -> Pointer | Number:
        handle, key, spec = self.table(emit, call)
        where = lowering.key(emit, key, spec.key, spec.kind == "lpm")
        found = emit.helper(LOOKUP, "ptr", f"ptr {handle}", f"ptr {where}")
        if spec.ttl:
            found = lowering.age(emit, found, spec, self.ttl(emit, spec))
        if isinstance(call.type, ir.Int):
            return read_scalar(emit, found, spec, call.type.bits)
        return Pointer(found)

    def ttl(self, emit: Emitter, spec: TableSpec) -> str:
        """Nanoseconds an entry lives: a constant, or a field of the configuration."""
        if isinstance(spec.ttl, int):
            return str(spec.ttl)
        return emit.load_host(self.config(emit), emit.config_layout.fields[spec.ttl])

    @lowers("put")
    def put(self, emit: Emitter, call: ir.Call) -> str:
        handle, key, spec = self.table(emit, call)
        where = lowering.key(emit, key, spec.key)
        what = lowering.stored(emit, call.args[-1], spec)
        if spec.kind == "array":
            return self.put_array(emit, handle, where, what, spec)
        mode = 1 if call.statics[1] == NEW else 0
        status = emit.helper(UPDATE, "i64", f"ptr {handle}", f"ptr {where}", f"ptr {what}", f"i64 {mode}")
        return emit.value(f"icmp eq i64 {status}, 0")

    def put_array(self, emit: Emitter, handle: str, where: str, what: str, spec: TableSpec) -> str:
        """An array's entry is written in place: no helper but the inlined lookup."""
        place = emit.helper(LOOKUP, "ptr", f"ptr {handle}", f"ptr {where}")
        there = emit.value(f"icmp ne ptr {place}, null")
        done = emit.slot("i1")
        emit.emit(f"store i1 false, ptr {done}")
        with emit.when(there):
            emit.emit(f"store i1 true, ptr {done}")
            if isinstance(spec.value, type) and issubclass(spec.value, Layout):
                lowering.copy_bytes(emit, what, place, spec.value)
            else:
                for word, bits in ((0, 64), (8, 64)) if spec.value_size == 16 else ((0, spec.value_size * 8),):
                    part = emit.value(f"load i{bits}, ptr {emit.offset(what, word)}, align {bits // 8}")
                    emit.emit(f"store i{bits} {part}, ptr {emit.offset(place, word)}, align {bits // 8}")
        return emit.value(f"load i1, ptr {done}")

    @lowers("delete")
    def delete(self, emit: Emitter, call: ir.Call) -> None:
        handle, key, spec = self.table(emit, call)
        emit.helper(DELETE, "i64", f"ptr {handle}", f"ptr {lowering.key(emit, key, spec.key)}")

    @lowers("touch")
    def touch(self, emit: Emitter, call: ir.Call) -> None:
        spec: TableSpec = call.statics[0]
        place = emit.offset(emit.pointer(call.args[0]).address, spec.stored_size - 8)
        emit.emit(f"store i64 {emit.now()}, ptr {place}, align 8")

    @lowers("count")
    def count(self, emit: Emitter, call: ir.Call) -> None:
        spec: TableSpec = call.statics[0]
        where = lowering.key(emit, call.args[0], None)
        size = emit.integer(call.args[1], 64)
        handle = self.pseudo(emit, MAP_BY_INDEX, spec.name)
        place = emit.helper(LOOKUP, "ptr", f"ptr {handle}", f"ptr {where}")
        with emit.when(emit.value(f"icmp ne ptr {place}, null")):
            for offset, added in ((0, "1"), (8, size)):
                if added == "0":
                    continue
                there = emit.offset(place, offset)
                more = emit.value(f"add i64 {emit.value(f'load i64, ptr {there}')}, {added}")
                emit.emit(f"store i64 {more}, ptr {there}")

    # -- events ------------------------------------------------------------------------------------------------------

    @lowers("punt")
    def punt(self, emit: Emitter, call: ir.Call) -> str:
        return self.event(emit, call, 4 << 16 | call.statics[0], int(Dropped.PUNT_LOST), call.statics[0])

    @lowers("notify")
    def notify(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"icmp ne i32 {self.event(emit, call, 1, 0, call.statics[0] | TOLD)}, 0")

    def event(self, emit: Emitter, call: ir.Call, done: int, lost: int, number: int) -> str:
        """A record in the ring: {u16 event, u16 port, u32 captured, u32 length, u16 tci, u16 tpid, u16 segment}, event,
        frame.

        Answers `done` or, if there is no room, `lost`, as i32.  A record is reserved with a constant size: the smallest
        of `frame_limits` that holds the frame.
        """
        event = call.args[0]
        assert isinstance(event.type, ir.View)
        source, result = emit.pointer(event).address, emit.slot("i32")
        emit.emit(f"store i32 {lost}, ptr {result}")
        length, after = self.frame_length(emit), emit.name("told")
        for limit in self.frame_limits[:-1]:
            small, large = emit.name("small"), emit.name("large")
            emit.split(emit.value(f"icmp ule i64 {length}, {limit}"), small, large)
            emit.label(small)
            self.record(emit, call, source, length, limit, done, number, result)
            emit.jump(after)
            emit.label(large)
        self.record(emit, call, source, length, self.frame_limits[-1], done, number, result)
        emit.label(after)
        return emit.value(f"load i32, ptr {result}")

    def record(self, emit: Emitter, call: ir.Call, source: str, length: str, limit: int, done: int, number: int,
               result: str) -> None:
        """Put a frame of at most `limit` bytes, or its beginning, into the ring, and `done` into `result`."""
        kind = call.args[0].type
        assert isinstance(kind, ir.View)
        room = -(-kind.layout.size // 8) * 8
        ring = self.pseudo(emit, MAP_BY_INDEX, "@events")
        place = emit.helper(RESERVE, "ptr", f"ptr {ring}", f"i64 {EVENT_HEADER + room + limit}", "i64 0")
        with emit.when(emit.value(f"icmp ne ptr {place}, null")):
            most = emit.value(f"icmp ult i64 {length}, {limit}")
            taken = emit.value(f"select i1 {most}, i64 {length}, i64 {limit}")
            tci, tpid = self.tag_words(emit)
            port, segment = self.port(emit, call), self.segment(emit, call)
            for offset, bits, value in ((2, 16, port), (4, 32, taken), (8, 32, length), (12, 16, tci), (14, 16, tpid),
                                        (16, 16, segment)):
                cut = emit.value(f"trunc i64 {value} to i{bits}")
                emit.emit(f"store i{bits} {cut}, ptr {emit.offset(place, offset)}, align {bits // 8}")
            emit.emit(f"store i16 {number}, ptr {place}, align 2")
            lowering.copy_bytes(emit, source, emit.offset(place, EVENT_HEADER), kind.layout)
            hidden = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {taken})')
            size = emit.value(f"and i64 {hidden}, {(1 << limit.bit_length()) - 1}")
            good = emit.value(f"add i64 {size}, -1")
            bad, copy, after = emit.name("toolong"), emit.name("copy"), emit.name("copied")
            emit.split(emit.value(f"icmp ult i64 {good}, {limit}"), copy, bad)
            emit.label(copy)
            target = emit.offset(place, EVENT_HEADER + room)
            cut = emit.value(f"trunc i64 {size} to i32")
            emit.helper(self.load_bytes, "i64", "ptr %ctx", "i32 0", f"ptr {target}", f"i32 {cut}")
            emit.emit(f"call i64 inttoptr (i64 {SUBMIT} to ptr)(ptr {place}, i64 0)")
            emit.emit(f"store i32 {done}, ptr {result}")
            emit.jump(after)
            emit.label(bad)
            emit.emit(f"call i64 inttoptr (i64 {DISCARD} to ptr)(ptr {place}, i64 0)")
            emit.label(after)

    def frame_length(self, emit: Emitter) -> str:
        """Bytes the helper `load_bytes` can give, i64."""
        raise NotImplementedError

    def tag_words(self, emit: Emitter) -> tuple[str, str]:
        """The outer tag as the frame bytes of an event lack it: tci and tpid, i64."""
        raise NotImplementedError

    def port(self, emit: Emitter, call: ir.Call) -> str:
        raise NotImplementedError

    def segment(self, emit: Emitter, call: ir.Call) -> str:
        raise NotImplementedError

    @lowers("skip")
    def skip(self, emit: Emitter, call: ir.Call) -> None:
        lowering.skip(emit, call, Dropped.TRUNCATED)

    # -- leaving -----------------------------------------------------------------------------------------------------

    def finish(self, emit: Emitter, passed: int, dropped: int) -> None:
        """The common end: count drops, answer tests, or go on to what the port is wired to."""
        verdict = emit.value(f"load i32, ptr {emit.verdict}")
        kind, argument = emit.value(f"lshr i32 {verdict}, 16"), emit.value(f"and i32 {verdict}, 65535")
        with emit.when(emit.value(f"icmp eq i32 {kind}, 0")):
            self.count_drop(emit, emit.value(f"and i32 {argument}, 255"))
        bare, linked = emit.name("bare"), emit.name("linked")
        flags, special = self.flags(emit), emit.name("special")
        emit.split(emit.value(f"icmp ne i64 {flags}, 0"), special, linked)
        emit.label(special)
        # Hidden, and used nowhere else, or the verdict is put together before the branch, mostly for nothing.
        shown = emit.value(f'call i32 asm sideeffect "", "=r,0"(i32 {verdict})')
        watch = emit.name("watch")
        emit.split(emit.value(f"icmp ne i64 {emit.value(f'and i64 {flags}, {BARE}')}, 0"), bare, watch)
        emit.label(watch)
        sort, what = emit.value(f"lshr i32 {shown}, 16"), emit.value(f"and i32 {shown}, 65535")
        self.watched(emit, sort, what)
        self.end(emit, sort, what, passed, dropped)
        emit.label(bare)
        self.report(emit)
        emit.emit(f"ret i32 {shown}")
        emit.label(linked)
        self.end(emit, kind, argument, passed, dropped)

    def end(self, emit: Emitter, kind: str, argument: str, passed: int, dropped: int) -> None:
        """Go on to what the port is wired to, or end the packet.

        Emitted once more behind `watched`: were it shared, code without a watch could not be cut to the kinds it has.
        A slot that is a constant when the program is loaded becomes a jump, a nanosecond; a computed one goes through a
        retpoline, eleven.  So a port that was computed is compared with the first few.
        """
        forward, flood, host, end, lost = (emit.name(n) for n in ("forward", "flood", "host", "end", "unwired"))
        punted = emit.name("punted") if "punt" in emit.operations else end
        emit.emit(f"switch i32 {kind}, label {end} [ i32 1, label {host} i32 2, label {forward} i32 3, label {flood} "
                  f"i32 4, label {punted} ]")
        emit.label(host)
        self.hand_over(emit)
        self.count_drop(emit, str(HANDED))
        emit.emit(f"ret i32 {passed}")
        if punted != end:
            emit.label(punted)
            self.count_drop(emit, str(PUNTED))
            emit.jump(end)
        emit.label(forward)
        self.leave_by(emit, argument)
        for port in range(DIRECT):
            direct, other = emit.name("direct"), emit.name("other")
            emit.split(emit.value(f"icmp eq i32 {argument}, {port}"), direct, other)
            emit.label(direct)
            self.onward(emit, str(port))
            # Emits nothing; LLVM would make one call, with a computed slot, of those that differ in nothing else.
            emit.emit(f'call void asm sideeffect "", "i"(i32 {port})')
            emit.jump(lost)
            emit.label(other)
        self.onward(emit, argument)
        emit.jump(lost)
        emit.label(flood)
        self.flood_to(emit, argument)
        self.onward(emit, str(FLOOD_SLOT))
        emit.label(lost)
        self.count_drop(emit, str(int(Dropped.UNWIRED)))
        emit.label(end)
        emit.emit(f"ret i32 {dropped}")

    def onward(self, emit: Emitter, slot: str) -> None:
        """Tail-call what a slot of the stage holds; falls through if it holds nothing."""
        array = self.pseudo(emit, MAP_BY_INDEX, "@next")
        first = emit.value(f"load i32, ptr {emit.offset(self.pseudo(emit, VALUE_BY_INDEX, '@config'), 4)}")
        number = emit.value(f"add i32 {first}, {slot}")
        emit.emit(f"call i64 inttoptr (i64 {TAIL_CALL} to ptr)(ptr %ctx, ptr {array}, i32 {number})")

    def hand_over(self, emit: Emitter) -> None:
        """Before a packet goes to the host."""

    def watched(self, emit: Emitter, kind: str, argument: str) -> None:
        """To whoever watches what becomes of packets; falls through if nobody does.  The verdict in two i32."""
        raise NotImplementedError

    def leave_by(self, emit: Emitter, port: str) -> None:
        """Tell what comes next through which port the packet leaves, an i32."""
        raise NotImplementedError

    def flood_to(self, emit: Emitter, number: str) -> None:
        """Tell what comes next to which set of ports the packet goes, an i32; 0 is all."""

    def report(self, emit: Emitter) -> None:
        """What tests need besides the verdict."""


def read_scalar(emit: Emitter, found: str, spec: TableSpec, bits: int) -> Number:
    """The integer an entry holds, read where it is known to be there."""
    there, value = emit.value(f"icmp ne ptr {found}, null"), emit.slot(f"i{bits}")
    emit.emit(f"store i{bits} 0, ptr {value}")
    present = emit.slot("i1")
    emit.emit(f"store i1 false, ptr {present}")
    with emit.when(there):
        from ..language.layout import Field
        field = Field("", width(spec.value) or 64, 0, False)
        emit.emit(f"store i{bits} {emit.load_host(found, field)}, ptr {value}")
        emit.emit(f"store i1 true, ptr {present}")
    return Number(emit.value(f"load i{bits}, ptr {value}"), emit.value(f"load i1, ptr {present}"))
