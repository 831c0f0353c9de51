"""Network namespaces: made, entered, left, named as `ip netns` names them, and gone."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading

import pytest

from iovisor.kernel import KernelError, Netlink, NetworkNamespace, interfaces, temporary
from tests.waiting import until

pytestmark = pytest.mark.root

HERE = "/proc/thread-self/ns/net"


def here() -> int:
    return os.stat(HERE).st_ino


def test_an_anonymous_namespace_is_new_and_empty(namespace: NetworkNamespace) -> None:
    assert namespace.identity[1] != here()
    with Netlink(namespace) as netlink:
        assert [found.name for found in interfaces.listing(netlink)] == ["lo"]


def test_entering_moves_the_thread_and_back(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    home = here()
    with namespace.entered():
        assert here() == namespace.identity[1]
        with tenant.entered():
            assert here() == tenant.identity[1]
        assert here() == namespace.identity[1]
    assert here() == home


def test_an_error_inside_still_brings_it_back(namespace: NetworkNamespace) -> None:
    home = here()
    with pytest.raises(ZeroDivisionError), namespace.entered():
        _ = 1 / 0
    assert here() == home


def test_other_threads_stay_where_they_are(namespace: NetworkNamespace) -> None:
    home, seen = here(), []
    with namespace.entered():
        inherited = threading.Thread(target=lambda: seen.append(here()))
        inherited.start()
        inherited.join()
    assert seen == [namespace.identity[1]]
    assert here() == home
    assert namespace.run(here) == namespace.identity[1]


def test_names_are_those_of_ip_netns(unique: str) -> None:
    with temporary(unique) as namespace:
        assert unique in NetworkNamespace.names()
        with NetworkNamespace.open(unique) as same:
            assert same.identity == namespace.identity
        with pytest.raises(KernelError) as taken:
            NetworkNamespace.create(unique)
        assert taken.value.errno == errno.EEXIST
        if shutil.which("ip"):
            listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
            assert unique in listed.stdout
            inside = subprocess.run(
                ["ip", "netns", "exec", unique, "readlink", "/proc/self/ns/net"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert inside.stdout.strip() == f"net:[{namespace.identity[1]}]"
    assert unique not in NetworkNamespace.names()


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_those_of_ip_netns_can_be_opened_and_deleted(unique: str) -> None:
    subprocess.run(["ip", "netns", "add", unique], check=True)
    with NetworkNamespace.open(unique) as namespace:
        assert namespace.run(here) == namespace.identity[1]
        namespace.delete()
    assert unique not in NetworkNamespace.names()


def test_deleting_twice_is_harmless(unique: str) -> None:
    namespace = NetworkNamespace.create(unique)
    namespace.delete()
    namespace.delete()
    with pytest.raises(KernelError) as gone:
        NetworkNamespace.open(unique)
    assert gone.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        NetworkNamespace.create(name)


def test_processes_run_inside_and_are_listed(namespace: NetworkNamespace) -> None:
    assert namespace.pids() == []
    process = namespace.popen(["sleep", "60"])
    try:
        assert until(lambda: process.pid in namespace.pids())
        with NetworkNamespace.of_process(process.pid) as same:
            assert same.identity == namespace.identity
    finally:
        process.kill()
        process.wait()
    assert until(lambda: namespace.pids() == [])


def test_commands_run_inside(namespace: NetworkNamespace) -> None:
    program = "import os, sys; print(os.stat('/proc/self/ns/net').st_ino, sys.stdin.read())"
    done = namespace.execute([sys.executable, "-c", program], capture_output=True, input="hello", text=True)
    assert done.stdout.split() == [str(namespace.identity[1]), "hello"]
    with pytest.raises(subprocess.CalledProcessError):
        namespace.execute(["false"])
    assert namespace.execute(["false"], check=False).returncode == 1
    with pytest.raises(subprocess.TimeoutExpired):
        namespace.execute(["sleep", "60"], timeout=0.05)
    assert namespace.pids() == []


def test_the_current_namespace(namespace: NetworkNamespace) -> None:
    with namespace.entered(), NetworkNamespace.current() as current:
        assert current.identity == namespace.identity


def test_many_namespaces_are_cheap() -> None:
    made = [NetworkNamespace.create() for _ in range(20)]
    assert len({each.identity for each in made}) == 20
    for each in made:
        each.close()
