"""Random programs in the language, and random packets for them.

`generate(seed)` answers the text of a module: headers with bits that cross bytes, records, tables of every kind,
`@inline` functions, methods, and one `Program(Function)` whose data path wanders through the grammar.  The generator
keeps the interval of every expression it writes, as the compiler does, and masks where an operator needs it: so most
programs are accepted, and what they mean is compared.  Now and then it forgets, and the compiler has to notice.

Not hypothesis: a program is one number, made in a millisecond, and `print(generate(n))` is the whole bug report.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
BITS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128)
FORGETS = 0.004         # how often a mask, or that a view is stale, is forgotten


@dataclass(frozen=True)
class Text:
    """An integer expression, and the interval its value lies in.  `wide`: the compiler computes it in 128 bits."""

    text: str
    low: int
    high: int
    wide: bool = False


@dataclass(frozen=True)
class Shape:
    """A header, record, metadata or configuration class: field names and bits."""

    name: str
    fields: dict[str, int]
    kind: Literal["header", "record", "metadata", "config"]
    guarded: bool = False

    @property
    def size(self) -> int:
        return sum(self.fields.values()) // 8


ETHERNET = Shape("Ethernet", {"dst": 48, "src": 48, "type": 16}, "header")
IPV4 = Shape("IPv4", {"version": 4, "ihl": 4, "dscp": 6, "ecn": 2, "length": 16, "id": 16, "df": 1, "mf": 1,
                      "offset": 13, "ttl": 8, "proto": 8, "checksum": 16, "src": 32, "dst": 32}, "header", True)
UDP = Shape("Udp", {"src": 16, "dst": 16, "length": 16, "checksum": 16}, "header", True)
TCP = Shape("Tcp", {"src": 16, "dst": 16, "sequence": 32, "acknowledgment": 32, "flags": 8,
                    "window": 16, "checksum": 16, "urgent": 16}, "header", True)


@dataclass(frozen=True)
class Kept:
    """A table."""

    name: str
    kind: str
    key: Shape | int
    value: Shape | int
    ttl: bool = False
    inner: Kept | None = None


@dataclass(frozen=True)
class Callee:
    """An `@inline` function or a method: parameters, and the bits of the integers it returns (None: nothing)."""

    name: str
    parameters: tuple[Shape | int, ...]
    results: tuple[int, ...]
    method: bool
    resizes: bool = False


@dataclass
class Scope:
    """What may be named here."""

    numbers: dict[str, tuple[int, int, bool]] = field(default_factory=dict)     # low, high, wide: for good
    truths: list[str] = field(default_factory=list)
    views: dict[str, Shape] = field(default_factory=dict)                       # of the packet
    fresh: set[str] = field(default_factory=set)                                # of these, just pushed
    entries: dict[str, tuple[Shape, str]] = field(default_factory=dict)         # records, and their table or ""
    loop: int = 0
    packet: bool = True
    tail: bool = True               # `return` gives a verdict
    results: tuple[int, ...] = ()
    frozen: frozenset[str] = frozenset()        # not to be assigned: counters of loops

    def copy(self) -> Scope:
        return Scope(dict(self.numbers), list(self.truths), dict(self.views), set(self.fresh), dict(self.entries),
                     self.loop, self.packet, self.tail, self.results, self.frozen)


class Writer:
    """Writes one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.shapes: list[Shape] = []
        self.tables: list[Kept] = []
        self.callees: list[Callee] = []
        self.lines: list[str] = []
        self.budget = 0
        self.pushed = 0
        self.per_cpu: set[str] = set()

    # -- choices ---------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, items: Any) -> Any:
        return self.random.choice(list(items))

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def of(self, kind: str) -> list[Shape]:
        return [s for s in self.shapes if s.kind == kind]

    # -- declarations ------------------------------------------------------------------------------------------------

    def module(self) -> str:
        """The whole text."""
        head = ['"""A random program."""', "from __future__ import annotations", "",
                "from iovisor.language import *", "from iovisor.wire import Ethernet, IPv4, Tcp, Udp", "", ""]
        for number in range(self.random.randint(1, 3)):
            self.declare(f"Head{number}", "header")
        for number in range(self.random.randint(1, 3)):
            self.declare(f"Entry{number}", "record")
        self.declare("Meta", "metadata")
        self.declare("Settings", "config")
        self.shapes += [ETHERNET, IPV4, UDP, TCP]
        for number in range(self.random.randint(1, 4)):
            self.tables.append(self.table(f"table{number}"))
        methods: list[str] = []
        for number in range(self.random.randint(0, 4)):
            method = self.chance(0.5)
            text = self.callee(f"{'step' if method else 'helper'}{number}", method)
            (methods if method else self.lines).extend(text)
        body = self.entry()
        self.lines += ["class Program(Function):", "    config: Settings", "    inside: Port", "    outside: Port",
                       "    others: Ports = ports(4)"]
        self.lines += [f"    {self.declared(t)}" for t in self.tables]
        self.lines += [""] + ["    " + line if line else "" for line in methods]
        self.lines += ["    def ingress(self, pkt: Packet) -> Verdict:"] + ["        " + line for line in body]
        self.lines += ["", "    @handles(Entry0)", "    def heard(self, event: Entry0, packet: Packet) -> None:",
                       "        pass", "", ""]
        self.lines += self.filling()
        return "\n".join(head + self.lines) + "\n"

    def declare(self, name: str, kind: Any) -> None:
        fields: dict[str, int] = {}
        if kind == "header":
            total = self.pick((8, 16, 24, 32, 48, 64, 80, 128, 160, 256))
            while total:
                sizes = [b for b in BITS if b <= total and (b <= 64 or self.chance(0.3))]
                bits = self.pick(sizes)
                fields[f"f{len(fields)}"] = bits
                total -= bits
        elif kind == "metadata":
            fields = {"m0": 8, "m1": 16, "m2": 32}
        else:
            for number in range(self.random.randint(1, 4)):
                fields[f"{kind[0]}{number}"] = self.pick([b for b in BITS if b <= 64 or self.chance(0.2)])
        base = {"header": "Header", "record": "Record", "metadata": "Metadata", "config": "Config"}[kind]
        self.shapes.append(Shape(name, fields, kind))
        self.lines.append(f"class {name}({base}):")
        for index, (label, bits) in enumerate(fields.items()):
            default = f" = {self.random.getrandbits(bits)}" if kind == "config" else \
                " = 0" if kind == "record" and index and self.chance(0.0) else ""
            self.lines.append(f"    {label}: u{bits}{default}")
        if kind == "config":
            self.lines.append(f"    flag: bool = {self.chance(0.5)}")
        self.lines += ["", ""]

    def table(self, name: str, nested: bool = True) -> Kept:
        kind = self.pick(("hash", "hash", "lru", "array", "lpm", "counter", *(("nested",) if nested else ())))
        key: Shape | int = self.pick((8, 16, 24, 32, 48, 64, 128, *self.of("record")))
        value: Shape | int = self.pick((1, 8, 12, 16, 32, 48, 64, 128, *self.of("record"), *self.of("record")))
        if kind == "nested":
            inner = self.table(f"{name}.inner", False)
            while inner.kind in ("counter", "array", "lru"):
                inner = self.table(f"{name}.inner", False)
            return Kept(name, "nested", 8, 32, inner=Kept(inner.name, inner.kind, inner.key, inner.value))
        if kind == "lpm":
            return Kept(name, kind, self.pick((32, 64, 128)), value)
        if kind in ("array", "counter"):
            return Kept(name, kind, 32, value if kind == "array" else 64)
        return Kept(name, kind, key, value, isinstance(value, Shape) and self.chance(0.3))

    def declared(self, table: Kept) -> str:
        size = {"hash": self.pick((2, 16, 64)), "lru": 1024, "array": self.pick((1, 4, 17)), "lpm": 32, "counter": 8,
                "nested": 16}[table.kind]
        ttl = ", ttl=5 * SECOND" if table.ttl else ""
        if not ttl and table.kind in ("hash", "array") and self.chance(0.15):
            ttl = ", per_cpu=True"
            self.per_cpu.add(table.name)
        inside = ", inner=table(32)" if table.inner is not None else ""
        return f"{table.name}: {self.hint(table)} = table({size}{ttl}{inside})"

    def hint(self, table: Kept) -> str:
        def text(kind: Shape | int) -> str:
            return kind.name if isinstance(kind, Shape) else f"u{kind}"
        if table.kind == "counter":
            return "Counter"
        if table.kind == "array":
            return f"Array[{text(table.value)}]"
        if table.inner is not None:
            return f"Hash[u8, {self.hint(table.inner)}]"
        return f"{table.kind.capitalize()}[{text(table.key)}, {text(table.value)}]"

    def filling(self) -> list[str]:
        """A function that stores some entries from the control side."""
        lines = ["def fill(function: Program) -> None:"]

        def fill(where: str, table: Kept) -> None:
            for _ in range(self.random.randint(0, 3)):
                value = self.literal(table.value)
                if table.kind == "lpm":
                    assert isinstance(table.key, int)
                    length = self.random.randint(0, table.key)
                    address = self.random.getrandbits(table.key) >> table.key - length << table.key - length
                    if self.chance(0.5):
                        address = 0
                    lines.append(f"    {where}[Prefix({address}, {length}, {table.key})] = {value}")
                else:
                    lines.append(f"    {where}.put({self.literal(table.key, True)}, {value})")

        for table in self.tables:
            if table.inner is not None:
                for key in self.random.sample(range(4), 2):
                    lines.append(f"    inner = function.{table.name}.create({key})")
                    fill("inner", table.inner)
            elif table.kind != "counter" and table.name not in self.per_cpu:     # other CPUs would show it
                fill(f"function.{table.name}", table)
        return [*lines, "    return None"]

    def literal(self, kind: Shape | int, small: bool = False) -> str:
        if isinstance(kind, Shape):
            return f"{kind.name}({', '.join(f'{n}={self.literal(b, small)}' for n, b in kind.fields.items())})"
        return str(self.random.getrandbits(min(kind, 2) if small else kind))

    # -- functions ----------------------------------------------------------------------------------------------------

    def callee(self, name: str, method: bool) -> list[str]:
        scope = Scope(packet=method, tail=False)
        kinds: list[Shape | int] = []
        texts = []
        for number in range(self.random.randint(0, 3)):
            kind: Shape | int = self.pick((*WIDTHS, 12, 20, *self.of("header"), *self.of("record")))
            label = f"a{number}"
            kinds.append(kind)
            if isinstance(kind, int):
                scope.numbers[label] = 0, (1 << kind) - 1, False
                scope.frozen |= {label}
                texts.append(f"{label}: u{kind}")
            else:
                texts.append(f"{label}: {kind.name}")
                if kind.kind == "header":
                    scope.views[label] = kind
                else:
                    scope.entries[label] = kind, "?"
        results = self.pick(((), (1,), (8,), (16,), (32,), (48,), (63,), (8, 16), (32, 48), (16, 16, 1)))
        scope.results = results
        resizes = method and self.chance(0.2)
        self.may_resize = resizes
        self.budget = self.random.randint(2, 7)
        body = self.block(scope, 2, end=False)
        if results or self.chance(0.3):
            body.append(self.giving(scope))
        body = body or ["pass"]
        kind_text = "None" if not results else "int"
        if len(results) > 1:
            kind_text = f"tuple[{', '.join('int' for _ in results)}]"
        first = ["self", "pkt: Packet"] if method else []
        self.callees.append(Callee(name, tuple(kinds), results, method, resizes))
        return ([] if method else ["@inline"]) + [f"def {name}({', '.join(first + texts)}) -> {kind_text}:"] + \
            ["    " + line for line in body] + ([""] if method else ["", ""])

    def giving(self, scope: Scope) -> str:
        values = [self.fit(self.number(scope, 2), bits) for bits in scope.results]
        return f"return {', '.join(values)}".rstrip()

    def entry(self) -> list[str]:
        self.may_resize = True
        self.budget = self.random.randint(6, 26)
        scope = Scope()
        return self.block(scope, 3, end=True)

    # -- statements ---------------------------------------------------------------------------------------------------

    def block(self, scope: Scope, depth: int, end: bool, least: int = 1) -> list[str]:
        """Some statements; `end`: every path returns a verdict."""
        lines: list[str] = []
        for _ in range(self.random.randint(least, 5 if depth > 1 else 3)):
            if self.budget <= 0:
                break
            self.budget -= 1
            lines += self.statement(scope, depth)
        if end:
            lines += self.ending(scope, depth)
        return lines

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[Scope]:
        """A branch: what it makes is not known behind it, what it loses is lost."""
        inner = scope.copy()
        yield inner
        scope.views = {n: s for n, s in scope.views.items() if n in inner.views}
        scope.entries = {n: s for n, s in scope.entries.items() if n in inner.entries}

    def indented(self, lines: list[str]) -> list[str]:
        return ["    " + line for line in lines or ["pass"]]

    def statement(self, scope: Scope, depth: int) -> list[str]:
        ways: list[tuple[float, Callable[[Scope, int], list[str]]]] = [
            (4, self.assign), (2, self.reassign), (1, self.swap), (1.5, self.truth_variable), (1, self.record)]
        if depth > 0:
            ways += [(3, self.condition_statement), (1.2, self.counting), (0.5, self.items), (1.2, self.match)]
        if scope.views or scope.entries:
            ways += [(3, self.set_field)]
        if scope.packet:
            ways += [(3, self.parse), (1.5, self.peek), (3, self.table_statement), (1, self.require),
                     (1, self.metadata), (0.7, self.skip), (0.7, self.retag), (0.8, self.rewrite)]
            if self.may_resize and not scope.loop:
                ways += [(1.2, self.resize)]
        if any(scope.packet or not c.method for c in self.callees):
            ways += [(2, self.call_statement)]
        if scope.loop:
            ways += [(0.8, self.leave_loop)]
        elif depth < 3 and not scope.tail and self.chance(0.3):
            ways += [(0.7, lambda s, d: [f"if {self.condition(s, 2)}:", "    " + self.giving(s)])]
        way = self.random.choices([w for _, w in ways], [weight for weight, _ in ways])[0]
        return way(scope, depth)

    def ending(self, scope: Scope, depth: int) -> list[str]:
        if depth > 0 and self.chance(0.15):
            with self.inside(scope) as a:
                yes = self.ending(a, depth - 1)
            with self.inside(scope) as b:
                no = self.ending(b, depth - 1)
            return [f"if {self.condition(scope, 2)}:", *self.indented(yes), "else:", *self.indented(no)]
        if self.chance(0.08):
            return [f"return {self.verdict(scope)} if {self.condition(scope, 2)} else {self.verdict(scope)}"]
        if self.chance(0.08):
            shape = next(s for s in self.shapes if s.name == "Entry0")
            return [f"return punt({self.construct(scope, shape)})"]
        return [f"return {self.verdict(scope)}"]

    def verdict(self, scope: Scope) -> str:
        match self.random.randrange(8):
            case 0:
                return "FLOOD"
            case 1:
                return "HOST"
            case 2:
                return f"drop({self.fit(self.number(scope, 1), 8)})"
            case 3:
                return f"forward({self.pick(('self.inside', 'self.outside', 'self.others[2]', 'pkt.port'))})"
        return f"forward({self.number(scope, 2).text})"

    def assign(self, scope: Scope, depth: int) -> list[str]:
        value = self.number(scope, 3)
        if self.chance(0.2):
            bits = self.pick((8, 16, 32, 48, 64))
            name, text = self.name("n"), self.fit(value, bits)
            scope.numbers[name] = 0, (1 << bits) - 1, False
            return [f"{name}: u{bits} = {text}"]
        name = self.name("n")
        if scope.loop or abs(value.low) > 1 << 62 or abs(value.high) > 1 << 127:
            bits = self.pick((16, 32, 48))
            value = Text(self.fit(value, bits), 0, (1 << bits) - 1, value.wide)
        scope.numbers[name] = value.low, value.high, value.wide
        return [f"{name} = {value.text}"]

    def changeable(self, scope: Scope) -> list[str]:
        return [n for n, (low, _, wide) in scope.numbers.items() if n not in scope.frozen and low >= 0 and not wide]

    def reassign(self, scope: Scope, depth: int) -> list[str]:
        names = self.changeable(scope)
        if not names:
            return self.assign(scope, depth)
        name = self.pick(names)
        high = scope.numbers[name][1]
        bits = max((high + 1).bit_length() - 1, 0)
        value = self.number(scope, 2)
        if value.wide:
            return self.assign(scope, depth)
        match self.random.randrange(5):
            case 0 if bits:
                return [f"{name} ^= {self.fit(value, bits)}"]
            case 1 if bits:
                return [f"{name} |= {self.fit(value, bits)}"]
            case 2:
                return [f"{name} &= {self.fit(value, 64)}"]
            case 3 if bits:
                return [f"{name} += {self.fit(value, 48)}", f"{name} &= {(1 << bits) - 1}"]
        return [f"{name} = {self.fit(value, bits)}"]

    def swap(self, scope: Scope, depth: int) -> list[str]:
        highs = {n: scope.numbers[n][1] for n in self.changeable(scope)}
        names = [n for n, high in highs.items() if high == (1 << high.bit_length()) - 1]
        pairs = [(a, b) for a in names for b in names if a != b and scope.numbers[a][1] == scope.numbers[b][1]]
        if pairs and self.chance(0.7):
            a, b = self.pick(pairs)
            return [f"{a}, {b} = {b}, {a}"]
        a, b = self.name("n"), self.name("n")
        first, second = self.number(scope, 2), self.number(scope, 2)
        lines = [f"{a}, {b} = {self.fit(first, 32)}, {self.fit(second, 48)}"]
        scope.numbers[a] = 0, (1 << 32) - 1, first.wide
        scope.numbers[b] = 0, (1 << 48) - 1, second.wide
        return lines

    def truth_variable(self, scope: Scope, depth: int) -> list[str]:
        name = self.name("b")
        lines = [f"{name} = {self.comparison(scope, 2)}"]
        scope.truths.append(name)
        return lines

    def record(self, scope: Scope, depth: int) -> list[str]:
        shape = self.pick(self.of("record"))
        name = self.name("r")
        lines = [f"{name} = {self.construct(scope, shape)}"]
        scope.entries[name] = shape, ""
        return lines

    def construct(self, scope: Scope, shape: Shape) -> str:
        names = list(shape.fields)
        if self.chance(0.2):
            self.random.shuffle(names)
        values = []
        for name in names:
            values.append(f"{name}={self.stored(scope, 2, shape.fields[name])}")
        return f"{shape.name}({', '.join(values)})"

    def stored(self, scope: Scope, depth: int, bits: int) -> str:
        """A value that is cut where it is stored."""
        value = self.number(scope, depth)
        if bits > 64 and not (value.low >= 0 and value.high < 1 << 64) and not value.wide:
            return self.fit(value, 64)
        return value.text

    def condition_statement(self, scope: Scope, depth: int) -> list[str]:
        test = self.condition(scope, 3)
        with self.inside(scope) as inner:
            yes = self.block(inner, depth - 1, end=scope.tail and not scope.loop and self.chance(0.25))
        lines = [f"if {test}:", *self.indented(yes)]
        if self.chance(0.25):
            with self.inside(scope) as inner:
                lines += [f"elif {self.condition(inner, 2)}:", *self.indented(self.block(inner, depth - 1, end=False))]
        if self.chance(0.4):
            with self.inside(scope) as inner:
                lines += ["else:", *self.indented(self.block(inner, depth - 1, end=False))]
        return lines

    def counting(self, scope: Scope, depth: int) -> list[str]:
        name = self.name("i")
        stop = self.pick((1, 2, 3, 4, 8))
        match self.random.randrange(5):
            case 0:
                bounds, low, high = f"{self.fit(self.number(scope, 1), 3)}", 0, 6
            case 1:
                bounds, low, high = f"{stop}, {stop + 4}", stop, stop + 3
            case 2:
                bounds, low, high = f"0, {stop * 2}, 2", 0, stop * 2 - 1
            case 3:
                bounds, low, high = f"min({self.fit(self.number(scope, 1), 16)}, {stop})", 0, stop - 1
            case _:
                bounds, low, high = f"{stop}", 0, stop - 1
        with self.inside(scope) as inner:
            inner.loop += 1
            inner.numbers[name] = low, max(high, low), False
            inner.frozen |= {name}
            if self.chance(0.9):
                inner.entries = {n: e for n, e in inner.entries.items() if e[1] != ""}
            self.budget = min(self.budget, 7 if inner.loop == 1 else 2)
            body = self.block(inner, depth - 1, end=False, least=1)
        return [f"for {name} in range({bounds}):", *self.indented(body)]

    def items(self, scope: Scope, depth: int) -> list[str]:
        name = self.name("i")
        values = [self.random.getrandbits(self.pick((3, 8, 32))) for _ in range(self.random.randint(1, 3))]
        with self.inside(scope) as inner:
            inner.loop += 1
            inner.numbers[name] = min(values), max(values), False
            inner.frozen |= {name}
            self.budget = min(self.budget, 6 if inner.loop == 1 else 2)
            body = self.block(inner, depth - 1, end=False)
        return [f"for {name} in ({', '.join(map(str, values))},):", *self.indented(body)]

    def leave_loop(self, scope: Scope, depth: int) -> list[str]:
        return [f"if {self.condition(scope, 1)}:", f"    {self.pick(('break', 'continue'))}"]

    def match(self, scope: Scope, depth: int) -> list[str]:
        subject = self.number(scope, 2)
        pair = self.chance(0.2)
        text = f"({self.fit(subject, 63)}, {self.fit(self.number(scope, 1), 16)})" if pair else self.fit(subject, 63)
        lines = [f"match {text}:"]
        for _ in range(self.random.randint(1, 3)):
            values = [str(self.random.getrandbits(self.pick((1, 3, 8, 16)))) for _ in range(self.random.randint(1, 2))]
            pattern = f"({values[0]}, {self.pick(('_', '3', '0 | 1'))})" if pair else " | ".join(values)
            guard = f" if {self.condition(scope, 1)}" if self.chance(0.2) else ""
            with self.inside(scope) as inner:
                lines += [f"    case {pattern}{guard}:"]
                lines += self.indented(self.indented(self.block(inner, depth - 1, end=scope.tail and not scope.loop
                                                                and self.chance(0.2))))
        with self.inside(scope) as inner:
            capture = "_"
            if self.chance(0.4) and not pair:
                capture = self.name("n")
                inner.numbers[capture] = 0, (1 << 63) - 1, subject.wide
                inner.frozen |= {capture}
            lines += [f"    case {capture}:", *self.indented(self.indented(self.block(inner, depth - 1, end=False)))]
        return lines

    def set_field(self, scope: Scope, depth: int) -> list[str]:
        name, shape = self.pick([*scope.views.items(), *((n, s) for n, (s, _) in scope.entries.items())])
        if shape.guarded and name not in scope.fresh:
            return self.assign(scope, depth)
        label = self.pick(shape.fields)
        bits = shape.fields[label]
        if self.chance(0.3):
            op = self.pick(("+", "-", "^", "|", "&"))
            value = self.number(scope, 2)
            text = value.text if bits <= 64 and not value.wide else self.fit(value, 32)
            if bits > 64 and op in "+-":
                op = "^"
            return [f"{name}.{label} {op}= {text}"]
        return [f"{name}.{label} = {self.stored(scope, 3, bits)}"]

    # -- the packet ----------------------------------------------------------------------------------------------------

    def parse(self, scope: Scope, depth: int) -> list[str]:
        shapes = self.random.sample(self.of("header"), self.pick((1, 1, 1, 2)))
        if self.chance(0.5) and not scope.views:
            shapes = [ETHERNET]
        names = [self.name("v") for _ in shapes]
        for name, shape in zip(names, shapes, strict=True):
            scope.views[name] = shape
        return [f"{', '.join(names)} = pkt.parse({', '.join(s.name for s in shapes)})"]

    def peek(self, scope: Scope, depth: int) -> list[str]:
        name, shape = self.name("v"), self.pick(self.of("header"))
        offset = "" if self.chance(0.4) else f", {self.offset(scope)}"
        if self.chance(0.3):
            scope.views[name] = shape
            other = self.verdict(scope) if scope.tail else ""
            leave = "break" if scope.loop else f"return {other}" if scope.tail else self.giving(scope)
            return [f"{name} = pkt.peek({shape.name}{offset})", f"if {name} is None:", f"    {leave}"]
        if depth <= 0:
            return self.assign(scope, depth)
        with self.inside(scope) as inner:
            inner.views[name] = shape
            extra = f" and {self.condition(inner, 1)}" if self.chance(0.3) else ""
            body = self.block(inner, depth - 1, end=False)
        if self.chance(0.3):
            return [f"if ({name} := pkt.peek({shape.name}{offset})) is not None{extra}:", *self.indented(body)]
        return [f"{name} = pkt.peek({shape.name}{offset})", f"if {name} is not None{extra}:", *self.indented(body)]

    def offset(self, scope: Scope) -> str:
        if self.chance(0.5):
            return str(self.pick((0, 1, 2, 6, 10, 14, 20, 34, 100, 1000)))
        return self.fit(self.number(scope, 1), self.pick((2, 5, 8, 11)))

    def skip(self, scope: Scope, depth: int) -> list[str]:
        if scope.loop:
            return ["pkt.skip(1)"]
        signed = f" - {self.pick((1, 20))}" if self.chance(0.3) else ""
        return [f"pkt.skip({self.offset(scope)}{signed})"]

    def retag(self, scope: Scope, depth: int) -> list[str]:
        return [f"pkt.retag({self.number(scope, 1).text})"]

    def resize(self, scope: Scope, depth: int) -> list[str]:
        if not self.chance(FORGETS * 3):
            scope.views.clear()
        match self.random.randrange(7):
            case 6:     # TC cuts nothing that was put in front
                return [f"pkt.resize(max({self.fit(self.number(scope, 1), 11)}, 200))"]
            case 0:
                return [f"pkt.tag({self.number(scope, 1).text}{self.pick(('', ', 0x88a8', ', tpid=0x8100'))})"]
            case 1:
                return ["pkt.untag()"]
            case 2:
                return [f"pkt.{self.pick(('pop', 'remove'))}({self.pick(self.of('header')).name})"]
        shapes = self.random.sample(self.of("header"), self.pick((1, 1, 2)))
        if self.pushed + sum(s.size for s in shapes) > 100:
            return ["pkt.untag()"]
        self.pushed += sum(s.size for s in shapes)
        names = [self.name("v") for _ in shapes]
        for name, shape in zip(names, shapes, strict=True):
            scope.views[name] = shape
            scope.fresh.add(name)
        how = self.pick(("push", "insert", "blank"))
        return [f"{', '.join(names)} = pkt.{how}({', '.join(s.name for s in shapes)})"]

    def rewrite(self, scope: Scope, depth: int) -> list[str]:
        parsed = [(n, s) for n, s in scope.views.items() if s.guarded and n not in scope.fresh]
        if not parsed:
            plain = [(n, s) for n, s in scope.views.items() if s.kind == "header" and not s.guarded]
            if plain and self.chance(0.3):
                name, shape = self.pick(plain)
                return [f"pkt.rewrite({name}, {self.pick(shape.fields)}={self.fit(self.number(scope, 1), 8)})"]
            if scope.loop or (not scope.tail and not scope.packet):
                return self.assign(scope, depth)
            names = [self.name("v") for _ in range(3)]
            lower = self.pick((UDP, TCP))
            for name, shape in zip(names, (ETHERNET, IPV4, lower), strict=True):
                scope.views[name] = shape
            parsed = [(names[1], IPV4)]
            lines = [f"{', '.join(names)} = pkt.parse(Ethernet, IPv4, {lower.name})"]
        else:
            lines = []
        name, shape = self.pick(parsed)
        shaping = () if self.chance(0.05) else ("ihl", "length", "proto")        # they decide what a checksum sums
        free = [f for f in shape.fields if f not in ("checksum", *shaping)]
        labels = self.random.sample(free, min(self.random.randint(1, 3), len(free)))
        fields = ", ".join(f"{label}={self.number(scope, 2).text}" for label in labels)
        under = ""
        if shape is IPV4:
            below = [n for n, s in scope.views.items() if s in (UDP, TCP) and n not in scope.fresh]
            under = f", under={self.pick(below)}" if below and self.chance(0.8) else ", under=None"
        return [*lines, f"pkt.rewrite({name}{under}, {fields})"]

    def metadata(self, scope: Scope, depth: int) -> list[str]:
        name = self.name("m")
        scope.entries[name] = next(s for s in self.shapes if s.name == "Meta"), "meta"
        return [f"{name} = pkt.meta(Meta)"]

    def require(self, scope: Scope, depth: int) -> list[str]:
        reason = self.pick(("", "", ", 77", ", Dropped.UNWIRED", f", {self.fit(self.number(scope, 1), 8)}"))
        return [f"require({self.condition(scope, 2)}{reason})"]

    # -- tables --------------------------------------------------------------------------------------------------------

    def key(self, scope: Scope, table: Kept) -> str:
        kind = table.key
        if isinstance(kind, Shape):
            ready = [n for n, (s, _) in scope.entries.items() if s is kind]
            if ready and self.chance(0.5):
                return str(self.pick(ready))
            return self.construct(scope, kind)
        value = self.number(scope, 2)
        if self.chance(0.6) or kind > 64:
            return self.fit(value, self.pick((1, 2, 3)) if table.kind != "lpm" else min(kind, 64))
        return value.text

    def written(self, scope: Scope, table: Kept) -> None:
        """Entries of a table that was written are stale."""
        if not self.chance(FORGETS):
            stale = [n for n, (_, origin) in scope.entries.items() if origin in (table.name, "?")]
            if table.kind != "array":
                for name in stale:
                    del scope.entries[name]

    def table_statement(self, scope: Scope, depth: int) -> list[str]:
        table = self.pick(self.tables)
        where = f"self.{table.name}"
        if table.kind == "counter":
            size = self.pick(("", ", len(pkt)", f", bytes={self.fit(self.number(scope, 1), 16)}"))
            return [f"{where}.add({self.number(scope, 1).text}{size})"]
        if table.inner is not None:
            if depth <= 0:
                return self.assign(scope, depth)
            name = self.name("t")
            with self.inside(scope) as inner:
                body = self.looked_up(inner, table.inner, name, depth - 1)
            return [f"{name} = {where}.get({self.fit(self.number(scope, 1), 2)})", f"if {name} is not None:",
                    *self.indented(body)]
        if self.chance(0.5) or table.kind == "lpm":
            return self.looked_up(scope, table, where, depth)
        return self.changed(scope, table, where, depth)

    def looked_up(self, scope: Scope, table: Kept, where: str, depth: int) -> list[str]:
        name, key = self.name("e"), self.key(scope, table)
        if self.chance(0.12):
            flag = self.name("b")
            scope.truths.append(flag)
            return [f"{flag} = {key} {self.pick(('in', 'not in'))} {where}"]
        if self.chance(0.15):
            if isinstance(table.value, Shape):
                scope.entries[name] = table.value, table.name
            else:
                scope.numbers[name] = 0, (1 << table.value) - 1, table.value > 64
                scope.frozen |= {name}
            return [f"{name} = {where}[{key}]"]
        if isinstance(table.value, int) and table.value <= 64 and self.chance(0.2):
            number = self.name("n")
            scope.numbers[number] = 0, (1 << max(table.value, 4)) - 1, False
            return [f"{number} = {where}.get({key}) or {self.random.randint(0, 9)}"]
        if depth <= 0:
            return self.assign(scope, depth)
        with self.inside(scope) as inner:
            if isinstance(table.value, Shape):
                inner.entries[name] = table.value, table.name
            else:
                inner.numbers[name] = 0, (1 << table.value) - 1, table.value > 64
                inner.frozen |= {name}
            touch = [f"{where}.touch({name})"] if table.ttl and self.chance(0.5) else []
            body = touch + self.block(inner, depth - 1, end=False)
        test = name if self.chance(0.2) and isinstance(table.value, Shape) else f"{name} is not None"
        lines = [f"{name} = {where}.get({key})", f"if {test}:", *self.indented(body)]
        if self.chance(0.5) and table.kind not in ("lpm",) and "." not in table.name:
            with self.inside(scope) as inner:
                lines += ["else:", *self.indented(self.changed(inner, table, where, depth))]
        return lines

    def changed(self, scope: Scope, table: Kept, where: str, depth: int) -> list[str]:
        key = self.key(scope, table)
        if isinstance(table.value, Shape):
            ready = [n for n, (s, origin) in scope.entries.items() if s is table.value]
            value = self.pick(ready) if ready and self.chance(0.3) else self.construct(scope, table.value)
        else:
            value = self.stored(scope, 2, table.value)
        way = self.random.randrange(5)
        if way == 0 and table.kind != "array":
            self.written(scope, table)
            return [f"del {where}[{key}]"]
        self.written(scope, table)
        if way == 1:
            return [f"{where}[{key}] = {value}"]
        verb = "insert" if way == 2 and table.kind != "array" else "put"
        if self.chance(0.5):
            name = self.name("b")
            scope.truths.append(name)
            return [f"{name} = {where}.{verb}({key}, {value})"]
        return [f"{where}.{verb}({key}, {value})"]

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, scope: Scope, callee: Callee) -> str:
        texts = ["pkt"] if callee.method else []
        for kind in callee.parameters:
            if isinstance(kind, int):
                texts.append(self.fit(self.number(scope, 2), kind))
            elif kind.kind == "header":
                texts.append(self.pick([n for n, s in scope.views.items() if s is kind]))
            else:
                ready = [n for n, (s, _) in scope.entries.items() if s is kind]
                texts.append(self.pick(ready) if ready and self.chance(0.6) else self.construct(scope, kind))
        return f"{'self.' if callee.method else ''}{callee.name}({', '.join(texts)})"

    def callable(self, scope: Scope, results: int | None = None) -> list[Callee]:
        """Which may be called here: their arguments are at hand."""
        return [c for c in self.callees if (scope.packet or not c.method)
                and (results is None or len(c.results) == results)
                and not (c.method and scope.loop)           # they may have loops
                and all(isinstance(k, int) or k.kind != "header" or k in scope.views.values() for k in c.parameters)]

    def after(self, scope: Scope, callee: Callee) -> None:
        """A method may have resized the packet and written any table."""
        if callee.method:
            if callee.resizes:
                scope.views.clear()
            scope.entries = {n: e for n, e in scope.entries.items() if e[1] in ("", "meta")}

    def call_statement(self, scope: Scope, depth: int) -> list[str]:
        ready = self.callable(scope)
        if not ready:
            return self.assign(scope, depth)
        callee = self.pick(ready)
        text = self.call(scope, callee)
        self.after(scope, callee)
        if not callee.results or self.chance(0.1):
            return [text]
        names = [self.name("n") for _ in callee.results]
        for name, bits in zip(names, callee.results, strict=True):
            scope.numbers[name] = 0, (1 << bits) - 1, True
            scope.frozen |= {name}
        return [f"{', '.join(names)} = {text}"]

    # -- expressions ---------------------------------------------------------------------------------------------------

    def fit(self, value: Text, bits: int) -> str:
        """The value, made to lie within so many bits."""
        if (value.low >= 0 and value.high < 1 << bits) or self.chance(FORGETS):
            return value.text
        return f"({value.text} & {hex((1 << bits) - 1)})"

    def fitted(self, value: Text, bits: int) -> Text:
        high = (1 << bits) - 1
        within = value.low >= 0 and value.high <= high
        return Text(self.fit(value, bits), value.low if within else 0, value.high if within else high, value.wide)

    def number(self, scope: Scope, depth: int) -> Text:
        """An integer."""
        if depth <= 0 or self.chance(0.25):
            return self.leaf(scope)
        match self.random.choices(range(12), (8, 6, 3, 3, 3, 2, 1.5, 1, 1, 1.5, 1, 1.5))[0]:
            case 0:
                a, b = self.number(scope, depth - 1), self.number(scope, depth - 1)
                return self.arithmetic(a, b)
            case 1:
                a, b = self.number(scope, depth - 1), self.number(scope, depth - 1)
                op = self.pick("&|^")
                return self.bitwise(op, a, b)
            case 2:
                a, count = self.number(scope, depth - 1), self.number(scope, depth - 1)
                return self.shifted(a, count)
            case 3:
                a, b = self.fitted(self.number(scope, depth - 1), 48), self.fitted(self.number(scope, depth - 1), 16)
                if a.wide or b.wide:
                    return a
                divisor = b.text if b.low > 0 else f"({b.text} | 1)"
                high = b.high | 1
                if self.chance(0.5):
                    return Text(f"({a.text} // {divisor})", 0, a.high)
                return Text(f"({a.text} % {divisor})", 0, min(a.high, (1 << high.bit_length()) - 1))
            case 4:
                a, b = (self.ordered(self.number(scope, depth - 1)) for _ in range(2))
                test = self.condition(scope, depth - 1)
                low, high, wide = min(a.low, b.low), max(a.high, b.high), a.wide or b.wide
                return Text(f"({a.text} if {test} else {b.text})", low, high, wide)
            case 5:
                a, b = (self.ordered(self.number(scope, depth - 1)) for _ in range(2))
                op = self.pick((min, max))
                low, high, wide = op(a.low, b.low), op(a.high, b.high), a.wide or b.wide
                return Text(f"{op.__name__}({a.text}, {b.text})", low, high, wide)
            case 6:
                a = self.ordered(self.number(scope, depth - 1))
                if self.chance(0.5):
                    return Text(f"(-{a.text})", -a.high, -a.low, a.wide)
                return Text(f"(~{a.text})", -a.high - 1, -a.low - 1, a.wide)
            case 7:
                a, b = (self.ordered(self.number(scope, depth - 1)) for _ in range(2))
                return Text(f"({a.text} {self.pick(('or', 'and'))} {b.text})", min(a.low, b.low), max(a.high, b.high),
                            a.wide or b.wide)
            case 8:
                return Text(f"({self.comparison(scope, depth - 1)})", 0, 1)
            case 9:
                return self.walrus(scope, depth)
            case 10:
                records = [n for n, (s, _) in scope.entries.items()]
                values = [self.pick(records)] if records and self.chance(0.5) else []
                values += [self.ordered(self.number(scope, depth - 1)).text for _ in range(self.random.randint(1, 2))]
                return Text(f"hash({', '.join(values)})", 0, (1 << 32) - 1)
        ready = [c for c in self.callable(scope, 1) if not c.resizes]        # or arguments beside it would be stale
        if not ready:
            return self.leaf(scope)
        callee = self.pick(ready)
        text = self.call(scope, callee)
        self.after(scope, callee)
        return Text(text, 0, (1 << callee.results[0]) - 1, True)

    def walrus(self, scope: Scope, depth: int) -> Text:
        name, value = self.name("w"), self.fitted(self.number(scope, depth - 1), 32)
        return Text(f"({name} := {value.text})", value.low, value.high, value.wide)

    def ordered(self, value: Text) -> Text:
        """What may be compared."""
        if (value.low >= -(1 << 63) and value.high < 1 << 63) or (value.low >= 0 and value.high < 1 << 64):
            return value
        if value.wide and value.low >= 0 and value.high < 1 << 128:
            return value
        return self.fitted(value, self.pick((8, 32, 63)))

    def arithmetic(self, a: Text, b: Text) -> Text:
        op = self.pick("++--*")
        if op == "*":
            a, b = self.fitted(a, 32), self.fitted(b, 24)
            if a.wide or b.wide:
                op = "+"
            else:
                return Text(f"({a.text} * {b.text})", a.low * b.low, a.high * b.high)
        if a.wide or b.wide:
            a, b = (x if x.wide else self.ordered(x) for x in (a, b))
        if op == "+":
            return Text(f"({a.text} + {b.text})", a.low + b.low, a.high + b.high, a.wide or b.wide)
        return Text(f"({a.text} - {b.text})", a.low - b.high, a.high - b.low, a.wide or b.wide)

    def bitwise(self, op: str, a: Text, b: Text) -> Text:
        if a.wide or b.wide:
            a, b = (x if x.wide else self.ordered(x) for x in (a, b))
        wide = a.wide or b.wide
        if op == "&":
            tops = [x.high for x in (a, b) if x.low >= 0]
            if tops:
                return Text(f"({a.text} & {b.text})", 0, min(tops), wide)
        elif a.low >= 0 and b.low >= 0:
            return Text(f"({a.text} {op} {b.text})", 0, (1 << max(a.high, b.high).bit_length()) - 1, wide)
        most = max(abs(n).bit_length() for n in (a.low, a.high, b.low, b.high))
        return Text(f"({a.text} {op} {b.text})", -(1 << most), (1 << most) - 1, wide)

    def shifted(self, a: Text, count: Text) -> Text:
        if self.chance(0.6):
            number = self.random.randint(0, 127 if a.wide else 40)
            count = Text(str(number), number, number)
        else:
            count = self.fitted(count, 5)
        wide = a.wide or count.wide
        if not a.wide and count.wide:
            a = self.ordered(a)
        if self.chance(0.5):
            return Text(f"({a.text} << {count.text})", min(a.low << count.low, a.low << count.high),
                        max(a.high << count.low, a.high << count.high), wide)
        a = self.ordered(a)
        return Text(f"({a.text} >> {count.text})", min(a.low >> count.low, a.low >> count.high),
                    max(a.high >> count.low, a.high >> count.high), wide)

    def leaf(self, scope: Scope) -> Text:
        ways: list[Callable[[], Text]] = [self.constant]
        if scope.numbers:
            ways += [lambda: self.variable(scope)] * 4
        if scope.views or scope.entries:
            ways += [lambda: self.field_of(scope)] * 4
        if scope.truths:
            ways += [lambda: Text(self.pick(scope.truths), 0, 1)]
        if scope.packet:
            ways += [lambda: self.asked(scope)] * 2
        return self.pick(ways)()  # type: ignore[no-any-return]

    def constant(self) -> Text:
        value = self.random.getrandbits(self.pick((1, 3, 8, 8, 16, 32, 48))) if self.chance(0.97) else \
            self.pick(((1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -5))
        return Text(str(value) if value >= 0 else f"({value})", value, value)

    def variable(self, scope: Scope) -> Text:
        name = self.pick(scope.numbers)
        low, high, wide = scope.numbers[name]
        return Text(name, low, high, wide)

    def field_of(self, scope: Scope) -> Text:
        name, shape = self.pick([*scope.views.items(), *((n, s) for n, (s, _) in scope.entries.items())])
        label = self.pick(shape.fields)
        bits = shape.fields[label]
        return Text(f"{name}.{label}", 0, (1 << bits) - 1, bits > 64)

    def asked(self, scope: Scope) -> Text:
        match self.random.randrange(8):
            case 0:
                return Text("len(pkt)", 0, 0xffffffff)
            case 1:
                return Text(self.pick(("pkt.port", "pkt.tci", "pkt.tpid")), 0, 0xffff)
            case 2:
                size = self.pick((8, 16, 32))
                return Text(f"pkt.u{size}({self.offset(scope)})", 0, (1 << size) - 1)
            case 3:
                return Text("now()", 0, (1 << 63) - 1)
            case 4:
                return Text("random()", 0, (1 << 32) - 1)
            case 5:
                return Text(self.pick(("self.inside", "self.outside", "self.others[1]")), 0, 5)
        settings = next(s for s in self.shapes if s.kind == "config")
        label = self.pick(settings.fields)
        bits = settings.fields[label]
        return Text(f"self.config.{label}", 0, (1 << bits) - 1, bits > 64)

    # -- conditions -----------------------------------------------------------------------------------------------

    def condition(self, scope: Scope, depth: int) -> str:
        if depth <= 0 or self.chance(0.5):
            return self.comparison(scope, depth)
        match self.random.randrange(5):
            case 0:
                return f"not ({self.condition(scope, depth - 1)})"
            case 1:
                return f"({self.condition(scope, depth - 1)} and {self.condition(scope, depth - 1)})"
            case 2:
                return f"({self.condition(scope, depth - 1)} or {self.condition(scope, depth - 1)})"
            case 3:
                return self.ordered(self.number(scope, depth - 1)).text
        return str(self.pick([*scope.truths, *(("pkt.tagged", "self.config.flag") if scope.packet else ("True",))]))

    def comparison(self, scope: Scope, depth: int) -> str:
        a, b = (self.ordered(self.number(scope, max(depth - 1, 0))) for _ in range(2))
        match self.random.randrange(8):
            case 0:
                values = ", ".join(str(self.random.getrandbits(self.pick((2, 8, 16)))) for _ in range(3))
                return f"({a.text} {self.pick(('in', 'not in'))} ({values}))"
            case 1:
                c = self.ordered(self.number(scope, max(depth - 1, 0)))
                return f"({a.text} {self.pick(('<', '<=', '>'))} {b.text} {self.pick(('<', '==', '>='))} {c.text})"
            case 2:
                small = self.random.getrandbits(4)
                return f"({a.text} {self.pick(('==', '!='))} {small})"
        return f"({a.text} {self.pick(('<', '<=', '>', '>=', '==', '!='))} {b.text})"


def generate(seed: int) -> str:
    """The text of program number `seed`."""
    return Writer(seed).module()


def frames(seed: int, count: int) -> list[tuple[bytes, int]]:
    """Frames and the ports they come in through: noise, UDP and TCP, tagged and not, short and long."""
    chance = random.Random(seed ^ 0x5eed)
    made = []
    for _ in range(count):
        payload = chance.randbytes(chance.choice((0, 3, 8, 20, 64, 200)))
        address = chance.randbytes(12)
        tag = chance.choice((b"", b"", bytes.fromhex("8100") + chance.randbytes(2),
                             bytes.fromhex("88a8") + chance.randbytes(2) + bytes.fromhex("8100") + chance.randbytes(2)))
        match chance.randrange(4):
            case 0:
                body = chance.randbytes(chance.choice((2, 2, 4, 30, 60))) + payload
            case 1 | 2:
                lower = chance.randbytes(8 if (proto := chance.choice((6, 17))) == 17 else 20)
                total = (20 + len(lower) + len(payload)).to_bytes(2, "big")
                body = (b"\x08\x00\x45\x00" + total + chance.randbytes(2) + b"\x00\x00\x40" + bytes([proto])
                        + chance.randbytes(10) + lower + payload)
            case _:
                body = b"\x86\xdd" + chance.randbytes(40) + payload
        made.append(((address + tag + body).ljust(14, b"\0"), chance.randrange(6)))
    return made
