"""Configuration: what an operator sets on an instance, typed, documented and checked.

A `Config` subclass is a frozen record of Python values.  Its integers, booleans and enums are also what the data path
reads as `self.config.name`: they become a small frozen map per instance, so the verifier knows them as constants and
removes the branches they decide.  Lists, dictionaries, strings and nested configurations belong to the control path:
`Function.configure` turns them into table entries.  What follows from the rest of a document, `completed` adds.

Values come as people write them: a `mac` field takes `"02:00:00:00:00:01"`, a `time` field `"300s"`.  The same
declarations give the JSON Schema.  pydantic was rejected here alone: it takes three times the import budget of the
language, and the daemon's models can embed this schema.
"""
from __future__ import annotations

import types
from enum import Enum, IntEnum
from typing import Any, ClassVar, Self, Union, dataclass_transform, get_args, get_origin, get_type_hints

from .addresses import PARSE, Prefix, prefix
from .errors import ConfigError, DeclarationError
from .integers import UInt, uint
from .layout import Record
from .surroundings import Surroundings

_SCHEMAS: dict[type, dict[str, Any]] = {bool: {"type": "boolean"}, str: {"type": "string"}, int: {"type": "integer"},
                                        Prefix: {"type": "string", "format": "prefix"}}


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Config:
    """Subclass it with annotated fields; a field without a default is required.

    Override `validate` for what spans fields; it raises `ConfigError(path, message)`.
    """

    types: ClassVar[dict[str, Any]] = {}
    layout: ClassVar[type[Record]] = Record

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        cls.types = {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}
        for name in cls.types.keys() & vars(Config).keys():
            raise DeclarationError(f"{cls.__name__}.{name}: this name belongs to the configuration itself")
        plain = {name: kind for name, hint in cls.types.items() if (kind := _word(hint)) is not None}
        cls.layout = type(cls.__name__, (Record,), {"__annotations__": plain, "__module__": __name__,
                                                    **dict.fromkeys(plain, 0)})

    def __init__(self, **values: Any) -> None:
        for name, hint in self.types.items():
            if name in values:
                value = accept(name, hint, values.pop(name))
            elif hasattr(type(self), name):
                value = accept(name, hint, getattr(type(self), name))
            else:
                raise ConfigError(name, f"{type(self).__name__} needs a value")
            object.__setattr__(self, name, value)
        if values:
            known = ", ".join(self.types) or "nothing"
            raise ConfigError(next(iter(values)), f"{type(self).__name__} has no such field; it has {known}")
        self.validate()

    def validate(self) -> None:
        """Checks that span fields."""

    def completed(self, around: Surroundings) -> Self:
        """The configuration with what follows from the document around it; `ConfigError` if the two contradict."""
        return self

    def record(self) -> Record:
        """What the data path reads."""
        return self.layout(**{name: int(getattr(self, name)) for name in self.layout.fields})

    def replaced(self, **values: Any) -> Any:
        """A copy with some fields changed."""
        return type(self)(**{name: getattr(self, name) for name in self.types} | values)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON Schema (2020-12) of this configuration."""
        properties = {}
        for name, hint in cls.types.items():
            properties[name] = _schema(hint)
            if hasattr(cls, name) and isinstance(default := getattr(cls, name), (int, str, bool)):
                properties[name]["default"] = default
        required = [name for name in cls.types if not hasattr(cls, name)]
        return {"type": "object", "title": cls.__name__, "description": (cls.__doc__ or "").strip(),
                "properties": properties, "required": required, "additionalProperties": False}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: make a changed copy with `replaced({name}=…)`")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


def _word(hint: Any) -> Any:
    """The integer type under which the data path reads a field; None if it cannot."""
    if uint(hint) is not None:
        return hint
    if hint is bool:
        return _annotated(8)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _annotated(32)
    return None


def _annotated(bits: int) -> Any:
    from typing import Annotated
    return Annotated[int, UInt(bits)]


def accept(path: str, hint: Any, value: Any) -> Any:
    """`value` as the field's type, or a `ConfigError` that names the field."""
    kind = uint(hint)
    if kind is not None:
        return _integer(path, kind, value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for choice in arguments:
            try:
                return accept(path, choice, value)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin in (list, tuple, set, frozenset):
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ConfigError(path, f"expected a list, not {value!r}")
        return origin(accept(f"{path}[{i}]", arguments[0], item) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(path, f"expected a mapping, not {value!r}")
        of_key, of_value = arguments
        return {accept(f"{path}.{k}", of_key, k): accept(f"{path}.{k}", of_value, v) for k, v in value.items()}
    if not isinstance(hint, type):
        raise DeclarationError(f"{path}: {hint!r} cannot be configured")
    return _object(path, hint, value)


def _integer(path: str, kind: UInt, value: Any) -> int:
    if isinstance(value, str) and kind.text in PARSE:
        try:
            value = PARSE[kind.text](value)
        except ValueError as error:
            raise ConfigError(path, str(error)) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(path, f"expected {kind.text or 'an integer'}, not {value!r}")
    if not 0 <= value < 1 << kind.bits:
        raise ConfigError(path, f"{value} does not fit in {kind.bits} bits")
    return int(value)


def _object(path: str, hint: type, value: Any) -> Any:
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    if issubclass(hint, Config) and isinstance(value, dict):
        try:
            return hint(**value)
        except ConfigError as error:
            raise ConfigError(f"{path}.{error.path}", str(error).partition(": ")[2]) from None
    if issubclass(hint, Enum):
        for member in hint:
            if value == member.value or (isinstance(value, str) and value.upper() == member.name.upper()):
                return member
        raise ConfigError(path, f"expected one of {', '.join(m.name.lower() for m in hint)}, not {value!r}")
    if hint is Prefix and isinstance(value, str):
        try:
            return prefix(value)
        except ValueError as error:
            raise ConfigError(path, str(error)) from None
    raise ConfigError(path, f"expected {hint.__name__}, not {value!r}")


def _schema(hint: Any) -> dict[str, Any]:
    kind = uint(hint)
    if kind is not None:
        number = {"type": "integer", "minimum": 0, "maximum": (1 << kind.bits) - 1}
        return {"anyOf": [number, {"type": "string", "format": kind.text}]} if kind.text else number
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(a) for a in arguments]}
    if origin in (list, tuple, set, frozenset):
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if hint is type(None):
        return {"type": "null"}
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.schema()
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [m.name.lower() for m in hint]}
    return dict(_SCHEMAS.get(hint, {"title": getattr(hint, "__name__", str(hint))}))
