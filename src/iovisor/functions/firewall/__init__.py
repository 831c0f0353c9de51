"""A stateful firewall between two ports: rules decide on first packets, connections carry the rest, IPv4 and IPv6.

What belongs to a connection that the rules let begin passes both ways, as long as it behaves: TCP is followed through
its states and windows.  Nothing passes before there are rules, and nothing that they do not name.  Frames are not
changed: put it on any link.

## Ports

```text
              ┌──────────┐
   inside   ──┤ firewall ├──   outside
              └──────────┘
      out: inside to outside      in: outside to inside
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rules` | list | | see below |
| `default` | accept, drop, reject | drop | what becomes of first packets that no rule matches |
| `related` | accept, drop | accept | ICMP errors about a living connection, if no rule of state related matches |
| `resolution` | accept, drop | accept | ARP, and neighbor and router discovery (hop limit 255, no fragment) |
| `other` | accept, drop | drop | frames that are neither ARP nor IP |
| `known` | keep, cut | cut | when rules change: connections stay, or must pass the new rules with their next packet |
| `midway` | boolean | false | let a TCP connection begin with any ACK; its windows are then not checked |
| `address_sets`, `port_sets` | mapping | | lists of prefixes, and of ports and ranges, by name |
| `most_rules`, `most_classes` | number | 1024 | room, fixed when the instance is made; 10,240 rules at most |
| `connections` | number | 65536 | room for established connections, fixed as well |
| `transitory`, `trains` | number | 8192, 4096 | the same for half-open ones, and for fragmented packets |
| `per_source` | number | 0 | established connections of one IPv4 address or IPv6 /64, 0 for any number |
| `rejections` | number | 100 | packets a second and port that `reject` answers |
| `reports` | number | 10 | reports a second of each rule with `log` |
| `report_every` | number | 1 | one of so many packets of such a rule is reported |
| `opening`, `established` | time | 30s, 2h 4m | how long a TCP connection lives in silence: half open, established |
| `closing`, `closed` | time | 4m, 2m | and after one end closed, after both |
| `datagrams`, `queries` | time | 5m, 60s | the same of UDP and what is not TCP, and of ICMP queries |

Each rule has an `action`, accept, drop or reject, and any of these; what it does not say matches everything:

| field | meaning |
|---|---|
| `name` | for people |
| `priority` | lower numbers come first, 0 if left out; rules of one priority as they stand |
| `direction` | out, in or both (default) |
| `state` | new (default): first packets; related: ICMP errors about a connection |
| `source`, `destination` | a prefix, the name of an address set, or a list; `0.0.0.0/0` is all of IPv4 |
| `protocol` | `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `gre` ... or a number |
| `source_ports`, `destination_ports` | `443`, `"1024-65535"`, the name of a port set, or a list; with tcp, udp, sctp |
| `icmp_type`, `icmp_code` | a number; the type also by name, such as `echo` |
| `flags` | flags of TCP set and, with `!`, clear: `"syn !ece"` |
| `log` | true: what it decides about is reported, false (default) |

```python
from iovisor.functions.firewall import Firewall

office = Firewall(address_sets={"servers": ["192.0.2.0/24", "2001:db8:1::/64"]}, port_sets={"web": [80, 443]}, rules=[
    {"name": "no mail", "action": "reject", "direction": "out", "protocol": "tcp", "destination_ports": 25,
     "log": True},
    {"name": "whatever else", "action": "accept", "direction": "out"},
    {"name": "our web", "action": "accept", "direction": "in", "protocol": "tcp", "destination": "servers",
     "destination_ports": "web"},
    {"name": "ping", "action": "accept", "protocol": "icmp", "icmp_type": "echo"},
])
```

*TCP* (RFC 9293, RFC 5961, RFC 7323).  A connection begins with a SYN alone and a right checksum.  Data must lie in the
window the other end opened, scaled as both agreed; an acknowledgment must be of what was sent.  A reset ends a
connection only if it is exactly what the other end expects; another one in the window passes, and so does a SYN, for
the host to challenge.  After both ends closed, a SYN with a higher number begins anew.

*UDP and other protocols*: the first packet back makes a connection established.  *ICMP*: a reply passes if it answers a
request.  *ICMP errors* pass if they quote what the connection sent of late, and travel to who sent it (RFC 5927).

*Fragments* (RFC 1858, RFC 3128) follow their first one, which must contain the whole transport header.  One that comes
before its first is dropped.

*Rejecting*: TCP is answered by a reset, everything else by "administratively prohibited" of ICMP or ICMPv6, in the name
of whom it was for.  Nothing is answered that is itself an error, a reset, a later fragment or for many; that, and what
goes beyond `rejections`, is dropped.  A connection that a changed rule rejects is reset at its next packet.

*Reports* of a rule are of first packets, so of connections it let begin or did not, and decide nothing.  Each says how
many were not reported since the last.  The process that runs the network logs them, and remembers the last 1,000.

*VLANs*: connections of two VLANs have nothing to do with each other.  A frame with more than two tags is dropped.

## Tables

| table | key | value |
|---|---|---|
| `connections.established` | the two ends, protocol, VLANs | state, windows, deadline, and what let it pass |
| `connections.transitory` | the same | the same, of connections half open or ended; the longest unused gives way |
| `connections.sources` | address | how many established connections it has, if `per_source` is set |
| `connections.fragments` | the two ends, identification | the ports of the first fragment |
| `connections.began` | 0 | scratch |
| `rules.active` | 0 | generation and bank of the rules in use, in one word |
| `rules.sources_0`, `rules.sources_1` | prefix | a row; one table a bank |
| `rules.destinations_0`, `rules.destinations_1` | prefix | a row |
| `rules.firsts`, `rules.seconds` | range of ports, or ICMP type and code | a row |
| `rules.tags`, `rules.flags` | protocol, direction and state; flags of TCP | a row |
| `rules.rows` | row and block | which of 512 rules it satisfies |
| `decisions` | rule | action, counter, and whether it is reported |
| `rejection.allowance` | port | how many answers are left |
| `reports.silences` | rule's counter | how many reports are left, and how many packets were not reported |
| `asked` | 0 | scratch |

Changed rules are written to the bank that is not in use; then one store switches over.  Every packet meets the old
rules or the new ones, never a mixture.

## Counters

`hits`: packets and bytes by rule, all packets of the connections it let begin among them.  A rule that stays as it is
keeps its count, wherever it moves.  Also counted: default, resolution, other and related.

## Drop reasons

| reason | the packet |
|---|---|
| `RULE` | is a first one, and matched a rule that drops, or rejects and cannot answer |
| `DEFAULT` | is a first one, and matched no rule |
| `RESOLUTION` | is ARP or discovery, and `resolution` is drop |
| `OTHER` | is neither IP nor ARP, and `other` is drop |
| `REVOKED` | is of a connection that changed rules no longer allow |
| `WRONG_SIDE` | has the addresses of a connection, and comes from the other side |
| `NESTED_TAGS` | has more than two VLAN tags |
| `MALFORMED` | contradicts itself: version, lengths, transport header |
| `TINY_FRAGMENT` | is a first fragment without the whole transport header |
| `OVERLAPPING_FRAGMENT` | is a TCP fragment that would overwrite the flags of the first |
| `UNKNOWN_FRAGMENT` | is a later fragment whose first was not seen |
| `SOURCE_ROUTED` | has an IPv6 routing header of type 0 with segments left |
| `TOO_MANY_HEADERS` | has more than 4 extension headers |
| `ILLEGAL_FLAGS` | has flags of TCP that no end sends |
| `BAD_CHECKSUM` | opens, resets or ends a TCP connection with a wrong checksum |
| `OUT_OF_STATE` | is a TCP segment that nothing led to |
| `OUT_OF_WINDOW` | is beyond the window, or older than one |
| `UNSENT_ACK` | acknowledges what was not sent |
| `UNASKED` | is an ICMP reply to no request, or from the wrong end |
| `UNRELATED` | is an ICMP error about no connection here |
| `FULL` | would establish a connection more than `connections` |
| `QUOTA` | would establish a connection more than its source may have |

## Actions

`show` lists the rules and what they counted; `reset` sets the counters to zero; `reported` lists the latest reports;
`listing` lists the connections; `flush` forgets those with an end in a prefix, or all.

## Limits

A packet with a tag within a tag is not answered.  Checksums are verified of TCP segments without data that open, reset
or end, and of nothing else.  A fragment before its first is lost.  A deadline is at most a second late.  Dead entries
of `connections.established` are removed by the control path, every ten seconds: without it they count as room taken.
TC only: the program does not fit in the stack XDP gives.
"""
from __future__ import annotations

