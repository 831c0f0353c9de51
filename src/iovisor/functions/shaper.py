"""Shapes what leaves by a device: classes with guarantees and ceilings, where packets wait, and flows share equally.

Put it between a port's device and the rest of the network.  It decides which class a packet belongs to; the device
behind its port gets the queues (HTB), in which packets wait until there is room at their rate.

## Ports

```text
              ┌──────────┐                out: packets wait at the device of `outside`
   inside   ──┤  shaper  ├──   outside    in:  at that of `inside`
              └──────────┘                one that is linked to a function has no queue: what goes there passes
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rate` | rate | | what the device may send, `50M` |
| `burst` | bytes | 0 | what may leave at once after a pause; 0: 5 ms of the rate, and 32 KiB at least |
| `latency` | time | 50ms | how long a full queue of a class takes to send at its ceiling; 128 KiB at least |
| `direction` | out, in, both | out | which way is shaped |
| `classes` | list | one | at most 16, see below |
| `rules` | list | none | which packets belong to which class, see below |
| `usual` | text | the first | the class of what no rule matches |
| `flows` | 1 to 256 | 64 | queues of each class, to which its flows are given in turn |
| `most_rules` | number | 1024 | room for rules, set when the function is made |
| `most_classes` | number | 1024 | room for prefixes, and for different sets of rules that one satisfies |

| of a class | type | default | meaning |
|---|---|---|---|
| `name` | text | | for rules and people |
| `guarantee` | rate | | what it gets in any case; all together no more than `rate` |
| `ceiling` | rate | `rate` | what it gets at most, if others leave it something |
| `priority` | 0 to 7 | 3 | who is first at what is left, and waits least; the lower, the sooner |

| of a rule | meaning |
|---|---|
| `into` | a class; the first rule that matches decides |
| `name`, `direction` | for people; out, in or both |
| `source`, `destination`, `protocol`, `source_ports`, `destination_ports`, `dscp` | what it must be, as for a marker |

```python
from iovisor.functions.shaper import Shaper

home = Shaper(rate="50M", classes=[
    {"name": "bulk", "guarantee": "10M"},
    {"name": "voice", "guarantee": "2M", "ceiling": "4M", "priority": 0},
    {"name": "web", "guarantee": "20M"},
], rules=[
    {"dscp": "ef", "into": "voice"},
    {"protocol": "tcp", "source_ports": [80, 443], "into": "web"},
])
```

*Shares.*  If all classes want more than there is, each gets its guarantee, and what is not guaranteed goes to those of
the lowest `priority` number, then of the next, in proportion to their guarantees, up to their ceilings.  That is what
it can count on; what others do not use of theirs is lent, again by priority, to equals flow by flow.  A class that
stays within this waits for nobody, whatever others do (20 us at most, 99 of 100 times); what is beyond may wait long.

*Fairness.*  Flows of a class that all want more than there is get the same: each new one gets the next of its class's
queues, and queues take turns.  More flows than queues share some.

*Bytes* are those on a wire, of every frame of an aggregate (GSO).  An aggregate leaves as one, so at a device up to
64 KiB may follow each other at full speed, whatever the burst.

## Tables

| table | key | value |
|---|---|---|
| `into` | slot of a rule | its class |
| `places` | `FlowKey` | the queue of a flow within its class; the least used goes |
| `turn` | 0 | how many flows were given queues |
| `rules.sources_0`, `rules.destinations_0`, `rules.firsts`, `rules.seconds` | prefix | a row |
| `rules.sources_1`, `rules.destinations_1` | prefix | those of the other bank |
| `rules.tags`, `rules.flags` | protocol and direction, DSCP | a row |
| `rules.rows` | | bits, one a rule; the first that all six rows have decides |
| `rules.active` | 0 | the bank in use, the length of a row |

## Counters

`counts`: packets and bytes that came, by class and direction.  `show` lists them.  What queues sent, dropped and hold
the kernel knows: `Network.queues(port)`, or `tc -s class show dev DEVICE`.

## Drop reasons

| reason | the packet |
|---|---|
| `MALFORMED` | says it is IPv4 or IPv6, and its version or header length says it is not |

What a full queue drops the device drops: it has left the network, and is counted by `Network.queues`.

## Actions

`show` lists what was counted; `reset` sets the counters to zero.

## Limits

TC only; a whole device, not a share of one.  What goes to a device with queues is not handed to its other end at once,
and costs a device hop.  Copies of floods wait in queues too.  Rates from 8 kbit/s.  A class has at most 8,192 flows
with queues of their own choice at a time; fairness is among flows, whoever they belong to.
"""
# Why it is written so.
#
# This kernel has no fair queueing discipline and no way to let a packet leave at a time it says (EDT needs fq): what it
# has is HTB.  Fairness is made of HTB itself: each class is a parent of equal leaves, which borrow from it in turn, and
# flows are given leaves one after the other.  Choosing the leaf by hash was rejected: sixteen flows in 64 leaves meet
# nearly always, and two that meet have half.
#
# In HTB whoever borrows does so leaf by leaf, so a class of sixteen flows would borrow sixteen times what a class of
# one does.  So what is not guaranteed is divided beforehand (`allotted`), and only what is not used is borrowed.  And
# leaves have no rates of their own: each would save a burst for itself, and sixteen flows that begin would send sixteen
# at once (measured: 16.2 times the burst, 1.05 without).
#
# The number of a leaf says its class, so its parent never changes, and a change of rates changes classes in place.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    MILLISECOND,
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Function,
    Lru,
    Packet,
    Port,
    Queue,
    Queues,
    Reasons,
    Verdict,
    action,
    auto,
    bitrate,
    forward,
    require,
    table,
    time,
    u3,
    u8,
    u16,
    u32,
    u64,
)
from iovisor.parts.classifier import NONE, Classifier, ClassifierConfig
from iovisor.parts.flow import FlowKey, internet, told
from iovisor.parts.selection import SelectionConfig

