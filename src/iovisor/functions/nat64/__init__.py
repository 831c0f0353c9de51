"""Lets hosts that have IPv6 alone talk to hosts that have IPv4 alone: stateful NAT64 (RFC 6146, RFC 7915, RFC 6052).

TCP, UDP and pings from inside to an IPv6 address that has an IPv4 address in it go there as IPv4, from an outside
address and port; answers find back.  Bindings are those of `nat`: an endpoint has one, whomever it talks to, nobody
else has it, and all of it happens in the kernel.

## Ports

```text
              ┌───────┐
   inside   ──┤ nat64 ├──   outside
    IPv6      └───────┘      IPv4
```

Put it on the link between two routers, `inside` towards the one with the IPv6 network.  Addresses of Ethernet pass as
they are, but for hairpins, so the routers have to find each other's:

- Outside somebody wants to know where the outside addresses are.  ARP requests for them are answered with `mac`, which
  is that of the router inside.  (Without `mac`, there is a route or a neighbour entry for them.)
- Inside somebody wants to know where to send what is for the prefix.  If the router outside has IPv6 on this link as
  well, its address is the next hop: discovery passes.  If it has IPv4 alone, `gateway` is an address of your choice on
  the link: solicitations for it are answered with `gateway_mac`, which is that of the router outside.

IPv6 that is not for the prefix, and IPv4 that is not for an outside address, pass as they are: the link may carry both.

```yaml document
version: 1
tenant: acme
network: campus
functions:
  edge:
    kind: router
    interfaces:
      0: {mac: 02:00:00:00:0e:00, addresses: ["2001:db8:1::1/64"], advertise: {}}
      1: {mac: 02:00:00:00:0e:01, addresses: ["2001:db8:ff::1/64"]}
    static:
      - {to: "64:ff9b::/96", via: [{gateway: "2001:db8:ff::64"}]}
  across:
    kind: nat64
    addresses: [203.0.113.1]
    mac: 02:00:00:00:0e:01
    gateway: "2001:db8:ff::64"
    gateway_mac: 02:00:00:00:0c:00
  core:
    kind: router
    interfaces:
      0: {mac: 02:00:00:00:0c:00, addresses: [203.0.113.254/24]}
      1: {mac: 02:00:00:00:0c:01, addresses: [198.51.100.254/24]}
endpoints:
  laptop: {netns: laptop}
  server: {netns: server, address: 198.51.100.7/24, gateway: 198.51.100.254}
links:
  - [laptop, "edge:0"]
  - ["edge:1", across, "core:0"]
  - ["core:1", server]
```

The laptop finds the server at 64:ff9b::198.51.100.7.

## Configuration

| field | default | meaning |
|---|---|---|
| `prefix` | 64:ff9b::/96 | what stands before an IPv4 address: 32, 40, 48, 56, 64 or 96 bits |
| `addresses` | none | outside IPv4 addresses for whatever comes from inside: addresses or prefixes |
| `static` | none | bindings that are always there, see below |
| `mac` | none | what is answered to ARP requests for outside addresses |
| `gateway`, `gateway_mac` | none | an IPv6 address that is answered for inside, and with what |
| `copy_class` | true | DSCP and ECN are kept; if not, they become zero |
| `inside_mtu`, `outside_mtu` | 1500 | what the links carry, of IPv6 and of IPv4 |
| `lowest_mtu` | 1280 | IPv4 that may be cut is, so that the IPv6 network carries it anywhere |
| `errors` | 100 | ICMP errors of its own, a second and port |
| `filtering` | address_dependent | who may send to a binding: address_dependent, port_dependent, endpoint_independent |
| `per_subscriber` | 0 | bindings of one inside /64, 0 for any number |
| `first_port`, `last_port` | 1024, 65535 | where other ports are looked for |
| `hold` | 2m | nobody else gets the port of a binding for so long after its end |
| `bindings` | 65536 | room for bindings, fixed when the instance is made |
| `strangers`, `subscribers` | 16384, 4096 | room for whom bindings sent to, and for inside addresses with a limit |
| `most_addresses` | 16 | room for outside addresses, of `addresses` and `static` |
| `connections` | 65536 | room for established connections, fixed as well |
| `transitory`, `trains` | 8192, 4096 | the same for half-open ones, and for fragmented packets |
| `per_source` | 0 | established connections of whoever began them, 0 for any number |
| `opening`, `established` | 4m, 2h 4m | how long a TCP connection lives in silence: half open, established |
| `closing`, `closed` | 4m, 4m | and after one end closed, after both |
| `datagrams`, `queries` | 5m, 60s | the same of UDP, and of pings |
| `wait` | 1s | how long a fragment that came before its first is kept; 0 for not at all |
| `log` | false | whether it is written down which bindings begin and end, but not whom they send to |

```python
from iovisor.functions.nat64 import Nat64

office = Nat64(addresses=["192.0.2.1"], prefix="2001:db8:64::/96", static=[
    {"name": "web", "outside": "192.0.2.1", "inside": "2001:db8:1::80", "protocol": "tcp", "outside_ports": 80},
    {"name": "servers", "outside": "192.0.2.64/29", "inside": "2001:db8:1::c000/125"},
])
```

Each *static binding* has an `outside` IPv4 and an `inside` IPv6 address, and with `protocol` (tcp or udp)
`outside_ports` and, if those differ, `inside_ports`.  Without a protocol it is for the whole address, or for prefixes
of as many addresses (the mappings of RFC 7757), for all protocols, ports as they are.  They work both ways and are open
to everybody.

*The well-known prefix* 64:ff9b::/96 stands for global addresses alone (RFC 6052 section 3.1), not for 10.0.0.0/8 and
its like; use a prefix of your own for those.  Names that lead to such addresses are the business of DNS64.

*Hops* are counted, and their end is told, in the name of the first outside address.

*Lengths.*  What does not fit the next link is answered by "packet too big" or "fragmentation needed".  IPv4 packets
without "don't fragment" that are longer than `lowest_mtu` as IPv6 are cut, in Python: raise it to what your IPv6
network carries.  IPv6 packets whose IPv4 form has at most 1260 bytes may be cut on their way, others may not.

*Fragments* follow their first one.  One that comes before it waits in Python.

*ICMP errors* pass both ways if they quote what a connection sent of late, and become the errors of the other protocol
that say the same, with the packet that their receiver sent.  MTUs and pointers are translated.

*UDP without a checksum* gets one.  *Offloads* stay on: aggregates of TCP and UDP cross whole.

*Hairpins.*  What an inside host sends to an outside address of ours goes back inside.  The frame returns to the station
it came from, and a router takes it if its interface is `translated`.

*Change.*  If an address or a static binding goes, so do the connections that used it, at once.  With another prefix,
connections go on under that.

## Tables

| table | key | value |
|---|---|---|
| `bindings.outside` | outside address, port, protocol | who is behind it, since when, until when |
| `bindings.inside` | inside address, port, protocol | what it is seen as |
| `bindings.strangers` | outside endpoint, an address | that it may send; the longest unused gives way |
| `bindings.subscribers` | inside address | how many bindings it has, if `per_subscriber` is set |
| `bindings.addresses`, `bindings.slots` | slot, address | outside addresses, numbered |
| `bindings.choices`, `bindings.extent` | number, 0 | those for dynamic bindings; what the data path asks first |
| `bindings.used` | word | a bit for each port that is taken |
| `connections.established` | the two ends, protocol | state, windows, deadline, and what each end is seen as |
| `connections.transitory` | the same | the same, of connections half open or ended; the longest unused gives way |
| `connections.sources` | address | how many established connections it has, if `per_source` is set |
| `connections.fragments` | the two ends, identification | the ports of the first fragment |
| `prefixes` | 0 | the prefix, and what errors come from |
| `meanings` | type and code, of ICMP and ICMPv6 | those of the error that says the same |
| `pointers` | byte of a header | the byte of the other header that says the same, and 1 |
| `allowances` | port | what is left of `errors` |
| `bindings.ends`, `bindings.searches`, `ways`, `flows`, `opened` | 0 | scratch |
| `connections.began`, `connections.life`, `crossings`, `quotations` | 0 | scratch |

## Counters

None but those of drops.

## Drop reasons

| reason | the packet |
|---|---|
| `TAGGED` | has a VLAN tag |
| `NOT_IP` | is neither IP nor ARP |
| `NOT_TRANSLATABLE` | is ICMP that means nothing on the other side, in fragments, or too long with its new headers |
| `UNROUTABLE` | has an address that no router forwards, or not under this prefix |
| `WRONG_SIDE` | has an address of the prefix where none can be: in a source inside, or outside |
| `NO_CHECKSUM` | is UDP without a checksum, in fragments or longer than 2048 bytes |
| `EXPIRED` | has used up its hops, and may not be answered |
| `TOO_BIG` | does not fit the next link, and may not be answered |
| `ERRORS_LIMITED` | would be answered by more errors than `errors` |
| `NO_PORTS` | is of a protocol without ports, and its address has no static binding |
| `NO_ADDRESS` | comes from inside, and there are outside addresses for static bindings alone |
| `EXHAUSTED` | would need a port, and none of its outside address is free, or no room for the binding |
| `SUBSCRIBER` | would need a binding more than its network may have |
| `UNMAPPED` | is for an outside address or port that nobody is behind |
| `FILTERED` | comes from whom the binding never sent to |
| `CLASH` | is of a connection that is known under another outside address or port |
| `SPOOFED` | comes from outside, and says that it is from an outside address of ours |
| `MALFORMED` | contradicts itself: version, lengths, header checksum, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `UNKNOWN_FRAGMENT` | is a later fragment whose first did not come |
| `SOURCE_ROUTED` | has a routing header with segments left, or an IPv4 option that is a source route |
| `TOO_MANY_HEADERS` | has more than 4 extension headers, more than 256 bytes of them, or such as cannot be left out |
| `ILLEGAL_FLAGS` | has flags of TCP that no end sends |
| `BAD_CHECKSUM` | opens, resets or ends a TCP connection with a wrong checksum |
| `OUT_OF_STATE` | is a TCP segment that nothing led to |
| `OUT_OF_WINDOW` | is beyond the window, or older than one |
| `UNSENT_ACK` | acknowledges what was not sent |
| `UNASKED` | is an ICMP reply to no request, or from the wrong end |
| `UNRELATED` | is an ICMP error about no connection here, or not to who sent what it quotes |
| `FULL` | would establish a connection more than `connections` |
| `QUOTA` | would establish a connection more than its source may have |

## Actions

`show` lists the bindings, `listing` the connections; `flush` ends those with an inside address in a prefix, or all but
the static ones.  With `log`, `recorded` lists the latest 10,000 bindings that began or ended; the log of the process
(`iovisor.parts.ledger`) has them all, each within ten seconds.

## Limits

Groups are not translated, nor what a protocol carries of addresses (FTP, SIP).  Pings in fragments, and ICMP errors
that would have more than 1280 bytes as IPv6, are dropped; extensions of ICMP (RFC 4884) count as part of the quoted
packet.  Authentication headers do not cross.  Bindings and connections that ended are removed by the control path,
every ten seconds: without it ports are used up in the end, fragments that come early are lost, and so is what would
have to be cut.  A changed `connections`, `bindings` or another room needs another instance.  TC only.
"""
from __future__ import annotations

