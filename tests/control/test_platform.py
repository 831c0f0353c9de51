"""Documents become networks that carry packets; what is applied, undone, copied and killed is what it was."""
from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from iovisor.control import views
from iovisor.control.hosted import clear
from iovisor.control.platform import Platform
from iovisor.control.problems import Conflicting, Refused
from iovisor.control.shape import Shape
from iovisor.functions.switch import Switch
from iovisor.kernel import KernelError, NetworkNamespace
from iovisor.kernel.namespaces import delete
from tests.control.conftest import ADMIN, Platforms, apply
from tests.fabric.flows import Flows
from tests.fabric.hosts import Place
from tests.fabric.test_network import exchange
from tests.waiting import until

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


def lan(platform: Platform, tenant: str = "acme", network: str = "prod") -> Switch:
    """The function `lan` of a network."""
    found = platform.call(tenant, network, lambda running: running.instances["lan"].function)
    assert isinstance(found, Switch)
    return found


def stations(platform: Platform, tenant: str = "acme", network: str = "prod") -> int:
    return len(lan(platform, tenant, network).stations)


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


def test_two_tenants_with_the_same_document(place: Places, platform: Platforms) -> None:
    """Traffic in both, and not a frame of one in the other; one ends while the other runs."""
    at = place(4)
    here = platform(at)
    assert apply(here, pair("acme", 0, 1) + "---" + pair("globex", 2, 3)) == [1, 1]
    for host in at.hosts:
        host.captured()
    for sender, receiver in ((0, 1), (1, 0), (2, 3), (3, 2)):
        frame = at.hosts[sender].send(at.hosts[receiver], b"mine", 20)
        assert at.hosts[receiver].captured(20) == [frame] * 20
        everybody = at.hosts[sender].send(None, b"all", 5)
        assert at.hosts[receiver].captured(5) == [everybody] * 5
    assert [host.captured() for host in at.hosts] == [[], [], [], []]
    counted = {tenant: here.call(tenant, "prod", lambda n: [n.traffic(f"lan:{port}")[0].packets for port in (0, 1)])
               for tenant in ("acme", "globex")}
    assert counted == {"acme": [25, 25], "globex": [25, 25]}
    here.destroy(ADMIN, "acme", "prod")
    exchange(at.hosts[2], at.hosts[3])
    at.hosts[0].send(at.hosts[1], b"gone", 5)
    assert [host.captured() for host in at.hosts] == [[], [], [], []]


def test_an_apply_that_fails_changes_nothing(place: Places, platform: Platforms) -> None:
    at = place(3)
    here = platform(at)
    apply(here, pair())
    exchange(*at.hosts[:2])
    before = here.call("acme", "prod", Shape.of)
    sources = {"hub.py": HUB.format(verdict="drop(nowhere)").replace("FLOOD,", "FLOOD, drop,")}
    for broken, what in (
            (pair(ageing="1m").replace("[two, lan]", "[two, lan]\n  - [six, lan]").replace(
                "  two:", "  six: {device: p9}\n  two:"), "there is no device p9"),
            (pair(ageing="1m").replace("endpoints:", "  aaa: switch\n  zzz: {kind: 'hub.py:Hub'}\nendpoints:"),
             r"(?s)hub\.py.*line 9.*drop\(nowhere\)")):
        with pytest.raises(Refused, match=what):
            apply(here, broken, sources)
        assert here.call("acme", "prod", Shape.of) == before
        assert here.head("acme", "prod").current == 1
        exchange(*at.hosts[:2])
    with pytest.raises(Refused, match="no device p9"):
        apply(here, pair("globex", 2, 9))
    assert sorted(here.hosted) == ["acme/prod"] and here.records.head("globex", "prod") is None
    assert not (here.state / "networks/globex/prod").exists()


