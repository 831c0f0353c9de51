"""FILE[:Class]: the functions a file declares, and instances of them.

A file that belongs to a package which can be imported is imported under its own name, so that `isinstance` and the
compiler's cache see one class and not two; any other is run as a module of its own, with its folder on the path, as
`python FILE` would.  A file that does not run shows the author's line, not ours.

`--config name=value` takes what Python or JSON would read (`300`, `true`, `{0: {"access": 10}}`), and text otherwise.
"""
from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .errors import Unusable

if TYPE_CHECKING:
    from ..language import Function

C = TypeVar("C", bound=Callable[..., Any])


class FileParameter(click.ParamType[str]):
    """FILE[:Class], completed as a file name."""

    name = "file[:class]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem
        return [CompletionItem(incomplete, type="file")]


def file_argument(function: C) -> C:
    """The argument FILE[:Class], as `file`."""
    return click.argument("file", type=FileParameter(), metavar="FILE[:CLASS]")(function)


def config_option(function: C) -> C:
    """The option --config, as `config`."""
    return click.option("--config", "-c", multiple=True, metavar="NAME=VALUE",
                        help="A value of the function's configuration; may be given again.")(function)


def kinds(text: str) -> list[type[Function]]:
    """The functions of FILE, or the one that FILE:Class names."""
    path, name = _parted(text)
    if path.is_dir():
        raise Unusable(f"{path} is a folder; name a file that has a function in it")
    if not path.exists():
        raise Unusable(f"there is no file {path}; `iovisor new {path.stem or 'hub'}` writes one to begin with")
    module = _module(path.resolve())
    from ..language import Function
    found = [value for value in vars(module).values()
             if isinstance(value, type) and issubclass(value, Function) and value.__module__ == module.__name__
             and value.ingress is not Function.ingress]
    if not found:
        raise Unusable(f"{path} declares no function: a function is a class derived from iovisor.language.Function, "
                       "with an `ingress`")
    if name:
        found = [kind for kind in found if kind.__name__ == name] or _none(path, name, found)
    return found


def kind(text: str) -> type[Function]:
    """The one function that is meant."""
    found = kinds(text)
    if len(found) > 1:
        names = " or ".join(f"{text}:{one.__name__}" for one in found)
        raise Unusable(f"{text} declares {len(found)} functions: say which, {names}")
    return found[0]


def made(kind: type[Function], config: Sequence[str]) -> Function:
    """An instance."""
    from ..language import ConfigError
    values = dict(map(_setting, config))
    try:
        return kind(**values)
    except ConfigError as error:
        example = " ".join(f"--config {name}=..." for name in kind.spec().config.schema()["required"]
                           if name not in values)
        more = f"\n{kind.__name__} cannot be made without {example}" if example else ""
        raise Unusable(f"the configuration of {kind.__name__}: {error}{more}") from error


def entries(kind: type[Function]) -> tuple[str, ...]:
    """What of a function can be compiled: its ingress, and its egress if it has one."""
    return ("ingress", "egress") if hasattr(kind, "egress") else ("ingress",)


def _parted(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    return (Path(file), name) if colon and name.isidentifier() and not Path(text).exists() else (Path(text), "")


def _none(path: Path, name: str, found: list[type[Function]]) -> list[type[Function]]:
    raise Unusable(f"{path} has no function {name}; it has {', '.join(kind.__name__ for kind in found)}")


def _module(path: Path) -> Any:
    name = path.stem
    parent = path.parent
    while (parent / "__init__.py").exists():
        name, parent = f"{parent.name}.{name}", parent.parent
    if "." in name:
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is not None and found.origin and Path(found.origin).resolve() == path:
            return importlib.import_module(name)
    name = path.stem if path.stem.isidentifier() and importlib.util.find_spec(path.stem) is None else \
        "function_" + "".join(c if c.isalnum() else "_" for c in path.stem)
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise Unusable(f"{path} is not Python")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Unusable(f"--config takes NAME=VALUE, not {text!r}")
    import ast
    import json
    for read in (ast.literal_eval, json.loads):
        try:
            return name, read(value)
        except (ValueError, SyntaxError):
            continue
    return name, value


__all__ = ["Unusable", "config_option", "entries", "file_argument", "kind", "kinds", "made"]
