"""What a balancer knows, as its data path reads it.

A *VIP* is an address, a port and a protocol that clients know; its *members* are the backends behind it.  Both are
entries of arrays and known by their numbers.  A VIP has `slots` entries of `choices`, a Maglev table: the number of the
member that gets the new flows of a slot, plus one.

A flow has an entry of `Connections` for each direction that is changed, keyed by the packets as they arrive: the source
is end A.  The one of packets from the client says which member (`FORWARD`), the one of the answers says which VIP they
come from (`RETURN`).  Each can be found without the other, and what changes the state of one tells the other.  One
entry for both was rejected: the two directions have different addresses, and an answer would need two lookups.

The number of a member that was removed is given to another later; `epoch` tells the two apart.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Reasons, Record, auto, mac, period, time, u8, u16, u64
from iovisor.parts.connections import Connection

NOTES = 6


class Reason(Reasons):
    NOT_OURS = auto()
    UNSERVED = auto()
    NO_BACKEND = auto()
    COLLISION = auto()
    BAD_RESOLUTION = auto()
    HEARD = auto()
    TOO_BIG = auto()
    TUNNEL = auto()


class Mode(IntEnum):
    """How packets reach a backend."""

    NAT = 0                 # their destination becomes the backend, and its answers come back this way
    DIRECT = 1              # they are handed to the backend's Ethernet address; it answers the client itself
    TUNNEL = 2              # they are sent to the backend's address, within another packet; it answers the same way


class Orphans(IntEnum):
    """What becomes of the flows of a backend that is dead, or was removed."""

    MOVE = 0                # they are chosen for again
    RESET = 1               # the client hears of it, and begins anew
    KEEP = 2                # they stay with a dead backend; those of a removed one move


class Health(IntEnum):
    """Of a member."""

    DEAD = 0
    CLOSED = 1              # keeps its flows and gets no new ones
    OPEN = 2


class What(IntEnum):
    """What is done with a packet."""

    PASS = 0
    FORWARD = 1             # from a client to a member
    RETURN = 2              # from a member to a client
    REFUSE = 3


class Note(IntEnum):
    """What `noted` counts."""

    UNPINNED = 0            # a flow that found no room among the established ones
    MOVED = 1               # a flow that was chosen for again
    REFUSED = 2             # a packet whose sender is told that nobody serves
    ECHO = 3                # an echo request answered
    TOO_BIG = 4             # a packet whose sender is told that it does not fit into a tunnel
    TUNNEL = 5              # an ICMP error about a tunnel


class Balanced(Connection):
    """Of a flow.  `number` is a member, or for answers a VIP; `port`, `client_…`, `mac` tell of a client that is behind
    the same port as the backends, and so was given another source."""

    client_upper: u64 = 0
    client_lower: u64 = 0
    mac: mac = 0
    port: u16 = 0
    number: u16 = 0
    epoch: u16 = 0
    vip: u16 = 0
    what: u8 = 0
    own: u8 = 0             # 1: the client is behind the backends' port


class Place(Record):
    """What a packet is addressed to: an address, a port and a protocol; both 0 for an address that is a VIP's, whatever
    the port.  And who is with a member for a while: a client's address, and for `of` the VIP."""

    upper: u64
    lower: u64
    port: u16 = 0
    of: u16 = 0


class Vip(Record):
    upper: u64
    lower: u64
    sticky: period            # how long a client stays with its backend; zero: for a flow
    port: u16
    protocol: u8
    mode: u8
    orphans: u8


class Member(Record):
    upper: u64
    lower: u64
    mac: mac                # where packets go next
    port: u16
    vip: u16
    epoch: u16
    mtu: u16                # of the way to it
    health: u8
    held: u8                # 1: somebody drains it by hand


class Session(Record):
    until: time
    number: u16
    epoch: u16


class Recent(Record):
    """A flow that was looked up, and what for; good until `until`, and as long as nothing changed (`version`)."""

    a_upper: u64
    a_lower: u64
    b_upper: u64
    b_lower: u64
    until: time
    a_port: u16
    b_port: u16
    protocol: u8
    what: u8
    number: u16
    version: u64


class Work(IntEnum):
    """Why a packet goes to Python."""

    RESOLUTION = 0          # ARP or neighbor discovery: a question for us, or an answer to us
    REFUSAL = 1             # its sender is told that nobody serves
    ANSWER = 2              # it answers a check
    TOO_BIG = 3             # its sender is told what fits, `mtu`
    NARROW = 4              # it says what fits on the way to a backend


class Slow(Record):
    """A packet that needs `Work`; if nothing comes of it, it is dropped for `reason`."""

    what: u8
    reason: u8
    mtu: u16 = 0


class Version(Record):
    """Counts what makes void what is recent: changes of the tables, and flows that were chosen for again."""

    changes: u64


class Case(Record):
    """A packet whose flow is looked up: what is asked about it, and what was decided.

    It goes through memory, so that the kernel's verifier forgets which way it came, or it would follow every way there
    is through all that comes after.  `mix` is the flow's hash; `inner` says that the packet is from the backends' side.
    `port`, `upper`, `lower` and `mac` stand for a client on that side, or are its own.
    """

    moment: time = 0
    mix: u64 = 0
    upper: u64 = 0
    lower: u64 = 0
    station: mac = 0        # who sent the frame
    mac: mac = 0
    number: u16 = 0
    port: u16 = 0
    ours: u8 = 0
    inner: u8 = 0
    flags: u8 = 0
    what: u8 = 0
    own: u8 = 0
    state: u8 = 0
    marks: u8 = 0
    left: u8 = 0


class Own(Record):
    """The balancer's own address of a family, IPv4 first; zero if there is none.  All that differ from it in bits that
    are not `kept` are its own as well: see `spread`."""

    upper: u64
    lower: u64
    kept: u64
