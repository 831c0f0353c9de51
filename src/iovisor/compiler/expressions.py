"""From syntax trees to the intermediate representation: expressions.

An expression is a `Value`: what is known while compiling stays Python and is computed by Python; the rest becomes
nodes.  Conditions keep their shape (`and`, `or`, `not`), because check.py learns from them what is present and how
large it is.  Whatever has to run before a value is known is appended to `out`; an operand that does so makes the
operands before it move into variables, so that the order of evaluation stays Python's.
"""
from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, cast

from ..language.function import Function, FunctionSpec
from ..language.integers import width
from ..language.layout import Header, Layout, Metadata, Record
from ..language.packet import Packet
from ..language.ports import Ports
from ..language.tables import TABLES
from ..language.verdicts import Verdict
from . import ir, primitives
from .errors import CompileError, NotInLanguage, Span
from .source import MISSING, free
from .values import Configuration, Frame, Instance, Method, Static, TableRef, Tuple, Value, describe

if TYPE_CHECKING:
    from .build import Context

OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv), ast.Mod: ("%", operator.mod), ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_), ast.BitXor: ("^", operator.xor), ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift)}
RELATIONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne), ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge)}
BY_SYMBOL = {symbol: function for symbol, function in RELATIONS.values()}


class Expressions:
    """The half of the builder that knows expressions."""

    kind: type[Function]
    spec: FunctionSpec
    stack: list[Context]
    inline: Callable[[ast.Call, Callable[..., Any], list[Value], bool], Value]
    store: Callable[[ast.expr, Value], None]
    assign: Callable[..., None]
    verdict: Callable[[ast.AST, Value], ir.Expr]

    def __init__(self) -> None:
        self.out: list[ir.Stmt] = []
        self.temporaries = 0
        self.folded: dict[str, Any] = {}

    # -- the walk --------------------------------------------------------------------------------------------------

    def visit(self, node: ast.expr, tail: bool = False) -> Value:
        """What an expression stands for.  `tail`: its verdict leaves the program."""
        method = getattr(self, "expr_" + type(node).__name__, None)
        if method is None:
            what = type(node).__name__.removesuffix("Exp").lower()
            raise NotInLanguage(f"{what} expressions are not part of the language", self.span(node))
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
                values = [self.read(self.bind(v), v.span) if isinstance(v, ir.Expr) and not isinstance(v, ir.Const) else v
                          for v in values]
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

    # -- leaves ----------------------------------------------------------------------------------------------------

    def expr_Constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, (int, type(None))):
            return Static(node.value)
        raise NotInLanguage(f"{type(node.value).__name__} values are not part of the language", self.span(node))

    def expr_Name(self, node: ast.Name) -> Value:
        context, name = self.stack[-1], node.id
        if name in context.shapes:
            return Tuple(tuple(self._local(context, f"{name}.{i}", node) for i in range(context.shapes[name])))
        if name in context.variables or name in context.names:
            return self._local(context, name, node)
        if name in context.source.function.__code__.co_varnames:
            raise CompileError(f"`{name}` may be unset here", self.span(node))
        found = free(context.source.function, name)
        if found is MISSING:
            known = [*context.source.function.__globals__, *context.variables, *context.names]
            raise CompileError(f"name `{name}` is not defined{self.similar(name, known)}", self.span(node))
        if isinstance(found, (int, tuple, frozenset)):
            self.folded[f"{context.source.file}:{name}"] = found
        return Static(found)

    def _local(self, context: Context, name: str, node: ast.AST) -> Value:
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
        found = getattr(self.kind, name, MISSING)
        if found is MISSING:
            known = [*self.spec.tables, *self.spec.ports, *vars(self.kind)]
            raise CompileError(f"{self.kind.__name__} has no `{name}`{self.similar(name, known)}", span)
        if isinstance(vars(self.kind).get(name), staticmethod):
            return Static(found)
        return Method(found, Instance()) if isinstance(found, FunctionType) else Static(found)

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
            known = [n for n in dir(kind) if getattr(kind, n) in primitives.RULES]
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
            raise NotInLanguage(f"`{type(op).__name__}` is not part of the language", span)
        symbol, function = OPERATORS[type(op)]
        if isinstance(left, Static) and isinstance(right, Static):
            return self.fold(span, lambda: function(left.value, right.value))
        a, b = self.integer(getattr(node, "left", node), left), self.integer(getattr(node, "right", node), right)
        return ir.Binary(span, self.wider(a, b), symbol, a, b)  # type: ignore[arg-type]

    def expr_UnaryOp(self, node: ast.UnaryOp) -> Value:
        span = self.span(node)
        if isinstance(node.op, ast.Not):
            return self.negated(span, self.condition(node.operand))
        value = self.visit(node.operand)
        if isinstance(value, Static):
            functions = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}
            return self.fold(span, lambda: functions[type(node.op)](value.value))  # type: ignore[index]
        operand = self.integer(node.operand, value)
        if isinstance(node.op, ast.UAdd):
            return operand
        return ir.Unary(span, operand.type, "-" if isinstance(node.op, ast.USub) else "~", operand)

    def expr_Compare(self, node: ast.Compare) -> Value:
        values = self.operands([node.left, *node.comparators])
        nodes = [node.left, *node.comparators]
        if len(values) > 2:
            values = [self.read(self.bind(v), v.span) if isinstance(v, ir.Expr) and not isinstance(v, ir.Const) else v
                      for v in values]
        tests: list[ir.Expr | Static] = []
        for i, op in enumerate(node.ops):
            left, right, where = values[i], values[i + 1], nodes[i + 1]
            if isinstance(op, (ast.Is, ast.IsNot)):
                test = self.identity(node, left, right)
                tests.append(test if isinstance(op, ast.Is) else self.negated(self.span(node), test))
            elif isinstance(op, (ast.In, ast.NotIn)):
                test = self.contains(where, left, right)
                tests.append(test if isinstance(op, ast.In) else self.negated(self.span(node), test))
            else:
                tests.append(self.compare(node, RELATIONS[type(op)][0], left, right))
        return self.logic(self.span(node), "and", tests)

    def compare(self, node: ast.AST, symbol: str, left: Value, right: Value) -> ir.Expr | Static:
        span = self.span(node)
        if isinstance(left, Static) and isinstance(right, Static):
            return self.fold(span, lambda: BY_SYMBOL[symbol](left.value, right.value))
        for value in (left, right):
            if isinstance(value, ir.Expr) and isinstance(value.type, ir.Verdict):
                raise NotInLanguage("verdicts are returned, not compared", span)
        a, b = self.integer(node, left), self.integer(node, right)
        return ir.Compare(span, ir.Bool(), symbol, a, b)  # type: ignore[arg-type]

    def identity(self, node: ast.AST, left: Value, right: Value) -> ir.Expr | Static:
        """`left is right`."""
        span = self.span(node)
        if isinstance(left, Static) and isinstance(right, Static):
            return Static(left.value is right.value)
        if isinstance(left, Static) and left.value is None:
            left, right = right, left
        if isinstance(right, Static) and right.value is None:
            if not isinstance(left, ir.Expr) or not left.type.optional:
                return Static(False)
            return ir.Not(span, ir.Bool(), ir.Present(span, ir.Bool(), self.bind(left)))
        if isinstance(left, ir.Expr) and isinstance(left.type, ir.Bool) and isinstance(right, Static):
            return left if right.value else self.negated(span, left)
        raise NotInLanguage("`is` compares with None; use `==` for numbers", span)

    def contains(self, node: ast.expr, item: Value, group: Value) -> ir.Expr | Static:
        """`item in group`."""
        span = self.span(node)
        if isinstance(group, TableRef) or (isinstance(group, ir.Expr) and isinstance(group.type, ir.TableHandle)):
            table = self.table(node, group)
            found = self.lookup(span, table, self.key(node, table, item))
            return ir.Present(span, ir.Bool(), self.bind(found))
        if isinstance(group, Static):
            if isinstance(item, Static):
                return Static(item.value in group.value)
            value = self.read(self.bind(self.integer(node, item)), span)
            if isinstance(group.value, Ports):
                first, last = group.value.first, group.value.first + group.value.count - 1
                return self._between(span, value, first, last)
            if isinstance(group.value, range) and group.value.step == 1:
                return self._between(span, value, group.value.start, group.value.stop - 1)
            members = list(group.value)
            return self.logic(span, "or", [self.compare(node, "==", value, Static(m)) for m in members])
        if isinstance(group, Tuple):
            value = self.read(self.bind(self.integer(node, item)), span)
            return self.logic(span, "or", [self.compare(node, "==", value, m) for m in group.items])
        raise NotInLanguage(f"`in` looks into tables and constant tuples, not into {describe(group)}", span)

    def _between(self, span: Span, value: ir.Expr, first: int, last: int) -> ir.Expr:
        low = ir.Compare(span, ir.Bool(), ">=", value, self.constant(span, first))
        return ir.Logic(span, ir.Bool(), "and", low, ir.Compare(span, ir.Bool(), "<=", value, self.constant(span, last)))

    def expr_BoolOp(self, node: ast.BoolOp) -> Value:
        symbol = "and" if isinstance(node.op, ast.And) else "or"
        first = self.visit(node.values[0])
        for other in node.values[1:]:
            if isinstance(first, Static):
                if bool(first.value) == (symbol == "or"):
                    return first
                first = self.visit(other)
                continue
            if isinstance(first, ir.Expr) and isinstance(first.type, ir.Int) and not first.type.optional:
                first = self._either(node, symbol, first, other)
                continue
            test = self.truth(node, first)
            with self.collect() as body:
                second = self.condition(other)
            first = self.logic(self.span(node), symbol, [test, self.sequence(body, second)])
        return first

    def _either(self, node: ast.BoolOp, symbol: str, first: ir.Expr, other: ast.expr) -> ir.Expr:
        """`a or b`, `a and b` on integers: an integer."""
        span, kept = self.span(node), self.bind(first)
        test = self.truth(node, self.read(kept, span))
        assert isinstance(test, ir.Expr)
        with self.collect() as body:
            value = self.visit(other)
            if isinstance(value, ir.Expr) and isinstance(value.type, ir.Bool):
                return ir.Logic(span, ir.Bool(), symbol, test, self._sequenced(body, value))  # type: ignore[arg-type]
            second = self.integer(other, value)
        second = self._sequenced(body, second)
        yes, no = (second, self.read(kept, span)) if symbol == "and" else (self.read(kept, span), second)
        return ir.Choose(span, self.wider(yes, no), test, yes, no)

    def expr_IfExp(self, node: ast.IfExp, tail: bool = False) -> Value:
        test = self.condition(node.test)
        if isinstance(test, Static):
            return self.visit(node.body if test.value else node.orelse, tail)
        span = self.span(node)
        if tail:
            arms = []
            for arm in (node.body, node.orelse):
                with self.branch() as body:
                    value = self.visit(arm, tail=True)
                    if not (isinstance(value, Tuple) and not value.items):
                        self.out.append(ir.Exit(self.span(arm), self.verdict(arm, value)))
                arms.append(body)
            self.out.append(ir.If(self.span(node.test), test, *arms))
            return Tuple(())
        values: list[tuple[list[ir.Stmt], Value]] = []
        for arm in (node.body, node.orelse):
            with self.branch() as body:
                value = self.visit(arm)
            values.append((body, value))
        if any(body for body, _ in values) or not all(self._scalar(v) for _, v in values):
            return self._chosen(node, test, values)
        yes, no = (self._arm(node, value) for _, value in values)
        if isinstance(yes.type, ir.Int) or isinstance(no.type, ir.Int):
            yes, no = self.integer(node.body, yes), self.integer(node.orelse, no)
        if isinstance(yes.type, ir.Int):
            return ir.Choose(span, self.wider(yes, no), test, yes, no)
        if type(yes.type) is not type(no.type):
            raise CompileError(f"this is {describe(yes)} or {describe(no)}: make both the same", span)
        return ir.Choose(span, yes.type, test, yes, no)

    def _scalar(self, value: Value) -> bool:
        if isinstance(value, ir.Expr):
            return isinstance(value.type, (ir.Int, ir.Bool, ir.Verdict)) and not value.type.optional
        return isinstance(value, Static) and isinstance(value.value, (int, Verdict))

    def _arm(self, node: ast.IfExp, value: Value) -> ir.Expr:
        runtime = self.runtime(value, self.span(node))
        assert runtime is not None
        return runtime

    def _chosen(self, node: ast.IfExp, test: ir.Expr, values: list[tuple[list[ir.Stmt], Value]]) -> Value:
        """A choice of views or tuples, or one whose arms must run statements: an `if` that assigns."""
        name, bodies, span = self.fresh("choice"), [], self.span(node)
        for body, value in values:
            with self.collect() as assigned:
                self.out.extend(body)
                self.assign(name, value, span, "this choice")
            bodies.append(assigned)
        self.out.append(ir.If(span, test, *bodies))
        context = self.stack[-1]
        if name in context.shapes:
            return Tuple(tuple(self._local(context, f"{name}.{i}", node) for i in range(context.shapes[name])))
        return self._local(context, name, node)

    # -- conditions ----------------------------------------------------------------------------------------------------

    def condition(self, node: ast.expr) -> ir.Expr | Static:
        """An expression as a test; a constant one is `Static`."""
        if isinstance(node, ast.BoolOp):
            symbol: Literal["and", "or"] = "and" if isinstance(node.op, ast.And) else "or"
            tests: list[ir.Expr | Static] = [self.condition(node.values[0])]
            for other in node.values[1:]:
                if isinstance(tests[-1], Static) and bool(tests[-1].value) == (symbol == "or"):
                    break
                with self.collect() as body:
                    test = self.condition(other)
                tests.append(self.sequence(body, test))
            return self.logic(self.span(node), symbol, tests)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.negated(self.span(node), self.condition(node.operand))
        return self.truth(node, self.visit(node))

    def truth(self, node: ast.AST, value: Value) -> ir.Expr | Static:
        """Whether Python would call a value true."""
        span = self.span(node)
        match value:
            case Static(value=thing):
                return Static(bool(thing))
            case ir.Expr(type=ir.Bool()):
                return value
            case ir.Expr(type=ir.Int(optional=True)):
                var = self.bind(value)
                present = ir.Present(span, ir.Bool(), var)
                number = ir.Unwrap(span, with_bits(var.type), var)
                nonzero = ir.Compare(span, ir.Bool(), "!=", number, self.constant(span, 0))
                return ir.Logic(span, ir.Bool(), "and", present, nonzero)
            case ir.Expr(type=ir.Int()):
                return ir.Compare(span, ir.Bool(), "!=", value, self.constant(span, 0))
            case ir.Expr(type=ir.View() | ir.NoneType()):
                return ir.Present(span, ir.Bool(), self.bind(value)) if value.type.optional else Static(True)
        raise CompileError(f"{describe(value)} is not a condition", span)

    def logic(self, span: Span, symbol: str, tests: list[ir.Expr | Static]) -> ir.Expr | Static:
        """`and` or `or` of tests, constants folded away."""
        total: ir.Expr | Static = Static(symbol == "and")
        for test in tests:
            if isinstance(total, Static):
                if bool(total.value) == (symbol == "or"):
                    return total
                total = test
            elif isinstance(test, Static):
                if bool(test.value) == (symbol == "or"):
                    return test if not _effects(total) else ir.Logic(
                        span, ir.Bool(), symbol, total, self._bool(span, test))  # type: ignore[arg-type]
            else:
                total = ir.Logic(span, ir.Bool(), symbol, total, test)  # type: ignore[arg-type]
        return total

    def negated(self, span: Span, test: ir.Expr | Static) -> ir.Expr | Static:
        if isinstance(test, Static):
            return Static(not test.value)
        return test.operand if isinstance(test, ir.Not) else ir.Not(span, ir.Bool(), test)

    def sequence(self, body: list[ir.Stmt], value: ir.Expr | Static) -> ir.Expr | Static:
        """`value` after `body`, inside an expression."""
        if not body:
            return value
        if isinstance(value, Static):
            value = self._bool(body[-1].span, value)
        return self._sequenced(body, value)

    def _sequenced(self, body: list[ir.Stmt], value: ir.Expr) -> ir.Expr:
        return ir.Sequence(value.span, value.type, body, value) if body else value

    def _bool(self, span: Span, value: Static) -> ir.Expr:
        return ir.Const(span, ir.Bool(), int(bool(value.value)))

    # -- calls -----------------------------------------------------------------------------------------------------------

    def expr_Call(self, node: ast.Call, tail: bool = False) -> Value:
        callee, span = self.visit(node.func), self.span(node)
        if isinstance(callee, Method):
            rule = primitives.RULES.get(callee.function)
            if rule is not None:
                return rule(self, primitives.Request(node, span, callee.owner, tail))
            if isinstance(callee.owner, Instance):
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
        args = [self.integer(node, named.get(n, Static(layout.defaults.get(n, 0)))) for n in layout.fields]
        return ir.Call(span, ir.View(layout, "memory"), "record", args, (layout,))

    def fold(self, span: Span, compute: Callable[[], Any]) -> Static:
        """What Python makes of constants."""
        try:
            return Static(compute())
        except Exception as error:
            raise CompileError(f"{type(error).__name__}: {error}", span) from None

    # -- what values can be used as ------------------------------------------------------------------------------------------

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
        from ..language.verdicts import Dropped
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
        if isinstance(spec.value, type) and issubclass(spec.value, Layout):
            stored: ir.Expr = self.read(self.view(node, value), span)
            if not (isinstance(stored.type, ir.View) and stored.type.layout is spec.value):
                raise CompileError(f"`{spec.name}` holds {spec.value.__name__}, this is {describe(value)}", span)
        else:
            stored = self.integer(node, value)
        return ir.Call(span, ir.Bool(), "put", [*self.of(table), key, stored], (spec, mode))

    def set_item(self, node: ast.AST, table: TableRef, key: ir.Expr, value: Value) -> None:
        """`table[key] = value`: rejects what does not fit."""
        from ..language.verdicts import Dropped
        span = self.span(node)
        full = ir.Reject(span, self.constant(span, Dropped.TABLE_FULL))
        stored = self.put(node, table, key, value, 0)
        self.out.append(ir.If(span, ir.Not(span, ir.Bool(), stored), [full], []))

    # -- small things ------------------------------------------------------------------------------------------------------------

    def bind(self, value: Value) -> ir.Var:
        """The variable that holds a value; a new one unless it already is one."""
        assert isinstance(value, ir.Expr)
        if isinstance(value, ir.Read):
            return value.var
        self.temporaries += 1
        var = ir.Var(f"t{self.temporaries}", value.type)
        self.out.append(ir.Let(value.span, var, value))
        return var

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


def with_bits(kind: ir.Type) -> ir.Int:
    """An optional integer's type, present."""
    return ir.Int(kind.bits if isinstance(kind, ir.Int) else 64)


def _effects(expr: ir.Expr) -> bool:
    return any(isinstance(n, (ir.Call, ir.Sequence)) for n in ir.walk(expr))


_SPAN = Span(None, 0, 0, 0, 0)  # type: ignore[arg-type]
__all__ = ["Expressions", "Record"]
