"""What an expression can be used as: an integer, a view, a table, a key, an entry; and the nodes made of it.

Nothing here reads syntax but for its position: `conditions.py` and `expressions.py` stand on this.
"""
from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..language.integers import width
from ..language.layout import Layout
from ..language.verdicts import Dropped, Verdict
from . import ir
from .errors import CompileError, Span
from .values import Static, TableRef, Tuple, Value, describe

if TYPE_CHECKING:
    from .build import Context


class Operands:
    """The lowest part of the builder: where nodes go, and what values become."""

    stack: list[Context]

    def __init__(self) -> None:
        self.out: list[ir.Stmt] = []
        self.temporaries = 0

    @contextmanager
    def collect(self) -> Iterator[list[ir.Stmt]]:
        """What is appended to `out` inside goes into a list of its own."""
        outer, self.out = self.out, []
        try:
            yield self.out
        finally:
            self.out = outer

    @contextmanager
    def branch(self) -> Iterator[list[ir.Stmt]]:
        """Like `collect`; names bound to compile-time values inside are forgotten behind it."""
        names = self.stack[-1].names
        self.stack[-1].names = dict(names)
        with self.collect() as body:
            yield body
        self.stack[-1].names = names

    # -- what values can be used as ----------------------------------------------------------------------------------

    def runtime(self, value: Value, span: Span) -> ir.Expr | None:
        """A node for a value that has one; None for what exists only while compiling."""
        match value:
            case ir.Expr():
                return value
            case Static(value=None):
                return ir.Nothing(span, ir.NoneType())
            case Static(value=bool(thing)):
                return ir.Const(span, ir.Bool(), int(thing))
            case Static(value=int(thing)):
                return self.constant(span, int(thing))
            case Static(value=Verdict() as verdict):
                return ir.MakeVerdict(span, ir.Verdict(), verdict.kind, self.constant(span, verdict.argument))
        return None

    def integer(self, node: ast.AST, value: Value) -> ir.Expr:
        runtime = self.runtime(value, self.span(node))
        if runtime is not None and isinstance(runtime.type, ir.Bool):
            return self.integer_of(runtime)
        if runtime is not None and isinstance(runtime.type, ir.Int):
            if not runtime.type.optional:
                return runtime
            var = self.bind(runtime)
            return ir.Unwrap(self.span(node), with_bits(var.type), var)
        raise CompileError(f"expected an integer, this is {describe(value)}", self.span(node))

    def integer_of(self, value: ir.Expr) -> ir.Expr:
        """A truth value as 0 or 1."""
        if isinstance(value, ir.Const):
            return ir.Const(value.span, ir.Int(), value.value)
        one, zero = self.constant(value.span, 1), self.constant(value.span, 0)
        return ir.Choose(value.span, ir.Int(), value, one, zero)

    def constant(self, span: Span, value: int) -> ir.Const:
        wide = not -(1 << 63) <= value < 1 << 64
        return ir.Const(span, ir.Int(128 if wide else 64), value)

    def wider(self, a: ir.Expr, b: ir.Expr) -> ir.Int:
        bits = [e.type.bits for e in (a, b) if isinstance(e.type, ir.Int)]
        return ir.Int(max(bits))

    def view(self, node: ast.AST, value: Value) -> ir.Var:
        """A variable that holds a header or a record."""
        if isinstance(value, ir.Expr) and isinstance(value.type, ir.View):
            return self.bind(value)
        if isinstance(value, ir.Expr) and isinstance(value.type, ir.NoneType):
            raise CompileError("this is None here", self.span(node))
        raise CompileError(f"expected a header or a record, this is {describe(value)}", self.span(node))

    def field(self, node: ast.AST, view: ir.Var, name: str) -> ir.Expr:
        kind = view.type
        assert isinstance(kind, ir.View)
        fields = kind.layout.fields
        if name not in fields:
            message = f"{kind.layout.__name__} has no field `{name}`{self.similar(name, fields)}"
            raise CompileError(message, self.span(node))
        return ir.Field(self.span(node), ir.Int(128 if fields[name].bits > 64 else 64), view, name)

    def table(self, node: ast.AST, value: Value) -> TableRef:
        if isinstance(value, TableRef):
            return value
        if isinstance(value, ir.Expr) and isinstance(value.type, ir.TableHandle):
            return TableRef(value.type.spec, self.bind(value))
        raise CompileError(f"expected a table, this is {describe(value)}", self.span(node))

    def of(self, table: TableRef) -> list[ir.Expr]:
        """The operand that names a nested table."""
        return [] if table.handle is None else [ir.Read(self.out[-1].span if self.out else _SPAN, table.handle.type,
                                                        table.handle)]

    def key(self, node: ast.AST, table: TableRef, value: Value) -> ir.Expr:
        kind, span = table.spec.key, self.span(node)
        if isinstance(kind, type) and issubclass(kind, Layout):
            if not (isinstance(value, ir.Expr) and isinstance(value.type, ir.View) and value.type.layout is kind):
                message = f"`{table.spec.name}` is keyed by {kind.__name__}, this is {describe(value)}"
                raise CompileError(message, span)
            return self.read(self.bind(value), span)
        return self.integer(node, value)

    def lookup(self, span: Span, table: TableRef, key: ir.Expr) -> ir.Expr:
        """`table.get(key)`."""
        spec = table.spec
        kind: ir.Type
        if spec.inner is not None:
            kind = ir.TableHandle(spec.inner, True)
        elif isinstance(spec.value, type) and issubclass(spec.value, Layout):
            kind = ir.View(spec.value, "memory", True)
        else:
            kind = ir.Int(128 if (width(spec.value) or 0) > 64 else 64, True)
        return ir.Call(span, kind, "get", [*self.of(table), key], (spec,))

    def item(self, node: ast.AST, table: TableRef, key: ir.Expr) -> Value:
        """`table[key]`: rejects what is not there."""
        span = self.span(node)
        var = self.bind(self.lookup(span, table, key))
        absent = ir.Reject(span, self.constant(span, Dropped.ABSENT))
        self.out.append(ir.If(span, ir.Not(span, ir.Bool(), ir.Present(span, ir.Bool(), var)), [absent], []))
        return ir.Unwrap(span, with_bits(var.type), var) if isinstance(var.type, ir.Int) else self.read(var, span)

    def put(self, node: ast.AST, table: TableRef, key: ir.Expr, value: Value, mode: int) -> ir.Expr:
        """Store; whether there was room."""
        spec, span = table.spec, self.span(node)
        if spec.kind in ("counter", "lpm") or spec.inner is not None:
            raise CompileError(f"`{spec.name}` is not written in the data path", span)
        self.movable(table, span, "stored")
        if isinstance(spec.value, type) and issubclass(spec.value, Layout):
            stored: ir.Expr = self.read(self.view(node, value), span)
            if not (isinstance(stored.type, ir.View) and stored.type.layout is spec.value):
                raise CompileError(f"`{spec.name}` holds {spec.value.__name__}, this is {describe(value)}", span)
        else:
            stored = self.integer(node, value)
        return ir.Call(span, ir.Bool(), "put", [*self.of(table), key, stored], (spec, mode))

    def movable(self, table: TableRef, span: Span, done: str) -> None:
        """Refuse to add or remove entries of a durable table: which there are, is on disk first."""
        if table.spec.durable:
            raise CompileError(f"`{table.spec.name}` is durable: its entries are {done} in Python (punt, and handle "
                               "the event); here their fields may be assigned", span)

    def set_item(self, node: ast.AST, table: TableRef, key: ir.Expr, value: Value) -> None:
        """`table[key] = value`: rejects what does not fit."""
        span = self.span(node)
        full = ir.Reject(span, self.constant(span, Dropped.TABLE_FULL))
        stored = self.put(node, table, key, value, 0)
        self.out.append(ir.If(span, ir.Not(span, ir.Bool(), stored), [full], []))

    # -- small things ------------------------------------------------------------------------------------------------

    def bind(self, value: Value) -> ir.Var:
        """The variable that holds a value; a new one unless it already is one."""
        assert isinstance(value, ir.Expr)
        if isinstance(value, ir.Read):
            return value.var
        self.temporaries += 1
        var = ir.Var(f"t{self.temporaries}", value.type)
        self.out.append(ir.Let(value.span, var, value))
        return var

    def kept(self, value: Value) -> Value:
        """A value that later assignments do not change."""
        if isinstance(value, Tuple):
            return Tuple(tuple(map(self.kept, value.items)))
        if not isinstance(value, ir.Expr) or isinstance(value, ir.Const):
            return value
        self.temporaries += 1
        var = ir.Var(f"t{self.temporaries}", value.type)
        self.out.append(ir.Let(value.span, var, value))
        return self.read(var, value.span)

    def read(self, var: ir.Var, span: Span) -> ir.Expr:
        return ir.Read(span, var.type, var)

    def fresh(self, name: str) -> str:
        self.temporaries += 1
        return f"{name}.{self.temporaries}"

    def span(self, node: ast.AST) -> Span:
        context = self.stack[-1]
        line, column = getattr(node, "lineno", context.source.tree.lineno), getattr(node, "col_offset", 0)
        end, end_column = getattr(node, "end_lineno", line), getattr(node, "end_col_offset", column)
        shift = context.source.column
        return Span(context.scope, line, column + shift, end or line, (end_column or column) + shift)

    def similar(self, name: str, known: Iterable[str]) -> str:
        """` (did you mean …?)`."""
        close = difflib.get_close_matches(name, [k for k in known if not k.startswith("__")], 1)
        return f" (did you mean `{close[0]}`?)" if close else ""

    def fold(self, span: Span, compute: Callable[[], Any]) -> Static:
        """What Python makes of constants."""
        try:
            return Static(compute())
        except Exception as error:
            raise CompileError(f"{type(error).__name__}: {error}", span) from None


def with_bits(kind: ir.Type) -> ir.Int:
    """An optional integer's type, present."""
    return ir.Int(kind.bits if isinstance(kind, ir.Int) else 64)


_SPAN = Span(None, 0, 0, 0, 0)  # type: ignore[arg-type]