MOST_CLASSES, MOST_FLOWS, FLOWS = 16, 256, 8_192
TRUNK, BRANCH = 0xffff, 0xff00              # the numbers of queues that are no leaves
LEAST_RATE = 8_000
LEAST_BURST, USUAL_BURST, LEAST_ROOM = 32 << 10, 5 * MILLISECOND, 128 << 10
FRAME = 1_514


class Reason(Reasons):
    MALFORMED = auto()


class Way(IntEnum):
    OUT = 1
    IN = 2
    BOTH = 3


# -- configuration ---------------------------------------------------------------------------------------------------

class ClassConfig(Config):
    """What some packets get."""

    name: str
    guarantee: bitrate
    ceiling: bitrate = 0
    priority: u3 = 3


class RuleConfig(SelectionConfig):
    """One rule: what a packet must be, and the class it belongs to."""

    into: str


class ShaperConfig(ClassifierConfig):
    """How much leaves, and whose."""

    rate: bitrate
    burst: u32 = 0
    latency: time = 50 * MILLISECOND
    direction: Way = Way.OUT
    classes: list[ClassConfig] = []
    rules: list[RuleConfig] = []
    usual: str = ""
    flows: u16 = 64

    def validate(self) -> None:
        super().validate()
        if self.rate < LEAST_RATE:
            raise ConfigError("rate", f"{self.rate} bit/s is less than 8k")
        if not 1 <= self.flows <= MOST_FLOWS:
            raise ConfigError("flows", f"{self.flows} is not between 1 and {MOST_FLOWS}")
        if len(self.classes) > MOST_CLASSES:
            raise ConfigError("classes", f"{len(self.classes)} classes; {MOST_CLASSES} is the most")
        names = [settings.name for settings in self.classes]
        for place, settings in enumerate(self.classes):
            if settings.name in names[:place]:
                raise ConfigError(f"classes[{place}].name", f"there is a class {settings.name} already")
            if not LEAST_RATE <= settings.guarantee <= (settings.ceiling or self.rate) <= self.rate:
                raise ConfigError(f"classes[{place}]", "8k <= guarantee <= ceiling <= rate must hold")
        if sum(settings.guarantee for settings in self.classes) > self.rate:
            raise ConfigError("classes", "their guarantees are more than the rate")
        for place, rule in enumerate(self.rules):
            if rule.into not in names:
                raise ConfigError(f"rules[{place}].into", f"{rule.into!r} is not a class")
        if self.usual and self.usual not in names:
            raise ConfigError("usual", f"{self.usual!r} is not a class")
        if len(self.rules) > self.most_rules:
            raise ConfigError("rules", f"{len(self.rules)} rules; there is room for {self.most_rules} (most_rules)")

    def ordered(self) -> list[ClassConfig]:
        """The classes, the usual one first: its first queue is that of what says nothing."""
        classes = self.classes or [ClassConfig(name="all", guarantee=self.rate)]
        return sorted(classes, key=lambda settings: settings.name != (self.usual or classes[0].name))

    def allotted(self) -> list[int]:
        """What each class gets when all want more: its guarantee, and of the rest, by priority, as much for each bit of
        guarantee as its equals get, up to its ceiling."""
        classes = self.ordered()
        found, spare = [settings.guarantee for settings in classes], self.rate
        spare -= sum(found)
        for priority in sorted({settings.priority for settings in classes}):
            hungry = [place for place, settings in enumerate(classes) if settings.priority == priority]
            while hungry:
                weight, left = sum(classes[place].guarantee for place in hungry), spare
                for place in hungry:
                    more = min(left * classes[place].guarantee // weight,
                               (classes[place].ceiling or self.rate) - found[place])
                    found[place] += more
                    spare -= more
                fed = [place for place in hungry if found[place] == (classes[place].ceiling or self.rate)]
                if not fed:
                    break
                hungry = [place for place in hungry if place not in fed]
        return found

    def queues(self) -> Queues:
        """For a device: the trunk, a branch for each class, its leaves."""
        burst = self.burst or max(LEAST_BURST, self.rate * USUAL_BURST // (8 * SECOND))
        every = [Queue(TRUNK, 0, self.rate, self.rate, burst)]
        for place, (settings, share) in enumerate(zip(self.ordered(), self.allotted(), strict=True)):
            ceiling, branch = settings.ceiling or self.rate, BRANCH + place
            room = max(ceiling * self.latency // (8 * SECOND), LEAST_ROOM)
            every.append(Queue(branch, TRUNK, share, ceiling, max(burst * share // self.rate, FRAME),
                               settings.priority, surge=burst))
            every += [Queue(place * self.flows + leaf + 1, branch, 0, ceiling, burst, settings.priority, room)
                      for leaf in range(self.flows)]
        return Queues(tuple(every))


# -- the function ----------------------------------------------------------------------------------------------------

class Shaper(Function):
    config: ShaperConfig
    inside: Port
    outside: Port

    rules: Classifier = Classifier()
    into: Array[u8] = table("rule_slots")
    places: Lru[FlowKey, u16] = table(FLOWS)
    turn: Array[u64] = table(1)
    counts: Counter = table(2 * MOST_CLASSES)

    def ingress(self, pkt: Packet) -> Verdict:
        incoming = 1 if pkt.port == self.outside else 0
        onward = self.inside if incoming else self.outside
        if self.config.direction & (1 << incoming) == 0:
            return forward(onward)
        ip4, ip6, _ = internet(pkt)
        require(ip4 is None or (ip4.version == 4 and ip4.ihl >= 5), Reason.MALFORMED)
        require(ip6 is None or ip6.version == 6, Reason.MALFORMED)
        (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, _, traffic,
         _) = told(pkt, ip4, ip6)
        number = 0
        if ip4 is not None or ip6 is not None:
            slot = self.rules.match(source_upper, source_lower, destination_upper, destination_lower, first, second,
                                    protocol | incoming << 8, traffic >> 2)
            if slot != NONE:
                number = self.into[slot] & (MOST_CLASSES - 1)
        self.counts.add(incoming * MOST_CLASSES + number, bytes=len(pkt))
        place = 0
        if self.config.flows > 1:
            key = FlowKey(source_upper=source_upper, source_lower=source_lower, destination_upper=destination_upper,
                          destination_lower=destination_lower, source_port=first, destination_port=second,
                          protocol=protocol, spare=number, vlan=pkt.tci & 0xfff)
            known = self.places.get(key)
            if known is None:
                place = self.turn[0] % max(self.config.flows, 1)
                self.turn[0] = self.turn[0] + 1
                self.places.put(key, place)
            else:
                place = known
        pkt.queue(number * self.config.flows + place % max(self.config.flows, 1) + 1)
        return forward(onward)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: ShaperConfig | None, new: ShaperConfig) -> None:
        if old is None or (old.rules, old.ordered()) != (new.rules, new.ordered()):
            names = [settings.name for settings in new.ordered()]
            begin = self.rules.begin()
            self.into.update({begin + place: names.index(rule.into) for place, rule in enumerate(new.rules)})
            self.rules.switch("rules", [rule.match() for rule in new.rules], False)

    def queues(self, port: int) -> Queues | None:
        way = Way.OUT if port == self.outside else Way.IN
        return self.config.queues() if self.config.direction & way else None

    @action
    def show(self) -> list[dict[str, Any]]:
        """What came, by class and direction."""
        return [{"class": settings.name, "direction": ("out", "in")[incoming], "packets": count.packets,
                 "bytes": count.bytes}
                for incoming in range(2) for place, settings in enumerate(self.config.ordered())
                if (count := self.counts.read(incoming * MOST_CLASSES + place)).packets]

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.counts.clear()
