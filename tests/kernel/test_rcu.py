"""Short grace periods: on inside, as before outside, and what they are for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iovisor.kernel import Direction, Link, NetworkNamespace, Program, ProgramKind, ProgramSpec, rcu
from iovisor.kernel.assembler import assemble, leave

from .conftest import LOCAL

pytestmark = pytest.mark.root


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting of our own: that of the machine is changed by others meanwhile."""
    file = tmp_path / "rcu_expedited"
    file.write_text("0")
    monkeypatch.setattr(rcu, "SETTING", file)
    monkeypatch.setattr(rcu, "LOCK", tmp_path / "lock")
    return file


def test_it_nests_and_restores(setting: Path) -> None:
    for _ in range(2):
        with rcu.expedited() as possible:
            assert possible
            with rcu.expedited():
                assert setting.read_text() == "1"
            assert setting.read_text() == "1"
        assert setting.read_text() == "0"


def test_an_error_inside_restores_it_too(setting: Path) -> None:
    with pytest.raises(ZeroDivisionError), rcu.expedited():
        _ = 1 / 0
    assert setting.read_text() == "0"


def test_the_setting_of_the_administrator_stays(setting: Path) -> None:
    setting.write_text("1")
    with rcu.expedited() as possible:
        assert possible
    assert setting.read_text() == "1"


def test_what_a_dead_process_left_is_cleared(setting: Path) -> None:
    program = (
        "import os, sys, pathlib; from iovisor.kernel import rcu\n"
        "rcu.SETTING, rcu.LOCK = map(pathlib.Path, sys.argv[1:])\n"
        "with rcu.expedited(): os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(rcu.SETTING), str(rcu.LOCK)], check=True)
    assert setting.read_text() == "1"
    with rcu.expedited():
        pass
    assert setting.read_text() == "0"


def test_not_being_allowed_is_no_error(setting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcu, "LOCK", setting.parent / "missing" / "lock")
    with rcu.expedited() as possible:
        assert not possible
    assert setting.read_text() == "0"


def test_another_process_does_not_switch_it_off() -> None:
    with rcu.expedited() as possible:
        if not possible:
            pytest.skip("rcu_expedited cannot be set on this machine")
        program = "from iovisor.kernel import rcu\nwith rcu.expedited(): pass"
        subprocess.run([sys.executable, "-c", program], check=True)
        assert rcu.is_expedited()


@pytest.mark.usefixtures("wire")
def test_attaching_meanwhile(namespace: NetworkNamespace) -> None:
    spec = ProgramSpec("next", ProgramKind.SCHED_CLS, assemble(leave(-1)))
    with Program.load(spec) as program, rcu.expedited() as possible:
        if not possible:
            pytest.skip("rcu_expedited cannot be set on this machine")
        Link.tcx(program, LOCAL, Direction.INGRESS, namespace=namespace).close()
