"""A component: state and methods that several functions share, as one part of each.

A class with tables, constants and methods of the language, like a function, but without ports, verdicts of its own or
a life of its own: a function holds it, and its tables are tables *of that function*, named `part.table`.  So every
target, pins, upgrades and tools see ordinary tables, and nothing but the compiler's reading of `self` knows components.

    class Meter(Component):
        most: u32 = 1000                                    # a constant: an integer the holder may set
        seen: Lru[ipv4, Seen] = table("most")               # `size` and `ttl` may name one, or a field of `config`

        def count(self, address: int) -> int: ...           # in the language; `self` is the component

    class Guard(Function):
        sources: Meter = Meter(most=64)

Constants belong to the kind, which compiles once.  What an operator sets is configuration: a component that reads some
annotates `config` with a `Config` class, and the holder's own is derived from it.  A component whose records hold
something of each function is generic in the record: `class Meter(Component, Generic[R])`, held as `Meter[Own]`.

Inheritance from a mixin class was rejected: a function could not hold two, and names would meet.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args, get_origin, get_type_hints

from .configuration import Config, accept
from .errors import ConfigError, DeclarationError
from .integers import uint
from .tables import Declared, TableSpec, declare

if TYPE_CHECKING:
    from .function import Function


class Component:
    """Subclass it; see the module's essay.  `Meter(most=64)` in a class body declares one."""

    _holder: Any        # the function this is a part of

    def __init__(self, **constants: Any) -> None:
        self.constants: dict[str, int] = {}
        kind, hints = type(self), get_type_hints(type(self), include_extras=True)
        for name, hint in hints.items():
            if name in ("constants", "held"):
                raise DeclarationError(f"{kind.__name__}.{name}: this name belongs to the component itself")
            if uint(hint) is None and hint not in (int, bool):
                continue
            value = constants.pop(name, getattr(kind, name, None))
            if value is None:
                raise DeclarationError(f"{kind.__name__} needs `{name}`")
            try:
                self.constants[name] = accept(name, hint, value)
            except ConfigError as error:
                raise DeclarationError(f"{kind.__name__}: {error}") from None
            setattr(self, name, self.constants[name])
        if constants:
            raise DeclarationError(f"{kind.__name__} has no constant `{next(iter(constants))}`; it has "
                                   f"{', '.join(self.constants) or 'none'}")

    @property
    def config(self) -> Any:
        """The configuration of the function that holds this."""
        return self._holder.config

    def held(self, holder: Function, name: str) -> Self:
        """This declaration as part of a living function."""
        part = type(self)(**self.constants)
        part._holder = holder
        prefix = f"{name}."
        for path, found in holder.tables.items():
            if path.startswith(prefix):
                setattr(part, path.removeprefix(prefix), found)
        return part


def tables_of(holder: str, name: str, hint: Any, component: Component, config: type[Config]) -> dict[str, TableSpec]:
    """The tables a part gives to its function, by their path: `name.table`."""
    kind, types = type(component), arguments_of(hint)
    hints = get_type_hints(kind, include_extras=True)
    wanted = hints.get("config", Config)
    if isinstance(wanted, type) and not issubclass(config, wanted):
        raise DeclarationError(f"{holder}.{name} reads {wanted.__name__}: derive {config.__name__} from it")
    found: dict[str, TableSpec] = {}
    for table, annotated in hints.items():
        declared = getattr(kind, table, None)
        if isinstance(declared, Component):
            raise DeclarationError(f"{kind.__name__}.{table}: components hold no components")
        if isinstance(declared, Declared):
            found[f"{name}.{table}"] = declare(f"{name}.{table}", substituted(annotated, types),
                                               resolved(declared, component.constants))
    return found


def arguments_of(hint: Any) -> dict[Any, Any]:
    """What the type variables of a component's classes stand for, in `Meter[Own]` or a class derived from it."""
    kind = get_origin(hint) or hint
    types = dict(zip(getattr(kind, "__parameters__", ()), get_args(hint), strict=False))
    for base in getattr(kind, "__orig_bases__", ()):
        if isinstance(get_origin(base), type) and issubclass(get_origin(base), Component):
            types |= {name: substituted(value, types) for name, value in arguments_of(base).items()}
    return types


def substituted(hint: Any, types: dict[Any, Any]) -> Any:
    """An annotation with its type variables replaced."""
    if isinstance(hint, TypeVar):
        if hint not in types:
            raise DeclarationError(f"say what {hint} stands for: annotate the part with a record in brackets")
        return types[hint]
    inside = get_args(hint)
    if any(isinstance(part, TypeVar) or get_args(part) for part in inside) and not hasattr(hint, "__metadata__"):
        return get_origin(hint)[tuple(substituted(part, types) for part in inside)]
    return hint


def resolved(declared: Declared, constants: dict[str, int]) -> Declared:
    """A declaration whose size and ttl no longer name constants."""
    size, ttl = (constants.get(what, what) if isinstance(what, str) else what
                 for what in (declared.size, declared.ttl))
    return Declared(size, ttl, declared.per_cpu, declared.inner and resolved(declared.inner, constants),
                    declared.durable)


__all__ = ["Component"]
