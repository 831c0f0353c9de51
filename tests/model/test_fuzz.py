"""Documents that went through the wringer: whatever comes in, a document or a refusal comes out, and nothing else.

500 of them each time, 10,000 with `--nightly`.  What is accepted must be in order: its normal form is read as itself.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iovisor.control.kinds import Kinds
from iovisor.model import Network, Refused, difference, dump, load, load_data, normal, together
from iovisor.model.reading import read
from tests.model.kinds import KINDS

ROOT = Path(__file__).parents[2]
GOOD = [path.read_bytes() for path in sorted(ROOT.glob("examples/*.yaml"))]
SOURCES = [path.read_bytes() for path in sorted((Path(__file__).parent / "broken").glob("*.yaml"))]
PIECES = [*(
    "{|}|[|]|: |:|, |- |\n|  |\t|#|&a |*a|!x |'|\"|>\n|? |---\n|...\n|%|@|null|~|true|0|-1|1e400|0x7f|.nan|\0|"
    "é😀\u2028\ufeff|<<: |\\u0000|lan|kind: |config: |acl|switch|own.py:Router|10.0.0.0/8|::/0|02:00:00:00:00:01|"
    "web:1:2|labels: {").encode().split(b"|"), b"|\n", b"9" * 30, b"\xff"]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**40, "", "x", "lan", "switch", "a b", "::", "10.0.0.1/24", "\n", "\ud800",
    "é" * 70, [], {}, [[]], [{}], {"": None}, {"kind": "acl"}, ["web", "lan"], {"config": {"rules": [1]}}]


def mangled(chance: random.Random) -> bytes:
    """A text with some bytes gone, doubled, replaced or put in."""
    text = bytearray(chance.choice(chance.choice([GOOD, SOURCES])))
    for _ in range(chance.randint(1, 6)):
        at, length = chance.randrange(len(text) + 1), chance.choice([0, 1, 1, 3, 8, 40])
        other = chance.choice(SOURCES)
        start = chance.randrange(len(other) + 1)
        text[at:at + length] = chance.choice([b"", chance.choice(PIECES), other[start:start + chance.randint(1, 60)],
                                              text[at:at + length] * 2])
    return bytes(text)


def changed(data: Any, chance: random.Random) -> Any:
    """Data with a value somewhere in it replaced, gone or put in: right as YAML, and wrong as a document."""
    if isinstance(data, dict) and data and chance.random() < 0.9:
        name = chance.choice(list(data))
        others = {key: value for key, value in data.items() if key != name}
        return chance.choice([{**data, name: changed(data[name], chance)}] * 6 + [
            others, {**others, name + "x": data[name]}, {**data, chance.choice(list(data)): data[name]}])
    if isinstance(data, list) and data and chance.random() < 0.9:
        at = chance.randrange(len(data))
        return [*data[:at], changed(data[at], chance), *data[at + 1:]] if chance.random() < 0.8 else data[:at] + data
    return chance.choice(VALUES)


def outcome(make: Callable[[], list[Any]]) -> bool:
    """Whether documents were accepted; if so, they are in order."""
    try:
        found = make()
    except Refused as refused:
        assert refused.problems and all(p.what and not p.warning for p in refused.problems) and str(refused)
        return False
    assert all(str(problem) for problem in together(found))
    for one in found:
        again, = load(dump(one.content), one.file, KINDS if one.file == "declared" else CATALOGUE)
        assert again.content == one.content and normal(again.content) == normal(one.content)
        if isinstance(one.content, Network):
            assert difference(one.content, one.content) == []
    return True


CATALOGUE = Kinds()


def test_texts(nightly: bool) -> None:
    chance = random.Random(1)
    kinds: dict[str, Any] = {"declared": KINDS, "catalogue": CATALOGUE}
    accepted = 0
    for _ in range(10_000 if nightly else 500):
        text, file = mangled(chance), chance.choice(list(kinds))
        accepted += outcome(lambda: load(text, file, kinds[file]))          # noqa: B023
    assert accepted


def test_data(nightly: bool) -> None:
    chance = random.Random(2)
    good = [node.plain() for text in GOOD for node in read(text, "x")]
    accepted = 0
    for _ in range(10_000 if nightly else 500):
        data = chance.choice(good)
        for _ in range(chance.randint(1, 4)):
            data = changed(data, chance)
        accepted += outcome(lambda: [load_data(data, CATALOGUE)])           # noqa: B023
    assert accepted
