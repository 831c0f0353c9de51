"""A DHCP relay agent for IPv4 (RFC 2131, RFC 1542, RFC 3046): hands what clients ask to servers in other networks.

Link its port to the switch of the clients.  Servers are reached through the network's router, or on the network.  It
answers ARP and ping for its address by itself.

## Ports

```text
              ┌────────────┐
     lan   ───┤ dhcp_relay │
              └────────────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `address` | address | | its own, by which servers know the network of the clients |
| `mac` | MAC | | its Ethernet address |
| `servers` | list | | up to 16; each gets every message |
| `gateway` | address | none | the next hop to the servers; without one they are on the network itself |
| `circuit` | text | none | what servers are told of where clients are, and clients are not (option 82, circuit ID) |
| `most_hops` | u8 | 4 | relays a message may have passed before (RFC 1542 section 4.1.1), 16 at most |

```python
from iovisor.functions.dhcp_relay import DhcpRelay

floor = DhcpRelay(address="10.7.0.2", mac="02:00:00:00:07:02", servers=["10.0.0.1"], gateway="10.7.0.1",
                  circuit="floor 7")
```

A message of another relay goes on under that relay's name.  One that says it was relayed by this one, or tells where
its client is although no relay has seen it, is not believed (RFC 3046 section 2.1.1).  If `circuit` makes a message
longer than 576 bytes, it goes without.

## Tables

| table | key | value |
|---|---|---|
| `hops` | address of a next hop | its Ethernet address |

## Counters

`relayed`: messages to servers by type (1 discover, 3 request, 4 decline, 7 release, 8 inform), and from 16 on those to
clients (18 offer, 21 ack, 22 nak); 0: those that found no next hop.

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_DHCP` | is neither DHCP for a relay, nor ARP or ping for this one |
| `MALFORMED` | contradicts itself |

## Actions

None.

## Limits

Messages are relayed in Python.  16 wait for a next hop.  No DHCPv6.
"""
# Why it is written so.
#
# The data path sorts, as that of `dhcp` does.  Options are changed as bytes, not read and written anew: what a client
# said reaches the server as it was said, in parts and order, but for the one that is added or taken out.
from __future__ import annotations

from iovisor.language import (
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    auto,
    drop,
    every,
    forward,
    handles,
    ipv4,
    ipv4_text,
    mac,
    punt,
    require,
    table,
    u8,
    u16,
)
from iovisor.parts.asking import arp_request
from iovisor.parts.station import is_echoed, is_resolved
from iovisor.wire import dhcp as wire
from iovisor.wire.arp import Arp, ArpOperation, is_ethernet_ipv4
from iovisor.wire.datagram import datagram4
from iovisor.wire.dhcp import CLIENT_PORT, FIXED, MOST_HOPS, SERVER_PORT, SMALLEST, Bootp, BootpOperation, DhcpOption
from iovisor.wire.ethernet import BROADCAST as EVERYBODY
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import BROADCAST, IpProtocol, IPv4, is_sane, skip_options
from iovisor.wire.udp import Udp

WAITING = 16                    # messages
TO_CLIENTS = 16                 # the first of the counters for messages to clients
LONGEST = 576 - 28              # bytes of a message that every server accepts (RFC 2131 section 2)
CIRCUIT = 1                     # RFC 3046 section 3.1


class Reason(Reasons):
    NOT_DHCP = auto()
    MALFORMED = auto()


# -- tables ----------------------------------------------------------------------------------------------------------

class Message(Record):
    """A message has come; it begins `start` bytes into the frame."""

    length: u16
    start: u16


class Resolved(Record):
    """A neighbor says where it is."""

    address: ipv4
    mac: mac


# -- configuration ---------------------------------------------------------------------------------------------------

class DhcpRelayConfig(Config):
    """A relay agent."""

    address: ipv4
    mac: mac
    servers: list[ipv4]
    gateway: ipv4 = 0
    circuit: str = ""
    most_hops: u8 = 4

    def validate(self) -> None:
        if not 1 <= len(self.servers) <= 16:
            raise ConfigError("servers", "name one server or more, 16 at most")
        for index, server in enumerate(self.servers):
            if server in (self.address, *self.servers[:index]):
                raise ConfigError(f"servers[{index}]", f"{ipv4_text(server)} is the relay itself, or there already")
        if len(self.circuit.encode()) > 100:
            raise ConfigError("circuit", "100 bytes at most")
        if not 1 <= self.most_hops <= MOST_HOPS:
            raise ConfigError("most_hops", f"{self.most_hops} is not between 1 and {MOST_HOPS}")


# -- the function ----------------------------------------------------------------------------------------------------

