"""The tree is the architecture: this holds it.

Each package of src/iovisor may import the packages its row in LAYERS names, and nothing else of ours; each outside
package has its row in OUTSIDE. Beside that, what a reader may count on: no junk drawers, an opening essay in every
module, no file too long to read at a sitting, and no trace of the machine that a file was written on.

A new package needs a row here, which is the moment to ask where it belongs.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "iovisor"

#: package -> the packages of ours that it may import. Its own is understood, and so is the bare `iovisor`.
LAYERS: dict[str, set[str]] = {
    "language": set(),
    "wire": {"language"},
    "parts": {"language", "wire"},
    "functions": {"language", "wire", "parts"},
    "compiler": {"language"},
    "kernel": set(),
    "targets": {"language", "compiler", "kernel"},
    "fabric": {"language", "wire", "compiler", "kernel", "targets"},
    "model": set(),
    "store": set(),
    "control": {"wire", "model", "store", "fabric", "kernel", "compiler", "targets", "functions", "language"},
}
BELOW_CLI = {*LAYERS, "testing"}
LAYERS |= {"testing": BELOW_CLI, "cli": BELOW_CLI}

#: package from outside -> the packages of ours that may import it.
OUTSIDE: dict[str, set[str]] = {
    "llvmlite": {"compiler", "targets"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"model", "control"},
    "pydantic_core": {"model", "control"},
    "yaml": {"model", "cli"},
    "fastapi": {"control"},
    "starlette": {"control"},
    "uvicorn": {"control"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}

#: What the command line may import before it knows which command it runs. The rest waits inside functions.
CLI_AT_ONCE = {"click", "iovisor", "iovisor.cli"}

JUNK_DRAWERS = re.compile(r"^_?(utils?|helpers?|common|misc|managers?)$")

LONGEST = 600
#: Files that may be longer, and why splitting them would make them harder to read.
LONG_FILES: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """One import: who, where, of what, and whether it happens as soon as the module is imported."""

    path: Path
    line: int
    name: str
    at_once: bool

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> str:
    """`iovisor.kernel.maps` is of the layer `kernel`; `iovisor` itself, and its modules, of none."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / parts[1]).is_dir() else ""


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(path: Path) -> Iterator[Import]:
    """Every import in a file: absolute or relative, at the top or inside a function, and import_module("...")."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, at_once)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            if stem == "iovisor":  # `from iovisor import kernel` imports iovisor.kernel
                for alias in node.names:
                    yield Import(path, node.lineno, f"iovisor.{alias.name}", at_once)
            else:
                yield Import(path, node.lineno, stem, at_once)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield Import(path, node.lineno, node.args[0].value, at_once)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_for_type_checkers(node)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not later)

    yield from visit(ast.parse(path.read_text(), str(path)), True)


def all_imports() -> Iterator[Import]:
    for path in modules():
        yield from imports(path)


def report(broken: list[str]) -> None:
    assert not broken, "\n  " + "\n  ".join(broken)


def test_every_package_has_its_layer() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages <= LAYERS.keys(), "give the new package a row in LAYERS"


def test_imports_point_one_way() -> None:
    broken = []
    for found in all_imports():
        user, used = layer(module_name(found.path)), layer(found.name)
        if found.name.split(".")[0] == "iovisor" and user and used not in ("", user, *LAYERS.get(user, ())):
            broken.append(f"{found.place}: {user} may not import {found.name}")
    report(broken)


def test_outside_packages_stay_where_they_belong() -> None:
    broken = []
    for found in all_imports():
        user, top = layer(module_name(found.path)), found.name.split(".")[0]
        if top != "iovisor" and top not in sys.stdlib_module_names and user not in OUTSIDE.get(top, ()):
            broken.append(f"{found.place}: {user or 'iovisor'} may not import {found.name}")
    report(broken)


def test_the_root_imports_nothing() -> None:
    report([f"{found.place}: {found.name}" for found in imports(SOURCE / "__init__.py")])


def test_the_command_line_is_quick_to_start() -> None:
    broken = []
    for path in sorted(SOURCE.glob("cli/**/*.py")):
        for found in imports(path):
            top = ".".join(found.name.split(".")[: 2 if layer(found.name) else 1])
            if found.at_once and top not in CLI_AT_ONCE and top not in sys.stdlib_module_names:
                broken.append(f"{found.place}: import {found.name} inside the function that needs it")
    report(broken)


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("iovisor.language", {"llvmlite", "ctypes", "click", "rich", "asyncio"}),
        ("iovisor.functions", {"llvmlite", "ctypes", "click", "rich", "asyncio"}),
        ("iovisor.kernel", {"llvmlite", "click", "rich"}),
        ("iovisor.cli", {"llvmlite", "rich", "asyncio"}),
    ],
)
def test_importing_brings_no_weight(package: str, unwanted: set[str]) -> None:
    """What the syntax cannot show: what is really loaded, by whatever way."""
    if not (SOURCE / package.split(".")[1] / "__init__.py").exists():
        pytest.skip(f"there is no {package} yet")
    program = f"import sys, {package}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not unwanted & set(loaded)


def test_no_junk_drawers() -> None:
    names = {path.relative_to(ROOT): path.stem for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*/")]}
    report([f"{path}: name it after what it is about" for path, name in names.items() if JUNK_DRAWERS.match(name)])


def test_every_module_opens_with_an_essay() -> None:
    report([str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))])


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in modules()}
    long = {path for path, length in lengths.items() if length > LONGEST}
    broken = [f"{path}: {lengths[path]} lines; split it, or say here why not" for path in long - LONG_FILES.keys()]
    report([*broken, *(f"{path}: needs no exception" for path in LONG_FILES.keys() - long)])


# Written in halves, or this file would break its own rule.
MACHINE = re.compile(
    "|".join(["pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.org", "deb" + r"\.debian\.org"])
    + r"|(?<![\w.~$})*-])/(?:"
    + "|".join(["wo" + "rk", "ro" + "ot", "ho" + r"me/\w+"])
    + r")(?=[/\s\"'`:;,)]|$)",
    re.MULTILINE,
)


def test_no_trace_of_a_machine() -> None:
    """No registry's host name, nobody's home directory: what is tracked must mean the same everywhere."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    broken = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode("utf-8", "replace")
        broken += [f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m[0]}" for m in MACHINE.finditer(text)]
    report(broken)
