"""A learning Ethernet switch (IEEE 802.1D), with VLANs if you want them (802.1Q).

It remembers behind which port every station talks and sends a frame there; what it does not know it floods.  Without
`vlans` it is transparent: tags pass untouched, and VLANs cost nothing, neither a lookup nor a branch.

## Ports

```text
              ┌──────────┐
   ports[0] ──┤          ├── ports[2]
              │  switch  │
   ports[1] ──┤          ├── ports[3] ... ports[255]
              └──────────┘
```

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `ageing` | time | 300s | a station silent for longer is forgotten |
| `stations` | u32 | 4096 | room for stations, learned and static; fixed when the instance is made |
| `quota` | u32 | 1024 | stations one port may have learned |
| `storm` | u24 | 0 | frames a second one port may have flooded, with bursts of one second's worth; 0: no limit |
| `vlans` | bool | false | whether ports belong to VLANs |
| `service` | bool | false | whether they are a provider's (802.1ad, QinQ): see below; with `vlans` |
| `horizon` | bool | false | whether nothing is relayed from one `overlay` port to another |
| `ports` | by number | | `access: 10`, or `trunk: [10, 20]`, perhaps with `native: 1`; `quota` of its own; `overlay` |
| `static` | list | | `{mac: 02:00:00:00:00:01, port: 3, vlan: 10}`: a station that neither moves nor ages |

```python
from iovisor.functions.switch import Switch

plain = Switch(ageing="60s")
office = Switch(vlans=True, ports={0: {"access": 10}, 1: {"access": 20}, 2: {"trunk": [10, 20], "native": 1}},
                static=[{"mac": "02:00:00:00:00:01", "port": 2, "vlan": 10}])
```

With `vlans`, every frame is in exactly one VLAN, and it carries it in its outer tag between ingress and egress:

| frame | access port | trunk |
|---|---|---|
| untagged | its VLAN | the native VLAN; without one dropped |
| 0x8100, VID 0 (priority) | as untagged; priority kept | as untagged; priority kept |
| 0x8100, VID 1..4094 | dropped, its own VLAN too | that VLAN if it is listed or native, else dropped |
| 0x8100, VID 4095 | dropped | dropped |
| 0x88a8, any VID | dropped | dropped: service tags are a provider bridge's |
| a tag behind a tag of VID 0 | dropped | as untagged: the inner tag is payload |
| leaving the switch | untagged; dropped if the payload begins with a tag | tagged; the native VLAN untagged |

*Hopping.*  Taking a tag off must never turn payload into a tag the next switch believes.  So a frame of the native VLAN
whose payload begins with a tag (0x8100 or 0x88a8) keeps its own tag, and an access port drops such a frame.
A port that `ports` does not name is closed.

*QinQ.*  With `service`, VLANs are those of a provider, whose tags are 0x88a8, and an access port is a customer's: what
comes in there, tagged 0x8100 or not, gets the port's service tag before its own, with the priority of its own; that tag
is taken off where the frame leaves through an access port, and the customer's is as it was.  So customers may use the
same VLANs, all of them.  Addresses are learned in the provider's VLAN.  A trunk has no native VLAN.

| frame, with `service` | access port | trunk |
|---|---|---|
| untagged, or 0x8100 | its VLAN | dropped |
| 0x88a8, VID 1..4094 | dropped | that VLAN if it is listed, else dropped |
| 0x88a8, VID 0 or 4095 | dropped | dropped |
| leaving the switch | without its service tag; dropped if another one is behind it | with it |

*Split horizon.*  Overlay ports lead to other switches of the same network, each of which has sent its own copy to all
the others; so with `horizon`, what comes in through a port that is `overlay: true` leaves through none that is.

## Tables

| table | key | value |
|---|---|---|
| `stations` | VLAN (0 without `vlans`) and MAC | port, when last seen, whether static |
| `loads` | port | how many stations it has learned |
| `lines` | port | mode, VLAN of untagged frames, quota: the configuration, for the data path |
| `members` | port and VID | one bit each, 64 to a word |
| `storms` | port | what is left of its allowance for flooding |
| `sets` | 1 | the ports that are no overlay ports |

A station is learned from the source of each accepted frame, moved by the first frame from elsewhere, refreshed by every
frame, and swept every 10 s once too old.  Group addresses are never learned.  When the table, or the port's quota, is
full, a newcomer is not learned and frames to it are flooded: nothing that is known is lost, so a storm of invented
addresses cannot expose a pair that talks.  A known station that moves to a port with a full quota becomes unknown.

## Counters

`received` and `sent`, by port: frames, and bytes without the outer tag.  `unlearned`, by port: frames whose source
there was no room for.  A flooded frame counts once in `received`, and in `sent` for each port it left through.

## Drop reasons

| reason | the frame |
|---|---|
| `RESERVED_ADDRESS` | is to 01-80-C2-00-00-00 ... 0F, which no bridge relays (BPDU, LACP, pause, LLDP) |
| `SAME_PORT` | came from the port its destination is behind |
| `STATION_FIXED` | has the source of a static station, and came through another port |
| `STORM` | would be flooded beyond the port's allowance |
| `SPLIT_HORIZON` | would go from one overlay port to another |
| `PORT_CLOSED` | came through a port without a VLAN |
| `VLAN_INGRESS_FILTER` | is tagged, on an access port; or of a VLAN the trunk does not carry |
| `VLAN_UNTAGGED` | is untagged, on a trunk without native VLAN; or without a service tag on a provider's trunk |
| `VLAN_INVALID` | is tagged 4095 |
| `VLAN_SERVICE_TAG` | is tagged 0x88a8, and not on a provider's trunk |
| `VLAN_EGRESS_FILTER` | is a flooded copy, for a port outside its VLAN |
| `VLAN_DOUBLE_TAG` | would leave an access port with a tag; with `service`, with a service tag |

## Actions

`flush` forgets what was learned, on one port or on all; `show` lists the stations.

## Limits

256 ports.  No spanning tree: a loop is cut by the fabric's hop limit and slowed by `storm`, not prevented; `bridge` has
one.  No multicast snooping: groups are flooded; `snooper` listens in.  Port security is the function `guard`, on the
link.  A frame made shorter than 60 bytes by taking its tag off is padded
by the device, not here; with `service`, links between providers need four bytes more than customers'.  When several
CPUs learn at once, `loads` may be off by some until the next sweep counts anew.
"""
# Why it is written so.
#
# Hot path: one clock reading, one lookup for the source, one for the destination, no store when nothing changed.
# `seen` is written in place, and only when the coarse clock has moved: at most 250 writes a second and station.
# Rejected: `table(ttl=)`, which reads the clock at each lookup and would age static stations; a second table for
# those, which is a second lookup; `Lru`, whose eviction lets a stranger with 20,000 addresses push out a talking pair.
# VLANs: `ingress` normalises (tags) and `egress` filters and strips, because a flooded copy meets its port only there.
from __future__ import annotations

