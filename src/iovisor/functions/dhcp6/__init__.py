"""A DHCP server for IPv6 (RFC 8415), for the network on its port and for those behind relay agents.

Link its port to a switch.  It answers neighbor solicitations and ping for its addresses by itself.  Hosts learn from a
router's advertisements that they may ask it, and where the way out is; it cannot tell them.  A `router` of the same
document that advertises a subnet's `prefix` tells them what is right by itself.

## Ports

```text
              ┌─────────┐
     lan   ───┤  dhcp6  │
              └─────────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `server` | address | | the server's own, which relay agents send to; to its own network it speaks from fe80:: |
| `mac` | MAC | | its Ethernet address |
| `duid` | text | from `mac` | its identifier (section 11) in hexadecimal; one that changes is another server |
| `subnets` | list | | what it gives and tells, see below; one contains `server`, others are behind relay agents |
| `reservations` | list | none | `mac` or `duid` of a client, and an `address`, a `prefix`, or both |
| `lease` | time | 1h | how long a lease is |
| `preferred` | time | 5/8 of it | how long an address is used for what is new; half of that is T1, four fifths are T2 |
| `rapid` | bool | false | whether who wishes for two messages, not four, gets that; not beside other servers |
| `preference` | u8 | 0 | which server clients choose: the highest, and 255 at once |
| `quota` | u16 | 8 | leases for one hardware address; 0: no limit |
| `decline` | time | 24h | how long an address is left alone that somebody was found to use |
| `sol_max_rt`, `inf_max_rt` | time | none | how seldom clients that get no answer may ask in the end (options 82, 83) |
| `leases` | u32 | 1024 | room for leases, offered, bound and remembered; fixed when the instance is made |
| `ready` | u32 | 1024 | room for replies that the kernel gives by itself, two or three a client; likewise fixed |

| of a subnet | meaning |
|---|---|
| `prefix` | `2001:db8:1::/64` |
| `pools` | ranges, `2001:db8:1::1000-2001:db8:1::1fff`; without any, only reservations are given |
| `delegated` | for routers that ask (IA_PD): `{prefix: 2001:db8:100::/40, length: 56}` is 65,536 prefixes |
| `dns` | addresses (option 23) |
| `search` | names (24) |
| `ntp` | addresses (56, and 31 for clients that ask for that) |
| `refresh` | how long what a host without a lease was told is true (32), 10 minutes or more |

```python
from iovisor.functions.dhcp6 import Dhcp6

lan = Dhcp6(server="2001:db8:1::2", mac="02:00:00:00:00:d6", subnets=[
    {"prefix": "2001:db8:1::/64", "pools": ["2001:db8:1::1000-2001:db8:1::1fff"], "dns": ["2001:db8:1::53"]}],
    reservations=[{"mac": "02:00:00:00:00:07", "address": "2001:db8:1::7"}])
```

A subnet with neither `pools` nor reservations is *stateless*: its hosts make their addresses by themselves and ask only
what there is.

Each identity association of a client is a lease, so a host may have several addresses.  It keeps what it has as long as
nobody else needs it: renewed, after a release, after expiry.  A new one gets what is reserved, what it wishes, or an
address that its identifier picks; the last to be given is what is longest free.  An offer stands a minute.  A client is
told only what it asks for.

A client is known by its identifier, and has a hardware address: that of its frames, or what its relay agent tells
(option 79), or what is in its link-local address.  `mac` of a reservation is compared with that, and with the address
in an identifier made of one.

Prefixes are delegated by lease like addresses.  *A route to one is the router's*: this server lists who has which
prefix (`show`), and changes no router.  Reserve a prefix and put it into the router's `static`.

## Tables

| table | key | value |
|---|---|---|
| `associations` | identifier, kind and number | address or prefix, its client, state, when it expires |
| `holders` | address, or first of a prefix | the association |
| `replies.ready` | hardware address, digest of what it said | the reply |
| `replies.generation` | | counts configurations, so that a reply of an older one is not given |

They outlive the process.  `associations` and `holders` are durable: with a daemon, leases outlive a power cut, as those
of `dhcp` do.

## Counters

`asked` and `told`: messages by type (1 solicit, 2 advertise, 3 request, 4 confirm, 5 renew, 6 rebind, 7 reply,
8 release, 9 decline, 11 information request); those that the kernel answered, or gave, by itself count from 16 on (17
solicit, ...).

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_DHCP` | is neither for this server nor DHCP, neighbor solicitation or ping; or belongs to a VLAN |
| `MALFORMED` | contradicts itself |

## Actions

`show` lists the leases; `release` ends one, by address.

## Limits

Python answers what it did not answer before.  A client that says the same again, byte for byte, while its lease stands,
is answered by the kernel: that is every renewal but the first, and every boot but two.  Messages about several leases,
those through relay agents, and replies with more than 256 bytes of options are always Python's.

One lease to an association.  Clients' wishes for times are not met; nor are those for temporary
addresses (IA_TA), which RFC 8415 discourages.  Unicast by clients is refused with UseMulticast, as is standard where
the option for it was not given, and it never is.  No Reconfigure, no authentication, no dynamic DNS: a client's name is
ignored.  Messages behind extension headers, or in fragments, are not read.
"""
# Why it is written so.
#
# As `dhcp` is: the data path sorts and answers for the station, `server` has the protocol and no packets, `frames` what
# is around it.  The book is that of `dhcp`, with leases that say more; what the kernel answers by itself is in `ready`.
from __future__ import annotations

