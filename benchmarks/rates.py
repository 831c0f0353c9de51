"""How exactly rates are kept, and what everybody gets of them: the policer and the shaper between two hosts, in TC.

*Floods.*  A program in the kernel sends datagrams as fast as one CPU makes them (`stream.generator`), and one at the
receiver keeps the account (`arrivals`): the *error* in the long run, and the *effective burst*, the most by which any
window exceeds rate times its length, against the burst that was configured.  The bucket is full when the flood begins,
and again after a pause.  Aggregates (GSO) come from a socket.

*TCP* (iperf3) is given as its share of the rate, headers counted; for sixteen flows Jain's index says how equal they
are.

*A prompt flow* of 1 Mbit/s has a class of its own.  How long its datagrams are on their way is measured from one host's
device to the other's, alone and beside floods.
"""
from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from iovisor.fabric import Edge, Network, Running
from iovisor.functions.policer import Policer
from iovisor.functions.shaper import Shaper
from iovisor.kernel import Netlink, interfaces
from iovisor.language import data_rate
from iovisor.language.function import Function
from iovisor.testing.lab import Host, Lab
from iovisor.testing.packets import ethernet, ipv4, ipv6, udp

from .arrivals import FLOWS, PROMPT, RATED, Arrivals, Stamp
from .stream import Generator, generator, one_cpu, polling

SEGMENT = 103                                   # UDP_SEGMENT: one aggregate of many datagrams
WARM, SECONDS, PAUSE, AGAIN = 0.25, 0.8, 0.3, 0.1
RATES, SIZES = ("1M", "10M", "50M", "200M", "1000M"), (64, 512, 1_514)
FAMILIES = (4, 6)
AGGREGATED = [(rate, family) for rate in ("10M", "50M", "1000M") for family in FAMILIES]
MANY = [("50M", family) for family in FAMILIES]         # sixteen flows at once
SEGMENTS, PAYLOAD = 20, 1_400
TCP = [*((rate, 4, control) for rate in RATES for control in ("bbr", "cubic")),
       *((rate, 6, "cubic") for rate in ("50M", "1000M"))]
LONG, BEGIN, RUN = "1M", 8, 7                   # here TCP takes seconds to find its rate, and an aggregate half a one
BURST = 32 << 10, 1 << 20                       # at least, for frames and for aggregates
PROMPT_SIZE, PROMPT_RATE = 118, 781             # bytes of payload and datagrams a second: 1 Mbit/s
UNDER = "50M"

Make = Callable[[str, int], Function]


def policer(rate: str, burst: int) -> Function:
    return Policer(rate=rate, burst=burst)


def shaper(rate: str, burst: int) -> Function:
    return Shaper(rate=rate, burst=burst)


def policer_by_flow(rate: str, burst: int) -> Function:
    return Policer(rate=rate, burst=burst, by="flow")


def policer_of_classes(rate: str, burst: int) -> Function:
    return Policer(rate=rate, burst=burst, by="class", classes=[{"dscp": "ef", "rate": "2M"}])


def shaper_of_classes(rate: str, burst: int) -> Function:
    return Shaper(rate=rate, burst=burst, classes=[
        {"name": "bulk", "guarantee": "20M"}, {"name": "voice", "guarantee": "4M", "priority": 0}],
        rules=[{"dscp": "ef", "into": "voice"}])


# -- floods ------------------------------------------------------------------------------------------------------------


def datagram(sender: Host, receiver: Host, family: int, size: int) -> bytes:
    """Of so many bytes, Ethernet header included."""
    link = ethernet(dst=receiver.mac, src=sender.mac)
    ip = ipv6(src=sender.ipv6, dst=receiver.ipv6) if family == 6 else ipv4(src=sender.ipv4, dst=receiver.ipv4)
    return bytes(link / ip / udp(src=4_096, dst=RATED) / bytes(size - (62 if family == 6 else 42)))


@dataclass(frozen=True)
class Site:
    a: Host
    b: Host
    net: Network
    account: Arrivals
    source: Generator

    def held(self) -> int:
        """Packets that the function did not let pass, and those that wait in the queues behind it."""
        return self.net.drops.get("limit", {}).get("RATE", 0) + sum(
            queue.waiting_packets for queue in self.net.queues("limit:outside"))


@contextmanager
def site(function: Function, family: int, size: int) -> Iterator[Site]:
    """Two hosts and the function between them; `Stamp` before it, and `Arrivals` at the second host's device."""
    with ExitStack() as undo:
        lab = undo.enter_context(Lab())
        a, b = lab.hosts("a", "b")
        indexes = []
        for host in (a, b):
            with Netlink(host.namespace) as inside:
                indexes.append(interfaces.index_of(inside, "eth0"))
        net = undo.enter_context(Network("measured", namespace=lab.namespace))
        net.add("stamp", Stamp())
        net.add("limit", function)
        net.link("stamp:outside", "limit:inside")
        net.attach_all({"stamp:inside": Edge(a.index), "limit:outside": Edge(b.index)})
        account = Arrivals()
        undo.enter_context(Running(account, {0: Edge(indexes[1])}, namespace=b.namespace))
        polling("to-a", lab.namespace)
        source = undo.enter_context(generator(datagram(a, b, family, size), a.namespace, indexes[0],
                                              54 if family == 6 else 34))
        yield Site(a, b, net, account, source)


