"""A DHCP server for IPv4 (RFC 2131, RFC 2132), for the network on its port and for those behind relays.

Link its port to a switch.  It answers ARP and ping for its address by itself.

## Ports

```text
              ┌────────┐
     lan   ───┤  dhcp  │
              └────────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `server` | address | | the server's own, which clients renew with |
| `mac` | MAC | | its Ethernet address |
| `subnets` | list | | what it gives away, see below; one contains `server`, the others are behind relays |
| `reservations` | list | none | `mac` or `client` (an identifier in hexadecimal), `address`, and a host `name` |
| `lease` | time | 1h | how long a lease is, if the client has no wish |
| `longest` | time | 24h | how long one may wish it |
| `quota` | u16 | 4 | addresses for one station, by the hardware address it sends from; 0: no limit |
| `decline` | time | 24h | how long an address is left alone that somebody was found to use |
| `leases` | u32 | 1024 | room for leases, offered, bound and remembered; fixed when the instance is made |
| `ready` | u32 | 1024 | room for replies that the kernel gives by itself, two or three a client; likewise fixed |

| of a subnet | meaning |
|---|---|
| `prefix` | `10.0.0.0/24`; option 1 and 28 follow from it |
| `pools` | ranges, `10.0.0.100-10.0.0.199`; without any, only reservations are given |
| `routers`, `dns`, `ntp` | addresses (options 3, 6, 42) |
| `domain` | a name (15) |
| `mtu` | bytes (26) |
| `routes` | `to` a prefix `via` an address (121); a default route is added from `routers`, as clients expect |
| `tftp`, `boot` | a server's name and a file (66, 67) |

```python
from iovisor.functions.dhcp import Dhcp

lan = Dhcp(server="10.0.0.1", mac="02:00:00:00:00:d1", subnets=[
    {"prefix": "10.0.0.0/24", "pools": ["10.0.0.100-10.0.0.199"], "routers": ["10.0.0.254"], "dns": ["10.0.0.53"]}],
    reservations=[{"mac": "02:00:00:00:00:07", "address": "10.0.0.7", "name": "printer"}])
```

A client keeps its address as long as nobody else needs it: renewed, after a release, after expiry.  A new one gets what
it wishes, or an address nobody had, or the one that is longest free.  An offer stands a minute.

Replies go as RFC 2131 section 4.1 says: to the relay, to the client's address, or to its hardware address, broadcast if
it asked for that; a refusal is broadcast.

## Tables

| table | key | value |
|---|---|---|
| `clients` | identifier or hardware address | address, hardware address, state, when it expires |
| `holders` | address | the client |
| `replies.ready` | hardware address, digest of what it said | the reply |
| `replies.generation` | | counts configurations, so that a reply of an older one is not given |

They outlive the process.  `clients` and `holders` are durable: with a daemon, leases outlive a power cut, too.  A lease
is on disk before its client is told.  After a power cut, one that stood when the leases were saved last stands for as
long as it lasts, from then on: the kernel may have made it longer meanwhile.

## Counters

`asked` and `told`: messages by type (1 discover, 2 offer, 3 request, 4 decline, 5 ack, 6 nak, 7 release, 8 inform);
those that the kernel answered, or gave, by itself count from 16 on (17 discover, ...).

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_DHCP` | is neither for this server nor DHCP, ARP or ping |
| `MALFORMED` | contradicts itself |

## Actions

`show` lists the leases; `release` ends one, by address.

## Limits

Python answers what it did not answer before.  A client that says the same again, byte for byte, while its lease
stands, is answered by the kernel: that is every renewal but the first, and every boot but two.  Replies with more than
256 bytes of options are always Python's.  A wish of a client that is not among these options is not met.  Addresses
are not probed before they are offered; a client that finds one in use says so, and `decline` keeps it out of the way.
IPv6 is for `dhcp6`.  No dynamic DNS, no BOOTP clients, no authentication (RFC 3118).
"""
# Why it is written so.
#
# The data path only sorts: what is DHCP goes up with its port, the rest is answered or dropped where it is.  `server`
# has the protocol and no packets, `leases` the book; this file has their frames.
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from iovisor.language import (
    SECOND,
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Prefix,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    forward,
    handles,
    ipv4,
    ipv4_address,
    ipv4_text,
    mac,
    mac_text,
    now,
    punt,
    require,
    table,
    time,
    u16,
    u32,
)
from iovisor.parts.station import is_echoed, is_resolved
from iovisor.wire import dhcp as wire
from iovisor.wire.datagram import datagram4
from iovisor.wire.dhcp import CLIENT_PORT, FIXED, MAGIC, SERVER_PORT, SMALLEST, Bootp, DhcpOption, DhcpType
from iovisor.wire.ethernet import BROADCAST as EVERYBODY
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import BROADCAST, IpProtocol, IPv4, is_sane, skip_options
from iovisor.wire.udp import Udp

