"""What the compiler knows by itself: the primitives, beside the Python that defines them.

A primitive is a function of the language whose *body* is its meaning in CPython; here stands its compiled form's type
and operands.  Dispatch is on the function object, so `from iovisor.language import now as clock` works.  A target
gives each operation a lowering (targets/); everything not listed here is a library, in the language itself.

The table below names, for every operation, what it reads and writes: `packet` bytes, its `size`, the `cursor`,
`table`s, `clock`, `tag`, `meta`.  check.py takes staleness from it, and fused forms will take what commutes.
"""
from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..language import machine, verdicts
from ..language.layout import Header, Metadata, Record, shapes
from ..language.packet import INTERNET, Packet
from ..language.tables import NEW, Counter, Hash, Lpm, Table
from . import ir
from .errors import CompileError, Span
from .values import Static, Tuple, Value, describe, described

if TYPE_CHECKING:
    from .expressions import Expressions


@dataclass(frozen=True)
class Effects:
    """What an operation touches."""

    reads: str = ""
    writes: str = ""


OPERATIONS: dict[str, Effects] = {
    "parse": Effects("packet cursor", "cursor"), "peek": Effects("packet cursor"), "load": Effects("packet cursor"),
    "sum": Effects("packet cursor"),
    "skip": Effects("cursor", "cursor"), "length": Effects("size"), "segment": Effects("size"), "port": Effects(),
    "meta": Effects("meta"),
    "tagged": Effects("tag"), "tci": Effects("tag"), "tpid": Effects("tag"), "retag": Effects("tag", "tag"),
    "tag": Effects("tag", "tag size cursor"), "untag": Effects("tag", "tag size cursor"),
    "push": Effects("size", "packet size cursor"), "pop": Effects("size", "packet size cursor"),
    "insert": Effects("size", "packet size cursor"), "resize": Effects("size", "packet size cursor"),
    "remove": Effects("size", "packet size cursor"),
    "exchange": Effects("packet size", "packet size cursor"),
    "rewrite": Effects("packet", "packet"), "amend": Effects("packet", "packet"),
    "get": Effects("table clock"), "put": Effects("table clock", "table"), "delete": Effects("table", "table"),
    "touch": Effects("clock", "table"), "count": Effects("", "table"),
    "now": Effects("clock"), "instant": Effects("clock"), "hash": Effects(), "random": Effects("clock", "clock"),
    "record": Effects(), "punt": Effects("packet", "events"), "notify": Effects("packet", "events"),
    "within": Effects(), "queue": Effects("", "queue"), "copy": Effects("packet", "copies"), "copied": Effects(),
    "forget": Effects(),
}


@dataclass(frozen=True)
class Request:
    """A call of a primitive: its syntax, and what it is called on."""

    node: ast.Call
    span: Span
    owner: Value | None
    tail: bool

    @property
    def name(self) -> str:
        """What the author calls it."""
        return ast.unparse(self.node.func).rpartition(".")[2]


Rule = Callable[["Expressions", Request], Value]
RULES: dict[Any, Rule] = {}


def primitive(*references: Any) -> Callable[[Rule], Rule]:
    """Registers the compiled form of functions whose Python body is the reference."""
    def register(rule: Rule) -> Rule:
        for reference in references:
            RULES[reference] = rule
        return rule
    return register


def bound(build: Expressions, request: Request, *names: str, **defaults: Any) -> list[Value]:
    """The arguments in the order of `names`; `defaults` are for those that may be left out."""
    positional, named = build.arguments(request.node)
    given = dict(zip(names, positional, strict=False)) | named
    if len(positional) > len(names) or given.keys() - set(names):
        raise CompileError(f"`{request.name}` takes {_listed(names)}", request.span)
    for name in names:
        if name not in given:
            if name not in defaults:
                raise CompileError(f"`{request.name}` needs `{name}`", request.span)
            given[name] = Static(defaults[name])
    return [given[name] for name in names]


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names) or "no arguments"


def headers(build: Expressions, request: Request) -> list[type[Header]]:
    """Positional arguments that are header classes."""
    positional, named = build.arguments(request.node)
    found = [v.value for v in positional if isinstance(v, Static)]
    if named or len(found) < len(positional) or not found:
        raise CompileError(f"`{request.name}` takes header classes", request.span)
    for value in found:
        if not (isinstance(value, type) and issubclass(value, Header)):
            what = describe(Static(value))
            raise CompileError(f"`{request.name}` takes header classes, this is {what}", request.span)
    return found


