"""From the checked representation to LLVM text.

Text, not an IR builder: LLVM's own assembly is the best documented interface it has, and printing it costs a fifth of
building objects.  Variables are stack slots that LLVM promotes; every instruction carries the position of the Python it
came from, through all inlining, which is how a verifier's complaint finds its way back.

Two things are tracked here that the representation does not know.  *Pointers into the packet* may be lost when a
helper touched the packet while the view stays good: `usable` is the set of views whose pointer may be used as it is,
others are reached again first (`Target.reach`).  *Sharing*: `x.f += n` on an entry of a table other CPUs may hold is
an atomic add.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..language.integers import storage
from ..language.layout import Field as Described
from ..language.layout import Layout
from . import ir
from .check import Checked
from .debuginfo import DebugInfo
from .errors import Span
from .intervals import Interval, signed, union, unsigned
from .target import Target


@dataclass
class Pointer:
    """A view as operands: its address, its offset in the packet, whether it is present (None: it is).

    A view across `Target.split` has a `second` address, for the bytes behind it.
    """

    address: str
    offset: str = "0"
    present: str | None = None
    second: str = "null"


@dataclass
class Number:
    """An optional integer as operands."""

    value: str
    present: str


@dataclass
class Slots:
    """Where a variable lives."""

    value: str
    offset: str = ""
    present: str = ""
    second: str = ""


def pieces(first: int, last: int, split: int | None = None) -> Iterator[tuple[int, int]]:
    """Cut a byte range into power-of-two accesses that do not cross `split`: (offset, bits)."""
    while first < last:
        end = split if split is not None and first < split < last else last
        size = next(n for n in (8, 4, 2, 1) if first + n <= end)
        yield first, size * 8
        first += size


class Emitter:
    """Prints one program for one target."""

    def __init__(self, checked: Checked, target: Target, config: type[Layout]) -> None:
        self.checked, self.target, self.program, self.config_layout = checked, target, checked.program, config
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.declarations: set[str] = set()
        self.maps: list[str] = []
        self.count = 0
        self.open = True
        self.block = "entry"
        self.debug = DebugInfo(target.context) if target.debug else None
        self.where = ""
        self.slots: dict[ir.Var, Slots] = {}
        self.usable: set[ir.Var] = set()
        self.bounds: tuple[str, str] | None = None      # a target's pointers to the packet, good in this block
        self.helpers = 0
        self.leaving: dict[str, tuple[str, set[ir.Var] | None]] = {}
        self.places = _places(checked)
        self.shared = _shared(checked.program)
        self.operations = {n.op for n in ir.walk(checked.program) if isinstance(n, ir.Call)}

    def text(self) -> str:
        """The module."""
        self.at(self.program.span)
        self.cursor = self.slot("i64")
        self.verdict = self.slot("i32")
        self.exit, self.rejected = self.name("exit"), self.name("reject")
        self.reason = self.slot("i32")
        self.target.prologue(self)
        self.emit(f"store i64 0, ptr {self.cursor}")
        self.run(self.program.body)
        if self.open:
            self.emit("unreachable")
        self.at(self.program.span)
        self.label(self.rejected)
        self.emit(f"store i32 {self.value('load i32, ptr ' + self.reason)}, ptr {self.verdict}")
        self.jump(self.exit)
        self.label(self.exit)
        self.target.leave(self)
        target, debug = self.target, self.debug
        subprogram = f" !dbg {debug.subprogram(self.program.span.scope, entry=True)}" if debug else ""
        section = f' section "{target.section}"' if target.section else ""
        head = f'target triple = "{target.triple}"\n' if target.triple else ""
        head += f'target datalayout = "{target.layout}"\n' if target.layout else ""
        body = "\n".join([*self.allocas, *self.lines])
        return (f"{head}\ndefine {target.result} @{self.program.entry}(ptr %ctx) {target.attributes}{section}"
                f"{subprogram} "
                f"{{\nentry:\n{body}\n}}\n\n" + "\n".join(sorted(self.declarations)) + "\n" + target.runtime
                + (debug.text() if debug else ""))

    # -- printing -------------------------------------------------------------------------------------------------

    def at(self, span: Span) -> None:
        """Instructions from here on come from this position."""
        self.where = f", !dbg {self.debug.location(span)}" if self.debug else ""

    def emit(self, instruction: str) -> None:
        if self.open:
            self.lines.append(f"  {instruction}{self.where}")
        if instruction.startswith(("br ", "ret ", "unreachable", "switch ")):
            self.open = False

    def value(self, instruction: str) -> str:
        """An instruction with a result."""
        result = self.name("v")
        self.emit(f"{result} = {instruction}")
        return result

    def name(self, stem: str) -> str:
        self.count += 1
        return f"%{stem}{self.count}"

    def label(self, name: str) -> None:
        """Begin a block; what is open falls into it."""
        if self.open:
            self.emit(f"br label {name}")
        self.lines.append(f"{name[1:]}:")
        self.open, self.block, self.bounds = True, name, None

    def jump(self, name: str) -> None:
        self.emit(f"br label {name}")

    def split(self, condition: str, yes: str, no: str) -> None:
        self.emit(f"br i1 {condition}, label {yes}, label {no}")

    def slot(self, kind: str, align: int = 0) -> str:
        result = self.name("s")
        self.allocas.append(f"  {result} = alloca {kind}" + (f", align {align}" if align else ""))
        return result

    def helper(self, number: int, result: str, *args: str) -> str:
        """Call a kernel helper; arguments are `type operand`.  It may move the packet."""
        self.bounds = None
        self.helpers += 1
        return self.value(f"call {result} inttoptr (i64 {number} to ptr)({', '.join(args)})")

    def declare(self, text: str) -> None:
        self.declarations.add(text)

    def map(self, name: str) -> int:
        """The number of a map in this program."""
        if name not in self.maps:
            self.maps.append(name)
        return self.maps.index(name)

    def reject(self, reason: int | str, when: str | None = None) -> None:
        """Leave with a drop: always, or if the condition holds."""
        if when is None:
            self.emit(f"store i32 {reason}, ptr {self.reason}")
            self.jump(self.rejected)
            return
        bad, good, bounds = self.name("bad"), self.name("good"), self.bounds
        self.split(when, bad, good)
        self.label(bad)
        self.reject(reason)
        self.label(good)
        self.bounds = bounds

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Instructions inside run if the condition holds; they must not end their block."""
        yes, after, bounds, helpers = self.name("when"), self.name("after"), self.bounds, self.helpers
        self.split(condition, yes, after)
        self.label(yes)
        self.bounds = bounds
        yield
        self.label(after)
        self.bounds = bounds if self.helpers == helpers else None

    # -- statements -------------------------------------------------------------------------------------------------

    def run(self, body: list[ir.Stmt]) -> None:
        for stmt in body:
            if not self.open:
                return
            self.target.before(self, stmt)
            self.at(stmt.span)
            getattr(self, "stmt_" + type(stmt).__name__)(stmt)
        self.target.before(self, None)

    def stmt_Let(self, stmt: ir.Let) -> None:
        self.let(stmt.var, stmt.value)

    def let(self, var: ir.Var, value: ir.Expr) -> None:
        """Store a value into its variable's slots."""
        while isinstance(value, ir.Sequence):
            self.run(value.body)
            value = value.value
        slots, kind = self.slots_of(var), var.type
        match kind:
            case ir.View() | ir.TableHandle():
                pointer = self.pointer(value)
                self.emit(f"store ptr {pointer.address}, ptr {slots.value}")
                if isinstance(kind, ir.View) and kind.space == "packet":
                    self.emit(f"store i64 {pointer.offset}, ptr {slots.offset}")
                    if slots.second:
                        self.emit(f"store ptr {pointer.second}, ptr {slots.second}")
                    if slots.present:
                        self.emit(f"store i1 {pointer.present or 'true'}, ptr {slots.present}")
                    reachable = not isinstance(value, ir.Read) or value.var in self.usable
                    (self.usable.add if reachable else self.usable.discard)(var)
            case ir.Int(optional=True):
                number = self.maybe(value, kind)
                self.emit(f"store i{kind.bits} {number.value}, ptr {slots.value}")
                self.emit(f"store i1 {number.present}, ptr {slots.present}")
            case ir.Int(bits=bits):
                self.emit(f"store i{bits} {self.integer(value, bits)}, ptr {slots.value}")
            case ir.Bool():
                self.emit(f"store i1 {self.truth(value)}, ptr {slots.value}")
            case ir.Verdict():
                self.emit(f"store i32 {self.verdict_of(value)}, ptr {slots.value}")

    def stmt_SetField(self, stmt: ir.SetField) -> None:
        kind = stmt.view.type
        assert isinstance(kind, ir.View)
        described = kind.layout.fields[stmt.name]
        bits = 128 if described.bits > 64 else 64
        if stmt.added is not None and stmt.view in self.shared and described.bits in (32, 64):
            added = self.integer(stmt.added, 64)
            if described.bits == 32:
                added = self.value(f"trunc i64 {added} to i32")
            place = self.offset(self.memory(stmt.view), described.span[0])
            self.emit(f"atomicrmw add ptr {place}, i{described.bits} {added} monotonic")
            return
        fits = _holds(described, self.interval(stmt.value))
        self.store_field(stmt.view, described, self.integer(stmt.value, bits), fits)

    def stmt_If(self, stmt: ir.If) -> None:
        then, orelse, after = self.name("then"), self.name("else"), self.name("endif")
        bounds, helpers = self.bounds, self.helpers
        self.branch(stmt.test, then, orelse)
        bounds = bounds if self.helpers == helpers else None
        before, ends, helpers = set(self.usable), [], self.helpers
        for name, body in ((then, stmt.then), (orelse, stmt.orelse)):
            self.label(name)
            self.usable, self.bounds = set(before), bounds
            self.run(body)
            if self.open:
                ends.append(self.usable)
                self.jump(after)
        if ends:
            self.label(after)
            self.usable = set.intersection(*ends)
            self.bounds = bounds if self.helpers == helpers else None

    def stmt_Block(self, stmt: ir.Block) -> None:
        after, bounds, helpers = self.name("after"), self.bounds, self.helpers
        self.leaving[stmt.label] = (after, None)
        self.run(stmt.body)
        self._gather(stmt.label)
        self.bounds = bounds if self.helpers == helpers else None

    def _gather(self, label: str) -> None:
        """Go on behind a block or a loop, if anything gets there."""
        after, usable = self.leaving.pop(label)
        if self.open:
            usable = self.usable if usable is None else usable & self.usable
        if usable is not None:
            self.label(after)
            self.usable = set(usable)

    def stmt_Leave(self, stmt: ir.Leave) -> None:
        after, usable = self.leaving[stmt.label]
        self.leaving[stmt.label] = (after, set(self.usable) if usable is None else usable & self.usable)
        self.jump(after)

    def stmt_Loop(self, stmt: ir.Loop) -> None:
        counter = self.slots_of(stmt.counter).value
        stop = self.integer(stmt.stop, 64)
        if self.interval(stmt.start)[0] >= 0:
            stop = self.target.bounded(self, stop, self.interval(stmt.stop))
        self.emit(f"store i64 {self.integer(stmt.start, 64)}, ptr {counter}")
        if any(isinstance(n, ir.Call) and self.target.loses(self, n) for s in stmt.body for n in ir.walk(s)):
            self.usable = set()
        head, body, after = self.name("loop"), self.name("turn"), self.name("after")
        before = set(self.usable)
        self.label(head)
        self.split(self.value(f"icmp slt i64 {self.value(f'load i64, ptr {counter}')}, {stop}"), body, after)
        self.label(body)
        self.leaving[stmt.label] = (after, set(before))
        self.run(stmt.body)
        if self.open:
            step = self.value(f"add i64 {self.value(f'load i64, ptr {counter}')}, {stmt.step}")
            self.emit(f"store i64 {step}, ptr {counter}")
            self.jump(head)
        _, usable = self.leaving.pop(stmt.label)
        self.label(after)
        self.usable = (usable or set()) & before

    def stmt_Exit(self, stmt: ir.Exit) -> None:
        value = stmt.verdict
        while isinstance(value, ir.Sequence):
            self.run(value.body)
            value = value.value
        self.emit(f"store i32 {self.verdict_of(value)}, ptr {self.verdict}")
        self.jump(self.exit)

    def stmt_Reject(self, stmt: ir.Reject) -> None:
        reason = self.integer(stmt.reason, 64)
        cut = self.value(f"trunc i64 {reason} to i32")
        self.reject(self.value(f"and i32 {cut}, 65535"))

    def stmt_Do(self, stmt: ir.Do) -> None:
        value = stmt.value
        if isinstance(value, ir.Call):
            self.call(value)
        elif isinstance(value.type, ir.Bool):
            self.truth(value)
        elif isinstance(value.type, ir.Int) and not value.type.optional:
            self.integer(value, value.type.bits)
        elif isinstance(value.type, ir.Verdict):
            self.verdict_of(value)

    # -- values -----------------------------------------------------------------------------------------------------

    def integer(self, expr: ir.Expr, bits: int) -> str:
        """An integer operand of 64 or 128 bits."""
        own = expr.type.bits if isinstance(expr.type, ir.Int) else 64
        operand = self._integer(expr, own)
        if own < bits:
            low, _ = self.interval(expr)
            return self.value(f"{'sext' if low < 0 else 'zext'} i64 {operand} to i128")
        return self.value(f"trunc i128 {operand} to i64") if own > bits else operand

    def _integer(self, expr: ir.Expr, bits: int) -> str:
        match expr:
            case ir.Const(value=value):
                return str(value & (1 << bits) - 1)
            case ir.Read(var=var) | ir.Unwrap(var=var):
                return self.value(f"load i{bits}, ptr {self.slots_of(var).value}")
            case ir.Field(view=view, name=name):
                assert isinstance(view.type, ir.View)
                self.at(expr.span)
                return self.load_field(view, view.type.layout.fields[name])
            case ir.ConfigField(name=name):
                return self._config_field(expr.span, name)
            case ir.Unary(op=op, operand=operand):
                inner = self.integer(operand, bits)
                return self.value(f"sub i{bits} 0, {inner}" if op == "-" else f"xor i{bits} {inner}, -1")
            case ir.Binary():
                return self._binary(expr, bits)
            case ir.Choose(test=test, yes=yes, no=no):
                return self._choose(test, yes, no, f"i{bits}", lambda arm: self.integer(arm, bits))
            case ir.Sequence(body=body, value=value):
                self.run(body)
                return self.integer(value, bits)
            case ir.Call():
                found = self.call(expr)
                assert isinstance(found, str)
                return found
            case ir.Expr(type=ir.Bool()):
                return self.value(f"zext i1 {self.truth(expr)} to i64")
        raise TypeError(expr)

    def _config_field(self, span: Span, name: str) -> str:
        self.at(span)
        layout = self.config_layout
        return self.load_host(self.target.config(self), layout.fields[name])

    def _binary(self, expr: ir.Binary, bits: int) -> str:
        a, b = self.integer(expr.left, bits), self.integer(expr.right, bits)
        self.at(expr.span)
        kind, left = f"i{bits}", self.interval(expr.left)
        match expr.op:
            case "min" | "max":
                test = self._compare("<" if expr.op == "min" else ">", expr.left, expr.right, a, b, bits)
                return self.value(f"select i1 {test}, {kind} {a}, {kind} {b}")
            case ">>":
                return self.value(f"{'ashr' if left[0] < 0 else 'lshr'} {kind} {a}, {b}")
            case op:
                return self.value(f"{_INSTRUCTIONS[op]} {kind} {a}, {b}")

    def _compare(self, op: str, left: ir.Expr, right: ir.Expr, a: str, b: str, bits: int) -> str:
        both = union(self.interval(left), self.interval(right))
        if signed(both, bits) or unsigned(both, bits):
            prefix = "s" if signed(both, bits) else "u"
            return self.value(f"icmp {_RELATIONS[op].format(prefix)} i{bits} {a}, {b}")
        wide = [self.value(f"{'sext' if self.interval(e)[0] < 0 else 'zext'} i64 {x} to i128")
                for e, x in ((left, a), (right, b))]
        return self.value(f"icmp {_RELATIONS[op].format('s')} i128 {wide[0]}, {wide[1]}")

    def _choose(self, test: ir.Expr, yes: ir.Expr, no: ir.Expr, kind: str, arm: object) -> str:
        assert callable(arm)
        then, orelse, after = self.name("yes"), self.name("no"), self.name("chosen")
        result = self.slot(kind)
        self.branch(test, then, orelse)
        before, ends = set(self.usable), []
        for name, expr in ((then, yes), (orelse, no)):
            self.label(name)
            self.usable = set(before)
            self.emit(f"store {kind} {arm(expr)}, ptr {result}")
            ends.append(self.usable)
            self.jump(after)
        self.label(after)
        self.usable = set.intersection(*ends)
        return self.value(f"load {kind}, ptr {result}")

    def truth(self, expr: ir.Expr) -> str:
        """A condition as i1."""
        match expr:
            case ir.Const(value=value):
                return "true" if value else "false"
            case ir.Read(var=var):
                return self.value(f"load i1, ptr {self.slots_of(var).value}")
            case ir.Not(operand=operand):
                return self.value(f"xor i1 {self.truth(operand)}, true")
            case ir.Compare(op=op, left=left, right=right):
                bits = max(e.type.bits for e in (left, right) if isinstance(e.type, ir.Int))
                a, b = self.integer(left, bits), self.integer(right, bits)
                self.at(expr.span)
                return self._compare(op, left, right, a, b, bits)
            case ir.Present(var=var):
                return self.present(var)
            case ir.Sequence(body=body, value=value):
                self.run(body)
                return self.truth(value)
            case ir.Call():
                found = self.call(expr)
                assert isinstance(found, str)
                return found
            case ir.Choose(test=test, yes=yes, no=no):
                return self._choose(test, yes, no, "i1", self.truth)
            case ir.Logic(op=op, left=left, right=right):
                flag = ir.Const(expr.span, ir.Bool(), int(op == "or"))
                yes, no = (right, flag) if op == "and" else (flag, right)
                return self._choose(left, yes, no, "i1", self.truth)
        raise TypeError(expr)

    def branch(self, expr: ir.Expr, yes: str, no: str) -> None:
        """Jump on a condition."""
        match expr:
            case ir.Not(operand=operand):
                self.branch(operand, no, yes)
            case ir.Logic(op=op, left=left, right=right):
                middle = self.name(op)
                self.branch(left, *((middle, no) if op == "and" else (yes, middle)))
                before = set(self.usable)
                self.label(middle)
                self.branch(right, yes, no)
                self.usable = self.usable & before
            case ir.Sequence(body=body, value=value):
                self.run(body)
                self.branch(value, yes, no)
            case _:
                self.split(self.truth(expr), yes, no)

    def verdict_of(self, expr: ir.Expr) -> str:
        """A verdict as i32."""
        match expr:
            case ir.MakeVerdict(kind=kind, argument=ir.Const(value=value)):
                return str(kind << 16 | value & 0xffff)
            case ir.MakeVerdict(kind=kind, argument=argument):
                cut = self.value(f"trunc i64 {self.integer(argument, 64)} to i32")
                low = self.value(f"and i32 {cut}, 65535")
                return self.value(f"or i32 {low}, {kind << 16}") if kind else low
            case ir.Read(var=var):
                return self.value(f"load i32, ptr {self.slots_of(var).value}")
            case ir.Choose(test=test, yes=yes, no=no):
                return self._choose(test, yes, no, "i32", self.verdict_of)
            case ir.Sequence(body=body, value=value):
                self.run(body)
                return self.verdict_of(value)
            case ir.Call():
                found = self.call(expr)
                assert isinstance(found, str)
                return found
        raise TypeError(expr)

    def pointer(self, expr: ir.Expr) -> Pointer:
        """A view as operands."""
        match expr:
            case ir.Nothing():
                return Pointer("null", "0", "false")
            case ir.Read(var=var):
                slots, kind = self.slots_of(var), var.type
                address = self.value(f"load ptr, ptr {slots.value}")
                if isinstance(kind, ir.View) and kind.space == "packet":
                    present = self.value(f"load i1, ptr {slots.present}") if slots.present else None
                    second = self.value(f"load ptr, ptr {slots.second}") if slots.second else "null"
                    return Pointer(address, self.value(f"load i64, ptr {slots.offset}"), present, second)
                return Pointer(address)
            case ir.Call():
                found = self.call(expr)
                assert isinstance(found, Pointer)
                return found
        raise TypeError(expr)

    def maybe(self, expr: ir.Expr, kind: ir.Int) -> Number:
        """An optional integer as operands."""
        match expr:
            case ir.Nothing():
                return Number("0", "false")
            case ir.Read(var=var) if var.type.optional:
                slots = self.slots_of(var)
                value = self.value(f"load i{kind.bits}, ptr {slots.value}")
                return Number(value, self.value(f"load i1, ptr {slots.present}"))
            case ir.Call(type=ir.Int(optional=True)):
                found = self.call(expr)
                assert isinstance(found, Number)
                return found
        return Number(self.integer(expr, kind.bits), "true")

    def present(self, var: ir.Var) -> str:
        """Whether an optional variable holds something."""
        slots, kind = self.slots_of(var), var.type
        if slots.present:
            return self.value(f"load i1, ptr {slots.present}")
        if not kind.optional:
            return "true"
        if isinstance(kind, ir.NoneType):
            return "false"
        address = self.value(f"load ptr, ptr {slots.value}")
        return self.value(f"icmp ne ptr {address}, null")

    def interval(self, expr: ir.Expr) -> Interval:
        if isinstance(expr, ir.Const):
            return expr.value, expr.value
        return self.checked.intervals.get(id(expr), (0, 1))

    def slots_of(self, var: ir.Var) -> Slots:
        if var not in self.slots:
            match var.type:
                case ir.View(space="packet", optional=optional):
                    slots = Slots(self.slot("ptr"), self.slot("i64"), self.slot("i1") if optional else "",
                                  self.slot("ptr") if self.target.split(self, var) is not None else "")
                case ir.View() | ir.TableHandle() | ir.NoneType():
                    slots = Slots(self.slot("ptr"))
                case ir.Int(bits=bits, optional=optional):
                    slots = Slots(self.slot(f"i{bits}"), "", self.slot("i1") if optional else "")
                case ir.Bool():
                    slots = Slots(self.slot("i1"))
                case _:
                    slots = Slots(self.slot("i32"))
            self.slots[var] = slots
        return self.slots[var]

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, expr: ir.Call) -> str | Pointer | Number | None:
        """A primitive: a generic one below, or the target's lowering."""
        self.at(expr.span)
        own = getattr(self, "call_" + expr.op, None)
        if own is not None:
            return own(expr)  # type: ignore[no-any-return]
        found = self.target.lowerings[expr.op](self.target, self, expr)
        if self.target.loses(self, expr):
            self.usable = set()
        return found  # type: ignore[no-any-return]

    def call_record(self, expr: ir.Call) -> Pointer:
        layout: type[Layout] = expr.statics[0]
        values = [self.integer(arg, 128 if f.bits > 64 else 64)
                  for arg, f in zip(expr.args, layout.fields.values(), strict=True)]
        self.at(expr.span)
        address = self.slot(f"[{-(-layout.size // 8)} x i64]", 8)
        known = [_holds(f, self.interval(arg)) for f, arg in zip(layout.fields.values(), expr.args, strict=True)]
        words: dict[int, list[tuple[Described, str, bool]]] = {word: [] for word in range(0, layout.size, 8)}
        for described, value, fits in zip(layout.fields.values(), values, known, strict=True):
            if described.bits > 64:
                del words[described.span[0]], words[described.span[0] + 8]
                self.store_host(address, described, value, fits)
            else:
                words[described.span[0] & ~7].append((described, value, fits))
        for word, fields in words.items():
            self._store_word(address, word, fields)
        return Pointer(address)

    def _store_word(self, address: str, word: int, fields: list[tuple[Described, str, bool]]) -> None:
        """Eight bytes of a new record, and no byte of them left as it was: stacks are not for others to read."""
        varying = [f for f in fields if not f[1].isdigit()]
        if len(varying) <= 1:
            total = str(sum((int(v) & d.mask) << (d.span[0] - word) * 8 for d, v, _ in fields if v.isdigit()))
            for described, value, fits in varying:
                value = value if fits else self.value(f"and i64 {value}, {described.mask}")
                shift = (described.span[0] - word) * 8
                value = self.value(f"shl i64 {value}, {shift}") if shift else value
                total = value if total == "0" else self.value(f"or i64 {value}, {total}")
            self.emit(f"store i64 {total}, ptr {self.offset(address, word)}, align 8")
            return
        if sum(storage(d.bits) for d, _, _ in fields) % 8:
            self.emit(f"store i64 0, ptr {self.offset(address, word)}, align 8")
        for described, value, fits in fields:
            self.store_host(address, described, value, fits)

    def call_now(self, expr: ir.Call) -> str:
        return self.now()

    def now(self) -> str:
        """The virtual clock, i64."""
        machine, result = self.target.machine(self), self.slot("i64")
        offset = self.value(f"load i64, ptr {self.offset(machine, 8)}")
        self.emit(f"store i64 {offset}, ptr {result}")
        standing = self.value(f"load i64, ptr {machine}")
        with self.when(self.value(f"icmp eq i64 {standing}, 0")):
            self.emit(f"store i64 {self.value(f'add i64 {self.target.coarse(self)}, {offset}')}, ptr {result}")
        return self.value(f"load i64, ptr {result}")

    def call_random(self, expr: ir.Call) -> str:
        result = self.slot("i64")
        machine = self.target.machine(self)
        standing = self.value(f"icmp ne i64 {self.value(f'load i64, ptr {machine}')}, 0")
        fixed, free, after = self.name("fixed"), self.name("free"), self.name("after")
        self.split(standing, fixed, free)
        self.label(fixed)
        place = self.offset(machine, 24)
        state = self.value(f"add i64 {self.value(f'load i64, ptr {place}')}, {0x9e3779b97f4a7c15}")
        self.emit(f"store i64 {state}, ptr {place}")
        self.emit(f"store i64 {self._finish(state)}, ptr {result}")
        self.jump(after)
        self.label(free)
        self.emit(f"store i64 {self.target.chance(self)}, ptr {result}")
        self.label(after)
        return self.value(f"load i64, ptr {result}")

    def call_hash(self, expr: ir.Call) -> str:
        state = self.value(f"load i64, ptr {self.offset(self.target.machine(self), 16)}")
        for arg in expr.args:
            if isinstance(arg, ir.Read) and isinstance(arg.type, ir.View):
                address = self.memory(arg.var)
                for first in range(0, arg.type.layout.size, 8):
                    state = self._mix(state, self._word(address, first, arg.type.layout.size))
            elif isinstance(arg.type, ir.Int) and arg.type.bits == 128:
                wide = self.integer(arg, 128)
                state = self._mix(state, self.value(f"trunc i128 {wide} to i64"))
                high = self.value(f"trunc i128 {self.value(f'lshr i128 {wide}, 64')} to i64")
                mixed = self._mix(state, high)
                state = self.value(f"select i1 {self.value(f'icmp ne i64 {high}, 0')}, i64 {mixed}, i64 {state}")
            else:
                state = self._mix(state, self.integer(arg, 64))
        return self._finish(state)

    def _word(self, address: str, first: int, size: int) -> str:
        """Eight bytes of a record, little end first, as many as there are."""
        total = "0"
        for offset, bits in pieces(first, min(first + 8, size)):
            part = self.value(f"load i{bits}, ptr {self.offset(address, offset)}, align {bits // 8}")
            part = self.value(f"zext i{bits} {part} to i64") if bits < 64 else part
            part = self.value(f"shl i64 {part}, {(offset - first) * 8}") if offset > first else part
            total = part if total == "0" else self.value(f"or i64 {total}, {part}")
        return total

    def _mix(self, state: str, word: str) -> str:
        state = self.value(f"mul i64 {self.value(f'xor i64 {state}, {word}')}, {0x9e3779b97f4a7c15}")
        return self.value(f"xor i64 {state}, {self.value(f'lshr i64 {state}, 32')}")

    def _finish(self, state: str) -> str:
        for factor in (0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53):
            state = self.value(f"xor i64 {state}, {self.value(f'lshr i64 {state}, 33')}")
            state = self.value(f"mul i64 {state}, {factor}")
        return self.value(f"lshr i64 {state}, 32")

    def call_within(self, expr: ir.Call) -> str:
        return self.integer(expr.args[0], 64)

    # -- memory ------------------------------------------------------------------------------------------------------

    def offset(self, address: str, count: int | str) -> str:
        """A pointer so many bytes on."""
        if count == 0:
            return address
        return self.value(f"getelementptr i8, ptr {address}, i64 {count}")

    def memory(self, view: ir.Var) -> str:
        """The address of a view that is not in the packet."""
        return self.value(f"load ptr, ptr {self.slots_of(view).value}")

    def reachable(self, view: ir.Var) -> None:
        """Make sure that a packet view's pointer may be used."""
        if view not in self.usable:
            self.target.reach(self, view)
            self.usable.add(view)

    def load_field(self, view: ir.Var, described: Described) -> str:
        kind = view.type
        assert isinstance(kind, ir.View)
        if not described.wire:
            return self.load_host(self.memory(view), described)
        first, last = described.span
        bits = 128 if last - first > 8 else 64
        value = self.load_wire(view, first, last, bits)
        if described.shift:
            value = self.value(f"lshr i{bits} {value}, {described.shift}")
        if described.bits < (last - first) * 8 - described.shift:
            value = self.value(f"and i{bits} {value}, {described.mask}")
        if bits == 128 and described.bits <= 64:
            value = self.value(f"trunc i128 {value} to i64")
        return value

    def load_wire(self, view: ir.Var, first: int, last: int, bits: int) -> str:
        """A big-endian integer of a packet view, in the fewest loads."""
        self.reachable(view)
        total = ""
        for offset, size in pieces(first, last, self.target.split(self, view)):
            part = self.load_swapped(self.target.address(self, view, offset), size, bits)
            above = self.value(f"shl i{bits} {total}, {size}") if total else ""
            total = self.value(f"or i{bits} {above}, {part}") if total else part
        return total

    def load_swapped(self, address: str, size: int, bits: int = 64) -> str:
        part = self.value(f"load i{size}, ptr {address}, align 1")
        if size > 8:
            self.declare(f"declare i{size} @llvm.bswap.i{size}(i{size})")
            part = self.value(f"call i{size} @llvm.bswap.i{size}(i{size} {part})")
        return self.value(f"zext i{size} {part} to i{bits}") if size < bits else part

    def load_host(self, address: str, described: Described) -> str:
        first, size = described.span[0], storage(described.bits) * 8
        if size == 128:
            low = self.value(f"load i64, ptr {self.offset(address, first)}, align 8")
            high = self.value(f"load i64, ptr {self.offset(address, first + 8)}, align 8")
            high = self.value(f"shl i128 {self.value(f'zext i64 {high} to i128')}, 64")
            return self.value(f"or i128 {high}, {self.value(f'zext i64 {low} to i128')}")
        part = self.value(f"load i{size}, ptr {self.offset(address, first)}, align {size // 8}")
        return self.value(f"zext i{size} {part} to i64") if size < 64 else part

    def store_field(self, view: ir.Var, described: Described, value: str, fits: bool = False) -> None:
        """Assign a field; `fits` if the value is known to need no cutting."""
        if not described.wire:
            self.store_host(self.memory(view), described, value, fits)
            return
        first, last = described.span
        room = (last - first) * 8
        bits = 128 if room > 64 else 64
        if bits == 128 and described.bits <= 64:
            value = self.value(f"zext i64 {value} to i128")
        self.reachable(view)
        if described.bits < room:
            mask = described.mask << described.shift
            old = self.load_wire(view, first, last, bits)
            old = self.value(f"and i{bits} {old}, {~mask & (1 << bits) - 1}")
            value = self.value(f"shl i{bits} {value}, {described.shift}") if described.shift else value
            value = self.value(f"or i{bits} {old}, {self.value(f'and i{bits} {value}, {mask}')}")
        for offset, size in pieces(first, last, self.target.split(self, view)):
            self.store_swapped(self.target.address(self, view, offset), value, (last - offset) * 8 - size, size, bits)

    def store_swapped(self, address: str, value: str, shift: int, size: int, bits: int = 64) -> None:
        part = self.value(f"lshr i{bits} {value}, {shift}") if shift else value
        part = self.value(f"trunc i{bits} {part} to i{size}") if size < bits else part
        if size > 8:
            self.declare(f"declare i{size} @llvm.bswap.i{size}(i{size})")
            part = self.value(f"call i{size} @llvm.bswap.i{size}(i{size} {part})")
        self.emit(f"store i{size} {part}, ptr {address}, align 1")

    def store_host(self, address: str, described: Described, value: str, fits: bool = False) -> None:
        first, size = described.span[0], storage(described.bits) * 8
        if size == 128:
            if described.bits < 128 and not fits:
                value = self.value(f"and i128 {value}, {described.mask}")
            low = self.value(f"trunc i128 {value} to i64")
            high = self.value(f"trunc i128 {self.value(f'lshr i128 {value}, 64')} to i64")
            self.emit(f"store i64 {low}, ptr {self.offset(address, first)}, align 8")
            self.emit(f"store i64 {high}, ptr {self.offset(address, first + 8)}, align 8")
            return
        if described.bits < size and not fits:
            value = self.value(f"and i64 {value}, {described.mask}")
        value = self.value(f"trunc i64 {value} to i{size}") if size < 64 else value
        self.emit(f"store i{size} {value}, ptr {self.offset(address, first)}, align {size // 8}")

