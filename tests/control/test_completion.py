"""What follows from a document: shown by a plan, done by an apply, and undone with it."""
from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from iovisor import model
from iovisor.control import completion
from iovisor.control.catalogue import Catalogue
from iovisor.control.platform import Platform
from iovisor.functions.dns import DnsConfig
from iovisor.functions.router.settings import RouterConfig
from iovisor.model import Network, listing
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.hosts import Host, Place

Places = Callable[[int], Place]

SHOP = """
version: 1
tenant: acme
network: shop
functions:
  lan: switch
  names: {{kind: dns, server: 10.0.0.53, mac: 02:00:00:00:00:53, domain: shop.internal, names: {{db: [10.0.0.99]}}}}
endpoints:
  web: {{device: p0, addresses: [10.0.0.1/24, "fd00::1/64"]}}
  db: {{device: p1, address: 10.0.0.2/24}}
{more}
links:
  - [web, lan]
  - [db, lan]
  - [names:lan, lan]
"""


def read(text: str) -> Network:
    (document,) = model.load(text, "test.yaml", Catalogue())
    assert isinstance(document.content, Network)
    return document.content


def names(network: Network) -> dict[str, Any]:
    config = completion.configurations(network, Catalogue())["names"]
    assert isinstance(config, DnsConfig)
    return config.names


def test_a_name_server_knows_the_endpoints() -> None:
    shop = read(SHOP.format(more=""))
    assert names(shop) == {"db": ["10.0.0.99"], "web": ["10.0.0.1", "fd00::1"]}
    written = completion.document(shop, Catalogue())
    assert written.functions["names"].config["names"] == names(shop)
    assert {**written.functions, "names": None} == {**shop.functions, "names": None} and written.links == shop.links
    assert model.normal(read(model.dump(written))) == model.normal(written), "and could have been written so"
    silent = read(SHOP.replace("domain:", "endpoints: false, domain:").format(more=""))
    assert names(silent) == {"db": ["10.0.0.99"]} and completion.document(silent, Catalogue()) == silent


def test_what_follows_can_be_wrong() -> None:
    """A name that is right by itself, and too long in the domain: said in the document's own words and lines."""
    domain = ".".join(["x" * 60] * 4)
    text = SHOP.replace("shop.internal", domain).replace("{{db: [10.0.0.99]}}", "{{}}").format(
        more=f"  {'y' * 60}: {{device: p2, address: 10.0.0.3/24}}")
    with pytest.raises(model.Refused) as refused:
        read(text)
    (problem,) = refused.value.problems
    assert (problem.line, problem.path[:3]) == (7, ("functions", "names", "config")) and "is not a name" in problem.what


OFFICE = """
version: 1
tenant: acme
network: office
functions:
  lan: switch
  leases:
    kind: dhcp6
    server: 2001:db8:2::2
    mac: 02:00:00:00:00:d6
    subnets:
      - {prefix: 2001:db8:1::/64, SUBNET}
      - {prefix: 2001:db8:2::/64}
  router:
    kind: router
    interfaces:
      0: {mac: 02:00:00:00:00:e0, addresses: ["2001:db8:1::1/64"], advertise: {ADVERTISE}}
      1: {mac: 02:00:00:00:00:e1, addresses: ["2001:db8:2::1/64", "2001:db8:7::1/64"], advertise: {}}
links:
  - [lan, router:0]
  - [leases:lan, lan]
"""
POOL, NEWS = 'pools: ["2001:db8:1::1000-2001:db8:1::1fff"]', 'dns: ["2001:db8::53"]'


@pytest.mark.parametrize(("subnet", "said", "flags"), [
    (POOL, "", (True, True)), (NEWS, "", (False, True)), (f"{POOL}, {NEWS}", "", (True, True)),
    (POOL, "managed: true", (True, True)), (POOL, "other: false", (True, True)), (NEWS, "other: true", (False, True)),
    ('delegated: [{prefix: "2001:db8:9::/48", length: 56}]', "", (None, None)),
    ('delegated: [{prefix: "2001:db8:9::/48", length: 56}]', "managed: true", (True, None))])
