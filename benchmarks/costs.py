"""What a packet costs in functions that meter, mark, copy and count, in the data path alone: by test run at TC, net of
an empty program, each function in turn, round by round.

Packets are of a known flow and are not changed, so that each run meets the same.  A mirror's copy is not in it: a test
run has nowhere to send one.
"""
from __future__ import annotations

import random
from contextlib import ExitStack
from statistics import median
from typing import Any

from iovisor.cli.measure import empty, once
from iovisor.functions.ddos import Ddos
from iovisor.functions.marker import Marker
from iovisor.functions.mirror import Mirror
from iovisor.functions.monitor import Monitor
from iovisor.functions.policer import Policer
from iovisor.functions.shaper import Shaper
from iovisor.language import Packet
from iovisor.language.function import Function
from iovisor.language.verdicts import FORWARD_KIND
from iovisor.targets.bpf_loaded import BpfLoaded
from iovisor.testing.packets import ethernet, ipv4, ipv6, tcp, udp

RULES = [{"protocol": "tcp", "destination": f"10.9.{n}.0/24", "destination_ports": 1_000 + n} for n in range(100)]
CLASSES = [{"name": "bulk", "guarantee": "40M"}, {"name": "voice", "guarantee": "4M", "priority": 0}]


def functions() -> dict[str, Function]:
    return {
        "policer": Policer(rate="100G", burst=1 << 30),
        "policer, by class": Policer(rate="100G", burst=1 << 30, by="class"),
        "policer, by flow, two rates": Policer(rate="100G", burst=1 << 30, peak="200G", peak_burst=1 << 30, by="flow"),
        "marker, 100 rules": Marker(rules=[rule | {"mark": "ef"} for rule in RULES]),
        "shaper, two classes, 100 rules": Shaper(rate="50M", classes=CLASSES,
                                                 rules=[rule | {"into": "voice"} for rule in RULES]),
        "mirror, 100 rules, none of which matches": Mirror(filter=RULES),
        "monitor": Monitor(),
        "ddos, blocked prefixes": Ddos(blocked=["198.51.100.0/24", "2001:db8:bad::/48"], challenge="never"),
        "ddos, and a rate per source": Ddos(blocked=["198.51.100.0/24", "2001:db8:bad::/48"], challenge="never",
                                            rate=1_000_000_000, burst=1_000_000_000),
        "ddos, and challenges above 1,000 SYNs": Ddos()}


def packets(port: int) -> dict[str, Packet]:
    link = ethernet(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    four, six = ipv4(src="10.0.0.1", dst="10.0.0.2"), ipv6(src="fd00::1", dst="fd00::2")
    made = {"UDP, IPv4": link / four / udp(src=5_000, dst=53) / bytes(18),
            "UDP, IPv6": link / six / udp(src=5_000, dst=53) / bytes(6),
            "TCP, IPv4": link / four / tcp(src=5_000, dst=443) / bytes(6),
            "TCP, IPv6": link / six / tcp(src=5_000, dst=443) / bytes(6)}
    return {name: Packet(bytes(frame), port) for name, frame in made.items()}


def measure(rounds: int = 9) -> list[dict[str, Any]]:
    """By function: nanoseconds of each kind of packet, and instructions in the kernel."""
    with ExitStack() as undo:
        nothing = undo.enter_context(empty("tc"))
        loaded = {name: undo.enter_context(BpfLoaded(function, "tc", ("ingress",)))
                  for name, function in functions().items()}
        spent: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):
            for name in random.Random(number).sample(list(loaded), len(loaded)):
                for kind, packet in packets(int(name.startswith("ddos"))).items():
                    if not number:                  # the first warms up
                        assert loaded[name].run(Packet(bytes(packet), packet.port)).kind == FORWARD_KIND, name
                    took = once(loaded[name].programs["ingress"], "tc", packet) - once(nothing, "tc", packet)
                    if number:
                        spent.setdefault((name, kind), []).append(took)
        return [{"function": name, "instructions": one.programs["ingress"].info().instructions,
                 "nanoseconds": {kind: median(spent[name, kind]) for kind in packets(0)}}
                for name, one in loaded.items()]


if __name__ == "__main__":
    for row in measure(3):
        print(row)
