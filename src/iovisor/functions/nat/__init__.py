"""Network address translation between an inside and an outside: masquerade, port forwarding, whole addresses.

TCP, UDP and ICMP queries of the inside are seen under outside addresses, and their answers find back; IPv4 to IPv4 and
IPv6 to IPv6, in the same words.  Which address and port an inside endpoint has does not depend on whom it talks to, and
nobody else has it (RFC 4787, RFC 5382, RFC 5508).  Bindings are made in the data path.

## Ports

```text
              ┌─────┐
   inside   ──┤ nat ├──   outside
              └─────┘
```

Put it behind a router's outer port, on the link to the world: `inside` towards the router.  It changes neither hop
limits nor, except on the way back to the inside, Ethernet addresses; ARP and discovery pass.  Outside addresses may be
the router's own; for others it answers ARP, if it is given the router's `mac`, or there is a route to them.

## Configuration

| field | default | meaning |
|---|---|---|
| `addresses` | none | outside addresses for whatever comes from inside: addresses or prefixes, of both families |
| `static` | none | bindings that are always there, see below |
| `filtering` | address_dependent | who may send to a binding, see below |
| `per_subscriber` | 0 | bindings of one inside IPv4 address or IPv6 /64, 0 for any number |
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
| `datagrams`, `queries` | 5m, 60s | the same of UDP, and of ICMP queries |
| `mac` | none | what is answered to ARP requests for outside addresses |
| `wait` | 1s | how long a fragment that came before its first is kept; 0 for not at all |
| `log` | false | whether it is written down which bindings begin and end, but not whom they send to |

Each static binding has an `outside` and an `inside` address, and with `protocol` (tcp or udp) `outside_ports`: a port
or a range such as `"8000-8009"`, and `inside_ports` if those differ.  Without a protocol it is for the whole address,
or prefix: all protocols, ports as they are.  Static bindings work both ways, and are open to everybody.

```python
from iovisor.functions.nat import Nat

office = Nat(addresses=["192.0.2.1", "2001:db8::1"], static=[
    {"name": "web", "outside": "192.0.2.1", "inside": "10.0.0.80", "protocol": "tcp", "outside_ports": 80},
    {"name": "calls", "outside": "192.0.2.1", "inside": "10.0.0.9", "protocol": "udp", "outside_ports": "7000-7019"},
    {"name": "mail", "outside": "192.0.2.25", "inside": "10.0.0.25"},
])
```

*Ports.*  An endpoint keeps its own port if it is free.  Otherwise it gets another: below 1024 or not as before, and of
the same parity where one is near.  One inside address is always seen under the same address of the pool.

*Filtering* (RFC 4787 section 5).  With `address_dependent`, an address that a binding has sent to may send to it from
any port; with `port_dependent`, only from where it was sent to; with `endpoint_independent`, everybody may.

*ICMP errors* pass both ways if they quote what a connection sent of late, and go to who sent it.  The quoted packet is
translated as well, every checksum kept right; an error from a router inside is seen under the address of the endpoint
it is about (RFC 5508 section 4).  No error ends a binding.

*Fragments* follow their first one.  One that comes before it waits in Python.

*Hairpins.*  What an inside host sends to an outside address of ours goes back inside, with the outside address of who
sent it (RFC 4787 section 6).  The filter is for the outside: whoever is inside may send to every binding.  The frame
returns to the station it came from.  A router sends what is for its own address out to nat, and takes what comes from
it back, if its interface is `translated`.

*A family without any outside address* passes as it is.  Of the other, nothing leaves under an inside address: what
cannot be translated is dropped.

*Change.*  A connection goes on as long as its binding stands.  If an address or a static binding goes, so do the
connections that used it, at once.

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
| `bindings.ends`, `bindings.searches`, `ways`, `flows`, `opened` | 0 | scratch |
| `connections.began`, `connections.life` | 0 | scratch |

## Counters

None but those of drops.

## Drop reasons

| reason | the packet |
|---|---|
| `TAGGED` | has a VLAN tag |
| `NOT_IP` | is neither IP nor ARP |
| `GROUP` | is for a group, for everybody, or has a link-local address |
| `NOT_TRANSLATABLE` | is ICMP, but neither a query nor an error that hosts act upon, or an error in fragments |
| `NO_PORTS` | is of a protocol without ports, and its address has no static binding |
| `NO_ADDRESS` | is of a family that has outside addresses for static bindings alone |
| `EXHAUSTED` | would need a port, and none of its outside address is free, or no room for the binding |
| `SUBSCRIBER` | would need a binding more than its address may have |
| `UNMAPPED` | is for an outside address or port that nobody is behind |
| `FILTERED` | comes from whom the binding never sent to |
| `CLASH` | is of a connection that is known under another outside address or port |
| `SPOOFED` | comes from outside, and says that it is from an outside address of ours |
| `MALFORMED` | contradicts itself: version, lengths, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `UNKNOWN_FRAGMENT` | is a later fragment whose first did not come |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |
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

Groups are not translated.  What a protocol
carries of addresses (FTP, SIP) is not looked at.  Bindings and connections that ended are removed by the control path,
every ten seconds: without it ports are used up in the end, and fragments
that come early are lost.  A changed `connections`, `bindings` or another room needs
another instance.  TC only.
"""
from __future__ import annotations

from .path import NatConfig, Path, Reason


class Nat(Path):
    """The data path is in `path`, and what it has in common with other translations in `parts.translation`."""


__all__ = ["Nat", "NatConfig", "Reason"]
