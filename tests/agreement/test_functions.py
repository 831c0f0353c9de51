"""The catalogue's functions on every target that is usable here: 50,000 packets, a million with --nightly.

Each runs in the configurations that make it go different ways.  A failure prints a short sequence that shows it.
"""
from __future__ import annotations

from typing import Any

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.acl import Acl
from iovisor.functions.guard import Guard
from iovisor.functions.switch import Switch
from iovisor.language import Function
from iovisor.targets import load
from iovisor.testing import Agreement, agree, traffic

TOGETHER, NIGHTLY = 52_000, 1_040_000
SEQUENCE = 10_000

OFFICE: dict[int, dict[str, Any]] = {
    0: {"access": 10}, 1: {"access": 20, "quota": 2}, 2: {"trunk": [10, 20], "native": 1}, 3: {"trunk": [10]},
    4: {"trunk": [1, 20]}}
STATIC = [{"mac": "02:00:00:00:00:01", "port": 2, "vlan": 10}, {"mac": "02:00:00:00:00:02", "port": 0, "vlan": 10}]
BOTH = ("ingress", "egress")

RULES: list[dict[str, Any]] = [
    {"action": "accept", "source": "10.0.0.0/24", "destination": "192.0.2.0/24"},
    {"action": "drop", "protocol": "udp", "destination_ports": "53-80"},
    {"action": "accept", "direction": "out", "protocol": "tcp", "flags": "syn,!ack"},
    {"action": "drop", "source": "2001:db8::/32", "protocol": "tcp", "source_ports": 443},
    {"action": "accept", "direction": "in", "protocol": "icmp", "icmp_type": 8},
    {"action": "accept", "protocol": "icmp6", "icmp_type": "neighbor_solicitation"},
    {"action": "drop", "source": "10.0.1.3/32"}]

STATIONS: list[dict[str, Any]] = [
    {"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1", "10.0.1.0/24", "2001:db8::1", "2001:db8:1::/64"]},
    {"mac": "02:00:00:00:00:02"}, {"mac": "02:00:00:00:00:03", "addresses": ["192.0.2.0/25", "fd00::/64"]}]

CASES: dict[str, tuple[type[Function], dict[str, Any], tuple[str, ...], int]] = {
    "plain": (Switch, {}, BOTH, 4),
    "brief": (Switch, {"ageing": "20s", "quota": 3}, BOTH, 6),
    "full": (Switch, {"stations": 4, "storm": 5}, BOTH, 4),
    "static": (Switch, {"static": [{"mac": "02:00:00:00:00:01", "port": 3}]}, BOTH, 4),
    "office": (Switch, {"vlans": True, "ports": OFFICE}, BOTH, 6),
    "guarded": (Switch, {"vlans": True, "ports": OFFICE, "static": STATIC, "storm": 100, "ageing": "5s"}, BOTH, 5),
    "overlay": (Switch, {"horizon": True, "storm": 50, "ports": {2: {"overlay": True}, 3: {"overlay": True}}}, BOTH, 5),
    "provider": (Switch, {"vlans": True, "service": True, "ports": {**OFFICE, 2: {"trunk": [10, 20]}}}, BOTH, 6),
    "closed": (Acl, {}, ("ingress",), 2),
    "open": (Acl, {"default": "accept", "other": "accept"}, ("ingress",), 2),
    "rules": (Acl, {"rules": RULES}, ("ingress",), 2),
    "strict": (Acl, {"rules": RULES, "default": "accept", "fragments": "drop", "resolution": "drop"}, ("ingress",), 2),
    "many": (Acl, {"rules": [*RULES * 8], "default": "accept"}, ("ingress",), 2),
    "endpoint": (Guard, {"stations": STATIONS, "private": True}, ("ingress",), 2),
    "gateway": (Guard, {"stations": STATIONS, "router": True, "dhcp": True, "tagged": True, "other": True},
                ("ingress",), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_every_target_agrees(case: str, images: Cache, nightly: bool) -> None:
    kind, settings, entries, ports = CASES[case]
    left = (NIGHTLY if nightly else TOGETHER) // len(CASES) + 1
    with Agreement(lambda: kind(**settings), entries=entries, cache=images) as session:
        for seed in range(left):
            count = min(SEQUENCE, left)
            session.run(traffic(f"{case} {seed}", count, ports=ports, entries=entries))
            left -= count
            if left <= 0:
                break


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("kind", [Switch, Acl])
def test_whatever_the_optimiser_did(kind: type[Function], level: int, images: Cache) -> None:
    entries, cpu = BOTH if kind is Switch else ("ingress",), "v3" if level == 1 else "v4"
    settings = {"vlans": True, "ports": OFFICE} if kind is Switch else {"rules": RULES}
    agree(lambda: kind(**settings), traffic(level, 1_000, ports=2, entries=entries), entries=entries, cache=images,
          level=level, cpu=cpu)


@pytest.mark.root
@pytest.mark.parametrize("target", ["tc", "xdp"])
@pytest.mark.parametrize("cpu", ["v3", "v4"])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize(("kind", "entry"), [(Switch, "ingress"), (Switch, "egress"), (Acl, "ingress"),
                                             (Guard, "ingress")])
def test_the_verifier_accepts(kind: type[Function], entry: str, level: int, cpu: str, target: str,
                              images: Cache) -> None:
    with load(kind(), target, (entry,), cache=images, level=level, cpu=cpu) as loaded:
        assert loaded.target == target
