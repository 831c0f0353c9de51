"""Writes the DSCP of packets between two ports (RFC 2474): by rules, or from one value to another, IPv4 and IPv6.

What policers and shapers behind it treat by class, this says: the first rule that matches gives the mark; what no rule
matches is mapped.  The ECN bits stay, IPv4's checksum follows.

## Ports

```text
              ┌──────────┐
   inside   ──┤  marker  ├──   outside
              └──────────┘
      out: inside to outside      in: outside to inside
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rules` | list | none | see below |
| `map` | mapping | none | for packets that no rule matches: from one DSCP to another |
| `otherwise` | DSCP | | what those get whose DSCP is not in `map`; left out, they keep theirs |
| `most_rules` | number | 1024 | room for rules, set when the function is made |
| `most_classes` | number | 1024 | room for prefixes, and for different sets of rules that one satisfies |

Each rule has `mark`, and any of these; what it does not say matches everything:

| field | meaning |
|---|---|
| `name` | for people |
| `direction` | out, in or both (default) |
| `source`, `destination` | a prefix or a list of prefixes |
| `protocol` | `tcp`, `udp`, `icmp`, `icmp6` ... or a number |
| `source_ports`, `destination_ports` | `443`, `"1024-65535"` or a list; with tcp, udp and sctp |
| `dscp` | the DSCP it comes with |

```python
from iovisor.functions.marker import Marker

edge = Marker(rules=[
    {"name": "voice", "direction": "out", "protocol": "udp", "destination_ports": "16384-32767", "mark": "ef"},
    {"name": "backup", "source": "10.0.9.0/24", "mark": "le"},
], map={"cs6": "cs0", "cs7": "cs0"})
untrusted = Marker(otherwise="cs0")
```

A DSCP is a name of IANA's (`ef`, `af11` to `af43`, `cs0` to `cs7`, `va`, `le`) or a number below 64.  The later
fragments of a datagram have no ports, so a rule that asks for ports does not match them.

## Tables

| table | key | value |
|---|---|---|
| `marks` | slot of a rule | its DSCP |
| `mapped` | DSCP | the DSCP that becomes of it |
| `rules.sources_0`, `rules.destinations_0`, `rules.firsts`, `rules.seconds` | prefix | a row |
| `rules.sources_1`, `rules.destinations_1` | prefix | those of the other bank |
| `rules.tags`, `rules.flags` | protocol and direction, DSCP | a row |
| `rules.rows` | | bits, one a rule; the first that all six rows have decides |
| `rules.active` | 0 | the bank in use, the length of a row |

## Counters

`counts`: packets and bytes, by the DSCP with which they left.  `show` lists them.

## Drop reasons

| reason | the packet |
|---|---|
| `MALFORMED` | says it is IPv4 or IPv6, and its version or header length says it is not |

## Actions

`show` lists what was counted; `reset` sets the counters to zero.

## Limits

Headers inside tunnels are not looked at, nor is more than one VLAN tag among the bytes.  The priority bits of VLAN tags
stay.  What is not IP passes as it is and is not counted.
"""
# Why it is written so.
#
# One lookup decides, whatever the number of rules, and only what changes is written: a packet that has its mark already
# is not touched, so that its bytes stay shared with whoever else has them.
from __future__ import annotations

from typing import Any

from iovisor.language import (
    Array,
    ConfigError,
    Counter,
    Function,
    Packet,
    Port,
    Reasons,
    Verdict,
    action,
    auto,
    forward,
    require,
    table,
    u6,
    u8,
)
from iovisor.parts.classifier import NONE, Classifier, ClassifierConfig
from iovisor.parts.flow import internet, told
from iovisor.parts.selection import SelectionConfig
from iovisor.wire.dscp import Dscp, dscp_text

CLASSES = 64


class Reason(Reasons):
    MALFORMED = auto()


# -- configuration ---------------------------------------------------------------------------------------------------

class RuleConfig(SelectionConfig):
    """One rule: what a packet must be, and the mark it gets."""

    mark: Dscp | u6


class MarkerConfig(ClassifierConfig):
    """Who gets which mark."""

    rules: list[RuleConfig] = []
    map: dict[str, Dscp | u6] = {}
    otherwise: Dscp | u6 | None = None

    def validate(self) -> None:
        super().validate()
        if len(self.rules) > self.most_rules:
            raise ConfigError("rules", f"{len(self.rules)} rules; there is room for {self.most_rules} (most_rules)")
        self.mapping()

    def mapping(self) -> dict[int, int]:
        """What becomes of each DSCP."""
        found = {number: number if self.otherwise is None else int(self.otherwise) for number in range(CLASSES)}
        return found | {number_of(f"map.{name}", name): int(value) for name, value in self.map.items()}


def number_of(path: str, name: str) -> int:
    """A DSCP by its name or number."""
    if name.upper() in Dscp.__members__:
        return Dscp[name.upper()]
    if not name.isdigit() or int(name) >= CLASSES:
        raise ConfigError(path, f"{name!r} is not a DSCP: a number below 64, or a name like ef, af11 or cs1")
    return int(name)


# -- the function ----------------------------------------------------------------------------------------------------

class Marker(Function):
    config: MarkerConfig
    inside: Port
    outside: Port

    rules: Classifier = Classifier()
    marks: Array[u8] = table("rule_slots")
    mapped: Array[u8] = table(CLASSES)
    counts: Counter = table(CLASSES)

    def ingress(self, pkt: Packet) -> Verdict:
        incoming = 1 if pkt.port == self.outside else 0
        ip4, ip6, _ = internet(pkt)
        require(ip4 is None or (ip4.version == 4 and ip4.ihl >= 5), Reason.MALFORMED)
        require(ip6 is None or ip6.version == 6, Reason.MALFORMED)
        if ip4 is not None or ip6 is not None:
            (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, _, traffic,
             _) = told(pkt, ip4, ip6)
            dscp = traffic >> 2
            slot = self.rules.match(source_upper, source_lower, destination_upper, destination_lower, first, second,
                                    protocol | incoming << 8, dscp)
            mark = (self.mapped[dscp] if slot == NONE else self.marks[slot]) & 0x3f
            self.counts.add(mark, bytes=len(pkt))
            if mark != dscp:
                if ip4 is not None:
                    pkt.rewrite(ip4, dscp=mark)
                if ip6 is not None:
                    ip6.traffic = ip6.traffic & 0x3f_ffff | mark << 22
        return forward(self.inside if incoming else self.outside)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: MarkerConfig | None, new: MarkerConfig) -> None:
        self.mapped.update(new.mapping())
        if old is None or old.rules != new.rules:
            begin = self.rules.begin()
            self.marks.update({begin + place: int(rule.mark) for place, rule in enumerate(new.rules)})
            self.rules.switch("rules", [rule.match() for rule in new.rules], False)

    @action
    def show(self) -> list[dict[str, Any]]:
        """What left, by DSCP."""
        return [{"dscp": dscp_text(number), "packets": count.packets, "bytes": count.bytes}
                for number in range(CLASSES) if (count := self.counts.read(number)).packets]

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.counts.clear()
