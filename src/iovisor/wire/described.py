"""A packet in words, as one asks about it; the frame it stands for.

    tcp 10.1.0.11:40000 > 10.2.0.20:80 syn
    udp 10.1.0.11:5353 > 10.2.0.20:53 vlan 7 ttl 3 size 200
    icmp 10.1.0.11 > 10.2.0.20                      an echo request; icmp6 between IPv6 addresses
    tcp [2001:db8::11]:40000 > [2001:db8:2::20]:80
    arp 10.1.0.11 > 10.1.0.1                        who has 10.1.0.1
    ... mac 02:00:00:00:00:01 > 02:00:00:00:00:02   whose frame it is; else who asks says

Words behind the addresses come in any order: `syn`, `ack`, `fin`, `rst`, `psh`, `urg` (`tcp` without any is an `ack`),
`vlan ID`, `ttl N`, `size N` bytes of payload.  Lengths and checksums are right.
"""
from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ..language.addresses import mac_address
from .arp import Arp, ArpOperation
from .ethernet import Ethernet, EtherType
from .icmp import Icmp
from .icmp6 import Icmp6
from .ipv4 import IpProtocol, IPv4
from .ipv6 import IPv6
from .offload import of_data
from .tcp import Tcp
from .udp import Udp
from .vlan import Vlan

FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32}
NUMBERS = {"vlan": (1, 4094), "ttl": (1, 255), "size": (0, 1400)}
BROADCAST = (1 << 48) - 1
_TRANSPORT = ("tcp", "udp")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Described:
    """A packet that was described; `macs` are None where nothing was said of them."""

    protocol: str
    source: Address
    destination: Address
    ports: tuple[int, int] = (0, 0)
    flags: int = 0
    vlan: int = 0
    ttl: int = 64
    size: int = 0
    macs: tuple[int, int] | None = None

    def frame(self, source: int = 0, destination: int = BROADCAST) -> bytes:
        """The bytes; with these MAC addresses where none were said."""
        source, destination = self.macs or (source, destination)
        kind, inside = self._packet(source)
        if self.vlan:
            inside = bytes(Vlan(pcp=0, dei=0, vid=self.vlan, type=kind)) + inside
            kind = EtherType.VLAN
        return (bytes(Ethernet(dst=destination, src=source, type=kind)) + inside).ljust(60, b"\0")

    def _packet(self, mac: int) -> tuple[int, bytes]:
        source, destination = int(self.source), int(self.destination)
        if self.protocol == "arp":
            return EtherType.ARP, bytes(Arp(operation=ArpOperation.REQUEST, sender_mac=mac, sender_ip=source,
                                            target_mac=0, target_ip=destination))
        number, payload = self._payload()
        if self.source.version == 6:
            return EtherType.IPV6, bytes(IPv6(src=source, dst=destination, length=len(payload), next=number,
                                              hops=self.ttl)) + payload
        header = IPv4(src=source, dst=destination, length=20 + len(payload), ttl=self.ttl, proto=number, df=1,
                      checksum=0)
        header.checksum = ~of_data(bytes(header)) & 0xffff
        return EtherType.IPV4, bytes(header) + payload

    def _payload(self) -> tuple[int, bytes]:
        data = bytes(self.size)
        first, second = self.ports
        if self.protocol == "tcp":
            return IpProtocol.TCP, self._summed(IpProtocol.TCP, bytes(Tcp(
                src=first, dst=second, sequence=1, flags=self.flags, window=64240)) + data, 16)
        if self.protocol == "udp":
            return IpProtocol.UDP, self._summed(IpProtocol.UDP, bytes(Udp(
                src=first, dst=second, length=8 + self.size)) + data, 6)
        echo = (1).to_bytes(2, "big") * 2 + data
        if self.source.version == 6:
            return IpProtocol.ICMP6, self._summed(IpProtocol.ICMP6, bytes(Icmp6(type=128, code=0, checksum=0))[:4]
                                                  + echo, 2)
        message = bytes(Icmp(type=8, code=0, checksum=0))[:4] + echo
        return IpProtocol.ICMP, message[:2] + _finished(of_data(message)) + message[4:]

    def _summed(self, number: int, message: bytes, place: int) -> bytes:
        """A message with its checksum: over the pseudo-header, too."""
        pseudo = b"".join((self.source.packed, self.destination.packed, len(message).to_bytes(4, "big"),
                           number.to_bytes(4, "big")))
        total = of_data(pseudo + message)
        return message[:place] + _finished(total) + message[place + 2:]


def described(text: str) -> Described:
    """What a text describes.  ValueError says what is not understood, and what is."""
    words = text.split()
    if len(words) < 4 or words[2] != ">" or words[0] not in (*_TRANSPORT, "icmp", "icmp6", "arp"):
        raise ValueError(f"{text!r} describes no packet: write it like `tcp 10.1.0.11:40000 > 10.2.0.20:80`, "
                         "`udp ...`, `icmp 10.1.0.11 > 10.2.0.20` or `arp 10.1.0.11 > 10.1.0.1`")
    protocol = "icmp" if words[0] == "icmp6" else words[0]
    (source, first), (destination, second) = _end(words[1], protocol), _end(words[3], protocol)
    if source.version != destination.version or (protocol == "arp" and source.version == 6):
        raise ValueError("both addresses are IPv4, or both IPv6; arp is IPv4's")
    flags, macs = 0, None
    found = {"vlan": 0, "ttl": 64, "size": 0}
    rest = words[4:]
    while rest:
        word = rest.pop(0)
        if word in FLAGS and protocol == "tcp":
            flags |= FLAGS[word]
        elif word in NUMBERS and rest:
            value, (least, most) = rest.pop(0), NUMBERS[word]
            if not value.isdecimal() or not least <= int(value) <= most:
                raise ValueError(f"{word} is a number from {least} to {most}, not {value}")
            found[word] = int(value)
        elif word == "mac" and len(rest) >= 3 and rest[1] == ">":
            macs = mac_address(rest[0]), mac_address(rest[2])
            rest = rest[3:]
        else:
            raise ValueError(f"{word!r} is not understood here: vlan ID, ttl N, size N, mac FROM > TO"
                             + (f", {', '.join(FLAGS)}" if protocol == "tcp" else ""))
    return Described(protocol, source, destination, (first, second), flags or FLAGS["ack"], found["vlan"], found["ttl"],
                     found["size"], macs)


def _end(text: str, protocol: str) -> tuple[Address, int]:
    host, port = text, ""
    if protocol in _TRANSPORT:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 0xffff:
            raise ValueError(f"{text!r} names no port: write 10.1.0.11:80, or [2001:db8::11]:80")
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")), int(port or 0)
    except ValueError:
        raise ValueError(f"{host!r} is no address") from None


def _finished(total: int) -> bytes:
    return (~total & 0xffff or 0xffff).to_bytes(2, "big")


__all__ = ["BROADCAST", "Described", "described"]
