"""Spreads the connections of clients over backends: VIPs for TCP and UDP, IPv4 and IPv6, at TC and at XDP.

Put it on the link between a network and the backends.  It answers for the addresses of the VIPs and passes all else as
it is, so backends need nothing but the ordinary gateway.  Who gets a new connection is read from a Maglev table: when
one of many backends goes, the others keep what they have.  A connection stays with its backend for as long as both are
there, whatever else changes.

## Ports

```text
                ┌──────────┐
   outside   ───┤ balancer ├───   inside
   clients      └──────────┘      backends
```

Clients may be on either side.

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `mac` | MAC | | the balancer's Ethernet address: where VIPs are, for those who ask |
| `vips` | list | | see below |
| `addresses` | list | | its own, one a family, as `10.0.0.9/24`: where its questions for backends come from |
| `gateways` | list | | for backends on no network of `addresses`, one a family |
| `vlan` | number | 0 | the VLAN all this is about, 0 for untagged frames; others pass |
| `mtu` | number | 1500 | the longest packet that fits on the way to a backend, 1320 at least; for mode `tunnel` |
| `spread` | number | 0 | of the sources of IPv4 tunnels, how many low bits are the flow's, see below |
| `seed` | number | 0 | changes who gets what; balancers with one seed, and VIPs and backends alike, choose alike |
| `slots` | number | 16384 | of a VIP's table, a power of two, fixed when the balancer is made; so are the next two |
| `most_vips`, `most_backends` | number | 16, 1024 | room |
| `recent` | number | 4096 | flows that each CPU knows at once, a power of two, fixed as well |
| `rejections` | number | 100 | how many are told, a second, that nobody serves, or what fits; others hear nothing |
| `sessions` | number | 16384 | room for clients that stick to backends |
| `connections` | number | 65536 | room for established flows, two entries each in mode `nat` |
| `transitory`, `trains` | number | 8192, 4096 | the same for half-open ones, and for fragmented packets |
| `per_source` | number | 0 | established entries of an IPv4 address or IPv6 /64, 0 for any number; more are not kept |
| `opening`, `established` | time | 30s, 2h 4m | how long a TCP connection lives in silence: half open, established |
| `closing`, `closed` | time | 4m, 2m | and after one end closed, after both |
| `datagrams`, `queries` | time | 5m, 60s | the same of UDP; the second is not used |

A VIP has:

| field | default | meaning |
|---|---|---|
| `name` | address and port | for people |
| `address`, `port`, `protocol` | tcp | where clients go; `tcp` or `udp` |
| `mode` | nat | how packets reach a backend, see below |
| `sticky` | 0s | for how long after its last new connection a client gets the same backend; 0s: not |
| `orphans` | move | of the flows of a dead or removed backend: `move`, `reset`, or `keep` until it is removed |
| `backends` | | a list; each has an `address`, and |
| ... `port` | the VIP's | only mode `nat` changes it |
| ... `weight` | 1 | its share; 0 is none |
| ... `drain` | false | no new connections; those it has stay |
| ... `mac` | found out | where it is |
| `check` | none | how they are asked whether they are well, see below |

Mode `nat` makes the backend the destination, and the VIP the source of its answers, which must come back this way.
`direct` hands packets to the backend's Ethernet address as they are: it needs the VIP's address on its loopback device,
answers clients itself, and may be anywhere on the link.
`tunnel` puts them into other packets, to the backend's address from the balancer's own (RFC 2003, RFC 2473): the same,
and the backend may be anywhere that is routed to, and of either family.  Something there has to unwrap them: Linux's
`ipip`, `sit` or `ip6tnl` devices, or [decapsulator](decapsulator.md) before it.

*Tunnels*: DSCP and ECN are copied, what is inside is left as it is, and the outer packet may not be fragmented.  A
client whose packet does not fit is told what does (RFC 1191, RFC 8201), by the VIP, even if it might be fragmented: it
has to do that itself.  Give the way to the backends an `mtu` of 1540 or more, and nobody has to.  What routers on the
way say about tunnels that are too long for them is believed for ten minutes; other errors are only counted.  Devices
that spread packets over CPUs by addresses see the flow in IPv6's label; for IPv4, `spread` = 4 makes 16 addresses of
the balancer's own, 10.0.0.0 to 10.0.0.15 of 10.0.0.9, all of which have to be free for it, and trusted by who unwraps.

```python
from iovisor.functions.balancer import Balancer

web = Balancer(mac="02:00:00:00:0f:01", addresses=["10.0.0.9/24"], vips=[
    {"address": "198.51.100.1", "port": 80, "backends": [
        {"address": "10.0.0.11", "port": 8080, "weight": 2}, {"address": "10.0.0.12", "port": 8080}]}])
```

*Removing a backend gracefully*: `drain` it, by configuration or by the action, wait until `show` says it has no flows,
and take it out.

*A backend that is a client* of a VIP, be it served by itself: in mode `nat` it appears to the backend as the VIP, so
that the answer comes back here.

A check has:

| field | default | meaning |
|---|---|---|
| `way` | none | `tcp`: it accepts a connection; `http`: and answers a GET; `icmp`: it answers an echo request |
| `port` | the backend's | where it is asked |
| `path`, `host`, `expect` | `/`, its address, `[200]` | what is asked for, and the statuses that are good |
| `interval`, `timeout` | 400ms | how often it is asked, and how long it has |
| `fall`, `rise` | 2 | bad answers in a row that close it, good ones that open it again |

Checks come from `addresses`, and go to the backend's own address.  A new backend is closed until its first good answer.
Without a check a backend is open once its Ethernet address is known.

*Where nobody serves*: a TCP client gets a reset, any other "port unreachable".  Echo requests to VIPs, and to the
balancer's own addresses, are answered.

*ICMP errors* go to the backend whose packet they quote, and from its side to the client, the quoted packet translated
as its like are (RFC 5508 section 4).

*Fragments* follow their first one; one that comes before its first is dropped.

## Tables

| table | key | value |
|---|---|---|
| `services` | address, port, protocol | the number of a VIP; with port 0: the address is a VIP's |
| `vips`, `members` | number | a VIP; a backend of a VIP, and how it is |
| `choices` | VIP and slot | who gets the new flows of a slot |
| `own` | family | the balancer's own address |
| `flows.established` | a flow, as it arrives | its member, or for answers its VIP; state and deadline |
| `flows.transitory` | the same | the same, half open or ended; the longest unused gives way |
| `flows.sources` | address | how many established entries it has, if `per_source` is set |
| `flows.fragments` | addresses, identification | the ports of the first fragment |
| `sessions` | client and VIP | its member, and until when |
| `rejection.allowance` | 0 | how many may still be told |
| `recent` | hash of a flow | on each CPU, what was decided about it within the last second |
| `versions` | 0 | counts the changes, which void what is recent |
| `flows.lives` | state | how long an entry lives |
| `keys`, `places`, `cases`, `drafts`, `flows.began` | | scratch |

When there is no room among the established, a new flow stays among the transitory, works, and may be pushed out:
`noted`.  What was pushed out in mode `direct` goes where the VIP's table says, which is the same backend unless it
changed.

## Counters

`hits`: packets and bytes to a member, by number.  `opened`: flows it was given.  `noted`: by number, flows without
room among the established (0, each second they are seen), flows that were given to another (1), clients that were told
that nobody serves (2), echo requests answered (3), clients told what fits (4), errors about tunnels (5).

## Drop reasons

| reason | the packet |
|---|---|
| `NOT_OURS` | is for the balancer's Ethernet address, and for nothing it serves |
| `UNSERVED` | is for a VIP's address and no port of its, or is ICMP that concerns nobody |
| `NO_BACKEND` | is for a VIP without an open backend |
| `TOO_BIG` | does not fit into the tunnel to its backend, and nobody is told |
| `TUNNEL` | is an ICMP error about a tunnel, and of no use |
| `COLLISION` | is a first one, and would look to its backend like another client's, after three tries |
| `HEARD`, `BAD_RESOLUTION` | is ARP or discovery, and of no use; and malformed |
| `MALFORMED` | contradicts itself: version, lengths, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `UNRELATED` | is an ICMP error to a VIP, about nothing of its |
| `UNKNOWN_FRAGMENT` | is a later fragment for a VIP whose first was not seen |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |

`ILLEGAL_FLAGS`, `BAD_CHECKSUM`, `OUT_OF_STATE`, `OUT_OF_WINDOW`, `UNSENT_ACK`, `UNASKED`, `FULL` and `QUOTA` belong to
connections as a firewall sees them, and do not occur.

## Actions

`show` lists VIPs and backends, how they are, what they have and what they counted; `listing` lists the flows; `flush`
forgets those with an end in a prefix, or all; `drain` closes a backend for new flows, or opens it again.

## Limits

TCP is followed by its flags, not its windows.  Neighbor discovery, refusals and checks are Python's, ARP is not: while
it is away, backends stay as they are, and nobody is told what fits.  An aggregate of more than 65,495 bytes fits into
no tunnel.  Answers of flows whose entries were flushed or pushed out pass
with the backend's own address.  ICMP errors about a client behind the backends' port are dropped; echo requests in
fragments, too.
"""
from __future__ import annotations

