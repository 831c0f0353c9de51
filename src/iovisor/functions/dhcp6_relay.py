"""A DHCP relay agent for IPv6 (RFC 8415 section 19): hands what clients ask to servers in other networks.

Link its port to the switch of the clients.  Servers are reached through the network's router, or on the network.  It
answers neighbor solicitations and ping for its addresses by itself.

## Ports

```text
              ┌─────────────┐
     lan   ───┤ dhcp6_relay │
              └─────────────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `address` | address | | its own, by which servers know the network of the clients |
| `mac` | MAC | | its Ethernet address |
| `servers` | list | | up to 16; each gets every message |
| `gateway` | address | none | the next hop to the servers; without one they are on the network itself |
| `interface` | text | none | what servers are told of where clients are, and clients are not (option 18) |
| `hardware` | bool | true | whether servers are told the Ethernet address of clients (option 79, RFC 6939) |
| `most_hops` | u8 | 8 | relay agents a message may have passed before (HOP_COUNT_LIMIT), 8 at most |

```python
from iovisor.functions.dhcp6_relay import Dhcp6Relay

floor = Dhcp6Relay(address="2001:db8:7::2", mac="02:00:00:00:07:02", servers=["2001:db8:1::2"],
                   gateway="2001:db8:7::1", interface="floor 7")
```

A message of another relay agent goes on in one more wrapping.  Replies are taken from `servers` alone.

## Tables

| table | key | value |
|---|---|---|
| `hops` | address of a next hop | its Ethernet address |
| `clients` | address on the link | the Ethernet address it was heard from |

## Counters

`relayed`: messages to servers by type (1 solicit, 3 request, 4 confirm, 5 renew, 6 rebind, 8 release, 9 decline,
11 information request, 12 of another agent), and from 16 on those to clients (18 advertise, 23 reply, 29 for another
agent); 0: those that found no next hop.

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_DHCP` | is neither DHCP for a relay agent, nor neighbor discovery or ping for this one; or belongs to a VLAN |
| `MALFORMED` | contradicts itself |

## Actions

None.

## Limits

Messages are relayed in Python.  16 wait for a next hop.  A message that a wrapping makes longer than 1,452 bytes is not
relayed.  Which prefixes servers delegate is not looked at, so routes to them are somebody else's.
"""
# Why it is written so.
#
# The data path sorts, as that of `dhcp6` does.  What a client said is wrapped as it is, and never read: options of
# tomorrow pass, too.  Where clients are is learned from their frames, where next hops are only from answers to our
# questions: a client that takes the gateway's address for its own would have all messages else.
from __future__ import annotations

from iovisor.language import (
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Lru,
    Packet,
    Port,
    Reasons,
    Record,
    Reject,
    Verdict,
    auto,
    drop,
    every,
    forward,
    handles,
    ipv6,
    ipv6_text,
    mac,
    punt,
    require,
    table,
    u8,
    u16,
)
from iovisor.parts.asking import is_right6, solicitation
from iovisor.parts.station import is_echoed6, is_located
from iovisor.wire import dhcp6 as wire
from iovisor.wire.datagram import datagram6
from iovisor.wire.dhcp6 import (
    ALL_SERVERS,
    CLIENT_PORT,
    MOST_HOPS,
    SERVER_PORT,
    SERVERS_AND_RELAYS,
    SHORTEST,
    SHORTEST_RELAYED,
    Dhcp6Option,
    Dhcp6Relayed,
    Dhcp6Type,
    MalformedMessage,
)
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import IPv6, is_link_local, is_sane, link_local, multicast_mac
from iovisor.wire.neighbor import ON_LINK, NeighborAdvertisement, OptionType, link_layer_address
from iovisor.wire.udp import Udp

WAITING = 16                    # messages
TO_CLIENTS = 16                 # the first of the counters for messages to clients
START = 62                      # where a message begins in a frame
LONGEST = 1500 - 48             # bytes of a message that fits in a frame
ASKING = frozenset({Dhcp6Type.SOLICIT, Dhcp6Type.REQUEST, Dhcp6Type.CONFIRM, Dhcp6Type.RENEW, Dhcp6Type.REBIND,
                    Dhcp6Type.RELEASE, Dhcp6Type.DECLINE, Dhcp6Type.INFORMATION_REQUEST})
Waiting = tuple[int, int, int, bytes]           # next hop, address, port, message


class Reason(Reasons):
    NOT_DHCP = auto()
    MALFORMED = auto()