def test_an_unconfirmed_change_undoes_itself(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, pair())
    with pytest.raises(Conflicting, match="waits for no confirmation"):
        here.confirm(ADMIN, "acme", "prod")
    apply(here, pair(ageing="1h"), confirm=60)
    here.confirm(ADMIN, "acme", "prod")
    assert here.head("acme", "prod").unconfirmed is None
    apply(here, pair(ageing="2h"), confirm=60)
    with pytest.raises(Conflicting, match="waits for a confirmation of revision 3"):
        apply(here, pair(ageing="3h"))
    here.rollback(ADMIN, "acme", "prod")
    assert ageing(here) == 3600 and here.head("acme", "prod").unconfirmed is None
    apply(here, pair(ageing="4h"), confirm=0.2)
    assert ageing(here) == 4 * 3600
    here.stop()                                                 # it is over while nobody is there
    again = platform(at)
    assert until(lambda: again.head("acme", "prod").current == 6, 20)
    assert ageing(again) == 3600
    assert [one.message for one in again.records.revisions("acme", "prod")][-1] == \
        "revision 5 was not confirmed in time"
    assert again.head("acme", "prod").unconfirmed is None
    exchange(*at.hosts)


def test_a_first_apply_that_is_not_confirmed_leaves_nothing(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, pair(), confirm=0.1)
    assert until(lambda: not here.records.heads() and not list((here.state / "networks").glob("*/*")), 20)


def test_drift_is_mended(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, pair())
    here.call("acme", "prod", lambda network: network.detach("lan:0"))
    assert until(lambda: at.hosts[0].ping(at.hosts[1], 1), 30)
    event, = (event for event in here.events.past() if event.what == "mended")
    assert "attach" in event.details["steps"][0]


def test_clones_are_independent(place: Places, platform: Platforms) -> None:
    at = place(4)
    here = platform(at)
    apply(here, pair())
    exchange(*at.hosts[:2])
    here.clone(ADMIN, "acme", "prod", ("globex", "copy"), {"one": {"device": "p2"}, "two": {"device": "p3"}}, True)
    assert stations(here, "globex", "copy") == 2
    here.clone(ADMIN, "acme", "prod", ("acme", "open"), {}, False)
    assert stations(here, "acme", "open") == 0
    exchange(at.hosts[2], at.hosts[3])
    assert (stations(here), stations(here, "globex", "copy")) == (2, 4)
    assert at.hosts[0].captured() == at.hosts[1].captured() == []
    with pytest.raises(Conflicting, match="there is a network acme/open already"):
        here.clone(ADMIN, "acme", "prod", ("acme", "open"), {}, False)
    with pytest.raises(Refused, match="device p0 is acme/prod's"):
        here.clone(ADMIN, "acme", "prod", ("acme", "more"), {"one": {"device": "p0"}}, False)
    here.destroy(ADMIN, "globex", "copy")
    exchange(*at.hosts[:2])


