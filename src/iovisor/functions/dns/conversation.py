"""Questions over TCP (RFC 7766): each message behind its length, many in one connection, answers as they come.

Whoever connects keeps the connection only by asking: a message that does not come whole in time ends it, and so does an
answer that is not taken.  What is not a query at all ends it too, because behind a wrong length everything is noise;
what has at least a header is told FORMERR, as over UDP.

What others know is asked of them over TCP, too, one connection a question: the answer may be too long for a datagram,
and who asks has shown that it is there.
"""
from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from iovisor.language import SECOND, ipv4_text
from iovisor.wire import dns as wire
from iovisor.wire.dns import Query

if TYPE_CHECKING:
    from . import Dns

MOST = (1 << 16) - 1            # bytes of a message
PATIENCE = 10.0                 # seconds for the next message, from its first byte's wait to its last byte
ELSEWHERE = 8                   # questions of one connection that wait for somebody else


class Conversation:
    """One connection."""

    def __init__(self, dns: Dns, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dns, self.reader, self.writer = dns, reader, writer
        self.asking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the other side has said all, or nothing for too long."""
        try:
            while message := await self.next():
                reply = self.dns.reply(message, MOST)
                if isinstance(reply, Query):
                    await self.pass_on(reply, message)
                elif reply:
                    await self.say(reply)
                else:
                    return
            if self.asking:
                await asyncio.wait(self.asking)
        finally:
            for task in self.asking:
                task.cancel()

    async def next(self) -> bytes:
        """The next message; none if there comes no more."""
        async with asyncio.timeout(PATIENCE):
            try:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                return b""
            return await self.reader.readexactly(length)

    async def say(self, message: bytes) -> None:
        self.writer.write(len(message).to_bytes(2, "big") + message)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def pass_on(self, query: Query, message: bytes) -> None:
        """Ask the forwarder while this connection goes on."""
        while len(self.asking) >= ELSEWHERE:
            await asyncio.wait(self.asking, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.ensure_future(self.ask(query, message))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)

    async def ask(self, query: Query, message: bytes) -> None:
        try:
            async with asyncio.timeout(self.dns.config.patience / SECOND):
                reply = await self.elsewhere(query, message)
        except (OSError, EOFError, TimeoutError):
            reply = self.dns.unanswered(query)
        await self.say(reply)

    async def elsewhere(self, query: Query, message: bytes) -> bytes:
        """What the forwarder says."""
        config = self.dns.config
        hop = await self.dns.way()
        if self.dns.stack is None:
            raise OSError("there is no stack")
        reader, writer = await self.dns.stack.connect(ipv4_text(config.server), ipv4_text(config.forwarder), wire.PORT,
                                                      (hop, config.mac, self.dns.lan))
        try:
            number = secrets.token_bytes(2)
            writer.write(len(message).to_bytes(2, "big") + number + message[2:])
            while True:
                found = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                if found[:2] == number and wire.answers(found, query):
                    self.dns.passed_on(found)
                    return query.id.to_bytes(2, "big") + found[2:]
        finally:
            writer.transport.abort()


__all__ = ["Conversation"]
