"""VIPs and members, from configuration to tables.

The tables are the only memory of which number is whose: a next process finds there what this one gave.  An entry of
`vips` or `members` with port 0 is free.  What points to something is written after it, and taken away before it; so no
packet meets half of a change.  Every change ends with another `versions`, and what CPUs remembered is void.
"""
from __future__ import annotations

from typing import NamedTuple

from iovisor.language import ConfigError, Count, mac
from iovisor.parts import maglev
from iovisor.parts.reading import MAPPED

from .flows import MASK64
from .path import Path
from .settings import Address, BackendConfig, BalancerConfig, VipConfig, Way
from .tables import Health, Member, Own, Place, Vip

ANY = 0xffff                # the number of an address without a port


class Name(NamedTuple):
    """What a VIP or a member is known by: an address in two words, a port, and a protocol or the number of a VIP."""

    upper: int
    lower: int
    port: int
    of: int

    def digest(self) -> bytes:
        """What a Maglev table goes by: the same in every balancer, whatever its numbers."""
        return self.upper.to_bytes(8, "big") + self.lower.to_bytes(8, "big") + self.port.to_bytes(2, "big")


def words(address: Address) -> tuple[int, int]:
    """An address as the data path has it."""
    number = int(address)
    return (0, MAPPED | number) if address.version == 4 else (number >> 64, number & MASK64)


def name_of(vip: VipConfig) -> Name:
    return Name(*words(vip.parsed()), vip.port, int(vip.protocol))


