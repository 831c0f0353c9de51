"""Protocols as they lie on the wire, one a file, each in the same order: essay, numbers, headers, inline functions.

A header here says where bits are and which checksum covers them, and nothing else; the functions beside it are written
in the language, so that a data path calls them and a test does too.  A protocol of your own is a class in your own
module: nothing here is registered anywhere.

This module names the headers and their numbers.  Functions are imported from the file of their protocol
(`from iovisor.wire.ipv4 import skip_options`), where their names mean something.
"""
from __future__ import annotations

from .arp import Arp, ArpOperation
from .ethernet import Ethernet, EtherType
from .icmp import Icmp, IcmpEcho, IcmpTooBig, IcmpType, TimeExceeded, Unreachable
from .icmp6 import Icmp6, Icmp6Echo, Icmp6Type, Unreachable6
from .ipv4 import IpProtocol, IPv4
from .ipv6 import Extension, Fragment, IPv6
from .neighbor import (
    AddressOption,
    MtuOption,
    NameServerOption,
    NeighborAdvertisement,
    NeighborSolicitation,
    Option,
    OptionType,
    PrefixOption,
    RouterAdvertisement,
    RouterSolicitation,
)
from .tcp import Tcp, TcpFlag
from .udp import Udp
from .vlan import Vlan

__all__ = [
    "AddressOption", "Arp", "ArpOperation", "EtherType", "Ethernet", "Extension", "Fragment", "IPv4", "IPv6", "Icmp",
    "Icmp6", "Icmp6Echo", "Icmp6Type", "IcmpEcho", "IcmpTooBig", "IcmpType", "IpProtocol", "MtuOption",
    "NameServerOption", "NeighborAdvertisement", "NeighborSolicitation", "Option", "OptionType", "PrefixOption",
    "RouterAdvertisement", "RouterSolicitation", "Tcp", "TcpFlag", "TimeExceeded", "Udp", "Unreachable", "Unreachable6",
    "Vlan",
]
