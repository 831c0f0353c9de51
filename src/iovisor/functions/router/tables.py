"""What a router knows, as its data path reads it.

One lookup decides what becomes of a packet: the router's own addresses, broadcast addresses and connected networks are
routes like any other, only longer or shorter.  A route with several next hops names a *group*: `SLOTS` entries of
`choices`, each the number of a hop, filled as a Maglev table is, so that hops share evenly and a hop that goes moves
only its own flows.  Neighbors are keyed by port and address; what a neighbor's record says is enough for a packet to
leave, and Python (upkeep.py) is needed only for what is not there yet.

The records of the two families differ in the width of an address and in nothing else.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Metadata, Reasons, Record, auto, ipv4, ipv6, mac, time, u8, u16, u32, u128

PORTS = 64
SLOTS = 1024                # of a group of next hops
GROUPS = 64
RULES = 32                  # policies of a port
TABLES = 64                 # beside the main one


class Reason(Reasons):
    NOT_OURS = auto()
    NOT_IP = auto()
    NO_INTERFACE = auto()
    BROADCAST = auto()
    MULTICAST = auto()
    MALFORMED = auto()
    CHECKSUM = auto()
    MARTIAN_SOURCE = auto()
    MARTIAN_DESTINATION = auto()
    SPOOFED = auto()
    NO_ROUTE = auto()
    BLACKHOLE = auto()
    PROHIBITED = auto()
    UNREACHABLE = auto()
    EXPIRED = auto()
    TOO_BIG = auto()
    OPTIONS = auto()
    LOCAL = auto()
    HEARD = auto()
    BAD_RESOLUTION = auto()
    ERRORS_LIMITED = auto()
    FRAGMENTS = auto()
    QUEUE_FULL = auto()
    NEIGHBORS_FULL = auto()
    TAGGED = auto()


class RouteKind(IntEnum):
    """What a route does with a packet."""

    VIA = 0
    CONNECTED = 1
    GROUP = 2
    LOCAL = 3
    BROADCAST = 4
    BLACKHOLE = 5
    UNREACHABLE = 6
    PROHIBIT = 7
    NONE = 8                # no route at all


class State(IntEnum):
    """What is known of a neighbor; from `KNOWN` on packets go to it."""

    ASKED = 0               # a request is out, packets wait
    DEAD = 1                # it does not answer
    KNOWN = 2
    PROBED = 3              # known, and asked whether it is still there
    FIXED = 4               # configured


class ReversePath(IntEnum):
    """Whether a source must be routed to anywhere, or to where the packet came in (RFC 3704 sections 2.2 and 2.4)."""

    OFF = 0
    LOOSE = 1
    STRICT = 2


class Work(IntEnum):
    """Why a packet goes to Python."""

    OPTIONS = 1             # IPv4 options, or hop-by-hop options
    FRAGMENT = 2            # it is too long for where it goes, and may be cut
    REASSEMBLE = 3          # it is a part of something for the router itself
    RESOLVED = 4            # a neighbor that packets wait for has answered
    SOLICITED = 5           # a host looks for routers
    CONFLICT = 6            # somebody has our address
    REDIRECT = 7            # it leaves where it came in: its sender may know better


class Link(Record):
    """A port of the router; one without an interface has no `mac`."""

    address6: ipv6          # from which errors come, zero if there is none
    link_local: ipv6
    mac: mac
    address4: ipv4
    mtu: u16
    reverse_path: u8
    directed_broadcast: u8
    policies: u8
    translated: u8


class Route(Record):
    """Where packets to a prefix go; a `gateway` is of the family, see below."""

    gateway: u128
    group: u16
    kind: u8
    port: u8


class Route4(Route):
    gateway: ipv4


class Route6(Route):
    gateway: ipv6


class RecentRoute(Route):
    """The route of a destination, as found when the routes were in this `version`; never version 0."""

    address: u128
    version: u32


class Recent4(RecentRoute):
    gateway: ipv4
    address: ipv4


class Recent6(RecentRoute):
    gateway: ipv6
    address: ipv6


class Hop(Record):
    """A next hop of a group."""

    gateway: u128
    port: u8


class Near4(Record):
    address: ipv4
    port: u32


class Near6(Record):
    address: ipv6
    port: u32


class Neighbor(Record):
    """`used` since Python looked last; `tries` are requests without an answer."""

    since: time             # it was confirmed, or asked
    mac: mac
    state: u8
    used: u8
    tries: u8


class Policy(Record):
    """Packets that match go by another table; `any_port`, a zero mask and a zero `mark` match everything."""

    source: u128
    source_mask: u128
    mark: u32
    mark_mask: u32
    table: u16
    family: u16


class Mark(Metadata):
    """What functions before the router say about a packet, for its policies."""

    mark: u32


class Unresolved(Record):
    """A packet for a neighbor that is not known; an IPv4 address in the low bits of `address`."""

    address: u128
    port: u8
    version: u8


class Slow(Record):
    """A packet that needs `Work`."""

    address: u128 = 0       # of the neighbor it is about, or the better first hop
    what: u8
    version: u8
    mtu: u16 = 0            # of the link it is too long for
