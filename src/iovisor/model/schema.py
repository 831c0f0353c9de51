"""The long form of documents: what everything else of the platform reads.

Two kinds of documents: a network (functions, endpoints, links of one tenant), and a tenant (what it may have).  Short
forms are unfolded before (shorthand.py), so no field is a union, and no message is about "the third alternative".
Values are frozen; each is written in one way only (`02:AB:…` becomes lower case, `2001:DB8::0` is compressed), and what
is not said is not repeated in the normal form.

What a single field can know is checked here; what it takes two places to see is checked in checks.py.
"""
from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_PEER = re.compile(rf"{NAME}/{NAME}/{NAME}")
_DEVICE = re.compile(r"[^\s/:]{1,15}")
_NAMESPACE = re.compile(r"[^\s/]{1,64}|/[^\s]{1,255}")
_OWN = re.compile(r"[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d+)\s*(B|kB|MB|GB|KiB|MiB|GiB)?")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def wrong(what: str, fix: str = "") -> PydanticCustomError:
    """An error in our own words."""
    return PydanticCustomError("iovisor", "{what}", {"what": what, "fix": fix})


def _name(text: str) -> str:
    if text == "fabric":
        raise wrong("the name fabric is taken: it is what stands between functions", "choose another name")
    if not re.fullmatch(NAME, text):
        raise wrong(f"{text!r} is not a name",
                    "a name begins with a letter; letters, digits, - and _ follow, 63 at most")
    return text


def _kind(text: str) -> str:
    if not re.fullmatch(NAME, text) and not _OWN.fullmatch(text):
        raise wrong(f"{text!r} is not a kind of function",
                    "name one of the catalogue, such as switch, or your own: file.py:Class")
    return text


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise wrong(f"{text!r} is not a MAC address", "write six pairs of hex digits, as in 02:00:00:00:00:01")
    text = text.lower().replace("-", ":")
    if int(text[:2], 16) & 1:
        raise wrong(f"{text} is a group address, no station has it",
                    f"make the second digit even, as in {int(text[:2], 16) & 0xfe:02x}{text[2:]}")
    if text == "00:00:00:00:00:00":
        raise wrong(f"{text} is no station's address", "write one such as 02:00:00:00:00:01, or none")
    return text


def _interface(text: str) -> str:
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise wrong(f"{text!r} is not an address with a prefix length",
                    "write it like 10.1.0.11/24 or 2001:db8::11/64") from None
    if "/" not in text:
        raise wrong(f"{text} has no prefix length", f"write it like {text}/{24 if address.version == 4 else 64}")
    if text.partition("/")[2] != str(address.network.prefixlen):
        raise wrong(f"{text!r} has a mask", f"write a prefix length: {address}")
    return _host(address)


def _host(address: Address) -> str:
    network = address.network
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise wrong(f"{address} is not an address that a host can have", "write a unicast address")
    whole = network.version == 4 and network.num_addresses > 2      # a /31 and a /32 have hosts only
    if whole and address.ip == network.network_address:
        raise wrong(f"{address} is the network itself, not a host in it",
                    f"write one from {network.network_address + 1} on")
    if whole and address.ip == network.broadcast_address:
        raise wrong(f"{address} is the broadcast address of its network",
                    f"write one up to {network.broadcast_address - 1}")
    return str(address)


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        fix = f"leave /{text.partition('/')[2]} away" if "/" in text else "write it like 10.1.0.1 or 2001:db8::1"
        raise wrong(f"{text!r} is not an address", fix) from None


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text) or text in (".", ".."):
        raise wrong(f"{text!r} cannot name a device", "Linux takes 1 to 15 characters, without spaces, / and :")
    return text


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text) or text in (".", ".."):
        raise wrong(f"{text!r} is not a network namespace",
                    "write its name, as `ip netns` does, or the path of its file")
    return text


def _peer(text: str) -> str:
    if not _PEER.fullmatch(text):
        raise wrong(f"{text!r} is no endpoint of another network", "write tenant/network/endpoint")
    return text


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", text):
        raise wrong(f"{text!r} cannot name a label", "letters, digits, and . _ / - after the first; 63 at most")
    return text


def size(text: str | int) -> int:
    """`64MiB` in bytes."""
    found = _SIZE.fullmatch(str(text))
    if not found:
        raise wrong(f"{text!r} is not a size", "write it like 64MiB, 500kB, or a number of bytes")
    return int(found[1]) * _UNITS[found[2] or "B"]


def _size(text: str) -> str:
    count = size(text)
    unit = next((u for u in ("GiB", "MiB", "KiB", "GB", "MB", "kB") if count and count % _UNITS[u] == 0), "B")
    return f"{count // _UNITS[unit]}{unit}"


def _text(pattern: str, example: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example], **more})


