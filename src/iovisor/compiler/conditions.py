"""From syntax trees to the intermediate representation: comparisons, choices and conditions.

Conditions keep their shape (`and`, `or`, `not`, chains), because check.py learns from them what is present and how
large it is, and because Python does not evaluate what decides nothing.  As *values* `a or b` is one of its operands
and not a truth: so it is here, unless both are truths.
"""
from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ..language.ports import Ports
from ..language.verdicts import Verdict
from . import ir
from .errors import CompileError, NotInLanguage, Span
from .operands import Operands, with_bits
from .values import Static, TableRef, Tuple, Value, describe

if TYPE_CHECKING:
    from .build import Context

RELATIONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne), ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge)}
BY_SYMBOL = {symbol: function for symbol, function in RELATIONS.values()}


class Conditions(Operands):
    """The part of the builder that knows tests."""

    visit: Callable[..., Value]
    operands: Callable[[Iterable[ast.expr]], list[Value]]
    assign: Callable[..., None]
    local: Callable[[Context, str, ast.AST], Value]
    verdict: Callable[[ast.AST, Value], ir.Expr]

    def expr_Compare(self, node: ast.Compare) -> Value:
        """A chain stops at the first that does not hold, and evaluates what stands in the middle once."""
        left, right = self.operands([node.left, node.comparators[0]])
        tests: list[ir.Expr | Static] = []
        for index, (op, where) in enumerate(zip(node.ops, node.comparators, strict=True)):
            with self.collect() as body:
                if index:
                    left, right = right, self.visit(where)
                later = (n for c in node.comparators[index + 1:] for n in ast.walk(c))
                if index + 1 < len(node.ops) and (not isinstance(right, ir.Read)
                                                  or any(isinstance(n, ast.NamedExpr) for n in later)):
                    right = self.kept(right)            # a variable stays itself, so that the test teaches about it
                test = self.relation(node, where, op, left, right)
            if not index:
                self.out.extend(body)
            tests.append(self.sequence(body, test) if index else test)
            if isinstance(test, Static) and not test.value:
                break
        return self.logic(self.span(node), "and", tests)

    def relation(self, node: ast.Compare, where: ast.expr, op: ast.cmpop, left: Value,
                 right: Value) -> ir.Expr | Static:
        """One comparison."""
        if isinstance(op, (ast.Is, ast.IsNot)):
            test = self.identity(node, left, right)
        elif isinstance(op, (ast.In, ast.NotIn)):
            test = self.contains(where, left, right)
        else:
            return self.compare(node, RELATIONS[type(op)][0], left, right)
        return test if isinstance(op, (ast.Is, ast.In)) else self.negated(self.span(node), test)

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
        high = ir.Compare(span, ir.Bool(), "<=", value, self.constant(span, last))
        return ir.Logic(span, ir.Bool(), "and", low, high)

    def expr_BoolOp(self, node: ast.BoolOp) -> Value:
        symbol: Literal["and", "or"] = "and" if isinstance(node.op, ast.And) else "or"
        first = self.visit(node.values[0])
        for other in node.values[1:]:
            if isinstance(first, Static):
                if bool(first.value) == (symbol == "or"):
                    return first
                first = self.visit(other)
            else:
                first = self._either(node, symbol, first, other)
        return first

    def _either(self, node: ast.BoolOp, symbol: Literal["and", "or"], first: Value, other: ast.expr) -> Value:
        """`a or b`, `a and b`: one of the two.  Truths stay a truth; with a number it is a number."""
        span = self.span(node)
        if not isinstance(first, ir.Expr) or not isinstance(first.type, (ir.Int, ir.Bool)):
            where = first.span if isinstance(first, ir.Expr) else span
            raise CompileError(f"as a value, `{symbol}` chooses between numbers, and this is {describe(first)}: write "
                               "a test, e.g. `x is not None and …`, or `x if … else y`", where)
        kept = self.bind(first)
        test = self.truth(node.values[0], self.read(kept, span))
        assert isinstance(test, ir.Expr)
        with self.collect() as body:
            second = self.runtime(self.visit(other), self.span(other))
            if second is None or not isinstance(second.type, (ir.Int, ir.Bool)):
                raise CompileError(f"as a value, `{symbol}` chooses between numbers", self.span(other))
            if isinstance(first.type, ir.Int) or isinstance(second.type, ir.Int):
                second = self.integer(other, second)
        if isinstance(second.type, ir.Bool):
            return ir.Logic(span, ir.Bool(), symbol, test, self._sequenced(body, second))
        with self.collect() as unwrapped:
            mine = self.integer(node.values[0], self.read(kept, first.span))
        assert not unwrapped
        second = self._sequenced(body, second)
        yes, no = (second, mine) if symbol == "and" else (mine, second)
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
        kinds = [type(r.type) for _, value in values if (r := self.runtime(value, span)) is not None]
        for body, value in values:
            with self.collect() as assigned:
                self.out.extend(body)
                value = self.integer(node, value) if kinds in ([ir.Int, ir.Bool], [ir.Bool, ir.Int]) else value
                self.assign(name, value, span, "this choice")
            bodies.append(assigned)
        self.out.append(ir.If(span, test, *bodies))
        context = self.stack[-1]
        if name in context.shapes:
            return Tuple(tuple(self.local(context, f"{name}.{i}", node) for i in range(context.shapes[name])))
        return self.local(context, name, node)

    # -- conditions --------------------------------------------------------------------------------------------------

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


def _effects(expr: ir.Expr) -> bool:
    return any(isinstance(n, (ir.Call, ir.Sequence)) for n in ir.walk(expr))
