"""A network function: one class, two halves.

The data path is `ingress(self, pkt)` and what it calls: the language.  The control path is ordinary Python: a typed
`config`, `configure(old, new)` that writes only what differs, `@handles(Event)` for punted packets, `@every(seconds)`,
`@serves(port)` for who connects, and `@action` for commands.  CLI, API and documentation are derived from these
declarations, so that a new function is one new file.

The class is the *kind*: it compiles once per target.  An instance owns a configuration and tables; where the tables
live can change (`place`), what they mean cannot.

    class Hub(Function):
        ports: Ports = ports(64)

        def ingress(self, pkt: Packet) -> Verdict:
            return FLOOD
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, get_type_hints

from .component import Component, tables_of
from .configuration import Config
from .errors import DeclarationError, Reject
from .layout import Record
from .packet import Packet
from .ports import MOST, Family, Ports, PortSet, is_port
from .queues import Queues
from .streams import Segment, Stack
from .tables import TABLES, Declared, Home, PythonHome, Table, TableSpec, declare
from .verdicts import DROP_KIND, FLOOD_KIND, PUNT_KIND, Dropped, Reasons, Verdict, drop

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class FunctionSpec:
    """A kind as data: what the compiler, the fabric and the documentation read."""

    name: str
    config: type[Config]
    tables: dict[str, TableSpec]
    ports: dict[str, int | Ports]
    reasons: dict[int, str]
    events: tuple[type[Record], ...]
    handlers: dict[type[Record], str]
    actions: dict[str, str]
    timers: dict[str, float]
    parts: dict[str, Component] = field(default_factory=dict)
    servers: dict[int, str] = field(default_factory=dict)

    @property
    def port_sets(self) -> str | None:
        """The table of sets of ports, if there is one: see `PortSet`."""
        return next((name for name, spec in self.tables.items() if spec.value is PortSet), None)

    @property
    def port_count(self) -> int:
        return sum(1 if isinstance(p, int) else len(p) for p in self.ports.values())


def inline(function: F) -> F:
    """Marks a free function as written in the language: the compiler puts its body where it is called."""
    function.__inline__ = True  # type: ignore[attr-defined]
    return function


def walked_once(method: F) -> F:
    """Marks a method before which the kernel's verifier shall forget which way led there.

    It follows every way through a program, and every way on from where they meet if they left other numbers or other
    views behind; so ten kinds of packets times a hundred ways to decide are a thousand.  Here all of them become one:
    nothing is known of any number any more, and views of the packet are reached anew when they are next used, which is
    what it costs.  It changes nothing else.
    """
    method.__walked_once__ = True  # type: ignore[attr-defined]
    return method


def handles(event: type[Record]) -> Callable[[F], F]:
    """The method (plain or async) that receives what was punted, or told by `notify`: `(self, event, packet)`."""
    def mark(method: F) -> F:
        method.__handles__ = event  # type: ignore[attr-defined]
        return method
    return mark


def every(seconds: float) -> Callable[[F], F]:
    """A method the control path calls again and again."""
    def mark(method: F) -> F:
        method.__every__ = seconds  # type: ignore[attr-defined]
        return method
    return mark


def action(method: F) -> F:
    """A method people may call by name; its parameters and docstring are its interface."""
    method.__action__ = True  # type: ignore[attr-defined]
    return method


class Function:
    """Subclass it; see the module's essay.

    `Switch(ageing="60s")` and `Switch(config=SwitchConfig(ageing="60s"))` are the same.
    """

    config: Config
    elsewhere: ClassVar[bool] = False       # its Python is in another process: there is no reference in this one
    _specs: ClassVar[dict[type[Function], FunctionSpec]] = {}

    def __init__(self, **values: Any) -> None:
        spec = self.spec()
        config = values.pop("config", None)
        if config is None:
            config = spec.config(**values)
        elif values:
            raise TypeError(f"{spec.name} takes a configuration or its values, not both")
        if not isinstance(config, spec.config):
            raise TypeError(f"{spec.name} is configured by {spec.config.__name__}, not {type(config).__name__}")
        self.config = config
        self.tables: dict[str, Table[Any, Any]] = {}
        for name, described in spec.tables.items():
            resolved = described.resolve(config)
            self.tables[name] = TABLES[resolved.kind](resolved)
            if "." not in name:
                setattr(self, name, self.tables[name])
        for name, part in spec.parts.items():
            setattr(self, name, part.held(self, name))
        for name, number in spec.ports.items():
            setattr(self, name, number)
        self.drops: dict[int, int] = {}
        self.outbox: list[tuple[int, bytes]] = []
        self.post: Callable[[int, bytes, int], None] | None = None
        self.stack: Stack | None = None
        self.configure(None, config)

    # -- what an author writes -----------------------------------------------------------------------------------

    def ingress(self, pkt: Packet) -> Verdict:
        """The data path."""
        raise NotImplementedError(f"{type(self).__name__} has no ingress")

    def configure(self, old: Any, new: Any) -> None:
        """Bring the tables from `old` (None at first) to `new`, writing only what differs."""

    def queues(self, port: int) -> Queues | None:
        """The queues that the device of a port shall have, as configured now; None for those it has.  Of all or of
        those it declares; what it says is asked when a port is attached and when the configuration changes."""
        return None

    def parted(self, port: int) -> None:
        """What was behind a port is not there any more: forget what was learned of it.  Called when a device or a link
        goes from the port, or to another one."""

    def restored(self, since: int) -> None:
        """Durable tables hold what was saved, after a power cut: what Python wrote, and what the data path had changed
        until `since`, a time.  Make of it what still holds if the data path has changed more."""

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, pkt: Packet, entry: str = "ingress") -> Verdict:
        """The reference: what this function does with a packet, in CPython.  Drops are counted in `drops`.

        `entry` is "ingress" or, for functions that have one, "egress": what is done to a packet about to leave
        `pkt.port`, which forwards it to that port or drops it.
        """
        pkt.cursor = 0
        pkt.told.clear()
        pkt.copies.clear()
        try:
            verdict: Verdict = getattr(self, entry)(pkt)
        except Reject as rejected:
            verdict = drop(rejected.reason)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"{type(self).__name__}.ingress returned {verdict!r}, not a verdict")
        if verdict.kind == FLOOD_KIND and verdict.argument and self.spec().port_sets is None:
            raise TypeError(f"{type(self).__name__} floods a set of ports and has no table of them: declare an "
                            "`Array[PortSet]`")
        if verdict.kind == DROP_KIND:
            self.drops[verdict.argument] = self.drops.get(verdict.argument, 0) + 1
        for event in (*pkt.told, *([verdict.event] if verdict.kind == PUNT_KIND and verdict.event is not None else [])):
            if type(event) not in self.spec().events:
                raise TypeError(f"{type(self).__name__} tells of {type(event).__name__} and has nothing that "
                                f"`@handles({type(event).__name__})`")
        if verdict.kind == PUNT_KIND and verdict.event is not None:
            verdict.argument = self.spec().events.index(type(verdict.event))
        return verdict

    def reconfigure(self, config: Config | None = None, **values: Any) -> None:
        """Change the configuration of a living instance.  Table sizes stay; how long entries live follows."""
        if config is not None and values:
            raise TypeError("reconfigure takes a configuration or values to change, not both")
        old, new = self.config, config or self.config.replaced(**values)
        self.configure(old, new)
        self.config = new
        for name, described in self.spec().tables.items():
            self.tables[name].spec = replace(self.tables[name].spec, ttl=described.resolve(new).ttl)

    def place(self, make: Callable[[TableSpec], Home]) -> None:
        """Move the tables to other homes, entries included."""
        for described in self.tables.values():
            home = make(described.spec)
            move(described.spec, described.home, home)
            described.home = home
            described._wrote()

    def segment(self, event: Segment, packet: Packet) -> None:
        """A TCP segment for this host: for its stack, if it has one; see `serves`."""
        if self.stack is not None:
            self.stack.receive(packet)

    def method(self, name: str) -> Callable[..., Any]:
        """A handler, action or timer by its name in the spec: `part.method` is one of a component's."""
        found: Callable[..., Any] = attrgetter(name)(self)
        return found

    def send(self, packet: Packet | bytes, port: int) -> None:
        """Let a frame of one's own leave through `port`, as if `ingress` had forwarded it there; for the control path.

        A network takes it by `post`, and cuts an aggregate into the frames it stands for; without one it waits in
        `outbox`, as (port, frame).
        """
        if not 0 <= port < self.spec().port_count:
            raise ValueError(f"{self.spec().name} has no port {port}")
        frame = bytes(packet)
        if len(frame) < 14:
            raise ValueError(f"a frame has 14 bytes or more, not {len(frame)}")
        if self.post is None:
            self.outbox.append((port, frame))
        else:
            self.post(port, frame, packet.segment if isinstance(packet, Packet) else 0)

    def sweep(self) -> int:
        """Remove the dead entries of all mortal tables."""
        return sum(t.sweep() for t in self.tables.values() if t.spec.ttl)

    # -- the class as data -------------------------------------------------------------------------------------------

    @classmethod
    def spec(cls) -> FunctionSpec:
        """The declarations of this kind.  Annotations are resolved once, at first use."""
        if cls not in cls._specs:
            cls._specs[cls] = _specify(cls)
        return cls._specs[cls]