from iovisor.language import Packet, handles
from iovisor.parts.embedding import embed, embedding
from iovisor.wire.checksum import finish_udp, pseudo_ipv4
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.fragmentation import cut
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_fragment
from iovisor.wire.offload import finished, of_data
from iovisor.wire.udp import Udp

from .crossing import Form, Reason
from .messages import meanings, pointers
from .path import Large, Path
from .settings import MappingConfig, Nat64Config


class Nat64(Path):
    """The data path is in `path`, and what it has in common with other translations in `parts.translation`."""

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: Nat64Config | None, new: Nat64Config) -> None:
        super().configure(old, new)
        if old is None:
            self.meanings.update(meanings())
            self.pointers.update(pointers())
        form = embedding("prefix", new.prefix)
        ours = [*new.pool(), *(entry.outside for entry in new.entries())]
        own = ours[0].lower & 0xffff_ffff if ours else 0
        upper, lower = embed(form, own)
        self.prefixes[0] = Form(**{name: getattr(form, name) for name in form.fields}, own=own,
                                own6=upper << 64 | lower)

    @handles(Large)
    def on_large(self, event: Large, packet: Packet) -> list[Packet]:
        """Cut a packet that may be cut (RFC 7915 section 4), its checksum finished; the pieces come again."""
        frame = finished(bytes(packet))
        head, ip = frame[:Ethernet.size], IPv4.decode(frame[Ethernet.size:])
        at = Ethernet.size + ip.ihl * 4
        if ip.proto == IpProtocol.UDP and not is_fragment(ip) and frame[at + 6:at + 8] == bytes(2):
            udp = Udp.decode(frame[at:])
            total = pseudo_ipv4(ip.src, ip.dst, ip.proto, udp.length) + of_data(frame[at:at + udp.length])
            frame = frame[:at + 6] + finish_udp(total).to_bytes(2, "big") + frame[at + 8:]
        return [Packet(head + piece, packet.port) for piece in cut(frame[Ethernet.size:], event.most)]


__all__ = ["MappingConfig", "Nat64", "Nat64Config", "Reason"]
