"""What bridges tell each other to keep a network free of loops (IEEE 802.1D-2004 clause 9).

A BPDU is an 802.3 frame with an LLC header, to a group address that no bridge forwards.  There are three: the
configuration and the topology change notification of the old spanning tree, and the rapid one, which is a configuration
with all flags used and one byte more.  `Configuration` is the shape of both; `Notification` has nothing but its kind.

Times count in units of 1/256 second.  Bridges and ports are named by priority and number, smaller is better, so that a
whole message compares as one tuple.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Header, mac, u1, u2, u8, u16, u32, u64

GROUP = 0x0180_c200_0000
UNITS = 256                             # of a time, in a second


class BpduType(IntEnum):
    """IEEE 802.1D 9.3.1 to 9.3.3."""

    CONFIGURATION = 0x00
    RAPID = 0x02
    NOTIFICATION = 0x80


class PortRole(IntEnum):
    """What a rapid BPDU says its sender is (9.3.3); a configuration of the old kind is always a designated port's."""

    UNKNOWN = 0
    ALTERNATE = 1
    ROOT = 2
    DESIGNATED = 3


class Frame(Header):
    """Ethernet with a length, and LLC (9.2)."""

    dst: mac = GROUP
    src: mac
    length: u16
    destination_service: u8 = 0x42
    source_service: u8 = 0x42
    control: u8 = 3


class Notification(Header):
    """Topology change notification (9.3.2), and how the others begin."""

    protocol: u16 = 0
    version: u8 = 0
    type: u8 = BpduType.NOTIFICATION


class Configuration(Header):
    """Configuration and rapid BPDU (9.3.1, 9.3.3), without the rapid one's last byte, which is zero."""

    protocol: u16 = 0
    version: u8
    type: u8
    acknowledgment: u1 = 0
    agreement: u1 = 0
    forwarding: u1 = 0
    learning: u1 = 0
    role: u2 = 0
    proposal: u1 = 0
    topology_change: u1 = 0
    root: u64
    cost: u32
    bridge: u64
    port: u16
    message_age: u16
    max_age: u16
    hello_time: u16
    forward_delay: u16
