"""Printing LLVM: instructions, blocks, names and slots.

The lowest layer of the code generator, which knows nothing of what it prints: a list of lines, the block that is open,
the position instructions come from.  Variables are stack slots that LLVM promotes to registers, so nothing here needs
to know of SSA form.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..language.layout import Layout
from . import ir
from .check import Checked
from .debuginfo import DebugInfo
from .errors import Span
from .intervals import Interval, union
from .lifetimes import lifetimes, mentioned_later
from .target import Target

if TYPE_CHECKING:
    from .llvm import Emitter


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


class Printing:
    """The text of one program so far."""

    run: Callable[[list[ir.Stmt]], None]
    reason: str             # slot of the reason of a rejection
    rejected: str           # the block where rejections end

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
        self.lent: list[str] = []                       # slots that will end, in the order they began
        self.floors: dict[str, int] = {}                # how many there were where a block or a loop began
        self.ends = lifetimes(self.program)
        self.later = mentioned_later(self.program)
        self.mortal = {var for ending in self.ends.values() for var in ending}
        self.rooms: dict[ir.Var, str] = {}
        self.leaving: dict[str, tuple[str, set[ir.Var] | None]] = {}
        self.places = places(checked)
        self.shared = shared(checked.program)
        self.operations = {n.op for n in ir.walk(checked.program) if isinstance(n, ir.Call)}

    @property
    def whole(self) -> Emitter:
        """This object as the generator it is in the end, which is what targets are given."""
        return cast("Emitter", self)

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

    def lend(self, kind: str, align: int = 0) -> str:
        """A slot that will `end`, with the call being lowered if not before: LLVM then gives its room to others."""
        result = self.slot(kind, align)
        self.declare("declare void @llvm.lifetime.start.p0(i64, ptr)")
        self.declare("declare void @llvm.lifetime.end.p0(i64, ptr)")
        self.emit(f"call void @llvm.lifetime.start.p0(i64 -1, ptr {result})")
        self.lent.append(result)
        return result

    def end(self, slot: str) -> None:
        if slot in self.lent:
            self.emit(f"call void @llvm.lifetime.end.p0(i64 -1, ptr {slot})")
            self.lent.remove(slot)

    def abandon(self, floor: int = 0) -> None:
        """End what was lent since, on a way that leaves: or LLVM would keep room for it behind."""
        for slot in self.lent[floor:]:
            self.emit(f"call void @llvm.lifetime.end.p0(i64 -1, ptr {slot})")

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
            self.abandon()
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

    def told(self, present: str) -> str:
        """Whether a view is there, hidden if it is a constant, where it became one: LLVM would ask once more, instead,
        what brought it there, and not in the words in which the verifier heard it."""
        if present not in ("true", "false"):
            return present
        hidden = self.value(f'call i64 asm "", "=r,0"(i64 {int(present == "true")})')
        return self.value(f"trunc i64 {hidden} to i1")

    def interval(self, expr: ir.Expr) -> Interval:
        if isinstance(expr, ir.Const):
            return expr.value, expr.value
        return self.checked.intervals.get(id(expr), (0, 1))

    def slots_of(self, var: ir.Var) -> Slots:
        if var not in self.slots:
            match var.type:
                case ir.View(space="packet", optional=optional):
                    slots = Slots(self.slot("ptr"), self.slot("i64"), self.slot("i1") if optional else "",
                                  self.slot("ptr") if self.target.split(self.whole, var) is not None else "")
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


def places(checked: Checked) -> dict[ir.Var, Interval]:
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


def shared(program: ir.Program) -> set[ir.Var]:
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
