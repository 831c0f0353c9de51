"""Expressions as LLVM operands, and the primitives that are the same on every machine.

Whether a comparison is signed, an extension fills with signs, a field needs no cut: all of it is read from what
check.py proved, never guessed.  Conditions become branches, so that nothing is evaluated that Python would not.
"""
from __future__ import annotations

from collections.abc import Callable

from ..language.integers import storage
from ..language.layout import Field as Described
from ..language.layout import Layout
from . import ir
from .errors import Span
from .intervals import Interval, signed, union, unsigned
from .memory import Memory
from .printing import Number, Pointer, pieces

_INSTRUCTIONS = {"+": "add", "-": "sub", "*": "mul", "//": "udiv", "%": "urem", "&": "and", "|": "or", "^": "xor",
                 "<<": "shl"}
_RELATIONS = {"==": "eq", "!=": "ne", "<": "{}lt", "<=": "{}le", ">": "{}gt", ">=": "{}ge"}


def holds(described: Described, interval: Interval) -> bool:
    """Whether a field stores every value of an interval as it is."""
    return unsigned(interval, described.bits)


class Computation(Memory):
    """The half of the generator that knows expressions."""

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
        return self.load_host(self.target.config(self.whole), layout.fields[name])

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

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, expr: ir.Call) -> str | Pointer | Number | None:
        """A primitive: a generic one below, or the target's lowering."""
        self.at(expr.span)
        own = getattr(self, "call_" + expr.op, None)
        if own is not None:
            return own(expr)  # type: ignore[no-any-return]
        before = len(self.lent)
        found = self.target.lowerings[expr.op](self.target, self.whole, expr)
        for slot in self.lent[before:]:
            self.end(slot)
        if self.target.loses(self.whole, expr):
            self.usable = set()
        return found  # type: ignore[no-any-return]

    def call_record(self, expr: ir.Call) -> Pointer:
        return self.record(expr, self.slot)

    def record(self, expr: ir.Call, room: Callable[[str, int], str]) -> Pointer:
        """A new record, in a slot that `room` finds."""
        layout: type[Layout] = expr.statics[0]
        values = [self.integer(arg, 128 if f.bits > 64 else 64)
                  for arg, f in zip(expr.args, layout.fields.values(), strict=True)]
        self.at(expr.span)
        address = room(f"[{-(-layout.size // 8)} x i64]", 8)
        known = [holds(f, self.interval(arg)) for f, arg in zip(layout.fields.values(), expr.args, strict=True)]
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

    def call_instant(self, expr: ir.Call) -> str:
        return self.now(fine=True)

    def now(self, fine: bool = False) -> str:
        """The virtual clock, i64."""
        machine, result = self.target.machine(self.whole), self.slot("i64")
        offset = self.value(f"load i64, ptr {self.offset(machine, 8)}")
        self.emit(f"store i64 {offset}, ptr {result}")
        standing = self.value(f"load i64, ptr {machine}")
        with self.when(self.value(f"icmp eq i64 {standing}, 0")):
            moving = (self.target.precise if fine else self.target.coarse)(self.whole)
            self.emit(f"store i64 {self.value(f'add i64 {moving}, {offset}')}, ptr {result}")
        return self.value(f"load i64, ptr {result}")

    def call_random(self, expr: ir.Call) -> str:
        result = self.slot("i64")
        machine = self.target.machine(self.whole)
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
        self.emit(f"store i64 {self.target.chance(self.whole)}, ptr {result}")
        self.label(after)
        return self.value(f"load i64, ptr {result}")

    def call_hash(self, expr: ir.Call) -> str:
        state = self.value(f"load i64, ptr {self.offset(self.target.machine(self.whole), 16)}")
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

    def call_forget(self, expr: ir.Call) -> None:
        self.target.forget_all(self.whole, expr)

    def call_within(self, expr: ir.Call) -> str:
        return self.integer(expr.args[0], 64)