def move(spec: TableSpec, old: Home, new: Home) -> None:
    """Copy entries; of an array in Python memory only those that were ever written exist."""
    entries = old.entries if isinstance(old, PythonHome) else dict(old.items())
    for key, value in list(entries.items()):
        if spec.inner is not None:
            inner = old.inner(key)
            if inner is not None:
                move(spec.inner, inner, new.create(key, spec.inner))
        elif spec.kind not in ("array", "counter") or any(value):
            new.update(key, bytes(value), 0)


def _specify(cls: type[Function]) -> FunctionSpec:
    hints = get_type_hints(cls, include_extras=True)
    config = hints.get("config", Config)
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise DeclarationError(f"{cls.__name__}.config must be annotated with a Config class")
    tables: dict[str, TableSpec] = {}
    numbers: dict[str, int | Ports] = {}
    parts: dict[str, Component] = {}
    count = 0
    for name in hints:          # in the order of the class bodies, bases first
        declared = getattr(cls, name, None)
        if isinstance(declared, Declared):
            tables[name] = declare(name, hints[name], declared)
        elif isinstance(declared, Component):
            parts[name] = declared
            tables |= tables_of(cls.__name__, name, hints[name], declared, config)
        elif isinstance(declared, Family):
            numbers[name] = Ports(count, declared.count)
            count += declared.count
        elif is_port(hints[name]):
            numbers[name] = count
            count += 1
    if count > MOST:
        raise DeclarationError(f"{cls.__name__} declares {count} ports; {MOST} is the most")
    known = config.types.keys() | {name for name in dir(config) if isinstance(getattr(config, name), property)}
    for described in [inside for whole in tables.values() for inside in (whole, whole.inner) if inside is not None]:
        for what in (described.size, described.ttl):
            if isinstance(what, str) and what not in known:
                raise DeclarationError(f"{cls.__name__}.{described.name}: {config.__name__} has no field {what!r}")
    sets = [name for name, described in tables.items() if described.value is PortSet]
    if len(sets) > 1 or any(tables[name].kind != "array" or tables[name].per_cpu for name in sets):
        raise DeclarationError(f"{cls.__name__}: sets of ports are one Array[PortSet], not {', '.join(sets)}")
    methods = _methods(cls, "")
    for name, part in parts.items():
        methods |= _methods(type(part), f"{name}.")
    handlers = {m.__handles__: n for n, m in methods.items() if hasattr(m, "__handles__")}
    servers = {m.__serves__: n for n, m in methods.items() if hasattr(m, "__serves__")}
    if servers:
        handlers[Segment] = "segment"
    return FunctionSpec(
        cls.__name__, config, tables, numbers, _reasons(cls, parts), tuple(handlers), handlers,
        {n: (m.__doc__ or "").strip() for n, m in methods.items() if hasattr(m, "__action__")},
        {n: m.__every__ for n, m in methods.items() if hasattr(m, "__every__")}, parts, servers)


