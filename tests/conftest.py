"""What every test may count on: the sizes it runs at, whether goldens are rewritten, and hypothesis's profiles.

    pytest             what CI runs: the same examples every time, no deadlines
    pytest --nightly   bigger sizes, and hypothesis searches anew each time
    pytest --update    golden files are rewritten from what the code says now; read the diff before you commit it

Tests that need the kernel say so with `@pytest.mark.root` or `@pytest.mark.lab`, and are skipped for anybody but root.
Every network such a test takes down must have accounted for every packet it met.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from iovisor.fabric import Balance, Network

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=5_000, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("iovisor")
    group.addoption("--nightly", action="store_true", help="run at the big sizes")
    group.addoption("--update", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("nightly" if config.getoption("nightly") else "ci")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: it loads programs or makes namespaces")
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("lab"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def nightly(pytestconfig: pytest.Config) -> bool:
    """Whether this run may take its time."""
    return bool(pytestconfig.getoption("nightly"))


@pytest.fixture(scope="session")
def update(pytestconfig: pytest.Config) -> bool:
    """Whether golden files are to be rewritten rather than compared."""
    return bool(pytestconfig.getoption("update"))


@pytest.fixture(autouse=True)
def conservation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What came into a network, or was made in it, has left it or ended with a name: packet for packet."""
    if not any(request.node.get_closest_marker(name) for name in ("root", "lab")):
        yield
        return
    from iovisor.fabric import Network
    close, wrong = Network.close, list[str]()

    def checked(network: Network) -> None:
        if network.instances and sys.exc_info()[0] is None:
            balance = settled(network)
            if not balance.holds or not (balance.moved or balance.exact):
                wrong.append(f"{network.name}:\n{balance}")
        close(network)
    monkeypatch.setattr(Network, "close", checked)
    yield
    assert not wrong, "\n".join(wrong)


def settled(network: "Network", seconds: float = 10) -> "Balance":
    """The balance once nothing moves, or after a while."""
    deadline = time.monotonic() + seconds
    while not (balance := network.balance()).exact and time.monotonic() < deadline:
        time.sleep(0.01)
    return balance