from .leases import Book, Client, Lease, State, is_repeated
from .ready import Ready, Replies, RepliesConfig
from .server import Question, Reply, Server

AT_ONCE = 16           # the first of the counters for messages that the data path answers


MOST_OPTIONS = 1400 - 28 - FIXED        # bytes, whatever a client says it takes: what fits into an overlay, too
NEEDED = (DhcpOption.TYPE, DhcpOption.SERVER, DhcpOption.LEASE_TIME, DhcpOption.RENEWAL, DhcpOption.REBINDING,
          DhcpOption.MESSAGE, DhcpOption.CLIENT, DhcpOption.RELAY)


class Reason(Reasons):
    NOT_DHCP = auto()
    MALFORMED = auto()


# -- tables ----------------------------------------------------------------------------------------------------------

class Asked(Record):
    """A message has come."""

    length: u16


# -- configuration ---------------------------------------------------------------------------------------------------

class RouteConfig(Config):
    to: Prefix
    via: ipv4


class SubnetConfig(Config):
    """A network and what its hosts are told."""

    prefix: Prefix
    pools: list[str] = []
    routers: list[ipv4] = []
    dns: list[ipv4] = []
    ntp: list[ipv4] = []
    domain: str = ""
    mtu: u16 = 0
    routes: list[RouteConfig] = []
    tftp: str = ""
    boot: str = ""

    def validate(self) -> None:
        if self.prefix.bits != 32 or self.prefix.length > 30:
            raise ConfigError("prefix", f"{self.prefix} is no IPv4 network with room for hosts")
        for index, text in enumerate(self.pools):
            self.span(index, text)
        if self.mtu and self.mtu < 68:
            raise ConfigError("mtu", f"{self.mtu} is less than the 68 bytes every IPv4 link carries (RFC 791)")

    def span(self, index: int, text: str) -> range:
        first, _, last = text.replace(" ", "").partition("-")
        try:
            low, high = ipv4_address(first), ipv4_address(last or first)
        except ValueError:
            raise ConfigError(f"pools[{index}]", f"{text!r} is not a range such as 10.0.0.100-10.0.0.199") from None
        if low > high:
            raise ConfigError(f"pools[{index}]", f"{text!r} ends before it begins")
        network, everybody = self.prefix.address, self.broadcast
        if not network < low <= high < everybody:
            raise ConfigError(f"pools[{index}]", f"{text!r} has addresses that are no host's in {self.prefix}")
        return range(low, high + 1)

    @property
    def mask(self) -> int:
        return 0xffff_ffff ^ (1 << 32 - self.prefix.length) - 1

    @property
    def broadcast(self) -> int:
        return self.prefix.address | 0xffff_ffff ^ self.mask

    def offered(self, fixed: frozenset[int]) -> Pool:
        return Pool([self.span(index, text) for index, text in enumerate(self.pools)], fixed)


