"""A switch that keeps the network free of loops: the rapid spanning tree (IEEE 802.1D-2004), on top of `switch`.

Everything `switch` does, this does; the ports that lead to other bridges are named in `tree`, and of them it blocks
those that would close a loop.  When a link is lost another takes its place, within a second if all bridges are rapid.
Bridges that speak the old spanning tree (802.1D-1998, Linux among them) are recognised port by port and answered in
their own way, at their pace.

## Ports

```text
              ┌──────────┐
   ports[0] ──┤          ├── ports[2]
              │  bridge  │
   ports[1] ──┤          ├── ports[3] ... ports[255]
              └──────────┘
```

## Configuration

That of `switch` (`ageing`, `stations`, `quota`, `storm`, `vlans`, `service`, `horizon`, `ports`, `static`),
and:

| field | type | default | meaning |
|---|---|---|---|
| `address` | MAC | 0 | the bridge's own, which names it; must be given if there is a tree |
| `tree` | by number | | ports that may lead to other bridges: `cost` (20000), `priority` (128), `edge` (false) |
| `priority` | u16 | 32768 | smaller: rather the root; a multiple of 4096 |
| `hello` | u8 | 2 | seconds between messages: 1 or 2 |
| `max_age` | u8 | 20 | seconds a message is believed, counted in hops: 6 to 40 |
| `delay` | u8 | 15 | seconds in each of the two states before forwarding, with old bridges: 4 to 30 |

```python
from iovisor.functions.bridge import Bridge

ring = Bridge(address="02:00:00:00:00:fe", tree={0: {}, 1: {"cost": 2000}})
```

As the standard asks, `2 * (delay - 1) >= max_age >= 2 * (hello + 1)`.  An `edge` port forwards at once, until another
bridge is heard on it.  Ports that `tree` does not name always forward and are sent no messages; BPDUs that come in
there are dropped.

## Tables

Those of `switch` (`stations`, `loads`, `lines`, `members`, `storms`, `sets`), and:

| table | key | value |
|---|---|---|
| `states` | port | 0 forwarding, 1 discarding, 2 learning; and whether it is in the tree |

The states outlive the process that keeps the tree: packets go on the same way until the next one has heard its
neighbours.

## Counters

`received`, `sent` and `unlearned`, by port, as in `switch`.  BPDUs are among `received` and `sent`.

## Drop reasons

Those of `switch`: `RESERVED_ADDRESS`, `SAME_PORT`, `STATION_FIXED`, `STORM`, `SPLIT_HORIZON`, `PORT_CLOSED`,
`VLAN_INGRESS_FILTER`, `VLAN_UNTAGGED`, `VLAN_INVALID`, `VLAN_SERVICE_TAG`, `VLAN_EGRESS_FILTER`, `VLAN_DOUBLE_TAG`; and

| reason | the frame |
|---|---|
| `BLOCKED` | came through a port that does not forward |
| `BLOCKED_COPY` | would leave through one |

## Actions

`flush` and `show` of `switch`; `topology` tells who the root is, and every port's role and state.

## Limits

One tree for all VLANs (no MSTP), so a VLAN must be on every link of the tree.  A link that is down is noticed when its
neighbour has been silent for three hellos.  The tree needs its process: without it, a blocked port stays blocked, and a
root that is lost is not replaced.
"""
# Why it is written so.
#
# A kind of its own, because a function that punts costs a ring, and most switches of a network have no loop to fear.
# The tree is Python (`rapid`): it hears a packet a second.  The data path reads one entry of an array a packet.
# BPDUs go past `relay` in both directions: they have no VLAN, and blocked ports must hear and speak.
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import (
    Array,
    Config,
    ConfigError,
    Packet,
    Reasons,
    Record,
    Verdict,
    action,
    drop,
    every,
    forward,
    handles,
    mac,
    punt,
    table,
    u8,
    u16,
    u32,
)
from iovisor.wire.bpdu import GROUP, BpduType, Configuration, Frame, Notification
from iovisor.wire.ethernet import Ethernet

from ..switch import PORTS, Switch, SwitchConfig, changed
from .rapid import Message, Port, Times, Tree

SMALLEST = 60           # a frame without its check sequence


class State(IntEnum):
    FORWARDING = 0
    DISCARDING = 1
    LEARNING = 2


class TreeReason(Reasons):
    BLOCKED = 64
    BLOCKED_COPY = 65


# -- configuration ---------------------------------------------------------------------------------------------------

class TreePort(Config):
    """A port that may lead to another bridge."""

    cost: u32 = 20_000
    priority: u8 = 128
    edge: bool = False

    def validate(self) -> None:
        if not 1 <= self.cost <= 200_000_000:
            raise ConfigError("cost", f"{self.cost} is not between 1 and 200000000")
        if self.priority % 16:
            raise ConfigError("priority", f"{self.priority} is not a multiple of 16")


