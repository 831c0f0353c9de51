"""Documents become networks that carry packets; what is applied, undone, copied and killed is what it was."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from iovisor.control.platform import Platform
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]

PAIR = """
version: 1
tenant: {tenant}
network: prod
functions:
  lan: {{kind: switch, ageing: {ageing}}}
endpoints:
  one: {{device: p{first}}}
  two: {{device: p{second}}}
links:
  - [one, lan]
  - [two, lan]
"""


def pair(tenant: str = "acme", first: int = 0, second: int = 1, ageing: str = "5m") -> str:
    return PAIR.format(tenant=tenant, first=first, second=second, ageing=ageing)


def stations(platform: Platform, tenant: str = "acme", network: str = "prod") -> int:
    return platform.call(tenant, network, lambda n: len(n.instances["lan"].function.stations))  # type: ignore[attr-defined]


def test_applied_and_applied_again(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    assert apply(here, pair()) == [1]
    exchange(*at.hosts)
    assert apply(here, pair()) == [1]
    assert apply(here, pair(ageing="60s")) == [2]
    assert apply(here, pair(ageing="1m")) == [2]
    exchange(*at.hosts)
    assert stations(here) == 2
    here.rollback(ADMIN, "acme", "prod")
    assert here.head("acme", "prod").current == 3
    exchange(*at.hosts)
    here.destroy(ADMIN, "acme", "prod")
    assert not at.hosts[0].ping(at.hosts[1], 1)
    assert here.records.heads() == []


def test_left_and_found_again(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, pair())
    exchange(*at.hosts)
    here.stop()
    exchange(*at.hosts)
    again = platform(at)
    assert again.hosted["acme/prod"].adopted
    exchange(*at.hosts)
    assert stations(again) == 2
