"""What changing a network takes, end to end: a document's text in, the network changed, the store's promise given.

    python -m benchmarks.control [rounds] [tenants]

The network has three tiers: ten functions, twelve endpoints in namespaces.  Every figure is the median of some rounds,
of the platform itself; a command adds its own start, which is measured apart.  With `tenants`, that many tenants get
the same network, and the last apply is compared with the first.
"""
from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from iovisor.compiler.cache import Cache
from iovisor.control.access import Principal
from iovisor.control.platform import Platform
from iovisor.kernel import NetworkNamespace
from iovisor.kernel.namespaces import delete

TIERS = ("web", "app", "db")
ADMIN = Principal("benchmark", "admin")
RULES = "rules: [{name: ping, action: accept, protocol: icmp}, {name: web, action: accept, protocol: tcp, "


def document(tenant: str, rooms: list[str], port: int = 80) -> str:
    """core -- for each tier: guard (acl) -- lan (switch) -- shield (acl) -- four endpoints behind the lan."""
    functions, links, endpoints = ["  core: switch"], [], []
    for tier, name in enumerate(TIERS):
        allowed = port if tier == 1 else 80
        functions += [f"  {name}: switch",
                      f"  {name}-in: {{kind: acl, default: accept, {RULES}destination_ports: {allowed}}}]}}",
                      f"  {name}-out: {{kind: acl, default: accept, other: accept}}"]
        links.append(f"  - [core, {name}-in, {name}-out, {name}]")
        for number in range(4):
            endpoint = f"{name}{number}"
            room = rooms[4 * tier + number] if rooms else ""
            where = f"netns: {room}, " if room else ""
            endpoints.append(f"  {endpoint}: {{{where}address: 10.1.0.{10 * tier + number + 1}/24}}")
            links.append(f"  - [{endpoint}, {name}]")
    return "\n".join(["version: 1", f"tenant: {tenant}", "network: shop", "functions:", *functions, "endpoints:",
                      *endpoints, "links:", *links, ""])


def timed(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return 1e3 * (time.perf_counter() - begun)


def apply(here: Platform, text: str) -> None:
    for read, kinds in here.read(ADMIN, text, "shop.yaml", {}):
        here.apply(ADMIN, here.intent(read, kinds))


def main(rounds: int = 5, tenants: int = 0) -> None:
    with ExitStack() as undo:
        state = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        switching = undo.enter_context(NetworkNamespace.create())
        rooms = [f"iovisor-bench-{os.getpid()}-{number}" for number in range(12)]
        for room in rooms:
            undo.enter_context(NetworkNamespace.create(room))
            undo.callback(delete, room)
        here = Platform(state / "state", switching, Cache(state / "images"))
        here.start()
        undo.callback(here.stop)
        found: dict[str, list[float]] = {}

        def note(what: str, do: Callable[[], object]) -> None:
            found.setdefault(what, []).append(timed(do))
        note("apply, the first time, compiling", lambda: apply(here, document("acme", rooms)))
        for number in range(rounds):
            here.destroy(ADMIN, "acme", "shop")
            note("apply, warm", lambda: apply(here, document("acme", rooms)))
            note("one rule changed", lambda n=number: apply(here, document("acme", rooms, 8000 + n)))  # type: ignore[misc]
            note("nothing changed", lambda n=number: apply(here, document("acme", rooms, 8000 + n)))  # type: ignore[misc]
            note("rollback", lambda: here.rollback(ADMIN, "acme", "shop"))
            note("clone, with what was learned",
                 lambda: here.clone(ADMIN, "acme", "shop", ("acme", "copy"), {}, True))
            note("destroy", lambda: here.destroy(ADMIN, "acme", "copy"))
        for what, times in found.items():
            print(f"{what:36}{statistics.median(times):8.1f} ms   (best {min(times):.1f}, worst {max(times):.1f})")
        command = [sys.executable, "-m", "iovisor", "network", "--help"]
        starts = [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)]
        print(f"{'a command, its own start':36}{statistics.median(starts):8.1f} ms")
        if tenants:
            times = [timed(lambda n=n: apply(here, document(f"t{n}", []))) for n in range(tenants)]  # type: ignore[misc]
            ends = (statistics.median(times[:5]), statistics.median(times[-5:]))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{tenants} tenants: the first {ends[0]:.0f} ms, the last {ends[1]:.0f} ms "
                  f"({ends[1] / ends[0]:.2f}x); {memory:.0f} MB in the daemon, {len(os.listdir('/proc/self/fd'))} "
                  "descriptors")
        for head in here.records.heads():
            here.destroy(ADMIN, head.tenant, head.network)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
