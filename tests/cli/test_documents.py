"""The commands for documents: what they print, how they end, and what they do not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from iovisor.cli import commands

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = """\
version: 1
tenant: acme
network: shop
functions: {lan: switch, fw: {kind: acl, default: drop}}
endpoints: {web: {netns: web}, db: {netns: db}}
links: [[web, lan], [lan, fw, db]]
"""


def iovisor(*arguments: str | Path, text: str | None = None, color: bool = False) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments], prog_name="iovisor", input=text,
                              color=color)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    result = iovisor("validate", path)
    assert result.exit_code == 0 and result.stderr == ""
    again = iovisor("diff", path, path)
    assert again.exit_code == 0 and again.stdout == "no changes\n"


def test_validate_says_what_is_there(good: Path) -> None:
    result = iovisor("validate", good)
    assert result.exit_code == 0
    assert result.stdout.endswith("good.yaml: network acme/shop: 2 functions, 2 endpoints, 2 links\n")
    assert iovisor("validate", "-", text=GOOD).stdout == "-: network acme/shop: 2 functions, 2 endpoints, 2 links\n"


def test_validate_says_everything_that_is_wrong(tmp_path: Path, good: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("lan: switch", "lan: swich").replace("default: drop", "default: maybe"))
    result = iovisor("validate", good, bad, tmp_path / "none.yaml")
    assert result.exit_code == 1 and result.stdout == ""
    assert [line.partition("bad.yaml:")[2] for line in result.stderr.splitlines() if "bad.yaml" in line] == [
        "4:18: functions.lan.kind: there is no kind 'swich'",
        "4:50: functions.fw.config.default: expected one of drop, accept, not 'maybe'"]
    assert "none.yaml: no such file or directory\n" in result.stderr
    data = json.loads(iovisor("validate", "-o", "json", bad).stdout)
    assert data["valid"] is False and data["documents"] == []
    assert [(one["line"], one["column"], one["path"]) for one in data["problems"]] == [
        (4, 18, "/functions/lan/kind"), (4, 50, "/functions/fw/config/default")]


def test_validate_looks_at_documents_together(tmp_path: Path, good: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(GOOD.replace("network: shop", "network: other"))
    result = iovisor("validate", good, other)
    assert result.exit_code == 1
    assert "netns web eth0 is taken: acme/shop has it" in result.stderr


def test_warnings_are_said_and_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD.replace("[web, lan], ", ""))
    result = iovisor("validate", path)
    assert result.exit_code == 0 and "warning: endpoints.web: nothing is linked to web" in result.stderr
    assert json.loads(iovisor("validate", "-o", "json", path).stdout)["problems"][0]["warning"] is True


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD.replace("kind: acl, default: drop", "kind: 'mine.py:Mine'"))
    assert "there is no file" in iovisor("validate", path).stderr
    own = tmp_path / "mine.py"
    own.write_text("raise RuntimeError('oh')\n")
    result = iovisor("validate", path)
    assert result.exit_code == 1 and "mine.py: RuntimeError: oh" in result.stderr
    own.write_text((EXAMPLES / "talkers.py").read_text().replace("class Talkers", "class Mine"))
    assert "NameError" in iovisor("validate", path).stderr
    own.write_text((EXAMPLES / "talkers.py").read_text().replace("Talkers", "Mine"))
    result = iovisor("validate", path)
    assert result.exit_code == 0, result.stderr
    schema = json.loads(iovisor("schema", f"{own}:Mine").stdout)
    assert schema["type"] == "object"


def test_format(good: Path) -> None:
    text = iovisor("format", good).stdout
    assert text.startswith("version: 1\ntenant: acme\nnetwork: shop\nfunctions:\n  fw:\n    kind: acl\n")
    assert iovisor("format", "-", text=text).stdout == text
    data = json.loads(iovisor("format", "-o", "json", good).stdout)
    assert data["links"] == [["db", "fw:outside:inside", "lan"], ["web", "lan"]]
    assert iovisor("format", "-", text=json.dumps(data)).stdout == text
    assert iovisor("format", "-", text=GOOD + "x: 1\n").exit_code == 1


def test_diff(tmp_path: Path, good: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(GOOD.replace("drop", "accept").replace("[lan, fw, db]", "[lan, db]"))
    result = iovisor("diff", good, new)
    assert result.exit_code == 2
    assert result.stdout == ("~ function fw: acl\n    ~ default: drop -> accept\n~ link db -- lan\n"
                             "    - fw:outside:inside\n2 to change\n")
    assert [one["name"] for one in json.loads(iovisor("diff", "-o", "json", good, new).stdout)["changes"]] == [
        "fw", "db -- lan"]
    new.write_text("nonsense")
    assert iovisor("diff", good, new).exit_code == 1


def test_diff_of_several_documents(tmp_path: Path) -> None:
    result = iovisor("diff", EXAMPLES / "two-tenants.yaml", EXAMPLES / "campus.yaml")
    heads = [line for line in result.stdout.splitlines() if line[:1] in "+-" and "network" in line]
    assert result.exit_code == 2 and sorted(heads) == [
        "+ network campus/buildings", "- network acme/shop", "- network zenith/shop"]


def test_colours_only_where_they_are_wanted(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = GOOD.replace("drop", "accept")
    assert "\033[33m" in iovisor("diff", good, "-", text=changed, color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in iovisor("diff", good, "-", text=changed, color=True).stdout


def test_schema() -> None:
    schema = json.loads(iovisor("schema").stdout)
    Draft202012Validator.check_schema(schema)
    assert {"switch configuration", "acl configuration"} <= schema["$defs"].keys()
    assert json.loads(iovisor("schema", "acl").stdout)["title"] == "AclConfig"
    result = iovisor("schema", "nothing")
    assert result.exit_code == 1 and "there is no kind 'nothing'" in result.output


@pytest.mark.parametrize("module", ["validate", "diff", "format", "schema", "documents"])
def test_commands_cost_nothing_until_they_run(module: str) -> None:
    program = f"import sys, iovisor.cli.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "yaml", "iovisor.model", "iovisor.control", "iovisor.language"} & set(loaded)


def test_documents_need_no_compiler_and_no_server(good: Path) -> None:
    program = ("import sys; from iovisor.cli import commands\n"
               f"try: commands(['validate', {str(good)!r}], prog_name='iovisor')\n"
               "except SystemExit as end: assert not end.code\nprint(*sys.modules)")
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"llvmlite", "fastapi", "uvicorn", "asyncio", "iovisor.compiler", "iovisor.fabric"} & set(loaded)