import collections
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, TypeVar

from iovisor.language import (
    FLOOD,
    SECOND,
    Array,
    Config,
    ConfigError,
    Counter,
    Function,
    Hash,
    Packet,
    Ports,
    PortSet,
    Reasons,
    Record,
    Verdict,
    action,
    auto,
    drop,
    every,
    flood,
    forward,
    inline,
    mac,
    mac_text,
    now,
    ports,
    require,
    table,
    time,
    u8,
    u12,
    u24,
    u32,
    u64,
)
from iovisor.parts.allowance import Allowance, take
from iovisor.wire.ethernet import Ethernet, EtherType, is_bridge_group, is_group
from iovisor.wire.vlan import RESERVED, vid_of

K = TypeVar("K")
V = TypeVar("V")

PORTS = 256
VIDS = 4096
TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN)
PRIORITY = 0xf000       # the bits of a tag that are not the VLAN: priority and drop eligibility


class Reason(Reasons):
    RESERVED_ADDRESS = auto()
    SAME_PORT = auto()
    STATION_FIXED = auto()
    STORM = auto()
    SPLIT_HORIZON = auto()
    PORT_CLOSED = auto()
    VLAN_INGRESS_FILTER = auto()
    VLAN_UNTAGGED = auto()
    VLAN_INVALID = auto()
    VLAN_SERVICE_TAG = auto()
    VLAN_EGRESS_FILTER = auto()
    VLAN_DOUBLE_TAG = auto()


class Mode(IntEnum):
    CLOSED = 0
    ACCESS = 1
    TRUNK = 2


# -- configuration ---------------------------------------------------------------------------------------------------

