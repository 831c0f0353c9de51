"""Packets: what would become of one, and what becomes of those that go by.

    trace, why      one that is described; nothing is sent
    watch, flows    those that go by, one by one or counted
    capture         those of a port, for Wireshark
"""
from __future__ import annotations

import json
import sys
import time
from typing import IO, Any

import click

from .changes import NETWORK
from .client import Client, host_option, network_of
from .columns import columns
from .errors import Unusable
from .output import output_option, show, show_one
from .watching import until_interrupted

PACKET = """A packet is given in words, or as hexadecimal bytes:

    tcp 10.1.0.11:40000 > 10.2.0.20:80 syn\b
    udp [2001:db8::11]:5353 > [2001:db8::20]:53\b
    icmp 10.1.0.11 > 10.2.0.20\b
    arp 10.1.0.11 > 10.1.0.1

Behind the addresses: vlan ID, ttl N, size N, mac FROM > TO."""
FILTERS = (("--function", "Only what this function does."), ("--port", "Only by this port: lan:0."),
           ("--verdict", "drop, forward, flood, punt or host."), ("--reason", "Only drops for this reason."),
           ("--mac", "From or to this station."), ("--vlan", "In this VLAN."),
           ("--address", "From or to this address or prefix."), ("--source", "From it."), ("--destination", "To it."),
           ("--protocol", "tcp, udp, icmp, icmp6 or a number."), ("--service", "From or to this port of tcp or udp."))


def _filtered(command: Any) -> Any:
    for option, text in reversed(FILTERS):
        command = click.option(option, help=text)(command)
    return command


def _traced(client: Client, network: str, at: str, packet: tuple[str, ...]) -> Any:
    tenant, name = network_of(client, network)
    said = " ".join(packet)
    try:
        asked = {"frame": bytes.fromhex(said).hex()}
    except ValueError:
        asked = {"packet": said}
    return client.post("tenants", tenant, "networks", name, "trace", at=at, **asked)


@click.command("trace", short_help="What would become of a packet, hop by hop.", epilog=PACKET)
@NETWORK
@click.argument("at", metavar="ENDPOINT|FUNCTION:PORT")
@click.argument("packet", nargs=-1, required=True)
@output_option
@host_option
def trace(network: str, at: str, packet: tuple[str, ...], output: str, client: Client) -> None:
    """What would become of a packet that comes in AT an endpoint, or a port, of NETWORK: hop by hop, with the line of
    Python that decided.  Nothing is sent, and nothing changes."""
    found = _traced(client, network, at, packet)
    if output == "json":
        show_one(output, found["document"])
    else:
        click.echo(found["text"].rstrip())


@click.command("why", short_help="Why a packet arrives, or does not.", epilog=PACKET)
@NETWORK
@click.argument("at", metavar="ENDPOINT|FUNCTION:PORT")
@click.argument("packet", nargs=-1, required=True)
@host_option
def why(network: str, at: str, packet: tuple[str, ...], client: Client) -> None:
    """What would become of a packet that comes in AT an endpoint of NETWORK, in a line for each copy: where it leaves,
    or who drops it, for what reason, at which line, and what was looked up."""
    for line in _traced(client, network, at, packet)["why"] or ["it goes nowhere"]:
        click.echo(line)


@click.command("watch", short_help="Packets as they go by.")
@NETWORK
@_filtered
@click.option("--count", "-c", type=click.IntRange(1), help="End after so many.")
@output_option
@host_option
def watch(network: str, count: int | None, output: str, client: Client, **wanted: str | None) -> None:
    """Packets of NETWORK as its functions deal with them, until Ctrl-C: what they are, and what becomes of them.  The
    kernel looks for those that match, and nothing is slower for the others."""
    tenant, name = network_of(client, network)
    seen = 0
    with until_interrupted():
        for what, found in client.stream("tenants", tenant, "networks", name, "watch", **wanted):
            if what == "end":
                raise Unusable(found["detail"])
            if output == "json":
                click.echo(json.dumps(found, ensure_ascii=False))
            else:
                at = time.strftime("%H:%M:%S", time.localtime(found["time"]))
                stage = "" if found["stage"] == "ingress" else f" {found['stage']}"
                click.echo(f"{at}.{int(found['time'] * 1e6) % 1_000_000:06} {found['at']}{stage} {found['verdict']}  "
                           f"{found['packet']}, {found['length']} bytes")
            seen += 1
            if seen == count:
                return


@click.command("flows", short_help="Who sends to whom, counted for a while.")
@NETWORK
@_filtered
@click.option("--seconds", "-s", type=click.FloatRange(0.1, 60), default=2.0, show_default=True)
@output_option
@host_option
def flows(network: str, seconds: float, output: str, client: Client, **wanted: str | None) -> None:
    """Who sends to whom in NETWORK, for so many seconds: packets and bytes where they come in, and what became of
    them."""
    tenant, name = network_of(client, network)
    found = client.get("tenants", tenant, "networks", name, "flows", seconds=seconds, **wanted)
    if output != "table":
        show(output, found, ("at", "flow", "packets", "bytes", "verdicts"))
        return
    rows = [[one["at"], one["flow"], one["packets"], one["bytes"],
             ", ".join(f"{verdict} {count}" for verdict, count in one["verdicts"].items())] for one in found]
    click.echo(columns(["AT", "FLOW", "PACKETS", "BYTES", "VERDICTS"], rows, indent=""))


@click.command("capture", short_help="Packets of a port, for Wireshark.")
@NETWORK
@click.argument("port", metavar="ENDPOINT|FUNCTION:PORT")
@click.option("--write", "-w", "into", type=click.File("wb"), default="-", help="A pcapng file; standard output if not "
              "said: | wireshark -k -i -")
@click.option("--seconds", "-s", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True)
@click.option("--packets", "-c", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True)
@host_option
def capture(network: str, port: str, into: IO[bytes], seconds: float, packets: int, client: Client) -> None:
    """What goes in and out of a PORT of NETWORK, with what its function did in the comments of the packets."""
    if into is sys.stdout.buffer and sys.stdout.isatty():
        raise Unusable("a capture is no text: write it to a file with -w, or pipe it into wireshark -k -i -")
    tenant, name = network_of(client, network)
    with until_interrupted():
        for piece in client.raw("tenants", tenant, "networks", name, "capture", port=port, seconds=seconds,
                                packets=packets):
            into.write(piece)
            into.flush()


__all__ = ["capture", "flows", "trace", "watch", "why"]