def test_snapshots_give_back_what_was_learned(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    apply(here, pair())
    exchange(*at.hosts)
    here.snapshot(ADMIN, "acme", "prod", "before", True)
    lan(here).flush()
    apply(here, pair(ageing="2h"))
    assert stations(here) == 0
    change = here.restore(ADMIN, "acme", "prod", "before")
    assert (stations(here), ageing(here), change.after) == (2, 300, 3)
    exported = here.export("acme", "prod", True)
    here.destroy(ADMIN, "acme", "prod")
    assert not (here.state / "snapshots/acme/prod").exists()
    here.import_(ADMIN, json.loads(json.dumps(exported)))
    assert stations(here) == 2
    exchange(*at.hosts)


HUB = """from iovisor.language import FLOOD, Config, Function, Packet, Ports, Verdict, ports, u8
class HubConfig(Config):
    \"\"\"Nothing of importance.\"\"\"
    padding: u8 = 0
class Hub(Function):
    config: HubConfig
    ports: Ports = ports(4)
    def ingress(self, pkt: Packet) -> Verdict:
        return {verdict}
"""


def test_functions_of_ones_own_are_kept_with_their_revision(place: Places, platform: Platforms) -> None:
    at = place(2)
    here = platform(at)
    text = pair().replace("{kind: switch, ageing: 5m}", "{kind: './hub.py:Hub', padding: 3}")
    apply(here, text, {"./hub.py": HUB.format(verdict="FLOOD")})
    exchange(*at.hosts)
    assert apply(here, text, {"./hub.py": HUB.format(verdict="drop(2)").replace("FLOOD,", "FLOOD, drop,")}) == [2]
    at.hosts[0].send(at.hosts[1], b"lost")
    assert at.hosts[1].captured() == []
    here.stop()
    again = platform(at)
    at.hosts[0].send(at.hosts[1], b"lost")
    assert at.hosts[1].captured() == []
    again.rollback(ADMIN, "acme", "prod")
    exchange(*at.hosts)
    for source, what in (("def", "does not stand"), ("1 / 0", "ZeroDivisionError"), ("x = 1", "has no function Hub")):
        with pytest.raises(Refused, match=what):
            apply(again, text, {"./hub.py": source})
    again.destroy(ADMIN, "acme", "prod")


def test_ports_stay_where_they_are(place: Places, platform: Platforms) -> None:
    """A line that comes in at the top moves nobody else's port."""
    at = place(3)
    here = platform(at)
    apply(here, pair())
    apply(here, pair().replace("  one:", "  aaa: {device: p2}\n  one:").replace("  - [one", "  - [aaa, lan]\n  - [one"))
    look = views.Look(here, "acme", "prod")
    assert {name: str(place) for name, place in look.lowered.places.items()} == {
        "aaa": "lan:2", "one": "lan:0", "two": "lan:1"}
    exchange(at.hosts[0], at.hosts[2])


def ageing(platform: Platform) -> int:
    """Seconds."""
    return lan(platform).config.ageing // 10**9


ROOMS = """
version: 1
tenant: {tenant}
network: prod
functions: {{lan: switch}}
endpoints:
  web: {{netns: {web}, address: 10.1.0.1/24, gateway: 10.1.0.9}}
  db: {{netns: {db}, address: 10.1.0.2/24}}
links: [[web, lan], [db, lan]]
"""


def test_endpoints_in_namespaces_come_when_they_can(place: Places, platform: Platforms) -> None:
    """Two tenants with the same document; a namespace that is not there is an error at apply, and waited for later."""
    at = place(0)
    here = platform(at)
    names = [f"iovisor-test-{os.getpid()}-{number}" for number in range(4)]
    with ExitStack() as undo:
        rooms = [NetworkNamespace.create(name) for name in names[:3]]
        for name in names:
            undo.callback(forget, name)
        for room in rooms:
            undo.enter_context(room)
        apply(here, ROOMS.format(tenant="acme", web=names[0], db=names[1]))
        assert pings(rooms[0], "10.1.0.2")
        with pytest.raises(Refused, match="no such file"):
            apply(here, ROOMS.format(tenant="globex", web=names[2], db=names[3]))
        assert "globex/prod" not in here.hosted
        undo.enter_context(NetworkNamespace.create(names[3]))
        apply(here, ROOMS.format(tenant="globex", web=names[2], db=names[3]))
        assert pings(rooms[2], "10.1.0.2") and pings(rooms[0], "10.1.0.2")
        before = here.call("acme", "prod", lambda n: n.traffic("lan:1")[0].packets)
        for _ in range(20):
            assert pings(rooms[2], "10.1.0.2")
        after = here.call("acme", "prod", lambda n: n.traffic("lan:1")[0].packets)
        assert after - before < 5                           # its own hosts look after their neighbours now and then
        here.stop()
        for folder in (here.state / "networks").glob("*/*"):
            clear(folder, at.switching)                     # as after a reboot: nothing is pinned, no device is there
        forget(names[1])
        again = platform(at)
        assert again.hosted["acme/prod"].adopted is False
        assert pings(rooms[2], "10.1.0.2") and not pings(rooms[0], "10.1.0.2")
        undo.enter_context(NetworkNamespace.create(names[1]))
        assert until(lambda: pings(rooms[0], "10.1.0.2"), 30)
        for tenant in ("acme", "globex"):
            again.destroy(ADMIN, tenant, "prod")


def pings(room: NetworkNamespace, address: str) -> bool:
    return room.execute(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False).returncode == 0


def forget(name: str) -> None:
    with suppress(KernelError):
        delete(name)


CHAIN = """
version: 1
tenant: acme
network: prod
functions: {{lan: switch, far: switch{more}}}
endpoints: {{one: {{device: p0}}, two: {{device: p1}}}}
links: [[one, lan], [two, far], ["lan:9", {path}"far:9"]]
"""
WALL = ", wall: {{kind: acl, default: accept, other: accept, rules: [{{action: drop, protocol: {protocol}}}]}}"


def test_no_packet_is_lost_by_a_change(place: Places, platform: Platforms) -> None:
    """A function comes into a path, changes, gets a second one beside it, and both go, under traffic."""
    at = place(2)
    here = platform(at)
    apply(here, CHAIN.format(more="", path=""))
    icmp, sctp = WALL.format(protocol="icmp"), WALL.format(protocol="sctp")
    two = sctp + ", own: {kind: './through.py:Through'}"
    steps = [(icmp, "wall, "), (sctp, "wall, "), (two, "wall, own, "), ("", "")]
    for more, path in steps:                                # compiled once, before anything is counted
        apply(here, CHAIN.format(more=more, path=path), {"./through.py": THROUGH})
    for host in at.hosts:
        host.socket.close()
    flows = Flows(at.hosts[0], at.hosts[1])
    with flows:
        for more, path in steps * 2:
            apply(here, CHAIN.format(more=more, path=path), {"./through.py": THROUGH})
            time.sleep(0.05)
    assert (flows.result.lost, flows.result.doubled) == (0, 0), flows.result
    assert flows.result.pushed == flows.result.drained > 1 << 20
    assert sorted(here.call("acme", "prod", lambda n: list(n.instances))) == ["far", "lan"]


THROUGH = """from iovisor.language import Function, Packet, Port, Verdict, forward
class Through(Function):
    inside: Port
    outside: Port
    def ingress(self, pkt: Packet) -> Verdict:
        return forward(self.outside if pkt.port == self.inside else self.inside)
"""


TURNED = """
version: 1
tenant: acme
network: prod
functions: {{lan: {{kind: switch}}, far: {{kind: switch}}, middle: {{kind: {middle}}}}}
endpoints: {{one: {{device: p0}}, two: {{device: p1}}}}
links: [[one, "lan:1"], ["lan:9", {path}, "far:9"], [two, "{place}"]]
"""


def test_no_packet_is_lost_when_a_kind_changes(place: Places, platform: Platforms) -> None:
    """A function of the same name becomes another kind, whose tables the former's could not be; under traffic."""
    at = place(2)
    here = platform(at)
    kinds = [("switch", '"middle:1:2"'), ("'./through.py:Through'", "middle"),
             ("acl, default: accept, other: accept", "middle")]
    for kind, path in kinds:                                # compiled once, before anything is counted
        apply(here, TURNED.format(middle=kind, path=path, place="far:1"), {"./through.py": THROUGH})
    for host in at.hosts:
        host.socket.close()
    flows = Flows(at.hosts[0], at.hosts[1])
    with flows:
        for kind, path in kinds * 3:
            apply(here, TURNED.format(middle=kind, path=path, place="far:1"), {"./through.py": THROUGH})
            time.sleep(0.05)
    assert (flows.result.lost, flows.result.doubled) == (0, 0), flows.result
    assert flows.result.pushed == flows.result.drained > 1 << 20
    here.destroy(ADMIN, "acme", "prod")


def test_no_packet_is_lost_when_an_endpoint_moves(place: Places, platform: Platforms) -> None:
    """To another port, and to another switch and back, under traffic.  What floods as a station moves may reach it in
    both places: one datagram of many thousands, now and then."""
    at = place(2)
    here = platform(at)
    places = ["far:1", "far:2", "lan:2", "lan:1", "far:1", "lan:3"]
    text = TURNED.replace("{middle}", "\'./through.py:Through\'").replace("{path}", "middle").replace(
        'one, "lan:1"', 'one, "lan:5"')
    apply(here, text.format(place="far:1"), {"./through.py": THROUGH})
    for host in at.hosts:
        host.socket.close()
    flows = Flows(at.hosts[0], at.hosts[1])
    with flows:
        for where in places * 3:
            apply(here, text.format(place=where), {"./through.py": THROUGH})
            time.sleep(0.05)
    print(flows.result, here.call("acme", "prod", lambda n: n.drops))
    assert flows.result.lost == 0 and flows.result.doubled <= len(places), flows.result
    assert flows.result.pushed == flows.result.drained > 1 << 20
    here.destroy(ADMIN, "acme", "prod")
