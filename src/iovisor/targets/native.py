"""Native code: the host's own processor, JIT-compiled, its tables native too.

The generated function takes one pointer, to the words below, and returns the verdict.  Nothing of Python runs between
call and return: tables are memory the code walks itself (native_tables.py), the clock is libc's, an event is written
to a buffer.  A packet arrives as CPython's `Packet` has it, the outer tag beside the bytes, and leaves the same way.

    0 data   8 end   16 limit (first usable byte)   24 port   32 tci   40 tpid   48 machine   56 config
    64 metadata   72 drops   80 event   88 table of tables   96 where the next `notify` writes   104 the end of that

The object file is made by the same child process as the eBPF ones, so that it can be kept; MCJIT only links it.
"""
from __future__ import annotations

from ..compiler import ir
from ..compiler.llvm import Emitter, Number, Pointer
from ..compiler.target import Target, lowers
from ..language.layout import Header
from ..language.packet import TPIDS
from ..language.tables import NEW, TableSpec
from ..language.verdicts import Dropped
from . import lowering
from .bpf import read_scalar
from .native_tables_ir import RUNTIME_IR

DATA, END, LIMIT, PORT, TCI, TPID, MACHINE, CONFIG, METADATA, DROPS, EVENT, TABLES, TOLD, TOLD_END = \
    (8 * n for n in range(14))
CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE = 1, 6