import logging
from collections import deque
from time import time
from typing import Any

from iovisor.language import ConfigError, Count, Packet, action, handles
from iovisor.parts.reports import Report
from iovisor.parts.rules import Action, RuleConfig
from iovisor.wire.dissection import dissect

from .path import (
    BY_DEFAULT,
    BY_OTHER,
    BY_RELATED,
    BY_RESOLUTION,
    BY_RULE,
    LOGGED,
    FirewallConfig,
    Known,
    Passing,
    Path,
    Reason,
)

KEPT = 1_000            # reports that are remembered

log = logging.getLogger(__name__)


def named(rule: RuleConfig, place: int) -> str:
    return rule.name or f"rule {place}"


class Firewall(Path):
    _reported: deque[dict[str, Any]] | None = None

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: FirewallConfig | None, new: FirewallConfig) -> None:
        ordered, matches = new.ordered(), new.matches()
        if len(ordered) > self.rules.capacity():
            raise ConfigError("rules", f"{len(ordered)} rules; there is room for {self.rules.capacity()} (most_rules)")
        before: dict[Any, list[int]] = {}
        standing = [] if old is None else [decision >> 8 for decision in self.standing(len(old.rules))]
        if old is not None:
            for rule, match, number in zip(old.ordered(), old.matches(), standing, strict=True):
                before.setdefault((match, rule.action), []).append(number)
        free = sorted(set(range(BY_RULE, int(self.hits.spec.size))) - set(standing), reverse=True)
        numbers = []
        for rule, match in zip(ordered, matches, strict=True):
            if kept := before.get((match, rule.action)):
                numbers.append(kept.pop(0))
            else:
                numbers.append(free.pop())
                self.hits[numbers[-1]] = Count()
        wanted = [number << 8 | (LOGGED if rule.log else 0) | rule.action
                  for rule, number in zip(ordered, numbers, strict=True)]
        if old is not None and (old.matches(), [r.action for r in old.ordered()], old.default, old.related) == (
                matches, [r.action for r in ordered], new.default, new.related):
            begin = self.standing_at()
            self.decisions.update({begin + place: decision for place, decision in enumerate(wanted)})
            return
        begin = self.rules.begin()
        self.decisions.update({begin + place: decision for place, decision in enumerate(wanted)})
        self.rules.switch("rules", matches, old is not None and new.known == Known.CUT)

    def standing_at(self) -> int:
        """The first decision in use."""
        return self.rules.capacity() if self.rules.active[0] & 1 else 0

    def standing(self, count: int) -> list[int]:
        """The decisions in use."""
        begin = self.standing_at()
        return [self.decisions[begin + place] for place in range(count)]

    @handles(Report)
    def on_report(self, event: Report, packet: Packet) -> None:
        """A packet that a rule with `log` decided about."""
        ordered = self.config.ordered()
        names = {decision >> 8: named(rule, place) for place, (rule, decision) in
                 enumerate(zip(ordered, self.standing(len(ordered)), strict=True))}
        if event.number not in names:
            return                                      # the rule has gone meanwhile
        direction = "out" if packet.port == self.inside else "in"
        row = {"at": time(), "rule": names[event.number], "action": Action(event.decision).name.lower(),
               "direction": direction, "packet": str(dissect(bytes(packet))), "missed": event.missed}
        self.remembered().append(row)
        missed = f" ({event.missed} more since the last)" if event.missed else ""
        log.info("%s: %s %s %s%s", row["rule"], row["action"], direction, row["packet"], missed)

    def remembered(self) -> deque[dict[str, Any]]:
        if self._reported is None:
            self._reported = deque(maxlen=KEPT)
        return self._reported

    @action
    def reported(self) -> list[dict[str, Any]]:
        """The latest reports of rules with `log`, the oldest first: when (seconds since 1970), rule, action, packet."""
        return list(self.remembered())

    @action
    def show(self) -> list[dict[str, Any]]:
        """The rules in order, then the rest, with what they counted."""
        ordered = self.config.ordered()
        rows = [(named(rule, place), Action(rule.action).name.lower(), decision >> 8)
                for place, (rule, decision) in enumerate(zip(ordered, self.standing(len(ordered)), strict=True))]
        rows += [("default", self.config.default.name.lower(), BY_DEFAULT),
                 ("resolution", self.config.resolution.name.lower(), BY_RESOLUTION),
                 ("other", self.config.other.name.lower(), BY_OTHER),
                 ("related", self.config.related.name.lower(), BY_RELATED)]
        return [{"name": name, "action": what, "packets": count.packets, "bytes": count.bytes}
                for name, what, counter in rows for count in [self.hits.read(counter)]]

    @action
    def listing(self) -> list[dict[str, Any]]:
        """The living connections: protocol, who began and to whom, state, seconds left."""
        return self.connections.show()

    @action
    def flush(self, within: str = "") -> int:
        """Forget the connections with an end in a prefix, or all; answers how many."""
        return self.connections.flush(within)

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.hits.clear()


__all__ = ["Firewall", "FirewallConfig", "Passing", "Reason"]