def flood(source: Generator, seconds: float) -> float:
    """As fast as it goes for so long; packets a second."""
    sent, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        source.send(5_000)
        sent += 5_000
    return sent / (time.monotonic() - begun)


def burst_of(rate: str, least: int) -> int:
    """20 ms of a rate, but no less."""
    return max(data_rate(rate) // 8 // 50, least)


def told(rate: str, account: Arrivals, burst: int, act: Callable[[float], object]) -> dict[str, float]:
    """The error of the long run, in per cent, and the effective burst against the one configured."""
    bits = data_rate(rate)
    account.charge(bits)
    act(WARM)                                   # the first burst is over, what follows is the rate
    each = []
    for _ in range(3):                          # or the generator's own pauses, when others have its CPU, would count
        first = account.read()
        act(0.6 if rate == LONG else 0.25)
        each.append(account.read().rate_since(first))
    steady = median(each)
    time.sleep(PAUSE)
    act(AGAIN)
    return {"error": 100 * (steady / bits - 1), "burst": account.read().ahead / burst}


def flooded(make: Make, rate: str, family: int, size: int, flows: int = 1) -> dict[str, Any]:
    """By frames."""
    burst, offered = burst_of(rate, BURST[0]), []
    with site(make(rate, burst), family, size) as here, one_cpu():
        here.source.vary(flows - 1)
        found = told(rate, here.account, burst, lambda seconds: offered.append(flood(here.source, seconds)))
    return {"rate": rate, "family": family, "size": size, "flows": flows, "offered": max(offered)} | found


def aggregated(make: Make, rate: str, family: int) -> dict[str, Any]:
    """By aggregates of twenty frames, from a socket."""
    burst, offered = burst_of(rate, BURST[1]), []
    with site(make(rate, burst), family, 64) as here, one_cpu():
        with here.a.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_UDP, SEGMENT, PAYLOAD)
            sender.connect((here.b.ipv6 if family == 6 else here.b.ipv4, RATED))

            def act(seconds: float) -> None:
                sent, begun = 0, time.monotonic()
                while time.monotonic() < begun + seconds:
                    for _ in range(20):
                        with suppress(ConnectionRefusedError, BlockingIOError):
                            sender.send(bytes(PAYLOAD * SEGMENTS))
                    sent += 20 * SEGMENTS
                offered.append(sent / (time.monotonic() - begun))

            found = told(rate, here.account, burst, act)
    return {"rate": rate, "family": family, "size": PAYLOAD + (62 if family == 6 else 42), "segments": SEGMENTS,
            "offered": max(offered)} | found


def jain(each: list[int]) -> float:
    return sum(each) ** 2 / len(each) / sum(one * one for one in each)


def divided(family: int) -> list[float]:
    """Shares of three classes that all want more, by what they should be: of 1, 4 and 11 flows, one with a ceiling."""
    rules = [{"protocol": "udp", "source_ports": ports, "into": name}
             for name, ports in (("few", "4352-5120"), ("many", "5376-7936"))]
    classes = [{"name": "one", "guarantee": "20M"}, {"name": "few", "guarantee": "10M"},
               {"name": "many", "guarantee": "4M", "ceiling": "5M"}]
    with site(Shaper(rate=UNDER, classes=classes, rules=rules), family, 1_514) as here, one_cpu():
        here.source.vary(FLOWS - 1)
        flood(here.source, WARM)
        here.account.charge(data_rate(UNDER))
        flood(here.source, 2 * SECONDS)
        each = here.account.by_flow()
    return [sum(part) / sum(each) / wanted for part, wanted in
            ((each[:1], 30 / 50), (each[1:5], 15 / 50), (each[5:], 5 / 50))]


def shared(make: Make, rate: str, family: int, size: int) -> dict[str, Any]:
    """Sixteen equal flows of a flood."""
    with site(make(rate, 0), family, size) as here, one_cpu():
        here.source.vary(FLOWS - 1)
        flood(here.source, WARM)
        here.account.charge(data_rate(rate))
        flood(here.source, 2.5 * SECONDS)
        return {"rate": rate, "family": family, "size": size, "jain": jain(here.account.by_flow())}


# -- TCP ---------------------------------------------------------------------------------------------------------------


