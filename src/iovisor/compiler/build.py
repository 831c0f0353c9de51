"""From syntax trees to the intermediate representation: statements, and the inlining of functions.

One method a syntax node.  A call of a method or an `@inline` function is built where it stands, with its own variables,
its own types and its own source positions; LLVM's inliner is never asked.  In tail position (`return self.route(pkt)`)
a returned verdict leaves the program at once, so that a constant verdict stays constant.

The order of evaluation is Python's.  An operand that must run statements (an inlined call, a walrus) makes the operands
before it move into variables first.
"""
from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..language.function import Function
from ..language.integers import width
from ..language.layout import Header
from . import ir
from .errors import CompileError, NotInLanguage, Scope, Span
from .expressions import Expressions
from .source import Source, hints_of, source_of
from .values import Frame, Instance, Static, Tuple, Value, describe, describe_type

DEEPEST = 24        # inlined calls within calls; deeper is a recursion nobody meant


@dataclass
class Context:
    """One function being built, at one place."""

    source: Source
    scope: Scope
    prefix: str
    tail: bool                                              # its `return` leaves the program
    names: dict[str, Value] = field(default_factory=dict)   # what is known while compiling
    variables: dict[str, ir.Var] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)    # names bound to tuples, and how many items they have
    claims: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    leaves: bool = False
    returned: bool = False                                  # some `return` had a value
    loops: list[str] = field(default_factory=list)


