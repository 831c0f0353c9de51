"""The rapid spanning tree of one bridge (IEEE 802.1D-2004 clause 17), as state machines without any input or output.

`Tree` is told what ports hear (`receive`) and that a second has passed (`tick`); it answers by changing its ports'
states and by calling `transmit` and `flush`.  It knows no clock, no packet and no function, so that a test runs a
network of a hundred trees in a loop.

The names are the standard's, with underscores, so that the code can be read beside its figures 17-12 to 17-20; what a
figure draws as a state with an unconditional way out is an `if` here.  All links are point to point, as a network's
links are.  `forwarding` and `learning` follow `forward` and `learn` at once: a slot of a table is written.

Two departures, both of later editions (802.1Q): a designated port that hears a worse message from a port that learns
goes back to discarding (a link that works in one direction only), and what was recorded as agreed is forgotten with it.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple

from iovisor.wire.bpdu import UNITS, BpduType, Configuration, PortRole

MIGRATE_TIME, HOLD_COUNT = 3, 6


class Role(Enum):
    DISABLED = auto()
    ROOT = auto()
    DESIGNATED = auto()
    ALTERNATE = auto()
    BACKUP = auto()


class Info(Enum):
    """Where the information a port holds comes from."""

    DISABLED = auto()
    AGED = auto()
    MINE = auto()
    RECEIVED = auto()


class Change(Enum):
    """Where the machine of topology changes stands (17.31)."""

    INACTIVE = auto()
    LEARNING = auto()
    ACTIVE = auto()


class Heard(Enum):
    """What a message means to the port that got it (17.21.8)."""

    SUPERIOR = auto()
    REPEATED = auto()
    INFERIOR = auto()
    ANSWER = auto()
    OTHER = auto()


class Vector(NamedTuple):
    """A priority vector (17.5); smaller is better."""

    root: int
    cost: int
    bridge: int
    port: int


class Times(NamedTuple):
    """Seconds (17.13)."""

    age: int
    max_age: int
    hello: int
    delay: int


NOWHERE, NEVER = Vector(0, 0, 0, 0), Times(0, 0, 0, 0)


@dataclass
class Message:
    """A BPDU as the machines read it."""

    kind: BpduType
    vector: Vector = NOWHERE
    times: Times = NEVER
    role: PortRole = PortRole.DESIGNATED
    proposal: bool = False
    agreement: bool = False
    learning: bool = False
    forwarding: bool = False
    change: bool = False
    acknowledged: bool = False

    @classmethod
    def decode(cls, said: Configuration) -> Message:
        """From the wire; what an old bridge says has two flags only (9.3.1)."""
        kind = BpduType(said.type)
        vector = Vector(said.root, said.cost, said.bridge, said.port)
        times = Times(*(-(-value // UNITS) for value in
                        (said.message_age, said.max_age, said.hello_time, said.forward_delay)))
        found = cls(kind, vector, times, change=bool(said.topology_change), acknowledged=bool(said.acknowledgment))
        if kind is BpduType.RAPID:
            found = replace(found, role=PortRole(said.role), proposal=bool(said.proposal), acknowledged=False,
                            agreement=bool(said.agreement), learning=bool(said.learning),
                            forwarding=bool(said.forwarding))
        return found

    def encode(self) -> Configuration:
        age, max_age, hello, delay = (value * UNITS for value in self.times)
        rapid = self.kind is BpduType.RAPID
        return Configuration(
            version=2 if rapid else 0, type=self.kind, acknowledgment=self.acknowledged, agreement=self.agreement,
            forwarding=self.forwarding, learning=self.learning, role=self.role if rapid else 0,
            proposal=self.proposal, topology_change=self.change, root=self.vector.root, cost=self.vector.cost,
            bridge=self.vector.bridge, port=self.vector.port, message_age=age, max_age=max_age, hello_time=hello,
            forward_delay=delay)


@dataclass
class Port:
    """One port's variables (17.19), timers in seconds."""

    number: int
    identifier: int
    path_cost: int
    times: Times
    admin_edge: bool = False
    learn: bool = False
    forward: bool = False

    role: Role = Role.DISABLED
    selected_role: Role = Role.DISABLED
    info_is: Info = Info.AGED
    changing: Change = Change.INACTIVE
    priority: Vector = NOWHERE
    designated_priority: Vector = NOWHERE
    designated_times: Times = NEVER
    message: Message | None = None

    agree: bool = False
    agreed: bool = False
    disputed: bool = False
    new_info: bool = True
    oper_edge: bool = False
    proposed: bool = False
    proposing: bool = False
    re_root: bool = False
    reselect: bool = True
    selected: bool = False
    send_rapid: bool = True
    sync: bool = False
    synced: bool = False
    update_info: bool = False
    tc_acknowledge: bool = False
    tc_propagate: bool = False
    received_change: bool = False
    received_notification: bool = False
    received_acknowledgment: bool = False

    edge_delay_while: int = MIGRATE_TIME
    forward_delay_while: int = 0
    hello_when: int = 0
    migration_while: int = MIGRATE_TIME
    received_while: int = 0
    recent_backup_while: int = 0
    recent_root_while: int = 0
    change_while: int = 0
    sent: int = 0

    TIMERS = ("edge_delay_while", "forward_delay_while", "hello_when", "migration_while", "received_while",
              "recent_backup_while", "recent_root_while", "change_while", "sent")

    @property
    def delay(self) -> int:
        """`forwardDelay` (17.20.5): agreement is quick, waiting is for old bridges."""
        return self.designated_times.hello if self.send_rapid else self.designated_times.delay