class Pool:
    """The addresses of a subnet that are for anybody, in order; those in `fixed` are somebody's."""

    def __init__(self, spans: list[range], fixed: frozenset[int]) -> None:
        self._spans, self._fixed = spans, fixed

    def __contains__(self, address: int) -> bool:
        return address not in self._fixed and any(address in span for span in self._spans)

    def __iter__(self) -> Iterator[int]:
        return (address for span in self._spans for address in span if address not in self._fixed)


class ReservationConfig(Config):
    """An address that is one client's."""

    mac: mac = 0
    client: str = ""
    address: ipv4
    name: str = ""

    def validate(self) -> None:
        if bool(self.mac) == bool(self.client):
            raise ConfigError("mac", "a reservation is for a `mac`, or for a `client`")
        try:
            bytes.fromhex(self.client)
        except ValueError:
            raise ConfigError("client", f"{self.client!r} is not hexadecimal") from None

    def is_for(self, owner: int, identifier: bytes) -> bool:
        return self.mac == owner if self.mac else bytes.fromhex(self.client) == identifier


class DhcpConfig(RepliesConfig):
    """A DHCP server."""

    server: ipv4
    mac: mac
    subnets: list[SubnetConfig]
    reservations: list[ReservationConfig] = []
    lease: time = 3600 * SECOND
    longest: time = 86400 * SECOND
    quota: u16 = 4
    decline: time = 86400 * SECOND
    leases: u32 = 1024

    def validate(self) -> None:
        if self.subnet_of(self.server) is None:
            raise ConfigError("subnets", f"none contains the server, {ipv4_text(self.server)}")
        for index, subnet in enumerate(self.subnets):
            for other in self.subnets[:index]:
                if other.prefix.address in subnet.prefix or subnet.prefix.address in other.prefix:
                    raise ConfigError(f"subnets[{index}].prefix", f"{subnet.prefix} overlaps with {other.prefix}")
        if self.lease < 60 * SECOND or self.longest < self.lease:
            raise ConfigError("lease", "a lease is a minute or more, and `longest` no shorter")
        seen = set()
        for index, reservation in enumerate(self.reservations):
            if self.subnet_of(reservation.address) is None or reservation.address == self.server:
                raise ConfigError(f"reservations[{index}].address",
                                  f"{ipv4_text(reservation.address)} cannot be given: no subnet has it, or the server")
            if reservation.address in seen:
                raise ConfigError(f"reservations[{index}].address",
                                  f"{ipv4_text(reservation.address)} is another's already")
            seen.add(reservation.address)

    def subnet_of(self, address: int) -> SubnetConfig | None:
        return next((subnet for subnet in self.subnets if address in subnet.prefix), None)

    def fixed(self) -> frozenset[int]:
        """Addresses that are not for anybody."""
        return frozenset({self.server, *(reservation.address for reservation in self.reservations)})

    def reserved(self, owner: int, identifier: bytes, subnet: SubnetConfig) -> int:
        """The address that is this client's in a subnet; 0 if none is."""
        return next((reservation.address for reservation in self.reservations
                     if reservation.is_for(owner, identifier) and reservation.address in subnet.prefix), 0)

    def options(self, subnet: SubnetConfig, owner: int, identifier: bytes) -> dict[int, bytes]:
        """What a client of a subnet can be told."""
        def many(addresses: list[int]) -> bytes:
            return b"".join(address.to_bytes(4, "big") for address in addresses)
        name = next((r.name for r in self.reservations if r.is_for(owner, identifier)), "")
        routes = [(route.to, route.via) for route in subnet.routes]
        if routes and subnet.routers and not any(to.length == 0 for to, _ in routes):
            routes.append((Prefix(0, 0), subnet.routers[0]))
        known = {
            DhcpOption.SUBNET_MASK: subnet.mask.to_bytes(4, "big"), DhcpOption.ROUTES: b"".join(map(described, routes)),
            DhcpOption.ROUTERS: many(subnet.routers), DhcpOption.NAME_SERVERS: many(subnet.dns),
            DhcpOption.HOST_NAME: name.encode(), DhcpOption.DOMAIN: subnet.domain.encode(),
            DhcpOption.MTU: subnet.mtu.to_bytes(2, "big") if subnet.mtu else b"",
            DhcpOption.BROADCAST: subnet.broadcast.to_bytes(4, "big"), DhcpOption.TIME_SERVERS: many(subnet.ntp),
            DhcpOption.TFTP_SERVER: subnet.tftp.encode(), DhcpOption.BOOT_FILE: subnet.boot.encode()}
        return {int(code): value for code, value in known.items() if value}


