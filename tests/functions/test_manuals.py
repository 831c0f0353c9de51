"""The manual of a function is the docstring of its module; docs/functions shows it word for word.

`pytest --update` rewrites the pages.  What they say that code can know is compared with the code: a field, table,
reason or action that the manual forgets fails here.
"""
from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import iovisor.functions
from iovisor.language import Dropped, Function

PAGES = Path(__file__).parents[2] / "docs" / "functions"
NAMES = sorted(module.name for module in pkgutil.iter_modules(iovisor.functions.__path__))
SECTIONS = ["Ports", "Configuration", "Tables", "Counters", "Drop reasons", "Actions", "Limits"]


def manual(name: str) -> str:
    module = importlib.import_module(f"iovisor.functions.{name}")
    return f"# {name}\n\n{(module.__doc__ or '').strip()}\n"


def kinds(name: str) -> list[type[Function]]:
    module = importlib.import_module(f"iovisor.functions.{name}")
    return [kind for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Function) and kind.__module__ == module.__name__]


INDEX = """# Functions

The catalogue.  Each page is the docstring of a module of `iovisor.functions`; the source is meant to be read, too.

{lines}

All of them run in plain Python, where a function is an object that answers what becomes of a packet:

```python
from iovisor.functions.switch import Switch
from iovisor.language import FLOOD, Packet, forward

switch = Switch(ageing="60s")
hello = bytes.fromhex("ffffffffffff" "020000000001" "0806") + bytes(46)
answer = bytes.fromhex("020000000001" "020000000002" "0806") + bytes(46)
assert switch.run(Packet(hello, port=3)) == FLOOD
assert switch.run(Packet(answer, port=5)) == forward(3)
```
"""


def index() -> str:
    return INDEX.format(lines="\n".join(f"- [{name}]({name}.md): {manual(name).splitlines()[2]}" for name in NAMES))


def check(path: Path, text: str, update: bool) -> None:
    if update:
        path.write_text(text)
    assert path.exists() and path.read_text() == text, f"run `pytest --update tests/functions` to renew {path.name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_the_docstring(name: str, update: bool) -> None:
    check(PAGES / f"{name}.md", manual(name), update)


def test_the_index(update: bool) -> None:
    check(PAGES / "README.md", index(), update)


def test_no_page_is_left_over() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"README"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_sections_stand_in_order(name: str) -> None:
    assert [line[3:] for line in manual(name).splitlines() if line.startswith("## ")] == SECTIONS


@pytest.mark.parametrize("name", NAMES)
def test_the_manual_is_complete(name: str) -> None:
    text = manual(name)
    for kind in kinds(name):
        spec = kind.spec()
        reasons = {reason for number, reason in spec.reasons.items() if number not in set(Dropped)}
        assert reasons, "every function can say why it drops"
        forgotten = {word for word in {*spec.config.types, *spec.tables, *reasons, *spec.actions}
                     if f"`{word}`" not in text}
        assert not forgotten
