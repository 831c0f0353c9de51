"""The devices at the edges of a network: made or found, described, and given back exactly as they were.

What we make has an index of its own, in its namespace and in all likelihood on the machine (28 random bits, verified by
the kernel, chosen again if taken), so a late packet never meets a number that means something else; an alias that says
whose it is (`ip -d link`); and the link group of its network, which goes in one request however many they are.

What cannot be told by its group, a namespace or what a device of the host was made to accept, is written down *before*
it is made or changed: a process that dies in between leaves nothing behind for good.  So a namespace is made without a
name, which dies with its maker, its identity is noted, and then it gets its name.

Nothing is up before it is wired: a device is made down, its port led, its hook attached, and only then set up.  In
between, what the workload sends goes nowhere, never to the host's stack.  IPv6 is off on our side of a cable: the
switching namespace is nobody's neighbour.

Requests go in batches: one round trip makes all cables of a call, one sets them up, one more in each namespace.
"""
from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from .. import kernel
from ..kernel import (
    Direction,
    KernelError,
    Netlink,
    NetlinkError,
    NetworkNamespace,
    Program,
    addresses,
    attached,
    interfaces,
    neighbours,
    rcu,
    routes,
)
from ..kernel.interfaces import Interface
from ..kernel.namespaces import delete
from ..kernel.netlink import Request
from ..language.addresses import mac_address, mac_text
from ..language.queues import Queues
from . import queues
from .attachments import Attachment, Device, Share, Tap, Veth
from .edges import Edge
from .hooks import Hook, settled
from .joins import Join, Ours, PortRef
from .removal import Removal, any_group, attempt

FIRST_INDEX, INDEXES = 0x10000000, 0x10000000
ATTEMPTS = 16


