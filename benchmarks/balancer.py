"""What the balancer costs in the data path alone: of a flow that was met within the last second, of one that is looked
up, and of one that is new.

A packet that is changed would be another the second time, and BPF_PROG_TEST_RUN restores nothing; so the backend has
the VIP's own address, and the balancer's Ethernet address: every field is written, and none changes.  New flows are
timed one by one, which is with colder caches and the price of a test run beside, of which an empty program's is taken
off.  So is what a tunnel costs more than mode `direct`, for whose packet would be longer the second time.
"""
from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from iovisor.cli.measure import empty, once
from iovisor.functions.balancer import Balancer
from iovisor.kernel import Program
from iovisor.language import Packet
from iovisor.language.verdicts import FORWARD_KIND
from iovisor.targets.bpf_loaded import BpfLoaded
from iovisor.testing.packets import Frame, ethernet, ipv4, ipv6, tcp, udp

BAR = 100.0                     # nanoseconds of a known flow; Katran's own program: 142 on a machine like this
OWN, CLIENT = "02:00:00:00:0f:01", "02:00:00:00:00:01"
VIP4, VIP6 = "198.51.100.1", "2001:db8:f::1"
SYN, ACK = 2, 16
NEW = 400
HOOKS, MODES = ("xdp", "tc"), ("nat", "direct", "tunnel")


def balancer(mode: str) -> Balancer:
    def vip(address: str, protocol: str) -> dict[str, Any]:
        return {"address": address, "port": 80, "protocol": protocol, "mode": mode,
                "backends": [{"address": address, "mac": OWN}]}
    return Balancer(mac=OWN, addresses=["198.51.100.9/24", "2001:db8:f::9/64"], vips=[
        vip(VIP4, "tcp"), vip(VIP4, "udp"), vip(VIP6, "tcp")])


def packet(transport: Frame, six: bool = False) -> Packet:
    ip = ipv6(src="2001:db8:c::1", dst=VIP6) if six else ipv4(src="192.0.2.1", dst=VIP4)
    return Packet(bytes(ethernet(dst=OWN, src=CLIENT) / ip / transport))


def packets() -> dict[str, Packet]:
    """Of known flows.  A SYN is always looked up."""
    return {"TCP, IPv4": packet(tcp(src=4000, dst=80, flags=ACK) / b"hello!"),
            "TCP, IPv6": packet(tcp(src=4000, dst=80, flags=ACK) / b"hello!", True),
            "UDP, IPv4": packet(udp(src=4000, dst=80) / b"hello!"),
            "TCP, IPv4, looked up": packet(tcp(src=4000, dst=80, flags=SYN) / b"hello!")}


def alone(program: Program, hook: str, frames: Iterable[Packet | bytes]) -> float:
    """Nanoseconds of one run, frame by frame."""
    context = b"" if hook == "xdp" else bytes(192)
    return median(program.test_run(bytes(frame), context).duration_ns for frame in frames)


def fresh(number: int) -> Iterator[Packet]:
    """The first packets of flows nobody has seen."""
    for flow in range(NEW):
        yield packet(tcp(src=1024 + (number * NEW + flow) % 60_000, dst=80, flags=SYN) / b"hello!")


def measure(rounds: int = 21) -> list[dict[str, Any]]:
    """By hook, mode and packet: nanoseconds, net of an empty program."""
    rows = []
    for hook in HOOKS:
        nothing = empty(hook)
        for mode in MODES:
            plain = "direct" if mode == "tunnel" else mode
            with BpfLoaded(balancer(mode), hook, ("ingress",)) as itself, \
                    BpfLoaded(balancer(plain), hook, ("ingress",)) as loaded:
                program, found = loaded.programs["ingress"], packets()
                spent: dict[str, list[float]] = {name: [] for name in (*found, "TCP, IPv4, new")}
                for frame in found.values():
                    for each in (loaded, itself):
                        assert each.run(Packet(bytes(frame))).kind == FORWARD_KIND
                for number in range(rounds):
                    for name in random.Random(number).sample(list(found), len(found)):
                        more = 0.0
                        if mode != plain:
                            same = [found[name]] * NEW
                            more = alone(itself.programs["ingress"], hook, same) - alone(program, hook, same)
                        spent[name].append(once(program, hook, found[name]) - once(nothing, hook, found[name]) + more)
                    spent["TCP, IPv4, new"].append(alone(itself.programs["ingress"], hook, fresh(number))
                                                   - alone(nothing, hook, fresh(number)))
                information = program.info()
                rows += [{"hook": hook, "mode": mode, "packet": name, "nanoseconds": median(values),
                          "instructions": information.instructions} for name, values in spent.items()]
        nothing.close()
    return rows
