"""The commands, as a person calls them: what they print, how they end, and what they leave."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iovisor.cli import COMMANDS, commands
from iovisor.kernel import NetworkNamespace

ROOT = Path(__file__).parents[2]
SWITCH = ROOT / "src/iovisor/functions/switch.py"
HUB = ROOT / "examples/hub.py"
GOOD = """
from iovisor.language import Config, FLOOD, Function, Packet, Verdict, Ports, ports, u8

class OneConfig(Config):
    level: u8

class One(Function):
    config: OneConfig
    ports: Ports = ports(2)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD

class Two(Function):
    ports: Ports = ports(2)

    def ingress(self, pkt: Packet) -> Verdict:
        return FLOOD
"""


def iovisor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments], prog_name="iovisor")


def process(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "iovisor", *map(str, arguments)], capture_output=True, text=True,
                          check=False, env={**os.environ, **environment})


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# -- starting ---------------------------------------------------------------------------------------------------------

def test_help_names_every_command() -> None:
    text = iovisor("--help").output
    assert [line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line.strip()] == list(COMMANDS)
    for name in COMMANDS:
        assert iovisor(name, "--help").exit_code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["completion", "bash"], ["check", "--help"]])
def test_starting_brings_no_weight(arguments: list[str]) -> None:
    program = (f"import sys; sys.argv = ['iovisor', *{arguments!r}]\nfrom iovisor.cli import main\n"
               "try: main()\nexcept SystemExit: pass\nprint('MODULES', *sys.modules)")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.rpartition("MODULES")[2].split())
    assert "click" in loaded
    assert not loaded & {"llvmlite", "rich", "asyncio", "iovisor.compiler", "iovisor.kernel", "iovisor.language"}


def test_a_beginning_is_enough_if_it_is_clear() -> None:
    assert iovisor("ver").output == iovisor("version").output
    ambiguous = iovisor("co")
    assert ambiguous.exit_code == 2 and "confirm or counters or completion" in ambiguous.output


def test_version() -> None:
    lines = iovisor("version").output.splitlines()
    assert [line.split()[0] for line in lines] == ["iovisor", "python", "llvmlite", "kernel"]
    assert lines[3].split()[2] == os.uname().release


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_IOVISOR_COMPLETE" in iovisor("completion", shell).output


# -- new --------------------------------------------------------------------------------------------------------------

def test_new_writes_a_function_whose_test_passes(tmp_path: Path) -> None:
    assert iovisor("new", tmp_path / "my_gate").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_gate.py", "test_my_gate.py"]
    assert "class MyGate(Function)" in (tmp_path / "my_gate.py").read_text()
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path,
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout


@pytest.mark.parametrize("there", ["gate.py", "test_gate.py"])
def test_new_overwrites_nothing(tmp_path: Path, there: str) -> None:
    write(tmp_path, "precious", there)
    result = iovisor("new", tmp_path / "gate")
    assert result.exit_code == 1 and "not overwritten" in result.output
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


@pytest.mark.parametrize("name", ["my-gate", "1st", "class", "nowhere/gate"])
def test_new_wants_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert iovisor("new", name).exit_code == 1
    assert not list(tmp_path.iterdir())


# -- errors -----------------------------------------------------------------------------------------------------------

def test_there_is_no_file(tmp_path: Path) -> None:
    result = iovisor("check", tmp_path / "hub.py")
    assert result.exit_code == 1
    assert "there is no file" in result.output and "iovisor new hub" in result.output


def test_there_is_no_function(tmp_path: Path) -> None:
    result = iovisor("check", write(tmp_path, "x = 1\n"))
    assert result.exit_code == 1 and "declares no function" in result.output


def test_there_is_no_such_function(tmp_path: Path) -> None:
    result = iovisor("check", f"{write(tmp_path, GOOD)}:Three")
    assert result.exit_code == 1 and "it has One, Two" in result.output


def test_a_file_that_is_not_python(tmp_path: Path) -> None:
    ran = process("check", write(tmp_path, "def f(:\n    pass\n"))
    assert ran.returncode == 1 and ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert lines[0].endswith('mine.py", line 1') and lines[1] == "    def f(:" and lines[2].strip() == "^"
    assert lines[3] == "SyntaxError: invalid syntax"


def test_a_file_that_does_not_run_shows_its_own_line(tmp_path: Path) -> None:
    ran = process("check", write(tmp_path, "import math\n\nwrong = math.nothing\n"))
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    assert lines[0].endswith('mine.py", line 3, in <module>') and lines[1] == "    wrong = math.nothing"
    assert lines[-1].startswith("AttributeError: ")
    assert "Traceback" not in ran.stderr and "cli/source.py" not in ran.stderr
    assert "cli/source.py" in process("--traceback", "check", tmp_path / "mine.py").stderr


def test_a_compile_error_points_at_the_place(tmp_path: Path) -> None:
    text = GOOD.replace("        return FLOOD\n", "        return FLOOD if len(str(pkt)) else FLOOD\n", 1)
    ran = process("check", f"{write(tmp_path, text)}:One", "-c", "level=1")
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.strip() == "return FLOOD if len(str(pkt)) else FLOOD")
    assert lines[place - 1].strip() == f'File "{tmp_path}/mine.py", line 12'
    caret = lines[place + 1]
    assert lines[place][caret.index("^"):caret.rindex("^") + 1] in ("str(pkt)", "len(str(pkt))")
    assert lines[place + 2].startswith(("NotInLanguage: ", "CompileError: "))
    assert "Traceback" not in ran.stdout + ran.stderr


def test_what_cpython_refuses_is_refused_too(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    text = GOOD.replace("        return FLOOD\n", "        return FLOOD if pkt.port < 300 else None\n", 1)
    ran = process("check", f"{write(tmp_path, text)}:One", "-c", "level=1")
    assert ran.returncode == 1 and "refused for native ingress, tc ingress, xdp ingress" in ran.stdout


def test_a_reader_that_goes_away_is_no_mistake_of_ours() -> None:
    ran = subprocess.run(f"{sys.executable} -m iovisor --help | true", shell=True, capture_output=True, text=True,
                         check=False)
    assert ran.stderr == ""


def test_a_configuration_that_is_missing_or_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    missing = iovisor("check", f"{path}:One")
    assert missing.exit_code == 1 and "--config level=" in missing.output
    assert "does not fit in 8 bits" in iovisor("check", f"{path}:One", "-c", "level=256").output
    assert "NAME=VALUE" in iovisor("check", f"{path}:One", "-c", "level").output


# -- check ------------------------------------------------------------------------------------------------------------

def test_check_without_root_compiles_and_says_what_it_could_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setattr("iovisor.cli.privileges.denied", lambda: "run it as root")
    result = iovisor("check", HUB, "-o", "json")
    assert result.exit_code == 0
    report, = json.loads(result.output)
    assert report["not_loaded"] == "run it as root"
    assert [one["target"] for one in report["compilations"]] == ["native", "tc", "xdp"]
    assert all(one["in_kernel"] is None and not one["packets"] for one in report["compilations"])
    assert report["compilations"][1]["instructions"] > 0
    assert "run it as root" in iovisor("check", HUB).output


@pytest.mark.root
def test_check_says_what_everything_costs() -> None:
    pytest.importorskip("llvmlite")
    result = iovisor("check", SWITCH, "-o", "json")
    assert result.exit_code == 0
    report, = json.loads(result.output)
    assert (report["function"], report["errors"], report["failed"]) == ("Switch", {}, False)
    compilations = {(one["target"], one["entry"]): one for one in report["compilations"]}
    assert compilations.keys() == {(t, e) for t in ("native", "tc", "xdp") for e in ("ingress", "egress")}
    for (target, _), one in compilations.items():
        assert one["machine_code"] > 0
        if target != "native":
            assert one["in_kernel"] > 0 and one["walked"] > 0 and 0 < one["stack"] <= 512
    verdicts = {name: cost["verdict"] for name, cost in compilations["tc", "ingress"]["packets"].items()}
    assert verdicts["TCP, IPv4, 60 bytes"] == "forward(1)" and verdicts["ARP request, broadcast"] == "FLOOD"
    assert verdicts == {name: cost["verdict"] for name, cost in report["python"]["ingress"].items()}
    stations = next(table for table in report["tables"] if table["name"] == "stations")
    assert (stations["kind"], stations["room"]) == ("hash", 4096) and stations["memory"] > 0


@pytest.mark.root
def test_check_prints_a_table_without_colours_where_nobody_sees_them() -> None:
    pytest.importorskip("llvmlite")
    text = iovisor("check", HUB).output
    assert "\033" not in text
    assert [line.split()[:3] for line in text.splitlines() if "ok" in line] == [
        ["native", "ingress", "ok"], ["tc", "ingress", "ok"], ["xdp", "ingress", "ok"]]


# -- with the kernel --------------------------------------------------------------------------------------------------

@pytest.mark.root
def test_run_pings_all_pairs() -> None:
    pytest.importorskip("llvmlite")
    ran = process("run", SWITCH, "--lab", "3", "--once")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("6 of 6 pairs answered") == 2
    assert "mac=02:00:00:00:00:03, vid=0" in ran.stdout and "3 of 4096" in ran.stdout


@pytest.mark.root
def test_run_shows_drops_by_reason(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    iovisor("new", tmp_path / "gate")
    ran = process("run", tmp_path / "gate.py", "--once", "-c", 'blocked=["02:00:00:00:00:02"]')
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("0 of 2 pairs answered") == 2
    assert "BLOCKED" in ran.stdout.partition("dropped")[2]


@pytest.mark.root
def test_run_wants_a_port_for_each_host(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    iovisor("new", tmp_path / "gate")
    result = iovisor("run", tmp_path / "gate.py", "--lab", "3")
    assert result.exit_code == 1 and "has 2 ports, too few for 3 hosts" in result.output


@pytest.mark.root
def test_bench() -> None:
    pytest.importorskip("llvmlite")
    result = iovisor("bench", HUB, "--rounds", "3", "-o", "json")
    assert result.exit_code == 0
    rows = json.loads(result.output)
    assert {row["target"] for row in rows} == {"tc", "xdp"} and {row["verdict"] for row in rows} == {"FLOOD"}
    assert all(row["empty"] > 0 for row in rows)


@pytest.mark.root
def test_bench_against_c(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    section = '__attribute__((section("tc"), used)) '
    program = write(tmp_path, section + "int ingress(void *context) { return 3 << 16; }", "hub.c")
    result = iovisor("bench", HUB, "--rounds", "3", "--against", program, "-t", "tc", "-o", "json")
    if importlib.util.find_spec("ziglang") is None:
        assert result.exit_code == 1 and "pip install ziglang" in result.output
        return
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert all("ratio" in row for row in json.loads(result.stdout))
    wrong = write(tmp_path, "extern char nothing; " + section + "int ingress(void *context) "
                            "{ return ((long (*)(void *, void *))1)(&nothing, context) != 0; }", "wrong.c")
    refused = iovisor("bench", HUB, "--against", wrong, "-t", "tc")
    assert refused.exit_code == 1 and "names nothing, which is no table" in refused.output


@pytest.mark.parametrize("command", [["demo"], ["run", str(HUB)], ["bench", str(HUB)]])
def test_what_needs_root_says_so(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setattr("iovisor.cli.privileges.denied", lambda: "it needs CAP_BPF; run it as root")
    result = iovisor(*command)
    assert result.exit_code == 1 and "it needs CAP_BPF; run it as root" in result.output


@pytest.mark.root
@pytest.mark.lab
@pytest.mark.slow
def test_the_demo_works_and_leaves_nothing() -> None:
    pytest.importorskip("llvmlite")
    before = set(Path("/sys/class/net").iterdir())
    ran = process("demo", "--quick")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    marks = Counter(line.split()[0] for line in ran.stdout.splitlines() if line.strip().startswith(("✓", "✗")))
    assert marks == {"✓": 24}
    assert "all of it held" in ran.stdout and "RESERVED_ADDRESS 3" in ran.stdout and ": 0 lost" in ran.stdout
    assert "\033" not in ran.stdout
    assert set(Path("/sys/class/net").iterdir()) == before


@pytest.mark.root
@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, "ping IPv4"), (signal.SIGTERM, "HTTP from zenith")])
def test_the_demo_can_be_stopped(number: signal.Signals, at: str, tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    with subprocess.Popen([sys.executable, "-u", "-m", "iovisor", "demo", "--quick"], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if at in line:
                break
        demo.send_signal(number)
        rest = demo.stdout.read()
        assert demo.wait(20) == 130
    assert "nothing is left behind" in rest
    assert not list(tmp_path.iterdir())
    assert not [name for name in NetworkNamespace.names() if name.startswith(f"lab-{demo.pid}-")]
    alive: list[Path] = []
    for _ in range(200):        # killed is not yet gone: a process ends when the machine has time for it
        alive = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _session(entry) == demo.pid]
        if not alive:
            return
        time.sleep(0.05)
    pytest.fail(f"processes are left: {[_told(entry) for entry in alive]}")


def _told(entry: Path) -> str:
    """What a process is, for the message."""
    try:
        state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        return f"{entry.name} {state} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}"
    except OSError:
        return entry.name


def _session(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1
