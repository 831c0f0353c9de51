"""TCP through the switch, against the Linux bridge on the same veths, round by round in turns."""
from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from iovisor.functions.switch import Switch
from iovisor.testing.lab import Host, Lab

BAR = 1.0


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


def gigabits(one: Host, two: Host, seconds: float) -> float:
    for _ in range(50):                         # until the switching side lets something through
        if one.ping(two, count=1):
            break
        time.sleep(0.02)
    done = one.run(["iperf3", "-c", two.ipv4, "-t", str(seconds), "-O", "1", "-J"], timeout=60)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def measure(rounds: int = 7, seconds: int = 2) -> tuple[float, float, float]:
    """Gbit/s of the switch and of the bridge, and the median of the rounds' ratios."""
    found: dict[str, list[float]] = {"switch": [], "bridge": []}
    with Lab() as lab:
        hosts = one, two = lab.hosts("one", "two")
        two.start(["iperf3", "-s"], stdout=-3, stderr=-3)
        time.sleep(0.5)
        for number in range(rounds):
            for which in random.Random(number).sample(sorted(found), 2):
                with bridge(lab, hosts) if which == "bridge" else lab.join(Switch(), hosts):
                    found[which].append(gigabits(one, two, seconds))
    ratio = median(a / b for a, b in zip(found["switch"], found["bridge"], strict=True))
    return median(found["switch"]), median(found["bridge"]), ratio
