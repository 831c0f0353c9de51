"""A process that keeps a network and flips it between two wirings until it is killed.

    python -m tests.fabric.flipper create|adopt <directory> <descriptor of the namespace> <directory of images>

Says `ready`, then flips as fast as it can: x - f1 - f2 - y, and x - g1 - g2 - y.
"""
from __future__ import annotations

import sys

from iovisor.compiler.cache import Cache
from iovisor.fabric import Edge, Network
from iovisor.kernel import NetworkNamespace
from tests.fabric.hosts import FIRST
from tests.fabric.marking import First, Second


def build(net: Network) -> None:
    """Wiring f."""
    for name, mark in (("f", 1), ("g", 2)):
        net.add(f"{name}1", First(mark=mark))
        net.add(f"{name}2", Second(mark=mark))
        net.link(f"{name}1:outside", f"{name}2:inside")
    net.attach("f1:inside", Edge(FIRST))
    net.attach("f2:outside", Edge(FIRST + 1))


def standing(net: Network) -> str:
    """Which wiring it is."""
    (name,) = {at.instance[0] for at, join in net.joins.items() if join.edge is not None}
    return name


def flip(net: Network) -> None:
    old = standing(net)
    new = "g" if old == "f" else "f"
    with net.revision() as draft:
        draft.detach(f"{old}1:inside")
        draft.detach(f"{old}2:outside")
        draft.attach(f"{new}1:inside", Edge(FIRST))
        draft.attach(f"{new}2:outside", Edge(FIRST + 1))


def main(what: str, directory: str, descriptor: str, images: str) -> None:
    namespace, cache = NetworkNamespace(int(descriptor)), Cache(images)
    if what == "create":
        net = Network("flipped", namespace=namespace, cache=cache, pins=directory)
        build(net)
    else:
        net = Network.adopt(directory, namespace=namespace, cache=cache)
    print("ready", flush=True)
    while True:
        flip(net)


if __name__ == "__main__":
    main(*sys.argv[1:])