Name = Annotated[str, AfterValidator(_name), _text(f"^{NAME}$", "web1")]
KindName = Annotated[str, AfterValidator(_kind), _text(rf"^({NAME}|[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*)$", "switch")]
Mac = Annotated[str, AfterValidator(_mac), _text("^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$", "02:00:00:00:00:01")]
Interface = Annotated[str, AfterValidator(_interface), _text("^[0-9a-fA-F.:]+/[0-9]+$", "10.1.0.11/24")]
Gateway = Annotated[str, AfterValidator(_ip), _text("^[0-9a-fA-F.:]+$", "10.1.0.1")]
Device = Annotated[str, AfterValidator(_device), _text("^[^\\s/:]{1,15}$", "eth0")]
Namespace = Annotated[str, AfterValidator(_namespace), _text("^[^\\s]+$", "web1")]
Peer = Annotated[str, AfterValidator(_peer), _text(f"^{NAME}/{NAME}/{NAME}$", "globex/shared/acme")]
Size = Annotated[str, AfterValidator(_size), _text("^[0-9]+\\s*(B|kB|MB|GB|KiB|MiB|GiB)?$", "64MiB")]
LabelName = Annotated[str, AfterValidator(_label), _text("^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$", "app")]
Labels = Annotated[dict[LabelName, Annotated[str, Field(max_length=255)]],
                   Field(description="Names and values of your own choice, to select by: `app: web`.")]
Mtu = Annotated[int, Field(ge=68, le=65535)]
Count = Annotated[int, Field(ge=0, le=10_000_000)]


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Function(Part):
    """A network function: its kind and its configuration."""

    kind: KindName = Field(description="One of the catalogue, such as `switch`, or a function of your own: "
                                       "`file.py:Class`, beside the document.")
    config: dict[str, Any] = Field(
        default={}, description="The configuration of its kind. May be written without `config`, beside `kind`.")
    labels: Labels = {}


class Endpoint(Part):
    """Where a workload is attached: a namespace, a virtual machine, or a physical device.  Or a gateway to another
    network.  None of the four: open."""

    netns: Namespace | None = Field(
        default=None, description="A veth pair into this network namespace: a name, or a path.")
    interface: Device | None = Field(
        default=None, description="What the device is called in the namespace; eth0 if not said.")
    tap: Device | None = Field(default=None, description="A TAP device of this name, for a virtual machine.")
    device: Device | None = Field(default=None, description="A device of the machine.")
    share: Literal["whole", "mac", "vlan"] | None = Field(
        default=None, description="How much of the device: all, the frames to and from `mac`, or those of `vlan`.")
    vlan: Annotated[int, Field(ge=1, le=4094)] | None = Field(
        default=None, description="The VLAN of a share of a device.")
    hook: Literal["tc", "xdp", "xdp-native", "xdp-generic"] | None = Field(
        default=None, description="Where the function that it is linked to meets its packets: at tc if not said, or "
                                  "before it at xdp, by the driver where that harms nobody.")
    peer: Peer | None = Field(
        default=None, description="A gateway: the endpoint of another network, `tenant/network/endpoint`, that this is "
                                  "joined to while it names this one in return.")
    mac: Mac | None = Field(default=None, description="The workload's MAC address; made up and kept if not said.")
    addresses: list[Interface] = Field(default=[], description="The workload's addresses, with their prefix lengths.")
    gateways: list[Gateway] = Field(default=[], description="Its default gateway; one of each family at most.")
    mtu: Mtu | None = Field(default=None, description="Its MTU; the network's if not said.")
    labels: Labels = {}

    @property
    def attachment(self) -> str:
        """`netns`, `tap`, `device` or `peer`; empty if it is open."""
        return next((name for name in ATTACHMENTS if getattr(self, name) is not None), "")

    @property
    def early(self) -> bool:
        """Whether its packets are met at XDP."""
        return self.hook not in (None, "tc")

    @property
    def inside(self) -> str:
        """What its device is called in its namespace."""
        return self.interface or INSIDE


ATTACHMENTS = ("netns", "tap", "device", "peer")
INSIDE = "eth0"


class Network(Part):
    """A virtual network of one tenant."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    tenant: Name = Field(description="Whose network it is.")
    network: Name = Field(description="The network's name, one of its tenant's.")
    description: str = Field(default="", max_length=1000, description="What it is for, in your words.")
    labels: Labels = {}
    mtu: Mtu = Field(default=1500, description="The largest IP packet that the network carries.")
    functions: dict[Name, Function] = Field(default={}, description="The network functions, by name.")
    endpoints: dict[Name, Endpoint] = Field(default={}, description="The workloads' attachments, by name.")
    links: list[list[str]] = Field(
        default=[], description="What is joined, each link a path: `[lan:up, fw, edge:lan]`.")
    policies: list[Any] = Field(default=[], description="Reserved: not yet.")

    @property
    def key(self) -> str:
        """`tenant/network`."""
        return f"{self.tenant}/{self.network}"


class Quota(Part):
    """What a tenant may have, in all its networks together; without a limit where nothing is said."""

    networks: Count | None = Field(default=None, description="Networks.")
    functions: Count | None = Field(default=None, description="Functions.")
    endpoints: Count | None = Field(default=None, description="Endpoints.")
    links: Count | None = Field(default=None, description="Links.")
    tables: Size | None = Field(default=None, description="Memory of the kernel for tables: `64MiB`.")
    punts: Count | None = Field(default=None, description="Packets a second to the functions' Python.")


class Tenant(Part):
    """A tenant: who owns networks, and how much of them."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    tenant: Name = Field(description="The tenant's name.")
    description: str = Field(default="", max_length=1000, description="Who it is, in your words.")
    labels: Labels = {}
    quota: Quota = Field(default_factory=lambda: Quota(), description="What it may have.")


__all__ = ["ATTACHMENTS", "INSIDE", "Endpoint", "Function", "Network", "Part", "Quota", "Tenant", "size", "wrong"]
