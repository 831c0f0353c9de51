"""Runs the documentation. What README.md and docs/ show as Python is what Python does.

    ```python                runs, after the blocks before it in the same file, with all their names
    ```python raises=Name    must raise Name; a ```text block that follows must occur in the traceback it prints
    ```pycon                 a session at the prompt: doctest compares what is printed
    ```yaml document         must be documents in order, without a warning; if a ```text block follows, it is what
                             `iovisor validate page.yaml` says instead, and its lines count from the block's first
    ```python root           (a word, with any of these) only as root; otherwise it is passed over

In ```text and ```pycon, `...` stands for anything, and runs of white space are all alike. Other blocks are not run.

Each block is a module of its own, in a real file, whose lines have the numbers they have in the document: so that
`inspect.getsource`, on which the compiler rests, finds a class that a later block of the same page defines anew, and
a traceback points at the line of the page. Their names are one set all the same: a block starts with all the names
there are, and those it adds or changes are seen at once by what the blocks before defined.

The working directory is a temporary one.
"""

import doctest
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if page.exists())
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after its fence, its text, and the line of the page its text begins at (from 1)."""

    words: list[str]
    text: str
    line: int

    @property
    def raises(self) -> str | None:
        return next((word.removeprefix("raises=") for word in self.words if word.startswith("raises=")), None)


def blocks(page: str) -> Iterator[Block]:
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if not (opening := FENCE.match(line)):
            continue
        body = []
        for _, inner in lines:
            closing = FENCE.match(inner)
            if closing and closing["fence"].startswith(opening["fence"]) and not closing["info"].strip():
                break
            body.append(inner.removeprefix(opening["indent"]))
        yield Block(opening["info"].split() or [""], "".join(f"{text}\n" for text in body), number + 1)


class Names(dict[str, Any]):
    """Where the statements of a block put names: into every module of the page. It stays empty itself, so that
    looking a name up goes on to the block's own module."""

    def __init__(self, modules: list[ModuleType]) -> None:
        self.modules = modules

    def __setitem__(self, name: str, value: Any) -> None:
        for module in self.modules[-1:] if name.startswith("__") else self.modules:
            setattr(module, name, value)

    def __delitem__(self, name: str) -> None:
        for module in self.modules:
            delattr(module, name)


class Page:
    """The blocks of one document, being run."""

    def __init__(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = name
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.modules: list[ModuleType] = []

    def module(self, block: Block, path: Path) -> ModuleType:
        module = ModuleType(f"{self.name}_line{block.line}")
        module.__file__ = str(path)
        for name, value in vars(self.modules[-1]).items() if self.modules else ():
            if not name.startswith("__"):
                setattr(module, name, value)
        self.modules.append(module)
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    def run(self, block: Block) -> None:
        path = self.folder / f"line{block.line}" / f"{self.name}.py"
        path.parent.mkdir()
        source = "\n" * (block.line - 1) + block.text
        path.write_text(source)
        module = self.module(block, path)
        exec(compile(source, path, "exec"), vars(module), Names(self.modules))

    def converse(self, block: Block) -> None:
        names = vars(self.module(block, self.folder))
        session = doctest.DocTestParser().get_doctest(block.text, names, self.name, self.name, block.line - 1)
        session.globs = names  # the parser made a copy
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(session, out=said.append, clear_globs=False)
        assert not runner.failures, "".join(said)
        for name, value in list(names.items()):
            Names(self.modules)[name] = value


def check_raises(page: Page, block: Block, expected: Block | None) -> None:
    try:
        page.run(block)
    except Exception as error:
        assert block.raises in {kind.__name__ for kind in type(error).__mro__}, f"raised {error!r}"
        if expected:
            printed = "".join(traceback.format_exception(error))
            wanted = f"...\n{expected.text.strip()}..."
            assert doctest.OutputChecker().check_output(wanted, printed, FLAGS), printed
    else:
        pytest.fail(f"line {block.line}: nothing was raised, not even {block.raises}")


def check_document(page: Page, block: Block, expected: Block | None) -> None:
    from iovisor.cli.documents import offline, read
    path = page.folder / "page.yaml"
    path.write_text(block.text)
    said = "".join(f"{problem}\n" for problem in read([path.name], offline())[1])
    wanted = expected.text if expected else ""
    assert doctest.OutputChecker().check_output(wanted, said, FLAGS), f"line {block.line}: {said or 'nothing is said'}"


def run_page(text: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    page = Page(re.sub(r"\W", "_", name), folder, monkeypatch)
    found = list(blocks(text))
    for block, after in zip(found, [*found[1:], None], strict=False):
        if "root" in block.words and os.geteuid() != 0:
            continue
        match block.words[0]:
            case "pycon":
                page.converse(block)
            case "yaml" if "document" in block.words:
                check_document(page, block, after if after and after.words[0] == "text" else None)
            case "python" if block.raises:
                check_raises(page, block, after if after and after.words[0] == "text" else None)
            case "python":
                page.run(block)


@pytest.mark.parametrize("path", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(path.read_text(), path.stem, tmp_path, monkeypatch)


GOOD = """
```python
import inspect
class Counter:
    start = 1
FIRST = Counter
def later():
    return Counter.start + extra
```

1. A list, and in it

   ```python
   extra = 1
   class Counter:
       start = 2
   assert "start = 2" in inspect.getsource(Counter)
   assert "start = 1" in inspect.getsource(FIRST)
   assert later() == 3
   ```

```pycon
>>> later(), [1,
...           2]
(3, [1, 2])
```

```python raises=ArithmeticError
print(1)
1 / 0
```
```text
File ".../page.py", line 30, in <module>
    1 / 0
    ...
ZeroDivisionError: division by zero
```

```yaml document
{version: 1, tenant: acme, network: shop}
```

```yaml document
{version: 1, tenant: acme}
---
{version: 3, tenant: acme}
```
```text
page.yaml:3:11: version: 3 is not a version...
    write ...
```
"""


def test_a_good_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(GOOD, "page", tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("start = 2\n   assert", "start = 3\n   assert"),
        ("(3, [1, 2])", "(3, [1, 3])"),
        ("raises=ArithmeticError", "raises=LookupError"),
        ("division by zero", "division by one"),
        ("1 / 0\n```\n", "1 / 1\n```\n"),
        ("network: shop", "network: my shop"),
        ("{version: 3", "{version: 1"),
        ("page.yaml:3:11", "page.yaml:3:12"),
    ],
)
def test_a_page_that_is_wrong_fails(right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GOOD.count(right) == 1
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_page(GOOD.replace(right, wrong), "page", tmp_path, monkeypatch)
