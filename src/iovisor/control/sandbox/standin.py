"""What stands in the daemon for a class of an author's: its declarations and its images, and none of its code.

To the fabric it is a function like any other.  Its data path is images that were checked; its tables are where tables
are; what would be Python of the author's is asked of a worker:

    handlers, timers        when there is an event, or it is time           (`method`)
    configure               when the configuration changes                  (`configure`)
    first entries           when somebody looks into a table that nobody has placed yet     (`Initial`)
    actions, migrations     when they are called

A configuration is opaque here: the JSON that was given, the bytes that the data path reads, and the numbers that sizes
and lifetimes of tables stand for.  All three are worked out once, when the document is read, and written down with the
network; so a daemon that begins anew adopts it without asking anybody.
"""
from __future__ import annotations

import hashlib
import json
import linecache
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ...compiler.cache import toolchain
from ...compiler.image import Image
from ...fabric.images import Images
from ...language import Config, Function, Packet
from ...language.errors import ConfigError
from ...language.layout import Layout
from ...language.tables import PythonHome, TableSpec, decode, encode
from ..footprint import footprint
from ..problems import Conflicting, Missing, Refused
from .attendant import Complaint, Staff, Unattended, read_packet
from .confinement import OWN
from .description import MARK, Converting, Described
from .rooms import typed
from .workshop import Bench, Workshop

MOST_MEMORY = 64 << 20          # bytes of tables of one function


@dataclass(frozen=True)
class Made:
    """What a stand-in is made of."""

    workshop: Workshop
    bench: Bench
    described: Described


class Resolved(Config):
    """A configuration of a stand-in; see the module's essay.  `of` says for which code it was worked out."""

    given: str = "{}"
    of: str = ""
    words: str = ""
    numbers: dict[str, int] = {}
    made: ClassVar[Made]
    identity: ClassVar[str]

    def validate(self) -> None:
        if self.of == self.identity:
            return
        made = self.made
        found = made.workshop.resolve(made.bench, made.described, json.loads(self.given))
        if found.faults:
            first = found.faults[0]
            raise ConfigError(".".join(map(str, first["path"])) or made.described.name, first["what"])
        numbers = dict(found.numbers or {})
        for name, value in (("given", json.dumps(found.normal, sort_keys=True)), ("of", self.identity),
                            ("words", found.record), ("numbers", numbers)):
            object.__setattr__(self, name, value)
        takes = sum(footprint(table.resolve(self)) for table in made.described.tables.values())
        if takes > MOST_MEMORY:
            raise ConfigError(made.described.name, f"its tables take {takes >> 20} MiB, and may take "
                                                   f"{MOST_MEMORY >> 20}: make them smaller")

    def record(self) -> Any:
        return bytes.fromhex(self.words)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        return dict(cls.made.described.schema)

    def __getattr__(self, name: str) -> int:
        """What the size of a table stands for."""
        if not name.startswith(MARK) or name not in self.numbers:
            raise AttributeError(name)
        return int(self.numbers[name])


class Initial(PythonHome):
    """A table that nobody has placed yet: what `configure` put into it is asked for when somebody looks."""

    def __init__(self, spec: TableSpec, function: StandIn) -> None:
        super().__init__(spec)
        self._function = function

    @property
    def entries(self) -> Any:
        self._function.begin()
        return self._held

    @entries.setter
    def entries(self, value: Any) -> None:
        self._held = value


class StandIn(Function):
    """Made by `stand_in`."""

    elsewhere = True
    made: ClassVar[Made]
    config: Resolved

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._begun = False
        for table in self.tables.values():
            table.home = Initial(table.spec, self)

    @property
    def given(self) -> Any:
        """The configuration as the author's class takes it."""
        return json.loads(self.config.given)

    def begin(self) -> None:
        """Fill the tables with what a new instance has in them."""
        if self._begun or not self.made.described.configures:
            return
        self._begun = True
        try:
            for name, entries in self._asked("entries").items():
                table = self.tables[name]
                _fill(table.spec, table.home, entries)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.made.described.name} has strange entries: {error}") from error

    def configure(self, old: Any, new: Any) -> None:
        """ValueError: it could not, or did not in time."""
        if old is not None and old != new and self.made.described.configures:
            self._asked("reconfigure", config=json.loads(new.given))

    def parted(self, port: int) -> None:
        if self.made.described.parts:
            Staff.here().of(self).tell("part", port=port)

    def restored(self, since: int) -> None:
        if self.made.described.restores:
            self._asked("restore", since=since)

    def method(self, name: str) -> Callable[..., Any]:
        if name in self.spec().timers:
            async def tick() -> None:
                await Staff.here().of(self).ask("tick", name=name)
            return tick
        events = [event for event, handler in self.spec().handlers.items() if handler == name]
        if not events:
            raise LookupError(name)

        async def handle(event: Layout, packet: Packet) -> Packet | None:
            answer = await Staff.here().of(self).ask(
                "handle", event=self.spec().events.index(type(event)), record=bytes(event).hex(),
                frame=bytes(packet).hex(), port=packet.port, segment=packet.segment)
            return _packet(answer, packet, self.spec().port_count)
        return handle

    def act(self, action: str, arguments: Any) -> Any:
        """Call an action."""
        if action not in self.spec().actions:
            raise Missing(f"{self.spec().name} has no action {action}; it has "
                          f"{', '.join(self.spec().actions) or 'none'}")
        try:
            return self._asked("act", name=action, arguments=arguments)
        except ValueError as error:
            raise Conflicting(f"{action} did not succeed: {error}") from error

    def attendance(self) -> dict[str, Any]:
        """How its worker does."""
        return dict(vars(Staff.here().of(self).attendance))

    def _asked(self, do: str, **question: Any) -> Any:
        try:
            return Staff.here().of(self).ask_now(do, **question)
        except Complaint as complaint:
            said = complaint.said
            if said.get("kind") == "refused" and isinstance(said.get("problems"), list):
                one = next((one for one in said["problems"] if isinstance(one, dict)), {})
                raise Refused.at(str(one.get("what"))[:1000], ("arguments",), str(one.get("fix"))[:1000]) from None
            raise ValueError(f"{self.made.described.name}: {complaint}") from None
        except Unattended as error:
            raise ValueError(f"the Python of {self.made.described.name} does not answer: {error}") from error


