"""What there is, noun by noun: tenant, network, function, port, endpoint, link, token; each has `ls`."""
from __future__ import annotations

import json
from typing import Any

import click

from . import Abbreviated
from .changes import NETWORK
from .client import Client, Live, host_option, network_of, part_of
from .errors import Unusable
from .output import ago, output_option, show, show_one

FUNCTION = click.argument("function", type=Live("functions"), metavar="[TENANT/]NETWORK/FUNCTION")
TENANT = click.argument("tenant", type=Live("tenants"))


def _of(client: Client, network: str, what: str) -> list[dict[str, Any]]:
    tenant, name = network_of(client, network)
    found: list[dict[str, Any]] = client.get("tenants", tenant, "networks", name, what)
    return found


# -- tenants ---------------------------------------------------------------------------------------------------------

@click.group("tenant", cls=Abbreviated, short_help="Who owns networks: ls, show, set, rm.")
def tenant() -> None:
    """Who owns networks, and what they may have."""


@tenant.command("ls")
@output_option
@host_option
def tenant_ls(output: str, client: Client) -> None:
    """All tenants."""
    show(output, client.get("tenants"), ("tenant", "networks", "quota"), ("description",))


@tenant.command("show")
@TENANT
@output_option
@host_option
def tenant_show(tenant: str, output: str, client: Client) -> None:
    """A tenant's document."""
    show_one(output, client.get("tenants", tenant))


@tenant.command("set")
@TENANT
@click.option("--quota", "-q", multiple=True, metavar="NAME=VALUE",
              help="networks, functions, endpoints, links, tables (64MiB), punts.")
@click.option("--description", default="")
@host_option
def tenant_set(tenant: str, quota: tuple[str, ...], description: str, client: Client) -> None:
    """Make TENANT, or change what it may have."""
    client.ask("PUT", f"/v1/tenants/{tenant}", {"description": description, "quota": dict(map(_setting, quota))})
    click.echo(f"tenant {tenant} is set")


@tenant.command("rm")
@TENANT
@host_option
def tenant_rm(tenant: str, client: Client) -> None:
    """Forget TENANT, which must have no networks, and its tokens."""
    client.ask("DELETE", f"/v1/tenants/{tenant}")


# -- networks --------------------------------------------------------------------------------------------------------

@click.group("network", cls=Abbreviated, short_help="Networks: ls, show.")
def network() -> None:
    """Networks that are applied."""


@network.command("ls")
@output_option
@host_option
def network_ls(output: str, client: Client) -> None:
    """All networks."""
    found = client.get("networks")
    if output in ("table", "wide"):
        found = [{**one, "network": f"{one['tenant']}/{one['network']}", "applied": ago(one["applied"]),
                  "troubles": "; ".join(f"{wrong['what']}: {wrong['why']}" for wrong in one["troubles"])}
                 for one in found]
    troubled = ("troubles",) if any(one["troubles"] for one in found) else ()
    show(output, found, ("network", "state", "revision", "applied", "functions", "endpoints", *troubled),
         ("links", "by", "message"), lambda one: f"{one['tenant']}/{one['network']}")