class Native(Target):
    """The machine we run on."""

    name = "native"
    triple = ""
    debug = False
    runtime = RUNTIME_IR
    attributes = "nounwind"

    def __init__(self, cpu: str = "", level: int = 2) -> None:
        super().__init__(cpu, level)

    # -- the context -------------------------------------------------------------------------------------------------

    def word(self, emit: Emitter, offset: int, kind: str = "i64") -> str:
        return emit.value(f"load {kind}, ptr {emit.offset('%ctx', offset)}, align 8")

    def set_word(self, emit: Emitter, offset: int, value: str, kind: str = "i64") -> None:
        emit.emit(f"store {kind} {value}, ptr {emit.offset('%ctx', offset)}, align 8")

    def config(self, emit: Emitter) -> str:
        return self.word(emit, CONFIG, "ptr")

    def machine(self, emit: Emitter) -> str:
        return self.word(emit, MACHINE, "ptr")

    def coarse(self, emit: Emitter) -> str:
        return self._clock(emit, CLOCK_MONOTONIC_COARSE)

    def precise(self, emit: Emitter) -> str:
        return self._clock(emit, CLOCK_MONOTONIC)

    def _clock(self, emit: Emitter, number: int) -> str:
        emit.declare("declare i32 @clock_gettime(i32, ptr)")
        place = emit.slot("[2 x i64]", 8)
        emit.emit(f"call i32 @clock_gettime(i32 {number}, ptr {place})")
        seconds = emit.value(f"mul i64 {emit.value(f'load i64, ptr {place}')}, 1000000000")
        return emit.value(f"add i64 {seconds}, {emit.value(f'load i64, ptr {emit.offset(place, 8)}')}")

    def chance(self, emit: Emitter) -> str:
        emit.declare("declare i64 @getrandom(ptr, i64, i32)")
        place = emit.slot("i64", 8)
        emit.emit(f"store i64 0, ptr {place}")
        emit.emit(f"call i64 @getrandom(ptr {place}, i64 4, i32 0)")
        return emit.value(f"load i64, ptr {place}")

    # -- reaching the packet -----------------------------------------------------------------------------------------

    def loses(self, emit: Emitter, call: ir.Call) -> bool:
        return call.op in lowering.RESIZES

    def find(self, emit: Emitter, offset: str, size: int) -> tuple[str, str]:
        """A pointer to bytes of the packet, and whether they are beyond its end."""
        address = emit.offset(self.word(emit, DATA, "ptr"), offset)
        return address, emit.value(f"icmp ugt ptr {emit.offset(address, size)}, {self.word(emit, END, 'ptr')}")

    def reach(self, emit: Emitter, view: ir.Var) -> None:
        offset = emit.value(f"load i64, ptr {emit.slots_of(view).offset}")
        emit.emit(f"store ptr {emit.offset(self.word(emit, DATA, 'ptr'), offset)}, ptr {emit.slots_of(view).value}")

    def address(self, emit: Emitter, view: ir.Var, byte: int) -> str:
        return emit.offset(emit.value(f"load ptr, ptr {emit.slots_of(view).value}"), byte)

    @lowers("parse")
    def parse(self, emit: Emitter, call: ir.Call) -> Pointer:
        size = call.statics[0].size
        offset = emit.value(f"load i64, ptr {emit.cursor}")
        address, beyond = self.find(emit, offset, size)
        emit.reject(Dropped.TRUNCATED, beyond)
        emit.emit(f"store i64 {emit.value(f'add i64 {offset}, {size}')}, ptr {emit.cursor}")
        return Pointer(address, offset)

    @lowers("peek")
    def peek(self, emit: Emitter, call: ir.Call) -> Pointer:
        cursor = emit.value(f"load i64, ptr {emit.cursor}")
        offset = emit.value(f"add i64 {cursor}, {emit.integer(call.args[0], 64)}")
        address, beyond = self.find(emit, offset, call.statics[0].size)
        return Pointer(address, offset, emit.value(f"xor i1 {beyond}, true"))

    @lowers("load")
    def load(self, emit: Emitter, call: ir.Call) -> str:
        cursor = emit.value(f"load i64, ptr {emit.cursor}")
        offset = emit.value(f"add i64 {cursor}, {emit.integer(call.args[0], 64)}")
        address, beyond = self.find(emit, offset, call.statics[0])
        emit.reject(Dropped.TRUNCATED, beyond)
        return emit.load_swapped(address, call.statics[0] * 8)

    @lowers("sum")
    def sum(self, emit: Emitter, call: ir.Call) -> str:
        cursor = emit.value(f"load i64, ptr {emit.cursor}")
        start = emit.value(f"add i64 {cursor}, {emit.integer(call.args[0], 64)}")
        length = emit.integer(call.args[1], 64)
        first = emit.offset(self.word(emit, DATA, "ptr"), start)
        far = emit.value(f"icmp ugt ptr {emit.offset(first, length)}, {self.word(emit, END, 'ptr')}")
        some = emit.value(f"icmp ne i64 {length}, 0")
        emit.reject(Dropped.TRUNCATED, emit.value(f"and i1 {far}, {some}"))
        total, place = emit.slot("i64"), emit.slot("i64")
        emit.emit(f"store i64 0, ptr {total}")
        emit.emit(f"store i64 0, ptr {place}")
        head, body, after = emit.name("sum"), emit.name("word"), emit.name("summed")
        emit.label(head)
        at = emit.value(f"load i64, ptr {place}")
        emit.split(emit.value(f"icmp ult i64 {emit.value(f'add i64 {at}, 1')}, {length}"), body, after)
        emit.label(body)
        self._add(emit, first, place, total, 16)
        emit.jump(head)
        emit.label(after)
        with emit.when(emit.value(f"icmp ne i64 {emit.value(f'and i64 {length}, 1')}, 0")):
            self._add(emit, first, place, total, 8)
        return lowering.folded(emit, emit.value(f"load i64, ptr {total}"))

    def _add(self, emit: Emitter, first: str, place: str, total: str, bits: int) -> None:
        at = emit.value(f"load i64, ptr {place}")
        part = emit.value(f"load i{bits}, ptr {emit.offset(first, at)}, align 1")
        before = emit.value(f"load i64, ptr {total}")
        more = emit.value(f"add i64 {before}, {emit.value(f'zext i{bits} {part} to i64')}")
        emit.emit(f"store i64 {more}, ptr {total}")
        emit.emit(f"store i64 {emit.value(f'add i64 {at}, {bits // 8}')}, ptr {place}")

    @lowers("skip")
    def skip(self, emit: Emitter, call: ir.Call) -> None:
        lowering.skip(emit, call, Dropped.TRUNCATED)

    @lowers("length")
    def length(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"sub i64 {self.word(emit, END)}, {self.word(emit, DATA)}")

    @lowers("port")
    def port(self, emit: Emitter, call: ir.Call) -> str:
        return self.word(emit, PORT)

    @lowers("segment")
    def segment(self, emit: Emitter, call: ir.Call) -> str:
        return "0"

    @lowers("copy")
    def copy(self, emit: Emitter, call: ir.Call) -> str:
        """Nobody is there to take it."""
        emit.integer(call.args[0], 64)
        return "true"

    @lowers("copied")
    def copied(self, emit: Emitter, call: ir.Call) -> str:
        return "false"

    @lowers("queue")
    def queue(self, emit: Emitter, call: ir.Call) -> None:
        """No device, no queue."""
        emit.integer(call.args[0], 64)

    @lowers("meta")
    def meta(self, emit: Emitter, call: ir.Call) -> Pointer:
        return Pointer(self.word(emit, METADATA, "ptr"))

    # -- the tag -----------------------------------------------------------------------------------------------------

    @lowers("tagged")
    def tagged(self, emit: Emitter, call: ir.Call) -> str:
        return emit.value(f"icmp ne i64 {self.word(emit, TPID)}, 0")

    @lowers("tci")
    def tci(self, emit: Emitter, call: ir.Call) -> str:
        return self.word(emit, TCI)

    @lowers("tpid")
    def tpid(self, emit: Emitter, call: ir.Call) -> str:
        return self.word(emit, TPID)

    def _require(self, emit: Emitter, count: int | str) -> None:
        """Reject a packet shorter than this."""
        length = emit.value(f"sub i64 {self.word(emit, END)}, {self.word(emit, DATA)}")
        emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {length}, {count}"))

    @lowers("retag")
    def retag(self, emit: Emitter, call: ir.Call) -> None:
        tci = emit.integer(call.args[0], 64)
        self._require(emit, 14)
        old = self.word(emit, TPID)
        bare = emit.value(f"icmp eq i64 {old}, 0")
        self.set_word(emit, TPID, emit.value(f"select i1 {bare}, i64 {0x8100}, i64 {old}"))
        self.set_word(emit, TCI, emit.value(f"and i64 {tci}, 65535"))

    @lowers("tag")
    def tag(self, emit: Emitter, call: ir.Call) -> None:
        tci = emit.integer(call.args[0], 64)
        self._require(emit, 14)
        old = self.word(emit, TPID)
        with emit.when(emit.value(f"icmp ne i64 {old}, 0")):
            data = self._grow(emit, 4)
            high = emit.value(f"load i64, ptr {emit.offset(data, 4)}, align 1")
            low = emit.value(f"load i32, ptr {emit.offset(data, 12)}, align 1")
            emit.emit(f"store i64 {high}, ptr {data}, align 1")
            emit.emit(f"store i32 {low}, ptr {emit.offset(data, 8)}, align 1")
            emit.store_swapped(emit.offset(data, 12), old, 0, 16)
            emit.store_swapped(emit.offset(data, 14), self.word(emit, TCI), 0, 16)
        self.set_word(emit, TPID, str(call.statics[0]))
        self.set_word(emit, TCI, emit.value(f"and i64 {tci}, 65535"))
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("untag")
    def untag(self, emit: Emitter, call: ir.Call) -> None:
        with emit.when(emit.value(f"icmp ne i64 {self.word(emit, TPID)}, 0")):
            self.set_word(emit, TPID, "0")
            self.set_word(emit, TCI, "0")
            length = emit.value(f"sub i64 {self.word(emit, END)}, {self.word(emit, DATA)}")
            with emit.when(emit.value(f"icmp uge i64 {length}, 18")):
                data = self.word(emit, DATA, "ptr")
                inner = emit.load_swapped(emit.offset(data, 12), 16)
                tests = [emit.value(f"icmp eq i64 {inner}, {tpid}") for tpid in TPIDS]
                with emit.when(emit.value(f"or i1 {tests[0]}, {tests[1]}")):
                    self.set_word(emit, TPID, inner)
                    self.set_word(emit, TCI, emit.load_swapped(emit.offset(data, 14), 16))
                    high = emit.value(f"load i64, ptr {data}, align 1")
                    low = emit.value(f"load i32, ptr {emit.offset(data, 8)}, align 1")
                    emit.emit(f"store i64 {high}, ptr {emit.offset(data, 4)}, align 1")
                    emit.emit(f"store i32 {low}, ptr {emit.offset(data, 12)}, align 1")
                    self.set_word(emit, DATA, emit.offset(data, 4), "ptr")
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    # -- resizing ----------------------------------------------------------------------------------------------------

    def _grow(self, emit: Emitter, count: int) -> str:
        """More room in front; the new beginning."""
        data = emit.offset(self.word(emit, DATA, "ptr"), -count)
        emit.reject(Dropped.RESIZE, emit.value(f"icmp ult ptr {data}, {self.word(emit, LIMIT, 'ptr')}"))
        self.set_word(emit, DATA, data, "ptr")
        return data

    @lowers("push")
    def push(self, emit: Emitter, call: ir.Call) -> None:
        data = self._grow(emit, call.statics[0])
        emit.emit(f"call void @llvm.memset.p0.i64(ptr {data}, i8 0, i64 {call.statics[0]}, i1 false)")
        emit.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("insert")
    def insert(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        self._require(emit, 14)
        lowering.move_front(emit, self._grow(emit, count), count)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    @lowers("resize")
    def resize(self, emit: Emitter, call: ir.Call) -> None:
        length = emit.integer(call.args[0], 64)
        data = self.word(emit, DATA, "ptr")
        before = emit.value(f"sub i64 {self.word(emit, END)}, {self.word(emit, DATA)}")
        lowering.resizable(emit, length, before)
        more = emit.value(f"sub i64 {length}, {before}")
        with emit.when(emit.value(f"icmp sgt i64 {more}, 0")):
            emit.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            emit.emit(f"call void @llvm.memset.p0.i64(ptr {emit.offset(data, before)}, i8 0, i64 {more}, i1 false)")
        self.set_word(emit, END, emit.offset(data, length), "ptr")
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("pop")
    def pop(self, emit: Emitter, call: ir.Call) -> None:
        self._require(emit, call.statics[0] + 14)
        self.set_word(emit, DATA, emit.offset(self.word(emit, DATA, "ptr"), call.statics[0]), "ptr")
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("exchange")
    def exchange(self, emit: Emitter, call: ir.Call) -> None:
        length = emit.integer(call.args[0], 64)
        data = self.word(emit, DATA, "ptr")
        self._require(emit, emit.value(f"add i64 {length}, 14"))
        lowering.exchangeable(emit, call, length, data)
        saved = lowering.front(emit, data)
        fresh = emit.offset(data, emit.value(f"sub i64 {length}, {call.statics[1]}"))
        emit.reject(Dropped.RESIZE, emit.value(f"icmp ult ptr {fresh}, {self.word(emit, LIMIT, 'ptr')}"))
        self.set_word(emit, DATA, fresh, "ptr")
        lowering.put_front(emit, fresh, saved, call)
        emit.emit(f"store i64 14, ptr {emit.cursor}")

    @lowers("amend")
    def amend(self, emit: Emitter, call: ir.Call) -> None:
        lowering.adjust(emit, *lowering.amend(emit, call))

    @lowers("remove")
    def remove(self, emit: Emitter, call: ir.Call) -> None:
        count = call.statics[0]
        self._require(emit, count + 14)
        data = self.word(emit, DATA, "ptr")
        lowering.move_back(emit, data, count)
        self.set_word(emit, DATA, emit.offset(data, count), "ptr")
        emit.emit(f"store i64 0, ptr {emit.cursor}")

    @lowers("rewrite")
    def rewrite(self, emit: Emitter, call: ir.Call) -> None:
        def mend(view: ir.Var, change: lowering.Change) -> None:
            assert isinstance(view.type, ir.View) and issubclass(view.type.layout, Header)
            lowering.adjust(emit, view, change)

        lowering.rewrite(emit, call, mend, mend)

    # -- tables ------------------------------------------------------------------------------------------------------

    def table(self, emit: Emitter, call: ir.Call) -> tuple[str, ir.Expr, TableSpec]:
        """The table operand, the key, and the spec of the table a call names."""
        spec: TableSpec = call.statics[0]
        args = list(call.args)
        if isinstance(args[0].type, ir.TableHandle):
            return emit.pointer(args.pop(0)).address, args[0], spec
        return self.named(emit, spec), args[0], spec

    def named(self, emit: Emitter, spec: TableSpec) -> str:
        place = emit.offset(self.word(emit, TABLES, "ptr"), 8 * emit.map(spec.name))
        return emit.value(f"load ptr, ptr {place}, align 8")

    @lowers("get")
    def get(self, emit: Emitter, call: ir.Call) -> Pointer | Number:
        handle, key, spec = self.table(emit, call)
        where = lowering.key(emit, key, spec.key, spec.kind == "lpm")
        found = self._lookup(emit, handle, where, spec)
        if spec.inner is not None:
            result = emit.slot("ptr")
            emit.emit(f"store ptr null, ptr {result}")
            with emit.when(emit.value(f"icmp ne ptr {found}, null")):
                emit.emit(f"store ptr {emit.value(f'load ptr, ptr {found}, align 8')}, ptr {result}")
            return Pointer(emit.value(f"load ptr, ptr {result}"))
        if spec.ttl:
            ttl = str(spec.ttl) if isinstance(spec.ttl, int) else \
                emit.load_host(self.config(emit), emit.config_layout.fields[spec.ttl])
            found = lowering.age(emit, found, spec, ttl)
        if isinstance(call.type, ir.Int):
            return read_scalar(emit, found, spec, call.type.bits)
        return Pointer(found)

    def _lookup(self, emit: Emitter, handle: str, where: str, spec: TableSpec) -> str:
        kind = "array" if spec.kind == "counter" else spec.kind
        return emit.value(f"call ptr @iov_lookup_{kind}(ptr {handle}, ptr {where})")

    @lowers("put")
    def put(self, emit: Emitter, call: ir.Call) -> str:
        handle, key, spec = self.table(emit, call)
        where, what = lowering.key(emit, key, spec.key), lowering.stored(emit, call.args[-1], spec)
        mode = 1 if call.statics[1] == NEW else 0
        status = emit.value(f"call i64 @iov_update(ptr {handle}, ptr {where}, ptr {what}, i64 {mode})")
        return emit.value(f"icmp eq i64 {status}, 0")

    @lowers("delete")
    def delete(self, emit: Emitter, call: ir.Call) -> None:
        handle, key, spec = self.table(emit, call)
        emit.value(f"call i64 @iov_delete(ptr {handle}, ptr {lowering.key(emit, key, spec.key)})")

    @lowers("touch")
    def touch(self, emit: Emitter, call: ir.Call) -> None:
        spec: TableSpec = call.statics[0]
        place = emit.offset(emit.pointer(call.args[0]).address, spec.stored_size - 8)
        emit.emit(f"store i64 {emit.now()}, ptr {place}, align 8")

    @lowers("count")
    def count(self, emit: Emitter, call: ir.Call) -> None:
        spec: TableSpec = call.statics[0]
        where, size = lowering.key(emit, call.args[0], None), emit.integer(call.args[1], 64)
        place = self._lookup(emit, self.named(emit, spec), where, spec)
        with emit.when(emit.value(f"icmp ne ptr {place}, null")):
            for offset, added in ((0, "1"), (8, size)):
                there = emit.offset(place, offset)
                before = emit.value(f"load i64, ptr {there}")
                emit.emit(f"store i64 {emit.value(f'add i64 {before}, {added}')}, ptr {there}")

    # -- leaving -----------------------------------------------------------------------------------------------------

    @lowers("punt")
    def punt(self, emit: Emitter, call: ir.Call) -> str:
        event = call.args[0]
        assert isinstance(event.type, ir.View)
        target = self.word(emit, EVENT, "ptr")
        lowering.copy_bytes(emit, emit.pointer(event).address, target, event.type.layout)
        return str(4 << 16 | call.statics[0])

    @lowers("notify")
    def notify(self, emit: Emitter, call: ir.Call) -> str:
        """{u64 event}, the event; the frame is seen by nobody."""
        event = call.args[0]
        assert isinstance(event.type, ir.View)
        layout, place, done = event.type.layout, self.word(emit, TOLD, "ptr"), emit.slot("i1")
        after = emit.offset(place, 8 + -(-layout.size // 8) * 8)
        room = emit.value(f"icmp ule ptr {after}, {self.word(emit, TOLD_END, 'ptr')}")
        emit.emit(f"store i1 {room}, ptr {done}")
        with emit.when(room):
            emit.emit(f"store i64 {call.statics[0]}, ptr {place}, align 8")
            lowering.copy_bytes(emit, emit.pointer(event).address, emit.offset(place, 8), layout)
            self.set_word(emit, TOLD, after, "ptr")
        return emit.value(f"load i1, ptr {done}")

    def leave(self, emit: Emitter) -> None:
        verdict = emit.value(f"load i32, ptr {emit.verdict}")
        with emit.when(emit.value(f"icmp ult i32 {verdict}, 65536")):
            index = emit.value(f"zext i32 {emit.value(f'and i32 {verdict}, 255')} to i64")
            place = emit.value(f"getelementptr i64, ptr {self.word(emit, DROPS, 'ptr')}, i64 {index}")
            before = emit.value(f"load i64, ptr {place}")
            emit.emit(f"store i64 {emit.value(f'add i64 {before}, 1')}, ptr {place}")
        emit.emit(f"ret i32 {verdict}")
