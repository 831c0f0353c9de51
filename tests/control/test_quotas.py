"""What a tenant may have: said by `plan`, held by `apply` and, of packets to Python, while networks run."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from iovisor.control.platform import Platform
from iovisor.control.problems import Refused
from iovisor.control.quotas import memory
from iovisor.model import Tenant
from tests.control.conftest import ADMIN, Platforms, apply
from tests.control.test_attendant import begun, mine, served, strange
from tests.control.test_platform import pair
from tests.fabric.hosts import Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]


def quota(here: Platform, **what: object) -> None:
    here.put_tenant(ADMIN, Tenant.model_validate({"version": 1, "tenant": "acme", "quota": what}))


def planned(here: Platform, text: str) -> None:
    (document, kinds), = here.read(ADMIN, text, "test.yaml", {})
    here.plan(here.intent(document, kinds))


def test_memory_of_tables(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    apply(here, pair())
    one = memory(here.shape(here.head("acme", "prod")))
    with pytest.raises(Refused, match=r"acme has \d+\.\d MiB of tables already, more than 0\.1 MiB"):
        quota(here, tables="100kB")
    quota(here, tables=f"{int(1.5 * one)}B")
    second = pair(first=2, second=3).replace("prod", "test")
    for do in (planned, apply):
        with pytest.raises(Refused, match=r"acme would have \d+\.\d MiB of tables, and may have"):
            do(here, second)
    assert sorted(here.hosted) == ["acme/prod"]
    apply(here, pair(ageing="1m"))                          # which takes no more
    quota(here, tables=f"{2 * one}B")
    apply(here, second)


def test_what_is_promised_is_what_the_kernel_takes(place: Places, platform: Platforms) -> None:
    """Of tables that are made whole at once; those that grow take less."""
    here = platform(place(2))
    apply(here, pair())
    before = here.call("acme", "prod", lambda running: running.memory)
    promised = memory(here.shape(here.head("acme", "prod")))
    apply(here, pair().replace("lan: {kind: switch, ageing: 5m}",
                               "lan: {kind: switch, ageing: 5m}\n  more: switch").replace(
        "  - [two, lan]", "  - [two, lan]\n  - ['lan:9', 'more:9']"))
    took = here.call("acme", "prod", lambda running: running.memory) - before
    more = memory(here.shape(here.head("acme", "prod"))) - promised
    assert 0.2 * took < more < 5 * took, (took, more)


def test_packets_to_python(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    begun(here, mine("return None"))
    quota(here, punts=20)
    for number in range(100):
        strange(at.hosts[0], at.hosts[1], number)
    assert until(lambda: served(here).events >= 20)
    assert served(here).events < 60                         # 20 at once and 20 a second; all would come in one
    quota(here)
    assert until(lambda: served(here).events == 100)        # the ring had room for those that waited


def test_one_allowance_for_all_networks_of_a_tenant(platform: Platforms, place: Places) -> None:
    at = place(4)
    here = platform(at)
    apply(here, pair() + "---" + pair(first=2, second=3).replace("prod", "test") + "---" + pair("globex").replace(
        "{device: p0}", "{}").replace("{device: p1}", "{}"))
    found = {name: here.call(*name, lambda running: running._slow.allowance)
             for name in (("acme", "prod"), ("acme", "test"), ("globex", "prod"))}
    assert found["acme", "prod"] is found["acme", "test"] is not found["globex", "prod"]
    quota(here, punts=5)
    assert found["acme", "prod"].rate == 5 and found["globex", "prod"].rate is None
