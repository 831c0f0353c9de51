"""The CPU time of a 64-byte packet through one switch between two cables of ours, against the Linux bridge and against
a veth pair with nothing in between; in turns, round by round.  `stream` makes the packets.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

from iovisor.fabric import Network, Veth
from iovisor.functions.switch import Switch
from iovisor.kernel import Netlink, interfaces, neighbours

from .cases import UDP, datagram
from .provisioning import Through
from .stream import Stream, index_of, one_cpu, polling, stage, stream

WAYS = ("switch", "through", "bridge", "direct")
AGAINST_BRIDGE, AGAINST_DIRECT = 0.65, 1.4
SOURCE, DESTINATION = "02:00:00:00:00:01", "02:00:00:00:00:02"
PACKETS = 200_000


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@contextmanager
def way(kind: str) -> Iterator[Stream]:
    """Two workloads, joined by the switch, the bridge or their cable."""
    with ExitStack() as undo:
        switching, sender, receiver = undo.enter_context(stage())
        netlink = undo.enter_context(Netlink(switching))
        ends = ((sender, SOURCE), (receiver, DESTINATION))
        if kind in ("switch", "through"):
            net = undo.enter_context(Network("measured", namespace=switching))
            net.add("lan", Switch(static=[{"mac": DESTINATION, "port": 1}]) if kind == "switch" else Through())
            edges = net.attach_all({f"lan:{port}": Veth(room, mac=mac) for port, (room, mac) in enumerate(ends)})
            assert all(edge.peer for edge in edges)
            receiving = [(switching, f"e{edge.index:x}") for edge in edges]
        elif kind == "bridge":
            with switching.entered(), suppress(FileNotFoundError):      # filters of the host are not part of a switch
                for table in ("ip", "ip6", "arp"):
                    Path(f"/proc/sys/net/bridge/bridge-nf-call-{table}tables").write_text("0")
            netlink.submit(interfaces.bridge("bridge", index=5, up=True), *(
                request for port, (room, mac) in enumerate(ends) for request in (
                    interfaces.veth(f"p{port}", "eth0", index=10 + port, peer_namespace=room, peer_mac=_packed(mac),
                                    up=True),
                    interfaces.change(10 + port, master=5))))
            netlink.submit(neighbours.forward(11, _packed(DESTINATION)))
            receiving = [(switching, "p0"), (switching, "p1")]
        else:
            with Netlink(sender) as inside:
                inside.submit(interfaces.veth("eth0", "eth0", mac=_packed(SOURCE), peer_mac=_packed(DESTINATION),
                                              peer_namespace=receiver, up=True))
            receiving = [(receiver, "eth0")]
        out, at = index_of(sender), index_of(receiver)
        for room, name in receiving:
            polling(name, room)
        made = undo.enter_context(stream(datagram(UDP), sender, out, receiver, at))
        made.ready(f"the {kind}")
        yield made


def measure(rounds: int = 21) -> dict[str, float]:
    """Nanoseconds a packet by each way, and the medians of the rounds' ratios of the switch to the others."""
    found: dict[str, list[float]] = {kind: [] for kind in WAYS}
    with one_cpu(), ExitStack() as undo:
        ways = {kind: undo.enter_context(way(kind)) for kind in WAYS}
        for number in range(rounds + 1):
            for kind in random.Random(number).sample(WAYS, len(WAYS)):
                nanoseconds = ways[kind].nanoseconds(PACKETS)
                if number:                      # the first warms up
                    found[kind].append(nanoseconds)
    ratios = {f"{kind} to {other}": median(a / b for a, b in zip(found[kind], found[other], strict=True))
              for kind in ("switch", "through") for other in ("bridge", "direct")}
    return {kind: median(values) for kind, values in found.items()} | ratios