def described(route: tuple[Prefix, int]) -> bytes:
    """A route as RFC 3442 writes it: the length, as many bytes of the prefix as it needs, the router."""
    to, via = route
    return bytes([to.length]) + to.address.to_bytes(4, "big")[:-(-to.length // 8)] + via.to_bytes(4, "big")


# -- the function ----------------------------------------------------------------------------------------------------

class Dhcp(Function):
    config: DhcpConfig
    lan: Port

    clients: Hash[Client, Lease] = table("leases", durable=True)
    holders: Hash[ipv4, Client] = table("leases", durable=True)
    asked: Counter = table(2 * AT_ONCE)
    told: Counter = table(2 * AT_ONCE)
    replies: Replies = Replies()
    _server: Server | None = None

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require((eth.dst == self.config.mac or eth.dst == EVERYBODY) and not pkt.tagged, Reason.NOT_DHCP)
        match eth.type:
            case EtherType.ARP:
                require(is_resolved(pkt, eth, self.config.mac, self.config.server), Reason.NOT_DHCP)
                return forward(self.lan)
            case EtherType.IPV4:
                return self.datagram(pkt, eth)
        return drop(Reason.NOT_DHCP)

    def datagram(self, pkt: Packet, eth: Ethernet) -> Verdict:
        ip = pkt.parse(IPv4)
        require(is_sane(ip) and ip.length <= len(pkt) - 14 and ip.offset == 0 and ip.mf == 0, Reason.MALFORMED)
        skip_options(pkt, ip)
        if is_echoed(pkt, eth, ip, self.config.mac, self.config.server):
            return forward(self.lan)
        require(ip.proto == IpProtocol.UDP, Reason.NOT_DHCP)
        udp = pkt.parse(Udp)
        require(udp.dst == SERVER_PORT, Reason.NOT_DHCP)
        length = udp.length - 8
        require(length >= FIXED and length + 8 <= ip.length - ip.ihl * 4, Reason.MALFORMED)
        ready = self.replies.heard(pkt, eth.src, length)
        if ready is not None and self.stands(ready):
            self.asked.add(AT_ONCE + (1 if ready.kind == DhcpType.OFFER else 3), bytes=length)
            self.told.add(AT_ONCE + ready.kind, bytes=FIXED)
            self.replies.write(pkt, ready, self.config.server, self.config.mac)
            return forward(self.lan)
        return punt(Asked(length=length))

    def stands(self, ready: Ready) -> bool:
        """Whether the lease a reply is about is still its client's; it then begins anew."""
        lease = self.clients.get(Client(upper=ready.upper, lower=ready.lower))
        if lease is None or lease.address != ready.address:
            return False
        return is_repeated(lease, ready.kind == DhcpType.ACK, ready.lasts)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: DhcpConfig | None, new: DhcpConfig) -> None:
        if old != new:
            self.replies.forget()
        self._server = None

    def server(self) -> Server:
        """Who answers under the configuration there is."""
        if self._server is None:
            self._server = Server(self.config, Book(self.clients, self.holders))
        return self._server

    def book(self) -> Book[Lease]:
        return self.server().book

    def restored(self, since: int) -> None:
        Book(self.clients, self.holders).recovered(since, now())
        self._server = None

    @handles(Asked)
    def heard(self, event: Asked, packet: Packet) -> None:
        """Answer a client, or a relay."""
        found = read(packet, event.length)
        if found is None:
            return
        eth, ip, head, question = found
        self.asked.add(question.kind, bytes=event.length)
        reply = self.server().answer(question, now())
        if reply is not None:
            self.told.add(reply.kind, bytes=FIXED)
            if reply.yours and ip.ihl == 5 and self.server().station(question) == question.owner:
                client, seconds = question.client, int.from_bytes(dict(reply.options)[DhcpOption.LEASE_TIME], "big")
                self.replies.keep(packet, event.length, head.address, wire.encode(reply.options), Ready(
                    upper=client.upper, lower=client.lower, lasts=seconds * SECOND, address=reply.yours,
                    kind=reply.kind))
            self.send(written(self.config, eth, ip, head, question, reply), self.lan)

    @action
    def show(self) -> list[dict[str, Any]]:
        """The leases, by address; `seconds` until they end."""
        moment = now()
        rows = sorted(self.book().all(), key=lambda pair: pair[1].address)
        return [{"address": ipv4_text(lease.address), "mac": mac_text(lease.mac),
                 "state": State(lease.state if lease.expires > moment else State.FREE).name.lower(),
                 "seconds": max(lease.expires - moment, 0) // SECOND} for _, lease in rows]

    @action
    def release(self, address: str) -> bool:
        """End the lease of an address; whether there was one."""
        holder = self.book().holder(ipv4_address(address))
        if holder is not None:
            self.book().end(holder, State.FREE, now())
        return holder is not None


def read(packet: Packet, length: int) -> tuple[Ethernet, IPv4, Bootp, Question] | None:
    """A frame as a question; None if it is none a client or relay can have meant."""
    eth, ip, _ = packet.parse(Ethernet, IPv4, Udp)
    start = 14 + ip.ihl * 4 + 8
    message = bytes(packet)[start:start + length]
    head = Bootp.decode(message[:Bootp.size])
    if head.operation != wire.BootpOperation.REQUEST or (head.hardware, head.hardware_length) != (wire.ETHERNET, 6):
        return None
    try:
        options = wire.decode(message)
        kind = DhcpType(int.from_bytes(options.get(DhcpOption.TYPE, b""), "big"))
    except ValueError:
        return None
    if kind in (DhcpType.OFFER, DhcpType.ACK, DhcpType.NAK) or head.hops > wire.MOST_HOPS:
        return None
    question = Question(kind, head.address, options, head.client, head.relay, eth.src)
    return Ethernet.decode(bytes(eth)), IPv4.decode(bytes(ip)), head, question


def written(config: DhcpConfig, eth: Ethernet, ip: IPv4, head: Bootp, question: Question, reply: Reply) -> bytes:
    """The frame of a reply (RFC 2131 section 4.1 says where it goes, table 3 what is in it)."""
    room = int.from_bytes(question.options.get(DhcpOption.MOST, b""), "big") - 28 - FIXED
    options, names = wire.fitted(reply.options, min(max(room, wire.SMALLEST_MOST), MOST_OPTIONS), NEEDED)
    body = Bootp(operation=wire.BootpOperation.REPLY, id=head.id, broadcast=head.broadcast, reserved=head.reserved,
                 client=0 if reply.kind == DhcpType.NAK else head.client, yours=reply.yours, relay=head.relay,
                 address=head.address)
    refused = reply.kind == DhcpType.NAK
    if head.relay:
        to, hardware, port = head.relay, eth.src, SERVER_PORT
        body.broadcast = 1 if refused else head.broadcast
    elif refused or (head.client == 0 and head.broadcast):
        to, hardware, port = BROADCAST, EVERYBODY, CLIENT_PORT
    elif head.client:                               # it has an address, and may be behind a router
        to, hardware, port = head.client, eth.src, CLIENT_PORT
    else:
        to, hardware, port = reply.yours, head.address, CLIENT_PORT
    message = (bytes(body) + names + MAGIC.to_bytes(4, "big") + options).ljust(SMALLEST, b"\0")
    return datagram4((config.mac, hardware), (config.server, to), (SERVER_PORT, port), message)


__all__ = ["Dhcp", "DhcpConfig", "ReservationConfig", "SubnetConfig"]