class PortConfig(Config):
    """One port: `access` or `trunk`, what may be learned behind it (0: the switch's quota), and whether it leads into
    an overlay."""

    access: u12 | None = None
    trunk: list[u12] | None = None
    native: u12 | None = None
    quota: u32 = 0
    overlay: bool = False

    def validate(self) -> None:
        if self.access is not None and self.trunk is not None:
            raise ConfigError("trunk", "a port is access or trunk, not both")
        if self.native is not None and self.trunk is None:
            raise ConfigError("native", "only a trunk has a native VLAN")
        for vid in self.vids():
            if not 0 < vid < RESERVED:
                field = "access" if self.trunk is None else "native" if vid == self.native else "trunk"
                raise ConfigError(field, f"{vid} is not a VLAN: 1 to 4094 are")

    def vids(self) -> set[int]:
        return {*(self.trunk or ()), *self.untagged()}

    def untagged(self) -> set[int]:
        """The VLAN of untagged frames, if there is one."""
        return {vid for vid in (self.access, self.native) if vid is not None}

    def line(self) -> Line:
        mode = Mode.ACCESS if self.access is not None else Mode.TRUNK if self.trunk is not None else Mode.CLOSED
        return Line(mode=mode, pvid=next(iter(self.untagged()), 0), quota=self.quota, overlay=self.overlay)


class StaticConfig(Config):
    """A station that neither moves nor ages."""

    mac: mac
    port: u8
    vlan: u12 = 0

    def validate(self) -> None:
        if is_group(self.mac):
            raise ConfigError("mac", f"{mac_text(self.mac)} is a group address, no station has it")


class SwitchConfig(Config):
    """A switch."""

    ageing: time = 300 * SECOND
    stations: u32 = 4096
    quota: u32 = 1024
    storm: u24 = 0
    vlans: bool = False
    service: bool = False
    horizon: bool = False
    ports: dict[u8, PortConfig] = {}
    static: list[StaticConfig] = []

    def validate(self) -> None:
        for port, settings in self.ports.items():
            if settings.vids() and not self.vlans:
                raise ConfigError(f"ports.{port}", "this port has VLANs, so the switch needs `vlans: true`")
            if settings.overlay and not self.horizon:
                raise ConfigError(f"ports.{port}.overlay", "an overlay port needs `horizon: true`")
            if settings.native is not None and self.service:
                raise ConfigError(f"ports.{port}.native", "a provider's trunk has no native VLAN")
        if self.service and not self.vlans:
            raise ConfigError("service", "a provider's VLANs need `vlans: true`")
        if len(self.static) > self.stations:
            raise ConfigError("static", f"{len(self.static)} stations do not fit in {self.stations}")
        known = set()
        for index, station in enumerate(self.static):
            if (station.vlan, station.mac) in known:
                raise ConfigError(f"static[{index}].mac", f"{mac_text(station.mac)} is already there")
            if self.vlans and (station.port, station.vlan) not in self.memberships():
                raise ConfigError(f"static[{index}].vlan", f"port {station.port} is not in VLAN {station.vlan}")
            if station.vlan and not self.vlans:
                raise ConfigError(f"static[{index}].vlan", "a station has a VLAN only with `vlans: true`")
            known.add((station.vlan, station.mac))

    def memberships(self) -> set[tuple[int, int]]:
        """Every (port, VID) there is."""
        return {(port, vid) for port, settings in self.ports.items() for vid in settings.vids()}

    def overlays(self) -> set[int]:
        return {port for port, settings in self.ports.items() if settings.overlay}

    def lines(self) -> dict[int, Line]:
        return {port: settings.line() for port, settings in self.ports.items()}

    def words(self) -> dict[int, int]:
        """`memberships` as the data path has it: one bit each."""
        words: dict[int, int] = {}
        for port, vid in self.memberships():
            words[word_of(port, vid)] = words.get(word_of(port, vid), 0) | 1 << (vid & 63)
        return words

    def fixed(self) -> dict[tuple[int, int], int]:
        return {(station.vlan, station.mac): station.port for station in self.static}


@inline
def word_of(port: int, vid: int) -> int:
    """Which word of `members` has a port's bit for a VLAN."""
    return port << 6 | vid >> 6


def changed(before: dict[K, V], after: dict[K, V]) -> Iterator[tuple[K, V | None]]:
    """What `after` says where it says something else than `before`."""
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            yield key, after.get(key)


# -- tables ----------------------------------------------------------------------------------------------------------

class Address(Record):
    mac: mac
    vid: u12