@dataclass
class Tree:
    """The tree as one bridge sees it."""

    bridge: int
    times: Times
    transmit: Callable[[int, Message], None]
    flush: Callable[[int], object]
    ports: dict[int, Port] = field(default_factory=dict)
    root: Vector = NOWHERE
    root_port: int = 0                                      # its identifier; 0 for a bridge that is the root
    root_times: Times = NEVER

    def __post_init__(self) -> None:
        self.root, self.root_times = Vector(self.bridge, 0, self.bridge, 0), self.times

    # -- what happens ------------------------------------------------------------------------------------------------

    def add(self, number: int, *, cost: int = 20_000, priority: int = 128, edge: bool = False,
            forwarding: bool = False) -> None:
        """A port that is up.  `forwarding`: it does so already, and goes on until something is heard against it."""
        port = Port(number, priority << 8 | number + 1, cost, self.times, admin_edge=edge, oper_edge=edge,
                    learn=forwarding, forward=forwarding)
        self.ports[number] = port
        self._settle()

    def remove(self, number: int) -> None:
        """A port that is down."""
        self.ports.pop(number)
        for port in self.ports.values():
            port.reselect, port.selected = True, False
        self._settle()

    def receive(self, number: int, message: Message) -> None:
        """A port has heard something (17.23, 17.24)."""
        port = self.ports[number]
        port.oper_edge = False
        port.edge_delay_while = MIGRATE_TIME
        if port.migration_while == 0:                       # PROTOCOL MIGRATION: a bridge of the other kind
            rapid = message.kind is BpduType.RAPID
            if rapid != port.send_rapid:
                port.send_rapid, port.migration_while = rapid, MIGRATE_TIME
        port.message = message
        self._settle()

    def tick(self) -> None:
        """A second has passed (17.22)."""
        for port in self.ports.values():
            for timer in Port.TIMERS:
                setattr(port, timer, max(getattr(port, timer) - 1, 0))
        self._settle()

    def _settle(self) -> None:
        """Let the machines run until none moves."""
        moved = True
        while moved:
            moved = False
            for port in list(self.ports.values()):
                moved |= self._information(port)
            if any(port.reselect for port in self.ports.values()):
                self._select()
                moved = True
            for port in self.ports.values():
                moved |= self._edge(port)
                if port.selected and not port.update_info:
                    moved |= self._role(port)
                moved |= self._topology(port)
        for port in self.ports.values():
            self._transmit(port)

    # -- port information (17.27) ------------------------------------------------------------------------------------

    def _information(self, port: Port) -> bool:
        if port.selected and port.update_info:
            port.proposing = port.proposed = False
            port.agreed = port.agreed and port.info_is is Info.MINE and port.priority >= port.designated_priority
            port.synced = port.synced and port.agreed
            port.priority, port.times = port.designated_priority, port.designated_times
            port.update_info, port.info_is, port.new_info = False, Info.MINE, True
            return True
        if port.message is not None and not port.update_info:
            message, port.message = port.message, None
            self._hear(port, message)
            return True
        if port.info_is is Info.RECEIVED and port.received_while == 0 and not port.update_info:
            port.info_is, port.reselect, port.selected = Info.AGED, True, False
            return True
        return False

    def _hear(self, port: Port, message: Message) -> None:
        heard = self._understood(port, message)
        if message.kind is BpduType.NOTIFICATION:
            port.received_notification = True
        elif heard in (Heard.SUPERIOR, Heard.REPEATED, Heard.ANSWER):
            port.received_change |= message.change
            port.received_acknowledgment |= message.acknowledged
        match heard:
            case Heard.SUPERIOR:
                port.agreed = port.proposing = False
                port.proposed |= message.proposal
                port.agree = port.agree and message.vector <= port.priority
                port.priority, port.times = message.vector, message.times
                port.info_is, port.reselect, port.selected = Info.RECEIVED, True, False
            case Heard.REPEATED:
                port.proposed |= message.proposal
            case Heard.INFERIOR:
                if message.kind is BpduType.RAPID and message.learning:
                    port.disputed, port.agreed = True, False
            case Heard.ANSWER:
                port.agreed = message.kind is BpduType.RAPID and message.agreement
                port.proposing = port.proposing and not port.agreed
        if heard in (Heard.SUPERIOR, Heard.REPEATED):
            port.received_while = 3 * port.times.hello if port.times.age + 1 <= port.times.max_age else 0

    @staticmethod
    def _understood(port: Port, message: Message) -> Heard:
        if message.kind is BpduType.NOTIFICATION:
            return Heard.OTHER
        if message.role is PortRole.DESIGNATED:
            same_sender = message.vector[2:] == port.priority[2:]
            if message.vector == port.priority and message.times == port.times and port.info_is is Info.RECEIVED:
                return Heard.REPEATED
            if message.vector < port.priority or (same_sender and port.info_is is Info.RECEIVED):
                return Heard.SUPERIOR
            return Heard.INFERIOR if message.vector > port.priority else Heard.OTHER
        if message.role in (PortRole.ROOT, PortRole.ALTERNATE) and message.vector >= port.priority:
            return Heard.ANSWER
        return Heard.OTHER

    # -- port role selection (17.28) ---------------------------------------------------------------------------------

    def _select(self) -> None:
        """`updtRolesTree` (17.21.25)."""
        for port in self.ports.values():
            port.reselect = False
        paths = [(port.priority._replace(cost=port.priority.cost + port.path_cost), port.identifier, port)
                 for port in self.ports.values()
                 if port.info_is is Info.RECEIVED and port.priority.bridge != self.bridge]
        best, self.root_port, chosen = min(paths, key=lambda path: path[:2], default=(NOWHERE, 0, None))
        if chosen is not None and best < Vector(self.bridge, 0, self.bridge, 0):
            self.root, self.root_times = best, chosen.times._replace(age=chosen.times.age + 1)
        else:
            self.root, self.root_port, self.root_times, chosen = (
                Vector(self.bridge, 0, self.bridge, 0), 0, self.times, None)
        for port in self.ports.values():
            port.designated_priority = Vector(self.root.root, self.root.cost, self.bridge, port.identifier)
            port.designated_times = self.root_times._replace(hello=self.times.hello)
            mine = (port.priority, port.times) == (port.designated_priority, port.designated_times)
            if port.info_is is not Info.RECEIVED:
                port.selected_role, port.update_info = Role.DESIGNATED, port.info_is is Info.AGED or not mine
            elif port is chosen:
                port.selected_role, port.update_info = Role.ROOT, False
            elif port.designated_priority < port.priority:
                port.selected_role, port.update_info = Role.DESIGNATED, True
            else:
                own = port.priority.bridge == self.bridge
                port.selected_role, port.update_info = Role.BACKUP if own else Role.ALTERNATE, False
            port.selected = True

    # -- bridge detection (17.25) ------------------------------------------------------------------------------------

    def _edge(self, port: Port) -> bool:
        if not port.oper_edge and port.edge_delay_while == 0 and port.send_rapid and port.proposing:
            port.oper_edge = True
            return True
        return False

    # -- port role transitions (17.29) -------------------------------------------------------------------------------

    def _role(self, port: Port) -> bool:
        if port.role is not port.selected_role:
            port.role = port.selected_role
            if port.role is Role.ROOT:
                port.recent_root_while = port.times.delay
            elif port.role in (Role.ALTERNATE, Role.BACKUP):
                port.learn = port.forward = False
                self._blocked(port)
            return True
        if port.role is Role.ROOT:
            return self._root(port)
        return self._designated(port) if port.role is Role.DESIGNATED else self._alternate(port)

    def _root(self, port: Port) -> bool:
        quick = port.send_rapid and port.recent_backup_while == 0 and all(
            other.recent_root_while == 0 for other in self.ports.values() if other is not port)
        if self._answer(port):
            return True
        if port.recent_root_while != port.times.delay:
            port.recent_root_while = port.times.delay       # as long as it is the root port; no step of its own
        if not port.forward and not port.re_root:
            for other in self.ports.values():
                other.re_root = True
            return True
        if port.re_root and port.forward:
            port.re_root = False
            return True
        if (port.forward_delay_while == 0 or quick) and not port.forward:
            if port.learn:
                port.forward, port.forward_delay_while = True, 0
            else:
                port.learn, port.forward_delay_while = True, port.delay
            return True
        return False

    def _designated(self, port: Port) -> bool:
        if not port.forward and not port.agreed and not port.proposing and not port.oper_edge:
            port.proposing, port.new_info = True, True
            port.edge_delay_while = MIGRATE_TIME
            return True
        in_step = not (port.learn or port.forward) or port.agreed or port.oper_edge
        if (not port.synced and in_step) or (port.sync and port.synced):
            port.recent_root_while, port.synced, port.sync = 0, True, False
            return True
        if port.recent_root_while == 0 and port.re_root:
            port.re_root = False
            return True
        wanted = (port.sync and not port.synced) or (port.re_root and port.recent_root_while != 0) or port.disputed
        if wanted and not port.oper_edge and (port.learn or port.forward):
            port.learn = port.forward = port.disputed = False
            port.forward_delay_while = port.delay
            return True
        free = port.forward_delay_while == 0 or port.agreed or port.oper_edge
        if free and (port.recent_root_while == 0 or not port.re_root) and not port.sync and not port.forward:
            if port.learn:
                port.forward, port.forward_delay_while, port.agreed = True, 0, port.send_rapid
            else:
                port.learn, port.forward_delay_while = True, port.delay
            return True
        return False

    def _alternate(self, port: Port) -> bool:
        if self._answer(port):
            return True
        if port.role is Role.BACKUP and port.recent_backup_while != 2 * port.times.hello:
            port.recent_backup_while = 2 * port.times.hello     # as long as it is one; no step of its own
        if port.forward_delay_while != port.delay or port.sync or port.re_root or not port.synced:
            moved = port.sync or port.re_root or not port.synced
            self._blocked(port)
            return moved
        return False

    @staticmethod
    def _blocked(port: Port) -> None:
        port.forward_delay_while = port.delay
        port.synced, port.recent_root_while, port.sync, port.re_root = True, 0, False, False

    def _answer(self, port: Port) -> bool:
        """Root and alternate ports agree to a proposal once the others are in step."""
        if port.proposed and not port.agree:
            for other in self.ports.values():
                other.sync = True
            port.proposed = False
            return True
        in_step = all(other.selected and other.role is other.selected_role and not other.update_info
                      and (other.synced or other.role is Role.ROOT) for other in self.ports.values())
        if (in_step and not port.agree) or (port.proposed and port.agree):
            port.proposed = port.sync = False
            port.agree = port.new_info = True
            return True
        return False

    # -- topology changes (17.31) ------------------------------------------------------------------------------------

    def _topology(self, port: Port) -> bool:
        part = port.role in (Role.ROOT, Role.DESIGNATED)
        match port.changing:
            case Change.INACTIVE:
                if port.learn:
                    port.changing = Change.LEARNING
                    return True
            case Change.LEARNING:
                port.received_change = port.received_notification = port.received_acknowledgment = False
                port.tc_propagate = False
                if part and port.forward and not port.oper_edge:
                    self._time_change(port)
                    self._propagate(port)
                    port.new_info, port.changing = True, Change.ACTIVE
                    return True
                if not part and not port.learn:
                    self.flush(port.number)
                    port.changing, port.change_while, port.tc_acknowledge = Change.INACTIVE, 0, False
                    return True
            case Change.ACTIVE:
                return self._active(port, part)
        return False

    def _active(self, port: Port, part: bool) -> bool:
        if not part or port.oper_edge:
            port.changing = Change.LEARNING
            return True
        if port.received_notification or port.received_change:
            if port.received_notification:
                self._time_change(port)
            port.tc_acknowledge |= port.received_notification and port.role is Role.DESIGNATED
            port.received_notification = port.received_change = False
            self._propagate(port)
            return True
        if port.tc_propagate:
            self._time_change(port)
            port.tc_propagate = False
            self.flush(port.number)
            return True
        if port.received_acknowledgment:
            port.change_while, port.received_acknowledgment = 0, False
            return True
        return False

    @staticmethod
    def _time_change(port: Port) -> None:
        if port.change_while == 0:
            port.change_while = (port.designated_times.hello + 1 if port.send_rapid
                                 else port.designated_times.max_age + port.designated_times.delay)
            port.new_info = True

    def _propagate(self, port: Port) -> None:
        for other in self.ports.values():
            other.tc_propagate |= other is not port

    # -- port transmission (17.26) -----------------------------------------------------------------------------------

    def _transmit(self, port: Port) -> None:
        if not port.selected or port.update_info:
            return
        if port.hello_when == 0:
            port.hello_when = port.designated_times.hello
            port.new_info |= port.role is Role.DESIGNATED or (port.role is Role.ROOT and port.change_while != 0)
        if not port.new_info or port.sent >= HOLD_COUNT:
            return
        message = Message(
            BpduType.RAPID, port.designated_priority, port.designated_times, _SAID[port.role], port.proposing,
            port.agree and port.role is not Role.DESIGNATED, port.learn, port.forward, port.change_while != 0)
        if not port.send_rapid:
            kind = {Role.DESIGNATED: BpduType.CONFIGURATION, Role.ROOT: BpduType.NOTIFICATION}.get(port.role)
            if kind is None or (kind is BpduType.NOTIFICATION and port.change_while == 0):
                port.new_info = False
                return
            message = Message(kind, message.vector, message.times, change=message.change,
                              acknowledged=port.tc_acknowledge)
        port.new_info, port.tc_acknowledge = False, False
        port.sent += 1
        self.transmit(port.number, message)


_SAID = {Role.DISABLED: PortRole.UNKNOWN, Role.ROOT: PortRole.ROOT, Role.DESIGNATED: PortRole.DESIGNATED,
         Role.ALTERNATE: PortRole.ALTERNATE, Role.BACKUP: PortRole.ALTERNATE}
