"""What happens: events, counters, graph, trace.

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
    with _until_interrupted():
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
    with _until_interrupted():
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


@click.command("trace", short_help="What would become of a packet, hop by hop.")
@NETWORK
@click.argument("at", metavar="ENDPOINT|FUNCTION:PORT")
@click.argument("frame", metavar="HEX")
@output_option
@host_option
def trace(network: str, at: str, frame: str, output: str, client: Client) -> None:
    """What would become of a packet that comes in AT an endpoint, or a port, of NETWORK: hop by hop, with the line of
    Python that decided.  The packet is given as hexadecimal bytes; nothing is sent, and nothing changes."""
    tenant, name = network_of(client, network)
    found = client.post("tenants", tenant, "networks", name, "trace", at=at, frame=frame)
    if output == "json":
        show_one(output, found["document"])
    else:
        click.echo(found["text"].rstrip())


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
def _until_interrupted() -> Iterator[None]:
    with contextlib.suppress(KeyboardInterrupt):
        yield
