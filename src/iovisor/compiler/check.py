"""What must be true before any code is made: one abstract walk over the representation.

For every variable it keeps a *fact*: the interval its Python value lies in, whether it is present, whether the view it
holds is still good, and where that view came from.  Facts split at tests (`if x < 10`, `if entry is None`), meet at
joins, and loops run to a fixed point.  From them it proves, or refuses with a message that says what to do:

    integers     an order-sensitive use (`<`, `>>`, `//`, an offset) never sees a value beyond the machine's bits
    presence     nothing that may be None is used
    staleness    no view is used after its packet was resized or its table written
    assignment   no variable is read before it is set, on any path
    bounds       every packet offset lies below 0x8000, every loop ends within `TURNS`
    claims       annotated locals and parameters fit their width

What it learned (intervals, offsets) is kept by node for the code generator: it chooses signed or unsigned, constant
or variable, from here, and never guesses.  Intervals are Python integers, so they cannot overflow themselves.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from ..language.packet import EXCHANGED, FARTHEST, SUMMED
from . import ir
from .errors import CompileError, Span
from .facts import Fact, State, join
from .intervals import UNKNOWN, Interval, fits, signed, symmetric, union, unsigned

TURNS = 4096                        # of one loop
LONGEST = 0x1ffff                   # a 64 kB aggregate and its headers, with room
PATIENCE = 260                      # turns walked one by one before intervals are given up
CLOCK: Interval = (0, (1 << 63) - 1)


@dataclass
class Checked:
    """A program that may be compiled, and what is known of its nodes (by `id`)."""

    program: ir.Program
    intervals: dict[int, Interval]
    offsets: dict[int, Interval]


def check(program: ir.Program) -> Checked:
    """Proves the program or raises `CompileError`."""
    checker = Checker()
    checker.run(program.body, State())
    _prune(program, checker.walked)
    return Checked(program, checker.intervals, checker.offsets)


def _prune(node: Any, walked: set[int]) -> None:
    """Drop statements that no path reaches: nothing is known of them."""
    for described in fields(node):
        value = getattr(node, described.name)
        if isinstance(value, list) and any(isinstance(item, ir.Stmt) for item in value):
            value[:] = [stmt for stmt in value if id(stmt) in walked]
    for child in ir.children(node):
        _prune(child, walked)


class Checker:
    """The walk.  `run` answers the state behind the statements, None if nothing gets there."""

    def __init__(self) -> None:
        self.intervals: dict[int, Interval] = {}
        self.offsets: dict[int, Interval] = {}
        self.left: dict[str, State] = {}
        self.walked: set[int] = set()           # statements that some path reaches

    # -- statements -------------------------------------------------------------------------------------------------

    def run(self, body: Iterable[ir.Stmt], state: State | None) -> State | None:
        for stmt in body:
            if state is None:
                return None
            self.walked.add(id(stmt))
            state = getattr(self, "stmt_" + type(stmt).__name__)(stmt, state)
        return state

    def stmt_Let(self, stmt: ir.Let, state: State) -> State:
        fact = self.bound(stmt.value, state)
        kind = stmt.var.type
        if stmt.claim is not None and not (fact.low >= 0 and fact.high < 1 << stmt.claim):
            raise CompileError(f"{stmt.what or stmt.var.name} may not fit in {stmt.claim} bits: mask it, e.g. "
                               f"`& {(1 << stmt.claim) - 1:#x}`", stmt.span)
        if isinstance(kind, ir.Int) and isinstance(stmt.value.type, ir.Int) and kind.bits > stmt.value.type.bits:
            self.exact(stmt.value, fact.interval)
        state.facts[stmt.var] = fact
        return state

    def stmt_SetField(self, stmt: ir.SetField, state: State) -> State:
        kind = stmt.view.type
        assert isinstance(kind, ir.View)
        interval = self.integer(stmt.value, state)
        if stmt.added is not None:
            self.integer(stmt.added, state)
        self.use(stmt.view, stmt.span, state)
        if kind.layout.fields[stmt.name].bits > 64 and _bits(stmt.value) == 64:
            self.exact(stmt.value, interval)
        return state

    def stmt_If(self, stmt: ir.If, state: State) -> State | None:
        yes, no = self.test(stmt.test, state)
        return join(self.run(stmt.then, yes), self.run(stmt.orelse, no))

    def stmt_Block(self, stmt: ir.Block, state: State) -> State | None:
        end = self.run(stmt.body, state)
        return join(end, self.left.pop(stmt.label, None))

    def stmt_Leave(self, stmt: ir.Leave, state: State) -> None:
        joined = join(state, self.left.get(stmt.label))
        assert joined is not None
        self.left[stmt.label] = joined

    def stmt_Loop(self, stmt: ir.Loop, state: State) -> State | None:
        start, stop = self.integer(stmt.start, state), self.integer(stmt.stop, state)
        turns = -(-(stop[1] - start[0]) // stmt.step)
        if turns > TURNS:
            raise CompileError(f"this loop may take {_big(turns)} turns, {TURNS} is the most: bound it, e.g. "
                               f"`range(min(n, {TURNS}))`", stmt.span)
        calls = (n for s in stmt.body for n in ir.walk(s) if isinstance(n, ir.Call))
        sites = {f"record {id(call)}" for call in calls if call.op == "record"}
        head, turn = state, 0
        counter = Fact(start[0], max(stop[1] - 1, start[0]))
        while turn < turns:
            inside = head.copy()
            inside.facts[stmt.counter] = counter
            end = self.run(stmt.body, inside)
            if end is None:
                break
            end.facts = {v: replace(f, valid=False) if f.origins & sites else f for v, f in end.facts.items()}
            joined = join(head, end)
            assert joined is not None
            turn += 1
            if joined == head:
                break
            if turn > PATIENCE:
                joined.facts = {v: f if f == head.facts[v] else replace(f, low=UNKNOWN[0], high=UNKNOWN[1])
                                for v, f in joined.facts.items()}
            head = joined
        return join(head, self.left.pop(stmt.label, None))

    def stmt_Exit(self, stmt: ir.Exit, state: State) -> None:
        self.bound(stmt.verdict, state)

    def stmt_Reject(self, stmt: ir.Reject, state: State) -> None:
        self.integer(stmt.reason, state)

    def stmt_Do(self, stmt: ir.Do, state: State) -> State:
        self.bound(stmt.value, state)
        return state

    # -- expressions -------------------------------------------------------------------------------------------------

    def bound(self, expr: ir.Expr, state: State) -> Fact:
        """The fact a variable given this value would have."""
        match expr:
            case ir.Read(var=var):
                fact = self.known(var, expr.span, state)
                if isinstance(var.type, ir.Int):
                    self.note(expr, fact.interval)
                return fact
            case ir.Nothing():
                return Fact(present=False)
            case ir.Sequence(body=body, value=value):
                after = self.run(body, state)
                assert after is not None
                state.become(after)
                fact = self.bound(value, state)
                if isinstance(expr.type, ir.Int):
                    self.note(expr, fact.interval)
                return fact
            case ir.Call():
                return self.call(expr, state)
            case ir.Expr(type=ir.Int()):
                low, high = self.integer(expr, state)
                return Fact(low, high)
            case ir.Choose(type=ir.Verdict()):
                yes, no = self.test(expr.test, state)
                self.bound(expr.yes, yes)
                self.bound(expr.no, no)
                self.meet(state, yes, no)
            case ir.Expr(type=ir.Bool()):
                yes, no = self.test(expr, state)
                self.meet(state, yes, no)
                return Fact(0, 1)
            case ir.MakeVerdict(argument=argument):
                self.integer(argument, state)
        return Fact()

    def integer(self, expr: ir.Expr, state: State) -> Interval:
        """The interval of an integer."""
        return self.note(expr, self._integer(expr, state))

    def _integer(self, expr: ir.Expr, state: State) -> Interval:
        match expr:
            case ir.Const(value=value):
                return value, value
            case ir.Read() | ir.Sequence() | ir.Call():
                fact = self.bound(expr, state)
                return fact.interval
            case ir.Unwrap(var=var):
                fact = self.use(var, expr.span, state)
                return fact.interval
            case ir.Field(view=view, name=name):
                self.use(view, expr.span, state)
                assert isinstance(view.type, ir.View)
                return 0, view.type.layout.fields[name].mask
            case ir.ConfigField(bits=bits):
                return 0, (1 << bits) - 1
            case ir.Unary(op=op, operand=operand):
                low, high = self.integer(operand, state)
                return (-high, -low) if op == "-" else (-high - 1, -low - 1)
            case ir.Binary(left=left, right=right):
                a = self.integer(left, state)
                return self.binary(expr, a, self.integer(right, state))
            case ir.Choose(yes=yes, no=no):
                then, orelse = self.test(expr.test, state)
                a, b = self.integer(yes, then), self.integer(no, orelse)
                for arm, interval in ((yes, a), (no, b)):
                    if _bits(arm) < _bits(expr):
                        self.exact(arm, interval)
                self.meet(state, then, orelse)
                return union(a, b)
            case ir.Expr(type=ir.Bool()):
                self.bound(expr, state)
                return 0, 1
        raise TypeError(expr)

    def binary(self, expr: ir.Binary, a: Interval, b: Interval) -> Interval:
        """Interval arithmetic, and what each operator needs to be the same on the machine."""
        bits, op, left, right = _bits(expr), expr.op, expr.left, expr.right
        for operand, interval in ((left, a), (right, b)):
            if _bits(operand) < bits:
                self.exact(operand, interval)
        if bits == 128 and op in ("*", "//", "%"):
            raise CompileError(f"`{op}` works on 64 bits, this value has 128: mask or shift it first", expr.span)
        match op:
            case "+":
                return a[0] + b[0], a[1] + b[1]
            case "-":
                return a[0] - b[1], a[1] - b[0]
            case "*":
                corners = [x * y for x in a for y in b]
                return min(corners), max(corners)
            case "&":
                tops = [i[1] for i in (a, b) if i[0] >= 0]
                return (0, min(tops)) if tops else symmetric(a, b)
            case "|" | "^":
                if min(a[0], b[0]) < 0:
                    return symmetric(a, b)
                least = max(a[0], b[0]) if op == "|" else 0
                return least, (1 << max(a[1], b[1]).bit_length()) - 1
            case "<<" | ">>":
                if not 0 <= b[0] <= b[1] < bits:
                    message = f"the shift count may leave 0..{bits - 1}: mask it, e.g. `& {bits - 1}`"
                    raise CompileError(message, right.span)
                if op == "<<":
                    return min(a[0] << b[0], a[0] << b[1]), max(a[1] << b[0], a[1] << b[1])
                self.exact(left, a)
                return min(a[0] >> b[0], a[0] >> b[1]), max(a[1] >> b[0], a[1] >> b[1])
            case "//" | "%":
                self.exact(left, a)
                self.exact(right, b)
                if b[0] <= 0:
                    message = "the divisor may be zero or negative: test it first, e.g. `if n > 0:`"
                    raise CompileError(message, right.span)
                if a[0] < 0:
                    raise CompileError("the dividend may be negative, where machines divide differently", left.span)
                return (a[0] // b[1], a[1] // b[0]) if op == "//" else (0, min(a[1], b[1] - 1))
        self.exact(left, a)
        self.exact(right, b)
        self.comparable(expr, a, b, bits)
        pick = min if op == "min" else max
        return pick(a[0], b[0]), pick(a[1], b[1])

    def comparable(self, expr: ir.Expr, a: Interval, b: Interval, bits: int) -> None:
        if bits == 128 and not (signed(union(a, b), 128) or unsigned(union(a, b), 128)):
            raise CompileError("one side may be negative and the other beyond 127 bits: mask one", expr.span)

    # -- conditions --------------------------------------------------------------------------------------------------

    def test(self, expr: ir.Expr, state: State) -> tuple[State, State]:
        """The states in which the condition holds, and does not.  `state` is used up."""
        match expr:
            case ir.Not(operand=operand):
                yes, no = self.test(operand, state)
                return no, yes
            case ir.Logic(op=op, left=left, right=right):
                yes, no = self.test(left, state)
                second = self.test(right, yes if op == "and" else no)
                if op == "and":
                    return second[0], self.met(no, second[1])
                return self.met(yes, second[0]), second[1]
            case ir.Present(var=var):
                fact = self.known(var, expr.span, state)
                yes, no = state, state.copy()
                yes.facts[var] = replace(fact, present=True)
                no.facts[var] = replace(fact, present=False)
                return yes, no
            case ir.Compare(op=op, left=left, right=right):
                a = self.integer(left, state)
                b = self.integer(right, state)
                self.exact(left, a)
                self.exact(right, b)
                self.comparable(expr, a, b, max(_bits(left), _bits(right)))
                yes, no = state, state.copy()
                for var_side, other, relation in ((left, b, op), (right, a, _MIRROR[op])):
                    self.narrow(yes, var_side, relation, other)
                    self.narrow(no, var_side, _OPPOSITE[relation], other)
                return yes, no
            case ir.Sequence(body=body, value=value):
                after = self.run(body, state)
                assert after is not None
                return self.test(value, after)
            case ir.Choose(yes=first, no=second_arm):
                then, orelse = self.test(expr.test, state)
                a_yes, a_no = self.test(first, then)
                b_yes, b_no = self.test(second_arm, orelse)
                return self.met(a_yes, b_yes), self.met(a_no, b_no)
            case ir.Read(var=var):
                self.known(var, expr.span, state)
            case ir.Call():
                self.call(expr, state)
            case ir.Const():
                pass
            case _:
                raise TypeError(expr)
        return state, state.copy()

    def narrow(self, state: State, expr: ir.Expr, relation: str, other: Interval) -> None:
        """What a comparison says about a variable."""
        if not isinstance(expr, (ir.Read, ir.Unwrap)) or expr.var not in state.facts:
            return
        fact = state.facts[expr.var]
        low, high = fact.interval
        match relation:
            case "<":
                high = min(high, other[1] - 1)
            case "<=":
                high = min(high, other[1])
            case ">":
                low = max(low, other[0] + 1)
            case ">=":
                low = max(low, other[0])
            case "==":
                low, high = max(low, other[0]), min(high, other[1])
            case "!=" if other[0] == other[1]:
                low, high = low + (low == other[0]), high - (high == other[0])
        if low <= high:
            state.facts[expr.var] = replace(fact, low=low, high=high)

    # -- primitives --------------------------------------------------------------------------------------------------

    def call(self, expr: ir.Call, state: State) -> Fact:
        """Operands first, then what the operation does and answers."""
        intervals = []
        for arg in expr.args:
            if isinstance(arg, ir.Read) and not isinstance(arg.type, (ir.Int, ir.Bool)):
                self.use(arg.var, arg.span, state)
                intervals.append((0, 0))
            else:
                intervals.append(self.integer(arg, state))
        rule = getattr(self, "call_" + expr.op, None)
        fact = Fact() if rule is None else rule(expr, state, intervals)
        assert isinstance(fact, Fact)
        if isinstance(expr.type, ir.Int):
            self.note(expr, fact.interval)
        return fact

    def call_parse(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        layout = expr.statics[0]
        self.within(expr, state.cursor, layout.size)
        state.cursor = state.cursor[0] + layout.size, state.cursor[1] + layout.size
        return Fact(origins=frozenset({"packet"}))

    def call_peek(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        self.reached(expr, state, args[0], expr.statics[0].size)
        return Fact(present=None, origins=frozenset({"packet"}))

    def call_load(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        size = expr.statics[0]
        self.reached(expr, state, args[0], size)
        return Fact(0, (1 << 8 * size) - 1)

    def call_skip(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        low, high = args[0]
        if high + state.cursor[1] > FARTHEST:
            raise CompileError(f"this may skip {_big(high)} bytes, beyond byte {FARTHEST}: bound it, e.g. "
                               "`min(n, 1500)`", expr.args[0].span)
        self.offsets[id(expr)] = union(self.offsets.get(id(expr), args[0]), args[0])
        state.cursor = state.cursor[0] + max(low, 0), state.cursor[1] + max(high, 0)
        return Fact()

    def call_length(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 0xffffffff)

    def call_port(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 0xffff)

    call_tci = call_tpid = call_segment = call_port

    def call_tagged(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 1)

    def call_push(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        if args and expr.op == "resize" and not 0 <= args[0][0] <= args[0][1] <= LONGEST:
            raise CompileError(f"a frame has 0 to {LONGEST:,} bytes, this may be {_big(args[0][1])}: bound it, e.g. "
                               "`min(n, 1500)`", expr.args[0].span)
        self.stale(state, "packet")
        state.cursor = (14, 14) if expr.op in ("insert", "exchange") else (0, 0)
        state.moved = state.moved or expr.op in ("push", "pop", "insert", "remove", "tag")
        return Fact()

    def call_exchange(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        if state.moved:
            raise CompileError("something may have been put in front of this frame, or taken away: exchange its "
                               "headers before that", expr.span)
        if not 0 <= args[0][0] <= args[0][1] <= EXCHANGED:
            raise CompileError(f"an exchange takes 0 to {EXCHANGED} bytes away, this may be {_big(args[0][1])}: bound "
                               "it, e.g. `min(n, 60)`", expr.args[0].span)
        return self.call_push(expr, state, args)

    def call_amend(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        if not 0 <= args[1][0] <= args[1][1] < 1 << 48:
            raise CompileError("a change of a sum has 0 to 48 bits: mask it, or add multiples of 0xffff, which count "
                               "as nothing", expr.args[1].span)
        return Fact()

    def call_sum(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        if not 0 <= args[1][0] <= args[1][1] <= SUMMED:
            raise CompileError(f"a sum is over 0 to {SUMMED:,} bytes, this may be {_big(args[1][1])}: bound it, e.g. "
                               "`min(n, 1500)`", expr.args[1].span)
        self.reached(expr, state, args[0], args[1][1])
        return Fact(0, 0xffff)

    call_insert = call_pop = call_remove = call_resize = call_tag = call_untag = call_push

    def call_get(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        spec = expr.statics[0]
        self.wide_key(expr, spec, args)
        if isinstance(expr.type, ir.Int):
            from ..language.integers import width
            return Fact(0, (1 << (width(spec.value) or 64)) - 1, None)
        return Fact(present=None, origins=frozenset({f"table {spec.name}"}))

    def call_put(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        self.wide_key(expr, expr.statics[0], args)
        self.call_delete(expr, state, args)
        return Fact(0, 1)

    def call_delete(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        spec = expr.statics[0]
        if spec.kind != "array":
            self.stale(state, f"table {spec.name}")
        return Fact()

    def call_touch(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        spec, entry = expr.statics[0], expr.args[0]
        assert isinstance(entry, ir.Read)
        if state.facts[entry.var].origins != {f"table {spec.name}"}:
            raise CompileError(f"touches an entry that `{spec.name}.get` returned", expr.span)
        return Fact()

    def call_copy(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 1)

    def call_notify(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 1)

    def call_now(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(*CLOCK)

    call_instant = call_now

    def call_forget(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact()

    def call_random(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(0, 0xffffffff)

    def call_hash(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        for arg, interval in zip(expr.args, args, strict=True):
            if isinstance(arg.type, ir.Int):
                self.exact(arg, interval)
                if _bits(arg) == 128 and interval[0] < 0:
                    raise CompileError("a negative number beyond 64 bits cannot be hashed: mask it", arg.span)
        return Fact(0, 0xffffffff)

    def call_record(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        for arg, described, interval in zip(expr.args, expr.statics[0].fields.values(), args, strict=True):
            if described.bits > 64 and _bits(arg) == 64:
                self.exact(arg, interval)
        return Fact(origins=frozenset({f"record {id(expr)}"}))

    def call_meta(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        return Fact(origins=frozenset({"meta"}))

    def call_within(self, expr: ir.Call, state: State, args: list[Interval]) -> Fact:
        low, high = expr.statics
        if args[0][0] < low or args[0][1] > high:
            raise CompileError(f"this index may leave {low}..{high}: test it first", expr.span)
        return Fact(*args[0])

    def wide_key(self, expr: ir.Call, spec: Any, args: list[Interval]) -> None:
        from ..language.integers import width
        stored = expr.args[-2:] if expr.op == "put" else expr.args[-1:]
        for arg, kind in zip(stored, (spec.key, spec.value), strict=False):
            if isinstance(arg.type, ir.Int) and (width(kind) or 0) > 64 and _bits(arg) == 64:
                self.exact(arg, self.intervals[id(arg)])

    def reached(self, expr: ir.Call, state: State, offset: Interval, size: int) -> None:
        if offset[0] < 0:
            raise CompileError("this offset may be negative: test it first", expr.args[0].span)
        self.within(expr, (state.cursor[0] + offset[0], state.cursor[1] + offset[1]), size)

    def within(self, expr: ir.Call, offset: Interval, size: int) -> None:
        """The offset must be one the kernel can follow."""
        if offset[1] + size > FARTHEST:
            raise CompileError(f"this may lie beyond byte {FARTHEST} of the packet: bound the offset, e.g. "
                               "`min(offset, 1500)`", expr.span)
        self.offsets[id(expr)] = union(self.offsets.get(id(expr), offset), offset)

    # -- facts -------------------------------------------------------------------------------------------------------

    def note(self, expr: ir.Expr, interval: Interval) -> Interval:
        """Remember an interval for the code generator: the union over all visits."""
        known = self.intervals.get(id(expr))
        self.intervals[id(expr)] = interval if known is None else union(known, interval)
        return interval

    def exact(self, expr: ir.Expr, interval: Interval) -> None:
        """The machine's bits must be the Python value."""
        bits = _bits(expr)
        if not fits(interval, bits):
            low, high = interval
            how = "may be negative and may exceed" if low < 0 and high >= 1 << bits - 1 else "may exceed"
            raise CompileError(f"this {how} {bits} bits, where Python and the machine part ways: mask it, e.g. "
                               f"`& {(1 << bits // 2) - 1:#x}`", expr.span)

    def known(self, var: ir.Var, span: Span, state: State) -> Fact:
        if var not in state.facts:
            raise CompileError(f"`{var.name.rpartition('.')[2]}` may be unset here: a path that leads here does not "
                               "assign it", span)
        return state.facts[var]

    def use(self, var: ir.Var, span: Span, state: State) -> Fact:
        """A view, or an optional integer, is needed: it must be there and fresh."""
        fact = self.known(var, span, state)
        if fact.present is None:
            raise CompileError("this may be None: test it first, e.g. `if entry is not None:`", span)
        if fact.present is False:
            raise CompileError("this is None here", span)
        if not fact.valid:
            raise CompileError(_stale_message(var, fact), span)
        return fact

    def stale(self, state: State, origin: str) -> None:
        state.facts = {v: replace(f, valid=False) if origin in f.origins else f for v, f in state.facts.items()}

    def met(self, a: State, b: State) -> State:
        joined = join(a, b)
        assert joined is not None
        return joined

    def meet(self, state: State, a: State, b: State) -> None:
        state.become(self.met(a, b))


_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _bits(expr: ir.Expr) -> int:
    return expr.type.bits if isinstance(expr.type, ir.Int) else 64


def _big(number: int) -> str:
    return f"{number:,}" if abs(number) < 1 << 64 else "any number of"


def _stale_message(var: ir.Var, fact: Fact) -> str:
    kind = var.type
    name = kind.layout.__name__ if isinstance(kind, ir.View) else "table"
    if "packet" in fact.origins:
        return f"this {name} is stale: the packet was resized after it was parsed; parse it again"
    if any(o.startswith("record") for o in fact.origins):
        return f"this {name} may be from an earlier turn of the loop: make it where it is used"
    return f"this {name} is stale: its table was written after it was read; get it again"