def call(op: str, span: Span, kind: ir.Type, *args: ir.Expr, statics: tuple[Any, ...] = ()) -> ir.Call:
    assert op in OPERATIONS
    return ir.Call(span, kind, op, list(args), statics)


def effect(build: Expressions, op: str, span: Span, *args: ir.Expr, statics: tuple[Any, ...] = ()) -> Static:
    build.out.append(ir.Do(span, call(op, span, ir.NoneType(), *args, statics=statics)))
    return Static(None)


# -- the packet ------------------------------------------------------------------------------------------------------


ATTRIBUTES: dict[str, Callable[[Expressions, Span], Value]] = {
    "port": lambda build, span: call("port", span, ir.Int()),
    "segment": lambda build, span: call("segment", span, ir.Int()),
    "copied": lambda build, span: call("copied", span, ir.Bool()),
    "tagged": lambda build, span: call("tagged", span, ir.Bool()),
    "tci": lambda build, span: call("tci", span, ir.Int()),
    "tpid": lambda build, span: call("tpid", span, ir.Int()),
}


def _views(build: Expressions, span: Span, kinds: list[type[Header]], fresh: bool) -> Value:
    views: list[Value] = []
    for kind in kinds:
        view = call("parse", span, ir.View(kind, "packet", False, fresh), statics=(kind,))
        views.append(build.read(build.bind(view), span))
    return views[0] if len(views) == 1 else Tuple(tuple(views))


@primitive(Packet.parse)
def _parse(build: Expressions, request: Request) -> Value:
    return _views(build, request.span, headers(build, request), False)


@primitive(Packet.push)
def _push(build: Expressions, request: Request) -> Value:
    kinds = headers(build, request)
    effect(build, "push", request.span, statics=(sum(k.size for k in kinds),))
    return _views(build, request.span, kinds, True)


@primitive(Packet.insert)
def _insert(build: Expressions, request: Request) -> Value:
    kinds = headers(build, request)
    effect(build, "insert", request.span, statics=(sum(k.size for k in kinds), *(k.offload for k in kinds)))
    return _views(build, request.span, kinds, True)


@primitive(Packet.exchange)
def _exchange(build: Expressions, request: Request) -> Value:
    if not request.node.args:
        raise CompileError(f"`{request.name}` takes a length and header classes", request.span)
    rest = replace(request, node=ast.Call(request.node.func, request.node.args[1:], request.node.keywords))
    length = build.integer(request.node, build.visit(request.node.args[0]))
    kinds = headers(build, rest)
    if kinds[0].size not in INTERNET:
        raise CompileError(f"`{request.name}` puts a fixed header of IPv4 or IPv6 first, of 20 or 40 bytes; "
                           f"{described(kinds[0])} has {kinds[0].size}", request.span)
    effect(build, "exchange", request.span, length, statics=(kinds[0].size, sum(k.size for k in kinds)))
    return _views(build, request.span, kinds, True)


@primitive(Packet.blank)
def _blank(build: Expressions, request: Request) -> Value:
    """Parsed, and every field cleared: LLVM makes whole words of it."""
    views: list[Value] = []
    for kind in headers(build, request):
        view = build.bind(call("parse", request.span, ir.View(kind, "packet", False, True), statics=(kind,)))
        for name, field in kind.fields.items():
            zero = ir.Const(request.span, ir.Int(128 if field.bits > 64 else 64), 0)
            build.out.append(ir.SetField(request.span, view, name, zero))
        views.append(build.read(view, request.span))
    return views[0] if len(views) == 1 else Tuple(tuple(views))


@primitive(Packet.resize)
def _resize(build: Expressions, request: Request) -> Value:
    (length,) = bound(build, request, "length")
    return effect(build, "resize", request.span, build.integer(request.node, length))


@primitive(Packet.pop)
def _pop(build: Expressions, request: Request) -> Value:
    return effect(build, "pop", request.span, statics=(sum(k.size for k in headers(build, request)),))


@primitive(Packet.remove)
def _remove(build: Expressions, request: Request) -> Value:
    return effect(build, "remove", request.span, statics=(sum(k.size for k in headers(build, request)),))


@primitive(Packet.peek)
def _peek(build: Expressions, request: Request) -> Value:
    kind, offset = bound(build, request, "header", "offset", offset=0)
    if not (isinstance(kind, Static) and isinstance(kind.value, type) and issubclass(kind.value, Header)):
        raise CompileError(f"`{request.name}` takes a header class, this is {describe(kind)}", request.span)
    where = build.integer(request.node, offset)
    return call("peek", request.span, ir.View(kind.value, "packet", True), where, statics=(kind.value,))


