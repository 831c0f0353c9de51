"""Rooms for the tests of the kernel layer, and the proof that each test leaves nothing behind.

Every test here gets its namespaces from a fixture, with names nobody else has; the `leaks` fixture, which runs
around all of them, sees to it that descriptors, names under /run/netns, and what was made in the kernel go.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from iovisor.kernel import Netlink, NetworkNamespace, addresses, interfaces
from tests.leaks import nothing_left

PREFIX = f"kt{os.getpid()}-"
_numbers = itertools.count()


def own_names() -> list[str]:
    """Our named namespaces."""
    return [name for name in NetworkNamespace.names() if name.startswith(PREFIX)]


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a program, map or link, or a namespace."""
    with nothing_left():
        yield
    assert not own_names(), "namespaces left"


@pytest.fixture
def unique() -> str:
    """A name for a namespace that nobody else has."""
    return f"{PREFIX}{next(_numbers)}"


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    """An empty anonymous namespace."""
    with NetworkNamespace.create() as created:
        yield created


@pytest.fixture
def netlink(namespace: NetworkNamespace) -> Iterator[Netlink]:
    """A socket in `namespace`."""
    with Netlink(namespace) as opened:
        yield opened


@pytest.fixture
def tenant() -> Iterator[NetworkNamespace]:
    """Another empty namespace, for the far end of a wire."""
    with NetworkNamespace.create() as created:
        yield created


LOCAL, REMOTE = 1000, 1001


@pytest.fixture
def wire(namespace: NetworkNamespace, netlink: Netlink, tenant: NetworkNamespace) -> Iterator[Netlink]:
    """A veth pair p0 (index 1000, 10.9.0.1) in `namespace` to eth0 (1001, 10.9.0.2) in `tenant`, up. Yields
    the tenant's socket."""
    netlink.submit(
        interfaces.veth("p0", "eth0", index=LOCAL, peer_index=REMOTE, peer_namespace=tenant, up=True),
        addresses.add(LOCAL, "10.9.0.1/24"),
        addresses.add(LOCAL, "fd09::1/64"),
    )
    with Netlink(tenant) as far:
        far.submit(
            interfaces.change(REMOTE, up=True),
            interfaces.change("lo", up=True),
            addresses.add(REMOTE, "10.9.0.2/24"),
            addresses.add(REMOTE, "fd09::2/64"),
        )
        yield far
