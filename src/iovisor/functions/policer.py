"""Limits rates between two ports: token buckets for the port, for each class, address or flow.

What exceeds its rate is dropped, or marked; nothing waits.  To let packets wait instead, use a shaper.  Frames are not
changed otherwise and addresses are not needed: put it on any link.

## Ports

```text
              ┌───────────┐
   inside   ──┤  policer  ├──   outside
              └───────────┘
      out: inside to outside      in: outside to inside
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `rate` | rate | 0 | bits a second, `50M`; 0: no limit |
| `burst` | bytes | 0 | how much may pass at once after a pause; 0: 300 ms of the rate, and 128 KiB at least |
| `peak` | rate | 0 | two rates: above this, packets are dropped; between `rate` and this, they are marked `excess` |
| `peak_burst` | bytes | 0 | the burst of `peak` |
| `excess` | DSCP | af13 | the mark, by name (`ef`, `af11`, `cs1`, `le`) or number |
| `by` | port, class, source, destination, flow | port | what has a bucket of its own |
| `direction` | out, in, both | both | what is limited; each direction has its own buckets |
| `classes` | list | | with `by: class`: `dscp`, and `rate`, `burst`, `peak`, `peak_burst`, `excess` of its packets |
| `flows` | number | 8192 | addresses or flows that have a bucket at a time |
| `overhead` | bytes | 0 | what each frame takes besides; 24 counts Ethernet's checksum, preamble and gap |

```python
from iovisor.functions.policer import Policer

tenant = Policer(rate="50M", burst=256_000)
fair = Policer(by="source", rate="10M")
voice = Policer(by="class", rate="100M", classes=[{"dscp": "ef", "rate": "2M", "burst": 8_000}])
colours = Policer(rate="40M", peak="60M", excess="af13")        # RFC 2698, colour-blind
```

*Bytes* are those on a wire: of all frames that a large one (GSO) will be cut into, their headers and tags included,
without the Ethernet checksum unless `overhead` says so.  Such an aggregate passes or is dropped as one, so a burst
below its 64 KiB stops bulk TCP between workloads with offloads.

*TCP* loses whole windows to a policer, and is then silent for its retransmission timeout, 200 ms in Linux.  What it
does not use meanwhile must fit in the bucket: with a burst of 250 ms or more it gets 95 to 99 % of the rate,
with 100 ms half of it (measured: BBR and CUBIC, 10 and 50 Mbit/s, round trips of 50 us).  Hence the default.

*Classes.*  Every DSCP is a class, those that are not listed have `rate` each.  What is not IP is class 0, and one flow.
A *flow* is one direction of a conversation: addresses, protocol, ports, outer VLAN.

## Tables

| table | key | value |
|---|---|---|
| `limits` | class; 64 for all else | the four numbers, as the data path computes with them |
| `buckets` | direction and class | when the bucket is full again, for each rate |
| `flows` | `FlowKey` | the same; the least used goes |

## Counters

`counts`: packets and bytes, by class: passed, marked, dropped.  `show` lists them.

## Drop reasons

| reason | the packet |
|---|---|
| `RATE` | exceeds the rate, or the peak |
| `NO_ROOM` | is of a flow for which there is no bucket |

## Actions

`show` lists what was counted; `reset` sets the counters to zero.

## Limits

Rates from 8 kbit/s to 200 Gbit/s.  A flow that was pushed out of `flows` begins with a full bucket: make the table
larger than the number of flows that matter.  With several CPUs at the same bucket, one packet of each may be let pass
that just no longer fits; what is let pass is always charged, so the rate stays.
"""
# Why it is written so.
#
# A bucket is one word, the time at which it is full again (the virtual scheduling of ATM's GCRA): there is no amount of
# tokens to be written with a time of filling, so two CPUs cannot tear them apart, and charging is one atomic addition.
# A bucket with two fields and a lock was rejected: helpers may not be called while holding one.
#
# Times are in sixteenths of nanoseconds, so that a small packet at 100 Gbit/s is charged to a hundredth.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Function,
    Lru,
    Packet,
    Port,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    bitrate,
    drop,
    forward,
    instant,
    require,
    table,
    u6,
    u8,
    u24,
    u32,
    u64,
)
from iovisor.parts.flow import FlowKey, internet, told, wire_length
from iovisor.wire.dscp import Dscp, dscp_text