@primitive(Packet.skip)
def _skip(build: Expressions, request: Request) -> Value:
    (count,) = bound(build, request, "count")
    return effect(build, "skip", request.span, build.integer(request.node, count))


def _load(size: int) -> Rule:
    def rule(build: Expressions, request: Request) -> Value:
        (offset,) = bound(build, request, "offset")
        return call("load", request.span, ir.Int(), build.integer(request.node, offset), statics=(size,))
    return rule


@primitive(Packet.sum)
def _sum(build: Expressions, request: Request) -> Value:
    length, offset = bound(build, request, "length", "offset", offset=0)
    where, size = build.integer(request.node, offset), build.integer(request.node, length)
    return call("sum", request.span, ir.Int(), where, size)


RULES |= {Packet.u8: _load(1), Packet.u16: _load(2), Packet.u32: _load(4)}


@primitive(len)
def _len(build: Expressions, request: Request) -> Value:
    from .values import Frame
    (value,) = bound(build, request, "object")
    match value:
        case Frame():
            return call("length", request.span, ir.Int())
        case Static(value=thing):
            return build.fold(request.span, lambda: len(thing))
        case Tuple(items=items):
            return Static(len(items))
    raise CompileError(f"`len` is of the packet or of constants, not of {describe(value)}", request.span)


@primitive(Packet.meta)
def _meta(build: Expressions, request: Request) -> Value:
    (kind,) = bound(build, request, "kind")
    if not (isinstance(kind, Static) and isinstance(kind.value, type) and issubclass(kind.value, Metadata)):
        raise CompileError(f"`{request.name}` takes a Metadata class, this is {describe(kind)}", request.span)
    return call("meta", request.span, ir.View(kind.value, "memory"), statics=(kind.value,))


@primitive(Packet.copy)
def _copy(build: Expressions, request: Request) -> Value:
    (port,) = bound(build, request, "port")
    made = call("copy", request.span, ir.Bool(), build.integer(request.node, port), statics=(build.spec.port_count,))
    return build.read(build.bind(made), request.span)


@primitive(Packet.queue)
def _queue(build: Expressions, request: Request) -> Value:
    (number,) = bound(build, request, "number")
    return effect(build, "queue", request.span, build.integer(request.node, number))


@primitive(Packet.retag)
def _retag(build: Expressions, request: Request) -> Value:
    (tci,) = bound(build, request, "tci")
    return effect(build, "retag", request.span, build.integer(request.node, tci))


@primitive(Packet.tag)
def _tag(build: Expressions, request: Request) -> Value:
    tci, tpid = bound(build, request, "tci", "tpid", tpid=0x8100)
    if not (isinstance(tpid, Static) and tpid.value in (0x8100, 0x88a8)):
        raise CompileError("`tpid` is the constant 0x8100 or 0x88a8", request.span)
    return effect(build, "tag", request.span, build.integer(request.node, tci), statics=(tpid.value,))


@primitive(Packet.untag)
def _untag(build: Expressions, request: Request) -> Value:
    bound(build, request)
    return effect(build, "untag", request.span)


@primitive(Packet.rewrite)
def _rewrite(build: Expressions, request: Request) -> Value:
    positional, named = build.arguments(request.node)
    under = positional[1] if len(positional) > 1 else named.pop("under", None)
    if not 1 <= len(positional) <= 2:
        raise CompileError(f"`{request.name}` takes a header, `under=` and fields by name", request.span)
    view = build.view(request.node, positional[0])
    kind = view.type
    assert isinstance(kind, ir.View)
    if not issubclass(kind.layout, Header) or kind.space != "packet":
        what = described(kind.layout)
        raise CompileError(f"`{request.name}` rewrites headers; assign the fields of {what}", request.span)
    if not named:
        raise CompileError(f"`{request.name}` names no field to rewrite", request.span)
    for name in named:
        if name not in kind.layout.fields:
            message = f"{kind.layout.__name__} has no field `{name}`{build.similar(name, kind.layout.fields)}"
            raise CompileError(message, request.span)
        if kind.layout.coverage is not None and kind.layout.coverage.field == name:
            raise CompileError(f"`{name}` follows from the other fields", request.span)
        if shapes(kind.layout, name, under is not None and under != Static(None)):
            message = f"`{name}` decides what the transport checksum sums: make that checksum anew"
            raise CompileError(message, request.span)
        if name in kind.layout.pseudo and under is None:
            raise CompileError(f"`{name}` counts in the checksum of the transport header: name it, `under=udp`, or "
                               "say `under=None` where there is none (a later fragment)", request.span)
    views, covering = [build.read(view, request.span)], None
    if isinstance(under, ir.Expr):
        below = build.view(request.node, under)
        assert isinstance(below.type, ir.View)
        covering = below.type.layout
        if not issubclass(covering, Header) or covering.coverage is None:
            raise CompileError(f"{described(covering)} has no checksum", request.span)
        views.append(build.read(below, request.span))
    elif under is not None and not (isinstance(under, Static) and under.value is None):
        raise CompileError("`under` is a parsed transport header, or None", request.span)
    values = [build.integer(request.node, value) for value in named.values()]
    return effect(build, "rewrite", request.span, *views, *values, statics=(tuple(named), covering))


