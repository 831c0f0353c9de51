"""What it takes two places of a document, or the kinds of its functions, to see; and the normal form.

Checks go on after a problem, as far as what they look at is sound: an endpoint that is broken is left out, and its name
counts as known.  A policy is refused rather than kept: one that is accepted and not enforced would be believed in.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .errors import Path, alike, near
from .holdings import Holders
from .kinds import Kind, Kinds, UnknownKind, is_own
from .paths import Paths
from .references import hops, natural
from .schema import ATTACHMENTS, INSIDE, Endpoint, Function, Network
from .tree import Problems

SMALLEST_IPV6_MTU = 1280        # RFC 8200, section 5


def check(network: Network, problems: Problems, kinds: Kinds, doubtful: Collection[str],
          numbers: Sequence[int]) -> Network:
    """The network in its normal form, if there are no problems.

    `doubtful`: functions and endpoints that are in the text and, broken, not in the network.  `numbers`: which of the
    text's links the network's are.
    """
    if network.policies:
        problems.add(("policies",), "policies are not enforced yet, and so are refused",
                     "leave them out; an acl on a link filters in the meantime", key=True)
    for name in network.functions.keys() & network.endpoints.keys():
        line = problems.line(("functions", name))
        problems.add(("endpoints", name), f"{name} is the name of a function, in line {line}",
                     "paths name both: give one of them another name", key=True)
    found: dict[str, Kind | None] = {}
    functions = {name: _function(name, one, problems, kinds, found) for name, one in network.functions.items()}
    endpoints = {name: _endpoint(name, one, network, problems) for name, one in network.endpoints.items()}
    _between(network, problems)
    paths = Paths(network, problems, found, doubtful)
    links = paths.normal(numbers)
    for group in ("endpoints", "functions"):
        for name in getattr(network, group).keys() - paths.mentioned:
            problems.add((group, name), f"nothing is linked to {name}",
                         f"add a link, such as [{name}, ...], or leave it out", key=True, warning=True)
    problems.found = [one for one in problems.found if not (one.warning and doubtful and one.path[1] in doubtful)]
    checked = network.model_copy(update={
        "labels": _ordered(network.labels), "functions": _ordered(functions), "endpoints": _ordered(endpoints),
        "links": links})
    if not problems.fatal:
        _met(checked, problems, found)
        for name, fault in kinds.faults(checked):
            elsewhere = ("functions", *fault.other[:1], "config", *fault.other[1:])
            where = f", in line {problems.line(elsewhere)}" if fault.other else ""
            problems.add(("functions", name, "config", *fault.path), fault.what + where, fault.fix)
    return checked


def _ordered(mapping: dict[str, Any]) -> dict[str, Any]:
    return {name: mapping[name] for name in sorted(mapping, key=natural)}


# -- functions -------------------------------------------------------------------------------------------------------

def _function(name: str, function: Function, problems: Problems, kinds: Kinds,
              found: dict[str, Kind | None]) -> Function:
    path = ("functions", name)
    try:
        kind = found[name] = kinds.find(function.kind, problems.file)
    except UnknownKind as unknown:
        found[name] = None
        meant = "" if is_own(function.kind) else near(function.kind, kinds.names())
        fix = f"did you mean {meant}?" if meant else unknown.fix or alike(function.kind, kinds.names())
        problems.add((*path, "kind"), unknown.what, fix)
        return function
    config, faults = kind.configured(function.config)
    for fault in faults:
        fix = fault.fix or f"`iovisor schema {function.kind}` says what it takes"
        problems.add((*path, "config", *fault.path), fault.what, fix, key=fault.unknown)
    return function.model_copy(update={"config": config, "labels": _ordered(function.labels)})


# -- endpoints -------------------------------------------------------------------------------------------------------

def _endpoint(name: str, one: Endpoint, network: Network, problems: Problems) -> Endpoint:
    path = ("endpoints", name)
    _attachment(path, one, problems)
    own = [ipaddress.ip_interface(text) for text in one.addresses]
    for index, address in enumerate(own):
        if any(address.ip == other.ip for other in own[:index]):
            problems.add((*path, "addresses", index), f"{address.ip} is here a second time", "remove one of the two")
    versions = set()
    for index, text in enumerate(one.gateways):
        gateway, at = ipaddress.ip_address(text), (*path, "gateways", index)
        near = [address for address in own if address.version == gateway.version]
        if gateway.version in versions:
            problems.add(at, f"{name} has a gateway for IPv{gateway.version} already",
                         "keep one; a router chooses between several")
        elif any(gateway == address.ip for address in near):
            problems.add(at, f"{gateway} is {name}'s own address", "name the router's")
        elif not any(gateway in address.network for address in near) and not gateway.is_link_local:
            reach = " or ".join(dict.fromkeys(str(address.network) for address in near))
            problems.add(at, f"the gateway {gateway} is outside of {reach}" if near else
                         f"{name} has no IPv{gateway.version} address, and so no way to the gateway {gateway}",
                         f"name one in {reach}, or correct the prefix length" if near else
                         "add an address in the gateway's prefix")
        versions.add(gateway.version)
    if one.mtu is not None and one.mtu > network.mtu:
        problems.add((*path, "mtu"), f"{name} would send packets of {one.mtu} bytes, and the network carries "
                     f"{network.mtu}", f"write at most {network.mtu} here, or raise the network's mtu")
    if any(address.version == 6 for address in own) and (one.mtu or network.mtu) < SMALLEST_IPV6_MTU:
        problems.add((*path, "mtu"), f"IPv6 needs an MTU of {SMALLEST_IPV6_MTU} at least, and {name} has "
                     f"{one.mtu or network.mtu}", "raise it, or use IPv4 only")
    return one.model_copy(update={
        "share": None if one.share == "whole" else one.share, "hook": one.hook if one.early else None,
        "labels": _ordered(one.labels),
        "interface": None if one.interface == INSIDE else one.interface})


def _attachment(path: Path, one: Endpoint, problems: Problems) -> None:
    given = [name for name in ATTACHMENTS if getattr(one, name) is not None]
    for extra in given[1:]:
        problems.add((*path, extra), f"{path[-1]} is attached to {' and '.join(given)}",
                     "keep one: an endpoint is attached once", key=True)
    for field, needs in (("interface", "netns"), ("share", "device"), ("vlan", "device")):
        if getattr(one, field) is not None and needs not in given and (field, one.share) != ("share", "vlan"):
            problems.add((*path, field), f"`{field}` goes with `{needs}`", f"add `{needs}`, or leave `{field}` out",
                         key=True)
    if one.device is not None and one.share == "mac" and one.mac is None:
        problems.add((*path, "share"), "a share by MAC address needs one", "add `mac: 02:...`")
    if one.device is not None and one.share == "vlan" and one.vlan is None:
        problems.add((*path, "share"), "a share by VLAN needs one", "add `vlan: 100`")
    if one.vlan is not None and one.share not in (None, "vlan"):
        problems.add((*path, "vlan"), f"`vlan` goes with `share: vlan`, not with `share: {one.share}`",
                     "leave one of the two out", key=True)
    if one.early and (not given or one.peer is not None):
        problems.add((*path, "hook"), "`hook` goes with `netns`, `tap` or `device`", "leave it out", key=True)
    if one.hook == "xdp-native" and one.netns is not None:
        problems.add((*path, "hook"), f"XDP in the driver of a cable takes segmentation offload from {path[-1]}, whose "
                     "TCP is several times slower then", "write `hook: xdp`, which leaves it", warning=True)
    if one.early and one.share in ("mac", "vlan"):
        problems.add((*path, "hook"), "a share of a device has no XDP: the device is not this network's alone",
                     "attach all of the device, or leave `hook` out")
    for field in ("mac", "addresses", "gateways") if one.peer is not None else ():
        if getattr(one, field):
            problems.add((*path, field), f"a gateway to another network has no `{field}`", "leave it out", key=True)
    if not given:
        problems.add(path, f"{path[-1]} is attached to nothing", "add `netns`, `tap`, `device` or `peer`", key=True,
                     warning=True)


def _met(network: Network, problems: Problems, kinds: Mapping[str, Kind | None]) -> None:
    """Whether the functions behind endpoints can meet packets where these say."""
    for path in map(hops, network.links):
        for end, beside in ((path[0], path[1]), (path[-1], path[-2])):
            one, kind = network.endpoints.get(end.name), kinds.get(beside.name)
            if one is None or kind is None or not one.early:
                continue
            why = kind.early(one.device is None)
            if why:
                problems.add(("endpoints", end.name, "hook"), f"{beside.name} cannot meet packets at XDP: {why}",
                             "leave `hook` out: it meets them at tc")


def _peers(network: Network, problems: Problems) -> None:
    """A gateway leads to another network, and one endpoint of that is one's."""
    named: dict[str, str] = {}
    for name, one in network.endpoints.items():
        if one.peer is None:
            continue
        path = ("endpoints", name, "peer")
        if one.peer.startswith(f"{network.key}/"):
            problems.add(path, f"{one.peer} is of this network itself", "link functions of one network by a link")
        if named.setdefault(one.peer, name) != name:
            problems.add(path, f"{one.peer} is {named[one.peer]}'s peer already", "an endpoint has one peer")


