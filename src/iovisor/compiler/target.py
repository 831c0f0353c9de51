"""What a machine must tell the compiler: a `Target`.

A target is a triple and a handful of *lowerings*, one a primitive, registered with `@lowers("parse")` on methods of its
class; subclasses inherit and replace them.  Before a line of LLVM is printed, every primitive of the program is looked
up here: one that has no lowering is a compile error at the author's line (`TargetRefused`), never a surprise later.

The generator (llvm.py) does everything that is the same everywhere: arithmetic, control flow, fields, records.  What
differs is how a packet is reached, where tables live, and how a verdict leaves.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from . import ir
from .errors import TargetRefused

if TYPE_CHECKING:
    from .llvm import Emitter

Lowering = Callable[..., Any]


def lowers(*operations: str) -> Callable[[Lowering], Lowering]:
    """Marks a method of a target as the lowering of primitives."""
    def mark(method: Lowering) -> Lowering:
        method.__lowers__ = operations  # type: ignore[attr-defined]
        return method
    return mark


class Target:
    """Subclassed in `targets/`.  Class attributes describe the machine to LLVM."""

    name: ClassVar[str]
    triple: ClassVar[str]
    layout: ClassVar[str] = ""
    section: ClassVar[str] = ""
    result: ClassVar[str] = "i32"               # LLVM type the program returns
    attributes: ClassVar[str] = ""
    debug: ClassVar[bool] = True                # line information wanted
    runtime: ClassVar[str] = ""                 # LLVM text the program needs beside it
    context: ClassVar[tuple[str, int]] = ("context", 0)     # name and bits of the C structure behind the argument
    lowerings: ClassVar[dict[str, Lowering]] = {}

    def __init_subclass__(cls) -> None:
        cls.lowerings = dict(cls.lowerings)
        for method in vars(cls).values():
            for operation in getattr(method, "__lowers__", ()):
                cls.lowerings[operation] = method

    def __init__(self, cpu: str = "", level: int = 2) -> None:
        self.cpu, self.level = cpu, level

    @property
    def identity(self) -> str:
        """What the cache must know besides the program."""
        return f"{self.name} {self.triple} {self.cpu} O{self.level}"

    def accepts(self, program: ir.Program) -> None:
        """Raises `TargetRefused` at the first primitive this target has no lowering for."""
        for node in ir.walk(program):
            if isinstance(node, ir.Call) and node.op not in self.lowerings and node.op not in GENERIC:
                raise TargetRefused(f"`{node.op}` is not available on the target {self.name}", node.span)

    # -- what subclasses define -------------------------------------------------------------------------------------

    def prologue(self, emit: Emitter) -> None:
        """Before the first statement."""

    def leave(self, emit: Emitter) -> None:
        """The exit block: the verdict lies in `emit.verdict`; ends with `ret`."""
        raise NotImplementedError

    def before(self, emit: Emitter, stmt: ir.Stmt | None) -> None:
        """Before a statement, and at the end of a body: the place for what a target put off."""

    def reach(self, emit: Emitter, view: ir.Var) -> None:
        """Make the pointer of a packet view usable again after it was lost."""
        raise NotImplementedError

    def address(self, emit: Emitter, view: ir.Var, byte: int) -> str:
        """A pointer to a byte of a packet view whose pointer is usable."""
        raise NotImplementedError

    def split(self, emit: Emitter, view: ir.Var) -> int | None:
        """A byte of a packet view across which no access may go."""
        return None

    def loses(self, emit: Emitter, call: ir.Call) -> bool:
        """Whether pointers into the packet are lost after this primitive."""
        return False

    def bounded(self, emit: Emitter, value: str, interval: tuple[int, int]) -> str:
        """The end of a loop that begins at zero or above, in a form whose bound the machine can see."""
        return value

    def walked_once(self, emit: Emitter, loop: ir.Loop) -> bool:
        """Whether this loop is one whose turns the machine should see as one."""
        return False

    def forget(self, emit: Emitter, slots: list[tuple[str, str]]) -> None:
        """Before such a loop: make what lies in these slots, each with its type, something the machine knows nothing
        about."""

    def forget_all(self, emit: Emitter, call: ir.Call) -> None:
        """Before a method that is walked once: the same for every variable, and for what the machine itself holds."""

    def turn(self, emit: Emitter) -> None:
        """At the head of a loop that is walked once."""

    def config(self, emit: Emitter) -> str:
        """A pointer to the configuration record."""
        raise NotImplementedError

    def machine(self, emit: Emitter) -> str:
        """A pointer to the four words of `Machine`."""
        raise NotImplementedError

    def coarse(self, emit: Emitter) -> str:
        """The coarse clock, without offset, as i64."""
        raise NotImplementedError

    def precise(self, emit: Emitter) -> str:
        """The fine clock, without offset, as i64."""
        raise NotImplementedError

    def chance(self, emit: Emitter) -> str:
        """32 random bits, as i64."""
        raise NotImplementedError


GENERIC = frozenset({"record", "hash", "now", "instant", "random", "within", "forget"})
