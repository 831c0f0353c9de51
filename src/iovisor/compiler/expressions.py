"""From syntax trees to the intermediate representation: expressions.

An expression is a `Value`: what is known while compiling stays Python and is computed by Python; the rest becomes
nodes.  Whatever has to run before a value is known is appended to `out`; an operand that does so makes the
operands before it move into variables, so that the order of evaluation stays Python's.
"""
from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from enum import Enum
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from ..language.component import Component
from ..language.function import Function, FunctionSpec
from ..language.layout import Header, Layout, Metadata, Record
from ..language.packet import Packet
from ..language.ports import Ports
from ..language.tables import TABLES
from . import ir, primitives
from .conditions import Conditions
from .errors import CompileError, NotInLanguage, Span
from .source import MISSING, free
from .values import Configuration, Frame, Instance, Method, Part, Static, TableRef, Tuple, Value, describe

if TYPE_CHECKING:
    from .build import Context

OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv), ast.Mod: ("%", operator.mod), ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_), ast.BitXor: ("^", operator.xor), ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift)}

UNKNOWN: dict[type[ast.operator], str] = {
    ast.Div: "`/` is not part of the language: numbers are integers, use `//` or `>>`",
    ast.Pow: "`**` is not part of the language: use `*` or `<<`", ast.MatMult: "`@` is not part of the language"}
KINDS: dict[type[ast.expr], str] = {
    ast.ListComp: "comprehensions", ast.SetComp: "comprehensions", ast.DictComp: "comprehensions",
    ast.GeneratorExp: "generators", ast.Yield: "generators", ast.YieldFrom: "generators", ast.Await: "coroutines",
    ast.JoinedStr: "f-strings", ast.Lambda: "lambdas", ast.List: "lists", ast.Dict: "dicts", ast.Set: "sets",
    ast.Slice: "slices", ast.Starred: "`*` arguments"}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}