from typing import Any

from iovisor.language import (
    SECOND,
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    forward,
    handles,
    ipv6,
    ipv6_address,
    ipv6_text,
    mac_text,
    now,
    punt,
    require,
    table,
    u16,
)
from iovisor.parts.station import is_echoed6, is_located
from iovisor.wire import dhcp6 as wire
from iovisor.wire.dhcp6 import ALL_SERVERS, SERVER_PORT, SERVERS_AND_RELAYS, SHORTEST, Dhcp6Type
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp6 import Icmp6, Icmp6Type
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.ipv6 import IPv6, is_link_local, is_sane, link_local, multicast_mac
from iovisor.wire.udp import Udp

from .frames import START, Heard, read, written
from .leases import Book, Client, Lease6, State, is_repeated
from .ready import Ready6, Replies6
from .server import Reply, Server
from .settings import DelegatedConfig, Dhcp6Config, ReservationConfig, SubnetConfig

AT_ONCE = 16           # the first of the counters for messages that the data path answers
REPEATED = frozenset({Dhcp6Type.SOLICIT, Dhcp6Type.REQUEST, Dhcp6Type.RENEW, Dhcp6Type.REBIND,
                      Dhcp6Type.INFORMATION_REQUEST})


class Reason(Reasons):
    NOT_DHCP = auto()
    MALFORMED = auto()


class Asked(Record):
    """A message has come."""

    length: u16


