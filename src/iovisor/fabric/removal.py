"""Devices that go together.

Deleting a device takes the kernel some 20 ms in which it does nothing: it waits until every CPU has run what was
waiting there.  Deleting a *group* of devices takes as long once, whoever made them.  So what ends notes its devices,
and they are deleted when everything has been noted: those of a network, or of a thousand networks.

Rejected: moving doomed devices to a namespace that is then let go of, which the kernel sweeps when it finds the time.
Nobody could say when the other ends of the cables are gone, and their names free.
"""
from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..kernel import Netlink, NetworkNamespace, interfaces, rcu
from ..kernel.netlink import Request

if TYPE_CHECKING:
    from .network import Network

LOWEST_GROUP = 0x10000


def any_group() -> int:
    """The number of a link group that in all likelihood nobody has."""
    return LOWEST_GROUP + secrets.randbelow((1 << 31) - LOWEST_GROUP)


class Removal:
    """What is to be deleted; `carry_out` does it, one group a namespace."""

    def __init__(self) -> None:
        self._doomed: dict[tuple[int, int] | None, tuple[Netlink, list[int]]] = {}
        self._after: list[Callable[[], None]] = []

    def doom(self, namespace: NetworkNamespace | None, netlink: Netlink, indexes: Iterable[int]) -> None:
        """Note devices of a namespace, in which the socket is; it stays open until they are deleted."""
        where = None if namespace is None else namespace.identity
        self._doomed.setdefault(where, (netlink, []))[1].extend(indexes)

    def then(self, what: Callable[[], None]) -> None:
        """Note what is done when the devices are gone."""
        self._after.append(what)

    def carry_out(self) -> None:
        """Delete them; those that are gone already are no error."""
        doomed, after = self._doomed, self._after
        self._doomed, self._after = {}, []
        with ExitStack() as steps:
            for what in reversed(after):
                steps.callback(what)
            for netlink, indexes in doomed.values():
                steps.callback(_delete, netlink, indexes)


def _delete(netlink: Netlink, indexes: list[int]) -> None:
    if len(indexes) == 1:
        attempt(netlink, interfaces.delete(indexes[0]))
    elif indexes:
        group = any_group()
        attempt(netlink, *(interfaces.change(index, group=group) for index in indexes), interfaces.delete_group(group))


def attempt(netlink: Netlink, *requests: Request) -> None:
    """Carry out what may have been done already, by whoever deleted a device."""
    for failure in netlink.attempt(*requests):
        if failure is not None and failure.errno not in (errno.ENODEV, errno.ENOENT, errno.EADDRNOTAVAIL):
            raise failure


def close_all(networks: Iterable[Network]) -> None:
    """Take networks down, as `Network.close` does, in little more time than one of them.

    An error in one keeps none of the others; the last error is raised.
    """
    with rcu.expedited(), ExitStack() as steps:
        removal, doomed = Removal(), list(networks)
        for network in doomed:
            steps.callback(network._give_back)
        steps.callback(removal.carry_out)
        for network in doomed:
            steps.callback(network._sever, removal)


__all__ = ["LOWEST_GROUP", "Removal", "any_group", "attempt", "close_all"]
