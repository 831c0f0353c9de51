"""Changes: they make the new of the old, and say no more than what differs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.model import Network, applied, difference, load, load_data, normal
from iovisor.model.difference import edited, edits
from iovisor.model.listing import data, lines, summary
from tests.model.kinds import KINDS
from tests.model.strategies import VALUES, networks


def network(of: Any) -> Network:
    content = load_data(of, KINDS).content
    assert isinstance(content, Network)
    return content


@given(networks(), networks())
def test_changes_make_the_new_of_the_old(one: Any, other: Any) -> None:
    old, new = network(one), network(other)
    changes = difference(old, new)
    assert applied(changes, normal(old)) == normal(new)
    assert bool(changes) == (normal(old) != normal(new))
    assert len({(change.what, change.name) for change in changes}) == len(changes)
    assert json.loads(json.dumps(data(changes))) == data(changes)
    assert all(line.lstrip()[:1] in "+~-" for line in lines(changes))


@given(networks())
def test_from_nothing_and_to_nothing(one: Any) -> None:
    new = network(one)
    assert applied(difference(None, new), {}) == normal(new)
    assert applied(difference(new, None), normal(new)) == {}
    assert difference(new, new) == [] and difference(None, None) == []


@given(VALUES, VALUES)
def test_edits_make_the_new_value_of_the_old(old: Any, new: Any) -> None:
    assert json.dumps(edited(old, edits(old, new)), sort_keys=True) == json.dumps(new, sort_keys=True)


RULES = [{"name": name, "action": "accept"} for name in "abcdef"]


@given(st.permutations(RULES), st.sets(st.sampled_from("abcdef")))
def test_rules_are_known_by_their_names(new: list[Any], gone: set[str]) -> None:
    new = [{**rule, "action": "drop"} if rule["name"] in gone else rule for rule in new]
    assert edited({"rules": RULES}, edits({"rules": RULES}, {"rules": new})) == {"rules": new}
    found = edits(RULES, new)
    changed = {item.name for edit in found for item in edit.items if item.edits}
    assert changed == gone


def test_long_lists() -> None:
    rules = [{"name": f"rule{n}", "number": n} for n in range(1000)]
    turned = [*rules[500:], {"name": "new"}, *rules[1:500]]
    found, = edits(rules, turned)
    assert [item.sign for item in found.items].count("~") == 499        # the shorter part moves
    assert edited(rules, [found]) == turned
    same = [{"x": 1}] * 3000
    found, = edits(same, [*same, {"x": 2}])
    assert found.items == () and edited(same, [found]) == [*same, {"x": 2}]


BASE = """
version: 1
tenant: acme
network: shop
functions:
  lan: switch
  fw: {kind: acl, default: drop, rules: [{name: web, action: accept, ports: 80}, {name: ping, action: accept}]}
  fw2: acl
  edge: router
endpoints:
  web1: {netns: web1, address: 10.1.0.11/24}
  wan: {device: eno2}
links:
- [web1, lan]
- [lan:7, fw, edge:lan]
- ["edge:up", wan]
"""


def changed(*pairs: tuple[str, str]) -> list[str]:
    after = BASE
    for here, there in pairs:
        assert here in after
        after = after.replace(here, there)
    old, new = (load(text, "x.yaml", KINDS)[0].content for text in (BASE, after))
    assert isinstance(old, Network) and isinstance(new, Network)
    return lines(difference(old, new))


@pytest.mark.parametrize(("pairs", "said"), [
    ([("network: shop", "network: shop\nmtu: 9000")], ["~ network acme/shop", "    + mtu: 9000"]),
    ([("default: drop", "default: accept")], ["~ function fw: acl", "    ~ default: drop -> accept"]),
    ([("rules: [", "rules: [{name: new, action: drop}, ")],
     ["~ function fw: acl", '    + rules "new": {name: new, action: drop}']),
    ([("ports: 80", "ports: 443"), (", {name: ping, action: accept}", "")],
     ["~ function fw: acl", '    ~ rules "web": ports: 80 -> 443', '    - rules "ping": {name: ping, action: accept}']),
    ([("{name: web, action: accept, ports: 80}, {name: ping, action: accept}",
       "{name: ping, action: accept}, {name: web, action: accept, ports: 80}")],
     ["~ function fw: acl", '    ~ rules "ping": moved from 2 to 1']),
    ([("  fw2: acl\n", "")], ["- function fw2: acl"]),
    ([("fw2: acl", "fw2: {kind: meter, rate: 3}")],
     ["~ function fw2: meter", "    ~ kind: acl -> meter", "    + config: {rate: 3}"]),
    ([("address: 10.1.0.11/24", "addresses: [10.1.0.11/24, 10.1.0.12/24], mtu: 1400")],
     ["~ endpoint web1", "    + addresses: 10.1.0.12/24", "    + mtu: 1400"]),
    ([("[lan:7, fw, edge:lan]", "[lan:7, fw, fw2, edge:lan]")],
     ["~ link edge:lan -- lan:7", "    + fw2:outside:inside"]),
    ([("[lan:7, fw, edge:lan]", "[lan:7, fw2, edge:lan]")],
     ["~ link edge:lan -- lan:7", "    - fw:outside:inside", "    + fw2:outside:inside"]),
    ([("[lan:7, fw, edge:lan]", "[edge:lan, fw:outside:inside, lan:7]")], []),
    ([('- ["edge:up", wan]', '- ["edge:dmz", fw2, wan]')],
     ["+ link wan -- edge:dmz", "    + fw2:outside:inside", "- link wan -- edge:up"]),
    ([("  fw2: acl\n", "  fw2: acl\n  m: {kind: meter, rate: 5, labels: {a: b}}\n")],
     ["+ function m: meter", "    + rate: 5", "    + labels:", "    +   a: b"]),
])
def test_lines_for_people(pairs: list[tuple[str, str]], said: list[str]) -> None:
    assert changed(*pairs) == said


def test_the_order_can_be_carried_out() -> None:
    old = network({"version": 1, "tenant": "a", "network": "n", "functions": {"x": "switch", "y": "tiny", "z": "acl"},
                   "endpoints": {"e": {"tap": "e"}}, "links": [["e", "x"], ["x:3", "z", "y:0"]]})
    new = network({"version": 1, "tenant": "a", "network": "n", "functions": {"x": "switch", "w": "tiny", "z": "acl"},
                   "endpoints": {"f": {"tap": "f"}}, "links": [["f", "x"], ["x:3", "z", "w:0"]]})
    changes = difference(old, new)
    assert [(change.sign, change.what, change.name) for change in changes] == [
        ("+", "endpoint", "f"), ("+", "function", "w"),
        ("-", "link", "e -- x"), ("-", "link", "x:3 -- y:0"), ("+", "link", "f -- x"), ("+", "link", "w:0 -- x:3"),
        ("-", "endpoint", "e"), ("-", "function", "y")]
    assert summary(changes) == "4 to add, 4 to remove" and summary([]) == "no changes"
