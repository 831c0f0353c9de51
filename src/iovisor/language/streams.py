"""TCP servers of a function that is a host: a method for who connects, and none of TCP.

    class Names(Function):
        def ingress(self, pkt): ...  return punt(Segment())     # what TCP segments are for this host

        @serves(53)
        async def met(self, reader, writer): ...                # asyncio's streams

A segment is handed to the *stack* of the instance, which a network gives to every function that serves: Linux's TCP,
in a room of its own (`fabric.stack`).  Retransmission, windows, congestion, SYN cookies and resets are what they are on
any host, and none of it is written again here.  Outside a network, in plain CPython, there is no stack: a segment is
met by nobody, and what a method says is tested by giving it streams.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .integers import u8
from .layout import Record

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from .packet import Packet

F = TypeVar("F", bound=Callable[..., Any])


class Segment(Record):
    """A TCP segment for an address of the function's own, or an answer to one it has sent."""

    spare: u8 = 0


class Stack(Protocol):
    """The TCP of an instance."""

    def receive(self, packet: Packet) -> None:
        """Take a segment; the peer is answered where it came from."""

    async def connect(self, source: str, to: str, port: int,
                      way: tuple[int, int, int]) -> tuple[StreamReader, StreamWriter]:
        """A connection from one of our addresses.  `way`: the Ethernet address of the next hop, our own, and the port
        of the function that leads there.  OSError if there comes none."""


def serves(port: int) -> Callable[[F], F]:
    """The method, async, that talks to who connects to a TCP port: `(self, reader, writer)`.  When it returns, or
    raises, the connection is closed."""
    def mark(method: F) -> F:
        method.__serves__ = port  # type: ignore[attr-defined]
        return method
    return mark


__all__ = ["Segment", "Stack", "serves"]