class Roster(Path):
    def prepare(self) -> None:
        """What a process knows beside the tables."""
        self.settings: BalancerConfig                                           # the newest; `config` follows later
        self.numbers: dict[int, tuple[int, VipConfig, BackendConfig]] = {}      # of members: VIP and configuration
        self.well: set[int] = set()                                             # members whose checks pass
        self.stations: dict[Address, mac] = {}                                  # who was found where
        self.filled: dict[int, list[int]] = {}                                  # choices, by VIP
        self.drawn: dict[int, list[tuple[int, bytes, int]]] = {}                # and what they were made of
        self.narrow: dict[int, tuple[int, int]] = {}                            # by member: what fits, until when

    def configure(self, old: BalancerConfig | None, new: BalancerConfig) -> None:
        for fixed in ("slots", "recent", "most_vips", "most_backends"):
            if old is not None and getattr(old, fixed) != getattr(new, fixed):
                raise ConfigError(fixed, "this is fixed when the balancer is made")
        self.settings = new
        self.flows.fill(new)
        for place, version in enumerate((4, 6)):
            own = [words(network.ip) for network in new.networks() if network.version == version]
            kept = MASK64 ^ (1 << new.spread) - 1 if version == 4 else MASK64
            self.own[place] = Own(upper=own[0][0], lower=own[0][1], kept=kept) if own else Own(
                upper=0, lower=0, kept=MASK64)
        vips = {Name(vip.upper, vip.lower, vip.port, vip.protocol): number
                for number, vip in self.vips.items() if vip.port}
        members = {Name(member.upper, member.lower, member.port, member.vip): number
                   for number, member in self.members.items() if member.port}
        wanted = {name_of(vip): vip for vip in new.vips}
        for name in vips.keys() - wanted.keys():
            del self.services[Place(upper=name.upper, lower=name.lower, port=name.port, of=name.of)]
            if (name.upper, name.lower) not in {(kept.upper, kept.lower) for kept in wanted}:
                del self.services[Place(upper=name.upper, lower=name.lower)]
        for name in vips.keys() - wanted.keys():
            number = vips.pop(name)
            self.choose(number, [])
            self.vips[number] = Vip(upper=0, lower=0, sticky=0, port=0, protocol=0, mode=0, orphans=0)
        free = iter(sorted(set(range(int(self.vips.spec.size))) - set(vips.values())))
        served = {vips[name] if name in vips else next(free): vip for name, vip in wanted.items()}
        self.enroll(new, served, members)
        for number, vip in served.items():
            name = name_of(vip)
            self.vips[number] = Vip(upper=name.upper, lower=name.lower, sticky=vip.sticky, port=name.port,
                                    protocol=name.of, mode=vip.mode, orphans=vip.orphans)
            self.draw(number)
            self.services[Place(upper=name.upper, lower=name.lower, port=name.port, of=name.of)] = number
            self.services[Place(upper=name.upper, lower=name.lower)] = ANY
        self.changed()

    def enroll(self, new: BalancerConfig, served: dict[int, VipConfig], members: dict[Name, int]) -> None:
        """Give members their numbers; those that are gone leave the tables of choices before they go."""
        wanted = {Name(*words(backend.parsed()), backend.port or vip.port, number): (number, vip, backend)
                  for number, vip in served.items() for backend in vip.backends}
        free = iter(sorted(set(range(int(self.members.spec.size))) - set(members.values())))
        self.numbers = {}
        for name, what in wanted.items():
            if name in members:
                number = members[name]
            else:
                number = next(free, -1)
                if number < 0:      # all are taken by members that go: they have to go first
                    self.dismiss(members, wanted)
                    free = iter(sorted(set(range(int(self.members.spec.size))) - set(members.values())
                                       - self.numbers.keys()))
                    number = next(free)
                self.hits[number], self.opened[number] = Count(), Count()
            self.numbers[number] = what
            self.write(number)
        self.dismiss(members, wanted)

    def dismiss(self, members: dict[Name, int], wanted: dict[Name, tuple[int, VipConfig, BackendConfig]]) -> None:
        gone = {name: number for name, number in members.items() if name not in wanted}
        for vip in {name.of for name in gone}:
            left = [made for made in self.drawn.get(vip, []) if made[0] not in gone.values()]
            self.choose(vip, left)
        for name, number in gone.items():
            epoch = self.members[number].epoch
            self.members[number] = Member(upper=0, lower=0, mac=0, port=0, vip=0, epoch=epoch + 1, mtu=0,
                                          health=Health.DEAD, held=0)
            self.well.discard(number)
            self.narrow.pop(number, None)
            del members[name]

    def write(self, number: int) -> None:
        """Say of a member what is so; `changed` comes after."""
        vip_number, vip, backend = self.numbers[number]
        upper, lower = words(backend.parsed())
        station = backend.mac or self.stations.get(self.settings.next_hop(backend.parsed()), 0)
        before = self.members[number]
        health = Health.DEAD
        if vip.check.way == Way.NONE and station:
            self.well.add(number)       # and stays so if checks begin
        if station and number in self.well:
            health = Health.OPEN if backend.weight and not backend.drain and not before.held else Health.CLOSED
        self.members[number] = Member(upper=upper, lower=lower, mac=station, port=backend.port or vip.port,
                                      vip=vip_number, epoch=before.epoch, health=health, held=before.held,
                                      mtu=min(self.settings.mtu, *self.narrow.get(number, ())[:1], 0xffff))

    def draw(self, vip: int) -> None:
        """Fill the choices of a VIP from its members that are open."""
        self.choose(vip, [(number, Name(member.upper, member.lower, member.port, vip).digest(), backend.weight)
                          for number, (of, _, backend) in self.numbers.items() if of == vip
                          for member in [self.members[number]] if member.health == Health.OPEN])

    def choose(self, vip: int, shares: list[tuple[int, bytes, int]]) -> None:
        """Fill the choices of a VIP from (number, name, weight); only what differs is written."""
        if self.drawn.get(vip) == shares:
            return
        slots = int(self.settings.slots)
        table = [shares[index][0] + 1 if index != maglev.NONE else 0
                 for index in maglev.fill([(name, weight) for _, name, weight in shares], slots)]
        before = self.filled.get(vip)
        if before is None:
            before = [self.choices[vip * slots + slot] for slot in range(slots)]
        for slot, (was, is_) in enumerate(zip(before, table, strict=True)):
            if was != is_:
                self.choices[vip * slots + slot] = is_
        self.filled[vip], self.drawn[vip] = table, shares

    def changed(self) -> None:
        self.versions[0].changes += 1