CLASSES = 64
OTHERWISE = CLASSES                         # the limit of what has none of its own
PASSED, MARKED, DROPPED = range(3)          # of each class, in `counts`
PARTS = 4                                   # bits of a nanosecond
HIDDEN = 16                                 # bits below those, of what a byte costs
CIRCLE = (1 << 62) - 1
LEAST_RATE, MOST_RATE = 8_000, 200_000_000_000
LEAST_BURST, USUAL_BURST = 128 << 10, SECOND * 3 // 10


class Reason(Reasons):
    RATE = auto()
    NO_ROOM = auto()


class By(IntEnum):
    PORT = 0
    CLASS = 1
    SOURCE = 2
    DESTINATION = 3
    FLOW = 4


class Direction(IntEnum):
    OUT = 1
    IN = 2
    BOTH = 3


# -- tables ----------------------------------------------------------------------------------------------------------

class Limit(Record):
    """What a byte costs (0: nothing), how much may be owed, and the mark of what is between the rates."""

    cost: u64 = 0
    depth: u64 = 0
    peak_cost: u64 = 0
    peak_depth: u64 = 0
    excess: u8 = 0


class Bucket(Record):
    """When it is full again, of each rate."""

    full: u64 = 0
    peak_full: u64 = 0


# -- configuration ---------------------------------------------------------------------------------------------------

class LimitConfig(Config):
    """One rate, or two."""

    rate: bitrate = 0
    burst: u32 = 0
    peak: bitrate = 0
    peak_burst: u32 = 0
    excess: Dscp | u6 = Dscp.AF13

    def validate(self) -> None:
        for name in ("rate", "peak"):
            value = getattr(self, name)
            if value and not LEAST_RATE <= value <= MOST_RATE:
                raise ConfigError(name, f"{value} bit/s is not between 8k and 200G")
        if 0 < self.peak < self.rate:
            raise ConfigError("peak", "this is less than the rate")
        if self.peak > 0 and self.rate == 0:
            raise ConfigError("rate", "a peak needs a rate below it")

    def limit(self) -> Limit:
        """As the data path computes with it."""
        cost, depth = priced(self.rate, self.burst)
        peak_cost, peak_depth = priced(self.peak, self.peak_burst)
        return Limit(cost=cost, depth=depth, peak_cost=peak_cost, peak_depth=peak_depth,
                     excess=self.excess)


class ClassConfig(LimitConfig):
    """The limit of the packets with one code point."""

    dscp: Dscp | u6


class PolicerConfig(LimitConfig):
    """How much may pass."""

    by: By = By.PORT
    direction: Direction = Direction.BOTH
    classes: list[ClassConfig] = []
    flows: u32 = 8_192
    overhead: u8 = 0

    def validate(self) -> None:
        super().validate()
        if self.classes and self.by != By.CLASS:
            raise ConfigError("classes", "this needs by: class")
        if len({settings.dscp for settings in self.classes}) < len(self.classes):
            raise ConfigError("classes", "two of them have one DSCP")
        if not self.flows:
            raise ConfigError("flows", "one is the least")

    def limits(self) -> dict[int, Limit]:
        """By class, and `OTHERWISE`."""
        usual = self.limit()
        own = {int(settings.dscp): settings.limit() for settings in self.classes}
        return {number: own.get(number, usual) for number in range(CLASSES + 1)}


