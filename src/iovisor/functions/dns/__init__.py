"""A name server for the network on its port: names of endpoints and their addresses, and a resolver for the rest.

Link its port to a switch.  It answers ARP, neighbor solicitations and ping for its addresses by itself.  Each network
has one of its own, so a name means in each what that network says.

## Ports

```text
              ┌───────┐
     lan   ───┤  dns  │
              └───────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `server` | address | | its IPv4 address |
| `server6` | address | none | its IPv6 address |
| `mac` | MAC | | its Ethernet address |
| `domain` | name | internal | what stands behind every name |
| `names` | mapping | none | from a name to its addresses; `@` is the domain itself, a name may have dots |
| `endpoints` | yes or no | yes | whether the endpoints of its document have names, too |
| `ttl` | time | 60s | how long an answer may be remembered |
| `negative` | time | 30s | how long that there is none |
| `forwarder` | address | none | an IPv4 resolver that is asked for all else; without one, all else is refused |
| `gateway` | address | none | the next hop to it, if it is not on the network itself |
| `patience` | time | 3s | how long its answer is waited for |
| `ready` | u32 | 1024 | room for answers that the kernel gives, two a name and one an address; fixed when it is made |

```python
from iovisor.functions.dns import Dns

names = Dns(server="10.0.0.53", server6="2001:db8::53", mac="02:00:00:00:00:53", domain="shop.internal",
            names={"web": ["10.0.0.5", "2001:db8::5"], "db": ["10.0.0.6"], "@": ["10.0.0.5"]})
```

| asked for | it says |
|---|---|
| A or AAAA of a name in the domain | its addresses, all of them |
| PTR of an address of one of these names | the name |
| SOA or NS of the domain | that |
| anything else of a name there is | no error and no data, with the SOA |
| a name in the domain that is not there | NXDOMAIN, with the SOA |
| anything else, class IN, recursion desired, with a forwarder | what the forwarder says |
| anything else; type ANY; zone transfers; other classes | REFUSED |
| another operation | NOTIMP |
| no query at all | FORMERR if it has a header and is no response, else nothing |

In a document every endpoint with addresses has its name and domain as a name, in each revision, copy and rollback
without more words; so has an endpoint whose MAC address a `dhcp` function reserves an address for, and a reservation
with a `name`.  A name that `names` has is as `names` has it.  Link-local addresses are left out.

Answers repeat the question as it was spelt.  EDNS is spoken (RFC 6891), up to 1,232 bytes; a longer answer says that it
is truncated, and is had over TCP (RFC 7766): many questions in a connection, 16 connections of one client and 128 of
all, each left after 10 s without a question.  Questions are forwarded under a number and a port of our own, both by
chance (RFC 5452), and answers that do not fit are dropped; those that came over TCP are forwarded over TCP.

## Tables

| table | key | value |
|---|---|---|
| `forwarding` | 0 | 1 if there is a forwarder: else what comes from port 53 is dropped in the kernel |
| `answers.ready` | name and type | the answer |

## Counters

`said`: answers by their code (0 no error, 1 FORMERR, 3 NXDOMAIN, 5 REFUSED ...), 16: passed on, 17: no answer came, 18:
answered by the kernel.

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_DNS` | is neither for this server nor DNS, ARP, neighbor solicitation or ping |
| `MALFORMED` | contradicts itself |

## Actions

`show` lists the names; `reset` sets the counters to zero.

## Limits

Addresses of names, and names of addresses, the kernel says by itself: over UDP, for names of 78 characters at most, if
the answer has 128 bytes at most (8 IPv4 addresses, 4 IPv6 ones).  With dnsperf beside it on two CPUs that is 184,000
questions a second; Python, which says the rest, took 9,700 in the same run.  No cache of what the forwarder says, no
DNSSEC of our own, no updates.  IPv6 clients are forwarded for, by the IPv4 forwarder.  512 questions may wait for it at
a time.  TCP is Linux's, in a room of its own, and is there while somebody serves the network: connections do not
outlive the daemon.
"""
# Why it is written so.
#
# As with dhcp the data path sorts, and says what lies `ready`.  `zone` knows what there is to say, `wire.dns` how it is
# written; here are the frames, and the few questions that wait for somebody else.
from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from iovisor.language import (
    SECOND,
    Array,
    ConfigError,
    Counter,
    Function,
    Packet,
    Port,
    Reasons,
    Record,
    Segment,
    Surroundings,
    Verdict,
    action,
    auto,
    drop,
    forward,
    handles,
    ipv4,
    ipv6,
    mac,
    now,
    punt,
    require,
    serves,
    table,
    time,
    u8,
    u16,
    u32,
)
from iovisor.parts.asking import arp_request
from iovisor.parts.station import is_echoed, is_echoed6, is_located, is_resolved
from iovisor.wire import dns as wire
from iovisor.wire.arp import Arp, ArpOperation, is_ethernet_ipv4
from iovisor.wire.datagram import datagram4, datagram6
from iovisor.wire.dns import Answer, Code, Malformed, Query, Type
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_sane, skip_options
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

