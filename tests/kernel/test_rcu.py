"""Short grace periods: on inside, as before outside, and what they are for."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from iovisor.kernel import Direction, Link, NetworkNamespace, Program, ProgramKind, ProgramSpec, rcu
from iovisor.kernel.assembler import assemble, leave

from .conftest import LOCAL

pytestmark = pytest.mark.root


def test_it_nests_and_restores() -> None:
    before = rcu.is_expedited()
    with rcu.expedited() as possible:
        if not possible:
            pytest.skip("rcu_expedited cannot be set on this machine")
        with rcu.expedited():
            assert rcu.is_expedited()
        assert rcu.is_expedited()
    # Another process may be inside at the same time; only what was on may be on.
    assert rcu.is_expedited() >= before or not before


def test_another_process_does_not_switch_it_off() -> None:
    with rcu.expedited() as possible:
        if not possible:
            pytest.skip("rcu_expedited cannot be set on this machine")
        program = "from iovisor.kernel import rcu\nwith rcu.expedited(): pass"
        subprocess.run([sys.executable, "-c", program], check=True)
        assert rcu.is_expedited()


@pytest.mark.usefixtures("wire")
def test_attaching_becomes_quick(namespace: NetworkNamespace) -> None:
    spec = ProgramSpec("next", ProgramKind.SCHED_CLS, assemble(leave(-1)))
    with Program.load(spec) as program, rcu.expedited() as possible:
        if not possible:
            pytest.skip("rcu_expedited cannot be set on this machine")
        start = time.perf_counter()
        for _ in range(20):
            Link.tcx(program, LOCAL, Direction.INGRESS, namespace=namespace).close()
        assert (time.perf_counter() - start) / 20 < 0.005
