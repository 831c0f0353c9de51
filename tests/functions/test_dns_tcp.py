"""The name server's conversations over TCP, by streams of a pair of sockets: RFC 7766, and who does not keep to it."""
from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from iovisor.functions.dns import UNANSWERED, Dns, conversation
from iovisor.functions.dns.conversation import Conversation
from iovisor.wire.dns import TRUNCATED, Code, Type
from tests.functions.test_dns import CONFIG, FORWARDER, question

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MANY = {"many": [f"10.1.0.{n}" for n in range(1, 251)], **CONFIG["names"]}


def talk(dns: Dns, say: Talk) -> None:
    """A client's side, against the server's; both end, and in time."""
    async def run() -> None:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=there)

        async def serve() -> None:
            try:
                await Conversation(dns, reader, writer).run()
            except (OSError, EOFError, TimeoutError):
                pass
            finally:
                writer.close()
        serving = asyncio.ensure_future(serve())
        mine = await asyncio.open_connection(sock=here)
        try:
            async with asyncio.timeout(20):
                await say(*mine)
                await serving
        finally:
            mine[1].close()
    asyncio.run(run())


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


async def answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def head(message: bytes) -> tuple[int, int, int]:
    """Number, flags, answers."""
    number, flags, _, answers = struct.unpack_from("!HHHH", message)
    return number, flags, answers


def test_what_is_too_long_for_a_datagram() -> None:
    dns = Dns(**CONFIG | {"names": MANY})
    asked = question("many.shop.internal")

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(asked))
        reply = await answer(reader)
        assert head(reply)[2] == 250 and not head(reply)[1] & TRUNCATED and len(reply) > 4_000
        writer.write_eof()
        assert await reader.read() == b""
    assert isinstance(udp := dns.reply(asked), bytes) and head(udp)[1] & TRUNCATED
    talk(dns, say)
    assert dns.said.read(Code.NOERROR).packets == 2


def test_many_questions_in_whatever_pieces() -> None:
    asked = b"".join(framed(question("web.shop.internal", number=number)) for number in range(50))

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for size in (1, 2, 3, 7, 50, 10_000):
            for place in range(0, len(asked), size):
                writer.write(asked[place:place + size])
                if size < 4:
                    await asyncio.sleep(0)
            assert [head(await answer(reader))[0] for _ in range(50)] == list(range(50))
        writer.write_eof()
    talk(Dns(**CONFIG), say)


@pytest.mark.parametrize(("sent", "code"), [
    (framed(question("shop.internal", Type.AXFR)), Code.REFUSED),
    (framed(question("example.com")), Code.REFUSED),
    (framed(question("web.shop.internal", flags=0x2000)), Code.NOTIMP),
    (framed(question("web.shop.internal")[:-1]), Code.FORMERR),
    (framed(question("web.shop.internal") + bytes(9)), Code.FORMERR),
    (framed(question("web.shop.internal") + bytes(60_000)), Code.FORMERR)])
def test_what_is_refused(sent: bytes, code: int) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert head(await answer(reader))[1] & 15 == code
        writer.write(framed(question("web.shop.internal")))
        assert head(await answer(reader))[1] & 15 == Code.NOERROR
        writer.write_eof()
    talk(Dns(**CONFIG), say)


@pytest.mark.parametrize("sent", [
    b"\0\0", framed(b"x"), framed(bytes(11)), framed(b"\0\x07\x80" + bytes(20)), b"\xff\xffand no more", b"\0"])
def test_what_ends_it(sent: bytes) -> None:
    """No message at all, a cut one, a response."""
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
    talk(Dns(**CONFIG), say)


@pytest.mark.parametrize("sent", [b"", b"\0", framed(question("web.shop.internal"))[:-1]])
def test_who_takes_too_long_is_left(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PATIENCE", 0.05)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert await reader.read() == b""
    talk(Dns(**CONFIG), say)


def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PATIENCE", 0.05)
    dns = Dns(**CONFIG | {"names": MANY})

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(question("many.shop.internal")) * 2_000)
    talk(dns, say)
    assert 0 < dns.said.read(Code.NOERROR).packets < 2_000


def test_nobody_to_ask_is_a_failure_in_time() -> None:
    dns = Dns(**CONFIG | FORWARDER, patience="50ms")

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in (1, 2, 3):
            writer.write(framed(question("example.com", number=number)))
        writer.write_eof()
        assert sorted([head(await answer(reader))[0] for _ in range(3)]) == [1, 2, 3]
        assert await reader.read() == b""
    talk(dns, say)
    assert dns.said.read(Code.SERVFAIL).packets == dns.said.read(UNANSWERED).packets == 3