def priced(rate: int, burst: int) -> tuple[int, int]:
    """What a byte costs, and what a burst may owe."""
    if not rate:
        return 0, 0
    burst = burst or max(LEAST_BURST, rate * USUAL_BURST // (8 * SECOND))
    return (8 * SECOND << PARTS + HIDDEN) // rate, (8 * SECOND * burst << PARTS) // rate


# -- the function ----------------------------------------------------------------------------------------------------

class Policer(Function):
    config: PolicerConfig
    inside: Port
    outside: Port

    limits: Array[Limit] = table(CLASSES + 1)
    buckets: Array[Bucket] = table(2 * (CLASSES + 1))
    flows: Lru[FlowKey, Bucket] = table("flows")
    counts: Counter = table(3 * CLASSES)

    def ingress(self, pkt: Packet) -> Verdict:
        incoming = 1 if pkt.port == self.outside else 0
        onward = self.inside if incoming else self.outside
        if self.config.direction & (1 << incoming) == 0:
            return forward(onward)
        ip4, ip6, link = internet(pkt)
        (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, _, traffic,
         headers) = told(pkt, ip4, ip6)
        dscp = traffic >> 2
        length = wire_length(pkt, link + headers, self.config.overhead)
        limit = self.limits[dscp if self.config.by == By.CLASS else OTHERWISE]
        moment = instant() << PARTS & CIRCLE
        if self.config.by == By.PORT or self.config.by == By.CLASS:
            place = incoming * (CLASSES + 1) + (dscp if self.config.by == By.CLASS else OTHERWISE)
            colour = self.colour(self.buckets[place], limit, moment, length)
        else:
            key = FlowKey(
                source_upper=source_upper if self.config.by != By.DESTINATION else 0,
                source_lower=source_lower if self.config.by != By.DESTINATION else 0,
                destination_upper=destination_upper if self.config.by != By.SOURCE else 0,
                destination_lower=destination_lower if self.config.by != By.SOURCE else 0,
                source_port=first if self.config.by == By.FLOW else 0,
                destination_port=second if self.config.by == By.FLOW else 0,
                protocol=protocol if self.config.by == By.FLOW else 0, spare=incoming,
                vlan=pkt.tci & 0xfff if self.config.by == By.FLOW else 0)
            bucket = self.flows.get(key)
            if bucket is None:
                self.flows.insert(key, Bucket())
                bucket = self.flows.get(key)
                require(bucket is not None, Reason.NO_ROOM)
            if bucket is None:
                return drop(Reason.NO_ROOM)
            colour = self.colour(bucket, limit, moment, length)

        self.counts.add(dscp * 3 + colour, bytes=length)
        require(colour != DROPPED, Reason.RATE)
        if colour == MARKED:
            if ip4 is not None:
                pkt.rewrite(ip4, dscp=limit.excess)
            if ip6 is not None:
                ip6.traffic = ip6.traffic & 0x3f_ffff | (limit.excess & 0x3f) << 22
        return forward(onward)

    def colour(self, bucket: Bucket, limit: Limit, moment: u64, length: u24) -> int:
        """What becomes of so many bytes; they are charged unless they are dropped."""
        owed = max((bucket.full & CIRCLE) - moment, 0)
        price = (limit.cost & 0xff_ffff_ffff) * length >> HIDDEN
        fits = owed + price <= limit.depth & CIRCLE or limit.cost == 0
        if limit.peak_cost != 0:
            peak_owed = max((bucket.peak_full & CIRCLE) - moment, 0)
            peak_price = (limit.peak_cost & 0xff_ffff_ffff) * length >> HIDDEN
            if peak_owed + peak_price > limit.peak_depth & CIRCLE:
                return DROPPED
            if peak_owed == 0:
                bucket.peak_full = moment + peak_price
            else:
                bucket.peak_full += peak_price
            if not fits:
                return MARKED
        if not fits:
            return DROPPED
        if owed == 0:
            bucket.full = moment + price
        else:
            bucket.full += price
        return PASSED

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: PolicerConfig | None, new: PolicerConfig) -> None:
        self.limits.update(new.limits())

    @action
    def show(self) -> list[dict[str, Any]]:
        """What passed, was marked and was dropped, by class."""
        rows = []
        for number in range(CLASSES):
            passed, marked, dropped = (self.counts.read(3 * number + what) for what in (PASSED, MARKED, DROPPED))
            if passed.packets + marked.packets + dropped.packets:
                rows.append({"class": dscp_text(number), "packets": passed.packets, "bytes": passed.bytes,
                             "marked": marked.packets, "dropped": dropped.packets, "dropped_bytes": dropped.bytes})
        return rows

    @action
    def reset(self) -> None:
        """Set the counters to zero."""
        self.counts.clear()
