"""Answers that lie ready, so that the kernel gives them without asking Python.

What is asked most is what a network server knows by heart: the addresses of its own names, and the names of their
addresses.  There is nothing to be learned of them, so all of them lie ready as soon as they are configured, under the
question itself; a name that is not among them is Python's.  The key is the whole name in lower case and the type, not a
digest, because whoever finds two questions of one digest could answer the one with the other.

Of a reply only the tail lies here: the header is made of the query's, and the question is left as it was spelt.
EDNS of the query is looked at as far as it must be (version 0, the only record, to the last byte) and answered with
ours; whatever is less plain than that is Python's to understand.

A name takes 80 bytes at most, which the reverse names of IPv6 addresses do not exceed, and a tail 128: words by name,
because a record has no arrays.
"""
from __future__ import annotations

from collections.abc import Iterator

from iovisor.language import (
    Component,
    Config,
    Hash,
    Header,
    Packet,
    Record,
    inline,
    ipv4,
    ipv6,
    mac,
    table,
    u8,
    u16,
    u32,
    u64,
    u128,
)
from iovisor.wire import checksum
from iovisor.wire import dns as wire
from iovisor.wire.dns import CHECKING, RECURSION_DESIRED, Message, Name, Opt, Query, Type
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv4 import fill as fill4
from iovisor.wire.ipv6 import IPv6
from iovisor.wire.ipv6 import fill as fill6
from iovisor.wire.udp import Udp
from iovisor.wire.udp import fill as fill_udp

from .zone import Zone

NAME, TAIL = 80, 128            # bytes
LABELS = NAME // 2              # the most there can be
START4, START6 = 42, 62         # of a message in a frame without options
PLAIN_QUERY = 0xf800            # flags that are not set in one: a response, another operation
SEVEN, FROM_A, BEHIND_Z, TOP = 0x7f7f_7f7f, 0x3f3f_3f3f, 0x2525_2525, 0x8080_8080


class Asked(Record):
    """A name, in lower case, and a type; the class is IN."""

    n0: u64
    n1: u64
    n2: u64
    n3: u64
    n4: u64
    n5: u64
    n6: u64
    n7: u64
    n8: u64
    n9: u64
    type: u16


class Ready(Record):
    """What is behind the question, and what the header says of it."""

    w0: u128 = 0
    w1: u128 = 0
    w2: u128 = 0
    w3: u128 = 0
    w4: u128 = 0
    w5: u128 = 0
    w6: u128 = 0
    w7: u128 = 0
    flags: u16
    answers: u16 = 0
    authorities: u16 = 0
    length: u8 = 0


class Words(Header):
    """The same bytes in a frame."""

    w0: u128
    w1: u128
    w2: u128
    w3: u128
    w4: u128
    w5: u128
    w6: u128
    w7: u128


class AnswersConfig(Config):
    """Room for answers that lie ready, set when the instance is made."""

    ready: u32 = 1024


