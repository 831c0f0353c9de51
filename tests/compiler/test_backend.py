"""LLVM in its own process: it may die of what it is given, the compiler does not."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from iovisor.compiler.backend import Backend, Job
from iovisor.compiler.errors import BackendError

GOOD = "define i32 @f() {\n  ret i32 7\n}\n"
# A helper called with six arguments: the back end has registers for five, prints, and exits.
SIX = ('target triple = "bpfel"\ndefine i64 @f(i64 %a) {\n  %r = call i64 inttoptr (i64 1 to ptr)('
       "i64 %a, i64 %a, i64 %a, i64 %a, i64 %a, i64 %a)\n  ret i64 %r\n}\n")
BIG = ('target triple = "bpfel"\ndefine i64 @f(i64 %a) {\n  %s = alloca [100 x i64]\n  %p = ptrtoint ptr %s to i64\n'
       "  call void inttoptr (i64 1 to ptr)(i64 %p)\n  ret i64 %p\n}\n")


def job(text: str, triple: str = "") -> Job:
    return Job(text, triple, "v4" if triple else "", "", 2)


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.stop()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_the_child_serves_many(backend: Backend) -> None:
    first = backend.compile(job(GOOD))
    child = backend.child
    assert first.code[:4] == b"\x7fELF" and first.seconds > 0
    assert backend.compile(job(GOOD, "bpfel")).code[:4] == b"\x7fELF"
    assert backend.child == child


def test_assembly_on_request(backend: Backend) -> None:
    product = backend.compile(Job(GOOD, "bpfel", "v4", "", 2, assembly=True))
    assert "w0 = 7" in product.assembly


@pytest.mark.parametrize("text", ["nonsense", "define i32 @f() {\n  ret i64 7\n}\n"])
def test_text_that_is_wrong_is_reported_and_the_child_lives(backend: Backend, text: str) -> None:
    backend.compile(job(GOOD))
    child = backend.child
    with pytest.raises(BackendError, match=r"\w"):
        backend.compile(job(text))
    assert backend.child == child
    assert backend.compile(job(GOOD)).code


@pytest.mark.parametrize(("text", "said"), [(SIX, "too many arg"), (BIG, "stack")])
def test_what_kills_llvm_is_an_error_with_what_it_printed(backend: Backend, text: str, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        backend.compile(job(text, "bpfel"))
    assert backend.compile(job(GOOD, "bpfel")).code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_killed_child_is_an_error_once(backend: Backend, number: int) -> None:
    backend.compile(job(GOOD))
    os.kill(backend.child, number)
    time.sleep(0.1)
    with pytest.raises(BackendError):
        backend.compile(job(GOOD))
    assert backend.compile(job(GOOD)).code


def test_interrupting_the_parent_leaves_the_child(backend: Backend) -> None:
    """Control-C goes to the whole group; the child waits for its parent to decide."""
    backend.compile(job(GOOD))
    os.kill(backend.child, signal.SIGINT)
    assert backend.compile(job(GOOD)).code


def test_a_fork_of_the_parent_gets_a_child_of_its_own(backend: Backend) -> None:
    backend.compile(job(GOOD))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if backend.compile(job(GOOD)).code and backend.owner == os.getpid() else 2
            backend.stop()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert backend.compile(job(GOOD)).code


def test_stopping_twice_is_nothing(backend: Backend) -> None:
    backend.compile(job(GOOD))
    child = backend.child
    backend.stop()
    backend.stop()
    assert not alive(child)


def test_the_child_ends_with_its_parent_however_that_dies() -> None:
    program = ("import time; from iovisor.compiler.backend import BACKEND; BACKEND.start(); "
               "print(BACKEND.child, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 10
        while alive(child) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(child)


def test_the_parent_never_imports_llvm_for_ebpf() -> None:
    program = ("import sys; from iovisor.compiler.backend import BACKEND, Job; "
               f"BACKEND.compile(Job({GOOD!r}, 'bpfel', 'v4', '', 2)); print('llvmlite' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_the_child_keeps_nothing_of_the_parent_open(backend: Backend) -> None:
    """Maps and programs end with their last descriptor: one in the child would keep them for ever."""
    reading, writing = os.pipe()
    high = os.dup2(writing, 900)
    try:
        backend.compile(job(GOOD))
        opened = {int(name) for name in os.listdir(f"/proc/{backend.child}/fd")}
        assert not {reading, writing, high} & opened - {0, 1, 2} and len(opened) <= 6
    finally:
        for descriptor in (reading, writing, high):
            os.close(descriptor)
