"""What an expression stands for while a function is being built.

Most of a function is known before any packet: constants, enums, header classes, tables, methods, `self` itself.  Only
what is left becomes a node of the intermediate representation.  These are the kinds of things a name can mean.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..language.component import Component
from ..language.layout import Layout
from ..language.tables import TableSpec
from . import ir


@dataclass(frozen=True)
class Static:
    """A Python object, known while compiling."""

    value: Any


@dataclass(frozen=True)
class Tuple:
    """A tuple whose items are values."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Instance:
    """`self`."""


@dataclass(frozen=True)
class Part:
    """A component of the function: its tables are named by its path."""

    path: str
    component: Component


@dataclass(frozen=True)
class Configuration:
    """`self.config`."""


@dataclass(frozen=True)
class Frame:
    """The packet."""


@dataclass(frozen=True)
class TableRef:
    """A table of the function, or a nested one held by a variable."""

    spec: TableSpec
    handle: ir.Var | None = None


@dataclass(frozen=True)
class Method:
    """A method of `self`, of a component, or of a packet, table or record: what is called, and on what."""

    function: Callable[..., Any]
    owner: Value


Value = Static | Tuple | Instance | Part | Configuration | Frame | TableRef | Method | ir.Expr


def describe(value: Value) -> str:
    """For messages: what an author would call it."""
    match value:
        case Static(value=None):
            return "None"
        case Static(value=type()):
            return f"the class {value.value.__name__}"
        case Static(value=ModuleType() as module):
            return f"the module `{module.__name__}`"
        case Static(value=thing) if callable(thing):
            return f"the function `{getattr(thing, '__name__', thing)}`"
        case Static(value=thing):
            return f"the constant {thing!r}"
        case Tuple():
            return "a tuple"
        case Instance():
            return "the function itself"
        case Part(path=path):
            return f"the component `{path}`"
        case Configuration():
            return "the configuration"
        case Frame():
            return "the packet"
        case TableRef(spec=spec):
            return f"the table `{spec.name}`"
        case Method(function=function):
            return f"the method `{function.__name__}`"
        case ir.Expr(type=kind):
            return describe_type(kind)
    raise TypeError(value)


def described(layout: type[Layout]) -> str:
    """For messages: one of a class."""
    return f"{'an' if layout.__name__[0] in 'AEIOU' else 'a'} {layout.__name__}"


def describe_type(kind: ir.Type) -> str:
    """For messages: a type in the author's words."""
    maybe = "maybe " if kind.optional and not isinstance(kind, ir.NoneType) else ""
    match kind:
        case ir.Int():
            return maybe + "an integer"
        case ir.Bool():
            return "a truth value"
        case ir.Verdict():
            return "a verdict"
        case ir.View(layout=layout):
            return maybe + described(layout)
        case ir.TableHandle():
            return maybe + "a table"
        case ir.NoneType():
            return "None"
