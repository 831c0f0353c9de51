"""A document says that packets of an endpoint are met at XDP: planned, applied, changed, rolled back, found again."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from iovisor.control.problems import Refused
from iovisor.control.views import Look
from iovisor.model.listing import lines
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.flows import Flows
from tests.fabric.hosts import Place
from tests.fabric.test_early_changes import at_xdp
from tests.fabric.test_network import exchange

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
DOCUMENT = """
version: 1
tenant: acme
network: prod
functions:
  door: {kind: %s}
  lan: switch
endpoints:
  up: {device: p0, hook: %s}
  web: {device: p1}
links:
  - [up, door:outside:inside, lan]
  - [web, lan]
"""


def document(hook: str, kind: str = "ddos") -> str:
    return DOCUMENT % (kind, hook)


def test_a_hook_is_planned_applied_and_undone(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    assert apply(here, document("tc")) == [1] and at_xdp(at) == []
    exchange(*at.hosts)
    read, = here.read(ADMIN, document("xdp"), "test.yaml", {})
    change = here.plan(here.intent(*read))
    assert [str(step) for step in change.steps] == ["detach door:1 device p0", "attach door:1 device p0 at xdp"]
    assert [line for one in change.edits for line in lines([one])] == ["~ endpoint up", "    + hook: xdp"]
    assert at_xdp(at) == []
    assert apply(here, document("xdp")) == [2] and at_xdp(at) == ["p0"]
    assert apply(here, document("xdp")) == [2]
    up, web = Look(here, "acme", "prod").endpoints()
    assert (up["attached"], web["attached"]) == ("device p0 at xdp-generic", "device p1")
    exchange(*at.hosts)
    assert apply(here, document("xdp-native")) == [3] and at_xdp(at) == ["p0"]
    here.stop()
    exchange(*at.hosts)
    again = platform(at)
    exchange(*at.hosts)
    assert Look(again, "acme", "prod").endpoints()[0]["attached"] == "device p0 at xdp-native"
    again.rollback(ADMIN, "acme", "prod")
    again.rollback(ADMIN, "acme", "prod", 1)
    assert at_xdp(at) == []
    exchange(*at.hosts)


def test_no_packet_is_lost_when_a_hook_changes(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    for hook in ("xdp", "tc"):                              # compiled once, before anything is counted
        apply(here, document(hook))
    for host in at.hosts:
        host.socket.close()
    flows = Flows(at.hosts[0], at.hosts[1])
    with flows:
        for hook in ("xdp", "tc") * 3:
            apply(here, document(hook))
    assert (flows.result.lost, flows.result.doubled) == (0, 0), flows.result
    assert flows.result.pushed == flows.result.drained > 1 << 20


OWN = """from iovisor.language import Function, Packet, Port, Verdict, forward
class Own(Function):
    inside: Port
    outside: Port
    def ingress(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)
"""


def test_a_function_of_ones_own_is_met_at_tc(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    with pytest.raises(Refused, match="door cannot meet packets at XDP: a function of your own meets them at tc"):
        apply(here, document("xdp", "'own.py:Own'"), {"own.py": OWN})
    assert apply(here, document("tc", "'own.py:Own'"), {"own.py": OWN}) == [1]
    exchange(*at.hosts)


def test_what_cannot_be_is_refused_and_changes_nothing(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, document("tc"))
    for kind, what in (("mirror", r"test.yaml:9:26: endpoints.up.hook: door cannot meet packets at XDP: `copied` is "
                                  r"not available on the target xdp \(mirror.py, line \d+\)"),
                       ("acl, padding: 1", "there is no such field")):
        with pytest.raises(Refused, match=what):
            apply(here, document("xdp", kind))
        exchange(*at.hosts)
    # That p0 is a cable is seen when it is attached.
    with pytest.raises(Refused, match="cannot meet packets at XDP: it adjusts checksums that the other end"):
        apply(here, document("xdp-native", "nat, addresses: [192.0.2.1]"))
    assert at_xdp(at) == [] and here.head("acme", "prod").current == 1
    exchange(*at.hosts)
    apply(here, document("xdp"))
    assert at_xdp(at) == ["p0"]