class Devices:
    """Made and closed by a network; `mtu` is that of what it makes, where nothing else is said."""

    def __init__(self, namespace: NetworkNamespace | None, name: str, mtu: int) -> None:
        self.namespace, self.name, self.mtu = namespace, name, mtu
        self.group = any_group()
        self.taps: dict[int, kernel.Tap] = {}               # open ones, by index
        self._netlink: Netlink | None = None

    @property
    def netlink(self) -> Netlink:
        """A socket in the switching namespace."""
        if self._netlink is None:
            self._netlink = Netlink(self.namespace)
        return self._netlink

    # -- making and finding -----------------------------------------------------------------------------------------

    def prepare(self, wanted: Mapping[PortRef, Join], note: Callable[[], None] = lambda: None) -> None:
        """Make or find the device of every join, whose `edge` and `ours` it fills in.  What is made is down.

        `note` is called before anything is done that a process which dies would leave.
        """
        with ExitStack() as rooms:
            created = {at: rooms.enter_context(NetworkNamespace.create()) for at, join in wanted.items()
                       if isinstance(join.attachment, Veth) and join.attachment.create and join.absence is None}
            for at, room in created.items():
                wanted[at].ours = replace(wanted[at].ours, namespace=room.identity)
            found = {at: self._meant(join) for at, join in wanted.items()
                     if isinstance(join.attachment, Device | Share)}
            if created or any(wanted[at].ours.promiscuous for at in found):
                note()
            for at, room in created.items():
                self._name(room, wanted[at])
            self._make_cables({at: join for at, join in wanted.items() if isinstance(join.attachment, Veth)}, created)
        for at, join in wanted.items():
            match join.attachment:
                case Tap() as tap:
                    self._make_tap(at, join, tap)
                case Device() | Share():
                    self._take(join, found[at])
                case Edge() as edge:
                    there = interfaces.find(self.netlink, edge.index)
                    if there is None:
                        raise KernelError(errno.ENODEV, "attach", f"device {edge.index}")
                    join.edge = self.edge(there, edge.peer, edge.hook)

    def _meant(self, join: Join) -> Interface:
        """The device of the host that a join is for; whether it has to be made promiscuous stands in `ours`."""
        what = join.attachment
        assert isinstance(what, Device | Share)
        found = self.found(what)
        join.edge = self.edge(found, isinstance(what, Device), _wanted(what))
        wants = not isinstance(what, Share) or not what.macs
        join.ours = replace(join.ours, promiscuous=wants and not found.promiscuous)
        return found

    def _make_cables(self, wanted: Mapping[PortRef, Join], created: Mapping[PortRef, NetworkNamespace]) -> None:
        with ExitStack() as rooms:
            opened: dict[PortRef, NetworkNamespace | None] = {}
            for at, join in wanted.items():
                veth = join.attachment
                assert isinstance(veth, Veth)
                if not veth.mac:
                    join.attachment = veth = replace(veth, mac=mac_text(2 << 40 | secrets.randbits(40)))
                room = created.get(at) or veth.room()
                opened[at] = rooms.enter_context(room) if room is not None and at not in created else room
            waiting = list(wanted)
            for _ in range(ATTEMPTS):
                chosen = {at: FIRST_INDEX + 2 * secrets.randbelow(INDEXES // 2) for at in waiting}
                requests = [request for at in waiting
                            for request in self._cable(at, wanted[at], chosen[at], opened[at])]
                outcome = self.netlink.attempt(*requests)
                failures = dict(zip(waiting, outcome[::2], strict=True))
                for at, failure in failures.items():
                    if failure is None:
                        peer = not self._is_here(opened[at])
                        wanted[at].edge = Edge(chosen[at], peer, self._mtu(wanted[at]),
                                               settled(_wanted(wanted[at].attachment), "veth"))
                waiting = [at for at, failure in failures.items() if failure is not None]
                for at in waiting:
                    failure = failures[at]
                    assert failure is not None
                    if not self._taken(failure, chosen[at], opened[at]):
                        raise self._explained(failure, at, wanted[at]) from None
                if not waiting:
                    break
            else:
                raise KernelError(errno.EEXIST, "attach", f"{waiting[0]}: no free index in {ATTEMPTS} attempts")
        for join in wanted.values():
            assert join.edge is not None
            interfaces.silence(f"e{join.edge.index:x}", self.namespace)

    def _cable(self, at: PortRef, join: Join, index: int, room: NetworkNamespace | None) -> tuple[Request, Request]:
        veth = join.attachment
        assert isinstance(veth, Veth)
        mtu = self._mtu(join)
        return (interfaces.veth(f"e{index:x}", veth.name, index=index, peer_index=index + 1, mtu=mtu, group=self.group,
                                peer_mac=_packed(veth.mac), peer_namespace=room),
                interfaces.change(index, alias=self._alias(at)))

    def _taken(self, failure: NetlinkError, index: int, room: NetworkNamespace | None) -> bool:
        """Whether a request failed because somebody has the index."""
        if failure.errno not in (errno.EEXIST, errno.EBUSY):
            return False
        if interfaces.find(self.netlink, index) is not None:
            return True
        with Netlink(room if room is not None else self.namespace) as inside:
            return interfaces.find(inside, index + 1) is not None

    def _explained(self, failure: NetlinkError, at: PortRef, join: Join) -> Exception:
        veth = join.attachment
        assert isinstance(veth, Veth)
        if failure.errno == errno.EEXIST:
            return ValueError(f"{at}: {veth.place} has a device {veth.name} already")
        return failure

    @staticmethod
    def _name(room: NetworkNamespace, join: Join) -> None:
        assert isinstance(join.attachment, Veth) and isinstance(join.attachment.namespace, str)
        try:
            room.give_name(join.attachment.namespace)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            raise ValueError(f"there is a namespace {join.attachment.namespace} already: leave `create` out to use it"
                             ) from None

    def _make_tap(self, at: PortRef, join: Join, tap: Tap) -> None:
        for _ in range(ATTEMPTS):
            index = FIRST_INDEX + secrets.randbelow(INDEXES)
            if interfaces.find(self.netlink, tap.name) is not None:
                raise ValueError(f"{at}: there is a device {tap.name} already; to attach it as it is use "
                                 f"Device({tap.name!r})")
            try:
                made = kernel.Tap.create(tap.name, self.namespace, index=index, headers=True)
                break
            except KernelError as error:
                if error.errno not in (errno.EEXIST, errno.EBUSY):
                    raise
        else:
            raise KernelError(errno.EEXIST, "attach", f"{at}: no free interface index in {ATTEMPTS} attempts")
        self.taps[index] = made                             # until it is in our group it goes with its descriptor
        join.edge = Edge(index, False, self._mtu(join), settled(_wanted(tap), "tun"))
        interfaces.silence(tap.name, self.namespace)
        self.netlink.submit(interfaces.change(index, mtu=self._mtu(join), group=self.group, alias=self._alias(at)))
        if tap.persistent:
            made.persist()
            self.taps.pop(index).close()

    def found(self, what: Device | Share) -> Interface:
        """The device meant; ValueError if there is none, or more than one."""
        if isinstance(what, Share) or not what.mac:
            name = what.device if isinstance(what, Share) else what.name
            there = interfaces.find(self.netlink, name)
            if there is None:
                raise ValueError(f"there is no device {name} in the switching namespace")
            return there
        every = [there for there in interfaces.listing(self.netlink)
                 if there.mac == _packed(what.mac) and what.name in ("", there.name)]
        if len(every) != 1:
            raise ValueError(f"{len(every) or 'no'} devices in the switching namespace are {what}")
        return every[0]

    def edge(self, found: Interface, peer: bool = True, hook: str = Hook.TC) -> Edge:
        """How a device is sent to: to the other end at once if that is in another namespace and nothing on the way
        wants to see the packet, neither a queueing discipline nor an egress program."""
        peer = (peer and found.kind == "veth" and found.apart and found.queueing in ("noqueue", "noop", "")
                and not interfaces.classified(self.netlink, found.index) and not self._egress(found.index))
        return Edge(found.index, peer, found.mtu, settled(Hook(hook), found.kind))

    def _egress(self, index: int) -> bool:
        """Whether somebody else has a program at the egress hook."""
        for number in attached(index, Direction.EGRESS, self.namespace).program_ids:
            with contextlib.suppress(KernelError), Program.from_id(number) as program:
                if not program.info().name.startswith("leaving"):
                    return True
        return False

    def _take(self, join: Join, found: Interface) -> None:
        """Let a device receive what the port wants."""
        what = join.attachment
        if isinstance(what, Share) and what.macs:
            wanted = [mac for mac in what.macs if _packed(mac) != found.mac]
            outcome = self.netlink.attempt(*(neighbours.accept(found.index, _packed(mac)) for mac in wanted))
            join.ours = replace(join.ours, macs=tuple(
                mac for mac, failure in zip(wanted, outcome, strict=True) if failure is None))
            for failure in outcome:
                if failure is not None and failure.errno != errno.EEXIST:
                    raise failure
        elif join.ours.promiscuous:
            self.netlink.submit(interfaces.change(found.index, promiscuous=True))

    def queue(self, join: Join, wanted: Queues | None) -> None:
        """Give the device of a join these queues; with None, those it came with."""
        assert join.edge is not None
        if wanted is not None:
            queues.arrange(self.netlink, join.edge.index, wanted, join.ours.queued)
            join.edge, join.ours = replace(join.edge, peer=False), replace(join.ours, queued=True)
        elif join.ours.queued:
            queues.dissolve(self.netlink, join.edge.index)
            join.ours = replace(join.ours, queued=False)

    # -- starting ---------------------------------------------------------------------------------------------------

    def start(self, wanted: Iterable[Join]) -> None:
        """Set up what was made, and give its addresses and routes to the other end."""
        made = [join for join in wanted if isinstance(join.attachment, Veth | Tap) and join.edge is not None]
        self.netlink.submit(*(interfaces.change(join.edge.index, up=True) for join in made if join.edge is not None))
        for join in made:
            if isinstance(join.attachment, Veth) and join.edge is not None:
                self._furnish(join.attachment, join.edge.index + 1, join.ours.namespace is not None)

    def _furnish(self, veth: Veth, index: int, whole: bool) -> None:
        requests = [interfaces.change(index, up=True)]
        if whole:
            requests.append(interfaces.change("lo", up=True))
        requests += [addresses.add(index, address) for address in veth.addresses]
        requests += [routes.add(to, gateway=gateway, interface=index) for to, gateway in _routes(veth).items()]
        room = veth.room()
        if room is None:
            self.netlink.submit(*requests)
        else:
            with room, Netlink(room) as inside:
                inside.submit(*requests)

    # -- changing ---------------------------------------------------------------------------------------------------

    def change(self, former: Join, join: Join) -> None:
        """Let the device of one join be that of another, as its attachment wants it; the same backwards undoes it."""
        was, wanted = former.attachment, join.attachment
        assert former.edge is not None
        index = former.edge.index
        match was, wanted:
            case Veth(), Veth():
                self._refurnish(was, wanted, index, (self._mtu(former), self._mtu(join)))
                join.edge = replace(former.edge, mtu=self._mtu(join), hook=settled(_wanted(wanted), "veth"))
            case Tap(), Tap():
                self.netlink.submit(interfaces.change(index, mtu=self._mtu(join)))
                join.edge = replace(former.edge, mtu=self._mtu(join), hook=settled(_wanted(wanted), "tun"))
            case (Device() | Share()), (Device() | Share()):
                join.ours = Ours()
                self._take(join, self._meant(join))
                macs = set(wanted.macs) & set(former.ours.macs) if isinstance(wanted, Share) else set[str]()
                join.ours = replace(join.ours, macs=tuple({*join.ours.macs, *macs}), queued=former.ours.queued,
                                    promiscuous=join.ours.promiscuous or former.ours.promiscuous)

    def _refurnish(self, was: Veth, wanted: Veth, index: int, mtus: tuple[int, int]) -> None:
        """Give the end of a cable what is wanted, and take from it what is not any more."""
        inside = index + 1
        left = [address for address in was.addresses if address not in set(wanted.addresses)]
        outcome = [interfaces.change(inside, mac=_packed(wanted.mac))] * (wanted.mac != was.mac)
        outcome += [interfaces.change(inside, mtu=mtus[1])] * (mtus[0] != mtus[1])
        gone = [addresses.remove(inside, address) for address in left]
        gone += [routes.remove(to, gateway=gateway, interface=inside) for to, gateway in _routes(was).items()
                 if _routes(wanted).get(to) != gateway]
        # With an address the kernel takes away others of its network, and routes behind it: all are given again.
        given = [addresses.add(inside, address, replace=True) for address in wanted.addresses]
        given += [routes.add(to, gateway=gateway, interface=inside, replace=True)
                  for to, gateway in _routes(wanted).items()]
        if mtus[0] != mtus[1]:
            self.netlink.submit(interfaces.change(index, mtu=mtus[1]))
        room = wanted.room()
        with contextlib.nullcontext() if room is None else room, \
                contextlib.nullcontext(self.netlink) if room is None else Netlink(room) as netlink:
            netlink.submit(*outcome)
            for failure in netlink.attempt(*gone):
                if failure is not None and failure.errno not in (errno.EADDRNOTAVAIL, errno.ESRCH):
                    raise failure
            netlink.submit(*given)

    def release(self, former: Join, join: Join | None, staying: Iterable[Join]) -> None:
        """Undo what was changed for one join and is not wanted by the one its device goes on as; a device stays
        promiscuous as long as one of the `staying` joins needs it."""
        kept, index = join.ours if join is not None else Ours(), former.edge.index if former.edge is not None else 0
        gone = [mac for mac in former.ours.macs if mac not in kept.macs]
        attempt(self.netlink, *(neighbours.refuse(index, _packed(mac)) for mac in gone))
        if former.ours.promiscuous and not kept.promiscuous:
            needs = [other for other in staying if other.edge is not None and other.edge.index == index
                     and (isinstance(other.attachment, Device)
                          or (isinstance(other.attachment, Share) and not other.attachment.macs))]
            if needs:
                needs[0].ours = replace(needs[0].ours, promiscuous=True)
            else:
                attempt(self.netlink, interfaces.change(index, promiscuous=False))

    def named(self, at: PortRef, join: Join) -> None:
        """Let what was made say whose it is now."""
        if join.edge is not None and join.absence is None:
            attempt(self.netlink, interfaces.change(join.edge.index, alias=self._alias(at)))

    # -- ending -----------------------------------------------------------------------------------------------------

    def remove(self, gone: Iterable[Join], staying: Iterable[Join], removal: Removal | None = None) -> None:
        """Remove what was made for these joins, and undo what was changed that no other needs; never what was there.

        With a `removal`, what was made goes with that.
        """
        gone, staying = list(gone), list(staying)
        made = [join.edge.index for join in gone
                if isinstance(join.attachment, Veth | Tap) and join.edge is not None and join.absence is None]
        going = removal or Removal()
        if made:
            going.doom(self.namespace, self.netlink, made)
        for join in gone:
            if join.edge is not None and join.edge.index in self.taps:
                going.then(self.taps.pop(join.edge.index).close)
            if join.ours.namespace is not None and isinstance(join.attachment, Veth):
                going.then(partial(_forget, join.attachment, join.ours.namespace))
            if join.ours.queued and join.edge is not None and join.absence is None:
                queues.dissolve(self.netlink, join.edge.index)
            if join.edge is not None and join.absence is None:
                self.release(join, None, staying)
            join.ours = Ours()
        if removal is None:
            going.carry_out()

    def sweep(self, known: Iterable[int]) -> None:
        """Remove what is in the network's group and not known: a process died before it wrote it down."""
        known = set(known)
        left = [there.index for there in interfaces.listing(self.netlink)
                if there.group == self.group and there.index not in known]
        with rcu.expedited():
            removal = Removal()
            removal.doom(self.namespace, self.netlink, left)
            removal.carry_out()

    def lost(self, join: Join) -> None:
        """The device is gone."""
        if join.edge is not None and join.edge.index in self.taps:
            self.taps.pop(join.edge.index).close()

    def leave(self) -> None:
        """Give the descriptors back; the devices stay."""
        for tap in self.taps.values():
            tap.close()
        self.taps.clear()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    # -- parts ------------------------------------------------------------------------------------------------------

    def _mtu(self, join: Join) -> int:
        return join.attachment.mtu or self.mtu if isinstance(join.attachment, Veth | Tap) else 0

    def _alias(self, at: PortRef) -> str:
        return f"iovisor {self.name} {at}".encode()[:255].decode(errors="ignore")

    def _is_here(self, room: NetworkNamespace | None) -> bool:
        """Whether it is the switching namespace: a cable that ends there has no end elsewhere."""
        if room is None:
            return True
        if self.namespace is not None:
            return room.identity == self.namespace.identity
        with NetworkNamespace.current() as current:
            return room.identity == current.identity


def _wanted(what: Attachment | None) -> Hook:
    return Hook(getattr(what, "hook", Hook.TC))


def _routes(veth: Veth) -> dict[str, str]:
    """By destination the gateway."""
    return {**veth.routes, **({"default": veth.gateway} if veth.gateway else {})}


def _forget(veth: Veth, identity: tuple[int, int]) -> None:
    """Remove the namespace created for a cable, unless its name is another's by now."""
    assert isinstance(veth.namespace, str)
    with contextlib.suppress(KernelError):
        with NetworkNamespace.open(veth.namespace) as there:
            if there.identity != identity:
                return
        delete(veth.namespace)


def _packed(mac: str) -> bytes:
    return mac_address(mac).to_bytes(6, "big")


__all__ = ["Devices"]
