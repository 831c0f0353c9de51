"""The typed intermediate representation, defined as a grammar.

    program   = name, entry, body
    statement = var <- expression                       Let       (a claim: "fits in n bits" may be attached)
              | view.field <- expression                SetField
              | if test { … } else { … }                If
              | loop label: var in start..stop by step { … }   Loop
              | block label { … }                       Block
              | leave label                             Leave     (break, continue, return from an inlined function)
              | exit verdict                            Exit      (return from the entry)
              | reject reason                           Reject
              | do expression                           Do        (for its effect)
    expression = n | none                               Const, Nothing
              | var                                     Read
              | view.field                              Field
              | config.field                            ConfigField
              | a op b | op a                           Binary, Unary
              | a relation b                            Compare
              | a and b | a or b | not a                Logic, Not
              | a if test else b                        Choose
              | present view                            Present
              | value maybe                             Unwrap    (an integer proven present)
              | { statement… ; expression }             Sequence  (walrus, inlined calls)
              | verdict kind argument                   MakeVerdict
              | primitive(arguments)                    Call      (see primitives.py)
    type      = int64 | int128 | bool | verdict | view layout origin | table | none, each perhaps optional

Conventions, after mypyc: nodes are plain dataclasses, compared by identity, every one has a `Span`.  The tree is
*structured*: no jumps but `leave`, which always goes outward, so that one walk is a sound analysis and LLVM finds the
SSA form.  Functions are inlined while building, which gives every call its own types, intervals and source position.

A view is always bound by `Let`, and is an operand only of primitives, so that staleness and presence are facts about
variables.  Integers are 64 bits, or 128 where a u128 takes part; whether those bits *are* the Python
integer is what check.py proves.  `reads` and `writes` of primitives are kept (which packet bytes, tables, clock), for
the fused and cached forms to come.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..language.layout import Layout
from ..language.tables import TableSpec
from .errors import Span

# -- types -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Int:
    """64 or 128 bits."""

    bits: int = 64
    optional: bool = False

    def __str__(self) -> str:
        return f"int{self.bits}" + "?" * self.optional


@dataclass(frozen=True)
class Bool:
    """One bit."""

    optional: bool = False

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Verdict:
    """32 bits: `kind << 16 | argument`."""

    optional: bool = False

    def __str__(self) -> str:
        return "verdict"


@dataclass(frozen=True)
class View:
    """A pointer to a layout, in the packet or in memory (a table, metadata, a record of this program)."""

    layout: type[Layout]
    space: Literal["packet", "memory"]
    optional: bool = False
    fresh: bool = False             # just pushed: no checksum covers it yet

    def __str__(self) -> str:
        return f"{self.layout.__name__}@{self.space}" + "!" * self.fresh + "?" * self.optional


@dataclass(frozen=True)
class TableHandle:
    """A nested table, found in an outer one."""

    spec: TableSpec
    optional: bool = False

    def __str__(self) -> str:
        return f"table:{self.spec.name}" + "?" * self.optional


@dataclass(frozen=True)
class NoneType:
    """A variable that so far was only None."""

    optional: bool = True

    def __str__(self) -> str:
        return "none"


Type = Int | Bool | Verdict | View | TableHandle | NoneType


@dataclass(eq=False)
class Var:
    """A local variable of one inlined function.  Its type is fixed, but for None becoming an optional something."""

    name: str
    type: Type

    def __str__(self) -> str:
        return self.name


# -- expressions -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Expr:
    span: Span
    type: Type


@dataclass(eq=False)
class Const(Expr):
    value: int


@dataclass(eq=False)
class Nothing(Expr):
    pass


@dataclass(eq=False)
class Read(Expr):
    var: Var


@dataclass(eq=False)
class Field(Expr):
    view: Var
    name: str


@dataclass(eq=False)
class ConfigField(Expr):
    name: str
    bits: int


@dataclass(eq=False)
class Binary(Expr):
    op: Literal["+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max"]
    left: Expr
    right: Expr


@dataclass(eq=False)
class Unary(Expr):
    op: Literal["-", "~"]
    operand: Expr


@dataclass(eq=False)
class Compare(Expr):
    op: Literal["==", "!=", "<", "<=", ">", ">="]
    left: Expr
    right: Expr


@dataclass(eq=False)
class Logic(Expr):
    op: Literal["and", "or"]
    left: Expr
    right: Expr


@dataclass(eq=False)
class Not(Expr):
    operand: Expr


@dataclass(eq=False)
class Choose(Expr):
    test: Expr
    yes: Expr
    no: Expr


@dataclass(eq=False)
class Present(Expr):
    var: Var


@dataclass(eq=False)
class Unwrap(Expr):
    var: Var


@dataclass(eq=False)
class Sequence(Expr):
    body: list[Stmt]
    value: Expr


@dataclass(eq=False)
class MakeVerdict(Expr):
    kind: int
    argument: Expr


@dataclass(eq=False)
class Call(Expr):
    """A primitive.  `statics` are what the compiler knows: layouts, tables, field names."""

    op: str
    args: list[Expr]
    statics: tuple[Any, ...] = ()


# -- statements ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Stmt:
    span: Span


@dataclass(eq=False)
class Let(Stmt):
    var: Var
    value: Expr
    claim: int | None = None        # the value must fit in so many bits
    what: str = ""                  # what the claim is about, for the message


@dataclass(eq=False)
class SetField(Stmt):
    view: Var
    name: str
    value: Expr
    added: Expr | None = None       # `view.name += added`: an atomic addition on a shared record


@dataclass(eq=False)
class If(Stmt):
    test: Expr
    then: list[Stmt]
    orelse: list[Stmt]


@dataclass(eq=False)
class Loop(Stmt):
    label: str
    counter: Var
    start: Expr
    stop: Expr
    step: int
    body: list[Stmt]


@dataclass(eq=False)
class Block(Stmt):
    label: str
    body: list[Stmt]


@dataclass(eq=False)
class Leave(Stmt):
    label: str


@dataclass(eq=False)
class Exit(Stmt):
    verdict: Expr


@dataclass(eq=False)
class Reject(Stmt):
    reason: Expr


@dataclass(eq=False)
class Do(Stmt):
    value: Expr


@dataclass(eq=False)
class Program:
    """One entry of a kind: `ingress` or `egress`."""

    name: str
    entry: str
    span: Span
    body: list[Stmt]


Node = Expr | Stmt | Program


_BELOW: dict[type, tuple[str, ...]] = {}    # attributes of a kind of node in which nodes may be


def children(node: Any) -> Iterator[Any]:
    """The nodes directly below, in order of evaluation."""
    kind = type(node)
    if kind not in _BELOW:
        _BELOW[kind] = tuple(f.name for f in fields(node) if f.name not in ("span", "type", "var", "view"))
    for name in _BELOW[kind]:
        value = getattr(node, name)
        if isinstance(value, (Expr, Stmt)):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, (Expr, Stmt)))


def walk(node: Any) -> Iterator[Any]:
    """The node and everything below."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed([*children(node)])


