"""Who is compared: a function of ours and what Linux has for the same, between the same two hosts of a lab.

Each contender is a context: it joins the hosts as it is entered, and leaves nothing as it is left.  Hosts are on
networks of their own for those that route (`settle`), and on one for those that switch.  What is configured is the
same: addresses, Ethernet addresses, rules in the same order, the one that lets traffic pass the last.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from iovisor.fabric import Edge, Network
from iovisor.functions.firewall import Firewall
from iovisor.functions.nat import Nat
from iovisor.functions.router import Router
from iovisor.functions.switch import Switch
from iovisor.testing.lab import Host, Lab

MACS = "02:00:00:00:01:00", "02:00:00:00:01:01"
Contender = Callable[[Lab, list[Host]], AbstractContextManager[None]]


@dataclass(frozen=True)
class Rivals:
    """Ours and theirs; `routed` if the hosts are on networks of their own; bars other than 1, by metric."""

    name: str
    ours: Contender
    theirs: Contender
    routed: bool
    bars: dict[str, float] = field(default_factory=dict)


def settle(host: Host, number: int) -> None:
    """Put a host on a network of its own."""
    for words in ("addr flush dev eth0", f"addr add 10.1.{number}.2/24 dev eth0",
                  f"route add default via 10.1.{number}.1"):
        host.run(["ip", *words.split()])


# -- switching --------------------------------------------------------------------------------------------------------


@contextmanager
def switch(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    with lab.join(Switch(), hosts):
        yield


@contextmanager
def bridge(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """The kernel's own switch."""
    lab.namespace.execute(["ip", "link", "add", "bridge", "type", "bridge"], check=True)
    try:
        for kind in ("ip", "ip6", "arp"):       # filters of the host are not part of a switch
            name = f"net.bridge.bridge-nf-call-{kind}tables"
            lab.namespace.execute(["sysctl", "-q", "-e", "-w", f"{name}=0"], check=False, capture_output=True)
        for host in hosts:
            lab.namespace.execute(["ip", "link", "set", f"to-{host.name}", "master", "bridge"], check=True)
        lab.namespace.execute(["ip", "link", "set", "bridge", "up"], check=True)
        yield
    finally:
        lab.namespace.execute(["ip", "link", "del", "bridge"], check=True)


# -- routing ----------------------------------------------------------------------------------------------------------


def router(hosts: list[Host]) -> Router:
    return Router(interfaces={n: {"mac": MACS[n], "addresses": [f"10.1.{n}.1/24"]} for n in range(2)},
                  fixed=[{"port": n, "address": f"10.1.{n}.2", "mac": host.mac} for n, host in enumerate(hosts)])


@contextmanager
def routed(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    with lab.join(router(hosts), hosts):
        yield


@contextmanager
def routing(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """The kernel's own router."""
    run = lab.namespace.execute
    run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], check=True)
    try:
        for number, host in enumerate(hosts):
            run(["ip", "link", "set", f"to-{host.name}", "address", MACS[number]], check=True)
            run(["ip", "addr", "add", f"10.1.{number}.1/24", "dev", f"to-{host.name}"], check=True)
        yield
    finally:
        for host in hosts:
            run(["ip", "addr", "flush", "dev", f"to-{host.name}"], check=True)


# -- routing behind a firewall ----------------------------------------------------------------------------------------


def places(count: int) -> list[tuple[str, int]]:
    """Destinations and ports that rules are about, none of them met."""
    return [(f"198.18.{n >> 8 & 255}.{n & 255}", 1024 + n % 50_000) for n in range(count - 1)]


def rules(count: int) -> list[dict[str, Any]]:
    """So many rules, the last of which accepts."""
    return [{"action": "drop", "protocol": "tcp", "destination": place, "destination_ports": port}
            for place, port in places(count)] + [{"action": "accept", "direction": "out"}]


def firewalled(count: int) -> Contender:
    """Our router behind our firewall, with so many rules."""
    @contextmanager
    def joined(lab: Lab, hosts: list[Host]) -> Iterator[None]:
        with Network("measured", namespace=lab.namespace) as net:
            net.add("firewall", Firewall(rules=rules(count), most_rules=max(count, 1024),
                                         most_classes=max(2 * count, 1024)))
            net.add("router", router(hosts))
            net.link("firewall:outside", "router:0")
            net.attach("firewall:inside", Edge(hosts[0].index))
            net.attach("router:1", Edge(hosts[1].index))
            yield
    return joined


def filtered(count: int) -> Contender:
    """The kernel's router and nftables, the same rules in the same order behind its connection tracking."""
    dropping = "\n".join(f"ip daddr {place} tcp dport {port} drop" for place, port in places(count))
    text = f"""table ip filter {{
chain forward {{
type filter hook forward priority 0; policy drop;
ct state established,related accept
ct state invalid drop
{dropping}
iifname "to-one" accept
}}
}}
"""

    @contextmanager
    def joined(lab: Lab, hosts: list[Host]) -> Iterator[None]:
        with routing(lab, hosts):
            lab.namespace.execute(["nft", "-f", "-"], input=text, text=True, check=True)
            try:
                yield
            finally:
                lab.namespace.execute(["nft", "flush", "ruleset"], check=True)
    return joined


# -- translation ------------------------------------------------------------------------------------------------------


MASQUERADE = """table ip translation {
chain leaving {
type nat hook postrouting priority srcnat;
oifname "to-two" masquerade
}
}
"""


@contextmanager
def translated(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """Our router, and nat behind it: the inside is seen as the router's own address there."""
    with Network("measured", namespace=lab.namespace) as net:
        net.add("router", router(hosts))
        net.add("nat", Nat(addresses=["10.1.1.1"]))
        net.link("router:1", "nat:inside")
        net.attach("router:0", Edge(hosts[0].index))
        net.attach("nat:outside", Edge(hosts[1].index))
        yield


def masquerading(contender: Contender) -> Contender:
    """One of the kernel's, with nftables' masquerade."""
    @contextmanager
    def joined(lab: Lab, hosts: list[Host]) -> Iterator[None]:
        with contender(lab, hosts):
            lab.namespace.execute(["nft", "-f", "-"], input=MASQUERADE, text=True, check=True)
            try:
                yield
            finally:
                lab.namespace.execute(["nft", "flush", "ruleset"], check=True)
    return joined


@contextmanager
def protected(lab: Lab, hosts: list[Host]) -> Iterator[None]:
    """All three of ours: firewall, router, nat."""
    with Network("measured", namespace=lab.namespace) as net:
        net.add("firewall", Firewall(rules=rules(100)))
        net.add("router", router(hosts))
        net.add("nat", Nat(addresses=["10.1.1.1"]))
        net.link("firewall:outside", "router:0")
        net.link("router:1", "nat:inside")
        net.attach("firewall:inside", Edge(hosts[0].index))
        net.attach("nat:outside", Edge(hosts[1].index))
        yield


RIVALS = {
    "switching": Rivals("switch against bridge", switch, bridge, False),
    "routing": Rivals("router against routing", routed, routing, True),
    "filtering100": Rivals("router and firewall against routing and nftables, 100 rules", firewalled(100),
                           filtered(100), True),
    "filtering10000": Rivals("the same, 10,000 rules", firewalled(10_000), filtered(10_000), True),
    "translating": Rivals("router and nat against routing and masquerade", translated, masquerading(routing), True),
    "protecting": Rivals("router, firewall and nat against routing, nftables (100 rules) and masquerade", protected,
                         masquerading(filtered(100)), True, {"packets": 1.5})}