class BridgeConfig(SwitchConfig):
    """A switch in a spanning tree."""

    address: mac = 0
    tree: dict[u8, TreePort] = {}
    priority: u16 = 0x8000
    hello: u8 = 2
    max_age: u8 = 20
    delay: u8 = 15

    def validate(self) -> None:
        super().validate()
        if self.tree and not self.address:
            raise ConfigError("address", "a bridge in a tree needs an address of its own, such as 02:00:00:00:00:fe")
        if self.priority % 4096:
            raise ConfigError("priority", f"{self.priority} is not a multiple of 4096")
        for name, low, high in (("hello", 1, 2), ("max_age", 6, 40), ("delay", 4, 30)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(name, f"{getattr(self, name)} is not between {low} and {high} seconds")
        if not 2 * (self.delay - 1) >= self.max_age >= 2 * (self.hello + 1):
            raise ConfigError("max_age", f"{self.max_age} is not between 2 * (hello + 1) = {2 * (self.hello + 1)} "
                                         f"and 2 * (delay - 1) = {2 * (self.delay - 1)}")

    def bridge(self) -> tuple[Any, ...]:
        """What the tree as a whole is made from."""
        return self.address, self.priority, self.hello, self.max_age, self.delay


# -- tables ----------------------------------------------------------------------------------------------------------

class Line(Record):
    """A port's place in the tree."""

    state: u8
    listed: u8


class Told(Record):
    """A BPDU has come in."""

    port: u8


# -- the function ----------------------------------------------------------------------------------------------------

class Bridge(Switch):
    config: BridgeConfig
    states: Array[Line] = table(PORTS)

    _tree: Tree | None = None
    _said: list[tuple[int, Message]]

    def ingress(self, pkt: Packet) -> Verdict:
        line = self.states[pkt.port]
        if line.listed != 0:
            eth = pkt.peek(Ethernet)
            if eth is not None and eth.dst == GROUP:
                self.received.add(pkt.port, bytes=len(pkt))
                return punt(Told(port=pkt.port))
            if line.state == State.DISCARDING:
                self.received.add(pkt.port, bytes=len(pkt))
                return drop(TreeReason.BLOCKED)
        return self.relay(pkt, line.state == State.FORWARDING)

    def egress(self, pkt: Packet) -> Verdict:
        eth = pkt.peek(Ethernet)
        if eth is not None and eth.dst == GROUP:        # one of our own: `relay` drops all others
            self.sent.add(pkt.port, bytes=len(pkt))
            return forward(pkt.port)
        if self.states[pkt.port].state != State.FORWARDING:
            return drop(TreeReason.BLOCKED_COPY)
        return self.emit(pkt)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: BridgeConfig | None, new: BridgeConfig) -> None:  # type: ignore[override]
        super().configure(old, new)
        before = old.tree if old else {}
        for port, settings in changed(before, new.tree):
            if settings is None:
                self.states[port] = Line(state=State.FORWARDING, listed=0)
            elif port not in before:
                self.states[port] = Line(state=State.DISCARDING, listed=1)
        if old is None or (before, old.bridge()) != (new.tree, new.bridge()):
            self._tree = None                           # the next tick begins anew, from the states that stand

    def tree(self) -> Tree:
        """The tree as this process knows it."""
        if self._tree is None:
            config = self.config
            self._said = []
            self._tree = Tree(config.priority << 48 | config.address,
                              Times(0, config.max_age, config.hello, config.delay), self._say, self.flush)
            for number, settings in config.tree.items():
                self._tree.add(number, cost=settings.cost, priority=settings.priority, edge=settings.edge,
                               forwarding=self.states[number].state == State.FORWARDING)
        return self._tree

    def _say(self, port: int, message: Message) -> None:
        self._said.append((port, message))

    def _settle(self) -> None:
        """Make the states those of the tree, blocking first, and only then tell the neighbours."""
        ports = self.tree().ports.values()
        for port in sorted(ports, key=lambda port: port.forward):
            line = Line(state=state_of(port), listed=1)
            if self.states[port.number] != line:
                self.states[port.number] = line
        while self._said:
            number, message = self._said.pop(0)
            self.send(frame(self.config.address, message), number)

    @handles(Told)
    def heard(self, event: Told, packet: Packet) -> None:
        """A BPDU; what is none, or our own come back to the port it left, says nothing."""
        message = read(bytes(packet))
        if event.port in self.config.tree and message is not None:
            self.tree().receive(event.port, message)
            self._settle()

    @every(1)
    def tick(self) -> None:
        """The tree's second."""
        if self.config.tree:
            self.tree().tick()
            self._settle()

    @action
    def topology(self) -> dict[str, Any]:
        """The root, what it costs to get there, and the ports' roles and states."""
        tree = self.tree()
        return {"bridge": f"{tree.bridge:016x}", "root": f"{tree.root.root:016x}", "cost": tree.root.cost,
                "ports": {number: {"role": port.role.name.lower(), "state": state_of(port).name.lower(),
                                   "rapid": port.send_rapid, "edge": port.oper_edge}
                          for number, port in tree.ports.items()}}


def state_of(port: Port) -> State:
    return State.FORWARDING if port.forward else State.LEARNING if port.learn else State.DISCARDING


def frame(address: int, message: Message) -> bytes:
    """A message on the wire (IEEE 802.1D 9.2, 9.3)."""
    match message.kind:
        case BpduType.NOTIFICATION:
            body = bytes(Notification())
        case BpduType.RAPID:
            body = bytes(message.encode()) + bytes(1)
        case _:
            body = bytes(message.encode())
    return (bytes(Frame(src=address, length=len(body) + 3)) + body).ljust(SMALLEST, b"\0")


def read(data: bytes) -> Message | None:
    """The opposite; None for what is no BPDU (9.3.4), or of an age that its root would not believe."""
    if len(data) < Frame.size + Notification.size:
        return None
    head, body = Frame.decode(data[:Frame.size]), data[Frame.size:]
    if (head.destination_service, head.source_service, head.control) != (0x42, 0x42, 3):
        return None
    kind = Notification.decode(body[:Notification.size])
    if kind.protocol != 0:
        return None
    if kind.type == BpduType.NOTIFICATION:
        return Message(BpduType.NOTIFICATION)
    if kind.type not in (BpduType.CONFIGURATION, BpduType.RAPID) or len(body) < Configuration.size:
        return None
    if kind.type == BpduType.RAPID and kind.version < 2:
        return None
    said = Configuration.decode(body[:Configuration.size])
    return Message.decode(said) if said.message_age < said.max_age else None
