"""What may be called on a function by name: `@action` methods, as data, and called with arguments that come as data.

Runs where the function's Python is: in the daemon for the catalogue, in a worker for functions of authors.
"""
from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Any, get_type_hints

from ..language import Function
from ..language.configuration import accept
from ..language.errors import ConfigError
from ..language.layout import Layout
from .problems import Missing, Refused


def actions(function: Function) -> list[dict[str, Any]]:
    """Name, parameters, documentation."""
    return [{"name": name, "documentation": text, "parameters": [
        {"name": parameter.name, "required": parameter.default is inspect.Parameter.empty,
         "type": typed(parameter.annotation)}
        for parameter in inspect.signature(function.method(name)).parameters.values()]}
        for name, text in function.spec().actions.items()]


def act(function: Function, action: str, arguments: Mapping[str, Any]) -> Any:
    """Call an action; its arguments come as JSON, or as text, and are read as its parameters declare them."""
    known = function.spec().actions
    if action not in known:
        raise Missing(f"{function.spec().name} has no action {action}; it has {', '.join(known) or 'none'}")
    method = function.method(action)
    hints = get_type_hints(method, include_extras=True)
    parameters = inspect.signature(method).parameters
    for name in arguments.keys() - parameters.keys():
        raise Refused.at(f"{action} takes no {name}", ("arguments", name),
                         f"it takes {', '.join(parameters) or 'none'}")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise Refused.at(f"{action} needs {name}", ("arguments", name))
    try:
        read = {name: accept(name, hints.get(name, str), _number(value)) for name, value in arguments.items()}
    except ConfigError as error:
        raise Refused.at(str(error), ("arguments", error.path)) from error
    return plain(method(**read))


def plain(value: Any) -> Any:
    """What an action answers, as JSON data."""
    if isinstance(value, Layout):
        return {name: getattr(value, name) for name in value.fields}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def typed(annotation: Any) -> str:
    """A parameter's type, as people read it."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _number(value: Any) -> Any:
    """Text that is a number, as a number: the command line has only text."""
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else value


__all__ = ["act", "actions", "plain", "typed"]
