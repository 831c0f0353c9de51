"""What an endpoint of a document is attached to on this host."""
from __future__ import annotations

from typing import Any

from ..fabric import Edge
from ..kernel import Netlink, NetworkNamespace, interfaces
from ..model import Endpoint, Network
from .problems import Refused


def attachment(network: Network, name: str, one: Endpoint, seed: str, namespace: NetworkNamespace | None) -> Any:
    """What the fabric attaches; None if the endpoint is open."""
    if not one.attachment:
        return None
    if one.device is None:
        raise Refused.at(f"`{one.attachment}` is not attached yet", ("endpoints", name, one.attachment))
    with Netlink(namespace) as netlink:
        found = interfaces.find(netlink, one.device)
    if found is None:
        raise Refused.at(f"there is no device {one.device}", ("endpoints", name, "device"))
    return Edge(found.index)