def carried(make: Make, rate: str, family: int, control: str, flows: int = 1,
            seconds: float = 2.5) -> tuple[float, float]:
    """TCP's share of a rate once it has begun, headers counted, and Jain's index of its flows."""
    begin, seconds = (BEGIN, RUN) if rate == LONG else (1, seconds)
    with Lab() as lab:
        a, b = lab.hosts("a", "b")
        with lab.join(make(rate, 0), [a, b]):
            b.start(["iperf3", "-s", "-1"], stdout=-3, stderr=-3)
            time.sleep(0.3)
            done = a.run(["iperf3", "-c", b.ipv6 if family == 6 else b.ipv4, "-J", "-C", control, "-P", str(flows),
                          "-t", str(seconds), "-O", str(begin)], timeout=60, check=False)
    end = json.loads(done.stdout)["end"]
    payload = 1_428 if family == 6 else 1_448
    share = end["sum_received"]["bits_per_second"] / data_rate(rate) * 1_514 / payload
    return share, jain([stream["receiver"]["bytes"] for stream in end["streams"]])


# -- a prompt flow -----------------------------------------------------------------------------------------------------


def speak(host: Host, address: str, family: int, seconds: float, sent: Any) -> None:
    """Datagrams of a class of their own, evenly, on a CPU that nobody floods from."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    six = family == 6
    with host.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as voice:
        voice.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six else (socket.IPPROTO_IP, socket.IP_TOS)),
                         46 << 2)
        voice.connect((address, PROMPT))
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            while sent.value < passed * PROMPT_RATE:
                voice.send(bytes(PROMPT_SIZE))
                sent.value += 1
            time.sleep(0.0005)


@contextmanager
def streams(a: Host, b: Host, family: int) -> Iterator[None]:
    """Sixteen flows of bulk TCP."""
    processes = [b.start(["iperf3", "-s"], stdout=-3, stderr=-3)]
    time.sleep(0.3)
    processes.append(a.start(["iperf3", "-c", b.ipv6 if family == 6 else b.ipv4, "-t", "60", "-P", "16"], stdout=-3,
                             stderr=-3))
    time.sleep(0.7)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def prompt(make: Make, family: int, bulk: str, seconds: float = 2) -> dict[str, Any]:
    """Of the prompt flow: datagrams sent and lost, and microseconds on the way, beside floods and alone."""
    with site(make(UNDER, 0), family, 1_514) as here:
        here.source.vary(FLOWS - 1)
        address, found = here.b.ipv6 if family == 6 else here.b.ipv4, {}
        here.a.ping(here.b, six=family == 6)
        context, begin = multiprocessing.get_context("fork"), 0
        for name in ("alone", "beside"):
            flooding, held = name == "beside" and bulk == "udp", here.held()
            sent = context.Value("q", 0)
            speaker = context.Process(target=speak, args=(here.a, address, family, seconds, sent))
            with streams(here.a, here.b, family) if name == "beside" and bulk == "tcp" else nullcontext(), one_cpu():
                if flooding:
                    flood(here.source, WARM)
                speaker.start()
                while speaker.is_alive():
                    if flooding:
                        here.source.send(5_000)
                    else:
                        time.sleep(0.01)
                speaker.join()
                assert name == "alone" or here.held() > held, "no overload"
            time.sleep(0.3)
            took = here.account.delayed(begin)
            begin += len(took)
            found |= {f"{name} lost": sent.value - len(took), f"{name} sent": sent.value,
                      f"{name} median": median(took) / 1e3, f"{name} p99": quantiles(took, n=100)[98] / 1e3}
    return {"family": family, "bulk": bulk, "added": found["beside p99"] - found["alone median"]} | found


# -- everything --------------------------------------------------------------------------------------------------------


def measure(make: Make, classes: Make, equal: Make) -> dict[str, Any]:
    """Everything of one of them: as it is, with classes, and where equal flows are to be equal."""
    return {
        "floods": [*(flooded(make, rate, family, size) for rate in RATES for size in SIZES for family in FAMILIES),
                   *(flooded(make, *case, SIZES[-1], FLOWS) for case in MANY),
                   *(aggregated(make, *case) for case in AGGREGATED)],
        "tcp": [(*case, carried(make, *case)[0]) for case in TCP],
        "shared": [shared(equal, "50M", family, size) for family in FAMILIES for size in (64, 1_514)],
        "equal": [(family, control, *carried(shaper, "50M", family, control, 16))
                  for family in FAMILIES for control in ("bbr", "cubic")] if make is shaper else [],
        "divided": [(family, divided(family)) for family in FAMILIES] if make is shaper else [],
        "prompt": [prompt(classes, family, bulk) for family in FAMILIES for bulk in ("udp", "tcp")]}


__all__ = ["measure", "policer", "policer_by_flow", "policer_of_classes", "shaper", "shaper_of_classes"]
