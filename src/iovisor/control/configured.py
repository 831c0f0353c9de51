"""A configuration as documents have it, read against the fields its kind declares.

`normal` says everything that is wrong at once, where the language's `Config` stops at the first, because whoever wrote
a document mends all of it in one go.  What spans fields (`Config.validate`) is asked last, when each field is right.

The normal form is JSON data in which each value is written in one way: `1m` for `60s`, addresses in lower case, enums
by name; only the fields that were given, so that a default can change and a document need not.
"""
from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any, Union, get_args, get_origin

from ..language.addresses import TEXT, Prefix
from ..language.configuration import Config, accept
from ..language.errors import ConfigError, Contradiction
from ..language.integers import uint
from ..model import Fault, Path
from ..model.errors import alike


def normal(kind: type[Config], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The configuration in its normal form, and all that is wrong with it."""
    faults: list[Fault] = []
    found = _config(kind, given, (), faults)
    return found, faults


def _config(kind: type[Config], given: Mapping[str, Any], path: Path, faults: list[Fault]) -> dict[str, Any]:
    before = len(faults)
    for name in given:
        if name not in kind.types:
            faults.append(Fault((*path, name), "there is no such field", alike(name, kind.types), unknown=True))
    for name in kind.types:
        if name not in given and not hasattr(kind, name):
            faults.append(Fault((*path, name), "this is missing", f"add `{name}: ...`", missing=True))
    found = {name: _value(hint, given[name], (*path, name), faults)
             for name, hint in kind.types.items() if name in given}
    if len(faults) == before:
        try:
            made(kind, given)
        except ConfigError as error:
            faults.append(fault(path, error))
    return found


def _value(hint: Any, given: Any, path: Path, faults: list[Fault]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        first: list[Fault] = []
        for choice in arguments:
            found: list[Fault] = []
            value = _value(choice, given, path, found)
            if not found:
                return value
            first = first or found
        faults += first
        return given
    if origin in (list, tuple, set, frozenset) and isinstance(given, list):
        return [_value(arguments[0], item, (*path, index), faults) for index, item in enumerate(given)]
    if origin is dict and isinstance(given, Mapping):
        return {_key(arguments[0], key, path, faults): _value(arguments[1], item, (*path, str(key)), faults)
                for key, item in given.items()}
    if isinstance(hint, type) and issubclass(hint, Config) and isinstance(given, Mapping):
        return _config(hint, given, path, faults)
    try:
        return written(hint, accept("", hint, given))
    except ConfigError as error:
        faults.append(Fault(path, str(error).removeprefix(": ")))
        return given


def _key(hint: Any, given: Any, path: Path, faults: list[Fault]) -> str:
    """Keys of documents are text, those of a configuration may be numbers."""
    try:
        return str(written(hint, accept("", hint, key_of(hint, given))))
    except ConfigError as error:
        faults.append(Fault((*path, str(given)), str(error).removeprefix(": ")))
        return str(given)


def key_of(hint: Any, given: Any) -> Any:
    """A key of a document as `accept` takes it."""
    return int(given) if uint(hint) is not None and isinstance(given, str) and given.isdecimal() else given


def written(hint: Any, value: Any) -> Any:
    """An accepted value as JSON data, in the way people write it."""
    kind = uint(hint)
    if kind is not None and kind.text in TEXT:
        return TEXT[kind.text](value)
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value, IntEnum) else value.value
    if isinstance(value, Prefix):
        return str(value)
    return value


def written_out(hint: Any, value: Any) -> Any:
    """A whole field of a configuration as JSON data, lists and what is in them included."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (list, tuple, set, frozenset):
        return [written_out(arguments[0], item) for item in value]
    if origin is dict:
        return {str(written(arguments[0], key)): written_out(arguments[1], item) for key, item in value.items()}
    if isinstance(value, Config):
        return {name: written_out(hint, getattr(value, name)) for name, hint in value.types.items()
                if getattr(value, name) != getattr(type(value), name, None)}
    return written(hint, value)


def made(kind: type[Config], given: Mapping[str, Any]) -> Config:
    """The configuration of a normal form.  ConfigError if it does not stand."""
    return kind(**{name: _made(kind.types.get(name), value) for name, value in given.items()})


def _made(hint: Any, given: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and isinstance(given, (list, Mapping)):
        return next((_made(choice, given) for choice in arguments if choice is not type(None)), given)
    if origin in (list, tuple, set, frozenset) and isinstance(given, list):
        return [_made(arguments[0], item) for item in given]
    if origin is dict and isinstance(given, Mapping):
        return {key_of(arguments[0], key): _made(arguments[1], item) for key, item in given.items()}
    if isinstance(hint, type) and issubclass(hint, Config) and isinstance(given, Mapping):
        return made(hint, given)
    return given


def fault(path: Path, error: ConfigError) -> Fault:
    """A ConfigError as a fault in a document."""
    what = str(error).partition(": ")[2]
    if isinstance(error, Contradiction):
        return Fault((*path, *_steps(error.path)), what, error.fix, other=(error.other, *_steps(error.place)))
    return Fault((*path, *_steps(error.path)), what)


def _steps(text: str) -> Path:
    """A path as configurations write it, `ports.3` or `rules[2].flags`, as one into a document."""
    steps: list[str | int] = []
    for part in text.split("."):
        name, *numbers = part.split("[")
        steps += [name] if name else []
        steps += [int(number.rstrip("]")) for number in numbers if number.rstrip("]").isdecimal()]
    return tuple(steps)


__all__ = ["fault", "made", "normal", "written", "written_out"]
