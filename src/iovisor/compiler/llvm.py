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

from . import ir
from .computation import Computation, holds
from .primitives import OPERATIONS
from .printing import Number, Pointer, Slots, pieces


class Emitter(Computation):
    """Prints one program for one target."""

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

    # -- statements -------------------------------------------------------------------------------------------------

    def run(self, body: list[ir.Stmt]) -> None:
        begun = len(self.lent)
        for stmt in body:
            if not self.open:
                break
            self.target.before(self, stmt)
            self.at(stmt.span)
            getattr(self, "stmt_" + type(stmt).__name__)(stmt)
            for var in self.ends.get(id(stmt), ()):
                self.end(self.rooms.pop(var, ""))
        else:
            self.target.before(self, None)
        del self.lent[begun:]

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
                if isinstance(value, ir.Call) and value.op == "record" and var in self.mortal:
                    pointer = self.record(value, self.lend)
                    self.rooms[var] = pointer.address
                else:
                    pointer = self.pointer(value)
                self.emit(f"store ptr {pointer.address}, ptr {slots.value}")
                if isinstance(kind, ir.View) and kind.space == "packet":
                    self.emit(f"store i64 {pointer.offset}, ptr {slots.offset}")
                    if slots.second:
                        self.emit(f"store ptr {pointer.second}, ptr {slots.second}")
                    if slots.present:
                        self.emit(f"store i1 {self.told(pointer.present or 'true')}, ptr {slots.present}")
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
        fits = holds(described, self.interval(stmt.value))
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
        self.leaving[stmt.label], self.floors[stmt.label] = (after, None), len(self.lent)
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
        self.abandon(self.floors[stmt.label])
        self.jump(after)

    def stmt_Loop(self, stmt: ir.Loop) -> None:
        counter = self.slots_of(stmt.counter).value
        stop = self.integer(stmt.stop, 64)
        if self.interval(stmt.start)[0] >= 0:
            stop = self.target.bounded(self, stop, self.interval(stmt.stop))
        once = self.target.walked_once(self, stmt)
        self.emit(f"store i64 {self.integer(stmt.start, 64)}, ptr {counter}")
        if once:
            self.target.forget(self, [(counter, "i64"), *self._carried(stmt)])
        if any(isinstance(n, ir.Call) and self.target.loses(self, n) for s in stmt.body for n in ir.walk(s)):
            self.usable = set()
        head, body, after = self.name("loop"), self.name("turn"), self.name("after")
        before = set(self.usable)
        self.label(head)
        if once:
            self.target.turn(self)
        at = self.value(f"load i64, ptr {counter}")
        if once:
            at = self.value(f'call i64 asm sideeffect "", "=r,0"(i64 {at})')
            self.emit(f"store i64 {at}, ptr {counter}")
        self.split(self.value(f"icmp {'ult' if once else 'slt'} i64 {at}, {stop}"), body, after)
        self.label(body)
        self.leaving[stmt.label], self.floors[stmt.label] = (after, set(before)), len(self.lent)
        self.run(stmt.body)
        if self.open:
            step = self.value(f"add i64 {self.value(f'load i64, ptr {counter}')}, {stmt.step}")
            self.emit(f"store i64 {step}, ptr {counter}")
            self.jump(head)
        _, usable = self.leaving.pop(stmt.label)
        self.label(after)
        self.usable = (usable or set()) & before

    def _carried(self, loop: ir.Loop) -> list[tuple[str, str]]:
        """Slots of numbers, with their types, that one turn hands to the next."""
        nodes = [n for s in loop.body for n in ir.walk(s)]
        moves = any(isinstance(n, ir.Call) and "cursor" in OPERATIONS[n.op].writes for n in nodes)
        found = [(self.cursor, "i64")] if moves else []
        for var in dict.fromkeys(n.var for n in nodes if isinstance(n, ir.Let) and n.var in self.slots):
            slots = self.slots[var]
            if isinstance(var.type, ir.Int):
                found.append((slots.value, f"i{var.type.bits}"))
            elif isinstance(var.type, ir.Bool):
                found.append((slots.value, "i1"))
            if slots.present:
                found.append((slots.present, "i1"))
        return found

    def stmt_Exit(self, stmt: ir.Exit) -> None:
        value = stmt.verdict
        while isinstance(value, ir.Sequence):
            self.run(value.body)
            value = value.value
        self.emit(f"store i32 {self.verdict_of(value)}, ptr {self.verdict}")
        self.abandon()
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


__all__ = ["Emitter", "Number", "Pointer", "Slots", "pieces"]
