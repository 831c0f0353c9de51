"""Text to nodes: what YAML 1.2 says, where everything stands, and that no text is too much."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.model.errors import Refused
from iovisor.model.reading import MOST_BYTES, read
from iovisor.model.tree import Node


def one(text: str | bytes) -> Any:
    node, = read(text, "x.yaml")
    return node.plain()


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(Refused) as caught:
        read(text, "x.yaml")
    return [str(problem).partition("\n")[0] for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "value"), [
    ("10:20:30:40:50:59", "10:20:30:40:50:59"), ("22:22", "22:22"), ("010", 10), ("0o10", 8), ("0x10", 16), ("-7", -7),
    ("on", "on"), ("NO", "NO"), ("yes", "yes"), ("true", True), ("False", False), ("null", None), ("~", None),
    ("", None), ("1_000", "1_000"), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("2001-12-14", "2001-12-14"),
    ("0b1", "0b1"),
    (".inf", ".inf"), (".nan", ".nan"), ("10.1.0.1", "10.1.0.1"), ("'5'", "5"), ('"true"', "true"), ("!!str 5", "5"),
    ("2001:db8::1", "2001:db8::1"), ("=", "="),
])
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = one(f"x: {text}\n")["x"]
    assert found == value and type(found) is type(value)


def test_keys_are_text() -> None:
    assert one("0: a\n010: b\non: c\n~: d\n'': e\n1.50: f") == {
        "0": "a", "010": "b", "on": "c", "~": "d", "": "e", "1.50": "f"}


def test_every_value_knows_its_place() -> None:
    node, = read("a: 1\nb:\n  - x\n  - {c: [10, é, d]}\n", "x.yaml")
    inner = node.find(("b", 1, "c"))
    assert inner is not None and (inner.place, inner.key) == ((4, 9), (4, 6))
    assert [item.place for item in inner.items] == [(4, 10), (4, 14), (4, 17)]
    assert node.place_of(("b", 1, "nowhere", 3)) == (4, 5)
    assert node.place_of(("b",), key=True) == (2, 1)


def test_several_documents() -> None:
    assert [node.plain() for node in read("---\na: 1\n---\nb: 2\n...\n", "x")] == [{"a": 1}, {"b": 2}]
    assert read("", "x") == [] and read("# nothing\n", "x") == []


def test_aliases_are_the_same_value() -> None:
    assert one("a: &x {p: [1, 2]}\nb: *x\nc: *x") == {"a": {"p": [1, 2]}, "b": {"p": [1, 2]}, "c": {"p": [1, 2]}}


def test_all_mistakes_of_a_text_at_once() -> None:
    assert refused("a: 1\na: 2\nb: !x 3\nc: 1e999\n<<: {}\n? [1]\n: 2\n") == [
        "x.yaml:2:1: 'a' is here a second time; it stands in line 1 already",
        "x.yaml:3:4: tags such as !name have no meaning here",
        "x.yaml:4:4: this number is too large",
        "x.yaml:5:1: merge keys (<<) are not part of YAML 1.2",
        "x.yaml:6:3: a key must be a name"]


@pytest.mark.parametrize(("text", "what"), [
    ("a:\n\tb: 1", "x.yaml:2:1: a tab or a sign that YAML reserves begins a value here"),
    ("a: b: c", "x.yaml:1:5: there is a colon too many: `name: value` within a value"),
    ("x: 1\na: [1, 2\nb: 3", "x.yaml:2:4: a list that began with [ is not closed"),
    ("a: {x: 1\nb: 2", "x.yaml:1:4: a mapping that began with { is not closed"),
    ("a: 1\nb: \"c\n", "x.yaml:2:4: a quote is opened and never closed"),
    ("a: *n", "x.yaml:1:4: there is no anchor &n before this alias"),
    ("a: &n [1, *n]", "x.yaml:1:11: *n contains itself"),
    ("a: &n 1\n---\nb: *n", "x.yaml:3:4: there is no anchor &n before this alias"),
    ("é: \x01", "x.yaml:1:4: the character 0x0001 may not stand in a document"),
    ("a: \ud800", "x.yaml:1:4: half a character stands here"),
    ('"\\ud800"', "x.yaml:1:4: this escape stands for half a character"),
    ('a: "\\q"', "x.yaml:1:5: a backslash followed by a letter that means nothing"),
    (b"a: 1\nb: \xff", "x.yaml:2:4: byte 0xff is not UTF-8"),
    ("[" * 100_000, "x.yaml:1:1001: this is nested more than 32 levels deep"),
    ("- " * 100_000, "x.yaml:1:67: this is nested more than 32 levels deep"),
    ("{a: " * 100_000, "x.yaml:1:130: this is nested more than 32 levels deep"),
    (" " * (MOST_BYTES + 1), "x.yaml:1:1: the document has 4,194,305 bytes; 4,194,304 is the most"),
    ("a: [" + "1, " * 200_000 + "1]", "x.yaml:1:599996: the document unfolds to more than 200,000 values"),
])
def test_what_cannot_be_read(text: str | bytes, what: str) -> None:
    assert refused(text) == [what]


def test_a_bomb_is_measured_and_not_unfolded() -> None:
    lines = ["a0: &a0 [" + ", ".join("1" * 9) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join(f"*a{n - 1}" for _ in range(9)) + "]" for n in range(1, 30)]
    message, = refused("\n".join(lines))
    assert message.endswith("the document unfolds to more than 200,000 values")


def test_a_flood_of_mistakes_is_cut_short() -> None:
    assert len(refused("a: 1\n" * 10_000)) == 501


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-10**12, 10**12) | TEXT
                    | st.floats(allow_nan=False, allow_infinity=False, width=32),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)


@given(JSON, st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_json(data: Any, indent: int | str | None) -> None:
    assert one(json.dumps({"x": data}, indent=indent)) == {"x": data}


@given(st.binary(max_size=200) | st.text("a:-[]{}&*!|>'\"#%@`,?\n\t 0.\\u", max_size=60))
def test_nothing_but_a_refusal_comes_of_any_text(text: str | bytes) -> None:
    try:
        found = read(text, "x.yaml")
    except Refused as refused:
        assert all(p.line > 0 and p.column > 0 and p.what for p in refused.problems)
    else:
        assert all(isinstance(node, Node) for node in found)
