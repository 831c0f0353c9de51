"""Replies that lie ready, so that the kernel gives them without asking Python.

What Python answered once it need not think about again: a client that says the same, byte for byte, is told the same,
as long as its lease stands and the configuration is what it was.  So a reply is kept under the hardware address and a
digest of all that the client said but for the transaction and the seconds it waits, and nothing of the protocol is
decided in the data path: only whether this was heard before, and whether the lease is still there.  What is new to the
kernel goes to Python.

Options are not read here.  A data path that walks them was rejected: which of them matter, and how they are ordered in
the reply, would be said twice, and the two would come to differ.

`Ready.options` are 16 words of 128 bits, because a record has no arrays: the options behind the magic number, ended and
padded.  Longer replies are Python's.
"""
from __future__ import annotations

from iovisor.language import (
    Array,
    Component,
    Config,
    Header,
    Lru,
    Packet,
    Record,
    inline,
    ipv4,
    mac,
    period,
    table,
    u8,
    u16,
    u32,
    u64,
    u128,
)
from iovisor.wire import checksum
from iovisor.wire.dhcp import CLIENT_PORT, ETHERNET, FIXED, MOST_HOPS, NAMES, SERVER_PORT, Bootp, BootpOperation
from iovisor.wire.ethernet import BROADCAST as EVERYBODY
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv4 import BROADCAST, IpProtocol, IPv4, fill
from iovisor.wire.udp import Udp
from iovisor.wire.udp import fill as fill_udp

LONGEST = 320               # bytes of options in a question
ROOM = 256                  # bytes of options in a reply
FRAME = 14 + 20 + 8 + FIXED + ROOM
MASK64 = (1 << 64) - 1
PRIME = 0x9e37_79b9_7f4a_7c15


class Asking(Record):
    """Who says what."""

    digest: u64
    mac: mac


class Ready(Record):
    """A reply, and the lease it is about."""

    upper: u64              # of the client: `leases.Client`
    lower: u64
    lasts: period
    address: ipv4
    generation: u32 = 0
    kind: u8
    w0: u128 = 0
    w1: u128 = 0
    w2: u128 = 0
    w3: u128 = 0
    w4: u128 = 0
    w5: u128 = 0
    w6: u128 = 0
    w7: u128 = 0
    w8: u128 = 0
    w9: u128 = 0
    w10: u128 = 0
    w11: u128 = 0
    w12: u128 = 0
    w13: u128 = 0
    w14: u128 = 0
    w15: u128 = 0


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
    w8: u128
    w9: u128
    w10: u128
    w11: u128
    w12: u128
    w13: u128
    w14: u128
    w15: u128


@inline
def digest(pkt: Packet, start: u16, size: u16, begin: u64) -> int:
    """Of `size` bytes, LONGEST at most, that begin `start` behind the cursor; `begin` is a digest of what is before."""
    found = begin
    for word in range(LONGEST // 4):
        if word * 4 + 4 > size:
            break
        found = (found ^ pkt.u32(start + word * 4)) * PRIME & MASK64
        found = found ^ found >> 32
    for place in range(3):
        if place >= size & 3:
            break
        found = (found ^ pkt.u8(start + (size & 0x7fc) + place)) * PRIME & MASK64
    return (found ^ size) * PRIME & MASK64


@inline
def repeat(words: Words, ready: Ready) -> None:
    """Give a frame the options of a reply."""
    words.w0 = ready.w0
    words.w1 = ready.w1
    words.w2 = ready.w2
    words.w3 = ready.w3
    words.w4 = ready.w4
    words.w5 = ready.w5
    words.w6 = ready.w6
    words.w7 = ready.w7
    words.w8 = ready.w8
    words.w9 = ready.w9
    words.w10 = ready.w10
    words.w11 = ready.w11
    words.w12 = ready.w12
    words.w13 = ready.w13
    words.w14 = ready.w14
    words.w15 = ready.w15


def learn(ready: Ready, options: bytes) -> None:
    """The reverse: keep the options, ROOM bytes at most."""
    padded = options.ljust(ROOM, b"\0")
    for number in range(ROOM // 16):
        setattr(ready, f"w{number}", int.from_bytes(padded[16 * number:16 * number + 16], "big"))


class RepliesConfig(Config):
    """Room for replies that lie ready, set when the instance is made."""

    ready: u32 = 1024


class Replies(Component):
    config: RepliesConfig
    ready: Lru[Asking, Ready] = table("ready")
    generation: Array[u32] = table(1)

    def heard(self, pkt: Packet, sender: mac, length: u16) -> Ready | None:
        """The reply to a message of `length` bytes at the cursor, which is FIXED or more; None if none lies ready."""
        head = pkt.peek(Bootp)
        if (head is None or length > FIXED + LONGEST or head.operation != BootpOperation.REQUEST
                or head.hardware != ETHERNET or head.hardware_length != 6 or head.hops > MOST_HOPS
                or (head.relay == 0 and head.address != sender) or pkt.sum(NAMES, Bootp.size) != 0):
            return None
        found = self.ready.get(Asking(digest=self.digest(pkt, length), mac=head.address))
        if found is None or found.generation != self.generation[0]:
            return None
        return found

    def digest(self, pkt: Packet, length: u16) -> int:
        """Of the client's and the relay's address, and of the options."""
        head = pkt.peek(Bootp)
        begin = MASK64 if head is None else MASK64 ^ (head.client << 32 | head.relay)
        return digest(pkt, FIXED, max(length - FIXED, 0), begin)

    def write(self, pkt: Packet, ready: Ready, server: ipv4, hardware: mac) -> None:
        """Turn the question into the reply (RFC 2131 section 4.1 and table 3)."""
        pkt.resize(FRAME)
        eth = pkt.parse(Ethernet)
        head = pkt.peek(Bootp, 28)
        if head is None:
            return
        to = head.client if head.client else ready.address
        everybody = head.relay == 0 and head.client == 0 and head.broadcast != 0
        port = CLIENT_PORT
        if head.relay:
            to = head.relay
            port = SERVER_PORT
        if everybody:
            to = BROADCAST
        eth.dst = EVERYBODY if everybody else eth.src
        eth.src = hardware
        ip, udp = pkt.blank(IPv4, Udp)
        fill(ip, server, to, IpProtocol.UDP, 8 + FIXED + ROOM)
        checksum.ipv4_header(ip)
        fill_udp(udp, SERVER_PORT, port, FIXED + ROOM)
        body = pkt.peek(Bootp)
        options = pkt.peek(Words, FIXED)
        if body is None or options is None:
            return
        body.operation = BootpOperation.REPLY
        body.hops = 0
        body.seconds = 0
        body.yours = ready.address
        body.server = 0
        body.padding = 0
        body.spare = 0
        repeat(options, ready)
        checksum.udp_ipv4(pkt, ip, udp, FIXED + ROOM)

    # -- control path --------------------------------------------------------------------------------------------------

    def keep(self, pkt: Packet, length: int, sender: int, options: bytes, ready: Ready) -> None:
        """Have a reply ready for who sent this; `options` are those of the reply, ended.  The cursor is as for
        `heard`."""
        if len(options) > ROOM or length > FIXED + LONGEST:
            return
        learn(ready, options)
        ready.generation = self.generation[0]
        self.ready[Asking(digest=self.digest(pkt, length), mac=sender)] = ready

    def forget(self) -> None:
        """None of what lies ready holds any more."""
        self.generation[0] = self.generation[0] + 1 & 0xffff_ffff


__all__ = ["LONGEST", "MASK64", "ROOM", "Ready", "Replies", "RepliesConfig", "Words", "digest", "learn", "repeat"]