def stand_in(made: Made, images: dict[str, Image]) -> type[StandIn]:
    """The class that stands for an author's."""
    described, bench = made.described, made.bench
    identity = hashlib.sha256("\0".join((bench.module, described.name, toolchain())).encode()).hexdigest()[:24]
    config = type(f"{described.name}Config", (Resolved,), {"made": made, "identity": identity})
    body: dict[str, Any] = {"made": made, "__module__": bench.module, "__doc__": described.documentation,
                            "__qualname__": described.name}
    body |= {f"converts_{number}": _converter(one) for number, one in enumerate(described.migrations)}
    path = f"{OWN}/{bench.module}.py"
    linecache.cache[path] = len(bench.text), None, bench.text.splitlines(keepends=True), path
    for entry, line in described.lines.items():
        body[entry] = types.FunctionType(
            _not_here.__code__.replace(co_filename=path, co_firstlineno=line, co_name=entry), globals(), entry)
    kind = type(described.name, (StandIn,), body)
    Function._specs[kind] = described.spec(config)
    Images.bring(kind, images.values())
    return kind


def _not_here(self: Any, pkt: Packet) -> Any:
    raise NotImplementedError("the code of this function is not in this process")


def _converter(one: Converting) -> Callable[..., Any]:
    """A method that converts entries, as `migration` looks for it."""
    def convert(self: StandIn, key: Any, value: Any) -> Any:
        mine = self.tables[one.table].spec if one.table in self.tables else None
        since, to = (mine, one.other) if one.back else (one.other, mine)
        assert since is not None
        found = self._asked("convert", method=one.method, table=one.table, back=one.back,
                            key=typed(since)._key(key).hex(), value=(bytes(value) if isinstance(value, Layout) else
                                                                    encode(since.value, value)).hex())
        if found is None or to is None:
            return None
        return typed(to)._unkey(bytes.fromhex(found[0])), decode(to.value, bytes.fromhex(found[1]))
    convert.__migrates__ = [(one.table, one.other, one.back)]  # type: ignore[attr-defined]
    return convert


def _packet(answer: Any, given: Packet, ports: int) -> Packet | None:
    """What a handler answered, if it makes sense."""
    if answer is None:
        return None
    try:
        fresh = read_packet(answer, answer["port"])
        same = answer["same"] is True
    except (KeyError, TypeError, ValueError) as error:
        raise Unattended("it answered what is no packet") from error
    if not 0 <= fresh.port < ports:
        raise Unattended("it answered a packet for a port that is not there")
    if not same:
        return fresh
    given.data[:], given.port, given.segment = fresh.data, fresh.port, fresh.segment
    given.tci, given.tpid = fresh.tci, fresh.tpid
    return given


def _fill(spec: TableSpec, home: Any, entries: list[Any]) -> None:
    for key, value in entries:
        raw = bytes.fromhex(key)
        if len(raw) != spec.key_size:
            raise ValueError("a key has another size")
        if spec.inner is not None:
            _fill(spec.inner, home.create(raw, spec.inner), value)
            continue
        entry = bytes.fromhex(value)
        if len(entry) != spec.stored_size:
            raise ValueError("a value has another size")
        home.update(raw, entry, 0)


class Standing(types.ModuleType):
    """A module of an author's, as this process has it: a stand-in for each of its functions, made when it is asked for.

    In `sys.modules`, so that a network finds its kinds by importing them, as it does those of the catalogue.
    """

    def __init__(self, workshop: Workshop, bench: Bench) -> None:
        super().__init__(bench.module)
        self.workshop, self.bench = workshop, bench
        self._making = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with self._making:
            if name not in vars(self):
                try:
                    described, images = self.workshop.describe(self.bench, name)
                except LookupError as error:
                    raise AttributeError(str(error)) from error
                setattr(self, name, stand_in(Made(self.workshop, self.bench, described), images))
        return vars(self)[name]

    def forget(self) -> None:
        """The stand-ins are not used any more."""
        for kind in list(vars(self).values()):
            if isinstance(kind, type) and issubclass(kind, StandIn):
                Function._specs.pop(kind, None)
        linecache.cache.pop(f"{OWN}/{self.__name__}.py", None)


__all__ = ["Resolved", "StandIn", "Standing", "stand_in"]
