"""ARP for IPv4 over Ethernet (RFC 826), and its probes and announcements (RFC 5227).

RFC 826 leaves the lengths of addresses open.  Nothing but Ethernet and IPv4 is left in use, so the header fixes them,
and `is_ethernet_ipv4` says whether a packet keeps to that: test it before you believe a field.

ARP has no checksum, so its fields are assigned freely, and `answer` turns a request into its reply where it lies.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Header, inline, ipv4, mac, u8, u16

from .ethernet import Ethernet

HARDWARE_ETHERNET = 1
PROTOCOL_IPV4 = 0x0800


class ArpOperation(IntEnum):
    """RFC 826, "Packet format"."""

    REQUEST = 1
    REPLY = 2


class Arp(Header):
    """RFC 826, "Packet format", with the address lengths of Ethernet and IPv4."""

    hardware: u16 = HARDWARE_ETHERNET
    protocol: u16 = PROTOCOL_IPV4
    hardware_length: u8 = 6
    protocol_length: u8 = 4
    operation: u16
    sender_mac: mac
    sender_ip: ipv4
    target_mac: mac = 0
    target_ip: ipv4


@inline
def is_ethernet_ipv4(arp: Arp) -> bool:
    """Whether the addresses are of the kinds this header fixes (RFC 826, "Packet Reception")."""
    return (arp.hardware == HARDWARE_ETHERNET and arp.protocol == PROTOCOL_IPV4
            and arp.hardware_length == 6 and arp.protocol_length == 4)


@inline
def is_probe(arp: Arp) -> bool:
    """A request that only asks whether an address is taken (RFC 5227 section 1.1): nothing to learn from it."""
    return arp.operation == ArpOperation.REQUEST and arp.sender_ip == 0


@inline
def is_announcement(arp: Arp) -> bool:
    """A packet in which a host tells its own address (RFC 5227 section 1.1), also called gratuitous ARP."""
    return arp.sender_ip == arp.target_ip


@inline
def answer(eth: Ethernet, arp: Arp, address: mac) -> None:
    """Turn a request into the reply that says `address` (RFC 826, "Packet Reception")."""
    asked = arp.target_ip
    eth.dst = arp.sender_mac
    eth.src = address
    arp.operation = ArpOperation.REPLY
    arp.target_mac = arp.sender_mac
    arp.target_ip = arp.sender_ip
    arp.sender_mac = address
    arp.sender_ip = asked
