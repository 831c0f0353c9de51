"""What is not as it shall be is an event, stands in what is shown of the network, and is over when it is mended."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iovisor.control import hosted, mender, views
from iovisor.control.events import Events
from iovisor.control.platform import Platform
from iovisor.control.troubles import Troubles
from iovisor.fabric import Network
from iovisor.functions.switch import Switch
from iovisor.kernel import Netlink, interfaces
from tests.control.conftest import ADMIN, Platforms, apply
from tests.control.test_platform import pair
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange
from tests.waiting import until

Places = Callable[[int], Place]


def test_a_trouble_is_told_once_and_again_when_its_reason_changes() -> None:
    events = Events()
    troubles = Troubles(events)
    for why in ("gone", "gone", "moved"):
        troubles.begun("acme/prod", "port lan:1", why)
    troubles.settle("acme/prod", "port", {"lan:2": "gone"})
    assert [(found.what, found.why) for found in troubles.of("acme/prod")] == [("port lan:2", "gone")]
    troubles.over("acme/prod", "port lan:2")
    troubles.over("acme/prod", "port lan:2")
    assert [(event.what, *event.details.values()) for event in events.past()] == [
        ("degraded", "port lan:1", "gone"), ("degraded", "port lan:1", "moved"), ("degraded", "port lan:2", "gone"),
        ("recovered", "port lan:1"), ("recovered", "port lan:2")]
    assert troubles.of("acme/prod") == [] and troubles.of("acme/other") == []


def shown(platform: Platform) -> tuple[str, list[str]]:
    found = views.network(platform, platform.head("acme", "prod"))
    return found["state"], [trouble["what"] for trouble in found["troubles"]]


def told(platform: Platform, what: str) -> list[dict[str, Any]]:
    return [event.details for event in platform.events.past() if event.what == what]


@pytest.mark.root
def test_a_device_that_is_gone(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mender, "MEND", 0.1)
    at = place(2)
    here = platform(at)
    apply(here, pair())
    assert shown(here) == ("runs", [])
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.change(at.hosts[1].device, name="away"), interfaces.delete("away"))
    assert until(lambda: shown(here) == ("degraded", ["port lan:1"]))
    assert told(here, "degraded")[0]["trouble"] == "port lan:1"
    with Netlink(at.switching) as netlink:
        netlink.submit(interfaces.veth("p1", "p1x", up=True))
    assert until(lambda: shown(here) == ("runs", []))
    assert {"trouble": "port lan:1"} in told(here, "recovered")
    here.destroy(ADMIN, "acme", "prod")


@pytest.mark.root
def test_what_cannot_be_mended(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drift that the fabric refuses to undo: at each look, and at the next start of the daemon."""
    monkeypatch.setattr(mender, "MEND", 0.1)
    at = place(2)
    here = platform(at)
    apply(here, pair())
    here.hosted["acme/prod"].call(lambda network: network.add("stray", Switch()))

    def refuses(*arguments: Any) -> None:
        raise ValueError("on purpose")
    with monkeypatch.context() as broken:
        broken.setattr("iovisor.control.commit.turn", refuses)
        assert until(lambda: shown(here) == ("degraded", ["mending"]))
        assert told(here, "degraded") == [{"trouble": "mending", "why": "on purpose"}]      # once, however often tried
        exchange(*at.hosts)                                     # packets do not notice
        here.stop()
        again = platform(at)
        assert shown(again) == ("degraded", ["mending"])
    assert until(lambda: shown(again) == ("runs", []))
    assert told(again, "recovered") == [{"trouble": "mending"}]
    assert "stray" not in again.hosted["acme/prod"].call(lambda network: set(network.instances))
    again.destroy(ADMIN, "acme", "prod")


@pytest.mark.root
def test_a_slow_path_that_fails(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "STEADY", 0.2)
    monkeypatch.setattr(mender, "MEND", 0.1)
    at, serve, fails = place(2), Network.serve, [True]

    async def failing(network: Network) -> None:
        if fails.pop() if fails else False:
            raise RuntimeError("on purpose")
        await serve(network)
    monkeypatch.setattr(Network, "serve", failing)
    here = platform(at)
    apply(here, pair())
    assert until(lambda: {"trouble": "slow path", "why": "RuntimeError: on purpose"} in told(here, "degraded"))
    assert until(lambda: shown(here) == ("runs", []))
    assert {"trouble": "slow path"} in told(here, "recovered")
    here.destroy(ADMIN, "acme", "prod")


@pytest.mark.root
def test_what_cannot_be_adopted(place: Places, platform: Platforms) -> None:
    """A document that another version wrote: the network is made again, and whoever listens is told so."""
    at = place(2)
    here = platform(at)
    apply(here, pair())
    here.stop()
    document: Path = here.state / "networks/acme/prod/topology.json"
    document.write_text(document.read_text().replace('"generation"', '"other"'))
    again = platform(at)
    assert not again.hosted["acme/prod"].adopted
    assert "generation" in told(again, "begun anew")[0]["why"]
    exchange(*at.hosts)
    again.destroy(ADMIN, "acme", "prod")


BROKEN = '''from iovisor.language import Config, Function, Packet, Port, Record, Verdict, forward, handles, punt, u8
class Seen(Record):
    kind: u8
class Broken(Function):
    inside: Port
    outside: Port
    def ingress(self, pkt: Packet) -> Verdict:
        return punt(Seen(kind=1))
    @handles(Seen)
    def seen(self, event: Seen, pkt: Packet) -> None:
        raise LookupError("on purpose")
'''


@pytest.mark.root
def test_python_of_a_function_that_fails(place: Places, platform: Platforms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mender, "MEND", 0.1)
    at = place(2)
    here = platform(at)
    text = pair().replace("  lan: {kind: switch, ageing: 5m}", "  lan: {kind: './broken.py:Broken'}").replace(
        "[one, lan]", '[one, "lan:inside"]').replace("[two, lan]", '[two, "lan:outside"]')
    apply(here, text, {"./broken.py": BROKEN})
    at.hosts[0].send(None)
    assert until(lambda: shown(here) == ("degraded", ["handlers of functions"]) or bool(told(here, "degraded")))
    assert "1 calls of functions' Python failed" in told(here, "degraded")[0]["why"]
    assert until(lambda: shown(here) == ("runs", []))
    here.destroy(ADMIN, "acme", "prod")
