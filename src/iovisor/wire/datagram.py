"""UDP datagrams that Python sends, as whole frames with right checksums."""
from __future__ import annotations

from .checksum import finish, finish_udp, of_ipv4, pseudo_ipv4, pseudo_ipv6
from .ethernet import Ethernet, EtherType
from .ipv4 import IpProtocol, IPv4
from .ipv6 import IPv6
from .offload import of_data
from .udp import Udp


def datagram4(frame: tuple[int, int], addresses: tuple[int, int], ports: tuple[int, int], payload: bytes) -> bytes:
    """Over IPv4; of MACs, addresses and ports the source is the first."""
    udp = Udp(src=ports[0], dst=ports[1], length=8 + len(payload))
    udp.checksum = finish_udp(pseudo_ipv4(*addresses, IpProtocol.UDP, udp.length) + of_data(bytes(udp) + payload))
    ip = IPv4(length=20 + udp.length, proto=IpProtocol.UDP, df=1, src=addresses[0], dst=addresses[1])
    ip.checksum = finish(of_ipv4(ip))
    return bytes(Ethernet(dst=frame[1], src=frame[0], type=EtherType.IPV4)) + bytes(ip) + bytes(udp) + payload


def datagram6(frame: tuple[int, int], addresses: tuple[int, int], ports: tuple[int, int], payload: bytes) -> bytes:
    """The same over IPv6."""
    udp = Udp(src=ports[0], dst=ports[1], length=8 + len(payload))
    udp.checksum = finish_udp(pseudo_ipv6(*addresses, IpProtocol.UDP, udp.length) + of_data(bytes(udp) + payload))
    ip = IPv6(length=udp.length, next=IpProtocol.UDP, hops=64, src=addresses[0], dst=addresses[1])
    return bytes(Ethernet(dst=frame[1], src=frame[0], type=EtherType.IPV6)) + bytes(ip) + bytes(udp) + payload


__all__ = ["datagram4", "datagram6"]
