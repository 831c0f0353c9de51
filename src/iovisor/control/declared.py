"""The functions that a module declares: classes of its own with a data path."""
from __future__ import annotations

from typing import Any

from ..language import Function


def declared(module: Any, name: str) -> list[type[Function]]:
    """In the order of the module; classes it has imported are not its own."""
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Function)
            and (value.__module__ == name or value.__module__.startswith(f"{name}.")) and "ingress" in dir(value)
            and value.ingress is not Function.ingress]


__all__ = ["declared"]