class Dhcp6(Function):
    config: Dhcp6Config
    lan: Port

    associations: Hash[Client, Lease6] = table("leases", durable=True)
    holders: Hash[ipv6, Client] = table("leases", durable=True)
    asked: Counter = table(2 * AT_ONCE)
    told: Counter = table(2 * AT_ONCE)
    replies: Replies6 = Replies6()
    _server: Server | None = None

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(eth.type == EtherType.IPV6 and not pkt.tagged, Reason.NOT_DHCP)
        ip = pkt.parse(IPv6)
        require(is_sane(ip) and ip.length <= len(pkt) - 54, Reason.MALFORMED)
        own = link_local(self.config.mac)
        mine = ip.dst == own or ip.dst == self.config.server
        require(eth.dst == self.config.mac or (not mine and eth.dst == multicast_mac(ip.dst)), Reason.NOT_DHCP)
        if ip.next == IpProtocol.ICMP6:
            icmp = pkt.peek(Icmp6)
            if icmp is None or ip.length < Icmp6.size:
                return drop(Reason.MALFORMED)
            if icmp.type == Icmp6Type.NEIGHBOR_SOLICITATION:
                require(is_located(pkt, eth, ip, self.config.mac, own, self.config.server), Reason.NOT_DHCP)
                return forward(self.lan)
            require(mine and is_echoed6(pkt, eth, ip, self.config.mac, ip.dst), Reason.NOT_DHCP)
            return forward(self.lan)
        require(ip.next == IpProtocol.UDP and (mine or ip.dst == SERVERS_AND_RELAYS or ip.dst == ALL_SERVERS),
                Reason.NOT_DHCP)
        udp = pkt.parse(Udp)
        require(udp.dst == SERVER_PORT, Reason.NOT_DHCP)
        length = udp.length - 8
        require(length >= SHORTEST and length + 8 <= ip.length and udp.checksum != 0 and ip.src != 0, Reason.MALFORMED)
        if ip.dst == SERVERS_AND_RELAYS:
            ready = self.replies.heard(pkt, eth.src, length)
            if ready is not None and self.stands(ready):
                self.asked.add(AT_ONCE + ready.asked, bytes=length)
                self.told.add(AT_ONCE + ready.kind, bytes=ready.length)
                source = own if is_link_local(ip.src) else self.config.server
                self.replies.write(pkt, ready, source, self.config.mac, ip.src)
                return forward(self.lan)
        return punt(Asked(length=length))

    def stands(self, ready: Ready6) -> bool:
        """Whether the lease a reply is about is still its client's; it then begins anew."""
        if ready.address == 0:
            return True
        lease = self.associations.get(Client(upper=ready.upper, lower=ready.lower))
        if lease is None or lease.address != ready.address:
            return False
        return is_repeated(lease, ready.kind == Dhcp6Type.REPLY, ready.lasts)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: Dhcp6Config | None, new: Dhcp6Config) -> None:
        if old != new:
            self.replies.forget()
        self._server = None

    def server(self) -> Server:
        """Who answers under the configuration there is."""
        if self._server is None:
            self._server = Server(self.config, Book(self.associations, self.holders))
        return self._server

    def book(self) -> Book[Lease6]:
        return self.server().book

    def restored(self, since: int) -> None:
        Book(self.associations, self.holders).recovered(since, now())
        self._server = None

    @handles(Asked)
    def heard(self, event: Asked, packet: Packet) -> None:
        """Answer a client, or a relay agent."""
        found = read(packet, event.length)
        if found is None:
            return
        self.asked.add(found.question.kind, bytes=event.length)
        reply = self.server().answer(found.question, now())
        if reply is not None:
            frame = written(self.config, found, reply)
            self.told.add(reply.kind, bytes=len(frame) - START)
            ready = self.repeatable(found, reply)
            if ready is not None:
                packet.cursor = START
                self.replies.keep(packet, event.length, found.eth.src, wire.encode(reply.options), ready)
            self.send(frame, self.lan)

    def repeatable(self, heard: Heard, reply: Reply) -> Ready6 | None:
        """The same reply for the data path, if it can give it again (see `ready`)."""
        question = heard.question
        if heard.wrappings or question.unicast or question.kind not in REPEATED:
            return None
        if len(question.associations) != len(reply.lent) or len(reply.lent) > 1:
            return None
        client, address = reply.lent[0] if reply.lent else (Client(upper=0, lower=0), 0)
        return Ready6(upper=client.upper, lower=client.lower, address=address, kind=reply.kind, asked=question.kind,
                      lasts=self.config.lease // SECOND * SECOND)

    @action
    def show(self) -> list[dict[str, Any]]:
        """The leases, by address; `seconds` until they end."""
        moment = now()
        rows = sorted(self.book().all(), key=lambda pair: pair[1].address)
        return [{"address": ipv6_text(lease.address) + ("" if lease.length == 128 else f"/{lease.length}"),
                 "mac": mac_text(lease.mac), "duid": lease.duid(), "association": lease.association,
                 "state": State(lease.state if lease.expires > moment else State.FREE).name.lower(),
                 "seconds": max(lease.expires - moment, 0) // SECOND} for _, lease in rows]

    @action
    def release(self, address: str) -> bool:
        """End the lease of an address, or of a prefix by its first one; whether there was one."""
        holder = self.book().holder(ipv6_address(address.partition("/")[0]))
        if holder is not None:
            self.book().end(holder, State.FREE, now())
        return holder is not None


__all__ = ["DelegatedConfig", "Dhcp6", "Dhcp6Config", "ReservationConfig", "SubnetConfig"]