class Builder(Expressions):
    """Builds one entry of one kind."""

    def __init__(self, kind: type[Function], entry: str) -> None:
        super().__init__()
        self.kind, self.entry, self.spec = kind, entry, kind.spec()
        self.stack: list[Context] = []
        self.counters: dict[str, int] = {}
        self.reached: dict[str, Source] = {}

    def build(self) -> ir.Program:
        """The program; everything it reached is in `reached` and `folded`."""
        function = getattr(self.kind, self.entry)
        source = source_of(function)
        span = self._whole(source, source.scope(None))
        parameters = list(inspect.signature(function).parameters)
        if len(parameters) != 2:
            raise CompileError(f"`{self.entry}` takes `self` and the packet", span)
        with self.collect() as body:
            with self._inside(source, None, tail=True) as context:
                context.names |= {parameters[0]: Instance(), parameters[1]: Frame()}
                self._body(source, span)
        return ir.Program(self.kind.__name__, self.entry, span, body)

    # -- functions ------------------------------------------------------------------------------------------------

    def inline(self, node: ast.Call, function: Callable[..., Any], owner: list[Value], tail: bool) -> Value:
        """The body of `function` in place of the call."""
        span = self.span(node)
        if len(self.stack) > DEEPEST or any(c.source.function is function for c in self.stack):
            raise NotInLanguage(f"`{function.__name__}` calls itself: recursion is not part of the language", span)
        source = source_of(function, span)
        positional, named = self.arguments(node)
        try:
            bound = inspect.signature(function).bind(*owner, *positional, **named)
        except TypeError as error:
            raise CompileError(f"`{function.__name__}`: {error}", span) from None
        hints = hints_of(function, span)
        with self.collect() as body, self._inside(source, span, tail) as context:
            for name, parameter in inspect.signature(function).parameters.items():
                if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    raise NotInLanguage(f"`{function.__name__}` takes *{name}: give each parameter a name", span)
                value = bound.arguments[name] if name in bound.arguments else Static(parameter.default)
                self._parameter(span, context, function, name, value, hints.get(name))
            if getattr(function, "__walked_once__", False):
                self.out.append(ir.Do(span, ir.Call(span, ir.NoneType(), "forget", [])))
            self._body(source, span)
        if context.leaves:
            self.out.append(ir.Block(span, context.label, body))
        else:
            self.out.extend(body)
        if tail:
            return Tuple(())
        return self._returned(span, context)

    def _parameter(self, span: Span, context: Context, function: Any, name: str, value: Value, hint: Any) -> None:
        bits = width(hint)
        written = context.source.writes.get(name, 0) > 0
        if isinstance(value, Static) and not written:
            if bits is not None and isinstance(value.value, int) and not 0 <= value.value < 1 << bits:
                raise CompileError(f"{value.value} does not fit `{name}` of `{function.__name__}`, {bits} bits", span)
            context.names[name] = value
            return
        if bits is not None:
            context.claims[name] = hint
        self.assign(name, value, span, f"`{name}` of `{function.__name__}`")

    def _returned(self, span: Span, context: Context) -> Value:
        if "return" in context.shapes:
            names = [f"return.{i}" for i in range(context.shapes["return"])]
            return Tuple(tuple(self._read(context, n, span) for n in names))
        if "return" in context.variables:
            return self._read(context, "return", span)
        return context.names.get("return", Static(None))

    def _read(self, context: Context, name: str, span: Span) -> Value:
        if name in context.variables:
            return self.read(context.variables[name], span)
        return context.names[name]

    def _body(self, source: Source, span: Span) -> None:
        """The statements of the function on top of the stack, and what its end means."""
        context = self.stack[-1]
        self.statements(source.tree.body)
        if ends(self.out) or (not context.tail and isinstance(source.tree.body[-1], ast.Return)):
            return
        last = self._whole(source, context.scope)
        if context.tail:
            raise CompileError(f"a path through `{source.function.__name__}` ends without returning a verdict", last)
        if context.returned:
            self.assign("return", Static(None), span)

    @contextmanager
    def _inside(self, source: Source, caller: Span | None, tail: bool) -> Iterator[Context]:
        name = source.function.__name__
        self.reached[f"{source.file}:{source.function.__qualname__}"] = source
        number = self.counters[name] = self.counters.get(name, -1) + 1
        label = f"{name}.{number}" if number else name
        prefix = f"{label}." if self.stack else ""
        context = Context(source, source.scope(caller), prefix, tail, label=label)
        self.stack.append(context)
        yield context
        self.stack.pop()

    def _whole(self, source: Source, scope: Scope) -> Span:
        tree = source.tree
        return Span(scope, tree.lineno, source.column, tree.lineno, source.column + len("def ") + len(tree.name))

    # -- statements -----------------------------------------------------------------------------------------------

    def statements(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if ends(self.out):
                return
            method = getattr(self, "stmt_" + type(node).__name__, None)
            if method is None:
                raise NotInLanguage(f"`{_keyword(node)}` is not part of the language", self.span(node))
            method(node)

    def stmt_Pass(self, node: ast.Pass) -> None:
        pass

    def stmt_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        value = self.visit(node.value)
        if isinstance(value, ir.Expr) and not isinstance(value, ir.Read):
            self.out.append(ir.Do(self.span(node), value))

    def stmt_Return(self, node: ast.Return) -> None:
        context, span = self.stack[-1], self.span(node)
        if context.tail:
            value = self.visit(node.value, tail=True) if node.value else Static(None)
            if not (isinstance(value, Tuple) and not value.items):
                self.out.append(ir.Exit(span, self.verdict(node.value or node, value)))
            return
        if node.value is not None:
            value = self.visit(node.value)
            context.returned = True
            self.assign("return", value, span, "what is returned")
        if node is not context.source.tree.body[-1]:
            context.leaves = True
            self.out.append(ir.Leave(span, context.label))
        elif node.value is None and context.returned:
            self.assign("return", Static(None), span)

    def stmt_Assign(self, node: ast.Assign) -> None:
        value = self.visit(node.value)
        if len(node.targets) > 1 or not isinstance(node.targets[0], (ast.Name, ast.Tuple)):
            value = self.kept(value)        # evaluated before what stands on the left
        for target in node.targets:
            self.store(target, value)

    def stmt_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise NotInLanguage("only local names are annotated", self.span(node.target))
        context = self.stack[-1]
        hint = self.annotation(node.annotation)
        if width(hint) is not None:
            context.claims[node.target.id] = hint
        if node.value is not None:
            self.store(node.target, self.visit(node.value))

    def stmt_AugAssign(self, node: ast.AugAssign) -> None:
        target, span = node.target, self.span(node)
        if isinstance(target, ast.Name):
            load = ast.copy_location(ast.Name(target.id, ast.Load()), target)
            left, right = self.operands([load, node.value])
            self.store(target, self.binary(node, node.op, left, right))
        elif isinstance(target, ast.Attribute):
            view = self.view(target.value, self.visit(target.value))
            left = self.field(target, view, target.attr)
            with self.collect() as before:
                right = self.visit(node.value)
            if before:
                left = self.read(self.bind(left), span)
                self.out.extend(before)
            value = self.integer(node, self.binary(node, node.op, left, right))
            added = self.integer(node.value, right) if isinstance(node.op, ast.Add) else None
            self.set_field(target, view, value, added)
        elif isinstance(target, ast.Subscript):
            table = self.table(target.value, self.visit(target.value))
            key = self.key(target.slice, table, self.visit(target.slice))
            left = self.item(target, table, key)
            self.set_item(target, table, key, self.binary(node, node.op, left, self.visit(node.value)))
        else:
            raise NotInLanguage("cannot assign to this", span)

    def stmt_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Subscript):
                raise NotInLanguage("only table entries are deleted: `del table[key]`", self.span(target))
            table = self.table(target.value, self.visit(target.value))
            if table.spec.kind in ("array", "counter", "lpm") or table.spec.inner is not None:
                message = f"entries of `{table.spec.name}` are not deleted in the data path"
                raise CompileError(message, self.span(target))
            key = self.key(target.slice, table, self.visit(target.slice))
            self.movable(table, self.span(target), "removed")
            call = ir.Call(self.span(target), ir.NoneType(), "delete", [*self.of(table), key], (table.spec,))
            self.out.append(ir.Do(self.span(target), call))

    def stmt_If(self, node: ast.If) -> None:
        test = self.condition(node.test)
        if isinstance(test, Static):
            self.statements(node.body if test.value else node.orelse)
            return
        with self.branch() as then:
            self.statements(node.body)
        with self.branch() as orelse:
            self.statements(node.orelse)
        self.out.append(ir.If(self.span(node.test), test, then, orelse))

    def stmt_For(self, node: ast.For) -> None:
        span, context = self.span(node), self.stack[-1]
        if node.orelse:
            raise NotInLanguage("`else` of a loop is not part of the language", span)
        if isinstance(node.iter, ast.Call) and self.visit(node.iter.func) == Static(range):
            self._range(node, node.iter)
            return
        items = self.visit(node.iter)
        if isinstance(items, Static):
            try:
                items = Tuple(tuple(map(Static, items.value)))
            except TypeError:
                pass
        if not isinstance(items, Tuple):
            raise NotInLanguage("loops run over `range(…)` or over a constant tuple", self.span(node.iter))
        label = self.fresh("each")
        with self.branch() as whole:
            for item in items.items:
                context.loops.append(label)
                with self.collect() as turn:
                    self.store(node.target, item)
                    self.statements(node.body)
                context.loops.pop()
                self.out.append(ir.Block(span, f"{label}.next", turn))
        self.out.append(ir.Block(span, label, whole))

    def _range(self, node: ast.For, call: ast.Call) -> None:
        span, context = self.span(node), self.stack[-1]
        if call.keywords or not 1 <= len(call.args) <= 3:
            raise NotInLanguage("write `range(stop)`, `range(start, stop)` or `range(start, stop, step)`", span)
        bounds = [self.integer(n, v) for n, v in zip(call.args, self.operands(call.args), strict=True)]
        step = 1
        if len(bounds) == 3:
            last = bounds.pop()
            if not isinstance(last, ir.Const) or last.value < 1:
                raise NotInLanguage("the step of a loop is a positive constant", self.span(call.args[2]))
            step = last.value
        start = bounds.pop(0) if len(bounds) == 2 else self.constant(span, 0)
        stop = self.read(self.bind(bounds[0]), span)
        start = self.read(self.bind(start), span) if not isinstance(start, ir.Const) else start
        label = self.fresh("loop")
        counter = ir.Var(f"{label}.i", ir.Int())
        context.loops.append(label)
        with self.branch() as body:
            self.store(node.target, self.read(counter, span))
            with self.collect() as turn:
                self.statements(node.body)
            self.out.append(ir.Block(span, f"{label}.next", turn))
        context.loops.pop()
        self.out.append(ir.Loop(span, label, counter, start, stop, step, body))

    def stmt_Break(self, node: ast.Break) -> None:
        self.out.append(ir.Leave(self.span(node), self.stack[-1].loops[-1]))

    def stmt_Continue(self, node: ast.Continue) -> None:
        self.out.append(ir.Leave(self.span(node), f"{self.stack[-1].loops[-1]}.next"))

    def stmt_Match(self, node: ast.Match) -> None:
        subject = self.visit(node.subject)
        subject = self.kept(subject)
        self._cases(node.cases, subject)

    def _cases(self, cases: list[ast.match_case], subject: Value) -> None:
        if not cases:
            return
        case, rest = cases[0], cases[1:]
        span = self.span(case.pattern)
        with self.collect() as captures:
            test = self.matches(case.pattern, subject)
            if case.guard is not None:
                with self.collect() as before:
                    guard = self.condition(case.guard)
                if isinstance(guard, Static):
                    test = test if guard.value else Static(False)
                else:
                    guard = ir.Sequence(span, guard.type, before, guard) if before else guard
                    test = guard if isinstance(test, Static) and test.value else \
                        test if isinstance(test, Static) else ir.Logic(span, ir.Bool(), "and", test, guard)
        self.out.extend(captures)
        if isinstance(test, Static):
            if test.value:
                self.statements(case.body)
            else:
                self._cases(rest, subject)
            return
        with self.branch() as then:
            self.statements(case.body)
        with self.branch() as orelse:
            self._cases(rest, subject)
        self.out.append(ir.If(span, test, then, orelse))

    def matches(self, pattern: ast.pattern, subject: Value) -> ir.Expr | Static:
        """Whether `subject` matches, as a condition; captures are assigned on the way."""
        span = self.span(pattern)
        match pattern:
            case ast.MatchValue(value=node):
                return self.compare(node, "==", subject, self.visit(node))
            case ast.MatchSingleton(value=value):
                return self.identity(pattern, subject, Static(value))
            case ast.MatchAs(pattern=None, name=None):
                return Static(True)
            case ast.MatchAs(pattern=inner, name=name) if name is not None:
                test = self.matches(inner, subject) if inner is not None else Static(True)
                self.assign(name, subject, span)
                return test
            case ast.MatchOr(patterns=patterns):
                return self.logic(span, "or", [self.matches(p, subject) for p in patterns])
            case ast.MatchSequence(patterns=patterns) if isinstance(subject, Tuple):
                if len(patterns) != len(subject.items):
                    return Static(False)
                pairs = zip(patterns, subject.items, strict=True)
                return self.logic(span, "and", [self.matches(p, item) for p, item in pairs])
        raise NotInLanguage("patterns are constants, `|`, tuples of them, names and `_`", span)

    # -- assignment -----------------------------------------------------------------------------------------------

    def store(self, target: ast.expr, value: Value) -> None:
        """Assign to anything that can stand left of `=`."""
        span = self.span(target)
        match target:
            case ast.Name(id=name):
                self.assign(name, value, span, f"`{name}`")
            case ast.Attribute(value=owner, attr=attribute):
                held = self.visit(owner)
                if not isinstance(held, ir.Expr):
                    raise NotInLanguage(f"`{attribute}` of {describe(held)} is not assigned in the data path", span)
                view = self.view(owner, held)
                self.set_field(target, view, self.integer(target, value), None)
            case ast.Subscript(value=owner, slice=key):
                table = self.table(owner, self.visit(owner))
                self.set_item(target, table, self.key(key, table, self.visit(key)), value)
            case ast.Tuple(elts=targets):
                if any(isinstance(part, ast.Starred) for part in targets):
                    raise NotInLanguage("`*` in an assignment is not part of the language", span)
                if isinstance(value, Static) and isinstance(value.value, tuple):
                    value = Tuple(tuple(map(Static, value.value)))
                if not isinstance(value, Tuple) or len(value.items) != len(targets):
                    raise CompileError(f"cannot take {len(targets)} values out of {describe(value)}", span)
                items = [self.kept(i) for i in value.items]
                for part, item in zip(targets, items, strict=True):
                    self.store(part, item)
            case _:
                raise NotInLanguage("cannot assign to this", span)

    def assign(self, name: str, value: Value, span: Span, what: str = "") -> None:
        """Bind a local name of the function on top of the stack."""
        context = self.stack[-1]
        many = name == "return" or context.source.writes.get(name, 0) > 1
        if isinstance(value, Static) and isinstance(value.value, tuple) and many:
            value = Tuple(tuple(map(Static, value.value)))
        if isinstance(value, Tuple) and value.items:
            if context.shapes.setdefault(name, len(value.items)) != len(value.items):
                message = f"{what or name} was a tuple of {context.shapes[name]}, is now of {len(value.items)}"
                raise CompileError(message, span)
            for index, item in enumerate(value.items):
                self.assign(f"{name}.{index}", item, span, what)
            return
        runtime = self.runtime(value, span)
        if runtime is None:
            if name in context.variables or (context.source.writes.get(name, 0) > 1 and name in context.names):
                raise CompileError(f"{what or name} is {describe(value)} here and something else elsewhere", span)
            context.names[name] = value
            return
        claim = width(context.claims.get(name.partition(".")[0]))
        if claim is not None and not isinstance(runtime.type, (ir.Int, ir.Bool, ir.NoneType)):
            raise CompileError(f"{what or name} is a number of {claim} bits, this is {describe(value)}", span)
        variable = self._variable(context, name, runtime, span, what, claim)
        if isinstance(variable.type, ir.Int) and isinstance(runtime.type, ir.Bool):
            runtime = self.integer_of(runtime)
        self.out.append(ir.Let(span, variable, runtime, claim, what))

    def _variable(self, context: Context, name: str, value: ir.Expr, span: Span, what: str,
                  claim: int | None) -> ir.Var:
        kind = value.type
        if claim is not None and not kind.optional:
            kind = ir.Int(128 if claim > 64 else 64)
        if name not in context.variables:
            context.variables[name] = ir.Var(context.prefix + name, kind)
            return context.variables[name]
        variable = context.variables[name]
        variable.type = self._unified(variable.type, kind, span, what or f"`{name}`")
        return variable

    def _unified(self, old: ir.Type, new: ir.Type, span: Span, what: str) -> ir.Type:
        optional = old.optional or new.optional
        match old, new:
            case ir.NoneType(), _:
                return with_optional(new, True)
            case _, ir.NoneType():
                return with_optional(old, True)
            case ir.Int(bits=a), ir.Int(bits=b) if b <= a:
                return ir.Int(a, optional)
            case ir.Int(bits=a), ir.Bool():
                return ir.Int(a, optional)
            case ir.View(), ir.View() if (old.layout, old.space) == (new.layout, new.space):
                return ir.View(old.layout, old.space, optional, old.fresh and new.fresh)
            case (ir.Bool(), ir.Bool()) | (ir.Verdict(), ir.Verdict()):
                return old
            case ir.TableHandle(), ir.TableHandle() if old.spec == new.spec:
                return with_optional(old, optional)
            case ir.Int(), ir.Int():
                message = f"{what} holds 64 bits and is now given 128: annotate it `u128` where it begins"
                raise CompileError(message, span)
        raise CompileError(f"{what} was {describe_type(old)}, is now {describe_type(new)}", span)

    def set_field(self, target: ast.Attribute, view: ir.Var, value: ir.Expr, added: ir.Expr | None) -> None:
        """`view.name = value`, unless a checksum covers it."""
        kind, span = view.type, self.span(target)
        assert isinstance(kind, ir.View)
        layout = kind.layout
        if target.attr not in layout.fields:
            message = f"{layout.__name__} has no field `{target.attr}`{self.similar(target.attr, layout.fields)}"
            raise CompileError(message, span)
        if issubclass(layout, Header) and target.attr in layout.guarded and not kind.fresh:
            raise CompileError(f"`{layout.__name__}.{target.attr}` lies under a checksum: use "
                               f"`pkt.rewrite({view.name.rpartition('.')[2]}, {target.attr}=…)`", span)
        if kind.space == "packet":
            added = None
        self.out.append(ir.SetField(span, view, target.attr, value, added))

    # -- small things ----------------------------------------------------------------------------------------------

    def annotation(self, node: ast.expr) -> Any:
        function = self.stack[-1].source.function
        code = compile(ast.Expression(node), "<annotation>", "eval")
        try:
            hint = eval(code, function.__globals__, inspect.getclosurevars(function).nonlocals)
            return eval(hint, function.__globals__) if isinstance(hint, str) else hint
        except Exception as error:
            raise CompileError(f"this annotation cannot be resolved: {error}", self.span(node)) from None

    def verdict(self, node: ast.AST, value: Value) -> ir.Expr:
        runtime = self.runtime(value, self.span(node))
        if runtime is None or not isinstance(runtime.type, ir.Verdict):
            raise CompileError(f"return a verdict: forward(port), FLOOD, drop(reason), punt(event) or HOST; "
                               f"this is {describe(value)}", self.span(node))
        return runtime


def with_optional(kind: ir.Type, optional: bool) -> ir.Type:
    """The same type, perhaps absent."""
    match kind:
        case ir.Int(bits=bits):
            return ir.Int(bits, optional)
        case ir.View():
            return ir.View(kind.layout, kind.space, optional, kind.fresh)
        case ir.TableHandle(spec=spec):
            return ir.TableHandle(spec, optional)
    return kind


def ends(body: list[ir.Stmt]) -> bool:
    """Whether nothing after these statements can run."""
    if not body:
        return False
    match body[-1]:
        case ir.Exit() | ir.Leave() | ir.Reject():
            return True
        case ir.If(then=then, orelse=orelse):
            return ends(then) and ends(orelse)
        case ir.Block(label=label, body=inner):
            left = any(isinstance(n, ir.Leave) and n.label == label for s in inner for n in ir.walk(s))
            return ends(inner) and not left
    return False


def _keyword(node: ast.stmt) -> str:
    names = {"FunctionDef": "def", "AsyncFunctionDef": "async def", "ClassDef": "class", "AsyncFor": "async for",
             "AsyncWith": "async with", "ImportFrom": "from … import"}
    return names.get(type(node).__name__, type(node).__name__.lower())


__all__ = ["Builder", "ends"]
