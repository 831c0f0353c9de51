"""A process that keeps a network until it is killed.

    python -m tests.fabric.keeper create|early|adopt <directory> <descriptor of the namespace> <directory of images>

Says `ready` and the milliseconds it took, then waits.
"""
from __future__ import annotations

import signal
import sys
import time

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.functions.switch import Switch
from iovisor.kernel import NetworkNamespace
from tests.fabric.functions import Gate, PatientLearner, Through
from tests.fabric.hosts import FIRST


def build(net: Network, hook: str = "tc") -> None:
    """h0 - s0 - gate - counted - s1 - h1"""
    static = [{"mac": "02:00:00:00:00:77", "port": 5}]
    for name, function in (("s0", Switch(ageing="60s", static=static)), ("gate", Gate(padding=3)), ("s1", Switch()),
                           ("counted", Through()), ("aside.1", PatientLearner())):
        net.add(name, function)
    net.link("s0:1", "gate:inside")
    net.link("gate:outside", "counted:inside")
    net.link("counted:outside", "s1:1")
    net.link("aside.1:inside", "s0:7")
    net.attach("s0:0", Edge(FIRST, hook=hook))
    net.attach("s1:0", Edge(FIRST + 1, hook=hook))


def main(what: str, directory: str, descriptor: str, images: str) -> None:
    namespace, begun = NetworkNamespace(int(descriptor)), time.perf_counter()
    if what in ("create", "early"):
        net = Network("kept", namespace=namespace, cache=Cache(images), pins=directory)
        build(net, "xdp-generic" if what == "early" else "tc")
    else:
        kept = Network.adopt(directory, namespace=namespace, cache=Cache(images))
        kept.reconfigure("gate", padding=int(time.time()))
    print("ready", round(1e3 * (time.perf_counter() - begun), 1), flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
