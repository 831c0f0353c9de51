"""`make bench`: measure, compare with the bars, and write `README.md`.

    python -m benchmarks [generated] [latency] [switching] [routing] [filtering100] [filtering10000]
                         [translating] [protecting] [prefixes] [edges] [fairness] [provisioning] [balancer] [chain]
                         [policing] [shaping] [costs] [hops] [flooding]
                         [--rounds N]

Sections that are not named are taken from the last run (`results.json`), so that one may be repeated alone.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iovisor.language import data_rate

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


def machine() -> str:
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = Path("/proc/loadavg").read_text().split()[0]
    return (f"{moment}, Linux {platform.release()}, {model}, {os.cpu_count()} CPUs, load {load} before, "
            f"Python {platform.python_version()}")


def generated(rounds: int) -> dict[str, Any]:
    from .cases import CASES
    from .generated import HOOKS, agree, measure
    agreed = sum(agree(case, hook) for case in CASES if case.name != "nat, udp" for hook in HOOKS)
    return {"agreed": agreed, "rows": [asdict(row) for row in measure(rounds)]}


def latency(rounds: int) -> dict[str, Any]:
    from .latency import measure
    return dict(measure(max(rounds // 4, 3)))


def beside(name: str) -> Callable[[int], dict[str, Any]]:
    """Ours beside the kernel's own: see yardsticks.py."""
    def section(rounds: int) -> dict[str, Any]:
        from .rivals import RIVALS
        from .yardsticks import measure
        return dict(measure(RIVALS[name], max(rounds // 8, 3))) | {"bars": RIVALS[name].bars}
    return section


def prefixes(rounds: int) -> dict[str, Any]:
    from .prefixes import measure
    return dict(measure(max(rounds // 4, 3)))


def edges(rounds: int) -> dict[str, Any]:
    from .edges import measure
    return dict(measure(rounds // 2 + 1))


def fairness(rounds: int) -> dict[str, Any]:
    from .fairness import measure
    return dict(measure(max(rounds // 10, 1)))


def hops(rounds: int) -> dict[str, Any]:
    from .hops import measure
    return dict(measure(rounds))


def provisioning(rounds: int) -> dict[str, Any]:
    from .provisioning import measure
    return dict(measure(rounds=max(rounds // 2, 3)))


def balancer(rounds: int) -> dict[str, Any]:
    from .balancer import measure
    return {"rows": measure(rounds // 2 + 1)}


def chain(rounds: int) -> dict[str, Any]:
    from .chain import measure
    return {"rows": measure(max(rounds // 8, 3))}


def flooding(rounds: int) -> dict[str, Any]:
    from .early import measure
    return dict(measure(rounds // 4 + 1))


def costs(rounds: int) -> dict[str, Any]:
    from .costs import measure
    return {"rows": measure(rounds // 4 + 1)}


def policing(rounds: int) -> dict[str, Any]:
    from .rates import measure, policer, policer_by_flow, policer_of_classes
    return measure(policer, policer_of_classes, policer_by_flow)


def shaping(rounds: int) -> dict[str, Any]:
    from .rates import measure, shaper, shaper_of_classes
    return measure(shaper, shaper_of_classes, shaper)


BESIDE = {"switching": "Beside Linux: switch and bridge", "routing": "Beside Linux: router and routing",
          "filtering100": "Beside Linux: router with firewall, and routing with nftables, 100 rules",
          "filtering10000": "Beside Linux: the same, 10,000 rules",
          "translating": "Beside Linux: router with nat, and routing with masquerade",
          "protecting": "Beside Linux: router, firewall and nat, and routing with nftables (100 rules) and masquerade"}
SECTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "generated": generated, "latency": latency, **{name: beside(name) for name in BESIDE},
    "prefixes": prefixes, "edges": edges,
    "fairness": fairness, "provisioning": provisioning, "balancer": balancer, "chain": chain,
    "policing": policing, "shaping": shaping, "costs": costs, "hops": hops, "flooding": flooding}


def show_generated(found: dict[str, Any]) -> tuple[str, list[bool]]:
    lines = [f"{found['agreed']} packets gave the same verdict, bytes, tables and drops in Python, compiled Python and "
             "C before anything was timed.", "",
             "Pairs are compiled Python / C.  *Emitted* instructions are the compiler's; *in the kernel* are those "
             "left after the verifier, which folds the configuration.  Nanoseconds are CPU time a packet, net of an "
             "empty program; the ratio is the median of the rounds' ratios.  Bar: instructions in the kernel and time "
             "at most 1.15 times those of C.", "",
             "| function | hook | emitted | in the kernel | ratio | native bytes | ratio | stack | ns | ratio | bar |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    kept = []
    for row in found["rows"]:
        (a, b), (c, d), (e, f), (g, h) = (row[n] for n in ("instructions", "verified", "bytes", "stack"))
        x, y = row["nanoseconds"]
        kept.append(c / d <= 1.15 and row["ratio"] <= 1.15)
        lines.append(f"| {row['case']} | {row['hook']} | {a} / {b} | {c} / {d} | {c / d:.2f} | {e} / {f} | "
                     f"{e / f:.2f} | {g} / {h} | {x:.1f} / {y:.1f} | **{row['ratio']:.2f}** | "
                     f"{'kept' if kept[-1] else 'missed'} |")
    return "\n".join(lines), kept


def show_latency(found: dict[str, Any]) -> tuple[str, list[bool]]:
    rows = [("import iovisor.language", "import", 60.0), ("the switch compiled and loaded, cold", "cold", 150.0),
            ("... front end, LLVM's import beside it", "frontend", None), ("... waiting for LLVM", "waiting", None),
            ("... LLVM", "llvm", None), ("... maps and load", "load", None),
            ("kept image, first in its process, with load", "kept", None),
            ("kept image, with load", "again", 5.0)]
    kept = [found[name] <= bar for _, name, bar in rows if bar is not None]
    lines = ["| what | ms | bar |", "|---|---|---|"]
    for text, name, bar in rows:
        said = "" if bar is None else f"{bar:.0f}: {'kept' if found[name] <= bar else 'missed'}"
        lines.append(f"| {text} | {found[name]:.1f} | {said} |")
    return "\n".join(lines), kept


def show_beside(found: dict[str, Any]) -> tuple[str, list[bool]]:
    rows = {"gigabits": "TCP, iperf3, one stream, Gbit/s",
            "packets": "64-byte UDP, a known flow, packets a second and CPU",
            "trips": "a byte and its answer over TCP, a second",
            "connections": "connections opened and closed, a second"}
    lines, kept = ["| on the same veths, in turns | ours | Linux's | ratio | bar |", "|---|---|---|---|---|"], []
    for name, text in rows.items():
        ours, theirs, ratio = found[name]
        bar = found.get("bars", {}).get(name, 1.0)
        kept.append(ratio >= bar)
        digits = 1 if name == "gigabits" else 0
        lines.append(f"| {text} | {ours:,.{digits}f} | {theirs:,.{digits}f} | **{ratio:.2f}** | "
                     f"{bar}: {'kept' if kept[-1] else 'missed'} |")
    return "\n".join(lines), kept


def show_prefixes(found: dict[str, Any]) -> tuple[str, list[bool]]:
    lines, kept = ["One hot destination, or 65,536 in turn, each of another route where there are so many.  Bar: a hot "
                   "one costs at most twice as much among 100,000 routes as among 10.", "",
                   "| nanoseconds a packet, data path alone | 10 routes | 100,000 routes | ratio | bar |",
                   "|---|---|---|---|---|"], []
    for version in (4, 6):
        for destinations, text in ((1, "one destination"), (65_536, "65,536 destinations")):
            few, many = (found[f"{version} {count} {destinations}"] for count in (10, 100_000))
            said = ""
            if destinations == 1:
                kept.append(many <= 2 * few)
                said = "2: kept" if kept[-1] else "2: missed"
            lines.append(f"| IPv{version}, {text} | {few:.0f} | {many:.0f} | **{many / few:.2f}** | {said} |")
    return "\n".join(lines), kept


def show_edges(found: dict[str, Any]) -> tuple[str, list[bool]]:
    from .edges import AGAINST_BRIDGE, AGAINST_DIRECT
    lines, kept = ["| 64 bytes, from one workload to another, by | CPU ns a packet | to the bridge's, bar "
                   f"{AGAINST_BRIDGE} | to the pair's, bar {AGAINST_DIRECT} |", "|---|---|---|---|"], []
    for kind, text in (("switch", "one switch, handed over at the far end"), ("through", "a function of two ports")):
        told = []
        for other, bar in (("bridge", AGAINST_BRIDGE), ("direct", AGAINST_DIRECT)):
            ratio = found[f"{kind} to {other}"]
            kept.append(ratio <= bar)
            told.append(f"**{ratio:.2f}** {'kept' if kept[-1] else 'missed'}")
        lines.append(f"| {text} | {found[kind]:.0f} | {told[0]} | {told[1]} |")
    lines += [f"| {text} | {found[kind]:.0f} |  |  |" for kind, text in (
        ("bridge", "the Linux bridge"), ("direct", "a veth pair, nothing in between"))]
    return "\n".join(lines), kept


def show_flooding(found: dict[str, Any]) -> tuple[str, list[bool]]:
    from .early import FLOOR, LEAST, LEAST_MANY, MOST
    lines, kept = ["Frames of 64 bytes, made by a driver, at a device of the host.", "",
                   f"| dropped by | CPU ns a packet | million a second | of the first's, bar {LEAST} | of TC's |",
                   "|---|---|---|---|---|",
                   "| a program that only drops, at XDP in the driver | "
                   f"{found[FLOOR]:.0f} | {1e3 / found[FLOOR]:.1f} |  |  |"], []
    for hook, text in (("xdp-native", "ddos (a blocked /24), at XDP in the driver"),
                       ("xdp-generic", "... at XDP in the stack"), ("tc", "... at TC")):
        rate = found[f"rate of {hook} to {FLOOR}"]
        said = f"**{rate:.2f}**"
        if hook == "xdp-native":
            kept.append(rate >= LEAST)
            said += f" {'kept' if kept[-1] else 'missed'}"
        beside = found.get(f"rate of {hook} to tc", 1.0)
        lines.append(f"| {text} | {found[hook]:.0f} | {1e3 / found[hook]:.1f} | {said} | {beside:.2f} |")
    for way, text in (("many /24", "ddos at XDP in the driver, a million prefixes: 65,536 sources in blocked /24s"),
                      ("many /32", "... 65,536 sources blocked one by one")):
        rate = found[f"rate of {way} to {FLOOR}"]
        kept.append(rate >= LEAST_MANY)
        lines.append(f"| {text} | {found[way]:.0f} | {1e3 / found[way]:.1f} | **{rate:.2f}** (bar {LEAST_MANY}) "
                     f"{'kept' if kept[-1] else 'missed'} |  |")
    lines += ["", f"| let through to a workload | CPU ns a packet | to TC, bar {MOST} |", "|---|---|---|"]
    for hook, text in (("xdp-native", "met at XDP in the driver, and on at TC"),
                       ("xdp-generic", "met at XDP in the stack, and on at TC")):
        ratio = found[f"passing {hook} to tc"]
        kept.append(ratio <= MOST)
        said = "kept" if kept[-1] else "missed"
        lines.append(f"| {text} | {found[f'passing {hook}']:.0f} | **{ratio:.2f}** {said} |")
    return "\n".join([*lines, f"| met at TC | {found['passing tc']:.0f} |  |"]), kept


def show_fairness(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """No bar: what is fair depends on how many CPUs there are; an honest bulk flow is there to compare with."""
    lines = ["A network beside one that is in trouble, on the same CPUs: TCP (iperf3, one stream), and a request of "
             "one byte and its answer.", "",
             "| beside it | Gbit/s | alone | ratio | median us | alone | ratio | 99 of 100 us | alone |",
             "|---|---|---|---|---|---|---|---|---|"]
    said = {"loop": "a flood in a mesh of eight hubs, 1,000 frames a second",
            "punts": "20,000 punts a second, unserved",
            "bulk": "a TCP flow of an honest neighbour"}
    for name, text in said.items():
        row = found[name]
        lines.append(f"| {text} | {row['gigabits_under']:.1f} | {row['gigabits']:.1f} | **{row['throughput']:.2f}** | "
                     f"{row['median_under']:.0f} | {row['median']:.0f} | **{row['latency']:.2f}** | "
                     f"{row['worst_under']:.0f} | {row['worst']:.0f} |")
    return "\n".join(lines), []


def show_provisioning(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """Bars for a trivial function; what others take beside it is mostly the verifier's."""
    from .provisioning import BARS
    lines = ["Networks of a switch, a function of two ports and three cables, made one after the other and all kept; "
             "a change is one of the last network's.  What the last takes against the tenth says whether many cost "
             "more each.", "",
             "| the function | networks | endpoints/s | ms, the tenth | the last | ratio | s to close all | KiB each | "
             "ms link | unlink | insert | take out |", "|---|---|---|---|---|---|---|---|---|---|---|---|",
             "| bars |  | >= {rate:.0f} |  |  | {growth} | {close:.0f} | {memory} | {link:.0f} | {unlink:.0f} | "
             "{insert:.0f} | {take_out:.0f} |".format(**BARS)]
    rows = {name: found[name] | {"growth": found[name]["last"] / found[name]["tenth"]} for name in ("through", "acl")}
    lines += [f"| {name} | {row['networks']:.0f} | {row['rate']:.0f} | {row['tenth']:.1f} | {row['last']:.1f} | "
              f"{row['growth']:.2f} | {row['close']:.1f} | {row['memory']:.0f} | {row['link']:.2f} | "
              f"{row['unlink']:.2f} | {row['insert']:.2f} | {row['take_out']:.2f} |" for name, row in rows.items()]
    row = rows["through"]
    kept = [row["rate"] >= BARS["rate"], *(row[name] <= bar for name, bar in BARS.items() if name != "rate")]
    missed = [name for name, good in zip(BARS, kept, strict=True) if not good]
    lines += ["", f"Missed: {', '.join(missed)}." if missed else "All bars are kept by the trivial function."]
    return "\n".join(lines), kept


def show_hops(found: dict[str, Any]) -> tuple[str, list[bool]]:
    from .hops import BAR, LENGTHS
    kept = [found["ratio"] <= BAR]
    lines = ["A walk through a chain of trivial functions, by test run, and through the same in C, whose programs call "
             "each other; ours have a program between any two, so that a link can be turned by itself.  An empty "
             "program takes some 35 ns of these.  Beyond a dozen programs the walk outgrows what the CPU remembers of "
             "jumps, sooner for twice as many.", "",
             f"| ns, functions in the chain | {' | '.join(map(str, LENGTHS))} | a hop, up to 8 |",
             "|---|" + "---|" * (len(LENGTHS) + 1)]
    for name, text in (("ours", "linked by the fabric"), ("c", "C")):
        lines.append(f"| {text} | " + " | ".join(f"{found[f'{name} {n}']:.0f}" for n in LENGTHS)
                     + f" | {found[name]:.1f} |")
    lines += ["", f"A hop to one of C: **{found['ratio']:.2f}**, bar {BAR}: {'kept' if kept[0] else 'missed'}"]
    return "\n".join(lines), kept


def show_balancer(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """Known flows have a bar."""
    from .balancer import BAR
    lines = ["By test run, net of an empty program.  *Known*: decided on this CPU within the last second; *looked up*: "
             "by the tables of flows; *new*: frame by frame, with cold caches.  Katran's own program took 142 ns for "
             f"known flows on a machine like this; the bar for them is {BAR:.0f}.", "",
             "| hook | mode | TCP, IPv4 | TCP, IPv6 | UDP, IPv4 | TCP, IPv4, looked up | new | instructions | bar |",
             "|---|---|---|---|---|---|---|---|---|"]
    kept = []
    for hook, mode in dict.fromkeys((row["hook"], row["mode"]) for row in found["rows"]):
        rows = {row["packet"]: row for row in found["rows"] if (row["hook"], row["mode"]) == (hook, mode)}
        spent = [row["nanoseconds"] for row in rows.values()]
        kept.append(max(spent[:3]) <= BAR)
        lines.append(f"| {hook} | {mode} | " + " | ".join(f"{value:.0f}" for value in spent)
                     + f" | {next(iter(rows.values()))['instructions']} | {'kept' if kept[-1] else 'missed'} |")
    return "\n".join(lines), kept


def show_chain(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """No bar: how it grows is what is asked."""
    lines = ["64 bytes of UDP through the first so many of switch, firewall, router, nat, balancer, at TC, between two "
             "workloads; CPU ns a packet.  *Alone* is the data path by test run, frame by frame, with cold caches, net "
             "of an empty program.", "",
             "| functions | the last is | known flow | more | alone | more | new flows | more | alone | more |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    before: dict[str, float] = {}
    for row in found["rows"]:
        cells = [f"{row[kind]:.0f} | {'' if kind not in before else f'+{row[kind] - before[kind]:.0f}'}"
                 for kind in ("known", "known alone", "new", "new alone")]
        lines.append(f"| {row['length']} | {row['last']} | " + " | ".join(cells) + " |")
        before = row
    return "\n".join(lines), []


def show_rates(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """Floods that are no more than the rate have no bar: how fast packets can be made decides them."""
    from .rates import BURST
    lines, kept = ["Floods.  Bars: an error of 0.5 % in the long run, an effective burst of 1.1 times the one "
                   f"configured (20 ms of the rate, at least {BURST[0] >> 10} KiB, {BURST[1] >> 10} KiB for "
                   "aggregates).  *Offered* is what one CPU makes while it also carries what passes.", "",
                   "| rate | bytes of a frame | offered, packets/s | IPv4: error, % | effective burst | "
                   "IPv6: error, % | effective burst | bars |", "|---|---|---|---|---|---|---|---|"], []
    floods: dict[tuple[str, str], dict[int, Any]] = {}
    for row in found["floods"]:
        segments = row.get("segments")
        size = f"{row['size'] - row['family'] // 6 * 20}, {segments} an aggregate" if segments else str(row["size"])
        size += f", {row['flows']} flows" if row.get("flows", 1) > 1 else ""
        floods.setdefault((row["rate"], size), {})[row["family"]] = row
    for (rate, size), rows in floods.items():
        reached = all(row["offered"] * row["size"] * 8 > 1.02 * data_rate(rate) for row in rows.values())
        said = "not reached"
        if reached:
            kept.append(all(abs(row["error"]) <= 0.5 and row["burst"] <= 1.1 for row in rows.values()))
            said = "kept" if kept[-1] else "missed"
        cells = [cell for family in (4, 6) for cell in (f"**{rows[family]['error']:+.3f}**",
                                                        f"**{rows[family]['burst']:.2f}**")]
        offered = min(row["offered"] for row in rows.values())
        lines.append(f"| {rate} | {size} | {offered:,.0f} | {' | '.join(cells)} | {said} |")
    lines += ["", "TCP, one stream, its share of the rate, headers counted, after a second (at 1 Mbit/s eight: BBR's "
              "start loses what a queue of 128 KiB cannot hold, as it does behind Linux's TBF; what is lost then may "
              "be told late, as more than the rate).  Bar: 0.9.", "",
              "| rate | IPv4, BBR | IPv4, CUBIC | IPv6, CUBIC |", "|---|---|---|---|"]
    shares = {(rate, family, control): share for rate, family, control, share in found["tcp"]}
    for rate in dict.fromkeys(rate for rate, _, _ in shares):
        row = [shares.get((rate, family, control)) for family, control in ((4, "bbr"), (4, "cubic"), (6, "cubic"))]
        kept += [share >= 0.9 for share in row if share is not None]
        lines.append(f"| {rate} | {' | '.join('' if share is None else f'**{share:.2f}**' for share in row)} |")
    lines += ["", "Sixteen equal flows, Jain's index, at 50 Mbit/s.  Bar: above 0.99.", "",
              "| | IPv4 | IPv6 |", "|---|---|---|"]
    equal: dict[str, dict[int, float]] = {}
    for row in found["shared"]:
        equal.setdefault(f"a flood, {row['size']} bytes", {})[row["family"]] = row["jain"]
    for family, control, _, index in found["equal"]:
        equal.setdefault(control.upper(), {})[family] = index
    for text, indexes in equal.items():
        kept += [index > 0.99 for index in indexes.values()]
        lines.append(f"| {text} | {' | '.join(f'**{indexes[family]:.4f}**' for family in (4, 6))} |")
    if found["divided"]:
        lines += ["", "Three classes of 1, 4 and 11 flows, all of which want more, at 50 Mbit/s: what each gets "
                  "of what it should, 30, 15 and 5 (its ceiling).  Bar: 2 %.", "", "| | 1 flow | 4 flows | 11 flows |",
                  "|---|---|---|---|"]
        for family, parts in found["divided"]:
            kept += [abs(part - 1) <= 0.02 for part in parts]
            lines.append(f"| IPv{family} | {' | '.join(f'**{part:.3f}**' for part in parts)} |")
    lines += ["", "A flow of 1 Mbit/s in a class of its own, at 50 Mbit/s, from one host's device to the other's.  "
              "Bars: nothing lost, 99 of 100 at most 1 ms later than alone (median).", "",
              "| beside | sent | lost | alone: median us | 99 of 100 | then: median us | 99 of 100 | later | bars |",
              "|---|---|---|---|---|---|---|---|---|"]
    bulk = {"udp": "a flood of frames of 1,514 bytes, 16 flows", "tcp": "16 flows of TCP, aggregates of up to 64 KiB"}
    for row in found["prompt"]:
        kept.append(row["beside lost"] == 0 and row["added"] < 1_000)
        lines.append(f"| {bulk[row['bulk']]}, IPv{row['family']} | {row['beside sent']} | {row['beside lost']} | "
                     f"{row['alone median']:.1f} | {row['alone p99']:.1f} | {row['beside median']:.1f} | "
                     f"{row['beside p99']:.1f} | **{row['added']:.1f}** | {'kept' if kept[-1] else 'missed'} |")
    return "\n".join(lines), kept


def show_costs(found: dict[str, Any]) -> tuple[str, list[bool]]:
    """No bar: what it costs is what is asked."""
    kinds = list(found["rows"][0]["nanoseconds"])
    lines = ["A packet of a known flow at TC, 60 to 80 bytes, by test run, net of an empty program; nanoseconds.", "",
             f"| function | {' | '.join(kinds)} | instructions |", "|---|" + "---|" * (len(kinds) + 1)]
    for row in found["rows"]:
        cells = [f"{row['nanoseconds'][kind]:.0f}" for kind in kinds]
        lines.append(f"| {row['function']} | {' | '.join(cells)} | {row['instructions']} |")
    return "\n".join(lines), []


SHOWN: dict[str, tuple[str, Callable[[dict[str, Any]], tuple[str, list[bool]]]]] = {
    "generated": ("Generated code against C", show_generated),
    "latency": ("Waiting", show_latency),
    **{name: (title, show_beside) for name, title in BESIDE.items()},
    "prefixes": ("Among many routes", show_prefixes),
    "edges": ("From edge to edge", show_edges),
    "fairness": ("A neighbour in trouble", show_fairness),
    "provisioning": ("Networks that come and go", show_provisioning),
    "balancer": ("The balancer", show_balancer),
    "chain": ("A chain of five", show_chain),
    "policing": ("Rates: the policer", show_rates),
    "shaping": ("Rates: the shaper", show_rates),
    "costs": ("What metering, marking, copying and counting costs", show_costs),
    "hops": ("From function to function", show_hops),
    "flooding": ("A flood at the door", show_flooding)}


def report(results: dict[str, Any]) -> tuple[str, bool]:
    """The page, and whether every bar is kept."""
    parts, good = [HEAD], True
    for name, (title, shown) in SHOWN.items():
        if name in results:
            text, kept = shown(results[name])
            parts.append(f"## {title}\n\n{results[name]['machine']}\n\n{text}")
            good &= all(kept)
    return "\n\n".join(parts) + "\n", good


HEAD = """# Benchmarks

Written by `make bench`; `python -m benchmarks SECTION` repeats one section.  Variants are interleaved and shuffled in
every round, on the same packets and maps; medians are given, and ratios are what transfers to other machines.

`c/` holds the yardsticks: each function as a C programmer would write it, compiled by clang -O2 -mcpu=v4."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and compare with the bars.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=41)
    chosen = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in chosen.sections or SECTIONS:
        print(f"measuring: {name}", file=sys.stderr)
        results[name] = {"machine": machine()} | SECTIONS[name](chosen.rounds)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    page, good = report(results)
    (HERE / "README.md").write_text(page)
    print(page)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