class Expressions(Conditions):
    """The half of the builder that knows expressions."""

    kind: type[Function]
    spec: FunctionSpec
    inline: Callable[[ast.Call, Callable[..., Any], list[Value], bool], Value]
    store: Callable[[ast.expr, Value], None]

    def __init__(self) -> None:
        super().__init__()
        self.folded: dict[str, Any] = {}

    # -- the walk --------------------------------------------------------------------------------------------------

    def visit(self, node: ast.expr, tail: bool = False) -> Value:
        """What an expression stands for.  `tail`: its verdict leaves the program."""
        method = getattr(self, "expr_" + type(node).__name__, None)
        if method is None:
            what = KINDS.get(type(node), type(node).__name__.lower() + " expressions")
            raise NotInLanguage(f"{what} are not part of the language", self.span(node))
        if tail and isinstance(node, (ast.Call, ast.IfExp)):
            return cast(Value, method(node, tail=True))
        return cast(Value, method(node))

    def operands(self, nodes: Iterable[ast.expr]) -> list[Value]:
        """Values of expressions evaluated left to right."""
        values: list[Value] = []
        for node in nodes:
            with self.collect() as before:
                value = self.visit(node)
            if before:
                written = {n.var for stmt in before for n in ir.walk(stmt) if isinstance(n, ir.Let)}
                values = [v if isinstance(v, ir.Read) and v.var not in written else self.kept(v) for v in values]
                self.out.extend(before)
            values.append(value)
        return values

    def arguments(self, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        """Positional and named arguments, evaluated in order."""
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise NotInLanguage("`*` and `**` arguments are not part of the language", self.span(node))
        values = self.operands([*node.args, *(k.value for k in node.keywords)])
        count = len(node.args)
        return values[:count], {str(k.arg): v for k, v in zip(node.keywords, values[count:], strict=True)}

    # -- leaves ----------------------------------------------------------------------------------------------------

    def expr_Constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, (int, type(None))):
            return Static(node.value)
        what = {float: "floats", str: "strings", bytes: "bytes"}.get(type(node.value), type(node.value).__name__)
        raise NotInLanguage(f"{what} are not part of the language", self.span(node))

    def expr_Name(self, node: ast.Name) -> Value:
        context, name = self.stack[-1], node.id
        if name in context.shapes:
            return Tuple(tuple(self.local(context, f"{name}.{i}", node) for i in range(context.shapes[name])))
        if name in context.variables or name in context.names:
            return self.local(context, name, node)
        if name in context.source.function.__code__.co_varnames:
            raise CompileError(f"`{name}` may be unset here", self.span(node))
        found = free(context.source.function, name)
        if found is MISSING:
            known = [*context.source.function.__globals__, *context.variables, *context.names]
            raise CompileError(f"name `{name}` is not defined{self.similar(name, known)}", self.span(node))
        if isinstance(found, (int, tuple, frozenset)):
            self.folded[f"{context.source.file}:{name}"] = found
        return Static(found)

    def local(self, context: Context, name: str, node: ast.AST) -> Value:
        if name in context.variables:
            return self.read(context.variables[name], self.span(node))
        return context.names[name]

    def expr_Tuple(self, node: ast.Tuple) -> Value:
        values = self.operands(node.elts)
        if all(isinstance(v, Static) for v in values):
            return Static(tuple(v.value for v in values if isinstance(v, Static)))
        return Tuple(tuple(values))

    def expr_NamedExpr(self, node: ast.NamedExpr) -> Value:
        self.store(node.target, self.visit(node.value))
        return self.visit(node.target)

    def expr_Attribute(self, node: ast.Attribute) -> Value:
        owner, name, span = self.visit(node.value), node.attr, self.span(node)
        match owner:
            case Instance():
                return self._own(name, span)
            case Part(path=path, component=component):
                return self._part(path, component, name, span)
            case Configuration():
                return self._config(name, span)
            case Frame():
                rule = primitives.ATTRIBUTES.get(name)
                if rule is not None:
                    return rule(self, span)
                return Method(self._method(Packet, name, span, "the packet"), owner)
            case TableRef(spec=spec):
                return Method(self._method(TABLES[spec.kind], name, span, f"`{spec.name}`"), owner)
            case Static(value=thing):
                try:
                    found = getattr(thing, name)
                except AttributeError:
                    message = f"{describe(owner)} has no `{name}`{self.similar(name, dir(thing))}"
                    raise CompileError(message, span) from None
                if isinstance(thing, type) and isinstance(found, property):
                    raise CompileError(f"`{thing.__name__}.{name}` is a field: read it on a parsed header", span)
                return Static(found)
            case ir.Expr(type=ir.View()):
                return self.field(node, self.view(node.value, owner), name)
            case ir.Expr(type=ir.TableHandle(spec=spec)):
                return Method(self._method(TABLES[spec.kind], name, span, f"`{spec.name}`"), owner)
        raise CompileError(f"{describe(owner)} has no `{name}`", span)

    def _own(self, name: str, span: Span) -> Value:
        if name == "config":
            return Configuration()
        if name in self.spec.tables:
            return TableRef(self.spec.tables[name])
        if name in self.spec.ports:
            return Static(self.spec.ports[name])
        if name in self.spec.parts:
            return Part(name, self.spec.parts[name])
        found = getattr(self.kind, name, MISSING)
        if found is MISSING:
            known = [*self.spec.tables, *self.spec.parts, *self.spec.ports, *vars(self.kind)]
            raise CompileError(f"{self.kind.__name__} has no `{name}`{self.similar(name, known)}", span)
        if isinstance(vars(self.kind).get(name), staticmethod):
            return Static(found)
        return Method(found, Instance()) if isinstance(found, FunctionType) else Static(found)

    def _part(self, path: str, component: Component, name: str, span: Span) -> Value:
        if name == "config":
            return Configuration()
        if f"{path}.{name}" in self.spec.tables:
            return TableRef(self.spec.tables[f"{path}.{name}"])
        if name in component.constants:
            return Static(component.constants[name])
        kind = type(component)
        found = getattr(kind, name, MISSING)
        if found is MISSING or found is None or name.startswith("__"):
            tables = [table.removeprefix(f"{path}.") for table in self.spec.tables if table.startswith(f"{path}.")]
            known = [*tables, *component.constants, *vars(kind)]
            raise CompileError(f"{kind.__name__} has no `{name}`{self.similar(name, known)}", span)
        return Method(found, Part(path, component)) if isinstance(found, FunctionType) else Static(found)

    def _config(self, name: str, span: Span) -> Value:
        layout, types = self.spec.config.layout, self.spec.config.types
        if name in layout.fields:
            bits = layout.fields[name].bits
            if types[name] is bool:
                value = ir.ConfigField(span, ir.Int(), name, bits)
                return ir.Compare(span, ir.Bool(), "!=", value, self.constant(span, 0))
            return ir.ConfigField(span, ir.Int(128 if bits > 64 else 64), name, bits)
        if name in types:
            raise CompileError(f"`config.{name}` is not a number: let `configure` put it into a table", span)
        message = f"{self.spec.config.__name__} has no field `{name}`{self.similar(name, types)}"
        raise CompileError(message, span)

    def _method(self, kind: type, name: str, span: Span, what: str) -> Callable[..., Any]:
        found = getattr(kind, name, None)
        if found is None or name.startswith("_"):
            rules = {rule.__name__ for rule in primitives.RULES if hasattr(rule, "__qualname__")}
            known = [n for n in dir(kind) if n in rules or n in primitives.ATTRIBUTES]
            raise CompileError(f"{what} has no `{name}`{self.similar(name, known)}", span)
        return cast(Callable[..., Any], found)

    # -- subscripts -------------------------------------------------------------------------------------------------

    def expr_Subscript(self, node: ast.Subscript) -> Value:
        owner, index = self.operands([node.value, node.slice])
        span = self.span(node)
        if isinstance(owner, (TableRef, ir.Expr)):
            table = self.table(node.value, owner)
            return self.item(node, table, self.key(node.slice, table, index))
        if isinstance(owner, Tuple) and isinstance(index, Static):
            if not isinstance(index.value, int) or not -len(owner.items) <= index.value < len(owner.items):
                raise CompileError(f"this tuple has {len(owner.items)} items", span)
            return owner.items[index.value]
        if isinstance(owner, Static) and isinstance(owner.value, Ports) and isinstance(index, ir.Expr):
            family = owner.value
            within = ir.Call(span, ir.Int(), "within", [self.integer(node.slice, index)], (0, family.count - 1))
            return ir.Binary(span, ir.Int(), "+", within, self.constant(span, family.first))
        if isinstance(owner, Static) and isinstance(index, Static):
            try:
                return Static(owner.value[index.value])
            except Exception as error:
                raise CompileError(f"{type(error).__name__}: {error}", span) from None
        raise NotInLanguage(f"{describe(owner)} cannot be indexed by {describe(index)}", span)

    # -- operators ---------------------------------------------------------------------------------------------------

    def expr_BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.operands([node.left, node.right])
        return self.binary(node, node.op, left, right)

    def binary(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        span = self.span(node)
        if type(op) not in OPERATORS:
            raise NotInLanguage(UNKNOWN[type(op)], span)
        symbol, function = OPERATORS[type(op)]
        if isinstance(left, Static) and isinstance(right, Static):
            return self.fold(span, lambda: function(left.value, right.value))
        a, b = self.integer(getattr(node, "left", node), left), self.integer(getattr(node, "right", node), right)
        kind = self.wider(a, b)
        small = any(isinstance(x, ir.Const) and 0 <= x.value < 1 << 64 for x in (a, b))
        if kind.bits == 128 and symbol == "&" and small:
            kind = ir.Int()                             # what is left of a wide value fits in 64 bits
        result = ir.Binary(span, kind, symbol, a, b)  # type: ignore[arg-type]
        if kind.bits == 128 and symbol == ">>" and isinstance(b, ir.Const) and b.value >= 64:
            return ir.Binary(span, ir.Int(), "&", result, self.constant(span, (1 << 64) - 1))
        return result

    def expr_UnaryOp(self, node: ast.UnaryOp) -> Value:
        span = self.span(node)
        if isinstance(node.op, ast.Not):
            return self.negated(span, self.condition(node.operand))
        value = self.visit(node.operand)
        if isinstance(value, Static):
            return self.fold(span, lambda: UNARY[type(node.op)](value.value))
        operand = self.integer(node.operand, value)
        if isinstance(node.op, ast.UAdd):
            return operand
        return ir.Unary(span, operand.type, "-" if isinstance(node.op, ast.USub) else "~", operand)

    # -- calls -------------------------------------------------------------------------------------------------------

    def expr_Call(self, node: ast.Call, tail: bool = False) -> Value:
        callee, span = self.visit(node.func), self.span(node)
        if isinstance(callee, Method):
            rule = primitives.RULES.get(callee.function)
            if rule is not None:
                return rule(self, primitives.Request(node, span, callee.owner, tail))
            if isinstance(callee.owner, (Instance, Part)):
                return self.inline(node, callee.function, [callee.owner], tail)
            what = describe(callee.owner)
            raise CompileError(f"`{callee.function.__name__}` of {what} is not for the data path", span)
        if not isinstance(callee, Static):
            raise CompileError(f"{describe(callee)} cannot be called", self.span(node.func))
        target = callee.value
        try:
            rule = primitives.RULES.get(target)
        except TypeError:
            rule = None
        if rule is not None:
            return rule(self, primitives.Request(node, span, None, tail))
        if getattr(target, "__inline__", False):
            return self.inline(node, target, [], tail)
        if isinstance(target, type) and issubclass(target, Layout):
            return self._construct(node, target)
        positional, named = self.arguments(node)
        values = [*positional, *named.values()]
        if callable(target) and all(isinstance(v, Static) for v in values):
            fixed = [v.value for v in positional if isinstance(v, Static)]
            keywords = {k: v.value for k, v in named.items() if isinstance(v, Static)}
            return self.fold(span, lambda: target(*fixed, **keywords))
        name = getattr(target, "__name__", repr(target))
        hint = ": mark it @inline" if isinstance(target, FunctionType) else ""
        if isinstance(target, type) and issubclass(target, Enum):
            hint = ": compare with its members instead"
        raise NotInLanguage(f"`{name}` cannot be called in the data path{hint}", span)

    def _construct(self, node: ast.Call, layout: type[Layout]) -> Value:
        span = self.span(node)
        if issubclass(layout, Header):
            raise NotInLanguage(f"a header lies in a packet: `pkt.push({layout.__name__})` or `pkt.parse(…)`", span)
        if issubclass(layout, Metadata):
            raise NotInLanguage(f"metadata travels with the packet: `pkt.meta({layout.__name__})`", span)
        positional, named = self.arguments(node)
        if positional:
            raise CompileError(f"{layout.__name__} takes its fields by name", span)
        for name in named:
            if name not in layout.fields:
                raise CompileError(f"{layout.__name__} has no field `{name}`{self.similar(name, layout.fields)}", span)
        for name in layout.fields:
            if name not in named and name not in layout.defaults:
                raise CompileError(f"{layout.__name__} needs `{name}`", span)
        if list(named) != [name for name in layout.fields if name in named]:
            named = {name: self.kept(value) for name, value in named.items()}      # evaluated as they are written
        args = [self.integer(node, named.get(n, Static(layout.defaults.get(n, 0)))) for n in layout.fields]
        return ir.Call(span, ir.View(layout, "memory"), "record", args, (layout,))


__all__ = ["Expressions", "Record"]
