"""What a route costs among ten and among a hundred thousand: the router's data path alone, at TC, by test run.

*Hot* is one destination over and over.  *Many* is 65,536 destinations in a row, each of another route where there are
so many: more than fit into caches, so what is measured is the lookup itself.  The kernel runs one packet again and
again; a program before the router's gives it the next destination each time, and what that program takes is taken off.
"""
from __future__ import annotations

import random
from statistics import median

from iovisor.functions.router import Router
from iovisor.kernel import AttachType, Map, MapKind, MapSpec, Program, ProgramKind, ProgramSpec
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R10,
    Helper,
    Label,
    assemble,
    call,
    compute,
    jump_if,
    leave,
    load,
    map_index,
    map_value,
    move,
    store,
    tail_call,
)
from iovisor.language import Prefix
from iovisor.targets import load as load_function
from iovisor.testing.packets import ethernet, ipv4, ipv6, udp

MACS = "02:00:00:00:01:00", "02:00:00:00:01:01"
MANY = 65_536
FEW_ROUTES, MANY_ROUTES = 10, 100_000
LENGTHS = {4: (16, 20, 22, 23, 24, 24, 24, 24), 6: (32, 40, 44, 48, 48, 48, 56, 64)}
SLOT = 24               # bytes of the map: 4 or 16 of address, 2 of checksum
DATA, DATA_END = 76, 80


def routes(version: int, count: int) -> list[Prefix]:
    """Prefixes as they are on the Internet, by their lengths."""
    chance, bits = random.Random(count), 32 if version == 4 else 128
    low, high = (0x0b00_0000, 0xdf00_0000) if version == 4 else (0x2001 << 112, 0x2c00 << 112)
    found: dict[Prefix, None] = {}
    while len(found) < count:
        length = chance.choice(LENGTHS[version])
        address = chance.randrange(low, high) >> bits - length << bits - length
        found[Prefix(address, length, bits)] = None
    return list(found)


def frame(version: int, address: int) -> bytes:
    link, payload = ethernet(dst=MACS[0], src=1), udp(src=1, dst=2) / bytes(18)
    if version == 4:
        return bytes(link / ipv4(src="10.1.0.2", dst=address) / payload)
    return bytes(link / ipv6(src="2001:db8:0::2", dst=address) / payload)


def driver(version: int, size: int, destinations: int) -> bytes:
    """The next destination into the packet, and on to the router."""
    at, words = (30, 1) if version == 4 else (38, 4)
    mac = int.from_bytes(bytes.fromhex(MACS[0].replace(":", ""))[:4], "little", signed=True)
    mac_end = int.from_bytes(bytes.fromhex(MACS[0].replace(":", ""))[4:], "little")
    copies = [line for word in range(words) for line in (load(R3, R0, 4 * word, 4), store(R7, at + 4 * word, R3, 4))]
    if version == 4:
        copies += [store(R7, 22, 64, 1), load(R3, R0, 16, 2), store(R7, 24, R3, 2)]
    else:
        copies += [store(R7, 21, 64, 1)]
    return assemble(
        move(R6, R1), map_value(R8, 0), load(R3, R8), move(R4, R3), compute(R4, "+", 1), store(R8, 0, R4),
        compute(R3, "&", destinations - 1), store(R10, -4, R3, 4), map_index(R1, 1), move(R2, R10),
        compute(R2, "+", -4), call(Helper.MAP_LOOKUP), jump_if(R0, "==", 0, "end"),
        load(R7, R6, DATA, 4), load(R2, R6, DATA_END, 4), move(R3, R7), compute(R3, "+", size),
        jump_if(R3, ">", R2, "end"), store(R7, 0, mac, 4), move(R3, mac_end), store(R7, 4, R3, 2), *copies,
        move(R1, R6), *tail_call(2, 0), Label("end"), leave(0))


def cost(version: int, count: int, destinations: int, rounds: int) -> float:
    """Nanoseconds of a packet, among so many routes, to so many destinations."""
    six = version == 6
    chance, known = random.Random(7), routes(version, count)
    near = 0x20010db8_0001_0000_0000_0000_0000_0002 if six else 0x0a010102
    function = Router(interfaces={n: {"mac": MACS[n], "addresses": [f"10.1.{n}.1/24", f"2001:db8:{n}::1/64"]}
                                  for n in range(2)}, routes=count + 100,
                      fixed=[{"port": 1, "address": address, "mac": MACS[0]}
                             for address in ("10.1.1.2", "2001:db8:1::2")])
    for prefix in known:
        function.feed(prefix, [(near, 1, 1)])
    picked = chance.sample(known, destinations) if destinations <= count else chance.choices(known, k=destinations)
    addresses = [prefix.address | chance.getrandbits(prefix.bits - prefix.length) for prefix in picked]
    size = len(frame(version, addresses[0]))
    with (load_function(function, "tc") as loaded,
          Map.create(MapSpec("turn", MapKind.ARRAY, 4, 8, 1)) as turn,
          Map.create(MapSpec("places", MapKind.ARRAY, 4, SLOT, destinations)) as places,
          Map.create(MapSpec("next", MapKind.PROGRAM_ARRAY, 4, 4, 1)) as onward):
        slots = []
        for number, address in enumerate(addresses):
            data = frame(version, address)
            there = data[38:54] if six else data[30:34] + bytes(12) + data[24:26]
            slots.append((number.to_bytes(4, "little"), there.ljust(SLOT, b"\0")))
        places.update_batch(slots)
        with Program.load(ProgramSpec("driver", ProgramKind.SCHED_CLS, driver(version, size, destinations), "GPL",
                                      expected_attach_type=AttachType.TCX_INGRESS), [turn, places, onward]) as program:
            def run() -> float:
                return median(program.test_run(frame(version, addresses[0]), bytes(192), MANY).duration_ns
                              for _ in range(rounds))
            idle = run()
            onward.store(bytes(4), loaded.programs["ingress"])  # type: ignore[union-attr]
            program.test_run(frame(version, addresses[0]), bytes(192), MANY)
            return run() - idle


def measure(rounds: int = 11) -> dict[str, float]:
    """Nanoseconds by version, routes and destinations."""
    return {f"{version} {count} {destinations}": cost(version, count, destinations, rounds)
            for version in (4, 6) for count in (FEW_ROUTES, MANY_ROUTES) for destinations in (1, MANY)}


if __name__ == "__main__":
    for name, nanoseconds in measure().items():
        print(name, f"{nanoseconds:.0f} ns", flush=True)
