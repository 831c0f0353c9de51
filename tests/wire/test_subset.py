"""What data paths call is written in the language, and so must compile: no statement here that the language lacks."""
from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from iovisor import wire
from iovisor.wire import (
    answer,
    arp,
    checksum,
    ethernet,
    gre,
    icmp,
    icmp6,
    igmp,
    ipv4,
    ipv6,
    mld,
    neighbor,
    tcp,
    udp,
    vlan,
)

MODULES = [answer, ethernet, vlan, arp, ipv4, ipv6, icmp, icmp6, igmp, mld, neighbor, udp, tcp, gre, checksum]
CONTROL = {"bpdu", "dhcp", "dissection", "dns", "dscp", "offload", "pcapng"}        # what Python reads and writes
FUNCTIONS = [value for module in MODULES for value in vars(module).values()
             if inspect.isfunction(value) and value.__module__ == module.__name__]

ALLOWED = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For,
    ast.Break, ast.Continue, ast.Pass, ast.Match, ast.match_case, ast.pattern, ast.BoolOp, ast.BinOp, ast.UnaryOp,
    ast.IfExp, ast.Compare, ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Constant, ast.Tuple, ast.NamedExpr,
    ast.Subscript, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop,
)


def test_every_module_is_looked_at() -> None:
    files = {path.stem for path in Path(inspect.getfile(wire)).parent.glob("*.py")} - {"__init__"}
    assert files == {module.__name__.rpartition(".")[2] for module in MODULES} | CONTROL


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