class DhcpRelay(Function):
    config: DhcpRelayConfig
    lan: Port

    hops: Hash[ipv4, mac] = table(32)
    relayed: Counter = table(2 * TO_CLIENTS)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require((eth.dst == self.config.mac or eth.dst == EVERYBODY) and not pkt.tagged, Reason.NOT_DHCP)
        match eth.type:
            case EtherType.ARP:
                if is_resolved(pkt, eth, self.config.mac, self.config.address):
                    return forward(self.lan)
                arp = pkt.parse(Arp)
                require(is_ethernet_ipv4(arp) and arp.operation == ArpOperation.REPLY
                        and arp.target_ip == self.config.address, Reason.NOT_DHCP)
                return punt(Resolved(address=arp.sender_ip, mac=arp.sender_mac))
            case EtherType.IPV4:
                ip = pkt.parse(IPv4)
                require(is_sane(ip) and ip.length <= len(pkt) - 14 and ip.offset == 0 and ip.mf == 0, Reason.MALFORMED)
                require(ip.dst == self.config.address or ip.dst == BROADCAST, Reason.NOT_DHCP)
                skip_options(pkt, ip)
                if is_echoed(pkt, eth, ip, self.config.mac, self.config.address):
                    return forward(self.lan)
                require(ip.proto == IpProtocol.UDP, Reason.NOT_DHCP)
                udp = pkt.parse(Udp)
                require(udp.dst == SERVER_PORT, Reason.NOT_DHCP)
                length = udp.length - 8
                require(length >= FIXED and length + 8 <= ip.length - ip.ihl * 4, Reason.MALFORMED)
                return punt(Message(length=length, start=14 + ip.ihl * 4 + 8))
        return drop(Reason.NOT_DHCP)

    # -- control path ------------------------------------------------------------------------------------------------

    waiting: list[tuple[int, bytes]]

    def configure(self, old: DhcpRelayConfig | None, new: DhcpRelayConfig) -> None:
        if old is None:
            self.waiting = []
        wanted = {new.gateway} if new.gateway else set(new.servers)
        for address in [address for address in self.hops if address not in wanted]:
            del self.hops[address]

    @handles(Message)
    def heard(self, event: Message, packet: Packet) -> None:
        """Hand on what a client, a relay or a server says."""
        message = bytes(packet.data)[event.start:event.start + event.length]
        head = Bootp.decode(message[:Bootp.size])
        try:
            options = wire.decode(message)
            kind = wire.DhcpType(int.from_bytes(options.get(DhcpOption.TYPE, b""), "big"))
        except ValueError:
            return
        if head.operation == BootpOperation.REPLY:
            if head.relay == self.config.address:
                self.relayed.add(TO_CLIENTS + kind, bytes=len(message))
                self.send(self.to_client(head, message), self.lan)
            return
        if head.hops >= self.config.most_hops or head.relay == self.config.address or (
                head.relay == 0 and DhcpOption.RELAY in options):
            return
        said = message
        if head.relay == 0:
            head.relay = self.config.address
            said = added(message, self.config.circuit.encode())
        head.hops += 1
        self.relayed.add(kind, bytes=len(said))
        for server in self.config.servers:
            self.pass_on(server, bytes(head) + said[Bootp.size:])

    def to_client(self, head: Bootp, message: bytes) -> bytes:
        """The frame of a server's reply (RFC 1542 section 4.1.2)."""
        to, hardware = (BROADCAST, EVERYBODY) if head.broadcast or not head.yours else (head.yours, head.address)
        said = removed(message) if self.config.circuit else message
        return datagram4((self.config.mac, hardware), (self.config.address, to), (SERVER_PORT, CLIENT_PORT), said)

    def pass_on(self, server: int, message: bytes) -> None:
        """To a server, as soon as the way there is known."""
        hop = self.config.gateway or server
        hardware = self.hops.get(hop)
        if hardware is None:
            if len(self.waiting) == WAITING:
                self.waiting.pop(0)
                self.relayed.add(0)
            self.waiting.append((server, message))
            self.send(arp_request(self.config.mac, self.config.address, hop), self.lan)
            return
        self.send(datagram4((self.config.mac, hardware), (self.config.address, server), (SERVER_PORT, SERVER_PORT),
                            message), self.lan)

    @handles(Resolved)
    def resolved(self, event: Resolved, packet: Packet) -> None:
        """A next hop is known: what waits for it goes."""
        if event.address not in ({self.config.gateway} if self.config.gateway else set(self.config.servers)):
            return
        self.hops[event.address] = event.mac
        waiting, self.waiting = self.waiting, []
        for server, message in waiting:
            self.pass_on(server, message)

    @every(30)
    def look(self) -> None:
        """Ask again where next hops are, so that one that moved is found."""
        for address, hardware in list(self.hops.items()):
            self.send(arp_request(self.config.mac, self.config.address, address, hardware), self.lan)


def added(message: bytes, circuit: bytes) -> bytes:
    """A message with the relay's note as its last option, unless it becomes too long."""
    if not circuit:
        return message
    note = bytes([DhcpOption.RELAY, 2 + len(circuit), CIRCUIT, len(circuit)]) + circuit
    options = b"".join(part for code, part in parts(message) if code not in (wire.PAD, wire.END))
    made = message[:FIXED] + options + note + bytes([wire.END])
    return made.ljust(SMALLEST, b"\0") if len(made) <= LONGEST else message


def removed(message: bytes) -> bytes:
    """A message without the relay's note."""
    options = b"".join(part for code, part in parts(message) if code not in (wire.PAD, wire.END, DhcpOption.RELAY))
    return (message[:FIXED] + options + bytes([wire.END])).ljust(SMALLEST, b"\0")


def parts(message: bytes) -> list[tuple[int, bytes]]:
    """The options of a message that `wire.decode` accepts, as they stand: code and bytes."""
    found, at = [], FIXED
    while at < len(message) and message[at] != wire.END:
        size = 1 if message[at] == wire.PAD else 2 + message[at + 1]
        found.append((message[at], message[at:at + size]))
        at += size
    return found


__all__ = ["DhcpRelay", "DhcpRelayConfig"]