@primitive(Packet.amend)
def _amend(build: Expressions, request: Request) -> Value:
    header, change = bound(build, request, "header", "change")
    view = build.view(request.node, header)
    kind = view.type
    assert isinstance(kind, ir.View)
    coverage = kind.layout.coverage if issubclass(kind.layout, Header) else None
    if coverage is None or not coverage.pseudo or kind.space != "packet":
        raise CompileError(f"{described(kind.layout)} has no checksum that covers a pseudo-header", request.span)
    return effect(build, "amend", request.span, build.read(view, request.span), build.integer(request.node, change))


# -- tables ----------------------------------------------------------------------------------------------------------


@primitive(Table.get)
def _get(build: Expressions, request: Request) -> Value:
    (key,) = bound(build, request, "key")
    table = build.table(request.node, _owner(request))
    if table.spec.kind == "counter":
        raise CompileError("a Counter is read by the control path; use an Array", request.span)
    return build.lookup(request.span, table, build.key(request.node, table, key))


def _storing(mode: int) -> Rule:
    def rule(build: Expressions, request: Request) -> Value:
        key, value = bound(build, request, "key", "value")
        table = build.table(request.node, _owner(request))
        if mode == NEW and table.spec.kind == "array":
            raise CompileError("an Array's entries are all there: use `put`", request.span)
        stored = build.put(request.node, table, build.key(request.node, table, key), value, mode)
        return build.read(build.bind(stored), request.span)
    return rule


RULES |= {Table.put: _storing(0), Table.insert: _storing(NEW)}


@primitive(Table.touch)
def _touch(build: Expressions, request: Request) -> Value:
    (entry,) = bound(build, request, "entry")
    table = build.table(request.node, _owner(request))
    view = build.view(request.node, entry)
    assert isinstance(view.type, ir.View)
    if not table.spec.ttl or view.type.layout is not table.spec.value:
        raise CompileError(f"`{request.name}` touches an entry of a table with a ttl", request.span)
    return effect(build, "touch", request.span, build.read(view, request.span), statics=(table.spec,))


@primitive(Counter.add)
def _add(build: Expressions, request: Request) -> Value:
    index, size = bound(build, request, "index", "bytes", bytes=0)
    table = build.table(request.node, _owner(request))
    numbers = build.integer(request.node, index), build.integer(request.node, size)
    return effect(build, "count", request.span, *numbers, statics=(table.spec,))


def _control_only(build: Expressions, request: Request) -> Value:
    raise CompileError(f"`{request.name}` is for the control path", request.span)


RULES |= {Table.update: _control_only, Hash.create: _control_only, Lpm.__setitem__: _control_only}


def _owner(request: Request) -> Value:
    assert request.owner is not None
    return request.owner


# -- verdicts --------------------------------------------------------------------------------------------------------


@primitive(verdicts.forward)
def _forward(build: Expressions, request: Request) -> Value:
    (port,) = bound(build, request, "port")
    number = build.integer(request.node, port)
    return ir.MakeVerdict(request.span, ir.Verdict(), verdicts.FORWARD_KIND, number)


@primitive(verdicts.flood)
def _flood(build: Expressions, request: Request) -> Value:
    (number,) = bound(build, request, "number")
    if build.spec.port_sets is None:
        raise CompileError("this function has no sets of ports: declare `sets: Array[PortSet] = table(…)`",
                           request.span)
    return ir.MakeVerdict(request.span, ir.Verdict(), verdicts.FLOOD_KIND, build.integer(request.node, number))


@primitive(verdicts.drop)
def _drop(build: Expressions, request: Request) -> Value:
    (reason,) = bound(build, request, "reason")
    return ir.MakeVerdict(request.span, ir.Verdict(), verdicts.DROP_KIND, build.integer(request.node, reason))


@primitive(verdicts.punt)
def _punt(build: Expressions, request: Request) -> Value:
    if not request.tail:
        raise CompileError("a punt is returned: `return punt(…)`, from `ingress` or from what it returns", request.span)
    return _event(build, request, ir.Verdict())


