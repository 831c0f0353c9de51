"""Asking a backend whether it is well: an echo request, a TCP handshake, an HTTP request.

A check is a conversation of a few packets, held here frame by frame: backends live in networks of their own, where no
socket of this process reaches, and what is asked has to go the way clients' packets go.  So this is the least TCP that
can ask: one segment each way at a time, nothing resent.  A lost packet fails the check, and `fall` is there for that.
A conversation ends with a reset, which leaves nothing behind at the backend.

    TCP    SYN ->  <- SYN ACK  RST ->
    HTTP   SYN ->  <- SYN ACK  ACK GET ->  <- HTTP/1.1 200  RST ->
    ICMP   echo ->  <- reply
"""
from __future__ import annotations

from dataclasses import dataclass

from iovisor.language import ipv4_text, ipv6_text
from iovisor.parts.asking import is_right6
from iovisor.parts.reading import MAPPED
from iovisor.wire.checksum import finish, fold, is_right, pseudo_ipv4, pseudo_ipv6
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.offload import of_data
from iovisor.wire.tcp import Tcp, TcpFlag

from .settings import CheckConfig, Way

SYN, ACK, RST, PSH = TcpFlag.SYN, TcpFlag.ACK, TcpFlag.RST, TcpFlag.PSH
WINDOW = 8192
CIRCLE = 0xffff_ffff
Address = tuple[int, int]           # two words, as the data path has them


@dataclass(frozen=True)
class Ends:
    """Where a conversation is held: Ethernet and IP addresses, and ports or the identifier of an echo."""

    here_mac: int
    there_mac: int
    here: Address
    there: Address
    here_port: int
    there_port: int

    @property
    def six(self) -> bool:
        return self.there[0] != 0 or self.there[1] >> 32 != MAPPED >> 32

    def frame(self, protocol: int, body: bytes) -> bytes:
        """A packet from here to there."""
        if self.six:
            head = bytes(IPv6(length=len(body), next=protocol, src=self.here[0] << 64 | self.here[1],
                              dst=self.there[0] << 64 | self.there[1]))
        else:
            ip = IPv4(length=20 + len(body), df=1, proto=protocol, src=self.here[1] & CIRCLE,
                      dst=self.there[1] & CIRCLE)
            ip.checksum = finish(of_data(bytes(ip)))
            head = bytes(ip)
        return bytes(Ethernet(dst=self.there_mac, src=self.here_mac,
                              type=EtherType.IPV6 if self.six else EtherType.IPV4)) + head + body

    def pseudo(self, protocol: int, length: int, source: Address, destination: Address) -> int:
        if self.six:
            return pseudo_ipv6(source[0] << 64 | source[1], destination[0] << 64 | destination[1], protocol, length)
        return pseudo_ipv4(source[1] & CIRCLE, destination[1] & CIRCLE, protocol, length)


@dataclass
class Conversation:
    """One check; `good` is None until it is decided.  `start` and `hear` answer the frames to send."""

    config: CheckConfig
    ends: Ends
    number: int                     # our initial sequence number, or that of the echo
    began: int
    good: bool | None = None
    expected: int = -1              # the next byte of the backend's; -1 until it has answered
    said: bytes = b""

    def start(self) -> list[bytes]:
        if self.config.way == Way.ICMP:
            kind = Icmp6Type.ECHO if self.ends.six else IcmpType.ECHO
            body = bytes(Icmp(type=kind, rest=self.ends.here_port << 16 | self.number & 0xffff)) + b"balancer"
            protocol = IpProtocol.ICMP6 if self.ends.six else IpProtocol.ICMP
            total = of_data(body) + (self.ends.pseudo(protocol, len(body), self.ends.here, self.ends.there)
                                     if self.ends.six else 0)
            return [self.ends.frame(protocol, body[:2] + finish(total).to_bytes(2, "big") + body[4:])]
        return [self.segment(SYN, self.number)]

    def segment(self, flags: int, sequence: int, data: bytes = b"") -> bytes:
        acknowledged = self.expected if flags & ACK else 0
        body = bytes(Tcp(src=self.ends.here_port, dst=self.ends.there_port, sequence=sequence & CIRCLE,
                         acknowledgment=acknowledged & CIRCLE, flags=flags, window=WINDOW)) + data
        total = of_data(body) + self.ends.pseudo(IpProtocol.TCP, len(body), self.ends.here, self.ends.there)
        return self.ends.frame(IpProtocol.TCP, body[:16] + finish(total).to_bytes(2, "big") + body[18:])

    def request(self) -> bytes:
        there = self.ends.there
        name = f"[{ipv6_text(there[0] << 64 | there[1])}]" if self.ends.six else ipv4_text(there[1] & CIRCLE)
        return (f"GET {self.config.path} HTTP/1.1\r\nHost: {self.config.host or name}\r\nUser-Agent: balancer\r\n"
                f"Connection: close\r\n\r\n").encode()

    def hear(self, protocol: int, body: bytes) -> list[bytes]:
        """What the backend sent: the transport header and all behind it."""
        if self.good is not None:
            return []
        if protocol != IpProtocol.TCP:
            whole = is_right6(self.join(self.ends.there), self.join(self.ends.here), body) if self.ends.six \
                else is_right(of_data(body))
            icmp = Icmp.decode(body)
            if whole and icmp.type == (Icmp6Type.ECHO_REPLY if self.ends.six else IcmpType.ECHO_REPLY) \
                    and icmp.rest & 0xffff == self.number & 0xffff and self.config.way == Way.ICMP:
                self.good = True
            return []
        tcp = Tcp.decode(body)
        pseudo = self.ends.pseudo(protocol, len(body), self.ends.there, self.ends.here)
        # A backend on this machine leaves the rest of its checksum to a device.
        if self.config.way == Way.ICMP or not (is_right(of_data(body) + pseudo) or tcp.checksum == fold(pseudo)):
            return []
        data, next_byte = body[tcp.offset * 4:], self.number + 1 & CIRCLE
        if tcp.flags & RST:
            self.good = False if (tcp.flags & ACK and tcp.acknowledgment == next_byte) or self.expected >= 0 else None
            return []
        if self.expected < 0:
            if tcp.flags & (SYN | ACK) != SYN | ACK or tcp.acknowledgment != next_byte:
                return []
            self.expected = tcp.sequence + 1 & CIRCLE
            if self.config.way == Way.TCP:
                self.good = True
                return [self.segment(RST | ACK, next_byte)]
            return [self.segment(ACK | PSH, next_byte, self.request())]
        if tcp.sequence != self.expected or not data:
            return []
        self.said += data
        self.expected = self.expected + len(data) & CIRCLE
        sent = next_byte + len(self.request())
        words = self.said.split(b" ", 2)
        if len(words) < 3 and len(self.said) < 64:
            return [self.segment(ACK, sent)]
        self.good = words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit() \
            and int(words[1]) in self.config.expect
        return [self.segment(RST | ACK, sent)]

    @staticmethod
    def join(address: Address) -> int:
        return address[0] << 64 | address[1]


@dataclass
class Record:
    """What is known of a member: answers in a row, and when it is asked next."""

    due: int = 0
    good: int = 0
    bad: int = 0
    seen: bool = False              # whether a check was ever decided
    reason: str = ""

    def take(self, good: bool, well: bool, config: CheckConfig) -> bool:
        """One answer more; whether the member is well now.  The first good one opens a new member."""
        first, self.seen = not self.seen, True
        self.good, self.bad = (self.good + 1, 0) if good else (0, self.bad + 1)
        if good:
            return well or first or self.good >= config.rise
        return well and self.bad < config.fall
