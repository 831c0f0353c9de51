"""The queues of a device, as the function at its port wants them.

A function says in which queue a packet waits, and by `Function.queues` which queues there are; here they become the
kernel's, classes of HTB.  They stand before anything is led to the device, so no packet passes them by.  A device with
queues is not sent to at its other end: that would pass them by as well.

What changes is changed in place, class by class, and what waits stays; only a class that would need another parent
makes the whole tree anew.  A discipline that stood on a device before us is its owner's, and refused.
"""
from __future__ import annotations

import errno
from dataclasses import dataclass

from ..kernel import Netlink, NetlinkError, queueing
from ..kernel.netlink import Request
from ..language.queues import Queue, Queues


@dataclass(frozen=True)
class Waiting:
    """What a queue has sent and dropped, in packets and bytes, and what waits in it now."""

    queue: int
    sent_packets: int
    sent_bytes: int
    dropped: int
    waiting_packets: int
    waiting_bytes: int


def arrange(netlink: Netlink, index: int, wanted: Queues, ours: bool) -> None:
    """Make the queues of a device these; `ours` if those that are there are ours.  ValueError: somebody else's are."""
    there = {found.number: found.parent for found in queueing.listing(netlink, index)} if ours else {}
    if any(there.get(queue.number, queue.parent) != queue.parent for queue in wanted.every):
        netlink.submit(queueing.delete(index))
        there = {}
    if not there:
        (failure,) = netlink.attempt(queueing.htb(index))
        if failure is not None and not (ours and failure.errno == errno.EEXIST):
            if failure.errno == errno.EEXIST:
                raise ValueError(f"device {index} has queues that are not ours: `tc qdisc del dev ... root` first")
            raise failure
    requests: list[Request] = []
    for queue in wanted.every:
        requests.append(queueing.klass(index, _class(queue)))
        if queue.room:
            requests.append(queueing.fifo(index, queue.number, queue.room))
    kept = {queue.number for queue in wanted.every}
    # Children before their parents: those are numbered above.
    requests += [queueing.delete_class(index, number) for number in sorted(there.keys() - kept)]
    try:
        netlink.submit(*requests)
    except NetlinkError:
        if not ours:
            netlink.attempt(queueing.delete(index))
        raise


def dissolve(netlink: Netlink, index: int) -> None:
    """Remove what `arrange` has made; a device that is gone has taken it along."""
    (failure,) = netlink.attempt(queueing.delete(index))
    if failure is not None and failure.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
        raise failure


def listing(netlink: Netlink, index: int) -> list[Waiting]:
    """How the queues of a device stand, leaves and what is above them."""
    try:
        return [Waiting(found.number, found.sent_packets, found.sent_bytes, found.dropped, found.waiting_packets,
                        found.waiting_bytes) for found in queueing.listing(netlink, index)]
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
        return []


def _class(queue: Queue) -> queueing.Class:
    """HTB knows no class without a rate: one byte a second, and nothing saved, is as good as none."""
    rate, burst = (queue.guarantee // 8, queue.burst) if queue.guarantee >= 8 else (1, 1)
    return queueing.Class(queue.number, queue.parent, rate, max(queue.ceiling // 8, 1), burst,
                          queue.surge or queue.burst, queue.priority)


__all__ = ["Waiting", "arrange", "dissolve", "listing"]