def _between(network: Network, problems: Problems) -> None:
    """What two endpoints must not have in common, and what they must."""
    _peers(network, problems)
    taken: dict[tuple[str, ...], Path] = {}
    holders = Holders()
    spans: dict[Any, tuple[str, int]] = {}
    prefixes: dict[Any, tuple[str, Any]] = {}
    for name, one in network.endpoints.items():
        path = ("endpoints", name)
        once: list[tuple[tuple[str, ...], Path]] = []
        if one.mac is not None:
            once.append((("the MAC address", one.mac), (*path, "mac")))
        theirs = holders.take(one, f"{name} has it, in line {problems.line((*path, one.attachment))}")
        if theirs:
            problems.add((*path, one.attachment), theirs, "give each its own")
        addresses = [ipaddress.ip_interface(text) for text in one.addresses]
        for index, address in enumerate(addresses):
            if all(address.ip != other.ip for other in addresses[:index]):
                once.append((("the address", str(address.ip)), (*path, "addresses", index)))
        for what, at in once:
            before = taken.setdefault(what, at)
            if before is not at:
                problems.add(at, f"{' '.join(what)} is {before[1]}'s already, in line {problems.line(before)}",
                             "give each its own")
        for index, address in enumerate(addresses):
            mtu = one.mtu or network.mtu
            other, their_mtu = spans.setdefault(address.network, (name, mtu))
            if their_mtu != mtu:
                at = (*path, "mtu") if one.mtu else (*path, "addresses", index)
                problems.add(at, f"{name} has an MTU of {mtu} and {other} of {their_mtu}, both in {address.network}",
                             "hosts of one prefix need one MTU")
            other, network_of = prefixes.setdefault((address.network.version, address.network.network_address),
                                                    (name, address.network))
            if network_of != address.network and other != name:
                problems.add((*path, "addresses", index),
                             f"{address.network} here and {network_of} at {other} overlap",
                             "hosts that disagree on the prefix length miss each other", warning=True)


__all__ = ["check"]
