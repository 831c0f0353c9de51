"""Copies of networks: export, import, clone, snapshot, restore."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import Abbreviated
from .changes import NETWORK, _progress, _tell, _text
from .client import Client, host_option, network_of
from .errors import Unusable
from .output import ago, output_option, show


@click.command("export", short_help="Write a network into one file.")
@NETWORK
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--tables", is_flag=True, help="Also what its functions have learned.")
@host_option
def export(network: str, file: str, tables: bool, client: Client) -> None:
    """Write everything of NETWORK into FILE, or to where output goes: its document, and its functions' own code."""
    tenant, name = network_of(client, network)
    text = json.dumps(client.get("tenants", tenant, "networks", name, "export", tables=tables), indent=1)
    if file == "-":
        click.echo(text)
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")


@click.command("import", short_help="Apply a network from a file of `export`.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--as", "name", metavar="TENANT/NETWORK", default="", help="Under another name.")
@output_option
@host_option
def import_(file: str, name: str, output: str, client: Client) -> None:
    """Apply what `iovisor export` wrote into FILE."""
    try:
        found = json.loads(_text(file))
    except ValueError:
        raise Unusable(f"{file} is no exported network: `iovisor export` writes one") from None
    to = dict(zip(("tenant", "network"), pair(name), strict=True)) if name else {}
    with _progress("importing"):
        done = client.post("import", exported=found, **to)
    _tell(output, [done], "is")


@click.command("clone", short_help="The same network under another name.")
@NETWORK
@click.argument("to", metavar="TENANT/NETWORK")
@click.option("--rebind", "-r", multiple=True, metavar="ENDPOINT=KIND:NAME",
              help="What an endpoint is attached to there: web1=netns:stage1, vm=tap:t0, wan=device:eth1. Others stay "
                   "open.")
@click.option("--learned", is_flag=True, help="Also what the functions have learned: stations, sessions.")
@output_option
@host_option
def clone(network: str, to: str, rebind: tuple[str, ...], learned: bool, output: str, client: Client) -> None:
    """Make of NETWORK another, independent one: the same addresses inside, endpoints attached elsewhere."""
    tenant, name = network_of(client, network)
    new_tenant, new_name = pair(to)
    bound = dict(map(_bound, rebind))
    with _progress("cloning"):
        done = client.post("tenants", tenant, "networks", name, "clone", tenant=new_tenant, network=new_name,
                           rebind=bound, learned=learned)
    _tell(output, [done], "is")


@click.group("snapshot", cls=Abbreviated, short_help="Keep what stands: take, ls, rm.")
def snapshot() -> None:
    """Keep what stands under a name, to come back to."""


@snapshot.command("take")
@NETWORK
@click.argument("name")
@click.option("--tables", is_flag=True, help="Also what its functions have learned.")
@host_option
def take(network: str, name: str, tables: bool, client: Client) -> None:
    """Keep NETWORK as it stands, under NAME."""
    tenant, its = network_of(client, network)
    done = client.post("tenants", tenant, "networks", its, "snapshots", name=name, tables=tables)
    click.echo(f"{tenant}/{its}: revision {done['revision']} is kept as {name}"
               + (", with what was learned" if tables else ""))


@snapshot.command("ls")
@NETWORK
@output_option
@host_option
def ls(network: str, output: str, client: Client) -> None:
    """The snapshots of NETWORK."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "snapshots")
    if output in ("table", "wide"):
        found = [{**one, "at": ago(one["at"])} for one in found]
    show(output, found, ("name", "revision", "at", "by", "tables"))


@snapshot.command("rm")
@NETWORK
@click.argument("name")
@host_option
def rm(network: str, name: str, client: Client) -> None:
    """Remove a snapshot."""
    tenant, its = network_of(client, network)
    client.ask("DELETE", f"/v1/tenants/{tenant}/networks/{its}/snapshots/{name}")


@click.command("restore", short_help="Go back to a snapshot.")
@NETWORK
@click.argument("name")
@output_option
@host_option
def restore(network: str, name: str, output: str, client: Client) -> None:
    """Make NETWORK what the snapshot NAME kept, and give its functions back what they knew."""
    tenant, its = network_of(client, network)
    with _progress("restoring"):
        done = client.post("tenants", tenant, "networks", its, "snapshots", name, "restore")
    _tell(output, [done], "is")


def pair(text: str) -> tuple[str, str]:
    tenant, slash, network = text.partition("/")
    if not (slash and tenant and network) or "/" in network:
        raise Unusable(f"{text!r} names no network: write TENANT/NETWORK")
    return tenant, network


def _bound(text: str) -> tuple[str, dict[str, Any]]:
    name, equals, what = text.partition("=")
    kind, colon, value = what.partition(":")
    if not (equals and colon and name and value) or kind not in ("netns", "tap", "device"):
        raise Unusable(f"--rebind takes ENDPOINT=netns:NAME, =tap:NAME or =device:NAME, not {text!r}")
    return name, {kind: value}