# -- tables ----------------------------------------------------------------------------------------------------------

class Message(Record):
    """A message has come."""

    length: u16


class Advertised(Record):
    """A neighbor says where it is."""

    length: u16


# -- configuration ---------------------------------------------------------------------------------------------------

class Dhcp6RelayConfig(Config):
    """A relay agent."""

    address: ipv6
    mac: mac
    servers: list[ipv6]
    gateway: ipv6 = 0
    interface: str = ""
    hardware: bool = True
    most_hops: u8 = MOST_HOPS

    def validate(self) -> None:
        if is_link_local(self.address) or self.address == 0:
            raise ConfigError("address", "servers know the network by it, so it is not of the link alone")
        if not 1 <= len(self.servers) <= 16:
            raise ConfigError("servers", "name one server or more, 16 at most")
        for index, server in enumerate(self.servers):
            if server in (self.address, *self.servers[:index]):
                raise ConfigError(f"servers[{index}]", f"{ipv6_text(server)} is the relay itself, or there already")
        if len(self.interface.encode()) > 100:
            raise ConfigError("interface", "100 bytes at most")
        if not 1 <= self.most_hops <= MOST_HOPS:
            raise ConfigError("most_hops", f"{self.most_hops} is not between 1 and {MOST_HOPS}")


# -- the function ----------------------------------------------------------------------------------------------------

