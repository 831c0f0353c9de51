"""What data paths call is written in the language, and so must compile: no statement here that the language lacks."""
from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from iovisor import wire

MODULES = [importlib.import_module(f"iovisor.wire.{path.stem}")
           for path in sorted(Path(inspect.getfile(wire)).parent.glob("*.py")) if path.stem != "__init__"]


def functions(module: ModuleType) -> list[Callable[..., object]]:
    return [value for value in vars(module).values()
            if inspect.isfunction(value) and value.__module__ == module.__name__]


#: A module is for data paths or for Python: what has one inline function has no others.
FUNCTIONS = [function for module in MODULES for function in functions(module)
             if any(getattr(one, "__inline__", False) for one in functions(module))]

ALLOWED = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For,
    ast.Break, ast.Continue, ast.Pass, ast.Match, ast.match_case, ast.pattern, ast.BoolOp, ast.BinOp, ast.UnaryOp,
    ast.IfExp, ast.Compare, ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Constant, ast.Tuple, ast.NamedExpr,
    ast.Subscript, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop,
)


def test_what_data_paths_call_is_looked_at() -> None:
    found = {function.__module__.rpartition(".")[2] for function in FUNCTIONS}
    assert found >= {"answer", "arp", "checksum", "ethernet", "icmp", "icmp6", "ipv4", "ipv6", "neighbor", "tcp"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.__module__.rpartition('.')[2]}.{f.__name__}")
def test_a_function_is_inline_and_within_the_language(function: object) -> None:
    assert getattr(function, "__inline__", False) and function.__doc__
    body = ast.parse(inspect.getsource(function)).body[0]  # type: ignore[arg-type]
    assert isinstance(body, ast.FunctionDef)
    for node in ast.walk(body):
        assert isinstance(node, ALLOWED), f"line {getattr(node, 'lineno', '?')}: {type(node).__name__}"
        if isinstance(node, ast.For):
            bounded = isinstance(node.iter, ast.Tuple) or (
                isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func) == "range")
            assert bounded and not node.orelse, f"line {node.lineno}: a loop without a bound"