@primitive(Packet.notify)
def _notify(build: Expressions, request: Request) -> Value:
    return build.read(build.bind(_event(build, request, ir.Bool())), request.span)


def _event(build: Expressions, request: Request, kind: ir.Type) -> ir.Call:
    """A record for the slow path, which some method must await."""
    (event,) = bound(build, request, "event")
    view = build.view(request.node, event)
    assert isinstance(view.type, ir.View)
    if not issubclass(view.type.layout, Record) or view.type.layout not in build.spec.events:
        raise CompileError(f"no method handles {view.type.layout.__name__}: mark one "
                           f"`@handles({view.type.layout.__name__})`", request.span)
    index = build.spec.events.index(view.type.layout)
    return call(request.name, request.span, kind, build.read(view, request.span), statics=(index,))


@primitive(verdicts.require)
def _require(build: Expressions, request: Request) -> Value:
    node, span = request.node, request.span
    given = {"condition": node.args[0] if node.args else None, "reason": node.args[1] if len(node.args) > 1 else None}
    given |= {str(k.arg): k.value for k in node.keywords}
    if len(node.args) > 2 or len(given) > 2 or given["condition"] is None:
        raise CompileError(f"`{request.name}` takes a condition, and perhaps a reason", span)
    test = build.condition(given["condition"])
    with build.collect() as body:
        reason = build.visit(given["reason"]) if given["reason"] is not None else Static(verdicts.Dropped.REQUIRED)
        build.out.append(ir.Reject(span, build.integer(node, reason)))
    if isinstance(test, Static):
        if not test.value:
            build.out.extend(body)
    else:
        build.out.append(ir.If(span, ir.Not(span, ir.Bool(), test), body, []))
    return Static(None)


# -- the machine -----------------------------------------------------------------------------------------------------


@primitive(machine.now)
def _now(build: Expressions, request: Request) -> Value:
    bound(build, request)
    return call("now", request.span, ir.Int())


@primitive(machine.instant)
def _instant(build: Expressions, request: Request) -> Value:
    bound(build, request)
    return call("instant", request.span, ir.Int())


@primitive(machine.random)
def _random(build: Expressions, request: Request) -> Value:
    bound(build, request)
    return call("random", request.span, ir.Int())


@primitive(machine.hash)
def _hash(build: Expressions, request: Request) -> Value:
    positional, named = build.arguments(request.node)
    if named or not positional:
        raise CompileError(f"`{request.name}` takes integers and records", request.span)
    args: list[ir.Expr] = []
    for value in positional:
        if isinstance(value, ir.Expr) and isinstance(value.type, ir.View) and not issubclass(value.type.layout, Header):
            args.append(build.read(build.bind(value), request.span))
        else:
            args.append(build.integer(request.node, value))
    return call("hash", request.span, ir.Int(), *args)


# -- Python's own ----------------------------------------------------------------------------------------------------


def _extreme(op: str, python: Callable[..., Any]) -> Rule:
    def rule(build: Expressions, request: Request) -> Value:
        positional, named = build.arguments(request.node)
        if named or len(positional) < 2:
            raise CompileError(f"`{request.name}` takes two integers or more", request.span)
        if all(isinstance(v, Static) for v in positional):
            return build.fold(request.span, lambda: python(*(v.value for v in positional if isinstance(v, Static))))
        best = build.integer(request.node, positional[0])
        for value in positional[1:]:
            other = build.integer(request.node, value)
            best = ir.Binary(request.span, build.wider(best, other), op, best, other)  # type: ignore[arg-type]
        return best
    return rule


RULES |= {min: _extreme("min", min), max: _extreme("max", max)}


@primitive(int)
def _int(build: Expressions, request: Request) -> Value:
    (value,) = bound(build, request, "value")
    return Static(int(value.value)) if isinstance(value, Static) else build.integer(request.node, value)


@primitive(bool)
def _bool(build: Expressions, request: Request) -> Value:
    (value,) = bound(build, request, "value")
    return build.truth(request.node, value)


@primitive(abs)
def _abs(build: Expressions, request: Request) -> Value:
    (value,) = bound(build, request, "value")
    if isinstance(value, Static):
        return build.fold(request.span, lambda: abs(value.value))
    kept = build.bind(build.integer(request.node, value))
    negative = ir.Unary(request.span, kept.type, "-", build.read(kept, request.span))
    return ir.Binary(request.span, kept.type, "max", build.read(kept, request.span), negative)
