"""Gateways between networks: both sides say so, either side ends it, and nothing else is between them."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI

from iovisor.control import access, views
from iovisor.control.access import Principal
from iovisor.control.api import application
from iovisor.control.peers import PREFIX
from iovisor.control.platform import Platform
from iovisor.control.problems import Missing, Refused
from iovisor.kernel import Netlink, interfaces
from tests.control.asking import ask
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.hosts import Host, Place
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
NETWORK = """
version: 1
tenant: {tenant}
network: prod
{more}
functions: {{lan: switch}}
endpoints:
  one: {{device: p{first}}}
  two: {{device: p{second}}}
  way: {{{peer}}}
links: [[one, lan], [two, lan], [way, lan]]
"""
HOSTS = {"acme": (0, 1), "globex": (2, 3), "evil": (4, 5)}


def network(tenant: str, peer: str = "", more: str = "") -> str:
    first, second = HOSTS[tenant]
    return NETWORK.format(tenant=tenant, first=first, second=second, peer=f"peer: {peer}" if peer else "", more=more)


def owner(tenant: str) -> Principal:
    return Principal(tenant, "owner", tenant)


def bring(here: Platform, tenant: str, peer: str = "", more: str = "") -> None:
    apply(here, network(tenant, peer, more), who=owner(tenant))


def state(here: Platform, tenant: str) -> str:
    found, = views.Look(here, tenant, "prod").peers()
    return str(found["state"])


def apart(a: Host, b: Host) -> None:
    """Nothing of one comes to the other, whatever its address."""
    for sender, receiver in ((a, b), (b, a)):
        receiver.captured()
        for to in (receiver, None):
            sender.send(to, b"stray", 3)
        assert receiver.captured() == []


def talk(at: Place, a: int, b: int) -> None:
    """Each hears the other, once."""
    for host in at.hosts:
        host.captured(0, 0.05)
    exchange(at.hosts[a], at.hosts[b])


def cables(at: Place) -> list[str]:
    with Netlink(at.switching) as netlink:
        return sorted(one.name for one in interfaces.listing(netlink) if one.name.startswith(PREFIX))


def test_a_gateway_is_open_while_both_sides_name_each_other(place: Places, platform: Platforms) -> None:
    at = place(6)
    here = platform(at)
    bring(here, "acme", "globex/prod/way")
    assert state(here, "acme") == "waiting" and cables(at) == []        # nobody is there
    bring(here, "globex")
    assert state(here, "acme") == "waiting" and cables(at) == []        # somebody is, and says nothing
    apart(at.hosts[0], at.hosts[2])
    bring(here, "globex", "acme/prod/other")                            # of somebody else
    assert state(here, "globex") == "waiting"
    bring(here, "globex", "acme/prod/way")
    assert state(here, "acme") == state(here, "globex") == "open" and len(cables(at)) == 2
    for a, b in ((0, 2), (1, 3), (0, 1)):
        talk(at, a, b)
    for host in at.hosts:
        host.captured()
    assert at.hosts[0].ping(at.hosts[3])
    bring(here, "evil", "acme/prod/way")                                # a third one claims it
    assert state(here, "evil") == "waiting" and state(here, "acme") == "open" and len(cables(at)) == 2
    for other in (0, 2):
        apart(at.hosts[4], at.hosts[other])
    talk(at, 0, 2)
    for tenant in ("acme", "globex"):
        account = here.call(tenant, "prod", lambda running: running.balance())
        assert account.holds, str(account)


@pytest.mark.parametrize("how", ["acme takes it out", "globex takes it out", "acme revokes", "globex revokes",
                                 "acme is destroyed", "globex is destroyed", "acme rolls back"])
def test_either_side_ends_it(how: str, place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    bring(here, "acme")
    bring(here, "acme", "globex/prod/way")
    bring(here, "globex", "acme/prod/way")
    talk(at, 0, 2)
    tenant, _, act = how.partition(" ")
    match act:
        case "takes it out":
            bring(here, tenant)
        case "revokes":
            here.revoke(owner(tenant), tenant, "prod", "way")
            assert here.document(here.head(tenant, "prod")).endpoints["way"].peer is None
        case "is destroyed":
            here.destroy(owner(tenant), tenant, "prod")
        case "rolls back":
            here.rollback(owner(tenant), tenant, "prod")
    assert cables(at) == []
    apart(at.hosts[0], at.hosts[2])
    other = "globex" if tenant == "acme" else "acme"
    assert state(here, other) == "waiting"
    talk(at, 2 * (other == "globex"), 2 * (other == "globex") + 1)
    if act == "revokes":
        with pytest.raises(Missing, match="has no gateway way"):
            here.revoke(owner(tenant), tenant, "prod", "way")


def test_it_outlives_the_daemon_and_comes_back_with_one_side(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    for tenant, other in (("acme", "globex"), ("globex", "acme")):
        bring(here, tenant, f"{other}/prod/way")
    here.stop()
    talk(at, 0, 2)
    again = platform(at)
    talk(at, 0, 2)
    again.destroy(ADMIN, "globex", "prod")
    bring(again, "globex", "acme/prod/way", "mtu: 1400")
    talk(at, 0, 2)
    with Netlink(at.switching) as netlink:
        assert {one.mtu for one in interfaces.listing(netlink) if one.name.startswith(PREFIX)} == {1400}


def test_a_clone_has_no_gateway(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    for tenant, other in (("acme", "globex"), ("globex", "acme")):
        bring(here, tenant, f"{other}/prod/way")
    here.clone(ADMIN, "acme", "prod", ("acme", "copy"), {}, False)
    assert views.Look(here, "acme", "copy").peers() == [] and len(cables(at)) == 2
    talk(at, 0, 2)


def test_what_a_document_may_say_of_it(place: Places, platform: Platforms) -> None:
    here = platform(place(2))
    for peer, why in (("acme/prod/one", "is of this network itself"), ("globex/prod", "is no endpoint of another"),
                      ("globex/prod/way, mac: '02:00:00:00:00:09'", "has no `mac`"),
                      ("globex/prod/way, tap: x", "is attached to tap and peer")):
        with pytest.raises(Refused, match=why):
            bring(here, "acme", peer)
    twice = network("acme", "globex/prod/way").replace("one: {device: p0}", "one: {peer: globex/prod/way}")
    with pytest.raises(Refused, match="is one's peer already"):
        apply(here, twice)


def test_the_api_shows_and_revokes_it_and_tells_nothing_else(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    app: FastAPI = application(here)
    tokens = {tenant: access.issue(here.records, "x", "owner", tenant)[0] for tenant in ("acme", "globex")}
    bring(here, "acme", "globex/prod/way")
    path = "/v1/tenants/acme/networks/prod/peers"
    waiting = ask(app, "GET", path, token=tokens["acme"])
    bring(here, "globex")
    assert ask(app, "GET", path, token=tokens["acme"]).raw == waiting.raw         # whether or not somebody is there
    bring(here, "globex", "acme/prod/way")
    assert ask(app, "GET", path, token=tokens["acme"]).body == [
        {"endpoint": "way", "peer": "globex/prod/way", "state": "open"}]
    states = {one["name"]: (one["state"], one["attached"]) for one in ask(
        app, "GET", "/v1/tenants/acme/networks/prod/endpoints", token=tokens["acme"]).body}
    assert states["way"] == ("up", "peer globex/prod/way")
    assert ask(app, "DELETE", f"{path}/way", token=tokens["globex"]).status == 404
    assert ask(app, "DELETE", f"{path}/one", token=tokens["acme"]).status == 404
    assert ask(app, "DELETE", f"{path}/way", token=tokens["acme"]).body["changes"]
    apart(at.hosts[0], at.hosts[2])