def test_a_router_tells_hosts_what_to_ask_for(subnet: str, said: str, flags: tuple[bool | None, bool | None]) -> None:
    office = read(OFFICE.replace("SUBNET", subnet).replace("ADVERTISE", said))
    config = completion.configurations(office, Catalogue())["router"]
    assert isinstance(config, RouterConfig)
    near, far = (config.interfaces[port].advertise for port in (0, 1))
    assert near is not None and far is not None
    assert (near.managed, near.other) == flags and (far.managed, far.other) == (None, None)
    written = completion.document(office, Catalogue())
    assert completion.configurations(read(model.dump(written)), Catalogue())["router"] == config


def test_a_router_that_contradicts_is_refused_with_both_places() -> None:
    with pytest.raises(model.Refused) as refused:
        read(OFFICE.replace("SUBNET", POOL).replace("ADVERTISE", "managed: false"))
    (problem,) = refused.value.problems
    assert (problem.line, problem.path[-2:]) == (17, ("advertise", "managed"))
    assert problem.what == ("hosts would not ask for addresses, and leases gives them some in 2001:db8:1::/64, "
                            "in line 12")


# -- for real ----------------------------------------------------------------------------------------------------------

def dig(host: Host, *words: str) -> str:
    program = shutil.which("dig")
    assert program is not None, "dig is missing: ./bootstrap installs it"
    done = host.namespace.execute([program, "@10.0.0.53", "+tries=5", "+timeout=5", *words], capture_output=True,
                                  text=True, timeout=60)
    output: str = done.stdout
    return output


def plan(platform: Platform, text: str) -> Sequence[str]:
    ((document, kinds),) = platform.read(ADMIN, text, "test.yaml", {})
    return listing.lines(platform.plan(platform.intent(document, kinds)).edits)


@pytest.mark.root
def test_names_follow_every_revision_and_copy(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    shop, grown = (SHOP.format(more=more) for more in ("", "  cache: {tap: tap-cache, address: 10.0.0.7/24}"))
    assert "    +   web: [10.0.0.1, fd00::1]" in plan(here, shop)
    apply(here, shop)
    assert dig(at.hosts[0], "+short", "web.shop.internal") == "10.0.0.1\n"
    assert dig(at.hosts[0], "+short", "web.shop.internal", "AAAA") == "fd00::1\n"
    assert dig(at.hosts[0], "+short", "db.shop.internal") == "10.0.0.99\n"
    assert dig(at.hosts[0], "+short", "-x", "10.0.0.1") == "web.shop.internal.\n"
    assert "NXDOMAIN" in dig(at.hosts[0], "cache.shop.internal")
    assert plan(here, shop) == []
    assert [line for line in plan(here, grown) if "function" in line or "names" in line] == [
        "~ function names: dns", "    + names.cache: [10.0.0.7]"]
    assert apply(here, grown) == [2]
    assert dig(at.hosts[0], "+short", "cache.shop.internal") == "10.0.0.7\n"
    here.clone(ADMIN, "acme", "shop", ("globex", "copy"), {"web": {"device": "p2"}, "db": {"device": "p3"}}, False)
    here.rollback(ADMIN, "acme", "shop")
    assert "NXDOMAIN" in dig(at.hosts[0], "cache.shop.internal")
    assert dig(at.hosts[2], "+short", "cache.shop.internal") == "10.0.0.7\n"
    copy = {"acme": "globex", "network: shop": "network: copy", "p0": "p2", "p1": "p3", "10.0.0.1/24": "10.0.0.77/24"}
    for old, new in copy.items():
        shop = shop.replace(old, new)
    apply(here, shop)
    assert dig(at.hosts[2], "+short", "web.shop.internal") == "10.0.0.77\n"
    assert dig(at.hosts[0], "+short", "web.shop.internal") == "10.0.0.1\n"
    here.stop()
    assert dig(at.hosts[2], "+short", "web.shop.internal") == "10.0.0.77\n", "its own names the kernel says by itself"
    here = platform(at)
    assert dig(at.hosts[2], "+short", "web.shop.internal") == "10.0.0.77\n"
    assert dig(at.hosts[2], "+short", "+tcp", "web.shop.internal") == "10.0.0.77\n"
    assert here.rollback(ADMIN, "globex", "copy").changes
    assert dig(at.hosts[2], "+short", "web.shop.internal") == "10.0.0.1\n"
