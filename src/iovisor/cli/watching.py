"""What happens: events, counters, the busiest ports, the balance; and the graph.

Streams end with Ctrl-C, which is no error.
"""
from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import click

from .changes import NETWORK
from .client import Client, host_option, network_of
from .columns import columns
from .errors import Unusable
from .output import output_option, show_one


@click.command("events", short_help="What happens to networks, as it happens.")
@output_option
@host_option
def events(output: str, client: Client) -> None:
    """Say what happens to networks, until Ctrl-C: applied, rolled back, mended, destroyed."""
    with until_interrupted():
        for what, event in client.stream("events"):
            if output == "json":
                click.echo(json.dumps(event, ensure_ascii=False))
                continue
            details = [f"{name}={value}" for name, value in event["details"].items() if value not in ("", 0, None)]
            name = "/".join(filter(None, (event["tenant"], event["network"])))
            at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
            click.echo(f"{at}  {what:13} {name:24} {' '.join(details)}".rstrip())


@click.command("counters", short_help="Packets by port, drops by function and reason.")
@NETWORK
@click.option("--follow", "-f", is_flag=True, help="Again every second, and how many in between.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True)
@output_option
@host_option
def counters(network: str, follow: bool, interval: float, output: str, client: Client) -> None:
    """Packets and bytes by port of NETWORK, and its drops by function and reason."""
    tenant, name = network_of(client, network)
    path = ("tenants", tenant, "networks", name, "counters")
    if not follow:
        _counted(output, client.get(*path), None, 0)
        return
    before = None
    with until_interrupted():
        for what, found in client.stream(*path, "stream", interval=interval):
            if what == "end":
                raise Unusable(found["detail"])
            if output == "table" and before is not None:
                click.clear()
            _counted(output, found, before, interval)
            before = found


@click.command("graph", short_help="A network as a picture: text, or Graphviz.")
@NETWORK
@click.option("--dot", is_flag=True, help="For Graphviz: iovisor graph NET --dot | dot -Tsvg")
@output_option
@host_option
def graph(network: str, dot: bool, output: str, client: Client) -> None:
    """What is joined to what in NETWORK."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "graph")
    if dot:
        click.echo("graph {\n  node [shape=box]; rankdir=LR")
        for node in found["nodes"]:
            shape = "ellipse" if node["kind"] == "endpoint" else "box"
            label = node["name"] if node["kind"] == "endpoint" else f"{node['name']}\\n{node['kind']}"
            click.echo(f'  "{node["name"]}" [label="{label}" shape={shape}]')
        for edge in found["edges"]:
            a, b = (end.partition(":") for end in (edge["a"], edge["b"]))
            click.echo(f'  "{a[0]}" -- "{b[0]}" [taillabel="{a[2]}" headlabel="{b[2]}"]')
        click.echo("}")
    elif output in ("json", "yaml"):
        show_one(output, found)
    else:
        for node in found["nodes"]:
            if node["kind"] != "endpoint":
                click.echo(click.style(node["name"], bold=True) + f"  {node['kind']}")
                for edge in found["edges"]:
                    for here, there in ((edge["a"], edge["b"]), (edge["b"], edge["a"])):
                        if here.partition(":")[0] == node["name"]:
                            click.echo(f"    {here.partition(':')[2]:12} ── {there}")


@click.command("top", short_help="The busiest ports, again and again.")
@NETWORK
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True)
@click.option("--lines", "-n", type=click.IntRange(1, 1000), default=20, show_default=True)
@host_option
def top(network: str, interval: float, lines: int, client: Client) -> None:
    """The ports of NETWORK that carry most, and what is dropped meanwhile, until Ctrl-C."""
    tenant, name = network_of(client, network)
    before = None
    with until_interrupted():
        for what, found in client.stream("tenants", tenant, "networks", name, "counters", "stream", interval=interval):
            if what == "end":
                raise Unusable(found["detail"])
            if before is not None:
                click.clear()
                click.echo(busiest(found, before, interval, lines))
            before = found


def busiest(now: Any, before: Any, interval: float, lines: int) -> str:
    """Ports by what went through them between two readings, and the drops."""
    rows = []
    for port, counted in now["ports"].items():
        was = before["ports"].get(port, counted)
        rates = [(counted[way] - was[way]) / interval for way in ("received", "sent", "received bytes", "sent bytes")]
        if any(rates):
            rows.append((-rates[2] - rates[3], [port, f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{8 * rates[2] / 1e6:.2f}",
                                                f"{8 * rates[3] / 1e6:.2f}"]))
    rows.sort()
    drops = [[name, reason, count - before["drops"].get(name, {}).get(reason, 0)]
             for name, reasons in now["drops"].items() for reason, count in reasons.items()]
    told = columns(["PORT", "IN/S", "OUT/S", "IN MBIT/S", "OUT MBIT/S"], [row for _, row in rows[:lines]], indent="")
    fallen = [row for row in drops if row[2]]
    return told + ("\n\n" + columns(["DROPPED BY", "REASON", "PACKETS"], fallen, indent="") if fallen else "")


@click.command("balance", short_help="Everything in against everything out.")
@NETWORK
@output_option
@host_option
def balance(network: str, output: str, client: Client) -> None:
    """What came into NETWORK against what left it or ended there, packet for packet."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "balance")
    told = found.pop("text")
    if output in ("json", "yaml"):
        show_one(output, found)
    else:
        click.echo(told)


def _counted(output: str, found: Any, before: Any, interval: float) -> None:
    if output in ("json", "yaml", "name"):
        show_one(output, found)
        return
    rows = []
    for port, now in found["ports"].items():
        was = (before or found)["ports"].get(port, now)
        rates = [(now[way] - was[way]) / interval for way in ("received", "sent")] if before else []
        rows.append([port, now["received"], now["sent"], now["received bytes"], now["sent bytes"], *rates])
    heads = ["PORT", "RECEIVED", "SENT", "RECEIVED BYTES", "SENT BYTES", *(["IN/S", "OUT/S"] if before else [])]
    click.echo(columns(heads, rows, indent=""))
    drops = [[name, reason, count] for name, reasons in found["drops"].items() for reason, count in reasons.items()]
    if drops:
        click.echo("\n" + columns(["DROPPED BY", "REASON", "PACKETS"], drops, indent=""))


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    with contextlib.suppress(KeyboardInterrupt):
        yield