class Station(Record):
    seen: time
    port: u8
    fixed: u8 = 0


class Load(Record):
    learned: u32


class Line(Record):
    mode: u8
    pvid: u12
    quota: u32
    overlay: u8 = 0


# -- the function ----------------------------------------------------------------------------------------------------

class Switch(Function):
    config: SwitchConfig
    ports: Ports = ports(PORTS)

    stations: Hash[Address, Station] = table("stations")
    loads: Array[Load] = table(PORTS)
    lines: Array[Line] = table(PORTS)
    members: Array[u64] = table(PORTS * VIDS // 64)
    storms: Array[Allowance] = table(PORTS)
    sets: Array[PortSet] = table(2)
    received: Counter = table(PORTS)
    sent: Counter = table(PORTS)
    unlearned: Counter = table(PORTS)

    def ingress(self, pkt: Packet) -> Verdict:
        return self.relay(pkt, True)

    def relay(self, pkt: Packet, forwarding: bool) -> Verdict:
        """What becomes of a frame; one that is not forwarded teaches all the same."""
        self.received.add(pkt.port, bytes=len(pkt))
        if self.config.service:
            self.admit(pkt)
        eth = pkt.parse(Ethernet)
        if is_bridge_group(eth.dst):
            return drop(Reason.RESERVED_ADDRESS)
        vid = self.classify(pkt, eth.type in TAGS) if self.config.vlans else 0
        moment = now()
        if not is_group(eth.src):
            self.learn(Address(mac=eth.src, vid=vid), pkt.port, moment)
        require(forwarding)
        if is_group(eth.dst):
            return self.spread(pkt, eth, vid, moment)
        station = self.stations.get(Address(mac=eth.dst, vid=vid))
        if station is None or (moment - station.seen > self.config.ageing and station.fixed == 0):
            return self.flood(pkt.port, moment)
        if station.port == pkt.port:
            return drop(Reason.SAME_PORT)
        if self.config.horizon:
            require(self.lines[pkt.port].overlay + self.lines[station.port].overlay < 2, Reason.SPLIT_HORIZON)
        return forward(station.port)

    def egress(self, pkt: Packet) -> Verdict:
        return self.emit(pkt)

    def emit(self, pkt: Packet) -> Verdict:
        """What becomes of a frame about to leave."""
        if self.config.vlans:
            vid = vid_of(pkt.tci)
            line = self.lines[pkt.port]
            if not self.carries(pkt.port, vid):
                return drop(Reason.VLAN_EGRESS_FILTER)
            if vid == line.pvid:
                inner = pkt.parse(Ethernet).type
                if inner not in TAGS or (self.config.service and inner == EtherType.VLAN):
                    pkt.untag()
                elif line.mode == Mode.ACCESS:
                    return drop(Reason.VLAN_DOUBLE_TAG)
        self.sent.add(pkt.port, bytes=len(pkt))
        return forward(pkt.port)

    def classify(self, pkt: Packet, nested: bool) -> int:
        """The VLAN of a frame; from here on its outer tag says so."""
        line = self.lines[pkt.port]
        vid = vid_of(pkt.tci)
        require(line.mode != Mode.CLOSED, Reason.PORT_CLOSED)
        if self.config.service:
            require(pkt.tpid == EtherType.SERVICE_VLAN, Reason.VLAN_UNTAGGED)
            require(vid != RESERVED and vid != 0, Reason.VLAN_INVALID)
            require(self.carries(pkt.port, vid), Reason.VLAN_INGRESS_FILTER)
            return vid
        require(pkt.tpid != EtherType.SERVICE_VLAN, Reason.VLAN_SERVICE_TAG)
        require(vid != RESERVED, Reason.VLAN_INVALID)
        if line.mode == Mode.ACCESS:
            require(vid == 0 and not nested, Reason.VLAN_INGRESS_FILTER)
        if vid != 0:
            require(self.carries(pkt.port, vid), Reason.VLAN_INGRESS_FILTER)
            return vid
        require(line.pvid != 0, Reason.VLAN_UNTAGGED)
        pkt.retag(pkt.tci & PRIORITY | line.pvid)
        return line.pvid

    def admit(self, pkt: Packet) -> None:
        """Give a customer's frame its service tag."""
        line = self.lines[pkt.port]
        if line.mode == Mode.ACCESS:
            require(pkt.tpid != EtherType.SERVICE_VLAN, Reason.VLAN_SERVICE_TAG)
            pkt.tag(pkt.tci & PRIORITY | line.pvid, EtherType.SERVICE_VLAN)

    def carries(self, port: int, vid: int) -> bool:
        return self.members[word_of(port, vid)] >> (vid & 63) & 1 == 1

    def learn(self, source: Address, port: int, moment: int) -> None:
        known = self.stations.get(source)
        if known is None:
            if self.has_room(port) and self.stations.insert(source, Station(port=port, seen=moment)):
                self.loads[port].learned += 1
            else:
                self.unlearned.add(port)
        elif known.port != port:
            require(known.fixed == 0, Reason.STATION_FIXED)
            left = self.loads[known.port]
            if left.learned != 0:
                left.learned -= 1
            if self.has_room(port):
                self.loads[port].learned += 1
                known.port = port
                known.seen = moment
            else:       # unknown is flooded; the old port would be a black hole
                del self.stations[source]
                self.unlearned.add(port)
        elif known.seen != moment:
            known.seen = moment

    def has_room(self, port: int) -> bool:
        own = self.lines[port].quota
        return self.loads[port].learned < (own if own != 0 else self.config.quota)

    def spread(self, pkt: Packet, eth: Ethernet, vid: int, moment: int) -> Verdict:
        """A frame to a group."""
        return self.flood(pkt.port, moment)

    def flood(self, port: int, moment: int) -> Verdict:
        if self.config.storm != 0:
            require(take(self.storms[port], self.config.storm, moment), Reason.STORM)
        return flood(self.lines[port].overlay) if self.config.horizon else FLOOD

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: SwitchConfig | None, new: SwitchConfig) -> None:
        before = old or SwitchConfig()
        if old is None or before.overlays() != new.overlays():
            self.sets[1] = PortSet.of(set(range(PORTS)) - new.overlays())
        for port, line in changed(before.lines(), new.lines()):
            self.lines[port] = line or Line(mode=Mode.CLOSED, pvid=0, quota=0)
        for word, bits in changed(before.words(), new.words()):
            self.members[word] = bits or 0
        for (vid, address), place in changed(before.fixed(), new.fixed()):
            self.fix(Address(mac=address, vid=vid), place)
        if before.memberships() != new.memberships() or before.vlans != new.vlans:
            here = new.memberships()
            self.forget(lambda key, station: (station.port, key.vid) not in here if new.vlans else key.vid != 0)
        if old is not None:
            self.recount()

    def fix(self, key: Address, port: int | None) -> None:
        """Make a station static, or, without a port, unknown."""
        if port is None:
            del self.stations[key]
            return
        station = Station(port=port, seen=now(), fixed=1)
        if not self.stations.put(key, station):     # full: the longest silent makes room
            learned = [(entry.seen, other) for other, entry in self.stations.items() if entry.fixed == 0]
            del self.stations[min(learned, key=lambda pair: pair[0])[1]]
            self.stations[key] = station

    def forget(self, condition: Any) -> int:
        """Remove the learned stations for which `condition(address, station)` holds."""
        gone = [key for key, station in self.stations.items() if station.fixed == 0 and condition(key, station)]
        for key in gone:
            del self.stations[key]
        return len(gone)

    def recount(self) -> None:
        learned = collections.Counter(station.port for _, station in self.stations.items() if station.fixed == 0)
        for port, load in self.loads.items():
            if load.learned != learned[port]:
                self.loads[port] = Load(learned=learned[port])

    @every(10)
    def age(self) -> None:
        """Forget stations that were silent for too long."""
        moment = now()
        self.forget(lambda _, station: moment - station.seen > self.config.ageing)
        self.recount()

    def parted(self, port: int) -> None:
        self.flush(port)

    @action
    def flush(self, port: int | None = None) -> int:
        """Forget what was learned, behind one port or behind all; answers how many."""
        gone = self.forget(lambda _, station: port is None or station.port == port)
        self.recount()
        return gone

    @action
    def show(self) -> list[dict[str, Any]]:
        """The stations, by VLAN and address."""
        moment = now()
        found = sorted(self.stations.items(), key=lambda pair: (pair[0].vid, pair[0].mac))
        return [{"mac": mac_text(key.mac), "vlan": key.vid, "port": station.port, "static": bool(station.fixed),
                 "age": moment - station.seen} for key, station in found]
