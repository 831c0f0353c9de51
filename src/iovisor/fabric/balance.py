"""Conservation: what comes into a network or is made in it leaves it or ends with a name, packet for packet.

    received from devices + injected + copies made
        = sent to devices + drops by name + punted + handed to the host + floods (what was copied, itself, ends)

All of it is counted by the programs that do it, per CPU, and nothing is estimated.  What ports and instances counted
that are gone is kept in numbers of the network, so the account is that of its whole life, adoption by another process
included.

*At rest* both sides are equal, exactly.  *Under traffic* counters cannot be read at one instant: the right side is read
before and after the left, so what is inside at the moment lies between two numbers, and neither may leave what a
network can hold: a packet for each CPU, and those that wait at the recirculation device (`around`, counted where they
are sent and where they come).  What the kernel loses there, because its backlog is full, stays in `around`, at rest
too: that is its name.

A frame is *sent* when it is handed to its device.  What a device that is down, or its queue, then does is the device's
to count.  An aggregate is one packet on both sides.

`alarms` are drops nobody configures: a tail call that found an empty slot (`UNWIRED`).  Either the port is joined to
nothing, or a program that should be there is not.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ..kernel import possible_cpus
from ..language.verdicts import Dropped
from ..targets.bpf import COPIED, HANDED, PUNTED
from .counters import Account, Total
from .instance import Instance
from .joins import Join, PortRef


@dataclass(frozen=True)
class Balance:
    """Packets since the network was made.

    `drops` are by instance and reason, those between functions under "fabric"; `gone` those of instances that were
    removed.  `around` were sent to the recirculation device and have not come.  `moved` packets ended while this was
    read: 0 at rest.
    """

    received: int
    injected: int
    copies: int
    sent: int
    punted: int
    handed: int
    floods: int
    gone: int
    drops: dict[str, dict[str, int]] = field(default_factory=dict)
    around: int = 0
    moved: int = 0

    @classmethod
    def read(cls, account: Account, joins: Mapping[PortRef, Join], instances: Mapping[str, Instance]) -> Self:
        """The account of a network now."""
        devices = [(at, join) for at, join in joins.items() if join.edge is not None]
        kept = account.kept

        def passed(direction: int) -> int:
            return sum((instances[at.instance].counters.read(at.port, join.bank)[direction]
                        - join.before[direction]).packets for at, join in devices)

        def ended() -> tuple[int, int, int, int, int, dict[str, dict[str, int]]]:
            punted, handed, drops = kept["punted"], kept["handed"], dict[str, dict[str, int]]()
            sent = kept["sent"] + passed(1)
            for name, instance in instances.items():
                ends = instance.loaded.ends
                ends.pop(COPIED, 0)
                punted, handed = punted + ends.pop(PUNTED, 0), handed + ends.pop(HANDED, 0)
                reasons = instance.function.spec().reasons
                if ends:
                    drops[name] = {reasons.get(reason, str(reason)): count for reason, count in ends.items()}
            if fabric := account.drops:
                drops["fabric"] = fabric
            return sent, punted, handed, account.read()[Total.FLOODS], kept["dropped"], drops

        def total(ends: tuple[int, int, int, int, int, dict[str, dict[str, int]]]) -> int:
            return sum(ends[:5]) + sum(count for found in ends[5].values() for count in found.values())

        before = ended()
        came = account.read()[Total.CAME]
        received = kept["received"] + passed(0)
        numbers = account.read()
        injected, copies, sent_around = numbers[Total.INJECTED], numbers[Total.COPIES], numbers[Total.ROUND]
        made = kept["copies"] + sum(instance.loaded.ends.get(COPIED, 0) for instance in instances.values())
        copies, sent_around = copies + made, sent_around + made
        after = ended()
        sent, punted, handed, floods, gone, drops = after
        return cls(received, injected, copies, sent, punted, handed, floods, gone, drops, sent_around - came,
                   total(after) - total(before))

    @property
    def dropped(self) -> int:
        """Every drop."""
        return self.gone + sum(count for found in self.drops.values() for count in found.values())

    @property
    def entered(self) -> int:
        """The left side."""
        return self.received + self.injected + self.copies

    @property
    def ended(self) -> int:
        """The right side."""
        return self.sent + self.dropped + self.punted + self.handed + self.floods

    @property
    def inside(self) -> tuple[int, int]:
        """Between which numbers what is inside lies; both zero at rest."""
        return self.entered - self.ended, self.entered - self.ended + self.moved

    @property
    def exact(self) -> bool:
        """Whether nothing moves, nothing is inside, and both sides are equal."""
        return self.inside == (0, 0) and self.around == 0

    @property
    def holds(self) -> bool:
        """Whether what is inside can be inside: exact at rest."""
        low, high = self.inside
        return high >= 0 and low <= (0 if not self.moved else possible_cpus()) + max(self.around, 0)

    @property
    def alarms(self) -> list[str]:
        """What somebody should look at."""
        found = [f"{name}: {count} packets met an empty slot (UNWIRED): a port is joined to nothing, or a program is "
                 f"missing" for name, drops in self.drops.items() if (count := drops.get(Dropped.UNWIRED.name, 0))]
        if self.around > 0 and not self.moved:
            found.append(f"{self.around} packets were lost at the recirculation device: the kernel's backlog was full")
        if not self.holds:
            found.append(f"{self.inside[0]} packets are unaccounted for")
        return found

    def __str__(self) -> str:
        left = (("received", self.received), ("injected", self.injected), ("copies", self.copies))
        right = (("sent", self.sent), ("dropped", self.dropped), ("punted", self.punted), ("to the host", self.handed),
                 ("floods", self.floods))
        lines = [f"{title:4}{sum(count for _, count in side):>10}  " + "  ".join(f"{n} {c}" for n, c in side)
                 for title, side in (("in", left), ("out", right))]
        low, high = self.inside
        lines.append("balanced" if self.exact else f"inside {low}" if low == high else f"inside {low} to {high}")
        lines += [f"  {name:12}" + "  ".join(f"{reason} {count}" for reason, count in drops.items())
                  for name, drops in self.drops.items()]
        lines += [f"  {'(gone)':12}{self.gone}"] * bool(self.gone)
        return "\n".join([*lines, *(f"! {alarm}" for alarm in self.alarms)])


def retire(account: Account, instance: Instance) -> None:
    """Keep what an instance counted that is about to go."""
    ends = instance.loaded.ends
    account.kept["punted"] += ends.pop(PUNTED, 0)
    account.kept["handed"] += ends.pop(HANDED, 0)
    account.kept["copies"] += ends.pop(COPIED, 0)
    account.kept["dropped"] += sum(ends.values())


__all__ = ["Balance", "retire"]