from typing import Any

from iovisor.language import action
from iovisor.parts.connections import text

from .care import Care
from .settings import parsed
from .tables import Health, What


class Balancer(Care):
    def __init__(self, **values: Any) -> None:
        self.prepare()
        super().__init__(**values)

    @action
    def show(self) -> list[dict[str, Any]]:
        """VIPs and backends: how they are, flows they have, flows they were given, packets and bytes to them."""
        having: dict[int, int] = {}
        for _, entry in self.flows.entries().items():
            if entry.what == What.FORWARD and self.members[entry.number].epoch == entry.epoch:
                having[entry.number] = having.get(entry.number, 0) + 1
        rows = []
        for number, (_, vip, backend) in sorted(self.numbers.items(), key=lambda item: (item[1][0], item[0])):
            member, count = self.members[number], self.hits.read(number)
            rows.append({"vip": vip.label, "backend": text(member.upper, member.lower), "port": member.port,
                         "weight": backend.weight, "health": Health(member.health).name.lower(),
                         "flows": having.get(number, 0), "opened": self.opened.read(number).packets,
                         "packets": count.packets, "bytes": count.bytes})
        return rows

    @action
    def listing(self) -> list[dict[str, Any]]:
        """The flows: protocol, who began and to whom, state, seconds left."""
        return self.flows.show(lambda entry: entry.what == What.FORWARD)

    @action
    def flush(self, within: str = "") -> int:
        """Forget the flows with an end in a prefix, or all; answers how many entries that were."""
        count = self.flows.flush(within)
        self.changed()
        return count

    @action
    def drain(self, backend: str, on: bool = True) -> int:
        """Give a backend, by its address, no new flows, or open it again; answers in how many VIPs."""
        wanted = [number for number, (_, _, configured) in self.numbers.items() if configured.parsed() == parsed(
            "backend", backend)]
        for number in wanted:
            self.members[number].held = 1 if on else 0
        self.refresh()
        return len(wanted)