class Dhcp6Relay(Function):
    config: Dhcp6RelayConfig
    lan: Port

    hops: Hash[ipv6, mac] = table(32)
    clients: Lru[ipv6, mac] = table(4096)
    relayed: Counter = table(2 * TO_CLIENTS)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(eth.type == EtherType.IPV6 and not pkt.tagged, Reason.NOT_DHCP)
        ip = pkt.parse(IPv6)
        require(is_sane(ip) and ip.length <= len(pkt) - 54, Reason.MALFORMED)
        own = link_local(self.config.mac)
        mine = ip.dst == own or ip.dst == self.config.address
        require(eth.dst == self.config.mac or (not mine and eth.dst == multicast_mac(ip.dst)), Reason.NOT_DHCP)
        if ip.next == IpProtocol.ICMP6:
            icmp = pkt.peek(Icmp6)
            if icmp is None or ip.length < Icmp6.size:
                return drop(Reason.MALFORMED)
            if icmp.type == Icmp6Type.NEIGHBOR_SOLICITATION:
                require(is_located(pkt, eth, ip, self.config.mac, own, self.config.address), Reason.NOT_DHCP)
                return forward(self.lan)
            if icmp.type == Icmp6Type.NEIGHBOR_ADVERTISEMENT:
                require(mine and ip.hops == ON_LINK and icmp.code == 0, Reason.NOT_DHCP)
                return punt(Advertised(length=ip.length))
            require(mine and is_echoed6(pkt, eth, ip, self.config.mac, ip.dst), Reason.NOT_DHCP)
            return forward(self.lan)
        require(ip.next == IpProtocol.UDP and (mine or ip.dst == SERVERS_AND_RELAYS or ip.dst == ALL_SERVERS),
                Reason.NOT_DHCP)
        udp = pkt.parse(Udp)
        require(udp.dst == SERVER_PORT, Reason.NOT_DHCP)
        length = udp.length - 8
        require(length >= SHORTEST and length + 8 <= ip.length and udp.checksum != 0 and ip.src != 0, Reason.MALFORMED)
        return punt(Message(length=length))

    # -- control path ------------------------------------------------------------------------------------------------

    waiting: list[Waiting]

    def configure(self, old: Dhcp6RelayConfig | None, new: Dhcp6RelayConfig) -> None:
        if old is None:
            self.waiting = []
        for address in [address for address in self.hops if address not in next_hops(new)]:
            del self.hops[address]

    @handles(Message)
    def heard(self, event: Message, packet: Packet) -> None:
        """Hand on what a client, a relay agent or a server says."""
        frame = bytes(packet.data)
        eth, ip, message = Ethernet.decode(frame), IPv6.decode(frame[14:]), frame[START:START + event.length]
        if message[0] == Dhcp6Type.RELAY_REPLY:
            if ip.src in self.config.servers and len(message) >= SHORTEST_RELAYED:
                self.unwrap(message)
            return
        wrapped = self.wrap(eth, ip, message)
        if wrapped is None or len(wrapped) > LONGEST:
            return
        if is_link_local(ip.src) and not is_group(eth.src):
            self.clients[ip.src] = eth.src
        self.relayed.add(message[0], bytes=len(wrapped))
        for server in self.config.servers:
            self.pass_on(self.config.gateway or server, server, SERVER_PORT, wrapped)

    def wrap(self, eth: Ethernet, ip: IPv6, message: bytes) -> bytes | None:
        """What servers get of a message (sections 19.1.1 and 19.1.2); None if they are not to."""
        told = [(Dhcp6Option.INTERFACE, self.config.interface.encode())] if self.config.interface else []
        if message[0] == Dhcp6Type.RELAY_FORWARD:
            if len(message) < SHORTEST_RELAYED or message[1] >= self.config.most_hops:
                return None
            # An agent that has an address of its own names its link by itself.
            head = Dhcp6Relayed(type=Dhcp6Type.RELAY_FORWARD, hops=message[1] + 1, peer=ip.src,
                                link=self.config.address if is_link_local(ip.src) else 0)
        elif message[0] in ASKING:
            head = Dhcp6Relayed(type=Dhcp6Type.RELAY_FORWARD, link=self.config.address, peer=ip.src)
            if self.config.hardware:
                told.append((Dhcp6Option.HARDWARE, wire.ETHERNET.to_bytes(2, "big") + eth.src.to_bytes(6, "big")))
        else:
            return None
        return bytes(head) + wire.encode([*told, (Dhcp6Option.RELAYED, message)])

    def unwrap(self, message: bytes) -> None:
        """Give who asked, or the agent before us, what a server says (section 19.2)."""
        head = Dhcp6Relayed.decode(message)
        try:
            said = wire.first(wire.decode(message[SHORTEST_RELAYED:]), Dhcp6Option.RELAYED)
        except MalformedMessage:
            return
        if not said or said[0] not in (Dhcp6Type.ADVERTISE, Dhcp6Type.REPLY, Dhcp6Type.RECONFIGURE,
                                       Dhcp6Type.RELAY_REPLY):
            return
        self.relayed.add(TO_CLIENTS + said[0], bytes=len(said))
        port = SERVER_PORT if said[0] == Dhcp6Type.RELAY_REPLY else CLIENT_PORT
        self.pass_on(head.peer, head.peer, port, said)

    # -- next hops ---------------------------------------------------------------------------------------------------

    def source(self, to: int) -> int:
        """Our address for talking to another."""
        return link_local(self.config.mac) if is_link_local(to) else self.config.address

    def pass_on(self, hop: int, to: int, port: int, message: bytes) -> None:
        """Send a message, as soon as the way there is known."""
        known = self.hops.get(hop) if hop in next_hops(self.config) else self.clients.get(hop)
        if known is None:
            if len(self.waiting) == WAITING:
                self.waiting.pop(0)
                self.relayed.add(0)
            self.waiting.append((hop, to, port, message))
            self.send(solicitation(self.config.mac, self.source(hop), hop), self.lan)
            return
        self.send(datagram6((self.config.mac, known), (self.source(to), to), (SERVER_PORT, port), message), self.lan)

    @handles(Advertised)
    def advertised(self, event: Advertised, packet: Packet) -> None:
        """A neighbor we asked for is known: what waits for it goes."""
        frame = bytes(packet.data)
        ip, body = IPv6.decode(frame[14:]), frame[54:54 + event.length]
        if len(body) < NeighborAdvertisement.size or not is_right6(ip.src, ip.dst, body):
            return
        packet.cursor = 54 + NeighborAdvertisement.size
        target = NeighborAdvertisement.decode(body).target
        try:
            told = link_layer_address(packet, OptionType.TARGET_ADDRESS) or Ethernet.decode(frame).src
        except Reject:
            return
        if is_group(told):
            return
        if target in next_hops(self.config):
            self.hops[target] = told
        elif any(hop == target for hop, *_ in self.waiting):
            self.clients[target] = told
        ready = [one for one in self.waiting if one[0] == target]
        self.waiting = [one for one in self.waiting if one[0] != target]
        for one in ready:
            self.pass_on(*one)

    @every(30)
    def look(self) -> None:
        """Ask again where next hops are, so that one that moved is found."""
        for address, hardware in list(self.hops.items()):
            self.send(solicitation(self.config.mac, self.source(address), address, hardware), self.lan)


def next_hops(config: Dhcp6RelayConfig) -> set[int]:
    """The addresses that lead to servers."""
    return {config.gateway} if config.gateway else set(config.servers)


__all__ = ["Dhcp6Relay", "Dhcp6RelayConfig"]
