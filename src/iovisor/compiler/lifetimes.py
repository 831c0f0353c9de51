"""How long a record of the program itself is needed, so that others may have its room on the stack.

eBPF has 512 bytes of stack, LLVM gives one place to two records only if it is told that they never live at once, and a
function is one program with everything inlined: without this, each key that is ever looked up has a place of its own.

A record lives from the `Let` that makes it to the last statement of the same list that mentions it, or a view that may
be it.  If such a view is mentioned outside of lists that make it, or a list makes it twice, it has no end and keeps its
place.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import ir


def lifetimes(program: ir.Program) -> dict[int, list[ir.Var]]:
    """By the identity of a statement: the variables whose records end behind it."""
    made: dict[ir.Var, list[tuple[list[ir.Stmt], int]]] = {}
    copies: dict[ir.Var, set[ir.Var]] = {}
    everywhere: dict[ir.Var, int] = {}
    for node in ir.walk(program):
        for var in mentions(node):
            everywhere[var] = everywhere.get(var, 0) + 1
        for name in ("body", "then", "orelse"):
            body: list[ir.Stmt] = getattr(node, name, None) or []
            for place, stmt in enumerate(body):
                if isinstance(stmt, ir.Let) and isinstance(stmt.value, ir.Call) and stmt.value.op == "record":
                    made.setdefault(stmt.var, []).append((body, place))
        if isinstance(node, ir.Let) and isinstance(node.var.type, ir.View) and not isinstance(node.value, ir.Call):
            for source in (var for below in ir.walk(node.value) for var in mentions(below)):
                copies.setdefault(source, set()).add(node.var)
    ends: dict[int, list[ir.Var]] = {}
    for var, sites in made.items():
        views, waiting = {var}, [var]
        while waiting:
            more = copies.get(waiting.pop(), set()) - views
            views |= more
            waiting += more
        found = 0
        last: list[ir.Stmt] = []
        for body, place in sites:
            counts = [sum(view in views for node in ir.walk(stmt) for view in mentions(node)) for stmt in body[place:]]
            found += sum(counts)
            last.append(body[place + max(n for n, count in enumerate(counts) if count)])
        if found == sum(everywhere[view] for view in views):
            for stmt in last:
                ends.setdefault(id(stmt), []).append(var)
    return ends


def mentioned_later(program: ir.Program) -> dict[int, set[ir.Var]]:
    """By the identity of a `forget`: the variables that something behind it in the program mentions."""
    nodes, found, seen = list(ir.walk(program)), dict[int, set[ir.Var]](), set[ir.Var]()
    for node in reversed(nodes):
        if isinstance(node, ir.Call) and node.op == "forget":
            found[id(node)] = set(seen)
        seen.update(mentions(node))
    return found


def mentions(node: Any) -> Iterator[ir.Var]:
    """The variables that a node itself reads or writes, once each time."""
    for name in ("var", "view", "counter"):
        if isinstance(var := getattr(node, name, None), ir.Var):
            yield var