_INSTRUCTIONS = {"+": "add", "-": "sub", "*": "mul", "//": "udiv", "%": "urem", "&": "and", "|": "or", "^": "xor",
                 "<<": "shl"}
_RELATIONS = {"==": "eq", "!=": "ne", "<": "{}lt", "<=": "{}le", ">": "{}gt", ">=": "{}ge"}


def _holds(described: Described, interval: Interval) -> bool:
    """Whether a field stores every value of an interval as it is."""
    return unsigned(interval, described.bits)


def _places(checked: Checked) -> dict[ir.Var, Interval]:
    """Where in the packet each packet view may begin."""
    lets = [n for n in ir.walk(checked.program) if isinstance(n, ir.Let) and isinstance(n.var.type, ir.View)]
    places: dict[ir.Var, Interval] = {}
    changed = True
    while changed:
        changed = False
        for let in lets:
            value = let.value
            while isinstance(value, ir.Sequence):
                value = value.value
            place = checked.offsets.get(id(value)) if isinstance(value, ir.Call) else \
                places.get(value.var) if isinstance(value, ir.Read) else None
            if place is not None:
                new = union(places.get(let.var, place), place)
                changed |= places.get(let.var) != new
                places[let.var] = new
    return places


def _shared(program: ir.Program) -> set[ir.Var]:
    """Views that may show an entry other CPUs see."""
    shared: set[ir.Var] = set()
    lets = [n for n in ir.walk(program) if isinstance(n, ir.Let)]
    size = -1
    while len(shared) != size:
        size = len(shared)
        for let in lets:
            value = let.value
            while isinstance(value, ir.Sequence):
                value = value.value
            if isinstance(value, ir.Read) and value.var in shared:
                shared.add(let.var)
            if isinstance(value, ir.Call) and value.op == "get" and not value.statics[0].per_cpu:
                shared.add(let.var)
    return shared


__all__ = ["Emitter", "Number", "Pointer", "Slots", "pieces"]