@network.command("show")
@NETWORK
@output_option
@host_option
def network_show(network: str, output: str, client: Client) -> None:
    """The document of NETWORK, as `iovisor apply` takes it."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name)
    if output in ("json", "name"):
        show_one(output, found)
    else:
        click.echo(found["text"].rstrip())


# -- what is in them -------------------------------------------------------------------------------------------------

@click.group("function", cls=Abbreviated, short_help="Functions: ls, show, run, kinds.")
def function() -> None:
    """Functions of networks."""


@function.command("ls")
@NETWORK
@output_option
@host_option
def function_ls(network: str, output: str, client: Client) -> None:
    """The functions of NETWORK."""
    show(output, _of(client, network, "functions"), ("name", "kind", "ports", "drops"), ("labels",))


@function.command("show")
@FUNCTION
@output_option
@host_option
def function_show(function: str, output: str, client: Client) -> None:
    """Configuration, tables, drops and actions of FUNCTION."""
    tenant, network, name = part_of(client, function)
    show_one(output, client.get("tenants", tenant, "networks", network, "functions", name))


@function.command("run")
@FUNCTION
@click.argument("action")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@output_option
@host_option
def function_run(function: str, action: str, arguments: tuple[str, ...], output: str, client: Client) -> None:
    """Call ACTION of FUNCTION; `iovisor function show` says which there are."""
    tenant, network, name = part_of(client, function)
    done = client.post("tenants", tenant, "networks", network, "functions", name, "actions", action.replace("-", "_"),
                       arguments=dict(map(_setting, arguments)))["answer"]
    if isinstance(done, list) and done and all(isinstance(row, dict) for row in done):
        show(output, done, list(done[0]))
    elif output == "json" or isinstance(done, (dict, list)):
        show_one(output, done)
    elif done is not None:
        click.echo(done)


@function.command("kinds")
@output_option
@host_option
def function_kinds(output: str, client: Client) -> None:
    """The kinds of functions there are."""
    show(output, client.get("kinds"), ("kind", "ports"))


@click.group("port", cls=Abbreviated, short_help="Ports: ls.")
def port() -> None:
    """Ports that are joined, and what went through them."""


@port.command("ls")
@NETWORK
@output_option
@host_option
def port_ls(network: str, output: str, client: Client) -> None:
    """The ports of NETWORK."""
    show(output, _of(client, network, "ports"), ("port", "joined", "received", "sent"),
         ("number", "received bytes", "sent bytes"))


@click.group("endpoint", cls=Abbreviated, short_help="Endpoints: ls.")
def endpoint() -> None:
    """Workloads' attachments."""


@endpoint.command("ls")
@NETWORK
@output_option
@host_option
def endpoint_ls(network: str, output: str, client: Client) -> None:
    """The endpoints of NETWORK."""
    show(output, _of(client, network, "endpoints"), ("name", "state", "attached", "addresses", "port"),
         ("received", "received bytes", "sent", "sent bytes", "labels"))


@click.group("link", cls=Abbreviated, short_help="Links: ls.")
def link() -> None:
    """What is joined."""


@link.command("ls")
@NETWORK
@output_option
@host_option
def link_ls(network: str, output: str, client: Client) -> None:
    """The links of NETWORK."""
    show(output, _of(client, network, "links"), ("link", "path"))


@click.group("peer", cls=Abbreviated, short_help="Gateways to other networks: ls, revoke.")
def peer() -> None:
    """Gateways: endpoints that name one of another network, which names them in return."""


@peer.command("ls")
@NETWORK
@output_option
@host_option
def peer_ls(network: str, output: str, client: Client) -> None:
    """The gateways of NETWORK; one waits while the other side does not name it."""
    show(output, _of(client, network, "peers"), ("endpoint", "state", "peer"))


@peer.command("revoke")
@NETWORK
@click.argument("endpoint")
@host_option
def peer_revoke(network: str, endpoint: str, client: Client) -> None:
    """Close the gateway ENDPOINT of NETWORK, whatever the other side says."""
    tenant, name = network_of(client, network)
    done = client.ask("DELETE", f"/v1/tenants/{tenant}/networks/{name}/peers/{endpoint}")
    click.echo(f"{tenant}/{name}: revision {done['after']}, the gateway {endpoint} is closed")


# -- tokens ----------------------------------------------------------------------------------------------------------

@click.group("token", cls=Abbreviated, short_help="Tokens for the API: ls, create, rm.")
def token() -> None:
    """Tokens of those who ask over TCP."""


@token.command("ls")
@output_option
@host_option
def token_ls(output: str, client: Client) -> None:
    """The tokens there are."""
    found = client.get("tokens")
    if output in ("table", "wide"):
        found = [{**one, "at": ago(one["at"])} for one in found]
    show(output, found, ("id", "name", "role", "tenant", "at"))


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(("viewer", "owner", "admin")), default="viewer", show_default=True)
@click.option("--tenant", "-t", default="", type=Live("tenants"), help="Whose; none for an admin.")
@host_option
def token_create(name: str, role: str, tenant: str, client: Client) -> None:
    """A token called NAME.  It is shown once: keep it."""
    click.echo(client.post("tokens", name=name, role=role, tenant=tenant)["token"])


@token.command("rm")
@click.argument("id")
@host_option
def token_rm(id: str, client: Client) -> None:
    """Withdraw a token."""
    client.ask("DELETE", f"/v1/tokens/{id}")


def _setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE; what reads as JSON is."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Unusable(f"this takes NAME=VALUE, not {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value