# -- as text ---------------------------------------------------------------------------------------------------------


def show(program: Program) -> str:
    """The text golden tests compare."""
    return f"program {program.name}.{program.entry}\n" + _block(program.body, 1)


def _block(body: list[Stmt], depth: int) -> str:
    return "".join("  " * depth + line + "\n" for stmt in body for line in _lines(stmt))


def _lines(stmt: Stmt) -> Iterator[str]:
    match stmt:
        case Let(var=var, value=value, claim=claim):
            yield from _bound(f"{var}: {var.type} <- ", value, f"  fits u{claim}" if claim else "")
        case SetField(view=view, name=name, value=value, added=added):
            yield f"{view}.{name} " + (f"+<- {_text(added)}" if added is not None else f"<- {_text(value)}")
        case If(test=test, then=then, orelse=orelse):
            yield f"if {_text(test)}"
            yield from _indented(then)
            if orelse:
                yield "else"
                yield from _indented(orelse)
        case Loop(label=label, counter=counter, start=start, stop=stop, step=step, body=body):
            yield f"loop {label}: {counter} in {_text(start)}..{_text(stop)}" + (f" by {step}" if step != 1 else "")
            yield from _indented(body)
        case Block(label=label, body=body):
            yield f"block {label}"
            yield from _indented(body)
        case Leave(label=label):
            yield f"leave {label}"
        case Exit(verdict=verdict):
            yield from _bound("exit ", verdict)
        case Reject(reason=reason):
            yield f"reject {_text(reason)}"
        case Do(value=value):
            yield from _bound("do ", value)


def _bound(head: str, value: Expr, tail: str = "") -> Iterator[str]:
    """A sequence right of `<-` reads better as its statements, then its value."""
    while isinstance(value, Sequence):
        yield from (line for stmt in value.body for line in _lines(stmt))
        value = value.value
    yield head + _text(value) + tail


def _indented(body: list[Stmt]) -> Iterator[str]:
    for stmt in body:
        yield from ("  " + line for line in _lines(stmt))


def _text(expr: Expr) -> str:
    match expr:
        case Const(value=value):
            return str(value) if abs(value) < 1000 else hex(value)
        case Nothing():
            return "none"
        case Read(var=var):
            return str(var)
        case Field(view=view, name=name):
            return f"{view}.{name}"
        case ConfigField(name=name):
            return f"config.{name}"
        case Binary(op=op, left=left, right=right):
            a, b = _text(left), _text(right)
            return f"{op}({a}, {b})" if op in ("min", "max") else f"({a} {op} {b})"
        case Unary(op=op, operand=operand):
            return f"{op}{_text(operand)}"
        case Compare(op=op, left=left, right=right) | Logic(op=op, left=left, right=right):
            return f"({_text(left)} {op} {_text(right)})"
        case Not(operand=operand):
            return f"not {_text(operand)}"
        case Choose(test=test, yes=yes, no=no):
            return f"({_text(yes)} if {_text(test)} else {_text(no)})"
        case Present(var=var):
            return f"present {var}"
        case Unwrap(var=var):
            return f"value {var}"
        case Sequence(body=body, value=value):
            return "{ " + "; ".join(line.strip() for stmt in body for line in _lines(stmt)) + f"; {_text(value)} }}"
        case MakeVerdict(kind=kind, argument=argument):
            return f"verdict {('drop', 'host', 'forward', 'flood', 'punt')[kind]} {_text(argument)}"
        case Call(op=op, args=args, statics=statics):
            shown = [_static(s) for s in statics] + [_text(a) for a in args]
            return f"{op}({', '.join(shown)})"
    raise TypeError(expr)


def _static(value: Any) -> str:
    if isinstance(value, TableSpec):
        return value.name
    if isinstance(value, tuple):
        return "(" + " ".join(map(_static, value)) + ")"
    return value.__name__ if isinstance(value, type) else str(value)