class Answers(Component):
    config: AnswersConfig
    ready: Hash[Asked, Ready] = table("ready")

    def end(self, pkt: Packet, length: u16) -> int:
        """Where the question ends in a message of `length` bytes at the cursor; 0 if it is none that lies here."""
        head = pkt.peek(Message)
        if (head is None or length < 17 or head.flags & PLAIN_QUERY != 0 or head.questions != 1 or head.answers != 0
                or head.authorities != 0 or head.others > 1):
            return 0
        at = Message.size
        for _ in range(LABELS):
            if at + 5 > length or at >= Message.size + NAME:
                return 0
            size = pkt.u8(at & 0x7f)
            if size == 0:
                break
            if size > 63:
                return 0
            at = at + 1 + size & 0xff
        if at + 5 > length or at >= Message.size + NAME or pkt.u8(at & 0x7f) != 0:
            return 0
        end = (at & 0x7f) + 5
        if pkt.u16(end - 2) != wire.INTERNET:
            return 0
        if head.others == 0:
            return end if end == length else 0
        opt = pkt.peek(Opt, end)
        if (opt is None or opt.owner != 0 or opt.type != Type.OPT or opt.version != 0
                or end + Opt.size + opt.length != length):
            return 0
        return end

    def find(self, pkt: Packet, end: u8) -> Ready | None:
        """The answer to the question that ends there, if it lies ready."""
        name = max(end - 4, 0)
        return self.ready.get(Asked(
            n0=eight(pkt, 12, name), n1=eight(pkt, 20, name), n2=eight(pkt, 28, name), n3=eight(pkt, 36, name),
            n4=eight(pkt, 44, name), n5=eight(pkt, 52, name), n6=eight(pkt, 60, name), n7=eight(pkt, 68, name),
            n8=eight(pkt, 76, name), n9=eight(pkt, 84, name), type=pkt.u16(name)))

    def write(self, pkt: Packet, ready: Ready, end: u8) -> int:
        """Make the message at the cursor the answer, in a frame that has room for it; its length."""
        head = pkt.peek(Message)
        words = pkt.peek(Words, end)
        if head is None or words is None:
            return 0
        words.w0 = ready.w0
        words.w1 = ready.w1
        words.w2 = ready.w2
        words.w3 = ready.w3
        words.w4 = ready.w4
        words.w5 = ready.w5
        words.w6 = ready.w6
        words.w7 = ready.w7
        head.flags = head.flags & (RECURSION_DESIRED | CHECKING) | ready.flags
        head.answers = ready.answers
        head.authorities = ready.authorities
        size = end + ready.length
        if head.others == 0:
            return size
        opt = pkt.peek(Opt, size)
        if opt is None:
            return 0
        opt.owner = 0
        opt.type = Type.OPT
        opt.room = wire.LARGEST
        opt.code = 0
        opt.version = 0
        opt.flags = 0
        opt.length = 0
        return size + Opt.size

    def say4(self, pkt: Packet, ready: Ready, end: u8, server: ipv4, hardware: mac) -> None:
        """Turn the frame of a query over IPv4, without options, into the answer."""
        pkt.resize(START4 + end + TAIL + Opt.size)
        eth, came, asking = pkt.parse(Ethernet, IPv4, Udp)
        eth.dst = eth.src
        eth.src = hardware
        to, port = came.src, asking.src
        size = self.write(pkt, ready, end)
        pkt.resize(START4 + size)
        pkt.parse(Ethernet)
        ip, udp = pkt.blank(IPv4, Udp)
        fill4(ip, server, to, IpProtocol.UDP, 8 + size, 64, 0, 0, 1)
        checksum.ipv4_header(ip)
        fill_udp(udp, wire.PORT, port, size)
        checksum.udp_ipv4(pkt, ip, udp, size)

    def say6(self, pkt: Packet, ready: Ready, end: u8, server: ipv6, hardware: mac) -> None:
        """The same over IPv6, without extension headers."""
        pkt.resize(START6 + end + TAIL + Opt.size)
        eth, came, asking = pkt.parse(Ethernet, IPv6, Udp)
        eth.dst = eth.src
        eth.src = hardware
        to, port = came.src, asking.src
        size = self.write(pkt, ready, end)
        pkt.resize(START6 + size)
        pkt.parse(Ethernet)
        ip, udp = pkt.blank(IPv6, Udp)
        fill6(ip, server, to, IpProtocol.UDP, 8 + size)
        fill_udp(udp, wire.PORT, port, size)
        checksum.udp_ipv6(pkt, ip, udp, size)

    # -- control path --------------------------------------------------------------------------------------------------

    def know(self, zone: Zone, recursion: bool) -> None:
        """Have the answers of a zone ready, as many as there is room for; only what differs is written."""
        wanted = {bytes(asked): ready for asked, ready in answers(zone, recursion)}
        room = self.ready.spec.size
        wanted = dict(list(wanted.items())[:room if isinstance(room, int) else 0])
        for key in [key for key in self.ready if bytes(key) not in wanted]:
            del self.ready[key]
        for text, ready in wanted.items():
            key = Asked.decode(text)
            standing = self.ready.get(key)
            if standing is None or bytes(standing) != bytes(ready):
                self.ready[key] = ready


@inline
def eight(pkt: Packet, place: u8, end: u8) -> int:
    """Eight bytes of a name that ends there, as `four` has them."""
    return four(pkt, place, end) << 32 | four(pkt, place + 4, end)


@inline
def four(pkt: Packet, place: u8, end: u8) -> int:
    """Four bytes of a name in lower case, zeros behind its end.  The length of a label is no letter: it is below 64."""
    if place >= end:
        return 0
    left = end - place
    word = pkt.u32(place)
    if left < 4:
        word = word & ~(0xffff_ffff >> 8 * (left & 3)) & 0xffff_ffff
    seven = word & SEVEN
    letters = (seven + FROM_A ^ seven + BEHIND_Z) & ~word & TOP
    return word | letters >> 2


def answers(zone: Zone, recursion: bool) -> Iterator[tuple[Asked, Ready]]:
    """What is asked of a zone, and said, as far as it is short enough."""
    asked: list[tuple[Name, Type]] = [(name, kind) for name in zone.addresses for kind in (Type.A, Type.AAAA)]
    asked += [(name, Type.PTR) for name in zone.pointers]
    for name, kind in asked:
        found = zone.answer(Query(0, 0, name, kind, wire.INTERNET, b""))
        text = wire.name_bytes(name)
        tail = b"".join(map(bytes, (*found.records, *found.authority))) if found is not None else bytes(TAIL + 1)
        if found is None or len(text) > NAME or len(tail) > TAIL:
            continue
        words = {f"n{at // 8}": int.from_bytes(text.ljust(NAME, b"\0")[at:at + 8], "big") for at in range(0, NAME, 8)}
        ready = Ready(flags=wire.flags_of(found, recursion), answers=len(found.records),
                      authorities=len(found.authority), length=len(tail))
        for number in range(TAIL // 16):
            setattr(ready, f"w{number}", int.from_bytes(tail.ljust(TAIL, b"\0")[16 * number:16 * number + 16], "big"))
        yield Asked(**words, type=kind), ready


__all__ = ["Answers", "AnswersConfig"]
