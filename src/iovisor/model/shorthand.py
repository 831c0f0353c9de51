"""Short forms become long ones; nothing else is decided here.

    functions:
      lan: switch                              {kind: switch}
      fw: {kind: acl, default: drop}           {kind: acl, config: {default: drop}}
    endpoints:
      web: {address: 10.1.0.11/24,             {addresses: [10.1.0.11/24],
            gateway: 10.1.0.1,                  gateways: [10.1.0.1],
            labels: {tier: 1}}                  labels: {tier: "1"}}
      dmz: {device: eno2, vlan: 10}            {device: eno2, share: vlan, vlan: 10}

A name without anything after its colon is an empty mapping or list.  The long form unfolds to itself.  What is neither
is left as it is: the schema says what is wrong with it.
"""
from __future__ import annotations

from collections.abc import Callable

from .errors import Path
from .tree import Node, Problems

#: The fields of a function that are not its configuration.
OF_A_FUNCTION = ("kind", "config", "labels")
MAPPINGS = ("functions", "endpoints", "labels", "quota")
LISTS = ("links", "policies", "addresses", "gateways")
SINGULAR = {"address": "addresses", "gateway": "gateways"}


def unfold(problems: Problems) -> Node:
    """The long form of a document that was read, whether it is a network's or a tenant's."""
    tree = _fields(problems.tree)
    if "quota" in tree.fields and tree.fields["quota"].fields:
        tree = tree.holding({**tree.fields, "quota": _given(tree.fields["quota"], problems, ("quota",))})
    for name, each in (("functions", _function), ("endpoints", _endpoint)):
        if name in tree.fields:
            tree = tree.holding({**tree.fields, name: _each(tree.fields[name], each, problems, (name,))})
    return tree


def _each(of: Node, unfolded: Callable[[Node, Problems, Path], Node], problems: Problems, path: Path) -> Node:
    if not of.fields:
        return of
    return of.holding({name: unfolded(node, problems, (*path, name)) for name, node in of.fields.items()})


def _fields(node: Node) -> Node:
    """Empty values, and labels, of any part of a document."""
    if not isinstance(node.value, dict):
        return node
    fields = dict(node.value)
    for name, inner in fields.items():
        if inner.value is None and name in (*MAPPINGS, *LISTS):
            fields[name] = inner.holding({} if name in MAPPINGS else [])
        elif name == "labels" and inner.fields:
            fields[name] = inner.holding({label: _label(value) for label, value in inner.fields.items()})
    return node.holding(fields)


def _given(node: Node, problems: Problems, path: Path) -> Node:
    """Without the fields that have no value: whoever wrote `mac:` has forgotten something."""
    for name, inner in node.fields.items():
        if inner.value is None:
            problems.add((*path, name), "nothing is there", "write a value, or leave the field out", key=True)
    return node.holding({name: inner for name, inner in node.fields.items() if inner.value is not None})


def _label(node: Node) -> Node:
    """Labels are text: a number, or `on`, as it was written."""
    written = isinstance(node.value, int | float)        # bool among them
    return Node(node.text, node.place, node.key, node.text) if written else node


def _function(node: Node, problems: Problems, path: Path) -> Node:
    if isinstance(node.value, str):
        return node.holding({"kind": Node(node.value, node.place, node.key, node.text)})
    if not isinstance(node.value, dict):
        return node
    own = {name: inner for name, inner in node.value.items() if name in OF_A_FUNCTION}
    beside = {name: inner for name, inner in node.value.items() if name not in OF_A_FUNCTION}
    if "config" in own and own["config"].value is None:
        own["config"] = own["config"].holding({})
    if beside and "config" in own:
        first = next(iter(beside))
        problems.add((*path, first), "this stands beside `config`, not in it",
                     "put all of the configuration under `config`, or all of it beside `kind`", key=True)
    elif beside:
        own["config"] = node.holding(beside)
    return _fields(node.holding(own))


def _endpoint(node: Node, problems: Problems, path: Path) -> Node:
    if node.value is None:
        return node.holding({})
    if not isinstance(node.value, dict):
        return node
    fields = dict(_given(_fields(node), problems, path).fields)
    for one, several in SINGULAR.items():
        if one in fields and several in fields:
            problems.add((*path, one), f"both `{one}` and `{several}` are given", f"put all of them under `{several}`",
                         key=True)
            del fields[one]
        elif one in fields:
            fields[several] = fields.pop(one)
    for name in SINGULAR.values():
        if isinstance(fields.get(name, node).value, str):
            value = fields[name]
            fields[name] = value.holding([Node(value.value, value.place, None, value.text)])
    if "vlan" in fields and "share" not in fields and "device" in fields:
        fields["share"] = Node("vlan", fields["vlan"].place, fields["vlan"].key, "vlan")
    return node.holding(fields)


__all__ = ["OF_A_FUNCTION", "unfold"]