from .named import named
from .ready import Answers, AnswersConfig
from .zone import Address, Zone

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

PASSED_ON, UNANSWERED, AT_ONCE = 16, 17, 18 # in `said`, after the codes; at once is by the kernel
WAITING = 512
EPHEMERAL = 32_768


class Reason(Reasons):
    NOT_DNS = auto()
    MALFORMED = auto()


class Asked(Record):
    """A datagram for port 53, or from it; `six` if over IPv6."""

    length: u16
    start: u8
    six: u8


class Resolved(Record):
    """Who has an address answers."""

    address: u32
    mac: mac


# -- configuration ---------------------------------------------------------------------------------------------------

class DnsConfig(AnswersConfig):
    """A name server."""

    server: ipv4
    server6: ipv6 = 0
    mac: mac
    domain: str = "internal"
    names: dict[str, list[str]] = {}
    endpoints: bool = True
    ttl: time = 60 * SECOND
    negative: time = 30 * SECOND
    forwarder: ipv4 = 0
    gateway: ipv4 = 0
    patience: time = 3 * SECOND

    def validate(self) -> None:
        self.zone()

    def completed(self, around: Surroundings) -> DnsConfig:
        """Names of what the document has; what `names` says of one stands."""
        if not self.endpoints:
            return self
        said = {name.lower() for name in self.names}
        found = {name: addresses for name, addresses in named(around).items() if name.lower() not in said}
        return self.replaced(names={**self.names, **found}) if found else self

    def zone(self) -> Zone:
        """What there is to say."""
        try:
            wire.parse_name(self.domain)
        except ValueError as error:
            raise ConfigError("domain", str(error)) from None
        found: dict[str, list[Address]] = {}
        for name, addresses in self.names.items():
            try:
                if name != "@":
                    wire.parse_name(f"{name}.{self.domain}")
                found[name] = [ip_address(address) for address in addresses]
            except ValueError as error:
                raise ConfigError(f"names.{name}", str(error)) from None
        return Zone(self.domain, found, self.ttl // SECOND, self.negative // SECOND)


@dataclass
class Waiting:
    """A question that was passed on: to whom its answer goes."""

    query: Query
    asker: Asker
    question: bytes
    port: int
    until: int


@dataclass(frozen=True)
class Asker:
    """Where a datagram came from."""

    mac: int
    address: int
    port: int
    six: bool


# -- the function ----------------------------------------------------------------------------------------------------

class Dns(Function):
    config: DnsConfig
    lan: Port

    forwarding: Array[u8] = table(1)
    said: Counter = table(19)
    answers: Answers = Answers()

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(not pkt.tagged, Reason.NOT_DNS)
        match eth.type:
            case EtherType.ARP:
                if is_resolved(pkt, eth, self.config.mac, self.config.server):
                    return forward(self.lan)
                arp = pkt.parse(Arp)
                require(is_ethernet_ipv4(arp) and arp.operation == ArpOperation.REPLY
                        and arp.target_ip == self.config.server and eth.dst == self.config.mac
                        and self.forwarding[0] == 1, Reason.NOT_DNS)
                return punt(Resolved(address=arp.sender_ip, mac=arp.sender_mac))
            case EtherType.IPV4:
                require(eth.dst == self.config.mac, Reason.NOT_DNS)
                return self.over4(pkt, eth)
            case EtherType.IPV6:
                require(self.config.server6 != 0, Reason.NOT_DNS)
                return self.over6(pkt, eth)
        return drop(Reason.NOT_DNS)

    def over4(self, pkt: Packet, eth: Ethernet) -> Verdict:
        ip = pkt.parse(IPv4)
        require(is_sane(ip) and ip.length <= len(pkt) - 14 and ip.offset == 0 and ip.mf == 0, Reason.MALFORMED)
        require(ip.dst == self.config.server, Reason.NOT_DNS)
        skip_options(pkt, ip)
        if is_echoed(pkt, eth, ip, self.config.mac, self.config.server):
            return forward(self.lan)
        if ip.proto == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            require(tcp.dst == wire.PORT or self.is_back(ip.src, tcp.src, tcp.dst), Reason.NOT_DNS)
            return punt(Segment())
        require(ip.proto == IpProtocol.UDP, Reason.NOT_DNS)
        udp = pkt.parse(Udp)
        length = udp.length - 8
        require(length >= 0 and length + 8 <= ip.length - ip.ihl * 4, Reason.MALFORMED)
        if udp.dst == wire.PORT and ip.ihl == 5:
            end = self.answers.end(pkt, length)
            if end != 0:
                ready = self.answers.find(pkt, end)
                if ready is not None:
                    self.said.add(AT_ONCE, bytes=end)
                    self.answers.say4(pkt, ready, end, self.config.server, self.config.mac)
                    return forward(self.lan)
        require(udp.dst == wire.PORT or self.is_back(ip.src, udp.src, udp.dst), Reason.NOT_DNS)
        return punt(Asked(length=length, start=14 + ip.ihl * 4 + 8, six=0))

    def is_back(self, source: ipv4, here: u16, there: u16) -> bool:
        """Whether something can be an answer of the forwarder."""
        return (self.forwarding[0] == 1 and here == wire.PORT and source == self.config.forwarder
                and there >= EPHEMERAL)

    def over6(self, pkt: Packet, eth: Ethernet) -> Verdict:
        ip = pkt.parse(IPv6)
        require(ip.version == 6 and ip.length <= len(pkt) - 54, Reason.MALFORMED)
        if ip.next == IpProtocol.ICMP6:
            require(is_echoed6(pkt, eth, ip, self.config.mac, self.config.server6)
                    or is_located(pkt, eth, ip, self.config.mac, self.config.server6, self.config.server6),
                    Reason.NOT_DNS)
            return forward(self.lan)
        require(eth.dst == self.config.mac and ip.dst == self.config.server6, Reason.NOT_DNS)
        if ip.next == IpProtocol.TCP:
            tcp = pkt.parse(Tcp)
            require(tcp.dst == wire.PORT, Reason.NOT_DNS)
            return punt(Segment())
        require(ip.next == IpProtocol.UDP, Reason.NOT_DNS)
        udp = pkt.parse(Udp)
        length = udp.length - 8
        require(length >= 0 and length + 8 <= ip.length, Reason.MALFORMED)
        require(udp.dst == wire.PORT, Reason.NOT_DNS)
        end = self.answers.end(pkt, length)
        if end != 0:
            ready = self.answers.find(pkt, end)
            if ready is not None:
                self.said.add(AT_ONCE, bytes=end)
                self.answers.say6(pkt, ready, end, self.config.server6, self.config.mac)
                return forward(self.lan)
        return punt(Asked(length=length, start=62, six=1))

    # -- control path ------------------------------------------------------------------------------------------------

    zone: Zone
    waiting: dict[int, Waiting]
    looking: list[Any]                      # asyncio futures of who waits for it
    next_hop: int

    def configure(self, old: DnsConfig | None, new: DnsConfig) -> None:
        self.zone = new.zone()
        self.answers.know(self.zone, bool(new.forwarder))
        self.forwarding[0] = 1 if new.forwarder else 0
        if old is None or (old.forwarder, old.gateway) != (new.forwarder, new.gateway):
            self.waiting, self.next_hop, self.looking = {}, 0, []

    @serves(wire.PORT)
    async def met(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Somebody asks over TCP."""
        from .conversation import Conversation  # asyncio is for who serves, not for who reads documents
        await Conversation(self, reader, writer).run()

    @handles(Asked)
    def heard(self, event: Asked, packet: Packet) -> None:
        """A question, or the forwarder's answer to one."""
        frame = bytes(packet.data)
        message = frame[event.start:event.start + event.length]
        eth, udp = Ethernet.decode(frame[:14]), Udp.decode(frame[event.start - 8:event.start])
        source = int.from_bytes(frame[22:38], "big") if event.six else int.from_bytes(frame[26:30], "big")
        if udp.dst != wire.PORT:
            self.came_back(udp.dst, message)
            return
        asker = Asker(eth.src, source, udp.src, bool(event.six))
        reply = self.answer(message, asker)
        if reply:
            self.tell(asker, reply)

    def answer(self, message: bytes, asker: Asker) -> bytes:
        """What is said to a datagram; nothing to what is no question, or was passed on."""
        reply = self.reply(message)
        if isinstance(reply, bytes):
            return reply
        self.pass_on(reply, message, asker)
        return b""

    def reply(self, message: bytes, most: int = 0) -> bytes | Query:
        """What is said to a message, in `most` bytes or in as many as it takes itself: nothing to what is no question;
        the query, if somebody else is to be asked."""
        try:
            query = wire.read_query(message)
        except Malformed as malformed:
            if not malformed.answerable:
                return b""
            opcode = message[2] >> 3 & 15
            return self.counted(Code.NOTIMP if opcode else Code.FORMERR,
                                wire.refusal(message, Code.NOTIMP if opcode else Code.FORMERR))
        found = self.decide(query)
        if found is None:
            return query
        return self.said_to(replace(query, room=most) if most else query, found)

    def said_to(self, query: Query, found: Answer) -> bytes:
        return self.counted(found.code, wire.write(query, found, bool(self.config.forwarder)))

    def decide(self, query: Query) -> Answer | None:
        """What is said to a question; None if somebody else is to be asked."""
        if query.opcode:
            return Answer(Code.NOTIMP)
        if query.version:
            return Answer(Code.BADVERS)
        if query.class_ != wire.INTERNET or query.type in (Type.ANY, Type.AXFR, Type.IXFR, Type.OPT):
            return Answer(Code.REFUSED)
        found = self.zone.answer(query)
        if found is None and not (self.config.forwarder and query.flags & wire.RECURSION_DESIRED):
            return Answer(Code.REFUSED)
        return found

    def counted(self, code: int, reply: bytes) -> bytes:
        self.said.add(min(code, 15), bytes=len(reply))
        return reply

    # -- what others know --------------------------------------------------------------------------------------------

    def pass_on(self, query: Query, message: bytes, asker: Asker) -> None:
        """Ask the forwarder, under a number and a port that nobody can guess."""
        moment = now()
        for number in [number for number, found in self.waiting.items() if found.until <= moment]:
            del self.waiting[number]
            self.said.add(UNANSWERED)
            self.next_hop = 0                       # it may be somebody else by now
        if len(self.waiting) >= WAITING:
            self.tell(asker, self.said_to(query, Answer(Code.SERVFAIL)))
            return
        number = secrets.randbelow(1 << 16)
        while number in self.waiting:
            number = secrets.randbelow(1 << 16)
        port = EPHEMERAL + secrets.randbelow(EPHEMERAL)
        question = number.to_bytes(2, "big") + message[2:]
        self.waiting[number] = Waiting(query, asker, question, port, moment + self.config.patience)
        if self.next_hop:
            self.ask(self.waiting[number])
        else:
            self.look()

    def look(self) -> None:
        """Ask where the next hop is."""
        self.send(arp_request(self.config.mac, self.config.server, self.config.gateway or self.config.forwarder),
                  self.lan)

    async def way(self) -> int:
        """Where the next hop is, once it is known."""
        from asyncio import get_running_loop
        while not self.next_hop:
            self.look()
            found = get_running_loop().create_future()
            self.looking.append(found)
            await found
        return self.next_hop

    def passed_on(self, message: bytes) -> None:
        self.said.add(PASSED_ON, bytes=len(message))

    def unanswered(self, query: Query) -> bytes:
        """What is said when nobody else said anything."""
        self.said.add(UNANSWERED)
        return self.said_to(query, Answer(Code.SERVFAIL))

    @handles(Resolved)
    def resolved(self, event: Resolved, packet: Packet) -> None:
        """The next hop is known: what waits for it goes."""
        if event.address == (self.config.gateway or self.config.forwarder) and event.mac != self.next_hop:
            first, self.next_hop = not self.next_hop, event.mac
            looking, self.looking = self.looking, []
            for each in looking:
                if not each.done():
                    each.set_result(None)
            for found in list(self.waiting.values()) if first else ():
                self.ask(found)

    def ask(self, waiting: Waiting) -> None:
        to = Asker(self.next_hop, self.config.forwarder, wire.PORT, False)
        self.send(self.framed(to, waiting.port, waiting.question), self.lan)

    def came_back(self, port: int, message: bytes) -> None:
        """An answer goes to who asked, if it is one to what was asked."""
        waiting = self.waiting.get(int.from_bytes(message[:2], "big")) if len(message) >= wire.HEADER.size else None
        if waiting is None or waiting.port != port or waiting.until <= now():
            return
        if not wire.answers(message, waiting.query):
            return
        del self.waiting[int.from_bytes(message[:2], "big")]
        self.passed_on(message)
        self.tell(waiting.asker, waiting.query.id.to_bytes(2, "big") + message[2:])

    # -- frames ------------------------------------------------------------------------------------------------------

    def tell(self, to: Asker, message: bytes) -> None:
        self.send(self.framed(to, wire.PORT, message), self.lan)

    def framed(self, to: Asker, port: int, message: bytes) -> bytes:
        """A datagram from us."""
        own = self.config.server6 if to.six else self.config.server
        made = datagram6 if to.six else datagram4
        return made((self.config.mac, to.mac), (own, to.address), (port, to.port), message)

    @action
    def show(self) -> list[dict[str, Any]]:
        """The names and their addresses."""
        return [{"name": wire.name_text(name), "addresses": [str(address) for address in addresses]}
                for name, addresses in self.zone.addresses.items()]

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.said.clear()


__all__ = ["PASSED_ON", "UNANSWERED", "Asked", "Asker", "Dns", "DnsConfig", "Reason", "Resolved"]
