"""Random networks that are in order, as data in a mixture of short and long forms."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.model.kinds import DECLARED

NAMES = st.sampled_from(["a", "b", "lan", "fw", "fw2", "fw10", "edge", "web1", "web2", "web10", "X_y", "n-1"])
TEXT = st.text("abc :#'\"\\{}[],é0\n😀", max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
                      max_leaves=6)
RULES = st.lists(st.fixed_dictionaries({"action": st.sampled_from(["accept", "drop"])}, optional={
    "name": st.sampled_from("abcd"), "source": st.sampled_from(["10.0.0.0/8", "::/0"]), "ports": st.integers(1, 3)}),
    max_size=5)
NAMED_RULES = RULES.map(lambda rules: [{**rule, "name": f"r{n}"} for n, rule in enumerate(rules)]).flatmap(
    lambda rules: st.permutations(rules))
LABELS = st.dictionaries(st.sampled_from(["app", "tier", "on"]), st.sampled_from(["web", "1", "no"]), max_size=2)
OF_TYPE: dict[type, st.SearchStrategy[Any]] = {
    str: TEXT, int: st.integers(0, 9), bool: st.booleans(), list: st.lists(VALUES, max_size=4),
    dict: st.dictionaries(TEXT, VALUES, max_size=3)}


@st.composite
def functions(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    kind = draw(st.sampled_from(sorted(DECLARED)))
    declared = DECLARED[kind]
    config = {name: draw(RULES | NAMED_RULES if name == "rules" else OF_TYPE[one])
              for name, one in declared.fields.items() if name in declared.required or draw(st.booleans())}
    if not config and draw(st.booleans()):
        return kind
    return {"kind": kind, **(config if draw(st.booleans()) else {"config": config}), "labels": draw(LABELS)}


@st.composite
def networks(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """A document's data, without mistakes for `tests.model.kinds`."""
    names = draw(st.lists(NAMES, unique=True, max_size=8))
    split = draw(st.integers(0, len(names)))
    made = {name: draw(functions()) for name in names[:split]}
    endpoints: dict[str, Any] = {}
    for number, name in enumerate(names[split:]):
        one: dict[str, Any] = {draw(st.sampled_from(["netns", "tap"])): f"{name}{number}"}
        if draw(st.booleans()):
            one["address"] = f"10.1.0.{number + 10}/24"
            if draw(st.booleans()):
                one["gateway"] = "10.1.0.1"
        if draw(st.booleans()):
            one["mac"] = f"02:00:00:00:00:{number:02X}"
        endpoints[name] = one | {"labels": draw(LABELS)}
    return {"version": 1, "tenant": draw(st.sampled_from(["acme", "beta"])), "network": "net",
            "mtu": draw(st.sampled_from([1500, 9000])), "description": draw(TEXT), "labels": draw(LABELS),
            "functions": made, "endpoints": endpoints, "links": draw(links(made, list(endpoints)))}


@st.composite
def links(draw: Callable[[st.SearchStrategy[Any]], Any], made: dict[str, Any], endpoints: list[str]) -> list[list[str]]:
    """Paths that use each port once, and each endpoint."""
    kinds = {name: one if isinstance(one, str) else one["kind"] for name, one in made.items()}
    ends = [(name, name) for name in endpoints]
    middle = []
    for name, kind in kinds.items():
        declared = DECLARED[kind]
        if declared.named and len(declared.named) == 2 and draw(st.booleans()):
            middle.append(draw(st.sampled_from([name, f"{name}:outside:inside", f"{name}:0:1"])))
            continue
        ends += [(name, f"{name}:{port}") for port in declared.named]
        ends += [(name, f"{name}:{number}") for number in list(declared.numbered)[:3]]
    ends = draw(st.permutations(ends))[:draw(st.integers(0, len(ends)))]
    found = []
    for (one, left), (other, right) in zip(ends[::2], ends[1::2], strict=False):
        if one != other:
            taken = [middle.pop() for _ in range(draw(st.integers(0, 2))) if middle]
            found.append([left, *taken, right])
    return found
