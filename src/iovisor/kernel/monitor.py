"""Watching a namespace change.

A `Monitor` is a socket that hears what others do: interfaces that come, go, lose their carrier; addresses,
routes, neighbours. It is readable when there is news, so it fits an event loop.

The kernel does not wait for slow listeners: if its buffer overflows, `read` raises NetlinkError ENOBUFS, and
the listener must list everything afresh. A listener that wants no gap opens the monitor first and lists
after.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from . import addresses, interfaces, neighbours, routes
from .addresses import Address
from .descriptor import Descriptor
from .errors import NetlinkError
from .interfaces import Interface
from .namespaces import NetworkNamespace
from .neighbours import Neighbour
from .netlink import messages, open_socket
from .routes import Route

Subject = Interface | Address | Route | Neighbour


class Topic(IntFlag):
    """What to hear about."""

    INTERFACES = 0x001
    NEIGHBOURS = 0x004
    ADDRESSES = 0x110
    ROUTES = 0x440


@dataclass(frozen=True, slots=True)
class Event:
    """`subject` is there now, new or changed; or, if `removed`, was until now."""

    subject: Subject
    removed: bool


_PARSERS: dict[int, tuple[Callable[[bytes], Subject], bool]] = {
    interfaces.NEW: (Interface.parse, False),
    interfaces.DELETE: (Interface.parse, True),
    addresses.NEW: (Address.parse, False),
    addresses.DELETE: (Address.parse, True),
    routes.NEW: (Route.parse, False),
    routes.DELETE: (Route.parse, True),
    neighbours.NEW: (Neighbour.parse, False),
    neighbours.DELETE: (Neighbour.parse, True),
}


class Monitor(Descriptor):
    """A listener to the changes of `namespace`, or of that of the calling thread."""

    __slots__ = ("_socket",)

    def __init__(
        self,
        namespace: NetworkNamespace | None = None,
        topics: Topic = Topic.INTERFACES | Topic.ADDRESSES,
        receive_buffer: int = 4 << 20,
    ) -> None:
        self._socket = open_socket(namespace, receive_buffer, topics)
        self._socket.setblocking(False)
        super().__init__(self._socket.fileno())

    def close(self) -> None:
        self._fd = -1
        self._socket.close()

    def read(self) -> list[Event]:
        """The news there is, oldest first; empty if there is none. Never waits.

        NetlinkError ENOBUFS if some news was lost.
        """
        events: list[Event] = []
        while True:
            try:
                datagram = self._socket.recv(1 << 18)
            except BlockingIOError:
                return events
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO, "monitor read") from None
            for kind, _, _, body in messages(datagram):
                # A bridge speaks of its ports in messages about interfaces, of a family of its own.
                if kind not in _PARSERS or (kind in (interfaces.NEW, interfaces.DELETE) and body[0]):
                    continue
                parse, removed = _PARSERS[kind]
                events.append(Event(parse(body), removed))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there is news; whether there is. None waits for ever."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))
