"""A wire between two ports that remembers who talks how much: state, with a limit and an age.

Needs: a table that forgets by itself.  `Lru` evicts the longest silent when it is full, and `ttl` makes an entry absent
when it was not written for so long; neither needs a line of code.

    iovisor run examples/talkers.py
"""
from __future__ import annotations

from typing import Any

from iovisor.language import (
    SECOND,
    Config,
    Function,
    Lru,
    Packet,
    Port,
    Record,
    Verdict,
    action,
    forward,
    ipv4,
    ipv4_text,
    table,
    time,
    u32,
    u64,
)
from iovisor.wire import Ethernet, EtherType, IPv4


class Talk(Record):
    packets: u64
    bytes: u64


class TalkersConfig(Config):
    """How many addresses are remembered, and for how long after their last packet."""

    room: u32 = 1024
    memory: time = 60 * SECOND


class Talkers(Function):
    config: TalkersConfig
    left: Port
    right: Port

    talks: Lru[ipv4, Talk] = table("room", ttl="memory")

    def ingress(self, pkt: Packet) -> Verdict:
        if pkt.parse(Ethernet).type == EtherType.IPV4:
            source = pkt.parse(IPv4).src
            talk = self.talks.get(source)
            if talk is None:
                self.talks[source] = Talk(packets=1, bytes=len(pkt))
            else:
                talk.packets += 1
                talk.bytes += len(pkt)
        return forward(self.right if pkt.port == self.left else self.left)

    @action
    def most(self, count: int = 10) -> list[dict[str, Any]]:
        """Who sent most, most first."""
        found = sorted(self.talks.items(), key=lambda entry: entry[1].bytes, reverse=True)[:count]
        return [{"address": ipv4_text(address), "packets": int(talk.packets), "bytes": int(talk.bytes)}
                for address, talk in found]
