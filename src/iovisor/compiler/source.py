"""Where a function's text is: its syntax tree, its lines, and what its names mean.

The compiler never matches names.  A name in a function is looked up where Python would look it up (closure, module,
builtins) and stands for the *object* found there; so imports, aliases, constants and libraries work without a line of
code about them, and a name that means nothing is an error before any packet comes.
"""
from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any, get_type_hints

from .errors import CompileError, Scope, Span


@dataclass(frozen=True)
class Source:
    """One Python function as text."""

    function: Callable[..., Any]
    tree: ast.FunctionDef
    file: str
    column: int                         # how far the text was indented
    writes: dict[str, int]              # how often each local name is assigned

    def scope(self, caller: Span | None) -> Scope:
        return Scope(self.function.__name__, self.file, self.tree.lineno, caller)


_cache: dict[tuple[str, CodeType], Source] = {}       # code of equal text in two files is equal


def source_of(function: Callable[..., Any], asked: Span | None = None) -> Source:
    """The text of a function; `asked` is where it is used, for the error if there is none."""
    code = function.__code__
    key = code.co_filename, code
    if key not in _cache:
        try:
            lines, first = _lines_of(function)
        except (OSError, TypeError):
            message = f"the source of `{function.__name__}` cannot be found: write it in a file"
            raise CompileError(message, asked or _nowhere(code)) from None
        text = "".join(lines)
        tree = ast.parse(textwrap.dedent(text)).body[0]
        ast.increment_lineno(tree, max(first, 1) - 1)
        if not isinstance(tree, ast.FunctionDef):
            raise CompileError(f"`{function.__name__}` is not a plain `def` function", asked or _nowhere(code))
        file = inspect.getsourcefile(function) or code.co_filename
        _cache[key] = Source(function, tree, file, len(text) - len(text.lstrip()), _writes(tree))
    found = _cache[key]
    return found if found.function is function else Source(function, found.tree, found.file, found.column, found.writes)


def _lines_of(function: Callable[..., Any]) -> tuple[list[str], int]:
    """What `inspect.getsourcelines` answers, without its tokenizer in Python: a block ends where its indentation does.

    Where that is not so (a text of several lines that is less indented) the block does not parse, and `inspect` is
    asked.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines, first = linecache.getlines(code.co_filename), code.co_firstlineno
    if 0 < first <= len(lines) and lines[first - 1].lstrip().startswith(("def ", "@")):
        indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
        last = max((line for *_, line in code.co_lines() if line is not None), default=first)
        while last < len(lines) and (not lines[last].strip() or len(lines[last]) - len(lines[last].lstrip()) > indent):
            last += 1
        found = lines[first - 1:last]
        try:
            if len(ast.parse(textwrap.dedent("".join(found))).body) == 1:
                return found, first
        except SyntaxError:
            pass
    return inspect.getsourcelines(function)


def _nowhere(code: CodeType) -> Span:
    scope = Scope(code.co_name, code.co_filename, code.co_firstlineno)
    line = linecache.getline(code.co_filename, code.co_firstlineno).rstrip()
    return Span(scope, code.co_firstlineno, len(line) - len(line.lstrip()), code.co_firstlineno, len(line))


def _writes(tree: ast.FunctionDef) -> dict[str, int]:
    writes: dict[str, int] = {}
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For)]
    repeated = {id(n) for loop in loops for n in ast.walk(loop)}
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            name = node.id
        elif isinstance(node, ast.MatchAs):
            name = node.name
        if name is not None:
            writes[name] = writes.get(name, 0) + (2 if id(node) in repeated else 1)
    return writes


def hints_of(function: Callable[..., Any], span: Span) -> dict[str, Any]:
    """The resolved annotations of a function."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise CompileError(f"an annotation of `{function.__name__}` cannot be resolved: {error}", span) from None


MISSING = object()


def free(function: Callable[..., Any], name: str) -> Any:
    """What a name that is not local means to a function; `MISSING` if nothing."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    if name in cells:
        try:
            return cells[name].cell_contents
        except ValueError:
            return MISSING
    for space in (function.__globals__, vars(builtins)):
        if name in space:
            return space[name]
    return MISSING