def _methods(cls: type, prefix: str) -> dict[str, Any]:
    return {prefix + n: m for k in reversed(cls.__mro__) for n, m in k.__dict__.items() if callable(m)}


def _reasons(cls: type[Function], parts: dict[str, Component]) -> dict[int, str]:
    """Every reason a drop of this kind can have: the platform's, and those of the module's `Reasons` classes."""
    import sys
    found = {int(r): r.name for r in Dropped}
    declared: list[type[IntEnum]] = [v for v in vars(cls).values() if isinstance(v, type) and issubclass(v, Reasons)]
    for kind in (*(base for base in cls.__mro__ if issubclass(base, Function)), *map(type, parts.values())):
        names = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        declared += [v for v in names.values() if isinstance(v, type) and issubclass(v, Reasons)]
    for group in dict.fromkeys(declared):
        for reason in group:
            if found.setdefault(int(reason), reason.name) != reason.name:
                raise DeclarationError(f"{cls.__name__}: {found[int(reason)]} and {reason.name} are both reason "
                                       f"{int(reason)}; give those of the component, or of the class that is extended, "
                                       f"other numbers")
            found[int(reason)] = reason.name
    return found


__all__ = ["Function", "FunctionSpec", "PythonHome", "action", "every", "handles", "inline", "walked_once"]
